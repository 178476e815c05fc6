/* The registry of counter sets, and histograms. Printing is print.c. */
#include "base/mem.h"
#include "report/registry.h"

static const uint64_t bounds_us[HISTOGRAM_BUCKETS] = {
	10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000,
	100000, 250000, 500000, 1000000, 2500000, 10000000, 30000000,
	UINT64_MAX,
};

/* How many bounds are below 1 << k. */
static const uint8_t bounds_below[64] = {
	0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	16, 17, 17, 18, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19,
	19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19,
	19, 19, 19, 19, 19, 19, 19,
};

const char *const metrics_bad_names[METRICS_BAD_REASONS] = {
	/* enum http_parse; OK and MORE are no faults. */
	[METRICS_BAD_PARSE_FIRST + 2] = "bad_line",
	"bad_version", "bad_target", "bad_field", "bad_host", "bad_framing",
	"bad_chunk", "unknown_coding", "target_too_long", "too_large",
	"bad_expect",
	[METRICS_BAD_AMBIGUOUS_PATH] = "ambiguous_path",
	[METRICS_BAD_PATH] = "bad_path",
	[METRICS_BAD_NO_ROUTE] = "no_route",
	[METRICS_BAD_METHOD] = "method",
	[METRICS_BAD_BODY_TOO_LARGE] = "body_too_large",
	[METRICS_BAD_TIMEOUT] = "timeout",
	[METRICS_BAD_CUT] = "cut",
	[METRICS_BAD_UPGRADE] = "upgrade",
};

const char *const metrics_registration_names[METRICS_REG_N] = {
	[METRICS_REG_OK] = "ok",
	[METRICS_REG_MALFORMED] = "malformed",
	[METRICS_REG_NOT_ACCEPTED] = "not_accepted",
	[METRICS_REG_DIALECT] = "dialect",
	[METRICS_REG_TOO_MANY] = "too_many",
	[METRICS_REG_LATE] = "late",
	[METRICS_REG_CROWDED] = "crowded",
	[METRICS_REG_OVERLOAD] = "overload",
	[METRICS_REG_NOT_READY] = "not_ready",
};

const char *const metrics_upstream_names[METRICS_UPSTREAM_ERRORS] = {
	NULL, "refused", "timeout", "no_memory", "malformed",
	"response_timeout", "closed", NULL,
};

static const size_t kind_bytes[METRICS_KIND_N] = {
	[METRICS_ROUTE] = sizeof(struct route_metrics),
	[METRICS_LISTENER] = sizeof(struct listener_metrics),
	[METRICS_UPSTREAM] = sizeof(struct upstream_metrics),
	[METRICS_SERVER] = sizeof(struct server_metrics),
	[METRICS_AGENT] = sizeof(struct agent_metrics),
};

void histogram_add(struct histogram *h, uint64_t us)
{
	/* How many bounds are below us: from one power of two to the next
	 * there is at most one. */
	unsigned i = bounds_below[63 - __builtin_clzll(us | 1)];

	i += bounds_us[i] < us;
	counter_inc(&h->bucket[i]);
	counter_add(&h->sum_us, us);
}

/* A worker's part starts on a cache line of its own. */
static size_t stride_of(size_t bytes)
{
	return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

struct metrics *metrics_new(unsigned n_workers)
{
	struct metrics *m = mem_zalloc(sizeof(*m));

	if (!m)
		return NULL;
	m->n_workers = n_workers;
	m->worker_stride = stride_of(sizeof(struct worker_metrics));
	m->workers = mem_zalloc_aligned(n_workers * m->worker_stride);
	if (!m->workers || pthread_mutex_init(&m->lock, NULL) != 0) {
		mem_free(m->workers);
		mem_free(m);
		return NULL;
	}
	for (unsigned k = 0; k < METRICS_KIND_N; k++)
		CDS_INIT_LIST_HEAD(&m->sets[k]);
	return m;
}

static void set_free(struct metrics_set *set)
{
	cds_list_del(&set->node);
	mem_free(set->name);
	mem_free(set->name2);
	mem_free(set->local);
	mem_free(set);
}

void metrics_free(struct metrics *m)
{
	struct metrics_set *set, *next;

	if (!m)
		return;
	for (unsigned k = 0; k < METRICS_KIND_N; k++)
		cds_list_for_each_entry_safe(set, next, &m->sets[k], node)
			set_free(set);
	pthread_mutex_destroy(&m->lock);
	mem_free(m->workers);
	mem_free(m);
}

unsigned metrics_workers(const struct metrics *m)
{
	return m->n_workers;
}

struct worker_metrics *metrics_worker(struct metrics *m, unsigned w)
{
	ASSERT(w < m->n_workers);
	return (struct worker_metrics *)(m->workers + w * m->worker_stride);
}

static struct metrics_set *set_new(struct metrics *m, enum metrics_kind kind,
				   const char *name, const char *name2)
{
	struct metrics_set *set = mem_zalloc(sizeof(*set));

	if (!set)
		return NULL;
	set->refs = 1;
	set->kind = kind;
	set->n_workers = m->n_workers;
	set->stride = stride_of(kind_bytes[kind]);
	set->name = mem_strdup(slice_str(name));
	set->name2 = mem_strdup(slice_str(name2));
	set->local = mem_zalloc_aligned(m->n_workers * set->stride);
	if (set->name && set->name2 && set->local)
		return set;
	mem_free(set->name);
	mem_free(set->name2);
	mem_free(set->local);
	mem_free(set);
	return NULL;
}

/* The set of that name; else NULL, and where it would stand: by name, so that
 * the page is stable. */
static struct metrics_set *set_find(struct metrics *m, enum metrics_kind kind,
				    const char *name, const char *name2,
				    struct cds_list_head **after)
{
	struct metrics_set *set;

	*after = &m->sets[kind];
	cds_list_for_each_entry(set, &m->sets[kind], node) {
		int d = strcmp(set->name, name);

		if (d == 0)
			d = strcmp(set->name2, name2);
		if (d == 0)
			return set;
		if (d > 0)
			break;
		*after = &set->node;
	}
	return NULL;
}

struct metrics_set *metrics_set_get(struct metrics *m, enum metrics_kind kind,
				    const char *name, const char *name2)
{
	struct cds_list_head *after;
	struct metrics_set *set;

	pthread_mutex_lock(&m->lock);
	set = set_find(m, kind, name, name2, &after);
	if (set) {
		set->refs++;
	} else {
		set = set_new(m, kind, name, name2);
		if (set)
			cds_list_add(&set->node, after);
	}
	pthread_mutex_unlock(&m->lock);
	return set;
}

void metrics_set_put(struct metrics *m, struct metrics_set *set)
{
	if (!set)
		return;
	pthread_mutex_lock(&m->lock);
	ASSERT(set->refs > 0);
	if (--set->refs == 0)
		set_free(set);
	pthread_mutex_unlock(&m->lock);
}

void *metrics_set_local(struct metrics_set *set, unsigned w)
{
	ASSERT(w < set->n_workers);
	return set->local + w * set->stride;
}
