#include "daemon/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/mem.h"
#include "daemon/control.h"
#include "daemon/notify.h"

/* For the other one to be ready. */
#define START_S		60
#define PATH_BYTES	4096

extern char **environ;

bool handover_busy(const struct control *c)
{
	return c->handover.state == HANDOVER_STARTING;
}

bool handover_shared(const struct control *c)
{
	return c->handover.state == HANDOVER_DONE;
}

static void log_failed(const char *what, int error)
{
	log_error("handover", "event=handover result=failed text=\"%s: %s\"",
		  what, strerror(error));
}

static void end_talk(struct handover *h)
{
	if (h->event)
		event_free(h->event);
	if (h->fd >= 0)
		close(h->fd);
	h->event = NULL;
	h->fd = -1;
}

/* ---- what the other one gets --------------------------------------------- */

/* Descriptors, names and marks as inherit.h has them. */
struct parcel {
	unsigned n;
	int fd[INHERIT_MAX];
	char kept[INHERIT_MAX + 1];
	FILE *names;
	char *names_text;
	size_t names_size;
};

static bool parcel_add(struct parcel *p, int fd, const char *name, bool kept)
{
	if (p->n == INHERIT_MAX)
		return false;
	fprintf(p->names, "%s", p->n ? ":" : "");
	for (; *name; name++)
		fputc(*name == ':' ? '_' : *name, p->names);
	p->kept[p->n] = kept ? 'k' : '-';
	p->fd[p->n++] = fd;
	return true;
}

static bool parcel_fill(struct parcel *p, const struct control *c)
{
	const struct bound *b;
	bool ok = true;

	p->names = open_memstream(&p->names_text, &p->names_size);
	if (!p->names)
		return false;
	cds_list_for_each_entry(b, &c->sockets.bound, node)
		for (unsigned i = 0; i < b->n; i++)
			ok &= parcel_add(p, b->fd[i], b->name, b->kept);
	if (c->admin_fd >= 0)
		ok &= parcel_add(p, c->admin_fd, "admin", c->admin_kept);
	if (fclose(p->names) != 0)
		ok = false;
	return ok;
}

static void parcel_fini(struct parcel *p)
{
	free(p->names_text);
}

/* ---- starting it --------------------------------------------------------- */

static bool is_ours(const char *variable)
{
	static const char *const names[] = {
		"LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=",
		"WATCHDOG_PID=", INHERIT_HANDOVER "=",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* The environment of the other one: three strings and what we have ourselves.
 * NULL: no memory. */
static char **make_environment(char *own[3])
{
	unsigned n = 0, at = 3;
	char **env;

	while (environ[n])
		n++;
	env = mem_zalloc((n + 4) * sizeof(*env));
	if (!env)
		return NULL;
	memcpy(env, own, 3 * sizeof(*env));
	for (unsigned i = 0; i < n; i++)
		if (!is_ours(environ[i]))
			env[at++] = environ[i];
	return env;
}

/*
 * All to where the other one looks for them: first to places above those, for
 * one may stand where another is to go.
 */
static int place_fds(posix_spawn_file_actions_t *actions, int *high,
		     const int *from, unsigned n)
{
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC,
				INHERIT_FIRST_FD + (int)n);
		if (high[i] < 0)
			return errno;
		err = posix_spawn_file_actions_adddup2(actions, high[i],
						INHERIT_FIRST_FD + (int)i);
	}
	return err;
}

/* What was run is run again, under its name: a new file may stand there. */
static const char *program(const struct control *c, char path[PATH_BYTES])
{
	ssize_t n;

	if (strchr(c->handover.argv[0], '/'))
		return c->handover.argv[0];
	n = readlink("/proc/self/exe", path, PATH_BYTES - 1);
	path[n > 0 ? n : 0] = '\0';
	return path;
}

/* p has fds, the last of them for talking. 0 or errno. Signals stay blocked in
 * the other one until it reads them: a HUP shall not end it. */
static int spawn(struct control *c, struct parcel *p, char *own[3])
{
	posix_spawn_file_actions_t actions;
	char path[PATH_BYTES];
	char **env = make_environment(own);
	int *high = mem_alloc(p->n * sizeof(*high));
	int err = ENOMEM;

	if (!env || !high || posix_spawn_file_actions_init(&actions) != 0)
		goto out;
	for (unsigned i = 0; i < p->n; i++)
		high[i] = -1;
	err = place_fds(&actions, high, p->fd, p->n);
	if (!err)
		err = posix_spawn(&c->handover.pid, program(c, path), &actions,
				  NULL, c->handover.argv, env);
	posix_spawn_file_actions_destroy(&actions);
	for (unsigned i = 0; i < p->n; i++)
		if (high[i] >= 0)
			close(high[i]);
out:
	mem_free(high);
	mem_free(env);
	return err;
}

static int spawn_parcel(struct control *c, struct parcel *p, int talk)
{
	char fds[32], kept[INHERIT_MAX + 64];
	char *names = mem_alloc(p->names_size + 16);
	char *own[3] = { fds, kept, names };
	unsigned n = p->n;
	int err;

	if (!names)
		return ENOMEM;
	snprintf(fds, sizeof(fds), "LISTEN_FDS=%u", n);
	snprintf(kept, sizeof(kept), INHERIT_HANDOVER "=%u,%s",
		 INHERIT_FIRST_FD + n, p->kept);
	snprintf(names, p->names_size + 16, "LISTEN_FDNAMES=%s",
		 p->names_text);
	p->fd[p->n++] = talk;
	err = spawn(c, p, own);
	mem_free(names);
	return err;
}

/* ---- the old one --------------------------------------------------------- */

static void failed(struct control *c, const char *text)
{
	struct handover *h = &c->handover;

	end_talk(h);
	h->state = HANDOVER_IDLE;
	log_error("handover", "event=handover result=failed pid=%d text=\"%s\"",
		  (int)h->pid, text);
	if (c->reload.again && control_running(c))
		reload_request(c);
}

static void succeeded(struct control *c)
{
	struct handover *h = &c->handover;

	h->state = HANDOVER_DONE;
	log_info("handover", "event=handover result=ok pid=%d", (int)h->pid);
	notify_main_pid((int)h->pid);
	end_talk(h);	/* which tells it so */
	if (c->reload.again)
		kill(h->pid, SIGHUP);
	sockets_share(&c->sockets, true);
	admin_stop_accepting(c->admin);
	c->admin_fd = -1;
	drain_begin(c);
}

static void on_talk(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	char word = 0;

	if (what & EV_TIMEOUT) {
		kill(c->handover.pid, SIGKILL);
		failed(c, "not ready in time");
	} else if (read(fd, &word, 1) == 1 && word == 'R') {
		succeeded(c);
	} else {
		failed(c, "it ended before it was ready");
	}
}

static bool listen_to_it(struct control *c, int fd)
{
	struct timeval limit = { .tv_sec = START_S };

	c->handover.event = event_new(c->base, fd, EV_READ, on_talk, c);
	return c->handover.event &&
	       event_add(c->handover.event, &limit) == 0;
}

static void start_other(struct control *c)
{
	struct handover *h = &c->handover;
	struct parcel *p = mem_zalloc(sizeof(*p));
	int pair[2], err = ENOMEM;

	if (!p || !parcel_fill(p, c))
		goto out;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0, pair) < 0) {
		err = errno;
		goto out;
	}
	err = listen_to_it(c, pair[0]) ? spawn_parcel(c, p, pair[1]) : ENOMEM;
	close(pair[1]);
	h->fd = pair[0];
	if (err)
		end_talk(h);
out:
	if (p)
		parcel_fini(p);
	mem_free(p);
	if (err) {
		log_failed("no process", err);
		return;
	}
	h->state = HANDOVER_STARTING;
	log_info("handover", "event=handover result=starting pid=%d",
		 (int)h->pid);
}

void handover_begin(struct control *c)
{
	struct handover *h = &c->handover;

	h->wanted = false;
	if (c->state > CONTROL_RUNNING || h->state != HANDOVER_IDLE) {
		log_warn("handover", "event=handover result=refused text=\"%s\"",
			 c->state > CONTROL_RUNNING ? "draining" :
			 "under way");
		return;
	}
	/* The sockets are not settled yet. */
	if (c->state < CONTROL_RUNNING || c->reload.busy || h->fd >= 0) {
		h->wanted = true;
		return;
	}
	start_other(c);
}

void handover_cancel(struct control *c)
{
	if (!handover_busy(c))
		return;
	kill(c->handover.pid, SIGKILL);
	failed(c, "cancelled by a stop");
}

void handover_reap(struct control *c)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		log_debug("handover", "pid=%d exit=%d signal=%d", (int)pid,
			  WIFEXITED(status) ? WEXITSTATUS(status) : -1,
			  WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* ---- the new one --------------------------------------------------------- */

/* The old one has let go, or is no more: the sockets are ours alone. */
static void on_let_go(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	end_talk(&c->handover);
	sockets_share(&c->sockets, false);
	notify_ready();
	if (c->handover.wanted)
		handover_begin(c);
}

void handover_say_ready(struct control *c)
{
	struct handover *h = &c->handover;
	char word = 'R';

	h->fd = c->inherit.ready_fd;
	c->inherit.ready_fd = -1;
	h->event = event_new(c->base, h->fd, EV_READ, on_let_go, c);
	if (!h->event || event_add(h->event, NULL) < 0 ||
	    send(h->fd, &word, 1, MSG_NOSIGNAL) != 1)
		on_let_go(-1, 0, c);
}

void handover_fini(struct control *c)
{
	end_talk(&c->handover);
}
