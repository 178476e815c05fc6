/*
 * Sessions and calls: choosing a link, sending, waiting, giving up.
 *
 * A call:	IDLE -> QUEUED -> SENT -> IDLE (on_reply)
 *		   \-> FAILED <-----/      (its task tells, then IDLE)
 *
 * What is counted: an event when it is encoded onto a link; a decision or a
 * failure when it is told; `abandoned` when an event that was sent is
 * withdrawn; `unsent` besides when a failure is told of an event that never
 * went out. So, for heads and chunks,
 *	events = decisions + (failures - unsent) + abandoned + in flight
 * and each failure is told to one who makes it a bypass or a deny. One that
 * only observes does not: its failure is `unheard`, and the event abandoned.
 */
#include "agent/internal.h"

static void call_done(struct agent_call *call)
{
	call->state = CALL_IDLE;
}

/* ---- failing ----------------------------------------------------------- */

void call_count_failure(const struct agent_call *call,
			struct agent_metrics *m, enum cause cause)
{
	if (LIKELY(!call->observed)) {
		counter_inc(&m->failures[cause]);
		if (!call->sent_us)
			counter_inc(&m->unsent);
		return;
	}
	counter_inc(&m->unheard[cause]);
	if (call->sent_us)
		counter_inc(&m->abandoned);
}

static void call_tell_failure(struct task *t)
{
	struct agent_call *call = container_of(t, struct agent_call, task);
	struct agent_session *s = call->session;
	struct agent_metrics *m = agent_local(s->agent, s->loop)->metrics;
	uint64_t now = loop_clock_us(s->loop);
	struct agent_reply reply = {
		.cause = (enum cause)call->fail_cause,
		.us = now - call->queued_us,
		.queue_us = (call->sent_us ? call->sent_us : now) -
			    call->queued_us,
		.text = call->fail_text,
	};

	call_count_failure(call, m, reply.cause);
	breaker_failed(agent_local(s->agent, s->loop), call, reply.cause);
	if (call->sent_us)
		counter_dec(&m->in_flight);
	call_done(call);
	call->on_reply(call, &reply);
}

void call_fail(struct agent_call *call, enum cause cause, const char *text)
{
	deadline_stop(&call->deadline);
	if (list_linked(&call->task.node))
		task_cancel(&call->task);
	call->state = CALL_FAILED;
	call->fail_cause = (uint8_t)cause;
	call->fail_text = text;
	loop_defer(call->session->loop, &call->task, call_tell_failure);
}

/* ---- waiting ----------------------------------------------------------- */

static void call_queued(struct agent_local *l, struct agent_call *call)
{
	call->state = CALL_QUEUED;
	l->n_queued++;
	counter_inc(&l->metrics->queued);
}

/* On its link, until that has room. */
static void call_wait_pinned(struct agent_local *l, struct agent_call *call,
			     struct link *link)
{
	if (l->n_queued >= l->agent->config.queue) {
		call_fail(call, CAUSE_OVERLOAD, "the agent's queue is full");
		return;
	}
	call->bucket = FAIR_NONE;
	cds_list_add_tail(&call->node, &link->waiting);
	call_queued(l, call);
}

static void call_unqueue(struct agent_local *l, struct agent_call *call)
{
	if (call->bucket == FAIR_NONE)
		list_take(&call->node);
	else
		fair_remove(&l->queue, call);
	l->n_queued--;
	counter_dec(&l->metrics->queued);
}

/*
 * For any link. When the queue is full, a route that has less than its share
 * of it takes the place of the newest call of the one that has most.
 */
static void call_wait(struct agent_local *l, struct agent_call *call)
{
	struct agent_call *victim;

	if (l->n_queued >= l->agent->config.queue) {
		victim = fair_victim(&l->queue, call);
		if (!victim) {
			call_fail(call, CAUSE_OVERLOAD,
				  "the agent's queue is full");
			return;
		}
		call_unqueue(l, victim);
		call_fail(victim, CAUSE_OVERLOAD,
			  "the agent's queue is full of this route");
	}
	fair_put(&l->queue, call);
	call_queued(l, call);
}

void local_fail_queue(struct agent_local *l, enum cause cause,
		      const char *text)
{
	struct agent_call *call;

	while ((call = fair_next(&l->queue)) != NULL) {
		call_unqueue(l, call);
		call_fail(call, cause, text);
	}
}

void link_drop_sessions(struct link *link)
{
	struct agent_local *l = link->local;
	struct agent_call *call, *tmp;
	struct agent_session *s, *stmp;

	cds_list_for_each_entry_safe(call, tmp, &link->waiting, node) {
		call_unqueue(l, call);
		call_fail(call, CAUSE_CLOSED, "the link was lost");
	}
	cds_list_for_each_entry_safe(s, stmp, &link->sessions, node) {
		list_take(&s->node);
		s->link = NULL;
		s->lost = true;
		l->n_sessions--;
	}
	link_drop_completes(link);
	lend_link_lost(link);
}

/* ---- sending ----------------------------------------------------------- */

static void session_pin(struct agent_session *s, struct link *link)
{
	s->link = link;
	s->head_given = true;
	cds_list_add_tail(&s->node, &link->sessions);
	link->local->n_sessions++;
}

static const char *const encode_fault_text[] = {
	[WIRE_OK] = "",
	[WIRE_NO_MEMORY] = "out of memory",
	[WIRE_TOO_LARGE] = "the event is too large for a frame",
};

/* Encodes call's event onto link. The call may fail, by its task. */
static void call_send(struct agent_call *call, struct link *link)
{
	struct agent_local *l = link->local;
	const struct event *ev = call->event;
	struct agent_session *s = call->session;
	enum wire_result result = WIRE_NO_MEMORY;
	struct entry *e;

	if (LIKELY(link_put_lazy(link) && fifo_reserve(&link->fifo)))
		result = link_encode(link, ev);
	if (UNLIKELY(result != WIRE_OK)) {
		call_fail(call, result == WIRE_TOO_LARGE ? CAUSE_TOO_LARGE :
			  CAUSE_OVERLOAD, encode_fault_text[result]);
		return;
	}
	call->slot = link->fifo.tail;
	e = fifo_push(&link->fifo);
	e->owner = call;
	link_set_id(link, e, ev->meta);
	e->timeout_ms = call->timeout_ms;
	e->chunk_index = ev->type == EVENT_REQUEST_CHUNK ||
			 ev->type == EVENT_RESPONSE_CHUNK ?
			 ev->chunk.index : 0;
	e->probe = 0;
	e->type = (uint8_t)ev->type;
	e->flags = 0;
	link_watch_entries(link);
	call->state = CALL_SENT;
	call->link = link;
	counter_inc(&l->metrics->events[ev->type]);
	counter_inc(&l->metrics->in_flight);
	counter_inc(&link->instance->in_flight);
	if (LIKELY(call->sent_us == call->queued_us))
		counter_inc(&l->metrics->queue_us.bucket[0]);
	else
		histogram_add(&l->metrics->queue_us,
			      call->sent_us - call->queued_us);
	link->last_used_us = l->loop->now_us;
	if (!s->link)
		session_pin(s, link);
	if (UNLIKELY(link->borrowed))
		loan_send(link, e, call->slot);
}

static void call_send_queued(struct agent_call *call, struct link *link)
{
	struct agent_local *l = link->local;

	call_unqueue(l, call);
	call->sent_us = loop_clock_us(l->loop);
	call_send(call, link);
	if (call->state != CALL_SENT)
		call->sent_us = 0;
}

void local_serve(struct agent_local *l)
{
	struct link *link;

	while (!fair_empty(&l->queue) && !local_is_full(l)) {
		link = local_pick_link(l);
		if (!link)
			break;
		call_send_queued(fair_next(&l->queue), link);
	}
}

static bool call_is_held(const struct agent_call *call)
{
	return call->session->paused &&
	       (call->event->type == EVENT_REQUEST_CHUNK ||
		call->event->type == EVENT_RESPONSE_CHUNK);
}

static struct agent_call *link_next_waiting(struct link *link)
{
	struct agent_call *call;

	cds_list_for_each_entry(call, &link->waiting, node)
		if (LIKELY(!call_is_held(call)))
			return call;
	return NULL;
}

/* Events of other workers take turns with those of this one. */
static void link_serve_strangers(struct link *link)
{
	struct agent_local *l = link->local;
	struct agent_call *call;

	while (lend_serve(link)) {
		if (!link_has_room(link))
			return;
		call = link_next_waiting(link);
		if (!call && !local_is_full(l) && !link->paused)
			call = fair_next(&l->queue);
		if (call)
			call_send_queued(call, link);
	}
}

void link_serve(struct link *link)
{
	struct agent_local *l = link->local;
	struct agent_call *call;

	if (link->n_late)
		link_send_late(link);
	if (UNLIKELY(!cds_list_empty(&link->strangers)) &&
	    link->state == LINK_UP)
		link_serve_strangers(link);
	while (link->state == LINK_UP && link_has_room(link) &&
	       (call = link_next_waiting(link)) != NULL)
		call_send_queued(call, link);
	if (UNLIKELY(!fair_empty(&l->queue)))
		local_serve(l);
}

/* ---- giving up --------------------------------------------------------- */

bool link_send_cancel(struct link *link, const struct event_meta *meta,
		      enum wire_cancel why, uint64_t wall_us)
{
	struct outq *q = &link->stream.out;

	link_sent_mute(link);
	switch (link->format.dialect) {
	case WIRE_V2:
		return wire_encode_cancel(q, meta->correlation_id, why,
					  wall_us / 1000);
	case WIRE_GO:
		return wire_encode_go_cancel(q, meta->go_request_id, why);
	case WIRE_V1:
		break;
	}
	return false;
}

/* The call is cut from its entry, which becomes a tombstone; the agent is told.
 * Counts stay the caller's. The link may be lost by it. */
static void call_cut(struct agent_call *call, enum wire_cancel why)
{
	struct link *link = call->link;
	struct loop *loop = call->session->loop;

	counter_dec(&link->instance->in_flight);
	if (UNLIKELY(link->borrowed))
		loan_cancel(link, call->slot, why);
	else if (link_send_cancel(link, call->session->meta, why,
				  loop->wall_us))
		stream_flush_later(&link->stream);
	call->link = NULL;
	link_bury(link, fifo_at(&link->fifo, call->slot));
}

static void call_time_out(struct task *t)
{
	struct agent_call *call = container_of(t, struct agent_call, task);
	struct link *link = call->link;

	call_fail(call, (enum cause)call->timeout_cause,
		  "no answer within the time-out");
	call_cut(call, WIRE_CANCEL_TIMEOUT);
	/* By order alone nobody knows what the next reply would answer. */
	if (link->state == LINK_UP && link->no_ids)
		link_lost(link, CAUSE_CLOSED, RETRY_SOON,
			  "an event without an id was not answered in time");
}

static void on_call_deadline(struct deadline *d)
{
	struct agent_call *call = container_of(d, struct agent_call, deadline);
	struct agent_local *l = agent_local(call->session->agent,
					    call->session->loop);
	struct link *link = call->link;

	if (call->state == CALL_QUEUED) {
		call_unqueue(l, call);
		/* A first link is waited for, and may take longer than that:
		 * it is the link that is missing then, no answer is late. */
		call_fail(call, !l->n_up ? CAUSE_CONNECT :
			  (enum cause)call->timeout_cause,
			  "the time-out was over before there was a link");
		return;
	}
	ASSERT(call->state == CALL_SENT);
	/*
	 * The answer may stand in the socket. If so, on_read comes as a task
	 * of this turn, before the one that is put here.
	 */
	if (link->polled_us != l->loop->now_us && !link->borrowed) {
		link->polled_us = l->loop->now_us;
		if (stream_poll(&link->stream))
			log_debug("late_poll", "agent=%s",
				  l->agent->config.name);
	}
	loop_defer(l->loop, &call->task, call_time_out);
}

void agent_withdraw(struct agent_call *call, enum wire_cancel why)
{
	struct agent_local *l;

	if (call->state == CALL_IDLE)
		return;
	l = agent_local(call->session->agent, call->session->loop);
	deadline_stop(&call->deadline);
	if (list_linked(&call->task.node))
		task_cancel(&call->task);
	if (call->state == CALL_QUEUED)
		call_unqueue(l, call);
	if (call->sent_us) {
		counter_dec(&l->metrics->in_flight);
		counter_inc(&l->metrics->abandoned);
	}
	if (call->state == CALL_SENT)
		call_cut(call, why);
	breaker_withdrawn(l, call);
	call_done(call);
}

/* ---- asking ------------------------------------------------------------ */

void agent_session_init(struct agent_session *s, struct agent *a,
			struct loop *loop, const struct event_meta *meta)
{
	memset(s, 0, sizeof(*s));
	s->agent = a;
	s->loop = loop;
	s->meta = meta;
}

static void ask_head(struct agent_local *l, struct agent_call *call)
{
	struct link *link = NULL;

	if (LIKELY(fair_empty(&l->queue) && !local_is_full(l)))
		link = local_pick_link(l);
	if (LIKELY(link != NULL)) {
		call->sent_us = call->queued_us;
		call_send(call, link);
		if (UNLIKELY(call->state != CALL_SENT))
			call->sent_us = 0;
		return;
	}
	if (l->n_up == 0 && l->loop->now_us >= l->grace_until_us) {
		call_fail(call, CAUSE_CONNECT, "no link to the agent");
		return;
	}
	call_wait(l, call);
	local_open_extra(l);
}

static void ask_pinned(struct agent_local *l, struct agent_call *call)
{
	struct link *link = call->session->link;

	if (!link_has_room(link) || UNLIKELY(call_is_held(call)) ||
	    (!cds_list_empty(&link->waiting) && !link->n_held)) {
		call_wait_pinned(l, call, link);
		return;
	}
	call->sent_us = call->queued_us;
	call_send(call, link);
	if (UNLIKELY(call->state != CALL_SENT))
		call->sent_us = 0;
}

/* The agent, or all of its instances, may not be asked now: says why. */
static NOINLINE const char *
ask_refused(struct agent_local *l, struct agent_call *call, unsigned gate,
	    uint64_t timeout_us)
{
	if (gate & GATE_INSTANCE)
		timeout_us = health_stretch(l, call->session->link,
					    timeout_us);
	if ((gate & GATE_BREAKER) && !breaker_admits(l, call, timeout_us))
		return "the breaker is open";
	if ((gate & GATE_INSTANCE) && !call->session->link)
		return health_refuses(l);
	return NULL;
}

/* A degraded instance may have more time, up to what the exchange has left. */
static NOINLINE uint64_t
ask_stretched(struct agent_local *l, struct agent_call *call,
	      uint64_t timeout_us)
{
	uint64_t us = health_stretch(l, call->session->link, timeout_us);

	if (call->timeout_cause != CAUSE_TIMEOUT)
		return timeout_us;
	if (call->most_us && us > call->most_us) {
		us = call->most_us;
		call->timeout_cause = CAUSE_BUDGET;
	}
	call->timeout_ms = saturated_ms(us);
	if (call->state == CALL_SENT)
		fifo_at(&call->link->fifo, call->slot)->timeout_ms =
			call->timeout_ms;
	return us;
}

void agent_ask(struct agent_call *call, struct agent_session *s,
	       const struct event *event, uint64_t timeout_us,
	       enum cause timeout_cause, agent_reply_fn *on_reply)
{
	struct agent_local *l = agent_local(s->agent, s->loop);
	unsigned gate = agent_gate(s->agent);
	const char *refused;

	ASSERT(call->state == CALL_IDLE);
	call->session = s;
	call->event = event;
	call->on_reply = on_reply;
	call->timeout_cause = (uint8_t)timeout_cause;
	call->timeout_ms = saturated_ms(timeout_us);
	call->queued_us = loop_clock_us(s->loop);
	call->sent_us = 0;
	call->trial = false;
	if (UNLIKELY(!l->loop))
		call_fail(call, CAUSE_UNAVAILABLE, "the agent was removed");
	else if (UNLIKELY(timeout_us == 0))
		call_fail(call, timeout_cause, "no time was left to ask");
	else if (UNLIKELY(s->lost))
		call_fail(call, CAUSE_CLOSED,
			  "the link that had the request was lost");
	else if (UNLIKELY(gate) &&
		 (refused = ask_refused(l, call, gate, timeout_us)) != NULL)
		call_fail(call, CAUSE_UNAVAILABLE, refused);
	else if (s->link)
		ask_pinned(l, call);
	else if (event->type == EVENT_REQUEST_HEAD)
		ask_head(l, call);
	else
		call_fail(call, CAUSE_UNAVAILABLE,
			  "the agent was not given the request");
	if (call->state == CALL_FAILED)
		return;
	if (UNLIKELY(gate & GATE_INSTANCE))
		timeout_us = ask_stretched(l, call, timeout_us);
	deadline_start(s->loop, &call->deadline, timeout_us, on_call_deadline);
}
