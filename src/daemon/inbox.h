/* What other threads tell the control thread: letters, in order. */
#ifndef DAEMON_INBOX_H
#define DAEMON_INBOX_H

#include <pthread.h>

#include "base/base.h"

struct event;
struct event_base;
struct letter;

typedef void letter_fn(struct letter *l);

struct letter {
	struct letter *next;
	letter_fn *fn;
};

struct inbox {
	/* Immutable after inbox_init(). */
	int fd;				/* eventfd */
	struct event *event;
	/* Shared, under lock. */
	pthread_mutex_t lock;
	struct letter *first, **last;
};

/* Zero-initialised memory. Control thread. */
bool inbox_init(struct inbox *in, struct event_base *base) MUST_CHECK;
void inbox_fini(struct inbox *in);
/* Any thread: l->fn(l) will run on the control thread; l belongs to the inbox
 * until then. */
void inbox_send(struct inbox *in, struct letter *l, letter_fn *fn);
/* Runs what is there, now; at the end, when no loop turns any more. */
void inbox_run(struct inbox *in);

#endif
