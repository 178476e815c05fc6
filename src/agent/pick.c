/* Which link an exchange goes to, and when there are to be more of them. */
#include "agent/internal.h"

/*
 * The least loaded of the links that have room; of equals, the next in turn. A
 * stalled one only if no other has room. Where all have something to do, one
 * that this turn of the loop sends on anyway may have half more than that: for
 * who waits behind eight others four more are little, and one send for all is
 * two system calls and a wake-up less for each.
 */
static struct link *pick_least(struct agent_local *l)
{
	struct link *best = NULL, *stalled = NULL, *sends = NULL;
	unsigned n = l->n_up, i = l->next_up;

	for (unsigned k = 0; k < n; k++) {
		struct link *link;

		if (i >= n)
			i = 0;
		link = l->up[i++];
		if (!link_has_room(link) || UNLIKELY(link->paused))
			continue;
		if (stream_flush_is_due(&link->stream))
			sends = link;
		if (UNLIKELY(link->stalled)) {
			if (!stalled || link->fifo.n < stalled->fifo.n)
				stalled = link;
		} else if (!best || link->fifo.n < best->fifo.n) {
			best = link;
			if (link->fifo.n == 0)
				break;
		}
	}
	if (UNLIKELY(!best))
		return stalled;
	if (sends && !sends->stalled &&
	    sends->fifo.n <= best->fifo.n + best->fifo.n / 2)
		return sends;
	return best;
}

/* What an instance says of itself: 0 well, 1 draining, 2 leave it alone. One
 * that is degraded weighs twice, and loses every other of its turns. */
static unsigned instance_rank(const struct link *link, unsigned *load,
			      bool *degraded)
{
	const struct agent_local *l = link->local;
	const struct agent_instance *inst = link->instance->shared;

	if (!(agent_gate(l->agent) & GATE_INSTANCE))
		return 0;
	switch (instance_report(inst, l->loop->now_us)) {
	case AGENT_HEALTHY:
	case AGENT_STATE_N:
		return 0;
	case AGENT_DEGRADED:
		*load = *load * 2 + 1;
		*degraded = true;
		return 0;
	case AGENT_DRAINING:
		return 1;
	case AGENT_UNHEALTHY:
		break;
	}
	return 2;
}

static unsigned first_instance(struct agent_local *l)
{
	switch (l->agent->config.balance) {
	case AGENT_BALANCE_LEAST:
		break;
	case AGENT_BALANCE_ROUND_ROBIN:
		return l->next_instance;
	case AGENT_BALANCE_RANDOM:
		return (unsigned)(local_random(l) % l->agent->n_instances);
	}
	return 0;
}

/*
 * By what instances say of themselves, then by the instance whose turn it is,
 * then by load.
 */
static struct link *pick_weighed(struct agent_local *l)
{
	bool by_load = l->agent->config.balance == AGENT_BALANCE_LEAST;
	unsigned n = l->agent->n_instances, first = first_instance(l);
	bool pass = !l->passed_over, passed = false;
	uint64_t best_key = UINT64_MAX;
	struct link *best = NULL;

	for (unsigned k = 0; k < l->n_up; k++) {
		struct link *link = l->up[(l->next_up + k) % l->n_up];
		unsigned i = (unsigned)(link->instance - l->instances);
		unsigned turn = by_load ? 0 : (i + n - first) % n;
		unsigned load = link->fifo.n, rank;
		bool degraded = false;
		uint64_t key;

		if (!link_has_room(link) || link->paused)
			continue;
		rank = instance_rank(link, &load, &degraded);
		if (rank > 1)
			continue;
		if (degraded && turn == 0 && !by_load) {
			turn = pass ? n : 0;
			passed = pass;
		}
		key = (uint64_t)rank << 63 | (uint64_t)link->stalled << 62 |
		      (uint64_t)turn << 32 | load;
		if (key >= best_key)
			continue;
		best_key = key;
		best = link;
	}
	l->passed_over = passed;
	if (best)
		l->next_instance = (unsigned)(best->instance - l->instances +
					      1) % n;
	return best;
}

static NOINLINE struct link *
pick_slow(struct agent_local *l)
{
	struct link *best;

	if (LIKELY(l->agent->config.balance == AGENT_BALANCE_LEAST &&
		   !(agent_gate(l->agent) & GATE_INSTANCE)))
		best = pick_least(l);
	else
		best = pick_weighed(l);
	if (best)
		l->next_up = best->up_index + 1;
	if (best && l->agent->n_instances == 1)
		l->again = best;
	return best;
}

struct link *local_pick_link(struct agent_local *l)
{
	struct link *link = l->again;

	/* While it has nothing to do the same again: it is in the cache, and
	 * completes that wait there for company have it. */
	if (LIKELY(link && !link->fifo.n && link->depth && !link->paused &&
		   !(agent_gate(l->agent) & GATE_INSTANCE)))
		return link;
	return pick_slow(l);
}

/* Links that will have room: they are being opened, or have still to show that
 * their replies have ids. */
static uint64_t instance_coming(const struct agent_local *l,
				const struct instance_local *inst)
{
	uint64_t n = counter_read(&inst->links) -
		     counter_read(&inst->links_up);

	for (unsigned i = 0; i < l->n_up; i++) {
		const struct link *link = l->up[i];

		n += link->instance == inst && !link->no_ids &&
		     link->depth < link->full_depth;
	}
	return n;
}

/* Up to max_connections, of an instance that is there; not if those that are
 * coming are enough, here, nor if the agent takes no more at a time than its
 * links have room for. */
static bool instance_may_grow(const struct agent_local *l,
			      const struct instance_local *inst)
{
	const struct config_agent *c = &l->agent->config;
	uint64_t n = counter_read(&inst->links);

	return n < c->max_connections && counter_read(&inst->links_up) &&
	       (!inst->share || inst->share >= (n + 1) * c->depth) &&
	       instance_coming(l, inst) * c->depth < l->queue.n;
}

/* All links are at their depth: one more. Each call that has to wait asks, so a
 * burst gets as many as it needs, at once. */
void local_open_extra(struct agent_local *l)
{
	const struct config_agent *c = &l->agent->config;
	struct instance_local *best = NULL;

	/* Some v1 agents stop when a connection ends: none on demand. */
	if (l->n_up == 0 || local_is_full(l) || c->dialect == DIALECT_V1)
		return;
	if (l->agent->hub) {
		local_borrow_more(l);
		return;
	}
	for (unsigned i = 0; i < l->agent->n_instances; i++) {
		struct instance_local *inst = &l->instances[i];

		if (instance_may_grow(l, inst) &&
		    (!best || counter_read(&inst->links) <
			      counter_read(&best->links)))
			best = inst;
	}
	/* Without memory the calls go on waiting. */
	if (best && !link_open(l, best, true))
		log_debug("link_open", "agent=%s error=\"out of memory\"",
			  c->name);
}

