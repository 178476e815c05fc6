/* The clock, the dice and the order of things; see sim_world.h. */
#include "sim_int.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define TURNS_MAX	200000	/* without time passing */

static struct sim_world *the_world;

struct sim_world *sim_the(void)
{
	ASSERT(the_world);
	return the_world;
}

/* ---- dice: xoshiro256**, seeded by splitmix64 ---------------------------- */

static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void rng_seed(uint64_t s[4], uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static uint64_t rng_next(uint64_t s[4])
{
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t net_below(struct sim_world *w, uint64_t n)
{
	return n ? rng_next(w->rng_net) % n : 0;
}

uint64_t net_between(struct sim_world *w, uint64_t min, uint64_t max)
{
	return min + net_below(w, max >= min ? max - min + 1 : 1);
}

bool net_chance(struct sim_world *w, uint32_t per_1000)
{
	return per_1000 && net_below(w, 1000) < per_1000;
}

uint64_t sim_random(struct sim_world *w)
{
	return rng_next(w->rng_script);
}

uint64_t sim_below(struct sim_world *w, uint64_t n)
{
	return n ? sim_random(w) % n : 0;
}

bool sim_chance(struct sim_world *w, uint32_t per_1000)
{
	return sim_below(w, 1000) < per_1000;
}

void sim_program_random(struct sim_world *w, void *buf, size_t n)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(rng_next(w->rng_program) >> 32);
}

void sim_note(struct sim_world *w, uint64_t a, uint64_t b)
{
	w->digest = (w->digest ^ a) * UINT64_C(0x100000001b3);
	w->digest = (w->digest ^ b ^ w->now_us) * UINT64_C(0x100000001b3);
	w->digest ^= w->digest >> 29;
}

/* ---- the order of things ------------------------------------------------- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void heap_swap(struct sim_world *w, size_t i, size_t j)
{
	struct sim_event t = w->heap[i];

	w->heap[i] = w->heap[j];
	w->heap[j] = t;
}

static void heap_up(struct sim_world *w, size_t i)
{
	while (i && before(&w->heap[i], &w->heap[(i - 1) / 2])) {
		heap_swap(w, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
}

static void heap_down(struct sim_world *w, size_t i)
{
	for (;;) {
		size_t least = i;

		for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < w->n_heap; c++)
			if (before(&w->heap[c], &w->heap[least]))
				least = c;
		if (least == i)
			return;
		heap_swap(w, i, least);
		i = least;
	}
}

uint64_t sim_after(struct sim_world *w, uint64_t delay_us,
		   void (*fn)(void *arg), void *arg)
{
	struct sim_event *ev;

	if (w->n_heap == w->heap_size) {
		w->heap_size = w->heap_size ? 2 * w->heap_size : 256;
		w->heap = realloc(w->heap, w->heap_size * sizeof(*w->heap));
		ASSERT(w->heap);
	}
	ev = &w->heap[w->n_heap++];
	*ev = (struct sim_event){ w->now_us + delay_us, ++w->next_seq, fn,
				  arg };
	heap_up(w, w->n_heap - 1);
	return w->next_seq;
}

void sim_cancel(struct sim_world *w, uint64_t id)
{
	for (size_t i = 0; i < w->n_heap; i++) {
		if (w->heap[i].seq != id)
			continue;
		w->n_heap--;
		if (i < w->n_heap) {
			w->heap[i] = w->heap[w->n_heap];
			heap_up(w, i);
			heap_down(w, i);
		}
		return;
	}
}

static bool run_event(struct sim_world *w)
{
	struct sim_event ev;

	if (!w->n_heap || w->heap[0].at_us > w->now_us)
		return false;
	ev = w->heap[0];
	w->heap[0] = w->heap[--w->n_heap];
	heap_down(w, 0);
	ev.fn(ev.arg);
	return true;
}

/* ---- running ------------------------------------------------------------- */

/* All loops that have something to do have one turn each. */
static bool turn_loops(struct sim_world *w)
{
	bool any = false;

	for (struct sim_loop *l = w->loops; l; l = l->next) {
		if (!sim_loop_has_work(l))
			continue;
		any = true;
		sim_loop_turn(l);
		w->now_us += net_below(w, (uint64_t)w->profile.turn_max + 1);
	}
	return any;
}

static uint64_t next_time(struct sim_world *w)
{
	uint64_t at = w->n_heap ? w->heap[0].at_us : UINT64_MAX;

	for (struct sim_loop *l = w->loops; l; l = l->next)
		at = min_u64(at, sim_loop_next_us(l));
	return at;
}

enum step { STEP_DONE, STEP_WORKED, STEP_OVER, STEP_NOTHING };

static enum step sim_step(struct sim_world *w, uint64_t until_us)
{
	uint64_t at;

	if (w->now_us >= until_us)
		return STEP_OVER;
	if (run_event(w) || turn_loops(w))
		return STEP_WORKED;
	at = next_time(w);
	if (at == UINT64_MAX)
		return STEP_NOTHING;
	w->now_us = at > until_us ? until_us : at > w->now_us ? at : w->now_us;
	return STEP_WORKED;
}

bool sim_run_until(struct sim_world *w, uint64_t until_us,
		   bool (*done)(void *arg), void *arg)
{
	uint64_t last_us = w->now_us;
	unsigned still = 0;

	while (!done || !done(arg)) {
		enum step step = sim_step(w, until_us);

		if (step == STEP_OVER)
			return done == NULL;
		if (step == STEP_NOTHING)
			return false;
		if (w->now_us / SIM_MS != last_us / SIM_MS)
			still = 0;
		/* Else the loops turn for ever on one spot. */
		ASSERT(++still < TURNS_MAX);
		last_us = w->now_us;
	}
	return true;
}

bool sim_run(struct sim_world *w, uint64_t until_us)
{
	return sim_run_until(w, until_us, NULL, NULL);
}

/* ---- the world ----------------------------------------------------------- */

static uint32_t between(struct sim_world *w, uint32_t min, uint32_t max)
{
	return (uint32_t)net_between(w, min, max);
}

static void draw_profile(struct sim_world *w)
{
	struct sim_profile *p = &w->profile;

	p->tcp_latency_min = between(w, 10, 500);
	p->tcp_latency_max = p->tcp_latency_min + between(w, 0, 5000);
	p->unix_latency_min = between(w, 1, 20);
	p->unix_latency_max = p->unix_latency_min + between(w, 0, 200);
	p->spike_chance = between(w, 0, 20);
	p->spike_max = between(w, 1000, 50000);
	p->split_chance = net_chance(w, 300) ? between(w, 500, 1000) :
					       between(w, 0, 300);
	p->short_chance = between(w, 0, 300);
	p->refuse_chance = between(w, 0, 50);
	p->buffer_min = net_chance(w, 300) ? 1 : 1024;
	p->buffer_max = between(w, 4096, 300000);
	p->late_max = between(w, 0, 5000);
	p->turn_max = between(w, 1, 100);
}

void sim_calm(struct sim_world *w)
{
	w->profile = (struct sim_profile){
		.tcp_latency_min = 100, .tcp_latency_max = 100,
		.unix_latency_min = 10, .unix_latency_max = 10,
		.buffer_min = 256 * 1024, .buffer_max = 256 * 1024,
	};
}

struct sim_profile *sim_profile(struct sim_world *w)
{
	return &w->profile;
}

uint64_t sim_now(const struct sim_world *w)
{
	return w->now_us;
}

uint64_t sim_digest(const struct sim_world *w)
{
	return w->digest;
}

static bool on_allocation(size_t bytes)
{
	struct sim_world *w = the_world;

	return w && w->in_turn && w->fail_per_million &&
	       net_below(w, 1000000) < w->fail_per_million;
}

void sim_memory_faults(struct sim_world *w, uint32_t per_million)
{
	w->fail_per_million = per_million;
	mem_fault = per_million ? on_allocation : NULL;
}

void sim_trace(struct sim_world *w, const char *fmt, ...)
{
	va_list ap;

	if (!w->verbose)
		return;
	printf("%10" PRIu64 " ", w->now_us);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

struct sim_world *sim_world_new(uint64_t seed, bool verbose)
{
	struct sim_world *w = calloc(1, sizeof(*w));

	ASSERT(w && !the_world);
	the_world = w;
	w->seed = seed;
	w->verbose = verbose;
	/* Not 0: a deadline's or a stamp's 0 must be able to mean none. */
	w->now_us = 1000 * SIM_SECOND;
	rng_seed(w->rng_net, seed);
	rng_seed(w->rng_script, seed ^ UINT64_C(0x5c71971d));
	rng_seed(w->rng_program, seed ^ UINT64_C(0x920912a3));
	draw_profile(w);
	w->next_id = FIRST_FD;
	return w;
}

static void free_segs(struct seg_queue *q)
{
	while (q->first) {
		struct seg *s = q->first;

		q->first = s->next;
		free(s);
	}
}

void sim_world_free(struct sim_world *w)
{
	if (w->open_fds)
		fprintf(stderr, "sim: seed %" PRIu64 ": %d descriptors open\n",
			w->seed, w->open_fds);
	ASSERT(w->open_fds == 0);
	ASSERT(!w->loops);
	while (w->ends) {
		struct sim_end *e = w->ends;

		w->ends = e->next;
		free_segs(&e->flight);
		free_segs(&e->visible);
		free(e->pending);
		free(e);
	}
	while (w->fates) {
		struct fate *f = w->fates;

		w->fates = f->next;
		free(f);
	}
	mem_fault = NULL;
	free(w->by_id);
	free(w->heap);
	free(w);
	the_world = NULL;
}
