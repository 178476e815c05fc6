/*
 * Row 8: body chunks, and base64 both ways, which the published rows leave
 * out. `design` of an encode row is the proxy's own event, base64 included,
 * from the received block into the link's out-queue.
 */
#include "micro.h"

#include "base/arena.h"
#include "base/mem.h"
#include "wire/base64.h"
#include "wire/codec.h"
#include "wire/put.h"
#include "wire/values.h"

enum { JSON = 1u << 31 };

struct state {
	bool json;
	struct str id, data;		/* data: base64 with JSON */
	char *bytes, *out;
	size_t n_bytes, n_raw;
	char *text;			/* base64 */
	size_t n_text;
	struct block_pool blocks;
	struct block *block;		/* the raw bytes */
	struct bslice piece;
	struct event_meta meta;
	struct event event;
	struct outq q;
};

struct chunk {
	struct str id, data;
	bool is_last;
	uint64_t index;
};

/* ---- the record, as the reference has it ---------------------------------------- */

static size_t text_bound(struct slice s)
{
	size_t bound = PUT_JSON_MAX(s.n);

	return bound <= BLOCK_SMALL ? bound : put_json_text_size(s);
}

static char *chunk_json(const struct state *s, size_t *size)
{
	struct slice data = str_slice(&s->data);
	char *buf = mem_alloc(128 + PUT_JSON_MAX(s->id.n) + text_bound(data));
	unsigned t = 0;
	char *o;

	o = PUT_LIT(buf, "{\"correlation_id\":");
	o = put_json_text(o, str_slice(&s->id), &t);
	o = put_json_text(PUT_LIT(o, ",\"data\":"), data, &t);
	o = put_json_bool(PUT_LIT(o, ",\"is_last\":"), false);
	o = put_json_uint(PUT_LIT(o, ",\"chunk_index\":"), 0);
	o = put_byte(o, '}');
	*size = (size_t)(o - buf);
	return buf;
}

static char *chunk_msgpack(const struct state *s, size_t *size)
{
	char *buf = mem_alloc(32 + PUT_MSGPACK_MAX(s->id.n) + s->data.n);
	unsigned t = 0;
	char *o;

	o = put_msgpack_text(put_byte(buf, 0x94), str_slice(&s->id), &t);
	o = put_msgpack_bin_head(o, s->data.n);
	o = put_bytes(o, s->data.p, s->data.n);
	o = put_msgpack_uint(put_msgpack_bool(o, false), 0);
	*size = (size_t)(o - buf);
	return buf;
}

static bool chunk_read(struct values *v, struct slice *id, struct slice *data,
		       struct chunk *c)
{
	static const struct slice names[] = {
		{ "correlation_id", 14 }, { "data", 4 }, { "is_last", 7 },
		{ "chunk_index", 11 },
	};
	struct reader_members m;
	enum token token;
	int i;

	if (!values_struct(v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&v->r, &m)) >= 0) {
		switch (i) {
		case 0:
			(void)values_str(v, id);
			break;
		case 1:
			token = reader_next(&v->r);
			if (token != TOKEN_STR && token != TOKEN_BIN)
				values_wrong_type(v, token);
			*data = v->r.str;
			break;
		case 2:
			(void)values_bool_or_nil(v, &c->is_last);
			break;
		default:
			(void)values_uint(v, UINT32_MAX, &c->index);
			break;
		}
	}
	return m.seen == 15 && !v->fault && reader_at_end(&v->r);
}

/* ---- setup ------------------------------------------------------------------------ */

static void setup_event(struct state *s)
{
	memcpy(s->meta.correlation_id, "0123456789abcdef0123456789abcdef",
	       EVENT_ID_LEN);
	s->piece = (struct bslice){ s->block, s->block->data, s->n_raw };
	s->event = (struct event){
		.type = EVENT_REQUEST_CHUNK,
		.meta = &s->meta,
		.chunk = { .pieces = &s->piece, .n_pieces = 1,
			   .bytes = s->n_raw, .bytes_so_far = s->n_raw },
	};
}

static size_t want_bytes(const struct state *s)
{
	if (s->json)
		return base64_size(s->n_raw) + 72;
	return s->n_raw + (s->n_raw < 65536 ? 16 : 18);
}

static void *setup(size_t arg)
{
	struct state *s = mem_zalloc(sizeof(*s));
	struct base64 b = { .n_rest = 0 };
	char *end;

	s->json = arg & JSON;
	s->n_raw = arg & ~(size_t)JSON;
	block_pool_init(&s->blocks);
	outq_init(&s->q, &s->blocks);
	s->block = block_new(&s->blocks, s->n_raw);
	for (size_t i = 0; i < s->n_raw; i++)
		s->block->data[i] = (char)i;
	s->text = mem_alloc(base64_size(s->n_raw));
	s->out = mem_alloc(base64_size(s->n_raw));
	end = base64_finish(&b, base64_put(&b, s->text, s->block->data,
					   s->n_raw));
	s->n_text = (size_t)(end - s->text);
	s->id = str_new(SLICE("bench-123"));
	s->data = str_new(s->json ? slice_of(s->text, s->n_text)
				  : slice_of(s->block->data, s->n_raw));
	s->bytes = s->json ? chunk_json(s, &s->n_bytes)
			   : chunk_msgpack(s, &s->n_bytes);
	setup_event(s);
	if (s->n_bytes != want_bytes(s))
		abort();
	return s;
}

/* ---- rows ------------------------------------------------------------------------- */

static void encode_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct state *from = s;
		size_t size;
		char *buf;

		OPAQUE(from);
		buf = s->json ? chunk_json(from, &size)
			      : chunk_msgpack(from, &size);
		KEEP(buf);
		KEEP(size);
		mem_free(buf);
	}
}

static void encode_design(void *state, uint64_t n)
{
	struct state *s = state;
	const struct wire_format f = {
		.encoding = s->json ? WIRE_JSON : WIRE_MSGPACK,
		.raw_body = !s->json,
	};
	unsigned t = 0;

	while (n--) {
		const struct event *ev = &s->event;

		OPAQUE(ev);
		if (wire_encode_event(&s->q, &f, ev, &t) != WIRE_OK)
			abort();
		KEEP(&s->q);
		outq_consume(&s->q, s->q.bytes);
	}
}

static void decode_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		char *p = s->bytes;
		struct slice id, data;
		struct chunk c;
		struct values v;

		OPAQUE(p);
		values_init(&v, p, s->n_bytes, s->json, NULL);
		if (!chunk_read(&v, &id, &data, &c))
			abort();
		c.id = str_new(id);
		c.data = str_new(data);
		KEEP(&c);
		str_free(&c.id);
		str_free(&c.data);
	}
}

static void decode_design(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		char *p = s->bytes;
		struct slice id, data;
		struct chunk c;
		struct values v;

		OPAQUE(p);
		values_init(&v, p, s->n_bytes, s->json, NULL);
		if (!chunk_read(&v, &id, &data, &c))
			abort();
		KEEP(&c);
		KEEP(&data);
	}
}

static void base64_encode(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		struct base64 b = { .n_rest = 0 };
		const char *p = s->block->data;
		char *o;

		OPAQUE(p);
		o = base64_finish(&b, base64_put(&b, s->out, p, s->n_raw));
		KEEP(o);
	}
}

static void base64_read(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const char *p = s->text;
		size_t size;

		OPAQUE(p);
		if (!base64_decode(s->out, p, s->n_text, &size))
			abort();
		KEEP(size);
	}
}

/* Encoding and the copy of it through the escaper: what JSON really costs. */
static void whole_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const char *p = s->block->data;
		struct base64 b = { .n_rest = 0 };
		struct str own = s->data;
		size_t size;
		char *buf;

		OPAQUE(p);
		s->data.p = mem_alloc(base64_size(s->n_raw));
		(void)base64_finish(&b, base64_put(&b, s->data.p, p,
						   s->n_raw));
		buf = chunk_json(s, &size);
		KEEP(buf);
		mem_free(buf);
		mem_free(s->data.p);
		s->data = own;
	}
}

#define SIZES(name, fn, flag)						\
	{ name "/1024", "same", setup, fn##_same, 1024u | (flag) },	\
	{ name "/1024", "design", setup, fn##_design, 1024u | (flag) },	\
	{ name "/4096", "same", setup, fn##_same, 4096u | (flag) },	\
	{ name "/4096", "design", setup, fn##_design, 4096u | (flag) },	\
	{ name "/16384", "same", setup, fn##_same, 16384u | (flag) },	\
	{ name "/16384", "design", setup, fn##_design, 16384u | (flag) }, \
	{ name "/65536", "same", setup, fn##_same, 65536u | (flag) },	\
	{ name "/65536", "design", setup, fn##_design, 65536u | (flag) }

#define OWN(name, fn)							\
	{ name "/1024", "same", setup, fn, 1024u | JSON },		\
	{ name "/65536", "same", setup, fn, 65536u | JSON }

const struct row rows_body[] = {
	SIZES("body_chunk_serialization/json_base64", encode, JSON),
	SIZES("body_chunk_serialization/msgpack_binary", encode, 0),
	SIZES("body_chunk_deserialization/json_base64", decode, JSON),
	SIZES("body_chunk_deserialization/msgpack_binary", decode, 0),
	OWN("own/base64_encode", base64_encode),
	OWN("own/base64_decode", base64_read),
	OWN("own/chunk_json_with_base64", whole_same),
	{ "own/chunk_json_with_base64/1024", "design", setup, encode_design,
	  1024u | JSON },
	{ "own/chunk_json_with_base64/65536", "design", setup, encode_design,
	  65536u | JSON },
	{ 0 },
};
