/* An agent's config block, JSON text, as MessagePack. Once per link. */
#include <jansson.h>

#include "base/mem.h"
#include "wire/encode.h"
#include "wire/put.h"

#define DEPTH_MAX	64u

struct packer {
	char *p;
	size_t n, cap;
	bool failed;
};

static char *packer_room(struct packer *k, size_t n)
{
	size_t cap = k->cap;
	char *p;

	while (cap - k->n < n)
		cap = cap ? 2 * cap : 1024;
	if (cap != k->cap) {
		p = mem_realloc(k->p, cap);
		if (!p)
			return NULL;
		k->p = p;
		k->cap = cap;
	}
	return k->p + k->n;
}

static void pack_text(struct packer *k, const char *text, size_t n)
{
	char *o = packer_room(k, PUT_MSGPACK_MAX(n));
	unsigned ignored = 0;

	if (!o) {
		k->failed = true;
		return;
	}
	k->n = (size_t)(put_msgpack_text(o, slice_of(text, n), &ignored) -
			k->p);
}

static char *put_integer(char *o, long long v)
{
	if (v >= 0)
		return put_msgpack_uint(o, (uint64_t)v);
	o = put_byte(o, 0xd3);
	for (unsigned i = 8; i--;)
		o = put_byte(o, (unsigned)((uint64_t)v >> 8 * i & 0xff));
	return o;
}

static char *put_scalar(char *o, const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return put_msgpack_map(o, json_object_size(v));
	case JSON_ARRAY:
		return put_msgpack_array(o, json_array_size(v));
	case JSON_INTEGER:
		return put_integer(o, json_integer_value(v));
	case JSON_REAL:
		return put_msgpack_double(o, json_real_value(v));
	case JSON_TRUE:
	case JSON_FALSE:
		return put_msgpack_bool(o, json_is_true(v));
	case JSON_NULL:
	case JSON_STRING:
		break;
	}
	return put_nil(o);
}

static void pack_value(struct packer *k, json_t *v, unsigned depth)
{
	const char *key;
	json_t *child;
	size_t i;
	char *o;

	if (json_is_string(v)) {
		pack_text(k, json_string_value(v), json_string_length(v));
		return;
	}
	o = packer_room(k, PUT_NUMBER_MAX);
	if (!o || depth > DEPTH_MAX) {
		k->failed = true;
		return;
	}
	k->n = (size_t)(put_scalar(o, v) - k->p);
	json_array_foreach(v, i, child) {
		if (k->failed)
			return;
		pack_value(k, child, depth + 1);
	}
	json_object_foreach(v, key, child) {
		if (k->failed)
			return;
		pack_text(k, key, strlen(key));
		pack_value(k, child, depth + 1);
	}
}

char *encode_msgpack_from_json(struct slice json, size_t *size)
{
	struct packer k = { NULL, 0, 0, false };
	json_t *root;

	root = json_loadb(json.p, json.n,
			  JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (!root)
		return NULL;
	pack_value(&k, root, 0);
	json_decref(root);
	if (k.failed) {
		mem_free(k.p);
		return NULL;
	}
	*size = k.n;
	return k.p;
}
