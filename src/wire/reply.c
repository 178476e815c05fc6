/*
 * Replies into decisions (protocol page 6): what each key means and what it
 * may hold, for both encodings. The token readers are decode_json.c and
 * decode_msgpack.c.
 */
#include <math.h>

#include "wire/base64.h"
#include "wire/check.h"
#include "wire/codec.h"
#include "wire/reply.h"
#include "wire/utf8.h"
#include "wire/values.h"

#define OPS_MAX		256u
#define PAIRS_MAX	64u
#define TAGS_MAX	64u
#define TAG_BYTES	256u	/* of each text in the log, */
#define AUDIT_BYTES	4096u	/* and of all of them */
#define PARAM_BYTES	4096u	/* of a parameter that is no string */

struct walk {
	struct values v;
	struct decision *d;
	bool raw_body;
	size_t audit_left;
};

static bool is(struct slice s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

/* ---- header ops ------------------------------------------------------------- */

enum { OP_NAME, OP_VALUE, OP_N };
static const struct slice op_names[OP_N] = {
	{ "name", 4 }, { "value", 5 },
};

static bool op_kind_of(struct slice word, enum header_op_kind *kind)
{
	if (is(word, "set"))
		*kind = HEADER_SET;
	else if (is(word, "add"))
		*kind = HEADER_ADD;
	else if (is(word, "remove"))
		*kind = HEADER_REMOVE;
	else
		return false;
	return true;
}

static void keep_op(struct walk *w, struct header_op op, bool request)
{
	struct decision *d = w->d;
	struct header_op *to;

	if (!check_field_name(op.name) || !check_field_value(&op.value)) {
		values_fault(&w->v, "a header edit has an illegal name or "
				    "value");
		return;
	}
	if (request && op.kind != HEADER_SET &&
	    slice_eq_icase(op.name, SLICE("host"))) {
		values_fault(&w->v, "host can only be set");
		return;
	}
	if (check_field_owned(op.name)) {
		d->n_ops_dropped++;
		return;
	}
	to = request ? values_grow(&w->v, &d->request_ops, &d->n_request_ops,
				   OPS_MAX, sizeof(*to))
		     : values_grow(&w->v, &d->response_ops,
				   &d->n_response_ops, OPS_MAX, sizeof(*to));
	if (to)
		*to = op;
}

/* The value under "set", "add", "remove". */
static bool read_op_fields(struct walk *w, struct header_op *op)
{
	unsigned fields = op->kind == HEADER_REMOVE ? 1 : OP_N;
	struct reader_members m;
	bool named = false;
	int i;

	if (!values_struct(&w->v, false, &m, op_names, fields))
		return false;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == OP_NAME)
			named = values_str(&w->v, &op->name);
		else
			(void)values_str_or_nil(&w->v, &op->value);
	}
	if (!named)
		values_fault(&w->v, "a header edit has no name");
	return named;
}

enum { FLAT_OPERATION, FLAT_NAME, FLAT_VALUE, FLAT_N };
static const struct slice flat_names[FLAT_N] = {
	{ "operation", 9 }, { "name", 4 }, { "value", 5 },
};

static int find_flat(struct slice key)
{
	for (int i = 0; i < FLAT_N; i++)
		if (slice_eq(key, flat_names[i]))
			return i;
	return -1;
}

/*
 * {"operation":"set","name":...,"value":...}: the Go SDK's form. The first key
 * has been read.
 */
static bool read_flat_op(struct walk *w, struct reader_iter *it,
			 struct slice key, struct header_op *op)
{
	struct slice operation = SLICE_NONE;
	struct reader_keys keys;
	bool named = false;

	keys.n = 0;
	do {
		if (!reader_keys_add(&w->v.r, &keys, key))
			return false;
		switch (find_flat(key)) {
		case FLAT_OPERATION:
			(void)values_str(&w->v, &operation);
			break;
		case FLAT_NAME:
			named = values_str(&w->v, &op->name);
			break;
		case FLAT_VALUE:
			(void)values_str_or_nil(&w->v, &op->value);
			break;
		default:
			reader_skip(&w->v.r);
		}
	} while (reader_more(&w->v.r, it) && reader_key(&w->v.r, &key));
	if (!named || !op_kind_of(operation, &op->kind)) {
		values_fault(&w->v, "an unknown header edit");
		return false;
	}
	return true;
}

static void read_op(struct walk *w, bool request)
{
	struct header_op op = { HEADER_SET, SLICE_NONE, SLICE_NONE };
	struct reader *r = &w->v.r;
	struct reader_iter it;
	struct slice key;
	bool good;

	if (!values_list(&w->v, false, true, &it))
		return;
	if (!reader_more(r, &it)) {
		values_fault(&w->v, "an empty header edit");
		return;
	}
	if (!reader_key(r, &key))
		return;
	if (op_kind_of(key, &op.kind)) {
		good = read_op_fields(w, &op);
		if (reader_more(r, &it)) {
			(void)reader_fail(r, "a header edit with two keys");
			return;
		}
	} else if (r->json) {
		good = read_flat_op(w, &it, key, &op);
	} else {
		(void)reader_fail(r, "an unknown header edit");
		return;
	}
	if (good && !r->bad)
		keep_op(w, op, request);
}

static void read_ops(struct walk *w, bool request)
{
	struct reader_iter it;

	if (!values_list(&w->v, true, false, &it))
		return;
	while (reader_more(&w->v.r, &it))
		read_op(w, request);
}

/* ---- string pairs ------------------------------------------------------------ */

/* A param that is no string, as its JSON text. */
static bool read_as_text(struct walk *w, enum token token, struct slice *out)
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

static void read_params(struct walk *w)
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
		to = values_grow(&w->v, &d->params, &d->n_params, PAIRS_MAX,
				 sizeof(*to));
		if (!to)
			return;
		*to = pair;
	}
}

static void read_block_headers(struct walk *w)
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
		to = values_grow(&w->v, &d->headers, &d->n_headers, PAIRS_MAX,
				 sizeof(*to));
		if (!to)
			return;
		*to = pair;
	}
}

static void read_routing(struct walk *w)
{
	struct reader_iter it;
	struct reader_keys keys;
	struct slice key, value;

	keys.n = 0;
	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		if (!reader_key(&w->v.r, &key) ||
		    !reader_keys_add(&w->v.r, &keys, key))
			return;
		if (values_str(&w->v, &value) && is(key, "upstream"))
			w->d->upstream = value;
	}
}

/* ---- the decision ------------------------------------------------------------ */

enum { BLOCK_STATUS, BLOCK_BODY, BLOCK_HEADERS, BLOCK_N };
static const struct slice block_names[BLOCK_N] = {
	{ "status", 6 }, { "body", 4 }, { "headers", 7 },
};

static void read_block(struct walk *w)
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

static void read_redirect(struct walk *w)
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

static void read_challenge(struct walk *w)
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

static void read_allow(struct walk *w)
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
	if (is(word, "allow"))
		*kind = DECISION_ALLOW;
	else if (is(word, "block"))
		*kind = DECISION_BLOCK;
	else if (is(word, "redirect"))
		*kind = DECISION_REDIRECT;
	else if (is(word, "challenge"))
		*kind = DECISION_CHALLENGE;
	else
		return false;
	return true;
}

/* A refusal that was read is never forgotten, whatever else comes. */
static bool note_kind(struct walk *w, struct slice word,
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

static void read_variant(struct walk *w, struct slice word)
{
	enum decision_kind kind;

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

static void read_decision(struct walk *w)
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

/* ---- audit ------------------------------------------------------------------- */

static void read_texts(struct walk *w, struct slice **texts, unsigned *n)
{
	struct reader_iter it;
	struct slice s, *to;

	if (!values_list(&w->v, true, false, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		if (!values_str(&w->v, &s))
			continue;
		s.n = utf8_cut(s, min_size(TAG_BYTES, w->audit_left));
		w->audit_left -= s.n;
		to = values_grow(&w->v, texts, n, TAGS_MAX, sizeof(*to));
		if (!to)
			return;
		*to = s;
	}
}

static void read_confidence(struct walk *w)
{
	struct reader *r = &w->v.r;
	enum token token = reader_next(r);
	double c;

	if (token == TOKEN_NIL)
		return;
	if (token != TOKEN_INT && token != TOKEN_FLOAT) {
		values_wrong_type(&w->v, token);
		return;
	}
	c = token == TOKEN_FLOAT ? r->real
				 : (r->negative ? -1 : 1) * (double)r->num;
	if (isnan(c)) {
		values_fault(&w->v, "a confidence that is no number");
		return;
	}
	w->d->audit.has_confidence = true;
	w->d->audit.confidence = c < 0 ? 0 : c > 1 ? 1 : c;
}

static void read_custom(struct walk *w)
{
	struct decision *d = w->d;
	struct reader_iter it;
	struct reader_keys keys;
	struct slice key;
	enum token token;

	keys.n = 0;
	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		if (!reader_key(&w->v.r, &key) ||
		    !reader_keys_add(&w->v.r, &keys, key))
			return;
		token = reader_next(&w->v.r);
		if (!is(key, "correlation_id")) {
			reader_finish(&w->v.r, token, NULL);
			continue;
		}
		d->id_kind = DECISION_ID_EMPTY;
		if (!values_is_str(&w->v, token)) {
			values_wrong_type(&w->v, token);
			continue;
		}
		d->id = w->v.r.str;
		if (d->id.n)
			d->id_kind = DECISION_ID_PRESENT;
	}
}

enum { AUDIT_TAGS, AUDIT_RULES, AUDIT_CONFIDENCE, AUDIT_REASONS, AUDIT_CUSTOM,
       AUDIT_N };
static const struct slice audit_names[AUDIT_N] = {
	{ "tags", 4 }, { "rule_ids", 8 }, { "confidence", 10 },
	{ "reason_codes", 12 }, { "custom", 6 },
};

static void read_audit(struct walk *w)
{
	struct audit *a = &w->d->audit;
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, true, &m, audit_names, AUDIT_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		switch (i) {
		case AUDIT_TAGS:
			read_texts(w, &a->tags, &a->n_tags);
			break;
		case AUDIT_RULES:
			read_texts(w, &a->rules, &a->n_rules);
			break;
		case AUDIT_CONFIDENCE:
			read_confidence(w);
			break;
		case AUDIT_REASONS:
			read_texts(w, &a->reasons, &a->n_reasons);
			break;
		case AUDIT_CUSTOM:
			read_custom(w);
			break;
		}
	}
}

/* ---- mutations --------------------------------------------------------------- */

enum { MUTATION_DATA, MUTATION_INDEX, MUTATION_N };
static const struct slice mutation_names[MUTATION_N] = {
	{ "data", 4 }, { "chunk_index", 11 },
};

static void read_mutation_data(struct walk *w, struct body_mutation *to)
{
	enum token token = reader_next(&w->v.r);
	struct slice s = w->v.r.str;
	size_t size;
	/* The buffer is ours to change. */
	char *in_place = (char *)(uintptr_t)s.p;

	if (token == TOKEN_NIL)
		return;
	if (token != TOKEN_BIN && token != TOKEN_STR) {
		values_wrong_type(&w->v, token);
		return;
	}
	to->present = true;
	to->data = s;
	if (token == TOKEN_BIN && w->raw_body)
		return;
	if (!base64_decode(in_place, s.p, s.n, &size))
		values_fault(&w->v, "a mutation is no base64");
	else
		to->data.n = size;
}

static void read_mutation(struct walk *w, struct body_mutation *to)
{
	struct reader_members m;
	uint64_t index = 0;
	int i;

	if (!values_struct(&w->v, true, &m, mutation_names, MUTATION_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == MUTATION_DATA)
			read_mutation_data(w, to);
		else
			(void)values_uint_or_nil(&w->v, UINT32_MAX, &index);
	}
	to->chunk_index = (uint32_t)index;
}

/* ---- WebSocket: checked for form only, no event of ours asks for it ---------- */

enum { CLOSE_CODE, CLOSE_REASON, CLOSE_N };
static const struct slice close_names[CLOSE_N] = {
	{ "code", 4 }, { "reason", 6 },
};

static void read_close(struct walk *w)
{
	struct reader_members m;
	struct slice reason;
	uint64_t code;
	int i;

	if (!values_struct(&w->v, false, &m, close_names, CLOSE_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == CLOSE_CODE)
			(void)values_uint(&w->v, UINT16_MAX, &code);
		else
			(void)values_str_or_nil(&w->v, &reason);
	}
}

static void read_websocket(struct walk *w)
{
	struct reader *r = &w->v.r;
	enum token token = reader_next(r);
	struct reader_iter it;
	struct slice key;

	if (token == TOKEN_NIL)
		return;
	if (values_is_str(&w->v, token)) {
		if (!is(r->str, "allow") && !is(r->str, "drop"))
			values_fault(&w->v, "an unknown WebSocket decision");
		return;
	}
	if (token != TOKEN_MAP) {
		values_wrong_type(&w->v, token);
		return;
	}
	if (!reader_enter(r, &it, true) || !reader_more(r, &it) ||
	    !reader_key(r, &key) || !is(key, "close")) {
		(void)reader_fail(r, "an unknown WebSocket decision");
		return;
	}
	read_close(w);
	if (reader_more(r, &it))
		(void)reader_fail(r, "a WebSocket decision with two keys");
}

/* ---- the reply --------------------------------------------------------------- */

enum { REPLY_VERSION, REPLY_DECISION, REPLY_REQUEST_OPS, REPLY_RESPONSE_OPS,
       REPLY_ROUTING, REPLY_AUDIT, REPLY_NEEDS_MORE, REPLY_REQUEST_BODY,
       REPLY_RESPONSE_BODY, REPLY_WEBSOCKET, REPLY_N };
static const struct slice reply_names[REPLY_N] = {
	{ "version", 7 }, { "decision", 8 }, { "request_headers", 15 },
	{ "response_headers", 16 }, { "routing_metadata", 16 },
	{ "audit", 5 }, { "needs_more", 10 }, { "request_body_mutation", 21 },
	{ "response_body_mutation", 22 }, { "websocket_decision", 18 },
};

static void read_member(struct walk *w, int member)
{
	struct decision *d = w->d;
	uint64_t version;

	switch (member) {
	case REPLY_VERSION:
		(void)values_uint_or_nil(&w->v, UINT32_MAX, &version);
		break;
	case REPLY_DECISION:
		read_decision(w);
		break;
	case REPLY_REQUEST_OPS:
		read_ops(w, true);
		break;
	case REPLY_RESPONSE_OPS:
		read_ops(w, false);
		break;
	case REPLY_ROUTING:
		read_routing(w);
		break;
	case REPLY_AUDIT:
		read_audit(w);
		break;
	case REPLY_NEEDS_MORE:
		(void)values_bool_or_nil(&w->v, &d->needs_more);
		break;
	case REPLY_REQUEST_BODY:
		read_mutation(w, &d->request_body);
		break;
	case REPLY_RESPONSE_BODY:
		read_mutation(w, &d->response_body);
		break;
	case REPLY_WEBSOCKET:
		read_websocket(w);
		break;
	}
}

static void read_reply(struct walk *w)
{
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, reply_names, REPLY_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0)
		read_member(w, i);
	if (reader_at_end(&w->v.r) && !(m.seen & 1u << REPLY_DECISION))
		values_fault(&w->v, "no decision");
}

/* Nothing that was only half checked is left to be applied. */
static void forget_details(struct decision *d, const char *why)
{
	struct decision keep = *d;

	memset(d, 0, sizeof(*d));
	d->kind = keep.kind;
	d->needs_more = keep.needs_more;
	d->audit = keep.audit;
	d->id_kind = keep.id_kind;
	d->id = keep.id;
	d->fault_text = why;
}

enum decision_fault wire_decode_reply(char *buf, size_t len,
				      const struct wire_format *f,
				      const struct wire_expect *expect,
				      struct arena *scratch,
				      struct decision *out)
{
	bool brace = len && *buf == '{';
	bool json = brace || f->encoding == WIRE_JSON;
	struct walk w;

	memset(out, 0, sizeof(*out));
	if (LIKELY(json == brace &&
		   reply_is_plain_allow(buf, len, &out->id))) {
		out->id_kind = DECISION_ID_PRESENT;
		return DECISION_OK;
	}
	values_init(&w.v, buf, len, json, scratch);
	w.d = out;
	w.raw_body = f->raw_body && !json;
	w.audit_left = AUDIT_BYTES;
	read_reply(&w);
	if (w.v.r.bad)
		values_fault(&w.v, w.v.r.bad);
	if (w.v.no_memory) {
		forget_details(out, "out of memory");
		return DECISION_NO_MEMORY;
	}
	if (!w.v.fault && expect &&
	    wire_check_reply(out, expect) != DECISION_OK)
		values_fault(&w.v, "a mutation that fits not the event");
	if (!w.v.fault)
		return DECISION_OK;
	forget_details(out, w.v.fault);
	return out->kind == DECISION_ALLOW ? DECISION_BAD : DECISION_REFUSED;
}
