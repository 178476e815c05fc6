/*
 * A hand-over: this process starts another one (SIGUSR2), the file that it was
 * started as, which may have been replaced meanwhile, and gives it all
 * listening sockets. The other says that it is ready on a socket pair; from
 * then on it is the service, and this one drains. If it fails or takes too
 * long, nothing has happened.
 *
 *	IDLE -> STARTING -> DONE
 *	     <- (failed)
 *
 * Control thread.
 */
#ifndef DAEMON_HANDOVER_H
#define DAEMON_HANDOVER_H

#include <sys/types.h>

#include "base/base.h"

struct control;
struct event;

enum handover_state { HANDOVER_IDLE, HANDOVER_STARTING, HANDOVER_DONE };

struct handover {
	enum handover_state state;
	bool wanted;		/* as soon as the reload is over */
	char **argv;		/* of this process */
	pid_t pid;		/* of the other one */
	int fd;			/* to it, -1; or to the one before us */
	struct event *event;
};

/* SIGUSR2 came. */
void handover_begin(struct control *c);
/* A stop comes first. */
void handover_cancel(struct control *c);
/* SIGCHLD came. */
void handover_reap(struct control *c);
/* The other side: all is up. */
void handover_say_ready(struct control *c);
void handover_fini(struct control *c);

/* Another process is starting. */
bool handover_busy(const struct control *c);
/* Another process has taken over: what we listen on is its, too. */
bool handover_shared(const struct control *c);

#endif
