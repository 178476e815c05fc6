/*
 * The breaker (protocol page 11.4), one per agent, shared by all workers:
 *
 *	CLOSED --failures in a row--> OPEN --open_us--> HALF_OPEN
 *	   ^------------- good trials in a row ------------+ |
 *			   OPEN <---- a bad trial ----------+
 *
 * A sign of life of the agent ends OPEN early: at once, or, after a trial that
 * such a sign had brought about and that went wrong, a while later, each time
 * twice as long. So what an agent did wrong for some time keeps it out for at
 * most as long again, and a second.
 *
 * HALF_OPEN lets one request head through at a time, the trial. It is a lease:
 * it is given back when its call ends, however that comes, and it ends by
 * itself if it should not be. A call that is withdrawn says nothing of the
 * agent and counts neither way.
 *
 * What all workers read on a request's way is agent->gate (may be asked?) and
 * breaker.state (is there anything that a good answer would change?). Both
 * are written on change only, under the lock.
 */
#include "agent/internal.h"

/* One process that dies takes all its links along: that is one failure. */
#define CLOSED_TOGETHER_US	100000

enum { FAILURES_MASK = 0xffff, STATE_SHIFT = 16 };

static uint32_t breaker_load(const struct agent *a)
{
	return __atomic_load_n(&a->breaker.state, __ATOMIC_RELAXED);
}

enum breaker_state breaker_state(const struct agent *a)
{
	return (enum breaker_state)(breaker_load(a) >> STATE_SHIFT);
}

static void breaker_store(struct agent *a, enum breaker_state state,
			  unsigned failures)
{
	__atomic_store_n(&a->breaker.state,
			 (uint32_t)state << STATE_SHIFT |
			 (failures & FAILURES_MASK), __ATOMIC_RELAXED);
	if (state == BREAKER_CLOSED)
		agent_gate_clear(a, GATE_BREAKER);
	else
		agent_gate_set(a, GATE_BREAKER);
}

/* Under the lock. A trial that a sign of life brought about and that went
 * wrong makes us deaf for a while, each time for longer. */
static void breaker_grow_deaf(struct agent_local *l, enum breaker_state was)
{
	struct agent_breaker *b = &l->agent->breaker;
	uint64_t longest = l->agent->tuning.breaker_open_us;

	if (was == BREAKER_CLOSED)
		b->deaf_us = 0;
	else
		b->deaf_us = b->deaf_us ? min_u64(2 * b->deaf_us, longest) :
					  l->agent->tuning.breaker_deaf_us;
	b->deaf_until_us = l->loop->now_us + b->deaf_us;
}

/* Under the lock. why: for the log. */
static void breaker_set_state(struct agent_local *l, enum breaker_state next,
			      const char *why)
{
	struct agent *a = l->agent;
	enum breaker_state was = breaker_state(a);
	bool shut = next == BREAKER_CLOSED;

	breaker_store(a, next, 0);
	a->breaker.good = 0;
	__atomic_store_n(&a->breaker.lease_until_us, 0, __ATOMIC_RELAXED);
	if (next == BREAKER_OPEN) {
		__atomic_store_n(&a->breaker.open_until_us,
				 l->loop->now_us + a->tuning.breaker_open_us,
				 __ATOMIC_RELAXED);
		breaker_grow_deaf(l, was);
	}
	if (shut != (was == BREAKER_CLOSED)) {
		/* A gauge over all workers: each takes back what it put in,
		 * see breaker_local_close(). */
		l->breaker_delta += shut ? -1 : 1;
		counter_add(&l->metrics->breaker_open, shut ? (uint64_t)-1 : 1);
	}
	if (next == BREAKER_OPEN)
		log_warn("breaker", "agent=%s from=%s to=%s cause=%s "
			 "advice=\"look at the agent's log: it is not asked until "
			 "it gives a sign of life, or for %us\"",
			 a->config.name, breaker_state_names[was],
			 breaker_state_names[next], why,
			 (unsigned)(a->tuning.breaker_open_us / 1000000));
	else
		log_info("breaker", "agent=%s from=%s to=%s", a->config.name,
			 breaker_state_names[was], breaker_state_names[next]);
}

void breaker_local_close(struct agent_local *l)
{
	counter_add(&l->metrics->breaker_open, (uint64_t)-l->breaker_delta);
	l->breaker_delta = 0;
}

/* ---- asking ------------------------------------------------------------ */

static bool breaker_take_trial(struct agent_local *l, uint64_t timeout_us)
{
	struct agent_breaker *b = &l->agent->breaker;
	uint64_t now = l->loop->now_us;
	bool taken = false;

	pthread_mutex_lock(&b->lock);
	switch (breaker_state(l->agent)) {
	case BREAKER_CLOSED:
		break;
	case BREAKER_OPEN:
		if (now < b->open_until_us)
			break;
		breaker_set_state(l, BREAKER_HALF_OPEN, "");
		taken = true;
		break;
	case BREAKER_HALF_OPEN:
		taken = now >= b->lease_until_us;
		break;
	case BREAKER_STATE_N:
		break;
	}
	if (taken)
		__atomic_store_n(&b->lease_until_us, now + timeout_us +
				 l->agent->tuning.breaker_slack_us,
				 __ATOMIC_RELAXED);
	pthread_mutex_unlock(&b->lock);
	return taken;
}

bool breaker_admits(struct agent_local *l, struct agent_call *call,
		    uint64_t timeout_us)
{
	struct agent_breaker *b = &l->agent->breaker;
	uint64_t until;

	switch (breaker_state(l->agent)) {
	case BREAKER_CLOSED:
	case BREAKER_STATE_N:
		return true;
	case BREAKER_OPEN:
		until = __atomic_load_n(&b->open_until_us, __ATOMIC_RELAXED);
		if (l->loop->now_us < until || call->session->link)
			return false;
		break;
	case BREAKER_HALF_OPEN:
		/* What the trial's own exchange asks next. */
		if (call->session->link)
			return true;
		until = __atomic_load_n(&b->lease_until_us, __ATOMIC_RELAXED);
		if (l->loop->now_us < until)
			return false;
		break;
	}
	call->trial = breaker_take_trial(l, timeout_us);
	return call->trial || breaker_state(l->agent) == BREAKER_CLOSED;
}

/* ---- what came of it --------------------------------------------------- */

/* Under the lock. Half open, and this was the trial. */
static void breaker_end_trial(struct agent_local *l, enum breaker_end end,
			      const char *why)
{
	struct agent_breaker *b = &l->agent->breaker;

	__atomic_store_n(&b->lease_until_us, 0, __ATOMIC_RELAXED);
	switch (end) {
	case BREAKER_GOOD:
		if (++b->good >= l->agent->tuning.breaker_good)
			breaker_set_state(l, BREAKER_CLOSED, "");
		break;
	case BREAKER_BAD:
		breaker_set_state(l, BREAKER_OPEN, why);
		break;
	case BREAKER_UNKNOWN:
		break;
	}
}

void breaker_note_slow(struct agent_local *l, bool trial, enum breaker_end end,
		       const char *why)
{
	struct agent *a = l->agent;
	unsigned failures;

	pthread_mutex_lock(&a->breaker.lock);
	failures = breaker_load(a) & FAILURES_MASK;
	switch (breaker_state(a)) {
	case BREAKER_CLOSED:
		if (end == BREAKER_GOOD)
			breaker_store(a, BREAKER_CLOSED, 0);
		else if (end == BREAKER_BAD &&
			 ++failures >= a->tuning.breaker_failures)
			breaker_set_state(l, BREAKER_OPEN, why);
		else if (end == BREAKER_BAD)
			breaker_store(a, BREAKER_CLOSED, failures);
		break;
	case BREAKER_HALF_OPEN:
		if (trial)
			breaker_end_trial(l, end, why);
		break;
	case BREAKER_OPEN:
	case BREAKER_STATE_N:
		break;		/* of an event from before */
	}
	pthread_mutex_unlock(&a->breaker.lock);
}

void breaker_sign_of_life_slow(struct agent_local *l)
{
	struct agent_breaker *b = &l->agent->breaker;

	pthread_mutex_lock(&b->lock);
	if (breaker_state(l->agent) != BREAKER_OPEN)
		;		/* another worker was faster */
	else if (l->loop->now_us >= b->deaf_until_us)
		breaker_set_state(l, BREAKER_HALF_OPEN, "");
	else if (b->deaf_until_us < b->open_until_us)
		__atomic_store_n(&b->open_until_us, b->deaf_until_us,
				 __ATOMIC_RELAXED);
	pthread_mutex_unlock(&b->lock);
}

unsigned breaker_failures(const struct agent *a)
{
	return breaker_load(a) & FAILURES_MASK;
}

/* Does a failure say something of the agent? */
static bool breaker_counts(struct agent_local *l, const struct agent_call *call,
			   enum cause cause)
{
	struct agent_breaker *b = &l->agent->breaker;
	uint64_t now, last;

	if (!l->loop)		/* the worker has closed it */
		return false;
	now = l->loop->now_us;
	switch (cause) {
	case CAUSE_PROTOCOL:
	case CAUSE_UNREADABLE:
		return true;
	case CAUSE_TIMEOUT:
		/* One that waited for a link in vain: the links are full. But
		 * a trial may only have come while they are opened anew, and
		 * if it opened the breaker again, none of them would owe
		 * anything by which the agent could give a sign of life. */
		return call->sent_us || (l->n_up > 0 && !call->trial);
	case CAUSE_CLOSED:
		last = __atomic_load_n(&b->closed_us, __ATOMIC_RELAXED);
		/* Workers' clocks are not taken at the same moment. */
		if (!call->sent_us ||
		    (int64_t)(now - last) < CLOSED_TOGETHER_US)
			return false;
		return __atomic_compare_exchange_n(&b->closed_us, &last, now,
						   false, __ATOMIC_RELAXED,
						   __ATOMIC_RELAXED);
	case CAUSE_CONNECT:	/* the links know that by themselves */
	case CAUSE_NONE:
	case CAUSE_OVERLOAD:
	case CAUSE_UNAVAILABLE:
	case CAUSE_TOO_LARGE:
	case CAUSE_BUDGET:
	case CAUSE_N:
		break;
	}
	return false;
}

void breaker_failed(struct agent_local *l, struct agent_call *call,
		    enum cause cause)
{
	bool trial = call->trial, counts = breaker_counts(l, call, cause);

	call->trial = false;
	if (counts || trial)
		breaker_note_slow(l, trial, counts ? BREAKER_BAD :
				  BREAKER_UNKNOWN, cause_names[cause]);
}
