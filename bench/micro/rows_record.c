/* Rows 4 and 5: the sample record encoded and decoded. */
#include "micro.h"

#include "base/arena.h"
#include "base/mem.h"
#include "base/outq.h"

enum { LARGE = 1, JSON = 2 };

struct state {
	const struct view *view;
	struct record record;
	bool json;
	char *bytes;			/* what decoding reads */
	size_t n;
	struct block_pool blocks;
	struct arena_pool arenas;
	struct arena arena;
	struct outq q;
};

static void check_sizes(const struct state *s, size_t arg)
{
	static const size_t want[4] = { 110, 894, 204, 1080 };

	if (s->n != want[arg])
		abort();
}

static void *setup(size_t arg)
{
	struct state *s = mem_zalloc(sizeof(*s));
	struct view back;
	struct record own;
	char out[8192];

	s->view = arg & LARGE ? &view_large : &view_small;
	s->json = arg & JSON;
	record_from_view(&s->record, s->view);
	s->bytes = record_encode(&s->record, s->json, &s->n);
	check_sizes(s, arg);
	block_pool_init(&s->blocks);
	arena_pool_init(&s->arenas);
	arena_init(&s->arena, &s->arenas);
	outq_init(&s->q, &s->blocks);
	if (!record_decode(&own, s->bytes, s->n, s->json) ||
	    own.headers.n != s->record.headers.n ||
	    !view_decode(&back, s->bytes, s->n, s->json, &s->arena) ||
	    back.n_fields != s->view->n_fields ||
	    (size_t)(view_encode(out, &back, s->json) - out) != s->n ||
	    memcmp(out, s->bytes, s->n))
		abort();
	record_free(&own);
	arena_reset(&s->arena);
	return s;
}

static void encode_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct record *r = &s->record;
		size_t size;
		char *buf;

		OPAQUE(r);
		buf = record_encode(r, s->json, &size);
		KEEP(buf);
		KEEP(size);
		mem_free(buf);
	}
}

/* Into a block that is used again and again, as frames are. */
static void encode_design(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct view *v = s->view;
		char *start, *end;

		OPAQUE(v);
		start = outq_reserve(&s->q, view_bound(v, s->json));
		end = view_encode(start, v, s->json);
		if (!outq_commit(&s->q, (size_t)(end - start)))
			abort();
		KEEP(start);
		outq_consume(&s->q, s->q.bytes);
	}
}

static void decode_same(void *state, uint64_t n)
{
	struct state *s = state;
	struct record r;

	while (n--) {
		char *p = s->bytes;

		OPAQUE(p);
		if (!record_decode(&r, p, s->n, s->json))
			abort();
		KEEP(&r);
		record_free(&r);
	}
}

static void decode_design(void *state, uint64_t n)
{
	struct state *s = state;
	struct view v;

	while (n--) {
		char *p = s->bytes;

		OPAQUE(p);
		if (!view_decode(&v, p, s->n, s->json, &s->arena))
			abort();
		KEEP(&v);
		arena_reset(&s->arena);
	}
}

#define BOTH(name, fn, arg)						\
	{ name, "same", setup, fn##_same, arg },			\
	{ name, "design", setup, fn##_design, arg }

const struct row rows_record[] = {
	BOTH("serialization/json_small", encode, JSON),
	BOTH("serialization/json_large", encode, JSON | LARGE),
	BOTH("serialization/msgpack_small", encode, 0),
	BOTH("serialization/msgpack_large", encode, LARGE),
	BOTH("deserialization/json_small", decode, JSON),
	BOTH("deserialization/json_large", decode, JSON | LARGE),
	BOTH("deserialization/msgpack_small", decode, 0),
	BOTH("deserialization/msgpack_large", decode, LARGE),
	{ 0 },
};
