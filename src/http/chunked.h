/*
 * The chunked coding (RFC 9112, 7.1), strictly: sizes are 1 to 16 hex digits
 * below 2^63, extensions are skipped but bounded and checked, bare CR or LF is
 * a fault. Incremental, any split.
 */
#ifndef HTTP_CHUNKED_H
#define HTTP_CHUNKED_H

#include "http/head.h"

struct http_chunked {
	uint64_t left;		/* data bytes left of the present chunk */
	uint8_t state;
	uint16_t line_bytes;	/* of the present size line, bounded */
	uint32_t trailer_bytes;	/* of the trailer section, bounded */
};

enum http_chunk_event {
	HTTP_CHUNK_MORE,	/* all input was used; come back */
	HTTP_CHUNK_DATA,	/* *data is a piece of body */
	HTTP_CHUNK_TRAILERS,	/* the last chunk has been seen: what follows is
				 * the trailer section, see below */
	HTTP_CHUNK_FAULT,
};

void http_chunked_init(struct http_chunked *c);
/*
 * Looks at buf[0..len), says what is next and sets *used to the bytes that it
 * took (data included). Call until MORE, TRAILERS or FAULT.
 */
enum http_chunk_event http_chunked_next(struct http_chunked *c,
	const char *buf, size_t len, size_t *used, struct slice *data)
	MUST_CHECK;
/*
 * After TRAILERS: buf starts at the trailer section. Parses it whole, up to
 * and with the empty line, like fields of a head; fields that must not stand
 * in trailers (framing, routing, authentication: RFC 9110, 6.5.1) are left
 * out. trailers->fields as for http_parse_request(). trailers->head_bytes is
 * the length used.
 */
enum http_parse http_parse_trailers(const char *buf, size_t len,
	const struct http_limits *limits, uint32_t *scanned,
	struct http_head *trailers) MUST_CHECK;

/* Writes "<hex>\r\n" for a chunk of n bytes; returns its length, at most 18. */
size_t http_chunk_head(char *out, uint64_t n);

#endif
