/*
 * Groups of servers: balancing, kept connections, connect with retry.
 *
 * A group is made by the control thread, shared by all workers and by the
 * snapshots that name it; each worker owns its part (pools, counts, balancing
 * state) and touches no other's.
 */
#ifndef UPSTREAM_UPSTREAM_H
#define UPSTREAM_UPSTREAM_H

#include <stdio.h>

#include "config/model.h"
#include "h1/h1.h"
#include "report/metrics.h"

struct upstream;
struct upstream_server;		/* a worker's view of one server */

/* ---- control thread ------------------------------------------------------ */

/* config is copied as far as needed; it may go away. Takes a reference. NULL:
 * no memory. */
struct upstream *upstream_new(const struct config_upstream *config,
			      unsigned n_workers, struct metrics *metrics)
	MUST_CHECK;
struct upstream *upstream_get(struct upstream *u);
/* The last one frees; every worker must have called upstream_local_close(). */
void upstream_put(struct upstream *u);
/* Would this block make the same group? Then it is kept over a reload. */
bool upstream_same(const struct upstream *u, const struct config_upstream *c);
const char *upstream_name(const struct upstream *u);
/* timeouts.idle, in microseconds. Any thread. */
uint64_t upstream_idle_us(const struct upstream *u);
/* One element of /upstreams' list, as JSON. Any thread: reads counters. */
void upstream_print_json(struct upstream *u, FILE *out);

/* ---- worker -------------------------------------------------------------- */

/* Starts the group's active checks, on one of the workers. */
void upstream_local_start(struct upstream *u, struct loop *loop);

/* Closes this worker's idle connections and keeps none from now on. */
void upstream_local_close(struct upstream *u, struct loop *loop);

struct upstream_conn {
	struct h1_conn h1;
	struct cds_list_head node;	/* in the pool while idle */
	struct upstream *upstream;	/* NULL: an orphan */
	struct upstream_server *server;
	struct upstream_lease *lease;	/* NULL while idle */
	struct cds_list_head age;	/* of all idle ones, the newest first */
	struct task reap;
	struct deadline deadline;	/* of the connect */
	uint64_t since_us;		/* connecting, or idle, since then */
	bool reused;			/* it had carried a request before */
	uint64_t connect_us;		/* how long the connect took */
};

enum upstream_error {
	UPSTREAM_OK,
	UPSTREAM_REFUSED,	/* no server could be connected to: 502 */
	UPSTREAM_TIMEOUT,	/* none within timeouts.connect: 504 */
	UPSTREAM_NO_MEMORY,	/* 503 */
	/* Counted by those who use the connection: upstream_report(). */
	UPSTREAM_MALFORMED,	/* response broken: 502 */
	UPSTREAM_RESPONSE_TIMEOUT,	/* 504 */
	UPSTREAM_CLOSED,	/* ended before or inside the response: 502 */
	UPSTREAM_ERROR_N
};

extern const char *const upstream_error_names[UPSTREAM_ERROR_N];

/* One exchange's claim on a connection. Zero-initialise; in the arena. */
struct upstream_lease {
	struct upstream *upstream;
	struct upstream_conn *conn;	/* when ready */
	void (*on_ready)(struct upstream_lease *l, enum upstream_error error);
	struct loop *loop;
	struct task task;
	unsigned attempts;		/* connections tried or reused */
	const char *server;		/* the last tried; NULL: none was */
	struct upstream_conn *connecting;	/* private, while pending */
	uint64_t tried_mask;		/* private */
	uint64_t skip_mask;		/* private; see upstream_skip_server */
	enum upstream_error error;	/* private */
	uint64_t hash;			/* of the balancing key: upstream_hash */
	bool fresh;			/* no kept connection (stale retry) */
	bool pending;
};

/*
 * A connection to a server of the group, chosen by its balancing. Returns true
 * if one was at hand: lease->conn is set, on_ready is not called. Else
 * on_ready follows, never from inside: error UPSTREAM_OK with lease->conn, or
 * why not, after every other server was tried once.
 * The caller then owns conn->h1's source and sink events until it releases.
 */
bool upstream_acquire(struct upstream *u, struct loop *loop,
		      struct upstream_lease *lease) MUST_CHECK;
/* Gives the connection back: kept if `reuse` and h1_reusable(), else closed;
 * or withdraws a pending acquire. lease->conn is NULL after it. */
void upstream_release(struct upstream_lease *lease, bool reuse);
/* What balancing by hash goes by; 0 if the group does not. The same on all
 * workers, and over restarts. */
uint64_t upstream_hash(const struct upstream *u, const struct http_head *head,
		       struct slice client_ip);
/* The next acquire takes another server than the leased one. False: there is
 * none. */
bool upstream_skip_server(struct upstream_lease *lease);
/*
 * What the exchange on the leased connection says of its server: it failed by
 * its own fault, or answered in full. Failures in a row take it out. Failed
 * connects are counted here. Nothing that a client does is a failure.
 */
void upstream_blame(struct upstream_lease *lease, enum upstream_error error);
void upstream_praise(struct upstream_lease *lease);
/*
 * For tunnels, which outlive snapshots: the leased connection leaves the
 * group's books, and the group may be freed before it. Later
 * upstream_release() as ever, which closes it.
 */
void upstream_orphan(struct upstream_lease *lease);
/* Counts an error of a connection in use (those above UPSTREAM_NO_MEMORY; the
 * others are counted here), or a retry on a fresh connection. */
void upstream_report(struct upstream_lease *lease, enum upstream_error error);
void upstream_report_retry(struct upstream_lease *lease);
/* "IP:PORT", as configured, of the leased connection's server; "" for an
 * orphan. Valid as long as the group. */
const char *upstream_server_name(const struct upstream_conn *conn);

#endif
