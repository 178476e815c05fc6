/*
 * A header field as HTTP and the agent protocol both see it: a name and a
 * value. It points into memory that its head's owner keeps (the received
 * block, or the exchange's arena for edited fields).
 */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include "base/slice.h"

enum field_flag {
	/* The value (or, from lenient peers, nothing else) has a byte of 0x80
	 * or above: encoders must look for broken UTF-8. */
	FIELD_NON_ASCII = 1 << 0,
	/* The bytes at name are exactly `name: value CR LF`, so a writer may
	 * copy the line as it stands. */
	FIELD_LINE = 1 << 1,
	/* The name has no upper-case letter. */
	FIELD_LOWER = 1 << 2,
};

struct field {
	const char *name;
	const char *value;
	uint32_t value_len;
	uint16_t name_len;
	uint8_t id;		/* enum http_field_id; 0: none that we know */
	uint8_t flags;
};

static inline struct slice field_name(const struct field *f)
{
	return slice_of(f->name, f->name_len);
}

static inline struct slice field_value(const struct field *f)
{
	return slice_of(f->value, f->value_len);
}

#endif
