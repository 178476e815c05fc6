/*
 * The scenario `proxy`: whole exchanges through the daemon's own workers, with
 * random configs, clients, agents and upstreams, all from one seed.
 *
 *	px_plan.c	draws a config and what clients will ask for
 *	px_host.c	the control thread: snapshots, workers, reload, end
 *	px_client.c	clients		\
 *	px_server.c	upstreams	 > scripted peers
 *	px_agent.c	agents		/  and px_link.c, px_answer.c
 *	px_http.c	a strict reader of HTTP/1.1, for clients and upstreams
 *	px_tunnel.c	clients and upstreams after a 101
 *	px_body.c	bodies: patterns, and what became of them
 *	px_check.c	what must hold at the end
 *	px.c		one run
 *
 * The oracle is what peers see and do, not what the code thinks: every request
 * has a number, which its target, its agents' answers, its response and every
 * eight bytes of its bodies carry. What an agent said about a number, when, and
 * what it made of a body, stands in struct px_exchange; so do the bytes that
 * came out at the other end. The access log is read too, but only to be
 * checked against these, and to learn which of several lawful outcomes was
 * taken (an agent may be late or not by a hair).
 */
#ifndef PX_H
#define PX_H

#include "base/words.h"
#include "sim_world.h"
#include "wire/codec.h"

#define PX_ROUTES	4
#define PX_AGENTS	4
#define PX_PARTS	3	/* agents of one route */
#define PX_GROUPS	2
#define PX_SERVERS	2	/* of a group */
#define PX_WORKERS	3
#define PX_DOOR		"unix:/door"	/* where agents dial in */
#define PX_CLIENTS	16
#define PX_REQUESTS	8	/* of one client */
#define PX_EXCHANGES	(PX_CLIENTS * PX_REQUESTS)

enum { PX_REQUEST, PX_RESPONSE };	/* directions */

/* What may go wrong in this world. */
enum px_fault {
	PX_BAD_CLIENTS = 1,
	PX_BAD_AGENTS = 2,
	PX_BAD_SERVERS = 4,
	PX_NO_MEMORY = 8,
	PX_RELOADS = 16,	/* this and the next are no faults, but they */
	PX_SHUTDOWN = 32,	/* end: in the middle of it all */
};

struct px;
struct px_exchange;

struct px_buf {
	char *p;
	size_t n, size;
};

/* ---- the config ---------------------------------------------------------- */

enum px_mode { PX_NONE, PX_STREAM, PX_HOLD, PX_BUFFER };

/* An agent as a route asks it. */
struct px_asked {
	unsigned agent;
	bool observe;		/* its answers decide nothing */
	enum px_mode mode[2];
	bool response_head;
	uint64_t max_body;
	bool deny[CAUSE_N];
	uint64_t head_us, body_us;
};

struct px_route {
	unsigned group;
	struct px_asked asked[PX_PARTS];
	unsigned n_asked;
	bool upgrade;		/* lets websocket through */
	uint64_t budget_us;
};

struct px_group {
	unsigned n_servers, keepalive;
	bool least;
	uint64_t connect_us, response_us, idle_us;
};

struct px_listener {
	char address[32];
	bool on;		/* in the present config */
	uint64_t header_us, body_us, idle_us, send_us, total_us;
	uint64_t body_limit;
};

/* ---- peers --------------------------------------------------------------- */

/* What an agent does, in chances per 1000 events. */
struct px_temper {
	unsigned refuse, edit, mutate, more;	/* lawful */
	unsigned silent, late, wrong_id, empty_id, twice, junk, die, broken;
	uint64_t think_us, late_us;
	bool no_ids;		/* leaves the id out of its replies */
	bool unordered;		/* answers what is ready first */
	bool dribbles;
};

struct px_agent {
	struct px *px;
	unsigned index;
	char name[8], address[24];
	/* config */
	enum wire_dialect dialect;
	bool says_dialect;		/* the config does */
	enum wire_encoding offer;	/* forced, if offer_one */
	bool offer_one, raw_body, events_as_maps, pseudo;
	unsigned chunk_size, may_mutate;	/* bit 1 << direction */
	unsigned connections, max_connections, depth, queue, concurrency;
	unsigned says_chunk, says_events;	/* in the handshake; 0: nothing */
	unsigned deny_status;
	const char *complete;
	uint64_t head_us, body_us, budget_us;
	bool hasty;		/* these are short: it may well be late */
	bool reverse;		/* it dials in, `connections` links in all */
	/* the process */
	struct px_temper temper;
	enum wire_encoding speaks;
	enum wire_shape shape;
	bool answers_complete, up;
	struct px_link *links;
	/* what it did */
	unsigned n_heads, n_completes, n_bad, n_empty, n_closed, n_slow;
	unsigned n_refused_links, n_lost_links;
	unsigned owes;		/* events without an answer, on all links */
};

struct px_server {
	struct px *px;
	unsigned group, index;
	char address[32];
	bool up;
};

/* ---- what is known of an exchange ---------------------------------------- */

enum px_kind {
	PX_GOOD,	/* a request that goes upstream if nobody minds */
	PX_NOT_FOUND,
	PX_MALFORMED,	/* no agent and no upstream may ever see it */
	PX_BAD_CHUNKS,	/* its head is good, its body is not */
};

/* An agent's answer about a head. */
struct px_verdict {
	bool asked, answered;		/* answered: in a way that counts */
	uint64_t asked_us, answered_us;
	bool refused;			/* finally: not beside needs_more */
	bool broken;			/* a refusal that cannot be applied */
	bool more;
	bool edits;
};

/* An agent and a body. */
struct px_stage {
	struct px_buf in, out;	/* what it got, and made of it */
	unsigned n_asked, n_answered;
	size_t in_done;		/* of `in`, answered for */
	size_t in_before, out_before;	/* the same before the last answer */
	bool in_last, done;	/* done: it allowed the last chunk */
	bool enough;		/* it said so of some chunk: no needs_more */
	bool refused;
	unsigned refused_at;
	uint64_t asked_us, answered_us;
	bool asking;
};

struct px_part {
	struct px_verdict head[2];
	struct px_stage body[2];
	struct px_link *link;
	bool link_lost, complete;
	uint64_t free_at;	/* when all that it was asked is answered */
	bool empty_id;		/* it was told so about this exchange */
	/* Two answers to one event, or none to one and then one to the other
	 * flow's: ids do not tell them apart. Nothing can be said of this part
	 * then. */
	bool doubled, silent;
};

/* The upstream's plan for one request. */
enum px_trouble {
	PX_FINE, PX_RESET_FIRST, PX_CLOSE_FIRST, PX_CUT_HEAD, PX_CUT_BODY,
	PX_RESET_BODY, PX_STALL_HEAD, PX_STALL_BODY, PX_JUNK, PX_BAD_FRAMING,
	PX_EXTRA, PX_UNASKED_101, PX_INTERIM_FLOOD, PX_STOP_READING,
	PX_TROUBLES
};

enum px_framing { PX_NO_BODY, PX_LENGTH, PX_CHUNKED, PX_UNTIL_CLOSE };

struct px_answer {
	unsigned status, n_interim;
	enum px_framing framing;
	size_t len, early_at, trouble_at;
	bool early, close;
	enum px_trouble trouble;
	uint64_t delay_us, gap_us;
};

/* The line in the log. */
struct px_log_agent {
	enum verdict verdict;
	enum cause cause;
	uint64_t us;
	bool there;
};

struct px_log {
	unsigned lines;
	unsigned status;
	enum ended_by by;
	char why[32];
	char decided_by[8];
	bool bypass;
	uint64_t total_us, agents_us;
	struct px_log_agent agents[PX_PARTS][EVENT_RESPONSE_CHUNK + 1];
};

struct px_exchange {
	struct px *px;
	struct px_client *client;
	unsigned n;		/* its number, from 1 */
	enum px_kind kind;
	unsigned bad;		/* which kind of malformed */
	unsigned route;
	const char *method;
	unsigned minor;
	enum px_framing framing;
	size_t len;		/* of the body */
	bool expect, json, close, absolute, trailers;
	bool upgrade;		/* it asks for websocket */

	/* the client's side */
	bool begun, sent;	/* its first, its last byte went */
	uint64_t begun_us, head_us, sent_us, over_us;
	size_t body_sent;
	bool troubled;		/* the client misbehaved in it, or before */
	bool impatient;		/* and went away without waiting */
	unsigned status;	/* of the final response; 0: none came */
	enum { PX_NOBODY, PX_FROM_UPSTREAM, PX_FROM_AGENT, PX_FROM_PROXY } from;
	unsigned by_part;	/* with PX_FROM_AGENT */
	enum event_type by_event;
	unsigned by_index;
	bool complete;		/* the response came whole, as can be told */
	bool cut;		/* it did not, as can be told */
	struct px_buf own;	/* body of an answer not from upstream */
	bool closes;		/* the response said Connection: close */

	/* the agents */
	char id[EVENT_ID_LEN], go_id[EVENT_ID_LEN];
	struct px_part parts[PX_PARTS];

	/* the upstream's side */
	unsigned n_upstream;	/* how often its head came there */
	bool up_complete;	/* it was complete there */
	bool up_bytes;		/* the upstream has answered something */
	bool up_killed;		/* the connection was cut under it */
	bool strayed;		/* it got an answer that nobody asked for */
	struct px_answer answer;
	bool answer_begun, answer_sent;
	uint64_t answer_us, answer_sent_us;
	size_t answer_bytes;	/* of its body, sent */

	/* after a 101, by direction */
	size_t tunnel_sent[2], tunnel_got[2];
	bool tunnel_shut[2], tunnel_ended[2];

	/* bodies as they came out: at the upstream, at the client */
	struct px_buf sink[2];
	struct px_log log;
};

/* ---- the world ----------------------------------------------------------- */

struct px {
	struct sim_world *w;
	uint64_t seed;
	unsigned faults;	/* enum px_fault */
	bool calm;		/* the network is plain: times are exact */
	unsigned n_workers;
	uint64_t held_limit;
	unsigned generation;	/* of the text, changes with each reload */
	struct px_listener listeners[2];
	struct px_group groups[PX_GROUPS];
	struct px_route routes[PX_ROUTES];
	unsigned n_groups, n_routes, n_agents;
	struct px_agent agents[PX_AGENTS];
	struct px_server servers[PX_GROUPS * PX_SERVERS];
	struct px_client *clients;
	unsigned n_clients, n_over;
	struct px_exchange *x;	/* x[1] to x[n_x] */
	unsigned n_x;
	struct px_host *host;
	bool ending;		/* the end has begun: connections may go */
	bool disturbed;		/* memory or a shutdown may explain anything */
	uint64_t stray_us;	/* an upstream said too much, latest */
	unsigned unknown_lines;	/* in the log, of requests without a number */
	uint64_t lines;
	struct block_pool pool;	/* of the scripts */
	struct arena_pool arenas;
};

/* Says what broke and aborts. x may be NULL. */
void px_fail(struct px *px, const struct px_exchange *x, const char *fmt, ...)
	PRINTF(3, 4) __attribute__((noreturn, cold));
#define PX_CHECK(px, x, cond, ...)					\
	do {								\
		if (UNLIKELY(!(cond)))					\
			px_fail(px, x, __VA_ARGS__);			\
	} while (0)

/* Exchanges that have ended in all runs of the process. */
extern uint64_t px_exchanges;

/* ---- px_plan.c ----------------------------------------------------------- */

void px_plan(struct px *px);
/* Changes some of what a reload may change without meaning anything else. */
void px_plan_change(struct px *px);
/* The config file; to be freed. */
char *px_plan_text(struct px *px);
void px_plan_client(struct px *px, struct px_client *c);
/* One of several, by weight per 1000; the rest goes to 0. */
unsigned px_draw(struct px *px, const unsigned *weights, unsigned n);
uint64_t px_between(struct px *px, uint64_t min, uint64_t max);

/* ---- px_host.c ----------------------------------------------------------- */

struct px_host *px_host_start(struct px *px);
/* Reads the config anew and tells the workers, each a little later. */
void px_host_reload(struct px *px);
/* Is every snapshot gone but the present one, and nothing in flight? */
bool px_host_quiet(struct px_host *h);
/* Stops accepting and waits for the exchanges, or ends them. */
void px_host_stop(struct px *px, bool drain);
/* Takes everything down, checks that nothing is left and that counters add
 * up. */
void px_host_end(struct px *px);
void px_host_check_budget(struct px *px);

/* ---- peers --------------------------------------------------------------- */

void px_agents_start(struct px *px);
void px_agents_end(struct px *px);
void px_servers_start(struct px *px);
void px_servers_end(struct px *px);
void px_clients_start(struct px *px);
void px_clients_end(struct px *px);

/* ---- px_body.c ----------------------------------------------------------- */

void px_buf_put(struct px_buf *b, const void *p, size_t n);
void px_buf_print(struct px_buf *b, const char *fmt, ...) PRINTF(2, 3);
void px_buf_free(struct px_buf *b);
/* What body dir of exchange n has from byte `at` on. */
void px_pattern(unsigned n, unsigned dir, size_t at, char *out, size_t len);
bool px_pattern_is(unsigned n, unsigned dir, size_t at, const char *p,
		   size_t len);
/* Body bytes have come out of the proxy. */
void px_body_came(struct px_exchange *x, unsigned dir, const char *p,
		  size_t n);
/* At the end, with the log at hand: were they judged, all of them, in order? */
void px_body_check(struct px_exchange *x, unsigned dir, bool complete);

/* ---- facts --------------------------------------------------------------- */

static inline const struct px_route *px_route_of(const struct px_exchange *x)
{
	return &x->px->routes[x->route];
}

static inline bool px_has_body(const struct px_exchange *x)
{
	return x->framing == PX_CHUNKED ||
	       (x->framing == PX_LENGTH && x->len > 0);
}

/* Does every failure of this agent deny? */
static inline bool px_is_strict(const struct px_asked *a)
{
	if (a->observe)
		return false;
	for (unsigned c = CAUSE_CONNECT; c < CAUSE_N; c++)
		if (!a->deny[c])
			return false;
	return true;
}

/* The same of agent k of its route, if its words can be told apart. */
static inline bool px_has_word(const struct px_exchange *x, unsigned k)
{
	return px_is_strict(&px_route_of(x)->asked[k]) &&
	       !x->parts[k].doubled;
}

/* Can bytes that an upstream said too much be taken for an answer still? They
 * may have come after the connection was looked at. */
static inline bool px_may_stray(const struct px *px)
{
	return px->stray_us && sim_now(px->w) < px->stray_us +
	       (px->calm ? 2 * SIM_MS : SIM_SECOND);
}

/* Has agent k of the route a place in that body's way? */
static inline bool px_has_stage(const struct px_exchange *x, unsigned k,
				unsigned dir)
{
	const struct px_asked *a = &px_route_of(x)->asked[k];

	return a->mode[dir] != PX_NONE && !a->observe;
}

/* Does the answer have a body that agents would see? */
static inline bool px_answer_has_body(const struct px_exchange *x)
{
	const struct px_answer *a = &x->answer;

	if (strcmp(x->method, "HEAD") == 0 || a->status == 101 ||
	    a->status == 204 ||
	    a->status == 304)
		return false;
	return a->framing == PX_CHUNKED || a->framing == PX_UNTIL_CLOSE ||
	       (a->framing == PX_LENGTH && a->len > 0);
}

/* The exchange that is named in a target, or NULL. */
struct px_exchange *px_find(struct px *px, struct slice target);
struct px_exchange *px_find_id(struct px *px, const char id[EVENT_ID_LEN],
			       bool go);

/* px_check.c */
void px_check_line(struct px *px, const char *line, size_t n);
void px_check_all(struct px *px);
/* A request's head has come to an upstream: was it allowed to? */
void px_check_forward(struct px_exchange *x);
/* A final response's head has come to the client. */
void px_check_answer(struct px_exchange *x);

#endif
