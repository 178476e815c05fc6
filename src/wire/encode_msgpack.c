/* Events as MessagePack: structs as arrays, or as maps with string keys. */
#include "wire/encode.h"
#include "wire/put.h"
#include "wire/utf8.h"

static char *put_id(char *o, const struct event_meta *m)
{
	o = put_byte(o, 0xd9);
	o = put_byte(o, EVENT_ID_LEN);
	return put_bytes(o, m->correlation_id, EVENT_ID_LEN);
}

/* Most texts of an event are short and ASCII: those need no call. */
static inline char *put_text(char *o, struct slice s, unsigned *transcoded)
{
	if (LIKELY(s.n < 32) && LIKELY(utf8_copy(o + 1, s.p, s.n))) {
		*o = (char)(0xa0 | s.n);
		return o + 1 + s.n;
	}
	return put_msgpack_text(o, s, transcoded);
}

static inline char *put_optional(char *o, struct slice s, unsigned *transcoded)
{
	return s.n ? put_text(o, s, transcoded) : put_nil(o);
}

/* protocol to upstream_id. */
static char *put_route(char *o, const struct event_meta *m, unsigned *t)
{
	o = put_msgpack_text(o, m->protocol, t);
	o = put_optional(o, m->tls_version, t);
	o = put_optional(o, m->tls_cipher, t);
	o = put_optional(o, m->route_id, t);
	return put_optional(o, m->upstream_id, t);
}

void event_route_init(struct event_route *r, struct slice route_id,
		      struct slice upstream_id)
{
	const struct event_meta m = {
		.protocol = SLICE("HTTP/1.1"),
		.route_id = route_id, .upstream_id = upstream_id,
	};
	char o[sizeof(r->packed)];
	unsigned transcoded = 0;

	*r = (struct event_route){
		.route_id = route_id, .upstream_id = upstream_id,
	};
	if (PUT_MSGPACK_MAX(m.protocol.n) + PUT_MSGPACK_MAX(route_id.n) +
	    PUT_MSGPACK_MAX(upstream_id.n) + 2 > sizeof(o))
		return;
	r->n = (uint8_t)(put_route(o, &m, &transcoded) - o);
	/* It would have to be counted each time. */
	if (transcoded)
		r->n = 0;
	memcpy(r->packed, o, r->n);
}

static char *put_meta_array(char *o, const struct event_meta *m, unsigned *t)
{
	o = put_byte(o, 0x9c);
	o = put_id(o, m);
	o = put_msgpack_text(o, m->request_id, t);
	o = put_text(o, m->client_ip, t);
	o = put_msgpack_uint(o, m->client_port);
	o = put_optional(o, m->server_name, t);
	if (LIKELY(m->route && m->route->n)) {
		/* All of it: what is too much is written over. */
		memcpy(o, m->route->packed, sizeof(m->route->packed));
		o += m->route->n;
	} else {
		o = put_route(o, m, t);
	}
	o = put_text(o, m->timestamp, t);
	return put_optional(o, m->traceparent, t);
}

#define PUT_OPTIONAL(o, key, s, t)					\
	((s).n ? put_msgpack_text(PUT_MSGPACK_KEY((o), key), (s), (t)) : (o))

static char *put_meta_map(char *o, const struct event_meta *m, unsigned *t)
{
	unsigned n = 6 + !!m->server_name.n + !!m->tls_version.n +
		     !!m->tls_cipher.n + !!m->route_id.n + !!m->upstream_id.n +
		     !!m->traceparent.n;

	o = put_msgpack_map(o, n);
	o = put_id(PUT_MSGPACK_KEY(o, "correlation_id"), m);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "request_id"), m->request_id,
			     t);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "client_ip"), m->client_ip, t);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "client_port"),
			     m->client_port);
	o = PUT_OPTIONAL(o, "server_name", m->server_name, t);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "protocol"), m->protocol, t);
	o = PUT_OPTIONAL(o, "tls_version", m->tls_version, t);
	o = PUT_OPTIONAL(o, "tls_cipher", m->tls_cipher, t);
	o = PUT_OPTIONAL(o, "route_id", m->route_id, t);
	o = PUT_OPTIONAL(o, "upstream_id", m->upstream_id, t);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "timestamp"), m->timestamp, t);
	return PUT_OPTIONAL(o, "traceparent", m->traceparent, t);
}

static char *put_some_values(char *o, const struct field *fields,
			     const struct fields_index *x, uint32_t first,
			     unsigned *t)
{
	unsigned n = 0;

	for (uint32_t i = first; i != FIELDS_END; i = fields_next(x, i))
		n++;
	o = put_msgpack_array(o, n);
	for (uint32_t i = first; i != FIELDS_END; i = fields_next(x, i))
		o = put_msgpack_text(o, field_value(&fields[i]), t);
	return o;
}

static inline char *put_one_value(char *o, const struct field *f, unsigned *t)
{
	return put_msgpack_text(put_byte(o, 0x91), field_value(f), t);
}

/* The proxy's own: nothing about their bytes is left to be asked. */
static inline char *put_own_fields(char *o, const struct field *f,
				   const struct field *end)
{
	for (; f < end; f++) {
		const char *name = f->name, *value = f->value;
		size_t n_name = f->name_len, n_value = f->value_len;

		o = put_byte(o, 0xa0 | (unsigned)n_name);
		(void)utf8_copy(o, name, n_name);
		o = put_byte(o + n_name, 0x91);
		o = put_msgpack_str_head(o, n_value);
		(void)utf8_copy(o, value, n_value);
		o += n_value;
	}
	return o;
}

/* No name stands there twice. */
static char *put_plain_fields(char *o, const struct event_head *h,
			      unsigned *t)
{
	const struct field *f = h->fields, *end = f + h->n_fields;

	o = put_msgpack_map(o, h->n_fields);
	for (; f < end - h->n_own; f++) {
		o = f->flags & FIELD_LOWER ?
			put_msgpack_low_name(o, f->name, f->name_len) :
			put_msgpack_name(o, f->name, f->name_len);
		o = put_one_value(o, f, t);
	}
	return put_own_fields(o, f, end);
}

static char *put_fields(char *o, const struct wire_format *f,
			const struct event *ev, const struct fields_index *x,
			unsigned *t)
{
	const struct field *fields = ev->head.fields;

	if (LIKELY(!x->links && !f->pseudo_headers))
		return put_plain_fields(o, &ev->head, t);
	o = put_msgpack_map(o, encode_count_names(f, ev, x));
	if (encode_has_pseudo(f, ev)) {
		o = put_byte(PUT_MSGPACK_KEY(o, ":method"), 0x91);
		o = put_msgpack_text(o, ev->head.method, t);
		o = put_byte(PUT_MSGPACK_KEY(o, ":path"), 0x91);
		o = put_msgpack_text(o, ev->head.uri, t);
	}
	for (unsigned i = 0; i < ev->head.n_fields; i++) {
		if (!fields_leads(x, i) || encode_hides(f, &fields[i]))
			continue;
		o = put_msgpack_name(o, fields[i].name, fields[i].name_len);
		if (fields_next(x, i) == FIELDS_END)
			o = put_one_value(o, &fields[i], t);
		else
			o = put_some_values(o, fields, x, i, t);
	}
	return o;
}

static unsigned clamp_status(unsigned status)
{
	return status < 1000 ? status : 999;
}

static char *put_request_head(char *o, const struct wire_format *f,
			      const struct event *ev,
			      const struct fields_index *x, unsigned *t)
{
	if (LIKELY(f->shape == WIRE_ARRAY)) {
		o = put_meta_array(put_byte(o, 0x94), ev->meta, t);
		o = put_text(o, ev->head.method, t);
		o = put_msgpack_text(o, ev->head.uri, t);
		return put_fields(o, f, ev, x, t);
	}
	o = PUT_MSGPACK_KEY(put_byte(o, 0x84), "metadata");
	o = put_meta_map(o, ev->meta, t);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "method"), ev->head.method, t);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "uri"), ev->head.uri, t);
	return put_fields(PUT_MSGPACK_KEY(o, "headers"), f, ev, x, t);
}

char *encode_msgpack_head(char *o, const struct wire_format *f,
			  const struct event *ev, const struct fields_index *x,
			  unsigned *transcoded)
{
	unsigned status = clamp_status(ev->head.status);

	if (ev->type == EVENT_REQUEST_HEAD)
		return put_request_head(o, f, ev, x, transcoded);
	if (LIKELY(f->shape == WIRE_ARRAY)) {
		o = put_id(put_byte(o, 0x93), ev->meta);
		o = put_msgpack_uint(o, status);
		return put_fields(o, f, ev, x, transcoded);
	}
	o = PUT_MSGPACK_KEY(put_byte(o, 0x83), "correlation_id");
	o = put_id(o, ev->meta);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "status"), status);
	return put_fields(PUT_MSGPACK_KEY(o, "headers"), f, ev, x, transcoded);
}

char *encode_msgpack_chunk_front(char *o, const struct wire_format *f,
				 const struct event *ev, size_t size)
{
	if (f->shape == WIRE_ARRAY) {
		o = put_id(put_byte(o, 0x96), ev->meta);
	} else {
		o = put_byte(o, ev->chunk.total_known ? 0x86 : 0x85);
		o = put_id(PUT_MSGPACK_KEY(o, "correlation_id"), ev->meta);
		o = PUT_MSGPACK_KEY(o, "data");
	}
	return f->raw_body ? put_msgpack_bin_head(o, size)
			   : put_msgpack_str_head(o, size);
}

char *encode_msgpack_chunk_back(char *o, const struct wire_format *f,
				const struct event *ev)
{
	const struct event_chunk *c = &ev->chunk;

	if (f->shape == WIRE_ARRAY) {
		o = put_msgpack_bool(o, c->is_last);
		o = c->total_known ? put_msgpack_uint(o, c->total_size)
				   : put_nil(o);
		o = put_msgpack_uint(o, c->index);
		return put_msgpack_uint(o, c->bytes_so_far);
	}
	o = put_msgpack_bool(PUT_MSGPACK_KEY(o, "is_last"), c->is_last);
	if (c->total_known)
		o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "total_size"),
				     c->total_size);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "chunk_index"), c->index);
	o = ev->type == EVENT_REQUEST_CHUNK
		    ? PUT_MSGPACK_KEY(o, "bytes_received")
		    : PUT_MSGPACK_KEY(o, "bytes_sent");
	return put_msgpack_uint(o, c->bytes_so_far);
}

char *encode_msgpack_complete(char *o, const struct wire_format *f,
			      const struct event *ev, unsigned *transcoded)
{
	const struct event_complete *c = &ev->complete;
	unsigned status = clamp_status(c->status);

	if (f->shape == WIRE_ARRAY) {
		o = put_id(put_byte(o, 0x97), ev->meta);
		o = put_msgpack_uint(o, status);
		o = put_msgpack_uint(o, c->duration_ms);
		o = put_msgpack_uint(o, c->request_body_size);
		o = put_msgpack_uint(o, c->response_body_size);
		o = put_msgpack_uint(o, c->upstream_attempts);
		return put_optional(o, c->error, transcoded);
	}
	o = put_byte(o, c->error.n ? 0x87 : 0x86);
	o = put_id(PUT_MSGPACK_KEY(o, "correlation_id"), ev->meta);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "status"), status);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "duration_ms"),
			     c->duration_ms);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "request_body_size"),
			     c->request_body_size);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "response_body_size"),
			     c->response_body_size);
	o = put_msgpack_uint(PUT_MSGPACK_KEY(o, "upstream_attempts"),
			     c->upstream_attempts);
	return PUT_OPTIONAL(o, "error", c->error, transcoded);
}

char *encode_msgpack_configure(char *o, const struct wire_format *f,
			       const struct event *ev, struct slice config,
			       unsigned *transcoded)
{
	const struct event_configure *c = &ev->configure;

	if (f->shape == WIRE_ARRAY) {
		o = put_msgpack_text(put_byte(o, 0x93), c->id, transcoded);
		o = put_bytes(o, config.p, config.n);
		return put_optional(o, c->version, transcoded);
	}
	o = put_byte(o, c->version.n ? 0x83 : 0x82);
	o = put_msgpack_text(PUT_MSGPACK_KEY(o, "correlation_id"), c->id,
			     transcoded);
	o = PUT_MSGPACK_KEY(o, "config");
	o = put_bytes(o, config.p, config.n);
	return PUT_OPTIONAL(o, "config_version", c->version, transcoded);
}
