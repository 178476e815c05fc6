/* Configs, good and faulty, for tests of what is told. */
#ifndef CONFIG_FIXTURE_H
#define CONFIG_FIXTURE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "config/load.h"

#define L "listeners: [{ name: l, address: '127.0.0.1:80' }]\n"

/* A whole config around the part that is tested: 7 lines come first. */
#define HEAD								\
	"listeners: [{ name: l, address: '127.0.0.1:80' }]\n"		\
	"upstreams:\n"							\
	"  app: { servers: ['127.0.0.1:90'] }\n"			\
	"agents:\n"							\
	"  waf: { socket: /w, on_failure: deny }\n"			\
	"  bare: { socket: /b }\n"					\
	"\n"

struct bad {
	const char *text;
	const char *faults;
};

static struct config *load(const char *text, size_t n, char **faults)
{
	size_t size;
	FILE *out = open_memstream(faults, &size);
	struct config *config;

	assert_non_null(out);
	config = config_load_text("f", slice_of(text, n), out);
	fclose(out);
	return config;
}

static struct config *load_good(const char *text)
{
	char *faults;
	struct config *config = load(text, strlen(text), &faults);

	assert_string_equal(faults, "");
	assert_non_null(config);
	free(faults);
	return config;
}

static void check_bad_n(const char *text, size_t n, const char *want)
{
	char *faults;
	struct config *config = load(text, n, &faults);

	assert_string_equal(faults, want);
	assert_null(config);
	free(faults);
}

static inline void check_bad(const struct bad *bad, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_bad_n(bad[i].text, strlen(bad[i].text), bad[i].faults);
}

#define CHECK_BAD(list) check_bad(list, ARRAY_LEN(list))

#endif
