/*
 * What v2 agents say unasked (protocol page 7.3 to 7.6), in JSON and in both
 * MessagePack shapes. Read leniently: what is not known is skipped; false only
 * if it is not that kind of message at all. buf may be changed.
 */
#ifndef WIRE_REPORT_H
#define WIRE_REPORT_H

#include "base/words.h"
#include "wire/codec.h"

struct wire_health {
	enum agent_state state;
	struct slice text;	/* message or reason, may be empty */
	uint64_t valid_until_ms;	/* Unix time; 0: not said */
	/* What it wants time-outs to be stretched by: 100 to 400, in steps of
	 * 25. */
	unsigned timeout_percent;
};

/* Also go-v2's answer to a question of health. */
bool wire_decode_health(char *buf, size_t len, const struct wire_format *f,
			struct arena *scratch, struct wire_health *out)
	MUST_CHECK;

struct wire_flow {
	bool pause;
	struct slice id;	/* of an exchange; empty: the whole link */
};

bool wire_decode_flow(char *buf, size_t len, const struct wire_format *f,
		      struct arena *scratch, struct wire_flow *out) MUST_CHECK;

enum wire_update_kind { UPDATE_RELOAD, UPDATE_CONFIG_ERROR, UPDATE_OTHER };

struct wire_update {
	enum wire_update_kind kind;
	struct slice type, text;	/* text: of a config error */
};

bool wire_decode_update(char *buf, size_t len, const struct wire_format *f,
			struct arena *scratch, struct wire_update *out)
	MUST_CHECK;

#define WIRE_METRIC_LABELS	200u	/* bytes of all labels, NUL included */

enum wire_metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* One series. A histogram comes as several, by suffix. */
struct wire_metric {
	enum wire_metric_kind kind;
	struct slice name;	/* [a-zA-Z_][a-zA-Z0-9_]*, at most 64 */
	const char *suffix;	/* "", "_bucket", "_sum", "_count" */
	char labels[WIRE_METRIC_LABELS];	/* `a="b",c="d"`, escaped */
	double value;
};

/* Series with names or labels that are none are left out. */
bool wire_decode_metrics(char *buf, size_t len, const struct wire_format *f,
			 struct arena *scratch,
			 void (*fn)(void *arg, const struct wire_metric *m),
			 void *arg) MUST_CHECK;

/* go-v2's answer to a question of metrics: a few numbers under fixed names, and
 * those of its own under `custom`, which are told as gauges. */
bool wire_decode_go_metrics(char *buf, size_t len, struct arena *scratch,
			    void (*fn)(void *arg, const struct wire_metric *m),
			    void *arg) MUST_CHECK;

#endif
