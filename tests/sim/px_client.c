/*
 * Scripted clients: they send what px_plan.c drew, at their own pace, read
 * what comes strictly, and some of them misbehave once.
 */
#include "px_client.h"

#include <stdio.h>
#include <stdlib.h>

static void step(struct px_client *c);

static struct px_exchange *nth(struct px_client *c, unsigned i)
{
	return &c->px->x[c->first + i];
}

static bool chance(struct px_client *c, unsigned per_1000)
{
	return sim_chance(c->px->w, per_1000);
}

/* ---- requests as bytes --------------------------------------------------- */

static void put_chunked(struct px_client *c, struct px_exchange *x)
{
	bool spoil = x->kind == PX_BAD_CHUNKS;
	size_t at = 0;

	while (at < x->len) {
		size_t n = min_size(x->len - at, 1 + sim_below(c->px->w,
				    chance(c, 500) ? 50 : 30000));
		char *body = malloc(n);

		ASSERT(body);
		px_pattern(x->n, PX_REQUEST, at, body, n);
		px_buf_print(&c->out, "%zX%s\r\n", n,
			     chance(c, 50) ? ";a=\"b\"" : "");
		px_buf_put(&c->out, body, n);
		free(body);
		at += n;
		if (spoil && (at >= x->len || chance(c, 300))) {
			px_buf_print(&c->out, "%s", chance(c, 500) ? "x\r\n" :
				     "\r\n0x5\r\n");
			return;
		}
		px_buf_print(&c->out, "\r\n");
	}
	px_buf_print(&c->out, "0\r\n");
	if (x->trailers)
		px_buf_print(&c->out, "X-Sim-Trailer: %u\r\n", x->n);
	px_buf_print(&c->out, "\r\n");
}

static void put_body(struct px_client *c, struct px_exchange *x)
{
	char *body;

	if (x->framing == PX_CHUNKED) {
		put_chunked(c, x);
	} else if (x->framing == PX_LENGTH && x->len) {
		body = malloc(x->len);
		ASSERT(body);
		px_pattern(x->n, PX_REQUEST, 0, body, x->len);
		px_buf_put(&c->out, body, x->len);
		free(body);
	}
}

static void put_head(struct px_client *c, struct px_exchange *x)
{
	struct px_buf *b = &c->out;
	bool hop = chance(c, 100);

	px_buf_print(b, "%s %s/%s%u/%u?q=1 HTTP/1.%u\r\n", x->method,
		     x->absolute ? "http://sim.example" : "",
		     x->kind == PX_NOT_FOUND ? "none" : "r", x->route, x->n,
		     x->minor);
	px_buf_print(b, "Host: sim.example\r\nX-Sim-Number: %u\r\n"
		     "X-Sim-Gone: 1\r\n", x->n);
	for (unsigned i = 0; i < c->px->n_agents; i++)
		px_buf_print(b, "X-%s-Owned-%u: forged\r\n",
			     i & 1 ? "Sim" : "sim", i);
	if (hop)
		px_buf_print(b, "X-Sim-Hop: 1\r\n");
	if (x->upgrade)
		px_buf_print(b, "Connection: %supgrade\r\n"
			     "Upgrade: websocket, h2c\r\n",
			     hop ? "x-sim-hop, " : "");
	else if (hop || x->close)
		px_buf_print(b, "Connection: %s%s%s\r\n",
			     hop ? "x-sim-hop" : "", hop && x->close ? ", " :
			     "", x->close ? "close" : "");
	if (chance(c, 100))
		px_buf_print(b, "X-Forwarded-For: 1.2.3.4\r\n"
			     "X-Request-Id: mine\r\n");
	if (x->json)
		px_buf_print(b, "Accept: application/json\r\n");
	if (x->expect)
		px_buf_print(b, "Expect: 100-continue\r\n");
	if (x->framing == PX_LENGTH)
		px_buf_print(b, "Content-Length: %zu\r\n", x->len);
	else if (x->framing == PX_CHUNKED)
		px_buf_print(b, "Transfer-Encoding: chunked\r\n");
	px_buf_print(b, "\r\n");
}

static const char *const malformed[] = {
	"GET /r0/%u HTTP/1.1\r\n\r\n",
	"GET /r0/%u HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"POST /r0/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST /r0/%u HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
		"Content-Length: 3\r\n\r\nabc",
	"GET  /r0/%u HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /r0/%u HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET /r0/%u HTTP/1.1\nHost: a\n\n",
	"GET /r0/%u HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
	"POST /r0/%u HTTP/1.1\r\nHost: a\r\n"
		"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"GET /r0/%%00/%u HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /r0/%u HTTP/1.1\r\nHost: a b\r\n\r\n",
	"POST /r0/%u HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
	"GET /r0/%u HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n",
	"GET /r0/%u FTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT r0:%u HTTP/1.1\r\nHost: r0\r\n\r\n",
};

static void put_malformed(struct px_client *c, struct px_exchange *x)
{
	unsigned which = x->bad % (ARRAY_LEN(malformed) + 2);

	if (which < ARRAY_LEN(malformed)) {
		px_buf_print(&c->out, malformed[which], x->n);
		return;
	}
	px_buf_print(&c->out, "GET /r0/%u", x->n);
	if (which == ARRAY_LEN(malformed))
		for (unsigned i = 0; i < 9000; i++)
			px_buf_put(&c->out, "x", 1);
	px_buf_print(&c->out, " HTTP/1.1\r\nHost: a\r\nX: ");
	if (which != ARRAY_LEN(malformed))
		for (unsigned i = 0; i < 40000; i++)
			px_buf_put(&c->out, "y", 1);
	px_buf_print(&c->out, "\r\n\r\n");
}

static void put_junk(struct px_client *c, struct px_exchange *x)
{
	x->kind = PX_MALFORMED;
	x->troubled = true;
	if (c->receiving == c->sending)
		c->reader.to_head = false;
	for (unsigned i = 0; i < 200; i++) {
		char b = (char)sim_random(c->px->w);

		px_buf_put(&c->out, &b, 1);
	}
	px_buf_print(&c->out, "\r\n\r\n");
}

static void build(struct px_client *c, struct px_exchange *x)
{
	c->building = true;
	c->out.n = c->out_at = 0;
	c->waits_for_100 = c->got_100 = false;
	if (c->trouble == PX_CLIENT_JUNK && c->sending == c->trouble_in) {
		put_junk(c, x);
		c->body_at = c->out.n;
		return;
	}
	if (x->kind == PX_MALFORMED) {
		put_malformed(c, x);
		c->body_at = c->out.n;
		return;
	}
	put_head(c, x);
	c->body_at = c->out.n;
	put_body(c, x);
	c->waits_for_100 = x->expect && chance(c, 700);
}

/* ---- the end ------------------------------------------------------------- */

static void over(struct px_client *c)
{
	if (c->over)
		return;
	c->over = c->stopped = true;
	sim_peer_close(c->peer);
	for (unsigned i = c->receiving; i < c->n; i++)
		if (nth(c, i)->begun && !nth(c, i)->complete) {
			nth(c, i)->cut = true;
			nth(c, i)->over_us = sim_now(c->px->w);
		}
	c->px->n_over++;
}

static void troubled(struct px_client *c, bool impatient)
{
	for (unsigned i = c->receiving; i < c->n; i++) {
		nth(c, i)->troubled = true;
		nth(c, i)->impatient |= impatient;
	}
}

static void go_away(struct px_client *c, bool hard)
{
	if (c->over)
		return;
	troubled(c, true);
	if (c->tunnel.x)
		c->tunnel.x->troubled = true;
	if (hard)
		sim_peer_reset(c->peer);
	over(c);
}

static void on_leave(void *arg)
{
	struct px_client *c = arg;

	go_away(c, c->trouble == PX_CLIENT_LEAVES);
}

static void on_read_again(void *arg)
{
	struct px_client *c = arg;

	if (!c->over)
		sim_peer_stall(c->peer, false);
}

/* ---- sending ------------------------------------------------------------- */

static void on_step(void *arg)
{
	struct px_client *c = arg;

	c->stepping = false;
	step(c);
}

static void step_later(struct px_client *c, uint64_t us)
{
	if (c->stepping || c->over)
		return;
	c->stepping = true;
	sim_after(c->px->w, us, on_step, c);
}

static void on_no_100(void *arg)
{
	struct px_client *c = arg;

	if (!c->waits_for_100)
		return;
	c->waits_for_100 = false;
	step_later(c, 0);
}

/* True: the trouble was done and sending is over. */
static bool make_trouble(struct px_client *c)
{
	switch (c->trouble) {
	case PX_CLIENT_RESETS:
	case PX_CLIENT_CLOSES:
		go_away(c, c->trouble == PX_CLIENT_RESETS);
		return true;
	case PX_CLIENT_HALF_CLOSES:
		troubled(c, false);
		sim_peer_shutdown(c->peer);
		c->stopped = true;
		return true;
	case PX_CLIENT_STOPS:
		troubled(c, false);
		c->stopped = true;
		return true;
	case PX_CLIENT_READS_NOT:
		troubled(c, false);
		sim_peer_stall(c->peer, true);
		sim_after(c->px->w, sim_below(c->px->w, 10 * SIM_SECOND),
			  on_read_again, c);
		return false;
	case PX_CLIENT_LEAVES:
	case PX_CLIENT_VANISHES:
		sim_after(c->px->w, sim_below(c->px->w, chance(c, 500) ?
			  5000 : 300000), on_leave, c);
		return false;
	case PX_CLIENT_FINE:
	case PX_CLIENT_JUNK:
	case PX_CLIENT_TROUBLES:
		break;
	}
	return false;
}

static void note_sent(struct px_client *c, struct px_exchange *x)
{
	uint64_t now = sim_now(c->px->w);

	if (!x->begun)
		x->begun_us = now;
	x->begun = true;
	if (c->out_at >= c->body_at && !x->head_us)
		x->head_us = now;
	if (c->out_at > c->body_at)
		x->body_sent = min_size(c->out_at - c->body_at, x->len);
	if (c->out_at < c->out.n)
		return;
	x->sent = true;
	x->sent_us = now;
	x->body_sent = x->len;
}

static void request_sent(struct px_client *c)
{
	c->building = false;
	c->sending++;
	if (c->sending == c->n && c->shuts &&
	    !nth(c, c->n - 1)->upgrade)
		sim_peer_shutdown(c->peer);
	else if (c->pipelines)
		step_later(c, c->pause_us);
}

static void send_piece(struct px_client *c, struct px_exchange *x)
{
	size_t left = c->out.n - c->out_at, n = left;
	bool here = c->trouble != PX_CLIENT_FINE &&
		    c->sending == c->trouble_in;

	if (c->piece != SIZE_MAX)
		n = min_size(left, 1 + c->out.n / 500 +
			     sim_below(c->px->w, c->piece));
	if (c->waits_for_100)
		n = min_size(n, c->body_at - c->out_at);
	if (here && c->out_at <= c->trouble_at)
		n = min_size(n, c->trouble_at - c->out_at);
	sim_peer_send(c->peer, c->out.p + c->out_at, n);
	if (n) {
		c->out_at += n;
		note_sent(c, x);
	}
	if (here && (c->out_at >= c->trouble_at || c->out_at == c->out.n)) {
		enum px_client_trouble t = c->trouble;

		if (make_trouble(c))
			return;
		if (t != PX_CLIENT_LEAVES && t != PX_CLIENT_VANISHES)
			c->trouble = PX_CLIENT_FINE;
		c->trouble_in = UINT32_MAX;
	}
	if (c->out_at == c->out.n)
		request_sent(c);
	else if (c->waits_for_100 && c->out_at == c->body_at)
		sim_after(c->px->w, SIM_SECOND, on_no_100, c);
	else
		step_later(c, c->gap_us);
}

static void step(struct px_client *c)
{
	if (c->over || c->stopped || c->sending == c->n)
		return;
	if (!c->building) {
		if (!c->pipelines && c->receiving < c->sending)
			return;
		build(c, nth(c, c->sending));
	}
	if (c->waits_for_100 && c->out_at >= c->body_at)
		return;
	send_piece(c, nth(c, c->sending));
}

/* ---- responses ----------------------------------------------------------- */

/* An answer too many; or the one that this has pushed out of its place. */
static bool is_stray(const struct px *px, unsigned long n)
{
	/* Clients may read late. */
	return px_may_stray(px) || (n == 0 && px->stray_us) ||
	       (n > 0 && n <= px->n_x && px->x[n].strayed);
}

static void take_interim(struct px_client *c, struct px_exchange *x)
{
	struct px_reader *r = &c->reader;
	struct slice value;

	PX_CHECK(c->px, x, x->minor == 1, "an interim response for HTTP/1.0");
	if (r->status == 100) {
		PX_CHECK(c->px, x, x->expect, "100 for nothing");
		if (c->waits_for_100 && c->receiving == c->sending) {
			c->waits_for_100 = false;
			step_later(c, 0);
		}
		return;
	}
	PX_CHECK(c->px, x, px_field(r, "x-sim-interim", &value) == 1,
		 "a strange interim response");
	if (strtoul(value.p, NULL, 10) != x->n &&
	    is_stray(c->px, strtoul(value.p, NULL, 10)))
		x->troubled = x->strayed = true;
	else
		PX_CHECK(c->px, x, strtoul(value.p, NULL, 10) == x->n &&
			 x->n_upstream, "another's interim response");
}

static void check_fields(struct px_client *c, struct px_exchange *x)
{
	struct px_reader *r = &c->reader;
	const struct px_route *route = px_route_of(x);
	struct slice value;

	PX_CHECK(c->px, x, px_field(r, "x-request-id", &value) == 1 &&
		 value.n == 32, "X-Request-Id: %.*s", SLICE_FMT(value));
	PX_CHECK(c->px, x, px_field(r, "date", &value) == 1, "no Date");
	PX_CHECK(c->px, x, px_field(r, "x-sim-hop", &value) == 0 &&
		 px_field(r, "keep-alive", &value) == 0,
		 "a hop-by-hop field came back");
	for (unsigned k = 0; k < route->n_asked; k++) {
		const struct px_part *p = &x->parts[k];
		char name[32], want[48];

		for (unsigned dir = 0; dir < 2; dir++) {
			snprintf(name, sizeof(name), "x-sim-%c%u",
				 dir ? 's' : 'e', k);
			snprintf(want, sizeof(want), "%u.%u.%u.0", x->n, k,
				 dir ? EVENT_RESPONSE_HEAD : 0);
			if (px_field(r, name, &value))
				PX_CHECK(c->px, x, p->head[dir].edits &&
					 !route->asked[k].observe &&
					 slice_eq(value, slice_str(want)),
					 "an edit that nobody asked for");
			else if (x->from == PX_FROM_UPSTREAM &&
				 p->head[dir].answered &&
				 px_has_word(x, k))
				PX_CHECK(c->px, x, !p->head[dir].edits,
					 "an edit is missing: %s", name);
		}
	}
}

/* Who made it? */
static void find_author(struct px_client *c, struct px_exchange *x)
{
	struct px_reader *r = &c->reader;
	struct slice value;
	unsigned n, part, event, index;

	x->from = PX_FROM_PROXY;
	if (px_field(r, "x-sim-answer", &value)) {
		if (strtoul(value.p, NULL, 10) != x->n &&
		    is_stray(c->px, strtoul(value.p, NULL, 10))) {
			x->troubled = x->strayed = true;
			return;
		}
		x->from = PX_FROM_UPSTREAM;
		PX_CHECK(c->px, x, strtoul(value.p, NULL, 10) == x->n,
			 "the response of another request");
		return;
	}
	if (!px_field(r, "x-sim-block", &value))
		return;
	x->from = PX_FROM_AGENT;
	PX_CHECK(c->px, x, sscanf(value.p, "%u.%u.%u.%u\r", &n, &part, &event,
				  &index) == 4 && n == x->n &&
		 part < px_route_of(x)->n_asked,
		 "another's refusal: %.*s", SLICE_FMT(value));
	x->by_part = part;
	x->by_event = (enum event_type)event;
	x->by_index = index;
}

static void on_head(struct px_reader *r)
{
	struct px_client *c = r->ctx;
	struct px_exchange *x = nth(c, c->receiving);

	PX_CHECK(c->px, NULL, c->receiving < c->n, "a response too many");
	PX_CHECK(c->px, x, x->begun, "a response before its request");
	if (r->status < 200 && r->status != 101) {
		take_interim(c, x);
		return;
	}
	PX_CHECK(c->px, x, r->status != 101 || (x->upgrade &&
		 px_route_of(x)->upgrade), "a 101 that nobody asked for");
	sim_trace(c->px->w, "client %u: response %u to %u",
		  (unsigned)(c - c->px->clients), r->status, x->n);
	for (unsigned i = 0; i < r->n_fields; i++)
		sim_trace(c->px->w, "  %.*s: %.*s",
			  SLICE_FMT(r->fields[i].name),
			  SLICE_FMT(r->fields[i].value));
	x->status = r->status;
	x->closes = r->close;
	find_author(c, x);
	check_fields(c, x);
	PX_CHECK(c->px, x, x->sent || r->close,
		 "kept alive inside a request");
	PX_CHECK(c->px, x, x->minor || r->framing != PX_CHUNKED,
		 "chunked to HTTP/1.0");
	px_check_answer(x);
}

static void on_body(struct px_reader *r, const char *p, size_t n)
{
	struct px_client *c = r->ctx;
	struct px_exchange *x = nth(c, c->receiving);

	if (x->from == PX_FROM_UPSTREAM)
		px_body_came(x, PX_RESPONSE, p, n);
	else
		px_buf_put(&x->own, p, n);
	px_host_check_budget(c->px);
}

static void on_tunnel_over(void *ctx)
{
	over(ctx);
}

static void prepare(struct px_client *c)
{
	if (c->receiving < c->n)
		c->reader.to_head = nth(c, c->receiving)->kind ==
				    PX_MALFORMED ? false :
			strcmp(nth(c, c->receiving)->method, "HEAD") == 0;
}

static void on_end(struct px_reader *r)
{
	struct px_client *c = r->ctx;
	struct px_exchange *x = nth(c, c->receiving);

	x->complete = true;
	x->over_us = sim_now(c->px->w);
	c->receiving++;
	if (x->status == 101) {
		c->stopped = true;
		px_tunnel_start(&c->tunnel, x, PX_REQUEST, c->peer,
				on_tunnel_over, c);
		return;
	}
	prepare(c);
	if (x->closes) {
		/* What is not sent yet has no reader any more. */
		c->stopped = true;
		return;
	}
	px_reader_next(r);
	if (c->receiving < c->n)
		step_later(c, c->pause_us);
	else if (!c->lingers)
		over(c);
}

/* ---- the connection ------------------------------------------------------ */

static void on_open(struct sim_peer *peer)
{
	step_later(peer->ctx, 0);
}

static void on_data(struct sim_peer *peer, const char *p, size_t n)
{
	struct px_client *c = peer->ctx;

	if (c->over)
		return;
	if (c->tunnel.x) {
		px_tunnel_data(&c->tunnel, p, n);
		return;
	}
	px_reader_feed(&c->reader, p, n);
	PX_CHECK(c->px, nth(c, min_size(c->receiving, c->n - 1)),
		 !c->reader.error, "bad bytes came to a client: %s",
		 c->reader.error);
	if (c->tunnel.x) {
		px_tunnel_data(&c->tunnel, c->reader.in.p + c->reader.used,
			       px_reader_left(&c->reader));
		return;
	}
	/* Who gave up on half a head cannot know that it asked for no body. */
	PX_CHECK(c->px, nth(c, min_size(c->receiving, c->n - 1)), c->over ||
		 c->reader.state != PX_READ_DONE ||
		 px_reader_left(&c->reader) == 0 ||
		 !nth(c, c->receiving - 1)->head_us,
		 "bytes after the last response");
}

static void on_eof(struct sim_peer *peer)
{
	struct px_client *c = peer->ctx;

	if (c->over)
		return;
	if (c->tunnel.x) {
		px_tunnel_eof(&c->tunnel);
		return;
	}
	px_reader_eof(&c->reader);
	over(c);
}

static void on_error(struct sim_peer *peer, int error)
{
	struct px_client *c = peer->ctx;

	c->refused = !c->reader.in.n && !nth(c, 0)->begun;
	over(c);
}

static const struct sim_peer_events events = {
	.on_open = on_open,
	.on_data = on_data,
	.on_eof = on_eof,
	.on_error = on_error,
};

static void on_start(void *arg)
{
	struct px_client *c = arg;

	c->peer = sim_connect(c->px->w, c->px->listeners[c->listener].address,
			      c->from, &events, c);
}

void px_clients_start(struct px *px)
{
	px->clients = calloc(px->n_clients, sizeof(*px->clients));
	px->x = calloc(PX_EXCHANGES + 1, sizeof(*px->x));
	ASSERT(px->clients && px->x);
	for (unsigned i = 0; i < px->n_clients; i++) {
		struct px_client *c = &px->clients[i];

		px_plan_client(px, c);
		c->reader.response = true;
		c->reader.ctx = c;
		c->reader.on_head = on_head;
		c->reader.on_body = on_body;
		c->reader.on_end = on_end;
		prepare(c);
		/* Most come at once, some when the agents may be there. */
		sim_after(px->w, sim_chance(px->w, 500) ? 0 :
			  sim_below(px->w, 300 * SIM_MS), on_start, c);
	}
}

void px_clients_end(struct px *px)
{
	for (unsigned i = 1; i <= px->n_x; i++) {
		struct px_exchange *x = &px->x[i];

		for (unsigned d = 0; d < 2; d++) {
			px_buf_free(&x->sink[d]);
			for (unsigned k = 0; k < PX_PARTS; k++) {
				px_buf_free(&x->parts[k].body[d].in);
				px_buf_free(&x->parts[k].body[d].out);
			}
		}
		px_buf_free(&x->own);
	}
	for (unsigned i = 0; i < px->n_clients; i++) {
		px_reader_free(&px->clients[i].reader);
		px_buf_free(&px->clients[i].out);
	}
	free(px->x);
	free(px->clients);
}
