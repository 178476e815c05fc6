/* The sink: messages into the stream's out-queue. */
#include "h1/internal.h"

/* Pieces below this are copied next to their framing: cheaper than three
 * segments. */
#define COPY_BELOW	512u
/* "<16 hex digits>\r\n" */
#define CHUNK_HEAD_MAX	18u

static struct h1_conn *sink_conn(struct sink *snk)
{
	return container_of(snk, struct h1_conn, sink);
}

void h1_sink_fail(struct h1_conn *conn, enum message_fault why)
{
	conn->write_state = H1_WRITE_FAILED;
	conn->keep_alive = false;
	conn->waiting_room = false;
	conn->fail_pending = false;
	/* It may still say why; but not for ever. */
	if (conn->role == H1_CLIENT && conn->read_state == H1_READ_HEAD &&
	    !deadline_running(&conn->read_deadline))
		h1_start_read_deadline(conn, conn->settings->head_us);
	conn->sink.events->on_fail(conn->sink.owner, why);
}

/* What failed inside a call of the producer's is told later. */
static void sink_fail_later(struct h1_conn *conn, enum message_fault why)
{
	conn->write_state = H1_WRITE_FAILED;
	conn->keep_alive = false;
	conn->fail_pending = true;
	conn->pending_why = (uint8_t)why;
	h1_defer(conn);
}

/* ---- heads --------------------------------------------------------------- */

/* Responses that end with their head (RFC 9112, 6.3). */
static bool response_is_bare(const struct h1_conn *conn,
			     const struct http_head *head)
{
	return conn->request_method == HTTP_HEAD || head->status < 200 ||
	       head->status == 204 || head->status == 304;
}

/* Decides how the body will be delimited, and what is said about it. */
static void frame_response(struct h1_conn *conn, const struct http_head *head,
			   struct h1_put *put)
{
	conn->write_left = 0;
	if (response_is_bare(conn, head)) {
		conn->write_framing = HTTP_BODY_NONE;
		put->length = (head->has_content_length ||
			       head->framing == HTTP_BODY_LENGTH) &&
			      head->status >= 200 && head->status != 204;
		put->content_length = head->content_length;
		return;
	}
	switch ((enum http_framing)head->framing) {
	case HTTP_BODY_NONE:
		conn->write_framing = HTTP_BODY_LENGTH;
		put->length = true;
		put->content_length = 0;
		break;
	case HTTP_BODY_LENGTH:
		conn->write_framing = HTTP_BODY_LENGTH;
		conn->write_left = head->content_length;
		put->length = true;
		put->content_length = head->content_length;
		break;
	case HTTP_BODY_CHUNKED:
		put->chunked = conn->peer_minor > 0;
		conn->write_framing = put->chunked ? HTTP_BODY_CHUNKED :
						     HTTP_BODY_CLOSE;
		break;
	case HTTP_BODY_CLOSE:
		conn->write_framing = HTTP_BODY_CLOSE;
		break;
	}
}

static bool write_response(struct h1_conn *conn, const struct http_head *head)
{
	struct outq *q = &conn->stream.out;
	struct h1_put put = { 0 };

	if (head->status < 200 && head->status != 101) {
		/* RFC 9110, 15.2: HTTP/1.0 knows none. */
		return conn->peer_minor == 0 ||
		       h1_put_response(q, head, &put);
	}
	frame_response(conn, head, &put);
	conn->upgraded = head->status == 101;
	/* A request that is not all here can't be followed by another. */
	conn->keep_alive = conn->keep_alive && conn->peer_keep_alive &&
			   head->keep_alive && !conn->upgraded &&
			   conn->write_framing != HTTP_BODY_CLOSE &&
			   h1_message_is_here(conn);
	put.close = !conn->keep_alive && !conn->upgraded;
	put.keep_alive = conn->keep_alive && conn->peer_minor == 0;
	if (!(head->present & (UINT64_C(1) << HTTP_FIELD_DATE)))
		put.date = conn->stream.loop->http_date;
	conn->write_state = H1_WRITE_BODY;
	return h1_put_response(q, head, &put);
}

static bool write_request(struct h1_conn *conn, const struct http_head *head)
{
	struct h1_put put = { 0 };

	conn->write_framing = head->framing;
	conn->write_left = 0;
	switch ((enum http_framing)head->framing) {
	case HTTP_BODY_NONE:
		break;
	case HTTP_BODY_LENGTH:
		put.length = true;
		put.content_length = head->content_length;
		conn->write_left = head->content_length;
		break;
	case HTTP_BODY_CHUNKED:
		put.chunked = true;
		break;
	case HTTP_BODY_CLOSE:
		ASSERT(!"a request until close");
	}
	conn->keep_alive = conn->keep_alive && head->keep_alive;
	put.close = !conn->keep_alive;
	conn->write_state = H1_WRITE_BODY;
	return h1_put_request(&conn->stream.out, head, &put);
}

static inline void sink_head(struct sink *snk, const struct http_head *head,
			     bool (*write)(struct h1_conn *conn,
					   const struct http_head *head))
{
	struct h1_conn *conn = sink_conn(snk);

	if (UNLIKELY(conn->write_state == H1_WRITE_FAILED))
		return;
	ASSERT(conn->state == H1_MESSAGE &&
	       conn->write_state == H1_WRITE_NONE);
	if (LIKELY(write(conn, head)))
		h1_send(conn);
	else
		sink_fail_later(conn, MESSAGE_NO_MEMORY);
}

static void response_head(struct sink *snk, const struct http_head *head)
{
	sink_head(snk, head, write_response);
}

static void request_head(struct sink *snk, const struct http_head *head)
{
	sink_head(snk, head, write_request);
}

void h1_send_continue(struct h1_conn *conn)
{
	if (conn->state != H1_MESSAGE || conn->peer_minor == 0 ||
	    conn->write_state != H1_WRITE_NONE)
		return;
	if (!outq_copy(&conn->stream.out, "HTTP/1.1 100 Continue\r\n\r\n",
		       25)) {
		sink_fail_later(conn, MESSAGE_NO_MEMORY);
		return;
	}
	h1_send(conn);
}

/* ---- bodies -------------------------------------------------------------- */

static bool write_chunk(struct outq *q, struct block *block, const char *p,
			size_t n)
{
	size_t copy = n < COPY_BELOW ? n + 2 : 0, head;
	char *to;

	to = outq_reserve(q, CHUNK_HEAD_MAX + copy);
	if (!to)
		return false;
	head = http_chunk_head(to, n);
	if (copy) {
		memcpy(to + head, p, n);
		memcpy(to + head + n, "\r\n", 2);
		return outq_commit(q, head + copy);
	}
	return outq_commit(q, head) && outq_ref(q, block, p, n) &&
	       outq_ref(q, NULL, "\r\n", 2);
}

static void sink_data(struct sink *snk, struct block *block, const char *p,
		      size_t n)
{
	struct h1_conn *conn = sink_conn(snk);
	struct outq *q = &conn->stream.out;
	bool ok = true;

	if (UNLIKELY(conn->write_state == H1_WRITE_FAILED))
		return;
	ASSERT(conn->write_state == H1_WRITE_BODY);
	switch ((enum http_framing)conn->write_framing) {
	case HTTP_BODY_NONE:
		return;
	case HTTP_BODY_LENGTH:
		ASSERT(n <= conn->write_left);
		conn->write_left -= n;
		ok = n < COPY_BELOW ? outq_copy(q, p, n) :
				      outq_ref(q, block, p, n);
		break;
	case HTTP_BODY_CHUNKED:
		/* An empty chunk would be the last one. */
		ok = n == 0 || write_chunk(q, block, p, n);
		break;
	case HTTP_BODY_CLOSE:
		ok = n < COPY_BELOW ? outq_copy(q, p, n) :
				      outq_ref(q, block, p, n);
		break;
	}
	if (UNLIKELY(!ok)) {
		sink_fail_later(conn, MESSAGE_NO_MEMORY);
		return;
	}
	h1_send(conn);
}

static bool sink_full(struct sink *snk)
{
	struct h1_conn *conn = sink_conn(snk);

	if (conn->stream.out.bytes <= H1_HIGH_WATER ||
	    conn->write_state == H1_WRITE_FAILED)
		return false;
	conn->waiting_room = true;
	return true;
}

/* ---- ends ---------------------------------------------------------------- */

static void sink_abort(struct sink *snk)
{
	struct h1_conn *conn = sink_conn(snk);
	bool hard = false;

	if (conn->state != H1_MESSAGE || conn->aborted)
		return;
	switch ((enum h1_write_state)conn->write_state) {
	case H1_WRITE_NONE:
	case H1_WRITE_FLUSHED:
		break;
	case H1_WRITE_BODY:
		/* A short Content-Length speaks for itself. A chunked body
		 * without its last chunk does too, but not every client
		 * looks; a body until close says nothing but by RST. */
		hard = conn->write_framing == HTTP_BODY_CHUNKED ||
		       conn->write_framing == HTTP_BODY_CLOSE;
		break;
	case H1_WRITE_ENDED:
	case H1_WRITE_FAILED:
		hard = true;
		break;
	}
	if (!hard)
		stream_flush_now(&conn->stream);
	conn->aborted = true;
	conn->keep_alive = false;
	conn->write_state = H1_WRITE_FAILED;
	conn->read_state = H1_READ_FAILED;
	conn->fail_pending = conn->read_pending = false;
	deadline_stop(&conn->read_deadline);
	deadline_stop(&conn->send_deadline);
	stream_close(&conn->stream, hard);
}

static NOINLINE bool
send_last_chunk(struct h1_conn *conn, const struct http_head *trailers)
{
	if (!h1_put_last_chunk(&conn->stream.out, trailers)) {
		sink_fail_later(conn, MESSAGE_NO_MEMORY);
		return false;
	}
	h1_send(conn);
	return true;
}

static void sink_end(struct sink *snk, const struct http_head *trailers)
{
	struct h1_conn *conn = sink_conn(snk);

	if (UNLIKELY(conn->write_state == H1_WRITE_FAILED))
		return;
	ASSERT(conn->write_state == H1_WRITE_BODY);
	/* With HTTP_BODY_LENGTH: some is missing. */
	if (UNLIKELY(conn->write_left)) {
		sink_abort(snk);
		return;
	}
	if (conn->write_framing == HTTP_BODY_CHUNKED &&
	    !send_last_chunk(conn, trailers))
		return;
	conn->write_state = H1_WRITE_ENDED;
	if (conn->role == H1_SERVER)
		conn->response_done = true;
	else
		conn->request_done = true;
	if (conn->write_framing == HTTP_BODY_CLOSE)
		stream_shutdown(&conn->stream);
	stream_tell_sent(&conn->stream);
}

void h1_drained(struct h1_conn *conn)
{
	if (conn->read_state == H1_READ_DROP) {
		h1_linger_read(conn);
		return;
	}
	if (conn->write_state != H1_WRITE_ENDED)
		return;
	conn->write_state = H1_WRITE_FLUSHED;
	/* Now it is the server's turn. */
	if (conn->role == H1_CLIENT && conn->read_state == H1_READ_HEAD &&
	    !deadline_running(&conn->read_deadline))
		h1_start_read_deadline(conn, conn->settings->head_us);
	conn->sink.events->on_flushed(conn->sink.owner);
}

const struct sink_ops h1_sink_ops[] = {
	[H1_SERVER] = {
		.head = response_head,
		.data = sink_data,
		.end = sink_end,
		.abort = sink_abort,
		.full = sink_full,
	},
	[H1_CLIENT] = {
		.head = request_head,
		.data = sink_data,
		.end = sink_end,
		.abort = sink_abort,
		.full = sink_full,
	},
};
