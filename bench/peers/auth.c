/*
 * An authorisation service over HTTP/1.1 with kept connections, for nginx's
 * auth_request: 403 for paths under /blocked, 200 for the rest.
 *
 *	auth -l ADDRESS		SIGUSR1 prints {"heads":N}
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "peers.h"

struct conn {
	struct peer_conn peer;
	size_t n;
	char in[16384];
};

static uint64_t heads;

static bool read_conn(struct peer_conn *peer)
{
	struct conn *c = (struct conn *)peer;
	static const char yes[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		no[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
	ssize_t n = recv(peer->fd, c->in + c->n, sizeof(c->in) - c->n, 0);
	bool blocked;
	char *end;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->n += (size_t)n;
	while ((end = memmem(c->in, c->n, "\r\n\r\n", 4))) {
		heads++;
		blocked = memmem(c->in, (size_t)(end - c->in), " /blocked", 9);
		n = send(peer->fd, blocked ? no : yes,
			 blocked ? sizeof(no) - 1 : sizeof(yes) - 1,
			 MSG_NOSIGNAL);
		if (n < 0)
			return false;
		end += 4;
		c->n -= (size_t)(end - c->in);
		memmove(c->in, end, c->n);
	}
	return c->n < sizeof(c->in);
}

int main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "-l") != 0)
		die("usage: auth -l ADDRESS");
	peer_serve(argv[2], sizeof(struct conn), read_conn, &heads);
}
