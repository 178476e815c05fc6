/* Life and death of a connection, its deadlines, and the stream's events. */
#include "h1/internal.h"

/* A stalled peer is looked for this many times within send_us; one look more
 * and it is given up. */
#define SEND_LOOKS	4u

static const struct stream_events stream_events;

static void on_task(struct task *t);

static struct h1_conn *stream_conn(struct stream *s)
{
	return container_of(s, struct h1_conn, stream);
}

static void init_conn(struct h1_conn *conn, enum h1_role role,
		      const struct h1_settings *settings,
		      const struct h1_events *events)
{
	memset(conn, 0, sizeof(*conn));
	conn->role = (uint8_t)role;
	conn->settings = settings;
	conn->events = events;
	conn->source.ops = &h1_source_ops;
	conn->sink.ops = &h1_sink_ops[role];
	conn->keep_alive = true;
	conn->peer_minor = 1;
}

/* Forgets the pair of messages that is over. */
static void reset_pair(struct h1_conn *conn)
{
	conn->state = H1_IDLE;
	conn->read_state = H1_READ_NONE;
	conn->write_state = H1_WRITE_NONE;
	conn->read_framing = conn->write_framing = HTTP_BODY_NONE;
	conn->request_method = HTTP_OTHER;
	conn->peer_minor = 1;
	conn->scanned = 0;
	conn->interims = 0;
	conn->keep_alive = true;
	conn->peer_keep_alive = false;
	conn->request_done = conn->response_done = false;
	conn->waiting_room = conn->got_bytes = false;
	conn->source_paused = conn->late = false;
	conn->read_pending = false;
}

bool h1_accept(struct h1_conn *conn, struct loop *loop, int fd,
	       const struct h1_settings *settings,
	       const struct h1_events *events)
{
	init_conn(conn, H1_SERVER, settings, events);
	if (!stream_open(&conn->stream, loop, fd, &stream_events)) {
		sock_close(fd, false);
		return false;
	}
	/* A request is kept for as long as it is judged. */
	conn->stream.in_kind = BLOCK_KEPT;
	outq_share(&conn->stream.out, BLOCK_BRIEF);
	conn->state = H1_IDLE;
	h1_start_read_deadline(conn, settings->idle_us);
	return true;
}

int h1_connect(struct h1_conn *conn, struct loop *loop,
	       const struct net_addr *addr, const struct h1_settings *settings,
	       const struct h1_events *events)
{
	int error;

	init_conn(conn, H1_CLIENT, settings, events);
	error = stream_connect(&conn->stream, loop, addr, &stream_events);
	outq_share(&conn->stream.out, BLOCK_BRIEF);
	return error;
}

void h1_begin_request(struct h1_conn *conn, enum http_method method)
{
	bool gone = conn->state == H1_CLOSED;

	ASSERT(conn->role == H1_CLIENT && (gone || conn->state == H1_IDLE));
	conn->state = H1_MESSAGE;
	conn->request_method = (uint8_t)method;
	if (UNLIKELY(gone)) {
		conn->aborted = conn->abort_pending = true;
		h1_defer(conn);
		return;
	}
	conn->read_state = H1_READ_HEAD;
}

bool h1_reusable(const struct h1_conn *conn)
{
	const struct stream *s = &conn->stream;

	return conn->role == H1_CLIENT && conn->state == H1_MESSAGE &&
	       conn->request_done && conn->response_done &&
	       conn->keep_alive && conn->peer_keep_alive && !conn->upgraded &&
	       conn->write_state != H1_WRITE_FAILED && outq_empty(&s->out) &&
	       s->read_end == STREAM_READING && !s->hup && !s->write_failed &&
	       stream_data(s).n == 0;
}

/* SERVER: can another request follow? A rest of the body that is here but that
 * nobody wanted is dropped then. */
static bool server_can_go_on(struct h1_conn *conn)
{
	if (!conn->keep_alive || !conn->response_done ||
	    conn->write_state == H1_WRITE_FAILED ||
	    !h1_message_is_here(conn))
		return false;
	if (conn->read_state == H1_READ_BODY &&
	    conn->read_framing == HTTP_BODY_LENGTH && conn->body_left)
		stream_consume(&conn->stream, conn->body_left);
	return true;
}

void h1_next(struct h1_conn *conn)
{
	if (conn->role == H1_CLIENT) {
		ASSERT(h1_reusable(conn));
		deadline_stop(&conn->read_deadline);
		reset_pair(conn);
		return;
	}
	if (!server_can_go_on(conn)) {
		h1_linger(conn);
		return;
	}
	reset_pair(conn);
	h1_start_read_deadline(conn, conn->settings->idle_us);
	stream_resume(&conn->stream);
}

/* ---- ends ---------------------------------------------------------------- */

void h1_close(struct h1_conn *conn, bool hard)
{
	deadline_stop(&conn->read_deadline);
	deadline_stop(&conn->send_deadline);
	task_cancel(&conn->task);
	conn->read_pending = conn->fail_pending = false;
	conn->close_pending = conn->abort_pending = false;
	conn->waiting_room = false;
	conn->state = H1_CLOSED;
	conn->read_state = H1_READ_FAILED;
	conn->write_state = H1_WRITE_FAILED;
	if (conn->stream.state != STREAM_CLOSED)
		stream_close(&conn->stream, hard);
}

bool h1_quiet(const struct h1_conn *conn)
{
	return conn->role == H1_SERVER && conn->state == H1_IDLE &&
	       !conn->got_bytes && !list_linked(&conn->task.node) &&
	       stream_quiet(&conn->stream);
}

int h1_take_fd(struct h1_conn *conn, struct deadline *idle, deadline_fn *fn)
{
	int fd;

	ASSERT(h1_quiet(conn));
	deadline_move(&conn->read_deadline, idle, fn);
	fd = stream_take_fd(&conn->stream);
	h1_close(conn, false);
	return fd;
}

void h1_closed(struct h1_conn *conn, enum message_fault why)
{
	h1_close(conn, false);
	conn->events->on_close(conn, why);
}

void h1_close_later(struct h1_conn *conn, enum message_fault why)
{
	deadline_stop(&conn->read_deadline);
	conn->read_state = H1_READ_FAILED;
	conn->write_state = H1_WRITE_FAILED;
	conn->fail_pending = false;
	conn->close_pending = true;
	conn->pending_why = (uint8_t)why;
	h1_defer(conn);
}

void h1_linger(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;

	if (conn->state == H1_CLOSED || conn->state == H1_LINGER)
		return;
	conn->state = H1_LINGER;
	if (s->state != STREAM_OPEN || s->write_failed ||
	    h1_peer_gone(s)) {
		h1_close_later(conn, conn->aborted ? MESSAGE_EOF :
						     MESSAGE_RESET);
		return;
	}
	conn->read_state = H1_READ_DROP;
	conn->write_state = H1_WRITE_FAILED;
	conn->fail_pending = conn->waiting_room = false;
	conn->body_left = H1_LINGER_BYTES;
	stream_big_reads(s, false);
	stream_shutdown(s);
	stream_resume(s);
	h1_start_read_deadline(conn, H1_LINGER_US);
	/* What is buffered, and an end that came long ago. */
	stream_tell_sent(s);
}

void h1_linger_read(struct h1_conn *conn)
{
	struct stream *s = &conn->stream;
	size_t n = stream_data(s).n;

	stream_consume(s, n);
	conn->body_left -= min_u64(n, conn->body_left);
	if (conn->body_left == 0 && !s->paused)
		stream_pause(s);
	if (conn->body_left && s->read_end == STREAM_READING)
		return;
	if (outq_empty(&s->out) || s->write_failed)
		h1_closed(conn, MESSAGE_EOF);
}

void h1_drain(struct h1_conn *conn)
{
	/* A head that is out has said what becomes of the connection. */
	if (conn->write_state == H1_WRITE_NONE)
		conn->keep_alive = false;
	/* The next request may be in the socket already: it is the last. */
	if (conn->state != H1_IDLE || stream_poll(&conn->stream))
		return;
	if (outq_empty(&conn->stream.out))
		h1_close_later(conn, MESSAGE_EOF);
	else
		h1_linger(conn);
}

void h1_detach(struct h1_conn *conn)
{
	deadline_stop(&conn->read_deadline);
	deadline_stop(&conn->send_deadline);
	task_cancel(&conn->task);
	conn->read_pending = conn->fail_pending = false;
	conn->read_state = H1_READ_DETACHED;
	conn->write_state = H1_WRITE_FAILED;
	/* Even if not paused: the new owner is to see what is buffered. */
	stream_resume(&conn->stream);
}

/* ---- deadlines ----------------------------------------------------------- */

static void on_read_deadline(struct deadline *d)
{
	struct h1_conn *conn = container_of(d, struct h1_conn, read_deadline);

	switch ((enum h1_read_state)conn->read_state) {
	case H1_READ_HEAD:
		/* It may be in the socket. But that is its last chance. */
		if (stream_poll(&conn->stream)) {
			conn->late = true;
			return;
		}
		h1_source_abort(conn, MESSAGE_TIMEOUT, HTTP_PARSE_OK);
		break;
	case H1_READ_BODY:
	case H1_READ_TRAILERS:
		if (!stream_poll(&conn->stream))
			h1_source_abort(conn, MESSAGE_TIMEOUT, HTTP_PARSE_OK);
		break;
	case H1_READ_NONE:
		if (!stream_poll(&conn->stream))
			h1_closed(conn, MESSAGE_TIMEOUT);
		break;
	case H1_READ_DROP:
		/* Before all is sent the time does not count: the send
		 * deadline is on watch. */
		if (outq_empty(&conn->stream.out))
			h1_closed(conn, MESSAGE_EOF);
		else
			h1_start_read_deadline(conn, H1_LINGER_US);
		break;
	case H1_READ_DONE:
	case H1_READ_FAILED:
	case H1_READ_DETACHED:
		break;
	}
}

void h1_start_read_deadline(struct h1_conn *conn, uint64_t duration_us)
{
	deadline_start(conn->stream.loop, &conn->read_deadline, duration_us,
		       on_read_deadline);
}

static void on_send_deadline(struct deadline *d);

static void start_send_deadline(struct h1_conn *conn)
{
	deadline_start(conn->stream.loop, &conn->send_deadline,
		       (conn->settings->send_us + SEND_LOOKS - 1) / SEND_LOOKS,
		       on_send_deadline);
}

/*
 * It runs on while messages come and go, so that a message costs no list
 * operation; and it looks whether bytes have moved since it looked last.
 */
static void on_send_deadline(struct deadline *d)
{
	struct h1_conn *conn = container_of(d, struct h1_conn, send_deadline);
	uint32_t sent = (uint32_t)conn->stream.bytes_out;

	if (outq_empty(&conn->stream.out)) {
		conn->send_stalls = 0;
		return;
	}
	if (sent != conn->send_mark)
		conn->send_stalls = 0;
	else
		conn->send_stalls++;
	conn->send_mark = sent;
	if (conn->send_stalls <= SEND_LOOKS)
		start_send_deadline(conn);
	else if (conn->state != H1_MESSAGE)
		h1_closed(conn, MESSAGE_TIMEOUT);
	else if (conn->write_state != H1_WRITE_FAILED)
		h1_sink_fail(conn, MESSAGE_TIMEOUT);
}

void h1_send(struct h1_conn *conn)
{
	stream_flush_later(&conn->stream);
	if (!deadline_running(&conn->send_deadline)) {
		conn->send_stalls = 0;
		start_send_deadline(conn);
	}
}

/* ---- the task ------------------------------------------------------------ */

void h1_defer(struct h1_conn *conn)
{
	loop_defer(conn->stream.loop, &conn->task, on_task);
}

static void on_task(struct task *t)
{
	struct h1_conn *conn = container_of(t, struct h1_conn, task);

	if (conn->close_pending) {
		h1_closed(conn, conn->pending_why);
		return;
	}
	if (conn->abort_pending) {
		conn->abort_pending = false;
		conn->source.events->on_abort(conn->source.owner, MESSAGE_EOF,
					      HTTP_PARSE_OK);
	}
	if (conn->fail_pending)
		h1_sink_fail(conn, conn->pending_why);
	if (conn->read_pending) {
		conn->read_pending = false;
		h1_read(conn);
	}
}

/* ---- the stream's events ------------------------------------------------- */

static void on_stream_connect(struct stream *s, int error)
{
	struct h1_conn *conn = stream_conn(s);

	if (!error)
		conn->state = H1_IDLE;
	conn->events->on_connect(conn, error);
}

static void on_stream_read(struct stream *s)
{
	h1_read(stream_conn(s));
}

static void on_stream_room(struct stream *s)
{
	struct h1_conn *conn = stream_conn(s);

	if (outq_empty(&s->out) &&
	    (conn->read_state == H1_READ_DROP ||
	     conn->write_state == H1_WRITE_ENDED)) {
		h1_drained(conn);
		return;
	}
	if (conn->waiting_room && conn->state == H1_MESSAGE &&
	    s->out.bytes <= H1_HIGH_WATER / 2) {
		conn->waiting_room = false;
		conn->sink.events->on_room(conn->sink.owner);
	}
}

static void server_write_failed(struct h1_conn *conn)
{
	/* The client is gone: what it still has to say is of no use. */
	deadline_stop(&conn->read_deadline);
	conn->read_state = H1_READ_FAILED;
	conn->keep_alive = false;
	stream_pause(&conn->stream);
	if (conn->write_state < H1_WRITE_FLUSHED)
		h1_sink_fail(conn, MESSAGE_RESET);
}

/* The server does not want the rest of the request: it may have answered all
 * the same (RFC 9112, 9.5), so reading goes on, but not for ever. */
static void client_write_failed(struct h1_conn *conn)
{
	conn->keep_alive = false;
	if (conn->read_state == H1_READ_HEAD &&
	    !deadline_running(&conn->read_deadline))
		h1_start_read_deadline(conn, conn->settings->head_us);
	if (conn->write_state < H1_WRITE_FLUSHED)
		h1_sink_fail(conn, MESSAGE_RESET);
}

static void on_stream_write_error(struct stream *s)
{
	struct h1_conn *conn = stream_conn(s);

	switch ((enum h1_state)conn->state) {
	case H1_CLOSED:
		break;
	case H1_IDLE:
	case H1_LINGER:
		h1_closed(conn, MESSAGE_RESET);
		break;
	case H1_MESSAGE:
		if (conn->role == H1_SERVER)
			server_write_failed(conn);
		else
			client_write_failed(conn);
		break;
	}
}

static const struct stream_events stream_events = {
	.on_connect = on_stream_connect,
	.on_read = on_stream_read,
	.on_room = on_stream_room,
	.on_write_error = on_stream_write_error,
};
