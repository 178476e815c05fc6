/*
 * Paths (RFC 3986, 6.2.2), and their readings. What a route is matched on:
 * dot segments resolved, escapes of unreserved characters decoded. A path that
 * servers read in more than one way (%2f %5c and \ as separators or not, //
 * merged or not) has several readings; the caller matches under each and
 * refuses when they differ.
 */
#ifndef HTTP_PATH_H
#define HTTP_PATH_H

#include "base/arena.h"

enum http_path_result {
	HTTP_PATH_OK,
	HTTP_PATH_BAD,		/* %00, a broken escape, not starting with / */
	HTTP_PATH_NO_MEMORY,
};

/* 3 ways with slashes, 2 with %2f, 3 with backslashes. */
#define HTTP_PATH_READINGS	18

struct http_path {
	struct slice reading[HTTP_PATH_READINGS];	/* without query */
	unsigned n;		/* 1 for all ordinary paths */
};

/*
 * target: origin form, query included or not, as received ("*" gives one
 * reading, "*"). If the path is already normal, reading[0] points into it and
 * nothing is allocated. Reading 0: escapes of separators kept, // kept. The
 * others, as far as the path gives reason for them: // merged before or after
 * dot segments are resolved, times %2f a separator, times \ alone or with %5c
 * a separator. Equal readings stand once.
 */
enum http_path_result http_path_normalise(struct slice target, struct arena *a,
					  struct http_path *out) MUST_CHECK;

/* Host in lower case without port and final dot; points into host if it is
 * already so. .p NULL: no memory. */
struct slice http_host_normalise(struct slice host, struct arena *a) MUST_CHECK;

#endif
