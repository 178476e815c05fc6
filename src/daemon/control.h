/*
 * The control thread: signals, config, the admin port, and the lives of the
 * workers' threads.
 *
 *	STARTING -> RUNNING -> DRAINING -> STOPPING
 *	  TERM skips what lies between.
 *
 * STARTING	sockets are bound, not all workers have begun
 * RUNNING	ready; reloads are taken
 * DRAINING	TERM, INT, or another process has taken over: no new
 *		connections, exchanges may end in peace
 * STOPPING	the loop ends; what is left is cut off
 *
 *	main.c		main()
 *	options.c	the command line
 *	control.c	start, signals, the end
 *	drain.c		drain and stop
 *	handover.c	to a new binary, and from an old one
 *	reload.c	from a file to all workers
 *	changes.c	what a reload changes
 *	thread.c	a worker's thread
 *	sockets.c	what is listened on
 *	inherit.c	what of it came with the process
 *	watchdog.c	do all loops turn
 *	inbox.c		letters from workers
 *	notify.c	systemd
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "admin/admin.h"
#include "daemon/handover.h"
#include "daemon/inbox.h"
#include "daemon/sockets.h"
#include "daemon/thread.h"
#include "daemon/watchdog.h"
#include "exchange/worker.h"

struct event;
struct event_base;

enum control_state {
	CONTROL_STARTING, CONTROL_RUNNING, CONTROL_DRAINING, CONTROL_STOPPING,
};

/* One reload under way; HUPs that come meanwhile make one more after it. */
struct reload {
	bool busy;
	bool again;
	struct switch_order order;
	unsigned switches_left;
};

/* All of it is the control thread's, but for shared (see there). */
struct control {
	enum control_state state;
	int exit_code;
	const char *file;
	struct event_base *base;
	struct event *signals, *deadline;
	struct event *deafen, *close_idle;	/* steps of a drain */
	int signal_fd;
	struct inbox inbox;
	struct sockets sockets;
	struct inherit inherit;
	struct handover handover;
	struct watchdog watchdog;
	struct admin *admin;
	int admin_fd;				/* admin's; -1 */
	bool admin_kept;			/* systemd holds it, too */
	struct config_address admin_address;	/* that it has; text is ours */
	struct agent_table *agents;
	struct snapshot *current;		/* owned; by RCU */
	uint64_t snapshots_live;
	uint64_t reloads_ok, reloads_refused;
	uint64_t start_time_s, start_us;
	struct reload reload;
	struct shared shared;
	struct worker_thread *threads;
	unsigned n_threads;			/* that run */
	unsigned starts_left, deaf_left, drains_left;
};

/*
 * Before anything else that may start a thread, a library's too: threads get
 * the mask of the one that makes them, and one in which TERM is open, be it
 * for a moment, would end the process. What comes from now on waits until
 * control_run() reads it.
 */
void control_block_signals(void);

/*
 * The whole life of the daemon after its config was read; consumes it. Signals
 * are blocked. argv: what a new binary is started with. The exit code.
 */
int control_run(struct config *config, const char *file, char **argv);

/* Is all up, so that signals can be obeyed? */
static inline bool control_running(const struct control *c)
{
	return c->state == CONTROL_RUNNING;
}

/* ---- drain.c ------------------------------------------------------------ */

/* False: no memory. */
bool drain_init(struct control *c) MUST_CHECK;
void drain_fini(struct control *c);
/* From RUNNING or STARTING. */
void drain_begin(struct control *c);
/* Now; reason: one word for the log. */
void control_stop(struct control *c, const char *reason);

/* Letters of workers: it runs; it listens no more; it has no client left. */
void control_on_started(struct letter *l);
void control_on_deaf(struct letter *l);
void control_on_drained(struct letter *l);

/* ---- reload.c ----------------------------------------------------------- */

/* A HUP came. */
void reload_request(struct control *c);
/* A worker has switched. */
void reload_on_switched(struct letter *l);
/*
 * Makes the next generation of config (consumed) with everything that it
 * needs, or changes nothing and says why in the log. What all workers must do
 * is in c->reload.order then.
 */
bool reload_adopt(struct control *c, struct config *config) MUST_CHECK;
void switch_order_fini(struct switch_order *o);

#endif
