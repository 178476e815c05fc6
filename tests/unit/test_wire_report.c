/* What agents say unasked, in all forms, and garbage. */
#include "wire_fixture.h"

#include "wire/report.h"

#define CONTROL	"tests/vectors/v2-control/"

static const struct wire_format json = { .encoding = WIRE_JSON };
static const struct wire_format msgpack = { .encoding = WIRE_MSGPACK };

/* In memory of exactly its size. */
static char *load(const char *name, size_t *n, const struct wire_format **f)
{
	char path[256];
	char *buf;

	snprintf(path, sizeof(path), CONTROL "%s", name);
	buf = read_vector(path, n);
	if (!buf)
		fail_msg("no vector %s", path);
	*f = strstr(name, ".json") ? &json : &msgpack;
	return buf;
}

static void health(const char *name, enum agent_state state)
{
	const struct wire_format *f;
	struct wire_health h;
	struct fixture x;
	size_t n;
	char *buf = load(name, &n, &f);

	fixture_init(&x);
	assert_true(wire_decode_health(buf, n, f, &x.arena, &h));
	assert_int_equal(h.state, state);
	if (state == AGENT_DEGRADED)
		assert_int_equal(h.timeout_percent, 200);
	fixture_fini(&x);
	free(buf);
}

static void test_health(void **state)
{
	health("health_status_int.json", AGENT_DRAINING);
	health("health_status_tagged.json", AGENT_DEGRADED);
	health("health_status_tagged.named.hex", AGENT_DEGRADED);
	health("health_degraded.array.hex", AGENT_DEGRADED);
	health("health_healthy.array.hex", AGENT_HEALTHY);
}

static bool health_text(struct fixture *x, const char *text,
			struct wire_health *h)
{
	size_t n = strlen(text);
	char *buf = arena_alloc(&x->arena, n + 1);

	memcpy(buf, text, n);
	return wire_decode_health(buf, n, &json, &x->arena, h);
}

static void test_health_forms(void **state)
{
	struct wire_health h;
	struct fixture x;

	fixture_init(&x);
	assert_true(health_text(&x, "{\"state\":\"unhealthy\",\"message\":"
				"\"no db\",\"valid_until_ms\":5}", &h));
	assert_int_equal(h.state, AGENT_UNHEALTHY);
	assert_true(slice_eq(h.text, SLICE("no db")));
	assert_true(h.valid_until_ms == 5);
	assert_true(health_text(&x, "{\"state\":{\"status\":\"unhealthy\","
				"\"reason\":\"r\",\"recoverable\":true}}",
				&h));
	assert_true(slice_eq(h.text, SLICE("r")));
	assert_true(health_text(&x, "{\"state\":4}", &h));
	assert_int_equal(h.state, AGENT_UNHEALTHY);
	/* More time: at least as much as now, at most four times. */
	assert_true(health_text(&x, "{\"state\":{\"status\":\"degraded\","
				"\"timeout_multiplier\":1.3}}", &h));
	assert_int_equal(h.timeout_percent, 150);
	assert_true(health_text(&x, "{\"state\":[\"degraded\",[],1e9]}", &h));
	assert_int_equal(h.timeout_percent, 400);
	assert_true(health_text(&x, "{\"state\":[\"degraded\",[],-1]}", &h));
	assert_int_equal(h.timeout_percent, 100);
	assert_true(health_text(&x, "{\"state\":{\"status\":\"healthy\","
				"\"timeout_multiplier\":2}}", &h));
	assert_int_equal(h.timeout_percent, 100);
	/* Others are ignored. */
	assert_false(health_text(&x, "{\"state\":9}", &h));
	assert_false(health_text(&x, "{\"state\":\"fine\"}", &h));
	assert_false(health_text(&x, "{}", &h));
	assert_false(health_text(&x, "", &h));
	assert_false(health_text(&x, "garbage", &h));
	assert_false(health_text(&x, "{\"state\":1", &h));
	fixture_fini(&x);
}

static void flow(const char *name)
{
	const struct wire_format *f;
	struct wire_flow fl;
	struct fixture x;
	size_t n;
	char *buf = load(name, &n, &f);

	fixture_init(&x);
	assert_true(wire_decode_flow(buf, n, f, &x.arena, &fl));
	assert_true(fl.pause);
	assert_int_equal(fl.id.n, 0);
	fixture_fini(&x);
	free(buf);
}

static void test_flow(void **state)
{
	flow("flow_control_int.json");
	flow("flow_control_tagged.json");
	flow("flow_control_tagged.named.hex");
	flow("flow_pause.array.hex");
}

static void update(const char *name)
{
	const struct wire_format *f;
	struct wire_update u;
	struct fixture x;
	size_t n;
	char *buf = load(name, &n, &f);

	fixture_init(&x);
	assert_true(wire_decode_update(buf, n, f, &x.arena, &u));
	assert_int_equal(u.kind, UPDATE_RELOAD);
	fixture_fini(&x);
	free(buf);
}

static void test_update(void **state)
{
	update("config_update_request.json");
	update("config_update_request.named.hex");
}

static void note_metric(void *arg, const struct wire_metric *m)
{
	char *text = arg;
	size_t n = strlen(text);

	snprintf(text + n, 512 - n, "%.*s%s{%s}=%g\n", (int)m->name.n,
		 m->name.p, m->suffix, m->labels, m->value);
}

static void metrics(const char *name)
{
	const struct wire_format *f;
	char text[512] = "";
	struct fixture x;
	size_t n;
	char *buf = load(name, &n, &f);

	fixture_init(&x);
	assert_true(wire_decode_metrics(buf, n, f, &x.arena, note_metric,
					text));
	assert_string_equal(text, "c{}=5\nh_bucket{le=\"0.5\"}=1\n"
			    "h_bucket{le=\"+Inf\"}=2\nh_sum{}=1.5\n"
			    "h_count{}=2\n");
	fixture_fini(&x);
	free(buf);
}

static void test_metrics(void **state)
{
	metrics("metrics_report.json");
	metrics("metrics_report.named.hex");
	metrics("metrics_report.array.hex");
}

/* Names that are none and labels that would break a line are left out. */
static void test_metrics_hostile(void **state)
{
	static const char in[] = "{\"counters\":["
		"{\"name\":\"a b\",\"labels\":{},\"value\":1},"
		"{\"name\":\"ok\",\"help\":\"h\",\"labels\":{\"x\":"
		"\"a\\\"b\\n\",\"agent\":\"evil\"},\"value\":2},"
		"{\"name\":\"bad_label\",\"labels\":{\"x y\":\"1\"},"
		"\"value\":1},"
		"{\"name\":\"no_number\",\"labels\":{},\"value\":\"1\"},"
		"{\"name\":\"\",\"labels\":{},\"value\":1}],"
		"\"gauges\":null,\"what\":[{}]}";
	char text[512] = "";
	struct fixture x;
	char *buf;

	fixture_init(&x);
	buf = arena_alloc(&x.arena, sizeof(in));
	memcpy(buf, in, sizeof(in));
	assert_true(wire_decode_metrics(buf, sizeof(in) - 1, &json, &x.arena,
					note_metric, text));
	assert_string_equal(text, "ok{x=\"a\\\"b_\"}=2\n");
	fixture_fini(&x);
}

/* Every cut and every changed byte of every vector: no crash, no over-read. */
static void test_cut_and_changed(void **state)
{
	static const char *const names[] = {
		"health_status_tagged.json", "health_degraded.array.hex",
		"flow_control_tagged.json", "flow_pause.array.hex",
		"metrics_report.json", "metrics_report.array.hex",
		"metrics_report.named.hex", "config_update_request.json",
	};
	struct fixture x;

	fixture_init(&x);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct wire_format *f;
		size_t n;
		char *whole = load(names[i], &n, &f);

		for (size_t k = 0; k < 4 * n; k++) {
			size_t len = k < n ? k : n;
			char *buf = malloc(len ? len : 1), text[512] = "";
			struct wire_health h;
			struct wire_flow fl;
			struct wire_update u;
			bool good = false;

			for (int r = 0; r < 4; r++) {
				memcpy(buf, whole, len);
				if (k >= n)
					buf[k % n] ^= (char)(0x15 << k / n);
				if (r == 0)
					good |= wire_decode_health(buf, len, f,
							&x.arena, &h);
				else if (r == 1)
					good |= wire_decode_flow(buf, len, f,
							&x.arena, &fl);
				else if (r == 2)
					good |= wire_decode_update(buf, len,
							f, &x.arena, &u);
				else
					good |= wire_decode_metrics(buf, len,
							f, &x.arena,
							note_metric, text);
				assert_false(k < n && good);
			}
			free(buf);
		}
		free(whole);
	}
	fixture_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_health_forms),
		cmocka_unit_test(test_flow),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_metrics_hostile),
		cmocka_unit_test(test_cut_and_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
