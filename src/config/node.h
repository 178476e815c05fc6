/*
 * A YAML document as a tree that knows where each of its nodes stands. Only
 * what a config needs: one document, no anchors, no aliases, no tags.
 */
#ifndef CONFIG_NODE_H
#define CONFIG_NODE_H

#include "config/fault.h"

#define NODE_MAX_FILE		(1u << 20)	/* bytes */
#define NODE_MAX_DEPTH		16u
#define NODE_MAX_CHILDREN	10000u

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_kind kind;
	bool quoted;			/* a scalar between quotes */
	unsigned line, col;		/* from 1 */
	bool lines;			/* a scalar of several lines */
	const char *text;		/* scalar; NUL-terminated, UTF-8, no
					 * control characters but line ends */
	struct node *key;		/* of a map's child */
	struct node *first, *last;	/* children */
	struct node *next;		/* sibling */
	unsigned n;			/* children */
};

/*
 * Text into a tree in the arena. NULL and a fault (or several, of bytes) if it
 * is not what a config may be.
 */
struct node *node_parse(struct slice text, struct arena *a, struct faults *f)
	MUST_CHECK;

/* The value of a key of a map; NULL if there is none or it is no map. */
const struct node *node_get(const struct node *map, const char *key);
/* Nothing written: `key:`, `key: ~`, `key: null`. */
bool node_is_null(const struct node *n);

#endif
