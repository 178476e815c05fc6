/* Which lines match an event, and what they make of the answer. */
#include "lines.h"

/* ---- conditions --------------------------------------------------------- */

static bool glob(struct slice pattern, struct slice s)
{
	const char *star;
	size_t front;

	star = pattern.n ? memchr(pattern.p, '*', pattern.n) : NULL;
	if (!star)
		return slice_eq(pattern, s);
	front = (size_t)(star - pattern.p);
	if (!slice_has_prefix(s, slice_of(pattern.p, front)))
		return false;
	pattern = slice_of(star + 1, pattern.n - front - 1);
	s = slice_of(s.p + front, s.n - front);
	if (!pattern.n)
		return true;
	for (;; s.p++, s.n--) {
		if (glob(pattern, s))
			return true;
		if (!s.n)
			return false;
	}
}

static bool is_head(const struct wire_agent_event *e)
{
	return e->ev.type == EVENT_REQUEST_HEAD ||
	       e->ev.type == EVENT_RESPONSE_HEAD;
}

static bool is_chunk(const struct wire_agent_event *e)
{
	return e->ev.type == EVENT_REQUEST_CHUNK ||
	       e->ev.type == EVENT_RESPONSE_CHUNK;
}

static bool has_header(const struct wire_agent_event *e, const struct cond *c)
{
	const struct event_head *h = &e->ev.head;

	for (unsigned i = 0; is_head(e) && i < h->n_fields; i++)
		if (slice_eq_icase(field_name(&h->fields[i]), c->name) &&
		    glob(c->pattern, field_value(&h->fields[i])))
			return true;
	return false;
}

static unsigned status_of(const struct wire_agent_event *e)
{
	return e->ev.type == EVENT_RESPONSE_HEAD ? e->ev.head.status
	     : e->ev.type == EVENT_COMPLETE	 ? e->ev.complete.status : 0;
}

/* All but the counting ones. */
static bool cond_holds(const struct cond *c, const struct wire_agent_event *e,
		       const struct seen *x, unsigned link)
{
	switch (c->kind) {
	case COND_PATH:
		return x && glob(c->pattern, x->uri);
	case COND_METHOD:
		return x && glob(c->pattern, x->method);
	case COND_HEADER:
		return has_header(e, c);
	case COND_MATCH:
		return is_chunk(e) && memmem(e->data.p, e->data.n,
					     c->pattern.p, c->pattern.n);
	case COND_INDEX:
		return is_chunk(e) && (c->plus ? e->ev.chunk.index >= c->number
				       : e->ev.chunk.index == c->number);
	case COND_LAST:
		return is_chunk(e) && e->ev.chunk.is_last == (c->number != 0);
	case COND_STATUS:
		return status_of(e) == c->number;
	case COND_LINK:
		return link == c->number;
	case COND_NTH:
	case COND_EVERY:
	case COND_N:
		break;
	}
	return true;
}

static bool line_matches(struct script_line *l,
			 const struct wire_agent_event *e,
			 const struct seen *x, unsigned link)
{
	if (!(l->events & 1u << e->ev.type))
		return false;
	for (unsigned i = 0; i < l->n_conds; i++)
		if (!cond_holds(&l->conds[i], e, x, link))
			return false;
	l->count++;
	for (unsigned i = 0; i < l->n_conds; i++) {
		const struct cond *c = &l->conds[i];

		if (c->kind == COND_NTH && (c->plus ? l->count < c->number
						    : l->count != c->number))
			return false;
		if (c->kind == COND_EVERY && l->count % c->number)
			return false;
	}
	return true;
}

/* ---- actions ------------------------------------------------------------ */

static void add_pair(struct name_value *to, unsigned *n, struct slice value)
{
	const char *colon = memchr(value.p, ':', value.n);
	size_t front = colon ? (size_t)(colon - value.p) : value.n;

	if (*n < ANSWER_OPS)
		to[(*n)++] = (struct name_value){ slice_of(value.p, front),
			colon ? slice_of(colon + 1, value.n - front - 1)
			      : SLICE_NONE };
}

static void add_text(struct slice *to, unsigned *n, struct slice text)
{
	if (*n < ANSWER_OPS)
		to[(*n)++] = text;
}

static void act_reply(struct answer *a, const struct action *act)
{
	struct decision *d = &a->d;

	d->kind = act->kind;
	d->status = (uint16_t)act->number;
	for (unsigned i = 0; i < act->n_pairs; i++) {
		if (is(act->pairs[i].name, "body"))
			d->body = act->pairs[i].value;
		else if (is(act->pairs[i].name, "header"))
			add_pair(a->headers, &d->n_headers,
				 act->pairs[i].value);
	}
}

static void act_op(struct answer *a, const struct action *act,
		   enum header_op_kind kind)
{
	struct header_op op = { kind, act->args[1], act->args[2] };
	bool request = is(act->args[0], "request");
	unsigned *n = request ? &a->d.n_request_ops : &a->d.n_response_ops;

	if (*n < ANSWER_OPS)
		(request ? a->request_ops : a->response_ops)[(*n)++] = op;
}

static void act_audit(struct answer *a, const struct action *act)
{
	struct audit *audit = &a->d.audit;

	for (unsigned i = 0; i < act->n_pairs; i++) {
		struct slice name = act->pairs[i].name,
			     value = act->pairs[i].value;

		if (is(name, "tag"))
			add_text(a->tags, &audit->n_tags, value);
		else if (is(name, "rule"))
			add_text(a->rules, &audit->n_rules, value);
		else if (is(name, "reason"))
			add_text(a->reasons, &audit->n_reasons, value);
		else if (is(name, "confidence"))
			audit->has_confidence = true;
	}
	audit->confidence = act->fraction;
}

/* What a chunk becomes; NULL: no memory. */
static char *changed(const struct action *act, struct slice data,
		     struct arena *scratch, size_t *n)
{
	size_t cap = data.n, o = 0;
	char *out;

	if (act->row->act == ACT_FILL)
		cap = act->number;
	else if (act->row->act == ACT_REPLACE_EACH)
		cap = (data.n / act->args[0].n + 1) * act->args[1].n + data.n;
	out = arena_alloc(scratch, cap + 1);
	if (!out)
		return NULL;
	if (act->row->act == ACT_FILL)
		memset(out, 'x', o = cap);
	for (size_t i = 0; act->row->act != ACT_FILL && i < data.n;) {
		struct slice rest = slice_of(data.p + i, data.n - i);

		if (act->row->act == ACT_REPLACE_EACH &&
		    slice_has_prefix(rest, act->args[0])) {
			memcpy(out + o, act->args[1].p, act->args[1].n);
			o += act->args[1].n;
			i += act->args[0].n;
			continue;
		}
		out[o] = data.p[i++];
		if (act->row->act == ACT_UPCASE && out[o] >= 'a' &&
		    out[o] <= 'z')
			out[o] = (char)(out[o] - 32);
		o++;
	}
	*n = o;
	return out;
}

static bool act_mutate(struct answer *a, const struct action *act,
		       const struct wire_agent_event *e, struct arena *scratch)
{
	struct body_mutation *m = e->ev.type == EVENT_REQUEST_CHUNK
					  ? &a->d.request_body
					  : &a->d.response_body;
	size_t n = 0;
	char *out;

	if (!is_chunk(e))
		return true;
	m->present = true;
	m->chunk_index = e->ev.chunk.index;
	m->data = SLICE_NONE;
	if (act->row->act == ACT_DROP)
		return true;
	m->data = act->args[0];
	if (act->row->act == ACT_REPLACE)
		return true;
	out = changed(act, slice_of(e->data.p, e->data.n), scratch, &n);
	m->data = slice_of(out, n);
	return out;
}

static bool apply(struct answer *a, const struct action *act,
		  const struct wire_agent_event *e, struct arena *scratch,
		  bool *decided)
{
	struct decision *d = &a->d;
	bool first = !*decided;

	a->faults |= act->row->fault;
	switch (act->row->act) {
	case ACT_REPLY:
		*decided = true;
		if (first)
			act_reply(a, act);
		break;
	case ACT_REDIRECT:
		*decided = true;
		if (first) {
			d->kind = DECISION_REDIRECT;
			d->url = act->args[0];
			d->status = (uint16_t)act->number;
		}
		break;
	case ACT_CHALLENGE:
		*decided = true;
		if (first) {
			d->kind = DECISION_CHALLENGE;
			d->challenge_type = act->args[0];
			d->n_params = act->n_pairs;
			memcpy(a->params, act->pairs, sizeof(act->pairs));
		}
		break;
	case ACT_NEEDS_MORE:
		d->needs_more = true;
		break;
	case ACT_ROUTE:
		d->upstream = act->n_pairs ? act->pairs[0].value : SLICE_NONE;
		break;
	case ACT_SET:
		act_op(a, act, HEADER_SET);
		break;
	case ACT_ADD:
		act_op(a, act, HEADER_ADD);
		break;
	case ACT_REMOVE:
		act_op(a, act, HEADER_REMOVE);
		break;
	case ACT_AUDIT:
		act_audit(a, act);
		break;
	case ACT_REPLACE:
	case ACT_DROP:
	case ACT_UPCASE:
	case ACT_REPLACE_EACH:
	case ACT_FILL:
		return act_mutate(a, act, e, scratch);
	case ACT_DELAY:
		a->delay_ms += (unsigned)act->number;
		break;
	case ACT_LATE:
		a->late_ms = (unsigned)act->number;
		break;
	case ACT_REORDER:
		a->reorder = (unsigned)act->number;
		break;
	case ACT_DRIP:
		a->drip_bytes = (unsigned)act->number;
		a->drip_ms = (unsigned)act->per;
		break;
	case ACT_LENGTH:
		a->length = (uint32_t)act->number;
		break;
	case ACT_TYPE:
		a->type = (uint8_t)act->number;
		break;
	case ACT_FAULT:
		break;
	}
	return true;
}

bool script_answer(struct script *s, const struct wire_agent_event *e,
		   const struct seen *x, unsigned link, struct arena *scratch,
		   struct answer *a)
{
	struct decision *d = &a->d;
	bool decided = false;

	memset(a, 0, offsetof(struct answer, request_ops));
	d->id_kind = DECISION_ID_PRESENT;
	d->id = e->correlation_id;
	d->request_ops = a->request_ops;
	d->response_ops = a->response_ops;
	d->headers = a->headers;
	d->params = a->params;
	d->audit.tags = a->tags;
	d->audit.rules = a->rules;
	d->audit.reasons = a->reasons;
	for (unsigned i = 0; i < s->n_lines; i++) {
		struct script_line *l = &s->lines[i];

		if (!line_matches(l, e, x, link))
			continue;
		for (unsigned k = 0; k < l->n_acts; k++)
			if (!apply(a, &l->acts[k], e, scratch, &decided))
				return false;
	}
	return true;
}
