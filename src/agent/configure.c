/*
 * An agent's own config, pushed on each link before any event (protocol page
 * 5.8), and again when the agent asks for it. A ping goes behind it: an agent
 * that never answers 0x17 is found out by the pong.
 */
#include "agent/internal.h"

/* As long as a correlation id, so that replies are matched alike. */
static void make_id(const struct link *link, char out[EVENT_ID_LEN + 1])
{
	snprintf(out, EVENT_ID_LEN + 1, "cfg-%028llx",
		 (unsigned long long)(link->pushed_us + link->ping_sequence));
}

bool link_push_config(struct link *link)
{
	struct agent_local *l = link->local;
	struct agent *a = l->agent;
	char id[EVENT_ID_LEN + 1] = "";
	struct event ev = {
		.type = EVENT_CONFIGURE,
		.configure = {
			.id = slice_of(id, EVENT_ID_LEN),
			.config_json = slice_str(a->config.config_json),
			.agent_id = slice_str(a->config.name),
		},
	};
	struct entry *e;

	link->pushed_us = l->loop->now_us;
	make_id(link, id);
	if (!fifo_reserve(&link->fifo) ||
	    link_encode(link, &ev) != WIRE_OK)
		return false;
	counter_inc(&l->metrics->events[EVENT_CONFIGURE]);
	e = fifo_push(&link->fifo);
	memset(e, 0, sizeof(*e));
	if (link->format.dialect == WIRE_V1)
		e->v1_bytes = link->v1_frame;
	else
		memcpy(e->id, id, EVENT_ID_LEN);
	e->type = EVENT_CONFIGURE;
	e->tomb_us = l->loop->now_us + a->tuning.configure_us;
	e->timeout_ms = (uint32_t)(a->tuning.configure_us / 1000);
	link_send_ping(link, &e->probe);
	return true;
}

static void config_accepted(struct link *link)
{
	instance_set_refused(link, false, "");
	if (link->state == LINK_CONFIGURE)
		link_up(link);
}

void link_config_unanswered(struct link *link)
{
	log_info("agent_config", "agent=%s socket=%s answered=no",
		 link->local->agent->config.name, link->instance->shared->path);
	config_accepted(link);
}

bool link_configured(struct link *link, const struct decision *d,
		     enum decision_fault fault)
{
	char text[sizeof(link->instance->shared->report_text)];
	const char *why = NULL;

	if (fault == DECISION_NO_MEMORY || fault == DECISION_BAD)
		why = d->fault_text ? d->fault_text : "not a reply";
	else if (d->id_kind == DECISION_ID_EMPTY)
		why = "the agent could not read it";
	else if (fault == DECISION_OK && d->kind == DECISION_ALLOW) {
		config_accepted(link);
		return true;
	}
	if (why)
		snprintf(text, sizeof(text), "%s", why);
	else
		snprintf(text, sizeof(text), "%.*s",
			 (int)min_size(d->body.n, sizeof(text) - 1),
			 d->body.n ? d->body.p : "");
	instance_set_refused(link, true, text);
	link_lost(link, CAUSE_PROTOCOL, RETRY_LATE,
		  "the agent refused its config");
	return false;
}
