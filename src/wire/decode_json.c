/* JSON tokens (RFC 8259), strict: what jansson refuses is refused here. */
#include <math.h>
#include <stdlib.h>

#include "wire/reader.h"
#include "wire/utf8.h"

#define NUMBER_MAX	63u	/* characters */

static void skip_blanks(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' ||
				 *r->p == '\r' || *r->p == '\t'))
		r->p++;
}

static bool get_hex4(struct reader *r, unsigned *v)
{
	*v = 0;
	if (r->end - r->p < 4)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		char c = *r->p++;

		*v <<= 4;
		if (c >= '0' && c <= '9')
			*v |= (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*v |= (unsigned)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	return true;
}

/* After \u. Never longer than the escape was. */
static char *get_code_point(struct reader *r, char *o)
{
	unsigned v, low;

	if (!get_hex4(r, &v) || (v >= 0xdc00 && v < 0xe000))
		return NULL;
	if (v >= 0xd800 && v < 0xdc00) {
		if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u')
			return NULL;
		r->p += 2;
		if (!get_hex4(r, &low) || low < 0xdc00 || low >= 0xe000)
			return NULL;
		v = 0x10000 + ((v - 0xd800) << 10 | (low - 0xdc00));
		*o++ = (char)(0xf0 | v >> 18);
		*o++ = (char)(0x80 | (v >> 12 & 0x3f));
		*o++ = (char)(0x80 | (v >> 6 & 0x3f));
		*o++ = (char)(0x80 | (v & 0x3f));
	} else if (v >= 0x800) {
		*o++ = (char)(0xe0 | v >> 12);
		*o++ = (char)(0x80 | (v >> 6 & 0x3f));
		*o++ = (char)(0x80 | (v & 0x3f));
	} else if (v >= 0x80) {
		*o++ = (char)(0xc0 | v >> 6);
		*o++ = (char)(0x80 | (v & 0x3f));
	} else {
		*o++ = (char)v;
	}
	return o;
}

/* After the backslash; NULL: no escape. */
static char *get_escape(struct reader *r, char *o)
{
	char c = *r->p++;

	switch (c) {
	case '"':
	case '\\':
	case '/':
		break;
	case 'b':
		c = '\b';
		break;
	case 'f':
		c = '\f';
		break;
	case 'n':
		c = '\n';
		break;
	case 'r':
		c = '\r';
		break;
	case 't':
		c = '\t';
		break;
	case 'u':
		return get_code_point(r, o);
	default:
		return NULL;
	}
	*o++ = c;
	return o;
}

/* From the first special byte on; what came before stands at start. */
static enum token get_string_slow(struct reader *r, char *start)
{
	char *o = r->p;

	while (r->p < r->end) {
		size_t n = (size_t)(r->end - r->p);
		size_t run = utf8_json_run(r->p, n);

		if (!run && (unsigned char)*r->p >= 0x80) {
			run = utf8_char_len(r->p, n);
			if (!run)
				return reader_fail(r, "a string is not UTF-8");
		}
		if (run) {
			memmove(o, r->p, run);
			o += run;
			r->p += run;
			continue;
		}
		if (*r->p == '"') {
			r->str = slice_of(start, (size_t)(o - start));
			r->p++;
			return TOKEN_STR;
		}
		if (*r->p++ != '\\' || r->p == r->end)
			break;
		o = get_escape(r, o);
		if (!o)
			return reader_fail(r, "a broken escape");
	}
	return reader_fail(r, "a broken string");
}

/* After the opening quote. */
static enum token get_string(struct reader *r)
{
	char *start = r->p;

	r->p += utf8_json_run(start, (size_t)(r->end - start));
	if (UNLIKELY(r->p == r->end))
		return reader_fail(r, "a broken string");
	if (UNLIKELY(*r->p != '"'))
		return get_string_slow(r, start);
	r->str = slice_of(start, (size_t)(r->p - start));
	r->p++;
	return TOKEN_STR;
}

static bool is_digit(const struct reader *r, const char *p)
{
	return p < r->end && *p >= '0' && *p <= '9';
}

static const char *skip_digits(const struct reader *r, const char *p)
{
	while (is_digit(r, p))
		p++;
	return p;
}

static enum token get_real(struct reader *r, const char *start, size_t n)
{
	char text[NUMBER_MAX + 1];

	if (n > NUMBER_MAX)
		return reader_fail(r, "a number is too long");
	memcpy(text, start, n);
	text[n] = '\0';
	r->real = strtod(text, NULL);
	if (!isfinite(r->real))
		return reader_fail(r, "a number is too large");
	return TOKEN_FLOAT;
}

static enum token get_number(struct reader *r)
{
	const char *start = r->p, *p = start, *digits;
	bool whole = true;

	r->negative = *p == '-';
	p += r->negative;
	digits = p;
	if (!is_digit(r, p))
		return reader_fail(r, "no JSON value");
	p = *p == '0' ? p + 1 : skip_digits(r, p);
	r->num = 0;
	for (const char *d = digits; d < p && whole; d++)
		whole = !__builtin_mul_overflow(r->num, 10u, &r->num) &&
			!__builtin_add_overflow(r->num, (uint64_t)(*d - '0'),
						&r->num);
	if (p < r->end && *p == '.') {
		whole = false;
		if (!is_digit(r, ++p))
			return reader_fail(r, "a broken number");
		p = skip_digits(r, p);
	}
	if (p < r->end && (*p == 'e' || *p == 'E')) {
		whole = false;
		p++;
		if (p < r->end && (*p == '+' || *p == '-'))
			p++;
		if (!is_digit(r, p))
			return reader_fail(r, "a broken number");
		p = skip_digits(r, p);
	}
	r->p += p - start;
	if (!whole)
		return get_real(r, start, (size_t)(p - start));
	r->negative = r->negative && r->num;
	return TOKEN_INT;
}

static enum token get_word(struct reader *r, struct slice word,
			   enum token token)
{
	if ((size_t)(r->end - r->p) < word.n ||
	    memcmp(r->p, word.p, word.n) != 0)
		return reader_fail(r, "no JSON value");
	r->p += word.n;
	return token;
}

enum token reader_json_next(struct reader *r)
{
	if (UNLIKELY(r->bad != NULL))
		return TOKEN_BAD;
	if (r->p < r->end && *r->p <= ' ')
		skip_blanks(r);
	if (UNLIKELY(r->p == r->end))
		return reader_fail(r, "cut short");
	switch (*r->p) {
	case '"':
		r->p++;
		return get_string(r);
	case '{':
		r->p++;
		return TOKEN_MAP;
	case '[':
		r->p++;
		return TOKEN_ARRAY;
	case 'n':
		return get_word(r, SLICE("null"), TOKEN_NIL);
	case 't':
		return get_word(r, SLICE("true"), TOKEN_TRUE);
	case 'f':
		return get_word(r, SLICE("false"), TOKEN_FALSE);
	}
	return get_number(r);
}

bool reader_json_more(struct reader *r, struct reader_iter *it)
{
	char close = it->map ? '}' : ']';
	bool first = it->first;

	it->first = false;
	if (r->p < r->end && *r->p <= ' ')
		skip_blanks(r);
	if (UNLIKELY(r->p == r->end)) {
		(void)reader_fail(r, "cut short");
		return false;
	}
	if (*r->p == close) {
		r->p++;
		r->depth--;
		return false;
	}
	if (first)
		return true;
	if (UNLIKELY(*r->p != ',')) {
		(void)reader_fail(r, "a comma is missing");
		return false;
	}
	r->p++;
	if (r->p < r->end && *r->p <= ' ')
		skip_blanks(r);
	return true;
}

bool reader_json_colon(struct reader *r)
{
	if (r->p < r->end && *r->p <= ' ')
		skip_blanks(r);
	if (UNLIKELY(r->p == r->end || *r->p != ':')) {
		(void)reader_fail(r, "a colon is missing");
		return false;
	}
	r->p++;
	return true;
}

bool reader_json_end(struct reader *r)
{
	skip_blanks(r);
	return r->p == r->end;
}
