/* Agents that dial in, and links that several workers use: three loops in one
 * thread, the agent played by hand. */
#include <poll.h>
#include <sched.h>

#include "agent_fixture.h"
#include "agent/hub.h"
#include "agent/reverse.h"

#define N	3

struct place {
	char dir[64], path[96];
	int listener;
	struct loop *loops[N];
	struct metrics *metrics;
	struct agent_table *table;
	struct agent *agent;
	struct config_agent config;
	struct reverse *door;
};

static void turn(struct place *x)
{
	for (int i = 0; i < N; i++)
		loop_turn(x->loops[i], 200);
}

static void turns(struct place *x, unsigned n)
{
	while (n--)
		turn(x);
}

#define turn_until(x, cond)						\
	do {								\
		uint64_t end_ = sock_clock_us() + 8000 * MS;		\
		while (!(cond)) {					\
			if (sock_clock_us() > end_)			\
				fail_msg("never: %s", #cond);		\
			turn(x);					\
		}							\
	} while (0)

static int place_setup(void **state)
{
	struct place *x = calloc(1, sizeof(*x));
	char dir[] = "/tmp/agent_reverse.XXXXXX";
	struct net_addr a;
	char text[128];

	*state = x;
	speaks = SPEAKS_JSON;
	assert_non_null(mkdtemp(dir));
	snprintf(x->dir, sizeof(x->dir), "%s", dir);
	snprintf(x->path, sizeof(x->path), "%s/door", dir);
	snprintf(text, sizeof(text), "unix:%s", x->path);
	assert_true(net_addr_parse(slice_str(text), &a));
	x->listener = sock_listen(&a, 64);
	assert_true(x->listener >= 0);
	x->metrics = metrics_new(N);
	x->table = agent_table_new();
	for (unsigned i = 0; i < N; i++)
		x->loops[i] = loop_new(i);
	x->config = (struct config_agent){
		.name = "waf", .reverse = true, .max_connections = 4,
		.connections = 3,
		.reverse_token = "sesame-open", .depth = 8, .queue = 64,
		.chunk_size = 64 * 1024, .max_reply_bytes = 64 * 1024,
		.complete = COMPLETE_ALWAYS,
	};
	x->agent = agent_new(&x->config, N, x->metrics);
	assert_non_null(x->agent);
	assert_true(agent_same(x->agent, &x->config));
	x->agent->tuning.lost_grace_us = 1;
	assert_true(agent_table_add(x->table, x->agent));
	for (unsigned i = 0; i < N; i++)
		agent_local_start(x->agent, x->loops[i]);
	x->door = reverse_new(x->loops[0], x->table,
			      metrics_worker(x->metrics, 0));
	assert_true(reverse_listen(x->door, x->listener));
	return 0;
}

static uint64_t total(struct place *x, size_t offset, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < N; i++)
		v += sum((void *)((char *)agent_metrics(x->agent, x->loops[i]) +
				  offset), n);
	return v;
}

#define TOTAL(x, field, n) total(x, offsetof(struct agent_metrics, field), n)

static int place_teardown(void **state)
{
	struct place *x = *state;
	uint64_t decisions = 0;

	for (int i = 0; i < EVENT_COMPLETE; i++)
		decisions += TOTAL(x, decisions[i], METRICS_DECISIONS);
	assert_int_equal(TOTAL(x, in_flight, 1), 0);
	assert_int_equal(TOTAL(x, queued, 1), 0);
	assert_int_equal(TOTAL(x, events, EVENT_COMPLETE), decisions +
			 TOTAL(x, failures, CAUSE_N) - TOTAL(x, unsent, 1) +
			 TOTAL(x, abandoned, 1));
	reverse_free(x->door);
	for (unsigned i = 0; i < N; i++)
		agent_local_close(x->agent, x->loops[i]);
	for (unsigned i = 0; i < 6; i++)
		turn(x);
	assert_int_equal(TOTAL(x, links_up, 1), 0);
	assert_int_equal(TOTAL(x, links_connecting, 1), 0);
	assert_int_equal(TOTAL(x, links_stalled, 1), 0);
	agent_put(x->agent);
	agent_table_free(x->table);
	rcu_drain();
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(x->loops[i]->blocks.live, 0);
		loop_free(x->loops[i]);
	}
	metrics_free(x->metrics);
	close(x->listener);
	unlink(x->path);
	rmdir(x->dir);
	free(x);
	return 0;
}

/* ---- the agent ----------------------------------------------------------- */

static struct peer *dial(struct place *x)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct peer *p = calloc(1, sizeof(*p));

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", x->path);
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(p->fd, (void *)&un, sizeof(un)), 0);
	return p;
}

static void hang_up(struct peer *p)
{
	peer_close(p);
	free(p);
}

static void get_frame(struct place *x, struct peer *p, struct frame *f)
{
	turn_until(x, peer_any_frame(p, f));
}

static void get_event(struct place *x, struct peer *p, struct frame *f)
{
	do
		get_frame(x, p, f);
	while (f->type == FRAME_PING);
}

static const char *const hello = "{\"protocol_version\":2,\"agent_id\":"
	"\"waf\",\"auth_token\":\"sesame-open\",\"capabilities\":{}}";

static struct peer *registers(struct place *x, const char *text)
{
	struct peer *p = dial(x);
	struct frame f;

	peer_send(p, FRAME_HANDSHAKE, text);
	get_frame(x, p, &f);
	assert_int_equal(f.type, FRAME_HANDSHAKE_REPLY);
	assert_non_null(strstr(f.text, "\"success\":true"));
	return p;
}

static struct peer *registered(struct place *x)
{
	return registers(x, hello);
}

static unsigned own_links(struct place *x, unsigned w)
{
	return (unsigned)counter_read(&x->agent->local[w]->
				      instances[0].links_up);
}

/* The first worker that has links of its own: the one that lends. */
static unsigned owner_of(struct place *x)
{
	unsigned w = 0;

	while (w < N - 1 && !own_links(x, w))
		w++;
	return w;
}

/* Of its own links, when they have shown their ids. */
static unsigned own_depth(struct place *x, unsigned w)
{
	struct agent_local *l = x->agent->local[w];
	unsigned depth = 0;

	for (unsigned i = 0; i < l->n_up; i++)
		depth += l->up[i]->borrowed ? 0 : l->up[i]->full_depth;
	return depth;
}

static bool all_linked(struct place *x)
{
	return agent_links_up(x->agent, 0) && agent_links_up(x->agent, 1) &&
	       agent_links_up(x->agent, 2);
}

/* A link that all workers may ask over. */
static struct peer *linked(struct place *x)
{
	struct peer *p = registered(x);

	turn_until(x, all_linked(x));
	return p;
}

static void begin(struct place *x, struct ask *a, unsigned w)
{
	char id[EVENT_ID_LEN + 1];

	memset(a, 0, sizeof(*a));
	snprintf(id, sizeof(id), "%032x", ++ask_counter);
	memcpy(a->meta.correlation_id, id, EVENT_ID_LEN);
	a->meta.timestamp = SLICE("2026-01-02T03:04:05.678Z");
	a->meta.client_ip = SLICE("192.0.2.7");
	a->meta.protocol = SLICE("HTTP/1.1");
	agent_session_init(&a->session, x->agent, x->loops[w], &a->meta);
}

/* A head of worker w's, which p has and has not answered yet. */
static void asked(struct place *x, struct peer *p, struct ask *a, unsigned w,
		  struct frame *f)
{
	begin(x, a, w);
	ask_head(a, 5000 * MS);
	get_event(x, p, f);
}

static void finish(struct place *x, struct peer *p, struct ask *a)
{
	struct frame f;

	ask_end(a);
	get_event(x, p, &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	expect_id(&f, a);
	answer(p, f.id);
}

/* A whole exchange of worker w. */
static void exchange(struct place *x, struct peer *p, unsigned w)
{
	struct frame f;
	struct ask a;

	asked(x, p, &a, w, &f);
	assert_int_equal(f.type, FRAME_REQUEST_HEAD);
	expect_id(&f, &a);
	answer(p, f.id);
	turn_until(x, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	ask_chunk(&a, 0, 5000 * MS);
	get_event(x, p, &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	answer_as(p, f.id, "{\"block\":{\"status\":403}}");
	turn_until(x, a.answered == 2);
	assert_int_equal(a.kind, DECISION_BLOCK);
	finish(x, p, &a);
}

/* ---- tests ------------------------------------------------------------------ */

static void test_all_workers_on_one_link(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);

	assert_int_equal(own_links(x, 0) + own_links(x, 1) + own_links(x, 2),
			 1);
	for (unsigned i = 0; i < 3 * N; i++)
		exchange(x, p, i % N);
	assert_int_equal(TOTAL(x, links_up, 1), 1);
	hang_up(p);
	turn_until(x, !agent_links_up(x->agent, 0) &&
		   !agent_links_up(x->agent, 1) &&
		   !agent_links_up(x->agent, 2));
}

/* Its last answer and its end come at once, and it has not read all: that is a
 * reset, which is noticed although nothing more is to be sent. */
static void test_leaves_unread(void **state)
{
	struct place *x = *state;
	struct peer *p = registered(x);
	struct frame f;
	struct ask a;

	x->agent->complete_known = COMPLETE_UNKNOWN;
	asked(x, p, &a, 0, &f);
	answer(p, f.id);
	turn_until(x, a.answered);
	ask_end(&a);
	/* The complete, and a ping behind it. */
	turns(x, 200);
	answer(p, f.id);
	hang_up(p);
	turn_until(x, TOTAL(x, links_up, 1) == 0);
}

/* Each new one to the worker that has the fewest; borrowed ones go then. */
static void test_shares(void **state)
{
	struct place *x = *state;
	struct peer *p[4];
	struct frame f;

	for (int i = 0; i < 3; i++)
		p[i] = registered(x);
	for (unsigned w = 0; w < N; w++)
		assert_int_equal(own_links(x, w), 1);
	turn_until(x, !x->agent->local[1]->n_borrowed &&
		   !x->agent->local[2]->n_borrowed);
	p[3] = registered(x);
	/* And no more than four in all. */
	for (int i = 0; i < 2; i++) {
		struct peer *q = dial(x);

		peer_send(q, i ? FRAME_GO_REGISTER : FRAME_HANDSHAKE, hello);
		get_frame(x, q, &f);
		assert_int_equal(f.type, i ? FRAME_GO_REGISTER_ACK :
					     FRAME_HANDSHAKE_REPLY);
		assert_non_null(strstr(f.text, "too many links"));
		turn_until(x, (peer_read(q), q->eof));
		hang_up(q);
	}
	for (int i = 0; i < 4; i++)
		hang_up(p[i]);
	turn_until(x, TOTAL(x, links_up, 1) == 0);
	hang_up(registered(x));
}

static struct ask many[32];

static void ask_many_of(struct place *x, unsigned w, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		begin(x, &many[i], w);
		ask_head(&many[i], 5000 * MS);
	}
}

/* Answers all that p has, and waits for n more answers of `many`. */
static void answer_many(struct place *x, struct peer **p, unsigned n_peers,
			unsigned first, unsigned n)
{
	uint64_t end = sock_clock_us() + 8000 * MS;
	unsigned left = n;
	struct frame f;

	while (left) {
		assert_true(sock_clock_us() < end);
		turn(x);
		for (unsigned i = 0; i < n_peers; i++)
			while (peer_any_frame(p[i], &f))
				if (f.type == FRAME_REQUEST_HEAD)
					answer(p[i], f.id);
		left = n;
		for (unsigned i = first; i < first + n; i++)
			left -= many[i].answered > 0;
	}
}

static void end_many(struct place *x, struct peer **p, unsigned n_peers,
		     unsigned first, unsigned n)
{
	unsigned ends = 0;
	struct frame f;

	for (unsigned i = first; i < first + n; i++)
		ask_end(&many[i]);
	while (ends < n) {
		turn(x);
		for (unsigned i = 0; i < n_peers; i++)
			while (peer_any_frame(p[i], &f)) {
				assert_int_equal(f.type, FRAME_COMPLETE);
				answer(p[i], f.id);
				ends++;
			}
	}
}

/* One worker has no link, and more to ask than one link takes: it gets what
 * idle ones of others have, and gives that back. A lender that is busy lends no
 * more. */
static void test_borrows_more(void **state)
{
	struct place *x = *state;
	struct peer *p[2] = { registered(x), registered(x) };
	struct agent_local **l = x->agent->local;
	unsigned w = !own_links(x, 0) ? 0 : !own_links(x, 1) ? 1 : 2;
	unsigned other;

	turn_until(x, all_linked(x));
	x->agent->tuning.extra_idle_us = 20 * MS;
	/* The links have shown their ids, and the first is lent by then. */
	for (unsigned i = 0; i < N; i++)
		ask_many_of(x, i, i, 1);
	answer_many(x, p, 2, 0, N);
	end_many(x, p, 2, 0, N);
	other = (w + 1) % N;
	if (x->agent->hub->slot[other].lent)
		other = (w + 2) % N;
	/* It has enough to do by itself. */
	ask_many_of(x, other, 0, 8);
	ask_many_of(x, w, 8, 9);
	turns(x, 6);
	assert_int_equal(l[w]->n_borrowed, 1);
	assert_int_equal(l[w]->n_queued, 1);
	answer_many(x, p, 2, 0, 17);
	end_many(x, p, 2, 0, 17);
	/* Now it has not. */
	l[w]->borrow_more_us = 0;
	ask_many_of(x, w, 0, 16);
	turn_until(x, l[w]->n_borrowed_up == 2);
	turn_until(x, l[w]->n_queued == 0);
	turns(x, 4);
	assert_int_equal(l[other]->up[0]->fifo.n, 8);
	/* And it is the last link that is not its own. */
	ask_many_of(x, w, 16, 4);
	turns(x, 4);
	assert_int_equal(l[w]->n_borrowed, 2);
	answer_many(x, p, 2, 0, 20);
	end_many(x, p, 2, 0, 20);
	turn_until(x, l[w]->n_borrowed == 1);
	assert_true(all_linked(x));
	hang_up(p[0]);
	hang_up(p[1]);
}

/* A borrower's time-out: told once, the late reply is nobody's. */
static void test_timeout(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	struct frame f, g;
	struct ask a, b;

	exchange(x, p, 0);
	begin(x, &a, 2);
	ask_head(&a, 30 * MS);
	get_event(x, p, &f);
	turn_until(x, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_TIMEOUT);
	get_event(x, p, &g);
	assert_int_equal(g.type, FRAME_CANCEL);
	ask_end(&a);
	begin(x, &b, 1);
	ask_head(&b, 5000 * MS);
	answer(p, f.id);
	do
		get_event(x, p, &g);
	while (g.type == FRAME_COMPLETE);
	expect_id(&g, &b);
	answer(p, f.id);	/* of a's complete */
	answer(p, g.id);
	turn_until(x, b.answered);
	assert_int_equal(b.reply.cause, CAUSE_NONE);
	assert_int_equal(a.answered, 1);
	assert_int_equal(TOTAL(x, late_replies, 1), 1);
	finish(x, p, &b);
	hang_up(p);
}

/* Who is gone is not told; what never went out is not sent any more. */
static void test_withdraw(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	struct ask a[12];
	struct frame f;

	exchange(x, p, 0);
	/* The depth is 8: four of them wait at the lender. */
	for (unsigned i = 0; i < 12; i++) {
		begin(x, &a[i], 1 + i % 2);
		ask_head(&a[i], 5000 * MS);
	}
	for (unsigned i = 0; i < 6; i++)
		turn(x);
	for (unsigned i = 0; i < 12; i++) {
		agent_withdraw(&a[i].call, WIRE_CANCEL_CLIENT);
		ask_end(&a[i]);
	}
	assert_int_equal(TOTAL(x, abandoned, 1), 12);
	for (unsigned i = 0; i < 6; i++)
		turn(x);
	/* The agent hears of the end of what it was given, and no more. */
	for (unsigned heads = 0, ends = 0; ends < 8;) {
		get_event(x, p, &f);
		if (f.type == FRAME_CANCEL)
			continue;
		heads += f.type == FRAME_REQUEST_HEAD;
		ends += f.type == FRAME_COMPLETE;
		assert_true(heads <= 8);
		answer(p, f.id);
	}
	exchange(x, p, 2);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(a[i].answered, 0);
	hang_up(p);
}

/* The link dies under events of all three workers. */
static void test_link_dies(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	struct ask a[12];

	exchange(x, p, 1);
	for (unsigned i = 0; i < 12; i++) {
		begin(x, &a[i], i % N);
		ask_head(&a[i], 5000 * MS);
	}
	for (unsigned i = 0; i < 6; i++)
		turn(x);
	hang_up(p);
	for (unsigned i = 0; i < 12; i++) {
		turn_until(x, a[i].answered);
		assert_true(a[i].reply.cause == CAUSE_CLOSED ||
			    a[i].reply.cause == CAUSE_CONNECT);
		ask_end(&a[i]);
	}
	p = registered(x);
	turn_until(x, all_linked(x));
	exchange(x, p, 2);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(a[i].answered, 1);
	hang_up(p);
}

/* The worker that lends ends first; then the one that borrows. */
static void test_lender_closes(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	unsigned lender = owner_of(x);
	unsigned w = (lender + 1) % N;
	struct frame f;
	struct ask a;

	asked(x, p, &a, w, &f);
	assert_true(agent_local_is_lent(x->agent, x->loops[lender]));
	agent_local_close(x->agent, x->loops[lender]);
	turn_until(x, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_CLOSED);
	ask_end(&a);
	turn_until(x, (peer_read(p), p->eof));
	hang_up(p);
	/* The others go on, with a new one. */
	p = registered(x);
	turn_until(x, agent_links_up(x->agent, w));
	exchange(x, p, w);
	hang_up(p);
}

/* A borrower that ends with an event under way. */
static void test_borrower_closes(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	unsigned lender = owner_of(x);
	unsigned w = (lender + 1) % N;
	struct frame f;
	struct ask a;

	asked(x, p, &a, w, &f);
	agent_withdraw(&a.call, WIRE_CANCEL_SHUTDOWN);
	ask_end(&a);
	agent_local_close(x->agent, x->loops[w]);
	answer(p, f.id);
	get_event(x, p, &f);
	while (f.type != FRAME_COMPLETE)
		get_event(x, p, &f);
	answer(p, f.id);
	exchange(x, p, lender);
	exchange(x, p, (w + 1) % N == lender ? (w + 2) % N : (w + 1) % N);
	hang_up(p);
}

/* As a reload does it: who borrows lets go first, then it may be closed. */
static void test_drain(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	unsigned lender = owner_of(x);

	exchange(x, p, (lender + 1) % N);
	assert_true(agent_local_is_lent(x->agent, x->loops[lender]));
	for (unsigned w = 0; w < N; w++)
		if (w != lender)
			assert_false(agent_local_is_lent(x->agent,
							 x->loops[w]));
	turn_until(x, !agent_local_is_lent(x->agent, x->loops[lender]));
	hang_up(p);
}

static uint64_t registrations(struct place *x, unsigned result)
{
	uint64_t n = 0;

	for (unsigned w = 0; w < N; w++)
		n += counter_read(&metrics_worker(x->metrics, w)->
				  registrations[result]);
	return n;
}

/* Nobody dials in: that is the cause, whether the call's own time is over first
 * or the time that is given to agents. */
static void test_nobody_dials(void **state)
{
	struct place *x = *state;
	struct ask a, b;

	begin(x, &a, 0);
	ask_head(&a, 20 * MS);
	turn_until(x, a.answered);
	assert_int_equal(a.reply.cause, CAUSE_CONNECT);
	ask_end(&a);
	begin(x, &b, 1);
	ask_head(&b, 20000 * MS);
	turn_until(x, b.answered);
	assert_int_equal(b.reply.cause, CAUSE_CONNECT);
	ask_end(&b);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *token, *id;
	} wrong[] = {
		{ "sesame-opem", "waf" }, { "sesame-ope", "waf" },
		{ "sesame-openn", "waf" }, { "", "waf" },
		{ "sesame-open", "fwa" }, { "no such agent", "fwa" },
		{ "no such agent", "waf" },
	};
	struct place *x = *state;
	char text[256], first[4096] = "";
	struct frame f;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct peer *p = dial(x);

		snprintf(text, sizeof(text), "{\"protocol_version\":2,"
			 "\"agent_id\":\"%s\",\"auth_token\":\"%s\"}",
			 wrong[i].id, wrong[i].token);
		peer_send(p, FRAME_HANDSHAKE, text);
		get_frame(x, p, &f);
		assert_non_null(strstr(f.text, "\"success\":false"));
		/* To the letter the same for all. */
		if (i)
			assert_string_equal(f.text, first);
		memcpy(first, f.text, sizeof(first));
		turn_until(x, (peer_read(p), p->eof));
		hang_up(p);
	}
	assert_int_equal(TOTAL(x, links_connecting, 1), 0);
	assert_int_equal(registrations(x, METRICS_REG_NOT_ACCEPTED),
			 ARRAY_LEN(wrong));
	assert_int_equal(registrations(x, METRICS_REG_OK), 0);
}

/* One that comes and goes, and comes and goes: some of its lines are written,
 * and how many were not. */
static void test_flapping(void **state)
{
	struct place *x = *state;
	struct pollfd ready = { .events = POLLIN };
	unsigned lines = 0;
	char buf[512];
	FILE *log;
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	log = fdopen(fd[0], "r");
	ready.fd = fd[0];
	log_set_fd(fd[1]);
	log_set_level(LOG_INFO);
	x->agent->tuning.lines_us = 500 * MS;
	x->agent->tuning.health_us = 10 * MS;
	for (unsigned i = 0; i < 40; i++) {
		hang_up(registered(x));
		turn_until(x, TOTAL(x, links_up, 1) == 0);
	}
	assert_int_equal(registrations(x, METRICS_REG_OK), 40);
	assert_int_equal(TOTAL(x, registered, 1), 40);
	do {
		turn_until(x, poll(&ready, 1, 0) == 1);
		assert_non_null(fgets(buf, sizeof(buf), log));
		lines++;
	} while (!strstr(buf, "agent_flaps") && !strstr(buf, "left_out="));
	/* Of four times 40. A slow machine may see more than one while. */
	assert_in_range(lines, 20, 155);
	log_set_level(LOG_ERROR);
	log_set_fd(STDERR_FILENO);
	fclose(log);
	close(fd[1]);
}

/* Events may follow the registration in one piece; so may what an agent says
 * unasked. */
static void test_at_once(void **state)
{
	struct place *x = *state;
	struct peer *p = dial(x);
	struct frame f;
	struct ask a;

	begin(x, &a, 0);
	ask_head(&a, 5000 * MS);
	peer_send(p, FRAME_HANDSHAKE, hello);
	peer_send(p, FRAME_HEALTH, "{\"state\":1}");
	get_frame(x, p, &f);
	assert_int_equal(f.type, FRAME_HANDSHAKE_REPLY);
	get_event(x, p, &f);
	expect_id(&f, &a);
	answer(p, f.id);
	turn_until(x, a.answered);
	finish(x, p, &a);
	hang_up(p);
}

/* After a hand-over, one link stays for those who ask here yet: all workers. */
static void test_yield(void **state)
{
	struct place *x = *state;
	struct peer *p[3], *left = NULL;

	for (unsigned i = 0; i < 3; i++)
		p[i] = registered(x);
	turn_until(x, TOTAL(x, links_up, 1) == 3 &&
		   !x->agent->local[1]->n_borrowed &&
		   !x->agent->local[2]->n_borrowed);
	for (unsigned i = 0; i < N; i++)
		agent_local_yield(x->agent, x->loops[i]);
	assert_int_equal(TOTAL(x, links_up, 1), 1);
	turn_until(x, all_linked(x));
	for (unsigned i = 0; i < 3; i++) {
		peer_read(p[i]);
		if (p[i]->eof)
			hang_up(p[i]);
		else
			left = p[i];
	}
	for (unsigned w = 0; w < N; w++)
		exchange(x, left, w);
	hang_up(left);
}

#define ROUNDS	20000u

struct giver {
	struct hub *hub;
	struct loop *loop;
	unsigned begun, done;	/* atomic: rounds */
	bool gave;
};

static void await_round(const unsigned *n, unsigned round)
{
	for (unsigned i = 1; __atomic_load_n(n, __ATOMIC_ACQUIRE) < round; i++)
		if (i % 4096 == 0)
			sched_yield();
}

static void *give(void *arg)
{
	struct giver *g = arg;

	for (unsigned round = 1; round <= ROUNDS; round++) {
		await_round(&g->begun, round);
		g->gave = hub_release_but_last(g->hub, g->loop);
		__atomic_store_n(&g->done, round, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Two workers that let go of their only links at the same time: one stays. */
static void test_last_stays(void **state)
{
	struct place *x = *state;
	struct hub *h = x->agent->hub;
	struct giver g = { h, x->loops[0], 0, 0, false };
	pthread_t thread;
	struct loop *loop;
	bool gave;

	assert_int_equal(pthread_create(&thread, NULL, give, &g), 0);
	for (unsigned round = 1; round <= ROUNDS; round++) {
		while (h->total < 2)
			assert_true(hub_reserve(h, 4, &loop));
		__atomic_store_n(&g.begun, round, __ATOMIC_RELEASE);
		/* The other thread hears of it a little later. */
		for (volatile unsigned i = 0; i < round % 256; i++)
			;
		gave = hub_release_but_last(h, x->loops[1]);
		await_round(&g.done, round);
		assert_int_equal(gave + g.gave, 1);
		assert_int_equal(h->total, 1);
	}
	pthread_join(thread, NULL);
	for (unsigned w = 0; w < N; w++)
		h->slot[w].assigned = 0;
	h->total = 0;
}

/* The agent wants no new exchange: those that it has go on, whoever waits. */
static void test_paused(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	unsigned lender = owner_of(x);
	struct ask a, b;
	struct frame f;

	exchange(x, p, lender);
	asked(x, p, &a, (lender + 1) % N, &f);
	answer(p, f.id);
	turn_until(x, a.answered);
	peer_send(p, FRAME_FLOW_CONTROL,
		  "{\"correlation_id\":null,\"action\":\"pause\"}");
	for (unsigned i = 0; i < 4; i++)
		turn(x);
	begin(x, &b, (lender + 1) % N);
	ask_head(&b, 10000 * MS);
	for (unsigned i = 0; i < 4; i++)
		turn(x);
	ask_chunk(&a, 0, 1000 * MS);
	get_event(x, p, &f);
	assert_int_equal(f.type, FRAME_REQUEST_CHUNK);
	expect_id(&f, &a);
	/* Without an id: it is the chunk's all the same. */
	peer_send(p, FRAME_REPLY, "{\"version\":2,\"decision\":"
		  "{\"block\":{\"status\":403}}}");
	turn_until(x, a.answered == 2);
	assert_int_equal(a.reply.cause, CAUSE_NONE);
	assert_int_equal(a.kind, DECISION_BLOCK);
	assert_int_equal(b.answered, 0);
	ask_end(&a);
	get_event(x, p, &f);
	assert_int_equal(f.type, FRAME_COMPLETE);
	expect_id(&f, &a);
	answer(p, f.id);
	peer_send(p, FRAME_FLOW_CONTROL,
		  "{\"correlation_id\":null,\"action\":\"resume\"}");
	get_event(x, p, &f);
	expect_id(&f, &b);
	answer(p, f.id);
	turn_until(x, b.answered);
	finish(x, p, &b);
	hang_up(p);
}

static void pause_of(struct peer *p, const struct ask *a, const char *action)
{
	char text[160];

	snprintf(text, sizeof(text), "{\"correlation_id\":\"%.32s\","
		 "\"action\":\"%s\"}", a->meta.correlation_id, action);
	peer_send(p, FRAME_FLOW_CONTROL, text);
}

/* The agent wants no chunk of one exchange, which another worker has: the
 * others go on. */
static void test_paused_exchange(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	unsigned w = own_links(x, 0) ? 1 : 0;
	struct ask a, b;
	struct frame f;

	for (struct ask *k = &a; k; k = k == &a ? &b : NULL) {
		asked(x, p, k, w, &f);
		answer(p, f.id);
		turn_until(x, k->answered);
	}
	pause_of(p, &a, "pause");
	turns(x, 4);
	ask_chunk(&a, 0, 5000 * MS);
	turns(x, 4);
	ask_chunk(&b, 0, 5000 * MS);
	get_event(x, p, &f);
	expect_id(&f, &b);
	answer(p, f.id);
	turn_until(x, b.answered == 2);
	pause_of(p, &b, "pause");
	pause_of(p, &a, "resume");
	get_event(x, p, &f);
	expect_id(&f, &a);
	answer(p, f.id);
	turn_until(x, a.answered == 2);
	/* One that ends meanwhile: the agent hears of that, and no more. */
	ask_chunk(&b, 1, 5000 * MS);
	turns(x, 4);
	agent_withdraw(&b.call, WIRE_CANCEL_CLIENT);
	finish(x, p, &b);
	/* And it is not for ever. */
	x->agent->tuning.pause_max_us = 20 * MS;
	pause_of(p, &a, "pause");
	turns(x, 4);
	ask_chunk(&a, 1, 5000 * MS);
	get_event(x, p, &f);
	expect_id(&f, &a);
	answer(p, f.id);
	turn_until(x, a.answered == 3);
	finish(x, p, &a);
	hang_up(p);
}

/* More than can be remembered, of nobody's exchanges. */
static void test_paused_flood(void **state)
{
	struct place *x = *state;
	struct peer *p = linked(x);
	struct ask none = { .answered = 0 };
	char id[EVENT_ID_LEN + 1];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(id, sizeof(id), "%032x", i);
		memcpy(none.meta.correlation_id, id, EVENT_ID_LEN);
		pause_of(p, &none, i % 7 ? "pause" : "resume");
		if (i % 50 == 0)
			turns(x, 2);
	}
	for (unsigned w = 0; w < N; w++)
		exchange(x, p, w);
	hang_up(p);
}

/* Who was refused and goes on sending is not listened to for long. */
static void test_flood(void **state)
{
	static char junk[32 * 1024];
	struct place *x = *state;
	struct peer *p = dial(x);
	size_t sent = 0;
	ssize_t n;

	peer_send(p, FRAME_REPLY, "{}");
	do {
		n = send(p->fd, junk, sizeof(junk), MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		assert_true(sent < 1024 * 1024);
		turn(x);
	} while (n > 0 || errno == EAGAIN);
	hang_up(p);
	hang_up(registered(x));
}

/* What the agent takes at a time is for all of its links; one that would have
 * nothing of it is not lent. */
static void test_stated_limit(void **state)
{
	static const char *const narrow = "{\"protocol_version\":2,"
		"\"agent_id\":\"waf\",\"auth_token\":\"sesame-open\","
		"\"capabilities\":{\"limits\":{\"max_concurrency\":6}}}";
	struct place *x = *state;
	struct peer *p[4];
	unsigned sum = 0;

	p[0] = registers(x, narrow);
	turn_until(x, all_linked(x));
	exchange(x, p[0], 0);
	/* The only one has all of it. */
	for (unsigned w = 0; w < N; w++)
		if (own_links(x, w))
			sum += own_depth(x, w);
	assert_int_equal(sum, 6);
	for (unsigned i = 1; i < 3; i++)
		p[i] = registers(x, narrow);
	turn_until(x, own_depth(x, 0) == 2 && own_depth(x, 1) == 2 &&
		   own_depth(x, 2) == 2);
	hang_up(p[1]);
	hang_up(p[2]);
	turn_until(x, own_depth(x, 0) + own_depth(x, 1) + own_depth(x, 2) ==
		   6);
	hang_up(p[0]);
}

static int fail_after;

static bool failing(size_t bytes)
{
	return fail_after-- <= 0;
}

/* Without memory, wherever that is felt, there is an answer all the same: a
 * go-v2 agent dies without one. */
static void test_no_memory(void **state)
{
	struct place *x = *state;
	bool accepted = false;

	for (int n = 0; !accepted; n++) {
		struct peer *p = dial(x);
		struct frame f;

		assert_true(n < 100);
		peer_send(p, FRAME_GO_REGISTER, hello);
		fail_after = n;
		mem_fault = failing;
		get_frame(x, p, &f);
		mem_fault = NULL;
		assert_int_equal(f.type, FRAME_GO_REGISTER_ACK);
		accepted = strstr(f.text, "true") != NULL;
		if (accepted)
			turn_until(x, TOTAL(x, links_up, 1) == 1);
		else
			turn_until(x, (peer_read(p), p->eof));
		hang_up(p);
		turn_until(x, TOTAL(x, links_up, 1) == 0);
		assert_int_equal(TOTAL(x, links_connecting, 1), 0);
	}
	assert_int_equal(x->agent->hub->total, 0);
}

#define P(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		P(test_all_workers_on_one_link),
		P(test_shares),
		P(test_leaves_unread),
		P(test_borrows_more),
		P(test_timeout),
		P(test_withdraw),
		P(test_link_dies),
		P(test_lender_closes),
		P(test_borrower_closes),
		P(test_drain),
		P(test_nobody_dials),
		P(test_refusals),
		P(test_flapping),
		P(test_at_once),
		P(test_yield),
		P(test_last_stays),
		P(test_paused),
		P(test_paused_exchange),
		P(test_paused_flood),
		P(test_flood),
		P(test_stated_limit),
		P(test_no_memory),
	};
	int failed;

	rcu_worker_online();
	log_set_level(LOG_ERROR);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rcu_worker_offline();
	return failed;
}
