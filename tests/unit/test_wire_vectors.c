/* The golden vectors: what we write is byte for byte what they hold, and what
 * agents write is read, or refused, as they say. */
#include <dirent.h>

#include "wire_fixture.h"

#define VECTORS	"tests/vectors/"

static const struct wire_format formats[] = {
	{ .encoding = WIRE_JSON },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_ARRAY },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_MAP },
};
static const char *const endings[] = { "json.frame.hex", "array.frame.hex",
				       "map.frame.hex" };

static void same_as_vector(struct fixture *x, const char *name)
{
	size_t n, want_n;
	char *got = fixture_take(x, &n), *want = read_vector(name, &want_n);

	if (!want)
		fail_msg("no vector %s", name);
	if (n != want_n || memcmp(got, want, n) != 0)
		fail_msg("%s differs: %zu bytes, wanted %zu", name, n, want_n);
	free(got);
	free(want);
}

static void check_event(const char *name, const struct event *ev)
{
	unsigned transcoded = 0;
	struct fixture x;
	char path[256];

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		assert_int_equal(wire_encode_event(&x.q, &formats[i], ev,
						   &transcoded),
				 WIRE_OK);
		snprintf(path, sizeof(path), VECTORS "v2-events/%s.%s", name,
			 endings[i]);
		same_as_vector(&x, path);
	}
	assert_int_equal(transcoded, 0);
	fixture_fini(&x);
}

static void test_heads(void **state)
{
	struct event_meta m = a_meta();
	struct field fields[] = {
		a_field("Host", "shop.example"),
		a_field("Content-Type", "text/plain"),
		a_field("Accept", "text/html"),
		a_field("ACCEPT", "*/*"),
		a_field("content-length", "5"),
	};
	struct field reply_fields[] = {
		a_field("Content-Type", "text/html"),
		a_field("Set-Cookie", "a=1"),
		a_field("Set-Cookie", "b=2"),
	};
	struct field host = a_field("host", "a");
	struct event ev = { EVENT_REQUEST_HEAD, &m, .head = {
		.method = text("POST"), .uri = text("/cart?id=7"),
		.fields = fields, .n_fields = 5 } };

	check_event("request_headers", &ev);
	m.server_name = m.tls_version = m.tls_cipher = SLICE_NONE;
	m.route_id = m.upstream_id = m.traceparent = SLICE_NONE;
	ev.head.uri = text("/");
	ev.head.fields = &host;
	ev.head.n_fields = 1;
	check_event("request_headers_minimal", &ev);
	ev = (struct event){ EVENT_RESPONSE_HEAD, &m, .head = {
		.status = 200, .fields = reply_fields, .n_fields = 3 } };
	check_event("response_headers", &ev);
}

static void test_chunks(void **state)
{
	struct event_meta m = a_meta();
	struct bslice hello[] = { { NULL, "He", 2 }, { NULL, "llo", 3 } };
	struct bslice p = { NULL, "<p>", 3 };
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = hello, .n_pieces = 2, .bytes = 5, .is_last = true,
		.total_known = true, .total_size = 5, .bytes_so_far = 5 } };

	check_event("request_body_chunk", &ev);
	ev.chunk = (struct event_chunk){ .is_last = true, .index = 3,
					 .bytes_so_far = 196608 };
	check_event("request_body_chunk_empty_last", &ev);
	ev.type = EVENT_RESPONSE_CHUNK;
	ev.chunk = (struct event_chunk){ .pieces = &p, .n_pieces = 1,
					 .bytes = 3, .bytes_so_far = 3 };
	check_event("response_body_chunk", &ev);
}

static void test_complete_and_configure(void **state)
{
	struct event_meta m = a_meta();
	struct event ev = { EVENT_COMPLETE, &m, .complete = {
		.status = 200, .duration_ms = 12, .request_body_size = 5,
		.response_body_size = 1024, .upstream_attempts = 1 } };

	check_event("request_complete", &ev);
	ev = (struct event){ EVENT_CONFIGURE, NULL, .configure = {
		.id = text("cfg-1"), .config_json = text("{\"paranoia\":2}"),
		.version = text("7") } };
	check_event("configure", &ev);
}

static void check_raw(const char *name, const struct event *ev)
{
	struct wire_format f = { .encoding = WIRE_MSGPACK, .raw_body = true };
	unsigned transcoded = 0;
	struct fixture x;
	char path[256];

	fixture_init(&x);
	for (int map = 0; map < 2; map++) {
		f.shape = map ? WIRE_MAP : WIRE_ARRAY;
		assert_int_equal(wire_encode_event(&x.q, &f, ev, &transcoded),
				 WIRE_OK);
		snprintf(path, sizeof(path), VECTORS "v2-raw/%s.%s.frame.hex",
			 name, map ? "map" : "array");
		same_as_vector(&x, path);
	}
	fixture_fini(&x);
}

static void test_raw_chunks(void **state)
{
	struct event_meta m = a_meta();
	struct bslice hello = { NULL, "Hello\0\xff", 7 };
	struct bslice p = { NULL, "<p>\x80", 4 };
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = &hello, .n_pieces = 1, .bytes = 7, .is_last = true,
		.total_known = true, .total_size = 7, .bytes_so_far = 7 } };

	check_raw("request_body_chunk_raw", &ev);
	ev.type = EVENT_RESPONSE_CHUNK;
	ev.chunk = (struct event_chunk){ .pieces = &p, .n_pieces = 1,
		.bytes = 4, .index = 1, .bytes_so_far = 68 };
	check_raw("response_body_chunk_raw", &ev);
}

static void test_control(void **state)
{
	struct fixture x;

	fixture_init(&x);
	assert_true(wire_encode_cancel(&x.q, TEST_ID, WIRE_CANCEL_TIMEOUT,
				       1767323045678));
	same_as_vector(&x, VECTORS "v2-control/cancel.json.frame.hex");
	assert_true(wire_encode_ping(&x.q, 7, 1767323045678));
	same_as_vector(&x, VECTORS "v2-control/ping.json.frame.hex");
	fixture_fini(&x);
}

/* ---- replies ------------------------------------------------------------ */

/* The vector into exactly sized memory, so that ASan sees an over-read. The
 * caller frees *buf after it has looked at *d. */
static enum decision_fault decode(struct fixture *x, const char *path,
				  const struct wire_expect *expect,
				  struct decision *d, char **buf)
{
	bool json = strstr(path, ".json") != NULL;
	struct wire_format f = { .encoding = json ? WIRE_JSON : WIRE_MSGPACK };
	size_t n;

	*buf = read_vector(path, &n);
	if (!*buf)
		fail_msg("no vector %s", path);
	f.raw_body = strstr(path, "v2-raw") != NULL;
	return wire_decode_reply(*buf, n, &f, expect, &x->arena, d);
}

static void is_text(struct slice s, const char *want)
{
	if (s.n != strlen(want) || memcmp(s.p, want, s.n) != 0)
		fail_msg("\"%.*s\" is not \"%s\"", SLICE_FMT(s), want);
}

static void see_block(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_BLOCK);
	assert_int_equal(d->status, 403);
	is_text(d->body, "denied");
	assert_int_equal(d->n_headers, 0);
	assert_int_equal(d->audit.n_tags, 1);
	is_text(d->audit.tags[0], "waf");
	is_text(d->audit.rules[0], "942100");
	is_text(d->audit.reasons[0], "SQLI");
	assert_true(d->audit.has_confidence);
	assert_true(d->audit.confidence > 0.9499 &&
		    d->audit.confidence < 0.9501);
}

static void see_block_302(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_BLOCK);
	assert_int_equal(d->status, 302);
	assert_int_equal(d->n_response_ops, 2);
	assert_int_equal(d->response_ops[0].kind, HEADER_SET);
	is_text(d->response_ops[0].name, "Location");
	is_text(d->response_ops[0].value, "https://idp.example/");
	assert_int_equal(d->response_ops[1].kind, HEADER_ADD);
	is_text(d->response_ops[1].value, "s=1; Path=/");
}

static void see_block_headers(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_BLOCK);
	assert_int_equal(d->status, 429);
	assert_int_equal(d->n_headers, 1);
	is_text(d->headers[0].name, "retry-after");
	is_text(d->headers[0].value, "30");
}

static void see_allow(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_ALLOW);
	assert_int_equal(d->n_request_ops + d->n_response_ops, 0);
	assert_false(d->request_body.present || d->response_body.present);
	assert_false(d->needs_more);
}

static void see_drop(const struct decision *d)
{
	assert_true(d->request_body.present);
	assert_int_equal(d->request_body.data.n, 0);
	assert_int_equal(d->request_body.chunk_index, 1);
}

static void see_replace(const struct decision *d)
{
	assert_true(d->request_body.present);
	is_text(d->request_body.data, "HELLO");
}

static void see_response_replace(const struct decision *d)
{
	assert_true(d->response_body.present);
	is_text(d->response_body.data, "<b>");
}

static void see_challenge(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_CHALLENGE);
	is_text(d->challenge_type, "captcha");
	assert_int_equal(d->n_params, 1);
	is_text(d->params[0].name, "site");
	is_text(d->params[0].value, "k");
}

static void see_ops(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_ALLOW);
	assert_int_equal(d->n_request_ops, 2);
	assert_int_equal(d->request_ops[0].kind, HEADER_SET);
	is_text(d->request_ops[0].name, "x-user");
	is_text(d->request_ops[0].value, "bob");
	assert_int_equal(d->request_ops[1].kind, HEADER_REMOVE);
	is_text(d->request_ops[1].name, "cookie");
	assert_int_equal(d->n_response_ops, 1);
	is_text(d->response_ops[0].value, "a=1");
	is_text(d->upstream, "canary");
}

static void see_more(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_ALLOW);
	assert_true(d->needs_more);
}

static void see_redirect(const struct decision *d)
{
	assert_int_equal(d->kind, DECISION_REDIRECT);
	assert_int_equal(d->status, 302);
	is_text(d->url, "https://login.example/");
}

static const struct reply_case {
	const char *name;
	void (*see)(const struct decision *d);
	struct wire_expect expect;
	bool written;		/* our agent's side writes it too */
} replies[] = {
	{ "allow", see_allow, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "block", see_block, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "block_302_with_ops", see_block_302, { EVENT_REQUEST_HEAD, 0 },
	  true },
	{ "block_headers", see_block_headers, { EVENT_RESPONSE_HEAD, 0 },
	  true },
	{ "body_drop", see_drop, { EVENT_REQUEST_CHUNK, 1 }, true },
	{ "body_pass", see_allow, { EVENT_REQUEST_CHUNK, 2 }, false },
	{ "body_replace", see_replace, { EVENT_REQUEST_CHUNK, 0 }, true },
	{ "challenge", see_challenge, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "header_ops", see_ops, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "needs_more", see_more, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "redirect", see_redirect, { EVENT_REQUEST_HEAD, 0 }, true },
	{ "response_body_replace", see_response_replace,
	  { EVENT_RESPONSE_CHUNK, 0 }, true },
	{ "ws_allow", see_allow, { EVENT_REQUEST_HEAD, 0 }, false },
	{ "ws_close", see_allow, { EVENT_REQUEST_HEAD, 0 }, false },
	{ "ws_drop", see_allow, { EVENT_REQUEST_HEAD, 0 }, false },
};

static const char *const reply_endings[] = { "json", "array.hex", "map.hex",
					     "named.hex" };

static void test_replies(void **state)
{
	struct decision d;
	struct fixture x;
	char path[256], *buf;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		for (size_t e = 0; e < ARRAY_LEN(reply_endings); e++) {
			snprintf(path, sizeof(path), VECTORS "v2-replies/%s.%s",
				 replies[i].name, reply_endings[e]);
			if (decode(&x, path, &replies[i].expect, &d, &buf) !=
			    DECISION_OK)
				fail_msg("%s: %s", path, d.fault_text);
			assert_int_equal(d.id_kind, DECISION_ID_PRESENT);
			is_text(d.id, TEST_ID);
			replies[i].see(&d);
			free(buf);
			arena_reset(&x.arena);
		}
	}
	fixture_fini(&x);
}

/* What our own agents write is what the reference crate writes. */
static void test_agent_replies(void **state)
{
	static const char *const ends[] = { "json.frame.hex", "array.frame.hex",
					    "named.frame.hex" };
	struct decision d;
	struct fixture x;
	char path[256], *buf;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		if (!replies[i].written)
			continue;
		snprintf(path, sizeof(path), VECTORS "v2-replies/%s.json",
			 replies[i].name);
		assert_int_equal(decode(&x, path, NULL, &d, &buf),
				 DECISION_OK);
		for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
			assert_true(wire_agent_encode_reply(&x.q, &formats[e],
							    &d));
			snprintf(path, sizeof(path), VECTORS "v2-replies/%s.%s",
				 replies[i].name, ends[e]);
			same_as_vector(&x, path);
		}
		free(buf);
		arena_reset(&x.arena);
	}
	fixture_fini(&x);
}

static void test_raw_replies(void **state)
{
	static const struct wire_expect chunk0 = { EVENT_REQUEST_CHUNK, 0 },
					chunk1 = { EVENT_REQUEST_CHUNK, 1 },
					response = { EVENT_RESPONSE_CHUNK, 0 };
	static const char *const ends[] = { "array", "map" };
	struct decision d;
	struct fixture x;
	char path[256], *buf;

	fixture_init(&x);
	for (int e = 0; e < 2; e++) {
		snprintf(path, sizeof(path),
			 VECTORS "v2-raw/body_replace_raw.%s.hex", ends[e]);
		assert_int_equal(decode(&x, path, &chunk0, &d, &buf),
				 DECISION_OK);
		assert_int_equal(d.request_body.data.n, 7);
		assert_memory_equal(d.request_body.data.p, "HELLO\0\xff", 7);
		free(buf);
		snprintf(path, sizeof(path),
			 VECTORS "v2-raw/body_drop_raw.%s.hex", ends[e]);
		assert_int_equal(decode(&x, path, &chunk1, &d, &buf),
				 DECISION_OK);
		see_drop(&d);
		free(buf);
		snprintf(path, sizeof(path),
			 VECTORS "v2-raw/response_body_replace_raw.%s.hex",
			 ends[e]);
		assert_int_equal(decode(&x, path, &response, &d, &buf),
				 DECISION_OK);
		assert_memory_equal(d.response_body.data.p, "<b>\x80", 4);
		free(buf);
	}
	fixture_fini(&x);
}

static void test_bad_replies(void **state)
{
	DIR *dir = opendir(VECTORS "bad-replies");
	enum decision_fault fault;
	struct decision d;
	struct dirent *e;
	struct fixture x;
	char path[512], *buf;
	unsigned n = 0;

	assert_non_null(dir);
	fixture_init(&x);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.' || strstr(e->d_name, ".frame."))
			continue;
		snprintf(path, sizeof(path), VECTORS "bad-replies/%s",
			 e->d_name);
		fault = decode(&x, path, NULL, &d, &buf);
		if (fault != DECISION_BAD && fault != DECISION_REFUSED)
			fail_msg("%s was taken", e->d_name);
		if (fault == DECISION_REFUSED &&
		    !strstr(e->d_name, "block") &&
		    !strstr(e->d_name, "redirect") &&
		    !strstr(e->d_name, "two_keys") &&
		    !strstr(e->d_name, "json_"))
			fail_msg("%s is no refusal", e->d_name);
		assert_non_null(d.fault_text);
		free(buf);
		arena_reset(&x.arena);
		n++;
	}
	closedir(dir);
	assert_true(n > 50);
	fixture_fini(&x);
}

/* Every prefix of every good reply is bad, and none is read beyond its end. */
static void test_truncated(void **state)
{
	struct decision d;
	struct fixture x;
	char path[256];

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(replies) * 4; i++) {
		bool json = i % 4 == 0;
		struct wire_format f = { .encoding = json ? WIRE_JSON
							  : WIRE_MSGPACK };
		char *whole;
		size_t n;

		snprintf(path, sizeof(path), VECTORS "v2-replies/%s.%s",
			 replies[i / 4].name, reply_endings[i % 4]);
		whole = read_vector(path, &n);
		assert_non_null(whole);
		for (size_t cut = 0; cut < n; cut++) {
			char *part = malloc(cut ? cut : 1);

			memcpy(part, whole, cut);
			if (wire_decode_reply(part, cut, &f, NULL, &x.arena,
					      &d) == DECISION_OK)
				fail_msg("%s cut at %zu", path, cut);
			free(part);
			arena_reset(&x.arena);
		}
		free(whole);
	}
	fixture_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_complete_and_configure),
		cmocka_unit_test(test_raw_chunks),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_agent_replies),
		cmocka_unit_test(test_raw_replies),
		cmocka_unit_test(test_bad_replies),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
