/* Calls: giving up, losing links, queues, callbacks, and all of it at random. */
#include "agent_fixture.h"

/* ---- giving up --------------------------------------------------------- */

static void test_timeout_and_late_reply(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_init(w, &a);
	ask_head(&a, 20 * MS);
	next_event(w, last_peer(w), &f);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_true(a.reply.us >= 20 * MS);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CANCEL);
	expect_id(&f, &a);
	assert_int_equal(counter_read(&w->m->links_stalled), 1);
	/* The next event of the same exchange does not take the late one. */
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	answer_as(last_peer(w), f.id, "{\"block\":{\"status\":403}}");
	until(w, counter_read(&w->m->late_replies) == 1);
	assert_int_equal(a.answered, 1);
	assert_int_equal(counter_read(&w->m->links_stalled), 0);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_ALLOW);
	end_and_answer(w, &a);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

/* The answer is in the socket when the loop comes late to the deadline. */
static void test_answer_in_time_though_loop_late(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_init(w, &a);
	ask_head(&a, 20 * MS);
	next_event(w, last_peer(w), &f);
	usleep(40 * MS);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	end_and_answer(w, &a);
}

static void test_too_many_tombstones(void **state)
{
	struct world *w = *state;
	struct ask a[10];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 10, 2000 * MS);
	for (int i = 0; i < 8; i++)
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
	assert_int_equal(agent_links_up(w->agent, 0), 1);
	agent_withdraw(&a[8].call, WIRE_CANCEL_CLIENT);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	assert_int_equal(a[9].answered, 0);
	until(w, a[9].answered);
	assert_int_equal(a[9].reply.cause, CAUSE_CLOSED);
	assert_int_equal(counter_read(&w->m->abandoned), 9);
	for (int i = 0; i < 10; i++)
		ask_end(&a[i]);
}

static void test_old_tombstone(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.stall_min_us = 50 * MS;
	w->agent->tuning.check_us = 10 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, &a, 1, 20 * MS);
	until(w, a.answered);
	assert_false(p->eof);
	until(w, p->eof);
	assert_true(a.session.lost);
	ask_end(&a);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void test_withdraw(void **state)
{
	struct world *w = *state;
	struct ask a[3];
	struct frame f;

	start_up(w);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	agent_withdraw(&a[0].call, WIRE_CANCEL_BLOCKED);
	agent_withdraw(&a[0].call, WIRE_CANCEL_BLOCKED);
	check_law(w);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_CANCEL);
	ask_end(&a[0]);
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[0]));	/* to the complete */
	until(w, a[1].answered);
	assert_int_equal(a[0].answered, 0);
	end_and_answer(w, &a[1]);
	/* One that has failed but was not told yet. */
	ask_init(w, &a[2]);
	ask_chunk(&a[2], 0, 2000 * MS);
	assert_int_equal(a[2].call.state, CALL_FAILED);
	agent_withdraw(&a[2].call, WIRE_CANCEL_CLIENT);
	turn_for(w, 3 * MS);
	assert_int_equal(a[2].answered, 0);
	assert_int_equal(counter_read(&w->m->abandoned), 1);
	assert_int_equal(counter_read(&w->m->late_replies), 1);
	ask_end(&a[2]);
}

/* ---- losing links ------------------------------------------------------ */

static void test_link_loss(void **state)
{
	struct world *w = *state;
	struct ask a[6];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 5, 2000 * MS);
	fake_unlisten(&w->fake);
	answer(last_peer(w), id_of(&a[0]));
	peer_close(last_peer(w));
	until(w, a[4].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_NONE);
	for (int i = 1; i < 5; i++) {
		assert_int_equal(a[i].answered, 1);
		assert_int_equal(a[i].reply.cause, CAUSE_CLOSED);
	}
	check_law(w);
	/* What the link had is lost, also for later events. */
	ask_chunk(&a[0], 0, 1000 * MS);
	assert_int_equal(a[0].answered, 1);
	until(w, a[0].answered == 2);
	assert_int_equal(a[0].reply.cause, CAUSE_CLOSED);
	/* For a moment heads wait; then there is no hope. */
	ask_init(w, &a[5]);
	ask_head(&a[5], 5000 * MS);
	until(w, agent_local(w->agent, w->loop)->grace_until_us <
	      w->loop->now_us);
	until(w, a[5].answered);
	assert_int_equal(a[5].reply.cause, CAUSE_CONNECT);
	ask_head(&a[5], 5000 * MS);
	assert_int_equal(a[5].call.state, CALL_FAILED);
	until(w, a[5].answered == 2);
	assert_int_equal(a[5].reply.cause, CAUSE_CONNECT);
	/* It comes back. */
	fake_listen(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	assert_int_equal(counter_read(&w->m->reconnects), 1);
	for (int i = 0; i < 6; i++)
		ask_end(&a[i]);
}

static void test_wait_for_first_link(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start(w);
	agent_local_start(w->agent, w->loop);
	ask_init(w, &a);
	ask_head(&a, 3000 * MS);
	turn_for(w, 50 * MS);
	assert_int_equal(a.answered, 0);
	assert_int_equal(counter_read(&w->m->queued), 1);
	fake_listen(&w->fake);
	until(w, w->fake.n_peers == 1);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_true(a.reply.queue_us >= 50 * MS);
	end_and_answer(w, &a);
}

static void test_no_link_after_start(void **state)
{
	struct world *w = *state;
	struct ask a;

	start(w);
	w->agent->tuning.start_grace_us = 30 * MS;
	agent_local_start(w->agent, w->loop);
	ask_init(w, &a);
	ask_head(&a, 3000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_CONNECT);
	assert_true(a.reply.us < 1000 * MS);
	assert_int_equal(counter_read(&w->m->unsent), 1);
	ask_end(&a);
}

static void test_queue_full(void **state)
{
	struct world *w = *state;
	struct ask a[5];
	struct frame f;

	w->config.depth = 1;
	w->config.queue = 2;
	start_up(w);
	for (int i = 0; i < 5; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], i == 2 ? 30 * MS : 3000 * MS);
	}
	assert_int_equal(a[3].answered, 0);
	until(w, a[3].answered && a[4].answered);
	assert_int_equal(a[3].reply.cause, CAUSE_OVERLOAD);
	assert_int_equal(a[4].reply.cause, CAUSE_OVERLOAD);
	until(w, a[2].answered);
	assert_int_equal(a[2].reply.cause, CAUSE_TIMEOUT);
	check_law(w);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a[0].answered);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[1]);
	answer(last_peer(w), f.id);
	until(w, a[1].answered);
	assert_int_equal(counter_read(&w->m->unsent), 3);
	for (int i = 0; i < 5; i++)
		ask_end(&a[i]);
}

static void test_max_concurrency(void **state)
{
	struct world *w = *state;
	struct ask a[2];
	struct frame f;

	w->config.max_concurrency = 1;
	start_up(w);
	warm_up(w);
	ask_init(w, &a[0]);
	ask_head(&a[0], 2000 * MS);
	next_event(w, last_peer(w), &f);
	answer(last_peer(w), f.id);
	until(w, a[0].answered);
	ask_init(w, &a[1]);
	ask_head(&a[1], 2000 * MS);
	turn_for(w, 10 * MS);
	assert_int_equal(counter_read(&w->m->queued), 1);
	end_and_answer(w, &a[0]);
	next_event(w, last_peer(w), &f);
	expect_id(&f, &a[1]);
	answer(last_peer(w), f.id);
	until(w, a[1].answered);
	end_and_answer(w, &a[1]);
}

static void test_pinned_waits(void **state)
{
	struct world *w = *state;
	struct ask a[3];
	struct frame f;

	w->config.depth = 2;
	start_up(w);
	warm_up(w);
	ask_many(w, a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a[0]));
	until(w, a[0].answered);
	ask_many(w, a + 1, 2, 2000 * MS);
	ask_chunk(&a[0], 0, 2000 * MS);
	turn_for(w, 5 * MS);
	assert_int_equal(last_peer(w)->n, 0);
	assert_int_equal(counter_read(&w->m->queued), 1);
	answer(last_peer(w), id_of(&a[1]));
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	/* Charged to the head, which is a[2] now. */
	peer_send(last_peer(w), FRAME_REPLY, "{");
	until(w, a[2].answered);
	assert_int_equal(a[2].reply.cause, CAUSE_PROTOCOL);
	answer(last_peer(w), id_of(&a[0]));
	until(w, a[0].answered == 2);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
}

static void test_unavailable(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_up(w);
	ask_init(w, &a);
	ask_chunk(&a, 0, 1000 * MS);
	assert_int_equal(a.answered, 0);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
	ask_end(&a);
}

static void test_extra_links(void **state)
{
	struct world *w = *state;
	struct ask a[4];
	struct frame f;

	w->config.depth = 2;
	w->config.max_connections = 2;
	start(w);
	w->agent->tuning.extra_idle_us = 20 * MS;
	w->agent->tuning.ping_interval_us = 20 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	for (int i = 2; i < 4; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	until(w, agent_links_up(w->agent, 0) == 2);
	next_event(w, w->fake.peers[1], &f);
	expect_id(&f, &a[2]);
	answer(w->fake.peers[1], f.id);
	next_event(w, w->fake.peers[1], &f);
	expect_id(&f, &a[3]);
	answer(w->fake.peers[1], f.id);
	answer(w->fake.peers[0], id_of(&a[0]));
	answer(w->fake.peers[0], id_of(&a[1]));
	until(w, a[0].answered && a[1].answered && a[3].answered);
	for (int i = 0; i < 4; i++) {
		ask_end(&a[i]);
		next_event(w, w->fake.peers[i / 2], &f);
		answer(w->fake.peers[i / 2], f.id);
	}
	until(w, agent_links_up(w->agent, 0) == 1);
	until(w, w->fake.peers[1]->eof);
}

/* More come at once than one more link takes: as many as they need are opened,
 * and no more, without anybody's having to wait for an answer. */
static void test_burst(void **state)
{
	struct world *w = *state;
	struct ask a[7];
	struct frame f;

	w->config.depth = 2;
	w->config.max_connections = 8;
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	for (int i = 0; i < 7; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	/* Two go at once; five wait, for three links. */
	until(w, agent_links_up(w->agent, 0) == 4);
	turn_for(w, 20 * MS);
	assert_int_equal(agent_links_up(w->agent, 0), 4);
	for (int n = 0; n < 7;) {
		for (int i = 0; i < w->fake.n_peers; i++)
			while (peer_any_frame(w->fake.peers[i], &f))
				answer(w->fake.peers[i], f.id);
		turn_for(w, 1 * MS);
		n = 0;
		for (int i = 0; i < 7; i++)
			n += a[i].answered;
	}
	for (int i = 0; i < 7; i++)
		ask_end(&a[i]);
	assert_int_equal(w->fake.n_peers, 4);
}

/* Two heads in one turn, one to each of two links, and their answers. */
static void ask_one_each(struct world *w, struct ask *a)
{
	struct frame f;

	for (int i = 0; i < 2; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	for (int i = 0; i < 2; i++) {
		next_event(w, w->fake.peers[i], &f);
		answer(w->fake.peers[i], f.id);
	}
	until(w, a[0].answered && a[1].answered);
}

static void test_least_loaded_and_stalled(void **state)
{
	struct world *w = *state;
	struct ask a[5];

	w->config.connections = w->config.max_connections = 2;
	start_up(w);
	ask_one_each(w, a);
	/* A tombstone on one: the other takes all. */
	ask_chunk(&a[0], 0, 20 * MS);
	until(w, a[0].answered == 2);
	assert_int_equal(counter_read(&w->m->links_stalled), 1);
	for (int i = 2; i < 5; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
		assert_ptr_equal(a[i].session.link, a[1].session.link);
	}
	turn_for(w, 3 * MS);
	for (int i = 0; i < 5; i++) {
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
		ask_end(&a[i]);
	}
}

static bool fifos_are_empty(const struct world *w)
{
	const struct agent_local *l = w->agent->local[0];

	for (unsigned i = 0; i < l->n_up; i++)
		if (l->up[i]->fifo.n)
			return false;
	return true;
}

/* Those of one turn go together, where none of the links is idle. */
static void test_turn_shares_a_link(void **state)
{
	struct world *w = *state;
	struct ask a[12];
	struct frame f;

	w->config.connections = w->config.max_connections = 2;
	w->config.depth = 16;
	start_up(w);
	/* Answers with ids open them. */
	ask_one_each(w, a);
	for (int i = 0; i < 2; i++) {
		ask_end(&a[i]);
		next_event(w, w->fake.peers[i], &f);
		answer(w->fake.peers[i], f.id);
	}
	until(w, fifos_are_empty(w));
	for (int i = 0; i < 12; i++) {
		if (i == 8)
			turn_for(w, 3 * MS);
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	/* Four each; then half as many more on one. */
	assert_int_equal(a[8].session.link->fifo.n, 7);
	assert_ptr_equal(a[9].session.link, a[8].session.link);
	assert_ptr_equal(a[10].session.link, a[8].session.link);
	assert_ptr_not_equal(a[11].session.link, a[8].session.link);
	turn_for(w, 3 * MS);
	for (int i = 0; i < 12; i++) {
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
		ask_end(&a[i]);
	}
}

/* ---- from inside the callback ------------------------------------------ */

static void then_ask_again(struct ask *a)
{
	if (a->answered < 3)
		ask_chunk(a, a->answered - 1, 2000 * MS);
}

static void then_end_and_withdraw(struct ask *a)
{
	ask_end(a);
	if (a->other && !a->other->answered) {
		agent_withdraw(&a->other->call, WIRE_CANCEL_CLIENT);
		ask_end(a->other);
	}
}

static void test_callback_asks(void **state)
{
	struct world *w = *state;
	struct ask a;
	struct frame f;

	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	a.then = then_ask_again;
	answer(last_peer(w), id_of(&a));
	for (int i = 0; i < 2; i++) {
		next_event(w, last_peer(w), &f);
		assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
		answer(last_peer(w), f.id);
	}
	until(w, a.answered == 3);
	end_and_answer(w, &a);
}

/* Pairs: the first that is told withdraws the other. */
static void test_callback_withdraws(void **state)
{
	struct world *w = *state;
	struct ask a[8];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 8, 2000 * MS);
	for (int i = 0; i < 8; i++) {
		a[i].then = then_end_and_withdraw;
		a[i].other = &a[i ^ 1];
	}
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[0].answered && a[2].answered);
	assert_int_equal(a[1].answered + a[3].answered, 0);
	peer_close(last_peer(w));
	until(w, a[4].answered && a[6].answered);
	turn_for(w, 3 * MS);
	assert_int_equal(a[5].answered + a[7].answered, 0);
	assert_int_equal(counter_read(&w->m->abandoned), 4);
}

static void then_close_agent(struct ask *a)
{
	ask_end(a);
	agent_local_close(a->w->agent, a->w->loop);
}

static void test_callback_closes(void **state)
{
	struct world *w = *state;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	a.then = then_close_agent;
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	turn_for(w, 3 * MS);
	ask_init(w, &a);
	ask_head(&a, 1000 * MS);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_UNAVAILABLE);
}

static void test_close_in_any_state(void **state)
{
	struct world *w = *state;

	w->config.connections = w->config.max_connections = 3;
	start(w);
	agent_local_start(w->agent, w->loop);	/* ENOENT */
	turn_for(w, 5 * MS);
	agent_local_close(w->agent, w->loop);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);	/* connecting */
	agent_local_close(w->agent, w->loop);
	world_turn(w);
	w->fake.shake = false;
	agent_local_start(w->agent, w->loop);
	turn_for(w, 5 * MS);			/* handshake */
	agent_local_close(w->agent, w->loop);
	world_turn(w);
	agent_local_start(w->agent, w->loop);
}

static void test_print(void **state)
{
	struct world *w = *state;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	json_t *j, *inst;

	start_up(w);
	agent_print_json(w->agent, out);
	fclose(out);
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "name")),
			    "waf");
	assert_string_equal(json_string_value(json_object_get(j, "state")),
			    "healthy");
	inst = json_array_get(json_object_get(j, "instances"), 0);
	assert_int_equal(json_integer_value(json_object_get(inst, "links_up")),
			 1);
	assert_string_equal(json_string_value(json_object_get(inst,
							      "encoding")),
			    speaks == SPEAKS_JSON ? "json" : "msgpack");
	assert_true(json_is_null(json_object_get(inst, "last_error")));
	json_decref(j);
	free(text);
}

/* ---- at random --------------------------------------------------------- */

static uint64_t chaos_state;

static unsigned chaos(unsigned n)
{
	chaos_state ^= chaos_state << 13;
	chaos_state ^= chaos_state >> 7;
	chaos_state ^= chaos_state << 17;
	return (unsigned)(chaos_state >> 20) % n;
}

#define CHAOS_ASKS 40

static struct ask chaos_asks[CHAOS_ASKS];
/* What each is due: answers told so far must be this, or one less while it is
 * under way. */
static unsigned chaos_asked[CHAOS_ASKS], chaos_gone[CHAOS_ASKS];

static void chaos_check(unsigned i)
{
	struct ask *a = &chaos_asks[i];
	unsigned under_way = a->call.state != CALL_IDLE;

	assert_int_equal(a->answered + chaos_gone[i] + under_way,
			 chaos_asked[i]);
}

static void chaos_client(struct world *w)
{
	unsigned i = chaos(CHAOS_ASKS);
	struct ask *a = &chaos_asks[i];

	chaos_check(i);
	if (!a->w) {
		ask_init(w, a);
		chaos_asked[i] = chaos_gone[i] = 0;
	}
	if (a->call.state != CALL_IDLE) {
		if (chaos(4))
			return;
		chaos_gone[i]++;
		agent_withdraw(&a->call, WIRE_CANCEL_CLIENT);
	} else if (chaos(4) == 0) {
		ask_end(a);
		a->w = NULL;
	} else {
		chaos_asked[i]++;
		if (a->session.head_given || chaos(20) == 0)
			ask_chunk(a, chaos(3), (1 + chaos(40)) * MS);
		else
			ask_head(a, (1 + chaos(40)) * MS);
	}
}

static void chaos_agent(struct world *w)
{
	struct peer *p = w->fake.peers[chaos((unsigned)w->fake.n_peers)];
	struct frame f;

	if (p->fd < 0 || p->eof) {
		peer_close(p);
		return;
	}
	if (!peer_any_frame(p, &f))
		return;
	switch (chaos(60)) {
	case 0:
		peer_close(p);
		return;
	case 1:
		(void)!send(p->fd, "\0\0\0\7\x20{\"dec", 10, MSG_NOSIGNAL);
		return;
	case 2:
		(void)!send(p->fd, "\0\0\0\1\x10", 5, MSG_NOSIGNAL);
		return;
	case 3:
		answer(p, "");
		return;
	case 4:
	case 5:
		return;		/* never answered */
	}
	if (f.type == FRAME_PING)
		peer_send(p, FRAME_PONG, f.text);
	else if (f.type != FRAME_CANCEL)
		answer(p, f.id);
}

static bool chaos_oom;

static bool chaos_fault(size_t bytes)
{
	return chaos_oom && chaos(5) == 0;
}

static void chaos_run(struct world *w, uint64_t seed, bool oom)
{
	chaos_state = seed;
	memset(chaos_asks, 0, sizeof(chaos_asks));
	memset(chaos_asked, 0, sizeof(chaos_asked));
	memset(chaos_gone, 0, sizeof(chaos_gone));
	w->config.connections = 2;
	w->config.max_connections = 3;
	w->config.depth = 4;
	w->config.queue = 8;
	w->config.complete = COMPLETE_AUTO;
	w->config.complete_wait_us = seed % 2 ? 10 * MS : 0;
	start(w);
	w->agent->tuning.stall_min_us = 20 * MS;
	w->agent->tuning.complete_us = 10 * MS;
	w->agent->tuning.check_us = 5 * MS;
	w->agent->tuning.extra_idle_us = 10 * MS;
	w->agent->tuning.ping_interval_us = 10 * MS;
	w->agent->tuning.ping_timeout_us = 10 * MS;
	w->agent->tuning.lost_grace_us = 5 * MS;
	w->agent->tuning.refill_us = 5 * MS;
	fake_listen(&w->fake);
	may_fail = true;
	mem_fault = chaos_fault;
	chaos_oom = oom;
	agent_local_start(w->agent, w->loop);
	chaos_oom = false;
	until(w, w->fake.n_peers > 0);
	for (int step = 0; step < 6000 && w->fake.n_peers < MAX_PEERS - 6;
	     step++) {
		chaos_oom = oom && chaos(10) == 0;
		chaos_client(w);
		chaos_oom = false;
		for (int i = 0; i < 4; i++)
			chaos_agent(w);
		if (chaos(4) == 0) {
			fake_turn(&w->fake);
			chaos_oom = oom && chaos(10) == 0;
			loop_turn(w->loop, chaos(3) ? 0 : 300);
			chaos_oom = false;
			check_law(w);
		}
	}
	mem_fault = NULL;
	may_fail = false;
	for (unsigned i = 0; i < CHAOS_ASKS; i++) {
		struct ask *a = &chaos_asks[i];

		if (!a->w)
			continue;
		until(w, a->call.state == CALL_IDLE);
		chaos_check(i);
		ask_end(a);
	}
}

static void test_chaos(void **state)
{
	struct world *w = *state;
	const char *seed = getenv("SEED");

	for (uint64_t s = 1; s <= 8; s++) {
		chaos_run(w, seed ? strtoull(seed, NULL, 0) : s * 7919,
			  s > 4);
		if (s == 8 || seed)
			break;
		assert_int_equal(teardown(state), 0);
		setup(state);
		w = *state;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_timeout_and_late_reply),
		T(test_answer_in_time_though_loop_late),
		T(test_too_many_tombstones),
		T(test_old_tombstone),
		T(test_withdraw),
		T(test_link_loss),
		T(test_wait_for_first_link),
		T(test_no_link_after_start),
		T(test_queue_full),
		T(test_max_concurrency),
		T(test_pinned_waits),
		T(test_unavailable),
		T(test_extra_links),
		T(test_burst),
		T(test_least_loaded_and_stalled),
		T(test_turn_shares_a_link),
		T(test_callback_asks),
		T(test_callback_withdraws),
		T(test_callback_closes),
		T(test_close_in_any_state),
		T(test_print),
		T(test_chaos),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
