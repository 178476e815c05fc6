/* Which server gets the next request. Pure but for the worker's own state. */
#include "upstream/internal.h"

#include <math.h>

/* Who may be chosen. Servers that lately failed, or are taken out, are left
 * out in the first round; when none is left, they are better than nothing. */
struct choice {
	uint64_t now_us;
	uint64_t tried;
	bool avoid;
};

static bool eligible(const struct upstream_local *local, unsigned i,
		     const struct choice *c)
{
	const struct upstream_server *s = &local->servers[i];

	if (c->tried & server_bit(i))
		return false;
	return !c->avoid || (s->avoid_until_us <= c->now_us &&
			     !server_is_out(s->info, c->now_us));
}

/* Smooth weighted round robin: everyone gains his weight, the richest is
 * chosen and pays the sum. */
static struct upstream_server *pick_round_robin(struct upstream_local *local,
						const struct choice *c)
{
	struct upstream_server *best = NULL;
	int64_t sum = 0;

	for (unsigned i = 0; i < local->upstream->n_servers; i++) {
		struct upstream_server *s = &local->servers[i];

		if (!eligible(local, i, c))
			continue;
		s->current += s->info->weight;
		sum += s->info->weight;
		if (!best || s->current > best->current)
			best = s;
	}
	if (best)
		best->current -= sum;
	return best;
}

/* Fewest per weight. Ties go round: the search starts behind the last one. */
static struct upstream_server *pick_least(struct upstream_local *local,
					  const struct choice *c)
{
	unsigned n = local->upstream->n_servers;
	struct upstream_server *best = NULL;

	for (unsigned k = 0; k < n; k++) {
		unsigned i = (local->cursor + k) % n;
		struct upstream_server *s = &local->servers[i];

		if (!eligible(local, i, c))
			continue;
		if (!best || (uint64_t)s->active * best->info->weight <
			     (uint64_t)best->active * s->info->weight)
			best = s;
	}
	if (best)
		local->cursor = (server_index(local, best) + 1) % n;
	return best;
}

/* The finaliser of SplitMix64. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/*
 * Weighted rendezvous hashing: each server draws from key and name, the best
 * draw wins. When a server goes, only its own keys move.
 */
static struct upstream_server *pick_hash(struct upstream_local *local,
					 const struct choice *c, uint64_t hash)
{
	struct upstream_server *best = NULL;
	double best_score = 0;

	for (unsigned i = 0; i < local->upstream->n_servers; i++) {
		struct upstream_server *s = &local->servers[i];
		double draw, score;

		if (!eligible(local, i, c))
			continue;
		/* In (0, 1). */
		draw = ((double)(mix(hash ^ s->info->hash) >> 12) + 0.5) /
		       (double)(UINT64_C(1) << 52);
		score = s->info->weight / -log(draw);
		if (!best || score > best_score) {
			best = s;
			best_score = score;
		}
	}
	return best;
}

static struct upstream_server *pick_random(struct upstream_local *local,
					   const struct choice *c)
{
	local->random += UINT64_C(0x9e3779b97f4a7c15);
	return pick_hash(local, c, mix(local->random));
}

static struct upstream_server *pick(struct upstream_local *local,
				    const struct choice *c, uint64_t hash)
{
	switch (local->upstream->balance) {
	case BALANCE_ROUND_ROBIN:
		return pick_round_robin(local, c);
	case BALANCE_LEAST_CONNECTIONS:
		return pick_least(local, c);
	case BALANCE_HASH:
		return pick_hash(local, c, hash);
	case BALANCE_RANDOM:
		return pick_random(local, c);
	}
	return NULL;
}

static uint64_t hash_slice(struct slice s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static struct slice header_value(const struct http_head *head,
				 struct slice name)
{
	for (unsigned i = 0; i < head->n_fields; i++)
		if (slice_eq_icase(field_name(&head->fields[i]), name))
			return field_value(&head->fields[i]);
	return SLICE_NONE;
}

static struct slice path_alone(struct slice path)
{
	const char *query = memchr(path.p, '?', path.n);

	return query ? slice_of(path.p, (size_t)(query - path.p)) : path;
}

uint64_t upstream_hash(const struct upstream *u, const struct http_head *head,
		       struct slice client_ip)
{
	struct slice key = SLICE_NONE;

	if (LIKELY(u->balance != BALANCE_HASH))
		return 0;
	switch (u->hash_key) {
	case HASH_CLIENT:
		break;
	case HASH_PATH:
		key = path_alone(head->path);
		break;
	case HASH_HEADER:
		key = header_value(head, slice_str(u->hash_header));
		break;
	}
	return hash_slice(key.n ? key : client_ip);
}

struct upstream_server *balance_pick(struct upstream_local *local,
				     uint64_t now_us, uint64_t tried,
				     uint64_t hash)
{
	struct choice c = { .now_us = now_us, .tried = tried, .avoid = true };
	struct upstream_server *s;

	if (LIKELY(local->upstream->n_servers == 1))
		return tried ? NULL : local->servers;
	s = pick(local, &c, hash);
	if (!s) {
		c.avoid = false;
		s = pick(local, &c, hash);
	}
	return s;
}
