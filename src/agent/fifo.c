/* The entries of a link that wait for replies: a growing ring. */
#include "agent/internal.h"
#include "base/mem.h"

bool fifo_grow(struct fifo *f)
{
	uint32_t used = f->tail - f->head;
	uint32_t size = f->ring ? (f->mask + 1) * 2 : 16;
	struct entry *ring;

	if (size > FIFO_MAX)
		return false;
	ring = mem_alloc(size * sizeof(*ring));
	if (!ring)
		return false;
	for (uint32_t i = 0; i < used; i++)
		ring[(f->head + i) & (size - 1)] = *fifo_at(f, f->head + i);
	mem_free(f->ring);
	f->ring = ring;
	f->mask = size - 1;
	return true;
}

void fifo_free(struct fifo *f)
{
	mem_free(f->ring);
	memset(f, 0, sizeof(*f));
}

struct entry *fifo_find(const struct fifo *f, const char *id)
{
	for (uint32_t i = f->head; i != f->tail; i++) {
		struct entry *e = fifo_at(f, i);

		if (!(e->flags & ENTRY_GONE) &&
		    memcmp(e->id, id, EVENT_ID_LEN) == 0)
			return e;
	}
	return NULL;
}

struct entry *fifo_find_go(const struct fifo *f, uint64_t go_id)
{
	for (uint32_t i = f->head; i != f->tail; i++) {
		struct entry *e = fifo_at(f, i);

		if (!(e->flags & ENTRY_GONE) && e->go_id == go_id)
			return e;
	}
	return NULL;
}

void fifo_remove(struct fifo *f, struct entry *e)
{
	f->n--;
	if (e->flags & ENTRY_TOMB)
		f->n_tombs--;
	e->flags |= ENTRY_GONE;
	if (UNLIKELY(e != fifo_at(f, f->head)))
		return;
	do
		f->head++;
	while (f->head != f->tail &&
	       (fifo_at(f, f->head)->flags & ENTRY_GONE));
}
