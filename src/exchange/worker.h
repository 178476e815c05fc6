/*
 * A worker: one event loop's share of everything. A worker is a pointer; the
 * daemon runs each on a thread of its own, the simulator several on one.
 * All functions on the worker's own thread, but where said.
 */
#ifndef EXCHANGE_WORKER_H
#define EXCHANGE_WORKER_H

#include "base/slab.h"
#include "exchange/snapshot.h"
#include "report/access.h"

#define PEER_SLOTS	16384u

/* What all workers of the process share. Immutable but for the atomics. */
struct shared {
	unsigned n_workers;
	struct metrics *metrics;
	struct access_log *access;
	/* The budget of held bytes: taken in leases. Atomic. */
	uint64_t held_limit;		/* stored by the control thread */
	uint64_t held_bytes;
	/* Connections by client, see peers.c. Atomic. */
	uint64_t peer_key[2];
	uint32_t peers[2][PEER_SLOTS];
	/* Each stores itself; NULL before its beginning and after its end.
	 * Atomic. */
	struct worker *workers[CONFIG_MAX_WORKERS];
};

/* Before any worker is there. */
void peers_init(struct shared *s);

struct client;
struct exchange;
struct worker_listener;

struct worker {
	struct loop *loop;
	struct shared *shared;
	unsigned index;
	struct worker_metrics *metrics;
	struct snapshot *snapshot;	/* new exchanges use this one */
	struct snapshot *oldest;	/* not released yet; see snapshot_pin */
	struct deadline release;	/* look again whether it can be */
	struct deadline yield;		/* agents that dial in shall go */
	bool handed_over;		/* and those of today's config, too */
	/* Correlation ids: 16 random hex digits, then 16 that count. */
	char next_id[EVENT_ID_LEN];
	uint64_t go_id;
	uint64_t random;		/* of worker_random() */
	uint64_t held_lease;		/* bytes taken from shared, unused */
	struct cds_list_head clients;	/* struct client */
	struct cds_list_head parked;	/* struct parked: quiet clients */
	struct cds_list_head lingering;	/* struct exchange: have ended, but
					 * for their observers */
	struct deadline park_sweep;
	struct slab client_slab;
	unsigned n_parked_since_trim;
	struct cds_list_head listeners;	/* struct worker_listener */
	unsigned n_clients, n_exchanges;
	unsigned n_passing;		/* on their way to another worker; they
					 * are among the clients, too */
	uint64_t slow_next_us;		/* a line about a slow agent may come */
	unsigned slow_unsaid;		/* that had none since the last */
	bool draining;
	bool closing;			/* in worker_fini() */
	struct task access_flush;
	struct task drained;
	/* Told once after worker_drain(), when no client is left. */
	void (*on_drained)(struct worker *w);
	void *owner;
};

/* Starts the agents of snapshot on this worker. */
void worker_init(struct worker *w, struct loop *loop, struct shared *shared,
		 struct snapshot *snapshot);
/* Closes everything at once (clients, links, pools); snapshot is released. */
void worker_fini(struct worker *w);

/*
 * Accepts on fd (listening, non-blocking; stays the caller's) for the listener
 * at config->listeners[index] of the present snapshot. Stays over snapshots
 * by the listener's name; worker_unlisten() ends it. Again with the same name:
 * on several descriptors. False: no memory.
 */
bool worker_listen(struct worker *w, const char *listener_name, int fd)
	MUST_CHECK;
/* What waits there is accepted; then its clients are told with their next
 * answers, and idle ones are closed after a second. */
void worker_unlisten(struct worker *w, const char *listener_name);

/* From now on new exchanges use s (post from the control thread). The former
 * one is released as soon as this worker's exchanges on it have ended. */
void worker_switch(struct worker *w, struct snapshot *s);

/*
 * A drain in three steps, of which the former are optional: the next answer of
 * every connection is its last one (Connection: close), idle ones wait for
 * their next request; nothing is accepted any more, but for what waits there
 * now if accept_waiting; idle connections are closed. on_drained follows when
 * no client is left, never from inside.
 */
void worker_drain_begin(struct worker *w);
void worker_stop_listening(struct worker *w, bool accept_waiting);
void worker_drain(struct worker *w);
/* Another process has taken over: agents that dial in shall register there,
 * once their links have nothing to do here. */
void worker_yield_agents(struct worker *w);
/* Ends what is left: exchanges end as `shutdown`. */
void worker_abort_all(struct worker *w);

#endif
