/*
 * The source: messages out of the stream.
 *
 * Every callback may close the connection, linger, detach or start the next
 * message. So each step leaves the connection in order before it calls, tells
 * nothing after the call from what it knew before, and h1_read() looks at the
 * state anew.
 */
#include "h1/internal.h"

/* Fields of a head that fit on the stack: more than the usual limit. */
#define STACK_FIELDS	128u

static inline enum message_fault end_fault(const struct stream *s)
{
	return s->read_end == STREAM_RESET ? MESSAGE_RESET : MESSAGE_EOF;
}

void h1_source_abort(struct h1_conn *conn, enum message_fault why,
		     enum http_parse fault)
{
	deadline_stop(&conn->read_deadline);
	conn->read_state = H1_READ_FAILED;
	conn->keep_alive = false;
	/* A reset has two faces and is told once. */
	if (why == MESSAGE_RESET)
		conn->write_state = H1_WRITE_FAILED;
	stream_pause(&conn->stream);
	conn->source.events->on_abort(conn->source.owner, why, fault);
}

bool h1_message_is_here(const struct h1_conn *conn)
{
	switch ((enum h1_read_state)conn->read_state) {
	case H1_READ_DONE:
		return true;
	case H1_READ_BODY:
		if (conn->read_framing == HTTP_BODY_NONE)
			return true;
		return conn->read_framing == HTTP_BODY_LENGTH &&
		       conn->body_left <= stream_data(&conn->stream).n;
	case H1_READ_NONE:
	case H1_READ_HEAD:
	case H1_READ_TRAILERS:
	case H1_READ_FAILED:
	case H1_READ_DROP:
	case H1_READ_DETACHED:
		return false;
	}
	return false;
}

/* ---- waiting ----------------------------------------------------------------
 * What is here has been used: either the peer has ended, or a deadline runs.
 * All return whether to go on. */

/* have: bytes that have come of something that must stay whole. */
static bool wait_whole(struct h1_conn *conn, size_t have)
{
	struct stream *s = &conn->stream;

	if (s->read_end != STREAM_READING) {
		h1_source_abort(conn, end_fault(s), HTTP_PARSE_OK);
		return true;
	}
	/* Geometric, so that a large head costs linear time. */
	if (have && !stream_need(s, have + have / 2 + 1024)) {
		h1_source_abort(conn, MESSAGE_NO_MEMORY, HTTP_PARSE_OK);
		return true;
	}
	return false;
}

static bool wait_head(struct h1_conn *conn, size_t have)
{
	if (wait_whole(conn, have))
		return true;
	if (conn->late) {
		h1_source_abort(conn, MESSAGE_TIMEOUT, HTTP_PARSE_OK);
		return true;
	}
	/* For the whole head, and never longer. A client's connection waits
	 * from the end of its request on (h1_drained) or from the first byte
	 * of the response, but not because of an interim one. */
	if (!deadline_running(&conn->read_deadline) &&
	    (conn->role == H1_SERVER || have > 0))
		h1_start_read_deadline(conn, conn->settings->head_us);
	return false;
}

static bool wait_body(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;

	if (s->read_end != STREAM_READING) {
		h1_source_abort(conn, end_fault(s), HTTP_PARSE_OK);
		return true;
	}
	h1_start_read_deadline(conn, conn->settings->body_us);
	return false;
}

/* ---- the message --------------------------------------------------------- */

static inline bool end_message(struct h1_conn *conn,
			       const struct http_head *trailers)
{
	struct stream *s = &conn->stream;

	deadline_stop(&conn->read_deadline);
	stream_big_reads(s, false);
	conn->read_state = H1_READ_DONE;
	if (conn->role == H1_SERVER) {
		conn->request_done = true;
		if (!s->paused)
			stream_pause(s);
		/* When it is only known that the peer has closed (hup), there
		 * may be another request before the end. */
		if (s->read_end == STREAM_EOF && stream_data(s).n == 0)
			conn->keep_alive = false;
	} else {
		conn->response_done = true;
	}
	conn->source.events->on_end(conn->source.owner, trailers);
	return true;
}

/* Takes `used` bytes off the stream, of which [p, p+n) are body. */
static void give_data(struct h1_conn *conn, size_t used, const char *p,
		      size_t n)
{
	struct block *block = block_get(conn->stream.in);

	stream_consume(&conn->stream, used);
	conn->source.events->on_data(conn->source.owner, block, p, n);
	block_put(block);
}

static bool read_chunked(struct h1_conn *conn, struct slice in)
{
	struct slice data = SLICE_NONE;
	size_t used = 0;

	switch (http_chunked_next(&conn->chunked, in.p, in.n, &used, &data)) {
	case HTTP_CHUNK_MORE:
		stream_consume(&conn->stream, used);
		return wait_body(conn);
	case HTTP_CHUNK_DATA:
		give_data(conn, used, data.p, data.n);
		return true;
	case HTTP_CHUNK_TRAILERS:
		stream_consume(&conn->stream, used);
		conn->read_state = H1_READ_TRAILERS;
		conn->scanned = 0;
		return true;
	case HTTP_CHUNK_FAULT:
		h1_source_abort(conn, MESSAGE_MALFORMED, HTTP_PARSE_BAD_CHUNK);
		return true;
	}
	return false;
}

static bool read_body(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;
	struct slice in = stream_data(s);
	size_t n;

	switch ((enum http_framing)conn->read_framing) {
	case HTTP_BODY_NONE:
		return end_message(conn, NULL);
	case HTTP_BODY_LENGTH:
		if (conn->body_left == 0)
			return end_message(conn, NULL);
		if (in.n == 0)
			return wait_body(conn);
		n = min_size(in.n, conn->body_left);
		conn->body_left -= n;
		give_data(conn, n, in.p, n);
		if (conn->read_state == H1_READ_BODY &&
		    !conn->source_paused &&
		    conn->read_framing == HTTP_BODY_LENGTH &&
		    conn->body_left == 0)
			end_message(conn, NULL);
		return true;
	case HTTP_BODY_CHUNKED:
		if (in.n == 0)
			return wait_body(conn);
		return read_chunked(conn, in);
	case HTTP_BODY_CLOSE:
		if (in.n) {
			give_data(conn, in.n, in.p, in.n);
			return true;
		}
		if (s->read_end == STREAM_EOF)
			return end_message(conn, NULL);
		return wait_body(conn);
	}
	return false;
}

/* Points head at room for the fields that the limits allow. */
static bool head_fields(struct h1_conn *conn, struct http_head *head,
			struct field *stack)
{
	unsigned n = conn->settings->limits.headers;

	head->fields = stack;
	head->cap_fields = STACK_FIELDS;
	if (n <= STACK_FIELDS)
		return true;
	head->fields = arena_alloc(&conn->stream.loop->scratch,
				   n * sizeof(struct field));
	head->cap_fields = n;
	return head->fields;
}

static bool read_trailers(struct h1_conn *conn)
{
	struct slice in = stream_data(&conn->stream);
	struct field stack[STACK_FIELDS];
	struct http_head trailers;
	struct block *block;
	enum http_parse result;

	if (in.n == 0)
		return wait_body(conn);
	if (!head_fields(conn, &trailers, stack)) {
		h1_source_abort(conn, MESSAGE_NO_MEMORY, HTTP_PARSE_OK);
		return true;
	}
	result = http_parse_trailers(in.p, in.n, &conn->settings->limits,
				     &conn->scanned, &trailers);
	if (result == HTTP_PARSE_MORE)
		return wait_whole(conn, in.n) || wait_body(conn);
	if (result != HTTP_PARSE_OK) {
		h1_source_abort(conn, MESSAGE_MALFORMED, result);
		return true;
	}
	block = block_get(conn->stream.in);
	stream_consume(&conn->stream, trailers.head_bytes);
	end_message(conn, trailers.n_fields ? &trailers : NULL);
	block_put(block);
	return true;
}

/* ---- heads --------------------------------------------------------------- */

/* A head that is not interim: what follows it? */
static void begin_body(struct h1_conn *conn, const struct http_head *head)
{
	struct stream *s = &conn->stream;
	bool more = true;

	deadline_stop(&conn->read_deadline);
	conn->late = false;
	conn->peer_minor = head->minor;
	conn->peer_keep_alive = head->keep_alive;
	conn->read_state = H1_READ_BODY;
	conn->read_framing = head->framing;
	switch ((enum http_framing)head->framing) {
	case HTTP_BODY_NONE:
		more = false;
		break;
	case HTTP_BODY_LENGTH:
		conn->body_left = head->content_length;
		more = conn->body_left > stream_data(s).n;
		break;
	case HTTP_BODY_CHUNKED:
		http_chunked_init(&conn->chunked);
		break;
	case HTTP_BODY_CLOSE:
		break;
	}
	if (conn->role == H1_SERVER)
		conn->request_method = head->method_id;
	else if (head->status == 101)
		conn->upgraded = true;
	if (more)
		stream_big_reads(s, true);
}

static bool read_head(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;
	const struct http_limits *limits = &conn->settings->limits;
	struct slice in = stream_data(s);
	struct field stack[STACK_FIELDS];
	struct http_head head;
	struct block *block;
	enum http_parse result;
	bool interim;

	if (in.n == 0)
		return wait_head(conn, 0);
	conn->got_bytes = true;
	if (!head_fields(conn, &head, stack)) {
		h1_source_abort(conn, MESSAGE_NO_MEMORY, HTTP_PARSE_OK);
		return true;
	}
	result = conn->role == H1_SERVER ?
		 http_parse_request(in.p, in.n, limits, &conn->scanned, &head) :
		 http_parse_response(in.p, in.n, limits, &conn->scanned,
				     conn->request_method, &head);
	if (result == HTTP_PARSE_MORE)
		return wait_head(conn, in.n);
	if (result != HTTP_PARSE_OK) {
		h1_source_abort(conn, MESSAGE_MALFORMED, result);
		return true;
	}
	conn->scanned = 0;
	/* After an interim response the wait for the final one goes on. */
	interim = conn->role == H1_CLIENT && head.status < 200 &&
		  head.status != 101;
	if (UNLIKELY(interim) && conn->interims++ == H1_INTERIMS_MAX) {
		h1_source_abort(conn, MESSAGE_MALFORMED, HTTP_PARSE_BAD_LINE);
		return true;
	}
	if (UNLIKELY(interim) && conn->write_state < H1_WRITE_FLUSHED)
		deadline_stop(&conn->read_deadline);
	block = block_get(s->in);
	stream_consume(s, head.head_bytes);
	if (LIKELY(!interim))
		begin_body(conn, &head);
	conn->source.events->on_head(conn->source.owner, &head, block);
	block_put(block);
	/* It may have been the whole message, and still be there. */
	if (conn->read_state == H1_READ_BODY && !conn->source_paused &&
	    conn->read_framing == HTTP_BODY_NONE)
		end_message(conn, NULL);
	return true;
}

/* Nothing is expected but, from a client, its next request. */
static bool read_first(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;
	size_t n = stream_data(s).n;

	if (n && conn->role == H1_SERVER) {
		deadline_stop(&conn->read_deadline);
		conn->state = H1_MESSAGE;
		conn->read_state = H1_READ_HEAD;
		conn->events->on_begin(conn);
		return true;
	}
	if (n)
		h1_closed(conn, MESSAGE_MALFORMED);
	else if (s->read_end != STREAM_READING)
		h1_closed(conn, end_fault(s));
	return false;
}

/* Reading may be paused: then the stream has looked for an error. */
bool h1_peer_gone(const struct stream *s)
{
	return s->read_end == STREAM_RESET || (s->hup && s->error);
}

/*
 * The message is complete: what the peer sends now has to wait, but we want to
 * know when it has gone.
 */
static void read_after_end(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;

	if (conn->role == H1_CLIENT)
		return;
	if (h1_peer_gone(s)) {
		conn->read_state = H1_READ_FAILED;
		conn->keep_alive = false;
		if (conn->write_state < H1_WRITE_FLUSHED)
			h1_sink_fail(conn, MESSAGE_RESET);
	}
}

static bool read_step(struct h1_conn *conn)
{
	switch ((enum h1_read_state)conn->read_state) {
	case H1_READ_NONE:
		return conn->state == H1_IDLE && read_first(conn);
	case H1_READ_HEAD:
		return read_head(conn);
	case H1_READ_BODY:
		return read_body(conn);
	case H1_READ_TRAILERS:
		return read_trailers(conn);
	case H1_READ_DONE:
		read_after_end(conn);
		return false;
	case H1_READ_DROP:
		h1_linger_read(conn);
		return false;
	case H1_READ_FAILED:
	case H1_READ_DETACHED:
		return false;
	}
	return false;
}

static inline bool in_message(const struct h1_conn *conn)
{
	return conn->read_state >= H1_READ_HEAD &&
	       conn->read_state <= H1_READ_TRAILERS;
}

void h1_read(struct h1_conn *conn)
{
	do {
		if (UNLIKELY(conn->source_paused && in_message(conn))) {
			/* What a server said before it reset is still read,
			 * later. */
			if (conn->role == H1_SERVER &&
			    h1_peer_gone(&conn->stream))
				h1_source_abort(conn, MESSAGE_RESET,
						HTTP_PARSE_OK);
			return;
		}
	} while (read_step(conn));
}

/* ---- source ops ---------------------------------------------------------- */

static struct h1_conn *source_conn(struct source *src)
{
	return container_of(src, struct h1_conn, source);
}

static void source_pause(struct source *src)
{
	struct h1_conn *conn = source_conn(src);

	if (conn->source_paused)
		return;
	conn->source_paused = true;
	if (!in_message(conn))
		return;
	/* A head's deadline is for the whole of it. */
	if (conn->read_state != H1_READ_HEAD)
		deadline_stop(&conn->read_deadline);
	stream_pause(&conn->stream);
}

static void source_resume(struct source *src)
{
	struct h1_conn *conn = source_conn(src);
	bool here;

	if (!conn->source_paused)
		return;
	conn->source_paused = false;
	if (!in_message(conn))
		return;
	here = h1_message_is_here(conn);
	if (conn->role == H1_CLIENT || !here)
		stream_resume(&conn->stream);
	if (here) {
		/* The rest, or the end alone, does not need the stream. */
		conn->read_pending = true;
		h1_defer(conn);
	} else if (conn->read_state != H1_READ_HEAD) {
		h1_start_read_deadline(conn, conn->settings->body_us);
	}
}

const struct source_ops h1_source_ops = {
	.pause = source_pause,
	.resume = source_resume,
};
