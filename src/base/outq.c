/* Out-queues; see outq.h. */
#include "base/outq.h"

#include <sys/uio.h>

#define SHARE_MAX	2048u	/* for more a queue takes a block of its own */

void outq_init(struct outq *q, struct block_pool *pool)
{
	*q = (struct outq){ .pool = pool };
}

void outq_share(struct outq *q, enum block_kind kind)
{
	q->shares = true;
	q->kind = (uint8_t)kind;
}

static void outq_drop_tail(struct outq *q)
{
	block_put(q->tail);
	q->tail = NULL;
}

static void outq_drop_first(struct outq *q)
{
	struct oseg *seg = q->first;

	q->first = seg->next;
	if (!q->first)
		q->last = NULL;
	q->n_segs--;
	block_put(seg->block);
	oseg_free(q->pool, seg);
}

void outq_clear(struct outq *q)
{
	while (q->first)
		outq_drop_first(q);
	q->bytes = 0;
	outq_drop_tail(q);
}

/*
 * Queues [p, p+n) of block; the segment takes its own reference. Bytes that
 * follow the last segment's are added to it, which needs no memory.
 */
static bool outq_append(struct outq *q, struct block *block, const char *p,
			size_t n)
{
	struct oseg *seg = q->last;

	if (seg && block && seg->block == block && seg->p + seg->n == p) {
		seg->n += n;
		q->bytes += n;
		return true;
	}
	seg = oseg_new(q->pool);
	if (!seg)
		return false;
	seg->next = NULL;
	seg->block = block_get(block);
	seg->p = p;
	seg->n = n;
	if (q->last)
		q->last->next = seg;
	else
		q->first = seg;
	q->last = seg;
	q->n_segs++;
	q->bytes += n;
	return true;
}

char *outq_reserve(struct outq *q, size_t n)
{
	struct block *b = q->tail;

	if (UNLIKELY(!b || block_room(b) < n)) {
		b = q->shares && n <= SHARE_MAX ?
			block_share(q->pool, (enum block_kind)q->kind, n) :
			block_new(q->pool, n);
		if (!b)
			return NULL;
		outq_drop_tail(q);
		q->tail = b;
	}
	return b->data + b->used;
}

bool outq_commit(struct outq *q, size_t n)
{
	struct block *b = q->tail;

	if (n == 0)
		return true;
	ASSERT(b && n <= block_room(b));
	if (!outq_append(q, b, b->data + b->used, n))
		return false;
	b->used += (uint32_t)n;
	return true;
}

bool outq_copy(struct outq *q, const void *p, size_t n)
{
	char *to;

	if (n == 0)
		return true;
	to = outq_reserve(q, n);
	if (!to)
		return false;
	memcpy(to, p, n);
	return outq_commit(q, n);
}

bool outq_ref(struct outq *q, struct block *block, const char *p, size_t n)
{
	if (n == 0)
		return true;
	return outq_append(q, block, p, n);
}

void outq_move(struct outq *q, struct outq *from)
{
	ASSERT(q->pool == from->pool && q != from);
	if (from->first) {
		if (q->last)
			q->last->next = from->first;
		else
			q->first = from->first;
		q->last = from->last;
		q->n_segs += from->n_segs;
		q->bytes += from->bytes;
		from->first = from->last = NULL;
		from->n_segs = 0;
		from->bytes = 0;
	}
	/* Of two half-filled blocks the one that was written last goes on. */
	if (from->tail) {
		outq_drop_tail(q);
		q->tail = from->tail;
		from->tail = NULL;
	}
}

int outq_iov(const struct outq *q, struct iovec *iov, int max)
{
	int n = 0;

	for (const struct oseg *s = q->first; s && n < max; s = s->next, n++) {
		iov[n].iov_base = (void *)(uintptr_t)s->p;
		iov[n].iov_len = s->n;
	}
	return n;
}

void outq_consume(struct outq *q, size_t n)
{
	ASSERT(n <= q->bytes);
	q->bytes -= n;
	while (n) {
		struct oseg *seg = q->first;

		if (n < seg->n) {
			seg->p += n;
			seg->n -= n;
			return;
		}
		n -= seg->n;
		outq_drop_first(q);
	}
	/* An idle queue holds no memory. */
	if (q->bytes == 0 && q->tail)
		outq_drop_tail(q);
}

bool outq_take(struct outq *to, struct outq *from, size_t n)
{
	if (n == from->bytes) {
		outq_move(to, from);
		return true;
	}
	while (n > 0) {
		struct oseg *seg = from->first;
		size_t part = min_size(seg->n, n);

		if (!outq_ref(to, seg->block, seg->p, part))
			return false;
		outq_consume(from, part);
		n -= part;
	}
	return true;
}
