/* What several agents' answers come to. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "policy/merge.h"

/*
 * Agents as letters: p pending, a allowed, r refused, o failed open, s skipped;
 * a capital asks for more.
 */
static struct merge merge(const char *agents)
{
	static const char letters[] = "paros";
	struct merge_slot slots[16];
	unsigned n = 0;

	for (; agents[n]; n++) {
		char c = agents[n];

		slots[n].needs_more = c < 'a';
		slots[n].state = (uint8_t)(strchr(letters, c | 0x20) - letters);
	}
	return merge_answers(slots, n);
}

static void test_merge(void **state)
{
	static const struct {
		const char *agents;
		enum merge_result result;
		unsigned index;
		bool needs_more;
	} cases[] = {
		{ "", MERGE_ALLOW, 0, false },
		{ "a", MERGE_ALLOW, 0, false },
		{ "A", MERGE_ALLOW, 0, true },
		{ "p", MERGE_WAIT, 0, false },
		{ "r", MERGE_DECIDED, 0, false },
		{ "o", MERGE_ALLOW, 0, false },
		{ "s", MERGE_ALLOW, 0, false },
		{ "aos", MERGE_ALLOW, 0, false },
		{ "aAo", MERGE_ALLOW, 0, true },
		/* As soon as all before it have allowed. */
		{ "arp", MERGE_DECIDED, 1, false },
		{ "osrpp", MERGE_DECIDED, 2, false },
		/* Never before: the first in order wins, not in time. */
		{ "prr", MERGE_WAIT, 0, false },
		{ "apr", MERGE_WAIT, 0, false },
		{ "arr", MERGE_DECIDED, 1, false },
		{ "Ar", MERGE_DECIDED, 1, false },
		{ "aap", MERGE_WAIT, 0, false },
		/* A refusal that wants more is not acted on yet. */
		{ "R", MERGE_ALLOW, 0, true },
		{ "Ra", MERGE_ALLOW, 0, true },
		{ "Rr", MERGE_DECIDED, 1, false },
		{ "Rp", MERGE_WAIT, 0, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct merge m = merge(cases[i].agents);

		assert_int_equal(m.result, cases[i].result);
		assert_int_equal(m.index, cases[i].index);
		if (m.result == MERGE_ALLOW)
			assert_int_equal(m.needs_more, cases[i].needs_more);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
