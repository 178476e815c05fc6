/* The server's side of h1/: requests, and back-pressure. */
#include "h1_server_fixture.h"

/* ---- requests ------------------------------------------------------------ */

static void test_get(void **state)
{
	struct rig *r = *state;

	serve(r);
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	assert_log(r, "begin head:/a  end flushed ");
	assert_wire(r, OK_KEPT);
	assert_int_equal(r->conn.state, H1_IDLE);
}

static void test_every_split(void **state)
{
	static const char two[] =
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
		"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
		"\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n"
		"GET /c HTTP/1.1\r\nHost: x\r\n\r\n";
	struct rig *r = *state;

	serve(r);
	for (size_t cut = 0; cut < sizeof(two); cut++) {
		rig_clear_log(r);
		rig_clear_wire(r);
		rig_say_n(r, two, cut);
		rig_run(r);
		rig_say_n(r, two + cut, sizeof(two) - 1 - cut);
		rig_run(r);
		/* The order is that of the pairs, never mixed. */
		assert_log(r, "begin head:/a hello end flushed "
			      "begin head:/b abcde trailers:1 end flushed "
			      "begin head:/c  end flushed ");
		assert_wire(r, OK_KEPT OK_KEPT OK_KEPT);
	}
}

static void test_byte_by_byte(void **state)
{
	static const char req[] =
		"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
		"\r\nb\r\nhello world\r\n0\r\n\r\n";
	struct rig *r = *state;

	serve(r);
	for (size_t i = 0; i < sizeof(req) - 1; i++) {
		rig_say_n(r, req + i, 1);
		loop_turn(r->loop, 0);
	}
	rig_run(r);
	assert_log(r, "begin head:/b hello world end flushed ");
}

static void test_large_head(void **state)
{
	struct rig *r = *state;
	char *value = malloc(30000);

	serve(r);
	memset(value, 'v', 30000);
	rig_say(r, "GET /big HTTP/1.1\r\nHost: x\r\nA: ");
	rig_say_n(r, value, 15000);
	rig_run(r);
	rig_say_n(r, value, 15000);
	rig_say(r, "\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	assert_log(r, "begin head:/big  end flushed "
		      "begin head:/next  end flushed ");
	free(value);
}

static void test_too_large(void **state)
{
	struct rig *r = *state;
	char *value = malloc(60000);

	r->in_abort = answer_bad;
	memset(value, 'v', 60000);
	rig_say(r, "GET /big HTTP/1.1\r\nHost: x\r\nA: ");
	rig_say_n(r, value, 60000);
	rig_run(r);
	assert_memory_equal(r->log, "begin abort:malformed:", 22);
	assert_memory_equal(r->wire, "HTTP/1.1 431 ", 13);
	assert_non_null(strstr(r->wire, "Connection: close"));
	assert_int_equal(r->conn.state, H1_LINGER);
	free(value);
}

static void test_malformed(void **state)
{
	struct rig *r = *state;

	r->in_abort = answer_bad;
	rig_say(r, "GET /a\r\n\r\n");
	rig_run(r);
	assert_memory_equal(r->log, "begin abort:malformed:", 22);
	assert_wire(r, "HTTP/1.1 400 Bad Request\r\nDate: now\r\n"
		       "Content-Length: 0\r\nConnection: close\r\n\r\n");
	assert_true(r->wire_eof);
	close(r->peer);
	r->peer = -1;
	rig_run(r);
	assert_non_null(strstr(r->log, "close:eof"));
}

static void test_bad_chunk(void **state)
{
	struct rig *r = *state;

	r->in_abort = answer_bad;
	rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\n"
		   "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n");
	rig_run(r);
	assert_non_null(strstr(r->log, "abort:malformed:"));
	assert_memory_equal(r->wire, "HTTP/1.1 400 ", 13);
}

static void test_eof_in_head(void **state)
{
	struct rig *r = *state;

	rig_say(r, "GET /a HTT");
	shutdown(r->peer, SHUT_WR);
	rig_run(r);
	assert_log(r, "begin abort:eof ");
}

static void test_eof_in_body(void **state)
{
	struct rig *r = *state;

	rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\n"
		   "Content-Length: 9\r\n\r\nab");
	shutdown(r->peer, SHUT_WR);
	rig_run(r);
	assert_log(r, "begin head:/a ababort:eof ");
}

static void test_eof_idle(void **state)
{
	struct rig *r = *state;

	shutdown(r->peer, SHUT_WR);
	rig_run(r);
	assert_log(r, "close:eof ");
	assert_int_equal(r->conn.state, H1_CLOSED);
}

/* A client that has said all it wants to gets all its answers. */
static void test_half_close(void **state)
{
	struct rig *r = *state;

	serve(r);
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
		   "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
	shutdown(r->peer, SHUT_WR);
	rig_run(r);
	assert_log(r, "begin head:/a  end flushed "
		      "begin head:/b  end flushed close:eof ");
	assert_wire(r, OK_KEPT OK_CLOSE);
	assert_true(r->wire_eof);
}

/* ... also when it closes while we are at it. */
static void test_half_close_later(void **state)
{
	struct rig *r = *state;

	r->in_flushed = go_on;
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	shutdown(r->peer, SHUT_WR);
	rig_run(r);
	assert_log(r, "begin head:/a  end ");
	answer_ok(r);
	rig_run(r);
	assert_log(r, "begin head:/a  end flushed close:eof ");
	assert_memory_equal(r->wire, "HTTP/1.1 200 OK", 15);
	assert_true(r->wire_eof);
}

static void test_reset_while_asked(void **state)
{
	struct rig *r = *state;

	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_wait(r, "end");
	peer_reset(r);
	rig_wait(r, "fail");
	assert_log(r, "begin head:/a  end fail:reset ");
	/* From now on the sink is a hole. */
	answer_ok(r);
	rig_run(r);
	h1_next(&r->conn);
	rig_run(r);
	assert_log(r, "begin head:/a  end fail:reset close:reset ");
}

static void test_reset_while_paused(void **state)
{
	struct rig *r = *state;

	r->in_head = pause_in_head;
	rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
	rig_wait(r, "head");
	peer_reset(r);
	rig_wait(r, "abort");
	assert_log(r, "begin head:/a abort:reset ");
}

/* ---- back-pressure ------------------------------------------------------- */

static void count_pause(struct rig *r)
{
	pause_source(r);
	r->count++;
}

static void test_pause_resume(void **state)
{
	struct rig *r = *state;
	char *body = malloc(MEGA);
	uint64_t sum = 0;
	size_t sent = 0;

	for (size_t i = 0; i < MEGA; i++) {
		body[i] = (char)(i * 7 + i / 251);
		sum = sum * 31 + (unsigned char)body[i];
	}
	r->log_data = false;
	r->in_data = count_pause;
	serve(r);
	rig_say(r, "POST /a HTTP/1.1\r\nHost: x\r\n"
		   "Content-Length: 1048576\r\n\r\n");
	for (int i = 0; i < 100000 && !r->n_wire; i++) {
		ssize_t n = sent < MEGA ? send(r->peer, body + sent,
					       MEGA - sent, 0) : 0;
		size_t before;
		unsigned count = r->count;

		if (n > 0)
			sent += (size_t)n;
		loop_turn(r->loop, 0);
		/* Paused means that nothing comes. */
		before = r->n_body;
		if (r->count > count) {
			loop_turn(r->loop, 0);
			assert_int_equal(r->n_body, before);
		}
		r->conn.source.ops->resume(&r->conn.source);
		rig_hear(r);
	}
	assert_int_equal(r->n_body, MEGA);
	assert_int_equal(r->body_sum, sum);
	assert_log(r, "begin head:/a  end flushed ");
	assert_wire(r, OK_KEPT);
	assert_true(r->count >= 16);
	free(body);
}

static void test_pause_in_head(void **state)
{
	struct rig *r = *state;

	serve(r);
	r->in_head = pause_in_head;
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
		   "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	assert_log(r, "begin head:/a ");
	r->conn.source.ops->resume(&r->conn.source);
	assert_log(r, "begin head:/a ");	/* never from inside */
	rig_run(r);
	assert_log(r, "begin head:/a  end flushed begin head:/b ");
	r->conn.source.ops->resume(&r->conn.source);
	rig_run(r);
	assert_wire(r, OK_KEPT OK_KEPT);
}

/* Whatever else is due in the same turn, on_flushed comes. */
static void test_resume_and_end(void **state)
{
	struct rig *r = *state;

	r->in_head = pause_in_head;
	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	r->conn.source.ops->resume(&r->conn.source);
	answer_ok(r);
	rig_run(r);
	assert_log(r, "begin head:/a  end flushed ");
}

static void test_sink_full(void **state)
{
	struct rig *r = *state;
	struct http_head h = response(200);
	char *piece = calloc(1, 65536);
	size_t total = 0;

	rig_say(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	rig_run(r);
	h.framing = HTTP_BODY_LENGTH;
	h.content_length = MEGA;
	put_head(r, &h);
	while (total < MEGA) {
		while (total < MEGA && !r->conn.sink.ops->full(&r->conn.sink)) {
			put_data(r, piece, 65536);
			total += 65536;
		}
		assert_true(r->conn.stream.out.bytes <= H1_HIGH_WATER + 65536);
		loop_turn(r->loop, 0);
		if (r->conn.sink.ops->full(&r->conn.sink)) {
			rig_clear_log(r);
			for (int i = 0; i < 1000 && !r->n_log; i++)
				rig_run(r);
			assert_log(r, "room ");
		}
	}
	rig_clear_log(r);
	put_end(r);
	for (int i = 0; i < 1000 && !strstr(r->log, "flushed"); i++)
		rig_run(r);
	rig_run(r);
	assert_true(r->n_wire > MEGA && r->n_wire < MEGA + 200);
	free(piece);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_get), T_TCP(test_get), T(test_every_split),
		T(test_byte_by_byte), T(test_large_head), T(test_too_large),
		T(test_malformed), T(test_bad_chunk), T(test_eof_in_head),
		T(test_eof_in_body), T(test_eof_idle), T(test_half_close),
		T(test_half_close_later), T_TCP(test_reset_while_asked),
		T_TCP(test_reset_while_paused), T(test_pause_resume),
		T_TCP(test_pause_resume), T(test_pause_in_head),
		T(test_sink_full), T_TCP(test_sink_full),
		T(test_resume_and_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
