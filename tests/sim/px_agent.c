/* Scripted agents: what the events must be like that they get. */
#include <stdio.h>
#include <stdlib.h>

#include "px_link.h"

static unsigned part_of(struct px_link *l, const struct px_exchange *x)
{
	const struct px_route *r = px_route_of(x);

	for (unsigned k = 0; k < r->n_asked; k++)
		if (r->asked[k].agent == l->agent->index)
			return k;
	px_fail(x->px, x, "agent %s was asked and is not on the route",
		l->agent->name);
}

static unsigned count_field(const struct event_head *h, const char *name,
			    struct slice *value)
{
	unsigned n = 0;

	*value = SLICE_NONE;
	for (unsigned i = 0; i < h->n_fields; i++) {
		if (!slice_eq_icase(field_name(&h->fields[i]),
				    slice_str(name)))
			continue;
		*value = field_value(&h->fields[i]);
		n++;
	}
	return n;
}

static void take_request_head(struct px_link *l, struct wire_agent_event *e)
{
	struct px *px = l->agent->px;
	const struct event_head *h = &e->ev.head;
	struct px_exchange *x = px_find(px, h->uri);
	struct px_verdict *v;
	struct slice value;
	unsigned k;
	char *id;

	PX_CHECK(px, NULL, x, "agent %s was asked about %.*s", l->agent->name,
		 SLICE_FMT(h->uri));
	PX_CHECK(px, x, x->kind == PX_GOOD || x->kind == PX_BAD_CHUNKS,
		 "an agent was asked about a bad request");
	PX_CHECK(px, x, x->begun && slice_eq(h->method, slice_str(x->method)),
		 "an agent was asked about %.*s", SLICE_FMT(h->method));
	k = part_of(l, x);
	v = &x->parts[k].head[PX_REQUEST];
	PX_CHECK(px, x, !v->asked, "agent %s was asked twice about a head",
		 l->agent->name);
	for (unsigned i = 0; i < px->n_agents; i++) {
		char name[32];

		snprintf(name, sizeof(name), "x-sim-owned-%u", i);
		PX_CHECK(px, x, count_field(h, name, &value) == 0,
			 "a client's %s reached an agent", name);
	}
	PX_CHECK(px, x, count_field(h, "x-sim-hop", &value) == 0 &&
		 count_field(h, "connection", &value) == 0 &&
		 count_field(h, "transfer-encoding", &value) == 0,
		 "an agent saw hop-by-hop fields");
	PX_CHECK(px, x, count_field(h, "host", &value) == 1 &&
		 count_field(h, "x-forwarded-for", &value) == 1 &&
		 (slice_eq(value, e->meta.client_ip) ||
		  l->format.dialect == WIRE_GO) &&
		 slice_has_prefix(slice_str(x->client->from), value),
		 "an agent saw other fields than it should");
	id = l->format.dialect == WIRE_GO ? x->go_id : x->id;
	PX_CHECK(px, x, id[0] == 0 ||
		 memcmp(id, e->correlation_id.p, EVENT_ID_LEN) == 0,
		 "two correlation ids");
	PX_CHECK(px, x, id[0] ||
		 !px_find_id(px, e->correlation_id.p,
			     l->format.dialect == WIRE_GO),
		 "another exchange's correlation id");
	memcpy(id, e->correlation_id.p, EVENT_ID_LEN);
	v->asked = true;
	v->asked_us = sim_now(px->w);
	x->parts[k].link = l;
	l->agent->n_heads++;
	px_answer(l, x, k, e);
}

/* The exchange of any other event, and the agent's part in it. */
static struct px_exchange *known(struct px_link *l,
				 const struct wire_agent_event *e,
				 unsigned *part)
{
	struct px *px = l->agent->px;
	bool go = l->format.dialect == WIRE_GO;
	struct px_exchange *x = px_find_id(px, e->correlation_id.p, go);

	PX_CHECK(px, NULL, x, "agent %s got an event of no exchange",
		 l->agent->name);
	*part = part_of(l, x);
	PX_CHECK(px, x, x->parts[*part].link == l,
		 "agent %s got an event on another link", l->agent->name);
	PX_CHECK(px, x, !x->parts[*part].complete,
		 "agent %s got an event after complete", l->agent->name);
	return x;
}

static void take_response_head(struct px_link *l, struct wire_agent_event *e)
{
	struct px *px = l->agent->px;
	unsigned k;
	struct px_exchange *x = known(l, e, &k);
	struct px_verdict *v = &x->parts[k].head[PX_RESPONSE];

	PX_CHECK(px, x, px_route_of(x)->asked[k].response_head,
		 "agent %s was asked about a response", l->agent->name);
	PX_CHECK(px, x, !v->asked, "agent %s was asked twice",
		 l->agent->name);
	/* The upstream has said more than it was asked for? */
	if ((!x->answer_begun || e->ev.head.status != x->answer.status) &&
	    px_may_stray(px)) {
		x->strayed = true;
		for (unsigned i = 0; i < PX_PARTS; i++)
			x->parts[i].doubled = true;
	}
	PX_CHECK(px, x, x->strayed || (x->answer_begun &&
		 e->ev.head.status == x->answer.status),
		 "agent %s was asked about status %u", l->agent->name,
		 e->ev.head.status);
	v->asked = true;
	v->asked_us = sim_now(px->w);
	px_answer(l, x, k, e);
}

static size_t largest_chunk(const struct px_agent *a)
{
	unsigned says = a->dialect == WIRE_V2 ? a->says_chunk : 0;

	if (!says)
		return a->chunk_size;
	return says < 1024 ? 1024 : min_size(says, a->chunk_size);
}

/* Is this chunk the next one that may come? */
static void check_chunk(struct px_link *l, struct px_exchange *x, unsigned k,
			unsigned dir, const struct event_chunk *c)
{
	const struct px_stage *st = &x->parts[k].body[dir];
	const struct px_asked *a = &px_route_of(x)->asked[k];
	enum px_mode mode = a->mode[dir];
	const char *name = l->agent->name;
	struct px *px = x->px;

	PX_CHECK(px, x, mode != PX_NONE, "agent %s got a chunk", name);
	PX_CHECK(px, x, c->index == st->n_asked && !st->in_last &&
		 (l->format.dialect == WIRE_GO ||
		  c->bytes_so_far == st->in.n + c->bytes),
		 "agent %s got chunk %u of %u, %llu of %zu bytes so far",
		 name, c->index, st->n_asked,
		 (unsigned long long)c->bytes_so_far, st->in.n + c->bytes);
	if (a->observe)
		return;
	PX_CHECK(px, x, x->parts[k].head[dir].answered,
		 "agent %s got a chunk before it judged the head", name);
	PX_CHECK(px, x, !st->asking && !st->refused,
		 "agent %s got a chunk too many", name);
	PX_CHECK(px, x, mode == PX_BUFFER ? c->index == 0 && c->is_last :
		 c->bytes <= largest_chunk(l->agent),
		 "agent %s got a chunk of %zu bytes", name, c->bytes);
	if (mode != PX_STREAM)
		PX_CHECK(px, x, st->in.n + c->bytes <= a->max_body,
			 "agent %s got more than max_body", name);
}

static void take_chunk(struct px_link *l, struct wire_agent_event *e)
{
	struct px *px = l->agent->px;
	unsigned k, dir = e->ev.type == EVENT_RESPONSE_CHUNK;
	struct px_exchange *x = known(l, e, &k);
	struct px_stage *st = &x->parts[k].body[dir];
	const struct event_chunk *c = &e->ev.chunk;

	if (!x->parts[k].doubled)
		check_chunk(l, x, k, dir, c);
	px_buf_put(&st->in, e->data.p, e->data.n);
	st->n_asked++;
	st->in_last = c->is_last;
	st->asking = true;
	st->asked_us = sim_now(px->w);
	px_answer(l, x, k, e);
}

static void take_complete(struct px_link *l, struct wire_agent_event *e)
{
	unsigned k;
	struct px_exchange *x;

	/* go-v2 has one message for this and for a cancel. */
	if (l->format.dialect == WIRE_GO &&
	    !slice_eq(e->ev.complete.error, SLICE("complete")))
		return;
	x = known(l, e, &k);
	x->parts[k].complete = true;
	l->agent->n_completes++;
	px_answer(l, x, k, e);
}

/* Does it get more at a time than it says that it takes? Each worker has its
 * part, and at least one; completes that nobody waits for may come on top. */
static void check_owed(struct px_agent *a, enum event_type type)
{
	unsigned parts = a->px->n_workers, most = a->says_events / parts;

	if (type == EVENT_COMPLETE)
		return;
	a->owes++;
	if (!a->says_events || a->dialect == WIRE_V1 || !a->px->calm ||
	    a->n_lost_links || a->n_closed ||
	    (a->px->faults & (PX_RELOADS | PX_BAD_AGENTS)))
		return;
	PX_CHECK(a->px, NULL, a->owes <= parts * (most ? most : 1),
		 "agent %s owes %u answers and takes %u", a->name, a->owes,
		 a->says_events);
}

void px_take_event(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px *px = l->agent->px;
	struct wire_agent_event e;
	struct arena scratch;
	bool ok;

	arena_init(&scratch, &px->arenas);
	ok = wire_agent_decode_event(type, p, n, &l->format, &scratch, &e);
	PX_CHECK(px, NULL, ok && e.correlation_id.n == EVENT_ID_LEN,
		 "agent %s cannot read an event of type %u", l->agent->name,
		 type);
	check_owed(l->agent, e.ev.type);
	switch (e.ev.type) {
	case EVENT_REQUEST_HEAD:
		take_request_head(l, &e);
		break;
	case EVENT_RESPONSE_HEAD:
		take_response_head(l, &e);
		break;
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		take_chunk(l, &e);
		break;
	case EVENT_COMPLETE:
		take_complete(l, &e);
		break;
	case EVENT_CONFIGURE:
	case EVENT_N:
		px_fail(px, NULL, "agent %s got a configure", l->agent->name);
	}
	arena_fini(&scratch);
}

