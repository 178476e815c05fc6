/* The loop: deadlines, tasks and their order, posts from other threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rcu.h"
#include "net/loop.h"

#define MS UINT64_C(1000)
#define MAX 4000

struct item {
	struct deadline d;
	struct loop *loop;
	uint64_t wanted_us;
	unsigned fired;
	struct item *stops;	/* stopped and freed when this one fires */
	bool again;
};

static unsigned n_fired;

static void on_item(struct deadline *d)
{
	struct item *it = container_of(d, struct item, d);

	assert_true(it->loop->now_us >= it->wanted_us);
	assert_false(deadline_running(d));
	it->fired++;
	n_fired++;
	if (it->stops) {
		deadline_stop(&it->stops->d);
		free(it->stops);
		it->stops = NULL;
	}
	if (it->again) {
		it->wanted_us = it->loop->now_us + 3 * MS;
		deadline_start(it->loop, d, 3 * MS, on_item);
	}
}

static void item_start(struct loop *loop, struct item *it, uint64_t us)
{
	it->loop = loop;
	it->wanted_us = loop->now_us + us;
	deadline_start(loop, &it->d, us, on_item);
}

static void turns_until(struct loop *loop, unsigned fired)
{
	uint64_t give_up = loop_clock_us(loop) + 20 * 1000 * MS;

	while (n_fired < fired) {
		assert_true(loop_clock_us(loop) < give_up);
		loop_turn(loop, 100 * MS);
	}
}

static void test_deadlines_fire_in_time(void **state)
{
	struct loop *loop = loop_new(0);
	struct item it[MAX] = { 0 };

	n_fired = 0;
	/* More distinct durations than lists that are kept exact. */
	for (int i = 0; i < MAX; i++)
		item_start(loop, &it[i], 1 + (uint64_t)(i * 37 % MAX) * 25);
	for (int i = 0; i < MAX; i += 2)
		deadline_stop(&it[i].d);
	turns_until(loop, MAX / 2);
	for (int i = 0; i < MAX; i++) {
		assert_int_equal(it[i].fired, i % 2);
		/* At most 2 % or a few milliseconds late. */
		assert_true(it[i].d.at_us - it[i].wanted_us <= 3 * MS);
	}
	loop_free(loop);
}

static void test_deadline_zero_is_never(void **state)
{
	struct loop *loop = loop_new(0);
	struct item it = { 0 };

	item_start(loop, &it, 1000 * MS);
	assert_true(deadline_running(&it.d));
	item_start(loop, &it, 0);
	assert_false(deadline_running(&it.d));
	deadline_stop(&it.d);
	loop_free(loop);
}

static void test_deadline_restart(void **state)
{
	struct loop *loop = loop_new(0);
	struct item it = { 0 };

	n_fired = 0;
	for (int i = 0; i < 10; i++) {
		item_start(loop, &it, 20 * MS);
		loop_turn(loop, 5 * MS);
		assert_int_equal(it.fired, 0);
	}
	turns_until(loop, 1);
	assert_int_equal(it.fired, 1);
	/* And from its own callback. */
	it.again = true;
	item_start(loop, &it, 3 * MS);
	turns_until(loop, 5);
	deadline_stop(&it.d);
	loop_free(loop);
}

static void test_deadline_frees_neighbours(void **state)
{
	struct loop *loop = loop_new(0);
	struct item first = { 0 }, last = { 0 };

	n_fired = 0;
	item_start(loop, &first, 2 * MS);
	first.stops = calloc(1, sizeof(struct item));
	item_start(loop, first.stops, 2 * MS);
	item_start(loop, &last, 2 * MS);
	turns_until(loop, 2);
	assert_int_equal(first.fired, 1);
	assert_int_equal(last.fired, 1);
	loop_free(loop);
}

static bool fails(size_t bytes)
{
	return true;
}

static void test_deadlines_without_memory(void **state)
{
	static const uint64_t us[] = { 900000, 40000, 500000, 1000, 900001 };
	struct loop *loop = loop_new(0);
	struct item it[ARRAY_LEN(us)] = { 0 };

	n_fired = 0;
	mem_fault = fails;
	for (size_t i = 0; i < ARRAY_LEN(us); i++)
		item_start(loop, &it[i], us[i]);
	/* The next due is always first. */
	turns_until(loop, 1);
	assert_int_equal(it[3].fired, 1);
	assert_int_equal(it[0].fired, 0);
	turns_until(loop, 2);
	assert_int_equal(it[1].fired, 1);
	turns_until(loop, ARRAY_LEN(us));
	mem_fault = NULL;
	loop_free(loop);
}

/* Durations that come once and never again leave no memory behind. */
static size_t allocations;

static bool counts(size_t bytes)
{
	allocations++;
	return false;
}

static void test_durations_do_not_pile_up(void **state)
{
	struct loop *loop = loop_new(0);
	struct item it = { 0 };

	mem_fault = counts;
	allocations = 0;
	n_fired = 0;
	for (unsigned i = 0; i < 200; i++) {
		item_start(loop, &it, 200 + i);
		turns_until(loop, i + 1);
	}
	mem_fault = NULL;
	assert_true(allocations < 10);
	loop_free(loop);
}

/* ---- tasks --------------------------------------------------------------- */

struct job {
	struct task t;
	struct loop *loop;
	char name;
	int again;
	struct job *then, *cancels;
	enum { TASK, FLUSH, REAP, NEXT } then_where;
};

static char order[256];
static size_t n_order;

static void on_job(struct task *t);

static void job_put(struct job *j, int where)
{
	if (where == TASK)
		loop_defer(j->loop, &j->t, on_job);
	else if (where == FLUSH)
		loop_defer_flush(j->loop, &j->t, on_job);
	else if (where == REAP)
		loop_defer_reap(j->loop, &j->t, on_job);
	else
		loop_defer_next(j->loop, &j->t, on_job);
}

static void on_job(struct task *t)
{
	struct job *j = container_of(t, struct job, t);

	order[n_order++] = j->name;
	order[n_order] = '\0';
	if (j->cancels)
		task_cancel(&j->cancels->t);
	if (j->then)
		job_put(j->then, (int)j->then_where);
	if (j->again-- > 0)
		job_put(j, TASK);
}

static void test_task_order(void **state)
{
	struct loop *loop = loop_new(0);
	struct job r = { .loop = loop, .name = 'r' };
	struct job f = { .loop = loop, .name = 'f' };
	struct job b = { .loop = loop, .name = 'b' };
	struct job a = { .loop = loop, .name = 'a' };
	struct job n = { .loop = loop, .name = 'n' };
	struct job x = { .loop = loop, .name = 'x' };

	n_order = 0;
	/* a puts b, f puts a task that still runs in this turn. */
	a.then = &b;
	f.then = &n;
	n.then = &x;
	n.then_where = NEXT;
	job_put(&r, REAP);
	job_put(&f, FLUSH);
	job_put(&a, TASK);
	job_put(&a, TASK);
	assert_non_null(arena_alloc(&loop->scratch, 100));
	loop_turn(loop, 0);
	assert_string_equal(order, "abfnr");
	/* x does not wait. */
	loop_turn(loop, 10000 * MS);
	assert_string_equal(order, "abfnrx");
	loop_free(loop);
}

static void test_task_cancel(void **state)
{
	struct loop *loop = loop_new(0);
	struct job a = { .loop = loop, .name = 'a' };
	struct job b = { .loop = loop, .name = 'b' };
	struct job c = { .loop = loop, .name = 'c' };

	n_order = 0;
	a.cancels = &b;
	job_put(&a, TASK);
	job_put(&b, TASK);
	job_put(&c, TASK);
	loop_turn(loop, 0);
	assert_string_equal(order, "ac");
	task_cancel(&b.t);
	loop_free(loop);
}

static void test_endless_tasks_leave_room(void **state)
{
	struct loop *loop = loop_new(0);
	struct job a = { .loop = loop, .name = 'a', .again = 40 };
	struct job f = { .loop = loop, .name = 'f' };

	n_order = 0;
	order[0] = '\0';
	job_put(&a, TASK);
	job_put(&f, FLUSH);
	loop_turn(loop, 0);
	/* The flush had its turn, and not all 41 tasks ran before it. */
	assert_non_null(strchr(order, 'f'));
	assert_true(n_order < 41);
	while (n_order < 42)
		loop_turn(loop, 10000 * MS);
	loop_free(loop);
}

/* ---- descriptors --------------------------------------------------------- */

struct seen {
	struct watch w, *stops;
	unsigned what, calls;
};

static void on_seen(struct watch *w, unsigned what)
{
	struct seen *s = container_of(w, struct seen, w);

	s->what |= what;
	s->calls++;
	if (s->stops)
		watch_stop(s->stops);
}

static void test_watch_edges(void **state)
{
	struct loop *loop = loop_new(0);
	struct seen s = { 0 };
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				    fd), 0);
	assert_true(watch_start(loop, &s.w, fd[0], on_seen));
	loop_turn(loop, 100 * MS);
	assert_int_equal(s.what, WATCH_WRITE);
	s.what = s.calls = 0;
	loop_turn(loop, 1 * MS);
	assert_int_equal(s.calls, 0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	loop_turn(loop, 100 * MS);
	assert_true(s.what & WATCH_READ);
	s.what = s.calls = 0;
	loop_turn(loop, 1 * MS);
	assert_int_equal(s.calls, 0);
	shutdown(fd[1], SHUT_WR);
	loop_turn(loop, 100 * MS);
	assert_true(s.what & WATCH_HUP);
	watch_stop(&s.w);
	watch_stop(&s.w);
	close(fd[0]);
	close(fd[1]);
	loop_free(loop);
}

static void test_watch_quiet(void **state)
{
	struct loop *loop = loop_new(0);
	struct seen s = { 0 };
	int fd[2];
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				    fd), 0);
	assert_true(watch_start_quiet(loop, &s.w, fd[0], on_seen));
	loop_turn(loop, 1 * MS);
	/* The peer takes what we sent, and we are not woken. */
	assert_int_equal(write(fd[0], "x", 1), 1);
	assert_int_equal(read(fd[1], &c, 1), 1);
	loop_turn(loop, 1 * MS);
	assert_int_equal(s.calls, 0);
	assert_true(watch_want_write(&s.w, true));
	loop_turn(loop, 100 * MS);
	assert_int_equal(s.what, WATCH_WRITE);
	assert_true(watch_want_write(&s.w, false));
	s.calls = s.what = 0;
	assert_int_equal(write(fd[0], "x", 1), 1);
	assert_int_equal(read(fd[1], &c, 1), 1);
	loop_turn(loop, 1 * MS);
	assert_int_equal(s.calls, 0);
	close(fd[1]);
	loop_turn(loop, 100 * MS);
	assert_true(s.what & WATCH_HUP);
	watch_stop(&s.w);
	close(fd[0]);
	loop_free(loop);
}

/* Two are ready at once and the first stops the second. */
static void test_watch_stop_another(void **state)
{
	struct loop *loop = loop_new(0);
	struct seen a = { 0 }, b = { 0 };
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				    fd), 0);
	a.stops = &b.w;
	b.stops = &a.w;
	assert_true(watch_start(loop, &a.w, fd[0], on_seen));
	assert_true(watch_start(loop, &b.w, fd[1], on_seen));
	loop_turn(loop, 100 * MS);
	loop_turn(loop, 1 * MS);
	assert_int_equal(a.calls + b.calls, 1);
	watch_stop(&a.w);
	watch_stop(&b.w);
	close(fd[0]);
	close(fd[1]);
	loop_free(loop);
}

/* ---- posts --------------------------------------------------------------- */

#define POSTERS 3
#define POSTS 3000

struct mail {
	struct post p;
	unsigned from, n;
};

struct poster {
	pthread_t thread;
	struct loop *loop;
	unsigned index;
	struct mail *mail;
};

static unsigned next_mail[POSTERS], n_mail;

static void on_mail(struct loop *loop, struct post *p)
{
	struct mail *m = container_of(p, struct mail, p);

	assert_int_equal(m->n, next_mail[m->from]);
	next_mail[m->from]++;
	m->n = UINT32_MAX;
	if (++n_mail == POSTERS * POSTS)
		loop_stop(loop);
}

static void *poster_main(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		p->mail[i].from = p->index;
		p->mail[i].n = i;
		loop_post(p->loop, &p->mail[i].p, on_mail);
		if (i % 100 == 0)
			usleep(10);
	}
	return NULL;
}

static void test_posts(void **state)
{
	struct loop *loop = loop_new(0);
	struct poster p[POSTERS];

	n_mail = 0;
	for (unsigned i = 0; i < POSTERS; i++) {
		p[i] = (struct poster){ .loop = loop, .index = i };
		p[i].mail = calloc(POSTS, sizeof(struct mail));
		assert_int_equal(pthread_create(&p[i].thread, NULL,
						poster_main, &p[i]), 0);
	}
	loop_run(loop);
	assert_int_equal(n_mail, POSTERS * POSTS);
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		free(p[i].mail);
	}
	loop_free(loop);
}

static void *stopper_main(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void test_stop(void **state)
{
	struct loop *loop = loop_new(0);
	pthread_t thread;

	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&thread, NULL, stopper_main,
						loop), 0);
		loop_run(loop);
		pthread_join(thread, NULL);
	}
	assert_int_equal(strlen(loop->http_date), TIMEFMT_HTTP_DATE);
	loop_free(loop);
}

/* ---- rcu ----------------------------------------------------------------- */

struct shared {
	struct rcu_head head;
	int value;
};

static struct shared *current;
static int stop_reading;

static void free_shared(struct rcu_head *head)
{
	struct shared *s = caa_container_of(head, struct shared, head);

	s->value = -1;
	free(s);
}

static void *reader_main(void *arg)
{
	rcu_worker_online();
	while (!__atomic_load_n(&stop_reading, __ATOMIC_ACQUIRE)) {
		rcu_enter();
		assert_true(rcu_fetch(&current)->value > 0);
		rcu_leave();
	}
	rcu_worker_offline();
	return NULL;
}

static void test_rcu(void **state)
{
	pthread_t thread;

	current = calloc(1, sizeof(*current));
	current->value = 1;
	pthread_create(&thread, NULL, reader_main, NULL);
	for (int i = 2; i < 300; i++) {
		struct shared *new = calloc(1, sizeof(*new)), *old = current;

		new->value = i;
		rcu_publish(&current, new);
		rcu_defer(&old->head, free_shared);
	}
	__atomic_store_n(&stop_reading, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	rcu_drain();
	free(current);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadlines_fire_in_time),
		cmocka_unit_test(test_deadline_zero_is_never),
		cmocka_unit_test(test_deadline_restart),
		cmocka_unit_test(test_deadline_frees_neighbours),
		cmocka_unit_test(test_deadlines_without_memory),
		cmocka_unit_test(test_durations_do_not_pile_up),
		cmocka_unit_test(test_task_order),
		cmocka_unit_test(test_task_cancel),
		cmocka_unit_test(test_endless_tasks_leave_room),
		cmocka_unit_test(test_watch_edges),
		cmocka_unit_test(test_watch_quiet),
		cmocka_unit_test(test_watch_stop_another),
		cmocka_unit_test(test_posts),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_rcu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
