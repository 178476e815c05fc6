/* The end of an exchange: its line in the log and its share of the counters. */
#include "exchange/exchange.h"

static enum code_class class_of(unsigned status)
{
	if (status < 100 || status > 599)
		return CODE_NONE;
	return (enum code_class)(CODE_1XX + status / 100 - 1);
}

static void count_route(struct exchange *ex)
{
	struct metrics_set *set = ex->route ? ex->route->metrics :
				  ex->snapshot->no_route;
	struct route_metrics *route =
		metrics_set_local(set, ex->worker->index);
	/* 499 is the log's word for no status at all. */
	unsigned status = ex->status == 499 &&
		ex->ended_by == ENDED_CLIENT ? 0 : ex->status;

	counter_inc(&route->requests[class_of(status)]);
}

static void count(struct exchange *ex, uint64_t total_us)
{
	struct worker_metrics *m = ex->worker->metrics;

	counter_inc(&m->ended[ex->ended_by]);
	counter_add(&m->request_bytes, ex->request.body_bytes);
	counter_add(&m->response_bytes, ex->response.sent_bytes);
	histogram_add(&m->request_us, total_us);
}

static void collect_agents(struct exchange *ex, struct record_kept *k)
{
	unsigned kinds = EVENT_RESPONSE_CHUNK + 1;
	struct record_agent *list;

	if (ex->n_parties == 0)
		return;
	list = arena_alloc(&ex->arena,
			   ex->n_parties * kinds * sizeof(*list));
	if (!list)
		return;
	k->agents = list;
	for (unsigned i = 0; i < ex->n_parties; i++)
		for (unsigned e = 0; e < kinds; e++)
			if (ex->parties[i].record[e])
				list[k->n_agents++] =
					*ex->parties[i].record[e];
}

/* What the line says that stands in the snapshot. */
static void take_names(struct exchange *ex)
{
	struct record_kept *k = &ex->kept;

	k->generation = ex->snapshot->generation;
	k->route = ex->route ? ex->route->config->name : NULL;
	k->upstream = ex->upstream ? upstream_name(ex->upstream) : NULL;
	k->server = ex->server;
	collect_agents(ex, k);
	k->taken = true;
}

static bool keep_text(struct arena *a, const char **text)
{
	struct slice copy;

	if (!*text)
		return true;
	copy = arena_dup(a, slice_of(*text, strlen(*text) + 1));
	*text = copy.p;
	return copy.p != NULL;
}

bool record_keep(struct exchange *ex)
{
	struct record_kept *k = &ex->kept;
	bool ok;

	count_route(ex);
	take_names(ex);
	ok = keep_text(&ex->arena, &k->route) &&
	     keep_text(&ex->arena, &k->upstream) &&
	     keep_text(&ex->arena, &k->server) &&
	     keep_text(&ex->arena, &ex->decided_by);
	for (unsigned i = 0; ok && i < k->n_agents; i++)
		ok = keep_text(&ex->arena, &k->agents[i].name);
	return ok;
}

static struct slice value_of(const struct http_head *h, enum http_field_id id)
{
	const struct field *f = h->fields ? http_head_find(h, id) : NULL;

	return f ? field_value(f) : SLICE_NONE;
}

static void on_flush(struct task *t)
{
	struct worker *w = container_of(t, struct worker, access_flush);

	access_log_flush(w->shared->access, w->index, w->metrics);
}

static void fill_times(const struct exchange *ex, struct record *r,
		       uint64_t total_us)
{
	r->us.total = total_us;
	r->us.request_head = ex->head_us - ex->start_us;
	r->us.agents = ex->agents_us;
	r->us.upstream_connect = ex->connect_us;
	if (ex->sent_us && ex->first_byte_us)
		r->us.upstream_first_byte = ex->first_byte_us - ex->sent_us;
}

static void write_line(struct exchange *ex, uint64_t total_us)
{
	struct worker *w = ex->worker;
	const struct record_kept *k = &ex->kept;
	struct record r = {
		.start_wall_us = ex->start_wall_us,
		.request_id = ex->meta.request_id,
		.correlation_id = slice_of(ex->meta.correlation_id,
					   EVENT_ID_LEN),
		.listener = ex->listener_name,
		.client = ex->client_ip,
		.method = ex->method,
		.host = ex->host,
		.target = ex->target,
		.protocol = ex->protocol ? ex->protocol : "",
		.route = k->route,
		.upstream = k->upstream,
		.server = k->server,
		.attempts = ex->attempts,
		.status = ex->status,
		.ended_by = (enum ended_by)ex->ended_by,
		.ended_why = ex->ended_why,
		.request_bytes = ex->request.body_bytes,
		.response_bytes = ex->response.sent_bytes,
		.decided_by = ex->decided_by,
		.bypass = ex->bypass,
		.agents = k->agents,
		.n_agents = k->n_agents,
		.generation = k->generation,
		.referer = value_of(&ex->request.head, HTTP_FIELD_REFERER),
		.user_agent = value_of(&ex->request.head,
				       HTTP_FIELD_USER_AGENT),
	};

	fill_times(ex, &r, total_us);
	if (access_log_add(w->shared->access, w->index, &r, w->metrics))
		loop_defer_flush(w->loop, &w->access_flush, on_flush);
}

void record_end(struct exchange *ex)
{
	uint64_t total_us = ex->end_us - ex->start_us;

	if (!ex->kept.taken)
		count_route(ex);
	count(ex, total_us);
	if (!access_log_wants(ex->worker->shared->access))
		return;
	if (!ex->kept.taken)
		take_names(ex);
	write_line(ex, total_us);
}
