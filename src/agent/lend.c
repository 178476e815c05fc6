/* The worker that owns the connection, and sends what others have for it; see
 * errand.h. */
#include "agent/errand.h"

#define LATE_MAX		1024u	/* completes that wait on a link */
#define UNSENT_MAX		1024u	/* the oldest of more is forgotten */
#define STOPPED_MAX		256u	/* the same */

/* An exchange whose head was given up before it went out: the agent has never
 * heard of it, and the borrower has sent, or will, more about it. */
struct unsent {
	struct cds_list_head node;
	struct entry id;
};

static bool is_lent_to(const struct link *link, const struct loop *home)
{
	const struct lent *lent;

	cds_list_for_each_entry(lent, &link->lent, node)
		if (lent->loan->home == home)
			return true;
	return false;
}

/* Who has one already gets what is idle, and no link twice. */
static bool can_be_spared(struct link *link, const struct loan *loan)
{
	return link_has_room(link) && cds_list_empty(&link->strangers) &&
	       !is_lent_to(link, loan->home);
}

static struct link *find_lendable(const struct agent_local *l,
				  const struct loan *loan)
{
	struct link *best = NULL;

	for (unsigned i = 0; i < l->n_up; i++) {
		struct link *link = l->up[i];

		/* One that has no part of what the agent takes has no room. */
		if (!link->borrowed && link->full_depth &&
		    (!loan->more || can_be_spared(link, loan)) &&
		    (!best || link->n_lent < best->n_lent))
			best = link;
	}
	return best;
}

void lend_on_attach(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, post);
	struct hub_slot *s = &loan->hub->slot[loop->index];
	struct link *link = s->local ? find_lendable(s->local, loan) : NULL;
	struct lent *lent = link ? mem_zalloc(sizeof(*lent)) : NULL;

	if (lent) {
		lent->loan = loan;
		lent->link = link;
		CDS_INIT_LIST_HEAD(&lent->errands);
		CDS_INIT_LIST_HEAD(&lent->unsent);
		cds_list_add_tail(&lent->node, &link->lent);
		link->n_lent++;
		__atomic_add_fetch(&s->lent, 1, __ATOMIC_RELAXED);
		loan->format = link->format;
		loan->chunk_size = link->chunk_size;
		loan->max_body = link->max_body;
	}
	loan->lent = lent;
	loop_post(loan->home, &loan->post, borrow_on_attached);
}

static void unsent_free(struct lent *lent, struct unsent *u)
{
	cds_list_del(&u->node);
	lent->n_unsent--;
	mem_free(u);
}

static struct unsent *find_unsent(const struct lent *lent,
				  const struct entry *id)
{
	bool go = lent->link->format.dialect == WIRE_GO;
	struct unsent *u;

	cds_list_for_each_entry(u, &lent->unsent, node)
		if (go ? u->id.go_id == id->go_id :
			 memcmp(u->id.id, id->id, EVENT_ID_LEN) == 0)
			return u;
	return NULL;
}

/* Without memory the agent hears of the end of something it does not know. */
static void note_unsent(struct lent *lent, const struct errand *e)
{
	struct unsent *u;

	if (e->entry.type != EVENT_REQUEST_HEAD)
		return;
	if (lent->n_unsent >= UNSENT_MAX)
		unsent_free(lent, cds_list_first_entry(&lent->unsent,
						       struct unsent, node));
	u = mem_zalloc(sizeof(*u));
	if (!u)
		return;
	u->id = e->entry;
	cds_list_add_tail(&u->node, &lent->unsent);
	lent->n_unsent++;
}

/* Back to where it came from; exactly once. */
static void errand_return(struct errand *e, enum cause cause, const char *text)
{
	if (list_linked(&e->wait))
		list_take(&e->wait);
	if (list_linked(&e->node))
		list_take(&e->node);
	if (e->kind != ERRAND_EVENT) {
		errand_free(e);
		return;
	}
	e->cause = cause;
	e->text = text;
	loop_post(e->loan->home, &e->post, borrow_on_errand_back);
}

void lend_failed(struct link *link, struct agent_call *call, enum cause cause,
		 const char *text)
{
	struct errand *e = container_of(call, struct errand, call);

	link->n_strange--;
	errand_return(e, cause, text);
}

void lend_answered(struct link *link, struct agent_call *call,
		   struct slice payload)
{
	struct errand *e = container_of(call, struct errand, call);

	link->n_strange--;
	if (payload.p && payload.n > e->size) {
		char *bytes = mem_realloc(e->bytes, payload.n);

		if (bytes) {
			e->bytes = bytes;
			e->size = payload.n;
		}
	}
	if (!payload.p || payload.n > e->size) {
		errand_return(e, CAUSE_OVERLOAD, "out of memory for a reply");
		return;
	}
	e->n = payload.n;
	memcpy(e->bytes, payload.p, payload.n);
	errand_return(e, CAUSE_NONE, NULL);
}

/* Into the connection, and into its FIFO. The link may be lost by it. */
static void lend_send(struct link *link, struct errand *e)
{
	struct entry *entry;

	if (!link_put_lazy(link) || !fifo_reserve(&link->fifo) ||
	    !outq_copy(&link->stream.out, e->bytes, e->n)) {
		if (e->kind == ERRAND_COMPLETE)
			link_lost(link, CAUSE_CLOSED, RETRY_SOON,
				  "out of memory");
		else
			note_unsent(e->lent, e);
		errand_return(e, CAUSE_OVERLOAD, "out of memory");
		return;
	}
	stream_flush_later(&link->stream);
	link->last_used_us = link->local->loop->now_us;
	if (e->kind == ERRAND_COMPLETE) {
		entry = link_push_complete(link);
		if (entry)
			memcpy(entry->id, e->entry.id, sizeof(entry->id));
		errand_return(e, CAUSE_NONE, NULL);
		return;
	}
	e->call.lent = true;
	e->call.slot = link->fifo.tail;
	e->call.link = link;
	entry = fifo_push(&link->fifo);
	*entry = e->entry;
	entry->owner = &e->call;
	link->n_strange++;
	link_watch_entries(link);
}

/* ---- what waits ----------------------------------------------------------- */

static unsigned find_stopped(const struct link *link, const char *id)
{
	unsigned i = 0;

	while (i < link->n_stopped &&
	       memcmp(link->stopped[i], id, EVENT_ID_LEN) != 0)
		i++;
	return i;
}

/* Whose it is nobody here knows: that of an exchange which has nothing to say
 * does no harm. Without memory it is as if the agent had not asked for it. */
void lend_pause(struct link *link, const char *id, bool pause)
{
	unsigned i = find_stopped(link, id);

	if (i < link->n_stopped && !pause)
		memmove(link->stopped + i, link->stopped + i + 1,
			(--link->n_stopped - i) * sizeof(*link->stopped));
	if (i < link->n_stopped || !pause || !link->n_lent)
		return;
	if (!link->stopped)
		link->stopped = mem_alloc(STOPPED_MAX *
					  sizeof(*link->stopped));
	if (!link->stopped)
		return;
	if (link->n_stopped == STOPPED_MAX)
		memmove(link->stopped, link->stopped + 1,
			--link->n_stopped * sizeof(*link->stopped));
	memcpy(link->stopped[link->n_stopped++], id, EVENT_ID_LEN);
}

static bool is_stopped(const struct link *link, const struct errand *e)
{
	return link->n_stopped && link->format.dialect == WIRE_V2 &&
	       (e->entry.type == EVENT_REQUEST_CHUNK ||
		e->entry.type == EVENT_RESPONSE_CHUNK) &&
	       find_stopped(link, e->entry.id) < link->n_stopped;
}

static bool must_wait(const struct link *link, const struct errand *e)
{
	if (e->kind == ERRAND_COMPLETE)
		return link->depth == 1 && !link_has_room(link);
	return !link_has_room(link) || is_stopped(link, e) ||
	       (link->paused && e->entry.type == EVENT_REQUEST_HEAD);
}

/* The agent has asked for less: not all that waits does so for want of room. */
static bool is_held_back(const struct link *link)
{
	return link->paused || link->n_stopped;
}

/* In order; but what waits until the agent wants it is in nobody's way. */
static struct errand *next_stranger(const struct link *link)
{
	struct errand *e;

	cds_list_for_each_entry(e, &link->strangers, wait) {
		if (!must_wait(link, e))
			return e;
		if (!is_held_back(link) || !link_has_room(link))
			break;
	}
	return NULL;
}

bool lend_serve(struct link *link)
{
	struct errand *e = next_stranger(link);

	if (!e)
		return false;
	list_take(&e->wait);
	if (e->kind == ERRAND_COMPLETE)
		link->n_strange_late--;
	lend_send(link, e);
	return link->state == LINK_UP;
}

static void lend_keep(struct link *link, struct errand *e)
{
	cds_list_add_tail(&e->wait, &link->strangers);
	if (e->kind != ERRAND_COMPLETE)
		return;
	if (++link->n_strange_late > LATE_MAX)
		link_lost(link, CAUSE_CLOSED, RETRY_SOON,
			  "too much waits for the agent");
}

static struct errand *find_event(const struct lent *lent, uint32_t slot)
{
	struct errand *e;

	cds_list_for_each_entry(e, &lent->errands, node)
		if (e->slot == slot)
			return e;
	return NULL;
}

/* The entry becomes a tombstone of ours. The link may be lost by it. */
static void lend_bury(struct link *link, struct errand *e,
		      enum wire_cancel why)
{
	struct entry *entry = fifo_at(&link->fifo, e->call.slot);
	struct event_meta meta = { .go_request_id = 0 };

	if (link->format.dialect == WIRE_GO)
		meta.go_request_id = entry->go_id;
	else
		memcpy(meta.correlation_id, entry->id, EVENT_ID_LEN);
	if (link_send_cancel(link, &meta, why, link->local->loop->wall_us))
		stream_flush_later(&link->stream);
	link->n_strange--;
	errand_return(e, CAUSE_CLOSED, "");
	link_bury(link, entry);
	if (link->state == LINK_UP && link->no_ids)
		link_lost(link, CAUSE_CLOSED, RETRY_SOON,
			  "an event without an id was not answered in time");
}

static void lend_cancel(struct lent *lent, uint32_t slot, enum wire_cancel why)
{
	struct errand *e = lent->link ? find_event(lent, slot) : NULL;

	if (!e)
		return;		/* it is on its way back */
	if (!list_linked(&e->wait)) {
		lend_bury(lent->link, e, why);
		return;
	}
	note_unsent(lent, e);
	errand_return(e, CAUSE_CLOSED, "");
}

/* More about an exchange that the agent was never given? Its end is all of
 * it. */
static bool is_of_unsent(struct lent *lent, struct errand *e)
{
	struct unsent *u = lent->n_unsent ? find_unsent(lent, &e->entry) : NULL;

	if (!u)
		return false;
	if (e->kind == ERRAND_COMPLETE)
		unsent_free(lent, u);
	errand_return(e, CAUSE_UNAVAILABLE,
		      "the agent was not given the request");
	return true;
}

void lend_on_errand(struct loop *loop, struct post *p)
{
	struct errand *e = container_of(p, struct errand, post);
	struct lent *lent = e->lent;
	struct link *link = lent->link;

	e->node.next = e->wait.next = NULL;
	if (e->kind == ERRAND_CANCEL) {
		lend_cancel(lent, e->slot, e->why);
		errand_free(e);
		return;
	}
	if (!link) {
		errand_return(e, CAUSE_CLOSED, "the link was lost");
		return;
	}
	if (is_of_unsent(lent, e))
		return;
	if (e->kind == ERRAND_EVENT)
		cds_list_add_tail(&e->node, &lent->errands);
	else if (link->n_stopped)
		lend_pause(link, e->entry.id, false);
	if (cds_list_empty(&link->strangers) && !must_wait(link, e)) {
		lend_send(link, e);
		return;
	}
	lend_keep(link, e);
	if (link->state == LINK_UP && is_held_back(link))
		(void)lend_serve(link);
}

static void lent_cut(struct lent *lent)
{
	list_take(&lent->node);
	lent->link->n_lent--;
	lent->link = NULL;
}

void lend_flush_completes(struct link *link)
{
	struct errand *e;

	cds_list_for_each_entry(e, &link->strangers, wait)
		if (e->kind == ERRAND_COMPLETE &&
		    !outq_copy(&link->stream.out, e->bytes, e->n))
			return;
}

void lend_link_lost(struct link *link)
{
	struct errand *e, *etmp;
	struct lent *lent, *tmp;

	cds_list_for_each_entry_safe(e, etmp, &link->strangers, wait)
		errand_return(e, CAUSE_CLOSED, "the link was lost");
	link->n_strange_late = 0;
	cds_list_for_each_entry_safe(lent, tmp, &link->lent, node) {
		lent_cut(lent);
		loop_post(lent->loan->home, &lent->loan->lost, borrow_on_lost);
	}
}

void lend_on_detach(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, post);
	struct lent *lent = loan->lent;
	struct link *link = lent->link;

	/* Burying may lose the link; that returns the rest. */
	while (!cds_list_empty(&lent->errands)) {
		struct errand *e = cds_list_first_entry(&lent->errands,
							struct errand, node);

		if (list_linked(&e->wait))
			errand_return(e, CAUSE_CLOSED, "");
		else
			lend_bury(link, e, WIRE_CANCEL_SHUTDOWN);
	}
	while (lent->n_unsent)
		unsent_free(lent, cds_list_first_entry(&lent->unsent,
						       struct unsent, node));
	if (lent->link)
		lent_cut(lent);
	mem_free(lent);
	__atomic_sub_fetch(&loan->hub->slot[loop->index].lent, 1,
			   __ATOMIC_RELAXED);
	loop_post(loan->home, &loan->post, borrow_on_detached);
}
