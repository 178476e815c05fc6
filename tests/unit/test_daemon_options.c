/* The command line, and what systemd is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/notify.h"
#include "daemon/options.h"

static char *complaint;

/* argv ends with NULL. */
static bool parse(struct options *o, char **argv)
{
	int argc = 0;
	size_t n;
	FILE *err;
	bool ok;

	free(complaint);
	err = open_memstream(&complaint, &n);
	while (argv[argc])
		argc++;
	ok = options_parse(o, argc, argv, err);
	fclose(err);
	/* It says why exactly when it says no. */
	assert_true(ok == (complaint[0] == '\0'));
	return ok;
}

#define ARGS(...) ((char *[]){ (char *)"agentproxyd", __VA_ARGS__, NULL })
#define S(lit) ((char *)(lit))

static void test_defaults(void **state)
{
	struct options o;

	assert_true(parse(&o, (char *[]){ S("agentproxyd"), NULL }));
	assert_string_equal(o.file, "/etc/agentproxyd/agentproxyd.yaml");
	assert_int_equal(o.action, OPTIONS_RUN);
}

static void test_options(void **state)
{
	struct options o;

	assert_true(parse(&o, ARGS(S("-t"), S("--explain"), S("GET /"))));
	assert_int_equal(o.action, OPTIONS_TEST);
	assert_string_equal(o.explain, "GET /");

	assert_true(parse(&o, ARGS(S("-c"), S("x.yaml"))));
	assert_string_equal(o.file, "x.yaml");
	assert_int_equal(o.action, OPTIONS_RUN);
	assert_true(parse(&o, ARGS(S("-t"), S("-cy.yaml"))));
	assert_string_equal(o.file, "y.yaml");
	assert_int_equal(o.action, OPTIONS_TEST);
	assert_true(parse(&o, ARGS(S("-V"))));
	assert_int_equal(o.action, OPTIONS_VERSION);
	assert_true(parse(&o, ARGS(S("-h"))));
	assert_int_equal(o.action, OPTIONS_HELP);
	assert_true(parse(&o, ARGS(S("--help"))));
	assert_int_equal(o.action, OPTIONS_HELP);
}

static void test_faults(void **state)
{
	struct options o;

	assert_false(parse(&o, ARGS(S("-x"))));
	assert_non_null(strstr(complaint, "-x"));
	assert_false(parse(&o, ARGS(S("--frob"))));
	assert_non_null(strstr(complaint, "--frob"));
	assert_false(parse(&o, ARGS(S("-c"))));
	assert_non_null(strstr(complaint, "-c"));
	assert_false(parse(&o, ARGS(S("-t"), S("x.yaml"))));
	assert_non_null(strstr(complaint, "x.yaml"));
	free(complaint);
	complaint = NULL;
}

/* A socket as systemd has it; its name in $NOTIFY_SOCKET. */
static int listen_as_systemd(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				    strlen(name));

	assert_true(fd >= 0);
	strcpy(un.sun_path, name);
	if (name[0] == '@')
		un.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&un, len), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static const char *heard(int fd)
{
	static char text[256];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
	return text;
}

static void test_notify(void **state)
{
	char name[64];

	for (int abstract = 0; abstract < 2; abstract++) {
		int fd;

		snprintf(name, sizeof(name), "%sproxy-notify-%d",
			 abstract ? "@" : "/tmp/", (int)getpid());
		fd = listen_as_systemd(name);
		notify_ready();
		assert_int_equal(strncmp(heard(fd), "READY=1\n", 8), 0);
		notify_reloading();
		assert_int_equal(strncmp(heard(fd),
			"RELOADING=1\nMONOTONIC_USEC=", 27), 0);
		notify_stopping();
		assert_int_equal(strncmp(heard(fd), "STOPPING=1\n", 11), 0);
		close(fd);
		if (!abstract)
			unlink(name);
	}
}

/* Without systemd, or with nonsense for its socket: nothing happens. */
static void test_notify_nobody(void **state)
{
	char longer[300];

	unsetenv("NOTIFY_SOCKET");
	notify_ready();
	setenv("NOTIFY_SOCKET", "", 1);
	notify_ready();
	setenv("NOTIFY_SOCKET", "relative", 1);
	notify_ready();
	memset(longer, '/', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	setenv("NOTIFY_SOCKET", longer, 1);
	notify_ready();
	unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_notify_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
