/*
 * Writing MessagePack and JSON into room that was measured before. Each
 * function takes where to write and returns where the next byte goes. Pure;
 * total: whatever bytes a text holds, what is written is valid UTF-8.
 */
#ifndef WIRE_PUT_H
#define WIRE_PUT_H

#include "base/slice.h"

/* Most that a text of n bytes can take, quotes or length included. */
#define PUT_MSGPACK_MAX(n)	(2 * (n) + 5)
#define PUT_JSON_MAX(n)		(6 * (n) + 2)
#define PUT_NUMBER_MAX		24u

/* Above 2^53 a JSON peer may read another number than we wrote. */
#define PUT_JSON_INT_MAX	((1ull << 53) - 1)

/* The exact size of a text. */
size_t put_msgpack_text_size(struct slice s);
size_t put_json_text_size(struct slice s);

/*
 * A text; *transcoded counts those that were no UTF-8 and were taken byte by
 * byte.
 */
char *put_msgpack_text(char *o, struct slice s, unsigned *transcoded);
char *put_json_text(char *o, struct slice s, unsigned *transcoded);
/*
 * A field name in lower case. Bytes from 0x80 up are always taken one by one,
 * so that two different names never become one.
 */
char *put_msgpack_name(char *o, const char *name, size_t n);
/* Of one that has no upper-case letter. */
char *put_msgpack_low_name(char *o, const char *name, size_t n);
char *put_json_name(char *o, const char *name, size_t n);

/* Not to be drawn into those who hardly ever need them. */
NOINLINE char *put_msgpack_uint_wide_(char *o, uint64_t v);
NOINLINE
char *put_msgpack_len_wide_(char *o, size_t n, unsigned char tag8,
			    unsigned char tag16);
char *put_json_uint(char *o, uint64_t v);	/* cut at PUT_JSON_INT_MAX */
char *put_json_u64(char *o, uint64_t v);
char *put_json_double(char *o, double v);
char *put_msgpack_double(char *o, double v);
char *put_msgpack_float(char *o, float v);

static inline char *put_bytes(char *o, const char *p, size_t n)
{
	memcpy(o, p, n);
	return o + n;
}

#define PUT_LIT(o, lit)	put_bytes((o), "" lit, sizeof(lit) - 1)
/* "key": for JSON; for MessagePack a key of at most 31 bytes. */
#define PUT_JSON_KEY(o, key)	PUT_LIT((o), "\"" key "\":")
#define PUT_MSGPACK_KEY(o, key)						\
	put_bytes(put_byte((o), 0xa0 | (sizeof(key) - 1)), "" key,	\
		  sizeof(key) - 1)

static inline char *put_byte(char *o, unsigned c)
{
	*o = (char)c;
	return o + 1;
}

static inline char *put_nil(char *o)
{
	return put_byte(o, 0xc0);
}

static inline char *put_msgpack_bool(char *o, bool v)
{
	return put_byte(o, v ? 0xc3 : 0xc2);
}

static inline char *put_json_bool(char *o, bool v)
{
	return v ? PUT_LIT(o, "true") : PUT_LIT(o, "false");
}

static inline char *put_msgpack_uint(char *o, uint64_t v)
{
	if (LIKELY(v < 128))
		return put_byte(o, (unsigned)v);
	if (LIKELY(v < 256))
		return put_byte(put_byte(o, 0xcc), (unsigned)v);
	return put_msgpack_uint_wide_(o, v);
}

static inline char *put_msgpack_str_head(char *o, size_t n)
{
	if (LIKELY(n < 32))
		return put_byte(o, 0xa0 | (unsigned)n);
	if (LIKELY(n < 256))
		return put_byte(put_byte(o, 0xd9), (unsigned)n);
	return put_msgpack_len_wide_(o, n, 0xd9, 0xda);
}

static inline char *put_msgpack_bin_head(char *o, size_t n)
{
	return put_msgpack_len_wide_(o, n, 0xc4, 0xc5);
}

static inline char *put_msgpack_map(char *o, size_t n)
{
	return LIKELY(n < 16) ? put_byte(o, 0x80 | (unsigned)n)
			      : put_msgpack_len_wide_(o, n, 0, 0xde);
}

static inline char *put_msgpack_array(char *o, size_t n)
{
	return LIKELY(n < 16) ? put_byte(o, 0x90 | (unsigned)n)
			      : put_msgpack_len_wide_(o, n, 0, 0xdc);
}

#endif
