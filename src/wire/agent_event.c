/* The agent's side: events as an agent reads them. */
#include "wire/base64.h"
#include "wire/codec.h"
#include "wire/values.h"

#define FIELDS_MAX	4096u
#define CONFIG_MAX	(256u * 1024)

struct agent_walk {
	struct values v;
	struct wire_agent_event *e;
	struct field *fields;
	unsigned n_fields;
	bool raw_body;
};

static void read_id(struct agent_walk *w)
{
	struct wire_agent_event *e = w->e;

	if (values_str(&w->v, &e->correlation_id) &&
	    e->correlation_id.n == EVENT_ID_LEN)
		memcpy(e->meta.correlation_id, e->correlation_id.p,
		       EVENT_ID_LEN);
}

enum { META_ID, META_REQUEST, META_IP, META_PORT, META_SERVER, META_PROTOCOL,
       META_TLS, META_CIPHER, META_ROUTE, META_UPSTREAM, META_TIME, META_TRACE,
       META_N };
static const struct slice meta_names[META_N] = {
	{ "correlation_id", 14 }, { "request_id", 10 }, { "client_ip", 9 },
	{ "client_port", 11 }, { "server_name", 11 }, { "protocol", 8 },
	{ "tls_version", 11 }, { "tls_cipher", 10 }, { "route_id", 8 },
	{ "upstream_id", 11 }, { "timestamp", 9 }, { "traceparent", 11 },
};

static void read_meta(struct agent_walk *w)
{
	struct event_meta *m = &w->e->meta;
	struct slice *const slots[META_N] = {
		[META_REQUEST] = &m->request_id, [META_IP] = &m->client_ip,
		[META_SERVER] = &m->server_name,
		[META_PROTOCOL] = &m->protocol, [META_TLS] = &m->tls_version,
		[META_CIPHER] = &m->tls_cipher, [META_ROUTE] = &m->route_id,
		[META_UPSTREAM] = &m->upstream_id,
		[META_TIME] = &m->timestamp, [META_TRACE] = &m->traceparent,
	};
	struct reader_members s;
	uint64_t port = 0;
	int i;

	if (!values_struct(&w->v, false, &s, meta_names, META_N))
		return;
	while ((i = reader_member(&w->v.r, &s)) >= 0) {
		if (i == META_ID)
			read_id(w);
		else if (i == META_PORT)
			(void)values_uint(&w->v, UINT16_MAX, &port);
		else
			(void)values_str_or_nil(&w->v, slots[i]);
	}
	m->client_port = (uint16_t)port;
	if (!(s.seen & 1u << META_ID) || !(s.seen & 1u << META_TIME))
		values_fault(&w->v, "metadata lacks a field");
}

static void keep_field(struct agent_walk *w, struct slice name,
		       struct slice value)
{
	struct field *to;

	if (name.n > UINT16_MAX || value.n > UINT32_MAX) {
		values_fault(&w->v, "a header name is too long");
		return;
	}
	to = values_grow(&w->v, &w->fields, &w->n_fields, FIELDS_MAX,
			 sizeof(*to));
	if (to)
		*to = (struct field){ .name = name.p, .value = value.p,
				      .value_len = (uint32_t)value.n,
				      .name_len = (uint16_t)name.n };
}

static void read_fields(struct agent_walk *w)
{
	struct reader_iter it, values;
	struct slice name, value;

	if (!values_list(&w->v, false, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		if (!reader_key(&w->v.r, &name))
			return;
		if (!values_list(&w->v, false, false, &values))
			continue;
		while (reader_more(&w->v.r, &values))
			if (values_str(&w->v, &value))
				keep_field(w, name, value);
	}
	w->e->ev.head.fields = w->fields;
	w->e->ev.head.n_fields = w->n_fields;
}

/* Is every one of these bits seen? */
static void need(struct agent_walk *w, const struct reader_members *m,
		 uint32_t bits)
{
	if ((m->seen & bits) != bits)
		values_fault(&w->v, "an event lacks a field");
}

static void read_request_head(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "metadata", 8 }, { "method", 6 }, { "uri", 3 },
		{ "headers", 7 },
	};
	struct event_head *h = &w->e->ev.head;
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_meta(w);
		else if (i == 1)
			(void)values_str(&w->v, &h->method);
		else if (i == 2)
			(void)values_str(&w->v, &h->uri);
		else
			read_fields(w);
	}
	need(w, &m, 0xf);
}

static void read_response_head(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "correlation_id", 14 }, { "status", 6 }, { "headers", 7 },
	};
	struct reader_members m;
	uint64_t status = 0;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_id(w);
		else if (i == 1)
			(void)values_uint(&w->v, UINT16_MAX, &status);
		else
			read_fields(w);
	}
	w->e->ev.head.status = (uint16_t)status;
	need(w, &m, 0x7);
}

static void read_data(struct agent_walk *w)
{
	enum token token = reader_next(&w->v.r);
	struct slice s = w->v.r.str;
	char *in_place = (char *)(uintptr_t)s.p;

	if (token != (w->raw_body ? TOKEN_BIN : TOKEN_STR)) {
		values_wrong_type(&w->v, token);
		return;
	}
	if (!w->raw_body && !base64_decode(in_place, s.p, s.n, &s.n))
		values_fault(&w->v, "a chunk is no base64");
	w->e->data = (struct bslice){ NULL, s.p, s.n };
}

enum { CHUNK_ID, CHUNK_DATA, CHUNK_LAST, CHUNK_TOTAL, CHUNK_INDEX, CHUNK_BYTES,
       CHUNK_N };

static void read_chunk(struct agent_walk *w, bool request)
{
	const struct slice names[CHUNK_N] = {
		{ "correlation_id", 14 }, { "data", 4 }, { "is_last", 7 },
		{ "total_size", 10 }, { "chunk_index", 11 },
		request ? SLICE("bytes_received") : SLICE("bytes_sent"),
	};
	struct event_chunk *c = &w->e->ev.chunk;
	uint64_t total = UINT64_MAX, index = 0;
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, names, CHUNK_N))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == CHUNK_ID)
			read_id(w);
		else if (i == CHUNK_DATA)
			read_data(w);
		else if (i == CHUNK_LAST)
			(void)values_bool_or_nil(&w->v, &c->is_last);
		else if (i == CHUNK_TOTAL)
			(void)values_uint_or_nil(&w->v, UINT64_MAX, &total);
		else
			(void)values_uint(&w->v,
					  i == CHUNK_INDEX ? UINT32_MAX
							   : UINT64_MAX,
					  i == CHUNK_INDEX ? &index
							   : &c->bytes_so_far);
	}
	c->total_known = total != UINT64_MAX;
	c->total_size = c->total_known ? total : 0;
	c->index = (uint32_t)index;
	c->pieces = &w->e->data;
	c->n_pieces = 1;
	c->bytes = w->e->data.n;
	need(w, &m, 0x37);
}

static void read_complete(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "correlation_id", 14 }, { "status", 6 },
		{ "duration_ms", 11 }, { "request_body_size", 17 },
		{ "response_body_size", 18 }, { "upstream_attempts", 17 },
		{ "error", 5 },
	};
	struct event_complete *c = &w->e->ev.complete;
	uint64_t numbers[5] = { 0 };
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_id(w);
		else if (i == 6)
			(void)values_str_or_nil(&w->v, &c->error);
		else
			(void)values_uint(&w->v,
					  i == 1   ? UINT16_MAX
					  : i == 5 ? UINT32_MAX
						   : UINT64_MAX,
					  &numbers[i - 1]);
	}
	c->status = (uint16_t)numbers[0];
	c->duration_ms = numbers[1];
	c->request_body_size = numbers[2];
	c->response_body_size = numbers[3];
	c->upstream_attempts = (uint32_t)numbers[4];
	need(w, &m, 0x3f);
}

static void read_config(struct agent_walk *w)
{
	struct reader_text t = { .cap = CONFIG_MAX };

	t.p = arena_alloc(w->v.scratch, t.cap);
	if (!t.p) {
		(void)reader_fail(&w->v.r, "out of memory");
		return;
	}
	reader_finish(&w->v.r, reader_next(&w->v.r), &t);
	if (t.full)
		values_fault(&w->v, "a config is too long");
	w->e->ev.configure.config_json = slice_of(t.p, t.n);
}

static void read_configure(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "correlation_id", 14 }, { "config", 6 },
		{ "config_version", 14 },
	};
	struct event_configure *c = &w->e->ev.configure;
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			(void)values_str_or_nil(&w->v, &c->id);
		else if (i == 1)
			read_config(w);
		else
			(void)values_str_or_nil(&w->v, &c->version);
	}
	w->e->correlation_id = c->id;
	w->e->ev.meta = NULL;
}

/* ---- go-v2: other names, and a number for the id ------------------------ */

static void read_go_id(struct agent_walk *w)
{
	struct wire_agent_event *e = w->e;
	static const char hex[] = "0123456789abcdef";
	uint64_t id = 0;

	if (!values_uint(&w->v, INT64_MAX, &id))
		return;
	/* As long as any other id, so that agents need not care. */
	e->meta.go_request_id = id;
	for (unsigned i = EVENT_ID_LEN; i--; id >>= 4)
		e->meta.correlation_id[i] = hex[id & 15];
	e->correlation_id = slice_of(e->meta.correlation_id, EVENT_ID_LEN);
}

static void read_go_head(struct agent_walk *w, bool request)
{
	static const struct slice names[] = {
		{ "request_id", 10 }, { "method", 6 }, { "uri", 3 },
		{ "headers", 7 }, { "has_body", 8 }, { "status_code", 11 },
	};
	struct event_head *h = &w->e->ev.head;
	struct reader_members m;
	uint64_t status = 0;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_go_id(w);
		else if (i == 1)
			(void)values_str(&w->v, &h->method);
		else if (i == 2)
			(void)values_str(&w->v, &h->uri);
		else if (i == 3)
			read_fields(w);
		else if (i == 4)
			(void)values_bool_or_nil(&w->v, &h->has_body);
		else
			(void)values_uint(&w->v, UINT16_MAX, &status);
	}
	h->status = (uint16_t)status;
	need(w, &m, request ? 0x1f : 0x39);
}

static void read_go_chunk(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "request_id", 10 }, { "chunk_index", 11 }, { "data", 4 },
		{ "is_last", 7 },
	};
	struct event_chunk *c = &w->e->ev.chunk;
	struct reader_members m;
	uint64_t index = 0;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_go_id(w);
		else if (i == 1)
			(void)values_uint(&w->v, UINT32_MAX, &index);
		else if (i == 2)
			read_data(w);
		else
			(void)values_bool_or_nil(&w->v, &c->is_last);
	}
	c->index = (uint32_t)index;
	c->pieces = &w->e->data;
	c->n_pieces = 1;
	c->bytes = w->e->data.n;
	need(w, &m, 0xf);
}

/* Complete is a cancel; the reason tells which of both it is. */
static void read_go_cancel(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "request_id", 10 }, { "reason", 6 },
	};
	struct reader_members m;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			read_go_id(w);
		else
			(void)values_str_or_nil(&w->v,
						&w->e->ev.complete.error);
	}
	need(w, &m, 1);
}

static bool read_go_event(struct agent_walk *w, uint8_t type)
{
	struct event *ev = &w->e->ev;

	switch (type) {
	case FRAME_REQUEST_HEAD:
	case FRAME_RESPONSE_HEAD:
		ev->type = type == FRAME_REQUEST_HEAD ? EVENT_REQUEST_HEAD
						      : EVENT_RESPONSE_HEAD;
		read_go_head(w, type == FRAME_REQUEST_HEAD);
		return true;
	case FRAME_REQUEST_CHUNK:
	case FRAME_RESPONSE_CHUNK:
		ev->type = type == FRAME_REQUEST_CHUNK ? EVENT_REQUEST_CHUNK
						       : EVENT_RESPONSE_CHUNK;
		read_go_chunk(w);
		return true;
	case FRAME_GO_CANCEL:
		ev->type = EVENT_COMPLETE;
		read_go_cancel(w);
		return true;
	}
	return false;
}

/* ---- v2, and v1 which wraps it ------------------------------------------- */

static bool read_event(struct agent_walk *w, uint8_t type)
{
	struct event *ev = &w->e->ev;

	switch (type) {
	case FRAME_REQUEST_HEAD:
		ev->type = EVENT_REQUEST_HEAD;
		read_request_head(w);
		return true;
	case FRAME_RESPONSE_HEAD:
		ev->type = EVENT_RESPONSE_HEAD;
		read_response_head(w);
		return true;
	case FRAME_REQUEST_CHUNK:
	case FRAME_RESPONSE_CHUNK:
		ev->type = type == FRAME_REQUEST_CHUNK ? EVENT_REQUEST_CHUNK
						       : EVENT_RESPONSE_CHUNK;
		read_chunk(w, type == FRAME_REQUEST_CHUNK);
		return true;
	case FRAME_COMPLETE:
		ev->type = EVENT_COMPLETE;
		read_complete(w);
		return true;
	case FRAME_CONFIGURE:
		ev->type = EVENT_CONFIGURE;
		read_configure(w);
		return true;
	}
	return false;
}

static uint8_t v1_type(struct slice name)
{
	static const struct {
		const char *name;
		uint8_t type;
	} types[] = {
		{ "request_headers", FRAME_REQUEST_HEAD },
		{ "request_body_chunk", FRAME_REQUEST_CHUNK },
		{ "response_headers", FRAME_RESPONSE_HEAD },
		{ "response_body_chunk", FRAME_RESPONSE_CHUNK },
		{ "request_complete", FRAME_COMPLETE },
		{ "configure", FRAME_CONFIGURE },
	};

	for (unsigned i = 0; i < ARRAY_LEN(types); i++)
		if (slice_eq(name, slice_str(types[i].name)))
			return types[i].type;
	return 0;
}

/* The type must stand before the payload, as all proxies write it. */
static bool read_v1_event(struct agent_walk *w)
{
	static const struct slice names[] = {
		{ "version", 7 }, { "event_type", 10 }, { "payload", 7 },
	};
	struct slice name = SLICE_NONE;
	struct reader_members m;
	bool read = false;
	uint64_t version;
	int i;

	if (!values_struct(&w->v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&w->v.r, &m)) >= 0) {
		if (i == 0)
			(void)values_uint(&w->v, UINT32_MAX, &version);
		else if (i == 1)
			(void)values_str(&w->v, &name);
		else if (!(read = read_event(w, v1_type(name))))
			return false;
	}
	need(w, &m, 0x7);
	return read;
}

bool wire_agent_decode_event(uint8_t type, char *buf, size_t len,
			     const struct wire_format *f, struct arena *scratch,
			     struct wire_agent_event *out)
{
	bool json = f->encoding == WIRE_JSON || (len && *buf == '{');
	struct agent_walk w = { .e = out,
				.raw_body = f->raw_body && !json };

	memset(out, 0, sizeof(*out));
	out->ev.meta = &out->meta;
	values_init(&w.v, buf, len, json, scratch);
	if (f->dialect == WIRE_GO ? !read_go_event(&w, type) :
	    f->dialect == WIRE_V1 ? !read_v1_event(&w) : !read_event(&w, type))
		return false;
	return reader_at_end(&w.v.r) && !w.v.fault;
}
