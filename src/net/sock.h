/*
 * The system calls that carry traffic. With net/loop.h the seam for the
 * simulator. All descriptors are non-blocking and close-on-exec. Results below
 * 0 are negative errno values; errno itself means nothing after these.
 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/addr.h"

/* A bound, listening socket. TCP: SO_REUSEADDR, SO_REUSEPORT. Unix: a stale
 * socket file (nobody answers) is replaced. Descriptor or -errno. */
int sock_listen(const struct net_addr *a, int backlog) MUST_CHECK;
/* accept4(); TCP_NODELAY is set. Descriptor, or -errno (-EAGAIN: none). */
int sock_accept(int fd, struct net_addr *peer) MUST_CHECK;
/* Descriptor of a connection under way (or done: Unix sockets), or -errno.
 * TCP_NODELAY is set. */
int sock_connect(const struct net_addr *a) MUST_CHECK;
/* SO_ERROR as -errno, or 0. */
int sock_error(int fd) MUST_CHECK;
/* Bytes, 0 at the end of the stream, or -errno. */
ssize_t sock_recv(int fd, void *buf, size_t n) MUST_CHECK;
/* A sock_recv() would return something: bytes, the end, or an error. */
bool sock_has_input(int fd);
/* MSG_NOSIGNAL. Bytes or -errno. */
ssize_t sock_send(int fd, const void *buf, size_t n) MUST_CHECK;
ssize_t sock_sendv(int fd, const struct iovec *iov, int n) MUST_CHECK;
/* shutdown(fd, SHUT_WR). */
void sock_shutdown(int fd);
/* hard: SO_LINGER 0 first, so that TCP sends RST. */
void sock_close(int fd, bool hard);

/* Who is at the other end of a Unix socket (SO_PEERCRED). 0 or -errno. */
int sock_peer_cred(int fd, uint32_t *uid, uint32_t *gid) MUST_CHECK;
/* What stands at a socket's path, for a log line: "owner=0:0 mode=0660", or
 * why that cannot be said. */
void sock_describe(const char *path, char *out, size_t size);

uint64_t sock_clock_us(void);		/* CLOCK_MONOTONIC */
uint64_t sock_wall_us(void);		/* CLOCK_REALTIME */
void sock_random(void *buf, size_t n);	/* getrandom() */

#endif
