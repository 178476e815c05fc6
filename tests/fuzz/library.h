/* What a library says of the same bytes. */
#ifndef TESTS_FUZZ_LIBRARY_H
#define TESTS_FUZZ_LIBRARY_H

#include <jansson.h>
#include <msgpack.h>
#include <stdbool.h>

#define MUST(cond)	do { if (!(cond)) abort(); } while (0)

/* JSON or MessagePack, and nothing left over? */
static inline bool is_readable(const char *p, size_t n, bool json)
{
	msgpack_unpacked result;
	size_t off = 0;
	json_t *root;
	bool good;

	if (json) {
		root = json_loadb(p, n, JSON_ALLOW_NUL |
					JSON_DECODE_INT_AS_REAL, NULL);
		json_decref(root);
		return root;
	}
	msgpack_unpacked_init(&result);
	good = msgpack_unpack_next(&result, p, n, &off) ==
	       MSGPACK_UNPACK_SUCCESS && off == n;
	msgpack_unpacked_destroy(&result);
	return good;
}

#endif
