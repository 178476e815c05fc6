/* A block of the file as JSON: what an agent is told (agents.NAME.config); and
 * who it must be. */
#include <jansson.h>

#include "config/loader.h"
#include "config/value.h"

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

/* Plus one: 0 stands for anybody. */
void read_id(struct loader *l, const struct config_row *row,
	     const struct node *value, void *object)
{
	uint64_t *to = (uint64_t *)(void *)((char *)object + row->offset);
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];
	uint64_t n;

	if (!text)
		return;
	if (!value_number(text, &n, why))
		loader_fault(l, value, "%s", why);
	else if (n >= UINT32_MAX)
		loader_fault(l, value, "is too large");
	else
		*to = n + 1;
}

json_t *show_id(const struct config_row *row, const void *object)
{
	uint64_t n = *(const uint64_t *)(const void *)
		     ((const char *)object + row->offset);

	return n ? json_integer((json_int_t)n - 1) : NULL;
}
