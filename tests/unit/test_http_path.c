/*
 * Paths, their readings, and hosts (http/path.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http/path.h"

static struct arena_pool pool;
static struct arena arena;

static enum http_path_result normalise(const char *target,
				       struct http_path *out)
{
	/* Exactly its size, for the address sanitizer; freed by the arena. */
	size_t n = strlen(target);
	char *copy = arena_alloc(&arena, n);

	memcpy(copy, target, n);
	return http_path_normalise(slice_of(copy, n), &arena, out);
}

struct row {
	const char *target;
	const char *readings;	/* separated by blanks */
};

/* Nothing is allocated for these. */
static const struct row plain[] = {
	{ "/", "/" },
	{ "*", "*" },
	{ "/a", "/a" },
	{ "/a/b/c.html?x=//../%00", "/a/b/c.html" },
	{ "/?", "/" },
	{ "/a/", "/a/" },
	{ "/.well-known/x", "/.well-known/x" },
	{ "/a/...", "/a/..." },
	{ "/a./b..", "/a./b.." },
	{ "/..a", "/..a" },
	{ "/a%20b%3F%25", "/a%20b%3F%25" },
	{ "/%C3%A9", "/%C3%A9" },
	{ "/a;b=c/d", "/a;b=c/d" },
	{ "/0123456789abcde/0123456789abcdef/0123?//",
	  "/0123456789abcde/0123456789abcdef/0123" },
};

static const struct row rows[] = {
	{ "/.", "/" }, { "/..", "/" }, { "/./", "/" }, { "/../", "/" },
	{ "/../../a", "/a" },
	{ "/a/.", "/a/" }, { "/a/..", "/" }, { "/a/b/..", "/a/" },
	{ "/a/./b", "/a/b" }, { "/a/../b", "/b" }, { "/a/b/../../../c", "/c" },
	{ "/a/../b?../..", "/b" },
	{ "/%61%2D%2e%5f%7E%41%30", "/a-._~A0" },
	{ "/%2e%2e/a", "/a" }, { "/b/%2e/a", "/b/a" },
	{ "/b/.%2E/a", "/a" }, { "/b/%2E./a", "/a" },
	{ "/%c3%a9", "/%C3%A9" },
	{ "/%3f%23", "/%3F%23" },
	{ "/%252e%252e/a", "/%252e%252e/a" },
	/* More than one reading. */
	{ "//", "// /" },
	{ "//a", "//a /a" },
	{ "/a//b", "/a//b /a/b" },
	{ "/a//../b", "/a/b /b" },
	{ "/a//../b//c", "/a/b//c /b/c /a/b/c" },
	{ "/a%2fb", "/a%2Fb /a/b" },
	{ "/a%2Fb", "/a%2Fb /a/b" },
	{ "/a%2f..%2fb", "/a%2F..%2Fb /b" },
	{ "/a\\b", "/a\\b /a/b" },
	{ "/a%5Cb", "/a%5Cb /a/b" },
	{ "/a/..\\b", "/a/..\\b /b" },
	{ "/a/..%5cb", "/a/..%5Cb /b" },
	{ "/a%2f\\b", "/a%2F\\b /a%2F/b /a/\\b /a//b /a/b" },
	{ "/a%2f/b", "/a%2F/b /a//b /a/b" },
	{ "/a\\b%5cc", "/a\\b%5Cc /a/b%5Cc /a/b/c" },
};

static const char *const bad[] = {
	"", "a", "**", "*?", "?", "/%", "/%4", "/%g0", "/%0g", "/%00",
	"/a%00b", "/a//%", "/%2", "/%%41", "/a?b" + 2, "/..%", "\\a",
};

static void check(const struct row *row)
{
	struct http_path out;
	char text[256] = "";
	int n = 0;

	assert_int_equal(normalise(row->target, &out), HTTP_PATH_OK);
	for (unsigned i = 0; i < out.n; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%.*s",
			      i ? " " : "", SLICE_FMT(out.reading[i]));
	assert_string_equal(text, row->readings);
}

static void test_plain_paths(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
		struct slice t = slice_str(plain[i].target);
		struct http_path out;
		char *pos;

		check(&plain[i]);
		pos = arena.pos;
		assert_int_equal(http_path_normalise(t, &arena, &out),
				 HTTP_PATH_OK);
		assert_int_equal(out.n, 1);
		assert_ptr_equal(out.reading[0].p, t.p);
		assert_ptr_equal(arena.pos, pos);
	}
}

static void test_readings(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check(&rows[i]);
}

static void test_bad_paths(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct http_path out;
		if (normalise(bad[i], &out) != HTTP_PATH_BAD)
			fail_msg("taken: %s", bad[i]);
	}
	/* %00 in the query is not ours. */
	check(&(struct row){ "/a?%00%", "/a" });
}

/* What is odd is found wherever it stands. */
static void test_every_place(void **state)
{
	for (size_t n = 1; n < 50; n++) {
		for (size_t at = 0; at < n; at++) {
			struct http_path out;
			char text[64];

			memset(text, 'a', n);
			text[0] = '/';
			text[n] = '\0';
			if (at + 1 < n) {
				text[at] = text[at + 1] = '/';
				assert_int_equal(normalise(text, &out),
						 HTTP_PATH_OK);
				assert_int_equal(out.n, 2);
			}
			text[at] = '/';
			if (at + 2 < n) {
				text[at + 1] = '.';
				text[at + 2] = '/';
				assert_int_equal(normalise(text, &out),
						 HTTP_PATH_OK);
				assert_int_equal(out.reading[0].n, n - 2);
			}
			if (at > 0) {
				text[at] = '?';
				assert_int_equal(normalise(text, &out),
						 HTTP_PATH_OK);
				assert_int_equal(out.n, 1);
				assert_int_equal(out.reading[0].n, at);
				text[at] = '%';
				assert_int_equal(normalise(text, &out),
						 HTTP_PATH_BAD);
			}
		}
	}
}

static bool refuse_memory(size_t bytes)
{
	return true;
}

static void test_no_memory(void **state)
{
	struct arena empty;
	struct http_path out;

	arena_init(&empty, &pool);
	mem_fault = refuse_memory;
	assert_int_equal(http_path_normalise(SLICE("/a//b"), &empty, &out),
			 HTTP_PATH_NO_MEMORY);
	assert_int_equal(http_path_normalise(SLICE("/a/b"), &empty, &out),
			 HTTP_PATH_OK);
	assert_null(http_host_normalise(SLICE("A"), &empty).p);
	mem_fault = NULL;
	arena_fini(&empty);
}

static void test_hosts(void **state)
{
	static const char *const hosts[][2] = {
		{ "a.example", "a.example" },
		{ "A.Example:80", "a.example" },
		{ "a.example.", "a.example" },
		{ "a.EXAMPLE.:8080", "a.example" },
		{ "[::1]:80", "[::1]" }, { "[::1]", "[::1]" },
		{ "[FE80::A]", "[fe80::a]" }, { "1.2.3.4:5", "1.2.3.4" },
		{ ".", "." }, { "", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct slice in = slice_str(hosts[i][0]);
		struct slice out = http_host_normalise(in, &arena);

		assert_non_null(out.p);
		assert_int_equal(out.n, strlen(hosts[i][1]));
		assert_memory_equal(out.p, hosts[i][1], out.n);
		if (out.n && memcmp(in.p, out.p, out.n) == 0)
			assert_ptr_equal(in.p, out.p);
	}
}

static int setup(void **state)
{
	arena_pool_init(&pool);
	arena_init(&arena, &pool);
	return 0;
}

static int teardown(void **state)
{
	arena_fini(&arena);
	arena_pool_fini(&pool);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_paths),
		cmocka_unit_test(test_readings),
		cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_hosts),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
