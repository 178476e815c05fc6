/* Base64: RFC 4648 vectors, any split, and nothing but the alphabet. */
#include "wire/base64.h"
#include "wire_fixture.h"

static void check(const char *plain, size_t n, const char *encoded)
{
	for (size_t cut = 0; cut <= n; cut++) {
		struct base64 b = { .n_rest = 0 };
		char *out = malloc(base64_size(n) + 1), *o = out, *back;
		char *first = malloc(cut ? cut : 1), *second =
						     malloc(n - cut + 1);
		size_t size;

		memcpy(first, plain, cut);
		memcpy(second, plain + cut, n - cut);
		o = base64_put(&b, o, first, cut);
		o = base64_put(&b, o, second, n - cut);
		o = base64_finish(&b, o);
		assert_int_equal(o - out, base64_size(n));
		if (encoded)
			assert_memory_equal(out, encoded, strlen(encoded));
		back = malloc((size_t)(o - out) + 1);
		memcpy(back, out, (size_t)(o - out));
		assert_true(base64_decode(back, back, (size_t)(o - out),
					  &size));
		assert_int_equal(size, n);
		assert_memory_equal(back, plain, n);
		free(out);
		free(first);
		free(second);
		free(back);
	}
}

static void test_rfc(void **state)
{
	check("", 0, "");
	check("f", 1, "Zg==");
	check("fo", 2, "Zm8=");
	check("foo", 3, "Zm9v");
	check("foob", 4, "Zm9vYg==");
	check("fooba", 5, "Zm9vYmE=");
	check("foobar", 6, "Zm9vYmFy");
}

static void test_all_bytes(void **state)
{
	char all[256];

	for (unsigned i = 0; i < 256; i++)
		all[i] = (char)i;
	check(all, 256, NULL);
	for (unsigned i = 0; i < 256; i++)
		all[i] = (char)(255 - i);
	check(all, 255, NULL);
}

/* Many pieces of one byte: the remainder goes over all of them. */
static void test_single_bytes(void **state)
{
	struct base64 b = { .n_rest = 0 };
	char out[16], *o = out;

	for (int i = 0; i < 7; i++)
		o = base64_put(&b, o, &"foobar!"[i], 1);
	o = base64_finish(&b, o);
	assert_int_equal(o - out, 12);
	assert_memory_equal(out, "Zm9vYmFyIQ==", 12);
}

static bool decodes(const char *text, char out[64], size_t *n)
{
	return base64_decode(out, text, strlen(text), n);
}

static void test_padding_may_be_missing(void **state)
{
	char out[64];
	size_t n;

	assert_true(decodes("Zg", out, &n) && n == 1);
	assert_true(decodes("Zm8", out, &n) && n == 2);
	assert_true(decodes("Zm9vYg", out, &n) && n == 4);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"Z", "Zg=", "Z===", "=", "====", "Zg==Zg==", "Zm9v Zg==",
		"Zm9v\n", "Zm-_", "!!!!", "Zm9vZ", "Zh==", "Zm9=", "Zg=a",
		"Zm9v\x80""abc", "=Zg=", "Zm9v=",
	};
	char out[64];
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (decodes(bad[i], out, &n))
			fail_msg("%s was taken", bad[i]);
}

/* Every byte outside the alphabet, at every place of a group. */
static void test_alphabet(void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijk"
				       "lmnopqrstuvwxyz0123456789+/";
	char out[64], group[8];
	size_t n;

	for (unsigned c = 0; c < 256; c++) {
		bool in = c && strchr(alphabet, (int)c);

		for (unsigned at = 0; at < 8; at++) {
			memcpy(group, "AAAAAAAA", 8);
			group[at] = (char)c;
			if (c == '=' && at == 7)
				continue;
			assert_int_equal(base64_decode(out, group, 8, &n), in);
		}
	}
}

/* The groups' numbers looked up one by one: what the fast ways must equal. */
static void plain_encode(char *out, const unsigned char *p, size_t n)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijk"
				       "lmnopqrstuvwxyz0123456789+/";

	for (size_t bit = 0; bit < n * 8; bit += 6) {
		unsigned v = (unsigned)p[bit / 8] << 8;

		v |= bit / 8 + 1 < n ? p[bit / 8 + 1] : 0;
		*out++ = alphabet[v >> (10 - bit % 8) & 63];
	}
}

/* Whichever length: into room of just the size. */
static void test_long_texts(void **state)
{
	uint32_t random = 1;

	for (size_t n = 0; n < 300; n++) {
		size_t chars = (n * 8 + 5) / 6, size;
		unsigned char *plain = malloc(n + 1);
		char *want = malloc(chars + 1), *out = malloc(n + 1);

		for (size_t i = 0; i < n; i++)
			plain[i] = (unsigned char)((random = random *
				1664525 + 1013904223) >> 24);
		plain_encode(want, plain, n);
		check((const char *)plain, n, NULL);
		assert_true(base64_decode(out, want, chars, &size));
		assert_int_equal(size, n);
		assert_memory_equal(out, plain, n);
		free(plain);
		free(want);
		free(out);
	}
}

/* As test_alphabet, where the text is long enough for the fast way. */
static void test_alphabet_of_long_texts(void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijk"
				       "lmnopqrstuvwxyz0123456789+/";
	char out[128], text[128];
	size_t n;

	for (unsigned c = 0; c < 256; c++) {
		const char *place = c ? strchr(alphabet, (int)c) : NULL;

		for (unsigned at = 0; at < 127; at++) {
			memset(text, 'A', sizeof(text));
			text[at] = (char)c;
			assert_int_equal(base64_decode(out, text, 128, &n),
					 place != NULL);
			if (!place)
				continue;
			assert_int_equal(n, 96);
			for (unsigned i = 0; i < 96; i++) {
				size_t v = (size_t)(place - alphabet)
					   << (18 - at % 4 * 6);
				size_t want = i / 3 == at / 4 ?
					v >> (16 - i % 3 * 8) & 255 : 0;

				assert_int_equal((unsigned char)out[i], want);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc),
		cmocka_unit_test(test_all_bytes),
		cmocka_unit_test(test_single_bytes),
		cmocka_unit_test(test_padding_may_be_missing),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_alphabet),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_alphabet_of_long_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
