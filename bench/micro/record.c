/*
 * The sample record of the published rows, encoded and decoded with what the
 * codecs of src/wire are made of: put.h and reader.h.
 */
#include "micro.h"

#include "base/mem.h"
#include "wire/fields.h"
#include "wire/put.h"
#include "wire/values.h"

#define F(n, v)								\
	{ .name = (n), .value = (v), .name_len = sizeof(n) - 1,		\
	  .value_len = sizeof(v) - 1 }

static struct field small_fields[] = {
	F("host", "example.com"),
	F("user-agent", "benchmark/1.0"),
	F("accept", "*/*"),
};

static struct field large_fields[] = {
	F("host", "api.example.com"),
	F("user-agent",
	  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"),
	F("accept", "application/json"),
	F("accept", "text/plain"),
	F("accept", "*/*"),
	F("accept-language", "en-US,en;q=0.9"),
	F("accept-encoding", "gzip, deflate, br"),
	F("content-type", "application/json"),
	F("content-length", "1024"),
	F("authorization",
	  "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
	  ".eyJzdWIiOiIxMjM0NTY3ODkwIn0"),
	F("cookie", "session=abc123; tracking=xyz789"),
	F("x-request-id", "req-12345-67890"),
	F("x-correlation-id", "corr-abcdef-123456"),
	F("x-forwarded-for", "203.0.113.195, 70.41.3.18, 150.172.238.178"),
	F("x-forwarded-proto", "https"),
	F("x-forwarded-host", "api.example.com"),
	F("x-real-ip", "203.0.113.195"),
	F("cache-control", "no-cache"),
	F("pragma", "no-cache"),
	F("origin", "https://app.example.com"),
	F("referer", "https://app.example.com/dashboard"),
	F("sec-fetch-dest", "empty"),
	F("sec-fetch-mode", "cors"),
	F("sec-fetch-site", "same-site"),
};

const struct view view_small = {
	.id = { "bench-12345", 11 },
	.method = { "GET", 3 },
	.uri = { "/api/v1/users", 13 },
	.client_ip = { "192.168.1.100", 13 },
	.tls_version = { "TLSv1.3", 7 },
	.fields = small_fields,
	.n_fields = ARRAY_LEN(small_fields),
};

const struct view view_large = {
	.id = { "bench-large-12345-67890", 23 },
	.method = { "POST", 4 },
	.uri = { "/api/v2/orders/create?include=items,shipping&format=json",
		 56 },
	.client_ip = { "203.0.113.195", 13 },
	.tls_version = { "TLSv1.3", 7 },
	.fields = large_fields,
	.n_fields = ARRAY_LEN(large_fields),
};

enum { M_ID, M_METHOD, M_URI, M_HEADERS, M_IP, M_TLS, M_N };

static const struct slice member_names[M_N] = {
	{ "correlation_id", 14 }, { "method", 6 }, { "uri", 3 },
	{ "headers", 7 }, { "client_ip", 9 }, { "tls_version", 11 },
};
#define NEEDED	((1u << M_TLS) - 1)

/* ---- the record that owns what it holds ------------------------------------- */

static void keep(struct map *m, struct slice name, struct slice value)
{
	struct map_entry *e = map_find(m, name);

	if (!e) {
		e = map_add(m, str_new(name));
		e->list = (struct list){ 0 };
	}
	list_push(&e->list, str_new(value));
}

void record_from_view(struct record *r, const struct view *v)
{
	r->id = str_new(v->id);
	r->method = str_new(v->method);
	r->uri = str_new(v->uri);
	r->client_ip = str_new(v->client_ip);
	r->tls_version = str_new(v->tls_version);
	map_init(&r->headers);
	for (unsigned i = 0; i < v->n_fields; i++)
		keep(&r->headers, field_name(&v->fields[i]),
		     field_value(&v->fields[i]));
}

void record_free(struct record *r)
{
	str_free(&r->id);
	str_free(&r->method);
	str_free(&r->uri);
	str_free(&r->client_ip);
	str_free(&r->tls_version);
	map_free_lists(&r->headers);
}

static size_t record_bound(const struct record *r, bool json)
{
	size_t n = r->id.n + r->method.n + r->uri.n + r->client_ip.n +
		   r->tls_version.n, parts = 12 + 2 * r->headers.n;

	for (size_t i = 0; i < r->headers.n; i++) {
		const struct map_entry *e = &r->headers.entries[i];

		n += e->key.n;
		parts += e->list.n;
		for (size_t k = 0; k < e->list.n; k++)
			n += e->list.items[k].n;
	}
	return json ? 128 + 6 * n + 4 * parts : 2 * n + 5 * parts;
}

static char *record_json(char *o, const struct record *r)
{
	unsigned t = 0;

	o = put_json_text(PUT_LIT(o, "{\"correlation_id\":"),
			  str_slice(&r->id), &t);
	o = put_json_text(PUT_LIT(o, ",\"method\":"), str_slice(&r->method),
			  &t);
	o = put_json_text(PUT_LIT(o, ",\"uri\":"), str_slice(&r->uri), &t);
	o = PUT_LIT(o, ",\"headers\":{");
	for (size_t i = 0; i < r->headers.n; i++) {
		const struct map_entry *e = &r->headers.entries[i];

		o = put_json_text(o, str_slice(&e->key), &t);
		o = PUT_LIT(o, ":[");
		for (size_t k = 0; k < e->list.n; k++) {
			o = put_json_text(o, str_slice(&e->list.items[k]), &t);
			*o++ = ',';
		}
		o = PUT_LIT(o - 1, "],");
	}
	o -= r->headers.n > 0;
	o = put_json_text(PUT_LIT(o, "},\"client_ip\":"),
			  str_slice(&r->client_ip), &t);
	o = PUT_LIT(o, ",\"tls_version\":");
	o = r->tls_version.p ? put_json_text(o, str_slice(&r->tls_version), &t)
			     : PUT_LIT(o, "null");
	return put_byte(o, '}');
}

static char *record_msgpack(char *o, const struct record *r)
{
	unsigned t = 0;

	o = put_msgpack_text(put_byte(o, 0x96), str_slice(&r->id), &t);
	o = put_msgpack_text(o, str_slice(&r->method), &t);
	o = put_msgpack_text(o, str_slice(&r->uri), &t);
	o = put_msgpack_map(o, r->headers.n);
	for (size_t i = 0; i < r->headers.n; i++) {
		const struct map_entry *e = &r->headers.entries[i];

		o = put_msgpack_text(o, str_slice(&e->key), &t);
		o = put_msgpack_array(o, e->list.n);
		for (size_t k = 0; k < e->list.n; k++)
			o = put_msgpack_text(o, str_slice(&e->list.items[k]),
					     &t);
	}
	o = put_msgpack_text(o, str_slice(&r->client_ip), &t);
	return r->tls_version.p ?
		       put_msgpack_text(o, str_slice(&r->tls_version), &t) :
		       put_nil(o);
}

char *record_encode(const struct record *r, bool json, size_t *size)
{
	char *buf = mem_alloc(record_bound(r, json)), *end;

	if (!buf)
		abort();
	end = json ? record_json(buf, r) : record_msgpack(buf, r);
	*size = (size_t)(end - buf);
	return buf;
}

static void own_str(struct values *v, struct str *out)
{
	struct slice s;

	if (values_str(v, &s))
		*out = str_new(s);
}

static void own_list(struct values *v, struct list *list)
{
	struct reader_iter it;
	struct slice s;

	if (!values_list(v, false, false, &it))
		return;
	while (reader_more(&v->r, &it))
		if (values_str(v, &s))
			list_push(list, str_new(s));
}

static void own_headers(struct values *v, struct map *m)
{
	struct reader_iter it;
	struct map_entry *e;
	struct slice name;

	if (!values_list(v, false, true, &it))
		return;
	while (reader_more(&v->r, &it) && reader_key(&v->r, &name)) {
		e = map_find(m, name);
		if (e)
			list_free(&e->list);
		else
			e = map_add(m, str_new(name));
		e->list = (struct list){ 0 };
		own_list(v, &e->list);
	}
}

static void own_optional(struct values *v, struct str *out)
{
	struct slice s;

	if (values_str_or_nil(v, &s) && s.p)
		*out = str_new(s);
}

bool record_decode(struct record *r, char *buf, size_t n, bool json)
{
	struct reader_members m;
	struct values v;
	int i;

	memset(r, 0, sizeof(*r));
	map_init(&r->headers);
	values_init(&v, buf, n, json, NULL);
	if (!values_struct(&v, false, &m, member_names, M_N))
		return false;
	while ((i = reader_member(&v.r, &m)) >= 0) {
		switch (i) {
		case M_ID:
			own_str(&v, &r->id);
			break;
		case M_METHOD:
			own_str(&v, &r->method);
			break;
		case M_URI:
			own_str(&v, &r->uri);
			break;
		case M_HEADERS:
			own_headers(&v, &r->headers);
			break;
		case M_IP:
			own_str(&v, &r->client_ip);
			break;
		default:
			own_optional(&v, &r->tls_version);
			break;
		}
	}
	return (m.seen & NEEDED) == NEEDED && !v.fault && reader_at_end(&v.r);
}

/* ---- the same as slices ------------------------------------------------------- */

size_t view_bound(const struct view *v, bool json)
{
	size_t n = v->id.n + v->method.n + v->uri.n + v->client_ip.n +
		   v->tls_version.n;

	for (unsigned i = 0; i < v->n_fields; i++)
		n += (size_t)v->fields[i].name_len + v->fields[i].value_len;
	return json ? 128 + 6 * n + 16 * (size_t)v->n_fields
		    : 64 + 2 * n + 16 * (size_t)v->n_fields;
}

static char *view_json_fields(char *o, const struct view *v,
			      const struct fields_index *x, unsigned *t)
{
	for (unsigned i = 0; i < v->n_fields; i++) {
		if (!fields_leads(x, i))
			continue;
		o = put_json_name(o, v->fields[i].name, v->fields[i].name_len);
		o = PUT_LIT(o, ":[");
		for (uint32_t k = i; k != FIELDS_END; k = fields_next(x, k)) {
			o = put_json_text(o, field_value(&v->fields[k]), t);
			*o++ = ',';
		}
		o = PUT_LIT(o - 1, "],");
	}
	return o - (v->n_fields > 0);
}

static char *view_json(char *o, const struct view *v,
		       const struct fields_index *x)
{
	unsigned t = 0;

	o = put_json_text(PUT_LIT(o, "{\"correlation_id\":"), v->id, &t);
	o = put_json_text(PUT_LIT(o, ",\"method\":"), v->method, &t);
	o = put_json_text(PUT_LIT(o, ",\"uri\":"), v->uri, &t);
	o = view_json_fields(PUT_LIT(o, ",\"headers\":{"), v, x, &t);
	o = put_json_text(PUT_LIT(o, "},\"client_ip\":"), v->client_ip, &t);
	o = PUT_LIT(o, ",\"tls_version\":");
	o = v->tls_version.p ? put_json_text(o, v->tls_version, &t)
			     : PUT_LIT(o, "null");
	return put_byte(o, '}');
}

static char *view_msgpack_values(char *o, const struct view *v,
				 const struct fields_index *x, uint32_t first,
				 unsigned *t)
{
	unsigned n = 0;

	for (uint32_t k = first; k != FIELDS_END; k = fields_next(x, k))
		n++;
	o = put_msgpack_array(o, n);
	for (uint32_t k = first; k != FIELDS_END; k = fields_next(x, k))
		o = put_msgpack_text(o, field_value(&v->fields[k]), t);
	return o;
}

static char *view_msgpack(char *o, const struct view *v,
			  const struct fields_index *x)
{
	unsigned t = 0;

	o = put_msgpack_text(put_byte(o, 0x96), v->id, &t);
	o = put_msgpack_text(o, v->method, &t);
	o = put_msgpack_text(o, v->uri, &t);
	o = put_msgpack_map(o, x->n_names);
	for (unsigned i = 0; i < v->n_fields; i++) {
		if (!fields_leads(x, i))
			continue;
		o = put_msgpack_name(o, v->fields[i].name,
				     v->fields[i].name_len);
		o = view_msgpack_values(o, v, x, i, &t);
	}
	o = put_msgpack_text(o, v->client_ip, &t);
	return v->tls_version.p ? put_msgpack_text(o, v->tls_version, &t)
				: put_nil(o);
}

char *view_encode(char *o, const struct view *v, bool json)
{
	struct fields_index x;

	if (!fields_index_init(&x, v->fields, v->n_fields, 0))
		abort();
	o = json ? view_json(o, v, &x) : view_msgpack(o, v, &x);
	fields_index_fini(&x);
	return o;
}

static void view_headers(struct values *v, struct view *to)
{
	struct reader_iter it, values;
	struct slice name, value;
	struct field *f;

	if (!values_list(v, false, true, &it))
		return;
	while (reader_more(&v->r, &it) && reader_key(&v->r, &name)) {
		if (!values_list(v, false, false, &values))
			continue;
		while (reader_more(&v->r, &values)) {
			if (!values_str(v, &value))
				continue;
			f = values_grow(v, &to->fields, &to->n_fields, 4096,
					sizeof(*f));
			if (!f)
				return;
			*f = (struct field){
				.name = name.p, .value = value.p,
				.name_len = (uint16_t)name.n,
				.value_len = (uint32_t)value.n,
			};
		}
	}
}

bool view_decode(struct view *to, char *buf, size_t n, bool json,
		 struct arena *a)
{
	struct slice *const slots[M_N] = {
		[M_ID] = &to->id, [M_METHOD] = &to->method, [M_URI] = &to->uri,
		[M_IP] = &to->client_ip, [M_TLS] = &to->tls_version,
	};
	struct reader_members m;
	struct values v;
	int i;

	memset(to, 0, sizeof(*to));
	values_init(&v, buf, n, json, a);
	if (!values_struct(&v, false, &m, member_names, M_N))
		return false;
	while ((i = reader_member(&v.r, &m)) >= 0) {
		if (i == M_HEADERS)
			view_headers(&v, to);
		else if (i == M_TLS)
			(void)values_str_or_nil(&v, &to->tls_version);
		else
			(void)values_str(&v, slots[i]);
	}
	return (m.seen & NEEDED) == NEEDED && !v.fault && reader_at_end(&v.r);
}
