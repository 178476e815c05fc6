/*
 * The chunked coding (http/chunked.h): each row whole, cut in two at every
 * byte, and dripped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/chunked.h"

struct row {
	enum http_chunk_event end;
	const char *body;
	const char *text;
	size_t len;
	size_t rest;		/* bytes not used after TRAILERS */
};

#define OK(text, body, rest) \
	{ HTTP_CHUNK_TRAILERS, body, text, sizeof(text) - 1, rest }
#define BAD(text, body) \
	{ HTTP_CHUNK_FAULT, body, text, sizeof(text) - 1, 0 }
#define MORE(text, body) \
	{ HTTP_CHUNK_MORE, body, text, sizeof(text) - 1, 0 }
#define X50	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct row rows[] = {
	OK("0\r\n\r\n", "", 2),
	OK("0000000000000000\r\nA: b\r\n\r\n", "", 8),
	OK("3\r\nabc\r\n0\r\n\r\nGET", "abc", 5),
	OK("A\r\n0123456789\r\n00b\r\n0123456789a\r\n0\r\n\r\n",
	   "01234567890123456789a", 2),
	OK("1;a\r\nx\r\n1;a=b;c=\"d;\x80\"\r\ny\r\n0;\t\r\n\r\n", "xy", 2),
	OK("1 \t ;a\r\nx\r\n0\r\n\r\n", "x", 2),
	/* 256 bytes of size line are the most. */
	OK("1;" X50 X50 X50 X50 X50 "xx\r\nx\r\n0\r\n\r\n", "x", 2),
	BAD("1;" X50 X50 X50 X50 X50 "xxx\r\nx\r\n0\r\n\r\n", ""),
	MORE("", ""),
	MORE("f", ""),
	MORE("f\r\nabc", "abc"),
	MORE("3\r\nabc\r\n", "abc"),
	MORE("7fffffffffffffff\r\nab", "ab"),
	MORE("07fffffffffffff0\r\nab", "ab"),
	BAD("8000000000000000\r\nab", ""),
	BAD("00000000000000001\r\nab", ""),
	BAD("10000000000000001\r\nab", ""),
	BAD("\r\n", ""),
	BAD(";a\r\n", ""),
	BAD(" 1\r\nx\r\n", ""),
	BAD("+1\r\nx\r\n", ""),
	BAD("-1\r\nx\r\n", ""),
	BAD("0x1\r\nx\r\n", ""),
	BAD("g\r\n", ""),
	BAD("1g\r\nx\r\n", ""),
	BAD("1 \r\nx\r\n", ""),
	BAD("1 1\r\nx\r\n", ""),
	BAD("1\nx\r\n", ""),
	BAD("1\rx\r\n", ""),
	BAD("1\r\rx\r\n", ""),
	BAD("1;a\nx\r\n", ""),
	BAD("1;a\rx\r\n", ""),
	BAD("1;a\0\r\nx\r\n", ""),
	BAD("1;a\x7f\r\nx\r\n", ""),
	BAD("1\r\nxy\r\n", "x"),
	BAD("1\r\nx\n0\r\n\r\n", "x"),
	BAD("1\r\nx\r0\r\n\r\n", "x"),
	BAD("1\r\nx\r\n\r\n", "x"),
	BAD("1\r\nx0\r\n\r\n", "x"),
};

/* Feeds text[0..first), then on by `step`. */
static void run(const struct row *row, size_t first, size_t step)
{
	struct http_chunked c;
	char body[512];
	size_t n_body = 0, at = 0, upto = first;
	enum http_chunk_event ev;

	http_chunked_init(&c);
	for (;;) {
		/* Exactly its size, for the address sanitizer. */
		char *copy = malloc(upto - at + 1);
		struct slice data = SLICE_NONE;
		size_t used, n = upto - at;

		memmove(copy + 1, row->text + at, n);
		ev = http_chunked_next(&c, copy + 1, n, &used, &data);
		assert_true(used <= n);
		at += used;
		if (ev == HTTP_CHUNK_DATA) {
			assert_true(data.n > 0 && data.p + data.n ==
						  copy + 1 + used);
			memcpy(body + n_body, data.p, data.n);
			n_body += data.n;
		}
		free(copy);
		if (ev == HTTP_CHUNK_TRAILERS || ev == HTTP_CHUNK_FAULT)
			break;
		if (ev == HTTP_CHUNK_MORE) {
			assert_int_equal(at, upto);
			if (upto == row->len)
				break;
			upto = upto + step < row->len ? upto + step : row->len;
		}
	}
	if (ev != row->end)
		fail_msg("%d instead of %d: %s", ev, row->end, row->text);
	assert_int_equal(n_body, strlen(row->body));
	assert_memory_equal(body, row->body, n_body);
	if (ev == HTTP_CHUNK_TRAILERS)
		assert_int_equal(row->len - at, row->rest);
	if (ev != HTTP_CHUNK_MORE) {
		struct slice data;
		size_t used;

		assert_int_equal(http_chunked_next(&c, "5\r\n", 3, &used,
						   &data), ev);
		assert_int_equal(used, 0);
	}
}

static void test_rows(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		run(&rows[i], 0, 1);
		for (size_t cut = 0; cut <= rows[i].len; cut++)
			run(&rows[i], cut, rows[i].len);
	}
}

static void test_chunk_head(void **state)
{
	static const uint64_t sizes[] = {
		0, 1, 9, 10, 15, 16, 255, 256, 65536, 0xfffffffu, 1ull << 32,
		INT64_MAX, UINT64_MAX,
	};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char want[24], got[24];
		size_t n = http_chunk_head(got, sizes[i]);

		assert_true(n <= 18);
		assert_int_equal(n, snprintf(want, sizeof(want), "%llx\r\n",
					     (unsigned long long)sizes[i]));
		assert_memory_equal(got, want, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_chunk_head),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
