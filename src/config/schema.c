#include "config/schema.h"

#include "config/loader.h"
#include "config/value.h"

#define US_MS		1000ull
#define US_HOUR		3600000000ull
#define US_DAY		(24 * US_HOUR)
#define KIB		1024ull
#define MIB		(1024 * KIB)
#define GIB		(1024 * MIB)

#define ROOT(k)		.path = k, .key = k, .scope = SCOPE_ROOT
#define LISTENER(k)	.path = "listeners[]." k, .key = k, \
			.scope = SCOPE_LISTENER
#define UPSTREAM(k)	.path = "upstreams.NAME." k, .key = k, \
			.scope = SCOPE_UPSTREAM
#define SERVER(k)	.path = "upstreams.NAME.servers[]." k, .key = k, \
			.scope = SCOPE_SERVER
#define AGENT(k)	.path = "agents.NAME." k, .key = k, .scope = SCOPE_AGENT
#define ROUTE(k)	.path = "routes[]." k, .key = k, .scope = SCOPE_ROUTE
#define ASKED(k)	.path = "routes[].agents[]." k, .key = k, \
			.scope = SCOPE_ROUTE_AGENT

#define IN(type, field)	.offset = offsetof(struct type, field), \
			.size = sizeof(((struct type *)0)->field)
#define DURATION(lo, hi) .type = CONFIG_DURATION, .unit = "duration", \
			.min = (lo), .max = (hi)
#define SIZE(lo, hi)	.type = CONFIG_SIZE, .unit = "size", \
			.min = (lo), .max = (hi)
#define NUMBER(lo, hi)	.type = CONFIG_NUMBER, .unit = "number", \
			.min = (lo), .max = (hi)
#define BOOL		.type = CONFIG_BOOL, .unit = "true | false"
#define WORD(list)	.type = CONFIG_WORD, .unit = "word", .words = (list)
#define OTHER(what, r, s) .type = CONFIG_OTHER, .unit = what, .read = (r), \
			.show = (s)
#define PART(what, r, s) .type = CONFIG_PART, .unit = what, .read = (r), \
			.show = (s)

#define WORDS(name, ...) \
	static const char *const name[] = { __VA_ARGS__, NULL }

WORDS(levels, "error", "warn", "info", "debug");
WORDS(formats, "json", "combined");
WORDS(balances, "round_robin", "least_connections", "hash", "random");
WORDS(checks, "none", "tcp", "http");
WORDS(dialects, "auto", "v2", "go", "v1");
WORDS(agent_balances, "least_loaded", "round_robin", "random");
WORDS(encodings, "auto", "json", "msgpack");
WORDS(shapes, "array", "map");
WORDS(sides, "none", "request", "response", "both");
WORDS(completes, "auto", "always", "never");
WORDS(modes, "enforce", "observe");
WORDS(bodies, "none", "stream", "hold", "buffer");
WORDS(too_large, "block", "skip");

static const struct config_row rows[] = {
{ ROOT("workers"), OTHER("auto or 1 to 256", read_workers, NULL),
  IN(config, workers), .fallback = "auto", .fixed = true,
  .help = "event loops that carry traffic; auto: one per core" },
{ ROOT("drain_timeout"), DURATION(0, US_DAY), IN(config, drain_timeout_us),
  .fallback = "30s",
  .help = "how long a stop waits for exchanges in flight" },
{ ROOT("memory.held_bytes"), SIZE(MIB, 1024 * GIB),
  IN(config, memory_held_bytes), .fallback = "256MiB",
  .help = "bytes of bodies held or in flight, whole process" },
{ ROOT("admin.address"), OTHER("address", read_address, show_address),
  IN(config, admin), .fallback = "127.0.0.1:9901", .fixed = true,
  .help = "where the admin port listens" },
{ ROOT("log.level"), WORD(levels), IN(config, log_level), .fallback = "info",
  .help = "least level of the own log" },
{ ROOT("log.path"), OTHER("stderr or a file", read_own_log_path, show_text),
  IN(config, log_path), .fallback = "stderr",
  .help = "where the own log goes" },
{ ROOT("log.access.path"), OTHER("stderr, off or a file", read_log_path,
  show_text), IN(config, access_path), .fallback = "stderr",
  .help = "where the access log goes" },
{ ROOT("log.access.format"), WORD(formats), IN(config, access_format),
  .fallback = "json", .help = "form of its lines" },

{ ROOT("listeners"), PART("list", read_listeners, show_listeners),
  .required = true, .help = "where clients connect; at least one" },
{ LISTENER("name"), OTHER("name", read_name, show_text),
  IN(config_listener, name), .required = true,
  .help = "its name in logs and metrics" },
{ LISTENER("address"), OTHER("address", read_address, show_address),
  IN(config_listener, address), .required = true,
  .help = "IP:PORT, [IP6]:PORT or unix:/PATH" },
{ LISTENER("mode"), OTHER("octal number", read_mode, show_mode),
  IN(config_listener, mode), .fallback = "0666",
  .help = "of a Unix socket's file: who may connect" },
{ LISTENER("trusted_proxies"), OTHER("list of networks, or unix", read_networks,
  show_networks), .fallback = "[]",
  .help = "peers whose X-Forwarded-* and X-Request-Id are kept" },
{ LISTENER("max_connections"), NUMBER(1, 1000000),
  IN(config_listener, max_connections), .fallback = "10000",
  .help = "client connections at a time" },
{ LISTENER("max_connections_per_client"), NUMBER(0, 1000000),
  IN(config_listener, max_connections_per_client), .fallback = "0",
  .help = "of one address, in IPv6 one /64; 0: no limit" },
{ LISTENER("limits.header_bytes"), SIZE(KIB, 256 * KIB),
  IN(config_listener, limits.header_bytes), .fallback = "32KiB",
  .help = "a whole request head" },
{ LISTENER("limits.headers"), NUMBER(8, 1000),
  IN(config_listener, limits.headers), .fallback = "100",
  .help = "fields in a request head" },
{ LISTENER("limits.target_bytes"), SIZE(64, 128 * KIB),
  IN(config_listener, limits.target_bytes), .fallback = "8KiB",
  .help = "the request target" },
{ LISTENER("limits.body"), SIZE(0, 1024 * GIB),
  IN(config_listener, limits.body), .fallback = "0",
  .help = "a request body; 0: no limit" },
{ LISTENER("timeouts.header"), DURATION(US_MS, US_DAY),
  IN(config_listener, timeouts.header_us), .fallback = "10s",
  .help = "for a whole request head to arrive" },
{ LISTENER("timeouts.body"), DURATION(US_MS, US_DAY),
  IN(config_listener, timeouts.body_us), .fallback = "30s",
  .help = "between two reads of a request body" },
{ LISTENER("timeouts.idle"), DURATION(US_MS, US_DAY),
  IN(config_listener, timeouts.idle_us), .fallback = "75s",
  .help = "for the next request on a kept connection" },
{ LISTENER("timeouts.send"), DURATION(US_MS, US_DAY),
  IN(config_listener, timeouts.send_us), .fallback = "30s",
  .help = "between two writes to a client" },
{ LISTENER("timeouts.total"), DURATION(0, US_DAY),
  IN(config_listener, timeouts.total_us), .fallback = "0",
  .help = "for a whole exchange; 0: off" },

{ ROOT("upstreams"), PART("map by name", read_upstreams, show_upstreams),
  .help = "groups of servers that requests go to" },
{ UPSTREAM("servers"), PART("list of addresses or {address, weight}",
  read_servers, show_servers), .required = true,
  .help = "the servers of the group; at least one" },
{ SERVER("address"), OTHER("address", read_address, show_address),
  IN(config_server, address), .required = true,
  .help = "IP:PORT, [IP6]:PORT or unix:/PATH" },
{ SERVER("weight"), NUMBER(1, 256), IN(config_server, weight), .fallback = "1",
  .help = "its share beside the others" },
{ UPSTREAM("balance"), WORD(balances), IN(config_upstream, balance),
  .fallback = "round_robin", .help = "how a server is chosen" },
{ UPSTREAM("hash_key"), OTHER("client, path or header NAME", read_hash_key,
  show_hash_key), IN(config_upstream, hash_key), .fallback = "client",
  .help = "what balance: hash goes by; requests that have the same go to the "
	  "same server" },
{ UPSTREAM("keepalive"), NUMBER(0, 10000), IN(config_upstream, keepalive),
  .fallback = "64", .help = "idle connections kept per worker" },
{ UPSTREAM("timeouts.connect"), DURATION(US_MS, US_HOUR),
  IN(config_upstream, timeouts.connect_us), .fallback = "1s",
  .help = "for a connection to be made" },
{ UPSTREAM("timeouts.response"), DURATION(US_MS, US_DAY),
  IN(config_upstream, timeouts.response_us), .fallback = "60s",
  .help = "to the response head" },
{ UPSTREAM("timeouts.idle"), DURATION(US_MS, US_DAY),
  IN(config_upstream, timeouts.idle_us), .fallback = "60s",
  .help = "between two reads of a response" },
{ UPSTREAM("ejection.failures"), NUMBER(0, 1000),
  IN(config_upstream, ejection.failures), .fallback = "5",
  .help = "failures in a row that take a server out for a while; 0: never" },
{ UPSTREAM("ejection.time"), DURATION(US_MS, US_HOUR),
  IN(config_upstream, ejection.time_us), .fallback = "10s",
  .help = "for how long; then one more failure takes it out again" },
{ UPSTREAM("ejection.max_percent"), NUMBER(0, 100),
  IN(config_upstream, ejection.max_percent), .fallback = "50",
  .help = "servers that may be out at a time, in percent of all" },
{ UPSTREAM("check.type"), WORD(checks), IN(config_upstream, check.type),
  .fallback = "none",
  .help = "servers are tried out: a connect, or a GET answered by 2xx or 3xx" },
{ UPSTREAM("check.path"), OTHER("path", read_check_path, show_check_text),
  IN(config_upstream, check.path), .fallback = "/",
  .help = "what http asks for" },
{ UPSTREAM("check.host"), OTHER("host", read_check_host, show_check_text),
  IN(config_upstream, check.host),
  .help = "Host that http asks for; the server's address if not said" },
{ UPSTREAM("check.interval"), DURATION(10 * US_MS, US_HOUR),
  .show = show_check,
  IN(config_upstream, check.interval_us), .fallback = "2s",
  .help = "between two checks of a server" },
{ UPSTREAM("check.timeout"), DURATION(US_MS, US_HOUR), .show = show_check,
  IN(config_upstream, check.timeout_us), .fallback = "1s",
  .help = "for one check" },
{ UPSTREAM("check.rise"), NUMBER(1, 100), .show = show_check,
  IN(config_upstream, check.rise),
  .fallback = "2", .help = "good checks in a row that bring a server back" },
{ UPSTREAM("check.fall"), NUMBER(1, 100), .show = show_check,
  IN(config_upstream, check.fall),
  .fallback = "3", .help = "bad checks in a row that take a server out" },

{ ROOT("agent_listener.address"), OTHER("address", read_address,
  show_address), IN(config, agent_listener.address),
  .help = "where agents with reverse dial in: unix:/PATH, or IP:PORT of this "
	  "host" },
{ ROOT("agent_listener.mode"), OTHER("octal number", read_mode, show_mode),
  IN(config, agent_listener.mode), .fallback = "0660",
  .help = "of a Unix socket's file: who may dial in" },

{ ROOT("agents"), PART("map by name", read_agents, show_agents),
  .help = "the processes that are asked" },
{ AGENT("socket"), OTHER("path or list of paths", read_sockets, show_texts),
  IN(config_agent, sockets),
  .help = "its Unix socket; several: instances of one agent; none with reverse"
  },
{ AGENT("reverse"), OTHER("true, false, or a map", read_reverse, show_reverse),
  IN(config_agent, reverse),
  .help = "it dials in, at agent_listener; max_connections is for all its "
	  "links" },
{ AGENT("reverse.token"), OTHER("text", read_token, show_nothing),
  IN(config_agent, reverse_token),
  .help = "what it must know to be let in; never shown" },
{ AGENT("connections"), NUMBER(1, 256), IN(config_agent, connections),
  .fallback = "4",
  .help = "links opened at start, per worker and instance; with reverse: that a "
	  "worker borrows of others at most" },
{ AGENT("max_connections"), NUMBER(1, 256), IN(config_agent, max_connections),
  .fallback = "16", .help = "links at most, per worker and instance" },
{ AGENT("balance"), WORD(agent_balances), IN(config_agent, balance),
  .fallback = "least_loaded",
  .help = "which link or instance takes an exchange" },
{ AGENT("depth"), NUMBER(1, 1024), IN(config_agent, depth), .fallback = "32",
  .help = "events unanswered per link; v1: 4 if not said" },
{ AGENT("queue"), NUMBER(1, 1000000), IN(config_agent, queue),
  .fallback = "1024", .help = "events waiting for a link, per worker" },
{ AGENT("dialect"), WORD(dialects), IN(config_agent, dialect),
  .fallback = "auto", .help = "its protocol; auto: v2 or go, v1 must be said" },
{ AGENT("encoding"), WORD(encodings), IN(config_agent, encoding),
  .fallback = "auto", .help = "of events; auto: agreed on by the handshake" },
{ AGENT("msgpack_shape"), WORD(shapes), IN(config_agent, msgpack_shape),
  .fallback = "array", .help = "of structs that are sent in MessagePack" },
{ AGENT("raw_body"), BOOL, IN(config_agent, raw_body), .fallback = "false",
  .help = "bodies as MessagePack bin, not base64; not for SDK agents" },
{ AGENT("chunk_size"), SIZE(KIB, MIB), IN(config_agent, chunk_size),
  .fallback = "64KiB", .help = "body bytes in one event; v1: 16KiB if not said" },
{ AGENT("max_reply_bytes"), SIZE(4 * KIB, 12 * MIB),
  IN(config_agent, max_reply_bytes), .fallback = "1MiB",
  .help = "a reply, at most" },
{ AGENT("timeout"), OTHER("duration for head and body, or a map", read_timeout,
  show_nothing), IN(config_agent, timeouts), .min = US_MS, .max = US_HOUR,
  .help = "how long an answer may take" },
{ AGENT("timeout.head"), DURATION(US_MS, US_HOUR),
  IN(config_agent, timeouts.head_us), .fallback = "1s",
  .help = "to a request or response head" },
{ AGENT("timeout.body"), DURATION(US_MS, US_HOUR),
  IN(config_agent, timeouts.body_us), .fallback = "5s",
  .help = "to one chunk of a body" },
{ AGENT("timeout.budget"), DURATION(US_MS, US_HOUR),
  IN(config_agent, timeouts.budget_us), .fallback = "30s",
  .help = "all its answers in one exchange together" },
{ AGENT("slow"), DURATION(0, US_HOUR), IN(config_agent, slow_us),
  .fallback = "0", .help = "answers that take longer are logged; 0: off" },
{ AGENT("on_failure"), OTHER("deny, allow, or a map by cause", read_policy,
  show_policy), IN(config_agent, on_failure),
  .help = "what a failed asking means; said here or at each route" },
{ AGENT("deny_status"), NUMBER(0, 599), .read = read_deny_status,
  IN(config_agent, deny_status), .fallback = "0",
  .help = "status of a denial after a failure, 400 to 599; 0: by cause" },
{ AGENT("owns_headers"), OTHER("list of header names", read_owned, show_texts),
  IN(config_agent, owns_headers), .fallback = "[]",
  .help = "request headers only it may set; taken from every client" },
{ AGENT("may_mutate"), WORD(sides), IN(config_agent, may_mutate),
  .fallback = "none", .help = "bodies that it may change" },
{ AGENT("pseudo_headers"), BOOL, IN(config_agent, pseudo_headers),
  .fallback = "false", .help = "add :method and :path to the head event" },
{ AGENT("complete"), WORD(completes), IN(config_agent, complete),
  .fallback = "auto", .help = "does it answer request complete" },
{ AGENT("complete_wait"), DURATION(0, 10000 * US_MS),
  IN(config_agent, complete_wait_us), .fallback = "500ms",
  .help = "request complete waits as long for an event to go with; 0: not" },
{ AGENT("peer.uid"), OTHER("number", read_id, show_id),
  IN(config_agent, peer_uid),
  .help = "user that its process must run as; any if not said" },
{ AGENT("peer.gid"), OTHER("number", read_id, show_id),
  IN(config_agent, peer_gid),
  .help = "group that its process must run as; any if not said" },
{ AGENT("go_release"), BOOL, IN(config_agent, go_release),
  .fallback = "true",
  .help = "tell a go-v2 agent of the end of each exchange" },
{ AGENT("config"), OTHER("anything", read_json, show_json),
  IN(config_agent, config_json),
  .help = "pushed to it before the first event; not for go-v2" },
{ AGENT("max_concurrency"), NUMBER(0, 1000000),
  IN(config_agent, max_concurrency), .fallback = "0",
  .help = "exchanges in flight, whole process; 0: no limit" },

{ ROOT("routes"), PART("list", read_routes, show_routes),
  .help = "first match wins; no match: 404" },
{ ROUTE("name"), OTHER("name", read_name, show_text), IN(config_route, name),
  .help = "its name in logs and metrics; route-1, route-2 by place" },
{ ROUTE("match.host"), OTHER("host or *.domain", read_host, show_text),
  IN(config_route, host), .help = "the request's host, without port" },
{ ROUTE("match.path"), OTHER("path", read_path, show_text),
  IN(config_route, path), .help = "the whole path, without query" },
{ ROUTE("match.path_prefix"), OTHER("path", read_path, show_text),
  IN(config_route, path_prefix), .help = "the start of the path" },
{ ROUTE("match.methods"), OTHER("list of methods", read_methods, show_texts),
  IN(config_route, methods), .help = "one of these methods" },
{ ROUTE("match.headers"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, headers),
  .help = "fields with just these values; *: with any" },
{ ROUTE("agents"), PART("list of names or maps", read_route_agents,
  show_route_agents), .fallback = "[]",
  .help = "who is asked, in this order" },
{ ASKED("name"), OTHER("name of an agent", read_agent_name, show_agent_name),
  IN(config_route_agent, agent), .required = true, .help = "which agent" },
{ ASKED("mode"), WORD(modes), IN(config_route_agent, observe),
  .fallback = "enforce",
  .help = "observe: its answers are only counted, logged and compared" },
{ ASKED("sample"), OTHER("percentage", read_sample, show_sample),
  IN(config_route_agent, sample), .fallback = "100%",
  .help = "how many of the exchanges it observes" },
{ ASKED("request_body"), WORD(bodies), IN(config_route_agent, request_body),
  .fallback = "none", .help = "how it gets the request's body" },
{ ASKED("response_head"), BOOL, IN(config_route_agent, response_head),
  .fallback = "false",
  .help = "is it asked about the response; true where it gets the body" },
{ ASKED("response_body"), WORD(bodies), IN(config_route_agent, response_body),
  .fallback = "none", .help = "how it gets the response's body" },
{ ASKED("max_body"), SIZE(1, GIB), .show = show_of_bodies,
  IN(config_route_agent, max_body),
  .fallback = "1MiB", .help = "most that hold and buffer keep back" },
{ ASKED("on_too_large"), WORD(too_large), .show = show_of_bodies,
  IN(config_route_agent, on_too_large_skip), .fallback = "block",
  .help = "what a body over max_body means" },
{ ASKED("timeout"), OTHER("duration for head and body, or a map", read_timeout,
  show_nothing), IN(config_route_agent, timeouts), .min = US_MS,
  .max = US_HOUR, .help = "as at the agent, which it comes from if not said" },
{ ASKED("timeout.head"), DURATION(US_MS, US_HOUR),
  IN(config_route_agent, timeouts.head_us), .help = "the agent's if not said" },
{ ASKED("timeout.body"), DURATION(US_MS, US_HOUR),
  IN(config_route_agent, timeouts.body_us), .help = "the agent's if not said" },
{ ASKED("timeout.budget"), DURATION(US_MS, US_HOUR),
  IN(config_route_agent, timeouts.budget_us),
  .help = "the agent's if not said" },
{ ASKED("on_failure"), OTHER("deny, allow, or a map by cause", read_policy,
  show_policy), IN(config_route_agent, on_failure),
  .help = "the agent's if not said; one of both must say it" },
{ ROUTE("budget"), DURATION(US_MS, US_HOUR), IN(config_route, budget_us),
  .fallback = "30s", .help = "all agents of an exchange together" },
{ ROUTE("request_headers.set"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, request_headers.set),
  .help = "fields of the request, in the place of all of that name; agents see "
	  "them" },
{ ROUTE("request_headers.add"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, request_headers.add),
  .help = "fields of the request, behind those there are" },
{ ROUTE("request_headers.remove"), OTHER("list of header names",
  read_header_names, show_texts), IN(config_route, request_headers.remove),
  .help = "fields taken out first" },
{ ROUTE("response_headers.set"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, response_headers.set),
  .help = "fields of the response, in the place of all of that name" },
{ ROUTE("response_headers.add"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, response_headers.add),
  .help = "fields of the response, behind those there are" },
{ ROUTE("response_headers.remove"), OTHER("list of header names",
  read_header_names, show_texts), IN(config_route, response_headers.remove),
  .help = "fields taken out first" },
{ ROUTE("upstream"), OTHER("name of an upstream", read_upstream_name,
  show_upstream_name), IN(config_route, upstream),
  .help = "where the request goes; or say respond, or redirect" },
{ ROUTE("respond.status"), NUMBER(200, 599), .show = show_respond,
  IN(config_route, respond.status), .fallback = "200",
  .help = "the answer, once the agents allow; nothing is forwarded" },
{ ROUTE("respond.body"), OTHER("text", read_respond_body, show_text),
  IN(config_route, respond.body), .help = "its body; several lines may be" },
{ ROUTE("respond.headers"), OTHER("map of names and values", read_headers,
  show_headers), IN(config_route, respond.headers),
  .help = "its fields; Content-Type is text/plain if not said" },
{ ROUTE("redirect.url"), OTHER("URL", read_redirect_url, show_text),
  IN(config_route, redirect.url),
  .help = "where the client is sent; {host} and {target} are the request's" },
{ ROUTE("redirect.status"), OTHER("301, 302, 303, 307 or 308",
  read_redirect_status, show_redirect_status),
  IN(config_route, redirect.status), .fallback = "302",
  .help = "with this status" },
{ ROUTE("agent_upstreams"), OTHER("list of upstream names",
  read_agent_upstreams, show_agent_upstreams), .fallback = "[]",
  .help = "others that an agent may choose by routing_metadata.upstream" },
{ ROUTE("upgrade"), OTHER("list of protocols", read_upgrade, show_texts),
  IN(config_route, upgrade), .fallback = "[websocket]",
  .help = "let through by Upgrade; [] where an agent gets bodies" },
};

const struct config_row *config_row_at(unsigned i)
{
	return i < ARRAY_LEN(rows) ? &rows[i] : NULL;
}

static void print_words(const struct config_row *row, char *out, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; row->words[i] && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%s",
				      i ? " | " : "", row->words[i]);
}

void config_row_range(const struct config_row *row, char *out, size_t size)
{
	char min[VALUE_TEXT], max[VALUE_TEXT];

	switch (row->type) {
	case CONFIG_DURATION:
		value_duration_print(row->min, min);
		value_duration_print(row->max, max);
		snprintf(out, size, "%s to %s", min, max);
		return;
	case CONFIG_SIZE:
		value_size_print(row->min, min);
		value_size_print(row->max, max);
		snprintf(out, size, "%s to %s", min, max);
		return;
	case CONFIG_NUMBER:
		snprintf(out, size, "%llu to %llu",
			 (unsigned long long)row->min,
			 (unsigned long long)row->max);
		return;
	case CONFIG_WORD:
		print_words(row, out, size);
		return;
	case CONFIG_BOOL:
	case CONFIG_OTHER:
	case CONFIG_PART:
		snprintf(out, size, "%s", row->unit);
		return;
	}
}

void config_print_reference(FILE *out)
{
	fprintf(out, "%-38s %-38s %-15s %-7s %s\n", "KEY", "VALUES", "DEFAULT",
		"RELOAD", "MEANING");
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		char range[96];

		config_row_range(&rows[i], range, sizeof(range));
		fprintf(out, "%-38s %-38s %-15s %-7s %s\n", rows[i].path, range,
			rows[i].required ? "(required)" :
			rows[i].fallback ? rows[i].fallback : "-",
			rows[i].fixed ? "no" : "yes", rows[i].help);
	}
}
