/* agentproxyd -t --explain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/load.h"
#include "daemon/explain.h"

static const char yaml[] =
	"listeners: [{ name: l, address: '127.0.0.1:8080' }]\n"
	"upstreams: { app: { servers: ['127.0.0.1:9000'] } }\n"
	"agents:\n"
	"  auth: { socket: /a.sock, on_failure: deny, timeout: 20ms }\n"
	"  waf:\n"
	"    socket: /w.sock\n"
	"    on_failure: { timeout: allow }\n"
	"    timeout: { head: 100ms, body: 1s, budget: 3s }\n"
	"    deny_status: 418\n"
	"routes:\n"
	"  - name: api\n"
	"    match: { host: a.example, path_prefix: /v1/, methods: [POST] }\n"
	"    agents:\n"
	"      - auth\n"
	"      - { name: waf, request_body: hold, response_body: stream }\n"
	"    budget: 2500ms\n"
	"    upstream: app\n"
	"  - name: beta\n"
	"    match: { methods: [GET], headers: { X-Beta: 'yes' } }\n"
	"    redirect: { url: 'https://beta.example{target}' }\n"
	"  - { name: gone, match: { path: /gone }, respond: { status: 410 } }\n"
	"  - { name: get, match: { methods: [GET] }, upstream: app,\n"
	"      request_headers: { set: { X-A: b }, remove: [X-C] } }\n";

static char *said, *complained;

static bool ask(const char *request)
{
	struct config *config = config_load_text("x", slice_str(yaml), stderr);
	size_t n;
	FILE *out, *err;
	bool ok;

	assert_non_null(config);
	free(said);
	free(complained);
	out = open_memstream(&said, &n);
	err = open_memstream(&complained, &n);
	ok = explain(config, request, out, err);
	fclose(out);
	fclose(err);
	config_free(config);
	return ok;
}

#define SAYS(text) assert_non_null(strstr(said, text))

static void test_whole(void **state)
{
	assert_true(ask("POST https://A.example:443/x/../v1/%61?q#f"));
	SAYS("request: POST, host a.example, path /v1/a\n");
	SAYS("route: api (1 of 4)\n");
	SAYS("  1. auth\n     asked: request_head\n"
	     "     timeout: head 20ms body 20ms budget 30s\n");
	SAYS("       timeout      deny, 504\n");
	SAYS("  2. waf\n     asked: request_head, request_body (hold), "
	     "response_head, response_body (stream)\n");
	SAYS("     holds: at most 1MiB (max_body), more: block\n");
	SAYS("       connect      deny, 418; response_chunk: cut off\n");
	SAYS("       timeout      allow, counted as bypass\n");
	SAYS("       too_large    deny, 418\n");
	/* The route's budget is less than the sum. */
	SAYS("worst added delay: in all 2500ms\n");
	SAYS("upstream: app\n");
	SAYS("listener: l at 127.0.0.1:8080\n");
}

static void test_other_answers(void **state)
{
	assert_true(ask("GET /"));
	SAYS("route: get (4 of 4)\n");
	SAYS("  request headers: remove");
	SAYS("agents: none\n");
	assert_true(ask("POST http://b.example"));
	SAYS("answer: 404");
	assert_true(ask("POST http://a.example/v1%2fx"));
	SAYS("answer: 400, the path has several readings");
	assert_true(ask("GET /%00"));
	SAYS("answer: 400, the path cannot be read");
	assert_true(ask("GET http://c.example/\nX-Beta: yes\nAccept: */*"));
	SAYS("route: beta (2 of 4)\n");
	SAYS("redirect to https://beta.example{target}\n");
	assert_true(ask("GET /gone"));
	SAYS("answer: 410, fixed, 0 bytes\n");
	assert_true(ask("GET http://c.example/\nHost: d.example"));
	SAYS("answer: 400, ");
	assert_true(ask("CONNECT a:443"));
	SAYS("answer: 405");
}

static void test_no_request(void **state)
{
	static const char *const bad[] = {
		"", "GET", "/", "G(T /", "GET a.example/x", " /", "GET ?x",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(ask(bad[i]));
		assert_non_null(strstr(complained, "is no request"));
	}
}

static int finish(void **state)
{
	free(said);
	free(complained);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_other_answers),
		cmocka_unit_test(test_no_request),
	};

	return cmocka_run_group_tests(tests, NULL, finish);
}
