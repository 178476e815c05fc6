/* The table of agents: one writer, readers on other threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/internal.h"

#define READERS	3
#define ROUNDS	2000

static struct agent *make(struct metrics *m, const char *name, unsigned depth)
{
	const char *sockets[] = { "/nowhere/s" };
	struct config_agent c = {
		.name = name, .sockets = sockets, .n_sockets = 1,
		.connections = 1, .max_connections = 1, .depth = depth,
		.queue = 8,
	};
	struct agent *a = agent_new(&c, 2, m);

	assert_non_null(a);
	return a;
}

static struct agent *find(struct agent_table *t, const char *name)
{
	struct agent *a;

	rcu_enter();
	a = agent_table_find_rcu(t, name);
	rcu_leave();
	return a;
}

static void collect(struct agent *a, void *arg)
{
	char *names = arg;

	strcat(names, agent_name(a));
	strcat(names, " ");
}

static void test_table(void **state)
{
	struct metrics *m = metrics_new(2);
	struct agent_table *t = agent_table_new();
	struct agent *b = make(m, "b", 1), *a = make(m, "a", 1);
	struct agent *b2 = make(m, "b", 2);
	char names[64] = "";

	assert_true(agent_table_add(t, b));
	assert_true(agent_table_add(t, b));
	assert_true(agent_table_add(t, a));
	assert_ptr_equal(find(t, "b"), b);
	assert_null(find(t, "c"));
	assert_false(agent_same(b, agent_config(b2)));
	assert_true(agent_same(b, agent_config(b)));
	assert_true(agent_table_add(t, b2));
	assert_ptr_equal(find(t, "b"), b2);
	agent_table_remove(t, b);	/* replaced: no effect */
	assert_ptr_equal(find(t, "b"), b2);
	agent_table_each(t, collect, names);
	assert_string_equal(names, "a b ");
	agent_table_remove(t, a);
	assert_null(find(t, "a"));
	agent_put(a);
	agent_put(b);
	agent_put(b2);
	agent_table_free(t);
	rcu_drain();
	metrics_free(m);
}

struct reader {
	pthread_t thread;
	struct agent_table *table;
	bool *stop;
	unsigned long seen;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;

	rcu_worker_online();
	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		struct agent *a;

		rcu_enter();
		a = agent_table_find_rcu(r->table, "waf");
		if (a) {
			/* Anything of it may be read. */
			ASSERT(strcmp(agent_name(a), "waf") == 0);
			r->seen += agent_config(a)->depth;
			r->seen += agent_links_up(a, 0);
		}
		rcu_leave();
	}
	rcu_worker_offline();
	return NULL;
}

static void test_readers(void **state)
{
	struct metrics *m = metrics_new(2);
	struct agent_table *t = agent_table_new();
	struct reader r[READERS];
	bool stop = false;

	for (int i = 0; i < READERS; i++) {
		r[i] = (struct reader){ .table = t, .stop = &stop };
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_on,
						&r[i]), 0);
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct agent *a = make(m, "waf", i + 1);

		assert_true(agent_table_add(t, a));
		if (i % 3 == 0)
			agent_table_remove(t, a);
		agent_put(a);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		pthread_join(r[i].thread, NULL);
	agent_table_free(t);
	rcu_drain();
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_readers),
	};
	int failed;

	rcu_worker_online();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rcu_worker_offline();
	return failed;
}
