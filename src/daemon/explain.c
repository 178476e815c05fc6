#include "daemon/explain.h"

#include "base/arena.h"
#include "config/value.h"
#include "http/head.h"
#include "policy/outcome.h"
#include "policy/route.h"

#define FIELDS	1000	/* more than any listener takes */

/* ---- words and numbers ---------------------------------------------------- */

static const char *const body_modes[] = {
	[BODY_NONE] = "none", [BODY_STREAM] = "stream", [BODY_HOLD] = "hold",
	[BODY_BUFFER] = "buffer",
};

static void print_us(FILE *out, const char *name, uint64_t us)
{
	char text[VALUE_TEXT];

	value_duration_print(us, text);
	fprintf(out, " %s %s", name, us ? text : "off");
}

static void print_bytes(FILE *out, const char *name, uint64_t bytes)
{
	char text[VALUE_TEXT];

	value_size_print(bytes, text);
	fprintf(out, " %s %s", name, bytes ? text : "no limit");
}

static void print_list(FILE *out, const char *const *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? ", " : " ", list[i]);
	fputs(n ? "\n" : " none\n", out);
}

/* ---- the request ---------------------------------------------------------- */

struct request {
	struct slice method, host, target;
	struct slice fields;		/* lines, the last without its end */
};

static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' ||
		    strchr("\"(),/:;<=>?@[\\]{}\x7f", s.p[i]))
			return false;
	return s.n > 0;
}

static bool request_parse(const char *text, struct request *r)
{
	const char *space = strchr(text, ' '), *url, *authority, *line;

	if (!space)
		return false;
	line = text + strcspn(text, "\n");
	r->fields = slice_str(*line ? line + 1 : line);
	r->method = slice_of(text, (size_t)(space - text));
	url = space + strspn(space, " ");
	authority = strstr(url, "://");
	r->host = slice_of("", 0);
	if (*url != '/' && authority) {
		authority += 3;
		r->host = slice_of(authority, strcspn(authority, "/?#\n"));
		url = r->host.p + r->host.n;
	}
	if (*url == '?')
		return false;
	r->target = slice_of(url, strcspn(url, "# \n"));
	if (r->target.n == 0)
		r->target = slice_str("/");
	return is_token(r->method) && r->target.p[0] == '/';
}

/* ---- one agent ------------------------------------------------------------ */

/* Events of that agent whose failures may mean something. */
static bool is_asked(const struct config_route_agent *ra, enum event_type e)
{
	switch (e) {
	case EVENT_REQUEST_HEAD:
		return true;
	case EVENT_REQUEST_CHUNK:
		return ra->request_body != BODY_NONE;
	case EVENT_RESPONSE_HEAD:
		return ra->response_head;
	case EVENT_RESPONSE_CHUNK:
		return ra->response_body != BODY_NONE;
	case EVENT_COMPLETE:
	case EVENT_CONFIGURE:
	case EVENT_N:
		break;
	}
	return false;
}

/* The words of outcome_of(), which alone decides. begun: the response is with
 * the client when it fails, as in `stream`. */
static void outcome_text(const struct config_route_agent *ra, enum cause cause,
			 enum event_type e, char *out, size_t size)
{
	bool begun = e == EVENT_RESPONSE_CHUNK &&
		     ra->response_body == BODY_STREAM;
	struct outcome o = outcome_of(cause, e, &ra->on_failure,
				      ra->agent->deny_status, false, begun);

	switch (o.action) {
	case OUTCOME_ALLOW:
		snprintf(out, size, "allow, counted as bypass");
		break;
	case OUTCOME_DENY:
		snprintf(out, size, "deny, %u%s", o.status,
			 o.retry_after ? " with Retry-After" : "");
		break;
	case OUTCOME_CUT:
		snprintf(out, size, "cut off");
		break;
	}
}

static bool can_be(const struct config_route_agent *ra, enum cause cause,
		   enum event_type e)
{
	bool chunk = e == EVENT_REQUEST_CHUNK || e == EVENT_RESPONSE_CHUNK;
	enum config_body_mode mode = e == EVENT_REQUEST_CHUNK ?
		ra->request_body : ra->response_body;

	return is_asked(ra, e) && (cause != CAUSE_TOO_LARGE ||
				   (chunk && mode >= BODY_HOLD));
}

/* One line per cause: what it means to most events, then the exceptions. */
static void print_cause(const struct config_route_agent *ra, enum cause cause,
			FILE *out)
{
	char text[64], first[64] = "";

	for (unsigned e = 0; e < EVENT_COMPLETE; e++) {
		if (!can_be(ra, cause, e))
			continue;
		outcome_text(ra, cause, e, text, sizeof(text));
		if (!*first)
			fprintf(out, "       %-12s %s", cause_names[cause],
				strcpy(first, text));
		else if (strcmp(first, text) != 0)
			fprintf(out, "; %s: %s", event_names[e], text);
	}
	if (*first)
		fputc('\n', out);
}

static void print_agent(const struct config_route_agent *ra, unsigned at,
			FILE *out)
{
	bool holds = ra->request_body >= BODY_HOLD ||
		     ra->response_body >= BODY_HOLD;

	fprintf(out, "  %u. %s\n     asked: request_head", at,
		ra->agent->name);
	if (ra->request_body != BODY_NONE)
		fprintf(out, ", request_body (%s)",
			body_modes[ra->request_body]);
	if (ra->response_head)
		fputs(", response_head", out);
	if (ra->response_body != BODY_NONE)
		fprintf(out, ", response_body (%s)",
			body_modes[ra->response_body]);
	fputs("\n     timeout:", out);
	print_us(out, "head", ra->timeouts.head_us);
	print_us(out, "body", ra->timeouts.body_us);
	print_us(out, "budget", ra->timeouts.budget_us);
	fputc('\n', out);
	if (holds) {
		fputs("     holds:", out);
		print_bytes(out, "at most", ra->max_body);
		fprintf(out, " (max_body), more: %s\n",
			ra->on_too_large_skip ? "skip" : "block");
	}
	fputs("     on failure:\n", out);
	for (unsigned c = CAUSE_NONE + 1; c < CAUSE_N; c++)
		print_cause(ra, c, out);
}

/* ---- delay ---------------------------------------------------------------- */

static uint64_t at_most(uint64_t us, uint64_t limit)
{
	return limit && limit < us ? limit : us;
}

/* Heads are asked of all at once: the slowest counts. */
static uint64_t head_delay(const struct config_route *r, enum event_type e)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < r->n_agents; i++) {
		const struct config_agent_timeouts *t = &r->agents[i].timeouts;

		if (!is_asked(&r->agents[i], e))
			continue;
		if (at_most(t->head_us, t->budget_us) > most)
			most = at_most(t->head_us, t->budget_us);
	}
	return at_most(most, r->budget_us);
}

/* Chunks go to one after the other, and there is no end of chunks: budgets
 * are what bounds them. Also: of one chunk. */
static uint64_t body_delay(const struct config_route *r, enum event_type e,
			   uint64_t *of_chunk)
{
	uint64_t all = 0;

	*of_chunk = 0;
	for (unsigned i = 0; i < r->n_agents; i++) {
		const struct config_agent_timeouts *t = &r->agents[i].timeouts;

		if (!is_asked(&r->agents[i], e))
			continue;
		*of_chunk += at_most(t->body_us, t->budget_us);
		all += t->budget_us;
	}
	*of_chunk = at_most(*of_chunk, r->budget_us);
	return at_most(all, r->budget_us);
}

static void print_delay(const struct config_route *r, FILE *out)
{
	uint64_t chunk[2];
	uint64_t heads = head_delay(r, EVENT_REQUEST_HEAD) +
			 head_delay(r, EVENT_RESPONSE_HEAD);
	uint64_t bodies = body_delay(r, EVENT_REQUEST_CHUNK, &chunk[0]) +
			  body_delay(r, EVENT_RESPONSE_CHUNK, &chunk[1]);

	fputs("worst added delay:", out);
	print_us(out, "in all", at_most(heads + bodies, r->budget_us));
	fputs("\n ", out);
	print_us(out, "request head",
		 head_delay(r, EVENT_REQUEST_HEAD));
	if (chunk[0])
		print_us(out, "+ a chunk of the request", chunk[0]);
	if (head_delay(r, EVENT_RESPONSE_HEAD))
		print_us(out, "+ response head",
			 head_delay(r, EVENT_RESPONSE_HEAD));
	if (chunk[1])
		print_us(out, "+ a chunk of the response", chunk[1]);
	fputs("\n ", out);
	print_us(out, "all agents together (budget)", r->budget_us);
	fputc('\n', out);
}

/* ---- the rest ------------------------------------------------------------- */

static void print_match(const struct config_route *r, FILE *out)
{
	fputs("  match:", out);
	if (r->host)
		fprintf(out, " host %s", r->host);
	if (r->path)
		fprintf(out, " path %s", r->path);
	if (r->path_prefix)
		fprintf(out, " path_prefix %s", r->path_prefix);
	for (unsigned i = 0; i < r->headers.n; i++)
		fprintf(out, " header %s=%s", r->headers.list[i].name,
			r->headers.list[i].value ?
			r->headers.list[i].value : "*");
	if (r->n_methods) {
		fputs(" methods", out);
		print_list(out, r->methods, r->n_methods);
	} else {
		fputs(r->host || r->path || r->path_prefix || r->headers.n ?
		      "\n" : " everything\n", out);
	}
}

static void print_policy(const char *what, const struct config_header_policy *p,
			 FILE *out)
{
	if (!p->n_remove && !p->set.n && !p->add.n)
		return;
	fprintf(out, "  %s headers:", what);
	for (unsigned i = 0; i < p->n_remove; i++)
		fprintf(out, " remove %s", p->remove[i]);
	for (unsigned i = 0; i < p->set.n; i++)
		fprintf(out, " set %s", p->set.list[i].name);
	for (unsigned i = 0; i < p->add.n; i++)
		fprintf(out, " add %s", p->add.list[i].name);
	fputc('\n', out);
}

static void print_upstream(const struct config_upstream *u, FILE *out)
{
	fprintf(out, "upstream: %s\n  servers:", u->name);
	for (unsigned i = 0; i < u->n_servers; i++)
		fprintf(out, "%s%s", i ? ", " : " ",
			u->servers[i].address.text);
	fputs("\n  timeouts:", out);
	print_us(out, "connect", u->timeouts.connect_us);
	print_us(out, "response", u->timeouts.response_us);
	print_us(out, "idle", u->timeouts.idle_us);
	fputc('\n', out);
}

static void print_listener(const struct config_listener *l, FILE *out)
{
	fprintf(out, "listener: %s at %s\n  limits:", l->name,
		l->address.text);
	print_bytes(out, "header_bytes", l->limits.header_bytes);
	fprintf(out, " headers %u", l->limits.headers);
	print_bytes(out, "target_bytes", l->limits.target_bytes);
	print_bytes(out, "body", l->limits.body);
	fputs("\n  timeouts:", out);
	print_us(out, "header", l->timeouts.header_us);
	print_us(out, "body", l->timeouts.body_us);
	print_us(out, "idle", l->timeouts.idle_us);
	print_us(out, "send", l->timeouts.send_us);
	print_us(out, "total", l->timeouts.total_us);
	fputc('\n', out);
}

static void print_route(const struct config *config,
			const struct config_route *r, FILE *out)
{
	fprintf(out, "route: %s (%u of %u)\n", r->name, r->index + 1,
		config->n_routes);
	print_match(r, out);
	fputs("  upgrade:", out);
	print_list(out, r->upgrade, r->n_upgrade);
	print_policy("request", &r->request_headers, out);
	print_policy("response", &r->response_headers, out);
	if (r->n_agents == 0)
		fputs("agents: none\n", out);
	else
		fputs("agents, in this order:\n", out);
	for (unsigned i = 0; i < r->n_agents; i++)
		print_agent(&r->agents[i], i + 1, out);
	if (r->n_agents)
		print_delay(r, out);
	switch (r->kind) {
	case ROUTE_UPSTREAM:
		print_upstream(r->upstream, out);
		break;
	case ROUTE_RESPOND:
		fprintf(out, "answer: %u, fixed, %zu bytes\n",
			r->respond.status,
			r->respond.body ? strlen(r->respond.body) : 0);
		break;
	case ROUTE_REDIRECT:
		fprintf(out, "answer: %u, redirect to %s\n",
			r->redirect.status, r->redirect.url);
		break;
	}
	for (unsigned i = 0; i < config->n_listeners; i++)
		print_listener(&config->listeners[i], out);
}

static void print_readings(const struct http_path *path, FILE *out)
{
	fputs("answer: 400, the path has several readings, and they do not "
	      "all name the same route\n", out);
	for (unsigned i = 0; i < path->n; i++)
		fprintf(out, "  %.*s\n", (int)path->reading[i].n,
			path->reading[i].p);
}

/* As a client would send it; without a host only HTTP/1.0 will do. .p NULL: no
 * memory. */
static struct slice head_text(const struct request *r, struct arena *arena)
{
	struct slice s = arena_printf(arena, "%.*s %.*s HTTP/1.%d\n%s%.*s%s"
		"%.*s\n\n", (int)r->method.n, r->method.p, (int)r->target.n,
		r->target.p, r->host.n ? 1 : 0, r->host.n ? "Host: " : "",
		(int)r->host.n, r->host.p, r->host.n && r->fields.n ? "\n" : "",
		(int)r->fields.n, r->fields.p);
	char *lines = s.p ? arena_alloc(arena, 2 * s.n) : NULL;
	size_t n = 0;

	for (size_t i = 0; lines && i < s.n; i++) {
		if (s.p[i] == '\n')
			lines[n++] = '\r';
		lines[n++] = s.p[i];
	}
	return slice_of(lines, n);
}

/* What the daemon's own reader finds in it. */
static enum http_parse head_parse(struct slice text, struct http_head *head)
{
	const struct http_limits limits = {
		.header_bytes = 256 * 1024, .headers = head->cap_fields,
		.target_bytes = 128 * 1024,
	};
	uint32_t scanned = 0;

	return http_parse_request(text.p, text.n, &limits, &scanned, head);
}

/* False: no memory. */
static bool explain_request(const struct config *config,
			    const struct request *r, struct arena *arena,
			    FILE *out)
{
	const struct config_route *route;
	struct http_head head = { .cap_fields = FIELDS };
	struct http_path path;
	struct slice text = head_text(r, arena), host;
	enum http_parse fault;
	bool ambiguous;

	head.fields = arena_zalloc(arena, FIELDS * sizeof(*head.fields));
	if (!text.p || !head.fields)
		return false;
	fault = head_parse(text, &head);
	if (fault != HTTP_PARSE_OK) {
		fprintf(out, "answer: %u, %s\n", http_parse_status(fault),
			http_parse_names[fault]);
		return true;
	}
	host = http_host_normalise(r->host, arena);
	if (!host.p && r->host.n)
		return false;
	switch (http_path_normalise(r->target, arena, &path)) {
	case HTTP_PATH_OK:
		break;
	case HTTP_PATH_BAD:
		fputs("answer: 400, the path cannot be read\n", out);
		return true;
	case HTTP_PATH_NO_MEMORY:
		return false;
	}
	fprintf(out, "request: %.*s, host %.*s, path %.*s\n", (int)r->method.n,
		r->method.p, host.n ? (int)host.n : 4,
		host.n ? host.p : "none", (int)path.reading[0].n,
		path.reading[0].p);
	route = route_match_head(config, host, &path, &head, false,
				 &ambiguous);
	if (route)
		print_route(config, route, out);
	else if (ambiguous)
		print_readings(&path, out);
	else
		fputs("answer: 404, no route takes it\n", out);
	return true;
}

bool explain(const struct config *config, const char *request, FILE *out,
	     FILE *err)
{
	struct arena_pool pool;
	struct arena arena;
	struct request r;
	bool ok;

	if (slice_has_prefix(slice_str(request), SLICE("CONNECT "))) {
		fputs("answer: 405, CONNECT is not served\n", out);
		return true;
	}
	if (!request_parse(request, &r)) {
		fprintf(err, "agentproxyd: '%s' is no request; wanted is "
			"'METHOD URL'\n", request);
		return false;
	}
	arena_pool_init(&pool);
	arena_init(&arena, &pool);
	ok = explain_request(config, &r, &arena, out);
	if (!ok)
		fputs("agentproxyd: no memory\n", err);
	arena_fini(&arena);
	arena_pool_fini(&pool);
	return ok;
}
