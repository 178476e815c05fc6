/*
 * What the answers of several agents to one head come to (protocol page 11.1).
 * The first non-allow in configured order wins, as soon as all before it have
 * answered: a verdict never depends on a race.
 */
#ifndef POLICY_MERGE_H
#define POLICY_MERGE_H

#include "base/base.h"

enum merge_state {
	MERGE_PENDING,		/* no answer yet */
	MERGE_ALLOWED,
	MERGE_REFUSED,		/* block, redirect, challenge, or a failure
				 * whose outcome is to deny */
	MERGE_FAILED_OPEN,	/* a failure whose outcome is to allow */
	MERGE_SKIPPED,		/* not asked about this event */
};

/* One agent's place, in configured order. */
struct merge_slot {
	uint8_t state;		/* enum merge_state */
	bool needs_more;	/* of the reply. A refusal beside needs_more is
				 * provisional and counts as an allow; where no
				 * body events follow, the caller leaves this
				 * false */
};

enum merge_result {
	MERGE_WAIT,
	MERGE_ALLOW,		/* all have answered, none refuses */
	MERGE_DECIDED,		/* slot .index refuses: act on it, cancel the
				 * rest */
};

struct merge {
	enum merge_result result;
	unsigned index;		/* with MERGE_DECIDED */
	bool needs_more;	/* with MERGE_ALLOW: any of them wants more */
};

struct merge merge_answers(const struct merge_slot *slots, unsigned n);

#endif
