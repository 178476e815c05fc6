/* The client's side of h1/: requests out, responses in. */
#include "h1_fixture.h"

#define REQUEST	"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"

static struct field host_field = {
	.name = "Host: x\r\n", .name_len = 4, .id = HTTP_FIELD_HOST,
	.value_len = 1, .flags = FIELD_LINE,
};

static struct http_head request(const char *method)
{
	host_field.value = host_field.name + 6;
	return (struct http_head){
		.method = slice_str(method),
		.method_id = (uint8_t)http_method_lookup(slice_str(method)),
		.path = SLICE("/a?b"), .minor = 1, .keep_alive = true,
		.fields = &host_field, .n_fields = 1, .cap_fields = 1,
	};
}

static void rig_open(struct rig *r, int family)
{
	struct net_addr addr, from;
	int fd;

	rig_init(r);
	memset(&addr, 0, sizeof(addr));
	if (family == AF_INET) {
		addr.len = sizeof(addr.in);
		addr.in.sin_family = AF_INET;
		addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else {
		addr.len = sizeof(addr.un);
		addr.un.sun_family = AF_UNIX;
		snprintf(addr.un.sun_path, sizeof(addr.un.sun_path),
			 "/tmp/test_h1_client.%d", getpid());
	}
	fd = sock_listen(&addr, 8);
	assert_true(fd >= 0);
	if (family == AF_INET)
		assert_int_equal(getsockname(fd, &addr.sa, &addr.len), 0);
	assert_int_equal(h1_connect(&r->conn, r->loop, &addr, &r->settings,
				    &rig_events), 0);
	assert_log(r, "");
	rig_watch(r);
	rig_wait(r, "connect");
	assert_log(r, "connect:0 ");
	r->peer = sock_accept(fd, &from);
	assert_true(r->peer >= 0);
	close(fd);
	if (family == AF_UNIX)
		unlink(addr.un.sun_path);
	rig_clear_log(r);
	assert_int_equal(r->conn.state, H1_IDLE);
}

static int setup(void **state)
{
	static struct rig r;

	*state = &r;
	rig_open(&r, AF_UNIX);
	return 0;
}

static int setup_tcp(void **state)
{
	static struct rig r;

	*state = &r;
	rig_open(&r, AF_INET);
	return 0;
}

static int teardown(void **state)
{
	rig_fini(*state);
	return 0;
}

static void peer_close(struct rig *r, bool hard)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (hard)
		setsockopt(r->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(r->peer);
	r->peer = -1;
}

static void send_request(struct rig *r, const char *method)
{
	struct http_head h = request(method);

	rig_clear_log(r);
	rig_clear_wire(r);
	h1_begin_request(&r->conn, (enum http_method)h.method_id);
	put_head(r, &h);
	put_end(r);
	rig_run(r);
}

/* One whole exchange, answered by `answer`. */
static void exchange(struct rig *r, const char *method, const char *answer)
{
	send_request(r, method);
	rig_say(r, answer);
	rig_run(r);
}

static void test_get(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_wire(r, REQUEST);
	assert_log(r, "flushed head:200 ok end ");
	assert_true(h1_reusable(&r->conn));
	h1_next(&r->conn);
	assert_int_equal(r->conn.state, H1_IDLE);
	exchange(r, "GET", "HTTP/1.1 204 No\r\n\r\n");
	assert_log(r, "flushed head:204  end ");
	assert_true(h1_reusable(&r->conn));
}

static void test_every_split(void **state)
{
	static const char answer[] =
		"HTTP/1.1 100 Continue\r\n\r\n"
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		"4;a=\"b\"\r\nwiki\r\n5\r\npedia\r\n0\r\nA: b\r\nC: d\r\n\r\n";
	struct rig *r = *state;

	for (size_t cut = 0; cut < sizeof(answer); cut++) {
		send_request(r, "GET");
		rig_say_n(r, answer, cut);
		rig_run(r);
		rig_say_n(r, answer + cut, sizeof(answer) - 1 - cut);
		rig_run(r);
		assert_log(r, "flushed head:100 head:103 head:200 wikipedia "
			      "trailers:2 end ");
		assert_true(h1_reusable(&r->conn));
		h1_next(&r->conn);
	}
}

static void test_request_bodies(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");

	h1_begin_request(&r->conn, HTTP_POST);
	h.framing = HTTP_BODY_LENGTH;
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "POST /a?b HTTP/1.1\r\nHost: x\r\n"
		       "Content-Length: 0\r\n\r\n");
	rig_say(r, "HTTP/1.1 204 No\r\n\r\n");
	rig_run(r);
	h1_next(&r->conn);
	rig_clear_wire(r);
	h1_begin_request(&r->conn, HTTP_POST);
	h.framing = HTTP_BODY_CHUNKED;
	h.te_trailers = true;
	put_head(r, &h);
	put_text(r, "hello");
	rig_run(r);
	put_text(r, "x");
	put_end(r);
	rig_run(r);
	assert_wire(r, "POST /a?b HTTP/1.1\r\nHost: x\r\n"
		       "Transfer-Encoding: chunked\r\nTE: trailers\r\n"
		       "Connection: TE\r\n\r\n5\r\nhello\r\n1\r\nx\r\n"
		       "0\r\n\r\n");
}

static void test_head_request(void **state)
{
	struct rig *r = *state;

	exchange(r, "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
	assert_log(r, "flushed head:200  end ");
	assert_true(h1_reusable(&r->conn));
	h1_next(&r->conn);
	exchange(r, "GET", "HTTP/1.1 304 Not\r\nContent-Length: 99\r\n\r\n");
	assert_log(r, "flushed head:304  end ");
	assert_true(h1_reusable(&r->conn));
}

static void test_until_close(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.0 200 OK\r\n\r\nabc");
	assert_log(r, "flushed head:200 abc");
	rig_say(r, "def");
	peer_close(r, false);
	rig_run(r);
	assert_log(r, "flushed head:200 abcdef end ");
	assert_false(h1_reusable(&r->conn));
}

/* A reset is no end of a body until close. */
static void test_until_close_reset(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\n\r\nabc");
	rig_wait(r, "abc");
	peer_close(r, true);
	rig_wait(r, "abort");
	assert_log(r, "flushed head:200 abcabort:reset ");
}

static void test_close_header(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
			   "Connection: close\r\n\r\nok");
	assert_log(r, "flushed head:200 ok end ");
	assert_false(h1_reusable(&r->conn));
}

static void test_extra_bytes(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
			   "HTTP/1.1 200 OK\r\n\r\n");
	assert_log(r, "flushed head:200 ok end ");
	assert_false(h1_reusable(&r->conn));
}

static void test_eof_with_answer(void **state)
{
	struct rig *r = *state;

	send_request(r, "GET");
	rig_say(r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	peer_close(r, false);
	rig_run(r);
	assert_log(r, "flushed head:200 ok end ");
	assert_false(h1_reusable(&r->conn));
}

/* Whether any byte came decides about a retry. */
static void test_eof_before_head(void **state)
{
	struct rig *r = *state;

	send_request(r, "GET");
	peer_close(r, false);
	rig_wait(r, "abort");
	assert_log(r, "flushed abort:eof ");
	assert_false(r->conn.got_bytes);
}

static void test_eof_in_head(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 2");
	assert_true(r->conn.got_bytes);
	peer_close(r, false);
	rig_wait(r, "abort");
	assert_log(r, "flushed abort:eof ");
}

static void test_eof_in_body(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\n"
			   "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
	peer_close(r, false);
	rig_wait(r, "abort");
	assert_log(r, "flushed head:200 helloabort:eof ");
}

static void test_malformed(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
			   "Transfer-Encoding: chunked\r\n\r\n");
	assert_memory_equal(r->log, "flushed abort:malformed:", 24);
}

/* The response may come, whole, before the request has gone. */
static void test_early_response(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");

	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 10;
	h1_begin_request(&r->conn, HTTP_POST);
	put_head(r, &h);
	put_text(r, "12345");
	rig_run(r);
	rig_say(r, "HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n");
	rig_run(r);
	assert_log(r, "head:413  end ");
	assert_false(h1_reusable(&r->conn));
	put_text(r, "67890");
	put_end(r);
	rig_run(r);
	assert_log(r, "head:413  end flushed ");
	assert_true(h1_reusable(&r->conn));
}

/* What the server said before it closed on us is read. */
static void test_write_fails(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");
	char *big = calloc(1, 65536);

	h.framing = HTTP_BODY_CHUNKED;
	h1_begin_request(&r->conn, HTTP_POST);
	put_head(r, &h);
	rig_run(r);
	rig_say(r, "HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig");
	peer_close(r, false);
	/* Not told of the response yet: writing is what finds out first. */
	for (int i = 0; i < 100 && !strstr(r->log, "fail"); i++) {
		put_data(r, big, 65536);
		stream_flush_now(&r->conn.stream);
		rig_run(r);
	}
	rig_wait(r, "end");
	assert_non_null(strstr(r->log, "fail:reset"));
	assert_non_null(strstr(r->log, "head:413 big end "));
	free(big);
}

/* ... but not waited for without end. */
static void test_write_fails_no_answer(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");

	r->settings.head_us = 50000;
	h.framing = HTTP_BODY_CHUNKED;
	h1_begin_request(&r->conn, HTTP_POST);
	put_head(r, &h);
	rig_run(r);
	shutdown(r->peer, SHUT_RD);
	put_text(r, "abc");
	rig_run(r);
	assert_log(r, "fail:reset ");
	rig_wait(r, "abort");
	assert_log(r, "fail:reset abort:timeout ");
}

/* ---- idle ---------------------------------------------------------------- */

static void test_idle_eof(void **state)
{
	struct rig *r = *state;

	exchange(r, "GET", "HTTP/1.1 204 No\r\n\r\n");
	h1_next(&r->conn);
	rig_clear_log(r);
	peer_close(r, false);
	rig_wait(r, "close");
	assert_log(r, "close:eof ");
	/* Somebody had taken it in the same turn. */
	h1_begin_request(&r->conn, HTTP_GET);
	put_head(r, &(struct http_head){ .status = 0 });
	put_end(r);
	assert_log(r, "close:eof ");
	rig_run(r);
	assert_log(r, "close:eof abort:eof ");
	assert_false(r->conn.got_bytes);
}

static void test_idle_garbage(void **state)
{
	struct rig *r = *state;

	rig_say(r, "HTTP/1.1 408 Timeout\r\n\r\n");
	rig_run(r);
	assert_log(r, "close:malformed ");
}

static void test_idle_holds_no_block(void **state)
{
	struct rig *r = *state;
	uint64_t till = sock_clock_us() + 5000000;

	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	h1_next(&r->conn);
	while (r->loop->blocks.live && sock_clock_us() < till)
		loop_turn(r->loop, 10000);
	assert_int_equal(r->loop->blocks.live, 0);
}

/* ---- time ---------------------------------------------------------------- */

static void test_response_timeout(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");

	r->settings.head_us = 50000;
	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 2;
	h1_begin_request(&r->conn, HTTP_POST);
	put_head(r, &h);
	/* The time begins when the request has ended. */
	for (int i = 0; i < 8; i++)
		loop_turn(r->loop, 10000);
	assert_log(r, "");
	put_text(r, "ab");
	put_end(r);
	rig_wait(r, "abort");
	assert_log(r, "flushed abort:timeout ");
}

/* Interim responses do not buy time. */
static void test_interim_timeout(void **state)
{
	struct rig *r = *state;
	uint64_t start = sock_clock_us();

	r->settings.head_us = 50000;
	send_request(r, "GET");
	while (!strstr(r->log, "abort") && sock_clock_us() < start + 5000000) {
		if (strlen(r->log) < 8000)
			(void)!send(r->peer, "HTTP/1.1 102 P\r\n\r\n", 18,
				    MSG_NOSIGNAL);
		loop_turn(r->loop, 0);
		usleep(4000);
	}
	assert_non_null(strstr(r->log, "head:102 abort:timeout"));
	assert_true(sock_clock_us() - start < 1000000);
}

/* And start no clock while the request is still on its way. */
static void test_interim_before_end(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("POST");

	h.framing = HTTP_BODY_CHUNKED;
	r->settings.head_us = 20000;
	h1_begin_request(&r->conn, (enum http_method)h.method_id);
	put_head(r, &h);
	rig_run(r);
	assert_true(send(r->peer, "HTTP/1.1 100 Continue\r\n\r\n", 25,
			 MSG_NOSIGNAL) == 25);
	rig_wait(r, "head:100");
	assert_false(deadline_running(&r->conn.read_deadline));
	put_text(r, "ab");
	put_end(r);
	rig_wait(r, "flushed");
	assert_true(deadline_running(&r->conn.read_deadline));
}

static void test_interim_flood(void **state)
{
	struct rig *r = *state;

	send_request(r, "GET");
	for (unsigned i = 0; i < H1_INTERIMS_MAX; i++)
		rig_say(r, "HTTP/1.1 102 P\r\n\r\n");
	rig_run(r);
	assert_int_equal(r->n_heads, H1_INTERIMS_MAX);
	assert_null(strstr(r->log, "abort"));
	rig_say(r, "HTTP/1.1 102 P\r\n\r\n");
	rig_run(r);
	assert_int_equal(r->n_heads, H1_INTERIMS_MAX);
	assert_non_null(strstr(r->log, "abort:malformed"));
}

static void test_body_timeout(void **state)
{
	struct rig *r = *state;

	r->settings.body_us = 30000;
	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
	rig_wait(r, "abort");
	assert_log(r, "flushed head:200 ababort:timeout ");
}

/* ---- callbacks ----------------------------------------------------------- */

static void next_inside(struct rig *r)
{
	h1_next(&r->conn);
}

static void test_next_in_end(void **state)
{
	struct rig *r = *state;

	r->in_end = next_inside;
	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(r->conn.state, H1_IDLE);
	exchange(r, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_log(r, "flushed head:200 ok end ");
}

static void close_inside(struct rig *r)
{
	h1_close(&r->conn, false);
}

static void close_in_head(struct rig *r, const struct http_head *head)
{
	h1_close(&r->conn, false);
}

static void test_close_inside(void **state)
{
	static const char answer[] =
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		"2\r\nok\r\n0\r\n\r\n";
	static const char *const logs[] = {
		"flushed ", "flushed head:200 ", "flushed head:200 ok",
		"flushed head:200 ok end ",
	};
	struct rig *r = *state;

	for (int i = 0; i < 4; i++) {
		if (i) {
			rig_fini(r);
			rig_open(r, AF_UNIX);
		}
		if (i == 0)
			r->in_flushed = close_inside;
		else if (i == 1)
			r->in_head = close_in_head;
		else if (i == 2)
			r->in_data = close_inside;
		else
			r->in_end = close_inside;
		send_request(r, "GET");
		(void)!send(r->peer, answer, strlen(answer), MSG_NOSIGNAL);
		rig_run(r);
		assert_log(r, logs[i]);
	}
}

static void pause_inside(struct rig *r, const struct http_head *head)
{
	r->conn.source.ops->pause(&r->conn.source);
}

/* Paused by an interim head: the final one waits. */
static void test_pause_in_interim(void **state)
{
	struct rig *r = *state;

	r->in_head = pause_inside;
	exchange(r, "GET", "HTTP/1.1 103 Early\r\n\r\n"
			   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_log(r, "flushed head:103 ");
	r->conn.source.ops->resume(&r->conn.source);
	rig_run(r);
	assert_log(r, "flushed head:103 head:200 ");
	peer_close(r, false);
	rig_run(r);
	assert_log(r, "flushed head:103 head:200 ");
	r->conn.source.ops->resume(&r->conn.source);
	rig_run(r);
	assert_log(r, "flushed head:103 head:200 ok end ");
}

static void test_upgrade(void **state)
{
	struct rig *r = *state;
	struct http_head h = request("GET");

	h.upgrade = SLICE("websocket");
	h1_begin_request(&r->conn, HTTP_GET);
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "GET /a?b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
		       "Connection: upgrade\r\n\r\n");
	rig_say(r, "HTTP/1.1 101 Yes\r\nConnection: upgrade\r\n"
		   "Upgrade: websocket\r\n\r\n");
	rig_run(r);
	assert_false(h1_reusable(&r->conn));
	rig_say(r, "hello");
	rig_run(r);
	assert_log(r, "flushed head:101  end ");
	assert_false(h1_reusable(&r->conn));
	h1_detach(&r->conn);
	assert_int_equal(stream_data(&r->conn.stream).n, 5);
}

static void test_refused(void **state)
{
	struct rig *r = *state;
	struct net_addr addr;

	h1_close(&r->conn, false);
	loop_turn(r->loop, 0);
	memset(&addr, 0, sizeof(addr));
	addr.len = sizeof(addr.in);
	addr.in.sin_family = AF_INET;
	addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.in.sin_port = htons(1);
	if (h1_connect(&r->conn, r->loop, &addr, &r->settings, &rig_events))
		return;
	rig_wait(r, "connect");
	assert_int_equal(atoi(r->log + 8), -ECONNREFUSED);
}

#define T(name)		cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_TCP(name)	cmocka_unit_test_setup_teardown(name, setup_tcp, \
							teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_get), T_TCP(test_get), T(test_every_split),
		T(test_request_bodies), T(test_head_request),
		T(test_until_close), T_TCP(test_until_close_reset),
		T(test_close_header), T(test_extra_bytes),
		T(test_eof_with_answer), T(test_eof_before_head),
		T(test_eof_in_head), T(test_eof_in_body), T(test_malformed),
		T(test_early_response), T(test_write_fails),
		T(test_write_fails_no_answer),
		T(test_idle_eof), T(test_idle_garbage),
		T(test_idle_holds_no_block), T(test_response_timeout),
		T(test_interim_timeout), T(test_interim_flood),
		T(test_interim_before_end),
		T(test_body_timeout),
		T(test_next_in_end), T(test_close_inside),
		T(test_pause_in_interim), T(test_upgrade), T(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
