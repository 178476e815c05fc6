/*
 * Parking: a client that has been quiet for a while is worth less memory than
 * one that talks. Its connection is reduced to a watch on the descriptor, and
 * made whole again with the first byte. What is parked counts as a connection
 * like any other and has the same idle time-out.
 */
#include "base/mem.h"
#include "exchange/exchange.h"

#define PARK_AFTER_US	1000000u
#define PARK_SWEEP_US	500000u
/* At so many a sweep looks, and at some more for each that it parks. */
#define PARK_LOOKS	256u
#define PARK_LOOKS_MORE	4u
/* So many parked since the last trim are worth giving pages back for. */
#define PARK_TRIM	512u

struct parked {
	struct cds_list_head node;	/* in worker->parked, oldest first */
	struct watch watch;
	struct deadline idle;
	struct worker_listener *listener;
	struct task reap;
	struct net_peer peer;
};

static void on_reap(struct task *t)
{
	struct parked *p = container_of(t, struct parked, reap);
	struct worker_listener *l = p->listener;
	struct worker *w = l->worker;

	mem_free(p);
	l->n_clients--;
	worker_listener_put(l);
	worker_check_drained(w);
}

/* Out of the books; the descriptor is the caller's. */
static int take_out(struct parked *p)
{
	struct worker_listener *l = p->listener;
	int fd = p->watch.fd;

	watch_stop(&p->watch);
	deadline_stop(&p->idle);
	cds_list_del(&p->node);
	l->worker->n_clients--;
	connection_count(l, &p->peer, false);
	loop_defer_reap(l->worker->loop, &p->reap, on_reap);
	return fd;
}

/* It talks, or hangs up: the connection itself is to see what it is. */
static void on_watch(struct watch *watch, unsigned what)
{
	struct parked *p = container_of(watch, struct parked, watch);
	int fd = take_out(p);

	client_open(p->listener, fd, &p->peer);
}

/* Its request may have come while this thread had no turn. */
static void on_idle(struct deadline *d)
{
	struct parked *p = container_of(d, struct parked, idle);

	if (sock_has_input(p->watch.fd))
		on_watch(&p->watch, 0);
	else
		sock_close(take_out(p), false);
}

static bool park(struct client *c)
{
	struct worker_listener *l = c->listener;
	struct loop *loop = l->worker->loop;
	struct parked *p = mem_zalloc(sizeof(*p));
	int fd;

	if (!p)
		return false;
	p->listener = l;
	p->peer = c->peer.peer;
	fd = h1_take_fd(&c->h1, &p->idle, on_idle);
	if (!watch_start_quiet(loop, &p->watch, fd, on_watch)) {
		deadline_stop(&p->idle);
		sock_close(fd, false);
		mem_free(p);
		client_free(c);
		return false;
	}
	cds_list_add_tail(&p->node, &l->worker->parked);
	l->worker->n_clients++;
	l->n_clients++;
	connection_count(l, &p->peer, true);
	client_free(c);
	return true;
}

static bool may_park(const struct client *c, uint64_t after_us)
{
	return !c->exchange && !listener_closing(c->listener) &&
	       c->worker->loop->now_us - c->begin_us >= after_us &&
	       h1_quiet(&c->h1);
}

/*
 * Those who have been quiet for so long. Each is looked at in its turn; if many
 * are busy not all of them now: thousands that wait for an agent had better
 * stay out of the cache.
 */
static void park_quiet(struct worker *w, uint64_t after_us, uint64_t looks)
{
	const struct client *stop = NULL;

	while (looks-- && !cds_list_empty(&w->clients)) {
		struct client *c = cds_list_first_entry(&w->clients,
							struct client, node);

		if (c == stop)
			return;
		cds_list_del(&c->node);
		cds_list_add_tail(&c->node, &w->clients);
		if (!may_park(c, after_us)) {
			if (!stop)
				stop = c;
		} else if (park(c)) {
			w->n_parked_since_trim++;
			looks += PARK_LOOKS_MORE;
		}
	}
}

static void on_sweep(struct deadline *d)
{
	struct worker *w = container_of(d, struct worker, park_sweep);

	park_quiet(w, PARK_AFTER_US, PARK_LOOKS);
	if (w->n_parked_since_trim >= PARK_TRIM) {
		w->n_parked_since_trim = 0;
		mem_trim();
	}
	if (!cds_list_empty(&w->clients))
		park_sweep_start(w);
}

void park_sweep_start(struct worker *w)
{
	if (!deadline_running(&w->park_sweep))
		deadline_start(w->loop, &w->park_sweep, PARK_SWEEP_US,
			       on_sweep);
}

void park_open_all(struct worker *w, const struct worker_listener *only)
{
	struct parked *p, *next;

	cds_list_for_each_entry_safe(p, next, &w->parked, node)
		if (!only || p->listener == only)
			on_watch(&p->watch, 0);
}

void park_close_all(struct worker *w)
{
	struct parked *p, *next;

	cds_list_for_each_entry_safe(p, next, &w->parked, node)
		sock_close(take_out(p), false);
}

bool park_close_oldest(struct worker *w, const struct worker_listener *only)
{
	struct parked *p;

	cds_list_for_each_entry(p, &w->parked, node) {
		if (only && p->listener != only)
			continue;
		sock_close(take_out(p), false);
		return true;
	}
	return false;
}

bool park_make_room(struct worker *w)
{
	if (cds_list_empty(&w->parked))
		park_quiet(w, 0, w->n_clients);
	return park_close_oldest(w, NULL);
}
