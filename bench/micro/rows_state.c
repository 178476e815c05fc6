/* Rows 1 to 3 and 9 to 11: tables, flags, clocks, counters. */
#include "micro.h"

#include <stdio.h>
#include <time.h>

#include "agent/internal.h"
#include "base/mem.h"
#include "net/sock.h"

/* ---- 1: agents by name ------------------------------------------------------------ */

struct table_state {
	struct agent_table *table;
	struct str key;
};

static struct agent *make_agent(struct metrics *m, const char *name)
{
	static const char *socket = "/nonexistent";
	struct config_agent c = {
		.name = name, .sockets = &socket, .n_sockets = 1,
		.connections = 1, .max_connections = 1, .depth = 32,
		.queue = 32,
	};
	struct agent *a = agent_new(&c, 1, m);

	if (!a)
		abort();
	return a;
}

static void *setup_table(size_t count)
{
	struct table_state *s = mem_zalloc(sizeof(*s));
	struct metrics *m = metrics_new(1);
	char name[32];

	s->table = agent_table_new();
	for (size_t i = 0; i < count; i++) {
		struct agent *a;

		snprintf(name, sizeof(name), "agent-%zu", i);
		a = make_agent(m, name);
		if (!agent_table_add(s->table, a))
			abort();
		agent_put(a);
	}
	snprintf(name, sizeof(name), "agent-%zu", count / 2);
	s->key = str_new(slice_of(name, strlen(name) + 1));
	return s;
}

/* A counted reference is taken and given back. */
static void lookup_same(void *state, uint64_t n)
{
	struct table_state *s = state;

	while (n--) {
		const char *name = s->key.p;
		struct agent *a;

		OPAQUE(name);
		rcu_enter();
		a = agent_get(agent_table_find_rcu(s->table, name));
		rcu_leave();
		KEEP(a);
		agent_put(a);
	}
}

/* Valid until the read section is left: no count is touched. */
static void lookup_design(void *state, uint64_t n)
{
	struct table_state *s = state;

	while (n--) {
		const char *name = s->key.p;
		struct agent *a;

		OPAQUE(name);
		rcu_enter();
		a = agent_table_find_rcu(s->table, name);
		KEEP(a);
		rcu_leave();
	}
}

/* ---- the same from threads, with a writer ------------------------------------------ */

struct threads {
	struct table_state *table;
	struct agent *extra;
	unsigned readers;
	bool stop;
	uint64_t n;
};

static void *setup_threads(size_t readers)
{
	struct threads *t = mem_zalloc(sizeof(*t));

	t->table = setup_table(100);
	t->extra = make_agent(metrics_new(1), "agent-extra");
	t->readers = (unsigned)readers;
	return t;
}

static void *writer(void *arg)
{
	struct threads *t = arg;
	const struct timespec pause = { 0, 100000 };

	rcu_worker_online();
	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		if (!agent_table_add(t->table->table, t->extra))
			abort();
		agent_table_remove(t->table->table, t->extra);
		nanosleep(&pause, NULL);
	}
	rcu_worker_offline();
	return NULL;
}

static void *reader(void *arg)
{
	struct threads *t = arg;

	pin_to(0);
	rcu_worker_online();
	lookup_same(t->table, t->n);
	rcu_worker_offline();
	return NULL;
}

/* Time per look-up of each thread. */
static void lookup_threads(void *state, uint64_t n)
{
	struct threads *t = state;
	pthread_t w, r;

	if (n < 1000) {
		lookup_same(t->table, n);
		return;
	}
	t->stop = false;
	t->n = n;
	pthread_create(&w, NULL, writer, t);
	if (t->readers > 1)
		pthread_create(&r, NULL, reader, t);
	lookup_same(t->table, n);
	if (t->readers > 1)
		pthread_join(r, NULL);
	__atomic_store_n(&t->stop, true, __ATOMIC_RELAXED);
	pthread_join(w, NULL);
}

/* ---- 2, 3, 9: one word ------------------------------------------------------------- */

struct words {
	bool healthy;
	uint64_t base_us, last_us;
	uint64_t atomic;
	struct counter counter;
	uint64_t v;
	uint64_t buckets[9];
	struct histogram histogram;
	struct loop loop;
};

static void *setup_words(size_t arg)
{
	struct words *w = mem_zalloc(sizeof(*w));

	w->healthy = true;
	w->base_us = sock_clock_us();
	w->loop.now_us = w->base_us;
	return w;
}

#define EACH(w)								\
	for (struct words *w = state; n--; )

static void flag_read(void *state, uint64_t n)
{
	EACH(w) {
		bool v;

		OPAQUE(w);
		v = __atomic_load_n(&w->healthy, __ATOMIC_RELAXED);
		KEEP(v);
	}
}

static void flag_write(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		__atomic_store_n(&w->healthy, true, __ATOMIC_RELAXED);
	}
}

static void touch_same(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		__atomic_store_n(&w->last_us,
				 (sock_clock_us() - w->base_us) / 1000,
				 __ATOMIC_RELAXED);
	}
}

/* The time of this turn of the loop. */
static void touch_design(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		w->last_us = w->loop.now_us;
	}
}

static void when_same(void *state, uint64_t n)
{
	EACH(w) {
		uint64_t v;

		OPAQUE(w);
		v = w->base_us +
		    1000 * __atomic_load_n(&w->last_us, __ATOMIC_RELAXED);
		KEEP(v);
	}
}

static void when_design(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		KEEP(w->last_us);
	}
}

static void count_same(void *state, uint64_t n)
{
	EACH(w) {
		uint64_t v;

		OPAQUE(w);
		v = __atomic_fetch_add(&w->atomic, 1, __ATOMIC_RELAXED);
		KEEP(v);
	}
}

static void count_design(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		counter_inc(&w->counter);
	}
}

static void count_read(void *state, uint64_t n)
{
	EACH(w) {
		uint64_t v;

		OPAQUE(w);
		v = counter_read(&w->counter);
		KEEP(v);
	}
}

static void histogram_same(void *state, uint64_t n)
{
	static const uint64_t bounds[9] = {
		10, 50, 100, 250, 500, 1000, 2500, 5000, 10000,
	};

	EACH(w) {
		const uint64_t *b = bounds;
		unsigned i;

		OPAQUE(w);
		OPAQUE(b);
		w->v = (w->v + 37) % 15000;
		for (i = 0; i < 8; i++)
			if (w->v <= b[i])
				break;
		__atomic_fetch_add(&w->buckets[i], 1, __ATOMIC_RELAXED);
	}
}

static void histogram_design(void *state, uint64_t n)
{
	EACH(w) {
		OPAQUE(w);
		w->v = (w->v + 37) % 15000;
		histogram_add(&w->histogram, w->v);
	}
}

/* ---- 10: which connection has this exchange ------------------------------------------ */

struct affinity {
	struct shards *map;
	struct str hit, miss, fresh;
	struct shared_str *conn;
	/* The proxy's: the session knows its link, the link its entries. */
	struct agent_session with, without;
	struct fifo fifo;
	char id[EVENT_ID_LEN];
};

static struct str numbered(const char *format, size_t i)
{
	char text[32];

	snprintf(text, sizeof(text), format, i);
	return str_new(slice_str(text));
}

static void *setup_affinity(size_t count)
{
	struct affinity *a = mem_zalloc(sizeof(*a));

	a->map = shards_new();
	for (size_t i = 0; i < count; i++) {
		char conn[16];

		snprintf(conn, sizeof(conn), "conn-%zu", i % 4);
		shards_insert(a->map, numbered("corr-%zu", i),
			      shared_new(slice_str(conn)));
	}
	a->hit = numbered("corr-%zu", count / 2);
	a->miss = numbered("corr-%zu", count + 1);
	a->fresh = numbered("new-corr-%zu", count);
	a->conn = shared_new(SLICE("conn-0"));
	a->with.link = (struct link *)a;
	memcpy(a->id, "0123456789abcdef0123456789abcdef", EVENT_ID_LEN);
	return a;
}

static void find_same(struct affinity *a, const struct str *which, uint64_t n)
{
	while (n--) {
		struct slice key = str_slice(which);
		struct shard *guard;
		struct map_entry *e;

		OPAQUE(key.p);
		e = shards_read(a->map, key, &guard);
		KEEP(e);
		if (e)
			shard_unread(guard);
	}
}

static void hit_same(void *state, uint64_t n)
{
	struct affinity *a = state;

	find_same(a, &a->hit, n);
}

static void miss_same(void *state, uint64_t n)
{
	struct affinity *a = state;

	find_same(a, &a->miss, n);
}

static void session_design(const struct agent_session *s, uint64_t n)
{
	while (n--) {
		bool pinned;

		OPAQUE(s);
		pinned = s->link != NULL;
		KEEP(pinned);
	}
}

static void hit_design(void *state, uint64_t n)
{
	session_design(&((struct affinity *)state)->with, n);
}

static void miss_design(void *state, uint64_t n)
{
	session_design(&((struct affinity *)state)->without, n);
}

static void insert_same(void *state, uint64_t n)
{
	struct affinity *a = state;

	while (n--) {
		struct slice key = str_slice(&a->fresh);

		OPAQUE(key.p);
		shards_insert(a->map, str_new(key), shared_get(a->conn));
		KEEP(a->map);
		if (!shards_remove(a->map, key))
			abort();
	}
}

/* An event goes out and its reply is matched by order and by id. */
static void fifo_pass(struct fifo *f, const char *id)
{
	struct entry *e;

	if (!fifo_reserve(f))
		abort();
	e = fifo_push(f);
	*e = (struct entry){ .owner = (struct agent_call *)f,
			     .type = EVENT_REQUEST_HEAD };
	memcpy(e->id, id, EVENT_ID_LEN);
	KEEP(e);
	e = fifo_head(f);
	if (!e || memcmp(e->id, id, EVENT_ID_LEN))
		abort();
	fifo_remove(f, e);
}

static void insert_design(void *state, uint64_t n)
{
	struct affinity *a = state;

	while (n--) {
		const char *id = a->id;

		OPAQUE(id);
		fifo_pass(&a->fifo, id);
	}
}

/* ---- 11: bookkeeping of one event ------------------------------------------------------ */

struct path {
	struct shards *agents, *affinity;
	bool healthy, json;
	uint64_t requests, in_flight;
	struct record record;
	/* The proxy's. */
	struct agent_session session;
	struct counter requests_own, in_flight_own;
	struct fifo fifo;
	struct block_pool blocks;
	struct outq q;
	char id[EVENT_ID_LEN];
};

static void *setup_path(size_t json)
{
	struct path *p = mem_zalloc(sizeof(*p));

	p->json = json;
	p->healthy = true;
	p->agents = shards_new();
	p->affinity = shards_new();
	shards_insert(p->agents, str_new(SLICE("waf")),
		      shared_new(SLICE("waf-agent")));
	record_from_view(&p->record, &view_small);
	block_pool_init(&p->blocks);
	outq_init(&p->q, &p->blocks);
	p->session.link = (struct link *)p;
	memcpy(p->id, "0123456789abcdef0123456789abcdef", EVENT_ID_LEN);
	return p;
}

static void path_same(void *state, uint64_t n)
{
	struct path *p = state;

	while (n--) {
		struct slice name = SLICE("waf"), id = SLICE("bench-123");
		struct shard *guard = NULL, *other = NULL;
		struct map_entry *agent, *conn;
		size_t size;
		char *payload;
		bool healthy;

		OPAQUE(name.p);
		OPAQUE(id.p);
		agent = shards_read(p->agents, name, &guard);
		conn = shards_read(p->affinity, id, &other);
		KEEP(conn);
		healthy = __atomic_load_n(&p->healthy, __ATOMIC_RELAXED);
		KEEP(healthy);
		__atomic_fetch_add(&p->requests, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&p->in_flight, 1, __ATOMIC_RELAXED);
		payload = record_encode(&p->record, p->json, &size);
		KEEP(payload);
		shards_insert(p->affinity, str_new(id),
			      shared_new(SLICE("conn-0")));
		__atomic_fetch_sub(&p->in_flight, 1, __ATOMIC_RELAXED);
		if (!shards_remove(p->affinity, id))
			abort();
		mem_free(payload);
		if (agent)
			shard_unread(guard);
	}
}

static void path_design(void *state, uint64_t n)
{
	struct path *p = state;

	while (n--) {
		const struct view *v = &view_small;
		const char *id = p->id;
		char *start, *end;
		bool healthy;

		OPAQUE(v);
		OPAQUE(id);
		KEEP(p->session.link);
		healthy = __atomic_load_n(&p->healthy, __ATOMIC_RELAXED);
		KEEP(healthy);
		counter_inc(&p->requests_own);
		counter_inc(&p->in_flight_own);
		start = outq_reserve(&p->q, view_bound(v, p->json));
		end = view_encode(start, v, p->json);
		if (!outq_commit(&p->q, (size_t)(end - start)))
			abort();
		fifo_pass(&p->fifo, id);
		outq_consume(&p->q, p->q.bytes);
		counter_dec(&p->in_flight_own);
	}
}

#define WORD(name, variant, fn)	{ name, variant, setup_words, fn, 0 }
#define LOOKUP(n)							\
	{ "agent_lookup/dashmap/" #n, "same", setup_table, lookup_same, n }, \
	{ "agent_lookup/dashmap/" #n, "design", setup_table,		\
	  lookup_design, n },						\
	{ "agent_lookup/rwlock_hashmap/" #n, "same", setup_table,	\
	  lookup_same, n },						\
	{ "agent_lookup/rwlock_hashmap/" #n, "design", setup_table,	\
	  lookup_design, n }
#define AFFINITY(n)							\
	{ "connection_affinity/lookup_hit/" #n, "same", setup_affinity,	\
	  hit_same, n },						\
	{ "connection_affinity/lookup_hit/" #n, "design",		\
	  setup_affinity, hit_design, n },				\
	{ "connection_affinity/lookup_miss/" #n, "same",		\
	  setup_affinity, miss_same, n },				\
	{ "connection_affinity/lookup_miss/" #n, "design",		\
	  setup_affinity, miss_design, n },				\
	{ "connection_affinity/insert/" #n, "same", setup_affinity,	\
	  insert_same, n },						\
	{ "connection_affinity/insert/" #n, "design", setup_affinity,	\
	  insert_design, n }

const struct row rows_state[] = {
	LOOKUP(1), LOOKUP(10), LOOKUP(100), LOOKUP(1000),
	WORD("health_cache/atomic_read", "same", flag_read),
	WORD("health_cache/rwlock_read", "design", flag_read),
	WORD("health_cache/atomic_write", "same", flag_write),
	WORD("health_cache/rwlock_write", "design", flag_write),
	WORD("timestamp_tracking/atomic_touch", "same", touch_same),
	WORD("timestamp_tracking/atomic_touch", "design", touch_design),
	WORD("timestamp_tracking/rwlock_touch", "design", touch_design),
	WORD("timestamp_tracking/atomic_read", "same", when_same),
	WORD("timestamp_tracking/atomic_read", "design", when_design),
	WORD("timestamp_tracking/rwlock_read", "design", when_design),
	WORD("protocol_metrics/counter_increment", "same", count_same),
	WORD("protocol_metrics/counter_increment", "design", count_design),
	WORD("protocol_metrics/counter_read", "same", count_read),
	WORD("protocol_metrics/histogram_record", "same", histogram_same),
	WORD("protocol_metrics/histogram_record", "design", histogram_design),
	AFFINITY(10), AFFINITY(100), AFFINITY(1000), AFFINITY(10000),
	{ "full_request_path/json_path", "same", setup_path, path_same, 1 },
	{ "full_request_path/json_path", "design", setup_path, path_design,
	  1 },
	{ "full_request_path/msgpack_path", "same", setup_path, path_same, 0 },
	{ "full_request_path/msgpack_path", "design", setup_path, path_design,
	  0 },
	{ "own/agent_lookup_writer/1_thread", "same", setup_threads,
	  lookup_threads, 1 },
	{ "own/agent_lookup_writer/2_threads", "same", setup_threads,
	  lookup_threads, 2 },
	{ 0 },
};
