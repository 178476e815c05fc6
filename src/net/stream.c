/*
 * Buffered, non-blocking streams; see stream.h.
 *
 * Readiness is edge-triggered and remembered in readable and writable. A recv
 * that brings less than was asked for has emptied the socket, so the one that
 * would say EAGAIN is saved; only after a hang-up is the socket read to its
 * end. One thing is lost by that: the loop tells an error (a reset) as plain
 * readability, and if bytes came in the same instant the short recv hides it.
 * So a stream that goes quiet after one is looked at once more, after
 * CHECK_US (suspect), unless its owner knows better.
 *
 * Writability is asked for only once a send has not taken everything. It would
 * wake us for each new connection, and on a Unix socket for each message that
 * the peer takes.
 *
 * After each callback the stream may be closed or even be another one: only
 * its flags are looked at then, and those of a new stream say that there is
 * nothing to do.
 */
#include "net/stream.h"

#include <errno.h>

#define IOV_MAX_USED	64
#define CHECK_US	100000
#define ROOM_MIN	2048u		/* a recv for less is not worth it */
#define NEED_MAX	(UINT32_C(1) << 30)

static void on_ready_task(struct task *t);
static void on_flush_task(struct task *t);
static void on_check(struct deadline *d);

static ssize_t plain_recv(struct stream *s, void *buf, size_t n)
{
	return sock_recv(s->watch.fd, buf, n);
}

static ssize_t plain_sendv(struct stream *s, const struct iovec *iov, int n)
{
	return sock_sendv(s->watch.fd, iov, n);
}

static void plain_shutdown(struct stream *s)
{
	sock_shutdown(s->watch.fd);
}

const struct stream_ops stream_plain_ops = {
	.recv = plain_recv,
	.sendv = plain_sendv,
	.shutdown = plain_shutdown,
};

static void set_error(struct stream *s, int error)
{
	if (!s->error)
		s->error = error;
}

static void start_check(struct stream *s)
{
	if (!deadline_running(&s->check))
		deadline_start(s->loop, &s->check, CHECK_US, on_check);
}

/* ---- the block that is read into ---------------------------------------- */

static size_t in_bytes(const struct stream *s)
{
	return s->in_end - s->in_pos;
}

static void in_drop(struct stream *s)
{
	block_put(s->in);
	s->in = NULL;
	s->in_pos = s->in_end = 0;
}

/* Room behind what has come. Once another stream has read into the block there
 * is none. */
static size_t in_room(const struct stream *s)
{
	return s->in_end == s->in->used ? block_room(s->in) : 0;
}

/* All is consumed. If others hold the block anyway its room may serve the next
 * recv, until on_check(); otherwise it goes back at once. One that is shared
 * serves it all the same. */
static void in_idle(struct stream *s)
{
	if (LIKELY(s->in == s->loop->blocks.shared[s->in_kind]) ||
	    s->in->refs == 1 || in_room(s) < ROOM_MIN) {
		in_drop(s);
		return;
	}
	start_check(s);
}

static bool in_set(struct stream *s, struct block *b)
{
	s->in = b;
	s->in_pos = s->in_end = b ? b->used : 0;
	return b != NULL;
}

/* A block for who has none. */
static inline bool in_begin(struct stream *s)
{
	struct block_pool *pool = &s->loop->blocks;

	if (UNLIKELY(s->big_reads))
		return in_set(s, block_new(pool, BLOCK_LARGE));
	if (UNLIKELY(s->much))
		return in_set(s, block_new(pool, BLOCK_SMALL));
	return in_set(s, block_share(pool, (enum block_kind)s->in_kind,
				     ROOM_MIN));
}

/*
 * Puts what is unconsumed at the start of a block of at least `size` bytes:
 * the same one if nobody else has a reference, or another. Bytes that somebody
 * else may look at never move.
 */
static bool in_renew(struct stream *s, size_t size)
{
	struct block *old = s->in, *new;
	size_t n = in_bytes(s);

	if (!old)
		return in_set(s, block_new(&s->loop->blocks, size));
	if (old->refs == 1 && old->size >= size) {
		memmove(old->data, old->data + s->in_pos, n);
		new = old;
	} else {
		new = block_new(&s->loop->blocks, size);
		if (!new)
			return false;
		memcpy(new->data, old->data + s->in_pos, n);
		block_put(old);
	}
	s->in = new;
	s->in_pos = 0;
	s->in_end = (uint32_t)n;
	new->used = (uint32_t)n;
	return true;
}

enum in_room { IN_ROOM, IN_FULL, IN_NO_MEMORY };

/* Sees to it that there is room for a recv behind in_end. */
static enum in_room in_make_room(struct stream *s)
{
	size_t want = s->big_reads ? BLOCK_LARGE : BLOCK_SMALL;
	size_t n = in_bytes(s), room;

	if (LIKELY(!s->in))
		return in_begin(s) ? IN_ROOM : IN_NO_MEMORY;
	if (n == 0 && (s->in->refs == 1 || s->in->size < want))
		return in_renew(s, want) ? IN_ROOM : IN_NO_MEMORY;
	room = in_room(s);
	if (LIKELY(room >= ROOM_MIN))
		return IN_ROOM;
	if (want > n + room && (room == 0 || n <= want / 2))
		return in_renew(s, want) ? IN_ROOM : IN_NO_MEMORY;
	return room ? IN_ROOM : IN_FULL;
}

/* ---- reading ------------------------------------------------------------- */

static void read_ended(struct stream *s, int error)
{
	if (error)
		set_error(s, error);
	/* The kernel tells an error once, and the writer may have had it. A
	 * peer that has closed is no error of the reader's; but the writer's
	 * EPIPE, which may be the first, does not hide a reset. */
	if (!error || error == -EPIPE)
		error = s->error;
	s->read_end = error && error != -EPIPE ? STREAM_RESET : STREAM_EOF;
	s->hup = true;
	s->readable = false;
	s->suspect = false;
	if (s->in && in_bytes(s) == 0)
		in_drop(s);
}

/* Nothing more to come until the next edge. */
static void read_drained(struct stream *s)
{
	s->readable = false;
	if (s->in && in_bytes(s) == 0)
		in_idle(s);
}

/* What a recv into `room` bytes has brought. */
static inline size_t read_took(struct stream *s, ssize_t r, size_t room)
{
	if (LIKELY(r > 0)) {
		s->much = (size_t)r >= ROOM_MIN;
		s->in_end += (uint32_t)r;
		s->in->used = s->in_end;
		s->bytes_in += (uint64_t)r;
		if ((size_t)r < room && !s->hup && !s->write_failed &&
		    s->ops == &stream_plain_ops) {
			s->readable = false;
			s->suspect = true;
		}
		return (size_t)r;
	}
	if (r != -EAGAIN)
		read_ended(s, (int)r);
	else if (s->want_write && !watch_want_write(&s->watch, true))
		read_ended(s, -ENOMEM);
	else
		read_drained(s);
	return 0;
}

/*
 * One recv. Returns the bytes that came; 0 if none did, for which readable,
 * read_end and blocked have the reason.
 */
static size_t read_once(struct stream *s)
{
	size_t room;

	switch (in_make_room(s)) {
	case IN_FULL:
		s->blocked = true;
		return 0;
	case IN_NO_MEMORY:
		read_ended(s, -ENOMEM);
		return 0;
	case IN_ROOM:
		break;
	}
	room = block_room(s->in);
	return read_took(s, s->ops->recv(s, s->in->data + s->in_end, room),
			 room);
}

/* All that one call of on_read() is to see: one recv, but once the peer has
 * hung up also the end that stands behind its last bytes. */
static size_t read_some(struct stream *s)
{
	size_t total = 0;

	while (s->readable && !s->read_end && !s->blocked) {
		size_t n = read_once(s);

		total += n;
		if (n == 0 || !s->readable || s->in_end == s->in->size ||
		    total >= STREAM_TURN_BUDGET)
			break;
		if (!s->hup)
			break;
	}
	return total;
}

static inline void tell_read(struct stream *s)
{
	s->owed_read = false;
	s->hup_told = s->hup;
	if (s->events->on_read)
		s->events->on_read(s);
	if (s->suspect)
		start_check(s);
}

/* After on_read(): may it be told once more in this turn? */
static inline bool reads_on(const struct stream *s)
{
	return s->readable && s->state == STREAM_OPEN && !s->paused &&
	       !s->read_end && !s->blocked;
}

/* Reads and tells until there is nothing more, or this turn's share is used
 * up. Only from callbacks of the loop. */
static void read_and_tell(struct stream *s)
{
	size_t total = 0;

	s->blocked = false;
	for (;;) {
		bool owed = s->owed_read;
		size_t n = read_some(s);

		total += n;
		if (n || owed || s->owed_read || s->read_end)
			tell_read(s);
		else
			return;
		if (!reads_on(s))
			return;
		if (total >= STREAM_TURN_BUDGET) {
			loop_defer_next(s->loop, &s->ready, on_ready_task);
			return;
		}
	}
}

/*
 * The same where nothing is out of the way, as nearly always: one recv that
 * finds less than there is room for. False: nothing was done.
 */
static inline bool read_plainly(struct stream *s)
{
	size_t room;
	ssize_t r;

	if (UNLIKELY(s->hup || s->paused || s->want_write || s->blocked ||
		     s->owed_read || s->write_failed) ||
	    UNLIKELY(s->read_end || s->ops != &stream_plain_ops))
		return false;
	if (LIKELY(!s->in) ? !in_begin(s) : in_make_room(s) != IN_ROOM)
		return false;
	room = block_room(s->in);
	r = sock_recv(s->watch.fd, s->in->data + s->in_end, room);
	if (LIKELY(r > 0 && (size_t)r < room)) {
		s->much = (size_t)r >= ROOM_MIN;
		s->in_end += (uint32_t)r;
		s->in->used = s->in_end;
		s->bytes_in += (uint64_t)r;
		s->suspect = true;
		if (LIKELY(s->events->on_read != NULL))
			s->events->on_read(s);
		if (s->suspect)
			start_check(s);
		return true;
	}
	s->readable = true;
	if (read_took(s, r, room) || s->read_end)
		tell_read(s);
	if (reads_on(s))
		read_and_tell(s);
	return true;
}

static bool hup_is_due(const struct stream *s)
{
	return s->hup && !s->hup_told;
}

void stream_consume(struct stream *s, size_t n)
{
	ASSERT(n <= in_bytes(s));
	s->in_pos += (uint32_t)n;
	if (s->in && s->in_pos == s->in_end)
		in_idle(s);
	if (UNLIKELY(s->blocked) && n) {
		s->blocked = false;
		loop_defer(s->loop, &s->ready, on_ready_task);
	}
}

bool stream_need(struct stream *s, size_t need)
{
	size_t want = s->big_reads ? BLOCK_LARGE : BLOCK_SMALL;

	if (s->state == STREAM_CLOSED || need > NEED_MAX)
		return false;
	if ((!s->in || in_bytes(s) + in_room(s) < need) &&
	    !in_renew(s, need > want ? need : want))
		return false;
	if (s->blocked && in_room(s)) {
		s->blocked = false;
		loop_defer(s->loop, &s->ready, on_ready_task);
	}
	return true;
}

void stream_pause(struct stream *s)
{
	s->paused = true;
	if (s->state == STREAM_OPEN && hup_is_due(s))
		loop_defer(s->loop, &s->ready, on_ready_task);
}

void stream_resume(struct stream *s)
{
	s->paused = false;
	if (s->state != STREAM_OPEN)
		return;
	s->owed_read = in_bytes(s) > 0 || s->read_end != STREAM_READING;
	if (s->owed_read || s->readable)
		loop_defer(s->loop, &s->ready, on_ready_task);
}

bool stream_poll(struct stream *s)
{
	if (s->state != STREAM_OPEN || s->paused)
		return false;
	if (!s->owed_read && !s->read_end)
		s->owed_read = read_once(s) > 0 || s->read_end;
	if (s->suspect)
		start_check(s);
	if (s->owed_read)
		loop_defer(s->loop, &s->ready, on_ready_task);
	return s->owed_read;
}

/* ---- writing ------------------------------------------------------------- */

static void write_failed(struct stream *s, int error)
{
	set_error(s, error);
	s->write_failed = true;
	s->owed_write_error = true;
	s->backlog = s->told_full = false;
	outq_clear(&s->out);
	/* The peer may have sent its reasons before it went. */
	if (!s->read_end) {
		s->readable = true;
		loop_defer(s->loop, &s->ready, on_ready_task);
	}
}

static void write_stuck(struct stream *s)
{
	s->writable = false;
	s->backlog = true;
	if (!watch_want_write(&s->watch, true))
		write_failed(s, -ENOMEM);
}

/* False: no more now. */
static bool write_sent(struct stream *s, ssize_t r, size_t asked)
{
	if (UNLIKELY(r < 0)) {
		if (r == -EAGAIN)
			write_stuck(s);
		else
			write_failed(s, (int)r);
		return false;
	}
	outq_consume(&s->out, (size_t)r);
	s->bytes_out += (uint64_t)r;
	s->last_send_us = s->loop->now_us;
	if (UNLIKELY((size_t)r < asked)) {
		write_stuck(s);
		return false;
	}
	return true;
}

static NOINLINE void write_many(struct stream *s)
{
	struct iovec iov[IOV_MAX_USED];
	size_t asked;
	ssize_t r;

	do {
		int n = outq_iov(&s->out, iov, IOV_MAX_USED);

		asked = 0;
		for (int i = 0; i < n; i++)
			asked += iov[i].iov_len;
		r = s->ops->sendv(s, iov, n);
	} while (write_sent(s, r, asked) && !outq_empty(&s->out));
}

static void write_some(struct stream *s)
{
	const struct oseg *first = s->out.first;
	struct iovec iov;

	if (outq_empty(&s->out))
		return;
	if (UNLIKELY(first->next)) {
		write_many(s);
		return;
	}
	iov.iov_base = (void *)(uintptr_t)first->p;
	iov.iov_len = first->n;
	(void)write_sent(s, s->ops->sendv(s, &iov, 1), iov.iov_len);
}

static void note_room(struct stream *s)
{
	bool empty = outq_empty(&s->out);

	if ((s->told_full && s->out.bytes <= STREAM_LOW_WATER) ||
	    (s->backlog && empty))
		s->owed_room = true;
	if (s->out.bytes <= STREAM_LOW_WATER)
		s->told_full = false;
	if (s->backlog && empty) {
		s->backlog = false;
		if (!s->keep_write && !watch_want_write(&s->watch, false))
			write_failed(s, -ENOMEM);
	}
}

static void stream_flush(struct stream *s)
{
	if (s->write_failed || s->shut) {
		outq_clear(&s->out);
		return;
	}
	if (s->out.bytes > STREAM_LOW_WATER)
		s->told_full = true;
	if (!s->writable)
		return;
	write_some(s);
	if (s->write_failed)
		return;
	note_room(s);
	if (s->shutdown_after_flush && outq_empty(&s->out)) {
		s->shut = true;
		s->ops->shutdown(s);
	}
}

static void tell_room(struct stream *s)
{
	s->owed_room = false;
	if (outq_empty(&s->out))
		s->tell_sent = false;
	if (s->events->on_room)
		s->events->on_room(s);
}

static void tell_writer(struct stream *s)
{
	if (s->owed_write_error) {
		s->owed_write_error = s->owed_room = s->tell_sent = false;
		if (s->events->on_write_error)
			s->events->on_write_error(s);
	} else if (s->owed_room ||
		   (s->tell_sent && outq_empty(&s->out) && !s->write_failed)) {
		tell_room(s);
	}
}

/*
 * A flush where nothing is out of the way: one piece, which the socket takes
 * whole. False: nothing was done.
 */
static inline bool flush_plainly(struct stream *s)
{
	const struct oseg *first = s->out.first;
	size_t n;

	if (UNLIKELY(!first || first->next || !s->writable || s->shut ||
		     s->shutdown_after_flush || s->told_full || s->backlog ||
		     s->owed_room || s->owed_write_error || s->write_failed ||
		     first->n > STREAM_LOW_WATER ||
		     s->ops != &stream_plain_ops))
		return false;
	n = first->n;
	if (UNLIKELY(!write_sent(s, sock_send(s->watch.fd, first->p, n), n))) {
		if (!s->write_failed)
			note_room(s);
		tell_writer(s);
	} else if (s->tell_sent) {
		tell_room(s);
	}
	return true;
}

static NOINLINE void flush_and_tell(struct stream *s)
{
	stream_flush(s);
	tell_writer(s);
}

static void on_flush_task(struct task *t)
{
	struct stream *s = container_of(t, struct stream, flush);

	if (LIKELY(s->state == STREAM_OPEN) && UNLIKELY(!flush_plainly(s)))
		flush_and_tell(s);
}

void stream_flush_later(struct stream *s)
{
	if (LIKELY(s->state == STREAM_OPEN && !s->write_failed && !s->shut))
		loop_defer_flush(s->loop, &s->flush, on_flush_task);
	/* While connecting the queue waits; stream_connected() sends it. */
	else if (s->state != STREAM_CONNECTING || s->write_failed || s->shut)
		outq_clear(&s->out);
}

void stream_tell_sent(struct stream *s)
{
	s->tell_sent = true;
	if (s->state == STREAM_OPEN)
		loop_defer_flush(s->loop, &s->flush, on_flush_task);
}

void stream_flush_now(struct stream *s)
{
	if (s->state != STREAM_OPEN)
		return;
	task_cancel(&s->flush);
	stream_flush(s);
	if (s->owed_room || s->owed_write_error || s->tell_sent)
		loop_defer(s->loop, &s->ready, on_ready_task);
}

void stream_shutdown(struct stream *s)
{
	if (s->state == STREAM_CLOSED || s->shut || s->write_failed)
		return;
	s->shutdown_after_flush = true;
	if (s->state == STREAM_CONNECTING)
		return;
	if (!outq_empty(&s->out)) {
		loop_defer_flush(s->loop, &s->flush, on_flush_task);
		return;
	}
	s->shut = true;
	s->ops->shutdown(s);
}

/* ---- what the loop tells ------------------------------------------------- */

static void stream_connected(struct stream *s, int error)
{
	s->owed_connect = false;
	if (error) {
		/* Stays CONNECTING until the owner closes it. */
		set_error(s, error);
	} else {
		s->state = STREAM_OPEN;
		s->writable = true;
		s->last_send_us = s->loop->now_us;
		if (!outq_empty(&s->out) || s->shutdown_after_flush ||
		    s->tell_sent)
			loop_defer_flush(s->loop, &s->flush, on_flush_task);
	}
	if (s->events->on_connect)
		s->events->on_connect(s, error);
}

static void on_connecting(struct stream *s, unsigned what)
{
	int error;

	if (s->error)
		return;
	error = sock_error(s->watch.fd);
	if (!error && !(what & (WATCH_WRITE | WATCH_HUP)) && !s->owed_connect)
		return;
	/* What has come already is read as soon as on_connect() is through. */
	if (what & WATCH_HUP)
		s->hup = true;
	if (what & (WATCH_READ | WATCH_HUP))
		s->readable = true;
	stream_connected(s, error);
	if (s->state == STREAM_OPEN && s->readable)
		loop_defer(s->loop, &s->ready, on_ready_task);
}

static NOINLINE void on_change(struct stream *s, unsigned what)
{
	if (what & WATCH_HUP)
		s->hup = true;
	if (what & (WATCH_READ | WATCH_HUP))
		s->readable = true;
	if (what & WATCH_WRITE) {
		s->writable = true;
		if (s->want_write) {
			s->want_write = false;
			s->readable = true;
		}
		if (!outq_empty(&s->out))
			loop_defer_flush(s->loop, &s->flush, on_flush_task);
	}
	if (LIKELY(!s->paused && !s->blocked)) {
		if (s->readable)
			read_and_tell(s);
	} else if (hup_is_due(s)) {
		tell_read(s);
	} else if (s->readable && !s->hup) {
		s->suspect = true;
		start_check(s);
	}
}

static void on_watch(struct watch *w, unsigned what)
{
	struct stream *s = container_of(w, struct stream, watch);

	if (UNLIKELY(s->state == STREAM_CONNECTING)) {
		on_connecting(s, what);
		return;
	}
	/* Who watches for writing is told with each read that it may. */
	if (LIKELY((what == WATCH_READ ||
		    (what == (WATCH_READ | WATCH_WRITE) && s->writable &&
		     outq_empty(&s->out)))) &&
	    LIKELY(read_plainly(s)))
		return;
	on_change(s, what);
}

static void on_ready_task(struct task *t)
{
	struct stream *s = container_of(t, struct stream, ready);

	if (s->state == STREAM_CONNECTING && s->owed_connect)
		stream_connected(s, 0);
	if (s->state != STREAM_OPEN)
		return;
	tell_writer(s);
	if (s->state != STREAM_OPEN)
		return;
	if (s->paused) {
		if (hup_is_due(s))
			tell_read(s);
		return;
	}
	if (s->owed_read || (s->readable && !s->read_end))
		read_and_tell(s);
}

/* The stream was quiet for CHECK_US, or at least was so some time in it. */
static void on_check(struct deadline *d)
{
	struct stream *s = container_of(d, struct stream, check);
	bool suspect = s->suspect;
	int error;

	s->suspect = false;
	if (s->in && in_bytes(s) == 0)
		in_drop(s);
	if (s->state != STREAM_OPEN || s->read_end || !suspect)
		return;
	if (!s->paused && !s->blocked) {
		s->readable = true;
		read_and_tell(s);
		return;
	}
	error = sock_error(s->watch.fd);
	if (error) {
		set_error(s, error);
		s->hup = s->readable = true;
		if (hup_is_due(s))
			tell_read(s);
	}
}

/* ---- opening and closing ------------------------------------------------- */

static void stream_init(struct stream *s, struct loop *loop,
			const struct stream_events *events)
{
	memset(s, 0, sizeof(*s));
	s->ops = &stream_plain_ops;
	s->events = events;
	s->loop = loop;
	s->last_send_us = loop->now_us;
	outq_init(&s->out, &loop->blocks);
}

bool stream_open(struct stream *s, struct loop *loop, int fd,
		 const struct stream_events *events)
{
	stream_init(s, loop, events);
	/* A new connection is writable: no need to be woken to hear it. Who
	 * has been full once is told of it from then on, for he may be again. */
	s->keep_write = true;
	if (!watch_start_quiet(loop, &s->watch, fd, on_watch))
		return false;
	s->state = STREAM_OPEN;
	s->writable = true;
	return true;
}

int stream_connect(struct stream *s, struct loop *loop,
		   const struct net_addr *addr,
		   const struct stream_events *events)
{
	bool at_once = addr->sa.sa_family == AF_UNIX;
	int fd = sock_connect(addr);
	bool ok;

	stream_init(s, loop, events);
	if (fd < 0)
		return fd;
	/* A Unix socket is connected by now. */
	ok = at_once ? watch_start_quiet(loop, &s->watch, fd, on_watch) :
		       watch_start(loop, &s->watch, fd, on_watch);
	if (!ok) {
		sock_close(fd, false);
		return -ENOMEM;
	}
	s->state = STREAM_CONNECTING;
	s->owed_connect = at_once;
	if (at_once)
		loop_defer(loop, &s->ready, on_ready_task);
	return 0;
}

void stream_set_events(struct stream *s, const struct stream_events *events)
{
	s->events = events;
}

/* Everything but the descriptor goes. */
static int stream_end(struct stream *s)
{
	int fd = s->watch.fd;

	s->state = STREAM_CLOSED;
	watch_stop(&s->watch);
	deadline_stop(&s->check);
	task_cancel(&s->ready);
	task_cancel(&s->flush);
	outq_clear(&s->out);
	in_drop(s);
	s->owed_connect = s->owed_read = s->owed_room = false;
	s->owed_write_error = s->readable = s->writable = false;
	s->suspect = s->tell_sent = false;
	s->watch.fd = -1;
	return fd;
}

void stream_close(struct stream *s, bool hard)
{
	if (s->state != STREAM_CLOSED)
		sock_close(stream_end(s), hard);
}

bool stream_quiet(const struct stream *s)
{
	return s->state == STREAM_OPEN && s->read_end == STREAM_READING &&
	       !in_bytes(s) && !s->hup && outq_empty(&s->out) && !s->shut &&
	       !s->write_failed && !s->owed_read && !s->owed_room &&
	       !list_linked(&s->ready.node) && !list_linked(&s->flush.node);
}

int stream_take_fd(struct stream *s)
{
	ASSERT(stream_quiet(s));
	return stream_end(s);
}
