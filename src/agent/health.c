/*
 * How an agent is, for /agents and the log: what its instances say of
 * themselves (0x30, a refused config), what the breaker thinks, and what each
 * worker makes of the answers. Only the first two change who is asked.
 *
 * The answers are judged once a second from the counters that are there
 * anyway: nothing is added to a request's way.
 */
#include <stdio.h>

#include "agent/internal.h"

#define IN_A_ROW	3u	/* failures: degraded */
#define ERRORS_BAD	100u	/* of 1000 */
#define PING_LOST_US	30000000ull

/* ---- what an instance says --------------------------------------------- */

/* All that could keep a caller away, over all instances. */
static void update_gate(struct agent *a)
{
	bool any = false;

	for (unsigned i = 0; i < a->n_instances; i++) {
		const struct agent_instance *inst = &a->instances[i];

		any |= __atomic_load_n(&inst->report, __ATOMIC_RELAXED) !=
		       AGENT_HEALTHY;
		any |= __atomic_load_n(&inst->refused, __ATOMIC_RELAXED);
	}
	if (any)
		agent_gate_set(a, GATE_INSTANCE);
	else
		agent_gate_clear(a, GATE_INSTANCE);
}

enum agent_state instance_report(const struct agent_instance *inst,
				 uint64_t now_us)
{
	uint64_t until = __atomic_load_n(&inst->report_until_us,
					 __ATOMIC_RELAXED);

	if (until && now_us >= until)
		return AGENT_HEALTHY;
	return (enum agent_state)__atomic_load_n(&inst->report,
						 __ATOMIC_RELAXED);
}

void log_text(char *to, size_t size, struct slice from)
{
	size_t i = 0;

	for (; i < from.n && i < size - 1; i++)
		to[i] = from.p[i] < 0x20 || from.p[i] > 0x7e ||
			from.p[i] == '"' || from.p[i] == '\\' ? '_' :
			from.p[i];
	to[i] = '\0';
}

void instance_set_report(struct link *link, enum agent_state state,
			 unsigned stretch_percent, uint64_t valid_us,
			 const char *text)
{
	struct agent_instance *inst = link->instance->shared;
	struct agent_local *l = link->local;

	if (state == AGENT_HEALTHY &&
	    __atomic_load_n(&inst->report, __ATOMIC_RELAXED) == AGENT_HEALTHY)
		return;
	pthread_mutex_lock(&inst->lock);
	log_text(inst->report_text, sizeof(inst->report_text),
		 slice_str(text));
	pthread_mutex_unlock(&inst->lock);
	__atomic_store_n(&inst->stretch_percent, (uint16_t)stretch_percent,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&inst->report_until_us,
			 valid_us ? l->loop->now_us + valid_us : 0,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&inst->report, (uint8_t)state, __ATOMIC_RELAXED);
	update_gate(l->agent);
	agent_tell_state(l);
}

void instance_set_refused(struct link *link, bool refused, const char *text)
{
	struct agent_instance *inst = link->instance->shared;
	struct agent_local *l = link->local;

	if (__atomic_load_n(&inst->refused, __ATOMIC_RELAXED) == refused)
		return;
	pthread_mutex_lock(&inst->lock);
	log_text(inst->report_text, sizeof(inst->report_text),
		 slice_str(text));
	pthread_mutex_unlock(&inst->lock);
	__atomic_store_n(&inst->refused, refused, __ATOMIC_RELAXED);
	update_gate(l->agent);
	agent_tell_state(l);
}

void instance_answered_ping(struct link *link)
{
	const struct agent_instance *inst = link->instance->shared;

	/* go-v2 agents are asked instead. */
	if (UNLIKELY(__atomic_load_n(&inst->report, __ATOMIC_RELAXED) ==
		     AGENT_UNHEALTHY) && link->format.dialect != WIRE_GO)
		instance_set_report(link, AGENT_HEALTHY, 100, 0, "");
}

static unsigned instance_stretch(const struct agent_instance *inst,
				 uint64_t now_us)
{
	if (instance_report(inst, now_us) != AGENT_DEGRADED)
		return 100;
	return __atomic_load_n(&inst->stretch_percent, __ATOMIC_RELAXED);
}

uint64_t health_stretch(const struct agent_local *l, const struct link *link,
			uint64_t timeout_us)
{
	uint64_t now_us = l->loop->now_us;
	unsigned percent = 100;

	if (link)
		percent = instance_stretch(link->instance->shared, now_us);
	for (unsigned i = 0; !link && i < l->agent->n_instances; i++) {
		unsigned p = instance_stretch(&l->agent->instances[i], now_us);

		if (p > percent)
			percent = p;
	}
	return timeout_us * percent / 100;
}

const char *health_refuses(struct agent_local *l)
{
	const struct agent *a = l->agent;
	bool refused = false;

	for (unsigned i = 0; i < a->n_instances; i++) {
		const struct agent_instance *inst = &a->instances[i];

		if (__atomic_load_n(&inst->refused, __ATOMIC_RELAXED))
			refused = true;
		else if (instance_report(inst, l->loop->now_us) !=
			 AGENT_UNHEALTHY)
			return NULL;
	}
	return refused ? "the agent refused its config" :
			 "the agent says that it is unhealthy";
}

/* ---- what a worker makes of the answers -------------------------------- */

static uint64_t sum_of(const struct counter *c, unsigned n)
{
	uint64_t sum = 0;

	while (n--)
		sum += counter_read(c++);
	return sum;
}

static enum health_state judge(struct agent_local *l)
{
	const struct local_health *h = &l->health;

	if (breaker_failures(l->agent) >= IN_A_ROW)
		return HEALTH_IN_A_ROW;
	if (h->errors >= ERRORS_BAD)
		return HEALTH_ERRORS;
	if (h->avg_us > l->agent->config.timeouts.head_us / 2 &&
	    l->agent->config.timeouts.head_us)
		return HEALTH_SLOW;
	if (h->ping_lost_us &&
	    l->loop->now_us - h->ping_lost_us < PING_LOST_US)
		return HEALTH_PINGS;
	return HEALTH_GOOD;
}

/* Half of what it was, half of what came since. */
static void average(struct local_health *h, uint64_t decisions,
		    uint64_t failures, uint64_t sum_us)
{
	uint64_t n = decisions + failures;

	if (n)
		h->errors = (uint32_t)((h->errors + failures * 1000 / n) / 2);
	if (decisions)
		h->avg_us = (h->avg_us + sum_us / decisions) / 2;
}

/* ---- lines of an agent that comes and goes ----------------------------- */

#define LINES_MAX	60u

bool instance_may_log(const struct agent_local *l, struct agent_instance *inst,
		      char more[MORE_TEXT])
{
	unsigned left_out = 0;
	bool may;

	pthread_mutex_lock(&inst->lock);
	may = log_limit_admits(&inst->lines, l->loop->now_us, LINES_MAX,
			       l->agent->tuning.lines_us, &left_out);
	__atomic_store_n(&inst->lines_left_out, !may, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&inst->lock);
	more[0] = '\0';
	if (left_out)
		snprintf(more, MORE_TEXT, " left_out=%u", left_out);
	return may;
}

/* None of its lines came after them: so where it stands now is said, too. */
static void tell_left_out(const struct agent_local *l)
{
	for (unsigned i = 0; i < l->agent->n_instances; i++) {
		struct agent_instance *inst = &l->agent->instances[i];
		unsigned n;

		if (LIKELY(!__atomic_load_n(&inst->lines_left_out,
					    __ATOMIC_RELAXED)))
			continue;
		pthread_mutex_lock(&inst->lock);
		n = log_limit_take(&inst->lines, l->loop->now_us);
		if (n)
			__atomic_store_n(&inst->lines_left_out, false,
					 __ATOMIC_RELAXED);
		pthread_mutex_unlock(&inst->lock);
		if (n)
			log_warn("agent_flaps", "agent=%s socket=%s left_out=%u "
				 "links_up=%u", l->agent->config.name,
				 inst->path, n,
				 __atomic_load_n(&inst->links_up,
						 __ATOMIC_RELAXED));
	}
}

static uint64_t failed(const struct agent_metrics *m, enum cause cause)
{
	return counter_read(&m->failures[cause]) +
	       counter_read(&m->unheard[cause]);
}

static void on_health_tick(struct deadline *d)
{
	struct agent_local *l = container_of(d, struct agent_local,
					     health.tick);
	const struct agent_metrics *m = l->metrics;
	struct local_health *h = &l->health;
	uint64_t decisions = 0, failures, sum_us = 0;

	for (unsigned e = 0; e < EVENT_COMPLETE; e++) {
		decisions += sum_of(m->decisions[e], METRICS_DECISIONS);
		sum_us += counter_read(&m->event_us[e].sum_us);
	}
	failures = failed(m, CAUSE_TIMEOUT) + failed(m, CAUSE_PROTOCOL) +
		   failed(m, CAUSE_UNREADABLE) + failed(m, CAUSE_CLOSED);
	average(h, decisions - h->decisions, failures - h->failures,
		sum_us - h->sum_us);
	h->decisions = decisions;
	h->failures = failures;
	h->sum_us = sum_us;
	__atomic_store_n(&h->state, (uint8_t)judge(l), __ATOMIC_RELAXED);
	agent_tell_state(l);
	tell_left_out(l);
	deadline_start(l->loop, d, l->agent->tuning.health_us, on_health_tick);
}

void health_local_start(struct agent_local *l)
{
	/* The counters outlive an agent that a reload replaces. */
	memset(&l->health, 0, sizeof(l->health));
	on_health_tick(&l->health.tick);
	l->health.errors = 0;
	l->health.avg_us = 0;
	__atomic_store_n(&l->health.state, HEALTH_GOOD, __ATOMIC_RELAXED);
}

void health_local_close(struct agent_local *l)
{
	deadline_stop(&l->health.tick);
	__atomic_store_n(&l->health.state, HEALTH_GOOD, __ATOMIC_RELAXED);
}

void health_ping_lost(struct agent_local *l)
{
	l->health.ping_lost_us = l->loop->now_us;
}

/* ---- all of it --------------------------------------------------------- */

/* What the log says of a state beside its reason. */
struct help {
	const char *socket;	/* NULL: no single one */
	const char *advice;
};

static enum agent_state state_of_instances(struct agent *a, uint64_t now_us,
					   char reason[HEALTH_TEXT],
					   struct help *help)
{
	unsigned n[AGENT_STATE_N] = { 0 }, all = a->n_instances;

	for (unsigned i = 0; i < all; i++) {
		struct agent_instance *inst = &a->instances[i];
		bool refused = __atomic_load_n(&inst->refused,
					       __ATOMIC_RELAXED);
		enum agent_state s = refused ? AGENT_UNHEALTHY :
				     instance_report(inst, now_us);

		n[s]++;
		if (s == AGENT_HEALTHY)
			continue;
		pthread_mutex_lock(&inst->lock);
		snprintf(reason, HEALTH_TEXT, "%s%s%s",
			 refused ? "config refused" : "the agent says so",
			 inst->report_text[0] ? ": " : "", inst->report_text);
		pthread_mutex_unlock(&inst->lock);
		help->socket = inst->path;
		help->advice = refused ? "correct the agent's config, or the "
					 "agent" : "look at the agent's log";
	}
	if (n[AGENT_HEALTHY] == all)
		return AGENT_HEALTHY;
	if (n[AGENT_UNHEALTHY] == all)
		return AGENT_UNHEALTHY;
	if (n[AGENT_DRAINING] + n[AGENT_UNHEALTHY] == all)
		return AGENT_DRAINING;
	return AGENT_DEGRADED;
}

static enum agent_state state_with_help(struct agent *a, uint64_t now_us,
					char reason[HEALTH_TEXT],
					struct help *help)
{
	static const char *const texts[HEALTH_N][2] = {
		[HEALTH_GOOD] = { "", "" },
		[HEALTH_IN_A_ROW] = { "failures in a row",
			"see agent_failures_total, and the agent's log" },
		[HEALTH_ERRORS] = { "one answer of ten or more fails",
			"see agent_failures_total, and the agent's log" },
		[HEALTH_SLOW] = { "answers take more than half their time-out",
			"give the agent more processes or a longer time-out" },
		[HEALTH_PINGS] = { "a ping was not answered",
			"look whether the agent is stuck" },
	};
	enum health_state worst = HEALTH_GOOD;
	enum agent_state state;
	unsigned up = 0;

	reason[0] = '\0';
	help->socket = a->config.n_sockets == 1 ? a->config.sockets[0] : NULL;
	help->advice = "";
	state = state_of_instances(a, now_us, reason, help);
	if (state != AGENT_HEALTHY)
		return state;
	for (unsigned w = 0; w < a->n_workers; w++) {
		uint8_t s = __atomic_load_n(&a->local[w]->health.state,
					    __ATOMIC_RELAXED);

		up += agent_links_up(a, w);
		if (s && (!worst || s < worst))
			worst = (enum health_state)s;
	}
	if (breaker_state(a) != BREAKER_CLOSED)
		snprintf(reason, HEALTH_TEXT, "the breaker is not closed");
	else if (!up)
		snprintf(reason, HEALTH_TEXT, "no link is up");
	else if (worst)
		snprintf(reason, HEALTH_TEXT, "%s", texts[worst][0]);
	else
		return AGENT_HEALTHY;
	help->advice = texts[worst][1];
	return breaker_state(a) != BREAKER_CLOSED || !up ? AGENT_UNHEALTHY :
							   AGENT_DEGRADED;
}

enum agent_state agent_state(struct agent *a, uint64_t now_us,
			     char reason[HEALTH_TEXT])
{
	struct help help;

	return state_with_help(a, now_us, reason, &help);
}

void agent_tell_state(struct agent_local *l)
{
	struct agent *a = l->agent;
	char reason[HEALTH_TEXT];
	struct help help;
	char more[MORE_TEXT];
	enum agent_state state = state_with_help(a, l->loop->now_us, reason,
						 &help);
	uint8_t was = __atomic_load_n(&a->state_told, __ATOMIC_RELAXED);

	/* Links and the breaker have lines of their own. */
	if (was == state || (state == AGENT_UNHEALTHY &&
			     !(agent_gate(a) & GATE_INSTANCE)))
		return;
	if (!__atomic_compare_exchange_n(&a->state_told, &was, (uint8_t)state,
					 false, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED) ||
	    !instance_may_log(l, &a->instances[0], more))
		return;
	if (state == AGENT_HEALTHY)
		log_info("agent_state", "agent=%s from=%s to=%s%s",
			 a->config.name, agent_state_names[was],
			 agent_state_names[state], more);
	else
		log_warn("agent_state", "agent=%s socket=%s from=%s to=%s "
			 "reason=\"%s\" advice=\"%s\"%s", a->config.name,
			 help.socket ? help.socket : "several",
			 agent_state_names[was], agent_state_names[state],
			 reason, help.advice, more);
}
