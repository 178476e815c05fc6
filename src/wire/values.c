#include "wire/values.h"

#include "wire/utf8.h"

#define FIRST_ROOM	4u	/* a power of two */

void values_fault(struct values *v, const char *why)
{
	if (!v->fault)
		v->fault = why;
}

void values_wrong_type(struct values *v, enum token token)
{
	values_fault(v, "a field has the wrong type");
	reader_finish(&v->r, token, NULL);
}

bool values_is_str(struct values *v, enum token token)
{
	if (token == TOKEN_STR)
		return true;
	return token == TOKEN_BIN && utf8_valid(v->r.str.p, v->r.str.n);
}

bool values_str(struct values *v, struct slice *out)
{
	enum token token = reader_next(&v->r);

	if (!values_is_str(v, token)) {
		values_wrong_type(v, token);
		return false;
	}
	*out = v->r.str;
	return true;
}

bool values_str_or_nil(struct values *v, struct slice *out)
{
	enum token token = reader_next(&v->r);

	*out = SLICE_NONE;
	if (token == TOKEN_NIL)
		return true;
	if (!values_is_str(v, token)) {
		values_wrong_type(v, token);
		return false;
	}
	*out = v->r.str;
	return true;
}

static bool to_uint(struct values *v, enum token token, uint64_t max,
		    uint64_t *out)
{
	const struct reader *r = &v->r;

	if (token == TOKEN_INT && !r->negative && r->num <= max) {
		*out = r->num;
		return true;
	}
	if (token == TOKEN_FLOAT && r->json && r->real >= 0 &&
	    r->real < 9007199254740992.0 &&
	    r->real == (double)(uint64_t)r->real &&
	    (uint64_t)r->real <= max) {
		*out = (uint64_t)r->real;
		return true;
	}
	if (token == TOKEN_INT || token == TOKEN_FLOAT)
		values_fault(v, "a number is out of range");
	else
		values_wrong_type(v, token);
	return false;
}

bool values_uint(struct values *v, uint64_t max, uint64_t *out)
{
	return to_uint(v, reader_next(&v->r), max, out);
}

bool values_uint_or_nil(struct values *v, uint64_t max, uint64_t *out)
{
	enum token token = reader_next(&v->r);

	return token == TOKEN_NIL || to_uint(v, token, max, out);
}

bool values_bool_or_nil(struct values *v, bool *out)
{
	enum token token = reader_next(&v->r);

	if (token == TOKEN_TRUE || token == TOKEN_FALSE)
		*out = token == TOKEN_TRUE;
	else if (token != TOKEN_NIL)
		values_wrong_type(v, token);
	return token == TOKEN_TRUE || token == TOKEN_FALSE ||
	       token == TOKEN_NIL;
}

/*
 * Most optionals are nil and most lists are empty: these are seen by a look at
 * the bytes, before a token is made of them.
 */
static bool take_nil(struct reader *r)
{
	size_t n = r->json ? 4 : 1;

	if ((size_t)(r->end - r->p) < n ||
	    (r->json ? utf8_load32(r->p) != utf8_load32("null")
		     : *r->p != (char)0xc0))
		return false;
	r->p += n;
	return true;
}

static bool take_empty(struct reader *r, bool map)
{
	const char *empty = r->json ? map ? "{}" : "[]" : map ? "\x80" : "\x90";
	size_t n = r->json ? 2 : 1;

	if ((size_t)(r->end - r->p) < n || r->p[0] != empty[0] ||
	    (n == 2 && r->p[1] != empty[1]))
		return false;
	r->p += n;
	return true;
}

bool values_struct(struct values *v, bool nil_allowed,
		   struct reader_members *m, const struct slice *names,
		   unsigned n)
{
	enum token token;

	if (nil_allowed && take_nil(&v->r))
		return false;
	token = reader_next(&v->r);
	if (token == TOKEN_NIL && nil_allowed)
		return false;
	if (token != TOKEN_MAP && (token != TOKEN_ARRAY || v->r.json)) {
		values_wrong_type(v, token);
		return false;
	}
	reader_members(&v->r, m, names, n, token);
	return true;
}

bool values_list(struct values *v, bool nil_allowed, bool map,
		 struct reader_iter *it)
{
	enum token token;

	if (nil_allowed && take_empty(&v->r, map))
		return false;
	token = reader_next(&v->r);
	if (token == TOKEN_NIL && nil_allowed)
		return false;
	if (token != (map ? TOKEN_MAP : TOKEN_ARRAY)) {
		values_wrong_type(v, token);
		return false;
	}
	return reader_enter(&v->r, it, map);
}

void *values_grow(struct values *v, void *array, unsigned *n, unsigned max,
		  size_t size)
{
	void **slot = array;
	char *room = *slot;

	if (*n == max) {
		(void)reader_fail(&v->r, "too many elements");
		return NULL;
	}
	/* Full at every power of two: twice as much. */
	if (*n == 0 || (*n >= FIRST_ROOM && (*n & (*n - 1)) == 0)) {
		unsigned room_for = *n ? 2 * *n : FIRST_ROOM;

		room = arena_alloc(v->scratch, room_for * size);
		if (!room) {
			v->no_memory = true;
			(void)reader_fail(&v->r, "out of memory");
			return NULL;
		}
		if (*n)
			memcpy(room, *slot, *n * size);
		*slot = room;
	}
	return room + (*n)++ * size;
}
