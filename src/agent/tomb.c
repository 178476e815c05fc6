/*
 * Tombstones (protocol page 8.3): entries of a link whose replies nobody waits
 * for any more, and which had better come soon.
 */
#include "agent/internal.h"

void link_update_stalled(struct link *link)
{
	const struct entry *e = fifo_head(&link->fifo);
	bool stalled = e && (e->flags & ENTRY_TOMB);

	if (LIKELY(stalled == link->stalled))
		return;
	link->stalled = stalled;
	if (stalled)
		counter_inc(&link->local->metrics->links_stalled);
	else
		counter_dec(&link->local->metrics->links_stalled);
}

static void entry_bury(struct link *link, struct entry *e, uint64_t now)
{
	e->owner = NULL;
	e->flags |= ENTRY_TOMB;
	e->tomb_us = now;
	link->fifo.n_tombs++;
}

static bool link_has_too_many_tombs(const struct link *link)
{
	return link->fifo.n_tombs > link->local->agent->tuning.max_tombstones;
}

void link_bury(struct link *link, struct entry *e)
{
	entry_bury(link, e, link->local->loop->now_us);
	if (link_has_too_many_tombs(link))
		link_lost(link, CAUSE_TIMEOUT, RETRY_SOON,
			  "too many events unanswered");
	else
		link_update_stalled(link);
}

/*
 * Looks for request-completes that have become tombstones, and for tombstones
 * that are too old. A complete behind an event that somebody still waits for
 * is not late by its own fault: the agent is serial. So nothing behind that
 * event matters but tombstones.
 */
void link_check(struct deadline *d)
{
	struct link *link = container_of(d, struct link, check);
	struct agent_local *l = link->local;
	const struct agent_tuning *t = &link->local->agent->tuning;
	struct fifo *f = &link->fifo;
	uint64_t now = l->loop->now_us;
	bool lost = false, waited_for = false;
	unsigned tombs = f->n_tombs;

	if (link->n_lazy)
		link_check_lazy(link);
	if (f->n == 0 && !link->n_lazy)
		return;
	for (uint32_t i = f->head; i != f->tail && (tombs || !waited_for);
	     i++) {
		struct entry *e = fifo_at(f, i);
		uint64_t stall = e->timeout_ms * 4000ull;

		if (e->flags & ENTRY_GONE)
			continue;
		if (e->flags & ENTRY_TOMB)
			tombs--;
		if (e->owner)
			waited_for = true;
		else if (!(e->flags & ENTRY_TOMB) && !waited_for &&
			 now >= e->tomb_us)
			entry_bury(link, e, now);
		if (stall < t->stall_min_us)
			stall = t->stall_min_us;
		if ((e->flags & ENTRY_TOMB) && now - e->tomb_us >= stall)
			lost = true;
	}
	if (lost || link_has_too_many_tombs(link)) {
		link_lost(link, CAUSE_TIMEOUT, RETRY_SOON,
			  "events stay unanswered");
		return;
	}
	link_update_stalled(link);
	deadline_start(l->loop, d, t->check_us, link_check);
}
