#include "wire/fields.h"

#include "base/mem.h"
#include "wire/utf8.h"

#define FILTER_BITS	1024u
#define BUCKETS		256u

/*
 * Case folded, from the length, the first and the last bytes: enough to tell
 * the names of an ordinary head apart. Below FILTER_BITS.
 */
static inline uint32_t quick_hash(const struct field *f)
{
	uint64_t a, b, n = f->name_len;

	if (LIKELY(n >= 4)) {
		a = utf8_load32(f->name);
		b = utf8_load32(f->name + n - 4);
	} else {
		a = n ? (unsigned char)f->name[0] : 0;
		b = n ? (unsigned char)f->name[n - 1] : 0;
	}
	a = ((a << 32 | b) | 0x2020202020202020ull) + n;
	return (uint32_t)(a * 0x9e3779b97f4a7c15ull >> 54);
}

/*
 * By name and not by id: a field whose id was not looked up again after an
 * edit would otherwise become a second key of the same name, and an agent
 * that reads a key twice allows the request unseen.
 */
bool fields_all_differ(const struct field *fields, unsigned n, size_t *bytes)
{
	uint64_t seen[FILTER_BITS / 64];
	uint64_t twice = 0;
	size_t sum = 0;

	if (n == 1) {
		*bytes = (size_t)fields->name_len + fields->value_len;
		return true;
	}
	memset(seen, 0, sizeof(seen));
	for (const struct field *f = fields; f < fields + n; f++) {
		uint32_t h = quick_hash(f);
		uint64_t *word = &seen[h >> 6], bit = 1ull << (h & 63);

		sum += (size_t)f->name_len + f->value_len;
		twice |= *word & bit;
		*word |= bit;
	}
	*bytes = sum;
	return !twice;
}

static uint32_t full_hash(const struct field *f)
{
	uint32_t h = 2166136261u;

	for (unsigned i = 0; i < f->name_len; i++)
		h = (h ^ (unsigned char)ascii_lower(f->name[i])) * 16777619u;
	return h ^ h >> 15;
}

static uint32_t find_leader(const struct fields_link *links, uint32_t at,
			    const struct field *fields, unsigned i,
			    uint32_t hash)
{
	while (at != FIELDS_END) {
		if (links[at].hash == hash &&
		    slice_eq_icase(field_name(&fields[at]),
				   field_name(&fields[i])))
			break;
		at = links[at].chain;
	}
	return at;
}

bool fields_index_build_(struct fields_index *x, const struct field *fields,
			 unsigned n)
{
	uint32_t buckets[BUCKETS];

	x->links = x->fixed;
	if (n > FIELDS_INLINE)
		x->links = mem_alloc(n * sizeof(*x->links));
	if (!x->links)
		return false;
	for (unsigned i = 0; i < BUCKETS; i++)
		buckets[i] = FIELDS_END;
	x->n_names = 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t hash = full_hash(&fields[i]);
		uint32_t *bucket = &buckets[hash % BUCKETS];
		uint32_t to = find_leader(x->links, *bucket, fields, i, hash);

		x->links[i] = (struct fields_link){ .hash = hash,
			.next = FIELDS_END, .last = i, .chain = *bucket,
			.leads = to == FIELDS_END };
		if (to == FIELDS_END) {
			*bucket = i;
			x->n_names++;
		} else {
			x->links[x->links[to].last].next = i;
			x->links[to].last = i;
		}
	}
	return true;
}

void fields_index_fini(struct fields_index *x)
{
	if (x->links && x->links != x->fixed)
		mem_free(x->links);
}
