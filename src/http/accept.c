/*
 * Accept (RFC 9110, 12.5.1), as far as an answer of our own has a choice: JSON
 * or text. See head.h.
 */
#include "http/parse.h"

/* Takes the part up to the next semicolon off *item, blanks off its ends. */
static struct slice next_part(struct slice *item)
{
	const char *semicolon = memchr(item->p, ';', item->n);
	size_t n = semicolon ? (size_t)(semicolon - item->p) : item->n;
	struct slice part = slice_of(item->p, n);

	*item = slice_of(item->p + n + !!semicolon, item->n - n - !!semicolon);
	while (part.n && (part.p[0] == ' ' || part.p[0] == '\t'))
		part = slice_of(part.p + 1, part.n - 1);
	while (part.n && (part.p[part.n - 1] == ' ' ||
			  part.p[part.n - 1] == '\t'))
		part.n--;
	return part;
}

/* "q=0.5" in thousandths; what is no weight is none: 1000. */
static unsigned read_weight(struct slice part)
{
	unsigned weight, unit = 100;

	if (part.n < 3 || ascii_lower(part.p[0]) != 'q' || part.p[1] != '=' ||
	    part.p[2] != '0')
		return 1000;
	weight = 0;
	for (size_t i = 4; i < part.n && unit; i++, unit /= 10) {
		if (part.p[i] < '0' || part.p[i] > '9')
			break;
		weight += (unsigned)(part.p[i] - '0') * unit;
	}
	return weight;
}

static unsigned weight_of(struct slice params)
{
	while (params.n) {
		unsigned weight = read_weight(next_part(&params));

		if (weight != 1000)
			return weight;
	}
	return 1000;
}

static bool is_text(struct slice range)
{
	return range.n > 5 &&
	       slice_eq_icase(slice_of(range.p, 5), SLICE("text/"));
}

bool http_prefers_json(struct slice accept)
{
	unsigned json = 0, text = 0, rest = 0;
	bool text_first = false;
	struct slice item;

	while (http_list_next(&accept, &item)) {
		struct slice range = next_part(&item);
		unsigned weight = weight_of(item);

		if (slice_eq_icase(range, SLICE("application/json"))) {
			if (!json)
				text_first = text > 0;
			if (weight > json)
				json = weight;
		} else if (is_text(range)) {
			if (weight > text)
				text = weight;
		} else if (slice_eq(range, SLICE("*/*"))) {
			rest = weight;
		}
	}
	if (!json || json < (text ? text : rest))
		return false;
	return json > text || !text_first;
}
