/*
 * The event loop of one worker, and the only door to the system's readiness
 * and time. With net/sock.h it is the seam: tests/sim has a twin of both
 * (loop.c, sock.c) with a virtual clock. A worker is a pointer: nothing above
 * this seam has static mutable or thread-local state.
 *
 * One turn: ready descriptors and due deadlines -> posts -> tasks (until none is
 * left) -> flushes -> reaps.
 *
 * Everything here is called on the loop's own thread, but for loop_post() and
 * loop_stop().
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/arena.h"
#include "base/block.h"
#include "base/list.h"
#include "base/timefmt.h"

struct loop;
struct watch;
struct deadline;
struct task;

/* The public front of a loop; loop.c (and its twin) have more behind it. */
struct loop {
	unsigned index;		/* worker number from 0 */
	uint64_t now_us;	/* CLOCK_MONOTONIC, taken once a turn */
	uint64_t wall_us;	/* CLOCK_REALTIME, taken once a turn */
	struct block_pool blocks;
	struct arena_pool arenas;
	struct arena scratch;	/* reset at the end of each turn */
	struct timefmt_cache time_cache;
	char http_date[TIMEFMT_HTTP_DATE + 1];	/* for the second of wall_us */
	struct cds_list_head tasks;
	struct cds_list_head later;	/* tasks of the next turn */
	struct cds_list_head flushes;
	struct cds_list_head reaps;
};

/* NULL: no memory or no descriptors. */
struct loop *loop_new(unsigned index) MUST_CHECK;
/* All watches, deadlines and tasks must be gone. */
void loop_free(struct loop *loop);
/* One turn, waiting at most max_wait_us for something to happen. */
void loop_turn(struct loop *loop, uint64_t max_wait_us);
/* Turns until loop_stop(). */
void loop_run(struct loop *loop);
/* Any thread, and signal safe. */
void loop_stop(struct loop *loop);
/* CLOCK_MONOTONIC now, to stamp latencies; loop->now_us is the cheap one. */
uint64_t loop_clock_us(struct loop *loop);

/* ---- interest in a descriptor ------------------------------------------ */

enum watch_ready {
	WATCH_READ = 1,		/* something to read, or a listener has one */
	WATCH_WRITE = 2,
	WATCH_HUP = 4,		/* the peer closed at least its sending side */
};

/* what: watch_ready bits. Edge-triggered: told once per change. */
typedef void watch_fn(struct watch *w, unsigned what);

struct watch {
	watch_fn *fn;
	struct loop *loop;
	int fd;
	uint8_t on;
	uint8_t quiet;	/* by watch_start_quiet() */
	uint8_t write;	/* writability is told */
};

/*
 * Added once, persistent, edge-triggered, for reading, writing and hang-up;
 * stays until watch_stop(). False: the system has no room.
 */
bool watch_start(struct loop *loop, struct watch *w, int fd, watch_fn *fn)
	MUST_CHECK;
/*
 * As watch_start(), but writability is told only while watch_want_write() is
 * on. A new connection is writable anyway, and a Unix socket's writability
 * changes with every message that the peer takes: each would wake us for
 * nothing.
 */
bool watch_start_quiet(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn) MUST_CHECK;
/* Only has an effect on a quiet watch. On: told at once if it is writable
 * already. False: the system has no room; nothing has changed. */
bool watch_want_write(struct watch *w, bool on) MUST_CHECK;
/* Listening sockets: level-triggered, reading only. */
bool watch_start_listener(struct loop *loop, struct watch *w, int fd,
			  watch_fn *fn) MUST_CHECK;
/* No callback after it. Harmless on a zeroed or stopped watch. */
void watch_stop(struct watch *w);

/* ---- deadlines ---------------------------------------------------------- */

typedef void deadline_fn(struct deadline *d);

/*
 * Zero-initialise. One list per distinct duration, appended in order and
 * looked at when its first entry was due: start and stop cost a list operation.
 */
struct deadline {
	struct cds_list_head node;
	uint64_t at_us;
	deadline_fn *fn;
};

/* (Re)starts d: fn is called once, no earlier than duration_us from
 * loop->now_us. duration_us == 0 means never: d is only stopped. */
void deadline_start(struct loop *loop, struct deadline *d,
		    uint64_t duration_us, deadline_fn *fn);
void deadline_stop(struct deadline *d);

static inline bool deadline_running(const struct deadline *d)
{
	return list_linked(&d->node);
}

/* `to` takes the place of `from`, which is stopped: at the same time, with
 * another fn. If that does not run neither does `to`. */
static inline void deadline_move(struct deadline *from, struct deadline *to,
				 deadline_fn *fn)
{
	if (!deadline_running(from))
		return;
	to->at_us = from->at_us;
	to->fn = fn;
	cds_list_add(&to->node, &from->node);
	list_take(&from->node);
}

/* ---- work of this turn --------------------------------------------------- */

typedef void task_fn(struct task *t);

/* Zero-initialise. */
struct task {
	struct cds_list_head node;
	task_fn *fn;
};

/* Once, later in this turn; or in the next, if tasks have been putting tasks
 * there for too long. Again while queued: no effect. */
void loop_defer(struct loop *loop, struct task *t, task_fn *fn);
/* In the next turn, which does not wait: for work that has had its share. */
void loop_defer_next(struct loop *loop, struct task *t, task_fn *fn);
/* After all tasks: the time to write what gathered in this turn. Tasks and
 * flushes that it puts there still run in this turn. */
void loop_defer_flush(struct loop *loop, struct task *t, task_fn *fn);
/* At the very end of the turn: the one place where an object is freed. */
void loop_defer_reap(struct loop *loop, struct task *t, task_fn *fn);
void task_cancel(struct task *t);

/* ---- from other threads -------------------------------------------------- */

struct post;
typedef void post_fn(struct loop *loop, struct post *p);

struct post {
	void *next[2];		/* of the wait-free queue */
	post_fn *fn;
};

/* Any thread: p->fn(loop, p) will run on the loop's thread, in order of the
 * posts. p belongs to the loop until then. Never blocks. */
void loop_post(struct loop *loop, struct post *p, post_fn *fn);

#endif
