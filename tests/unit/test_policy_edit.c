/* Header edits. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/mem.h"
#include "policy/edit.h"

static struct arena_pool pool;
static struct arena arena;
static struct field fields[8];
static struct http_head head;

static int setup(void **state)
{
	arena_pool_init(&pool);
	arena_init(&arena, &pool);
	memset(&head, 0, sizeof(head));
	head.fields = fields;
	head.cap_fields = ARRAY_LEN(fields);
	assert_true(http_head_add(&head, SLICE("Host"), SLICE("h")));
	assert_true(http_head_add(&head, SLICE("X-A"), SLICE("1")));
	assert_true(http_head_add(&head, SLICE("Etag"), SLICE("e")));
	assert_true(http_head_add(&head, SLICE("x-a"), SLICE("2")));
	assert_true(http_head_add(&head, SLICE("Expect"), SLICE("100")));
	head.expect_continue = true;
	head.host = SLICE("h");
	return 0;
}

static int teardown(void **state)
{
	arena_fini(&arena);
	assert_int_equal(pool.live, 0);
	arena_pool_fini(&pool);
	return 0;
}

static void check(const char *want)
{
	char got[2048] = "";
	size_t n = 0;
	uint64_t present = 0;

	for (unsigned i = 0; i < head.n_fields; i++) {
		const struct field *f = &head.fields[i];

		n += (size_t)snprintf(got + n, sizeof(got) - n, "%.*s=%.*s;",
				      SLICE_FMT(field_name(f)),
				      SLICE_FMT(field_value(f)));
		present |= 1ull << f->id;
		if (f->flags & FIELD_LINE) {
			assert_memory_equal(f->name + f->name_len, ": ", 2);
			assert_ptr_equal(f->value, f->name + f->name_len + 2);
			assert_memory_equal(f->value + f->value_len, "\r\n", 2);
		}
	}
	assert_string_equal(got, want);
	/* Bit 0 is of fields that nobody asks for by number. */
	assert_int_equal(head.present & ~1ull, present & ~1ull);
}

static bool apply(enum header_op_kind kind, const char *name,
		  const char *value)
{
	/* Not static memory: the edit must copy what it keeps. */
	char n[300], v[300];
	struct header_op op = { .kind = kind };
	bool ok;

	snprintf(n, sizeof(n), "%s", name);
	snprintf(v, sizeof(v), "%s", value);
	op.name = slice_str(n);
	op.value = slice_str(v);
	ok = edit_apply(&head, &op, 1, &arena);
	memset(n, '#', sizeof(n));
	memset(v, '#', sizeof(v));
	return ok;
}

static void test_set(void **state)
{
	assert_true(apply(HEADER_SET, "X-a", "new"));
	check("Host=h;X-a=new;Etag=e;Expect=100;");
	assert_true(apply(HEADER_SET, "X-New", ""));
	check("Host=h;X-a=new;Etag=e;Expect=100;X-New=;");
	assert_true(apply(HEADER_SET, "host", "other:8"));
	check("host=other:8;X-a=new;Etag=e;Expect=100;X-New=;");
	assert_true(slice_eq(head.host, SLICE("other:8")));
}

static void test_add(void **state)
{
	assert_true(apply(HEADER_ADD, "X-A", "3"));
	check("Host=h;X-A=1;Etag=e;x-a=2;Expect=100;X-A=3;");
	assert_false(head.fields[5].flags & FIELD_LOWER);
	assert_true(apply(HEADER_ADD, "low-er", "\xc3\xa4"));
	assert_true(head.fields[6].flags & FIELD_LOWER);
	assert_true(head.fields[6].flags & FIELD_NON_ASCII);
	assert_true(apply(HEADER_ADD, "Via", "v"));
	assert_int_equal(head.fields[7].id, HTTP_FIELD_VIA);
}

static void test_remove(void **state)
{
	assert_true(apply(HEADER_REMOVE, "X-A", ""));
	check("Host=h;Etag=e;Expect=100;");
	assert_true(apply(HEADER_REMOVE, "absent", ""));
	assert_true(head.expect_continue);
	assert_true(apply(HEADER_REMOVE, "expect", ""));
	assert_false(head.expect_continue);
	check("Host=h;Etag=e;");
}

/* The proxy owns framing: whatever gets here, it is not touched. */
static void test_hop_by_hop(void **state)
{
	static const char *const names[] = {
		"Connection", "keep-alive", "Proxy-Connection", "TE",
		"Trailer", "Transfer-Encoding", "upgrade", "Content-Length",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_true(apply(HEADER_SET, names[i], "x"));
		assert_true(apply(HEADER_ADD, names[i], "x"));
		check("Host=h;X-A=1;Etag=e;x-a=2;Expect=100;");
		assert_true(apply(HEADER_REMOVE, names[i], ""));
	}
}

static void test_order(void **state)
{
	struct header_op ops[] = {
		{ HEADER_REMOVE, SLICE("x-a"), SLICE_NONE },
		{ HEADER_ADD, SLICE("x-a"), SLICE("1") },
		{ HEADER_ADD, SLICE("x-a"), SLICE("2") },
		{ HEADER_SET, SLICE("etag"), SLICE("f") },
	};

	assert_true(edit_apply(&head, ops, ARRAY_LEN(ops), &arena));
	check("Host=h;etag=f;Expect=100;x-a=1;x-a=2;");
}

static void test_grows_to_a_limit(void **state)
{
	unsigned n = 0;

	while (apply(HEADER_ADD, "x", "y"))
		n++;
	assert_int_equal(head.n_fields, EDIT_MAX_FIELDS);
	assert_int_equal(n, EDIT_MAX_FIELDS - 5);
	assert_ptr_not_equal(head.fields, fields);
	assert_false(edit_append(&head, SLICE("a"), SLICE("b"), &arena));
	/* Replacing needs no room. */
	assert_true(apply(HEADER_SET, "x-a", "z"));
}

static bool always_fail(size_t bytes)
{
	return true;
}

static void test_no_memory(void **state)
{
	bool ok = true;

	mem_fault = always_fail;
	for (int i = 0; ok && i < 10000; i++)
		ok = apply(HEADER_SET, "x-b", "0123456789");
	mem_fault = NULL;
	assert_false(ok);
}

static void test_request_ops(void **state)
{
	struct header_op good[] = {
		{ HEADER_SET, SLICE("Host"), SLICE("a.example:80") },
		{ HEADER_REMOVE, SLICE("x-b"), SLICE_NONE },
	};
	struct header_op bad[] = {
		{ HEADER_SET, SLICE("Host"), SLICE("a b") },
		{ HEADER_ADD, SLICE("Host"), SLICE("a") },
		{ HEADER_REMOVE, SLICE("hOST"), SLICE_NONE },
	};

	assert_true(edit_request_ops_valid(good, 2));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(edit_request_ops_valid(&bad[i], 1));
}

static void test_validators(void **state)
{
	assert_true(apply(HEADER_ADD, "Content-MD5", "x"));
	assert_true(apply(HEADER_ADD, "Digest", "x"));
	assert_true(apply(HEADER_ADD, "accept-ranges", "x"));
	edit_drop_validators(&head);
	check("Host=h;X-A=1;x-a=2;Expect=100;");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_set), T(test_add), T(test_remove), T(test_hop_by_hop),
		T(test_order), T(test_grows_to_a_limit), T(test_no_memory),
		T(test_request_ops), T(test_validators),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
