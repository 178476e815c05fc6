/* Private to report/: how the registry lies in memory. */
#ifndef REPORT_REGISTRY_H
#define REPORT_REGISTRY_H

#include <pthread.h>

#include "base/list.h"
#include "report/metrics.h"

struct metrics_set {
	/* Immutable but for these two, which are under metrics.lock. */
	struct cds_list_head node;	/* in metrics.sets[kind], by name */
	unsigned refs;
	enum metrics_kind kind;
	unsigned n_workers;
	size_t stride;
	char *name, *name2;
	char *local;			/* n_workers parts, stride apart */
};

struct metrics {
	unsigned n_workers;
	size_t worker_stride;
	char *workers;
	/* The last reference of an agent goes on liburcu's thread, maybe while
	 * the control thread prints. */
	pthread_mutex_t lock;
	struct cds_list_head sets[METRICS_KIND_N];
};

#endif
