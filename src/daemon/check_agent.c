#include "daemon/check_agent.h"

#include <stdio.h>
#include <sys/un.h>

#include "daemon/options.h"
#include "daemon/probe.h"

static void print_identity(const struct probe *p)
{
	const struct wire_handshake *h = &p->hello;
	const char *blank = "";

	printf("name      %s\nversion   %s\n", h->name[0] ? h->name : "-",
	       h->version[0] ? h->version : "-");
	printf("dialect   %s\nencoding  %s\n",
	       p->format.dialect == WIRE_V1 ? "v1" :
	       p->format.dialect == WIRE_GO ? "go" : "v2",
	       p->format.encoding == WIRE_MSGPACK ? "msgpack" : "json");
	if (p->format.dialect == WIRE_V1) {
		puts("v1 agents say nothing of themselves.\n");
		return;
	}
	printf("events    ");
	for (unsigned i = 0; i < EVENT_N; i++) {
		if (!(h->events & 1u << i))
			continue;
		printf("%s%s", blank, event_names[i]);
		blank = " ";
	}
	printf("%s\nfeatures  %s\n", *blank ? "" : "-",
	       h->features[0] ? h->features : "-");
	printf("limits    body %llu, chunk %llu, concurrency %u "
	       "(0: not said)\n\n", (unsigned long long)h->max_body_size,
	       (unsigned long long)h->preferred_chunk_size,
	       h->max_concurrency);
}

/*
 * Nobody can ask an agent whether it speaks v1. One that does answers a
 * configure event, with an acknowledgement or a decision.
 */
static bool is_v1(struct probe *p)
{
	enum decision_fault fault = DECISION_BAD;
	struct decision d;

	p->format = (struct wire_format){ .dialect = WIRE_V1 };
	if (!probe_connect(p))
		return false;
	snprintf(p->hello.error, sizeof(p->hello.error),
		 "neither it nor v1's configure is answered");
	return probe_put_configure(p) && probe_flush(p, false) &&
	       probe_decision(p, NULL, &d, &fault) == PROBE_FRAME &&
	       fault == DECISION_OK;
}

static int run(struct probe *p, bool v1)
{
	bool good = v1 ? is_v1(p) : probe_shake(p, WIRE_OFFER_BOTH);

	/* One that refuses is none of v1. */
	if (!good && !v1 && p->unanswered)
		good = is_v1(p);
	if (!good) {
		probe_result(p, "fail", "handshake", p->hello.error);
		return EXIT_RUN_TIME;
	}
	print_identity(p);
	check_probes_run(p);
	printf("\n%u failed, %u warned\n", p->failed, p->warned);
	return p->failed ? EXIT_RUN_TIME : EXIT_OK;
}

int check_agent(int argc, char **argv)
{
	struct probe p;
	int code = EXIT_RUN_TIME;
	bool v1 = argc > 0 && strcmp(argv[0], "--v1") == 0;

	argc -= v1;
	argv += v1;
	if (argc != 1 || strlen(argv[0]) >=
			 sizeof(((struct sockaddr_un *)0)->sun_path)) {
		fputs("Usage: agentproxyd check-agent [--v1] SOCKET\n",
		      stderr);
		return EXIT_USAGE;
	}
	if (probe_init(&p, argv[0]))
		code = run(&p, v1);
	probe_fini(&p);
	return code;
}
