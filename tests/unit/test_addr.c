/* Addresses as text. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/addr.h"

static void test_round_trip(void **state)
{
	static const char *const good[] = {
		"127.0.0.1:80", "0.0.0.0:65535", "[::]:8080", "[::1]:1",
		"[2001:db8::1]:443", "unix:/run/app.sock", "unix:/a",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct net_addr a;
		char text[NET_ADDR_TEXT];

		assert_true(net_addr_parse(slice_str(good[i]), &a));
		assert_int_equal(net_addr_format(&a, text), strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:080", "127.0.0.1:+80",
		"127.0.0.1:80 ", " 127.0.0.1:80", "127.0.0.1:8a",
		"localhost:80", "127.1:80", "127.0.0.1:100000", "::1:80",
		"[::1]", "[::1]80", "[::1]:", "[]:80", "[:80", "]:80",
		"[::1%lo]:80", "[127.0.0.1]:80", "1.2.3.256:80", ":80",
		"unix:", "unix:a", "unix:@a", "UNIX:/a", "*:80",
	};
	struct net_addr a;
	char long_path[300];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(net_addr_parse(slice_str(bad[i]), &a));
	assert_false(net_addr_parse(SLICE("unix:/a\0b"), &a));
	assert_false(net_addr_parse(SLICE("1.2.3.4\0:80"), &a));
	memset(long_path, 'a', sizeof(long_path));
	memcpy(long_path, "unix:/", 6);
	assert_true(net_addr_parse(slice_of(long_path, 5 + 107), &a));
	assert_false(net_addr_parse(slice_of(long_path, 5 + 108), &a));
}

static void peer_of(const char *text, struct net_peer *p)
{
	struct net_addr a;

	assert_true(net_addr_parse(slice_str(text), &a));
	net_peer_from(&a, p);
}

static void test_peer(void **state)
{
	struct net_peer p;
	char text[INET6_ADDRSTRLEN];

	peer_of("192.0.2.7:1234", &p);
	assert_int_equal(p.family, AF_INET);
	assert_int_equal(p.port, 1234);
	assert_int_equal(net_peer_ip_format(&p, text), 9);
	assert_string_equal(text, "192.0.2.7");
	peer_of("[::ffff:192.0.2.7]:99", &p);
	assert_int_equal(p.family, AF_INET);
	net_peer_ip_format(&p, text);
	assert_string_equal(text, "192.0.2.7");
	peer_of("[2001:db8::5]:99", &p);
	net_peer_ip_format(&p, text);
	assert_string_equal(text, "2001:db8::5");
	peer_of("unix:/x", &p);
	assert_int_equal(net_peer_ip_format(&p, text), 4);
	assert_string_equal(text, "unix");
}

static bool in_net(const char *peer, int family, const char *net,
		   unsigned bits)
{
	struct net_peer p;
	uint8_t ip[16] = { 0 };

	peer_of(peer, &p);
	assert_int_equal(inet_pton(family, net, ip), 1);
	return net_peer_in(&p, (uint8_t)family, ip, bits);
}

static void test_networks(void **state)
{
	assert_true(in_net("10.1.2.3:1", AF_INET, "10.0.0.0", 8));
	assert_false(in_net("11.1.2.3:1", AF_INET, "10.0.0.0", 8));
	assert_true(in_net("10.1.2.3:1", AF_INET, "10.1.2.3", 32));
	assert_false(in_net("10.1.2.2:1", AF_INET, "10.1.2.3", 32));
	assert_true(in_net("10.1.2.2:1", AF_INET, "10.1.2.3", 31));
	assert_true(in_net("1.2.3.4:1", AF_INET, "0.0.0.0", 0));
	assert_true(in_net("172.31.9.9:1", AF_INET, "172.16.0.0", 12));
	assert_false(in_net("172.32.9.9:1", AF_INET, "172.16.0.0", 12));
	assert_false(in_net("1.2.3.4:1", AF_INET, "0.0.0.0", 33));
	assert_false(in_net("1.2.3.4:1", AF_INET6, "::", 0));
	assert_true(in_net("[::ffff:10.9.9.9]:1", AF_INET, "10.0.0.0", 8));
	assert_true(in_net("[fd00::1]:1", AF_INET6, "fc00::", 7));
	assert_false(in_net("[fe00::1]:1", AF_INET6, "fc00::", 7));
	assert_true(in_net("[fd00::1]:1", AF_INET6, "fd00::1", 128));
	assert_false(in_net("unix:/x", AF_INET, "0.0.0.0", 0));
}

static void test_unnamed_unix(void **state)
{
	struct net_addr a = { .len = sizeof(sa_family_t) };
	char text[NET_ADDR_TEXT];

	a.un.sun_family = AF_UNIX;
	memset(a.un.sun_path, 'x', sizeof(a.un.sun_path));
	assert_int_equal(net_addr_format(&a, text), 5);
	assert_string_equal(text, "unix:");
	/* A path that fills all there is has no NUL. */
	a.len = sizeof(a.un);
	assert_int_equal(net_addr_format(&a, text), 5 + 108);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_peer),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_unnamed_unix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
