/*
 * Agents that dial in: how a worker that has no link of one asks over another
 * one's (hub.c knows who has some).
 *
 * A worker without a link borrows one. What it has then looks like any other
 * link, with sessions and a FIFO of its own, but instead of a stream there is
 * another worker behind it, which owns the connection:
 *
 *	borrower			lender
 *	local_borrow	--attach-->	on_attach: struct lent on its link
 *	on_attached	<----------
 *	loan_send	--errand-->	on_errand: into the connection and its
 *	on_errand_back	<-payload--	FIFO; the reply goes back as it came
 *	loan_end	--detach-->	on_detach: what is under way is buried
 *	on_detached	<----------	(nothing of the lender follows it)
 *
 * Everything that counts (events, decisions, failures, time-outs) is the
 * borrower's. The lender's FIFO has an entry for each event, owned by the
 * errand's call: it finds the reply that belongs to it, by order or id, as for
 * its own. An errand goes back exactly once: with a reply, or without.
 *
 * Each post is one thread's until it is posted and the other's after. Who made
 * a struct frees it, after the last post that names it: a loan when `detached`
 * has come back, a lent when `detach` has come; the loop's queue keeps the
 * order of each poster. So no count is shared and no lock taken. None of them
 * points to the agent, which may be gone before the last post is read: they
 * find a worker's part of it by the hub, which is counted.
 */
#include "agent/hub.h"
#include "base/mem.h"

#define BORROW_RETRY_US		20000u
#define RETIRED_US		100000u
#define SPARE_MAX		32u	/* errands kept by a loan */
#define LATE_MAX		1024u	/* completes that wait on a link */
#define UNSENT_MAX		1024u	/* the oldest of more is forgotten */

enum loan_state { LOAN_ATTACHING, LOAN_UP, LOAN_DETACHING };

struct errand;

/* The borrower's, but for what a post says. */
struct loan {
	struct post post, lost;
	struct hub *hub;
	struct loop *home, *away;
	struct link *link;		/* borrowed; NULL: has no use for it */
	struct lent *lent;		/* the lender's; NULL: refused */
	struct wire_format format;	/* the lent link's, as those below */
	uint32_t chunk_size;
	uint64_t max_body;
	struct errand *loaded;		/* encoded, not sent yet */
	struct errand *spare;
	unsigned n_spare;
	enum loan_state state;
};

/* The lender's. */
struct lent {
	struct cds_list_head node;	/* in link->lent */
	struct cds_list_head errands;	/* events that were not answered */
	struct cds_list_head unsent;	/* struct unsent */
	unsigned n_unsent;
	struct loan *loan;
	struct link *link;		/* NULL: lost */
};

/* An exchange whose head was given up before it went out: the agent has never
 * heard of it, and the borrower has sent, or will, more about it. */
struct unsent {
	struct cds_list_head node;
	struct entry id;
};

enum errand_kind { ERRAND_EVENT, ERRAND_COMPLETE, ERRAND_CANCEL };

struct errand {
	struct post post;
	enum errand_kind kind;
	struct loan *loan;
	struct lent *lent;
	uint32_t slot;			/* in the borrower's FIFO */
	enum wire_cancel why;
	struct entry entry;		/* as it stands there */
	/* A frame, or the reply's payload. */
	char *bytes;
	size_t n, size;
	/* The lender's. */
	struct agent_call call;		/* owns the entry in its FIFO */
	struct cds_list_head node;	/* in lent->errands */
	struct cds_list_head wait;	/* in link->strangers */
	/* What came of it; cause NONE: bytes are a reply's. */
	enum cause cause;
	const char *text;
	struct errand *next;		/* spare */
};

/* ---- the borrower: one link ---------------------------------------------- */

static void errand_free(struct errand *e)
{
	if (e)
		mem_free(e->bytes);
	mem_free(e);
}

static void loan_free(struct loan *loan)
{
	struct errand *e;

	while ((e = loan->spare) != NULL) {
		loan->spare = e->next;
		errand_free(e);
	}
	errand_free(loan->loaded);
	hub_put(loan->hub);
	mem_free(loan);
}

static void on_borrow_again(struct deadline *d)
{
	local_borrow(container_of(d, struct agent_local, borrow));
}

static void borrow_later(struct agent_local *l)
{
	deadline_start(l->loop, &l->borrow, BORROW_RETRY_US, on_borrow_again);
}

static void on_detached(struct loop *loop, struct post *p)
{
	loan_free(container_of(p, struct loan, post));
}

static void on_detach(struct loop *loop, struct post *p);

static void loan_detach(struct loan *loan)
{
	loan->state = LOAN_DETACHING;
	loop_post(loan->away, &loan->post, on_detach);
}

void loan_end(struct link *link)
{
	struct loan *loan = link->loan;

	if (!loan)
		return;
	link->loan = NULL;
	loan->link = NULL;
	/* Else on_attached() finds that nobody wants it. */
	if (loan->state == LOAN_UP)
		loan_detach(loan);
}

static void on_attached(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, post);
	struct link *link = loan->link;

	if (!loan->lent) {
		if (link) {
			link->loan = NULL;
			link_set_state(link, LINK_DOWN);
			borrow_later(link->local);
		}
		loan_free(loan);
		return;
	}
	loan->state = LOAN_UP;
	if (!link) {
		loan_detach(loan);
		return;
	}
	link->format = loan->format;
	link->chunk_size = loan->chunk_size;
	link->max_body = loan->max_body;
	link->depth = link->full_depth = link->local->agent->config.depth;
	link->opened = true;
	link->unordered = link->no_ids = false;
	link->last_reply_us = link->last_used_us = loop->now_us;
	link_set_state(link, LINK_UP);
	link_serve(link);
}

static void on_attach(struct loop *loop, struct post *p);

static bool loan_begin(struct link *link, struct hub_slot *lender)
{
	struct agent_local *l = link->local;
	struct loan *loan = mem_zalloc(sizeof(*loan));

	if (!loan)
		return false;
	loan->hub = hub_get(l->agent->hub);
	loan->home = l->loop;
	loan->away = rcu_fetch(&lender->loop);
	loan->link = link;
	link->loan = loan;
	link_set_state(link, LINK_CONNECTING);
	loop_post(loan->away, &loan->post, on_attach);
	return true;
}

static bool has_own_link(const struct agent_local *l)
{
	return l->n_up > (l->borrowed && l->borrowed->state == LINK_UP);
}

void local_borrow(struct agent_local *l)
{
	struct link *link = l->borrowed;
	struct hub_slot *lender;

	if (has_own_link(l) || l->yields)
		return;
	if (link && link->state != LINK_DOWN) {
		link->paused = false;	/* it was to go, and is needed */
		return;
	}
	lender = hub_find_lender(l->agent->hub, hub_slot_of(l));
	if (!lender)
		return;		/* a wake will come */
	if (!link) {
		link = link_new(l, &l->instances[0], true);
		l->borrowed = link;
	}
	if (!link || !loan_begin(link, lender))
		borrow_later(l);
}

/* There are links of its own: the borrowed one takes nothing new, and goes
 * when it has nothing to do. */
static void on_retired(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);

	if (!link->paused)
		return;
	if (link_is_idle(link))
		link_close(link);
	else
		deadline_start(link->local->loop, d, RETIRED_US, on_retired);
}

void borrowed_retire(struct link *link)
{
	if (link->state != LINK_UP) {
		link_close(link);
		return;
	}
	link->paused = true;
	deadline_start(link->local->loop, &link->timer, RETIRED_US, on_retired);
}

/* ---- the borrower: what goes over it -------------------------------------- */

/* With room for n bytes. NULL: no memory. */
static struct errand *errand_new(struct loan *loan, size_t n)
{
	struct errand *e = loan->spare;

	if (e) {
		loan->spare = e->next;
		loan->n_spare--;
	} else {
		e = mem_zalloc(sizeof(*e));
	}
	if (e && e->size < n) {
		char *bytes = mem_realloc(e->bytes, n);

		if (!bytes) {
			errand_free(e);
			return NULL;
		}
		e->bytes = bytes;
		e->size = n;
	}
	if (!e)
		return NULL;
	e->loan = loan;
	e->lent = loan->lent;
	e->n = n;
	return e;
}

static void errand_spare(struct errand *e)
{
	struct loan *loan = e->loan;

	if (loan->n_spare >= SPARE_MAX) {
		errand_free(e);
		return;
	}
	e->next = loan->spare;
	loan->spare = e;
	loan->n_spare++;
}

/* Takes what stands in q. NULL: no memory. */
static struct errand *errand_pack(struct loan *loan, struct outq *q)
{
	struct errand *e = errand_new(loan, q->bytes);
	char *to = e ? e->bytes : NULL;

	for (const struct oseg *s = q->first; e && s; s = s->next) {
		memcpy(to, s->p, s->n);
		to += s->n;
	}
	outq_clear(q);
	return e;
}

enum wire_result loan_encode(struct link *link, const struct event *ev,
			     unsigned *transcoded)
{
	struct outq *q = &link->stream.out;
	enum wire_result result = wire_encode_event(q, &link->format, ev,
						    transcoded);

	if (result != WIRE_OK)
		return result;
	errand_free(link->loan->loaded);
	link->loan->loaded = errand_pack(link->loan, q);
	return link->loan->loaded ? WIRE_OK : WIRE_NO_MEMORY;
}

static void on_errand(struct loop *loop, struct post *p);

static void errand_post(struct errand *e, enum errand_kind kind)
{
	e->kind = kind;
	loop_post(e->loan->away, &e->post, on_errand);
}

void loan_send(struct link *link, const struct entry *entry, uint32_t slot)
{
	struct loan *loan = link->loan;
	struct errand *e = loan->loaded;

	loan->loaded = NULL;
	e->entry = *entry;
	e->slot = slot;
	errand_post(e, ERRAND_EVENT);
}

void loan_complete(struct link *link, const struct event *ev)
{
	struct loan *loan = link->loan;
	unsigned transcoded = 0;
	struct errand *e;

	if (loan_encode(link, ev, &transcoded) != WIRE_OK) {
		/* The agent would keep the exchange for ever. */
		link_lost(link, CAUSE_CLOSED, RETRY_SOON, "out of memory");
		return;
	}
	counter_inc(&link->local->metrics->events[EVENT_COMPLETE]);
	counter_add(&link->local->metrics->transcoded, transcoded);
	e = loan->loaded;
	loan->loaded = NULL;
	memset(&e->entry, 0, sizeof(e->entry));
	link_set_id(link, &e->entry, ev->meta, 0);
	errand_post(e, ERRAND_COMPLETE);
}

void loan_cancel(struct link *link, uint32_t slot, enum wire_cancel why)
{
	struct errand *e = errand_new(link->loan, 0);

	if (!e)
		return;		/* its reply will be late, then */
	e->slot = slot;
	e->why = why;
	errand_post(e, ERRAND_CANCEL);
}

/* The reply in a block of our own, as a stream would have read it. */
static void borrower_read(struct link *link, struct errand *e)
{
	struct loop *loop = link->local->loop;
	struct block *b = block_new(&loop->blocks, e->n ? e->n : 1);

	if (!b) {
		link_lost(link, CAUSE_OVERLOAD, RETRY_SOON,
			  "out of memory for a reply");
		return;
	}
	memcpy(b->data, e->bytes, e->n);
	b->used = (uint32_t)e->n;
	link->stream.in = b;
	(void)link_on_reply(link, slice_of(b->data, e->n));
	link->stream.in = NULL;
	block_put(b);
}

/* There will be none. */
static void borrower_fail(struct link *link, const struct errand *e)
{
	struct fifo *f = &link->fifo;
	struct entry *entry;
	struct agent_call *call;

	if (e->slot - f->head >= f->tail - f->head)
		return;
	entry = fifo_at(f, e->slot);
	if (entry->flags & ENTRY_GONE)
		return;
	call = entry->owner;
	fifo_remove(f, entry);
	link_update_stalled(link);
	if (!call)
		return;
	counter_dec(&link->instance->in_flight);
	call->link = NULL;
	call_fail(call, e->cause, e->text);
}

static void on_errand_back(struct loop *loop, struct post *p)
{
	struct errand *e = container_of(p, struct errand, post);
	struct link *link = e->loan->link;

	if (link && e->cause == CAUSE_NONE)
		borrower_read(link, e);
	else if (link)
		borrower_fail(link, e);
	errand_spare(e);
	/* A callback may have closed it. */
	if (link && link->local && link->state == LINK_UP)
		link_serve(link);
}

static void on_lost(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, lost);

	if (loan->link)
		link_lost(loan->link, CAUSE_CLOSED, RETRY_SOON,
			  "the agent closed the link");
}

/* ---- the lender ----------------------------------------------------------- */

static struct link *find_lendable(const struct agent_local *l)
{
	struct link *best = NULL;

	for (unsigned i = 0; i < l->n_up; i++) {
		struct link *link = l->up[i];

		if (!link->borrowed && (!best || link->n_lent < best->n_lent))
			best = link;
	}
	return best;
}

static void on_attach(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, post);
	struct hub_slot *s = &loan->hub->slot[loop->index];
	struct link *link = s->local ? find_lendable(s->local) : NULL;
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
	loop_post(loan->home, &loan->post, on_attached);
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
	loop_post(e->loan->home, &e->post, on_errand_back);
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

	if (!fifo_reserve(&link->fifo) ||
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
		link_push_complete(link, &e->entry);
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

static bool must_wait(const struct link *link, const struct errand *e)
{
	if (e->kind == ERRAND_COMPLETE)
		return link->depth == 1 && !link_has_room(link);
	return !link_has_room(link) ||
	       (link->paused && e->entry.type == EVENT_REQUEST_HEAD);
}

bool lend_serve(struct link *link)
{
	struct errand *e;

	if (cds_list_empty(&link->strangers))
		return false;
	e = cds_list_first_entry(&link->strangers, struct errand, wait);
	if (must_wait(link, e))
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

static void on_errand(struct loop *loop, struct post *p)
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
	if (!cds_list_empty(&link->strangers) || must_wait(link, e))
		lend_keep(link, e);
	else
		lend_send(link, e);
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
		loop_post(lent->loan->home, &lent->loan->lost, on_lost);
	}
}

static void on_detach(struct loop *loop, struct post *p)
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
	loop_post(loan->home, &loan->post, on_detached);
}
