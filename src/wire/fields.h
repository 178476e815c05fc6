/*
 * Header fields as a map of names: protocol page 5.1 wants all values of one
 * name under one key, in order. Most heads have no name twice, and that is
 * found out in one cheap pass; only the others get an index.
 *
 *	struct fields_index x;
 *	if (!fields_index_init(&x, fields, n, n_own)) no memory;
 *	x.n_names keys: for each i that fields_leads(&x, i): a key, and its
 *	values are i, fields_next(&x, i), ... until FIELDS_END.
 *	fields_index_fini(&x);
 *
 * Belongs to one encoder call.
 */
#ifndef WIRE_FIELDS_H
#define WIRE_FIELDS_H

#include "base/field.h"

#define FIELDS_END	UINT32_MAX
#define FIELDS_INLINE	128u

struct fields_link {
	uint32_t hash;
	uint32_t next;		/* the next value of the same name */
	uint32_t last;		/* of a leader: the end of that list */
	uint32_t chain;		/* the next leader of the same bucket */
	bool leads;
};

struct fields_index {
	unsigned n_names;
	size_t bytes;			/* of all names and values */
	struct fields_link *links;	/* NULL: every field leads, alone */
	struct fields_link fixed[FIELDS_INLINE];
};

/* True when it is certain that no two fields have the same name. *bytes: of
 * all names and values. */
bool fields_all_differ(const struct field *fields, unsigned n, size_t *bytes);
bool fields_index_build_(struct fields_index *x, const struct field *fields,
			 unsigned n) MUST_CHECK;
void fields_index_fini(struct fields_index *x);

/* The last n_own are known to differ from all others, and stand one behind the
 * other in memory. False: no memory. */
static inline bool fields_index_init(struct fields_index *x,
				     const struct field *fields, unsigned n,
				     unsigned n_own)
{
	unsigned n_theirs = n - n_own;
	bool differ = fields_all_differ(fields, n_theirs, &x->bytes);

	if (n_own)
		x->bytes += (size_t)(fields[n - 1].value +
				     fields[n - 1].value_len -
				     fields[n_theirs].name);
	if (LIKELY(differ)) {
		x->links = NULL;
		x->n_names = n;
		return true;
	}
	return fields_index_build_(x, fields, n);
}

static inline bool fields_leads(const struct fields_index *x, unsigned i)
{
	return LIKELY(!x->links) || x->links[i].leads;
}

static inline uint32_t fields_next(const struct fields_index *x, uint32_t i)
{
	return LIKELY(!x->links) ? FIELDS_END : x->links[i].next;
}

#endif
