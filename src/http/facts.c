/*
 * What the fields of a head mean for the message: how its body is delimited
 * (RFC 9112, 6), whether the connection stays (9.3), which fields end here
 * (RFC 9110, 7.6.1), whose it is (Host), what it expects. See head.h.
 */
#include "http/parse.h"
#include "http/scan.h"

/* ---- fields that end here ------------------------------------------------ */

/* Names that a Connection field cannot take out; see head.h. */
static bool stays_though_listed(enum http_field_id id, struct slice name)
{
	static const struct slice prefix = { "x-forwarded-", 12 };

	if (id == HTTP_FIELD_VIA || id == HTTP_FIELD_EXPECT ||
	    id == HTTP_FIELD_X_REQUEST_ID)
		return true;
	if (slice_eq_icase(name, SLICE("forwarded")))
		return true;
	return name.n >= prefix.n &&
	       slice_eq_icase(slice_of(name.p, prefix.n), prefix);
}

static enum http_parse read_option(struct parse_seen *seen,
				   struct slice option)
{
	enum http_field_id id;

	if (TEXT_IS(option, "keep-alive")) {
		seen->keep_alive = true;
		return HTTP_PARSE_OK;
	}
	if (TEXT_IS(option, "close")) {
		seen->close = true;
		return HTTP_PARSE_OK;
	}
	id = http_field_lookup(option);
	if (id == HTTP_FIELD_HOST || id == HTTP_FIELD_CONTENT_LENGTH ||
	    id == HTTP_FIELD_TRANSFER_ENCODING)
		return HTTP_PARSE_BAD_FIELD;
	if (id == HTTP_FIELD_UPGRADE)
		seen->upgrade_listed = true;
	if ((FIELD_BIT(id) & HOP_BITS) || stays_though_listed(id, option))
		return HTTP_PARSE_OK;
	if (seen->n_listed == LISTED_MAX)
		return HTTP_PARSE_TOO_LARGE;
	seen->listed[seen->n_listed++] = option;
	return HTTP_PARSE_OK;
}

static void read_connection(struct parse_seen *seen, struct slice list)
{
	struct slice option;

	while (seen->connection_fault == HTTP_PARSE_OK &&
	       http_list_next(&list, &option))
		seen->connection_fault = read_option(seen, option);
}

void http_read_hop_field(struct parse_seen *seen, const struct field *f)
{
	struct slice value = field_value(f);

	switch (f->id) {
	case HTTP_FIELD_CONNECTION:
		if (LIKELY(TEXT_IS(value, "keep-alive")))
			seen->keep_alive = true;
		else
			read_connection(seen, value);
		break;
	case HTTP_FIELD_TE:
		if (http_list_has(value, SLICE("trailers")))
			seen->te_trailers = true;
		break;
	case HTTP_FIELD_TRANSFER_ENCODING:
		seen->transfer_encoding = value;
		break;
	case HTTP_FIELD_UPGRADE:
		seen->upgrade = value;
		break;
	case HTTP_FIELD_CONTENT_LENGTH:
		seen->content_length = value;
		break;
	}
}

/* ---- framing ------------------------------------------------------------- */

/* 1*DIGIT below 2^63; no list, not even of equal values. */
static bool read_length(struct slice s, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n < 1 || s.n > 19)	/* 10^19 fits into 64 bits */
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	*out = v;
	return v <= INT64_MAX;
}

/*
 * Transfer-Encoding: exactly `chunked` is what we know. A list of other tokens
 * is a coding that we don't (501), all else is broken.
 */
static enum http_parse read_codings(struct slice list)
{
	struct slice item;
	bool unknown = false, chunked = false;

	if (LIKELY(TEXT_IS(list, "chunked")))
		return HTTP_PARSE_OK;
	if (list.n == 0 || list.p[0] == ',' || list.p[list.n - 1] == ',')
		return HTTP_PARSE_BAD_FRAMING;
	while (http_list_next(&list, &item)) {
		if (chunked || !http_token_valid(item))
			return HTTP_PARSE_BAD_FRAMING;
		if (TEXT_IS(item, "chunked"))
			chunked = true;
		else
			unknown = true;
	}
	return unknown ? HTTP_PARSE_UNKNOWN_CODING : HTTP_PARSE_BAD_FRAMING;
}

/* RFC 9112, 6.3 without the cases that depend on status and method. */
static enum http_parse read_framing(struct http_head *h,
				    const struct parse_seen *seen)
{
	const uint64_t cl = FIELD_BIT(HTTP_FIELD_CONTENT_LENGTH);
	const uint64_t te = FIELD_BIT(HTTP_FIELD_TRANSFER_ENCODING);

	if (LIKELY(!(seen->once & (cl | te))))
		return HTTP_PARSE_OK;
	if ((seen->twice & (cl | te)) ||
	    (seen->once & (cl | te)) == (cl | te))
		return HTTP_PARSE_BAD_FRAMING;
	if (seen->once & cl) {
		if (!read_length(seen->content_length, &h->content_length))
			return HTTP_PARSE_BAD_FRAMING;
		h->has_content_length = true;
		h->framing = HTTP_BODY_LENGTH;
		return HTTP_PARSE_OK;
	}
	if (h->minor == 0)
		return HTTP_PARSE_BAD_FRAMING;
	h->framing = HTTP_BODY_CHUNKED;
	return read_codings(seen->transfer_encoding);
}

/* All that the two directions have in common. */
static enum http_parse settle_hop(struct http_head *h,
				  const struct parse_seen *seen)
{
	if (!(seen->once & HOP_BITS)) {
		h->keep_alive = h->minor == 1;
		return HTTP_PARSE_OK;
	}
	if (seen->connection_fault != HTTP_PARSE_OK)
		return seen->connection_fault;
	h->keep_alive = !seen->close && (h->minor == 1 || seen->keep_alive);
	h->te_trailers = seen->te_trailers;
	if (seen->upgrade_listed && h->minor == 1 &&
	    !(seen->twice & FIELD_BIT(HTTP_FIELD_UPGRADE)))
		h->upgrade = seen->upgrade;
	for (unsigned i = 0; i < seen->n_listed; i++)
		http_head_remove(h, seen->listed[i]);
	return read_framing(h, seen);
}

/* ---- requests ------------------------------------------------------------ */

static struct slice without_default_port(struct slice host, bool https)
{
	size_t n = http_host_len(host);
	struct slice port = slice_of(host.p + n, host.n - n);

	if (slice_eq(port, https ? SLICE(":443") : SLICE(":80")))
		host.n = n;
	return host;
}

static enum http_parse settle_host(struct http_head *h,
				   const struct parse_seen *seen)
{
	struct field *f = http_head_find(h, HTTP_FIELD_HOST);
	struct slice value;
	bool plain;

	if (seen->twice & FIELD_BIT(HTTP_FIELD_HOST))
		return HTTP_PARSE_BAD_HOST;
	if (!f) {
		if (h->minor == 1)
			return HTTP_PARSE_BAD_HOST;
		if (h->host.n && !http_head_add_id(h, HTTP_FIELD_HOST,
						   SLICE("Host"), h->host))
			return HTTP_PARSE_TOO_LARGE;
		return HTTP_PARSE_OK;
	}
	value = field_value(f);
	plain = LIKELY(scan_plain_host(value));
	if (!plain && !http_odd_host_valid(value))
		return HTTP_PARSE_BAD_HOST;
	if (LIKELY(h->host.n == 0)) {
		h->host = value;
		h->host_plain = plain && value.p[value.n - 1] != '.';
		return HTTP_PARSE_OK;
	}
	if (!slice_eq_icase(without_default_port(value, h->scheme_https),
			    without_default_port(h->host, h->scheme_https)))
		return HTTP_PARSE_BAD_HOST;
	if (!slice_eq(value, h->host)) {
		f->value = h->host.p;
		f->value_len = (uint32_t)h->host.n;
		f->flags &= (uint8_t)~FIELD_LINE;
	}
	return HTTP_PARSE_OK;
}

static enum http_parse settle_expect(struct http_head *h,
				     const struct parse_seen *seen)
{
	struct field *f = http_head_find(h, HTTP_FIELD_EXPECT);

	if (LIKELY(!f))
		return HTTP_PARSE_OK;
	if (h->minor == 0) {
		http_head_remove_id(h, HTTP_FIELD_EXPECT);
		return HTTP_PARSE_OK;
	}
	if ((seen->twice & FIELD_BIT(HTTP_FIELD_EXPECT)) ||
	    !TEXT_IS(field_value(f), "100-continue"))
		return HTTP_PARSE_BAD_EXPECT;
	h->expect_continue = true;
	return HTTP_PARSE_OK;
}

enum http_parse http_settle_request(struct http_head *h,
				    const struct parse_seen *seen)
{
	enum http_parse rc = settle_hop(h, seen);

	if (rc == HTTP_PARSE_OK)
		rc = settle_host(h, seen);
	if (rc == HTTP_PARSE_OK)
		rc = settle_expect(h, seen);
	return rc;
}

/* ---- responses ----------------------------------------------------------- */

enum http_parse http_settle_response(struct http_head *h,
				     const struct parse_seen *seen,
				     enum http_method request_method)
{
	enum http_parse rc = settle_hop(h, seen);
	bool interim = h->status < 200;
	bool tunnel = request_method == HTTP_CONNECT && !interim &&
		      h->status < 300;
	bool announced;

	if (rc != HTTP_PARSE_OK)
		return rc;
	announced = h->framing == HTTP_BODY_CHUNKED || h->content_length > 0;
	if (interim && announced)
		return HTTP_PARSE_BAD_FRAMING;
	if (interim || tunnel || h->status == 204) {
		h->framing = HTTP_BODY_NONE;
		h->has_content_length = false;
		h->content_length = 0;
		if (announced)
			h->keep_alive = false;
	} else if (request_method == HTTP_HEAD || h->status == 304) {
		h->framing = HTTP_BODY_NONE;
	} else if (h->framing == HTTP_BODY_NONE) {
		h->framing = HTTP_BODY_CLOSE;
		h->keep_alive = false;
	}
	return HTTP_PARSE_OK;
}

/* ---- trailers ------------------------------------------------------------ */

/*
 * May a field stand in trailers? Not if the message cannot be framed, routed,
 * authenticated or read without it (RFC 9110, 6.5.1). Of the fields that have
 * a number only those that sum up a body may.
 */
static bool trailer_allowed(const struct field *f)
{
	static const struct slice refused[] = {
		{ "age", 3 }, { "content-range", 13 }, { "expires", 7 },
		{ "forwarded", 9 }, { "if-match", 8 }, { "if-range", 8 },
		{ "if-unmodified-since", 19 }, { "max-forwards", 12 },
		{ "pragma", 6 }, { "vary", 4 }, { "warning", 7 },
		{ "x-real-ip", 9 }, { "content-location", 16 },
		{ "proxy-authentication-info", 25 },
	};
	static const struct slice prefix = { "x-forwarded-", 12 };
	struct slice name = field_name(f);

	if (f->id != HTTP_FIELD_OTHER)
		return f->id == HTTP_FIELD_DIGEST || f->id == HTTP_FIELD_ETAG ||
		       f->id == HTTP_FIELD_CONTENT_MD5;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		if (slice_eq_icase(name, refused[i]))
			return false;
	return name.n < prefix.n ||
	       !slice_eq_icase(slice_of(name.p, prefix.n), prefix);
}

void http_settle_trailers(struct http_head *h)
{
	unsigned kept = 0;

	h->present = 0;
	for (unsigned i = 0; i < h->n_fields; i++) {
		if (!trailer_allowed(&h->fields[i]))
			continue;
		h->fields[kept] = h->fields[i];
		h->present |= FIELD_BIT(h->fields[kept++].id);
	}
	h->n_fields = kept;
}
