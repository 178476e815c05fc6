#include "internal.h"
#include "wire/check.h"

/* As many as proxies take (protocol page 6.1). */
#define OPS_MAX		256u
#define PAIRS_MAX	64u
#define TEXTS_MAX	64u
#define LIST_MIN	4u

void decision_init(struct agentproxy_decision *d, struct arena *scratch,
		   struct slice id)
{
	*d = (struct agentproxy_decision){ .scratch = scratch };
	d->d.id_kind = DECISION_ID_PRESENT;
	d->d.id = id;
}

/* The first fault stands. */
static void fail(struct agentproxy_decision *d, const char *why)
{
	if (!d->failed)
		d->failed = why;
}

EXPORT void agentproxy_fail(struct agentproxy_decision *d, const char *why)
{
	struct slice s = arena_printf(d->scratch, "%s", why ? why : "");

	fail(d, s.p ? s.p : "out of memory");
}

EXPORT void *agentproxy_alloc(struct agentproxy_decision *d, size_t size)
{
	void *p = arena_alloc(d->scratch, size);

	if (!p)
		fail(d, "out of memory");
	return p;
}

static struct slice copy_bytes(struct agentproxy_decision *d, const void *p,
			       size_t n)
{
	struct slice s = arena_dup(d->scratch, slice_of(p, n));

	if (n && !s.p) {
		fail(d, "out of memory");
		return SLICE_NONE;
	}
	return s;
}

static struct slice copy(struct agentproxy_decision *d, const char *text)
{
	return copy_bytes(d, text, text ? strlen(text) : 0);
}

/*
 * Room for one more in a list that grows by doubling, so that its length says
 * when it is full. NULL: it failed.
 */
static void *one_more(struct agentproxy_decision *d, void *list, unsigned *n,
		      unsigned max, size_t size)
{
	void **at = list;
	char *more;

	if (*n == max) {
		fail(d, "too many of something");
		return NULL;
	}
	if (!*n || (*n >= LIST_MIN && !(*n & (*n - 1)))) {
		more = agentproxy_alloc(d, size * (*n ? 2 * *n : LIST_MIN));
		if (!more)
			return NULL;
		if (*n)
			memcpy(more, *at, *n * size);
		*at = more;
	}
	return (char *)*at + (*n)++ * size;
}

/* ---- the four ------------------------------------------------------------- */

EXPORT void agentproxy_allow(struct agentproxy_decision *d)
{
	d->d.kind = DECISION_ALLOW;
	d->d.body = SLICE_NONE;
	d->d.n_headers = d->d.n_params = 0;
}

EXPORT void agentproxy_block(struct agentproxy_decision *d, unsigned status,
			     const char *body)
{
	agentproxy_allow(d);
	d->d.kind = DECISION_BLOCK;
	d->d.status = (uint16_t)status;
	d->d.body = copy(d, body);
	if (status < 200 || status > 599)
		fail(d, "a block's status is not 200 to 599");
}

EXPORT void agentproxy_redirect(struct agentproxy_decision *d, unsigned status,
				const char *url)
{
	agentproxy_allow(d);
	d->d.kind = DECISION_REDIRECT;
	d->d.status = (uint16_t)status;
	d->d.url = copy(d, url);
	if (status != 301 && status != 302 && status != 303 && status != 307 &&
	    status != 308)
		fail(d, "a redirect's status is none of redirects");
	if (!check_url(d->d.url))
		fail(d, "a redirect's URL is empty, too long or illegal");
}

EXPORT void agentproxy_challenge(struct agentproxy_decision *d,
				 const char *type)
{
	agentproxy_allow(d);
	d->d.kind = DECISION_CHALLENGE;
	d->d.challenge_type = copy(d, type);
	if (!d->d.challenge_type.n)
		fail(d, "a challenge without a type");
}

static void add_pair(struct agentproxy_decision *d, struct name_value **list,
		     unsigned *n, const char *name, const char *value)
{
	struct name_value *to = one_more(d, list, n, PAIRS_MAX, sizeof(*to));

	if (to)
		*to = (struct name_value){ copy(d, name), copy(d, value) };
}

EXPORT void agentproxy_block_header(struct agentproxy_decision *d,
				    const char *name, const char *value)
{
	struct slice v = slice_str(value);

	if (!check_field_name(slice_str(name)) || !check_field_value(&v))
		fail(d, "an illegal header of a block");
	else
		add_pair(d, &d->d.headers, &d->d.n_headers, name, value);
}

EXPORT void agentproxy_challenge_param(struct agentproxy_decision *d,
				       const char *name, const char *value)
{
	add_pair(d, &d->d.params, &d->d.n_params, name, value);
}

/* ---- edits ---------------------------------------------------------------- */

static void add_op(struct agentproxy_decision *d, enum header_op_kind kind,
		   enum agentproxy_side side, const char *name,
		   const char *value)
{
	bool request = side == AGENTPROXY_REQUEST;
	struct slice v = slice_str(value);
	struct header_op *op;

	if (!check_field_name(slice_str(name)) || !check_field_value(&v)) {
		fail(d, "an edit with an illegal name or value");
		return;
	}
	op = one_more(d, request ? &d->d.request_ops : &d->d.response_ops,
		      request ? &d->d.n_request_ops : &d->d.n_response_ops,
		      OPS_MAX, sizeof(*op));
	if (op)
		*op = (struct header_op){ kind, copy(d, name),
					  copy(d, value) };
}

EXPORT void agentproxy_set_header(struct agentproxy_decision *d,
				  enum agentproxy_side side, const char *name,
				  const char *value)
{
	add_op(d, HEADER_SET, side, name, value);
}

EXPORT void agentproxy_add_header(struct agentproxy_decision *d,
				  enum agentproxy_side side, const char *name,
				  const char *value)
{
	add_op(d, HEADER_ADD, side, name, value);
}

EXPORT void agentproxy_remove_header(struct agentproxy_decision *d,
				     enum agentproxy_side side,
				     const char *name)
{
	add_op(d, HEADER_REMOVE, side, name, NULL);
}

/* Which side it is, and the chunk's number, link.c knows. */
EXPORT void agentproxy_replace_chunk(struct agentproxy_decision *d,
				     const void *data, size_t size)
{
	d->d.request_body = (struct body_mutation){
		.present = true, .data = copy_bytes(d, data, size) };
}

/* ---- the rest ------------------------------------------------------------- */

EXPORT void agentproxy_needs_more(struct agentproxy_decision *d)
{
	d->d.needs_more = true;
}

EXPORT void agentproxy_choose_upstream(struct agentproxy_decision *d,
				       const char *name)
{
	d->d.upstream = copy(d, name);
}

static void add_text(struct agentproxy_decision *d, struct slice **list,
		     unsigned *n, const char *text)
{
	struct slice *to = one_more(d, list, n, TEXTS_MAX, sizeof(*to));

	if (to)
		*to = copy(d, text);
}

EXPORT void agentproxy_tag(struct agentproxy_decision *d, const char *tag)
{
	add_text(d, &d->d.audit.tags, &d->d.audit.n_tags, tag);
}

EXPORT void agentproxy_rule(struct agentproxy_decision *d, const char *id)
{
	add_text(d, &d->d.audit.rules, &d->d.audit.n_rules, id);
}

EXPORT void agentproxy_reason(struct agentproxy_decision *d, const char *code)
{
	add_text(d, &d->d.audit.reasons, &d->d.audit.n_reasons, code);
}

EXPORT void agentproxy_confidence(struct agentproxy_decision *d,
				  double confidence)
{
	if (!(confidence >= 0 && confidence <= 1)) {
		fail(d, "a confidence that is not 0 to 1");
		return;
	}
	d->d.audit.has_confidence = true;
	d->d.audit.confidence = confidence;
}
