/* What comes in over a link: frames, and which event a reply answers. */
#include "agent/internal.h"

/* The entry was taken out; the call is told its decision. */
static void reply_deliver(struct link *link, struct agent_call *call,
			  uint8_t type, const struct decision *d,
			  enum decision_fault fault)
{
	struct agent_metrics *m = link->local->metrics;
	uint64_t now = loop_clock_us(link->local->loop);
	struct agent_reply reply = {
		.us = now - call->queued_us,
		.queue_us = call->sent_us - call->queued_us,
	};

	/* go-v2 has an id in every reply. */
	bool readable = d->id_kind != DECISION_ID_EMPTY &&
			(d->id_kind == DECISION_ID_PRESENT ||
			 link->format.dialect != WIRE_GO);

	deadline_stop(&call->deadline);
	if (UNLIKELY(list_linked(&call->task.node)))
		task_cancel(&call->task);
	call->link = NULL;
	call->state = CALL_IDLE;
	counter_dec(&m->in_flight);
	counter_dec(&link->instance->in_flight);
	if (LIKELY(fault == DECISION_OK && readable)) {
		reply.decision = d;
		reply.block = link->stream.in;
		counter_inc(&m->decisions[type][d->kind]);
		if (UNLIKELY(d->n_ops_dropped))
			counter_add(&m->ops_dropped, d->n_ops_dropped);
		histogram_add(&m->event_us[type], reply.us);
		breaker_succeeded(link->local, call);
	} else if (fault == DECISION_OK) {
		reply.cause = CAUSE_UNREADABLE;
		reply.text = "the agent could not read the event";
	} else {
		reply.cause = fault == DECISION_NO_MEMORY ? CAUSE_OVERLOAD :
			      CAUSE_PROTOCOL;
		reply.refused = fault == DECISION_REFUSED;
		reply.text = fault == DECISION_NO_MEMORY ? "out of memory" :
			     d->fault_text ? d->fault_text :
			     "the reply cannot be applied";
	}
	if (UNLIKELY(reply.cause)) {
		call_count_failure(call, m, reply.cause);
		breaker_failed(link->local, call, reply.cause);
	}
	call->on_reply(call, &reply);
}

/* The same of go-v2, and of v1, where there is nothing but the order. */
static struct entry *match_dialect(struct link *link, const struct decision *d,
				   struct entry *head, const char **why)
{
	bool wants_decision = head->type != EVENT_COMPLETE &&
			      head->type != EVENT_CONFIGURE;
	bool has_id = d->id_kind == DECISION_ID_PRESENT;
	struct entry *e = head;

	if (link->format.dialect == WIRE_V1) {
		if (!d->ack || !wants_decision)
			return e;
		*why = "an acknowledgement where a decision was due";
		return NULL;
	}
	if (UNLIKELY(link->questions)) {
		if (!has_id && link_question_unknown(link))
			return NULL;
		if (has_id)
			link_question_skipped(link);
	}
	if (has_id && head->go_id != d->go_id) {
		e = fifo_find_go(&link->fifo, d->go_id);
		if (e)
			link->unordered = true;
		else
			*why = "a reply with an unknown id";
	} else if (!has_id && link->unordered) {
		*why = "a reply without an id on a link out of order";
		e = NULL;
	}
	return e;
}

/*
 * Which entry a reply belongs to (protocol page 8.2). NULL: counting is lost,
 * *why says how; without a why it is no event's, and harmless.
 */
static struct entry *reply_match(struct link *link, const struct decision *d,
				 const char **why)
{
	struct fifo *f = &link->fifo;
	struct entry *e = fifo_head(f);

	if (!e) {
		if (!link->questions || d->id_kind == DECISION_ID_PRESENT ||
		    !link_question_unknown(link))
			*why = "a reply that nobody asked for";
		return NULL;
	}
	if (UNLIKELY(link->format.dialect != WIRE_V2))
		return match_dialect(link, d, e, why);
	if (LIKELY(d->id_kind == DECISION_ID_PRESENT)) {
		if (UNLIKELY(d->id.n != EVENT_ID_LEN))
			e = NULL;
		else if (UNLIKELY(memcmp(d->id.p, e->id, EVENT_ID_LEN) != 0))
			e = fifo_find(f, d->id.p);
		if (!e)
			*why = "a reply with an unknown id";
		else if (e != fifo_at(f, f->head))
			link->unordered = true;
		return e;
	}
	if (link->unordered) {
		*why = "a reply without an id on a link out of order";
		return NULL;
	}
	if (UNLIKELY(link->borrowed)) {
		e = loan_entry(link);
		if (!e)
			*why = "a reply that nobody asked for";
	}
	return e;
}

static void reply_learn(struct link *link, const struct entry *e,
			const struct decision *d, enum decision_fault fault)
{
	struct agent_local *l = link->local;

	link->backoff = 0;
	link->last_reply_us = l->loop->now_us;
	if (link->format.dialect != WIRE_V2)
		;	/* its depth is open from the start */
	else if (d->id_kind == DECISION_ID_PRESENT && !link->no_ids) {
		link->depth = link->full_depth;
		link->opened = true;
	} else if (d->id_kind == DECISION_ID_MISSING && fault == DECISION_OK) {
		link->no_ids = true;
		link->opened = false;
		link->depth = 1;
	}
	if (e->type == EVENT_COMPLETE &&
	    UNLIKELY(__atomic_load_n(&l->agent->complete_known,
				     __ATOMIC_RELAXED) == COMPLETE_UNKNOWN))
		__atomic_store_n(&l->agent->complete_known, COMPLETE_ANSWERED,
				 __ATOMIC_RELAXED);
}

/* A reply that answers nothing may be one to a request-complete, from an agent
 * that was thought to be silent about those: find out anew. */
static void reply_unlearn(struct agent *a)
{
	if (a->config.complete == COMPLETE_AUTO &&
	    __atomic_load_n(&a->complete_known, __ATOMIC_RELAXED) ==
	    COMPLETE_SILENT)
		__atomic_store_n(&a->complete_known, COMPLETE_UNKNOWN,
				 __ATOMIC_RELAXED);
}

static struct recall *recall_of(struct link *link, const struct entry *head)
{
	struct recall **r = &link->recall[head->type];

	if (UNLIKELY(!*r))
		*r = recall_new(&link->local->loop->arenas);
	return *r;
}

/* What the reply means if it is the oldest event's, and one seen before. */
static const struct decision *reply_known(struct link *link,
					  const struct entry *head,
					  struct slice payload)
{
	const struct decision *d = NULL;
	struct recall *r;

	if (UNLIKELY(!head || link->format.dialect != WIRE_V2))
		return NULL;
	/* Most say the same to whatever comes. */
	r = link->recall[EVENT_REQUEST_HEAD];
	if (LIKELY(r))
		d = recall_find(r, payload, head->id);
	if (LIKELY(d || head->type == EVENT_REQUEST_HEAD))
		return d;
	r = link->recall[head->type];
	return r ? recall_find(r, payload, head->id) : NULL;
}

/* Which event it answers is known only by its id, so nothing is checked against
 * an event yet. */
static enum decision_fault reply_read(struct link *link, struct slice payload,
				      struct decision *room)
{
	struct entry *head = fifo_head(&link->fifo);
	bool v2 = link->format.dialect == WIRE_V2;
	struct recall *r = head && v2 ? recall_of(link, head) : NULL;
	enum decision_fault fault;

	if (r)
		recall_see(r, payload);
	fault = wire_decode_reply((char *)payload.p, payload.n, &link->format,
				  NULL, &link->scratch, room);
	if (r && fault == DECISION_OK)
		recall_learn(r, &link->format, room);
	return fault;
}

/* A tombstone has got its reply; or the complete of the same exchange has, for
 * the id is the same, and the agent had dropped the other event. */
static void reply_doubt(struct link *link, const struct entry *tomb)
{
	struct entry *e = NULL;

	if (link->format.dialect == WIRE_V2)
		e = fifo_find(&link->fifo, tomb->id);
	if (e && e->type == EVENT_COMPLETE)
		e->flags |= ENTRY_DOUBT;
}

/* As it came: reading writes into it. .p NULL: no memory. */
static struct slice keep_raw(struct link *link, struct slice payload)
{
	char *copy = arena_alloc(&link->scratch, payload.n + 1);

	if (copy)
		memcpy(copy, payload.p, payload.n);
	return slice_of(copy, payload.n);
}

/* The entry is the reply's. False: the link is lost, or was closed from inside
 * the callback. */
static inline __attribute__((always_inline)) bool
reply_take(struct link *link, struct entry *found, const struct decision *d,
	   enum decision_fault fault, struct slice raw)
{
	struct agent_call *call = found->owner;
	uint8_t type = found->type;

	reply_learn(link, found, d, fault);
	fifo_remove(&link->fifo, found);
	link_update_stalled(link);
	if (UNLIKELY(link->format.dialect == WIRE_V1))
		link_v1_answered(link, found->v1_bytes);
	if (UNLIKELY(type == EVENT_CONFIGURE)) {
		if (!link_configured(link, d, fault))
			return false;
	} else if (call && UNLIKELY(call->lent)) {
		lend_answered(link, call, raw);
	} else if (call) {
		struct wire_expect expect = {
			.type = (enum event_type)type,
			.chunk_index = found->chunk_index,
		};

		if (fault == DECISION_OK &&
		    wire_check_reply(d, &expect) != DECISION_OK)
			fault = d->kind == DECISION_ALLOW ? DECISION_BAD :
							    DECISION_REFUSED;
		reply_deliver(link, call, type, d, fault);
	} else if ((found->flags & ENTRY_TOMB) && type != EVENT_COMPLETE) {
		counter_inc(&link->local->metrics->late_replies);
		link->was_late = true;
		reply_doubt(link, found);
	}
	/* The last of what it owed. The callback may have closed the link. */
	if (UNLIKELY(link->was_late) && !link->fifo.n && link->local) {
		link->was_late = false;
		breaker_sign_of_life(link->local);
	}
	return link->state == LINK_UP;
}

/* One that was not seen before, or is not the oldest event's. */
static NOINLINE bool reply_take_new(struct link *link,
						     struct slice payload)
{
	struct slice raw = SLICE_NONE;
	const char *why = NULL;
	enum decision_fault fault;
	struct decision d;
	struct entry *found;
	bool up = true;

	if (UNLIKELY(link->n_strange))
		raw = keep_raw(link, payload);
	fault = reply_read(link, payload, &d);
	found = reply_match(link, &d, &why);
	if (LIKELY(found)) {
		up = reply_take(link, found, &d, fault, raw);
	} else if (why) {
		reply_unlearn(link->local->agent);
		link_lost(link, CAUSE_PROTOCOL, RETRY_BACKOFF, why);
		return false;
	}
	arena_reset(&link->scratch);
	return up;
}

bool link_on_reply(struct link *link, struct slice payload)
{
	struct entry *head = fifo_head(&link->fifo);
	const struct decision *d = reply_known(link, head, payload);

	if (UNLIKELY(!d))
		return reply_take_new(link, payload);
	/* Nobody else's: what was remembered was read here. */
	return reply_take(link, head, d, DECISION_OK,
			  UNLIKELY(link->n_strange) ? payload : SLICE_NONE);
}

/* False: the link is lost. */
static bool link_on_frame(struct link *link, uint8_t type,
			  struct slice payload)
{
	if (UNLIKELY(link->state == LINK_HANDSHAKE))
		return link_accept(link, type, payload);
	if (LIKELY(type == FRAME_REPLY))
		return link_on_reply(link, payload);
	switch (link->format.dialect == WIRE_GO ? type | 0x100 : type) {
	case FRAME_PONG:
	case FRAME_GO_PONG | 0x100:
		link->last_reply_us = link->local->loop->now_us;
		link_pong(link, payload);
		return true;
	case FRAME_HEALTH:
	case FRAME_METRICS:
	case FRAME_CONFIG_UPDATE:
	case FRAME_FLOW_CONTROL:
		link_on_control(link, type, payload);
		return true;
	case FRAME_GO_HEALTH | 0x100:
	case FRAME_GO_METRICS | 0x100:
		link_question_answered(link);
		link_on_control(link, type, payload);
		return true;
	}
	link_lost(link, CAUSE_PROTOCOL, RETRY_BACKOFF,
		  "a frame of a type that an agent may not send");
	return false;
}

static void on_partial_timeout(struct deadline *d)
{
	struct link *link = container_of(d, struct link, partial);

	link_lost(link, CAUSE_PROTOCOL, RETRY_BACKOFF,
		  "half a frame and then nothing");
}

/* A frame has begun, or has not, when all that came was read. */
static void link_watch_partial(struct link *link)
{
	struct agent_local *l = link->local;

	if (UNLIKELY(stream_data(&link->stream).n))
		deadline_start(l->loop, &link->partial,
			       l->agent->tuning.frame_us, on_partial_timeout);
	else if (UNLIKELY(deadline_running(&link->partial)))
		deadline_stop(&link->partial);
}

static enum frame_result link_next_frame(const struct link *link,
					 struct slice data, uint8_t *type,
					 struct slice *payload, size_t *used)
{
	*type = FRAME_REPLY;
	return UNLIKELY(link->format.dialect == WIRE_V1) ?
		frame_read_v1(data.p, data.n, link->max_frame, payload, used) :
		frame_read(data.p, data.n, link->max_frame, type, payload,
			   used);
}

/* All whole frames that are there. False: the link is lost. */
static bool link_read_frames(struct link *link)
{
	struct stream *s = &link->stream;
	struct slice data, payload;
	size_t used;
	uint8_t type;

	while ((data = stream_data(s)).n) {
		link->got_bytes = true;
		switch (link_next_frame(link, data, &type, &payload, &used)) {
		case FRAME_OK:
			if (!link_on_frame(link, type, payload))
				return false;
			stream_consume(s, used);
			break;
		case FRAME_MORE:
			if (stream_need(s, used))
				return true;
			link_lost(link, CAUSE_PROTOCOL, RETRY_BACKOFF,
				  "out of memory for a reply");
			return false;
		case FRAME_BAD_LENGTH:
			link_lost(link, CAUSE_PROTOCOL, RETRY_BACKOFF,
				  "a frame of illegal length");
			return false;
		}
	}
	return true;
}

static const char *end_text(const struct link *link)
{
	if (link->state == LINK_CONFIGURE)
		return "the agent closed the link when it got its config";
	if (link->state != LINK_HANDSHAKE)
		return "the agent closed the link";
	if (link->got_bytes)
		return "the agent closed the link inside the handshake";
	return "the agent closed the link without a byte: it may speak v1";
}

/* False: the link is lost. */
static bool link_read(struct link *link)
{
	bool shook = link->state != LINK_UP;

	if (!link_read_frames(link))
		return false;
	if (link->stream.read_end != STREAM_READING) {
		link_lost(link, CAUSE_CLOSED,
			  shook ? RETRY_BACKOFF : RETRY_SOON, end_text(link));
		return false;
	}
	link_watch_partial(link);
	link_serve(link);
	if (link_is_answered(link))
		stream_is_answered(&link->stream);
	return true;
}

void link_on_read(struct stream *s)
{
	struct link *link = container_of(s, struct link, stream);

	(void)link_read(link);
}

void link_on_room(struct stream *s)
{
	struct link *link = container_of(s, struct link, stream);

	if (UNLIKELY(link->v1_held.bytes))
		link_v1_flush(link);
}

void link_on_write_error(struct stream *s)
{
	struct link *link = container_of(s, struct link, stream);
	bool shook = link->state != LINK_UP;

	/* Replies that it sent before it went are still good. */
	if (stream_poll(s) || stream_data(s).n) {
		if (!link_read(link))
			return;
	}
	link_lost(link, CAUSE_CLOSED, shook ? RETRY_BACKOFF : RETRY_SOON,
		  "the agent closed the link");
}
