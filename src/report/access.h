/*
 * The access log: one line per exchange (interface.md). Lines gather in a
 * buffer per worker and are written at the end of the turn, so that a burst
 * costs one write. What cannot be written is dropped and counted; a request
 * never waits for its log.
 */
#ifndef REPORT_ACCESS_H
#define REPORT_ACCESS_H

#include "base/timefmt.h"
#include "base/words.h"
#include "config/model.h"
#include "report/metrics.h"

/* How one agent dealt with one kind of event of an exchange. */
struct record_agent {
	const char *name;
	enum event_type event;
	enum verdict verdict;
	enum cause cause;
	uint16_t status;		/* that the agent asked for; 0: none */
	uint64_t us, queue_us;		/* sums over chunks */
	uint32_t chunks;		/* events asked */
	const struct slice *tags, *rules, *reasons;
	unsigned n_tags, n_rules, n_reasons;
};

/* What is known of an exchange when it is over. Slices may be empty. */
struct record {
	uint64_t start_wall_us;
	struct slice request_id, correlation_id;
	const char *listener;
	struct slice client;		/* bare address */
	struct slice method, host, target;
	const char *protocol;		/* "HTTP/1.1" */
	const char *route, *upstream, *server;	/* NULL: none -> null */
	unsigned attempts;
	unsigned status;		/* 0: none sent; 499: client gone */
	enum ended_by ended_by;
	const char *ended_why;		/* static text, one word; "" */
	uint64_t request_bytes, response_bytes;	/* of bodies */
	struct {
		uint64_t total, request_head, agents, upstream_connect,
			 upstream_first_byte;
	} us;
	const struct record_agent *agents;
	unsigned n_agents;
	const char *decided_by;		/* the agent's name; NULL */
	bool bypass;
	uint64_t generation;
	struct slice referer, user_agent;	/* combined format */
};

struct access_log;

/*
 * path: "stderr", "off" or a file (created 0640, appended). NULL: cannot be
 * opened (errno) or no memory. Control thread.
 */
struct access_log *access_log_open(const char *path,
				   enum config_access_format format,
				   unsigned n_workers) MUST_CHECK;
void access_log_close(struct access_log *log);
/* The file again, after it was moved away: the descriptor is swapped under the
 * writers' feet (dup2). Control thread. False: it stays as it was (errno). */
bool access_log_reopen(struct access_log *log) MUST_CHECK;
/* Another path or format from now on (a reload); workers go on writing. Control
 * thread. False: it stays as it was (errno). */
bool access_log_change(struct access_log *log, const char *path,
		       enum config_access_format format) MUST_CHECK;

/* Any thread. False: it is off, and nobody need make a record for it. */
bool access_log_wants(const struct access_log *log);
/* Worker w: formats and buffers one line. True if the buffer was empty before:
 * the caller then arranges for access_log_flush() at the end of the turn. */
bool access_log_add(struct access_log *log, unsigned w, const struct record *r,
		    struct worker_metrics *metrics);
void access_log_flush(struct access_log *log, unsigned w,
		      struct worker_metrics *metrics);
/* For tests and the simulator: every line goes there instead. */
void access_log_capture(struct access_log *log,
			void (*fn)(void *arg, const char *line, size_t n),
			void *arg);

#endif
