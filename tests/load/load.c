/*
 * load -u ADDRESS [options]: numbered HTTP load. Each request has a number of
 * its own (X-Number), each is sent once and never again, and each is accounted
 * for: status, latency, or how it was lost.
 *
 *	-c N		connections (at most, with -r); 8
 *	-r N		open loop: N requests a second, latency counted from
 *			the time a request should have gone out; late_us is
 *			how much later this tool came to it
 *	-d SECONDS	how long; 5
 *	-n N		this many requests instead
 *	-i N		leave the first N out of the latencies
 *	-s N		first number; 1
 *	-m METHOD -p PATH	GET /; % in PATH becomes the number
 *	-w N		... modulo N
 *	-b BYTES	of a request body (pattern)
 *	-H 'NAME: VALUE'	one more field, several times
 *	-t MS		give a request up; 30000
 *	-k		a new connection for each request
 *	-o FILE		summary as JSON ("-": stdout, the default)
 *	-l FILE		a line per request: NUMBER RESULT STATUS LATENCY_US BYTES
 *	-P		"progress ANSWERED" on stdout five times a second
 *
 * RESULT: ok, cut (closed inside the answer), none (closed before it), timeout,
 * framing, connect, mixed (an answer with another request's number).
 * SIGTERM: stops sending, waits for what is under way, writes its files.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum result { OPEN, OK, CUT, NONE, TIMEOUT, FRAMING, CONNECT, MIXED, RESULTS };
static const char *const result_names[RESULTS] = {
	"open", "ok", "cut", "none", "timeout", "framing", "connect", "mixed",
};

struct request {
	uint64_t due_ns, late_ns, latency_ns, bytes;
	uint16_t status;
	uint8_t result, answers;
};

struct conn {
	int fd;			/* -1: not connected */
	bool busy, reading_body, connected;
	size_t request;
	uint64_t deadline;
	struct buf in, out;
	uint64_t body_off;
	struct head head;
	struct body body;
};

static struct {
	const char *address, *method, *path, *summary, *lines;
	struct buf fields;
	unsigned conns;
	double rate, seconds;
	uint64_t count, first, body, timeout_us, wrap, unjudged;
	bool fresh, progress;
} opt = { .method = "GET", .path = "/", .summary = "-", .conns = 8,
	  .seconds = 5, .first = 1, .timeout_us = 30000000 };

static struct request *requests;
static size_t n_requests, cap_requests, next_wait, in_flight, finished;
static struct conn *conns;
static uint64_t unsolicited, begun_ns;
static int epoll_fd;
static volatile sig_atomic_t stopping;

static void new_request(uint64_t due_ns, uint64_t now)
{
	if (n_requests == cap_requests) {
		cap_requests = cap_requests ? cap_requests * 2 : 65536;
		requests = must_realloc(requests,
					cap_requests * sizeof(*requests));
	}
	memset(&requests[n_requests], 0, sizeof(*requests));
	requests[n_requests].late_ns = now - due_ns;
	requests[n_requests++].due_ns = due_ns;
}

static void disconnect(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->connected = false;
	c->in.n = c->in.off = c->out.n = c->out.off = 0;
}

static void finish(struct conn *c, enum result result)
{
	struct request *r = &requests[c->request];

	r->result = (uint8_t)result;
	r->latency_ns = now_ns() - r->due_ns;
	r->bytes = c->body.bytes;
	in_flight--;
	finished++;
	c->busy = false;
	if (result != OK || opt.fresh || c->head.close ||
	    c->head.body == BODY_CLOSE || c->out.n > c->out.off ||
	    c->body_off < opt.body)
		disconnect(c);
}

static void lost(struct conn *c)
{
	bool begun = c->reading_body || c->in.n > c->in.off;

	if (!c->busy)
		disconnect(c);
	else if (c->reading_body && c->body.kind == BODY_CLOSE)
		finish(c, OK);
	else
		finish(c, !c->connected ? CONNECT : begun ? CUT : NONE);
}

static void write_request(struct conn *c)
{
	uint64_t number = opt.first + c->request;
	const char *percent = strchr(opt.path, '%');
	struct buf *o = &c->out;

	buf_printf(o, "%s ", opt.method);
	if (percent)
		buf_printf(o, "%.*s%llu%s", (int)(percent - opt.path), opt.path,
			   (unsigned long long)(opt.wrap ? number % opt.wrap :
						number), percent + 1);
	else
		buf_printf(o, "%s", opt.path);
	buf_printf(o, " HTTP/1.1\r\nHost: load.example\r\nX-Number: %llu\r\n",
		   (unsigned long long)number);
	if (opt.body)
		buf_printf(o, "Content-Length: %llu\r\n",
			   (unsigned long long)opt.body);
	if (opt.fields.n)
		buf_add(o, opt.fields.p, opt.fields.n);
	buf_add(o, "\r\n", 2);
}

static void flush(struct conn *c)
{
	for (;;) {
		size_t left = c->out.n - c->out.off, n;
		const char *p = c->out.p + c->out.off;
		ssize_t sent;

		if (!left) {
			if (!c->busy || c->body_off == opt.body)
				return;
			p = pattern_at(c->body_off, &n);
			left = opt.body - c->body_off;
			left = n < left ? n : left;
		}
		sent = send(c->fd, p, left, MSG_NOSIGNAL);
		if (sent < 0) {
			/* The answer may be there although writing failed:
			 * reading tells. */
			return;
		}
		if (c->out.n > c->out.off)
			buf_take(&c->out, (size_t)sent);
		else
			c->body_off += (uint64_t)sent;
	}
}

static bool open_conn(struct conn *c)
{
	struct epoll_event e = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = c,
	};

	c->fd = net_connect(opt.address);
	if (c->fd < 0)
		return false;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
	return true;
}

static void start(struct conn *c, size_t request)
{
	c->request = request;
	c->busy = true;
	c->reading_body = false;
	c->body_off = 0;
	c->deadline = now_us() + opt.timeout_us;
	memset(&c->body, 0, sizeof(c->body));
	memset(&c->head, 0, sizeof(c->head));
	in_flight++;
	if (c->fd < 0 && !open_conn(c)) {
		finish(c, CONNECT);
		return;
	}
	write_request(c);
	if (c->connected)
		flush(c);
}

static void on_head(struct conn *c)
{
	struct request *r = &requests[c->request];
	struct head *h = &c->head;

	buf_take(&c->in, h->bytes);
	if (h->status < 200)
		return;
	r->status = (uint16_t)h->status;
	r->answers++;
	if (strcmp(opt.method, "HEAD") == 0 || h->status == 204 ||
	    h->status == 304)
		h->body = BODY_NONE;
	body_start(&c->body, h);
	c->reading_body = true;
}

static void on_input(struct conn *c)
{
	while (c->busy && (c->in.n > c->in.off || c->reading_body)) {
		const char *p = c->in.p + c->in.off;
		size_t n = c->in.n - c->in.off;

		if (!c->reading_body) {
			enum head_result r = head_read(p, n, true, &c->head);

			if (r == HEAD_MORE)
				return;
			if (r == HEAD_BAD) {
				finish(c, FRAMING);
				return;
			}
			on_head(c);
			continue;
		}
		if (n)
			buf_take(&c->in, body_take(&c->body, p, n, NULL, NULL));
		if (c->body.bad)
			finish(c, FRAMING);
		else if (c->body.done)
			finish(c, c->head.number >= 0 &&
				  c->head.number != (int64_t)(opt.first +
							      c->request)
				       ? MIXED : OK);
		else if (c->in.n == c->in.off)
			return;
	}
	if (!c->busy && c->in.n > c->in.off) {
		/* Nobody asked for it: a second answer. */
		requests[c->request].answers++;
		unsolicited++;
		disconnect(c);
	}
}

/* Did the connection never come about? */
static bool was_refused(int fd)
{
	int err = 0;
	socklen_t n = sizeof(err);

	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n);
	return err == ECONNREFUSED || err == ETIMEDOUT || err == EHOSTUNREACH;
}

static void on_conn(struct conn *c, uint32_t events)
{
	char buf[65536];
	ssize_t n;

	if (events & EPOLLOUT)
		c->connected |= !(events & EPOLLERR) || !was_refused(c->fd);
	if (c->connected)
		flush(c);
	while (c->fd >= 0) {
		n = recv(c->fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			lost(c);
			return;
		}
		buf_add(&c->in, buf, (size_t)n);
		on_input(c);
	}
}

/* Makes the requests that are due, and gives them to idle connections. */
static bool sending(uint64_t now_ns)
{
	if (stopping)
		return false;
	if (opt.count)
		return n_requests < opt.count;
	return now_ns - begun_ns < (uint64_t)(opt.seconds * 1e9);
}

/* When the next one should go out, in open loop. */
static uint64_t next_due_ns(void)
{
	return begun_ns + (uint64_t)((double)n_requests * 1e9 / opt.rate);
}

static void send_due(uint64_t now)
{
	static unsigned turn;

	while (opt.rate > 0 && sending(now)) {
		uint64_t due = next_due_ns();

		if (due > now)
			break;
		new_request(due, now);
	}
	for (unsigned i = 0; i < opt.conns; i++) {
		struct conn *c = &conns[turn++ % opt.conns];

		if (c->busy)
			continue;
		if (opt.rate <= 0 && sending(now))
			new_request(now, now);
		if (next_wait == n_requests)
			return;
		start(c, next_wait++);
	}
}

static void check_timeouts(uint64_t now)
{
	for (unsigned i = 0; i < opt.conns; i++) {
		if (conns[i].busy && conns[i].deadline < now)
			finish(&conns[i], TIMEOUT);
	}
}

/* How long to wait: in open loop, until the next request is due. */
static struct timespec wait_time(void)
{
	uint64_t now = now_ns(), most = 20000000, due;

	if (opt.rate <= 0 || !sending(now))
		return (struct timespec){ .tv_nsec = (long)most };
	due = next_due_ns();
	due = due > now ? due - now : 0;
	return (struct timespec){ .tv_nsec = (long)(due < most ? due : most) };
}

static void run(void)
{
	struct epoll_event events[256];
	uint64_t now, said = 0;

	/* Requests go out when they are due, not 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	begun_ns = now_ns();
	while (now = now_ns(), sending(now) || in_flight ||
	       next_wait < n_requests) {
		if (stopping)
			n_requests = next_wait;
		send_due(now);
		struct timespec wait = wait_time();
		int n = epoll_pwait2(epoll_fd, events, 256, &wait, NULL);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->fd >= 0)
				on_conn(c, events[i].events);
		}
		if (now - said > 200000000) {
			said = now;
			check_timeouts(now_us());
			if (opt.progress) {
				printf("progress %zu\n", finished);
				fflush(stdout);
			}
		}
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static FILE *open_out(const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");

	if (!f)
		die("%s: %s", path, strerror(errno));
	return f;
}

/* Their percentiles and the longest, in microseconds. */
static void write_times(FILE *f, const char *name, uint64_t *ns, size_t n)
{
	static const double at[] = { 0.5, 0.9, 0.99, 0.999, 1 };
	static const char *const names[] = { "p50", "p90", "p99", "p99.9",
					     "max" };

	qsort(ns, n, sizeof(*ns), by_value);
	fprintf(f, "\"%s\":{", name);
	for (int i = 0; i < 5; i++) {
		size_t k = n ? (size_t)((double)(n - 1) * at[i]) : 0;

		fprintf(f, "%s\"%s\":%.1f", i ? "," : "", names[i],
			n ? (double)ns[k] / 1e3 : 0.0);
	}
	fprintf(f, "},");
}

static void write_latencies(FILE *f)
{
	uint64_t *ns = must_realloc(NULL, (n_requests + 1) * sizeof(*ns));
	size_t n = 0;

	for (size_t i = opt.unjudged; i < n_requests; i++) {
		if (requests[i].result == OK)
			ns[n++] = requests[i].latency_ns;
	}
	write_times(f, "latency_us", ns, n);
	n = 0;
	for (size_t i = opt.unjudged; i < n_requests; i++)
		ns[n++] = requests[i].late_ns;
	if (opt.rate > 0)
		write_times(f, "late_us", ns, n);
	free(ns);
}

static void write_summary(void)
{
	FILE *f = open_out(opt.summary);
	uint64_t by_result[RESULTS] = { 0 }, bytes = 0, twice = 0;
	static uint64_t by_status[1000];
	const char *comma = "";
	double s = (double)(now_ns() - begun_ns) / 1e9;

	for (size_t i = 0; i < n_requests; i++) {
		by_result[requests[i].result]++;
		by_status[requests[i].status % 1000]++;
		bytes += requests[i].bytes;
		twice += requests[i].answers > 1;
	}
	fprintf(f, "{\"sent\":%zu,\"seconds\":%.3f,\"per_second\":%.1f,",
		n_requests, s, (double)by_result[OK] / s);
	for (int i = OK; i < RESULTS; i++)
		fprintf(f, "\"%s\":%llu,", result_names[i],
			(unsigned long long)by_result[i]);
	fprintf(f, "\"twice\":%llu,\"unsolicited\":%llu,\"bytes\":%llu,",
		(unsigned long long)twice, (unsigned long long)unsolicited,
		(unsigned long long)bytes);
	write_latencies(f);
	fprintf(f, "\"status\":{");
	for (int i = 0; i < 1000; i++) {
		if (!by_status[i])
			continue;
		fprintf(f, "%s\"%d\":%llu", comma, i,
			(unsigned long long)by_status[i]);
		comma = ",";
	}
	fprintf(f, "}}\n");
	fflush(f);
}

static void write_lines(void)
{
	FILE *f = open_out(opt.lines);

	for (size_t i = 0; i < n_requests; i++) {
		const struct request *r = &requests[i];

		fprintf(f, "%llu %s %d %llu %llu\n",
			(unsigned long long)(opt.first + i),
			result_names[r->result], r->status,
			(unsigned long long)r->latency_ns / 1000,
			(unsigned long long)r->bytes);
	}
	fclose(f);
}

static void on_signal(int sig)
{
	(void)sig;
	stopping = 1;
}

static void read_option(int o)
{
	switch (o) {
	case 'u': opt.address = optarg; break;
	case 'c': opt.conns = (unsigned)atoi(optarg); break;
	case 'r': opt.rate = atof(optarg); break;
	case 'd': opt.seconds = atof(optarg); break;
	case 'n': opt.count = strtoull(optarg, NULL, 10); break;
	case 'i': opt.unjudged = strtoull(optarg, NULL, 10); break;
	case 's': opt.first = strtoull(optarg, NULL, 10); break;
	case 'm': opt.method = optarg; break;
	case 'p': opt.path = optarg; break;
	case 'w': opt.wrap = strtoull(optarg, NULL, 10); break;
	case 'b': opt.body = strtoull(optarg, NULL, 10); break;
	case 't': opt.timeout_us = strtoull(optarg, NULL, 10) * 1000; break;
	case 'k': opt.fresh = true; break;
	case 'o': opt.summary = optarg; break;
	case 'l': opt.lines = optarg; break;
	case 'P': opt.progress = true; break;
	case 'H': buf_printf(&opt.fields, "%s\r\n", optarg); break;
	default: die("usage: see the top of tests/load/load.c");
	}
}

int main(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "u:c:r:d:n:i:s:m:p:w:b:t:ko:l:PH:")) != -1)
		read_option(o);
	if (!opt.address || !opt.conns)
		die("usage: load -u ADDRESS [-c N] [-r RATE] [-d SECONDS] ...");
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	conns = must_realloc(NULL, opt.conns * sizeof(*conns));
	memset(conns, 0, opt.conns * sizeof(*conns));
	for (unsigned i = 0; i < opt.conns; i++)
		conns[i].fd = -1;
	run();
	if (opt.lines)
		write_lines();
	write_summary();
	return 0;
}
