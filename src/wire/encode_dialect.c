/*
 * Events as go-v2 and as v1 want them (protocol pages 5.9, 2, 3): JSON under
 * other names and in other frames. v1 wraps what v2 sends, and gives a few
 * sizes under the names that its SDKs look for as well.
 */
#include "wire/encode.h"
#include "wire/put.h"

size_t encode_dialect_max(const struct wire_format *f)
{
	return f->dialect == WIRE_V1 ? FRAME_V1_MAX + FRAME_V1_HEAD
				     : FRAME_MAX + 4;
}

/* ---- v1 ---------------------------------------------------------------- */

static const char *const v1_names[EVENT_N] = {
	[EVENT_REQUEST_HEAD] = "request_headers",
	[EVENT_REQUEST_CHUNK] = "request_body_chunk",
	[EVENT_RESPONSE_HEAD] = "response_headers",
	[EVENT_RESPONSE_CHUNK] = "response_body_chunk",
	[EVENT_COMPLETE] = "request_complete",
	[EVENT_CONFIGURE] = "configure",
};

/* After the frame's head, up to the payload. */
static char *v1_open(char *start, enum event_type type)
{
	char *o = PUT_LIT(start + FRAME_V1_HEAD,
			  "{\"version\":1,\"event_type\":\"");

	o = put_bytes(o, v1_names[type], strlen(v1_names[type]));
	return PUT_LIT(o, "\",\"payload\":");
}

static char *v1_close(char *start, char *o)
{
	o = put_byte(o, '}');
	frame_write_v1_head(start, (size_t)(o - start) - FRAME_V1_HEAD);
	return o;
}

/* ---- go-v2 ------------------------------------------------------------- */

static char *go_close(char *start, char *o, uint8_t type)
{
	frame_write_head(start, type, (size_t)(o - start) - FRAME_HEAD);
	return o;
}

static char *go_id(char *o, const struct event *ev)
{
	return put_json_u64(PUT_LIT(o, "{\"request_id\":"),
			    ev->meta->go_request_id);
}

#define GO_OPTIONAL(o, key, s, t)					\
	((s).n ? put_json_text(PUT_LIT((o), ",\"" key "\":"), (s), (t)) : (o))

static char *go_meta(char *o, const struct event_meta *m, unsigned *t)
{
	o = PUT_LIT(o, ",\"metadata\":{\"correlation_id\":\"");
	o = put_bytes(o, m->correlation_id, EVENT_ID_LEN);
	o = put_json_text(PUT_LIT(o, "\",\"client_ip\":"), m->client_ip, t);
	o = put_json_uint(PUT_LIT(o, ",\"client_port\":"), m->client_port);
	o = GO_OPTIONAL(o, "server_name", m->server_name, t);
	o = put_json_text(PUT_LIT(o, ",\"protocol\":"), m->protocol, t);
	o = GO_OPTIONAL(o, "tls_version", m->tls_version, t);
	o = GO_OPTIONAL(o, "route_id", m->route_id, t);
	o = GO_OPTIONAL(o, "upstream_id", m->upstream_id, t);
	o = GO_OPTIONAL(o, "traceparent", m->traceparent, t);
	return PUT_LIT(o, "}}");
}

static char *go_head(char *start, const struct wire_format *f,
		     const struct event *ev, const struct fields_index *x,
		     unsigned *t)
{
	char *o = go_id(start + FRAME_HEAD, ev);

	if (ev->type == EVENT_REQUEST_HEAD) {
		o = put_json_text(PUT_LIT(o, ",\"method\":"), ev->head.method,
				  t);
		o = put_json_text(PUT_LIT(o, ",\"uri\":"), ev->head.uri, t);
	} else {
		o = put_json_uint(PUT_LIT(o, ",\"status_code\":"),
				  ev->head.status < 1000 ? ev->head.status
							 : 999);
	}
	/* It closes the whole object: that brace is not the last one here. */
	o = encode_json_fields(o, f, ev, x, t) - 1;
	o = put_json_bool(PUT_LIT(o, ",\"has_body\":"), ev->head.has_body);
	o = ev->type == EVENT_REQUEST_HEAD ? go_meta(o, ev->meta, t)
					   : put_byte(o, '}');
	return go_close(start, o, frame_type_of(ev->type));
}

/* ---- both -------------------------------------------------------------- */

char *encode_dialect_head(char *start, const struct wire_format *f,
			  const struct event *ev, const struct fields_index *x,
			  unsigned *transcoded)
{
	char *o;

	if (f->dialect == WIRE_GO)
		return go_head(start, f, ev, x, transcoded);
	o = v1_open(start, ev->type);
	return v1_close(start, encode_json_head(o, f, ev, x, transcoded));
}

char *encode_dialect_complete(char *start, const struct wire_format *f,
			      const struct event *ev, unsigned *transcoded)
{
	const struct event_complete *c = &ev->complete;
	char *o;

	if (f->dialect == WIRE_GO) {
		o = go_id(start + FRAME_HEAD, ev);
		o = PUT_LIT(o, ",\"reason\":\"complete\"}");
		return go_close(start, o, FRAME_GO_CANCEL);
	}
	o = v1_open(start, ev->type);
	o = encode_json_complete_body(o, ev, transcoded);
	o = put_json_uint(PUT_LIT(o, ",\"request_size\":"),
			  c->request_body_size);
	o = put_json_uint(PUT_LIT(o, ",\"response_size\":"),
			  c->response_body_size);
	return v1_close(start, put_byte(o, '}'));
}

char *encode_dialect_configure(char *start, const struct event *ev,
			       unsigned *transcoded)
{
	const struct event_configure *c = &ev->configure;
	char *o = v1_open(start, ev->type);

	o = put_json_text(PUT_LIT(o, "{\"agent_id\":"), c->agent_id,
			  transcoded);
	o = PUT_LIT(o, ",\"config\":");
	o = put_bytes(o, c->config_json.p, c->config_json.n);
	return v1_close(start, put_byte(o, '}'));
}

static void go_edges(struct encode_edges *e, const struct event *ev)
{
	char *o = go_id(e->front + FRAME_HEAD, ev), *back;

	o = put_json_uint(PUT_LIT(o, ",\"chunk_index\":"), ev->chunk.index);
	o = PUT_LIT(o, ",\"data\":\"");
	e->n_front = (size_t)(o - e->front);
	back = put_json_bool(PUT_LIT(e->back, "\",\"is_last\":"),
			     ev->chunk.is_last);
	e->n_back = (size_t)(put_byte(back, '}') - e->back);
}

static void v1_edges(struct encode_edges *e, const struct event *ev)
{
	char *o = v1_open(e->front, ev->type), *back;

	e->n_front = (size_t)(encode_json_chunk_front(o, ev) - e->front);
	back = encode_json_chunk_back(e->back, ev);
	if (ev->type == EVENT_RESPONSE_CHUNK) {
		/* The SDKs read the request's name here as well. */
		back = PUT_LIT(back - 1, ",\"bytes_received\":");
		back = put_byte(put_json_uint(back, ev->chunk.bytes_so_far),
				'}');
	}
	e->n_back = (size_t)(put_byte(back, '}') - e->back);
}

void encode_dialect_edges(struct encode_edges *e, const struct wire_format *f,
			  const struct event *ev, size_t data)
{
	if (f->dialect == WIRE_GO) {
		go_edges(e, ev);
		frame_write_head(e->front, frame_type_of(ev->type),
				 e->n_front - FRAME_HEAD + data + e->n_back);
	} else {
		v1_edges(e, ev);
		frame_write_v1_head(e->front, e->n_front - FRAME_V1_HEAD +
				    data + e->n_back);
	}
}
