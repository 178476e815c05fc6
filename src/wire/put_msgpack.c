#include "wire/put.h"

#include "wire/utf8.h"

static char *put_be(char *o, uint64_t v, unsigned bytes)
{
	while (bytes--)
		*o++ = (char)(v >> 8 * bytes);
	return o;
}

char *put_msgpack_uint_wide_(char *o, uint64_t v)
{
	if (v <= 0x7f)
		return put_byte(o, (unsigned)v);
	if (v <= 0xff)
		return put_be(put_byte(o, 0xcc), v, 1);
	if (v <= 0xffff)
		return put_be(put_byte(o, 0xcd), v, 2);
	if (v <= 0xffffffff)
		return put_be(put_byte(o, 0xce), v, 4);
	return put_be(put_byte(o, 0xcf), v, 8);
}

/* tag8 0: there is no form with one byte. The form with four follows tag16. */
char *put_msgpack_len_wide_(char *o, size_t n, unsigned char tag8,
			    unsigned char tag16)
{
	if (tag8 && n <= 0xff)
		return put_be(put_byte(o, tag8), n, 1);
	if (n <= 0xffff)
		return put_be(put_byte(o, tag16), n, 2);
	return put_be(put_byte(o, tag16 + 1u), n, 4);
}

char *put_msgpack_double(char *o, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return put_be(put_byte(o, 0xcb), bits, 8);
}

char *put_msgpack_float(char *o, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return put_be(put_byte(o, 0xca), bits, 4);
}

size_t put_msgpack_text_size(struct slice s)
{
	return 5 + (utf8_valid(s.p, s.n) ? s.n : utf8_from_bytes_size(s));
}

/* Out of line, so that what runs nearly always needs no stack frame. */
static NOINLINE char *put_text_slow(char *o, struct slice s,
						     unsigned *transcoded)
{
	char *text = put_msgpack_str_head(o, s.n);

	if (utf8_valid_slow_(s.p, s.n))
		return text + s.n;
	++*transcoded;
	text = put_msgpack_str_head(o, utf8_from_bytes_size(s));
	return utf8_from_bytes(text, s);
}

char *put_msgpack_text(char *o, struct slice s, unsigned *transcoded)
{
	char *text = put_msgpack_str_head(o, s.n);

	if (LIKELY(utf8_copy(text, s.p, s.n)))
		return text + s.n;
	return put_text_slow(o, s, transcoded);
}

static NOINLINE char *put_name_slow(char *o, struct slice s)
{
	char *text = put_msgpack_str_head(o, utf8_from_bytes_size(s));
	char *end = utf8_from_bytes(text, s);

	for (; text < end; text++)
		*text = ascii_lower(*text);
	return end;
}

char *put_msgpack_low_name(char *o, const char *name, size_t n)
{
	char *text = put_msgpack_str_head(o, n);

	if (LIKELY(utf8_copy(text, name, n)))
		return text + n;
	return put_name_slow(o, slice_of(name, n));
}

char *put_msgpack_name(char *o, const char *name, size_t n)
{
	char *text = put_msgpack_str_head(o, n);

	if (LIKELY(utf8_copy_lower(text, name, n)))
		return text + n;
	return put_name_slow(o, slice_of(name, n));
}
