/* Two workers on one thread, real sockets: who gets a connection, and what a
 * listener leaves behind. */
#include "config_fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rcu.h"
#include "exchange/exchange.h"
#include "net/sock.h"

#define WORKERS	2
#define CLIENTS	40

static const char with_l[] =
	"listeners: [{ name: l, address: '127.0.0.1:80', timeouts: "
	"{ idle: 60s } }]\n"
	"routes: [{ respond: { status: 200 } }]\n"
	"log: { access: { path: 'off' } }\n";
static const char without_l[] =
	"listeners: [{ name: m, address: '127.0.0.1:80' }]\n"
	"routes: [{ respond: { status: 200 } }]\n"
	"log: { access: { path: 'off' } }\n";

struct rig {
	struct shared shared;
	struct loop *loop[WORKERS];
	struct worker worker[WORKERS];
	struct snapshot *snapshot, *next;
	struct net_addr addr[WORKERS];
	int fd[WORKERS];
	int client[CLIENTS];
	unsigned n_clients;
};

static struct snapshot *make_snapshot(struct rig *r, const char *text,
				      struct snapshot *former)
{
	struct snapshot *s = snapshot_new(load_good(text), former ? 2 : 1,
					  former, WORKERS, r->shared.metrics);

	assert_non_null(s);
	return s;
}

static void listen_somewhere(struct rig *r, unsigned w)
{
	struct net_addr *a = &r->addr[w];
	bool ok = net_addr_parse(SLICE("127.0.0.1:1"), a);

	assert_true(ok);
	a->in.sin_port = 0;
	r->fd[w] = sock_listen(a, 128);
	assert_true(r->fd[w] >= 0);
	assert_int_equal(getsockname(r->fd[w], &a->sa, &a->len), 0);
	assert_true(worker_listen(&r->worker[w], "l", r->fd[w]));
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->shared.n_workers = WORKERS;
	r->shared.metrics = metrics_new(WORKERS);
	r->shared.access = access_log_open("off", 0, WORKERS);
	peers_init(&r->shared);
	r->snapshot = make_snapshot(r, with_l, NULL);
	for (unsigned w = 0; w < WORKERS; w++) {
		r->loop[w] = loop_new(w);
		assert_non_null(r->loop[w]);
		worker_init(&r->worker[w], r->loop[w], &r->shared,
			    r->snapshot);
		listen_somewhere(r, w);
	}
	*state = r;
	return 0;
}

static void turns(struct rig *r)
{
	for (int i = 0; i < 20; i++)
		for (unsigned w = 0; w < WORKERS; w++)
			loop_turn(r->loop[w], 0);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	for (unsigned w = 0; w < WORKERS; w++)
		worker_fini(&r->worker[w]);
	turns(r);
	for (unsigned w = 0; w < WORKERS; w++) {
		loop_free(r->loop[w]);
		close(r->fd[w]);
	}
	for (unsigned i = 0; i < r->n_clients; i++)
		close(r->client[i]);
	snapshot_free(r->snapshot);
	if (r->next)
		snapshot_free(r->next);
	rcu_drain();
	access_log_close(r->shared.access);
	metrics_free(r->shared.metrics);
	free(r);
	return 0;
}

static void connect_to(struct rig *r, unsigned w)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &r->addr[w].sa, r->addr[w].len), 0);
	r->client[r->n_clients++] = fd;
}

/* n clients more, one after the other, all at the socket of worker w. */
static void come(struct rig *r, unsigned w, unsigned n)
{
	for (; n > 0; n--) {
		connect_to(r, w);
		turns(r);
	}
}

static void check_shares(const struct rig *r, unsigned a, unsigned b)
{
	assert_int_equal(r->worker[0].n_clients, a);
	assert_int_equal(r->worker[1].n_clients, b);
	assert_int_equal(r->worker[0].n_passing, 0);
}

/* ---- spreading ----------------------------------------------------------- */

static void test_few_are_kept(void **state)
{
	struct rig *r = *state;

	come(r, 0, 3);
	check_shares(r, 3, 0);
}

static void test_more_are_passed_on(void **state)
{
	struct rig *r = *state;

	come(r, 0, 10);
	check_shares(r, 6, 4);
	come(r, 1, 10);
	check_shares(r, 8, 12);
}

/* A burst is not thrown whole at the one that had the fewest. */
static void test_burst(void **state)
{
	struct rig *r = *state;

	for (unsigned n = 0; n < CLIENTS; n++)
		connect_to(r, 0);
	turns(r);
	assert_int_equal(r->worker[0].n_clients + r->worker[1].n_clients,
			 CLIENTS);
	assert_true(r->worker[0].n_clients >= r->worker[1].n_clients);
	assert_true(r->worker[1].n_clients >= CLIENTS / 3);
}

/* The other one does not take it: it stays where it came. */
static void test_other_drains(void **state)
{
	struct rig *r = *state;

	worker_drain_begin(&r->worker[1]);
	come(r, 0, 10);
	check_shares(r, 10, 0);
}

static void test_other_does_not_listen(void **state)
{
	struct rig *r = *state;

	worker_unlisten(&r->worker[1], "l");
	come(r, 0, 10);
	check_shares(r, 10, 0);
}

/* Ends with one on its way. */
static void test_end_while_passing(void **state)
{
	struct rig *r = *state;

	come(r, 0, 3);
	for (unsigned n = 0; n < 5; n++)
		connect_to(r, 0);
	while (r->worker[0].n_passing == 0)
		loop_turn(r->loop[0], 0);
}

static void on_drained(struct worker *w)
{
	*(bool *)w->owner = true;
}

static void test_no_drain_while_passing(void **state)
{
	struct rig *r = *state;
	bool drained = false;

	r->worker[0].on_drained = on_drained;
	r->worker[0].owner = &drained;
	test_end_while_passing(state);
	worker_drain(&r->worker[0]);
	for (int i = 0; i < 20; i++)
		loop_turn(r->loop[0], 0);
	assert_false(drained);
	turns(r);
	assert_true(drained);
}

/* ---- a listener that goes -------------------------------------------------- */

static void test_taken_away(void **state)
{
	struct rig *r = *state;
	struct worker *w = &r->worker[0];
	const struct worker_listener *l;
	const struct client *c;

	come(r, 0, 1);
	c = caa_container_of(w->clients.next, struct client, node);
	l = c->listener;
	assert_int_equal(l->settings.idle_us, 60000000);
	/* What waits there yet is accepted. */
	connect_to(r, 0);
	worker_unlisten(w, "l");
	assert_int_equal(w->n_clients, 2);
	r->next = make_snapshot(r, without_l, r->snapshot);
	worker_switch(w, r->next);
	worker_switch(&r->worker[1], r->next);
	/* Nothing of the former snapshot is used any more. */
	assert_int_equal(r->snapshot->workers_left, 0);
	assert_string_equal(l->config->config->name, "l");
	assert_int_equal(l->config->config->timeouts.idle_us, 60000000);
	assert_int_equal(l->settings.idle_us, 1000000);
	assert_true(listener_closing(l));
	while (w->n_clients > 0)
		loop_turn(r->loop[0], 100000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_few_are_kept), T(test_more_are_passed_on),
		T(test_burst), T(test_other_drains),
		T(test_other_does_not_listen), T(test_end_while_passing),
		T(test_no_drain_while_passing), T(test_taken_away),
	};

	rcu_worker_online();
	return cmocka_run_group_tests_name("worker_listen", tests, NULL, NULL);
}
