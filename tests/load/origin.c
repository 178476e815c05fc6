/*
 * origin -l ADDRESS [-b BYTES] [-f FILE]: a small upstream for tests and load.
 *
 * It remembers the number of each request (X-Number, or /n/NUMBER) that it got:
 * GET /numbers lists them, and at SIGTERM they are written to FILE, one a line,
 * with " partial" behind those whose request never ended.
 *
 *	GET  /...		BYTES bytes ("ok" by default), X-Number echoed
 *	POST /...		"bytes=N crc=HEX\n" of the body
 *	POST /stream		the body, chunk by chunk as it arrives
 *	GET  /bytes/N		N bytes of the pattern, with Content-Length
 *	GET  /chunked/N		the same, chunked
 *	GET  /drip/N/MS		N chunks of one line, MS milliseconds between
 *	GET  /status/CODE	that status, no body
 *	Upgrade: ...		101, then every byte comes back
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum doing { READING_HEAD, READING_BODY, ANSWERING, TUNNEL };

struct conn {
	int fd;
	enum doing doing;
	struct buf in, out;
	struct head head;
	struct body body;
	size_t entry;		/* in numbers; SIZE_MAX: none */
	uint64_t pattern_off, pattern_end;
	bool chunked;		/* the pattern goes out chunked */
	unsigned drips;		/* chunks still to send */
	uint64_t drip_us, drip_at;
	bool dead;
	struct conn *next_drip;
};

struct entry {
	int64_t number;
	bool complete;
};

static struct entry *numbers;
static size_t n_numbers, cap_numbers;
static struct conn *dripping;
static char *fixed_body;
static size_t fixed_bytes = 3;
static int epoll_fd;
static volatile sig_atomic_t stopping;

#define OUT_HIGH (256 * 1024)

static size_t remember(int64_t number)
{
	if (n_numbers == cap_numbers) {
		cap_numbers = cap_numbers ? cap_numbers * 2 : 4096;
		numbers = must_realloc(numbers, cap_numbers * sizeof(*numbers));
	}
	numbers[n_numbers].number = number;
	numbers[n_numbers].complete = false;
	return n_numbers++;
}

static void answer_head(struct conn *c, int status, int64_t length)
{
	buf_printf(&c->out, "HTTP/1.1 %d Origin\r\nContent-Type: text/plain\r\n",
		   status);
	if (c->head.number >= 0)
		buf_printf(&c->out, "X-Number: %lld\r\n",
			   (long long)c->head.number);
	if (c->head.close)
		buf_printf(&c->out, "Connection: close\r\n");
	if (length >= 0)
		buf_printf(&c->out, "Content-Length: %lld\r\n\r\n",
			   (long long)length);
	else
		buf_printf(&c->out, "Transfer-Encoding: chunked\r\n\r\n");
}

static void answer_numbers(struct conn *c)
{
	struct buf text = { 0 };

	for (size_t i = 0; i < n_numbers; i++)
		buf_printf(&text, "%lld%s\n", (long long)numbers[i].number,
			   numbers[i].complete ? "" : " partial");
	answer_head(c, 200, (int64_t)text.n);
	if (text.n)
		buf_add(&c->out, text.p, text.n);
	buf_free(&text);
}

/* The head of the answer, and its body where that is short. */
static void answer(struct conn *c)
{
	const char *path = c->head.path;
	char text[64];
	unsigned n, ms;
	int status;

	c->doing = ANSWERING;
	if (c->entry != SIZE_MAX)
		numbers[c->entry].complete = true;
	if (strcmp(path, "/stream") == 0) {
		buf_printf(&c->out, "0\r\n\r\n");
	} else if (strcmp(path, "/numbers") == 0) {
		answer_numbers(c);
	} else if (sscanf(path, "/drip/%u/%u", &n, &ms) == 2) {
		answer_head(c, 200, -1);
		c->drips = n;
		c->drip_us = ms * 1000ull;
		c->drip_at = now_us();
		c->next_drip = dripping;
		dripping = c;
	} else if (sscanf(path, "/status/%d", &status) == 1) {
		if (status == 204 || status == 304)
			buf_printf(&c->out, "HTTP/1.1 %d Origin\r\n\r\n",
				   status);
		else
			answer_head(c, status, 0);
	} else if (strncmp(path, "/bytes/", 7) == 0 ||
		   strncmp(path, "/chunked/", 9) == 0) {
		c->chunked = path[1] == 'c';
		c->pattern_off = 0;
		c->pattern_end = strtoull(strchr(path + 1, '/') + 1, NULL, 10);
		answer_head(c, 200, c->chunked ? -1 : (int64_t)c->pattern_end);
		if (c->chunked && !c->pattern_end)
			buf_printf(&c->out, "0\r\n\r\n");
	} else if (c->body.kind != BODY_NONE) {
		snprintf(text, sizeof(text), "bytes=%llu crc=%08x\n",
			 (unsigned long long)c->body.bytes, c->body.crc);
		answer_head(c, 200, (int64_t)strlen(text));
		buf_add(&c->out, text, strlen(text));
	} else {
		answer_head(c, 200, (int64_t)fixed_bytes);
		if (strcmp(c->head.method, "HEAD") != 0)
			buf_add(&c->out, fixed_body, fixed_bytes);
	}
}

static void start_request(struct conn *c)
{
	long long number;

	if (c->head.number < 0 && sscanf(c->head.path, "/n/%lld", &number) == 1)
		c->head.number = number;
	c->entry = c->head.number < 0 ? SIZE_MAX : remember(c->head.number);
	c->pattern_off = c->pattern_end = 0;
	if (c->head.upgrade) {
		buf_printf(&c->out, "HTTP/1.1 101 Switching Protocols\r\n"
			   "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
		c->doing = TUNNEL;
		return;
	}
	if (c->head.expect)
		buf_printf(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	if (strcmp(c->head.path, "/stream") == 0)
		answer_head(c, 200, -1);
	body_start(&c->body, &c->head);
	c->doing = READING_BODY;
}

static void echo_chunk(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;

	if (strcmp(c->head.path, "/stream") != 0)
		return;
	buf_printf(&c->out, "%zx\r\n", n);
	buf_add(&c->out, p, n);
	buf_add(&c->out, "\r\n", 2);
}

/* What arrived, until more is needed or an answer is under way. */
static void work(struct conn *c)
{
	size_t n;

	while (!c->dead && c->in.n > c->in.off && c->doing != ANSWERING) {
		const char *p = c->in.p + c->in.off;

		n = c->in.n - c->in.off;
		if (c->doing == TUNNEL) {
			buf_add(&c->out, p, n);
			buf_take(&c->in, n);
			continue;
		}
		if (c->doing == READING_HEAD) {
			enum head_result r = head_read(p, n, false, &c->head);

			if (r == HEAD_MORE)
				return;
			if (r == HEAD_BAD) {
				fprintf(stderr, "origin: bad request\n");
				c->dead = true;
				return;
			}
			buf_take(&c->in, c->head.bytes);
			start_request(c);
		} else {
			buf_take(&c->in, body_take(&c->body, p, n, echo_chunk,
						   c));
			c->dead = c->body.bad;
		}
		if (c->doing == READING_BODY && c->body.done)
			answer(c);
	}
}

static void more_pattern(struct conn *c)
{
	while (c->pattern_off < c->pattern_end &&
	       c->out.n - c->out.off < OUT_HIGH) {
		size_t n;
		const char *p = pattern_at(c->pattern_off, &n);

		if (n > c->pattern_end - c->pattern_off)
			n = c->pattern_end - c->pattern_off;
		if (c->chunked)
			buf_printf(&c->out, "%zx\r\n", n);
		buf_add(&c->out, p, n);
		c->pattern_off += n;
		if (c->chunked)
			buf_add(&c->out, "\r\n", 2);
		if (c->chunked && c->pattern_off == c->pattern_end)
			buf_printf(&c->out, "0\r\n\r\n");
	}
}

static void flush(struct conn *c)
{
	more_pattern(c);
	while (c->out.n > c->out.off) {
		ssize_t n = send(c->fd, c->out.p + c->out.off,
				 c->out.n - c->out.off, MSG_NOSIGNAL);

		if (n < 0) {
			c->dead |= errno != EAGAIN;
			return;
		}
		buf_take(&c->out, (size_t)n);
		more_pattern(c);
	}
	if (c->doing == ANSWERING && !c->drips) {
		c->doing = READING_HEAD;
		c->dead |= c->head.close;
	}
}

/* True: it stopped because the answers don't get away. */
static bool receive(struct conn *c)
{
	char buf[65536];
	ssize_t n;

	while (!c->dead && c->out.n - c->out.off < OUT_HIGH) {
		n = recv(c->fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n > 0)
			buf_add(&c->in, buf, (size_t)n);
		else
			c->dead = true;
		work(c);
	}
	return !c->dead;
}

static void conn_free(struct conn *c)
{
	for (struct conn **p = &dripping; *p; p = &(*p)->next_drip) {
		if (*p == c) {
			*p = c->next_drip;
			break;
		}
	}
	close(c->fd);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c);
}

static void on_conn(struct conn *c)
{
	bool full;

	do {
		enum doing before;

		full = receive(c);
		do {	/* an answer that is out makes way for the next */
			before = c->doing;
			flush(c);
			work(c);
		} while (before != c->doing && !c->dead);
		flush(c);
	} while (full && !c->dead && c->out.n - c->out.off < OUT_HIGH);
	if (c->dead)
		conn_free(c);
}

static void on_accept(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL,
			     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = must_realloc(NULL, sizeof(*c));
		struct epoll_event e = {
			.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			.data.ptr = c,
		};

		memset(c, 0, sizeof(*c));
		c->fd = fd;
		c->entry = SIZE_MAX;
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
	}
}

/* Sends what is due; returns the milliseconds until the next, -1: none. */
static int drip(void)
{
	struct conn **p = &dripping;
	uint64_t now = now_us(), next = UINT64_MAX;

	while (*p) {
		struct conn *c = *p;

		if (c->drip_at <= now && c->drips) {
			c->drips--;
			buf_printf(&c->out, "5\r\ndrip\n\r\n");
			if (!c->drips)
				buf_printf(&c->out, "0\r\n\r\n");
			c->drip_at += c->drip_us;
			flush(c);
		}
		if (!c->drips || c->dead) {
			*p = c->next_drip;
			continue;
		}
		next = c->drip_at < next ? c->drip_at : next;
		p = &c->next_drip;
	}
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / 1000 + 1);
}

static void on_signal(int sig)
{
	(void)sig;
	stopping = 1;
}

static void write_numbers(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		die("%s: %s", path, strerror(errno));
	for (size_t i = 0; i < n_numbers; i++)
		fprintf(f, "%lld%s\n", (long long)numbers[i].number,
			numbers[i].complete ? "" : " partial");
	fclose(f);
}

static void serve(int listener)
{
	struct epoll_event events[256];
	struct epoll_event e = { .events = EPOLLIN };

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
	while (!stopping) {
		int n = epoll_wait(epoll_fd, events, 256, drip());

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_conn(events[i].data.ptr);
			else
				on_accept(listener);
		}
	}
}

int main(int argc, char **argv)
{
	const char *address = NULL, *file = NULL;
	int opt, listener;

	while ((opt = getopt(argc, argv, "l:b:f:")) != -1) {
		if (opt == 'l')
			address = optarg;
		else if (opt == 'f')
			file = optarg;
		else if (opt == 'b')
			fixed_bytes = strtoull(optarg, NULL, 10);
		else
			die("usage: origin -l ADDRESS [-b BYTES] [-f FILE]");
	}
	if (!address)
		die("usage: origin -l ADDRESS [-b BYTES] [-f FILE]");
	fixed_body = must_realloc(NULL, fixed_bytes + 4);
	for (size_t i = 0; i < fixed_bytes; i++)
		fixed_body[i] = "ok\n"[i % 3];
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	listener = net_listen(address);
	if (listener < 0)
		die("%s: %s", address, strerror(errno));
	serve(listener);
	if (file)
		write_numbers(file);
	return 0;
}
