/* The sockets that are listened on: what a reload keeps, makes, closes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/sockets.h"
#include "net/sock.h"

static char dir[] = "/tmp/test_sockets.XXXXXX";
static unsigned ports[2];

static struct config_listener listener(const char *name, const char *address)
{
	struct config_listener l = {
		.name = name, .address.text = address, .mode = 0666,
	};

	assert_true(net_addr_parse(slice_str(address), &l.address.addr));
	return l;
}

/* Free ports, so that tests may run beside each other. */
static void find_ports(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct net_addr a;
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		assert_true(net_addr_parse(SLICE("127.0.0.1:1"), &a));
		a.in.sin_port = 0;
		assert_int_equal(bind(fd, &a.sa, a.len), 0);
		assert_int_equal(getsockname(fd, &a.sa, &a.len), 0);
		ports[i] = ntohs(a.in.sin_port);
		close(fd);
	}
}

static const char *tcp(unsigned i)
{
	static char text[2][32];

	snprintf(text[i], sizeof(text[i]), "127.0.0.1:%u", ports[i]);
	return text[i];
}

static const char *unix_address(void)
{
	static char text[64];

	snprintf(text, sizeof(text), "unix:%s/s", dir);
	return text;
}

static const char *unix_path(void)
{
	return unix_address() + 5;
}

static bool answers(const struct net_addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM, 0);
	bool ok = connect(fd, &a->sa, a->len) == 0;

	close(fd);
	return ok;
}

static void test_one_per_worker(void **state)
{
	struct config_listener l[2] = {
		listener("a", tcp(0)), listener("u", unix_address()),
	};
	struct config config = { .listeners = l, .n_listeners = 2 };
	struct sockets s;
	struct bound *b;
	struct stat st;

	sockets_init(&s, 3);
	assert_true(sockets_bind(&s, &config));
	b = sockets_find(&s, &l[0].address.addr);
	assert_non_null(b);
	assert_int_not_equal(bound_fd(b, 3, 0, 0), bound_fd(b, 3, 1, 0));
	assert_int_not_equal(bound_fd(b, 3, 1, 0), bound_fd(b, 3, 2, 0));
	b = sockets_find(&s, &l[1].address.addr);
	assert_non_null(b);
	assert_int_equal(bound_fd(b, 3, 0, 0), bound_fd(b, 3, 2, 0));
	assert_true(answers(&l[0].address.addr));
	assert_true(answers(&l[1].address.addr));
	assert_int_equal(stat(unix_path(), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	sockets_fini(&s);
	assert_false(answers(&l[0].address.addr));
	assert_int_equal(access(unix_path(), F_OK), -1);
}

static void test_reload_keeps_and_closes(void **state)
{
	struct config_listener l[2] = {
		listener("a", tcp(0)), listener("u", unix_address()),
	};
	struct config_listener k[2] = {
		listener("renamed", tcp(0)), listener("b", tcp(1)),
	};
	struct config config = { .listeners = l, .n_listeners = 2 };
	struct config next = { .listeners = k, .n_listeners = 2 };
	struct sockets s;
	int fd;

	sockets_init(&s, 2);
	assert_true(sockets_bind(&s, &config));
	sockets_keep(&s, &config);
	fd = bound_fd(sockets_find(&s, &l[0].address.addr), 2, 1, 0);
	assert_true(sockets_bind(&s, &next));
	/* Until the workers have switched, the old ones stay. */
	assert_non_null(sockets_find(&s, &l[1].address.addr));
	sockets_keep(&s, &next);
	assert_int_equal(bound_fd(sockets_find(&s, &k[0].address.addr),
				  2, 1, 0), fd);
	assert_non_null(sockets_find(&s, &k[1].address.addr));
	assert_null(sockets_find(&s, &l[1].address.addr));
	assert_int_equal(access(unix_path(), F_OK), -1);
	sockets_fini(&s);
}

/* Even where SO_REUSEPORT would let two share the port. */
static void test_port_in_use(void **state)
{
	struct config_listener l[2] = {
		listener("a", tcp(0)), listener("b", tcp(1)),
	};
	struct config config = { .listeners = l, .n_listeners = 1 };
	struct config both = { .listeners = l, .n_listeners = 2 };
	struct sockets s, other;
	struct config_address admin = l[0].address;
	bool kept;

	sockets_init(&other, 1);
	assert_true(sockets_bind(&other, &config));
	sockets_init(&s, 1);
	assert_false(sockets_bind(&s, &both));
	/* All or none. */
	assert_null(sockets_find(&s, &l[1].address.addr));
	assert_false(answers(&l[1].address.addr));
	assert_int_equal(sockets_bind_admin(&s, &admin, &kept), -EADDRINUSE);
	sockets_fini(&other);
	assert_true(sockets_bind(&s, &both));
	sockets_fini(&s);
}

/* A refused reload leaves what was there, also another's socket file. */
static void test_refused_reload(void **state)
{
	struct config_listener l[3] = {
		listener("a", tcp(0)), listener("b", tcp(1)),
		listener("u", unix_address()),
	};
	struct config config = { .listeners = l, .n_listeners = 1 };
	struct config next = { .listeners = l, .n_listeners = 3 };
	struct sockets s;
	FILE *f = fopen(unix_path(), "w");

	assert_non_null(f);
	fclose(f);
	sockets_init(&s, 2);
	assert_true(sockets_bind(&s, &config));
	sockets_keep(&s, &config);
	assert_false(sockets_bind(&s, &next));
	assert_true(answers(&l[0].address.addr));
	assert_false(answers(&l[1].address.addr));
	assert_int_equal(access(unix_path(), F_OK), 0);
	sockets_fini(&s);
	assert_int_equal(unlink(unix_path()), 0);
}

/* From one address to the whole port and back: our own socket is not in the
 * way. */
static void test_wider_address(void **state)
{
	char any[32];
	struct config_listener l[2] = { listener("a", tcp(0)) };
	struct config config = { .listeners = &l[0], .n_listeners = 1 };
	struct config wide = { .listeners = &l[1], .n_listeners = 1 };
	struct sockets s;

	snprintf(any, sizeof(any), "0.0.0.0:%u", ports[0]);
	l[1] = listener("a", any);
	sockets_init(&s, 1);
	assert_true(sockets_bind(&s, &config));
	sockets_keep(&s, &config);
	assert_true(sockets_bind(&s, &wide));
	sockets_keep(&s, &wide);
	assert_true(sockets_bind(&s, &config));
	sockets_keep(&s, &config);
	assert_true(answers(&l[0].address.addr));
	sockets_fini(&s);
}

/* ---- inherited ones ------------------------------------------------------ */

static int listening(const struct net_addr *a)
{
	int fd = sock_listen(a, 16);

	assert_true(fd >= 0);
	return fd;
}

/* As inherit_init() leaves it. */
static struct inherit inherit_of(struct inherited *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		list[i].addr.len = sizeof(list[i].addr.un);
		assert_int_equal(getsockname(list[i].fd, &list[i].addr.sa,
					     &list[i].addr.len), 0);
	}
	return (struct inherit){ .n = n, .list = list, .ready_fd = -1 };
}

/* Three slots for two workers: all are listened on, none twice. */
static void test_inherit_more_than_workers(void **state)
{
	struct config_listener l = listener("a", tcp(0));
	struct config config = { .listeners = &l, .n_listeners = 1 };
	struct inherited list[3] = {
		{ .fd = listening(&l.address.addr) },
		{ .fd = listening(&l.address.addr) },
		{ .fd = listening(&l.address.addr) },
	};
	struct inherit in = inherit_of(list, 3);
	int fd[3] = { list[0].fd, list[1].fd, list[2].fd };
	struct sockets s;
	struct bound *b;

	sockets_init(&s, 2);
	s.inherit = &in;
	assert_true(sockets_bind(&s, &config));
	b = sockets_find(&s, &l.address.addr);
	assert_int_equal(bound_fd(b, 2, 0, 0), fd[0]);
	assert_int_equal(bound_fd(b, 2, 1, 0), fd[1]);
	assert_int_equal(bound_fd(b, 2, 0, 1), fd[2]);
	assert_int_equal(bound_fd(b, 2, 1, 1), -1);
	assert_int_equal(bound_fd(b, 2, 0, 2), -1);
	sockets_fini(&s);
}

/* One for three workers: the others are made beside it, or share it. */
static void test_inherit_fewer_than_workers(void **state)
{
	struct config_listener l[2] = {
		listener("a", tcp(0)), listener("u", unix_address()),
	};
	struct config config = { .listeners = l, .n_listeners = 2 };
	struct inherited list[2] = {
		{ .fd = listening(&l[0].address.addr) },
		{ .fd = listening(&l[1].address.addr), .kept = true },
	};
	struct inherit in = inherit_of(list, 2);
	int fd = list[1].fd;
	struct sockets s;
	struct bound *b;

	sockets_init(&s, 3);
	s.inherit = &in;
	assert_true(sockets_bind(&s, &config));
	b = sockets_find(&s, &l[0].address.addr);
	assert_int_equal(b->n, 3);
	assert_false(b->kept);
	b = sockets_find(&s, &l[1].address.addr);
	assert_true(b->kept);
	for (unsigned w = 0; w < 3; w++)
		assert_int_equal(bound_fd(b, 3, w, 0), fd);
	sockets_fini(&s);
	/* systemd's file stays. */
	assert_int_equal(access(unix_path(), F_OK), 0);
	assert_int_equal(unlink(unix_path()), 0);
}

/* By address first, then by name; the rest is closed. */
static void test_inherit_by_name(void **state)
{
	struct config_listener l[2] = {
		listener("a", tcp(0)), listener("b", "127.0.0.1:1"),
	};
	struct config_listener k = listener("c", tcp(1));
	struct inherited list[2] = {
		{ .fd = listening(&l[0].address.addr), .name = "b" },
		{ .fd = listening(&k.address.addr), .name = "b" },
	};
	struct inherit in = inherit_of(list, 2);
	bool kept = true;
	int fd[2] = { list[0].fd, list[1].fd };

	assert_int_equal(inherit_count(&in, &l[0].address.addr, "a"), 1);
	assert_int_equal(inherit_take(&in, &l[0].address.addr, "a", &kept),
			 fd[0]);
	assert_false(kept);
	assert_int_equal(inherit_count(&in, &l[1].address.addr, NULL), 0);
	assert_int_equal(inherit_count(&in, &l[1].address.addr, "x"), 0);
	assert_int_equal(inherit_count(&in, &l[1].address.addr, "b"), 1);
	inherit_close_rest(&in);
	assert_int_equal(inherit_count(&in, &l[1].address.addr, "b"), 0);
	assert_false(answers(&k.address.addr));
	close(fd[0]);
}

/* What waits is accepted; who comes later is not let in. */
static void test_refuse(void **state)
{
	struct config_listener l = listener("a", tcp(0));
	struct config config = { .listeners = &l, .n_listeners = 1 };
	struct net_addr *a = &l.address.addr, from;
	int early = socket(AF_INET, SOCK_STREAM, 0);
	int late = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockets s;
	int fd, got;

	sockets_init(&s, 1);
	assert_true(sockets_bind(&s, &config));
	fd = bound_fd(sockets_find(&s, a), 1, 0, 0);
	assert_int_equal(connect(early, &a->sa, a->len), 0);
	sockets_refuse(&s, NULL);
	assert_int_equal(connect(late, &a->sa, a->len), -1);
	assert_int_equal(errno, EINPROGRESS);
	got = sock_accept(fd, &from);
	assert_true(got >= 0);
	assert_int_equal(sock_accept(fd, &from), -EAGAIN);
	assert_int_equal(write(early, "x", 1), 1);
	assert_int_equal(write(got, "y", 1), 1);
	close(got);
	close(early);
	close(late);
	sockets_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_per_worker),
		cmocka_unit_test(test_reload_keeps_and_closes),
		cmocka_unit_test(test_port_in_use),
		cmocka_unit_test(test_refused_reload),
		cmocka_unit_test(test_wider_address),
		cmocka_unit_test(test_inherit_more_than_workers),
		cmocka_unit_test(test_inherit_fewer_than_workers),
		cmocka_unit_test(test_inherit_by_name),
		cmocka_unit_test(test_refuse),
	};
	int failed;

	log_set_fd(-1);
	if (!mkdtemp(dir))
		return 1;
	find_ports();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
