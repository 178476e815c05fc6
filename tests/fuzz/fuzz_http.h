/*
 * What the fuzz targets of heads share: parsing under any split, and writing
 * an accepted head out again.
 */
#ifndef FUZZ_HTTP_H
#define FUZZ_HTTP_H

#include <stdio.h>
#include <stdlib.h>

#include "http/head.h"

#define FUZZ_FIELDS	32

static const struct http_limits fuzz_limits = {
	.header_bytes = 1024, .headers = FUZZ_FIELDS, .target_bytes = 128,
};

struct fuzz_head {
	enum http_parse rc;
	struct http_head head;
	struct field fields[FUZZ_FIELDS + 1];
};

typedef enum http_parse (*fuzz_parse)(const char *buf, size_t len,
				      uint32_t *scanned,
				      struct http_head *head);

#define CHECK(cond)	do { if (!(cond)) abort(); } while (0)

/* A copy of exactly its size, so that the sanitizer sees any byte too far. */
static char *fuzz_copy(const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);

	CHECK(copy);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

static void fuzz_inside(const char *buf, size_t len, struct slice s)
{
	CHECK(s.n == 0 || ((uintptr_t)s.p >= (uintptr_t)buf &&
			   (uintptr_t)s.p + s.n <= (uintptr_t)buf + len));
}

static void fuzz_check_fields(const struct http_head *h, const char *buf,
			      size_t len)
{
	uint64_t present = 0;

	CHECK(h->head_bytes <= len && h->n_fields <= h->cap_fields);
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct field *f = &h->fields[i];
		struct slice value = field_value(f);
		bool high = false;

		CHECK(http_token_valid(field_name(f)));
		CHECK(http_value_valid(value));
		CHECK(f->id == http_field_lookup(field_name(f)));
		CHECK(f->id == 0 || f->id > HTTP_FIELD_HOP_LAST);
		fuzz_inside(buf, len, value);
		for (size_t k = 0; k < value.n; k++)
			high |= (value.p[k] & 0x80) != 0;
		CHECK(high == !!(f->flags & FIELD_NON_ASCII));
		if (f->flags & FIELD_LINE) {
			fuzz_inside(buf, len, field_name(f));
			CHECK(memcmp(f->name + f->name_len, ": ", 2) == 0);
			CHECK(f->value == f->name + f->name_len + 2);
			CHECK(memcmp(value.p + value.n, "\r\n", 2) == 0);
		}
		present |= 1ull << f->id;
	}
	CHECK(present == h->present);
}

/* Same answer, same facts, same fields? a and b point into equal bytes. */
static void fuzz_same(const struct fuzz_head *a, const char *abuf,
		      const struct fuzz_head *b, const char *bbuf)
{
	const struct http_head *x = &a->head, *y = &b->head;

	CHECK(a->rc == b->rc);
	if (a->rc != HTTP_PARSE_OK)
		return;
	CHECK(x->head_bytes == y->head_bytes && x->n_fields == y->n_fields);
	CHECK(x->framing == y->framing && x->present == y->present);
	CHECK(x->content_length == y->content_length);
	CHECK(x->keep_alive == y->keep_alive && x->status == y->status);
	CHECK(slice_eq(x->path, y->path) && slice_eq(x->host, y->host));
	CHECK(slice_eq(x->upgrade, y->upgrade));
	CHECK(x->host_plain == y->host_plain);
	for (unsigned i = 0; i < x->n_fields; i++) {
		CHECK(slice_eq(field_name(&x->fields[i]),
			       field_name(&y->fields[i])));
		CHECK(x->fields[i].value - abuf == y->fields[i].value - bbuf);
		CHECK(x->fields[i].value_len == y->fields[i].value_len);
		CHECK(x->fields[i].flags == y->fields[i].flags);
	}
}

/* Parses text, bytes coming `step` at a time. The caller frees the result. */
static char *fuzz_parse_steps(fuzz_parse parse, const char *text, size_t len,
			      size_t step, struct fuzz_head *out)
{
	uint32_t scanned = 0;

	for (size_t n = step < len ? step : len;;
	     n = n + step < len ? n + step : len) {
		char *buf = fuzz_copy(text, n);

		memset(&out->head, 0xa5, sizeof(out->head));
		out->head.fields = out->fields;
		out->head.cap_fields = FUZZ_FIELDS;
		out->rc = parse(buf, n, &scanned, &out->head);
		CHECK(out->rc < HTTP_PARSE_N);
		if (out->rc != HTTP_PARSE_MORE || n == len)
			return buf;
		free(buf);
	}
}

/*
 * Whole and in steps. In steps, a fault in the last line may show only when
 * that line is complete.
 */
static char *fuzz_parse_both(fuzz_parse parse, const char *text, size_t len,
			     size_t step, struct fuzz_head *whole)
{
	static struct fuzz_head split;
	char *buf = fuzz_parse_steps(parse, text, len, len, whole), *other;

	other = fuzz_parse_steps(parse, text, len, step, &split);
	if (split.rc == HTTP_PARSE_MORE && whole->rc > HTTP_PARSE_MORE) {
		char *longer = malloc(len + 2);

		CHECK(longer);
		memcpy(longer, text, len);
		memcpy(longer + len, "\r\n", 2);
		free(other);
		other = fuzz_parse_steps(parse, longer, len + 2, step, &split);
		free(longer);
	}
	fuzz_same(whole, buf, &split, other);
	free(other);
	return buf;
}

/* Appends the fields and what stands for the framing. */
static size_t fuzz_write_fields(const struct http_head *h, char *out, size_t n,
				size_t size)
{
	for (unsigned i = 0; i < h->n_fields; i++)
		n += (size_t)snprintf(out + n, size - n, "%.*s: %.*s\r\n",
				      SLICE_FMT(field_name(&h->fields[i])),
				      SLICE_FMT(field_value(&h->fields[i])));
	if (h->has_content_length)
		n += (size_t)snprintf(out + n, size - n,
				      "Content-Length: %llu\r\n",
				      (unsigned long long)h->content_length);
	if (h->framing == HTTP_BODY_CHUNKED)
		n += (size_t)snprintf(out + n, size - n,
				      "Transfer-Encoding: chunked\r\n");
	n += (size_t)snprintf(out + n, size - n, "\r\n");
	CHECK(n < size);
	return n;
}

/* The fields of b, a head written from a, are those of a. */
static void fuzz_same_fields(const struct http_head *a,
			     const struct http_head *b)
{
	CHECK(a->n_fields == b->n_fields && a->framing == b->framing);
	CHECK(a->content_length == b->content_length);
	for (unsigned i = 0; i < a->n_fields; i++) {
		CHECK(slice_eq(field_name(&a->fields[i]),
			       field_name(&b->fields[i])));
		CHECK(slice_eq(field_value(&a->fields[i]),
			       field_value(&b->fields[i])));
		CHECK(a->fields[i].id == b->fields[i].id);
	}
}

#endif
