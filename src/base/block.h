/*
 * Counted blocks: where received bytes and outgoing bytes live. A block
 * belongs to one worker's pool; its count is not atomic and only that worker
 * touches it. Two pooled sizes, 16 and 64 KiB of data; anything larger comes
 * from malloc and goes back to it. A pool keeps a bounded number of free
 * blocks of each size, last in first out (the warmest first).
 *
 * What is little shares a block with others of its kind, one behind the other:
 * see block_share().
 */
#ifndef BASE_BLOCK_H
#define BASE_BLOCK_H

#include "base/slice.h"

#define BLOCK_SMALL	(16u * 1024)
#define BLOCK_LARGE	(64u * 1024)

struct block_pool;

struct block {
	struct block_pool *pool;
	struct block *next_free;
	uint32_t refs;
	uint32_t size;		/* capacity of data, bytes */
	uint32_t used;		/* bytes written */
	uint32_t class;		/* pool class, or the number of classes */
	char data[];
};

/*
 * A piece of a block. Whoever stores one holds a reference of the block, and
 * says so. block == NULL means static bytes that need none.
 */
struct bslice {
	struct block *block;
	const char *p;
	size_t n;
};

/* One segment of an out-queue; see base/outq.h. */
struct oseg {
	struct oseg *next;
	struct block *block;	/* referenced; NULL for static bytes */
	const char *p;
	size_t n;
};

/* How long bytes that share a block are there: for about a turn, or as long as
 * an exchange. */
enum block_kind { BLOCK_BRIEF, BLOCK_KEPT, BLOCK_KIND_N };

struct block_pool {
	struct block *free[2];
	unsigned n_free[2];
	struct block *shared[BLOCK_KIND_N];	/* no reference; NULL: none */
	struct oseg *free_osegs;
	unsigned n_free_osegs;
	uint64_t live;		/* blocks with a reference, for leak checks */
	uint64_t live_bytes;
};

void block_pool_init(struct block_pool *pool);
/* All blocks must have been put back. */
void block_pool_fini(struct block_pool *pool);

/*
 * A block with room for at least `size` bytes and one reference, used = 0.
 * NULL when memory is out.
 */
struct block *block_new(struct block_pool *pool, size_t size) MUST_CHECK;
/*
 * A reference of the small block that others write into, too: at least `room`
 * bytes (at most BLOCK_SMALL) fit behind ->used, which the writer moves on
 * before anybody else comes. Who wants to add to what he has written can do so
 * as long as nobody has written behind it. NULL when memory is out.
 */
struct block *block_share(struct block_pool *pool, enum block_kind kind,
			  size_t room) MUST_CHECK;
void block_free_(struct block *block);

static inline struct block *block_get(struct block *block)
{
	if (block)
		block->refs++;
	return block;
}

static inline void block_put(struct block *block)
{
	if (block && --block->refs == 0)
		block_free_(block);
}

static inline size_t block_room(const struct block *block)
{
	return block->size - block->used;
}

struct oseg *oseg_new(struct block_pool *pool) MUST_CHECK;
void oseg_free(struct block_pool *pool, struct oseg *seg);

#endif
