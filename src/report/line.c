#include "report/line.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define ONES	0x0101010101010101u
#define HIGHS	0x8080808080808080u

/* Is any of 8 bytes below 0x20, a quote, a backslash, or 0x80 and above? */
static inline bool needs_care(uint64_t x)
{
	uint64_t quote = x ^ ONES * '"';
	uint64_t slash = x ^ ONES * '\\';

	return ((x - ONES * 0x20) | (quote - ONES) | (slash - ONES) | x) &
	       HIGHS;
}

#ifdef __SSE2__
/* The same for 16: below 0x20 as signed numbers are also 0x80 and above. */
static inline bool needs_care_16(__m128i x)
{
	__m128i bad = _mm_cmplt_epi8(x, _mm_set1_epi8(0x20));

	bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('"')));
	bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
	return _mm_movemask_epi8(bad) != 0;
}

/* copy_all() for 16 and more. */
static inline bool copy_long(char *out, const char *p, size_t n)
{
	__m128i x;

	for (size_t i = 0; i + 16 < n; i += 16) {
		x = _mm_loadu_si128((const void *)(p + i));
		if (UNLIKELY(needs_care_16(x)))
			return false;
		_mm_storeu_si128((void *)(out + i), x);
	}
	x = _mm_loadu_si128((const void *)(p + n - 16));
	_mm_storeu_si128((void *)(out + n - 16), x);
	return !needs_care_16(x);
}
#endif

/* Copies what needs no care, 8 bytes at a time; how many. */
static inline size_t copy_plain(char *out, const char *p, size_t n)
{
	uint64_t x;
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		memcpy(&x, p + i, 8);
		if (UNLIKELY(needs_care(x)))
			return i;
		memcpy(out + i, &x, 8);
	}
	return i;
}

/* Copies all of it, or says no: then something needs care. The last piece
 * overlaps the one before instead of going byte by byte. */
static inline bool copy_all(char *out, const char *p, size_t n)
{
	uint64_t x;
	uint32_t low, high;

#ifdef __SSE2__
	if (n >= 16)
		return copy_long(out, p, n);
#endif
	if (n >= 8) {
		if (UNLIKELY(copy_plain(out, p, n) + 8 <= n))
			return false;
		memcpy(&x, p + n - 8, 8);
		memcpy(out + n - 8, &x, 8);
		return !needs_care(x);
	}
	if (n >= 4) {
		memcpy(&low, p, 4);
		memcpy(&high, p + n - 4, 4);
		memcpy(out, &low, 4);
		memcpy(out + n - 4, &high, 4);
		return !needs_care((uint64_t)high << 32 | low);
	}
	x = ONES * 'x';
	for (size_t i = 0; i < n; i++) {
		out[i] = p[i];
		x = x << 8 | (unsigned char)p[i];
	}
	return !needs_care(x);
}

static inline bool byte_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/*
 * Length of the well-formed UTF-8 character at p (2 to 4), 0 if there is none.
 * C1 controls are taken as ill-formed: terminals obey them.
 */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	/* No overlong forms, no surrogates, nothing past U+10FFFF. */
	if (p[0] == 0xc2 || p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* One character that needs care, into out (6 bytes); its length there. *eaten:
 * bytes of p. */
static size_t escape_json(char *out, const unsigned char *p, size_t n,
			  size_t *eaten)
{
	static const char hex[] = "0123456789abcdef";
	size_t len;

	*eaten = 1;
	if (*p >= 0x80) {
		len = utf8_length(p, n);
		if (len == 0) {
			memcpy(out, "\xef\xbf\xbd", 3);
			return 3;
		}
		*eaten = len;
		memcpy(out, p, len);
		return len;
	}
	out[0] = '\\';
	out[1] = (char)*p;
	if (*p == '"' || *p == '\\')
		return 2;
	memcpy(out + 1, "u00", 3);
	out[4] = hex[*p >> 4];
	out[5] = hex[*p & 15];
	return 6;
}

/* Rare: control bytes, quotes, UTF-8, or longer than cap. */
static char *json_slow(char *out, char *end, const char *p, size_t n)
{
	size_t i = 0, eaten, len;
	char buf[6];

	/* While something is left, 3 bytes for the dots are too. */
	while (i < n) {
		size_t room = (size_t)(end - out) - 3;
		size_t plain = copy_plain(out, p + i, min_size(n - i, room));

		i += plain;
		out += plain;
		if (i == n)
			break;
		eaten = 1;
		len = 1;
		buf[0] = p[i];
		if (!byte_plain((unsigned char)p[i]))
			len = escape_json(buf, (const unsigned char *)p + i,
					  n - i, &eaten);
		if ((size_t)(end - out) < len + (i + eaten < n ? 3 : 0)) {
			memcpy(out, "...", 3);
			return out + 3;
		}
		memcpy(out, buf, len);
		out += len;
		i += eaten;
	}
	return out;
}

void line_json(struct line *l, struct slice s, size_t cap)
{
	char *out = l->p;

	*out++ = '"';
	if (LIKELY(s.n <= cap && copy_all(out, s.p, s.n)))
		out += s.n;
	else
		out = json_slow(out, out + cap, s.p, s.n);
	*out++ = '"';
	l->p = out;
}

void line_apache(struct line *l, struct slice s, size_t cap)
{
	static const char hex[] = "0123456789abcdef";
	char *out = l->p, *end = out + cap;

	if (s.n == 0)
		*out++ = '-';
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		/* 4 for this one, 3 for the dots. */
		if (end - out < 7) {
			memcpy(out, "...", 3);
			out += 3;
			break;
		}
		if (byte_plain(c) && c != 0x7f) {
			*out++ = (char)c;
			continue;
		}
		*out++ = '\\';
		if (c == '"' || c == '\\') {
			*out++ = (char)c;
			continue;
		}
		*out++ = 'x';
		*out++ = hex[c >> 4];
		*out++ = hex[c & 15];
	}
	l->p = out;
}
