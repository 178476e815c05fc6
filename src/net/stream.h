/*
 * A buffered, non-blocking, two-way byte stream over a socket. It knows
 * nothing of what the bytes mean.
 *
 * Reading: the stream reads into a block and keeps [pos, end) of it; the owner
 * looks at stream_data(), consumes, and may keep references of the block. When
 * the owner has consumed all and no byte is left, the block is put back: an
 * idle stream holds no memory but this struct. Streams that get little at a
 * time read into one block behind each other, so that a head that somebody keeps
 * costs what it weighs; one that has just had much at once, or whose body comes
 * now, has a block of its own. What is written behind each other is the owner's
 * choice: outq_share().
 *
 * Writing: append to ->out (base/outq.h), then stream_flush_later(): one
 * sendmsg at the end of the turn for all that gathered. What the socket does
 * not take stays queued and goes when it is writable again.
 *
 * States: CONNECTING -> OPEN -> CLOSED. The reading and the writing half fail
 * or end on their own (read_end, write_failed).
 *
 * Callbacks may call anything here, stream_close() too, and stream_open() or
 * stream_connect() again after it. They never come from inside a call of the
 * owner's. One that is NULL is not called.
 *
 * Back-pressure: what the owner leaves in stream_data() stays there. When the
 * block is full of it, reading stops until some is consumed or stream_need()
 * makes room.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "base/outq.h"
#include "net/loop.h"
#include "net/sock.h"

struct stream;

/* recv and sendv as sock_recv/sock_sendv; a recv that must write first (TLS)
 * returns -EAGAIN and sets stream->want_write. */
struct stream_ops {
	ssize_t (*recv)(struct stream *s, void *buf, size_t n);
	ssize_t (*sendv)(struct stream *s, const struct iovec *iov, int n);
	void (*shutdown)(struct stream *s);
};

extern const struct stream_ops stream_plain_ops;

enum stream_state { STREAM_CLOSED, STREAM_CONNECTING, STREAM_OPEN };

/* How the reading half ended. */
enum stream_end {
	STREAM_READING,		/* it has not */
	STREAM_EOF,
	STREAM_RESET,		/* an error; ->error has the -errno */
};

struct stream_events {
	/* A connect has come to its end: error is 0 or -errno. */
	void (*on_connect)(struct stream *s, int error);
	/*
	 * New bytes stand in stream_data(), or the reading half has ended
	 * (s->read_end), or both. Not called while reading is paused, except
	 * that a peer's hang-up is always told, once: then s->hup is set,
	 * nothing is new in stream_data(), and read_end is STREAM_READING as
	 * long as the kernel may have bytes that were not read. If s->error
	 * is set as well, the peer has not just closed but reset.
	 */
	void (*on_read)(struct stream *s);
	/*
	 * More may be written. Told after a flush when the out-queue had been
	 * above STREAM_LOW_WATER and is now at it or below; and when it is
	 * empty after the socket had not taken all of it at once. Not told by
	 * a flush that starts below and sends everything, but to him who has
	 * asked for it by stream_tell_sent().
	 */
	void (*on_room)(struct stream *s);
	/* Writing has failed (s->error); the queue was dropped. Told once. */
	void (*on_write_error)(struct stream *s);
};

struct stream {
	struct watch watch;
	const struct stream_ops *ops;
	const struct stream_events *events;
	struct loop *loop;
	struct outq out;
	struct block *in;	/* NULL when nothing is buffered */
	uint32_t in_pos, in_end;
	struct task ready;	/* on_read again later (budget, resume) */
	struct task flush;
	int error;		/* -errno of the first failure */
	uint8_t state;		/* enum stream_state */
	uint8_t read_end;	/* enum stream_end */
	uint8_t in_kind;	/* enum block_kind, the owner's to change */
	/*
	 * A byte of what reading looks at, and one of what writing does: the
	 * usual case is one comparison with each. stream.c's own are blocked
	 * (reading waits for room in the block), suspect (the kernel may hide
	 * an error behind bytes that were read), backlog (the last flush left
	 * bytes), keep_write, and those for what is due to be told.
	 */
	bool readable : 1, hup : 1, paused : 1, want_write : 1, blocked : 1,
	     owed_read : 1, write_failed : 1, suspect : 1;
	bool writable : 1, shut : 1, shutdown_after_flush : 1, told_full : 1,
	     backlog : 1, owed_room : 1, owed_write_error : 1, keep_write : 1;
	bool big_reads : 1, hup_told : 1, owed_connect : 1, tell_sent : 1;
	bool much;		/* the last read brought it */
	struct deadline check;	/* a look at a stream that has gone quiet */
	uint64_t last_send_us;	/* loop time of the last byte the socket took */
	uint64_t bytes_in, bytes_out;
};

#define STREAM_LOW_WATER	(64u * 1024)
#define STREAM_TURN_BUDGET	(256u * 1024)

/*
 * Takes over an open, non-blocking descriptor. False: the loop has no room;
 * the descriptor stays the caller's. Events may come from the next turn on.
 */
bool stream_open(struct stream *s, struct loop *loop, int fd,
		 const struct stream_events *events) MUST_CHECK;
/* Starts a connect; on_connect() follows in a later turn, never from inside.
 * 0 or -errno (nothing to close then). */
int stream_connect(struct stream *s, struct loop *loop,
		   const struct net_addr *addr,
		   const struct stream_events *events) MUST_CHECK;
/* Hands the descriptor's events to another owner (a pooled connection). */
void stream_set_events(struct stream *s, const struct stream_events *events);

/* What was read and not yet consumed. .p may be written to (decoders unescape
 * in place): it is the stream's own block. */
static inline struct slice stream_data(const struct stream *s)
{
	if (!s->in)
		return SLICE_NONE;
	return slice_of(s->in->data + s->in_pos, s->in_end - s->in_pos);
}

/* Drops n bytes from the front of stream_data(). Puts the block back when all
 * is consumed. */
void stream_consume(struct stream *s, size_t n);
/*
 * From inside on_read(): the peer has answered, so has read, all that it was
 * sent. A socket is only reset for what it has not read, so no look is needed
 * for a reset that may be hidden behind what came (stream.c).
 */
static inline void stream_is_answered(struct stream *s)
{
	s->suspect = false;
}

/*
 * The owner needs at least `need` contiguous bytes before it can go on: makes
 * the block large enough (moving what is there, if it must). False: no memory.
 */
bool stream_need(struct stream *s, size_t need) MUST_CHECK;
/* Body bytes are coming: read into 64 KiB blocks (true) or 16 KiB (false). */
static inline void stream_big_reads(struct stream *s, bool on)
{
	s->big_reads = on;
}

/* Stops on_read(); the kernel's buffer then fills and slows the peer. A hang-up
 * that was seen and not yet told is still told. */
void stream_pause(struct stream *s);
/* Goes on, with what is buffered first: if anything is, or the reading half
 * has ended, on_read() comes as a task of this turn, never from inside. May be
 * called on a stream that is not paused, to be told again. */
void stream_resume(struct stream *s);
/*
 * Reads once more now, for one who is about to declare a time-out. True if
 * something new came (or the end did): on_read() will be called.
 */
bool stream_poll(struct stream *s) MUST_CHECK;

/* One sendmsg at the end of this turn. */
void stream_flush_later(struct stream *s);
/* Tells on_room(), once, as soon as all that is queued has been sent; if that
 * is so now, in the flushes of this turn. Never from inside. */
void stream_tell_sent(struct stream *s);

/* What is appended now goes with what this turn sends anyway. */
static inline bool stream_flush_is_due(const struct stream *s)
{
	return list_linked(&s->flush.node);
}

/* Now; for those who close right after. */
void stream_flush_now(struct stream *s);
/* Half-close, once all that is queued has been sent. */
void stream_shutdown(struct stream *s);
/* Nothing is buffered either way, nothing is due: all that there is, is the
 * descriptor. */
bool stream_quiet(const struct stream *s);
/* Gives the descriptor of a quiet stream away; the stream is closed then. */
int stream_take_fd(struct stream *s) MUST_CHECK;
/* Closes at once, drops what is queued. hard: RST. No callback after it. The
 * memory is the caller's and may go at the end of the turn. */
void stream_close(struct stream *s, bool hard);

#endif
