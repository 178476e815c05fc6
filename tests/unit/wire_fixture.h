/* What the tests of src/wire share: a pool, a queue, an arena, vectors. */
#ifndef TESTS_WIRE_FIXTURE_H
#define TESTS_WIRE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/codec.h"

#define TEST_ID	"0af7651916cd43dd8448eb211c80319c"

struct fixture {
	struct block_pool blocks;
	struct outq q;
	struct arena_pool arenas;
	struct arena arena;
};

static inline void fixture_init(struct fixture *x)
{
	block_pool_init(&x->blocks);
	outq_init(&x->q, &x->blocks);
	arena_pool_init(&x->arenas);
	arena_init(&x->arena, &x->arenas);
}

/* Nothing may be left: the pools assert it. */
static inline void fixture_fini(struct fixture *x)
{
	outq_clear(&x->q);
	arena_fini(&x->arena);
	arena_pool_fini(&x->arenas);
	assert_int_equal(x->blocks.live, 0);
	block_pool_fini(&x->blocks);
}

/* All queued bytes, taken out. Memory of malloc of exactly that size. */
static inline char *fixture_take(struct fixture *x, size_t *n)
{
	char *all = malloc(x->q.bytes ? x->q.bytes : 1), *o = all;

	assert_non_null(all);
	for (struct oseg *s = x->q.first; s; s = s->next) {
		memcpy(o, s->p, s->n);
		o += s->n;
	}
	*n = x->q.bytes;
	assert_int_equal(o - all, *n);
	outq_consume(&x->q, x->q.bytes);
	return all;
}

static inline char *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *buf;
	long size;

	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	buf = malloc((size_t)size + 1);
	assert_non_null(buf);
	*n = fread(buf, 1, (size_t)size, f);
	fclose(f);
	while (*n && buf[*n - 1] == '\n')
		--*n;
	return buf;
}

/* A vector's bytes in memory of exactly their size; hex files decoded. NULL:
 * there is none. */
static inline char *read_vector(const char *path, size_t *n)
{
	size_t len = strlen(path), text_n;
	char *text = read_file(path, &text_n), *out;
	bool hex = len > 4 && strcmp(path + len - 4, ".hex") == 0;

	if (!text)
		return NULL;
	*n = hex ? text_n / 2 : text_n;
	out = malloc(*n ? *n : 1);
	assert_non_null(out);
	for (size_t i = 0; i < *n; i++) {
		char two[3] = { text[hex ? 2 * i : i], text[hex ? 2 * i + 1 : i],
				'\0' };

		out[i] = hex ? (char)strtoul(two, NULL, 16) : text[i];
	}
	free(text);
	return out;
}

static inline struct slice text(const char *s)
{
	return slice_str(s);
}

static inline struct field a_field(const char *name, const char *value)
{
	return (struct field){ .name = name, .value = value,
			       .name_len = (uint16_t)strlen(name),
			       .value_len = (uint32_t)strlen(value) };
}

static inline struct event_meta a_meta(void)
{
	struct event_meta m = {
		.request_id = text("req-1"),
		.client_ip = text("192.0.2.7"),
		.client_port = 54321,
		.server_name = text("shop.example"),
		.protocol = text("HTTP/1.1"),
		.tls_version = text("TLSv1.3"),
		.tls_cipher = text("TLS_AES_128_GCM_SHA256"),
		.route_id = text("api"),
		.upstream_id = text("web"),
		.timestamp = text("2026-01-02T03:04:05.678Z"),
		.traceparent = text("00-" TEST_ID "-b7ad6b7169203331-01"),
	};

	memcpy(m.correlation_id, TEST_ID, EVENT_ID_LEN);
	return m;
}

#endif
