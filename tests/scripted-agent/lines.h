/* How a script is kept; between script.c, which reads it, and script_run.c. */
#ifndef SCRIPTED_AGENT_LINES_H
#define SCRIPTED_AGENT_LINES_H

#include "script.h"

enum cond_kind { COND_PATH, COND_METHOD, COND_HEADER, COND_MATCH, COND_INDEX,
		 COND_LAST, COND_STATUS, COND_LINK, COND_NTH, COND_EVERY,
		 COND_N };

struct cond {
	enum cond_kind kind;
	struct slice name, pattern;
	unsigned long number;
	bool plus;
};

enum act { ACT_REPLY, ACT_REDIRECT, ACT_CHALLENGE, ACT_NEEDS_MORE, ACT_ROUTE,
	   ACT_SET, ACT_ADD, ACT_REMOVE, ACT_AUDIT, ACT_REPLACE, ACT_DROP,
	   ACT_UPCASE, ACT_REPLACE_EACH, ACT_FILL, ACT_DELAY, ACT_LATE,
	   ACT_REORDER, ACT_DRIP, ACT_LENGTH, ACT_TYPE, ACT_FAULT };

struct act_row {
	const char *word;
	enum act act;
	unsigned n_args;
	bool pairs;		/* KEY=VALUE words follow */
	unsigned fault;
};

#define CONDS_MAX	8u
#define ACTS_MAX	16u
#define PAIRS_MAX	16u

struct action {
	const struct act_row *row;
	struct slice args[3];
	struct name_value pairs[PAIRS_MAX];
	unsigned n_pairs;
	unsigned long number, per;
	double fraction;
	enum decision_kind kind;
};

struct script_line {
	unsigned events;		/* bit per enum event_type */
	struct cond conds[CONDS_MAX];
	unsigned n_conds;
	struct action acts[ACTS_MAX];
	unsigned n_acts;
	unsigned long count;		/* events that matched */
};

static inline bool is(struct slice s, const char *word)
{
	return slice_eq(s, slice_str(word));
}

#endif
