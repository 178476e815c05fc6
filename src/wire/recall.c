#include "wire/recall.h"

#include "base/mem.h"

/* An agent whose replies all differ must not pay for each twice. */
#define LEARN_EVERY	16u

struct recall *recall_new(struct arena_pool *pool)
{
	struct recall *r = mem_zalloc(sizeof(*r));

	if (r) {
		arena_init(&r->arena, pool);
		r->misses = LEARN_EVERY;
	}
	return r;
}

void recall_free(struct recall *r)
{
	if (!r)
		return;
	arena_fini(&r->arena);
	mem_free(r);
}

const struct decision *recall_find(struct recall *r, struct slice payload,
				   const char id[EVENT_ID_LEN])
{
	if (payload.n != r->len || payload.n == 0)
		return NULL;
	/* With the id in its place the reply is one text to compare. */
	memcpy(r->raw + r->id_at, id, EVENT_ID_LEN);
	if (memcmp(payload.p, r->raw, payload.n) != 0)
		return NULL;
	r->decision.id.p = payload.p + r->id_at;
	return &r->decision;
}

void recall_see(struct recall *r, struct slice payload)
{
	r->pending = 0;
	if (r->misses < LEARN_EVERY) {
		r->misses++;
		return;
	}
	if (payload.n > RECALL_MAX)
		return;
	/* What was remembered is given up here: raw is its other half. */
	r->len = 0;
	memcpy(r->raw, payload.p, payload.n);
	r->pending = (uint16_t)payload.n;
}

static bool worth_it(const struct decision *d)
{
	return d->id_kind == DECISION_ID_PRESENT && d->id.n == EVENT_ID_LEN &&
	       !d->request_body.present && !d->response_body.present;
}

void recall_learn(struct recall *r, const struct wire_format *f,
		  const struct decision *d)
{
	uint16_t n = r->pending;
	size_t at;

	r->pending = 0;
	if (n == 0 || !worth_it(d))
		return;
	r->misses = 0;
	memcpy(r->text, r->raw, n);
	arena_reset(&r->arena);
	if (wire_decode_reply(r->text, n, f, NULL, &r->arena, &r->decision) !=
	    DECISION_OK)
		return;
	/* The id must stand in the payload as it is, unescaped. */
	at = (size_t)(r->decision.id.p - r->text);
	if (at + EVENT_ID_LEN > n ||
	    memcmp(r->raw + at, d->id.p, EVENT_ID_LEN) != 0)
		return;
	r->id_at = (uint16_t)at;
	r->len = n;
}
