/*
 * What test_h1_server and test_h1_client share: a connection over a socket
 * pair, whose other end the test writes and reads by hand, and a log of what
 * its source and sink told.
 */
#ifndef TESTS_H1_FIXTURE_H
#define TESTS_H1_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "h1/h1.h"

#define WIRE_MAX	(4u * 1024 * 1024)

struct rig {
	struct loop *loop;
	struct h1_conn conn;
	struct h1_settings settings;
	int peer;		/* the other end; -1: closed */
	char log[16384];	/* one word per event */
	size_t n_log;
	bool log_data;		/* bodies go to the log too */
	char *wire;		/* what the other end got */
	size_t n_wire;
	bool wire_eof, wire_reset;
	size_t n_body;		/* bytes from on_data */
	uint64_t body_sum;
	/* What the test does inside a callback; NULL: nothing. */
	void (*in_begin)(struct rig *r);
	void (*in_head)(struct rig *r, const struct http_head *head);
	void (*in_data)(struct rig *r);
	void (*in_end)(struct rig *r);
	void (*in_abort)(struct rig *r, enum message_fault why,
			 enum http_parse fault);
	void (*in_room)(struct rig *r);
	void (*in_flushed)(struct rig *r);
	void (*in_fail)(struct rig *r);
	unsigned n_heads, count;
};

static const char *const fault_names[] = {
	"eof", "reset", "malformed", "timeout", "no_memory",
};

__attribute__((format(printf, 2, 3)))
static void rig_log(struct rig *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->log + r->n_log, sizeof(r->log) - r->n_log, fmt, ap);
	va_end(ap);
	assert_true(n >= 0 && r->n_log + (size_t)n < sizeof(r->log));
	r->n_log += (size_t)n;
}

static void rig_clear_log(struct rig *r)
{
	r->n_log = 0;
	r->log[0] = 0;
}

/* ---- events -------------------------------------------------------------- */

static void rig_on_head(void *owner, const struct http_head *head,
			struct block *block)
{
	struct rig *r = owner;

	assert_non_null(block);
	assert_true(head->n_fields == 0 ||
		    (head->fields[0].name >= block->data &&
		     head->fields[0].name < block->data + block->size));
	r->n_heads++;
	if (head->status)
		rig_log(r, "head:%u ", head->status);
	else
		rig_log(r, "head:%.*s ", SLICE_FMT(head->path));
	if (r->in_head)
		r->in_head(r, head);
}

static void rig_on_data(void *owner, struct block *block, const char *p,
			size_t n)
{
	struct rig *r = owner;

	assert_true(n > 0);
	assert_true(p >= block->data && p + n <= block->data + block->used);
	for (size_t i = 0; i < n; i++)
		r->body_sum = r->body_sum * 31 + (unsigned char)p[i];
	r->n_body += n;
	if (r->log_data)
		rig_log(r, "%.*s", (int)n, p);
	if (r->in_data)
		r->in_data(r);
}

static void rig_on_end(void *owner, const struct http_head *trailers)
{
	struct rig *r = owner;

	if (trailers)
		rig_log(r, " trailers:%u", trailers->n_fields);
	rig_log(r, " end ");
	if (r->in_end)
		r->in_end(r);
}

static void rig_on_abort(void *owner, enum message_fault why,
			 enum http_parse fault)
{
	struct rig *r = owner;

	rig_log(r, "abort:%s%s%s ", fault_names[why],
		fault ? ":" : "", fault ? http_parse_names[fault] : "");
	if (r->in_abort)
		r->in_abort(r, why, fault);
}

static void rig_on_room(void *owner)
{
	struct rig *r = owner;

	rig_log(r, "room ");
	if (r->in_room)
		r->in_room(r);
}

static void rig_on_fail(void *owner, enum message_fault why)
{
	struct rig *r = owner;

	rig_log(r, "fail:%s ", fault_names[why]);
	if (r->in_fail)
		r->in_fail(r);
}

static void rig_on_flushed(void *owner)
{
	struct rig *r = owner;

	rig_log(r, "flushed ");
	if (r->in_flushed)
		r->in_flushed(r);
}

static const struct source_events rig_source_events = {
	rig_on_head, rig_on_data, rig_on_end, rig_on_abort,
};

static const struct sink_events rig_sink_events = {
	rig_on_room, rig_on_fail, rig_on_flushed,
};

static void rig_watch(struct rig *r)
{
	r->conn.source.events = &rig_source_events;
	r->conn.source.owner = r;
	r->conn.sink.events = &rig_sink_events;
	r->conn.sink.owner = r;
}

static void rig_on_begin(struct h1_conn *conn)
{
	struct rig *r = container_of(conn, struct rig, conn);

	rig_log(r, "begin ");
	rig_watch(r);
	if (r->in_begin)
		r->in_begin(r);
}

static void rig_on_close(struct h1_conn *conn, enum message_fault why)
{
	struct rig *r = container_of(conn, struct rig, conn);

	rig_log(r, "close:%s ", fault_names[why]);
}

static void rig_on_connect(struct h1_conn *conn, int error)
{
	struct rig *r = container_of(conn, struct rig, conn);

	rig_log(r, "connect:%d ", error);
}

static const struct h1_events rig_events = {
	rig_on_begin, rig_on_close, rig_on_connect,
};

/* ---- the rig ------------------------------------------------------------- */

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->peer = -1;
	r->loop = loop_new(0);
	assert_non_null(r->loop);
	r->wire = malloc(WIRE_MAX);
	assert_non_null(r->wire);
	r->log_data = true;
	r->settings = (struct h1_settings){
		.limits = { .header_bytes = 32 * 1024, .headers = 100,
			    .target_bytes = 8192 },
		.idle_us = 75000000, .head_us = 10000000,
		.body_us = 30000000, .send_us = 30000000,
	};
}

static void rig_fini(struct rig *r)
{
	h1_close(&r->conn, false);
	loop_turn(r->loop, 0);
	/* Nothing may be left behind, whatever happened. */
	assert_int_equal(r->loop->blocks.live, 0);
	loop_free(r->loop);
	if (r->peer >= 0)
		close(r->peer);
	free(r->wire);
}

/* Sends what the socket takes; the rest of the test does not need more. */
static void rig_say_n(struct rig *r, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(r->peer, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EAGAIN) {
			loop_turn(r->loop, 0);
			continue;
		}
		assert_true(k > 0);
		p += k;
		n -= (size_t)k;
	}
}

static void rig_say(struct rig *r, const char *s)
{
	rig_say_n(r, s, strlen(s));
}

static void rig_hear(struct rig *r)
{
	while (r->peer >= 0 && !r->wire_eof && !r->wire_reset) {
		ssize_t n = recv(r->peer, r->wire + r->n_wire,
				 WIRE_MAX - 1 - r->n_wire, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			r->wire_reset = true;
		else if (n == 0)
			r->wire_eof = true;
		else
			r->n_wire += (size_t)n;
	}
	r->wire[r->n_wire] = 0;
}

/* Turns until nothing is to be done at once any more: over a socket pair all
 * happens within a few. */
static void rig_run(struct rig *r)
{
	for (int i = 0; i < 8; i++) {
		loop_turn(r->loop, 0);
		rig_hear(r);
	}
}

/* Turns until the log has text, for at most 5 s. */
static void rig_wait(struct rig *r, const char *text)
{
	uint64_t till = sock_clock_us() + 5000000;

	while (!strstr(r->log, text)) {
		if (sock_clock_us() > till)
			fail_msg("no \"%s\" in \"%s\"", text, r->log);
		loop_turn(r->loop, 20000);
	}
	rig_hear(r);
}

static void rig_clear_wire(struct rig *r)
{
	r->n_wire = 0;
	r->wire[0] = 0;
}

#define assert_log(r, text)	assert_string_equal((r)->log, (text))
#define assert_wire(r, text)	assert_string_equal((r)->wire, (text))

static inline struct block *block_of(struct rig *r, const char *s, size_t n)
{
	struct block *b = block_new(&r->loop->blocks, n);

	assert_non_null(b);
	memcpy(b->data, s, n);
	b->used = (uint32_t)n;
	return b;
}

/* Gives the sink a piece of body. */
static inline void put_data(struct rig *r, const char *s, size_t n)
{
	struct block *b = block_of(r, s, n);

	r->conn.sink.ops->data(&r->conn.sink, b, b->data, n);
	block_put(b);
}

static inline void put_text(struct rig *r, const char *s)
{
	put_data(r, s, strlen(s));
}

static inline void put_head(struct rig *r, const struct http_head *head)
{
	r->conn.sink.ops->head(&r->conn.sink, head);
}

static inline void put_end(struct rig *r)
{
	r->conn.sink.ops->end(&r->conn.sink, NULL);
}

#endif
