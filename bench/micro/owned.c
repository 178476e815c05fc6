/* Strings, lists and maps as the reference owns them; see micro.h. */
#include "micro.h"

#include "base/hash.h"
#include "base/mem.h"
#include "net/sock.h"

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

struct str str_new(struct slice s)
{
	struct str new = { must(mem_alloc(s.n)), s.n };

	memcpy(new.p, s.p, s.n);
	return new;
}

void str_free(struct str *s)
{
	mem_free(s->p);
}

void list_push(struct list *l, struct str s)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 1;
		l->items = must(mem_realloc(l->items,
					    l->cap * sizeof(*l->items)));
	}
	l->items[l->n++] = s;
}

void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		str_free(&l->items[i]);
	mem_free(l->items);
}

struct shared_str *shared_new(struct slice s)
{
	struct shared_str *new = must(mem_alloc(sizeof(*new) + s.n));

	new->refs = 1;
	new->n = s.n;
	memcpy(new->p, s.p, s.n);
	return new;
}

void shared_put(struct shared_str *s)
{
	if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_RELEASE) == 0)
		mem_free(s);
}

/* ---- maps ------------------------------------------------------------------ */

void map_init(struct map *m)
{
	static uint64_t key[2];

	/* One draw per thread and then counted on, as the reference does. */
	if (!key[0])
		sock_random(key, sizeof(key));
	key[0]++;
	*m = (struct map){ .key = { key[0], key[1] } };
}

static void index_put(struct map *m, uint64_t hash, size_t number)
{
	size_t i = hash & m->mask;

	while (m->index[i])
		i = (i + 1) & m->mask;
	m->index[i] = (uint16_t)(number + 1);
}

static void map_grow(struct map *m)
{
	size_t slots = m->entries ? (m->mask + 1) * 2 : 4;
	size_t cap = slots < 8 ? slots - 1 : slots / 8 * 7;
	struct map_entry *old = m->entries;

	m->entries = must(mem_alloc(cap * sizeof(*old) +
				    slots * sizeof(*m->index)));
	m->index = (uint16_t *)(void *)(m->entries + cap);
	m->mask = slots - 1;
	m->cap = cap;
	memset(m->index, 0, slots * sizeof(*m->index));
	if (m->n)
		memcpy(m->entries, old, m->n * sizeof(*old));
	mem_free(old);
	for (size_t i = 0; i < m->n; i++)
		index_put(m, m->entries[i].hash, i);
}

static size_t map_slot(const struct map *m, struct slice key, uint64_t hash)
{
	for (size_t i = hash & m->mask;; i = (i + 1) & m->mask) {
		const struct map_entry *e;

		if (!m->index[i])
			return SIZE_MAX;
		e = &m->entries[m->index[i] - 1];
		if (e->hash == hash && slice_eq(str_slice(&e->key), key))
			return i;
	}
}

static struct map_entry *map_find_hashed(const struct map *m, struct slice key,
					 uint64_t hash)
{
	size_t slot = m->n ? map_slot(m, key, hash) : SIZE_MAX;

	return slot == SIZE_MAX ? NULL : &m->entries[m->index[slot] - 1];
}

struct map_entry *map_find(const struct map *m, struct slice key)
{
	return map_find_hashed(m, key, hash_bytes(m->key, key.p, key.n));
}

static struct map_entry *map_add_hashed(struct map *m, struct str key,
					uint64_t hash)
{
	struct map_entry *e;

	if (m->n == m->cap)
		map_grow(m);
	e = &m->entries[m->n];
	index_put(m, hash, m->n++);
	e->hash = hash;
	e->key = key;
	return e;
}

struct map_entry *map_add(struct map *m, struct str key)
{
	return map_add_hashed(m, key, hash_bytes(m->key, key.p, key.n));
}

/* Takes the slot's number out; what stands behind moves up. */
static void index_remove(struct map *m, size_t slot)
{
	size_t next = slot;

	for (;;) {
		size_t home;

		next = (next + 1) & m->mask;
		if (!m->index[next])
			break;
		home = m->entries[m->index[next] - 1].hash & m->mask;
		if (((next - home) & m->mask) < ((next - slot) & m->mask))
			continue;
		m->index[slot] = m->index[next];
		slot = next;
	}
	m->index[slot] = 0;
}

static size_t slot_of(const struct map *m, const struct map_entry *e)
{
	uint16_t number = (uint16_t)(e - m->entries + 1);
	size_t i = e->hash & m->mask;

	while (m->index[i] != number)
		i = (i + 1) & m->mask;
	return i;
}

void map_remove(struct map *m, struct map_entry *e)
{
	struct map_entry *last = &m->entries[m->n - 1];

	str_free(&e->key);
	index_remove(m, slot_of(m, e));
	if (e != last) {
		m->index[slot_of(m, last)] = (uint16_t)(e - m->entries + 1);
		*e = *last;
	}
	m->n--;
}

void map_free_lists(struct map *m)
{
	for (size_t i = 0; i < m->n; i++) {
		str_free(&m->entries[i].key);
		list_free(&m->entries[i].list);
	}
	mem_free(m->entries);
}

/* ---- shards ---------------------------------------------------------------- */

struct shards *shards_new(void)
{
	struct shards *s = must(mem_zalloc_aligned(sizeof(*s)));

	sock_random(s->key, sizeof(s->key));
	for (unsigned i = 0; i < SHARDS; i++)
		memcpy(s->shard[i].map.key, s->key, sizeof(s->key));
	return s;
}

static void lock_read(unsigned *lock)
{
	unsigned v = __atomic_load_n(lock, __ATOMIC_RELAXED);

	do {
		v &= ~1u;
	} while (!__atomic_compare_exchange_n(lock, &v, v + 2, true,
					      __ATOMIC_ACQUIRE,
					      __ATOMIC_RELAXED));
}

static void lock_write(unsigned *lock)
{
	unsigned free_lock = 0;

	while (!__atomic_compare_exchange_n(lock, &free_lock, 1, true,
					    __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED))
		free_lock = 0;
}

static void unlock_write(unsigned *lock)
{
	__atomic_fetch_and(lock, ~1u, __ATOMIC_RELEASE);
}

struct map_entry *shards_read(struct shards *s, struct slice key,
			      struct shard **guard)
{
	uint64_t hash = hash_bytes(s->key, key.p, key.n);
	struct shard *shard = &s->shard[hash >> 32 & (SHARDS - 1)];
	struct map_entry *e;

	lock_read(&shard->lock);
	e = map_find_hashed(&shard->map, key, hash);
	if (!e) {
		shard_unread(shard);
		return NULL;
	}
	*guard = shard;
	return e;
}

void shard_unread(struct shard *guard)
{
	__atomic_fetch_sub(&guard->lock, 2, __ATOMIC_RELEASE);
}

void shards_insert(struct shards *s, struct str key, struct shared_str *v)
{
	uint64_t hash = hash_bytes(s->key, key.p, key.n);
	struct shard *shard = &s->shard[hash >> 32 & (SHARDS - 1)];
	struct map_entry *e;

	lock_write(&shard->lock);
	e = map_find_hashed(&shard->map, str_slice(&key), hash);
	if (e) {
		shared_put(e->shared);
		str_free(&key);
	} else {
		e = map_add_hashed(&shard->map, key, hash);
	}
	e->shared = v;
	unlock_write(&shard->lock);
}

bool shards_remove(struct shards *s, struct slice key)
{
	uint64_t hash = hash_bytes(s->key, key.p, key.n);
	struct shard *shard = &s->shard[hash >> 32 & (SHARDS - 1)];
	struct shared_str *v = NULL;
	struct map_entry *e;

	lock_write(&shard->lock);
	e = map_find_hashed(&shard->map, key, hash);
	if (e) {
		v = e->shared;
		map_remove(&shard->map, e);
	}
	unlock_write(&shard->lock);
	if (v)
		shared_put(v);
	return v;
}
