/* The system calls that carry traffic; see sock.h. */
#include "net/sock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void set_nodelay(int fd)
{
	int on = 1;

	/* Fails on what is not TCP, and that is all right. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int sock_new(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/*
 * Is a, which bind() has called in use, a socket file that nobody listens on?
 * A file of any other kind is never taken away.
 */
static bool unix_is_stale(const struct net_addr *a)
{
	struct stat st;
	int fd, err;

	if (lstat(a->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = sock_new(AF_UNIX);
	if (fd < 0)
		return false;
	err = connect(fd, &a->sa, a->len) < 0 ? errno : 0;
	close(fd);
	return err == ECONNREFUSED;
}

static int sock_bind(int fd, const struct net_addr *a)
{
	if (bind(fd, &a->sa, a->len) == 0)
		return 0;
	if (errno != EADDRINUSE || a->sa.sa_family != AF_UNIX)
		return -errno;
	if (!unix_is_stale(a))
		return -EADDRINUSE;
	if (unlink(a->un.sun_path) < 0 && errno != ENOENT)
		return -errno;
	return bind(fd, &a->sa, a->len) < 0 ? -errno : 0;
}

int sock_listen(const struct net_addr *a, int backlog)
{
	int fd = sock_new(a->sa.sa_family);
	int on = 1, err;

	if (fd < 0)
		return fd;
	if (a->sa.sa_family != AF_UNIX) {
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on,
			       sizeof(on)) < 0 ||
		    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on,
			       sizeof(on)) < 0) {
			err = -errno;
			goto fail;
		}
		set_nodelay(fd);
	}
	err = sock_bind(fd, a);
	if (err)
		goto fail;
	if (listen(fd, backlog) < 0) {
		err = -errno;
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return err;
}

int sock_accept(int fd, struct net_addr *peer)
{
	int conn;

	do {
		peer->len = sizeof(peer->un);
		conn = accept4(fd, &peer->sa, &peer->len,
			       SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (conn < 0 && errno == EINTR);
	if (conn < 0)
		return -errno;
	if (peer->sa.sa_family != AF_UNIX)
		set_nodelay(conn);
	return conn;
}

int sock_connect(const struct net_addr *a)
{
	int fd = sock_new(a->sa.sa_family);
	int err;

	if (fd < 0)
		return fd;
	if (a->sa.sa_family != AF_UNIX)
		set_nodelay(fd);
	if (connect(fd, &a->sa, a->len) < 0 && errno != EINPROGRESS &&
	    errno != EINTR) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

int sock_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

/*
 * recv(), send() and sendmsg() are cancellation points, and glibc takes 60
 * instructions per call for that. No thread of ours is ever cancelled.
 */
static inline ssize_t sys_recv(int fd, void *buf, size_t n)
{
	return syscall(SYS_recvfrom, fd, buf, n, 0, NULL, NULL);
}

static inline ssize_t sys_send(int fd, const void *buf, size_t n)
{
	return syscall(SYS_sendto, fd, buf, n, MSG_NOSIGNAL, NULL, 0);
}

static inline ssize_t sys_sendmsg(int fd, const struct msghdr *msg)
{
	return syscall(SYS_sendmsg, fd, msg, MSG_NOSIGNAL);
}

ssize_t sock_recv(int fd, void *buf, size_t n)
{
	ssize_t r;

	do {
		r = sys_recv(fd, buf, n);
	} while (UNLIKELY(r < 0 && errno == EINTR));
	return LIKELY(r >= 0) ? r : -errno;
}

bool sock_has_input(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
	       errno != EAGAIN;
}

ssize_t sock_send(int fd, const void *buf, size_t n)
{
	ssize_t r;

	do {
		r = sys_send(fd, buf, n);
	} while (UNLIKELY(r < 0 && errno == EINTR));
	return LIKELY(r >= 0) ? r : -errno;
}

ssize_t sock_sendv(int fd, const struct iovec *iov, int n)
{
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)n,
	};
	ssize_t r;

	do {
		r = sys_sendmsg(fd, &msg);
	} while (UNLIKELY(r < 0 && errno == EINTR));
	return LIKELY(r >= 0) ? r : -errno;
}

void sock_shutdown(int fd)
{
	/* Fails when the peer is gone, which the reader will see. */
	(void)shutdown(fd, SHUT_WR);
}

void sock_close(int fd, bool hard)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (hard)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int sock_peer_cred(int fd, uint32_t *uid, uint32_t *gid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*uid = cred.uid;
	*gid = cred.gid;
	return 0;
}

void sock_describe(const char *path, char *out, size_t size)
{
	struct stat st;

	if (stat(path, &st) < 0)
		snprintf(out, size, "owner=none mode=none");
	else
		snprintf(out, size, "owner=%u:%u mode=%04o%s",
			 (unsigned)st.st_uid, (unsigned)st.st_gid,
			 (unsigned)st.st_mode & 07777,
			 S_ISSOCK(st.st_mode) ? "" : " kind=no_socket");
}

uint64_t sock_clock_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

uint64_t sock_wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

void sock_random(void *buf, size_t n)
{
	char *p = buf;

	while (n) {
		ssize_t r = getrandom(p, n, 0);

		if (r < 0) {
			ASSERT(errno == EINTR);
			continue;
		}
		p += r;
		n -= (size_t)r;
	}
}
