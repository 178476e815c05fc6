/* The breaker, states, and who is asked: balance, fail-over, fair queues. */
#include "agent_fixture.h"

/* ---- the breaker ------------------------------------------------------- */

static void start_breaker(struct world *w, uint64_t open_us)
{
	start(w);
	w->agent->tuning.breaker_open_us = open_us;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == w->config.connections);
	warm_up(w);
}

/* One exchange that is answered by `decision`, or by nothing. */
static enum cause one(struct world *w, const char *decision)
{
	struct frame f;
	struct ask a;

	ask_init(w, &a);
	ask_head(&a, decision ? 2000 * MS : 10 * MS);
	if (a.call.state == CALL_SENT) {
		next_event(w, last_peer(w), &f);
		assert_int_equal(f.type, FRAME_REQUEST_HEAD);
		if (decision)
			answer_as(last_peer(w), f.id, decision);
	}
	until(w, a.answered);
	if (!decision && a.call.sent_us)
		answer(last_peer(w), id_of(&a));
	ask_end(&a);
	if (a.session.head_given) {
		next_event(w, last_peer(w), &f);
		answer(last_peer(w), f.id);
		until(w, link_of(w)->fifo.n == 0);
	}
	return a.reply.cause;
}

#define ALLOW	"\"allow\""
#define BLOCK	"{\"block\":{\"status\":403}}"
#define NOTHING	"17"		/* no decision at all */

static void open_it(struct world *w)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(one(w, NOTHING), CAUSE_PROTOCOL);
	assert_int_equal(breaker_state(w->agent), BREAKER_OPEN);
}

static void expect_state(struct world *w, const char *state,
			 const char *breaker, const char *reason)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	json_t *j;

	agent_print_json(w->agent, out);
	fclose(out);
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "state")),
			    state);
	assert_string_equal(json_string_value(json_object_get(j, "breaker")),
			    breaker);
	assert_non_null(strstr(json_string_value(json_object_get(j, "reason")),
			       reason));
	json_decref(j);
	free(text);
}

static void test_five_failures_open(void **state)
{
	struct world *w = *state;

	start_breaker(w, 30000 * MS);
	for (int i = 0; i < 4; i++)
		assert_int_equal(one(w, i % 2 ? NOTHING : NULL),
				 i % 2 ? CAUSE_PROTOCOL : CAUSE_TIMEOUT);
	/* A block is an answer: the row starts anew. */
	assert_int_equal(one(w, BLOCK), CAUSE_NONE);
	for (int i = 0; i < 4; i++)
		assert_int_equal(one(w, NOTHING), CAUSE_PROTOCOL);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
	expect_state(w, "healthy", "closed", "");
	assert_int_equal(one(w, NOTHING), CAUSE_PROTOCOL);
	assert_int_equal(breaker_state(w->agent), BREAKER_OPEN);
	assert_int_equal(counter_read(&w->m->breaker_open), 1);
	expect_state(w, "unhealthy", "open", "breaker");
	/* At once, and nothing is sent. */
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	assert_int_equal(counter_read(&w->m->failures[CAUSE_UNAVAILABLE]), 1);
	assert_int_equal(last_peer(w)->n, 0);
	w->agent->tuning.breaker_open_us = 1;
}

static void test_half_open(void **state)
{
	struct world *w = *state;
	struct ask a, b;
	struct frame f;

	start_breaker(w, 50 * MS);
	open_it(w);
	turn_for(w, 60 * MS);
	/* One trial at a time. */
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	assert_int_equal(a.call.state, CALL_SENT);
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	expect_state(w, "unhealthy", "half_open", "breaker");
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	/* What the same exchange asks next goes through and is no trial. */
	ask_chunk(&a, 0, 2000 * MS);
	assert_int_equal(a.call.state, CALL_SENT);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	end_and_answer(w, &a);
	/* The second good one closes it. */
	assert_int_equal(one(w, BLOCK), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
	assert_int_equal(counter_read(&w->m->breaker_open), 0);
	ask_many(w, &b, 1, 2000 * MS);
	answer(last_peer(w), id_of(&b));
	until(w, b.answered);
	end_and_answer(w, &b);
}

/* An agent that is back says so by what it still owed. One that is always late
 * is believed once, and then not for a while, each time longer. */
static void test_sign_of_life(void **state)
{
	struct world *w = *state;
	struct agent_breaker *b;

	start_breaker(w, 30000 * MS);
	b = &w->agent->breaker;
	w->agent->tuning.breaker_deaf_us = 200 * MS;
	for (int i = 0; i < 5; i++)
		assert_int_equal(one(w, NULL), CAUSE_TIMEOUT);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
	for (int i = 0; i < 5; i++)
		assert_int_equal(one(w, NULL), CAUSE_TIMEOUT);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	assert_int_equal(one(w, NULL), CAUSE_TIMEOUT);
	assert_int_equal(breaker_state(w->agent), BREAKER_OPEN);
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	until(w, w->loop->now_us >= b->deaf_until_us);
	assert_int_equal(one(w, NULL), CAUSE_TIMEOUT);
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	assert_int_equal(b->deaf_us, 400 * MS);
	until(w, w->loop->now_us >= b->deaf_until_us);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
}

static void test_bad_trial(void **state)
{
	struct world *w = *state;

	start_breaker(w, 50 * MS);
	open_it(w);
	turn_for(w, 60 * MS);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	assert_int_equal(one(w, NOTHING), CAUSE_PROTOCOL);
	assert_int_equal(breaker_state(w->agent), BREAKER_OPEN);
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	/* It starts again from nothing: two good ones. */
	turn_for(w, 60 * MS);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
}

/* A client that leaves says nothing of the agent, and the next may try. */
static void test_trial_withdrawn(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_breaker(w, 50 * MS);
	for (int i = 0; i < 8; i++) {
		ask_many(w, &a, 1, 2000 * MS);
		agent_withdraw(&a.call, WIRE_CANCEL_CLIENT);
		answer(last_peer(w), id_of(&a));
		end_and_answer(w, &a);
		until(w, link_of(w)->fifo.n == 0);
		until(w, !peer_any_frame(last_peer(w), &f));
	}
	assert_int_equal(breaker_failures(w->agent), 0);
	open_it(w);
	turn_for(w, 60 * MS);
	ask_many(w, &a, 1, 2000 * MS);
	assert_true(a.call.trial);
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	agent_withdraw(&a.call, WIRE_CANCEL_CLIENT);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	answer(last_peer(w), id_of(&a));
	end_and_answer(w, &a);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
}

/* A trial that no link took says nothing of the agent: nothing would come back
 * of it, and the breaker would stay open for long. */
static void test_trial_unsent(void **state)
{
	struct world *w = *state;
	unsigned depth;
	struct ask a;

	start_breaker(w, 50 * MS);
	open_it(w);
	turn_for(w, 60 * MS);
	depth = link_of(w)->depth;
	link_of(w)->depth = 0;
	ask_init(w, &a);
	ask_head(&a, 10 * MS);
	assert_true(a.call.trial);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_int_equal(a.call.sent_us, 0);
	assert_int_equal(breaker_state(w->agent), BREAKER_HALF_OPEN);
	ask_end(&a);
	link_of(w)->depth = depth;
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
}

/* A lease ends by itself. */
static void test_trial_forgotten(void **state)
{
	struct world *w = *state;

	start_breaker(w, 20 * MS);
	open_it(w);
	turn_for(w, 30 * MS);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	w->agent->breaker.lease_until_us = w->loop->now_us + 20 * MS;
	assert_int_equal(one(w, ALLOW), CAUSE_UNAVAILABLE);
	turn_for(w, 30 * MS);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
}

/* A process that dies is one failure, however much was outstanding; and that
 * it is gone is none of the breaker's business. */
static void test_death_is_one_failure(void **state)
{
	struct world *w = *state;
	struct ask a[8], b[8];

	start_breaker(w, 30000 * MS);
	ask_many(w, a, 8, 2000 * MS);
	fake_unlisten(&w->fake);
	peer_close(last_peer(w));
	until(w, a[7].answered);
	assert_int_equal(breaker_failures(w->agent), 1);
	until(w, agent_local(w->agent, w->loop)->grace_until_us <
	      w->loop->now_us);
	for (int i = 0; i < 8; i++) {
		ask_end(&a[i]);
		ask_init(w, &b[i]);
		ask_head(&b[i], 2000 * MS);
		until(w, b[i].answered);
		assert_int_equal(b[i].reply.cause, CAUSE_CONNECT);
	}
	assert_int_equal(breaker_failures(w->agent), 1);
	assert_int_equal(breaker_state(w->agent), BREAKER_CLOSED);
	fake_listen(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_int_equal(one(w, ALLOW), CAUSE_NONE);
	assert_int_equal(breaker_failures(w->agent), 0);
}

/* A reload replaces the agent while its breaker is open: the gauge goes back
 * (teardown looks). */
static void test_gauge_when_closed_open(void **state)
{
	struct world *w = *state;

	start_breaker(w, 30000 * MS);
	open_it(w);
	assert_int_equal(counter_read(&w->m->breaker_open), 1);
}

/* ---- states ------------------------------------------------------------ */

static void test_degraded_by_answers(void **state)
{
	struct world *w = *state;

	start(w);
	w->agent->tuning.health_us = 20 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	expect_state(w, "healthy", "closed", "");
	for (int i = 0; i < 3; i++)
		one(w, NOTHING);
	turn_for(w, 40 * MS);
	expect_state(w, "degraded", "closed", "in a row");
	one(w, ALLOW);
	turn_for(w, 40 * MS);
	expect_state(w, "degraded", "closed", "fails");
	for (int i = 0; i < 12; i++) {
		one(w, ALLOW);
		turn_for(w, 25 * MS);
	}
	expect_state(w, "healthy", "closed", "");
}

static void start_judged(struct world *w, bool pings)
{
	w->config.timeouts.head_us = 100 * MS;
	start(w);
	w->agent->tuning.health_us = 20 * MS;
	if (pings) {
		w->agent->tuning.ping_interval_us = 20 * MS;
		w->agent->tuning.ping_timeout_us = 40 * MS;
	}
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void test_degraded_by_latency(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_judged(w, false);
	warm_up(w);
	/* Slower and slower, the average of what came lately. */
	for (int i = 0; i < 6; i++) {
		ask_init(w, &a);
		ask_head(&a, 2000 * MS);
		next_event(w, last_peer(w), &f);
		turn_for(w, 80 * MS);
		answer(last_peer(w), f.id);
		until(w, a.answered);
		end_and_answer(w, &a);
		turn_for(w, 25 * MS);
	}
	expect_state(w, "degraded", "closed", "half their time-out");
	for (int i = 0; i < 12; i++) {
		one(w, ALLOW);
		turn_for(w, 25 * MS);
	}
	expect_state(w, "healthy", "closed", "");
}

static void test_degraded_by_pings(void **state)
{
	struct world *w = *state;

	start_judged(w, true);
	/* Nobody answers the idle ping: the link is replaced. */
	until(w, w->fake.n_peers == 2 && agent_links_up(w->agent, 0) == 1);
	until(w, w->agent->local[0]->health.state == HEALTH_PINGS);
	expect_state(w, "degraded", "closed", "ping");
}

/* ---- several instances ------------------------------------------------- */

static unsigned heads_of(struct fake *f)
{
	unsigned n = 0;
	struct frame fr;

	for (int i = 0; i < f->n_peers; i++) {
		while (peer_any_frame(f->peers[i], &fr)) {
			if (fr.type == FRAME_CANCEL || fr.type == FRAME_PING)
				continue;
			n += fr.type == FRAME_REQUEST_HEAD;
			answer(f->peers[i], fr.id);
		}
	}
	return n;
}

static void count_heads(struct world *w, unsigned n, unsigned got[3])
{
	struct ask a;

	memset(got, 0, 3 * sizeof(*got));
	for (unsigned i = 0; i < n; i++) {
		ask_init(w, &a);
		ask_head(&a, 2000 * MS);
		while (!a.answered) {
			world_turn(w);
			got[0] += heads_of(&w->fake);
			for (unsigned k = 0; k < w->n_more; k++)
				got[k + 1] += heads_of(&w->more[k]);
		}
		assert_int_equal(a.reply.cause, CAUSE_NONE);
		ask_end(&a);
		for (unsigned k = 0; k < 3; k++) {
			world_turn(w);
			heads_of(&w->fake);
			heads_of(&w->more[0]);
			heads_of(&w->more[1]);
		}
	}
}

static void start_three(struct world *w, enum config_agent_balance balance)
{
	unsigned got[3];

	w->config.balance = balance;
	add_instance(w);
	add_instance(w);
	start_up(w);
	count_heads(w, 6, got);		/* opens the depth of each link */
}

static void test_round_robin(void **state)
{
	struct world *w = *state;
	unsigned got[3];

	start_three(w, AGENT_BALANCE_ROUND_ROBIN);
	count_heads(w, 12, got);
	for (int i = 0; i < 3; i++)
		assert_int_equal(got[i], 4);
}

static void test_random(void **state)
{
	struct world *w = *state;
	unsigned got[3];

	start_three(w, AGENT_BALANCE_RANDOM);
	count_heads(w, 60, got);
	for (int i = 0; i < 3; i++)
		assert_in_range(got[i], 5, 40);
}

/* An instance that dies is left out at once; it comes back by itself. */
static void test_fail_over(void **state)
{
	struct world *w = *state;
	unsigned got[3];

	start_three(w, AGENT_BALANCE_ROUND_ROBIN);
	fake_unlisten(&w->more[0]);
	peer_close(w->more[0].peers[0]);
	until(w, agent_links_up(w->agent, 0) == 2);
	count_heads(w, 6, got);
	assert_int_equal(got[1], 0);
	assert_int_equal(got[0] + got[2], 6);
	expect_state(w, "healthy", "closed", "");
	fake_listen(&w->more[0]);
	until(w, agent_links_up(w->agent, 0) == 3);
	count_heads(w, 9, got);
	assert_true(got[1] >= 2);
}

/* ---- fair between routes ----------------------------------------------- */

static void on_route(struct ask *a, const char *name)
{
	a->meta.route_id = slice_str(name);
	ask_head(a, 4000 * MS);
}

static void test_fair_turns(void **state)
{
	struct world *w = *state;
	static struct ask flood[20], quiet[2];
	struct frame f;
	int before = 0;

	w->config.depth = 1;
	start_up(w);
	for (int i = 0; i < 20; i++) {
		ask_init(w, &flood[i]);
		on_route(&flood[i], "flood");
	}
	for (int i = 0; i < 2; i++) {
		ask_init(w, &quiet[i]);
		on_route(&quiet[i], "quiet");
	}
	/* Each route gets every other turn. */
	while (!quiet[1].answered) {
		next_event(w, last_peer(w), &f);
		answer(last_peer(w), f.id);
		before++;
		world_turn(w);
		assert_true(before < 8);
	}
	for (int i = 0; i < 20; i++)
		agent_withdraw(&flood[i].call, WIRE_CANCEL_CLIENT);
	until(w, !peer_any_frame(last_peer(w), &f));
}

static void test_fair_queue_full(void **state)
{
	struct world *w = *state;
	static struct ask flood[12], quiet[6];

	w->config.depth = 1;
	w->config.queue = 8;
	start_up(w);
	for (int i = 0; i < 12; i++) {
		ask_init(w, &flood[i]);
		on_route(&flood[i], "flood");
	}
	turn_for(w, 3 * MS);
	assert_int_equal(counter_read(&w->m->failures[CAUSE_OVERLOAD]), 3);
	for (int i = 0; i < 6; i++) {
		ask_init(w, &quiet[i]);
		on_route(&quiet[i], "quiet");
	}
	turn_for(w, 3 * MS);
	/* Half of the queue is theirs. */
	for (int i = 0; i < 6; i++)
		assert_int_equal(quiet[i].answered, i >= 4);
	assert_int_equal(counter_read(&w->m->failures[CAUSE_OVERLOAD]), 9);
	assert_int_equal(counter_read(&w->m->queued), 8);
	for (int i = 0; i < 12; i++)
		agent_withdraw(&flood[i].call, WIRE_CANCEL_CLIENT);
	for (int i = 0; i < 6; i++)
		agent_withdraw(&quiet[i].call, WIRE_CANCEL_CLIENT);
	check_law(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_five_failures_open),
		T(test_half_open),
		T(test_sign_of_life),
		T(test_bad_trial),
		T(test_trial_withdrawn),
		T(test_trial_unsent),
		T(test_trial_forgotten),
		T(test_death_is_one_failure),
		T(test_gauge_when_closed_open),
		T(test_degraded_by_answers),
		T(test_degraded_by_latency),
		T(test_degraded_by_pings),
		T(test_round_robin),
		T(test_random),
		T(test_fail_over),
		T(test_fair_turns),
		T(test_fair_queue_full),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
