/* A group of servers: made, compared, shown and freed on the control thread. */
#include "upstream/internal.h"

#include "base/mem.h"
#include "net/sock.h"

/* Of responses: upstreams are trusted more than clients, but not with all of
 * our memory. */
#define RESPONSE_HEADER_BYTES	(64u * 1024)
#define RESPONSE_HEADERS	128u

const char *const upstream_error_names[UPSTREAM_ERROR_N] = {
	[UPSTREAM_OK] = "ok",
	[UPSTREAM_REFUSED] = "refused",
	[UPSTREAM_TIMEOUT] = "timeout",
	[UPSTREAM_NO_MEMORY] = "no_memory",
	[UPSTREAM_MALFORMED] = "malformed",
	[UPSTREAM_RESPONSE_TIMEOUT] = "response_timeout",
	[UPSTREAM_CLOSED] = "closed",
};

static uint64_t hash_text(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

static bool init_server(struct upstream *u, struct server_info *s,
			const struct config_server *config)
{
	s->name = mem_strdup(slice_str(config->address.text));
	if (!s->name)
		return false;
	s->addr = config->address.addr;
	s->weight = config->weight ? config->weight : 1;
	s->hash = hash_text(s->name);
	s->metrics = metrics_set_get(u->metrics, METRICS_SERVER, u->name,
				     s->name);
	return s->metrics;
}

static struct upstream_local *new_local(struct upstream *u, unsigned w)
{
	struct upstream_local *local;

	local = mem_zalloc_aligned(sizeof(*local) +
				   u->n_servers * sizeof(local->servers[0]));
	if (!local)
		return NULL;
	local->upstream = u;
	local->metrics = metrics_set_local(u->set, w);
	sock_random(&local->random, sizeof(local->random));
	CDS_INIT_LIST_HEAD(&local->ages);
	CDS_INIT_LIST_HEAD(&local->free);
	CDS_INIT_LIST_HEAD(&local->closing);
	for (unsigned i = 0; i < u->n_servers; i++) {
		struct upstream_server *s = &local->servers[i];

		s->info = &u->servers[i];
		s->metrics = metrics_set_local(s->info->metrics, w);
		CDS_INIT_LIST_HEAD(&s->idle);
	}
	return local;
}

static void free_upstream(struct upstream *u)
{
	for (unsigned w = 0; u->local && w < u->n_workers; w++) {
		if (!u->local[w])
			continue;
		ASSERT(u->local[w]->n_conns == 0 && u->local[w]->n_free == 0);
		mem_free(u->local[w]);
	}
	for (unsigned i = 0; u->servers && i < u->n_servers; i++) {
		if (u->servers[i].metrics)
			metrics_set_put(u->metrics, u->servers[i].metrics);
		mem_free((char *)(uintptr_t)u->servers[i].name);
	}
	if (u->set)
		metrics_set_put(u->metrics, u->set);
	mem_free(u->local);
	mem_free(u->servers);
	mem_free(u->checks);
	mem_free(u->hash_header);
	mem_free(u->check_path);
	mem_free(u->check_host);
	mem_free(u->name);
	mem_free(u);
}

static void init_settings(struct upstream *u,
			  const struct config_upstream *config)
{
	u->balance = config->balance;
	u->keepalive = config->keepalive;
	u->connect_us = config->timeouts.connect_us;
	u->response_us = config->timeouts.response_us;
	u->idle_us = config->timeouts.idle_us;
	u->settings = (struct h1_settings){
		.limits = {
			.header_bytes = RESPONSE_HEADER_BYTES,
			.headers = RESPONSE_HEADERS,
			.target_bytes = RESPONSE_HEADER_BYTES,
		},
		.head_us = u->response_us,
		.body_us = u->idle_us,
		.send_us = u->idle_us,
	};
	u->max_failures = config->ejection.failures;
	u->max_percent = config->ejection.max_percent;
	u->ejection_us = config->ejection.time_us;
	u->check.type = config->check.type;
	u->check.interval_us = config->check.interval_us;
	u->check.timeout_us = config->check.timeout_us;
	u->check.rise = config->check.rise;
	u->check.fall = config->check.fall;
	/* One limit for all of a check, kept by the check itself. */
	u->check_settings = u->settings;
	u->check_settings.head_us = u->check_settings.body_us = 0;
	u->check_settings.send_us = 0;
	u->hash_key = config->hash_key;
}

/* NULL stays NULL. */
static bool keep(char **to, const char *text)
{
	if (text)
		*to = mem_strdup(slice_str(text));
	return !text || *to;
}

static bool keep_texts(struct upstream *u,
		       const struct config_upstream *config)
{
	return keep(&u->name, config->name) &&
	       keep(&u->hash_header, config->hash_header) &&
	       keep(&u->check_path, config->check.path) &&
	       keep(&u->check_host, config->check.host);
}

struct upstream *upstream_new(const struct config_upstream *config,
			      unsigned n_workers, struct metrics *metrics)
{
	struct upstream *u = mem_zalloc(sizeof(*u));

	if (!u)
		return NULL;
	u->refs = 1;
	u->metrics = metrics;
	u->n_workers = n_workers;
	u->n_servers = config->n_servers;
	init_settings(u, config);
	u->servers = mem_zalloc(u->n_servers * sizeof(u->servers[0]));
	u->local = mem_zalloc(n_workers * sizeof(u->local[0]));
	if (!keep_texts(u, config) || !u->servers || !u->local)
		goto fail;
	u->set = metrics_set_get(metrics, METRICS_UPSTREAM, u->name, "");
	if (!u->set)
		goto fail;
	for (unsigned i = 0; i < u->n_servers; i++)
		if (!init_server(u, &u->servers[i], &config->servers[i]))
			goto fail;
	for (unsigned w = 0; w < n_workers; w++) {
		u->local[w] = new_local(u, w);
		if (!u->local[w])
			goto fail;
	}
	if (!checks_new(u))
		goto fail;
	return u;
fail:
	free_upstream(u);
	return NULL;
}

struct upstream *upstream_get(struct upstream *u)
{
	u->refs++;
	return u;
}

void upstream_put(struct upstream *u)
{
	if (u && --u->refs == 0)
		free_upstream(u);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_health(const struct upstream *u,
			const struct config_upstream *c)
{
	return u->max_failures == c->ejection.failures &&
	       u->max_percent == c->ejection.max_percent &&
	       u->ejection_us == c->ejection.time_us &&
	       u->check.type == c->check.type &&
	       u->check.interval_us == c->check.interval_us &&
	       u->check.timeout_us == c->check.timeout_us &&
	       u->check.rise == c->check.rise &&
	       u->check.fall == c->check.fall &&
	       same_text(u->check_path, c->check.path) &&
	       same_text(u->check_host, c->check.host);
}

bool upstream_same(const struct upstream *u, const struct config_upstream *c)
{
	if (!same_health(u, c) || u->hash_key != c->hash_key ||
	    !same_text(u->hash_header, c->hash_header))
		return false;
	if (strcmp(u->name, c->name) != 0 || u->balance != c->balance ||
	    u->keepalive != c->keepalive || u->n_servers != c->n_servers ||
	    u->connect_us != c->timeouts.connect_us ||
	    u->response_us != c->timeouts.response_us ||
	    u->idle_us != c->timeouts.idle_us)
		return false;
	for (unsigned i = 0; i < u->n_servers; i++) {
		unsigned weight = c->servers[i].weight;

		if (strcmp(u->servers[i].name, c->servers[i].address.text) ||
		    u->servers[i].weight != (weight ? weight : 1))
			return false;
	}
	return true;
}

uint64_t upstream_idle_us(const struct upstream *u)
{
	return u->idle_us;
}

const char *upstream_name(const struct upstream *u)
{
	return u->name;
}

/* ---- /upstreams ---------------------------------------------------------- */

static void print_text(const char *s, FILE *out)
{
	fputc('"', out);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void print_server(const struct upstream *u, unsigned i, FILE *out)
{
	const struct server_info *info = &u->servers[i];
	uint64_t active = 0, idle = 0;

	for (unsigned w = 0; w < u->n_workers; w++) {
		const struct server_metrics *m =
			u->local[w]->servers[i].metrics;

		active += counter_read(&m->active);
		idle += counter_read(&m->idle);
	}
	fputs("{\"address\":", out);
	print_text(info->name, out);
	fprintf(out, ",\"state\":\"%s\",\"active\":%llu,\"idle\":%llu,"
		"\"weight\":%u}",
		__atomic_load_n(&info->down, __ATOMIC_RELAXED) ? "down" : "up",
		(unsigned long long)active, (unsigned long long)idle,
		info->weight);
}

void upstream_print_json(struct upstream *u, FILE *out)
{
	fputs("{\"name\":", out);
	print_text(u->name, out);
	fputs(",\"servers\":[", out);
	for (unsigned i = 0; i < u->n_servers; i++) {
		if (i)
			fputc(',', out);
		print_server(u, i, out);
	}
	fputs("]}", out);
}
