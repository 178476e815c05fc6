/* Streams, over socket pairs and a listener of their own. */
#include <errno.h>
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
#include "net/stream.h"

#define MS UINT64_C(1000)
#define BIG (4u * 1024 * 1024)

/* What one end saw, and what it is to do about it. */
struct end {
	struct stream s;
	struct loop *loop;
	int peer;		/* the other end, a plain descriptor */
	char *got;
	size_t n_got;
	unsigned reads, rooms, write_errors, connects;
	int connect_error;
	bool keep;		/* do not consume */
	bool close_in_read, close_in_room, close_in_error, close_in_connect;
	bool pause_in_read;
	bool reopen_in_read;
	bool answered;
	struct block *held[64];
	const char *held_p[64];
	size_t held_n[64];
	char held_first[64];
	unsigned n_held;
	bool hold;
};

static void on_read(struct stream *s);

static void end_got(struct end *e)
{
	struct slice d = stream_data(&e->s);

	if (e->hold && d.n && e->n_held < 64) {
		unsigned i = e->n_held++;

		e->held[i] = block_get(e->s.in);
		e->held_p[i] = d.p;
		e->held_n[i] = d.n;
		e->held_first[i] = d.p[0];
	}
	if (e->keep)
		return;
	assert_true(e->n_got + d.n <= BIG);
	if (d.n)
		memcpy(e->got + e->n_got, d.p, d.n);
	e->n_got += d.n;
	stream_consume(&e->s, d.n);
}

static void end_open(struct end *e);

static void on_read(struct stream *s)
{
	struct end *e = container_of(s, struct end, s);

	e->reads++;
	end_got(e);
	if (e->pause_in_read)
		stream_pause(s);
	if (e->answered)
		stream_is_answered(s);
	if (e->close_in_read)
		stream_close(s, false);
	if (e->reopen_in_read) {
		e->reopen_in_read = false;
		stream_close(s, false);
		close(e->peer);
		end_open(e);
	}
}

static void on_room(struct stream *s)
{
	struct end *e = container_of(s, struct end, s);

	e->rooms++;
	if (e->close_in_room)
		stream_close(s, false);
}

static void on_write_error(struct stream *s)
{
	struct end *e = container_of(s, struct end, s);

	e->write_errors++;
	assert_true(outq_empty(&s->out));
	if (e->close_in_error)
		stream_close(s, true);
}

static void on_connect(struct stream *s, int error)
{
	struct end *e = container_of(s, struct end, s);

	e->connects++;
	e->connect_error = error;
	if (e->close_in_connect)
		stream_close(s, false);
}

static const struct stream_events end_events = {
	.on_connect = on_connect,
	.on_read = on_read,
	.on_room = on_room,
	.on_write_error = on_write_error,
};

static void end_open(struct end *e)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				    fd), 0);
	e->peer = fd[1];
	assert_true(stream_open(&e->s, e->loop, fd[0], &end_events));
}

static void end_init(struct end *e)
{
	memset(e, 0, sizeof(*e));
	e->loop = loop_new(0);
	e->got = malloc(BIG);
	end_open(e);
}

static void turns(struct end *e, int n)
{
	while (n--)
		loop_turn(e->loop, 2 * MS);
}

static void end_fini(struct end *e)
{
	stream_close(&e->s, false);
	close(e->peer);
	for (unsigned i = 0; i < e->n_held; i++)
		block_put(e->held[i]);
	turns(e, 1);
	assert_int_equal(e->loop->blocks.live, 0);
	loop_free(e->loop);
	free(e->got);
}

static void peer_write(struct end *e, const char *text)
{
	size_t n = strlen(text);

	assert_int_equal(write(e->peer, text, n), n);
}

static void assert_got(struct end *e, const char *text)
{
	assert_int_equal(e->n_got, strlen(text));
	assert_memory_equal(e->got, text, e->n_got);
}

/* ---- reading ------------------------------------------------------------- */

static void test_read_in_pieces(void **state)
{
	struct end e;

	end_init(&e);
	turns(&e, 1);
	assert_int_equal(e.reads, 0);
	peer_write(&e, "ab");
	turns(&e, 1);
	assert_got(&e, "ab");
	peer_write(&e, "c");
	peer_write(&e, "d");
	turns(&e, 1);
	assert_got(&e, "abcd");
	/* Idle: no memory but the struct. */
	assert_null(e.s.in);
	assert_int_equal(e.loop->blocks.live, 0);
	assert_int_equal(e.s.bytes_in, 4);
	end_fini(&e);
}

static void test_unconsumed_stays_contiguous(void **state)
{
	struct end e;
	struct slice d;
	char part[1001];

	end_init(&e);
	e.keep = true;
	for (int i = 0; i < 16; i++) {
		memset(part, 'a' + i, 1000);
		part[1000] = '\0';
		peer_write(&e, part);
		turns(&e, 1);
		d = stream_data(&e.s);
		assert_int_equal(d.n, (i + 1) * 1000);
		assert_int_equal(d.p[0], 'a');
		assert_int_equal(d.p[d.n - 1], 'a' + i);
	}
	/* The front goes, the rest moves to make room. */
	stream_consume(&e.s, 15500);
	peer_write(&e, "next");
	turns(&e, 1);
	d = stream_data(&e.s);
	assert_int_equal(d.n, 504);
	assert_int_equal(d.p[499], 'p');
	assert_memory_equal(d.p + 500, "next", 4);
	end_fini(&e);
}

static void test_full_block_stops_reading(void **state)
{
	struct end e;
	char *big = calloc(1, 40001);

	end_init(&e);
	e.keep = true;
	memset(big, 'x', 40000);
	peer_write(&e, big);
	turns(&e, 3);
	assert_int_equal(stream_data(&e.s).n, BLOCK_SMALL);
	turns(&e, 3);
	assert_int_equal(e.reads, 1);
	/* A hang-up is told all the same. */
	shutdown(e.peer, SHUT_WR);
	turns(&e, 2);
	assert_int_equal(e.reads, 2);
	assert_true(e.s.hup);
	assert_int_equal(e.s.read_end, STREAM_READING);
	/* Somebody who needs more gets it. */
	assert_true(stream_need(&e.s, 30000));
	turns(&e, 2);
	assert_true(stream_data(&e.s).n >= 30000);
	/* And who consumes, too. */
	stream_consume(&e.s, 20000);
	turns(&e, 2);
	assert_int_equal(stream_data(&e.s).n + 20000, 40000);
	assert_int_equal(e.s.read_end, STREAM_EOF);
	end_fini(&e);
	free(big);
}

static void test_need(void **state)
{
	struct end e;

	end_init(&e);
	assert_true(stream_need(&e.s, 100000));
	e.keep = true;
	peer_write(&e, "abc");
	turns(&e, 1);
	assert_true(e.s.in->size >= 100000);
	assert_int_equal(stream_data(&e.s).n, 3);
	assert_true(stream_need(&e.s, 200000));
	assert_memory_equal(stream_data(&e.s).p, "abc", 3);
	assert_false(stream_need(&e.s, SIZE_MAX));
	end_fini(&e);
}

/* Bytes that somebody holds a reference to never change. */
static void test_held_bytes_stand(void **state)
{
	struct end e;
	char part[3001];

	end_init(&e);
	e.hold = true;
	for (int i = 0; i < 40; i++) {
		memset(part, 'A' + i, 3000);
		part[3000] = '\0';
		peer_write(&e, part);
		turns(&e, 1);
	}
	assert_int_equal(e.n_held, 40);
	for (unsigned i = 0; i < e.n_held; i++) {
		assert_int_equal(e.held_first[i], 'A' + (int)i);
		for (size_t j = 0; j < e.held_n[i]; j++)
			assert_int_equal(e.held_p[i][j], 'A' + (int)i);
	}
	/* Small pieces share blocks: 120 KB in fewer than 40. */
	assert_true(e.loop->blocks.live < 12);
	end_fini(&e);
}

/* Also when the rest that is unconsumed has to move. */
static void test_held_bytes_stand_when_rest_moves(void **state)
{
	struct block *held;
	struct end e;
	const char *p;
	char *big = calloc(1, BLOCK_SMALL + 101);

	end_init(&e);
	e.keep = true;
	memset(big, 'x', BLOCK_SMALL - 100);
	peer_write(&e, big);
	turns(&e, 1);
	p = stream_data(&e.s).p;
	held = block_get(e.s.in);
	stream_consume(&e.s, BLOCK_SMALL - 150);
	memset(big, 'y', BLOCK_SMALL);
	big[5000] = '\0';
	peer_write(&e, big);
	turns(&e, 2);
	assert_int_equal(stream_data(&e.s).n, 5050);
	for (size_t i = 0; i < BLOCK_SMALL - 100; i++)
		assert_int_equal(p[i], 'x');
	block_put(held);
	end_fini(&e);
	free(big);
}

/* Streams read into one block behind each other; one that goes on after others
 * have does so elsewhere. */
static void test_block_is_shared(void **state)
{
	struct end e, other[100];
	struct slice d;

	end_init(&e);
	e.keep = true;
	for (unsigned i = 0; i < 100; i++) {
		memset(&other[i], 0, sizeof(other[i]));
		other[i].loop = e.loop;
		other[i].keep = true;
		end_open(&other[i]);
	}
	peer_write(&e, "one");
	turns(&e, 1);
	peer_write(&e, " two");
	turns(&e, 1);
	d = stream_data(&e.s);
	for (unsigned i = 0; i < 100; i++) {
		peer_write(&other[i], "0123456789");
		turns(&e, 1);
		assert_ptr_equal(other[i].s.in, e.s.in);
	}
	assert_int_equal(e.loop->blocks.live, 1);
	assert_ptr_equal(stream_data(&e.s).p, d.p);
	peer_write(&e, " three");
	turns(&e, 1);
	assert_ptr_not_equal(e.s.in, other[0].s.in);
	d = stream_data(&e.s);
	assert_int_equal(d.n, 13);
	assert_memory_equal(d.p, "one two three", 13);
	stream_consume(&other[50].s, 4);
	assert_true(stream_need(&other[50].s, 11));
	for (unsigned i = 0; i < 100; i++) {
		d = stream_data(&other[i].s);
		assert_int_equal(d.n, i == 50 ? 6 : 10);
		assert_memory_equal(d.p, "0123456789" + 10 - d.n, d.n);
		stream_close(&other[i].s, false);
		close(other[i].peer);
	}
	end_fini(&e);
}

/* One that gets much at a time has blocks of its own, whole ones. */
static void test_much_is_not_shared(void **state)
{
	struct end e, other;
	char much[10001];

	end_init(&e);
	memset(&other, 0, sizeof(other));
	other.loop = e.loop;
	other.keep = true;
	end_open(&other);
	peer_write(&other, "x");
	turns(&e, 1);
	memset(much, 'm', 10000);
	much[10000] = '\0';
	for (int i = 0; i < 3; i++) {
		peer_write(&e, much);
		turns(&e, 1);
	}
	e.keep = true;
	assert_int_equal(e.reads, 3);
	peer_write(&e, "m");
	turns(&e, 1);
	assert_ptr_not_equal(e.s.in, other.s.in);
	stream_consume(&e.s, 1);
	peer_write(&e, "m");
	turns(&e, 1);
	assert_ptr_equal(e.s.in, other.s.in);
	stream_close(&other.s, false);
	close(other.peer);
	end_fini(&e);
}

/* The block that was kept for its room goes back, too. */
static void test_idle_gives_block_back(void **state)
{
	struct end e;

	end_init(&e);
	e.hold = true;
	peer_write(&e, "abc");
	turns(&e, 1);
	block_put(e.held[0]);
	e.n_held = 0;
	for (int i = 0; i < 200 && e.loop->blocks.live; i++)
		turns(&e, 1);
	assert_int_equal(e.loop->blocks.live, 0);
	end_fini(&e);
}

static void test_big_reads(void **state)
{
	struct end e;
	char *big = calloc(1, 100001);

	end_init(&e);
	stream_big_reads(&e.s, true);
	memset(big, 'x', 100000);
	peer_write(&e, big);
	turns(&e, 2);
	assert_int_equal(e.n_got, 100000);
	assert_int_equal(e.reads, 2);
	end_fini(&e);
	free(big);
}

static void test_turn_budget(void **state)
{
	struct end e;
	size_t sent = 0;
	int size = 1 << 20;
	char part[4096];

	end_init(&e);
	setsockopt(e.peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	memset(part, 'x', sizeof(part));
	for (;;) {
		ssize_t n = write(e.peer, part, sizeof(part));

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	loop_turn(e.loop, 10 * MS);
	assert_true(e.n_got <= STREAM_TURN_BUDGET + BLOCK_LARGE);
	for (int i = 0; i < 100 && e.n_got < sent; i++)
		loop_turn(e.loop, 10 * MS);
	assert_int_equal(e.n_got, sent);
	end_fini(&e);
}

static void test_eof_with_last_bytes(void **state)
{
	struct end e;

	end_init(&e);
	peer_write(&e, "bye");
	shutdown(e.peer, SHUT_WR);
	turns(&e, 1);
	assert_got(&e, "bye");
	assert_int_equal(e.reads, 1);
	assert_int_equal(e.s.read_end, STREAM_EOF);
	assert_true(e.s.hup);
	/* Half-closed: we may still write. */
	assert_true(outq_copy(&e.s.out, "ok", 2));
	stream_flush_later(&e.s);
	turns(&e, 1);
	assert_int_equal(read(e.peer, e.got, 10), 2);
	end_fini(&e);
}

/* A Unix peer that closes with unread bytes resets. Bytes and reset come in
 * one event, of which the loop tells only the bytes. */
static void test_reset_behind_bytes(void **state)
{
	struct end e;

	end_init(&e);
	assert_true(outq_copy(&e.s.out, "unread", 6));
	stream_flush_later(&e.s);
	turns(&e, 1);
	peer_write(&e, "last");
	close(e.peer);
	e.peer = -1;
	for (int i = 0; i < 200 && !e.s.read_end; i++)
		turns(&e, 1);
	assert_got(&e, "last");
	assert_int_equal(e.s.read_end, STREAM_RESET);
	assert_int_equal(e.s.error, -ECONNRESET);
	end_fini(&e);
}

/* The owner knows that nothing can be hidden there: no look, and a plain end is
 * seen all the same. */
static void test_answered(void **state)
{
	struct end e;

	end_init(&e);
	peer_write(&e, "abc");
	turns(&e, 1);
	assert_true(deadline_running(&e.s.check));
	end_fini(&e);
	end_init(&e);
	e.answered = true;
	peer_write(&e, "abc");
	turns(&e, 1);
	assert_got(&e, "abc");
	assert_false(deadline_running(&e.s.check));
	peer_write(&e, "def");
	close(e.peer);
	e.peer = -1;
	turns(&e, 2);
	assert_got(&e, "abcdef");
	assert_int_equal(e.s.read_end, STREAM_EOF);
	end_fini(&e);
}

static void test_tell_sent(void **state)
{
	struct end e;
	char *big = calloc(1, BIG);

	end_init(&e);
	/* After the next flush, and once. */
	assert_true(outq_copy(&e.s.out, "ab", 2));
	stream_flush_later(&e.s);
	stream_tell_sent(&e.s);
	assert_int_equal(e.rooms, 0);
	turns(&e, 1);
	assert_int_equal(e.rooms, 1);
	assert_int_equal(read(e.peer, e.got, BIG), 2);
	assert_true(outq_copy(&e.s.out, "cd", 2));
	stream_flush_later(&e.s);
	turns(&e, 2);
	assert_int_equal(e.rooms, 1);
	/* Nothing to send: never from inside. */
	stream_tell_sent(&e.s);
	assert_int_equal(e.rooms, 1);
	turns(&e, 1);
	assert_int_equal(e.rooms, 2);
	/* The socket does not take all of it: when it has. */
	assert_true(outq_ref(&e.s.out, NULL, big, BIG));
	stream_flush_later(&e.s);
	stream_tell_sent(&e.s);
	turns(&e, 2);
	assert_int_equal(e.rooms, 2);
	for (int i = 0; i < 10000 && !outq_empty(&e.s.out); i++) {
		(void)!read(e.peer, e.got, BIG);
		turns(&e, 1);
	}
	assert_true(e.rooms > 2);
	assert_false(e.s.tell_sent);
	/* Not what is closed meanwhile. */
	e.rooms = 0;
	stream_tell_sent(&e.s);
	stream_close(&e.s, false);
	turns(&e, 2);
	assert_int_equal(e.rooms, 0);
	end_fini(&e);
	free(big);
}

static void test_tell_sent_after_shutdown(void **state)
{
	struct end e;

	end_init(&e);
	stream_shutdown(&e.s);
	stream_tell_sent(&e.s);
	turns(&e, 1);
	assert_int_equal(e.rooms, 1);
	assert_int_equal(read(e.peer, e.got, 10), 0);
	/* A write that fails is told instead. */
	end_fini(&e);
	end_init(&e);
	close(e.peer);
	e.peer = -1;
	assert_true(outq_copy(&e.s.out, "ab", 2));
	stream_flush_later(&e.s);
	stream_tell_sent(&e.s);
	turns(&e, 1);
	assert_int_equal(e.write_errors, 1);
	assert_int_equal(e.rooms, 0);
	end_fini(&e);
}

static void test_close_in_read(void **state)
{
	struct end e;

	end_init(&e);
	e.close_in_read = true;
	peer_write(&e, "abc");
	shutdown(e.peer, SHUT_WR);
	turns(&e, 3);
	assert_int_equal(e.reads, 1);
	assert_int_equal(e.s.state, STREAM_CLOSED);
	end_fini(&e);
}

static void test_reopen_in_read(void **state)
{
	struct end e;

	end_init(&e);
	e.reopen_in_read = true;
	peer_write(&e, "abc");
	shutdown(e.peer, SHUT_WR);
	turns(&e, 2);
	assert_int_equal(e.s.state, STREAM_OPEN);
	peer_write(&e, "def");
	turns(&e, 1);
	assert_got(&e, "abcdef");
	end_fini(&e);
}

static void test_pause_and_resume(void **state)
{
	struct end e;

	end_init(&e);
	stream_pause(&e.s);
	peer_write(&e, "abc");
	turns(&e, 2);
	assert_int_equal(e.reads, 0);
	stream_resume(&e.s);
	assert_int_equal(e.reads, 0);
	turns(&e, 1);
	assert_got(&e, "abc");
	/* What is buffered is told again. */
	e.keep = e.pause_in_read = true;
	peer_write(&e, "def");
	turns(&e, 2);
	assert_int_equal(e.reads, 2);
	peer_write(&e, "ghi");
	turns(&e, 2);
	assert_int_equal(e.reads, 2);
	e.keep = e.pause_in_read = false;
	stream_resume(&e.s);
	turns(&e, 2);
	assert_got(&e, "abcdefghi");
	end_fini(&e);
}

static void test_hang_up_while_paused(void **state)
{
	struct end e;

	end_init(&e);
	stream_pause(&e.s);
	peer_write(&e, "abc");
	shutdown(e.peer, SHUT_WR);
	turns(&e, 3);
	assert_int_equal(e.reads, 1);
	assert_int_equal(e.n_got, 0);
	assert_true(e.s.hup);
	assert_int_equal(e.s.error, 0);
	assert_int_equal(e.s.read_end, STREAM_READING);
	stream_resume(&e.s);
	turns(&e, 1);
	assert_got(&e, "abc");
	assert_int_equal(e.s.read_end, STREAM_EOF);
	assert_int_equal(e.reads, 2);
	end_fini(&e);
}

static void test_reset_while_paused(void **state)
{
	struct end e;

	end_init(&e);
	stream_pause(&e.s);
	assert_true(outq_copy(&e.s.out, "unread", 6));
	stream_flush_later(&e.s);
	turns(&e, 1);
	peer_write(&e, "last");
	close(e.peer);
	e.peer = -1;
	for (int i = 0; i < 200 && !e.reads; i++)
		turns(&e, 1);
	assert_int_equal(e.reads, 1);
	assert_true(e.s.hup);
	assert_int_equal(e.s.error, -ECONNRESET);
	stream_resume(&e.s);
	turns(&e, 1);
	assert_got(&e, "last");
	assert_int_equal(e.s.read_end, STREAM_RESET);
	end_fini(&e);
}

static void test_poll(void **state)
{
	struct end e;

	end_init(&e);
	assert_false(stream_poll(&e.s));
	peer_write(&e, "abc");
	assert_true(stream_poll(&e.s));
	assert_int_equal(e.reads, 0);
	assert_true(stream_poll(&e.s));
	turns(&e, 1);
	assert_got(&e, "abc");
	assert_false(stream_poll(&e.s));
	shutdown(e.peer, SHUT_WR);
	assert_true(stream_poll(&e.s));
	turns(&e, 1);
	assert_int_equal(e.s.read_end, STREAM_EOF);
	assert_int_equal(e.reads, 2);
	assert_false(stream_poll(&e.s));
	end_fini(&e);
}

static bool fails(size_t bytes)
{
	return true;
}

static void test_read_without_memory(void **state)
{
	struct end e;

	end_init(&e);
	turns(&e, 1);
	peer_write(&e, "abc");
	mem_fault = fails;
	turns(&e, 1);
	mem_fault = NULL;
	assert_int_equal(e.s.read_end, STREAM_RESET);
	assert_int_equal(e.s.error, -ENOMEM);
	assert_int_equal(e.reads, 1);
	end_fini(&e);
}

/* ---- writing ------------------------------------------------------------- */

static size_t peer_drain(struct end *e, size_t at)
{
	for (;;) {
		ssize_t n = read(e->peer, e->got + at, BIG - at);

		if (n <= 0)
			return at;
		at += (size_t)n;
	}
}

static void test_write_gathers(void **state)
{
	struct end e;

	end_init(&e);
	assert_true(outq_copy(&e.s.out, "abc", 3));
	stream_flush_later(&e.s);
	assert_true(outq_ref(&e.s.out, NULL, "def", 3));
	stream_flush_later(&e.s);
	assert_int_equal(peer_drain(&e, 0), 0);
	turns(&e, 1);
	assert_int_equal(peer_drain(&e, 0), 6);
	assert_memory_equal(e.got, "abcdef", 6);
	assert_int_equal(e.s.bytes_out, 6);
	assert_int_equal(e.rooms, 0);
	assert_int_equal(e.loop->blocks.live, 0);
	end_fini(&e);
}

static void test_big_write(void **state)
{
	struct end e;
	size_t n = 0;
	char part[1000];

	end_init(&e);
	for (int i = 0; i < 3000; i++) {
		memset(part, i % 251, sizeof(part));
		assert_true(outq_copy(&e.s.out, part, sizeof(part)));
	}
	stream_flush_later(&e.s);
	turns(&e, 1);
	assert_true(e.s.out.bytes > STREAM_LOW_WATER);
	assert_int_equal(e.rooms, 0);
	while (n < 3000000) {
		size_t before = n;

		n = peer_drain(&e, n);
		turns(&e, 1);
		assert_true(n > before);
		assert_int_equal(e.rooms > 0,
				 e.s.out.bytes <= STREAM_LOW_WATER);
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal((unsigned char)e.got[i], i / 1000 % 251);
	/* Once for falling to low water, perhaps once for being empty. */
	assert_in_range(e.rooms, 1, 2);
	end_fini(&e);
}

/* A backlog that never was above low water is told when it is gone. */
static void test_small_backlog(void **state)
{
	char part[30000] = { 0 };
	int size = 4096;
	struct end e;
	size_t n = 0;

	end_init(&e);
	setsockopt(e.s.watch.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_true(outq_copy(&e.s.out, part, sizeof(part)));
	stream_flush_later(&e.s);
	turns(&e, 1);
	assert_int_equal(e.rooms, 0);
	assert_false(outq_empty(&e.s.out));
	while (n < sizeof(part)) {
		n = peer_drain(&e, n);
		turns(&e, 1);
	}
	assert_int_equal(e.rooms, 1);
	end_fini(&e);
}

static void test_write_error(void **state)
{
	struct end e;

	end_init(&e);
	close(e.peer);
	e.peer = -1;
	assert_true(outq_copy(&e.s.out, "abc", 3));
	stream_flush_later(&e.s);
	turns(&e, 2);
	assert_int_equal(e.write_errors, 1);
	assert_int_equal(e.s.error, -EPIPE);
	assert_int_equal(e.s.read_end, STREAM_EOF);
	/* Told once; what comes after is dropped. */
	assert_true(outq_copy(&e.s.out, "abc", 3));
	stream_flush_later(&e.s);
	stream_flush_now(&e.s);
	turns(&e, 2);
	assert_int_equal(e.write_errors, 1);
	assert_true(outq_empty(&e.s.out));
	end_fini(&e);
}

/* The peer's last words are read although we cannot write. */
static void test_write_error_reads_on(void **state)
{
	struct end e;

	end_init(&e);
	turns(&e, 1);
	peer_write(&e, "sorry");
	close(e.peer);
	e.peer = -1;
	assert_true(outq_copy(&e.s.out, "abc", 3));
	stream_flush_now(&e.s);
	assert_int_equal(e.write_errors, 0);
	turns(&e, 2);
	assert_int_equal(e.write_errors, 1);
	assert_got(&e, "sorry");
	assert_int_not_equal(e.s.read_end, STREAM_READING);
	end_fini(&e);
}

static void test_close_in_write_error(void **state)
{
	struct end e;

	end_init(&e);
	close(e.peer);
	e.peer = -1;
	e.close_in_error = true;
	assert_true(outq_copy(&e.s.out, "abc", 3));
	stream_flush_later(&e.s);
	turns(&e, 2);
	assert_int_equal(e.write_errors, 1);
	end_fini(&e);
}

static void test_close_in_room(void **state)
{
	struct end e;
	size_t n = 0;
	char *big = calloc(1, 1000000);

	end_init(&e);
	e.close_in_room = true;
	assert_true(outq_copy(&e.s.out, big, 1000000));
	stream_flush_later(&e.s);
	for (int i = 0; i < 100 && e.rooms == 0; i++) {
		turns(&e, 1);
		n = peer_drain(&e, n);
	}
	assert_int_equal(e.rooms, 1);
	turns(&e, 2);
	end_fini(&e);
	free(big);
}

static void test_shutdown_after_flush(void **state)
{
	struct end e;
	size_t n = 0;
	char *big = calloc(1, 1000000);

	end_init(&e);
	assert_true(outq_copy(&e.s.out, big, 1000000));
	stream_shutdown(&e.s);
	while (n < 1000000) {
		turns(&e, 1);
		n = peer_drain(&e, n);
	}
	turns(&e, 1);
	assert_int_equal(read(e.peer, e.got, 1), 0);
	peer_write(&e, "still");
	turns(&e, 1);
	assert_int_equal(e.s.bytes_in, 5);
	end_fini(&e);
	free(big);
}

/* ---- connecting ---------------------------------------------------------- */

static void end_connect(struct end *e, const char *address, int *lfd)
{
	struct net_addr a;

	memset(e, 0, sizeof(*e));
	e->loop = loop_new(0);
	e->got = malloc(BIG);
	e->peer = -1;
	assert_true(net_addr_parse(slice_str(address), &a));
	if (lfd) {
		*lfd = sock_listen(&a, 10);
		assert_true(*lfd >= 0);
	}
	assert_int_equal(stream_connect(&e->s, e->loop, &a, &end_events), 0);
	assert_int_equal(e->connects, 0);
}

static void connect_and_talk(const char *address)
{
	struct net_addr peer;
	struct end e;
	int lfd;

	end_connect(&e, address, &lfd);
	/* What is queued meanwhile waits. */
	assert_true(outq_copy(&e.s.out, "hello", 5));
	stream_flush_later(&e.s);
	turns(&e, 3);
	assert_int_equal(e.connects, 1);
	assert_int_equal(e.connect_error, 0);
	assert_int_equal(e.s.state, STREAM_OPEN);
	e.peer = sock_accept(lfd, &peer);
	assert_true(e.peer >= 0);
	assert_int_equal(sock_accept(lfd, &peer), -EAGAIN);
	assert_int_equal(peer_drain(&e, 0), 5);
	peer_write(&e, "abc");
	turns(&e, 2);
	assert_got(&e, "abc");
	close(lfd);
	end_fini(&e);
}

static char sock_path[64], tcp[3][32];

static void test_connect_tcp(void **state)
{
	connect_and_talk(tcp[0]);
}

static void test_connect_unix(void **state)
{
	char address[80];

	snprintf(address, sizeof(address), "unix:%s", sock_path);
	connect_and_talk(address);
	/* The file that stayed behind is stale, and replaced. */
	connect_and_talk(address);
	unlink(sock_path);
}

/* A Unix stream asks for writability only when it is full, and gets it. */
static void test_unix_back_pressure(void **state)
{
	struct net_addr peer;
	char address[80], *big = calloc(1, 1000000);
	struct end e;
	size_t n = 0;
	int lfd;

	snprintf(address, sizeof(address), "unix:%s", sock_path);
	end_connect(&e, address, &lfd);
	turns(&e, 1);
	e.peer = sock_accept(lfd, &peer);
	for (int round = 0; round < 2; round++) {
		assert_true(outq_copy(&e.s.out, big, 1000000));
		stream_flush_later(&e.s);
		turns(&e, 1);
		assert_true(e.s.watch.write);
		for (n = 0; n < 1000000; turns(&e, 1))
			n = peer_drain(&e, n);
		assert_false(e.s.watch.write);
		assert_in_range(e.rooms, 1 + round, 2 * (1 + round));
	}
	close(lfd);
	unlink(sock_path);
	end_fini(&e);
	free(big);
}

static void test_connect_refused(void **state)
{
	struct net_addr a;
	struct end e;

	end_connect(&e, tcp[1], NULL);
	turns(&e, 3);
	assert_int_equal(e.connects, 1);
	assert_int_equal(e.connect_error, -ECONNREFUSED);
	stream_close(&e.s, false);
	assert_true(net_addr_parse(SLICE("unix:/nowhere/at/all"), &a));
	assert_int_equal(stream_connect(&e.s, e.loop, &a, &end_events),
			 -ENOENT);
	turns(&e, 2);
	assert_int_equal(e.connects, 1);
	end_fini(&e);
}

static void test_close_in_connect(void **state)
{
	char address[80];
	struct end e;
	int lfd;

	snprintf(address, sizeof(address), "unix:%s", sock_path);
	end_connect(&e, address, &lfd);
	e.close_in_connect = true;
	turns(&e, 2);
	assert_int_equal(e.connects, 1);
	close(lfd);
	unlink(sock_path);
	end_fini(&e);
}

static void test_listen_leaves_others_alone(void **state)
{
	struct net_addr a;
	char address[80];
	int fd;

	snprintf(address, sizeof(address), "unix:%s", sock_path);
	assert_true(net_addr_parse(slice_str(address), &a));
	fd = sock_listen(&a, 10);
	assert_true(fd >= 0);
	/* Somebody answers. */
	assert_int_equal(sock_listen(&a, 10), -EADDRINUSE);
	close(fd);
	unlink(sock_path);
	/* Not a socket. */
	fclose(fopen(sock_path, "w"));
	assert_int_equal(sock_listen(&a, 10), -EADDRINUSE);
	assert_int_equal(access(sock_path, F_OK), 0);
	unlink(sock_path);
}

static void test_tcp_reset(void **state)
{
	struct net_addr peer;
	struct end e;
	int lfd;

	end_connect(&e, tcp[2], &lfd);
	turns(&e, 2);
	e.peer = sock_accept(lfd, &peer);
	peer_write(&e, "last");
	sock_close(e.peer, true);
	e.peer = -1;
	for (int i = 0; i < 200 && !e.s.read_end; i++)
		turns(&e, 1);
	assert_got(&e, "last");
	assert_int_equal(e.s.read_end, STREAM_RESET);
	close(lfd);
	end_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_in_pieces),
		cmocka_unit_test(test_unconsumed_stays_contiguous),
		cmocka_unit_test(test_full_block_stops_reading),
		cmocka_unit_test(test_need),
		cmocka_unit_test(test_held_bytes_stand),
		cmocka_unit_test(test_held_bytes_stand_when_rest_moves),
		cmocka_unit_test(test_block_is_shared),
		cmocka_unit_test(test_much_is_not_shared),
		cmocka_unit_test(test_idle_gives_block_back),
		cmocka_unit_test(test_big_reads),
		cmocka_unit_test(test_turn_budget),
		cmocka_unit_test(test_eof_with_last_bytes),
		cmocka_unit_test(test_reset_behind_bytes),
		cmocka_unit_test(test_answered),
		cmocka_unit_test(test_close_in_read),
		cmocka_unit_test(test_reopen_in_read),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_hang_up_while_paused),
		cmocka_unit_test(test_reset_while_paused),
		cmocka_unit_test(test_poll),
		cmocka_unit_test(test_read_without_memory),
		cmocka_unit_test(test_write_gathers),
		cmocka_unit_test(test_big_write),
		cmocka_unit_test(test_small_backlog),
		cmocka_unit_test(test_write_error),
		cmocka_unit_test(test_write_error_reads_on),
		cmocka_unit_test(test_close_in_write_error),
		cmocka_unit_test(test_close_in_room),
		cmocka_unit_test(test_shutdown_after_flush),
		cmocka_unit_test(test_connect_tcp),
		cmocka_unit_test(test_connect_unix),
		cmocka_unit_test(test_tell_sent),
		cmocka_unit_test(test_tell_sent_after_shutdown),
		cmocka_unit_test(test_unix_back_pressure),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_close_in_connect),
		cmocka_unit_test(test_listen_leaves_others_alone),
		cmocka_unit_test(test_tcp_reset),
	};

	/* Several runs may go on at once. */
	snprintf(sock_path, sizeof(sock_path), P_tmpdir "/test-stream-%d.sock",
		 (int)getpid());
	for (int i = 0; i < 3; i++)
		snprintf(tcp[i], sizeof(tcp[i]), "127.0.0.1:%d",
			 10000 + (int)getpid() % 6000 * 3 + i);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
