/*
 * What the files of h1/ share. h1.c: life and death, deadlines, the stream's
 * events. read.c: the source. write.c: the sink. put.c: heads as bytes.
 */
#ifndef H1_INTERNAL_H
#define H1_INTERNAL_H

#include "h1/h1.h"

/*
 * The message that is read:
 *
 *	NONE -> HEAD -> BODY [-> TRAILERS] -> DONE -> NONE ...
 *	  any -> FAILED (told; or nobody is interested any more)
 *	  any -> DROP (LINGER), DETACHED
 */
enum h1_read_state {
	H1_READ_NONE,
	H1_READ_HEAD,
	H1_READ_BODY,
	H1_READ_TRAILERS,
	H1_READ_DONE,
	H1_READ_FAILED,
	H1_READ_DROP,
	H1_READ_DETACHED,
};

/*
 * The message that is written:
 *
 *	NONE -> BODY (its head is queued) -> ENDED -> FLUSHED -> NONE ...
 *	  any -> FAILED: calls to the sink do nothing
 */
enum h1_write_state {
	H1_WRITE_NONE,
	H1_WRITE_BODY,
	H1_WRITE_ENDED,
	H1_WRITE_FLUSHED,
	H1_WRITE_FAILED,
};

extern const struct source_ops h1_source_ops;
extern const struct sink_ops h1_sink_ops[];	/* by enum h1_role */

/* h1.c */

/* Closes, and tells the owner so. */
void h1_closed(struct h1_conn *conn, enum message_fault why);
/* The same from the task. */
void h1_close_later(struct h1_conn *conn, enum message_fault why);
/* LINGER: drops what has come; closes when it is time. */
void h1_linger_read(struct h1_conn *conn);
void h1_start_read_deadline(struct h1_conn *conn, uint64_t duration_us);
/* Something was queued: sends it this turn, and watches that it goes. */
void h1_send(struct h1_conn *conn);
/* Runs the task, for what the *_pending flags say. */
void h1_defer(struct h1_conn *conn);

/* read.c */

/* Reads on, with what is buffered, as far as it goes. */
void h1_read(struct h1_conn *conn);
/* Gives the message that is read up and tells its consumer. */
void h1_source_abort(struct h1_conn *conn, enum message_fault why,
		     enum http_parse fault);
/* SERVER: has the connection been reset, as far as can be seen? */
bool h1_peer_gone(const struct stream *s);
/* Is the message that is read complete, or will be with what is buffered? */
bool h1_message_is_here(const struct h1_conn *conn);

/* write.c */

/* All that was queued is out. */
void h1_drained(struct h1_conn *conn);
/* Gives the message that is written up and tells its producer. */
void h1_sink_fail(struct h1_conn *conn, enum message_fault why);

/* put.c: heads into an out-queue. False: no memory, nothing is queued. */

struct h1_put {
	const char *date;	/* for a Date field, or NULL */
	bool length;		/* say content_length */
	bool chunked;
	bool close;		/* Connection: close */
	bool keep_alive;	/* Connection: keep-alive */
	uint64_t content_length;
};

bool h1_put_response(struct outq *q, const struct http_head *head,
		     const struct h1_put *put) MUST_CHECK;
bool h1_put_request(struct outq *q, const struct http_head *head,
		    const struct h1_put *put) MUST_CHECK;
/* The last chunk with its trailer section; trailers may be NULL. */
bool h1_put_last_chunk(struct outq *q, const struct http_head *trailers)
	MUST_CHECK;

#endif
