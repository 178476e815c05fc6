/*
 * Routes by where their path begins, so that a request among a thousand of
 * them looks at a few. Made once per config; immutable.
 *
 * Routes with the same path (or start of one) and the same plain host are one
 * group; those without a host, or with a wildcard, are in groups without. A
 * group is found by a hash alone: that a route really fits is its finder's to
 * see. The routes of a group stand in configured order.
 */
#ifndef CONFIG_ROUTE_INDEX_H
#define CONFIG_ROUTE_INDEX_H

#include "base/arena.h"
#include "base/hash.h"

#define ROUTE_NONE	UINT32_MAX

struct config_route;

struct route_group {
	uint64_t hash;
	uint32_t first, last;		/* ROUTE_NONE: the slot is free */
};

/* What all paths of one length have in common. */
struct route_length {
	uint32_t n;
	char last;			/* their last byte; 0: it differs */
};

struct route_index {
	struct route_length *lengths;	/* that occur, ascending */
	unsigned n_lengths;
	bool hosts;			/* some group has one */
	uint64_t mask;
	struct route_group *slots;
	uint32_t *next;			/* the group's next route, by route */
};

/* In the arena. NULL: no memory. */
const struct route_index *route_index_new(struct arena *a,
	const struct config_route *routes, unsigned n) MUST_CHECK;

/* The hash of a path's first bytes, and of them with a host. */
static inline uint64_t route_hash(const char *path, size_t n)
{
	static const uint64_t key[2] = { 0x8c72b1a4d95e3f07u,
					 0x36f0d8e57ba9c421u };

	return hash_bytes(key, path, n);
}

static inline uint64_t route_hash_host(uint64_t path, uint64_t host)
{
	return path ^ (host * 2 + 1);
}

/* The group's first route, or ROUTE_NONE. */
static inline uint32_t route_index_find(const struct route_index *x,
					uint64_t hash)
{
	uint64_t i = hash & x->mask;

	while (x->slots[i].first != ROUTE_NONE && x->slots[i].hash != hash)
		i = (i + 1) & x->mask;
	return x->slots[i].first;
}

#endif
