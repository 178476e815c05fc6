#include "wire/codec.h"

static bool dup_slice(struct slice *to, struct slice from, struct arena *a)
{
	*to = SLICE_NONE;
	if (!from.n)
		return true;
	*to = arena_dup(a, from);
	return to->p;
}

static bool dup_array(void *to, const void *from, size_t bytes,
		      struct arena *a)
{
	void **slot = to;

	*slot = NULL;
	if (!bytes)
		return true;
	*slot = arena_alloc(a, bytes);
	if (*slot)
		memcpy(*slot, from, bytes);
	return *slot;
}

static bool dup_pairs(struct name_value **to, const struct name_value *from,
		      unsigned n, struct arena *a)
{
	if (!dup_array(to, from, n * sizeof(*from), a))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!dup_slice(&(*to)[i].name, from[i].name, a) ||
		    !dup_slice(&(*to)[i].value, from[i].value, a))
			return false;
	return true;
}

static bool dup_ops(struct header_op **to, const struct header_op *from,
		    unsigned n, struct arena *a)
{
	if (!dup_array(to, from, n * sizeof(*from), a))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!dup_slice(&(*to)[i].name, from[i].name, a) ||
		    !dup_slice(&(*to)[i].value, from[i].value, a))
			return false;
	return true;
}

static bool dup_texts(struct slice **to, const struct slice *from, unsigned n,
		      struct arena *a)
{
	if (!dup_array(to, from, n * sizeof(*from), a))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!dup_slice(&(*to)[i], from[i], a))
			return false;
	return true;
}

bool decision_dup(struct decision *to, const struct decision *from,
		  struct arena *a)
{
	const struct audit *audit = &from->audit;

	*to = *from;
	to->request_body = to->response_body = (struct body_mutation){ 0 };
	return dup_slice(&to->body, from->body, a) &&
	       dup_slice(&to->url, from->url, a) &&
	       dup_slice(&to->challenge_type, from->challenge_type, a) &&
	       dup_slice(&to->upstream, from->upstream, a) &&
	       dup_slice(&to->id, from->id, a) &&
	       dup_pairs(&to->headers, from->headers, from->n_headers, a) &&
	       dup_pairs(&to->params, from->params, from->n_params, a) &&
	       dup_ops(&to->request_ops, from->request_ops,
		       from->n_request_ops, a) &&
	       dup_ops(&to->response_ops, from->response_ops,
		       from->n_response_ops, a) &&
	       dup_texts(&to->audit.tags, audit->tags, audit->n_tags, a) &&
	       dup_texts(&to->audit.rules, audit->rules, audit->n_rules, a) &&
	       dup_texts(&to->audit.reasons, audit->reasons, audit->n_reasons,
			 a);
}

static bool fits(const struct body_mutation *m, enum event_type wanted,
		 const struct wire_expect *expect)
{
	return !m->present || (expect->type == wanted &&
			       expect->chunk_index == m->chunk_index);
}

enum decision_fault wire_check_reply(const struct decision *d,
				     const struct wire_expect *expect)
{
	if (fits(&d->request_body, EVENT_REQUEST_CHUNK, expect) &&
	    fits(&d->response_body, EVENT_RESPONSE_CHUNK, expect))
		return DECISION_OK;
	return DECISION_BAD;
}
