/*
 * What agents say unasked: whatever it is, no read beyond it; what is taken, a
 * library can read too; and what goes on to /metrics and the log is what these
 * can hold.
 *
 * Input: a byte for the encoding and the kind of message, then its payload.
 */
#include <stdlib.h>

#include "library.h"
#include "wire/report.h"
#include "wire/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct slice s)
{
	MUST(!s.n || utf8_valid(s.p, s.n));
}

static bool is_word(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}

/* name="value",...: as Prometheus reads it. */
static void check_labels(const char *p)
{
	while (*p) {
		MUST(is_word(*p, true));
		while (is_word(*p, false))
			p++;
		MUST(p[0] == '=' && p[1] == '"');
		for (p += 2; *p != '"'; p++) {
			MUST((unsigned char)*p >= 0x20);
			if (*p == '\\')
				p++;
			MUST(*p);
		}
		p++;
		MUST(!*p || (*p == ',' && p[1]));
		p += *p == ',';
	}
}

static void check_metric(void *arg, const struct wire_metric *m)
{
	unsigned *n = arg;

	++*n;
	MUST(m->name.n && m->name.n <= 64 && is_word(*m->name.p, true));
	for (size_t i = 0; i < m->name.n; i++)
		MUST(is_word(m->name.p[i], false));
	MUST(memchr(m->labels, '\0', sizeof(m->labels)));
	check_labels(m->labels);
	MUST((m->kind == METRIC_HISTOGRAM) == (*m->suffix != '\0'));
}

static bool decode(unsigned kind, char *buf, size_t n,
		   const struct wire_format *f, struct arena *scratch)
{
	struct wire_health health;
	struct wire_update update;
	struct wire_flow flow;
	unsigned n_metrics = 0;
	bool good;

	switch (kind) {
	case 0:
		good = wire_decode_health(buf, n, f, scratch, &health);
		if (good) {
			MUST(health.state < AGENT_STATE_N);
			check_text(health.text);
		}
		return good;
	case 1:
		good = wire_decode_flow(buf, n, f, scratch, &flow);
		if (good)
			check_text(flow.id);
		return good;
	case 2:
		good = wire_decode_update(buf, n, f, scratch, &update);
		if (good) {
			check_text(update.type);
			check_text(update.text);
			MUST(update.type.n);
		}
		return good;
	}
	return wire_decode_metrics(buf, n, f, scratch, check_metric,
				   &n_metrics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena_pool arenas;
	struct arena scratch;
	struct wire_format f;
	bool good, json;
	char *buf;
	size_t n;

	if (!size)
		return 0;
	n = size - 1;
	f = (struct wire_format){ .encoding = data[0] & 1 ? WIRE_JSON
							  : WIRE_MSGPACK };
	json = data[0] & 1 || (n && data[1] == '{');
	buf = malloc(n ? n : 1);
	memcpy(buf, data + 1, n);
	arena_pool_init(&arenas);
	arena_init(&scratch, &arenas);
	good = decode(data[0] >> 1 & 3, buf, n, &f, &scratch);
	MUST(!good || is_readable((const char *)data + 1, n, json));
	arena_fini(&scratch);
	arena_pool_fini(&arenas);
	free(buf);
	return 0;
}
