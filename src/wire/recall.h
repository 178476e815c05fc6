/*
 * A reply seen before. Most replies of an agent are the same but for the
 * correlation id: "allow", with the same edits or none. One that is byte for
 * byte what an earlier one was means what that one meant, so it need not be
 * read again: one compare instead of a parse, in either encoding.
 *
 * Only replies that were good, carry the id of their event and no body
 * mutation are remembered. One per kind of event and link; one worker.
 */
#ifndef WIRE_RECALL_H
#define WIRE_RECALL_H

#include "wire/codec.h"

#define RECALL_MAX	512u	/* bytes of the longest payload remembered */

struct recall {
	uint16_t len;		/* 0: nothing is remembered */
	uint16_t id_at;		/* where the id stands in it */
	uint16_t pending;	/* bytes of raw that wait for a verdict */
	uint8_t misses;		/* since it last learned, capped */
	struct arena arena;
	struct decision decision;
	char raw[RECALL_MAX];	/* as it came, but for the id */
	char text[RECALL_MAX];	/* as the decoder left it; slices of decision
				 * point here */
};

/* NULL: no memory. */
struct recall *recall_new(struct arena_pool *pool) MUST_CHECK;
void recall_free(struct recall *r);

/*
 * The decision of payload if it is the remembered one with `id` in it; valid
 * until the next recall_learn() on r. NULL: decode it, and before that give
 * recall_see() the chance to copy it (decoders write into the payload).
 */
const struct decision *recall_find(struct recall *r, struct slice payload,
				   const char id[EVENT_ID_LEN]);
void recall_see(struct recall *r, struct slice payload);
/* The payload just seen was decoded to d without a fault. */
void recall_learn(struct recall *r, const struct wire_format *f,
		  const struct decision *d);

#endif
