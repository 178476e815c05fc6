/*
 * The loop on epoll; see loop.h.
 *
 * An event passes here some two times per request, so all that is done with it
 * is to call its watch: that is why the workers have no event base of
 * libevent's, which takes 300 instructions for each, beside 150 bytes per
 * descriptor. Deadlines are lists, tasks and flushes are in task.c.
 */
#include "net/loop_parts.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rcu.h"
#include "net/sock.h"

#include <urcu/wfcqueue.h>

#define WAIT_FOREVER	UINT64_MAX
#define NEVER_US	UINT64_MAX
#define EVENTS_MAX	512	/* per turn */
#define POSTS_MAX	1024	/* per turn */
#define BUCKETS		64	/* of deadline lists, by duration */
#define LISTS_EXACT	64	/* with more, durations are rounded up */
#define SPARE_MAX	64
#define DURATION_MAX	(UINT64_C(1000000) * 86400 * 3650)

/* All deadlines of one duration, the next one due first. */
struct deadline_list {
	struct cds_list_head entries;
	uint64_t duration_us;
	/* When it is looked at next: no later than its first entry is due.
	 * NEVER_US if nothing is in it. */
	uint64_t due_us;
	struct deadline_list *next;	/* in its bucket, or spare */
};

struct loop_impl {
	struct loop pub;
	int epoll_fd;
	int wake_fd;
	bool posts_left;
	/* What this turn's wait has found, from `next` on to be told yet. */
	struct epoll_event events[EVENTS_MAX];
	int n_events, next;
	struct deadline_list *buckets[BUCKETS];
	struct deadline_list *spare;
	unsigned n_lists, n_spare;
	uint64_t due_us;	/* no later than that of any list */
	/* Without memory for a list: this one, kept in order by search. */
	struct deadline_list odd;

	/* Shared with whoever posts or stops. */
	struct __cds_wfcq_head posts_head __attribute__((aligned(CACHE_LINE)));
	struct cds_wfcq_tail posts_tail __attribute__((aligned(CACHE_LINE)));
	int stop;		/* atomic */
};

_Static_assert(sizeof(struct cds_wfcq_node) <= sizeof(((struct post *)0)->next),
	       "struct post has no room for the queue's node");

static struct loop_impl *impl_of(struct loop *loop)
{
	return container_of(loop, struct loop_impl, pub);
}

/* ---- clocks -------------------------------------------------------------- */

static void loop_refresh(struct loop *loop)
{
	uint64_t second = loop->wall_us / 1000000;

	loop->now_us = sock_clock_us();
	loop->wall_us = sock_wall_us();
	if (UNLIKELY(loop->wall_us / 1000000 != second))
		timefmt_http_date(loop->wall_us, loop->http_date);
}

uint64_t loop_clock_us(struct loop *loop)
{
	return sock_clock_us();
}

/* ---- interest in a descriptor ------------------------------------------- */

static bool watch_control(struct watch *w, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(impl_of(w->loop)->epoll_fd, op, w->fd, &ev) == 0;
}

static bool watch_init(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn, uint32_t events)
{
	w->fn = fn;
	w->loop = loop;
	w->fd = fd;
	w->quiet = false;
	w->write = events & EPOLLOUT;
	w->on = watch_control(w, EPOLL_CTL_ADD, events);
	return w->on;
}

bool watch_start(struct loop *loop, struct watch *w, int fd, watch_fn *fn)
{
	return watch_init(loop, w, fd, fn, EPOLLET | EPOLLIN | EPOLLRDHUP |
			  EPOLLOUT);
}

bool watch_start_quiet(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn)
{
	bool ok = watch_init(loop, w, fd, fn, EPOLLET | EPOLLIN | EPOLLRDHUP);

	w->quiet = true;
	return ok;
}

bool watch_start_listener(struct loop *loop, struct watch *w, int fd,
			  watch_fn *fn)
{
	return watch_init(loop, w, fd, fn, EPOLLIN);
}

bool watch_want_write(struct watch *w, bool on)
{
	uint32_t events = EPOLLET | EPOLLIN | EPOLLRDHUP;

	if (!w->on || !w->quiet || w->write == on)
		return true;
	/* What is ready already is told anew. */
	if (!watch_control(w, EPOLL_CTL_MOD, on ? events | EPOLLOUT : events))
		return false;
	w->write = on;
	return true;
}

void watch_stop(struct watch *w)
{
	struct loop_impl *impl;

	if (!w->on)
		return;
	w->on = false;
	(void)watch_control(w, EPOLL_CTL_DEL, 0);
	impl = impl_of(w->loop);
	for (int i = impl->next; i < impl->n_events; i++)
		if (impl->events[i].data.ptr == w)
			impl->events[i].data.ptr = NULL;
}

/* An error, and an end of both halves, are for whoever reads to find out. */
static inline unsigned ready_bits(const struct watch *w, uint32_t events)
{
	unsigned bits = 0;

	if (UNLIKELY(events & (EPOLLERR | EPOLLHUP)) &&
	    ((events & EPOLLERR) || !(events & EPOLLRDHUP)))
		return w->write ? WATCH_READ | WATCH_WRITE : WATCH_READ;
	if (events & EPOLLIN)
		bits |= WATCH_READ;
	if (events & EPOLLOUT)
		bits |= WATCH_WRITE;
	if (events & EPOLLRDHUP)
		bits |= WATCH_HUP;
	return bits;
}

/* ---- deadlines ----------------------------------------------------------- */

static struct deadline *list_first(const struct deadline_list *l)
{
	return cds_list_entry(l->entries.next, struct deadline, node);
}

/* It is to be looked at when its first entry is due. */
static void list_arm(struct loop_impl *impl, struct deadline_list *l)
{
	l->due_us = list_first(l)->at_us;
	impl->due_us = min_u64(impl->due_us, l->due_us);
}

static struct deadline_list **list_bucket(struct loop_impl *impl,
					  uint64_t duration_us)
{
	uint64_t h = duration_us * UINT64_C(0x9e3779b97f4a7c15);

	return &impl->buckets[h >> 58];
}

/* An empty list goes back, so that durations that are never used again leave
 * nothing behind. */
static void list_retire(struct loop_impl *impl, struct deadline_list *l)
{
	struct deadline_list **pp = list_bucket(impl, l->duration_us);

	while (*pp != l)
		pp = &(*pp)->next;
	*pp = l->next;
	impl->n_lists--;
	if (impl->n_spare >= SPARE_MAX) {
		mem_free(l);
		return;
	}
	l->next = impl->spare;
	impl->spare = l;
	impl->n_spare++;
}

/* Each callback may change the whole list, so only its first entry is ever
 * looked at. */
static void list_run(struct loop_impl *impl, struct deadline_list *l)
{
	while (!cds_list_empty(&l->entries)) {
		struct deadline *d = list_first(l);

		if (d->at_us > impl->pub.now_us)
			break;
		list_take(&d->node);
		d->fn(d);
	}
}

static void list_init(struct deadline_list *l)
{
	CDS_INIT_LIST_HEAD(&l->entries);
	l->due_us = NEVER_US;
}

/*
 * A list that is due: afterwards either something waits in it or it is gone.
 * While it runs it counts as due, so that what callbacks put there does not
 * make it so again.
 */
static void list_fire(struct loop_impl *impl, struct deadline_list *l)
{
	list_run(impl, l);
	l->due_us = NEVER_US;
	if (!cds_list_empty(&l->entries))
		list_arm(impl, l);
	else if (l != &impl->odd)
		list_retire(impl, l);
}

/* The first list in a bucket that is due. Looked for anew after each, for its
 * callbacks may have added others. */
static struct deadline_list *bucket_due(struct loop_impl *impl, int i)
{
	struct deadline_list *l = impl->buckets[i];

	while (l && l->due_us > impl->pub.now_us)
		l = l->next;
	return l;
}

static void run_deadlines(struct loop_impl *impl)
{
	uint64_t due_us = NEVER_US;
	struct deadline_list *l;

	if (LIKELY(impl->due_us > impl->pub.now_us))
		return;
	if (impl->odd.due_us <= impl->pub.now_us)
		list_fire(impl, &impl->odd);
	for (int i = 0; i < BUCKETS; i++)
		while ((l = bucket_due(impl, i)) != NULL)
			list_fire(impl, l);
	for (int i = 0; i < BUCKETS; i++)
		for (l = impl->buckets[i]; l; l = l->next)
			due_us = min_u64(due_us, l->due_us);
	impl->due_us = min_u64(due_us, impl->odd.due_us);
}

static struct deadline_list *list_find(struct loop_impl *impl,
				       uint64_t duration_us)
{
	struct deadline_list *l = *list_bucket(impl, duration_us);

	while (l && l->duration_us != duration_us)
		l = l->next;
	return l;
}

/* Up to the next of 64 steps per power of two, at least a millisecond: at most
 * 2 % late, and only so many lists. */
static uint64_t duration_round(uint64_t us)
{
	unsigned msb = 63u - (unsigned)__builtin_clzll(us);
	uint64_t step = msb > 16 ? UINT64_C(1) << (msb - 6) : 1000;

	return (us + step - 1) / step * step;
}

static struct deadline_list *list_new(struct loop_impl *impl,
				      uint64_t duration_us)
{
	struct deadline_list **bucket, *l;

	if (impl->n_lists >= LISTS_EXACT) {
		duration_us = duration_round(duration_us);
		l = list_find(impl, duration_us);
		if (l)
			return l;
	}
	l = impl->spare;
	if (l) {
		impl->spare = l->next;
		impl->n_spare--;
	} else {
		l = mem_alloc(sizeof(*l));
		if (!l)
			return &impl->odd;
		list_init(l);
	}
	bucket = list_bucket(impl, duration_us);
	l->duration_us = duration_us;
	l->next = *bucket;
	*bucket = l;
	impl->n_lists++;
	return l;
}

static void list_add_sorted(struct deadline_list *l, struct deadline *d)
{
	struct cds_list_head *at = l->entries.prev;

	while (at != &l->entries &&
	       cds_list_entry(at, struct deadline, node)->at_us > d->at_us)
		at = at->prev;
	cds_list_add(&d->node, at);
}

/* Without a list of that duration, or with an empty one. */
static NOINLINE void
deadline_start_slow(struct loop_impl *impl, struct deadline *d,
		    uint64_t duration_us)
{
	struct deadline_list *l = list_find(impl, duration_us);

	if (!l)
		l = list_new(impl, duration_us);
	if (LIKELY(l != &impl->odd)) {
		d->at_us = impl->pub.now_us + l->duration_us;
		cds_list_add_tail(&d->node, &l->entries);
	} else {
		d->at_us = impl->pub.now_us + duration_us;
		list_add_sorted(l, d);
	}
	if (d->at_us < l->due_us)
		list_arm(impl, l);
}

void deadline_start(struct loop *loop, struct deadline *d,
		    uint64_t duration_us, deadline_fn *fn)
{
	struct loop_impl *impl = impl_of(loop);
	struct deadline_list *l;

	deadline_stop(d);
	if (duration_us == 0)
		return;
	duration_us = min_u64(duration_us, DURATION_MAX);
	d->fn = fn;
	l = list_find(impl, duration_us);
	if (UNLIKELY(!l || l->due_us == NEVER_US)) {
		deadline_start_slow(impl, d, duration_us);
		return;
	}
	d->at_us = loop->now_us + duration_us;
	cds_list_add_tail(&d->node, &l->entries);
}

void deadline_stop(struct deadline *d)
{
	/* The list stays due: it finds out when it is looked at. */
	if (deadline_running(d))
		list_take(&d->node);
}

/* ---- from other threads -------------------------------------------------- */

static void loop_wake(struct loop_impl *impl)
{
	uint64_t one = 1;
	int saved_errno = errno;

	/* Fails only when the counter is full, and then it is readable. */
	while (write(impl->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}

void loop_post(struct loop *loop, struct post *p, post_fn *fn)
{
	struct loop_impl *impl = impl_of(loop);
	struct cds_wfcq_node *node = (struct cds_wfcq_node *)(void *)p->next;

	p->fn = fn;
	cds_wfcq_node_init(node);
	SYNC_RELEASE(p);
	/* Whoever finds it empty wakes the loop; the loop empties it whole. */
	if (!cds_wfcq_enqueue(&impl->posts_head, &impl->posts_tail, node))
		loop_wake(impl);
}

static void run_posts(struct loop_impl *impl)
{
	impl->posts_left = false;
	for (int i = 0; i < POSTS_MAX; i++) {
		struct cds_wfcq_node *node = __cds_wfcq_dequeue_nonblocking(
			&impl->posts_head, &impl->posts_tail);
		struct post *p = (struct post *)(void *)node;

		if (!node)
			return;
		/* A poster is between its two steps: never wait for it. */
		if (node == CDS_WFCQ_WOULDBLOCK)
			break;
		SYNC_ACQUIRE(p);
		p->fn(&impl->pub, p);
	}
	impl->posts_left = true;
}

static void on_wake(struct loop_impl *impl)
{
	uint64_t count;

	if (read(impl->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("loop", "text=\"eventfd: errno %d\"", errno);
	impl->posts_left = true;
}

void loop_stop(struct loop *loop)
{
	struct loop_impl *impl = impl_of(loop);

	__atomic_store_n(&impl->stop, 1, __ATOMIC_RELEASE);
	loop_wake(impl);
}

/* ---- turns --------------------------------------------------------------- */

/* Milliseconds for epoll_wait(), rounded up: a deadline is never early. */
static int wait_ms(struct loop_impl *impl, uint64_t max_wait_us)
{
	uint64_t now, rest = max_wait_us;

	if (max_wait_us == 0 || impl->posts_left ||
	    loop_has_deferred(&impl->pub))
		return 0;
	if (impl->due_us != NEVER_US) {
		now = sock_clock_us();
		rest = impl->due_us > now ? impl->due_us - now : 0;
		rest = min_u64(rest, max_wait_us);
	} else if (max_wait_us == WAIT_FOREVER) {
		return -1;
	}
	return (int)min_u64((rest + 999) / 1000, INT_MAX);
}

static void run_events(struct loop_impl *impl)
{
	for (impl->next = 0; impl->next < impl->n_events;) {
		const struct epoll_event *ev = &impl->events[impl->next++];
		struct watch *w = ev->data.ptr;

		if (UNLIKELY(!w))
			continue;
		if (UNLIKELY((void *)w == impl))
			on_wake(impl);
		else
			w->fn(w, ready_bits(w, ev->events));
	}
	impl->n_events = 0;
}

void loop_turn(struct loop *loop, uint64_t max_wait_us)
{
	struct loop_impl *impl = impl_of(loop);
	int n;

	loop_begin_turn(loop);
	n = epoll_wait(impl->epoll_fd, impl->events, EVENTS_MAX,
		       wait_ms(impl, max_wait_us));
	if (UNLIKELY(n < 0)) {
		if (errno != EINTR)
			log_error("loop", "text=\"epoll: errno %d\"", errno);
		n = 0;
	}
	impl->n_events = n;
	loop_refresh(loop);
	run_events(impl);
	run_deadlines(impl);
	if (impl->posts_left)
		run_posts(impl);
	loop_run_deferred(loop);
}

void loop_run(struct loop *loop)
{
	struct loop_impl *impl = impl_of(loop);

	while (!__atomic_load_n(&impl->stop, __ATOMIC_ACQUIRE))
		loop_turn(loop, WAIT_FOREVER);
	__atomic_store_n(&impl->stop, 0, __ATOMIC_RELAXED);
}

/* ---- making and unmaking ------------------------------------------------- */

struct loop *loop_new(unsigned index)
{
	struct loop_impl *impl = mem_zalloc_aligned(sizeof(*impl));
	struct epoll_event wake = { .events = EPOLLIN, .data.ptr = impl };

	if (!impl)
		return NULL;
	loop_init_public(&impl->pub, index);
	__cds_wfcq_init(&impl->posts_head, &impl->posts_tail);
	list_init(&impl->odd);
	impl->due_us = NEVER_US;
	impl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	impl->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (impl->epoll_fd < 0 || impl->wake_fd < 0 ||
	    epoll_ctl(impl->epoll_fd, EPOLL_CTL_ADD, impl->wake_fd, &wake) < 0)
		goto fail;
	loop_refresh(&impl->pub);
	return &impl->pub;
fail:
	if (impl->wake_fd >= 0)
		close(impl->wake_fd);
	if (impl->epoll_fd >= 0)
		close(impl->epoll_fd);
	mem_free(impl);
	return NULL;
}

static void free_lists(struct deadline_list *l)
{
	while (l) {
		struct deadline_list *next = l->next;

		ASSERT(cds_list_empty(&l->entries));
		mem_free(l);
		l = next;
	}
}

void loop_free(struct loop *loop)
{
	struct loop_impl *impl;

	if (!loop)
		return;
	impl = impl_of(loop);
	ASSERT(cds_list_empty(&impl->odd.entries));
	for (int i = 0; i < BUCKETS; i++)
		free_lists(impl->buckets[i]);
	free_lists(impl->spare);
	close(impl->epoll_fd);
	close(impl->wake_fd);
	loop_fini_public(loop);
	mem_free(impl);
}
