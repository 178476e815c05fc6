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
/* The names without a flavour in them: rcu_read_lock(), call_rcu(). */
#define URCU_API_MAP
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define SYNC_ACQUIRE(addr)	__tsan_acquire(addr)
#define SYNC_RELEASE(addr)	__tsan_release(addr)
#else
/* What liburcu orders already: an edge that only TSan must be told of. */
#define SYNC_ACQUIRE(addr)	do { } while (0)
#define SYNC_RELEASE(addr)	do { } while (0)
#endif

#define rcu_publish(pp, v)	__atomic_store_n((pp), (v), __ATOMIC_RELEASE)
#define rcu_fetch(pp)		__atomic_load_n((pp), __ATOMIC_ACQUIRE)

/* The reader's end of the edge to the functions that rcu_defer() runs. */
extern char rcu_sync_point_;

/* Each thread that reads, once before and once after. */
void rcu_worker_online(void);
void rcu_worker_offline(void);

/* A read section. May nest. */
static inline void rcu_enter(void)
{
	rcu_read_lock();
}

static inline void rcu_leave(void)
{
	SYNC_RELEASE(&rcu_sync_point_);
	rcu_read_unlock();
}

/* Runs fn(head) on liburcu's own thread after all present readers have left.
 * Control thread. Never blocks, never fails. */
void rcu_defer(struct rcu_head *head, void (*fn)(struct rcu_head *head));
/* Waits until all that was deferred has run: at the end of the process and of
 * a test. Not inside a read section. */
void rcu_drain(void);

#endif
