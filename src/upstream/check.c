/*
 * Active checks: worker 0 tries each server out, all workers act on what it
 * finds. A check is a connection of its own, never one of the pool's.
 *
 *	waiting -> connecting -> (http: asking ->) waiting
 */
#include "upstream/internal.h"

#include "base/mem.h"

struct server_check {
	struct upstream *upstream;
	struct server_info *info;
	struct h1_conn h1;
	struct deadline next, limit;
	struct task first;
	bool running;
};

static void on_next(struct deadline *d);

static void check_over(struct server_check *c, const char *error)
{
	struct upstream *u = c->upstream;
	struct loop *loop = u->check_loop;

	c->running = false;
	deadline_stop(&c->limit);
	h1_close(&c->h1, false);
	if (error)
		server_check_bad(u, c->info, error);
	else
		server_check_good(u, c->info, loop->now_us);
	deadline_start(loop, &c->next, u->check.interval_us, on_next);
}

static void on_limit(struct deadline *d)
{
	check_over(container_of(d, struct server_check, limit), "timeout");
}

/* ---- the answer ----------------------------------------------------------- */

static void on_head(void *owner, const struct http_head *head,
		    struct block *block)
{
	struct server_check *c = owner;

	if (!c->running || head->status < 200)
		return;
	check_over(c, head->status < 400 ? NULL : "status");
}

static void on_data(void *owner, struct block *block, const char *p, size_t n)
{
}

static void on_end(void *owner, const struct http_head *trailers)
{
}

static void on_abort(void *owner, enum message_fault why,
		     enum http_parse fault)
{
	struct server_check *c = owner;

	if (c->running)
		check_over(c, why == MESSAGE_MALFORMED ? "malformed" :
			   why == MESSAGE_TIMEOUT ? "timeout" : "closed");
}

static const struct source_events source_events = {
	.on_head = on_head,
	.on_data = on_data,
	.on_end = on_end,
	.on_abort = on_abort,
};

static void on_nothing(void *owner)
{
}

static void on_fail(void *owner, enum message_fault why)
{
	on_abort(owner, why, HTTP_PARSE_OK);
}

static const struct sink_events sink_events = {
	.on_room = on_nothing,
	.on_fail = on_fail,
	.on_flushed = on_nothing,
};

/* ---- the request ---------------------------------------------------------- */

static void ask(struct server_check *c)
{
	struct upstream *u = c->upstream;
	struct slice host = slice_str(u->check_host ? u->check_host :
				      c->info->name);
	struct field fields[2];
	struct http_head head = {
		.method = SLICE("GET"),
		.method_id = HTTP_GET,
		.path = slice_str(u->check_path),
		.minor = 1,
		.fields = fields,
		.cap_fields = ARRAY_LEN(fields),
	};

	if (c->info->addr.sa.sa_family == AF_UNIX && !u->check_host)
		host = SLICE("localhost");
	if (!http_head_add_id(&head, HTTP_FIELD_HOST, SLICE("Host"), host) ||
	    !http_head_add_id(&head, HTTP_FIELD_USER_AGENT,
			      SLICE("User-Agent"), SLICE("agentproxyd")))
		ASSERT(!"there is room");
	c->h1.source.events = &source_events;
	c->h1.sink.events = &sink_events;
	c->h1.source.owner = c->h1.sink.owner = c;
	h1_begin_request(&c->h1, HTTP_GET);
	c->h1.sink.ops->head(&c->h1.sink, &head);
	c->h1.sink.ops->end(&c->h1.sink, NULL);
}

static void on_connect(struct h1_conn *h1, int error)
{
	struct server_check *c = container_of(h1, struct server_check, h1);

	if (error)
		check_over(c, "connect");
	else if (c->upstream->check.type == CHECK_TCP)
		check_over(c, NULL);
	else
		ask(c);
}

static void on_close(struct h1_conn *h1, enum message_fault why)
{
	struct server_check *c = container_of(h1, struct server_check, h1);

	if (c->running)
		check_over(c, "closed");
}

static const struct h1_events h1_events = {
	.on_connect = on_connect,
	.on_close = on_close,
};

/* What cannot be started for lack of something of ours says nothing. */
static void check_begin(struct server_check *c)
{
	struct upstream *u = c->upstream;
	struct loop *loop = u->check_loop;
	int error = h1_connect(&c->h1, loop, &c->info->addr, &u->check_settings,
			       &h1_events);

	if (error) {
		if (upstream_fault_of(error) == FAULT_SERVER)
			server_check_bad(u, c->info, "connect");
		deadline_start(loop, &c->next, u->check.interval_us, on_next);
		return;
	}
	c->running = true;
	deadline_start(loop, &c->limit, u->check.timeout_us, on_limit);
}

static void on_next(struct deadline *d)
{
	check_begin(container_of(d, struct server_check, next));
}

static void on_first(struct task *t)
{
	check_begin(container_of(t, struct server_check, first));
}

/* ---- life ----------------------------------------------------------------- */

bool checks_new(struct upstream *u)
{
	if (u->check.type == CHECK_NONE)
		return true;
	u->checks = mem_zalloc_aligned(u->n_servers * sizeof(u->checks[0]));
	for (unsigned i = 0; u->checks && i < u->n_servers; i++) {
		u->checks[i].upstream = u;
		u->checks[i].info = &u->servers[i];
	}
	return u->checks != NULL;
}

void upstream_local_start(struct upstream *u, struct loop *loop)
{
	if (loop->index != 0 || !u->checks)
		return;
	u->check_loop = loop;
	for (unsigned i = 0; i < u->n_servers; i++)
		loop_defer(loop, &u->checks[i].first, on_first);
}

void checks_stop(struct upstream *u, struct loop *loop)
{
	if (loop->index != 0 || !u->checks)
		return;
	for (unsigned i = 0; i < u->n_servers; i++) {
		struct server_check *c = &u->checks[i];

		task_cancel(&c->first);
		deadline_stop(&c->next);
		deadline_stop(&c->limit);
		if (c->running)
			h1_close(&c->h1, true);
		c->running = false;
	}
}
