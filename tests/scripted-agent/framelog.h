/* One JSON line per frame on standard output; see scripted-agent.c. */
#ifndef SCRIPTED_AGENT_FRAMELOG_H
#define SCRIPTED_AGENT_FRAMELOG_H

#include "exchanges.h"

/* A frame, as it was before reading changed it. */
struct frame_seen {
	uint64_t n;
	unsigned link;
	uint8_t type;
	size_t bytes;		/* of the payload */
	uint64_t digest;
};

/* x: may be NULL; its running totals are moved on. answer: what will be
 * answered, or what is wrong with it. */
void framelog_event(const struct frame_seen *f,
		    const struct wire_agent_event *e, struct exchange *x,
		    const char *answer);
/* A frame that is no event, or none that can be read. */
void framelog_other(const struct frame_seen *f, bool unreadable);

#endif
