/*
 * policy: pure decisions on plain structs, tested with no network. Which route
 * takes a request (route.h), what a failed asking means (outcome.h), what
 * several agents' answers come to (merge.h), header edits (edit.h), and the
 * head that agents see and that is forwarded (forward.h). Called by exchange/
 * only; any worker, no state of its own.
 */
#ifndef POLICY_ROUTE_H
#define POLICY_ROUTE_H

#include "config/model.h"
#include "http/head.h"
#include "http/path.h"

/*
 * The first route in configured order that takes the request; NULL if none
 * (404). host: from http_host_normalise(), empty if there was none. The path is
 * matched under each of its readings; if they do not all give the same answer
 * (no route is an answer too), *ambiguous is set and NULL returned: 400. The
 * route is borrowed from the config.
 */
const struct config_route *route_match(const struct config *config,
	struct slice host, const struct http_path *path, struct slice method,
	bool *ambiguous);

/*
 * The same for routes that ask for header fields, too. They are those of the
 * client's head that are let through: what belongs to an agent, or only a
 * trusted proxy may say, is not there. route_match() sees none at all.
 */
const struct config_route *route_match_head(const struct config *config,
	struct slice host, const struct http_path *path,
	const struct http_head *head, bool trusted, bool *ambiguous);

/* "api.example.com" against "*.example.com" or a plain name: both in lower
 * case. A wildcard takes one label or more, never none. */
bool route_host_matches(struct slice pattern, struct slice host);

#endif
