/* The one door to malloc; see mem.h. */
#include "base/mem.h"

#include <malloc.h>
#include <stdlib.h>

bool (*mem_fault)(size_t bytes);
void (*mem_watch)(int change);

static bool refused(size_t bytes)
{
	return UNLIKELY(mem_fault != NULL) && mem_fault(bytes);
}

static void *watched(void *p)
{
	if (UNLIKELY(mem_watch != NULL) && p)
		mem_watch(1);
	return p;
}

void *mem_alloc(size_t bytes)
{
	if (refused(bytes))
		return NULL;
	return watched(malloc(bytes ? bytes : 1));
}

void *mem_zalloc(size_t bytes)
{
	if (refused(bytes))
		return NULL;
	return watched(calloc(1, bytes ? bytes : 1));
}

void *mem_zalloc_aligned(size_t bytes)
{
	size_t up = (bytes + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	void *p;

	if (up < bytes || refused(bytes))
		return NULL;
	p = aligned_alloc(CACHE_LINE, up ? up : CACHE_LINE);
	if (p)
		memset(p, 0, up);
	return watched(p);
}

void *mem_realloc(void *p, size_t bytes)
{
	if (refused(bytes))
		return NULL;
	if (!p)
		return watched(malloc(bytes ? bytes : 1));
	return realloc(p, bytes ? bytes : 1);
}

char *mem_strdup(struct slice s)
{
	char *copy;

	if (s.n == SIZE_MAX)
		return NULL;
	copy = mem_alloc(s.n + 1);
	if (!copy)
		return NULL;
	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

void mem_free(void *p)
{
	if (UNLIKELY(mem_watch != NULL) && p)
		mem_watch(-1);
	free(p);
}

void mem_trim(void)
{
	malloc_trim(0);
}
