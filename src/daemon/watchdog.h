/*
 * Are all event loops turning? Each worker answers a post, over and over; as
 * long as all do, systemd's watchdog is fed ($WATCHDOG_USEC). One that does not
 * is named in the log, and systemd, unfed, ends the process and starts another.
 * Control thread.
 */
#ifndef DAEMON_WATCHDOG_H
#define DAEMON_WATCHDOG_H

#include "base/base.h"

struct control;
struct event;
struct letter;

struct watchdog {
	struct event *tick;
	bool feeds;		/* systemd wants to be told */
	uint64_t stuck_us;	/* silence for so long is told */
};

/* Once the workers run. False: no memory. */
bool watchdog_start(struct control *c) MUST_CHECK;
void watchdog_fini(struct control *c);
/* A worker has answered. */
void watchdog_on_alive(struct letter *l);

#endif
