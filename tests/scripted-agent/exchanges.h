/*
 * What the scripted agent keeps of an exchange between its events: the request
 * for conditions, running digests of the bodies for the log.
 */
#ifndef SCRIPTED_AGENT_EXCHANGES_H
#define SCRIPTED_AGENT_EXCHANGES_H

#include "script.h"

#define EXCHANGE_TEXT	512u	/* of a kept method or uri */

/* FNV-1a, 64 bits. */
#define DIGEST_INIT	0xcbf29ce484222325ull
uint64_t digest_add(uint64_t digest, const char *p, size_t n);

struct body_total {
	uint64_t digest, bytes;
};

struct exchange {
	struct exchange *next;
	char id[EVENT_ID_LEN];
	char method[32], uri[EXCHANGE_TEXT];
	struct seen seen;
	struct body_total bodies[2];	/* request, response */
};

struct exchange_table *exchanges_new(void);
void exchanges_free(struct exchange_table *t);
/* NULL: none, or (make) too many, or no memory. */
struct exchange *exchanges_get(struct exchange_table *t, const char *id,
			       bool make);
void exchanges_drop(struct exchange_table *t, const char *id);

#endif
