#include <string.h>

#include "config/load.h"
#include "daemon/check_agent.h"
#include "daemon/control.h"
#include "daemon/explain.h"
#include "daemon/options.h"

static int test(const struct options *o, struct config *config)
{
	bool ok = true;

	if (o->explain)
		ok = explain(config, o->explain, stdout, stderr);
	else
		printf("%s: ok\n", o->file);
	config_free(config);
	return ok ? EXIT_OK : EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct options o;
	struct config *config;

	if (argc > 1 && strcmp(argv[1], "check-agent") == 0)
		return check_agent(argc - 2, argv + 2);
	if (!options_parse(&o, argc, argv, stderr))
		return EXIT_USAGE;
	if (o.action == OPTIONS_HELP) {
		options_print_usage(stdout);
		return EXIT_OK;
	}
	if (o.action == OPTIONS_VERSION) {
		puts("agentproxyd " VERSION);
		return EXIT_OK;
	}
	if (o.action == OPTIONS_RUN)
		control_block_signals();
	config = config_load(o.file, stderr);
	if (!config)
		return EXIT_USAGE;
	if (o.action == OPTIONS_TEST)
		return test(&o, config);
	return control_run(config, o.file, argv);
}
