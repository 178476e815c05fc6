/* The agents by name: liburcu's lock-free hash table. */
#include <stdlib.h>

#include "agent/internal.h"
#include "base/hash.h"
#include "base/mem.h"
#include "net/sock.h"

/*
 * Few tables, each small: so many buckets (16 bytes each) that a look-up finds
 * its agent as the first of its chain up to a thousand of them. A limit, for
 * then liburcu keeps the buckets in one array.
 */
#define TABLE_BUCKETS	1024
#define TABLE_BUCKETS_MAX	(64 * TABLE_BUCKETS)

struct agent_table {
	struct cds_lfht *ht;
	uint64_t key[2];	/* of the hash: nobody foretells a bucket */
};

static unsigned long table_hash(const struct agent_table *t, const char *name)
{
	return (unsigned long)hash_bytes(t->key, name, strlen(name));
}

static int table_match(struct cds_lfht_node *node, const void *name)
{
	struct agent *a = container_of(node, struct agent, node);

	SYNC_ACQUIRE(a);
	return strcmp(a->config.name, name) == 0;
}

/* liburcu's own loop macro makes a pointer of NULL less an offset. */
static struct agent *iter_agent(struct cds_lfht_iter *iter)
{
	struct cds_lfht_node *node = cds_lfht_iter_get_node(iter);
	struct agent *a;

	if (!node)
		return NULL;
	a = container_of(node, struct agent, node);
	SYNC_ACQUIRE(a);
	return a;
}

static struct agent *table_first(struct agent_table *t,
				 struct cds_lfht_iter *iter)
{
	cds_lfht_first(t->ht, iter);
	return iter_agent(iter);
}

static struct agent *table_next(struct agent_table *t,
				struct cds_lfht_iter *iter)
{
	cds_lfht_next(t->ht, iter);
	return iter_agent(iter);
}

struct agent_table *agent_table_new(void)
{
	struct agent_table *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	sock_random(t->key, sizeof(t->key));
	t->ht = cds_lfht_new(TABLE_BUCKETS, TABLE_BUCKETS, TABLE_BUCKETS_MAX,
			     CDS_LFHT_AUTO_RESIZE, NULL);
	if (!t->ht) {
		mem_free(t);
		return NULL;
	}
	return t;
}

void agent_table_free(struct agent_table *t)
{
	struct cds_lfht_iter iter;
	struct agent *a;

	if (!t)
		return;
	rcu_enter();
	for (a = table_first(t, &iter); a; a = table_next(t, &iter)) {
		cds_lfht_del(t->ht, &a->node);
		agent_put(a);
	}
	rcu_leave();
	/* Only fails if something was left in it. */
	ASSERT(cds_lfht_destroy(t->ht, NULL) == 0);
	mem_free(t);
}

struct agent *agent_table_find_rcu(struct agent_table *t, const char *name)
{
	struct cds_lfht_iter iter;

	cds_lfht_lookup(t->ht, table_hash(t, name), table_match, name, &iter);
	return iter_agent(&iter);
}

bool agent_table_add(struct agent_table *t, struct agent *a)
{
	struct cds_lfht_node *old = NULL;

	rcu_enter();
	if (agent_table_find_rcu(t, a->config.name) != a) {
		agent_get(a);
		cds_lfht_node_init(&a->node);
		SYNC_RELEASE(a);
		old = cds_lfht_add_replace(t->ht,
					   table_hash(t, a->config.name),
					   table_match, a->config.name,
					   &a->node);
	}
	rcu_leave();
	if (old)
		agent_put(container_of(old, struct agent, node));
	return true;
}

void agent_table_remove(struct agent_table *t, struct agent *a)
{
	bool ours;

	rcu_enter();
	ours = agent_table_find_rcu(t, a->config.name) == a;
	if (ours)
		cds_lfht_del(t->ht, &a->node);
	rcu_leave();
	if (ours)
		agent_put(a);
}

static int by_name(const void *x, const void *y)
{
	const struct agent *const *a = x, *const *b = y;

	return strcmp((*a)->config.name, (*b)->config.name);
}

void agent_table_each(struct agent_table *t,
		      void (*fn)(struct agent *a, void *arg), void *arg)
{
	struct agent **all = NULL;
	size_t n = 0, room = 0;
	struct cds_lfht_iter iter;
	struct agent *a;

	rcu_enter();
	for (a = table_first(t, &iter); a; a = table_next(t, &iter)) {
		if (n == room) {
			size_t more = room ? room * 2 : 16;
			struct agent **p = mem_realloc(all,
						       more * sizeof(*p));
			if (!p)
				break;
			all = p;
			room = more;
		}
		all[n++] = agent_get(a);
	}
	rcu_leave();
	if (n)
		qsort(all, n, sizeof(*all), by_name);
	for (size_t i = 0; i < n; i++) {
		fn(all[i], arg);
		agent_put(all[i]);
	}
	mem_free(all);
}
