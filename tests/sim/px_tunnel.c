/* The two ends of a tunnel, after a 101: each sends its pattern and reads the
 * other's, half-closes when it is done, and is over when both are. */
#include "px_tunnel.h"

static void on_step(void *arg)
{
	struct px_tunnel *t = arg;
	struct sim_world *w = t->x->px->w;
	size_t n = min_size(1 + sim_below(w, 3000), t->len - t->sent);
	char buf[3000];

	t->stepping = false;
	if (t->peer->closed || t->shut)
		return;
	px_pattern(t->x->n, t->dir, t->sent, buf, n);
	sim_peer_send(t->peer, buf, n);
	t->sent += n;
	t->x->tunnel_sent[t->dir] = t->sent;
	if (t->sent < t->len) {
		t->stepping = true;
		sim_after(w, sim_below(w, t->gap_us + 1), on_step, t);
		return;
	}
	t->shut = true;
	t->x->tunnel_shut[t->dir] = true;
	sim_peer_shutdown(t->peer);
	if (t->ended)
		t->on_over(t->ctx);
}

void px_tunnel_start(struct px_tunnel *t, struct px_exchange *x, unsigned dir,
		     struct sim_peer *peer, void (*on_over)(void *ctx),
		     void *ctx)
{
	struct px *px = x->px;

	t->on_over = on_over;
	t->ctx = ctx;
	t->x = x;
	t->dir = dir;
	t->peer = peer;
	t->len = sim_below(px->w, sim_chance(px->w, 800) ? 2000 : 200000);
	t->gap_us = sim_chance(px->w, 500) ? 0 : 20000;
	t->stepping = true;
	sim_after(px->w, sim_below(px->w, 3000), on_step, t);
}

void px_tunnel_data(struct px_tunnel *t, const char *p, size_t n)
{
	struct px_exchange *x = t->x;
	unsigned dir = !t->dir;

	PX_CHECK(x->px, x, x->tunnel_got[dir] + n <= x->tunnel_sent[dir] &&
		 px_pattern_is(x->n, dir, x->tunnel_got[dir], p, n),
		 "foreign bytes in the tunnel at %zu", x->tunnel_got[dir]);
	x->tunnel_got[dir] += n;
}

void px_tunnel_eof(struct px_tunnel *t)
{
	t->ended = true;
	t->x->tunnel_ended[!t->dir] = true;
	if (t->shut)
		t->on_over(t->ctx);
}

void px_tunnel_check(const struct px_exchange *x)
{
	for (unsigned dir = 0; dir < 2; dir++)
		PX_CHECK(x->px, x, x->tunnel_shut[dir] &&
			 x->tunnel_ended[dir] &&
			 x->tunnel_got[dir] == x->tunnel_sent[dir],
			 "%zu of %zu bytes came through the tunnel (%s)",
			 x->tunnel_got[dir], x->tunnel_sent[dir],
			 x->log.why);
}
