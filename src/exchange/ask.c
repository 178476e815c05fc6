/*
 * Asking: heads go to all agents at once, and what answers and failures mean
 * for the exchange. Who is asked about chunks, and when, is in stage.c.
 */
#include <inttypes.h>

#include "exchange/exchange.h"
#include "policy/edit.h"
#include "policy/outcome.h"

#define SLOW_LINE_US	100000u

/* ---- time ---------------------------------------------------------------------- */

static uint64_t left_of(uint64_t budget_us, uint64_t spent_us)
{
	if (budget_us == 0)
		return UINT64_MAX;
	return spent_us < budget_us ? budget_us - spent_us : 0;
}

uint64_t ask_timeout(struct party *p, enum event_type type,
		     struct agent_call *call)
{
	const struct config_agent_timeouts *t = &p->config->timeouts;
	struct exchange *ex = p->ex;
	bool chunk = type == EVENT_REQUEST_CHUNK ||
		     type == EVENT_RESPONSE_CHUNK;
	uint64_t timeout_us = chunk ? t->body_us : t->head_us;
	uint64_t spent_us = ex->agents_us;
	uint64_t left_us;

	if (ex->asks)
		spent_us += ex->worker->loop->now_us - ex->asks_since_us;
	left_us = min_u64(left_of(ex->route->config->budget_us, spent_us),
			  left_of(t->budget_us, p->spent_us));
	call->most_us = left_us ? left_us : 1;
	call->timeout_cause = CAUSE_TIMEOUT;
	if (left_us < timeout_us) {
		call->timeout_cause = CAUSE_BUDGET;
		timeout_us = left_us;
	}
	return timeout_us ? timeout_us : 1;
}

void ask_begin(struct exchange *ex)
{
	if (ex->asks++ == 0)
		ex->asks_since_us = ex->worker->loop->now_us;
}

/* One line in SLOW_LINE_US, and how many were left out since. */
static void say_slow(struct exchange *ex, const struct party *p,
		     enum event_type type, const struct agent_reply *reply)
{
	struct worker *w = ex->worker;

	if (w->loop->now_us < w->slow_next_us) {
		w->slow_unsaid++;
		return;
	}
	w->slow_next_us = w->loop->now_us + SLOW_LINE_US;
	log_warn("agent_slow", "agent=%s event=%s correlation_id=%.*s us=%"
		 PRIu64 " queue_us=%" PRIu64 " cause=%s unsaid=%u",
		 p->agent_config->name, event_names[type], EVENT_ID_LEN,
		 ex->meta.correlation_id, reply->us, reply->queue_us,
		 reply->cause ? cause_names[reply->cause] : "none",
		 w->slow_unsaid);
	w->slow_unsaid = 0;
}

void ask_end(struct exchange *ex, struct party *p, enum event_type type,
	     const struct agent_reply *reply)
{
	/* Of the snapshot: an agent is kept over reloads that change it. */
	uint64_t slow_us = p->config->agent->slow_us;

	if (UNLIKELY(slow_us && reply->us > slow_us))
		say_slow(ex, p, type, reply);
	p->spent_us += reply->us;
	ASSERT(ex->asks > 0);
	if (--ex->asks == 0)
		ex->agents_us += ex->worker->loop->now_us - ex->asks_since_us;
}

/* ---- the log's view --------------------------------------------------------------- */

struct record_agent *ask_record(struct party *p, enum event_type type)
{
	struct record_agent *r = p->record[type];

	if (r)
		return r;
	r = arena_zalloc(&p->ex->arena, sizeof(*r));
	if (!r)
		return NULL;
	r->name = p->agent_config->name;
	r->event = type;
	p->record[type] = r;
	return r;
}

static size_t slices_size(const struct slice *s, unsigned n)
{
	size_t size = n * sizeof(*s);

	for (unsigned i = 0; i < n; i++)
		size += s[i].n;
	return size;
}

/* Copies n slices to *array and their bytes to *text, and moves both on. */
static const struct slice *put_slices(struct slice **array, char **text,
				      const struct slice *from, unsigned n)
{
	struct slice *to = *array;

	for (unsigned i = 0; i < n; i++) {
		to[i] = slice_of(*text, from[i].n);
		if (from[i].n)
			memcpy(*text, from[i].p, from[i].n);
		*text += from[i].n;
	}
	*array += n;
	return to;
}

/* Of several chunks the last audit stays, in the room of the one before: a body
 * of many chunks costs no more than one. */
static void note_audit(struct party *p, struct record_agent *r,
		       const struct audit *audit)
{
	struct arena *a = &p->ex->arena;
	struct audit_room *room;
	unsigned n = audit->n_tags + audit->n_rules + audit->n_reasons;
	size_t size = slices_size(audit->tags, audit->n_tags) +
		slices_size(audit->rules, audit->n_rules) +
		slices_size(audit->reasons, audit->n_reasons);
	struct slice *array;
	char *text;

	if (n == 0)
		return;
	if (!p->audit)
		p->audit = arena_zalloc(a, (EVENT_RESPONSE_CHUNK + 1) *
					   sizeof(*p->audit));
	if (!p->audit)
		return;
	room = &p->audit[r->event];
	if (size > room->size) {
		size += room->size;
		text = arena_alloc(a, size);
		if (!text)
			return;
		*room = (struct audit_room){ text, size };
	}
	array = (struct slice *)(void *)room->p;
	text = room->p + n * sizeof(*array);
	r->n_tags = audit->n_tags;
	r->n_rules = audit->n_rules;
	r->n_reasons = audit->n_reasons;
	r->tags = put_slices(&array, &text, audit->tags, r->n_tags);
	r->rules = put_slices(&array, &text, audit->rules, r->n_rules);
	r->reasons = put_slices(&array, &text, audit->reasons, r->n_reasons);
}

void ask_note(struct party *p, enum event_type type, enum verdict verdict,
	      enum cause cause, const struct agent_reply *reply)
{
	struct record_agent *r;

	if (!access_log_wants(p->ex->worker->shared->access))
		return;
	r = ask_record(p, type);
	if (!r)
		return;
	/* Of several chunks the one that was not allowed is what counts, and
	 * what ended it more than what was let pass. */
	if (r->verdict == VERDICT_ALLOW ||
	    (r->verdict == VERDICT_FAIL_ALLOW && verdict != VERDICT_ALLOW)) {
		r->verdict = verdict;
		r->cause = cause;
	}
	r->chunks++;
	if (!reply)
		return;
	r->us += reply->us;
	r->queue_us += reply->queue_us;
	if (!reply->decision)
		return;
	if (verdict == VERDICT_BLOCK || verdict == VERDICT_REDIRECT)
		r->status = reply->decision->status;
	note_audit(p, r, &reply->decision->audit);
}

/* ---- failures ------------------------------------------------------------------------ */

static bool response_begun(const struct exchange *ex)
{
	return ex->status != 0;
}

/* Counts and notes what a failure comes to. */
static struct outcome take_outcome(struct party *p, enum event_type type,
				   const struct agent_reply *reply)
{
	struct exchange *ex = p->ex;
	enum cause cause = reply->cause;
	struct outcome o = outcome_of(cause, type, &p->config->on_failure,
				      p->agent_config->deny_status,
				      reply->refused, response_begun(ex));

	if (o.action == OUTCOME_ALLOW) {
		counter_inc(&p->metrics->bypass[cause]);
		ex->bypass = true;
	} else {
		counter_inc(&p->metrics->denied[cause]);
	}
	ask_note(p, type, o.action == OUTCOME_ALLOW ? VERDICT_FAIL_ALLOW :
		 VERDICT_FAIL_DENY, cause, reply);
	log_debug("agent_failed", "id=%.*s agent=%s event=%s cause=%s text=\"%s\"",
		  EVENT_ID_LEN, ex->meta.correlation_id,
		  p->agent_config->name, event_names[type],
		  cause_names[cause],
		  reply->text ? reply->text : "");
	return o;
}

void ask_recount(struct party *p, enum event_type type,
		 const struct decision *d)
{
	counter_dec(&p->metrics->decisions[type][d->kind]);
	counter_inc(&p->metrics->failures[CAUSE_PROTOCOL]);
}

/* For comparing with what observers would have done. */
static void note_refused(struct party *p, enum event_type type)
{
	p->ex->decided_by = p->agent_config->name;
	p->ex->refused = true;
	p->ex->refused_at = (uint8_t)type;
}

bool ask_failed(struct party *p, struct flow *f, enum event_type type,
		const struct agent_reply *reply)
{
	struct exchange *ex = f->ex;
	enum cause cause = reply->cause;
	struct outcome o = take_outcome(p, type, reply);

	switch (o.action) {
	case OUTCOME_ALLOW:
		return true;
	case OUTCOME_DENY:
		note_refused(p, type);
		answer_error(ex, o.status, ENDED_AGENT, cause_names[cause]);
		return false;
	case OUTCOME_CUT:
		note_refused(p, type);
		answer_cut(ex, ENDED_AGENT, cause_names[cause]);
		return false;
	}
	return false;
}

/* ---- decisions ------------------------------------------------------------------------- */

static bool same_names(const struct op_list *l, const struct header_op *ops,
		       unsigned n)
{
	if (!l || l->n != n)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (ops[i].kind == HEADER_ADD || l->ops[i].kind != ops[i].kind ||
		    !slice_eq_icase(l->ops[i].name, ops[i].name))
			return false;
	return true;
}

static bool keep_value(struct arena *a, struct header_op *to,
		       struct slice value)
{
	if (value.n > to->value.n) {
		to->value = arena_dup(a, value);
		return to->value.p != NULL;
	}
	if (value.n)
		memcpy((char *)to->value.p, value.p, value.n);
	to->value.n = value.n;
	return true;
}

/* A list that sets or removes what the one before it did takes its place, for an
 * agent may say the same with each of a million chunks. */
static bool replace_ops(struct arena *a, struct op_list *l,
			const struct header_op *ops)
{
	for (unsigned i = 0; i < l->n; i++)
		if (!keep_value(a, &l->ops[i], ops[i].value))
			return false;
	return true;
}

static bool append_ops(struct party *p, unsigned side,
		       const struct header_op *ops, unsigned n)
{
	struct arena *a = &p->ex->arena;
	struct op_list *l = arena_zalloc(a, sizeof(*l));
	struct header_op *copy = arena_alloc(a, n * sizeof(*copy));

	if (!l || !copy)
		return false;
	for (unsigned i = 0; i < n; i++) {
		copy[i].kind = ops[i].kind;
		copy[i].name = arena_dup(a, ops[i].name);
		copy[i].value = arena_dup(a, ops[i].value);
		if (!copy[i].name.p || (ops[i].value.n && !copy[i].value.p))
			return false;
	}
	l->ops = copy;
	l->n = n;
	p->ex->edits[side] = true;
	*p->ops_tail[side] = l;
	p->ops_tail[side] = &l->next;
	p->ops_last[side] = l;
	return true;
}

/* False: too much, which is the agent's fault; or answered, for want of
 * memory. */
static bool keep_ops(struct party *p, unsigned side,
		     const struct header_op *ops, unsigned n)
{
	struct op_list *last = p->ops_last[side];
	bool same = same_names(last, ops, n);
	size_t size = 0;
	bool ok;

	for (unsigned i = 0; i < n; i++)
		size += same ? (ops[i].value.n > last->ops[i].value.n ?
				ops[i].value.n : 0) :
			sizeof(*ops) + ops[i].name.n + ops[i].value.n;
	if (size > OPS_KEPT_MAX - p->ops_bytes[side])
		return false;
	p->ops_bytes[side] += (uint32_t)size;
	ok = same ? replace_ops(&p->ex->arena, last, ops) :
		    append_ops(p, side, ops, n);
	if (!ok)
		exchange_no_memory(p->ex);
	return ok;
}

/* An agent may name the route's own upstream, or one that the route lists.
 * NULL: none of these. */
static struct upstream *find_upstream(const struct exchange *ex,
				      struct slice name)
{
	const struct config_route *r = ex->route->config;

	if (!r->upstream)
		return NULL;
	if (slice_eq(name, slice_str(r->upstream->name)))
		return ex->route->upstream;
	for (unsigned i = 0; i < r->n_agent_upstreams; i++) {
		const struct config_upstream *u = r->agent_upstreams[i];

		if (slice_eq(name, slice_str(u->name)))
			return ex->snapshot->upstreams[u->index];
	}
	return NULL;
}

bool ask_take_ops(struct party *p, struct flow *f, const struct decision *d)
{
	struct exchange *ex = p->ex;
	bool request_held = ex->request.state == FLOW_HEAD &&
			    f == &ex->request;
	bool response_held = ex->response.state <= FLOW_HEAD;
	unsigned n = 0;

	if (!edit_request_ops_valid(d->request_ops, d->n_request_ops))
		return false;
	if (d->n_request_ops && request_held)
		n = forward_drop_foreign(ex->snapshot->config,
					 p->config->agent, d->request_ops,
					 d->n_request_ops);
	if (n < d->n_request_ops)
		counter_add(&p->metrics->ops_dropped, d->n_request_ops - n);
	if (n && !keep_ops(p, SIDE_REQUEST, d->request_ops, n))
		return false;
	if (d->n_response_ops && !response_held)
		counter_add(&p->metrics->ops_dropped, d->n_response_ops);
	else if (d->n_response_ops &&
		 !keep_ops(p, SIDE_RESPONSE, d->response_ops,
			   d->n_response_ops))
		return false;
	return true;
}

void ask_refuse(struct party *p, struct flow *f, enum event_type type,
		const struct decision *d)
{
	struct exchange *ex = f->ex;

	note_refused(p, type);
	if (response_begun(ex))
		answer_cut(ex, ENDED_AGENT, verdict_names[d->kind]);
	else
		answer_decision(ex, p, d);
}

static NOINLINE struct slice arena_decimal(struct arena *a, uint64_t v)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	return arena_dup(a, slice_of(p, (size_t)(text + sizeof(text) - p)));
}

/* ---- heads -------------------------------------------------------------------------------- */

static struct flow *flow_of(struct exchange *ex, enum event_type type)
{
	return type == EVENT_REQUEST_HEAD ? &ex->request : &ex->response;
}

static bool gets_body(const struct party *p, const struct flow *f)
{
	return f->has_body && (f->kind->side == SIDE_REQUEST ?
			       p->config->request_body != BODY_NONE :
			       p->config->response_body != BODY_NONE);
}

static NOINLINE void
head_failed(struct flow *f, struct party *p, enum event_type type,
	    const struct agent_reply *reply)
{
	struct merge_slot *slot = &f->slots[p - f->ex->parties];
	struct outcome o = take_outcome(p, type, reply);

	if (o.action == OUTCOME_ALLOW) {
		slot->state = MERGE_FAILED_OPEN;
		stages_leave_out(p);
		return;
	}
	slot->state = MERGE_REFUSED;
	p->fail_status = o.status;
	p->fail_cause = reply->cause;
}

/* An answer that could be read but not be applied. */
static NOINLINE void
head_misfit(struct flow *f, struct party *p, enum event_type type,
	    const struct agent_reply *reply)
{
	struct agent_reply failure = *reply;

	ask_recount(p, type, reply->decision);
	failure.cause = CAUSE_PROTOCOL;
	failure.decision = NULL;
	failure.refused = reply->decision->kind != DECISION_ALLOW;
	head_failed(f, p, type, &failure);
}

static void head_decided(struct flow *f, struct party *p,
			 enum event_type type, const struct agent_reply *reply)
{
	struct exchange *ex = f->ex;
	struct merge_slot *slot = &f->slots[p - ex->parties];
	const struct decision *d = reply->decision;
	bool more = d->needs_more && gets_body(p, f);
	struct upstream *chosen = NULL;

	if (d->kind != DECISION_ALLOW && !more) {
		p->decision = arena_alloc(&ex->arena, sizeof(*p->decision));
		if (!p->decision ||
		    !decision_dup(p->decision, d, &ex->arena)) {
			exchange_no_memory(ex);
			return;
		}
		slot->state = MERGE_REFUSED;
		ask_note(p, type, (enum verdict)d->kind, CAUSE_NONE, reply);
		return;
	}
	if (d->upstream.n > 0 && type == EVENT_REQUEST_HEAD) {
		chosen = find_upstream(ex, d->upstream);
		if (!chosen) {
			head_misfit(f, p, type, reply);
			return;
		}
	}
	if (UNLIKELY(d->n_request_ops || d->n_response_ops) &&
	    !ask_take_ops(p, f, d)) {
		if (exchange_open(ex) && !ex->answered)
			head_misfit(f, p, type, reply);
		return;
	}
	if (chosen) {
		p->upstream = chosen;
		ex->rerouted = true;
	}
	slot->state = MERGE_ALLOWED;
	slot->needs_more = more;
	p->needs_more[f->kind->side] = more;
	ask_note(p, type, VERDICT_ALLOW, CAUSE_NONE, reply);
}

/* Like edits, in the agents' order, whichever answered first. */
static void take_upstream(struct exchange *ex)
{
	for (unsigned i = 0; i < ex->n_parties; i++)
		if (ex->parties[i].upstream)
			ex->upstream = ex->parties[i].upstream;
}

/* What the answers so far come to. */
static void merge_heads(struct flow *f)
{
	struct exchange *ex = f->ex;
	struct merge m = merge_answers(f->slots, ex->n_parties);
	struct party *p;

	switch (m.result) {
	case MERGE_WAIT:
		return;
	case MERGE_ALLOW:
		if (f == &ex->request && UNLIKELY(ex->rerouted))
			take_upstream(ex);
		flow_judged(f);
		return;
	case MERGE_DECIDED:
		p = &ex->parties[m.index];
		if (p->decision) {
			ask_refuse(p, f, f->kind->head_event, p->decision);
			return;
		}
		note_refused(p, f->kind->head_event);
		answer_error(ex, p->fail_status, ENDED_AGENT,
			     cause_names[p->fail_cause]);
		return;
	}
}

static void on_head_reply(struct agent_call *call,
			  const struct agent_reply *reply)
{
	struct party *p = container_of(call, struct party, head_call);
	enum event_type type = call->event->type;
	struct exchange *ex = p->ex;
	struct flow *f = flow_of(ex, type);

	ASSERT(exchange_open(ex));
	f->heads_pending--;
	ask_end(ex, p, type, reply);
	if (reply->cause != CAUSE_NONE)
		head_failed(f, p, type, reply);
	else
		head_decided(f, p, type, reply);
	if (exchange_open(ex) && !ex->answered)
		merge_heads(f);
}

/*
 * The fields as agents see them. Content-Length is a fact of the head and not
 * one of its fields; agents expect to see it, so it stands behind the last one
 * for the event alone.
 */
static bool list_fields(struct flow *f, struct event_head *ev)
{
	struct http_head *h = &f->head;
	struct field *fields = h->fields;
	struct slice text;

	ev->fields = fields;
	ev->n_fields = h->n_fields;
	ev->n_own = 0;
	if (h->framing != HTTP_BODY_LENGTH)
		return true;
	if (h->n_fields == h->cap_fields) {
		fields = arena_alloc(&f->ex->arena,
				     (h->n_fields + 1) * sizeof(*fields));
		if (!fields)
			return false;
		memcpy(fields, h->fields, h->n_fields * sizeof(*fields));
		ev->fields = fields;
	}
	text = arena_decimal(&f->ex->arena, h->content_length);
	if (!text.p)
		return false;
	fields[h->n_fields] = (struct field){
		.name = "content-length",
		.name_len = sizeof("content-length") - 1,
		.value = text.p,
		.value_len = (uint32_t)text.n,
		.id = HTTP_FIELD_CONTENT_LENGTH,
		.flags = FIELD_LOWER,
	};
	ev->n_fields++;
	return true;
}

static bool fill_head_event(struct flow *f)
{
	struct event *ev = &f->head_event;
	const struct http_head *h = &f->head;

	ev->type = f->kind->head_event;
	ev->meta = &f->ex->meta;
	ev->head.method = h->method;
	ev->head.uri = h->path;
	ev->head.status = h->status;
	ev->head.has_body = f->has_body;
	if (!list_fields(f, &ev->head))
		return false;
	/* Content-Length stands behind them. */
	if (f->kind->side == SIDE_REQUEST && ev->head.n_fields == h->n_fields)
		ev->head.n_own = f->ex->n_own;
	return true;
}

static bool is_asked(const struct party *p, const struct flow *f)
{
	if (p->out)
		return false;
	return f->kind->side == SIDE_REQUEST || p->config->response_head;
}

void ask_head(struct flow *f)
{
	struct exchange *ex = f->ex;

	f->slots = LIKELY(ex->n_parties <= FLOW_FEW) ? f->few_slots :
		arena_zalloc(&ex->arena, ex->n_parties * sizeof(*f->slots));
	if (!f->slots || !fill_head_event(f)) {
		exchange_no_memory(ex);
		return;
	}
	for (unsigned i = 0; i < ex->n_parties; i++) {
		struct party *p = &ex->parties[i];
		uint64_t timeout_us;

		if (!is_asked(p, f)) {
			f->slots[i].state = MERGE_SKIPPED;
			observe_head(f, p);
			continue;
		}
		timeout_us = ask_timeout(p, f->kind->head_event,
					 &p->head_call);
		f->heads_pending++;
		ask_begin(ex);
		agent_ask(&p->head_call, &p->session, &f->head_event,
			  timeout_us,
			  (enum cause)p->head_call.timeout_cause,
			  on_head_reply);
	}
	if (f->heads_pending == 0)
		flow_judged(f);
}
