/*
 * An authorisation service over HTTP/1.1 with kept connections, for nginx's
 * auth_request: 403 for paths under /blocked, 200 for the rest.
 *
 *	auth -l ADDRESS		SIGUSR1 prints {"heads":N}
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peers.h"

struct conn {
	int fd;
	bool listener;
	size_t n;
	char in[16384];
};

static uint64_t heads;
static volatile sig_atomic_t asked;
static int epoll_fd;

static void on_signal(int sig)
{
	(void)sig;
	asked = 1;
}

static bool read_conn(struct conn *c)
{
	static const char yes[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		no[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
	ssize_t n = recv(c->fd, c->in + c->n, sizeof(c->in) - c->n, 0);
	bool blocked;
	char *end;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->n += (size_t)n;
	while ((end = memmem(c->in, c->n, "\r\n\r\n", 4))) {
		heads++;
		blocked = memmem(c->in, (size_t)(end - c->in), " /blocked", 9);
		n = send(c->fd, blocked ? no : yes,
			 blocked ? sizeof(no) - 1 : sizeof(yes) - 1,
			 MSG_NOSIGNAL);
		if (n < 0)
			return false;
		end += 4;
		c->n -= (size_t)(end - c->in);
		memmove(c->in, end, c->n);
	}
	return c->n < sizeof(c->in);
}

static void watch(int fd, bool listener)
{
	struct conn *c = must_realloc(NULL, sizeof(*c));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	c->fd = fd;
	c->listener = listener;
	c->n = 0;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

static void serve(void)
{
	struct epoll_event events[64];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, 64, -1);

		if (asked) {
			asked = 0;
			printf("{\"heads\":%llu}\n", (unsigned long long)heads);
			fflush(stdout);
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->listener) {
				int fd = accept4(c->fd, NULL, NULL,
						 SOCK_NONBLOCK);

				if (fd >= 0)
					watch(fd, false);
			} else if (!read_conn(c)) {
				close(c->fd);
				free(c);
			}
		}
	}
}

int main(int argc, char **argv)
{
	int fd;

	if (argc != 3 || strcmp(argv[1], "-l") != 0)
		die("usage: auth -l ADDRESS");
	signal(SIGUSR1, on_signal);
	epoll_fd = epoll_create1(0);
	fd = peer_listen(argv[2]);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	watch(fd, true);
	serve();
	return 0;
}
