/*
 * Reads foreign MessagePack and JSON as one stream of tokens, so that what a
 * reply means is written down once. Private to wire/. Strict (protocol page
 * 6.1): after the first fault of syntax `bad` says what, every further call
 * says TOKEN_BAD or false, and nothing is read beyond `end`. The buffer is
 * changed: JSON strings are unescaped in place.
 */
#ifndef WIRE_READER_H
#define WIRE_READER_H

#include "base/slice.h"

#define READER_DEPTH	16u
/* Keys of one free-form map, and unknown keys of one struct. */
#define READER_KEYS	64u

enum token {
	TOKEN_BAD,
	TOKEN_NIL,
	TOKEN_FALSE,
	TOKEN_TRUE,
	TOKEN_INT,	/* num, negative */
	TOKEN_FLOAT,	/* real */
	TOKEN_STR,	/* str, valid UTF-8 */
	TOKEN_BIN,	/* str, any bytes; MessagePack only */
	TOKEN_EXT,	/* str; MessagePack only; fits no field of ours */
	TOKEN_ARRAY,	/* count elements (JSON: not known) follow */
	TOKEN_MAP,	/* count pairs follow */
};

struct reader {
	char *p, *end;
	bool json;
	unsigned depth;
	const char *bad;	/* static text; NULL: all well so far */
	/* Of the last token. */
	struct slice str;
	uint64_t num;		/* magnitude */
	bool negative;
	double real;
	uint32_t count;
};

/* Through the elements of an array or a map that was just entered. */
struct reader_iter {
	uint32_t left;		/* MessagePack */
	bool map, first;
};

static inline void reader_init(struct reader *r, char *buf, size_t len,
			       bool json)
{
	memset(r, 0, sizeof(*r));
	r->p = buf;
	r->end = buf + len;
	r->json = json;
}

/* Static text; the first fault stands. Always TOKEN_BAD. */
enum token reader_fail(struct reader *r, const char *why);

enum token reader_json_next(struct reader *r);
enum token reader_msgpack_next(struct reader *r);
bool reader_json_more(struct reader *r, struct reader_iter *it);
bool reader_json_colon(struct reader *r);
bool reader_json_end(struct reader *r);

/* The next value, or the head of one. */
static inline enum token reader_next(struct reader *r)
{
	return r->json ? reader_json_next(r) : reader_msgpack_next(r);
}

/* After TOKEN_ARRAY or TOKEN_MAP. False: nested too deep. */
static inline bool reader_enter(struct reader *r, struct reader_iter *it,
				bool map)
{
	it->left = r->count;
	it->map = map;
	it->first = true;
	if (UNLIKELY(++r->depth > READER_DEPTH)) {
		(void)reader_fail(r, "nested too deep");
		return false;
	}
	return true;
}

/* Is there one more element? False: left the array or map, or a fault. */
static inline bool reader_more(struct reader *r, struct reader_iter *it)
{
	if (UNLIKELY(r->bad != NULL))
		return false;
	if (r->json)
		return reader_json_more(r, it);
	if (!it->left) {
		r->depth--;
		return false;
	}
	it->left--;
	return true;
}

/* The key of the next pair. False: no string (a fault). */
bool reader_key(struct reader *r, struct slice *key);

/* ---- keys seen, so that none comes twice -------------------------------- */

struct reader_keys {
	unsigned n;
	struct slice keys[READER_KEYS];
};

/* False, with a fault: it was there already, or there are too many. */
bool reader_keys_add(struct reader *r, struct reader_keys *keys,
		     struct slice key);

/* ---- structs ------------------------------------------------------------ */

#define READER_MEMBERS	16u

/*
 * The fields of a struct, in whichever form it comes: array elements in order,
 * or pairs. Fields are numbered in wire order.
 *
 *	reader_members(&r, &m, names, n, token);
 *	while ((i = reader_member(&r, &m)) >= 0) switch (i) ... read the value
 */
struct reader_members {
	const struct slice *names;
	unsigned n, at;
	uint32_t seen;			/* bit i: field i was there */
	struct reader_iter it;
	struct reader_keys unknown;
};

/* token: TOKEN_MAP or TOKEN_ARRAY, just read. */
static inline void reader_members(struct reader *r, struct reader_members *m,
				  const struct slice *names, unsigned n,
				  enum token token)
{
	m->names = names;
	m->n = n;
	m->at = 0;
	m->seen = 0;
	m->unknown.n = 0;
	(void)reader_enter(r, &m->it, token == TOKEN_MAP);
}

/* The number of the field whose value comes next; -1: no more, or a fault.
 * Unknown keys are skipped. */
int reader_member(struct reader *r, struct reader_members *m);

/* ---- whole values ------------------------------------------------------- */

/* A growing text that values are rendered into. */
struct reader_text {
	char *p;
	size_t n, cap;
	bool full;
};

/*
 * Reads on to the end of the value that token began. With text not NULL it is
 * written there as JSON.
 */
void reader_finish(struct reader *r, enum token token,
		   struct reader_text *text);

static inline void reader_skip(struct reader *r)
{
	reader_finish(r, reader_next(r), NULL);
}

/* After the outermost value: true if nothing is left over. */
bool reader_at_end(struct reader *r);

#endif
