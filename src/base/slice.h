/*
 * A slice is bytes that somebody else owns: a pointer and a length, no NUL.
 * It is valid as long as its owner says (an arena, a block that the holder has
 * a reference of, static memory).
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <string.h>

#include "base/base.h"

struct slice {
	const char *p;
	size_t n;
};

#define SLICE(lit)	((struct slice){ (lit), sizeof(lit) - 1 })
#define SLICE_NONE	((struct slice){ NULL, 0 })

/* For printf("%.*s", SLICE_FMT(s)). */
#define SLICE_FMT(s)	(int)(s).n, (s).p

static inline struct slice slice_of(const char *p, size_t n)
{
	return (struct slice){ p, n };
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){ s, s ? strlen(s) : 0 };
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* ASCII case folded; never looks at the locale. */
static inline bool slice_eq_icase(struct slice a, struct slice b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

static inline bool slice_has_prefix(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

#endif
