/* Readers of header fields in routes, and of answers that routes give. */
#include <stdio.h>

#include "config/loader.h"
#include "config/value.h"

#define VALUE_MAX	8192u

/* Framing and hop-by-hop fields are facts of a message, not fields. */
static const char *const never[] = {
	"connection", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade", "content-length", NULL,
};

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (slice_eq_icase(slice_str(name), slice_str(*list)))
			return true;
	return false;
}

static const char *owner_of(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_agents; i++) {
		const struct config_agent *a = &config->agents[i];

		for (unsigned k = 0; k < a->n_owns_headers; k++)
			if (slice_eq_icase(slice_str(a->owns_headers[k]),
					   slice_str(name)))
				return a->name ? a->name : "";
	}
	return NULL;
}

/* ---- which names may stand where ------------------------------------------ */

static bool is_row(const struct config_row *row, const char *start)
{
	return strncmp(row->key, start, strlen(start)) == 0;
}

/* What the proxy makes itself, or that must agree with what agents saw. */
static bool is_own(const struct config_row *row, const char *name)
{
	static const char *const request[] = {
		"x-request-id", "expect", "range", NULL,
	};
	static const char *const response[] = { "x-request-id", NULL };

	if (is_row(row, "request_headers.remove"))
		return is_one_of(name, response);
	return is_one_of(name, is_row(row, "request_headers.") ? request
							       : response);
}

static bool name_fits(struct loader *l, const struct config_row *row,
		      const struct node *at, const char *name)
{
	bool match = is_row(row, "match.");
	bool request = is_row(row, "request_headers.");
	const char *owner = match || request ? owner_of(l->config, name) : NULL;
	char why[VALUE_WHY];

	if (!value_token(name, why))
		loader_fault(l, at, "%s", why);
	else if (is_one_of(name, never))
		loader_fault(l, at, "belongs to a connection, not to what is "
			     "forwarded");
	else if (match && is_one_of(name, (const char *[]){ "host", NULL }))
		loader_fault(l, at, "say match.host");
	else if (owner)
		loader_fault(l, at, "only the agent `%.64s` may set it", owner);
	else if (!match && is_own(row, name))
		loader_fault(l, at, "is the proxy's own");
	else if (is_one_of(name, (const char *[]){ "host", NULL }) &&
		 request && !is_row(row, "request_headers.set"))
		loader_fault(l, at, "a request has one: it can only be set");
	else
		return true;
	return false;
}

static bool value_fits(struct loader *l, const struct node *value,
		       const char *name, const char *text)
{
	size_t n = strlen(text);
	char why[VALUE_WHY];

	if (n > VALUE_MAX) {
		loader_fault(l, value, "is longer than %u bytes", VALUE_MAX);
	} else if (n && (text[0] == ' ' || text[n - 1] == ' ')) {
		loader_fault(l, value, "begins or ends with a blank");
	} else if (slice_eq_icase(slice_str(name), SLICE("host")) &&
		   (text[0] == '*' || !value_host(text, why))) {
		loader_fault(l, value, "must be a host without a port");
	} else {
		return true;
	}
	return false;
}

/* ---- maps of fields --------------------------------------------------------- */

static bool listed(const struct config_headers *h, const char *name)
{
	for (unsigned i = 0; i < h->n; i++)
		if (slice_eq_icase(slice_str(h->list[i].name), slice_str(name)))
			return true;
	return false;
}

static void read_header(struct loader *l, const struct config_row *row,
			const struct node *n, struct config_headers *h)
{
	const char *name = n->key->text, *text = loader_text(l, n);
	struct config_header *to = &h->list[h->n];

	if (!text || !name_fits(l, row, n->key, name) ||
	    !value_fits(l, n, name, text))
		return;
	if (listed(h, name)) {
		loader_fault(l, n->key, "given twice");
		return;
	}
	to->name = loader_keep(l, name);
	if (!is_row(row, "match.") || strcmp(text, "*") != 0)
		to->value = loader_keep(l, text);
	if (to->name)
		h->n++;
}

void read_headers(struct loader *l, const struct config_row *row,
		  const struct node *value, void *object)
{
	struct config_headers *h = (struct config_headers *)
					   ((char *)object + row->offset);

	if (value->kind != NODE_MAP) {
		loader_fault(l, value, "must be a map of names and values");
		return;
	}
	h->list = loader_alloc(l, value->n, sizeof(*h->list));
	for (const struct node *n = value->first; n && h->list; n = n->next) {
		size_t mark = loader_enter(l, n->key->text);

		read_header(l, row, n, h);
		loader_leave(l, mark);
	}
}

/* A list of names: an array, and its count right behind it. */
void read_header_names(struct loader *l, const struct config_row *row,
		       const struct node *value, void *object)
{
	struct loader_texts *to = (struct loader_texts *)
					  ((char *)object + row->offset);
	unsigned i = 0;

	*to = loader_texts(l, value, value_token, false);
	for (const struct node *n = value->kind == NODE_LIST ? value->first
							     : NULL;
	     n; n = n->next) {
		size_t mark = loader_enter_item(l, i++);
		char why[VALUE_WHY];

		if (n->kind == NODE_SCALAR && value_token(n->text, why))
			(void)name_fits(l, row, n, n->text);
		loader_leave(l, mark);
	}
}

/* ---- a route's own answer ----------------------------------------------------- */

void read_respond_body(struct loader *l, const struct config_row *row,
		       const struct node *value, void *object)
{
	struct config_route *route = object;

	if (value->kind != NODE_SCALAR)
		(void)loader_text(l, value);
	else
		route->respond.body = loader_keep(l, value->text);
}

void read_redirect_status(struct loader *l, const struct config_row *row,
			  const struct node *value, void *object)
{
	static const char *const words[] = {
		"301", "302", "303", "307", "308", NULL,
	};
	struct config_route *route = object;
	int i = loader_word(l, value, words);
	char why[VALUE_WHY];
	uint64_t status;

	if (i >= 0 && value_number(words[i], &status, why))
		route->redirect.status = (unsigned)status;
}

/* {host} and {target} are all that may stand between braces. */
static bool check_braces(const char *url, char *why)
{
	for (const char *s = url; (s = strchr(s, '{')); s++) {
		if (strncmp(s, "{host}", 6) == 0 ||
		    strncmp(s, "{target}", 8) == 0)
			continue;
		snprintf(why, VALUE_WHY, "knows only {host} and {target}");
		return false;
	}
	return true;
}

/*
 * Where it leads is for the config to say, not for the client: {target} stands
 * behind a host or a path, and never where it could become one.
 */
static bool check_url(const char *url, char *why)
{
	const char *rest = url;
	size_t n;

	for (const char *s = url; *s; s++) {
		if ((unsigned char)*s > 0x20 && (unsigned char)*s < 0x7f)
			continue;
		snprintf(why, VALUE_WHY, "other than visible ASCII must be "
			 "escaped, as in `%%20`");
		return false;
	}
	if (strncmp(url, "http://", 7) == 0)
		rest += 7;
	else if (strncmp(url, "https://", 8) == 0)
		rest += 8;
	n = strncmp(rest, "{host}", 6) == 0 ? 6 : strcspn(rest, "/{?#");
	if (rest != url ? n > 0 : url[0] == '/' && url[1] != '/' &&
				  url[1] != '{' && url[1] != '\\')
		return check_braces(url, why);
	snprintf(why, VALUE_WHY, "must be as in `https://{host}{target}` or "
		 "`/path`");
	return false;
}

void read_redirect_url(struct loader *l, const struct config_row *row,
		       const struct node *value, void *object)
{
	struct config_route *route = object;
	const char *text = loader_text(l, value);
	char why[VALUE_WHY];

	if (!text)
		return;
	if (!check_url(text, why))
		loader_fault(l, value, "%s", why);
	else
		route->redirect.url = loader_keep(l, text);
}

/* What only makes sense where something is forwarded. */
static void check_unforwarded(struct loader *l, const struct node *map,
			      const struct config_route *route)
{
	const struct node *agents = node_get(map, "agents");
	const struct node *n = agents ? agents->first : NULL;

	if (route->n_agent_upstreams)
		loader_fault_at(l, node_get(map, "agent_upstreams"),
				"agent_upstreams", "has no effect: nothing is "
				"forwarded");
	if (route->n_upgrade)
		loader_fault_at(l, node_get(map, "upgrade"), "upgrade",
				"has no effect: nothing is forwarded");
	for (unsigned i = 0; n && i < route->n_agents; i++, n = n->next)
		if (route->agents[i].response_head)
			loader_fault_at(l, n, "agents", "an agent gets no "
					"response here: nothing is forwarded");
}

void check_route_kind(struct loader *l, const struct node *map,
		      struct config_route *route)
{
	static const char *const keys[] = { "upstream", "respond", "redirect" };
	const struct node *at = NULL, *body;

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
		const struct node *n = node_get(map, keys[i]);

		if (n && at) {
			loader_fault_at(l, n, keys[i], "upstream, respond and "
					"redirect exclude each other");
			return;
		}
		if (!n)
			continue;
		at = n;
		route->kind = (enum config_route_kind)i;
	}
	if (!at) {
		if (map->kind == NODE_MAP)
			loader_fault_at(l, map, "upstream",
					"is missing; or respond, or redirect");
		return;
	}
	if (route->kind == ROUTE_UPSTREAM)
		return;
	check_unforwarded(l, map, route);
	body = node_get(at, "body");
	if (route->kind == ROUTE_REDIRECT && !node_get(at, "url"))
		loader_fault_at(l, at, "redirect.url", "is missing");
	if (route->kind == ROUTE_RESPOND && body && (route->respond.status ==
	    204 || route->respond.status == 304))
		loader_fault_at(l, body, "respond.body",
				"a %u has no body", route->respond.status);
}
