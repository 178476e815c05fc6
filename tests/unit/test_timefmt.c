/* Times as text, against the C library; and the log line that has one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/words.h"

#define SECOND UINT64_C(1000000)

static void check(struct timefmt_cache *c, uint64_t second, unsigned us)
{
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu",
					    "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr",
					      "May", "Jun", "Jul", "Aug",
					      "Sep", "Oct", "Nov", "Dec" };
	time_t t = (time_t)second;
	char want[256], got[64] = { 0 };
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ",
		 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		 tm.tm_min, tm.tm_sec, us);
	timefmt_rfc3339_us(c, second * SECOND + us, got);
	assert_string_equal(got, want);
	assert_int_equal(strlen(got), TIMEFMT_RFC3339_US);

	memset(got, 0, sizeof(got));
	want[23] = 'Z';
	want[24] = '\0';
	timefmt_rfc3339_ms(c, second * SECOND + us, got);
	assert_string_equal(got, want);

	memset(got, 0, sizeof(got));
	snprintf(want, sizeof(want), "%s, %02d %s %04d %02d:%02d:%02d GMT",
		 days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
		 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	timefmt_http_date(second * SECOND + us, got);
	assert_string_equal(got, want);
	assert_int_equal(strlen(got), TIMEFMT_HTTP_DATE);
}

static void test_against_libc(void **state)
{
	static const uint64_t seconds[] = {
		0, 1, 59, 60, 86399, 86400, 784111777,	/* RFC 9110's example */
		951782399, 951782400, 951868799, 951868800, 1709164800,
		1709251199, 1735689599, 1735689600, 4102444799, 4102444800,
		4107542399, 4107542400, 253402300799,
	};
	struct timefmt_cache c = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
		check(&c, seconds[i], 0);
		check(&c, seconds[i], 999999);
		check(&c, seconds[i], 1);
	}
	for (uint64_t day = 0; day < 80000; day++)
		check(&c, day * 86400 + day % 86400, (unsigned)(day % 1000000));
}

static void test_example(void **state)
{
	char got[TIMEFMT_HTTP_DATE + 1] = { 0 };

	timefmt_http_date(784111777 * SECOND, got);
	assert_string_equal(got, "Sun, 06 Nov 1994 08:49:37 GMT");
}

static size_t logged(int fd, char *line, size_t max)
{
	ssize_t n = read(fd, line, max - 1);

	if (n < 0)
		n = 0;
	line[n] = '\0';
	return (size_t)n;
}

static void test_log_line(void **state)
{
	char line[8192], big[6000];
	int fd[2];
	size_t n;

	assert_int_equal(pipe(fd), 0);
	log_set_fd(fd[1]);
	log_info("ready", "port=%d text=\"%s\"", 80, "a\nb\x1b[0m\x7f");
	n = logged(fd[0], line, sizeof(line));
	assert_string_equal(line + TIMEFMT_RFC3339_MS,
			    " info ready port=80 text=\"a?b?[0m?\"\n");
	assert_int_equal(line[10], 'T');
	assert_true(n > TIMEFMT_RFC3339_MS);
	log_warn("stop", "%s", "");
	logged(fd[0], line, sizeof(line));
	assert_string_equal(line + TIMEFMT_RFC3339_MS, " warn stop\n");
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	log_error("big", "%s", big);
	n = logged(fd[0], line, sizeof(line));
	assert_true(n <= 4096);
	assert_int_equal(line[n - 1], '\n');
	log_debug("hidden", "x=%d", 1);
	log_set_level(LOG_ERROR);
	log_warn("hidden", "x=%d", 1);
	log_error("shown", "x=%d", 1);
	logged(fd[0], line, sizeof(line));
	assert_string_equal(line + TIMEFMT_RFC3339_MS, " error shown x=1\n");
	log_set_level(LOG_INFO);
	log_set_fd(STDERR_FILENO);
	close(fd[0]);
	close(fd[1]);
}

/* So many in a while; what was left out is told once, by a line or by none. */
static void test_log_limit(void **state)
{
	struct log_limit l = { 0 };
	unsigned left_out = 99;

	for (unsigned i = 0; i < 3; i++) {
		assert_true(log_limit_admits(&l, 1000 + i, 3, 100, &left_out));
		assert_int_equal(left_out, 0);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_false(log_limit_admits(&l, 1099, 3, 100, &left_out));
	assert_int_equal(log_limit_take(&l, 1099), 0);
	assert_true(log_limit_admits(&l, 1100, 3, 100, &left_out));
	assert_int_equal(left_out, 5);
	assert_true(log_limit_admits(&l, 1101, 2, 100, &left_out));
	assert_int_equal(left_out, 0);
	assert_false(log_limit_admits(&l, 1102, 2, 100, &left_out));
	assert_int_equal(log_limit_take(&l, 1200), 1);
	assert_int_equal(log_limit_take(&l, 1201), 0);
}

static void test_words_are_whole(void **state)
{
	for (int i = 0; i < CAUSE_N; i++)
		assert_non_null(cause_names[i]);
	for (int i = 0; i < EVENT_N; i++)
		assert_non_null(event_names[i]);
	for (int i = 0; i < VERDICT_N; i++)
		assert_non_null(verdict_names[i]);
	for (int i = 0; i < ENDED_N; i++)
		assert_non_null(ended_by_names[i]);
	for (int i = 0; i < AGENT_STATE_N; i++)
		assert_non_null(agent_state_names[i]);
	for (int i = 0; i < BREAKER_STATE_N; i++)
		assert_non_null(breaker_state_names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_libc),
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_log_line),
		cmocka_unit_test(test_log_limit),
		cmocka_unit_test(test_words_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
