/* Which servers are out: by what requests find out, and by what checks find
 * out, with listeners of the test's own. */
#include "upstream_fixture.h"

#define SECOND	1000000ull
#define MS	1000u

static struct bench bench;

static int setup(void **state)
{
	struct bench *b = &bench;

	*state = b;
	bench_init(b);
	b->config.timeouts.connect_us = SECOND;
	b->config.timeouts.response_us = SECOND;
	b->config.timeouts.idle_us = SECOND;
	b->config.ejection.failures = 3;
	b->config.ejection.max_percent = 50;
	b->config.ejection.time_us = 10 * SECOND;
	b->config.check.path = "/health";
	b->config.check.host = "h";
	b->config.check.interval_us = MS;
	b->config.check.timeout_us = 5 * SECOND;
	b->config.check.rise = 2;
	b->config.check.fall = 3;
	return 0;
}

static int teardown(void **state)
{
	bench_fini(*state);
	return 0;
}

static void failures(struct bench *b, unsigned i, unsigned n, uint64_t now_us)
{
	while (n-- > 0)
		server_failure(b->u, &b->u->servers[i], now_us, "test");
}

/* A request to server i ended well at b->loop's time. */
static void praise(struct bench *b, unsigned i)
{
	struct upstream_server server = { .info = &b->u->servers[i] };
	struct upstream_conn conn = { .upstream = b->u, .server = &server };
	struct upstream_lease lease = { .conn = &conn, .loop = b->loop };

	upstream_praise(&lease);
}

static bool out(const struct bench *b, unsigned i, uint64_t now_us)
{
	return server_is_out(&b->u->servers[i], now_us);
}

/* ---- what requests find out ---------------------------------------------- */

static void test_failures_in_a_row(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us;

	bench_open(b);
	failures(b, 0, 2, now);
	praise(b, 0);
	failures(b, 0, 2, now);
	assert_false(out(b, 0, now));
	assert_false(b->u->servers[0].down);
	failures(b, 0, 1, now);
	assert_true(out(b, 0, now));
	assert_true(b->u->servers[0].down);
	assert_false(out(b, 1, now));
}

/* After its time it is tried again, and one failure is one too many. */
static void test_on_trial(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us, later = now + 10 * SECOND;

	bench_open(b);
	failures(b, 0, 3, now);
	assert_true(out(b, 0, later - 1));
	assert_false(out(b, 0, later));
	assert_true(b->u->servers[0].down);
	failures(b, 0, 1, later);
	assert_true(out(b, 0, later + 1));
	assert_true(out(b, 0, later + 10 * SECOND - 1));
}

static void test_trial_passed(void **state)
{
	struct bench *b = *state;
	uint64_t past = b->loop->now_us - 20 * SECOND;
	uint64_t now = b->loop->now_us;

	bench_open(b);
	failures(b, 0, 3, past);
	assert_false(out(b, 0, now));
	praise(b, 0);
	assert_false(b->u->servers[0].down);
	/* All its failures are forgotten. */
	failures(b, 0, 2, now);
	assert_false(out(b, 0, now));
}

/* What was under way when it was taken out does not bring it back. */
static void test_late_success(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us;

	bench_open(b);
	failures(b, 0, 3, now);
	praise(b, 0);
	assert_true(out(b, 0, now));
	assert_true(b->u->servers[0].down);
}

static void test_cap(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us, later = now + 10 * SECOND;

	bench_open(b);
	for (unsigned i = 0; i < SERVERS; i++)
		failures(b, i, 9, now);
	assert_true(out(b, 0, now) && out(b, 1, now));
	assert_false(out(b, 2, now) || out(b, 3, now));
	/* There is room again. */
	failures(b, 2, 1, later);
	assert_true(out(b, 2, later));
}

static void test_cap_of_one(void **state)
{
	struct bench *b = *state;

	b->config.n_servers = 1;
	bench_open(b);
	failures(b, 0, 100, 1);
	assert_false(out(b, 0, 1));
}

static void test_cap_of_all(void **state)
{
	struct bench *b = *state;

	b->config.ejection.max_percent = 100;
	bench_open(b);
	for (unsigned i = 0; i < SERVERS; i++)
		failures(b, i, 3, 1);
	for (unsigned i = 0; i < SERVERS; i++)
		assert_true(out(b, i, 1));
}

static void test_never(void **state)
{
	struct bench *b = *state;

	b->config.ejection.failures = 0;
	bench_open(b);
	failures(b, 0, 1000, 1);
	assert_false(out(b, 0, 1));
}

/* ---- rise and fall --------------------------------------------------------- */

static void good(struct bench *b, unsigned n)
{
	while (n-- > 0)
		server_check_good(b->u, &b->u->servers[0], b->loop->now_us);
}

static void bad(struct bench *b, unsigned n)
{
	while (n-- > 0)
		server_check_bad(b->u, &b->u->servers[0], "test");
}

static void test_rise_and_fall(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us;

	bench_open(b);
	bad(b, 2);
	good(b, 1);
	bad(b, 2);
	assert_false(out(b, 0, now));
	bad(b, 1);
	assert_true(out(b, 0, now));
	assert_true(b->u->servers[0].down);
	good(b, 1);
	bad(b, 1);
	good(b, 1);
	assert_true(out(b, 0, now));
	good(b, 1);
	assert_false(out(b, 0, now));
	assert_false(b->u->servers[0].down);
}

/* The cap is for guesses; a check knows. */
static void test_checks_know_no_cap(void **state)
{
	struct bench *b = *state;

	b->config.n_servers = 1;
	bench_open(b);
	bad(b, 3);
	assert_true(out(b, 0, 1));
}

/* Checks that have brought it back end an ejection; those that never took it
 * out do not. */
static void test_checks_and_ejection(void **state)
{
	struct bench *b = *state;
	uint64_t now = b->loop->now_us;

	bench_open(b);
	failures(b, 0, 3, now);
	good(b, 5);
	assert_true(out(b, 0, now));
	bad(b, 3);
	good(b, 2);
	assert_false(out(b, 0, now));
	assert_false(b->u->servers[0].down);
}

/* ---- checks ---------------------------------------------------------------- */

static void begin(struct bench *b, enum config_check type)
{
	b->config.n_servers = 1;
	b->config.check.type = type;
	bench_open(b);
	upstream_local_start(b->u, b->loop);
}

static void read_request(struct bench *b, int fd, char *text, size_t size)
{
	size_t n = 0;
	ssize_t got;

	do {
		TURN_UNTIL(b, (got = sock_recv(fd, text + n, size - 1 - n)) !=
			      -EAGAIN);
		assert_true(got > 0);
		n += (size_t)got;
		text[n] = '\0';
	} while (!strstr(text, "\r\n\r\n"));
}

/* One check gets this answer; NULL: its connection is closed. */
static void answer(struct bench *b, const char *text)
{
	char request[1024];
	int fd = take(b, 0);

	read_request(b, fd, request, sizeof(request));
	if (text)
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	else
		close(fd);
	TURN_UNTIL(b, b->u->servers[0].good_checks ||
		      b->u->servers[0].bad_checks);
	if (text)
		close(fd);
}

static void check_good(struct bench *b, const char *text)
{
	b->u->servers[0].good_checks = b->u->servers[0].bad_checks = 0;
	answer(b, text);
	assert_int_equal(b->u->servers[0].good_checks, 1);
}

static void check_bad(struct bench *b, const char *text)
{
	b->u->servers[0].good_checks = b->u->servers[0].bad_checks = 0;
	answer(b, text);
	assert_int_equal(b->u->servers[0].bad_checks, 1);
}

static void test_no_checks(void **state)
{
	struct bench *b = *state;

	begin(b, CHECK_NONE);
	assert_null(b->u->checks);
	loop_turn(b->loop, 0);
	assert_int_equal(b->u->servers[0].good_checks, 0);
}

static void test_tcp(void **state)
{
	struct bench *b = *state;
	struct server_info *info;

	begin(b, CHECK_TCP);
	info = &b->u->servers[0];
	TURN_UNTIL(b, info->good_checks >= 2);
	close(b->listener[0]);
	TURN_UNTIL(b, server_is_out(info, 0));
	assert_true(info->bad_checks >= 3);
	b->listener[0] = sock_listen(&b->servers[0].address.addr, 64);
	assert_true(b->listener[0] >= 0);
	TURN_UNTIL(b, !server_is_out(info, 0));
	assert_true(info->good_checks >= 2);
}

static void test_http_request(void **state)
{
	struct bench *b = *state;
	char text[1024];
	int fd;

	begin(b, CHECK_HTTP);
	fd = take(b, 0);
	read_request(b, fd, text, sizeof(text));
	assert_string_equal(text, "GET /health HTTP/1.1\r\nHost: h\r\n"
			    "User-Agent: agentproxyd\r\n"
			    "Connection: close\r\n\r\n");
	close(fd);
}

static void test_http_host_is_the_address(void **state)
{
	struct bench *b = *state;
	char text[1024], want[NET_ADDR_TEXT + 16];
	int fd;

	b->config.check.host = NULL;
	begin(b, CHECK_HTTP);
	fd = take(b, 0);
	read_request(b, fd, text, sizeof(text));
	snprintf(want, sizeof(want), "\r\nHost: %s\r\n", b->text[0]);
	assert_non_null(strstr(text, want));
	close(fd);
}

static void test_http_answers(void **state)
{
	struct bench *b = *state;

	begin(b, CHECK_HTTP);
	check_good(b, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	check_good(b, "HTTP/1.1 204 No\r\n\r\n");
	check_good(b, "HTTP/1.1 302 Go\r\nLocation: /\r\n"
		   "Content-Length: 3\r\n\r\nabc");
	check_good(b, "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n"
		   "Content-Length: 0\r\n\r\n");
	/* Of a body it waits for nothing. */
	check_good(b, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	check_bad(b, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n");
	check_bad(b, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
	check_bad(b, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
		  "Content-Length: 2\r\n\r\na");
	check_bad(b, "SSH-2.0-OpenSSH\r\n");
	check_bad(b, NULL);
}

static void test_http_timeout(void **state)
{
	struct bench *b = *state;
	char text[1024];
	int fd;

	b->config.check.timeout_us = 10 * MS;
	begin(b, CHECK_HTTP);
	fd = take(b, 0);
	read_request(b, fd, text, sizeof(text));
	TURN_UNTIL(b, b->u->servers[0].bad_checks == 1);
	/* It is not left open. */
	assert_int_equal(read(fd, text, 1), 0);
	close(fd);
}

/* Only one worker tries servers out. */
static void test_other_worker(void **state)
{
	struct bench *b = *state;
	struct loop *other = loop_new(1);

	b->config.n_servers = 1;
	b->config.check.type = CHECK_TCP;
	bench_open(b);
	assert_non_null(other);
	upstream_local_start(b->u, other);
	loop_turn(other, 0);
	assert_null(b->u->check_loop);
	loop_free(other);
}

/* One that is under way ends with its group. */
static void test_stop(void **state)
{
	struct bench *b = *state;
	char text[1024];
	int fd;

	begin(b, CHECK_HTTP);
	fd = take(b, 0);
	read_request(b, fd, text, sizeof(text));
	checks_stop(b->u, b->loop);
	loop_turn(b->loop, 0);
	assert_true(read(fd, text, 1) <= 0);
	assert_int_equal(b->u->servers[0].bad_checks, 0);
	close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_failures_in_a_row), T(test_on_trial),
		T(test_trial_passed), T(test_late_success), T(test_cap),
		T(test_cap_of_one), T(test_cap_of_all), T(test_never),
		T(test_rise_and_fall), T(test_checks_know_no_cap),
		T(test_checks_and_ejection), T(test_no_checks), T(test_tcp),
		T(test_http_request), T(test_http_host_is_the_address),
		T(test_http_answers), T(test_http_timeout),
		T(test_other_worker), T(test_stop),
	};

	return cmocka_run_group_tests_name("upstream_health", tests, NULL,
					   NULL);
}
