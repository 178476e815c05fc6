/*
 * What a failed asking means. The only place that decides it (protocol page
 * 11.2, interface.md "Own answers").
 */
#ifndef POLICY_OUTCOME_H
#define POLICY_OUTCOME_H

#include "base/words.h"
#include "config/model.h"

enum outcome_action {
	OUTCOME_ALLOW,		/* go on as if allowed; the agent gets no more
				 * of this exchange but request complete */
	OUTCOME_DENY,		/* answer with .status */
	OUTCOME_CUT,		/* the response has begun: cut it off, so that
				 * the client can tell */
};

struct outcome {
	enum outcome_action action;
	uint16_t status;	/* with DENY, else 0 */
	bool bypass;		/* goes on without the verdict it should have
				 * had: counted, and marked in the log */
	bool retry_after;	/* the answer carries Retry-After */
};

/*
 * cause: not CAUSE_NONE. phase: the event that was asked. policy: the route's
 * for that agent; on_too_large is in it as deny[CAUSE_TOO_LARGE]. deny_status:
 * the agent's, 0 by cause. refused: the reply could be read and was a block,
 * redirect or challenge that cannot be applied; it never turns into an allow.
 * response_begun: a byte of the response head has been given to the client's
 * side. Complete and configure never deny anything.
 */
struct outcome outcome_of(enum cause cause, enum event_type phase,
	const struct config_failure_policy *policy, unsigned deny_status,
	bool refused, bool response_begun);

#endif
