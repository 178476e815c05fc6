/* The harness: see micro.h. */
#include "micro.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/rcu.h"

static const struct row *const lists[] = {
	rows_state, rows_record, rows_headers, rows_body, rows_own,
};

#define ROWS_MAX	512

/* What setup() made, by the row's number. */
static void *states[ROWS_MAX];

void pin_to(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double time_run(const struct row *row, void *state, uint64_t n)
{
	double start = now_ns();

	row->run(state, n);
	return now_ns() - start;
}

/* How many iterations take about 1/20 of the time asked for, then that many
 * times 20. */
static double measure(const struct row *row, void *state, double ms)
{
	double want = ms * 1e6, took = 0;
	uint64_t n = 1;

	while ((took = time_run(row, state, n)) < want / 20 && n < 1ull << 40)
		n *= took < want / 400 ? 8 : 2;
	n = (uint64_t)((double)n * want / (took > 1 ? took : 1)) + 1;
	return time_run(row, state, n) / (double)n;
}

static const struct row *find(const char *name, const char *variant,
			      unsigned *number)
{
	unsigned at = 0;

	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		for (const struct row *r = lists[i]; r->name; r++, at++)
			if (!strcmp(r->name, name) &&
			    !strcmp(r->variant, variant)) {
				*number = at;
				return r;
			}
	return NULL;
}

static void print_list(void)
{
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		for (const struct row *r = lists[i]; r->name; r++)
			printf("%s %s\n", r->name, r->variant);
	printf("\n");
}

static int run_line(const char *line)
{
	char name[128], variant[32], amount[32];
	const struct row *row;
	unsigned at;

	if (!strncmp(line, "list", 4)) {
		print_list();
		return 0;
	}
	if (sscanf(line, "%127s %31s %31s", name, variant, amount) != 3)
		return 1;
	row = find(name, variant, &at);
	if (!row || at >= ROWS_MAX) {
		fprintf(stderr, "no row %s %s\n", name, variant);
		return 1;
	}
	if (!states[at])
		states[at] = row->setup(row->arg);
	if (amount[0] == '#') {
		row->run(states[at], strtoull(amount + 1, NULL, 10));
		printf("0\n");
	} else {
		printf("%.4f\n", measure(row, states[at], atof(amount)));
	}
	return 0;
}

int main(void)
{
	char line[256];
	int result = 0;

	rcu_worker_online();
	while (!result && fgets(line, sizeof(line), stdin)) {
		result = run_line(line);
		fflush(stdout);
	}
	rcu_worker_offline();
	return result;
}
