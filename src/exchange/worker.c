#include "exchange/worker.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "exchange/exchange.h"

/* Accepts in one turn, at most, before traffic gets its share. */
#define ACCEPT_BATCH	64
#define ACCEPT_RETRY_US	100000u
/* Quiet connections closed at a time when descriptors run out. */
#define ACCEPT_ROOM	8u
/* And before a listener is closed: all that may wait there. */
#define ACCEPT_LAST	65536

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

/* Releases, oldest first, what nothing pins any more. */
static void release_old(struct worker *w)
{
	while (w->oldest != w->snapshot &&
	       w->oldest->pin[w->index].pins == 0) {
		struct snapshot *s = w->oldest;
		struct snapshot *newer = s->pin[w->index].newer;

		w->oldest = newer;
		release(w, s, newer);
	}
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

/* ---- listeners -------------------------------------------------------------- */

/*
 * A set goes with its last snapshot: what is open moves on to the one that
 * counts from now on. A name may go and come back while its clients stay.
 */
static void listener_count_at(struct worker_listener *l,
			      struct listener_metrics *to)
{
	if (to == l->metrics)
		return;
	counter_add(&l->metrics->connections, (uint64_t)0 - l->n_open);
	counter_add(&to->connections, l->n_open);
	l->metrics = to;
}

static void listener_configure(struct worker_listener *l)
{
	struct worker *w = l->worker;
	const struct snapshot *s = w->snapshot;

	l->config = NULL;
	for (unsigned i = 0; i < s->config->n_listeners; i++)
		if (strcmp(s->listeners[i].config->name, l->name) == 0)
			l->config = &s->listeners[i];
	if (l->config) {
		l->settings = l->config->settings;
		listener_count_at(l, metrics_set_local(l->config->metrics,
						       w->index));
	} else {
		listener_count_at(l, &l->no_metrics);
	}
}

/* Connections of the listener over all workers. */
static uint64_t listener_load(const struct worker_listener *l)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < l->worker->shared->n_workers; i++) {
		struct listener_metrics *m =
			metrics_set_local(l->config->metrics, i);

		n += counter_read(&m->connections);
	}
	return n;
}

static void on_acceptable(struct watch *watch, unsigned what);

static void on_accept_retry(struct deadline *d)
{
	struct worker_listener *l =
		container_of(d, struct worker_listener, retry);

	if (!watch_start_listener(l->worker->loop, &l->watch, l->fd,
				  on_acceptable))
		deadline_start(l->worker->loop, &l->retry, ACCEPT_RETRY_US,
			       on_accept_retry);
}

/* Out of descriptors: looks away for a while instead of spinning. */
static void accept_later(struct worker_listener *l, int error)
{
	counter_inc(&l->metrics->refused_system);
	log_warn("accept", "listener=%s error=\"%s\" retry_ms=%u", l->name,
		 strerror(-error), ACCEPT_RETRY_US / 1000);
	watch_stop(&l->watch);
	deadline_start(l->worker->loop, &l->retry, ACCEPT_RETRY_US,
		       on_accept_retry);
}

/* The quietest connection makes way for a new one. */
static bool has_room(struct worker_listener *l)
{
	if (!l->config)
		return false;
	if (listener_load(l) < l->config->config->max_connections)
		return true;
	return park_close_oldest(l->worker, l);
}

/* Out of descriptors: quiet connections give way, some more than this one
 * takes, for it will need a connection to the upstream as well. */
static int accept_once_more(struct worker_listener *l, struct net_addr *from,
			    int error)
{
	unsigned n = 0;

	while (n < ACCEPT_ROOM && park_close_oldest(l->worker, NULL))
		n++;
	return n ? sock_accept(l->fd, from) : error;
}

static void accept_some(struct worker_listener *l, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		struct net_addr from;
		int fd = sock_accept(l->fd, &from);

		if (UNLIKELY(fd == -EMFILE || fd == -ENFILE))
			fd = accept_once_more(l, &from, fd);
		if (fd == -EAGAIN)
			return;
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS ||
		    fd == -ENOMEM) {
			accept_later(l, fd);
			return;
		}
		if (fd < 0)
			continue;	/* that one went away by itself */
		if (!has_room(l)) {
			counter_inc(&l->metrics->refused_limit);
			sock_close(fd, true);
			continue;
		}
		client_accept(l, fd, &from);
	}
}

static void on_acceptable(struct watch *watch, unsigned what)
{
	accept_some(container_of(watch, struct worker_listener, watch),
		    ACCEPT_BATCH);
}

bool worker_listen(struct worker *w, const char *listener_name, int fd)
{
	size_t len = strlen(listener_name) + 1;
	struct worker_listener *l = mem_zalloc(sizeof(*l) + len);

	if (!l)
		return false;
	memcpy(l->name, listener_name, len);
	for (const char *s = listener_name; *s; s++)
		l->name_hash = l->name_hash * 31 + (unsigned char)*s;
	l->worker = w;
	l->fd = fd;
	l->metrics = &l->no_metrics;
	listener_configure(l);
	if (!watch_start_listener(w->loop, &l->watch, fd, on_acceptable)) {
		mem_free(l);
		return false;
	}
	cds_list_add_tail(&l->node, &w->listeners);
	return true;
}

void worker_listener_put(struct worker_listener *l)
{
	if (l->fd >= 0 || l->n_clients > 0)
		return;
	cds_list_del(&l->node);
	mem_free(l);
}

static void listener_stop(struct worker_listener *l)
{
	watch_stop(&l->watch);
	deadline_stop(&l->retry);
	l->fd = -1;
}

static void listener_unlisten(struct worker_listener *l)
{
	struct client *c;

	listener_stop(l);
	park_open_all(l->worker, l);
	cds_list_for_each_entry(c, &l->worker->clients, node)
		if (c->listener == l)
			h1_drain(&c->h1);
	worker_listener_put(l);
}

void worker_unlisten(struct worker *w, const char *listener_name)
{
	struct worker_listener *l, *next;

	cds_list_for_each_entry_safe(l, next, &w->listeners, node)
		if (l->fd >= 0 && strcmp(l->name, listener_name) == 0)
			listener_unlisten(l);
}

void worker_switch(struct worker *w, struct snapshot *s)
{
	struct snapshot *old = w->snapshot;
	struct worker_listener *l;

	old->pin[w->index].newer = s;
	w->snapshot = s;
	start_agents(w, s, old);
	start_upstreams(w, s, old);
	cds_list_for_each_entry(l, &w->listeners, node)
		listener_configure(l);
	release_old(w);
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
}

static void close_listeners(struct worker *w, unsigned accept_first)
{
	struct worker_listener *l, *next;

	cds_list_for_each_entry_safe(l, next, &w->listeners, node) {
		if (l->fd >= 0 && accept_first)
			accept_some(l, accept_first);
		if (l->fd >= 0)
			listener_stop(l);
		worker_listener_put(l);
	}
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
	worker_abort_all(w);
	deadline_stop(&w->park_sweep);
	close_listeners(w, 0);
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

static bool is_listening(const struct worker *w)
{
	const struct worker_listener *l;

	cds_list_for_each_entry(l, &w->listeners, node)
		if (l->fd >= 0)
			return true;
	return false;
}

void worker_check_drained(struct worker *w)
{
	if (w->draining && w->n_clients == 0 && !is_listening(w))
		loop_defer(w->loop, &w->drained, on_drained_task);
}

void worker_drain_begin(struct worker *w)
{
	w->draining = true;
}

void worker_stop_listening(struct worker *w, bool accept_waiting)
{
	close_listeners(w, accept_waiting ? ACCEPT_LAST : 0);
	worker_check_drained(w);
}

void worker_drain(struct worker *w)
{
	struct client *c, *next;

	if (w->ending)
		return;
	w->draining = w->ending = true;
	close_listeners(w, 0);
	park_open_all(w, NULL);
	cds_list_for_each_entry_safe(c, next, &w->clients, node)
		h1_drain(&c->h1);
	worker_check_drained(w);
}
