/* What the tests of the server's side share: connections, and an application
 * that answers. Not every file needs all of it. */
#ifndef TESTS_H1_SERVER_FIXTURE_H
#define TESTS_H1_SERVER_FIXTURE_H

#include "h1_fixture.h"

#define MEGA	(1024u * 1024)

/* Fixed, so that whole responses can be compared. */
static struct field date_field = {
	.name = "Date", .name_len = 4, .value = "now", .value_len = 3,
	.id = HTTP_FIELD_DATE,
};

static inline struct http_head response(unsigned status)
{
	return (struct http_head){
		.status = (uint16_t)status, .minor = 1, .keep_alive = true,
		.fields = &date_field, .n_fields = 1, .cap_fields = 1,
		.present = UINT64_C(1) << HTTP_FIELD_DATE,
	};
}

static inline int setup_with(struct rig *r, int domain)
{
	int fd[2];

	rig_init(r);
	assert_int_equal(socketpair(domain, SOCK_STREAM | SOCK_NONBLOCK |
				    SOCK_CLOEXEC, 0, fd), 0);
	r->peer = fd[1];
	assert_true(h1_accept(&r->conn, r->loop, fd[0], &r->settings,
			      &rig_events));
	return 0;
}

static inline int setup(void **state)
{
	static struct rig r;

	*state = &r;
	return setup_with(&r, AF_UNIX);
}

static inline int teardown(void **state)
{
	rig_fini(*state);
	return 0;
}

/* A connected pair over TCP, where a reset is a reset. */
static inline int setup_tcp(void **state)
{
	static struct rig r;
	struct net_addr addr;
	int fd, peer, port_fd;

	*state = &r;
	rig_init(&r);
	memset(&addr, 0, sizeof(addr));
	addr.len = sizeof(addr.in);
	addr.in.sin_family = AF_INET;
	addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	port_fd = sock_listen(&addr, 8);
	assert_true(port_fd >= 0);
	assert_int_equal(getsockname(port_fd, &addr.sa, &addr.len), 0);
	peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(peer, &addr.sa, addr.len), 0);
	fd = sock_accept(port_fd, &addr);
	assert_true(fd >= 0);
	close(port_fd);
	fcntl(peer, F_SETFL, O_NONBLOCK);
	r.peer = peer;
	assert_true(h1_accept(&r.conn, r.loop, fd, &r.settings,
			      &rig_events));
	return 0;
}

static inline void peer_reset(struct rig *r)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(r->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(r->peer);
	r->peer = -1;
}

/* ---- what the application does ------------------------------------------- */

static inline void answer_ok(struct rig *r)
{
	struct http_head h = response(200);

	h.framing = HTTP_BODY_LENGTH;
	h.content_length = 2;
	put_head(r, &h);
	put_text(r, "ok");
	put_end(r);
}

static inline void go_on(struct rig *r)
{
	h1_next(&r->conn);
}

static inline void serve(struct rig *r)
{
	r->in_end = answer_ok;
	r->in_flushed = go_on;
}

#define OK_KEPT	"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"
#define OK_CLOSE \
	"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n" \
	"Connection: close\r\n\r\nok"

static inline void ask(struct rig *r, const char *request)
{
	rig_clear_log(r);
	rig_clear_wire(r);
	rig_say(r, request);
	rig_run(r);
}

static inline void answer_bad(struct rig *r, enum message_fault why,
		       enum http_parse fault)
{
	struct http_head h = response(fault ? http_parse_status(fault) : 408);

	h.framing = HTTP_BODY_LENGTH;
	put_head(r, &h);
	put_end(r);
	r->in_flushed = go_on;
}

static inline void pause_source(struct rig *r)
{
	r->conn.source.ops->pause(&r->conn.source);
}

static inline void pause_in_head(struct rig *r, const struct http_head *head)
{
	pause_source(r);
}

#define T(name)		cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_TCP(name)	cmocka_unit_test_setup_teardown(name, setup_tcp, \
							teardown)

#endif
