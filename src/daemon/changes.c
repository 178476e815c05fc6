#include "daemon/changes.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "config/load.h"

#define LINES_MAX	50	/* in the log */
#define KEY_BYTES	256
#define VALUE_BYTES	200

struct changes {
	unsigned n;
};

/* A new reference; NULL: no memory. */
static json_t *effective(const struct config *config)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	json_t *j = NULL;

	if (!out)
		return NULL;
	config_print_json(config, out);
	if (fclose(out) == 0)
		j = json_loadb(text, n, 0, NULL);
	free(text);
	return j;
}

static void value_text(const json_t *v, char out[VALUE_BYTES])
{
	char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

	snprintf(out, VALUE_BYTES, "%s", text ? text : "none");
	free(text);
}

static void tell(struct changes *c, const char *key, const json_t *a,
		 const json_t *b)
{
	char from[VALUE_BYTES], to[VALUE_BYTES];

	if (++c->n > LINES_MAX)
		return;
	value_text(a, from);
	value_text(b, to);
	log_info("config", "event=change key=%s from=%s to=%s", key, from, to);
}

static void compare(struct changes *c, const char *key, json_t *a, json_t *b);

static void compare_maps(struct changes *c, const char *key, json_t *a,
			 json_t *b)
{
	char inner[KEY_BYTES];
	const char *name;
	json_t *v;

	json_object_foreach(a, name, v) {
		snprintf(inner, sizeof(inner), "%s%s%s", key, *key ? "." : "",
			 name);
		compare(c, inner, v, json_object_get(b, name));
	}
	json_object_foreach(b, name, v) {
		if (json_object_get(a, name))
			continue;
		snprintf(inner, sizeof(inner), "%s%s%s", key, *key ? "." : "",
			 name);
		tell(c, inner, NULL, v);
	}
}

static const char *name_of(const json_t *item)
{
	return json_string_value(json_object_get(item, "name"));
}

static bool all_named(const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!name_of(json_array_get(list, i)))
			return false;
	return true;
}

static json_t *by_name(const json_t *list, const char *name, size_t *at)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		*at = i;
		if (strcmp(name_of(json_array_get(list, i)), name) == 0)
			return json_array_get(list, i);
	}
	return NULL;
}

/* Items that have names; the order of those that stay may be another one. */
static void compare_named(struct changes *c, const char *key, json_t *a,
			  json_t *b)
{
	char inner[KEY_BYTES];
	size_t last = 0, at = 0;
	bool moved = false;

	for (size_t i = 0; i < json_array_size(a); i++) {
		json_t *v = json_array_get(a, i);
		json_t *other = by_name(b, name_of(v), &at);

		snprintf(inner, sizeof(inner), "%s[%s]", key, name_of(v));
		compare(c, inner, v, other);
		if (other) {
			moved |= at < last;
			last = at;
		}
	}
	for (size_t i = 0; i < json_array_size(b); i++) {
		json_t *v = json_array_get(b, i);

		snprintf(inner, sizeof(inner), "%s[%s]", key, name_of(v));
		if (!by_name(a, name_of(v), &at))
			tell(c, inner, NULL, v);
	}
	snprintf(inner, sizeof(inner), "%s.order", key);
	if (moved)
		tell(c, inner, NULL, NULL);
}

static void compare(struct changes *c, const char *key, json_t *a, json_t *b)
{
	if (json_is_object(a) && json_is_object(b))
		compare_maps(c, key, a, b);
	else if (json_is_array(a) && json_is_array(b) && all_named(a) &&
		 all_named(b))
		compare_named(c, key, a, b);
	else if (!b || !json_equal(a, b))
		tell(c, key, a, b);
}

unsigned changes_log(const struct config *from, const struct config *to)
{
	json_t *a = effective(from), *b = effective(to);
	struct changes c = { 0 };

	if (a && b)
		compare(&c, "", a, b);
	if (c.n > LINES_MAX)
		log_info("config", "event=change text=\"and %u more\"",
			 c.n - LINES_MAX);
	json_decref(a);
	json_decref(b);
	return c.n;
}
