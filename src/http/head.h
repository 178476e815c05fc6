/*
 * HTTP/1.x heads (RFC 9112, RFC 9110): the strict parser of both directions.
 * Pure: bytes in, structs out; every slice points into the bytes given.
 */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "base/field.h"

enum http_method {
	HTTP_OTHER, HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE,
	HTTP_OPTIONS, HTTP_TRACE, HTTP_CONNECT, HTTP_PATCH,
	HTTP_METHOD_N
};

/*
 * Fields that somebody looks up by number. Those up to HTTP_FIELD_HOP_LAST are
 * hop-by-hop or framing and never stand in http_head.fields after parsing: they
 * become facts of the struct.
 */
enum http_field_id {
	HTTP_FIELD_OTHER,
	HTTP_FIELD_CONNECTION, HTTP_FIELD_KEEP_ALIVE,
	HTTP_FIELD_PROXY_CONNECTION, HTTP_FIELD_TE, HTTP_FIELD_TRAILER,
	HTTP_FIELD_TRANSFER_ENCODING, HTTP_FIELD_UPGRADE,
	HTTP_FIELD_CONTENT_LENGTH,
	HTTP_FIELD_HOP_LAST = HTTP_FIELD_CONTENT_LENGTH,
	HTTP_FIELD_HOST, HTTP_FIELD_EXPECT, HTTP_FIELD_VIA,
	HTTP_FIELD_X_FORWARDED_FOR, HTTP_FIELD_X_FORWARDED_PROTO,
	HTTP_FIELD_X_FORWARDED_HOST, HTTP_FIELD_X_REQUEST_ID,
	HTTP_FIELD_TRACEPARENT, HTTP_FIELD_RANGE, HTTP_FIELD_ACCEPT,
	HTTP_FIELD_ACCEPT_ENCODING, HTTP_FIELD_ACCEPT_LANGUAGE,
	HTTP_FIELD_USER_AGENT, HTTP_FIELD_CONTENT_TYPE,
	HTTP_FIELD_CONTENT_ENCODING, HTTP_FIELD_COOKIE, HTTP_FIELD_SET_COOKIE,
	HTTP_FIELD_AUTHORIZATION, HTTP_FIELD_PROXY_AUTHENTICATE,
	HTTP_FIELD_PROXY_AUTHORIZATION, HTTP_FIELD_WWW_AUTHENTICATE,
	HTTP_FIELD_LOCATION, HTTP_FIELD_DATE, HTTP_FIELD_SERVER,
	HTTP_FIELD_ETAG, HTTP_FIELD_CONTENT_MD5, HTTP_FIELD_DIGEST,
	HTTP_FIELD_ACCEPT_RANGES, HTTP_FIELD_LAST_MODIFIED,
	HTTP_FIELD_CACHE_CONTROL, HTTP_FIELD_REFERER, HTTP_FIELD_ORIGIN,
	HTTP_FIELD_RETRY_AFTER, HTTP_FIELD_IF_MODIFIED_SINCE,
	HTTP_FIELD_IF_NONE_MATCH,
	HTTP_FIELD_N		/* below 64: `present` is a bit mask */
};

/* How the body that follows is delimited (RFC 9112, 6.3). */
enum http_framing {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,	/* content_length bytes, also 0 */
	HTTP_BODY_CHUNKED,
	HTTP_BODY_CLOSE,	/* until the connection ends; responses only */
};

enum http_target_form {
	HTTP_TARGET_ORIGIN, HTTP_TARGET_ABSOLUTE, HTTP_TARGET_ASTERISK,
	HTTP_TARGET_AUTHORITY	/* CONNECT */
};

struct http_head {
	/* Request. */
	struct slice method;		/* as received */
	struct slice target;		/* as received */
	struct slice path;		/* path and query; "/" for an absolute
					 * form without; "*" for OPTIONS * and
					 * for OPTIONS with an absolute form
					 * without (9112, 3.2.4); empty for
					 * CONNECT */
	struct slice host;		/* of the target if absolute or CONNECT,
					 * else of Host: with port; empty if
					 * none. A Host in fields agrees with
					 * it to the letter */
	/* Response. */
	struct slice reason;
	uint16_t status;

	uint8_t method_id;		/* enum http_method */
	uint8_t target_form;
	uint8_t minor;			/* HTTP/1.<minor>: 0 or 1 */
	uint8_t framing;		/* enum http_framing */
	bool keep_alive;		/* what the sender wants, 9112 9.3 */
	bool expect_continue;
	bool te_trailers;		/* TE lists trailers */
	bool scheme_https;		/* absolute form with https */
	bool host_plain;		/* host is what http_host_normalise()
					 * would make of it */
	bool has_content_length;	/* a Content-Length stood there, to be
					 * said again: with HTTP_BODY_LENGTH,
					 * and with HTTP_BODY_NONE in responses
					 * to HEAD and in 304 */
	uint64_t content_length;	/* with has_content_length, else 0 */
	struct slice upgrade;		/* value of Upgrade, if Connection lists
					 * it; else empty */
	/* End-to-end fields in order of arrival; Connection-listed ones and
	 * all hop-by-hop ones are gone. */
	struct field *fields;
	unsigned n_fields, cap_fields;
	uint64_t present;		/* 1 << id for each id in fields */
	uint32_t head_bytes;		/* length of the head on the wire */
};

enum http_parse {
	HTTP_PARSE_OK,
	HTTP_PARSE_MORE,	/* not complete: come back with more bytes */
	/* Faults. 400 unless said. */
	HTTP_PARSE_BAD_LINE,	/* request or status line */
	HTTP_PARSE_BAD_VERSION,
	HTTP_PARSE_BAD_TARGET,
	HTTP_PARSE_BAD_FIELD,	/* name, colon, value, fold, bare CR or LF */
	HTTP_PARSE_BAD_HOST,	/* missing, twice, malformed, or not the
				 * target's */
	HTTP_PARSE_BAD_FRAMING,	/* TE with CL, odd or repeated CL or TE */
	HTTP_PARSE_BAD_CHUNK,
	HTTP_PARSE_UNKNOWN_CODING,	/* 501 */
	HTTP_PARSE_TARGET_TOO_LONG,	/* 414 */
	HTTP_PARSE_TOO_LARGE,		/* 431: bytes or number of fields */
	HTTP_PARSE_BAD_EXPECT,		/* an unknown expectation: 417 */
	HTTP_PARSE_N
};

/* Names for bad_requests_total{reason} and logs. */
extern const char *const http_parse_names[HTTP_PARSE_N];
/* The status that a client gets for a fault. */
unsigned http_parse_status(enum http_parse fault);

struct http_limits {
	uint32_t header_bytes;	/* whole head, start line included */
	uint32_t headers;	/* number of fields */
	uint32_t target_bytes;
};

/*
 * Parse a whole head from buf[0..len). head->fields must point at room for
 * head->cap_fields fields (at least limits->headers of them); everything else
 * is set. *scanned (0 at first) is kept by the caller between calls for the
 * same head, so that a dripping peer costs linear time. MORE: at most
 * header_bytes were looked at. A fault is reported as soon as it can be seen;
 * method and target have then what was read of them.
 * At most 4 empty lines before a request line are skipped (RFC 9112, 2.2) and
 * counted in head_bytes. What is found does not depend on how the bytes were
 * split; a fault of syntax is told before one of meaning (framing, Host, ...).
 *
 * Decided here, where the RFCs leave room:
 * - Fields that Connection lists are taken out, but Via, Forwarded, Expect,
 *   X-Request-Id and X-Forwarded-* are not (a client must not rid itself of
 *   what a proxy before us said), and listing Host, Content-Length or
 *   Transfer-Encoding is BAD_FIELD. More than 32 others are TOO_LARGE.
 * - Absolute form: the Host field must name the same authority (case and the
 *   scheme's default port aside), else BAD_HOST, and gets the target's
 *   spelling. An HTTP/1.0 request without Host gets one, the only field whose
 *   name is not from buf. A query without a path is BAD_TARGET.
 * - Host: reg-name without escapes, IPv4 or [IPv6]; a port is 1 to 5 digits,
 *   at most 65535; never empty.
 * - Upgrade in HTTP/1.0, or on several lines, is ignored.
 * - Expect in HTTP/1.0 is taken out and ignored.
 */
enum http_parse http_parse_request(const char *buf, size_t len,
	const struct http_limits *limits, uint32_t *scanned,
	struct http_head *head) MUST_CHECK;
/*
 * The same for a response to a request of method request_method, which decides
 * framing (HEAD, 204, 304, 1xx and 2xx to CONNECT have no body). A 204 that
 * announces a body all the same clears keep_alive, a 1xx that does is
 * BAD_FRAMING. With HTTP_BODY_CLOSE keep_alive is false.
 */
enum http_parse http_parse_response(const char *buf, size_t len,
	const struct http_limits *limits, uint32_t *scanned,
	enum http_method request_method, struct http_head *head) MUST_CHECK;

/* ---- looking at and editing a head --------------------------------------- */

/* First field of that number, or NULL. */
struct field *http_head_find(const struct http_head *head,
			     enum http_field_id id);
/* The number of a name, HTTP_FIELD_OTHER if none. */
enum http_field_id http_field_lookup(struct slice name);
/* The method's number; HTTP_OTHER. Case matters (RFC 9110, 9.1). */
enum http_method http_method_lookup(struct slice name);
bool http_method_idempotent(enum http_method m);

/* Appends; name and value must outlive the head. False: no room in fields. */
bool http_head_add(struct http_head *head, struct slice name,
		   struct slice value) MUST_CHECK;
/* The same when the number is known: no lookup. */
bool http_head_add_id(struct http_head *head, enum http_field_id id,
		      struct slice name, struct slice value) MUST_CHECK;
/* Takes out all fields of that name (ASCII case folded); how many. */
unsigned http_head_remove(struct http_head *head, struct slice name);
unsigned http_head_remove_id(struct http_head *head, enum http_field_id id);

bool http_token_valid(struct slice s);		/* RFC 9110, 5.6.2; not empty */
/* No CR, LF, NUL or other control but HTAB (RFC 9110, 5.5). */
bool http_value_valid(struct slice s);
bool http_host_valid(struct slice s);		/* host [":" port], see above */
/* Is token one of a comma-separated list? Case folded. */
bool http_list_has(struct slice list, struct slice token);
/* Of an Accept: is application/json named, with no less weight than text, and
 * before it if they weigh the same? */
bool http_prefers_json(struct slice accept);
/* The standard reason phrase; "" if none. */
struct slice http_reason(unsigned status);

#endif
