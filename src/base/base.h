/*
 * What every room uses: assertions that stay on, and the few macros that C
 * lacks.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x)	__builtin_expect(!!(x), 1)
#define UNLIKELY(x)	__builtin_expect(!!(x), 0)
/* What is rare stays out of the way of what is not. */
#define NOINLINE	__attribute__((noinline))
#define MUST_CHECK	__attribute__((warn_unused_result))
#define PRINTF(f, a)	__attribute__((format(printf, f, a)))
#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))
#define CACHE_LINE	64
#define CACHE_ALIGNED	__attribute__((aligned(CACHE_LINE)))

#ifndef container_of
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#endif

/*
 * Says what a peer can never cause. Stays on in release builds: a proxy that
 * has lost count of itself must stop, not guess.
 */
#define ASSERT(cond)							\
	do {								\
		if (UNLIKELY(!(cond)))					\
			assert_failed(#cond, __FILE__, __LINE__);	\
	} while (0)

void assert_failed(const char *cond, const char *file, int line)
	__attribute__((noreturn, cold));

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#endif
