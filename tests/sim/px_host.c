/*
 * The control thread's part: what src/daemon does with a config, workers and
 * snapshots, without threads. All workers' loops turn in this one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/reverse.h"
#include "config/load.h"
#include "exchange/worker.h"
#include "net/sock.h"
#include "px_client.h"

struct px_worker {
	struct worker worker;
	struct loop *loop;
	struct px_host *host;
	struct post post;
	int fds[2];		/* of its listeners, -1: closed */
	bool listening[2];
	struct snapshot *next;
	bool drained;
};

struct px_host {
	struct px *px;
	struct shared shared;
	struct agent_table *table;
	struct reverse *door;	/* the first worker's, where agents dial in */
	int door_fd;
	struct snapshot *current;
	uint64_t generation;
	unsigned live;		/* snapshots */
	unsigned switching;	/* workers that have not switched yet */
	bool draining;
	struct px_worker workers[PX_WORKERS];
	/* Held, so that they are there at the end. */
	struct metrics_set *agents[PX_AGENTS], *groups[PX_GROUPS];
	struct metrics_set *servers[PX_GROUPS * PX_SERVERS];
	struct metrics_set *listeners[2], *routes[PX_ROUTES + 1];
};

/* ---- snapshots ----------------------------------------------------------- */

static void on_free(void *arg)
{
	struct snapshot *s = arg;
	struct px_host *h = s->owner;

	h->live--;
	snapshot_free(s);
}

/* The last worker has let it go; a grace period later it is freed. */
static void on_released(struct snapshot *s)
{
	struct px_host *h = s->owner;

	sim_after(h->px->w, sim_below(h->px->w, 5000), on_free, s);
}

static void make_snapshot(struct px_host *h)
{
	char *text = px_plan_text(h->px), *faults = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&faults, &n);
	struct config *config;
	struct snapshot *s;
	bool ok;

	ASSERT(f);
	config = config_load_text("sim.yaml", slice_str(text), f);
	fclose(f);
	PX_CHECK(h->px, NULL, config, "the config is refused:\n%s\n%s", text,
		 faults);
	if (h->px->w && !h->current)
		sim_trace(h->px->w, "config:\n%s", text);
	free(faults);
	free(text);
	h->shared.held_limit = config->memory_held_bytes;
	s = snapshot_new(config, ++h->generation, h->current,
			 h->px->n_workers, h->shared.metrics);
	ASSERT(s);
	s->owner = h;
	s->on_released = on_released;
	ok = snapshot_publish_agents(s, h->table);
	ASSERT(ok);
	h->current = s;
	h->live++;
}

/* ---- listeners ----------------------------------------------------------- */

static int open_listener(struct px *px, unsigned i)
{
	struct net_addr a;
	int fd;
	bool ok = net_addr_parse(slice_str(px->listeners[i].address), &a);

	ASSERT(ok);
	fd = sock_listen(&a, 128);
	ASSERT(fd >= 0);
	return fd;
}

static const char *const listener_names[] = { "l0", "l1" };

static void begin_listening(struct px_worker *pw)
{
	struct px *px = pw->host->px;

	for (unsigned i = 0; i < 2; i++) {
		if (!px->listeners[i].on || pw->listening[i] ||
		    pw->worker.draining)
			continue;
		if (pw->fds[i] < 0)
			pw->fds[i] = open_listener(px, i);
		/* Without memory it has one listener less. */
		pw->listening[i] = worker_listen(&pw->worker,
						 listener_names[i],
						 pw->fds[i]);
	}
}

static void stop_listening(struct px_worker *pw)
{
	for (unsigned i = 0; i < 2; i++) {
		if (pw->host->px->listeners[i].on || !pw->listening[i])
			continue;
		pw->listening[i] = false;
		worker_unlisten(&pw->worker, listener_names[i]);
	}
}

/* All workers have switched: sockets that no listener has are closed. */
static void close_unused(struct px_host *h)
{
	for (unsigned w = 0; w < h->px->n_workers; w++)
		for (unsigned i = 0; i < 2; i++) {
			struct px_worker *pw = &h->workers[w];

			if (pw->listening[i] || pw->fds[i] < 0 ||
			    !(h->px->listeners[i].on ? pw->worker.draining :
						       true))
				continue;
			sock_close(pw->fds[i], false);
			pw->fds[i] = -1;
		}
}

/* ---- reload -------------------------------------------------------------- */

static void on_switch(struct loop *loop, struct post *p)
{
	struct px_worker *pw = container_of(p, struct px_worker, post);
	struct px_host *h = pw->host;

	stop_listening(pw);
	worker_switch(&pw->worker, pw->next);
	begin_listening(pw);
	if (--h->switching == 0)
		close_unused(h);
}

static void on_order(void *arg)
{
	struct px_worker *pw = arg;

	if (pw->loop)
		loop_post(pw->loop, &pw->post, on_switch);
}

void px_host_reload(struct px *px)
{
	struct px_host *h = px->host;

	if (h->switching || h->draining)
		return;
	px_plan_change(px);
	make_snapshot(h);
	sim_trace(px->w, "reload: generation %" PRIu64, h->generation);
	h->switching = px->n_workers;
	for (unsigned w = 0; w < px->n_workers; w++) {
		h->workers[w].next = h->current;
		sim_after(px->w, sim_below(px->w, 3000), on_order,
			  &h->workers[w]);
	}
}

/* ---- beginning ----------------------------------------------------------- */

static void on_line(void *arg, const char *line, size_t n)
{
	px_check_line(arg, line, n);
}

static struct metrics_set *hold(struct px_host *h, enum metrics_kind kind,
				const char *name, const char *name2)
{
	struct metrics_set *s = metrics_set_get(h->shared.metrics, kind, name,
						name2);

	ASSERT(s);
	return s;
}

static void hold_metrics(struct px_host *h)
{
	struct px *px = h->px;
	char name[32];

	for (unsigned i = 0; i < px->n_agents; i++)
		h->agents[i] = hold(h, METRICS_AGENT, px->agents[i].name, "");
	for (unsigned i = 0; i < px->n_groups; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		h->groups[i] = hold(h, METRICS_UPSTREAM, name, "");
		for (unsigned k = 0; k < px->groups[i].n_servers; k++)
			h->servers[i * PX_SERVERS + k] =
				hold(h, METRICS_SERVER, name,
				     px->servers[i * PX_SERVERS + k].address);
	}
	for (unsigned i = 0; i < 2; i++)
		h->listeners[i] = hold(h, METRICS_LISTENER,
				       listener_names[i], "");
	for (unsigned i = 0; i < px->n_routes; i++) {
		snprintf(name, sizeof(name), "route-%u", i + 1);
		h->routes[i] = hold(h, METRICS_ROUTE, name, "");
	}
	h->routes[px->n_routes] = hold(h, METRICS_ROUTE, "none", "");
}

static void open_door(struct px_host *h)
{
	struct net_addr a;
	bool ok = net_addr_parse(SLICE(PX_DOOR), &a);

	ASSERT(ok);
	h->door_fd = sock_listen(&a, 128);
	ASSERT(h->door_fd >= 0);
	h->door = reverse_new(h->workers[0].loop, h->table,
			      metrics_worker(h->shared.metrics, 0));
	ok = h->door && reverse_listen(h->door, h->door_fd);
	ASSERT(ok);
}

struct px_host *px_host_start(struct px *px)
{
	struct px_host *h = calloc(1, sizeof(*h));

	ASSERT(h);
	h->px = px;
	px->host = h;
	h->shared.n_workers = px->n_workers;
	h->shared.metrics = metrics_new(px->n_workers);
	h->shared.access = access_log_open("off", ACCESS_JSON, px->n_workers);
	h->table = agent_table_new();
	ASSERT(h->shared.metrics && h->shared.access && h->table);
	access_log_capture(h->shared.access, on_line, px);
	hold_metrics(h);
	make_snapshot(h);
	for (unsigned w = 0; w < px->n_workers; w++) {
		struct px_worker *pw = &h->workers[w];

		pw->host = h;
		pw->fds[0] = pw->fds[1] = -1;
		pw->loop = loop_new(w);
		worker_init(&pw->worker, pw->loop, &h->shared, h->current);
		begin_listening(pw);
	}
	open_door(h);
	return h;
}

/* ---- counters ------------------------------------------------------------ */

static uint64_t sum(struct px_host *h, struct metrics_set *set, size_t at)
{
	uint64_t n = 0;

	for (unsigned w = 0; w < h->px->n_workers; w++) {
		const char *part = metrics_set_local(set, w);

		n += counter_read((const struct counter *)(part + at));
	}
	return n;
}
#define SUM(h, set, type, field)					\
	sum(h, set, offsetof(struct type, field))

static uint64_t worker_sum(struct px_host *h, size_t at)
{
	uint64_t n = 0;

	for (unsigned w = 0; w < h->px->n_workers; w++) {
		const char *m = (const char *)metrics_worker(h->shared.metrics,
							     w);

		n += counter_read((const struct counter *)(m + at));
	}
	return n;
}
#define WORKER_SUM(h, field)						\
	worker_sum(h, offsetof(struct worker_metrics, field))

static void must_be(struct px_host *h, const char *what, uint64_t have,
		    uint64_t want)
{
	PX_CHECK(h->px, NULL, have == want,
		 "%s is %" PRIu64 ", should be %" PRIu64, what, have, want);
}

static void check_agent_laws(struct px_host *h, unsigned i)
{
	struct metrics_set *s = h->agents[i];
	uint64_t events = 0, decisions = 0, failures = 0, bypass = 0,
		 denied = 0;

	for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++) {
		events += SUM(h, s, agent_metrics, events[e]);
		for (unsigned d = 0; d < METRICS_DECISIONS; d++)
			decisions += SUM(h, s, agent_metrics, decisions[e][d]);
	}
	for (unsigned c = 0; c < CAUSE_N; c++) {
		failures += SUM(h, s, agent_metrics, failures[c]);
		bypass += SUM(h, s, agent_metrics, bypass[c]);
		denied += SUM(h, s, agent_metrics, denied[c]);
	}
	must_be(h, "agent_in_flight", SUM(h, s, agent_metrics, in_flight), 0);
	must_be(h, "decisions + failures sent + abandoned", decisions +
		failures - SUM(h, s, agent_metrics, unsent) +
		SUM(h, s, agent_metrics, abandoned), events);
	must_be(h, "bypass + denied", bypass + denied, failures);
	must_be(h, "agent queued", SUM(h, s, agent_metrics, queued), 0);
	must_be(h, "agent held_bytes", SUM(h, s, agent_metrics, held_bytes),
		0);
	must_be(h, "agent links up", SUM(h, s, agent_metrics, links_up), 0);
	must_be(h, "agent links connecting",
		SUM(h, s, agent_metrics, links_connecting), 0);
	must_be(h, "agent links stalled",
		SUM(h, s, agent_metrics, links_stalled), 0);
}

/* Was a head that the agent was given followed by its complete? */
static bool has_complete(const struct px_exchange *x, unsigned k,
			 const struct px_agent *a)
{
	const struct px_route *r = px_route_of(x);

	return k >= r->n_asked || r->asked[k].agent != a->index ||
	       !x->parts[k].head[PX_REQUEST].asked || x->parts[k].complete;
}

static void check_completes(struct px_host *h, const struct px_agent *a)
{
	if (h->px->disturbed || a->hasty ||
	    a->n_closed + a->n_bad + a->n_empty + a->n_slow)
		return;
	PX_CHECK(h->px, NULL, a->n_lost_links == 0 || (h->px->faults &
		 PX_RELOADS) || !h->px->calm || a->max_connections !=
		 a->connections, "links to agent %s were closed", a->name);
	/* A link that goes with an old config may have no room for it. */
	if (a->n_lost_links && !h->px->calm)
		return;
	for (unsigned i = 1; i <= h->px->n_x; i++)
		for (unsigned k = 0; k < PX_PARTS; k++)
			PX_CHECK(h->px, &h->px->x[i], has_complete(
				 &h->px->x[i], k, a), "agent %s is not told "
				 "that it is over", a->name);
}

static void check_laws(struct px_host *h)
{
	struct px *px = h->px;
	uint64_t requests = 0, ended = 0;

	for (unsigned i = 0; i <= px->n_routes; i++)
		for (unsigned c = 0; c < CODE_CLASS_N; c++)
			requests += SUM(h, h->routes[i], route_metrics,
					requests[c]);
	for (unsigned e = 0; e < ENDED_N; e++)
		ended += WORKER_SUM(h, ended[e]);
	must_be(h, "ended", ended, requests);
	must_be(h, "lines in the log", px->lines +
		WORKER_SUM(h, access_lost), requests);
	for (unsigned i = 0; i < px->n_agents; i++) {
		check_agent_laws(h, i);
		check_completes(h, &px->agents[i]);
	}
}

static void check_gauges(struct px_host *h)
{
	struct px *px = h->px;

	must_be(h, "exchanges_in_flight",
		WORKER_SUM(h, exchanges_in_flight), 0);
	must_be(h, "held_bytes", WORKER_SUM(h, held_bytes), 0);
	must_be(h, "shared held_bytes", h->shared.held_bytes, 0);
	for (unsigned i = 0; i < px->n_groups; i++) {
		struct metrics_set *s = h->groups[i];

		must_be(h, "upstream active",
			SUM(h, s, upstream_metrics, active), 0);
		must_be(h, "upstream idle",
			SUM(h, s, upstream_metrics, idle), 0);
		for (unsigned k = 0; k < px->groups[i].n_servers; k++) {
			s = h->servers[i * PX_SERVERS + k];
			must_be(h, "server active",
				SUM(h, s, server_metrics, active), 0);
			must_be(h, "server idle",
				SUM(h, s, server_metrics, idle), 0);
		}
	}
	for (unsigned i = 0; i < 2; i++)
		must_be(h, "connections", SUM(h, h->listeners[i],
			listener_metrics, connections), 0);
}

void px_host_check_budget(struct px *px)
{
	PX_CHECK(px, NULL, px->host->shared.held_bytes <=
		 px->host->shared.held_limit, "%" PRIu64 " bytes held of %"
		 PRIu64, px->host->shared.held_bytes,
		 px->host->shared.held_limit);
}

/* ---- the end ------------------------------------------------------------- */

bool px_host_quiet(struct px_host *h)
{
	unsigned clients = 0;

	for (unsigned w = 0; w < h->px->n_workers; w++) {
		clients += h->workers[w].worker.n_clients;
		if (!cds_list_empty(&h->workers[w].worker.lingering))
			return false;
	}
	return !clients && h->live == 1 && !h->switching &&
	       WORKER_SUM(h, exchanges_in_flight) == 0;
}

static void on_drained(struct worker *w)
{
	struct px_worker *pw = container_of(w, struct px_worker, worker);

	PX_CHECK(pw->host->px, NULL, !pw->drained, "drained twice");
	pw->drained = true;
}

static void on_drain(struct loop *loop, struct post *p)
{
	struct px_worker *pw = container_of(p, struct px_worker, post);

	if (pw == pw->host->workers)
		reverse_drain(pw->host->door);
	pw->worker.on_drained = on_drained;
	worker_drain(&pw->worker);
	pw->listening[0] = pw->listening[1] = false;
}

static void on_abort(struct loop *loop, struct post *p)
{
	struct px_worker *pw = container_of(p, struct px_worker, post);

	worker_abort_all(&pw->worker);
}

static bool has_switched(void *arg)
{
	struct px_host *h = arg;

	return h->switching == 0;
}

static bool has_drained(void *arg)
{
	struct px_host *h = arg;

	for (unsigned w = 0; w < h->px->n_workers; w++)
		if (!h->workers[w].drained)
			return false;
	return true;
}

void px_host_stop(struct px *px, bool drain)
{
	struct px_host *h = px->host;
	bool ok = sim_run_until(px->w, sim_now(px->w) + SIM_SECOND,
				has_switched, h);

	PX_CHECK(px, NULL, ok, "a worker does not switch");
	h->draining = px->ending = true;
	for (unsigned w = 0; w < px->n_workers; w++)
		loop_post(h->workers[w].loop, &h->workers[w].post,
			  drain ? on_drain : on_abort);
	if (!drain) {
		sim_run(px->w, sim_now(px->w) + sim_below(px->w, 1000));
		return;
	}
	/* Not for ever: then what is left is ended. */
	if (sim_run_until(px->w, sim_now(px->w) + 30 * SIM_SECOND,
			  has_drained, h))
		return;
	for (unsigned w = 0; w < px->n_workers; w++)
		loop_post(h->workers[w].loop, &h->workers[w].post, on_abort);
	ok = sim_run_until(px->w, sim_now(px->w) + SIM_SECOND, has_drained,
			   h);
	PX_CHECK(px, NULL, ok, "a worker does not drain");
}

static void worker_down(struct px_worker *pw)
{
	if (pw == pw->host->workers) {
		reverse_free(pw->host->door);
		sock_close(pw->host->door_fd, false);
	}
	worker_fini(&pw->worker);
	/* What that put off until the end of a turn. */
	loop_turn(pw->loop, 0);
	loop_turn(pw->loop, 0);
	for (unsigned i = 0; i < 2; i++)
		if (pw->fds[i] >= 0)
			sock_close(pw->fds[i], false);
}

static void loop_down(struct px_worker *pw)
{
	struct px *px = pw->host->px;

	PX_CHECK(px, NULL, pw->loop->blocks.live == 0, "%" PRIu64
		 " blocks are left", pw->loop->blocks.live);
	PX_CHECK(px, NULL, pw->loop->arenas.live == 0, "%" PRIu64
		 " arena chunks are left", pw->loop->arenas.live);
	loop_free(pw->loop);
	pw->loop = NULL;
}

void px_host_end(struct px *px)
{
	struct px_host *h = px->host;

	px->ending = true;
	for (unsigned w = 0; w < px->n_workers; w++)
		worker_down(&h->workers[w]);
	/* What they have posted to each other at last. */
	for (unsigned round = 0; round < 4; round++)
		for (unsigned w = 0; w < px->n_workers; w++)
			loop_turn(h->workers[w].loop, 0);
	for (unsigned w = 0; w < px->n_workers; w++)
		loop_down(&h->workers[w]);
	/* Whatever scripts still have in hand. */
	while (sim_run(px->w, sim_now(px->w) + 3600 * SIM_SECOND))
		;
	must_be(h, "snapshots", h->live, 0);
	check_gauges(h);
	check_laws(h);
	agent_table_free(h->table);
	access_log_close(h->shared.access);
	metrics_free(h->shared.metrics);
	free(h);
	px->host = NULL;
}
