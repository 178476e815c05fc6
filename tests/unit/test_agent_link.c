/* Links: handshake, which event a reply answers, frames, request complete,
 * pings. */
#include "agent_fixture.h"

/* ---- handshake --------------------------------------------------------- */

static void test_handshake_accepted(void **state)
{
	struct world *w = *state;

	w->config.connections = w->config.max_connections = 4;
	start_up(w);
	assert_int_equal(counter_read(&w->m->links_up), 4);
	assert_int_equal(counter_read(&w->m->links_connecting), 0);
	assert_int_equal(w->fake.n_peers, 4);
}

static unsigned links_awake(struct world *w)
{
	struct link *link;
	unsigned n = 0;

	cds_list_for_each_entry(link, &agent_local(w->agent, w->loop)->links,
				node)
		n += link->state != LINK_DOWN ||
		     deadline_running(&link->timer);
	return n;
}

/* While nobody is there one link looks; when somebody is, all come. */
static void test_one_looks(void **state)
{
	struct world *w = *state;

	w->config.connections = w->config.max_connections = 4;
	start(w);
	agent_local_start(w->agent, w->loop);	/* ENOENT */
	until(w, links_awake(w) == 1);
	turn_for(w, 100 * MS);
	assert_int_equal(links_awake(w), 1);
	fake_listen(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 4);
	/* The process dies, and all links with it. */
	fake_unlisten(&w->fake);
	for (int i = 0; i < 4; i++)
		peer_close(w->fake.peers[i]);
	until(w, agent_links_up(w->agent, 0) == 0 && links_awake(w) == 1);
	/* The next one does not shake hands: three need not wait for that. */
	w->agent->tuning.handshake_us = 20 * MS;
	w->fake.shake = false;
	fake_listen(&w->fake);
	until(w, w->fake.n_peers == 6);
	assert_int_equal(links_awake(w), 1);
	w->fake.shake = may_fail = true;	/* some are closed by now */
	until(w, agent_links_up(w->agent, 0) == 4);
	may_fail = false;
}

static void refuse_with(struct world *w, const char *answer_text, uint8_t type)
{
	int was;

	start(w);
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	peer_send(w->fake.peers[0], type, answer_text);
	until(w, w->fake.peers[0]->eof);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	/* It comes again, and is let in. */
	w->fake.shake = true;
	was = w->fake.n_peers;
	w->fake.peers[0]->shook = true;
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_true(w->fake.n_peers > 1 && was >= 1);
	/* Never up before, so nothing was connected again. */
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_handshake_refused(void **state)
{
	refuse_with(*state, "{\"protocol_version\":0,\"success\":false,"
		    "\"error\":\"no\",\"encoding\":\"json\"}",
		    FRAME_HANDSHAKE_REPLY);
}

static void test_handshake_garbage(void **state)
{
	refuse_with(*state, "\x01\x02garbage", FRAME_HANDSHAKE_REPLY);
}

static void test_handshake_wrong_type(void **state)
{
	refuse_with(*state, "{\"protocol_version\":2,\"success\":true}",
		    FRAME_REPLY);
}

static void test_handshake_silent(void **state)
{
	struct world *w = *state;

	start(w);
	w->agent->tuning.handshake_us = 30 * MS;
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1);
	until(w, w->fake.peers[0]->eof);
	until(w, w->fake.n_peers >= 2);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
}

static void test_handshake_closed_without_a_byte(void **state)
{
	struct world *w = *state;
	char *text = NULL;
	size_t size = 0;
	FILE *out;
	json_t *j;

	start(w);
	w->fake.shake = false;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers == 1 && w->fake.peers[0]->n);
	peer_close(w->fake.peers[0]);
	until(w, w->fake.n_peers >= 2);
	out = open_memstream(&text, &size);
	agent_print_json(w->agent, out);
	fclose(out);
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "state")),
			    "unhealthy");
	assert_non_null(strstr(text, "v1"));
	json_decref(j);
	free(text);
}

/* Who listens there is looked at before a byte is said. */
static void test_peer_refused(void **state)
{
	struct world *w = *state;

	w->config.peer_uid = getuid() + 2;
	start(w);
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, w->fake.n_peers >= 2 && w->fake.peers[0]->eof);
	assert_int_equal(w->fake.peers[0]->n, 0);
	assert_false(w->fake.peers[0]->shook);
	assert_int_equal(agent_links_up(w->agent, 0), 0);
	assert_non_null(strstr(w->agent->instances[0].error_text,
			       "the peer is user"));
}

static void test_peer_accepted(void **state)
{
	struct world *w = *state;

	w->config.peer_uid = getuid() + 1;
	w->config.peer_gid = getgid() + 1;
	start_up(w);
	warm_up(w);
}

/* ---- matching ---------------------------------------------------------- */

static void test_pipelining(void **state)
{
	struct world *w = *state;
	static struct ask a[60];
	struct frame f;

	w->config.depth = 64;
	start_up(w);
	warm_up(w);
	for (int i = 0; i < 60; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
		assert_int_equal(a[i].answered, 0);
	}
	assert_int_equal(counter_read(&w->m->in_flight), 60);
	check_law(w);
	for (int i = 0; i < 60; i++) {
		next_event(w, last_peer(w), &f);
		expect_id(&f, &a[i]);
		answer(last_peer(w), f.id);
	}
	for (int i = 0; i < 60; i++) {
		until(w, a[i].answered);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
	}
	for (int i = 0; i < 60; i++)
		ask_end(&a[i]);
	for (int i = 0; i < 60; i++) {
		next_event(w, last_peer(w), &f);
		assert_int_equal(f.type, FRAME_COMPLETE);
		expect_id(&f, &a[i]);
		answer(last_peer(w), f.id);
	}
	until(w, link_of(w)->fifo.n == 0);
	for (int i = 0; i < 60; i++)
		assert_int_equal(a[i].answered, 1);
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 61);
	assert_int_equal(counter_read(&w->m->late_replies), 0);
	assert_false(link_of(w)->unordered);
}

static void test_out_of_order(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	answer_as(last_peer(w), id_of(&a[1]), "{\"block\":{\"status\":403}}");
	until(w, a[1].answered);
	assert_int_equal(a[1].kind, DECISION_BLOCK);
	assert_int_equal(a[0].answered + a[2].answered, 0);
	assert_true(link_of(w)->unordered);
	answer(last_peer(w), id_of(&a[0]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[0].answered && a[2].answered);
	assert_int_equal(a[0].kind, DECISION_ALLOW);
	assert_int_equal(a[2].kind, DECISION_ALLOW);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_empty_id(void **state)
{
	struct world *w = *state;
	struct ask a[2];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 2, 2000 * MS);
	answer(last_peer(w), "");
	answer(last_peer(w), id_of(&a[1]));
	until(w, a[0].answered && a[1].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_UNREADABLE);
	assert_int_equal(a[1].reply.cause, CAUSE_NONE);
	end_and_answer(w, &a[0]);
	end_and_answer(w, &a[1]);
}

static void test_unknown_id(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	answer(last_peer(w), "ffffffffffffffffffffffffffffffff");
	until(w, a[0].answered && a[1].answered && a[2].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_CLOSED);
	assert_int_equal(a[2].reply.cause, CAUSE_CLOSED);
	assert_true(a[0].session.lost);
	until(w, agent_links_up(w->agent, 0) == 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].answered, 1);
		ask_end(&a[i]);
	}
	assert_int_equal(counter_read(&w->m->reconnects), 1);
	/* No request complete for exchanges that this link never saw. */
	assert_int_equal(counter_read(&w->m->events[EVENT_COMPLETE]), 1);
}

static void test_nobody_asked(void **state)
{
	struct world *w = *state;
	struct peer *p;

	start_up(w);
	p = last_peer(w);
	answer(p, "ffffffffffffffffffffffffffffffff");
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
}

static void test_undecodable(void **state)
{
	struct world *w = *state;
	struct ask a[3];

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	peer_send(last_peer(w), FRAME_REPLY, "{\"version\":2,\"decis");
	answer(last_peer(w), id_of(&a[1]));
	answer(last_peer(w), id_of(&a[2]));
	until(w, a[2].answered);
	assert_int_equal(a[0].answered, 1);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_NONE);
	assert_int_equal(a[2].reply.cause, CAUSE_NONE);
	assert_int_equal(link_of(w)->depth, 32);
	for (int i = 0; i < 3; i++)
		end_and_answer(w, &a[i]);
}

static void test_no_id_key(void **state)
{
	struct world *w = *state;
	static const char allow[] = "{\"version\":2,\"decision\":\"allow\"}";
	struct ask a[3];
	struct frame f;

	start_up(w);
	/* A new link takes one event, and stays at that. */
	for (int i = 0; i < 3; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	assert_int_equal(counter_read(&w->m->in_flight), 1);
	assert_int_equal(counter_read(&w->m->queued), 2);
	for (int i = 0; i < 3; i++) {
		next_event(w, last_peer(w), &f);
		expect_id(&f, &a[i]);
		turn_for(w, 5 * MS);
		assert_int_equal(last_peer(w)->n, 0);
		if (i == 1)
			ask_end(&a[0]);	/* has to wait for its turn */
		turn_for(w, 5 * MS);
		assert_int_equal(last_peer(w)->n, 0);
		peer_send(last_peer(w), FRAME_REPLY, allow);
		until(w, a[i].answered);
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
		if (i == 1) {
			next_event(w, last_peer(w), &f);
			assert_int_equal(f.type, FRAME_COMPLETE);
			expect_id(&f, &a[0]);
			peer_send(last_peer(w), FRAME_REPLY, allow);
		}
	}
	ask_end(&a[1]);
	ask_end(&a[2]);
}

static void test_no_id_timeout_closes(void **state)
{
	struct world *w = *state;
	static const char allow[] = "{\"version\":2,\"decision\":\"allow\"}";
	struct ask a;
	struct frame f;

	start_up(w);
	ask_init(w, &a);
	ask_head(&a, 2000 * MS);
	next_event(w, last_peer(w), &f);
	peer_send(last_peer(w), FRAME_REPLY, allow);
	until(w, a.answered);
	ask_chunk(&a, 0, 20 * MS);
	until(w, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	assert_true(a.session.lost);
	ask_end(&a);
}

/* ---- frames ------------------------------------------------------------ */

static void test_bytewise(void **state)
{
	struct world *w = *state;
	char b[2048];
	struct ask a;
	size_t n;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 4000 * MS);
	n = (size_t)snprintf(b + FRAME_HEAD, sizeof(b) - FRAME_HEAD,
			     "{\"decision\":\"allow\",\"audit\":{\"custom\":"
			     "{\"correlation_id\":\"%s\"}}}", id_of(&a));
	frame_write_head(b, FRAME_REPLY, n);
	for (size_t i = 0; i < FRAME_HEAD + n; i++) {
		assert_int_equal(a.answered, 0);
		peer_send_raw(last_peer(w), b + i, 1);
		world_turn(w);
	}
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	end_and_answer(w, &a);
}

static void test_three_in_one(void **state)
{
	struct world *w = *state;
	char b[4096], text[256];
	struct ask a[3];
	size_t n = 0;

	start_up(w);
	warm_up(w);
	ask_many(w, a, 3, 2000 * MS);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			 "{\"decision\":\"allow\",\"audit\":{\"custom\":"
			 "{\"correlation_id\":\"%s\"}}}", id_of(&a[i]));
		n += frame_build(b + n, FRAME_REPLY, text);
	}
	/* Unwanted but legal frames in between change nothing. */
	n += frame_build(b + n, FRAME_HEALTH, "garbage");
	n += frame_build(b + n, FRAME_FLOW_CONTROL, "");
	peer_send_raw(last_peer(w), b, n);
	until(w, a[2].answered);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].reply.cause, CAUSE_NONE);
		end_and_answer(w, &a[i]);
	}
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void bad_bytes(struct world *w, const char *bytes, size_t n)
{
	struct peer *p;
	struct ask a[2];

	start_up(w);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, a, 2, 2000 * MS);
	peer_send_raw(p, bytes, n);
	until(w, a[0].answered && a[1].answered);
	assert_int_equal(a[0].reply.cause, CAUSE_PROTOCOL);
	assert_int_equal(a[1].reply.cause, CAUSE_CLOSED);
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
	ask_end(&a[0]);
	ask_end(&a[1]);
}

static void test_length_zero(void **state)
{
	bad_bytes(*state, "\0\0\0\0\x20", 5);
}

static void test_length_huge(void **state)
{
	bad_bytes(*state, "\xff\xff\xff\xff\x20", 5);
}

static void test_length_above_limit(void **state)
{
	/* 64 KiB and one base64 chunk are the limit; this is 1 MiB. */
	bad_bytes(*state, "\x00\x10\x00\x00\x20", 5);
}

static void test_bad_type(void **state)
{
	bad_bytes(*state, "\x00\x00\x00\x01\x10", 5);
}

/* Unknown, or only a proxy may send them. */
static void test_bad_types(void **state)
{
	static const uint8_t types[] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x11, 0x12, 0x13, 0x14, 0x15,
		0x16, 0x17, 0x21, 0x34, 0x40, 0x41, 0x43, 0xe1, 0xe3, 0xf1,
		0xff,
	};
	struct world *w = *state;

	start_up(w);
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		int n = w->fake.n_peers;

		/* A good answer, or the way back gets longer each time. */
		until(w, agent_links_up(w->agent, 0) == 1);
		warm_up(w);
		peer_send(last_peer(w), types[i], "{}");
		until(w, last_peer(w)->eof);
		until(w, w->fake.n_peers == n + 1);
	}
}

static void test_partial_stalls(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.frame_us = 40 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	p = last_peer(w);
	ask_many(w, &a, 1, 4000 * MS);
	peer_send_raw(p, "\0\0", 2);
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_PROTOCOL);
	until(w, p->eof);
	ask_end(&a);
}

static void test_large_reply(void **state)
{
	struct world *w = *state;
	static char b[100 * 1024];
	size_t n = 60 * 1024, at = 0;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 4000 * MS);
	memset(b, ' ', sizeof(b));
	frame_write_head(b, FRAME_REPLY, n);
	at = (size_t)snprintf(b + FRAME_HEAD, 300,
			      "{\"decision\":{\"block\":{\"status\":403}},"
			      "\"audit\":{\"custom\":{\"correlation_id\":"
			      "\"%s\"}}", id_of(&a));
	b[FRAME_HEAD + at] = ' ';
	b[FRAME_HEAD + n - 1] = '}';
	for (at = 0; at < FRAME_HEAD + n; at += 5000) {
		peer_send_raw(last_peer(w), b + at,
			      min_size(5000, FRAME_HEAD + n - at));
		world_turn(w);
	}
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_BLOCK);
	end_and_answer(w, &a);
}

/* ---- bodies ------------------------------------------------------------ */

static void keep_mutation(struct ask *a)
{
	const struct body_mutation *m = &a->reply.decision->request_body;

	assert_true(m->present);
	assert_true(slice_eq(m->data, SLICE("\xffHELLO")));
}

/* An agent that replaces a chunk, as its encoding has it. */
static void send_mutation(struct world *w, struct peer *p, const char *id)
{
	struct wire_format format = speaks_format();
	struct decision d = {
		.id_kind = DECISION_ID_PRESENT, .id = slice_str(id),
		.request_body = { true, SLICE("\xffHELLO"), 0 },
	};
	struct outq q;

	outq_init(&q, &w->loop->blocks);
	assert_true(wire_agent_encode_reply(&q, &format, &d));
	assert_ptr_equal(q.first, q.last);
	peer_send_raw(p, q.first->p, q.first->n);
	outq_clear(&q);
}

static void test_body_mutation(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	a.then = keep_mutation;
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	if (speaks == SPEAKS_RAW)	/* id, bin of five bytes, last */
		assert_memory_equal(f.text + 35, "\xc4\x05Hello\xc3", 8);
	send_mutation(w, last_peer(w), f.id);
	until(w, a.answered == 2);
	end_and_answer(w, &a);
}

/* JSON is read on every link: a brace tells it. */
static void test_json_on_any_link(void **state)
{
	struct world *w = *state;
	enum speaks was = speaks;
	struct ask a;

	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	speaks = SPEAKS_JSON;
	answer_as(last_peer(w), id_of(&a), "{\"block\":{\"status\":403}}");
	speaks = was;
	until(w, a.answered);
	assert_int_equal(a.kind, DECISION_BLOCK);
	end_and_answer(w, &a);
}

/* ---- request complete, ping -------------------------------------------- */

static void test_complete_answered(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	w->config.complete = COMPLETE_AUTO;
	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(last_peer(w), f.id);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(w->agent->complete_known, COMPLETE_ANSWERED);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	end_and_answer(w, &a);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(last_peer(w)->n, 0);	/* no ping behind it */
}

static void test_complete_silent(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	w->config.complete = COMPLETE_AUTO;
	start_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	next_event(w, last_peer(w), &f);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	assert_int_equal(link_of(w)->fifo.n, 1);
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(w->agent->complete_known, COMPLETE_SILENT);
	/* From now on it is sent and nothing is expected. */
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	assert_int_equal(link_of(w)->fifo.n, 0);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
}

/*
 * It drops an event and answers the complete of the same exchange: the reply
 * is taken for the dropped event's, and the pong proves nothing.
 */
static void test_complete_after_drop(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	w->config.complete = COMPLETE_AUTO;
	start_up(w);
	warm_up(w);
	w->agent->complete_known = COMPLETE_UNKNOWN;
	ask_many(w, &a, 1, 20 * MS);
	until(w, a.answered);
	ask_end(&a);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	answer(last_peer(w), f.id);
	while (f.type != FRAME_PING)
		until(w, peer_any_frame(last_peer(w), &f));
	peer_send(last_peer(w), FRAME_PONG, f.text);
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(w->agent->complete_known, COMPLETE_UNKNOWN);
}

/* `always`, but it is not: found out, and not at the cost of verdicts. */
static void test_complete_never_comes(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct ask a;

	start(w);
	w->agent->tuning.complete_us = 20 * MS;
	w->agent->tuning.stall_min_us = 40 * MS;
	w->agent->tuning.check_us = 5 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	p = last_peer(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(p, id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	assert_int_equal(counter_read(&w->m->links_stalled), 0);
	until(w, counter_read(&w->m->links_stalled) == 1);
	until(w, p->eof);
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_int_equal(counter_read(&w->m->late_replies), 0);
}

/* Behind an event that somebody waits for it is not late. */
static void test_complete_behind_slow_event(void **state)
{
	struct world *w = *state;
	struct ask a[12];

	start(w);
	w->agent->tuning.complete_us = 10 * MS;
	w->agent->tuning.stall_min_us = 10 * MS;
	w->agent->tuning.check_us = 5 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, a, 11, 2000 * MS);
	for (int i = 0; i < 11; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[10].answered);
	ask_many(w, a + 11, 1, 2000 * MS);
	for (int i = 0; i < 11; i++)
		ask_end(&a[i]);
	turn_for(w, 100 * MS);
	assert_int_equal(a[11].answered, 0);
	assert_int_equal(link_of(w)->fifo.n, 12);
	answer(last_peer(w), id_of(&a[11]));
	for (int i = 0; i < 11; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[11].answered);
	assert_int_equal(a[11].reply.cause, CAUSE_NONE);
	end_and_answer(w, &a[11]);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

/* An agent that may take longer for a head may for what stands behind it. */
static void test_complete_of_slow_agent(void **state)
{
	struct world *w = *state;
	struct ask a[12];
	struct frame f;
	uint64_t end;

	w->config.timeouts.head_us = 1500 * MS;
	start(w);
	w->agent->tuning.check_us = 5 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	warm_up(w);
	ask_many(w, a, 12, 1500 * MS);
	for (int i = 0; i < 12; i++)
		answer(last_peer(w), id_of(&a[i]));
	until(w, a[11].answered);
	for (int i = 0; i < 12; i++)
		ask_end(&a[i]);
	end = w->loop->now_us + 1200 * MS;
	until(w, w->loop->now_us >= end);
	assert_int_equal(link_of(w)->fifo.n_tombs, 0);
	for (int i = 0; i < 12; i++) {
		next_event(w, last_peer(w), &f);
		answer(last_peer(w), id_of(&a[i]));
	}
	until(w, link_of(w)->fifo.n == 0);
	assert_int_equal(counter_read(&w->m->reconnects), 0);
}

static void test_idle_ping(void **state)
{
	struct world *w = *state;
	struct peer *p;
	struct frame f;

	start(w);
	w->agent->tuning.ping_interval_us = 20 * MS;
	w->agent->tuning.ping_timeout_us = 60 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	p = last_peer(w);
	for (int i = 0; i < 3; i++) {
		until(w, peer_any_frame(p, &f));
		assert_int_equal(f.type, FRAME_PING);
		peer_send(p, FRAME_PONG, f.text);
	}
	assert_false(p->eof);
	until(w, p->eof);	/* no pong */
	until(w, w->fake.n_peers == 2);
}

/* With an event outstanding a missing pong is slowness, not death. */
static void test_ping_while_busy(void **state)
{
	struct world *w = *state;
	struct frame f;
	struct ask a;

	start(w);
	w->agent->tuning.ping_interval_us = 20 * MS;
	w->agent->tuning.ping_timeout_us = 30 * MS;
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	until(w, peer_any_frame(last_peer(w), &f));
	assert_int_equal(f.type, FRAME_PING);
	ask_init(w, &a);
	ask_head(&a, 5000 * MS);
	turn_for(w, 150 * MS);
	assert_false(last_peer(w)->eof);
	assert_int_equal(a.answered, 0);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	ask_end(&a);
	assert_int_equal(w->fake.n_peers, 1);
}

/* ---- what the handshake says ------------------------------------------- */

static unsigned depths(struct world *w, unsigned *least, unsigned *most)
{
	struct agent_local *l = agent_local(w->agent, w->loop);
	struct link *link;
	unsigned n = 0;

	*least = UINT_MAX;
	*most = 0;
	cds_list_for_each_entry(link, &l->links, node) {
		if (link->state != LINK_UP)
			continue;
		n += link->full_depth;
		if (link->full_depth < *least)
			*least = link->full_depth;
		if (link->full_depth > *most)
			*most = link->full_depth;
	}
	return n;
}

/* What an agent takes at a time is shared by its links. */
static void test_limit_concurrency(void **state)
{
	struct world *w = *state;
	unsigned least, most;
	struct ask a[4];

	w->config.connections = 4;
	w->config.max_connections = 8;
	w->config.depth = 8;
	w->fake.capabilities = "{\"limits\":{\"max_concurrency\":10}}";
	start_up(w);
	assert_int_equal(depths(w, &least, &most), 10);
	assert_int_equal(least, 2);
	assert_int_equal(most, 3);
	/* One goes: its part stays for it. */
	peer_close(w->fake.peers[0]);
	fake_unlisten(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 3);
	assert_in_range(depths(w, &least, &most), 7, 8);
	assert_in_range(least, 2, 3);
	/* Fewer than there are links: the last are spare. */
	w->fake.capabilities = "{\"limits\":{\"max_concurrency\":3}}";
	for (int i = 1; i < 4; i++)
		peer_close(w->fake.peers[i]);
	until(w, agent_links_up(w->agent, 0) == 0);
	fake_listen(&w->fake);
	until(w, agent_links_up(w->agent, 0) == 4);
	assert_int_equal(depths(w, &least, &most), 3);
	assert_int_equal(least, 0);
	for (int i = 0; i < 4; i++) {
		ask_init(w, &a[i]);
		ask_head(&a[i], 2000 * MS);
	}
	assert_int_equal(counter_read(&w->m->in_flight), 3);
	assert_int_equal(counter_read(&w->m->queued), 1);
	turn_for(w, 20 * MS);
	assert_int_equal(w->fake.n_peers, 8);	/* none on demand */
	for (int i = 0; i < 4; i++) {
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
		ask_end(&a[i]);
	}
}

static void test_limit_sizes(void **state)
{
	struct world *w = *state;
	struct ask a;

	w->fake.capabilities = "{\"limits\":{\"preferred_chunk_size\":5000,"
			       "\"max_body_size\":70000}}";
	start_up(w);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	assert_int_equal(agent_session_chunk_size(&a.session), 5000);
	assert_int_equal(agent_session_max_body(&a.session, 1000000), 70000);
	assert_int_equal(agent_session_max_body(&a.session, 1000), 1000);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_end(&a);
	assert_int_equal(agent_session_chunk_size(&a.session), 65536);
}

/* More than the config allows is not asked for, and no chunk is tiny. */
static void test_limit_sizes_bounded(void **state)
{
	static const char *const says[] = {
		"{\"limits\":{\"preferred_chunk_size\":1}}",
		"{\"limits\":{\"preferred_chunk_size\":100000000}}",
		"{\"limits\":{\"preferred_chunk_size\":0}}",
		"{\"limits\":{\"preferred_chunk_size\":-5}}",
		"{\"limits\":7}",
	};
	struct world *w = *state;

	start(w);
	for (unsigned i = 0; i < ARRAY_LEN(says); i++) {
		w->fake.capabilities = says[i];
		fake_listen(&w->fake);
		if (i == 0)
			agent_local_start(w->agent, w->loop);
		until(w, agent_links_up(w->agent, 0) == 1);
		assert_int_equal(link_of(w)->chunk_size, i ? 65536 : 1024);
		fake_unlisten(&w->fake);
		peer_close(last_peer(w));
		until(w, agent_links_up(w->agent, 0) == 0);
	}
}

/* Listed or not, it is asked; a warning tells of those that are not. */
static void test_listed_events(void **state)
{
	const unsigned head = 1u << EVENT_REQUEST_HEAD,
		       chunk = 1u << EVENT_REQUEST_CHUNK,
		       response = 1u << EVENT_RESPONSE_HEAD;
	struct world *w = *state;
	struct agent_instance *inst;
	struct frame f;
	struct ask a;

	w->fake.capabilities = "{\"supported_events\":[1,8,99,\"x\"]}";
	start(w);
	inst = &w->agent->instances[0];
	agent_want_events(w->agent, head | chunk);
	assert_int_equal(inst->warned_events, 0);	/* not known yet */
	fake_listen(&w->fake);
	agent_local_start(w->agent, w->loop);
	until(w, agent_links_up(w->agent, 0) == 1);
	assert_int_equal(inst->warned_events, chunk);
	agent_want_events(w->agent, head | response);
	assert_int_equal(inst->warned_events, response);
	warm_up(w);
	ask_many(w, &a, 1, 2000 * MS);
	answer(last_peer(w), id_of(&a));
	until(w, a.answered);
	ask_chunk(&a, 0, 2000 * MS);
	next_event(w, last_peer(w), &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	answer(last_peer(w), f.id);
	until(w, a.answered == 2);
	ask_end(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_handshake_accepted),
		T(test_one_looks),
		T(test_handshake_refused),
		T(test_handshake_garbage),
		T(test_handshake_wrong_type),
		T(test_handshake_silent),
		T(test_handshake_closed_without_a_byte),
		T(test_peer_refused),
		T(test_peer_accepted),
		T(test_pipelining),
		T(test_out_of_order),
		T(test_empty_id),
		T(test_unknown_id),
		T(test_nobody_asked),
		T(test_undecodable),
		T(test_no_id_key),
		T(test_no_id_timeout_closes),
		T(test_bytewise),
		T(test_three_in_one),
		T(test_length_zero),
		T(test_length_huge),
		T(test_length_above_limit),
		T(test_bad_type),
		T(test_bad_types),
		T(test_partial_stalls),
		T(test_large_reply),
		T(test_body_mutation),
		T(test_json_on_any_link),
		T(test_complete_answered),
		T(test_complete_silent),
		T(test_complete_after_drop),
		T(test_complete_never_comes),
		T(test_complete_behind_slow_event),
		T(test_complete_of_slow_agent),
		T(test_idle_ping),
		T(test_ping_while_busy),
		T(test_limit_concurrency),
		T(test_limit_sizes),
		T(test_limit_sizes_bounded),
		T(test_listed_events),
	};

	return run_agent_tests(tests, ARRAY_LEN(tests));
}
