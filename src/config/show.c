/* The effective config as JSON, by the same rows that read it. */
#include <jansson.h>

#include <arpa/inet.h>

#include "config/load.h"
#include "config/schema.h"
#include "config/loader.h"
#include "config/value.h"

static const void *field(const struct config_row *row, const void *object)
{
	return (const char *)object + row->offset;
}

static uint64_t number(const struct config_row *row, const void *object)
{
	const void *at = field(row, object);
	uint64_t n = 0;

	if (row->size == 8)
		memcpy(&n, at, 8);
	else if (row->size == 4)
		n = *(const uint32_t *)at;
	else if (row->size == 1)
		n = *(const uint8_t *)at;
	return n;
}

static json_t *show_value(const struct config_row *row, const void *object)
{
	uint64_t n = number(row, object);
	char text[VALUE_TEXT];

	switch (row->type) {
	case CONFIG_DURATION:
		value_duration_print(n, text);
		return json_string(text);
	case CONFIG_SIZE:
		value_size_print(n, text);
		return json_string(text);
	case CONFIG_BOOL:
		return json_boolean(n);
	case CONFIG_WORD:
		return json_string(row->words[n]);
	case CONFIG_NUMBER:
	case CONFIG_OTHER:
	case CONFIG_PART:
		return json_integer((json_int_t)n);
	}
	return NULL;
}

/* Puts a value under "a.b.c", making the objects on the way. */
static void put(json_t *root, const char *key, json_t *value)
{
	const char *dot;

	while ((dot = strchr(key, '.'))) {
		char part[32];
		json_t *next;

		snprintf(part, sizeof(part), "%.*s", (int)(dot - key), key);
		next = json_object_get(root, part);
		if (!next) {
			next = json_object();
			json_object_set_new(root, part, next);
		}
		root = next;
		key = dot + 1;
	}
	json_object_set_new(root, key, value);
}

static json_t *show_object(enum config_scope scope, const void *object)
{
	const struct config_row *row;
	json_t *root = json_object();

	for (unsigned i = 0; (row = config_row_at(i)); i++) {
		json_t *value;

		if (row->scope != scope)
			continue;
		value = row->show ? row->show(row, object)
				  : show_value(row, object);
		if (value)
			put(root, row->key, value);
	}
	return root;
}

/* A list of the model's structs. */
static json_t *show_list(enum config_scope scope, const void *items,
			 unsigned n, size_t size)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, show_object(scope,
					(const char *)items + i * size));
	return list;
}

json_t *show_nothing(const struct config_row *row, const void *object)
{
	return NULL;
}

json_t *show_text(const struct config_row *row, const void *object)
{
	const char *text = *(const char *const *)field(row, object);

	return text ? json_string(text) : NULL;
}

json_t *show_address(const struct config_row *row, const void *object)
{
	const struct config_address *address = field(row, object);

	return json_string(address->text);
}

/* An array of texts: its count follows it in the struct. */
json_t *show_texts(const struct config_row *row, const void *object)
{
	const char *const *texts = *(const char *const *const *)
					   field(row, object);
	unsigned n = *(const unsigned *)((const char *)field(row, object) +
					 sizeof(void *));
	json_t *list;

	if (!texts && !row->fallback)
		return NULL;
	list = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_string(texts[i]));
	return list;
}

json_t *show_mode(const struct config_row *row, const void *object)
{
	const struct config_listener *lis = object;

	if (row->scope == SCOPE_ROOT)
		lis = &((const struct config *)object)->agent_listener;
	if (lis->address.addr.sa.sa_family != AF_UNIX)
		return NULL;
	return json_sprintf("%04o", lis->mode);
}

/* A secret is not shown. */
json_t *show_reverse(const struct config_row *row, const void *object)
{
	const struct config_agent *agent = object;

	return agent->reverse_token ? json_pack("{s:s}", "token", "(hidden)") :
				      json_boolean(agent->reverse);
}

json_t *show_sample(const struct config_row *row, const void *object)
{
	const struct config_route_agent *asked = object;

	if (!asked->observe)
		return NULL;
	return json_sprintf("%g%%", asked->sample * 100.0 / OBSERVE_ALWAYS);
}

json_t *show_networks(const struct config_row *row, const void *object)
{
	const struct config_listener *lis = object;
	json_t *list = json_array();

	for (unsigned i = 0; i < lis->n_trusted_proxies; i++) {
		const struct config_network *net = &lis->trusted_proxies[i];
		char ip[INET6_ADDRSTRLEN];

		if (net->family == AF_UNIX)
			json_array_append_new(list, json_string("unix"));
		else if (inet_ntop(net->family, net->ip, ip, sizeof(ip)))
			json_array_append_new(list, json_sprintf("%s/%u", ip,
								 net->bits));
	}
	return list;
}

json_t *show_policy(const struct config_row *row, const void *object)
{
	const struct config_failure_policy *policy = field(row, object);
	json_t *map;

	if (row->scope == SCOPE_AGENT &&
	    !((const struct config_agent *)object)->has_on_failure)
		return NULL;
	map = json_object();
	for (int c = CAUSE_NONE + 1; c < CAUSE_N; c++)
		json_object_set_new(map, cause_names[c],
				    json_string(policy->deny[c] ? "deny"
								: "allow"));
	return map;
}

json_t *show_servers(const struct config_row *row, const void *object)
{
	const struct config_upstream *up = object;

	return show_list(SCOPE_SERVER, up->servers, up->n_servers,
			 sizeof(*up->servers));
}

json_t *show_listeners(const struct config_row *row, const void *object)
{
	const struct config *config = object;

	return show_list(SCOPE_LISTENER, config->listeners,
			 config->n_listeners, sizeof(*config->listeners));
}

json_t *show_upstreams(const struct config_row *row, const void *object)
{
	const struct config *config = object;
	json_t *map = json_object();

	for (unsigned i = 0; i < config->n_upstreams; i++)
		json_object_set_new(map, config->upstreams[i].name,
				    show_object(SCOPE_UPSTREAM,
						&config->upstreams[i]));
	return map;
}

json_t *show_agents(const struct config_row *row, const void *object)
{
	const struct config *config = object;
	json_t *map = json_object();

	for (unsigned i = 0; i < config->n_agents; i++)
		json_object_set_new(map, config->agents[i].name,
				    show_object(SCOPE_AGENT,
						&config->agents[i]));
	return map;
}

json_t *show_routes(const struct config_row *row, const void *object)
{
	const struct config *config = object;

	return show_list(SCOPE_ROUTE, config->routes, config->n_routes,
			 sizeof(*config->routes));
}

json_t *show_route_agents(const struct config_row *row, const void *object)
{
	const struct config_route *route = object;

	return show_list(SCOPE_ROUTE_AGENT, route->agents, route->n_agents,
			 sizeof(*route->agents));
}

json_t *show_agent_name(const struct config_row *row, const void *object)
{
	const struct config_route_agent *asked = object;

	return json_string(asked->agent->name);
}

json_t *show_upstream_name(const struct config_row *row, const void *object)
{
	const struct config_route *route = object;

	return route->upstream ? json_string(route->upstream->name) : NULL;
}

json_t *show_agent_upstreams(const struct config_row *row, const void *object)
{
	const struct config_route *route = object;
	json_t *list = json_array();

	for (unsigned i = 0; i < route->n_agent_upstreams; i++)
		json_array_append_new(list, json_string(
			route->agent_upstreams[i]->name));
	return list;
}

json_t *show_hash_key(const struct config_row *row, const void *object)
{
	const struct config_upstream *up = object;

	if (up->balance != BALANCE_HASH)
		return NULL;
	switch (up->hash_key) {
	case HASH_CLIENT:
		return json_string("client");
	case HASH_PATH:
		return json_string("path");
	case HASH_HEADER:
		return json_sprintf("header %s", up->hash_header);
	}
	return NULL;
}

json_t *show_check(const struct config_row *row, const void *object)
{
	const struct config_upstream *up = object;

	return up->check.type == CHECK_NONE ? NULL : show_value(row, object);
}

json_t *show_check_text(const struct config_row *row, const void *object)
{
	const struct config_upstream *up = object;

	return up->check.type == CHECK_HTTP ? show_text(row, object) : NULL;
}

/* What only matters to an agent that gets bodies. */
json_t *show_of_bodies(const struct config_row *row, const void *object)
{
	const struct config_route_agent *asked = object;

	if (asked->request_body == BODY_NONE &&
	    asked->response_body == BODY_NONE)
		return NULL;
	return show_value(row, object);
}

static json_t *headers_map(const struct config_headers *h)
{
	json_t *map = h->n ? json_object() : NULL;

	for (unsigned i = 0; i < h->n; i++)
		json_object_set_new(map, h->list[i].name, json_string(
			h->list[i].value ? h->list[i].value : "*"));
	return map;
}

json_t *show_headers(const struct config_row *row, const void *object)
{
	return headers_map(field(row, object));
}

json_t *show_respond(const struct config_row *row, const void *object)
{
	const struct config_route *route = object;

	return route->kind == ROUTE_RESPOND ? show_value(row, object) : NULL;
}

json_t *show_redirect_status(const struct config_row *row, const void *object)
{
	const struct config_route *route = object;

	return route->kind == ROUTE_REDIRECT ?
		json_integer(route->redirect.status) : NULL;
}

void config_print_json(const struct config *config, FILE *out)
{
	json_t *root = show_object(SCOPE_ROOT, config);

	json_dumpf(root, out, JSON_COMPACT);
	json_decref(root);
}
