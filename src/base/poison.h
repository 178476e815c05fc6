/*
 * AddressSanitizer sees malloc, not our pools: what lies in a pool's free list
 * is poisoned by hand, so that a use of it after its time is caught.
 */
#ifndef BASE_POISON_H
#define BASE_POISON_H

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(p, n)	__asan_poison_memory_region((p), (n))
#define UNPOISON(p, n)	__asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n)	do { } while (0)
#define UNPOISON(p, n)	do { } while (0)
#endif

#endif
