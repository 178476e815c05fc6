#include "wire/base64_bulk.h"

#ifdef __x86_64__

#include <immintrin.h>

#define AVX2	__attribute__((target("avx2")))
/* The same 16 bytes for both halves. */
#define BOTH(...)	_mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)

/* Twelve bytes in each half: their sixteen numbers of six bits. */
static inline AVX2 __m256i split(__m256i v)
{
	__m256i ac, bd;

	/* Of bytes 0 1 2: 1 0 2 1, so that both halves of the word hold two
	 * whole numbers in one 16-bit piece. */
	v = _mm256_shuffle_epi8(v, BOTH(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7,
					10, 9, 11, 10));
	ac = _mm256_and_si256(v, _mm256_set1_epi32(0x0fc0fc00));
	ac = _mm256_mulhi_epu16(ac, _mm256_set1_epi32(0x04000040));
	bd = _mm256_and_si256(v, _mm256_set1_epi32(0x003f03f0));
	bd = _mm256_mullo_epi16(bd, _mm256_set1_epi32(0x01000010));
	return _mm256_or_si256(ac, bd);
}

/* Numbers to characters: each range has its distance. */
static inline AVX2 __m256i to_text(__m256i v)
{
	const __m256i distance = BOTH('a' - 26, -4, -4, -4, -4, -4, -4, -4,
				      -4, -4, -4, '+' - 62, '/' - 63, 'A', 0,
				      0);
	__m256i row = _mm256_subs_epu8(v, _mm256_set1_epi8(51));
	__m256i upper = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), v);

	row = _mm256_or_si256(row, _mm256_and_si256(upper,
						    _mm256_set1_epi8(13)));
	return _mm256_add_epi8(v, _mm256_shuffle_epi8(distance, row));
}

static AVX2 size_t encode(char *out, const char *p, size_t n)
{
	size_t i = 0;

	/* 28 bytes are loaded for 24. */
	for (; n - i >= 28; i += 24, out += 32) {
		__m128i lo = _mm_loadu_si128((const void *)(p + i));
		__m128i hi = _mm_loadu_si128((const void *)(p + i + 12));
		__m256i v = _mm256_set_m128i(hi, lo);

		_mm256_storeu_si256((void *)out, to_text(split(v)));
	}
	return i;
}

/*
 * Characters to numbers: the upper half of a character says which range it can
 * be of, hence how far it is from its number ('/' counts as a range of its
 * own); a character is bad if its lower half does not occur with its upper.
 */
static inline AVX2 __m256i to_numbers(__m256i text, __m256i *bad)
{
	/* A bit for each kind of upper half: 2, 3, 4 or 6, 5 or 7, others. */
	const __m256i upper_kind = BOTH(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16,
					16, 16, 16, 16, 16);
	/* The kinds that a lower half does not go with. */
	const __m256i lower_not = BOTH(21, 17, 17, 17, 17, 17, 17, 17, 17, 17,
				       19, 26, 27, 27, 27, 26);
	const __m256i distance = BOTH(0, 63 - '/', 62 - '+', 52 - '0', -'A',
				      -'A', 26 - 'a', 26 - 'a', 0, 0, 0, 0, 0,
				      0, 0, 0);
	const __m256i low4 = _mm256_set1_epi8(15);
	__m256i upper = _mm256_and_si256(_mm256_srli_epi32(text, 4), low4);
	__m256i lower = _mm256_and_si256(text, low4);
	__m256i slash = _mm256_cmpeq_epi8(text, _mm256_set1_epi8('/'));

	*bad = _mm256_or_si256(*bad, _mm256_and_si256(
		_mm256_shuffle_epi8(upper_kind, upper),
		_mm256_shuffle_epi8(lower_not, lower)));
	return _mm256_add_epi8(text, _mm256_shuffle_epi8(
		distance, _mm256_add_epi8(upper, slash)));
}

/* Four numbers of six bits to three bytes; 24 bytes at the front. */
static inline AVX2 __m256i join(__m256i v)
{
	v = _mm256_maddubs_epi16(v, _mm256_set1_epi32(0x01400140));
	v = _mm256_madd_epi16(v, _mm256_set1_epi32(0x00011000));
	v = _mm256_shuffle_epi8(v, BOTH(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12,
					-1, -1, -1, -1));
	return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 1, 2, 4, 5,
								6, 3, 7));
}

static AVX2 size_t decode(char *out, const char *p, size_t n, bool *bad)
{
	__m256i any = _mm256_setzero_si256();
	size_t i = 0;

	/* 32 bytes are stored for 24: the characters behind make room. */
	for (; n - i >= 48; i += 32, out += 24) {
		__m256i v = _mm256_loadu_si256((const void *)(p + i));

		_mm256_storeu_si256((void *)out, join(to_numbers(v, &any)));
	}
	*bad |= !_mm256_testz_si256(any, any);
	return i;
}

size_t base64_encode_bulk(char *out, const char *p, size_t n)
{
	return n >= 28 && __builtin_cpu_supports("avx2") ? encode(out, p, n)
							  : 0;
}

size_t base64_decode_bulk(char *out, const char *p, size_t n, bool *bad)
{
	return n >= 48 && __builtin_cpu_supports("avx2") ?
		       decode(out, p, n, bad) : 0;
}

#else

size_t base64_encode_bulk(char *out, const char *p, size_t n)
{
	return 0;
}

size_t base64_decode_bulk(char *out, const char *p, size_t n, bool *bad)
{
	return 0;
}

#endif
