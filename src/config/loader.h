/*
 * Inside config/ only: what the rows' readers share.
 */
#ifndef CONFIG_LOADER_H
#define CONFIG_LOADER_H

#include "config/model.h"
#include "config/node.h"
#include "config/schema.h"

#define LOADER_PATH	256
#define VALUE_HINT	128

struct loader {
	struct config *config;
	struct arena *arena;		/* the model's */
	struct faults faults;
	const struct node *routes;	/* read last: they name the rest */
	size_t path_len;
	char path[LOADER_PATH];		/* of what is being read */
};

/* ---- load.c: the machinery -------------------------------------------- */

/* A fault of the value at n, under the path that is being read. */
void loader_fault(struct loader *l, const struct node *n, const char *fmt, ...)
	PRINTF(3, 4);
/* The same for the key `name` below the path. */
void loader_fault_at(struct loader *l, const struct node *n, const char *name,
		     const char *fmt, ...) PRINTF(4, 5);
/* " did you mean" and all, or "". */
const char *loader_hint(const struct nearest *n, char out[VALUE_HINT]);
/* Steps into a key or an item; give the return value to loader_leave(). */
size_t loader_enter(struct loader *l, const char *key);
size_t loader_enter_item(struct loader *l, unsigned index);
void loader_leave(struct loader *l, size_t mark);

/* Zeroed, in the model. NULL: out of memory, already told. */
void *loader_alloc(struct loader *l, size_t n, size_t size) MUST_CHECK;
const char *loader_keep(struct loader *l, const char *text) MUST_CHECK;
const char *loader_keep_lower(struct loader *l, const char *text) MUST_CHECK;

/* The text of a scalar, one line; NULL and a fault if it is none. */
const char *loader_text(struct loader *l, const struct node *value);
bool loader_is_list(struct loader *l, const struct node *value);
/* Number of the word; -1 and a fault if it is none of them. */
int loader_word(struct loader *l, const struct node *value,
		const char *const *words);

/* Fills an object's fields with the defaults of its scope. */
void loader_defaults(struct loader *l, enum config_scope scope, void *object);
/* Reads a map of the file into an object, driven by the scope's rows. */
void loader_map(struct loader *l, const struct node *map,
		enum config_scope scope, const char *prefix, void *object);
/* loader_defaults() and loader_map(), and what is required is there. */
void loader_object(struct loader *l, const struct node *map,
		   enum config_scope scope, void *object);
/* One value of a built-in type. */
void loader_value(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object);

/*
 * A list of texts, each checked, none twice (case folded), into an array of
 * the model. lower: kept in lower case.
 */
struct loader_texts {
	const char **text;
	unsigned n;
};
typedef bool loader_check_fn(const char *text, char *why);
struct loader_texts loader_texts(struct loader *l, const struct node *value,
				 loader_check_fn *check, bool lower);

/* read.c */
bool loader_same_address(const struct config_address *a,
			 const struct config_address *b);
/* A map by name: false if there is nothing to read. */
bool loader_is_named_map(struct loader *l, const struct node *value);
/* Of an entry of such a map. Given twice: told by the caller's path. */
const char *loader_entry_name(struct loader *l, const struct node *map,
			      const struct node *entry);

/* ---- read.c, routes.c: readers of single rows -------------------------- */

config_read_fn read_own_log_path;
config_read_fn read_id, read_json, read_workers, read_log_path, read_address,
	read_networks, read_name, read_sockets, read_policy, read_timeout,
	read_owned,
	read_deny_status, read_servers,
	read_listeners, read_upstreams, read_agents, read_routes,
	read_host, read_path, read_methods, read_upgrade, read_route_agents,
	read_agent_name, read_upstream_name, read_agent_upstreams,
	read_hash_key, read_check_path, read_check_host, read_headers,
	read_header_names, read_respond_body, read_redirect_url,
	read_redirect_status, read_mode, read_sample, read_reverse, read_token;

/* The policy of this row's map names too_large itself. */
bool policy_names_too_large(const struct node *on_failure);
/* headers.c: a route says upstream, respond or redirect, and nothing that does
 * not go with it. */
void check_route_kind(struct loader *l, const struct node *map,
		      struct config_route *route);
/* Routes, once all that they name is there. */
void routes_load(struct loader *l);
/* No listener has the admin port's address. */
void check_admin(struct loader *l, const struct node *root);
/* Where agents dial in, if any do. */
void check_agent_listener(struct loader *l, const struct node *root);
/* owns_headers of all agents as one list. */
void owned_collect(struct loader *l);

/* ---- show.c ------------------------------------------------------------ */

config_show_fn show_id, show_json, show_text, show_address, show_networks, show_texts,
	show_policy, show_nothing, show_servers, show_listeners, show_upstreams,
	show_agents,
	show_routes, show_route_agents, show_agent_name, show_upstream_name,
	show_agent_upstreams, show_hash_key, show_check, show_check_text,
	show_of_bodies, show_headers, show_respond,
	show_redirect_status, show_mode, show_sample, show_reverse;

#endif
