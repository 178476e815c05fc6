/* agentproxyd -t --explain 'METHOD URL': what would happen to a request. */
#ifndef DAEMON_EXPLAIN_H
#define DAEMON_EXPLAIN_H

#include <stdio.h>

#include "config/model.h"

/*
 * request: "POST https://host/path?query" or "GET /path", header fields on lines
 * of their own after it. Prints the route, its
 * agents in order with what each failure means, limits, time-outs and the most
 * that agents can add. False: it is no request (said on err) or no memory.
 */
bool explain(const struct config *config, const char *request, FILE *out,
	     FILE *err) MUST_CHECK;

#endif
