/* The simulator's own strict reader of HTTP/1.1; see px_http.h. */
#include "px_http.h"

#include <stdlib.h>

#define HEAD_MAX	(128u * 1024)

static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c))
			return false;
	}
	return s.n > 0;
}

static bool is_value(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static bool digits(struct slice s, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > UINT64_MAX / 20)
			return false;
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	*out = v;
	return s.n > 0;
}

static bool eq_icase(struct slice a, const char *b)
{
	return slice_eq_icase(a, slice_str(b));
}

unsigned px_field(const struct px_reader *r, const char *name,
		  struct slice *value)
{
	unsigned n = 0;

	*value = SLICE_NONE;
	for (unsigned i = 0; i < r->n_fields; i++) {
		if (!eq_icase(r->fields[i].name, name))
			continue;
		*value = r->fields[i].value;
		n++;
	}
	return n;
}

/* Is word a member of the field's list? */
static bool has_member(struct slice list, const char *word)
{
	while (list.n) {
		const char *comma = memchr(list.p, ',', list.n);
		size_t n = comma ? (size_t)(comma - list.p) : list.n;
		struct slice m = slice_of(list.p, n);

		list = comma ? slice_of(comma + 1, list.n - n - 1) :
			       SLICE_NONE;
		while (m.n && m.p[0] == ' ')
			m = slice_of(m.p + 1, m.n - 1);
		while (m.n && m.p[m.n - 1] == ' ')
			m.n--;
		if (eq_icase(m, word))
			return true;
	}
	return false;
}

/* ---- heads --------------------------------------------------------------- */

/* Takes the line at *at off; its CRLF is looked for by the byte. */
static bool take_line(const char *p, size_t n, size_t *at, struct slice *line)
{
	for (size_t i = *at; i + 1 < n; i++) {
		if (p[i] == '\n')
			return false;
		if (p[i] != '\r')
			continue;
		if (p[i + 1] != '\n')
			return false;
		*line = slice_of(p + *at, i - *at);
		*at = i + 2;
		return true;
	}
	return false;
}

static const char *read_fields(const char *p, size_t n, size_t at,
			       struct px_field *fields, unsigned *count)
{
	struct slice line;

	*count = 0;
	for (;;) {
		const char *colon;
		struct px_field *f;

		if (!take_line(p, n, &at, &line))
			return "a line without its end";
		if (line.n == 0)
			return NULL;
		if (*count == PX_FIELDS)
			return "too many fields";
		f = &fields[(*count)++];
		colon = memchr(line.p, ':', line.n);
		if (!colon)
			return "a field without a colon";
		f->name = slice_of(line.p, (size_t)(colon - line.p));
		f->value = slice_of(colon + 1, line.n - f->name.n - 1);
		while (f->value.n && (f->value.p[0] == ' ' ||
				      f->value.p[0] == '\t'))
			f->value = slice_of(f->value.p + 1, f->value.n - 1);
		while (f->value.n && (f->value.p[f->value.n - 1] == ' ' ||
				      f->value.p[f->value.n - 1] == '\t'))
			f->value.n--;
		if (!is_token(f->name))
			return "a field name that is none";
		if (!is_value(f->value))
			return "a field value that is none";
	}
}

static const char *read_version(struct px_reader *r, struct slice s)
{
	if (s.n != 8 || memcmp(s.p, "HTTP/1.", 7) != 0 ||
	    (s.p[7] != '0' && s.p[7] != '1'))
		return "a bad version";
	r->minor = (unsigned)(s.p[7] - '0');
	return NULL;
}

static const char *read_status_line(struct px_reader *r, struct slice line)
{
	uint64_t status;

	if (line.n < 13 || line.p[8] != ' ' || line.p[12] != ' ' ||
	    !is_value(line) || !digits(slice_of(line.p + 9, 3), &status) ||
	    status < 100 || status > 599)
		return "a bad status line";
	r->status = (unsigned)status;
	return read_version(r, slice_of(line.p, 8));
}

static const char *read_request_line(struct px_reader *r, struct slice line)
{
	const char *a = memchr(line.p, ' ', line.n), *b;
	size_t rest;

	if (!a)
		return "a bad request line";
	rest = line.n - (size_t)(a - line.p) - 1;
	b = memchr(a + 1, ' ', rest);
	if (!b)
		return "a bad request line";
	r->method = slice_of(line.p, (size_t)(a - line.p));
	r->target = slice_of(a + 1, (size_t)(b - a) - 1);
	if (!is_token(r->method) || r->target.n == 0 || !is_value(r->target))
		return "a bad request line";
	return read_version(r, slice_of(b + 1, rest - r->target.n - 1));
}

static const char *frame(struct px_reader *r)
{
	struct slice te, cl, conn;
	unsigned n_te = px_field(r, "transfer-encoding", &te);
	unsigned n_cl = px_field(r, "content-length", &cl);
	unsigned n_conn = px_field(r, "connection", &conn);

	r->close = r->minor == 0 || has_member(conn, "close");
	if (r->minor == 0 && has_member(conn, "keep-alive"))
		r->close = false;
	if (n_conn > 1)
		return "several Connection fields";
	if (n_te > 1 || n_cl > 1 || (n_te && n_cl))
		return "ambiguous framing";
	if (n_te && (!eq_icase(te, "chunked") || r->minor == 0))
		return "an odd transfer coding";
	r->left = 0;
	if (n_cl && !digits(cl, &r->left))
		return "an odd Content-Length";
	r->framing = n_te ? PX_CHUNKED : n_cl ? PX_LENGTH : PX_NO_BODY;
	if (!r->response)
		return NULL;
	if (r->status < 200 || r->status == 204) {
		if (n_te || n_cl)
			return "framing where none may be";
		r->framing = PX_NO_BODY;
	} else if (r->to_head || r->status == 304) {
		r->framing = PX_NO_BODY;
	} else if (!n_te && !n_cl) {
		r->framing = PX_UNTIL_CLOSE;
		r->close = true;
	}
	return NULL;
}

static void read_head(struct px_reader *r, size_t end)
{
	const char *p = r->in.p + r->used;
	size_t at = 0;
	struct slice line;

	if (!take_line(p, end, &at, &line)) {
		r->error = "a first line without its end";
		return;
	}
	r->error = r->response ? read_status_line(r, line) :
				 read_request_line(r, line);
	if (!r->error)
		r->error = read_fields(p, end, at, r->fields, &r->n_fields);
	if (!r->error)
		r->error = frame(r);
	if (r->error)
		return;
	r->used += end;
	r->on_head(r);
	if (r->response && r->status < 200 && r->status != 101)
		return;
	if (r->framing == PX_CHUNKED)
		r->state = PX_READ_CHUNK;
	else if (r->framing == PX_UNTIL_CLOSE)
		r->state = PX_READ_BODY;
	else if (r->framing == PX_LENGTH && r->left)
		r->state = PX_READ_BODY;
	else
		r->state = PX_READ_DONE;
	if (r->state == PX_READ_DONE)
		r->on_end(r);
}

/* True: go on. */
static bool step_head(struct px_reader *r)
{
	const char *p = r->in.p + r->used;
	size_t n = px_reader_left(r);
	const char *end = memmem(p, n, "\r\n\r\n", 4);

	if (!end) {
		if (n > HEAD_MAX)
			r->error = "an endless head";
		return false;
	}
	read_head(r, (size_t)(end - p) + 4);
	return !r->error;
}

/* ---- bodies -------------------------------------------------------------- */

static bool step_body(struct px_reader *r)
{
	size_t n = px_reader_left(r);

	if (n == 0)
		return false;
	if (r->framing != PX_UNTIL_CLOSE)
		n = (size_t)min_u64(n, r->left);
	r->used += n;
	r->on_body(r, r->in.p + r->used - n, n);
	if (r->framing == PX_UNTIL_CLOSE)
		return true;
	r->left -= n;
	if (r->left)
		return true;
	if (r->framing == PX_CHUNKED) {
		r->state = PX_READ_CHUNK_END;
		return true;
	}
	r->state = PX_READ_DONE;
	r->on_end(r);
	return true;
}

/* The size line of a chunk; extensions are not for the proxy to make. */
static bool step_chunk(struct px_reader *r)
{
	const char *p = r->in.p + r->used;
	size_t n = px_reader_left(r), at = 0;
	uint64_t size = 0;
	struct slice line;

	if (!memmem(p, n, "\r\n", 2)) {
		if (n > 32)
			r->error = "an endless chunk size";
		return false;
	}
	if (!take_line(p, n, &at, &line) || line.n == 0 || line.n > 16) {
		r->error = "a bad chunk size";
		return false;
	}
	for (size_t i = 0; i < line.n; i++) {
		char c = line.p[i];
		int v = c >= '0' && c <= '9' ? c - '0' :
			c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (v < 0) {
			r->error = "a bad chunk size";
			return false;
		}
		size = size << 4 | (unsigned)v;
	}
	r->used += at;
	r->left = size;
	r->state = size ? PX_READ_BODY : PX_READ_TRAILERS;
	return true;
}

static bool step_chunk_end(struct px_reader *r)
{
	if (px_reader_left(r) < 2)
		return false;
	if (memcmp(r->in.p + r->used, "\r\n", 2) != 0) {
		r->error = "a chunk that does not end where it should";
		return false;
	}
	r->used += 2;
	r->state = PX_READ_CHUNK;
	return true;
}

static bool step_trailers(struct px_reader *r)
{
	const char *p = r->in.p + r->used, *end;
	size_t n = px_reader_left(r), len = 2;

	r->n_trailers = 0;
	if (n < 2)
		return false;
	if (memcmp(p, "\r\n", 2) != 0) {
		end = memmem(p, n, "\r\n\r\n", 4);
		if (!end)
			return false;
		len = (size_t)(end - p) + 4;
		r->error = read_fields(p, len, 0, r->trailers,
				       &r->n_trailers);
		if (r->error)
			return false;
	}
	r->used += len;
	r->state = PX_READ_DONE;
	r->on_end(r);
	return true;
}

/* ---- the reader ---------------------------------------------------------- */

static bool step(struct px_reader *r)
{
	switch (r->state) {
	case PX_READ_HEAD:
		return step_head(r);
	case PX_READ_BODY:
		return step_body(r);
	case PX_READ_CHUNK:
		return step_chunk(r);
	case PX_READ_CHUNK_END:
		return step_chunk_end(r);
	case PX_READ_TRAILERS:
		return step_trailers(r);
	case PX_READ_DONE:
		break;
	}
	return false;
}

void px_reader_feed(struct px_reader *r, const char *p, size_t n)
{
	if (r->used) {
		memmove(r->in.p, r->in.p + r->used, r->in.n - r->used);
		r->in.n -= r->used;
		r->used = 0;
	}
	px_buf_put(&r->in, p, n);
	while (!r->error && step(r))
		;
}

void px_reader_next(struct px_reader *r)
{
	r->state = PX_READ_HEAD;
}

bool px_reader_eof(struct px_reader *r)
{
	if (r->state != PX_READ_BODY || r->framing != PX_UNTIL_CLOSE)
		return false;
	r->state = PX_READ_DONE;
	r->on_end(r);
	return true;
}

size_t px_reader_left(const struct px_reader *r)
{
	return r->in.n - r->used;
}

void px_reader_free(struct px_reader *r)
{
	px_buf_free(&r->in);
}
