/* Links to go-v2 and v1 agents, and configs that are pushed. */
#include "agent_fixture.h"

/* ---- go-v2 ------------------------------------------------------------- */

static const char go_hello[] = "{\"accepted\":true,\"protocol_version\":2,"
	"\"agent_name\":\"g\",\"capabilities\":{}}";

/* Between questions; 0: none. */
static uint64_t go_question_us;

static void start_go(struct world *w, enum config_dialect dialect)
{
	w->fake.shake = false;
	w->config.dialect = dialect;
	w->config.go_release = true;
	w->config.raw_body = false;
	start(w);
	w->agent->tuning.question_us = go_question_us;
	if (go_question_us)
		w->agent->tuning.ping_interval_us = 10 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	/* The handshake is taken out. */
	w->fake.peers[0]->n = 0;
	peer_send(w->fake.peers[0], FRAME_HANDSHAKE_REPLY, go_hello);
}

static void go_up(struct world *w)
{
	start_go(w, DIALECT_AUTO);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void go_ask(struct world *w, struct ask *a)
{
	ask_init(w, a);
	a->meta.go_request_id = 1ull << 40 | ask_counter;
	ask_head(a, 2000 * MS);
}

/* An event of go-v2: its id, and no encoding but JSON. */
static uint64_t go_next(struct world *w, uint8_t type)
{
	struct peer *p = last_peer(w);
	struct slice payload;
	uint8_t got;
	size_t used;
	json_t *j;
	uint64_t id;

	for (;;) {
		until(w, (peer_read(p), p->n) &&
		      frame_read(p->buf, p->n, FRAME_MAX, &got, &payload,
				 &used) == FRAME_OK);
		if (got == type || got != FRAME_GO_PING)
			break;
		memmove(p->buf, p->buf + used, p->n - used);
		p->n -= used;
	}
	assert_int_equal(got, type);
	j = json_loadb(payload.p, payload.n, 0, NULL);
	assert_non_null(j);
	id = (uint64_t)json_integer_value(json_object_get(j, "request_id"));
	json_decref(j);
	memmove(p->buf, p->buf + used, p->n - used);
	p->n -= used;
	return id;
}

static void go_answer(struct world *w, uint64_t id, const char *decision)
{
	char text[256], b[512];

	snprintf(text, sizeof(text), "{\"request_id\":%llu,\"decision\":%s}",
		 (unsigned long long)id, decision);
	peer_send_raw(last_peer(w), b, frame_build(b, FRAME_REPLY, text));
}

static void test_go_exchange(void **state)
{
	struct world *w = *state;
	struct ask a[3];
	uint64_t id[3];

	go_up(w);
	assert_int_equal(link_of(w)->format.dialect, WIRE_GO);
	for (int i = 0; i < 3; i++)
		go_ask(w, &a[i]);
	for (int i = 0; i < 3; i++) {
		id[i] = go_next(w, FRAME_REQUEST_HEAD);
		assert_true(id[i] == a[i].meta.go_request_id);
	}
	/* By id, whatever the order. */
	go_answer(w, id[1], "{\"block\":{\"status\":403}}");
	until(w, a[1].answered);
	assert_int_equal(a[1].kind, DECISION_BLOCK);
	assert_int_equal(a[0].answered + a[2].answered, 0);
	go_answer(w, id[0], "\"allow\"");
	go_answer(w, id[2], "{\"needs_more\":true}");
	until(w, a[0].answered && a[2].answered);
	assert_int_equal(a[2].kind, DECISION_ALLOW);
	ask_chunk(&a[2], 0, 2000 * MS);
	assert_true(go_next(w, FRAME_REQUEST_CHUNK) == id[2]);
	go_answer(w, id[2], "\"allow\"");
	until(w, a[2].answered == 2);
	/* The end is 0x30, and nothing answers it. */
	for (int i = 0; i < 3; i++) {
		ask_end(&a[i]);
		assert_true(go_next(w, FRAME_GO_CANCEL) == id[i]);
	}
	assert_int_equal(link_of(w)->fifo.n, 0);
	turn_for(w, 10 * MS);
	assert_int_equal(last_peer(w)->n, 0);
}

static void test_go_unreadable(void **state)
{
	struct world *w = *state;
	struct ask a[2];

	go_up(w);
	for (int i = 0; i < 2; i++) {
		go_ask(w, &a[i]);
		go_next(w, FRAME_REQUEST_HEAD);
	}
	go_answer(w, 0, "\"allow\"");
	until(w, a[0].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_UNREADABLE);
	peer_send(last_peer(w), FRAME_REPLY, "{\"decision\":\"allow\"}");
	until(w, a[1].answered);
	assert_int_not_equal(a[1].reply.cause, CAUSE_NONE);
	for (int i = 0; i < 2; i++)
		ask_end(&a[i]);
}

static void test_go_unknown_id(void **state)
{
	struct world *w = *state;
	struct ask a;

	go_up(w);
	go_ask(w, &a);
	go_next(w, FRAME_REQUEST_HEAD);
	go_answer(w, 77, "\"allow\"");
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_PROTOCOL);
	until(w, last_peer(w)->eof);
	ask_end(&a);
}

static void test_go_timeout(void **state)
{
	struct world *w = *state;
	struct ask a;
	uint64_t id;

	go_up(w);
	ask_init(w, &a);
	a.meta.go_request_id = 99;
	ask_head(&a, 20 * MS);
	id = go_next(w, FRAME_REQUEST_HEAD);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_true(go_next(w, FRAME_GO_CANCEL) == id);
	go_answer(w, id, "\"allow\"");
	until(w, counter_read(&w->m->late_replies) == 1);
	ask_end(&a);
	go_next(w, FRAME_GO_CANCEL);
}

static void test_go_ping(void **state)
{
	struct world *w = *state;
	struct peer *p;
	char b[64];

	w->config.dialect = DIALECT_GO;
	start_go(w, DIALECT_GO);
	w->agent->tuning.ping_interval_us = 20 * MS;
	w->agent->tuning.ping_timeout_us = 60 * MS;
	until(w, agent_links_up(w->agent, 0) == 1);
	p = last_peer(w);
	go_next(w, FRAME_GO_PING);
	peer_send_raw(p, b, frame_build(b, FRAME_GO_PONG,
					"{\"timestamp\":1}"));
	go_next(w, FRAME_GO_PING);
	assert_false(p->eof);
	until(w, p->eof);
}

/* A refused handshake leaves the link open on their side: we close it. */
static void test_go_refused(void **state)
{
	struct world *w = *state;

	w->fake.shake = false;
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	peer_send(w->fake.peers[0], FRAME_HANDSHAKE_REPLY,
		  "{\"accepted\":false,\"protocol_version\":2,"
		  "\"error\":\"no\",\"capabilities\":null}");
	until(w, w->fake.peers[0]->eof);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
}

static void test_go_not_wanted(void **state)
{
	struct world *w = *state;

	start_go(w, DIALECT_V2);
	until(w, w->fake.peers[0]->eof);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
}

/* Its table of types is another: v2's are none of it. */
static void test_go_bad_types(void **state)
{
	static const uint8_t types[] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x10, 0x14, 0x21, 0x30, 0x31,
		0x33, 0x42, 0xe0, 0xe2, 0xf0, 0xff,
	};
	struct world *w = *state;
	uint64_t id;
	struct ask a;

	go_up(w);
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		int n = w->fake.n_peers;

		go_ask(w, &a);
		id = go_next(w, FRAME_REQUEST_HEAD);
		go_answer(w, id, "\"allow\"");
		until(w, a.answered);
		ask_end(&a);
		peer_send_raw(last_peer(w), (char[]){ 0, 0, 0, 3,
			      (char)types[i], '{', '}' }, 7);
		until(w, last_peer(w)->eof);
		until(w, w->fake.n_peers == n + 1 && last_peer(w)->n);
		last_peer(w)->n = 0;
		peer_send(last_peer(w), FRAME_HANDSHAKE_REPLY, go_hello);
		until(w, agent_links_up(w->agent, 0) == 1);
	}
}

/* ---- what go-v2 agents are asked --------------------------------------- */

static void go_up_asking(struct world *w)
{
	go_question_us = 30 * MS;
	go_up(w);
	go_question_us = 0;
}

static void go_tell(struct world *w, uint8_t type, const char *text)
{
	char b[512];

	peer_send_raw(last_peer(w), b, frame_build(b, type, text));
}

static void expect_state(struct world *w, enum agent_state state)
{
	char reason[HEALTH_TEXT];

	until(w, agent_state(w->agent, w->loop->now_us, reason) == state);
}

static void test_go_asked(void **state)
{
	struct agent *agents[1];
	struct world *w = *state;
	char *text = NULL;
	size_t size = 0;
	struct ask a;
	uint64_t id;
	FILE *out;

	go_up_asking(w);
	agents[0] = w->agent;
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_next(w, FRAME_GO_ASK_METRICS);
	go_tell(w, FRAME_GO_HEALTH, "{\"state\":\"unhealthy\",\"message\":"
		"\"disk\",\"timestamp\":\"2026-01-02T03:04:05Z\","
		"\"checks\":{\"a\":1}}");
	go_tell(w, FRAME_GO_METRICS, "{\"requests_total\":7,"
		"\"requests_active\":1,\"average_latency_ms\":0.5,"
		"\"custom\":{\"x_size\":2,\"bad name\":1,\"s\":\"t\"},"
		"\"timestamp\":\"now\"}");
	expect_state(w, AGENT_UNHEALTHY);
	until(w, w->agent->n_reports == 4);
	out = open_memstream(&text, &size);
	agent_print_reports(agents, 1, out);
	fclose(out);
	assert_string_equal(text,
		"# TYPE agentproxyd_reported_requests_total counter\n"
		"agentproxyd_reported_requests_total{agent=\"waf\"} 7\n"
		"# TYPE agentproxyd_reported_requests_active gauge\n"
		"agentproxyd_reported_requests_active{agent=\"waf\"} 1\n"
		"# TYPE agentproxyd_reported_average_latency_ms gauge\n"
		"agentproxyd_reported_average_latency_ms{agent=\"waf\"} 0.5\n"
		"# TYPE agentproxyd_reported_x_size gauge\n"
		"agentproxyd_reported_x_size{agent=\"waf\"} 2\n");
	free(text);
	/* Asked again; in between an event goes its way. */
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_next(w, FRAME_GO_ASK_METRICS);
	go_tell(w, FRAME_GO_HEALTH, "{\"state\":\"healthy\"}");
	expect_state(w, AGENT_HEALTHY);
	go_ask(w, &a);
	id = go_next(w, FRAME_REQUEST_HEAD);
	go_tell(w, FRAME_GO_METRICS, "{}");
	go_answer(w, id, "\"allow\"");
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	ask_end(&a);
}

/* What it says counts until it was not heard again for a while. */
static void test_go_answer_expires(void **state)
{
	struct world *w = *state;

	go_up_asking(w);
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_tell(w, FRAME_GO_HEALTH, "{\"state\":\"unhealthy\"}");
	expect_state(w, AGENT_UNHEALTHY);
	expect_state(w, AGENT_HEALTHY);
	assert_int_equal(w->agent->tuning.question_us, 30 * MS);
}

/* An agent that does not know the question: its allow answers no event, and it
 * is asked no more. */
static void test_go_question_unknown(void **state)
{
	struct world *w = *state;
	struct ask a;
	uint64_t id;

	go_up_asking(w);
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_next(w, FRAME_GO_ASK_METRICS);
	/* One with nothing else due, one before an event's answer. */
	go_answer(w, 0, "\"allow\"");
	until(w, link_of(w)->questions == 1);
	go_ask(w, &a);
	id = go_next(w, FRAME_REQUEST_HEAD);
	go_answer(w, 0, "\"allow\"");
	go_answer(w, id, "{\"block\":{\"status\":403}}");
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_BLOCK);
	ask_end(&a);
	go_next(w, FRAME_GO_CANCEL);
	turn_for(w, 80 * MS);
	assert_int_equal(link_of(w)->questions, 0);
	assert_true(w->loop->now_us - w->agent->instances[0].asked_us >=
		    80 * MS);
	/* What it cannot read now is an event. */
	go_ask(w, &a);
	go_next(w, FRAME_REQUEST_HEAD);
	go_answer(w, 0, "\"allow\"");
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNREADABLE);
	ask_end(&a);
}

/* An event from before the questions: an answer without an id is its own. */
static void test_go_question_behind_event(void **state)
{
	struct world *w = *state;
	struct ask a, b;
	uint64_t id;

	go_up_asking(w);
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_next(w, FRAME_GO_ASK_METRICS);
	go_tell(w, FRAME_GO_HEALTH, "{\"state\":\"healthy\"}");
	go_tell(w, FRAME_GO_METRICS, "{}");
	until(w, link_of(w)->questions == 0);
	go_ask(w, &a);
	go_next(w, FRAME_REQUEST_HEAD);
	until(w, link_of(w)->questions == 2);
	go_answer(w, 0, "\"allow\"");
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNREADABLE);
	assert_int_equal(link_of(w)->questions, 2);
	/* It passes over both: an event that came later is answered. */
	go_next(w, FRAME_GO_ASK_HEALTH);
	go_next(w, FRAME_GO_ASK_METRICS);
	go_ask(w, &b);
	id = go_next(w, FRAME_REQUEST_HEAD);
	go_answer(w, id, "\"allow\"");
	until(w, b.answered);
	assert_int_equal(link_of(w)->questions, 0);
	ask_end(&a);
	ask_end(&b);
}

/* ---- v1 ---------------------------------------------------------------- */

static void v1_up(struct world *w)
{
	w->fake.shake = false;
	w->config.dialect = DIALECT_V1;
	w->config.depth = 4;
	w->config.raw_body = false;
	start_up(w);
}

/* A frame of v1, one send each: no two in the buffer at a time. */
static json_t *v1_next(struct world *w, const char *type)
{
	struct peer *p = last_peer(w);
	struct slice payload;
	size_t used;
	json_t *j, *inner;

	until(w, (peer_read(p), p->n) &&
	      frame_read_v1(p->buf, p->n, FRAME_V1_MAX, &payload, &used) ==
	      FRAME_OK);
	j = json_loadb(payload.p, payload.n, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j,
							      "event_type")),
			    type);
	inner = json_incref(json_object_get(j, "payload"));
	json_decref(j);
	memmove(p->buf, p->buf + used, p->n - used);
	p->n -= used;
	return inner;
}

static void v1_expect(struct world *w, const char *type, const struct ask *a)
{
	json_t *j = v1_next(w, type), *m = json_object_get(j, "metadata");
	const char *id = json_string_value(json_object_get(m ? m : j,
							   "correlation_id"));

	assert_memory_equal(id, a->meta.correlation_id, EVENT_ID_LEN);
	json_decref(j);
}

static void v1_send(struct world *w, const char *text)
{
	char b[1024];
	size_t n = strlen(text);

	frame_write_v1_head(b, n);
	memcpy(b + FRAME_V1_HEAD, text, n);
	peer_send_raw(last_peer(w), b, FRAME_V1_HEAD + n);
}

#define V1_ALLOW	"{\"decision\":\"allow\"}"
#define V1_ACK		"{\"success\":true}"

static void test_v1_exchange(void **state)
{
	struct world *w = *state;
	struct ask a[6];

	v1_up(w);
	for (int i = 0; i < 6; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	/* Depth 4, in order; nothing was said before. */
	assert_int_equal(counter_read(&w->m->in_flight), 4);
	for (int i = 0; i < 4; i++)
		v1_expect(w, "request_headers", &a[i]);
	for (int i = 0; i < 6; i++) {
		if (i >= 4)
			v1_expect(w, "request_headers", &a[i]);
		v1_send(w, i == 2 ? "{\"decision\":{\"block\":{\"status\":"
			"403}}}" : V1_ALLOW);
		until(w, a[i].answered);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
		assert_int_equal(a[i].kind, i == 2 ? DECISION_BLOCK :
				 DECISION_ALLOW);
	}
	/* Either form acknowledges the end; more than four wait. */
	for (int i = 0; i < 6; i++)
		ask_end(&a[i]);
	for (int i = 0; i < 6; i++) {
		v1_expect(w, "request_complete", &a[i]);
		v1_send(w, i % 2 ? V1_ALLOW : V1_ACK);
	}
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(counter_read(&w->m->late_replies), 0);
	assert_int_equal(link_of(w)->v1_bytes, 0);
	assert_int_equal(last_peer(w)->n, 0);
}

/* The agent lost its link; who waits meanwhile is asked once there is one. */
static void test_v1_waits_for_link(void **state)
{
	struct world *w = *state;
	struct ask a, b;

	v1_up(w);
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	v1_expect(w, "request_headers", &a);
	peer_close(last_peer(w));
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_CLOSED);
	ask_init(w, &b);
	ask_head(&b, 2000 * MS);
	assert_int_equal(counter_read(&w->m->queued), 1);
	until(w, agent_links_up(w->agent, 0) == 1);
	v1_expect(w, "request_headers", &b);
	v1_send(w, V1_ALLOW);
	until(w, b.answered);
	assert_int_equal(b.kind, DECISION_ALLOW);
	ask_end(&a);
	ask_end(&b);
}

static void test_v1_ack_for_decision(void **state)
{
	struct world *w = *state;
	struct ask a;

	v1_up(w);
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	v1_expect(w, "request_headers", &a);
	v1_send(w, V1_ACK);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_PROTOCOL);
	until(w, last_peer(w)->eof);
	ask_end(&a);
}

/* A late reply is dropped by its place. */
static void test_v1_late(void **state)
{
	struct world *w = *state;
	struct ask a, b;

	v1_up(w);
	ask_init(w, &a);
	ask_head(&a, 20 * MS);
	v1_expect(w, "request_headers", &a);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	ask_init(w, &b);
	ask_head(&b, 2000 * MS);
	v1_expect(w, "request_headers", &b);
	v1_send(w, "{\"decision\":{\"block\":{\"status\":403}}}");
	until(w, counter_read(&w->m->late_replies) == 1);
	assert_int_equal(b.answered, 0);
	v1_send(w, V1_ALLOW);
	until(w, b.answered);
	assert_int_equal(b.kind, DECISION_ALLOW);
	ask_end(&a);
	ask_end(&b);
	v1_expect(w, "request_complete", &a);
	v1_expect(w, "request_complete", &b);
	v1_send(w, V1_ACK);
	v1_send(w, V1_ACK);
	until(w, link_of(w)->fifo.n == 0);
}

/* 32 KiB without an answer at most, or one frame alone; each frame a send. */
static void test_v1_bytes(void **state)
{
	struct world *w = *state;
	static char data[16 * 1024];
	struct bslice piece = { NULL, data, sizeof(data) };
	struct ask a[3];

	v1_up(w);
	for (int i = 0; i < 3; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
		v1_expect(w, "request_headers", &a[i]);
		v1_send(w, V1_ALLOW);
		until(w, a[i].answered);
	}
	for (int i = 0; i < 3; i++) {
		a[i].ev = (struct event){
			.type = EVENT_REQUEST_CHUNK, .meta = &a[i].meta,
			.chunk = { .pieces = &piece, .n_pieces = 1,
				   .bytes = sizeof(data) },
		};
		agent_ask(&a[i].call, &a[i].session, &a[i].ev, 2000 * MS,
			  CAUSE_TIMEOUT, on_reply);
	}
	for (int i = 0; i < 3; i++) {
		turn_for(w, 5 * MS);
		assert_in_range(link_of(w)->v1_bytes, 1, 32 * 1024);
		peer_read(last_peer(w));
		assert_in_range(last_peer(w)->n, 21000, 23000);
		v1_expect(w, "request_body_chunk", &a[i]);
		assert_int_equal(last_peer(w)->n, 0);
		v1_send(w, V1_ALLOW);
		until(w, a[i].answered == 2);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
	}
	for (int i = 0; i < 3; i++)
		ask_end(&a[i]);
	turn_for(w, 5 * MS);
}

/* ---- configs ----------------------------------------------------------- */

static void start_configured(struct world *w)
{
	w->config.config_json = "{\"paranoia\":2}";
	start(w);
	w->agent->tuning.refused_us = 30 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->shook);
}

static void config_id(struct world *w, char id[33])
{
	snprintf(id, 33, "%.32s", fifo_head(&link_of(w)->fifo)->id);
}

static void test_config_accepted(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;
	char id[33];

	start_configured(w);
	ask_init(w, &a);
	ask_head(&a, 4000 * MS);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CONFIGURE);
	config_id(w, id);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	turn_for(w, 10 * MS);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	assert_int_equal(a.answered, 0);
	answer(last_peer(w), id);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_HEAD);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	end_and_answer(w, &a);
}

static void test_config_unanswered(void **state)
{
	struct world *w = *state;
	struct frame f;

	start_configured(w);
	until(w, peer_any_frame(last_peer(w), &f));
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
}

static void test_config_refused(void **state)
{
	struct world *w = *state;
	char reason[HEALTH_TEXT], id[33];
	struct frame f;
	struct ask a;
	int n;

	start_configured(w);
	until(w, peer_any_frame(last_peer(w), &f));
	config_id(w, id);
	answer_as(last_peer(w), id, "{\"block\":{\"status\":500,\"body\":"
		  "\"no such rule\"}}");
	until(w, w->fake.peers[0]->eof);
	assert_int_equal(agent_state(w->agent, w->loop->now_us, reason),
			 AGENT_UNHEALTHY);
	assert_non_null(strstr(reason, "no such rule"));
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
	/* Later it is tried again, and accepted. */
	n = w->fake.n_peers;
	until(w, w->fake.n_peers > n && last_peer(w)->shook);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CONFIGURE);
	config_id(w, id);
	answer(last_peer(w), id);
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_int_equal(agent_state(w->agent, w->loop->now_us, reason),
			 AGENT_HEALTHY);
}

static void test_config_v1(void **state)
{
	struct world *w = *state;
	json_t *j;

	w->fake.shake = false;
	w->config.dialect = DIALECT_V1;
	w->config.raw_body = false;
	w->config.config_json = "{\"paranoia\":2}";
	start(w);
	w->agent->tuning.refused_us = 30 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1);
	j = v1_next(w, "configure");
	assert_string_equal(json_string_value(json_object_get(j, "agent_id")),
			    "waf");
	assert_int_equal(json_integer_value(json_object_get(
		json_object_get(j, "config"), "paranoia")), 2);
	json_decref(j);
	v1_send(w, "{\"success\":false,\"error\":\"no\"}");
	until(w, w->fake.peers[0]->eof);
	until(w, w->fake.n_peers == 2);
	json_decref(v1_next(w, "configure"));
	/* Rust's v1 answers with a decision. */
	v1_send(w, "{\"version\":1,\"decision\":\"allow\"}");
	until(w, agent_links_up(w->agent, 0) == 1);
}

/* A changed config is another agent. */
static void test_config_same(void **state)
{
	struct world *w = *state;
	struct config_agent other;

	start_configured(w);
	other = w->config;
	assert_true(agent_same(w->agent, &other));
	other.config_json = "{\"paranoia\":3}";
	assert_false(agent_same(w->agent, &other));
	other.config_json = NULL;
	assert_false(agent_same(w->agent, &other));
	other = w->config;
	other.dialect = DIALECT_V2;
	assert_false(agent_same(w->agent, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_go_exchange),
		T(test_go_unreadable),
		T(test_go_unknown_id),
		T(test_go_timeout),
		T(test_go_ping),
		T(test_go_refused),
		T(test_go_not_wanted),
		T(test_go_bad_types),
		T(test_go_asked),
		T(test_go_answer_expires),
		T(test_go_question_unknown),
		T(test_go_question_behind_event),
		T(test_v1_exchange),
		T(test_v1_waits_for_link),
		T(test_v1_ack_for_decision),
		T(test_v1_late),
		T(test_v1_bytes),
		T(test_config_accepted),
		T(test_config_unanswered),
		T(test_config_refused),
		T(test_config_v1),
		T(test_config_same),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
