#include "policy/route.h"

#include "config/route_index.h"
#include "policy/forward.h"

/* What is matched, but for the path. */
struct query {
	const struct config *config;
	struct slice host, method;
	const struct http_head *head;	/* NULL: no fields */
	bool trusted;
};

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

/* Some field of that name has that value, or any. */
static bool has_header(const struct query *q, const struct config_header *h)
{
	struct slice name = slice_str(h->name);

	for (unsigned i = 0; q->head && i < q->head->n_fields; i++) {
		const struct field *f = &q->head->fields[i];

		if (slice_eq_icase(field_name(f), name) &&
		    (!h->value || slice_eq(field_value(f),
					   slice_str(h->value))) &&
		    forward_keeps(q->config, f, q->trusted))
			return true;
	}
	return false;
}

static bool headers_match(const struct config_route *r, const struct query *q)
{
	for (unsigned i = 0; i < r->headers.n; i++)
		if (!has_header(q, &r->headers.list[i]))
			return false;
	return true;
}

static NOINLINE bool fits_closely(const struct query *q,
					const struct config_route *r,
					struct slice path)
{
	return path_matches(r, path) && method_matches(r, q->method) &&
	       (!r->host ||
		route_host_matches(slice_str(r->host), q->host)) &&
	       headers_match(r, q);
}

/* The last route of most configs, or their only one, takes all. */
static inline bool fits(const struct query *q, const struct config_route *r,
			struct slice path)
{
	if (!r->path && !r->path_prefix && !r->host && !r->n_methods &&
	    !r->headers.n)
		return true;
	return fits_closely(q, r, path);
}

/* The first of a group that fits and comes before `best`, else best. */
static uint32_t first_of_group(const struct query *q, struct slice path,
			       uint32_t i, uint32_t best)
{
	for (; i < best; i = q->config->route_index->next[i])
		if (fits(q, &q->config->routes[i], path))
			return i;
	return best;
}

static const struct config_route *first_by_index(const struct query *q,
						 struct slice path)
{
	const struct route_index *x = q->config->route_index;
	uint32_t best = q->config->n_routes;
	uint64_t host = 0;

	if (x->hosts)
		host = route_hash(q->host.p, q->host.n);
	for (unsigned i = 0; i < x->n_lengths; i++) {
		const struct route_length *l = &x->lengths[i];
		uint64_t hash;

		if (l->n > path.n)
			break;
		/* Most end in a slash: only where the path has one. */
		if (l->last && path.p[l->n - 1] != l->last)
			continue;
		hash = route_hash(path.p, l->n);
		best = first_of_group(q, path, route_index_find(x, hash),
				      best);
		if (x->hosts)
			best = first_of_group(q, path, route_index_find(x,
				route_hash_host(hash, host)), best);
	}
	return best < q->config->n_routes ? &q->config->routes[best] : NULL;
}

static const struct config_route *first_match(const struct query *q,
					      struct slice path)
{
	if (q->config->route_index)
		return first_by_index(q, path);
	for (unsigned i = 0; i < q->config->n_routes; i++)
		if (fits(q, &q->config->routes[i], path))
			return &q->config->routes[i];
	return NULL;
}

static const struct config_route *match(const struct query *q,
					const struct http_path *path,
					bool *ambiguous)
{
	const struct config_route *r;

	ASSERT(path->n >= 1 && path->n <= HTTP_PATH_READINGS);
	r = first_match(q, path->reading[0]);
	*ambiguous = false;
	for (unsigned i = 1; i < path->n; i++) {
		if (first_match(q, path->reading[i]) == r)
			continue;
		*ambiguous = true;
		return NULL;
	}
	return r;
}

const struct config_route *route_match(const struct config *config,
	struct slice host, const struct http_path *path, struct slice method,
	bool *ambiguous)
{
	struct query q = { config, host, method, NULL, false };

	return match(&q, path, ambiguous);
}

const struct config_route *route_match_head(const struct config *config,
	struct slice host, const struct http_path *path,
	const struct http_head *head, bool trusted, bool *ambiguous)
{
	struct query q = { config, host, head->method, head, trusted };

	return match(&q, path, ambiguous);
}
