#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "admin/admin.h"
#include "admin/status.h"
#include "base/timefmt.h"
#include "config/load.h"

/* ---- /readyz ------------------------------------------------------------ */

/* Does some failure of the agent refuse the route's exchanges? A body that is
 * too large is not the agent's failure and is refused under `allow` too. */
static bool route_needs(const struct config_route_agent *ra)
{
	for (unsigned c = CAUSE_NONE + 1; c < CAUSE_N; c++)
		if (c != CAUSE_TOO_LARGE && ra->on_failure.deny[c])
			return true;
	return false;
}

static bool agent_needed(const struct config *config,
			 const struct config_agent *agent)
{
	for (unsigned r = 0; r < config->n_routes; r++)
		for (unsigned k = 0; k < config->routes[r].n_agents; k++)
			if (config->routes[r].agents[k].agent == agent &&
			    route_needs(&config->routes[r].agents[k]))
				return true;
	return false;
}

static void add_reason(json_t *reasons, const char *text)
{
	json_array_append_new(reasons, json_string(text));
}

static void agent_reasons(const struct admin_view *v, json_t *reasons)
{
	char text[256];

	for (unsigned i = 0; i < v->config->n_agents; i++) {
		const struct config_agent *agent = &v->config->agents[i];
		unsigned linked = 0;

		if (!agent_needed(v->config, agent))
			continue;
		for (unsigned w = 0; w < v->n_workers; w++)
			linked += agent_links_up(v->agents[i], w) > 0;
		if (linked == v->n_workers)
			continue;
		snprintf(text, sizeof(text),
			 "agent %.128s has links in %u of %u workers",
			 agent->name, linked, v->n_workers);
		add_reason(reasons, text);
	}
}

static unsigned page_readyz(const struct admin_view *v, FILE *out)
{
	json_t *reasons = json_array(), *page;
	bool ready;

	if (v->draining)
		add_reason(reasons, "draining");
	if (!v->running)
		add_reason(reasons, "starting");
	agent_reasons(v, reasons);
	/* Out of memory leaves NULL, and that is not ready. */
	ready = reasons && json_array_size(reasons) == 0;
	page = json_pack("{s:b, s:b, s:o}", "ready", ready, "draining",
			 v->draining, "reasons", reasons);
	if (page)
		json_dumpf(page, out, JSON_COMPACT);
	else
		ready = false;
	fputc('\n', out);
	json_decref(page);
	return ready ? 200 : 503;
}

/* ---- the others --------------------------------------------------------- */

static unsigned page_status(const struct admin_view *v, FILE *out)
{
	fputs(admin_status_html, out);
	return 200;
}

static unsigned page_livez(const struct admin_view *v, FILE *out)
{
	fputs("ok", out);
	return 200;
}

static unsigned page_agents(const struct admin_view *v, FILE *out)
{
	fprintf(out, "{\"generation\":%" PRIu64 ",\"agents\":[", v->generation);
	for (unsigned i = 0; i < v->config->n_agents; i++) {
		if (i)
			fputc(',', out);
		agent_print_json(v->agents[i], out);
	}
	fputs("]}\n", out);
	return 200;
}

static unsigned page_upstreams(const struct admin_view *v, FILE *out)
{
	fputs("{\"upstreams\":[", out);
	for (unsigned i = 0; i < v->config->n_upstreams; i++) {
		if (i)
			fputc(',', out);
		upstream_print_json(v->upstreams[i], out);
	}
	fputs("]}\n", out);
	return 200;
}

static unsigned page_config(const struct admin_view *v, FILE *out)
{
	char at[TIMEFMT_RFC3339_MS];
	struct timefmt_cache cache = { 0 };
	json_t *file = json_string(v->config->file);

	timefmt_rfc3339_ms(&cache, v->loaded_wall_us, at);
	fprintf(out, "{\"generation\":%" PRIu64 ",\"loaded_at\":\"%.*s\","
		"\"file\":", v->generation, (int)sizeof(at), at);
	/* NULL: a name that is not UTF-8. */
	if (file)
		json_dumpf(file, out, JSON_ENCODE_ANY);
	else
		fputs("null", out);
	json_decref(file);
	fputs(",\"config\":", out);
	config_print_json(v->config, out);
	fputs("}\n", out);
	return 200;
}

static unsigned page_metrics(const struct admin_view *v, FILE *out)
{
	metrics_print(v->metrics, &v->process, out);
	agent_print_reports(v->agents, v->config->n_agents, out);
	return 200;
}

static const struct page {
	const char *path;
	enum admin_type type;
	unsigned (*render)(const struct admin_view *v, FILE *out);
} pages[] = {
	{ "/", ADMIN_HTML, page_status },
	{ "/livez", ADMIN_TEXT, page_livez },
	{ "/readyz", ADMIN_JSON, page_readyz },
	{ "/agents", ADMIN_JSON, page_agents },
	{ "/upstreams", ADMIN_JSON, page_upstreams },
	{ "/config", ADMIN_JSON, page_config },
	{ "/metrics", ADMIN_METRICS, page_metrics },
};

unsigned admin_page(const char *path, const struct admin_view *view,
		    FILE *out, enum admin_type *type)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if (strcmp(pages[i].path, path) != 0)
			continue;
		*type = pages[i].type;
		return pages[i].render(view, out);
	}
	return 404;
}
