/* Scripted agents: processes that come and go, their links, frames. */
#include <stdio.h>
#include <stdlib.h>

#include "px_link.h"

/* ---- bytes out ----------------------------------------------------------- */

struct dribble {
	struct px_link *link;
	size_t at, n;
	char bytes[];
};

static void on_dribble(void *arg)
{
	struct dribble *d = arg;
	struct sim_world *w = d->link->agent->px->w;
	size_t part = min_size(1 + sim_below(w, 40), d->n - d->at);

	sim_peer_send(d->link->peer, d->bytes + d->at, part);
	d->at += part;
	if (d->at == d->n || d->link->dead) {
		d->link->held--;
		free(d);
		return;
	}
	sim_after(w, sim_below(w, 200), on_dribble, d);
}

void px_link_send(struct px_link *l, const char *p, size_t n)
{
	struct px_agent *a = l->agent;
	struct dribble *d;

	sim_trace(a->px->w, "agent %s sends %zu bytes on %u", a->name, n,
		  l->peer->id);

	/* A dribbling server ends one reply before it begins another: only
	 * where nothing else is on its way. */
	if (!a->temper.dribbles || l->held || n > 2000 ||
	    a->temper.unordered || !sim_chance(a->px->w, 200)) {
		sim_peer_send(l->peer, p, n);
		return;
	}
	d = malloc(sizeof(*d) + n);
	ASSERT(d);
	d->link = l;
	d->at = 0;
	d->n = n;
	memcpy(d->bytes, p, n);
	l->held++;
	l->free_at = sim_now(a->px->w) + 200 * (n + 1);
	on_dribble(d);
}

void px_link_send_queue(struct px_link *l, struct outq *q)
{
	struct px_buf flat = { 0 };

	for (const struct oseg *s = q->first; s; s = s->next)
		px_buf_put(&flat, s->p, s->n);
	outq_clear(q);
	px_link_send(l, flat.p, flat.n);
	px_buf_free(&flat);
}

static void link_gone(struct px_link *l)
{
	if (l->dead)
		return;
	l->dead = true;
	for (unsigned i = 1; i <= l->agent->px->n_x; i++)
		for (unsigned k = 0; k < PX_PARTS; k++)
			if (l->agent->px->x[i].parts[k].link == l)
				l->agent->px->x[i].parts[k].link_lost = true;
}

static void dial_again(struct px_agent *a);

void px_link_close(struct px_link *l)
{
	if (l->dead)
		return;
	l->agent->n_closed++;
	if (sim_chance(l->agent->px->w, 300))
		sim_peer_reset(l->peer);
	else
		sim_peer_close(l->peer);
	link_gone(l);
	dial_again(l->agent);
}

/* ---- one that dials in --------------------------------------------------- */

static const struct sim_peer_events link_events;

static struct px_link *link_new(struct px_agent *a)
{
	struct px_link *l = calloc(1, sizeof(*l));

	ASSERT(l);
	l->agent = a;
	l->next = a->links;
	a->links = l;
	l->format.dialect = a->dialect;
	l->shook = a->dialect == WIRE_V1;
	return l;
}

/* With what a handshake would say, see put_limits(). */
static void dial(struct px_agent *a)
{
	struct px_link *l = link_new(a);
	char frame[512];
	int n;

	l->dialled = true;
	l->peer = sim_connect(a->px->w, PX_DOOR, NULL, &link_events, l);
	n = snprintf(frame + FRAME_HEAD, sizeof(frame) - FRAME_HEAD,
		     "{\"protocol_version\":2,\"agent_id\":\"%s\","
		     "\"auth_token\":\"token-of-%s\",\"capabilities\":{"
		     "\"max_concurrent_requests\":%u,\"limits\":{"
		     "\"preferred_chunk_size\":%u}}}", a->name, a->name,
		     a->says_events,
		     a->dialect == WIRE_V2 ? a->says_chunk : 0);
	frame_write_head(frame, a->dialect == WIRE_GO ? FRAME_GO_REGISTER :
			 FRAME_HANDSHAKE, (size_t)n);
	sim_peer_send(l->peer, frame, FRAME_HEAD + (size_t)n);
}

/* As many as it wants to have. */
static void on_dial(void *arg)
{
	struct px_agent *a = arg;
	unsigned n = 0;

	if (!a->up || a->px->ending)
		return;
	for (const struct px_link *l = a->links; l; l = l->next)
		n += !l->dead;
	for (; n < a->connections; n++)
		dial(a);
}

static void dial_again(struct px_agent *a)
{
	if (a->reverse && !a->px->ending)
		sim_after(a->px->w, SIM_MS + sim_below(a->px->w, 60 * SIM_MS),
			  on_dial, a);
}

static void take_registered(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px_agent *a = l->agent;

	/* At the end it may be answered before a byte of it has come. */
	PX_CHECK(a->px, NULL, type == (a->dialect == WIRE_GO ?
		 FRAME_GO_REGISTER_ACK : FRAME_HANDSHAKE_REPLY) ||
		 (a->px->ending && type == FRAME_HANDSHAKE_REPLY),
		 "agent %s gets %u for its registration", a->name, type);
	sim_trace(a->px->w, "agent %s is told %.*s", a->name, (int)n, p);
	if (wire_agent_decode_registered(type, slice_of(p, n))) {
		l->shook = true;
		l->format = (struct wire_format){ .dialect = a->dialect };
		return;
	}
	px_link_close(l);
}

/* ---- the process comes and goes ------------------------------------------ */

static void on_revive(void *arg)
{
	struct px_agent *a = arg;

	if (a->up)
		return;
	a->up = true;
	if (a->reverse)
		on_dial(a);
	else
		sim_listen(a->px->w, a->address, &link_events, a);
}

void px_agent_dies(struct px_agent *a)
{
	if (!a->up)
		return;
	sim_trace(a->px->w, "agent %s dies", a->name);
	a->up = false;
	a->n_closed++;
	if (!a->reverse)
		sim_unlisten(a->px->w, a->address);
	for (struct px_link *l = a->links; l; l = l->next)
		px_link_close(l);
	sim_after(a->px->w, sim_below(a->px->w, 300 * SIM_MS), on_revive, a);
}

/* ---- frames in ----------------------------------------------------------- */

static void take_handshake(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px_agent *a = l->agent;
	bool msgpack = false, json = false;
	bool ok = type == FRAME_HANDSHAKE &&
		  wire_agent_decode_handshake(slice_of(p, n), &msgpack, &json);

	PX_CHECK(a->px, NULL, ok, "agent %s got a bad handshake", a->name);
	PX_CHECK(a->px, NULL, a->speaks == WIRE_MSGPACK ? msgpack : json,
		 "agent %s was not offered its encoding", a->name);
	px_answer_handshake(l, a->speaks == WIRE_MSGPACK);
}

static void take_frame(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px_agent *a = l->agent;

	if (l->format.dialect == WIRE_V1) {
		px_take_event(l, type, p, n);
		return;
	}
	if (!l->shook) {
		if (l->dialled) {
			take_registered(l, type, p, n);
			return;
		}
		PX_CHECK(a->px, NULL, l->held == 0,
			 "agent %s got a frame inside the handshake", a->name);
		take_handshake(l, type, p, n);
		return;
	}
	if (type == (l->format.dialect == WIRE_GO ? FRAME_GO_PING :
						    FRAME_PING))
		px_answer_ping(l, p, n);
	else if (l->format.dialect == WIRE_GO &&
		 (type == FRAME_GO_ASK_HEALTH || type == FRAME_GO_ASK_METRICS))
		px_answer_question(l, type);
	else if (type != FRAME_CANCEL || l->format.dialect != WIRE_V2)
		px_take_event(l, type, p, n);
}

static void on_link_data(struct sim_peer *peer, const char *p, size_t n)
{
	struct px_link *l = peer->ctx;
	size_t at = 0;

	px_buf_put(&l->in, p, n);
	while (!l->dead && l->in.n - at >= FRAME_HEAD) {
		unsigned char *h = (unsigned char *)l->in.p + at;
		size_t len = (size_t)h[0] << 24 | (size_t)h[1] << 16 |
			     (size_t)h[2] << 8 | h[3];
		bool v1 = l->format.dialect == WIRE_V1;

		PX_CHECK(l->agent->px, NULL, len >= 1 && len <= FRAME_MAX,
			 "agent %s got a frame of length %zu", l->agent->name,
			 len);
		if (l->in.n - at < 4 + len)
			break;
		at += 4 + len;
		if (v1)
			take_frame(l, 0, (char *)h + 4, len);
		else
			take_frame(l, h[4], (char *)h + FRAME_HEAD, len - 1);
	}
	memmove(l->in.p, l->in.p + at, l->in.n - at);
	l->in.n -= at;
}

static void on_link_accept(struct sim_peer *peer)
{
	struct px_agent *a = peer->ctx;
	struct px_link *l = link_new(a);

	l->peer = peer;
	peer->ctx = l;
	if (a->temper.die && sim_chance(a->px->w, 30))
		px_link_close(l);
}

/* By the proxy. Who dials in is missing until it is back. */
static void link_lost(struct px_link *l)
{
	struct px_agent *a = l->agent;

	a->n_lost_links++;
	a->n_closed += a->reverse;
	dial_again(a);
}

static void on_link_eof(struct sim_peer *peer)
{
	struct px_link *l = peer->ctx;
	struct px_agent *a = l->agent;

	if (!l->dead && !a->px->ending)
		link_lost(l);
	link_gone(l);
	sim_peer_close(peer);
}

static void on_link_error(struct sim_peer *peer, int error)
{
	struct px_link *l = peer->ctx;

	if (!l->dead && !l->agent->px->ending)
		link_lost(l);
	link_gone(l);
}

static const struct sim_peer_events link_events = {
	.on_accept = on_link_accept,
	.on_data = on_link_data,
	.on_eof = on_link_eof,
	.on_error = on_link_error,
};

void px_agents_start(struct px *px)
{
	for (unsigned i = 0; i < px->n_agents; i++) {
		struct px_agent *a = &px->agents[i];

		/* Some come late. */
		if ((px->faults & PX_BAD_AGENTS) && sim_chance(px->w, 100)) {
			a->n_closed++;
			sim_after(px->w, sim_below(px->w, 500 * SIM_MS),
				  on_revive, a);
		} else {
			on_revive(a);
		}
	}
}

void px_agents_end(struct px *px)
{
	for (unsigned i = 0; i < px->n_agents; i++) {
		while (px->agents[i].links) {
			struct px_link *l = px->agents[i].links;

			px->agents[i].links = l->next;
			px_buf_free(&l->in);
			free(l);
		}
	}
}

