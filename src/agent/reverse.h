/*
 * The door for agents that dial in (protocol page 9): takes their connections,
 * reads the registration, checks it, and gives the connection to the worker
 * that has the fewest links of that agent. Nobody goes without an answer: a
 * go-v2 agent that gets none dies.
 *
 *	READING --checks--> given away
 *	   \---refused--> REFUSED --the peer's end, or a second--> closed
 *
 * At most so many stand in the door at a time; the one that has stood there for
 * longest makes way. All on the loop's thread.
 */
#ifndef AGENT_REVERSE_H
#define AGENT_REVERSE_H

#include "agent/agent.h"

struct reverse;

/* table: who may come in; looked up at each registration. metrics: the loop's
 * worker's. NULL: no memory. */
struct reverse *reverse_new(struct loop *loop, struct agent_table *table,
			    struct worker_metrics *metrics) MUST_CHECK;
/* Whoever is still there is refused. Again with NULL: no effect. */
void reverse_free(struct reverse *r);

/* Accepts on fd (listening, non-blocking; stays the caller's), and on no other
 * any more. False: the system has no room. */
bool reverse_listen(struct reverse *r, int fd) MUST_CHECK;
/* Stops that. accept_waiting: those that wait there are answered first. */
void reverse_unlisten(struct reverse *r, bool accept_waiting);
/* From now on all are refused: the process ends. */
void reverse_drain(struct reverse *r);

#endif
