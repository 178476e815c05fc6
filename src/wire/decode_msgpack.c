/* MessagePack tokens. */
#include "wire/reader.h"
#include "wire/utf8.h"

static uint64_t get_be(const char *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | (unsigned char)*p++;
	return v;
}

static size_t left(const struct reader *r)
{
	return (size_t)(r->end - r->p);
}

/* An unsigned number of that many bytes; false: cut short. */
static bool get_uint(struct reader *r, unsigned bytes, uint64_t *v)
{
	if (left(r) < bytes) {
		(void)reader_fail(r, "cut short");
		return false;
	}
	*v = get_be(r->p, bytes);
	r->p += bytes;
	return true;
}

static enum token get_text(struct reader *r, size_t n, enum token token)
{
	if (UNLIKELY(left(r) < n))
		return reader_fail(r, "cut short");
	r->str = slice_of(r->p, n);
	if (token == TOKEN_STR && UNLIKELY(!utf8_valid(r->p, n)))
		return reader_fail(r, "a string is not UTF-8");
	r->p += n;
	return token;
}

/* Every element takes a byte at least: no count beyond that is believed. */
static enum token get_container(struct reader *r, uint64_t n, enum token token)
{
	size_t least = token == TOKEN_MAP ? 2 : 1;

	if (UNLIKELY(n > left(r) / least))
		return reader_fail(r, "cut short");
	r->count = (uint32_t)n;
	return token;
}

static enum token get_unsigned(struct reader *r, unsigned bytes)
{
	r->negative = false;
	return get_uint(r, bytes, &r->num) ? TOKEN_INT : TOKEN_BAD;
}

static enum token get_signed(struct reader *r, unsigned bytes)
{
	uint64_t v, sign = 1ull << (8 * bytes - 1);

	if (!get_uint(r, bytes, &v))
		return TOKEN_BAD;
	r->negative = v & sign;
	if (r->negative)
		v = -(v | -sign);
	r->num = v;
	return TOKEN_INT;
}

static enum token get_float(struct reader *r, unsigned bytes)
{
	uint64_t v;
	uint32_t v32;
	float f;

	if (!get_uint(r, bytes, &v))
		return TOKEN_BAD;
	if (bytes == 8) {
		memcpy(&r->real, &v, sizeof(v));
	} else {
		v32 = (uint32_t)v;
		memcpy(&f, &v32, sizeof(f));
		r->real = (double)f;
	}
	return TOKEN_FLOAT;
}

static enum token get_long_text(struct reader *r, unsigned bytes,
				enum token token)
{
	uint64_t n;

	if (!get_uint(r, bytes, &n))
		return TOKEN_BAD;
	/* An extension's length does not count its type byte. */
	return get_text(r, n + (token == TOKEN_EXT), token);
}

static enum token get_long_container(struct reader *r, unsigned bytes,
				     enum token token)
{
	uint64_t n;

	return get_uint(r, bytes, &n) ? get_container(r, n, token) : TOKEN_BAD;
}

static enum token get_other(struct reader *r, unsigned char c)
{
	switch (c) {
	case 0xc0:
		return TOKEN_NIL;
	case 0xc2:
		return TOKEN_FALSE;
	case 0xc3:
		return TOKEN_TRUE;
	case 0xc4: case 0xc5: case 0xc6:
		return get_long_text(r, 1u << (c - 0xc4), TOKEN_BIN);
	case 0xc7: case 0xc8: case 0xc9:
		return get_long_text(r, 1u << (c - 0xc7), TOKEN_EXT);
	case 0xca:
		return get_float(r, 4);
	case 0xcb:
		return get_float(r, 8);
	case 0xcc: case 0xcd: case 0xce: case 0xcf:
		return get_unsigned(r, 1u << (c - 0xcc));
	case 0xd0: case 0xd1: case 0xd2: case 0xd3:
		return get_signed(r, 1u << (c - 0xd0));
	case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
		return get_text(r, (1u << (c - 0xd4)) + 1, TOKEN_EXT);
	case 0xd9: case 0xda: case 0xdb:
		return get_long_text(r, 1u << (c - 0xd9), TOKEN_STR);
	case 0xdc: case 0xdd:
		return get_long_container(r, 2u << (c - 0xdc), TOKEN_ARRAY);
	case 0xde: case 0xdf:
		return get_long_container(r, 2u << (c - 0xde), TOKEN_MAP);
	}
	return reader_fail(r, "a byte that begins no value");
}

enum token reader_msgpack_next(struct reader *r)
{
	unsigned char c;

	if (UNLIKELY(r->p >= r->end))
		return reader_fail(r, "cut short");
	c = (unsigned char)*r->p++;
	if (c >= 0xa0 && c < 0xc0)
		return get_text(r, c & 0x1f, TOKEN_STR);
	if (c < 0x80) {
		r->num = c;
		r->negative = false;
		return TOKEN_INT;
	}
	if (c < 0x90)
		return get_container(r, c & 0x0f, TOKEN_MAP);
	if (c < 0xa0)
		return get_container(r, c & 0x0f, TOKEN_ARRAY);
	if (c >= 0xe0) {
		r->num = 256u - c;
		r->negative = true;
		return TOKEN_INT;
	}
	return get_other(r, c);
}
