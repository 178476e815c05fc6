/*
 * What v2 agents say unasked and go-v2 agents when asked (protocol page 7):
 * read leniently, harmless whatever it is, and bounded.
 */
#include "agent/internal.h"
#include "base/mem.h"
#include "wire/report.h"

#define SERIES_MAX	256u
#define LOG_TEXT	96u

/* ---- flow control ------------------------------------------------------ */

static void pause_over(struct link *link)
{
	struct agent_session *s;

	link->paused = false;
	link->n_stopped = 0;
	if (!link->n_held)
		return;
	cds_list_for_each_entry(s, &link->sessions, node)
		s->paused = false;
	link->n_held = 0;
}

static void on_pause_over(struct deadline *d)
{
	struct link *link = container_of(d, struct link, pause);

	pause_over(link);
	link_serve(link);
}

void link_control_reset(struct link *link)
{
	deadline_stop(&link->pause);
	pause_over(link);
}

static void pause_session(struct link *link, struct slice id, bool pause)
{
	struct agent_session *s;

	if (id.n != EVENT_ID_LEN)
		return;
	cds_list_for_each_entry(s, &link->sessions, node) {
		if (memcmp(s->meta->correlation_id, id.p, EVENT_ID_LEN) != 0 ||
		    s->paused == pause)
			continue;
		s->paused = pause;
		link->n_held += pause ? 1 : -1u;
	}
	lend_pause(link, id.p, pause);
}

/* What waits is sent when all that came was read. */
static void take_flow(struct link *link, const struct wire_flow *flow)
{
	struct agent_local *l = link->local;

	if (flow->id.n)
		pause_session(link, flow->id, flow->pause);
	else
		link->paused = flow->pause;
	/* It may wait for what is over. */
	if (flow->pause)
		link_flush_lazy(link);
	if (flow->pause)
		deadline_start(l->loop, &link->pause,
			       l->agent->tuning.pause_max_us, on_pause_over);
	else if (!link->paused && !link->n_held && !link->n_stopped)
		deadline_stop(&link->pause);
}

/* ---- health ------------------------------------------------------------ */

static void take_health(struct link *link, const struct wire_health *h)
{
	uint64_t wall_ms = link->local->loop->wall_us / 1000, valid_us = 0;
	char text[LOG_TEXT];

	if (h->valid_until_ms && h->valid_until_ms <= wall_ms)
		return;		/* over already */
	if (h->valid_until_ms)
		valid_us = min_u64(h->valid_until_ms - wall_ms, 86400000) *
			   1000;
	else if (link->format.dialect == WIRE_GO)
		valid_us = 3 * link->local->agent->tuning.question_us;
	snprintf(text, sizeof(text), "%.*s",
		 (int)min_size(h->text.n, sizeof(text) - 1),
		 h->text.n ? h->text.p : "");
	instance_set_report(link, h->state, h->timeout_percent, valid_us,
			    text);
	if (h->state != AGENT_HEALTHY)
		link_flush_lazy(link);
}

/* ---- config update requests -------------------------------------------- */

static void take_update(struct link *link, const struct wire_update *u)
{
	struct agent_local *l = link->local;
	struct agent *a = l->agent;
	uint64_t now = l->loop->now_us, last;
	char type[32], text[LOG_TEXT];

	log_text(type, sizeof(type), u->type);
	log_text(text, sizeof(text), u->text);
	/* Each link brings it; once is enough. */
	last = __atomic_load_n(&a->update_us, __ATOMIC_RELAXED);
	if (last && now - last < a->tuning.reload_min_us &&
	    u->kind != UPDATE_CONFIG_ERROR)
		return;
	__atomic_store_n(&a->update_us, now, __ATOMIC_RELAXED);
	log_info("agent_asks", "agent=%s socket=%s type=%s text=\"%s\"",
		 a->config.name, link->instance->shared->path, type, text);
	if (u->kind == UPDATE_CONFIG_ERROR)
		instance_set_report(link, AGENT_DEGRADED, 100, 0, text);
	else if (u->kind == UPDATE_RELOAD && a->config.config_json &&
		 !link_push_config(link))
		link->n_dropped++;
}

/* ---- metrics ----------------------------------------------------------- */

struct report_series {
	char name[80], labels[WIRE_METRIC_LABELS + 24];
	uint8_t kind;		/* enum wire_metric_kind */
	double value;
};

struct take_metrics {
	struct agent *a;
	unsigned instance;
};

/* Under the lock. */
static struct report_series *find_series(struct agent *a, const char *name,
					 const char *labels)
{
	struct report_series *s;

	for (unsigned i = 0; i < a->n_reports; i++) {
		s = &a->reports[i];
		if (strcmp(s->name, name) == 0 &&
		    strcmp(s->labels, labels) == 0)
			return s;
	}
	if (a->n_reports == SERIES_MAX)
		return NULL;
	if (!a->reports)
		a->reports = mem_zalloc(SERIES_MAX * sizeof(*a->reports));
	if (!a->reports)
		return NULL;
	s = &a->reports[a->n_reports++];
	snprintf(s->name, sizeof(s->name), "%s", name);
	snprintf(s->labels, sizeof(s->labels), "%s", labels);
	return s;
}

static void take_metric(void *arg, const struct wire_metric *m)
{
	struct take_metrics *t = arg;
	char name[80], labels[WIRE_METRIC_LABELS + 24] = "";
	struct report_series *s;
	int n = 0;

	snprintf(name, sizeof(name), "%.*s%s", (int)m->name.n, m->name.p,
		 m->suffix);
	if (t->a->n_instances > 1)
		n = snprintf(labels, sizeof(labels), ",instance=\"%u\"",
			     t->instance);
	if (m->labels[0])
		snprintf(labels + n, sizeof(labels) - (size_t)n, ",%s",
			 m->labels);
	s = find_series(t->a, name, labels);
	if (!s)
		return;
	s->kind = (uint8_t)m->kind;
	s->value = m->value;
}

static bool take_metrics(struct link *link, struct slice payload)
{
	struct agent_local *l = link->local;
	struct agent *a = l->agent;
	struct take_metrics t = {
		a, (unsigned)(link->instance->shared - a->instances),
	};
	char *buf = (char *)(uintptr_t)payload.p;
	bool good;

	pthread_mutex_lock(&a->report_lock);
	good = link->format.dialect == WIRE_GO ?
	       wire_decode_go_metrics(buf, payload.n, &link->scratch,
				      take_metric, &t) :
	       wire_decode_metrics(buf, payload.n, &link->format,
				   &link->scratch, take_metric, &t);
	pthread_mutex_unlock(&a->report_lock);
	return good;
}

/* A family's series stand together, under one TYPE, whoever has them. */
static void print_family(struct agent *const *agents, unsigned n,
			 const char *name, FILE *out)
{
	for (unsigned k = 0; k < n; k++) {
		struct agent *a = agents[k];

		pthread_mutex_lock(&a->report_lock);
		for (unsigned i = 0; i < a->n_reports; i++) {
			const struct report_series *s = &a->reports[i];

			if (strcmp(s->name, name) == 0)
				fprintf(out, "agentproxyd_reported_%s{agent="
					"\"%s\"%s} %.17g\n", s->name,
					a->config.name, s->labels, s->value);
		}
		pthread_mutex_unlock(&a->report_lock);
	}
}

/* Is it the first of its name? Of a histogram, the _bucket of it. */
static bool first_of_name(struct agent *const *agents, unsigned k, unsigned i,
			  const char *name)
{
	bool first = true;

	for (unsigned a = 0; a <= k && first; a++) {
		struct agent *agent = agents[a];

		pthread_mutex_lock(&agent->report_lock);
		for (unsigned j = 0; j < (a == k ? i : agent->n_reports); j++)
			if (strcmp(agent->reports[j].name, name) == 0)
				first = false;
		pthread_mutex_unlock(&agent->report_lock);
	}
	return first;
}

static void print_type(const char *name, unsigned kind, FILE *out)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	size_t n = strlen(name);

	if (kind != METRIC_HISTOGRAM)
		fprintf(out, "# TYPE agentproxyd_reported_%s %s\n", name,
			types[kind]);
	else if (n > 7 && strcmp(name + n - 7, "_bucket") == 0)
		fprintf(out, "# TYPE agentproxyd_reported_%.*s histogram\n",
			(int)(n - 7), name);
}

void agent_print_reports(struct agent *const *agents, unsigned n, FILE *out)
{
	for (unsigned k = 0; k < n; k++) {
		/* Only ever more of them; names do not change. */
		for (unsigned i = 0;; i++) {
			struct report_series s;
			bool there;

			pthread_mutex_lock(&agents[k]->report_lock);
			there = i < agents[k]->n_reports;
			if (there)
				s = agents[k]->reports[i];
			pthread_mutex_unlock(&agents[k]->report_lock);
			if (!there)
				break;
			if (!first_of_name(agents, k, i, s.name))
				continue;
			print_type(s.name, s.kind, out);
			print_family(agents, n, s.name, out);
		}
	}
}

/* ---- all of them ------------------------------------------------------- */

void link_on_control(struct link *link, uint8_t type, struct slice payload)
{
	char *buf = (char *)(uintptr_t)payload.p;
	union {
		struct wire_health health;
		struct wire_flow flow;
		struct wire_update update;
	} u;
	bool good = false;

	switch (type) {
	case FRAME_HEALTH:
	case FRAME_GO_HEALTH:
		good = wire_decode_health(buf, payload.n, &link->format,
					  &link->scratch, &u.health);
		if (good)
			take_health(link, &u.health);
		break;
	case FRAME_METRICS:
	case FRAME_GO_METRICS:
		good = take_metrics(link, payload);
		break;
	case FRAME_CONFIG_UPDATE:
		good = wire_decode_update(buf, payload.n, &link->format,
					  &link->scratch, &u.update);
		if (good)
			take_update(link, &u.update);
		break;
	case FRAME_FLOW_CONTROL:
		good = wire_decode_flow(buf, payload.n, &link->format,
					&link->scratch, &u.flow);
		if (good)
			take_flow(link, &u.flow);
		break;
	}
	if (!good) {
		link->n_garbage++;
		log_debug("agent_garbage", "agent=%s type=0x%02x bytes=%zu",
			  link->local->agent->config.name, type, payload.n);
	}
	if (link->scratch.chunks)
		arena_reset(&link->scratch);
}
