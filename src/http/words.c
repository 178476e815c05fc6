/*
 * Texts of HTTP: reason phrases (RFC 9110, 15), names of faults.
 */
#include "http/head.h"

const char *const http_parse_names[HTTP_PARSE_N] = {
	[HTTP_PARSE_OK] = "ok",
	[HTTP_PARSE_MORE] = "incomplete",
	[HTTP_PARSE_BAD_LINE] = "bad_line",
	[HTTP_PARSE_BAD_VERSION] = "bad_version",
	[HTTP_PARSE_BAD_TARGET] = "bad_target",
	[HTTP_PARSE_BAD_FIELD] = "bad_field",
	[HTTP_PARSE_BAD_HOST] = "bad_host",
	[HTTP_PARSE_BAD_FRAMING] = "bad_framing",
	[HTTP_PARSE_BAD_CHUNK] = "bad_chunk",
	[HTTP_PARSE_UNKNOWN_CODING] = "unknown_coding",
	[HTTP_PARSE_TARGET_TOO_LONG] = "target_too_long",
	[HTTP_PARSE_TOO_LARGE] = "too_large",
	[HTTP_PARSE_BAD_EXPECT] = "bad_expect",
};

unsigned http_parse_status(enum http_parse fault)
{
	switch (fault) {
	case HTTP_PARSE_UNKNOWN_CODING:
		return 501;
	case HTTP_PARSE_TARGET_TOO_LONG:
		return 414;
	case HTTP_PARSE_TOO_LARGE:
		return 431;
	case HTTP_PARSE_BAD_EXPECT:
		return 417;
	case HTTP_PARSE_OK:
	case HTTP_PARSE_MORE:
	case HTTP_PARSE_BAD_LINE:
	case HTTP_PARSE_BAD_VERSION:
	case HTTP_PARSE_BAD_TARGET:
	case HTTP_PARSE_BAD_FIELD:
	case HTTP_PARSE_BAD_HOST:
	case HTTP_PARSE_BAD_FRAMING:
	case HTTP_PARSE_BAD_CHUNK:
	case HTTP_PARSE_N:
		break;
	}
	return 400;
}

#define R(status, text)	[status - 100] = { text, sizeof(text) - 1 }

static const struct slice reasons[500] = {
	R(100, "Continue"),
	R(101, "Switching Protocols"),
	R(102, "Processing"),
	R(103, "Early Hints"),
	R(200, "OK"),
	R(201, "Created"),
	R(202, "Accepted"),
	R(203, "Non-Authoritative Information"),
	R(204, "No Content"),
	R(205, "Reset Content"),
	R(206, "Partial Content"),
	R(207, "Multi-Status"),
	R(208, "Already Reported"),
	R(226, "IM Used"),
	R(300, "Multiple Choices"),
	R(301, "Moved Permanently"),
	R(302, "Found"),
	R(303, "See Other"),
	R(304, "Not Modified"),
	R(305, "Use Proxy"),
	R(307, "Temporary Redirect"),
	R(308, "Permanent Redirect"),
	R(400, "Bad Request"),
	R(401, "Unauthorized"),
	R(402, "Payment Required"),
	R(403, "Forbidden"),
	R(404, "Not Found"),
	R(405, "Method Not Allowed"),
	R(406, "Not Acceptable"),
	R(407, "Proxy Authentication Required"),
	R(408, "Request Timeout"),
	R(409, "Conflict"),
	R(410, "Gone"),
	R(411, "Length Required"),
	R(412, "Precondition Failed"),
	R(413, "Content Too Large"),
	R(414, "URI Too Long"),
	R(415, "Unsupported Media Type"),
	R(416, "Range Not Satisfiable"),
	R(417, "Expectation Failed"),
	R(421, "Misdirected Request"),
	R(422, "Unprocessable Content"),
	R(423, "Locked"),
	R(424, "Failed Dependency"),
	R(425, "Too Early"),
	R(426, "Upgrade Required"),
	R(428, "Precondition Required"),
	R(429, "Too Many Requests"),
	R(431, "Request Header Fields Too Large"),
	R(451, "Unavailable For Legal Reasons"),
	R(500, "Internal Server Error"),
	R(501, "Not Implemented"),
	R(502, "Bad Gateway"),
	R(503, "Service Unavailable"),
	R(504, "Gateway Timeout"),
	R(505, "HTTP Version Not Supported"),
	R(506, "Variant Also Negotiates"),
	R(507, "Insufficient Storage"),
	R(508, "Loop Detected"),
	R(510, "Not Extended"),
	R(511, "Network Authentication Required"),
};

struct slice http_reason(unsigned status)
{
	if (status < 100 || status >= 100 + ARRAY_LEN(reasons) ||
	    !reasons[status - 100].p)
		return SLICE("");
	return reasons[status - 100];
}
