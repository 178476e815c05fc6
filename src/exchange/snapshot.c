#include "exchange/snapshot.h"

#include "base/mem.h"
#include "config/load.h"

static bool take_upstreams(struct snapshot *s, const struct snapshot *previous)
{
	const struct config *c = s->config;

	s->upstreams = mem_zalloc((c->n_upstreams + 1) * sizeof(void *));
	if (!s->upstreams)
		return false;
	for (unsigned i = 0; i < c->n_upstreams; i++) {
		struct upstream *kept = NULL;

		for (unsigned k = 0;
		     previous && k < previous->config->n_upstreams; k++)
			if (upstream_same(previous->upstreams[k],
					  &c->upstreams[i]))
				kept = previous->upstreams[k];
		s->upstreams[i] = kept ? upstream_get(kept) :
			upstream_new(&c->upstreams[i], s->n_workers,
				     s->metrics);
		if (!s->upstreams[i])
			return false;
	}
	return true;
}

static bool take_agents(struct snapshot *s, const struct snapshot *previous)
{
	const struct config *c = s->config;

	s->agents = mem_zalloc((c->n_agents + 1) * sizeof(void *));
	if (!s->agents)
		return false;
	for (unsigned i = 0; i < c->n_agents; i++) {
		struct agent *kept = NULL;

		for (unsigned k = 0;
		     previous && k < previous->config->n_agents; k++)
			if (agent_same(previous->agents[k], &c->agents[i]))
				kept = previous->agents[k];
		s->agents[i] = kept ? agent_get(kept) :
			agent_new(&c->agents[i], s->n_workers, s->metrics);
		if (!s->agents[i])
			return false;
	}
	return true;
}

/* What the agents that enforce come to, worked out once. Observers do not
 * change what happens; that they want the response's head is a fact too. */
static void route_facts(struct snapshot_route *r)
{
	for (unsigned i = 0; i < r->config->n_agents; i++) {
		const struct config_route_agent *a = &r->config->agents[i];

		r->asks_response_head |= a->response_head;
		if (a->observe)
			continue;
		r->asks_request_body |= a->request_body != BODY_NONE;
		r->asks_response_body |= a->response_body != BODY_NONE;
	}
}

static unsigned events_of(const struct config_route_agent *a)
{
	unsigned mask = 1u << EVENT_REQUEST_HEAD;

	if (a->request_body != BODY_NONE)
		mask |= 1u << EVENT_REQUEST_CHUNK;
	if (a->response_head)
		mask |= 1u << EVENT_RESPONSE_HEAD;
	if (a->response_body != BODY_NONE)
		mask |= 1u << EVENT_RESPONSE_CHUNK;
	return mask;
}

static void put_ops(struct snapshot_ops *to, enum header_op_kind kind,
		    const struct config_headers *from)
{
	for (unsigned i = 0; i < from->n; i++)
		to->ops[to->n++] = (struct header_op){
			.kind = kind,
			.name = slice_str(from->list[i].name),
			.value = slice_str(from->list[i].value),
		};
}

static bool make_ops(struct snapshot_ops *to,
		     const struct config_header_policy *p)
{
	unsigned n = p->n_remove + p->set.n + p->add.n;

	if (n == 0)
		return true;
	to->ops = mem_zalloc(n * sizeof(*to->ops));
	if (!to->ops)
		return false;
	for (unsigned i = 0; i < p->n_remove; i++)
		to->ops[to->n++] = (struct header_op){
			.kind = HEADER_REMOVE,
			.name = slice_str(p->remove[i]),
		};
	put_ops(to, HEADER_SET, &p->set);
	put_ops(to, HEADER_ADD, &p->add);
	return true;
}

static bool make_routes(struct snapshot *s)
{
	const struct config *c = s->config;

	s->routes = mem_zalloc((c->n_routes + 1) * sizeof(*s->routes));
	s->no_route = metrics_set_get(s->metrics, METRICS_ROUTE, "none", "");
	if (!s->routes || !s->no_route)
		return false;
	for (unsigned i = 0; i < c->n_routes; i++) {
		struct snapshot_route *r = &s->routes[i];
		const struct config_route *rc = &c->routes[i];

		r->config = rc;
		r->metrics = metrics_set_get(s->metrics, METRICS_ROUTE,
					     rc->name, "");
		r->agents = mem_zalloc((rc->n_agents + 1) * sizeof(void *));
		if (!r->metrics || !r->agents)
			return false;
		if (!make_ops(&r->request_ops, &rc->request_headers) ||
		    !make_ops(&r->response_ops, &rc->response_headers))
			return false;
		if (rc->upstream)
			r->upstream = s->upstreams[rc->upstream->index];
		for (unsigned k = 0; k < rc->n_agents; k++)
			r->agents[k] = s->agents[rc->agents[k].agent->index];
		event_route_init(&r->event, slice_str(rc->name),
				 rc->upstream ? slice_str(rc->upstream->name) :
						SLICE_NONE);
		route_facts(r);
	}
	return true;
}

/* For a warning, if an agent does not list what it is asked. */
static bool tell_agents(struct snapshot *s)
{
	const struct config *c = s->config;
	unsigned *masks = mem_zalloc((c->n_agents + 1) * sizeof(*masks));

	if (!masks)
		return false;
	for (unsigned i = 0; i < c->n_routes; i++) {
		const struct config_route *r = &c->routes[i];

		for (unsigned k = 0; k < r->n_agents; k++)
			masks[r->agents[k].agent->index] |=
				events_of(&r->agents[k]);
	}
	for (unsigned i = 0; i < c->n_agents; i++)
		agent_want_events(s->agents[i], masks[i]);
	mem_free(masks);
	return true;
}

static bool make_listeners(struct snapshot *s)
{
	const struct config *c = s->config;

	s->listeners = mem_zalloc((c->n_listeners + 1) *
				  sizeof(*s->listeners));
	if (!s->listeners)
		return false;
	for (unsigned i = 0; i < c->n_listeners; i++) {
		struct snapshot_listener *l = &s->listeners[i];
		const struct config_listener *lc = &c->listeners[i];

		l->config = lc;
		l->settings = (struct h1_settings){
			.limits = {
				.header_bytes = lc->limits.header_bytes,
				.headers = lc->limits.headers,
				.target_bytes = lc->limits.target_bytes,
			},
			.idle_us = lc->timeouts.idle_us,
			.head_us = lc->timeouts.header_us,
			.body_us = lc->timeouts.body_us,
			.send_us = lc->timeouts.send_us,
		};
		l->metrics = metrics_set_get(s->metrics, METRICS_LISTENER,
					     lc->name, "");
		if (!l->metrics)
			return false;
	}
	return true;
}

struct snapshot *snapshot_new(struct config *config, uint64_t generation,
			      const struct snapshot *previous,
			      unsigned n_workers, struct metrics *metrics)
{
	struct snapshot *s = mem_zalloc_aligned(sizeof(*s) +
		n_workers * sizeof(struct snapshot_pin));

	if (!s) {
		config_free(config);
		return NULL;
	}
	s->config = config;
	s->generation = generation;
	s->metrics = metrics;
	s->n_workers = n_workers;
	s->workers_left = n_workers;
	s->loaded_wall_us = sock_wall_us();
	if (!take_upstreams(s, previous) || !take_agents(s, previous) ||
	    !make_routes(s) || !make_listeners(s) || !tell_agents(s)) {
		snapshot_free(s);
		return NULL;
	}
	return s;
}

void snapshot_free(struct snapshot *s)
{
	const struct config *c = s->config;

	for (unsigned i = 0; s->routes && i < c->n_routes; i++) {
		if (s->routes[i].metrics)
			metrics_set_put(s->metrics, s->routes[i].metrics);
		mem_free(s->routes[i].agents);
		mem_free(s->routes[i].request_ops.ops);
		mem_free(s->routes[i].response_ops.ops);
	}
	if (s->no_route)
		metrics_set_put(s->metrics, s->no_route);
	for (unsigned i = 0; s->listeners && i < c->n_listeners; i++)
		if (s->listeners[i].metrics)
			metrics_set_put(s->metrics, s->listeners[i].metrics);
	for (unsigned i = 0; s->upstreams && i < c->n_upstreams; i++)
		if (s->upstreams[i])
			upstream_put(s->upstreams[i]);
	for (unsigned i = 0; s->agents && i < c->n_agents; i++)
		if (s->agents[i])
			agent_put(s->agents[i]);
	mem_free(s->routes);
	mem_free(s->listeners);
	mem_free(s->upstreams);
	mem_free(s->agents);
	config_free(s->config);
	mem_free(s);
}

struct publish {
	const struct snapshot *snapshot;
	struct agent_table *table;
};

static void remove_if_gone(struct agent *a, void *arg)
{
	struct publish *p = arg;

	for (unsigned i = 0; i < p->snapshot->config->n_agents; i++)
		if (p->snapshot->agents[i] == a)
			return;
	agent_table_remove(p->table, a);
}

bool snapshot_publish_agents(struct snapshot *s, struct agent_table *table)
{
	struct publish p = { s, table };

	for (unsigned i = 0; i < s->config->n_agents; i++)
		if (!agent_table_add(table, s->agents[i]))
			return false;
	agent_table_each(table, remove_if_gone, &p);
	return true;
}
