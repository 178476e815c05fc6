/*
 * The chunked coding: no split changes the body or the end, and a body that is
 * written as one chunk is read back.
 */
#include <stdlib.h>

#include "http/chunked.h"

#define CHECK(cond)	do { if (!(cond)) abort(); } while (0)

struct outcome {
	enum http_chunk_event end;
	size_t used, n;
	char body[4096];
};

static void take(const char *text, size_t len, size_t step, struct outcome *o)
{
	struct http_chunked c;
	size_t upto = step < len ? step : len;

	http_chunked_init(&c);
	o->used = o->n = 0;
	for (;;) {
		size_t n = upto - o->used, used;
		struct slice data;
		char *buf = malloc(n ? n : 1);

		CHECK(buf);
		if (n)
			memcpy(buf, text + o->used, n);
		o->end = http_chunked_next(&c, buf, n, &used, &data);
		CHECK(used <= n);
		if (o->end == HTTP_CHUNK_DATA) {
			CHECK(data.n && data.p >= buf &&
			      data.p + data.n == buf + used);
			memcpy(o->body + o->n, data.p, data.n);
			o->n += data.n;
		}
		free(buf);
		o->used += used;
		if (o->end == HTTP_CHUNK_DATA)
			continue;
		if (o->end != HTTP_CHUNK_MORE)
			return;
		CHECK(used == n);
		if (upto == len)
			return;
		upto = upto + step < len ? upto + step : len;
	}
}

static void check_round_trip(const char *body, size_t n)
{
	static char text[5000];
	static struct outcome o;
	size_t len = http_chunk_head(text, n);

	memcpy(text + len, body, n);
	len += n;
	memcpy(text + len, "\r\n0\r\n\r\n", 7);
	len += 7;
	take(text, len, len, &o);
	CHECK(o.end == HTTP_CHUNK_TRAILERS && o.used == len - 2);
	CHECK(o.n == n && memcmp(o.body, body, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, split;

	if (size < 1 || size > 4096)
		return 0;
	size--;
	take((const char *)data, size, size ? size : 1, &whole);
	take((const char *)data, size, 1 + data[size] % 16u, &split);
	CHECK(whole.end == split.end && whole.used == split.used);
	CHECK(whole.n == split.n &&
	      memcmp(whole.body, split.body, whole.n) == 0);
	if (whole.n)
		check_round_trip(whole.body, whole.n);
	return 0;
}
