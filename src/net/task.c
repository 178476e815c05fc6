/* Tasks, flushes and reaps; see loop.h and loop_parts.h. */
#include "net/loop_parts.h"

#define ROUNDS_MAX	16	/* of tasks that put tasks there */

void loop_init_public(struct loop *loop, unsigned index)
{
	loop->index = index;
	block_pool_init(&loop->blocks);
	arena_pool_init(&loop->arenas);
	arena_init(&loop->scratch, &loop->arenas);
	CDS_INIT_LIST_HEAD(&loop->tasks);
	CDS_INIT_LIST_HEAD(&loop->later);
	CDS_INIT_LIST_HEAD(&loop->flushes);
	CDS_INIT_LIST_HEAD(&loop->reaps);
}

void loop_fini_public(struct loop *loop)
{
	ASSERT(!loop_has_deferred(loop));
	arena_fini(&loop->scratch);
	arena_pool_fini(&loop->arenas);
	block_pool_fini(&loop->blocks);
}

void loop_begin_turn(struct loop *loop)
{
	if (!cds_list_empty(&loop->later)) {
		cds_list_splice(&loop->later, loop->tasks.prev);
		CDS_INIT_LIST_HEAD(&loop->later);
	}
}

static void defer_to(struct cds_list_head *list, struct task *t, task_fn *fn)
{
	if (list_linked(&t->node))
		return;
	t->fn = fn;
	cds_list_add_tail(&t->node, list);
}

void loop_defer(struct loop *loop, struct task *t, task_fn *fn)
{
	defer_to(&loop->tasks, t, fn);
}

void loop_defer_next(struct loop *loop, struct task *t, task_fn *fn)
{
	defer_to(&loop->later, t, fn);
}

void loop_defer_flush(struct loop *loop, struct task *t, task_fn *fn)
{
	defer_to(&loop->flushes, t, fn);
}

void loop_defer_reap(struct loop *loop, struct task *t, task_fn *fn)
{
	defer_to(&loop->reaps, t, fn);
}

void task_cancel(struct task *t)
{
	if (list_linked(&t->node))
		list_take(&t->node);
}

/* Runs what is in the list now. Any task may be cancelled meanwhile. */
static void run_tasks(struct cds_list_head *list)
{
	CDS_LIST_HEAD(batch);

	cds_list_splice(list, &batch);
	CDS_INIT_LIST_HEAD(list);
	while (!cds_list_empty(&batch)) {
		struct task *t = cds_list_entry(batch.next, struct task, node);

		list_take(&t->node);
		t->fn(t);
	}
}

void loop_run_deferred(struct loop *loop)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		if (!cds_list_empty(&loop->tasks))
			run_tasks(&loop->tasks);
		else if (!cds_list_empty(&loop->flushes))
			run_tasks(&loop->flushes);
		else
			break;
	}
	/* However long tasks go on, what is to be written is written. */
	if (UNLIKELY(!cds_list_empty(&loop->flushes)))
		run_tasks(&loop->flushes);
	while (!cds_list_empty(&loop->reaps))
		run_tasks(&loop->reaps);
	arena_reset(&loop->scratch);
}

bool loop_has_deferred(struct loop *loop)
{
	return !cds_list_empty(&loop->tasks) ||
	       !cds_list_empty(&loop->later) ||
	       !cds_list_empty(&loop->flushes) ||
	       !cds_list_empty(&loop->reaps);
}
