/* Heads as bytes: one reservation, one pass. */
#include "h1/internal.h"

/* Room for all that is not of the caller's: version, status, framing,
 * Connection, Date and their names. */
#define PUT_OWN		320

static inline char *put_bytes(char *to, const char *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}

#define PUT(to, literal)	put_bytes((to), (literal), sizeof(literal) - 1)

static inline char *put_slice(char *to, struct slice s)
{
	return s.n ? put_bytes(to, s.p, s.n) : to;
}

static char *put_number(char *to, uint64_t v)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	while (n)
		*to++ = digits[--n];
	return to;
}

static size_t fields_size(const struct http_head *head)
{
	size_t n = 0;

	for (unsigned i = 0; i < head->n_fields; i++)
		n += head->fields[i].name_len +
		     (size_t)head->fields[i].value_len + 4;
	return n;
}

/* Does the line stand as it is to be written? The flag says so; an edit that
 * forgot to clear it must not put old bytes on the wire. */
static inline bool field_is_line(const struct field *f)
{
	return (f->flags & FIELD_LINE) && f->value == f->name + f->name_len + 2;
}

/* Neighbours that were neighbours when they came are copied as one. */
static char *put_fields(char *to, const struct http_head *head)
{
	const struct field *f = head->fields, *end = f + head->n_fields;

	while (f < end) {
		if (LIKELY(field_is_line(f))) {
			const char *from = f->name, *till;

			do {
				till = f->value + f->value_len + 2;
				f++;
			} while (f < end && f->name == till &&
				 field_is_line(f));
			to = put_bytes(to, from, (size_t)(till - from));
			continue;
		}
		to = put_bytes(to, f->name, f->name_len);
		to = PUT(to, ": ");
		to = put_slice(to, field_value(f));
		to = PUT(to, "\r\n");
		f++;
	}
	return to;
}

/* Framing and Connection: what the fields array never has. */
static char *put_own(char *to, const struct http_head *head,
		     const struct h1_put *put, bool te)
{
	if (put->length) {
		to = PUT(to, "Content-Length: ");
		to = put_number(to, put->content_length);
		to = PUT(to, "\r\n");
	} else if (put->chunked) {
		to = PUT(to, "Transfer-Encoding: chunked\r\n");
	}
	if (put->date) {
		to = PUT(to, "Date: ");
		to = put_bytes(to, put->date, TIMEFMT_HTTP_DATE);
		to = PUT(to, "\r\n");
	}
	if (te)
		to = PUT(to, "TE: trailers\r\n");
	if (head->upgrade.n) {
		to = PUT(to, "Upgrade: ");
		to = put_slice(to, head->upgrade);
		to = PUT(to, "\r\n");
	}
	if (put->close || put->keep_alive || te || head->upgrade.n) {
		to = PUT(to, "Connection: ");
		if (head->upgrade.n)
			to = PUT(to, "upgrade, ");
		if (te)
			to = PUT(to, "TE, ");
		if (put->close)
			to = PUT(to, "close, ");
		if (put->keep_alive)
			to = PUT(to, "keep-alive, ");
		to = put_bytes(to - 2, "\r\n", 2);
	}
	return PUT(to, "\r\n");
}

static char *put_status_line(char *to, unsigned status, struct slice reason)
{
	to = PUT(to, "HTTP/1.1 ");
	to[0] = (char)('0' + status / 100 % 10);
	to[1] = (char)('0' + status / 10 % 10);
	to[2] = (char)('0' + status % 10);
	to[3] = ' ';
	to = put_slice(to + 4, reason);
	return PUT(to, "\r\n");
}

bool h1_put_response(struct outq *q, const struct http_head *head,
		     const struct h1_put *put)
{
	struct slice reason = head->reason;
	char *start, *to;

	if (!reason.n)
		reason = http_reason(head->status);
	start = outq_reserve(q, PUT_OWN + reason.n + head->upgrade.n +
				fields_size(head));
	if (UNLIKELY(!start))
		return false;
	to = put_status_line(start, head->status, reason);
	to = put_fields(to, head);
	to = put_own(to, head, put, false);
	return outq_commit(q, (size_t)(to - start));
}

bool h1_put_request(struct outq *q, const struct http_head *head,
		    const struct h1_put *put)
{
	char *start, *to;

	start = outq_reserve(q, PUT_OWN + head->method.n + head->path.n +
				head->upgrade.n + fields_size(head));
	if (UNLIKELY(!start))
		return false;
	to = put_slice(start, head->method);
	*to++ = ' ';
	to = put_slice(to, head->path);
	to = PUT(to, " HTTP/1.1\r\n");
	to = put_fields(to, head);
	to = put_own(to, head, put, head->te_trailers);
	return outq_commit(q, (size_t)(to - start));
}

bool h1_put_last_chunk(struct outq *q, const struct http_head *trailers)
{
	char *start, *to;

	start = outq_reserve(q, 8 + (trailers ? fields_size(trailers) : 0));
	if (UNLIKELY(!start))
		return false;
	to = PUT(start, "0\r\n");
	if (trailers)
		to = put_fields(to, trailers);
	to = PUT(to, "\r\n");
	return outq_commit(q, (size_t)(to - start));
}
