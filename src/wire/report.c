#include "wire/report.h"

#include <stdio.h>

#include "wire/values.h"

#define LABELS_MAX	8u
#define BUCKETS_MAX	32u
#define NAME_MAX_LEN	64u

static void report_init(struct values *v, char *buf, size_t len,
			const struct wire_format *f, struct arena *scratch)
{
	values_init(v, buf, len, f->encoding == WIRE_JSON ||
		    (len && *buf == '{'), scratch);
}

static bool report_good(struct values *v)
{
	return reader_at_end(&v->r) && !v->fault;
}

/* Skips what is no number: false. */
static bool number_or_none(struct values *v, double *out)
{
	enum token token = reader_next(&v->r);

	*out = 0;
	if (token == TOKEN_FLOAT)
		*out = v->r.real;
	else if (token == TOKEN_INT)
		*out = (v->r.negative ? -1 : 1) * (double)v->r.num;
	else
		reader_finish(&v->r, token, NULL);
	return token == TOKEN_FLOAT || token == TOKEN_INT;
}

/* Skips what is no string. */
static struct slice text_or_none(struct values *v)
{
	enum token token = reader_next(&v->r);
	struct slice s = v->r.str;

	if (values_is_str(v, token))
		return s;
	reader_finish(&v->r, token, NULL);
	return SLICE_NONE;
}

/* ---- tagged values ----------------------------------------------------- */

/*
 * "word", {key: "word", ...} or ["word", ...]: the word, and the first string
 * of the rest that stands under text_key (or just comes next in an array).
 */
struct tagged {
	struct slice word, text;
	uint64_t number;	/* a bare number; 0: none */
	double multiplier;	/* of time-outs, third in an array; 0: none */
};

static void tagged_map(struct values *v, const char *key, const char *text_key,
		       struct tagged *t)
{
	struct reader_iter it;
	struct slice k;

	if (!reader_enter(&v->r, &it, true))
		return;
	while (reader_more(&v->r, &it) && reader_key(&v->r, &k)) {
		if (slice_eq(k, slice_str(key)))
			t->word = text_or_none(v);
		else if (slice_eq(k, slice_str(text_key)))
			t->text = text_or_none(v);
		else if (slice_eq(k, SLICE("timeout_multiplier")))
			(void)number_or_none(v, &t->multiplier);
		else
			reader_skip(&v->r);
	}
}

static void tagged_array(struct values *v, struct tagged *t)
{
	struct reader_iter it;

	if (!reader_enter(&v->r, &it, false))
		return;
	for (unsigned i = 0; reader_more(&v->r, &it); i++) {
		if (i == 0)
			t->word = text_or_none(v);
		else if (i == 1)
			t->text = text_or_none(v);
		else if (i == 2)
			(void)number_or_none(v, &t->multiplier);
		else
			reader_skip(&v->r);
	}
}

static void read_tagged(struct values *v, const char *key,
			const char *text_key, struct tagged *t)
{
	enum token token = reader_next(&v->r);

	memset(t, 0, sizeof(*t));
	if (token == TOKEN_INT && !v->r.negative)
		t->number = v->r.num;
	else if (values_is_str(v, token))
		t->word = v->r.str;
	else if (token == TOKEN_MAP)
		tagged_map(v, key, text_key, t);
	else if (token == TOKEN_ARRAY)
		tagged_array(v, t);
	else
		values_wrong_type(v, token);
}

/* ---- health ------------------------------------------------------------ */

static bool state_of(const struct tagged *t, enum agent_state *state)
{
	static const enum agent_state by_number[] = {
		AGENT_STATE_N, AGENT_HEALTHY, AGENT_DEGRADED, AGENT_DRAINING,
		AGENT_UNHEALTHY,
	};

	if (t->number) {
		if (t->number >= ARRAY_LEN(by_number))
			return false;
		*state = by_number[t->number];
		return true;
	}
	for (int i = 0; i < AGENT_STATE_N; i++) {
		if (!slice_eq(t->word, slice_str(agent_state_names[i])))
			continue;
		*state = (enum agent_state)i;
		return true;
	}
	return false;
}

/* Steps, for the loop has one list for each duration that there is. */
static unsigned stretch_of(const struct tagged *t)
{
	if (!(t->multiplier > 1))	/* also if it is no number */
		return 100;
	if (t->multiplier >= 4)
		return 400;
	return ((unsigned)(t->multiplier * 100) + 24) / 25 * 25;
}

bool wire_decode_health(char *buf, size_t len, const struct wire_format *f,
			struct arena *scratch, struct wire_health *out)
{
	static const struct slice names[] = {
		{ "agent_id", 8 }, { "state", 5 }, { "message", 7 },
		{ "load", 4 }, { "resources", 9 }, { "valid_until_ms", 14 },
		{ "timestamp_ms", 12 },
	};
	struct tagged t = { .number = 0 };
	struct reader_members m;
	struct values v;
	int i;

	memset(out, 0, sizeof(*out));
	report_init(&v, buf, len, f, scratch);
	if (!values_struct(&v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&v.r, &m)) >= 0) {
		if (i == 1)
			read_tagged(&v, "status", "reason", &t);
		else if (i == 2)
			out->text = text_or_none(&v);
		else if (i == 5)
			(void)values_uint_or_nil(&v, UINT64_MAX,
						 &out->valid_until_ms);
		else
			reader_skip(&v.r);
	}
	if (!out->text.n)
		out->text = t.text;
	if (!report_good(&v) || !state_of(&t, &out->state))
		return false;
	out->timeout_percent = out->state == AGENT_DEGRADED ? stretch_of(&t) :
							      100;
	return true;
}

/* ---- flow control ------------------------------------------------------ */

bool wire_decode_flow(char *buf, size_t len, const struct wire_format *f,
		      struct arena *scratch, struct wire_flow *out)
{
	static const struct slice names[] = {
		{ "correlation_id", 14 }, { "action", 6 },
		{ "timestamp_ms", 12 },
	};
	struct tagged t = { .number = 0 };
	struct reader_members m;
	struct values v;
	int i;

	memset(out, 0, sizeof(*out));
	report_init(&v, buf, len, f, scratch);
	if (!values_struct(&v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&v.r, &m)) >= 0) {
		if (i == 0)
			(void)values_str_or_nil(&v, &out->id);
		else if (i == 1)
			read_tagged(&v, "type", "", &t);
		else
			reader_skip(&v.r);
	}
	out->pause = t.number == 1 || slice_eq(t.word, SLICE("pause"));
	return report_good(&v) && (m.seen & 2);
}

/* ---- config update requests -------------------------------------------- */

bool wire_decode_update(char *buf, size_t len, const struct wire_format *f,
			struct arena *scratch, struct wire_update *out)
{
	static const struct slice names[] = {
		{ "update_type", 11 }, { "request_id", 10 },
		{ "timestamp_ms", 12 },
	};
	struct tagged t = { .number = 0 };
	struct reader_members m;
	struct values v;
	int i;

	report_init(&v, buf, len, f, scratch);
	if (!values_struct(&v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&v.r, &m)) >= 0) {
		if (i == 0)
			read_tagged(&v, "type", "error", &t);
		else
			reader_skip(&v.r);
	}
	out->type = t.word;
	out->text = t.text;
	out->kind = slice_eq(t.word, SLICE("request_reload")) ? UPDATE_RELOAD :
		    slice_eq(t.word, SLICE("config_error")) ?
		    UPDATE_CONFIG_ERROR : UPDATE_OTHER;
	return report_good(&v) && t.word.n;
}

/* ---- metrics ----------------------------------------------------------- */

struct metrics_walk {
	struct values v;
	void (*fn)(void *arg, const struct wire_metric *m);
	void *arg;
	struct wire_metric m;
	bool usable;
	double sum, count;
	unsigned n_buckets;
	struct {
		char le[24];
		double count;
	} buckets[BUCKETS_MAX];
};

static bool is_name(struct slice s, size_t max)
{
	if (!s.n || s.n > max || (s.p[0] >= '0' && s.p[0] <= '9'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

/* Appends name="value"; false: it does not fit. */
static bool add_label(char *to, struct slice name, struct slice value)
{
	size_t n = strlen(to), max = WIRE_METRIC_LABELS;

	if (n + name.n + 2 * value.n + 6 > max)
		return false;
	n += (size_t)snprintf(to + n, max - n, "%s%.*s=\"", n ? "," : "",
			      (int)name.n, name.p);
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];

		if (c == '"' || c == '\\')
			to[n++] = '\\';
		to[n++] = (unsigned char)c < 0x20 ? '_' : c;
	}
	to[n++] = '"';
	to[n] = '\0';
	return true;
}

static void read_labels(struct metrics_walk *w)
{
	struct reader_iter it;
	struct slice name, value;
	unsigned n = 0;

	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		if (!reader_key(&w->v.r, &name))
			return;
		value = text_or_none(&w->v);
		if (slice_eq(name, SLICE("agent")) ||
		    slice_eq(name, SLICE("instance")) ||
		    slice_eq(name, SLICE("le")))
			continue;
		if (++n > LABELS_MAX || !is_name(name, NAME_MAX_LEN) ||
		    !add_label(w->m.labels, name, value))
			w->usable = false;
	}
}

static double read_number(struct metrics_walk *w)
{
	double x;

	if (!number_or_none(&w->v, &x))
		w->usable = false;
	return x;
}

static void read_le(struct metrics_walk *w, char le[24])
{
	enum token token = reader_next(&w->v.r);

	if (values_is_str(&w->v, token))
		snprintf(le, 24, "+Inf");
	else if (token == TOKEN_FLOAT)
		snprintf(le, 24, "%.9g", w->v.r.real);
	else if (token == TOKEN_INT)
		snprintf(le, 24, "%s%llu", w->v.r.negative ? "-" : "",
			 (unsigned long long)w->v.r.num);
	else
		reader_finish(&w->v.r, token, NULL);
}

static void read_buckets(struct metrics_walk *w)
{
	static const struct slice names[] = { { "le", 2 }, { "count", 5 } };
	struct reader_iter it;

	if (!values_list(&w->v, true, false, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		struct reader_members m;
		char le[24] = "";
		double count = 0;
		int i;

		if (!values_struct(&w->v, false, &m, names, 2))
			continue;
		while ((i = reader_member(&w->v.r, &m)) >= 0) {
			if (i == 0)
				read_le(w, le);
			else
				count = read_number(w);
		}
		if (w->n_buckets == BUCKETS_MAX || !le[0]) {
			w->usable = false;
			continue;
		}
		memcpy(w->buckets[w->n_buckets].le, le, sizeof(le));
		w->buckets[w->n_buckets++].count = count;
	}
}

static void emit(struct metrics_walk *w, const char *suffix, double value)
{
	w->m.suffix = suffix;
	w->m.value = value;
	w->fn(w->arg, &w->m);
}

static void emit_all(struct metrics_walk *w)
{
	size_t n = strlen(w->m.labels);

	if (!w->usable || !is_name(w->m.name, NAME_MAX_LEN))
		return;
	if (w->m.kind != METRIC_HISTOGRAM) {
		emit(w, "", w->sum);
		return;
	}
	for (unsigned i = 0; i < w->n_buckets; i++) {
		if (add_label(w->m.labels, SLICE("le"),
			      slice_str(w->buckets[i].le)))
			emit(w, "_bucket", w->buckets[i].count);
		w->m.labels[n] = '\0';
	}
	emit(w, "_sum", w->sum);
	emit(w, "_count", w->count);
}

enum { METRIC_NAME, METRIC_HELP, METRIC_LABELS, METRIC_VALUE, METRIC_COUNT,
       METRIC_BUCKETS };

static void read_member(struct metrics_walk *w, unsigned i)
{
	switch (i) {
	case METRIC_NAME:
		w->m.name = text_or_none(&w->v);
		break;
	case METRIC_LABELS:
		read_labels(w);
		break;
	case METRIC_VALUE:
		w->sum = read_number(w);
		break;
	case METRIC_COUNT:
		w->count = read_number(w);
		break;
	case METRIC_BUCKETS:
		read_buckets(w);
		break;
	default:
		reader_skip(&w->v.r);
	}
}

/* help is left out where there is none: the count of elements tells it. */
static void read_metric_array(struct metrics_walk *w)
{
	unsigned most = w->m.kind == METRIC_HISTOGRAM ? 6 : 4;
	bool help = w->v.r.count >= most;
	struct reader_iter it;

	if (!reader_enter(&w->v.r, &it, false))
		return;
	for (unsigned i = 0; reader_more(&w->v.r, &it); i++) {
		if (i == METRIC_HELP && !help)
			i++;
		read_member(w, i < most ? i : METRIC_HELP);
	}
}

static void read_metric_map(struct metrics_walk *w)
{
	static const char *const plain[] = { "name", "help", "labels", "value",
					     NULL };
	static const char *const histogram[] = { "name", "help", "labels",
						 "sum", "count", "buckets",
						 NULL };
	const char *const *names = w->m.kind == METRIC_HISTOGRAM ? histogram
								  : plain;
	struct reader_iter it;
	struct slice key;

	if (!reader_enter(&w->v.r, &it, true))
		return;
	while (reader_more(&w->v.r, &it) && reader_key(&w->v.r, &key)) {
		unsigned i = 0;

		while (names[i] && !slice_eq(key, slice_str(names[i])))
			i++;
		read_member(w, names[i] ? i : METRIC_HELP);
	}
}

static void read_metrics(struct metrics_walk *w, enum wire_metric_kind kind)
{
	struct reader_iter it;

	if (!values_list(&w->v, true, false, &it))
		return;
	while (reader_more(&w->v.r, &it)) {
		enum token token = reader_next(&w->v.r);

		memset(&w->m, 0, sizeof(w->m));
		w->m.kind = kind;
		w->usable = true;
		w->sum = w->count = 0;
		w->n_buckets = 0;
		if (token == TOKEN_MAP)
			read_metric_map(w);
		else if (token == TOKEN_ARRAY)
			read_metric_array(w);
		else
			values_wrong_type(&w->v, token);
		if (!w->v.r.bad && !w->v.fault)
			emit_all(w);
	}
}

bool wire_decode_metrics(char *buf, size_t len, const struct wire_format *f,
			 struct arena *scratch,
			 void (*fn)(void *arg, const struct wire_metric *m),
			 void *arg)
{
	static const struct slice names[] = {
		{ "agent_id", 8 }, { "timestamp_ms", 12 },
		{ "interval_ms", 11 }, { "counters", 8 }, { "gauges", 6 },
		{ "histograms", 10 },
	};
	struct metrics_walk w = { .fn = fn, .arg = arg };
	struct reader_members m;
	int i;

	report_init(&w.v, buf, len, f, scratch);
	if (!values_struct(&w.v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&w.v.r, &m)) >= 0) {
		if (i >= 3)
			read_metrics(&w, (enum wire_metric_kind)(i - 3));
		else
			reader_skip(&w.v.r);
	}
	return report_good(&w.v);
}

/* ---- go-v2 ------------------------------------------------------------- */

static void read_go_metric(struct metrics_walk *w, struct slice name,
			   enum wire_metric_kind kind)
{
	memset(&w->m, 0, sizeof(w->m));
	w->m.kind = kind;
	w->m.name = name;
	w->usable = true;
	w->sum = read_number(w);
	if (!w->v.r.bad && !w->v.fault)
		emit_all(w);
}

static void read_go_custom(struct metrics_walk *w)
{
	struct reader_iter it;
	struct slice key;

	if (!values_list(&w->v, true, true, &it))
		return;
	while (reader_more(&w->v.r, &it) && reader_key(&w->v.r, &key))
		read_go_metric(w, key, METRIC_GAUGE);
}

bool wire_decode_go_metrics(char *buf, size_t len, struct arena *scratch,
			    void (*fn)(void *arg, const struct wire_metric *m),
			    void *arg)
{
	static const struct slice names[] = {
		{ "custom", 6 }, { "requests_total", 14 },
		{ "requests_allowed", 16 }, { "requests_blocked", 16 },
		{ "requests_errored", 16 }, { "requests_active", 15 },
		{ "average_latency_ms", 18 }, { "p50_latency_ms", 14 },
		{ "p95_latency_ms", 14 }, { "p99_latency_ms", 14 },
		{ "uptime_seconds", 14 },
	};
	struct metrics_walk w = { .fn = fn, .arg = arg };
	struct reader_members m;
	int i;

	values_init(&w.v, buf, len, true, scratch);
	if (!values_struct(&w.v, false, &m, names, ARRAY_LEN(names)))
		return false;
	while ((i = reader_member(&w.v.r, &m)) >= 0) {
		if (i == 0)
			read_go_custom(&w);
		else
			read_go_metric(&w, names[i], i < 5 ? METRIC_COUNTER :
							     METRIC_GAUGE);
	}
	return report_good(&w.v);
}
