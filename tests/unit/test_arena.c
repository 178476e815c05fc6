/* Arenas: what base/arena.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"

static bool always_fails(size_t bytes)
{
	return true;
}

static void test_alignment_and_disjoint(void **state)
{
	struct arena_pool pool;
	struct arena a;
	char *last = NULL;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	assert_int_equal(pool.live, 0);
	for (size_t n = 1; n < 3000; n += 7) {
		char *p = arena_alloc(&a, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, (int)n, n);
		if (last)
			assert_int_equal((unsigned char)last[0],
					 (unsigned char)(n - 7));
		last = p;
	}
	assert_true(pool.live > 1);
	arena_fini(&a);
	assert_int_equal(pool.live, 0);
	arena_pool_fini(&pool);
}

static void test_large_leaves_room(void **state)
{
	struct arena_pool pool;
	struct arena a;
	char *p, *q;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	p = arena_alloc(&a, 16);
	memset(arena_alloc(&a, 100000), 1, 100000);
	q = arena_alloc(&a, 16);
	assert_ptr_equal(q, p + 16);
	/* A large one first, then small ones. */
	arena_fini(&a);
	memset(arena_alloc(&a, 50000), 1, 50000);
	memset(arena_alloc(&a, 5000), 1, 5000);
	arena_fini(&a);
	assert_int_equal(pool.live, 0);
	arena_pool_fini(&pool);
}

static void test_reset_keeps_one(void **state)
{
	struct arena_pool pool;
	struct arena a;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	arena_reset(&a);
	for (int i = 0; i < 10; i++)
		assert_non_null(arena_alloc(&a, ARENA_CHUNK - 100));
	assert_int_equal(pool.live, 10);
	arena_reset(&a);
	assert_true(pool.live <= 1);
	assert_non_null(arena_alloc(&a, ARENA_CHUNK - 100));
	assert_int_equal(pool.live, 1);
	arena_fini(&a);
	arena_pool_fini(&pool);
}

static void test_pool_is_bounded(void **state)
{
	struct arena_pool pool;
	struct arena a;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	for (int i = 0; i < 1000; i++)
		assert_non_null(arena_alloc(&a, ARENA_CHUNK - 100));
	arena_fini(&a);
	assert_int_equal(pool.n_free, 512);
	arena_pool_fini(&pool);
}

static void test_no_bytes_is_no_failure(void **state)
{
	struct arena_pool pool;
	struct arena a;
	struct slice s;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	assert_non_null(arena_alloc(&a, 0));
	s = arena_dup(&a, SLICE_NONE);
	assert_non_null(s.p);
	assert_int_equal(s.n, 0);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 15));
	arena_fini(&a);
	arena_pool_fini(&pool);
}

static void test_out_of_memory(void **state)
{
	struct arena_pool pool;
	struct arena a;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	mem_fault = always_fails;
	assert_null(arena_alloc(&a, 1));
	assert_null(arena_dup(&a, SLICE("x")).p);
	assert_null(arena_printf(&a, "%d", 1).p);
	assert_null(arena_zalloc(&a, 4));
	mem_fault = NULL;
	assert_non_null(arena_alloc(&a, 1));
	arena_fini(&a);
	arena_pool_fini(&pool);
}

static void test_printf(void **state)
{
	struct arena_pool pool;
	struct arena a;
	struct slice s;

	arena_pool_init(&pool);
	arena_init(&a, &pool);
	s = arena_printf(&a, "%s-%d", "abc", 42);
	assert_true(slice_eq(s, SLICE("abc-42")));
	/* Over the end of a chunk, and larger than one. */
	for (int n = 1; n < 20000; n += 777) {
		s = arena_printf(&a, "%0*d", n, 7);
		assert_int_equal(s.n, n);
		assert_int_equal(s.p[n - 1], '7');
	}
	/* Exactly what is left. */
	arena_fini(&a);
	s = arena_printf(&a, "x");
	while ((size_t)(a.end - a.pos) > 16)
		assert_non_null(arena_alloc(&a, 16));
	s = arena_printf(&a, "%s", "0123456789abcdef");
	assert_true(slice_eq(s, SLICE("0123456789abcdef")));
	arena_fini(&a);
	arena_pool_fini(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alignment_and_disjoint),
		cmocka_unit_test(test_large_leaves_room),
		cmocka_unit_test(test_reset_keeps_one),
		cmocka_unit_test(test_pool_is_bounded),
		cmocka_unit_test(test_no_bytes_is_no_failure),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_printf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
