/* Calls that wait for any link, fair between routes. */
#include "agent/internal.h"

void fair_init(struct fair *f)
{
	memset(f, 0, sizeof(*f));
	for (unsigned i = 0; i < FAIR_BUCKETS; i++)
		CDS_INIT_LIST_HEAD(&f->bucket[i].calls);
}

static struct slice route_of(const struct agent_call *call)
{
	return call->session->meta->route_id;
}

static struct agent_call *bucket_first(const struct fair *f, unsigned i)
{
	return cds_list_first_entry(&f->bucket[i].calls, struct agent_call,
				    node);
}

/* The bucket that has calls of this route; else an empty one. */
static unsigned bucket_of(const struct fair *f, const struct agent_call *call)
{
	struct slice route = route_of(call);
	uint32_t h = 2166136261u;

	for (uint64_t left = f->used; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (slice_eq(route_of(bucket_first(f, i)), route))
			return i;
	}
	if (~f->used)
		return (unsigned)__builtin_ctzll(~f->used);
	for (size_t i = 0; i < route.n; i++)
		h = (h ^ (unsigned char)route.p[i]) * 16777619u;
	return h % FAIR_BUCKETS;
}

void fair_put(struct fair *f, struct agent_call *call)
{
	unsigned i = bucket_of(f, call);

	call->bucket = (uint8_t)i;
	cds_list_add_tail(&call->node, &f->bucket[i].calls);
	f->bucket[i].n++;
	f->used |= 1ull << i;
	f->n++;
}

struct agent_call *fair_next(struct fair *f)
{
	uint64_t after;
	unsigned i;

	if (!f->used)
		return NULL;
	after = f->used & ~((1ull << f->next) - 1);
	i = (unsigned)__builtin_ctzll(after ? after : f->used);
	f->next = (i + 1) % FAIR_BUCKETS;
	return bucket_first(f, i);
}

void fair_remove(struct fair *f, struct agent_call *call)
{
	unsigned i = call->bucket;

	list_take(&call->node);
	f->n--;
	if (--f->bucket[i].n == 0)
		f->used &= ~(1ull << i);
}

struct agent_call *fair_victim(struct fair *f, const struct agent_call *call)
{
	unsigned own = bucket_of(f, call), most = own;

	for (uint64_t left = f->used; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (f->bucket[i].n > f->bucket[most].n)
			most = i;
	}
	/* Two more than ours: or they would push each other out in turn. */
	if (most == own || f->bucket[most].n < f->bucket[own].n + 2)
		return NULL;
	return cds_list_entry(f->bucket[most].calls.prev, struct agent_call,
			      node);
}
