/*
 * What the load client and the origin share: sockets, clock, digest, and just
 * enough HTTP/1.1 to read the other side's messages strictly.
 */
#ifndef LOAD_COMMON_H
#define LOAD_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t now_us(void);
uint64_t now_ns(void);
/* Prints to stderr and exits 1. */
void die(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));
void *must_realloc(void *p, size_t n);

/* ADDRESS is IP:PORT or unix:/PATH. Non-blocking descriptors, or -1 (errno). */
int net_listen(const char *address);
int net_connect(const char *address);

/* CRC-32 as zlib's: start with 0. */
uint32_t crc32_add(uint32_t crc, const void *data, size_t n);

/* The bytes of /bytes/N from `offset` on: a pattern of PATTERN bytes, again and
 * again. Returns a pointer to at least one byte and how many there are. */
#define PATTERN 65521
const char *pattern_at(uint64_t offset, size_t *n);

/* ---- reading messages --------------------------------------------------- */

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_CLOSE };

struct head {
	size_t bytes;			/* of the head, with the empty line */
	int status;			/* of a response */
	char method[16], path[256];	/* of a request */
	bool close;			/* Connection: close, or HTTP/1.0 */
	bool upgrade, expect;
	enum body_kind body;
	uint64_t length;
	int64_t number;			/* X-Number, -1: none */
};

enum head_result { HEAD_MORE, HEAD_OK, HEAD_BAD };
/* Looks at the front of buf. BODY_CLOSE where a response has no length. */
enum head_result head_read(const char *buf, size_t n, bool response,
			   struct head *h);

/* A body: tells how many of the next n bytes are data. */
struct body {
	enum body_kind kind;
	uint64_t left;			/* of the length, or of this chunk */
	int state;
	bool done, bad;
	uint64_t bytes;			/* of data so far */
	uint32_t crc;
};

void body_start(struct body *b, const struct head *h);
/* Takes from buf; returns how many bytes were used (all, unless the body ended
 * or is bad). on_data may be NULL. */
size_t body_take(struct body *b, const char *buf, size_t n,
		 void (*on_data)(void *arg, const char *p, size_t n),
		 void *arg);

/* ---- a growing buffer ---------------------------------------------------- */

struct buf {
	char *p;
	size_t n, off, cap;
};

void buf_add(struct buf *b, const void *p, size_t n);
void buf_printf(struct buf *b, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void buf_take(struct buf *b, size_t n);
void buf_free(struct buf *b);

#endif
