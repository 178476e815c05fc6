/*
 * The words that config, log, metrics, admin pages and manual share
 * (interface.md, "Words"). Each enum has a table of its names.
 */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include "base/base.h"

enum cause {
	CAUSE_NONE,		/* not a failure; name "" */
	CAUSE_CONNECT,
	CAUSE_TIMEOUT,
	CAUSE_CLOSED,
	CAUSE_PROTOCOL,
	CAUSE_UNREADABLE,
	CAUSE_OVERLOAD,
	CAUSE_UNAVAILABLE,
	CAUSE_TOO_LARGE,
	CAUSE_BUDGET,
	CAUSE_N
};

enum event_type {
	EVENT_REQUEST_HEAD,
	EVENT_REQUEST_CHUNK,
	EVENT_RESPONSE_HEAD,
	EVENT_RESPONSE_CHUNK,
	EVENT_COMPLETE,
	EVENT_CONFIGURE,
	EVENT_N
};

enum verdict {
	VERDICT_ALLOW,
	VERDICT_BLOCK,
	VERDICT_REDIRECT,
	VERDICT_CHALLENGE,
	VERDICT_FAIL_DENY,
	VERDICT_FAIL_ALLOW,
	VERDICT_SKIPPED,
	VERDICT_N
};

enum ended_by {
	ENDED_DONE,
	ENDED_CLIENT,
	ENDED_AGENT,
	ENDED_UPSTREAM,
	ENDED_PROXY,
	ENDED_LIMIT,
	ENDED_TIMEOUT,
	ENDED_SHUTDOWN,
	ENDED_N
};

enum agent_state {
	AGENT_HEALTHY,
	AGENT_DEGRADED,
	AGENT_UNHEALTHY,
	AGENT_DRAINING,
	AGENT_STATE_N
};

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN,
	BREAKER_STATE_N
};

extern const char *const cause_names[CAUSE_N];
extern const char *const event_names[EVENT_N];
extern const char *const verdict_names[VERDICT_N];
extern const char *const ended_by_names[ENDED_N];
extern const char *const agent_state_names[AGENT_STATE_N];
extern const char *const breaker_state_names[BREAKER_STATE_N];

#endif
