/*
 * The parser of heads (http/head.h). Every row is parsed whole, cut in two at
 * every byte and dripped byte by byte, each time from memory of exactly its
 * size, and has to come out the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/chunked.h"
#include "http/head.h"
#include "http/path.h"

#define FIELDS	16

enum kind { REQUEST, RESPONSE, TRAILERS };

static const struct http_limits limits = {
	.header_bytes = 2048, .headers = FIELDS, .target_bytes = 64,
};

struct parsed {
	enum http_parse rc;
	struct http_head head;
	struct field fields[FIELDS];
	char *bytes;
	char text[4096];
};

static void check_inside(const char *buf, size_t len, const void *p, size_t n)
{
	uintptr_t b = (uintptr_t)buf, x = (uintptr_t)p;

	assert_true(n == 0 || (x >= b && x + n <= b + len));
}

static void describe(struct parsed *r, const char *buf, size_t len)
{
	struct http_head *h = &r->head;
	int n = snprintf(r->text, sizeof(r->text),
		"%.*s|%.*s|%.*s|%.*s|%.*s|%u|%u|%u|%u|%u|%d%d%d%d%d|%llu|%.*s|"
		"%llx|%u\n",
		SLICE_FMT(h->method), SLICE_FMT(h->target), SLICE_FMT(h->path),
		SLICE_FMT(h->host), SLICE_FMT(h->reason), h->status,
		h->method_id, h->target_form, h->minor, h->framing,
		h->keep_alive, h->expect_continue, h->te_trailers,
		h->scheme_https, h->has_content_length,
		(unsigned long long)h->content_length, SLICE_FMT(h->upgrade),
		(unsigned long long)h->present, h->head_bytes);
	uint64_t present = 0;

	assert_true(h->head_bytes <= len);
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct field *f = &h->fields[i];
		n += snprintf(r->text + n, sizeof(r->text) - (size_t)n,
			      "%.*s: %.*s|%u|%u\n", SLICE_FMT(field_name(f)),
			      SLICE_FMT(field_value(f)), f->id, f->flags);
		assert_true((size_t)n < sizeof(r->text));
		check_inside(buf, len, f->value, f->value_len);
		assert_int_equal(f->id, http_field_lookup(field_name(f)));
		present |= 1ull << f->id;
		if (f->flags & FIELD_LINE)
			assert_memory_equal(f->value + f->value_len, "\r\n", 2);
	}
	assert_true(present == h->present);
}

static enum http_parse parse_one(enum kind kind, enum http_method method,
				 const char *buf, size_t len,
				 uint32_t *scanned, struct parsed *r)
{
	memset(&r->head, 0xa5, sizeof(r->head));
	r->head.fields = r->fields;
	r->head.cap_fields = FIELDS;
	switch (kind) {
	case REQUEST:
		return http_parse_request(buf, len, &limits, scanned, &r->head);
	case RESPONSE:
		return http_parse_response(buf, len, &limits, scanned, method,
					   &r->head);
	case TRAILERS:
		break;
	}
	return http_parse_trailers(buf, len, &limits, scanned, &r->head);
}

/* Parses up to `first`, then on by `step` bytes, until there is an answer. */
static void parse_split(enum kind kind, enum http_method method,
			const char *text, size_t len, size_t first, size_t step,
			struct parsed *r)
{
	uint32_t scanned = 0;

	for (size_t n = first;; n = n + step < len ? n + step : len) {
		char *copy = malloc(n ? n : 1);

		memcpy(copy, text, n);
		r->rc = parse_one(kind, method, copy, n, &scanned, r);
		r->bytes = copy;
		if (r->rc == HTTP_PARSE_OK)
			describe(r, copy, n);
		if (r->rc != HTTP_PARSE_MORE || n == len)
			return;
		free(copy);
	}
}

static void parse_all_ways(enum kind kind, enum http_method method,
			   const char *text, size_t len, struct parsed *r)
{
	struct parsed other;

	parse_split(kind, method, text, len, len, 1, r);
	for (size_t cut = 0; cut <= len; cut++) {
		/* The last round drips. */
		size_t step = cut == len ? 1 : len;
		parse_split(kind, method, text, len, cut == len ? 0 : cut, step,
			    &other);
		if (other.rc != r->rc)
			fail_msg("cut at %zu: %s instead of %s: %s", cut,
				 http_parse_names[other.rc],
				 http_parse_names[r->rc], text);
		if (r->rc == HTTP_PARSE_OK)
			assert_string_equal(other.text, r->text);
		free(other.bytes);
	}
}

/* ---- faults -------------------------------------------------------------- */

struct row {
	enum http_parse rc;
	const char *text;
	size_t len;
};

#define ROW(rc, text)	{ HTTP_PARSE_##rc, text, sizeof(text) - 1 }
#define H		"Host: h\r\n"
#define G(fields)	"GET / HTTP/1.1\r\n" H fields "\r\n"
#define P(fields)	"POST / HTTP/1.1\r\n" H fields "\r\n"
#define S64		"/234567890123456789012345678901234567890123456789" \
			"012345678901234"

static const struct row requests[] = {
	ROW(OK, G("")),
	ROW(OK, "\r\n\r\n\r\n\r\n" G("")),
	ROW(BAD_LINE, "\r\n\r\n\r\n\r\n\r\n" G("")),
	ROW(BAD_LINE, "\n" G("")),
	ROW(BAD_LINE, "\r" G("")),
	ROW(BAD_LINE, " " G("")),
	ROW(MORE, ""),
	ROW(MORE, "GE"),
	ROW(MORE, "\r"),
	ROW(MORE, "GET / HTTP/1.1\r\n" H),
	ROW(MORE, "GET / HTTP/1.1\r\n" H "\r"),
	/* Request line. */
	ROW(BAD_LINE, "GET  / HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET /  HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / HTTP/1.1 \r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / HTTP/1.1\n" H "\r\n"),
	ROW(BAD_LINE, "GET / HTTP/1.1\r" H "\r\n"),
	ROW(BAD_LINE, "GET\t/ HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /\tHTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "G{T / HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET /\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / http/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / x HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / HTTQ/1.1\r\n" H "\r\n"),
	ROW(BAD_LINE, "GET / HTTP/1.11\r\n" H "\r\n"),
	ROW(BAD_VERSION, "GET / HTTP/2.0\r\n" H "\r\n"),
	ROW(BAD_VERSION, "GET / HTTP/1.2\r\n" H "\r\n"),
	ROW(BAD_VERSION, "GET / HTTP/0.9\r\n" H "\r\n"),
	ROW(BAD_VERSION, "GET / HTTP/1 1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	/* Target. */
	ROW(BAD_TARGET, "GET x HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET * HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET h:80 HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /#f HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /\x01 HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /\0 HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /\x7f HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /\x80 HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET /a\tb HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET ftp://h/ HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http:/h/ HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http:// HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http:///x HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http://u@h/ HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http://h:x/ HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "GET http://h?x HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "CONNECT h HTTP/1.1\r\n" H "\r\n"),
	ROW(BAD_TARGET, "CONNECT / HTTP/1.1\r\n" H "\r\n"),
	ROW(OK, "GET " S64 " HTTP/1.1\r\n" H "\r\n"),
	ROW(TARGET_TOO_LONG, "GET " S64 "x HTTP/1.1\r\n" H "\r\n"),
	ROW(TARGET_TOO_LONG, "GET " S64 "x\x01 HTTP/1.1\r\n" H "\r\n"),
	/* Fields. */
	ROW(BAD_FIELD, G("A : b\r\n")),
	ROW(BAD_FIELD, G(": b\r\n")),
	ROW(BAD_FIELD, G("A\r\n")),
	ROW(BAD_FIELD, G("A b: c\r\n")),
	ROW(BAD_FIELD, G("A b: 0123456789abcdef\r\n")),
	ROW(BAD_FIELD, G(": 0123456789abcdef\r\n")),
	ROW(BAD_FIELD, G("Dat\x05: 0123456789abcdef\r\n")),
	ROW(BAD_FIELD, G("set\rcookie: 0123456789abcdef\r\n")),
	ROW(OK, G("a_b: 0123456789abcdef\r\n")),
	ROW(BAD_FIELD, G("A\"b: c\r\n")),
	ROW(BAD_FIELD, G("A\x80: c\r\n")),
	ROW(BAD_FIELD, G("A\0b: c\r\n")),
	ROW(BAD_FIELD, G(" A: folded\r\n")),
	ROW(BAD_FIELD, G("A: b\r\n folded\r\n")),
	ROW(BAD_FIELD, G("A: b\r\n\tfolded\r\n")),
	ROW(BAD_FIELD, G("A: b\r\n \r\n")),
	ROW(BAD_FIELD, G("A: b\n")),
	ROW(BAD_FIELD, G("A: b\nC: d\r\n")),
	ROW(BAD_FIELD, G("A: b\rC: d\r\n")),
	ROW(BAD_FIELD, G("A: b\r\rC: d\r\n")),
	ROW(BAD_FIELD, G("A: b\0c\r\n")),
	ROW(BAD_FIELD, G("A: b\x01" "c\r\n")),
	ROW(BAD_FIELD, G("A: b\x0b" "c\r\n")),
	ROW(BAD_FIELD, G("A: b\x7f" "c\r\n")),
	ROW(BAD_FIELD, "GET / HTTP/1.1\r\n" H "\n"),
	ROW(BAD_FIELD, "GET / HTTP/1.1\r\n" H "\rx"),
	ROW(OK, G("A:b\r\nB:\r\nC: \r\nD: \t e\x80 \t f \t\r\n"
		  "!#$%&'*+-.^_`|~: x\r\n")),
	/* Syntax is told before meaning. */
	ROW(BAD_FIELD, G("Host: twice\r\nA : b\r\n")),
	/* Host. */
	ROW(BAD_HOST, "GET / HTTP/1.1\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.0\r\n\r\n"),
	ROW(BAD_HOST, G(H)),
	ROW(BAD_HOST, "GET / HTTP/1.0\r\n" H H "\r\n"),
	ROW(BAD_HOST, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
	ROW(BAD_HOST, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
	ROW(BAD_HOST, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	ROW(BAD_HOST, "GET / HTTP/1.1\r\nHost: u@b\r\n\r\n"),
	ROW(BAD_HOST, "GET http://h/ HTTP/1.1\r\nHost: other\r\n\r\n"),
	ROW(BAD_HOST, "GET http://h/ HTTP/1.1\r\nHost: h:443\r\n\r\n"),
	ROW(BAD_HOST, "GET http://h/ HTTP/1.1\r\n\r\n"),
	ROW(BAD_HOST, "GET http://h/ HTTP/1.1\r\n" H H "\r\n"),
	/* Framing. */
	ROW(BAD_FRAMING, P("Content-Length: 1\r\nContent-Length: 1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 1, 1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 1,\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: +1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: -1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 1 2\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 0x1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length:\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 9223372036854775808\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 18446744073709551617\r\n")),
	ROW(OK, P("Content-Length: 9223372036854775807\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked\r\n"
			   "Content-Length: 1\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 0\r\n"
			   "Transfer-Encoding: chunked\r\n")),
	ROW(BAD_FRAMING, P("Content-Length: 0\r\n"
			   "Transfer-Encoding: gzip\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked, chunked\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked\r\n"
			   "Transfer-Encoding: chunked\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: gzip\r\n"
			   "Transfer-Encoding: chunked\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked, gzip\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked,\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: ,chunked\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: chunked;a=b\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding: \"chunked\"\r\n")),
	ROW(BAD_FRAMING, P("Transfer-Encoding:\r\n")),
	ROW(BAD_FRAMING, "POST / HTTP/1.0\r\n"
			 "Transfer-Encoding: chunked\r\n\r\n"),
	ROW(UNKNOWN_CODING, P("Transfer-Encoding: gzip, chunked\r\n")),
	ROW(UNKNOWN_CODING, P("Transfer-Encoding: gzip\r\n")),
	ROW(UNKNOWN_CODING, P("Transfer-Encoding: identity\r\n")),
	ROW(UNKNOWN_CODING, P("Transfer-Encoding: xchunked\r\n")),
	ROW(OK, P("Transfer-Encoding: CHUNKED \r\n")),
	/* Connection, Expect. */
	ROW(BAD_FIELD, G("Connection: close, Host\r\n")),
	ROW(BAD_FIELD, P("Connection: content-length\r\n")),
	ROW(BAD_FIELD, P("Connection: transfer-encoding\r\n")),
	ROW(BAD_EXPECT, P("Expect: 200-ok\r\n")),
	ROW(BAD_EXPECT, P("Expect:\r\n")),
	ROW(BAD_EXPECT, P("Expect: 100-continue\r\nExpect: 100-continue\r\n")),
	ROW(OK, P("Expect: 100-Continue\r\n")),
	/* Limits: 16 fields. */
#define F7 "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n"
	ROW(OK, G(F7 F7 "A:\r\n")),
	ROW(TOO_LARGE, G(F7 F7 "A:\r\nA:\r\n")),
	ROW(TOO_LARGE, G("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,"
			 "r,s,t,u,v,w,x,y,z,1,2,3,4,5,6,7\r\n")),
};

static void test_requests(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		const struct row *row = &requests[i];
		struct parsed r;

		parse_all_ways(REQUEST, HTTP_GET, row->text, row->len, &r);
		if (r.rc != row->rc)
			fail_msg("%s instead of %s: %s",
				 http_parse_names[r.rc],
				 http_parse_names[row->rc], row->text);
		free(r.bytes);
	}
}

#define V	"HTTP/1.1 200 OK\r\n"

static const struct row responses[] = {
	ROW(OK, "HTTP/1.1 200 OK\r\n\r\n"),
	ROW(OK, "HTTP/1.1 200\r\n\r\n"),
	ROW(OK, "HTTP/1.1 200 \r\n\r\n"),
	ROW(OK, "HTTP/1.0 599 \x80 x\ty\r\n\r\n"),
	ROW(OK, "HTTP/1.1 101 x\r\nConnection: upgrade\r\n"
		"Upgrade: websocket\r\n\r\n"),
	ROW(MORE, "HTTP/1.1 2"),
	ROW(BAD_LINE, "\r\nHTTP/1.1 200 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 600 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 099 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 20 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 2000 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1  200 OK\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 200 O\0K\r\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 200 OK\n\r\n"),
	ROW(BAD_LINE, "HTTP/1.1 200 OK\rX\r\n\r\n"),
	ROW(BAD_LINE, "ICY 200 OK\r\n\r\n"),
	ROW(BAD_VERSION, "HTTP/2.0 200 OK\r\n\r\n"),
	ROW(BAD_FIELD, V "A: b\r\n c\r\n\r\n"),
	ROW(BAD_FRAMING, V "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"),
	ROW(BAD_FRAMING, V "Content-Length: 1\r\n"
			 "Transfer-Encoding: chunked\r\n\r\n"),
	ROW(UNKNOWN_CODING, V "Transfer-Encoding: gzip, chunked\r\n\r\n"),
	ROW(BAD_FRAMING, "HTTP/1.0 200 OK\r\n"
			 "Transfer-Encoding: chunked\r\n\r\n"),
	ROW(BAD_FRAMING, "HTTP/1.1 100 x\r\nContent-Length: 1\r\n\r\n"),
	ROW(OK, "HTTP/1.1 100 x\r\nContent-Length: 0\r\n\r\n"),
};

static void test_responses(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
		const struct row *row = &responses[i];
		struct parsed r;

		parse_all_ways(RESPONSE, HTTP_GET, row->text, row->len, &r);
		if (r.rc != row->rc)
			fail_msg("%s instead of %s: %s",
				 http_parse_names[r.rc],
				 http_parse_names[row->rc], row->text);
		free(r.bytes);
	}
}

static void test_statuses_of_faults(void **state)
{
	for (unsigned i = 0; i < HTTP_PARSE_N; i++)
		assert_non_null(http_parse_names[i]);
	assert_int_equal(http_parse_status(HTTP_PARSE_BAD_LINE), 400);
	assert_int_equal(http_parse_status(HTTP_PARSE_UNKNOWN_CODING), 501);
	assert_int_equal(http_parse_status(HTTP_PARSE_TARGET_TOO_LONG), 414);
	assert_int_equal(http_parse_status(HTTP_PARSE_TOO_LARGE), 431);
	assert_int_equal(http_parse_status(HTTP_PARSE_BAD_EXPECT), 417);
}

/* The whole head is bounded, whatever the fields say. */
static void test_header_bytes(void **state)
{
	char text[3000];
	struct parsed r;
	int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" H "A: ");

	memset(text + n, 'x', sizeof(text) - (size_t)n);
	memcpy(text + 2048 - 4, "\r\n\r\n", 4);
	parse_all_ways(REQUEST, HTTP_GET, text, 2048, &r);
	assert_int_equal(r.rc, HTTP_PARSE_OK);
	assert_int_equal(r.head.head_bytes, 2048);
	free(r.bytes);
	memset(text + 2048 - 4, 'x', 4);
	memcpy(text + 2049 - 4, "\r\n\r\n", 4);
	parse_all_ways(REQUEST, HTTP_GET, text, 2049, &r);
	assert_int_equal(r.rc, HTTP_PARSE_TOO_LARGE);
	free(r.bytes);
	parse_all_ways(REQUEST, HTTP_GET, text, 2048, &r);
	assert_int_equal(r.rc, HTTP_PARSE_TOO_LARGE);
	free(r.bytes);
}

/* Controls and bare line ends are told at once, not at the end of the line. */
static void test_faults_are_told_at_once(void **state)
{
	static const char *const bad[] = { "A: b\n", "A: b\rc", "A: b\x01",
					   "A b:\r\n", " A" };
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct parsed r;
		uint32_t scanned = 0;
		int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n%s",
				 bad[i]);

		assert_int_equal(parse_one(REQUEST, HTTP_GET, text, (size_t)n,
					   &scanned, &r), HTTP_PARSE_BAD_FIELD);
		scanned = 0;
		assert_int_equal(parse_one(REQUEST, HTTP_GET, text, 17,
					   &scanned, &r),
				 *bad[i] == ' ' ? HTTP_PARSE_BAD_FIELD :
						  HTTP_PARSE_MORE);
		if (*bad[i] == ' ')
			continue;
		assert_int_equal(scanned, 17);
		assert_int_equal(parse_one(REQUEST, HTTP_GET, text, (size_t)n,
					   &scanned, &r), HTTP_PARSE_BAD_FIELD);
	}
}

/* ---- what is found ------------------------------------------------------- */

static struct parsed parsed;

static struct http_head *get(enum kind kind, enum http_method method,
			     const char *text)
{
	free(parsed.bytes);
	parse_all_ways(kind, method, text, strlen(text), &parsed);
	if (parsed.rc != HTTP_PARSE_OK)
		fail_msg("%s: %s", http_parse_names[parsed.rc], text);
	return &parsed.head;
}

static void assert_slice(struct slice s, const char *text)
{
	assert_int_equal(s.n, strlen(text));
	assert_memory_equal(s.p ? s.p : "", text, s.n);
}

static void assert_names(const struct http_head *h, const char *names)
{
	char text[256] = "";
	int n = 0;

	for (unsigned i = 0; i < h->n_fields; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%.*s",
			      i ? " " : "",
			      SLICE_FMT(field_name(&h->fields[i])));
	assert_string_equal(text, names);
}

static void test_request_facts(void **state)
{
	struct http_head *h = get(REQUEST, HTTP_GET,
		"\r\nPOST /a?b HTTP/1.1\r\nhost: H.example:8080\r\n"
		"X: \xc3\xa9\r\nConnection: Keep-Alive, TE, x-gone, close\r\n"
		"Content-Length: 12\r\nTE: gzip, Trailers\r\nX-Gone: 1\r\n"
		"Keep-Alive: 1\r\nProxy-Connection: close\r\nTrailer: q\r\n"
		"Upgrade: h2c\r\nZ:  y \r\nx-gone: 2\r\n\r\nbody");

	assert_slice(h->method, "POST");
	assert_int_equal(h->method_id, HTTP_POST);
	assert_slice(h->target, "/a?b");
	assert_slice(h->path, "/a?b");
	assert_slice(h->host, "H.example:8080");
	assert_int_equal(h->target_form, HTTP_TARGET_ORIGIN);
	assert_int_equal(h->minor, 1);
	assert_int_equal(h->framing, HTTP_BODY_LENGTH);
	assert_true(h->has_content_length);
	assert_int_equal(h->content_length, 12);
	assert_false(h->keep_alive);
	assert_true(h->te_trailers);
	assert_int_equal(h->upgrade.n, 0);
	assert_names(h, "host X Z");
	assert_int_equal(h->fields[0].flags, FIELD_LINE | FIELD_LOWER);
	assert_int_equal(h->fields[1].flags, FIELD_LINE | FIELD_NON_ASCII);
	assert_int_equal(h->fields[2].flags, 0);
	assert_slice(field_value(&h->fields[2]), "y");
	assert_memory_equal(parsed.bytes + h->head_bytes - 4, "\r\n\r\n", 4);
}

/* Blanks and bytes of 0x80 and above, with enough behind them for a look at
 * sixteen bytes at once, and without. */
static void test_values(void **state)
{
	static const struct {
		const char *line, *value;
		unsigned flags;
	} rows[] = {
		{ "a: b\r\n", "b", FIELD_LINE },
		{ "a: b \r\n", "b", 0 },
		{ "a: b\t\r\n", "b", 0 },
		{ "a:  b\r\n", "b", 0 },
		{ "a: \tb\r\n", "b", 0 },
		{ "a:\tb\r\n", "b", 0 },
		{ "a:b\r\n", "b", 0 },
		{ "a: b\tc\r\n", "b\tc", FIELD_LINE },
		{ "a: \r\n", "", FIELD_LINE },
		{ "a:\r\n", "", 0 },
		{ "a:  \r\n", "", 0 },
		{ "a: 0123456789abcdef \xff\r\n", "0123456789abcdef \xff",
		  FIELD_LINE | FIELD_NON_ASCII },
		{ "a: 0123456789abcdef\r\n", "0123456789abcdef", FIELD_LINE },
	};
	static const char *const tails[] = { "", "b: \xff\r\n",
		"b: 0123456789abcdef0123456789abcdef\r\n" };

	for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(tails); i++) {
		const char *line = rows[i % ARRAY_LEN(rows)].line;
		const char *tail = tails[i / ARRAY_LEN(rows)];
		const struct field *f;
		char text[128];

		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" H "%s%s\r\n",
			 line, tail);
		f = &get(REQUEST, HTTP_GET, text)->fields[1];
		assert_slice(field_value(f), rows[i % ARRAY_LEN(rows)].value);
		assert_int_equal(f->flags, FIELD_LOWER |
				 rows[i % ARRAY_LEN(rows)].flags);
	}
}

static void test_connection(void **state)
{
	struct http_head *h;

	assert_true(get(REQUEST, HTTP_GET, G(""))->keep_alive);
	assert_false(get(REQUEST, HTTP_GET,
			 G("Connection: x\r\nconnection:,CLOSE,\r\n"))
		     ->keep_alive);
	assert_false(get(REQUEST, HTTP_GET,
			 "GET / HTTP/1.0\r\n\r\n")->keep_alive);
	assert_true(get(REQUEST, HTTP_GET, "GET / HTTP/1.0\r\n"
			"Connection: keep-alive\r\n\r\n")->keep_alive);
	assert_false(get(REQUEST, HTTP_GET, "GET / HTTP/1.0\r\n"
			 "Connection: keep-alive, close\r\n\r\n")->keep_alive);
	h = get(REQUEST, HTTP_GET,
		G("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
	assert_slice(h->upgrade, "websocket");
	assert_names(h, "Host");
	h = get(REQUEST, HTTP_GET, "GET / HTTP/1.0\r\nConnection: Upgrade\r\n"
		"Upgrade: websocket\r\n\r\n");
	assert_int_equal(h->upgrade.n, 0);
	h = get(REQUEST, HTTP_GET,
		G("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n"));
	assert_int_equal(h->upgrade.n, 0);
	/* What proxies before us said cannot be struck out. */
	h = get(REQUEST, HTTP_GET,
		G("Connection: via, X-Forwarded-For, x-forwarded-port, "
		  "Forwarded, X-Request-Id, Cookie\r\nVia: a\r\n"
		  "X-Forwarded-For: b\r\nX-Forwarded-Port: 1\r\n"
		  "Forwarded: c\r\n"
		  "X-Request-Id: d\r\nCookie: e\r\n"));
	assert_names(h, "Host Via X-Forwarded-For X-Forwarded-Port Forwarded "
		     "X-Request-Id");
}

static void test_target_forms(void **state)
{
	struct http_head *h = get(REQUEST, HTTP_GET,
		"GET HTTP://A.example:80/x?y HTTP/1.1\r\n"
		"Host: a.Example\r\n\r\n");

	assert_int_equal(h->target_form, HTTP_TARGET_ABSOLUTE);
	assert_slice(h->path, "/x?y");
	assert_slice(h->host, "A.example:80");
	assert_false(h->scheme_https);
	assert_slice(field_value(http_head_find(h, HTTP_FIELD_HOST)),
		     "A.example:80");
	assert_int_equal(h->fields[0].flags & FIELD_LINE, 0);

	h = get(REQUEST, HTTP_GET, "GET https://[::1]:443 HTTP/1.1\r\n"
		"Host: [::1]\r\n\r\n");
	assert_true(h->scheme_https);
	assert_slice(h->path, "/");
	h = get(REQUEST, HTTP_GET, "GET http://h/ HTTP/1.0\r\n\r\n");
	assert_slice(h->host, "h");
	assert_slice(field_value(http_head_find(h, HTTP_FIELD_HOST)), "h");
	h = get(REQUEST, HTTP_GET, "OPTIONS * HTTP/1.1\r\n" H "\r\n");
	assert_int_equal(h->target_form, HTTP_TARGET_ASTERISK);
	assert_slice(h->path, "*");
	h = get(REQUEST, HTTP_GET, "OPTIONS http://h HTTP/1.1\r\n" H "\r\n");
	assert_slice(h->path, "*");
	h = get(REQUEST, HTTP_GET, "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
	assert_int_equal(h->target_form, HTTP_TARGET_AUTHORITY);
	assert_slice(h->host, "h:1");
	assert_slice(h->path, "");
}

/* Who matches routes may take such a host as it stands. */
static void test_plain_host(void **state)
{
	static const struct {
		const char *host;
		bool plain;
	} rows[] = {
		{ "www.example.com", true }, { "1.2.3.4", true },
		{ "a-b.example", true }, { "a.very-long.host.example", true },
		{ "www.example.com.", false }, { "www.example.com:80", false },
		{ "www.Example.com", false }, { "[::1]", false },
	};
	struct arena_pool pool;
	struct arena arena;

	arena_pool_init(&pool);
	arena_init(&arena, &pool);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice out, in = slice_str(rows[i].host);
		struct http_head *h;
		char text[128];

		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n"
			 "\r\n", rows[i].host);
		h = get(REQUEST, HTTP_GET, text);
		assert_int_equal(h->host_plain, rows[i].plain);
		out = http_host_normalise(in, &arena);
		assert_int_equal(h->host_plain, slice_eq(out, in) &&
				 in.p[0] != '[');
	}
	/* What counts is the target's. */
	assert_false(get(REQUEST, HTTP_GET, "GET http://A.example/ HTTP/1.1\r\n"
			 "Host: a.example\r\n\r\n")->host_plain);
	arena_fini(&arena);
	arena_pool_fini(&pool);
}

static void test_expect(void **state)
{
	struct http_head *h = get(REQUEST, HTTP_GET,
				  P("Expect: 100-continue\r\n"));

	assert_true(h->expect_continue);
	assert_non_null(http_head_find(h, HTTP_FIELD_EXPECT));
	h = get(REQUEST, HTTP_GET, "POST / HTTP/1.0\r\nExpect: x\r\n\r\n");
	assert_false(h->expect_continue);
	assert_null(http_head_find(h, HTTP_FIELD_EXPECT));
}

static void test_response_framing(void **state)
{
	static const struct {
		enum http_method method;
		enum http_framing framing;
		bool has_length, keep_alive;
		const char *text;
	} rows[] = {
		{ HTTP_GET, HTTP_BODY_CLOSE, 0, 0, V "\r\n" },
		{ HTTP_GET, HTTP_BODY_LENGTH, 1, 1,
		  V "Content-Length: 7\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_CHUNKED, 0, 1,
		  V "Transfer-Encoding: chunked\r\n\r\n" },
		{ HTTP_HEAD, HTTP_BODY_NONE, 1, 1,
		  V "Content-Length: 7\r\n\r\n" },
		{ HTTP_HEAD, HTTP_BODY_NONE, 0, 1, V "\r\n" },
		{ HTTP_HEAD, HTTP_BODY_NONE, 0, 1,
		  V "Transfer-Encoding: chunked\r\n\r\n" },
		{ HTTP_CONNECT, HTTP_BODY_NONE, 0, 1, V "\r\n" },
		{ HTTP_GET, HTTP_BODY_NONE, 1, 1,
		  "HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_NONE, 0, 1,
		  "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_NONE, 0, 0,
		  "HTTP/1.1 204 x\r\nContent-Length: 7\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_NONE, 0, 1, "HTTP/1.1 100 x\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_NONE, 0, 1, "HTTP/1.1 101 x\r\n\r\n" },
		{ HTTP_GET, HTTP_BODY_LENGTH, 1, 0,
		  "HTTP/1.0 200 x\r\nContent-Length: 7\r\n\r\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_head *h = get(RESPONSE, rows[i].method,
					  rows[i].text);
		assert_int_equal(h->framing, rows[i].framing);
		assert_int_equal(h->has_content_length, rows[i].has_length);
		assert_int_equal(h->content_length,
				 rows[i].has_length ? 7 : 0);
		assert_int_equal(h->keep_alive, rows[i].keep_alive);
	}
	assert_slice(get(RESPONSE, HTTP_GET, "HTTP/1.1 404 Not  Here\r\n\r\n")
		     ->reason, "Not  Here");
}

static void test_trailers(void **state)
{
	struct http_head *h = get(TRAILERS, HTTP_GET, "\r\n0\r\n");

	assert_int_equal(h->n_fields, 0);
	assert_int_equal(h->head_bytes, 2);
	h = get(TRAILERS, HTTP_GET,
		"Digest: a\r\nHost: x\r\nContent-Length: 1\r\nX-Sum: b\r\n"
		"Authorization: c\r\nTransfer-Encoding: chunked\r\n"
		"X-Forwarded-For: d\r\nContent-Range: e\r\nSet-Cookie: f\r\n"
		"\r\n");
	assert_names(h, "Digest X-Sum");
	free(parsed.bytes);
	parse_all_ways(TRAILERS, HTTP_GET, "A : b\r\n\r\n", 9, &parsed);
	assert_int_equal(parsed.rc, HTTP_PARSE_BAD_FIELD);
	free(parsed.bytes);
	parsed.bytes = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_statuses_of_faults),
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_faults_are_told_at_once),
		cmocka_unit_test(test_request_facts),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_connection),
		cmocka_unit_test(test_target_forms),
		cmocka_unit_test(test_plain_host),
		cmocka_unit_test(test_expect),
		cmocka_unit_test(test_response_framing),
		cmocka_unit_test(test_trailers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
