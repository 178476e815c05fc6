/*
 * Stages: the agents' places in a flow's body, in configured order. A chunk
 * goes from one to the next, each seeing what the one before made of it; one
 * chunk per flow is in question. `stream` and `hold` get pieces of at most
 * chunk_size, `buffer` the whole body in one. What has passed the last stage
 * is in flow->held, where it waits as long as some stage holds.
 */
#include "exchange/exchange.h"

static bool gets_body(const struct flow *f, const struct party *p)
{
	enum config_body_mode mode = f->kind->side == SIDE_REQUEST ?
		p->config->request_body : p->config->response_body;

	return mode != BODY_NONE && !p->out;
}

static bool keeps(const struct stage *st)
{
	return st->mode == BODY_HOLD || st->mode == BODY_BUFFER;
}

/* What came before the verdict on the head is held for it too. */
static void hold_for(struct flow *f, struct agent_metrics *m)
{
	f->held_for = m;
	counter_add(&m->held_bytes, f->accounted);
}

static bool chunk_init(struct flow *f)
{
	struct exchange *ex = f->ex;

	f->chunk = arena_zalloc(&ex->arena, sizeof(*f->chunk));
	if (!f->chunk)
		return false;
	f->chunk->flow = f;
	f->chunk->total_known = f->head.framing == HTTP_BODY_LENGTH;
	f->chunk->total_size = f->head.content_length;
	outq_init(&f->chunk->bytes, &ex->worker->loop->blocks);
	return true;
}

bool stages_init(struct flow *f)
{
	struct exchange *ex = f->ex;
	struct block_pool *pool = &ex->worker->loop->blocks;
	unsigned n = 0;

	f->stages = arena_zalloc(&ex->arena,
				 ex->n_parties * sizeof(*f->stages));
	if (!f->stages)
		return false;
	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct party *p = &ex->parties[i];
		struct stage *st = &f->stages[n];

		if (!gets_body(f, p))
			continue;
		st->party = p;
		st->mode = f->kind->side == SIDE_REQUEST ?
			p->config->request_body : p->config->response_body;
		outq_init(&st->in, pool);
		outq_share(&st->in, BLOCK_KEPT);
		if (keeps(st) && !f->held_for)
			hold_for(f, p->metrics);
		n++;
	}
	if (n == 0) {
		f->ended = f->source_ended;
		return true;
	}
	if (!chunk_init(f))
		return false;
	f->n_stages = n;
	outq_move(&f->stages[0].in, &f->held);
	f->stages[0].in_end = f->source_ended;
	return true;
}

void stages_clear(struct flow *f)
{
	for (unsigned i = 0; i < f->n_stages; i++)
		outq_clear(&f->stages[i].in);
	if (f->chunk)
		deadline_stop(&f->chunk->deadline);
}

void stages_fini(struct flow *f)
{
	stages_clear(f);
	if (f->chunk)
		outq_clear(&f->chunk->bytes);
	f->n_stages = 0;
}

void stages_withdraw(struct flow *f, enum wire_cancel why)
{
	if (f->chunk)
		agent_withdraw(&f->chunk->call, why);
	f->asking = false;
}

size_t stages_bytes(const struct flow *f)
{
	size_t n = f->chunk ? f->chunk->bytes.bytes : 0;

	for (unsigned i = 0; i < f->n_stages; i++)
		n += f->stages[i].in.bytes;
	return n;
}

static bool in_question(const struct flow *f, unsigned i)
{
	return f->asking && f->chunk->stage == i;
}

bool stages_full(const struct flow *f)
{
	size_t n = 0;

	if (f->held.bytes >= FLOW_WINDOW && !stages_hold(f))
		return true;
	/* The first stage that does not just let bytes pass is what limits. */
	for (unsigned i = 0; i < f->n_stages; i++) {
		const struct stage *st = &f->stages[i];

		n += st->in.bytes;
		if (st->out && !in_question(f, i))
			continue;
		/* A buffer takes all, up to max_body, which is judged
		 * elsewhere. */
		if (!st->out && st->mode == BODY_BUFFER)
			return false;
		return n >= agent_session_chunk_size(&st->party->session);
	}
	return false;
}

static bool wants_more(const struct flow *f, const struct stage *st)
{
	return f->state == FLOW_HEAD && st->party->needs_more[f->kind->side];
}

bool stages_keep(const struct flow *f)
{
	for (unsigned i = 0; i < f->n_stages; i++) {
		const struct stage *st = &f->stages[i];

		if (!st->out && !st->ended && (keeps(st) || wants_more(f, st)))
			return true;
	}
	return false;
}

bool stages_whole(const struct flow *f)
{
	bool kept = false;

	for (unsigned i = 0; i < f->n_stages; i++)
		kept |= keeps(&f->stages[i]) && !f->stages[i].out;
	return kept && f->ended;
}

bool stages_hold(const struct flow *f)
{
	unsigned asked = 0;

	if (stages_keep(f))
		return true;
	if (f->state != FLOW_HEAD)
		return false;
	/* An agent that is left out may have a chunk in question: it may still
	 * refuse it, or change its length. */
	if (f->asking && f->stages[f->chunk->stage].out)
		return true;
	if (f->ended || f->chunk_through)
		return false;
	/* In `stream` the head waits for the first chunk's verdict, so that a
	 * block of a small body is still a clean answer. */
	for (unsigned i = 0; i < f->n_stages; i++)
		asked += !f->stages[i].out && !f->stages[i].ended;
	return asked > 0;
}

/* ---- passing on ------------------------------------------------------------------ */

/* Bytes leave stage i for the next one, or for held. */
static void pass(struct flow *f, unsigned i, struct outq *bytes, bool last)
{
	if (i + 1 < f->n_stages) {
		struct stage *next = &f->stages[i + 1];

		outq_move(&next->in, bytes);
		next->in_end |= last;
		return;
	}
	if (bytes->bytes > 0 || last)
		f->chunk_through = true;
	outq_move(&f->held, bytes);
	f->ended |= last;
}

/* A stage that asks nothing lets pass what it has, behind what it may still
 * have in question; the next one may have been looked at already. */
static void pass_by(struct flow *f, unsigned i)
{
	struct stage *st = &f->stages[i];
	bool last = st->in_end;

	if (in_question(f, i))
		return;
	if (outq_empty(&st->in) && !(last && !st->ended))
		return;
	st->ended |= last;
	pass(f, i, &st->in, last);
	f->pump_again = true;
}

void stages_leave_out(struct party *p)
{
	struct flow *flows[] = { &p->ex->request, &p->ex->response };

	p->out = true;
	p->needs_more[SIDE_REQUEST] = p->needs_more[SIDE_RESPONSE] = false;
	for (int side = 0; side < 2; side++) {
		struct flow *f = flows[side];

		for (unsigned i = 0; i < f->n_stages; i++) {
			if (f->stages[i].party != p)
				continue;
			f->stages[i].out = true;
			/* What waited for it may go on. */
			flow_pump_later(f);
		}
	}
}

/* A stage fails without having been asked. True: go on without it. */
static bool fail_stage(struct flow *f, struct stage *st, enum cause cause)
{
	struct agent_reply failure = { .cause = cause };
	struct party *p = st->party;

	counter_inc(&p->metrics->failures[cause]);
	counter_inc(&p->metrics->unsent);
	if (!ask_failed(p, f, f->kind->chunk_event, &failure))
		return false;
	st->out = true;
	return true;
}

void stages_overload(struct flow *f)
{
	for (unsigned i = 0; i < f->n_stages; i++) {
		struct stage *st = &f->stages[i];

		if (st->out || st->ended || !(keeps(st) || wants_more(f, st)))
			continue;
		if (!fail_stage(f, st, CAUSE_OVERLOAD))
			return;
		stages_leave_out(st->party);
	}
	f->pump_again = true;
}

/* Content-Length and the running total against max_body. True: go on. */
static bool check_size(struct flow *f, struct stage *st)
{
	uint64_t n = st->so_far + st->in.bytes;

	if (st->out || st->ended || !(keeps(st) || wants_more(f, st)))
		return true;
	/* A length that was announced counts before its bytes have come; the
	 * stages behind the first may get less or more than it. */
	if (st == &f->stages[0] && f->chunk->total_known &&
	    f->chunk->total_size > n)
		n = f->chunk->total_size;
	if (n <= agent_session_max_body(&st->party->session,
					st->party->config->max_body))
		return true;
	return fail_stage(f, st, CAUSE_TOO_LARGE);
}

/* ---- asking ------------------------------------------------------------------------- */

static void on_chunk_time(struct deadline *d)
{
	flow_pump(container_of(d, struct chunk_ask, deadline)->flow);
}

static bool ready(struct flow *f, unsigned i)
{
	struct stage *st = &f->stages[i];
	struct loop *loop = f->ex->worker->loop;
	uint64_t age;

	if (st->ended)
		return false;
	if (st->in_end)
		return true;
	if (st->mode == BODY_BUFFER || outq_empty(&st->in))
		return false;
	if (i > 0 ||
	    st->in.bytes >= agent_session_chunk_size(&st->party->session))
		return true;
	age = loop->now_us - f->chunk->last_us;
	if (age >= FLOW_CHUNK_US)
		return true;
	if (!deadline_running(&f->chunk->deadline))
		deadline_start(loop, &f->chunk->deadline, FLOW_CHUNK_US,
			       on_chunk_time);
	return false;
}

bool chunk_pieces(const struct outq *asked, struct arena *a,
		  struct bslice **pieces, unsigned *cap, struct event_chunk *c)
{
	unsigned n = 0;

	if (asked->n_segs > *cap) {
		unsigned more = asked->n_segs < 8 ? 8 : asked->n_segs * 2;

		*pieces = arena_alloc(a, more * sizeof(**pieces));
		if (!*pieces)
			return false;
		*cap = more;
	}
	for (const struct oseg *s = asked->first; s; s = s->next)
		(*pieces)[n++] = (struct bslice){ s->block, s->p, s->n };
	c->pieces = *pieces;
	c->n_pieces = n;
	return true;
}

static void on_chunk_reply(struct agent_call *call,
			   const struct agent_reply *reply);

static void ask_chunk(struct flow *f, unsigned i)
{
	struct stage *st = &f->stages[i];
	struct chunk_ask *ask = f->chunk;
	struct party *p = st->party;
	struct event_chunk *c = &ask->event.chunk;
	size_t n = st->in.bytes;
	uint64_t timeout_us;

	if (st->mode != BODY_BUFFER)
		n = min_size(n, agent_session_chunk_size(&p->session));
	if (!outq_take(&ask->bytes, &st->in, n) ||
	    !chunk_pieces(&ask->bytes, &f->ex->arena, &ask->pieces,
			  &ask->pieces_cap, c)) {
		exchange_no_memory(f->ex);
		return;
	}
	st->so_far += n;
	ask->event.type = f->kind->chunk_event;
	ask->event.meta = &f->ex->meta;
	c->bytes = n;
	c->is_last = st->in_end && outq_empty(&st->in);
	c->total_known = ask->total_known;
	c->total_size = ask->total_size;
	c->index = st->index;
	c->bytes_so_far = st->so_far;
	ask->stage = i;
	f->asking = true;
	ask->last_us = f->ex->worker->loop->now_us;
	deadline_stop(&ask->deadline);
	timeout_us = ask_timeout(p, f->kind->chunk_event, &ask->call);
	ask_begin(f->ex);
	agent_ask(&ask->call, &p->session, &ask->event, timeout_us,
		  (enum cause)ask->call.timeout_cause, on_chunk_reply);
}

void stages_pump(struct flow *f)
{
	/* From the end, so that what is furthest goes first. */
	for (unsigned i = f->n_stages; i-- > 0;) {
		struct stage *st = &f->stages[i];

		if (!check_size(f, st))
			return;
		if (st->out) {
			pass_by(f, i);
			continue;
		}
		if (f->asking || !ready(f, i))
			continue;
		/* A sink that is full holds the next chunk back. */
		if (f->state == FLOW_BODY && f->sink &&
		    f->sink->ops->full(f->sink))
			continue;
		ask_chunk(f, i);
		if (!f->asking)
			return;
	}
}

/* ---- answers ------------------------------------------------------------------------- */

/* What the agent made of the chunk, in place of it. False: its fault. */
static bool mutate(struct flow *f, struct stage *st, const struct decision *d,
		   struct block *block)
{
	const struct body_mutation *m = f->kind->side == SIDE_REQUEST ?
		&d->request_body : &d->response_body;

	if (!m->present)
		return true;
	if (m->data.n != f->chunk->bytes.bytes &&
	    !(st->party->agent_config->may_mutate & f->kind->mutate_bit))
		return false;
	outq_clear(&f->chunk->bytes);
	f->mutated = true;
	if (m->data.n == 0)
		return true;
	if (!outq_ref(&f->chunk->bytes, block, m->data.p, m->data.n))
		exchange_no_memory(f->ex);
	return true;
}

/* The agent has failed open: its chunk goes on as it is. */
static void leave_out(struct flow *f, unsigned i, bool last)
{
	struct stage *st = &f->stages[i];

	st->ended |= last;
	pass(f, i, &f->chunk->bytes, last);
	stages_leave_out(st->party);
}

static void on_decision(struct flow *f, unsigned i,
			const struct agent_reply *reply)
{
	const struct decision *d = reply->decision;
	struct stage *st = &f->stages[i];
	struct party *p = st->party;
	enum event_type type = f->kind->chunk_event;
	bool last = f->chunk->event.chunk.is_last;
	bool more = d->needs_more && !last;
	struct agent_reply failure = *reply;

	if (d->kind != DECISION_ALLOW && !more) {
		ask_note(p, type, (enum verdict)d->kind, CAUSE_NONE, reply);
		ask_refuse(p, f, type, d);
		return;
	}
	if (!ask_take_ops(p, f, d) || !mutate(f, st, d, reply->block)) {
		if (!exchange_open(f->ex) || f->ex->answered)
			return;
		ask_recount(p, type, d);
		failure.cause = CAUSE_PROTOCOL;
		failure.decision = NULL;
		if (ask_failed(p, f, type, &failure))
			leave_out(f, i, last);
		return;
	}
	if (!exchange_open(f->ex) || f->ex->answered)
		return;
	ask_note(p, type, VERDICT_ALLOW, CAUSE_NONE, reply);
	p->needs_more[f->kind->side] = more;
	st->index++;
	st->ended = last;
	pass(f, i, &f->chunk->bytes, last);
}

static void on_chunk_reply(struct agent_call *call,
			   const struct agent_reply *reply)
{
	struct flow *f = container_of(call, struct chunk_ask, call)->flow;
	struct exchange *ex = f->ex;
	unsigned i = f->chunk->stage;
	struct party *p = f->stages[i].party;

	f->asking = false;
	ask_end(ex, p, f->kind->chunk_event, reply);
	if (reply->cause == CAUSE_NONE)
		on_decision(f, i, reply);
	else if (ask_failed(p, f, f->kind->chunk_event, reply))
		leave_out(f, i, f->chunk->event.chunk.is_last);
	if (!exchange_open(ex) || ex->answered)
		return;
	/* Between two chunks of the request an early response has its turn. */
	if (f->kind->side == SIDE_REQUEST && ex->response.state == FLOW_HEAD)
		flow_pump(&ex->response);
	flow_pump(f);
}
