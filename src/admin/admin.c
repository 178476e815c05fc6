#include "admin/admin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/list.h"
#include "base/mem.h"

#define HEADER_BYTES	(16 * 1024)
#define BODY_BYTES	1024
#define TIMEOUT_S	10

/* Nobody needs more; a client that comes then takes the place of the one that
 * has asked nothing for longest, be it a slow one on purpose. */
#define CONNECTIONS_MAX	64
/* A connection that has ended keeps its descriptor no longer than this. */
static const struct timeval look_every = { .tv_usec = 250000 };
/* All that evhttp may know, so that we are asked and can say 405. */
#define ALL_METHODS	0xffff

struct admin {
	struct evhttp *http;
	struct evhttp_bound_socket *listening;	/* NULL: not any more */
	admin_view_fn *view;
	void *arg;
	struct cds_list_head peers;		/* quietest first */
	unsigned n_peers;
	struct event *look;			/* for those that are gone */
};

/* A connection. evhttp counts none and tells of the end of none, so we hold a
 * reference: what has no callbacks any more has been let go. Its descriptor
 * lives as long as the reference, for libevent still watches it: another one
 * with its number would never be heard of. */
struct peer {
	struct cds_list_head node;
	struct bufferevent *bev;
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

/* ---- connections ---------------------------------------------------------- */

static void peer_free(struct admin *a, struct peer *p)
{
	cds_list_del(&p->node);
	a->n_peers--;
	bufferevent_decref(p->bev);
	mem_free(p);
}

static void forget_gone(struct admin *a)
{
	struct peer *p, *next;

	cds_list_for_each_entry_safe(p, next, &a->peers, node) {
		bufferevent_data_cb read_cb, write_cb;
		bufferevent_event_cb event_cb;
		void *arg;

		bufferevent_getcb(p->bev, &read_cb, &write_cb, &event_cb,
				  &arg);
		if (!event_cb)
			peer_free(a, p);
	}
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct admin *a = arg;

	forget_gone(a);
	if (!a->n_peers)
		event_del(a->look);
}

/* evhttp sees its end, and closes it. */
static void drop_quietest(struct admin *a)
{
	struct peer *p = caa_container_of(a->peers.next, struct peer, node);

	shutdown(bufferevent_getfd(p->bev), SHUT_RDWR);
	peer_free(a, p);
}

/* What evhttp is to talk through to a new client. NULL, without memory: it
 * makes its own, which is not counted. */
static struct bufferevent *on_peer(struct event_base *base, void *arg)
{
	struct admin *a = arg;
	struct peer *p = mem_zalloc(sizeof(*p));

	/* With CLOSE_ON_FREE evhttp only shuts it down. */
	if (p)
		p->bev = bufferevent_socket_new(base, -1,
						BEV_OPT_CLOSE_ON_FREE);
	if (!p || !p->bev) {
		mem_free(p);
		return NULL;
	}
	forget_gone(a);
	if (a->n_peers == CONNECTIONS_MAX)
		drop_quietest(a);
	bufferevent_incref(p->bev);
	cds_list_add_tail(&p->node, &a->peers);
	a->n_peers++;
	if (!event_pending(a->look, EV_TIMEOUT, NULL))
		(void)event_add(a->look, &look_every);
	return p->bev;
}

static void peer_spoke(struct admin *a, struct evhttp_request *req)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(req);
	struct bufferevent *bev =
		conn ? evhttp_connection_get_bufferevent(conn) : NULL;
	struct peer *p;

	cds_list_for_each_entry(p, &a->peers, node) {
		if (p->bev != bev)
			continue;
		cds_list_del(&p->node);
		cds_list_add_tail(&p->node, &a->peers);
		return;
	}
}

/* ---- requests ------------------------------------------------------------- */

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

	peer_spoke(a, req);
	if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
		header(req, "Allow", "GET, HEAD");
		/* Has it a body? evhttp knows that of some methods only. */
		header(req, "Connection", "close");
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
	CDS_INIT_LIST_HEAD(&a->peers);
	a->http = evhttp_new(base);
	a->look = event_new(base, -1, EV_PERSIST, on_look, a);
	if (!a->http || !a->look)
		goto fail;
	evhttp_set_allowed_methods(a->http, ALL_METHODS);
	evhttp_set_max_headers_size(a->http, HEADER_BYTES);
	evhttp_set_max_body_size(a->http, BODY_BYTES);
	evhttp_set_timeout(a->http, TIMEOUT_S);
	evhttp_set_gencb(a->http, on_request, a);
	evhttp_set_bevcb(a->http, on_peer, a);
	a->listening = evhttp_accept_socket_with_handle(a->http, fd);
	if (!a->listening)
		goto fail;
	return a;
fail:
	close(fd);
	if (a && a->http)
		evhttp_free(a->http);
	if (a && a->look)
		event_free(a->look);
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
	forget_gone(a);
	event_free(a->look);
	mem_free(a);
}
