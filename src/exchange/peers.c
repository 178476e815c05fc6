/*
 * How many connections a client has, over all workers: two counters that its
 * address selects, of which the lesser is nearer to the truth. Others may add
 * to both, seldom and never for long; nothing is allocated, nothing can grow.
 */
#include "base/hash.h"
#include "exchange/exchange.h"

/* Of IPv6 the network: a single client has all the addresses in it. */
static uint64_t hash_peer(const struct worker_listener *l,
			  const struct net_peer *peer)
{
	char key[24] = { (char)peer->family };
	size_t n = peer->family == AF_INET ? 4 : 8;

	memcpy(key + 1, peer->ip, n);
	memcpy(key + 1 + n, &l->name_hash, sizeof(l->name_hash));
	return hash_bytes(l->worker->shared->peer_key, key,
			  1 + n + sizeof(l->name_hash));
}

static uint32_t *slot(struct shared *s, unsigned row, uint64_t hash)
{
	return &s->peers[row][(hash >> (row * 32)) % PEER_SLOTS];
}

void peers_init(struct shared *s)
{
	sock_random(s->peer_key, sizeof(s->peer_key));
}

void connection_count(struct worker_listener *l, const struct net_peer *peer,
		      bool up)
{
	struct shared *s = l->worker->shared;
	uint64_t hash;

	l->n_open += up ? 1u : -1u;
	counter_add(&l->metrics->connections, up ? 1 : (uint64_t)-1);
	if (peer->family == AF_UNIX)
		return;
	hash = hash_peer(l, peer);
	for (unsigned row = 0; row < 2; row++)
		__atomic_add_fetch(slot(s, row, hash), up ? 1u : -1u,
				   __ATOMIC_RELAXED);
}

bool peers_over(struct worker_listener *l, const struct net_peer *peer)
{
	unsigned limit = l->config->config->max_connections_per_client;
	struct shared *s = l->worker->shared;
	struct forward_peer fp;
	uint64_t hash;
	uint32_t a, b;

	if (LIKELY(limit == 0) || peer->family == AF_UNIX)
		return false;
	hash = hash_peer(l, peer);
	a = __atomic_load_n(slot(s, 0, hash), __ATOMIC_RELAXED);
	b = __atomic_load_n(slot(s, 1, hash), __ATOMIC_RELAXED);
	if (a < limit || b < limit)
		return false;
	/* Behind a trusted proxy stand many. */
	forward_peer_init(&fp, peer, l->config->config);
	return !fp.trusted;
}
