/* The twin of src/net/sock.c: the same calls against the simulated world. */
#include "net/sock.h"

#include <errno.h>

#include "sim_int.h"

/* 2026-01-01, so that dates in a run are like any other. */
#define WALL_START	(UINT64_C(1767225600) * 1000000)

int sock_listen(const struct net_addr *a, int backlog)
{
	struct sim_world *w = sim_the();
	bool unix_like = a->sa.sa_family == AF_UNIX;
	char text[NET_ADDR_TEXT];
	struct sim_end *e;

	net_addr_format(a, text);
	if (unix_like && listener_find(w, text))
		return -EADDRINUSE;
	e = end_new(w, unix_like, false);
	listener_open(e, text);
	return e->id;
}

int sock_accept(int fd, struct net_addr *peer)
{
	struct sim_end *listener = end_of_fd(fd);
	struct sim_end *e;

	ASSERT(listener->state == END_LISTENING);
	e = listener_take(listener);
	if (!e)
		return -EAGAIN;
	*peer = e->peer_addr;
	return e->id;
}

int sock_connect(const struct net_addr *a)
{
	struct sim_end *e = NULL;
	int error = net_connect(sim_the(), a, &e);

	return error ? error : e->id;
}

int sock_error(int fd)
{
	struct sim_end *e = end_of_fd(fd);
	int error = e->error;

	e->error = 0;
	return -error;
}

ssize_t sock_recv(int fd, void *buf, size_t n)
{
	struct sim_end *e = end_of_fd(fd);
	size_t got;

	ASSERT(n > 0);
	if (e->state == END_CONNECTING && !e->error)
		return -EAGAIN;
	got = e->state == END_OPEN ? end_take(e, buf, n) : 0;
	if (got) {
		sim_trace(e->world, "%d recv %zu", fd, got);
		return (ssize_t)got;
	}
	if (e->error)
		return sock_error(fd);
	if (e->fin_in || e->broken)
		return 0;
	return -EAGAIN;
}

bool sock_has_input(int fd)
{
	const struct sim_end *e = end_of_fd(fd);

	return (e->state == END_OPEN && e->visible.bytes) || e->error ||
	       e->fin_in || e->broken;
}

ssize_t sock_sendv(int fd, const struct iovec *iov, int n)
{
	struct sim_end *e = end_of_fd(fd);
	size_t total = 0;

	if (e->error)
		return sock_error(fd);
	if (e->state != END_OPEN)
		return -EAGAIN;
	if (e->broken || e->fin_out ||
	    (e->unix_like && e->other->state == END_CLOSED))
		return -EPIPE;
	for (int i = 0; i < n; i++) {
		size_t took;

		if (iov[i].iov_len == 0)
			continue;
		took = end_send(e, iov[i].iov_base, iov[i].iov_len);
		total += took;
		if (took < iov[i].iov_len)
			break;
	}
	sim_trace(e->world, "%d send %zu", fd, total);
	return total ? (ssize_t)total : -EAGAIN;
}

ssize_t sock_send(int fd, const void *buf, size_t n)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };

	return sock_sendv(fd, &iov, 1);
}

void sock_shutdown(int fd)
{
	struct sim_end *e = end_of_fd(fd);

	if (e->state == END_OPEN && !e->broken)
		end_send_fin(e);
}

void sock_close(int fd, bool hard)
{
	struct sim_end *e = end_of_fd(fd);

	ASSERT(!e->watch);
	end_close(e, hard);
}

int sock_peer_cred(int fd, uint32_t *uid, uint32_t *gid)
{
	(void)end_of_fd(fd);
	*uid = *gid = 0;
	return 0;
}

void sock_describe(const char *path, char *out, size_t size)
{
	if (size)
		out[0] = '\0';
}

uint64_t sock_clock_us(void)
{
	return sim_the()->now_us;
}

uint64_t sock_wall_us(void)
{
	return WALL_START + sim_the()->now_us;
}

void sock_random(void *buf, size_t n)
{
	sim_program_random(sim_the(), buf, n);
}
