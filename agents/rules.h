/*
 * The rules of the denylist agent: a file of lines, and what they match.
 * See conf/denylist.rules for their form.
 */
#ifndef AGENTS_RULES_H
#define AGENTS_RULES_H

#include "agentproxy.h"

#define RULES_MAX	1024u
#define RULES_TEXT_MAX	256u		/* of a name or a text, with NUL */

struct rule;

struct rules {
	unsigned n;
	struct rule *rule;
	size_t longest;			/* of the body texts; 0: none */
};

/* The end of what was seen of a body, for texts that lie over two chunks. */
struct rules_tail {
	char bytes[RULES_TEXT_MAX];
	size_t n;
};

/* NULL: the file is bad, and standard error says FILE:LINE: why. */
struct rules *rules_load(const char *path);
void rules_free(struct rules *rules);

/* What goes into the audit: "path:12", the kind and the line. */
const char *rule_id(const struct rule *rule);

/*
 * The first rule that blocks this, or NULL. Without memory for the matching d
 * is a failure.
 */
const struct rule *rules_match_head(const struct rules *rules,
				    const struct agentproxy_event *ev,
				    struct agentproxy_decision *d);
/* The same for the next chunk of a body; tail is zeroed before the first. */
const struct rule *rules_match_chunk(const struct rules *rules,
				     struct rules_tail *tail,
				     const struct agentproxy_event *ev,
				     struct agentproxy_decision *d);
/* The edits that go with an allow. */
void rules_edit(const struct rules *rules, struct agentproxy_decision *d);

#endif
