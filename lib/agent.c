#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

#define BACKLOG		128
#define EVENTS		64
#define PAUSE_MS	100	/* without accepting, when descriptors are out */

/* ---- the agent ------------------------------------------------------------ */

EXPORT struct agentproxy *agentproxy_new(const char *name,
					 const char *version, void *user)
{
	struct agentproxy *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->user = user;
	a->epoll = a->listener = -1;
	a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->name = strdup(name ? name : "");
	a->version = strdup(version ? version : "");
	if (getrandom(a->hash_key, sizeof(a->hash_key), GRND_NONBLOCK) < 0)
		a->hash_key[0] = (uint64_t)(uintptr_t)a;
	block_pool_init(&a->blocks);
	arena_pool_init(&a->arenas);
	arena_init(&a->scratch, &a->arenas);
	if (a->name && a->version && a->wake >= 0)
		return a;
	agentproxy_free(a);
	return NULL;
}

EXPORT void agentproxy_free(struct agentproxy *a)
{
	if (!a)
		return;
	if (a->wake >= 0)
		close(a->wake);
	arena_fini(&a->scratch);
	arena_pool_fini(&a->arenas);
	block_pool_fini(&a->blocks);
	free(a->name);
	free(a->version);
	free(a);
}

EXPORT void agentproxy_on(struct agentproxy *a, enum agentproxy_type type,
			  void (*handler)(void *user,
					  const struct agentproxy_event *ev,
					  struct agentproxy_decision *d))
{
	if ((unsigned)type < EVENT_N)
		a->on[type] = handler;
}

EXPORT void agentproxy_on_end(struct agentproxy *a,
			      void (*handler)(void *user, void *exchange))
{
	a->on_end = handler;
}

EXPORT void agentproxy_on_reload(struct agentproxy *a,
				 void (*handler)(void *user))
{
	a->on_reload = handler;
}

EXPORT void agentproxy_on_log(struct agentproxy *a,
			      void (*handler)(void *user, const char *line))
{
	a->on_log = handler;
}

EXPORT void agentproxy_set_raw_body(struct agentproxy *a, bool raw)
{
	a->raw_body = raw;
}

void agentproxy_log(struct agentproxy *a, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20)
			*c = ' ';
	if (a->on_log)
		a->on_log(a->user, line);
	else
		fprintf(stderr, "%s: %s\n", a->name, line);
}

/* ---- signals --------------------------------------------------------------- */

static _Atomic(struct agentproxy *) running;

static void wake(struct agentproxy *a)
{
	uint64_t one = 1;
	int saved = errno;

	/* Full means that it will wake anyway. */
	if (write(a->wake, &one, sizeof(one)) < 0)
		errno = saved;
}

EXPORT void agentproxy_stop(struct agentproxy *a)
{
	atomic_store(&a->stop, true);
	wake(a);
}

static void on_signal(int signal)
{
	struct agentproxy *a = atomic_load(&running);

	if (!a)
		return;
	if (signal == SIGHUP) {
		atomic_store(&a->reload, true);
		wake(a);
	} else {
		agentproxy_stop(a);
	}
}

struct signals {
	struct sigaction term, intr, hup;
};

static void signals_take(struct agentproxy *a, struct signals *old)
{
	struct sigaction sa = { .sa_handler = on_signal,
				.sa_flags = SA_RESTART };

	atomic_store(&running, a);
	sigaction(SIGTERM, &sa, &old->term);
	sigaction(SIGINT, &sa, &old->intr);
	if (a->on_reload)
		sigaction(SIGHUP, &sa, &old->hup);
}

static void signals_give(struct agentproxy *a, const struct signals *old)
{
	sigaction(SIGTERM, &old->term, NULL);
	sigaction(SIGINT, &old->intr, NULL);
	if (a->on_reload)
		sigaction(SIGHUP, &old->hup, NULL);
	atomic_store(&running, NULL);
}

/* ---- the socket ------------------------------------------------------------ */

static bool watch(struct agentproxy *a, int op, int fd, uint32_t events,
		  void *what)
{
	struct epoll_event e = { .events = events, .data.ptr = what };

	return epoll_ctl(a->epoll, op, fd, &e) == 0;
}

/* Is it left over from a crash? One that somebody listens on is not. */
static bool make_way(const struct sockaddr_un *un)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0), rc, why;

	if (fd < 0)
		return false;
	rc = connect(fd, (const struct sockaddr *)un, sizeof(*un));
	why = errno;
	close(fd);
	if (rc == 0 || why == EAGAIN) {
		errno = EADDRINUSE;
		return false;
	}
	return why != ECONNREFUSED || unlink(un->sun_path) == 0;
}

static bool start_listening(struct agentproxy *a, const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(un.sun_path, path);
	if (!make_way(&un))
		return false;
	a->listener = socket(AF_UNIX,
			     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->listener < 0)
		return false;
	mask = umask(0117);
	rc = bind(a->listener, (struct sockaddr *)&un, sizeof(un));
	umask(mask);
	return rc == 0 && stat(path, &a->socket) == 0 &&
	       listen(a->listener, BACKLOG) == 0 &&
	       watch(a, EPOLL_CTL_ADD, a->listener, EPOLLIN, NULL);
}

static void stop_listening(struct agentproxy *a, const char *path)
{
	struct stat now;

	/* Not the one of a successor. */
	if (a->socket.st_ino && stat(path, &now) == 0 &&
	    now.st_ino == a->socket.st_ino && now.st_dev == a->socket.st_dev)
		unlink(path);
	if (a->listener >= 0)
		close(a->listener);
	a->listener = -1;
	a->socket = (struct stat){ 0 };
}

static void accept_all(struct agentproxy *a)
{
	int fd;

	while ((fd = accept4(a->listener, NULL, NULL,
			     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		(void)link_new(a, fd);
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM)
		return;
	a->accept_paused = watch(a, EPOLL_CTL_MOD, a->listener, 0, NULL);
	agentproxy_log(a, "a link cannot be taken: %s", strerror(errno));
}

/* ---- the loop -------------------------------------------------------------- */

static void serve(struct agentproxy *a)
{
	struct epoll_event ready[EVENTS];
	uint64_t ignored;

	while (!atomic_load(&a->stop)) {
		int wait_ms = dial_due(a), n;

		n = epoll_wait(a->epoll, ready, EVENTS,
			       a->accept_paused ? PAUSE_MS : wait_ms);

		if (a->accept_paused)
			a->accept_paused = !watch(a, EPOLL_CTL_MOD,
						  a->listener, EPOLLIN, NULL);
		for (int i = 0; i < n; i++) {
			if (!ready[i].data.ptr)
				accept_all(a);
			else if (ready[i].data.ptr != a)
				link_serve(ready[i].data.ptr,
					   ready[i].events);
			else if (read(a->wake, &ignored, 8) < 0)
				continue;
		}
		if (atomic_exchange(&a->reload, false))
			a->on_reload(a->user);
	}
}

/* path NULL: it dials in. */
static int run(struct agentproxy *a, const char *path)
{
	struct signals old;
	int rc = -1, why;

	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (a->epoll >= 0 && watch(a, EPOLL_CTL_ADD, a->wake, EPOLLIN, a) &&
	    (!path || start_listening(a, path))) {
		signals_take(a, &old);
		serve(a);
		signals_give(a, &old);
		rc = 0;
	}
	why = errno;
	if (path)
		stop_listening(a, path);
	while (a->links)
		link_free(a->links);
	if (a->epoll >= 0)
		close(a->epoll);
	a->epoll = -1;
	atomic_store(&a->stop, false);
	errno = why;
	return rc;
}

EXPORT int agentproxy_run(struct agentproxy *a, const char *socket)
{
	return run(a, socket);
}

EXPORT int agentproxy_dial(struct agentproxy *a, const char *socket,
			   const char *token, unsigned links)
{
	struct dial dial;
	int rc;

	if (!dial_init(&dial, socket, token, links))
		return -1;
	a->dial = &dial;
	rc = run(a, NULL);
	a->dial = NULL;
	return rc;
}
