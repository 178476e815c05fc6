/* The whole table of what a failed asking means. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "policy/outcome.h"

/*
 * By column: policy deny, then allow; in each, first a failure, then a refusal
 * that cannot be applied; in each of those, the response not begun, then begun.
 *	503R	that answer, R with Retry-After
 *	CUT	the connection is cut
 *	pass	goes on, and is a bypass
 *	-	goes on, and nothing was to be decided
 */
static const struct {
	enum cause cause;
	enum event_type phase;
	const char *want;
} table[] = {
	/* deny: failed      refused    allow: failed      refused
	 * before begun before begun    before begun before begun */
	{ CAUSE_CONNECT, EVENT_REQUEST_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CONNECT, EVENT_REQUEST_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CONNECT, EVENT_RESPONSE_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CONNECT, EVENT_RESPONSE_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CONNECT, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_CONNECT, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_TIMEOUT, EVENT_REQUEST_CHUNK,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_TIMEOUT, EVENT_RESPONSE_HEAD,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_TIMEOUT, EVENT_RESPONSE_CHUNK,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_TIMEOUT, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_TIMEOUT, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_CLOSED, EVENT_REQUEST_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CLOSED, EVENT_REQUEST_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CLOSED, EVENT_RESPONSE_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CLOSED, EVENT_RESPONSE_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_CLOSED, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_CLOSED, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_PROTOCOL, EVENT_REQUEST_HEAD,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_PROTOCOL, EVENT_REQUEST_CHUNK,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_PROTOCOL, EVENT_RESPONSE_HEAD,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_PROTOCOL, EVENT_RESPONSE_CHUNK,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_PROTOCOL, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_PROTOCOL, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_UNREADABLE, EVENT_REQUEST_HEAD,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_UNREADABLE, EVENT_REQUEST_CHUNK,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_UNREADABLE, EVENT_RESPONSE_HEAD,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_UNREADABLE, EVENT_RESPONSE_CHUNK,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_UNREADABLE, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_UNREADABLE, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_OVERLOAD, EVENT_REQUEST_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_OVERLOAD, EVENT_REQUEST_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_OVERLOAD, EVENT_RESPONSE_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_OVERLOAD, EVENT_RESPONSE_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_OVERLOAD, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_OVERLOAD, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_UNAVAILABLE, EVENT_REQUEST_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_UNAVAILABLE, EVENT_REQUEST_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_UNAVAILABLE, EVENT_RESPONSE_HEAD,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_UNAVAILABLE, EVENT_RESPONSE_CHUNK,
	  "503R  CUT   503R  CUT   pass  pass  403   CUT" },
	{ CAUSE_UNAVAILABLE, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_UNAVAILABLE, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_TOO_LARGE, EVENT_REQUEST_HEAD,
	  "413   CUT   413   CUT   pass  pass  403   CUT" },
	{ CAUSE_TOO_LARGE, EVENT_REQUEST_CHUNK,
	  "413   CUT   413   CUT   pass  pass  403   CUT" },
	{ CAUSE_TOO_LARGE, EVENT_RESPONSE_HEAD,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_TOO_LARGE, EVENT_RESPONSE_CHUNK,
	  "502   CUT   502   CUT   pass  pass  403   CUT" },
	{ CAUSE_TOO_LARGE, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_TOO_LARGE, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_BUDGET, EVENT_REQUEST_HEAD,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_BUDGET, EVENT_REQUEST_CHUNK,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_BUDGET, EVENT_RESPONSE_HEAD,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_BUDGET, EVENT_RESPONSE_CHUNK,
	  "504   CUT   504   CUT   pass  pass  403   CUT" },
	{ CAUSE_BUDGET, EVENT_COMPLETE,
	  "-     -     -     -     -     -     -     -" },
	{ CAUSE_BUDGET, EVENT_CONFIGURE,
	  "-     -     -     -     -     -     -     -" },
};

static const char *name(struct outcome o, char out[8])
{
	switch (o.action) {
	case OUTCOME_ALLOW:
		assert_int_equal(o.status, 0);
		assert_false(o.retry_after);
		return o.bypass ? "pass" : "-";
	case OUTCOME_CUT:
		assert_int_equal(o.status, 0);
		assert_false(o.bypass || o.retry_after);
		return "CUT";
	case OUTCOME_DENY:
		assert_false(o.bypass);
		snprintf(out, 8, "%u%s", o.status, o.retry_after ? "R" : "");
		return out;
	}
	fail();
	return NULL;
}

/* The policy is asked for this cause, and for no other. */
static struct config_failure_policy policy(enum cause cause, bool deny)
{
	struct config_failure_policy p;

	for (int i = 0; i < CAUSE_N; i++)
		p.deny[i] = i == (int)cause ? deny : !deny;
	return p;
}

static void test_table(void **state)
{
	assert_int_equal(ARRAY_LEN(table), (CAUSE_N - 1) * EVENT_N);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char want[8][8], got[8];

		assert_int_equal(sscanf(table[i].want,
			"%7s %7s %7s %7s %7s %7s %7s %7s", want[0], want[1],
			want[2], want[3], want[4], want[5], want[6], want[7]),
			8);
		for (unsigned col = 0; col < 8; col++) {
			struct config_failure_policy p =
				policy(table[i].cause, !(col & 4));

			assert_string_equal(name(outcome_of(table[i].cause,
				table[i].phase, &p, 0, col & 2, col & 1), got),
				want[col]);
		}
	}
}

static void test_deny_status(void **state)
{
	struct config_failure_policy deny = policy(CAUSE_TIMEOUT, true);
	struct config_failure_policy allow = policy(CAUSE_TIMEOUT, false);
	char out[8];

	assert_string_equal(name(outcome_of(CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
		&deny, 418, false, false), out), "418");
	assert_string_equal(name(outcome_of(CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
		&deny, 503, false, false), out), "503R");
	assert_string_equal(name(outcome_of(CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
		&deny, 418, true, false), out), "418");
	/* It is the status of the policy's denial, not of an agent's. */
	assert_string_equal(name(outcome_of(CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
		&allow, 418, true, false), out), "403");
	assert_string_equal(name(outcome_of(CAUSE_TIMEOUT, EVENT_REQUEST_HEAD,
		&deny, 418, false, true), out), "CUT");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_deny_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
