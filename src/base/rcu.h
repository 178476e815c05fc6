/*
 * liburcu (memb flavour) behind one header, so that the ThreadSanitizer
 * flavour can add the acquire and release edges that it cannot see in
 * liburcu's barriers.
 *
 * Writers: the control thread only. Readers: worker threads between
 * rcu_worker_online/offline, and the admin port on the control thread.
 */
#ifndef BASE_RCU_H
#define BASE_RCU_H

#include "base/base.h"

#ifndef __SANITIZE_THREAD__
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>

#define rcu_publish(pp, v)	__atomic_store_n((pp), (v), __ATOMIC_RELEASE)
#define rcu_fetch(pp)		__atomic_load_n((pp), __ATOMIC_ACQUIRE)

/* Runs fn(head) after all present readers have left. Control thread. */
void rcu_defer(struct rcu_head *head, void (*fn)(struct rcu_head *head));

#endif
