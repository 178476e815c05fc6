#include "daemon/thread.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/control.h"

static struct inbox *inbox_of(struct worker_thread *t)
{
	return &t->control->inbox;
}

/* ---- on the worker's thread --------------------------------------------- */

static bool listen_on_slots(struct worker_thread *t,
			    const struct listen_change *c)
{
	struct worker *w = &t->worker;
	int fd;

	for (unsigned i = 0; (fd = bound_fd(c->bound, w->shared->n_workers,
					    w->index, i)) >= 0; i++)
		if (!worker_listen(w, c->name, fd))
			return false;
	return true;
}

static bool begin_listening(struct worker_thread *t,
			    const struct switch_order *order)
{
	bool ok = true;

	for (unsigned i = 0; i < order->n_begin; i++) {
		const struct listen_change *c = &order->begin[i];

		if (listen_on_slots(t, c))
			continue;
		log_error("listen", "listener=%s worker=%u error=\"no memory\"",
			  c->name, t->worker.index);
		ok = false;
	}
	return ok;
}

static bool open_door(struct worker_thread *t, const struct switch_order *order)
{
	if (t->loop->index > 0 || !order->door_changes)
		return true;
	if (!t->reverse)
		t->reverse = reverse_new(t->loop, t->control->agents,
					 t->worker.metrics);
	if (t->reverse && !order->door)
		reverse_unlisten(t->reverse, true);
	if (t->reverse && (!order->door ||
			   reverse_listen(t->reverse,
					  bound_fd(order->door, 1, 0, 0))))
		return true;
	log_error("listen", "listener=agent_listener error=\"no memory\"");
	return false;
}

static void on_switch(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, switch_post);
	const struct switch_order *order = t->order;

	for (unsigned i = 0; i < order->n_stop; i++)
		worker_unlisten(&t->worker, order->stop[i].name);
	worker_switch(&t->worker, order->snapshot);
	t->listen_failed = !t->worker.draining &&
			   !(begin_listening(t, order) & open_door(t, order));
	inbox_send(inbox_of(t), &t->switched, reload_on_switched);
}

static void on_worker_drained(struct worker *w)
{
	struct worker_thread *t = w->owner;

	if (t->drained_sent)
		return;
	t->drained_sent = true;
	inbox_send(inbox_of(t), &t->drained, control_on_drained);
}

static void on_drain(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, drain_post);

	if (t->reverse)
		reverse_drain(t->reverse);
	worker_drain_begin(&t->worker);
}

static void on_deafen(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, deafen_post);

	if (t->reverse)
		reverse_unlisten(t->reverse, t->accept_waiting);
	if (!t->accept_waiting)
		worker_yield_agents(&t->worker);
	worker_stop_listening(&t->worker, t->accept_waiting);
	inbox_send(inbox_of(t), &t->deaf, control_on_deaf);
}

static void on_close_idle(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, close_idle_post);

	worker_drain(&t->worker);
}

static void on_ask_alive(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, alive_post);

	inbox_send(inbox_of(t), &t->alive, watchdog_on_alive);
}

static void on_stop(struct loop *loop, struct post *p)
{
	struct worker_thread *t =
		container_of(p, struct worker_thread, stop_post);

	t->stop = true;
	worker_abort_all(&t->worker);
}

static void *thread_main(void *arg)
{
	struct worker_thread *t = arg;
	struct worker *w = &t->worker;
	char name[16];

	snprintf(name, sizeof(name), "worker-%u", t->loop->index);
	pthread_setname_np(pthread_self(), name);
	rcu_worker_online();
	worker_init(w, t->loop, &t->control->shared, t->order->snapshot);
	w->owner = t;
	w->on_drained = on_worker_drained;
	t->listen_failed = !(begin_listening(t, t->order) &
			     open_door(t, t->order));
	inbox_send(inbox_of(t), &t->started, control_on_started);
	while (!t->stop) {
		loop_turn(t->loop, UINT64_MAX);
		/* now_us is of the moment when its waiting was over. */
		histogram_add(&w->metrics->loop_lag_us,
			      loop_clock_us(t->loop) - t->loop->now_us);
	}
	reverse_free(t->reverse);
	worker_fini(w);
	/* What that put off until the end of a turn. */
	loop_turn(t->loop, 0);
	loop_turn(t->loop, 0);
	rcu_worker_offline();
	return NULL;
}

/* ---- on the control thread ---------------------------------------------- */

bool worker_thread_start(struct worker_thread *t,
			 const struct switch_order *order)
{
	int err;

	t->order = order;
	err = pthread_create(&t->thread, NULL, thread_main, t);
	errno = err;
	return err == 0;
}

void worker_thread_switch(struct worker_thread *t,
			  const struct switch_order *order)
{
	t->order = order;
	loop_post(t->loop, &t->switch_post, on_switch);
}

void worker_thread_drain(struct worker_thread *t)
{
	loop_post(t->loop, &t->drain_post, on_drain);
}

void worker_thread_deafen(struct worker_thread *t, bool accept_waiting)
{
	t->accept_waiting = accept_waiting;
	loop_post(t->loop, &t->deafen_post, on_deafen);
}

void worker_thread_close_idle(struct worker_thread *t)
{
	loop_post(t->loop, &t->close_idle_post, on_close_idle);
}

void worker_thread_ask_alive(struct worker_thread *t)
{
	loop_post(t->loop, &t->alive_post, on_ask_alive);
}

void worker_thread_stop(struct worker_thread *t)
{
	loop_post(t->loop, &t->stop_post, on_stop);
}

void worker_thread_join(struct worker_thread *t)
{
	pthread_join(t->thread, NULL);
}
