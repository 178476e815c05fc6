/* The command line. */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdio.h>

#include "base/base.h"

#define OPTIONS_DEFAULT_FILE "/etc/agentproxyd/agentproxyd.yaml"

/* Exit codes (interface.md). */
enum { EXIT_OK = 0, EXIT_RUN_TIME = 1, EXIT_USAGE = 2 };

enum options_action { OPTIONS_RUN, OPTIONS_TEST, OPTIONS_VERSION, OPTIONS_HELP };

struct options {
	const char *file;	/* borrowed from argv */
	const char *explain;	/* with OPTIONS_TEST: a request, or NULL */
	enum options_action action;
};

/* False: what is wrong was written to err. */
bool options_parse(struct options *o, int argc, char **argv, FILE *err)
	MUST_CHECK;
void options_print_usage(FILE *out);

#endif
