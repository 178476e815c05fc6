/*
 * The admin port: pages for people, probes and Prometheus (interface.md,
 * "Admin port"), served by libevent's evhttp on the control thread. It only
 * reads: counters that workers write, and what the control thread owns.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "agent/agent.h"
#include "config/model.h"
#include "report/metrics.h"
#include "upstream/upstream.h"

struct event_base;
struct admin;

/* The state of the process as the pages show it. All borrowed. */
struct admin_view {
	bool running;		/* sockets are bound and all workers run */
	bool draining;
	unsigned n_workers;
	uint64_t generation;
	uint64_t loaded_wall_us;
	const struct config *config;
	struct agent *const *agents;		/* as config->agents */
	struct upstream *const *upstreams;	/* as config->upstreams */
	struct metrics *metrics;
	struct metrics_process process;
};

/* Fills in what is so now; called for each request. */
typedef void admin_view_fn(void *arg, struct admin_view *view);

/* Serves on fd (listening, non-blocking; consumed, also on failure). NULL: no
 * memory. Control thread, like all of it. */
struct admin *admin_new(struct event_base *base, int fd, admin_view_fn *view,
			void *arg) MUST_CHECK;
/* Closes the listening socket; requests under way are answered. */
void admin_stop_accepting(struct admin *a);
/* NULL is harmless. */
void admin_free(struct admin *a);

/* ---- pages (for tests) -------------------------------------------------- */

enum admin_type { ADMIN_TEXT, ADMIN_JSON, ADMIN_METRICS, ADMIN_HTML };

/* Renders the page at path; 200, 503 or 404 (nothing is written then). */
unsigned admin_page(const char *path, const struct admin_view *view,
		    FILE *out, enum admin_type *type);

#endif
