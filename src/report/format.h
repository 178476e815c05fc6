/* Private to report/: one record as one line, newline included. */
#ifndef REPORT_FORMAT_H
#define REPORT_FORMAT_H

#include "report/access.h"

#define LINE_MAX_BYTES (16u * 1024)

/* What a worker remembers between lines. */
struct format_cache {
	struct timefmt_cache time;
	uint64_t second;	/* of the text below; 0: none yet */
	char clf[26];		/* 02/Jan/2026:03:04:05 +0000 */
};

/* Writes at most LINE_MAX_BYTES at out; how many. */
size_t format_json(char *out, const struct record *r,
		   struct format_cache *cache);
size_t format_combined(char *out, const struct record *r,
		       struct format_cache *cache);

#endif
