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
	unsigned n = 1;

	for (uint64_t rest = v; UNLIKELY(rest >= 10); rest /= 10)
		n++;
	for (unsigned i = n; i-- > 0; v /= 10)
		to[i] = (char)('0' + v % 10);
	return to + n;
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

/*
 * Neighbours that were neighbours when they came are copied as one. NULL: it
 * would pass `limit`.
 */
static char *put_fields(char *to, const char *limit,
			const struct http_head *head)
{
	const struct field *f = head->fields, *end = f + head->n_fields;

	while (f < end) {
		if (LIKELY(field_is_line(f))) {
			const char *from = f->name, *till;
			size_t n;

			do {
				till = f->value + f->value_len + 2;
				f++;
			} while (f < end && f->name == till &&
				 field_is_line(f));
			n = (size_t)(till - from);
			if (UNLIKELY(n > (size_t)(limit - to)))
				return NULL;
			to = put_bytes(to, from, n);
			continue;
		}
		if (UNLIKELY((size_t)f->name_len + f->value_len + 4 >
			     (size_t)(limit - to)))
			return NULL;
		to = put_bytes(to, f->name, f->name_len);
		to = PUT(to, ": ");
		to = put_slice(to, field_value(f));
		to = PUT(to, "\r\n");
		f++;
	}
	return to;
}

/*
 * Room for a head whose fields need not be measured: nearly all fit what is
 * left of the block. `more` is for what stands before them. *limit: where they
 * must end, PUT_OWN bytes before the end of the room.
 */
static char *reserve(struct outq *q, size_t more, const char **limit)
{
	char *start = outq_reserve(q, PUT_OWN + more);

	if (LIKELY(start != NULL))
		*limit = start + block_room(q->tail) - PUT_OWN;
	return start;
}

/* Connection, with all that it lists. */
static NOINLINE char *
put_connection(char *to, const struct http_head *head,
	       const struct h1_put *put, bool te)
{
	if (te)
		to = PUT(to, "TE: trailers\r\n");
	if (head->upgrade.n) {
		to = PUT(to, "Upgrade: ");
		to = put_slice(to, head->upgrade);
		to = PUT(to, "\r\n");
	}
	to = PUT(to, "Connection: ");
	if (head->upgrade.n)
		to = PUT(to, "upgrade, ");
	if (te)
		to = PUT(to, "TE, ");
	if (put->close)
		to = PUT(to, "close, ");
	if (put->keep_alive)
		to = PUT(to, "keep-alive, ");
	return put_bytes(to - 2, "\r\n", 2);
}

/* Framing and Connection: what the fields array never has. */
static inline char *put_own(char *to, const struct http_head *head,
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
	if (UNLIKELY(put->close || put->keep_alive || te || head->upgrade.n))
		to = put_connection(to, head, put, te);
	return PUT(to, "\r\n");
}

static inline char *put_status_line(char *to, unsigned status,
				    struct slice reason)
{
	to = PUT(to, "HTTP/1.1 ");
	if (LIKELY(status == 200)) {
		to = PUT(to, "200 ");
	} else {
		to[0] = (char)('0' + status / 100 % 10);
		to[1] = (char)('0' + status / 10 % 10);
		to[2] = (char)('0' + status % 10);
		to[3] = ' ';
		to += 4;
	}
	to = put_slice(to, reason);
	return PUT(to, "\r\n");
}

static char *response_fields(struct outq *q, const struct http_head *head,
			     size_t measured, char **start)
{
	struct slice reason = head->reason;
	const char *limit;

	if (UNLIKELY(!reason.n))
		reason = http_reason(head->status);
	*start = reserve(q, 32 + reason.n + head->upgrade.n + measured,
			 &limit);
	if (UNLIKELY(!*start))
		return NULL;
	limit -= head->upgrade.n;
	return put_fields(put_status_line(*start, head->status, reason), limit,
			  head);
}

bool h1_put_response(struct outq *q, const struct http_head *head,
		     const struct h1_put *put)
{
	char *start, *to = response_fields(q, head, 0, &start);

	if (UNLIKELY(!to && start))
		to = response_fields(q, head, fields_size(head), &start);
	if (UNLIKELY(!to))
		return false;
	to = put_own(to, head, put, false);
	return outq_commit(q, (size_t)(to - start));
}

static char *request_fields(struct outq *q, const struct http_head *head,
			    size_t measured, char **start)
{
	const char *limit;
	char *to;

	*start = reserve(q, 32 + head->method.n + head->path.n +
			 head->upgrade.n + measured, &limit);
	if (UNLIKELY(!*start))
		return NULL;
	limit -= head->upgrade.n;
	to = put_slice(*start, head->method);
	*to++ = ' ';
	to = put_slice(to, head->path);
	to = PUT(to, " HTTP/1.1\r\n");
	return put_fields(to, limit, head);
}

bool h1_put_request(struct outq *q, const struct http_head *head,
		    const struct h1_put *put)
{
	char *start, *to = request_fields(q, head, 0, &start);

	if (UNLIKELY(!to && start))
		to = request_fields(q, head, fields_size(head), &start);
	if (UNLIKELY(!to))
		return false;
	to = put_own(to, head, put, head->te_trailers);
	return outq_commit(q, (size_t)(to - start));
}

bool h1_put_last_chunk(struct outq *q, const struct http_head *trailers)
{
	size_t size = 8 + (trailers ? fields_size(trailers) : 0);
	char *start, *to;

	start = outq_reserve(q, size);
	if (UNLIKELY(!start))
		return false;
	to = PUT(start, "0\r\n");
	if (trailers)
		to = put_fields(to, start + size, trailers);
	to = PUT(to, "\r\n");
	return outq_commit(q, (size_t)(to - start));
}
