/*
 * A hash with a key, for tables whose keys somebody else may choose: who does
 * not know the key cannot foretell a bucket. Folded 64 by 64 bit products;
 * 8 to 16 bytes cost two of them. Not for anything that must stay secret.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <string.h>

#include "base/base.h"

static inline uint64_t hash_fold_(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t hash_load64_(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t hash_load32_(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* key: random, drawn once per table. All 64 bits of the result are good. */
static inline uint64_t hash_bytes(const uint64_t key[2], const char *p,
				  size_t n)
{
	uint64_t h = key[0] ^ n * 0x9e3779b97f4a7c15u, a, b;

	for (; n > 16; p += 16, n -= 16)
		h = hash_fold_(hash_load64_(p) ^ key[1],
			       hash_load64_(p + 8) ^ h);
	if (n >= 8) {
		a = hash_load64_(p);
		b = hash_load64_(p + n - 8);
	} else if (n >= 4) {
		a = hash_load32_(p);
		b = hash_load32_(p + n - 4);
	} else {
		a = n ? (uint64_t)(unsigned char)p[0] << 16 |
				(uint64_t)(unsigned char)p[n / 2] << 8 |
				(unsigned char)p[n - 1]
		      : 0;
		b = 0;
	}
	h = hash_fold_(a ^ key[1], b ^ h);
	return hash_fold_(h ^ key[0], 0xd6e8feb86659fd93u);
}

#endif
