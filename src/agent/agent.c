/* An agent, and a worker's part of it: made, started, closed, freed. */
#include "agent/internal.h"
#include "base/mem.h"

#define MS	1000ull
#define SECOND	1000000ull

static const struct agent_tuning default_tuning = {
	.connect_us = 1 * SECOND,
	.handshake_us = 5 * SECOND,
	.configure_us = 5 * SECOND,
	.refused_us = 5 * SECOND,
	.pause_max_us = 5 * SECOND,
	.reload_min_us = 10 * SECOND,
	.frame_us = 10 * SECOND,
	.ping_interval_us = 10 * SECOND,
	.ping_timeout_us = 5 * SECOND,
	.question_us = 10 * SECOND,
	.start_grace_us = 1 * SECOND,
	.dial_grace_us = 5 * SECOND,
	.lost_grace_us = 100 * MS,
	.complete_us = 1 * SECOND,
	.stall_min_us = 2 * SECOND,
	.check_us = 250 * MS,
	.extra_idle_us = 60 * SECOND,
	.refill_us = 1 * SECOND,
	.max_tombstones = 8,
	.breaker_failures = 5,
	.breaker_good = 2,
	.breaker_open_us = 30 * SECOND,
	.breaker_deaf_us = 1 * SECOND,
	.breaker_slack_us = 1 * SECOND,
	.health_us = 1 * SECOND,
	.lines_us = 10 * SECOND,
};

/* ---- the copy of the config -------------------------------------------- */

static const char **copy_strings(const char **from, unsigned n)
{
	const char **to = mem_zalloc((n + 1) * sizeof(*to));

	for (unsigned i = 0; to && i < n; i++) {
		to[i] = mem_strdup(slice_str(from[i]));
		if (!to[i]) {
			while (i--)
				mem_free((void *)to[i]);
			mem_free(to);
			return NULL;
		}
	}
	return to;
}

static void free_strings(const char **s, unsigned n)
{
	for (unsigned i = 0; s && i < n; i++)
		mem_free((void *)s[i]);
	mem_free(s);
}

static bool copy_config(struct config_agent *to,
			const struct config_agent *from)
{
	*to = *from;
	to->name = mem_strdup(slice_str(from->name));
	to->sockets = copy_strings(from->sockets, from->n_sockets);
	to->owns_headers = copy_strings(from->owns_headers,
					from->n_owns_headers);
	to->config_json = NULL;
	to->reverse_token = NULL;
	if (from->config_json) {
		to->config_json = mem_strdup(slice_str(from->config_json));
		if (!to->config_json)
			return false;
	}
	if (from->reverse_token) {
		to->reverse_token = mem_strdup(slice_str(from->reverse_token));
		if (!to->reverse_token)
			return false;
	}
	return to->name && to->sockets && to->owns_headers;
}

static bool same_strings(const char **a, unsigned na, const char **b,
			 unsigned nb)
{
	if (na != nb)
		return false;
	for (unsigned i = 0; i < na; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool agent_same(const struct agent *a, const struct config_agent *c)
{
	const struct config_agent *o = &a->config;

	return strcmp(o->name, c->name) == 0 &&
	       same_strings(o->sockets, o->n_sockets, c->sockets,
			    c->n_sockets) &&
	       same_strings(o->owns_headers, o->n_owns_headers,
			    c->owns_headers, c->n_owns_headers) &&
	       o->connections == c->connections &&
	       o->max_connections == c->max_connections &&
	       o->balance == c->balance && o->depth == c->depth &&
	       o->queue == c->queue &&
	       o->dialect == c->dialect && o->encoding == c->encoding &&
	       o->msgpack_shape == c->msgpack_shape &&
	       o->raw_body == c->raw_body && o->chunk_size == c->chunk_size &&
	       o->max_reply_bytes == c->max_reply_bytes &&
	       o->timeouts.head_us == c->timeouts.head_us &&
	       o->timeouts.body_us == c->timeouts.body_us &&
	       o->timeouts.budget_us == c->timeouts.budget_us &&
	       o->has_on_failure == c->has_on_failure &&
	       memcmp(&o->on_failure, &c->on_failure,
		      sizeof(o->on_failure)) == 0 &&
	       o->deny_status == c->deny_status &&
	       o->may_mutate == c->may_mutate &&
	       o->pseudo_headers == c->pseudo_headers &&
	       o->complete == c->complete &&
	       o->complete_wait_us == c->complete_wait_us &&
	       o->go_release == c->go_release &&
	       o->peer_uid == c->peer_uid && o->peer_gid == c->peer_gid &&
	       same_text(o->config_json, c->config_json) &&
	       o->reverse == c->reverse &&
	       same_text(o->reverse_token, c->reverse_token) &&
	       o->max_concurrency == c->max_concurrency;
}

/* ---- new, free --------------------------------------------------------- */

/* All but the metric set. */
static void agent_free(struct agent *a)
{
	for (unsigned w = 0; a->local && w < a->n_workers; w++) {
		if (a->local[w]) {
			mem_free(a->local[w]->instances);
			mem_free(a->local[w]->up);
		}
		mem_free(a->local[w]);
	}
	mem_free(a->local);
	if (a->instances)
		for (unsigned i = 0; i < a->n_instances; i++)
			pthread_mutex_destroy(&a->instances[i].lock);
	mem_free(a->instances);
	free_strings(a->config.owns_headers, a->config.n_owns_headers);
	free_strings(a->config.sockets, a->config.n_sockets);
	mem_free((void *)a->config.config_json);
	mem_free((void *)a->config.reverse_token);
	hub_put(a->hub);
	mem_free((void *)a->config.name);
	pthread_mutex_destroy(&a->breaker.lock);
	pthread_mutex_destroy(&a->report_lock);
	mem_free(a->reports);
	mem_free(a);
}

static void agent_free_rcu(struct rcu_head *head)
{
	agent_free(container_of(head, struct agent, rcu));
}

/* "/PATH", or "unix:/PATH". */
static void instance_init(struct agent_instance *inst, const char *path)
{
	struct sockaddr_un *un = &inst->addr.un;
	const char *p = path;
	size_t n;

	if (slice_has_prefix(slice_str(path), SLICE("unix:")))
		p += 5;
	n = strlen(p);
	inst->path = path;
	inst->stretch_percent = 100;
	pthread_mutex_init(&inst->lock, NULL);
	if (n == 0 || n >= sizeof(un->sun_path))
		return;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, p, n + 1);
	inst->addr.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				     n + 1);
	inst->addr_valid = true;
}

static bool new_locals(struct agent *a)
{
	const struct config_agent *c = &a->config;
	unsigned per = c->max_connections > c->connections ?
		       c->max_connections : c->connections;

	a->local = mem_zalloc(a->n_workers * sizeof(struct agent_local *));
	if (!a->local)
		return false;
	for (unsigned w = 0; w < a->n_workers; w++) {
		struct agent_local *l = mem_zalloc_aligned(sizeof(*l));

		a->local[w] = l;
		if (!l)
			return false;
		l->agent = a;
		l->metrics = metrics_set_local(a->set, w);
		l->instances = mem_zalloc_aligned(a->n_instances *
						  sizeof(*l->instances));
		/* And those that are borrowed. */
		l->max_up = per * a->n_instances +
			    (a->hub ? loans_max(a) : 0);
		l->up = mem_zalloc(l->max_up * sizeof(struct link *));
		if (!l->instances || !l->up)
			return false;
		for (unsigned i = 0; i < a->n_instances; i++)
			l->instances[i].shared = &a->instances[i];
	}
	return true;
}

/* Room for a reply that replaces one chunk, in base64 (protocol page 2). */
static uint32_t max_frame(const struct config_agent *c)
{
	uint64_t n = (uint64_t)c->max_reply_bytes +
		     ((uint64_t)c->chunk_size + 2) / 3 * 4 + 1;

	return (uint32_t)min_u64(n, FRAME_MAX);
}

struct agent *agent_new(const struct config_agent *config, unsigned n_workers,
			struct metrics *metrics)
{
	struct agent *a = mem_zalloc(sizeof(*a));

	if (!a)
		return NULL;
	a->refs = 1;
	a->n_workers = n_workers;
	a->metrics = metrics;
	a->tuning = default_tuning;
	/* A slow agent is slow with these, too: they stand in its line. */
	if (config->timeouts.head_us > a->tuning.complete_us)
		a->tuning.complete_us = config->timeouts.head_us;
	a->tuning.lazy_us = config->complete_wait_us;
	if (config->complete_wait_us)
		a->tuning.check_us = min_u64(a->tuning.check_us,
					     config->complete_wait_us / 2);
	pthread_mutex_init(&a->breaker.lock, NULL);
	pthread_mutex_init(&a->report_lock, NULL);
	if (!copy_config(&a->config, config))
		goto fail;
	a->max_frame = max_frame(&a->config);
	a->complete_known = config->complete == COMPLETE_ALWAYS ?
			    COMPLETE_ANSWERED :
			    config->complete == COMPLETE_NEVER ?
			    COMPLETE_SILENT : COMPLETE_UNKNOWN;
	/* v1 has no ping that would find it out; its SDKs answer. */
	if (config->dialect == DIALECT_V1 && config->complete == COMPLETE_AUTO)
		a->complete_known = COMPLETE_ANSWERED;
	a->n_instances = config->reverse ? 1 : config->n_sockets;
	a->instances = mem_zalloc(a->n_instances * sizeof(*a->instances));
	if (!a->instances)
		goto fail;
	for (unsigned i = 0; i < a->n_instances; i++)
		instance_init(&a->instances[i], config->reverse ? "reverse" :
			      a->config.sockets[i]);
	if (config->reverse) {
		a->hub = hub_new(n_workers);
		if (!a->hub)
			goto fail;
	}
	a->set = metrics_set_get(metrics, METRICS_AGENT, config->name, "");
	if (!a->set || !new_locals(a))
		goto fail;
	return a;
fail:
	if (a->set)
		metrics_set_put(a->metrics, a->set);
	agent_free(a);
	return NULL;
}

struct agent *agent_get(struct agent *a)
{
	__atomic_add_fetch(&a->refs, 1, __ATOMIC_RELAXED);
	return a;
}

void agent_put(struct agent *a)
{
	unsigned left;

	if (!a)
		return;
	left = __atomic_sub_fetch(&a->refs, 1, __ATOMIC_ACQ_REL);
	ASSERT(left != (unsigned)-1);
	if (left)
		return;
	for (unsigned w = 0; w < a->n_workers; w++)
		ASSERT(!rcu_fetch(&a->local[w]->loop));
	/* The registry is this thread's; the rest goes on liburcu's. */
	metrics_set_put(a->metrics, a->set);
	rcu_defer(&a->rcu, agent_free_rcu);
}

const char *agent_name(const struct agent *a)
{
	return a->config.name;
}

const struct config_agent *agent_config(const struct agent *a)
{
	return &a->config;
}

struct agent_metrics *agent_metrics(struct agent *a, struct loop *loop)
{
	return agent_local(a, loop)->metrics;
}

unsigned agent_links_up(const struct agent *a, unsigned w)
{
	return (unsigned)counter_read(&a->local[w]->up_total);
}

/* ---- a worker's part --------------------------------------------------- */

static void on_grace_over(struct deadline *d)
{
	struct agent_local *l = container_of(d, struct agent_local, grace);

	if (l->n_up == 0)
		local_fail_queue(l, CAUSE_CONNECT, "no link to the agent");
}

void local_start_grace(struct agent_local *l, uint64_t us)
{
	uint64_t until = l->loop->now_us + us;

	if (until <= l->grace_until_us)
		return;
	l->grace_until_us = until;
	deadline_start(l->loop, &l->grace, us, on_grace_over);
}

static void on_refill(struct deadline *d);

/* As many links as the config wants. Without memory: again in a while. */
static void local_fill(struct agent_local *l)
{
	const struct config_agent *c = &l->agent->config;

	for (unsigned k = 0; k < c->connections; k++) {
		for (unsigned i = 0; i < l->agent->n_instances; i++) {
			struct instance_local *inst = &l->instances[i];

			if (counter_read(&inst->links) > k ||
			    link_open(l, inst, false))
				continue;
			deadline_start(l->loop, &l->refill,
				       l->agent->tuning.refill_us, on_refill);
			return;
		}
	}
}

static void on_refill(struct deadline *d)
{
	local_fill(container_of(d, struct agent_local, refill));
}

void agent_local_start(struct agent *a, struct loop *loop)
{
	struct agent_local *l = agent_local(a, loop);

	ASSERT(!l->loop);
	rcu_publish(&l->loop, loop);
	CDS_INIT_LIST_HEAD(&l->links);
	fair_init(&l->queue);
	l->n_up = l->next_up = l->next_instance = 0;
	l->n_queued = l->n_sessions = 0;
	l->max_sessions = (a->config.max_concurrency + a->n_workers - 1) /
			  a->n_workers;
	sock_random(&l->random, sizeof(l->random));
	l->random |= 1;
	l->grace_until_us = 0;
	health_local_start(l);
	local_start_grace(l, a->hub ? a->tuning.dial_grace_us :
				      a->tuning.start_grace_us);
	if (a->hub)
		hub_join(l);
	else
		local_fill(l);
}

bool agent_local_is_lent(struct agent *a, struct loop *loop)
{
	struct agent_local *l = agent_local(a, loop);
	struct link *link, *tmp;
	bool lent = false;

	if (!l->loop || !a->hub)
		return false;
	cds_list_for_each_entry_safe(link, tmp, &l->links, node) {
		lent |= link->n_lent > 0;
		if (link->borrowed)
			link_close(link);
	}
	return lent;
}

void agent_local_close(struct agent *a, struct loop *loop)
{
	struct agent_local *l = agent_local(a, loop);
	struct link *link, *tmp;

	if (!l->loop)
		return;
	local_fail_queue(l, CAUSE_UNAVAILABLE, "the agent was removed");
	if (a->hub)
		hub_leave(l);
	cds_list_for_each_entry_safe(link, tmp, &l->links, node)
		link_close(link);
	deadline_stop(&l->grace);
	deadline_stop(&l->refill);
	deadline_stop(&l->borrow);
	health_local_close(l);
	breaker_local_close(l);
	rcu_publish(&l->loop, NULL);
}
