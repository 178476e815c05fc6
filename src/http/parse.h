/*
 * What the files behind head.h share. Private to http/.
 *
 *	parse.c		bytes to lines to fields: the syntax
 *	facts.c		fields to facts: framing, connection, host, expectation
 *	fields.c	names, lists, hosts; editing of a head
 *	accept.c	JSON or text
 *	words.c		tables of text
 */
#ifndef HTTP_PARSE_H
#define HTTP_PARSE_H

#include "http/head.h"

#define FIELD_BIT(id)	(1ull << (id))
#define HOP_BITS	((2ull << HTTP_FIELD_HOP_LAST) - 2)
#define LISTED_MAX	32

/*
 * What was seen of the field lines of a head, and what those of them said that
 * are not kept as fields. Faults of meaning wait until the head is complete.
 */
struct parse_seen {
	uint64_t once, twice;			/* 1 << id */
	struct slice content_length, transfer_encoding, upgrade;
	bool close, keep_alive, upgrade_listed, te_trailers;
	enum http_parse connection_fault;	/* OK if none */
	unsigned n_listed;
	struct slice listed[LISTED_MAX];	/* by Connection: to be dropped.
						 * Not cleared at the start */
};

/* Takes up a field whose id is in HOP_BITS. */
void http_read_hop_field(struct parse_seen *seen, const struct field *f);
/*
 * Turn what was seen into facts of a complete head, and take out fields that
 * do not stay.
 */
enum http_parse http_settle_request(struct http_head *head,
	const struct parse_seen *seen) MUST_CHECK;
enum http_parse http_settle_response(struct http_head *head,
	const struct parse_seen *seen, enum http_method request_method)
	MUST_CHECK;
void http_settle_trailers(struct http_head *head);

/* A hash table of the names that have numbers, without collisions: over
 * length, first and last letter in lower case. */
#define FIELD_SLOTS	128
#define FIELD_HASH(n, first, last) \
	((2u * (n) + 5u * (unsigned char)(first) + \
	  8u * (unsigned char)(last)) & (FIELD_SLOTS - 1))

struct http_field_slot {
	char name[30];		/* in lower case, padded */
	uint8_t n, id;		/* 0 if free */
};

extern const struct http_field_slot http_field_slots[FIELD_SLOTS];

/* Where a name must stand if it is in the table. n > 0. */
static inline const struct http_field_slot *http_field_slot(const char *name,
							    size_t n)
{
	return &http_field_slots[FIELD_HASH((unsigned)n, name[0] | 0x20,
					    name[n - 1] | 0x20)];
}

/*
 * The number of a name that has letters, digits and '-' only (for others the
 * answer may be wrong).
 */
enum http_field_id http_field_lookup_plain(const char *name, size_t n);

/* The next element of a comma-separated list, blanks trimmed and empty ones
 * skipped; false at the end. */
bool http_list_next(struct slice *list, struct slice *item);

/* http_host_valid() of one that scan_plain_host() does not know. */
bool http_odd_host_valid(struct slice s);

/* Where the port begins (at the colon), or the end. */
size_t http_host_len(struct slice host);

#endif
