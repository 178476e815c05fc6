#include "daemon/probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define IN_MAX		(1u << 20)
#define CHUNK_MAX	65536u

bool probe_init(struct probe *p, const char *path)
{
	*p = (struct probe){ .path = path, .fd = -1, .in = malloc(IN_MAX) };
	block_pool_init(&p->blocks);
	outq_init(&p->out, &p->blocks);
	arena_pool_init(&p->arenas);
	arena_init(&p->scratch, &p->arenas);
	return p->in;
}

void probe_fini(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	outq_clear(&p->out);
	arena_fini(&p->scratch);
	arena_pool_fini(&p->arenas);
	block_pool_fini(&p->blocks);
	free(p->in);
}

void probe_result(struct probe *p, const char *verdict, const char *name,
		  const char *text)
{
	printf("%-5s %-18s %s\n", verdict, name, text);
	fflush(stdout);
	p->failed += strcmp(verdict, "fail") == 0;
	p->warned += strcmp(verdict, "warn") == 0;
}

/* ---- bytes ---------------------------------------------------------------- */

static bool no_link(struct probe *p, const char *why)
{
	snprintf(p->hello.error, sizeof(p->hello.error), "%s", why);
	return false;
}

bool probe_connect(struct probe *p)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval tv = { PROBE_WAIT_MS / 1000, 0 };

	if (p->fd >= 0)
		close(p->fd);
	p->n = 0;
	outq_clear(&p->out);
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return no_link(p, strerror(errno));
	(void)setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	memcpy(un.sun_path, p->path, strlen(p->path) + 1);
	if (connect(p->fd, (const struct sockaddr *)&un, sizeof(un)) != 0)
		return no_link(p, strerror(errno));
	return true;
}

bool probe_send(struct probe *p, const char *b, size_t n)
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

bool probe_flush(struct probe *p, bool cut)
{
	size_t n = p->out.bytes, at = 0;
	char *all = malloc(n ? n : 1);
	bool good;

	for (struct oseg *s = p->out.first; all && s; s = s->next) {
		memcpy(all + at, s->p, s->n);
		at += s->n;
	}
	outq_clear(&p->out);
	good = all && probe_send(p, all, cut ? n / 2 : n);
	if (good && cut) {
		usleep(PROBE_SILENCE_MS * 1000);
		good = probe_send(p, all + n / 2, n - n / 2);
	}
	free(all);
	return good;
}

enum probe_answer probe_frame(struct probe *p, int wait_ms, uint8_t *type,
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
			return PROBE_FRAME;
		if (r == FRAME_BAD_LENGTH)
			return PROBE_CLOSED;
		if (poll(&pfd, 1, wait_ms) <= 0)
			return PROBE_NONE;
		got = recv(p->fd, p->in + p->n, IN_MAX - p->n, 0);
		if (got <= 0)
			return PROBE_CLOSED;
		p->n += (size_t)got;
	}
}

void probe_drop(struct probe *p, struct slice payload)
{
	size_t used = (size_t)(payload.p + payload.n - p->in);

	memmove(p->in, p->in + used, p->n - used);
	p->n -= used;
}

bool probe_shake(struct probe *p, enum wire_offer offer)
{
	struct slice payload = SLICE_NONE;
	bool good;
	uint8_t type;

	p->unanswered = false;
	if (!probe_connect(p))
		return false;
	if (p->format.dialect == WIRE_V1)
		return true;
	p->format.dialect = WIRE_V2;
	if (!wire_encode_handshake(&p->out, "check-agent", offer) ||
	    !probe_flush(p, false) ||
	    probe_frame(p, PROBE_WAIT_MS, &type, &payload) != PROBE_FRAME ||
	    type != FRAME_HANDSHAKE_REPLY) {
		p->unanswered = true;
		return no_link(p, "the handshake is not answered");
	}
	good = wire_decode_handshake(payload, offer, &p->hello);
	probe_drop(p, payload);
	if (!good)
		return false;
	p->format.encoding = p->hello.encoding;
	p->format.dialect = p->hello.go ? WIRE_GO : WIRE_V2;
	return true;
}

/* ---- decisions ------------------------------------------------------------ */

/* The id is kept; what else d points at moves with the next frame. */
static void keep_id(struct probe *p, struct decision *d)
{
	d->id = arena_dup(&p->scratch, d->id);
}

enum probe_answer probe_decision(struct probe *p,
				 const struct wire_expect *expect,
				 struct decision *d,
				 enum decision_fault *fault)
{
	struct slice payload = SLICE_NONE;
	enum probe_answer a;
	uint8_t type;

	arena_reset(&p->scratch);
	while ((a = probe_frame(p, PROBE_WAIT_MS, &type, &payload)) ==
	       PROBE_FRAME) {
		if (type != FRAME_REPLY) {
			probe_drop(p, payload);
			continue;
		}
		*fault = wire_decode_reply((char *)(uintptr_t)payload.p,
					   payload.n, &p->format, expect,
					   &p->scratch, d);
		keep_id(p, d);
		probe_drop(p, payload);
		break;
	}
	return a;
}

bool probe_is_for(const struct probe *p, const struct decision *d,
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
	return slice_eq(d->id, slice_of(m->correlation_id, EVENT_ID_LEN));
}

/* ---- events --------------------------------------------------------------- */

struct event_meta probe_meta(struct probe *p)
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

bool probe_put(struct probe *p, const struct event *ev)
{
	unsigned transcoded = 0;

	return wire_encode_event(&p->out, &p->format, ev, &transcoded) ==
	       WIRE_OK;
}

#define FIELD(n, v)							\
	{ .name = n, .name_len = sizeof(n) - 1, .value = v,		\
	  .value_len = sizeof(v) - 1, .flags = FIELD_LOWER }

bool probe_put_head(struct probe *p, const struct event_meta *m)
{
	static const struct field fields[] = {
		FIELD("host", "check.example"), FIELD("accept", "*/*"),
	};
	struct event ev = { .type = EVENT_REQUEST_HEAD, .meta = m, .head = {
		.method = SLICE("POST"), .uri = SLICE("/"), .has_body = true,
		.fields = fields, .n_fields = ARRAY_LEN(fields) } };

	return probe_put(p, &ev);
}

bool probe_put_response(struct probe *p, const struct event_meta *m)
{
	static const struct field fields[] = {
		FIELD("content-type", "text/plain"),
	};
	struct event ev = { .type = EVENT_RESPONSE_HEAD, .meta = m, .head = {
		.status = 200, .has_body = true, .fields = fields,
		.n_fields = ARRAY_LEN(fields) } };

	return probe_put(p, &ev);
}

bool probe_put_chunk(struct probe *p, const struct event_meta *m,
		     enum event_type type, size_t bytes, uint32_t index,
		     bool last)
{
	struct bslice data = { NULL, NULL, min_size(bytes, CHUNK_MAX) };
	struct event ev = { .type = type, .meta = m, .chunk = {
		.pieces = &data, .n_pieces = 1, .bytes = data.n,
		.is_last = last, .index = index,
		.bytes_so_far = (uint64_t)(index + 1) * data.n } };
	struct block *block = block_new(&p->blocks, data.n ? data.n : 1);
	bool good;

	if (!block)
		return false;
	memset(block->data, 'a', data.n);
	data.block = block;
	data.p = block->data;
	good = probe_put(p, &ev);
	block_put(block);
	return good;
}

bool probe_put_complete(struct probe *p, const struct event_meta *m)
{
	struct event ev = { .type = EVENT_COMPLETE, .meta = m,
			    .complete = { .status = 200 } };

	return probe_put(p, &ev);
}

bool probe_put_configure(struct probe *p)
{
	struct event ev = { .type = EVENT_CONFIGURE, .configure = {
		.id = SLICE("cfg-1"), .config_json = SLICE("{}"),
		.version = SLICE("1"), .agent_id = SLICE("check") } };

	return probe_put(p, &ev);
}
