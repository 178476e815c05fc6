/* Arenas; see arena.h. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/poison.h"

#define POOL_MAX	512	/* free chunks kept: 2 MiB */
#define CHUNK_DATA	(ARENA_CHUNK - sizeof(struct arena_chunk))

/* Where an arena without a chunk points: never NULL, for an allocation of no
 * bytes must not look like one that failed. */
static char nowhere[16] __attribute__((aligned(16)));

void arena_pool_init(struct arena_pool *pool)
{
	*pool = (struct arena_pool){ 0 };
}

void arena_pool_fini(struct arena_pool *pool)
{
	ASSERT(pool->live == 0);
	while (pool->free) {
		struct arena_chunk *c = pool->free;

		pool->free = c->next;
		UNPOISON(c->data, c->size);
		mem_free(c);
	}
	pool->n_free = 0;
}

static struct arena_chunk *chunk_get(struct arena_pool *pool, size_t size)
{
	struct arena_chunk *c = pool->free;

	if (LIKELY(c && size == CHUNK_DATA)) {
		pool->free = c->next;
		pool->n_free--;
		UNPOISON(c->data, c->size);
	} else {
		c = mem_alloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->size = size;
	}
	pool->live++;
	return c;
}

static void chunk_put(struct arena_pool *pool, struct arena_chunk *c)
{
	pool->live--;
	if (c->size != CHUNK_DATA || pool->n_free >= POOL_MAX) {
		mem_free(c);
		return;
	}
	POISON(c->data, c->size);
	c->next = pool->free;
	pool->free = c;
	pool->n_free++;
}

void arena_init(struct arena *a, struct arena_pool *pool)
{
	a->pool = pool;
	a->chunks = NULL;
	a->pos = a->end = nowhere;
}

void arena_fini(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *c = a->chunks;

		a->chunks = c->next;
		chunk_put(a->pool, c);
	}
	a->pos = a->end = nowhere;
}

void arena_reset(struct arena *a)
{
#ifndef __SANITIZE_ADDRESS__
	struct arena_chunk *keep = a->chunks;

	if (LIKELY(!keep))
		return;
	if (keep->size == CHUNK_DATA) {
		a->chunks = keep->next;
		if (UNLIKELY(a->chunks != NULL))
			arena_fini(a);
		keep->next = NULL;
		a->chunks = keep;
		a->pos = keep->data;
		a->end = keep->data + keep->size;
		return;
	}
#endif
	/* In the ASan flavour the last chunk goes too, to be poisoned. */
	arena_fini(a);
}

void *arena_alloc_slow_(struct arena *a, size_t bytes)
{
	struct arena_chunk *c;
	size_t size = CHUNK_DATA;

	if (bytes > SIZE_MAX / 2)
		return NULL;
	bytes = (bytes + 15) & ~(size_t)15;
	if (bytes > size)
		size = bytes;
	c = chunk_get(a->pool, size);
	if (!c)
		return NULL;
	if (size != CHUNK_DATA && a->chunks) {
		/* Behind the newest, which may have room left. */
		c->next = a->chunks->next;
		a->chunks->next = c;
		return c->data;
	}
	c->next = a->chunks;
	a->chunks = c;
	a->pos = c->data + bytes;
	a->end = c->data + size;
	return c->data;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
	void *p = arena_alloc(a, bytes);

	if (p && bytes)
		memset(p, 0, bytes);
	return p;
}

struct slice arena_dup(struct arena *a, struct slice s)
{
	char *p;

	if (s.n == 0)
		return slice_of("", 0);
	p = arena_alloc(a, s.n);
	if (!p)
		return SLICE_NONE;
	memcpy(p, s.p, s.n);
	return slice_of(p, s.n);
}

struct slice arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	size_t room = (size_t)(a->end - a->pos);
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(a->pos, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		return SLICE_NONE;
	/* vsnprintf() wants a byte for its NUL. */
	p = arena_alloc(a, (size_t)n + 1);
	if (!p)
		return SLICE_NONE;
	if ((size_t)n < room)
		return slice_of(p, (size_t)n);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return slice_of(p, (size_t)n);
}
