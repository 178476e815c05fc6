/*
 * denylist: an agent that blocks by rules in a file. It stands on
 * libagentproxy, as any agent in C can; what it decides is in rules.c.
 *
 *	denylist -s SOCKET -f FILE
 *
 * SIGHUP reads FILE again (and keeps the old rules if it is bad), SIGTERM ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rules.h"

struct denylist {
	const char *file;
	struct rules *rules;
};

/* Of an exchange whose bodies are looked at. */
struct bodies {
	struct rules_tail request, response;
};

static void block(struct agentproxy_decision *d, const struct rule *r)
{
	agentproxy_block(d, 403, "denied\n");
	agentproxy_rule(d, rule_id(r));
}

static void on_request_head(void *user, const struct agentproxy_event *ev,
			    struct agentproxy_decision *d)
{
	const struct denylist *deny = user;
	const struct rule *r = rules_match_head(deny->rules, ev, d);

	if (r)
		block(d, r);
	else
		rules_edit(deny->rules, d);
}

static void on_chunk(void *user, const struct agentproxy_event *ev,
		     struct agentproxy_decision *d)
{
	const struct denylist *deny = user;
	struct bodies *b = *ev->exchange;
	const struct rule *r;

	if (!b)
		*ev->exchange = b = calloc(1, sizeof(*b));
	if (!b) {
		agentproxy_fail(d, "out of memory");
		return;
	}
	r = rules_match_chunk(deny->rules,
			      ev->type == AGENTPROXY_REQUEST_CHUNK ?
			      &b->request : &b->response, ev, d);
	if (r)
		block(d, r);
}

static void on_end(void *user, void *exchange)
{
	free(exchange);
}

static void on_reload(void *user)
{
	struct denylist *deny = user;
	struct rules *fresh = rules_load(deny->file);

	fprintf(stderr, "denylist: %s\n",
		fresh ? "new rules" : "kept the old rules");
	if (!fresh)
		return;
	rules_free(deny->rules);
	deny->rules = fresh;
}

int main(int argc, char **argv)
{
	struct denylist deny = { NULL, NULL };
	struct agentproxy *a;
	const char *path = NULL;
	int c, rc = 1;

	while ((c = getopt(argc, argv, "s:f:")) != -1) {
		if (c == 's')
			path = optarg;
		else if (c == 'f')
			deny.file = optarg;
	}
	if (!path || !deny.file || optind != argc) {
		fprintf(stderr, "usage: denylist -s SOCKET -f FILE\n");
		return 2;
	}
	deny.rules = rules_load(deny.file);
	if (!deny.rules)
		return 2;
	a = agentproxy_new("denylist", VERSION, &deny);
	if (a) {
		agentproxy_on(a, AGENTPROXY_REQUEST_HEAD, on_request_head);
		agentproxy_on(a, AGENTPROXY_REQUEST_CHUNK, on_chunk);
		agentproxy_on(a, AGENTPROXY_RESPONSE_CHUNK, on_chunk);
		agentproxy_on_end(a, on_end);
		agentproxy_on_reload(a, on_reload);
		rc = agentproxy_run(a, path) ? 1 : 0;
	}
	if (rc)
		fprintf(stderr, "denylist: %s: %s\n", path, strerror(errno));
	agentproxy_free(a);
	rules_free(deny.rules);
	return rc;
}
