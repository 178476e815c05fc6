/* Header edits, in the forms of all dialects (protocol page 6.3). */
#include "wire/check.h"
#include "wire/reply.h"

enum { OP_NAME, OP_VALUE, OP_N };
static const struct slice op_names[OP_N] = {
	{ "name", 4 }, { "value", 5 },
};

static bool op_kind_of(struct slice word, enum header_op_kind *kind)
{
	if (reply_is(word, "set"))
		*kind = HEADER_SET;
	else if (reply_is(word, "add"))
		*kind = HEADER_ADD;
	else if (reply_is(word, "remove"))
		*kind = HEADER_REMOVE;
	else
		return false;
	return true;
}

static void keep_op(struct reply_walk *w, struct header_op op, bool request)
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
				   REPLY_OPS_MAX, sizeof(*to))
		     : values_grow(&w->v, &d->response_ops,
				   &d->n_response_ops, REPLY_OPS_MAX,
				   sizeof(*to));
	if (to)
		*to = op;
}

/* The value under "set", "add", "remove". */
static bool read_op_fields(struct reply_walk *w, struct header_op *op)
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
static bool read_flat_op(struct reply_walk *w, struct reader_iter *it,
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

static void read_op(struct reply_walk *w, bool request)
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

void reply_read_ops(struct reply_walk *w, bool request)
{
	struct reader_iter it;

	if (!values_list(&w->v, true, false, &it))
		return;
	while (reader_more(&w->v.r, &it))
		read_op(w, request);
}
