/*
 * Faults of a config file: gathered, sorted by place, printed all at once.
 */
#ifndef CONFIG_FAULT_H
#define CONFIG_FAULT_H

#include <stdarg.h>
#include <stdio.h>

#include "base/arena.h"

#define FAULTS_MAX	1000u	/* told in full; the rest is counted */

struct fault {
	struct fault *next;
	unsigned line, col;	/* from 1 */
	const char *key;
	const char *text;
};

struct faults {
	struct arena *arena;	/* where texts live; borrowed */
	struct fault *first;	/* in order of place */
	unsigned n;
	bool no_memory;
};

void faults_init(struct faults *f, struct arena *arena);
void faults_add(struct faults *f, unsigned line, unsigned col, const char *key,
		const char *fmt, ...) PRINTF(5, 6);
void faults_vadd(struct faults *f, unsigned line, unsigned col, const char *key,
		 const char *fmt, va_list args);
/* FILE:LINE:COL: KEY: TEXT, one a line. */
void faults_print(const struct faults *f, const char *file, FILE *out);

/*
 * The nearest right name. Offer all, then ask: NULL if none is near enough to
 * be what was meant.
 */
struct nearest {
	const char *wrong;
	const char *best;
	unsigned distance;
};

void nearest_init(struct nearest *n, const char *wrong);
void nearest_offer(struct nearest *n, const char *right);

#endif
