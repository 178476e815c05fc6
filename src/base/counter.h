/*
 * Counters with one writer (a worker) and readers anywhere (the admin port).
 * A relaxed load and store: no locked instruction on the way of a request.
 */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include "base/base.h"

struct counter {
	uint64_t value_;
};

static inline uint64_t counter_read(const struct counter *c)
{
	return __atomic_load_n(&c->value_, __ATOMIC_RELAXED);
}

/* Only the owning worker. Gauges subtract by adding a negative number. */
static inline void counter_add(struct counter *c, uint64_t n)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	/* What the compiler, asked for a load and a store, makes three of. */
	__asm__("addq %1, %0" : "+m"(c->value_) : "er"(n) : "cc");
#else
	uint64_t v = __atomic_load_n(&c->value_, __ATOMIC_RELAXED);

	__atomic_store_n(&c->value_, v + n, __ATOMIC_RELAXED);
#endif
}

static inline void counter_inc(struct counter *c)
{
	counter_add(c, 1);
}

static inline void counter_dec(struct counter *c)
{
	counter_add(c, (uint64_t)-1);
}

#endif
