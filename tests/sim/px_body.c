/*
 * Bodies. Every eight bytes say whose they are and where they belong, so that
 * a byte that went astray, twice, or out of order is seen wherever it comes
 * out. What agents make of a body is remembered by stage, and what comes out
 * is compared with it.
 */
#include "px.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void px_buf_put(struct px_buf *b, const void *p, size_t n)
{
	if (b->size - b->n < n) {
		b->size = 2 * (b->n + n) + 64;
		b->p = realloc(b->p, b->size);
		ASSERT(b->p);
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

void px_buf_print(struct px_buf *b, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0);
	px_buf_put(b, text, (size_t)n);
	free(text);
}

void px_buf_free(struct px_buf *b)
{
	free(b->p);
	*b = (struct px_buf){ NULL, 0, 0 };
}

/* ---- patterns ------------------------------------------------------------ */

static uint64_t cell(unsigned n, unsigned dir, size_t i)
{
	uint64_t z = ((uint64_t)n << 33) + ((uint64_t)dir << 32) + i;

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void px_pattern(unsigned n, unsigned dir, size_t at, char *out, size_t len)
{
	while (len) {
		uint64_t v = cell(n, dir, at / 8);
		size_t skip = at % 8, part = min_size(8 - skip, len);

		memcpy(out, (const char *)&v + skip, part);
		out += part;
		at += part;
		len -= part;
	}
}

bool px_pattern_is(unsigned n, unsigned dir, size_t at, const char *p,
		   size_t len)
{
	while (len) {
		char want[512];
		size_t part = min_size(len, sizeof(want));

		px_pattern(n, dir, at, want, part);
		if (memcmp(p, want, part) != 0)
			return false;
		p += part;
		at += part;
		len -= part;
	}
	return true;
}

/* ---- what comes out ------------------------------------------------------ */

static const char *const names[] = { "request", "response" };

static size_t source_bytes(const struct px_exchange *x, unsigned dir)
{
	return dir == PX_REQUEST ? x->body_sent : x->answer_bytes;
}

void px_body_came(struct px_exchange *x, unsigned dir, const char *p,
		  size_t n)
{
	const struct px_route *r = px_route_of(x);
	struct px_buf *sink = &x->sink[dir];
	const struct px_stage *st = NULL;
	unsigned last = PX_PARTS;

	for (unsigned k = 0; k < r->n_asked; k++) {
		if (!px_has_stage(x, k, dir))
			continue;
		last = k;
		st = &x->parts[k].body[dir];
	}
	if (last == PX_PARTS)
		PX_CHECK(x->px, x, sink->n + n <= source_bytes(x, dir) &&
			 px_pattern_is(x->n, dir, sink->n, p, n),
			 "foreign bytes in the %s body at %zu", names[dir],
			 sink->n);
	else if (px_has_word(x, last))
		PX_CHECK(x->px, x, sink->n + n <= st->out.n &&
			 memcmp(st->out.p + sink->n, p, n) == 0,
			 "%s bytes from %zu to %zu that the last agent did "
			 "not let through (it did %zu)", names[dir], sink->n,
			 sink->n + n, st->out.n);
	px_buf_put(sink, p, n);
}

/* ---- the whole way, at the end ------------------------------------------- */

struct chain {
	const struct px_exchange *x;
	unsigned dir;
	bool complete;		/* what came out is a complete message */
};

static bool starts_with(const struct px_buf *whole, const struct px_buf *part)
{
	return part->n <= whole->n &&
	       (part->n == 0 || memcmp(whole->p, part->p, part->n) == 0);
}

/* Has this agent failed, and was it passed by then? */
static bool was_left_out(const struct px_exchange *x, unsigned k)
{
	for (unsigned e = 0; e <= EVENT_RESPONSE_CHUNK; e++)
		if (x->log.agents[k][e].verdict == VERDICT_FAIL_ALLOW &&
		    x->log.agents[k][e].there)
			return true;
	/* No memory for a note, or for the line. */
	return (x->px->faults & PX_NO_MEMORY) &&
	       !px_is_strict(&px_route_of(x)->asked[k]);
}

static bool chain_from(const struct chain *c, unsigned k,
		       const struct px_buf *in, bool whole);

/* The agent saw and judged `judged` bytes of in and made `made` bytes of them;
 * all else passed it by. */
static bool chain_past(const struct chain *c, unsigned k,
		       const struct px_buf *in, bool whole, size_t judged,
		       size_t made)
{
	const struct px_stage *st = &c->x->parts[k].body[c->dir];
	struct px_buf mix = { 0 };
	bool ok;

	if (judged > in->n)
		return false;
	px_buf_put(&mix, st->out.p, made);
	px_buf_put(&mix, in->p + judged, in->n - judged);
	ok = chain_from(c, k + 1, &mix, whole);
	px_buf_free(&mix);
	return ok;
}

/* Can what came out have come of `in`, through the agents from k on? */
static bool chain_from(const struct chain *c, unsigned k,
		       const struct px_buf *in, bool whole)
{
	const struct px_route *r = px_route_of(c->x);
	const struct px_buf *sink = &c->x->sink[c->dir];
	const struct px_stage *st;

	if (k == r->n_asked)
		return starts_with(in, sink) &&
		       (!c->complete || (whole && sink->n == in->n));
	if (!px_has_stage(c->x, k, c->dir))
		return chain_from(c, k + 1, in, whole);
	st = &c->x->parts[k].body[c->dir];
	if (!starts_with(in, &st->in))
		return false;
	if (chain_from(c, k + 1, &st->out, whole && st->done))
		return true;
	if (!was_left_out(c->x, k))
		return false;
	return chain_past(c, k, in, whole, st->in_done, st->out.n) ||
	       chain_past(c, k, in, whole, st->in_before, st->out_before);
}

/* Observers see what comes, a piece of it at least. */
static void check_observed(const struct px_exchange *x, unsigned dir,
			   const struct px_buf *in)
{
	const struct px_route *r = px_route_of(x);

	for (unsigned k = 0; k < r->n_asked; k++)
		PX_CHECK(x->px, x, !r->asked[k].observe ||
			 starts_with(in, &x->parts[k].body[dir].in),
			 "observer %u saw another %s body", k, names[dir]);
}

void px_body_check(struct px_exchange *x, unsigned dir, bool complete)
{
	struct chain c = { x, dir, complete };
	size_t n = source_bytes(x, dir);
	bool whole = dir == PX_REQUEST ? x->sent : x->answer_sent;
	struct px_buf in = { 0 };
	bool ok;

	for (unsigned k = 0; k < PX_PARTS; k++)
		if (x->parts[k].doubled)
			return;
	in.p = malloc(n + 1);
	ASSERT(in.p);
	in.n = in.size = n;
	px_pattern(x->n, dir, 0, in.p, n);
	check_observed(x, dir, &in);
	ok = chain_from(&c, 0, &in, whole);
	px_buf_free(&in);
	for (unsigned k = 0; !ok && k < px_route_of(x)->n_asked; k++) {
		const struct px_stage *st = &x->parts[k].body[dir];

		fprintf(stderr, "sim: agent %u got %zu bytes in %u chunks, "
			"answered %zu in %u, made %zu%s%s%s\n", k, st->in.n,
			st->n_asked, st->in_done, st->n_answered, st->out.n,
			st->in_last ? ", got the last" : "",
			st->done ? ", done" : "",
			st->refused ? ", refused" : "");
	}
	PX_CHECK(x->px, x, ok, "the %s body that came out (%zu bytes%s) is not "
		 "what went in (%zu bytes%s) and was judged", names[dir],
		 x->sink[dir].n, complete ? ", complete" : "", n,
		 whole ? ", complete" : "");
}
