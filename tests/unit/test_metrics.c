/* The registry, histograms and the Prometheus page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/head.h"
#include "report/metrics.h"
#include "upstream/upstream.h"

static const struct metrics_process process = {
	.version = "9.8.7", .start_time_s = 1234, .config_generation = 5,
	.reloads_ok = 4, .reloads_refused = 3, .config_snapshots_live = 2,
};

static char *print(struct metrics *m)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	metrics_print(m, &process, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *p = text; (p = strstr(p, line)); p++)
		if ((p == text || p[-1] == '\n') && p[n] == '\n')
			return true;
	return false;
}

#define assert_line(text, line)						\
	do {								\
		if (!has_line(text, line))				\
			fail_msg("no line: %s", line);			\
	} while (0)

static void test_histogram_bounds(void **state)
{
	static const uint64_t bounds[] = {
		10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000,
		50000, 100000, 250000, 500000, 1000000, 2500000, 10000000,
		30000000,
	};
	struct histogram h;

	for (unsigned i = 0; i < ARRAY_LEN(bounds); i++) {
		memset(&h, 0, sizeof(h));
		histogram_add(&h, bounds[i]);
		assert_int_equal(counter_read(&h.bucket[i]), 1);
		histogram_add(&h, bounds[i] + 1);
		assert_int_equal(counter_read(&h.bucket[i]), 1);
		assert_int_equal(counter_read(&h.bucket[i + 1]), 1);
		assert_int_equal(counter_read(&h.sum_us), 2 * bounds[i] + 1);
	}
	memset(&h, 0, sizeof(h));
	histogram_add(&h, 0);
	histogram_add(&h, UINT64_MAX);
	assert_int_equal(counter_read(&h.bucket[0]), 1);
	assert_int_equal(counter_read(&h.bucket[HISTOGRAM_BUCKETS - 1]), 1);
}

static void test_sets_are_counted(void **state)
{
	struct metrics *m = metrics_new(2);
	struct metrics_set *a, *b;
	struct route_metrics *r;
	char *text;

	assert_non_null(m);
	a = metrics_set_get(m, METRICS_ROUTE, "r", "");
	b = metrics_set_get(m, METRICS_ROUTE, "r", "");
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, metrics_set_get(m, METRICS_ROUTE, "q", ""));
	assert_ptr_not_equal(a, metrics_set_get(m, METRICS_UPSTREAM, "r", ""));
	r = metrics_set_local(a, 0);
	counter_add(&r->requests[CODE_2XX], 3);
	r = metrics_set_local(a, 1);
	counter_add(&r->requests[CODE_2XX], 4);
	metrics_set_put(m, b);
	text = print(m);
	assert_line(text, "agentproxyd_requests_total"
		    "{route=\"r\",code_class=\"2xx\"} 7");
	free(text);
	metrics_set_put(m, a);
	text = print(m);
	assert_null(strstr(text, "route=\"r\""));
	free(text);
	metrics_free(m);
}

static void test_parts_share_no_cache_line(void **state)
{
	struct metrics *m = metrics_new(3);
	struct metrics_set *s = metrics_set_get(m, METRICS_SERVER, "u", "s");

	for (unsigned w = 0; w < 3; w++) {
		assert_int_equal((uintptr_t)metrics_worker(m, w) % CACHE_LINE,
				 0);
		assert_int_equal((uintptr_t)metrics_set_local(s, w) %
				 CACHE_LINE, 0);
	}
	metrics_set_put(m, s);
	metrics_free(m);
}

static void test_all_series_from_the_start(void **state)
{
	static const char *const lines[] = {
		"agentproxyd_build_info{version=\"9.8.7\"} 1",
		"agentproxyd_start_time_seconds 1234",
		"agentproxyd_workers 2",
		"agentproxyd_config_generation 5",
		"agentproxyd_config_reloads_total{result=\"ok\"} 4",
		"agentproxyd_config_reloads_total{result=\"refused\"} 3",
		"agentproxyd_config_snapshots_live 2",
		"agentproxyd_held_bytes 77",
		"agentproxyd_connections{listener=\"l\"} 0",
		"agentproxyd_connections_total{listener=\"l\"} 0",
		"agentproxyd_connections_refused_total"
		"{listener=\"l\",reason=\"limit\"} 0",
		"agentproxyd_exchanges_in_flight 0",
		"agentproxyd_requests_total{route=\"r\",code_class=\"none\"} 0",
		"agentproxyd_requests_total{route=\"r\",code_class=\"5xx\"} 0",
		"agentproxyd_ended_total{by=\"shutdown\"} 0",
		"agentproxyd_bad_requests_total{reason=\"ambiguous_path\"} 0",
		"agentproxyd_bad_requests_total{reason=\"bad_line\"} 0",
		"agentproxyd_request_bytes_total 0",
		"agentproxyd_response_bytes_total 0",
		"agentproxyd_request_seconds_bucket{le=\"0.00001\"} 0",
		"agentproxyd_request_seconds_bucket{le=\"+Inf\"} 0",
		"agentproxyd_request_seconds_sum 0.000000",
		"agentproxyd_request_seconds_count 0",
		"agentproxyd_loop_lag_seconds_count 0",
		"agentproxyd_upstream_requests_total"
		"{upstream=\"u\",server=\"127.0.0.1:80\"} 0",
		"agentproxyd_upstream_errors_total"
		"{upstream=\"u\",reason=\"refused\"} 0",
		"agentproxyd_upstream_retries_total{upstream=\"u\"} 0",
		"agentproxyd_upstream_connections"
		"{upstream=\"u\",state=\"active\"} 0",
		"agentproxyd_upstream_connections"
		"{upstream=\"u\",state=\"idle\"} 0",
		"agentproxyd_agent_events_total"
		"{agent=\"a\",event=\"configure\"} 0",
		"agentproxyd_agent_decisions_total{agent=\"a\","
		"event=\"response_chunk\",decision=\"challenge\"} 0",
		"agentproxyd_agent_failures_total"
		"{agent=\"a\",cause=\"connect\"} 0",
		"agentproxyd_agent_bypass_total"
		"{agent=\"a\",cause=\"budget\"} 0",
		"agentproxyd_agent_denied_total"
		"{agent=\"a\",cause=\"too_large\"} 0",
		"agentproxyd_agent_abandoned_total{agent=\"a\"} 0",
		"agentproxyd_agent_late_replies_total{agent=\"a\"} 0",
		"agentproxyd_agent_transcoded_total{agent=\"a\"} 0",
		"agentproxyd_agent_ops_dropped_total{agent=\"a\"} 0",
		"agentproxyd_agent_links{agent=\"a\",state=\"up\"} 0",
		"agentproxyd_agent_links{agent=\"a\",state=\"stalled\"} 0",
		"agentproxyd_agent_reconnects_total{agent=\"a\"} 0",
		"agentproxyd_agent_registered_total{agent=\"a\"} 0",
		"agentproxyd_agent_registrations_total{result=\"ok\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"malformed\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"not_accepted\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"dialect\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"too_many\"} 0",
		"agentproxyd_agent_registrations_total{result=\"late\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"crowded\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"overload\"} 0",
		"agentproxyd_agent_registrations_total"
		"{result=\"not_ready\"} 0",
		"agentproxyd_agent_in_flight{agent=\"a\"} 0",
		"agentproxyd_agent_breaker_open{agent=\"a\"} 0",
		"agentproxyd_agent_seconds_bucket"
		"{agent=\"a\",event=\"request_head\",le=\"0.000025\"} 0",
		"agentproxyd_agent_queue_seconds_count{agent=\"a\"} 0",
	};
	struct metrics *m = metrics_new(2);
	char *text;

	counter_add(&metrics_worker(m, 1)->held_bytes, 77);
	assert_non_null(metrics_set_get(m, METRICS_LISTENER, "l", ""));
	assert_non_null(metrics_set_get(m, METRICS_ROUTE, "r", ""));
	assert_non_null(metrics_set_get(m, METRICS_UPSTREAM, "u", ""));
	assert_non_null(metrics_set_get(m, METRICS_SERVER, "u",
					"127.0.0.1:80"));
	assert_non_null(metrics_set_get(m, METRICS_AGENT, "a", ""));
	text = print(m);
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++)
		assert_line(text, lines[i]);
	assert_null(strstr(text, "cause=\"\""));
	assert_null(strstr(text, "(null)"));
	free(text);
	metrics_free(m);
}

/* Every sample belongs to the family whose TYPE was told last, each family is
 * told once, and a value is a number. */
static void test_page_is_well_formed(void **state)
{
	struct metrics *m = metrics_new(1);
	char *text, *line, *rest = NULL, family[80] = "";
	char seen[8192] = " ", key[96];

	for (unsigned k = 0; k < METRICS_KIND_N; k++) {
		assert_non_null(metrics_set_get(m, k, "x", "y"));
		assert_non_null(metrics_set_get(m, k, "z", "y"));
	}
	text = print(m);
	for (line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *end;

		if (strncmp(line, "# HELP ", 7) == 0) {
			assert_int_equal(sscanf(line + 7, "%79s", family), 1);
			snprintf(key, sizeof(key), " %s ", family);
			assert_null(strstr(seen, key));
			strcat(strcat(seen, family), " ");
			assert_true(strlen(line) > 8 + strlen(family));
			continue;
		}
		if (strncmp(line, "# TYPE ", 7) == 0) {
			assert_int_equal(strncmp(line + 7, family,
						 strlen(family)), 0);
			continue;
		}
		assert_int_equal(strncmp(line, family, strlen(family)), 0);
		end = strrchr(line, ' ');
		assert_non_null(end);
		strtod(end + 1, &end);
		assert_int_equal(*end, '\0');
	}
	free(text);
	metrics_free(m);
}

static void test_histogram_is_cumulative(void **state)
{
	struct metrics *m = metrics_new(2);
	char *text;

	histogram_add(&metrics_worker(m, 0)->request_us, 7);
	histogram_add(&metrics_worker(m, 1)->request_us, 20);
	histogram_add(&metrics_worker(m, 1)->request_us, 2000001);
	text = print(m);
	assert_line(text,
		    "agentproxyd_request_seconds_bucket{le=\"0.00001\"} 1");
	assert_line(text,
		    "agentproxyd_request_seconds_bucket{le=\"0.000025\"} 2");
	assert_line(text, "agentproxyd_request_seconds_bucket{le=\"1\"} 2");
	assert_line(text, "agentproxyd_request_seconds_bucket{le=\"2.5\"} 3");
	assert_line(text, "agentproxyd_request_seconds_bucket{le=\"+Inf\"} 3");
	assert_line(text, "agentproxyd_request_seconds_sum 2.000028");
	assert_line(text, "agentproxyd_request_seconds_count 3");
	free(text);
	metrics_free(m);
}

static void test_gauges_and_labels(void **state)
{
	struct metrics *m = metrics_new(2);
	struct metrics_set *s =
		metrics_set_get(m, METRICS_LISTENER, "a\"b\\c\nd", "");
	struct listener_metrics *l = metrics_set_local(s, 0);
	char *text;

	/* Up on one worker, down on another. */
	counter_add(&l->connections, 5);
	l = metrics_set_local(s, 1);
	counter_dec(&l->connections);
	text = print(m);
	assert_line(text, "agentproxyd_connections"
		    "{listener=\"a\\\"b\\\\c\\nd\"} 4");
	free(text);
	counter_add(&l->connections, (uint64_t)-10);
	text = print(m);
	assert_line(text, "agentproxyd_connections"
		    "{listener=\"a\\\"b\\\\c\\nd\"} 0");
	free(text);
	metrics_free(m);
}

/* report/ may not see these rooms, so it has names of its own. */
static void test_names_agree(void **state)
{
	for (unsigned i = HTTP_PARSE_MORE + 1; i < HTTP_PARSE_N; i++)
		assert_string_equal(metrics_bad_names[METRICS_BAD_PARSE_FIRST +
						      i], http_parse_names[i]);
	assert_true((int)HTTP_PARSE_N <= (int)METRICS_BAD_AMBIGUOUS_PATH);
	for (unsigned i = UPSTREAM_OK + 1; i < UPSTREAM_ERROR_N; i++)
		assert_string_equal(metrics_upstream_names[i],
				    upstream_error_names[i]);
	assert_true(UPSTREAM_ERROR_N <= METRICS_UPSTREAM_ERRORS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histogram_bounds),
		cmocka_unit_test(test_sets_are_counted),
		cmocka_unit_test(test_parts_share_no_cache_line),
		cmocka_unit_test(test_all_series_from_the_start),
		cmocka_unit_test(test_page_is_well_formed),
		cmocka_unit_test(test_histogram_is_cumulative),
		cmocka_unit_test(test_gauges_and_labels),
		cmocka_unit_test(test_names_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
