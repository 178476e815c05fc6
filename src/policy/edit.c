#include "policy/edit.h"

/* Room for one more field; the array moves to the arena when it is full. */
static bool make_room(struct http_head *head, struct arena *a)
{
	struct field *fields;
	unsigned cap;

	if (LIKELY(head->n_fields < head->cap_fields))
		return head->n_fields < EDIT_MAX_FIELDS;
	if (head->n_fields >= EDIT_MAX_FIELDS)
		return false;
	cap = head->n_fields * 2 + 8;
	if (cap > EDIT_MAX_FIELDS)
		cap = EDIT_MAX_FIELDS;
	fields = arena_alloc(a, cap * sizeof(*fields));
	if (!fields)
		return false;
	if (head->n_fields)
		memcpy(fields, head->fields, head->n_fields * sizeof(*fields));
	head->fields = fields;
	head->cap_fields = cap;
	return true;
}

static uint8_t flags_of(struct slice name, struct slice value)
{
	uint8_t flags = FIELD_LINE | FIELD_LOWER;

	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			flags &= (uint8_t)~FIELD_LOWER;
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] >= 0x80)
			flags |= FIELD_NON_ASCII;
	return flags;
}

/* A field whose bytes are a whole line in the arena. */
static bool make_field(struct field *f, enum http_field_id id,
		       struct slice name, struct slice value, struct arena *a)
{
	char *line;

	if (name.n > UINT16_MAX || value.n > UINT32_MAX)
		return false;
	line = arena_alloc(a, name.n + value.n + 4);
	if (!line)
		return false;
	memcpy(line, name.p, name.n);
	memcpy(line + name.n, ": ", 2);
	if (value.n)
		memcpy(line + name.n + 2, value.p, value.n);
	memcpy(line + name.n + 2 + value.n, "\r\n", 2);
	*f = (struct field){
		.name = line, .name_len = (uint16_t)name.n,
		.value = line + name.n + 2, .value_len = (uint32_t)value.n,
		.id = (uint8_t)id, .flags = flags_of(name, value),
	};
	return true;
}

static bool append(struct http_head *head, enum http_field_id id,
		   struct slice name, struct slice value, struct arena *a)
{
	if (!make_room(head, a) ||
	    !make_field(&head->fields[head->n_fields], id, name, value, a))
		return false;
	head->n_fields++;
	head->present |= 1ull << id;
	return true;
}

bool edit_append(struct http_head *head, struct slice name, struct slice value,
		 struct arena *a)
{
	return append(head, http_field_lookup(name), name, value, a);
}

/* One value in the place of the first, the others gone. */
static bool set(struct http_head *head, enum http_field_id id,
		struct slice name, struct slice value, struct arena *a)
{
	unsigned kept = 0, n = head->n_fields;
	struct field *at = NULL, made;

	if (!make_field(&made, id, name, value, a))
		return false;
	for (unsigned i = 0; i < n; i++) {
		struct field *f = &head->fields[i];

		if (!slice_eq_icase(field_name(f), name)) {
			head->fields[kept++] = *f;
		} else if (!at) {
			at = &head->fields[kept++];
			*at = made;
		}
	}
	head->n_fields = kept;
	if (!at) {
		if (!make_room(head, a))
			return false;
		at = &head->fields[head->n_fields++];
		*at = made;
	}
	head->present |= 1ull << id;
	if (id == HTTP_FIELD_HOST)
		head->host = field_value(at);
	return true;
}

static void take_out(struct http_head *head, enum http_field_id id,
		     struct slice name)
{
	http_head_remove(head, name);
	if (id == HTTP_FIELD_EXPECT)
		head->expect_continue = false;
}

bool edit_apply(struct http_head *head, const struct header_op *ops,
		unsigned n_ops, struct arena *a)
{
	for (unsigned i = 0; i < n_ops; i++) {
		const struct header_op *op = &ops[i];
		enum http_field_id id = http_field_lookup(op->name);
		bool ok = true;

		if (id != HTTP_FIELD_OTHER && id <= HTTP_FIELD_HOP_LAST)
			continue;
		switch (op->kind) {
		case HEADER_SET:
			ok = set(head, id, op->name, op->value, a);
			break;
		case HEADER_ADD:
			ok = append(head, id, op->name, op->value, a);
			break;
		case HEADER_REMOVE:
			take_out(head, id, op->name);
			break;
		}
		if (!ok)
			return false;
	}
	return true;
}

bool edit_request_ops_valid(const struct header_op *ops, unsigned n_ops)
{
	for (unsigned i = 0; i < n_ops; i++) {
		if (http_field_lookup(ops[i].name) != HTTP_FIELD_HOST)
			continue;
		if (ops[i].kind != HEADER_SET || !http_host_valid(ops[i].value))
			return false;
	}
	return true;
}

void edit_drop_validators(struct http_head *head)
{
	static const enum http_field_id stale[] = {
		HTTP_FIELD_ETAG, HTTP_FIELD_CONTENT_MD5, HTTP_FIELD_DIGEST,
		HTTP_FIELD_ACCEPT_RANGES,
	};

	for (unsigned i = 0; i < ARRAY_LEN(stale); i++)
		http_head_remove_id(head, stale[i]);
}
