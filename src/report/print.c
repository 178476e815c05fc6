/*
 * All metrics as Prometheus text. Control thread; reads what workers write
 * with relaxed loads, so sums of a moment are as good as it gets.
 */
#include <inttypes.h>
#include <stddef.h>

#include "report/registry.h"

static const char *const bound_text[HISTOGRAM_BUCKETS] = {
	"0.00001", "0.000025", "0.00005", "0.0001", "0.00025", "0.0005",
	"0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
	"0.5", "1", "2.5", "10", "30", "+Inf",
};

static const char *const code_class_names[CODE_CLASS_N] = {
	[CODE_NONE] = "none", [CODE_1XX] = "1xx", [CODE_2XX] = "2xx",
	[CODE_3XX] = "3xx", [CODE_4XX] = "4xx", [CODE_5XX] = "5xx",
};

/* Events that an agent decides about; complete and configure are told. */
#define EVENTS_DECIDED (EVENT_RESPONSE_CHUNK + 1)

static void family(FILE *out, const char *name, const char *type,
		   const char *help)
{
	fprintf(out, "# HELP agentproxyd_%s %s\n# TYPE agentproxyd_%s %s\n",
		name, help, name, type);
}

/* A label's value: backslash, quote and newline escaped. */
static void label_value(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			fputs("\\n", out);
		else if (*s == '\\' || *s == '"')
			fprintf(out, "\\%c", *s);
		else
			fputc(*s, out);
	}
}

/* One label of a series; the list ends with a NULL name. */
struct label {
	const char *name, *value;
};

static void series_name(FILE *out, const char *name, const char *suffix,
			const struct label *labels, const char *le)
{
	const char *sep = "{";

	fprintf(out, "agentproxyd_%s%s", name, suffix);
	for (; labels && labels->name; labels++) {
		fprintf(out, "%s%s=\"", sep, labels->name);
		label_value(out, labels->value);
		fputc('"', out);
		sep = ",";
	}
	if (le)
		fprintf(out, "%sle=\"%s\"}", sep, le);
	else if (*sep == ',')
		fputc('}', out);
	fputc(' ', out);
}

static void series(FILE *out, const char *name, const struct label *labels,
		   uint64_t value)
{
	series_name(out, name, "", labels, NULL);
	fprintf(out, "%" PRIu64 "\n", value);
}

/* ---- sums over workers -------------------------------------------------- */

/* base: worker 0's part; offset: of the counter in it. */
static uint64_t sum_parts(const char *base, size_t stride, unsigned n,
			  size_t offset)
{
	uint64_t sum = 0;

	for (unsigned w = 0; w < n; w++)
		sum += counter_read((const struct counter *)(const void *)
				    (base + w * stride + offset));
	return sum;
}

/* A gauge that workers count up and down may look negative for a moment. */
static uint64_t at_least_0(uint64_t v)
{
	return (int64_t)v < 0 ? 0 : v;
}

static uint64_t sum_worker(const struct metrics *m, size_t offset)
{
	return sum_parts(m->workers, m->worker_stride, m->n_workers, offset);
}

static uint64_t sum_set(const struct metrics_set *s, size_t offset)
{
	return sum_parts(s->local, s->stride, s->n_workers, offset);
}

static void histogram_series(FILE *out, const char *name,
			     const struct label *labels, const char *base,
			     size_t stride, unsigned n, size_t offset)
{
	uint64_t count = 0, sum;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		count += sum_parts(base, stride, n, offset +
				   offsetof(struct histogram, bucket) +
				   b * sizeof(struct counter));
		series_name(out, name, "_bucket", labels, bound_text[b]);
		fprintf(out, "%" PRIu64 "\n", count);
	}
	sum = sum_parts(base, stride, n,
			offset + offsetof(struct histogram, sum_us));
	series_name(out, name, "_sum", labels, NULL);
	fprintf(out, "%" PRIu64 ".%06" PRIu64 "\n", sum / 1000000,
		sum % 1000000);
	series_name(out, name, "_count", labels, NULL);
	fprintf(out, "%" PRIu64 "\n", count);
}

/* ---- families by kind --------------------------------------------------- */

/*
 * A family of one kind of set: a counter or gauge (or histogram) per set, or
 * an array of them with one label more.
 */
struct set_family {
	const char *name, *type, *help;
	enum metrics_kind kind;
	const char *label;		/* name of the set's own label */
	const char *label2;		/* of name2; NULL: none */
	size_t offset;
	const char *array_label;	/* NULL: not an array */
	const char *const *array_names;	/* NULL entries are left out */
	unsigned array_n;
	/* Gauges with a fixed label value: one row per value. */
	const char *fixed_label, *fixed_value;
	/* Another row of the family above: no HELP, no TYPE. */
	bool more;
};

#define AT(type, member) offsetof(struct type, member)

#define COUNTER(name_, help_) .name = name_, .type = "counter", .help = help_
#define GAUGE(name_, help_)   .name = name_, .type = "gauge", .help = help_
#define LISTENER(member)						\
	.kind = METRICS_LISTENER, .label = "listener",			\
	.offset = AT(listener_metrics, member)
#define UPSTREAM(member)						\
	.kind = METRICS_UPSTREAM, .label = "upstream",			\
	.offset = AT(upstream_metrics, member)
#define AGENT(member)							\
	.kind = METRICS_AGENT, .label = "agent",			\
	.offset = AT(agent_metrics, member)
#define ARRAY(label_, names, n)						\
	.array_label = label_, .array_names = names, .array_n = n
#define FIXED(label_, value_) .fixed_label = label_, .fixed_value = value_

static const struct set_family listener_families[] = {
	{ GAUGE("connections", "Client connections open."),
	  LISTENER(connections) },
	{ COUNTER("connections_total", "Client connections accepted."),
	  LISTENER(connections_total) },
	{ COUNTER("connections_refused_total", "Client connections refused."),
	  LISTENER(refused_limit), FIXED("reason", "limit") },
	{ COUNTER("connections_refused_total", ""), .more = true,
	  LISTENER(refused_system), FIXED("reason", "system") },
};

static const struct set_family traffic_families[] = {
	{ COUNTER("requests_total",
		  "Exchanges ended, by route and class of the status."),
	  .kind = METRICS_ROUTE, .label = "route",
	  .offset = AT(route_metrics, requests),
	  ARRAY("code_class", code_class_names, CODE_CLASS_N) },
	{ COUNTER("upstream_requests_total", "Requests sent to a server."),
	  .kind = METRICS_SERVER, .label = "upstream", .label2 = "server",
	  .offset = AT(server_metrics, requests) },
	{ COUNTER("upstream_errors_total", "Failures of upstreams."),
	  UPSTREAM(errors),
	  ARRAY("reason", metrics_upstream_names, METRICS_UPSTREAM_ERRORS) },
	{ COUNTER("upstream_retries_total", "Requests sent once more."),
	  UPSTREAM(retries) },
	{ GAUGE("upstream_connections", "Connections to upstreams."),
	  UPSTREAM(active), FIXED("state", "active") },
	{ GAUGE("upstream_connections", ""), .more = true,
	  UPSTREAM(idle), FIXED("state", "idle") },
};

static const struct set_family agent_families[] = {
	{ COUNTER("agent_events_total", "Events sent to agents."),
	  AGENT(events), ARRAY("event", event_names, EVENT_N) },
	{ COUNTER("agent_failures_total", "Askings that failed."),
	  AGENT(failures), ARRAY("cause", cause_names, CAUSE_N) },
	{ COUNTER("agent_bypass_total",
		  "Failures after which the message passed."),
	  AGENT(bypass), ARRAY("cause", cause_names, CAUSE_N) },
	{ COUNTER("agent_denied_total",
		  "Failures after which the message was refused."),
	  AGENT(denied), ARRAY("cause", cause_names, CAUSE_N) },
	{ COUNTER("agent_unsent_total",
		  "Failures that came before the event was sent."),
	  AGENT(unsent) },
	{ COUNTER("agent_abandoned_total",
		  "Askings whose answer was not wanted any more."),
	  AGENT(abandoned) },
	{ COUNTER("agent_late_replies_total",
		  "Replies that came after their time and were dropped."),
	  AGENT(late_replies) },
	{ COUNTER("agent_disagreements_total",
		  "Answers of an observing agent that were not what the "
		  "enforcing ones came to."),
	  AGENT(disagreements), ARRAY("event", event_names, EVENT_N) },
	{ COUNTER("agent_unheard_total",
		  "Failures of an observing agent: they mean nothing, and "
		  "are not among agent_failures_total."),
	  AGENT(unheard), ARRAY("cause", cause_names, CAUSE_N) },
	{ COUNTER("agent_transcoded_total",
		  "Events in which text was not UTF-8 and was made so."),
	  AGENT(transcoded) },
	{ COUNTER("agent_ops_dropped_total",
		  "Header edits that an agent may not make."),
	  AGENT(ops_dropped) },
	{ COUNTER("agent_reconnects_total", "Links that came up again."),
	  AGENT(reconnects) },
	{ COUNTER("agent_registered_total",
		  "Links that the agent itself opened."),
	  AGENT(registered) },
	{ GAUGE("agent_links", "Links to agents, by state."),
	  AGENT(links_up), FIXED("state", "up") },
	{ GAUGE("agent_links", ""), .more = true,
	  AGENT(links_connecting), FIXED("state", "connecting") },
	{ GAUGE("agent_links", ""), .more = true,
	  AGENT(links_stalled), FIXED("state", "stalled") },
	{ GAUGE("agent_in_flight", "Events sent and not yet answered."),
	  AGENT(in_flight) },
	{ GAUGE("agent_queued", "Events waiting for a link."),
	  AGENT(queued) },
	{ GAUGE("agent_breaker_open", "1 while the breaker is open."),
	  AGENT(breaker_open) },
	{ .name = "agent_queue_seconds", .type = "histogram",
	  .help = "Time from asking to sending.", AGENT(queue_us) },
};

static void print_set(FILE *out, const struct set_family *f,
		      const struct metrics_set *s)
{
	struct label labels[5] = { { f->label, s->name } };
	unsigned n = 1;
	uint64_t v;

	if (f->label2)
		labels[n++] = (struct label){ f->label2, s->name2 };
	if (f->fixed_label)
		labels[n++] = (struct label){ f->fixed_label, f->fixed_value };
	if (f->type[0] == 'h') {
		histogram_series(out, f->name, labels, s->local, s->stride,
				 s->n_workers, f->offset);
		return;
	}
	if (!f->array_label) {
		v = sum_set(s, f->offset);
		series(out, f->name, labels,
		       f->type[0] == 'g' ? at_least_0(v) : v);
		return;
	}
	for (unsigned i = 0; i < f->array_n; i++) {
		if (!f->array_names[i] || !*f->array_names[i])
			continue;
		labels[n] = (struct label){ f->array_label,
					    f->array_names[i] };
		series(out, f->name, labels,
		       sum_set(s, f->offset + i * sizeof(struct counter)));
	}
}

static void print_families(struct metrics *m, FILE *out,
			   const struct set_family *f, unsigned n)
{
	const struct metrics_set *s;

	for (; n; n--, f++) {
		if (!f->more)
			family(out, f->name, f->type, f->help);
		cds_list_for_each_entry(s, &m->sets[f->kind], node)
			print_set(out, f, s);
	}
}

/* agent_decisions_total{agent,event,decision} and agent_seconds{agent,event}
 * have two dimensions, which the table has no columns for. */
static void print_agent_events(struct metrics *m, FILE *out)
{
	const struct metrics_set *s;

	family(out, "agent_decisions_total", "counter", "Decisions of agents.");
	cds_list_for_each_entry(s, &m->sets[METRICS_AGENT], node)
		for (unsigned e = 0; e < EVENTS_DECIDED; e++)
			for (unsigned d = 0; d < METRICS_DECISIONS; d++)
				series(out, "agent_decisions_total",
				       (struct label[]){
					{ "agent", s->name },
					{ "event", event_names[e] },
					{ "decision", verdict_names[d] },
					{ NULL, NULL } },
				       sum_set(s, AT(agent_metrics,
						     decisions) +
					       (e * METRICS_DECISIONS + d) *
					       sizeof(struct counter)));
	family(out, "agent_seconds", "histogram",
	       "Time from asking to the answer.");
	cds_list_for_each_entry(s, &m->sets[METRICS_AGENT], node)
		for (unsigned e = 0; e < EVENT_N; e++)
			histogram_series(out, "agent_seconds",
				(struct label[]){ { "agent", s->name },
					{ "event", event_names[e] },
					{ NULL, NULL } },
				s->local, s->stride, s->n_workers,
				AT(agent_metrics, event_us) +
				e * sizeof(struct histogram));
}

/* ---- what has no set ---------------------------------------------------- */

static void single(FILE *out, const char *name, const char *type,
		   const char *help, uint64_t value)
{
	family(out, name, type, help);
	series(out, name, NULL, value);
}

static void by_name(struct metrics *m, FILE *out, const char *name,
		    const char *label, const char *const *names, unsigned n,
		    size_t offset)
{
	for (unsigned i = 0; i < n; i++)
		if (names[i] && *names[i])
			series(out, name,
			       (struct label[]){ { label, names[i] },
						 { NULL, NULL } },
			       sum_worker(m, offset +
					  i * sizeof(struct counter)));
}

static void print_process(struct metrics *m, const struct metrics_process *p,
			  FILE *out)
{
	family(out, "build_info", "gauge", "Always 1; the version.");
	series(out, "build_info",
	       (struct label[]){ { "version", p->version }, { NULL, NULL } },
	       1);
	single(out, "start_time_seconds", "gauge",
	       "When the process started, in seconds since 1970.",
	       p->start_time_s);
	single(out, "workers", "gauge", "Event loops that carry traffic.",
	       m->n_workers);
	single(out, "config_generation", "gauge",
	       "Counts up with every config that took effect.",
	       p->config_generation);
	family(out, "config_reloads_total", "counter", "Reloads, by result.");
	series(out, "config_reloads_total",
	       (struct label[]){ { "result", "ok" }, { NULL, NULL } },
	       p->reloads_ok);
	series(out, "config_reloads_total",
	       (struct label[]){ { "result", "refused" }, { NULL, NULL } },
	       p->reloads_refused);
	single(out, "config_snapshots_live", "gauge",
	       "Configs in memory; above 1 while old exchanges end.",
	       p->config_snapshots_live);
	single(out, "held_bytes", "gauge",
	       "Bytes of bodies held or in flight.",
	       at_least_0(sum_worker(m, AT(worker_metrics, held_bytes))));
}

static void print_workers(struct metrics *m, const struct metrics_process *p,
			  FILE *out)
{
	single(out, "exchanges_in_flight", "gauge", "Exchanges under way.",
	       at_least_0(sum_worker(m, AT(worker_metrics,
					   exchanges_in_flight))));
	family(out, "ended_total", "counter", "Exchanges, by who ended them.");
	by_name(m, out, "ended_total", "by", ended_by_names, ENDED_N,
		AT(worker_metrics, ended));
	family(out, "bad_requests_total", "counter",
	       "Requests that were refused as bad.");
	by_name(m, out, "bad_requests_total", "reason", metrics_bad_names,
		METRICS_BAD_REASONS, AT(worker_metrics, bad_requests));
	family(out, "agent_registrations_total", "counter",
	       "Agents that dialled in, by what became of it.");
	by_name(m, out, "agent_registrations_total", "result",
		metrics_registration_names, METRICS_REG_N,
		AT(worker_metrics, registrations));
	single(out, "request_bytes_total", "counter",
	       "Bytes of request bodies.",
	       sum_worker(m, AT(worker_metrics, request_bytes)));
	single(out, "response_bytes_total", "counter",
	       "Bytes of response bodies.",
	       sum_worker(m, AT(worker_metrics, response_bytes)));
	family(out, "request_seconds", "histogram",
	       "Time of whole exchanges.");
	histogram_series(out, "request_seconds", NULL, m->workers,
			 m->worker_stride, m->n_workers,
			 AT(worker_metrics, request_us));
	family(out, "loop_lag_seconds", "histogram",
	       "How long the turns of event loops took.");
	histogram_series(out, "loop_lag_seconds", NULL, m->workers,
			 m->worker_stride, m->n_workers,
			 AT(worker_metrics, loop_lag_us));
	single(out, "log_lost_total", "counter",
	       "Lines of the own log that could not be written.", p->log_lost);
	single(out, "access_log_lost_total", "counter",
	       "Lines of the access log that could not be written.",
	       sum_worker(m, AT(worker_metrics, access_lost)));
}

void metrics_print(struct metrics *m, const struct metrics_process *p,
		   FILE *out)
{
	pthread_mutex_lock(&m->lock);
	print_process(m, p, out);
	print_families(m, out, listener_families,
		       ARRAY_LEN(listener_families));
	print_workers(m, p, out);
	print_families(m, out, traffic_families, ARRAY_LEN(traffic_families));
	print_families(m, out, agent_families, ARRAY_LEN(agent_families));
	print_agent_events(m, out);
	pthread_mutex_unlock(&m->lock);
}
