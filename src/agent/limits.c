/*
 * What an agent says of itself in the handshake (protocol page 4): how much it
 * takes at a time, which bounds us, and which events it lists, which does not:
 * who is asked what is the config's alone.
 */
#include "agent/internal.h"

#define CHUNK_LEAST	1024u	/* as small as the config may make it */

/* ---- which events it lists --------------------------------------------- */

static void warn_events(const struct agent *a, struct agent_instance *inst)
{
	uint8_t listed = __atomic_load_n(&inst->listed, __ATOMIC_RELAXED);
	uint8_t wanted = __atomic_load_n(&a->wanted, __ATOMIC_RELAXED);
	uint8_t missing = listed ? wanted & (uint8_t)~listed : 0;
	char names[96] = "";
	size_t n = 0;

	if (__atomic_exchange_n(&inst->warned_events, missing,
				__ATOMIC_RELAXED) == missing || !missing)
		return;
	for (unsigned e = 0; e < EVENT_COMPLETE; e++)
		if (missing & 1u << e)
			n += (size_t)snprintf(names + n, sizeof(names) - n,
					      "%s%s", n ? "," : "",
					      event_names[e]);
	log_warn("agent_events", "agent=%s socket=%s not_listed=%s advice=\"the "
		 "agent is asked all the same: see that it answers these\"",
		 a->config.name, inst->path, names);
}

void agent_want_events(struct agent *a, unsigned mask)
{
	__atomic_store_n(&a->wanted, (uint8_t)mask, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < a->n_instances; i++)
		warn_events(a, &a->instances[i]);
}

/* ---- how much it takes ------------------------------------------------- */

static void tell_limits(struct link *link, const struct wire_handshake *h)
{
	const struct config_agent *c = &link->local->agent->config;
	struct agent_instance *inst = link->instance->shared;
	bool bounded = link->chunk_size < c->chunk_size || h->max_concurrency;

	if (__atomic_exchange_n(&inst->bounded, bounded, __ATOMIC_RELAXED) ==
	    bounded || !bounded)
		return;
	log_info("agent_limits", "agent=%s socket=%s chunk_size=%u "
		 "max_concurrency=%u", c->name, inst->path, link->chunk_size,
		 h->max_concurrency);
}

void link_take_limits(struct link *link, const struct wire_handshake *h)
{
	struct agent *a = link->local->agent;
	struct agent_instance *inst = link->instance->shared;

	link->chunk_size = a->config.chunk_size;
	link->max_body = UINT64_MAX;
	link->instance->share = 0;
	if (!h)
		return;
	if (h->preferred_chunk_size &&
	    h->preferred_chunk_size < link->chunk_size)
		link->chunk_size = (uint32_t)h->preferred_chunk_size;
	if (link->chunk_size < CHUNK_LEAST)
		link->chunk_size = CHUNK_LEAST;
	if (h->max_body_size)
		link->max_body = h->max_body_size;
	/* Each worker has its part, and at least one. Who dials in may have
	 * links at few of them: see hub_share(). */
	if (h->max_concurrency && a->hub)
		link->instance->share = h->max_concurrency;
	else if (h->max_concurrency)
		link->instance->share = h->max_concurrency / a->n_workers ?
					h->max_concurrency / a->n_workers : 1;
	tell_limits(link, h);
	__atomic_store_n(&inst->listed, (uint8_t)h->events, __ATOMIC_RELAXED);
	warn_events(a, inst);
}

/*
 * The links of an instance share what it takes at a time (of a borrowed one
 * that is for its owner to see to), those that are being opened with the
 * others: so one that comes up takes nothing away from one that is full. If
 * there are more of them than that, the last to come up are spare: of depth 0,
 * not chosen.
 */
void instance_share_depth(struct agent_local *l,
			  const struct instance_local *inst)
{
	unsigned n = (unsigned)counter_read(&inst->links), i = 0;
	unsigned depth = l->agent->config.depth, share = inst->share;

	if (share && l->agent->hub)
		share = hub_share(l, share);
	/* A new one is the last. */
	for (unsigned k = 0; k < l->n_up; k++) {
		struct link *link = l->up[k];
		unsigned part = depth;

		if (link->instance != inst || link->borrowed)
			continue;
		if (share && n)
			part = share / n + (i++ < share % n);
		/* One that had exchanges may still have them. */
		if (!part && link->full_depth)
			part = 1;
		link->full_depth = part < depth ? part : depth;
		if (link->opened)
			link->depth = link->full_depth;
		else
			link->depth = link->full_depth ? 1 : 0;
	}
}

uint32_t agent_session_chunk_size(const struct agent_session *s)
{
	return s->link ? s->link->chunk_size : s->agent->config.chunk_size;
}

uint64_t agent_session_max_body(const struct agent_session *s,
				uint64_t max_body)
{
	return s->link ? min_u64(max_body, s->link->max_body) : max_body;
}
