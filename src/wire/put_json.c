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

/* The text without its quotes. */
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

static NOINLINE char *put_text_slow(char *o, struct slice s,
						     unsigned *transcoded)
{
	bool valid = utf8_valid(s.p, s.n);

	*transcoded += !valid;
	o = put_slow(put_byte(o, '"'), s.p, s.n, valid);
	return put_byte(o, '"');
}

char *put_json_text(char *o, struct slice s, unsigned *transcoded)
{
	if (UNLIKELY(!utf8_json_plain(s.p, s.n)))
		return put_text_slow(o, s, transcoded);
	o = put_byte(o, '"');
	(void)utf8_copy(o, s.p, s.n);
	return put_byte(o + s.n, '"');
}

static NOINLINE char *put_name_slow(char *o, struct slice s)
{
	char *end = put_slow(put_byte(o, '"'), s.p, s.n, false);

	for (; o < end; o++) {
		if (*o == '\\')
			o++;
		else
			*o = ascii_lower(*o);
	}
	return put_byte(end, '"');
}

char *put_json_name(char *o, const char *name, size_t n)
{
	if (UNLIKELY(!utf8_json_plain(name, n)))
		return put_name_slow(o, slice_of(name, n));
	o = put_byte(o, '"');
	(void)utf8_copy_lower(o, name, n);
	return put_byte(o + n, '"');
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
