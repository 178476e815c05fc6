/*
 * A lean agent for HAProxy's filter (SPOP 2.0): answers each NOTIFY with an
 * ACK that sets txn.bench.verdict, 1 for paths under /blocked, else 0.
 *
 *	spoe -s SOCKET		SIGUSR1 prints {"heads":N}
 *
 * The message it wants has one argument, `path`.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "peers.h"

#define FRAME_MAX	16384u

enum { HELLO = 1, DISCONNECT = 2, NOTIFY = 3, AGENT_HELLO = 101,
       AGENT_DISCONNECT = 102, ACK = 103 };

struct link {
	struct peer_conn peer;
	char in[4 * FRAME_MAX], out[4 * FRAME_MAX];
	size_t n_in, n_out;
};

struct cursor {
	const unsigned char *p, *end;
	bool bad;
};

static uint64_t heads;

/* ---- the encoding: numbers of 4 + 7 + 7 ... bits ---------------------------------- */

static uint64_t get_number(struct cursor *c)
{
	unsigned shift = 4;
	uint64_t v;

	if (c->p == c->end) {
		c->bad = true;
		return 0;
	}
	v = *c->p++;
	if (v < 240)
		return v;
	do {
		if (c->p == c->end) {
			c->bad = true;
			return 0;
		}
		v += (uint64_t)*c->p << shift;
		shift += 7;
	} while (*c->p++ >= 128);
	return v;
}

static unsigned char *put_number(unsigned char *o, uint64_t v)
{
	if (v < 240) {
		*o++ = (unsigned char)v;
		return o;
	}
	*o++ = (unsigned char)(v | 240);
	v = (v - 240) >> 4;
	while (v >= 128) {
		*o++ = (unsigned char)(v | 128);
		v = (v - 128) >> 7;
	}
	*o++ = (unsigned char)v;
	return o;
}

static unsigned char *put_text(unsigned char *o, const char *s)
{
	size_t n = strlen(s);

	o = put_number(o, n);
	memcpy(o, s, n);
	return o + n;
}

/* ---- frames ----------------------------------------------------------------------- */

/* Room for a frame of that type; finish() writes its length. */
static unsigned char *begin(struct link *l, int type)
{
	unsigned char *o;

	if (sizeof(l->out) - l->n_out < 512)
		die("HAProxy does not read");
	o = (unsigned char *)l->out + l->n_out;
	o[4] = (unsigned char)type;
	o[5] = o[6] = o[7] = 0;
	o[8] = 1;			/* FIN */
	return o + 9;
}

static void finish(struct link *l, const unsigned char *end)
{
	unsigned char *start = (unsigned char *)l->out + l->n_out;
	uint32_t n = htonl((uint32_t)(end - start) - 4);

	memcpy(start, &n, 4);
	l->n_out = (size_t)((const char *)end - l->out);
}

static void say_hello(struct link *l)
{
	unsigned char *o = begin(l, AGENT_HELLO);

	*o++ = 0;			/* stream and frame ids */
	*o++ = 0;
	o = put_text(o, "version");
	*o++ = 8;			/* a string */
	o = put_text(o, "2.0");
	o = put_text(o, "max-frame-size");
	*o++ = 3;			/* an unsigned number */
	o = put_number(o, FRAME_MAX - 4);
	o = put_text(o, "capabilities");
	*o++ = 8;
	o = put_text(o, "pipelining");
	finish(l, o);
}

static void answer(struct link *l, uint64_t stream, uint64_t frame,
		   bool blocked)
{
	unsigned char *o = begin(l, ACK);

	o = put_number(o, stream);
	o = put_number(o, frame);
	*o++ = 1;			/* set-var, 3 arguments */
	*o++ = 3;
	*o++ = 2;			/* of the transaction */
	o = put_text(o, "verdict");
	*o++ = 3;
	o = put_number(o, blocked);
	finish(l, o);
}

/* One message of one argument, a string. */
static bool on_notify(struct link *l, struct cursor *c)
{
	static const char blocked[] = "/blocked";
	uint64_t stream = get_number(c), frame = get_number(c), n;

	n = get_number(c);
	if (c->bad || n > (uint64_t)(c->end - c->p))
		return false;
	c->p += n;			/* the message's name */
	if (c->p == c->end || *c->p++ != 1)
		return false;
	n = get_number(c);
	if (c->bad || n > (uint64_t)(c->end - c->p))
		return false;
	c->p += n;			/* the argument's name */
	if (c->p == c->end || (*c->p++ & 15) != 8)
		return false;
	n = get_number(c);
	if (c->bad || n > (uint64_t)(c->end - c->p))
		return false;
	heads++;
	answer(l, stream, frame, n >= sizeof(blocked) - 1 &&
	       !memcmp(c->p, blocked, sizeof(blocked) - 1));
	return true;
}

static bool on_frame(struct link *l, const unsigned char *p, size_t n)
{
	struct cursor c = { p + 5, p + n, false };

	if (n < 7)
		return false;
	switch (p[0]) {
	case HELLO:
		say_hello(l);
		return true;
	case NOTIFY:
		return on_notify(l, &c);
	default:
		return false;
	}
}

static bool read_link(struct peer_conn *peer)
{
	struct link *l = (struct link *)peer;
	size_t at = 0;
	ssize_t n = recv(peer->fd, l->in + l->n_in, sizeof(l->in) - l->n_in, 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	l->n_in += (size_t)n;
	while (l->n_in - at >= 4) {
		uint32_t len;

		memcpy(&len, l->in + at, 4);
		len = ntohl(len);
		if (len > FRAME_MAX)
			return false;
		if (l->n_in - at < 4 + (size_t)len)
			break;
		if (!on_frame(l, (const unsigned char *)l->in + at + 4, len))
			return false;
		at += 4 + (size_t)len;
	}
	l->n_in -= at;
	memmove(l->in, l->in + at, l->n_in);
	n = send(peer->fd, l->out, l->n_out, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN;
	l->n_out -= (size_t)n;
	memmove(l->out, l->out + n, l->n_out);
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "-s") != 0)
		die("usage: spoe -s SOCKET");
	peer_serve(argv[2], sizeof(struct link), read_link, &heads);
}
