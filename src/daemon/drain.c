/*
 * The end in peace. A stop that nobody takes over from:
 *	at once		clients that come are not let in any more; all
 *			answers say Connection: close
 *	ACCEPT_US	what waits is accepted, listening sockets are closed
 *	IDLE_US		connections that had no request since are closed
 *	drain_timeout	what is left is cut off
 * After a hand-over another process holds the sockets: they are let go of at
 * once, and idle connections get half of drain_timeout, so that each client
 * learns from an answer that its connection ends.
 */
#include <inttypes.h>

#include <event2/event.h>

#include "daemon/control.h"
#include "daemon/notify.h"
#include "net/sock.h"

/* Longer than a handshake takes. */
#define ACCEPT_US	200000u
#define IDLE_US		1000000u

void control_stop(struct control *c, const char *reason)
{
	if (c->state == CONTROL_STOPPING)
		return;
	c->state = CONTROL_STOPPING;
	log_info("stop", "reason=%s uptime_s=%" PRIu64, reason,
		 (sock_clock_us() - c->start_us) / 1000000);
	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_stop(&c->threads[w]);
	event_base_loopbreak(c->base);
}

static void on_drain_timeout(evutil_socket_t fd, short what, void *arg)
{
	control_stop(arg, "drain_timeout");
}

static void deafen(struct control *c)
{
	bool last = !handover_shared(c);

	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_deafen(&c->threads[w], last);
}

static void on_deafen(evutil_socket_t fd, short what, void *arg)
{
	deafen(arg);
}

static void on_close_idle(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_close_idle(&c->threads[w]);
}

bool drain_init(struct control *c)
{
	c->deadline = evtimer_new(c->base, on_drain_timeout, c);
	c->deafen = evtimer_new(c->base, on_deafen, c);
	c->close_idle = evtimer_new(c->base, on_close_idle, c);
	return c->deadline && c->deafen && c->close_idle;
}

void drain_fini(struct control *c)
{
	if (c->deadline)
		event_free(c->deadline);
	if (c->deafen)
		event_free(c->deafen);
	if (c->close_idle)
		event_free(c->close_idle);
}

static bool start_timer(struct event *ev, uint64_t us)
{
	struct timeval tv = {
		.tv_sec = (time_t)(us / 1000000),
		.tv_usec = (suseconds_t)(us % 1000000),
	};

	return event_add(ev, &tv) == 0;
}

void drain_begin(struct control *c)
{
	uint64_t us = c->current->config->drain_timeout_us;
	bool shared = handover_shared(c);
	uint64_t idle_us = shared ? us / 2 : min_u64(us / 2, IDLE_US);

	c->state = CONTROL_DRAINING;
	handover_cancel(c);
	if (!shared)
		notify_stopping();
	log_info("drain", "timeout_ms=%" PRIu64 " handed_over=%s", us / 1000,
		 shared ? "true" : "false");
	c->deaf_left = c->drains_left = c->n_threads;
	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_drain(&c->threads[w]);
	if (shared)
		deafen(c);
	else
		sockets_refuse(&c->sockets, NULL);
	if ((!shared && !start_timer(c->deafen, min_u64(us / 2, ACCEPT_US))) ||
	    !start_timer(c->close_idle, idle_us) ||
	    !start_timer(c->deadline, us))
		control_stop(c, "memory");
}

/* New clients shall be refused, not left to wait for nobody. */
void control_on_deaf(struct letter *l)
{
	struct worker_thread *t = container_of(l, struct worker_thread, deaf);

	if (--t->control->deaf_left == 0)
		sockets_fini(&t->control->sockets);
}

void control_on_drained(struct letter *l)
{
	struct worker_thread *t =
		container_of(l, struct worker_thread, drained);

	if (--t->control->drains_left == 0)
		control_stop(t->control, "drained");
}
