/*
 * For test_agent_*.c: an agent's links and calls against a fake agent on a Unix
 * socket in the same thread. The test turns the loop and plays the agent by
 * hand. Times are shortened through agent/internal.h.
 *
 * All tests run once for each thing that a link can have agreed on: what they
 * write down as JSON goes out in that encoding, and events are read from it.
 */
#ifndef AGENT_FIXTURE_H
#define AGENT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/internal.h"
#include "base/mem.h"
#include "wire/encode.h"

#define MS		1000ull
#define MAX_PEERS	64
#define MAX_CALLS	128

/* What the fake agent agrees on; raw_body is a matter of the config. */
enum speaks { SPEAKS_JSON, SPEAKS_ARRAY, SPEAKS_MAP, SPEAKS_RAW, SPEAKS_N };

static enum speaks speaks;

static inline struct wire_format speaks_format(void)
{
	return (struct wire_format){
		.encoding = speaks == SPEAKS_JSON ? WIRE_JSON : WIRE_MSGPACK,
		.shape = speaks == SPEAKS_MAP ? WIRE_MAP : WIRE_ARRAY,
		.raw_body = speaks == SPEAKS_RAW,
	};
}

/* ---- the fake agent ---------------------------------------------------- */

struct peer {
	int fd;
	bool shook, eof;
	char buf[256 * 1024];
	size_t n;
};

struct fake {
	char dir[64], path[96];
	int listener;
	struct peer *peers[MAX_PEERS];
	int n_peers;
	bool shake;		/* answer handshakes by itself */
	const char *capabilities;	/* JSON; NULL: {} */
};

struct frame {
	uint8_t type;
	char id[EVENT_ID_LEN + 1];
	char text[4096];
};

static inline void fake_listen(struct fake *f)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	unlink(f->path);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(f->listener >= 0);
	assert_int_equal(bind(f->listener, (void *)&un, sizeof(un)), 0);
	assert_int_equal(listen(f->listener, 64), 0);
}

static inline void fake_unlisten(struct fake *f)
{
	if (f->listener >= 0)
		close(f->listener);
	f->listener = -1;
	unlink(f->path);
}

static inline void fake_init(struct fake *f)
{
	char dir[] = "/tmp/agent_link.XXXXXX";

	memset(f, 0, sizeof(*f));
	assert_non_null(mkdtemp(dir));
	snprintf(f->dir, sizeof(f->dir), "%s", dir);
	snprintf(f->path, sizeof(f->path), "%s/s", dir);
	f->listener = -1;
	f->shake = true;
}

static inline void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static inline void fake_fini(struct fake *f)
{
	fake_unlisten(f);
	for (int i = 0; i < f->n_peers; i++) {
		peer_close(f->peers[i]);
		free(f->peers[i]);
	}
	rmdir(f->dir);
}

/* The link may be closed already. */
static bool may_fail;

static inline void peer_send_raw(struct peer *p, const void *b, size_t n)
{
	ssize_t r = send(p->fd, b, n, MSG_NOSIGNAL);

	if (!may_fail)
		assert_int_equal(r, n);
}

static inline size_t frame_build(char *out, uint8_t type, const char *text)
{
	size_t n = strlen(text);

	frame_write_head(out, type, n);
	memcpy(out + FRAME_HEAD, text, n);
	return FRAME_HEAD + n;
}

/* A reply that is JSON, as the link's encoding; other payloads as they are. */
static inline void peer_send(struct peer *p, uint8_t type, const char *text)
{
	char b[8192], *packed = NULL;
	size_t n = 0;

	if (speaks != SPEAKS_JSON && type == FRAME_REPLY)
		packed = encode_msgpack_from_json(slice_str(text), &n);
	if (!packed) {
		peer_send_raw(p, b, frame_build(b, type, text));
		return;
	}
	frame_write_head(b, type, n);
	memcpy(b + FRAME_HEAD, packed, n);
	peer_send_raw(p, b, FRAME_HEAD + n);
	mem_free(packed);
}

static inline void peer_read(struct peer *p)
{
	ssize_t r;

	while (p->fd >= 0 && p->n < sizeof(p->buf)) {
		r = recv(p->fd, p->buf + p->n, sizeof(p->buf) - p->n, 0);
		if (r > 0) {
			p->n += (size_t)r;
			continue;
		}
		if (r == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			p->eof = true;
		break;
	}
}

/* The id in an event, which must be one that an agent can read. */
static inline void frame_find_id(struct frame *f, struct slice payload)
{
	struct wire_format format = speaks_format();
	struct arena_pool pool;
	struct arena scratch;
	struct wire_agent_event e;
	char *copy = malloc(payload.n + 1);
	const char *id;

	f->id[0] = 0;
	id = strstr(f->text, "\"correlation_id\":\"");
	if (id)
		snprintf(f->id, sizeof(f->id), "%.32s", id + 18);
	memcpy(copy, payload.p, payload.n);
	arena_pool_init(&pool);
	arena_init(&scratch, &pool);
	if (f->type >= FRAME_REQUEST_HEAD && f->type <= FRAME_COMPLETE) {
		assert_int_equal(payload.n && payload.p[0] == '{',
				 speaks == SPEAKS_JSON);
		assert_true(wire_agent_decode_event(f->type, copy, payload.n,
						    &format, &scratch, &e));
		snprintf(f->id, sizeof(f->id), "%.*s",
			 (int)e.correlation_id.n, e.correlation_id.p);
	}
	arena_fini(&scratch);
	arena_pool_fini(&pool);
	free(copy);
}

/* The next frame, pings left out unless wanted. */
static inline bool peer_any_frame(struct peer *p, struct frame *out)
{
	struct slice payload;
	size_t used, n;

	peer_read(p);
	if (p->n == 0 || frame_read(p->buf, p->n, FRAME_MAX, &out->type,
				    &payload, &used) != FRAME_OK)
		return false;
	n = min_size(payload.n, sizeof(out->text) - 1);
	memcpy(out->text, payload.p, n);
	out->text[n] = 0;
	frame_find_id(out, payload);
	memmove(p->buf, p->buf + used, p->n - used);
	p->n -= used;
	return true;
}

static inline void peer_shake(struct peer *p, const char *capabilities)
{
	char text[512];

	snprintf(text, sizeof(text), "{\"protocol_version\":2,"
		 "\"success\":true,\"error\":null,\"encoding\":\"%s\","
		 "\"capabilities\":%s}",
		 speaks == SPEAKS_JSON ? "json" : "msgpack",
		 capabilities ? capabilities : "{}");
	peer_send(p, FRAME_HANDSHAKE_REPLY, text);
}

static inline void fake_turn(struct fake *f)
{
	struct frame fr;

	for (;;) {
		struct peer *p;
		int fd = f->listener < 0 ? -1 :
			 accept4(f->listener, NULL, NULL, SOCK_NONBLOCK);

		if (fd < 0)
			break;
		assert_true(f->n_peers < MAX_PEERS);
		p = calloc(1, sizeof(*p));
		p->fd = fd;
		f->peers[f->n_peers++] = p;
	}
	for (int i = 0; i < f->n_peers; i++) {
		struct peer *p = f->peers[i];

		peer_read(p);
		if (!f->shake || p->shook || !peer_any_frame(p, &fr))
			continue;
		assert_int_equal(fr.type, FRAME_HANDSHAKE);
		/* Nothing may follow before the answer. */
		assert_int_equal(p->n, 0);
		p->shook = true;
		peer_shake(p, f->capabilities);
	}
}

/* ---- the world --------------------------------------------------------- */

struct world {
	struct loop *loop;
	struct metrics *metrics;
	struct agent *agent;
	struct agent_metrics *m;
	struct fake fake;
	struct fake more[2];	/* other instances, by add_instance() */
	unsigned n_more;
	const char *sockets[3];
	struct config_agent config;
	bool started;
};

struct ask {
	struct agent_call call;		/* first */
	struct agent_session session;
	struct event_meta meta;
	struct event ev;
	struct bslice piece;
	unsigned answered;
	struct agent_reply reply;
	enum decision_kind kind;
	void (*then)(struct ask *a);
	struct world *w;
	struct ask *other;
};

static struct world *world;
static unsigned ask_counter;

static inline void world_turn(struct world *w)
{
	fake_turn(&w->fake);
	for (unsigned i = 0; i < w->n_more; i++)
		fake_turn(&w->more[i]);
	loop_turn(w->loop, 1000);
	fake_turn(&w->fake);
}

/* Turns until cond holds; fails after some seconds. */
#define until(w, cond)							\
	do {								\
		uint64_t end_ = sock_clock_us() + 8000 * MS;		\
		while (!(cond)) {					\
			if (sock_clock_us() > end_)			\
				fail_msg("never: %s", #cond);		\
			world_turn(w);					\
		}							\
	} while (0)

static inline void turn_for(struct world *w, uint64_t us)
{
	uint64_t end = sock_clock_us() + us;

	while (sock_clock_us() < end)
		world_turn(w);
}

static inline int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = world = w;
	w->loop = loop_new(0);
	assert_non_null(w->loop);
	w->metrics = metrics_new(1);
	assert_non_null(w->metrics);
	fake_init(&w->fake);
	w->sockets[0] = w->fake.path;
	w->config = (struct config_agent){
		.name = "waf",
		.sockets = w->sockets,
		.n_sockets = 1,
		.connections = 1,
		.max_connections = 1,
		.depth = 32,
		.queue = 1024,
		.chunk_size = 64 * 1024,
		.max_reply_bytes = 64 * 1024,
		.complete = COMPLETE_ALWAYS,
		.msgpack_shape = speaks == SPEAKS_MAP ? SHAPE_MAP :
							SHAPE_ARRAY,
		.raw_body = speaks == SPEAKS_RAW,
	};
	return 0;
}

/* One more socket, before start(). */
static inline struct fake *add_instance(struct world *w)
{
	struct fake *f = &w->more[w->n_more++];

	fake_init(f);
	fake_listen(f);
	w->sockets[w->config.n_sockets++] = f->path;
	return f;
}

static inline void start(struct world *w)
{
	w->agent = agent_new(&w->config, 1, w->metrics);
	assert_non_null(w->agent);
	w->m = agent_metrics(w->agent, w->loop);
	assert_true(agent_same(w->agent, &w->config));
}

static inline void start_up(struct world *w)
{
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) ==
		 w->config.connections * w->config.n_sockets);
}

static inline struct link *link_of(struct world *w)
{
	return cds_list_first_entry(&agent_local(w->agent, w->loop)->links,
				    struct link, node);
}

static inline uint64_t sum(const struct counter *c, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v += counter_read(c++);
	return v;
}

static inline void check_law(struct world *w)
{
	uint64_t events = sum(w->m->events, EVENT_COMPLETE);
	uint64_t failures = sum(w->m->failures, CAUSE_N);
	uint64_t decisions = 0;

	for (int i = 0; i < EVENT_COMPLETE; i++)
		decisions += sum(w->m->decisions[i], METRICS_DECISIONS);
	assert_int_equal(events, decisions + failures -
			 counter_read(&w->m->unsent) +
			 counter_read(&w->m->abandoned) +
			 counter_read(&w->m->in_flight));
}

static inline int teardown(void **state)
{
	struct world *w = *state;
	struct agent_local *l = agent_local(w->agent, w->loop);

	check_law(w);
	assert_int_equal(counter_read(&w->m->queued), 0);
	assert_int_equal(counter_read(&w->m->in_flight), 0);
	agent_local_close(w->agent, w->loop);
	assert_int_equal(counter_read(&w->m->links_up), 0);
	assert_int_equal(counter_read(&w->m->links_connecting), 0);
	assert_int_equal(counter_read(&w->m->links_stalled), 0);
	assert_int_equal(counter_read(&w->m->breaker_open), 0);
	assert_int_equal(counter_read(&l->instances[0].in_flight), 0);
	assert_int_equal(counter_read(&l->instances[0].links), 0);
	loop_turn(w->loop, 0);
	agent_put(w->agent);
	rcu_drain();
	assert_int_equal(w->loop->blocks.live, 0);
	loop_free(w->loop);
	metrics_free(w->metrics);
	fake_fini(&w->fake);
	for (unsigned i = 0; i < w->n_more; i++)
		fake_fini(&w->more[i]);
	free(w);
	world = NULL;
	return 0;
}

static inline void on_reply(struct agent_call *call, const struct agent_reply *reply)
{
	struct ask *a = (struct ask *)(void *)call;

	a->answered++;
	a->reply = *reply;
	if (reply->decision) {
		assert_int_equal(reply->cause, CAUSE_NONE);
		a->kind = reply->decision->kind;
	} else {
		assert_int_not_equal(reply->cause, CAUSE_NONE);
	}
	if (a->then)
		a->then(a);
}

static const struct field test_fields[] = {
	{ .name = "host", .name_len = 4, .value = "example.com",
	  .value_len = 11, .flags = FIELD_LOWER },
};

static inline void ask_init(struct world *w, struct ask *a)
{
	char id[EVENT_ID_LEN + 1];

	memset(a, 0, sizeof(*a));
	snprintf(id, sizeof(id), "%032x", ++ask_counter);
	memcpy(a->meta.correlation_id, id, EVENT_ID_LEN);
	a->meta.timestamp = SLICE("2026-01-02T03:04:05.678Z");
	a->meta.client_ip = SLICE("192.0.2.7");
	a->meta.protocol = SLICE("HTTP/1.1");
	a->w = w;
	agent_session_init(&a->session, w->agent, w->loop, &a->meta);
}

static inline void ask_head(struct ask *a, uint64_t timeout_us)
{
	a->ev = (struct event){
		.type = EVENT_REQUEST_HEAD,
		.meta = &a->meta,
		.head = { .method = SLICE("GET"), .uri = SLICE("/"),
			  .fields = test_fields, .n_fields = 1 },
	};
	agent_ask(&a->call, &a->session, &a->ev, timeout_us, CAUSE_TIMEOUT,
		  on_reply);
}

static inline void ask_chunk(struct ask *a, uint32_t index, uint64_t timeout_us)
{
	a->piece = (struct bslice){ NULL, "Hello", 5 };
	a->ev = (struct event){
		.type = EVENT_REQUEST_CHUNK,
		.meta = &a->meta,
		.chunk = { .pieces = &a->piece, .n_pieces = 1, .bytes = 5,
			   .is_last = true, .index = index,
			   .bytes_so_far = 5 },
	};
	agent_ask(&a->call, &a->session, &a->ev, timeout_us, CAUSE_TIMEOUT,
		  on_reply);
}

static inline void ask_end(struct ask *a)
{
	struct event_complete c = { .status = 200 };

	agent_session_end(&a->session, &c);
}

/* The answer to an id; decision is JSON. */
static inline void answer_as(struct peer *p, const char *id, const char *decision)
{
	char text[1024];

	snprintf(text, sizeof(text), "{\"version\":2,\"decision\":%s,"
		 "\"request_headers\":[],\"response_headers\":[],"
		 "\"routing_metadata\":{},\"audit\":{\"tags\":[],"
		 "\"rule_ids\":[],\"confidence\":null,\"reason_codes\":[],"
		 "\"custom\":{\"correlation_id\":\"%s\"}},"
		 "\"needs_more\":false,\"request_body_mutation\":null,"
		 "\"response_body_mutation\":null,"
		 "\"websocket_decision\":null}", decision, id);
	peer_send(p, FRAME_REPLY, text);
}

static inline void answer(struct peer *p, const char *id)
{
	answer_as(p, id, "\"allow\"");
}

static inline struct peer *last_peer(struct world *w)
{
	return w->fake.peers[w->fake.n_peers - 1];
}

/* The next frame of p that is no ping and no cancel. */
static inline void next_event(struct world *w, struct peer *p, struct frame *f)
{
	do
		until(w, peer_any_frame(p, f));
	while (f->type == FRAME_PING || f->type == FRAME_CANCEL);
}

static inline void expect_id(const struct frame *f, const struct ask *a)
{
	assert_memory_equal(f->id, a->meta.correlation_id, EVENT_ID_LEN);
}

/* Opens the link's depth: one exchange, complete included. */
static inline void warm_up(struct world *w)
{
	struct peer *p = last_peer(w);
	struct ask a;
	struct frame f;

	ask_init(w, &a);
	ask_head(&a, 1000 * MS);
	next_event(w, p, &f);
	assert_int_equal(f.type, FRAME_REQUEST_HEAD);
	answer(p, f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	ask_end(&a);
	next_event(w, p, &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(p, f.id);
	until(w, link_of(w)->fifo.n == 0);
}

static inline void end_and_answer(struct world *w, struct ask *a)
{
	struct frame f;

	ask_end(a);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(last_peer(w), f.id);
}

/* n heads outstanding on a warm link. */
static inline void ask_many(struct world *w, struct ask *a, int n, uint64_t timeout_us)
{
	struct frame f;

	for (int i = 0; i < n; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], timeout_us);
	}
	for (int i = 0; i < n; i++) {
		next_event(w, last_peer(w), &f);
		expect_id(&f, &a[i]);
	}
}

static inline const char *id_of(struct ask *a)
{
	static char id[EVENT_ID_LEN + 1];

	memcpy(id, a->meta.correlation_id, EVENT_ID_LEN);
	return id;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static inline int run_agent_tests(const struct CMUnitTest *tests, size_t n)
{
	static const char *const names[SPEAKS_N] = {
		"agent, JSON", "agent, arrays", "agent, maps",
		"agent, arrays with raw bodies",
	};
	int failed = 0;

	rcu_worker_online();
	log_set_level(LOG_ERROR);
	for (speaks = 0; speaks < SPEAKS_N; speaks++)
		failed += _cmocka_run_group_tests(names[speaks], tests, n,
						  NULL, NULL);
	rcu_worker_offline();
	return failed;
}

#endif
