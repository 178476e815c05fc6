/* Server groups, with listeners of the test's own as servers. */
#include <fcntl.h>

#include "base/mem.h"
#include "upstream_fixture.h"

#define LEASES	16

struct user {
	struct upstream_lease lease;
	struct bench *b;
	unsigned ready, ended, aborted, failed;
	enum upstream_error error;
	enum message_fault why;
};

static struct bench bench;
static struct user users[LEASES];

static void open_group(struct bench *b, unsigned n)
{
	b->config.n_servers = n;
	bench_open(b);
}

static int setup(void **state)
{
	struct bench *b = &bench;

	*state = b;
	bench_init(b);
	b->config.keepalive = 8;
	b->config.timeouts.connect_us = 1000000;
	b->config.timeouts.response_us = 60000000;
	b->config.timeouts.idle_us = 60000000;
	memset(users, 0, sizeof(users));
	for (unsigned i = 0; i < LEASES; i++)
		users[i].b = b;
	return 0;
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < LEASES; i++)
		upstream_release(&users[i].lease, false);
	bench_fini(*state);
	return 0;
}

/* ---- exchanges ----------------------------------------------------------- */

static void on_ready(struct upstream_lease *l, enum upstream_error error)
{
	struct user *u = container_of(l, struct user, lease);

	u->ready++;
	u->error = error;
	assert_true((error == UPSTREAM_OK) == (l->conn != NULL));
}

static void on_head(void *owner, const struct http_head *head,
		    struct block *block)
{
}

static void on_data(void *owner, struct block *block, const char *p, size_t n)
{
}

static void on_end(void *owner, const struct http_head *trailers)
{
	struct user *u = owner;

	u->ended++;
}

static void on_abort(void *owner, enum message_fault why,
		     enum http_parse fault)
{
	struct user *u = owner;

	u->aborted++;
	u->why = why;
}

static void on_fail(void *owner, enum message_fault why)
{
	struct user *u = owner;

	u->failed++;
}

static void on_nothing(void *owner)
{
}

static const struct source_events source_events = {
	on_head, on_data, on_end, on_abort,
};

static const struct sink_events sink_events = {
	on_nothing, on_fail, on_nothing,
};

/* True: at hand. */
static bool acquire(struct user *u)
{
	u->ready = u->ended = u->aborted = u->failed = 0;
	u->lease.on_ready = on_ready;
	return upstream_acquire(u->b->u, u->b->loop, &u->lease);
}

static void wait_ready(struct user *u)
{

	TURN_UNTIL(u->b, u->ready);
	assert_int_equal(u->ready, 1);
}

/* Leases a new connection to the first server, and is that server's end. */
static int connected(struct user *u)
{
	assert_false(acquire(u));
	wait_ready(u);
	return take(u->b, 0);
}

static void send_get(struct user *u)
{
	struct h1_conn *h1 = &u->lease.conn->h1;
	struct http_head h = {
		.method = SLICE("GET"), .method_id = HTTP_GET,
		.path = SLICE("/"), .minor = 1, .keep_alive = true,
	};

	h1->source.events = &source_events;
	h1->source.owner = u;
	h1->sink.events = &sink_events;
	h1->sink.owner = u;
	h1_begin_request(h1, HTTP_GET);
	h1->sink.ops->head(&h1->sink, &h);
	h1->sink.ops->end(&h1->sink, NULL);
}

static void answer(struct user *u, int fd)
{
	char buf[4096];

	loop_turn(u->b->loop, 0);
	assert_true(recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0);
	assert_int_equal(send(fd, "HTTP/1.1 204 No\r\n\r\n", 19, 0), 19);
	TURN_UNTIL(u->b, u->ended);
}

static const struct upstream_metrics *group_metrics(struct bench *b)
{
	struct metrics_set *set = metrics_set_get(b->metrics, METRICS_UPSTREAM,
						  "app", "");
	void *local = metrics_set_local(set, 0);

	metrics_set_put(b->metrics, set);
	return local;
}

static const struct server_metrics *server_metrics(struct bench *b, unsigned i)
{
	struct metrics_set *set = metrics_set_get(b->metrics, METRICS_SERVER,
						  "app", b->text[i]);
	void *local = metrics_set_local(set, 0);

	metrics_set_put(b->metrics, set);
	return local;
}

static unsigned server_of(struct bench *b, const struct user *u)
{
	for (unsigned i = 0; i < SERVERS; i++)
		if (!strcmp(b->text[i], upstream_server_name(u->lease.conn)))
			return i;
	fail_msg("no such server");
	return 0;
}

/* ---- tests --------------------------------------------------------------- */

static void test_reuse(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	struct upstream_conn *conn;
	int fd;

	open_group(b, 1);
	assert_false(acquire(u));
	assert_int_equal(u->ready, 0);		/* never from inside */
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_OK);
	assert_false(u->lease.conn->reused);
	fd = take(b, 0);
	for (int i = 0; i < 5; i++) {
		send_get(u);
		answer(u, fd);
		conn = u->lease.conn;
		upstream_release(&u->lease, true);
		assert_null(u->lease.conn);
		assert_int_equal(counter_read(&group_metrics(b)->idle), 1);
		assert_int_equal(counter_read(&group_metrics(b)->active), 0);
		assert_true(acquire(u));
		assert_ptr_equal(u->lease.conn, conn);
		assert_true(conn->reused);
		assert_int_equal(counter_read(&group_metrics(b)->active), 1);
	}
	assert_int_equal(counter_read(&server_metrics(b, 0)->requests), 6);
	/* Fresh means fresh. */
	upstream_release(&u->lease, true);
	u->lease.fresh = true;
	assert_false(acquire(u));
	wait_ready(u);
	assert_false(u->lease.conn->reused);
	assert_int_equal(u->lease.attempts, 7);
	assert_int_equal(counter_read(&group_metrics(b)->idle), 1);
	close(fd);
}

/* The one used last is the one used next. */
static void test_lifo_and_limit(void **state)
{
	struct bench *b = *state;
	struct upstream_conn *conn[4];
	int fd[4];

	b->config.keepalive = 3;
	open_group(b, 1);
	for (int i = 0; i < 4; i++) {
		fd[i] = connected(&users[i]);
		conn[i] = users[i].lease.conn;
	}
	for (int i = 0; i < 4; i++) {
		send_get(&users[i]);
		answer(&users[i], fd[i]);
		upstream_release(&users[i].lease, true);
	}
	assert_int_equal(counter_read(&group_metrics(b)->idle), 3);
	for (int i = 3; i > 0; i--) {
		assert_true(acquire(&users[i]));
		assert_ptr_equal(users[i].lease.conn, conn[i]);
	}
	/* The oldest had to go. */
	assert_false(acquire(&users[0]));
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}

static void test_no_keepalive(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	char c;
	int fd;

	b->config.keepalive = 0;
	open_group(b, 1);
	fd = connected(u);
	send_get(u);
	answer(u, fd);
	upstream_release(&u->lease, true);
	assert_int_equal(counter_read(&group_metrics(b)->idle), 0);
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	close(fd);
}

/* A kept connection that the server has closed is not given out. */
static void test_dead_kept(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	int fd;

	open_group(b, 1);
	fd = connected(u);
	send_get(u);
	answer(u, fd);
	upstream_release(&u->lease, true);
	close(fd);
	TURN_UNTIL(b, !counter_read(&group_metrics(b)->idle));
	assert_false(acquire(u));
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_OK);
}

/* ... and if it dies in our hands the user is told so. */
static void test_dies_leased(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	int fd;

	open_group(b, 1);
	fd = connected(u);
	send_get(u);
	answer(u, fd);
	upstream_release(&u->lease, true);
	assert_true(acquire(u));
	close(fd);
	TURN_UNTIL(b, u->lease.conn->h1.state == H1_CLOSED);
	send_get(u);
	loop_turn(b->loop, 0);
	assert_int_equal(u->aborted, 1);
	assert_int_equal(u->why, MESSAGE_EOF);
	assert_false(u->lease.conn->h1.got_bytes);
	upstream_release(&u->lease, false);
	u->lease.fresh = true;
	assert_false(acquire(u));
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_OK);
}

static void test_second_server(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];

	stop_server(b, 0);
	open_group(b, 2);
	assert_false(acquire(u));
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_OK);
	assert_int_equal(server_of(b, u), 1);
	assert_int_equal(u->lease.attempts, 2);
	assert_int_equal(counter_read(&group_metrics(b)->retries), 1);
	/* The broken one is left alone for a while. */
	for (int i = 1; i < 8; i++) {
		assert_false(acquire(&users[i]));
		wait_ready(&users[i]);
		assert_int_equal(users[i].lease.attempts, 1);
	}
	for (int i = 0; i < 8; i++)
		close(take(b, 1));
}

static void test_all_refuse(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];

	for (unsigned i = 0; i < 3; i++)
		stop_server(b, i);
	open_group(b, 3);
	for (unsigned k = 1; k < 3; k++) {
		assert_false(acquire(u));
		assert_int_equal(u->ready, 0);
		wait_ready(u);
		assert_int_equal(u->error, UPSTREAM_REFUSED);
		assert_null(u->lease.conn);
		/* Each once, also when all are known to be down. */
		assert_int_equal(u->lease.attempts, 3 * k);
		assert_int_equal(counter_read(
			&group_metrics(b)->errors[UPSTREAM_REFUSED]), k);
	}
	assert_int_equal(counter_read(&group_metrics(b)->active), 0);
}

/* A listener with a full backlog does not answer. */
static void test_connect_timeout(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	int filler[8];
	int fd;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	stop_server(b, 0);
	{
		struct net_addr *a = &b->servers[0].address.addr;

		a->in.sin_port = 0;
		assert_int_equal(bind(fd, &a->sa, a->len), 0);
		assert_int_equal(listen(fd, 0), 0);
		assert_int_equal(getsockname(fd, &a->sa, &a->len), 0);
		net_addr_format(a, b->text[0]);
		for (int i = 0; i < 8; i++)
			filler[i] = sock_connect(a);
	}
	b->config.timeouts.connect_us = 50000;
	open_group(b, 1);
	assert_false(acquire(u));
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_TIMEOUT);
	assert_int_equal(counter_read(
		&group_metrics(b)->errors[UPSTREAM_TIMEOUT]), 1);
	for (int i = 0; i < 8; i++)
		close(filler[i]);
	close(fd);
}

static void spread(struct bench *b, unsigned n, unsigned count[SERVERS])
{
	memset(count, 0, SERVERS * sizeof(count[0]));
	for (unsigned i = 0; i < n; i++) {
		assert_false(acquire(&users[i]));
		wait_ready(&users[i]);
		count[server_of(b, &users[i])]++;
	}
}

static void test_round_robin(void **state)
{
	struct bench *b = *state;
	unsigned count[SERVERS];

	b->servers[2].weight = 2;
	open_group(b, 3);
	spread(b, 12, count);
	assert_int_equal(count[0], 3);
	assert_int_equal(count[1], 3);
	assert_int_equal(count[2], 6);
}

static void test_least_connections(void **state)
{
	struct bench *b = *state;
	unsigned count[SERVERS];

	b->config.balance = BALANCE_LEAST_CONNECTIONS;
	b->servers[2].weight = 2;
	open_group(b, 3);
	spread(b, 8, count);
	assert_int_equal(count[0], 2);
	assert_int_equal(count[1], 2);
	assert_int_equal(count[2], 4);
	/* Whoever has become free is the next. */
	for (unsigned i = 0; i < 8; i++) {
		if (server_of(b, &users[i]) != 1)
			continue;
		upstream_release(&users[i].lease, false);
		assert_false(acquire(&users[8]));
		wait_ready(&users[8]);
		assert_int_equal(server_of(b, &users[8]), 1);
		return;
	}
	fail();
}

static void test_least_weights(void **state)
{
	struct bench *b = *state;
	unsigned count[SERVERS];

	b->config.balance = BALANCE_LEAST_CONNECTIONS;
	b->servers[0].weight = 5;
	b->servers[1].weight = 2;
	open_group(b, 3);
	spread(b, 16, count);
	assert_int_equal(count[0], 10);
	assert_int_equal(count[1], 4);
	assert_int_equal(count[2], 2);
}

/* Idle ones count for nobody: ties go round. */
static void test_least_ties(void **state)
{
	struct bench *b = *state;
	unsigned count[SERVERS] = { 0 };

	b->config.balance = BALANCE_LEAST_CONNECTIONS;
	open_group(b, 4);
	for (int i = 0; i < 8; i++) {
		struct user *u = &users[0];

		if (!acquire(u))
			wait_ready(u);
		count[server_of(b, u)]++;
		upstream_release(&u->lease, true);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(count[i], 2);
	assert_int_equal(counter_read(&group_metrics(b)->idle), 4);
}

static void test_hash(void **state)
{
	struct bench *b = *state;
	unsigned count[SERVERS] = { 0 }, at[64];

	b->config.balance = BALANCE_HASH;
	open_group(b, 4);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 64; i++) {
			struct user *u = &users[0];

			u->lease.hash = i * UINT64_C(0x9e3779b97f4a7c15);
			if (!acquire(u))
				wait_ready(u);
			if (round)
				assert_int_equal(at[i], server_of(b, u));
			at[i] = server_of(b, u);
			count[at[i]]++;
			upstream_release(&u->lease, true);
		}
	}
	for (int i = 0; i < 4; i++)
		assert_in_range(count[i], 10, 60);
}

static void test_withdraw(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];

	open_group(b, 1);
	assert_false(acquire(u));
	upstream_release(&u->lease, false);
	assert_int_equal(counter_read(&group_metrics(b)->active), 0);
	for (int i = 0; i < 5; i++)
		loop_turn(b->loop, 1000);
	assert_int_equal(u->ready, 0);
}

/* A Unix socket fails at once. */
static void test_withdraw_failed(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	struct net_addr *a = &b->servers[0].address.addr;

	assert_true(net_addr_parse(SLICE("unix:/nowhere/at/all"), a));
	open_group(b, 1);
	assert_false(acquire(u));
	assert_int_equal(u->ready, 0);
	wait_ready(u);
	assert_int_equal(u->error, UPSTREAM_REFUSED);
	assert_false(acquire(u));
	upstream_release(&u->lease, false);
	loop_turn(b->loop, 0);
	assert_int_equal(u->ready, 0);
}

/* The group may be gone before the end of the turn. */
static void test_gone_before_reap(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];

	open_group(b, 1);
	assert_false(acquire(u));
	wait_ready(u);
	upstream_release(&u->lease, false);
	upstream_local_close(b->u, b->loop);
	upstream_put(b->u);
	loop_turn(b->loop, 0);
	open_group(b, 1);
}

static void test_local_close(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0], *v = &users[1];
	int fd[2];
	char c;

	open_group(b, 1);
	for (int i = 0; i < 2; i++) {
		fd[i] = connected(&users[i]);
		send_get(&users[i]);
		answer(&users[i], fd[i]);
	}
	upstream_release(&u->lease, true);
	upstream_local_close(b->u, b->loop);
	assert_int_equal(counter_read(&group_metrics(b)->idle), 0);
	assert_int_equal(recv(fd[0], &c, 1, 0), 0);
	/* What is in use stays, and is not kept after. */
	upstream_release(&v->lease, true);
	assert_int_equal(counter_read(&group_metrics(b)->idle), 0);
	assert_int_equal(recv(fd[1], &c, 1, 0), 0);
	close(fd[0]);
	close(fd[1]);
}

static void test_orphan(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	int fd;
	char c;

	open_group(b, 1);
	fd = connected(u);
	upstream_orphan(&u->lease);
	assert_int_equal(counter_read(&group_metrics(b)->active), 0);
	upstream_local_close(b->u, b->loop);
	upstream_put(b->u);
	b->config.name = "other";
	open_group(b, 1);
	upstream_release(&u->lease, true);
	loop_turn(b->loop, 0);
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	close(fd);
}

/* Kept for no longer than timeouts.idle, more or less. */
static void test_sweep(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	int fd;

	b->config.timeouts.idle_us = 100000;
	open_group(b, 1);
	fd = connected(u);
	send_get(u);
	answer(u, fd);
	upstream_release(&u->lease, true);
	TURN_UNTIL(b, !counter_read(&group_metrics(b)->idle));
	close(fd);
}

static bool refuse_all(size_t bytes)
{
	return true;
}

static void test_no_memory(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];

	open_group(b, 2);
	mem_fault = refuse_all;
	assert_false(acquire(u));
	wait_ready(u);
	mem_fault = NULL;
	assert_int_equal(u->error, UPSTREAM_NO_MEMORY);
}

static unsigned fail_at, allocations;

static bool refuse_one(size_t bytes)
{
	return ++allocations == fail_at;
}

/* Whichever allocation fails, nothing leaks. */
static void test_new_no_memory(void **state)
{
	struct bench *b = *state;

	b->config.n_servers = 3;
	mem_fault = refuse_one;
	for (fail_at = 1;; fail_at++) {
		allocations = 0;
		b->u = upstream_new(&b->config, 1, b->metrics);
		if (b->u)
			break;
		assert_true(fail_at < 100);
	}
	mem_fault = NULL;
	assert_true(fail_at > 5);
}

static void test_same_and_json(void **state)
{
	struct bench *b = *state;
	struct user *u = &users[0];
	char want[512], *text;
	size_t n;
	FILE *out;

	b->servers[1].weight = 7;
	stop_server(b, 0);
	open_group(b, 2);
	assert_true(upstream_same(b->u, &b->config));
	b->config.keepalive++;
	assert_false(upstream_same(b->u, &b->config));
	b->config.keepalive--;
	b->servers[1].weight = 6;
	assert_false(upstream_same(b->u, &b->config));
	b->servers[1].weight = 7;
	assert_string_equal(upstream_name(b->u), "app");
	for (int i = 0; i < 2; i++) {
		/* Until the first server's turn has come. */
		assert_false(acquire(&users[i]));
		wait_ready(&users[i]);
	}
	for (int i = 2; i < 8; i++) {
		assert_false(acquire(&users[i]));
		wait_ready(&users[i]);
	}
	upstream_release(&u->lease, true);
	out = open_memstream(&text, &n);
	upstream_print_json(b->u, out);
	fclose(out);
	snprintf(want, sizeof(want), "{\"name\":\"app\",\"servers\":["
		 "{\"address\":\"%s\",\"state\":\"down\",\"active\":0,"
		 "\"idle\":0,\"weight\":1},"
		 "{\"address\":\"%s\",\"state\":\"up\",\"active\":7,"
		 "\"idle\":1,\"weight\":7}]}", b->text[0], b->text[1]);
	assert_string_equal(text, want);
	free(text);
}

static void test_error_names(void **state)
{
	struct bench *b = *state;

	open_group(b, 1);
	for (int i = 1; i < UPSTREAM_ERROR_N; i++)
		assert_string_equal(upstream_error_names[i],
				    metrics_upstream_names[i]);
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_reuse), T(test_lifo_and_limit), T(test_no_keepalive),
		T(test_dead_kept), T(test_dies_leased), T(test_second_server),
		T(test_all_refuse), T(test_connect_timeout),
		T(test_round_robin), T(test_least_connections),
		T(test_least_ties), T(test_hash), T(test_withdraw),
		T(test_withdraw_failed), T(test_gone_before_reap),
		T(test_least_weights),
		T(test_local_close), T(test_orphan), T(test_sweep),
		T(test_no_memory), T(test_new_no_memory),
		T(test_same_and_json), T(test_error_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
