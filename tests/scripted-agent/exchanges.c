#include "exchanges.h"

#include <stdlib.h>

#define BUCKETS		4096u
#define EXCHANGES_MAX	100000u

struct exchange_table {
	unsigned n;
	struct exchange *bucket[BUCKETS];
};

uint64_t digest_add(uint64_t digest, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		digest = (digest ^ (unsigned char)p[i]) * 0x100000001b3ull;
	return digest;
}

struct exchange_table *exchanges_new(void)
{
	return calloc(1, sizeof(struct exchange_table));
}

void exchanges_free(struct exchange_table *t)
{
	for (unsigned i = 0; t && i < BUCKETS; i++) {
		while (t->bucket[i])
			exchanges_drop(t, t->bucket[i]->id);
	}
	free(t);
}

static struct exchange **find(struct exchange_table *t, const char *id)
{
	uint64_t h = digest_add(DIGEST_INIT, id, EVENT_ID_LEN);
	struct exchange **at = &t->bucket[(h ^ h >> 32) % BUCKETS];

	while (*at && memcmp((*at)->id, id, EVENT_ID_LEN) != 0)
		at = &(*at)->next;
	return at;
}

struct exchange *exchanges_get(struct exchange_table *t, const char *id,
			       bool make)
{
	struct exchange **at = find(t, id), *x = *at;

	if (x || !make || t->n == EXCHANGES_MAX)
		return x;
	x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	memcpy(x->id, id, EVENT_ID_LEN);
	x->bodies[0].digest = x->bodies[1].digest = DIGEST_INIT;
	*at = x;
	t->n++;
	return x;
}

void exchanges_drop(struct exchange_table *t, const char *id)
{
	struct exchange **at = find(t, id), *x = *at;

	if (!x)
		return;
	*at = x->next;
	t->n--;
	free(x);
}
