/* The registration of agents that dial in (protocol page 9): what is read, what
 * is refused and why, and what is answered. */
#include <jansson.h>

#include "wire_fixture.h"

static bool decode(uint8_t type, const char *text, struct wire_registration *r)
{
	return wire_decode_registration(type, slice_str(text), r);
}

#define BOTH(text, r)	(decode(FRAME_HANDSHAKE, text, r) &&		\
			 decode(FRAME_GO_REGISTER, text, r))

static void test_good(void **state)
{
	struct wire_registration r;

	assert_true(decode(FRAME_HANDSHAKE, "{\"protocol_version\":2,"
		"\"agent_id\":\"waf-1.A_z\",\"auth_token\":\"s\\u00e9same\","
		"\"capabilities\":{\"agent_id\":\"w\\\"\\naf\",\"version\":"
		"\"1 2\",\"limits\":{\"max_concurrency\":7}},"
		"\"metadata\":{\"pod\":\"a\\nb\\\"\\u20ac\"}}", &r));
	assert_false(r.go);
	assert_null(r.error);
	assert_string_equal(r.id, "waf-1.A_z");
	assert_true(r.has_token);
	assert_int_equal(r.token_len, 7);
	assert_memory_equal(r.token, "s\xc3\xa9same", 7);
	assert_string_equal(r.says.name, "w__af");
	assert_string_equal(r.says.version, "1_2");
	assert_int_equal(r.says.max_concurrency, 7);
	for (const char *s = r.metadata; *s; s++)
		assert_true(*s > 0x20 && *s < 0x7f && *s != '"' && *s != '\\');
	assert_non_null(strstr(r.metadata, "pod"));

	assert_true(decode(FRAME_GO_REGISTER, "{\"protocol_version\":2,"
		"\"agent_id\":\"a\",\"auth_token\":null,\"unknown\":[1]}", &r));
	assert_true(r.go);
	assert_false(r.has_token);
	assert_string_equal(r.metadata, "");
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *error;
	} bad[] = {
		{ "", "object" }, { "{", "object" }, { "[]", "object" },
		{ "1", "object" }, { "null", "object" },
		{ "{\"a\":1,\"a\":1}", "object" },
		{ "{}", "protocol_version" },
		{ "{\"protocol_version\":1,\"agent_id\":\"a\"}",
		  "protocol_version" },
		{ "{\"protocol_version\":\"2\",\"agent_id\":\"a\"}",
		  "protocol_version" },
		{ "{\"protocol_version\":2}", "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":7}", "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"\"}", "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"a b\"}",
		  "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"a/../b\"}",
		  "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"\\u00e9\"}",
		  "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"a\\u0000\"}",
		  "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"0123456789012345678"
		  "9012345678901234567890123456789012345678901234\"}",
		  "agent_id" },
		{ "{\"protocol_version\":2,\"agent_id\":\"a\","
		  "\"auth_token\":7}", "auth_token" },
		{ "{\"supported_versions\":[2],\"proxy_id\":\"edge\","
		  "\"protocol_version\":2}", "handshake" },
	};
	struct wire_registration r;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(BOTH(bad[i].text, &r));
		assert_non_null(strstr(r.error, bad[i].error));
	}
	assert_false(decode(FRAME_REPLY, "{\"protocol_version\":2,"
			    "\"agent_id\":\"a\"}", &r));
	assert_non_null(strstr(r.error, "no registration"));
	assert_false(wire_decode_registration(FRAME_HANDSHAKE, SLICE_NONE,
					      &r));
}

/* None that we have is so long: it equals nothing. */
static void test_long_token(void **state)
{
	char text[1024], token[WIRE_TOKEN_MAX + 2];
	struct wire_registration r;

	for (size_t n = WIRE_TOKEN_MAX; n <= WIRE_TOKEN_MAX + 1; n++) {
		memset(token, 'x', n);
		token[n] = '\0';
		snprintf(text, sizeof(text), "{\"protocol_version\":2,"
			 "\"agent_id\":\"a\",\"auth_token\":\"%s\"}", token);
		assert_true(decode(FRAME_HANDSHAKE, text, &r));
		assert_true(r.has_token);
		assert_int_equal(r.token_len, n > WIRE_TOKEN_MAX ? 0 : n);
	}
}

static json_t *answer(struct fixture *x, const struct wire_registered *a,
		      uint8_t want)
{
	struct slice payload;
	size_t n, used;
	uint8_t type;
	char *got;
	json_t *j;

	assert_true(wire_encode_registered(&x->q, a));
	got = fixture_take(x, &n);
	assert_int_equal(frame_read(got, n, FRAME_MAX, &type, &payload, &used),
			 FRAME_OK);
	assert_int_equal(used, n);
	assert_int_equal(type, want);
	assert_int_equal(wire_agent_decode_registered(type, payload),
			 !a->error);
	j = json_loadb(payload.p, payload.n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	free(got);
	return j;
}

static void test_answers(void **state)
{
	struct wire_registered a = { .proxy_id = "p", .connection_id = "c" };
	struct fixture fx, *x = &fx;
	json_t *j;

	fixture_init(x);
	j = answer(x, &a, FRAME_HANDSHAKE_REPLY);
	/* All five keys, always. */
	assert_int_equal(json_object_size(j), 5);
	assert_true(json_is_true(json_object_get(j, "success")));
	assert_true(json_is_null(json_object_get(j, "error")));
	assert_string_equal(json_string_value(json_object_get(j, "proxy_id")),
			    "p");
	assert_true(json_is_string(json_object_get(j, "proxy_version")));
	assert_string_equal(json_string_value(json_object_get(j,
				"connection_id")), "c");
	json_decref(j);
	a.error = "no \"way\"\n";
	j = answer(x, &a, FRAME_HANDSHAKE_REPLY);
	assert_int_equal(json_object_size(j), 5);
	assert_true(json_is_false(json_object_get(j, "success")));
	assert_string_equal(json_string_value(json_object_get(j, "error")),
			    a.error);
	json_decref(j);
	a.go = true;
	j = answer(x, &a, FRAME_GO_REGISTER_ACK);
	assert_true(json_is_false(json_object_get(j, "accepted")));
	assert_string_equal(json_string_value(json_object_get(j, "error")),
			    a.error);
	json_decref(j);
	a.error = NULL;
	a.config_json = "{\"x\":[1,2]}";
	j = answer(x, &a, FRAME_GO_REGISTER_ACK);
	assert_true(json_is_true(json_object_get(j, "accepted")));
	assert_string_equal(json_string_value(json_object_get(j,
				"assigned_id")), "c");
	assert_int_equal(json_array_size(json_object_get(json_object_get(j,
				"config"), "x")), 2);
	json_decref(j);
	fixture_fini(x);
}

/* What our own agents send is what we read. */
static void test_both_sides(void **state)
{
	struct fixture fx, *x = &fx;
	struct wire_registration r;
	struct slice payload;
	size_t n, used;
	uint8_t type;
	char *got;

	fixture_init(x);
	for (int go = 0; go < 2; go++) {
		assert_true(wire_agent_encode_registration(&x->q, go, "waf",
							   "t\"oken"));
		got = fixture_take(x, &n);
		assert_int_equal(frame_read(got, n, FRAME_MAX, &type, &payload,
					    &used), FRAME_OK);
		assert_true(wire_decode_registration(type, payload, &r));
		assert_int_equal(r.go, go);
		assert_string_equal(r.id, "waf");
		assert_memory_equal(r.token, "t\"oken", 6);
		assert_int_equal(r.token_len, 6);
		free(got);
	}
	assert_false(wire_agent_decode_registered(FRAME_REPLY,
					SLICE("{\"success\":true}")));
	assert_false(wire_agent_decode_registered(FRAME_GO_REGISTER_ACK,
					SLICE("{\"success\":true}")));
	fixture_fini(x);
}

/* Without memory the same as with it; a text that is too long is cut. */
static void test_refusal(void **state)
{
	static char error[400], cut[WIRE_REFUSAL_TEXT + 1];
	struct fixture fx, *x = &fx;

	memset(error, '"', sizeof(error) - 1);
	memcpy(cut, error, sizeof(cut) - 1);
	fixture_init(x);
	for (int i = 0; i < 4; i++) {
		bool go = i & 1, longer = i & 2;
		struct wire_registered a = {
			.go = go, .error = longer ? cut : "no", .proxy_id =
			"agentproxyd", .connection_id = "",
		};
		char to[WIRE_REFUSAL_MAX], *want;
		size_t n;

		assert_true(wire_encode_registered(&x->q, &a));
		want = fixture_take(x, &n);
		assert_int_equal(wire_put_refusal(to, go, longer ? error :
						  "no"), n);
		assert_memory_equal(to, want, n);
		free(want);
	}
	fixture_fini(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_long_token),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_both_sides),
		cmocka_unit_test(test_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
