/* Events as JSON. Unknown optionals are null, as the reference writes them. */
#include "wire/encode.h"
#include "wire/put.h"

/* {"correlation_id":"..." */
static char *put_id(char *o, const struct event_meta *m)
{
	o = PUT_LIT(o, "{\"correlation_id\":\"");
	o = put_bytes(o, m->correlation_id, EVENT_ID_LEN);
	return put_byte(o, '"');
}

static inline char *put_optional(char *o, struct slice s, unsigned *transcoded)
{
	return s.n ? put_json_text(o, s, transcoded) : PUT_LIT(o, "null");
}

static char *put_meta(char *o, const struct event_meta *m, unsigned *t)
{
	o = put_id(o, m);
	o = put_json_text(PUT_LIT(o, ",\"request_id\":"), m->request_id, t);
	o = put_json_text(PUT_LIT(o, ",\"client_ip\":"), m->client_ip, t);
	o = put_json_uint(PUT_LIT(o, ",\"client_port\":"), m->client_port);
	o = put_optional(PUT_LIT(o, ",\"server_name\":"), m->server_name, t);
	o = put_json_text(PUT_LIT(o, ",\"protocol\":"), m->protocol, t);
	o = put_optional(PUT_LIT(o, ",\"tls_version\":"), m->tls_version, t);
	o = put_optional(PUT_LIT(o, ",\"tls_cipher\":"), m->tls_cipher, t);
	o = put_optional(PUT_LIT(o, ",\"route_id\":"), m->route_id, t);
	o = put_optional(PUT_LIT(o, ",\"upstream_id\":"), m->upstream_id, t);
	o = put_json_text(PUT_LIT(o, ",\"timestamp\":"), m->timestamp, t);
	o = put_optional(PUT_LIT(o, ",\"traceparent\":"), m->traceparent, t);
	return put_byte(o, '}');
}

char *encode_json_fields(char *o, const struct wire_format *f,
			 const struct event *ev, const struct fields_index *x,
			 unsigned *t)
{
	const struct field *fields = ev->head.fields;
	char *start;

	o = PUT_LIT(o, ",\"headers\":{");
	start = o;
	if (encode_has_pseudo(f, ev)) {
		o = PUT_LIT(o, "\":method\":[");
		o = put_json_text(o, ev->head.method, t);
		o = PUT_LIT(o, "],\":path\":[");
		o = put_json_text(o, ev->head.uri, t);
		o = PUT_LIT(o, "],");
	}
	for (unsigned i = 0; i < ev->head.n_fields; i++) {
		if (!fields_leads(x, i) || encode_hides(f, &fields[i]))
			continue;
		o = put_json_name(o, fields[i].name, fields[i].name_len);
		o = PUT_LIT(o, ":[");
		for (uint32_t v = i; v != FIELDS_END; v = fields_next(x, v)) {
			o = put_json_text(o, field_value(&fields[v]), t);
			*o++ = ',';
		}
		o = PUT_LIT(o - 1, "],");
	}
	if (o != start)
		o--;
	return PUT_LIT(o, "}}");
}

static unsigned clamp_status(unsigned status)
{
	return status < 1000 ? status : 999;
}

char *encode_json_head(char *o, const struct wire_format *f,
		       const struct event *ev, const struct fields_index *x,
		       unsigned *transcoded)
{
	if (ev->type == EVENT_REQUEST_HEAD) {
		o = put_meta(PUT_LIT(o, "{\"metadata\":"), ev->meta,
			     transcoded);
		o = put_json_text(PUT_LIT(o, ",\"method\":"), ev->head.method,
				  transcoded);
		o = put_json_text(PUT_LIT(o, ",\"uri\":"), ev->head.uri,
				  transcoded);
	} else {
		o = put_id(o, ev->meta);
		o = put_json_uint(PUT_LIT(o, ",\"status\":"),
				  clamp_status(ev->head.status));
	}
	return encode_json_fields(o, f, ev, x, transcoded);
}

char *encode_json_chunk_front(char *o, const struct event *ev)
{
	return PUT_LIT(put_id(o, ev->meta), ",\"data\":\"");
}

char *encode_json_chunk_back(char *o, const struct event *ev)
{
	const struct event_chunk *c = &ev->chunk;

	o = put_json_bool(PUT_LIT(o, "\",\"is_last\":"), c->is_last);
	o = PUT_LIT(o, ",\"total_size\":");
	o = c->total_known ? put_json_uint(o, c->total_size)
			   : PUT_LIT(o, "null");
	o = put_json_uint(PUT_LIT(o, ",\"chunk_index\":"), c->index);
	o = ev->type == EVENT_REQUEST_CHUNK
		    ? PUT_LIT(o, ",\"bytes_received\":")
		    : PUT_LIT(o, ",\"bytes_sent\":");
	return put_byte(put_json_uint(o, c->bytes_so_far), '}');
}

char *encode_json_complete_body(char *o, const struct event *ev,
				unsigned *transcoded)
{
	const struct event_complete *c = &ev->complete;

	o = put_id(o, ev->meta);
	o = put_json_uint(PUT_LIT(o, ",\"status\":"),
			  clamp_status(c->status));
	o = put_json_uint(PUT_LIT(o, ",\"duration_ms\":"), c->duration_ms);
	o = put_json_uint(PUT_LIT(o, ",\"request_body_size\":"),
			  c->request_body_size);
	o = put_json_uint(PUT_LIT(o, ",\"response_body_size\":"),
			  c->response_body_size);
	o = put_json_uint(PUT_LIT(o, ",\"upstream_attempts\":"),
			  c->upstream_attempts);
	return put_optional(PUT_LIT(o, ",\"error\":"), c->error, transcoded);
}

char *encode_json_complete(char *o, const struct event *ev,
			   unsigned *transcoded)
{
	return put_byte(encode_json_complete_body(o, ev, transcoded), '}');
}

char *encode_json_configure(char *o, const struct event *ev,
			    unsigned *transcoded)
{
	const struct event_configure *c = &ev->configure;

	o = put_json_text(PUT_LIT(o, "{\"correlation_id\":"), c->id,
			  transcoded);
	o = PUT_LIT(o, ",\"config\":");
	o = put_bytes(o, c->config_json.p, c->config_json.n);
	o = put_optional(PUT_LIT(o, ",\"config_version\":"), c->version,
			 transcoded);
	return put_byte(o, '}');
}
