/*
 * The budget of held bytes. The process has one number; workers take from it
 * in leases of 1 MiB, so that a request seldom touches a shared cache line.
 */
#include "exchange/exchange.h"

#define HELD_LEASE	(1024u * 1024)

static bool lease_more(struct worker *w, uint64_t need)
{
	uint64_t want = need > HELD_LEASE ? need : HELD_LEASE;
	struct shared *sh = w->shared;
	uint64_t limit = __atomic_load_n(&sh->held_limit, __ATOMIC_RELAXED);
	uint64_t have = __atomic_load_n(&sh->held_bytes, __ATOMIC_RELAXED);

	do {
		if (have + need > limit)
			return false;
		if (have + want > limit)
			want = limit - have;
	} while (!__atomic_compare_exchange_n(&sh->held_bytes, &have,
			have + want, true, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED));
	w->held_lease += want;
	return true;
}

/* Keeps one lease at hand, gives the rest back. */
static void trim_lease(struct worker *w, uint64_t keep)
{
	if (w->held_lease <= keep)
		return;
	__atomic_sub_fetch(&w->shared->held_bytes, w->held_lease - keep,
			   __ATOMIC_RELAXED);
	w->held_lease = keep;
}

bool held_account(struct flow *f, uint64_t n)
{
	struct worker *w = f->ex->worker;
	uint64_t change = n - f->accounted;

	if (change == 0)
		return true;
	if (n > f->accounted) {
		uint64_t more = n - f->accounted;

		if (w->held_lease < more &&
		    !lease_more(w, more - w->held_lease))
			return false;
		w->held_lease -= more;
	} else if (n < f->accounted) {
		w->held_lease += f->accounted - n;
		if (w->held_lease > 2 * HELD_LEASE)
			trim_lease(w, HELD_LEASE);
	}
	f->accounted = n;
	counter_add(&w->metrics->held_bytes, change);
	if (f->held_for)
		counter_add(&f->held_for->held_bytes, change);
	return true;
}

void held_return_lease(struct worker *w)
{
	trim_lease(w, 0);
}
