/*
 * Agents that dial in: which workers have links of one. Counted, for what is on
 * its way between workers may outlive the agent; atomics but for what is a
 * worker's own.
 */
#include "agent/hub.h"
#include "base/mem.h"

struct hub *hub_new(unsigned n_workers)
{
	struct hub *h = mem_zalloc_aligned(sizeof(*h) + n_workers *
					   sizeof(struct hub_slot));

	if (!h)
		return NULL;
	h->n = n_workers;
	h->refs = 1;
	return h;
}

struct hub *hub_get(struct hub *h)
{
	__atomic_add_fetch(&h->refs, 1, __ATOMIC_RELAXED);
	return h;
}

void hub_put(struct hub *h)
{
	if (h && __atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL) == 0)
		mem_free(h);
}

struct agent_local *hub_local(struct hub *h, const struct loop *loop)
{
	return h->slot[loop->index].local;
}

bool hub_reserve(struct hub *h, unsigned most, struct loop **loop)
{
	struct hub_slot *best = NULL;
	unsigned least = 0;

	for (unsigned w = 0; w < h->n; w++) {
		struct hub_slot *s = &h->slot[w];
		unsigned n = __atomic_load_n(&s->assigned, __ATOMIC_RELAXED);

		if (!__atomic_load_n(&s->open, __ATOMIC_ACQUIRE) ||
		    (best && n >= least))
			continue;
		best = s;
		least = n;
	}
	*loop = best ? rcu_fetch(&best->loop) : NULL;
	if (!best)
		return false;
	if (__atomic_add_fetch(&h->total, 1, __ATOMIC_RELAXED) > most) {
		__atomic_sub_fetch(&h->total, 1, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_add_fetch(&best->assigned, 1, __ATOMIC_RELAXED);
	return true;
}

void hub_release(struct hub *h, const struct loop *loop)
{
	__atomic_sub_fetch(&h->total, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&h->slot[loop->index].assigned, 1,
			   __ATOMIC_RELAXED);
}

bool hub_release_but_last(struct hub *h, const struct loop *loop)
{
	unsigned n = __atomic_load_n(&h->total, __ATOMIC_RELAXED);

	do {
		if (n < 2)
			return false;
	} while (!__atomic_compare_exchange_n(&h->total, &n, n - 1, false,
					      __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	__atomic_sub_fetch(&h->slot[loop->index].assigned, 1,
			   __ATOMIC_RELAXED);
	return true;
}

static void on_wake(struct loop *loop, struct post *p)
{
	struct hub_slot *s = container_of(p, struct hub_slot, wake);
	struct hub *h = container_of(s - loop->index, struct hub, slot[0]);

	__atomic_store_n(&s->woken, false, __ATOMIC_SEQ_CST);
	if (s->local) {
		local_borrow(s->local);
		instance_share_depth(s->local, &s->local->instances[0]);
	}
	hub_put(h);
}

/* Links have come or gone: whoever has none may borrow one now, and each has
 * another part of what the agent takes at a time. */
static void hub_wake(struct hub *h, const struct hub_slot *but)
{
	for (unsigned w = 0; w < h->n; w++) {
		struct hub_slot *s = &h->slot[w];

		/* Either we see that it is open, or hub_join() our link. */
		if (s == but || !__atomic_load_n(&s->open, __ATOMIC_SEQ_CST) ||
		    __atomic_exchange_n(&s->woken, true, __ATOMIC_SEQ_CST))
			continue;
		hub_get(h);
		loop_post(rcu_fetch(&s->loop), &s->wake, on_wake);
	}
}

void hub_join(struct agent_local *l)
{
	struct hub_slot *s = hub_slot_of(l);

	l->n_borrowed = l->n_borrowed_up = 0;
	l->borrow_more_us = 0;
	l->yields = false;
	s->local = l;
	rcu_publish(&s->loop, l->loop);
	__atomic_store_n(&s->open, true, __ATOMIC_SEQ_CST);
	local_borrow(l);
}

void hub_leave(struct agent_local *l)
{
	struct hub_slot *s = hub_slot_of(l);

	__atomic_store_n(&s->open, false, __ATOMIC_RELEASE);
	s->local = NULL;
}

struct hub_slot *hub_find_lender(struct agent_local *l)
{
	struct hub *h = l->agent->hub;
	struct hub_slot *but = hub_slot_of(l), *best = NULL;
	uint64_t best_links = 0, best_lent = 0;

	for (unsigned w = 0; w < h->n; w++) {
		struct hub_slot *s = &h->slot[w];
		uint64_t links = __atomic_load_n(&s->links, __ATOMIC_SEQ_CST);
		uint64_t lent = __atomic_load_n(&s->lent, __ATOMIC_RELAXED);

		if (s == but || !links || links <= loans_from(l, s) ||
		    (best && lent * best_links >= best_lent * links))
			continue;
		best = s;
		best_links = links;
		best_lent = lent;
	}
	return best;
}

/* ---- own links come and go ------------------------------------------------- */

void hub_link_up(struct link *link)
{
	struct agent_local *l = link->local;
	struct hub_slot *s = hub_slot_of(l);

	__atomic_add_fetch(&s->links, 1, __ATOMIC_SEQ_CST);
	hub_wake(l->agent->hub, s);
	local_retire_borrowed(l);
}

void hub_link_down(struct link *link)
{
	struct agent_local *l = link->local;
	struct hub_slot *s = hub_slot_of(l);

	__atomic_sub_fetch(&s->links, 1, __ATOMIC_SEQ_CST);
	if (link->instance->share)
		hub_wake(l->agent->hub, s);
}

unsigned hub_share(const struct agent_local *l, unsigned stated)
{
	struct hub *h = l->agent->hub;
	uint64_t own = __atomic_load_n(&hub_slot_of(l)->links,
				       __ATOMIC_RELAXED);
	uint64_t all = 0, part;

	for (unsigned w = 0; w < h->n; w++)
		all += __atomic_load_n(&h->slot[w].links, __ATOMIC_RELAXED);
	part = all ? stated * own / all : stated;
	return part ? (unsigned)part : 1;
}

/* ---- a hand-over, a reload ----------------------------------------------- */

/* The first worker that asks decides for all. */
static bool hub_keeps_one(struct hub *h)
{
	unsigned none = 0;
	unsigned keep = __atomic_load_n(&h->total, __ATOMIC_RELAXED) > 1;

	if (__atomic_compare_exchange_n(&h->yields, &none, keep + 1, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return keep;
	return none > 1;
}

void agent_local_yield(struct agent *a, struct loop *loop)
{
	struct agent_local *l = agent_local(a, loop);
	struct link *link, *tmp;
	bool keep;

	if (!a->hub || !l->loop)
		return;
	keep = hub_keeps_one(a->hub);
	l->yields = !keep;
	cds_list_for_each_entry_safe(link, tmp, &l->links, node) {
		/* Not closed then before they are answered. */
		link_flush_lazy(link);
		if (!link_is_idle(link) || link->n_lent ||
		    (link->borrowed && keep))
			continue;
		if (keep && !hub_release_but_last(a->hub, loop))
			continue;
		/* Else link_close() does that. */
		link->dialled_in = !keep && !link->borrowed;
		link_close(link);
	}
	local_borrow(l);
}
