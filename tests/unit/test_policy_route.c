/* Which route takes a request. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "config/load.h"
#include "policy/route.h"

static struct config *config;
static struct arena_pool pool;

static int setup(void **state)
{
	static const char text[] =
		"listeners: [{ name: l, address: '127.0.0.1:80' }]\n"
		"upstreams: { u: { servers: ['127.0.0.1:90'] } }\n"
		"routes:\n"
		"  - { name: exact, match: { path: /only }, upstream: u }\n"
		"  - { name: post, match: { host: a.example.com, path_prefix: "
		"/v1/, methods: [POST, PUT] }, upstream: u }\n"
		"  - { name: wild, match: { host: '*.example.com' }, "
		"upstream: u }\n"
		"  - { name: admin, match: { path_prefix: /admin/ }, "
		"upstream: u }\n"
		"  - { name: static, match: { path_prefix: /s }, upstream: u }"
		"\n";

	arena_pool_init(&pool);
	config = config_load_text("f", SLICE(text), stderr);
	return config ? 0 : -1;
}

static int teardown(void **state)
{
	config_free(config);
	arena_pool_fini(&pool);
	return 0;
}

/* The route's name; "404", "400" where the path has readings that differ. */
static const char *match(const char *method, const char *host,
			 const char *target)
{
	const struct config_route *r;
	struct http_path path;
	struct arena a;
	bool ambiguous = true;

	arena_init(&a, &pool);
	assert_int_equal(http_path_normalise(slice_str(target), &a, &path),
			 HTTP_PATH_OK);
	r = route_match(config, http_host_normalise(slice_str(host), &a),
			&path, slice_str(method), &ambiguous);
	arena_fini(&a);
	if (ambiguous)
		assert_null(r);
	return ambiguous ? "400" : r ? r->name : "404";
}

static void test_match(void **state)
{
	static const struct {
		const char *method, *host, *target, *want;
	} cases[] = {
		{ "GET", "x", "/only", "exact" },
		{ "GET", "x", "/only?q=/admin/", "exact" },
		{ "GET", "x", "/a/../only", "exact" },
		{ "GET", "x", "/%6fnly", "exact" },
		{ "GET", "x", "/only/", "404" },
		{ "GET", "x", "/Only", "404" },
		{ "POST", "a.example.com", "/v1/x", "post" },
		{ "PUT", "A.Example.COM:80", "/v1/", "post" },
		{ "PUT", "a.example.com.", "/v1/", "post" },
		{ "GET", "a.example.com", "/v1/x", "wild" },
		{ "post", "a.example.com", "/v1/x", "wild" },
		{ "POST", "a.example.com", "/v1", "wild" },
		{ "GET", "a.b.example.com", "/", "wild" },
		{ "GET", "example.com", "/", "404" },
		{ "GET", ".example.com", "/", "404" },
		{ "GET", "badexample.com", "/", "404" },
		{ "GET", "example.com.evil", "/", "404" },
		{ "GET", "", "/admin/x", "admin" },
		{ "GET", "", "/s", "static" },
		{ "GET", "", "/sub", "static" },
		{ "GET", "", "/", "404" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(match(cases[i].method, cases[i].host,
					  cases[i].target), cases[i].want);
}

/* No spelling reaches a service past its agents. */
static void test_ambiguous(void **state)
{
	/* /s/../admin/x for who takes %2f for a separator. */
	assert_string_equal(match("GET", "", "/s/..%2fadmin/x"), "400");
	assert_string_equal(match("GET", "", "/s/..%5cadmin/x"), "400");
	assert_string_equal(match("GET", "", "/s/..\\admin/x"), "400");
	/* One reading is no route's: not equal either. */
	assert_string_equal(match("GET", "", "//admin/x"), "400");
	/* The same route under all readings. */
	assert_string_equal(match("GET", "", "/s/a%2fb"), "static");
	assert_string_equal(match("GET", "", "/admin//x"), "admin");
	assert_string_equal(match("GET", "", "/z//z"), "404");
}

/* ---- many routes: the index finds what looking through them all finds ------ */

static unsigned random_below(unsigned n)
{
	static uint32_t v = 7;

	v = v * 1664525 + 1013904223;
	return (v >> 8) % n;
}

static void random_path(char out[64], bool prefix)
{
	static const char *const parts[] = { "/", "/a", "/a/", "/b/", "/ab/",
					     "/a/b/c/", "/x/" };

	strcpy(out, parts[random_below(7)]);
	for (unsigned i = random_below(prefix ? 2 : 4); i; i--)
		strcat(out, parts[1 + random_below(6)] + 1);
}

static struct config *random_config(unsigned n)
{
	static const char *const hosts[] = { "a.b", "c.b", "*.b", "x.a.b" };
	static char text[65536];
	char path[64];
	size_t at;

	at = (size_t)snprintf(text, sizeof(text),
		"listeners: [{ name: l, address: '127.0.0.1:80' }]\n"
		"upstreams: { u: { servers: ['127.0.0.1:90'] } }\nroutes:\n");
	for (unsigned i = 0; i < n; i++) {
		random_path(path, true);
		at += (size_t)snprintf(text + at, sizeof(text) - at,
			"  - { upstream: u, match: { %s: '%s'",
			random_below(4) ? "path_prefix" : "path", path);
		if (random_below(2))
			at += (size_t)snprintf(text + at, sizeof(text) - at,
				", host: '%s'", hosts[random_below(4)]);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s } }\n",
			random_below(4) ? "" : ", methods: [POST]");
	}
	return config_load_text("f", slice_of(text, at), stderr);
}

static void test_index(void **state)
{
	static const char *const hosts[] = { "a.b", "c.b", "x.a.b", "z", "" };
	struct http_path path = { .n = 1 };
	struct config plain, *many;
	unsigned found = 0;
	char target[64];

	for (unsigned round = 0; round < 300; round++) {
		many = random_config(4 + random_below(round < 150 ? 8 : 60));
		assert_non_null(many);
		assert_non_null(many->route_index);
		plain = *many;
		plain.route_index = NULL;
		for (unsigned i = 0; i < 50; i++) {
			struct slice host = slice_str(hosts[random_below(5)]);
			struct slice method = random_below(2) ? SLICE("GET") :
						SLICE("POST");
			const struct config_route *r;
			bool ambiguous;

			random_path(target, false);
			path.reading[0] = slice_str(target);
			r = route_match(many, host, &path, method, &ambiguous);
			assert_ptr_equal(r, route_match(&plain, host, &path,
							method, &ambiguous));
			found += r != NULL;
		}
		config_free(many);
	}
	assert_in_range(found, 1000, 14000);
}

static void test_host(void **state)
{
	assert_true(route_host_matches(SLICE("a.b"), SLICE("a.b")));
	assert_false(route_host_matches(SLICE("a.b"), SLICE("xa.b")));
	assert_true(route_host_matches(SLICE("*.b"), SLICE("a.b")));
	assert_true(route_host_matches(SLICE("*.b"), SLICE("x.a.b")));
	assert_false(route_host_matches(SLICE("*.b"), SLICE("b")));
	assert_false(route_host_matches(SLICE("*.b"), SLICE(".b")));
	assert_false(route_host_matches(SLICE("*.b"), SLICE("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_ambiguous),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_host),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
