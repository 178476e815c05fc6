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

static inline bool utf8_is_ascii(const char *p, size_t n)
{
	uint64_t seen = 0;

	if (n >= 8) {
		size_t i = 0;
#ifdef __SSE2__
		__m128i v = _mm_setzero_si128();

		for (; i + 16 <= n; i += 16)
			v = _mm_or_si128(v, _mm_loadu_si128(
				(const __m128i *)(const void *)(p + i)));
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

/* Copies n bytes; true if all of them are ASCII. No overlap. */
static inline bool utf8_copy(char *out, const char *p, size_t n)
{
	uint64_t seen = 0;

	if (n >= 16) {
		size_t i = 0;
#ifdef __SSE2__
		__m128i all = _mm_setzero_si128(), v;

		for (; i + 16 <= n; i += 16) {
			v = _mm_loadu_si128((const __m128i *)(const void *)
					    (p + i));
			_mm_storeu_si128((__m128i *)(void *)(out + i), v);
			all = _mm_or_si128(all, v);
		}
		v = _mm_loadu_si128((const __m128i *)(const void *)
				    (p + n - 16));
		_mm_storeu_si128((__m128i *)(void *)(out + n - 16), v);
		return !_mm_movemask_epi8(_mm_or_si128(all, v));
#else
		memcpy(out, p, n);
		for (; i + 8 <= n; i += 8)
			seen |= utf8_load64(p + i);
		seen |= utf8_load64(p + n - 8);
#endif
	} else if (n >= 8) {
		uint64_t a = utf8_load64(p), b = utf8_load64(p + n - 8);

		memcpy(out, &a, 8);
		memcpy(out + n - 8, &b, 8);
		seen = a | b;
	} else if (n >= 4) {
		uint32_t a = utf8_load32(p), b = utf8_load32(p + n - 4);

		memcpy(out, &a, 4);
		memcpy(out + n - 4, &b, 4);
		seen = a | b;
	} else {
		for (size_t i = 0; i < n; i++) {
			out[i] = p[i];
			seen |= (unsigned char)p[i];
		}
	}
	return !(seen & UTF8_HIGH);
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

/* As utf8_copy, with ASCII letters made small. */
static inline bool utf8_copy_lower(char *out, const char *p, size_t n)
{
	uint64_t seen = 0, a, b;

	if (n >= 8) {
		for (size_t i = 0; i + 8 <= n; i += 8) {
			a = utf8_load64(p + i);
			seen |= a;
			a = utf8_lower64(a);
			memcpy(out + i, &a, 8);
		}
		b = utf8_load64(p + n - 8);
		seen |= b;
		b = utf8_lower64(b);
		memcpy(out + n - 8, &b, 8);
	} else if (n >= 4) {
		a = utf8_load32(p) | (uint64_t)utf8_load32(p + n - 4) << 32;
		seen = a;
		a = utf8_lower64(a);
		b = a >> 32;
		memcpy(out, &a, 4);
		memcpy(out + n - 4, &b, 4);
	} else {
		for (size_t i = 0; i < n; i++) {
			out[i] = ascii_lower(p[i]);
			seen |= (unsigned char)p[i];
		}
	}
	return !(seen & UTF8_HIGH);
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

/* How many bytes at p come before the first special one; at most n. */
static inline size_t utf8_json_run(const char *p, size_t n)
{
	size_t i = 0;

#ifdef __SSE2__
	for (; i + 16 <= n; i += 16) {
		unsigned m = utf8_json_mask(_mm_loadu_si128(
			(const __m128i *)(const void *)(p + i)));

		if (m)
			return i + (unsigned)__builtin_ctz(m);
	}
#endif
	while (i < n && !utf8_json_special((unsigned char)p[i]))
		i++;
	return i;
}

#endif
