/*
 * The twin of src/net/loop.c: many loops in one thread, on virtual time.
 * Tasks, flushes and reaps are the real ones (src/net/task.c).
 */
#include "net/loop.h"

#include <stdlib.h>

#include "net/loop_parts.h"
#include "net/sock.h"
#include "sim_int.h"

static struct sim_loop *sim_of(struct loop *loop)
{
	return container_of(loop, struct sim_loop, pub);
}

static void refresh(struct loop *loop)
{
	uint64_t second = loop->wall_us / 1000000;

	loop->now_us = sock_clock_us();
	loop->wall_us = sock_wall_us();
	if (loop->wall_us / 1000000 != second)
		timefmt_http_date(loop->wall_us, loop->http_date);
}

struct loop *loop_new(unsigned index)
{
	struct sim_world *w = sim_the();
	struct sim_loop *l = calloc(1, sizeof(*l)), **pp = &w->loops;

	ASSERT(l);
	loop_init_public(&l->pub, index);
	CDS_INIT_LIST_HEAD(&l->ready);
	CDS_INIT_LIST_HEAD(&l->deadlines);
	while (*pp)
		pp = &(*pp)->next;
	*pp = l;
	refresh(&l->pub);
	return &l->pub;
}

void loop_free(struct loop *loop)
{
	struct sim_loop *l = sim_of(loop), **pp = &sim_the()->loops;

	ASSERT(cds_list_empty(&l->ready));
	ASSERT(cds_list_empty(&l->deadlines));
	ASSERT(!l->posts);
	loop_fini_public(loop);
	while (*pp != l)
		pp = &(*pp)->next;
	*pp = l->next;
	free(l);
}

/* ---- descriptors --------------------------------------------------------- */

static bool start(struct loop *loop, struct watch *w, int fd, watch_fn *fn)
{
	struct sim_end *e = end_of_fd(fd);

	ASSERT(!e->watch);
	w->fn = fn;
	w->loop = loop;
	w->fd = fd;
	w->on = true;
	w->quiet = w->write = false;
	e->watch = w;
	end_notify(e);
	return true;
}

bool watch_start(struct loop *loop, struct watch *w, int fd, watch_fn *fn)
{
	return start(loop, w, fd, fn);
}

bool watch_start_quiet(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn)
{
	bool ok = start(loop, w, fd, fn);

	w->quiet = true;
	return ok;
}

bool watch_start_listener(struct loop *loop, struct watch *w, int fd,
			  watch_fn *fn)
{
	return start(loop, w, fd, fn);
}

bool watch_want_write(struct watch *w, bool on)
{
	if (!w->on || !w->quiet || w->write == on)
		return true;
	w->write = on;
	end_notify(end_of_fd(w->fd));
	return true;
}

void watch_stop(struct watch *w)
{
	struct sim_end *e;

	if (!w->on)
		return;
	w->on = false;
	e = end_of_fd(w->fd);
	ASSERT(e->watch == w);
	e->watch = NULL;
	if (list_linked(&e->ready))
		list_take(&e->ready);
}

/*
 * What has an edge now, in an order that the dice decide; what gets one
 * meanwhile waits for the next turn, as with epoll.
 */
static void run_ready(struct sim_loop *l, struct sim_world *w)
{
	struct cds_list_head batch;

	CDS_INIT_LIST_HEAD(&batch);
	while (!cds_list_empty(&l->ready)) {
		struct cds_list_head *node = l->ready.next;

		cds_list_del(node);
		if (net_chance(w, 200))
			cds_list_add(node, &batch);
		else
			cds_list_add_tail(node, &batch);
	}
	while (!cds_list_empty(&batch)) {
		struct sim_end *e = cds_list_entry(batch.next, struct sim_end,
						   ready);
		struct watch *watch = e->watch;
		unsigned mask = end_mask(e);

		list_take(&e->ready);
		if (watch->quiet && !watch->write)
			mask &= ~(unsigned)WATCH_WRITE;
		if (!mask)
			continue;
		sim_note(w, (uint64_t)e->id << 8, mask);
		/* Listeners are level-triggered. */
		if (e->state == END_LISTENING)
			end_notify(e);
		watch->fn(watch, mask);
	}
}

/* ---- deadlines ----------------------------------------------------------- */

void deadline_start(struct loop *loop, struct deadline *d,
		    uint64_t duration_us, deadline_fn *fn)
{
	struct sim_loop *l = sim_of(loop);
	struct sim_world *w = sim_the();
	struct cds_list_head *at;

	deadline_stop(d);
	if (duration_us == 0)
		return;
	d->fn = fn;
	d->at_us = loop->now_us + duration_us +
		   net_below(w, (uint64_t)w->profile.late_max + 1);
	at = l->deadlines.prev;
	while (at != &l->deadlines &&
	       cds_list_entry(at, struct deadline, node)->at_us > d->at_us)
		at = at->prev;
	cds_list_add(&d->node, at);
}

void deadline_stop(struct deadline *d)
{
	if (deadline_running(d))
		list_take(&d->node);
}

static struct deadline *first_deadline(struct sim_loop *l)
{
	if (cds_list_empty(&l->deadlines))
		return NULL;
	return cds_list_entry(l->deadlines.next, struct deadline, node);
}

static void run_deadlines(struct sim_loop *l)
{
	struct deadline *d;

	while ((d = first_deadline(l)) && d->at_us <= l->pub.now_us) {
		list_take(&d->node);
		d->fn(d);
	}
}

/* ---- posts --------------------------------------------------------------- */

void loop_post(struct loop *loop, struct post *p, post_fn *fn)
{
	struct sim_loop *l = sim_of(loop);

	p->fn = fn;
	p->next[0] = NULL;
	if (l->posts)
		l->posts_last->next[0] = p;
	else
		l->posts = p;
	l->posts_last = p;
}

static void run_posts(struct sim_loop *l)
{
	struct post *p = l->posts;

	l->posts = NULL;
	while (p) {
		struct post *next = p->next[0];

		p->fn(&l->pub, p);
		p = next;
	}
}

/* ---- turns --------------------------------------------------------------- */

bool sim_loop_has_work(struct sim_loop *l)
{
	struct deadline *d = first_deadline(l);

	return !cds_list_empty(&l->ready) || l->posts ||
	       loop_has_deferred(&l->pub) ||
	       (d && d->at_us <= sim_the()->now_us);
}

uint64_t sim_loop_next_us(struct sim_loop *l)
{
	struct deadline *d = first_deadline(l);

	return d ? d->at_us : UINT64_MAX;
}

void sim_loop_turn(struct sim_loop *l)
{
	struct sim_world *w = sim_the();

	ASSERT(!w->in_turn);
	w->in_turn = true;
	loop_begin_turn(&l->pub);
	refresh(&l->pub);
	/* Nobody may rely on either order. */
	if (net_chance(w, 500)) {
		run_deadlines(l);
		run_ready(l, w);
	} else {
		run_ready(l, w);
		run_deadlines(l);
	}
	run_posts(l);
	loop_run_deferred(&l->pub);
	w->in_turn = false;
}

/* A turn of this loop alone; the world stands still meanwhile. */
void loop_turn(struct loop *loop, uint64_t max_wait_us)
{
	sim_loop_turn(sim_of(loop));
}

static bool has_stopped(void *arg)
{
	struct sim_loop *l = arg;

	return l->stop;
}

void loop_run(struct loop *loop)
{
	struct sim_loop *l = sim_of(loop);
	bool stopped = sim_run_until(sim_the(), UINT64_MAX, has_stopped, l);

	ASSERT(stopped);
	l->stop = false;
}

void loop_stop(struct loop *loop)
{
	sim_of(loop)->stop = true;
}

uint64_t loop_clock_us(struct loop *loop)
{
	return sock_clock_us();
}
