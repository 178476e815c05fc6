#include "config/route_index.h"

#include "config/model.h"

static struct slice path_of(const struct config_route *r)
{
	return slice_str(r->path ? r->path : r->path_prefix ? r->path_prefix
							    : "");
}

static bool has_plain_host(const struct config_route *r)
{
	return r->host && r->host[0] != '*';
}

/* Keeps the lengths ascending, each once. */
static void add_length(struct route_index *x, struct slice path)
{
	struct route_length new = {
		.n = (uint32_t)path.n,
		.last = path.n ? path.p[path.n - 1] : 0,
	};
	unsigned at = x->n_lengths;

	while (at && x->lengths[at - 1].n > new.n)
		at--;
	if (at && x->lengths[at - 1].n == new.n) {
		if (x->lengths[at - 1].last != new.last)
			x->lengths[at - 1].last = 0;
		return;
	}
	memmove(x->lengths + at + 1, x->lengths + at,
		(x->n_lengths++ - at) * sizeof(*x->lengths));
	x->lengths[at] = new;
}

static void add_route(struct route_index *x, const struct config_route *r,
		      uint32_t number)
{
	struct slice path = path_of(r);
	uint64_t hash = route_hash(path.p, path.n), i;
	struct route_group *g;

	if (has_plain_host(r)) {
		hash = route_hash_host(hash, route_hash(r->host,
							strlen(r->host)));
		x->hosts = true;
	}
	for (i = hash & x->mask;; i = (i + 1) & x->mask) {
		g = &x->slots[i];
		if (g->first == ROUTE_NONE || g->hash == hash)
			break;
	}
	if (g->first == ROUTE_NONE)
		*g = (struct route_group){ hash, number, number };
	else
		x->next[g->last] = number;
	g->last = number;
	x->next[number] = ROUTE_NONE;
	add_length(x, path);
}

const struct route_index *route_index_new(struct arena *a,
	const struct config_route *routes, unsigned n)
{
	struct route_index *x = arena_zalloc(a, sizeof(*x));
	uint64_t slots = 16;

	while (slots < 2 * (uint64_t)n)
		slots *= 2;
	if (!x)
		return NULL;
	x->mask = slots - 1;
	x->slots = arena_alloc(a, slots * sizeof(*x->slots));
	x->next = arena_alloc(a, n * sizeof(*x->next));
	x->lengths = arena_alloc(a, (n + 1) * sizeof(*x->lengths));
	if (!x->slots || !x->next || !x->lengths)
		return NULL;
	for (uint64_t i = 0; i < slots; i++)
		x->slots[i].first = ROUTE_NONE;
	for (unsigned i = 0; i < n; i++)
		add_route(x, &routes[i], i);
	return x;
}
