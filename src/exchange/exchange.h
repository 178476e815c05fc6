/*
 * exchange: one request with its response, from the client's first byte to the
 * line in the log. This header is the room's own; the daemon sees worker.h and
 * snapshot.h.
 *
 *	client.c	the client's connection; starts and ends exchanges
 *	park.c		connections that have been quiet for a while
 *	listener.c	accepting, and the end of a listener
 *	spread.c	between workers
 *	peers.c		how many a client has
 *	exchange.c	one exchange: its beginning, its upstream, its end
 *	flow.c		a flow: head and body from a source to a sink, what
 *			is held back and when it may go on
 *	stage.c		the agents' places in a flow's body
 *	ask.c		asking about heads, and what answers and failures mean
 *	observe.c	agents that are asked but decide nothing
 *	answer.c	answers of our own
 *	tunnel.c	after a 101
 *	held.c		the budget of held bytes
 *	record.c	what is logged and counted at the end
 *
 * An exchange is OPEN -> ENDING -> (freed at the end of the turn). Its two
 * flows are the same code with a table of differences (struct flow_kind):
 *
 *	IDLE -> HEAD -> BODY -> FLUSHING -> DONE
 *	  any -> ABORTED
 *
 *	IDLE		no head has come
 *	HEAD		the head is here and is judged or held back
 *	BODY		the head is with the sink, bytes go on
 *	FLUSHING	the end is with the sink
 *	DONE		the sink has handed everything to the system
 *	ABORTED		given up; nothing of it goes on
 *
 * Whatever happens inside a callback, an exchange's memory stays until the end
 * of the turn; code that may have ended it looks at exchange_open() after.
 */
#ifndef EXCHANGE_EXCHANGE_H
#define EXCHANGE_EXCHANGE_H

#include "exchange/worker.h"
#include "policy/forward.h"
#include "policy/merge.h"

struct exchange;
struct flow;

/* Bytes of a body that a flow without agents holds while its sink is not
 * there yet. */
#define FLOW_WINDOW		(64u * 1024)
/* A chunk leaves this long after the flow's previous one, full or not. */
#define FLOW_CHUNK_US		5000u
/* Pieces below this are copied together instead of referenced. */
#define FLOW_SMALL_PIECE	256u
/* The same where they are kept for long: each may pin a block of 64 KiB. */
#define FLOW_KEPT_PIECE		8192u
/* Agents for whose answers about heads a flow has room of its own. */
#define FLOW_FEW		4u

/* ---- the client's connection ---------------------------------------------- */

struct client {
	struct h1_conn h1;
	struct cds_list_head node;	/* in worker->clients */
	struct worker *worker;
	struct worker_listener *listener;
	struct exchange *exchange;	/* the present one, or NULL */
	uint64_t begin_us;		/* first byte of the present request */
	struct task reap;
	struct forward_peer peer;
};

/* Takes over a connection that counts in no book yet: a client of its own, or
 * none if the system has no room (the descriptor is closed then). */
bool client_open(struct worker_listener *l, int fd,
		 const struct net_peer *peer);
/* The connection is closed, or is somebody else's; the memory goes at the end
 * of the turn. */
void client_free(struct client *c);
/* Takes over an accepted descriptor. */
void client_accept(struct worker_listener *l, int fd,
		   const struct net_addr *from);
/* Its exchange is over (exchange_end has let go of it). */
void client_exchange_over(struct client *c);
/* Closes the connection; its exchange has let go. hard: RST. */
void client_drop(struct client *c, bool hard);
/* Closes at once, ending the exchange as `why` if there is one. */
void client_kill(struct client *c, enum ended_by by, const char *why);

struct worker_listener {
	struct cds_list_head node;	/* in worker->listeners */
	struct worker *worker;
	struct watch watch;
	struct deadline retry;		/* after EMFILE; then: idle clients
					 * are closed */
	int fd;
	unsigned n_clients;		/* some may only wait to be reaped */
	unsigned n_open;
	/* By name in the present snapshot; past's when it has it no more.
	 * NULL: there was no memory for that. */
	const struct snapshot_listener *config;
	struct listener_past *past;
	struct listener_metrics *metrics;	/* this worker's */
	struct listener_metrics no_metrics;	/* once it is out of the config */
	/* Copied: client connections use it between exchanges, when they pin
	 * no snapshot. */
	struct h1_settings settings;
	uint64_t name_hash;
	char name[];
};

/* peers.c: connections of a client over all workers. */
/* One connection more, or less, in all the books that are about its number. */
void connection_count(struct worker_listener *l, const struct net_peer *peer,
		      bool up);
/* Has it as many as the listener lets it have? */
bool peers_over(struct worker_listener *l, const struct net_peer *peer);

/* listener.c; see worker.h, too. */

/* The worker has another snapshot; the former one is there yet. */
void listeners_configure(struct worker *w);
void listeners_stop(struct worker *w, bool accept_waiting);
/* Stops them and closes connections that are idle. */
void listeners_drain(struct worker *w);
/* Does any accept? */
bool listeners_any(const struct worker *w);

/* spread.c: consumes the descriptor if another worker shall have it. */
bool spread(struct worker_listener *l, int fd, const struct net_addr *addr);

/* The next answer of its connections is their last one. */
static inline bool listener_closing(const struct worker_listener *l)
{
	return l->worker->draining || l->fd < 0;
}

/* park.c */

/* Parks, from time to time, who has been quiet; while there are clients. */
void park_sweep_start(struct worker *w);
/* Makes all parked connections whole again, or those of one listener: they are
 * to be drained like others, for a request may wait in the socket. */
void park_open_all(struct worker *w, const struct worker_listener *only);
void park_close_all(struct worker *w);
/* Makes room: closes the one that has been quiet for longest, of one listener
 * or of all (NULL). False: there is none. */
bool park_close_oldest(struct worker *w, const struct worker_listener *only)
	MUST_CHECK;
/* The same for a request that is under way, which is worth more than whoever
 * has none, be it only for a moment. */
bool park_make_room(struct worker *w) MUST_CHECK;

/* worker.c */

/* A client is gone: looks whether a drain is over. */
void worker_check_drained(struct worker *w);
/* Frees a listener that is closed and has no clients left. */
void worker_listener_put(struct worker_listener *l);
/* For sampling; xorshift, not for secrets. */
static inline uint64_t worker_random(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random >> 16;
}
/* An exchange that pinned s has ended. */
void worker_unpin(struct worker *w, struct snapshot *s);

/* ---- agents of an exchange ------------------------------------------------- */

enum { SIDE_REQUEST, SIDE_RESPONSE };

struct op_list {
	struct op_list *next;
	struct header_op *ops;
	unsigned n;
};

/* Edits of one agent for one side that may wait, bytes. */
#define OPS_KEPT_MAX	(1024u * 1024)

/* Where the audit of an agent's last reply to one kind of event is kept; the
 * next one takes its place. */
struct audit_room {
	char *p;
	size_t size;
};

/* One agent's part in one exchange. */
struct party {
	struct exchange *ex;
	const struct config_route_agent *config;
	struct agent *agent;
	const struct config_agent *agent_config;
	struct agent_metrics *metrics;
	struct agent_session session;
	struct agent_call head_call;
	/* It failed and its policy let the exchange go on: it gets no more of
	 * it but request complete. */
	bool out;
	bool needs_more[2];		/* by side: holds what is held */
	uint64_t spent_us;		/* of its budget */
	/* Edits that it asked for, in order; response edits wait here until
	 * the head of the response is made. */
	struct op_list *ops[2], **ops_tail[2], *ops_last[2];
	uint32_t ops_bytes[2];
	/* A refusal, copied, until it is acted on. */
	struct decision *decision;
	struct upstream *upstream;	/* that it chose, or NULL */
	struct observer *observer;	/* NULL: it enforces */
	uint16_t fail_status;		/* of a failure under deny */
	uint8_t fail_cause;
	struct record_agent *record[EVENT_RESPONSE_CHUNK + 1];
	struct audit_room *audit;	/* by kind of event; NULL: none yet */
};

/* An agent's place in a flow's body. */
struct stage {
	struct party *party;
	uint8_t mode;			/* enum config_body_mode */
	bool out;			/* left out: bytes pass by */
	bool ended;			/* its last chunk has its verdict */
	bool in_end;			/* nothing follows what is in `in` */
	struct outq in;			/* waits to be put before it */
	uint32_t index;			/* of the next chunk */
	uint64_t so_far;
};

/* ---- flows ----------------------------------------------------------------- */

enum flow_state {
	FLOW_IDLE, FLOW_HEAD, FLOW_BODY, FLOW_FLUSHING, FLOW_DONE, FLOW_ABORTED,
};

/* What a flow has while agents get its body. */
struct chunk_ask {
	struct flow *flow;
	bool total_known;		/* Content-Length, as it came */
	uint64_t total_size;
	uint64_t last_us;		/* when the last one was asked */
	struct deadline deadline;	/* the next one is due */
	/* The chunk in question. */
	struct agent_call call;
	struct outq bytes;
	struct bslice *pieces;
	unsigned pieces_cap;
	unsigned stage;
	struct event event;
};

struct flow_kind {
	enum event_type head_event, chunk_event;
	unsigned side;			/* SIDE_* */
	unsigned mutate_bit;		/* enum config_may_mutate */
	const char *name;
};

struct flow {
	struct exchange *ex;
	const struct flow_kind *kind;
	struct source *source;
	struct sink *sink;
	uint8_t state;			/* enum flow_state */
	bool judged;			/* all agents have allowed the head */
	bool has_body;
	bool source_ended, source_paused;
	bool asking;			/* a chunk is in question: chunk */
	bool mutated;			/* some agent changed the body */
	bool chunk_through;		/* a chunk has passed all stages */
	bool ended;			/* the end has passed all stages */
	bool pumping, pump_again;
	struct http_head head;		/* as it goes on */
	uint64_t body_bytes;		/* from the source */
	uint64_t sent_bytes;		/* to the sink */

	/* Head. */
	struct merge_slot *slots;	/* by party */
	struct merge_slot few_slots[FLOW_FEW];
	unsigned heads_pending;

	/* Body. */
	struct stage *stages;
	unsigned n_stages;
	struct chunk_ask *chunk;	/* NULL without stages */
	struct outq held;		/* passed all stages, waits to go on */
	struct http_head *trailers;	/* copied, or NULL */
	struct task pump_task;
	uint64_t accounted;		/* taken from the budget of held bytes */
	/* The agent that has what is accounted shown as held for it. */
	struct agent_metrics *held_for;

	/* Written whole before it is asked; not zeroed before. */
	struct event head_event;
};

/* ---- the exchange ----------------------------------------------------------- */

enum exchange_state { EXCHANGE_OPEN, EXCHANGE_ENDING };

/* What the log says of an exchange that stands in its snapshot. */
struct record_kept {
	const char *route, *upstream, *server;
	struct record_agent *agents;
	unsigned n_agents;
	uint64_t generation;
	bool taken;
};

struct exchange {
	uint8_t state;			/* enum exchange_state */
	uint8_t ended_by;		/* enum ended_by */
	bool answered;			/* an answer of our own is being sent */
	bool bypass;
	bool expect_ours;		/* we owe the 100 */
	bool upstream_ok;		/* its response is complete */
	bool retried;			/* the stale-connection rule was used */
	bool moved;			/* to another server after that */
	bool made_room;			/* for the upstream's descriptor */
	bool leased;			/* a connection is asked for or held */
	bool tunnel;
	bool edits[2];			/* by side: some party has any */
	bool rerouted;			/* some party chose an upstream */
	uint8_t n_own;			/* of the forwarded head, see there */
	const char *ended_why;
	const char *decided_by;
	struct worker *worker;
	struct client *client;		/* NULL once it let go */
	struct snapshot *snapshot;	/* pinned; NULL in a tunnel */
	const struct snapshot_route *route;	/* NULL: none */
	struct upstream *upstream;
	struct worker_listener *listener;
	const char *listener_name;	/* the listener may go first */
	struct arena arena;
	struct block *head_block;	/* request.head's bytes live there */
	struct block *response_block;	/* response.head's */
	struct event_meta meta;
	struct slice method, host, target;	/* for the log, as received */
	const char *protocol;		/* the same; NULL: not known */
	struct slice client_ip;
	struct field id_field;		/* X-Request-Id, for the response too */
	struct party *parties;
	unsigned n_parties;
	struct upstream_lease lease;
	const char *server;		/* text, static for the group's life */
	struct deadline total_deadline;
	struct task reap;
	struct tunnel *tunnel_state;
	bool observed;			/* some party observes it */
	bool refused;			/* by an agent, at refused_at */
	uint8_t refused_at;		/* enum event_type */
	unsigned observing;		/* observers' answers that are awaited */
	struct cds_list_head node;	/* in worker->lingering, or in none */
	uint64_t end_us;
	unsigned asks;			/* under way */
	uint64_t asks_since_us;
	uint64_t agents_us;
	uint64_t start_us, start_wall_us, head_us, sent_us, first_byte_us;
	uint64_t connect_us;
	unsigned attempts;
	unsigned status;		/* sent to the client; 0 none */
	char timestamp[TIMEFMT_RFC3339_MS];
	struct record_kept kept;
	/* All is zeroed but their events. */
	struct flow request, response;
};

static inline bool exchange_open(const struct exchange *ex)
{
	return ex->state == EXCHANGE_OPEN;
}

/* exchange.c */

/* A client's request begins: head is NULL if it never came to one. NULL: no
 * memory. */
struct exchange *exchange_new(struct client *c, const struct http_head *head,
			      struct block *block) MUST_CHECK;
/* Routes it and puts it before the agents. */
void exchange_begin(struct exchange *ex, const struct http_head *head);
/* The request's head may go on: sees to the sink. True if it is there. */
bool exchange_want_upstream(struct exchange *ex);
/* A flow is DONE or the response is: ends the exchange when all is. The only
 * place that looks at both flows together. */
void exchange_check_done(struct exchange *ex);
/* Ends it now. The client is told by client_exchange_over(), unless it was it
 * that ended it. Calls are withdrawn, the connection given back, the line
 * logged. */
void exchange_end(struct exchange *ex, enum ended_by by, const char *why);
/* It has ended and no observer's answer is awaited: the line is logged, the
 * snapshot let go. */
void exchange_finish(struct exchange *ex);
/* The client is gone. */
void exchange_client_gone(struct exchange *ex, const char *why);
/* Stops all that goes upstream and all asking; the response may still be ours
 * to make. */
void exchange_stop_upstream(struct exchange *ex);
/* Ends all agents' sessions and lets the snapshot go. */
void exchange_let_go(struct exchange *ex);
void exchange_withdraw_calls(struct exchange *ex, enum wire_cancel why);
/* Something of ours ran out of memory. */
void exchange_no_memory(struct exchange *ex);

/* flow.c */

extern const struct source_events flow_source_events;
extern const struct sink_events flow_sink_events;

/* f is zeroed. */
void flow_init(struct flow *f, struct exchange *ex,
	       const struct flow_kind *kind);
void flow_fini(struct flow *f);
void flow_log_state(const struct flow *f, enum flow_state next,
		    const char *why) __attribute__((cold, noinline));

static inline bool flow_set_state(struct flow *f, enum flow_state next,
				  const char *why)
{
	if (f->state == FLOW_ABORTED || f->state == next)
		return false;
	if (UNLIKELY(log_level() >= LOG_DEBUG))
		flow_log_state(f, next, why);
	f->state = next;
	return true;
}

/* All that can go on, goes on. Safe to call at any time, also from inside. */
void flow_pump(struct flow *f);
/* The same, later in this turn, so that what comes together goes together. */
void flow_pump_later(struct flow *f);
/* The head has all its verdicts. */
void flow_judged(struct flow *f);
/* What agents have asked for so far, in their order, in the head of a side.
 * False: no memory, or too many fields. */
bool flow_edit(struct exchange *ex, unsigned side,
	       struct http_head *head) MUST_CHECK;
/* Nothing of it goes on from here. */
void flow_abort(struct flow *f, const char *why);
/* It holds nothing any more, as far as the budget and its agent know. */
void flow_return_held(struct flow *f);
/* Pieces of a body come. */
void flow_take_data(struct flow *f, struct block *block, const char *p,
		    size_t n);
void flow_take_end(struct flow *f, const struct http_head *trailers);

/* stage.c */

/* Does the route put bodies of that side before any agent? */
static inline bool stages_asked(const struct flow *f)
{
	return f->kind->side == SIDE_REQUEST ?
		f->ex->route->asks_request_body :
		f->ex->route->asks_response_body;
}

/* The body's stages for a head that has been judged: it has a body, and agents
 * are asked about it. False: no memory. */
bool stages_init(struct flow *f) MUST_CHECK;
void stages_fini(struct flow *f);
/* Drops what waits in them. */
void stages_clear(struct flow *f);
/* The chunk in question is not asked any more. */
void stages_withdraw(struct flow *f, enum wire_cancel why);
/* Puts the next chunk before its agent if one is ready; moves what needs no
 * asking. */
void stages_pump(struct flow *f);
/* May the flow's head and held bytes go on? */
bool stages_hold(const struct flow *f);
/* Does a stage want what has come in pieces kept until the end? */
bool stages_keep(const struct flow *f);
/* Has a stage in hold or buffer kept all of it until the end? */
bool stages_whole(const struct flow *f);
size_t stages_bytes(const struct flow *f);
/* Is the first stage that asks full? Then the source is paused. */
bool stages_full(const struct flow *f);
/* The budget of held bytes is spent: those that hold fail. */
void stages_overload(struct flow *f);
/* The agent failed open: it is left out of what is to come. */
void stages_leave_out(struct party *p);

/* The asked bytes as an array for the encoder, which is kept for the next
 * chunk: it grows, seldom, in the arena. False: no memory. */
bool chunk_pieces(const struct outq *asked, struct arena *a,
		  struct bslice **pieces, unsigned *cap, struct event_chunk *c)
	MUST_CHECK;

/* observe.c */

/* Is this observer of the sample? False: no memory. */
bool observe_init(struct party *p) MUST_CHECK;
void observe_head(struct flow *f, struct party *p);
void observe_data(struct flow *f, struct block *block, const char *p,
		  size_t n);
void observe_end(struct flow *f);
/* No answer is waited for any more. */
void observe_stop(struct exchange *ex);
/* Counts disagreements, lets go of what was held. */
void observe_fini(struct exchange *ex);

/* ask.c */

/* Before each ask: how long it may take; and sets in call what it is called
 * when over. */
uint64_t ask_timeout(struct party *p, enum event_type type,
		     struct agent_call *call);
void ask_begin(struct exchange *ex);
void ask_end(struct exchange *ex, struct party *p, enum event_type type,
	     const struct agent_reply *reply);
/* Puts a head before all agents that get it. */
void ask_head(struct flow *f);
/* A decision that turned out not to be applicable: it is a failure then. */
void ask_recount(struct party *p, enum event_type type,
		 const struct decision *d);
/*
 * A failure about a chunk: applies outcome(). True: go on without the agent.
 * False: the exchange was answered or cut.
 */
bool ask_failed(struct party *p, struct flow *f, enum event_type type,
		const struct agent_reply *reply);
/* Edits in a reply that allows; false: it is an agent's fault. */
bool ask_take_ops(struct party *p, struct flow *f, const struct decision *d);
/* Acts on a refusal. */
void ask_refuse(struct party *p, struct flow *f, enum event_type type,
		const struct decision *d);
struct record_agent *ask_record(struct party *p, enum event_type type);
void ask_note(struct party *p, enum event_type type, enum verdict verdict,
	      enum cause cause, const struct agent_reply *reply);

/* answer.c */

/* An answer of the proxy's own. Nothing if the response has begun: then it is
 * cut. */
void answer_error(struct exchange *ex, unsigned status, enum ended_by by,
		  const char *why);
/* What an agent decided, with its own response edits. */
void answer_decision(struct exchange *ex, struct party *p,
		     const struct decision *d);
/* What the route answers by itself, now that its agents allow. */
void answer_route(struct exchange *ex);
/* The response has begun: the client must see that it is not complete. */
void answer_cut(struct exchange *ex, enum ended_by by, const char *why);

/* tunnel.c */

void tunnel_start(struct exchange *ex);
void tunnel_stop(struct exchange *ex);

/* held.c */

/* Makes the flow's account n bytes. False: the budget is spent; the account
 * stays as it was. */
bool held_account(struct flow *f, uint64_t n) MUST_CHECK;
void held_return_lease(struct worker *w);

/* record.c */

/* Counts the request at its route and copies what the line needs of the
 * snapshot, which is let go then. False: no memory. */
bool record_keep(struct exchange *ex) MUST_CHECK;

void record_end(struct exchange *ex);

#endif
