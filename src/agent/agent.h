/*
 * Agents: the table, links with their reply queues, and how to ask.
 *
 * An agent is made by the control thread and shared; each worker owns its part
 * (links, queue, counters). Nothing crosses threads on the way of a request.
 *
 * A link:	DOWN -> CONNECTING -> HANDSHAKE -> UP -> DOWN ...
 * (a link whose oldest event is a tombstone is `stalled`, see page 8.3).
 *
 * An exchange has one session per agent (pinned to one link once its request
 * head was sent: page 8.4) and at most one call per flow under way:
 *
 *	agent_session_init(&s, agent, loop, meta);
 *	agent_ask(&call, &s, &event, timeout, CAUSE_TIMEOUT, on_reply);
 *	... on_reply(&call, &reply) exactly once, never from inside agent_ask;
 *	    or agent_withdraw(&call, why) and no on_reply;
 *	agent_session_end(&s, &complete);	// always, at the end
 *
 * All memory of session, call and event is the caller's (the exchange's
 * arena); after agent_session_end() and withdrawal of its calls the agent room
 * holds no pointer to any of it.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdio.h>

#include "base/rcu.h"
#include "config/model.h"
#include "net/loop.h"
#include "report/metrics.h"
#include "wire/codec.h"

struct agent;
struct agent_table;
struct link;

/* ---- control thread ---------------------------------------------------- */

/* The table: lookup by name, liburcu's lock-free hash table. */
struct agent_table *agent_table_new(void) MUST_CHECK;
void agent_table_free(struct agent_table *t);
/* Under rcu_read_lock of any registered thread; valid until it is left. */
struct agent *agent_table_find_rcu(struct agent_table *t, const char *name);
/* Publishes (replacing one of the same name). False: no memory. */
bool agent_table_add(struct agent_table *t, struct agent *a) MUST_CHECK;
void agent_table_remove(struct agent_table *t, struct agent *a);
/* Calls fn for each agent, in order of the names. */
void agent_table_each(struct agent_table *t,
		      void (*fn)(struct agent *a, void *arg), void *arg);

/*
 * Made with one reference; config is copied. Its links are opened by each
 * worker's agent_local_start(). NULL: no memory.
 */
struct agent *agent_new(const struct config_agent *config, unsigned n_workers,
			struct metrics *metrics) MUST_CHECK;
struct agent *agent_get(struct agent *a);
/* The last one frees through call_rcu. Every worker that started it must have
 * closed it. */
void agent_put(struct agent *a);
/* Which events routes ask of it, 1 << enum event_type each: for a warning if the
 * agent does not list them. */
void agent_want_events(struct agent *a, unsigned mask);
/* Would this block make the same agent? Then links and counters are kept. */
bool agent_same(const struct agent *a, const struct config_agent *c);
const char *agent_name(const struct agent *a);
const struct config_agent *agent_config(const struct agent *a);
struct agent_metrics *agent_metrics(struct agent *a, struct loop *loop);
/* Links up of worker w, over all instances. Any thread (atomic read). */
unsigned agent_links_up(const struct agent *a, unsigned w);
/* One element of /agents' list (interface.md), as JSON. Control thread. */
void agent_print_json(struct agent *a, FILE *out);

/*
 * The metrics that agents report of themselves, as Prometheus text: each under
 * agentproxyd_reported_NAME{agent=...}, at most 256 series per agent. Control
 * thread.
 */
void agent_print_reports(struct agent *const *agents, unsigned n, FILE *out);

/* ---- worker ------------------------------------------------------------ */

/* Opens this worker's links; they are kept and reconnected until closed. */
void agent_local_start(struct agent *a, struct loop *loop);
/* Closes them. No session of this worker may be open. */
void agent_local_close(struct agent *a, struct loop *loop);
/*
 * No session of this worker is open, but are there some of other workers on
 * its links, which had better end before it closes them? Lets go of what it
 * has borrowed itself. Of agents that dial in only.
 */
bool agent_local_is_lent(struct agent *a, struct loop *loop);
/*
 * Another process has taken over, or another config of it: an agent that dials
 * in shall register there.
 * Closes its links that have nothing to do; again and again, as long as it goes
 * on. If there were several, one stays for those who ask here yet.
 */
void agent_local_yield(struct agent *a, struct loop *loop);

struct agent_session {
	struct agent *agent;
	struct loop *loop;
	const struct event_meta *meta;
	struct link *link;		/* pinned; NULL: not yet, or lost */
	struct cds_list_head node;	/* in link->sessions */
	bool head_given;		/* the request head went over link */
	bool lost;			/* the link died after it */
	bool paused;			/* the agent wants no more chunks now */
};

enum call_state { CALL_IDLE, CALL_QUEUED, CALL_SENT, CALL_FAILED };

struct agent_call;

struct agent_reply {
	/* CAUSE_NONE: decision is valid. Else the asking failed. */
	enum cause cause;
	/* With CAUSE_PROTOCOL: the decision was a readable refusal. */
	bool refused;
	/* Valid during the callback only; NULL if cause is set (audit and kind
	 * of a refused one are not handed on). */
	const struct decision *decision;
	/* The block that decision's mutation data lies in: take a reference
	 * to keep the bytes. */
	struct block *block;
	uint64_t us;			/* queued to answered */
	uint64_t queue_us;		/* queued to sent */
	const char *text;		/* of a failure, static, for the log */
};

typedef void agent_reply_fn(struct agent_call *call,
			    const struct agent_reply *reply);

/* Zero-initialise. */
struct agent_call {
	struct agent_session *session;
	const struct event *event;
	agent_reply_fn *on_reply;
	struct cds_list_head node;	/* in the agent's queue */
	struct deadline deadline;
	struct task task;		/* failure told later in the turn */
	struct link *link;		/* while SENT */
	uint64_t queued_us, sent_us;	/* sent_us 0: it never was */
	/* The caller's: no time-out is stretched over it; 0: no such limit. */
	uint64_t most_us;
	uint32_t slot;			/* in the link's FIFO */
	uint32_t timeout_ms;
	uint8_t state;			/* enum call_state */
	uint8_t timeout_cause;
	uint8_t fail_cause;
	uint8_t bucket;			/* in the queue, by route */
	bool trial;			/* of a breaker that is half open */
	bool lent;			/* another worker's: errand.h */
	bool observed;			/* the caller's: its failure means
					 * nothing */
	const char *fail_text;
};

void agent_session_init(struct agent_session *s, struct agent *a,
			struct loop *loop, const struct event_meta *meta);

/*
 * Puts one event before the agent. event and what it points at stay valid
 * until on_reply or agent_withdraw (it may wait in a queue before it is
 * encoded). timeout_us counts from now, time in the queue included; when it is
 * over the failure is timeout_cause (CAUSE_TIMEOUT or CAUSE_BUDGET). An agent
 * that says that it is degraded may have asked for more time (protocol page
 * 7.3): a CAUSE_TIMEOUT is stretched, up to call->most_us. A failure
 * that is known at once (no link, queue full) is told by a task of this turn.
 */
void agent_ask(struct agent_call *call, struct agent_session *s,
	       const struct event *event, uint64_t timeout_us,
	       enum cause timeout_cause, agent_reply_fn *on_reply);
/* The answer is not wanted any more: no on_reply; the entry on the link becomes
 * a tombstone, a cancel frame is sent, agent_abandoned_total counts it.
 * Harmless on a call that is not under way. */
void agent_withdraw(struct agent_call *call, enum wire_cancel why);
/* The largest chunk, and the largest body that is held for it: less than what
 * is configured if the agent said so in the handshake. */
uint32_t agent_session_chunk_size(const struct agent_session *s);
uint64_t agent_session_max_body(const struct agent_session *s,
				uint64_t max_body);
/*
 * The exchange is over. Sends request-complete if the request head was given
 * and the link is alive; it is encoded at once. No call of s may be under way.
 */
void agent_session_end(struct agent_session *s,
		       const struct event_complete *complete);

#endif
