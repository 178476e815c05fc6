/*
 * A tunnel: after a 101 the two connections are joined, bytes pass unseen in
 * both directions with back-pressure, half-closes are passed on. It ends when
 * both sides have closed, when one breaks, or when nothing has passed for as
 * long as the upstream may be idle.
 *
 * It may last for days: it lets go of agents, group and snapshot, so that no
 * reload waits for it.
 */
#include "exchange/exchange.h"

#define TUNNEL_HIGH_WATER	H1_HIGH_WATER

struct tunnel {
	struct exchange *ex;
	struct stream *client, *upstream;
	bool client_ended, upstream_ended;
	struct deadline idle;
	uint64_t idle_us;
};

static struct tunnel *of_client(struct stream *s)
{
	struct client *c = container_of(s, struct client, h1.stream);

	return c->exchange->tunnel_state;
}

static struct tunnel *of_upstream(struct stream *s)
{
	struct upstream_conn *conn =
		container_of(s, struct upstream_conn, h1.stream);
	struct exchange *ex =
		container_of(conn->lease, struct exchange, lease);

	return ex->tunnel_state;
}

static void on_idle(struct deadline *d)
{
	struct tunnel *t = container_of(d, struct tunnel, idle);

	exchange_end(t->ex, ENDED_TIMEOUT, "tunnel_idle");
}

/* Moves what `from` has read into `to`. False: no memory. */
static bool move(struct stream *from, struct stream *to, uint64_t *count)
{
	struct slice data = stream_data(from);

	if (data.n == 0)
		return true;
	if (!outq_ref(&to->out, from->in, data.p, data.n))
		return false;
	*count += data.n;
	stream_consume(from, data.n);
	stream_flush_later(to);
	if (to->out.bytes > TUNNEL_HIGH_WATER)
		stream_pause(from);
	return true;
}

/* Both have ended: over, once what is left has been sent. What the socket does
 * not take now is followed by on_room. */
static void check_over(struct tunnel *t)
{
	if (!t->client_ended || !t->upstream_ended)
		return;
	stream_flush_now(t->client);
	stream_flush_now(t->upstream);
	if (outq_empty(&t->client->out) && outq_empty(&t->upstream->out))
		exchange_end(t->ex, ENDED_DONE, "");
}

/* One side has something, or has ended. */
static void on_side(struct tunnel *t, struct stream *from, struct stream *to,
		    bool *ended, uint64_t *count, enum ended_by by)
{
	struct exchange *ex = t->ex;

	deadline_start(ex->worker->loop, &t->idle, t->idle_us, on_idle);
	if (!move(from, to, count)) {
		exchange_end(ex, ENDED_LIMIT, "no_memory");
		return;
	}
	if (from->read_end == STREAM_RESET) {
		exchange_end(ex, by, "reset");
		return;
	}
	if (from->read_end == STREAM_EOF && !*ended) {
		*ended = true;
		stream_shutdown(to);
		check_over(t);
	}
}

static void on_client_read(struct stream *s)
{
	struct tunnel *t = of_client(s);

	on_side(t, s, t->upstream, &t->client_ended,
		&t->ex->request.body_bytes, ENDED_CLIENT);
}

static void on_upstream_read(struct stream *s)
{
	struct tunnel *t = of_upstream(s);

	on_side(t, s, t->client, &t->upstream_ended,
		&t->ex->response.sent_bytes, ENDED_UPSTREAM);
}

static void on_client_room(struct stream *s)
{
	struct tunnel *t = of_client(s);

	stream_resume(t->upstream);
	check_over(t);
}

static void on_upstream_room(struct stream *s)
{
	struct tunnel *t = of_upstream(s);

	stream_resume(t->client);
	check_over(t);
}

static void on_client_error(struct stream *s)
{
	exchange_end(of_client(s)->ex, ENDED_CLIENT, "reset");
}

static void on_upstream_error(struct stream *s)
{
	exchange_end(of_upstream(s)->ex, ENDED_UPSTREAM, "reset");
}

static const struct stream_events client_events = {
	.on_read = on_client_read,
	.on_room = on_client_room,
	.on_write_error = on_client_error,
};

static const struct stream_events upstream_events = {
	.on_read = on_upstream_read,
	.on_room = on_upstream_room,
	.on_write_error = on_upstream_error,
};

void tunnel_start(struct exchange *ex)
{
	struct h1_conn *client = &ex->client->h1;
	struct h1_conn *upstream = &ex->lease.conn->h1;
	struct tunnel *t = arena_zalloc(&ex->arena, sizeof(*t));

	if (!t) {
		exchange_end(ex, ENDED_LIMIT, "no_memory");
		return;
	}
	t->ex = ex;
	t->client = &client->stream;
	t->upstream = &upstream->stream;
	t->idle_us = upstream_idle_us(ex->upstream);
	ex->tunnel_state = t;
	deadline_stop(&ex->total_deadline);
	observe_stop(ex);
	if (ex->observed)
		observe_fini(ex);
	ex->observed = false;
	if (!record_keep(ex)) {
		exchange_end(ex, ENDED_LIMIT, "no_memory");
		return;
	}
	upstream_orphan(&ex->lease);
	exchange_let_go(ex);
	h1_detach(client);
	h1_detach(upstream);
	stream_set_events(t->client, &client_events);
	stream_set_events(t->upstream, &upstream_events);
	deadline_start(ex->worker->loop, &t->idle, t->idle_us, on_idle);
	/* What came behind the heads is told by these. */
	stream_resume(t->client);
	stream_resume(t->upstream);
}

void tunnel_stop(struct exchange *ex)
{
	if (ex->tunnel_state)
		deadline_stop(&ex->tunnel_state->idle);
}
