/*
 * Links and calls against a fake agent on a Unix socket in the same thread: the
 * test turns the loop and plays the agent by hand. Times are shortened through
 * agent/internal.h.
 */
#include <errno.h>
#include <fcntl.h>
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

#define MS		1000ull
#define MAX_PEERS	64
#define MAX_CALLS	128

/* ---- the fake agent ---------------------------------------------------------- */

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
};

struct frame {
	uint8_t type;
	char id[EVENT_ID_LEN + 1];
	char text[4096];
};

static void fake_listen(struct fake *f)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	unlink(f->path);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(f->listener >= 0);
	assert_int_equal(bind(f->listener, (void *)&un, sizeof(un)), 0);
	assert_int_equal(listen(f->listener, 64), 0);
}

static void fake_unlisten(struct fake *f)
{
	if (f->listener >= 0)
		close(f->listener);
	f->listener = -1;
	unlink(f->path);
}

static void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/agent_link.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	f->listener = -1;
	f->shake = true;
}

static void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void fake_fini(struct fake *f)
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

static void peer_send_raw(struct peer *p, const void *b, size_t n)
{
	ssize_t r = send(p->fd, b, n, MSG_NOSIGNAL);

	if (!may_fail)
		assert_int_equal(r, n);
}

static size_t frame_build(char *out, uint8_t type, const char *text)
{
	size_t n = strlen(text);

	frame_write_head(out, type, n);
	memcpy(out + FRAME_HEAD, text, n);
	return FRAME_HEAD + n;
}

static void peer_send(struct peer *p, uint8_t type, const char *text)
{
	char b[8192];

	peer_send_raw(p, b, frame_build(b, type, text));
}

static void peer_read(struct peer *p)
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

/* The next frame, pings left out unless wanted. */
static bool peer_any_frame(struct peer *p, struct frame *out)
{
	struct slice payload;
	size_t used, n;
	const char *id;

	peer_read(p);
	if (p->n == 0 || frame_read(p->buf, p->n, FRAME_MAX, &out->type,
				    &payload, &used) != FRAME_OK)
		return false;
	n = min_size(payload.n, sizeof(out->text) - 1);
	memcpy(out->text, payload.p, n);
	out->text[n] = 0;
	out->id[0] = 0;
	id = strstr(out->text, "\"correlation_id\":\"");
	if (id)
		snprintf(out->id, sizeof(out->id), "%.32s", id + 18);
	memmove(p->buf, p->buf + used, p->n - used);
	p->n -= used;
	return true;
}

static void fake_turn(struct fake *f)
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
		peer_send(p, FRAME_HANDSHAKE_REPLY,
			  "{\"protocol_version\":2,\"success\":true,"
			  "\"error\":null,\"encoding\":\"json\","
			  "\"capabilities\":{}}");
	}
}

/* ---- the world ------------------------------------------------------------------ */

struct world {
	struct loop *loop;
	struct metrics *metrics;
	struct agent *agent;
	struct agent_metrics *m;
	struct fake fake;
	const char *sockets[1];
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

static void world_turn(struct world *w)
{
	fake_turn(&w->fake);
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

static void turn_for(struct world *w, uint64_t us)
{
	uint64_t end = sock_clock_us() + us;

	while (sock_clock_us() < end)
		world_turn(w);
}

static int setup(void **state)
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
	};
	return 0;
}

static void start(struct world *w)
{
	w->agent = agent_new(&w->config, 1, w->metrics);
	assert_non_null(w->agent);
	w->m = agent_metrics(w->agent, w->loop);
	assert_true(agent_same(w->agent, &w->config));
}

static void start_up(struct world *w)
{
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == w->config.connections);
}

static struct link *link_of(struct world *w)
{
	return cds_list_first_entry(&agent_local(w->agent, w->loop)->links,
				    struct link, node);
}

static uint64_t sum(const struct counter *c, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v += counter_read(c++);
	return v;
}

static void check_law(struct world *w)
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

static int teardown(void **state)
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
	assert_int_equal(counter_read(&l->instances[0].in_flight), 0);
	assert_int_equal(counter_read(&l->instances[0].links), 0);
	loop_turn(w->loop, 0);
	agent_put(w->agent);
	rcu_drain();
	assert_int_equal(w->loop->blocks.live, 0);
	loop_free(w->loop);
	metrics_free(w->metrics);
	fake_fini(&w->fake);
	free(w);
	world = NULL;
	return 0;
}

static void on_reply(struct agent_call *call, const struct agent_reply *reply)
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

static void ask_init(struct world *w, struct ask *a)
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

static void ask_head(struct ask *a, uint64_t timeout_us)
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

static void ask_chunk(struct ask *a, uint32_t index, uint64_t timeout_us)
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

static void ask_end(struct ask *a)
{
	struct event_complete c = { .status = 200 };

	agent_session_end(&a->session, &c);
}

/* The answer to an id; decision is JSON. */
static void answer_as(struct peer *p, const char *id, const char *decision)
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

static void answer(struct peer *p, const char *id)
{
	answer_as(p, id, "\"allow\"");
}

static struct peer *last_peer(struct world *w)
{
	return w->fake.peers[w->fake.n_peers - 1];
}

/* The next frame of p that is no ping and no cancel. */
static void next_event(struct world *w, struct peer *p, struct frame *f)
{
	do
		until(w, peer_any_frame(p, f));
	while (f->type == FRAME_PING || f->type == FRAME_CANCEL);
}

static void expect_id(const struct frame *f, const struct ask *a)
{
	assert_memory_equal(f->id, a->meta.correlation_id, EVENT_ID_LEN);
}

/* Opens the link's depth: one exchange, complete included. */
static void warm_up(struct world *w)
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

static void end_and_answer(struct world *w, struct ask *a)
{
	struct frame f;

	ask_end(a);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(last_peer(w), f.id);
}

/* ---- handshake -------------------------------------------------------------------- */

static void test_handshake_accepted(void **state)
{
	struct world *w = *state;

	w->config.connections = w->config.max_connections = 4;
	start_up(w);
	assert_int_equal(counter_read(&w->m->links_up), 4);
	assert_int_equal(counter_read(&w->m->links_connecting), 0);
	assert_int_equal(w->fake.n_peers, 4);
}

static void refuse_with(struct world *w, const char *answer_text, uint8_t type)
{
	int was;

	start(w);
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	peer_send(w->fake.peers[0], type, answer_text);
	until(w, w->fake.peers[0]->eof);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	/* It comes again, and is let in. */
	w->fake.shake = true;
	was = w->fake.n_peers;
	w->fake.peers[0]->shook = true;
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_true(w->fake.n_peers > 1 && was >= 1);
	/* Never up before, so nothing was connected again. */
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_handshake_refused(void **state)
{
	refuse_with(*state, "{\"protocol_version\":0,\"success\":false,"
		    "\"error\":\"no\",\"encoding\":\"json\"}",
		    FRAME_HANDSHAKE_REPLY);
}

static void test_handshake_garbage(void **state)
{
	refuse_with(*state, "\x01\x02garbage", FRAME_HANDSHAKE_REPLY);
}

static void test_handshake_wrong_type(void **state)
{
	refuse_with(*state, "{\"protocol_version\":2,\"success\":true}",
		    FRAME_REPLY);
}

static void test_handshake_silent(void **state)
{
	struct world *w = *state;

	start(w);
	w->agent->tuning.handshake_us = 30 * MS;
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1);
	until(w, w->fake.peers[0]->eof);
	until(w, w->fake.n_peers >= 2);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
}

static void test_handshake_closed_without_a_byte(void **state)
{
	struct world *w = *state;
	char *text = NULL;
	size_t size = 0;
	FILE *out;
	json_t *j;

	start(w);
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	peer_close(w->fake.peers[0]);
	until(w, w->fake.n_peers >= 2);
	out = open_memstream(&text, &size);
	agent_print_json(w->agent, out);
	fclose(out);
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "state")),
			    "unhealthy");
	assert_non_null(strstr(text, "v1"));
	json_decref(j);
	free(text);
}

/* ---- matching ---------------------------------------------------------------------- */

static void test_pipelining(void **state)
{
	struct world *w = *state;
	static struct ask a[60];
	struct frame f;

	w->config.depth = 64;
	start_up(w);
	warm_up(w);
	for (int i = 0; i < 60; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
		assert_int_equal(a[i].answered, 0);
	}
	assert_int_equal(counter_read(&w->m->in_flight), 60);
	check_law(w);
	for (int i = 0; i < 60; i++) {
		next_event(w, last_peer(w), &f);
		expect_id(&f, &a[i]);
		answer(last_peer(w), f.id);
	}
	for (int i = 0; i < 60; i++) {
		until(w, a[i].answered);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
	}
	for (int i = 0; i < 60; i++)
		ask_end(&a[i]);
	for (int i = 0; i < 60; i++) {
		next_event(w, last_peer(w), &f);
		assert_int_equal(f.type, FRAME_COMPLETE);
		expect_id(&f, &a[i]);
		answer(last_peer(w), f.id);
	}
	until(w, link_of(w)->fifo.n == 0);
	for (int i = 0; i < 60; i++)
		assert_int_equal(a[i].answered, 1);
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 61);
	assert_int_equal(counter_read(&w->m->late_replies), 0);
	assert_false(link_of(w)->unordered);
}

/* n heads outstanding on a warm link. */
static void ask_many(struct world *w, struct ask *a, int n, uint64_t timeout_us)
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

static const char *id_of(struct ask *a)
{
	static char id[EVENT_ID_LEN + 1];

	memcpy(id, a->meta.correlation_id, EVENT_ID_LEN);
	return id;
}

static void test_out_of_order(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	answer_as(last_peer(w), id_of(&a[1]), "{\"block\":{\"status\":403}}");
	until(w, a[1].answered);
	assert_int_equal(a[1].kind, DECISION_BLOCK);
	assert_int_equal(a[0].answered + a[2].answered, 0);
	assert_true(link_of(w)->unordered);
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[0].answered && a[2].answered);
	assert_int_equal(a[0].kind, DECISION_ALLOW);
	assert_int_equal(a[2].kind, DECISION_ALLOW);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_empty_id(void **state)
{
	struct world *w = *state;
	struct ask a[2];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	answer(last_peer(w), "");
	answer(last_peer(w), id_of(&a[1]));
	until(w, a[0].answered && a[1].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_UNREADABLE);
	assert_int_equal(a[1].reply.cause, CAUSE_NONE);
	end_and_answer(w, &a[0]);
	end_and_answer(w, &a[1]);
}

static void test_unknown_id(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	answer(last_peer(w), "ffffffffffffffffffffffffffffffff");
	until(w, a[0].answered && a[1].answered && a[2].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_CLOSED);
	assert_int_equal(a[2].reply.cause, CAUSE_CLOSED);
	assert_true(a[0].session.lost);
	until(w, agent_links_up(w->agent, 0) == 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].answered, 1);
		ask_end(&a[i]);
	}
	assert_int_equal(counter_read(&w->m->reconnects), 1);
	/* No request complete for exchanges that this link never saw. */
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 1);
}

static void test_nobody_asked(void **state)
{
	struct world *w = *state;
	struct peer *p;

	start_up(w);
	p = last_peer(w);
	answer(p, "ffffffffffffffffffffffffffffffff");
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void test_undecodable(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	peer_send(last_peer(w), FRAME_REPLY, "{\"version\":2,\"decis");
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[2].answered);
	assert_int_equal(a[0].answered, 1);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_NONE);
	assert_int_equal(a[2].reply.cause, CAUSE_NONE);
	assert_int_equal(link_of(w)->depth, 32);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
}

static void test_no_id_key(void **state)
{
	struct world *w = *state;
	static const char allow[] = "{\"version\":2,\"decision\":\"allow\"}";
	struct ask a[3];
	struct frame f;

	start_up(w);
	/* A new link takes one event, and stays at that. */
	for (int i = 0; i < 3; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	assert_int_equal(counter_read(&w->m->in_flight), 1);
	assert_int_equal(counter_read(&w->m->queued), 2);
	for (int i = 0; i < 3; i++) {
		next_event(w, last_peer(w), &f);
		expect_id(&f, &a[i]);
		turn_for(w, 5 * MS);
		assert_int_equal(last_peer(w)->n, 0);
		if (i == 1)
			ask_end(&a[0]);	/* has to wait for its turn */
		turn_for(w, 5 * MS);
		assert_int_equal(last_peer(w)->n, 0);
		peer_send(last_peer(w), FRAME_REPLY, allow);
		until(w, a[i].answered);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
		if (i == 1) {
			next_event(w, last_peer(w), &f);
			assert_int_equal(f.type, FRAME_COMPLETE);
			expect_id(&f, &a[0]);
			peer_send(last_peer(w), FRAME_REPLY, allow);
		}
	}
	ask_end(&a[1]);
	ask_end(&a[2]);
}

static void test_no_id_timeout_closes(void **state)
{
	struct world *w = *state;
	static const char allow[] = "{\"version\":2,\"decision\":\"allow\"}";
	struct ask a;
	struct frame f;

	start_up(w);
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	next_event(w, last_peer(w), &f);
	peer_send(last_peer(w), FRAME_REPLY, allow);
	until(w, a.answered);
	ask_chunk(&a, 0, 20 * MS);
	until(w, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_true(a.session.lost);
	ask_end(&a);
}

/* ---- giving up ------------------------------------------------------------------------ */

static void test_timeout_and_late_reply(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_init(w, &a);
	ask_head(&a, 20 * MS);
	next_event(w, last_peer(w), &f);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_true(a.reply.us >= 20 * MS);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CANCEL);
	expect_id(&f, &a);
	assert_int_equal(counter_read(&w->m->links_stalled), 1);
	/* The next event of the same exchange does not take the late one. */
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	answer_as(last_peer(w), f.id, "{\"block\":{\"status\":403}}");
	until(w, counter_read(&w->m->late_replies) == 1);
	assert_int_equal(a.answered, 1);
	assert_int_equal(counter_read(&w->m->links_stalled), 0);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_ALLOW);
	end_and_answer(w, &a);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

/* The answer is in the socket when the loop comes late to the deadline. */
static void test_answer_in_time_though_loop_late(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_init(w, &a);
	ask_head(&a, 20 * MS);
	next_event(w, last_peer(w), &f);
	usleep(40 * MS);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	end_and_answer(w, &a);
}

static void test_too_many_tombstones(void **state)
{
	struct world *w = *state;
	struct ask a[10];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 10, 2000 * MS);
	for (int i = 0; i < 8; i++)
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
	assert_int_equal(agent_links_up(w->agent, 0), 1);
	agent_withdraw(&a[8].call, WIRE_CANCEL_CLIENT);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	assert_int_equal(a[9].answered, 0);
	until(w, a[9].answered);
	assert_int_equal(a[9].reply.cause, CAUSE_CLOSED);
	assert_int_equal(counter_read(&w->m->abandoned), 9);
	for (int i = 0; i < 10; i++)
		ask_end(&a[i]);
}

static void test_old_tombstone(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.stall_min_us = 50 * MS;
	w->agent->tuning.check_us = 10 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, &a, 1, 20 * MS);
	until(w, a.answered);
	assert_false(p->eof);
	until(w, p->eof);
	assert_true(a.session.lost);
	ask_end(&a);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void test_withdraw(void **state)
{
	struct world *w = *state;
	struct ask a[3];
	struct frame f;

	start_up(w);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	agent_withdraw(&a[0].call, WIRE_CANCEL_BLOCKED);
	agent_withdraw(&a[0].call, WIRE_CANCEL_BLOCKED);
	check_law(w);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CANCEL);
	ask_end(&a[0]);
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[0]));	/* to the complete */
	until(w, a[1].answered);
	assert_int_equal(a[0].answered, 0);
	end_and_answer(w, &a[1]);
	/* One that has failed but was not told yet. */
	ask_init(w, &a[2]);
	ask_chunk(&a[2], 0, 2000 * MS);
	assert_int_equal(a[2].call.state, CALL_FAILED);
	agent_withdraw(&a[2].call, WIRE_CANCEL_CLIENT);
	turn_for(w, 3 * MS);
	assert_int_equal(a[2].answered, 0);
	assert_int_equal(counter_read(&w->m->abandoned), 1);
	assert_int_equal(counter_read(&w->m->late_replies), 1);
	ask_end(&a[2]);
}

/* ---- losing links ---------------------------------------------------------------------- */

static void test_link_loss(void **state)
{
	struct world *w = *state;
	struct ask a[6];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 5, 2000 * MS);
	fake_unlisten(&w->fake);
	answer(last_peer(w), id_of(&a[0]));
	peer_close(last_peer(w));
	until(w, a[4].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_NONE);
	for (int i = 1; i < 5; i++) {
		assert_int_equal(a[i].answered, 1);
		assert_int_equal(a[i].reply.cause, CAUSE_CLOSED);
	}
	check_law(w);
	/* What the link had is lost, also for later events. */
	ask_chunk(&a[0], 0, 1000 * MS);
	assert_int_equal(a[0].answered, 1);
	until(w, a[0].answered == 2);
	assert_int_equal(a[0].reply.cause, CAUSE_CLOSED);
	/* For a moment heads wait; then there is no hope. */
	ask_init(w, &a[5]);
	ask_head(&a[5], 5000 * MS);
	until(w, agent_local(w->agent, w->loop)->grace_until_us <
	      w->loop->now_us);
	until(w, a[5].answered);
	assert_int_equal(a[5].reply.cause, CAUSE_CONNECT);
	ask_head(&a[5], 5000 * MS);
	assert_int_equal(a[5].call.state, CALL_FAILED);
	until(w, a[5].answered == 2);
	assert_int_equal(a[5].reply.cause, CAUSE_CONNECT);
	/* It comes back. */
	fake_listen(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	assert_int_equal(counter_read(&w->m->reconnects), 1);
	for (int i = 0; i < 6; i++)
		ask_end(&a[i]);
}

static void test_wait_for_first_link(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start(w);
	agent_local_start(w->agent, w->loop);
	ask_init(w, &a);
	ask_head(&a, 3000 * MS);
	turn_for(w, 50 * MS);
	assert_int_equal(a.answered, 0);
	assert_int_equal(counter_read(&w->m->queued), 1);
	fake_listen(&w->fake);
	until(w, w->fake.n_peers == 1);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_true(a.reply.queue_us >= 50 * MS);
	end_and_answer(w, &a);
}

static void test_no_link_after_start(void **state)
{
	struct world *w = *state;
	struct ask a;

	start(w);
	w->agent->tuning.start_grace_us = 30 * MS;
	agent_local_start(w->agent, w->loop);
	ask_init(w, &a);
	ask_head(&a, 3000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_CONNECT);
	assert_true(a.reply.us < 1000 * MS);
	assert_int_equal(counter_read(&w->m->unsent), 1);
	ask_end(&a);
}

static void test_queue_full(void **state)
{
	struct world *w = *state;
	struct ask a[5];
	struct frame f;

	w->config.depth = 1;
	w->config.queue = 2;
	start_up(w);
	for (int i = 0; i < 5; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], i == 2 ? 30 * MS : 3000 * MS);
	}
	assert_int_equal(a[3].answered, 0);
	until(w, a[3].answered && a[4].answered);
	assert_int_equal(a[3].reply.cause, CAUSE_OVERLOAD);
	assert_int_equal(a[4].reply.cause, CAUSE_OVERLOAD);
	until(w, a[2].answered);
	assert_int_equal(a[2].reply.cause, CAUSE_TIMEOUT);
	check_law(w);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a[0].answered);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[1]);
	answer(last_peer(w), f.id);
	until(w, a[1].answered);
	assert_int_equal(counter_read(&w->m->unsent), 3);
	for (int i = 0; i < 5; i++)
		ask_end(&a[i]);
}

static void test_max_concurrency(void **state)
{
	struct world *w = *state;
	struct ask a[2];
	struct frame f;

	w->config.max_concurrency = 1;
	start_up(w);
	warm_up(w);
	ask_init(w, &a[0]);
	ask_head(&a[0], 2000 * MS);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a[0].answered);
	ask_init(w, &a[1]);
	ask_head(&a[1], 2000 * MS);
	turn_for(w, 10 * MS);
	assert_int_equal(counter_read(&w->m->queued), 1);
	end_and_answer(w, &a[0]);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[1]);
	answer(last_peer(w), f.id);
	until(w, a[1].answered);
	end_and_answer(w, &a[1]);
}

static void test_pinned_waits(void **state)
{
	struct world *w = *state;
	struct ask a[3];
	struct frame f;

	w->config.depth = 2;
	start_up(w);
	warm_up(w);
	ask_many(w, a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a[0]));
	until(w, a[0].answered);
	ask_many(w, a + 1, 2, 2000 * MS);
	ask_chunk(&a[0], 0, 2000 * MS);
	turn_for(w, 5 * MS);
	assert_int_equal(last_peer(w)->n, 0);
	assert_int_equal(counter_read(&w->m->queued), 1);
	answer(last_peer(w), id_of(&a[1]));
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	/* Charged to the head, which is a[2] now. */
	peer_send(last_peer(w), FRAME_REPLY, "{");
	until(w, a[2].answered);
	assert_int_equal(a[2].reply.cause, CAUSE_PROTOCOL);
	answer(last_peer(w), id_of(&a[0]));
	until(w, a[0].answered == 2);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
}

static void test_unavailable(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_up(w);
	ask_init(w, &a);
	ask_chunk(&a, 0, 1000 * MS);
	assert_int_equal(a.answered, 0);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
	ask_end(&a);
}

static void test_extra_links(void **state)
{
	struct world *w = *state;
	struct ask a[4];
	struct frame f;

	w->config.depth = 2;
	w->config.max_connections = 2;
	start(w);
	w->agent->tuning.extra_idle_us = 20 * MS;
	w->agent->tuning.ping_interval_us = 20 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	for (int i = 2; i < 4; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	until(w, agent_links_up(w->agent, 0) == 2);
	next_event(w, w->fake.peers[1], &f);
	expect_id(&f, &a[2]);
	answer(w->fake.peers[1], f.id);
	next_event(w, w->fake.peers[1], &f);
	expect_id(&f, &a[3]);
	answer(w->fake.peers[1], f.id);
	answer(w->fake.peers[0], id_of(&a[0]));
	answer(w->fake.peers[0], id_of(&a[1]));
	until(w, a[0].answered && a[1].answered && a[3].answered);
	for (int i = 0; i < 4; i++) {
		ask_end(&a[i]);
		next_event(w, w->fake.peers[i / 2], &f);
		answer(w->fake.peers[i / 2], f.id);
	}
	until(w, agent_links_up(w->agent, 0) == 1);
	until(w, w->fake.peers[1]->eof);
}

static void test_least_loaded_and_stalled(void **state)
{
	struct world *w = *state;
	struct peer *p0, *p1;
	struct ask a[5];
	struct frame f;

	w->config.connections = w->config.max_connections = 2;
	start_up(w);
	p0 = w->fake.peers[0];
	p1 = w->fake.peers[1];
	for (int i = 0; i < 2; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	/* One each. */
	next_event(w, p0, &f);
	answer(p0, f.id);
	next_event(w, p1, &f);
	answer(p1, f.id);
	until(w, a[0].answered && a[1].answered);
	/* A tombstone on one: the other takes all. */
	ask_chunk(&a[0], 0, 20 * MS);
	until(w, a[0].answered == 2);
	assert_int_equal(counter_read(&w->m->links_stalled), 1);
	for (int i = 2; i < 5; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
		assert_ptr_equal(a[i].session.link, a[1].session.link);
	}
	turn_for(w, 3 * MS);
	for (int i = 0; i < 5; i++) {
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
		ask_end(&a[i]);
	}
}

/* ---- frames ------------------------------------------------------------------------------ */

static void test_bytewise(void **state)
{
	struct world *w = *state;
	char b[2048];
	struct ask a;
	size_t n;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 4000 * MS);
	n = (size_t)snprintf(b + FRAME_HEAD, sizeof(b) - FRAME_HEAD,
			     "{\"decision\":\"allow\",\"audit\":{\"custom\":"
			     "{\"correlation_id\":\"%s\"}}}", id_of(&a));
	frame_write_head(b, FRAME_REPLY, n);
	for (size_t i = 0; i < FRAME_HEAD + n; i++) {
		assert_int_equal(a.answered, 0);
		peer_send_raw(last_peer(w), b + i, 1);
		world_turn(w);
	}
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	end_and_answer(w, &a);
}

static void test_three_in_one(void **state)
{
	struct world *w = *state;
	char b[4096], text[256];
	struct ask a[3];
	size_t n = 0;

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			 "{\"decision\":\"allow\",\"audit\":{\"custom\":"
			 "{\"correlation_id\":\"%s\"}}}", id_of(&a[i]));
		n += frame_build(b + n, FRAME_REPLY, text);
	}
	/* Unwanted but legal frames in between change nothing. */
	n += frame_build(b + n, FRAME_HEALTH, "garbage");
	n += frame_build(b + n, FRAME_FLOW_CONTROL, "");
	peer_send_raw(last_peer(w), b, n);
	until(w, a[2].answered);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
		end_and_answer(w, &a[i]);
	}
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void bad_bytes(struct world *w, const char *bytes, size_t n)
{
	struct peer *p;
	struct ask a[2];

	start_up(w);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, a, 2, 2000 * MS);
	peer_send_raw(p, bytes, n);
	until(w, a[0].answered && a[1].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_CLOSED);
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
	ask_end(&a[0]);
	ask_end(&a[1]);
}

static void test_length_zero(void **state)
{
	bad_bytes(*state, "\0\0\0\0\x20", 5);
}

static void test_length_huge(void **state)
{
	bad_bytes(*state, "\xff\xff\xff\xff\x20", 5);
}

static void test_length_above_limit(void **state)
{
	/* 64 KiB and one base64 chunk are the limit; this is 1 MiB. */
	bad_bytes(*state, "\x00\x10\x00\x00\x20", 5);
}

static void test_bad_type(void **state)
{
	bad_bytes(*state, "\x00\x00\x00\x01\x10", 5);
}

static void test_partial_stalls(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.frame_us = 40 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	p = last_peer(w);
	ask_many(w, &a, 1, 4000 * MS);
	peer_send_raw(p, "\0\0", 2);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_PROTOCOL);
	until(w, p->eof);
	ask_end(&a);
}

static void test_large_reply(void **state)
{
	struct world *w = *state;
	static char b[100 * 1024];
	size_t n = 60 * 1024, at = 0;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 4000 * MS);
	memset(b, ' ', sizeof(b));
	frame_write_head(b, FRAME_REPLY, n);
	at = (size_t)snprintf(b + FRAME_HEAD, 300,
			      "{\"decision\":{\"block\":{\"status\":403}},"
			      "\"audit\":{\"custom\":{\"correlation_id\":"
			      "\"%s\"}}", id_of(&a));
	b[FRAME_HEAD + at] = ' ';
	b[FRAME_HEAD + n - 1] = '}';
	for (at = 0; at < FRAME_HEAD + n; at += 5000) {
		peer_send_raw(last_peer(w), b + at,
			      min_size(5000, FRAME_HEAD + n - at));
		world_turn(w);
	}
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_BLOCK);
	end_and_answer(w, &a);
}

/* ---- request complete, ping ---------------------------------------------------------------- */

static void test_complete_answered(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	w->config.complete = COMPLETE_AUTO;
	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(last_peer(w), f.id);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(w->agent->complete_known, COMPLETE_ANSWERED);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	end_and_answer(w, &a);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(last_peer(w)->n, 0);	/* no ping behind it */
}

static void test_complete_silent(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	w->config.complete = COMPLETE_AUTO;
	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	next_event(w, last_peer(w), &f);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	assert_int_equal(link_of(w)->fifo.n, 1);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(w->agent->complete_known, COMPLETE_SILENT);
	/* From now on it is sent and nothing is expected. */
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	assert_int_equal(link_of(w)->fifo.n, 0);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
}

/* `always`, but it is not: found out, and not at the cost of verdicts. */
static void test_complete_never_comes(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.complete_us = 20 * MS;
	w->agent->tuning.stall_min_us = 40 * MS;
	w->agent->tuning.check_us = 5 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(p, id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	assert_int_equal(counter_read(&w->m->links_stalled), 0);
	until(w, counter_read(&w->m->links_stalled) == 1);
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_int_equal(counter_read(&w->m->late_replies), 0);
}

/* Behind an event that somebody waits for it is not late. */
static void test_complete_behind_slow_event(void **state)
{
	struct world *w = *state;
	struct ask a[12];

	start(w);
	w->agent->tuning.complete_us = 10 * MS;
	w->agent->tuning.stall_min_us = 10 * MS;
	w->agent->tuning.check_us = 5 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, a, 11, 2000 * MS);
	for (int i = 0; i < 11; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[10].answered);
	ask_many(w, a + 11, 1, 2000 * MS);
	for (int i = 0; i < 11; i++)
		ask_end(&a[i]);
	turn_for(w, 100 * MS);
	assert_int_equal(a[11].answered, 0);
	assert_int_equal(link_of(w)->fifo.n, 12);
	answer(last_peer(w), id_of(&a[11]));
	for (int i = 0; i < 11; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[11].answered);
	assert_int_equal(a[11].reply.cause, CAUSE_NONE);
	end_and_answer(w, &a[11]);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_idle_ping(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct frame f;

	start(w);
	w->agent->tuning.ping_interval_us = 20 * MS;
	w->agent->tuning.ping_timeout_us = 60 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	p = last_peer(w);
	for (int i = 0; i < 3; i++) {
		until(w, peer_any_frame(p, &f));
		assert_int_equal(f.type, FRAME_PING);
		peer_send(p, FRAME_PONG, f.text);
	}
	assert_false(p->eof);
	until(w, p->eof);	/* no pong */
	until(w, w->fake.n_peers == 2);
}

/* ---- from inside the callback ----------------------------------------------------------------- */

static void then_ask_again(struct ask *a)
{
	if (a->answered < 3)
		ask_chunk(a, a->answered - 1, 2000 * MS);
}

static void then_end_and_withdraw(struct ask *a)
{
	ask_end(a);
	if (a->other && !a->other->answered) {
		agent_withdraw(&a->other->call, WIRE_CANCEL_CLIENT);
		ask_end(a->other);
	}
}

static void test_callback_asks(void **state)
{
	struct world *w = *state;
	struct ask a;
	struct frame f;

	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	a.then = then_ask_again;
	answer(last_peer(w), id_of(&a));
	for (int i = 0; i < 2; i++) {
		next_event(w, last_peer(w), &f);
		assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
		answer(last_peer(w), f.id);
	}
	until(w, a.answered == 3);
	end_and_answer(w, &a);
}

/* Pairs: the first that is told withdraws the other. */
static void test_callback_withdraws(void **state)
{
	struct world *w = *state;
	struct ask a[8];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 8, 2000 * MS);
	for (int i = 0; i < 8; i++) {
		a[i].then = then_end_and_withdraw;
		a[i].other = &a[i ^ 1];
	}
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[0].answered && a[2].answered);
	assert_int_equal(a[1].answered + a[3].answered, 0);
	peer_close(last_peer(w));
	until(w, a[4].answered && a[6].answered);
	turn_for(w, 3 * MS);
	assert_int_equal(a[5].answered + a[7].answered, 0);
	assert_int_equal(counter_read(&w->m->abandoned), 4);
}

static void then_close_agent(struct ask *a)
{
	ask_end(a);
	agent_local_close(a->w->agent, a->w->loop);
}

static void test_callback_closes(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	a.then = then_close_agent;
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	turn_for(w, 3 * MS);
	ask_init(w, &a);
	ask_head(&a, 1000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
}

static void test_close_in_any_state(void **state)
{
	struct world *w = *state;

	w->config.connections = w->config.max_connections = 3;
	start(w);
	agent_local_start(w->agent, w->loop);	/* ENOENT */
	turn_for(w, 5 * MS);
	agent_local_close(w->agent, w->loop);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);	/* connecting */
	agent_local_close(w->agent, w->loop);
	world_turn(w);
	w->fake.shake = false;
	agent_local_start(w->agent, w->loop);
	turn_for(w, 5 * MS);			/* handshake */
	agent_local_close(w->agent, w->loop);
	world_turn(w);
	agent_local_start(w->agent, w->loop);
}

static void test_print(void **state)
{
	struct world *w = *state;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	json_t *j, *inst;

	start_up(w);
	agent_print_json(w->agent, out);
	fclose(out);
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "name")),
			    "waf");
	assert_string_equal(json_string_value(json_object_get(j, "state")),
			    "healthy");
	inst = json_array_get(json_object_get(j, "instances"), 0);
	assert_int_equal(json_integer_value(json_object_get(inst, "links_up")),
			 1);
	assert_string_equal(json_string_value(json_object_get(inst,
							      "encoding")),
			    "json");
	assert_true(json_is_null(json_object_get(inst, "last_error")));
	json_decref(j);
	free(text);
}

/* ---- at random ------------------------------------------------------------------------------------ */

static uint64_t chaos_state;

static unsigned chaos(unsigned n)
{
	chaos_state ^= chaos_state << 13;
	chaos_state ^= chaos_state >> 7;
	chaos_state ^= chaos_state << 17;
	return (unsigned)(chaos_state >> 20) % n;
}

#define CHAOS_ASKS 40

static struct ask chaos_asks[CHAOS_ASKS];
/* What each is due: answers told so far must be this, or one less while it is
 * under way. */
static unsigned chaos_asked[CHAOS_ASKS], chaos_gone[CHAOS_ASKS];

static void chaos_check(unsigned i)
{
	struct ask *a = &chaos_asks[i];
	unsigned under_way = a->call.state != CALL_IDLE;

	assert_int_equal(a->answered + chaos_gone[i] + under_way,
			 chaos_asked[i]);
}

static void chaos_client(struct world *w)
{
	unsigned i = chaos(CHAOS_ASKS);
	struct ask *a = &chaos_asks[i];

	chaos_check(i);
	if (!a->w) {
		ask_init(w, a);
		chaos_asked[i] = chaos_gone[i] = 0;
	}
	if (a->call.state != CALL_IDLE) {
		if (chaos(4))
			return;
		chaos_gone[i]++;
		agent_withdraw(&a->call, WIRE_CANCEL_CLIENT);
	} else if (chaos(4) == 0) {
		ask_end(a);
		a->w = NULL;
	} else {
		chaos_asked[i]++;
		if (a->session.head_given || chaos(20) == 0)
			ask_chunk(a, chaos(3), (1 + chaos(40)) * MS);
		else
			ask_head(a, (1 + chaos(40)) * MS);
	}
}

static void chaos_agent(struct world *w)
{
	struct peer *p = w->fake.peers[chaos((unsigned)w->fake.n_peers)];
	struct frame f;

	if (p->fd < 0 || p->eof) {
		peer_close(p);
		return;
	}
	if (!peer_any_frame(p, &f))
		return;
	switch (chaos(60)) {
	case 0:
		peer_close(p);
		return;
	case 1:
		(void)!send(p->fd, "\0\0\0\7\x20{\"dec", 10, MSG_NOSIGNAL);
		return;
	case 2:
		(void)!send(p->fd, "\0\0\0\1\x10", 5, MSG_NOSIGNAL);
		return;
	case 3:
		answer(p, "");
		return;
	case 4:
	case 5:
		return;		/* never answered */
	}
	if (f.type == FRAME_PING)
		peer_send(p, FRAME_PONG, f.text);
	else if (f.type != FRAME_CANCEL)
		answer(p, f.id);
}

static bool chaos_oom;

static bool chaos_fault(size_t bytes)
{
	return chaos_oom && chaos(5) == 0;
}

static void chaos_run(struct world *w, uint64_t seed, bool oom)
{
	chaos_state = seed;
	memset(chaos_asks, 0, sizeof(chaos_asks));
	memset(chaos_asked, 0, sizeof(chaos_asked));
	memset(chaos_gone, 0, sizeof(chaos_gone));
	w->config.connections = 2;
	w->config.max_connections = 3;
	w->config.depth = 4;
	w->config.queue = 8;
	w->config.complete = COMPLETE_AUTO;
	start(w);
	w->agent->tuning.stall_min_us = 20 * MS;
	w->agent->tuning.complete_us = 10 * MS;
	w->agent->tuning.check_us = 5 * MS;
	w->agent->tuning.extra_idle_us = 10 * MS;
	w->agent->tuning.ping_interval_us = 10 * MS;
	w->agent->tuning.ping_timeout_us = 10 * MS;
	w->agent->tuning.lost_grace_us = 5 * MS;
	w->agent->tuning.refill_us = 5 * MS;
	fake_listen(&w->fake);
	may_fail = true;
	mem_fault = chaos_fault;
	chaos_oom = oom;
	agent_local_start(w->agent, w->loop);
	chaos_oom = false;
	until(w, w->fake.n_peers > 0);
	for (int step = 0; step < 6000 && w->fake.n_peers < MAX_PEERS - 6;
	     step++) {
		chaos_oom = oom && chaos(10) == 0;
		chaos_client(w);
		chaos_oom = false;
		chaos_agent(w);
		if (chaos(4) == 0) {
			fake_turn(&w->fake);
			chaos_oom = oom && chaos(10) == 0;
			loop_turn(w->loop, chaos(3) ? 0 : 300);
			chaos_oom = false;
			check_law(w);
		}
	}
	mem_fault = NULL;
	may_fail = false;
	for (unsigned i = 0; i < CHAOS_ASKS; i++) {
		struct ask *a = &chaos_asks[i];

		if (!a->w)
			continue;
		until(w, a->call.state == CALL_IDLE);
		chaos_check(i);
		ask_end(a);
	}
}

static void test_chaos(void **state)
{
	struct world *w = *state;
	const char *seed = getenv("SEED");

	for (uint64_t s = 1; s <= 8; s++) {
		chaos_run(w, seed ? strtoull(seed, NULL, 0) : s * 7919,
			  s > 4);
		if (s == 8 || seed)
			break;
		assert_int_equal(teardown(state), 0);
		setup(state);
		w = *state;
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_handshake_accepted),
		T(test_handshake_refused),
		T(test_handshake_garbage),
		T(test_handshake_wrong_type),
		T(test_handshake_silent),
		T(test_handshake_closed_without_a_byte),
		T(test_pipelining),
		T(test_out_of_order),
		T(test_empty_id),
		T(test_unknown_id),
		T(test_nobody_asked),
		T(test_undecodable),
		T(test_no_id_key),
		T(test_no_id_timeout_closes),
		T(test_timeout_and_late_reply),
		T(test_answer_in_time_though_loop_late),
		T(test_too_many_tombstones),
		T(test_old_tombstone),
		T(test_withdraw),
		T(test_link_loss),
		T(test_wait_for_first_link),
		T(test_no_link_after_start),
		T(test_queue_full),
		T(test_max_concurrency),
		T(test_pinned_waits),
		T(test_unavailable),
		T(test_extra_links),
		T(test_least_loaded_and_stalled),
		T(test_bytewise),
		T(test_three_in_one),
		T(test_length_zero),
		T(test_length_huge),
		T(test_length_above_limit),
		T(test_bad_type),
		T(test_partial_stalls),
		T(test_large_reply),
		T(test_complete_answered),
		T(test_complete_silent),
		T(test_complete_never_comes),
		T(test_complete_behind_slow_event),
		T(test_idle_ping),
		T(test_callback_asks),
		T(test_callback_withdraws),
		T(test_callback_closes),
		T(test_close_in_any_state),
		T(test_print),
		T(test_chaos),
	};
	int failed;

	rcu_worker_online();
	log_set_level(LOG_ERROR);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rcu_worker_offline();
	return failed;
}
