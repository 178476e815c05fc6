#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "framelog.h"
#include "send.h"
#include "wire/put.h"

#define IN_MIN		65536u
#define OUT_MAX		(4u << 20)	/* unsent; then reading stops */
#define HELD_MS		50u		/* for `reorder` that never fills */

/* A reply that could not go out at once. */
struct item {
	struct item *next;
	uint64_t due_ms;
	size_t n, sent;
	unsigned drip_bytes, drip_ms;
	bool then_close;
	char bytes[];
};

struct link {
	struct agent *agent;
	struct link *next, **at;
	int fd;
	unsigned number;
	struct event *readable, *writable, *due, *held_due;
	struct wire_format format;
	char *in;
	size_t n, size;
	struct outq out;
	struct item *items, **items_end;
	struct item *held;
	unsigned n_held;
	uint64_t busy_until_ms;
	bool greeted, closing, dead;
	bool dialled;		/* by us; not greeted: registering */
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void link_free(struct link *l)
{
	struct event *const events[] = { l->readable, l->writable, l->due,
					 l->held_due };

	for (unsigned i = 0; i < ARRAY_LEN(events); i++)
		if (events[i])
			event_free(events[i]);
	close(l->fd);
	for (struct item *i = l->items, *next; i; i = next) {
		next = i->next;
		free(i);
	}
	for (struct item *i = l->held, *next; i; i = next) {
		next = i->next;
		free(i);
	}
	outq_clear(&l->out);
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	if (l->dialled)
		dial_lost(l->agent);
	free(l->in);
	free(l);
}

void link_reload_all(struct agent *a)
{
	for (struct link *l = a->links; l && !a->script->deaf; l = l->next)
		if (l->out.bytes <= OUT_MAX)
			event_add(l->readable, NULL);
}

void link_free_all(struct agent *a)
{
	while (a->links)
		link_free(a->links);
}

/* ---- writing ------------------------------------------------------------ */

static void arm(struct event *ev, uint64_t due_ms)
{
	uint64_t now = now_ms(), wait = due_ms > now ? due_ms - now : 0;
	struct timeval tv = { (time_t)(wait / 1000),
			      (suseconds_t)(wait % 1000 * 1000) };

	event_add(ev, &tv);
}

static void flush(struct link *l)
{
	if (!outq_send(&l->out, l->fd))
		l->dead = true;
	else if (!outq_empty(&l->out))
		event_add(l->writable, NULL);
	else if (l->closing)
		l->dead = true;
}

/* Moves what is due into the out-queue. */
static void pump(struct link *l)
{
	struct item *i;

	while ((i = l->items) && !l->closing && i->due_ms <= now_ms()) {
		size_t n = i->n - i->sent;

		if (i->drip_bytes && n > i->drip_bytes)
			n = i->drip_bytes;
		if (!outq_copy(&l->out, i->bytes + i->sent, n)) {
			l->dead = true;
			return;
		}
		i->sent += n;
		if (i->sent < i->n) {
			i->due_ms = now_ms() + i->drip_ms;
			break;
		}
		l->closing = i->then_close;
		l->items = i->next;
		if (!l->items)
			l->items_end = &l->items;
		free(i);
	}
	if (l->items && !l->closing)
		arm(l->due, l->items->due_ms);
	flush(l);
}

static void append(struct link *l, struct item *i)
{
	i->next = NULL;
	*l->items_end = i;
	l->items_end = &i->next;
}

static void release_held(struct link *l)
{
	while (l->held) {
		struct item *i = l->held;

		l->held = i->next;
		append(l, i);
	}
	l->n_held = 0;
	event_del(l->held_due);
}

static void hold(struct link *l, struct item *i, unsigned wanted)
{
	i->next = l->held;
	l->held = i;
	if (++l->n_held >= wanted)
		release_held(l);
	else if (l->n_held == 1)
		arm(l->held_due, now_ms() + HELD_MS);
}

static struct item *item_new(struct link *l, const char *p, size_t n,
			     unsigned delay_ms)
{
	struct item *i = calloc(1, sizeof(*i) + n);
	uint64_t now = now_ms();

	if (!i)
		return NULL;
	if (n)
		memcpy(i->bytes, p, n);
	i->n = n;
	if (l->busy_until_ms < now)
		l->busy_until_ms = now;
	l->busy_until_ms += delay_ms;
	i->due_ms = l->busy_until_ms;
	return i;
}

/* Bytes behind everything that waits. */
static void send_bytes(struct link *l, const char *p, size_t n,
		       unsigned delay_ms, bool then_close)
{
	struct item *i = item_new(l, p, n, delay_ms);

	if (!i) {
		l->dead = true;
		return;
	}
	i->then_close = then_close;
	append(l, i);
}

/* ---- replies ------------------------------------------------------------ */

/* A queue's bytes in one piece; the queue is empty then. */
static char *linear(struct outq *q, size_t *n)
{
	char *all = malloc(q->bytes ? q->bytes : 1), *o = all;

	*n = q->bytes;
	for (struct oseg *s = q->first; all && s; s = s->next)
		o = put_bytes(o, s->p, s->n);
	outq_clear(q);
	return all;
}

#define MARK	"AAAAAA"
#define MARK64	"QUFBQUFB"

/* Faults that a decision can hold. */
static void spoil_decision(struct answer *a, const struct wire_agent_event *e)
{
	static const char other[] = "ffffffffffffffffffffffffffffffff";
	struct body_mutation *m = e->ev.type == EVENT_REQUEST_CHUNK
					  ? &a->d.request_body
					  : &a->d.response_body;

	if (a->faults & FAULT_WRONG_ID) {
		a->d.id = SLICE(other);
		a->d.go_id ^= 1u << 30;
	}
	if (a->faults & FAULT_EMPTY_ID) {
		a->d.id = SLICE_NONE;
		a->d.go_id = 0;
	}
	if (a->faults & FAULT_NO_ID)
		a->d.id_kind = DECISION_ID_MISSING;
	if ((a->faults & FAULT_WRONG_INDEX) && !m->present) {
		m->data = slice_of(e->data.p, e->data.n);
		m->chunk_index = e->ev.chunk.index;
		m->present = true;
	}
	if (a->faults & FAULT_WRONG_INDEX)
		m->chunk_index++;
	if (a->faults & FAULT_BAD_BASE64) {
		m->present = true;
		m->data = SLICE(MARK);
		m->chunk_index = e->ev.chunk.index;
	}
}

/* Faults of the frame's bytes. */
static void spoil_bytes(const struct answer *a, char *p, size_t *n)
{
	static const char bad[] = { 0, 0, 0, 2, FRAME_REPLY, (char)0xc1 };
	char *mark;

	mark = a->faults & FAULT_BAD_BASE64
		       ? memmem(p, *n, MARK64, strlen(MARK64)) : NULL;
	if (mark)
		memset(mark, '!', strlen(MARK64));
	if (a->faults & FAULT_TYPE)
		p[4] = (char)a->type;
	if (a->faults & FAULT_LENGTH)
		for (unsigned i = 0; i < 4; i++)
			p[i] = (char)(a->length >> (24 - 8 * i));
	if (a->faults & FAULT_GARBAGE)
		memset(p, 0xff, *n);
	if ((a->faults & FAULT_BAD_PAYLOAD) && *n >= sizeof(bad)) {
		memcpy(p, bad, sizeof(bad));
		*n = sizeof(bad);
	}
	if (a->faults & FAULT_MIDFRAME)
		*n /= 2;
	if (a->faults & FAULT_CLOSE)
		*n = 0;
}

/* The frame of an answer, as its dialect has it. */
static bool encode_answer(struct link *l, struct outq *q,
			  const struct answer *a,
			  const struct wire_agent_event *e)
{
	if (l->format.dialect == WIRE_V1 &&
	    (e->ev.type == EVENT_COMPLETE || e->ev.type == EVENT_CONFIGURE))
		return wire_agent_encode_ack(q, a->d.kind == DECISION_ALLOW);
	return wire_agent_encode_reply(q, &l->format, &a->d);
}

static void reply_slow(struct link *l, struct answer *a,
		       const struct wire_agent_event *e)
{
	struct item *i;
	struct outq q;
	size_t n;
	char *p;

	outq_init(&q, &l->agent->blocks);
	spoil_decision(a, e);
	if (!encode_answer(l, &q, a, e)) {
		outq_clear(&q);
		l->dead = true;
		return;
	}
	p = linear(&q, &n);
	if (p)
		spoil_bytes(a, p, &n);
	for (int k = 0; k <= !!(a->faults & FAULT_TWICE); k++) {
		i = p ? item_new(l, p, n, k ? 0 : a->delay_ms) : NULL;
		if (!i) {
			l->dead = true;
			break;
		}
		i->due_ms += a->late_ms;
		i->drip_bytes = a->drip_bytes;
		i->drip_ms = a->drip_ms;
		i->then_close = a->faults & (FAULT_MIDFRAME | FAULT_CLOSE);
		if (a->reorder > 1)
			hold(l, i, a->reorder);
		else
			append(l, i);
	}
	free(p);
}

static void reply(struct link *l, struct answer *a,
		  const struct wire_agent_event *e)
{
	/* go-v2 answers no end. */
	if ((a->faults & FAULT_NO_REPLY) ||
	    (l->format.dialect == WIRE_GO && e->ev.type == EVENT_COMPLETE))
		return;
	a->d.go_id = e->meta.go_request_id;
	l->agent->totals.replies++;
	if (a->faults || a->delay_ms || a->late_ms || a->reorder ||
	    a->drip_bytes || l->items)
		reply_slow(l, a, e);
	else if (!encode_answer(l, &l->out, a, e))
		l->dead = true;
}

/* ---- frames ------------------------------------------------------------- */

static void keep_text(char *to, size_t size, struct slice s, struct slice *out)
{
	s.n = min_size(s.n, size);
	if (s.n)
		memcpy(to, s.p, s.n);
	*out = slice_of(to, s.n);
}

/* What is known of the event's exchange, where someone wants to know it. */
static struct exchange *exchange_of(struct agent *a,
				    const struct wire_agent_event *e)
{
	struct exchange *x;

	if ((a->quiet && !a->script->needs_seen) || !e->ev.meta)
		return NULL;
	x = exchanges_get(a->exchanges, e->meta.correlation_id,
			  e->ev.type != EVENT_COMPLETE);
	if (x && e->ev.type == EVENT_REQUEST_HEAD) {
		keep_text(x->method, sizeof(x->method), e->ev.head.method,
			  &x->seen.method);
		keep_text(x->uri, sizeof(x->uri), e->ev.head.uri,
			  &x->seen.uri);
	}
	return x;
}

/* As the reference SDK does: what cannot be read is allowed, without an id. */
static void on_unreadable(struct link *l, const struct frame_seen *f)
{
	struct answer a = { .d = { .id_kind = DECISION_ID_EMPTY } };
	struct wire_agent_event e = { .correlation_id = SLICE_NONE };

	l->agent->totals.unreadable++;
	if (!l->agent->quiet)
		framelog_other(f, true);
	reply(l, &a, &e);
}

/* For the log. A good answer that comes twice, late or slowly is good. */
static const char *answer_name(const struct answer *a)
{
	static const char *const names[] = {
		[DECISION_ALLOW] = "allow", [DECISION_BLOCK] = "block",
		[DECISION_REDIRECT] = "redirect",
		[DECISION_CHALLENGE] = "challenge",
	};

	if (a->faults & FAULT_NO_REPLY)
		return "none";
	return a->faults & ~(unsigned)FAULT_TWICE ? "bad" : names[a->d.kind];
}

/* For the log: as v2 calls it. */
static void name_frame(struct frame_seen *f, const struct wire_agent_event *e,
		       enum wire_dialect dialect)
{
	if (dialect == WIRE_V2)
		return;
	f->type = frame_type_of(e->ev.type);
	if (dialect == WIRE_GO && e->ev.type == EVENT_COMPLETE &&
	    !slice_eq(e->ev.complete.error, SLICE("complete")))
		f->type = FRAME_CANCEL;
}

static void on_event(struct link *l, struct frame_seen *f, char *p)
{
	struct agent *agent = l->agent;
	struct seen now, *seen = NULL;
	struct wire_agent_event e;
	struct exchange *x;
	struct answer a;

	if (!wire_agent_decode_event(f->type, p, f->bytes, &l->format,
				     &agent->scratch, &e)) {
		on_unreadable(l, f);
		return;
	}
	name_frame(f, &e, l->format.dialect);
	agent->totals.by_event[e.ev.type]++;
	agent->totals.data_bytes += e.data.n;
	x = exchange_of(agent, &e);
	if (e.ev.type == EVENT_REQUEST_HEAD) {
		now = (struct seen){ e.ev.head.method, e.ev.head.uri };
		seen = &now;
	} else if (x) {
		seen = &x->seen;
	}
	if (!script_answer(agent->script, &e, seen, l->number, &agent->scratch,
			   &a))
		l->dead = true;
	if (!agent->quiet)
		framelog_event(f, &e, x, l->dead ? "none" : answer_name(&a));
	if (!l->dead)
		reply(l, &a, &e);
	if (x && e.ev.type == EVENT_COMPLETE)
		exchanges_drop(agent->exchanges, x->id);
}

static bool choose_encoding(struct link *l, bool msgpack, bool json)
{
	const struct agent *a = l->agent;

	l->format = a->format;
	if (a->format.dialect == WIRE_GO)
		return true;	/* JSON, whatever is offered */
	if (!a->encoding_forced)
		l->format.encoding = msgpack ? WIRE_MSGPACK : WIRE_JSON;
	if (l->format.encoding == WIRE_JSON)
		l->format.raw_body = false;
	return l->format.encoding == WIRE_MSGPACK ? msgpack : json;
}

#define REFUSAL	"{\"protocol_version\":0,\"capabilities\":null,"		\
		"\"success\":false,\"error\":\"refused by the script\","	\
		"\"encoding\":\"json\"}"

static void on_handshake(struct link *l, struct slice payload)
{
	const struct script *s = l->agent->script;
	char refusal[FRAME_HEAD + sizeof(REFUSAL) - 1], *p;
	bool msgpack, json;
	struct outq q;
	size_t n;

	if (!wire_agent_decode_handshake(payload, &msgpack, &json) ||
	    !choose_encoding(l, msgpack, json) ||
	    s->handshake == HANDSHAKE_CLOSE) {
		l->dead = true;
		return;
	}
	if (s->handshake == HANDSHAKE_SILENT)
		return;
	l->greeted = true;
	if (s->handshake != HANDSHAKE_NORMAL) {
		memset(refusal, 0xff, sizeof(refusal));
		if (s->handshake == HANDSHAKE_REFUSE) {
			frame_write_head(refusal, FRAME_HANDSHAKE_REPLY,
					 sizeof(REFUSAL) - 1);
			memcpy(refusal + FRAME_HEAD, REFUSAL,
			       sizeof(REFUSAL) - 1);
		}
		send_bytes(l, refusal, sizeof(refusal), s->handshake_delay_ms,
			   s->handshake == HANDSHAKE_REFUSE);
		return;
	}
	outq_init(&q, &l->agent->blocks);
	if (l->format.dialect == WIRE_GO ?
	    !wire_agent_encode_go_handshake(&q, "scripted") :
	    !wire_agent_encode_handshake(&q, "scripted", VERSION,
					 l->format.encoding,
					 WIRE_AGENT_ALL_EVENTS))
		l->dead = true;
	p = linear(&q, &n);
	if (p)
		send_bytes(l, p, n, s->handshake_delay_ms, false);
	free(p);
}

/* Nothing was negotiated: JSON. */
static void on_registered(struct link *l, uint8_t type, struct slice payload)
{
	if (!wire_agent_decode_registered(type, payload)) {
		if (!l->agent->quiet)
			printf("{\"refused\":%.*s}\n", (int)payload.n,
			       payload.p);
		l->dead = true;
		return;
	}
	l->greeted = true;
	l->format = (struct wire_format){ .dialect = l->format.dialect };
}

static void on_ping(struct link *l, struct slice payload)
{
	char *pong;

	if (l->agent->script->ping_silent)
		return;
	pong = malloc(FRAME_HEAD + payload.n);
	if (!pong) {
		l->dead = true;
		return;
	}
	frame_write_head(pong, l->format.dialect == WIRE_GO ? FRAME_GO_PONG :
			 FRAME_PONG, payload.n);
	if (payload.n)
		memcpy(pong + FRAME_HEAD, payload.p, payload.n);
	send_bytes(l, pong, FRAME_HEAD + payload.n, 0, false);
	free(pong);
}

/* go-v2: how it is, and its metrics. */
static void on_question(struct link *l, uint8_t type)
{
	char b[256];
	int n;

	if (type == FRAME_GO_ASK_HEALTH)
		n = snprintf(b + FRAME_HEAD, sizeof(b) - FRAME_HEAD,
			     "{\"state\":\"healthy\"}");
	else
		n = snprintf(b + FRAME_HEAD, sizeof(b) - FRAME_HEAD,
			     "{\"requests_total\":%lu,\"requests_active\":0,"
			     "\"custom\":{\"frames\":%lu}}",
			     (unsigned long)l->agent->totals.replies,
			     (unsigned long)l->agent->totals.frames);
	frame_write_head(b, type + 1, (size_t)n);
	send_bytes(l, b, FRAME_HEAD + (size_t)n, 0, false);
}

static bool is_event(const struct link *l, uint8_t type)
{
	switch (l->format.dialect) {
	case WIRE_V2:
		break;
	case WIRE_GO:
		return (type >= FRAME_REQUEST_HEAD &&
			type <= FRAME_RESPONSE_CHUNK) ||
		       type == FRAME_GO_CANCEL;
	case WIRE_V1:
		return true;
	}
	return type >= FRAME_REQUEST_HEAD && type <= FRAME_CONFIGURE;
}

static void on_frame(struct link *l, uint8_t type, char *p, size_t n)
{
	struct agent *a = l->agent;
	bool event = is_event(l, type);
	struct frame_seen f = { ++a->totals.frames, l->number, type, n, 0 };

	if (!a->quiet)
		f.digest = digest_add(DIGEST_INIT, p, n);
	arena_reset(&a->scratch);
	if (event && l->greeted) {
		on_event(l, &f, p);
		return;
	}
	if (!a->quiet)
		framelog_other(&f, false);
	if (l->dialled && !l->greeted)
		on_registered(l, type, slice_of(p, n));
	else if (type == FRAME_HANDSHAKE && !l->greeted)
		on_handshake(l, slice_of(p, n));
	else if (type == (l->format.dialect == WIRE_GO ? FRAME_GO_PING :
			  FRAME_PING))
		on_ping(l, slice_of(p, n));
	else if (l->format.dialect == WIRE_GO &&
		 (type == FRAME_GO_ASK_HEALTH || type == FRAME_GO_ASK_METRICS))
		on_question(l, type);
	else if (l->format.dialect == WIRE_GO)
		on_unreadable(l, &f);	/* as the Go SDK does */
	else if (type != FRAME_CANCEL)
		l->dead = true;
}

/* ---- the socket --------------------------------------------------------- */

static void handle_frames(struct link *l)
{
	enum frame_result r = FRAME_OK;
	struct slice payload;
	size_t at = 0, used = 0;
	uint8_t type;

	while (!l->dead && !l->closing) {
		type = 0;
		r = l->format.dialect == WIRE_V1 ?
			frame_read_v1(l->in + at, l->n - at, FRAME_V1_MAX,
				      &payload, &used) :
			frame_read(l->in + at, l->n - at, FRAME_MAX, &type,
				   &payload, &used);
		if (r != FRAME_OK)
			break;
		on_frame(l, type, l->in + (payload.p - l->in), payload.n);
		at += used;
	}
	memmove(l->in, l->in + at, l->n - at);
	l->n -= at;
	if (r == FRAME_BAD_LENGTH)
		l->dead = true;
	if (r == FRAME_MORE && used > l->size) {
		char *more = realloc(l->in, used);

		if (!more) {
			l->dead = true;
			return;
		}
		l->in = more;
		l->size = used;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	ssize_t n;

	/* Who does not read its replies is not read either. */
	if (l->out.bytes > OUT_MAX || l->agent->script->deaf) {
		event_del(l->readable);
		return;
	}
	n = read(fd, l->in + l->n, l->size - l->n);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		l->dead = true;
	if (n > 0) {
		l->n += (size_t)n;
		handle_frames(l);
		/* First the log: who is killed here has logged what it said. */
		if (!l->agent->quiet)
			fflush(stdout);
		pump(l);
	}
	if (l->dead)
		link_free(l);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	flush(l);
	if (l->out.bytes <= OUT_MAX && !l->agent->script->deaf)
		event_add(l->readable, NULL);
	if (l->dead)
		link_free(l);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	pump(l);
	if (l->dead)
		link_free(l);
}

static void on_held_due(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	release_held(l);
	on_due(fd, what, arg);
}

static struct link *make(struct agent *a, int fd)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l) {
		close(fd);
		return NULL;
	}
	l->agent = a;
	l->fd = fd;
	l->number = (unsigned)++a->totals.links;
	l->format.dialect = a->format.dialect;
	l->greeted = a->format.dialect == WIRE_V1;
	l->items_end = &l->items;
	l->size = IN_MIN;
	l->in = malloc(IN_MIN);
	outq_init(&l->out, &a->blocks);
	l->at = &a->links;
	l->next = a->links;
	if (l->next)
		l->next->at = &l->next;
	a->links = l;
	l->readable = event_new(a->base, fd, EV_READ | EV_PERSIST, on_readable,
				l);
	l->writable = event_new(a->base, fd, EV_WRITE, on_writable, l);
	l->due = evtimer_new(a->base, on_due, l);
	l->held_due = evtimer_new(a->base, on_held_due, l);
	if (!l->in || !l->readable || !l->writable || !l->due || !l->held_due ||
	    event_add(l->readable, NULL) != 0) {
		link_free(l);
		return NULL;
	}
	return l;
}

void link_new(struct agent *a, int fd)
{
	(void)make(a, fd);
}

void link_register(struct agent *a, int fd)
{
	struct link *l = make(a, fd);

	if (!l) {
		dial_lost(a);
		return;
	}
	l->dialled = true;
	if (!wire_agent_encode_registration(&l->out,
					    l->format.dialect == WIRE_GO,
					    a->id, a->token))
		l->dead = true;
	flush(l);
	if (l->dead)
		link_free(l);
}
