/* example SOCKET: refuses /admin, marks what it has seen, masks secrets. */
#define _GNU_SOURCE
#include <agentproxy.h>
#include <stdio.h>
#include <string.h>

static void on_request_head(void *user, const struct agentproxy_event *ev,
			    struct agentproxy_decision *d)
{
	if (strncmp(ev->uri, "/admin", 6) == 0) {
		agentproxy_block(d, 403, "denied\n");
		agentproxy_rule(d, "admin");
		return;
	}
	agentproxy_set_header(d, AGENTPROXY_REQUEST, "X-Checked-By", "example");
	agentproxy_set_header(d, AGENTPROXY_RESPONSE, "X-Checked-By", "example");
}

static void on_request_chunk(void *user, const struct agentproxy_event *ev,
			     struct agentproxy_decision *d)
{
	char *copy, *at;

	if (!memmem(ev->data, ev->size, "secret", 6))
		return;
	copy = agentproxy_alloc(d, ev->size);
	if (!copy)
		return;		/* d is a failure already */
	memcpy(copy, ev->data, ev->size);
	while ((at = memmem(copy, ev->size, "secret", 6)))
		memset(at, '*', 6);
	agentproxy_replace_chunk(d, copy, ev->size);
}

int main(int argc, char **argv)
{
	struct agentproxy *a = agentproxy_new("example", "1.0", NULL);

	if (!a || argc != 2)
		return 2;
	agentproxy_on(a, AGENTPROXY_REQUEST_HEAD, on_request_head);
	agentproxy_on(a, AGENTPROXY_REQUEST_CHUNK, on_request_chunk);
	if (agentproxy_run(a, argv[1]) != 0) {
		perror(argv[1]);
		return 1;
	}
	agentproxy_free(a);
	return 0;
}
