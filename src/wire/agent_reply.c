/* The agent's side: replies as an agent writes them: all ten keys, as the
 * reference crate does. */
#include "wire/base64.h"
#include "wire/codec.h"
#include "wire/put.h"

#define FIXED_MAX	1024u
#define ELEMENT_MAX	64u	/* keys and brackets of one list element */

/* Where the reply goes; one set of calls for all three shapes. */
struct emit {
	char *o;
	bool json, arrays, raw_body;
	bool comma;		/* JSON: something stands before */
	enum wire_dialect dialect;
};

static void emit_comma(struct emit *e)
{
	if (e->json && e->comma)
		e->o = put_byte(e->o, ',');
	e->comma = true;
}

static void emit_str(struct emit *e, struct slice s)
{
	unsigned ignored = 0;

	emit_comma(e);
	e->o = e->json ? put_json_text(e->o, s, &ignored)
		       : put_msgpack_text(e->o, s, &ignored);
}

static void emit_word(struct emit *e, const char *word)
{
	emit_str(e, slice_str(word));
}

static void emit_nil(struct emit *e)
{
	emit_comma(e);
	e->o = e->json ? PUT_LIT(e->o, "null") : put_nil(e->o);
}

static void emit_str_or_nil(struct emit *e, struct slice s)
{
	if (s.n)
		emit_str(e, s);
	else
		emit_nil(e);
}

static void emit_uint(struct emit *e, uint64_t v)
{
	emit_comma(e);
	e->o = e->json ? put_json_uint(e->o, v) : put_msgpack_uint(e->o, v);
}

static void emit_bool(struct emit *e, bool v)
{
	emit_comma(e);
	e->o = e->json ? put_json_bool(e->o, v) : put_msgpack_bool(e->o, v);
}

static void emit_fraction(struct emit *e, double v)
{
	emit_comma(e);
	e->o = e->json ? put_json_double(e->o, v)
		       : put_msgpack_float(e->o, (float)v);
}

static void emit_map(struct emit *e, unsigned n)
{
	emit_comma(e);
	e->o = e->json ? put_byte(e->o, '{') : put_msgpack_map(e->o, n);
	e->comma = false;
}

static void emit_array(struct emit *e, unsigned n)
{
	emit_comma(e);
	e->o = e->json ? put_byte(e->o, '[') : put_msgpack_array(e->o, n);
	e->comma = false;
}

static void emit_close(struct emit *e, char bracket)
{
	if (e->json)
		e->o = put_byte(e->o, (unsigned char)bracket);
	e->comma = true;
}

/* A key of a free-form map. */
static void emit_key(struct emit *e, struct slice key)
{
	emit_str(e, key);
	if (e->json)
		e->o = put_byte(e->o, ':');
	e->comma = false;
}

/* A struct: an array in wire order, or a map. */
static void emit_struct(struct emit *e, unsigned n)
{
	if (e->arrays)
		emit_array(e, n);
	else
		emit_map(e, n);
}

static void emit_struct_end(struct emit *e)
{
	emit_close(e, '}');
}

static void emit_field(struct emit *e, const char *name)
{
	if (!e->arrays)
		emit_key(e, slice_str(name));
}

static void emit_pairs(struct emit *e, const struct name_value *pairs,
		       unsigned n)
{
	emit_map(e, n);
	for (unsigned i = 0; i < n; i++) {
		emit_key(e, pairs[i].name);
		emit_str(e, pairs[i].value);
	}
	emit_close(e, '}');
}

static void emit_decision(struct emit *e, const struct decision *d)
{
	switch (d->kind) {
	case DECISION_ALLOW:
		emit_word(e, "allow");
		return;
	case DECISION_BLOCK:
		emit_map(e, 1);
		emit_key(e, SLICE("block"));
		emit_struct(e, 3);
		emit_field(e, "status");
		emit_uint(e, d->status);
		emit_field(e, "body");
		emit_str_or_nil(e, d->body);
		emit_field(e, "headers");
		if (d->n_headers)
			emit_pairs(e, d->headers, d->n_headers);
		else
			emit_nil(e);
		break;
	case DECISION_REDIRECT:
		emit_map(e, 1);
		emit_key(e, SLICE("redirect"));
		emit_struct(e, 2);
		emit_field(e, "url");
		emit_str(e, d->url);
		emit_field(e, "status");
		emit_uint(e, d->status);
		break;
	case DECISION_CHALLENGE:
		emit_map(e, 1);
		emit_key(e, SLICE("challenge"));
		emit_struct(e, 2);
		emit_field(e, "challenge_type");
		emit_str(e, d->challenge_type);
		emit_field(e, "params");
		emit_pairs(e, d->params, d->n_params);
		break;
	}
	emit_struct_end(e);
	emit_close(e, '}');
}

static void emit_go_op(struct emit *e, const char *name,
		       const struct header_op *op)
{
	emit_map(e, 3);
	emit_field(e, "operation");
	emit_word(e, name);
	emit_field(e, "name");
	emit_str(e, op->name);
	if (op->kind != HEADER_REMOVE) {
		emit_field(e, "value");
		emit_str(e, op->value);
	}
	emit_close(e, '}');
}

static void emit_ops(struct emit *e, const struct header_op *ops, unsigned n)
{
	static const char *const names[] = {
		[HEADER_SET] = "set", [HEADER_ADD] = "add",
		[HEADER_REMOVE] = "remove",
	};

	emit_array(e, n);
	for (unsigned i = 0; i < n; i++) {
		if (e->dialect == WIRE_GO) {
			emit_go_op(e, names[ops[i].kind], &ops[i]);
			continue;
		}
		emit_map(e, 1);
		emit_key(e, slice_str(names[ops[i].kind]));
		emit_struct(e, ops[i].kind == HEADER_REMOVE ? 1 : 2);
		emit_field(e, "name");
		emit_str(e, ops[i].name);
		if (ops[i].kind != HEADER_REMOVE) {
			emit_field(e, "value");
			emit_str(e, ops[i].value);
		}
		emit_struct_end(e);
		emit_close(e, '}');
	}
	emit_close(e, ']');
}

static void emit_texts(struct emit *e, const struct slice *texts, unsigned n)
{
	emit_array(e, n);
	for (unsigned i = 0; i < n; i++)
		emit_str(e, texts[i]);
	emit_close(e, ']');
}

static void emit_audit(struct emit *e, const struct decision *d)
{
	bool id = d->id_kind != DECISION_ID_MISSING && e->dialect == WIRE_V2;
	const struct audit *a = &d->audit;

	emit_struct(e, 5);
	emit_field(e, "tags");
	emit_texts(e, a->tags, a->n_tags);
	emit_field(e, "rule_ids");
	emit_texts(e, a->rules, a->n_rules);
	emit_field(e, "confidence");
	if (a->has_confidence)
		emit_fraction(e, a->confidence);
	else
		emit_nil(e);
	emit_field(e, "reason_codes");
	emit_texts(e, a->reasons, a->n_reasons);
	emit_field(e, "custom");
	emit_map(e, id);
	if (id) {
		emit_key(e, SLICE("correlation_id"));
		emit_str(e, d->id);
	}
	emit_close(e, '}');
	emit_struct_end(e);
}

static void emit_data(struct emit *e, struct slice data)
{
	struct base64 b = { .n_rest = 0 };

	emit_comma(e);
	if (e->raw_body) {
		e->o = put_msgpack_bin_head(e->o, data.n);
		if (data.n)
			e->o = put_bytes(e->o, data.p, data.n);
		return;
	}
	e->o = e->json ? put_byte(e->o, '"')
		       : put_msgpack_str_head(e->o, base64_size(data.n));
	e->o = base64_put(&b, e->o, data.p, data.n);
	e->o = base64_finish(&b, e->o);
	if (e->json)
		e->o = put_byte(e->o, '"');
}

static void emit_mutation(struct emit *e, const struct body_mutation *m)
{
	if (!m->present) {
		emit_nil(e);
		return;
	}
	emit_struct(e, 2);
	emit_field(e, "data");
	emit_data(e, m->data);
	emit_field(e, "chunk_index");
	emit_uint(e, m->chunk_index);
	emit_struct_end(e);
}

static void emit_reply(struct emit *e, const struct decision *d)
{
	struct name_value upstream = { SLICE("upstream"), d->upstream };

	emit_struct(e, 10);
	emit_field(e, "version");
	emit_uint(e, 2);
	emit_field(e, "decision");
	emit_decision(e, d);
	emit_field(e, "request_headers");
	emit_ops(e, d->request_ops, d->n_request_ops);
	emit_field(e, "response_headers");
	emit_ops(e, d->response_ops, d->n_response_ops);
	emit_field(e, "routing_metadata");
	emit_pairs(e, &upstream, d->upstream.n ? 1 : 0);
	emit_field(e, "audit");
	emit_audit(e, d);
	emit_field(e, "needs_more");
	emit_bool(e, d->needs_more);
	emit_field(e, "request_body_mutation");
	emit_mutation(e, &d->request_body);
	emit_field(e, "response_body_mutation");
	emit_mutation(e, &d->response_body);
	emit_field(e, "websocket_decision");
	emit_nil(e);
	emit_struct_end(e);
}

/* What the Go SDK writes; it has no room for the rest. */
static void emit_go_reply(struct emit *e, const struct decision *d)
{
	emit_map(e, 5);
	if (d->id_kind != DECISION_ID_MISSING) {
		emit_field(e, "request_id");
		emit_comma(e);
		e->o = put_json_u64(e->o, d->id_kind == DECISION_ID_PRESENT ?
				    d->go_id : 0);
	}
	emit_field(e, "decision");
	if (d->needs_more && d->kind == DECISION_ALLOW) {
		emit_map(e, 1);
		emit_field(e, "needs_more");
		emit_bool(e, true);
		emit_close(e, '}');
	} else {
		emit_decision(e, d);
	}
	if (d->n_request_ops) {
		emit_field(e, "request_headers");
		emit_ops(e, d->request_ops, d->n_request_ops);
	}
	if (d->n_response_ops) {
		emit_field(e, "response_headers");
		emit_ops(e, d->response_ops, d->n_response_ops);
	}
	emit_field(e, "audit");
	emit_audit(e, d);
	emit_close(e, '}');
}

static size_t pairs_bound(const struct name_value *p, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += ELEMENT_MAX + PUT_JSON_MAX(p[i].name.n + p[i].value.n);
	return sum;
}

static size_t ops_bound(const struct header_op *p, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += ELEMENT_MAX + PUT_JSON_MAX(p[i].name.n + p[i].value.n);
	return sum;
}

static size_t texts_bound(const struct slice *p, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += ELEMENT_MAX + PUT_JSON_MAX(p[i].n);
	return sum;
}

static size_t reply_bound(const struct decision *d)
{
	return FIXED_MAX +
	       PUT_JSON_MAX(d->body.n + d->url.n + d->challenge_type.n +
			    d->upstream.n + d->id.n) +
	       pairs_bound(d->headers, d->n_headers) +
	       pairs_bound(d->params, d->n_params) +
	       ops_bound(d->request_ops, d->n_request_ops) +
	       ops_bound(d->response_ops, d->n_response_ops) +
	       texts_bound(d->audit.tags, d->audit.n_tags) +
	       texts_bound(d->audit.rules, d->audit.n_rules) +
	       texts_bound(d->audit.reasons, d->audit.n_reasons) +
	       base64_size(d->request_body.data.n) +
	       base64_size(d->response_body.data.n);
}

bool wire_agent_encode_reply(struct outq *q, const struct wire_format *f,
			     const struct decision *d)
{
	bool json = f->encoding == WIRE_JSON;
	struct emit e = { .json = json,
			  .arrays = !json && f->shape == WIRE_ARRAY,
			  .raw_body = !json && f->raw_body,
			  .dialect = f->dialect };
	size_t head = f->dialect == WIRE_V1 ? FRAME_V1_HEAD : FRAME_HEAD;
	size_t bound = FRAME_HEAD + reply_bound(d), size;
	char *start = outq_reserve(q, bound);

	if (!start)
		return false;
	e.o = start + head;
	if (f->dialect == WIRE_GO)
		emit_go_reply(&e, d);
	else
		emit_reply(&e, d);
	size = (size_t)(e.o - start);
	ASSERT(size <= bound);
	if (f->dialect == WIRE_V1)
		frame_write_v1_head(start, size - head);
	else
		frame_write_head(start, FRAME_REPLY, size - head);
	return outq_commit(q, size);
}
