/* What agents say unasked, and what comes of it. */
#include "agent_fixture.h"

static enum agent_state state_of(struct world *w, char reason[HEALTH_TEXT])
{
	return agent_state(w->agent, w->loop->now_us, reason);
}

static void expect_state(struct world *w, enum agent_state state)
{
	char reason[HEALTH_TEXT];

	until(w, state_of(w, reason) == state);
}

static void test_unhealthy(void **state)
{
	struct world *w = *state;
	char reason[HEALTH_TEXT];
	struct ask a;

	start_up(w);
	warm_up(w);
	peer_send(last_peer(w), FRAME_HEALTH,
		  "{\"state\":\"unhealthy\",\"message\":\"no \\\"db\\\"\"}");
	expect_state(w, AGENT_UNHEALTHY);
	state_of(w, reason);
	assert_string_equal(reason, "the agent says so: no _db_");
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
	peer_send(last_peer(w), FRAME_HEALTH, "{\"state\":1}");
	expect_state(w, AGENT_HEALTHY);
	warm_up(w);
}

/* Running exchanges go on; a link that is lost forgets it. */
static void test_unhealthy_running(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	peer_send(last_peer(w), FRAME_HEALTH, "{\"state\":4}");
	expect_state(w, AGENT_UNHEALTHY);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	peer_close(last_peer(w));
	until(w, a.session.lost);
	ask_end(&a);
	until(w, agent_links_up(w->agent, 0) == 1);
	expect_state(w, AGENT_HEALTHY);
}

static void test_unhealthy_until(void **state)
{
	struct world *w = *state;
	char text[128];

	start_up(w);
	warm_up(w);
	snprintf(text, sizeof(text), "{\"state\":4,\"valid_until_ms\":%llu}",
		 (unsigned long long)(w->loop->wall_us / 1000 + 60));
	peer_send(last_peer(w), FRAME_HEALTH, text);
	expect_state(w, AGENT_UNHEALTHY);
	expect_state(w, AGENT_HEALTHY);
	warm_up(w);
}

/* It may have asked for more time; not for more than the exchange has left. */
static void test_degraded_has_more_time(void **state)
{
	struct world *w = *state;
	uint64_t since;
	struct ask a;

	start_up(w);
	warm_up(w);
	peer_send(last_peer(w), FRAME_HEALTH,
		  "{\"state\":{\"status\":\"degraded\","
		  "\"timeout_multiplier\":2.6}}");
	expect_state(w, AGENT_DEGRADED);
	for (int limited = 0; limited < 2; limited++) {
		ask_init(w, &a);
		a.call.most_us = limited ? 60 * MS : 0;
		since = w->loop->now_us;
		ask_head(&a, 40 * MS);
		until(w, a.answered);
		assert_int_equal(a.reply.cause, limited ? CAUSE_BUDGET :
							  CAUSE_TIMEOUT);
		assert_in_range(w->loop->now_us - since,
				limited ? 60 * MS : 110 * MS, 1000 * MS);
		assert_int_equal(a.call.timeout_ms, limited ? 60 : 110);
		ask_end(&a);
	}
	/* That of the budget is nobody's to stretch. */
	ask_init(w, &a);
	a.ev = (struct event){
		.type = EVENT_REQUEST_HEAD, .meta = &a.meta,
		.head = { .method = SLICE("GET"), .uri = SLICE("/") },
	};
	agent_ask(&a.call, &a.session, &a.ev, 40 * MS, CAUSE_BUDGET, on_reply);
	until(w, a.answered);
	assert_int_equal(a.call.timeout_ms, 40);
	ask_end(&a);
}

/* One that is degraded gets about half of what another gets. */
static void test_degraded_weighs_less(void **state)
{
	struct world *w = *state;
	struct fake *other;
	int got[2] = { 0, 0 };
	struct frame f;
	struct ask a;

	w->config.balance = AGENT_BALANCE_ROUND_ROBIN;
	other = add_instance(w);
	start_up(w);
	peer_send(w->fake.peers[0], FRAME_HEALTH, "{\"state\":2}");
	expect_state(w, AGENT_DEGRADED);
	for (int i = 0; i < 12; i++) {
		struct peer *p = w->fake.peers[0];
		int k = 0;

		ask_init(w, &a);
		ask_head(&a, 2000 * MS);
		assert_int_equal(a.call.state, CALL_SENT);
		if (a.call.link->instance != &w->agent->local[0]->instances[0])
			k = 1;
		got[k]++;
		p = k ? other->peers[0] : p;
		next_event(w, p, &f);
		answer(p, f.id);
		until(w, a.answered);
		ask_end(&a);
		next_event(w, p, &f);
		answer(p, f.id);
		turn_for(w, 2 * MS);
	}
	assert_int_equal(got[0], 4);
	assert_int_equal(got[1], 8);
}

/* No new exchanges while others of the group live. */
static void test_draining(void **state)
{
	struct world *w = *state;
	struct fake *other = add_instance(w);
	struct frame f;
	struct ask a;

	start_up(w);
	peer_send(w->fake.peers[0], FRAME_HEALTH, "{\"state\":3}");
	expect_state(w, AGENT_DEGRADED);
	for (int i = 0; i < 4; i++) {
		ask_init(w, &a);
		ask_head(&a, 2000 * MS);
		next_event(w, other->peers[0], &f);
		answer(other->peers[0], f.id);
		until(w, a.answered);
		ask_end(&a);
		next_event(w, other->peers[0], &f);
		answer(other->peers[0], f.id);
		turn_for(w, 2 * MS);
	}
	peer_send(other->peers[0], FRAME_HEALTH, "{\"state\":3}");
	expect_state(w, AGENT_DRAINING);
	/* None is left: better than nobody. */
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	assert_int_equal(a.call.state, CALL_SENT);
	agent_withdraw(&a.call, WIRE_CANCEL_CLIENT);
	ask_end(&a);
}

static void test_pause(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a, b;

	start(w);
	w->agent->tuning.pause_max_us = 150 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, &a, 1, 4000 * MS);
	peer_send(last_peer(w), FRAME_FLOW_CONTROL, "{\"action\":1}");
	until(w, link_of(w)->paused);
	/* The running one goes on, a new one waits. */
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	ask_init(w, &b);
	ask_head(&b, 4000 * MS);
	turn_for(w, 20 * MS);
	assert_int_equal(b.call.state, CALL_QUEUED);
	peer_send(last_peer(w), FRAME_FLOW_CONTROL, "{\"action\":\"resume\"}");
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, b.answered);
	end_and_answer(w, &b);
	/* It does not last for ever. */
	peer_send(last_peer(w), FRAME_FLOW_CONTROL, "{\"action\":1}");
	until(w, link_of(w)->paused);
	ask_init(w, &b);
	ask_head(&b, 4000 * MS);
	turn_for(w, 20 * MS);
	assert_int_equal(b.call.state, CALL_QUEUED);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, b.answered);
	end_and_answer(w, &b);
	end_and_answer(w, &a);
}

/* One exchange alone: its chunks wait, nobody else's. */
static void test_pause_exchange(void **state)
{
	struct world *w = *state;
	char text[160];
	struct frame f;
	struct ask a[2];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 2, 4000 * MS);
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[1]));
	until(w, a[1].answered);
	snprintf(text, sizeof(text), "{\"correlation_id\":\"%s\",\"action\":"
		 "{\"type\":\"pause\"}}", id_of(&a[0]));
	peer_send(last_peer(w), FRAME_FLOW_CONTROL, text);
	until(w, link_of(w)->n_held == 1);
	ask_chunk(&a[0], 0, 4000 * MS);
	ask_chunk(&a[1], 0, 4000 * MS);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[1]);
	answer(last_peer(w), f.id);
	until(w, a[1].answered == 2);
	assert_int_equal(a[0].call.state, CALL_QUEUED);
	snprintf(text, sizeof(text), "{\"correlation_id\":\"%s\",\"action\":"
		 "{\"type\":\"resume\"}}", id_of(&a[0]));
	peer_send(last_peer(w), FRAME_FLOW_CONTROL, text);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[0]);
	answer(last_peer(w), f.id);
	until(w, a[0].answered == 2);
	end_and_answer(w, &a[0]);
	end_and_answer(w, &a[1]);
	assert_int_equal(link_of(w)->n_held, 0);
}

static char *print_reports(struct world *w)
{
	struct agent *agents[] = { w->agent };
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	agent_print_reports(agents, 1, out);
	fclose(out);
	return text;
}

static void test_metrics(void **state)
{
	struct world *w = *state;
	char *text;

	start_up(w);
	peer_send(last_peer(w), FRAME_METRICS,
		  "{\"agent_id\":\"x\",\"timestamp_ms\":1,\"interval_ms\":1,"
		  "\"counters\":[{\"name\":\"hits\",\"labels\":{\"r\":\"1\"},"
		  "\"value\":5}],\"gauges\":[{\"name\":\"heat\",\"labels\":{},"
		  "\"value\":1.5}],\"histograms\":[]}");
	until(w, w->agent->n_reports == 2);
	text = print_reports(w);
	assert_string_equal(text,
		"# TYPE agentproxyd_reported_hits counter\n"
		"agentproxyd_reported_hits{agent=\"waf\",r=\"1\"} 5\n"
		"# TYPE agentproxyd_reported_heat gauge\n"
		"agentproxyd_reported_heat{agent=\"waf\"} 1.5\n");
	free(text);
}

static void test_metrics_bounded(void **state)
{
	struct world *w = *state;
	char text[4096];

	start_up(w);
	for (int k = 0; k < 20; k++) {
		int n = snprintf(text, sizeof(text), "{\"counters\":[");

		for (int i = 0; i < 30; i++)
			n += snprintf(text + n, sizeof(text) - (size_t)n,
				      "%s{\"name\":\"c_%d_%d\",\"labels\":{},"
				      "\"value\":1}", i ? "," : "", k, i);
		snprintf(text + n, sizeof(text) - (size_t)n, "]}");
		peer_send(last_peer(w), FRAME_METRICS, text);
		turn_for(w, MS);
	}
	warm_up(w);
	assert_int_equal(w->agent->n_reports, 256);
}

static void test_garbage(void **state)
{
	static const char *const texts[] = {
		"", "{", "\x92", "{\"state\":77}", "[1,2]", "\xff\xff",
		"{\"counters\":7}", "{\"action\":", "null",
	};
	struct world *w = *state;
	unsigned n = 0;

	start_up(w);
	for (uint8_t type = FRAME_HEALTH; type <= FRAME_FLOW_CONTROL; type++)
		for (size_t i = 0; i < ARRAY_LEN(texts); i++, n++)
			peer_send(last_peer(w), type, texts[i]);
	warm_up(w);
	/* A map without what we know is an empty report of metrics. */
	assert_int_equal(link_of(w)->n_garbage, n - 1);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
	expect_state(w, AGENT_HEALTHY);
}

/* It asks for its config: at most once in a while. */
static void test_asks_for_config(void **state)
{
	static const char asks[] = "{\"update_type\":{\"type\":"
		"\"request_reload\"},\"request_id\":\"u\",\"timestamp_ms\":1}";
	struct world *w = *state;
	struct frame f;
	char id[33];

	w->config.config_json = "{\"a\":1}";
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && last_peer(w)->shook);
	for (int i = 0; i < 2; i++) {
		until(w, peer_any_frame(last_peer(w), &f));
		assert_int_equal(f.type, FRAME_CONFIGURE);
		snprintf(id, sizeof(id), "%.32s",
			 fifo_head(&link_of(w)->fifo)->id);
		answer(last_peer(w), id);
		until(w, peer_any_frame(last_peer(w), &f));
		assert_int_equal(f.type, FRAME_PING);
		until(w, link_of(w)->fifo.n == 0);
		assert_int_equal(agent_links_up(w->agent, 0), 1);
		peer_send(last_peer(w), FRAME_CONFIG_UPDATE, asks);
		peer_send(last_peer(w), FRAME_CONFIG_UPDATE, asks);
	}
	turn_for(w, 10 * MS);
	assert_int_equal(last_peer(w)->n, 0);
	peer_send(last_peer(w), FRAME_CONFIG_UPDATE, "{\"update_type\":{"
		  "\"type\":\"config_error\",\"error\":\"x\"}}");
	expect_state(w, AGENT_DEGRADED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_unhealthy),
		T(test_unhealthy_running),
		T(test_unhealthy_until),
		T(test_degraded_has_more_time),
		T(test_degraded_weighs_less),
		T(test_draining),
		T(test_pause),
		T(test_pause_exchange),
		T(test_metrics),
		T(test_metrics_bounded),
		T(test_garbage),
		T(test_asks_for_config),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
