/* The words of interface.md; see words.h. */
#include "base/words.h"

const char *const cause_names[CAUSE_N] = {
	[CAUSE_NONE] = "",
	[CAUSE_CONNECT] = "connect",
	[CAUSE_TIMEOUT] = "timeout",
	[CAUSE_CLOSED] = "closed",
	[CAUSE_PROTOCOL] = "protocol",
	[CAUSE_UNREADABLE] = "unreadable",
	[CAUSE_OVERLOAD] = "overload",
	[CAUSE_UNAVAILABLE] = "unavailable",
	[CAUSE_TOO_LARGE] = "too_large",
	[CAUSE_BUDGET] = "budget",
};

const char *const event_names[EVENT_N] = {
	[EVENT_REQUEST_HEAD] = "request_head",
	[EVENT_REQUEST_CHUNK] = "request_chunk",
	[EVENT_RESPONSE_HEAD] = "response_head",
	[EVENT_RESPONSE_CHUNK] = "response_chunk",
	[EVENT_COMPLETE] = "complete",
	[EVENT_CONFIGURE] = "configure",
};

const char *const verdict_names[VERDICT_N] = {
	[VERDICT_ALLOW] = "allow",
	[VERDICT_BLOCK] = "block",
	[VERDICT_REDIRECT] = "redirect",
	[VERDICT_CHALLENGE] = "challenge",
	[VERDICT_FAIL_DENY] = "fail_deny",
	[VERDICT_FAIL_ALLOW] = "fail_allow",
	[VERDICT_SKIPPED] = "skipped",
};

const char *const ended_by_names[ENDED_N] = {
	[ENDED_DONE] = "done",
	[ENDED_CLIENT] = "client",
	[ENDED_AGENT] = "agent",
	[ENDED_UPSTREAM] = "upstream",
	[ENDED_PROXY] = "proxy",
	[ENDED_LIMIT] = "limit",
	[ENDED_TIMEOUT] = "timeout",
	[ENDED_SHUTDOWN] = "shutdown",
};

const char *const agent_state_names[AGENT_STATE_N] = {
	[AGENT_HEALTHY] = "healthy",
	[AGENT_DEGRADED] = "degraded",
	[AGENT_UNHEALTHY] = "unhealthy",
	[AGENT_DRAINING] = "draining",
};

const char *const breaker_state_names[BREAKER_STATE_N] = {
	[BREAKER_CLOSED] = "closed",
	[BREAKER_OPEN] = "open",
	[BREAKER_HALF_OPEN] = "half_open",
};
