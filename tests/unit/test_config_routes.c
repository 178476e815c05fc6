/* Upstreams, listeners and routes in a config: what is told of their faults. */
#include "config_fixture.h"

static void test_upstreams(void **state)
{
	static const struct bad bad[] = {
	{ L "upstreams:\n  app: { server: ['127.0.0.1:1'] }\n",
	  "f:3:8: upstreams.app.servers: is missing\n"
	  "f:3:10: upstreams.app.server: unknown key, did you mean "
	  "`servers`?\n" },
	{ L "upstreams: { a: { servers: [] } }\n",
	  "f:2:28: upstreams.a.servers: needs at least one\n" },
	{ L "upstreams: { a: { servers: [{ address: '1.1.1.1:1', weight: 0 }, "
	  "'1.1.1.1:1'] } }\n",
	  "f:2:61: upstreams.a.servers[0].weight: must be 1 to 256\n"
	  "f:2:66: upstreams.a.servers[1]: given twice\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], balance: has } }\n",
	  "f:2:52: upstreams.a.balance: must be one of round_robin, "
	  "least_connections, hash, random, did you mean `hash`?\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], hash_key: path } }\n",
	  "f:2:53: upstreams.a.hash_key: has no effect: balance is not "
	  "hash\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], balance: hash, "
	  "hash_key: cookie } }\n",
	  "f:2:68: upstreams.a.hash_key: must be client, path or header "
	  "NAME\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], balance: hash, "
	  "hash_key: header a b } }\n",
	  "f:2:68: upstreams.a.hash_key: must be a token: letters, digits "
	  "and !#$%&'*+-.^_`|~\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], "
	  "ejection: { failures: 1001, time: 0, max_percent: 101 } } }\n",
	  "f:2:65: upstreams.a.ejection.failures: must be 0 to 1000\n"
	  "f:2:77: upstreams.a.ejection.time: must be 1ms to 1h\n"
	  "f:2:93: upstreams.a.ejection.max_percent: must be 0 to 100\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], "
	  "check: { path: x, host: '*.x', rise: 0 } } }\n",
	  "f:2:58: upstreams.a.check.path: must be a path of visible ASCII, "
	  "as in `/health`\n"
	  "f:2:58: upstreams.a: check.path has no effect: check.type is "
	  "none\n"
	  "f:2:67: upstreams.a.check.host: must be a host, without a "
	  "wildcard\n"
	  "f:2:67: upstreams.a: check.host has no effect: check.type is "
	  "none\n"
	  "f:2:80: upstreams.a.check.rise: must be 1 to 100\n"
	  "f:2:80: upstreams.a: check.rise has no effect: check.type is "
	  "none\n" },
	{ L "upstreams: { a: { servers: ['1.1.1.1:1'], "
	  "check: { type: tcp, path: /x, fall: 1 } } }\n",
	  "f:2:69: upstreams.a: check.path has no effect: check.type is "
	  "tcp\n" },
	{ L "upstreams: [a]\n", "f:2:12: upstreams: must be a map by name\n" },
	{ L "upstreams:\n  a: { servers: ['1.1.1.1:1'] }\n"
	  "  a: { servers: ['1.1.1.1:1'] }\n",
	  "f:4:3: upstreams.a: given twice, first on line 3\n" },
	};

	CHECK_BAD(bad);
}

static void test_upstream_values(void **state)
{
	struct config *c = load_good(L
		"upstreams:\n"
		"  plain: { servers: ['127.0.0.1:90'] }\n"
		"  by: { servers: ['unix:/s', { address: '127.0.0.1:90', "
		"weight: 3 }], balance: hash, hash_key: header X-Who,\n"
		"    ejection: { failures: 2, time: 1s, max_percent: 34 },\n"
		"    check: { type: http, path: '/ok?x=1', host: a.b, "
		"interval: 10ms, timeout: 9ms, rise: 1, fall: 7 } }\n"
		"agents: { a: { socket: /a, on_failure: deny } }\n"
		"routes:\n"
		"  - { upstream: plain, agents: [a], agent_upstreams: [by] }\n");
	const struct config_upstream *plain = &c->upstreams[0];
	const struct config_upstream *by = &c->upstreams[1];

	assert_int_equal(plain->balance, BALANCE_ROUND_ROBIN);
	assert_int_equal(plain->ejection.failures, 5);
	assert_int_equal(plain->ejection.time_us, 10000000);
	assert_int_equal(plain->ejection.max_percent, 50);
	assert_int_equal(plain->check.type, CHECK_NONE);
	assert_int_equal(by->balance, BALANCE_HASH);
	assert_int_equal(by->hash_key, HASH_HEADER);
	assert_string_equal(by->hash_header, "X-Who");
	assert_int_equal(by->servers[0].address.addr.sa.sa_family, AF_UNIX);
	assert_int_equal(by->servers[1].weight, 3);
	assert_int_equal(by->ejection.max_percent, 34);
	assert_int_equal(by->check.type, CHECK_HTTP);
	assert_string_equal(by->check.path, "/ok?x=1");
	assert_string_equal(by->check.host, "a.b");
	assert_int_equal(by->check.interval_us, 10000);
	assert_int_equal(by->check.timeout_us, 9000);
	assert_int_equal(by->check.rise, 1);
	assert_int_equal(by->check.fall, 7);
	assert_int_equal(c->routes[0].n_agent_upstreams, 1);
	assert_ptr_equal(c->routes[0].agent_upstreams[0], by);
	config_free(c);
}

static void test_mode(void **state)
{
	static const struct bad bad[] = {
	{ "listeners:\n"
	  "  - { name: a, address: '127.0.0.1:80', mode: 0600 }\n"
	  "  - { name: b, address: 'unix:/b', mode: 0800 }\n"
	  "  - { name: c, address: 'unix:/c', mode: 1777 }\n"
	  "  - { name: d, address: 'unix:/d', mode: rw }\n",
	  "f:2:47: listeners[0].mode: has no effect: the address is no Unix "
	  "socket\n"
	  "f:3:42: listeners[1].mode: must be 0 to 0777\n"
	  "f:4:42: listeners[2].mode: must be 0 to 0777\n"
	  "f:5:42: listeners[3].mode: must be 0 to 0777\n" },
	};
	struct config *c = load_good("listeners:\n"
		"  - { name: a, address: 'unix:/a', mode: 0640 }\n"
		"  - { name: b, address: 'unix:/b' }\n");

	assert_int_equal(c->listeners[0].mode, 0640);
	assert_int_equal(c->listeners[1].mode, 0666);
	config_free(c);
	CHECK_BAD(bad);
}

static void test_headers(void **state)
{
	static const struct bad bad[] = {
	{ HEAD "routes: [{ upstream: app, match: { headers: { Host: a, "
	  "TE: x, 'a b': c, X-A: 1, x-a: 2, X-B: [1] } } }]\n",
	  "f:8:47: routes[0].match.headers.Host: say match.host\n"
	  "f:8:56: routes[0].match.headers.TE: belongs to a connection, not to "
	  "what is forwarded\n"
	  "f:8:63: routes[0].match.headers.a b: must be a token: letters, "
	  "digits and !#$%&'*+-.^_`|~\n"
	  "f:8:81: routes[0].match.headers.x-a: given twice\n"
	  "f:8:94: routes[0].match.headers.X-B: must be one value, not a list\n"
	},
	{ HEAD "routes:\n"
	  "  - upstream: app\n"
	  "    request_headers:\n"
	  "      set: { Host: 'a:80', Range: x, Content-Length: 1 }\n"
	  "      add: { Host: a, X-Request-Id: 1, X: ' a' }\n"
	  "      remove: [Host, X-A, x-a, Range, Transfer-Encoding]\n",
	  "f:11:20: routes[0].request_headers.set.Host: must be a host without "
	  "a port\n"
	  "f:11:28: routes[0].request_headers.set.Range: is the proxy's own\n"
	  "f:11:38: routes[0].request_headers.set.Content-Length: belongs to a "
	  "connection, not to what is forwarded\n"
	  "f:12:14: routes[0].request_headers.add.Host: a request has one: it "
	  "can only be set\n"
	  "f:12:23: routes[0].request_headers.add.X-Request-Id: is the proxy's "
	  "own\n"
	  "f:12:43: routes[0].request_headers.add.X: begins or ends with a "
	  "blank\n"
	  "f:13:16: routes[0].request_headers.remove[0]: a request has one: it "
	  "can only be set\n"
	  "f:13:27: routes[0].request_headers.remove[2]: given twice\n"
	  "f:13:39: routes[0].request_headers.remove[4]: belongs to a "
	  "connection, not to what is forwarded\n" },
	{ L "upstreams: { app: { servers: ['127.0.0.1:90'] } }\n"
	  "agents: { a: { socket: /a, on_failure: deny, owns_headers: [X-User] "
	  "} }\n"
	  "routes:\n"
	  "  - { upstream: app, match: { headers: { x-user: '*' } },\n"
	  "      request_headers: { set: { X-USER: me } },\n"
	  "      response_headers: { set: { X-User: you } } }\n",
	  "f:5:42: routes[0].match.headers.x-user: only the agent `a` may set "
	  "it\n"
	  "f:6:33: routes[0].request_headers.set.X-USER: only the agent `a` may "
	  "set it\n" },
	{ HEAD "routes: [{ upstream: app, response_headers: { set: { a: "
	  "\"x\\ny\" } } }]\n",
	  "f:8:57: routes[0].response_headers.set.a: must be one line\n" },
	{ HEAD "\"work\\ners\": 1\n",
	  "f:8:1: yaml: a key must be one line\n" },
	};

	CHECK_BAD(bad);
}

static void test_own_answers(void **state)
{
	static const struct bad bad[] = {
	{ HEAD "routes: [{ upstream: app, respond: {} }]\n",
	  "f:8:36: routes[0].respond: upstream, respond and redirect exclude "
	  "each other\n" },
	{ HEAD "routes: [{ respond: { status: 101, bdy: x } }]\n",
	  "f:8:31: routes[0].respond.status: must be 200 to 599\n"
	  "f:8:36: routes[0].respond.bdy: unknown key, did you mean `body`?\n"
	},
	{ HEAD "routes: [{ respond: { status: 204, body: x } }]\n",
	  "f:8:42: routes[0].respond.body: a 204 has no body\n" },
	{ HEAD "routes: [{ redirect: { status: 300 } }]\n",
	  "f:8:22: routes[0].redirect.url: is missing\n"
	  "f:8:32: routes[0].redirect.status: must be one of 301, 302, 303, "
	  "307, 308, did you mean `301`?\n" },
	{ HEAD "routes:\n"
	  "  - { match: { path: /1 }, redirect: { url: '{target}' } }\n"
	  "  - { match: { path: /2 }, redirect: { url: '//evil' } }\n"
	  "  - { match: { path: /3 }, redirect: { url: '/{target}' } }\n"
	  "  - { match: { path: /4 }, redirect: { url: 'https://{target}' } }\n"
	  "  - { match: { path: /5 }, redirect: { url: 'ftp://a' } }\n",
	  "f:9:45: routes[0].redirect.url: must be as in "
	  "`https://{host}{target}` or `/path`\n"
	  "f:10:45: routes[1].redirect.url: must be as in "
	  "`https://{host}{target}` or `/path`\n"
	  "f:11:45: routes[2].redirect.url: must be as in "
	  "`https://{host}{target}` or `/path`\n"
	  "f:12:45: routes[3].redirect.url: must be as in "
	  "`https://{host}{target}` or `/path`\n"
	  "f:13:45: routes[4].redirect.url: must be as in "
	  "`https://{host}{target}` or `/path`\n" },
	{ HEAD "routes: [{ redirect: { url: 'https://a/{path}' } }]\n",
	  "f:8:29: routes[0].redirect.url: knows only {host} and {target}\n" },
	{ HEAD "routes: [{ redirect: { url: 'https://a/ b' } }]\n",
	  "f:8:29: routes[0].redirect.url: other than visible ASCII must be "
	  "escaped, as in `%20`\n" },
	{ HEAD "routes: [{ respond: {}, agents: [{ name: waf, response_head: "
	  "true }], agent_upstreams: [app], upgrade: [websocket] }]\n",
	  "f:8:34: routes[0].agents: an agent gets no response here: nothing is "
	  "forwarded\n"
	  "f:8:88: routes[0].agent_upstreams: has no effect: nothing is "
	  "forwarded\n"
	  "f:8:104: routes[0].upgrade: has no effect: nothing is forwarded\n" },
	};

	CHECK_BAD(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_upstream_values),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_own_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
