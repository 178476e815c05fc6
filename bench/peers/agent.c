/*
 * A lean agent: allows everything but paths under /blocked, and counts.
 *
 *	agent -s SOCKET [-s SOCKET ...] [-e json|msgpack|any] [-r] [-d US]
 *
 * -r: chunks come raw (MessagePack bin). -d: each answer US microseconds late.
 * SIGUSR1 prints one line of totals:
 * {"heads":N,"chunks":N,"bytes":N,"completes":N}
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peers.h"
#include "send.h"
#include "wire/codec.h"

#define IN_MIN	65536u

struct link {
	int fd;
	bool greeted, listener;
	struct wire_format format;
	char *in;
	size_t n, size;
	struct outq out;
	bool closed;
};

static struct block_pool blocks;
static struct arena_pool arenas;
static struct arena scratch;
static struct {
	uint64_t heads, chunks, bytes, completes;
} totals;
static bool offer_msgpack = true, offer_json = true, raw;
static volatile sig_atomic_t asked;
static int epoll_fd;
static struct hold hold;

static void on_signal(int sig)
{
	(void)sig;
	asked = 1;
}

static void print_totals(void)
{
	asked = 0;
	printf("{\"heads\":%llu,\"chunks\":%llu,\"bytes\":%llu,"
	       "\"completes\":%llu}\n",
	       (unsigned long long)totals.heads,
	       (unsigned long long)totals.chunks,
	       (unsigned long long)totals.bytes,
	       (unsigned long long)totals.completes);
	fflush(stdout);
}

static void count(const struct wire_agent_event *e, struct decision *d)
{
	switch (e->ev.type) {
	case EVENT_REQUEST_HEAD:
		totals.heads++;
		if (slice_has_prefix(e->ev.head.uri, SLICE("/blocked"))) {
			d->kind = DECISION_BLOCK;
			d->status = 403;
		}
		break;
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		totals.chunks++;
		totals.bytes += e->data.n;
		break;
	case EVENT_COMPLETE:
		totals.completes++;
		break;
	case EVENT_RESPONSE_HEAD:
	case EVENT_CONFIGURE:
	case EVENT_N:
		break;
	}
}

static bool on_event(struct link *l, uint8_t type, char *payload, size_t n)
{
	struct wire_agent_event e;
	struct decision d = { .kind = DECISION_ALLOW,
			      .id_kind = DECISION_ID_PRESENT };

	if (!wire_agent_decode_event(type, payload, n, &l->format, &scratch,
				     &e))
		return false;
	d.id = e.correlation_id;
	count(&e, &d);
	return wire_agent_encode_reply(&l->out, &l->format, &d);
}

static bool on_handshake(struct link *l, struct slice payload)
{
	bool msgpack, json;

	if (!wire_agent_decode_handshake(payload, &msgpack, &json))
		return false;
	msgpack = msgpack && offer_msgpack;
	if (!msgpack && !(json && offer_json))
		return false;
	l->greeted = true;
	l->format.encoding = msgpack ? WIRE_MSGPACK : WIRE_JSON;
	l->format.shape = WIRE_MAP;
	l->format.raw_body = raw && msgpack;
	return wire_agent_encode_handshake(&l->out, "bench", "1",
					   l->format.encoding,
					   WIRE_AGENT_ALL_EVENTS);
}

static bool on_frame(struct link *l, uint8_t type, struct slice payload)
{
	char head[FRAME_HEAD];

	arena_reset(&scratch);
	if (!l->greeted)
		return type == FRAME_HANDSHAKE && on_handshake(l, payload);
	if (type == FRAME_CANCEL)
		return true;
	if (type != FRAME_PING)
		return on_event(l, type, (char *)(uintptr_t)payload.p,
				payload.n);
	frame_write_head(head, FRAME_PONG, payload.n);
	return outq_copy(&l->out, head, sizeof(head)) &&
	       outq_copy(&l->out, payload.p, payload.n);
}

/* All whole frames that are there. */
static bool read_frames(struct link *l)
{
	size_t at = 0, used = 0;
	struct slice payload;
	enum frame_result r;
	uint8_t type;

	while ((r = frame_read(l->in + at, l->n - at, FRAME_MAX, &type,
			       &payload, &used)) == FRAME_OK) {
		if (!on_frame(l, type, payload))
			return false;
		at += used;
	}
	if (r != FRAME_MORE)
		return false;
	l->n -= at;
	if (l->n)
		memmove(l->in, l->in + at, l->n);
	if (used > l->size) {
		l->in = must_realloc(l->in, used);
		l->size = used;
	}
	return true;
}

static bool read_link(struct link *l)
{
	ssize_t n = recv(l->fd, l->in + l->n, l->size - l->n, 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	if (hold.us && l->greeted) {
		hold_put(&hold, l, l->in + l->n, (size_t)n);
		return true;
	}
	l->n += (size_t)n;
	return read_frames(l);
}

static bool read_held(struct link *l, const char *p, size_t n)
{
	if (l->n + n > l->size) {
		l->size = l->n + n;
		l->in = must_realloc(l->in, l->size);
	}
	memcpy(l->in + l->n, p, n);
	l->n += n;
	return read_frames(l);
}

static void watch(struct link *l, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = l };

	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, l->fd, &e);
}

static struct link *new_link(int fd)
{
	struct link *l = must_realloc(NULL, sizeof(*l));

	memset(l, 0, sizeof(*l));
	l->fd = fd;
	return l;
}

static void on_accept(struct link *listener)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK);
	struct link *l;

	if (fd < 0)
		return;
	l = new_link(fd);
	l->in = must_realloc(NULL, IN_MIN);
	l->size = IN_MIN;
	outq_init(&l->out, &blocks);
	watch(l, EPOLLIN);
}

static void close_link(struct link *l)
{
	close(l->fd);
	free(l->in);
	outq_clear(&l->out);
	l->closed = true;
	if (!hold.us)		/* else something of it may be held */
		free(l);
}

static void serve_held(void)
{
	struct held *i;

	while ((i = hold_take(&hold)) != NULL) {
		struct link *l = i->owner;

		if (!l->closed && (!read_held(l, i->bytes, i->n) ||
				   !outq_send(&l->out, l->fd)))
			close_link(l);
		free(i);
	}
}

static void serve(void)
{
	struct epoll_event events[64];

	for (;;) {
		int n = hold_wait(&hold, epoll_fd, events, 64);

		if (asked)
			print_totals();
		serve_held();
		for (int i = 0; i < n; i++) {
			struct link *l = events[i].data.ptr;

			if (l->listener) {
				on_accept(l);
			} else if (!l->closed &&
				   (!read_link(l) ||
				    !outq_send(&l->out, l->fd))) {
				close_link(l);
			}
		}
	}
}

static void listen_on(const char *path)
{
	struct link *l = new_link(peer_listen(path));

	fcntl(l->fd, F_SETFL, O_NONBLOCK);
	l->listener = true;
	watch(l, EPOLLIN);
}

int main(int argc, char **argv)
{
	struct rlimit files = { 65536, 65536 };
	int o, sockets = 0;

	signal(SIGUSR1, on_signal);
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(0);
	block_pool_init(&blocks);
	arena_pool_init(&arenas);
	arena_init(&scratch, &arenas);
	while ((o = getopt(argc, argv, "s:e:rd:")) != -1) {
		if (o == 's') {
			listen_on(optarg);
			sockets++;
		} else if (o == 'e') {
			offer_msgpack = strcmp(optarg, "json") != 0;
			offer_json = strcmp(optarg, "msgpack") != 0;
		} else if (o == 'r') {
			raw = true;
		} else if (o == 'd') {
			hold.us = strtoull(optarg, NULL, 10);
		} else {
			die("usage: agent -s SOCKET [-e json|msgpack] [-r]");
		}
	}
	if (!sockets)
		die("usage: agent -s SOCKET [-e json|msgpack] [-r]");
	serve();
	return 0;
}
