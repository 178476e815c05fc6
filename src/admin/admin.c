#include "admin/admin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/mem.h"

#define HEADER_BYTES	(16 * 1024)
#define BODY_BYTES	1024
#define TIMEOUT_S	10

struct admin {
	struct evhttp *http;
	struct evhttp_bound_socket *listening;	/* NULL: not any more */
	admin_view_fn *view;
	void *arg;
};

static const char *const type_names[] = {
	[ADMIN_TEXT] = "text/plain; charset=utf-8",
	[ADMIN_JSON] = "application/json",
	[ADMIN_METRICS] = "text/plain; version=0.0.4; charset=utf-8",
	[ADMIN_HTML] = "text/html; charset=utf-8",
};

static const char *reason_of(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 503:
		return "Service Unavailable";
	}
	return "Internal Server Error";
}

static void header(struct evhttp_request *req, const char *name,
		   const char *value)
{
	(void)evhttp_add_header(evhttp_request_get_output_headers(req), name,
				value);
}

/* text is copied; a HEAD gets its length only. */
static void answer(struct evhttp_request *req, unsigned status,
		   enum admin_type type, const char *text, size_t n)
{
	struct evbuffer *body = evhttp_request_get_output_buffer(req);
	char length[24];

	snprintf(length, sizeof(length), "%zu", n);
	header(req, "Content-Type", type_names[type]);
	header(req, "Content-Length", length);
	header(req, "Cache-Control", "no-store");
	header(req, "X-Content-Type-Options", "nosniff");
	if (type == ADMIN_HTML)
		header(req, "Content-Security-Policy", "default-src 'none'; "
		       "style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
		       "connect-src 'self'; img-src data:; base-uri 'none'; "
		       "form-action 'none'; frame-ancestors 'none'");
	if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD &&
	    evbuffer_add(body, text, n) < 0)
		header(req, "Connection", "close");
	evhttp_send_reply(req, (int)status, reason_of(status), NULL);
}

static void answer_short(struct evhttp_request *req, unsigned status)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%s\n", reason_of(status));

	answer(req, status, ADMIN_TEXT, text, (size_t)n);
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct admin *a = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type method = evhttp_request_get_command(req);
	enum admin_type type = ADMIN_TEXT;
	struct admin_view view = { 0 };
	char *text = NULL;
	size_t n = 0;
	unsigned status;
	FILE *out;

	if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
		header(req, "Allow", "GET, HEAD");
		answer_short(req, 405);
		return;
	}
	out = open_memstream(&text, &n);
	if (!out) {
		answer_short(req, 500);
		return;
	}
	a->view(a->arg, &view);
	status = admin_page(path && *path ? path : "/", &view, out, &type);
	if (fclose(out) != 0)
		answer_short(req, 500);
	else if (status == 404)
		answer_short(req, 404);
	else
		answer(req, status, type, text, n);
	free(text);
}

struct admin *admin_new(struct event_base *base, int fd, admin_view_fn *view,
			void *arg)
{
	struct admin *a = mem_zalloc(sizeof(*a));

	if (!a)
		goto fail;
	a->view = view;
	a->arg = arg;
	a->http = evhttp_new(base);
	if (!a->http)
		goto fail;
	/* All that evhttp knows, so that we are asked and can say 405. */
	evhttp_set_allowed_methods(a->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST |
		EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
		EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT |
		EVHTTP_REQ_PATCH);
	evhttp_set_max_headers_size(a->http, HEADER_BYTES);
	evhttp_set_max_body_size(a->http, BODY_BYTES);
	evhttp_set_timeout(a->http, TIMEOUT_S);
	evhttp_set_gencb(a->http, on_request, a);
	a->listening = evhttp_accept_socket_with_handle(a->http, fd);
	if (!a->listening)
		goto fail;
	return a;
fail:
	close(fd);
	if (a && a->http)
		evhttp_free(a->http);
	mem_free(a);
	return NULL;
}

void admin_stop_accepting(struct admin *a)
{
	if (a->listening)
		evhttp_del_accept_socket(a->http, a->listening);
	a->listening = NULL;
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	evhttp_free(a->http);
	mem_free(a);
}
