/*
 * What must hold of each exchange. Some of it is looked at when something
 * comes out (px_check_forward, px_check_answer), the rest when the world is
 * over and the log can say which of several lawful things has happened.
 */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "px_client.h"

void px_fail(struct px *px, const struct px_exchange *x, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "sim: seed %llu at %llu", (unsigned long long)px->seed,
		(unsigned long long)sim_now(px->w));
	if (x)
		fprintf(stderr, ", request %u (%s on route %u)", x->n,
			x->method, x->route);
	fprintf(stderr, ": ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	abort();
}

/* ---- finding ------------------------------------------------------------- */

struct px_exchange *px_find(struct px *px, struct slice target)
{
	static const struct slice origin = { "http://sim.example", 18 };
	const char *p = target.p, *end = target.p + target.n;
	unsigned slashes = 0;
	unsigned long n = 0;

	if (slice_has_prefix(target, origin))
		p += origin.n;
	while (p < end && slashes < 2)
		slashes += *p++ == '/';
	while (p < end && *p >= '0' && *p <= '9' && n < PX_EXCHANGES)
		n = n * 10 + (unsigned long)(*p++ - '0');
	if (slashes < 2 || n == 0 || n > px->n_x)
		return NULL;
	return &px->x[n];
}

struct px_exchange *px_find_id(struct px *px, const char id[EVENT_ID_LEN],
			       bool go)
{
	for (unsigned i = px->n_x; i > 0; i--)
		if (memcmp(go ? px->x[i].go_id : px->x[i].id, id,
			   EVENT_ID_LEN) == 0)
			return &px->x[i];
	return NULL;
}

/* ---- the log ------------------------------------------------------------- */

static int word(const char *const *words, int n, const char *s)
{
	for (int i = 0; i < n; i++)
		if (s && strcmp(words[i], s) == 0)
			return i;
	return -1;
}

static const char *text_of(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static uint64_t number_of(json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void log_agent(struct px *px, struct px_exchange *x, json_t *a)
{
	const struct px_route *r = px_route_of(x);
	const char *name = text_of(a, "name"), *cause = text_of(a, "cause");
	int event = word(event_names, EVENT_N, text_of(a, "event"));
	int verdict = word(verdict_names, VERDICT_N, text_of(a, "verdict"));
	struct px_log_agent *l;
	size_t i;
	json_t *tag;

	for (unsigned k = 0; k < r->n_asked; k++) {
		if (strcmp(px->agents[r->asked[k].agent].name, name) != 0)
			continue;
		PX_CHECK(px, x, event >= 0 && event <= EVENT_RESPONSE_CHUNK &&
			 verdict >= 0, "a bad line in the log");
		l = &x->log.agents[k][event];
		PX_CHECK(px, x, !l->there, "an agent twice in the log");
		l->there = true;
		l->verdict = (enum verdict)verdict;
		l->cause = cause ? (enum cause)word(cause_names, CAUSE_N,
						    cause) : CAUSE_NONE;
		l->us = number_of(a, "us");
		json_array_foreach(json_object_get(a, "tags"), i, tag)
			PX_CHECK(px, x, strtoul(json_string_value(tag), NULL,
						10) == x->n,
				 "another's audit in the log: %s",
				 json_string_value(tag));
		return;
	}
	px_fail(px, x, "a strange agent in the log: %s", name);
}

static void log_exchange(struct px *px, struct px_exchange *x, json_t *o)
{
	struct px_log *l = &x->log;
	json_t *us = json_object_get(o, "us"), *a;
	const char *by = text_of(o, "decided_by");
	size_t i;

	PX_CHECK(px, x, ++l->lines == 1, "two lines in the log");
	l->status = (unsigned)number_of(o, "status");
	l->by = (enum ended_by)word(ended_by_names, ENDED_N,
				    text_of(o, "ended_by"));
	snprintf(l->why, sizeof(l->why), "%s", text_of(o, "ended_why"));
	snprintf(l->decided_by, sizeof(l->decided_by), "%s", by ? by : "");
	l->bypass = json_is_true(json_object_get(o, "bypass"));
	l->total_us = number_of(us, "total");
	l->agents_us = number_of(us, "agents");
	json_array_foreach(json_object_get(o, "agents"), i, a)
		log_agent(px, x, a);
}

void px_check_line(struct px *px, const char *line, size_t n)
{
	json_t *o = json_loadb(line, n, 0, NULL);
	const char *target;
	struct px_exchange *x = NULL;

	PX_CHECK(px, NULL, o, "a line of the log is no JSON: %.*s", (int)n,
		 line);
	sim_trace(px->w, "log: %.*s", (int)n - 1, line);
	px->lines++;
	px_exchanges++;
	target = text_of(o, "target");
	if (target)
		x = px_find(px, slice_str(target));
	if (x)
		log_exchange(px, x, o);
	else
		px->unknown_lines++;
	json_decref(o);
}

/* ---- when a request comes to an upstream --------------------------------- */

/* Once; or again, on a kept connection that was dead and on another server, if
 * nothing is lost by it. */
static void check_once(struct px_exchange *x)
{
	bool idempotent = strcmp(x->method, "POST") != 0;

	if (x->n_upstream == 0)
		return;
	/* Without memory for what it said it looks the same to us. */
	PX_CHECK(x->px, x, x->n_upstream <= 2 && idempotent &&
		 !px_has_body(x) && ((x->up_killed && !x->up_bytes) ||
		 (x->px->faults & PX_NO_MEMORY)),
		 "sent to an upstream again");
}

static void check_judged(struct px_exchange *x, unsigned k)
{
	const struct px_asked *a = &px_route_of(x)->asked[k];
	const struct px_part *p = &x->parts[k];
	const struct px_verdict *v = &p->head[PX_REQUEST];
	const struct px_stage *st = &p->body[PX_REQUEST];
	enum px_mode mode = px_has_body(x) ? a->mode[PX_REQUEST] : PX_NONE;

	if (!px_has_word(x, k))
		return;
	PX_CHECK(x->px, x, v->answered, "forwarded before agent %u's verdict",
		 k);
	PX_CHECK(x->px, x, !v->refused,
		 "forwarded although agent %u refused", k);
	if (mode == PX_HOLD || mode == PX_BUFFER)
		PX_CHECK(x->px, x, st->done,
			 "forwarded before agent %u's last word", k);
	if (mode == PX_STREAM)
		PX_CHECK(x->px, x, st->enough,
			 "forwarded before agent %u had enough", k);
}

void px_check_forward(struct px_exchange *x)
{
	const struct px_route *r = px_route_of(x);

	PX_CHECK(x->px, x, x->begun && (x->kind == PX_GOOD ||
		 x->kind == PX_BAD_CHUNKS), "a bad request was forwarded");
	check_once(x);
	for (unsigned k = 0; k < r->n_asked; k++)
		check_judged(x, k);
}

/* ---- when a response comes to a client ----------------------------------- */

static void check_response_judged(struct px_exchange *x, unsigned k)
{
	const struct px_asked *a = &px_route_of(x)->asked[k];
	const struct px_verdict *v = &x->parts[k].head[PX_RESPONSE];
	const struct px_stage *st = &x->parts[k].body[PX_RESPONSE];
	enum px_mode mode = px_answer_has_body(x) ? a->mode[PX_RESPONSE] :
						    PX_NONE;

	if (!a->response_head || !px_has_word(x, k))
		return;
	PX_CHECK(x->px, x, v->answered && !v->refused,
		 "a response that agent %u did not allow", k);
	if (mode == PX_HOLD || mode == PX_BUFFER)
		PX_CHECK(x->px, x, st->done,
			 "a response without agent %u's last word", k);
	if (mode == PX_STREAM)
		PX_CHECK(x->px, x, st->enough,
			 "a response before agent %u had enough", k);
}

static bool is_head_event(enum event_type e)
{
	return e == EVENT_REQUEST_HEAD || e == EVENT_RESPONSE_HEAD;
}

static bool of_request(enum event_type e)
{
	return e == EVENT_REQUEST_HEAD || e == EVENT_REQUEST_CHUNK;
}

static void check_refusal(struct px_exchange *x)
{
	const struct px_part *p = &x->parts[x->by_part];
	unsigned dir = of_request(x->by_event) ? PX_REQUEST : PX_RESPONSE;
	const struct px_stage *st = &p->body[dir];

	PX_CHECK(x->px, x, !px_route_of(x)->asked[x->by_part].observe,
		 "an observer decided");
	if (p->doubled)
		return;
	if (is_head_event(x->by_event))
		PX_CHECK(x->px, x, p->head[dir].refused,
			 "a refusal that agent %u did not say", x->by_part);
	else
		PX_CHECK(x->px, x, st->refused &&
			 st->refused_at == x->by_index,
			 "a refusal that agent %u did not say", x->by_part);
}

void px_check_answer(struct px_exchange *x)
{
	const struct px_route *r = px_route_of(x);

	switch (x->from) {
	case PX_FROM_UPSTREAM:
		PX_CHECK(x->px, x, x->answer_begun &&
			 x->status == x->answer.status,
			 "status %u instead of %u", x->status,
			 x->answer.status);
		for (unsigned k = 0; k < r->n_asked; k++)
			check_response_judged(x, k);
		return;
	case PX_FROM_AGENT:
		check_refusal(x);
		return;
	case PX_FROM_PROXY:
	case PX_NOBODY:
		return;
	}
}

/* ---- at the end: agents -------------------------------------------------- */

static bool may_be_larger(const struct px_exchange *x, unsigned k)
{
	const struct px_asked *a = &px_route_of(x)->asked[k];

	/* Agents before it may have made it longer. */
	return k > 0 || x->len > a->max_body ||
	       x->answer.len > a->max_body;
}

/* Whether a failure of this cause can have been. */
static bool is_plausible(const struct px_exchange *x, unsigned k,
			 const struct px_log_agent *l, bool chunk)
{
	const struct px *px = x->px;
	const struct px_route *r = px_route_of(x);
	const struct px_agent *a = &px->agents[r->asked[k].agent];
	uint64_t budget_us = min_u64(r->budget_us, a->budget_us);

	if (px->faults & PX_NO_MEMORY)
		return true;
	switch (l->cause) {
	case CAUSE_TIMEOUT:
		/* Or the link was lost, to one event too many. */
		return l->us >= (chunk ? a->body_us : a->head_us) || a->hasty;
	case CAUSE_BUDGET:
		/* Both flows may ask at a time. */
		return 2 * x->log.total_us >= budget_us;
	case CAUSE_PROTOCOL:
		return a->n_bad + a->n_empty > 0;
	case CAUSE_UNREADABLE:
		/* By order alone, it may be another's. */
		return x->parts[k].empty_id ||
		       (a->n_empty && (a->temper.unordered || a->n_slow));
	case CAUSE_CLOSED:
		/* Answers that are late may cost the link. */
		return a->n_bad + a->n_empty + a->n_closed > 0 || a->hasty;
	case CAUSE_CONNECT:
		return a->n_bad + a->n_empty + a->n_closed + a->n_slow > 0 ||
		       !px->calm;
	case CAUSE_OVERLOAD:
		return a->queue < 1024 || px->held_limit == 1 << 20;
	case CAUSE_UNAVAILABLE:
		return px->faults & PX_BAD_AGENTS;
	case CAUSE_TOO_LARGE:
		return may_be_larger(x, k);
	case CAUSE_NONE:
	case CAUSE_N:
		break;
	}
	return false;
}

static void check_failure(struct px_exchange *x, unsigned k, unsigned event)
{
	const struct px_log_agent *l = &x->log.agents[k][event];
	const struct px_asked *a = &px_route_of(x)->asked[k];
	bool chunk = !is_head_event((enum event_type)event);
	const struct px_verdict *v = chunk ? NULL : &x->parts[k].head[
		!of_request((enum event_type)event)];

	if (!l->there || (l->verdict != VERDICT_FAIL_ALLOW &&
			  l->verdict != VERDICT_FAIL_DENY))
		return;
	PX_CHECK(x->px, x, is_plausible(x, k, l, chunk),
		 "agent %u failed as %s about %s, and did not", k,
		 cause_names[l->cause], event_names[event]);
	if (l->verdict == VERDICT_FAIL_ALLOW) {
		PX_CHECK(x->px, x, !a->deny[l->cause],
			 "%s failed open", cause_names[l->cause]);
		PX_CHECK(x->px, x, x->log.bypass, "a bypass that is not told");
		PX_CHECK(x->px, x, !(v && v->broken &&
			 l->cause == CAUSE_PROTOCOL),
			 "a refusal was turned into an allow");
	} else {
		PX_CHECK(x->px, x, a->deny[l->cause] ||
			 l->cause == CAUSE_PROTOCOL,
			 "%s failed closed", cause_names[l->cause]);
	}
	/* It was in time, by far, and nobody looked? */
	if (l->cause == CAUSE_TIMEOUT && event == EVENT_REQUEST_HEAD &&
	    x->px->calm && v->answered &&
	    l->us >= x->px->agents[a->agent].head_us)
		PX_CHECK(x->px, x, v->answered_us + 50 * SIM_MS >
			 x->head_us + x->px->agents[a->agent].head_us,
			 "agent %u was called late and was not", k);
}

/* What is not strict must be in the log if it was passed. */
static void check_passed(struct px_exchange *x, unsigned k)
{
	const struct px_verdict *v = &x->parts[k].head[PX_REQUEST];
	bool open = false;

	for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++)
		open |= x->log.agents[k][e].there &&
			x->log.agents[k][e].verdict == VERDICT_FAIL_ALLOW;
	if (x->n_upstream && (!v->answered || v->refused))
		PX_CHECK(x->px, x, open, "agent %u did not allow it, and "
			 "nothing is said about that", k);
	if (x->up_complete && x->parts[k].body[PX_REQUEST].refused)
		PX_CHECK(x->px, x, open, "agent %u refused the body, and "
			 "nothing is said about that", k);
	if (x->from == PX_FROM_UPSTREAM && x->complete &&
	    x->parts[k].body[PX_RESPONSE].refused)
		PX_CHECK(x->px, x, open, "agent %u refused the response, and "
			 "nothing is said about that", k);
}

/* Those before the one that decided must have let it pass. */
static void check_order(struct px_exchange *x)
{
	unsigned dir = of_request(x->by_event) ? PX_REQUEST : PX_RESPONSE;

	if (!is_head_event(x->by_event))
		return;
	for (unsigned j = 0; j < x->by_part; j++) {
		const struct px_log_agent *l =
			&x->log.agents[j][x->by_event];

		PX_CHECK(x->px, x, !x->parts[j].head[dir].refused ||
			 px_route_of(x)->asked[j].observe ||
			 x->parts[j].doubled ||
			 (l->there && l->verdict == VERDICT_FAIL_ALLOW),
			 "agent %u refused before agent %u", j, x->by_part);
	}
}

/* What was refused never came anywhere. */
static void check_refused(struct px_exchange *x)
{
	const struct px_log *l = &x->log;
	const struct px_asked *a = &px_route_of(x)->asked[x->by_part];
	struct px *px = x->px;

	if (x->from == PX_FROM_AGENT && x->parts[x->by_part].doubled)
		return;
	if (x->from == PX_FROM_AGENT) {
		PX_CHECK(px, x, !l->lines || strcmp(l->decided_by,
			 px->agents[a->agent].name) == 0,
			 "decided by %s", l->decided_by);
		if (x->by_event == EVENT_REQUEST_HEAD ||
		    (x->by_event == EVENT_REQUEST_CHUNK &&
		     a->mode[PX_REQUEST] != PX_STREAM))
			PX_CHECK(px, x, x->n_upstream == 0,
				 "refused, and forwarded");
		PX_CHECK(px, x, !of_request(x->by_event) || !x->up_complete,
			 "refused, and complete at the upstream");
		if (l->lines)
			check_order(x);
		return;
	}
	for (unsigned k = 0; k < PX_PARTS; k++) {
		const struct px_log_agent *e = l->agents[k];

		if (e[EVENT_REQUEST_HEAD].verdict == VERDICT_FAIL_DENY &&
		    e[EVENT_REQUEST_HEAD].there)
			PX_CHECK(px, x, x->n_upstream == 0,
				 "failed closed, and forwarded");
		if (e[EVENT_REQUEST_CHUNK].verdict == VERDICT_FAIL_DENY &&
		    e[EVENT_REQUEST_CHUNK].there)
			PX_CHECK(px, x, !x->up_complete,
				 "failed closed, and complete");
	}
}

static void check_observer(struct px_exchange *x, unsigned k)
{
	for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++) {
		const struct px_log_agent *l = &x->log.agents[k][e];

		PX_CHECK(x->px, x, !l->there ||
			 (l->verdict != VERDICT_FAIL_ALLOW &&
			  l->verdict != VERDICT_FAIL_DENY),
			 "an observer's failure counted");
	}
	PX_CHECK(x->px, x, strcmp(x->log.decided_by, x->px->agents[
		 px_route_of(x)->asked[k].agent].name) != 0,
		 "an observer decided");
}

static void check_agents(struct px_exchange *x)
{
	const struct px_route *r = px_route_of(x);

	check_refused(x);
	if (!x->log.lines)
		return;
	for (unsigned k = 0; k < r->n_asked; k++) {
		if (r->asked[k].observe) {
			check_observer(x, k);
			continue;
		}
		for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++)
			check_failure(x, k, e);
		if (!(x->px->faults & PX_NO_MEMORY) && !x->parts[k].doubled)
			check_passed(x, k);
	}
}

/* ---- at the end: was there a reason? ------------------------------------- */

/* The connection had come to its end before this request was looked at. */
static bool had_ended(const struct px_exchange *x)
{
	const struct px_client *c = x->client;

	for (unsigned i = c->first; i < x->n; i++)
		if (x->px->x[i].closes || x->px->x[i].cut ||
		    x->px->x[i].troubled)
			return true;
	return c->refused;
}

static bool failed_closed(const struct px_exchange *x)
{
	for (unsigned k = 0; k < PX_PARTS; k++)
		for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++)
			if (x->log.agents[k][e].there &&
			    x->log.agents[k][e].verdict == VERDICT_FAIL_DENY)
				return true;
	return false;
}

static bool refused_later(const struct px_exchange *x)
{
	for (unsigned k = 0; k < PX_PARTS; k++)
		if ((x->parts[k].body[PX_RESPONSE].refused ||
		     x->parts[k].body[PX_REQUEST].refused) &&
		    !px_route_of(x)->asked[k].observe)
			return true;
	return false;
}

static bool was_slow(const struct px_exchange *x)
{
	const struct px_listener *l = &x->px->listeners[x->client->listener];
	uint64_t end = x->over_us ? x->over_us : sim_now(x->px->w);

	return x->begun && end - x->begun_us >=
	       min_u64(min_u64(l->header_us, l->body_us), l->send_us);
}

static bool proxy_may_say(const struct px_exchange *x)
{
	const struct px_listener *l = &x->px->listeners[x->client->listener];
	bool servers = x->px->faults & PX_BAD_SERVERS;
	bool gone = x->px->faults & PX_RELOADS && x->client->listener == 1;

	if (x->kind == PX_NOT_FOUND && x->status == 404)
		return true;
	if (x->kind == PX_BAD_CHUNKS && x->status == 400)
		return true;
	if (failed_closed(x))
		return true;
	switch (x->status) {
	case 408:
		return was_slow(x);
	case 413:
		return l->body_limit && x->len > l->body_limit;
	case 502:
		return servers;
	case 503:
		return gone;
	case 504:
		return servers || (l->total_us && was_slow(x));
	default:
		return false;
	}
}

static bool may_be_cut(const struct px_exchange *x)
{
	const struct px_listener *l = &x->px->listeners[x->client->listener];

	return (x->px->faults & PX_BAD_SERVERS) || failed_closed(x) ||
	       refused_later(x) || was_slow(x) || x->kind == PX_BAD_CHUNKS ||
	       (l->body_limit && x->len > l->body_limit);
}

/* The reset that cuts a pipelined response off takes those before it along. */
static bool cut_by_next(const struct px_exchange *x)
{
	const struct px_client *c = x->client;
	const struct px_exchange *last = &x->px->x[c->first + c->n - 1];

	for (const struct px_exchange *y = x + 1; c->pipelines && y <= last;
	     y++)
		if (y->log.lines && y->log.status && !y->complete &&
		    may_be_cut(y))
			return true;
	return false;
}

static void check_reason(struct px_exchange *x)
{
	struct px *px = x->px;
	bool gone = px->faults & PX_RELOADS && x->client->listener == 1;

	if (px->disturbed || x->troubled || had_ended(x) || cut_by_next(x))
		return;
	for (unsigned k = 0; k < PX_PARTS; k++)
		if (x->parts[k].doubled)
			return;
	switch (x->from) {
	case PX_NOBODY:
		/* On a listener that goes idle connections are closed; a
		 * reset that cuts a response off may overtake all of it. */
		PX_CHECK(px, x, gone || was_slow(x) || (x->log.lines &&
			 x->log.status && may_be_cut(x)),
			 "closed without a response (%s)", x->log.why);
		return;
	case PX_FROM_UPSTREAM:
		PX_CHECK(px, x, x->complete || may_be_cut(x),
			 "cut off for no reason (%s)", x->log.why);
		return;
	case PX_FROM_AGENT:
		PX_CHECK(px, x, x->complete || may_be_cut(x),
			 "a refusal was cut off");
		return;
	case PX_FROM_PROXY:
		if (x->kind == PX_MALFORMED)
			PX_CHECK(px, x, x->status >= 400 && x->status < 506,
				 "status %u to a bad request", x->status);
		else
			PX_CHECK(px, x, proxy_may_say(x),
				 "status %u for no reason (%s)", x->status,
				 x->log.why);
		return;
	}
}

/* ---- at the end: time ---------------------------------------------------- */

/* Nothing takes longer than all its deadlines together. */
static void check_time(struct px_exchange *x)
{
	struct px *px = x->px;
	const struct px_route *r = px_route_of(x);
	const struct px_group *g = &px->groups[r->group];
	uint64_t from = x->sent_us, limit = 2 * SIM_SECOND;

	if (!px->calm || x->troubled || !x->sent || !x->over_us ||
	    had_ended(x))
		return;
	/* Nobody accepted it any more. */
	if ((px->faults & PX_SHUTDOWN) && !x->log.lines)
		return;
	if (x->n > x->client->first && x[-1].over_us > from)
		from = x[-1].over_us;
	if (x->answer_sent_us > from)
		from = x->answer_sent_us;
	limit += (px->faults & PX_BAD_AGENTS) ? r->budget_us :
						60 * SIM_SECOND;
	if (px->faults & PX_BAD_SERVERS)
		limit += (g->n_servers + 1) * g->connect_us +
			 2 * g->response_us + g->idle_us;
	PX_CHECK(px, x, x->over_us <= from + limit,
		 "it took %llu us of %llu", (unsigned long long)
		 (x->over_us - from), (unsigned long long)limit);
}

/* ---- at the end ---------------------------------------------------------- */

static void check_line_there(struct px_exchange *x)
{
	/* A head that never was whole has no target in the log. */
	bool headless = x->from == PX_FROM_PROXY && x->status == 408;
	bool seen = x->n_upstream || x->id[0] || x->go_id[0] ||
		    (x->from != PX_NOBODY && x->kind != PX_MALFORMED &&
		     !headless);

	if (x->px->faults & PX_NO_MEMORY)
		return;
	PX_CHECK(x->px, x, !seen || x->log.lines == 1,
		 "it is not in the log");
	if (!x->log.lines)
		return;
	PX_CHECK(x->px, x, x->begun, "it is in the log and never was");
	PX_CHECK(x->px, x, !x->status || x->log.status == x->status,
		 "status %u in the log, %u at the client", x->log.status,
		 x->status);
}

static void check_bodies(struct px_exchange *x)
{
	if (x->n_upstream && px_has_body(x))
		px_body_check(x, PX_REQUEST, x->up_complete);
	else
		PX_CHECK(x->px, x, x->sink[PX_REQUEST].n == 0,
			 "a body came out of nothing");
	if (x->from == PX_FROM_UPSTREAM && px_answer_has_body(x))
		px_body_check(x, PX_RESPONSE, x->complete);
	else
		PX_CHECK(x->px, x, x->sink[PX_RESPONSE].n == 0,
			 "a body came out of nothing");
}

void px_check_all(struct px *px)
{
	for (unsigned i = 1; i <= px->n_x; i++) {
		struct px_exchange *x = &px->x[i];

		if (!x->begun)
			continue;
		check_line_there(x);
		check_agents(x);
		check_bodies(x);
		if (x->status == 101 && !px->disturbed && !x->troubled &&
		    !(px->faults & PX_BAD_SERVERS))
			px_tunnel_check(x);
		check_reason(x);
		check_time(x);
	}
}
