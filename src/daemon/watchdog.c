#include "daemon/watchdog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/control.h"
#include "daemon/notify.h"
#include "net/sock.h"

#define TICK_US		1000000u
#define STUCK_US	3000000u

static uint64_t env_number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : 0;
}

void watchdog_on_alive(struct letter *l)
{
	struct worker_thread *t = container_of(l, struct worker_thread, alive);

	if (t->stuck)
		log_warn("worker", "event=worker_moves worker=%u after_ms=%"
			 PRIu64, t->loop->index,
			 (sock_clock_us() - t->asked_us) / 1000);
	t->asked_us = 0;
	t->stuck = false;
}

static void say_stuck(struct worker_thread *t, uint64_t us)
{
	if (t->stuck)
		return;
	t->stuck = true;
	log_error("worker", "event=worker_stuck worker=%u for_ms=%" PRIu64,
		  t->loop->index, us / 1000);
}

/* systemd listens to its main process only. */
static bool may_feed(const struct control *c)
{
	return c->watchdog.feeds && !handover_shared(c) &&
	       (c->handover.fd < 0 || handover_busy(c));
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	uint64_t now = sock_clock_us();
	bool all = true;

	for (unsigned w = 0; w < c->n_threads; w++) {
		struct worker_thread *t = &c->threads[w];

		if (t->asked_us == 0) {
			t->asked_us = now;
			worker_thread_ask_alive(t);
			continue;
		}
		all = false;
		if (now - t->asked_us >= c->watchdog.stuck_us)
			say_stuck(t, now - t->asked_us);
	}
	if (all && may_feed(c))
		notify_watchdog();
}

bool watchdog_start(struct control *c)
{
	struct watchdog *d = &c->watchdog;
	uint64_t usec = env_number("WATCHDOG_USEC");
	uint64_t pid = env_number("WATCHDOG_PID");
	uint64_t tick_us = TICK_US;
	struct timeval tv;

	/* A process that was handed over to is none of systemd's children, and
	 * has no WATCHDOG_PID. */
	d->feeds = usec > 0 && (pid == 0 || pid == (uint64_t)getpid());
	d->stuck_us = STUCK_US;
	if (d->feeds) {
		tick_us = min_u64(tick_us, usec / 4 + 1);
		d->stuck_us = min_u64(STUCK_US, usec / 2);
	}
	tv = (struct timeval){
		.tv_sec = (time_t)(tick_us / 1000000),
		.tv_usec = (suseconds_t)(tick_us % 1000000),
	};
	d->tick = event_new(c->base, -1, EV_PERSIST, on_tick, c);
	return d->tick && event_add(d->tick, &tv) == 0;
}

void watchdog_fini(struct control *c)
{
	if (c->watchdog.tick)
		event_free(c->watchdog.tick);
}
