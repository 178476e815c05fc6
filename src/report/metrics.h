/*
 * Metrics: per-worker counters, added up when someone asks.
 *
 * Each set of counters belongs to one worker (its only writer) and stands on
 * cache lines of its own. Sets with labels (a route, a listener, an agent, a
 * server) are found by name in a registry, and counted,
 * so that a reload which keeps a name keeps its counters.
 */
#ifndef REPORT_METRICS_H
#define REPORT_METRICS_H

#include <stdio.h>

#include "base/counter.h"
#include "base/words.h"

/* ---- histograms --------------------------------------------------------- */

#define HISTOGRAM_BUCKETS 20

/* Bounds in microseconds, from 10 us to 30 s, the last one +Inf; the same for
 * all: 10 25 50 100 250 500 1000 2500 5000 10000 25000 50000 100000 250000
 * 500000 1000000 2500000 10000000 30000000 +Inf */
struct histogram {
	struct counter bucket[HISTOGRAM_BUCKETS];	/* not cumulative */
	struct counter sum_us;
};

void histogram_add(struct histogram *h, uint64_t us);

/* ---- the sets ----------------------------------------------------------- */

#define METRICS_BAD_REASONS 24

/* What became of an agent that dialled in. */
enum metrics_registration {
	METRICS_REG_OK,
	METRICS_REG_MALFORMED,		/* no registration, or cut off */
	METRICS_REG_NOT_ACCEPTED,	/* name, token or user */
	METRICS_REG_DIALECT,
	METRICS_REG_TOO_MANY,		/* links of that agent */
	METRICS_REG_LATE,		/* nothing came in time */
	METRICS_REG_CROWDED,		/* made way for others */
	METRICS_REG_OVERLOAD,		/* no memory */
	METRICS_REG_NOT_READY,		/* the proxy starts or stops */
	METRICS_REG_N
};

struct worker_metrics {
	struct counter exchanges_in_flight;
	struct counter ended[ENDED_N];
	/* By enum metrics_bad. */
	struct counter bad_requests[METRICS_BAD_REASONS];
	struct counter registrations[METRICS_REG_N];
	struct counter request_bytes, response_bytes;	/* bodies */
	struct counter held_bytes;			/* gauge */
	struct histogram request_us;
	struct histogram loop_lag_us;
	struct counter access_lost;	/* log lines that could not be written */
};

/* Names of bad_requests_total{reason}: the first ones are those of enum
 * http_parse in their order (report/ cannot see http/; a test in exchange/
 * compares them), then these. */
enum metrics_bad {
	METRICS_BAD_PARSE_FIRST = 0,
	METRICS_BAD_AMBIGUOUS_PATH = 16,
	METRICS_BAD_PATH,
	METRICS_BAD_NO_ROUTE,
	METRICS_BAD_METHOD,		/* CONNECT */
	METRICS_BAD_BODY_TOO_LARGE,
	METRICS_BAD_TIMEOUT,		/* 408 */
	METRICS_BAD_CUT,		/* ended inside a body */
	METRICS_BAD_UPGRADE,
};

extern const char *const metrics_bad_names[METRICS_BAD_REASONS];
extern const char *const metrics_registration_names[METRICS_REG_N];

enum code_class { CODE_NONE, CODE_1XX, CODE_2XX, CODE_3XX, CODE_4XX, CODE_5XX,
		  CODE_CLASS_N };

struct route_metrics {
	struct counter requests[CODE_CLASS_N];
};

struct listener_metrics {
	struct counter connections;	/* gauge */
	struct counter connections_total;
	struct counter refused_limit, refused_system;
};

#define METRICS_UPSTREAM_ERRORS 8

/* Names of upstream_errors_total{reason}, in the order of enum upstream_error
 * (report/ cannot see upstream/; a test compares them). NULL: no series. */
extern const char *const metrics_upstream_names[METRICS_UPSTREAM_ERRORS];

struct upstream_metrics {
	struct counter errors[METRICS_UPSTREAM_ERRORS];	/* upstream_error */
	struct counter retries;
	struct counter active, idle;			/* gauges */
};

struct server_metrics {
	struct counter requests;
	struct counter active, idle;			/* gauges */
};

#define METRICS_DECISIONS 4	/* allow block redirect challenge */

struct agent_metrics {
	/* What each event touches stands together. */
	struct counter events[EVENT_N];
	struct counter in_flight, queued;			  /* gauges */
	struct counter decisions[EVENT_N][METRICS_DECISIONS];
	struct counter failures[CAUSE_N];
	struct counter bypass[CAUSE_N], denied[CAUSE_N];
	struct counter abandoned, late_replies, transcoded, ops_dropped;
	/* Of an observer. Its failures are no failures: what was sent counts
	 * as abandoned. */
	struct counter disagreements[EVENT_N], unheard[CAUSE_N];
	struct counter reconnects, registered;
	struct counter links_up, links_connecting, links_stalled; /* gauges */
	struct counter breaker_open;				  /* gauge */
	struct counter held_bytes;				  /* gauge */
	struct histogram event_us[EVENT_N];
	struct histogram queue_us;
	/* Failures told before their event was sent; they are in failures[]
	 * too. So, for heads and chunks: events = decisions + (failures -
	 * unsent) + abandoned + in flight. */
	struct counter unsent;
};

enum metrics_kind {
	METRICS_ROUTE, METRICS_LISTENER, METRICS_UPSTREAM, METRICS_SERVER,
	METRICS_AGENT, METRICS_KIND_N
};

/*
 * ---- the registry -----------------------------------------------------------
 * Control thread, but for metrics_set_get/put, which any thread may call: they
 * take a lock, so never on a request's way.
 */

struct metrics;

struct metrics *metrics_new(unsigned n_workers) MUST_CHECK;
void metrics_free(struct metrics *m);
unsigned metrics_workers(const struct metrics *m);

/* Worker w's own counters. Valid as long as m. */
struct worker_metrics *metrics_worker(struct metrics *m, unsigned w);

/*
 * The set of that kind and name (name2: the server's address for
 * METRICS_SERVER, else ""), made if it is new; counted. NULL: no memory.
 */
struct metrics_set;
struct metrics_set *metrics_set_get(struct metrics *m, enum metrics_kind kind,
				    const char *name, const char *name2)
	MUST_CHECK;
void metrics_set_put(struct metrics *m, struct metrics_set *set);
/* Worker w's part: struct route_metrics, listener_metrics, ... by kind. */
void *metrics_set_local(struct metrics_set *set, unsigned w);

/* What is not counted by workers. */
struct metrics_process {
	const char *version;
	uint64_t start_time_s;
	uint64_t config_generation;
	uint64_t reloads_ok, reloads_refused;
	uint64_t config_snapshots_live;
	uint64_t log_lost;
};

/* All metrics of interface.md in Prometheus' text format. */
void metrics_print(struct metrics *m, const struct metrics_process *p,
		   FILE *out);

#endif
