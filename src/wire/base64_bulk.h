/*
 * Base64 by 24 bytes at a time where the processor has AVX2, found out when it
 * runs. Private to base64.c, which does what is left over, and everything on
 * other processors.
 */
#ifndef WIRE_BASE64_BULK_H
#define WIRE_BASE64_BULK_H

#include "base/slice.h"

/* Encodes a multiple of 24 bytes from the front of p; returns how many. */
size_t base64_encode_bulk(char *out, const char *p, size_t n);
/*
 * Decodes a multiple of 32 characters from the front of p, never the last
 * ones; returns how many. *bad is set if one of them is not of the alphabet.
 * out may be p.
 */
size_t base64_decode_bulk(char *out, const char *p, size_t n, bool *bad);

#endif
