/* The sample and the manual page say what the schema's rows say. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ctype.h>
#include <cmocka.h>

#include "config/load.h"
#include "config/node.h"
#include "config/schema.h"

#define SAMPLE "conf/agentproxyd.yaml"
#define MANUAL "agentproxyd.8"

/* Tests run in the top folder, or say where it is. */
static char *read_file(const char *name)
{
	const char *top = getenv("TOP_SRCDIR");
	char path[512], *text = malloc(1 << 20);
	FILE *in;
	size_t n;

	snprintf(path, sizeof(path), "%s%s%s", top ? top : "", top ? "/" : "",
		 name);
	in = fopen(path, "r");
	if (!in)
		fail_msg("cannot open %s", path);
	n = fread(text, 1, (1 << 20) - 1, in);
	fclose(in);
	text[n] = '\0';
	return text;
}

/* The sample with its settings on: one hash at the start of a line goes. */
static char *uncomment(const char *text)
{
	char *out = malloc(strlen(text) + 1), *to = out;
	bool start = true;

	for (; *text; text++) {
		if (!(start && text[0] == '#' && text[1] != '#'))
			*to++ = *text;
		start = *text == '\n';
	}
	*to = '\0';
	return out;
}

static void check_loads(const char *text)
{
	struct config *config = config_load_text(SAMPLE, slice_str(text),
						 stderr);

	assert_non_null(config);
	config_free(config);
}

static void test_sample_loads(void **state)
{
	char *text = read_file(SAMPLE), *all = uncomment(text);

	check_loads(text);
	check_loads(all);
	free(all);
	free(text);
}

/*
 * The first node of a row's path; "[]" and NAME stand for any child, tried in
 * turn.
 */
static const struct node *find(const struct node *n, const char *path)
{
	char part[64];
	size_t len = strcspn(path, ".[");
	const struct node *child, *found;
	bool any;

	if (!*path)
		return n;
	any = strncmp(path, "[]", 2) == 0;
	if (any)
		len = 2;
	snprintf(part, sizeof(part), "%.*s", (int)len, path);
	path += len;
	path += *path == '.';
	if (any || strcmp(part, "NAME") == 0) {
		for (child = n->first; child; child = child->next)
			if ((found = find(child, path)))
				return found;
		return NULL;
	}
	child = node_get(n, part);
	return child ? find(child, path) : NULL;
}

static void check_default(const struct config_row *row, const struct node *n)
{
	const char *text = n->text;

	if (n->kind == NODE_LIST)
		text = n->n == 0 ? "[]" : "[websocket]";
	if (!row->fallback || row->type == CONFIG_PART)
		return;
	if (strcmp(text, row->fallback) != 0)
		fail_msg("%s: the sample has %s, the default is %s", row->path,
			 text, row->fallback);
}

static void test_sample_has_every_key(void **state)
{
	char *text = read_file(SAMPLE), *all = uncomment(text);
	struct arena_pool pool;
	struct arena arena;
	struct faults faults;
	const struct config_row *row;
	const struct node *root;

	arena_pool_init(&pool);
	arena_init(&arena, &pool);
	faults_init(&faults, &arena);
	root = node_parse(slice_str(all), &arena, &faults);
	assert_non_null(root);
	for (unsigned i = 0; (row = config_row_at(i)); i++) {
		const struct node *n = find(root, row->path);

		if (!n)
			fail_msg("%s has no %s", SAMPLE, row->path);
		check_default(row, n);
	}
	arena_fini(&arena);
	arena_pool_fini(&pool);
	free(all);
	free(text);
}

/* What the manual has to say of a row. */
static void print_row(const struct config_row *row, char *out, size_t size)
{
	char range[96];
	size_t n;

	config_row_range(row, range, sizeof(range));
	n = (size_t)snprintf(out, size, ".It Cm %s\n%c%s.\nValues: %s.\n",
			     row->path, toupper(row->help[0]), row->help + 1,
			     range);
	if (row->required)
		snprintf(out + n, size - n, "Required.\n");
	else if (row->fallback)
		snprintf(out + n, size - n, "Default: %s.\n", row->fallback);
}

static void test_manual_has_every_key(void **state)
{
	char *text = read_file(MANUAL), want[512];
	const struct config_row *row;
	unsigned n = 0;

	for (unsigned i = 0; (row = config_row_at(i)); i++) {
		print_row(row, want, sizeof(want));
		if (!strstr(text, want))
			fail_msg("%s does not have:\n%s", MANUAL, want);
	}
	/* And none that there is not. */
	for (const char *s = text; (s = strstr(s, "\nValues: ")); s++)
		n++;
	for (unsigned i = 0; (row = config_row_at(i)); i++)
		n--;
	assert_int_equal(n, 0);
	free(text);
}

static void test_reference(void **state)
{
	const struct config_row *row;
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	config_print_reference(out);
	fclose(out);
	for (unsigned i = 0; (row = config_row_at(i)); i++)
		assert_non_null(strstr(text, row->path));
	free(text);
}

/* Each row once, and its path ends in its key. */
static void test_rows(void **state)
{
	const struct config_row *a, *b;

	for (unsigned i = 0; (a = config_row_at(i)); i++) {
		size_t path = strlen(a->path), key = strlen(a->key);

		assert_true(path >= key);
		assert_string_equal(a->path + path - key, a->key);
		assert_true(a->help && *a->help);
		assert_true(a->read || a->type < CONFIG_OTHER);
		for (unsigned j = 0; j < i && (b = config_row_at(j)); j++)
			assert_string_not_equal(a->path, b->path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample_loads),
		cmocka_unit_test(test_sample_has_every_key),
		cmocka_unit_test(test_manual_has_every_key),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
