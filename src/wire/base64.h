/*
 * Base64, standard alphabet (RFC 4648 section 4), for body chunks. Pure.
 */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include "base/slice.h"

static inline size_t base64_size(size_t bytes)
{
	return (bytes + 2) / 3 * 4;
}

/* Encodes data that comes in pieces: up to two bytes wait for the next. */
struct base64 {
	unsigned char rest[2];
	unsigned n_rest;
};

/* Writes at most (n + 2) / 3 * 4 characters; returns the end. */
char *base64_put(struct base64 *b, char *out, const char *p, size_t n);
/* The waiting bytes, padded: 0 or 4 characters. */
char *base64_finish(struct base64 *b, char *out);

/*
 * Decodes n characters into out, which may be p itself. Padding may be
 * missing; anything else that is not of the alphabet, a length that cannot be,
 * or set bits behind the last byte: false. *size is the number of bytes.
 */
bool base64_decode(char *out, const char *p, size_t n, size_t *size) MUST_CHECK;

#endif
