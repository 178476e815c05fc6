/*
 * An out-queue: bytes on their way to a socket, as a list of segments, each a
 * referenced piece of a block. Encoders and head writers append to it; a
 * stream sends it. It never points into an arena: an exchange may die under a
 * half-sent frame and the queue still finishes it.
 *
 * Small writes gather in a tail block, of the queue's own or one that it shares
 * with others (block_share()):
 *	char *p = outq_reserve(q, n);	// n contiguous bytes, or NULL
 *	... write up to n bytes, and nothing to another queue ...
 *	outq_commit(q, written);
 */
#ifndef BASE_OUTQ_H
#define BASE_OUTQ_H

#include "base/block.h"

struct iovec;

struct outq {
	struct block_pool *pool;
	struct oseg *first, *last;
	/*
	 * The block that outq_reserve() writes into (one reference held), or
	 * NULL. Its bytes up to ->used are in segments already.
	 */
	struct block *tail;
	size_t bytes;
	unsigned n_segs;
	uint8_t kind;		/* enum block_kind, if it shares */
	bool shares;
};

void outq_init(struct outq *q, struct block_pool *pool);
/* For a queue that little is written to at a time; of those that have much a
 * tail of their own keeps it together. */
void outq_share(struct outq *q, enum block_kind kind);
/* Drops all segments and the tail block. */
void outq_clear(struct outq *q);

/* Room for n contiguous bytes; NULL when memory is out. Nothing is queued. */
char *outq_reserve(struct outq *q, size_t n) MUST_CHECK;
/* Queues the first n bytes of the last reservation. False: no memory, and
 * nothing was queued. */
bool outq_commit(struct outq *q, size_t n) MUST_CHECK;
/* Copies n bytes in. False: no memory, nothing queued. */
bool outq_copy(struct outq *q, const void *p, size_t n) MUST_CHECK;
/* Queues a piece of a block, taking a reference of its own. block may be NULL
 * for static bytes. */
bool outq_ref(struct outq *q, struct block *block, const char *p, size_t n)
	MUST_CHECK;
/* Moves all segments of `from` to the end of `q`. Same pool. Cannot fail. */
void outq_move(struct outq *q, struct outq *from);
/* Moves the first n bytes (n <= from->bytes) to the end of `to`. Same pool.
 * False: no memory, some may have moved. */
bool outq_take(struct outq *to, struct outq *from, size_t n) MUST_CHECK;
/* Fills at most `max` iovecs with the front of the queue; returns how many. */
int outq_iov(const struct outq *q, struct iovec *iov, int max);
/* Drops n bytes (n <= q->bytes) from the front: they were sent. */
void outq_consume(struct outq *q, size_t n);

static inline bool outq_empty(const struct outq *q)
{
	return q->bytes == 0;
}

#endif
