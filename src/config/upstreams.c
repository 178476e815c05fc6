/* Readers of upstreams. */
#include "config/loader.h"
#include "config/value.h"

static void read_server(struct loader *l, const struct node *value,
			struct config_upstream *up)
{
	struct config_server *server = &up->servers[up->n_servers++];
	char why[VALUE_WHY];

	if (value->kind == NODE_MAP) {
		loader_object(l, value, SCOPE_SERVER, server);
	} else {
		const char *text = loader_text(l, value);

		loader_defaults(l, SCOPE_SERVER, server);
		if (text && !value_address(text, &server->address.addr, why))
			loader_fault(l, value, "%s", why);
		else if (text)
			server->address.text = loader_keep(l, text);
	}
	for (const struct config_server *o = up->servers; o < server; o++) {
		if (loader_same_address(&o->address, &server->address)) {
			loader_fault(l, value, "given twice");
			return;
		}
	}
}

void read_servers(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_upstream *up = object;
	unsigned i = 0;

	if (!loader_is_list(l, value))
		return;
	if (!value->n)
		loader_fault(l, value, "needs at least one");
	up->servers = loader_alloc(l, value->n, sizeof(*up->servers));
	for (const struct node *n = value->first; n && up->servers;
	     n = n->next) {
		size_t mark = loader_enter_item(l, i++);

		read_server(l, n, up);
		loader_leave(l, mark);
	}
}

void read_hash_key(struct loader *l, const struct config_row *row,
		   const struct node *value, void *object)
{
	struct config_upstream *up = object;
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (strcmp(text, "client") == 0) {
		up->hash_key = HASH_CLIENT;
	} else if (strcmp(text, "path") == 0) {
		up->hash_key = HASH_PATH;
	} else if (strncmp(text, "header ", 7) != 0) {
		loader_fault(l, value, "must be client, path or header NAME");
	} else if (!value_token(text + 7, why)) {
		loader_fault(l, value, "%s", why);
	} else {
		up->hash_key = HASH_HEADER;
		up->hash_header = loader_keep(l, text + 7);
	}
}

/* A target to ask for: unlike a path to match it may have a query. */
void read_check_path(struct loader *l, const struct config_row *row,
		     const struct node *value, void *object)
{
	struct config_upstream *up = object;
	const char *text = loader_text(l, value);
	bool ok = text && text[0] == '/' && strlen(text) <= 1024;

	if (!text)
		return;
	for (const char *s = text; *s; s++)
		if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f ||
		    *s == '#')
			ok = false;
	if (!ok)
		loader_fault(l, value, "must be a path of visible ASCII, as in "
			     "`/health`");
	else
		up->check.path = loader_keep(l, text);
}

void read_check_host(struct loader *l, const struct config_row *row,
		     const struct node *value, void *object)
{
	struct config_upstream *up = object;
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (text[0] == '*')
		loader_fault(l, value, "must be a host, without a wildcard");
	else if (!value_host(text, why))
		loader_fault(l, value, "%s", why);
	else
		up->check.host = loader_keep(l, text);
}

/* Nothing that is written is without effect. */
static void check_upstream(struct loader *l, const struct node *map,
			   const struct config_upstream *up)
{
	const struct node *check = node_get(map, "check");
	const struct node *hash = node_get(map, "hash_key");
	enum config_check type = up->check.type;

	if (hash && up->balance != BALANCE_HASH)
		loader_fault_at(l, hash, "hash_key",
				"has no effect: balance is not hash");
	if (!check || check->kind != NODE_MAP)
		return;
	for (const struct node *n = check->first; n; n = n->next) {
		const char *key = n->key->text;
		bool http = strcmp(key, "path") == 0 ||
			    strcmp(key, "host") == 0;

		if (strcmp(key, "type") == 0 || type == CHECK_HTTP ||
		    (type == CHECK_TCP && !http))
			continue;
		loader_fault(l, n, "check.%.32s has no effect: check.type is "
			     "%s", key, type == CHECK_TCP ? "tcp" : "none");
	}
}

void read_upstreams(struct loader *l, const struct config_row *row,
		    const struct node *value, void *object)
{
	struct config *config = object;
	unsigned i = 0;

	if (!loader_is_named_map(l, value))
		return;
	config->upstreams = loader_alloc(l, value->n,
					 sizeof(*config->upstreams));
	for (const struct node *n = value->first; n && config->upstreams;
	     n = n->next) {
		size_t mark = loader_enter(l, n->key->text);
		struct config_upstream *up = &config->upstreams[i];

		up->index = i++;
		up->name = loader_entry_name(l, value, n);
		loader_object(l, n, SCOPE_UPSTREAM, up);
		check_upstream(l, n, up);
		loader_leave(l, mark);
	}
	config->n_upstreams = i;
}
