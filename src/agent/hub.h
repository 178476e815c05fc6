/* Private to hub.c, borrow.c and lend.c: which workers have links of an agent
 * that dials in. */
#ifndef AGENT_HUB_H
#define AGENT_HUB_H

#include "agent/internal.h"

struct hub_slot {
	struct agent_local *local;	/* the worker's own */
	struct post wake;
	/* Atomic. */
	struct loop *loop;		/* once it has joined; for good */
	bool open;			/* it takes links */
	bool woken;			/* wake is on its way */
	unsigned assigned;		/* links given to it */
	unsigned links;			/* of these, up */
	unsigned lent;			/* loans on them */
} __attribute__((aligned(CACHE_LINE)));

struct hub {
	unsigned n;			/* workers */
	/* Atomic. */
	unsigned refs, total;		/* links, over all workers */
	unsigned yields;		/* links to keep, and 1; 0: all */
	struct hub_slot slot[];
};

static inline struct hub_slot *hub_slot_of(const struct agent_local *l)
{
	return &l->agent->hub->slot[l->loop->index];
}

/* The worker with links that has most of them for its loans, and more than l has
 * from it; NULL: none. */
struct hub_slot *hub_find_lender(struct agent_local *l);
/* borrow.c: links that l has from that worker. */
unsigned loans_from(const struct agent_local *l, const struct hub_slot *s);
/* There are links of its own. Borrowed ones take nothing new, and go when they
 * have nothing to do. */
void local_retire_borrowed(struct agent_local *l);

static inline bool link_is_idle(struct link *link)
{
	return cds_list_empty(&link->sessions) && !link->fifo.n;
}

#endif
