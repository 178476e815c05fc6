/*
 * Replies into decisions (protocol page 6): what each key means and what it
 * may hold, for both encodings. The token readers are decode_json.c and
 * decode_msgpack.c.
 */
#include <math.h>

#include "wire/base64.h"
#include "wire/codec.h"
#include "wire/reply.h"
#include "wire/utf8.h"

#define TAGS_MAX	64u
#define TAG_BYTES	256u	/* of each text in the log, */
#define AUDIT_BYTES	4096u	/* and of all of them */

/* ---- routing ------------------------------------------------------------ */

static void read_routing(struct reply_walk *w)
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
		if (values_str(&w->v, &value) && reply_is(key, "upstream"))
			w->d->upstream = value;
	}
}

/* ---- audit -------------------------------------------------------------- */

static void read_texts(struct reply_walk *w, struct slice **texts, unsigned *n)
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

static void read_confidence(struct reply_walk *w)
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

static void read_custom(struct reply_walk *w)
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
		/* The others have it elsewhere, or not at all. */
		if (w->dialect != WIRE_V2 ||
		    !reply_is(key, "correlation_id")) {
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

static void read_audit(struct reply_walk *w)
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

/* ---- mutations ---------------------------------------------------------- */

enum { MUTATION_DATA, MUTATION_INDEX, MUTATION_N };
static const struct slice mutation_names[MUTATION_N] = {
	{ "data", 4 }, { "chunk_index", 11 },
};

static void read_mutation_data(struct reply_walk *w, struct body_mutation *to)
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

static void read_mutation(struct reply_walk *w, struct body_mutation *to)
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

/* ---- WebSocket: checked for form only, no event of ours asks for it ----- */

enum { CLOSE_CODE, CLOSE_REASON, CLOSE_N };
static const struct slice close_names[CLOSE_N] = {
	{ "code", 4 }, { "reason", 6 },
};

static void read_close(struct reply_walk *w)
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

static void read_websocket(struct reply_walk *w)
{
	struct reader *r = &w->v.r;
	enum token token = reader_next(r);
	struct reader_iter it;
	struct slice key;

	if (token == TOKEN_NIL)
		return;
	if (values_is_str(&w->v, token)) {
		if (!reply_is(r->str, "allow") && !reply_is(r->str, "drop"))
			values_fault(&w->v, "an unknown WebSocket decision");
		return;
	}
	if (token != TOKEN_MAP) {
		values_wrong_type(&w->v, token);
		return;
	}
	if (!reader_enter(r, &it, true) || !reader_more(r, &it) ||
	    !reader_key(r, &key) || !reply_is(key, "close")) {
		(void)reader_fail(r, "an unknown WebSocket decision");
		return;
	}
	read_close(w);
	if (reader_more(r, &it))
		(void)reader_fail(r, "a WebSocket decision with two keys");
}

/* ---- the reply ---------------------------------------------------------- */

enum { REPLY_VERSION, REPLY_DECISION, REPLY_REQUEST_OPS, REPLY_RESPONSE_OPS,
       REPLY_ROUTING, REPLY_AUDIT, REPLY_NEEDS_MORE, REPLY_REQUEST_BODY,
       REPLY_RESPONSE_BODY, REPLY_WEBSOCKET, REPLY_N,
       /* go-v2 and v1 only. */
       REPLY_GO_ID = REPLY_N, REPLY_SUCCESS, REPLY_ERROR, REPLY_ALL_N };
static const struct slice reply_names[REPLY_ALL_N] = {
	{ "version", 7 }, { "decision", 8 }, { "request_headers", 15 },
	{ "response_headers", 16 }, { "routing_metadata", 16 },
	{ "audit", 5 }, { "needs_more", 10 }, { "request_body_mutation", 21 },
	{ "response_body_mutation", 22 }, { "websocket_decision", 18 },
	{ "request_id", 10 }, { "success", 7 }, { "error", 5 },
};

/* What a v1 agent says instead of a decision (protocol page 6.8). */
struct ack {
	bool success;
	struct slice error;
};

static void read_go_id(struct reply_walk *w)
{
	struct decision *d = w->d;

	if (values_uint(&w->v, INT64_MAX, &d->go_id))
		d->id_kind = d->go_id ? DECISION_ID_PRESENT
				      : DECISION_ID_EMPTY;
}

static void read_member(struct reply_walk *w, int member, struct ack *ack)
{
	struct decision *d = w->d;
	uint64_t version;

	switch (member) {
	case REPLY_VERSION:
		(void)values_uint_or_nil(&w->v, UINT32_MAX, &version);
		break;
	case REPLY_DECISION:
		reply_read_decision(w);
		break;
	case REPLY_REQUEST_OPS:
		reply_read_ops(w, true);
		break;
	case REPLY_RESPONSE_OPS:
		reply_read_ops(w, false);
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
	case REPLY_GO_ID:
		if (w->dialect == WIRE_GO)
			read_go_id(w);
		else
			reader_skip(&w->v.r);
		break;
	case REPLY_SUCCESS:
		(void)values_bool_or_nil(&w->v, &ack->success);
		break;
	case REPLY_ERROR:
		(void)values_str_or_nil(&w->v, &ack->error);
		break;
	}
}

static void take_ack(struct reply_walk *w, const struct ack *ack)
{
	struct decision *d = w->d;

	d->ack = true;
	if (ack->success)
		return;
	d->kind = DECISION_BLOCK;
	d->status = 500;
	d->body = ack->error;
}

static void read_reply(struct reply_walk *w)
{
	unsigned fields = w->dialect == WIRE_V2 ? REPLY_N : REPLY_ALL_N;
	struct ack ack = { false, SLICE_NONE };
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, reply_names, fields))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0)
		read_member(w, i, &ack);
	if (!reader_at_end(&w->v.r) || (m.seen & 1u << REPLY_DECISION))
		return;
	if (w->dialect == WIRE_V1 && (m.seen & 1u << REPLY_SUCCESS))
		take_ack(w, &ack);
	else
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
	d->go_id = keep.go_id;
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
	struct reply_walk w;

	memset(out, 0, sizeof(*out));
	if (LIKELY(json == brace && f->dialect == WIRE_V2 &&
		   reply_is_plain_allow(buf, len, &out->id))) {
		out->id_kind = DECISION_ID_PRESENT;
		return DECISION_OK;
	}
	values_init(&w.v, buf, len, json, scratch);
	w.d = out;
	w.raw_body = f->raw_body && !json;
	w.dialect = f->dialect;
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
