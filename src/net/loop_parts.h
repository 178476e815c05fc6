/*
 * The half of a loop that has nothing to do with the system: tasks, flushes
 * and reaps. loop.c and its simulated twin are built on it, so that what is
 * simulated is the real order. For these two only.
 */
#ifndef NET_LOOP_PARTS_H
#define NET_LOOP_PARTS_H

#include "net/loop.h"

void loop_init_public(struct loop *loop, unsigned index);
/* Nothing may be deferred any more, and all blocks must be back. */
void loop_fini_public(struct loop *loop);
/* Before the wait: what was put off to this turn becomes its tasks. */
void loop_begin_turn(struct loop *loop);
/* Is there work that must not wait? */
bool loop_has_deferred(struct loop *loop);
/* After the callbacks: tasks, flushes, reaps, scratch. */
void loop_run_deferred(struct loop *loop);

#endif
