/* The encoder is total: whatever a head or a chunk holds, what goes out can be
 * read by a strict peer, has no key twice, and says what went in. */
#include <jansson.h>

#include "wire/base64.h"
#include "wire/utf8.h"
#include "wire_fixture.h"

static const struct wire_format formats[] = {
	{ .encoding = WIRE_JSON },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_ARRAY },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_MAP },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_ARRAY, .raw_body = true },
	{ .encoding = WIRE_MSGPACK, .shape = WIRE_MAP, .raw_body = true },
};

/* Encodes, and reads it back as an agent would. The caller frees. */
static char *round_trip(struct fixture *x, const struct wire_format *f,
			const struct event *ev, struct wire_agent_event *got,
			unsigned *transcoded)
{
	struct slice payload;
	size_t n, used;
	uint8_t type;
	char *frame;

	*transcoded = 0;
	assert_int_equal(wire_encode_event(&x->q, f, ev, transcoded), WIRE_OK);
	frame = fixture_take(x, &n);
	assert_int_equal(frame_read(frame, n, FRAME_MAX, &type, &payload,
				    &used),
			 FRAME_OK);
	assert_int_equal(used, n);
	assert_int_equal(type, frame_type_of(ev->type));
	arena_reset(&x->arena);
	if (f->encoding == WIRE_JSON) {
		json_t *root = json_loadb(payload.p, payload.n,
					  JSON_REJECT_DUPLICATES |
						  JSON_ALLOW_NUL, NULL);

		assert_non_null(root);
		json_decref(root);
	}
	assert_true(wire_agent_decode_event(type, frame + FRAME_HEAD,
					    payload.n, f, &x->arena, got));
	assert_int_equal(got->ev.type, ev->type);
	return frame;
}

static void is_bytes(const char *p, size_t n, const char *want, size_t want_n)
{
	if (n != want_n || memcmp(p, want, n) != 0)
		fail_msg("\"%.*s\" is not \"%.*s\"", (int)n, p, (int)want_n,
			 want);
}

static void is_text(struct slice s, const char *want)
{
	is_bytes(s.p, s.n, want, strlen(want));
}

static struct event request(const struct event_meta *m,
			    const struct field *fields, unsigned n)
{
	return (struct event){ EVENT_REQUEST_HEAD, m, .head = {
		.method = text("GET"), .uri = text("/"), .fields = fields,
		.n_fields = n } };
}

static void test_values_that_are_not_utf8(void **state)
{
	static const struct {
		const char *in, *out;
		unsigned transcoded;
	} cases[] = {
		{ "caf\xe9", "caf\xc3\xa9", 1 },
		{ "caf\xc3\xa9", "caf\xc3\xa9", 0 },
		{ "\xff\xfe", "\xc3\xbf\xc3\xbe", 1 },
		{ "a long value, plain for 32 bytes and more: \xe9 \"q\"",
		  "a long value, plain for 32 bytes and more: \xc3\xa9 \"q\"",
		  1 },
		{ "\xed\xa0\x80", "\xc3\xad\xc2\xa0\xc2\x80", 1 },
		{ "\xc0\xaf", "\xc3\x80\xc2\xaf", 1 },
		{ "\xf4\x90\x80\x80", "\xc3\xb4\xc2\x90\xc2\x80\xc2\x80", 1 },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", 0 },
		{ "tab\there \\ and \"quotes\" \x01\x1f\x7f",
		  "tab\there \\ and \"quotes\" \x01\x1f\x7f", 0 },
		{ "", "", 0 },
	};
	struct event_meta m = a_meta();
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(cases) * 3; i++) {
		struct field field = a_field("x-a", cases[i / 3].in);
		struct event ev = request(&m, &field, 1);
		char *frame;

		ev.head.uri = text(cases[i / 3].in);
		frame = round_trip(&x, &formats[i % 3], &ev, &got,
				   &transcoded);
		assert_int_equal(transcoded, 2 * cases[i / 3].transcoded);
		assert_int_equal(got.ev.head.n_fields, 1);
		is_text(field_value(&got.ev.head.fields[0]), cases[i / 3].out);
		is_text(got.ev.head.uri, cases[i / 3].out);
		free(frame);
	}
	fixture_fini(&x);
}

/* Every byte at every offset of a value, so that no tail is looked over. */
static void test_every_byte_everywhere(void **state)
{
	struct event_meta m = a_meta();
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;
	char value[40], want[48];

	fixture_init(&x);
	for (unsigned i = 0; i < 256 * 40; i++) {
		unsigned c = i % 256, at = i / 256, n = at + 1 + at % 7;
		struct field field = { .name = "x-b", .name_len = 3,
				       .value = value, .value_len = n };
		struct event ev = request(&m, &field, 1);
		size_t want_n;
		char *frame;

		if (n > 40)
			continue;
		memset(value, 'v', sizeof(value));
		value[at] = (char)c;
		want_n = (size_t)(utf8_from_bytes(want, slice_of(value, n)) -
				  want);
		frame = round_trip(&x, &formats[i % 2], &ev, &got,
				   &transcoded);
		assert_int_equal(transcoded, c >= 0x80);
		is_bytes(got.ev.head.fields[0].value,
			 got.ev.head.fields[0].value_len, want, want_n);
		free(frame);
	}
	fixture_fini(&x);
}

static void test_names_are_gathered(void **state)
{
	struct event_meta m = a_meta();
	const struct field fields[] = {
		a_field("Cookie", "a"), a_field("Host", "h"),
		a_field("X-One", "1"), a_field("cookie", "b"),
		a_field("x-ONE", "2"), a_field("COOKIE", "c"),
		a_field("X-On", "3"),
	};
	static const char *const want[][2] = {
		{ "cookie", "a" }, { "cookie", "b" }, { "cookie", "c" },
		{ "host", "h" }, { "x-one", "1" }, { "x-one", "2" },
		{ "x-on", "3" },
	};
	struct event ev = request(&m, fields, ARRAY_LEN(fields));
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < 3; i++) {
		char *frame = round_trip(&x, &formats[i], &ev, &got,
					 &transcoded);

		assert_int_equal(got.ev.head.n_fields, ARRAY_LEN(want));
		for (size_t k = 0; k < ARRAY_LEN(want); k++) {
			is_text(field_name(&got.ev.head.fields[k]),
				want[k][0]);
			is_text(field_value(&got.ev.head.fields[k]),
				want[k][1]);
		}
		free(frame);
	}
	fixture_fini(&x);
}

/* An id that was not looked up again must not make a second key. */
static void test_ids_are_not_trusted(void **state)
{
	struct event_meta m = a_meta();
	struct field fields[] = { a_field("Host", "a"), a_field("host", "b") };
	struct event ev = request(&m, fields, 2);
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;
	char *frame;

	fields[0].id = 7;
	fixture_init(&x);
	frame = round_trip(&x, &formats[0], &ev, &got, &transcoded);
	free(frame);
	frame = round_trip(&x, &formats[1], &ev, &got, &transcoded);
	assert_int_equal(got.ev.head.n_fields, 2);
	free(frame);
	fixture_fini(&x);
}

/* Nothing but time depends on knowing which fields are our own. */
static void test_own_fields(void **state)
{
	static const char lines[] = "x-one: 1\r\n" "x-fifteen-bytes: \r\n"
		"x-name-of-more-than-sixteen: of more than sixteen bytes\r\n"
		"via: " TEST_ID TEST_ID "\r\n";
	struct field fields[8] = {
		a_field("Host", "h"), a_field("cookie", "caf\xe9"),
		a_field("X-Two", "2"),
	};
	struct event_meta m = a_meta();
	unsigned n = 3, transcoded, same;
	size_t n_plain, n_own;
	char *plain, *own;
	struct fixture x;

	for (const char *p = lines; *p; n++) {
		size_t name = strcspn(p, ":"), line = strcspn(p, "\r");

		fields[n] = (struct field){
			.name = p, .name_len = (uint16_t)name,
			.value = p + name + 2,
			.value_len = (uint32_t)(line - name - 2),
			.flags = FIELD_LINE | FIELD_LOWER,
		};
		p += line + 2;
	}
	fixture_init(&x);
	/* Then with two cookies, which makes it gather names. */
	for (size_t i = 0; i < 2 * ARRAY_LEN(formats); i++) {
		struct event ev = request(&m, fields, n);

		if (i == ARRAY_LEN(formats))
			fields[2].name = "Cookie", fields[2].name_len = 6;
		transcoded = same = 0;
		assert_int_equal(wire_encode_event(&x.q, &formats[i % ARRAY_LEN(formats)],
						   &ev,
						   &transcoded), WIRE_OK);
		plain = fixture_take(&x, &n_plain);
		ev.head.n_own = n - 3;
		assert_int_equal(wire_encode_event(&x.q, &formats[i % ARRAY_LEN(formats)],
						   &ev,
						   &same), WIRE_OK);
		own = fixture_take(&x, &n_own);
		is_bytes(own, n_own, plain, n_plain);
		assert_int_equal(transcoded, same);
		free(plain);
		free(own);
	}
	fixture_fini(&x);
}

static void test_many_fields(void **state)
{
	enum { N = 1000 };
	struct event_meta m = a_meta();
	struct field *fields = calloc(N, sizeof(*fields));
	char (*names)[16] = calloc(N, sizeof(*names));
	struct event ev = request(&m, fields, N);
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	assert_true(fields && names);
	/* Every name twice, the second time in the other case. */
	for (unsigned i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]),
			 i < N / 2 ? "x-name-%u" : "X-NAME-%u", i % (N / 2));
		fields[i] = a_field(names[i], i < N / 2 ? "1" : "2");
	}
	fixture_init(&x);
	for (size_t i = 0; i < 3; i++) {
		char *frame = round_trip(&x, &formats[i], &ev, &got,
					 &transcoded);

		assert_int_equal(got.ev.head.n_fields, N);
		for (unsigned k = 0; k < N; k++) {
			const struct field *f = &got.ev.head.fields[k];

			is_text(field_name(f), names[k / 2]);
			is_text(field_value(f), k % 2 ? "2" : "1");
		}
		free(frame);
	}
	fixture_fini(&x);
	free(fields);
	free(names);
}

static void test_pseudo_headers(void **state)
{
	struct wire_format f = { .encoding = WIRE_MSGPACK,
				 .pseudo_headers = true };
	struct event_meta m = a_meta();
	const struct field fields[] = { a_field("host", "h"),
					a_field(":path", "/evil") };
	struct event ev = request(&m, fields, 2);
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	fixture_init(&x);
	for (int json = 0; json < 2; json++) {
		char *frame;

		f.encoding = json ? WIRE_JSON : WIRE_MSGPACK;
		ev.type = EVENT_REQUEST_HEAD;
		frame = round_trip(&x, &f, &ev, &got, &transcoded);
		assert_int_equal(got.ev.head.n_fields, 3);
		is_text(field_name(&got.ev.head.fields[0]), ":method");
		is_text(field_value(&got.ev.head.fields[0]), "GET");
		is_text(field_name(&got.ev.head.fields[1]), ":path");
		is_text(field_value(&got.ev.head.fields[1]), "/");
		is_text(field_name(&got.ev.head.fields[2]), "host");
		free(frame);
		ev.type = EVENT_RESPONSE_HEAD;
		frame = round_trip(&x, &f, &ev, &got, &transcoded);
		assert_int_equal(got.ev.head.n_fields, 1);
		free(frame);
		ev.type = EVENT_REQUEST_HEAD;
		ev.head.n_fields = 0;
		frame = round_trip(&x, &f, &ev, &got, &transcoded);
		assert_int_equal(got.ev.head.n_fields, 2);
		free(frame);
		ev.head.n_fields = 2;
	}
	fixture_fini(&x);
}

static void test_no_fields_and_odd_names(void **state)
{
	struct event_meta m = a_meta();
	const struct field fields[] = { a_field("", "empty"),
					a_field("\xe9""A", "latin"),
					a_field("\"q\\\n", "quoted"),
					a_field("\xc3\xa9", "two") };
	struct event ev = request(&m, NULL, 0);
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;
	char *frame;

	fixture_init(&x);
	for (size_t i = 0; i < 3; i++) {
		ev.head.fields = NULL;
		ev.head.n_fields = 0;
		frame = round_trip(&x, &formats[i], &ev, &got, &transcoded);
		assert_int_equal(got.ev.head.n_fields, 0);
		free(frame);
		ev.head.fields = fields;
		ev.head.n_fields = 4;
		frame = round_trip(&x, &formats[i], &ev, &got, &transcoded);
		assert_int_equal(got.ev.head.n_fields, 4);
		is_text(field_name(&got.ev.head.fields[1]), "\xc3\xa9""a");
		is_text(field_name(&got.ev.head.fields[2]), "\"q\\\n");
		is_text(field_name(&got.ev.head.fields[3]),
			"\xc3\x83\xc2\xa9");
		free(frame);
	}
	fixture_fini(&x);
}

/* A head whose simple bound passes a pooled block, and one that is too large
 * for a frame. */
static void test_large_heads(void **state)
{
	const size_t size = 15 * 1024 * 1024;
	struct event_meta m = a_meta();
	char *value = malloc(size);
	struct field field = { .name = "x-large", .name_len = 7,
			       .value = value, .value_len = 20000 };
	struct event ev = request(&m, &field, 1);
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	assert_non_null(value);
	memset(value, 'v', size);
	memset(value, 0x01, 500);
	memset(value + 700, 0xe9, 500);
	fixture_init(&x);
	for (size_t i = 0; i < 3; i++) {
		char *frame = round_trip(&x, &formats[i], &ev, &got,
					 &transcoded);

		assert_int_equal(got.ev.head.fields[0].value_len, 20500);
		free(frame);
		outq_clear(&x.q);
	}
	field.value_len = (uint32_t)size;
	memset(value, 0xe9, size);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(wire_encode_event(&x.q, &formats[i], &ev,
						   &transcoded),
				 WIRE_TOO_LARGE);
		assert_true(outq_empty(&x.q));
	}
	fixture_fini(&x);
	free(value);
}

static void test_numbers(void **state)
{
	struct event_meta m = a_meta();
	struct event ev = { EVENT_COMPLETE, &m, .complete = {
		.status = 65535, .duration_ms = UINT64_MAX,
		.request_body_size = 1ull << 32, .response_body_size = 65536,
		.upstream_attempts = UINT32_MAX, .error = text("x") } };
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < 3; i++) {
		char *frame = round_trip(&x, &formats[i], &ev, &got,
					 &transcoded);
		const struct event_complete *c = &got.ev.complete;

		assert_int_equal(c->status, 999);
		assert_true(c->duration_ms ==
			    (i ? UINT64_MAX : (1ull << 53) - 1));
		assert_true(c->request_body_size == 1ull << 32);
		assert_int_equal(c->response_body_size, 65536);
		assert_int_equal(c->upstream_attempts, UINT32_MAX);
		is_text(c->error, "x");
		free(frame);
	}
	fixture_fini(&x);
}

/* ---- chunks ------------------------------------------------------------- */

static char *pattern(size_t n)
{
	char *p = malloc(n ? n : 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 131 + i / 251);
	return p;
}

static void check_chunk(struct fixture *x, size_t n, unsigned n_pieces)
{
	struct event_meta m = a_meta();
	struct block *block = block_new(&x->blocks, n ? n : 1);
	struct bslice pieces[8];
	struct event ev = { EVENT_RESPONSE_CHUNK, &m, .chunk = {
		.pieces = pieces, .n_pieces = n_pieces, .bytes = n,
		.index = 70000, .bytes_so_far = n } };
	char *want = pattern(n);

	assert_non_null(block);
	memcpy(block->data, want, n);
	for (unsigned i = 0; i < n_pieces; i++) {
		size_t from = n * i / n_pieces, to = n * (i + 1) / n_pieces;

		pieces[i] = (struct bslice){ block, block->data + from,
					     to - from };
	}
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		struct wire_agent_event got;
		unsigned transcoded;
		char *frame = round_trip(x, &formats[i], &ev, &got,
					 &transcoded);

		assert_int_equal(got.data.n, n);
		assert_memory_equal(got.data.p, want, n);
		assert_int_equal(got.ev.chunk.index, 70000);
		free(frame);
	}
	block_put(block);
	free(want);
}

static void test_chunk_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 255, 256, 512, 600, 12000,
		12200, 16384, 49151, 49152, 65535, 65536, 131072, 1000000 };
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (unsigned pieces = 1; pieces <= 5; pieces += 2)
			check_chunk(&x, sizes[i], pieces);
	/* Around the places where one block is full. */
	for (size_t n = 12100; n < 12300; n++)
		check_chunk(&x, n, 2);
	for (size_t n = 49000; n < 49200; n += 3)
		check_chunk(&x, n, 3);
	fixture_fini(&x);
}

static void test_raw_is_referenced(void **state)
{
	const struct wire_format f = { .encoding = WIRE_MSGPACK,
				       .raw_body = true };
	struct event_meta m = a_meta();
	struct bslice piece;
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = &piece, .n_pieces = 1, .bytes = 60000 } };
	unsigned transcoded = 0;
	struct block *block;
	struct fixture x;
	bool found = false;

	fixture_init(&x);
	block = block_new(&x.blocks, 60000);
	assert_non_null(block);
	memset(block->data, 'r', 60000);
	piece = (struct bslice){ block, block->data, 60000 };
	assert_int_equal(wire_encode_event(&x.q, &f, &ev, &transcoded),
			 WIRE_OK);
	for (struct oseg *s = x.q.first; s; s = s->next)
		found |= s->p == block->data && s->n == 60000;
	assert_true(found);
	assert_int_equal(block->refs, 2);
	outq_clear(&x.q);
	assert_int_equal(block->refs, 1);
	block_put(block);
	fixture_fini(&x);
}

static void test_chunk_too_large(void **state)
{
	size_t n = FRAME_MAX;
	struct event_meta m = a_meta();
	char *data = calloc(1, n);
	struct bslice piece = { NULL, data, n };
	struct event ev = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = &piece, .n_pieces = 1, .bytes = n } };
	unsigned transcoded = 0;
	struct fixture x;

	assert_non_null(data);
	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		assert_int_equal(wire_encode_event(&x.q, &formats[i], &ev,
						   &transcoded),
				 WIRE_TOO_LARGE);
		assert_true(outq_empty(&x.q));
	}
	fixture_fini(&x);
	free(data);
}

/* ---- memory ------------------------------------------------------------- */

static int fail_after;

static bool failing(size_t bytes)
{
	return fail_after-- <= 0;
}

/* Every single allocation fails once; the queue is then as it was. */
static void fail_each(const struct wire_format *f, const struct event *ev)
{
	enum wire_result result = WIRE_NO_MEMORY;

	for (int n = 0; result != WIRE_OK && n < 100; n++) {
		unsigned transcoded = 0, segs;
		struct fixture x;
		size_t before;

		fixture_init(&x);
		assert_true(outq_copy(&x.q, "before", 6));
		before = x.q.bytes;
		segs = x.q.n_segs;
		fail_after = n;
		mem_fault = failing;
		result = wire_encode_event(&x.q, f, ev, &transcoded);
		mem_fault = NULL;
		if (result != WIRE_OK) {
			assert_int_equal(result, WIRE_NO_MEMORY);
			assert_int_equal(x.q.bytes, before);
			assert_int_equal(x.q.n_segs, segs);
			/* And can be used as before. */
			assert_true(outq_copy(&x.q, "after", 5));
		}
		fixture_fini(&x);
	}
	assert_int_equal(result, WIRE_OK);
}

static void test_memory(void **state)
{
	struct event_meta m = a_meta();
	char *data = pattern(200000);
	struct bslice pieces[] = { { NULL, data, 100000 },
				   { NULL, data + 100000, 100000 } };
	struct event chunk = { EVENT_REQUEST_CHUNK, &m, .chunk = {
		.pieces = pieces, .n_pieces = 2, .bytes = 200000 } };
	struct event configure = { EVENT_CONFIGURE, NULL, .configure = {
		.id = text("cfg-1"), .config_json = text("[1,\"a\"]") } };
	struct field fields[200];
	struct event head = request(&m, fields, 200);

	for (unsigned i = 0; i < 200; i++)
		fields[i] = a_field(i % 2 ? "x-a" : "x-b", "value");
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		fail_each(&formats[i], &chunk);
		fail_each(&formats[i], &head);
		fail_each(&formats[i], &configure);
	}
	free(data);
}

static void test_configure_values(void **state)
{
	static const char *const configs[] = {
		"null", "true", "-1", "-40", "-70000", "1.5", "\"x\"", "[]",
		"{\"a\":[1,2,{\"b\":null}],\"c\":\"d\"}", "123456789012",
	};
	struct wire_agent_event got;
	unsigned transcoded;
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(configs) * 3; i++) {
		struct event ev = { EVENT_CONFIGURE, NULL, .configure = {
			.id = text("cfg-9"),
			.config_json = text(configs[i / 3]) } };
		char *frame = round_trip(&x, &formats[i % 3], &ev, &got,
					 &transcoded);

		is_text(got.ev.configure.config_json, configs[i / 3]);
		is_text(got.correlation_id, "cfg-9");
		free(frame);
	}
	fixture_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_that_are_not_utf8),
		cmocka_unit_test(test_every_byte_everywhere),
		cmocka_unit_test(test_names_are_gathered),
		cmocka_unit_test(test_ids_are_not_trusted),
		cmocka_unit_test(test_own_fields),
		cmocka_unit_test(test_many_fields),
		cmocka_unit_test(test_pseudo_headers),
		cmocka_unit_test(test_no_fields_and_odd_names),
		cmocka_unit_test(test_large_heads),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_chunk_sizes),
		cmocka_unit_test(test_raw_is_referenced),
		cmocka_unit_test(test_chunk_too_large),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_configure_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
