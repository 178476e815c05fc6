/*
 * scripted-agent: an agent that does what a script says, good or bad. For
 * tests, and for people who try things out; `scripted-agent --help` explains
 * the script's lines (script.c).
 *
 * Standard output has one JSON object per frame:
 *	n, link		number of the frame and of its connection
 *	type		event, handshake, ping, cancel, or 0xNN
 *	correlation_id
 *	bytes, digest	of a chunk's data, else of the payload (FNV-1a, 64)
 *	answer		to an event: allow, block ..., or bad (a fault) or none
 * and more by type: method and uri; status; index, is_last and, with the last
 * chunk, total and total_bytes of the body; unreadable. SIGTERM ends with one
 * object of totals. SIGHUP reads the script again.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "exchanges.h"
#include "link.h"

static const char usage[] =
"usage: scripted-agent -s SOCKET -f SCRIPT [--dialect v2|go|v1]\n"
"         [--encoding json|msgpack] [--shape map|array] [--raw-body]\n"
"         [--quiet]\n"
"       scripted-agent --connect SOCKET -f SCRIPT [--dialect v2|go]\n"
"         [--id NAME] [--token TOKEN] [--links N] [--quiet]\n"
"Without --encoding: msgpack if it is offered. --quiet: no line per frame.\n"
"--connect: dials in and registers as NAME (scripted), and again when it is\n"
"sent away.\n";

struct options {
	const char *socket, *script;
};

static int bad_option(void)
{
	fputs(usage, stderr);
	return 2;
}

enum { OPT_DIALECT = 256, OPT_ENCODING, OPT_SHAPE, OPT_RAW, OPT_QUIET,
       OPT_CONNECT, OPT_ID, OPT_TOKEN, OPT_LINKS };

/* About dialling in. False: none of these. */
static bool read_dial_option(int c, struct agent *a)
{
	if (c == OPT_CONNECT)
		a->connect_to = optarg;
	else if (c == OPT_ID)
		a->id = optarg;
	else if (c == OPT_TOKEN)
		a->token = optarg;
	else if (c == OPT_LINKS)
		a->links_wanted = (unsigned)atoi(optarg);
	else
		return false;
	return true;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *o,
			struct agent *a)
{
	static const struct option longs[] = {
		{ "dialect", 1, NULL, OPT_DIALECT },
		{ "encoding", 1, NULL, OPT_ENCODING },
		{ "shape", 1, NULL, OPT_SHAPE },
		{ "raw-body", 0, NULL, OPT_RAW },
		{ "quiet", 0, NULL, OPT_QUIET },
		{ "connect", 1, NULL, OPT_CONNECT },
		{ "id", 1, NULL, OPT_ID },
		{ "token", 1, NULL, OPT_TOKEN },
		{ "links", 1, NULL, OPT_LINKS },
		{ "help", 0, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:f:h", longs, NULL)) != -1) {
		if (c == 's') {
			o->socket = optarg;
		} else if (c == 'f') {
			o->script = optarg;
		} else if (c == OPT_RAW) {
			a->format.raw_body = true;
		} else if (c == OPT_QUIET) {
			a->quiet = true;
		} else if (c == OPT_ENCODING && (!strcmp(optarg, "json") ||
						 !strcmp(optarg, "msgpack"))) {
			a->format.encoding = *optarg == 'j' ? WIRE_JSON
							    : WIRE_MSGPACK;
			a->encoding_forced = true;
		} else if (c == OPT_SHAPE && (!strcmp(optarg, "map") ||
					      !strcmp(optarg, "array"))) {
			a->format.shape = *optarg == 'm' ? WIRE_MAP
							 : WIRE_ARRAY;
		} else if (c == OPT_DIALECT && (!strcmp(optarg, "go") ||
						!strcmp(optarg, "v1"))) {
			a->format.dialect = *optarg == 'g' ? WIRE_GO : WIRE_V1;
			a->format.encoding = WIRE_JSON;
			a->encoding_forced = true;
		} else if (c == 'h') {
			printf("%s\n%s", usage, script_help);
			return 0;
		} else if (read_dial_option(c, a)) {
			continue;
		} else if (c != OPT_DIALECT || strcmp(optarg, "v2") != 0) {
			return bad_option();
		}
	}
	return !o->socket != !a->connect_to && optind == argc ? -1 :
								bad_option();
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || strlen(path) >= sizeof(a.sun_path))
		return -1;
	strcpy(a.sun_path, path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 512)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL,
			     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		link_new(arg, fd);
}

struct reloader {
	struct agent *agent;
	const char *path;
};

static void on_reload(evutil_socket_t signal, short what, void *arg)
{
	struct reloader *r = arg;
	struct script *fresh = script_load(r->path);

	if (!fresh)
		return;
	script_free(r->agent->script);
	r->agent->script = fresh;
	link_reload_all(r->agent);
}

static void on_stop(evutil_socket_t signal, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static void print_totals(const struct totals *t)
{
	printf("{\"totals\":{\"links\":%llu,\"frames\":%llu",
	       (unsigned long long)t->links, (unsigned long long)t->frames);
	for (unsigned i = 0; i < EVENT_N; i++)
		printf(",\"%s\":%llu", event_names[i],
		       (unsigned long long)t->by_event[i]);
	printf(",\"replies\":%llu,\"unreadable\":%llu,\"data_bytes\":%llu}}\n",
	       (unsigned long long)t->replies,
	       (unsigned long long)t->unreadable,
	       (unsigned long long)t->data_bytes);
}

static void run(struct agent *a, int listener, const char *script)
{
	struct reloader reloader = { a, script };
	struct event *events[] = {
		listener < 0 ? NULL :
			event_new(a->base, listener, EV_READ | EV_PERSIST,
				  on_connection, a),
		evsignal_new(a->base, SIGTERM, on_stop, a->base),
		evsignal_new(a->base, SIGINT, on_stop, a->base),
		evsignal_new(a->base, SIGHUP, on_reload, &reloader),
	};

	for (unsigned i = 0; i < ARRAY_LEN(events); i++)
		if (events[i])
			event_add(events[i], NULL);
	if (listener >= 0 || dial_start(a))
		event_base_dispatch(a->base);
	dial_stop(a);
	for (unsigned i = 0; i < ARRAY_LEN(events); i++)
		if (events[i])
			event_free(events[i]);
}

int main(int argc, char **argv)
{
	struct agent a = { .format = { .shape = WIRE_ARRAY },
			   .id = "scripted", .links_wanted = 1 };
	struct options o = { NULL, NULL };
	int status = read_options(argc, argv, &o, &a), listener = -1;

	if (status >= 0)
		return status;
	a.script = script_load(o.script);
	if (!a.script)
		return 2;
	a.base = event_base_new();
	a.exchanges = exchanges_new();
	if (o.socket)
		listener = listen_on(o.socket);
	if (!a.base || !a.exchanges || (o.socket && listener < 0)) {
		fprintf(stderr, "%s: %s\n", o.socket, strerror(errno));
		return 1;
	}
	block_pool_init(&a.blocks);
	arena_pool_init(&a.arenas);
	arena_init(&a.scratch, &a.arenas);
	run(&a, listener, o.script);
	if (o.socket)
		unlink(o.socket);
	if (listener >= 0)
		close(listener);
	print_totals(&a.totals);
	link_free_all(&a);
	exchanges_free(a.exchanges);
	script_free(a.script);
	event_base_free(a.base);
	arena_fini(&a.scratch);
	arena_pool_fini(&a.arenas);
	block_pool_fini(&a.blocks);
	return 0;
}
