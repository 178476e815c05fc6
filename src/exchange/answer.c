/*
 * Answers of the proxy's own: errors, and what agents decide instead of the
 * upstream's response (interface.md "Own answers", protocol page 6.2).
 */
#include <stdio.h>

#include "exchange/exchange.h"
#include "policy/edit.h"

#define ANSWER_FIELDS	32u
#define ANSWER_RETRY_S	"1"

static bool begun(const struct exchange *ex)
{
	return ex->status != 0;
}

void answer_cut(struct exchange *ex, enum ended_by by, const char *why)
{
	struct sink *snk = ex->response.sink;

	exchange_withdraw_calls(ex, WIRE_CANCEL_BLOCKED);
	snk->ops->abort(snk);
	exchange_end(ex, by, why);
}

/* Takes the response flow over: nothing of the upstream's is used any more. */
static void take_over(struct exchange *ex, enum ended_by by, const char *why)
{
	exchange_stop_upstream(ex);
	ex->answered = true;
	ex->tunnel = false;
	ex->ended_by = by;
	ex->ended_why = why;
	outq_clear(&ex->response.held);
	stages_fini(&ex->response);
}

static bool start_head(struct exchange *ex, struct http_head *h,
		       unsigned status)
{
	struct slice id = ex->meta.request_id;

	memset(h, 0, sizeof(*h));
	h->status = (uint16_t)status;
	h->reason = http_reason(status);
	h->minor = 1;
	h->cap_fields = ANSWER_FIELDS;
	h->fields = arena_alloc(&ex->arena, ANSWER_FIELDS *
				sizeof(*h->fields));
	if (!h->fields)
		return false;
	if (id.n == 0)
		id = slice_of(ex->meta.correlation_id, EVENT_ID_LEN);
	ex->meta.request_id = id;
	return http_head_add_id(h, HTTP_FIELD_X_REQUEST_ID,
				SLICE("X-Request-Id"), id);
}

static bool bodiless(unsigned status)
{
	return status == 204 || status == 304;
}

/* Queues head, body and end. False: no memory; nothing was queued. */
static bool send_answer(struct exchange *ex, struct http_head *h,
			struct slice body,
			bool keep_alive)
{
	struct sink *snk = ex->response.sink;
	bool with_body = !bodiless(h->status);
	struct block *block = NULL;

	if (with_body && body.n > 0) {
		block = block_new(&ex->worker->loop->blocks, body.n);
		if (!block)
			return false;
		memcpy(block->data, body.p, body.n);
		block->used = (uint32_t)body.n;
	}
	h->keep_alive = keep_alive && !listener_closing(ex->listener);
	h->framing = with_body ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	h->content_length = with_body ? body.n : 0;
	ex->status = h->status;
	ex->response.state = FLOW_FLUSHING;
	snk->ops->head(snk, h);
	if (block && ex->request.head.method_id != HTTP_HEAD) {
		ex->response.sent_bytes = body.n;
		snk->ops->data(snk, block, block->data, body.n);
	}
	block_put(block);
	snk->ops->end(snk, NULL);
	return true;
}

/* No memory even for an answer: the connection goes. */
static void give_up(struct exchange *ex)
{
	exchange_end(ex, ENDED_LIMIT, "no_memory");
}

/* ---- errors -------------------------------------------------------------------- */

static bool prefers_json(const struct exchange *ex)
{
	const struct http_head *h = &ex->request.head;
	const struct field *f = h->fields ?
		http_head_find(h, HTTP_FIELD_ACCEPT) : NULL;

	return f && http_prefers_json(field_value(f));
}

static struct slice error_text(struct exchange *ex, struct http_head *h,
			       bool *ok)
{
	struct slice body;

	if (prefers_json(ex)) {
		body = arena_printf(&ex->arena,
			"{\"error\":\"%.*s\",\"request_id\":\"%.*s\"}\n",
			SLICE_FMT(h->reason), SLICE_FMT(ex->meta.request_id));
		*ok = http_head_add_id(h, HTTP_FIELD_CONTENT_TYPE,
				       SLICE("Content-Type"),
				       SLICE("application/json"));
	} else {
		body = arena_printf(&ex->arena, "%u %.*s\n", h->status,
				    SLICE_FMT(h->reason));
		*ok = http_head_add_id(h, HTTP_FIELD_CONTENT_TYPE,
				       SLICE("Content-Type"),
				       SLICE("text/plain; charset=utf-8"));
	}
	*ok = *ok && body.p;
	return body;
}

/* The client cannot be trusted to know where its next request begins, or the
 * body that it still sends will not be read. What follows a CONNECT may be meant
 * for whom it wanted to talk to, whatever we say to it. */
static bool keeps_connection(const struct exchange *ex, unsigned status)
{
	return ex->request.head.method_id != HTTP_CONNECT && status != 400 &&
	       status != 408 && status != 413 && status != 431 &&
	       status != 414 && status != 501;
}

void answer_error(struct exchange *ex, unsigned status, enum ended_by by,
		  const char *why)
{
	struct http_head h;
	struct slice body;
	bool ok;

	if (begun(ex)) {
		answer_cut(ex, by, why);
		return;
	}
	take_over(ex, by, why);
	if (!start_head(ex, &h, status)) {
		give_up(ex);
		return;
	}
	body = error_text(ex, &h, &ok);
	if (ok && status == 503)
		ok = http_head_add_id(&h, HTTP_FIELD_RETRY_AFTER,
				      SLICE("Retry-After"),
				      SLICE(ANSWER_RETRY_S));
	if (ok && status == 405)
		ok = http_head_add(&h, SLICE("Allow"), SLICE(
			"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE"));
	if (!ok || !send_answer(ex, &h, body, keeps_connection(ex, status)))
		give_up(ex);
}

/* ---- decisions ------------------------------------------------------------------- */

static bool set_field(struct exchange *ex, struct http_head *h,
		      struct slice name, struct slice value)
{
	struct header_op op = { HEADER_SET, name, value };

	return edit_apply(h, &op, 1, &ex->arena);
}

static bool default_type(struct exchange *ex, struct http_head *h,
			 struct slice type)
{
	return http_head_find(h, HTTP_FIELD_CONTENT_TYPE) != NULL ||
	       http_head_add_id(h, HTTP_FIELD_CONTENT_TYPE,
				SLICE("Content-Type"), type);
}

static bool make_block(struct exchange *ex, struct http_head *h,
		       const struct decision *d, struct slice *body)
{
	for (unsigned i = 0; i < d->n_headers; i++)
		if (!set_field(ex, h, d->headers[i].name,
			       d->headers[i].value))
			return false;
	*body = d->body;
	return true;
}

static struct slice find_param(const struct decision *d, struct slice name)
{
	for (unsigned i = 0; i < d->n_params; i++)
		if (slice_eq_icase(d->params[i].name, name))
			return d->params[i].value;
	return SLICE_NONE;
}

/* A JSON string of s; the decoder has seen to it that it is UTF-8. */
static size_t put_json(char *out, struct slice s)
{
	char *p = out;

	*p++ = '"';
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\') {
			*p++ = '\\';
			*p++ = (char)c;
		} else if (c < 0x20) {
			p += sprintf(p, "\\u%04x", c);
		} else {
			*p++ = (char)c;
		}
	}
	*p++ = '"';
	return (size_t)(p - out);
}

static struct slice challenge_json(struct exchange *ex,
				   const struct decision *d)
{
	size_t cap = 64 + d->challenge_type.n * 6;
	char *out, *p;

	for (unsigned i = 0; i < d->n_params; i++)
		cap += (d->params[i].name.n + d->params[i].value.n) * 6 + 8;
	out = p = arena_alloc(&ex->arena, cap);
	if (!out)
		return SLICE_NONE;
	p += sprintf(p, "{\"challenge_type\":");
	p += put_json(p, d->challenge_type);
	p += sprintf(p, ",\"params\":{");
	for (unsigned i = 0; i < d->n_params; i++) {
		if (i > 0)
			*p++ = ',';
		p += put_json(p, d->params[i].name);
		*p++ = ':';
		p += put_json(p, d->params[i].value);
	}
	p += sprintf(p, "}}\n");
	return slice_of(out, (size_t)(p - out));
}

/*
 * With www-authenticate among its params a challenge is a 401; with body (and
 * content-type) that body is what the client gets, and no param is shown.
 */
static bool make_challenge(struct exchange *ex, struct http_head *h,
			   const struct decision *d, struct slice *body)
{
	struct slice www = find_param(d, SLICE("www-authenticate"));
	struct slice own = find_param(d, SLICE("body"));
	struct slice type = find_param(d, SLICE("content-type"));

	if (www.n > 0) {
		h->status = 401;
		h->reason = http_reason(401);
		if (!set_field(ex, h, SLICE("WWW-Authenticate"), www))
			return false;
	}
	if (own.p) {
		*body = own;
		return type.n == 0 ||
		       set_field(ex, h, SLICE("Content-Type"), type);
	}
	if (www.n > 0) {
		*body = SLICE("authentication required\n");
		return true;
	}
	*body = challenge_json(ex, d);
	return body->p && set_field(ex, h, SLICE("Content-Type"),
				    SLICE("application/json"));
}

static bool make_decision(struct exchange *ex, struct http_head *h,
			  const struct decision *d, struct slice *body)
{
	*body = SLICE_NONE;
	switch (d->kind) {
	case DECISION_BLOCK:
		return make_block(ex, h, d, body);
	case DECISION_REDIRECT:
		return http_head_add_id(h, HTTP_FIELD_LOCATION,
					SLICE("Location"), d->url);
	case DECISION_CHALLENGE:
		return make_challenge(ex, h, d, body);
	case DECISION_ALLOW:
		break;
	}
	ASSERT(!"an allow is no answer");
	return false;
}

static unsigned decision_status(const struct party *p,
				const struct decision *d)
{
	if (d->kind != DECISION_CHALLENGE)
		return d->status;
	return p->agent_config->deny_status ? p->agent_config->deny_status :
		403;
}

void answer_decision(struct exchange *ex, struct party *p,
		     const struct decision *d)
{
	struct http_head h;
	struct slice body;

	take_over(ex, ENDED_AGENT, verdict_names[d->kind]);
	/* Only the deciding agent's edits, and those of this reply: what it
	 * asked for earlier was meant for another response. */
	if (!start_head(ex, &h, decision_status(p, d)) ||
	    !make_decision(ex, &h, d, &body) ||
	    !edit_apply(&h, d->response_ops, d->n_response_ops,
			&ex->arena) ||
	    (body.n > 0 && !default_type(ex, &h, SLICE(
			"text/plain; charset=utf-8"))) ||
	    !send_answer(ex, &h, body, true))
		give_up(ex);
}

/* ---- routes without an upstream ---------------------------------------------------- */

static size_t put(char *to, struct slice s)
{
	if (to && s.n)
		memcpy(to, s.p, s.n);
	return s.n;
}

/* url with {host} and {target} put in; the bytes that takes. to: NULL to
 * count. */
static size_t expand(const char *url, struct slice host, struct slice target,
		     char *to)
{
	size_t n = 0;

	while (*url) {
		size_t plain = strcspn(url, "{");

		n += put(to ? to + n : NULL, slice_of(url, plain));
		url += plain;
		if (!*url)
			break;
		n += put(to ? to + n : NULL, url[1] == 'h' ? host : target);
		url += strcspn(url, "}") + 1;
	}
	return n;
}

static bool make_location(struct exchange *ex, struct http_head *h)
{
	const char *url = ex->route->config->redirect.url;
	struct slice host = ex->meta.server_name;
	struct slice target = ex->request.head.path;
	size_t n;
	char *text;

	/* OPTIONS * */
	if (target.n == 0 || target.p[0] != '/')
		target = SLICE("/");
	n = expand(url, host, target, NULL);
	text = arena_alloc(&ex->arena, n + 1);
	if (!text)
		return false;
	expand(url, host, target, text);
	return http_head_add_id(h, HTTP_FIELD_LOCATION, SLICE("Location"),
				slice_of(text, n));
}

static bool make_respond(struct exchange *ex, struct http_head *h,
			 struct slice *body)
{
	const struct config_route *r = ex->route->config;

	for (unsigned i = 0; i < r->respond.headers.n; i++) {
		const struct config_header *f = &r->respond.headers.list[i];

		if (!edit_append(h, slice_str(f->name), slice_str(f->value),
				 &ex->arena))
			return false;
	}
	if (r->respond.body)
		*body = slice_str(r->respond.body);
	return body->n == 0 ||
	       default_type(ex, h, SLICE("text/plain; charset=utf-8"));
}

void answer_route(struct exchange *ex)
{
	const struct config_route *r = ex->route->config;
	bool redirect = r->kind == ROUTE_REDIRECT;
	struct slice body = SLICE_NONE;
	struct http_head h;

	if (redirect && ex->meta.server_name.n == 0 &&
	    strstr(r->redirect.url, "{host}")) {
		answer_error(ex, 400, ENDED_PROXY, "no_host");
		return;
	}
	take_over(ex, ENDED_DONE, "");
	if (!start_head(ex, &h, redirect ? r->redirect.status :
					   r->respond.status) ||
	    !(redirect ? make_location(ex, &h) :
			 make_respond(ex, &h, &body)) ||
	    !edit_apply(&h, ex->route->response_ops.ops,
			ex->route->response_ops.n, &ex->arena) ||
	    !flow_edit(ex, SIDE_RESPONSE, &h) ||
	    !send_answer(ex, &h, body, true))
		give_up(ex);
}
