/*
 * The syntax of HTTP/1.x heads: start lines and field lines. See head.h.
 *
 * The first call for a head parses as far as the bytes go. If they don't reach
 * to its end, later calls only look at what is new: each byte for controls,
 * each line when it is complete. When the empty line has come, or a byte that
 * cannot be right, all is parsed once more from the start, which also gives
 * the answer. So a dripping peer costs three looks at each byte.
 */
#include "http/chunked.h"
#include "http/parse.h"
#include "http/scan.h"

#define EMPTY_LINES_MAX	4

enum parse_kind {
	PARSE_REQUEST,
	PARSE_RESPONSE,
	PARSE_TRAILERS,
};

struct parse {
	const char *base, *end;
	const char *p;		/* what comes next */
	const struct http_limits *limits;
	struct http_head *head;
	enum parse_kind kind;
};

/* ---- start lines --------------------------------------------------------- */

/* CR LF. */
static inline enum http_parse parse_crlf(struct parse *s, enum http_parse fault)
{
	const char *p = s->p;

	if (LIKELY(s->end - p >= 2 && memcmp(p, "\r\n", 2) == 0)) {
		s->p = p + 2;
		return HTTP_PARSE_OK;
	}
	if (p == s->end)
		return HTTP_PARSE_MORE;
	if (*p != '\r')
		return fault;
	return p + 1 == s->end ? HTTP_PARSE_MORE : fault;
}

static enum http_parse skip_empty_lines(struct parse *s)
{
	for (unsigned n = 0; s->p < s->end && *s->p == '\r'; n++) {
		enum http_parse rc;

		if (n == EMPTY_LINES_MAX)
			return HTTP_PARSE_BAD_LINE;
		rc = parse_crlf(s, HTTP_PARSE_BAD_LINE);
		if (rc != HTTP_PARSE_OK)
			return rc;
	}
	return HTTP_PARSE_OK;
}

/* Is it "HTTP/1.1" and the text `then` after it? */
static inline bool is_version_11(const struct parse *s, const char *then,
				 size_t n)
{
	return (size_t)(s->end - s->p) >= 8 + n &&
	       memcmp(s->p, "HTTP/1.1", 8) == 0 &&
	       memcmp(s->p + 8, then, n) == 0;
}

/* "HTTP/1.0" or "HTTP/1.1" (RFC 9112, 2.3). */
static enum http_parse parse_version(struct parse *s)
{
	static const char version[] = "HTTP/1.";
	const char *p = s->p;
	size_t n = (size_t)(s->end - p);

	if (LIKELY(n >= 8 && memcmp(p, "HTTP/1.1", 8) == 0)) {
		s->head->minor = 1;
		s->p = p + 8;
		return HTTP_PARSE_OK;
	}
	for (size_t i = 0; i < 8; i++) {
		if (i == n)
			return HTTP_PARSE_MORE;
		if (i < 7 ? p[i] == version[i] : p[i] == '0' || p[i] == '1')
			continue;
		return i < 5 ? HTTP_PARSE_BAD_LINE : HTTP_PARSE_BAD_VERSION;
	}
	s->head->minor = (uint8_t)(p[7] - '0');
	s->p = p + 8;
	return HTTP_PARSE_OK;
}

/* scheme "://" authority [path] ["?" query] (RFC 9112, 3.2.2). */
static enum http_parse split_absolute(struct http_head *h)
{
	static const struct slice http = { "http://", 7 };
	static const struct slice https = { "https://", 8 };
	struct slice t = h->target;
	size_t i, n;

	if (t.n > http.n && slice_eq_icase(slice_of(t.p, http.n), http)) {
		i = http.n;
	} else if (t.n > https.n &&
		   slice_eq_icase(slice_of(t.p, https.n), https)) {
		i = https.n;
		h->scheme_https = true;
	} else {
		return HTTP_PARSE_BAD_TARGET;
	}
	for (n = i; n < t.n && t.p[n] != '/' && t.p[n] != '?'; n++)
		;
	h->target_form = HTTP_TARGET_ABSOLUTE;
	h->host = slice_of(t.p + i, n - i);
	if (!http_host_valid(h->host))
		return HTTP_PARSE_BAD_TARGET;
	if (n == t.n)
		h->path = h->method_id == HTTP_OPTIONS ? SLICE("*") :
							 SLICE("/");
	else if (t.p[n] == '/')
		h->path = slice_of(t.p + n, t.n - n);
	else	/* its path would have to be made up */
		return HTTP_PARSE_BAD_TARGET;
	return HTTP_PARSE_OK;
}

/* The form of the target, and what it says (RFC 9112, 3.2). */
static enum http_parse split_target(struct http_head *h)
{
	struct slice t = h->target;

	if (UNLIKELY(h->method_id == HTTP_CONNECT)) {
		if (!http_host_valid(t) || http_host_len(t) == t.n)
			return HTTP_PARSE_BAD_TARGET;
		h->target_form = HTTP_TARGET_AUTHORITY;
		h->host = t;
		h->path = slice_of(t.p, 0);
		return HTTP_PARSE_OK;
	}
	if (LIKELY(t.p[0] == '/')) {
		h->target_form = HTTP_TARGET_ORIGIN;
		h->path = t;
		return HTTP_PARSE_OK;
	}
	if (t.p[0] == '*') {
		if (t.n != 1 || h->method_id != HTTP_OPTIONS)
			return HTTP_PARSE_BAD_TARGET;
		h->target_form = HTTP_TARGET_ASTERISK;
		h->path = t;
		return HTTP_PARSE_OK;
	}
	return split_absolute(h);
}

static inline enum http_parse parse_request_line(struct parse *s)
{
	struct http_head *h = s->head;
	const char *p, *start;
	enum http_parse rc;

	if (UNLIKELY(*s->p == '\r')) {
		rc = skip_empty_lines(s);
		if (rc != HTTP_PARSE_OK)
			return rc;
	}
	start = p = s->p;
	if (LIKELY(s->end - p >= 4 && memcmp(p, "GET ", 4) == 0))
		p += 3;
	while (p < s->end && char_is(*p, CHAR_TOKEN))
		p++;
	if (p == s->end)
		return HTTP_PARSE_MORE;
	if (*p != ' ' || p == start)
		return HTTP_PARSE_BAD_LINE;
	h->method = slice_of(start, (size_t)(p - start));
	h->method_id = (uint8_t)http_method_lookup(h->method);

	start = ++p;
	p = scan_target(s->base, p, s->end);
	h->target = slice_of(start, (size_t)(p - start));
	if (h->target.n > s->limits->target_bytes)
		return HTTP_PARSE_TARGET_TOO_LONG;
	if (p == s->end)
		return HTTP_PARSE_MORE;
	if (*p != ' ')
		return *p == '\r' || *p == '\n' ? HTTP_PARSE_BAD_LINE :
						  HTTP_PARSE_BAD_TARGET;
	if (h->target.n == 0)
		return HTTP_PARSE_BAD_LINE;
	rc = split_target(h);
	if (rc != HTTP_PARSE_OK)
		return rc;

	s->p = p + 1;
	if (LIKELY(is_version_11(s, "\r\n", 2))) {
		h->minor = 1;
		s->p += 10;
		return HTTP_PARSE_OK;
	}
	rc = parse_version(s);
	if (rc != HTTP_PARSE_OK)
		return rc;
	return parse_crlf(s, HTTP_PARSE_BAD_LINE);
}

/* HTTP-version SP 3DIGIT [SP [reason]] (RFC 9112, 4). */
static enum http_parse parse_status_line(struct parse *s)
{
	struct http_head *h = s->head;
	enum http_parse rc = HTTP_PARSE_OK;
	unsigned status = 0, high = 0;
	const char *p;

	if (LIKELY(is_version_11(s, " ", 1))) {
		h->minor = 1;
		s->p += 8;
	} else {
		rc = parse_version(s);
	}
	if (rc != HTTP_PARSE_OK)
		return rc;
	p = s->p;
	for (unsigned i = 0; i < 4; i++, p++) {
		if (p == s->end)
			return HTTP_PARSE_MORE;
		if (i == 0 ? *p != ' ' :
		    *p < (i == 1 ? '1' : '0') || *p > (i == 1 ? '5' : '9'))
			return HTTP_PARSE_BAD_LINE;
		if (i)
			status = status * 10 + (unsigned)(*p - '0');
	}
	h->status = (uint16_t)status;
	h->reason = slice_of(p, 0);
	if (p < s->end && *p == ' ') {
		const char *start = ++p;
		p = scan_text(s->base, p, s->end, &high);
		h->reason = slice_of(start, (size_t)(p - start));
	}
	s->p = p;
	return parse_crlf(s, HTTP_PARSE_BAD_LINE);
}

/* ---- field lines --------------------------------------------------------- */

/* From the colon at p to the line end. Blanks around the value are not part of
 * it; a line that has others than one before it is no FIELD_LINE. */
static enum http_parse parse_value(struct parse *s, const char *p,
				   struct field *f)
{
	const char *end = s->end, *value = p + 1, *stop;
	unsigned high = 0;

	while (value < end && is_blank(*value))
		value++;
	stop = scan_text(s->base, value, end, &high);
	s->p = stop;
	if (end - stop < 2 || memcmp(stop, "\r\n", 2) != 0)
		return parse_crlf(s, HTTP_PARSE_BAD_FIELD);
	s->p = stop + 2;
	if (value == p + 2 && p[1] == ' ')
		f->flags |= FIELD_LINE;
	while (stop > value && is_blank(stop[-1])) {
		f->flags &= (uint8_t)~FIELD_LINE;
		stop--;
	}
	f->value = value;
	f->value_len = (uint32_t)(stop - value);
	f->flags |= high ? FIELD_NON_ASCII : 0;
	return HTTP_PARSE_OK;
}

/*
 * One field line (RFC 9112, 5), from s->p on: moves s->p behind it and fills
 * in *f. A line that begins with a blank (obs-fold) has no name, hence is a
 * fault, as is a blank before the colon.
 */
static enum http_parse parse_field(struct parse *s, struct field *f)
{
	const char *name = s->p, *end = s->end, *p;
	unsigned upper = 0;
	bool plain;
	size_t n;

	p = scan_name(s->base, name, end, &upper);
	plain = p < end && *p == ':';
	for (; p < end && char_is(*p, CHAR_TOKEN); p++)
		upper |= *p >= 'A' && *p <= 'Z';
	n = (size_t)(p - name);
	if (n > UINT16_MAX)
		return HTTP_PARSE_TOO_LARGE;
	if (p == end)
		return HTTP_PARSE_MORE;
	if (*p != ':' || n == 0)
		return HTTP_PARSE_BAD_FIELD;
	f->name = name;
	f->name_len = (uint16_t)n;
	f->id = (uint8_t)(plain ? http_field_lookup_plain(name, n) : 0);
	f->flags = upper ? 0 : FIELD_LOWER;
	return parse_value(s, p, f);
}

/* The value has a byte of 0x80 or above? */
static NOINLINE bool value_has_high(const struct field *f)
{
	unsigned high = 0;

	for (uint32_t i = 0; i < f->value_len; i++)
		high |= f->value[i] & 0x80;
	return high;
}

#define LINE_MIN	16	/* bytes that take_line() wants to see */

#ifdef __SSE2__

/*
 * The name at p, whose n bytes are those of v that mask has; they are no
 * controls. False for "look closer". A name of the table needs no look at its
 * bytes but the comparison.
 */
static inline bool take_name(const char *p, size_t n, __m128i v, unsigned mask,
			     struct field *f)
{
	const struct http_field_slot *slot = http_field_slot(p, n);
	__m128i name = _mm_loadu_si128((const __m128i *)slot->name);
	/* Of all that may stand in a name, upper-case letters alone have not
	 * bit 5. */
	unsigned upper = ~(unsigned)_mm_movemask_epi8(_mm_slli_epi16(v, 2));
	unsigned same = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(
		_mm_or_si128(v, _mm_set1_epi8(0x20)), name));

	f->id = HTTP_FIELD_OTHER;
	if (slot->n == n && LIKELY(!(~same & mask)))
		f->id = slot->id;
	else if (UNLIKELY(scan_name_stops(v) & mask))
		return false;
	f->name = p;
	f->name_len = (uint16_t)n;
	f->flags = (uint8_t)(FIELD_LINE + !(upper & mask) * FIELD_LOWER);
	return true;
}

/* The next control from p on, *all being joined with what was seen; end if
 * there is none. There are LINE_MIN bytes before end. */
static inline const char *find_control(const char *p, const char *end,
				       __m128i *all)
{
	unsigned stop;
	__m128i v;

	for (; LIKELY(end - p >= 16); p += 16) {
		v = _mm_loadu_si128((const __m128i *)p);
		*all = _mm_or_si128(*all, v);
		stop = scan_text_stops(v);
		if (stop)
			return p + (unsigned)__builtin_ctz(stop);
	}
	if (p == end)
		return end;
	v = _mm_loadu_si128((const __m128i *)(end - 16));
	*all = _mm_or_si128(*all, v);
	stop = scan_text_stops(v) >> (16 - (end - p));
	return stop ? p + (unsigned)__builtin_ctz(stop) : end;
}

/*
 * The line at p, if it is as most lines are: a name of at most 15 letters,
 * digits and '-', colon, blank, a value without tabs and blanks around it.
 * Returns where the next line begins; NULL for "look closer". There are
 * LINE_MIN bytes before end.
 */
static inline const char *take_line(const char *p, const char *end,
				    struct field *f)
{
	__m128i v = _mm_loadu_si128((const __m128i *)p), all = v;
	unsigned stop = scan_text_stops(v);
	unsigned colon = (unsigned)_mm_movemask_epi8(
		_mm_cmpeq_epi8(v, _mm_set1_epi8(':'))) | 1u << 16;
	size_t n = (unsigned)__builtin_ctz(colon);
	unsigned mask = (1u << n) - 1;
	const char *value = p + n + 2, *cr, *last = end - 2;

	if (UNLIKELY(n - 1 > 14 || (stop & mask)))
		return NULL;
	if (UNLIKELY(!take_name(p, n, v, mask, f)))
		return NULL;
	cr = stop ? p + (unsigned)__builtin_ctz(stop) :
		    find_control(p + 16, end, &all);
	/* It comes behind the name. Right behind the colon or the blank it is
	 * one of the last three that finds out. */
	if (UNLIKELY(cr > last || memcmp(cr, "\r\n", 2) != 0 ||
		     value[-1] != ' ' || value[0] == ' ' || cr[-1] == ' '))
		return NULL;
	f->value = value;
	f->value_len = (uint32_t)(cr - value);
	/* `all` has bytes that are not of the value. */
	if (UNLIKELY(_mm_movemask_epi8(all)) && value_has_high(f))
		f->flags |= FIELD_NON_ASCII;
	return cr + 2;
}

#else

static inline const char *take_line(const char *p, const char *end,
				    struct field *f)
{
	return NULL;
}

#endif

/*
 * Too many fields. Told only at the end of the head, so that the answer does
 * not depend on how the bytes were split.
 */
static __attribute__((noinline, cold)) enum http_parse
parse_surplus(struct parse *s)
{
	enum http_parse rc = HTTP_PARSE_OK;
	struct field f;

	while (rc == HTTP_PARSE_OK && (s->p == s->end || *s->p != '\r'))
		rc = parse_field(s, &f);
	if (rc == HTTP_PARSE_OK)
		rc = parse_crlf(s, HTTP_PARSE_BAD_FIELD);
	return rc == HTTP_PARSE_OK ? HTTP_PARSE_TOO_LARGE : rc;
}

/* All field lines and the empty line. */
static enum http_parse parse_fields(struct parse *s, struct parse_seen *seen)
{
	struct http_head *h = s->head;
	unsigned left = h->cap_fields < s->limits->headers ?
			h->cap_fields : s->limits->headers;
	const char *p = s->p, *end = s->end;
	struct field *f = h->fields;
	uint64_t once = 0, twice = 0;

	for (;;) {
		const char *next = NULL;
		bool room = end - p >= LINE_MIN;
		uint64_t bit;

		if (LIKELY(room) ? *p == '\r' : p < end && *p == '\r')
			break;
		if (UNLIKELY(left-- == 0)) {
			s->p = p;
			return parse_surplus(s);
		}
		if (LIKELY(room))
			next = take_line(p, end, f);
		if (UNLIKELY(!next)) {
			enum http_parse rc;

			s->p = p;
			rc = parse_field(s, f);
			if (rc != HTTP_PARSE_OK)
				return rc;
			next = s->p;
		}
		p = next;
		bit = FIELD_BIT(f->id);
		twice |= once & bit;
		once |= bit;
		if (bit & HOP_BITS)
			http_read_hop_field(seen, f);
		else
			f++;
	}
	s->p = p;
	seen->once = once;
	seen->twice = twice;
	h->n_fields = (unsigned)(f - h->fields);
	h->present = once & ~HOP_BITS;
	return parse_crlf(s, HTTP_PARSE_BAD_FIELD);
}

static inline enum http_parse parse_lines(struct parse *s,
					  struct parse_seen *seen,
					  enum parse_kind kind)
{
	enum http_parse rc = HTTP_PARSE_OK;

	switch (kind) {
	case PARSE_REQUEST:
		rc = parse_request_line(s);
		break;
	case PARSE_RESPONSE:
		rc = parse_status_line(s);
		break;
	case PARSE_TRAILERS:
		break;
	}
	return rc == HTTP_PARSE_OK ? parse_fields(s, seen) : rc;
}

/* ---- coming back with more bytes ----------------------------------------- */

/* Is [base, line) nothing but empty lines? Then line is the start line. */
static bool is_first_line(const struct parse *s, const char *line)
{
	if (s->kind == PARSE_TRAILERS || line - s->base > 2 * EMPTY_LINES_MAX)
		return false;
	for (const char *p = s->base; p < line; p++)
		if (*p != '\r' && *p != '\n')
			return false;
	return true;
}

/*
 * Looks at the bytes from `from` on, all before having been looked at. True if
 * it is time to parse the whole: the head is complete, or has a fault.
 */
static bool look_at_new(struct parse *s, const char *from)
{
	unsigned high = 0;

	if (from[-1] == '\r')
		from--;
	for (;;) {
		const char *cr = scan_text(s->base, from, s->end, &high);
		const char *lf, *line;
		struct field f;

		if (cr == s->end || (*cr == '\r' && cr + 1 == s->end))
			return false;
		if (cr[0] != '\r' || cr[1] != '\n')
			return true;
		lf = memrchr(s->base, '\n', (size_t)(cr - s->base));
		line = lf ? lf + 1 : s->base;
		if (line == cr || is_first_line(s, line))
			return true;
		s->p = line;
		if (parse_field(s, &f) != HTTP_PARSE_OK)
			return true;
		from = cr + 2;
	}
}

static void clear_head(struct http_head *head)
{
	struct field *fields = head->fields;
	unsigned cap = head->cap_fields;

	memset(head, 0, sizeof(*head));
	head->fields = fields;
	head->cap_fields = cap;
}

/* A body of its own for each kind. */
static inline __attribute__((always_inline)) enum http_parse
parse_head(struct parse *s, struct parse_seen *seen, enum parse_kind kind,
	   const char *buf, size_t len, uint32_t *scanned)
{
	size_t max = min_size(len, s->limits->header_bytes);
	bool full = max == s->limits->header_bytes;
	enum http_parse rc;

	s->kind = kind;
	clear_head(s->head);
	memset(seen, 0, offsetof(struct parse_seen, listed));
	if (max == 0)
		return full ? HTTP_PARSE_TOO_LARGE : HTTP_PARSE_MORE;
	s->base = s->p = buf;
	s->end = buf + max;
	if (*scanned && !full && *scanned <= max &&
	    !look_at_new(s, buf + *scanned)) {
		*scanned = (uint32_t)max;
		return HTTP_PARSE_MORE;
	}
	s->p = buf;
	rc = parse_lines(s, seen, kind);
	*scanned = rc == HTTP_PARSE_MORE ? (uint32_t)max : 0;
	if (rc == HTTP_PARSE_MORE && full)
		return HTTP_PARSE_TOO_LARGE;
	s->head->head_bytes = (uint32_t)(s->p - buf);
	return rc;
}

enum http_parse http_parse_request(const char *buf, size_t len,
				   const struct http_limits *limits,
				   uint32_t *scanned, struct http_head *head)
{
	struct parse s = {
		.limits = limits, .head = head,
	};
	struct parse_seen seen;
	enum http_parse rc = parse_head(&s, &seen, PARSE_REQUEST, buf, len,
					scanned);

	return rc == HTTP_PARSE_OK ? http_settle_request(head, &seen) : rc;
}

enum http_parse http_parse_response(const char *buf, size_t len,
				    const struct http_limits *limits,
				    uint32_t *scanned,
				    enum http_method request_method,
				    struct http_head *head)
{
	struct parse s = {
		.limits = limits, .head = head,
	};
	struct parse_seen seen;
	enum http_parse rc = parse_head(&s, &seen, PARSE_RESPONSE, buf, len,
					scanned);

	return rc == HTTP_PARSE_OK ?
	       http_settle_response(head, &seen, request_method) : rc;
}

enum http_parse http_parse_trailers(const char *buf, size_t len,
				    const struct http_limits *limits,
				    uint32_t *scanned,
				    struct http_head *trailers)
{
	struct parse s = {
		.limits = limits, .head = trailers,
	};
	struct parse_seen seen;
	enum http_parse rc = parse_head(&s, &seen, PARSE_TRAILERS, buf, len,
					scanned);

	if (rc == HTTP_PARSE_OK)
		http_settle_trailers(trailers);
	return rc;
}
