#include "base/slab.h"

#include <string.h>

#include "base/mem.h"
#include "base/poison.h"

#define SLAB_CHUNK	(64u * 1024)

/* Stands before each object, while it is handed out and after. */
struct slab_slot {
	union {
		struct slab_chunk *chunk;	/* handed out */
		struct slab_slot *next;		/* free */
	};
	/* The object follows, as aligned as malloc's. */
	char object[] __attribute__((aligned(16)));
};

struct slab_chunk {
	struct cds_list_head node;	/* in partly, if it has room */
	struct slab_slot *free;
	unsigned n_used, n_slots;
	char slots[] __attribute__((aligned(16)));
};

void slab_init(struct slab *s, size_t object_bytes)
{
	s->object_bytes = (object_bytes + 15) & ~(size_t)15;
	s->live = 0;
	CDS_INIT_LIST_HEAD(&s->partly);
}

static struct slab_chunk *chunk_new(struct slab *s)
{
	size_t slot = sizeof(struct slab_slot) + s->object_bytes;
	struct slab_chunk *c = mem_alloc(SLAB_CHUNK);

	if (!c)
		return NULL;
	c->free = NULL;
	c->n_used = 0;
	c->n_slots = (unsigned)((SLAB_CHUNK - sizeof(*c)) / slot);
	for (unsigned i = c->n_slots; i-- > 0;) {
		struct slab_slot *t =
			(struct slab_slot *)(void *)(c->slots + i * slot);

		t->next = c->free;
		c->free = t;
		POISON(t->object, s->object_bytes);
	}
	cds_list_add(&c->node, &s->partly);
	return c;
}

void *slab_alloc(struct slab *s)
{
	struct slab_chunk *c;
	struct slab_slot *t;

	if (cds_list_empty(&s->partly))
		c = chunk_new(s);
	else
		c = cds_list_first_entry(&s->partly, struct slab_chunk, node);
	if (!c)
		return NULL;
	t = c->free;
	c->free = t->next;
	t->chunk = c;
	c->n_used++;
	s->live++;
	if (!c->free)
		list_take(&c->node);
	UNPOISON(t->object, s->object_bytes);
	return memset(t->object, 0, s->object_bytes);
}

void slab_free(struct slab *s, void *object)
{
	struct slab_slot *t = container_of(object, struct slab_slot, object);
	struct slab_chunk *c = t->chunk;

	if (!c->free)
		cds_list_add(&c->node, &s->partly);
	t->next = c->free;
	c->free = t;
	s->live--;
	POISON(object, s->object_bytes);
	if (--c->n_used == 0) {
		UNPOISON(c, SLAB_CHUNK);
		cds_list_del(&c->node);
		mem_free(c);
	}
}
