/*
 * Streams alone: a relay on the daemon's streams between scripted clients and
 * a scripted echo server. Whatever the network does, what a client gets back
 * is a prefix of what it sent; all of it and then the end if nobody reset; and
 * nothing is left at the end.
 */
#include <errno.h>
#include <stdlib.h>

#include "net/stream.h"
#include "sim_scenario.h"

#define FRONT "127.0.0.1:8080"

struct relay;

struct side {
	struct stream s;
	struct relay *relay;
	struct side *to;
};

/* One connection of a client's and the one that it caused. */
struct relay {
	struct side in, out;
	struct task reap;
	struct relay *next;
	struct proxy *proxy;
};

struct proxy {
	struct loop *loop;
	struct watch listener;
	struct net_addr server;
	struct relay *relays;
};

/* ---- the program's side -------------------------------------------------- */

static void on_reap(struct task *t)
{
	struct relay *r = container_of(t, struct relay, reap), **pp;

	pp = &r->proxy->relays;
	while (*pp != r)
		pp = &(*pp)->next;
	*pp = r->next;
	free(r);
}

static void relay_end(struct relay *r, bool hard)
{
	stream_close(&r->in.s, hard);
	stream_close(&r->out.s, hard);
	loop_defer_reap(r->proxy->loop, &r->reap, on_reap);
}

/* Both have said all, and all of it is out. */
static void relay_check(struct relay *r)
{
	if (r->in.s.read_end && r->out.s.read_end && r->in.s.shut &&
	    r->out.s.shut)
		relay_end(r, false);
}

static void relay_pass(struct side *from)
{
	struct side *to = from->to;
	struct slice d = stream_data(&from->s);

	if (d.n) {
		if (!outq_ref(&to->s.out, from->s.in, d.p, d.n)) {
			relay_end(from->relay, true);
			return;
		}
		stream_consume(&from->s, d.n);
		stream_flush_later(&to->s);
		if (to->s.out.bytes > STREAM_LOW_WATER)
			stream_pause(&from->s);
	}
	if (from->s.read_end == STREAM_RESET) {
		relay_end(from->relay, true);
		return;
	}
	if (from->s.read_end == STREAM_EOF) {
		stream_shutdown(&to->s);
		stream_flush_now(&to->s);
		relay_check(from->relay);
	}
}

static void on_read(struct stream *s)
{
	struct side *side = container_of(s, struct side, s);

	if (s->paused && s->error)
		relay_end(side->relay, true);
	else if (!s->paused)
		relay_pass(side);
}

static void on_room(struct stream *s)
{
	struct side *side = container_of(s, struct side, s);

	if (side->to->s.paused)
		stream_resume(&side->to->s);
	relay_check(side->relay);
}

static void on_write_error(struct stream *s)
{
	relay_end(container_of(s, struct side, s)->relay, true);
}

static void on_connect(struct stream *s, int error)
{
	struct side *side = container_of(s, struct side, s);

	if (error)
		relay_end(side->relay, true);
}

static const struct stream_events events = {
	.on_connect = on_connect,
	.on_read = on_read,
	.on_room = on_room,
	.on_write_error = on_write_error,
};

static void proxy_accept(struct proxy *p, int fd)
{
	struct relay *r = calloc(1, sizeof(*r));
	bool ok = stream_open(&r->in.s, p->loop, fd, &events);

	ASSERT(ok);
	r->proxy = p;
	r->in.relay = r->out.relay = r;
	r->in.to = &r->out;
	r->out.to = &r->in;
	r->next = p->relays;
	p->relays = r;
	if (stream_connect(&r->out.s, p->loop, &p->server, &events) < 0)
		relay_end(r, true);
}

static void on_listener(struct watch *w, unsigned what)
{
	struct proxy *p = container_of(w, struct proxy, listener);
	struct net_addr peer;
	int fd;

	while ((fd = sock_accept(w->fd, &peer)) >= 0)
		proxy_accept(p, fd);
	ASSERT(fd == -EAGAIN);
}

/* ---- the scripts --------------------------------------------------------- */

struct client {
	struct sim_peer *peer;
	uint64_t tag;
	size_t total, sent, got;
	bool may_fail, ended, opened;
};

static char byte_at(uint64_t tag, size_t at)
{
	return (char)((tag * 31 + at * 7 + (at >> 8)) & 0xff);
}

static void client_step(void *arg)
{
	struct client *c = arg;
	char buf[2000];
	size_t n = min_size(1 + sim_below(c->peer->world, sizeof(buf)),
			    c->total - c->sent);

	if (c->peer->closed)
		return;
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(c->tag, c->sent + i);
	sim_peer_send(c->peer, buf, n);
	c->sent += n;
	if (c->may_fail && sim_chance(c->peer->world, 3)) {
		sim_peer_reset(c->peer);
		return;
	}
	if (c->may_fail && sim_chance(c->peer->world, 3)) {
		sim_peer_close(c->peer);
		return;
	}
	if (c->sent == c->total)
		sim_peer_shutdown(c->peer);
	else
		sim_after(c->peer->world, sim_below(c->peer->world, 3000),
			  client_step, c);
}

static void client_open(struct sim_peer *p)
{
	struct client *c = p->ctx;

	c->opened = true;
	client_step(c);
}

static void client_data(struct sim_peer *p, const char *data, size_t n)
{
	struct client *c = p->ctx;

	for (size_t i = 0; i < n; i++)
		ASSERT(data[i] == byte_at(c->tag, c->got + i));
	c->got += n;
	ASSERT(c->got <= c->sent);
}

static void client_eof(struct sim_peer *p)
{
	struct client *c = p->ctx;

	ASSERT(c->may_fail || c->got == c->total);
	c->ended = true;
	sim_peer_close(p);
}

static void client_error(struct sim_peer *p, int error)
{
	struct client *c = p->ctx;

	ASSERT(c->may_fail);
	c->ended = true;
}

static const struct sim_peer_events client_events = {
	.on_open = client_open,
	.on_data = client_data,
	.on_eof = client_eof,
	.on_error = client_error,
};

struct server {
	bool may_fail;
};

static void unstall(void *arg)
{
	sim_peer_stall(arg, false);
}

static void server_data(struct sim_peer *p, const char *data, size_t n)
{
	struct server *s = p->ctx;

	sim_peer_send(p, data, n);
	if (sim_chance(p->world, 50)) {
		sim_peer_stall(p, true);
		sim_after(p->world, sim_below(p->world, 300 * SIM_MS),
			  unstall, p);
	}
	if (s->may_fail && sim_chance(p->world, 3))
		sim_peer_reset(p);
}

static void server_eof(struct sim_peer *p)
{
	sim_peer_close(p);
}

static const struct sim_peer_events server_events = {
	.on_data = server_data,
	.on_eof = server_eof,
};

/* ---- one run ------------------------------------------------------------- */

static void proxy_start(struct proxy *p, const char *server)
{
	struct net_addr front;
	bool ok = net_addr_parse(SLICE(FRONT), &front) &&
		  net_addr_parse(slice_str(server), &p->server);
	int fd;

	p->loop = loop_new(0);
	fd = sock_listen(&front, 128);
	ok = ok && fd >= 0 &&
	     watch_start_listener(p->loop, &p->listener, fd, on_listener);
	ASSERT(ok);
}

static void proxy_stop(struct sim_world *w, struct proxy *p)
{
	int fd = p->listener.fd;

	for (struct relay *r = p->relays; r; r = r->next)
		relay_end(r, true);
	watch_stop(&p->listener);
	sock_close(fd, false);
	sim_run(w, sim_now(w) + SIM_SECOND);
	ASSERT(!p->relays);
	ASSERT(p->loop->blocks.live == 0);
	loop_free(p->loop);
}

static uint64_t run(uint64_t seed, bool verbose)
{
	struct sim_world *w = sim_world_new(seed, verbose);
	const char *address = sim_chance(w, 500) ? "unix:/server" :
						   "127.0.0.1:9000";
	struct server server = { .may_fail = sim_chance(w, 300) };
	struct proxy proxy = { 0 };
	struct client clients[20] = { 0 };
	size_t n = 1 + sim_below(w, ARRAY_LEN(clients));
	bool may_fail = server.may_fail || sim_chance(w, 300);
	bool done;
	uint64_t digest;

	proxy_start(&proxy, address);
	if (may_fail && sim_chance(w, 200))
		sim_memory_faults(w, 2000);
	if (may_fail && sim_chance(w, 100))
		sim_set_fate(w, address, SIM_REFUSED);
	else
		sim_listen(w, address, &server_events, &server);
	for (size_t i = 0; i < n; i++) {
		struct client *c = &clients[i];

		c->tag = i;
		c->may_fail = may_fail;
		c->total = 1 + sim_below(w, sim_chance(w, 200) ? 500000 :
								 5000);
		c->peer = sim_connect(w, FRONT, NULL, &client_events, c);
	}
	done = !sim_run(w, sim_now(w) + 10000 * SIM_SECOND);
	ASSERT(done);
	for (size_t i = 0; i < n; i++)
		ASSERT(clients[i].ended || clients[i].peer->closed);
	ASSERT(!proxy.relays);
	sim_memory_faults(w, 0);
	proxy_stop(w, &proxy);
	digest = sim_digest(w);
	sim_world_free(w);
	return digest;
}

const struct sim_scenario sim_scenario_streams = { "streams", run };
