/* The head that is judged and forwarded. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "base/mem.h"
#include "config/load.h"
#include "policy/forward.h"

#define ID "0123456789abcdef0123456789abcdef"
/* What stands in every head that we forward for 192.0.2.7. */
#define OURS(host)							\
	"x-forwarded-for: 192.0.2.7|x-forwarded-proto: http|"		\
	"x-forwarded-host: " host "|via: 1.1 agentproxyd|"		\
	"x-request-id: " ID "|"

static struct config *config;
static struct arena_pool pool;
static struct arena arena;
static struct forward_result result;
static struct http_head out;

static int setup_all(void **state)
{
	static const char text[] =
		"listeners: [{ name: l, address: '127.0.0.1:80',"
		" trusted_proxies: [10.0.0.0/8, 'fd00::/8'] }]\n"
		"upstreams: { u: { servers: ['127.0.0.1:90'] } }\n"
		"agents:\n"
		"  a: { socket: /a, on_failure: deny, owns_headers: [X-User, "
		"Authorization] }\n"
		"routes:\n"
		"  - { upstream: u, agents: [a] }\n"
		"  - { upstream: u, agents: [{ name: a, request_body: stream }] "
		"}\n"
		"  - { upstream: u, agents: [{ name: a, response_body: hold }] "
		"}\n"
		"  - { upstream: u, upgrade: [websocket, x] }\n"
		"  - { upstream: u, upgrade: [] }\n";

	arena_pool_init(&pool);
	config = config_load_text("f", SLICE(text), stderr);
	return config ? 0 : -1;
}

static int teardown_all(void **state)
{
	config_free(config);
	assert_int_equal(pool.live, 0);
	arena_pool_fini(&pool);
	return 0;
}

static int setup(void **state)
{
	arena_init(&arena, &pool);
	return 0;
}

static int teardown(void **state)
{
	arena_fini(&arena);
	return 0;
}

static struct net_peer peer_of(const char *ip)
{
	struct net_peer p = { .family = AF_INET, .port = 4711 };

	if (strcmp(ip, "unix") == 0)
		p = (struct net_peer){ .family = AF_UNIX };
	else if (inet_pton(AF_INET, ip, p.ip) != 1) {
		p.family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, ip, p.ip), 1);
	}
	return p;
}

/* route: its number, -1 none. text: the head with | for CR LF. */
static bool forward(const char *ip, int route, const char *text)
{
	static const struct http_limits limits = { 32768, 100, 8192 };
	static char buf[8192];
	static struct field fields[100];
	struct http_head in = { .fields = fields, .cap_fields = 100 };
	struct net_peer peer = peer_of(ip);
	struct forward_peer fp;
	struct forward_input input = {
		.config = config, .listener = &config->listeners[0],
		.peer = &fp, .request_id = ID,
		.route = route < 0 ? NULL : &config->routes[route],
	};
	uint32_t scanned = 0;
	size_t n = 0;

	for (; *text; text++) {
		if (*text == '|')
			buf[n++] = '\r';
		buf[n++] = *text == '|' ? '\n' : *text;
	}
	assert_int_equal(http_parse_request(buf, n, &limits, &scanned, &in),
			 HTTP_PARSE_OK);
	forward_peer_init(&fp, &peer, &config->listeners[0]);
	return forward_request(&out, &in, &input, &arena, &result);
}

/* What struct event_head wants of fields that are our own. */
static void check_own(void)
{
	const struct field *own = out.fields + out.n_fields - result.n_own;

	assert_true(result.n_own <= out.n_fields);
	for (unsigned i = 0; i < result.n_own; i++) {
		const char *line = own[i].name, *end = own[i].value +
						       own[i].value_len;

		for (unsigned k = 0; k < own[i].name_len; k++)
			assert_false(line[k] >= 'A' && line[k] <= 'Z');
		for (; line < end; line++)
			assert_in_range(*line, 0x20, 0x7e);
		if (i + 1 < result.n_own)
			assert_ptr_equal(end + 2, own[i + 1].name);
		for (unsigned k = 0; k < out.n_fields; k++)
			assert_true(&own[i] == &out.fields[k] ||
				    !slice_eq_icase(field_name(&own[i]),
					field_name(&out.fields[k])));
	}
}

static void check(const char *want)
{
	char got[4096] = "";
	size_t n = 0;
	uint64_t present = 0;

	for (unsigned i = 0; i < out.n_fields; i++) {
		const struct field *f = &out.fields[i];

		n += (size_t)snprintf(got + n, sizeof(got) - n, "%.*s: %.*s|",
				      SLICE_FMT(field_name(f)),
				      SLICE_FMT(field_value(f)));
		present |= 1ull << f->id;
		assert_int_equal(f->id, http_field_lookup(field_name(f)));
		if (f->flags & FIELD_LINE)
			assert_memory_equal(f->value + f->value_len, "\r\n", 2);
	}
	assert_string_equal(got, want);
	assert_int_equal(out.present, present);
	check_own();
	assert_true(out.cap_fields >= out.n_fields);
}

static void check_forward(const char *ip, const char *text, const char *want)
{
	assert_true(forward(ip, 0, text));
	check(want);
}

static void check_client(const char *ip, const char *xff, const char *want,
			 unsigned port)
{
	char text[1024];

	snprintf(text, sizeof(text), "GET / HTTP/1.1|Host: h|%s|", xff);
	assert_true(forward(ip, 0, text));
	assert_int_equal(result.client_ip.n, strlen(want));
	assert_memory_equal(result.client_ip.p, want, strlen(want));
	assert_int_equal(result.client_port, port);
}

static void test_plain(void **state)
{
	check_forward("192.0.2.7", "GET /p HTTP/1.1|Host: h:8|X-A: 1|x-a: 2||",
		      "Host: h:8|X-A: 1|x-a: 2|" OURS("h:8"));
	assert_true(slice_eq(result.request_id, SLICE(ID)));
	assert_true(slice_eq(result.client_ip, SLICE("192.0.2.7")));
	assert_int_equal(result.client_port, 4711);
	assert_true(slice_eq(out.path, SLICE("/p")));
	assert_int_equal(result.n_own, 5);
	assert_true(forward("192.0.2.7", -1, "GET / HTTP/1.1|Host: h||"));
	check("Host: h|" OURS("h"));
}

static void test_old(void **state)
{
	check_forward("192.0.2.7", "GET / HTTP/1.0||",
		      "x-forwarded-for: 192.0.2.7|x-forwarded-proto: http|"
		      "host: u|via: 1.0 agentproxyd|x-request-id: " ID "|");
	assert_true(slice_eq(out.host, SLICE("u")));
	check_forward("192.0.2.7", "GET / HTTP/1.1|Host: h|Via: 1.1 a (b)||",
		      "Host: h|Via: 1.1 a (b)|" OURS("h"));
	assert_int_equal(result.n_own, 0);
}

static void test_owned(void **state)
{
	check_forward("192.0.2.7", "GET / HTTP/1.1|Host: h|x-USER: root|"
		      "X_User: root|X-User2: a|AUTHORIZATION: b|X-Use: c|"
		      "X-Useq: d||",
		      "Host: h|X-User2: a|X-Use: c|X-Useq: d|" OURS("h"));
	/* A trusted proxy is no agent. */
	check_forward("10.0.0.1", "GET / HTTP/1.1|Host: h|X-User: root||",
		      "Host: h|x-forwarded-for: 10.0.0.1|"
		      "x-forwarded-proto: http|x-forwarded-host: h|"
		      "via: 1.1 agentproxyd|x-request-id: " ID "|");
}

static void test_untrusted(void **state)
{
	check_forward("192.0.2.7", "GET / HTTP/1.1|Host: h|"
		      "X-Forwarded-For: 1.1.1.1|X-Forwarded-Proto: https|"
		      "X-Forwarded-Host: evil|X-Forwarded-Port: 1|"
		      "x-forwarded-prefix: /x|X_Forwarded_For: 2.2.2.2|"
		      "X-Forwarded_Proto: https|Forwarded: for=1.1.1.1|"
		      "X-Request-Id: mine|X_Request_Id: mine|"
		      "X-Forwardedness: ok|Forwarded-By: ok||",
		      "Host: h|X-Forwardedness: ok|Forwarded-By: ok|"
		      OURS("h"));
}

static void test_trusted(void **state)
{
	check_forward("10.0.0.1", "GET / HTTP/1.1|Host: h|"
		      "X-Forwarded-For: 1.1.1.1, 10.9.9.9|"
		      "X-Forwarded-Proto: https|X-Forwarded-Host: pub|"
		      "X-Forwarded-Port: 443|Forwarded: for=1.1.1.1|"
		      "X-Forwarded-For: 10.0.0.2|X-Request-Id: a.b_c-9||",
		      "Host: h|X-Forwarded-Proto: https|X-Forwarded-Host: pub|"
		      "X-Forwarded-Port: 443|Forwarded: for=1.1.1.1|"
		      "x-forwarded-for: 1.1.1.1, 10.9.9.9, 10.0.0.2, 10.0.0.1|"
		      "via: 1.1 agentproxyd|x-request-id: a.b_c-9|");
	assert_true(slice_eq(result.client_ip, SLICE("1.1.1.1")));
	assert_true(slice_eq(result.request_id, SLICE("a.b_c-9")));
}

static void test_request_id(void **state)
{
	static const char *const bad[] = {
		"X-Request-Id: a b|", "X-Request-Id: |", "X-Request-Id: a\"|",
		"X-Request-Id: a|X-Request-Id: b|", "X-Request-Id: \xc3\xa4|",
	};
	char text[512], id[130];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(text, sizeof(text), "GET / HTTP/1.1|Host: h|%s|",
			 bad[i]);
		assert_true(forward("10.0.0.1", 0, text));
		assert_true(slice_eq(result.request_id, SLICE(ID)));
	}
	memset(id, 'x', 129);
	id[129] = '\0';
	assert_false(forward_request_id_valid(slice_str(id)));
	assert_true(forward_request_id_valid(slice_of(id, 128)));
	assert_false(forward_request_id_valid(SLICE("")));
}

static void test_client(void **state)
{
	/* From a peer that is not trusted it is anybody's word. */
	check_client("192.0.2.7", "X-Forwarded-For: 1.1.1.1|", "192.0.2.7",
		     4711);
	check_client("10.0.0.1", "", "10.0.0.1", 4711);
	check_client("10.0.0.1", "X-Forwarded-For: 1.1.1.1|", "1.1.1.1", 0);
	/* The right-most that is no proxy, for the left is the client's. */
	check_client("10.0.0.1", "X-Forwarded-For: 9.9.9.9, 1.1.1.1, 10.1.1.1|",
		     "1.1.1.1", 0);
	check_client("10.0.0.1", "X-Forwarded-For: 9.9.9.9|"
		     "X-Forwarded-For: 2.2.2.2|", "2.2.2.2", 0);
	check_client("10.0.0.1", "X-Forwarded-For: 10.3.3.3,10.2.2.2|",
		     "10.3.3.3", 0);
	check_client("fd00::1", "X-Forwarded-For: 2001:DB8:0::1|",
		     "2001:db8::1", 0);
	check_client("10.0.0.1", "X-Forwarded-For: ::ffff:10.1.1.1, fd00::2|",
		     "10.1.1.1", 0);
	/* What cannot be read stops the walk. */
	check_client("10.0.0.1", "X-Forwarded-For: 1.1.1.1, x, 10.2.2.2|",
		     "10.2.2.2", 0);
	check_client("10.0.0.1", "X-Forwarded-For: 1.1.1.1, |", "1.1.1.1", 0);
	check_client("10.0.0.1", "X-Forwarded-For: 1.1.1.1, ,,10.2.2.2|",
		     "1.1.1.1", 0);
	check_client("10.0.0.1", "X-Forwarded-For: 1.1.1.1:80|", "10.0.0.1",
		     4711);
	check_client("10.0.0.1", "X-Forwarded-For: unknown|", "10.0.0.1", 4711);
	check_client("10.0.0.1", "X-Forwarded-For: |", "10.0.0.1", 4711);
	check_client("unix", "X-Forwarded-For: 1.1.1.1|", "unix", 0);
}

static void test_bodies(void **state)
{
	static const char text[] = "POST / HTTP/1.1|Host: h|Range: bytes=0-|"
		"Expect: 100-continue|Content-Length: 3||";

	assert_true(forward("192.0.2.7", 0, text));
	check("Host: h|Range: bytes=0-|Expect: 100-continue|" OURS("h"));
	assert_true(out.expect_continue);
	assert_false(result.range_removed || result.expect_removed);
	assert_true(forward("192.0.2.7", 1, text));
	check("Host: h|Range: bytes=0-|" OURS("h"));
	assert_false(out.expect_continue);
	assert_true(result.expect_removed);
	assert_true(forward("192.0.2.7", 2, text));
	check("Host: h|Expect: 100-continue|" OURS("h"));
	assert_true(result.range_removed);
	assert_int_equal(out.framing, HTTP_BODY_LENGTH);
	assert_int_equal(out.content_length, 3);
}

static void check_upgrade(int route, const char *line, const char *want)
{
	char text[512];

	snprintf(text, sizeof(text), "GET / HTTP/1.1|Host: h|"
		 "Connection: upgrade|Upgrade: %s||", line);
	assert_true(forward("192.0.2.7", route, text));
	assert_int_equal(out.upgrade.n, strlen(want));
	if (out.upgrade.n)
		assert_memory_equal(out.upgrade.p, want, out.upgrade.n);
}

static void test_upgrade(void **state)
{
	check_upgrade(0, "websocket", "websocket");
	check_upgrade(0, "WebSocket", "WebSocket");
	check_upgrade(0, "websocket/13", "websocket/13");
	check_upgrade(0, "h2c", "");
	check_upgrade(0, "h2c, websocket", "websocket");
	check_upgrade(0, "websocket,h2c,x", "websocket");
	check_upgrade(3, "x,h2c,websocket , x/2", "x, websocket, x/2");
	check_upgrade(3, "a,x,x,x,x,x", "x, x, x, x, x");
	check_upgrade(4, "websocket", "");
	check_upgrade(-1, "websocket", "");
	/* Its agents get bodies, so nothing goes past them. */
	check_upgrade(1, "websocket", "");
	check_upgrade(2, "websocket", "");
}

static bool always_fail(size_t bytes)
{
	return true;
}

static void test_no_memory(void **state)
{
	bool ok = true;

	mem_fault = always_fail;
	for (int i = 0; ok && i < 1000; i++)
		ok = forward("192.0.2.7", 0, "GET / HTTP/1.1|Host: h||");
	mem_fault = NULL;
	assert_false(ok);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_plain), T(test_old), T(test_owned), T(test_untrusted),
		T(test_trusted), T(test_request_id), T(test_client),
		T(test_bodies), T(test_upgrade), T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
