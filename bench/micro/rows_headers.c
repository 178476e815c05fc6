/* Rows 5 to 7: lists and maps of headers. */
#include "micro.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/mem.h"
#include "wire/fields.h"

struct state {
	struct map map;			/* row 7's */
	struct field fields[32];	/* the same as the proxy has it */
	unsigned n_fields;
	struct arena_pool pool;
	struct arena arena;
};

#define F(n, v)								\
	{ .name = (n), .value = (v), .name_len = sizeof(n) - 1,		\
	  .value_len = sizeof(v) - 1 }

static const struct field twenty[20] = {
	F("host", "example.com"), F("user-agent", "benchmark/1.0"),
	F("accept", "application/json"), F("accept-language", "en-US"),
	F("accept-encoding", "gzip"), F("content-type", "application/json"),
	F("content-length", "1024"), F("authorization", "Bearer token"),
	F("cookie", "session=abc"), F("x-request-id", "req-123"),
	F("x-correlation-id", "corr-456"), F("x-forwarded-for", "1.2.3.4"),
	F("x-forwarded-proto", "https"), F("x-real-ip", "1.2.3.4"),
	F("cache-control", "no-cache"), F("pragma", "no-cache"),
	F("origin", "https://app.example.com"),
	F("referer", "https://app.example.com/"),
	F("sec-fetch-dest", "empty"), F("sec-fetch-mode", "cors"),
};

static void add(struct state *s, const char *name, const char *value)
{
	struct map_entry *e = map_find(&s->map, slice_str(name));
	struct field *f = &s->fields[s->n_fields++];

	if (!e) {
		e = map_add(&s->map, str_new(slice_str(name)));
		e->list = (struct list){ 0 };
	}
	list_push(&e->list, str_new(slice_str(value)));
	f->name = mem_strdup(slice_str(name));
	f->value = mem_strdup(slice_str(value));
	f->name_len = (uint16_t)strlen(name);
	f->value_len = (uint32_t)strlen(value);
}

static void *setup(size_t arg)
{
	struct state *s = mem_zalloc(sizeof(*s));
	char name[32], value[32];

	arena_pool_init(&s->pool);
	arena_init(&s->arena, &s->pool);
	map_init(&s->map);
	add(s, "accept", "text/html");
	add(s, "accept", "application/json");
	add(s, "host", "example.com");
	add(s, "user-agent", "benchmark/1.0");
	for (unsigned i = 0; i < 17; i++) {
		snprintf(name, sizeof(name), "x-custom-%u", i);
		snprintf(value, sizeof(value), "value-%u", i);
		add(s, name, value);
	}
	if (s->n_fields != 21 || s->map.n != 20)
		abort();
	return s;
}

/* ---- header_allocation -------------------------------------------------------- */

static void single_same(void *state, uint64_t n)
{
	while (n--) {
		struct slice text = SLICE("application/json");
		struct list l = { 0 };

		OPAQUE(text.p);
		list_push(&l, str_new(text));
		KEEP(&l);
		list_free(&l);
	}
}

/* The list is the one value itself. */
static void inline_same(void *state, uint64_t n)
{
	while (n--) {
		struct slice text = SLICE("application/json");
		struct str one;

		OPAQUE(text.p);
		one = str_new(text);
		KEEP(&one);
		str_free(&one);
	}
}

static void multi_same(void *state, uint64_t n)
{
	while (n--) {
		struct slice text[] = { SLICE("text/html"),
			SLICE("application/json"), SLICE("*/*") };
		struct list l = { .cap = 3 };

		l.items = mem_alloc(3 * sizeof(*l.items));
		for (unsigned i = 0; i < 3; i++) {
			OPAQUE(text[i].p);
			list_push(&l, str_new(text[i]));
		}
		KEEP(&l);
		list_free(&l);
	}
}

static void arena_values(struct state *s, const struct slice *text,
			 unsigned count)
{
	struct field *f = arena_alloc(&s->arena, count * sizeof(*f));

	for (unsigned i = 0; i < count; i++) {
		struct slice v = text[i];

		OPAQUE(v.p);
		v = arena_dup(&s->arena, v);
		f[i].value = v.p;
		f[i].value_len = (uint32_t)v.n;
	}
	KEEP(f);
	arena_reset(&s->arena);
}

static void single_design(void *state, uint64_t n)
{
	const struct slice text = SLICE("application/json");

	while (n--)
		arena_values(state, &text, 1);
}

static void multi_design(void *state, uint64_t n)
{
	const struct slice text[] = { SLICE("text/html"),
		SLICE("application/json"), SLICE("*/*") };

	while (n--)
		arena_values(state, text, 3);
}

/* ---- header_map_creation ------------------------------------------------------- */

static void map_same(void *state, uint64_t n)
{
	while (n--) {
		const struct field *f = twenty;
		struct map m;

		OPAQUE(f);
		map_init(&m);
		for (unsigned i = 0; i < ARRAY_LEN(twenty); i++, f++) {
			struct str value = str_new(field_value(f));
			struct str name = str_new(field_name(f));
			struct map_entry *e = map_find(&m, str_slice(&name));

			if (UNLIKELY(e != NULL)) {
				str_free(&name);
				list_free(&e->list);
			} else {
				e = map_add(&m, name);
			}
			e->list = (struct list){ 0 };
			list_push(&e->list, value);
		}
		KEEP(&m);
		map_free_lists(&m);
	}
}

/* Fields that point at what was received, and the index over their names. */
static void map_design(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct field *from = twenty;
		struct field *to = arena_alloc(&s->arena, sizeof(twenty));
		struct fields_index x;

		OPAQUE(from);
		for (unsigned i = 0; i < ARRAY_LEN(twenty); i++)
			to[i] = from[i];
		KEEP(to);
		if (!fields_index_init(&x, to, ARRAY_LEN(twenty), 0))
			abort();
		KEEP(&x);
		fields_index_fini(&x);
		arena_reset(&s->arena);
	}
}

/* ---- header_iteration ---------------------------------------------------------- */

static void flat_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct map *m = &s->map;
		size_t count = 0;

		OPAQUE(m);
		for (size_t i = 0; i < m->n; i++)
			for (size_t k = 0; k < m->entries[i].list.n; k++)
				count++;
		KEEP(count);
	}
}

static void flat_design(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct state *from = s;
		size_t count = 0;

		OPAQUE(from);
		for (unsigned i = 0; i < from->n_fields; i++)
			count += from->fields[i].name != NULL;
		KEEP(count);
	}
}

struct pair {
	struct slice name, value;
};

static void collect_same(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct map *m = &s->map;
		struct pair *pairs = NULL;
		size_t cap = 0, count = 0;

		OPAQUE(m);
		for (size_t i = 0; i < m->n; i++) {
			const struct map_entry *e = &m->entries[i];

			for (size_t k = 0; k < e->list.n; k++) {
				if (count == cap) {
					cap = cap ? cap * 2 : 4;
					pairs = mem_realloc(pairs,
						cap * sizeof(*pairs));
				}
				pairs[count++] = (struct pair){
					str_slice(&e->key),
					str_slice(&e->list.items[k]),
				};
			}
		}
		KEEP(pairs);
		mem_free(pairs);
	}
}

static void collect_design(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct state *from = s;
		struct pair *pairs;

		OPAQUE(from);
		pairs = arena_alloc(&s->arena,
				    from->n_fields * sizeof(*pairs));
		for (unsigned i = 0; i < from->n_fields; i++)
			pairs[i] = (struct pair){
				field_name(&from->fields[i]),
				field_value(&from->fields[i]),
			};
		KEEP(pairs);
		arena_reset(&s->arena);
	}
}

const struct row rows_headers[] = {
	{ "header_allocation/vec_single_value", "same", setup, single_same, 0 },
	{ "header_allocation/vec_single_value", "design", setup, single_design,
	  0 },
	{ "header_allocation/smallvec_single_value", "same", setup,
	  inline_same, 0 },
	{ "header_allocation/smallvec_single_value", "design", setup,
	  single_design, 0 },
	{ "header_allocation/vec_multi_value", "same", setup, multi_same, 0 },
	{ "header_allocation/vec_multi_value", "design", setup, multi_design,
	  0 },
	{ "header_allocation/smallvec_multi_value", "same", setup, multi_same,
	  0 },
	{ "header_allocation/smallvec_multi_value", "design", setup,
	  multi_design, 0 },
	{ "header_map_creation/vec_map_20_headers", "same", setup, map_same,
	  0 },
	{ "header_map_creation/vec_map_20_headers", "design", setup,
	  map_design, 0 },
	{ "header_map_creation/smallvec_map_20_headers", "same", setup,
	  map_same, 0 },
	{ "header_map_creation/smallvec_map_20_headers", "design", setup,
	  map_design, 0 },
	{ "header_iteration/vec_iter_flat", "same", setup, flat_same, 0 },
	{ "header_iteration/vec_iter_flat", "design", setup, flat_design, 0 },
	{ "header_iteration/smallvec_iter_flat", "same", setup, flat_same, 0 },
	{ "header_iteration/smallvec_iter_flat", "design", setup, flat_design,
	  0 },
	{ "header_iteration/vec_collect_to_grpc", "same", setup, collect_same,
	  0 },
	{ "header_iteration/vec_collect_to_grpc", "design", setup,
	  collect_design, 0 },
	{ "header_iteration/smallvec_collect_to_grpc", "same", setup,
	  collect_same, 0 },
	{ "header_iteration/smallvec_collect_to_grpc", "design", setup,
	  collect_design, 0 },
	{ 0 },
};
