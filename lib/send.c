#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "send.h"

#define IOV_MOST	64

bool outq_send(struct outq *q, int fd)
{
	struct iovec iov[IOV_MOST];

	while (!outq_empty(q)) {
		struct msghdr m = { .msg_iov = iov };
		ssize_t n;

		m.msg_iovlen = (size_t)outq_iov(q, iov, IOV_MOST);
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		outq_consume(q, (size_t)n);
	}
	return true;
}
