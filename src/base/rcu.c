/* liburcu behind one header; see rcu.h. */
#include "base/rcu.h"

#include <stdlib.h>

char rcu_sync_point_;

void rcu_worker_online(void)
{
	rcu_register_thread();
}

void rcu_worker_offline(void)
{
	SYNC_RELEASE(&rcu_sync_point_);
	rcu_unregister_thread();
}

#ifdef __SANITIZE_THREAD__

const char *__tsan_default_suppressions(void);

/* What liburcu does with its own memory is ordered by its own barriers. */
const char *__tsan_default_suppressions(void)
{
	return "race:liburcu\n";
}

/* liburcu is not instrumented: a wrapper carries the edges. */
struct deferred {
	struct rcu_head head;
	struct rcu_head *user;
	void (*fn)(struct rcu_head *head);
};

static void on_deferred(struct rcu_head *head)
{
	struct deferred *d = caa_container_of(head, struct deferred, head);

	SYNC_ACQUIRE(d);
	SYNC_ACQUIRE(&rcu_sync_point_);
	d->fn(d->user);
	free(d);
}

void rcu_defer(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	struct deferred *d = malloc(sizeof(*d));

	ASSERT(d);
	d->user = head;
	d->fn = fn;
	SYNC_RELEASE(d);
	call_rcu(&d->head, on_deferred);
}

#else

void rcu_defer(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	call_rcu(head, fn);
}

#endif

void rcu_drain(void)
{
	rcu_barrier();
	SYNC_ACQUIRE(&rcu_sync_point_);
}
