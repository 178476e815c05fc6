/* What the files of upstream/ share. upstream.c: the group, control thread.
 * balance.c: which server. pool.c: connections, on the workers. health.c: who
 * is taken out, and comes back. check.c: active checks. */
#ifndef UPSTREAM_INTERNAL_H
#define UPSTREAM_INTERNAL_H

#include "upstream/upstream.h"

/* A server that could not be connected to is avoided for this long, if there
 * are others. */
#define DOWN_US		1000000u

/* A server of the group. */
struct server_info {
	const char *name;		/* as configured */
	struct net_addr addr;
	unsigned weight;
	uint64_t hash;			/* of the name */
	struct metrics_set *metrics;
	/* Shared, atomic, written on change. */
	bool down;		/* as logged and shown */
	bool check_down;	/* checks say so */
	unsigned failures;	/* of requests, in a row */
	uint64_t ejected_until_us;
	/* Worker 0's: checks in a row. */
	unsigned good_checks, bad_checks;
};

/* A worker's view of a server. */
struct upstream_server {
	struct server_info *info;
	struct cds_list_head idle;	/* upstream_conn.node, newest first */
	unsigned active;		/* leased or connecting */
	int64_t current;		/* of smooth round robin */
	uint64_t avoid_until_us;
	struct server_metrics *metrics;
};

/* A worker's part of a group. */
struct upstream_local {
	struct upstream *upstream;
	struct upstream_metrics *metrics;
	struct cds_list_head ages;	/* all idle, upstream_conn.age */
	unsigned n_idle;
	unsigned cursor;		/* where ties begin */
	uint64_t random;
	bool closed;
	struct deadline sweep;		/* of connections idle for too long */
	struct loop *loop;		/* NULL before the first acquire */
	struct cds_list_head free;	/* spare struct upstream_conn, .node */
	unsigned n_free;
	struct cds_list_head closing;	/* until the end of the turn, .node */
	unsigned n_conns;		/* in any state but spare or orphan */
	struct upstream_server servers[];
};

struct upstream {
	/* Immutable. */
	char *name;
	enum config_balance balance;
	unsigned keepalive;
	uint64_t connect_us, response_us, idle_us;
	struct h1_settings settings;
	struct metrics *metrics;
	struct metrics_set *set;
	unsigned n_workers, n_servers;
	struct server_info *servers;
	struct upstream_local **local;	/* local[w] belongs to worker w */
	enum config_hash_key hash_key;
	char *hash_header;
	unsigned max_failures, max_percent;
	uint64_t ejection_us;
	struct {
		enum config_check type;
		uint64_t interval_us, timeout_us;
		unsigned rise, fall;
	} check;
	char *check_path, *check_host;
	struct h1_settings check_settings;
	/* Worker 0's; NULL: none. */
	struct server_check *checks;
	struct loop *check_loop;
	/* Atomic: some worker takes a server out. */
	bool ejecting;
	/* Control thread. */
	unsigned refs;
};

/* The server for a request; those of *tried are left out. NULL: all are. */
struct upstream_server *balance_pick(struct upstream_local *local,
				     uint64_t now_us, uint64_t tried,
				     uint64_t hash);

enum fault { FAULT_SERVER, FAULT_BUSY, FAULT_OURS };

/* Whose fault is it that a connect could not even start? error: -errno. */
enum fault upstream_fault_of(int error);

/* health.c. Any worker; error: a word or a text for the log. */
bool server_is_out(const struct server_info *info, uint64_t now_us);
void server_down(struct upstream *u, struct server_info *info,
		 const char *reason, const char *error);
void server_failure(struct upstream *u, struct server_info *info,
		    uint64_t now_us, const char *error);
/* Worker 0. */
void server_check_good(struct upstream *u, struct server_info *info,
		       uint64_t now_us);
void server_check_bad(struct upstream *u, struct server_info *info,
		      const char *error);

/* check.c. False: no memory. */
bool checks_new(struct upstream *u) MUST_CHECK;
void checks_stop(struct upstream *u, struct loop *loop);

static inline unsigned server_index(const struct upstream_local *local,
				    const struct upstream_server *server)
{
	return (unsigned)(server - local->servers);
}

/* With more than 64 servers some share a bit, and count as tried together. */
static inline uint64_t server_bit(unsigned index)
{
	return UINT64_C(1) << (index % 64);
}

#endif
