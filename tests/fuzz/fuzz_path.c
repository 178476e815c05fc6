/*
 * Paths: every reading is normal (reading it again gives itself first), within
 * bounds, without dot segments, and no reading stands twice.
 */
#include <stdlib.h>

#include "http/path.h"

#define CHECK(cond)	do { if (!(cond)) abort(); } while (0)

static void check_segments(struct slice s)
{
	const char *p = s.p, *end = s.p + s.n;

	CHECK(p < end && *p == '/');
	while (p < end) {
		const char *next = ++p;

		while (next < end && *next != '/')
			next++;
		CHECK(!(next - p == 1 && p[0] == '.'));
		CHECK(!(next - p == 2 && p[0] == '.' && p[1] == '.'));
		p = next;
	}
	CHECK(!memchr(s.p, '?', s.n));
}

static void check_readings(struct slice t, const struct http_path *path,
			   struct arena *a)
{
	CHECK(path->n >= 1 && path->n <= HTTP_PATH_READINGS);
	for (unsigned i = 0; i < path->n; i++) {
		struct slice r = path->reading[i];
		struct http_path again;

		CHECK(r.n <= t.n);
		check_segments(r);
		CHECK(http_path_normalise(r, a, &again) == HTTP_PATH_OK);
		CHECK(slice_eq(again.reading[0], r));
		for (unsigned k = 0; k < i; k++)
			CHECK(!slice_eq(path->reading[k], r));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena_pool pool;
	struct arena a;
	struct http_path path;
	struct slice t, host;
	char *copy;

	if (size > 2048)
		return 0;
	copy = malloc(size ? size : 1);
	CHECK(copy);
	if (size)
		memcpy(copy, data, size);
	t = slice_of(copy, size);
	arena_pool_init(&pool);
	arena_init(&a, &pool);
	if (http_path_normalise(t, &a, &path) == HTTP_PATH_OK &&
	    !slice_eq(t, SLICE("*")))
		check_readings(t, &path, &a);
	host = http_host_normalise(t, &a);
	CHECK(host.p && host.n <= t.n);
	arena_fini(&a);
	arena_pool_fini(&pool);
	free(copy);
	return 0;
}
