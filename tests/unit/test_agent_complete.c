/* Request-completes that wait for company. */
#include "agent_fixture.h"

#define LONG	(60 * 1000 * MS)

static void start_waiting(struct world *w, uint64_t wait_us)
{
	w->config.complete_wait_us = wait_us;
	start_up(w);
	/* Until a reply has shown an id a link has a depth of one. */
	until(w, link_of(w)->state == LINK_UP);
	link_of(w)->depth = link_of(w)->full_depth;
}

/* n exchanges whose heads are answered and that are not over. */
static void open_many(struct world *w, struct ask *a, int n)
{
	ask_many(w, a, n, 2000 * MS);
	for (int i = 0; i < n; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[n - 1].answered);
}

static void expect_complete(struct world *w, const struct ask *a)
{
	struct frame f;

	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	expect_id(&f, a);
	answer(last_peer(w), f.id);
}

static void test_goes_before_the_next_event(void **state)
{
	struct world *w = *state;
	struct ask a[3], b;
	struct frame f;

	start_waiting(w, LONG);
	open_many(w, a, 3);
	ask_end(&a[1]);
	ask_end(&a[0]);
	turn_for(w, 5 * MS);
	assert_int_equal(last_peer(w)->n, 0);
	assert_int_equal(link_of(w)->fifo.n, 0);
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 0);
	ask_init(w, &b);
	ask_head(&b, 2000 * MS);
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 2);
	expect_complete(w, &a[1]);
	expect_complete(w, &a[0]);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &b);
	answer(last_peer(w), f.id);
	until(w, b.answered);
	/* A chunk of another one is company, too. */
	ask_end(&b);
	ask_chunk(&a[2], 0, 2000 * MS);
	expect_complete(w, &b);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	answer(last_peer(w), f.id);
	until(w, a[2].answered == 2);
	ask_end(&a[2]);
	assert_int_equal(w->fake.n_peers, 1);
}

static void test_what_it_says(void **state)
{
	struct world *w = *state;
	struct event_complete c = {
		.status = 503, .duration_ms = 12345,
		.request_body_size = 1ull << 33, .response_body_size = 77,
		.upstream_attempts = 3,
	};
	struct frame now, later;
	struct ask a[2];

	start_waiting(w, LONG);
	open_many(w, a, 2);
	agent_session_end(&a[0].session, &c);
	w->agent->config.complete_wait_us = 0;
	link_of(w)->lazy_max = 0;
	memcpy(a[1].meta.correlation_id, a[0].meta.correlation_id,
	       EVENT_ID_LEN);
	agent_session_end(&a[1].session, &c);
	next_event(w, last_peer(w), &later);
	answer(last_peer(w), later.id);
	next_event(w, last_peer(w), &now);
	answer(last_peer(w), now.id);
	assert_int_equal(now.type, FRAME_COMPLETE);
	assert_memory_equal(&now, &later, offsetof(struct frame, text));
	assert_string_equal(now.text, later.text);
	until(w, link_of(w)->fifo.n == 0);
}

static void test_only_so_many(void **state)
{
	struct world *w = *state;
	struct ask a[LAZY_MAX + 2];

	start_waiting(w, LONG);
	open_many(w, a, LAZY_MAX + 2);
	for (unsigned i = 0; i < LAZY_MAX; i++)
		ask_end(&a[i]);
	turn_for(w, 2 * MS);
	assert_int_equal(last_peer(w)->n, 0);
	ask_end(&a[LAZY_MAX]);
	for (unsigned i = 0; i <= LAZY_MAX; i++)
		expect_complete(w, &a[i]);
	until(w, link_of(w)->fifo.n == 0);
	ask_end(&a[LAZY_MAX + 1]);
	assert_int_equal(link_of(w)->n_lazy, 1);
}

/* Half of the depth is the others'. */
static void test_not_on_a_busy_link(void **state)
{
	struct world *w = *state;
	struct ask a[4];

	w->config.depth = 4;
	start_waiting(w, LONG);
	open_many(w, a, 2);
	ask_many(w, a + 2, 2, 2000 * MS);
	ask_end(&a[0]);
	expect_complete(w, &a[0]);
	for (int i = 2; i < 4; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[3].answered);
	for (int i = 1; i < 4; i++)
		ask_end(&a[i]);
	until(w, link_of(w)->fifo.n || link_of(w)->n_lazy);
}

static void test_no_company(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_waiting(w, 20 * MS);
	open_many(w, &a, 1);
	ask_end(&a);
	assert_int_equal(link_of(w)->n_lazy, 1);
	expect_complete(w, &a);
	until(w, link_of(w)->fifo.n == 0);
	until(w, !deadline_running(&link_of(w)->check));
}

static void test_not_at_all(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_waiting(w, 0);
	open_many(w, &a, 1);
	ask_end(&a);
	expect_complete(w, &a);
	until(w, link_of(w)->fifo.n == 0);
}

/* An agent that shall go, or wants a pause, may wait for what is over. */
static void test_agent_going(void **state)
{
	static const char *const says[] = {
		"{\"action\":1}", "{\"state\":3}",
	};
	static const uint8_t types[] = { FRAME_FLOW_CONTROL, FRAME_HEALTH };
	struct world *w = *state;
	struct ask a[4];

	start_waiting(w, LONG);
	open_many(w, a, 4);
	for (int i = 0; i < 2; i++) {
		ask_end(&a[2 * i]);
		assert_int_equal(link_of(w)->n_lazy, 1);
		peer_send(last_peer(w), types[i], says[i]);
		expect_complete(w, &a[2 * i]);
		/* And from then on. */
		ask_end(&a[2 * i + 1]);
		expect_complete(w, &a[2 * i + 1]);
		until(w, link_of(w)->fifo.n == 0);
		peer_send(last_peer(w), FRAME_FLOW_CONTROL,
			  "{\"action\":\"resume\"}");
		until(w, !link_of(w)->paused);
	}
}

static void test_link_closed(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_waiting(w, LONG);
	open_many(w, &a, 1);
	ask_end(&a);
	assert_int_equal(link_of(w)->n_lazy, 1);
	agent_local_close(w->agent, w->loop);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	expect_id(&f, &a);
	agent_local_start(w->agent, w->loop);
}

static void test_link_lost(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_waiting(w, LONG);
	open_many(w, &a, 1);
	ask_end(&a);
	peer_close(last_peer(w));
	until(w, w->fake.n_peers == 2 && link_of(w)->state == LINK_UP);
	assert_int_equal(link_of(w)->n_lazy, 0);
	open_many(w, &a, 1);
	ask_end(&a);
}

/* The one that was used last is asked again. */
static void test_same_link_again(void **state)
{
	struct world *w = *state;
	struct agent_local *l;

	w->config.connections = w->config.max_connections = 4;
	start_waiting(w, LONG);
	l = agent_local(w->agent, w->loop);
	for (int i = 0; i < 6; i++) {
		struct link *link = local_pick_link(l);

		assert_ptr_equal(local_pick_link(l), link);
		/* A busy one is not, nor one that is paused, or spare. */
		link->fifo.n = 1;
		assert_ptr_not_equal(local_pick_link(l), link);
		link->fifo.n = 0;
		l->again = link;
		link->paused = true;
		assert_ptr_not_equal(local_pick_link(l), link);
		link->paused = false;
		l->again = link;
		link->depth = 0;
		assert_ptr_not_equal(local_pick_link(l), link);
		link->depth = link->full_depth;
	}
	l->again = link_of(w);
	peer_close(w->fake.peers[0]);
	until(w, agent_links_up(w->agent, 0) == 3);
	assert_ptr_not_equal(local_pick_link(l), NULL);
	assert_true(l->again->state == LINK_UP);
}

static bool no_memory;

static bool fault(size_t bytes)
{
	return no_memory;
}

/* Nothing is lost: it goes with the event after. */
static void test_no_memory(void **state)
{
	struct world *w = *state;
	struct ask a, b, c;
	struct frame f;

	start_waiting(w, LONG);
	open_many(w, &a, 1);
	ask_end(&a);
	ask_init(w, &b);
	fifo_free(&link_of(w)->fifo);
	mem_fault = fault;
	no_memory = true;
	ask_head(&b, 2000 * MS);
	no_memory = false;
	mem_fault = NULL;
	until(w, b.answered);
	assert_int_equal(b.reply.cause, CAUSE_OVERLOAD);
	ask_init(w, &c);
	ask_head(&c, 2000 * MS);
	expect_complete(w, &a);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &c);
	answer(last_peer(w), f.id);
	until(w, c.answered);
	ask_end(&c);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_goes_before_the_next_event),
		T(test_what_it_says),
		T(test_only_so_many),
		T(test_not_on_a_busy_link),
		T(test_no_company),
		T(test_not_at_all),
		T(test_agent_going),
		T(test_link_closed),
		T(test_link_lost),
		T(test_same_link_again),
		T(test_no_memory),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
