/*
 * Scripted upstreams. A connection reads one request at a time, strictly, and
 * answers what the dice say; nothing may come on it while an answer is on its
 * way.
 */
#include <stdio.h>
#include <stdlib.h>

#include "px_client.h"

struct px_conn {
	struct px_conn *next;
	struct px_server *server;
	struct sim_peer *peer;
	struct px_reader reader;
	struct px_exchange *x;	/* being read or answered */
	struct px_buf out;	/* of the answer, not sent yet */
	size_t out_at, body_at;
	uint64_t extra_us;
	bool read_all, answering, timer, dead;
	bool stuck;		/* it says no more */
	bool said_100;
	struct px_tunnel tunnel;
};


/* All connections of the world; kept by the first server. */
static struct px_conn *all_conns;

static bool chance(struct px_conn *c, unsigned per_1000)
{
	return sim_chance(c->server->px->w, per_1000);
}

static uint64_t below(struct px_conn *c, uint64_t n)
{
	return sim_below(c->server->px->w, n);
}

/* ---- the end of a connection --------------------------------------------- */

static void conn_over(struct px_conn *c)
{
	c->dead = true;
	if (c->x && !c->x->answer_sent)
		c->x->up_killed = true;
	c->x = NULL;
}

static void conn_close(struct px_conn *c, bool hard)
{
	if (c->dead)
		return;
	/* A reset may overtake what was said. */
	if (hard && c->x) {
		c->x->up_bytes = false;
		c->x->up_killed = true;
	}
	if (hard)
		sim_peer_reset(c->peer);
	else
		sim_peer_close(c->peer);
	conn_over(c);
}

/* ---- answers ------------------------------------------------------------- */

static void draw_trouble(struct px_conn *c, struct px_answer *a)
{
	unsigned weights[PX_TROUBLES] = { 0 };

	if (!(c->server->px->faults & PX_BAD_SERVERS) || !chance(c, 250))
		return;
	for (unsigned i = 1; i < PX_TROUBLES; i++)
		weights[i] = 1000 / (PX_TROUBLES - 1);
	a->trouble = (enum px_trouble)px_draw(c->server->px, weights,
					      PX_TROUBLES);
	a->trouble_at = below(c, chance(c, 500) ? 30 : a->len + 1);
}

static size_t draw_length(struct px_conn *c)
{
	if (chance(c, 500))
		return below(c, 200);
	if (chance(c, 700))
		return below(c, 5000);
	if (chance(c, 800))
		return below(c, 80000);
	return below(c, chance(c, 100) ? 1500000 : 300000);
}

static void draw_answer(struct px_conn *c, struct px_answer *a, bool upgrade)
{
	static const unsigned status[] = { 200, 200, 200, 200, 201, 204, 304,
					   404, 500 };

	memset(a, 0, sizeof(*a));
	a->status = status[below(c, ARRAY_LEN(status))];
	if (upgrade && chance(c, 700))
		a->status = 101;
	a->framing = (enum px_framing)(chance(c, 500) ? PX_LENGTH :
				       chance(c, 800) ? PX_CHUNKED :
							PX_UNTIL_CLOSE);
	if (a->status == 204 || a->status == 101)
		a->framing = PX_NO_BODY;
	a->len = draw_length(c);
	a->n_interim = chance(c, 80) ? 1 + (unsigned)below(c, 3) : 0;
	a->early = chance(c, 80);
	a->early_at = below(c, 3000);
	a->close = chance(c, 100);
	a->delay_us = chance(c, 600) ? 0 : below(c, 20000);
	a->gap_us = chance(c, 700) ? 0 : 1 + below(c, 3000);
	if (a->status == 101)
		a->early = a->close = false;
	else
		draw_trouble(c, a);
	if (upgrade && a->trouble == PX_UNASKED_101)
		a->trouble = PX_FINE;
}

static void put_framing(struct px_conn *c, struct px_buf *b,
			const struct px_answer *a)
{
	switch (a->framing) {
	case PX_NO_BODY:
		break;
	case PX_LENGTH:
		px_buf_print(b, "Content-Length: %zu\r\n", a->len);
		break;
	case PX_CHUNKED:
		px_buf_print(b, "Transfer-Encoding: chunked\r\n");
		break;
	case PX_UNTIL_CLOSE:
		break;
	}
	if (a->trouble == PX_BAD_FRAMING)
		px_buf_print(b, chance(c, 500) ?
			     "Content-Length: 5\r\nContent-Length: 6\r\n" :
			     "Content-Length: 5\r\n"
			     "Transfer-Encoding: chunked\r\n");
}

static void put_head(struct px_conn *c, struct px_buf *b)
{
	const struct px_exchange *x = c->x;
	const struct px_answer *a = &x->answer;

	for (unsigned i = 0; i < (a->trouble == PX_INTERIM_FLOOD ? 60 :
				  a->n_interim); i++)
		px_buf_print(b, "HTTP/1.1 103 Early\r\nX-Sim-Interim: %u\r\n"
			     "\r\n", x->n);
	px_buf_print(b, "HTTP/1.1 %u Sim\r\nX-Sim-Answer: %u\r\n", a->status,
		     x->n);
	if (chance(c, 500))
		px_buf_print(b, "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
	if (a->status == 101)
		px_buf_print(b, "Connection: upgrade\r\n"
			     "Upgrade: websocket\r\n");
	else if (chance(c, 300))
		px_buf_print(b, "X-Sim-Hop: 1\r\nConnection: x-sim-hop%s\r\n",
			     a->close ? ", close" : "");
	else if (a->close)
		px_buf_print(b, "Connection: close\r\n");
	if (chance(c, 200))
		px_buf_print(b, "X-Request-Id: upstreams-own\r\n"
			     "Keep-Alive: timeout=5\r\n");
	put_framing(c, b, a);
	px_buf_print(b, "\r\n");
}

static void put_pattern(struct px_buf *b, unsigned n, size_t at, size_t len)
{
	size_t start = b->n;

	px_buf_put(b, "", 0);
	if (b->size - b->n < len) {
		b->size = b->n + len + 64;
		b->p = realloc(b->p, b->size);
		ASSERT(b->p);
	}
	px_pattern(n, PX_RESPONSE, at, b->p + start, len);
	b->n += len;
}

/* The next piece of the body into c->out. True: it was the last. */
static bool put_piece(struct px_conn *c)
{
	const struct px_answer *a = &c->x->answer;
	size_t left = a->len - c->body_at;
	size_t n = a->gap_us ? min_size(left, 1 + below(c, 8000)) :
			       min_size(left, 65536);

	if (!px_answer_has_body(c->x))
		return true;
	if (a->framing == PX_CHUNKED && n)
		px_buf_print(&c->out, "%zx%s\r\n", n,
			     chance(c, 50) ? ";sim=1" : "");
	put_pattern(&c->out, c->x->n, c->body_at, n);
	c->body_at += n;
	if (a->framing == PX_CHUNKED && n)
		px_buf_print(&c->out, "\r\n");
	if (c->body_at < a->len)
		return false;
	if (a->framing == PX_CHUNKED)
		px_buf_print(&c->out, "0\r\n%s\r\n",
			     chance(c, 100) ? "X-Sim-Trailer: 1\r\n" : "");
	return true;
}

static void on_timer(void *arg);

static void arm(struct px_conn *c, uint64_t us)
{
	if (c->timer || c->dead)
		return;
	c->timer = true;
	sim_after(c->server->px->w, us, on_timer, c);
}

static bool will_close(const struct px_exchange *x)
{
	return x->answer.close || (x->answer.framing == PX_UNTIL_CLOSE &&
				   px_answer_has_body(x));
}

static void on_tunnel_over(void *ctx)
{
	conn_close(ctx, false);
}

static void on_tunnel_break(void *arg)
{
	struct px_conn *c = arg;

	if (!c->dead)
		conn_close(c, true);
}

static void tunnel(struct px_conn *c)
{
	px_tunnel_start(&c->tunnel, c->x, PX_RESPONSE, c->peer,
			on_tunnel_over, c);
	if ((c->server->px->faults & PX_BAD_SERVERS) && chance(c, 200))
		sim_after(c->server->px->w, below(c, 50 * SIM_MS),
			  on_tunnel_break, c);
}

/* It is all out: the next request may come. */
static void answer_over(struct px_conn *c)
{
	struct px_exchange *x = c->x;
	const struct px_answer *a = &x->answer;
	bool close = will_close(x);

	x->answer_sent = true;
	x->answer_sent_us = sim_now(x->px->w);
	if (a->trouble == PX_EXTRA && a->framing != PX_UNTIL_CLOSE) {
		c->extra_us = x->px->stray_us = sim_now(x->px->w);
		sim_peer_print(c->peer, "HTTP/1.1 200 Sim\r\nX-Sim-Answer: 0"
			       "\r\nContent-Length: 0\r\n\r\n");
	}
	c->answering = false;
	if (a->status == 101) {
		tunnel(c);
		return;
	}
	if (c->read_all) {
		c->x = NULL;
		px_reader_next(&c->reader);
	}
	if (close && c->read_all) {
		conn_close(c, false);
	} else if (close) {
		/* A polite server waits for the rest, a while. */
		sim_peer_shutdown(c->peer);
		arm(c, 2 * SIM_SECOND);
	}
}

static void send_out(struct px_conn *c)
{
	sim_peer_send(c->peer, c->out.p, c->out.n);
	c->x->answer_bytes = c->body_at;
	c->out.n = 0;
}

/* True: something went wrong as planned, and that was all. */
static bool have_trouble(struct px_conn *c)
{
	const struct px_answer *a = &c->x->answer;
	size_t cut = min_size(a->trouble_at, c->out.n);

	switch (a->trouble) {
	case PX_CUT_HEAD:
		if (c->body_at)
			return false;
		sim_peer_send(c->peer, c->out.p, min_size(cut, 30));
		/* They may be lost with the rest. */
		c->x->up_bytes = false;
		conn_close(c, chance(c, 300));
		return true;
	case PX_CUT_BODY:
	case PX_RESET_BODY:
		if (c->body_at < a->trouble_at)
			return false;
		/* Framing and all, but for the end. What ends with the
		 * connection ends in order. */
		if (a->trouble == PX_CUT_BODY && px_answer_has_body(c->x) &&
		    a->framing == PX_UNTIL_CLOSE)
			c->x->answer_sent = true;
		else if (c->out.n > 1)
			c->out.n--;
		send_out(c);
		conn_close(c, a->trouble == PX_RESET_BODY);
		return true;
	case PX_STALL_BODY:
		if (c->body_at < a->trouble_at || c->out.n < 2)
			return false;
		c->out.n--;
		send_out(c);
		return true;
	case PX_FINE:
	case PX_RESET_FIRST:
	case PX_CLOSE_FIRST:
	case PX_STALL_HEAD:
	case PX_JUNK:
	case PX_BAD_FRAMING:
	case PX_EXTRA:
	case PX_UNASKED_101:
	case PX_INTERIM_FLOOD:
	case PX_STOP_READING:
	case PX_TROUBLES:
		break;
	}
	return false;
}

static void answer_step(struct px_conn *c)
{
	struct px_exchange *x = c->x;
	bool last = put_piece(c);

	if (have_trouble(c)) {
		c->stuck = true;
		return;
	}
	send_out(c);
	if (last)
		answer_over(c);
	else
		arm(c, x->answer.gap_us);
}

/* True: there is no answer. */
static bool no_answer(struct px_conn *c)
{
	switch (c->x->answer.trouble) {
	case PX_RESET_FIRST:
		conn_close(c, true);
		return true;
	case PX_CLOSE_FIRST:
		conn_close(c, false);
		return true;
	case PX_STALL_HEAD:
		return true;
	case PX_JUNK:
		sim_peer_print(c->peer, "%s", chance(c, 500) ?
			       "\x16\x03\x01junk\r\n\r\n" :
			       "HTTP/1.1 200 OK\r\nA : b\r\n\r\n");
		c->x->up_bytes = true;
		return true;
	case PX_UNASKED_101:
		sim_peer_print(c->peer, "HTTP/1.1 101 Switch\r\n"
			       "Connection: upgrade\r\n"
			       "Upgrade: websocket\r\n\r\n");
		c->x->up_bytes = true;
		return true;
	case PX_FINE:
	case PX_CUT_HEAD:
	case PX_CUT_BODY:
	case PX_RESET_BODY:
	case PX_STALL_BODY:
	case PX_BAD_FRAMING:
	case PX_EXTRA:
	case PX_INTERIM_FLOOD:
	case PX_STOP_READING:
	case PX_TROUBLES:
		break;
	}
	return false;
}

static void answer_begin(struct px_conn *c)
{
	struct px_exchange *x = c->x;

	if (no_answer(c)) {
		c->stuck = true;
		return;
	}
	x->answer_begun = x->up_bytes = true;
	x->answer_us = sim_now(x->px->w);
	c->body_at = 0;
	put_head(c, &c->out);
	answer_step(c);
}

static void on_timer(void *arg)
{
	struct px_conn *c = arg;

	c->timer = false;
	if (c->dead || c->stuck)
		return;
	if (!c->answering) {
		/* It was answered early, or idle for long. */
		if (c->x ? c->x->answer_sent : c->reader.state ==
					       PX_READ_HEAD)
			conn_close(c, false);
	} else if (!c->x->answer_begun) {
		answer_begin(c);
	} else {
		answer_step(c);
	}
}

static void want_answer(struct px_conn *c)
{
	if (c->answering || c->dead || !c->x || c->x->answer_sent)
		return;
	c->answering = true;
	if (c->x->answer.delay_us)
		arm(c, c->x->answer.delay_us);
	else
		answer_begin(c);
}

/* ---- requests ------------------------------------------------------------ */

static void check_edits(struct px_reader *r, struct px_exchange *x)
{
	const struct px_route *route = px_route_of(x);
	struct slice value;

	for (unsigned k = 0; k < route->n_asked; k++) {
		const struct px_verdict *v = &x->parts[k].head[PX_REQUEST];
		char name[32], want[48];
		unsigned n;

		snprintf(name, sizeof(name), "x-sim-e%u", k);
		snprintf(want, sizeof(want), "%u.%u.0.0", x->n, k);
		n = px_field(r, name, &value);
		PX_CHECK(x->px, x, n <= 1 && (n == 0 || (v->edits &&
			 !route->asked[k].observe &&
			 slice_eq(value, slice_str(want)))),
			 "an edit that nobody asked for: %.*s",
			 SLICE_FMT(value));
		PX_CHECK(x->px, x, n == 1 || !v->edits || !v->answered ||
			 !px_has_word(x, k),
			 "an edit of agent %u is missing", k);
	}
}

static void check_head(struct px_reader *r, struct px_exchange *x)
{
	struct slice value, ip = slice_str(x->client->from);
	struct px *px = x->px;

	ip.n = (size_t)((const char *)memchr(ip.p, ':', ip.n) - ip.p);
	PX_CHECK(px, x, slice_eq(r->method, slice_str(x->method)) &&
		 r->minor == 1, "another method came to the upstream");
	PX_CHECK(px, x, px_field(r, "host", &value) == 1 &&
		 slice_eq(value, SLICE("sim.example")), "no Host");
	PX_CHECK(px, x, px_field(r, "x-forwarded-for", &value) == 1 &&
		 slice_eq(value, ip), "X-Forwarded-For: %.*s",
		 SLICE_FMT(value));
	PX_CHECK(px, x, px_field(r, "x-request-id", &value) == 1 &&
		 value.n == 32, "X-Request-Id: %.*s", SLICE_FMT(value));
	PX_CHECK(px, x, px_field(r, "x-sim-number", &value) == 1 &&
		 strtoul(value.p, NULL, 10) == x->n, "another's field");
	PX_CHECK(px, x, px_field(r, "x-sim-hop", &value) == 0,
		 "a hop-by-hop field went on");
	PX_CHECK(px, x, px_field(r, "upgrade", &value) == 0 ||
		 (x->upgrade && px_route_of(x)->upgrade &&
		  slice_eq(value, SLICE("websocket"))), "Upgrade: %.*s",
		 SLICE_FMT(value));
	for (unsigned i = 0; i < px->n_agents; i++) {
		char name[32];

		snprintf(name, sizeof(name), "x-sim-owned-%u", i);
		PX_CHECK(px, x, px_field(r, name, &value) == 0,
			 "%s came to the upstream", name);
	}
	check_edits(r, x);
}

static void on_head(struct px_reader *r)
{
	struct px_conn *c = r->ctx;
	struct px *px = c->server->px;
	struct px_exchange *x = px_find(px, r->target);
	struct slice value;

	PX_CHECK(px, NULL, x, "an upstream was asked for %.*s",
		 SLICE_FMT(r->target));
	PX_CHECK(px, x, !c->x, "a request inside another on one connection");
	PX_CHECK(px, x, px_route_of(x)->group == c->server->group,
		 "the wrong upstream");
	sim_trace(px->w, "upstream %s: request %u", c->server->address, x->n);
	/* It may not have come there yet; but not for long. */
	PX_CHECK(px, x, !c->extra_us || sim_now(px->w) < c->extra_us +
		 (px->calm ? SIM_MS : SIM_SECOND),
		 "a connection with bytes that nobody asked for is used");
	check_head(r, x);
	px_check_forward(x);
	c->x = x;
	c->said_100 = false;
	x->n_upstream++;
	x->up_complete = x->up_killed = x->up_bytes = false;
	c->read_all = false;
	draw_answer(c, &x->answer, px_field(r, "upgrade", &value) > 0);
	if (px_field(r, "expect", &value) && chance(c, 900)) {
		sim_peer_print(c->peer, "HTTP/1.1 100 Continue\r\n\r\n");
		x->up_bytes = true;
	}
	if (x->answer.trouble == PX_STOP_READING) {
		sim_peer_stall(c->peer, true);
		want_answer(c);
	}
	if (x->answer.early && x->answer.early_at < 100)
		want_answer(c);
}

static void on_body(struct px_reader *r, const char *p, size_t n)
{
	struct px_conn *c = r->ctx;

	if (!c->x)
		return;
	px_body_came(c->x, PX_REQUEST, p, n);
	if (c->x->answer.early && c->x->sink[0].n >= c->x->answer.early_at)
		want_answer(c);
}

static void check_complete(struct px_exchange *x)
{
	const struct px_route *r = px_route_of(x);

	PX_CHECK(x->px, x, x->kind == PX_GOOD,
		 "a broken request was complete at the upstream");
	PX_CHECK(x->px, x, x->sent, "a request was complete at the upstream "
		 "before it was");
	for (unsigned k = 0; k < r->n_asked; k++)
		if (px_has_body(x) && px_has_stage(x, k, PX_REQUEST) &&
		    px_has_word(x, k))
			PX_CHECK(x->px, x, x->parts[k].body[0].done,
				 "complete at the upstream without agent %u's "
				 "last word", k);
}

static void on_end(struct px_reader *r)
{
	struct px_conn *c = r->ctx;
	struct px_exchange *x = c->x;

	if (!x)
		return;
	check_complete(x);
	x->up_complete = true;
	c->read_all = true;
	if (!x->answer_sent) {
		want_answer(c);
	} else if (will_close(x)) {
		conn_close(c, false);
	} else {
		c->x = NULL;
		px_reader_next(r);
	}
}

/* ---- connections --------------------------------------------------------- */

static void on_data(struct sim_peer *peer, const char *p, size_t n)
{
	struct px_conn *c = peer->ctx;
	struct px_exchange *x = c->x;

	if (c->tunnel.x) {
		px_tunnel_data(&c->tunnel, p, n);
		return;
	}
	px_reader_feed(&c->reader, p, n);
	PX_CHECK(c->server->px, x, !c->reader.error,
		 "bad bytes came to an upstream: %s", c->reader.error);
	if (c->reader.state != PX_READ_DONE || !px_reader_left(&c->reader))
		return;
	/* It was answered already, by what nobody had asked for? */
	PX_CHECK(c->server->px, x, x && (x->strayed || px_may_stray(x->px)),
		 "bytes after a request came to an upstream");
	conn_close(c, true);
}

/* Half a request and then no more: it must not have looked complete. */
static void on_eof(struct sim_peer *peer)
{
	struct px_conn *c = peer->ctx;

	if (c->tunnel.x)
		px_tunnel_eof(&c->tunnel);
	else
		conn_close(c, false);
}

static void on_error(struct sim_peer *peer, int error)
{
	conn_over(peer->ctx);
}

static void on_accept(struct sim_peer *peer)
{
	struct px_server *s = peer->ctx;
	struct px_conn *c = calloc(1, sizeof(*c));

	ASSERT(c);
	c->server = s;
	c->peer = peer;
	c->next = all_conns;
	all_conns = c;
	c->reader.ctx = c;
	c->reader.on_head = on_head;
	c->reader.on_body = on_body;
	c->reader.on_end = on_end;
	peer->ctx = c;
	if (!(s->px->faults & PX_BAD_SERVERS))
		return;
	if (chance(c, 30))
		conn_close(c, chance(c, 500));
	else if (chance(c, 200))
		arm(c, below(c, SIM_SECOND));
}

static const struct sim_peer_events events = {
	.on_accept = on_accept,
	.on_data = on_data,
	.on_eof = on_eof,
	.on_error = on_error,
};

static void on_mood(void *arg)
{
	static const enum sim_fate fates[] = { SIM_NORMAL, SIM_REFUSED,
					       SIM_BLACKHOLE };
	struct px_server *s = arg;
	struct px *px = s->px;

	if (px->ending)
		return;
	if (sim_chance(px->w, 300))
		sim_set_fate(px->w, s->address,
			     fates[sim_below(px->w, ARRAY_LEN(fates))]);
	else
		sim_set_fate(px->w, s->address, SIM_NORMAL);
	sim_after(px->w, sim_below(px->w, 2 * SIM_SECOND), on_mood, s);
}

void px_servers_start(struct px *px)
{
	all_conns = NULL;
	for (unsigned i = 0; i < px->n_groups; i++)
		for (unsigned k = 0; k < px->groups[i].n_servers; k++) {
			struct px_server *s = &px->servers[i * PX_SERVERS + k];

			sim_listen(px->w, s->address, &events, s);
			if (px->faults & PX_BAD_SERVERS)
				on_mood(s);
		}
}

void px_servers_end(struct px *px)
{
	while (all_conns) {
		struct px_conn *c = all_conns;

		all_conns = c->next;
		px_reader_free(&c->reader);
		px_buf_free(&c->out);
		free(c);
	}
}
