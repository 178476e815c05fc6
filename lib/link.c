#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"
#include "send.h"

#define IN_MIN		65536u
#define OUT_MAX		(1u << 20)	/* unsent; then reading stops */

struct link {
	struct agentproxy *a;
	struct link *next, **at;
	int fd;
	uint32_t armed;			/* what epoll watches for */
	bool greeted;
	struct wire_format format;
	/* What was read and not yet handled; one byte more than size. */
	char *in;
	size_t n, size;
	struct outq out;
	struct exchanges exchanges;
};

/* ---- events --------------------------------------------------------------- */

/*
 * A failure, for this event alone: an answer without an id says that it could
 * not be judged (protocol page 8.5), and should a proxy not look at the id, it
 * is no allow either.
 */
static void answer_failure(struct link *l, const struct agentproxy_event *ev,
			   struct agentproxy_decision *d)
{
	agentproxy_log(l->a, "an event of %s could not be judged: %s", ev->id,
		       d->failed);
	d->d = (struct decision){ .kind = DECISION_BLOCK, .status = 500,
				  .id_kind = DECISION_ID_EMPTY };
}

static void finish(struct link *l, const struct wire_agent_event *e,
		   struct agentproxy_decision *d)
{
	struct decision *out = &d->d;

	out->request_body.chunk_index = e->ev.type == EVENT_REQUEST_CHUNK ||
					e->ev.type == EVENT_RESPONSE_CHUNK ?
					e->ev.chunk.index : 0;
	if (!out->request_body.present || e->ev.type == EVENT_REQUEST_CHUNK)
		return;
	if (e->ev.type == EVENT_RESPONSE_CHUNK) {
		out->response_body = out->request_body;
		out->request_body = (struct body_mutation){ 0 };
	} else {
		agentproxy_fail(d, "a chunk replaced where there is none");
	}
}

/* After the handler: keeps or ends the exchange's pointer. */
static void keep(struct link *l, struct slice id, bool over, void *had,
		 void *has, struct agentproxy_decision *d)
{
	const uint64_t *key = l->a->hash_key;

	if (over || !has) {
		if (had)
			exchanges_drop(&l->exchanges, key, id);
		if (has && l->a->on_end)
			l->a->on_end(l->a->user, has);
	} else if (had != has &&
		   !exchanges_put(&l->exchanges, key, id, has)) {
		if (l->a->on_end)
			l->a->on_end(l->a->user, has);
		agentproxy_fail(d, "too many exchanges, or no memory");
	}
}

static void decide(struct link *l, const struct wire_agent_event *e,
		   struct agentproxy_event *ev, struct agentproxy_decision *d)
{
	struct agentproxy *a = l->a;
	bool of_exchange = e->ev.type != EVENT_CONFIGURE;
	struct slice id = e->correlation_id;
	void *had, *has;

	had = of_exchange ? exchanges_get(&l->exchanges, a->hash_key, id)
			  : NULL;
	has = had;
	ev->exchange = &has;
	if (a->on[e->ev.type])
		a->on[e->ev.type](a->user, ev, d);
	ev->exchange = NULL;
	if (of_exchange)
		keep(l, id, e->ev.type == EVENT_COMPLETE, had, has, d);
}

/* False: hang up. */
static bool on_event(struct link *l, uint8_t type, char *p, size_t n)
{
	struct agentproxy *a = l->a;
	struct agentproxy_decision d;
	struct wire_agent_event e;
	struct agentproxy_event ev;

	if (!wire_agent_decode_event(type, p, n, &l->format, &a->scratch,
				     &e) ||
	    !event_make(&ev, &e, &a->scratch)) {
		agentproxy_log(a, "an event (0x%02x) that cannot be read", type);
		return false;
	}
	decision_init(&d, &a->scratch, e.correlation_id);
	decide(l, &e, &ev, &d);
	finish(l, &e, &d);
	if (d.failed)
		answer_failure(l, &ev, &d);
	return wire_agent_encode_reply(&l->out, &l->format, &d.d);
}

/* ---- frames --------------------------------------------------------------- */

static bool on_handshake(struct link *l, struct slice payload)
{
	struct agentproxy *a = l->a;
	unsigned events = 1u << EVENT_REQUEST_HEAD | 1u << EVENT_COMPLETE;
	bool msgpack, json;

	if (!wire_agent_decode_handshake(payload, &msgpack, &json) ||
	    (!msgpack && !json)) {
		agentproxy_log(a, "a handshake that is none of version 2");
		return false;
	}
	for (unsigned i = 0; i < EVENT_N; i++)
		events |= a->on[i] ? 1u << i : 0;
	l->greeted = true;
	l->format.encoding = msgpack ? WIRE_MSGPACK : WIRE_JSON;
	l->format.shape = WIRE_ARRAY;
	l->format.raw_body = msgpack && a->raw_body;
	return wire_agent_encode_handshake(&l->out, a->name, a->version,
					   l->format.encoding, events);
}

/* The answer to our registration: events follow, in JSON. */
static bool on_registered(struct link *l, uint8_t type, struct slice payload)
{
	if (!wire_agent_decode_registered(type, payload)) {
		dial_told(l->a, "the proxy does not take this agent");
		return false;
	}
	dial_taken(l->a);
	l->greeted = true;
	l->format.encoding = WIRE_JSON;
	return true;
}

static bool on_ping(struct link *l, const char *p, size_t n)
{
	char head[FRAME_HEAD];

	frame_write_head(head, FRAME_PONG, n);
	return outq_copy(&l->out, head, sizeof(head)) &&
	       outq_copy(&l->out, p, n);
}

static bool on_frame(struct link *l, uint8_t type, char *p, size_t n)
{
	arena_reset(&l->a->scratch);
	if (!l->greeted && l->a->dial)
		return on_registered(l, type, slice_of(p, n));
	if (!l->greeted)
		return type == FRAME_HANDSHAKE &&
		       on_handshake(l, slice_of(p, n));
	switch (type) {
	case FRAME_PING:
		return on_ping(l, p, n);
	case FRAME_CANCEL:
		/* Whoever is serial reads it after its event is answered. */
		return true;
	}
	return on_event(l, type, p, n);
}

/* Every whole frame that is there. False: hang up. */
static bool handle_frames(struct link *l)
{
	enum frame_result r;
	struct slice payload;
	size_t at = 0, used;
	bool good = true;
	uint8_t type;

	while ((r = frame_read(l->in + at, l->n - at, FRAME_MAX, &type,
			       &payload, &used)) == FRAME_OK) {
		char behind = l->in[at + used];

		good = on_frame(l, type, l->in + (payload.p - l->in),
				payload.n);
		l->in[at + used] = behind;
		if (!good)
			return false;
		at += used;
	}
	memmove(l->in, l->in + at, l->n - at);
	l->n -= at;
	if (r == FRAME_MORE && used > l->size) {
		char *more = realloc(l->in, used + 1);

		if (!more)
			return false;
		l->in = more;
		l->size = used;
	}
	return r == FRAME_MORE;
}

/* ---- the socket ------------------------------------------------------------ */

static bool link_read(struct link *l)
{
	ssize_t n = read(l->fd, l->in + l->n, l->size - l->n);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	l->n += (size_t)n;
	return handle_frames(l);
}

/* A peer that does not read its answers is not read either. */
static bool link_arm(struct link *l)
{
	struct epoll_event e = { .data.ptr = l };

	e.events = l->out.bytes < OUT_MAX ? EPOLLIN : 0;
	e.events |= l->out.bytes ? EPOLLOUT : 0;
	if (e.events == l->armed)
		return true;
	if (epoll_ctl(l->a->epoll, l->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
		      l->fd, &e) != 0)
		return false;
	l->armed = e.events;
	return true;
}

void link_serve(struct link *l, uint32_t events)
{
	bool good = true;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		good = link_read(l);
	if (!outq_send(&l->out, l->fd) || !good || !link_arm(l))
		link_free(l);
}

bool link_new(struct agentproxy *a, int fd)
{
	struct link *l = calloc(1, sizeof(*l));
	bool good;

	if (!l) {
		close(fd);
		return false;
	}
	a->n_links++;
	l->a = a;
	l->fd = fd;
	l->size = IN_MIN;
	l->in = malloc(l->size + 1);
	outq_init(&l->out, &a->blocks);
	l->at = &a->links;
	l->next = a->links;
	if (l->next)
		l->next->at = &l->next;
	a->links = l;
	good = l->in && (!a->dial || wire_agent_encode_registration(
				   &l->out, false, a->name, a->dial->token)) &&
	       link_arm(l);
	if (!good)
		link_free(l);
	return good;
}

void link_free(struct link *l)
{
	l->a->n_links--;
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	close(l->fd);
	exchanges_fini(&l->exchanges, l->a);
	outq_clear(&l->out);
	free(l->in);
	free(l);
}
