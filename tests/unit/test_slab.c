/* Objects of one size, and when their memory goes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/slab.h"

#define MANY	1000

static unsigned n_mallocs;

static bool count_mallocs(size_t bytes)
{
	n_mallocs++;
	return false;
}

static bool refuse(size_t bytes)
{
	return true;
}

static int setup(void **state)
{
	n_mallocs = 0;
	mem_fault = count_mallocs;
	return 0;
}

static int teardown(void **state)
{
	mem_fault = NULL;
	return 0;
}

static void test_zeroed_and_apart(void **state)
{
	struct slab s;
	unsigned char *p[MANY];

	slab_init(&s, 700);
	for (int i = 0; i < MANY; i++) {
		p[i] = slab_alloc(&s);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		for (int k = 0; k < 700; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], i & 0xff, 700);
	}
	assert_int_equal(s.live, MANY);
	assert_in_range(n_mallocs, 10, 12);	/* 91 to a chunk */
	for (int i = 0; i < MANY; i++) {
		for (int k = 0; k < 700; k++)
			assert_int_equal(p[i][k], i & 0xff);
		slab_free(&s, p[i]);
	}
	assert_int_equal(s.live, 0);
	assert_true(cds_list_empty(&s.partly));
}

static void test_used_again(void **state)
{
	struct slab s;
	unsigned char *a, *b;

	slab_init(&s, 100);
	a = slab_alloc(&s);
	b = slab_alloc(&s);
	memset(a, 0xff, 100);
	slab_free(&s, a);
	assert_ptr_equal(slab_alloc(&s), a);
	assert_int_equal(a[0] | a[99], 0);
	assert_int_equal(n_mallocs, 1);
	slab_free(&s, b);
	slab_free(&s, a);
	assert_true(cds_list_empty(&s.partly));
}

static void test_a_full_chunk_has_room_again(void **state)
{
	struct slab s;
	void *p[200];

	slab_init(&s, 1000);
	for (int i = 0; i < 200; i++)
		p[i] = slab_alloc(&s);
	n_mallocs = 0;
	/* The first chunk was full; more than the last one has room for. */
	for (int i = 0; i < 60; i++)
		slab_free(&s, p[i]);
	for (int i = 0; i < 60; i++)
		p[i] = slab_alloc(&s);
	assert_int_equal(n_mallocs, 0);
	for (int i = 0; i < 200; i++)
		slab_free(&s, p[i]);
	assert_true(cds_list_empty(&s.partly));
}

static void test_no_memory(void **state)
{
	struct slab s;

	slab_init(&s, 100);
	mem_fault = refuse;
	assert_null(slab_alloc(&s));
	assert_int_equal(s.live, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_zeroed_and_apart),
		T(test_used_again),
		T(test_a_full_chunk_has_room_again),
		T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
