/* /agents: what each agent is doing, from counters and what is under a lock
 * that is taken on change only. */
#include <jansson.h>

#include "agent/internal.h"
#include "base/mem.h"

static json_t *print_error(struct agent_instance *inst)
{
	struct timefmt_cache cache = { 0 };
	char time[TIMEFMT_RFC3339_US], text[sizeof(inst->error_text)];
	enum cause cause;
	uint64_t wall_us;

	pthread_mutex_lock(&inst->lock);
	cause = (enum cause)inst->error_cause;
	wall_us = inst->error_wall_us;
	memcpy(text, inst->error_text, sizeof(text));
	pthread_mutex_unlock(&inst->lock);
	if (cause == CAUSE_NONE)
		return json_null();
	timefmt_rfc3339_us(&cache, wall_us, time);
	return json_pack("{s:s, s:s, s:s%}", "cause", cause_names[cause],
			 "text", text, "time", time, sizeof(time));
}

static json_t *print_instance(struct agent *a, unsigned i)
{
	static const char *const encodings[] = { NULL, "json", "msgpack" };
	struct agent_instance *inst = &a->instances[i];
	uint8_t encoding = __atomic_load_n(&inst->encoding, __ATOMIC_RELAXED);
	uint64_t up = 0, wanted = 0, in_flight = 0;

	for (unsigned w = 0; w < a->n_workers; w++) {
		struct instance_local *il = &a->local[w]->instances[i];

		up += counter_read(&il->links_up);
		wanted += counter_read(&il->links);
		in_flight += counter_read(&il->in_flight);
	}
	return json_pack("{s:s, s:s?, s:s?, s:I, s:I, s:I, s:o}",
			 "address", inst->path,
			 "dialect", encoding ? dialect_names[__atomic_load_n(
					&inst->dialect, __ATOMIC_RELAXED)] :
				    NULL,
			 "encoding", encodings[encoding],
			 "links_up", (json_int_t)up,
			 "links_wanted", (json_int_t)wanted,
			 "in_flight", (json_int_t)in_flight,
			 "last_error", print_error(inst));
}

static json_t *print_agent(struct agent *a)
{
	json_t *instances = json_array(), *j;
	uint64_t in_flight = 0, queued = 0, held = 0, registered = 0;
	char reason[HEALTH_TEXT];
	enum agent_state state = agent_state(a, sock_clock_us(), reason);

	for (unsigned w = 0; w < a->n_workers; w++) {
		const struct agent_metrics *m = a->local[w]->metrics;

		in_flight += counter_read(&m->in_flight);
		queued += counter_read(&m->queued);
		held += counter_read(&m->held_bytes);
		registered += counter_read(&m->registered);
	}
	for (unsigned i = 0; i < a->n_instances; i++)
		json_array_append_new(instances, print_instance(a, i));
	j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o}",
		      "name", a->config.name,
		      "state", agent_state_names[state],
		      "breaker", breaker_state_names[breaker_state(a)],
		      "reason", reason,
		      "in_flight", (json_int_t)in_flight,
		      "queued", (json_int_t)queued,
		      "held_bytes", (json_int_t)held,
		      "instances", instances);
	/* Of one that dials in. */
	if (j && a->hub)
		json_object_set_new(j, "registered",
				    json_integer((json_int_t)registered));
	return j;
}

void agent_print_json(struct agent *a, FILE *out)
{
	json_t *j = print_agent(a);

	/* A name or text that is not UTF-8: say what can be said. */
	if (!j || json_dumpf(j, out, JSON_COMPACT) != 0)
		fputs("null", out);
	json_decref(j);
}
