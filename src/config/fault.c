#include "config/fault.h"

#define NEAREST_MAX	40u	/* longer names are not compared */

void faults_init(struct faults *f, struct arena *arena)
{
	*f = (struct faults){ .arena = arena };
}

/* A copy that is safe on a terminal and in a log. */
static const char *printable(struct arena *a, struct slice s)
{
	char *copy = arena_alloc(a, s.n + 1);

	if (!copy)
		return NULL;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		copy[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	copy[s.n] = '\0';
	return copy;
}

static bool after(const struct fault *a, const struct fault *b)
{
	return a->line != b->line ? a->line > b->line : a->col > b->col;
}

static void insert(struct faults *f, struct fault *fault)
{
	struct fault **at = &f->first;

	while (*at && !after(*at, fault))
		at = &(*at)->next;
	fault->next = *at;
	*at = fault;
}

void faults_vadd(struct faults *f, unsigned line, unsigned col, const char *key,
		 const char *fmt, va_list args)
{
	char text[512];
	struct fault *fault;
	int n;

	if (f->n++ >= FAULTS_MAX)
		return;
	n = vsnprintf(text, sizeof(text), fmt, args);
	fault = arena_alloc(f->arena, sizeof(*fault));
	if (!fault || n < 0) {
		f->no_memory = true;
		return;
	}
	fault->line = line;
	fault->col = col;
	fault->key = printable(f->arena, slice_str(key));
	fault->text = printable(f->arena, slice_str(text));
	if (!fault->key || !fault->text) {
		f->no_memory = true;
		return;
	}
	insert(f, fault);
}

void faults_add(struct faults *f, unsigned line, unsigned col, const char *key,
		const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	faults_vadd(f, line, col, key, fmt, args);
	va_end(args);
}

void faults_print(const struct faults *f, const char *file, FILE *out)
{
	for (const struct fault *i = f->first; i; i = i->next)
		fprintf(out, "%s:%u:%u: %s: %s\n", file, i->line, i->col,
			i->key, i->text);
	if (f->n > FAULTS_MAX)
		fprintf(out, "%s:1:1: config: %u more faults\n", file,
			f->n - FAULTS_MAX);
	if (f->no_memory)
		fprintf(out, "%s:1:1: config: out of memory\n", file);
}

void nearest_init(struct nearest *n, const char *wrong)
{
	size_t len = strlen(wrong);

	*n = (struct nearest){ .wrong = wrong };
	/* One letter in three may be wrong, at most three. */
	n->distance = (unsigned)min_size((len + 2) / 3, 3) + 1;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Optimal string alignment: insert, delete, replace, swap neighbours. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned row[3][NEAREST_MAX + 1];

	for (unsigned j = 0; j <= b.n; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned *now = row[i % 3];
		const unsigned *up = row[(i + 2) % 3];
		const unsigned *upup = row[(i + 1) % 3];

		now[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			bool same = ascii_lower(a.p[i - 1]) ==
				    ascii_lower(b.p[j - 1]);

			now[j] = min3(up[j] + 1, now[j - 1] + 1,
				      up[j - 1] + !same);
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
			    a.p[i - 2] == b.p[j - 1] && upup[j - 2] + 1 < now[j])
				now[j] = upup[j - 2] + 1;
		}
	}
	return row[a.n % 3][b.n];
}

void nearest_offer(struct nearest *n, const char *right)
{
	struct slice a = slice_str(n->wrong), b = slice_str(right);
	unsigned d;

	if (a.n > NEAREST_MAX || b.n > NEAREST_MAX || !b.n)
		return;
	d = distance(a, b);
	if (d < n->distance && d < b.n) {
		n->distance = d;
		n->best = right;
	} else if (!n->best && a.n >= 3 && slice_has_prefix(b, a)) {
		n->best = right;	/* cut short */
	}
}
