/* A block of the file as JSON: what an agent is told (agents.NAME.config). */
#include <jansson.h>

#include "config/loader.h"

/* A number as JSON writes it. */
static bool is_number(const char *s)
{
	s += *s == '-';
	if (*s == '0')
		s++;
	else if (*s >= '1' && *s <= '9')
		s += strspn(s, "0123456789");
	else
		return false;
	if (*s == '.') {
		if (!strspn(s + 1, "0123456789"))
			return false;
		s += 1 + strspn(s + 1, "0123456789");
	}
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		if (!strspn(s, "0123456789"))
			return false;
		s += strspn(s, "0123456789");
	}
	return !*s;
}

static json_t *scalar(const struct node *n)
{
	json_t *number;

	if (n->quoted)
		return json_string(n->text);
	if (node_is_null(n))
		return json_null();
	if (strcmp(n->text, "true") == 0 || strcmp(n->text, "false") == 0)
		return json_boolean(n->text[0] == 't');
	if (is_number(n->text)) {
		/* Out of range: then it is text. */
		number = json_loads(n->text, JSON_DECODE_ANY, NULL);
		if (number)
			return number;
	}
	return json_string(n->text);
}

static json_t *convert(struct loader *l, const struct node *n)
{
	json_t *out;

	if (n->kind == NODE_SCALAR)
		return scalar(n);
	out = n->kind == NODE_LIST ? json_array() : json_object();
	for (const struct node *c = n->first; c; c = c->next) {
		if (n->kind == NODE_LIST) {
			json_array_append_new(out, convert(l, c));
			continue;
		}
		if (json_object_get(out, c->key->text))
			loader_fault(l, c->key, "given twice");
		json_object_set_new(out, c->key->text, convert(l, c));
	}
	return out;
}

void read_json(struct loader *l, const struct config_row *row,
	       const struct node *value, void *object)
{
	const char **to = (const char **)(void *)((char *)object +
						   row->offset);
	json_t *j = convert(l, value);
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (text)
		*to = loader_keep(l, text);
	else
		l->faults.no_memory = true;
	free(text);
	json_decref(j);
}

json_t *show_json(const struct config_row *row, const void *object)
{
	const char *text = *(const char *const *)(const void *)
			   ((const char *)object + row->offset);

	return text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
}
