/*
 * Between the parts of the reply reader; private to wire/. reply.c has the
 * reply as a whole, reply_decision.c and reply_ops.c the two larger of its
 * fields, reply_plain.c a short cut.
 */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H

#include "wire/codec.h"
#include "wire/values.h"

#define REPLY_OPS_MAX	256u	/* header edits of a side */
#define REPLY_PAIRS_MAX	64u	/* headers of a block, parameters */

/* One reading of one reply. Faults are noted in v. */
struct reply_walk {
	struct values v;
	struct decision *d;
	bool raw_body;
	enum wire_dialect dialect;
	size_t audit_left;	/* bytes of text that still go into the log */
};

static inline bool reply_is(struct slice s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

/* Each reads the value that comes next. */
void reply_read_decision(struct reply_walk *w);
void reply_read_ops(struct reply_walk *w, bool request);

/*
 * Is this, byte for byte, the allow without edits that all known agents write,
 * with a correlation id of our own length? Then *id is it. Most replies are,
 * and comparing them costs a tenth of reading them. False says nothing.
 */
bool reply_is_plain_allow(const char *buf, size_t len, struct slice *id);

#endif
