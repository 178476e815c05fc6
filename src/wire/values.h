/*
 * Typed values out of a reader, for whatever is made of several of them: a
 * reply, an event. Private to wire/.
 *
 * Two kinds of fault: the reader's own (syntax; reading is over), and a fault
 * of meaning (a wrong type, a value that cannot be applied): reading goes on,
 * so that the correlation id is still found. The first text of either stands.
 */
#ifndef WIRE_VALUES_H
#define WIRE_VALUES_H

#include "base/arena.h"
#include "wire/reader.h"

struct values {
	struct reader r;
	struct arena *scratch;
	const char *fault;
	bool no_memory;
};

static inline void values_init(struct values *v, char *buf, size_t len,
			       bool json, struct arena *scratch)
{
	reader_init(&v->r, buf, len, json);
	v->scratch = scratch;
	v->fault = NULL;
	v->no_memory = false;
}

void values_fault(struct values *v, const char *why);
/* A value of another type than wanted: a fault; skips the rest of it. */
void values_wrong_type(struct values *v, enum token token);

/* After reading token: is it a string, as str or as UTF-8 bin? */
bool values_is_str(struct values *v, enum token token);

/* Each reads one value. False, with a fault: another type. nil: nil gives
 * *out its default and true. */
bool values_str(struct values *v, struct slice *out);
/* nil: { NULL, 0 } */
bool values_str_or_nil(struct values *v, struct slice *out);
bool values_uint(struct values *v, uint64_t max, uint64_t *out);
bool values_uint_or_nil(struct values *v, uint64_t max, uint64_t *out);
bool values_bool_or_nil(struct values *v, bool *out);

/* Is the struct's next value there? Wrong type or nil: a fault unless nil is
 * allowed; then false. */
bool values_struct(struct values *v, bool nil_allowed,
		   struct reader_members *m, const struct slice *names,
		   unsigned n);
/* The same for a list, and for a free-form map. */
bool values_list(struct values *v, bool nil_allowed, bool map,
		 struct reader_iter *it);

/*
 * Room for one more element in an array that lives in the scratch arena.
 * array: pointer to the array's pointer. NULL, with a fault: more than max, or
 * no memory.
 */
void *values_grow(struct values *v, void *array, unsigned *n, unsigned max,
		  size_t size);

#endif
