/*
 * The immutable model that a config file becomes. Built by config_load(),
 * owned by a snapshot, never changed after. Strings are NUL-terminated and
 * live as long as the model. Durations are in microseconds, sizes in bytes.
 */
#ifndef CONFIG_MODEL_H
#define CONFIG_MODEL_H

#include "base/addr.h"
#include "base/log.h"
#include "base/words.h"

#define CONFIG_MAX_WORKERS	256

struct config_address {
	const char *text;	/* as written */
	struct net_addr addr;
};

struct config_network {
	uint8_t family;		/* AF_INET, AF_INET6; AF_UNIX: by socket */
	uint8_t bits;
	uint8_t ip[16];
};

struct config_listener {
	const char *name;
	struct config_address address;
	unsigned mode;			/* of a Unix socket's file */
	struct config_network *trusted_proxies;
	unsigned n_trusted_proxies;
	unsigned max_connections;
	unsigned max_connections_per_client;	/* 0: no limit */
	struct {
		uint32_t header_bytes, headers, target_bytes;
		uint64_t body;		/* 0: no limit */
	} limits;
	struct {
		uint64_t header_us, body_us, idle_us, send_us, total_us;
	} timeouts;
};

enum config_balance {
	BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS, BALANCE_HASH,
	BALANCE_RANDOM,
};

struct config_server {
	struct config_address address;
	unsigned weight;
};

enum config_hash_key { HASH_CLIENT, HASH_PATH, HASH_HEADER };
enum config_check { CHECK_NONE, CHECK_TCP, CHECK_HTTP };

struct config_upstream {
	const char *name;
	struct config_server *servers;
	unsigned n_servers;
	enum config_balance balance;
	enum config_hash_key hash_key;	/* with BALANCE_HASH */
	const char *hash_header;	/* with HASH_HEADER */
	unsigned keepalive;		/* idle connections per worker */
	struct {
		uint64_t connect_us, response_us, idle_us;
	} timeouts;
	struct {
		unsigned failures;	/* in a row; 0: never */
		unsigned max_percent;	/* of the servers */
		uint64_t time_us;
	} ejection;
	struct {
		enum config_check type;
		const char *path, *host;	/* host: NULL is the address */
		uint64_t interval_us, timeout_us;
		unsigned rise, fall;
	} check;
	unsigned index;			/* in config.upstreams */
};

/* What a failed asking means, by cause: deny (true) or allow. */
struct config_failure_policy {
	bool deny[CAUSE_N];
};

struct config_agent_timeouts {
	uint64_t head_us, body_us, budget_us;
};

enum config_dialect { DIALECT_AUTO, DIALECT_V2, DIALECT_GO, DIALECT_V1 };
enum config_agent_balance {
	AGENT_BALANCE_LEAST, AGENT_BALANCE_ROUND_ROBIN, AGENT_BALANCE_RANDOM,
};
enum config_encoding { ENCODING_AUTO, ENCODING_JSON, ENCODING_MSGPACK };
enum config_shape { SHAPE_ARRAY, SHAPE_MAP };
enum config_complete { COMPLETE_AUTO, COMPLETE_ALWAYS, COMPLETE_NEVER };

enum config_may_mutate {		/* bits */
	MUTATE_NONE = 0, MUTATE_REQUEST = 1, MUTATE_RESPONSE = 2,
};

struct config_agent {
	const char *name;
	const char **sockets;		/* instances; none if it dials in */
	unsigned n_sockets;
	bool reverse;			/* it dials in, at agent_listener */
	const char *reverse_token;	/* that it must know; NULL: none */
	unsigned connections, max_connections;
	enum config_agent_balance balance;
	unsigned depth, queue;
	enum config_dialect dialect;
	enum config_encoding encoding;
	enum config_shape msgpack_shape;
	bool raw_body;
	uint32_t chunk_size, max_reply_bytes;
	struct config_agent_timeouts timeouts;
	uint64_t slow_us;		/* told in the log; 0: never */
	bool has_on_failure;
	struct config_failure_policy on_failure;
	unsigned deny_status;		/* 0: by cause */
	const char **owns_headers;	/* lower case */
	unsigned n_owns_headers;
	unsigned may_mutate;
	bool pseudo_headers;
	enum config_complete complete;
	uint64_t complete_wait_us;	/* for company, at most; 0: not at all */
	/* What its process must be, plus one; 0: anything. */
	uint64_t peer_uid, peer_gid;
	bool go_release;		/* tell a go-v2 agent of each end */
	const char *config_json;	/* pushed to it; NULL: none */
	unsigned max_concurrency;	/* 0: no limit */
	unsigned index;			/* in config.agents */
};

enum config_body_mode { BODY_NONE, BODY_STREAM, BODY_HOLD, BODY_BUFFER };

/* An agent as a route uses it. */
#define OBSERVE_ALWAYS	1000000u

struct config_route_agent {
	bool observe;			/* asked, but decides nothing */
	uint32_t sample;		/* observed exchanges of OBSERVE_ALWAYS */
	const struct config_agent *agent;
	enum config_body_mode request_body, response_body;
	bool response_head;		/* also true if response_body is set */
	uint64_t max_body;
	bool on_too_large_skip;
	struct config_agent_timeouts timeouts;
	/* on_too_large is in it: deny[CAUSE_TOO_LARGE] == !on_too_large_skip. */
	struct config_failure_policy on_failure;
};

/* Header fields; in a match value is NULL for any. */
struct config_header {
	const char *name, *value;
};

struct config_headers {
	struct config_header *list;
	unsigned n;
};

/* What a route does to a head: remove, set, add. */
struct config_header_policy {
	struct config_headers set, add;
	const char **remove;
	unsigned n_remove;
};

/* What a route comes to when its agents allow. */
enum config_route_kind { ROUTE_UPSTREAM, ROUTE_RESPOND, ROUTE_REDIRECT };

struct config_route {
	const char *name;		/* "route-<n>" from 1 if not given */
	/* match; NULL or 0: not asked */
	const char *host;		/* lower case; "*.example.com" */
	const char *path;
	const char *path_prefix;
	const char **methods;
	unsigned n_methods;
	struct config_headers headers;
	struct config_route_agent *agents;
	unsigned n_agents;
	uint64_t budget_us;
	struct config_header_policy request_headers, response_headers;
	enum config_route_kind kind;
	struct {			/* ROUTE_RESPOND */
		unsigned status;
		const char *body;	/* NULL: none */
		struct config_headers headers;
	} respond;
	struct {			/* ROUTE_REDIRECT */
		unsigned status;
		const char *url;	/* {host} and {target} are put in */
	} redirect;
	/* NULL but for ROUTE_UPSTREAM. */
	const struct config_upstream *upstream;
	/* Others that an agent may choose (routing_metadata.upstream). */
	const struct config_upstream **agent_upstreams;
	unsigned n_agent_upstreams;
	const char **upgrade;		/* lower case */
	unsigned n_upgrade;
	unsigned index;			/* in config.routes */
};

enum config_access_format { ACCESS_JSON, ACCESS_COMBINED };

struct config {
	const char *file;
	unsigned workers;		/* auto resolved to the cores there are */
	uint64_t drain_timeout_us;
	uint64_t memory_held_bytes;
	struct config_address admin;
	enum log_level log_level;
	const char *log_path;		/* "stderr" or a file */
	const char *access_path;	/* "stderr", "off" or a file */
	enum config_access_format access_format;
	struct config_listener *listeners;
	unsigned n_listeners;
	/* Where agents dial in; address.text NULL: nowhere. */
	struct config_listener agent_listener;
	struct config_upstream *upstreams;
	unsigned n_upstreams;
	struct config_agent *agents;
	unsigned n_agents;
	struct config_route *routes;
	unsigned n_routes;
	/* Over the routes; NULL where there are few (or in tests). */
	const struct route_index *route_index;
	/* owns_headers of all agents, each once; and the lengths that occur:
	 * 1 << (length & 63), for a cheap no. */
	const char **owned_headers;
	unsigned n_owned_headers;
	uint64_t owned_lengths;
};

#endif
