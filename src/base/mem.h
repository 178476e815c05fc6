/*
 * The one door to malloc. All of them return NULL when memory is out (or when
 * the simulator says so); callers fail one exchange, never the process.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/slice.h"

void *mem_alloc(size_t bytes) MUST_CHECK;
void *mem_zalloc(size_t bytes) MUST_CHECK;
/* Cache-line aligned and zeroed, for what one worker owns. */
void *mem_zalloc_aligned(size_t bytes) MUST_CHECK;
void *mem_realloc(void *p, size_t bytes) MUST_CHECK;
/* A NUL-terminated copy. */
char *mem_strdup(struct slice s) MUST_CHECK;
void mem_free(void *p);
/*
 * memset() of libc's. gcc knows the length and would make `rep stos` of it,
 * which is slower up to 2 KiB: so it is not told.
 */
static inline void mem_zero(void *p, size_t bytes)
{
	__asm__("" : "+r"(bytes));
	memset(p, 0, bytes);
}
/* Gives free pages back to the system. Costs a walk over all free memory. */
void mem_trim(void);

/*
 * Fault injection: if set, asked before every allocation; true makes it fail.
 * For the simulator and tests only. Not synchronised: set before threads run.
 */
extern bool (*mem_fault)(size_t bytes);
/* The same for counting what is alive: 1 for an allocation, -1 for a release.
 * Any thread. */
extern void (*mem_watch)(int change);

#endif
