/*
 * Names and values of fields, and editing a head. See head.h.
 */
#include <arpa/inet.h>

#include "http/parse.h"
#include "http/scan.h"

#define ALL	(CHAR_TOKEN | CHAR_TEXT | CHAR_TARGET)
#define WORD	(ALL | CHAR_NAME | CHAR_HOST | CHAR_UNRESERVED)

const uint8_t http_char_class[256] = {
	['\t'] = CHAR_TEXT,
	[' '] = CHAR_TEXT,
	['"'] = CHAR_TEXT | CHAR_TARGET,
	['#'] = CHAR_TEXT | CHAR_TOKEN,
	['%'] = ALL,
	['!'] = ALL | CHAR_HOST, ['$'] = ALL | CHAR_HOST,
	['&'] = ALL | CHAR_HOST, ['\''] = ALL | CHAR_HOST,
	['*'] = ALL | CHAR_HOST, ['+'] = ALL | CHAR_HOST,
	['('] = CHAR_TEXT | CHAR_TARGET | CHAR_HOST,
	[')'] = CHAR_TEXT | CHAR_TARGET | CHAR_HOST,
	[','] = CHAR_TEXT | CHAR_TARGET | CHAR_HOST,
	[';'] = CHAR_TEXT | CHAR_TARGET | CHAR_HOST,
	['='] = CHAR_TEXT | CHAR_TARGET | CHAR_HOST,
	['-'] = WORD,
	['.'] = ALL | CHAR_HOST | CHAR_UNRESERVED,
	['_'] = ALL | CHAR_HOST | CHAR_UNRESERVED,
	['~'] = ALL | CHAR_HOST | CHAR_UNRESERVED,
	['/'] = CHAR_TEXT | CHAR_TARGET, [':'] = CHAR_TEXT | CHAR_TARGET,
	['<'] = CHAR_TEXT | CHAR_TARGET, ['>'] = CHAR_TEXT | CHAR_TARGET,
	['?'] = CHAR_TEXT | CHAR_TARGET, ['@'] = CHAR_TEXT | CHAR_TARGET,
	['['] = CHAR_TEXT | CHAR_TARGET, ['\\'] = CHAR_TEXT | CHAR_TARGET,
	[']'] = CHAR_TEXT | CHAR_TARGET, ['{'] = CHAR_TEXT | CHAR_TARGET,
	['}'] = CHAR_TEXT | CHAR_TARGET,
	['^'] = ALL, ['`'] = ALL, ['|'] = ALL,
	['0' ... '9'] = WORD,
	['A' ... 'Z'] = WORD,
	['a' ... 'z'] = WORD,
	[0x80 ... 0xff] = CHAR_TEXT,
};

/* ---- names to numbers ---------------------------------------------------- */

/*
 * The hash is perfect, its multipliers found by trying: a collision shows up
 * as an initialiser that overrides another, and in the unit test.
 */
#define F(id, first, last, text)					\
	[FIELD_HASH(sizeof(text) - 1, first, last)] =			\
		{ text, sizeof(text) - 1, HTTP_FIELD_##id }

const struct http_field_slot http_field_slots[FIELD_SLOTS] = {
	F(CONNECTION, 'c', 'n', "connection"),
	F(KEEP_ALIVE, 'k', 'e', "keep-alive"),
	F(PROXY_CONNECTION, 'p', 'n', "proxy-connection"),
	F(TE, 't', 'e', "te"),
	F(TRAILER, 't', 'r', "trailer"),
	F(TRANSFER_ENCODING, 't', 'g', "transfer-encoding"),
	F(UPGRADE, 'u', 'e', "upgrade"),
	F(CONTENT_LENGTH, 'c', 'h', "content-length"),
	F(HOST, 'h', 't', "host"),
	F(EXPECT, 'e', 't', "expect"),
	F(VIA, 'v', 'a', "via"),
	F(X_FORWARDED_FOR, 'x', 'r', "x-forwarded-for"),
	F(X_FORWARDED_PROTO, 'x', 'o', "x-forwarded-proto"),
	F(X_FORWARDED_HOST, 'x', 't', "x-forwarded-host"),
	F(X_REQUEST_ID, 'x', 'd', "x-request-id"),
	F(TRACEPARENT, 't', 't', "traceparent"),
	F(RANGE, 'r', 'e', "range"),
	F(ACCEPT, 'a', 't', "accept"),
	F(ACCEPT_ENCODING, 'a', 'g', "accept-encoding"),
	F(ACCEPT_LANGUAGE, 'a', 'e', "accept-language"),
	F(USER_AGENT, 'u', 't', "user-agent"),
	F(CONTENT_TYPE, 'c', 'e', "content-type"),
	F(CONTENT_ENCODING, 'c', 'g', "content-encoding"),
	F(COOKIE, 'c', 'e', "cookie"),
	F(SET_COOKIE, 's', 'e', "set-cookie"),
	F(AUTHORIZATION, 'a', 'n', "authorization"),
	F(PROXY_AUTHENTICATE, 'p', 'e', "proxy-authenticate"),
	F(PROXY_AUTHORIZATION, 'p', 'n', "proxy-authorization"),
	F(WWW_AUTHENTICATE, 'w', 'e', "www-authenticate"),
	F(LOCATION, 'l', 'n', "location"),
	F(DATE, 'd', 'e', "date"),
	F(SERVER, 's', 'r', "server"),
	F(ETAG, 'e', 'g', "etag"),
	F(CONTENT_MD5, 'c', '5', "content-md5"),
	F(DIGEST, 'd', 't', "digest"),
	F(ACCEPT_RANGES, 'a', 's', "accept-ranges"),
	F(LAST_MODIFIED, 'l', 'd', "last-modified"),
	F(CACHE_CONTROL, 'c', 'l', "cache-control"),
	F(REFERER, 'r', 'r', "referer"),
	F(ORIGIN, 'o', 'n', "origin"),
	F(RETRY_AFTER, 'r', 'r', "retry-after"),
	F(IF_MODIFIED_SINCE, 'i', 'e', "if-modified-since"),
	F(IF_NONE_MATCH, 'i', 'h', "if-none-match"),
};

#undef F

_Static_assert(HTTP_FIELD_N <= 64, "present is a bit mask");

enum http_field_id http_field_lookup_plain(const char *name, size_t n)
{
	const struct http_field_slot *s;

	if (n < 2)
		return HTTP_FIELD_OTHER;
	s = http_field_slot(name, n);
	return text_is(slice_of(name, n), s->name, s->n) ? s->id :
							   HTTP_FIELD_OTHER;
}

enum http_field_id http_field_lookup(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!char_is(name.p[i], CHAR_NAME))
			return HTTP_FIELD_OTHER;
	return http_field_lookup_plain(name.p, name.n);
}

enum http_method http_method_lookup(struct slice name)
{
#define M(text, id)						\
	if (memcmp(name.p, text, sizeof(text) - 1) == 0)	\
		return id
	switch (name.n) {
	case 3:
		M("GET", HTTP_GET);
		M("PUT", HTTP_PUT);
		break;
	case 4:
		M("POST", HTTP_POST);
		M("HEAD", HTTP_HEAD);
		break;
	case 5:
		M("PATCH", HTTP_PATCH);
		M("TRACE", HTTP_TRACE);
		break;
	case 6:
		M("DELETE", HTTP_DELETE);
		break;
	case 7:
		M("OPTIONS", HTTP_OPTIONS);
		M("CONNECT", HTTP_CONNECT);
		break;
	}
#undef M
	return HTTP_OTHER;
}

bool http_method_idempotent(enum http_method m)
{
	switch (m) {
	case HTTP_GET:
	case HTTP_HEAD:
	case HTTP_PUT:
	case HTTP_DELETE:
	case HTTP_OPTIONS:
	case HTTP_TRACE:
		return true;
	case HTTP_OTHER:
	case HTTP_POST:
	case HTTP_CONNECT:
	case HTTP_PATCH:
	case HTTP_METHOD_N:
		break;
	}
	return false;
}

/* ---- syntax of values ---------------------------------------------------- */

static bool all_are(struct slice s, unsigned classes)
{
	for (size_t i = 0; i < s.n; i++)
		if (!char_is(s.p[i], classes))
			return false;
	return true;
}

bool http_token_valid(struct slice s)
{
	return s.n > 0 && all_are(s, CHAR_TOKEN);
}

bool http_value_valid(struct slice s)
{
	unsigned high = 0;

	if (s.n == 0)
		return true;
	return scan_text(s.p, s.p, s.p + s.n, &high) == s.p + s.n;
}

bool http_list_next(struct slice *list, struct slice *item)
{
	const char *p = list->p, *end, *start, *comma;

	if (list->n == 0)
		return false;
	end = p + list->n;
	while (p < end && (is_blank(*p) || *p == ','))
		p++;
	if (p == end)
		return false;
	start = p;
	comma = memchr(p, ',', (size_t)(end - p));
	p = comma ? comma : end;
	*list = slice_of(p, (size_t)(end - p));
	while (is_blank(p[-1]))
		p--;
	*item = slice_of(start, (size_t)(p - start));
	return true;
}

bool http_list_has(struct slice list, struct slice token)
{
	struct slice item;

	while (http_list_next(&list, &item))
		if (slice_eq_icase(item, token))
			return true;
	return false;
}

size_t http_host_len(struct slice host)
{
	size_t i = host.n;

	while (i > 0 && host.p[i - 1] >= '0' && host.p[i - 1] <= '9')
		i--;
	return i > 0 && host.p[i - 1] == ':' ? i - 1 : host.n;
}

static bool port_valid(struct slice s)
{
	unsigned port = 0;

	if (s.n < 1 || s.n > 5)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		port = port * 10 + (unsigned)(s.p[i] - '0');
	}
	return port <= 65535;
}

/* "[" IPv6 "]"; no zone, no IPvFuture. Out of line for the stack that it
 * needs. */
static NOINLINE bool ip6_literal_valid(struct slice s)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr addr;
	size_t n = s.n - 2;

	if (s.n < 4 || n >= sizeof(text) || s.p[s.n - 1] != ']')
		return false;
	memcpy(text, s.p + 1, n);
	text[n] = '\0';
	return !memchr(text, '\0', n) &&
	       inet_pton(AF_INET6, text, &addr) == 1;
}

bool http_odd_host_valid(struct slice s)
{
	size_t i = 0;

	if (s.n == 0)
		return false;
	if (s.p[0] == '[') {
		const char *close = memchr(s.p, ']', s.n);
		if (!close)
			return false;
		i = (size_t)(close - s.p) + 1;
		if (!ip6_literal_valid(slice_of(s.p, i)))
			return false;
	} else {
		while (i < s.n && char_is(s.p[i], CHAR_HOST))
			i++;
	}
	if (i == s.n)
		return true;
	return i > 0 && s.p[i] == ':' &&
	       port_valid(slice_of(s.p + i + 1, s.n - i - 1));
}

bool http_host_valid(struct slice s)
{
	return LIKELY(scan_plain_host(s)) || http_odd_host_valid(s);
}

/* ---- looking at and editing a head --------------------------------------- */

struct field *http_head_find(const struct http_head *head,
			     enum http_field_id id)
{
	if (!(head->present & FIELD_BIT(id)))
		return NULL;
	for (unsigned i = 0; i < head->n_fields; i++)
		if (head->fields[i].id == id)
			return &head->fields[i];
	return NULL;
}

bool http_head_add_id(struct http_head *head, enum http_field_id id,
		      struct slice name, struct slice value)
{
	unsigned high = 0, upper = 0;

	if (head->n_fields >= head->cap_fields || name.n > UINT16_MAX ||
	    value.n > UINT32_MAX)
		return false;
	for (size_t i = 0; i < name.n; i++)
		upper |= name.p[i] >= 'A' && name.p[i] <= 'Z';
	for (size_t i = 0; i < value.n; i++)
		high |= value.p[i] & 0x80;
	head->fields[head->n_fields++] = (struct field){
		.name = name.p,
		.value = value.p,
		.value_len = (uint32_t)value.n,
		.name_len = (uint16_t)name.n,
		.id = (uint8_t)id,
		.flags = (upper ? 0 : FIELD_LOWER) |
			 (high ? FIELD_NON_ASCII : 0),
	};
	head->present |= FIELD_BIT(id);
	return true;
}

bool http_head_add(struct http_head *head, struct slice name,
		   struct slice value)
{
	return http_head_add_id(head, http_field_lookup(name), name, value);
}

unsigned http_head_remove_id(struct http_head *head, enum http_field_id id)
{
	unsigned kept = 0, removed;

	if (!(head->present & FIELD_BIT(id)))
		return 0;
	for (unsigned i = 0; i < head->n_fields; i++)
		if (head->fields[i].id != id)
			head->fields[kept++] = head->fields[i];
	removed = head->n_fields - kept;
	head->n_fields = kept;
	head->present &= ~FIELD_BIT(id);
	return removed;
}

unsigned http_head_remove(struct http_head *head, struct slice name)
{
	enum http_field_id id = http_field_lookup(name);
	unsigned kept = 0, removed;
	uint64_t present = 0;

	if (id != HTTP_FIELD_OTHER)
		return http_head_remove_id(head, id);
	for (unsigned i = 0; i < head->n_fields; i++) {
		struct field *f = &head->fields[i];
		if (f->id == HTTP_FIELD_OTHER &&
		    slice_eq_icase(field_name(f), name))
			continue;
		present |= FIELD_BIT(f->id);
		head->fields[kept++] = *f;
	}
	removed = head->n_fields - kept;
	head->n_fields = kept;
	head->present = present;
	return removed;
}
