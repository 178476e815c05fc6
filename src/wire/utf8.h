/*
 * UTF-8 at speed: what most strings are is ASCII, and that is found out 16
 * bytes at a time. Pure.
 */
#ifndef WIRE_UTF8_H
#define WIRE_UTF8_H

#include "base/slice.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bytes of the character at p, n > 0 bytes before the end: 1 to 4; 0 when it
 * is no UTF-8 (overlong forms, surrogates and the like included). */
unsigned utf8_char_len(const char *p, size_t n);
bool utf8_valid_slow_(const char *p, size_t n);

/* The longest prefix of s of at most `max` bytes that cuts no character. s is
 * valid UTF-8. */
size_t utf8_cut(struct slice s, size_t max);

/* How long s gets when each byte is taken for a code point of its own. */
size_t utf8_from_bytes_size(struct slice s);
/* Writes that; returns the end. */
char *utf8_from_bytes(char *out, struct slice s);

/*
 * Words read from the front and the back of a short run, so that 1 to 15 bytes
 * are seen without a loop and without a byte beyond them.
 */
static inline uint64_t utf8_load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t utf8_load32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#define UTF8_HIGH	0x8080808080808080ull

#ifdef __SSE2__
static inline __m128i utf8_load128(const char *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline void utf8_store128(char *p, __m128i v)
{
	_mm_storeu_si128((__m128i *)(void *)p, v);
}
#endif

static inline bool utf8_is_ascii(const char *p, size_t n)
{
	uint64_t seen = 0;

	if (n >= 8) {
		size_t i = 0;
#ifdef __SSE2__
		__m128i v = _mm_setzero_si128();

		for (; i + 16 <= n; i += 16)
			v = _mm_or_si128(v, utf8_load128(p + i));
		if (_mm_movemask_epi8(v))
			return false;
#endif
		for (; i + 8 <= n; i += 8)
			seen |= utf8_load64(p + i);
		seen |= utf8_load64(p + n - 8);
	} else if (n >= 4) {
		seen = utf8_load32(p) | utf8_load32(p + n - 4);
	} else {
		for (size_t i = 0; i < n; i++)
			seen |= (unsigned char)p[i];
	}
	return !(seen & UTF8_HIGH);
}

static inline bool utf8_valid(const char *p, size_t n)
{
	return LIKELY(utf8_is_ascii(p, n)) || utf8_valid_slow_(p, n);
}

static inline uint16_t utf8_load16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Copies n < 8 bytes through words that overlap; returns what it saw. */
static inline uint64_t utf8_copy_short_(char *out, const char *p, size_t n)
{
	if (n >= 4) {
		uint32_t a = utf8_load32(p), b = utf8_load32(p + n - 4);

		memcpy(out, &a, 4);
		memcpy(out + n - 4, &b, 4);
		return a | b;
	}
	if (n >= 2) {
		uint16_t a = utf8_load16(p), b = utf8_load16(p + n - 2);

		memcpy(out, &a, 2);
		memcpy(out + n - 2, &b, 2);
		return a | b;
	}
	if (!n)
		return 0;
	*out = *p;
	return (unsigned char)*p;
}

/* Copies n bytes; true if all of them are ASCII. No overlap. */
static inline bool utf8_copy(char *out, const char *p, size_t n)
{
	uint64_t seen = 0, v;

	if (n < 8)
		return !(utf8_copy_short_(out, p, n) & UTF8_HIGH);
#ifdef __SSE2__
	if (n >= 16) {
		/* First and last, which overlap, and what is between them. */
		__m128i all = utf8_load128(p), last = utf8_load128(p + n - 16);

		utf8_store128(out, all);
		utf8_store128(out + n - 16, last);
		all = _mm_or_si128(all, last);
		for (size_t i = 16; UNLIKELY(i + 16 < n); i += 16) {
			last = utf8_load128(p + i);
			utf8_store128(out + i, last);
			all = _mm_or_si128(all, last);
		}
		return !_mm_movemask_epi8(all);
	}
#endif
	for (size_t i = 0; i + 8 <= n; i += 8) {
		v = utf8_load64(p + i);
		memcpy(out + i, &v, 8);
		seen |= v;
	}
	v = utf8_load64(p + n - 8);
	memcpy(out + n - 8, &v, 8);
	return !((seen | v) & UTF8_HIGH);
}

/* Lower-cases the ASCII letters among eight bytes. */
static inline uint64_t utf8_lower64(uint64_t v)
{
	const uint64_t ones = 0x0101010101010101ull;
	uint64_t seven = v & ~UTF8_HIGH;
	uint64_t above_z = seven + ones * (0x7f - 'Z');
	uint64_t from_a = seven + ones * (0x80 - 'A');

	return v | ((~v & (from_a ^ above_z) & UTF8_HIGH) >> 2);
}

#ifdef __SSE2__
static inline __m128i utf8_lower128(__m128i v)
{
	__m128i upper = _mm_and_si128(
		_mm_cmpgt_epi8(v, _mm_set1_epi8('A' - 1)),
		_mm_cmplt_epi8(v, _mm_set1_epi8('Z' + 1)));

	return _mm_or_si128(v, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
}
#endif

/* As utf8_copy, with ASCII letters made small. */
static inline bool utf8_copy_lower(char *out, const char *p, size_t n)
{
	uint64_t seen = 0, v;

	if (n < 8) {
		v = 0;
		seen = utf8_copy_short_((char *)&v, p, n);
		v = utf8_lower64(v);
		(void)utf8_copy_short_(out, (const char *)&v, n);
		return !(seen & UTF8_HIGH);
	}
#ifdef __SSE2__
	if (n >= 16) {
		__m128i all = _mm_setzero_si128(), w;

		for (size_t i = 0; i + 16 <= n; i += 16) {
			w = utf8_load128(p + i);
			utf8_store128(out + i, utf8_lower128(w));
			all = _mm_or_si128(all, w);
		}
		w = utf8_load128(p + n - 16);
		utf8_store128(out + n - 16, utf8_lower128(w));
		return !_mm_movemask_epi8(_mm_or_si128(all, w));
	}
	/* Its two ends, which overlap, as one word. */
	__m128i both = _mm_set_epi64x((long long)utf8_load64(p + n - 8),
				      (long long)utf8_load64(p));
	__m128i small = utf8_lower128(both);

	_mm_storel_epi64((__m128i *)(void *)out, small);
	_mm_storel_epi64((__m128i *)(void *)(out + n - 8),
			 _mm_unpackhi_epi64(small, small));
	return !_mm_movemask_epi8(both);
#else
	for (size_t i = 0; i + 8 <= n; i += 8) {
		v = utf8_load64(p + i);
		seen |= v;
		v = utf8_lower64(v);
		memcpy(out + i, &v, 8);
	}
	v = utf8_load64(p + n - 8);
	seen |= v;
	v = utf8_lower64(v);
	memcpy(out + n - 8, &v, 8);
	return !(seen & UTF8_HIGH);
#endif
}

/* Are these n bytes the same? For short keys, where a call costs more. */
static inline bool utf8_same(const char *a, const char *b, size_t n)
{
	if (n > 16)
		return memcmp(a, b, n) == 0;
	if (n >= 8)
		return utf8_load64(a) == utf8_load64(b) &&
		       utf8_load64(a + n - 8) == utf8_load64(b + n - 8);
	if (n >= 4)
		return utf8_load32(a) == utf8_load32(b) &&
		       utf8_load32(a + n - 4) == utf8_load32(b + n - 4);
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/*
 * Bytes that a JSON string cannot hold as they are, or that need a look: `"`,
 * `\`, all below 0x20 and all from 0x80 up.
 */
static inline bool utf8_json_special(unsigned char c)
{
	return c < 0x20 || c >= 0x80 || c == '"' || c == '\\';
}

#ifdef __SSE2__
static inline unsigned utf8_json_mask(__m128i v)
{
	/* As signed bytes, those from 0x80 up are below 0x20 too. */
	__m128i m = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));

	m = _mm_or_si128(m, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
	m = _mm_or_si128(m, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
	return (unsigned)_mm_movemask_epi8(m);
}
#endif

/* Are all n bytes such that a JSON string holds them as they are? */
static inline bool utf8_json_plain(const char *p, size_t n)
{
#ifdef __SSE2__
	__m128i v;
	uint64_t w;

	if (n >= 16) {
		for (size_t i = 0; i + 16 <= n; i += 16)
			if (utf8_json_mask(utf8_load128(p + i)))
				return false;
		return !utf8_json_mask(utf8_load128(p + n - 16));
	}
	if (n >= 8) {
		v = _mm_set_epi64x((long long)utf8_load64(p + n - 8),
				   (long long)utf8_load64(p));
		return !utf8_json_mask(v);
	}
	if (n >= 4) {
		w = (uint64_t)utf8_load32(p) << 32 | utf8_load32(p + n - 4);
		v = _mm_set_epi64x((long long)w, (long long)w);
		return !utf8_json_mask(v);
	}
#endif
	for (size_t i = 0; i < n; i++)
		if (utf8_json_special((unsigned char)p[i]))
			return false;
	return true;
}

/* How many bytes at p come before the first special one; at most n. */
static inline size_t utf8_json_run(const char *p, size_t n)
{
	size_t i = 0;

#ifdef __SSE2__
	for (; i + 16 <= n; i += 16) {
		unsigned m = utf8_json_mask(utf8_load128(p + i));

		if (m)
			return i + (unsigned)__builtin_ctz(m);
	}
#endif
	while (i < n && !utf8_json_special((unsigned char)p[i]))
		i++;
	return i;
}

#endif
