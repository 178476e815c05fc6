#include "daemon/options.h"

#include <getopt.h>

void options_print_usage(FILE *out)
{
	fputs("Usage: agentproxyd [-c FILE] [-t [--explain REQUEST]]\n"
	      "       agentproxyd check-agent [--v1] SOCKET\n"
	      "An HTTP reverse proxy whose traffic is decided by agents.\n"
	      "\n"
	      "  -c FILE     the config (default " OPTIONS_DEFAULT_FILE ")\n"
	      "  -t          check the config and leave\n"
	      "  --explain 'METHOD URL'  with -t: what happens to that request\n"
	      "  -V          print the version and leave\n"
	      "  -h, --help  print this and leave\n"
	      "\n"
	      "Signals: TERM and INT drain and stop, HUP reloads the config,\n"
	      "USR1 reopens logs, USR2 hands over to a new binary.\n", out);
}

bool options_parse(struct options *o, int argc, char **argv, FILE *err)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "explain", required_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' },
		{ "test", no_argument, NULL, 't' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .file = OPTIONS_DEFAULT_FILE };
	optind = 0;	/* glibc: from the start again */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:htV", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->file = optarg;
			break;
		case 'e':
			o->explain = optarg;
			o->action = OPTIONS_TEST;
			break;
		case 'h':
			o->action = OPTIONS_HELP;
			return true;
		case 't':
			o->action = OPTIONS_TEST;
			break;
		case 'V':
			o->action = OPTIONS_VERSION;
			return true;
		case ':':
			fprintf(err, "agentproxyd: %s needs a value\n",
				argv[optind - 1]);
			return false;
		default:
			fprintf(err, "agentproxyd: unknown option %s; "
				"see agentproxyd -h\n", argv[optind - 1]);
			return false;
		}
	}
	if (optind < argc) {
		fprintf(err, "agentproxyd: unexpected argument %s\n",
			argv[optind]);
		return false;
	}
	return true;
}
