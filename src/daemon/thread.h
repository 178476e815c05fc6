/*
 * A worker's thread: a loop, a struct worker on it, and the orders that the
 * control thread posts there.
 */
#ifndef DAEMON_THREAD_H
#define DAEMON_THREAD_H

#include <pthread.h>

#include "agent/reverse.h"
#include "daemon/inbox.h"
#include "daemon/sockets.h"
#include "exchange/worker.h"
#include "net/loop.h"

struct control;

/* A listener to begin or to stop listening on. The name is borrowed from a
 * config. */
struct listen_change {
	const char *name;
	const struct bound *bound;
};

/* What a reload means to the workers: the same order for all, theirs to read
 * until each has sent its `switched`. */
struct switch_order {
	struct snapshot *snapshot;
	struct listen_change *stop, *begin;
	unsigned n_stop, n_begin;
	/* Where agents dial in, from now on; NULL: nowhere. */
	const struct bound *door;
	bool door_changes;
};

struct worker_thread {
	/* Immutable once the thread runs. */
	struct control *control;
	struct loop *loop;
	pthread_t thread;
	/* The thread's own. */
	struct worker worker;
	struct reverse *reverse;	/* the first worker's; else NULL */
	bool stop, drained_sent;
	/* Handed over by post: the control thread's before, the worker's
	 * after. */
	const struct switch_order *order;
	struct post switch_post, drain_post, deafen_post, close_idle_post;
	struct post stop_post;
	bool accept_waiting;
	/* The watchdog's; the control thread's. */
	struct post alive_post;
	struct letter alive;
	uint64_t asked_us;		/* 0: has answered */
	bool stuck;
	/* The worker's before it is sent, the control thread's after. */
	struct letter started, switched, deaf, drained;
	bool listen_failed;
};

/* Begins with order, which has no snapshot to switch from; `started` follows.
 * False: no thread (errno). Control thread, like those below. */
bool worker_thread_start(struct worker_thread *t,
			 const struct switch_order *order) MUST_CHECK;
/* `switched` follows. */
void worker_thread_switch(struct worker_thread *t,
			  const struct switch_order *order);
/*
 * The steps of a drain, in this order, each once (worker.h): the next answer is
 * the last; `deaf` follows, it listens no more; idle connections are closed.
 * `drained` comes as soon as it is deaf and no client is left.
 */
void worker_thread_drain(struct worker_thread *t);
void worker_thread_deafen(struct worker_thread *t, bool accept_waiting);
void worker_thread_close_idle(struct worker_thread *t);
/* `alive` follows, if its loop turns. */
void worker_thread_ask_alive(struct worker_thread *t);
/* Ends what is left, at once, then the thread. */
void worker_thread_stop(struct worker_thread *t);
void worker_thread_join(struct worker_thread *t);

#endif
