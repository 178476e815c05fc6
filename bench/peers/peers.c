#include "peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void *must_realloc(void *p, size_t n)
{
	p = realloc(p, n ? n : 1);
	if (!p)
		die("out of memory");
	return p;
}

static socklen_t parse(const char *text, union address *a)
{
	const char *colon = strrchr(text, ':');
	char ip[64];

	memset(a, 0, sizeof(*a));
	if (text[0] == '/') {
		a->un.sun_family = AF_UNIX;
		snprintf(a->un.sun_path, sizeof(a->un.sun_path), "%s", text);
		return sizeof(a->un);
	}
	if (!colon || (size_t)(colon - text) >= sizeof(ip))
		die("%s: no address", text);
	memcpy(ip, text, (size_t)(colon - text));
	ip[colon - text] = '\0';
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, ip, &a->in.sin_addr) != 1)
		die("%s: no address", text);
	return sizeof(a->in);
}

int peer_listen(const char *address)
{
	union address a;
	socklen_t len = parse(address, &a);
	int fd = socket(a.sa.sa_family, SOCK_STREAM, 0), one = 1;

	if (a.sa.sa_family == AF_UNIX)
		unlink(address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, &a.sa, len) || listen(fd, 4096))
		die("%s: %s", address, strerror(errno));
	/* Accepted ones inherit it. */
	if (a.sa.sa_family == AF_INET) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	return fd;
}

int peer_connect(const char *address)
{
	union address a;
	socklen_t len = parse(address, &a);
	int fd = socket(a.sa.sa_family, SOCK_STREAM, 0), one = 1;

	if (connect(fd, &a.sa, len)) {
		close(fd);
		return -1;
	}
	if (a.sa.sa_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* ---- those that count heads ------------------------------------------------ */

static volatile sig_atomic_t asked;

static void on_signal(int sig)
{
	(void)sig;
	asked = 1;
}

static void watch(int epoll_fd, int fd, bool listener, size_t size)
{
	struct peer_conn *c = must_realloc(NULL, size);
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	memset(c, 0, size);
	c->fd = fd;
	c->listener = listener;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

void peer_serve(const char *address, size_t size,
		bool (*on_readable)(struct peer_conn *c),
		const uint64_t *heads)
{
	struct epoll_event events[64];
	int epoll_fd = epoll_create1(0), listener = peer_listen(address);

	signal(SIGUSR1, on_signal);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	watch(epoll_fd, listener, true, size);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 64, -1);

		if (asked) {
			asked = 0;
			printf("{\"heads\":%llu}\n",
			       (unsigned long long)*heads);
			fflush(stdout);
		}
		for (int i = 0; i < n; i++) {
			struct peer_conn *c = events[i].data.ptr;
			int fd;

			if (!c->listener) {
				if (!on_readable(c)) {
					close(c->fd);
					free(c);
				}
				continue;
			}
			fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK);
			if (fd >= 0)
				watch(epoll_fd, fd, false, size);
		}
	}
}

/* ---- slow peers ---------------------------------------------------------- */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void hold_put(struct hold *h, void *owner, const char *p, size_t n)
{
	struct held *i = must_realloc(NULL, sizeof(*i) + n);

	i->next = NULL;
	i->owner = owner;
	i->due_us = now_us() + h->us;
	i->n = n;
	memcpy(i->bytes, p, n);
	if (!h->first)
		h->end = &h->first;
	*h->end = i;
	h->end = &i->next;
}

struct held *hold_take(struct hold *h)
{
	struct held *i = h->first;

	if (!i || i->due_us > now_us())
		return NULL;
	h->first = i->next;
	return i;
}

int hold_wait(struct hold *h, int epoll_fd, struct epoll_event *events, int n)
{
	uint64_t now, rest;
	struct timespec t;

	if (!h->first)
		return epoll_wait(epoll_fd, events, n, -1);
	now = now_us();
	rest = h->first->due_us > now ? h->first->due_us - now : 0;
	t.tv_sec = (time_t)(rest / 1000000);
	t.tv_nsec = (long)(rest % 1000000 * 1000);
	return epoll_pwait2(epoll_fd, events, n, &t, NULL);
}
