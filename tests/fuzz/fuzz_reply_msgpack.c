/*
 * Replies in MessagePack: what we take msgpack-c takes too, and it means the
 * same. The first byte chooses the link and what is expected.
 */
#include <msgpack.h>

#include "reply_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *text_of(const char *p, size_t n)
{
	return json_stringn_nocheck(n ? p : "", n);
}

static json_t *to_json(const msgpack_object *o)
{
	json_t *v;

	switch (o->type) {
	case MSGPACK_OBJECT_BOOLEAN:
		return json_boolean(o->via.boolean);
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		return json_real((double)o->via.u64);
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return json_real((double)o->via.i64);
	case MSGPACK_OBJECT_STR:
		return text_of(o->via.str.ptr, o->via.str.size);
	case MSGPACK_OBJECT_BIN:
		return text_of(o->via.bin.ptr, o->via.bin.size);
	case MSGPACK_OBJECT_ARRAY:
		v = json_array();
		for (uint32_t i = 0; i < o->via.array.size; i++)
			json_array_append_new(v, to_json(
						 &o->via.array.ptr[i]));
		return v;
	case MSGPACK_OBJECT_MAP:
		v = json_object();
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			const msgpack_object *k = &o->via.map.ptr[i].key;

			MUST(k->type == MSGPACK_OBJECT_STR ||
			     k->type == MSGPACK_OBJECT_BIN);
			MUST(!json_object_getn(v, k->via.str.ptr,
					       k->via.str.size));
			json_object_setn_new_nocheck(v, k->via.str.ptr,
				k->via.str.size,
				to_json(&o->via.map.ptr[i].val));
		}
		return v;
	case MSGPACK_OBJECT_NIL:
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
	case MSGPACK_OBJECT_EXT:
		break;
	}
	return json_null();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oracle_world *w = oracle_world();
	struct wire_format f = { .encoding = WIRE_MSGPACK };
	struct wire_expect expect = { EVENT_REQUEST_CHUNK, 0 };
	enum decision_fault fault;
	msgpack_unpacked result;
	struct decision d;
	size_t n, off = 0;
	json_t *root;
	char *buf;

	if (size < 2 || data[1] == '{')
		return 0;
	n = size - 1;
	buf = malloc(n);
	memcpy(buf, data + 1, n);
	f.raw_body = data[0] & 0x80;
	expect.type = (enum event_type)(data[0] >> 4 & 3);
	fault = wire_decode_reply(buf, n, &f, data[0] & 1 ? &expect : NULL,
				  &w->arena, &d);
	MUST(fault != DECISION_NO_MEMORY);
	MUST((fault == DECISION_REFUSED) ==
	     (fault != DECISION_OK && d.kind != DECISION_ALLOW));
	if (fault == DECISION_OK) {
		msgpack_unpacked_init(&result);
		MUST(msgpack_unpack_next(&result, (const char *)data + 1, n,
					 &off) == MSGPACK_UNPACK_SUCCESS);
		MUST(off == n);
		root = to_json(&result.data);
		oracle_check(root, &d, f.raw_body);
		json_decref(root);
		msgpack_unpacked_destroy(&result);
		oracle_again(w, &d, data[0] >> 1);
	}
	free(buf);
	return 0;
}
