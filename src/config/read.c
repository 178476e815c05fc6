/* Readers of the rows of root, listeners and agents. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/loader.h"
#include "config/value.h"

static void *field(const struct config_row *row, void *object)
{
	return (char *)object + row->offset;
}

/* ---- kinds of values ---------------------------------------------------- */

static unsigned cores(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > CONFIG_MAX_WORKERS ? CONFIG_MAX_WORKERS
						  : (unsigned)n;
}

void read_workers(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	unsigned *workers = field(row, object);
	char why[VALUE_WHY];
	uint64_t n;

	if (!text)
		return;
	if (strcmp(text, "auto") == 0)
		*workers = cores();
	else if (!value_number(text, &n, why) || n < 1 ||
		 n > CONFIG_MAX_WORKERS)
		loader_fault(l, value, "must be auto or 1 to %u",
			     CONFIG_MAX_WORKERS);
	else
		*workers = (unsigned)n;
}

void read_log_path(struct loader *l, const struct config_row *row,
		   const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	const char **path = field(row, object);

	if (!text)
		return;
	if (text[0] != '/' && strcmp(text, "stderr") != 0 &&
	    strcmp(text, "off") != 0)
		loader_fault(l, value, "must be stderr, off or an absolute "
			     "path");
	*path = loader_keep(l, text);
}

void read_own_log_path(struct loader *l, const struct config_row *row,
		       const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	const char **path = field(row, object);

	if (!text)
		return;
	if (text[0] != '/' && strcmp(text, "stderr") != 0)
		loader_fault(l, value, "must be stderr or an absolute path");
	*path = loader_keep(l, text);
}

void read_address(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	struct config_address *address = field(row, object);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (!value_address(text, &address->addr, why))
		loader_fault(l, value, "%s", why);
	else
		address->text = loader_keep(l, text);
}

void read_name(struct loader *l, const struct config_row *row,
	       const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	const char **name = field(row, object);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (!value_name(text, why))
		loader_fault(l, value, "%s", why);
	*name = loader_keep(l, text);
}

static bool already(const struct loader_texts *all, const char *text)
{
	for (unsigned i = 0; i < all->n; i++)
		if (slice_eq_icase(slice_str(all->text[i]), slice_str(text)))
			return true;
	return false;
}

struct loader_texts loader_texts(struct loader *l, const struct node *value,
				 loader_check_fn *check, bool lower)
{
	struct loader_texts all = { 0 };
	unsigned i = 0;

	if (!loader_is_list(l, value))
		return all;
	all.text = loader_alloc(l, value->n, sizeof(*all.text));
	for (const struct node *n = value->first; n && all.text; n = n->next) {
		size_t mark = loader_enter_item(l, i++);
		const char *text = loader_text(l, n), *kept = NULL;
		char why[VALUE_WHY];

		if (text && !check(text, why))
			loader_fault(l, n, "%s", why);
		else if (text && already(&all, text))
			loader_fault(l, n, "given twice");
		else if (text)
			kept = lower ? loader_keep_lower(l, text)
				     : loader_keep(l, text);
		if (kept)
			all.text[all.n++] = kept;
		loader_leave(l, mark);
	}
	return all;
}

bool loader_is_named_map(struct loader *l, const struct node *value)
{
	if (node_is_null(value))
		return false;
	if (value->kind == NODE_MAP)
		return true;
	loader_fault(l, value, "must be a map by name");
	return false;
}

const char *loader_entry_name(struct loader *l, const struct node *map,
			      const struct node *entry)
{
	char why[VALUE_WHY];

	if (!value_name(entry->key->text, why))
		loader_fault(l, entry->key, "%s", why);
	for (const struct node *n = map->first; n != entry; n = n->next)
		if (strcmp(n->key->text, entry->key->text) == 0)
			loader_fault(l, entry->key,
				     "given twice, first on line %u",
				     n->key->line);
	return loader_keep(l, entry->key->text);
}

/* ---- listeners ---------------------------------------------------------- */

void read_mode(struct loader *l, const struct config_row *row,
	       const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	unsigned mode = 0;

	if (!text)
		return;
	for (const char *s = text; *s; s++)
		mode = *s >= '0' && *s <= '7' && mode < 01000
			? mode * 8 + (unsigned)(*s - '0') : 01000;
	if (!*text || mode >= 01000)
		loader_fault(l, value, "must be 0 to 0777");
	else
		*(unsigned *)field(row, object) = mode;
}

/* 0.0001% to 100%, in parts of a million. */
void read_sample(struct loader *l, const struct config_row *row,
		 const struct node *value, void *object)
{
	struct config_route_agent *asked = object;
	const char *text = loader_text(l, value);
	char *end;
	double percent;

	if (!text)
		return;
	percent = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
	if (percent < 0.0001 || percent > 100 || strcmp(end, "%") != 0)
		loader_fault(l, value, "must be 0.0001%% to 100%%");
	else
		asked->sample = (uint32_t)(percent * (OBSERVE_ALWAYS / 100) +
					   0.5);
}

void read_networks(struct loader *l, const struct config_row *row,
		   const struct node *value, void *object)
{
	struct config_listener *lis = object;
	unsigned i = 0;

	if (!loader_is_list(l, value))
		return;
	lis->trusted_proxies = loader_alloc(l, value->n,
					    sizeof(*lis->trusted_proxies));
	for (const struct node *n = value->first; n && lis->trusted_proxies;
	     n = n->next) {
		size_t mark = loader_enter_item(l, i++);
		const char *text = loader_text(l, n);
		struct config_network *net =
			&lis->trusted_proxies[lis->n_trusted_proxies];
		char why[VALUE_WHY];

		if (text && !value_network(text, net, why))
			loader_fault(l, n, "%s", why);
		else if (text)
			lis->n_trusted_proxies++;
		loader_leave(l, mark);
	}
}

bool loader_same_address(const struct config_address *a,
			 const struct config_address *b)
{
	return a->text && b->text && a->addr.len == b->addr.len &&
	       memcmp(&a->addr.sa, &b->addr.sa, a->addr.len) == 0;
}

/* Who comes by a Unix socket has no address: it is trusted as `unix`, or
 * nobody is. */
static void check_trusted(struct loader *l, const struct node *map,
			  const struct config_listener *lis)
{
	bool local = lis->address.text &&
		     lis->address.addr.sa.sa_family == AF_UNIX, named = false;

	for (unsigned i = 0; i < lis->n_trusted_proxies; i++)
		named |= lis->trusted_proxies[i].family == AF_UNIX;
	if (named && !local && lis->address.text)
		loader_fault_at(l, node_get(map, "trusted_proxies"),
				"trusted_proxies", "`unix` has no effect: the "
				"address is no Unix socket");
	else if (local && !named && lis->n_trusted_proxies)
		loader_fault_at(l, node_get(map, "trusted_proxies"),
				"trusted_proxies", "has no effect without "
				"`unix`: the address is a Unix socket");
}

/* Against the listeners before it. */
static void check_listener(struct loader *l, const struct node *map,
			   struct config_listener *lis)
{
	for (const struct config_listener *o = l->config->listeners; o < lis;
	     o++) {
		if (o->name && lis->name && strcmp(o->name, lis->name) == 0)
			loader_fault_at(l, node_get(map, "name"), "name",
					"`%.64s` is the name of another "
					"listener", lis->name);
		if (loader_same_address(&o->address, &lis->address))
			loader_fault_at(l, node_get(map, "address"), "address",
					"another listener has this address");
	}
	if (node_get(map, "mode") && lis->address.text &&
	    lis->address.addr.sa.sa_family != AF_UNIX)
		loader_fault_at(l, node_get(map, "mode"), "mode",
				"has no effect: the address is no Unix socket");
	check_trusted(l, map, lis);
}

static void check_limits(struct loader *l, const struct node *map,
			 struct config_listener *lis)
{
	const struct node *limits = node_get(map, "limits");
	const struct node *target = limits ? node_get(limits, "target_bytes")
					   : NULL;

	if (lis->limits.target_bytes <= lis->limits.header_bytes)
		return;
	if (target)
		loader_fault_at(l, target, "limits.target_bytes",
				"is more than header_bytes");
	else
		lis->limits.target_bytes = lis->limits.header_bytes;
}

void read_listeners(struct loader *l, const struct config_row *row,
		    const struct node *value, void *object)
{
	struct config *config = object;
	unsigned i = 0;

	if (!loader_is_list(l, value))
		return;
	if (!value->n)
		loader_fault(l, value, "needs at least one");
	config->listeners = loader_alloc(l, value->n,
					 sizeof(*config->listeners));
	for (const struct node *n = value->first; n && config->listeners;
	     n = n->next) {
		size_t mark = loader_enter_item(l, i);
		struct config_listener *lis = &config->listeners[i++];

		loader_object(l, n, SCOPE_LISTENER, lis);
		check_listener(l, n, lis);
		check_limits(l, n, lis);
		loader_leave(l, mark);
	}
	config->n_listeners = i;
}

void check_admin(struct loader *l, const struct node *root)
{
	const struct node *list = node_get(root, "listeners");
	struct config *config = l->config;
	const struct node *n = list ? list->first : NULL;

	for (unsigned i = 0; n && i < config->n_listeners; i++, n = n->next)
		if (loader_same_address(&config->listeners[i].address, &config->admin))
			loader_fault_at(l, node_get(n, "address"),
					"admin.address",
					"the listener `%.64s` has this address",
					config->listeners[i].name
						? config->listeners[i].name
						: "");
}

static bool is_loopback(const struct net_addr *a)
{
	if (a->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
	return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
}

/* Against all others that are listened on. */
static void check_agent_address(struct loader *l, const struct node *n)
{
	const struct config *config = l->config;
	const struct config_address *own = &config->agent_listener.address;
	bool taken = loader_same_address(own, &config->admin);

	for (unsigned i = 0; i < config->n_listeners; i++)
		taken |= loader_same_address(own,
					     &config->listeners[i].address);
	if (taken)
		loader_fault_at(l, n, "agent_listener.address",
				"a listener or the admin port has this address");
	if (own->addr.sa.sa_family != AF_UNIX && !is_loopback(&own->addr))
		loader_fault_at(l, n, "agent_listener.address",
				"must be a Unix socket or an address of this "
				"host, 127.0.0.1 or [::1]");
}

void check_agent_listener(struct loader *l, const struct node *root)
{
	const struct node *map = node_get(root, "agent_listener");
	const struct node *agents = node_get(root, "agents"), *agent;
	struct config *config = l->config;
	bool unix_socket = config->agent_listener.address.addr.sa.sa_family ==
			   AF_UNIX;

	config->agent_listener.name = "agent_listener";
	agent = agents ? agents->first : NULL;
	if (!config->agent_listener.address.text) {
		for (unsigned i = 0; i < config->n_agents && agent; i++) {
			if (config->agents[i].reverse)
				loader_fault_at(l, agent, "agents",
						"`%.64s` dials in: needs "
						"agent_listener.address",
						config->agents[i].name ?
						config->agents[i].name : "");
			agent = agent->next;
		}
		if (map && map->n && !node_get(map, "address"))
			loader_fault_at(l, map, "agent_listener.address",
					"is missing");
		return;
	}
	check_agent_address(l, node_get(map, "address"));
	if (!unix_socket && node_get(map, "mode"))
		loader_fault_at(l, node_get(map, "mode"), "agent_listener.mode",
				"has no effect: the address is no Unix socket");
	for (unsigned i = 0; i < config->n_agents && agent; i++) {
		const struct config_agent *a = &config->agents[i];

		if (!unix_socket && a->reverse && (a->peer_uid || a->peer_gid))
			loader_fault_at(l, agent, "agents", "peer cannot be "
					"told of who dials in over TCP");
		agent = agent->next;
	}
}

/* ---- agents ------------------------------------------------------------- */

void read_reverse(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_agent *agent = object;
	const char *text;
	char why[VALUE_WHY];

	if (value->kind == NODE_MAP) {
		agent->reverse = true;
		loader_map(l, value, row->scope, "reverse.", object);
		return;
	}
	text = loader_text(l, value);
	if (text && !value_bool(text, &agent->reverse, why))
		loader_fault(l, value, "must be true, false or a map");
}

void read_token(struct loader *l, const struct config_row *row,
		const struct node *value, void *object)
{
	struct config_agent *agent = object;
	const char *text = loader_text(l, value);
	size_t n = text ? strlen(text) : 0;

	if (!text)
		return;
	if (n < 1 || n > 256)
		loader_fault(l, value, "must be 1 to 256 bytes");
	agent->reverse_token = loader_keep(l, text);
}

void read_sockets(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_agent *agent = object;
	struct loader_texts all;
	char why[VALUE_WHY];

	if (value->kind != NODE_LIST) {
		const char *text = loader_text(l, value);

		if (!text)
			return;
		if (!value_socket_path(text, why))
			loader_fault(l, value, "%s", why);
		agent->sockets = loader_alloc(l, 1, sizeof(*agent->sockets));
		if (agent->sockets)
			agent->sockets[agent->n_sockets++] =
				loader_keep(l, text);
		return;
	}
	if (!value->n)
		loader_fault(l, value, "needs at least one");
	all = loader_texts(l, value, value_socket_path, false);
	agent->sockets = all.text;
	agent->n_sockets = all.n;
}

static const char *const deny_allow[] = { "deny", "allow", NULL };

static int read_cause(struct loader *l, const struct node *key)
{
	struct nearest near;
	char hint[VALUE_HINT];

	nearest_init(&near, key->text);
	for (int c = CAUSE_NONE + 1; c < CAUSE_N; c++) {
		if (strcmp(cause_names[c], key->text) == 0)
			return c;
		nearest_offer(&near, cause_names[c]);
	}
	loader_fault(l, key, "unknown cause%s", loader_hint(&near, hint));
	return -1;
}

static void read_policy_map(struct loader *l, const struct node *map,
			    struct config_failure_policy *policy)
{
	unsigned seen = 0;

	for (const struct node *n = map->first; n; n = n->next) {
		size_t mark = loader_enter(l, n->key->text);
		int cause = read_cause(l, n->key);

		if (cause >= 0 && seen & 1u << cause) {
			loader_fault(l, n->key, "given twice");
		} else if (cause >= 0) {
			seen |= 1u << cause;
			policy->deny[cause] =
				loader_word(l, n, deny_allow) != 1;
		}
		loader_leave(l, mark);
	}
}

/*
 * Causes that a map does not name are denied. One word for all leaves
 * too_large to on_too_large, which is about the same thing.
 */
void read_policy(struct loader *l, const struct config_row *row,
		 const struct node *value, void *object)
{
	struct config_failure_policy *policy = field(row, object);
	bool deny = true;

	if (row->scope == SCOPE_AGENT)
		((struct config_agent *)object)->has_on_failure = true;
	if (value->kind != NODE_MAP)
		deny = loader_word(l, value, deny_allow) != 1;
	for (int c = 0; c < CAUSE_N; c++)
		policy->deny[c] = deny || c == CAUSE_TOO_LARGE;
	if (value->kind == NODE_MAP)
		read_policy_map(l, value, policy);
}

bool policy_names_too_large(const struct node *on_failure)
{
	return on_failure && node_get(on_failure, cause_names[CAUSE_TOO_LARGE]);
}

void read_timeout(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_agent_timeouts *t = field(row, object);
	struct config_row one = *row;
	uint64_t us = 0;

	if (value->kind == NODE_MAP) {
		loader_map(l, value, row->scope, "timeout.", object);
		return;
	}
	one.type = CONFIG_DURATION;
	one.offset = 0;
	one.size = sizeof(us);
	loader_value(l, &one, value, &us);
	if (us)
		t->head_us = t->body_us = us;
}

void read_deny_status(struct loader *l, const struct config_row *row,
		      const struct node *value, void *object)
{
	const char *text = loader_text(l, value);
	unsigned *status = field(row, object);
	char why[VALUE_WHY];
	uint64_t n;

	if (!text)
		return;
	if (!value_number(text, &n, why) || (n && (n < 400 || n > 599)))
		loader_fault(l, value, "must be 0 or 400 to 599");
	else
		*status = (unsigned)n;
}

/* Fields that are the proxy's own, or that no request does without. */
static bool check_owned(const char *text, char *why)
{
	static const char *const never[] = {
		"connection", "keep-alive", "proxy-connection", "te",
		"trailer", "transfer-encoding", "upgrade", "content-length",
		"host", "via", "x-request-id", "x-forwarded-for",
		"x-forwarded-proto", "x-forwarded-host",
	};

	if (!value_token(text, why))
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(never); i++) {
		if (!slice_eq_icase(slice_str(text), slice_str(never[i])))
			continue;
		snprintf(why, VALUE_WHY, "`%s` cannot be owned by an agent",
			 never[i]);
		return false;
	}
	return true;
}

void read_owned(struct loader *l, const struct config_row *row,
		const struct node *value, void *object)
{
	struct config_agent *agent = object;
	struct loader_texts all = loader_texts(l, value, check_owned, true);

	agent->owns_headers = all.text;
	agent->n_owns_headers = all.n;
}

/* One that dials in: what is about dialling has no place. */
static void check_reverse(struct loader *l, const struct node *map,
			  struct config_agent *agent)
{
	static const char *const of_dialling[] = {
		"socket", "balance", "msgpack_shape",
	};

	for (unsigned i = 0; i < ARRAY_LEN(of_dialling); i++)
		if (node_get(map, of_dialling[i]))
			loader_fault_at(l, node_get(map, of_dialling[i]),
					of_dialling[i], "has no effect: the "
					"agent dials in");
	if (agent->dialect == DIALECT_V1)
		loader_fault_at(l, map, "dialect",
				"agents that dial in speak v2 or go");
	if (agent->encoding == ENCODING_MSGPACK)
		loader_fault_at(l, map, "encoding",
				"agents that dial in speak JSON");
	if (agent->raw_body)
		loader_fault_at(l, map, "raw_body",
				"agents that dial in speak JSON");
}

/* go-v2 and v1 are JSON; v1 agents want less at a time. */
static void check_dialect(struct loader *l, const struct node *map,
			  struct config_agent *agent)
{
	const struct node *config = node_get(map, "config");
	bool v1 = agent->dialect == DIALECT_V1;

	if (agent->dialect != DIALECT_GO && !v1)
		return;
	if (v1 && !node_get(map, "depth"))
		agent->depth = 4;
	if (v1 && !node_get(map, "chunk_size"))
		agent->chunk_size = 16 * 1024;
	if (agent->encoding == ENCODING_MSGPACK)
		loader_fault_at(l, map, "encoding",
				"this dialect is JSON only");
	if (agent->raw_body)
		loader_fault_at(l, map, "raw_body",
				"this dialect is JSON only");
	if (config && !v1 && !agent->reverse)
		loader_fault_at(l, config, "config",
				"go-v2 agents cannot be configured");
	else if (config && config->kind != NODE_MAP)
		loader_fault_at(l, config, "config",
				"must be a map for a %s agent",
				v1 ? "v1" : "go-v2");
}

static void check_agent(struct loader *l, const struct node *map,
			struct config_agent *agent)
{
	const struct node *most = node_get(map, "max_connections");
	const struct node *first = node_get(map, "connections");
	const struct node *raw = node_get(map, "raw_body");

	if (agent->reverse)
		check_reverse(l, map, agent);
	else if (!node_get(map, "socket") &&
		 (map->kind == NODE_MAP || node_is_null(map)))
		loader_fault_at(l, map, "socket", "is missing");
	/* A default gives way to what was written. */
	if (agent->connections > agent->max_connections) {
		if (!first)
			agent->connections = agent->max_connections;
		else if (!most)
			agent->max_connections = agent->connections;
		else
			loader_fault_at(l, most, "max_connections",
					"is less than connections, %u",
					agent->connections);
	}
	check_dialect(l, map, agent);
	if (raw && agent->raw_body && agent->encoding == ENCODING_JSON)
		loader_fault_at(l, raw, "raw_body",
				"needs msgpack, but encoding is json");
}

void read_agents(struct loader *l, const struct config_row *row,
		 const struct node *value, void *object)
{
	struct config *config = object;
	unsigned i = 0;

	if (!loader_is_named_map(l, value))
		return;
	config->agents = loader_alloc(l, value->n, sizeof(*config->agents));
	for (const struct node *n = value->first; n && config->agents;
	     n = n->next) {
		size_t mark = loader_enter(l, n->key->text);
		struct config_agent *agent = &config->agents[i];

		agent->index = i++;
		agent->name = loader_entry_name(l, value, n);
		loader_object(l, n, SCOPE_AGENT, agent);
		check_agent(l, n, agent);
		loader_leave(l, mark);
	}
	config->n_agents = i;
}

static bool has_owned(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_owned_headers; i++)
		if (strcmp(config->owned_headers[i], name) == 0)
			return true;
	return false;
}

void owned_collect(struct loader *l)
{
	struct config *config = l->config;
	unsigned n = 0;

	for (unsigned i = 0; i < config->n_agents; i++)
		n += config->agents[i].n_owns_headers;
	if (!n)
		return;
	config->owned_headers = loader_alloc(l, n, sizeof(char *));
	for (unsigned i = 0; config->owned_headers && i < config->n_agents;
	     i++) {
		const struct config_agent *agent = &config->agents[i];

		for (unsigned j = 0; j < agent->n_owns_headers; j++) {
			const char *name = agent->owns_headers[j];

			if (has_owned(config, name))
				continue;
			config->owned_headers[config->n_owned_headers++] = name;
			config->owned_lengths |= 1ull << (strlen(name) & 63);
		}
	}
}
