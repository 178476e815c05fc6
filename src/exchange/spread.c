/*
 * Few connections on many sockets of one port land unevenly, and stay where
 * they are for as long as the client keeps them. A worker that has clearly more
 * than another passes on what it accepts.
 *
 *	accepted by A --post--> B takes it, or not --post--> A forgets it, or
 *	takes it itself
 *
 * Until it is back it counts as a client of A, so that no drain ends before.
 * Nothing of this costs anything per request.
 */
#include "base/mem.h"
#include "exchange/exchange.h"

/* More than this many more than the other, and a quarter of its own. */
#define MARGIN	2u

struct passed {
	struct post post;
	struct worker *from, *to;
	struct worker_listener *listener;	/* from's */
	int fd;					/* -1: taken */
	struct net_addr addr;
};

static struct worker *worker_at(const struct worker *w, unsigned i)
{
	return __atomic_load_n(&w->shared->workers[i], __ATOMIC_ACQUIRE);
}

static uint64_t count_at(const struct worker_listener *l, unsigned i)
{
	struct listener_metrics *m = metrics_set_local(l->config->metrics, i);

	return counter_read(&m->connections);
}

/* The worker that has the fewest, if that is clearly fewer. What is on its way
 * is taken to have gone there. */
static struct worker *find_poorer(const struct worker_listener *l)
{
	const struct worker *w = l->worker;
	uint64_t own = count_at(l, w->index), least = own;
	unsigned at = w->index;

	for (unsigned i = 0; i < w->shared->n_workers; i++) {
		uint64_t n = count_at(l, i);

		if (n < least) {
			least = n;
			at = i;
		}
	}
	least += w->n_passing;
	return own > least + MARGIN + least / 4 ? worker_at(w, at) : NULL;
}

static struct worker_listener *find_listener(struct worker *w,
					     const char *name)
{
	struct worker_listener *l;

	cds_list_for_each_entry(l, &w->listeners, node)
		if (l->fd >= 0 && strcmp(l->name, name) == 0)
			return l;
	return NULL;
}

/* It has ended; this is its loop's last turn. */
static bool is_gone(struct worker *w)
{
	return worker_at(w, w->index) == NULL;
}

/* At from again. */
static void on_back(struct loop *loop, struct post *post)
{
	struct passed *p = container_of(post, struct passed, post);
	struct worker_listener *l = p->listener;
	struct worker *w = p->from;

	if (p->fd >= 0 && is_gone(w))
		sock_close(p->fd, true);
	else if (p->fd >= 0)
		client_accept(l, p->fd, &p->addr);
	mem_free(p);
	w->n_passing--;
	w->n_clients--;
	l->n_clients--;
	worker_listener_put(l);
	if (!is_gone(w))
		worker_check_drained(w);
}

/* At to. */
static void on_passed(struct loop *loop, struct post *post)
{
	struct passed *p = container_of(post, struct passed, post);
	struct worker *w = p->to;
	struct worker_listener *l = is_gone(w) || w->draining ? NULL :
		find_listener(w, p->listener->name);

	if (l && l->config) {
		client_accept(l, p->fd, &p->addr);
		p->fd = -1;
	}
	loop_post(p->from->loop, &p->post, on_back);
}

bool spread(struct worker_listener *l, int fd, const struct net_addr *addr)
{
	struct worker *w = l->worker, *to;
	struct passed *p;

	if (w->shared->n_workers == 1 || w->draining)
		return false;
	to = find_poorer(l);
	p = to ? mem_alloc(sizeof(*p)) : NULL;
	if (!p)
		return false;
	*p = (struct passed){ .from = w, .to = to, .listener = l, .fd = fd,
			      .addr = *addr };
	w->n_passing++;
	w->n_clients++;
	l->n_clients++;
	loop_post(to->loop, &p->post, on_passed);
	return true;
}
