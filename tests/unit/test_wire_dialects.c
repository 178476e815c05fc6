/* go-v2 and v1 against their golden vectors: the same JSON in the same frames,
 * whatever the order of keys. */
#include <jansson.h>

#include "wire_fixture.h"

#define VECTORS	"tests/vectors/"
#define GO_ID	1234605616436508552ull

static const struct wire_format go = { .dialect = WIRE_GO };
static const struct wire_format v1 = { .dialect = WIRE_V1 };

static json_t *payload_of(const char *frame, size_t n, bool is_v1,
			  uint8_t *type)
{
	struct slice payload = SLICE_NONE;
	size_t used = 0;
	json_t *j;

	*type = 0;
	assert_int_equal(is_v1 ? frame_read_v1(frame, n, FRAME_V1_MAX,
					       &payload, &used)
			       : frame_read(frame, n, FRAME_MAX, type,
					    &payload, &used), FRAME_OK);
	assert_int_equal(used, n);
	j = json_loadb(payload.p, payload.n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	return j;
}

/* What is queued is the vector. Optional keys that are null may be missing. */
static void same_as(struct fixture *x, const char *name, bool is_v1)
{
	size_t n, want_n;
	char *got = fixture_take(x, &n), *want = read_vector(name, &want_n);
	uint8_t type, want_type;
	json_t *j, *want_j;

	if (!want)
		fail_msg("no vector %s", name);
	j = payload_of(got, n, is_v1, &type);
	want_j = payload_of(want, want_n, is_v1, &want_type);
	assert_int_equal(type, want_type);
	if (!json_equal(j, want_j))
		fail_msg("%s differs: %s", name, json_dumps(j, 0));
	json_decref(j);
	json_decref(want_j);
	free(got);
	free(want);
}

static void check(struct fixture *x, const struct wire_format *f,
		  const struct event *ev, const char *name)
{
	unsigned transcoded = 0;

	assert_int_equal(wire_encode_event(&x->q, f, ev, &transcoded),
			 WIRE_OK);
	assert_int_equal(transcoded, 0);
	same_as(x, name, f->dialect == WIRE_V1);
}

static struct event_meta go_meta(void)
{
	struct event_meta m = a_meta();

	m.go_request_id = GO_ID;
	return m;
}

static void test_heads(void **state)
{
	struct event_meta m = go_meta();
	struct field fields[] = {
		a_field("Host", "shop.example"),
		a_field("Accept", "text/html"),
		a_field("ACCEPT", "*/*"),
		a_field("Content-Type", "text/plain"),
		a_field("content-length", "5"),
	};
	struct field reply_fields[] = { a_field("Content-Type", "text/html") };
	struct event ev = { EVENT_REQUEST_HEAD, &m, .head = {
		.method = text("POST"), .uri = text("/cart?id=7"),
		.fields = fields, .n_fields = 3, .has_body = true } };
	struct fixture x;

	fixture_init(&x);
	check(&x, &go, &ev, VECTORS "go-events/request_headers.json.frame.hex");
	ev.head.n_fields = 5;
	check(&x, &v1, &ev, VECTORS "v1-events/request_headers.json.frame.hex");
	ev = (struct event){ EVENT_RESPONSE_HEAD, &m, .head = {
		.status = 200, .fields = reply_fields, .n_fields = 1,
		.has_body = true } };
	check(&x, &go, &ev,
	      VECTORS "go-events/response_headers.json.frame.hex");
	check(&x, &v1, &ev,
	      VECTORS "v1-events/response_headers.json.frame.hex");
	fixture_fini(&x);
}

static void test_chunks(void **state)
{
	struct event_meta m = go_meta();
	struct bslice hello = { NULL, "Hello", 5 }, p = { NULL, "<p>", 3 };
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = &hello, .n_pieces = 1, .bytes = 5, .is_last = true,
		.total_known = true, .total_size = 5, .bytes_so_far = 5 } };
	struct fixture x;

	fixture_init(&x);
	check(&x, &go, &ev,
	      VECTORS "go-events/request_body_chunk.json.frame.hex");
	check(&x, &v1, &ev,
	      VECTORS "v1-events/request_body_chunk.json.frame.hex");
	ev = (struct event){ EVENT_RESPONSE_CHUNK, &m, .chunk = {
		.pieces = &p, .n_pieces = 1, .bytes = 3, .is_last = true,
		.bytes_so_far = 3 } };
	check(&x, &v1, &ev,
	      VECTORS "v1-events/response_body_chunk.json.frame.hex");
	fixture_fini(&x);
}

/* Many blocks of base64: the frame's length still counts all of it. */
static void test_large_chunk(void **state)
{
	static char data[200000];
	struct event_meta m = go_meta();
	struct bslice piece = { NULL, data, sizeof(data) };
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = &piece, .n_pieces = 1, .bytes = sizeof(data) } };
	const struct wire_format *formats[] = { &go, &v1 };
	unsigned transcoded = 0;
	struct fixture x;

	fixture_init(&x);
	for (unsigned i = 0; i < 2; i++) {
		size_t n;
		char *got;
		json_t *j, *inner;
		uint8_t type;

		assert_int_equal(wire_encode_event(&x.q, formats[i], &ev,
						   &transcoded), WIRE_OK);
		got = fixture_take(&x, &n);
		j = payload_of(got, n, i == 1, &type);
		inner = i ? json_object_get(j, "payload") : j;
		assert_int_equal(json_string_length(
				json_object_get(inner, "data")), 266668);
		json_decref(j);
		free(got);
	}
	/* 10 MiB is v1's limit, and go's is 16. */
	piece.n = ev.chunk.bytes = 8 * 1024 * 1024;
	piece.p = calloc(1, piece.n);
	assert_int_equal(wire_encode_event(&x.q, &v1, &ev, &transcoded),
			 WIRE_TOO_LARGE);
	assert_int_equal(wire_encode_event(&x.q, &go, &ev, &transcoded),
			 WIRE_OK);
	free(fixture_take(&x, &(size_t){ 0 }));
	free((void *)piece.p);
	fixture_fini(&x);
}

/* One behind the other. */
static void same_as_two(struct fixture *x, const char *first,
			const char *second)
{
	size_t n, n_first, n_second;
	char *got = fixture_take(x, &n), *a = read_vector(first, &n_first),
	     *b = read_vector(second, &n_second);

	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(n, n_first + n_second);
	assert_memory_equal(got, a, n_first);
	assert_memory_equal(got + n_first, b, n_second);
	free(got);
	free(a);
	free(b);
}

static void test_ends(void **state)
{
	struct event_meta m = go_meta();
	struct event ev = { EVENT_COMPLETE, &m, .complete = {
		.status = 200, .duration_ms = 12, .request_body_size = 5,
		.response_body_size = 1024, .upstream_attempts = 1 } };
	struct event cfg = { EVENT_CONFIGURE, NULL, .configure = {
		.id = text("cfg-1"), .agent_id = text("waf"),
		.config_json = text("{\"paranoia\":2}") } };
	unsigned transcoded = 0;
	struct fixture x;
	size_t n;
	char *got;

	fixture_init(&x);
	check(&x, &v1, &ev,
	      VECTORS "v1-events/request_complete.json.frame.hex");
	check(&x, &v1, &cfg, VECTORS "v1-events/configure.json.frame.hex");
	assert_int_equal(wire_encode_event(&x.q, &go, &ev, &transcoded),
			 WIRE_OK);
	got = fixture_take(&x, &n);
	assert_int_equal(got[4], 0x30);
	assert_int_equal(n - FRAME_HEAD, 54);
	assert_memory_equal(got + FRAME_HEAD, "{\"request_id\":"
			    "1234605616436508552,\"reason\":\"complete\"}",
			    54);
	free(got);
	assert_true(wire_encode_go_cancel(&x.q, GO_ID, WIRE_CANCEL_TIMEOUT));
	same_as(&x, VECTORS "go-events/cancel_request.json.frame.hex", false);
	assert_true(wire_encode_go_questions(&x.q));
	same_as_two(&x, VECTORS "go-events/health_request.json.frame.hex",
		    VECTORS "go-events/metrics_request.json.frame.hex");
	assert_true(wire_encode_go_ping(&x.q, 1767323045678ull));
	got = fixture_take(&x, &n);
	assert_int_equal((uint8_t)got[4], 0xf0);
	free(got);
	fixture_fini(&x);
}

/* ---- replies --------------------------------------------------------------- */

/* The buffer goes with the fixture's arena: slices stay valid. */
static enum decision_fault decode_text(struct fixture *x,
				       const struct wire_format *f,
				       const char *json, size_t n,
				       struct decision *d)
{
	char *buf = arena_alloc(&x->arena, n + 1);

	memcpy(buf, json, n);
	return wire_decode_reply(buf, n, f, NULL, &x->arena, d);
}

static enum decision_fault decode(struct fixture *x,
				  const struct wire_format *f,
				  const char *name, struct decision *d)
{
	enum decision_fault fault;
	size_t n;
	char *json = read_vector(name, &n);

	if (!json)
		fail_msg("no vector %s", name);
	fault = decode_text(x, f, json, n, d);
	free(json);
	return fault;
}

#define GO(name)	VECTORS "go-replies/" name ".json"
#define V1(name)	VECTORS "v1-replies/" name ".json"

static void test_go_replies(void **state)
{
	struct decision d;
	struct fixture x;
	uint64_t number;
	char *pong;
	size_t n;

	fixture_init(&x);
	assert_int_equal(decode(&x, &go, GO("decision_allow"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_ALLOW);
	assert_int_equal(d.id_kind, DECISION_ID_PRESENT);
	assert_int_equal(d.go_id, GO_ID);
	assert_int_equal(decode(&x, &go, GO("decision_block"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_BLOCK);
	assert_int_equal(d.status, 403);
	assert_true(slice_eq(d.body, SLICE("denied")));
	assert_int_equal(d.audit.n_tags, 1);
	assert_int_equal(decode(&x, &go, GO("decision_redirect"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_REDIRECT);
	assert_int_equal(decode(&x, &go, GO("decision_header_ops"), &d),
			 DECISION_OK);
	assert_int_equal(d.n_request_ops, 2);
	assert_int_equal(d.n_response_ops, 1);
	assert_int_equal(decode(&x, &go, GO("decision_needs_more"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_ALLOW);
	assert_true(d.needs_more);
	pong = read_vector(GO("pong"), &n);
	assert_true(wire_decode_go_pong(slice_of(pong, n), &number));
	assert_true(number == 1767323045678000000ull);
	free(pong);
	fixture_fini(&x);
}

static void test_go_ids(void **state)
{
	static const struct {
		const char *json;
		enum decision_fault fault;
		enum decision_id id;
	} cases[] = {
		{ "{\"request_id\":0,\"decision\":\"allow\"}", DECISION_OK,
		  DECISION_ID_EMPTY },
		{ "{\"decision\":\"allow\"}", DECISION_OK,
		  DECISION_ID_MISSING },
		{ "{\"request_id\":\"7\",\"decision\":\"allow\"}",
		  DECISION_BAD, DECISION_ID_MISSING },
		{ "{\"request_id\":7}", DECISION_BAD, DECISION_ID_PRESENT },
		{ "{\"request_id\":7,\"success\":true}", DECISION_BAD,
		  DECISION_ID_PRESENT },
		/* v2's place for the id is none here. */
		{ "{\"decision\":\"allow\",\"audit\":{\"custom\":{"
		  "\"correlation_id\":\"" TEST_ID "\"}}}", DECISION_OK,
		  DECISION_ID_MISSING },
		{ "{\"request_id\":7,\"decision\":{\"block\":{\"status\":99}}}",
		  DECISION_REFUSED, DECISION_ID_PRESENT },
	};
	struct decision d;
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(decode_text(&x, &go, cases[i].json,
					     strlen(cases[i].json), &d),
				 cases[i].fault);
		assert_int_equal(d.id_kind, cases[i].id);
	}
	fixture_fini(&x);
}

static void test_v1_replies(void **state)
{
	static const struct wire_format v2 = { .dialect = WIRE_V2 };
	static const char ack[] = "{\"success\":true}";
	static const char both[] = "{\"success\":false,\"decision\":\"allow\"}";
	struct decision d;
	struct fixture x;

	fixture_init(&x);
	assert_int_equal(decode(&x, &v1, V1("ack_success"), &d), DECISION_OK);
	assert_true(d.ack);
	assert_int_equal(d.kind, DECISION_ALLOW);
	assert_int_equal(decode(&x, &v1, V1("ack_failure"), &d), DECISION_OK);
	assert_true(d.ack);
	assert_int_equal(d.kind, DECISION_BLOCK);
	assert_true(slice_eq(d.body, SLICE("bad config")));
	assert_int_equal(decode(&x, &v1, V1("ack_decision"), &d), DECISION_OK);
	assert_false(d.ack);
	assert_int_equal(d.kind, DECISION_ALLOW);
	assert_int_equal(decode(&x, &v1, V1("ack_decision_refused"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_BLOCK);
	assert_int_equal(decode(&x, &v1, V1("decision_block"), &d),
			 DECISION_OK);
	assert_int_equal(d.kind, DECISION_BLOCK);
	assert_int_equal(d.id_kind, DECISION_ID_MISSING);
	assert_int_equal(decode(&x, &v1, V1("decision_header_op"), &d),
			 DECISION_OK);
	assert_int_equal(d.n_request_ops, 1);
	/* No decision at all. */
	assert_int_equal(decode(&x, &v1, V1("guardrail_bare"), &d),
			 DECISION_BAD);
	assert_int_equal(decode_text(&x, &v1, both, strlen(both), &d),
			 DECISION_OK);
	assert_false(d.ack);
	assert_int_equal(d.kind, DECISION_ALLOW);
	assert_int_equal(decode_text(&x, &v2, ack, strlen(ack), &d),
			 DECISION_BAD);
	fixture_fini(&x);
}

static void test_v1_frames(void **state)
{
	struct slice payload;
	size_t used;

	assert_int_equal(frame_read_v1("\0\0\0", 3, 100, &payload, &used),
			 FRAME_MORE);
	assert_int_equal(used, 4);
	assert_int_equal(frame_read_v1("\0\0\0\0", 4, 100, &payload, &used),
			 FRAME_BAD_LENGTH);
	assert_int_equal(frame_read_v1("\0\0\0\x65", 4, 100, &payload, &used),
			 FRAME_BAD_LENGTH);
	assert_int_equal(frame_read_v1("\0\0\0\x64", 4, 100, &payload, &used),
			 FRAME_MORE);
	assert_int_equal(used, 104);
	assert_int_equal(frame_read_v1("\0\0\0\2{}!", 7, 100, &payload, &used),
			 FRAME_OK);
	assert_int_equal(used, 6);
	assert_true(slice_eq(payload, SLICE("{}")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_large_chunk),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_go_replies),
		cmocka_unit_test(test_go_ids),
		cmocka_unit_test(test_v1_replies),
		cmocka_unit_test(test_v1_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
