/*
 * One HTTP/1 connection over a stream: a source of the messages that its peer
 * sends and a sink for those that it gets. Both roles, one struct: a SERVER
 * connection reads requests and writes responses, a CLIENT connection the
 * other way round.
 *
 *	IDLE -> MESSAGE -> IDLE ...		(keep-alive)
 *	     -> LINGER -> CLOSED		(after Connection: close)
 *
 * IDLE: nothing of a message has come, nothing is being written. A SERVER
 * connection leaves it with the first byte (on_begin), a CLIENT connection
 * with h1_begin_request(). One message pair at a time: bytes of the next
 * request stay in the stream until h1_next().
 *
 * Every wait owns a deadline: idle and header (SERVER), response head
 * (CLIENT, from the end of the request on), body between reads (not while
 * paused), send between writes. Before one is declared the socket is read once
 * more. What goes wrong is told once:
 *  - inside a message that is being read: source.events->on_abort;
 *  - while a message is being written: sink.events->on_fail;
 *  - while IDLE, and when LINGER is over: events->on_close. The connection is
 *    closed then; its memory is the owner's.
 * A SERVER connection whose peer half-closed after a complete request goes on
 * (keep-alive ends); a reset after it is told by sink.events->on_fail.
 */
#ifndef H1_H1_H
#define H1_H1_H

#include "http/chunked.h"
#include "http/message.h"
#include "net/stream.h"

enum h1_role { H1_SERVER, H1_CLIENT };

enum h1_state { H1_CLOSED, H1_IDLE, H1_MESSAGE, H1_LINGER };

#define H1_LINGER_BYTES	(64u * 1024)
#define H1_LINGER_US	2000000u
/* CLIENT: more interim responses than this to one request are MALFORMED, for
 * nothing slows them down. */
#define H1_INTERIMS_MAX	32u
/* A sink is full above this. */
#define H1_HIGH_WATER	(256u * 1024)

struct h1_settings {
	struct http_limits limits;
	uint64_t idle_us;	/* SERVER: between messages */
	uint64_t head_us;	/* SERVER: first byte to end of the head;
				 * CLIENT: end of request to response head */
	uint64_t body_us;	/* between reads of a body */
	uint64_t send_us;	/* between writes */
};

struct h1_conn;

struct h1_events {
	/* SERVER: the first byte of a request has come. The owner may set
	 * conn->settings and source/sink events here. */
	void (*on_begin)(struct h1_conn *conn);
	/* See above. why: MESSAGE_EOF for an orderly end, MESSAGE_MALFORMED for
	 * bytes that a CLIENT connection got while IDLE. */
	void (*on_close)(struct h1_conn *conn, enum message_fault why);
	/* CLIENT, opened by h1_connect(): 0 or -errno. */
	void (*on_connect)(struct h1_conn *conn, int error);
};

struct h1_conn {
	struct stream stream;
	struct source source;
	struct sink sink;
	const struct h1_events *events;
	const struct h1_settings *settings;	/* owner's; see on_begin */
	struct deadline read_deadline, send_deadline;
	struct task task;		/* what must not be told from inside */
	union {				/* of the message being read */
		struct http_chunked chunked;
		uint64_t body_left;	/* with HTTP_BODY_LENGTH; in LINGER */
	};
	uint64_t write_left;		/* with HTTP_BODY_LENGTH */
	uint32_t scanned;		/* of the head being read */
	uint32_t send_mark;		/* bytes_out when last looked at */
	uint8_t role, state;
	uint8_t read_state;		/* private to h1/ */
	uint8_t read_framing;		/* enum http_framing, as read */
	uint8_t write_state;
	uint8_t write_framing;
	uint8_t request_method;		/* enum http_method of this pair */
	uint8_t peer_minor;		/* HTTP/1.<minor> of the peer's head */
	uint8_t send_stalls;		/* looks in a row without progress */
	uint8_t pending_why;		/* enum message_fault of the task */
	uint8_t interims;		/* CLIENT: 1xx heads of this response */
	/* Set with each message, hence no bits. */
	bool peer_keep_alive, keep_alive, upgraded, request_done, response_done;
	/* A byte of the message that is read (or awaited) has come. */
	bool got_bytes;
	/* Private. */
	bool source_paused : 1, waiting_room : 1, late : 1, aborted : 1,
	     read_pending : 1, fail_pending : 1, close_pending : 1,
	     abort_pending : 1;
};

/* Takes over an accepted descriptor; IDLE. False: no room; fd is closed. */
bool h1_accept(struct h1_conn *conn, struct loop *loop, int fd,
	       const struct h1_settings *settings,
	       const struct h1_events *events) MUST_CHECK;
/* Starts a connect; on_connect() follows, never from inside; then IDLE.
 * 0 or -errno. */
int h1_connect(struct h1_conn *conn, struct loop *loop,
	       const struct net_addr *addr, const struct h1_settings *settings,
	       const struct h1_events *events) MUST_CHECK;
/* CLIENT: a request is about to be written; its response will be read. The
 * owner has set source and sink events. If the connection was closed while IDLE
 * (on_close was told) source.events->on_abort(MESSAGE_EOF) follows. */
void h1_begin_request(struct h1_conn *conn, enum http_method method);
/*
 * The exchange is over. SERVER: reads the next request, what is buffered first
 * (as a task, never from inside), if the connection may be kept; else goes to
 * LINGER. CLIENT: IDLE. The source and sink events must not be used any more.
 * Only when h1_reusable() for CLIENT.
 */
void h1_next(struct h1_conn *conn);
/* CLIENT: both messages complete, keep-alive on both sides, nothing left in
 * the buffers, peer not gone: may be kept in a pool. */
bool h1_reusable(const struct h1_conn *conn);
/* SERVER: ends after what is queued: half-close, then reads and drops up to
 * 64 KiB for at most 2 s, so that the peer gets to read the answer
 * (RFC 9112, 9.6). on_close() follows, never from inside. */
void h1_linger(struct h1_conn *conn);
/* SERVER: no keep-alive after the present message, unless its head has gone
 * out and said otherwise; closes if IDLE (on_close follows as a task). */
void h1_drain(struct h1_conn *conn);
/* SERVER: IDLE, and nothing is buffered or due. */
bool h1_quiet(const struct h1_conn *conn);
/* Gives the descriptor of a quiet connection away, for h1_accept() later. No
 * callback after it; the idle deadline goes on as *idle. */
int h1_take_fd(struct h1_conn *conn, struct deadline *idle, deadline_fn *fn)
	MUST_CHECK;
/* At once; hard: RST. No callback after it. */
void h1_close(struct h1_conn *conn, bool hard);
/*
 * After a 101 was read and written on both sides: stops all HTTP on the
 * connection. The caller takes over conn->stream (stream_set_events) with what
 * is buffered in it, and later calls h1_close(). Reading is on: on_read() of
 * the events set in the same callback follows if something is buffered.
 */
void h1_detach(struct h1_conn *conn);
/* SERVER: writes "100 Continue" now, if no response head was written yet. */
void h1_send_continue(struct h1_conn *conn);

#endif
