/*
 * An arena: memory that lives as long as one exchange and goes back at once.
 * Chunks of 4 KiB are recycled in a pool per worker; a request larger than a
 * chunk gets one of its own. Not thread safe: a pool belongs to one worker.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

/* With malloc's own, and this header, an odd number of cache lines: the same
 * fields of all exchanges would share a few sets of the caches else. */
#define ARENA_CHUNK	(65u * 64 - 16)

struct arena_chunk {
	struct arena_chunk *next;
	size_t size;		/* bytes of data */
	char data[] __attribute__((aligned(16)));
};

struct arena_pool {
	struct arena_chunk *free;
	unsigned n_free;
	uint64_t live;		/* chunks handed out, for leak checks */
};

struct arena {
	struct arena_pool *pool;
	struct arena_chunk *chunks;	/* newest first */
	char *pos, *end;
};

void arena_pool_init(struct arena_pool *pool);
void arena_pool_fini(struct arena_pool *pool);

/* Takes no memory yet. */
void arena_init(struct arena *a, struct arena_pool *pool);
/* Gives all chunks back. */
void arena_fini(struct arena *a);
/* Gives all back but one chunk: for scratch arenas. */
void arena_reset(struct arena *a);

void *arena_alloc_slow_(struct arena *a, size_t bytes);

/* 16-byte aligned, not zeroed. NULL when memory is out. */
static inline void *arena_alloc(struct arena *a, size_t bytes)
{
	/* Both ends are multiples of 16, so what fits also fits rounded up. */
	if (LIKELY((size_t)(a->end - a->pos) >= bytes)) {
		void *p = a->pos;

		a->pos += (bytes + 15) & ~(size_t)15;
		return p;
	}
	return arena_alloc_slow_(a, bytes);
}

void *arena_zalloc(struct arena *a, size_t bytes) MUST_CHECK;
/* A copy of s in the arena (not NUL-terminated); .p is NULL when memory is
 * out and s is not empty. */
struct slice arena_dup(struct arena *a, struct slice s) MUST_CHECK;
struct slice arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3)
	MUST_CHECK;

#endif
