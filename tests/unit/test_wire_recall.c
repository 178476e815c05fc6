/* A remembered reply means what it meant, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "wire/recall.h"

#define ID_A	"0af7651916cd43dd8448eb211c80319c"
#define ID_B	"1bf7651916cd43dd8448eb211c80319d"

static const char form[] =
	"{\"version\":2,\"decision\":\"allow\",\"request_headers\":[{\"set\":"
	"{\"name\":\"x\",\"value\":\"a\\u0062%s\"}}],\"audit\":{\"custom\":"
	"{\"correlation_id\":\"%s\"}}%s}";

static struct arena_pool pool;
static struct arena scratch;
static const struct wire_format json = { .encoding = WIRE_JSON };

static const struct decision *ask(struct recall *r, const char *value,
				  const char *id, const char *more)
{
	static char text[2048];
	int n = snprintf(text, sizeof(text), form, value, id, more);
	struct slice payload = slice_of(text, (size_t)n);
	const struct decision *known = recall_find(r, payload, id);
	struct decision d;

	if (known)
		return known;
	recall_see(r, payload);
	if (wire_decode_reply(text, payload.n, &json, NULL, &scratch, &d) ==
	    DECISION_OK)
		recall_learn(r, &json, &d);
	arena_reset(&scratch);
	return NULL;
}

static int setup(void **state)
{
	arena_pool_init(&pool);
	arena_init(&scratch, &pool);
	*state = recall_new(&pool);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	recall_free(*state);
	arena_fini(&scratch);
	assert_int_equal(pool.live, 0);
	arena_pool_fini(&pool);
	return 0;
}

static void test_same_but_for_the_id(void **state)
{
	const struct decision *d;

	assert_null(ask(*state, "", ID_A, ""));
	d = ask(*state, "", ID_B, "");
	assert_non_null(d);
	assert_int_equal(d->kind, DECISION_ALLOW);
	assert_int_equal(d->id_kind, DECISION_ID_PRESENT);
	assert_memory_equal(d->id.p, ID_B, EVENT_ID_LEN);
	assert_int_equal(d->n_request_ops, 1);
	assert_true(slice_eq(d->request_ops[0].value, SLICE("ab")));
}

static void test_any_other_byte_is_another_reply(void **state)
{
	assert_null(ask(*state, "1", ID_A, ""));
	assert_non_null(ask(*state, "1", ID_A, ""));
	assert_null(ask(*state, "2", ID_A, ""));	/* before the id */
	assert_null(ask(*state, "1", ID_A, " "));	/* behind it */
	assert_non_null(ask(*state, "1", ID_B, ""));
}

static void test_not_another_events_id(void **state)
{
	char text[2048];
	int n;

	assert_null(ask(*state, "", ID_A, ""));
	n = snprintf(text, sizeof(text), form, "", ID_A, "");
	assert_null(recall_find(*state, slice_of(text, (size_t)n), ID_B));
}

static void test_a_mutation_is_not_remembered(void **state)
{
	const char *m = ",\"request_body_mutation\":"
			"{\"data\":\"aGk=\",\"chunk_index\":0}";

	assert_null(ask(*state, "", ID_A, m));
	assert_null(ask(*state, "", ID_A, m));
}

static void test_a_fault_is_not_remembered(void **state)
{
	assert_null(ask(*state, "", ID_A, ",\"needs_more\":1"));
	assert_null(ask(*state, "", ID_A, ",\"needs_more\":1"));
}

static void test_learns_again_after_a_while(void **state)
{
	int asked = 0;

	assert_null(ask(*state, "old", ID_A, ""));
	while (!ask(*state, "new", ID_A, "") && asked < 100)
		asked++;
	assert_in_range(asked, 2, 40);
	assert_null(ask(*state, "old", ID_A, ""));
}

static void test_long_replies_are_left_alone(void **state)
{
	char value[RECALL_MAX + 1];

	memset(value, 'v', RECALL_MAX);
	value[RECALL_MAX] = 0;
	assert_null(ask(*state, value, ID_A, ""));
	assert_null(ask(*state, value, ID_A, ""));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_same_but_for_the_id),
		T(test_any_other_byte_is_another_reply),
		T(test_not_another_events_id),
		T(test_a_mutation_is_not_remembered),
		T(test_a_fault_is_not_remembered),
		T(test_learns_again_after_a_while),
		T(test_long_replies_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
