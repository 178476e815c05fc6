/*
 * Events made of arbitrary bytes: what we write, libraries read: valid UTF-8,
 * no key twice, every field there, a chunk's bytes the same.
 *
 * Input: two bytes choose the format and the event; then texts, each behind a
 * byte of length.
 */
#include <jansson.h>
#include <msgpack.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/codec.h"

#define MUST(cond)	do { if (!(cond)) abort(); } while (0)
#define FIELDS_MAX	600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const char *p;
	size_t n;
};

static struct slice next_text(struct source *s)
{
	struct slice text = SLICE_NONE;

	if (!s->n)
		return text;
	text.n = min_size((unsigned char)*s->p, s->n - 1);
	text.p = s->p + 1;
	s->p += text.n + 1;
	s->n -= text.n + 1;
	return text;
}

/* Strict UTF-8 by another road: jansson's. */
static bool is_utf8(const char *p, size_t n)
{
	json_t *v = json_stringn(n ? p : "", n);

	json_decref(v);
	return v;
}

static void check_msgpack(const msgpack_object *o)
{
	if (o->type == MSGPACK_OBJECT_STR)
		MUST(is_utf8(o->via.str.ptr, o->via.str.size));
	for (uint32_t i = 0; o->type == MSGPACK_OBJECT_ARRAY &&
			     i < o->via.array.size; i++)
		check_msgpack(&o->via.array.ptr[i]);
	if (o->type != MSGPACK_OBJECT_MAP)
		return;
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		check_msgpack(&o->via.map.ptr[i].key);
		check_msgpack(&o->via.map.ptr[i].val);
		for (uint32_t k = 0; k < i; k++)
			MUST(!msgpack_object_equal(o->via.map.ptr[i].key,
						   o->via.map.ptr[k].key));
	}
}

static void check_payload(const char *p, size_t n, bool json)
{
	msgpack_unpacked result;
	size_t off = 0;
	json_t *root;

	if (json) {
		/* jansson takes no NUL in a key, which a header name has not
		 * either; everything else it must take. */
		root = json_loadb(p, n, JSON_REJECT_DUPLICATES |
					JSON_ALLOW_NUL, NULL);
		MUST(root);
		json_decref(root);
		return;
	}
	msgpack_unpacked_init(&result);
	MUST(msgpack_unpack_next(&result, p, n, &off) ==
	     MSGPACK_UNPACK_SUCCESS);
	MUST(off == n);
	check_msgpack(&result.data);
	msgpack_unpacked_destroy(&result);
}

static unsigned make_fields(struct source *s, struct field *fields,
			    const struct wire_format *f)
{
	unsigned n = 0;

	while (s->n && n < FIELDS_MAX) {
		struct slice name = next_text(s), value = next_text(s);

		if (memchr(name.n ? name.p : "", 0, name.n))
			continue;
		if (f->pseudo_headers && name.n && *name.p == ':')
			continue;
		fields[n++] = (struct field){ .name = name.p,
			.name_len = (uint16_t)name.n, .value = value.p,
			.value_len = (uint32_t)value.n };
	}
	return n;
}

static void check_event(const struct wire_format *f, const struct event *ev,
			struct slice body)
{
	static struct block_pool blocks;
	static struct arena_pool arenas;
	struct wire_agent_event got;
	struct slice payload;
	struct arena arena;
	unsigned t = 0;
	struct outq q;
	uint8_t type;
	size_t used;
	char *all, *o;

	outq_init(&q, &blocks);
	arena_init(&arena, &arenas);
	MUST(wire_encode_event(&q, f, ev, &t) == WIRE_OK);
	all = o = malloc(q.bytes);
	for (struct oseg *s = q.first; s; s = s->next) {
		memcpy(o, s->p, s->n);
		o += s->n;
	}
	MUST(frame_read(all, q.bytes, FRAME_MAX, &type, &payload, &used) ==
	     FRAME_OK);
	MUST(used == q.bytes && type == frame_type_of(ev->type));
	check_payload(payload.p, payload.n, f->encoding == WIRE_JSON);
	MUST(wire_agent_decode_event(type, all + FRAME_HEAD, payload.n, f,
				     &arena, &got));
	if (ev->type == EVENT_REQUEST_HEAD || ev->type == EVENT_RESPONSE_HEAD)
		MUST(got.ev.head.n_fields ==
		     ev->head.n_fields +
			     (f->pseudo_headers &&
			      ev->type == EVENT_REQUEST_HEAD ? 2 : 0));
	else if (ev->type != EVENT_COMPLETE)
		MUST(got.data.n == body.n &&
		     (!body.n || !memcmp(got.data.p, body.p, body.n)));
	free(all);
	outq_clear(&q);
	arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct field fields[FIELDS_MAX];
	struct source s = { (const char *)data + 2, size - 2 };
	struct event_meta m = { .timestamp = SLICE("2026-01-02T03:04:05Z") };
	struct wire_format f = { 0 };
	struct bslice pieces[3];
	struct event ev = { .meta = &m };
	struct slice body = SLICE_NONE;

	if (size < 2)
		return 0;
	f.encoding = data[0] & 1 ? WIRE_JSON : WIRE_MSGPACK;
	f.shape = data[0] & 2 ? WIRE_MAP : WIRE_ARRAY;
	f.raw_body = data[0] & 4;
	f.pseudo_headers = data[0] & 8;
	ev.type = (enum event_type)(data[1] % EVENT_CONFIGURE);
	memset(m.correlation_id, 'a', EVENT_ID_LEN);
	m.request_id = next_text(&s);
	m.client_ip = next_text(&s);
	m.server_name = next_text(&s);
	m.traceparent = next_text(&s);
	if (ev.type == EVENT_REQUEST_HEAD || ev.type == EVENT_RESPONSE_HEAD) {
		ev.head.method = next_text(&s);
		ev.head.uri = next_text(&s);
		ev.head.status = 200;
		ev.head.fields = fields;
		ev.head.n_fields = make_fields(&s, fields, &f);
	} else if (ev.type == EVENT_COMPLETE) {
		ev.complete.error = next_text(&s);
	} else {
		size_t a = s.n / 3, b = s.n / 2;

		body = slice_of(s.p, s.n);
		pieces[0] = (struct bslice){ NULL, s.p, a };
		pieces[1] = (struct bslice){ NULL, s.p + a, b - a };
		pieces[2] = (struct bslice){ NULL, s.p + b, s.n - b };
		ev.chunk = (struct event_chunk){ .pieces = pieces,
			.n_pieces = 3, .bytes = s.n, .index = data[1] };
	}
	check_event(&f, &ev, body);
	return 0;
}
