/* Times as text. All take microseconds since 1970, UTC. */
#ifndef BASE_TIMEFMT_H
#define BASE_TIMEFMT_H

#include "base/base.h"

#define TIMEFMT_RFC3339_MS	24	/* 2026-01-02T03:04:05.678Z */
#define TIMEFMT_RFC3339_US	27	/* 2026-01-02T03:04:05.678901Z */
#define TIMEFMT_HTTP_DATE	29	/* Sun, 06 Nov 1994 08:49:37 GMT */

/* Write exactly that many bytes, no NUL. Cheap: the day, and the whole text of
 * the newest millisecond, are remembered by the caller's cache. */
struct timefmt_cache {
	int64_t second;		/* of the text below; 0: none yet */
	char rfc3339[20];	/* "2026-01-02T03:04:05." */
	uint64_t ms;		/* of the text below; 0: none yet */
	char rfc3339_ms[TIMEFMT_RFC3339_MS];
};

void timefmt_rfc3339_ms(struct timefmt_cache *c, uint64_t wall_us, char *out);
void timefmt_rfc3339_us(struct timefmt_cache *c, uint64_t wall_us, char *out);
void timefmt_http_date(uint64_t wall_us, char *out);

#endif
