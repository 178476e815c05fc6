/*
 * A slab: objects of one size in chunks of 64 KiB, so that what lives long does
 * not stand between what lives short, and a chunk whose objects have all been
 * given back goes back to the system. One worker; not thread safe.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include "base/base.h"
#include "base/list.h"

struct slab {
	size_t object_bytes;
	struct cds_list_head partly;	/* chunks with room */
	uint64_t live;			/* objects handed out */
};

void slab_init(struct slab *s, size_t object_bytes);
/* Zeroed. NULL: no memory. */
void *slab_alloc(struct slab *s) MUST_CHECK;
void slab_free(struct slab *s, void *object);

#endif
