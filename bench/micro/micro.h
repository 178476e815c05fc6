/*
 * The micro-benchmark: rows, and what they are made of. bench/micro.py runs
 * this program and bench/reference side by side and prints the table; the two
 * speak the same lines on standard input and output:
 *
 *	list			"NAME VARIANT" of each row, then an empty line
 *	NAME VARIANT MS		runs the row for about MS milliseconds and
 *				prints nanoseconds per iteration
 *	NAME VARIANT #N		N iterations and no clock: for callgrind
 *
 * VARIANT `same` does the work that the reference does, allocations included;
 * `design` does what the proxy does in that place.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stdint.h>
#include <stdlib.h>

#include "base/slice.h"

struct row {
	const char *name, *variant;
	/* Makes what run() works on; kept until the process ends. */
	void *(*setup)(size_t arg);
	void (*run)(void *state, uint64_t n);
	size_t arg;
};

/* Each file of rows has one list, ended by a row without a name. */
extern const struct row rows_state[], rows_record[], rows_headers[],
	rows_body[], rows_own[];

/* Threads beside the measuring one, and where they run. */
void pin_to(unsigned cpu);

/* The compiler may neither drop what made v nor guess what it is. */
#define KEEP(v)		__asm__ volatile("" : : "g"(v) : "memory")
#define OPAQUE(v)	__asm__ volatile("" : "+r"(v) : : "memory")

/* ---- what the reference owns (owned.c) ------------------------------------ */

/*
 * Strings, lists and maps on the heap: the proxy has none of these, they exist
 * so that the `same` rows allocate and free what the reference does.
 */
struct str {
	char *p;
	size_t n;
};

struct list {
	struct str *items;
	size_t n, cap;
};

/* A counted string. */
struct shared_str {
	unsigned refs;
	size_t n;
	char p[];
};

struct map_entry {
	uint64_t hash;
	struct str key;
	union {
		struct list list;
		struct shared_str *shared;
	};
};

/*
 * Entries in order of arrival and an index over them, in one piece; a keyed
 * hash. Grows as the reference's does: at 3, 7, 14, 28, ... entries.
 */
struct map {
	struct map_entry *entries;
	uint16_t *index;		/* entry number + 1; 0: free */
	size_t n, cap, mask;
	uint64_t key[2];
};

struct str str_new(struct slice s);
void str_free(struct str *s);
static inline struct slice str_slice(const struct str *s)
{
	return slice_of(s->p, s->n);
}

void list_push(struct list *l, struct str s);
void list_free(struct list *l);

struct shared_str *shared_new(struct slice s);
void shared_put(struct shared_str *s);
static inline struct shared_str *shared_get(struct shared_str *s)
{
	__atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void map_init(struct map *m);
struct map_entry *map_find(const struct map *m, struct slice key);
/* A new entry of that key (there is none yet), which becomes the map's; its
 * value is the caller's to set. */
struct map_entry *map_add(struct map *m, struct str key);
/* Takes it out; the key is freed, the value is the caller's. */
void map_remove(struct map *m, struct map_entry *e);
/* Of a map of lists. */
void map_free_lists(struct map *m);

/* The concurrent map: shards, each under a lock of readers and a writer. */
#define SHARDS	8u

struct shard {
	unsigned lock;			/* 1: a writer; 2 for each reader */
	struct map map;
} __attribute__((aligned(64)));

struct shards {
	struct shard shard[SHARDS];
	uint64_t key[2];
};

struct shards *shards_new(void);
/* A guard: the entry under its shard's lock, or NULL and no lock. */
struct map_entry *shards_read(struct shards *s, struct slice key,
			      struct shard **guard);
void shard_unread(struct shard *guard);
void shards_insert(struct shards *s, struct str key, struct shared_str *v);
/* False: it was not there. */
bool shards_remove(struct shards *s, struct slice key);

/* ---- the sample record of the published rows (record.c) -------------------- */

/* As the reference holds it. */
struct record {
	struct str id, method, uri;
	struct map headers;
	struct str client_ip, tls_version;	/* p NULL: none */
};

struct arena;
struct field;

/* As the proxy would: slices, and fields in a row. */
struct view {
	struct slice id, method, uri, client_ip, tls_version;
	struct field *fields;
	unsigned n_fields;
};

extern const struct view view_small, view_large;

void record_from_view(struct record *r, const struct view *v);
void record_free(struct record *r);
/* A new heap buffer, the caller's. */
char *record_encode(const struct record *r, bool json, size_t *size);
/* False: no such record. Strings that need unescaping are unescaped in buf. */
bool record_decode(struct record *r, char *buf, size_t n, bool json);

/* Room that an encoded view needs at most; and the encoder. */
size_t view_bound(const struct view *v, bool json);
char *view_encode(char *o, const struct view *v, bool json);
bool view_decode(struct view *v, char *buf, size_t n, bool json,
		 struct arena *a);

#endif
