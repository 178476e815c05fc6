/* Draws a world: its config, its peers' tempers, what its clients ask for. */
#include "px.h"

#include <stdio.h>

#include "px_client.h"

uint64_t px_between(struct px *px, uint64_t min, uint64_t max)
{
	return min + sim_below(px->w, max - min + 1);
}

unsigned px_draw(struct px *px, const unsigned *weights, unsigned n)
{
	uint64_t r = sim_below(px->w, 1000);

	for (unsigned i = 1; i < n; i++) {
		if (r < weights[i])
			return i;
		r -= weights[i];
	}
	return 0;
}

static bool chance(struct px *px, unsigned per_1000)
{
	return sim_chance(px->w, per_1000);
}

static uint64_t one_of(struct px *px, const uint64_t *of, size_t n)
{
	return of[sim_below(px->w, n)];
}
#define ONE_OF(px, ...)							\
	one_of(px, (const uint64_t[]){ __VA_ARGS__ },			\
	       ARRAY_LEN(((const uint64_t[]){ __VA_ARGS__ })))

/* ---- agents -------------------------------------------------------------- */

static void plan_temper(struct px *px, struct px_temper *t)
{
	bool bad = (px->faults & PX_BAD_AGENTS) && chance(px, 700);

	t->refuse = (unsigned)ONE_OF(px, 0, 20, 60, 200);
	t->edit = (unsigned)ONE_OF(px, 0, 100, 500);
	t->mutate = (unsigned)ONE_OF(px, 0, 300, 900);
	t->more = (unsigned)ONE_OF(px, 0, 0, 100, 400);
	t->think_us = ONE_OF(px, 0, 0, 50, 1000);
	t->late_us = ONE_OF(px, 30 * SIM_MS, 200 * SIM_MS, 2 * SIM_SECOND);
	t->unordered = chance(px, 100);
	t->dribbles = chance(px, 200);
	if (!bad)
		return;
	t->silent = (unsigned)ONE_OF(px, 0, 0, 20, 200);
	t->late = (unsigned)ONE_OF(px, 0, 0, 30, 300);
	t->wrong_id = (unsigned)ONE_OF(px, 0, 0, 10);
	t->empty_id = (unsigned)ONE_OF(px, 0, 0, 30);
	t->no_ids = chance(px, 100);
	/* By order alone a second answer would be the next one's. */
	t->twice = t->no_ids ? 0 : (unsigned)ONE_OF(px, 0, 0, 20);
	t->junk = (unsigned)ONE_OF(px, 0, 0, 20);
	t->die = (unsigned)ONE_OF(px, 0, 0, 10, 40);
	t->broken = (unsigned)ONE_OF(px, 0, 0, 50);
}

/* What the older dialects cannot do. */
static void plan_dialect(struct px *px, struct px_agent *a)
{
	struct px_temper *t = &a->temper;

	switch (a->dialect) {
	case WIRE_V2:
		return;
	case WIRE_GO:
		t->more = t->mutate = 0;
		a->may_mutate = 0;
		t->no_ids = false;
		return;
	case WIRE_V1:
		t->no_ids = true;
		t->unordered = false;
		t->twice = 0;
		if (a->chunk_size > 16384)
			a->chunk_size = 16384;
		a->depth = 1 + (unsigned)sim_below(px->w, 4);
	}
}

static void plan_agent(struct px *px, struct px_agent *a, unsigned i)
{
	bool bad = px->faults & PX_BAD_AGENTS;

	a->px = px;
	a->index = i;
	a->name[0] = 'a';
	a->name[1] = (char)('0' + i);
	snprintf(a->address, sizeof(a->address), "unix:/a%u.sock", i);
	plan_temper(px, &a->temper);
	a->dialect = chance(px, 750) ? WIRE_V2 :
		     chance(px, 500) ? WIRE_GO : WIRE_V1;
	a->says_dialect = a->dialect == WIRE_V1 || chance(px, 300);
	a->speaks = a->dialect == WIRE_V2 && chance(px, 600) ? WIRE_MSGPACK :
							       WIRE_JSON;
	a->offer_one = a->dialect == WIRE_V2 && chance(px, 300);
	a->offer = a->speaks;
	a->raw_body = a->speaks == WIRE_MSGPACK && chance(px, 500);
	a->shape = chance(px, 500) ? WIRE_ARRAY : WIRE_MAP;
	a->events_as_maps = chance(px, 300);
	a->pseudo = chance(px, 200);
	a->chunk_size = (unsigned)ONE_OF(px, 1024, 4096, 65536, 65536);
	a->may_mutate = (unsigned)sim_below(px->w, 4);
	a->connections = (unsigned)ONE_OF(px, 1, 1, 2, 4);
	a->max_connections = a->connections +
			     (unsigned)ONE_OF(px, 0, 0, 1, 8);
	a->depth = (unsigned)ONE_OF(px, 1, 2, 32, 32);
	a->queue = bad ? (unsigned)ONE_OF(px, 1, 4, 1024) : 1024;
	a->concurrency = chance(px, 100) ?
			 (unsigned)px_between(px, 1, 20) : 0;
	if (chance(px, 300)) {
		a->says_chunk = (unsigned)ONE_OF(px, 0, 1, 1500, 70000);
		a->says_events = (unsigned)ONE_OF(px, 0, 1, 3, 20);
	}
	a->deny_status = chance(px, 100) ? 418 : 0;
	plan_dialect(px, a);
	a->reverse = a->dialect != WIRE_V1 && a->speaks == WIRE_JSON &&
		     chance(px, 500);
	/* So few links and so little depth that workers borrow several. */
	if (a->reverse && px->n_workers > 2 && a->max_connections > 1) {
		a->connections = 2;
		a->depth = 1;
	}
	a->answers_complete = a->temper.no_ids || chance(px, 800);
	a->complete = a->answers_complete ?
		      chance(px, 700) ? "auto" : "always" :
		      chance(px, 700) ? "auto" : "never";
	a->hasty = bad;
	a->head_us = bad ? ONE_OF(px, 20 * SIM_MS, 100 * SIM_MS, SIM_SECOND) :
			   20 * SIM_SECOND;
	a->body_us = bad ? ONE_OF(px, 30 * SIM_MS, 200 * SIM_MS, SIM_SECOND) :
			   20 * SIM_SECOND;
	a->budget_us = bad ? ONE_OF(px, 200 * SIM_MS, SIM_SECOND,
				    30 * SIM_SECOND) : 3600 * SIM_SECOND;
}

/* ---- routes -------------------------------------------------------------- */

static void plan_policy(struct px *px, struct px_asked *a)
{
	unsigned how = (unsigned)ONE_OF(px, 0, 0, 1, 2);

	for (unsigned c = CAUSE_CONNECT; c < CAUSE_N; c++)
		a->deny[c] = how == 0 || (how == 2 && chance(px, 500));
}

static void plan_asked(struct px *px, struct px_asked *a)
{
	static const unsigned modes[] = { 0, 300, 150, 150 };
	const struct px_agent *agent = &px->agents[a->agent];

	for (unsigned d = 0; d < 2; d++)
		a->mode[d] = (enum px_mode)px_draw(px, modes,
						   ARRAY_LEN(modes));
	a->response_head = a->mode[PX_RESPONSE] != PX_NONE ||
			   chance(px, 300);
	a->max_body = ONE_OF(px, 2000, 100000, 1 << 20, 1 << 20);
	a->observe = chance(px, 150);
	plan_policy(px, a);
	if (!a->mode[PX_REQUEST] && !a->mode[PX_RESPONSE])
		a->deny[CAUSE_TOO_LARGE] = true;
	a->head_us = agent->head_us;
	a->body_us = agent->body_us;
}

static void plan_route(struct px *px, struct px_route *r)
{
	unsigned free_agents[PX_AGENTS], n = px->n_agents;
	unsigned want = (unsigned)sim_below(px->w, PX_PARTS + 1);

	r->group = (unsigned)sim_below(px->w, px->n_groups);
	r->budget_us = (px->faults & PX_BAD_AGENTS) ?
		       ONE_OF(px, 300 * SIM_MS, 5 * SIM_SECOND) :
		       3600 * SIM_SECOND;
	for (unsigned i = 0; i < n; i++)
		free_agents[i] = i;
	while (n && r->n_asked < want) {
		unsigned k = (unsigned)sim_below(px->w, n);
		struct px_asked *a = &r->asked[r->n_asked++];

		a->agent = free_agents[k];
		free_agents[k] = free_agents[--n];
		plan_asked(px, a);
	}
	r->upgrade = chance(px, 700);
	for (unsigned k = 0; k < r->n_asked; k++)
		if (r->asked[k].mode[PX_REQUEST] ||
		    r->asked[k].mode[PX_RESPONSE])
			r->upgrade = false;
}

static void plan_group(struct px *px, struct px_group *g, unsigned i)
{
	bool bad = px->faults & PX_BAD_SERVERS;

	g->n_servers = 1 + (unsigned)sim_below(px->w, PX_SERVERS);
	g->keepalive = (unsigned)ONE_OF(px, 0, 1, 64, 64);
	g->least = chance(px, 500);
	g->connect_us = bad ? ONE_OF(px, 50 * SIM_MS, SIM_SECOND) :
			      20 * SIM_SECOND;
	g->response_us = bad ? ONE_OF(px, 300 * SIM_MS, 2 * SIM_SECOND) :
			       60 * SIM_SECOND;
	g->idle_us = bad ? ONE_OF(px, 500 * SIM_MS, 2 * SIM_SECOND) :
			   60 * SIM_SECOND;
	for (unsigned k = 0; k < g->n_servers; k++) {
		struct px_server *s = &px->servers[i * PX_SERVERS + k];

		s->px = px;
		s->group = i;
		s->index = k;
		if (chance(px, 300))
			snprintf(s->address, sizeof(s->address),
				 "unix:/u%u.sock", i * PX_SERVERS + k);
		else
			snprintf(s->address, sizeof(s->address),
				 "127.0.0.%u:%u", i + 1, 9000 + k);
	}
}

static void plan_listener(struct px *px, struct px_listener *l, unsigned i)
{
	bool bad = px->faults & PX_BAD_CLIENTS;

	snprintf(l->address, sizeof(l->address), "127.0.0.1:%u", 8080 + i);
	l->on = true;
	l->header_us = bad ? ONE_OF(px, 500 * SIM_MS, 2 * SIM_SECOND) :
			     60 * SIM_SECOND;
	l->body_us = bad ? ONE_OF(px, 500 * SIM_MS, 2 * SIM_SECOND) :
			   60 * SIM_SECOND;
	l->idle_us = bad ? ONE_OF(px, SIM_SECOND, 5 * SIM_SECOND) :
			   60 * SIM_SECOND;
	l->send_us = bad ? ONE_OF(px, 500 * SIM_MS, 2 * SIM_SECOND) :
			   60 * SIM_SECOND;
	l->total_us = bad && chance(px, 200) ? 3 * SIM_SECOND : 0;
	l->body_limit = chance(px, 100) ? 20000 : 0;
}

void px_plan(struct px *px)
{
	static const unsigned faults[] = { PX_BAD_CLIENTS, PX_BAD_AGENTS,
					   PX_BAD_SERVERS, PX_RELOADS };

	px->calm = chance(px, 300);
	if (chance(px, 750))
		for (unsigned i = 0; i < ARRAY_LEN(faults); i++)
			px->faults |= chance(px, 450) ? faults[i] : 0;
	px->faults |= chance(px, 120) ? PX_NO_MEMORY : 0;
	px->faults |= chance(px, 100) ? PX_SHUTDOWN : 0;
	px->disturbed = px->faults & (PX_NO_MEMORY | PX_SHUTDOWN);
	px->n_workers = 1 + (unsigned)sim_below(px->w, PX_WORKERS);
	px->held_limit = chance(px, 200) ? 1 << 20 : 256 << 20;
	px->n_groups = 1 + (unsigned)sim_below(px->w, PX_GROUPS);
	px->n_agents = (unsigned)sim_below(px->w, PX_AGENTS + 1);
	px->n_routes = 1 + (unsigned)sim_below(px->w, PX_ROUTES);
	for (unsigned i = 0; i < px->n_groups; i++)
		plan_group(px, &px->groups[i], i);
	for (unsigned i = 0; i < px->n_agents; i++)
		plan_agent(px, &px->agents[i], i);
	for (unsigned i = 0; i < px->n_routes; i++)
		plan_route(px, &px->routes[i]);
	for (unsigned i = 0; i < 2; i++)
		plan_listener(px, &px->listeners[i], i);
	px->listeners[1].on = chance(px, 500);
	px->n_clients = 1 + (unsigned)sim_below(px->w, PX_CLIENTS);
}

void px_plan_change(struct px *px)
{
	px->generation++;
	if (px->n_agents && chance(px, 500)) {
		struct px_agent *a =
			&px->agents[sim_below(px->w, px->n_agents)];

		a->max_connections = a->connections +
				     (unsigned)sim_below(px->w, 9);
	}
	if (chance(px, 400)) {
		struct px_group *g =
			&px->groups[sim_below(px->w, px->n_groups)];

		g->keepalive = 1 + (unsigned)sim_below(px->w, 64);
	}
	if (chance(px, 300))
		px->listeners[1].on = !px->listeners[1].on;
}

/* ---- as text ------------------------------------------------------------- */

static void text_us(struct px_buf *b, const char *key, uint64_t us)
{
	px_buf_print(b, "%s: %llums", key, (unsigned long long)(us / SIM_MS));
}

static void text_listener(struct px_buf *b, const struct px_listener *l,
			  unsigned i)
{
	px_buf_print(b, "  - name: l%u\n    address: \"%s\"\n    timeouts: { ",
		     i, l->address);
	text_us(b, "header", l->header_us);
	text_us(b, ", body", l->body_us);
	text_us(b, ", idle", l->idle_us);
	text_us(b, ", send", l->send_us);
	text_us(b, ", total", l->total_us);
	px_buf_print(b, " }\n    limits: { body: %llu }\n",
		     (unsigned long long)l->body_limit);
}

static void text_group(struct px *px, struct px_buf *b, unsigned i)
{
	const struct px_group *g = &px->groups[i];

	px_buf_print(b, "  g%u:\n    servers: [", i);
	for (unsigned k = 0; k < g->n_servers; k++)
		px_buf_print(b, "%s\"%s\"", k ? ", " : "",
			     px->servers[i * PX_SERVERS + k].address);
	px_buf_print(b, "]\n    keepalive: %u\n    balance: %s\n"
		     "    timeouts: { ", g->keepalive,
		     g->least ? "least_connections" : "round_robin");
	text_us(b, "connect", g->connect_us);
	text_us(b, ", response", g->response_us);
	text_us(b, ", idle", g->idle_us);
	px_buf_print(b, " }\n");
}

static void text_agent(struct px_buf *b, const struct px_agent *a)
{
	static const char *const sides[] = { "none", "request", "response",
					     "both" };

	static const char *const dialects[] = { "v2", "go", "v1" };

	px_buf_print(b, "  %s:\n    dialect: %s\n"
		     "    encoding: %s\n    raw_body: %s\n"
		     "    pseudo_headers: %s\n    chunk_size: %u\n"
		     "    may_mutate: %s\n", a->name,
		     a->says_dialect ? dialects[a->dialect] : "auto",
		     !a->offer_one ? "auto" :
		     a->offer == WIRE_JSON ? "json" : "msgpack",
		     a->raw_body ? "true" : "false",
		     a->pseudo ? "true" : "false", a->chunk_size,
		     sides[a->may_mutate]);
	if (a->reverse)
		px_buf_print(b, "    reverse: { token: token-of-%s }\n",
			     a->name);
	else
		px_buf_print(b, "    socket: %s\n    connections: %u\n"
			     "    msgpack_shape: %s\n", a->address + 5,
			     a->connections,
			     a->events_as_maps ? "map" : "array");
	px_buf_print(b, "    max_connections: %u\n"
		     "    depth: %u\n    queue: %u\n    max_concurrency: %u\n"
		     "    deny_status: %u\n    complete: %s\n"
		     "    owns_headers: [X-Sim-Owned-%u]\n    timeout: { ",
		     a->max_connections, a->depth, a->queue,
		     a->concurrency, a->deny_status, a->complete, a->index);
	text_us(b, "head", a->head_us);
	text_us(b, ", body", a->body_us);
	text_us(b, ", budget", a->budget_us);
	px_buf_print(b, " }\n");
}

static void text_policy(struct px_buf *b, const struct px_asked *a)
{
	const char *between = "";

	px_buf_print(b, "        on_failure: { ");
	for (unsigned c = CAUSE_CONNECT; c < CAUSE_N; c++) {
		if (c == CAUSE_TOO_LARGE)
			continue;
		px_buf_print(b, "%s%s: %s", between, cause_names[c],
			     a->deny[c] ? "deny" : "allow");
		between = ", ";
	}
	px_buf_print(b, " }\n");
	if (a->mode[PX_REQUEST] || a->mode[PX_RESPONSE])
		px_buf_print(b, "        max_body: %llu\n"
			     "        on_too_large: %s\n",
			     (unsigned long long)a->max_body,
			     a->deny[CAUSE_TOO_LARGE] ? "block" : "skip");
}

static void text_route(struct px *px, struct px_buf *b, unsigned i)
{
	static const char *const modes[] = { "none", "stream", "hold",
					     "buffer" };
	const struct px_route *r = &px->routes[i];

	px_buf_print(b, "  - match: { path_prefix: /r%u/ }\n    upstream: g%u"
		     "\n    ", i, r->group);
	text_us(b, "budget", r->budget_us);
	px_buf_print(b, "\n    upgrade: [%s]\n    agents:%s\n",
		     r->upgrade ? "websocket" : "", r->n_asked ? "" : " []");
	for (unsigned k = 0; k < r->n_asked; k++) {
		const struct px_asked *a = &r->asked[k];

		px_buf_print(b, "      - name: a%u\n"
			     "        request_body: %s\n"
			     "        response_head: %s\n"
			     "        response_body: %s\n", a->agent,
			     modes[a->mode[PX_REQUEST]],
			     a->response_head ? "true" : "false",
			     modes[a->mode[PX_RESPONSE]]);
		if (a->observe)
			px_buf_print(b, "        mode: observe\n");
		else
			text_policy(b, a);
	}
}

char *px_plan_text(struct px *px)
{
	struct px_buf b = { 0 };

	px_buf_print(&b, "workers: %u\nmemory: { held_bytes: %llu }\n"
		     "log: { access: { path: \"off\" } }\nlisteners:\n",
		     px->n_workers, (unsigned long long)px->held_limit);
	for (unsigned i = 0; i < 2; i++)
		if (px->listeners[i].on)
			text_listener(&b, &px->listeners[i], i);
	px_buf_print(&b, "upstreams:\n");
	for (unsigned i = 0; i < px->n_groups; i++)
		text_group(px, &b, i);
	px_buf_print(&b, "agent_listener: { address: \"%s\" }\n", PX_DOOR);
	if (px->n_agents)
		px_buf_print(&b, "agents:\n");
	for (unsigned i = 0; i < px->n_agents; i++)
		text_agent(&b, &px->agents[i]);
	px_buf_print(&b, "routes:\n");
	for (unsigned i = 0; i < px->n_routes; i++)
		text_route(px, &b, i);
	px_buf_put(&b, "", 1);
	return b.p;
}

/* ---- what clients ask for ------------------------------------------------ */

static size_t plan_length(struct px *px)
{
	static const unsigned sizes[] = { 0, 300, 150, 60, 8 };

	switch (px_draw(px, sizes, ARRAY_LEN(sizes))) {
	case 0:
		return px_between(px, 0, 100);
	case 1:
		return px_between(px, 1, 3000);
	case 2:
		return px_between(px, 1000, 20000);
	case 3:
		return px_between(px, 20000, 150000);
	}
	return px_between(px, 100000, 1200000);
}

static void plan_kind(struct px *px, struct px_exchange *x)
{
	if (chance(px, 20)) {
		x->kind = PX_NOT_FOUND;
	} else if ((px->faults & PX_BAD_CLIENTS) && chance(px, 60)) {
		x->kind = PX_MALFORMED;
		x->bad = (unsigned)sim_random(px->w);
	} else if ((px->faults & PX_BAD_CLIENTS) && chance(px, 20)) {
		x->kind = PX_BAD_CHUNKS;
		x->method = "POST";
		x->framing = PX_CHUNKED;
		x->minor = 1;
		x->len = px_between(px, 10, 5000);
		x->trailers = false;
	}
}

static void plan_exchange(struct px *px, struct px_client *c,
			  struct px_exchange *x, bool last)
{
	static const char *const plain[] = { "GET", "GET", "GET", "HEAD",
					     "DELETE", "OPTIONS" };
	static const char *const bodied[] = { "POST", "PUT", "POST",
					      "DELETE" };

	x->px = px;
	x->client = c;
	x->n = (unsigned)(x - px->x);
	x->route = (unsigned)sim_below(px->w, px->n_routes);
	x->minor = chance(px, 60) ? 0 : 1;
	x->method = plain[sim_below(px->w, ARRAY_LEN(plain))];
	x->json = chance(px, 200);
	x->absolute = chance(px, 50);
	x->close = last && chance(px, 200);
	if (x->minor == 0 && !last)
		x->minor = 1;
	if (chance(px, 550)) {
		x->method = bodied[sim_below(px->w, ARRAY_LEN(bodied))];
		x->framing = x->minor && chance(px, 500) ? PX_CHUNKED :
							   PX_LENGTH;
		x->len = plan_length(px);
		x->trailers = x->framing == PX_CHUNKED && chance(px, 200);
		x->expect = x->minor && x->len && chance(px, 150);
	}
	plan_kind(px, x);
	if (last && x->kind == PX_GOOD && x->minor && chance(px, 200)) {
		x->upgrade = true;
		x->method = "GET";
		x->framing = PX_NO_BODY;
		x->len = 0;
		x->expect = x->close = x->trailers = false;
	}
}

static void plan_trouble(struct px *px, struct px_client *c)
{
	static const unsigned troubles[PX_CLIENT_TROUBLES] = {
		[PX_CLIENT_RESETS] = 80, [PX_CLIENT_CLOSES] = 60,
		[PX_CLIENT_HALF_CLOSES] = 60, [PX_CLIENT_STOPS] = 50,
		[PX_CLIENT_READS_NOT] = 80, [PX_CLIENT_JUNK] = 50,
		[PX_CLIENT_LEAVES] = 80, [PX_CLIENT_VANISHES] = 50,
	};

	if (!(px->faults & PX_BAD_CLIENTS))
		return;
	c->trouble = (enum px_client_trouble)px_draw(px, troubles,
						     PX_CLIENT_TROUBLES);
	c->trouble_in = (unsigned)sim_below(px->w, c->n);
	c->trouble_at = px_between(px, 0, chance(px, 500) ? 300 : 20000);
}

void px_plan_client(struct px *px, struct px_client *c)
{
	c->px = px;
	c->listener = chance(px, 300) ? 1 : 0;
	snprintf(c->from, sizeof(c->from), "192.0.2.%u:%u",
		 1 + (unsigned)sim_below(px->w, 200),
		 20000 + (unsigned)(c - px->clients));
	c->n = 1 + (unsigned)sim_below(px->w, PX_REQUESTS);
	c->first = px->n_x + 1;
	c->pipelines = chance(px, 300);
	c->piece = chance(px, 600) ? SIZE_MAX :
				     px_between(px, 1, 3000);
	c->gap_us = chance(px, 600) ? 0 : px_between(px, 1, 20000);
	c->pause_us = chance(px, 600) ? 0 : px_between(px, 1, 300000);
	c->shuts = chance(px, 150);
	c->lingers = chance(px, 50);
	plan_trouble(px, c);
	for (unsigned i = 0; i < c->n; i++)
		plan_exchange(px, c, &px->x[++px->n_x], i + 1 == c->n);
}
