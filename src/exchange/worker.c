#include "exchange/worker.h"

#include "base/mem.h"
#include "exchange/exchange.h"

/* Between two looks whether other workers still ask over our links. */
#define RELEASE_RETRY_US 20000u
/* After a hand-over, busy clients send their last request at once, and after a
 * reload some have been read: so long do agents stay for them. And between two
 * looks whether they can go. */
#define YIELD_US 250000u
#define YIELD_RETRY_US 50000u

/* ---- snapshots ------------------------------------------------------------- */

static bool has_agent(const struct snapshot *s, const struct agent *a)
{
	for (unsigned i = 0; i < s->config->n_agents; i++)
		if (s->agents[i] == a)
			return true;
	return false;
}

static bool has_upstream(const struct snapshot *s, const struct upstream *u)
{
	for (unsigned i = 0; i < s->config->n_upstreams; i++)
		if (s->upstreams[i] == u)
			return true;
	return false;
}

/* No exchange of this worker uses s any more. newer: what came after it, NULL
 * when the worker itself ends. */
static void release(struct worker *w, struct snapshot *s,
		    const struct snapshot *newer)
{
	for (unsigned i = 0; i < s->config->n_agents; i++)
		if (!newer || !has_agent(newer, s->agents[i]))
			agent_local_close(s->agents[i], w->loop);
	for (unsigned i = 0; i < s->config->n_upstreams; i++)
		if (!newer || !has_upstream(newer, s->upstreams[i]))
			upstream_local_close(s->upstreams[i], w->loop);
	if (__atomic_sub_fetch(&s->workers_left, 1, __ATOMIC_ACQ_REL) == 0 &&
	    s->on_released)
		s->on_released(s);
}

/* Exchanges of other workers are on links of ours, to agents that newer does
 * not have: all let go of what they have borrowed first. */
static bool is_lent(struct worker *w, const struct snapshot *s,
		    const struct snapshot *newer)
{
	bool lent = false;

	for (unsigned i = 0; i < s->config->n_agents; i++)
		if (!has_agent(newer, s->agents[i]))
			lent |= agent_local_is_lent(s->agents[i], w->loop);
	return lent;
}

static void on_release_retry(struct deadline *d);

/* Releases, oldest first, what nothing pins any more. */
static void release_old(struct worker *w)
{
	while (w->oldest != w->snapshot &&
	       w->oldest->pin[w->index].pins == 0) {
		struct snapshot *s = w->oldest;
		struct snapshot *newer = s->pin[w->index].newer;

		if (!w->closing && is_lent(w, s, newer)) {
			deadline_start(w->loop, &w->release, RELEASE_RETRY_US,
				       on_release_retry);
			return;
		}
		w->oldest = newer;
		release(w, s, newer);
	}
}

static void on_release_retry(struct deadline *d)
{
	release_old(container_of(d, struct worker, release));
}

void worker_unpin(struct worker *w, struct snapshot *s)
{
	ASSERT(s->pin[w->index].pins > 0);
	if (--s->pin[w->index].pins == 0 && s != w->snapshot)
		release_old(w);
}

static void start_upstreams(struct worker *w, const struct snapshot *s,
			    const struct snapshot *older)
{
	for (unsigned i = 0; i < s->config->n_upstreams; i++)
		if (!older || !has_upstream(older, s->upstreams[i]))
			upstream_local_start(s->upstreams[i], w->loop);
}

static void start_agents(struct worker *w, const struct snapshot *s,
			 const struct snapshot *older)
{
	for (unsigned i = 0; i < s->config->n_agents; i++)
		if (!older || !has_agent(older, s->agents[i]))
			agent_local_start(s->agents[i], w->loop);
}

/*
 * An agent that dials in comes back to the new process, or to its new config,
 * only when its links are closed. Exchanges, of whatever route, may keep the
 * old one for hours.
 */
static bool yield_agents(struct worker *w, const struct snapshot *s,
			 const struct snapshot *newer)
{
	bool some = false;

	for (unsigned i = 0; i < s->config->n_agents; i++) {
		if (!s->config->agents[i].reverse ||
		    (newer && has_agent(newer, s->agents[i])))
			continue;
		agent_local_yield(s->agents[i], w->loop);
		some = true;
	}
	return some;
}

static void on_yield(struct deadline *d)
{
	struct worker *w = container_of(d, struct worker, yield);
	bool again = w->handed_over;

	for (const struct snapshot *s = w->oldest; s != w->snapshot;
	     s = s->pin[w->index].newer)
		again |= yield_agents(w, s, w->snapshot);
	if (w->handed_over)
		yield_agents(w, w->snapshot, NULL);
	if (again)
		deadline_start(w->loop, d, YIELD_RETRY_US, on_yield);
}

void worker_yield_agents(struct worker *w)
{
	w->handed_over = true;
	deadline_start(w->loop, &w->yield, YIELD_US, on_yield);
}

void worker_switch(struct worker *w, struct snapshot *s)
{
	struct snapshot *old = w->snapshot;

	old->pin[w->index].newer = s;
	w->snapshot = s;
	start_agents(w, s, old);
	start_upstreams(w, s, old);
	listeners_configure(w);
	release_old(w);
	if (w->oldest != s && !deadline_running(&w->yield))
		deadline_start(w->loop, &w->yield, YIELD_US, on_yield);
}

/* ---- life ------------------------------------------------------------------- */

static void hex16(uint64_t v, char out[16])
{
	for (int i = 15; i >= 0; i--, v >>= 4)
		out[i] = "0123456789abcdef"[v & 15];
}

void worker_init(struct worker *w, struct loop *loop, struct shared *shared,
		 struct snapshot *snapshot)
{
	uint64_t random[4];

	memset(w, 0, sizeof(*w));
	w->loop = loop;
	w->shared = shared;
	w->index = loop->index;
	w->metrics = metrics_worker(shared->metrics, w->index);
	w->snapshot = w->oldest = snapshot;
	CDS_INIT_LIST_HEAD(&w->clients);
	CDS_INIT_LIST_HEAD(&w->parked);
	CDS_INIT_LIST_HEAD(&w->lingering);
	slab_init(&w->client_slab, sizeof(struct client));
	CDS_INIT_LIST_HEAD(&w->listeners);
	sock_random(random, sizeof(random));
	hex16(random[0], w->next_id);
	hex16(random[1], w->next_id + 16);
	w->random = random[3] | 1;
	/* go-v2 ids: with the index behind it, below 2^53. */
	w->go_id = random[2] >> 20;
	start_agents(w, snapshot, NULL);
	start_upstreams(w, snapshot, NULL);
	__atomic_store_n(&shared->workers[w->index], w, __ATOMIC_RELEASE);
}

void worker_abort_all(struct worker *w)
{
	struct exchange *ex, *next_ex;
	struct client *c, *next;

	park_close_all(w);
	cds_list_for_each_entry_safe(c, next, &w->clients, node)
		client_kill(c, ENDED_SHUTDOWN, "shutdown");
	cds_list_for_each_entry_safe(ex, next_ex, &w->lingering, node) {
		observe_stop(ex);
		exchange_finish(ex);
	}
}

void worker_fini(struct worker *w)
{
	__atomic_store_n(&w->shared->workers[w->index], NULL,
			 __ATOMIC_RELEASE);
	worker_abort_all(w);
	w->closing = true;
	deadline_stop(&w->yield);
	deadline_stop(&w->release);
	deadline_stop(&w->park_sweep);
	listeners_stop(w, false);
	task_cancel(&w->drained);
	task_cancel(&w->access_flush);
	access_log_flush(w->shared->access, w->index, w->metrics);
	release_old(w);
	ASSERT(w->oldest == w->snapshot);
	held_return_lease(w);
	release(w, w->snapshot, NULL);
	w->snapshot = w->oldest = NULL;
}

static void on_drained_task(struct task *t)
{
	struct worker *w = container_of(t, struct worker, drained);
	void (*fn)(struct worker *w) = w->on_drained;

	/* Once. */
	w->on_drained = NULL;
	if (fn)
		fn(w);
}

void worker_check_drained(struct worker *w)
{
	if (w->draining && w->n_clients == 0 && !listeners_any(w))
		loop_defer(w->loop, &w->drained, on_drained_task);
}

void worker_drain_begin(struct worker *w)
{
	w->draining = true;
}

void worker_stop_listening(struct worker *w, bool accept_waiting)
{
	listeners_stop(w, accept_waiting);
	worker_check_drained(w);
}

void worker_drain(struct worker *w)
{
	w->draining = true;
	listeners_drain(w);
	worker_check_drained(w);
}
