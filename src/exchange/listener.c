/*
 * What is listened on: accepting, limits, and the end of a listener. Once a
 * reload has taken it out of the config
 *	at once		what waits in its socket is accepted, then nothing more;
 *			all answers say Connection: close
 *	IDLE_US		connections that had no request since are closed
 * and its last clients are served by the limits that it had.
 */
#include <errno.h>

#include "base/mem.h"
#include "exchange/exchange.h"

/* Also the longest time that a client of a listener that ends may think. */
#define IDLE_US		1000000u
/* Accepts in one turn, at most, before traffic gets its share. */
#define ACCEPT_BATCH	64
#define ACCEPT_RETRY_US	100000u
/* Quiet connections closed at a time when descriptors run out. */
#define ACCEPT_ROOM	8u
/* And before a listener is closed: all that may wait there. */
#define ACCEPT_LAST	65536

/* ---- its config ------------------------------------------------------------ */

/*
 * A set goes with its last snapshot: what is open moves on to the one that
 * counts from now on. A name may go and come back while its clients stay.
 */
static void listener_count_at(struct worker_listener *l,
			      struct listener_metrics *to)
{
	if (to == l->metrics)
		return;
	counter_add(&l->metrics->connections, (uint64_t)0 - l->n_open);
	counter_add(&to->connections, l->n_open);
	l->metrics = to;
}

/* What a listener was, for those who are still connected. */
struct listener_past {
	struct snapshot_listener listener;
	struct config_listener config;
	struct config_network trusted[];
};

/* The snapshot that has it is about to go. NULL: no memory. */
static struct listener_past *remember(const struct worker_listener *l)
{
	const struct config_listener *c = l->config->config;
	size_t n = c->n_trusted_proxies * sizeof(c->trusted_proxies[0]);
	struct listener_past *p = mem_zalloc(sizeof(*p) + n);

	if (!p)
		return NULL;
	p->config = *c;
	p->config.name = p->config.address.text = l->name;
	if (n)
		memcpy(p->trusted, c->trusted_proxies, n);
	p->config.trusted_proxies = p->trusted;
	p->listener = *l->config;
	p->listener.config = &p->config;
	p->listener.metrics = NULL;
	return p;
}

static const struct snapshot_listener *
find_config(const struct worker_listener *l)
{
	const struct snapshot *s = l->worker->snapshot;

	for (unsigned i = 0; i < s->config->n_listeners; i++)
		if (strcmp(s->listeners[i].config->name, l->name) == 0)
			return &s->listeners[i];
	return NULL;
}

/* Nobody shall wait for a client that does not know that its connection
 * ends. */
static void shorten_idle(struct worker_listener *l)
{
	l->settings.idle_us = min_u64(l->settings.idle_us, IDLE_US);
}

/* The former snapshot is there yet. */
static void listener_configure(struct worker_listener *l)
{
	const struct snapshot_listener *now = find_config(l);

	if (!now) {
		if (l->config && !l->past)
			l->past = remember(l);
		l->config = l->past ? &l->past->listener : NULL;
		listener_count_at(l, &l->no_metrics);
		return;
	}
	l->config = now;
	l->settings = now->settings;
	if (l->fd < 0)
		shorten_idle(l);
	listener_count_at(l, metrics_set_local(now->metrics,
					       l->worker->index));
}

void listeners_configure(struct worker *w)
{
	struct worker_listener *l;
	struct client *c;

	cds_list_for_each_entry(l, &w->listeners, node)
		listener_configure(l);
	cds_list_for_each_entry(c, &w->clients, node)
		if (c->listener->config)
			forward_peer_judge(&c->peer,
					   c->listener->config->config);
}

/* ---- accepting ------------------------------------------------------------- */

/* Connections of the listener over all workers. */
static uint64_t listener_load(const struct worker_listener *l)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < l->worker->shared->n_workers; i++) {
		struct listener_metrics *m =
			metrics_set_local(l->config->metrics, i);

		n += counter_read(&m->connections);
	}
	return n;
}

static void on_acceptable(struct watch *watch, unsigned what);

static void on_accept_retry(struct deadline *d)
{
	struct worker_listener *l =
		container_of(d, struct worker_listener, retry);

	if (!watch_start_listener(l->worker->loop, &l->watch, l->fd,
				  on_acceptable))
		deadline_start(l->worker->loop, &l->retry, ACCEPT_RETRY_US,
			       on_accept_retry);
}

/* Out of descriptors: looks away for a while instead of spinning. */
static void accept_later(struct worker_listener *l, int error)
{
	counter_inc(&l->metrics->refused_system);
	log_warn("accept", "listener=%s error=\"%s\" retry_ms=%u", l->name,
		 strerror(-error), ACCEPT_RETRY_US / 1000);
	watch_stop(&l->watch);
	deadline_start(l->worker->loop, &l->retry, ACCEPT_RETRY_US,
		       on_accept_retry);
}

/* The quietest connection makes way for a new one. */
static bool has_room(struct worker_listener *l)
{
	if (!l->config)
		return false;
	if (listener_load(l) < l->config->config->max_connections)
		return true;
	return park_close_oldest(l->worker, l);
}

/* Out of descriptors: quiet connections give way, some more than this one
 * takes, for it will need a connection to the upstream as well. */
static int accept_once_more(struct worker_listener *l, struct net_addr *from,
			    int error)
{
	unsigned n = 0;

	while (n < ACCEPT_ROOM && park_close_oldest(l->worker, NULL))
		n++;
	return n ? sock_accept(l->fd, from) : error;
}

static void accept_some(struct worker_listener *l, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		struct net_addr from;
		int fd = sock_accept(l->fd, &from);

		if (UNLIKELY(fd == -EMFILE || fd == -ENFILE))
			fd = accept_once_more(l, &from, fd);
		if (fd == -EAGAIN)
			return;
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS ||
		    fd == -ENOMEM) {
			accept_later(l, fd);
			return;
		}
		if (fd < 0)
			continue;	/* that one went away by itself */
		if (!has_room(l)) {
			counter_inc(&l->metrics->refused_limit);
			sock_close(fd, true);
			continue;
		}
		if (!spread(l, fd, &from))
			client_accept(l, fd, &from);
	}
}

static void on_acceptable(struct watch *watch, unsigned what)
{
	accept_some(container_of(watch, struct worker_listener, watch),
		    ACCEPT_BATCH);
}

bool worker_listen(struct worker *w, const char *listener_name, int fd)
{
	size_t len = strlen(listener_name) + 1;
	struct worker_listener *l = mem_zalloc(sizeof(*l) + len);

	if (!l)
		return false;
	memcpy(l->name, listener_name, len);
	for (const char *s = listener_name; *s; s++)
		l->name_hash = l->name_hash * 31 + (unsigned char)*s;
	l->worker = w;
	l->fd = fd;
	l->metrics = &l->no_metrics;
	listener_configure(l);
	if (!watch_start_listener(w->loop, &l->watch, fd, on_acceptable)) {
		mem_free(l);
		return false;
	}
	cds_list_add_tail(&l->node, &w->listeners);
	return true;
}

/* ---- the end --------------------------------------------------------------- */

void worker_listener_put(struct worker_listener *l)
{
	if (l->fd >= 0 || l->n_clients > 0)
		return;
	deadline_stop(&l->retry);
	cds_list_del(&l->node);
	mem_free(l->past);
	mem_free(l);
}

static void drain_clients(struct worker *w, const struct worker_listener *only)
{
	struct client *c, *next;

	cds_list_for_each_entry_safe(c, next, &w->clients, node)
		if (!only || c->listener == only)
			h1_drain(&c->h1);
}

static void on_idle(struct deadline *d)
{
	struct worker_listener *l =
		container_of(d, struct worker_listener, retry);

	drain_clients(l->worker, l);
}

/* accept: so many of those that wait are served yet. */
static void listener_stop(struct worker_listener *l, unsigned accept)
{
	if (accept)
		accept_some(l, accept);
	watch_stop(&l->watch);
	deadline_stop(&l->retry);
	l->fd = -1;
	shorten_idle(l);
}

void worker_unlisten(struct worker *w, const char *listener_name)
{
	struct worker_listener *l, *next;

	cds_list_for_each_entry_safe(l, next, &w->listeners, node) {
		if (l->fd < 0 || strcmp(l->name, listener_name) != 0)
			continue;
		listener_stop(l, ACCEPT_LAST);
		park_open_all(w, l);
		deadline_start(w->loop, &l->retry, IDLE_US, on_idle);
		worker_listener_put(l);
	}
}

void listeners_stop(struct worker *w, bool accept_waiting)
{
	struct worker_listener *l, *next;

	cds_list_for_each_entry_safe(l, next, &w->listeners, node) {
		if (l->fd >= 0)
			listener_stop(l, accept_waiting ? ACCEPT_LAST : 0);
		worker_listener_put(l);
	}
}

void listeners_drain(struct worker *w)
{
	listeners_stop(w, false);
	park_open_all(w, NULL);
	drain_clients(w, NULL);
}

bool listeners_any(const struct worker *w)
{
	const struct worker_listener *l;

	cds_list_for_each_entry(l, &w->listeners, node)
		if (l->fd >= 0)
			return true;
	return false;
}
