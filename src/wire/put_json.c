#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "wire/put.h"
#include "wire/utf8.h"

static const char hex[] = "0123456789abcdef";

static char *put_escape(char *o, unsigned char c)
{
	*o++ = '\\';
	switch (c) {
	case '"':
	case '\\':
		return put_byte(o, c);
	case '\b':
		return put_byte(o, 'b');
	case '\f':
		return put_byte(o, 'f');
	case '\n':
		return put_byte(o, 'n');
	case '\r':
		return put_byte(o, 'r');
	case '\t':
		return put_byte(o, 't');
	}
	o = PUT_LIT(o, "u00");
	*o++ = hex[c >> 4];
	*o++ = hex[c & 15];
	return o;
}

static size_t escape_size(unsigned char c)
{
	char text[8];

	return (size_t)(put_escape(text, c) - text);
}

/* The text without its quotes, from the first special byte on. */
static char *put_slow(char *o, const char *p, size_t n, bool valid)
{
	while (n) {
		size_t run = utf8_json_run(p, n);
		unsigned char c;

		memcpy(o, p, run);
		o += run;
		p += run;
		n -= run;
		if (!n)
			break;
		c = (unsigned char)*p;
		if (c < 0x80)
			o = put_escape(o, c);
		else if (valid)
			*o++ = (char)c;
		else
			o = utf8_from_bytes(o, slice_of(p, 1));
		p++;
		n--;
	}
	return o;
}

size_t put_json_text_size(struct slice s)
{
	bool valid = utf8_valid(s.p, s.n);
	size_t size = 2;

	for (size_t i = 0; i < s.n;) {
		size_t run = utf8_json_run(s.p + i, s.n - i);

		i += run;
		size += run;
		if (i == s.n)
			break;
		if ((unsigned char)s.p[i] < 0x80)
			size += escape_size((unsigned char)s.p[i]);
		else
			size += valid ? 1 : 2;
		i++;
	}
	return size;
}

/*
 * Copies what needs no escape, 16 bytes at a time; *done is how many bytes
 * those were. The last 15 are seen through words that overlap.
 */
static char *put_plain(char *o, const char *p, size_t n, size_t *done)
{
	size_t i = 0;

#ifdef __SSE2__
	__m128i v;

	for (; i + 16 <= n; i += 16) {
		v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
		if (UNLIKELY(utf8_json_mask(v)))
			goto stop;
		_mm_storeu_si128((__m128i *)(void *)(o + i), v);
	}
	if (n - i >= 8) {
		uint64_t a = utf8_load64(p + i), b = utf8_load64(p + n - 8);

		v = _mm_set_epi64x((long long)a, (long long)b);
		if (UNLIKELY(utf8_json_mask(v)))
			goto stop;
		memcpy(o + i, &a, 8);
		memcpy(o + n - 8, &b, 8);
		i = n;
	} else if (n - i >= 4) {
		uint32_t a = utf8_load32(p + i), b = utf8_load32(p + n - 4);

		v = _mm_set_epi32((int)a, (int)b, (int)a, (int)b);
		if (UNLIKELY(utf8_json_mask(v)))
			goto stop;
		memcpy(o + i, &a, 4);
		memcpy(o + n - 4, &b, 4);
		i = n;
	}
#endif
	for (; i < n && !utf8_json_special((unsigned char)p[i]); i++)
		o[i] = p[i];
#ifdef __SSE2__
stop:
#endif
	*done = i;
	return o + i;
}

char *put_json_text(char *o, struct slice s, unsigned *transcoded)
{
	size_t done;

	*o++ = '"';
	o = put_plain(o, s.p, s.n, &done);
	if (UNLIKELY(done < s.n)) {
		bool valid = utf8_valid(s.p + done, s.n - done);

		*transcoded += !valid;
		o = put_slow(o, s.p + done, s.n - done, valid);
	}
	*o++ = '"';
	return o;
}

char *put_json_name(char *o, const char *name, size_t n)
{
	bool plain = utf8_copy_lower(o + 1, name, n);
	char *start = o;

	*o = '"';
	if (LIKELY(plain && utf8_json_run(o + 1, n) == n))
		return put_byte(o + 1 + n, '"');
	o = put_slow(o + 1, name, n, false);
	for (char *p = start; p < o; p++) {
		if (*p == '\\')
			p++;
		else
			*p = ascii_lower(*p);
	}
	return put_byte(o, '"');
}

char *put_json_u64(char *o, uint64_t v)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	return put_bytes(o, p, (size_t)(text + sizeof(text) - p));
}

char *put_json_uint(char *o, uint64_t v)
{
	return put_json_u64(o, v < PUT_JSON_INT_MAX ? v : PUT_JSON_INT_MAX);
}

char *put_json_double(char *o, double v)
{
	char text[32];
	int n;

	if (!isfinite(v))
		return PUT_LIT(o, "null");
	n = snprintf(text, sizeof(text), "%.9g", v);
	return put_bytes(o, text, (size_t)n);
}
