/*
 * A snapshot: one generation of the config together with what it needs at run
 * time (upstream groups, agents, metric sets). Built aside by the control
 * thread, published under RCU, immutable but for the workers' own pins.
 *
 * Life: snapshot_new() -> published (workers switch to it one by one, by post)
 * -> retired at worker w when it switches away: once w's pins are gone it
 * closes its parts of groups and agents that the newer snapshot does not have,
 * and releases -> after the last worker's release, snapshot_free() by the
 * control thread after a grace period.
 *
 * Each exchange pins its snapshot on its own worker's counter: no cache line is
 * shared per request.
 */
#ifndef EXCHANGE_SNAPSHOT_H
#define EXCHANGE_SNAPSHOT_H

#include "agent/agent.h"
#include "base/rcu.h"
#include "config/model.h"
#include "upstream/upstream.h"
#include "wire/decision.h"
#include "wire/event.h"

/* A route's header policy, in the order in which it is applied. */
struct snapshot_ops {
	struct header_op *ops;
	unsigned n;
};

struct snapshot_route {
	const struct config_route *config;
	struct metrics_set *metrics;
	struct upstream *upstream;	/* NULL: it answers by itself */
	struct snapshot_ops request_ops, response_ops;
	struct agent **agents;		/* parallel to config->agents */
	struct event_route event;
	/* Facts over all agents of the route that enforce (the head: over
	 * all). */
	bool asks_request_body, asks_response_head, asks_response_body;
};

struct snapshot_listener {
	const struct config_listener *config;
	struct metrics_set *metrics;
	struct h1_settings settings;	/* of client connections */
};

struct snapshot_pin {
	uint64_t pins;			/* exchanges of this worker */
	/* The one that this worker switched to from this one; NULL while it is
	 * the present one. A worker releases in order, oldest first: what the
	 * next newer one does not name is used by nobody then. */
	struct snapshot *newer;
} __attribute__((aligned(CACHE_LINE)));

struct snapshot {
	/* Immutable after snapshot_new(). */
	struct config *config;		/* owned; freed with the snapshot */
	uint64_t generation;
	uint64_t loaded_wall_us;
	struct metrics *metrics;
	unsigned n_workers;
	struct snapshot_route *routes;	/* as config->routes */
	struct snapshot_listener *listeners;	/* as config->listeners */
	struct metrics_set *no_route;	/* of requests that none took */
	struct upstream **upstreams;	/* as config->upstreams */
	struct agent **agents;		/* as config->agents */
	/* All workers: atomic, how many have not released it yet. */
	unsigned workers_left;
	/* Called by the last worker that releases it, on its thread. */
	void (*on_released)(struct snapshot *s);
	void *owner;
	struct rcu_head rcu;
	/* pin[w] belongs to worker w. */
	struct snapshot_pin pin[];
};

/*
 * Consumes config (also on failure). Upstream groups and agents of `previous`
 * (may be NULL) whose blocks are the same are taken over by reference; new
 * ones are made. New agents are added to the table by the caller when it
 * publishes (snapshot_publish_agents). NULL: no memory.
 */
struct snapshot *snapshot_new(struct config *config, uint64_t generation,
			      const struct snapshot *previous,
			      unsigned n_workers, struct metrics *metrics)
	MUST_CHECK;
/* Control thread, after every worker has released it and a grace period. */
void snapshot_free(struct snapshot *s);
/* Control thread: makes the table name exactly s's agents. */
bool snapshot_publish_agents(struct snapshot *s, struct agent_table *table)
	MUST_CHECK;

#endif
