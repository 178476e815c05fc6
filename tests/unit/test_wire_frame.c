/* Framing, handshake and pong. */
#include <jansson.h>

#include "wire_fixture.h"

static void test_any_split(void **state)
{
	char frame[16] = { 0, 0, 0, 6, 0x20, 'h', 'e', 'l', 'l', 'o' };
	struct slice payload;
	uint8_t type = 0;
	size_t used;

	for (size_t n = 0; n < 10; n++) {
		char *part = malloc(n ? n : 1);

		memcpy(part, frame, n);
		assert_int_equal(frame_read(part, n, 100, &type, &payload,
					    &used),
				 FRAME_MORE);
		assert_int_equal(used, n < 4 ? FRAME_HEAD : 10);
		free(part);
	}
	assert_int_equal(frame_read(frame, 16, 100, &type, &payload, &used),
			 FRAME_OK);
	assert_int_equal(used, 10);
	assert_int_equal(type, 0x20);
	assert_int_equal(payload.n, 5);
	assert_memory_equal(payload.p, "hello", 5);
}

static void test_lengths(void **state)
{
	char zero[5] = { 0 }, one[5] = { 0, 0, 0, 1, 0x41 },
	     large[5] = { 1, 0, 0, 1, 0x20 }, huge[4] = { -1, -1, -1, -1 };
	struct slice payload;
	uint8_t type;
	size_t used;

	assert_int_equal(frame_read(zero, 5, 100, &type, &payload, &used),
			 FRAME_BAD_LENGTH);
	assert_int_equal(frame_read(one, 5, 100, &type, &payload, &used),
			 FRAME_OK);
	assert_int_equal(payload.n, 0);
	assert_int_equal(used, 5);
	assert_int_equal(frame_read(large, 4, FRAME_MAX, &type, &payload,
				    &used),
			 FRAME_BAD_LENGTH);
	large[3] = 0;
	assert_int_equal(frame_read(large, 5, FRAME_MAX, &type, &payload,
				    &used),
			 FRAME_MORE);
	assert_int_equal(used, FRAME_MAX + 4);
	assert_int_equal(frame_read(huge, 4, FRAME_MAX, &type, &payload,
				    &used),
			 FRAME_BAD_LENGTH);
}

static void test_head_round_trip(void **state)
{
	char buf[FRAME_HEAD + 70000] = { 0 };
	struct slice payload;
	uint8_t type;
	size_t used;

	frame_write_head(buf, FRAME_REQUEST_HEAD, 70000);
	assert_int_equal(frame_read(buf, sizeof(buf), FRAME_MAX, &type,
				    &payload, &used),
			 FRAME_OK);
	assert_int_equal(payload.n, 70000);
	assert_int_equal(type, 0x10);
	for (int t = 0; t < EVENT_N; t++)
		assert_in_range(frame_type_of((enum event_type)t), 0x10, 0x17);
}

static void test_handshake_request(void **state)
{
	static const struct {
		enum wire_offer offer;
		bool msgpack, json;
	} cases[] = {
		{ WIRE_OFFER_BOTH, true, true },
		{ WIRE_OFFER_JSON, false, true },
		{ WIRE_OFFER_MSGPACK, true, false },
	};
	bool msgpack, json;
	struct fixture x;
	json_t *root;
	char *frame;
	size_t n;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(wire_encode_handshake(&x.q, "edge \"1\"",
						  cases[i].offer));
		frame = fixture_take(&x, &n);
		assert_int_equal(frame[4], FRAME_HANDSHAKE);
		root = json_loadb(frame + 5, n - 5, JSON_REJECT_DUPLICATES,
				  NULL);
		assert_non_null(root);
		assert_int_equal(json_object_size(root), 8);
		assert_string_equal(json_string_value(json_object_get(
					    root, "proxy_id")), "edge \"1\"");
		json_decref(root);
		assert_true(wire_agent_decode_handshake(
			slice_of(frame + 5, n - 5), &msgpack, &json));
		assert_int_equal(msgpack, cases[i].msgpack);
		assert_int_equal(json, cases[i].json);
		free(frame);
	}
	fixture_fini(&x);
}

/* The vector but for our own version. */
static void test_handshake_vector(void **state)
{
	struct fixture x;
	json_t *want, *got;
	char *frame, *file;
	size_t n, file_n;

	fixture_init(&x);
	assert_true(wire_encode_handshake(&x.q, "edge-1", WIRE_OFFER_BOTH));
	frame = fixture_take(&x, &n);
	file = read_vector("tests/vectors/handshake/request_union.json",
			   &file_n);
	assert_non_null(file);
	want = json_loadb(file, file_n, 0, NULL);
	got = json_loadb(frame + 5, n - 5, 0, NULL);
	json_object_set_new(got, "proxy_version",
			    json_string("agentproxyd/1.0"));
	assert_true(json_equal(want, got));
	json_decref(want);
	json_decref(got);
	free(frame);
	free(file);
	fixture_fini(&x);
}

static bool answer(const char *json, enum wire_offer offer,
		   struct wire_handshake *h)
{
	bool good = wire_decode_handshake(slice_str(json), offer, h);

	assert_int_equal(good, h->error[0] == '\0');
	return good;
}

static void test_handshake_answers(void **state)
{
	struct wire_handshake h;
	char *file;
	size_t n;

	file = read_vector("tests/vectors/handshake/response_v2.json", &n);
	assert_true(wire_decode_handshake(slice_of(file, n), WIRE_OFFER_BOTH,
					  &h));
	free(file);
	assert_false(h.go);
	assert_int_equal(h.encoding, WIRE_MSGPACK);
	assert_string_equal(h.name, "waf");
	assert_string_equal(h.version, "1.0.0");
	assert_int_equal(h.preferred_chunk_size, 65536);
	assert_int_equal(h.max_concurrency, 100);
	assert_int_equal(h.max_body_size, 10485760);
	assert_int_equal(h.events, 1 << EVENT_REQUEST_HEAD |
				   1 << EVENT_REQUEST_CHUNK);
	file = read_vector("tests/vectors/handshake/response_go.json", &n);
	assert_true(wire_decode_handshake(slice_of(file, n), WIRE_OFFER_BOTH,
					  &h));
	free(file);
	assert_true(h.go);
	assert_int_equal(h.encoding, WIRE_JSON);
	assert_string_equal(h.name, "gp");
	assert_int_equal(h.events, 1 << EVENT_REQUEST_HEAD |
				   1 << EVENT_REQUEST_CHUNK |
				   1 << EVENT_RESPONSE_HEAD);
	assert_int_equal(h.max_concurrency, 0);

	assert_true(answer("{\"accepted\":true,\"protocol_version\":2,"
			   "\"capabilities\":{\"max_concurrent_requests\":"
			   "7}}", WIRE_OFFER_BOTH, &h));
	assert_int_equal(h.max_concurrency, 7);
	assert_int_equal(h.events, 0);
	assert_true(answer("{\"success\":true,\"protocol_version\":2}",
			   WIRE_OFFER_BOTH, &h));
	assert_int_equal(h.encoding, WIRE_JSON);
	assert_true(answer("{\"success\":true,\"protocol_version\":2,"
			   "\"encoding\":null,\"capabilities\":null,\"x\":1}",
			   WIRE_OFFER_JSON, &h));
}

static void test_handshake_refused(void **state)
{
	static const struct {
		const char *json;
		enum wire_offer offer;
	} bad[] = {
		{ "", WIRE_OFFER_BOTH },
		{ "[]", WIRE_OFFER_BOTH },
		{ "{}", WIRE_OFFER_BOTH },
		{ "{\"success\":true,\"accepted\":true,"
		  "\"protocol_version\":2}", WIRE_OFFER_BOTH },
		{ "{\"success\":1,\"protocol_version\":2}", WIRE_OFFER_BOTH },
		{ "{\"success\":true,\"protocol_version\":3}",
		  WIRE_OFFER_BOTH },
		{ "{\"success\":true}", WIRE_OFFER_BOTH },
		{ "{\"success\":false,\"protocol_version\":0,"
		  "\"error\":\"no\\nway\"}", WIRE_OFFER_BOTH },
		{ "{\"accepted\":false,\"protocol_version\":2,"
		  "\"capabilities\":null}", WIRE_OFFER_BOTH },
		{ "{\"success\":true,\"protocol_version\":2,"
		  "\"encoding\":\"cbor\"}", WIRE_OFFER_BOTH },
		{ "{\"success\":true,\"protocol_version\":2,"
		  "\"encoding\":7}", WIRE_OFFER_BOTH },
		{ "{\"success\":true,\"protocol_version\":2,"
		  "\"encoding\":\"msgpack\"}", WIRE_OFFER_JSON },
		{ "{\"success\":true,\"protocol_version\":2,"
		  "\"encoding\":\"json\"}", WIRE_OFFER_MSGPACK },
		{ "{\"success\":true,\"protocol_version\":2}",
		  WIRE_OFFER_MSGPACK },
		{ "{\"success\":true,\"success\":true,"
		  "\"protocol_version\":2}", WIRE_OFFER_BOTH },
	};
	struct wire_handshake h;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (answer(bad[i].json, bad[i].offer, &h))
			fail_msg("%s was taken", bad[i].json);
		assert_null(strchr(h.error, '\n'));
	}
}

static void test_agent_answer(void **state)
{
	struct wire_handshake h;
	struct fixture x;
	char *frame;
	size_t n;

	fixture_init(&x);
	assert_true(wire_agent_encode_handshake(&x.q, "deny list", "1\n2",
						WIRE_MSGPACK,
						1u << EVENT_REQUEST_HEAD |
						1u << EVENT_CONFIGURE));
	frame = fixture_take(&x, &n);
	assert_true(wire_decode_handshake(slice_of(frame + 5, n - 5),
					  WIRE_OFFER_BOTH, &h));
	assert_int_equal(h.encoding, WIRE_MSGPACK);
	assert_string_equal(h.name, "deny_list");
	assert_string_equal(h.version, "1_2");
	free(frame);
	fixture_fini(&x);
}

static void test_pong(void **state)
{
	uint64_t sequence;

	assert_true(wire_decode_pong(text("{\"sequence\":7,"
					  "\"timestamp_ms\":1767323045678}"),
				     &sequence));
	assert_int_equal(sequence, 7);
	assert_true(wire_decode_pong(text(" { \"x\":[1,{}], \"sequence\" : 8}"),
				     &sequence));
	assert_int_equal(sequence, 8);
	assert_false(wire_decode_pong(text(""), &sequence));
	assert_false(wire_decode_pong(text("{}"), &sequence));
	assert_false(wire_decode_pong(text("{\"sequence\":-7}"), &sequence));
	assert_false(wire_decode_pong(text("{\"sequence\":\"7\"}"),
				      &sequence));
	assert_false(wire_decode_pong(text("{\"sequence\":7}x"), &sequence));
	assert_false(wire_decode_pong(text("7"), &sequence));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_split),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_head_round_trip),
		cmocka_unit_test(test_handshake_request),
		cmocka_unit_test(test_handshake_vector),
		cmocka_unit_test(test_handshake_answers),
		cmocka_unit_test(test_handshake_refused),
		cmocka_unit_test(test_agent_answer),
		cmocka_unit_test(test_pong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
