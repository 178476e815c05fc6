/* The rules for replies (protocol page 6), each in JSON and, made from the
 * same text, as MessagePack maps. */
#include <math.h>

#include "wire/encode.h"
#include "wire_fixture.h"

static const struct wire_format json = { .encoding = WIRE_JSON },
				msgpack = { .encoding = WIRE_MSGPACK };
static const struct wire_expect head = { EVENT_REQUEST_HEAD, 0 },
				chunk = { EVENT_REQUEST_CHUNK, 3 },
				response_chunk = { EVENT_RESPONSE_CHUNK, 0 };

/* Decodes a copy of exactly that size; *kept must be freed by the caller. */
static enum decision_fault decode(struct fixture *x,
				  const struct wire_format *f, const void *p,
				  size_t n, const struct wire_expect *expect,
				  struct decision *d, char **kept)
{
	*kept = malloc(n ? n : 1);
	assert_non_null(*kept);
	memcpy(*kept, p, n);
	arena_reset(&x->arena);
	return wire_decode_reply(*kept, n, f, expect, &x->arena, d);
}

static void is_text(struct slice s, const char *want)
{
	if (s.n != strlen(want) || memcmp(s.p, want, s.n) != 0)
		fail_msg("\"%.*s\" is not \"%s\"", SLICE_FMT(s), want);
}

static void all_say(const char *reply, const struct wire_expect *expect,
		    enum decision_fault want)
{
	enum decision_fault fault;
	struct decision d;
	struct fixture x;
	char *kept, *packed;
	size_t n;

	fixture_init(&x);
	fault = decode(&x, &json, reply, strlen(reply), expect, &d, &kept);
	if (fault != want)
		fail_msg("JSON %s: %d (%s)", reply, (int)fault, d.fault_text);
	free(kept);
	fault = decode(&x, &msgpack, reply, strlen(reply), expect, &d, &kept);
	assert_int_equal(fault, want);
	free(kept);
	/* Faults that only JSON can hold are no JSON for jansson. */
	packed = encode_msgpack_from_json(slice_str(reply), &n);
	if (packed) {
		fault = decode(&x, &msgpack, packed, n, expect, &d, &kept);
		if (fault != want)
			fail_msg("MessagePack of %s: %d (%s)", reply,
				 (int)fault, d.fault_text);
		free(kept);
		mem_free(packed);
	}
	fixture_fini(&x);
}

#define OK(text)	all_say(text, &head, DECISION_OK)
#define BAD(text)	all_say(text, &head, DECISION_BAD)
#define REFUSED(text)	all_say(text, &head, DECISION_REFUSED)
#define ALLOW		"\"decision\":\"allow\""

static void test_allow(void **state)
{
	OK("{" ALLOW "}");
	OK("{\"decision\":{\"allow\":null}}");
	OK("{\"decision\":{\"allow\":{}}}");
	OK("{\"decision\":{\"allow\":[]}}");
	OK("{\"unknown\":{\"a\":[1,2,{}]}," ALLOW ",\"x\":\"y\"}");
	OK("{\"version\":1," ALLOW ",\"request_headers\":null,"
	   "\"response_headers\":null,\"routing_metadata\":null,"
	   "\"audit\":null,\"needs_more\":null}");
	BAD("{}");
	BAD("[]");
	BAD("\"allow\"");
	BAD("{\"decision\":null}");
	BAD("{\"decision\":0}");
	BAD("{\"decision\":true}");
	BAD("{\"decision\":\"maybe\"}");
	BAD("{\"decision\":\"ALLOW\"}");
	BAD("{\"decision\":{}}");
	BAD("{\"decision\":[\"allow\"]}");
	BAD("{\"decision\":{\"allow\":true}}");
	BAD("{\"decision\":{\"allow\":[1]}}");
	BAD("{\"decision\":{\"needs_more\":true}}");
	BAD("{" ALLOW "," ALLOW "}");
	BAD("{\"version\":\"2\"," ALLOW "}");
	BAD("{\"version\":-1," ALLOW "}");
	BAD("{" ALLOW ",\"needs_more\":1}");
	BAD("{" ALLOW ",\"audit\":[]}x");
	BAD("{" ALLOW ",\"u\":1,\"u\":2}");
	BAD("{" ALLOW ",\"u\":{\"a\":1,\"a\":2}}");
}

/* A refusal never turns into an allow. */
static void test_refusals(void **state)
{
	OK("{\"decision\":{\"block\":{\"status\":200}}}");
	OK("{\"decision\":{\"block\":{\"status\":599,\"headers\":{}}}}");
	REFUSED("{\"decision\":\"block\"}");
	REFUSED("{\"decision\":{\"block\":null}}");
	REFUSED("{\"decision\":{\"block\":{}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":199}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":101}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":600}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":65939}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":\"403\"}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403,\"body\":1}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403,"
		"\"headers\":{\"a b\":\"c\"}}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403,"
		"\"headers\":{\"a\":\"c\\r\\nx: y\"}}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403}},"
		"\"response_headers\":[{\"set\":{\"name\":\"\"}}]}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403}},\"audit\":7}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403}}}x");
	REFUSED("{\"decision\":{\"allow\":null,\"block\":{\"status\":403}}}");
	REFUSED("{\"decision\":{\"block\":{\"status\":403}}," ALLOW "}");
	OK("{\"decision\":{\"redirect\":{\"url\":\"/x\",\"status\":308}}}");
	REFUSED("{\"decision\":{\"redirect\":{\"url\":\"/x\","
		"\"status\":200}}}");
	REFUSED("{\"decision\":{\"redirect\":{\"url\":\"/x\","
		"\"status\":304}}}");
	REFUSED("{\"decision\":{\"redirect\":{\"url\":\"\",\"status\":302}}}");
	REFUSED("{\"decision\":{\"redirect\":{\"status\":302}}}");
	REFUSED("{\"decision\":{\"redirect\":{\"url\":\"/a b\","
		"\"status\":302}}}");
	OK("{\"decision\":{\"challenge\":{\"challenge_type\":\"c\"}}}");
	REFUSED("{\"decision\":{\"challenge\":{\"challenge_type\":\"\"}}}");
	REFUSED("{\"decision\":{\"challenge\":{\"params\":{}}}}");
	REFUSED("{\"decision\":{\"challenge\":{\"challenge_type\":\"c\","
		"\"params\":{\"www-authenticate\":\"a\\nb\"}}}}");
}

static void test_op_rules(void **state)
{
#define REQUEST(op)	"{" ALLOW ",\"request_headers\":[" op "]}"
#define RESPONSE(op)	"{" ALLOW ",\"response_headers\":[" op "]}"
	OK(REQUEST("{\"set\":{\"name\":\"host\",\"value\":\"a\"}}"));
	OK(REQUEST("{\"set\":{\"name\":\"a\"}}"));
	OK(REQUEST("{\"set\":{\"name\":\"a\",\"value\":null}}"));
	OK(RESPONSE("{\"add\":{\"name\":\"Host\",\"value\":\"a\"}}"));
	BAD(REQUEST("{\"add\":{\"name\":\"Host\",\"value\":\"a\"}}"));
	BAD(REQUEST("{\"remove\":{\"name\":\"host\"}}"));
	BAD(REQUEST("{}"));
	BAD(REQUEST("1"));
	BAD(REQUEST("{\"set\":{}}"));
	BAD(REQUEST("{\"set\":null}"));
	BAD(REQUEST("{\"set\":{\"name\":7}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a\",\"value\":7}}"));
	BAD(REQUEST("{\"replace\":{\"name\":\"a\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a\"},\"add\":{\"name\":\"b\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a:\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\":path\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a\\u00e9\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a\",\"value\":\"b\\rc\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"a\",\"value\":\"b\\u0000\"}}"));
	BAD("{" ALLOW ",\"request_headers\":{}}");
	/* Even a dropped edit must be a legal one. */
	OK(REQUEST("{\"set\":{\"name\":\"Content-Length\","
		   "\"value\":\"1\"}}"));
	BAD(REQUEST("{\"set\":{\"name\":\"Content-Length\","
		    "\"value\":\"1\\n\"}}"));
	BAD("{" ALLOW ",\"routing_metadata\":{\"upstream\":1}}");
	BAD("{" ALLOW ",\"routing_metadata\":[]}");
}

static void test_ops(void **state)
{
	static const char reply[] = "{" ALLOW ",\"request_headers\":["
		"{\"set\":{\"value\":\" \\tv w\\t \",\"name\":\"X-A\"}},"
		"{\"operation\":\"add\",\"name\":\"x-b\",\"value\":\"1\"},"
		"{\"value\":\"2\",\"operation\":\"remove\",\"name\":\"c\"},"
		"{\"set\":{\"name\":\"TE\",\"value\":\"x\"}},"
		"{\"remove\":{\"name\":\"transfer-encoding\"}}],"
		"\"response_headers\":["
		"{\"set\":{\"name\":\"Keep-Alive\",\"value\":\"x\"}}]}";
	struct decision d, copy;
	struct arena own;
	struct fixture x;
	char *kept;

	fixture_init(&x);
	arena_init(&own, &x.arenas);
	assert_int_equal(decode(&x, &json, reply, sizeof(reply) - 1, &head, &d,
				&kept),
			 DECISION_OK);
	assert_int_equal(d.n_request_ops, 3);
	is_text(d.request_ops[0].name, "X-A");
	is_text(d.request_ops[0].value, "v w");
	assert_int_equal(d.request_ops[1].kind, HEADER_ADD);
	is_text(d.request_ops[1].value, "1");
	assert_int_equal(d.request_ops[2].kind, HEADER_REMOVE);
	assert_int_equal(d.n_response_ops, 0);
	assert_int_equal(d.n_ops_dropped, 3);
	assert_int_equal(d.id_kind, DECISION_ID_MISSING);
	/* A copy lives on its own. */
	assert_true(decision_dup(&copy, &d, &own));
	memset(kept, 0xaa, sizeof(reply) - 1);
	free(kept);
	arena_reset(&x.arena);
	assert_int_equal(copy.n_request_ops, 3);
	is_text(copy.request_ops[0].value, "v w");
	arena_fini(&own);
	fixture_fini(&x);
}

static void test_mutations(void **state)
{
#define MUTATION(m)	"{" ALLOW ",\"request_body_mutation\":" m "}"
	all_say(MUTATION("{\"data\":\"SEk=\",\"chunk_index\":3}"), &chunk,
		DECISION_OK);
	all_say(MUTATION("{\"data\":\"SEk=\",\"chunk_index\":2}"), &chunk,
		DECISION_BAD);
	all_say(MUTATION("{\"data\":\"SEk=\",\"chunk_index\":2}"), NULL,
		DECISION_OK);
	all_say(MUTATION("{\"data\":\"SEk=\"}"), &chunk, DECISION_BAD);
	all_say(MUTATION("{\"data\":null}"), &chunk, DECISION_OK);
	all_say(MUTATION("{\"data\":\"SEk=\",\"chunk_index\":3}"),
		&response_chunk, DECISION_BAD);
	all_say(MUTATION("{\"data\":\"SEk=\"}"), &head, DECISION_BAD);
	all_say(MUTATION("{\"data\":\"S\",\"chunk_index\":3}"), &chunk,
		DECISION_BAD);
	all_say(MUTATION("{\"data\":7,\"chunk_index\":3}"), &chunk,
		DECISION_BAD);
	all_say(MUTATION("{\"data\":\"\",\"chunk_index\":4294967296}"), NULL,
		DECISION_BAD);
	all_say(MUTATION("\"SEk=\""), NULL, DECISION_BAD);
	all_say("{" ALLOW ",\"response_body_mutation\":{\"data\":\"SEk=\"}}",
		&response_chunk, DECISION_OK);
	all_say("{" ALLOW ",\"response_body_mutation\":{\"data\":\"SEk=\"}}",
		&chunk, DECISION_BAD);
}

static void id_of(const char *audit, enum decision_fault fault,
		  enum decision_id kind)
{
	struct decision d;
	struct fixture x;
	char reply[512], *kept;

	fixture_init(&x);
	snprintf(reply, sizeof(reply), "{" ALLOW ",\"audit\":%s}", audit);
	assert_int_equal(decode(&x, &json, reply, strlen(reply), &head, &d,
				&kept),
			 fault);
	assert_int_equal(d.id_kind, kind);
	free(kept);
	fixture_fini(&x);
}

static void test_ids(void **state)
{
	id_of("{}", DECISION_OK, DECISION_ID_MISSING);
	id_of("{\"custom\":null}", DECISION_OK, DECISION_ID_MISSING);
	id_of("{\"custom\":{\"x\":\"y\"}}", DECISION_OK, DECISION_ID_MISSING);
	id_of("{\"custom\":{\"correlation_id\":\"\"}}", DECISION_OK,
	      DECISION_ID_EMPTY);
	id_of("{\"custom\":{\"correlation_id\":\"a\"}}", DECISION_OK,
	      DECISION_ID_PRESENT);
	id_of("{\"custom\":{\"correlation_id\":7}}", DECISION_BAD,
	      DECISION_ID_EMPTY);
	id_of("{\"custom\":{\"correlation_id\":null}}", DECISION_BAD,
	      DECISION_ID_EMPTY);
}

/* A fault of meaning does not hide the id that comes behind it. */
static void test_id_after_fault(void **state)
{
	static const char reply[] =
		"{\"decision\":{\"block\":{\"status\":1,\"body\":[[]]}},"
		"\"request_headers\":[{\"set\":{\"name\":[{\"a\":1}]}},3],"
		"\"audit\":{\"custom\":{\"correlation_id\":\"" TEST_ID
		"\"}},\"needs_more\":true}";
	struct decision d;
	struct fixture x;
	char *kept;

	fixture_init(&x);
	assert_int_equal(decode(&x, &json, reply, sizeof(reply) - 1, &head, &d,
				&kept),
			 DECISION_REFUSED);
	assert_int_equal(d.kind, DECISION_BLOCK);
	assert_true(d.needs_more);
	is_text(d.id, TEST_ID);
	assert_int_equal(d.status, 0);
	assert_int_equal(d.n_request_ops, 0);
	free(kept);
	fixture_fini(&x);
}

static void test_json_strings(void **state)
{
	static const char reply[] = " { \"decision\" :\n{\"block\":"
		"{\"status\":4.03e2 , \"body\":"
		"\"\\u00e9\\ud83d\\ude00\\n\\/\\\"\xc3\xa9\"}}\t}\r\n";
	struct decision d;
	struct fixture x;
	char *kept;

	fixture_init(&x);
	assert_int_equal(decode(&x, &json, reply, sizeof(reply) - 1, &head, &d,
				&kept),
			 DECISION_OK);
	assert_int_equal(d.status, 403);
	is_text(d.body, "\xc3\xa9\xf0\x9f\x98\x80\n/\"\xc3\xa9");
	free(kept);
	fixture_fini(&x);
#define BODY(s)	"{\"decision\":{\"challenge\":{\"challenge_type\":" s "}}}"
	OK(BODY("\"\\u0000\""));
	REFUSED(BODY("\"\\ud800\""));
	REFUSED(BODY("\"\\udc00\""));
	REFUSED(BODY("\"\\ud800\\u0041\""));
	REFUSED(BODY("\"\\u12\""));
	REFUSED(BODY("\"\\x\""));
	REFUSED(BODY("\"\x01\""));
	REFUSED(BODY("\"\x80\""));
	REFUSED(BODY("\"\xc3\""));
	REFUSED(BODY("\"\xed\xa0\x80\""));
	REFUSED(BODY("'c'"));
}

static void test_json_syntax(void **state)
{
	BAD("{" ALLOW ",}");
	BAD("{" ALLOW ",\"x\":[1,]}");
	BAD("{" ALLOW ",\"x\":[,1]}");
	BAD("{" ALLOW ",\"x\":[1 2]}");
	BAD("{" ALLOW " \"x\":1}");
	BAD("{" ALLOW ",\"x\" 1}");
	BAD("{" ALLOW ",x:1}");
	BAD("{" ALLOW ",1:1}");
	BAD("{" ALLOW ",\"x\":01}");
	BAD("{" ALLOW ",\"x\":1.}");
	BAD("{" ALLOW ",\"x\":.5}");
	BAD("{" ALLOW ",\"x\":1e}");
	BAD("{" ALLOW ",\"x\":+1}");
	BAD("{" ALLOW ",\"x\":-}");
	BAD("{" ALLOW ",\"x\":1e999}");
	BAD("{" ALLOW ",\"x\":NaN}");
	BAD("{" ALLOW ",\"x\":Infinity}");
	BAD("{" ALLOW ",\"x\":nul}");
	BAD("{" ALLOW "} {}");
	BAD("{" ALLOW ",\"\\u0000\":1}");
	BAD("\xef\xbb\xbf{" ALLOW "}");
	OK("{" ALLOW ",\"x\":[-0,-1.5e-3,0.0,1E+2,18446744073709551616]}");
}

static void test_depth(void **state)
{
	char reply[256];

	for (unsigned n = 12; n < 18; n++) {
		int len = snprintf(reply, sizeof(reply), "{" ALLOW ",\"x\":");

		memset(reply + len, '[', n);
		memset(reply + len + n, ']', n);
		memcpy(reply + len + 2 * n, "}", 2);
		all_say(reply, &head, n < 16 ? DECISION_OK : DECISION_BAD);
	}
}

/* Limits on counts: 256 edits, 64 tags, 64 keys of a map. */
static void test_counts(void **state)
{
	static const struct {
		const char *front, *element, *back;
		unsigned max;
	} lists[] = {
		{ "{" ALLOW ",\"request_headers\":[",
		  "{\"set\":{\"name\":\"a\"}}", "]}", 256 },
		{ "{" ALLOW ",\"audit\":{\"tags\":[", "\"t\"", "]}}", 64 },
		{ "{" ALLOW ",\"audit\":{\"rule_ids\":[", "\"t\"", "]}}", 64 },
	};
	char *reply = malloc(65536), *o;

	assert_non_null(reply);
	for (size_t i = 0; i < ARRAY_LEN(lists) * 2; i++) {
		unsigned n = lists[i / 2].max + i % 2;

		o = stpcpy(reply, lists[i / 2].front);
		for (unsigned k = 0; k < n; k++) {
			o = stpcpy(o, k ? "," : "");
			o = stpcpy(o, lists[i / 2].element);
		}
		stpcpy(o, lists[i / 2].back);
		all_say(reply, &head, i % 2 ? DECISION_BAD : DECISION_OK);
	}
	for (unsigned n = 64; n < 66; n++) {
		o = stpcpy(reply, "{" ALLOW ",\"audit\":{\"custom\":{");
		for (unsigned k = 0; k < n; k++)
			o += sprintf(o, "%s\"k%u\":%u", k ? "," : "", k, k);
		stpcpy(o, "}}}");
		all_say(reply, &head, n > 64 ? DECISION_BAD : DECISION_OK);
	}
	free(reply);
}

static void test_audit(void **state)
{
	char reply[2048], *o, *kept;
	struct decision d;
	struct fixture x;

	o = stpcpy(reply, "{" ALLOW ",\"audit\":{\"confidence\":1.5,"
			  "\"tags\":[\"");
	for (int i = 0; i < 200; i++)
		o = stpcpy(o, "\xc3\xa9");
	stpcpy(o, "\"],\"reason_codes\":[\"a\",\"b\"]}}");
	fixture_init(&x);
	assert_int_equal(decode(&x, &json, reply, strlen(reply), &head, &d,
				&kept),
			 DECISION_OK);
	assert_int_equal(d.audit.tags[0].n, 256);
	assert_int_equal(d.audit.n_reasons, 2);
	is_text(d.audit.reasons[1], "b");
	assert_true(d.audit.has_confidence && d.audit.confidence == 1.0);
	free(kept);
	fixture_fini(&x);
	BAD("{" ALLOW ",\"audit\":{\"confidence\":\"1\"}}");
	BAD("{" ALLOW ",\"audit\":{\"tags\":[1]}}");
	BAD("{" ALLOW ",\"audit\":{\"tags\":{}}}");
	BAD("{" ALLOW ",\"audit\":{\"custom\":[]}}");
}

static void test_challenge_params(void **state)
{
	static const char reply[] = "{\"decision\":{\"challenge\":{"
		"\"challenge_type\":\"c\",\"params\":{\"n\":-5,\"t\":true,"
		"\"l\":[1,\"a\\\"b\",null],\"o\":{\"k\":0.5},\"s\":\"x\"}}}}";
	static const char *const want[] = { "-5", "true",
		"[1,\"a\\\"b\",null]", "{\"k\":0.5}", "x" };
	struct decision d;
	struct fixture x;
	char *kept, *packed;
	size_t n;

	fixture_init(&x);
	assert_int_equal(decode(&x, &json, reply, sizeof(reply) - 1, &head, &d,
				&kept),
			 DECISION_OK);
	assert_int_equal(d.n_params, 5);
	for (unsigned i = 0; i < 5; i++)
		is_text(d.params[i].value, want[i]);
	free(kept);
	packed = encode_msgpack_from_json(slice_str(reply), &n);
	assert_non_null(packed);
	assert_int_equal(decode(&x, &msgpack, packed, n, &head, &d, &kept),
			 DECISION_OK);
	for (unsigned i = 0; i < 5; i++)
		is_text(d.params[i].value, want[i]);
	free(kept);
	mem_free(packed);
	fixture_fini(&x);
}

static void test_msgpack_only(void **state)
{
#define BYTES(s)	(s), sizeof(s) - 1
	static const struct {
		const char *p;
		size_t n;
		enum decision_fault want;
	} cases[] = {
		/* Two elements, the rest by default; bin for str. */
		{ BYTES("\x92\x02\xa5" "allow"), DECISION_OK },
		{ BYTES("\x92\x02\xc4\x05" "allow"), DECISION_OK },
		{ BYTES("\x92\xd1\x00\x02\xd9\x05" "allow"), DECISION_OK },
		{ BYTES("\x92\xd0\xff\xa5" "allow"), DECISION_BAD },
		{ BYTES("\x92\xca\x40\x00\x00\x00\xa5" "allow"),
		  DECISION_BAD },
		/* Wider forms of the same. */
		{ BYTES("\xdc\x00\x02\xcd\x00\x02\xda\x00\x05" "allow"),
		  DECISION_OK },
		{ BYTES("\xdf\x00\x00\x00\x01\xdb\x00\x00\x00\x08" "decision"
			"\xa5" "allow"), DECISION_OK },
		/* An array of a struct inside of a map, and the reverse. */
		{ BYTES("\x81\xa8" "decision\x81\xa5" "block\x91\xcd\x01\x93"),
		  DECISION_OK },
		{ BYTES("\x92\x02\x81\xa5" "block\x81\xa6" "status\xcd\x01"
			"\x93"), DECISION_OK },
		{ BYTES("\x92\x02\x81\xa5" "block\x94\xcd\x01\x93\xc0\xc0"
			"\xc0"), DECISION_REFUSED },
		/* Unknown keys hold anything, extensions included. */
		{ BYTES("\x82\xa1x\xd6\xff\x00\x00\x00\x00\xa8" "decision\xa5"
			"allow"), DECISION_OK },
		{ BYTES("\x82\xa1x\xc7\x02\x05" "ab\xa8" "decision\xa5"
			"allow"), DECISION_OK },
		{ BYTES("\x82\xa1x\xc1\xa8" "decision\xa5" "allow"),
		  DECISION_BAD },
		/* Confidence that is no number. */
		{ BYTES("\x96\x02\xa5" "allow\x90\x90\x80\x93\x90\x90\xca\x7f"
			"\xc0\x00\x00"), DECISION_BAD },
		{ BYTES("\x92\x02\xa5" "allo\xff"), DECISION_BAD },
		{ BYTES("\x92\x02\xdb\xff\xff\xff\xff" "allow"),
		  DECISION_BAD },
		{ BYTES("\x92\x02\xc6\xff\xff\xff\xff" "allow"),
		  DECISION_BAD },
		{ BYTES("\xde\xff\xff"), DECISION_BAD },
		{ BYTES(""), DECISION_BAD },
	};
	struct decision d;
	struct fixture x;
	char *kept;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum decision_fault got = decode(&x, &msgpack, cases[i].p,
						 cases[i].n, &head, &d, &kept);

		if (got != cases[i].want)
			fail_msg("case %zu: %d (%s)", i, (int)got,
				 d.fault_text);
		free(kept);
	}
	/* A JSON link takes no MessagePack. */
	assert_int_equal(decode(&x, &json, cases[0].p, cases[0].n, &head, &d,
				&kept),
			 DECISION_BAD);
	free(kept);
	fixture_fini(&x);
}

/* The short cut for plain allows and the reader say the same. */
static void test_plain_allow(void **state)
{
	static const char *const paths[] = {
		"tests/vectors/v2-replies/allow.json",
		"tests/vectors/v2-replies/allow.array.hex",
		"tests/vectors/v2-replies/allow.named.hex",
	};
	struct decision d;
	struct fixture x;
	char *kept, *file;
	size_t n;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct wire_format *f = i ? &msgpack : &json;

		file = read_vector(paths[i], &n);
		assert_non_null(file);
		for (size_t at = 0; at < n; at++) {
			char was = file[at];

			assert_int_equal(decode(&x, f, file, n, &head, &d,
						&kept),
					 DECISION_OK);
			free(kept);
			/* Any one byte broken is seen; nil broken so is
			 * a number, which only a confidence may be. */
			file[at] ^= 0x80;
			if (decode(&x, f, file, n, &head, &d, &kept) ==
				    DECISION_OK &&
			    !d.audit.has_confidence)
				fail_msg("%s at %zu", paths[i], at);
			free(kept);
			file[at] = was;
		}
		/* A JSON link takes none of the others. */
		assert_int_equal(decode(&x, &json, file, n, &head, &d, &kept),
				 i ? DECISION_BAD : DECISION_OK);
		free(kept);
		free(file);
	}
	fixture_fini(&x);
}

static bool failing(size_t bytes)
{
	return true;
}

static size_t most_asked;

static bool note_size(size_t bytes)
{
	if (bytes > most_asked)
		most_asked = bytes;
	return false;
}

/* A length is a claim: memory is taken for what has come. */
static void test_huge_counts(void **state)
{
	static const struct {
		const char *p;
		size_t n;
	} cases[] = {
		{ BYTES("\xdd\xff\xff\xff\xff\x02\xa5" "allow") },
		{ BYTES("\xdf\x7f\xff\xff\xff\xa8" "decision\xa5" "allow") },
		{ BYTES("\x93\x02\xa5" "allow\xdd\x00\xff\xff\xff\x81\xa3"
			"set\x92\xa1" "a\xa1" "b") },
		{ BYTES("\x95\x02\xa5" "allow\x90\x90\xdf\xff\xff\xff\xff"
			"\xa1" "a\xa1" "b") },
		{ BYTES("\x96\x02\xa5" "allow\x90\x90\x80\x95\xdd\xff\xff"
			"\xff\xff\xa1" "t") },
		{ BYTES("\x92\x02\x81\xa5" "block\x93\xcd\x01\x93\xc0\xdf"
			"\xff\xff\xff\xff\xa1" "a\xa1" "b") },
	};
	struct decision d;
	char *kept;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture x;

		fixture_init(&x);
		most_asked = 0;
		mem_fault = note_size;
		assert_int_not_equal(decode(&x, &msgpack, cases[i].p,
					    cases[i].n, &head, &d, &kept),
				     DECISION_OK);
		mem_fault = NULL;
		assert_in_range(most_asked, 0, 64 * 1024);
		free(kept);
		fixture_fini(&x);
	}
}

static void test_memory(void **state)
{
	static const char reply[] = "{" ALLOW ",\"request_headers\":["
		"{\"set\":{\"name\":\"a\",\"value\":\"b\"}}]}";
	enum decision_fault fault;
	struct decision d;
	struct fixture x;
	char *kept;

	fixture_init(&x);
	mem_fault = failing;
	fault = decode(&x, &json, reply, sizeof(reply) - 1, &head, &d, &kept);
	mem_fault = NULL;
	assert_int_equal(fault, DECISION_NO_MEMORY);
	assert_int_equal(d.n_request_ops, 0);
	free(kept);
	fixture_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_op_rules),
		cmocka_unit_test(test_ops),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_id_after_fault),
		cmocka_unit_test(test_json_strings),
		cmocka_unit_test(test_json_syntax),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_audit),
		cmocka_unit_test(test_challenge_params),
		cmocka_unit_test(test_msgpack_only),
		cmocka_unit_test(test_plain_allow),
		cmocka_unit_test(test_huge_counts),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
