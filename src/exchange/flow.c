/*
 * A flow: one message from its source to its sink. Body bytes take this way:
 *
 *	source -> stages[0].in -> asked -> ... -> held -> sink
 *
 * without agents: source -> held -> sink, or straight to the sink once the
 * head is there. Before the head has its verdicts all bytes wait in held.
 */
#include "exchange/exchange.h"
#include "policy/edit.h"
#include "policy/forward.h"

static const char *const state_names[] = {
	"idle", "head", "body", "flushing", "done", "aborted",
};

void flow_log_state(const struct flow *f, enum flow_state next,
		    const char *why)
{
	log_debug("flow", "id=%.*s flow=%s from=%s to=%s why=\"%s\"",
		  EVENT_ID_LEN, f->ex->meta.correlation_id, f->kind->name,
		  state_names[f->state], state_names[next], why);
}

void flow_init(struct flow *f, struct exchange *ex,
	       const struct flow_kind *kind)
{
	struct block_pool *pool = &ex->worker->loop->blocks;

	f->ex = ex;
	f->kind = kind;
	outq_init(&f->held, pool);
	outq_share(&f->held, BLOCK_KEPT);
}

void flow_fini(struct flow *f)
{
	outq_clear(&f->held);
	stages_fini(f);
	task_cancel(&f->pump_task);
}

void flow_abort(struct flow *f, const char *why)
{
	if (f->state == FLOW_DONE || !flow_set_state(f, FLOW_ABORTED, why))
		return;
	task_cancel(&f->pump_task);
	outq_clear(&f->held);
	stages_clear(f);
	if (f->source && !f->source_ended && !f->source_paused) {
		f->source_paused = true;
		f->source->ops->pause(f->source);
	}
}

static void on_pump_task(struct task *t)
{
	flow_pump(container_of(t, struct flow, pump_task));
}

void flow_pump_later(struct flow *f)
{
	loop_defer(f->ex->worker->loop, &f->pump_task, on_pump_task);
}

/* ---- from the source ---------------------------------------------------------- */

/* Small pieces are gathered, so that a body of tiny chunks costs bytes, not
 * segments; and what is kept costs about what it weighs. */
static bool put_piece(const struct flow *f, struct outq *q,
		      struct block *block, const char *p, size_t n)
{
	if (n < FLOW_SMALL_PIECE ||
	    (n < FLOW_KEPT_PIECE && (!f->judged || stages_keep(f))))
		return outq_copy(q, p, n);
	return outq_ref(q, block, p, n);
}

static bool over_limit(const struct flow *f)
{
	const struct worker_listener *l = f->ex->listener;
	uint64_t limit;

	if (f->kind->side != SIDE_REQUEST || !l->config)
		return false;
	limit = l->config->config->limits.body;
	return limit && f->body_bytes > limit;
}

/* No agent has a place in the body, and nothing is held. */
static bool is_plain(const struct flow *f)
{
	return !f->n_stages && !f->held.first && !f->accounted;
}

static bool straight_through(const struct flow *f)
{
	return f->state == FLOW_BODY && f->n_stages == 0 &&
	       outq_empty(&f->held) && f->sink && !f->sink->ops->full(f->sink);
}

void flow_take_data(struct flow *f, struct block *block, const char *p,
		    size_t n)
{
	struct exchange *ex = f->ex;
	struct outq *q;

	if (!exchange_open(ex) ||
	    (f->state != FLOW_HEAD && f->state != FLOW_BODY))
		return;
	f->body_bytes += n;
	if (UNLIKELY(ex->observed))
		observe_data(f, block, p, n);
	if (over_limit(f)) {
		counter_inc(&ex->worker->metrics->bad_requests[
			METRICS_BAD_BODY_TOO_LARGE]);
		answer_error(ex, 413, ENDED_LIMIT, "body_limit");
		return;
	}
	if (straight_through(f)) {
		f->sent_bytes += n;
		f->sink->ops->data(f->sink, block, p, n);
		if (f->sink->ops->full(f->sink))
			flow_pump(f);
		return;
	}
	q = f->n_stages > 0 ? &f->stages[0].in : &f->held;
	if (!put_piece(f, q, block, p, n)) {
		exchange_no_memory(ex);
		return;
	}
	/* What comes together is asked together. */
	flow_pump_later(f);
}

/* A client can't say in a trailer what it can't say in a header. */
static bool may_pass(const struct flow *f, const struct field *field)
{
	return f->kind->side == SIDE_RESPONSE ||
	       forward_keeps(f->ex->snapshot->config, field, false);
}

static struct http_head *copy_trailers(struct flow *f,
				       const struct http_head *trailers)
{
	struct arena *a = &f->ex->arena;
	struct http_head *copy = arena_zalloc(a, sizeof(*copy));
	unsigned n = trailers->n_fields;

	if (!copy)
		return NULL;
	copy->fields = arena_alloc(a, n * sizeof(*copy->fields));
	if (!copy->fields)
		return NULL;
	copy->cap_fields = n;
	for (unsigned i = 0; i < n; i++) {
		const struct field *from = &trailers->fields[i];
		struct field *to = &copy->fields[copy->n_fields];
		struct slice name, value;

		if (!may_pass(f, from))
			continue;
		name = arena_dup(a, field_name(from));
		value = arena_dup(a, field_value(from));
		if (!name.p || (from->value_len && !value.p))
			return NULL;
		*to = *from;
		to->flags &= (uint8_t)~FIELD_LINE;
		to->name = name.p;
		to->value = value.p;
		copy->n_fields++;
	}
	return copy;
}

static void send_end(struct flow *f)
{
	flow_set_state(f, FLOW_FLUSHING, "end");
	f->sink->ops->end(f->sink, f->trailers);
}

void flow_take_end(struct flow *f, const struct http_head *trailers)
{
	f->source_ended = true;
	if (UNLIKELY(f->ex->observed))
		observe_end(f);
	if (f->state != FLOW_HEAD && f->state != FLOW_BODY)
		return;
	/* Agents do not see trailers: then they do not go on. */
	if (trailers && trailers->n_fields > 0 && !f->ex->tunnel &&
	    !(f->kind->side == SIDE_REQUEST ?
	      f->ex->route->asks_request_body :
	      f->ex->route->asks_response_body)) {
		f->trailers = copy_trailers(f, trailers);
		if (!f->trailers) {
			exchange_no_memory(f->ex);
			return;
		}
	}
	if (f->n_stages > 0)
		f->stages[0].in_end = true;
	else if (f->judged)
		f->ended = true;
	if (LIKELY(f->state == FLOW_BODY && f->sink && is_plain(f)))
		send_end(f);
	else if (f->judged)
		flow_pump(f);
}

/* ---- to the sink ---------------------------------------------------------------- */

/* May some stage change the length of what streams? The config says so, not
 * what happens to be known when the head goes: framing is the same each time. */
static bool may_change_length(const struct flow *f)
{
	for (unsigned i = 0; i < f->n_stages; i++) {
		const struct stage *st = &f->stages[i];

		if (!st->out && st->mode == BODY_STREAM && !stages_whole(f) &&
		    (st->party->agent_config->may_mutate &
		     f->kind->mutate_bit))
			return true;
	}
	return false;
}

/* The proxy owns framing (protocol page 10.6). */
static NOINLINE void set_framing(struct flow *f)
{
	if (may_change_length(f) || (f->mutated && !f->ended)) {
		f->head.framing = HTTP_BODY_CHUNKED;
	} else if (f->mutated) {
		f->head.framing = HTTP_BODY_LENGTH;
		f->head.content_length = f->held.bytes;
	} else {
		return;
	}
	if (f->kind->side == SIDE_RESPONSE)
		edit_drop_validators(&f->head);
}

bool flow_edit(struct exchange *ex, unsigned side, struct http_head *head)
{
	ex->edits[side] = false;
	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct party *p = &ex->parties[i];
		struct op_list *l = p->ops[side];

		if (!l)
			continue;
		p->ops[side] = p->ops_last[side] = NULL;
		p->ops_tail[side] = &p->ops[side];
		for (; l; l = l->next)
			if (!edit_apply(head, l->ops, l->n, &ex->arena))
				return false;
	}
	return true;
}

/* False: the exchange is answered. */
static bool apply_edits(struct flow *f)
{
	if (LIKELY(!f->ex->edits[f->kind->side]))
		return true;
	if (flow_edit(f->ex, f->kind->side, &f->head))
		return true;
	exchange_no_memory(f->ex);
	return false;
}

static void send_head(struct flow *f)
{
	struct exchange *ex = f->ex;

	/* After a retry the head is edited already. */
	if (!ex->sent_us || f->kind->side == SIDE_RESPONSE) {
		if (!apply_edits(f))
			return;
		if (f->has_body && UNLIKELY(f->n_stages))
			set_framing(f);
	}
	flow_set_state(f, FLOW_BODY, "head");
	if (f->kind->side == SIDE_REQUEST) {
		ex->sent_us = ex->worker->loop->now_us;
	} else {
		ex->status = f->head.status;
		f->head.keep_alive = !listener_closing(ex->listener);
	}
	f->sink->ops->head(f->sink, &f->head);
	if (!f->has_body)
		send_end(f);
}

/* An early response waits while a request chunk is in question, so that a
 * block still gets a clean answer. */
static bool head_may_go(struct flow *f)
{
	struct exchange *ex = f->ex;

	if (!f->judged || (f->n_stages && stages_hold(f)))
		return false;
	if (f->kind->side == SIDE_REQUEST) {
		/* Balancing may go by a field that an agent sets. */
		if (!ex->leased && !apply_edits(f))
			return false;
		return exchange_want_upstream(ex);
	}
	return !ex->request.asking;
}

static void send_held(struct flow *f)
{
	struct outq *q = &f->held;

	while (q->first && !f->sink->ops->full(f->sink)) {
		struct oseg *seg = q->first;

		f->sent_bytes += seg->n;
		f->sink->ops->data(f->sink, seg->block, seg->p, seg->n);
		outq_consume(q, seg->n);
	}
	if (f->ended && outq_empty(q))
		send_end(f);
}

static void forward(struct flow *f)
{
	if (f->state == FLOW_HEAD && head_may_go(f))
		send_head(f);
	if (exchange_open(f->ex) && f->state == FLOW_BODY && f->sink)
		send_held(f);
}

/* Is there anything that may still go on? */
static bool goes_on(const struct flow *f)
{
	return exchange_open(f->ex) &&
	       (f->state == FLOW_HEAD || f->state == FLOW_BODY);
}

/* ---- flow control ------------------------------------------------------------------ */

static bool want_pause(const struct flow *f)
{
	if (f->n_stages > 0)
		return stages_full(f);
	if (f->held.bytes >= FLOW_WINDOW)
		return true;
	return f->state == FLOW_BODY && f->sink &&
	       f->sink->ops->full(f->sink);
}

static void control_source(struct flow *f)
{
	bool pause;

	if (!f->source || f->source_ended)
		return;
	pause = want_pause(f);
	if (pause == f->source_paused)
		return;
	f->source_paused = pause;
	if (pause)
		f->source->ops->pause(f->source);
	else
		f->source->ops->resume(f->source);
}

/* Bytes that wait are taken from the budget; what only streams is bounded by
 * its windows and is never refused. */
static void account(struct flow *f)
{
	uint64_t n;

	if (!f->has_body)
		return;
	n = f->held.bytes + stages_bytes(f);
	if (n != f->accounted && !held_account(f, n) && goes_on(f) &&
	    stages_keep(f))
		stages_overload(f);
}

void flow_return_held(struct flow *f)
{
	if (!held_account(f, 0))
		ASSERT(!"giving back cannot fail");
	f->held_for = NULL;
}

/* Agents have their places in the body, or something is held. Out of line: the
 * usual way needs no room for what is done here. */
static NOINLINE void pump_stages(struct flow *f)
{
	struct exchange *ex = f->ex;

	if (f->pumping) {
		f->pump_again = true;
		return;
	}
	f->pumping = true;
	do {
		f->pump_again = false;
		if (f->n_stages > 0 && f->judged && goes_on(f))
			stages_pump(f);
		if (goes_on(f))
			forward(f);
		if (exchange_open(ex))
			account(f);
		if (goes_on(f))
			control_source(f);
	} while (f->pump_again && exchange_open(ex));
	f->pumping = false;
}

void flow_pump(struct flow *f)
{
	if (UNLIKELY(!is_plain(f))) {
		pump_stages(f);
		return;
	}
	if (goes_on(f))
		forward(f);
	if (goes_on(f))
		control_source(f);
}

/* We owe the 100. */
static NOINLINE void send_continue(struct exchange *ex)
{
	struct http_head go_on = { .status = 100 };

	ex->response.sink->ops->head(ex->response.sink, &go_on);
}

void flow_judged(struct flow *f)
{
	struct exchange *ex = f->ex;

	f->judged = true;
	if (LIKELY(!f->has_body || !stages_asked(f))) {
		f->ended = f->source_ended;
	} else if (!stages_init(f)) {
		exchange_no_memory(ex);
		return;
	}
	if (UNLIKELY(ex->expect_ours) && f->kind->side == SIDE_REQUEST &&
	    f->body_bytes == 0)
		send_continue(ex);
	flow_pump(f);
}
