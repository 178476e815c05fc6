#include "wire/reader.h"

#include "wire/put.h"
#include "wire/utf8.h"

enum token reader_fail(struct reader *r, const char *why)
{
	if (!r->bad)
		r->bad = why;
	r->p = r->end;
	return TOKEN_BAD;
}

bool reader_key(struct reader *r, struct slice *key)
{
	enum token token = reader_next(r);

	if (token == TOKEN_BIN && !utf8_valid(r->str.p, r->str.n))
		token = reader_fail(r, "a key is not UTF-8");
	if (token != TOKEN_STR && token != TOKEN_BIN) {
		(void)reader_fail(r, "a key is no string");
		return false;
	}
	if (r->json && r->str.n && memchr(r->str.p, 0, r->str.n)) {
		(void)reader_fail(r, "a NUL in a key");
		return false;
	}
	*key = r->str;
	return !r->json || reader_json_colon(r);
}

bool reader_keys_add(struct reader *r, struct reader_keys *keys,
		     struct slice key)
{
	for (unsigned i = 0; i < keys->n; i++) {
		if (UNLIKELY(slice_eq(keys->keys[i], key))) {
			(void)reader_fail(r, "a key stands twice");
			return false;
		}
	}
	if (UNLIKELY(keys->n == READER_KEYS)) {
		(void)reader_fail(r, "too many keys");
		return false;
	}
	keys->keys[keys->n++] = key;
	return true;
}

/* ---- structs ------------------------------------------------------------ */

/*
 * Writers put the keys in wire order nearly always: so look whether the one
 * that comes is the one expected, byte for byte, before it is read at all.
 */
static bool take_expected(struct reader *r, struct slice name)
{
	size_t n = name.n, left = (size_t)(r->end - r->p);

	if (!r->json) {
		if (left <= n || *r->p != (char)(0xa0 | n) ||
		    !utf8_same(r->p + 1, name.p, n))
			return false;
		r->p += n + 1;
		return true;
	}
	if (left < n + 3 || r->p[0] != '"' || r->p[n + 1] != '"' ||
	    r->p[n + 2] != ':' || !utf8_same(r->p + 1, name.p, n))
		return false;
	r->p += n + 3;
	return true;
}

static int find_member(const struct reader_members *m, struct slice key)
{
	for (unsigned i = 0; i < m->n; i++)
		if (slice_eq(m->names[i], key))
			return (int)i;
	return -1;
}

static int mark(struct reader *r, struct reader_members *m, unsigned i)
{
	if (UNLIKELY(m->seen & 1u << i)) {
		(void)reader_fail(r, "a key stands twice");
		return -1;
	}
	m->seen |= 1u << i;
	m->at = i + 1;
	return (int)i;
}

int reader_member(struct reader *r, struct reader_members *m)
{
	struct slice key;
	int i;

	while (reader_more(r, &m->it)) {
		if (!m->it.map) {
			if (UNLIKELY(m->at == m->n)) {
				(void)reader_fail(r, "too many elements");
				return -1;
			}
			m->seen |= 1u << m->at;
			return (int)m->at++;
		}
		if (LIKELY(m->at < m->n) && take_expected(r, m->names[m->at]))
			return mark(r, m, m->at);
		if (!reader_key(r, &key))
			return -1;
		i = find_member(m, key);
		if (i >= 0)
			return mark(r, m, (unsigned)i);
		if (!reader_keys_add(r, &m->unknown, key))
			return -1;
		reader_skip(r);
	}
	return -1;
}

/* ---- whole values ------------------------------------------------------- */

static char *text_room(struct reader_text *t, size_t n)
{
	if (!t || t->full)
		return NULL;
	if (t->cap - t->n < n) {
		t->full = true;
		return NULL;
	}
	return t->p + t->n;
}

static void text_end(struct reader_text *t, const char *o)
{
	t->n = (size_t)(o - t->p);
}

static void text_str(struct reader_text *t, struct slice s)
{
	char *o = text_room(t, PUT_JSON_MAX(s.n));
	unsigned ignored = 0;

	if (o)
		text_end(t, put_json_text(o, s, &ignored));
}

static void text_byte(struct reader_text *t, char c)
{
	char *o = text_room(t, 1);

	if (o)
		text_end(t, put_byte(o, (unsigned char)c));
}

static char *put_token(char *o, const struct reader *r, enum token token)
{
	switch (token) {
	case TOKEN_FALSE:
	case TOKEN_TRUE:
		return put_json_bool(o, token == TOKEN_TRUE);
	case TOKEN_INT:
		if (r->negative)
			*o++ = '-';
		return put_json_u64(o, r->num);
	case TOKEN_FLOAT:
		return put_json_double(o, r->real);
	case TOKEN_NIL:
	case TOKEN_BAD:
	case TOKEN_STR:
	case TOKEN_BIN:
	case TOKEN_EXT:
	case TOKEN_ARRAY:
	case TOKEN_MAP:
		break;
	}
	return PUT_LIT(o, "null");
}

static void finish_map(struct reader *r, struct reader_text *t)
{
	struct reader_keys keys;
	struct reader_iter it;
	struct slice key;

	keys.n = 0;
	text_byte(t, '{');
	if (!reader_enter(r, &it, true))
		return;
	while (reader_more(r, &it)) {
		if (!reader_key(r, &key) || !reader_keys_add(r, &keys, key))
			return;
		if (keys.n > 1)
			text_byte(t, ',');
		text_str(t, key);
		text_byte(t, ':');
		reader_finish(r, reader_next(r), t);
	}
	text_byte(t, '}');
}

static void finish_array(struct reader *r, struct reader_text *t)
{
	struct reader_iter it;
	bool first = true;

	text_byte(t, '[');
	if (!reader_enter(r, &it, false))
		return;
	while (reader_more(r, &it)) {
		if (!first)
			text_byte(t, ',');
		first = false;
		reader_finish(r, reader_next(r), t);
	}
	text_byte(t, ']');
}

void reader_finish(struct reader *r, enum token token, struct reader_text *t)
{
	char *o;

	switch (token) {
	case TOKEN_MAP:
		finish_map(r, t);
		return;
	case TOKEN_ARRAY:
		finish_array(r, t);
		return;
	case TOKEN_STR:
	case TOKEN_BIN:
		text_str(t, r->str);
		return;
	case TOKEN_BAD:
	case TOKEN_NIL:
	case TOKEN_FALSE:
	case TOKEN_TRUE:
	case TOKEN_INT:
	case TOKEN_FLOAT:
	case TOKEN_EXT:
		o = text_room(t, PUT_NUMBER_MAX + 8);
		if (o)
			text_end(t, put_token(o, r, token));
		return;
	}
}

bool reader_at_end(struct reader *r)
{
	if (r->bad)
		return false;
	if (r->json ? reader_json_end(r) : r->p == r->end)
		return true;
	(void)reader_fail(r, "bytes left over");
	return false;
}
