#include "config/node.h"

#include <yaml.h>

/* ---- bytes ------------------------------------------------------------ */

/* One character of UTF-8 at s; its length, 0 if it is none (RFC 3629). */
static size_t utf8_next(const unsigned char *s, size_t n, uint32_t *out)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 :
		     s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
	uint32_t c = s[0];

	if (!len || len > n)
		return 0;
	if (len > 1)
		c &= 0x7fu >> len;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[len] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	*out = c;
	return len;
}

static const char *bad_character(uint32_t c, bool indent)
{
	if (c == 0)
		return "holds a NUL byte";
	if (c == '\t')
		return indent ? "a tab: indent with blanks" : NULL;
	if (c == '\n' || c == '\r')
		return NULL;
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff)
		return "holds a control character";
	return NULL;
}

/* What libyaml would refuse in words that help nobody, one fault a line. */
static bool check_bytes(struct slice text, struct faults *f)
{
	const unsigned char *s = (const unsigned char *)text.p;
	unsigned line = 1, col = 1, told = 0;
	bool indent = true;

	if (text.n >= 2 && (memcmp(s, "\xff\xfe", 2) == 0 ||
			    memcmp(s, "\xfe\xff", 2) == 0)) {
		faults_add(f, 1, 1, "yaml", "is UTF-16: save it as UTF-8");
		return false;
	}
	for (size_t i = 0; i < text.n;) {
		uint32_t c = 0;
		size_t len = utf8_next(s + i, text.n - i, &c);
		const char *bad = len ? bad_character(c, indent)
				      : "is not UTF-8";

		if (bad && told != line) {
			faults_add(f, line, col, "yaml", "%s", bad);
			told = line;
		}
		i += len ? len : 1;
		col++;
		if (c == '\n') {
			line++;
			col = 1;
			indent = true;
		} else if (c != ' ' && c != '\t') {
			indent = false;
		}
	}
	return told == 0;
}

/* ---- events ----------------------------------------------------------- */

struct builder {
	struct arena *arena;
	struct faults *faults;
	struct node *root;
	struct node *open[NODE_MAX_DEPTH];
	unsigned depth;
	struct node *key_of[NODE_MAX_DEPTH];	/* of the open maps */
};

static void tell(struct builder *b, const yaml_mark_t *at, const char *text)
{
	faults_add(b->faults, (unsigned)at->line + 1, (unsigned)at->column + 1,
		   "yaml", "%s", text);
}

static struct node *new_node(struct builder *b, enum node_kind kind,
			     const yaml_event_t *ev)
{
	struct node *n = arena_zalloc(b->arena, sizeof(*n));

	if (!n) {
		b->faults->no_memory = true;
		return NULL;
	}
	n->kind = kind;
	n->line = (unsigned)ev->start_mark.line + 1;
	n->col = (unsigned)ev->start_mark.column + 1;
	return n;
}

/* Hangs a node where the document is at. */
static bool attach(struct builder *b, struct node *n, const yaml_event_t *ev)
{
	struct node *top = b->depth ? b->open[b->depth - 1] : NULL;

	if (!top) {
		b->root = n;
		return true;
	}
	if (top->kind == NODE_MAP) {
		struct node **key = &b->key_of[b->depth - 1];

		if (!*key) {
			if (n->kind != NODE_SCALAR) {
				tell(b, &ev->start_mark, "a key must be text");
				return false;
			}
			if (n->lines) {
				tell(b, &ev->start_mark,
				     "a key must be one line");
				return false;
			}
			*key = n;
			return true;
		}
		n->key = *key;
		*key = NULL;
	}
	if (++top->n > NODE_MAX_CHILDREN) {
		tell(b, &ev->start_mark, "more than 10000 entries");
		return false;
	}
	if (top->last)
		top->last->next = n;
	else
		top->first = n;
	top->last = n;
	return true;
}

static bool open_node(struct builder *b, enum node_kind kind,
		      const yaml_event_t *ev)
{
	struct node *n = new_node(b, kind, ev);

	if (!n || !attach(b, n, ev))
		return false;
	if (b->depth == NODE_MAX_DEPTH) {
		tell(b, &ev->start_mark, "nested too deeply");
		return false;
	}
	b->key_of[b->depth] = NULL;
	b->open[b->depth++] = n;
	return true;
}

static bool add_scalar(struct builder *b, const yaml_event_t *ev)
{
	struct node *n = new_node(b, NODE_SCALAR, ev);
	size_t len = ev->data.scalar.length;
	char *text;

	if (!n)
		return false;
	text = arena_alloc(b->arena, len + 1);
	if (!text) {
		b->faults->no_memory = true;
		return false;
	}
	memcpy(text, ev->data.scalar.value, len);
	text[len] = '\0';
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n') {
			n->lines = true;
			continue;
		}
		if (c < 0x20 || c == 0x7f) {
			tell(b, &ev->start_mark,
			     "text must not hold control characters");
			return false;
		}
	}
	n->text = text;
	n->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	return attach(b, n, ev);
}

/* Anchors are of use to aliases only, and a tag to a schema that has types of
 * its own: a config needs neither. */
static const char *decorated(const yaml_event_t *ev)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	if (ev->type == YAML_SCALAR_EVENT) {
		anchor = ev->data.scalar.anchor;
		tag = ev->data.scalar.tag;
	} else if (ev->type == YAML_SEQUENCE_START_EVENT) {
		anchor = ev->data.sequence_start.anchor;
		tag = ev->data.sequence_start.tag;
	} else if (ev->type == YAML_MAPPING_START_EVENT) {
		anchor = ev->data.mapping_start.anchor;
		tag = ev->data.mapping_start.tag;
	}
	return anchor ? "anchors are not allowed" :
	       tag ? "tags are not allowed" : NULL;
}

/* One event; false stops. *done: the stream has ended. */
static bool take_event(struct builder *b, const yaml_event_t *ev, bool *done)
{
	const char *why = decorated(ev);

	if (why) {
		tell(b, &ev->start_mark, why);
		return false;
	}
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		return add_scalar(b, ev);
	case YAML_SEQUENCE_START_EVENT:
		return open_node(b, NODE_LIST, ev);
	case YAML_MAPPING_START_EVENT:
		return open_node(b, NODE_MAP, ev);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		return true;
	case YAML_ALIAS_EVENT:
		tell(b, &ev->start_mark, "aliases are not allowed");
		return false;
	case YAML_DOCUMENT_START_EVENT:
		if (!b->root)
			return true;
		tell(b, &ev->start_mark, "more than one document");
		return false;
	case YAML_STREAM_END_EVENT:
		*done = true;
		return true;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return true;
	}
	return true;
}

static void tell_syntax(struct builder *b, const yaml_parser_t *p)
{
	const char *problem = p->problem ? p->problem : "cannot be read";

	if (p->error == YAML_MEMORY_ERROR) {
		b->faults->no_memory = true;
		return;
	}
	faults_add(b->faults, (unsigned)p->problem_mark.line + 1,
		   (unsigned)p->problem_mark.column + 1, "yaml", "%s%s%s",
		   problem, p->context ? ", " : "",
		   p->context ? p->context : "");
}

static bool build(struct builder *b, struct slice text)
{
	yaml_parser_t parser;
	bool done = false, ok = true;

	if (!yaml_parser_initialize(&parser)) {
		b->faults->no_memory = true;
		return false;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.p,
				     text.n);
	while (ok && !done) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&parser, &ev)) {
			tell_syntax(b, &parser);
			ok = false;
			break;
		}
		ok = take_event(b, &ev, &done);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&parser);
	return ok;
}

struct node *node_parse(struct slice text, struct arena *a, struct faults *f)
{
	struct builder b = { .arena = a, .faults = f };

	if (text.n > NODE_MAX_FILE) {
		faults_add(f, 1, 1, "yaml", "is longer than 1MiB");
		return NULL;
	}
	if (slice_has_prefix(text, SLICE("\xef\xbb\xbf")))
		text = slice_of(text.p + 3, text.n - 3);
	if (!check_bytes(text, f) || !build(&b, text))
		return NULL;
	if (!b.root || node_is_null(b.root)) {
		faults_add(f, 1, 1, "yaml", "is empty");
		return NULL;
	}
	return b.root;
}

const struct node *node_get(const struct node *map, const char *key)
{
	if (map->kind != NODE_MAP)
		return NULL;
	for (const struct node *n = map->first; n; n = n->next)
		if (strcmp(n->key->text, key) == 0)
			return n;
	return NULL;
}

bool node_is_null(const struct node *n)
{
	return n->kind == NODE_SCALAR && !n->quoted &&
	       (!*n->text || strcmp(n->text, "~") == 0 ||
		strcmp(n->text, "null") == 0);
}
