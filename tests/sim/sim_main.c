/*
 * The simulator's command line:
 *	sim [--seeds A-B | --seed N] [--only SCENARIO] [--twice] [-v]
 * Runs every scenario for every seed. --twice runs each two times and compares
 * what happened. The first failure ends it: what broke, and on the last line
 * the seed. At the end: seeds run, exchanges, and exchanges per second of real
 * time.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rcu.h"
#include "px.h"
#include "sim_scenario.h"

static const struct sim_scenario *const scenarios[] = {
	&sim_scenario_streams,
	&sim_scenario_proxy,
};

struct options {
	uint64_t first, last;
	const char *only;
	bool verbose, twice;
};

static char running[160];

static void on_abort(int sig)
{
	if (write(STDERR_FILENO, running, strlen(running)) < 0)
		_exit(1);
}

static bool parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		char *end;

		if (strcmp(argv[i], "-v") == 0) {
			o->verbose = true;
		} else if (strcmp(argv[i], "--twice") == 0) {
			o->twice = true;
		} else if (strcmp(argv[i], "--only") == 0 && more) {
			o->only = argv[++i];
		} else if (strncmp(argv[i], "--seed", 6) == 0 && more) {
			o->first = o->last = strtoull(argv[++i], &end, 10);
			if (*end == '-')
				o->last = strtoull(end + 1, &end, 10);
			if (*end)
				return false;
		} else {
			return false;
		}
	}
	return o->first <= o->last;
}

static void run_one(const struct sim_scenario *s, uint64_t seed,
		    const struct options *o)
{
	uint64_t digest;

	snprintf(running, sizeof(running),
		 "sim: FAILED: --only %s --seed %" PRIu64 "\n", s->name, seed);
	digest = s->run(seed, o->verbose);
	if (o->twice)
		ASSERT(s->run(seed, false) == digest);
}

/* Returns how many runs it were. */
static unsigned run_seed(uint64_t seed, const struct options *o)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
		if (o->only && strcmp(o->only, scenarios[i]->name) != 0)
			continue;
		run_one(scenarios[i], seed, o);
		n++;
	}
	return n;
}

/* ---- leaks ----------------------------------------------------------------- */

/* Seeds between two looks: each waits for liburcu's thread. */
#define LEAK_BATCH	64

static int64_t live;

static void on_memory(int change)
{
	__atomic_add_fetch(&live, change, __ATOMIC_RELAXED);
}

static bool has_leaked(void)
{
	rcu_drain();
	return __atomic_load_n(&live, __ATOMIC_RELAXED) != 0;
}

/* Something is left of one of these seeds: which? */
static void find_leak(uint64_t first, uint64_t last, const struct options *o)
{
	live = 0;
	for (uint64_t seed = first; seed <= last; seed++) {
		run_seed(seed, o);
		if (!has_leaked())
			continue;
		fprintf(stderr, "sim: seed %" PRIu64 ": %" PRId64
			" allocations are left\n", seed, live);
		abort();
	}
	fprintf(stderr, "sim: seeds %" PRIu64 "-%" PRIu64 ": allocations are "
		"left, but not of one of them\n", first, last);
	abort();
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct options o = { .first = 1, .last = 20 };
	double began = now(), took;
	unsigned passed = 0;

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: sim [--seeds A-B] [--only SCENARIO] "
			"[--twice] [-v]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGABRT, on_abort);
	mem_watch = on_memory;
	rcu_worker_online();
	for (uint64_t seed = o.first; seed <= o.last; seed++) {
		uint64_t n = seed - o.first + 1;

		passed += run_seed(seed, &o);
		if ((n % LEAK_BATCH == 0 || seed == o.last) && has_leaked())
			find_leak(seed - (n - 1) % LEAK_BATCH, seed, &o);
	}
	rcu_worker_offline();
	took = now() - began;
	printf("seeds %" PRIu64 "-%" PRIu64 ": %u runs, %" PRIu64
	       " exchanges in %.1f s, %.0f per second\n", o.first, o.last,
	       passed, px_exchanges, took, (double)px_exchanges / took);
	printf("%u passed, 0 failed\n", passed);
	return 0;
}
