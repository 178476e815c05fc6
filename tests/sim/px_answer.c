/*
 * Scripted agents: what they answer, and how it goes wrong. What an agent said
 * about an exchange is noted in it at the moment in which the answer goes out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "px_link.h"

/* max_reply_bytes, its default: what is longer may be refused. */
#define REPLY_MAX	(1u << 20)

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
	uint64_t go_id;
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

/* ---- what counts --------------------------------------------------------- */

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

/* ---- replies ------------------------------------------------------------- */

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
	d->go_id = j->go_id;
	if (j->slip == SLIP_EMPTY_ID) {
		d->id_kind = DECISION_ID_EMPTY;
		d->id = SLICE_NONE;
		d->go_id = 0;
	} else if (j->slip == SLIP_WRONG_ID) {
		d->go_id ^= sim_random(px->w) >> 2;
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
		px_link_send(l, reply, sizeof(reply) - 1);
		return;
	case 1:
		px_link_send(l, type, sizeof(type) - 1);
		return;
	case 2:
		px_link_send(l, empty, sizeof(empty) - 1);
		return;
	default:
		px_link_send(l, huge, sizeof(huge) - 1);
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
	if (l->format.dialect == WIRE_V1 && j->type == EVENT_COMPLETE)
		ok = wire_agent_encode_ack(&q, true);
	else
		ok = wire_agent_encode_reply(&q, &l->format, &r.d);
	if (ok && j->slip == SLIP_TWICE)
		ok = wire_agent_encode_reply(&q, &l->format, &r.d);
	ASSERT(ok);
	if (q.bytes > REPLY_MAX)
		l->agent->n_bad++;
	px_link_send_queue(l, &q);
}

static void do_reply(struct job *j)
{
	struct px_agent *a = j->link->agent;

	sim_trace(a->px->w, "agent %s: %s %s %u of %u, slip %u", a->name,
		  event_names[j->type], verdict_names[j->verdict], j->index,
		  j->x->n, j->slip);

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
			px_agent_dies(a);
			return;
		}
		px_link_send(j->link, "\0\0\0\x40\x20\x9a", 6);
		px_link_close(j->link);
		return;
	case SLIPS:
		break;
	}
}

/* A handshake that says how much it takes. */
static bool put_limits(struct outq *q, const struct px_link *l)
{
	const struct px_agent *a = l->agent;
	char text[256], head[FRAME_HEAD];
	int n;

	if (a->dialect == WIRE_GO)
		n = snprintf(text, sizeof(text), "{\"accepted\":true,"
			     "\"protocol_version\":2,\"capabilities\":"
			     "{\"max_concurrent_requests\":%u}}",
			     a->says_events);
	else
		n = snprintf(text, sizeof(text), "{\"success\":true,"
			     "\"protocol_version\":2,\"encoding\":\"%s\","
			     "\"capabilities\":{\"limits\":{"
			     "\"max_concurrency\":%u,"
			     "\"preferred_chunk_size\":%u}}}",
			     l->format.encoding == WIRE_MSGPACK ? "msgpack" :
			     "json", a->says_events, a->says_chunk);
	frame_write_head(head, FRAME_HANDSHAKE_REPLY, (size_t)n);
	return outq_copy(q, head, FRAME_HEAD) && outq_copy(q, text, (size_t)n);
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
	ok = a->says_chunk || a->says_events ? put_limits(&q, l) :
	     a->dialect == WIRE_GO ?
	     wire_agent_encode_go_handshake(&q, a->name) :
	     wire_agent_encode_handshake(&q, a->name, "1",
					 l->format.encoding,
					 WIRE_AGENT_ALL_EVENTS);
	ASSERT(ok);
	px_link_send_queue(l, &q);
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
		px_link_send(j->link, j->ping, j->ping_n);
		break;
	case JOB_REPLY:
		if (j->type != EVENT_COMPLETE)
			j->link->agent->owes--;
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

/* ---- deciding ------------------------------------------------------------ */

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
		return a->answers_complete && a->dialect != WIRE_GO &&
		       !j->link->hung;
	j->x->parts[j->part].doubled |= j->x->parts[j->part].silent;
	if (j->link->hung || sim_chance(px->w, t->silent)) {
		j->x->parts[j->part].silent = true;
		a->n_slow++;
		/* Where order is all there is, one answer less would move all
		 * that follow. */
		j->link->hung = a->dialect == WIRE_V1;
		return false;
	}
	if (sim_chance(px->w, t->late)) {
		a->n_slow++;
		*us += sim_below(px->w, t->late_us);
	}
	return true;
}

void px_answer(struct px_link *l, struct px_exchange *x, unsigned part,
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
	j->go_id = e->meta.go_request_id;
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

void px_answer_ping(struct px_link *l, const char *p, size_t n)
{
	struct job *j = calloc(1, sizeof(*j));

	ASSERT(j && n + FRAME_HEAD <= sizeof(j->ping));
	j->link = l;
	j->kind = JOB_PONG;
	frame_write_head(j->ping, l->format.dialect == WIRE_GO ?
			 FRAME_GO_PONG : FRAME_PONG, n);
	memcpy(j->ping + FRAME_HEAD, p, n);
	j->ping_n = n + FRAME_HEAD;
	job_start(j, 0);
}

/* A go-v2 agent knows the question, or answers it as an event that it cannot
 * read, or not at all. */
void px_answer_question(struct px_link *l, uint8_t type)
{
	static const char allow[] = "{\"request_id\":0,\"decision\":\"allow\"}",
		degraded[] = "{\"state\":\"degraded\",\"timestamp\":\"\"}",
		metrics[] = "{\"requests_total\":7,\"custom\":{\"x\":1.5}}";
	struct px_agent *a = l->agent;
	const char *text = type == FRAME_GO_ASK_HEALTH ? degraded : metrics;
	unsigned how = (unsigned)sim_below(a->px->w, 10);
	struct job *j;

	if (how == 9)
		return;
	j = calloc(1, sizeof(*j));
	ASSERT(j);
	j->link = l;
	j->kind = JOB_PONG;
	/* Only what is serial can be told from the answer to an event. */
	if (how > 6 && !a->temper.unordered && !a->temper.silent) {
		text = allow;
		type = FRAME_REPLY - 1;
	}
	j->ping_n = strlen(text) + FRAME_HEAD;
	frame_write_head(j->ping, type + 1, strlen(text));
	memcpy(j->ping + FRAME_HEAD, text, strlen(text));
	job_start(j, 0);
}

void px_answer_handshake(struct px_link *l, bool msgpack)
{
	struct job *j = calloc(1, sizeof(*j));

	ASSERT(j);
	j->link = l;
	j->kind = JOB_HANDSHAKE;
	j->msgpack = msgpack;
	job_start(j, l->agent->temper.think_us);
}
