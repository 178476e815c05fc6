/*
 * Scripted agents: they speak the protocol's agent side, answer what the dice
 * say, and misbehave as their temper is. What they said about an exchange is
 * noted in it at the moment in which the answer goes out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "px_client.h"

/* max_reply_bytes, its default: what is longer may be refused. */
#define REPLY_MAX	(1u << 20)

struct px_link {
	struct px_link *next;
	struct px_agent *agent;
	struct sim_peer *peer;
	struct px_buf in;
	struct wire_format format;
	bool shook, dead;
	uint64_t free_at;	/* when it has answered all before */
	unsigned held;		/* jobs that were not answered yet */
};

enum job_kind { JOB_HANDSHAKE, JOB_PONG, JOB_REPLY };

/* How a reply goes wrong. */
enum slip { SLIP_NONE, SLIP_WRONG_ID, SLIP_EMPTY_ID, SLIP_TWICE, SLIP_JUNK,
	    SLIP_DIE, SLIP_BROKEN, SLIPS };

enum change { KEEP, FLIP, GROW, SHORT, DROP };

/* An answer on its way. */
struct job {
	struct px_link *link;
	enum job_kind kind;
	enum slip slip;
	uint8_t type;			/* enum event_type */
	struct px_exchange *x;
	unsigned part;
	char id[EVENT_ID_LEN];
	char ping[256];
	size_t ping_n;
	/* the decision */
	enum decision_kind verdict;
	bool more, edits, last;
	enum change change;
	uint32_t index;
	size_t bytes;			/* of the chunk */
	bool msgpack;			/* handshake */
};

/* ---- bytes out ------------------------------------------------------------------- */

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

static void link_send(struct px_link *l, const char *p, size_t n)
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

static void link_send_queue(struct px_link *l, struct outq *q)
{
	struct px_buf flat = { 0 };

	for (const struct oseg *s = q->first; s; s = s->next)
		px_buf_put(&flat, s->p, s->n);
	outq_clear(q);
	link_send(l, flat.p, flat.n);
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

static void link_close(struct px_link *l)
{
	if (l->dead)
		return;
	l->agent->n_closed++;
	if (sim_chance(l->agent->px->w, 300))
		sim_peer_reset(l->peer);
	else
		sim_peer_close(l->peer);
	link_gone(l);
}

/* ---- the process comes and goes ------------------------------------------------------ */

static const struct sim_peer_events link_events;

static void on_revive(void *arg)
{
	struct px_agent *a = arg;

	if (a->up)
		return;
	a->up = true;
	sim_listen(a->px->w, a->address, &link_events, a);
}

static void agent_dies(struct px_agent *a)
{
	if (!a->up)
		return;
	sim_trace(a->px->w, "agent %s dies", a->name);
	a->up = false;
	a->n_closed++;
	sim_unlisten(a->px->w, a->address);
	for (struct px_link *l = a->links; l; l = l->next)
		link_close(l);
	sim_after(a->px->w, sim_below(a->px->w, 300 * SIM_MS), on_revive, a);
}

/* ---- what counts --------------------------------------------------------------------- */

static bool is_chunk(uint8_t type)
{
	return type == EVENT_REQUEST_CHUNK || type == EVENT_RESPONSE_CHUNK;
}

/* Is there more to come that the answer can wait for? */
static bool is_provisional(const struct job *j)
{
	unsigned dir = j->type == EVENT_RESPONSE_HEAD;

	if (!j->more)
		return false;
	if (is_chunk(j->type))
		return !j->last;
	return (dir ? px_answer_has_body(j->x) : px_has_body(j->x)) &&
	       px_route_of(j->x)->asked[j->part].mode[dir];
}

static void judge_head(struct job *j, bool counts)
{
	struct px *px = j->x->px;
	struct px_part *p = &j->x->parts[j->part];
	struct px_verdict *v = &p->head[j->type == EVENT_RESPONSE_HEAD];

	v->answered_us = sim_now(px->w);
	v->broken = j->slip == SLIP_BROKEN && j->verdict != DECISION_ALLOW;
	if (!counts)
		return;
	v->answered = true;
	v->more = is_provisional(j);
	v->refused = j->verdict != DECISION_ALLOW && !v->more;
	v->edits = j->edits;
}

/* What the agent makes of the chunk stands in st->out. */
static void put_change(struct job *j, struct px_stage *st)
{
	const char *p = st->in.p + st->in_done;
	char text[40];

	switch (j->change) {
	case KEEP:
		px_buf_put(&st->out, p, j->bytes);
		return;
	case FLIP:
		for (size_t i = 0; i < j->bytes; i++) {
			char c = (char)(p[i] ^ (0x11 << j->part));

			px_buf_put(&st->out, &c, 1);
		}
		return;
	case GROW:
		snprintf(text, sizeof(text), "[%u.%u.%u]", j->x->n, j->part,
			 j->index);
		px_buf_put(&st->out, text, strlen(text));
		px_buf_put(&st->out, p, j->bytes);
		return;
	case SHORT:
		snprintf(text, sizeof(text), "<%u.%u.%u>", j->x->n, j->part,
			 j->index);
		px_buf_put(&st->out, text, strlen(text));
		return;
	case DROP:
		return;
	}
}

/* Notes it, and points *data at what replaces the chunk. */
static void judge_chunk(struct job *j, bool counts, struct slice *data)
{
	struct px_part *p = &j->x->parts[j->part];
	unsigned dir = j->type == EVENT_RESPONSE_CHUNK;
	struct px_stage *st = &p->body[dir];
	size_t at = st->out.n;

	st->answered_us = sim_now(j->x->px->w);
	if (j->verdict != DECISION_ALLOW && !is_provisional(j)) {
		st->refused = counts;
		st->refused_at = j->index;
		return;
	}
	put_change(j, st);
	*data = slice_of(st->out.p + at, st->out.n - at);
	if (!counts) {
		/* It never counted; what it would have been is past the end. */
		st->out.n = at;
		return;
	}
	st->asking = false;
	st->in_before = st->in_done;
	st->out_before = at;
	st->in_done += j->bytes;
	st->n_answered++;
	st->enough |= !j->more || j->last;
	st->done = j->last;
}

/* ---- replies -------------------------------------------------------------------------- */

struct reply {
	struct decision d;
	struct header_op ops[3];
	struct name_value headers[2];
	struct slice tag;
	char name[32], value[64], op_name[32];
};

static void fill_edits(struct job *j, struct reply *r)
{
	bool response = j->type == EVENT_RESPONSE_HEAD;

	if (!j->edits || j->type == EVENT_COMPLETE)
		return;
	snprintf(r->op_name, sizeof(r->op_name), "X-Sim-%c%u",
		 response ? 'S' : 'E', j->part);
	r->ops[0] = (struct header_op){ HEADER_SET, slice_str(r->op_name),
					slice_str(r->value) };
	/* The proxy's own: dropped. */
	r->ops[1] = (struct header_op){ HEADER_SET, SLICE("Content-Length"),
					SLICE("7") };
	r->ops[2] = (struct header_op){ HEADER_REMOVE, SLICE("X-Sim-Gone"),
					SLICE_NONE };
	if (response) {
		r->d.response_ops = r->ops;
		r->d.n_response_ops = 3;
		return;
	}
	r->d.request_ops = r->ops;
	r->d.n_request_ops = 3;
	/* On both sides. */
	r->d.response_ops = r->ops;
	r->d.n_response_ops = 1;
}

static void fill_refusal(struct job *j, struct reply *r)
{
	struct decision *d = &r->d;

	switch (j->verdict) {
	case DECISION_ALLOW:
		return;
	case DECISION_BLOCK:
		d->status = (uint16_t)(j->slip == SLIP_BROKEN ? 99 :
				       403 + j->x->n % 7);
		d->body = slice_str(r->value);
		r->headers[0] = (struct name_value){
			SLICE("X-Sim-Block"), slice_str(r->value) };
		d->headers = r->headers;
		d->n_headers = 1;
		return;
	case DECISION_REDIRECT:
		d->status = j->slip == SLIP_BROKEN ? 200 : 307;
		d->url = slice_str(r->value);
		break;
	case DECISION_CHALLENGE:
		d->challenge_type = j->slip == SLIP_BROKEN ? SLICE_NONE :
							     SLICE("sim");
		break;
	}
	if (is_provisional(j))
		return;
	r->ops[0] = (struct header_op){ HEADER_SET, SLICE("X-Sim-Block"),
					slice_str(r->value) };
	d->response_ops = r->ops;
	d->n_response_ops = 1;
	d->n_request_ops = 0;
}

static void fill_id(struct job *j, struct decision *d, char id[33])
{
	struct px *px = j->link->agent->px;

	memcpy(id, j->id, EVENT_ID_LEN);
	d->id_kind = DECISION_ID_PRESENT;
	d->id = slice_of(id, EVENT_ID_LEN);
	if (j->slip == SLIP_EMPTY_ID) {
		d->id_kind = DECISION_ID_EMPTY;
		d->id = SLICE_NONE;
	} else if (j->slip == SLIP_WRONG_ID) {
		for (unsigned i = 0; i < EVENT_ID_LEN; i++)
			id[i] = "0123456789abcdef"[sim_below(px->w, 16)];
	} else if (j->link->agent->temper.no_ids) {
		d->id_kind = DECISION_ID_MISSING;
		d->id = SLICE_NONE;
	}
}

static void fill_reply(struct job *j, struct reply *r, bool counts)
{
	struct body_mutation *m = j->type == EVENT_REQUEST_CHUNK ?
		&r->d.request_body : &r->d.response_body;

	r->d.kind = j->verdict;
	r->d.needs_more = j->more;
	snprintf(r->value, sizeof(r->value), "%u.%u.%u.%u", j->x->n, j->part,
		 j->type, j->index);
	r->tag = slice_str(r->value);
	r->d.audit.tags = &r->tag;
	r->d.audit.n_tags = 1;
	fill_edits(j, r);
	fill_refusal(j, r);
	if (j->slip == SLIP_BROKEN && j->verdict == DECISION_ALLOW) {
		r->ops[0] = (struct header_op){ HEADER_SET, SLICE("bad name"),
						SLICE("x") };
		r->d.request_ops = r->ops;
		r->d.n_request_ops = 1;
	}
	if (is_chunk(j->type)) {
		judge_chunk(j, counts, &m->data);
		m->present = j->change != KEEP &&
			     j->verdict == DECISION_ALLOW;
		m->chunk_index = j->index;
	} else if (j->type != EVENT_COMPLETE) {
		judge_head(j, counts);
	}
}

static void send_junk(struct px_link *l)
{
	static const char reply[] = "\0\0\0\x05\x20{\"a\"";
	static const char type[] = "\0\0\0\x02\x99x";
	static const char empty[] = "\0\0\0\0";
	static const char huge[] = "\x7f\xff\xff\xff\x20";

	switch (sim_below(l->agent->px->w, 4)) {
	case 0:
		link_send(l, reply, sizeof(reply) - 1);
		return;
	case 1:
		link_send(l, type, sizeof(type) - 1);
		return;
	case 2:
		link_send(l, empty, sizeof(empty) - 1);
		return;
	default:
		link_send(l, huge, sizeof(huge) - 1);
	}
}

static void send_reply(struct job *j, bool counts)
{
	struct px_link *l = j->link;
	struct reply r;
	char id[33];
	struct outq q;
	bool ok;

	memset(&r, 0, sizeof(r));
	fill_reply(j, &r, counts);
	fill_id(j, &r.d, id);
	outq_init(&q, &l->agent->px->pool);
	ok = wire_agent_encode_reply(&q, &l->format, &r.d);
	if (ok && j->slip == SLIP_TWICE)
		ok = wire_agent_encode_reply(&q, &l->format, &r.d);
	ASSERT(ok);
	if (q.bytes > REPLY_MAX)
		l->agent->n_bad++;
	link_send_queue(l, &q);
}

static void do_reply(struct job *j)
{
	struct px_agent *a = j->link->agent;

	switch (j->slip) {
	case SLIP_NONE:
		send_reply(j, true);
		return;
	case SLIP_TWICE:
		a->n_bad++;
		j->x->parts[j->part].doubled |= j->type != EVENT_COMPLETE;
		send_reply(j, true);
		return;
	case SLIP_WRONG_ID:
	case SLIP_BROKEN:
		a->n_bad++;
		send_reply(j, false);
		return;
	case SLIP_EMPTY_ID:
		a->n_empty++;
		if (j->x)
			j->x->parts[j->part].empty_id = true;
		send_reply(j, false);
		return;
	case SLIP_JUNK:
		a->n_bad++;
		send_junk(j->link);
		return;
	case SLIP_DIE:
		if (sim_chance(a->px->w, 300)) {
			agent_dies(a);
			return;
		}
		link_send(j->link, "\0\0\0\x40\x20\x9a", 6);
		link_close(j->link);
		return;
	case SLIPS:
		break;
	}
}

static void do_handshake(struct job *j)
{
	struct px_link *l = j->link;
	struct px_agent *a = l->agent;
	struct outq q;
	bool ok;

	if (a->temper.junk && sim_chance(a->px->w, 50)) {
		a->n_bad++;
		send_junk(l);
		return;
	}
	l->format.encoding = j->msgpack ? WIRE_MSGPACK : WIRE_JSON;
	l->format.shape = a->shape;
	l->format.raw_body = a->raw_body && j->msgpack;
	l->format.pseudo_headers = a->pseudo;
	l->shook = true;
	outq_init(&q, &a->px->pool);
	ok = wire_agent_encode_handshake(&q, a->name, "1", l->format.encoding);
	ASSERT(ok);
	link_send_queue(l, &q);
}

static void on_job(void *arg)
{
	struct job *j = arg;

	j->link->held--;
	if (j->link->dead) {
		free(j);
		return;
	}
	switch (j->kind) {
	case JOB_HANDSHAKE:
		do_handshake(j);
		break;
	case JOB_PONG:
		link_send(j->link, j->ping, j->ping_n);
		break;
	case JOB_REPLY:
		do_reply(j);
		break;
	}
	free(j);
}

/* Serial servers answer in order; others when they are ready. */
static void job_start(struct job *j, uint64_t delay_us)
{
	struct px_link *l = j->link;
	struct px *px = l->agent->px;
	uint64_t now = sim_now(px->w), at = now + delay_us;

	if ((!l->agent->temper.unordered || j->kind != JOB_REPLY) &&
	    at < l->free_at)
		at = l->free_at;
	/* Of one exchange all come in order: ids do not tell its events
	 * apart. */
	if (j->x) {
		uint64_t *free_at = &j->x->parts[j->part].free_at;

		if (at < *free_at)
			at = *free_at;
		*free_at = at;
	}
	if (at > l->free_at)
		l->free_at = at;
	l->held++;
	sim_trace(px->w, "agent %s answers on %u in %llu", l->agent->name,
		  l->peer->id, (unsigned long long)(at - now));
	sim_after(px->w, at - now, on_job, j);
}

/* ---- deciding -------------------------------------------------------------------------- */

static void decide_slip(struct px_agent *a, struct job *j)
{
	const struct px_temper *t = &a->temper;
	const unsigned weights[SLIPS] = {
		[SLIP_WRONG_ID] = t->no_ids ? 0 : t->wrong_id,
		[SLIP_EMPTY_ID] = t->no_ids ? 0 : t->empty_id,
		[SLIP_TWICE] = t->twice, [SLIP_JUNK] = t->junk,
		[SLIP_DIE] = t->die, [SLIP_BROKEN] = t->broken,
	};

	j->slip = (enum slip)px_draw(a->px, weights, SLIPS);
	if (j->type == EVENT_COMPLETE && j->slip == SLIP_BROKEN)
		j->slip = SLIP_NONE;
}

static void decide_change(struct px_agent *a, struct job *j)
{
	unsigned dir = j->type == EVENT_RESPONSE_CHUNK;

	if (!sim_chance(a->px->w, a->temper.mutate))
		return;
	if (!(a->may_mutate >> dir & 1)) {
		/* Of the same length it needs no permission. */
		j->change = FLIP;
		return;
	}
	j->change = (enum change)(FLIP + sim_below(a->px->w, 4));
}

static void decide(struct px_agent *a, struct job *j)
{
	const struct px_temper *t = &a->temper;
	struct px *px = a->px;

	decide_slip(a, j);
	if (j->type == EVENT_COMPLETE)
		return;
	if (sim_chance(px->w, t->refuse))
		j->verdict = (enum decision_kind)(DECISION_BLOCK +
			(sim_chance(px->w, 700) ? 0 : 1 + sim_below(px->w, 2)));
	j->more = j->slip != SLIP_BROKEN && sim_chance(px->w, t->more);
	j->edits = !is_chunk(j->type) && j->verdict == DECISION_ALLOW &&
		   sim_chance(px->w, t->edit);
	if (is_chunk(j->type) && j->verdict == DECISION_ALLOW)
		decide_change(a, j);
}

/* False: it is never answered. */
static bool decide_delay(struct px_agent *a, struct job *j, uint64_t *us)
{
	const struct px_temper *t = &a->temper;
	struct px *px = a->px;

	*us = t->think_us ? sim_below(px->w, t->think_us) : 0;
	if (j->type == EVENT_COMPLETE)
		return a->answers_complete;
	if (sim_chance(px->w, t->silent)) {
		a->n_slow++;
		return false;
	}
	if (sim_chance(px->w, t->late)) {
		a->n_slow++;
		*us += sim_below(px->w, t->late_us);
	}
	return true;
}

static void answer(struct px_link *l, struct px_exchange *x, unsigned part,
		   const struct wire_agent_event *e)
{
	struct job *j = calloc(1, sizeof(*j));
	uint64_t delay_us;

	ASSERT(j);
	j->link = l;
	j->kind = JOB_REPLY;
	j->type = (uint8_t)e->ev.type;
	j->x = x;
	j->part = part;
	memcpy(j->id, e->correlation_id.p, EVENT_ID_LEN);
	if (is_chunk(j->type)) {
		j->index = e->ev.chunk.index;
		j->last = e->ev.chunk.is_last;
		j->bytes = e->ev.chunk.bytes;
	}
	decide(l->agent, j);
	if (decide_delay(l->agent, j, &delay_us))
		job_start(j, delay_us);
	else
		free(j);
}

/* ---- what events must be like ------------------------------------------------------------ */

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
		 slice_eq(value, e->meta.client_ip) &&
		 slice_has_prefix(slice_str(x->client->from), value),
		 "an agent saw other fields than it should");
	PX_CHECK(px, x, x->id[0] == 0 ||
		 memcmp(x->id, e->correlation_id.p, EVENT_ID_LEN) == 0,
		 "two correlation ids");
	memcpy(x->id, e->correlation_id.p, EVENT_ID_LEN);
	v->asked = true;
	v->asked_us = sim_now(px->w);
	x->parts[k].link = l;
	l->agent->n_heads++;
	answer(l, x, k, e);
}

/* The exchange of any other event, and the agent's part in it. */
static struct px_exchange *known(struct px_link *l,
				 const struct wire_agent_event *e,
				 unsigned *part)
{
	struct px *px = l->agent->px;
	struct px_exchange *x = px_find_id(px, e->correlation_id.p);

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
	if (!x->answer_begun && px_may_stray(px)) {
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
	answer(l, x, k, e);
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
	PX_CHECK(px, x, x->parts[k].head[dir].answered,
		 "agent %s got a chunk before it judged the head", name);
	PX_CHECK(px, x, !st->asking && !st->in_last && !st->refused,
		 "agent %s got a chunk too many", name);
	PX_CHECK(px, x, c->index == st->n_asked, "agent %s got chunk %u of %u",
		 name, c->index, st->n_asked);
	PX_CHECK(px, x, mode == PX_BUFFER ? c->index == 0 && c->is_last :
		 c->bytes <= l->agent->chunk_size,
		 "agent %s got a chunk of %zu bytes", name, c->bytes);
	PX_CHECK(px, x, c->bytes_so_far == st->in.n + c->bytes,
		 "agent %s: %llu bytes so far", name,
		 (unsigned long long)c->bytes_so_far);
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
	answer(l, x, k, e);
}

static void take_complete(struct px_link *l, struct wire_agent_event *e)
{
	unsigned k;
	struct px_exchange *x = known(l, e, &k);

	x->parts[k].complete = true;
	l->agent->n_completes++;
	answer(l, x, k, e);
}

/* ---- frames in ------------------------------------------------------------------------------ */

static void take_event(struct px_link *l, uint8_t type, char *p, size_t n)
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

static void take_ping(struct px_link *l, const char *p, size_t n)
{
	struct job *j = calloc(1, sizeof(*j));

	ASSERT(j && n + FRAME_HEAD <= sizeof(j->ping));
	j->link = l;
	j->kind = JOB_PONG;
	frame_write_head(j->ping, FRAME_PONG, n);
	memcpy(j->ping + FRAME_HEAD, p, n);
	j->ping_n = n + FRAME_HEAD;
	job_start(j, 0);
}

static void take_handshake(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px_agent *a = l->agent;
	struct job *j = calloc(1, sizeof(*j));
	bool msgpack, json, ok;

	ASSERT(j);
	ok = type == FRAME_HANDSHAKE &&
	     wire_agent_decode_handshake(slice_of(p, n), &msgpack, &json);
	PX_CHECK(a->px, NULL, ok, "agent %s got a bad handshake", a->name);
	j->link = l;
	j->kind = JOB_HANDSHAKE;
	j->msgpack = a->speaks == WIRE_MSGPACK;
	PX_CHECK(a->px, NULL, j->msgpack ? msgpack : json,
		 "agent %s was not offered its encoding", a->name);
	job_start(j, a->temper.think_us);
}

static void take_frame(struct px_link *l, uint8_t type, char *p, size_t n)
{
	struct px_agent *a = l->agent;

	if (!l->shook) {
		PX_CHECK(a->px, NULL, l->held == 0,
			 "agent %s got a frame inside the handshake", a->name);
		take_handshake(l, type, p, n);
		return;
	}
	if (type == FRAME_PING)
		take_ping(l, p, n);
	else if (type != FRAME_CANCEL)
		take_event(l, type, p, n);
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

		PX_CHECK(l->agent->px, NULL, len >= 1 && len <= FRAME_MAX,
			 "agent %s got a frame of length %zu", l->agent->name,
			 len);
		if (l->in.n - at < 4 + len)
			break;
		at += 4 + len;
		take_frame(l, h[4], (char *)h + FRAME_HEAD, len - 1);
	}
	memmove(l->in.p, l->in.p + at, l->in.n - at);
	l->in.n -= at;
}

static void on_link_accept(struct sim_peer *peer)
{
	struct px_agent *a = peer->ctx;
	struct px_link *l = calloc(1, sizeof(*l));

	ASSERT(l);
	l->agent = a;
	l->peer = peer;
	l->next = a->links;
	a->links = l;
	peer->ctx = l;
	if (a->temper.die && sim_chance(a->px->w, 30))
		link_close(l);
}

static void on_link_eof(struct sim_peer *peer)
{
	struct px_link *l = peer->ctx;
	struct px_agent *a = l->agent;

	if (!l->dead && !a->px->ending)
		a->n_lost_links++;
	link_gone(l);
	sim_peer_close(peer);
}

static void on_link_error(struct sim_peer *peer, int error)
{
	struct px_link *l = peer->ctx;

	if (!l->dead && !l->agent->px->ending)
		l->agent->n_lost_links++;
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
