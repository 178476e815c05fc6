/*
 * The loop on libevent_core; see loop.h.
 *
 * libevent is asked for readiness and for a few timers. Everything that
 * happens once per request (deadlines, tasks, flushes) is lists of our own
 * around it.
 */
#include "net/loop_parts.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rcu.h"
#include "net/sock.h"

#include <urcu/wfcqueue.h>

#define WAIT_FOREVER	UINT64_MAX
#define POSTS_MAX	1024	/* per turn */
#define BUCKETS		64	/* of deadline lists, by duration */
#define LISTS_EXACT	64	/* with more, durations are rounded up */
#define SPARE_MAX	64
#define DURATION_MAX	(UINT64_C(1000000) * 86400 * 3650)

/* All deadlines of one duration, the next one due first. */
struct deadline_list {
	struct cds_list_head entries;
	uint64_t duration_us;
	struct deadline_list *next;	/* in its bucket, or spare */
	struct loop_impl *impl;
	bool armed;
	struct event timer;
};

struct loop_impl {
	struct loop pub;
	struct event_base *base;
	struct event wake;	/* on wake_fd */
	struct event wait;	/* ends a turn that may not wait for ever */
	int wake_fd;
	bool stale;		/* the clocks are those of the last turn */
	bool posts_left;
	bool unarmed;		/* some list has a timer that could not start */
	struct deadline_list *buckets[BUCKETS];
	struct deadline_list *spare;
	unsigned n_lists, n_spare;
	/* Without memory for a list: this one, kept in order by search. */
	struct deadline_list odd;

	/* Shared with whoever posts or stops. */
	struct __cds_wfcq_head posts_head __attribute__((aligned(CACHE_LINE)));
	struct cds_wfcq_tail posts_tail __attribute__((aligned(CACHE_LINE)));
	int stop;		/* atomic */
};

_Static_assert(sizeof(struct event) <= sizeof(((struct watch *)0)->impl),
	       "struct watch has no room for libevent's event");
_Static_assert(sizeof(struct cds_wfcq_node) <= sizeof(((struct post *)0)->next),
	       "struct post has no room for the queue's node");

static struct loop_impl *impl_of(struct loop *loop)
{
	return container_of(loop, struct loop_impl, pub);
}

/* ---- clocks -------------------------------------------------------------- */

static void loop_refresh(struct loop_impl *impl)
{
	struct loop *loop = &impl->pub;
	uint64_t second = loop->wall_us / 1000000;

	impl->stale = false;
	loop->now_us = sock_clock_us();
	loop->wall_us = sock_wall_us();
	if (UNLIKELY(loop->wall_us / 1000000 != second))
		timefmt_http_date(loop->wall_us, loop->http_date);
}

/* libevent has no hook between its wait and its callbacks, so the first
 * callback of a turn does it. */
static inline void loop_fresh(struct loop_impl *impl)
{
	if (impl->stale)
		loop_refresh(impl);
}

uint64_t loop_clock_us(struct loop *loop)
{
	return sock_clock_us();
}

/* ---- interest in a descriptor ------------------------------------------- */

static struct event *watch_event(struct watch *w)
{
	return (struct event *)(void *)w->impl;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;
	unsigned bits = 0;

	loop_fresh(impl_of(w->loop));
	if (what & EV_READ)
		bits |= WATCH_READ;
	if (what & EV_WRITE)
		bits |= WATCH_WRITE;
	if (what & EV_CLOSED)
		bits |= WATCH_HUP;
	w->fn(w, bits);
}

static bool watch_add(struct watch *w, short what)
{
	struct event *ev = watch_event(w);

	return event_assign(ev, impl_of(w->loop)->base, w->fd,
			    (short)(what | EV_PERSIST), on_event, w) == 0 &&
	       event_add(ev, NULL) == 0;
}

static bool watch_init(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn, short what)
{
	w->fn = fn;
	w->loop = loop;
	w->fd = fd;
	w->quiet = w->write = false;
	w->on = watch_add(w, what);
	return w->on;
}

bool watch_start(struct loop *loop, struct watch *w, int fd, watch_fn *fn)
{
	return watch_init(loop, w, fd, fn,
			  EV_ET | EV_READ | EV_WRITE | EV_CLOSED);
}

bool watch_start_quiet(struct loop *loop, struct watch *w, int fd,
		       watch_fn *fn)
{
	bool ok = watch_init(loop, w, fd, fn, EV_ET | EV_READ | EV_CLOSED);

	w->quiet = true;
	return ok;
}

bool watch_start_listener(struct loop *loop, struct watch *w, int fd,
			  watch_fn *fn)
{
	return watch_init(loop, w, fd, fn, EV_READ);
}

bool watch_want_write(struct watch *w, bool on)
{
	short what = EV_ET | EV_READ | EV_CLOSED;

	if (!w->on || !w->quiet || w->write == on)
		return true;
	event_del(watch_event(w));
	if (watch_add(w, on ? (short)(what | EV_WRITE) : what)) {
		w->write = on;
		return true;
	}
	w->on = watch_add(w, on ? what : (short)(what | EV_WRITE));
	return false;
}

void watch_stop(struct watch *w)
{
	if (!w->on)
		return;
	w->on = false;
	event_del(watch_event(w));
}

/* ---- deadlines ----------------------------------------------------------- */

static struct deadline *list_first(const struct deadline_list *l)
{
	return cds_list_entry(l->entries.next, struct deadline, node);
}

static void list_arm(struct deadline_list *l)
{
	struct loop_impl *impl = l->impl;
	uint64_t now = impl->pub.now_us, at = list_first(l)->at_us;
	uint64_t rest = at > now ? at - now : 0;
	struct timeval tv = {
		.tv_sec = (time_t)(rest / 1000000),
		.tv_usec = (suseconds_t)(rest % 1000000),
	};

	l->armed = event_add(&l->timer, &tv) == 0;
	if (UNLIKELY(!l->armed))
		impl->unarmed = true;
}

static struct deadline_list **list_bucket(struct loop_impl *impl,
					  uint64_t duration_us)
{
	uint64_t h = duration_us * UINT64_C(0x9e3779b97f4a7c15);

	return &impl->buckets[h >> 58];
}

/* An empty list goes back, so that durations that are never used again leave
 * nothing behind. */
static void list_retire(struct deadline_list *l)
{
	struct loop_impl *impl = l->impl;
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

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct deadline_list *l = arg;
	struct loop_impl *impl = l->impl;

	loop_fresh(impl);
	/* l->armed is left on meanwhile: what is started by a callback waits
	 * for the arming below. Each callback may change the whole list, so
	 * only its first entry is ever looked at. */
	while (!cds_list_empty(&l->entries)) {
		struct deadline *d = list_first(l);

		if (d->at_us > impl->pub.now_us)
			break;
		list_take(&d->node);
		d->fn(d);
	}
	l->armed = false;
	if (!cds_list_empty(&l->entries))
		list_arm(l);
	else if (l != &impl->odd)
		list_retire(l);
}

static void list_init(struct loop_impl *impl, struct deadline_list *l)
{
	CDS_INIT_LIST_HEAD(&l->entries);
	l->impl = impl;
	l->armed = false;
	evtimer_assign(&l->timer, impl->base, on_timer, l);
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
		list_init(impl, l);
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
	if (at == &l->entries)
		l->armed = false;	/* it is the first now */
}

/* Without a list of that duration, or one whose timer does not run. */
static __attribute__((noinline)) void
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
	if (!l->armed)
		list_arm(l);
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
	if (UNLIKELY(!l || !l->armed)) {
		deadline_start_slow(impl, d, duration_us);
		return;
	}
	d->at_us = loop->now_us + duration_us;
	cds_list_add_tail(&d->node, &l->entries);
}

void deadline_stop(struct deadline *d)
{
	/* The timer stays: it finds out when it fires. */
	if (deadline_running(d))
		list_take(&d->node);
}

/* Timers that libevent had no memory for are tried again each turn. */
static void rearm_all(struct loop_impl *impl)
{
	impl->unarmed = false;
	if (!impl->odd.armed && !cds_list_empty(&impl->odd.entries))
		list_arm(&impl->odd);
	for (int i = 0; i < BUCKETS; i++)
		for (struct deadline_list *l = impl->buckets[i]; l; l = l->next)
			if (!l->armed && !cds_list_empty(&l->entries))
				list_arm(l);
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

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct loop_impl *impl = arg;
	uint64_t count;

	loop_fresh(impl);
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

static void on_wait_over(evutil_socket_t fd, short what, void *arg)
{
	/* That it fired has ended the wait already. */
}

void loop_turn(struct loop *loop, uint64_t max_wait_us)
{
	struct loop_impl *impl = impl_of(loop);
	bool limit = max_wait_us != WAIT_FOREVER && max_wait_us > 0;
	int flags = EVLOOP_ONCE;

	if (UNLIKELY(impl->unarmed))
		rearm_all(impl);
	loop_begin_turn(loop);
	if (max_wait_us == 0 || impl->posts_left || impl->unarmed ||
	    loop_has_deferred(loop)) {
		flags |= EVLOOP_NONBLOCK;
		limit = false;
	}
	if (limit) {
		struct timeval tv = {
			.tv_sec = (time_t)(max_wait_us / 1000000),
			.tv_usec = (suseconds_t)(max_wait_us % 1000000),
		};

		event_add(&impl->wait, &tv);
	}
	impl->stale = true;
	if (event_base_loop(impl->base, flags) < 0)
		log_error("loop", "text=\"event_base_loop: errno %d\"", errno);
	if (limit)
		event_del(&impl->wait);
	loop_fresh(impl);
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

static void on_libevent_log(int severity, const char *text)
{
	enum log_level level = severity >= EVENT_LOG_ERR ? LOG_ERROR :
			       severity == EVENT_LOG_WARN ? LOG_WARN :
			       LOG_DEBUG;

	log_event(level, "libevent", "text=\"%s\"", text);
}

static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (!config)
		return NULL;
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK |
				  EVENT_BASE_FLAG_IGNORE_ENV) == 0 &&
	    event_config_require_features(config, EV_FEATURE_ET |
					  EV_FEATURE_EARLY_CLOSE) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

struct loop *loop_new(unsigned index)
{
	struct loop_impl *impl = mem_zalloc_aligned(sizeof(*impl));

	if (!impl)
		return NULL;
	event_set_log_callback(on_libevent_log);
	loop_init_public(&impl->pub, index);
	__cds_wfcq_init(&impl->posts_head, &impl->posts_tail);
	impl->base = base_new();
	impl->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!impl->base || impl->wake_fd < 0)
		goto fail;
	list_init(impl, &impl->odd);
	evtimer_assign(&impl->wait, impl->base, on_wait_over, impl);
	event_assign(&impl->wake, impl->base, impl->wake_fd,
		     EV_READ | EV_PERSIST, on_wake, impl);
	if (event_add(&impl->wake, NULL) < 0)
		goto fail;
	loop_refresh(impl);
	return &impl->pub;
fail:
	if (impl->wake_fd >= 0)
		close(impl->wake_fd);
	if (impl->base)
		event_base_free(impl->base);
	mem_free(impl);
	return NULL;
}

static void free_lists(struct deadline_list *l)
{
	while (l) {
		struct deadline_list *next = l->next;

		ASSERT(cds_list_empty(&l->entries));
		event_del(&l->timer);
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
	event_del(&impl->odd.timer);
	for (int i = 0; i < BUCKETS; i++)
		free_lists(impl->buckets[i]);
	free_lists(impl->spare);
	event_del(&impl->wait);
	event_del(&impl->wake);
	event_base_free(impl->base);
	close(impl->wake_fd);
	loop_fini_public(loop);
	mem_free(impl);
}
