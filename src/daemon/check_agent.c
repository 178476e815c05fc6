#include "daemon/check_agent.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/options.h"
#include "wire/codec.h"

#define WAIT_MS		2000
#define SILENCE_MS	300
#define IN_MAX		(1u << 20)

/* One connection, read and written without a loop. */
struct probe {
	const char *path;
	int fd;
	char *in;
	size_t n;
	struct wire_format format;
	struct wire_handshake hello;
	struct block_pool blocks;
	struct outq out;
	struct arena_pool arenas;
	struct arena scratch;
	unsigned ids, failed, warned;
};

enum answer { ANSWER_FRAME, ANSWER_NONE, ANSWER_CLOSED };

static void result(struct probe *p, const char *verdict, const char *name,
		   const char *text)
{
	printf("%-5s %-20s %s\n", verdict, name, text);
	p->failed += strcmp(verdict, "fail") == 0;
	p->warned += strcmp(verdict, "warn") == 0;
}

/* ---- bytes ---------------------------------------------------------------- */

static bool probe_connect(struct probe *p)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval tv = { WAIT_MS / 1000, 0 };

	if (p->fd >= 0)
		close(p->fd);
	p->n = 0;
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return false;
	(void)setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	memcpy(un.sun_path, p->path, strlen(p->path) + 1);
	return connect(p->fd, (const struct sockaddr *)&un, sizeof(un)) == 0;
}

static bool send_some(struct probe *p, const char *b, size_t n)
{
	while (n) {
		ssize_t sent = send(p->fd, b, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		b += sent;
		n -= (size_t)sent;
	}
	return true;
}

/* All that was encoded; cut: half of it, a rest, and then the other half. */
static bool send_out(struct probe *p, bool cut)
{
	size_t n = p->out.bytes, at = 0;
	char *all = malloc(n ? n : 1);
	bool good;

	for (struct oseg *s = p->out.first; all && s; s = s->next) {
		memcpy(all + at, s->p, s->n);
		at += s->n;
	}
	outq_clear(&p->out);
	good = all && send_some(p, all, cut ? n / 2 : n);
	if (good && cut) {
		usleep(SILENCE_MS * 1000);
		good = send_some(p, all + n / 2, n - n / 2);
	}
	free(all);
	return good;
}

static enum answer next_frame(struct probe *p, int wait_ms, uint8_t *type,
			      struct slice *payload)
{
	size_t used = 0;

	for (;;) {
		struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
		enum frame_result r;
		ssize_t got;

		*type = FRAME_REPLY;
		r = p->format.dialect == WIRE_V1 ?
			frame_read_v1(p->in, p->n, IN_MAX - 8, payload,
				      &used) :
			frame_read(p->in, p->n, IN_MAX - 8, type, payload,
				   &used);
		if (r == FRAME_OK)
			return ANSWER_FRAME;
		if (r == FRAME_BAD_LENGTH)
			return ANSWER_CLOSED;
		if (poll(&pfd, 1, wait_ms) <= 0)
			return ANSWER_NONE;
		got = recv(p->fd, p->in + p->n, IN_MAX - p->n, 0);
		if (got <= 0)
			return ANSWER_CLOSED;
		p->n += (size_t)got;
	}
}

/* The frame at the front was looked at. */
static void drop_frame(struct probe *p, struct slice payload)
{
	size_t used = (size_t)(payload.p + payload.n - p->in);

	memmove(p->in, p->in + used, p->n - used);
	p->n -= used;
}

/* ---- events --------------------------------------------------------------- */

static struct event_meta new_meta(struct probe *p)
{
	struct event_meta m = {
		.go_request_id = (1ull << 40) + ++p->ids,
		.request_id = SLICE("check"),
		.client_ip = SLICE("192.0.2.1"),
		.client_port = 40000,
		.server_name = SLICE("check.example"),
		.protocol = SLICE("HTTP/1.1"),
		.route_id = SLICE("check"),
		.upstream_id = SLICE("check"),
		.timestamp = SLICE("2026-01-02T03:04:05.678Z"),
	};
	char id[EVENT_ID_LEN + 1];

	snprintf(id, sizeof(id), "%032x", p->ids);
	memcpy(m.correlation_id, id, EVENT_ID_LEN);
	return m;
}

static bool put_event(struct probe *p, const struct event *ev)
{
	unsigned transcoded = 0;

	return wire_encode_event(&p->out, &p->format, ev, &transcoded) ==
	       WIRE_OK;
}

static bool put_head(struct probe *p, const struct event_meta *m)
{
	static const struct field fields[] = {
		{ .name = "host", .name_len = 4, .value = "check.example",
		  .value_len = 13, .flags = FIELD_LOWER },
		{ .name = "accept", .name_len = 6, .value = "*/*",
		  .value_len = 3, .flags = FIELD_LOWER },
	};
	struct event ev = { .type = EVENT_REQUEST_HEAD, .meta = m, .head = {
		.method = SLICE("GET"), .uri = SLICE("/"), .fields = fields,
		.n_fields = 2 } };

	return put_event(p, &ev);
}

static bool put_complete(struct probe *p, const struct event_meta *m)
{
	struct event ev = { .type = EVENT_COMPLETE, .meta = m,
			    .complete = { .status = 200 } };

	return put_event(p, &ev);
}

/* A decision frame read to the end. */
static enum answer next_decision(struct probe *p, struct decision *d,
				 enum decision_fault *fault)
{
	struct slice payload = SLICE_NONE;
	enum answer a;
	uint8_t type;

	arena_reset(&p->scratch);
	while ((a = next_frame(p, WAIT_MS, &type, &payload)) == ANSWER_FRAME) {
		if (type == FRAME_REPLY) {
			*fault = wire_decode_reply(
				(char *)(uintptr_t)payload.p, payload.n,
				&p->format, NULL, &p->scratch, d);
			/* Its slices are not looked at after this. */
			if (d->id.n == EVENT_ID_LEN) {
				char *id = arena_alloc(&p->scratch,
						       EVENT_ID_LEN);

				if (id)
					memcpy(id, d->id.p, EVENT_ID_LEN);
				d->id.p = id;
			}
			drop_frame(p, payload);
			return a;
		}
		drop_frame(p, payload);
	}
	return a;
}

static bool is_for(const struct probe *p, const struct decision *d,
		   const struct event_meta *m)
{
	switch (p->format.dialect) {
	case WIRE_GO:
		return d->go_id == m->go_request_id;
	case WIRE_V1:
		return true;
	case WIRE_V2:
		break;
	}
	return d->id.n == EVENT_ID_LEN && d->id.p &&
	       memcmp(d->id.p, m->correlation_id, EVENT_ID_LEN) == 0;
}

/* ---- the probes ------------------------------------------------------------ */

static bool shake(struct probe *p)
{
	struct slice payload = SLICE_NONE;
	bool good = false;
	uint8_t type;

	if (!probe_connect(p)) {
		printf("fail  connect              %s: %s\n", p->path,
		       strerror(errno));
		p->failed++;
		return false;
	}
	if (p->format.dialect == WIRE_V1)
		return true;
	p->format.dialect = WIRE_V2;
	if (!wire_encode_handshake(&p->out, "check-agent", WIRE_OFFER_BOTH) ||
	    !send_out(p, false))
		return false;
	if (next_frame(p, WAIT_MS, &type, &payload) == ANSWER_FRAME) {
		good = type == FRAME_HANDSHAKE_REPLY &&
		       wire_decode_handshake(payload, WIRE_OFFER_BOTH,
					     &p->hello);
		drop_frame(p, payload);
	} else {
		snprintf(p->hello.error, sizeof(p->hello.error),
			 "no answer; if it speaks v1: check-agent --v1");
	}
	if (!good)
		return false;
	p->format.encoding = p->hello.encoding;
	p->format.dialect = p->hello.go ? WIRE_GO : WIRE_V2;
	return true;
}

static void probe_head(struct probe *p)
{
	struct event_meta m = new_meta(p);
	enum decision_fault fault = DECISION_BAD;
	struct decision d = { 0 };

	if (!shake(p) || !put_head(p, &m) || !send_out(p, false) ||
	    next_decision(p, &d, &fault) != ANSWER_FRAME)
		result(p, "fail", "request_head", "no answer");
	else if (fault != DECISION_OK)
		result(p, "fail", "request_head", d.fault_text ?
		       d.fault_text : "the reply cannot be read");
	else if (!is_for(p, &d, &m))
		result(p, d.id_kind == DECISION_ID_MISSING ? "warn" : "fail",
		       "request_head", d.id_kind == DECISION_ID_MISSING ?
		       "the reply has no id: one event at a time" :
		       "the reply has another id");
	else
		result(p, "pass", "request_head", "answered");
}

static void probe_order(struct probe *p)
{
	enum decision_fault fault = DECISION_BAD;
	struct event_meta m[4];
	struct decision d = { 0 };
	bool in_order = true;

	if (!shake(p))
		return;
	for (int i = 0; i < 4; i++) {
		m[i] = new_meta(p);
		if (!put_head(p, &m[i]))
			return;
	}
	if (!send_out(p, false))
		in_order = false;
	for (int i = 0; i < 4; i++) {
		if (next_decision(p, &d, &fault) != ANSWER_FRAME) {
			result(p, "fail", "order",
			       "not all of four events are answered");
			return;
		}
		in_order = in_order && is_for(p, &d, &m[i]);
	}
	result(p, in_order ? "pass" : "warn", "order", in_order ?
	       "four events at once, answered in order" :
	       "answers come out of order, or without ids");
}

static void probe_complete(struct probe *p)
{
	struct event_meta m = new_meta(p);
	enum decision_fault fault = DECISION_BAD;
	struct slice payload = SLICE_NONE;
	struct decision d = { 0 };
	enum answer a;
	uint8_t type;

	if (!shake(p) || !put_head(p, &m) || !send_out(p, false) ||
	    next_decision(p, &d, &fault) != ANSWER_FRAME ||
	    !put_complete(p, &m) || !send_out(p, false)) {
		result(p, "fail", "complete", "no answer before it");
		return;
	}
	a = next_frame(p, p->format.dialect == WIRE_GO ? SILENCE_MS : WAIT_MS,
		       &type, &payload);
	if (a == ANSWER_CLOSED)
		result(p, "fail", "complete", "the agent closes the link");
	else if (p->format.dialect == WIRE_GO)
		result(p, a == ANSWER_NONE ? "pass" : "fail", "complete",
		       a == ANSWER_NONE ? "taken, and not answered" :
					  "answered, which go-v2 does not");
	else
		result(p, a == ANSWER_FRAME ? "pass" : "warn", "complete",
		       a == ANSWER_FRAME ? "answered" :
		       "not answered: say complete: never in the config");
}

static void probe_ping(struct probe *p)
{
	struct slice payload = SLICE_NONE;
	uint64_t number = 0;
	uint8_t type = 0;
	bool go, good;

	if (!shake(p) || p->format.dialect == WIRE_V1)
		return;
	go = p->format.dialect == WIRE_GO;
	good = (go ? wire_encode_go_ping(&p->out, 77) :
		     wire_encode_ping(&p->out, 77, 1)) && send_out(p, false) &&
	       next_frame(p, WAIT_MS, &type, &payload) == ANSWER_FRAME;
	good = good && type == (go ? (uint8_t)FRAME_GO_PONG : FRAME_PONG) &&
	       (go ? wire_decode_go_pong(payload, &number) :
		     wire_decode_pong(payload, &number)) && number == 77;
	result(p, good ? "pass" : "fail", "ping", good ? "echoed" :
	       "no pong, or another one");
}

static void probe_cut(struct probe *p)
{
	struct event_meta m = new_meta(p);
	enum decision_fault fault = DECISION_BAD;
	struct decision d = { 0 };
	bool good = shake(p) && put_head(p, &m) && send_out(p, true) &&
		    next_decision(p, &d, &fault) == ANSWER_FRAME;

	if (good)
		result(p, "pass", "cut frame", "read in two pieces");
	else
		result(p, p->format.dialect == WIRE_V1 ? "warn" : "fail",
		       "cut frame", "a frame in two pieces breaks the link");
}

/* An event that cannot be read: what becomes of it tells how far the agent's
 * allow can be trusted. */
static void probe_unreadable(struct probe *p)
{
	static const char v2[] = "{\"metadata\":{\"correlation_id\":"
		"\"00000000000000000000000000000bad\"},\"method\":7}";
	static const char go[] = "{\"request_id\":\"bad\"}";
	static const char v1[] = "{\"version\":1,\"event_type\":"
		"\"request_headers\",\"payload\":{\"method\":7}}";
	const char *text = p->format.dialect == WIRE_GO ? go :
			   p->format.dialect == WIRE_V1 ? v1 : v2;
	enum decision_fault fault = DECISION_BAD;
	struct decision d = { 0 };
	char frame[256];
	size_t n = strlen(text), head = FRAME_HEAD;
	enum answer a;

	if (!shake(p))
		return;
	if (p->format.encoding == WIRE_MSGPACK) {
		text = "\x91\xc0";	/* an array of one nil */
		n = 2;
	}
	if (p->format.dialect == WIRE_V1) {
		head = FRAME_V1_HEAD;
		frame_write_v1_head(frame, n);
	} else {
		frame_write_head(frame, FRAME_REQUEST_HEAD, n);
	}
	memcpy(frame + head, text, n);
	a = send_some(p, frame, head + n) ? next_decision(p, &d, &fault) :
					    ANSWER_CLOSED;
	if (a == ANSWER_NONE)
		result(p, "warn", "unreadable event", "no answer at all");
	else if (a == ANSWER_CLOSED)
		result(p, "pass", "unreadable event", "the link is closed");
	else if (fault != DECISION_OK || d.kind != DECISION_ALLOW)
		result(p, "pass", "unreadable event", "not allowed");
	else if (d.id_kind == DECISION_ID_EMPTY)
		result(p, "pass", "unreadable event",
		       "allowed with an empty id, which the proxy refuses");
	else
		result(p, "warn", "unreadable event",
		       "allowed like any other: what it cannot read gets by");
}

static int run(struct probe *p)
{
	if (!shake(p)) {
		if (p->hello.error[0])
			result(p, "fail", "handshake", p->hello.error);
		return EXIT_RUN_TIME;
	}
	printf("name     %s\nversion  %s\ndialect  %s\nencoding %s\n",
	       p->hello.name[0] ? p->hello.name : "-",
	       p->hello.version[0] ? p->hello.version : "-",
	       p->format.dialect == WIRE_V1 ? "v1" :
	       p->format.dialect == WIRE_GO ? "go" : "v2",
	       p->format.encoding == WIRE_MSGPACK ? "msgpack" : "json");
	printf("limits   chunk %llu, concurrency %u (0: not said)\n\n",
	       (unsigned long long)p->hello.preferred_chunk_size,
	       p->hello.max_concurrency);
	probe_head(p);
	probe_order(p);
	probe_complete(p);
	probe_ping(p);
	probe_cut(p);
	probe_unreadable(p);
	printf("\n%u failed, %u warned\n", p->failed, p->warned);
	return p->failed ? EXIT_RUN_TIME : EXIT_OK;
}

int check_agent(int argc, char **argv)
{
	struct probe p = { .fd = -1 };
	int code = EXIT_RUN_TIME;

	if (argc > 0 && strcmp(argv[0], "--v1") == 0) {
		p.format.dialect = WIRE_V1;
		argc--;
		argv++;
	}
	if (argc != 1 || strlen(argv[0]) >=
			 sizeof(((struct sockaddr_un *)0)->sun_path)) {
		fputs("Usage: agentproxyd check-agent [--v1] SOCKET\n",
		      stderr);
		return EXIT_USAGE;
	}
	p.path = argv[0];
	p.in = malloc(IN_MAX);
	block_pool_init(&p.blocks);
	outq_init(&p.out, &p.blocks);
	arena_pool_init(&p.arenas);
	arena_init(&p.scratch, &p.arenas);
	if (p.in)
		code = run(&p);
	if (p.fd >= 0)
		close(p.fd);
	outq_clear(&p.out);
	arena_fini(&p.scratch);
	arena_pool_fini(&p.arenas);
	block_pool_fini(&p.blocks);
	free(p.in);
	return code;
}
