/* A server group with listeners of the test's own as servers. */
#ifndef UPSTREAM_FIXTURE_H
#define UPSTREAM_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "upstream/internal.h"

#define SERVERS	4

struct bench {
	struct loop *loop;
	struct metrics *metrics;
	struct upstream *u;
	struct config_server servers[SERVERS];
	struct config_upstream config;
	char text[SERVERS][NET_ADDR_TEXT];
	int listener[SERVERS];
};

static inline void make_server(struct bench *b, unsigned i)
{
	struct net_addr *a = &b->servers[i].address.addr;

	memset(a, 0, sizeof(*a));
	a->len = sizeof(a->in);
	a->in.sin_family = AF_INET;
	a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	b->listener[i] = sock_listen(a, 64);
	assert_true(b->listener[i] >= 0);
	assert_int_equal(getsockname(b->listener[i], &a->sa, &a->len), 0);
	net_addr_format(a, b->text[i]);
	b->servers[i].address.text = b->text[i];
	b->servers[i].weight = 1;
}

static inline void stop_server(struct bench *b, unsigned i)
{
	close(b->listener[i]);
	b->listener[i] = -1;
}

/* All but the group, which bench_open() makes of b->config. */
static inline void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	b->loop = loop_new(0);
	b->metrics = metrics_new(1);
	assert_true(b->loop && b->metrics);
	for (unsigned i = 0; i < SERVERS; i++)
		make_server(b, i);
	b->config.name = "app";
	b->config.servers = b->servers;
	b->config.n_servers = SERVERS;
}

static inline void bench_open(struct bench *b)
{
	b->u = upstream_new(&b->config, 1, b->metrics);
	assert_non_null(b->u);
}

static inline void bench_fini(struct bench *b)
{
	upstream_local_close(b->u, b->loop);
	loop_turn(b->loop, 0);
	upstream_put(b->u);
	loop_turn(b->loop, 0);
	loop_free(b->loop);
	metrics_free(b->metrics);
	for (unsigned i = 0; i < SERVERS; i++)
		if (b->listener[i] >= 0)
			close(b->listener[i]);
}

/* Turns until cond holds; fails after some seconds. */
#define TURN_UNTIL(b, cond)						\
	do {								\
		uint64_t till_ = sock_clock_us() + 5000000;		\
		while (!(cond)) {					\
			if (sock_clock_us() > till_)			\
				fail_msg("never: %s", #cond);		\
			loop_turn((b)->loop, 1000);			\
		}							\
	} while (0)

/* Takes one connection. */
static inline int take(struct bench *b, unsigned i)
{
	struct net_addr from;
	int fd;

	TURN_UNTIL(b, (fd = sock_accept(b->listener[i], &from)) >= 0);
	return fd;
}

#endif
