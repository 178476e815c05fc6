#include "policy/outcome.h"

static bool of_response(enum event_type phase)
{
	return phase == EVENT_RESPONSE_HEAD || phase == EVENT_RESPONSE_CHUNK;
}

static uint16_t status_by_cause(enum cause cause, enum event_type phase)
{
	switch (cause) {
	case CAUSE_TIMEOUT:
	case CAUSE_BUDGET:
		return 504;
	case CAUSE_PROTOCOL:
	case CAUSE_UNREADABLE:
		return 502;
	case CAUSE_TOO_LARGE:
		return of_response(phase) ? 502 : 413;
	case CAUSE_CONNECT:
	case CAUSE_CLOSED:
	case CAUSE_OVERLOAD:
	case CAUSE_UNAVAILABLE:
		return 503;
	case CAUSE_NONE:
	case CAUSE_N:
		break;
	}
	ASSERT(!"a failure has a cause");
	return 503;
}

/* Events whose answer decides nothing. */
static bool decides(enum event_type phase)
{
	return phase != EVENT_COMPLETE && phase != EVENT_CONFIGURE;
}

struct outcome outcome_of(enum cause cause, enum event_type phase,
	const struct config_failure_policy *policy, unsigned deny_status,
	bool refused, bool response_begun)
{
	uint16_t status = status_by_cause(cause, phase);
	bool deny = policy->deny[cause];

	if (!decides(phase))
		return (struct outcome){ .action = OUTCOME_ALLOW };
	if (!deny && !refused)
		return (struct outcome){ .action = OUTCOME_ALLOW,
					 .bypass = true };
	if (response_begun)
		return (struct outcome){ .action = OUTCOME_CUT };
	if (!deny)
		status = 403;	/* the agent said no, the policy nothing */
	else if (deny_status)
		status = (uint16_t)deny_status;
	return (struct outcome){ .action = OUTCOME_DENY, .status = status,
				 .retry_after = status == 503 };
}
