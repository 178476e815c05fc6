/*
 * What the files behind head.h share. Private to http/.
 *
 *	parse.c		bytes to lines to fields: the syntax
 *	facts.c		fields to facts: framing, connection, host, expectation
 *	fields.c	names, lists, hosts; editing of a head
 *	words.c		tables of text
 */
#ifndef HTTP_PARSE_H
#define HTTP_PARSE_H

#include "http/head.h"

/* What was seen of the field lines of a head. */
struct parse_seen {
	uint64_t once, twice;	/* 1 << id */
};

#define FIELD_BIT(id)	(1ull << (id))
#define HOP_BITS	((2ull << HTTP_FIELD_HOP_LAST) - 2)

/*
 * Turn the fields of a complete head into facts and take those out that do
 * not stay. head->fields has all that came, hop-by-hop ones included.
 */
enum http_parse http_settle_request(struct http_head *head,
	const struct parse_seen *seen) MUST_CHECK;
enum http_parse http_settle_response(struct http_head *head,
	const struct parse_seen *seen, enum http_method request_method)
	MUST_CHECK;
void http_settle_trailers(struct http_head *head);

/*
 * The number of a name that has letters, digits and '-' only (for others the
 * answer may be wrong).
 */
enum http_field_id http_field_lookup_plain(const char *name, size_t n);

/* The next element of a comma-separated list, blanks trimmed and empty ones
 * skipped; false at the end. */
bool http_list_next(struct slice *list, struct slice *item);

/* Where the port begins (at the colon), or the end. */
size_t http_host_len(struct slice host);

#endif
