/* Readers of routes, and the checks that need everything else to be there. */
#include <stdio.h>

#include "config/loader.h"
#include "config/route_index.h"
#include "config/value.h"

#define KIB		1024ull
/* What fits one frame of 16 MiB as base64, with room for the rest. */
#define BASE64_MOST	((16 * KIB * KIB - 4 * KIB) / 4 * 3)
#define RAW_MOST	(16 * KIB * KIB - 4 * KIB)

/* Fewer routes are faster looked through than looked up. */
#define INDEX_FROM	4u

/* ---- match -------------------------------------------------------------- */

void read_host(struct loader *l, const struct config_row *row,
	       const struct node *value, void *object)
{
	struct config_route *route = object;
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (!value_host(text, why))
		loader_fault(l, value, "%s", why);
	route->host = loader_keep_lower(l, text);
}

void read_path(struct loader *l, const struct config_row *row,
	       const struct node *value, void *object)
{
	const char **path = (const char **)((char *)object + row->offset);
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (!value_path(text, why))
		loader_fault(l, value, "%s", why);
	*path = loader_keep(l, text);
}

static bool check_method(const char *text, char *why)
{
	if (!value_token(text, why))
		return false;
	for (const char *s = text; *s; s++) {
		if (*s < 'a' || *s > 'z')
			continue;
		snprintf(why, VALUE_WHY,
			 "methods are written in capitals, as in `POST`");
		return false;
	}
	if (strcmp(text, "CONNECT") != 0)
		return true;
	snprintf(why, VALUE_WHY, "CONNECT is never let through");
	return false;
}

void read_methods(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_route *route = object;
	struct loader_texts all = loader_texts(l, value, check_method, false);

	if (value->kind == NODE_LIST && !value->n)
		loader_fault(l, value, "needs at least one");
	route->methods = all.text;
	route->n_methods = all.n;
}

static bool check_upgrade(const char *text, char *why)
{
	if (!value_token(text, why))
		return false;
	if (!slice_eq_icase(slice_str(text), SLICE("h2c")))
		return true;
	snprintf(why, VALUE_WHY,
		 "h2c is never let through: it would pass every agent by");
	return false;
}

void read_upgrade(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_route *route = object;
	struct loader_texts all = loader_texts(l, value, check_upgrade, true);

	route->upgrade = all.text;
	route->n_upgrade = all.n;
}

/* ---- names -------------------------------------------------------------- */

/* NULL and a fault if no upstream has that name. */
static const struct config_upstream *find_upstream(struct loader *l,
						   const struct node *value)
{
	const struct config *config = l->config;
	const char *text = loader_text(l, value);
	struct nearest near;
	char hint[VALUE_HINT];

	if (!text)
		return NULL;
	nearest_init(&near, text);
	for (unsigned i = 0; i < config->n_upstreams; i++) {
		const char *name = config->upstreams[i].name;

		if (!name)
			continue;
		if (strcmp(name, text) == 0)
			return &config->upstreams[i];
		nearest_offer(&near, name);
	}
	loader_fault(l, value, "no upstream has the name `%.100s`%s", text,
		     loader_hint(&near, hint));
	return NULL;
}

void read_upstream_name(struct loader *l, const struct config_row *row,
			const struct node *value, void *object)
{
	struct config_route *route = object;

	route->upstream = find_upstream(l, value);
}

static bool is_listed(const struct config_route *route,
		      const struct config_upstream *up)
{
	for (unsigned i = 0; i < route->n_agent_upstreams; i++)
		if (route->agent_upstreams[i] == up)
			return true;
	return false;
}

void read_agent_upstreams(struct loader *l, const struct config_row *row,
			  const struct node *value, void *object)
{
	struct config_route *route = object;
	unsigned i = 0;

	if (!loader_is_list(l, value))
		return;
	route->agent_upstreams = loader_alloc(l, value->n, sizeof(void *));
	for (const struct node *n = value->first; n && route->agent_upstreams;
	     n = n->next) {
		size_t mark = loader_enter_item(l, i++);
		const struct config_upstream *up = find_upstream(l, n);

		if (up && is_listed(route, up))
			loader_fault(l, n, "given twice");
		else if (up)
			route->agent_upstreams[route->n_agent_upstreams++] = up;
		loader_leave(l, mark);
	}
}

void read_agent_name(struct loader *l, const struct config_row *row,
		     const struct node *value, void *object)
{
	const struct config *config = l->config;
	struct config_route_agent *asked = object;
	const char *text = loader_text(l, value);
	struct nearest near;
	char hint[VALUE_HINT];

	if (!text)
		return;
	nearest_init(&near, text);
	for (unsigned i = 0; i < config->n_agents; i++) {
		const char *name = config->agents[i].name;

		if (!name)
			continue;
		if (strcmp(name, text) == 0) {
			asked->agent = &config->agents[i];
			return;
		}
		nearest_offer(&near, name);
	}
	loader_fault(l, value, "no agent has the name `%.100s`%s", text,
		     loader_hint(&near, hint));
}

/* ---- an agent of a route ------------------------------------------------ */

/* Before the map is read: it changes what it names. */
static void inherit(const struct loader *l, const struct node *value,
		    struct config_route_agent *asked)
{
	const struct config *config = l->config;
	const struct node *name = value->kind == NODE_MAP
					  ? node_get(value, "name") : value;

	if (!name || name->kind != NODE_SCALAR)
		return;
	for (unsigned i = 0; i < config->n_agents; i++) {
		const struct config_agent *agent = &config->agents[i];

		if (!agent->name || strcmp(agent->name, name->text) != 0)
			continue;
		asked->timeouts = agent->timeouts;
		asked->on_failure = agent->on_failure;
		return;
	}
}

/* on_too_large and the cause too_large say the same: the nearer one rules. */
static void settle_too_large(struct loader *l, const struct node *value,
			     struct config_route_agent *asked)
{
	const struct node *written = node_get(value, "on_too_large");
	bool *deny = &asked->on_failure.deny[CAUSE_TOO_LARGE];

	if (!written) {
		asked->on_too_large_skip = !*deny;
		return;
	}
	if (policy_names_too_large(node_get(value, "on_failure")) &&
	    *deny == asked->on_too_large_skip)
		loader_fault_at(l, written, "on_too_large",
				"on_failure.too_large says otherwise");
	*deny = !asked->on_too_large_skip;
}

static bool keeps_back(enum config_body_mode mode)
{
	return mode == BODY_HOLD || mode == BODY_BUFFER;
}

/*
 * Who gets no bodies keeps none back. In stream max_body bounds what
 * needs_more holds.
 */
static void check_unused(struct loader *l, const struct node *value,
			 const struct config_route_agent *asked)
{
	static const char *const keys[] = { "max_body", "on_too_large" };

	if (asked->request_body != BODY_NONE ||
	    asked->response_body != BODY_NONE)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
		const struct node *at = node_get(value, keys[i]);

		if (at)
			loader_fault_at(l, at, keys[i], "has no effect: the "
					"agent gets no bodies here");
	}
}

static void check_max_body(struct loader *l, const struct node *value,
			   const struct config_route_agent *asked)
{
	const struct node *at = node_get(value, "max_body");
	const struct config_agent *agent = asked->agent;
	bool raw = agent->raw_body && agent->encoding == ENCODING_MSGPACK;
	uint64_t most = raw ? RAW_MOST : BASE64_MOST;
	char text[VALUE_TEXT];

	if (!at)
		at = value;
	if ((asked->request_body == BODY_BUFFER ||
	     asked->response_body == BODY_BUFFER) && asked->max_body > most) {
		value_size_print(most, text);
		loader_fault_at(l, at, "max_body", "buffer sends a body in one "
				"event, which has room for %s", text);
	}
	if ((keeps_back(asked->request_body) ||
	     keeps_back(asked->response_body)) &&
	    asked->max_body > l->config->memory_held_bytes)
		loader_fault_at(l, at, "max_body",
				"is more than memory.held_bytes");
}

static void check_asked(struct loader *l, const struct node *value,
			struct config_route *route,
			struct config_route_agent *asked)
{
	const struct config_agent *agent = asked->agent;

	/* A response's body makes sense to who has seen its head. */
	if (asked->response_body != BODY_NONE)
		asked->response_head = true;
	if (asked->observe)
		memset(&asked->on_failure, 0, sizeof(asked->on_failure));
	else if (node_get(value, "sample"))
		loader_fault_at(l, node_get(value, "sample"), "sample",
				"has no effect: mode is enforce");
	settle_too_large(l, value, asked);
	if (!agent)
		return;
	if (!asked->observe && !agent->has_on_failure && !node_get(value, "on_failure"))
		loader_fault_at(l, value, "on_failure", "is missing: say deny "
				"or allow here or at agents.%.64s.on_failure",
				agent->name);
	for (const struct config_route_agent *o = route->agents; o < asked; o++)
		if (o->agent == agent)
			loader_fault(l, value, "`%.64s` stands here twice",
				     agent->name);
	check_unused(l, value, asked);
	check_max_body(l, value, asked);
}

static void read_asked(struct loader *l, const struct config_row *row,
		       const struct node *value, struct config_route *route)
{
	struct config_route_agent *asked = &route->agents[route->n_agents++];

	inherit(l, value, asked);
	if (value->kind == NODE_SCALAR) {
		loader_defaults(l, SCOPE_ROUTE_AGENT, asked);
		read_agent_name(l, row, value, asked);
	} else {
		loader_object(l, value, SCOPE_ROUTE_AGENT, asked);
	}
	check_asked(l, value, route, asked);
}

void read_route_agents(struct loader *l, const struct config_row *row,
		       const struct node *value, void *object)
{
	struct config_route *route = object;
	unsigned i = 0;

	if (node_is_null(value) || !loader_is_list(l, value))
		return;
	route->agents = loader_alloc(l, value->n, sizeof(*route->agents));
	for (const struct node *n = value->first; n && route->agents;
	     n = n->next) {
		size_t mark = loader_enter_item(l, i++);

		read_asked(l, row, n, route);
		loader_leave(l, mark);
	}
}

/* ---- routes ------------------------------------------------------------- */

void read_routes(struct loader *l, const struct config_row *row,
		 const struct node *value, void *object)
{
	l->routes = value;
}

static void default_name(struct loader *l, struct config_route *route)
{
	char name[32];

	snprintf(name, sizeof(name), "route-%u", route->index + 1);
	route->name = loader_keep(l, name);
}

static void default_upgrade(struct loader *l, struct config_route *route)
{
	for (unsigned i = 0; i < route->n_agents; i++)
		if (route->agents[i].request_body != BODY_NONE ||
		    route->agents[i].response_body != BODY_NONE)
			return;
	route->upgrade = loader_alloc(l, 1, sizeof(*route->upgrade));
	if (route->upgrade)
		route->upgrade[route->n_upgrade++] = "websocket";
}

static void check_route(struct loader *l, const struct node *map,
			struct config_route *route)
{
	const struct node *match = node_get(map, "match");
	const struct node *name = node_get(map, "name");

	if (route->path && route->path_prefix)
		loader_fault_at(l, node_get(match, "path_prefix"),
				"match.path_prefix",
				"path and path_prefix exclude each other");
	for (const struct config_route *o = l->config->routes; o < route; o++)
		if (o->name && route->name && strcmp(o->name, route->name) == 0)
			loader_fault_at(l, name ? name : map, "name",
					"`%.64s` is the name of another route",
					route->name);
	if (route->n_agent_upstreams && !route->n_agents)
		loader_fault_at(l, node_get(map, "agent_upstreams"),
				"agent_upstreams", "has no effect: the route "
				"asks no agents");
}

static void load_route(struct loader *l, const struct node *map,
		       struct config_route *route)
{
	loader_object(l, map, SCOPE_ROUTE, route);
	if (!route->name)
		default_name(l, route);
	check_route_kind(l, map, route);
	if (!node_get(map, "upgrade") && route->kind == ROUTE_UPSTREAM)
		default_upgrade(l, route);
	check_route(l, map, route);
}

void routes_load(struct loader *l)
{
	const struct node *value = l->routes;
	struct config *config = l->config;
	size_t mark = loader_enter(l, "routes");
	unsigned i = 0;

	if (!value || node_is_null(value) || !loader_is_list(l, value)) {
		loader_leave(l, mark);
		return;
	}
	config->routes = loader_alloc(l, value->n, sizeof(*config->routes));
	for (const struct node *n = value->first; n && config->routes;
	     n = n->next) {
		size_t item = loader_enter_item(l, i);
		struct config_route *route = &config->routes[i];

		route->index = i++;
		load_route(l, n, route);
		loader_leave(l, item);
	}
	config->n_routes = i;
	if (i >= INDEX_FROM)
		config->route_index = route_index_new(l->arena, config->routes,
						      i);
	loader_leave(l, mark);
}
