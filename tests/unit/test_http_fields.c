/*
 * Names, lists, hosts, and editing of heads (http/head.h).
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/head.h"

/* One per number, in the order of the enum. */
static const char *const names[HTTP_FIELD_N] = {
	"", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", "Content-Length", "Host", "Expect",
	"Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
	"X-Request-Id", "Traceparent", "Range", "Accept", "Accept-Encoding",
	"Accept-Language", "User-Agent", "Content-Type", "Content-Encoding",
	"Cookie", "Set-Cookie", "Authorization", "Proxy-Authenticate",
	"Proxy-Authorization", "WWW-Authenticate", "Location", "Date",
	"Server", "ETag", "Content-MD5", "Digest", "Accept-Ranges",
	"Last-Modified", "Cache-Control", "Referer", "Origin", "Retry-After",
	"If-Modified-Since", "If-None-Match",
};

static enum http_field_id lookup(const char *name, size_t n)
{
	/* Exactly its size, for the address sanitizer. */
	char *copy = malloc(n ? n : 1);
	enum http_field_id id;

	memcpy(copy, name, n);
	id = http_field_lookup(slice_of(copy, n));
	free(copy);
	return id;
}

static void test_every_name(void **state)
{
	for (unsigned id = 1; id < HTTP_FIELD_N; id++) {
		char text[40];
		size_t n = strlen(names[id]);

		assert_int_equal(lookup(names[id], n), id);
		for (size_t i = 0; i < n; i++)
			text[i] = (char)tolower((unsigned char)names[id][i]);
		assert_int_equal(lookup(text, n), id);
		for (size_t i = 0; i < n; i++)
			text[i] = (char)toupper((unsigned char)names[id][i]);
		assert_int_equal(lookup(text, n), id);
		for (size_t i = 0; i < n; i++) {
			char keep = text[i];

			/* '-' and digits fold to controls, and back. */
			text[i] = (char)(keep & ~0x20);
			if (keep == '-' || isdigit((unsigned char)keep))
				assert_int_equal(lookup(text, n), 0);
			text[i] = 'j';	/* in no name */
			assert_int_equal(lookup(text, n), 0);
			text[i] = keep;
		}
		text[n] = 'x';
		assert_int_equal(lookup(text, n + 1), 0);
		assert_int_equal(lookup(text, n - 1), 0);
	}
	assert_int_equal(lookup("", 0), 0);
}

static void test_methods(void **state)
{
	static const struct {
		const char *name;
		enum http_method id;
		bool idempotent;
	} rows[] = {
		{ "GET", HTTP_GET, true }, { "HEAD", HTTP_HEAD, true },
		{ "POST", HTTP_POST, false }, { "PUT", HTTP_PUT, true },
		{ "DELETE", HTTP_DELETE, true },
		{ "OPTIONS", HTTP_OPTIONS, true },
		{ "TRACE", HTTP_TRACE, true },
		{ "CONNECT", HTTP_CONNECT, false },
		{ "PATCH", HTTP_PATCH, false }, { "get", HTTP_OTHER, false },
		{ "GETS", HTTP_OTHER, false }, { "", HTTP_OTHER, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(http_method_lookup(slice_str(rows[i].name)),
				 rows[i].id);
		assert_int_equal(http_method_idempotent(rows[i].id),
				 rows[i].idempotent);
	}
}

static void test_hosts(void **state)
{
	static const char *const good[] = {
		"a", "a.example", "A-b_c~.example.", "127.0.0.1", "a:1",
		"127.0.0.1:65535", "[::1]", "[::1]:80", "[1:2:3:4:5:6:7:8]",
		"[::ffff:1.2.3.4]", "a!$&'()*+,;=b",
	};
	static const char *const bad[] = {
		"", ":80", "a:", "a:x", "a:65536", "a:123456", "a:1:2", "a b",
		"a/b", "a?b", "a#b", "u@a", "a%41", "a\\b", "[", "[]", "[::1",
		"::1", "[::1]x", "[::1]:", "[::g]", "[fe80::1%25eth0]",
		"[v1.x]", "[1:2:3:4:5:6:7:8:9]", "\x80", "a\x7f", "[a]", "a]",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!http_host_valid(slice_str(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (http_host_valid(slice_str(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(http_host_valid(slice_of("[::1\0]", 6)));
	assert_false(http_host_valid(slice_of("a\0", 2)));
}

static void test_every_byte(void **state)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	assert_false(http_token_valid(SLICE_NONE));
	assert_true(http_value_valid(SLICE_NONE));
	for (int c = 0; c < 256; c++) {
		/* At every place of a block of 16, and beyond. */
		for (size_t at = 0; at < 40; at++) {
			char s[40];

			memset(s, 'a', sizeof(s));
			s[at] = (char)c;
			assert_int_equal(
				http_token_valid(slice_of(s, sizeof(s))),
				c && strchr(token, c));
			assert_int_equal(
				http_value_valid(slice_of(s, sizeof(s))),
				(c >= 0x20 && c != 0x7f) || c == '\t');
		}
	}
}

static bool has(const char *list, const char *token)
{
	return http_list_has(slice_str(list), slice_str(token));
}

static void test_lists(void **state)
{
	assert_true(has("a", "a"));
	assert_true(has("x, A ,y", "a"));
	assert_true(has(",, \t,a\t,", "a"));
	assert_false(has("", "a"));
	assert_false(has(", ,", "a"));
	assert_false(has("ab, ba, a b", "a"));
	assert_false(http_list_has(SLICE_NONE, SLICE("a")));
}

static void test_editing(void **state)
{
	struct field fields[4];
	struct http_head h = { .fields = fields, .cap_fields = 4 };

	assert_true(http_head_add(&h, SLICE("Cookie"), SLICE("a")));
	assert_true(http_head_add(&h, SLICE("x-a"), SLICE("\xff")));
	assert_true(http_head_add(&h, SLICE("cookie"), SLICE("b")));
	assert_true(http_head_add_id(&h, HTTP_FIELD_VIA, SLICE("via"),
				     SLICE("")));
	assert_false(http_head_add(&h, SLICE("x-b"), SLICE("")));
	assert_int_equal(fields[0].flags, 0);
	assert_int_equal(fields[1].flags, FIELD_LOWER | FIELD_NON_ASCII);
	assert_ptr_equal(http_head_find(&h, HTTP_FIELD_COOKIE), &fields[0]);
	assert_null(http_head_find(&h, HTTP_FIELD_HOST));
	assert_int_equal(http_head_remove(&h, SLICE("COOKIE")), 2);
	assert_int_equal(h.n_fields, 2);
	assert_null(http_head_find(&h, HTTP_FIELD_COOKIE));
	assert_int_equal(http_head_remove(&h, SLICE("x-b")), 0);
	assert_true(h.present & 1 << HTTP_FIELD_OTHER);
	assert_int_equal(http_head_remove(&h, SLICE("X-A")), 1);
	assert_true(h.present == 1 << HTTP_FIELD_VIA);
	assert_int_equal(http_head_remove_id(&h, HTTP_FIELD_VIA), 1);
	assert_int_equal(http_head_remove_id(&h, HTTP_FIELD_VIA), 0);
	assert_true(h.n_fields == 0 && h.present == 0);
}

static void test_accept(void **state)
{
	static const char *const json[] = {
		"application/json", "Application/JSON;charset=utf-8",
		"application/json, text/plain, */*",
		"*/*, application/json", "application/json;q=0.1",
		"text/html;q=0.5, application/json",
		"text/html; q=0.8 ,text/plain;q=0.9, application/json ; q=1.0",
		"text/plain;q=0, application/json;q=0.001, */*;q=0.0",
	};
	static const char *const text[] = {
		"", "*/*", "application/*", "text/html", "application/jsonp",
		"application/json-seq", "text/html, application/json",
		"application/json;q=0", "application/json;q=0.000",
		"application/json;q=0.1, text/html",
		"application/json;q=0.9, text/plain",
		"application/json;q=0.5, */*", "image/png, ;q=1,,",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*",
	};

	for (size_t i = 0; i < ARRAY_LEN(json); i++)
		assert_true(http_prefers_json(slice_str(json[i])));
	for (size_t i = 0; i < ARRAY_LEN(text); i++)
		assert_false(http_prefers_json(slice_str(text[i])));
}

static void test_reasons(void **state)
{
	assert_true(slice_eq(http_reason(200), SLICE("OK")));
	assert_true(slice_eq(http_reason(511),
			     SLICE("Network Authentication Required")));
	assert_int_equal(http_reason(299).n, 0);
	assert_int_equal(http_reason(0).n, 0);
	assert_int_equal(http_reason(600).n, 0);
	assert_non_null(http_reason(9999).p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_name),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_editing),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_reasons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
