/*
 * What a good reply says, read by a library instead of by us: the decision
 * that our reader made of the same bytes is held against it. Both encodings
 * come as a json_t; structs may be arrays there.
 */
#ifndef TESTS_REPLY_ORACLE_H
#define TESTS_REPLY_ORACLE_H

#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/base64.h"
#include "wire/check.h"
#include "wire/codec.h"

#define MUST(cond)	do { if (!(cond)) abort(); } while (0)

struct oracle_world {
	struct arena_pool arenas;
	struct arena arena, other;
	struct block_pool blocks;
	struct outq q;
};

static inline struct oracle_world *oracle_world(void)
{
	static struct oracle_world w;
	static bool made;

	if (!made) {
		arena_pool_init(&w.arenas);
		arena_init(&w.arena, &w.arenas);
		arena_init(&w.other, &w.arenas);
		block_pool_init(&w.blocks);
		outq_init(&w.q, &w.blocks);
		made = true;
	}
	arena_fini(&w.arena);
	arena_fini(&w.other);
	return &w;
}

/* Field i of a struct; NULL: missing or null. */
static inline json_t *member(json_t *s, const char *name, size_t i)
{
	json_t *v = json_is_array(s) ? json_array_get(s, i)
				     : json_object_get(s, name);

	return json_is_null(v) ? NULL : v;
}

static inline bool same_text(const json_t *v, struct slice s)
{
	if (!v)
		return s.n == 0;
	return json_is_string(v) && json_string_length(v) == s.n &&
	       memcmp(json_string_value(v), s.p, s.n) == 0;
}

static inline void check_ops(json_t *list, const struct header_op *ops,
			     unsigned n, unsigned *dropped)
{
	static const char *const names[] = { "set", "add", "remove" };
	unsigned at = 0;
	json_t *op;
	size_t i;

	json_array_foreach(list, i, op) {
		bool flat = json_object_size(op) != 1;
		void *first = json_object_iter(op);
		const char *kind = flat ? json_string_value(json_object_get(
						  op, "operation"))
					: json_object_iter_key(first);
		json_t *in = flat ? op : json_object_iter_value(first);
		struct slice value;
		json_t *name, *v;

		name = member(in, "name", 0);
		v = member(in, "value", 1);
		MUST(kind && json_is_string(name));
		if (check_field_owned(slice_of(json_string_value(name),
					       json_string_length(name)))) {
			++*dropped;
			continue;
		}
		MUST(at < n && strcmp(names[ops[at].kind], kind) == 0);
		MUST(same_text(name, ops[at].name));
		MUST(check_field_name(ops[at].name));
		if (ops[at].kind != HEADER_REMOVE && json_is_string(v)) {
			value = slice_of(json_string_value(v),
					 json_string_length(v));
			MUST(check_field_value(&value));
			MUST(slice_eq(value, ops[at].value));
		}
		at++;
	}
	MUST(at == n);
}

static inline void check_mutation(json_t *m, const struct body_mutation *got,
				  bool raw)
{
	json_t *data = m ? member(m, "data", 0) : NULL;
	size_t n;
	char *plain;

	MUST(got->present == !!data);
	if (!data || raw)
		return;
	plain = malloc(json_string_length(data) + 1);
	MUST(base64_decode(plain, json_string_value(data),
			   json_string_length(data), &n));
	MUST(n == got->data.n && memcmp(plain, got->data.p, n) == 0);
	MUST((uint32_t)json_number_value(member(m, "chunk_index", 1)) ==
	     got->chunk_index);
	free(plain);
}

static inline void check_block(json_t *in, const struct decision *d,
			       unsigned *dropped)
{
	json_t *headers = member(in, "headers", 2), *value;
	unsigned at = 0;
	const char *key;

	MUST((unsigned)json_number_value(member(in, "status", 0)) ==
	     d->status);
	MUST(d->status >= 200 && d->status <= 599);
	MUST(same_text(member(in, "body", 1), d->body));
	json_object_foreach(headers, key, value) {
		if (check_field_owned(slice_str(key)))
			++*dropped;
		else
			at++;
	}
	MUST(at == d->n_headers);
	for (unsigned i = 0; i < d->n_headers; i++) {
		struct slice v = d->headers[i].value;

		MUST(check_field_name(d->headers[i].name));
		MUST(check_field_value(&v));
		MUST(v.n == d->headers[i].value.n);
	}
}

static inline void check_decision(json_t *v, const struct decision *d,
				  unsigned *dropped)
{
	json_t *in;

	if (d->kind == DECISION_ALLOW) {
		MUST(same_text(v, SLICE("allow")) ||
		     (json_object_size(v) == 1 && json_object_get(v, "allow")));
		return;
	}
	MUST(json_object_size(v) == 1);
	in = json_object_iter_value(json_object_iter(v));
	if (d->kind == DECISION_BLOCK) {
		MUST(json_object_get(v, "block"));
		check_block(in, d, dropped);
	} else if (d->kind == DECISION_REDIRECT) {
		MUST(json_object_get(v, "redirect"));
		MUST(same_text(member(in, "url", 0), d->url));
		MUST(check_url(d->url));
	} else {
		MUST(json_object_get(v, "challenge"));
		MUST(same_text(member(in, "challenge_type", 0),
			       d->challenge_type));
		MUST(json_object_size(member(in, "params", 1)) == d->n_params);
	}
}

static inline void check_id(json_t *audit, const struct decision *d)
{
	json_t *custom = audit ? member(audit, "custom", 4) : NULL;
	json_t *id = json_object_get(custom, "correlation_id");

	MUST((d->id_kind == DECISION_ID_MISSING) == !id);
	if (id)
		MUST(same_text(id, d->id));
	MUST((d->id_kind == DECISION_ID_PRESENT) == (d->id.n != 0));
}

/* d was taken as good; root is what the library read. */
static inline void oracle_check(json_t *root, const struct decision *d,
				bool raw)
{
	unsigned dropped = 0;

	MUST(json_is_object(root) || json_is_array(root));
	check_decision(member(root, "decision", 1), d, &dropped);
	check_ops(member(root, "request_headers", 2), d->request_ops,
		  d->n_request_ops, &dropped);
	check_ops(member(root, "response_headers", 3), d->response_ops,
		  d->n_response_ops, &dropped);
	MUST(dropped == d->n_ops_dropped);
	MUST(same_text(json_object_get(member(root, "routing_metadata", 4),
				       "upstream"), d->upstream));
	check_id(member(root, "audit", 5), d);
	MUST(json_is_true(member(root, "needs_more", 6)) == d->needs_more);
	check_mutation(member(root, "request_body_mutation", 7),
		       &d->request_body, raw);
	check_mutation(member(root, "response_body_mutation", 8),
		       &d->response_body, raw);
}

/* What we write of a good decision we read back as the same. */
static inline void oracle_again(struct oracle_world *w,
				const struct decision *d, unsigned how)
{
	struct wire_format f = { .encoding = how & 1 ? WIRE_JSON : WIRE_MSGPACK,
				 .shape = how & 2 ? WIRE_MAP : WIRE_ARRAY,
				 .raw_body = how & 4 };
	struct decision back;
	char *all, *o;
	size_t n;

	MUST(wire_agent_encode_reply(&w->q, &f, d));
	n = w->q.bytes;
	all = o = malloc(n);
	for (struct oseg *s = w->q.first; s; s = s->next) {
		memcpy(o, s->p, s->n);
		o += s->n;
	}
	outq_clear(&w->q);
	MUST(wire_decode_reply(all + FRAME_HEAD, n - FRAME_HEAD, &f, NULL,
			       &w->other, &back) == DECISION_OK);
	MUST(back.kind == d->kind && back.status == d->status);
	MUST(slice_eq(back.body, d->body) && slice_eq(back.url, d->url));
	MUST(back.n_headers == d->n_headers && back.n_params == d->n_params);
	MUST(back.n_request_ops == d->n_request_ops);
	MUST(back.n_response_ops == d->n_response_ops);
	MUST(back.audit.n_tags == d->audit.n_tags);
	MUST(slice_eq(back.id, d->id) && back.id_kind == d->id_kind);
	MUST(back.request_body.present == d->request_body.present);
	MUST(slice_eq(back.request_body.data, d->request_body.data));
	MUST(slice_eq(back.response_body.data, d->response_body.data));
	free(all);
}

#endif
