#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/loader.h"
#include "config/value.h"

#define KEY_MAX	128u

/* The model and the memory that it lives in. */
struct config_private {
	struct config config;
	struct arena_pool pool;
	struct arena arena;
};

/* ---- faults and the path that is being read ---------------------------- */

void loader_fault(struct loader *l, const struct node *n, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	faults_vadd(&l->faults, n->line, n->col,
		    l->path_len ? l->path : "config", fmt, args);
	va_end(args);
}

void loader_fault_at(struct loader *l, const struct node *n, const char *name,
		     const char *fmt, ...)
{
	size_t mark = loader_enter(l, name);
	va_list args;

	va_start(args, fmt);
	faults_vadd(&l->faults, n->line, n->col, l->path, fmt, args);
	va_end(args);
	loader_leave(l, mark);
}

const char *loader_hint(const struct nearest *n, char out[VALUE_HINT])
{
	out[0] = '\0';
	if (n->best)
		snprintf(out, VALUE_HINT, ", did you mean `%.100s`?", n->best);
	return out;
}

static size_t enter(struct loader *l, int n)
{
	size_t mark = l->path_len;

	l->path_len = min_size(mark + (size_t)n, LOADER_PATH - 1);
	return mark;
}

size_t loader_enter(struct loader *l, const char *key)
{
	return enter(l, snprintf(l->path + l->path_len,
				 LOADER_PATH - l->path_len, "%s%.100s",
				 l->path_len ? "." : "", key));
}

size_t loader_enter_item(struct loader *l, unsigned index)
{
	return enter(l, snprintf(l->path + l->path_len,
				 LOADER_PATH - l->path_len, "[%u]", index));
}

void loader_leave(struct loader *l, size_t mark)
{
	l->path_len = mark;
	l->path[mark] = '\0';
}

/* ---- memory ------------------------------------------------------------ */

void *loader_alloc(struct loader *l, size_t n, size_t size)
{
	/* n is bounded by the file's size: no overflow. */
	void *p = arena_zalloc(l->arena, n * size + 1);

	if (!p)
		l->faults.no_memory = true;
	return p;
}

const char *loader_keep(struct loader *l, const char *text)
{
	size_t n = strlen(text);
	char *copy = loader_alloc(l, n + 1, 1);

	if (copy)
		memcpy(copy, text, n);
	return copy;
}

const char *loader_keep_lower(struct loader *l, const char *text)
{
	size_t n = strlen(text);
	char *copy = loader_alloc(l, n + 1, 1);

	for (size_t i = 0; copy && i < n; i++)
		copy[i] = ascii_lower(text[i]);
	return copy;
}

/* ---- values ------------------------------------------------------------ */

const char *loader_text(struct loader *l, const struct node *value)
{
	if (value->kind != NODE_SCALAR) {
		loader_fault(l, value, "must be one value, not a %s",
			     value->kind == NODE_MAP ? "map" : "list");
		return NULL;
	}
	if (node_is_null(value)) {
		loader_fault(l, value, "has no value");
		return NULL;
	}
	if (value->lines) {
		loader_fault(l, value, "must be one line");
		return NULL;
	}
	return value->text;
}

bool loader_is_list(struct loader *l, const struct node *value)
{
	if (value->kind == NODE_LIST)
		return true;
	loader_fault(l, value, "must be a list");
	return false;
}

int loader_word(struct loader *l, const struct node *value,
		const char *const *words)
{
	const char *text = loader_text(l, value);
	struct nearest near;
	char hint[VALUE_HINT], all[160] = "";
	size_t n = 0;

	if (!text)
		return -1;
	nearest_init(&near, text);
	for (int i = 0; words[i]; i++) {
		if (strcmp(words[i], text) == 0)
			return i;
		nearest_offer(&near, words[i]);
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s",
				      i ? ", " : "", words[i]);
		ASSERT(n < sizeof(all));
	}
	loader_fault(l, value, "must be %s%s%s", words[1] ? "one of " : "", all,
		     loader_hint(&near, hint));
	return -1;
}

static void store(void *object, const struct config_row *row, uint64_t n)
{
	char *at = (char *)object + row->offset;

	switch (row->size) {
	case 0:			/* checked, but nothing to remember */
		return;
	case 1:
		*at = (char)n;
		return;
	case 4:
		memcpy(at, &(uint32_t){ (uint32_t)n }, 4);
		return;
	case 8:
		memcpy(at, &n, 8);
		return;
	}
	ASSERT(!"a row of odd size");
}

static bool parse_number(enum config_type type, const char *text, uint64_t *n,
			 char *why)
{
	if (type == CONFIG_DURATION)
		return value_duration(text, n, why);
	if (type == CONFIG_SIZE)
		return value_size(text, n, why);
	return value_number(text, n, why);
}

static void load_number(struct loader *l, const struct config_row *row,
			const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	char why[VALUE_WHY], range[96];
	uint64_t n = 0;

	if (!text)
		return;
	if (!parse_number(row->type, text, &n, why)) {
		loader_fault(l, value, "%s", why);
	} else if (n < row->min || n > row->max) {
		config_row_range(row, range, sizeof(range));
		loader_fault(l, value, "must be %s", range);
	} else {
		store(object, row, n);
	}
}

void loader_value(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	const char *text;
	char why[VALUE_WHY];
	bool yes;
	int word;

	switch (row->type) {
	case CONFIG_DURATION:
	case CONFIG_SIZE:
	case CONFIG_NUMBER:
		load_number(l, row, value, object);
		return;
	case CONFIG_BOOL:
		text = loader_text(l, value);
		if (text && !value_bool(text, &yes, why))
			loader_fault(l, value, "%s", why);
		else if (text)
			store(object, row, yes);
		return;
	case CONFIG_WORD:
		word = loader_word(l, value, row->words);
		if (word >= 0)
			store(object, row, (uint64_t)word);
		return;
	case CONFIG_OTHER:
	case CONFIG_PART:
		ASSERT(!"a row without a reader");
	}
}

static void read_row(struct loader *l, const struct config_row *row,
		     const struct node *value, void *object)
{
	if (row->read)
		row->read(l, row, value, object);
	else
		loader_value(l, row, value, object);
}

/* ---- maps, driven by the rows ------------------------------------------ */

static const struct config_row *find_row(enum config_scope scope,
					 const char *key)
{
	const struct config_row *row;

	for (unsigned i = 0; (row = config_row_at(i)); i++)
		if (row->scope == scope && strcmp(row->key, key) == 0)
			return row;
	return NULL;
}

/* Is there a row below "prefix."? */
static bool is_section(enum config_scope scope, const char *prefix)
{
	const struct config_row *row;
	size_t n = strlen(prefix);

	for (unsigned i = 0; (row = config_row_at(i)); i++)
		if (row->scope == scope && strncmp(row->key, prefix, n) == 0 &&
		    row->key[n] == '.')
			return true;
	return false;
}

/* key: where it stands. prefix: "" or "limits.". */
static void tell_unknown(struct loader *l, const struct node *key,
			 enum config_scope scope, const char *prefix)
{
	const struct config_row *row;
	size_t n = strlen(prefix);
	struct nearest near;
	char names[128][KEY_MAX], hint[VALUE_HINT];
	unsigned n_names = 0;

	nearest_init(&near, key->text);
	for (unsigned i = 0; (row = config_row_at(i)); i++) {
		if (row->scope != scope || strncmp(row->key, prefix, n) != 0)
			continue;
		ASSERT(n_names < ARRAY_LEN(names));
		snprintf(names[n_names], KEY_MAX, "%.*s",
			 (int)strcspn(row->key + n, "."), row->key + n);
		nearest_offer(&near, names[n_names++]);
	}
	loader_fault(l, key, "unknown key%s", loader_hint(&near, hint));
}

static const struct node *earlier(const struct node *map,
				  const struct node *child)
{
	for (const struct node *n = map->first; n != child; n = n->next)
		if (strcmp(n->key->text, child->key->text) == 0)
			return n;
	return NULL;
}

static void load_key(struct loader *l, const struct node *value,
		     enum config_scope scope, const char *prefix, void *object)
{
	const struct config_row *row;
	char key[KEY_MAX];
	int n = snprintf(key, sizeof(key), "%s%s", prefix, value->key->text);

	if (n >= (int)sizeof(key) - 1 || strchr(value->key->text, '.')) {
		tell_unknown(l, value->key, scope, prefix);
		return;
	}
	row = find_row(scope, key);
	if (row && row->type != CONFIG_PART && node_is_null(value)) {
		loader_fault(l, value, "has no value");
	} else if (row) {
		read_row(l, row, value, object);
	} else if (is_section(scope, key)) {
		strcat(key, ".");
		loader_map(l, value, scope, key, object);
	} else {
		tell_unknown(l, value->key, scope, prefix);
	}
}

void loader_map(struct loader *l, const struct node *map,
		enum config_scope scope, const char *prefix, void *object)
{
	if (node_is_null(map))
		return;
	if (map->kind != NODE_MAP) {
		loader_fault(l, map, "must be a map");
		return;
	}
	for (const struct node *n = map->first; n; n = n->next) {
		size_t mark = loader_enter(l, n->key->text);
		const struct node *first = earlier(map, n);

		if (first)
			loader_fault(l, n->key, "given twice, first on line %u",
				     first->key->line);
		else
			load_key(l, n, scope, prefix, object);
		loader_leave(l, mark);
	}
}

void loader_defaults(struct loader *l, enum config_scope scope, void *object)
{
	const struct config_row *row;

	for (unsigned i = 0; (row = config_row_at(i)); i++) {
		struct node value = { .kind = NODE_SCALAR, .line = 1, .col = 1 };

		/* Empty lists are what zeroed memory holds. */
		if (row->scope != scope || !row->fallback ||
		    row->fallback[0] == '[')
			continue;
		value.text = row->fallback;
		read_row(l, row, &value, object);
	}
}

void loader_object(struct loader *l, const struct node *map,
		   enum config_scope scope, void *object)
{
	const struct config_row *row;

	loader_defaults(l, scope, object);
	loader_map(l, map, scope, "", object);
	for (unsigned i = 0; (row = config_row_at(i)); i++)
		if (row->scope == scope && row->required &&
		    !node_get(map, row->key) &&
		    (map->kind == NODE_MAP || node_is_null(map)))
			loader_fault_at(l, map, row->key, "is missing");
}

/* ---- files -------------------------------------------------------------- */

static struct config_private *private_new(const char *file)
{
	struct config_private *p = mem_zalloc(sizeof(*p));
	struct slice name;

	if (!p)
		return NULL;
	arena_pool_init(&p->pool);
	arena_init(&p->arena, &p->pool);
	name = arena_dup(&p->arena, slice_of(file, strlen(file) + 1));
	p->config.file = name.p;
	if (name.p)
		return p;
	config_free(&p->config);
	return NULL;
}

/* The tree and the faults go to `scratch`, what is kept to the model. */
static void load(struct loader *l, struct slice text, struct arena *scratch)
{
	const struct node *root;

	faults_init(&l->faults, scratch);
	root = node_parse(text, scratch, &l->faults);
	if (!root)
		return;
	loader_object(l, root, SCOPE_ROOT, l->config);
	check_admin(l, root);
	check_agent_listener(l, root);
	routes_load(l);
	owned_collect(l);
}

struct config *config_load_text(const char *file, struct slice text,
				FILE *faults)
{
	struct config_private *p = private_new(file);
	struct arena_pool pool;
	struct arena scratch;
	struct loader l = { 0 };
	bool ok;

	if (!p) {
		fprintf(faults, "%s:1:1: config: out of memory\n", file);
		return NULL;
	}
	l.config = &p->config;
	l.arena = &p->arena;
	arena_pool_init(&pool);
	arena_init(&scratch, &pool);
	load(&l, text, &scratch);
	faults_print(&l.faults, file, faults);
	ok = l.faults.n == 0 && !l.faults.no_memory;
	arena_fini(&scratch);
	arena_pool_fini(&pool);
	if (ok)
		return &p->config;
	config_free(&p->config);
	return NULL;
}

/* Reads until the end or one byte more than a config may have. -1: errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = read(fd, buf + n, size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

struct config *config_load(const char *file, FILE *faults)
{
	struct config *config = NULL;
	char *buf = mem_alloc(NODE_MAX_FILE + 1);
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 || !buf ? -1 : read_all(fd, buf, NODE_MAX_FILE + 1);

	if (!buf)
		fprintf(faults, "%s:1:1: config: out of memory\n", file);
	else if (n < 0)
		fprintf(faults, "%s:1:1: config: cannot be read: %s\n", file,
			strerror(errno));
	else
		config = config_load_text(file, slice_of(buf, (size_t)n),
					  faults);
	if (fd >= 0)
		close(fd);
	mem_free(buf);
	return config;
}

void config_free(struct config *config)
{
	struct config_private *p;

	if (!config)
		return;
	p = container_of(config, struct config_private, config);
	arena_fini(&p->arena);
	arena_pool_fini(&p->pool);
	mem_free(p);
}
