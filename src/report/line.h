/*
 * Private to report/: appending to a line of the access log. Nothing here
 * checks for room but line_string(): the format reserves the worst case of all
 * the rest beforehand (format.c).
 */
#ifndef REPORT_LINE_H
#define REPORT_LINE_H

#include "base/slice.h"

struct line {
	char *p;		/* next byte */
};

/* lit: a string literal. */
#define LINE_LIT(l, lit)						\
	do {								\
		memcpy((l)->p, lit, sizeof(lit) - 1);			\
		(l)->p += sizeof(lit) - 1;				\
	} while (0)

#define LINE_U64_MAX 20

static inline void line_u64(struct line *l, uint64_t v)
{
	char buf[LINE_U64_MAX];
	char *p = buf + sizeof(buf);

	if (v < 10) {
		*l->p++ = (char)('0' + v);
		return;
	}
	for (; v; v /= 10)
		*--p = (char)('0' + v % 10);
	memcpy(l->p, p, (size_t)(buf + sizeof(buf) - p));
	l->p += buf + sizeof(buf) - p;
}

/* For trusted words without anything to escape (tables of ours). */
static inline void line_word(struct line *l, const char *s)
{
	while (*s)
		*l->p++ = *s++;
}

/*
 * s as a JSON string in quotes: at most cap (3 or more) bytes between them.
 * What would be longer is cut between characters and ends with "...". Control
 * bytes are escaped, bytes that are not UTF-8 become U+FFFD.
 */
void line_json(struct line *l, struct slice s, size_t cap);
/* The same for Apache's formats, without quotes: \xHH for what is not
 * printable ASCII. Empty: "-". */
void line_apache(struct line *l, struct slice s, size_t cap);

#endif
