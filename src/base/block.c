/* Counted blocks and their pools; see block.h. */
#include "base/block.h"

#include "base/mem.h"
#include "base/poison.h"

#define CLASSES		2
#define FREE_OSEGS_MAX	1024	/* 32 KiB */

static const uint32_t class_size[CLASSES] = { BLOCK_SMALL, BLOCK_LARGE };
/* Free blocks kept: 1 MiB of small ones, 4 MiB of large ones. */
static const unsigned class_keep[CLASSES] = { 64, 64 };

void block_pool_init(struct block_pool *pool)
{
	*pool = (struct block_pool){ 0 };
}

void block_pool_fini(struct block_pool *pool)
{
	ASSERT(pool->live == 0);
	for (int i = 0; i < CLASSES; i++) {
		while (pool->free[i]) {
			struct block *b = pool->free[i];

			pool->free[i] = b->next_free;
			UNPOISON(b->data, b->size);
			mem_free(b);
		}
		pool->n_free[i] = 0;
	}
	while (pool->free_osegs) {
		struct oseg *seg = pool->free_osegs;

		pool->free_osegs = seg->next;
		mem_free(seg);
	}
	pool->n_free_osegs = 0;
}

static struct block *block_make(struct block_pool *pool, size_t size,
				uint32_t class)
{
	struct block *b;

	if (size > UINT32_MAX / 2)
		return NULL;
	b = mem_alloc(sizeof(*b) + size);
	if (!b)
		return NULL;
	b->pool = pool;
	b->size = (uint32_t)size;
	b->class = class;
	return b;
}

struct block *block_new(struct block_pool *pool, size_t size)
{
	uint32_t class = size <= BLOCK_SMALL ? 0 : size <= BLOCK_LARGE ? 1 : 2;
	struct block *b = class < CLASSES ? pool->free[class] : NULL;

	if (LIKELY(b != NULL)) {
		pool->free[class] = b->next_free;
		pool->n_free[class]--;
		UNPOISON(b->data, b->size);
	} else {
		b = block_make(pool, class < CLASSES ? class_size[class] : size,
			       class);
		if (!b)
			return NULL;
	}
	b->next_free = NULL;
	b->refs = 1;
	b->used = 0;
	pool->live++;
	pool->live_bytes += b->size;
	return b;
}

struct block *block_share(struct block_pool *pool, enum block_kind kind,
			  size_t room)
{
	struct block *b = pool->shared[kind];

	if (b && LIKELY(block_room(b) >= room))
		return block_get(b);
	b = block_new(pool, BLOCK_SMALL);
	if (b)
		pool->shared[kind] = b;
	return b;
}

void block_free_(struct block *b)
{
	struct block_pool *pool = b->pool;
	uint32_t class = b->class;

	ASSERT(pool->live > 0 && b->refs == 0);
	pool->live--;
	pool->live_bytes -= b->size;
	for (int i = 0; i < BLOCK_KIND_N; i++)
		if (b == pool->shared[i])
			pool->shared[i] = NULL;
	if (class >= CLASSES || pool->n_free[class] >= class_keep[class]) {
		mem_free(b);
		return;
	}
	POISON(b->data, b->size);
	b->next_free = pool->free[class];
	pool->free[class] = b;
	pool->n_free[class]++;
}

struct oseg *oseg_new(struct block_pool *pool)
{
	struct oseg *seg = pool->free_osegs;

	if (LIKELY(seg != NULL)) {
		pool->free_osegs = seg->next;
		pool->n_free_osegs--;
		return seg;
	}
	return mem_alloc(sizeof(*seg));
}

void oseg_free(struct block_pool *pool, struct oseg *seg)
{
	if (pool->n_free_osegs >= FREE_OSEGS_MAX) {
		mem_free(seg);
		return;
	}
	seg->next = pool->free_osegs;
	pool->free_osegs = seg;
	pool->n_free_osegs++;
}
