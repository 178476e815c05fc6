/* The worker that has no link of its own, and asks over another one's; see
 * errand.h. */
#include "agent/errand.h"

#define BORROW_RETRY_US		20000u
#define RETIRED_US		100000u
#define SPARE_MAX		32u	/* errands kept by a loan */
#define SPARE_BYTES		(128u * 1024)	/* and not if it is larger */

/* ---- one link ------------------------------------------------------------- */

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

void borrow_on_detached(struct loop *loop, struct post *p)
{
	loan_free(container_of(p, struct loan, post));
}

static void loan_detach(struct loan *loan)
{
	loan->state = LOAN_DETACHING;
	loop_post(loan->away, &loan->post, lend_on_detach);
}

void loan_end(struct link *link)
{
	struct loan *loan = link->loan;

	if (!loan)
		return;
	link->loan = NULL;
	loan->link = NULL;
	/* Else borrow_on_attached() finds that nobody wants it. */
	if (loan->state == LOAN_UP)
		loan_detach(loan);
}

static void borrow_refused(const struct loan *loan)
{
	struct link *link = loan->link;
	struct agent_local *l = link->local;

	link->loan = NULL;
	link_close(link);
	l->borrow_more_us = l->loop->now_us + BORROW_RETRY_US;
	if (!loan->more)
		borrow_later(l);
}

static void on_more_idle(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);
	struct agent_local *l = link->local;
	uint64_t idle_us = l->agent->tuning.extra_idle_us;

	if (link_is_idle(link) && l->n_borrowed > 1 &&
	    l->loop->now_us - link->last_used_us >= idle_us)
		link_close(link);
	else
		deadline_start(l->loop, d, idle_us, on_more_idle);
}

void borrow_on_attached(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, post);
	struct link *link = loan->link;

	if (!loan->lent) {
		if (link)
			borrow_refused(loan);
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
	if (loan->more)
		deadline_start(loop, &link->timer,
			       link->local->agent->tuning.extra_idle_us,
			       on_more_idle);
	link_set_state(link, LINK_UP);
	link_serve(link);
}

static bool loan_begin(struct agent_local *l, struct hub_slot *lender,
		       bool more)
{
	struct loan *loan = mem_zalloc(sizeof(*loan));
	struct link *link = loan ? link_new(l, &l->instances[0], true) : NULL;

	if (!link) {
		mem_free(loan);
		return false;
	}
	loan->more = more;
	loan->hub = hub_get(l->agent->hub);
	loan->home = l->loop;
	loan->away = rcu_fetch(&lender->loop);
	loan->link = link;
	link->loan = loan;
	link_set_state(link, LINK_CONNECTING);
	loop_post(loan->away, &loan->post, lend_on_attach);
	return true;
}

static bool has_own_link(const struct agent_local *l)
{
	return l->n_up > l->n_borrowed_up;
}

unsigned loans_from(const struct agent_local *l, const struct hub_slot *s)
{
	const struct loop *away = rcu_fetch(&s->loop);
	struct link *link;
	unsigned n = 0;

	if (!l->n_borrowed)
		return 0;
	cds_list_for_each_entry(link, &l->links, node)
		n += link->loan && link->loan->away == away;
	return n;
}

/* They were to go, and are needed. */
static void local_keep_borrowed(struct agent_local *l)
{
	struct link *link;

	cds_list_for_each_entry(link, &l->links, node)
		if (link->borrowed)
			link->paused = false;
}

void local_borrow(struct agent_local *l)
{
	struct hub_slot *lender;

	if (has_own_link(l) || l->yields)
		return;
	if (l->n_borrowed) {
		local_keep_borrowed(l);
		return;
	}
	lender = hub_find_lender(l);
	if (lender && !loan_begin(l, lender, false))
		borrow_later(l);
	/* Without a lender: a wake will come. */
}

void local_borrow_more(struct agent_local *l)
{
	const struct config_agent *c = &l->agent->config;
	unsigned coming = l->n_borrowed - l->n_borrowed_up;
	struct hub_slot *lender;

	if (has_own_link(l) || l->yields || l->n_borrowed >= loans_max(l->agent) ||
	    coming * c->depth >= l->queue.n ||
	    l->loop->now_us < l->borrow_more_us)
		return;
	lender = hub_find_lender(l);
	/* Without memory the calls go on waiting. */
	if (!lender || !loan_begin(l, lender, true))
		l->borrow_more_us = l->loop->now_us + BORROW_RETRY_US;
}

/* There are links of its own: a borrowed one takes nothing new, and goes when
 * it has nothing to do. */
static void on_retired(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);

	if (!link->paused)
		on_more_idle(d);
	else if (link_is_idle(link))
		link_close(link);
	else
		deadline_start(link->local->loop, d, RETIRED_US, on_retired);
}

void local_retire_borrowed(struct agent_local *l)
{
	struct link *link, *tmp;

	if (!l->n_borrowed)
		return;
	cds_list_for_each_entry_safe(link, tmp, &l->links, node) {
		if (!link->borrowed)
			continue;
		if (link->state != LINK_UP) {
			link_close(link);
			continue;
		}
		link->paused = true;
		deadline_start(l->loop, &link->timer, RETIRED_US, on_retired);
	}
}

/* ---- what goes over it ---------------------------------------------------- */

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

	if (loan->n_spare >= SPARE_MAX || e->size > SPARE_BYTES) {
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

static void errand_post(struct errand *e, enum errand_kind kind)
{
	e->kind = kind;
	loop_post(e->loan->away, &e->post, lend_on_errand);
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
	struct errand *e;

	if (link_encode(link, ev) != WIRE_OK) {
		/* The agent would keep the exchange for ever. */
		link_lost(link, CAUSE_CLOSED, RETRY_SOON, "out of memory");
		return;
	}
	counter_inc(&link->local->metrics->events[EVENT_COMPLETE]);
	e = loan->loaded;
	loan->loaded = NULL;
	memset(&e->entry, 0, sizeof(e->entry));
	link_set_id(link, &e->entry, ev->meta);
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

/* NULL: it is gone. */
static struct entry *entry_at(const struct link *link, uint32_t slot)
{
	const struct fifo *f = &link->fifo;
	struct entry *e = fifo_at(f, slot);

	if (slot - f->head >= f->tail - f->head || (e->flags & ENTRY_GONE))
		return NULL;
	return e;
}

/* The lender may have sent what came later first, while its agent wanted no new
 * exchange: so order alone says nothing here. */
struct entry *loan_entry(const struct link *link)
{
	return entry_at(link, link->loan->reading);
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
	e->loan->reading = e->slot;
	(void)link_on_reply(link, slice_of(b->data, e->n));
	link->stream.in = NULL;
	block_put(b);
}

/* There will be none. */
static void borrower_fail(struct link *link, const struct errand *e)
{
	struct fifo *f = &link->fifo;
	struct entry *entry = entry_at(link, e->slot);
	struct agent_call *call;

	if (!entry)
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

void borrow_on_errand_back(struct loop *loop, struct post *p)
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

void borrow_on_lost(struct loop *loop, struct post *p)
{
	struct loan *loan = container_of(p, struct loan, lost);

	if (loan->link)
		link_lost(loan->link, CAUSE_CLOSED, RETRY_SOON,
			  "the agent closed the link");
}

