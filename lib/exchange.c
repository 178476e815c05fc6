#include <stdlib.h>

#include "base/hash.h"
#include "internal.h"

#define SLOTS_MIN	16u
#define EXCHANGES_MAX	(1u << 20)	/* of a link */

struct exchange {
	struct exchange *next;
	void *data;
	size_t n;
	char id[];
};

static struct exchange **find(const struct exchanges *x, const uint64_t key[2],
			      struct slice id)
{
	uint64_t h = hash_bytes(key, id.p, id.n);
	struct exchange **at = &x->slots[h & (x->n_slots - 1)];

	while (*at && ((*at)->n != id.n || memcmp((*at)->id, id.p, id.n)))
		at = &(*at)->next;
	return at;
}

void *exchanges_get(const struct exchanges *x, const uint64_t key[2],
		    struct slice id)
{
	struct exchange *e = x->n ? *find(x, key, id) : NULL;

	return e ? e->data : NULL;
}

/* Twice as many slots; without memory the chains just get longer. */
static bool grow(struct exchanges *x, const uint64_t key[2])
{
	struct exchanges old = *x;

	x->n_slots = old.n_slots ? 2 * old.n_slots : SLOTS_MIN;
	x->slots = calloc(x->n_slots, sizeof(*x->slots));
	if (!x->slots) {
		*x = old;
		return old.n_slots;
	}
	for (unsigned i = 0; i < old.n_slots; i++) {
		struct exchange *e, **at;

		while ((e = old.slots[i])) {
			old.slots[i] = e->next;
			at = find(x, key, slice_of(e->id, e->n));
			e->next = NULL;
			*at = e;
		}
	}
	free(old.slots);
	return true;
}

bool exchanges_put(struct exchanges *x, const uint64_t key[2],
		   struct slice id, void *data)
{
	struct exchange **at, *e;

	if (x->n >= x->n_slots && !grow(x, key))
		return false;
	at = find(x, key, id);
	e = *at;
	if (!e) {
		e = x->n < EXCHANGES_MAX ? malloc(sizeof(*e) + id.n) : NULL;
		if (!e)
			return false;
		e->next = NULL;
		e->n = id.n;
		memcpy(e->id, id.p, id.n);
		*at = e;
		x->n++;
	}
	e->data = data;
	return true;
}

void exchanges_drop(struct exchanges *x, const uint64_t key[2],
		    struct slice id)
{
	struct exchange **at = x->n ? find(x, key, id) : NULL, *e;

	if (!at || !*at)
		return;
	e = *at;
	*at = e->next;
	x->n--;
	free(e);
}

void exchanges_fini(struct exchanges *x, struct agentproxy *a)
{
	for (unsigned i = 0; i < x->n_slots; i++) {
		struct exchange *e;

		while ((e = x->slots[i])) {
			x->slots[i] = e->next;
			if (a->on_end)
				a->on_end(a->user, e->data);
			free(e);
		}
	}
	free(x->slots);
	*x = (struct exchanges){ 0 };
}
