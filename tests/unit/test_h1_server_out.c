/* The server's side of h1/: responses, time-outs, and ends. */
#include "h1_server_fixture.h"

/* ---- responses ----------------------------------------------------------- */

static void test_chunked_out(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200), trailers = { 0 };
	struct field t = { .name = "T", .name_len = 1, .value = "v",
			   .value_len = 1 };
	char big[600];

	memset(big, 'b', sizeof(big));
	r->in_flushed = go_on;
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.framing = HTTP_BODY_CHUNKED;
	put_head(r, &h);
	put_text(r, "abc");
	put_data(r, big, sizeof(big));
	trailers.fields = &t;
	trailers.n_fields = 1;
	r->conn.sink.ops->end(&r->conn.sink, &trailers);
	rig_run(r);
	assert_memory_equal(r->wire, "HTTP/1.1 200 OK\r\nDate: now\r\n"
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n258\r\nbbb", 74);
	assert_string_equal(r->wire + r->n_wire - 16,
			    "bbb\r\n0\r\nT: v\r\n\r\n");
	assert_int_equal(r->conn.state, H1_IDLE);
}

/* To HTTP/1.0 a chunked body goes until close. */
static void test_http10(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);

	ask(r, "GET /a HTTP/1.0\r\n\r\n");
	h.framing = HTTP_BODY_CHUNKED;
	put_head(r, &h);
	put_text(r, "abc");
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 200 OK\r\nDate: now\r\n"
		       "Connection: close\r\n\r\nabc");
	/* The end is said at once, not when the exchange is over. */
	assert_true(r->wire_eof);
	h1_next(&r->conn);
	assert_int_equal(r->conn.state, H1_LINGER);
}

static void test_http10_keep_alive(void **state)
{
	struct rig *r = *state;

	serve(r);
	ask(r, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_wire(r, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n"
		       "Connection: keep-alive\r\n\r\nok");
	ask(r, "GET /a HTTP/1.0\r\n\r\n");
	assert_wire(r, OK_CLOSE);
	assert_true(r->wire_eof);
}

static void test_no_body(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);

	r->in_flushed = go_on;
	ask(r, "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 5;
	put_head(r, &h);
	put_text(r, "abcde");
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 200 OK\r\nDate: now\r\n"
		       "Content-Length: 5\r\n\r\n");
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h = response(204);
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n");
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h = response(304);
	h.has_content_length = true;
	h.content_length = 7;
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 304 Not Modified\r\nDate: now\r\n"
		       "Content-Length: 7\r\n\r\n");
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h = response(404);
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 404 Not Found\r\nDate: now\r\n"
		       "Content-Length: 0\r\n\r\n");
	assert_int_equal(r->conn.state, H1_IDLE);
}

static void test_date(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(204);

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.n_fields = 0;
	h.present = 0;
	h.reason = SLICE("Gone Fishing");
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_memory_equal(r->wire, "HTTP/1.1 204 Gone Fishing\r\nDate: ",
			    33);
	assert_string_equal(r->wire + 33 + 26, "GMT\r\n\r\n");
}

/* Lines that stand together are copied together; an edit that forgot the flag
 * is not written as it was. */
static void test_field_lines(void **state)
{
	static const char lines[] = "A: 1\r\nBb: 22\r\nC:  3\r\nD: 4\r\n";
	struct field f[] = {
		{ .name = lines, .name_len = 1, .value = lines + 3,
		  .value_len = 1, .flags = FIELD_LINE },
		{ .name = lines + 6, .name_len = 2, .value = lines + 10,
		  .value_len = 2, .flags = FIELD_LINE },
		{ .name = lines + 14, .name_len = 1, .value = lines + 18,
		  .value_len = 1 },
		{ .name = lines + 21, .name_len = 1, .value = "edited",
		  .value_len = 6, .flags = FIELD_LINE },
		{ .name = lines, .name_len = 1, .value = lines + 3,
		  .value_len = 1, .flags = FIELD_LINE },
		{ .name = lines, .name_len = 1, .value = lines + 3,
		  .value_len = 1, .flags = FIELD_LINE },
	};
	struct rig *r = *state;
	struct http_head h = response(204);

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.fields = f;
	h.n_fields = 6;
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 204 No Content\r\nA: 1\r\nBb: 22\r\nC: 3\r\n"
		       "D: edited\r\nA: 1\r\nA: 1\r\n\r\n");
}

static void test_continue(void **state)
{
	struct rig *r = *state;

	serve(r);
	ask(r, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
	       "Expect: 100-continue\r\n\r\n");
	h1_send_continue(&r->conn);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 100 Continue\r\n\r\n");
	rig_clear_wire(r);
	rig_say(r, "abc");
	rig_run(r);
	assert_wire(r, OK_KEPT);
	/* Interim heads come from upstreams too. */
	r->in_end = NULL;
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	put_head(r, &(struct http_head){ .status = 103 });
	answer_ok(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 103 Early Hints\r\n\r\n" OK_KEPT);
	ask(r, "GET /a HTTP/1.0\r\n\r\n");
	put_head(r, &(struct http_head){ .status = 103 });
	answer_ok(r);
	rig_run(r);
	assert_wire(r, OK_CLOSE);
}

static void answer_in_head(struct rig *r, const struct http_head *head)
{
	answer_ok(r);
}

/* Answered before the body is here: the connection can't go on. */
static void test_early_answer(void **state)
{
	struct rig *r = *state;

	r->in_head = answer_in_head;
	r->in_flushed = go_on;
	ask(r, "POST /a HTTP/1.1\r\nHost: x\r\n"
	       "Content-Length: 99999\r\n\r\nab");
	assert_wire(r, OK_CLOSE);
	assert_true(r->wire_eof);
	assert_int_equal(r->conn.state, H1_LINGER);
	/* More of it is dropped, up to a limit. */
	rig_clear_log(r);
	rig_say(r, "cdefghij");
	rig_run(r);
	assert_log(r, "");
	for (int i = 0; i < 9; i++) {
		char junk[8192] = { 0 };

		(void)!send(r->peer, junk, sizeof(junk), MSG_NOSIGNAL);
		loop_turn(r->loop, 0);
	}
	rig_run(r);
	assert_log(r, "close:eof ");
}

static void answer_and_pause(struct rig *r, const struct http_head *head)
{
	answer_ok(r);
	pause_source(r);
}

/* ... but if it is, it does, whether somebody has read it or not. */
static void test_answer_unread_body(void **state)
{
	struct rig *r = *state;

	r->in_head = answer_and_pause;
	r->in_flushed = go_on;
	ask(r, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n(;)"
	       "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_log(r, "begin head:/a flushed begin head:/b flushed ");
	assert_wire(r, OK_KEPT OK_KEPT);
}

static void test_linger_time(void **state)
{
	struct rig *r = *state;
	uint64_t start = sock_clock_us();

	serve(r);
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_wire(r, OK_CLOSE);
	assert_true(r->wire_eof);
	rig_wait(r, "close:eof");
	assert_true(sock_clock_us() - start >= H1_LINGER_US);
}

static void abort_after(struct rig *r, unsigned framing)
{
	struct http_head h = response(200);

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.framing = (uint8_t)framing;
	h.content_length = 10;
	put_head(r, &h);
	put_text(r, "abc");
	rig_wait(r, "end");
	r->conn.sink.ops->abort(&r->conn.sink);
	h1_next(&r->conn);
	rig_wait(r, "close");
	while (!r->wire_eof && !r->wire_reset)
		rig_hear(r);
}

static void test_abort_chunked(void **state)
{
	struct rig *r = *state;

	abort_after(r, HTTP_BODY_CHUNKED);
	assert_true(r->wire_reset);
	assert_null(strstr(r->wire, "0\r\n\r\n"));
}

static void test_abort_close(void **state)
{
	struct rig *r = *state;

	abort_after(r, HTTP_BODY_CLOSE);
	assert_true(r->wire_reset);
}

static void test_abort_length(void **state)
{
	struct rig *r = *state;

	abort_after(r, HTTP_BODY_LENGTH);
	assert_true(r->wire_eof);
	assert_string_equal(r->wire + r->n_wire - 7, "\r\n\r\nabc");
}

/* An end that comes short is a cut. */
static void test_short_end(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 10;
	put_head(r, &h);
	put_text(r, "abc");
	put_end(r);
	h1_linger(&r->conn);
	rig_run(r);
	assert_true(r->wire_eof);
	assert_non_null(strstr(r->log, "close"));
}

static void test_abort_no_head(void **state)
{
	struct rig *r = *state;

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	r->conn.sink.ops->abort(&r->conn.sink);
	rig_run(r);
	assert_wire(r, "");
	assert_true(r->wire_eof);
	h1_close(&r->conn, false);
}

/* ---- time ---------------------------------------------------------------- */

static void test_idle_timeout(void **state)
{
	struct rig *r = *state;

	h1_close(&r->conn, false);
	close(r->peer);
	rig_fini(&(struct rig){ .loop = r->loop, .wire = r->wire, .peer = -1 });
	setup_with(r, AF_UNIX);
	r->settings.idle_us = 20000;
	serve(r);
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_wait(r, "flushed");
	rig_wait(r, "close");
	assert_log(r, "begin head:/a  end flushed close:timeout ");
}

static void test_head_timeout(void **state)
{
	struct rig *r = *state;
	uint64_t start;

	r->settings.head_us = 60000;
	r->in_abort = answer_bad;
	start = sock_clock_us();
	rig_say(r, "GET /a HTTP/1.1\r\n");
	/* Dripping does not help. */
	while (!strstr(r->log, "abort") && sock_clock_us() < start + 5000000) {
		(void)!send(r->peer, "A", 1, MSG_NOSIGNAL);
		loop_turn(r->loop, 0);
		usleep(1000);
	}
	assert_true(sock_clock_us() - start < 1000000);
	rig_run(r);
	assert_memory_equal(r->log, "begin abort:timeout ", 20);
	assert_memory_equal(r->wire, "HTTP/1.1 408 ", 13);
}

/* What is in the socket when the time is over is looked at, and that is all. */
static void test_head_timeout_late(void **state)
{
	struct rig *r = *state;

	rig_say(r, "GET /a HTTP/1.1\r\n");
	rig_run(r);
	rig_say(r, "Host: x\r\n");
	deadline_stop(&r->conn.read_deadline);
	r->conn.read_deadline.fn(&r->conn.read_deadline);
	assert_log(r, "begin ");
	rig_run(r);
	assert_log(r, "begin abort:timeout ");
}

static void test_head_just_in_time(void **state)
{
	struct rig *r = *state;

	rig_say(r, "GET /a HTTP/1.1\r\n");
	rig_run(r);
	rig_say(r, "Host: x\r\n\r\n");
	deadline_stop(&r->conn.read_deadline);
	r->conn.read_deadline.fn(&r->conn.read_deadline);
	rig_run(r);
	assert_log(r, "begin head:/a  end ");
}

static void test_body_timeout(void **state)
{
	struct rig *r = *state;

	r->settings.body_us = 30000;
	rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
	rig_wait(r, "head");
	assert_true(deadline_running(&r->conn.read_deadline));
	pause_source(r);
	/* While we don't read it is not the peer's fault. */
	for (int i = 0; i < 10; i++)
		loop_turn(r->loop, 10000);
	assert_log(r, "begin head:/a ");
	r->conn.source.ops->resume(&r->conn.source);
	rig_wait(r, "abort");
	assert_log(r, "begin head:/a abort:timeout ");
}

static void test_send_timeout(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);
	char *big = calloc(1, MEGA);
	uint64_t start;

	r->settings.send_us = 40000;
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 4 * MEGA;
	put_head(r, &h);
	for (int i = 0; i < 4; i++)
		put_data(r, big, MEGA);
	put_end(r);
	start = sock_clock_us();
	while (!strstr(r->log, "fail") && sock_clock_us() < start + 5000000)
		loop_turn(r->loop, 20000);
	assert_log(r, "begin head:/a  end fail:timeout ");
	assert_true(sock_clock_us() - start >= 39000);
	free(big);
}

/* ---- ends ---------------------------------------------------------------- */

static void test_drain_idle(void **state)
{
	struct rig *r = *state;

	h1_drain(&r->conn);
	assert_log(r, "");
	rig_run(r);
	assert_log(r, "close:eof ");
	assert_true(r->wire_eof);
}

static void test_drain_busy(void **state)
{
	struct rig *r = *state;

	r->in_flushed = go_on;
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	h1_drain(&r->conn);
	answer_ok(r);
	rig_run(r);
	assert_wire(r, OK_CLOSE);
	assert_true(r->wire_eof);
}

/* A closed connection leaves nothing in the loop: its memory may go. */
static void test_close_leaves_nothing(void **state)
{
	struct rig *r = *state;

	r->in_head = pause_in_head;
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	r->conn.source.ops->resume(&r->conn.source);
	answer_ok(r);
	h1_close(&r->conn, false);
	assert_false(list_linked(&r->conn.task.node));
	assert_false(deadline_running(&r->conn.read_deadline));
	assert_false(deadline_running(&r->conn.send_deadline));
	rig_run(r);
	assert_log(r, "begin head:/a ");
}

static void close_conn(struct rig *r)
{
	h1_close(&r->conn, r->count % 2);
}

static void close_in_head(struct rig *r, const struct http_head *head)
{
	close_conn(r);
}

static void close_in_abort(struct rig *r, enum message_fault why,
			   enum http_parse fault)
{
	close_conn(r);
}

/* Closing is allowed everywhere; nothing is told after it. */
static void test_close_inside(void **state)
{
	static const char *const logs[] = {
		"begin ", "begin head:/a ", "begin head:/a abc",
		"begin head:/a abc end ", "begin head:/a abc end flushed ",
		"begin head:/a abc end flushed begin abort:malformed:",
	};
	struct rig *r = *state;

	for (unsigned i = 0; i < 6; i++) {
		if (i) {
			close(r->peer);
			rig_fini(&(struct rig){ .loop = r->loop,
						.wire = r->wire,
						.peer = -1 });
			setup_with(r, AF_UNIX);
		}
		serve(r);
		r->count = i;
		if (i == 0)
			r->in_begin = close_conn;
		else if (i == 1)
			r->in_head = close_in_head;
		else if (i == 2)
			r->in_data = close_conn;
		else if (i == 3)
			r->in_end = close_conn;
		else if (i == 4)
			r->in_flushed = close_conn;
		else
			r->in_abort = close_in_abort;
		rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\n"
			   "Content-Length: 3\r\n\r\nabcBAD\r\n\r\n");
		rig_run(r);
		if (i < 5)
			assert_log(r, logs[i]);
		else
			assert_memory_equal(r->log, logs[i], strlen(logs[i]));
		assert_true(r->wire_eof || r->wire_reset);
	}
}

static char tunnel[64];

static void on_tunnel_read(struct stream *s)
{
	struct slice d = stream_data(s);

	snprintf(tunnel + strlen(tunnel), sizeof(tunnel) - strlen(tunnel),
		 "%.*s", SLICE_FMT(d));
	stream_consume(s, d.n);
}

static const struct stream_events tunnel_events = {
	.on_read = on_tunnel_read,
};

static void detach(struct rig *r)
{
	h1_detach(&r->conn);
	stream_set_events(&r->conn.stream, &tunnel_events);
}

static void test_upgrade(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(101);

	tunnel[0] = 0;
	r->in_flushed = detach;
	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
	       "Upgrade: websocket\r\n\r\nearly");
	h.upgrade = SLICE("websocket");
	put_head(r, &h);
	put_end(r);
	rig_run(r);
	assert_wire(r, "HTTP/1.1 101 Switching Protocols\r\nDate: now\r\n"
		       "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n");
	assert_string_equal(tunnel, "early");
	rig_say(r, " late");
	rig_run(r);
	assert_string_equal(tunnel, "early late");
	assert_log(r, "begin head:/a  end flushed ");
}

static bool no_memory;

static bool refuse(size_t bytes)
{
	return no_memory;
}

static void test_no_memory(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);

	ask(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	mem_fault = refuse;
	no_memory = true;
	/* Too large for any block of the pool. */
	h.reason = (struct slice){ calloc(1, 200000), 200000 };
	put_head(r, &h);
	assert_log(r, "begin head:/a  end ");
	no_memory = false;
	rig_run(r);
	assert_log(r, "begin head:/a  end fail:no_memory ");
	free((char *)(uintptr_t)h.reason.p);
	mem_fault = NULL;
}

static void test_size(void **state)
{
	/* Ten thousand idle ones are to be cheap. */
	assert_true(sizeof(struct h1_conn) <= 600);
	print_message("struct h1_conn: %zu bytes\n", sizeof(struct h1_conn));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_chunked_out), T(test_http10), T(test_http10_keep_alive),
		T(test_no_body), T(test_date), T(test_field_lines),
		T(test_continue), T(test_early_answer),
		T(test_answer_unread_body), T(test_linger_time),
		T_TCP(test_abort_chunked), T_TCP(test_abort_close),
		T_TCP(test_abort_length), T(test_short_end),
		T(test_abort_no_head), T(test_idle_timeout),
		T(test_head_timeout), T(test_head_timeout_late),
		T(test_head_just_in_time), T(test_close_leaves_nothing),
		T(test_body_timeout), T(test_send_timeout), T(test_drain_idle),
		T(test_drain_busy), T(test_close_inside), T(test_upgrade),
		T(test_no_memory), T(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
