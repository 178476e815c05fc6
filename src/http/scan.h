/*
 * Finding the end of names, values and targets, sixteen bytes at a time where
 * SSE2 is there. Private to http/. No function reads outside [base, end).
 */
#ifndef HTTP_SCAN_H
#define HTTP_SCAN_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/slice.h"

/* Classes of bytes; a byte may be of several. */
enum {
	CHAR_TOKEN	= 1 << 0,	/* tchar, RFC 9110 5.6.2 */
	CHAR_NAME	= 1 << 1,	/* letter, digit, '-' */
	CHAR_TEXT	= 1 << 2,	/* may stand in a field value */
	CHAR_TARGET	= 1 << 3,	/* may stand in a request target */
	CHAR_HOST	= 1 << 4,	/* reg-name but for escapes */
	CHAR_UNRESERVED	= 1 << 5,	/* RFC 3986, 2.3 */
};

extern const uint8_t http_char_class[256];

static inline bool char_is(char c, unsigned classes)
{
	return http_char_class[(unsigned char)c] & classes;
}

/* -1 if not a hex digit. */
static inline int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline uint64_t load8(const char *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof(x));
	return x;
}

static inline uint32_t load4(const char *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof(x));
	return x;
}

/*
 * Is s the text `lower`, case folded? Folds by setting bit 5 of all bytes, so
 * s must hold no controls, and lower only lower-case letters, digits and '-'.
 */
static inline bool text_is(struct slice s, const char *lower, size_t n)
{
	const uint64_t f8 = 0x2020202020202020ull;
	const uint32_t f4 = 0x20202020u;
	const char *p = s.p;

	if (s.n != n)
		return false;
	if (n >= 8) {
		for (size_t i = 0; i + 8 < n; i += 8)
			if ((load8(p + i) | f8) != load8(lower + i))
				return false;
		return (load8(p + n - 8) | f8) == load8(lower + n - 8);
	}
	if (n >= 4)
		return (load4(p) | f4) == load4(lower) &&
		       (load4(p + n - 4) | f4) == load4(lower + n - 4);
	for (size_t i = 0; i < n; i++)
		if ((p[i] | 0x20) != lower[i])
			return false;
	return true;
}

#define TEXT_IS(s, lit)	text_is((s), (lit), sizeof(lit) - 1)

#ifdef __SSE2__

/*
 * The next up to sixteen bytes, *n of them. Near the end the last sixteen
 * bytes are loaded instead, to be shifted by *shift; false if there are not
 * even that many from base on.
 */
static inline bool scan_load(const char *base, const char *p, const char *end,
			     __m128i *v, unsigned *shift)
{
	if (LIKELY(end - p >= 16)) {
		*v = _mm_loadu_si128((const __m128i *)p);
		*shift = 0;
		return true;
	}
	if (end - base < 16)
		return false;
	*v = _mm_loadu_si128((const __m128i *)(end - 16));
	*shift = 16 - (unsigned)(end - p);
	return true;
}

/* The n bytes at p, with zeros behind them. 4 <= n <= 16. */
static inline __m128i scan_load_short(const char *p, size_t n)
{
	uint64_t low, high = 0;

	if (n >= 8) {
		low = load8(p);
		high = load8(p + n - 8) >> (8 * (16 - n) & 63);
		if (n == 8)
			high = 0;
	} else {
		low = load4(p) | (uint64_t)load4(p + n - 4) << 8 * (n - 4);
	}
	return _mm_set_epi64x((long long)high, (long long)low);
}

/* Bytes below 0x20 (HTAB too) and DEL. */
static inline unsigned scan_text_stops(__m128i v)
{
	__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
	__m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
	return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, del));
}

static inline unsigned scan_target_stops(__m128i v)
{
	__m128i low = _mm_cmplt_epi8(v, _mm_set1_epi8(0x21));
	__m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
	__m128i hash = _mm_cmpeq_epi8(v, _mm_set1_epi8('#'));
	return (unsigned)_mm_movemask_epi8(
		_mm_or_si128(low, _mm_or_si128(del, hash)));
}

/* 0xff where first <= byte <= first + span. */
static inline __m128i scan_range(__m128i v, char first, char span)
{
	__m128i x = _mm_sub_epi8(v, _mm_set1_epi8(first));
	return _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(span)), x);
}

static inline unsigned scan_name_stops(__m128i v)
{
	__m128i alpha = scan_range(_mm_or_si128(v, _mm_set1_epi8(0x20)),
				   'a', 25);
	__m128i digit = scan_range(v, '0', 9);
	__m128i dash = _mm_cmpeq_epi8(v, _mm_set1_epi8('-'));
	unsigned ok = (unsigned)_mm_movemask_epi8(
		_mm_or_si128(alpha, _mm_or_si128(digit, dash)));
	return ok ^ 0xffff;
}

#endif

/* The next control (HTAB too) or DEL from p on, or end; *high as below. */
static inline const char *scan_control(const char *base, const char *p,
				       const char *end, unsigned *high)
{
#ifdef __SSE2__
	__m128i v, all = _mm_setzero_si128();
	unsigned shift, stop;

	while (LIKELY(end - p >= 16)) {
		v = _mm_loadu_si128((const __m128i *)p);
		stop = scan_text_stops(v);
		if (stop) {
			*high |= (unsigned)_mm_movemask_epi8(all) |
				 ((unsigned)_mm_movemask_epi8(v) &
				  ((stop & -stop) - 1));
			return p + __builtin_ctz(stop);
		}
		all = _mm_or_si128(all, v);
		p += 16;
	}
	*high |= (unsigned)_mm_movemask_epi8(all);
	if (p < end && scan_load(base, p, end, &v, &shift)) {
		stop = scan_text_stops(v) >> shift;
		*high |= ((unsigned)_mm_movemask_epi8(v) >> shift) &
			 ((stop & -stop) - 1);
		return stop ? p + __builtin_ctz(stop) : end;
	}
#endif
	while (p < end && char_is(*p, CHAR_TEXT) && *p != '\t')
		*high |= *p++ & 0x80;
	return p;
}

/*
 * First byte from p on that cannot stand in a field value, or end. *high gets
 * a bit set if there is a byte of 0x80 or above before it.
 */
static inline const char *scan_text(const char *base, const char *p,
				    const char *end, unsigned *high)
{
	p = scan_control(base, p, end, high);
	while (p < end && UNLIKELY(*p == '\t'))
		p = scan_control(base, p + 1, end, high);
	return p;
}

/*
 * Is s a host name as nearly all are: lower-case letters, digits, '-' and '.'
 * alone? False may also mean that it is too short to be worth a look.
 */
static inline bool scan_plain_host(struct slice s)
{
#ifdef __SSE2__
	const char *p = s.p, *end = p + s.n;
	unsigned ok = 0xffff;
	__m128i v;

	if (s.n < 4)
		return false;
	if (s.n < 8)
		v = _mm_set_epi32((int)load4(end - 4), (int)load4(end - 4),
				  (int)load4(p), (int)load4(p));
	else if (s.n < 16)
		v = _mm_set_epi64x((long long)load8(end - 8),
				   (long long)load8(p));
	else
		v = _mm_loadu_si128((const __m128i *)(end - 16));
	for (;;) {
		__m128i alpha = scan_range(v, 'a', 25);
		__m128i digit = scan_range(v, '0', 9);
		__m128i mark = scan_range(v, '-', 1);

		ok &= (unsigned)_mm_movemask_epi8(
			_mm_or_si128(alpha, _mm_or_si128(digit, mark)));
		if (end - p <= 16)
			return ok == 0xffff;
		v = _mm_loadu_si128((const __m128i *)p);
		p += 16;
	}
#else
	return false;
#endif
}

/* First byte from p on that cannot stand in a request target, or end. */
static inline const char *scan_target(const char *base, const char *p,
				      const char *end)
{
#ifdef __SSE2__
	__m128i v;
	unsigned shift;

	while (p < end && scan_load(base, p, end, &v, &shift)) {
		unsigned stop = scan_target_stops(v) >> shift;
		if (stop)
			return p + __builtin_ctz(stop);
		p += 16 - shift;
	}
#endif
	while (p < end && char_is(*p, CHAR_TARGET))
		p++;
	return p;
}

/*
 * First byte from p on that is not a letter, digit or '-', or end. *upper gets
 * a bit set if there is an upper-case letter before it.
 */
static inline const char *scan_name(const char *base, const char *p,
				    const char *end, unsigned *upper)
{
#ifdef __SSE2__
	__m128i v;
	unsigned shift;

	while (p < end && scan_load(base, p, end, &v, &shift)) {
		unsigned stop = scan_name_stops(v) >> shift;
		unsigned up = (unsigned)_mm_movemask_epi8(
			scan_range(v, 'A', 25)) >> shift;
		if (stop) {
			*upper |= up & ((stop & -stop) - 1);
			return p + __builtin_ctz(stop);
		}
		*upper |= up;
		p += 16 - shift;
	}
#endif
	for (; p < end && char_is(*p, CHAR_NAME); p++)
		*upper |= *p >= 'A' && *p <= 'Z';
	return p;
}

#endif
