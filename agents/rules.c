#include "rules.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/addr.h"

#define LINE_MAX_BYTES	1024

enum kind { CLIENT, PATH, HEADER, BODY, SET_REQUEST, SET_RESPONSE, KINDS };
static const char *const kinds[KINDS] = { "client", "path", "header", "body",
					  "set-request", "set-response" };

struct rule {
	enum kind kind;
	char id[32];
	char name[RULES_TEXT_MAX], text[RULES_TEXT_MAX];
	struct net_peer net;
	unsigned bits;
};

const char *rule_id(const struct rule *rule)
{
	return rule->id;
}

/* ---- reading ------------------------------------------------------------ */

static bool parse_ip(const char *text, struct net_peer *out)
{
	struct net_addr a = { .len = sizeof(a.in6) };

	if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1)
		a.sa.sa_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1)
		a.sa.sa_family = AF_INET6;
	else
		return false;
	net_peer_from(&a, out);
	return true;
}

/* "192.0.2.0/24", or one address. */
static bool parse_network(struct rule *r)
{
	char *slash = strchr(r->text, '/'), *end = NULL;
	unsigned max;

	if (slash)
		*slash = '\0';
	if (!parse_ip(r->text, &r->net))
		return false;
	max = r->net.family == AF_INET ? 32 : 128;
	r->bits = slash ? (unsigned)strtoul(slash + 1, &end, 10) : max;
	return r->bits <= max && (!slash || (end != slash + 1 && !*end));
}

/* A token, so that the edit cannot be an illegal one. */
static bool parse_name(struct rule *r, const char *word)
{
	if (!word || strlen(word) >= sizeof(r->name))
		return false;
	for (const char *c = word; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			return false;
	strcpy(r->name, word);
	return true;
}

/* What is wrong with a line, or NULL. */
static const char *parse_rule(char *line, unsigned number, struct rule *r)
{
	char *save = NULL, *word = strtok_r(line, " \t", &save), *rest;
	unsigned k = 0;

	while (k < KINDS && strcmp(word, kinds[k]) != 0)
		k++;
	if (k == KINDS)
		return "no such rule";
	r->kind = (enum kind)k;
	snprintf(r->id, sizeof(r->id), "%s:%u", word, number);
	if ((k == HEADER || k == SET_REQUEST || k == SET_RESPONSE) &&
	    !parse_name(r, strtok_r(NULL, " \t", &save)))
		return "the header name is missing or illegal";
	rest = strtok_r(NULL, "", &save);
	rest = rest ? rest + strspn(rest, " \t") : NULL;
	if (!rest || !*rest || strlen(rest) >= sizeof(r->text))
		return "the text is missing or too long";
	strcpy(r->text, rest);
	if (k == CLIENT && !parse_network(r))
		return "this is no network";
	for (char *c = r->text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			return "a control character";
		if (k == HEADER || k == BODY)
			*c = ascii_lower(*c);
	}
	return NULL;
}

/* What is wrong with the file's line *number, or NULL. */
static const char *read_rules(struct rules *rules, FILE *f, unsigned *number)
{
	char line[LINE_MAX_BYTES];
	const char *why;

	for (*number = 1; fgets(line, sizeof(line), f); ++*number) {
		struct rule *r = &rules->rule[rules->n];
		size_t len = strlen(line);

		if (len == sizeof(line) - 1)
			return "the line is too long";
		while (len && isspace((unsigned char)line[len - 1]))
			line[--len] = '\0';
		if (!len || line[strspn(line, " \t")] == '#')
			continue;
		if (rules->n == RULES_MAX)
			return "too many rules";
		why = parse_rule(line, *number, r);
		if (why)
			return why;
		if (r->kind == BODY && strlen(r->text) > rules->longest)
			rules->longest = strlen(r->text);
		rules->n++;
	}
	return ferror(f) ? strerror(errno) : NULL;
}

static struct rules *rules_new(void)
{
	struct rules *rules = calloc(1, sizeof(*rules));

	if (!rules)
		return NULL;
	rules->rule = calloc(RULES_MAX + 1, sizeof(*rules->rule));
	if (rules->rule)
		return rules;
	rules_free(rules);
	return NULL;
}

void rules_free(struct rules *rules)
{
	if (!rules)
		return;
	free(rules->rule);
	free(rules);
}

struct rules *rules_load(const char *path)
{
	struct rules *rules = rules_new();
	FILE *f = fopen(path, "r");
	const char *why = strerror(errno);
	unsigned line = 0;

	if (rules && f)
		why = read_rules(rules, f, &line);
	if (f)
		fclose(f);
	if (!why)
		return rules;
	fprintf(stderr, "%s:%u: %s\n", path, line, why);
	rules_free(rules);
	return NULL;
}

/* ---- matching ----------------------------------------------------------- */

/* needle is in lower case. */
static bool contains(const char *s, const char *needle)
{
	for (; *s; s++) {
		size_t k = 0;

		while (needle[k] && ascii_lower(s[k]) == needle[k])
			k++;
		if (!needle[k])
			return true;
	}
	return false;
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0'
	     : isxdigit((unsigned char)c) ? ascii_lower(c) - 'a' + 10 : -1;
}

/*
 * The path as a file system would take it: escapes decoded, no query, no
 * empty, "." or ".." segments. out has room for all of uri.
 */
static struct slice plain_path(const char *uri, char *out)
{
	size_t n = 0, from = 0;

	for (size_t i = 0;; i++) {
		char c = uri[i] != '?' ? uri[i] : '\0';

		if (c == '%' && hex(uri[i + 1]) >= 0 && hex(uri[i + 2]) >= 0) {
			c = (char)(hex(uri[i + 1]) << 4 | hex(uri[i + 2]));
			c = c ? c : ' ';
			i += 2;
		}
		c = c == '\\' ? '/' : c;
		if (c && c != '/') {
			out[n++] = c;
			continue;
		}
		/* A segment is complete: [from, n). */
		if (n - from == 1 && out[from] == '.') {
			n = from;
		} else if (n - from == 2 && !memcmp(out + from, "..", 2)) {
			for (n = from ? from - 1 : 0; n && out[n - 1] != '/';)
				n--;
		}
		if (!c)
			break;
		if (!n || out[n - 1] != '/')
			out[n++] = '/';
		from = n;
	}
	return slice_of(out, n);
}

static bool head_matches(const struct rule *r,
			 const struct agentproxy_event *ev, struct slice path,
			 const struct net_peer *client)
{
	switch (r->kind) {
	case CLIENT:
		return net_peer_in(client, r->net.family, r->net.ip, r->bits);
	case PATH:
		return slice_has_prefix(path, slice_str(r->text));
	case HEADER:
		for (unsigned i = 0; i < ev->n_fields; i++)
			if (strcasecmp(ev->fields[i].name, r->name) == 0 &&
			    contains(ev->fields[i].value, r->text))
				return true;
		return false;
	case BODY:
	case SET_REQUEST:
	case SET_RESPONSE:
	case KINDS:
		break;
	}
	return false;
}

const struct rule *rules_match_head(const struct rules *rules,
				    const struct agentproxy_event *ev,
				    struct agentproxy_decision *d)
{
	char *room = agentproxy_alloc(d, strlen(ev->uri) + 1);
	struct net_peer client = { .family = 0 };
	struct slice path;

	if (!room)
		return NULL;
	path = plain_path(ev->uri, room);
	(void)parse_ip(ev->client_ip, &client);
	for (unsigned i = 0; i < rules->n; i++)
		if (head_matches(&rules->rule[i], ev, path, &client))
			return &rules->rule[i];
	return NULL;
}

const struct rule *rules_match_chunk(const struct rules *rules,
				     struct rules_tail *tail,
				     const struct agentproxy_event *ev,
				     struct agentproxy_decision *d)
{
	size_t n = tail->n + ev->size, keep;
	char *text = agentproxy_alloc(d, n);

	if (!text)
		return NULL;
	memcpy(text, tail->bytes, tail->n);
	for (size_t i = 0; i < ev->size; i++)
		text[tail->n + i] = ascii_lower(ev->data[i]);
	for (unsigned i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->rule[i];

		if (r->kind == BODY && memmem(text, n, r->text,
					      strlen(r->text)))
			return r;
	}
	keep = rules->longest ? min_size(n, rules->longest - 1) : 0;
	memcpy(tail->bytes, text + n - keep, keep);
	tail->n = keep;
	return NULL;
}

void rules_edit(const struct rules *rules, struct agentproxy_decision *d)
{
	for (unsigned i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->rule[i];

		if (r->kind == SET_REQUEST || r->kind == SET_RESPONSE)
			agentproxy_set_header(d, r->kind == SET_REQUEST ?
					      AGENTPROXY_REQUEST :
					      AGENTPROXY_RESPONSE, r->name,
					      r->text);
	}
}
