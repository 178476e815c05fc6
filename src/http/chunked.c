/*
 * The chunked coding, reading and the head of a chunk. See chunked.h.
 */
#include "http/chunked.h"
#include "http/scan.h"

#define SIZE_LINE_MAX	256
#define SIZE_DIGITS_MAX	16

enum chunked_state {
	CHUNKED_FIRST,		/* the first digit of a size */
	CHUNKED_SIZE,		/* further digits */
	CHUNKED_BLANK,		/* blanks after the size: only before ';' */
	CHUNKED_EXTENSION,
	CHUNKED_LINE_END,	/* LF of the size line */
	CHUNKED_DATA,
	CHUNKED_DATA_CR,
	CHUNKED_DATA_LF,
	CHUNKED_END,		/* the trailer section follows */
	CHUNKED_BROKEN,
};

void http_chunked_init(struct http_chunked *c)
{
	*c = (struct http_chunked){ .state = CHUNKED_FIRST };
}

/* The byte after the digits of a size, or in what may stand there. */
static enum chunked_state after_size(enum chunked_state state, char ch)
{
	if (ch == ';')
		return CHUNKED_EXTENSION;
	if (is_blank(ch))
		return CHUNKED_BLANK;
	if (ch == '\r' && state == CHUNKED_SIZE)
		return CHUNKED_LINE_END;
	return CHUNKED_BROKEN;
}

static enum chunked_state take_digit(struct http_chunked *c, char ch)
{
	int v = hex_value(ch);

	if (v < 0)
		return c->state == CHUNKED_FIRST ? CHUNKED_BROKEN :
						   after_size(c->state, ch);
	if (c->line_bytes > SIZE_DIGITS_MAX || c->left >> 59)
		return CHUNKED_BROKEN;
	c->left = c->left << 4 | (uint64_t)v;
	return CHUNKED_SIZE;
}

/* One byte of a size line, or of the CR LF after data. */
static enum chunked_state take_byte(struct http_chunked *c, char ch)
{
	switch ((enum chunked_state)c->state) {
	case CHUNKED_FIRST:
	case CHUNKED_SIZE:
		return take_digit(c, ch);
	case CHUNKED_BLANK:
		return after_size(c->state, ch);
	case CHUNKED_EXTENSION:
		if (ch == '\r')
			return CHUNKED_LINE_END;
		return char_is(ch, CHAR_TEXT) ? CHUNKED_EXTENSION :
						CHUNKED_BROKEN;
	case CHUNKED_LINE_END:
		if (ch != '\n')
			return CHUNKED_BROKEN;
		return c->left ? CHUNKED_DATA : CHUNKED_END;
	case CHUNKED_DATA_CR:
		return ch == '\r' ? CHUNKED_DATA_LF : CHUNKED_BROKEN;
	case CHUNKED_DATA_LF:
		c->line_bytes = 0;
		return ch == '\n' ? CHUNKED_FIRST : CHUNKED_BROKEN;
	case CHUNKED_DATA:
	case CHUNKED_END:
	case CHUNKED_BROKEN:
		break;
	}
	return CHUNKED_BROKEN;
}

enum http_chunk_event http_chunked_next(struct http_chunked *c,
					const char *buf, size_t len,
					size_t *used, struct slice *data)
{
	size_t i = 0, n;

	while (i < len && c->state != CHUNKED_DATA && c->state < CHUNKED_END) {
		/* CR LF after data is outside the line that is counted. */
		if (c->state < CHUNKED_DATA && ++c->line_bytes > SIZE_LINE_MAX)
			c->state = CHUNKED_BROKEN;
		else
			c->state = (uint8_t)take_byte(c, buf[i++]);
	}
	*used = i;
	if (c->state == CHUNKED_BROKEN)
		return HTTP_CHUNK_FAULT;
	if (c->state == CHUNKED_END)
		return HTTP_CHUNK_TRAILERS;
	if (i == len)
		return HTTP_CHUNK_MORE;
	n = len - i < c->left ? len - i : (size_t)c->left;
	*data = slice_of(buf + i, n);
	*used = i + n;
	c->left -= n;
	if (c->left == 0)
		c->state = CHUNKED_DATA_CR;
	return HTTP_CHUNK_DATA;
}

size_t http_chunk_head(char *out, uint64_t n)
{
	static const char hex[] = "0123456789abcdef";
	unsigned digits = n ? (67 - (unsigned)__builtin_clzll(n)) / 4 : 1;

	for (unsigned i = digits; i-- > 0; n >>= 4)
		out[i] = hex[n & 15];
	out[digits] = '\r';
	out[digits + 1] = '\n';
	return digits + 2;
}
