#include "exchange/exchange.h"

#include "base/mem.h"

#include "http/path.h"
#include "policy/edit.h"
#include "policy/route.h"

/* Room for edits in a response's head, beyond its own fields. */
#define SPARE_FIELDS	16u

static const struct flow_kind request_kind = {
	.head_event = EVENT_REQUEST_HEAD,
	.chunk_event = EVENT_REQUEST_CHUNK,
	.side = SIDE_REQUEST,
	.mutate_bit = MUTATE_REQUEST,
	.name = "request",
};

static const struct flow_kind response_kind = {
	.head_event = EVENT_RESPONSE_HEAD,
	.chunk_event = EVENT_RESPONSE_CHUNK,
	.side = SIDE_RESPONSE,
	.mutate_bit = MUTATE_RESPONSE,
	.name = "response",
};

/* ---- beginning -------------------------------------------------------------- */

static void make_correlation_id(struct worker *w, char out[EVENT_ID_LEN])
{
	char *digit = w->next_id + EVENT_ID_LEN;

	memcpy(out, w->next_id, EVENT_ID_LEN);
	/* Only the lower half counts on. */
	while (digit-- > w->next_id + 16 && *digit == 'f')
		*digit = '0';
	if (digit >= w->next_id + 16)
		*digit = *digit == '9' ? 'a' : (char)(*digit + 1);
}

struct exchange *exchange_new(struct client *c, const struct http_head *head,
			      struct block *block)
{
	struct worker *w = c->worker;
	struct arena arena;
	struct exchange *ex;

	arena_init(&arena, &w->loop->arenas);
	ex = arena_alloc(&arena, sizeof(*ex));
	if (!ex)
		return NULL;
	mem_zero(ex, offsetof(struct exchange, request.head_event));
	mem_zero(&ex->response, offsetof(struct flow, head_event));
	ex->arena = arena;
	ex->worker = w;
	ex->client = c;
	ex->listener = c->listener;
	ex->listener_name = c->listener->name;
	ex->snapshot = w->snapshot;
	ex->snapshot->pin[w->index].pins++;
	ex->start_us = c->begin_us ? c->begin_us : w->loop->now_us;
	ex->start_wall_us = w->loop->wall_us -
		(w->loop->now_us - ex->start_us);
	ex->head_us = w->loop->now_us;
	ex->head_block = block_get(block);
	make_correlation_id(w, ex->meta.correlation_id);
	ex->meta.go_request_id = ++w->go_id << 8 | (w->index & 255);
	ex->client_ip = slice_of(c->peer.ip, c->peer.ip_len);
	flow_init(&ex->request, ex, &request_kind);
	flow_init(&ex->response, ex, &response_kind);
	ex->request.source = &c->h1.source;
	ex->response.sink = &c->h1.sink;
	c->h1.source.events = &flow_source_events;
	c->h1.source.owner = &ex->request;
	c->h1.sink.events = &flow_sink_events;
	c->h1.sink.owner = &ex->response;
	c->exchange = ex;
	w->n_exchanges++;
	counter_inc(&w->metrics->exchanges_in_flight);
	return ex;
}

/* The head to forward, and who the client is and what the request is called,
 * as our log and our answers say it. False: no memory. */
static bool forward_head(struct exchange *ex, const struct http_head *head,
			 const struct config_route *route,
			 struct forward_result *result)
{
	struct forward_input input = {
		.config = ex->snapshot->config,
		.listener = ex->listener->config ?
			    ex->listener->config->config : NULL,
		.peer = &ex->client->peer,
		.route = route,
		.request_id = ex->meta.correlation_id,
	};

	if (!forward_request(&ex->request.head, head, &input, &ex->arena,
			     result))
		return false;
	ex->meta.request_id = result->request_id;
	ex->meta.client_ip = ex->client_ip = result->client_ip;
	ex->meta.client_port = result->client_port;
	return true;
}

static void bad_request(struct exchange *ex, const struct http_head *head,
			unsigned status, enum metrics_bad reason)
{
	struct forward_result ignored;

	/* Refused before there is a head: the answer asks what the client
	 * accepts, the log who it is. Without memory they don't. */
	if (!ex->request.head.fields &&
	    !forward_head(ex, head, NULL, &ignored))
		ex->request.head.fields = NULL;
	counter_inc(&ex->worker->metrics->bad_requests[reason]);
	answer_error(ex, status,
		     status == 413 ? ENDED_LIMIT : ENDED_PROXY,
		     metrics_bad_names[reason]);
}

/* False: answered. */
static bool find_route(struct exchange *ex, const struct http_head *head)
{
	const struct config *config = ex->snapshot->config;
	const struct config_route *route;
	struct http_path path;
	struct slice host;
	bool ambiguous;

	switch (http_path_normalise(head->path, &ex->arena, &path)) {
	case HTTP_PATH_OK:
		break;
	case HTTP_PATH_BAD:
		bad_request(ex, head, 400, METRICS_BAD_PATH);
		return false;
	case HTTP_PATH_NO_MEMORY:
		exchange_no_memory(ex);
		return false;
	}
	host = head->host_plain ? head->host :
	       http_host_normalise(head->host, &ex->arena);
	if (!host.p && head->host.n > 0) {
		exchange_no_memory(ex);
		return false;
	}
	ex->meta.server_name = host;
	route = route_match_head(config, host, &path, head,
				 ex->client->peer.trusted, &ambiguous);
	if (!route) {
		if (ambiguous)
			bad_request(ex, head, 400, METRICS_BAD_AMBIGUOUS_PATH);
		else
			bad_request(ex, head, 404, METRICS_BAD_NO_ROUTE);
		return false;
	}
	ex->route = &ex->snapshot->routes[route->index];
	ex->upstream = ex->route->upstream;
	return true;
}

/* What is forwarded and what agents see, made of what came. */
static bool make_forwarded(struct exchange *ex, const struct http_head *head)
{
	const struct snapshot_ops *ops = &ex->route->request_ops;
	struct forward_result result;
	struct flow *f = &ex->request;

	if (!forward_head(ex, head, ex->route->config, &result) ||
	    (ops->n &&
	     !edit_apply(&f->head, ops->ops, ops->n, &ex->arena))) {
		exchange_no_memory(ex);
		return false;
	}
	ex->n_own = ops->n ? 0 : (uint8_t)result.n_own;
	ex->id_field = UNLIKELY(ops->n) ?
		*http_head_find(&f->head, HTTP_FIELD_X_REQUEST_ID) :
		f->head.fields[f->head.n_fields - 1];
	/* Ours with the upstream, whatever the client wants with us. */
	f->head.keep_alive = true;
	f->has_body = head->framing == HTTP_BODY_CHUNKED ||
		(head->framing == HTTP_BODY_LENGTH && head->content_length);
	ex->expect_ours = result.expect_removed && head->expect_continue &&
		f->has_body;
	return true;
}

static void fill_meta(struct exchange *ex, const struct http_head *head)
{
	struct event_meta *m = &ex->meta;
	const struct field *trace;

	m->protocol = head->minor ? SLICE("HTTP/1.1") : SLICE("HTTP/1.0");
	m->route_id = ex->route->event.route_id;
	m->upstream_id = ex->route->event.upstream_id;
	m->route = head->minor ? &ex->route->event : NULL;
	timefmt_rfc3339_ms(&ex->worker->loop->time_cache, ex->start_wall_us,
			   ex->timestamp);
	m->timestamp = slice_of(ex->timestamp, sizeof(ex->timestamp));
	trace = http_head_find(&ex->request.head, HTTP_FIELD_TRACEPARENT);
	if (trace)
		m->traceparent = field_value(trace);
}

static bool make_parties(struct exchange *ex)
{
	const struct config_route *route = ex->route->config;

	if (route->n_agents == 0)
		return true;
	ex->parties = arena_zalloc(&ex->arena,
				   route->n_agents * sizeof(*ex->parties));
	if (!ex->parties) {
		exchange_no_memory(ex);
		return false;
	}
	for (unsigned i = 0; i < route->n_agents; i++) {
		struct party *p = &ex->parties[i];

		p->ex = ex;
		p->config = &route->agents[i];
		p->agent = ex->route->agents[i];
		p->agent_config = agent_config(p->agent);
		p->metrics = agent_metrics(p->agent, ex->worker->loop);
		p->ops_tail[SIDE_REQUEST] = &p->ops[SIDE_REQUEST];
		p->ops_tail[SIDE_RESPONSE] = &p->ops[SIDE_RESPONSE];
		agent_session_init(&p->session, p->agent, ex->worker->loop,
				   &ex->meta);
		if (p->config->observe && !observe_init(p)) {
			exchange_no_memory(ex);
			return false;
		}
	}
	ex->n_parties = route->n_agents;
	return true;
}

static void on_total_timeout(struct deadline *d)
{
	struct exchange *ex = container_of(d, struct exchange, total_deadline);

	answer_error(ex, 504, ENDED_TIMEOUT, "total_timeout");
}

/* What a listener's limits say of this head. False: answered. */
static bool within_limits(struct exchange *ex, const struct http_head *head)
{
	const struct config_listener *l = ex->listener->config->config;

	if (head->framing == HTTP_BODY_LENGTH && l->limits.body &&
	    head->content_length > l->limits.body) {
		bad_request(ex, head, 413, METRICS_BAD_BODY_TOO_LARGE);
		return false;
	}
	deadline_start(ex->worker->loop, &ex->total_deadline,
		       l->timeouts.total_us, on_total_timeout);
	return true;
}

void exchange_begin(struct exchange *ex, const struct http_head *head)
{
	ex->method = head->method;
	ex->target = head->target;
	ex->host = head->host;
	ex->protocol = head->minor ? "HTTP/1.1" : "HTTP/1.0";
	ex->request.head.minor = head->minor;
	ex->request.head.method_id = head->method_id;
	if (!ex->listener->config) {
		/* Taken out of the config under this connection's feet. */
		answer_error(ex, 503, ENDED_SHUTDOWN, "listener_gone");
		return;
	}
	if (head->method_id == HTTP_CONNECT) {
		bad_request(ex, head, 405, METRICS_BAD_METHOD);
		return;
	}
	if (!find_route(ex, head) || !make_forwarded(ex, head) ||
	    !within_limits(ex, head) || !make_parties(ex))
		return;
	fill_meta(ex, head);
	flow_set_state(&ex->request, FLOW_HEAD, "head");
	if (ex->n_parties > 0)
		ask_head(&ex->request);
	else
		flow_judged(&ex->request);
}

/* ---- the upstream -------------------------------------------------------------- */

static void attach_upstream(struct exchange *ex)
{
	struct upstream_conn *conn = ex->lease.conn;

	ex->server = upstream_server_name(conn);
	ex->attempts = ex->lease.attempts;
	if (!conn->reused)
		ex->connect_us += conn->connect_us;
	conn->h1.source.events = &flow_source_events;
	conn->h1.source.owner = &ex->response;
	conn->h1.sink.events = &flow_sink_events;
	conn->h1.sink.owner = &ex->request;
	ex->request.sink = &conn->h1.sink;
	ex->response.source = &conn->h1.source;
	h1_begin_request(&conn->h1,
			 (enum http_method)ex->request.head.method_id);
}

/* No descriptor was left for the connection: a quiet client's gives way, as
 * for one that is accepted. */
static bool acquire_once_more(struct exchange *ex)
{
	if (ex->made_room || !park_make_room(ex->worker))
		return false;
	ex->made_room = true;
	if (upstream_acquire(ex->upstream, ex->worker->loop, &ex->lease)) {
		attach_upstream(ex);
		flow_pump(&ex->request);
	}
	return true;
}

static void on_upstream_ready(struct upstream_lease *l,
			      enum upstream_error error)
{
	struct exchange *ex = container_of(l, struct exchange, lease);

	ex->attempts = l->attempts;
	if (l->server)
		ex->server = l->server;
	switch (error) {
	case UPSTREAM_OK:
		attach_upstream(ex);
		flow_pump(&ex->request);
		return;
	case UPSTREAM_TIMEOUT:
		answer_error(ex, 504, ENDED_TIMEOUT, "connect_timeout");
		return;
	case UPSTREAM_NO_MEMORY:
		if (!acquire_once_more(ex))
			exchange_no_memory(ex);
		return;
	case UPSTREAM_REFUSED:
	case UPSTREAM_MALFORMED:
	case UPSTREAM_RESPONSE_TIMEOUT:
	case UPSTREAM_CLOSED:
	case UPSTREAM_ERROR_N:
		answer_error(ex, 502, ENDED_UPSTREAM, "connect_failed");
		return;
	}
}

bool exchange_want_upstream(struct exchange *ex)
{
	if (ex->request.sink)
		return true;
	if (ex->leased)
		return false;
	if (!ex->upstream) {
		answer_route(ex);
		return false;
	}
	ex->leased = true;
	ex->lease.on_ready = on_upstream_ready;
	ex->lease.hash = upstream_hash(ex->upstream, &ex->request.head,
				       ex->client_ip);
	if (!upstream_acquire(ex->upstream, ex->worker->loop, &ex->lease))
		return false;
	attach_upstream(ex);
	return true;
}

static void give_back(struct exchange *ex, bool reuse)
{
	if (!ex->leased)
		return;
	ex->leased = false;
	ex->attempts = ex->lease.attempts;
	ex->request.sink = NULL;
	ex->response.source = NULL;
	upstream_release(&ex->lease, reuse);
}

/* The response is all here. The connection serves the next one while this
 * client still reads. */
static void response_complete(struct exchange *ex)
{
	ex->upstream_ok = true;
	upstream_praise(&ex->lease);
	if (ex->tunnel || ex->request.state < FLOW_FLUSHING)
		return;
	give_back(ex, ex->request.state != FLOW_ABORTED);
	if (ex->request.state == FLOW_FLUSHING)
		flow_set_state(&ex->request, FLOW_DONE, "answered");
}

static bool may_retry(const struct exchange *ex, enum message_fault why)
{
	const struct upstream_conn *conn = ex->lease.conn;

	return (why == MESSAGE_EOF || why == MESSAGE_RESET) &&
	       ex->leased && conn && !conn->h1.got_bytes &&
	       !ex->request.has_body && ex->response.state == FLOW_IDLE &&
	       http_method_idempotent(
			(enum http_method)ex->request.head.method_id);
}

/*
 * A kept connection was dead: once more, on a fresh one (design.md 5). A fresh
 * one that dies without a byte takes its server with it: once more, with
 * another one if there is.
 */
static bool retry(struct exchange *ex)
{
	if (ex->lease.conn->reused) {
		if (ex->retried)
			return false;
		ex->retried = true;
	} else {
		if (ex->moved || !upstream_skip_server(&ex->lease))
			return false;
		ex->moved = true;
		upstream_report(&ex->lease, UPSTREAM_CLOSED);
		upstream_blame(&ex->lease, UPSTREAM_CLOSED);
	}
	upstream_report_retry(&ex->lease);
	give_back(ex, false);
	ex->lease.fresh = true;
	ex->request.state = FLOW_HEAD;
	flow_pump_later(&ex->request);
	return true;
}

/*
 * Is the server to blame for closing? Not if the client may have had a part in
 * it, by a request that never ended or by not reading; nor if it had been idle
 * for too long when we used it.
 */
static bool closed_by_fault(const struct exchange *ex)
{
	const struct upstream_conn *conn = ex->lease.conn;

	if (ex->request.has_body && !ex->request.source_ended)
		return false;
	if (conn && conn->reused && !conn->h1.got_bytes)
		return false;
	return !ex->response.source_paused;
}

static void upstream_failed(struct exchange *ex, enum upstream_error error)
{
	upstream_report(&ex->lease, error);
	if (error != UPSTREAM_CLOSED || closed_by_fault(ex))
		upstream_blame(&ex->lease, error);
}

static void response_aborted(struct exchange *ex, enum message_fault why)
{
	if (may_retry(ex, why) && retry(ex))
		return;
	switch (why) {
	case MESSAGE_EOF:
	case MESSAGE_RESET:
		upstream_failed(ex, UPSTREAM_CLOSED);
		answer_error(ex, 502, ENDED_UPSTREAM, "upstream_closed");
		return;
	case MESSAGE_MALFORMED:
		upstream_failed(ex, UPSTREAM_MALFORMED);
		answer_error(ex, 502, ENDED_UPSTREAM, "upstream_malformed");
		return;
	case MESSAGE_TIMEOUT:
		upstream_failed(ex, UPSTREAM_RESPONSE_TIMEOUT);
		answer_error(ex, 504, ENDED_TIMEOUT, "upstream_timeout");
		return;
	case MESSAGE_NO_MEMORY:
		exchange_no_memory(ex);
		return;
	}
}

static void request_aborted(struct exchange *ex, enum message_fault why,
			    enum http_parse fault)
{
	struct worker_metrics *m = ex->worker->metrics;

	switch (why) {
	case MESSAGE_EOF:
		counter_inc(&m->bad_requests[METRICS_BAD_CUT]);
		answer_error(ex, 400, ENDED_CLIENT, "cut");
		return;
	case MESSAGE_RESET:
		exchange_client_gone(ex, "reset");
		return;
	case MESSAGE_MALFORMED:
		counter_inc(&m->bad_requests[fault]);
		answer_error(ex, http_parse_status(fault), ENDED_PROXY,
			     http_parse_names[fault]);
		return;
	case MESSAGE_TIMEOUT:
		counter_inc(&m->bad_requests[METRICS_BAD_TIMEOUT]);
		answer_error(ex, 408, ENDED_TIMEOUT, "body_timeout");
		return;
	case MESSAGE_NO_MEMORY:
		exchange_no_memory(ex);
		return;
	}
}

/* ---- the response's head ---------------------------------------------------------- */

/* Passed on as it is, unseen by agents (protocol page 5.4). */
static void interim_head(struct exchange *ex, const struct http_head *head)
{
	if (ex->response.state != FLOW_IDLE || ex->request.head.minor == 0)
		return;
	if (head->status == 100 && ex->expect_ours)
		return;
	ex->response.sink->ops->head(ex->response.sink, head);
}

static bool copy_response_head(struct exchange *ex,
			       const struct http_head *head,
			       struct block *block)
{
	const struct snapshot_ops *ops = &ex->route->response_ops;
	struct flow *f = &ex->response;
	unsigned cap = head->n_fields + SPARE_FIELDS;
	struct field *fields = arena_alloc(&ex->arena, cap * sizeof(*fields));

	if (!fields)
		return false;
	memcpy(fields, head->fields, head->n_fields * sizeof(*fields));
	f->head = *head;
	f->head.fields = fields;
	f->head.cap_fields = cap;
	ex->response_block = block_get(block);
	http_head_remove_id(&f->head, HTTP_FIELD_X_REQUEST_ID);
	fields[f->head.n_fields++] = ex->id_field;
	f->head.present |= UINT64_C(1) << HTTP_FIELD_X_REQUEST_ID;
	return !ops->n ||
	       edit_apply(&f->head, ops->ops, ops->n, &ex->arena);
}

/* To one of the protocols that were offered, which are those that the route
 * lets through; nor can it be in the middle of the request (RFC 9110, 7.8). */
static bool upgrade_fits(const struct exchange *ex,
			 const struct http_head *head)
{
	return ex->request.state >= FLOW_FLUSHING && head->upgrade.n > 0 &&
	       http_list_has(ex->request.head.upgrade, head->upgrade);
}

static void response_head(struct exchange *ex, const struct http_head *head,
			  struct block *block)
{
	struct flow *f = &ex->response;

	if (head->status == 101 && !upgrade_fits(ex, head)) {
		upstream_failed(ex, UPSTREAM_MALFORMED);
		answer_error(ex, 502, ENDED_UPSTREAM, "unasked_upgrade");
		return;
	}
	ex->first_byte_us = ex->worker->loop->now_us;
	if (!copy_response_head(ex, head, block)) {
		exchange_no_memory(ex);
		return;
	}
	ex->tunnel = head->status == 101;
	f->has_body = head->framing == HTTP_BODY_CHUNKED ||
		head->framing == HTTP_BODY_CLOSE ||
		(head->framing == HTTP_BODY_LENGTH && head->content_length);
	/* The client need not lose its connection for an old upstream. */
	if (head->framing == HTTP_BODY_CLOSE)
		f->head.framing = HTTP_BODY_CHUNKED;
	flow_set_state(f, FLOW_HEAD, "head");
	if (ex->route->asks_response_head)
		ask_head(f);
	else
		flow_judged(f);
}

/* ---- both flows' sources and sinks -------------------------------------------------- */

static void on_source_head(void *owner, const struct http_head *head,
			   struct block *block)
{
	struct flow *f = owner;
	struct exchange *ex = f->ex;

	ASSERT(f == &ex->response);
	if (!exchange_open(ex) || ex->answered)
		return;
	if (head->status < 200 && head->status != 101)
		interim_head(ex, head);
	else
		response_head(ex, head, block);
}

static void on_source_data(void *owner, struct block *block, const char *p,
			   size_t n)
{
	flow_take_data(owner, block, p, n);
}

static void on_source_end(void *owner, const struct http_head *trailers)
{
	struct flow *f = owner;
	struct exchange *ex = f->ex;

	if (!exchange_open(ex) || (ex->answered && f == &ex->response))
		return;
	flow_take_end(f, trailers);
	if (f == &ex->response && exchange_open(ex) && !ex->answered)
		response_complete(ex);
}

static void on_source_abort(void *owner, enum message_fault why,
			    enum http_parse fault)
{
	struct flow *f = owner;
	struct exchange *ex = f->ex;

	if (!exchange_open(ex))
		return;
	if (f == &ex->request) {
		if (ex->answered && why != MESSAGE_RESET)
			return;
		request_aborted(ex, why, fault);
	} else if (!ex->answered) {
		response_aborted(ex, why);
	}
}

const struct source_events flow_source_events = {
	.on_head = on_source_head,
	.on_data = on_source_data,
	.on_end = on_source_end,
	.on_abort = on_source_abort,
};

static void on_sink_room(void *owner)
{
	flow_pump(owner);
}

static void on_sink_fail(void *owner, enum message_fault why)
{
	struct flow *f = owner;
	struct exchange *ex = f->ex;

	if (!exchange_open(ex))
		return;
	if (f == &ex->response && why == MESSAGE_NO_MEMORY) {
		/* No answer could be written either. */
		exchange_end(ex, ENDED_LIMIT, "no_memory");
		return;
	}
	if (f == &ex->response) {
		exchange_client_gone(ex, why == MESSAGE_TIMEOUT ?
				     "send_timeout" : "gone");
		return;
	}
	switch (why) {
	case MESSAGE_NO_MEMORY:
		exchange_no_memory(ex);
		return;
	case MESSAGE_TIMEOUT:
		/* It waits for the rest, and nobody would wait for it. */
		if (ex->response.state == FLOW_IDLE) {
			response_aborted(ex, why);
			return;
		}
		break;
	case MESSAGE_EOF:
	case MESSAGE_RESET:
	case MESSAGE_MALFORMED:
		break;
	}
	/* The upstream may have answered before it closed: its source goes on
	 * to the end and says so, or says what is wrong. */
	flow_abort(f, "upstream stopped reading");
}

static void on_sink_flushed(void *owner)
{
	struct flow *f = owner;
	struct exchange *ex = f->ex;

	if (!exchange_open(ex) || f->state != FLOW_FLUSHING)
		return;
	flow_set_state(f, FLOW_DONE, "flushed");
	exchange_check_done(ex);
}

const struct sink_events flow_sink_events = {
	.on_room = on_sink_room,
	.on_fail = on_sink_fail,
	.on_flushed = on_sink_flushed,
};

/* ---- the end ------------------------------------------------------------------------ */

void exchange_withdraw_calls(struct exchange *ex, enum wire_cancel why)
{
	if (!ex->asks)
		return;
	for (unsigned i = 0; i < ex->n_parties; i++)
		if (!ex->parties[i].observer)
			agent_withdraw(&ex->parties[i].head_call, why);
	stages_withdraw(&ex->request, why);
	stages_withdraw(&ex->response, why);
	ex->request.heads_pending = ex->response.heads_pending = 0;
	ex->agents_us += ex->worker->loop->now_us - ex->asks_since_us;
	ex->asks = 0;
}

void exchange_stop_upstream(struct exchange *ex)
{
	exchange_withdraw_calls(ex, WIRE_CANCEL_BLOCKED);
	flow_abort(&ex->request, "stopped");
	/* Untouched: nothing of this exchange was written to it. */
	give_back(ex, ex->sent_us == 0);
}

void exchange_check_done(struct exchange *ex)
{
	if (!exchange_open(ex) || ex->response.state != FLOW_DONE)
		return;
	if (ex->tunnel && !ex->answered) {
		if (!ex->tunnel_state)
			tunnel_start(ex);
		return;
	}
	exchange_end(ex, (enum ended_by)ex->ended_by,
		     ex->ended_why ? ex->ended_why : "");
}

void exchange_client_gone(struct exchange *ex, const char *why)
{
	if (ex->status == 0)
		ex->status = 499;
	exchange_end(ex, ENDED_CLIENT, why);
}

void exchange_no_memory(struct exchange *ex)
{
	answer_error(ex, 503, ENDED_LIMIT, "no_memory");
}

static void on_exchange_reap(struct task *t)
{
	struct exchange *ex = container_of(t, struct exchange, reap);
	struct arena arena;

	flow_fini(&ex->request);
	flow_fini(&ex->response);
	block_put(ex->head_block);
	block_put(ex->response_block);
	arena = ex->arena;
	arena_fini(&arena);
}

static inline void end_sessions(struct exchange *ex)
{
	struct event_complete complete = {
		.status = ex->status == 499 ? 0 : (uint16_t)ex->status,
		.duration_ms = ((ex->end_us ? ex->end_us :
				 ex->worker->loop->now_us) - ex->start_us) /
			       1000,
		.request_body_size = ex->request.body_bytes,
		.response_body_size = ex->response.sent_bytes,
		.upstream_attempts = ex->attempts,
		.error = ex->ended_by == ENDED_DONE ? SLICE_NONE :
			 slice_str(ex->ended_why),
	};

	for (unsigned i = 0; i < ex->n_parties; i++)
		agent_session_end(&ex->parties[i].session, &complete);
	ex->n_parties = 0;
}

static inline void let_go(struct exchange *ex)
{
	struct snapshot *s = ex->snapshot;

	/* Agents, with their counters, may go with the snapshot. */
	flow_return_held(&ex->request);
	flow_return_held(&ex->response);
	end_sessions(ex);
	ex->snapshot = NULL;
	ex->route = NULL;
	ex->upstream = NULL;
	worker_unpin(ex->worker, s);
}

void exchange_let_go(struct exchange *ex)
{
	let_go(ex);
}

static enum wire_cancel cancel_reason(enum ended_by by)
{
	switch (by) {
	case ENDED_CLIENT:
		return WIRE_CANCEL_CLIENT;
	case ENDED_AGENT:
		return WIRE_CANCEL_BLOCKED;
	case ENDED_UPSTREAM:
		return WIRE_CANCEL_UPSTREAM;
	case ENDED_TIMEOUT:
		return WIRE_CANCEL_TIMEOUT;
	case ENDED_SHUTDOWN:
		return WIRE_CANCEL_SHUTDOWN;
	case ENDED_DONE:
	case ENDED_PROXY:
	case ENDED_LIMIT:
	case ENDED_N:
		return WIRE_CANCEL_MANUAL;
	}
	return WIRE_CANCEL_MANUAL;
}

void exchange_finish(struct exchange *ex)
{
	if (ex->observed) {
		if (list_linked(&ex->node))
			list_take(&ex->node);
		observe_fini(ex);
	}
	record_end(ex);
	if (ex->snapshot)
		let_go(ex);
	loop_defer_reap(ex->worker->loop, &ex->reap, on_exchange_reap);
}

/* It outlives its client, and with it the listener; and it holds nothing. */
static void linger(struct exchange *ex)
{
	const char *name = ex->listener_name;

	ex->listener_name = arena_dup(&ex->arena,
				slice_of(name, strlen(name) + 1)).p;
	ex->listener = NULL;
	cds_list_add_tail(&ex->node, &ex->worker->lingering);
	flow_return_held(&ex->request);
	flow_return_held(&ex->response);
	if (!ex->listener_name) {
		ex->listener_name = "";
		observe_stop(ex);
	}
}

void exchange_end(struct exchange *ex, enum ended_by by, const char *why)
{
	struct client *c = ex->client;
	struct worker *w = ex->worker;
	bool whole = ex->response.state == FLOW_DONE && !ex->tunnel;

	ASSERT(exchange_open(ex));
	ex->state = EXCHANGE_ENDING;
	ex->ended_by = by;
	ex->ended_why = why;
	deadline_stop(&ex->total_deadline);
	tunnel_stop(ex);
	exchange_withdraw_calls(ex, cancel_reason(by));
	give_back(ex, false);
	flow_abort(&ex->request, "ended");
	flow_abort(&ex->response, "ended");
	counter_dec(&w->metrics->exchanges_in_flight);
	w->n_exchanges--;
	ex->end_us = w->loop->now_us;
	ex->client = NULL;
	if (ex->observing > 0)
		linger(ex);
	if (LIKELY(ex->observing == 0))
		exchange_finish(ex);
	if (whole)
		client_exchange_over(c);
	else
		client_drop(c, !(ex->tunnel && by == ENDED_DONE));
}
