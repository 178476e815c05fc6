#include "internal.h"

struct text_walk {
	struct arena *scratch;
	bool bad;
};

static const char *text(struct text_walk *w, struct slice s)
{
	if (!s.p)
		return "";
	if (memchr(s.p, '\0', s.n))
		w->bad = true;
	/* The frame is ours to change. */
	((char *)(uintptr_t)s.p)[s.n] = '\0';
	return s.p;
}

static void make_fields(struct text_walk *w, struct agentproxy_event *ev,
			const struct event_head *h)
{
	struct agentproxy_field *to;

	to = arena_alloc(w->scratch, h->n_fields * sizeof(*to));
	if (!to) {
		w->bad = true;
		return;
	}
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct field *f = &h->fields[i];

		to[i] = (struct agentproxy_field){
			.name = text(w, field_name(f)),
			.value = text(w, field_value(f)),
			.name_len = f->name_len, .value_len = f->value_len };
	}
	ev->fields = to;
	ev->n_fields = h->n_fields;
}

static void make_request(struct text_walk *w, struct agentproxy_event *ev,
			 const struct wire_agent_event *e)
{
	const struct event_meta *m = &e->meta;

	ev->method = text(w, e->ev.head.method);
	ev->uri = text(w, e->ev.head.uri);
	ev->client_ip = text(w, m->client_ip);
	ev->client_port = m->client_port;
	ev->request_id = text(w, m->request_id);
	ev->server_name = text(w, m->server_name);
	ev->protocol = text(w, m->protocol);
	ev->route = text(w, m->route_id);
	ev->upstream = text(w, m->upstream_id);
	ev->timestamp = text(w, m->timestamp);
	ev->tls_version = text(w, m->tls_version);
	ev->tls_cipher = text(w, m->tls_cipher);
	ev->traceparent = text(w, m->traceparent);
}

static void make_chunk(struct agentproxy_event *ev,
		       const struct wire_agent_event *e)
{
	const struct event_chunk *c = &e->ev.chunk;

	if (e->data.p) {
		((char *)(uintptr_t)e->data.p)[e->data.n] = '\0';
		ev->data = e->data.p;
	}
	ev->size = e->data.n;
	ev->index = c->index;
	ev->is_last = c->is_last;
	ev->total = c->total_known ? c->total_size : UINT64_MAX;
}

static void make_complete(struct text_walk *w, struct agentproxy_event *ev,
			  const struct event_complete *c)
{
	ev->status = c->status;
	ev->duration_ms = c->duration_ms;
	ev->request_bytes = c->request_body_size;
	ev->response_bytes = c->response_body_size;
	ev->error = text(w, c->error);
}

static void make_configure(struct text_walk *w, struct agentproxy_event *ev,
			   const struct event_configure *c)
{
	/* Not in the frame, and without room behind it. */
	struct slice s = arena_printf(w->scratch, "%.*s",
				      SLICE_FMT(c->config_json));

	w->bad |= !s.p;
	ev->config = s.p;
	ev->config_version = text(w, c->version);
}

bool event_make(struct agentproxy_event *ev, const struct wire_agent_event *e,
		struct arena *scratch)
{
	struct text_walk w = { scratch, false };

	*ev = (struct agentproxy_event){
		.type = (enum agentproxy_type)e->ev.type,
		.method = "", .uri = "", .client_ip = "", .request_id = "",
		.server_name = "", .protocol = "", .route = "",
		.upstream = "", .timestamp = "", .tls_version = "",
		.tls_cipher = "", .traceparent = "", .data = "",
		.total = UINT64_MAX, .error = "", .config = "",
		.config_version = "" };
	ev->id = text(&w, e->correlation_id);
	switch (e->ev.type) {
	case EVENT_REQUEST_HEAD:
		make_request(&w, ev, e);
		make_fields(&w, ev, &e->ev.head);
		break;
	case EVENT_RESPONSE_HEAD:
		ev->status = e->ev.head.status;
		make_fields(&w, ev, &e->ev.head);
		break;
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		make_chunk(ev, e);
		break;
	case EVENT_COMPLETE:
		make_complete(&w, ev, &e->ev.complete);
		break;
	case EVENT_CONFIGURE:
		make_configure(&w, ev, &e->ev.configure);
		break;
	case EVENT_N:
		return false;
	}
	return !w.bad;
}

EXPORT const char *agentproxy_field(const struct agentproxy_event *ev,
				    const char *name)
{
	for (unsigned i = 0; i < ev->n_fields; i++)
		if (strcmp(ev->fields[i].name, name) == 0)
			return ev->fields[i].value;
	return NULL;
}
