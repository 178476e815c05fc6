/*
 * Observers: agents that are asked like others but whose answers are only
 * counted, logged and compared with what the enforcing agents came to. They
 * never delay, never decide, and are the first to be shed: what cannot be sent
 * at once is not asked, and a body that comes faster than they read it is not
 * shown to the end.
 *
 * Their answers may come after the exchange is over. It lingers then, without
 * its client, until they have come or timed out (exchange.c), and what is left
 * of its bodies is still shown.
 */
#include "exchange/exchange.h"

/* Bytes of a body that wait for an observer, in chunks. */
#define OBSERVE_CHUNKS	4u

enum would { WOULD_UNKNOWN, WOULD_ALLOW, WOULD_REFUSE };

/* What an observer sees of one body. */
struct sight {
	struct observer *observer;
	struct flow *flow;
	struct outq in, asked;
	struct agent_call call;
	struct event event;
	struct bslice *pieces;
	unsigned pieces_cap;
	uint32_t index;
	uint64_t so_far;
	bool wanted, in_end, asking, shed;
};

struct observer {
	struct party *party;
	bool head_asking;
	uint8_t would[EVENT_N];		/* enum would */
	struct sight sight[2];
};

static bool gets_body(const struct party *p, unsigned side)
{
	return (side == SIDE_REQUEST ? p->config->request_body :
		p->config->response_body) != BODY_NONE;
}

bool observe_init(struct party *p)
{
	struct worker *w = p->ex->worker;
	struct flow *flows[] = { &p->ex->request, &p->ex->response };
	struct observer *o;

	p->out = true;		/* of all that enforces */
	if (p->config->sample < OBSERVE_ALWAYS &&
	    worker_random(w) % OBSERVE_ALWAYS >= p->config->sample)
		return true;
	o = arena_zalloc(&p->ex->arena, sizeof(*o));
	if (!o)
		return false;
	o->party = p;
	for (unsigned side = 0; side < 2; side++) {
		struct sight *s = &o->sight[side];

		s->observer = o;
		s->flow = flows[side];
		s->wanted = gets_body(p, side);
		s->call.observed = true;
		outq_init(&s->in, &w->loop->blocks);
		outq_init(&s->asked, &w->loop->blocks);
	}
	p->observer = o;
	p->head_call.observed = true;
	p->ex->observed = true;
	return true;
}

/* An answer has come, or never will. */
static void settled(struct exchange *ex)
{
	ASSERT(ex->observing > 0);
	if (--ex->observing == 0 && !exchange_open(ex))
		exchange_finish(ex);
}

static void take_answer(struct observer *o, enum event_type type,
			const struct agent_reply *reply)
{
	struct party *p = o->party;

	if (reply->cause != CAUSE_NONE) {
		ask_note(p, type, VERDICT_SKIPPED, reply->cause, reply);
		return;
	}
	ask_note(p, type, (enum verdict)reply->decision->kind, CAUSE_NONE,
		 reply);
	if (reply->decision->kind == DECISION_ALLOW)
		o->would[type] |= WOULD_ALLOW;
	else if (!reply->decision->needs_more)
		o->would[type] = WOULD_REFUSE;
}

/*
 * Was it sent? An observer does not queue: the event's memory is not there for
 * long, and others come first.
 */
static bool sent(struct observer *o, struct agent_call *call,
		 enum event_type type)
{
	if (call->state == CALL_SENT)
		return true;
	agent_withdraw(call, WIRE_CANCEL_MANUAL);
	ask_note(o->party, type, VERDICT_SKIPPED, CAUSE_OVERLOAD, NULL);
	return false;
}

/* ---- heads ------------------------------------------------------------------- */

static void look(struct sight *s);

static void on_head_answer(struct agent_call *call,
			   const struct agent_reply *reply)
{
	struct party *p = container_of(call, struct party, head_call);
	struct observer *o = p->observer;
	struct exchange *ex = p->ex;

	o->head_asking = false;
	take_answer(o, call->event->type, reply);
	look(&o->sight[SIDE_REQUEST]);
	look(&o->sight[SIDE_RESPONSE]);
	settled(ex);
}

void observe_head(struct flow *f, struct party *p)
{
	struct observer *o = p->observer;
	enum event_type type = f->kind->head_event;

	if (!o || o->head_asking ||
	    (type == EVENT_RESPONSE_HEAD && (!p->config->response_head ||
					     !p->session.head_given)))
		return;
	agent_ask(&p->head_call, &p->session, &f->head_event,
		  p->config->timeouts.head_us, CAUSE_TIMEOUT, on_head_answer);
	if (!sent(o, &p->head_call, type))
		return;
	o->head_asking = true;
	p->ex->observing++;
}

/* ---- bodies -------------------------------------------------------------------- */

static void shed(struct sight *s)
{
	s->shed = true;
	outq_clear(&s->in);
	ask_note(s->observer->party, s->flow->kind->chunk_event,
		 VERDICT_SKIPPED, CAUSE_OVERLOAD, NULL);
}

static void on_chunk_answer(struct agent_call *call,
			    const struct agent_reply *reply)
{
	struct sight *s = container_of(call, struct sight, call);
	struct exchange *ex = s->flow->ex;

	s->asking = false;
	outq_clear(&s->asked);
	take_answer(s->observer, s->event.type, reply);
	if (reply->cause != CAUSE_NONE)
		s->shed = true;
	look(s);
	settled(ex);
}

/* The next chunk, if there is one and nothing is in question. */
static void look(struct sight *s)
{
	struct party *p = s->observer->party;
	struct event_chunk *c = &s->event.chunk;
	size_t n = min_size(s->in.bytes,
			    agent_session_chunk_size(&p->session));

	if (s->asking || s->shed || s->observer->head_asking ||
	    !p->session.head_given || (n == 0 && !s->in_end))
		return;
	if (!outq_take(&s->asked, &s->in, n) ||
	    !chunk_pieces(&s->asked, &p->ex->arena, &s->pieces,
			  &s->pieces_cap, c)) {
		shed(s);
		return;
	}
	s->so_far += n;
	s->event.type = s->flow->kind->chunk_event;
	s->event.meta = &p->ex->meta;
	c->bytes = n;
	c->is_last = s->in_end && outq_empty(&s->in);
	c->total_known = s->flow->head.framing == HTTP_BODY_LENGTH;
	c->total_size = s->flow->head.content_length;
	c->index = s->index++;
	c->bytes_so_far = s->so_far;
	agent_ask(&s->call, &p->session, &s->event,
		  p->config->timeouts.body_us, CAUSE_TIMEOUT,
		  on_chunk_answer);
	if (!sent(s->observer, &s->call, s->event.type)) {
		shed(s);
		return;
	}
	s->asking = true;
	s->shed = c->is_last;		/* nothing more to see */
	p->ex->observing++;
}

void observe_data(struct flow *f, struct block *block, const char *p, size_t n)
{
	struct exchange *ex = f->ex;

	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct observer *o = ex->parties[i].observer;
		struct sight *s = o ? &o->sight[f->kind->side] : NULL;

		if (!s || !s->wanted || s->shed)
			continue;
		if (s->in.bytes + n > OBSERVE_CHUNKS *
		    ex->parties[i].agent_config->chunk_size ||
		    !outq_ref(&s->in, block, p, n))
			shed(s);
		else
			look(s);
	}
}

void observe_end(struct flow *f)
{
	struct exchange *ex = f->ex;

	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct observer *o = ex->parties[i].observer;
		struct sight *s = o ? &o->sight[f->kind->side] : NULL;

		if (!s || !s->wanted || !f->has_body)
			continue;
		s->in_end = true;
		look(s);
	}
}

/* ---- the end ----------------------------------------------------------------------- */

void observe_stop(struct exchange *ex)
{
	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct observer *o = ex->parties[i].observer;

		if (!o)
			continue;
		agent_withdraw(&ex->parties[i].head_call, WIRE_CANCEL_MANUAL);
		for (unsigned side = 0; side < 2; side++)
			agent_withdraw(&o->sight[side].call,
				       WIRE_CANCEL_MANUAL);
	}
	ex->observing = 0;
}

void observe_fini(struct exchange *ex)
{
	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct party *p = &ex->parties[i];

		if (!p->observer)
			continue;
		for (unsigned side = 0; side < 2; side++) {
			outq_clear(&p->observer->sight[side].in);
			outq_clear(&p->observer->sight[side].asked);
		}
		for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++) {
			uint8_t would = p->observer->would[e];
			bool refused = ex->refused && ex->refused_at == e;

			if (would && (would == WOULD_REFUSE) != refused)
				counter_inc(&p->metrics->disagreements[e]);
		}
	}
}
