/* Events into frames: measure, reserve, write, commit. */
#include "wire/encode.h"

#include "base/mem.h"
#include "wire/base64.h"
#include "wire/put.h"

/* A body chunk up to this size is copied even where it could be referenced:
 * three segments cost more. */
#define COPY_MAX	512u

unsigned encode_count_names(const struct wire_format *f,
			    const struct event *ev,
			    const struct fields_index *x)
{
	unsigned n = x->n_names;

	if (LIKELY(!f->pseudo_headers))
		return n;
	for (unsigned i = 0; i < ev->head.n_fields; i++)
		if (fields_leads(x, i) && encode_hides(f, &ev->head.fields[i]))
			n--;
	return n + (encode_has_pseudo(f, ev) ? 2 : 0);
}

/* ---- measuring ---------------------------------------------------------- */

/* Bytes of all texts in the event; those that pseudo headers repeat twice. */
static inline size_t text_bytes(const struct event *ev,
				const struct fields_index *x)
{
	const struct event_meta *m = ev->meta;
	size_t n = 2 * (ev->head.method.n + ev->head.uri.n) + x->bytes;

	n += m->request_id.n + m->client_ip.n + m->server_name.n +
	     m->protocol.n + m->tls_version.n + m->tls_cipher.n +
	     m->route_id.n + m->upstream_id.n + m->timestamp.n +
	     m->traceparent.n;
	return n;
}

static size_t text_size(const struct wire_format *f, struct slice s)
{
	return f->encoding == WIRE_JSON ? put_json_text_size(s)
					: put_msgpack_text_size(s);
}

static size_t exact_bytes(const struct wire_format *f, const struct event *ev)
{
	const struct event_meta *m = ev->meta;
	const struct slice texts[] = {
		m->request_id, m->client_ip, m->server_name, m->protocol,
		m->tls_version, m->tls_cipher, m->route_id,
		m->upstream_id, m->timestamp, m->traceparent,
	};
	size_t n;

	n = 2 * (text_size(f, ev->head.method) + text_size(f, ev->head.uri));
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		n += text_size(f, texts[i]);
	for (unsigned i = 0; i < ev->head.n_fields; i++) {
		/* Names may be taken byte by byte where texts are not. */
		n += PUT_JSON_MAX((size_t)ev->head.fields[i].name_len);
		n += text_size(f, field_value(&ev->head.fields[i]));
	}
	return n;
}

static inline size_t head_bound(const struct wire_format *f,
				const struct event *ev,
				const struct fields_index *x)
{
	size_t fixed = ENCODE_HEAD_FIXED +
		       (size_t)ev->head.n_fields * ENCODE_FIELD_FIXED;
	size_t factor = f->encoding == WIRE_JSON ? 6 : 2;
	size_t bound;

	if (UNLIKELY(f->dialect != WIRE_V2))
		fixed += ENCODE_WRAP_MAX;
	bound = FRAME_HEAD + fixed + factor * text_bytes(ev, x);
	/* What fits a pooled block needs no second look. */
	if (LIKELY(bound <= BLOCK_SMALL))
		return bound;
	return FRAME_HEAD + fixed + exact_bytes(f, ev);
}

/* ---- events of one piece ------------------------------------------------ */

/* Writes the frame head before a payload that ends at `end`; queues both. */
static enum wire_result finish(struct outq *q, char *start, const char *end,
			       uint8_t type)
{
	size_t payload = (size_t)(end - start) - FRAME_HEAD;

	if (payload >= FRAME_MAX)
		return WIRE_TOO_LARGE;
	frame_write_head(start, type, payload);
	return outq_commit(q, FRAME_HEAD + payload) ? WIRE_OK : WIRE_NO_MEMORY;
}

/* The same of the other dialects, whose encoders write heads themselves. */
static enum wire_result finish_dialect(struct outq *q,
				       const struct wire_format *f,
				       const char *start, const char *end)
{
	size_t n = (size_t)(end - start);

	if (n > encode_dialect_max(f))
		return WIRE_TOO_LARGE;
	return outq_commit(q, n) ? WIRE_OK : WIRE_NO_MEMORY;
}

static enum wire_result encode_head(struct outq *q, const struct wire_format *f,
				    const struct event *ev, unsigned *t)
{
	struct fields_index x;
	char *start, *end;
	size_t bound;

	if (!fields_index_init(&x, ev->head.fields, ev->head.n_fields,
			       ev->head.n_own))
		return WIRE_NO_MEMORY;
	bound = head_bound(f, ev, &x);
	if (UNLIKELY(bound > FRAME_MAX + ENCODE_HEAD_FIXED)) {
		fields_index_fini(&x);
		return WIRE_TOO_LARGE;
	}
	start = outq_reserve(q, bound);
	if (!start) {
		fields_index_fini(&x);
		return WIRE_NO_MEMORY;
	}
	if (UNLIKELY(f->dialect != WIRE_V2))
		end = encode_dialect_head(start, f, ev, &x, t);
	else if (f->encoding == WIRE_JSON)
		end = encode_json_head(start + FRAME_HEAD, f, ev, &x, t);
	else
		end = encode_msgpack_head(start + FRAME_HEAD, f, ev, &x, t);
	ASSERT((size_t)(end - start) <= bound);
	fields_index_fini(&x);
	if (UNLIKELY(f->dialect != WIRE_V2))
		return finish_dialect(q, f, start, end);
	return finish(q, start, end, frame_type_of(ev->type));
}

static enum wire_result encode_complete(struct outq *q,
					const struct wire_format *f,
					const struct event *ev, unsigned *t)
{
	size_t bound = FRAME_HEAD + ENCODE_HEAD_FIXED +
		       ENCODE_WRAP_MAX + PUT_JSON_MAX(ev->complete.error.n);
	char *start, *end;

	if (bound > FRAME_MAX)
		return WIRE_TOO_LARGE;
	start = outq_reserve(q, bound);
	if (!start)
		return WIRE_NO_MEMORY;
	if (UNLIKELY(f->dialect != WIRE_V2))
		return finish_dialect(q, f, start,
				      encode_dialect_complete(start, f, ev, t));
	end = f->encoding == WIRE_JSON
		      ? encode_json_complete(start + FRAME_HEAD, ev, t)
		      : encode_msgpack_complete(start + FRAME_HEAD, f, ev, t);
	return finish(q, start, end, FRAME_COMPLETE);
}

static NOINLINE enum wire_result
encode_configure(struct outq *q, const struct wire_format *f,
		 const struct event *ev, unsigned *t)
{
	const struct event_configure *c = &ev->configure;
	enum wire_result result = WIRE_NO_MEMORY;
	struct slice config = c->config_json;
	char *start, *end, *packed = NULL;
	size_t bound;

	if (f->encoding == WIRE_MSGPACK) {
		packed = encode_msgpack_from_json(c->config_json, &config.n);
		if (!packed)
			return WIRE_NO_MEMORY;
		config.p = packed;
	}
	bound = FRAME_HEAD + ENCODE_HEAD_FIXED + ENCODE_WRAP_MAX + config.n +
		PUT_JSON_MAX(c->id.n) + PUT_JSON_MAX(c->version.n) +
		PUT_JSON_MAX(c->agent_id.n);
	if (bound > FRAME_MAX) {
		result = WIRE_TOO_LARGE;
		goto out;
	}
	start = outq_reserve(q, bound);
	if (!start)
		goto out;
	if (f->dialect == WIRE_V1) {
		end = encode_dialect_configure(start, ev, t);
		result = finish_dialect(q, f, start, end);
		goto out;
	}
	end = f->encoding == WIRE_JSON
		      ? encode_json_configure(start + FRAME_HEAD, ev, t)
		      : encode_msgpack_configure(start + FRAME_HEAD, f, ev,
						 config, t);
	result = finish(q, start, end, FRAME_CONFIGURE);
out:
	mem_free(packed);
	return result;
}

/* ---- chunks ------------------------------------------------------------- */

static bool edges_init(struct encode_edges *e, const struct wire_format *f,
		       const struct event *ev, size_t data)
{
	char *front = e->front + FRAME_HEAD, *end, *back;

	if (UNLIKELY(f->dialect != WIRE_V2)) {
		encode_dialect_edges(e, f, ev, data);
		return e->n_front + data + e->n_back <= encode_dialect_max(f);
	}
	if (f->encoding == WIRE_JSON) {
		end = encode_json_chunk_front(front, ev);
		back = encode_json_chunk_back(e->back, ev);
	} else {
		end = encode_msgpack_chunk_front(front, f, ev, data);
		back = encode_msgpack_chunk_back(e->back, f, ev);
	}
	e->n_front = (size_t)(end - e->front);
	e->n_back = (size_t)(back - e->back);
	if (e->n_front - FRAME_HEAD + data + e->n_back >= FRAME_MAX)
		return false;
	frame_write_head(e->front, frame_type_of(ev->type),
			 e->n_front - FRAME_HEAD + data + e->n_back);
	return true;
}

static char *put_pieces(char *o, const struct event_chunk *c, bool raw)
{
	struct base64 b = { .n_rest = 0 };

	for (unsigned i = 0; i < c->n_pieces; i++)
		o = raw ? put_bytes(o, c->pieces[i].p, c->pieces[i].n)
			: base64_put(&b, o, c->pieces[i].p, c->pieces[i].n);
	return base64_finish(&b, o);
}

static bool encode_chunk_small(struct outq *q, const struct encode_edges *e,
			       const struct event_chunk *c, bool raw,
			       size_t size)
{
	char *start = outq_reserve(q, size), *o;

	if (!start)
		return false;
	o = put_bytes(start, e->front, e->n_front);
	o = put_pieces(o, c, raw);
	put_bytes(o, e->back, e->n_back);
	return outq_commit(q, size);
}

static bool encode_chunk_raw(struct outq *q, const struct encode_edges *e,
			     const struct event_chunk *c)
{
	if (!outq_copy(q, e->front, e->n_front))
		return false;
	for (unsigned i = 0; i < c->n_pieces; i++)
		if (c->pieces[i].n &&
		    !outq_ref(q, c->pieces[i].block, c->pieces[i].p,
			      c->pieces[i].n))
			return false;
	return outq_copy(q, e->back, e->n_back);
}

/* Output in blocks of the larger pooled size. */
struct slab {
	struct outq *q;
	char *start, *o, *end;
	size_t left;		/* of the frame, not yet reserved */
};

static bool slab_next(struct slab *s)
{
	size_t n;

	if (s->o != s->start && !outq_commit(s->q, (size_t)(s->o - s->start)))
		return false;
	/* What the last block could not take is still to come. */
	n = min_size(s->left + (size_t)(s->end - s->o), BLOCK_LARGE);
	s->left += (size_t)(s->end - s->o) - n;
	s->start = s->o = n ? outq_reserve(s->q, n) : NULL;
	s->end = s->start ? s->start + n : NULL;
	return s->start || !n;
}

static bool slab_base64(struct slab *s, struct base64 *b, const char *p,
			size_t n)
{
	while (n) {
		/* Two bytes may be waiting: one group more than n makes. */
		size_t groups = (size_t)(s->end - s->o) / 4;
		size_t take = groups > 1 ? min_size(n, (groups - 1) * 3) : 0;

		if (!take) {
			if (!slab_next(s))
				return false;
			continue;
		}
		s->o = base64_put(b, s->o, p, take);
		p += take;
		n -= take;
	}
	return true;
}

static bool slab_copy(struct slab *s, const char *p, size_t n)
{
	if ((size_t)(s->end - s->o) < n && !slab_next(s))
		return false;
	s->o = put_bytes(s->o, p, n);
	return true;
}

static bool encode_chunk_base64(struct outq *q, const struct encode_edges *e,
				const struct event_chunk *c, size_t size)
{
	struct slab s = { .q = q, .left = size };
	struct base64 b = { .n_rest = 0 };
	char last[4];

	if (!slab_next(&s) || !slab_copy(&s, e->front, e->n_front))
		return false;
	for (unsigned i = 0; i < c->n_pieces; i++)
		if (!slab_base64(&s, &b, c->pieces[i].p, c->pieces[i].n))
			return false;
	if (!slab_copy(&s, last, (size_t)(base64_finish(&b, last) - last)) ||
	    !slab_copy(&s, e->back, e->n_back))
		return false;
	ASSERT(s.left == 0 && s.o == s.end);
	return outq_commit(q, (size_t)(s.o - s.start));
}

static NOINLINE enum wire_result
encode_chunk(struct outq *q, const struct wire_format *f,
	     const struct event *ev)
{
	const struct event_chunk *c = &ev->chunk;
	bool raw = f->raw_body && f->encoding == WIRE_MSGPACK, done;
	size_t data = raw ? c->bytes : base64_size(c->bytes), size;
	size_t sum = 0;
	struct outq own;
	struct encode_edges e;

	for (unsigned i = 0; i < c->n_pieces; i++)
		sum += c->pieces[i].n;
	ASSERT(sum == c->bytes);
	if (data >= FRAME_MAX || !edges_init(&e, f, ev, data))
		return WIRE_TOO_LARGE;
	size = e.n_front + data + e.n_back;
	if (size <= (raw ? COPY_MAX : BLOCK_SMALL))
		return encode_chunk_small(q, &e, c, raw, size) ? WIRE_OK
							: WIRE_NO_MEMORY;
	/* Several parts: q gets all of them or none. Its tail block is lent
	 * to the queue that they gather in. */
	outq_init(&own, q->pool);
	own.tail = q->tail;
	q->tail = NULL;
	done = raw ? encode_chunk_raw(&own, &e, c)
		   : encode_chunk_base64(&own, &e, c, size);
	if (done) {
		outq_move(q, &own);
	} else {
		q->tail = own.tail;
		own.tail = NULL;
	}
	outq_clear(&own);
	return done ? WIRE_OK : WIRE_NO_MEMORY;
}

enum wire_result wire_encode_event(struct outq *q, const struct wire_format *f,
				   const struct event *ev, unsigned *transcoded)
{
	switch (ev->type) {
	case EVENT_REQUEST_HEAD:
	case EVENT_RESPONSE_HEAD:
		return encode_head(q, f, ev, transcoded);
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		return encode_chunk(q, f, ev);
	case EVENT_COMPLETE:
		return encode_complete(q, f, ev, transcoded);
	case EVENT_CONFIGURE:
		return encode_configure(q, f, ev, transcoded);
	case EVENT_N:
		break;
	}
	ASSERT(!"an event type");
}
