/* The access log: each line is one JSON object whatever is in it, and what
 * cannot be written is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/access.h"
#include "report/format.h"

static struct worker_metrics metrics;

/* ---- one line ----------------------------------------------------------- */

static char last[LINE_MAX_BYTES + 1];
static size_t last_n;

static void capture(void *arg, const char *line, size_t n)
{
	assert_true(n <= LINE_MAX_BYTES);
	memcpy(last, line, n);
	last[n] = '\0';
	last_n = n;
}

static void format(const struct record *r, enum config_access_format f)
{
	struct access_log *log = access_log_open("off", f, 1);

	assert_non_null(log);
	access_log_capture(log, capture, NULL);
	assert_false(access_log_add(log, 0, r, &metrics));
	access_log_close(log);
	assert_int_equal(last[last_n - 1], '\n');
	assert_ptr_equal(strchr(last, '\n'), last + last_n - 1);
}

static json_t *parse(const struct record *r)
{
	json_error_t e;
	json_t *j;

	format(r, ACCESS_JSON);
	for (size_t i = 0; i + 1 < last_n; i++)
		assert_true((unsigned char)last[i] >= 0x20);
	j = json_loadb(last, last_n, JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s at %d: %s", e.text, e.position, last);
	return j;
}

static const char *text(json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static json_int_t number(json_t *j, const char *key)
{
	json_t *n = json_object_get(j, key);

	assert_true(json_is_integer(n));
	return json_integer_value(n);
}

static const struct slice tags[] = { { "bot", 3 }, { "sqli", 4 } };
static const struct slice rules[] = { { "942100", 6 } };
static const struct slice reasons[] = { { "SQL \"injection\"", 15 } };

static const struct record_agent agents[] = {
	{ .name = "waf", .event = EVENT_REQUEST_HEAD, .verdict = VERDICT_BLOCK,
	  .status = 403, .us = 123, .queue_us = 4, .chunks = 1,
	  .tags = tags, .n_tags = 2, .rules = rules, .n_rules = 1,
	  .reasons = reasons, .n_reasons = 1 },
	{ .name = "auth", .event = EVENT_RESPONSE_CHUNK,
	  .verdict = VERDICT_FAIL_ALLOW, .cause = CAUSE_TIMEOUT },
};

static const struct record ordinary = {
	.start_wall_us = 1767323045678901,
	.request_id = { "0123456789abcdef0123456789abcdef", 32 },
	.correlation_id = { "fedcba9876543210fedcba9876543210", 32 },
	.listener = "public",
	.client = { "192.0.2.17", 10 },
	.method = { "GET", 3 },
	.host = { "api.example.com", 15 },
	.target = { "/v1/items?q=1", 13 },
	.protocol = "HTTP/1.1",
	.route = "route-1",
	.upstream = "app",
	.server = "127.0.0.1:9000",
	.attempts = 1,
	.status = 200,
	.ended_by = ENDED_DONE,
	.ended_why = "",
	.request_bytes = 0,
	.response_bytes = 1234567,
	.us = { 950, 12, 88, 0, 700 },
	.agents = agents,
	.n_agents = 1,
	.generation = 3,
	.referer = { "http://a/", 9 },
	.user_agent = { "curl/8", 6 },
};

static void test_ordinary_line(void **state)
{
	struct record r = ordinary;
	json_t *j, *us, *a;

	r.n_agents = 2;
	r.decided_by = "waf";
	r.bypass = true;
	j = parse(&r);
	assert_int_equal(json_object_size(j), 23);
	assert_string_equal(text(j, "time"), "2026-01-02T03:04:05.678901Z");
	assert_string_equal(text(j, "request_id"),
			    "0123456789abcdef0123456789abcdef");
	assert_string_equal(text(j, "correlation_id"),
			    "fedcba9876543210fedcba9876543210");
	assert_string_equal(text(j, "listener"), "public");
	assert_string_equal(text(j, "client"), "192.0.2.17");
	assert_string_equal(text(j, "method"), "GET");
	assert_string_equal(text(j, "host"), "api.example.com");
	assert_string_equal(text(j, "target"), "/v1/items?q=1");
	assert_string_equal(text(j, "protocol"), "HTTP/1.1");
	assert_string_equal(text(j, "route"), "route-1");
	assert_string_equal(text(j, "upstream"), "app");
	assert_string_equal(text(j, "server"), "127.0.0.1:9000");
	assert_int_equal(number(j, "attempts"), 1);
	assert_int_equal(number(j, "status"), 200);
	assert_string_equal(text(j, "ended_by"), "done");
	assert_string_equal(text(j, "ended_why"), "");
	assert_int_equal(number(j, "request_bytes"), 0);
	assert_int_equal(number(j, "response_bytes"), 1234567);
	assert_string_equal(text(j, "decided_by"), "waf");
	assert_true(json_is_true(json_object_get(j, "bypass")));
	assert_int_equal(number(j, "generation"), 3);
	us = json_object_get(j, "us");
	assert_int_equal(json_object_size(us), 5);
	assert_int_equal(number(us, "total"), 950);
	assert_int_equal(number(us, "request_head"), 12);
	assert_int_equal(number(us, "agents"), 88);
	assert_int_equal(number(us, "upstream_connect"), 0);
	assert_int_equal(number(us, "upstream_first_byte"), 700);
	a = json_array_get(json_object_get(j, "agents"), 0);
	assert_int_equal(json_object_size(a), 11);
	assert_string_equal(text(a, "name"), "waf");
	assert_string_equal(text(a, "event"), "request_head");
	assert_string_equal(text(a, "verdict"), "block");
	assert_true(json_is_null(json_object_get(a, "cause")));
	assert_int_equal(number(a, "status"), 403);
	assert_int_equal(number(a, "us"), 123);
	assert_int_equal(number(a, "queue_us"), 4);
	assert_int_equal(number(a, "chunks"), 1);
	assert_int_equal(json_array_size(json_object_get(a, "tags")), 2);
	assert_int_equal(json_array_size(json_object_get(a, "rules")), 1);
	assert_string_equal(json_string_value(json_array_get(
		json_object_get(a, "reasons"), 0)), "SQL \"injection\"");
	a = json_array_get(json_object_get(j, "agents"), 1);
	assert_string_equal(text(a, "cause"), "timeout");
	assert_string_equal(text(a, "verdict"), "fail_allow");
	assert_int_equal(json_array_size(json_object_get(a, "tags")), 0);
	json_decref(j);
}

static void test_absent_is_null(void **state)
{
	static const char *const keys[] = {
		"request_id", "correlation_id", "listener", "client", "method",
		"host", "target", "protocol", "route", "upstream", "server",
		"ended_why", "decided_by",
	};
	struct record r = { .ended_by = ENDED_CLIENT, .status = 499 };
	json_t *j = parse(&r);

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		assert_true(json_is_null(json_object_get(j, keys[i])));
	assert_int_equal(json_array_size(json_object_get(j, "agents")), 0);
	json_decref(j);
}

/* in as a target comes out as want. */
static void check_text(const char *in, size_t n, const char *want)
{
	struct record r = ordinary;
	json_t *j;

	r.target = slice_of(in, n);
	j = parse(&r);
	assert_string_equal(text(j, "target"), want);
	json_decref(j);
}

static void test_hostile_bytes(void **state)
{
#define BAD "\xef\xbf\xbd"
	check_text("a\"b\\c/d", 7, "a\"b\\c/d");
	check_text("1234567\"", 8, "1234567\"");
	check_text("12345678\n12345678\x7f", 18, "12345678\n12345678\x7f");
	check_text("\r\n\t\x1b[31m", 8, "\r\n\t\x1b[31m");
	check_text("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
		   "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	/* Overlong, surrogate, past the end, alone, cut off, C1. */
	check_text("\xc0\xaf", 2, BAD BAD);
	check_text("\xe0\x80\xaf", 3, BAD BAD BAD);
	check_text("\xed\xa0\x80", 3, BAD BAD BAD);
	check_text("\xf4\x90\x80\x80", 4, BAD BAD BAD BAD);
	check_text("\xf8z", 2, BAD "z");
	check_text("x\xbfy", 3, "x" BAD "y");
	check_text("12345678\xe2\x82", 10, "12345678" BAD BAD);
	check_text("\xc2\x9b", 2, BAD BAD);
	check_text("\xc2\xa0", 2, "\xc2\xa0");
	/* An escaped NUL is legal JSON, but jansson wants none. */
}

/* Every byte at every place among others, against the slow way. */
static void test_every_byte_everywhere(void **state)
{
	char in[20], want[64];

	for (unsigned c = 1; c < 256; c++) {
		for (unsigned at = 0; at < sizeof(in); at++) {
			size_t n;

			memset(in, 'x', sizeof(in));
			in[at] = (char)c;
			memset(want, 'x', at);
			n = at;
			if (c < 0x80) {
				want[n++] = (char)c;
			} else {
				memcpy(want + n, BAD, 3);
				n += 3;
			}
			memset(want + n, 'x', sizeof(in) - at - 1);
			want[n + sizeof(in) - at - 1] = '\0';
			check_text(in, sizeof(in), want);
		}
	}
}

static void test_nul_is_escaped(void **state)
{
	struct record r = ordinary;

	r.target = slice_of("a\0b", 3);
	format(&r, ACCESS_JSON);
	assert_non_null(strstr(last, "\"target\":\"a\\u0000b\""));
}

static struct slice long_text(char fill)
{
	static char buf[70000];

	memset(buf, fill, sizeof(buf));
	return slice_of(buf, sizeof(buf));
}

/* Everything too long at once, each byte growing to six. */
static void test_long_values_are_cut(void **state)
{
	static const char fills[] = { 'x', '\x01', '"', '\xff' };
	static char name[5000];
	static struct record_agent many[100];
	static struct slice texts[50];

	memset(name, '\n', sizeof(name) - 1);
	for (unsigned f = 0; f < sizeof(fills); f++) {
		struct slice s = long_text(fills[f]);
		struct record r = {
			.request_id = s, .correlation_id = s, .client = s,
			.method = s, .host = s, .target = s, .listener = name,
			.protocol = name, .route = name, .upstream = name,
			.server = name, .ended_why = name, .decided_by = name,
			.attempts = UINT32_MAX, .status = UINT32_MAX,
			.request_bytes = UINT64_MAX,
			.response_bytes = UINT64_MAX,
			.us = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
				UINT64_MAX },
			.generation = UINT64_MAX, .referer = s,
			.user_agent = s, .ended_by = ENDED_SHUTDOWN,
			.agents = many, .n_agents = ARRAY_LEN(many),
		};

		for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
			texts[i] = s;
		for (unsigned i = 0; i < ARRAY_LEN(many); i++)
			many[i] = (struct record_agent){
				.name = name, .event = EVENT_RESPONSE_CHUNK,
				.verdict = VERDICT_FAIL_ALLOW,
				.cause = CAUSE_UNAVAILABLE,
				.status = UINT16_MAX, .us = UINT64_MAX,
				.queue_us = UINT64_MAX, .chunks = UINT32_MAX,
				.tags = texts, .n_tags = 50, .rules = texts,
				.n_rules = 50, .reasons = texts,
				.n_reasons = 50,
			};
		format(&r, ACCESS_COMBINED);
		format(&r, ACCESS_JSON);
		/* jansson has no room for UINT64_MAX. */
		r.request_bytes = r.response_bytes = r.generation = 0;
		memset(&r.us, 0, sizeof(r.us));
		for (unsigned i = 0; i < ARRAY_LEN(many); i++)
			many[i].us = many[i].queue_us = 0;
		json_decref(parse(&r));
		assert_true(last_n > LINE_MAX_BYTES / 2);
		assert_non_null(strstr(last, "...\""));
	}
}

/* Around the place where a text is cut, no length breaks the line. */
static void test_cut_at_any_length(void **state)
{
	static const char *const patterns[] = { "x", "\xc3\xa9", "\xff", "\"" };
	char buf[400];

	for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
		size_t len = strlen(patterns[p]);

		for (size_t lead = 0; lead < 8; lead++) {
			memset(buf, 'a', sizeof(buf));
			for (size_t i = lead; i + len <= sizeof(buf); i += len)
				memcpy(buf + i, patterns[p], len);
			for (size_t n = 60; n < sizeof(buf); n++) {
				struct record r = ordinary;

				r.method = slice_of(buf, n);
				r.request_id = slice_of(buf, n);
				json_decref(parse(&r));
			}
		}
	}
}

static void test_cap_is_exact(void **state)
{
	struct record r = ordinary;
	json_t *j;

	/* Methods have 64 bytes. */
	r.method = slice_of(long_text('M').p, 64);
	j = parse(&r);
	assert_int_equal(strlen(text(j, "method")), 64);
	assert_null(strchr(text(j, "method"), '.'));
	json_decref(j);
	r.method.n = 65;
	j = parse(&r);
	assert_int_equal(strlen(text(j, "method")), 64);
	assert_string_equal(text(j, "method") + 61, "...");
	json_decref(j);
}

static void test_combined(void **state)
{
	struct record r = ordinary;

	format(&r, ACCESS_COMBINED);
	assert_string_equal(last,
		"192.0.2.17 - - [02/Jan/2026:03:04:05 +0000] "
		"\"GET /v1/items?q=1 HTTP/1.1\" 200 1234567 "
		"\"http://a/\" \"curl/8\"\n");
	r.referer = SLICE_NONE;
	r.user_agent = SLICE("a\"b\\c\x01\xff");
	r.status = 0;
	r.response_bytes = 0;
	format(&r, ACCESS_COMBINED);
	assert_string_equal(last,
		"192.0.2.17 - - [02/Jan/2026:03:04:05 +0000] "
		"\"GET /v1/items?q=1 HTTP/1.1\" - - "
		"\"-\" \"a\\\"b\\\\c\\x01\\xff\"\n");
}

/* ---- files -------------------------------------------------------------- */

static char dir[] = "/tmp/test_access.XXXXXX";
static char path[64], path2[64];

static uint64_t lost(void)
{
	return counter_read(&metrics.access_lost);
}

/* Lines of the file; each must end and be JSON. */
static unsigned lines_of(const char *file)
{
	static char line[LINE_MAX_BYTES + 2];
	FILE *in = fopen(file, "r");
	unsigned n = 0;

	assert_non_null(in);
	for (; fgets(line, sizeof(line), in); n++) {
		json_t *j = json_loads(line, 0, NULL);

		assert_int_equal(line[strlen(line) - 1], '\n');
		assert_non_null(j);
		json_decref(j);
	}
	fclose(in);
	return n;
}

static int setup(void **state)
{
	memset(&metrics, 0, sizeof(metrics));
	strcpy(strrchr(dir, '.'), ".XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(path2, sizeof(path2), "%s/log2", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	unlink(path2);
	return rmdir(dir);
}

static void test_lines_gather(void **state)
{
	struct access_log *log = access_log_open(path, ACCESS_JSON, 2);
	struct stat st;

	assert_non_null(log);
	assert_true(access_log_add(log, 0, &ordinary, &metrics));
	assert_false(access_log_add(log, 0, &ordinary, &metrics));
	assert_true(access_log_add(log, 1, &ordinary, &metrics));
	assert_int_equal(lines_of(path), 0);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path), 2);
	access_log_flush(log, 1, &metrics);
	assert_int_equal(lines_of(path), 3);
	/* Many more than the buffer takes. */
	for (int i = 0; i < 1000; i++)
		(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path), 1003);
	assert_true(access_log_add(log, 0, &ordinary, &metrics));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0137, 0);
	assert_int_equal(lost(), 0);
	access_log_close(log);
}

static void test_reopen_and_change(void **state)
{
	struct access_log *log = access_log_open(path, ACCESS_JSON, 1);

	assert_non_null(log);
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(rename(path, path2), 0);
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path2), 2);
	assert_true(access_log_reopen(log));
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path2), 2);
	assert_int_equal(lines_of(path), 1);
	/* What cannot be opened changes nothing. */
	assert_false(access_log_change(log, "/nonexistent/x", ACCESS_JSON));
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path), 2);
	assert_true(access_log_change(log, path2, ACCESS_JSON));
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path2), 3);
	assert_true(access_log_change(log, "off", ACCESS_JSON));
	assert_false(access_log_add(log, 0, &ordinary, &metrics));
	assert_true(access_log_change(log, "stderr", ACCESS_JSON));
	assert_int_equal(lost(), 0);
	access_log_close(log);
	assert_null(access_log_open("/nonexistent/x", ACCESS_JSON, 1));
}

/* A full disk in small: half a line is finished later, never glued to another
 * one. */
static void test_short_write(void **state)
{
	struct access_log *log = access_log_open(path, ACCESS_JSON, 1);
	struct rlimit old, small;
	size_t line;

	assert_non_null(log);
	signal(SIGXFSZ, SIG_IGN);
	(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	format(&ordinary, ACCESS_JSON);
	line = last_n;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = line + line / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 3; i++)
		(void)access_log_add(log, 0, &ordinary, &metrics);
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lost(), 2);
	/* The flush is asked for again, though the buffer is not empty. */
	assert_true(access_log_add(log, 0, &ordinary, &metrics));
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lost(), 3);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_true(access_log_add(log, 0, &ordinary, &metrics));
	access_log_flush(log, 0, &metrics);
	assert_int_equal(lines_of(path), 3);
	assert_int_equal(lost(), 3);
	access_log_close(log);
}

/* Nobody reads: nobody waits, and what did not fit is counted. */
static void test_full_pipe(void **state)
{
	struct access_log *log;
	uint64_t got = 0;
	int fd, n;
	static char buf[65536];

	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	log = access_log_open(path, ACCESS_JSON, 1);
	assert_non_null(log);
	for (int i = 0; i < 1000; i++) {
		(void)access_log_add(log, 0, &ordinary, &metrics);
		access_log_flush(log, 0, &metrics);
	}
	assert_true(lost() > 0);
	while ((n = (int)read(fd, buf, sizeof(buf))) > 0)
		for (int i = 0; i < n; i++)
			got += buf[i] == '\n';
	assert_int_equal(got + lost(), 1000);
	close(fd);
	access_log_close(log);
}

/* Two workers, a pipe that is full more often than not: their lines do not
 * run into each other. */
static void test_full_pipe_of_two(void **state)
{
	static char buf[65536], all[8u << 20];
	struct access_log *log;
	size_t used = 0;
	unsigned lines = 0;
	char *line, *rest = NULL;
	int fd, n;

	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	log = access_log_open(path, ACCESS_JSON, 2);
	assert_non_null(log);
	for (unsigned i = 0; i < 3000; i++) {
		for (int k = 0; k < 9; k++)
			(void)access_log_add(log, i % 2, &ordinary, &metrics);
		access_log_flush(log, i % 2, &metrics);
		n = (int)read(fd, buf, 3333);
		if (n > 0 && used + 3333 < sizeof(all)) {
			memcpy(all + used, buf, (size_t)n);
			used += (size_t)n;
		}
	}
	all[used] = '\0';
	*(strrchr(all, '\n') + 1) = '\0';
	for (line = strtok_r(all, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest), lines++) {
		json_t *j = json_loads(line, 0, NULL);

		assert_non_null(j);
		json_decref(j);
	}
	assert_true(lines > 1000);
	assert_true(lost() > 0);
	close(fd);
	access_log_close(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary_line),
		cmocka_unit_test(test_absent_is_null),
		cmocka_unit_test(test_hostile_bytes),
		cmocka_unit_test(test_every_byte_everywhere),
		cmocka_unit_test(test_nul_is_escaped),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_cut_at_any_length),
		cmocka_unit_test(test_cap_is_exact),
		cmocka_unit_test(test_combined),
		cmocka_unit_test_setup_teardown(test_lines_gather, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_reopen_and_change, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_short_write, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_full_pipe, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_full_pipe_of_two, setup,
						teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
