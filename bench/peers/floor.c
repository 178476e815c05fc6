/*
 * The floor: a byte relay that parses nothing. What any proxy on this machine
 * pays for its sockets.
 *
 *	floor -l IP:PORT -u IP:PORT [-b BYTES]	relay; reads of BYTES, 64 KiB
 *	floor -l ... -u ... -e SOCKET [-n N]	each read of a client goes
 *					through the echo process before it is
 *					forwarded, over N connections in turn
 *	floor -E SOCKET [-d US]		the echo process; US microseconds late
 *
 * One upstream connection for each client's. Frames of one turn of the loop go
 * to the echo process in one send, as a proxy would do it.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peers.h"

#define HOP_MAX		(256u * 1024)
#define HOPS_MAX	4096u

/* One direction's end: what came from fd and could not be written yet. */
struct end {
	struct end *other;
	int fd;
	bool client, closed;
	uint32_t id;			/* of a client, for the hop */
	size_t n, off;
	char *rest;			/* NULL: nothing waits */
};

/* What a frame through the echo process begins with. */
struct frame {
	uint32_t bytes, id;
};

/* A connection to the echo process. */
struct hop {
	int fd;
	bool dirty;
	char *out, *in;
	size_t n_out, n_in;
};

static struct hop hops[HOPS_MAX], *dirty[HOPS_MAX];
static unsigned n_hops, n_dirty, turn;
static struct end **clients;		/* by id */
static uint32_t n_clients, *free_ids, n_free;
static char *buffer;
static size_t buffer_bytes = 65536;
static int epoll_fd;
static struct end *dead[1024];
static unsigned n_dead;
static const char *upstream;

static void watch(int fd, void *ptr)
{
	struct epoll_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = ptr,
	};

	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

static void close_pair(struct end *e)
{
	struct end *c = e->client ? e : e->other;

	if (e->closed)
		return;
	e->closed = e->other->closed = true;
	close(e->fd);
	close(e->other->fd);
	clients[c->id] = NULL;
	if (n_dead < 1024)
		dead[n_dead++] = c;
}

/* Writes to e's other end; keeps what does not fit. */
static void forward(struct end *e, const char *p, size_t n)
{
	ssize_t sent = 0;

	if (!e->rest) {
		sent = send(e->other->fd, p, n, MSG_NOSIGNAL);
		if (sent == (ssize_t)n)
			return;
		if (sent < 0 && errno != EAGAIN) {
			close_pair(e);
			return;
		}
		sent = sent < 0 ? 0 : sent;
	}
	e->rest = must_realloc(e->rest, e->n + n - (size_t)sent);
	memcpy(e->rest + e->n, p + sent, n - (size_t)sent);
	e->n += n - (size_t)sent;
}

/* True: nothing waits any more. */
static bool drain(struct end *e)
{
	while (e->rest && e->off < e->n) {
		ssize_t sent = send(e->other->fd, e->rest + e->off,
				    e->n - e->off, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		e->off += (size_t)sent;
	}
	free(e->rest);
	e->rest = NULL;
	e->n = e->off = 0;
	return true;
}

static void hop_put(struct end *e, size_t n)
{
	struct hop *h = &hops[turn++ % n_hops];
	struct frame f = { (uint32_t)n, e->id };

	if (h->n_out + sizeof(f) + n > HOP_MAX)
		die("the echo process does not follow");
	memcpy(h->out + h->n_out, &f, sizeof(f));
	memcpy(h->out + h->n_out + sizeof(f), buffer, n);
	h->n_out += sizeof(f) + n;
	if (!h->dirty)
		dirty[n_dirty++] = h;
	h->dirty = true;
}

static void hop_flush(struct hop *h)
{
	ssize_t n = send(h->fd, h->out, h->n_out, MSG_NOSIGNAL);

	h->dirty = false;
	if (n <= 0)
		return;
	h->n_out -= (size_t)n;
	if (h->n_out)
		memmove(h->out, h->out + n, h->n_out);
}

static void hop_frames(struct hop *h)
{
	size_t at = 0;
	struct frame f;

	while (h->n_in - at >= sizeof(f)) {
		memcpy(&f, h->in + at, sizeof(f));
		if (h->n_in - at < sizeof(f) + f.bytes)
			break;
		if (clients[f.id])
			forward(clients[f.id], h->in + at + sizeof(f),
				f.bytes);
		at += sizeof(f) + f.bytes;
	}
	h->n_in -= at;
	if (h->n_in)
		memmove(h->in, h->in + at, h->n_in);
}

static void on_hop(struct hop *h)
{
	for (;;) {
		size_t room = HOP_MAX - h->n_in;
		ssize_t n = recv(h->fd, h->in + h->n_in, room, 0);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			die("the echo process is gone");
		if (n < 0)
			return;
		h->n_in += (size_t)n;
		hop_frames(h);
		if ((size_t)n < room)
			return;
	}
}

static void open_hops(const char *path, unsigned n)
{
	for (n_hops = 0; n_hops < n; n_hops++) {
		struct hop *h = &hops[n_hops];

		h->out = must_realloc(NULL, HOP_MAX);
		h->in = must_realloc(NULL, HOP_MAX);
		h->fd = peer_connect(path);
		if (h->fd < 0)
			die("%s: %s", path, strerror(errno));
	}
}

static void relay(struct end *e)
{
	while (!e->closed && !e->rest) {
		ssize_t n = recv(e->fd, buffer, buffer_bytes, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close_pair(e);
			return;
		}
		if (e->client && n_hops)
			hop_put(e, (size_t)n);
		else
			forward(e, buffer, (size_t)n);
		/* A short read: there is no more. */
		if ((size_t)n < buffer_bytes)
			return;
	}
}

static void on_end(struct end *e, uint32_t events)
{
	if (e->closed)
		return;
	if ((events & EPOLLOUT) && e->other->rest && drain(e->other))
		relay(e->other);
	if (!e->closed && (events & (EPOLLIN | EPOLLHUP)))
		relay(e);
	/* The end came with the last bytes. */
	if (!e->closed && (events & (EPOLLRDHUP | EPOLLERR)) && !e->rest)
		close_pair(e);
}

static void on_accept(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct end *e = must_realloc(NULL, 2 * sizeof(*e));
		int to = peer_connect(upstream);

		if (to < 0)
			die("%s: %s", upstream, strerror(errno));
		memset(e, 0, 2 * sizeof(*e));
		e[0] = (struct end){ .other = &e[1], .fd = fd, .client = true };
		e[1] = (struct end){ .other = &e[0], .fd = to };
		e[0].id = n_free ? free_ids[--n_free] : n_clients++;
		clients[e[0].id] = e;
		watch(to, &e[1]);
		watch(fd, &e[0]);
	}
}

static void reap(void)
{
	while (n_dead) {
		struct end *c = dead[--n_dead];

		free_ids[n_free++] = c->id;
		free(c->rest);
		free(c->other->rest);
		free(c);
	}
}

static void serve(int listener)
{
	struct epoll_event events[256];
	struct epoll_event l = { .events = EPOLLIN };

	epoll_fd = epoll_create1(0);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &l);
	for (unsigned i = 0; i < n_hops; i++)
		watch(hops[i].fd, &hops[i]);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);

		for (int i = 0; i < n; i++) {
			void *ptr = events[i].data.ptr;

			if (!ptr)
				on_accept(listener);
			else if (ptr >= (void *)hops &&
				 ptr < (void *)(hops + HOPS_MAX))
				on_hop(ptr);
			else
				on_end(ptr, events[i].events);
		}
		while (n_dirty)
			hop_flush(dirty[--n_dirty]);
		reap();
	}
}

/* ---- the echo process --------------------------------------------------------- */

static struct hold hold;

/* Each connection blocks when it is written to. */
static bool send_all(int fd, const char *p, size_t n)
{
	for (size_t off = 0; off < n;) {
		ssize_t sent = send(fd, p + off, n - off, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		off += (size_t)sent;
	}
	return true;
}

static bool echo_back(int fd)
{
	ssize_t n = recv(fd, buffer, HOP_MAX, 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	if (!hold.us)
		return send_all(fd, buffer, (size_t)n);
	hold_put(&hold, (void *)(intptr_t)fd, buffer, (size_t)n);
	return true;
}

static void echo_held(void)
{
	struct held *i;

	while ((i = hold_take(&hold)) != NULL) {
		if (!send_all((int)(intptr_t)i->owner, i->bytes, i->n))
			die("the relay is gone");
		free(i);
	}
}

static void echo(const char *path)
{
	struct epoll_event events[64], e = { .events = EPOLLIN };
	int listener = peer_listen(path);

	buffer = must_realloc(NULL, HOP_MAX);
	epoll_fd = epoll_create1(0);
	e.data.fd = listener;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = hold_wait(&hold, epoll_fd, events, 64);

		echo_held();
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == listener) {
				e.data.fd = accept4(listener, NULL, NULL, 0);
				epoll_ctl(epoll_fd, EPOLL_CTL_ADD, e.data.fd,
					  &e);
			} else if (!echo_back(fd)) {
				close(fd);
			}
		}
	}
}

int main(int argc, char **argv)
{
	const char *listen_at = NULL, *hop = NULL, *echo_at = NULL;
	unsigned n = 1;
	int o;

	while ((o = getopt(argc, argv, "l:u:e:E:b:n:d:")) != -1) {
		switch (o) {
		case 'l': listen_at = optarg; break;
		case 'u': upstream = optarg; break;
		case 'e': hop = optarg; break;
		case 'b': buffer_bytes = strtoull(optarg, NULL, 10); break;
		case 'n': n = (unsigned)atoi(optarg); break;
		case 'd': hold.us = strtoull(optarg, NULL, 10); break;
		case 'E': echo_at = optarg; break;
		default: die("usage: see the top of bench/peers/floor.c");
		}
	}
	if (echo_at)
		echo(echo_at);
	if (!listen_at || !upstream)
		die("usage: floor -l IP:PORT -u IP:PORT [-e SOCKET]");
	clients = calloc(1u << 17, sizeof(struct end *));
	free_ids = calloc(1u << 17, sizeof(*free_ids));
	buffer = must_realloc(NULL, buffer_bytes);
	if (hop)
		open_hops(hop, n < HOPS_MAX ? n : HOPS_MAX);
	serve(peer_listen(listen_at));
	return 0;
}
