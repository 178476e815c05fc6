/* Configs, good and faulty: what is told, and where. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <jansson.h>

#include "base/mem.h"
#include "config_fixture.h"

/* ---- the file ------------------------------------------------------------ */

static void test_syntax(void **state)
{
	static const struct bad bad[] = {
	{ "", "f:1:1: yaml: is empty\n" },
	{ "# nothing\n", "f:1:1: yaml: is empty\n" },
	{ "---\n", "f:1:1: yaml: is empty\n" },
	{ "~\n", "f:1:1: yaml: is empty\n" },
	{ "[]\n", "f:1:1: config: must be a map\n" },
	{ "listeners: [\n",
	  "f:2:1: yaml: did not find expected node content, while parsing a "
	  "flow node\n" },
	{ HEAD "---\nworkers: 1\n", "f:8:1: yaml: more than one document\n" },
	{ "workers: &x 1\n", "f:1:10: yaml: anchors are not allowed\n" },
	{ "a: [*x]\n", "f:1:5: yaml: aliases are not allowed\n" },
	{ "workers: !!int 1\n", "f:1:10: yaml: tags are not allowed\n" },
	{ "log:\n\tlevel: info\n",
	  "f:2:1: yaml: a tab: indent with blanks\n" },
	{ "workers: \"\\0\"\n",
	  "f:1:10: yaml: text must not hold control characters\n" },
	{ "workers: \xc3\x28\nlog: \xff\n",
	  "f:1:10: yaml: is not UTF-8\nf:2:6: yaml: is not UTF-8\n" },
	{ "w: \xed\xa0\x80\n", "f:1:4: yaml: is not UTF-8\n" },
	{ "w: \xc0\xaf\n", "f:1:4: yaml: is not UTF-8\n" },
	{ "w: \x01\n", "f:1:4: yaml: holds a control character\n" },
	{ "? [a]\n: b\n", "f:1:3: yaml: a key must be text\n" },
	{ "a: [[[[[[[[[[[[[[[[[[[[[[\n",
	  "f:1:19: yaml: nested too deeply\n" },
	};

	CHECK_BAD(bad);
	check_bad_n("w: a\0b\n", 7, "f:1:5: yaml: holds a NUL byte\n");
	check_bad_n("\xff\xfew\0", 4, "f:1:1: yaml: is UTF-16: save it as "
		    "UTF-8\n");
}

static void test_size(void **state)
{
	size_t n = (1u << 20) + 1;
	char *text = malloc(n);

	assert_non_null(text);
	memset(text, '\n', n);
	check_bad_n(text, n, "f:1:1: yaml: is longer than 1MiB\n");
	/* Deep nesting ends early, however long the file. */
	memset(text, '[', n);
	check_bad_n(text, n - 1, "f:1:17: yaml: nested too deeply\n");
	free(text);
}

static void test_file(void **state)
{
	char *faults;
	size_t size;
	FILE *out = open_memstream(&faults, &size);

	assert_null(config_load("/nonexistent/x.yaml", out));
	assert_null(config_load("/", out));
	fclose(out);
	assert_string_equal(faults,
		"/nonexistent/x.yaml:1:1: config: cannot be read: "
		"No such file or directory\n"
		"/:1:1: config: cannot be read: Is a directory\n");
	free(faults);
}

/* ---- keys ----------------------------------------------------------------- */

static void test_keys(void **state)
{
	static const struct bad bad[] = {
	{ "workers: 1\n", "f:1:1: listeners: is missing\n" },
	{ "listeners: []\n", "f:1:12: listeners: needs at least one\n" },
	{ "listeners: {}\n", "f:1:12: listeners: must be a list\n" },
	{ "listeners:\n", "f:1:11: listeners: must be a list\n" },
	{ HEAD "wrokers: 1\n",
	  "f:8:1: wrokers: unknown key, did you mean `workers`?\n" },
	{ HEAD "drain: 1s\n",
	  "f:8:1: drain: unknown key, did you mean `drain_timeout`?\n" },
	{ HEAD "zzz: 1\n", "f:8:1: zzz: unknown key\n" },
	{ HEAD "log.level: info\n", "f:8:1: log.level: unknown key\n" },
	{ HEAD "log: { lvel: info, access: { pth: off } }\n",
	  "f:8:8: log.lvel: unknown key, did you mean `level`?\n"
	  "f:8:30: log.access.pth: unknown key, did you mean `path`?\n" },
	{ HEAD "log: info\n", "f:8:6: log: must be a map\n" },
	{ HEAD "log: [level]\n", "f:8:6: log: must be a map\n" },
	{ HEAD "workers: 1\nworkers: 2\n",
	  "f:9:1: workers: given twice, first on line 8\n" },
	{ HEAD "workers:\n", "f:8:9: workers: has no value\n" },
	{ HEAD "workers: { a: 1 }\n",
	  "f:8:10: workers: must be one value, not a map\n" },
	{ HEAD "workers: 257\n", "f:8:10: workers: must be auto or 1 to 256\n" },
	{ HEAD "workers: 0\n", "f:8:10: workers: must be auto or 1 to 256\n" },
	{ HEAD "workers: 010\n", "f:8:10: workers: must be auto or 1 to 256\n" },
	{ HEAD "log: { level: warning }\n",
	  "f:8:15: log.level: must be one of error, warn, info, debug, did you "
	  "mean `warn`?\n" },
	{ HEAD "log: { access: { path: stdout } }\n",
	  "f:8:24: log.access.path: must be stderr, off or an absolute "
	  "path\n" },
	/* The YAML merge key is a key like any other. */
	{ HEAD "<<: { workers: 1 }\n", "f:8:1: <<: unknown key\n" },
	/* Keys that are not built yet. */
	{ HEAD "tls: {}\n", "f:8:1: tls: unknown key\n" },
	};

	CHECK_BAD(bad);
}

static void test_values(void **state)
{
	static const struct bad bad[] = {
	{ HEAD "drain_timeout: 5\n",
	  "f:8:16: drain_timeout: needs a unit, as in `5s`\n" },
	{ HEAD "drain_timeout: 5m\n",
	  "f:8:16: drain_timeout: unknown unit `m`, did you mean `5min`?\n" },
	{ HEAD "drain_timeout: 25h\n",
	  "f:8:16: drain_timeout: must be 0 to 24h\n" },
	{ HEAD "drain_timeout: -1s\n",
	  "f:8:16: drain_timeout: must be a duration: a whole number and ms, "
	  "s, min or h\n" },
	{ HEAD "drain_timeout: 1.5s\n",
	  "f:8:16: drain_timeout: must be a duration: a whole number and ms, "
	  "s, min or h\n" },
	{ HEAD "drain_timeout: 99999999999999999h\n",
	  "f:8:16: drain_timeout: must be a duration: a whole number and ms, "
	  "s, min or h\n" },
	{ HEAD "drain_timeout: [1s]\n",
	  "f:8:16: drain_timeout: must be one value, not a list\n" },
	{ HEAD "memory: { held_bytes: 64KB }\n",
	  "f:8:23: memory.held_bytes: unknown unit `KB`, did you mean "
	  "`64KiB`?\n" },
	{ HEAD "memory: { held_bytes: 64m }\n",
	  "f:8:23: memory.held_bytes: unknown unit `m`, did you mean "
	  "`64MiB`?\n" },
	{ HEAD "memory: { held_bytes: lots }\n",
	  "f:8:23: memory.held_bytes: must be a size: a whole number of bytes, "
	  "or with KiB, MiB or GiB\n" },
	{ HEAD "memory: { held_bytes: 1KiB }\n",
	  "f:8:23: memory.held_bytes: must be 1MiB to 1024GiB\n" },
	{ HEAD "admin: { address: 9901 }\n",
	  "f:8:19: admin.address: needs a port, as in `127.0.0.1:8080` or "
	  "`[::1]:8080`\n" },
	{ HEAD "admin: { address: '::1' }\n",
	  "f:8:19: admin.address: needs a port, as in `127.0.0.1:8080` or "
	  "`[::1]:8080`\n" },
	{ HEAD "admin: { address: '127.0.0.1:0' }\n",
	  "f:8:19: admin.address: port 0 is not allowed\n" },
	{ HEAD "admin: { address: '127.0.0.1:65536' }\n",
	  "f:8:19: admin.address: port must be 1 to 65535\n" },
	{ HEAD "admin: { address: 'localhost:80' }\n",
	  "f:8:19: admin.address: must be IP:PORT, [IP6]:PORT or unix:/PATH; "
	  "host names are not looked up\n" },
	{ HEAD "admin: { address: /run/x }\n",
	  "f:8:19: admin.address: must be an address, did you mean "
	  "`unix:/run/x`?\n" },
	{ HEAD "admin: { address: 'unix:x' }\n",
	  "f:8:19: admin.address: must be an absolute path\n" },
	{ HEAD "admin: { address: '127.0.0.1:80' }\n",
	  "f:1:33: admin.address: the listener `l` has this address\n" },
	};

	CHECK_BAD(bad);
}

static void test_listeners(void **state)
{
	static const struct bad bad[] = {
	{ "listeners:\n  - address: 1.2.3.4:5\n",
	  "f:2:5: listeners[0].name: is missing\n" },
	{ "listeners:\n  - name: a\n",
	  "f:2:5: listeners[0].address: is missing\n" },
	{ "listeners:\n  - a\n", "f:2:5: listeners[0]: must be a map\n" },
	{ "listeners:\n  - { name: a, address: '1.2.3.4:5' }\n"
	  "  - { name: a, address: '1.2.3.4:5' }\n",
	  "f:3:13: listeners[1].name: `a` is the name of another listener\n"
	  "f:3:25: listeners[1].address: another listener has this address\n" },
	{ "listeners:\n  - name: a b\n    address: 1.2.3.4:5\n",
	  "f:2:11: listeners[0].name: a name has only letters, digits and "
	  "._-\n" },
	{ "listeners:\n  - name: a\n    address: 1.2.3.4:5\n"
	  "    trusted_proxies: [10.0.0.0/33, x, '::/129', 1.2.3.4]\n",
	  "f:4:23: listeners[0].trusted_proxies[0]: bits must be 0 to 32\n"
	  "f:4:36: listeners[0].trusted_proxies[1]: must be a network, as in "
	  "`10.0.0.0/8`\n"
	  "f:4:39: listeners[0].trusted_proxies[2]: bits must be 0 to 128\n" },
	{ "listeners:\n  - name: a\n    address: 1.2.3.4:5\n"
	  "    trusted_proxies: [unix]\n",
	  "f:4:22: listeners[0].trusted_proxies: `unix` has no effect: the "
	  "address is no Unix socket\n" },
	{ "listeners:\n  - name: a\n    address: unix:/a\n"
	  "    trusted_proxies: [10.0.0.0/8]\n",
	  "f:4:22: listeners[0].trusted_proxies: has no effect without `unix`: "
	  "the address is a Unix socket\n" },
	{ "listeners:\n  - name: a\n    address: 1.2.3.4:5\n"
	  "    limits: { header_bytes: 8KiB, target_bytes: 9KiB }\n",
	  "f:4:49: listeners[0].limits.target_bytes: is more than "
	  "header_bytes\n" },
	{ "listeners:\n  - name: a\n    address: 1.2.3.4:5\n"
	  "    timeouts: { header: 0, total: 0 }\n",
	  "f:4:25: listeners[0].timeouts.header: must be 1ms to 24h\n" },
	};

	CHECK_BAD(bad);
}

static void test_agents(void **state)
{
	static const struct bad bad[] = {
	{ L "agents: { a: {} }\n", "f:2:14: agents.a.socket: is missing\n" },
	{ L "agents: { a: { socket: x } }\n",
	  "f:2:24: agents.a.socket: must be an absolute path\n" },
	{ L "agents: { a: { socket: /0123456789012345678901234567890123456789"
	  "0123456789012345678901234567890123456789012345678901234567890123456"
	  "} }\n",
	  "f:2:24: agents.a.socket: is longer than a socket's path may be, 107 "
	  "bytes\n" },
	{ L "agents: { a: { socket: [] } }\n",
	  "f:2:24: agents.a.socket: needs at least one\n" },
	{ L "agents: { a: { socket: [/x, /x] } }\n",
	  "f:2:29: agents.a.socket[1]: given twice\n" },
	{ L "agents: { a: { socket: /x, raw_body: true, encoding: json } }\n",
	  "f:2:38: agents.a.raw_body: needs msgpack, but encoding is json\n" },
	{ L "agents: { a: { socket: /x, raw_body: yes } }\n",
	  "f:2:38: agents.a.raw_body: must be true or false\n" },
	{ L "agents: { a: { socket: /x, connections: 8, max_connections: 4 } "
	  "}\n",
	  "f:2:61: agents.a.max_connections: is less than connections, 8\n" },
	{ L "agents: { a: { socket: /x, dialect: v3, revers: 1 } }\n",
	  "f:2:37: agents.a.dialect: must be one of auto, v2, go, v1, did you "
	  "mean `v2`?\n"
	  "f:2:41: agents.a.revers: unknown key, did you mean `reverse`?\n" },
	{ L "agents: { a: { socket: /x, dialect: go, config: {} } }\n",
	  "f:2:49: agents.a.config: go-v2 agents cannot be configured\n" },
	{ L "agents: { a: { socket: /x, dialect: v1, config: [1] } }\n",
	  "f:2:49: agents.a.config: must be a map for a v1 agent\n" },
	{ L "agents: { a: { socket: /x, dialect: v1, encoding: msgpack } }\n",
	  "f:2:14: agents.a.encoding: this dialect is JSON only\n" },
	{ L "agents: { a: { socket: /x, owns_headers: [Host, 'a b', X-A, x-a] "
	  "} }\n",
	  "f:2:43: agents.a.owns_headers[0]: `host` cannot be owned by an "
	  "agent\n"
	  "f:2:49: agents.a.owns_headers[1]: must be a token: letters, digits "
	  "and !#$%&'*+-.^_`|~\n"
	  "f:2:61: agents.a.owns_headers[3]: given twice\n" },
	{ L "agents: { a: { socket: /x, on_failure: { time_out: deny, "
	  "connect: alow, connect: deny } } }\n",
	  "f:2:42: agents.a.on_failure.time_out: unknown cause, did you mean "
	  "`timeout`?\n"
	  "f:2:67: agents.a.on_failure.connect: must be one of deny, allow, "
	  "did you mean `allow`?\n"
	  "f:2:73: agents.a.on_failure.connect: given twice\n" },
	{ L "agents: { a: { socket: /x, deny_status: 200 } }\n",
	  "f:2:41: agents.a.deny_status: must be 0 or 400 to 599\n" },
	{ L "agents: { a: { socket: /x, chunk_size: 2MiB, "
	  "max_reply_bytes: 13MiB } }\n",
	  "f:2:40: agents.a.chunk_size: must be 1KiB to 1MiB\n"
	  "f:2:63: agents.a.max_reply_bytes: must be 4KiB to 12MiB\n" },
	{ L "agents: { a: { socket: /x, timeout: { head: 0, bdy: 1s } } }\n",
	  "f:2:45: agents.a.timeout.head: must be 1ms to 1h\n"
	  "f:2:48: agents.a.timeout.bdy: unknown key, did you mean `body`?\n" },
	{ L "agents: { a: { socket: /x, timeout: 2h } }\n",
	  "f:2:37: agents.a.timeout: must be 1ms to 1h\n" },
	};

	CHECK_BAD(bad);
}

#define DOOR "agent_listener: { address: 'unix:/d' }\n"

static void test_reverse(void **state)
{
	static const struct bad bad[] = {
	{ L "agents: { a: { reverse: 1, on_failure: deny } }\n",
	  "f:2:14: agents.a.socket: is missing\n"
	  "f:2:25: agents.a.reverse: must be true, false or a map\n" },
	{ L "agents: { a: { reverse: false } }\n",
	  "f:2:14: agents.a.socket: is missing\n" },
	{ L "agents: { a: { reverse: true } }\n",
	  "f:2:14: agents: `a` dials in: needs agent_listener.address\n" },
	{ L DOOR "agents: { a: { reverse: { token: \"\" } } }\n",
	  "f:3:34: agents.a.reverse.token: must be 1 to 256 bytes\n" },
	{ L DOOR "agents: { a: { reverse: { tokn: x } } }\n",
	  "f:3:27: agents.a.reverse.tokn: unknown key, did you mean `token`?\n"
	},
	{ L DOOR "agents: { a: { reverse: true, socket: /x, balance: random } }\n",
	  "f:3:39: agents.a.socket: has no effect: the agent dials in\n"
	  "f:3:52: agents.a.balance: has no effect: the agent dials in\n" },
	{ L DOOR "agents: { a: { reverse: true, dialect: v1 } }\n",
	  "f:3:14: agents.a.dialect: agents that dial in speak v2 or go\n" },
	{ L DOOR "agents: { a: { reverse: true, encoding: msgpack } }\n",
	  "f:3:14: agents.a.encoding: agents that dial in speak JSON\n" },
	{ L DOOR "agents: { a: { reverse: true, raw_body: true } }\n",
	  "f:3:14: agents.a.raw_body: agents that dial in speak JSON\n" },
	{ L DOOR "agents: { a: { reverse: true, dialect: go, config: [1] } }\n",
	  "f:3:52: agents.a.config: must be a map for a go-v2 agent\n" },
	{ L "agent_listener: { mode: 0600 }\n",
	  "f:2:17: agent_listener.address: is missing\n" },
	{ L "agent_listener: { address: '10.0.0.1:5' }\n",
	  "f:2:28: agent_listener.address: must be a Unix socket or an address "
	  "of this host, 127.0.0.1 or [::1]\n" },
	{ L "agent_listener: { address: '127.0.0.1:9901' }\n",
	  "f:2:28: agent_listener.address: a listener or the admin port has "
	  "this address\n" },
	{ L "agent_listener: { address: '[::1]:5', mode: 0600 }\n"
	  "agents: { a: { reverse: true, peer: { uid: 1 } } }\n",
	  "f:2:45: agent_listener.mode: has no effect: the address is no Unix "
	  "socket\n"
	  "f:3:14: agents: peer cannot be told of who dials in over TCP\n" },
	};
	struct config *config;

	CHECK_BAD(bad);
	config = load_good(L "agent_listener: { address: 'unix:/d', mode: 0600 }\n"
		      "agents: { a: { reverse: { token: secret-of-a } },\n"
		      "          b: { reverse: true, dialect: go, "
		      "config: { x: 1 }, connections: 2 } }\n");
	assert_string_equal(config->agent_listener.address.text, "unix:/d");
	assert_int_equal(config->agent_listener.mode, 0600);
	assert_true(config->agents[0].reverse);
	assert_string_equal(config->agents[0].reverse_token, "secret-of-a");
	assert_int_equal(config->agents[0].n_sockets, 0);
	assert_int_equal(config->agents[0].connections, 4);
	assert_int_equal(config->agents[1].connections, 2);
	assert_true(config->agents[1].reverse);
	assert_null(config->agents[1].reverse_token);
	config_free(config);
}

/* The effective config shows that there is a token, and never which. */
static void test_token_is_not_shown(void **state)
{
	struct config *config = load_good(L DOOR "agents: { a: { reverse: "
					"{ token: secret-of-a } } }\n");
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	config_print_json(config, out);
	fclose(out);
	assert_null(strstr(text, "secret-of-a"));
	assert_non_null(strstr(text, "\"reverse\":{\"token\":\"(hidden)\"}"));
	free(text);
	config_free(config);
}

static void test_routes(void **state)
{
	static const struct bad bad[] = {
	{ HEAD "routes: [{}]\n", "f:8:10: routes[0].upstream: is missing; or "
	  "respond, or redirect\n" },
	{ HEAD "routes: [{ upstream: ap }]\n",
	  "f:8:22: routes[0].upstream: no upstream has the name `ap`, did you "
	  "mean `app`?\n" },
	{ HEAD "routes: [{ upstream: app, agents: [wa, zzzzzz] }]\n",
	  "f:8:36: routes[0].agents[0]: no agent has the name `wa`, did you "
	  "mean `waf`?\n"
	  "f:8:40: routes[0].agents[1]: no agent has the name `zzzzzz`\n" },
	{ HEAD "routes: [{ upstream: app, agents: [bare, { name: bare }] }]\n",
	  "f:8:36: routes[0].agents[0].on_failure: is missing: say deny or "
	  "allow here or at agents.bare.on_failure\n"
	  "f:8:42: routes[0].agents[1].on_failure: is missing: say deny or "
	  "allow here or at agents.bare.on_failure\n"
	  "f:8:42: routes[0].agents[1]: `bare` stands here twice\n" },
	{ HEAD "routes: [{ upstream: app, agents: [{ request_body: hold }] }]\n",
	  "f:8:36: routes[0].agents[0].name: is missing\n" },
	{ HEAD "routes: [{ upstream: app, agents: [{ name: waf, mode: advise, "
	  "request_body: buffer, max_body: 12MiB }] }]\n",
	  "f:8:55: routes[0].agents[0].mode: must be one of enforce, observe\n"
	  "f:8:95: routes[0].agents[0].max_body: buffer sends a body in one "
	  "event, which has room for 12285KiB\n" },
	{ HEAD "memory: { held_bytes: 1MiB }\nroutes: [{ upstream: app, agents: "
	  "[{ name: waf, request_body: hold, max_body: 2MiB }] }]\n",
	  "f:9:79: routes[0].agents[0].max_body: is more than "
	  "memory.held_bytes\n" },
	{ HEAD "routes: [{ upstream: app, agents: [{ name: waf, on_failure: "
	  "{ too_large: allow }, on_too_large: block, request_body: hold }] "
	  "}]\n",
	  "f:8:97: routes[0].agents[0].on_too_large: on_failure.too_large says "
	  "otherwise\n" },
	{ HEAD "routes: [{ upstream: app, agents: [{ name: waf, max_body: 1, "
	  "response_head: true, on_too_large: skip }] }]\n",
	  "f:8:59: routes[0].agents[0].max_body: has no effect: the agent gets "
	  "no bodies here\n"
	  "f:8:97: routes[0].agents[0].on_too_large: has no effect: the agent "
	  "gets no bodies here\n" },
	{ HEAD "routes: [{ upstream: app, agents: [waf], agent_upstreams: [ap, "
	  "app, app] }]\n",
	  "f:8:60: routes[0].agent_upstreams[0]: no upstream has the name `ap`, "
	  "did you mean `app`?\n"
	  "f:8:69: routes[0].agent_upstreams[2]: given twice\n" },
	{ HEAD "routes: [{ upstream: app, agent_upstreams: [app] }]\n",
	  "f:8:44: routes[0].agent_upstreams: has no effect: the route asks no "
	  "agents\n" },
	{ HEAD "routes: [{ name: a, upstream: app }, { name: a, upstream: app }]"
	  "\n",
	  "f:8:46: routes[1].name: `a` is the name of another route\n" },
	{ HEAD "routes: [{ name: route-2, upstream: app }, { upstream: app }]\n",
	  "f:8:44: routes[1].name: `route-2` is the name of another route\n" },
	{ HEAD "routes: [{ upstream: app, upgrade: [websocket, H2C] }]\n",
	  "f:8:48: routes[0].upgrade[1]: h2c is never let through: it would "
	  "pass every agent by\n" },
	{ HEAD "routes: [{ upstream: app, upgrade: websocket }]\n",
	  "f:8:36: routes[0].upgrade: must be a list\n" },
	};

	CHECK_BAD(bad);
}

static void test_match(void **state)
{
	static const struct bad bad[] = {
	{ HEAD "routes: [{ upstream: app, match: { headers: [], methods: [get, "
	  "CONNECT] } }]\n",
	  "f:8:45: routes[0].match.headers: must be a map of names and values\n"
	  "f:8:59: routes[0].match.methods[0]: methods are written in capitals, "
	  "as in `POST`\n"
	  "f:8:64: routes[0].match.methods[1]: CONNECT is never let through\n" },
	{ HEAD "routes: [{ upstream: app, match: { host: 'a.*.b' } }]\n",
	  "f:8:42: routes[0].match.host: a wildcard is only allowed as in "
	  "`*.example.com`\n" },
	{ HEAD "routes: [{ upstream: app, match: { host: 'a.b:80' } }]\n",
	  "f:8:42: routes[0].match.host: must be a host without a port\n" },
	{ HEAD "routes: [{ upstream: app, match: { host: 'a.b.' } }]\n",
	  "f:8:42: routes[0].match.host: must be a host, as in "
	  "`api.example.com` or `*.example.com`\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: a } }]\n",
	  "f:8:42: routes[0].match.path: must start with `/`\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: /a/../b } }]\n",
	  "f:8:42: routes[0].match.path: dot segments are resolved before "
	  "matching: write the path without them\n" },
	{ HEAD "routes: [{ upstream: app, match: { path_prefix: /a/. } }]\n",
	  "f:8:49: routes[0].match.path_prefix: dot segments are resolved "
	  "before matching: write the path without them\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: '/a//b' } }]\n",
	  "f:8:42: routes[0].match.path: `//` has more than one reading and "
	  "never matches\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: '/a%2fb' } }]\n",
	  "f:8:42: routes[0].match.path: an escaped separator has more than one "
	  "reading and never matches\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: '/a%41b' } }]\n",
	  "f:8:42: routes[0].match.path: `%41` must be written as `A`: paths "
	  "are matched after decoding\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: '/a%4' } }]\n",
	  "f:8:42: routes[0].match.path: `%` must be followed by two hex "
	  "digits\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: '/a?b' } }]\n",
	  "f:8:42: routes[0].match.path: must be a path without `?`: the query "
	  "is not matched\n" },
	{ HEAD "routes: [{ upstream: app, match: { path: /a, path_prefix: / } "
	  "}]\n",
	  "f:8:59: routes[0].match.path_prefix: path and path_prefix exclude "
	  "each other\n" },
	};

	CHECK_BAD(bad);
}

/* Faults come in the order of the file, whatever order they are found in; and
 * no more of them than anybody reads. */
static void test_all_at_once(void **state)
{
	char text[1 << 15] = "", want[64], *faults;
	const char *last;
	size_t n = 0;

	check_bad_n("routes: [{ upstream: x }]\nbogus: 1\nworkers: x\n", 46,
		    "f:1:1: listeners: is missing\n"
		    "f:1:22: routes[0].upstream: no upstream has the name "
		    "`x`\n"
		    "f:2:1: bogus: unknown key\n"
		    "f:3:10: workers: must be auto or 1 to 256\n");
	for (unsigned i = 0; i < 1200; i++)
		n += (size_t)sprintf(text + n, "%u: a\n", i + 7000);
	assert_null(load(text, n, &faults));
	last = strrchr(faults, 'f');
	snprintf(want, sizeof(want), "201 more faults\n");
	assert_string_equal(strstr(faults, "201 more"), want);
	assert_non_null(last);
	free(faults);
}

/* A key that plays tricks on a terminal, or is very long, stays harmless. */
static void test_long_keys(void **state)
{
	char text[5000], *faults;

	memset(text, 'k', sizeof(text));
	memcpy(text + sizeof(text) - 4, ": 1\n", 4);
	assert_null(load(text, sizeof(text), &faults));
	assert_true(strlen(faults) < 400);
	free(faults);
}

/* ---- good ones ------------------------------------------------------------ */

static void test_defaults(void **state)
{
	struct config *c = load_good(HEAD "routes: [{ upstream: app, agents: "
				     "[waf] }]\n");
	const struct config_listener *l = &c->listeners[0];
	const struct config_agent *a = &c->agents[0];
	const struct config_route *r = &c->routes[0];

	assert_true(c->workers >= 1);
	assert_int_equal(c->drain_timeout_us, 30000000);
	assert_int_equal(c->memory_held_bytes, 256 << 20);
	assert_string_equal(c->admin.text, "127.0.0.1:9901");
	assert_int_equal(c->admin.addr.sa.sa_family, AF_INET);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_string_equal(c->access_path, "stderr");
	assert_int_equal(c->access_format, ACCESS_JSON);
	assert_int_equal(l->max_connections, 10000);
	assert_int_equal(l->limits.header_bytes, 32768);
	assert_int_equal(l->limits.headers, 100);
	assert_int_equal(l->limits.target_bytes, 8192);
	assert_int_equal(l->limits.body, 0);
	assert_int_equal(l->timeouts.header_us, 10000000);
	assert_int_equal(l->timeouts.body_us, 30000000);
	assert_int_equal(l->timeouts.idle_us, 75000000);
	assert_int_equal(l->timeouts.send_us, 30000000);
	assert_int_equal(l->timeouts.total_us, 0);
	assert_int_equal(c->upstreams[0].balance, BALANCE_ROUND_ROBIN);
	assert_int_equal(c->upstreams[0].keepalive, 64);
	assert_int_equal(c->upstreams[0].servers[0].weight, 1);
	assert_int_equal(c->upstreams[0].timeouts.connect_us, 1000000);
	assert_int_equal(c->upstreams[0].timeouts.response_us, 60000000);
	assert_int_equal(c->upstreams[0].timeouts.idle_us, 60000000);
	assert_string_equal(a->sockets[0], "/w");
	assert_int_equal(a->connections, 4);
	assert_int_equal(a->max_connections, 16);
	assert_int_equal(a->depth, 32);
	assert_int_equal(a->queue, 1024);
	assert_int_equal(a->encoding, ENCODING_AUTO);
	assert_int_equal(a->msgpack_shape, SHAPE_ARRAY);
	assert_false(a->raw_body);
	assert_int_equal(a->chunk_size, 65536);
	assert_int_equal(a->max_reply_bytes, 1 << 20);
	assert_int_equal(a->timeouts.head_us, 1000000);
	assert_int_equal(a->timeouts.body_us, 5000000);
	assert_int_equal(a->timeouts.budget_us, 30000000);
	assert_int_equal(a->may_mutate, MUTATE_NONE);
	assert_int_equal(a->max_concurrency, 0);
	assert_string_equal(r->name, "route-1");
	assert_ptr_equal(r->upstream, &c->upstreams[0]);
	assert_ptr_equal(r->agents[0].agent, a);
	assert_int_equal(r->budget_us, 30000000);
	assert_int_equal(r->n_upgrade, 1);
	assert_string_equal(r->upgrade[0], "websocket");
	assert_int_equal(r->agents[0].request_body, BODY_NONE);
	assert_false(r->agents[0].response_head);
	assert_int_equal(r->agents[0].max_body, 1 << 20);
	assert_false(r->agents[0].on_too_large_skip);
	assert_true(r->agents[0].on_failure.deny[CAUSE_TIMEOUT]);
	config_free(c);
}

static void test_inheritance(void **state)
{
	struct config *c = load_good(L
		"upstreams: { app: { servers: ['127.0.0.1:90'] } }\n"
		"routes:\n"
		"  - upstream: app\n"
		"    agents: [a, { name: b, on_failure: { timeout: allow, "
		"too_large: allow }, timeout: { body: 7s }, "
		"response_body: stream }]\n"
		"  - upstream: app\n"
		"    agents: [{ name: b, on_failure: allow, timeout: 3s },"
		" { name: a, response_body: hold, on_too_large: skip }]\n"
		"agents:\n"
		"  a: { socket: /a, timeout: { head: 1ms }, on_failure: allow }\n"
		"  b: { socket: [/b, /c], timeout: 2s, may_mutate: both }\n");
	const struct config_route_agent *a = &c->routes[0].agents[0];
	const struct config_route_agent *b = &c->routes[0].agents[1];
	const struct config_route_agent *b2 = &c->routes[1].agents[0];
	const struct config_route_agent *a2 = &c->routes[1].agents[1];

	assert_int_equal(a->timeouts.head_us, 1000);
	assert_int_equal(a->timeouts.body_us, 5000000);
	assert_false(a->on_failure.deny[CAUSE_TIMEOUT]);
	/* allow is not about size: that is on_too_large's, and it blocks. */
	assert_true(a->on_failure.deny[CAUSE_TOO_LARGE]);
	assert_false(a->on_too_large_skip);
	assert_int_equal(b->timeouts.head_us, 2000000);
	assert_int_equal(b->timeouts.body_us, 7000000);
	assert_false(b->on_failure.deny[CAUSE_TIMEOUT]);
	assert_true(b->on_failure.deny[CAUSE_CONNECT]);
	assert_false(b->on_failure.deny[CAUSE_TOO_LARGE]);
	assert_true(b->on_too_large_skip);
	assert_true(b->response_head);
	assert_int_equal(b->agent->n_sockets, 2);
	assert_int_equal(b->agent->may_mutate, MUTATE_REQUEST |
						       MUTATE_RESPONSE);
	assert_int_equal(c->routes[0].n_upgrade, 0);
	assert_int_equal(b2->timeouts.head_us, 3000000);
	assert_int_equal(b2->timeouts.body_us, 3000000);
	assert_false(b2->on_failure.deny[CAUSE_BUDGET]);
	assert_true(a2->on_too_large_skip);
	assert_false(a2->on_failure.deny[CAUSE_TOO_LARGE]);
	assert_int_equal(c->routes[1].n_upgrade, 0);
	config_free(c);
}

static void test_normalised(void **state)
{
	struct config *c = load_good(
		"\xef\xbb\xbflisteners:\n"
		"  - name: a\n"
		"    address: unix:/run/a\n"
		"    trusted_proxies: [10.1.2.3/8, '::ffff:192.168.1.1/120', "
		"2001:db8::1, 0.0.0.0/0, unix]\n"
		"    limits: { header_bytes: 4KiB }\n"
		"upstreams: { u: { servers: ['[::1]:1'] } }\n"
		"agents:\n"
		"  a: { socket: /a, max_connections: 2, owns_headers: [X-User, "
		"X-Role] }\n"
		"  b: { socket: /b, connections: 20, owns_headers: [x-user] }\n"
		"routes: [{ match: { host: '*.EXAMPLE.com' }, upstream: u }]\n");
	const struct config_network *n = c->listeners[0].trusted_proxies;

	assert_int_equal(c->listeners[0].n_trusted_proxies, 5);
	assert_int_equal(n[0].family, AF_INET);
	assert_int_equal(n[0].bits, 8);
	assert_memory_equal(n[0].ip, "\x0a\0\0\0", 4);
	assert_int_equal(n[1].family, AF_INET);
	assert_int_equal(n[1].bits, 24);
	assert_memory_equal(n[1].ip, "\xc0\xa8\x01\0", 4);
	assert_int_equal(n[2].family, AF_INET6);
	assert_int_equal(n[2].bits, 128);
	assert_int_equal(n[3].bits, 0);
	assert_int_equal(n[4].family, AF_UNIX);
	assert_int_equal(c->listeners[0].limits.target_bytes, 4096);
	assert_int_equal(c->agents[0].connections, 2);
	assert_int_equal(c->agents[1].max_connections, 20);
	assert_string_equal(c->agents[0].owns_headers[0], "x-user");
	assert_int_equal(c->n_owned_headers, 2);
	assert_int_equal(c->owned_lengths, 1 << 6);
	assert_string_equal(c->routes[0].host, "*.example.com");
	config_free(c);
}

static void test_empty_sections(void **state)
{
	struct config *c = load_good(L "upstreams:\nagents:\nroutes:\nlog:\n");

	assert_int_equal(c->n_routes, 0);
	assert_int_equal(c->n_agents, 0);
	config_free(c);
}

static char *show(const struct config *c)
{
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	config_print_json(c, out);
	fclose(out);
	return text;
}

/* What /config shows can be loaded again, and shows the same. */
static void test_json(void **state)
{
	struct config *c = load_good(HEAD
		"workers: 3\n"
		"routes:\n"
		"  - { upstream: app, match: { path_prefix: /x, methods: [GET] },"
		" agents: [{ name: waf, request_body: hold, timeout: 90ms }] }\n"
		"  - { upstream: app, upgrade: [] }\n"
		"  - { upstream: app, agents: [waf], agent_upstreams: [app],\n"
		"      match: { headers: { A: '*', B: x } },\n"
		"      request_headers: { set: { C: d }, remove: [E] },\n"
		"      response_headers: { add: { F: g } } }\n"
		"  - respond: { status: 403, headers: { H: i }, body: \"j\\nk\" "
		"}\n"
		"  - redirect: { url: 'https://{host}{target}', status: 308 }\n");
	char *first = show(c), *second;
	json_t *json = json_loads(first, 0, NULL);
	struct config *again;

	assert_non_null(json);
	assert_int_equal(json_integer_value(json_object_get(json, "workers")),
			 3);
	assert_string_equal(json_string_value(json_object_get(
		json_object_get(json, "memory"), "held_bytes")), "256MiB");
	json_decref(json);
	again = load_good(first);
	second = show(again);
	assert_string_equal(first, second);
	assert_int_equal(again->routes[0].agents[0].timeouts.head_us, 90000);
	free(first);
	free(second);
	config_free(again);
	config_free(c);
}

/* ---- no memory ------------------------------------------------------------ */

static unsigned long countdown;

static bool fail_at_last(size_t bytes)
{
	return countdown-- == 0;
}

static void test_no_memory(void **state)
{
	static const char text[] = HEAD "routes: [{ upstream: app, agents: "
					"[waf] }]\n";
	struct config *c = NULL;

	for (unsigned long i = 0; !c && i < 1000; i++) {
		char *faults;

		countdown = i;
		mem_fault = fail_at_last;
		c = load(text, sizeof(text) - 1, &faults);
		mem_fault = NULL;
		if (!c)
			assert_non_null(strstr(faults, "out of memory"));
		free(faults);
	}
	assert_non_null(c);
	config_free(c);
	config_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_agents),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_token_is_not_shown),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_inheritance),
		cmocka_unit_test(test_normalised),
		cmocka_unit_test(test_empty_sections),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
