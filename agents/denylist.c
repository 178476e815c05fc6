/*
 * denylist: an agent that blocks by rules in a file, and a whole example of
 * how to write one: everything here is protocol, what it decides is in rules.c.
 *
 *	denylist -s SOCKET -f FILE
 *
 * SIGHUP reads FILE again (and keeps the old rules if it is bad), SIGTERM ends.
 * What this agent cannot read it does not answer: it hangs up, and the proxy's
 * failure policy decides.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "rules.h"

#define LINKS_MAX	1024u
#define EXCHANGES_MAX	4096u		/* with a body under way, per link */
#define IN_MIN		65536u
#define OUT_MAX		(1u << 20)	/* unsent; then reading stops */

/* ---- links and exchanges ------------------------------------------------ */

/* An exchange of which a body is under way; until its complete event. */
struct exchange {
	struct exchange *next;
	char id[EVENT_ID_LEN];
	struct rules_tail tails[2];		/* request, response */
};

struct link {
	int fd;
	bool greeted;
	struct wire_format format;
	char *in;			/* what was read and not yet handled */
	size_t n, size;
	struct outq out;
	struct exchange *exchanges;
	unsigned n_exchanges;
};

static struct link links[LINKS_MAX];
static unsigned n_links;
static struct block_pool blocks;
static struct arena_pool arenas;
static struct arena scratch;
static struct rules *rules;

static struct exchange **find_exchange(struct link *l, const char *id)
{
	struct exchange **at = &l->exchanges;

	while (*at && memcmp((*at)->id, id, EVENT_ID_LEN) != 0)
		at = &(*at)->next;
	return at;
}

static void drop_exchange(struct link *l, struct exchange **at)
{
	struct exchange *x = *at;

	if (x) {
		*at = x->next;
		l->n_exchanges--;
		free(x);
	}
}

/* The exchange of a chunk, made with its first. NULL: no memory, or more
 * bodies under way than we keep. */
static struct exchange *get_exchange(struct link *l, const char *id)
{
	struct exchange **at = find_exchange(l, id);

	if (*at || l->n_exchanges == EXCHANGES_MAX)
		return *at;
	*at = calloc(1, sizeof(**at));
	if (*at) {
		memcpy((*at)->id, id, EVENT_ID_LEN);
		l->n_exchanges++;
	}
	return *at;
}

/* ---- the protocol ------------------------------------------------------- */

static bool answer(struct link *l, const struct wire_agent_event *e,
		   const struct rule *r)
{
	struct decision d = { .kind = DECISION_ALLOW,
			      .id_kind = DECISION_ID_PRESENT,
			      .id = e->correlation_id };
	struct slice id;

	if (r) {
		id = slice_str(rule_id(r));
		d.kind = DECISION_BLOCK;
		d.status = 403;
		d.body = SLICE("denied\n");
		d.audit.rules = &id;
		d.audit.n_rules = 1;
	} else if (e->ev.type == EVENT_REQUEST_HEAD) {
		d.request_ops = rules->request_ops;
		d.n_request_ops = rules->n_request_ops;
		d.response_ops = rules->response_ops;
		d.n_response_ops = rules->n_response_ops;
	}
	return wire_agent_encode_reply(&l->out, &l->format, &d);
}

/* An event: look, answer. False: hang up. */
static bool on_event(struct link *l, uint8_t type, struct slice payload)
{
	/* Reading changes the bytes; they are ours. */
	char *bytes = l->in + (payload.p - l->in);
	const struct rule *r = NULL;
	struct wire_agent_event e;
	struct exchange *x;
	bool failed = false;

	if (!wire_agent_decode_event(type, bytes, payload.n, &l->format,
				     &scratch, &e))
		return false;
	switch (e.ev.type) {
	case EVENT_REQUEST_HEAD:
		r = rules_match_head(rules, &e.ev, &scratch, &failed);
		break;
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		x = get_exchange(l, e.meta.correlation_id);
		if (!x)
			return false;
		r = rules_match_chunk(rules,
			&x->tails[e.ev.type == EVENT_RESPONSE_CHUNK],
			slice_of(e.data.p, e.data.n), &scratch, &failed);
		break;
	case EVENT_COMPLETE:
		drop_exchange(l, find_exchange(l, e.meta.correlation_id));
		break;
	case EVENT_RESPONSE_HEAD:
	case EVENT_CONFIGURE:
	case EVENT_N:
		break;
	}
	return !failed && answer(l, &e, r);
}

static bool on_handshake(struct link *l, struct slice payload)
{
	bool msgpack, json;

	if (!wire_agent_decode_handshake(payload, &msgpack, &json))
		return false;
	l->greeted = true;
	l->format.encoding = msgpack ? WIRE_MSGPACK : WIRE_JSON;
	l->format.shape = WIRE_ARRAY;
	return wire_agent_encode_handshake(&l->out, "denylist", VERSION,
					   l->format.encoding);
}

static bool on_frame(struct link *l, uint8_t type, struct slice payload)
{
	char head[FRAME_HEAD];

	arena_reset(&scratch);
	if (!l->greeted)
		return type == FRAME_HANDSHAKE && on_handshake(l, payload);
	if (type == FRAME_CANCEL)
		return true;
	if (type != FRAME_PING)
		return on_event(l, type, payload);
	frame_write_head(head, FRAME_PONG, payload.n);
	return outq_copy(&l->out, head, sizeof(head)) &&
	       outq_copy(&l->out, payload.p, payload.n);
}

/* ---- sockets ------------------------------------------------------------ */

static void link_close(struct link *l)
{
	close(l->fd);
	free(l->in);
	outq_clear(&l->out);
	while (l->exchanges)
		drop_exchange(l, &l->exchanges);
	*l = links[--n_links];
}

static bool link_write(struct link *l)
{
	struct iovec iov[64];

	while (!outq_empty(&l->out)) {
		struct msghdr m = { .msg_iov = iov };
		ssize_t n;

		m.msg_iovlen = (size_t)outq_iov(&l->out, iov, 64);
		n = sendmsg(l->fd, &m, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		outq_consume(&l->out, (size_t)n);
	}
	return true;
}

/* Reads what is there and handles every whole frame. False: hang up. */
static bool link_read(struct link *l)
{
	size_t at = 0, used;
	struct slice payload;
	enum frame_result r;
	uint8_t type;
	ssize_t n;

	n = read(l->fd, l->in + l->n, l->size - l->n);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	l->n += (size_t)n;
	while ((r = frame_read(l->in + at, l->n - at, FRAME_MAX, &type,
			       &payload, &used)) == FRAME_OK) {
		if (!on_frame(l, type, payload))
			return false;
		at += used;
	}
	memmove(l->in, l->in + at, l->n - at);
	l->n -= at;
	if (r == FRAME_MORE && used > l->size) {
		char *more = realloc(l->in, used);

		if (!more)
			return false;
		l->in = more;
		l->size = used;
	}
	return r == FRAME_MORE;
}

static void link_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	char *in = malloc(IN_MIN);

	if (fd < 0 || !in || n_links == LINKS_MAX) {
		if (fd >= 0)
			close(fd);
		free(in);
		return;
	}
	links[n_links] = (struct link){ .fd = fd, .in = in, .size = IN_MIN };
	outq_init(&links[n_links++].out, &blocks);
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	/* A file that nobody listens on is left over from a crash. */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
		errno = EADDRINUSE;
		return -1;
	}
	if (errno == ECONNREFUSED)
		unlink(path);
	umask(0117);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 128))
		return -1;
	return fd;
}

static volatile sig_atomic_t stop, reload;

static void on_signal(int signal)
{
	if (signal == SIGHUP)
		reload = 1;
	else
		stop = 1;
}

static void serve_one(struct link *l, short events)
{
	bool good = true;

	if (events & (POLLIN | POLLHUP | POLLERR))
		good = link_read(l);
	if (!link_write(l) || !good)
		link_close(l);
}

static void serve(int listener, const sigset_t *wait_mask, const char *file)
{
	static struct pollfd p[LINKS_MAX + 1];

	while (!stop) {
		unsigned n = n_links;

		p[n] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (unsigned i = 0; i < n; i++) {
			const struct outq *q = &links[i].out;

			p[i] = (struct pollfd){ .fd = links[i].fd };
			p[i].events = q->bytes < OUT_MAX ? POLLIN : 0;
			p[i].events |= q->bytes ? POLLOUT : 0;
		}
		if (ppoll(p, n + 1, NULL, wait_mask) > 0) {
			/* From the back: closing moves the last one in. */
			for (unsigned i = n; i--;)
				if (p[i].revents)
					serve_one(&links[i], p[i].revents);
			if (p[n].revents)
				link_accept(listener);
		}
		if (reload) {
			struct rules *fresh = rules_load(file);

			reload = 0;
			fprintf(stderr, "denylist: %s\n",
				fresh ? "new rules" : "kept the old rules");
			if (fresh) {
				rules_free(rules);
				rules = fresh;
			}
		}
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	const char *path = NULL, *file = NULL;
	sigset_t block, wait_mask;
	int c, listener;

	while ((c = getopt(argc, argv, "s:f:")) != -1) {
		if (c == 's')
			path = optarg;
		else if (c == 'f')
			file = optarg;
	}
	if (!path || !file || optind != argc) {
		fprintf(stderr, "usage: denylist -s SOCKET -f FILE\n");
		return 2;
	}
	rules = rules_load(file);
	if (!rules)
		return 2;
	/* Signals come in only while we wait. */
	sigemptyset(&block);
	sigaddset(&block, SIGHUP);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &wait_mask);
	sigaction(SIGHUP, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	block_pool_init(&blocks);
	arena_pool_init(&arenas);
	arena_init(&scratch, &arenas);
	listener = listen_on(path);
	if (listener < 0) {
		fprintf(stderr, "denylist: %s: %s\n", path, strerror(errno));
		return 1;
	}
	serve(listener, &wait_mask, file);
	unlink(path);
	while (n_links)
		link_close(&links[n_links - 1]);
	arena_fini(&scratch);
	arena_pool_fini(&arenas);
	block_pool_fini(&blocks);
	rules_free(rules);
	return 0;
}
