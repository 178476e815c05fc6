#include "policy/route.h"

bool route_host_matches(struct slice pattern, struct slice host)
{
	struct slice suffix;

	if (pattern.n < 2 || pattern.p[0] != '*')
		return slice_eq(pattern, host);
	/* "*.example.com": ".example.com" and something before it. */
	suffix = slice_of(pattern.p + 1, pattern.n - 1);
	return host.n > suffix.n &&
	       memcmp(host.p + host.n - suffix.n, suffix.p, suffix.n) == 0;
}

static bool path_matches(const struct config_route *r, struct slice path)
{
	if (r->path && !slice_eq(slice_str(r->path), path))
		return false;
	return !r->path_prefix ||
	       slice_has_prefix(path, slice_str(r->path_prefix));
}

static bool method_matches(const struct config_route *r, struct slice method)
{
	for (unsigned i = 0; i < r->n_methods; i++)
		if (slice_eq(slice_str(r->methods[i]), method))
			return true;
	return r->n_methods == 0;
}

static const struct config_route *first_match(const struct config *config,
	struct slice host, struct slice path, struct slice method)
{
	for (unsigned i = 0; i < config->n_routes; i++) {
		const struct config_route *r = &config->routes[i];

		if (path_matches(r, path) && method_matches(r, method) &&
		    (!r->host || route_host_matches(slice_str(r->host), host)))
			return r;
	}
	return NULL;
}

const struct config_route *route_match(const struct config *config,
	struct slice host, const struct http_path *path, struct slice method,
	bool *ambiguous)
{
	const struct config_route *r;

	ASSERT(path->n >= 1 && path->n <= HTTP_PATH_READINGS);
	r = first_match(config, host, path->reading[0], method);
	*ambiguous = false;
	for (unsigned i = 1; i < path->n; i++) {
		if (first_match(config, host, path->reading[i], method) == r)
			continue;
		*ambiguous = true;
		return NULL;
	}
	return r;
}
