/* Counted blocks and out-queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/outq.h"

static int faults_after;

static bool fails_later(size_t bytes)
{
	return faults_after-- <= 0;
}

static size_t outq_text(const struct outq *q, char *out, size_t max)
{
	struct iovec iov[64];
	size_t n = 0;
	int n_iov = outq_iov(q, iov, 64);

	for (int i = 0; i < n_iov; i++) {
		assert_true(n + iov[i].iov_len <= max);
		memcpy(out + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	return n;
}

static void assert_text(const struct outq *q, const char *want)
{
	char text[4096];
	size_t n = outq_text(q, text, sizeof(text));

	assert_int_equal(n, strlen(want));
	assert_int_equal(q->bytes, n);
	assert_memory_equal(text, want, n);
}

static void test_block_classes(void **state)
{
	struct block_pool pool;
	struct block *a, *b, *c;

	block_pool_init(&pool);
	a = block_new(&pool, 1);
	b = block_new(&pool, BLOCK_SMALL + 1);
	c = block_new(&pool, BLOCK_LARGE + 1);
	assert_int_equal(a->size, BLOCK_SMALL);
	assert_int_equal(b->size, BLOCK_LARGE);
	assert_int_equal(c->size, BLOCK_LARGE + 1);
	assert_int_equal(pool.live, 3);
	assert_int_equal(pool.live_bytes, a->size + b->size + c->size);
	assert_ptr_equal(block_get(a), a);
	block_put(a);
	assert_int_equal(pool.live, 3);
	block_put(a);
	block_put(b);
	block_put(c);
	block_put(NULL);
	assert_int_equal(pool.live, 0);
	assert_int_equal(pool.live_bytes, 0);
	/* The last that went is the first that comes. */
	assert_ptr_equal(block_new(&pool, 10), a);
	assert_int_equal(a->used, 0);
	block_put(a);
	block_pool_fini(&pool);
}

static void test_block_pool_is_bounded(void **state)
{
	struct block_pool pool;
	struct block *b[200];

	block_pool_init(&pool);
	for (int i = 0; i < 200; i++)
		b[i] = block_new(&pool, BLOCK_LARGE);
	for (int i = 0; i < 200; i++)
		block_put(b[i]);
	assert_int_equal(pool.n_free[1], 64);
	block_pool_fini(&pool);
}

/* Readers write behind each other; nothing stays once all have let go. */
static void test_block_share(void **state)
{
	struct block_pool pool;
	struct block *a, *b, *c;

	block_pool_init(&pool);
	a = block_share(&pool, BLOCK_KEPT, 1000);
	assert_int_equal(a->used, 0);
	a->used += BLOCK_SMALL - 1000;
	b = block_share(&pool, BLOCK_KEPT, 1000);
	assert_ptr_equal(b, a);
	assert_int_equal(a->refs, 2);
	b->used++;
	c = block_share(&pool, BLOCK_KEPT, 1000);
	assert_ptr_not_equal(c, a);
	assert_int_equal(c->used, 0);
	block_put(b);
	block_put(a);
	assert_ptr_equal(block_share(&pool, BLOCK_KEPT, 1), c);
	block_put(c);
	block_put(c);
	assert_int_equal(pool.live, 0);
	a = block_share(&pool, BLOCK_KEPT, BLOCK_SMALL);
	assert_int_equal(a->used, 0);
	/* Nobody else's is shared by chance. */
	b = block_new(&pool, 1);
	assert_ptr_not_equal(a, b);
	block_put(a);
	block_put(b);
	block_pool_fini(&pool);
}

/* Two queues in one block: each has its own bytes, as few segments as there can
 * be, and a block of its own for what is large. */
static void test_outq_share(void **state)
{
	struct block_pool pool;
	struct outq a, b;

	block_pool_init(&pool);
	outq_init(&a, &pool);
	outq_init(&b, &pool);
	outq_share(&a, BLOCK_BRIEF);
	outq_share(&b, BLOCK_BRIEF);
	assert_true(outq_copy(&a, "one ", 4));
	assert_true(outq_copy(&a, "two ", 4));
	assert_int_equal(a.n_segs, 1);
	assert_true(outq_copy(&b, "other", 5));
	assert_int_equal(pool.live, 1);
	assert_true(outq_copy(&a, "three", 5));
	assert_int_equal(a.n_segs, 2);
	assert_text(&a, "one two three");
	assert_text(&b, "other");
	outq_clear(&a);
	assert_text(&b, "other");
	assert_non_null(outq_reserve(&a, BLOCK_SMALL / 2));
	assert_ptr_not_equal(a.tail, b.tail);
	outq_clear(&a);
	outq_clear(&b);
	assert_int_equal(pool.live, 0);
	block_pool_fini(&pool);
}

static void test_outq_gathers(void **state)
{
	struct block_pool pool;
	struct outq q;
	char *p;

	block_pool_init(&pool);
	outq_init(&q, &pool);
	assert_true(outq_copy(&q, "one ", 4));
	assert_true(outq_copy(&q, "two ", 4));
	p = outq_reserve(&q, 100);
	memcpy(p, "three", 5);
	assert_true(outq_commit(&q, 5));
	assert_int_equal(q.n_segs, 1);
	assert_text(&q, "one two three");
	assert_true(outq_ref(&q, NULL, " static", 7));
	assert_true(outq_copy(&q, "!", 1));
	assert_int_equal(q.n_segs, 3);
	assert_text(&q, "one two three static!");
	outq_consume(&q, 6);
	assert_text(&q, "o three static!");
	outq_consume(&q, 7);
	assert_int_equal(q.n_segs, 2);
	outq_consume(&q, 8);
	assert_true(outq_empty(&q));
	assert_null(q.first);
	assert_null(q.last);
	/* An idle queue holds nothing. */
	assert_int_equal(pool.live, 0);
	block_pool_fini(&pool);
}

static void test_outq_ref_keeps_the_block(void **state)
{
	struct block_pool pool;
	struct outq q;
	struct block *b;

	block_pool_init(&pool);
	outq_init(&q, &pool);
	b = block_new(&pool, 100);
	memcpy(b->data, "abcdef", 6);
	assert_true(outq_ref(&q, b, b->data, 3));
	assert_true(outq_ref(&q, b, b->data + 3, 3));
	assert_int_equal(q.n_segs, 1);
	assert_true(outq_ref(&q, b, b->data, 1));
	assert_int_equal(q.n_segs, 2);
	block_put(b);
	assert_text(&q, "abcdefa");
	outq_consume(&q, 6);
	assert_int_equal(pool.live, 1);
	outq_clear(&q);
	assert_int_equal(pool.live, 0);
	block_pool_fini(&pool);
}

static void test_outq_move(void **state)
{
	struct block_pool pool;
	struct outq q, from;

	block_pool_init(&pool);
	outq_init(&q, &pool);
	outq_init(&from, &pool);
	assert_true(outq_copy(&from, "b", 1));
	outq_move(&q, &from);
	assert_true(outq_empty(&from));
	assert_text(&q, "b");
	assert_true(outq_copy(&from, "c", 1));
	assert_true(outq_copy(&q, "x", 1));
	outq_move(&q, &from);
	assert_true(outq_copy(&q, "d", 1));
	assert_text(&q, "bxcd");
	outq_move(&q, &from);
	assert_text(&q, "bxcd");
	outq_clear(&q);
	outq_clear(&from);
	assert_int_equal(pool.live, 0);
	block_pool_fini(&pool);
}

static void test_outq_large(void **state)
{
	struct block_pool pool;
	struct outq q;
	char *big = mem_zalloc(300000);
	struct iovec iov[2];

	block_pool_init(&pool);
	outq_init(&q, &pool);
	for (int i = 0; i < 300; i++) {
		memset(big, i, 1000);
		assert_true(outq_copy(&q, big, 1000));
	}
	assert_int_equal(q.bytes, 300000);
	assert_int_equal(outq_iov(&q, iov, 2), 2);
	for (int i = 0; i < 300000; i++) {
		if (i % 777 == 0)
			assert_int_equal(*(unsigned char *)q.first->p,
					 (i / 1000) & 255);
		outq_consume(&q, 1);
	}
	assert_true(outq_copy(&q, big, 300000));
	outq_clear(&q);
	assert_int_equal(pool.live, 0);
	block_pool_fini(&pool);
	mem_free(big);
}

/* However memory runs out: false, and what was queued stands. */
static void test_outq_out_of_memory(void **state)
{
	for (int after = 0; after < 3; after++) {
		struct block_pool pool;
		struct outq q;
		bool ok;

		block_pool_init(&pool);
		outq_init(&q, &pool);
		faults_after = after;
		mem_fault = fails_later;
		ok = outq_copy(&q, "abc", 3);
		mem_fault = NULL;
		assert_int_equal(ok, after >= 2);
		assert_text(&q, ok ? "abc" : "");
		assert_true(outq_copy(&q, "def", 3));
		assert_text(&q, ok ? "abcdef" : "def");
		outq_clear(&q);
		assert_int_equal(pool.live, 0);
		block_pool_fini(&pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block_classes),
		cmocka_unit_test(test_block_pool_is_bounded),
		cmocka_unit_test(test_block_share),
		cmocka_unit_test(test_outq_share),
		cmocka_unit_test(test_outq_gathers),
		cmocka_unit_test(test_outq_ref_keeps_the_block),
		cmocka_unit_test(test_outq_move),
		cmocka_unit_test(test_outq_large),
		cmocka_unit_test(test_outq_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
