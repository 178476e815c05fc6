#include "policy/merge.h"

struct merge merge_answers(const struct merge_slot *slots, unsigned n)
{
	struct merge m = { .result = MERGE_ALLOW };

	for (unsigned i = 0; i < n; i++) {
		switch ((enum merge_state)slots[i].state) {
		case MERGE_PENDING:
			return (struct merge){ .result = MERGE_WAIT };
		case MERGE_REFUSED:
			if (!slots[i].needs_more)
				return (struct merge){ .result = MERGE_DECIDED,
						       .index = i };
			m.needs_more = true;
			break;
		case MERGE_ALLOWED:
			m.needs_more |= slots[i].needs_more;
			break;
		case MERGE_FAILED_OPEN:
		case MERGE_SKIPPED:
			break;
		}
	}
	return m;
}
