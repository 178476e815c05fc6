/*
 * What the files of this room share: table.c (lookup by name), agent.c (an
 * agent and a worker's part of it), link.c (the life of one link), retry.c
 * (when one that is down is opened again), reply.c (frames that come in),
 * ask.c (sessions, calls, queues), complete.c (their end), fifo.c (entries
 * that wait for replies), pick.c (which link), fair.c (the queue), breaker.c,
 * health.c, control.c (what agents say of themselves), questions.c (what go-v2
 * agents have to be asked), limits.c (what the handshake says), reverse.c
 * (agents that dial in), hub.c, borrow.c and lend.c (their links, used by
 * several workers), print.c (/agents), tomb.c (replies that nobody waits for).
 *
 * Who tells whom: failures of calls are always told by the call's own task,
 * decisions from inside the link's on_read. So a link may die anywhere, also
 * inside agent_ask() or in the middle of a batch of replies: link_lost()
 * calls nobody back.
 *
 * Dialects: what is v2 only stands in link.c (handshake) and reply.c (frame
 * types); link->format tells the codecs the rest. go-v2 and v1 get their own
 * `switch` there.
 */
#ifndef AGENT_INTERNAL_H
#define AGENT_INTERNAL_H

#include <pthread.h>

#include "agent/agent.h"
#include "base/counter.h"
#include "net/stream.h"
#include "wire/recall.h"

/* ---- entries that wait for replies (fifo.c) ---------------------------- */

enum entry_flag {
	ENTRY_TOMB = 1,		/* nobody waits; its reply is late */
	ENTRY_GONE = 2,		/* answered out of order, not yet popped */
	/* A complete: a reply came that was taken for a tombstone's of the same
	 * exchange. It may have been this one's. */
	ENTRY_DOUBT = 4,
};

/* 64 bytes: one cache line per event. */
struct entry {
	struct agent_call *owner;	/* NULL: tombstone or complete */
	union {
		char id[EVENT_ID_LEN];
		uint64_t go_id;		/* go-v2 */
		uint32_t v1_bytes;	/* v1 has no ids: bytes of its frame */
	};
	uint64_t tomb_us;		/* when it is or was a tombstone */
	uint32_t timeout_ms;
	uint32_t chunk_index;
	uint32_t probe;			/* ping sent behind it, or 0 */
	uint8_t type;			/* enum event_type */
	uint8_t flags;			/* enum entry_flag */
};

/* A ring; head and tail run freely, ring[seq & mask] is entry seq. */
struct fifo {
	struct entry *ring;
	uint32_t head, tail, mask;
	unsigned n;			/* entries that are not GONE */
	unsigned n_tombs;
	uint32_t mute_tail;		/* see link_sent_mute() */
};

#define FIFO_MAX	65536u

/* Room for one more; false: no memory, or FIFO_MAX. */
bool fifo_grow(struct fifo *f) MUST_CHECK;
void fifo_free(struct fifo *f);

static inline bool fifo_reserve(struct fifo *f)
{
	if (LIKELY(f->ring && f->tail - f->head <= f->mask))
		return true;
	return fifo_grow(f);
}

/* After fifo_reserve(). Fields are the caller's to fill, all of them. */
static inline struct entry *fifo_push(struct fifo *f)
{
	f->n++;
	return &f->ring[f->tail++ & f->mask];
}

static inline struct entry *fifo_at(const struct fifo *f, uint32_t seq)
{
	return &f->ring[seq & f->mask];
}

static inline struct entry *fifo_head(const struct fifo *f)
{
	return f->n ? fifo_at(f, f->head) : NULL;
}

/* The oldest entry with that id, or NULL. */
struct entry *fifo_find(const struct fifo *f, const char *id);
struct entry *fifo_find_go(const struct fifo *f, uint64_t go_id);
/* Takes e out; it stays readable until the next push. */
void fifo_remove(struct fifo *f, struct entry *e);

/* ---- a link ------------------------------------------------------------ */

enum link_state {
	LINK_DOWN, LINK_CONNECTING, LINK_HANDSHAKE, LINK_CONFIGURE, LINK_UP
};

/* How soon a lost link is opened again. */
enum link_retry { RETRY_SOON, RETRY_BACKOFF, RETRY_LATE };

/* v1 (protocol page 13.3): bytes without an answer, or else one frame alone. */
#define V1_UNANSWERED_MAX	(32u * 1024)

/* A request-complete that waits for company (complete.c): one cache line. */
struct lazy_complete {
	char id[EVENT_ID_LEN];
	uint64_t go_id;
	uint64_t request_body_size, response_body_size;
	uint32_t duration_ms;
	uint16_t status, upstream_attempts;
};

#define LAZY_MAX	8u

struct link {
	struct stream stream;
	/* What each event and each reply looks at: three cache lines. */
	CACHE_ALIGNED struct agent_local *local;	/* NULL once it is
							 * closed for good */
	struct instance_local *instance;
	struct fifo fifo;
	unsigned depth;			/* events outstanding at most, now */
	uint8_t state;			/* enum link_state */
	uint8_t n_lazy, lazy_max;	/* of lazy; 0: none may wait */
	bool borrowed;			/* from another worker: errand.h */
	bool opened;			/* its replies have ids, if any have */
	bool unordered;			/* a reply came out of order */
	bool no_ids;			/* a reply had no id key */
	bool stalled;			/* the head is a tombstone */
	bool was_late;			/* it answered late; see reply.c */
	bool paused;			/* the agent wants no new exchange */
	bool got_bytes;			/* of this connection */
	uint8_t backoff;		/* failed handshakes in a row, capped */

	CACHE_ALIGNED struct wire_format format;
	uint64_t last_reply_us, last_used_us;
	struct cds_list_head sessions;	/* pinned here */
	unsigned n_late;
	uint32_t max_frame;
	unsigned n_held;		/* sessions that are paused */
	unsigned n_strange;		/* lend.c's entries in the FIFO */

	CACHE_ALIGNED struct cds_list_head waiting; /* pinned calls, the link
						     * is full */
	struct cds_list_head strangers;	/* struct errand: other workers'
					 * events, the link is full */
	struct deadline check;
	/* Completes that wait for the next event, one line each. */
	CACHE_ALIGNED struct lazy_complete lazy[LAZY_MAX];

	/* Replies seen before, by kind of event; made when first needed. */
	struct recall *recall[EVENT_N];
	uint64_t lazy_since_us;
	unsigned up_index;		/* in local->up */
	struct deadline partial;
	uint64_t polled_us;
	bool extra;			/* opened on demand */
	bool dialled_in;		/* by the agent */
	bool was_up;
	struct arena scratch;		/* of one reply */
	struct cds_list_head node;	/* in local->links */
	struct cds_list_head late;	/* struct late_complete */
	/* v1: a frame that has to wait, and bytes that wait for answers. */
	struct outq v1_held;
	uint32_t v1_bytes;
	uint32_t v1_frame;		/* size of the newest */
	unsigned full_depth;		/* depth once opened; 0: spare */
	uint32_t chunk_size;		/* the config's, or less */
	uint64_t max_body;		/* that the agent takes */
	unsigned n_dropped;		/* control frames that nobody wants */
	unsigned n_garbage;		/* or that nobody can read */
	uint64_t pushed_us;		/* when the config last went out */
	uint32_t ping_sequence;
	uint32_t ping_idle;		/* the idle ping under way, or 0 */
	unsigned questions;		/* go-v2: answers due, questions.c */
	uint32_t questions_tail;	/* fifo.tail when they were asked */
	int told_error;			/* what last_error already says */
	struct deadline timer;		/* by state: retry, connect, handshake,
					 * ping interval */
	struct deadline pong, pause;
	struct task reap;
	/* borrow.c's and lend.c's. */
	struct loan *loan;		/* borrowed, while it is not DOWN */
	struct cds_list_head lent;	/* struct lent: to other workers */
	unsigned n_lent;
	unsigned n_strange_late;	/* completes among strangers */
	/* Exchanges of others of which the agent wants no chunk now. */
	char (*stopped)[EVENT_ID_LEN];
	unsigned n_stopped;
};

/* A request-complete that waits on a link which takes one event at a time. */
struct late_complete {
	struct cds_list_head node;
	struct event_meta meta;		/* ids only */
	struct event_complete complete;
	char error[64];
};

/* ---- an agent ---------------------------------------------------------- */

/* Times and limits of protocol pages 2, 4, 7, 8, 11.3; tests shorten them
 * before agent_local_start(). */
struct hub;
struct loan;

struct agent_tuning {
	uint64_t connect_us, handshake_us, configure_us, frame_us;
	uint64_t refused_us;		/* to the next try after a refused
					 * config */
	uint64_t pause_max_us;
	uint64_t reload_min_us;		/* between pushes that it asks for */
	uint64_t ping_interval_us, ping_timeout_us;
	uint64_t question_us;		/* between those to a go-v2 agent; 0:
					 * it is asked nothing */
	uint64_t start_grace_us;	/* calls wait for the first link */
	uint64_t dial_grace_us;		/* that of an agent that dials in */
	uint64_t lost_grace_us;		/* and after the last one was lost */
	uint64_t complete_us;		/* time-out of request complete, or
					 * longer: as long as a head's */
	uint64_t stall_min_us;
	uint64_t check_us;		/* how often entries are looked at, and
					 * completes that wait */
	uint64_t extra_idle_us;		/* to the end of a link on demand */
	uint64_t refill_us;		/* without memory for a link */
	uint64_t lazy_us;		/* a complete waits for company, at
					 * most; 0: not at all */
	unsigned max_tombstones;
	unsigned breaker_failures;	/* in a row, until it opens */
	unsigned breaker_good;		/* trials in a row, until it closes */
	uint64_t breaker_open_us;
	uint64_t breaker_deaf_us;	/* after a first bad trial */
	uint64_t breaker_slack_us;	/* a trial's lease over its time-out */
	uint64_t health_us;		/* how often answers are looked at */
	uint64_t lines_us;		/* see instance_may_log() */
};

enum instance_state { INSTANCE_NEW, INSTANCE_UP, INSTANCE_DOWN };

/* One socket of the agent, over all workers. */
struct agent_instance {
	/* Immutable. */
	const char *path;
	struct net_addr addr;
	bool addr_valid;
	/* Atomic, written on change only. */
	unsigned links_up;
	uint8_t state;			/* enum instance_state */
	uint64_t told;			/* why it is down, in the log, by bit */
	uint8_t encoding;		/* 0 unknown, 1 json, 2 msgpack */
	uint8_t dialect;		/* enum wire_dialect, as last seen */
	bool warned_raw;
	bool lines_left_out;
	uint8_t report;			/* enum agent_state, by itself */
	bool refused;			/* the config that was pushed */
	bool no_answers;		/* to a go-v2 agent's questions */
	bool bounded;			/* by its limits, as told in the log */
	uint8_t listed;			/* events, by bit; 0: not said */
	uint8_t warned_events;		/* wanted and not listed */
	uint16_t stretch_percent;	/* of time-outs, while it is degraded */
	uint64_t report_until_us;	/* 0: until the next one */
	uint64_t asked_us;		/* when questions last went out */
	/* Under lock. */
	pthread_mutex_t lock;
	struct log_limit lines;
	char report_text[96];
	uint8_t error_cause;		/* CAUSE_NONE: no error yet */
	uint64_t error_wall_us;
	char error_text[160];
};

/* A worker's view of an instance; counters are read by the admin port. */
struct instance_local {
	struct agent_instance *shared;
	/* Of events at a time, 0: no limit. Of an agent that dials in that is
	 * for all workers, see hub_share(). */
	unsigned share;
	struct counter links_up, links, in_flight;
};

/*
 * Calls that wait, by route (fair.c): each route that has some gets its turn,
 * so that a flood of one does not keep the others out. Routes share a bucket
 * only when more than FAIR_BUCKETS wait at a time.
 */
#define FAIR_BUCKETS	64u
#define FAIR_NONE	0xffu

struct fair {
	uint64_t used;		/* bit i: bucket i has calls */
	unsigned next;		/* whose turn it is */
	unsigned n;
	struct {
		struct cds_list_head calls;
		unsigned n;
	} bucket[FAIR_BUCKETS];
};

void fair_init(struct fair *f);
void fair_put(struct fair *f, struct agent_call *call);
/* The next in turn; stays in it until it is removed. NULL: empty. */
struct agent_call *fair_next(struct fair *f);
void fair_remove(struct fair *f, struct agent_call *call);
/* Who makes room for call; NULL: its route has its share already. */
struct agent_call *fair_victim(struct fair *f, const struct agent_call *call);

static inline bool fair_empty(const struct fair *f)
{
	return !f->used;
}

/* What a worker makes of the answers, once a second (health.c). */
struct local_health {
	struct deadline tick;
	uint64_t decisions, failures, sum_us;	/* as of the last look */
	uint32_t errors;	/* of 1000 answers, a moving average */
	uint64_t avg_us;	/* the same of their time */
	uint64_t ping_lost_us;	/* when one was not answered; 0: never */
	uint8_t state;		/* enum health_state, atomic */
};

/* Worker w's part. Its own but for the counters and `up_total`. */
struct agent_local {
	/* One cache line is what asking needs; the queue's first word, which
	 * says that it is empty, is in it. */
	struct agent *agent;
	struct loop *loop;		/* NULL: not started, or closed */
	struct agent_metrics *metrics;
	struct link *again;		/* of one instance: the link that was
					 * used last, or NULL */
	unsigned n_up, next_up;
	unsigned n_sessions;		/* heads given, not ended, not lost */
	unsigned max_sessions;		/* 0: no limit */
	unsigned n_queued;		/* also those that wait on their link */
	unsigned next_instance;
	struct fair queue;		/* request heads without a link */
	struct link **up;		/* links that are UP */
	struct cds_list_head links;
	unsigned max_up;
	bool passed_over;		/* a degraded instance, last turn */
	uint64_t random;
	uint64_t grace_until_us;
	struct deadline grace;
	struct deadline refill;		/* a link could not be made */
	unsigned n_borrowed;		/* links of other workers */
	unsigned n_borrowed_up;		/* of these, UP */
	uint64_t borrow_more_us;	/* not before */
	struct deadline borrow;		/* again */
	bool yields;			/* see agent_local_yield() */
	struct counter up_total;
	struct instance_local *instances;
	struct local_health health;
	int breaker_delta;		/* what it put into the gauge */
} __attribute__((aligned(CACHE_LINE)));

enum complete_known { COMPLETE_UNKNOWN, COMPLETE_ANSWERED, COMPLETE_SILENT };

/* Why asking an agent takes the slow way. */
enum agent_gate {
	GATE_BREAKER = 1,	/* the breaker is not closed */
	GATE_INSTANCE = 2,	/* an instance says that it is not well */
};

/* Of one agent, shared by its workers; breaker.c. */
struct agent_breaker {
	/* Atomic, written on change only, under lock. */
	uint32_t state;			/* enum breaker_state << 16 | failures
					 * in a row */
	uint64_t open_until_us;
	uint64_t lease_until_us;	/* a trial is out; 0: none */
	/* Atomic. */
	uint64_t closed_us;		/* when lost links last counted */
	/* Under lock. */
	pthread_mutex_t lock;
	unsigned good;			/* trials in a row */
	/* A sign of life counts from here on, and how much later after the
	 * next bad trial; see breaker_sign_of_life(). */
	uint64_t deaf_until_us, deaf_us;
};

struct agent {
	/* local[w] belongs to worker w. */
	struct agent_local **local;
	/* Shared, atomic: what asking looks at. */
	uint8_t complete_known;		/* enum complete_known */
	uint8_t gate;			/* enum agent_gate */
	uint8_t state_told;		/* enum agent_state, in the log */
	uint8_t wanted;			/* events that routes ask, by bit */
	unsigned refs;
	struct agent_breaker breaker;
	/* Immutable after agent_new(). */
	struct config_agent config;	/* strings are ours */
	struct agent_tuning tuning;
	unsigned n_workers;
	struct metrics *metrics;
	struct metrics_set *set;
	/* One of each socket; of an agent that dials in, the only one. */
	struct agent_instance *instances;
	unsigned n_instances;
	struct hub *hub;		/* of one that dials in; else NULL */
	uint32_t max_frame;
	uint64_t update_us;		/* when one last asked for something */
	/* What agents report of themselves, under report_lock (control.c). */
	pthread_mutex_t report_lock;
	struct report_series *reports;
	unsigned n_reports;
	/* The table's, control thread. */
	struct cds_lfht_node node;
	struct rcu_head rcu;
};

static inline uint64_t local_random(struct agent_local *l)
{
	uint64_t x = l->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	l->random = x;
	return x >> 16;
}

static inline struct agent_local *agent_local(const struct agent *a,
					      const struct loop *loop)
{
	return a->local[loop->index];
}

/* ---- agent.c ----------------------------------------------------------- */

/* Calls may wait for a link until us from now. */
void local_start_grace(struct agent_local *l, uint64_t us);

/* ---- breaker.c --------------------------------------------------------- */

enum breaker_end { BREAKER_GOOD, BREAKER_BAD, BREAKER_UNKNOWN };

enum breaker_state breaker_state(const struct agent *a);
/* Failures in a row, while it is closed. */
unsigned breaker_failures(const struct agent *a);
/* May call be asked, now that GATE_BREAKER is set? It may be the trial then. */
bool breaker_admits(struct agent_local *l, struct agent_call *call,
		    uint64_t timeout_us) MUST_CHECK;
/* A failure is told; it counts if it says something of the agent. */
void breaker_failed(struct agent_local *l, struct agent_call *call,
		    enum cause cause);
void breaker_note_slow(struct agent_local *l, bool trial, enum breaker_end end,
		       const char *why);
/*
 * The agent does something although the breaker is open: a link of it came up,
 * or it answered, late, the last of what it had. An agent that is back need not
 * wait for open_us to be over: the next request is the trial. One that always
 * answers late is believed less and less often.
 */
void breaker_sign_of_life_slow(struct agent_local *l);

static inline void breaker_sign_of_life(struct agent_local *l)
{
	if (UNLIKELY(breaker_state(l->agent) == BREAKER_OPEN))
		breaker_sign_of_life_slow(l);
}

/* The worker closes its part: takes back what it put into the gauge. */
void breaker_local_close(struct agent_local *l);

/* A decision came in. */
static inline void breaker_succeeded(struct agent_local *l,
				     struct agent_call *call)
{
	bool trial = call->trial;

	call->trial = false;
	if (UNLIKELY(__atomic_load_n(&l->agent->breaker.state,
				     __ATOMIC_RELAXED)))
		breaker_note_slow(l, trial, BREAKER_GOOD, "");
}

/* The call is withdrawn: a trial is given back. */
static inline void breaker_withdrawn(struct agent_local *l,
				     struct agent_call *call)
{
	if (UNLIKELY(call->trial))
		breaker_note_slow(l, true, BREAKER_UNKNOWN, "");
	call->trial = false;
}

static inline unsigned agent_gate(const struct agent *a)
{
	return __atomic_load_n(&a->gate, __ATOMIC_RELAXED);
}

static inline void agent_gate_set(struct agent *a, enum agent_gate bit)
{
	(void)__atomic_fetch_or(&a->gate, (uint8_t)bit, __ATOMIC_RELAXED);
}

static inline void agent_gate_clear(struct agent *a, enum agent_gate bit)
{
	(void)__atomic_fetch_and(&a->gate, (uint8_t)~bit, __ATOMIC_RELAXED);
}

/* What came from outside, for a quoted text of the log: cut, and without what
 * would break it. */
void log_text(char *to, size_t size, struct slice from);

/* ---- health.c ---------------------------------------------------------- */

enum health_state {
	HEALTH_GOOD, HEALTH_IN_A_ROW, HEALTH_ERRORS, HEALTH_SLOW,
	HEALTH_PINGS, HEALTH_N
};

#define HEALTH_TEXT	160

void health_local_start(struct agent_local *l);
void health_local_close(struct agent_local *l);
void health_ping_lost(struct agent_local *l);
/* What an instance says of itself. valid_us 0: until it says something else.
 * stretch_percent: of time-outs, if it is degraded. */
void instance_set_report(struct link *link, enum agent_state state,
			 unsigned stretch_percent, uint64_t valid_us,
			 const char *text);
/* Did it take its config? text: why not. */
void instance_set_refused(struct link *link, bool refused, const char *text);
/* A pong came: no longer unhealthy by its own word. */
void instance_answered_ping(struct link *link);
/* What it is to those who want to ask it: its own word, while that is valid. */
enum agent_state instance_report(const struct agent_instance *inst,
				 uint64_t now_us);
/* A time-out as the instance of link wants it; link NULL: the instance that
 * wants most. Only worth asking with GATE_INSTANCE. */
uint64_t health_stretch(const struct agent_local *l, const struct link *link,
			uint64_t timeout_us);
/* Why no instance may be asked, or NULL. Only worth asking with
 * GATE_INSTANCE. */
const char *health_refuses(struct agent_local *l);
/* The state as /agents has it. */
enum agent_state agent_state(struct agent *a, uint64_t now_us,
			     char reason[HEALTH_TEXT]);
/* May a line that inst's agent can cause again and again be written? more: for
 * its end, how many were left out before it. */
#define MORE_TEXT	24
bool instance_may_log(const struct agent_local *l, struct agent_instance *inst,
		      char more[MORE_TEXT]) MUST_CHECK;
/* Logs a change of it that no other line tells. */
void agent_tell_state(struct agent_local *l);

extern const char *const dialect_names[];

/* ---- link.c ------------------------------------------------------------ */

/* A link that is DOWN. NULL: no memory. */
struct link *link_new(struct agent_local *l, struct instance_local *inst,
		      bool borrowed) MUST_CHECK;
void link_set_state(struct link *link, enum link_state next);
/* The agent has dialled in and was let in; consumes fd. False: no memory; fd is
 * not touched. */
bool link_adopt(struct agent_local *l, int fd,
		const struct wire_registered *answer,
		const struct wire_handshake *says) MUST_CHECK;
/* Opens one more link to an instance. False: no memory. */
bool link_open(struct agent_local *l, struct instance_local *inst, bool extra)
	MUST_CHECK;
void link_connect(struct link *link);
/* Closes it for good; its memory goes at the end of the turn. */
void link_close(struct link *link);
/*
 * The connection is over. The head's owner gets head_cause, all others CLOSED,
 * each by its own task; then the link is opened again, or closed if it was an
 * extra one. text: for last_error and the log.
 */
void link_lost(struct link *link, enum cause head_cause, enum link_retry retry,
	       const char *text);
/* May be used, but for its config if there is one to push. */
void link_ready(struct link *link);
/* Its config was accepted, or there was none. */
void link_up(struct link *link);
/* Handshake's answer. False: refused, the link is lost. */
bool link_accept(struct link *link, uint8_t type, struct slice payload)
	MUST_CHECK;
void link_pong(struct link *link, struct slice payload);
/* The head may have become a tombstone, or no longer be one. */
void link_update_stalled(struct link *link);
/* An entry was pushed: see that old ones are noticed. */
static inline void link_watch_entries(struct link *link);
void link_check(struct deadline *d);
/* e becomes a tombstone. The link may be lost by it. */
void link_bury(struct link *link, struct entry *e);
void link_send_ping(struct link *link, uint32_t *sequence);

/* ---- retry.c ----------------------------------------------------------- */

/* It is DOWN: it is opened again in a while, or when another one is up. */
void link_retry_later(struct link *link, enum link_retry retry);
/* The first of an instance's links is up: the others follow. */
void instance_wake(struct link *first);

/*
 * Appends an event's frame to what is sent, or, of a borrowed link, to what
 * will be posted. v1: each frame is one send, and waits until what is
 * unanswered lets it go.
 */
enum wire_result link_encode(struct link *link, const struct event *ev)
	MUST_CHECK;
/* v1: an answer came. */
void link_v1_answered(struct link *link, uint32_t bytes);
void link_v1_flush(struct link *link);
/* The entry's id, by dialect; v1: the bytes of the frame just encoded. */
static inline void link_set_id(const struct link *link, struct entry *e,
			       const struct event_meta *meta);

/* ---- limits.c ---------------------------------------------------------- */

/* Of a handshake; h NULL: there was none. Before the link goes up. */
void link_take_limits(struct link *link, const struct wire_handshake *h);
/* A link of inst went up or down. */
void instance_share_depth(struct agent_local *l,
			  const struct instance_local *inst);

/* ---- configure.c ------------------------------------------------------- */

/* Pushes the agent's config. False: no memory, the link is lost. */
bool link_push_config(struct link *link) MUST_CHECK;
/* The answer. False: refused, the link is lost. */
bool link_configured(struct link *link, const struct decision *d,
		     enum decision_fault fault) MUST_CHECK;
/* No answer is coming: taken as accepted. */
void link_config_unanswered(struct link *link);

/* ---- control.c --------------------------------------------------------- */

/* 0x30 to 0x33 of v2, 0xE1 and 0xE3 of go-v2. Garbage is counted and
 * harmless. */
void link_on_control(struct link *link, uint8_t type, struct slice payload);
/* Drops what a pause keeps. */
void link_control_reset(struct link *link);

/* ---- questions.c ------------------------------------------------------- */

/* Asks a go-v2 agent how it is and for its metrics, if it is time. */
void link_ask_questions(struct link *link);
/* One of the answers came. */
void link_question_answered(struct link *link);
/* A reply without an id came: is it all that the agent says to a question? */
bool link_question_unknown(struct link *link);
/* A reply to an event: the questions before it will not be answered. */
void link_question_skipped(struct link *link);

static inline void link_set_id(const struct link *link, struct entry *e,
			       const struct event_meta *meta)
{
	if (LIKELY(link->format.dialect == WIRE_V2))
		memcpy(e->id, meta->correlation_id, EVENT_ID_LEN);
	else if (link->format.dialect == WIRE_GO)
		e->go_id = meta->go_request_id;
	else
		e->v1_bytes = link->v1_frame;
}

/* Something was put to be sent that has no entry, so nothing says when it has
 * been read but the answer to what comes after it. */
static inline void link_sent_mute(struct link *link)
{
	link->fifo.mute_tail = link->fifo.tail;
}

/* The agent has read all that it was sent: the last of it has an answer. */
static inline bool link_is_answered(const struct link *link)
{
	return !link->fifo.n && link->fifo.tail != link->fifo.mute_tail;
}

static inline void link_watch_entries(struct link *link)
{
	if (UNLIKELY(!deadline_running(&link->check)))
		deadline_start(link->local->loop, &link->check,
			       link->local->agent->tuning.check_us,
			       link_check);
}

/* ---- reply.c ----------------------------------------------------------- */

/* A reply. False: the link is lost, or was closed from inside the callback. */
bool link_on_reply(struct link *link, struct slice payload);
void link_on_read(struct stream *s);
void link_on_write_error(struct stream *s);
void link_on_room(struct stream *s);

/* ---- pick.c ------------------------------------------------------------ */

static inline bool link_has_room(const struct link *link)
{
	return link->fifo.n < link->depth && LIKELY(!link->v1_held.bytes);
}

static inline bool local_is_full(const struct agent_local *l)
{
	return l->max_sessions && l->n_sessions >= l->max_sessions;
}

/*
 * The link for a new exchange, by the agent's `balance`: one that has room, not
 * paused by its agent; a stalled one only if no other has room. NULL: none.
 */
struct link *local_pick_link(struct agent_local *l);
/* Something waits: one more link, if there may be one. */
void local_open_extra(struct agent_local *l);

/* ---- ask.c ------------------------------------------------------------- */

/* Tells it by a task of this turn. The call is in no list any more. */
void call_fail(struct agent_call *call, enum cause cause, const char *text);
/* A failure that is told now, in the books that its caller's kind has. */
void call_count_failure(const struct agent_call *call,
			struct agent_metrics *m, enum cause cause);
/* v1 has none. False: nothing was put to be sent. */
bool link_send_cancel(struct link *link, const struct event_meta *meta,
		      enum wire_cancel why, uint64_t wall_us) MUST_CHECK;
/* There may be room on link: send what waits for it, then the queue. */
void link_serve(struct link *link);
/* Sends what waits in the queue while there is room anywhere. */
void local_serve(struct agent_local *l);
/* Fails all that waits in the queue. */
void local_fail_queue(struct agent_local *l, enum cause cause,
		      const char *text);
/* The link is gone: its sessions are lost, what waits on it fails. */
void link_drop_sessions(struct link *link);

/* ---- complete.c -------------------------------------------------------- */

/* A complete was put to be sent: the entry for its answer, whose id is the
 * caller's to set. NULL: it will have none. */
struct entry *link_push_complete(struct link *link);
bool link_put_lazy_slow(struct link *link) MUST_CHECK;
/* As link_put_lazy(); without memory they still wait, for another time. */
void link_flush_lazy(struct link *link);
/* Sends those that would wait for too long. */
void link_check_lazy(struct link *link);
/* There may be room for those that waited for it. */
void link_send_late(struct link *link);
/* Queues all completes that wait, for nobody will read their replies. */
void link_flush_completes(struct link *link);
/* Forgets them. */
void link_drop_completes(struct link *link);

/* The completes that wait for company are put to be sent in this turn. False:
 * no memory, some still wait. */
static inline bool MUST_CHECK link_put_lazy(struct link *link)
{
	return !link->n_lazy || link_put_lazy_slow(link);
}

static inline uint32_t saturated_ms(uint64_t us)
{
	uint64_t ms = us / 1000;

	return ms > 600000 ? 600000 : (uint32_t)ms;
}

/* ---- hub.c, borrow.c, lend.c: agents that dial in ------------------------ */

/* Which worker has links of the agent. Counted; any thread. */
struct hub *hub_new(unsigned n_workers) MUST_CHECK;
struct hub *hub_get(struct hub *h);
void hub_put(struct hub *h);	/* NULL: no effect */
/* Room for one more link, at the worker that has the fewest; *loop is its
 * loop. False: there are `most`; or no worker has begun, *loop is NULL. */
bool hub_reserve(struct hub *h, unsigned most, struct loop **loop) MUST_CHECK;
void hub_release(struct hub *h, const struct loop *loop);
/* False, and nothing is done, if it is the last one of all workers. */
bool hub_release_but_last(struct hub *h, const struct loop *loop) MUST_CHECK;
/* This worker's part of the agent; NULL: not begun, or closed. */
struct agent_local *hub_local(struct hub *h, const struct loop *loop);

/* The worker begins and ends. */
void hub_join(struct agent_local *l);
void hub_leave(struct agent_local *l);
/* An own link. */
void hub_link_up(struct link *link);
void hub_link_down(struct link *link);
/* What the worker's links have of what the agent takes at a time: as much as
 * they are among all of them. */
unsigned hub_share(const struct agent_local *l, unsigned stated);
/* Links that a worker borrows at most. */
static inline unsigned loans_max(const struct agent *a)
{
	return a->config.connections ? a->config.connections : 1;
}
/* Without an own link: borrows one, if there is one; and another one, if it
 * has too few and their worker can spare it. */
void local_borrow(struct agent_local *l);
void local_borrow_more(struct agent_local *l);

/* A borrowed link, instead of a stream. loan_send() posts what loan_encode()
 * made. */
void loan_end(struct link *link);
enum wire_result loan_encode(struct link *link, const struct event *ev,
			     unsigned *transcoded) MUST_CHECK;
void loan_send(struct link *link, const struct entry *entry, uint32_t slot);
void loan_complete(struct link *link, const struct event *ev);
void loan_cancel(struct link *link, uint32_t slot, enum wire_cancel why);
/* The entry that the reply which is being read was sent for; NULL: it is gone.
 */
struct entry *loan_entry(const struct link *link);

/* A link that is lent: an entry of call's (->lent) was answered, or will not
 * be. payload.p NULL: no memory for it. */
void lend_answered(struct link *link, struct agent_call *call,
		   struct slice payload);
void lend_failed(struct link *link, struct agent_call *call, enum cause cause,
		 const char *text);
/* Sends one of those that wait. False: none, or no room. */
bool lend_serve(struct link *link);
/* The agent wants no chunks of an exchange, or again: it may be one of those
 * that the link is lent to. */
void lend_pause(struct link *link, const char *id, bool pause);
void lend_flush_completes(struct link *link);
void lend_link_lost(struct link *link);

#endif
