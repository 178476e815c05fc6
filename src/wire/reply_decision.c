/* The decision proper (protocol page 6.2). */
#include "wire/check.h"
#include "wire/reply.h"

#define PARAM_BYTES	4096u	/* of a parameter that is no string */

/* ---- string pairs ------------------------------------------------------- */

/* A param that is no string, as its JSON text. */
static bool read_as_text(struct reply_walk *w, enum token token,
			 struct slice *out)
{
	struct reader_text t = { .cap = PARAM_BYTES };

	t.p = arena_alloc(w->v.scratch, PARAM_BYTES);
	if (!t.p) {
		w->v.no_memory = true;
		(void)reader_fail(&w->v.r, "out of memory");
		return false;
	}
	reader_finish(&w->v.r, token, &t);
	if (t.full)
		values_fault(&w->v, "a challenge parameter is too long");
	*out = slice_of(t.p, t.n);
	return !t.full;
}

static void read_params(struct reply_walk *w)
{
	struct decision *d = w->d;
	struct reader_iter it;
	struct reader_keys keys;

	keys.n = 0;
	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		struct name_value pair = { SLICE_NONE, SLICE_NONE }, *to;
		enum token token;

		if (!reader_key(&w->v.r, &pair.name) ||
		    !reader_keys_add(&w->v.r, &keys, pair.name))
			return;
		token = reader_next(&w->v.r);
		if (values_is_str(&w->v, token))
			pair.value = w->v.r.str;
		else if (!read_as_text(w, token, &pair.value))
			continue;
		/* These two become header values. */
		if ((slice_eq_icase(pair.name, SLICE("www-authenticate")) ||
		     slice_eq_icase(pair.name, SLICE("content-type"))) &&
		    !check_field_value(&pair.value))
			values_fault(&w->v, "a challenge header is illegal");
		to = values_grow(&w->v, &d->params, &d->n_params,
				 REPLY_PAIRS_MAX, sizeof(*to));
		if (!to)
			return;
		*to = pair;
	}
}

static void read_block_headers(struct reply_walk *w)
{
	struct decision *d = w->d;
	struct reader_iter it;
	struct reader_keys keys;

	keys.n = 0;
	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		struct name_value pair = { SLICE_NONE, SLICE_NONE }, *to;

		if (!reader_key(&w->v.r, &pair.name) ||
		    !reader_keys_add(&w->v.r, &keys, pair.name))
			return;
		if (!values_str(&w->v, &pair.value))
			continue;
		if (!check_field_name(pair.name) ||
		    !check_field_value(&pair.value)) {
			values_fault(&w->v, "a header of the block is "
					    "illegal");
			continue;
		}
		if (check_field_owned(pair.name)) {
			d->n_ops_dropped++;
			continue;
		}
		to = values_grow(&w->v, &d->headers, &d->n_headers,
				 REPLY_PAIRS_MAX, sizeof(*to));
		if (!to)
			return;
		*to = pair;
	}
}

/* ---- the decision ------------------------------------------------------- */

enum { BLOCK_STATUS, BLOCK_BODY, BLOCK_HEADERS, BLOCK_N };
static const struct slice block_names[BLOCK_N] = {
	{ "status", 6 }, { "body", 4 }, { "headers", 7 },
};

static void read_block(struct reply_walk *w)
{
	struct reader_members m;
	uint64_t status = 0;
	int i;

	if (!values_struct(&w->v, false, &m, block_names, BLOCK_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == BLOCK_STATUS)
			(void)values_uint(&w->v, UINT16_MAX, &status);
		else if (i == BLOCK_BODY)
			(void)values_str_or_nil(&w->v, &w->d->body);
		else
			read_block_headers(w);
	}
	if (status < 200 || status > 599)
		values_fault(&w->v, "a block with an illegal status");
	else
		w->d->status = (uint16_t)status;
}

enum { REDIRECT_URL, REDIRECT_STATUS, REDIRECT_N };
static const struct slice redirect_names[REDIRECT_N] = {
	{ "url", 3 }, { "status", 6 },
};

static void read_redirect(struct reply_walk *w)
{
	struct decision *d = w->d;
	struct reader_members m;
	uint64_t status = 0;
	int i;

	if (!values_struct(&w->v, false, &m, redirect_names, REDIRECT_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == REDIRECT_URL)
			(void)values_str(&w->v, &d->url);
		else
			(void)values_uint(&w->v, UINT16_MAX, &status);
	}
	d->status = (uint16_t)status;
	if ((status < 301 || status > 303) && status != 307 && status != 308)
		values_fault(&w->v, "a redirect with an illegal status");
	if (!check_url(d->url))
		values_fault(&w->v, "a redirect with an illegal url");
}

enum { CHALLENGE_TYPE, CHALLENGE_PARAMS, CHALLENGE_N };
static const struct slice challenge_names[CHALLENGE_N] = {
	{ "challenge_type", 14 }, { "params", 6 },
};

static void read_challenge(struct reply_walk *w)
{
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, challenge_names, CHALLENGE_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == CHALLENGE_TYPE)
			(void)values_str(&w->v, &w->d->challenge_type);
		else
			read_params(w);
	}
	if (!w->d->challenge_type.n)
		values_fault(&w->v, "a challenge without a type");
}

static void read_allow(struct reply_walk *w)
{
	struct reader_members m;
	enum token token = reader_next(&w->v.r);

	if (token == TOKEN_NIL)
		return;
	if (token != TOKEN_MAP && token != TOKEN_ARRAY) {
		values_wrong_type(&w->v, token);
		return;
	}
	reader_members(&w->v.r, &m, NULL, 0, token);
	while (reader_member(&w->v.r, &m) >= 0)
		;
}

static bool kind_of(struct slice word, enum decision_kind *kind)
{
	if (reply_is(word, "allow"))
		*kind = DECISION_ALLOW;
	else if (reply_is(word, "block"))
		*kind = DECISION_BLOCK;
	else if (reply_is(word, "redirect"))
		*kind = DECISION_REDIRECT;
	else if (reply_is(word, "challenge"))
		*kind = DECISION_CHALLENGE;
	else
		return false;
	return true;
}

/* A refusal that was read is never forgotten, whatever else comes. */
static bool note_kind(struct reply_walk *w, struct slice word,
		      enum decision_kind *kind)
{
	if (!kind_of(word, kind)) {
		values_fault(&w->v, "an unknown decision");
		return false;
	}
	if (*kind != DECISION_ALLOW)
		w->d->kind = *kind;
	return true;
}

static void read_variant(struct reply_walk *w, struct slice word)
{
	enum decision_kind kind;

	if (w->dialect == WIRE_GO && reply_is(word, "needs_more")) {
		(void)values_bool_or_nil(&w->v, &w->d->needs_more);
		return;
	}
	if (!note_kind(w, word, &kind)) {
		reader_skip(&w->v.r);
		return;
	}
	switch (kind) {
	case DECISION_ALLOW:
		read_allow(w);
		break;
	case DECISION_BLOCK:
		read_block(w);
		break;
	case DECISION_REDIRECT:
		read_redirect(w);
		break;
	case DECISION_CHALLENGE:
		read_challenge(w);
		break;
	}
}

void reply_read_decision(struct reply_walk *w)
{
	struct reader *r = &w->v.r;
	enum token token = reader_next(r);
	struct reader_iter it;
	enum decision_kind kind;
	struct slice key;

	if (values_is_str(&w->v, token)) {
		if (note_kind(w, r->str, &kind) && kind != DECISION_ALLOW)
			values_fault(&w->v, "a decision without its fields");
		return;
	}
	if (token != TOKEN_MAP) {
		values_wrong_type(&w->v, token);
		return;
	}
	if (!reader_enter(r, &it, true))
		return;
	if (!reader_more(r, &it)) {
		values_fault(&w->v, "an empty decision");
		return;
	}
	if (!reader_key(r, &key))
		return;
	read_variant(w, key);
	while (reader_more(r, &it)) {
		values_fault(&w->v, "a decision with two keys");
		if (!reader_key(r, &key))
			return;
		(void)note_kind(w, key, &kind);
		reader_skip(r);
	}
}
