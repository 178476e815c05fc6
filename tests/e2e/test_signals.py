"""Signals do what they should as soon as the process says that it is ready,
however slowly its threads begin."""
import os
import shutil
import signal
import subprocess

from lib import Skip, check, eq, fetch, wait_for

# What systems do under load: a thread that was made runs a good while later.
# Those of liburcu only, for without the workers nothing is ready.
LATE_THREADS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *thread_fn(void *);
typedef int create_fn(pthread_t *, const pthread_attr_t *, thread_fn *,
		      void *);

struct start {
	thread_fn *fn;
	void *arg;
};

static void *late(void *p)
{
	struct start s = *(struct start *)p;

	free(p);
	usleep(300000);
	return s.fn(s.arg);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a, thread_fn *fn,
		   void *arg)
{
	create_fn *real = (create_fn *)dlsym(RTLD_NEXT, "pthread_create");
	struct start *s = malloc(sizeof(*s));
	Dl_info by;

	if (!dladdr(__builtin_return_address(0), &by) ||
	    !strstr(by.dli_fname, "urcu"))
		return real(t, a, fn, arg);
	write(2, "late thread\n", 12);
	*s = (struct start){ fn, arg };
	return real(t, a, late, s);
}
"""


def late_threads(env):
    if not os.path.basename(env.build) in ("release", "debug", "pgo"):
        raise Skip("a sanitizer wants to be loaded first")
    cc = shutil.which("cc") or shutil.which("gcc")
    if not cc:
        raise Skip("no compiler")
    source, lib = env.path("late.c"), env.path("late.so")
    with open(source, "w") as f:
        f.write(LATE_THREADS)
    subprocess.run([cc, "-shared", "-fPIC", "-w", "-o", lib, source, "-ldl"],
                   check=True)
    return {"env": dict(os.environ, LD_PRELOAD=lib)}


def test_signals_late_threads(env):
    spawn = late_threads(env)
    o = env.origin()
    for sig in (signal.SIGTERM, signal.SIGINT):
        d = env.start(env.config(o.port), spawn=spawn)
        check("late thread" in d.own_log(), "nothing was late")
        d.stop(sig)
    d = env.start(env.config(o.port), spawn=spawn)
    d.reload()
    eq(fetch(d.port).status, 200)
    d.stop()
    d = env.start(env.config(o.port), spawn=spawn)
    d.proc.send_signal(signal.SIGUSR1)
    wait_for(lambda: " info reopen " in d.own_log(), "logs are reopened")
    d.stop()
    d = env.start(env.config(o.port), spawn=spawn)
    d.handover()
    eq(fetch(d.port).status, 200)
