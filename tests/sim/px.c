/* One run of the scenario `proxy`; see px.h. */
#include "px.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rcu.h"
#include "px_client.h"
#include "sim_scenario.h"

/* No world takes longer: else somebody hangs. */
#define WORLD_US	(900 * SIM_SECOND)

#define BUFFER_MIN	100

uint64_t px_exchanges;

static bool clients_over(void *arg)
{
	struct px *px = arg;

	return px->n_over == px->n_clients;
}

static bool is_quiet(void *arg)
{
	struct px *px = arg;

	return px_host_quiet(px->host);
}

static void on_reload(void *arg)
{
	struct px *px = arg;

	if (px->ending || clients_over(px))
		return;
	px_host_reload(px);
	sim_after(px->w, sim_below(px->w, sim_chance(px->w, 500) ? 5000 :
				   500 * SIM_MS), on_reload, px);
}

/* All traffic, until every client has what it wanted or has given up. */
static void run_traffic(struct px *px)
{
	uint64_t until = sim_now(px->w) + WORLD_US;
	bool ok;

	if (px->faults & PX_SHUTDOWN) {
		until = sim_now(px->w) + sim_below(px->w, sim_chance(px->w,
				500) ? 5000 : SIM_SECOND);
		ok = sim_run_until(px->w, until, clients_over, px);
		px_host_stop(px, sim_chance(px->w, 600));
		return;
	}
	ok = sim_run_until(px->w, until, clients_over, px);
	for (unsigned i = 0; !ok && i < px->n_clients; i++) {
		const struct px_client *c = &px->clients[i];

		if (!c->over)
			fprintf(stderr, "sim: client %u (%s, %u) sends %u, "
				"reads %u of %u, trouble %u\n", i,
				c->peer ? c->from : "not there",
				c->peer ? c->peer->id : 0, c->sending,
				c->receiving, c->n, c->trouble);
	}
	PX_CHECK(px, NULL, ok, "%u of %u clients are not served",
		 px->n_clients - px->n_over, px->n_clients);
	/* Nothing may be left of it, by and by. */
	ok = sim_run_until(px->w, sim_now(px->w) + WORLD_US, is_quiet, px);
	PX_CHECK(px, NULL, ok, "something is left when all clients are gone");
	/* Agents are told of it, at the network's pace. */
	sim_run(px->w, sim_now(px->w) + SIM_SECOND);
	if (sim_chance(px->w, 200))
		px_host_stop(px, true);
}

static void draw_memory(struct px *px)
{
	static const uint32_t rates[] = { 300, 3000, 30000 };

	if (px->faults & PX_NO_MEMORY)
		sim_memory_faults(px->w, rates[sim_below(px->w,
							 ARRAY_LEN(rates))]);
}

static uint64_t run(uint64_t seed, bool verbose)
{
	struct px *px = calloc(1, sizeof(*px));
	uint64_t digest;

	ASSERT(px);
	log_set_level(verbose ? LOG_DEBUG : LOG_ERROR);
	log_set_fd(verbose ? 1 : 2);
	px->seed = seed;
	px->w = sim_world_new(seed, verbose);
	block_pool_init(&px->pool);
	arena_pool_init(&px->arenas);
	px_plan(px);
	if (px->calm)
		sim_calm(px->w);
	/* Byte by byte a large body takes for ever. */
	if (sim_profile(px->w)->buffer_min < BUFFER_MIN)
		sim_profile(px->w)->buffer_min = BUFFER_MIN;
	sim_trace(px->w, "faults %u%s, %u workers, %u clients", px->faults,
		  px->calm ? ", calm" : "", px->n_workers, px->n_clients);
	px_agents_start(px);
	px_servers_start(px);
	px_host_start(px);
	px_clients_start(px);
	draw_memory(px);
	if (px->faults & PX_RELOADS)
		sim_after(px->w, sim_below(px->w, 5000), on_reload, px);
	run_traffic(px);
	sim_memory_faults(px->w, 0);
	px_host_end(px);
	px_check_all(px);
	digest = sim_digest(px->w);
	px_agents_end(px);
	px_servers_end(px);
	px_clients_end(px);
	arena_pool_fini(&px->arenas);
	block_pool_fini(&px->pool);
	sim_world_free(px->w);
	free(px);
	return digest;
}

const struct sim_scenario sim_scenario_proxy = { "proxy", run };
