/*
 * The config's schema: one row per key. The loader, /config, the reference
 * table, the sample file and the manual page all come from these rows or are
 * checked against them.
 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include <stdio.h>

#include "base/base.h"

enum config_type {
	CONFIG_DURATION,	/* microseconds in the model */
	CONFIG_SIZE,		/* bytes */
	CONFIG_NUMBER,
	CONFIG_BOOL,
	CONFIG_WORD,		/* one of .words; its number in the model */
	CONFIG_OTHER,		/* has a reader of its own; .unit says what */
	CONFIG_PART,		/* a list or map with rows of its own */
};

/* The structs of the model that rows fill. */
enum config_scope {
	SCOPE_ROOT, SCOPE_LISTENER, SCOPE_UPSTREAM, SCOPE_SERVER, SCOPE_AGENT,
	SCOPE_ROUTE, SCOPE_ROUTE_AGENT,
};

struct loader;
struct node;
struct json_t;
struct config_row;

/* Puts a value into the object of its scope, or tells a fault. */
typedef void config_read_fn(struct loader *l, const struct config_row *row,
			    const struct node *value, void *object);
/* The value as JSON, a new reference; NULL: nothing to show. */
typedef struct json_t *config_show_fn(const struct config_row *row,
				      const void *object);

struct config_row {
	const char *path;	/* "listeners[].limits.body" */
	const char *key;	/* the part inside its scope: "limits.body" */
	enum config_scope scope;
	enum config_type type;
	const char *unit;	/* what may stand there, for people */
	const char *const *words;	/* CONFIG_WORD; NULL ends the list */
	uint64_t min, max;	/* of numbers, in the model's unit */
	const char *fallback;	/* the default, as it would be written; NULL:
				 * none */
	bool required;
	bool fixed;		/* a reload cannot change it */
	const char *help;	/* one line */

	/* For the loader. */
	uint16_t offset, size;
	config_read_fn *read;
	config_show_fn *show;
};

/* All rows, in the order of the reference; NULL after the last. */
const struct config_row *config_row_at(unsigned i);

/* "1ms to 24h", "1 to 256", "none | stream": what a row's value may be. */
void config_row_range(const struct config_row *row, char *out, size_t size);

/* A table of all keys, for people and for checks of the manual. */
void config_print_reference(FILE *out);

#endif
