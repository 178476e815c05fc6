/*
 * Request-complete: tells an agent that an exchange is over (protocol page
 * 5.6). Nobody waits for the answer, so it waits for company: it goes with the
 * next event on its link, just before that. A send and two wake-ups less, of
 * which there are three for a whole exchange else. `complete_wait` bounds it,
 * and the links' own regular look at what they have finds those that nothing
 * came for, so that there is no timer.
 */
#include "agent/internal.h"
#include "base/mem.h"

#define LATE_MAX	1024u

/* ---- sending ----------------------------------------------------------- */

static struct event complete_event(const struct event_meta *meta,
				   const struct event_complete *complete)
{
	return (struct event){
		.type = EVENT_COMPLETE,
		.meta = meta,
		.complete = *complete,
	};
}

struct entry *link_push_complete(struct link *link)
{
	struct agent_local *l = link->local;
	struct agent *a = l->agent;
	uint8_t known = __atomic_load_n(&a->complete_known, __ATOMIC_RELAXED);
	struct entry *e;

	/* go-v2 never answers it. */
	if (known == COMPLETE_SILENT || link->format.dialect == WIRE_GO) {
		link_sent_mute(link);
		return NULL;
	}
	e = fifo_push(&link->fifo);
	e->owner = NULL;
	e->tomb_us = l->loop->now_us + a->tuning.complete_us;
	e->timeout_ms = saturated_ms(a->tuning.complete_us);
	e->chunk_index = 0;
	e->probe = 0;
	e->type = EVENT_COMPLETE;
	e->flags = 0;
	if (UNLIKELY(known == COMPLETE_UNKNOWN))
		link_send_ping(link, &e->probe);
	link_watch_entries(link);
	return e;
}

/* Encodes it behind what is queued. False: no memory. */
static bool complete_put(struct link *link, const struct event *ev)
{
	struct entry *e;

	if (!fifo_reserve(&link->fifo) ||
	    link_encode(link, ev) != WIRE_OK)
		return false;
	counter_inc(&link->local->metrics->events[EVENT_COMPLETE]);
	e = link_push_complete(link);
	if (LIKELY(e))
		link_set_id(link, e, ev->meta);
	return true;
}

static void complete_send(struct link *link, const struct event *ev)
{
	if (UNLIKELY(link->format.dialect == WIRE_GO &&
		     !link->local->agent->config.go_release))
		return;
	if (UNLIKELY(link->borrowed))
		loan_complete(link, ev);
	else if (!link_put_lazy(link) || !complete_put(link, ev))
		/* The agent would keep the exchange for ever. */
		link_lost(link, CAUSE_CLOSED, RETRY_SOON, "out of memory");
}

/* ---- waiting for company ------------------------------------------------ */

static struct event lazy_event(const struct lazy_complete *z,
			       struct event_meta *meta)
{
	memcpy(meta->correlation_id, z->id, EVENT_ID_LEN);
	meta->go_request_id = z->go_id;
	return (struct event){
		.type = EVENT_COMPLETE,
		.meta = meta,
		.complete = {
			.status = z->status,
			.duration_ms = z->duration_ms,
			.request_body_size = z->request_body_size,
			.response_body_size = z->response_body_size,
			.upstream_attempts = z->upstream_attempts,
		},
	};
}

bool link_put_lazy_slow(struct link *link)
{
	unsigned done = 0;

	while (done < link->n_lazy) {
		struct event_meta meta;	/* but for its ids nobody looks */
		struct event ev = lazy_event(&link->lazy[done], &meta);

		if (!complete_put(link, &ev))
			break;
		done++;
	}
	link->n_lazy -= done;
	if (LIKELY(!link->n_lazy))
		return true;
	memmove(link->lazy, link->lazy + done,
		link->n_lazy * sizeof(link->lazy[0]));
	return false;
}

void link_flush_lazy(struct link *link)
{
	if (!link_put_lazy(link))
		log_debug("link_lazy", "agent=%s error=\"out of memory\"",
			  link->local->agent->config.name);
}

void link_check_lazy(struct link *link)
{
	const struct agent_tuning *t = &link->local->agent->tuning;
	uint64_t next_us = link->local->loop->now_us + t->check_us;

	/* The next look would be too late. */
	if (next_us - link->lazy_since_us > t->lazy_us)
		link_flush_lazy(link);
}

/* Not while it takes room that others may need, nor if the agent is going, nor
 * if a ping has to show that it answers such a thing at all. */
static bool complete_may_wait(const struct link *link,
			      const struct event_complete *c)
{
	const struct agent *a = link->local->agent;

	return link->n_lazy < link->lazy_max &&
	       link->fifo.n + link->n_lazy < link->depth / 2 &&
	       LIKELY(!link->paused && !c->error.n && !agent_gate(a)) &&
	       (LIKELY(__atomic_load_n(&a->complete_known, __ATOMIC_RELAXED) !=
		       COMPLETE_UNKNOWN) ||
		link->format.dialect == WIRE_GO);
}

static void lazy_add(struct link *link, const struct event_meta *meta,
		     const struct event_complete *c)
{
	struct lazy_complete *z = &link->lazy[link->n_lazy];

	if (!link->n_lazy++)
		link->lazy_since_us = link->local->loop->now_us;
	memcpy(z->id, meta->correlation_id, EVENT_ID_LEN);
	z->go_id = meta->go_request_id;
	z->request_body_size = c->request_body_size;
	z->response_body_size = c->response_body_size;
	z->duration_ms = (uint32_t)min_u64(c->duration_ms, UINT32_MAX);
	z->status = c->status;
	z->upstream_attempts =
		(uint16_t)min_u64(c->upstream_attempts, UINT16_MAX);
	link_watch_entries(link);
}

/* ---- waiting for room --------------------------------------------------- */

/* The link takes one event at a time and has one: keep it for later. */
static void late_add(struct link *link, const struct event *ev)
{
	struct late_complete *late = NULL;

	if (link->n_late < LATE_MAX)
		late = mem_zalloc(sizeof(*late));
	if (!late) {
		link_lost(link, CAUSE_CLOSED, RETRY_SOON,
			  "too much waits for the agent");
		return;
	}
	memcpy(late->meta.correlation_id, ev->meta->correlation_id,
	       EVENT_ID_LEN);
	late->meta.go_request_id = ev->meta->go_request_id;
	late->complete = ev->complete;
	late->complete.error.n = min_size(ev->complete.error.n,
					  sizeof(late->error));
	if (late->complete.error.n)
		memcpy(late->error, ev->complete.error.p,
		       late->complete.error.n);
	late->complete.error.p = late->error;
	cds_list_add_tail(&late->node, &link->late);
	link->n_late++;
}

void link_send_late(struct link *link)
{
	while (link->n_late && link_has_room(link)) {
		struct late_complete *late =
			cds_list_first_entry(&link->late, struct late_complete,
					     node);
		struct event ev = complete_event(&late->meta, &late->complete);

		cds_list_del(&late->node);
		link->n_late--;
		complete_send(link, &ev);
		mem_free(late);
		if (link->state != LINK_UP)
			return;
	}
}

void link_drop_completes(struct link *link)
{
	struct late_complete *late, *tmp;

	cds_list_for_each_entry_safe(late, tmp, &link->late, node) {
		cds_list_del(&late->node);
		mem_free(late);
	}
	link->n_late = link->n_lazy = 0;
}

void link_flush_completes(struct link *link)
{
	struct late_complete *late;
	unsigned transcoded = 0;

	/* v1: an event is held back that they would overtake. */
	if (link->v1_held.bytes || !link_put_lazy(link))
		return;
	cds_list_for_each_entry(late, &link->late, node) {
		struct event ev = complete_event(&late->meta, &late->complete);

		if (wire_encode_event(&link->stream.out, &link->format, &ev,
				      &transcoded) != WIRE_OK)
			return;
		counter_inc(&link->local->metrics->events[EVENT_COMPLETE]);
	}
	lend_flush_completes(link);
}

/* ---- the end of an exchange --------------------------------------------- */

static void complete_now(struct link *link, const struct event_meta *meta,
			 const struct event_complete *complete)
{
	struct event ev = complete_event(meta, complete);

	if (UNLIKELY(!link_has_room(link)) &&
	    (link->depth == 1 || link->format.dialect == WIRE_V1) &&
	    link->format.dialect != WIRE_GO && !link->borrowed)
		late_add(link, &ev);
	else
		complete_send(link, &ev);
}

void agent_session_end(struct agent_session *s,
		       const struct event_complete *complete)
{
	struct link *link = s->link;
	struct agent_local *l;

	s->lost = true;		/* nothing more is asked */
	if (!link)
		return;
	l = link->local;
	list_take(&s->node);
	s->link = NULL;
	l->n_sessions--;
	if (UNLIKELY(s->paused))
		link->n_held--;
	if (LIKELY(complete_may_wait(link, complete)))
		lazy_add(link, s->meta, complete);
	else
		complete_now(link, s->meta, complete);
	/* One less below max_concurrency. */
	if (l->max_sessions && !fair_empty(&l->queue))
		local_serve(l);
}
