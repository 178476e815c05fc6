/*
 * When a link that is DOWN is opened again.
 *
 * While nobody is there one link of a worker goes on looking, for what all of
 * them would find is the same; the others sleep until it is up.
 */
#include "agent/internal.h"

#define STEP_US		10000ull
#define LONGEST_US	2000000ull

static void on_retry(struct deadline *d)
{
	link_connect(container_of(d, struct link, timer));
}

/* One that the proxy opens, and again when it is lost. */
static bool link_is_kept(const struct link *link)
{
	return !link->extra && !link->dialled_in && !link->borrowed;
}

static bool link_sleeps(const struct link *link)
{
	return link->state == LINK_DOWN && !deadline_running(&link->timer);
}

/* Does another link look already? */
static bool instance_is_watched(const struct link *but)
{
	const struct agent_local *l = but->local;
	struct link *link;

	if (counter_read(&but->instance->links_up))
		return false;
	cds_list_for_each_entry(link, &l->links, node)
		if (link != but && link->instance == but->instance &&
		    link_is_kept(link) && !link_sleeps(link))
			return true;
	return false;
}

void instance_wake(struct link *first)
{
	struct agent_local *l = first->local;
	struct link *link;

	cds_list_for_each_entry(link, &l->links, node)
		if (link != first && link->instance == first->instance &&
		    link_is_kept(link) && link_sleeps(link))
			deadline_start(l->loop, &link->timer, STEP_US,
				       on_retry);
}

/*
 * Few distinct durations, for the loop has one list for each: soon is 10 to
 * 50 ms in steps of 10, back-off 10 ms doubling to 2 s, and 20 % less or more.
 */
static uint64_t retry_us(struct link *link, enum link_retry retry)
{
	static const uint64_t percent[] = { 80, 100, 120 };
	uint64_t r = local_random(link->local);
	uint64_t us;

	if (retry == RETRY_SOON)
		return STEP_US * (1 + r % 5);
	if (retry == RETRY_LATE)
		return link->local->agent->tuning.refused_us;
	us = min_u64(STEP_US << link->backoff, LONGEST_US);
	if (link->backoff < 8)
		link->backoff++;
	return us * percent[r % 3] / 100;
}

void link_retry_later(struct link *link, enum link_retry retry)
{
	if (!instance_is_watched(link))
		deadline_start(link->local->loop, &link->timer,
			       retry_us(link, retry), on_retry);
}
