/* The admin port's pages: status, and that JSON is JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/rcu.h"
#include "config/load.h"
#include "exchange/snapshot.h"

static const char yaml[] =
	"listeners: [{ name: l, address: '127.0.0.1:8080' }]\n"
	"upstreams: { app: { servers: ['127.0.0.1:9000'] } }\n"
	"agents:\n"
	"  waf: { socket: /nonexistent/waf.sock, on_failure: %s }\n"
	"routes: [{ %s upstream: app }]\n";

static struct metrics *metrics;

static struct snapshot *make(const char *on_failure, const char *route)
{
	char path[] = "/tmp/test_admin.XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	struct config *config;
	struct snapshot *s;

	assert_non_null(f);
	fprintf(f, yaml, on_failure, route);
	fclose(f);
	config = config_load(path, stderr);
	unlink(path);
	assert_non_null(config);
	metrics = metrics_new(2);
	s = snapshot_new(config, 7, NULL, 2, metrics);
	assert_non_null(s);
	return s;
}

static void unmake(struct snapshot *s)
{
	snapshot_free(s);
	rcu_drain();
	metrics_free(metrics);
}

static struct admin_view view_of(struct snapshot *s)
{
	return (struct admin_view){
		.running = true, .n_workers = 2, .generation = s->generation,
		.loaded_wall_us = 1767323045678901, .config = s->config,
		.agents = s->agents, .upstreams = s->upstreams,
		.metrics = metrics, .process.version = "1.2.3",
	};
}

static char text[1 << 17];
static enum admin_type type;

static unsigned get(const char *path, const struct admin_view *v)
{
	FILE *out = fmemopen(text, sizeof(text), "w");
	unsigned status;

	assert_non_null(out);
	status = admin_page(path, v, out, &type);
	fclose(out);
	return status;
}

static json_t *get_json(const char *path, const struct admin_view *v,
			unsigned want)
{
	json_t *j;

	assert_int_equal(get(path, v), want);
	assert_int_equal(type, ADMIN_JSON);
	j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	return j;
}

static void check_ready(struct admin_view v, unsigned status, size_t reasons)
{
	json_t *j = get_json("/readyz", &v, status);

	assert_true(json_is_boolean(json_object_get(j, "ready")));
	assert_int_equal(json_is_true(json_object_get(j, "ready")),
			 status == 200);
	assert_int_equal(json_is_true(json_object_get(j, "draining")),
			 v.draining);
	assert_int_equal(json_array_size(json_object_get(j, "reasons")),
			 reasons);
	json_decref(j);
}

static void test_readyz(void **state)
{
	static const struct {
		const char *on_failure, *route;
		bool needed;
	} cases[] = {
		{ "deny", "agents: [waf],", true },
		{ "allow", "agents: [waf],", false },
		/* One cause is enough. */
		{ "{ connect: allow, timeout: allow, closed: allow, "
		  "protocol: allow, unreadable: allow, overload: allow, "
		  "unavailable: allow, budget: deny }",
		  "agents: [waf],", true },
		/* What no route names is needed by nobody. */
		{ "deny", "", false },
		/* The route has the last word. */
		{ "deny", "agents: [{ name: waf, on_failure: allow }],",
		  false },
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct snapshot *s = make(cases[i].on_failure, cases[i].route);
		struct admin_view v = view_of(s);

		check_ready(v, cases[i].needed ? 503 : 200, cases[i].needed);
		v.draining = true;
		check_ready(v, 503, cases[i].needed + 1u);
		v.draining = v.running = false;
		check_ready(v, 503, cases[i].needed + 1u);
		unmake(s);
	}
}

static void test_pages(void **state)
{
	struct snapshot *s = make("deny", "agents: [waf],");
	struct admin_view v = view_of(s);
	json_t *j;

	assert_int_equal(get("/livez", &v), 200);
	assert_string_equal(text, "ok");
	assert_int_equal(get("/", &v), 200);
	assert_int_equal(type, ADMIN_HTML);
	assert_int_equal(strncmp(text, "<!DOCTYPE html>\n", 16), 0);
	assert_non_null(strstr(text, "</html>\n"));
	assert_non_null(strstr(text, "/metrics"));
	assert_int_equal(get("/metrics", &v), 200);
	assert_int_equal(type, ADMIN_METRICS);
	assert_non_null(strstr(text, "\nagentproxyd_agent_in_flight"
				     "{agent=\"waf\"} 0\n"));
	j = get_json("/agents", &v, 200);
	assert_int_equal(json_integer_value(json_object_get(j, "generation")),
			 7);
	assert_int_equal(json_array_size(json_object_get(j, "agents")), 1);
	json_decref(j);
	j = get_json("/upstreams", &v, 200);
	assert_int_equal(json_array_size(json_object_get(j, "upstreams")), 1);
	json_decref(j);
	j = get_json("/config", &v, 200);
	assert_string_equal(json_string_value(json_object_get(j, "loaded_at")),
			    "2026-01-02T03:04:05.678Z");
	assert_true(json_is_string(json_object_get(j, "file")));
	assert_true(json_is_object(json_object_get(j, "config")));
	json_decref(j);
	assert_int_equal(get("/nope", &v), 404);
	assert_int_equal(get("/livez/", &v), 404);
	assert_int_equal(get("", &v), 404);
	unmake(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readyz),
		cmocka_unit_test(test_pages),
	};
	int failed;

	rcu_worker_online();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rcu_worker_offline();
	return failed;
}
