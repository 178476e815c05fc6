/* What the published benchmark leaves out: the proxy's own steps. */
#include "micro.h"

#include <stdio.h>

#include "agent/internal.h"
#include "base/mem.h"
#include "config/route_index.h"
#include "policy/forward.h"
#include "policy/route.h"
#include "wire/codec.h"

static const struct http_limits limits = { 32768, 100, 8192 };

struct state {
	char *text;			/* of the head, as received */
	size_t n_text;
	struct http_head head, out;
	struct field fields[100];
	struct config config;
	struct config_listener listener;
	struct config_route route;
	struct forward_peer peer;
	struct event_meta meta;
	struct event event;
	struct wire_format format;
	struct block_pool blocks;
	struct arena_pool arenas;
	struct arena arena, scratch;
	struct outq q;
	char *reply;			/* one frame */
	size_t n_reply;
	struct fifo fifo;
	struct http_path path;
	struct slice host;
};

#define TINY	"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
#define BROWSER_FRONT							\
	"GET /shop/items/12345?ref=home&lang=en HTTP/1.1\r\n"		\
	"Host: www.example.com\r\n"					\
	"Connection: keep-alive\r\n"					\
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) "			\
	"AppleWebKit/537.36 (KHTML, like Gecko) "			\
	"Chrome/126.0.0.0 Safari/537.36\r\n"				\
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,"\
	"image/avif,image/webp,*/*;q=0.8\r\n"				\
	"Accept-Language: en-US,en;q=0.5\r\n"				\
	"Accept-Encoding: gzip, deflate, br, zstd\r\n"			\
	"Referer: https://www.example.com/shop\r\n"			\
	"Upgrade-Insecure-Requests: 1\r\n"				\
	"Sec-Fetch-Dest: document\r\n"					\
	"Sec-Fetch-Mode: navigate\r\n"					\
	"Sec-Fetch-Site: same-origin\r\n"				\
	"Cookie: session="

static void make_text(struct state *s, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	size_t front = sizeof(BROWSER_FRONT) - 1;

	s->text = mem_alloc(1024);
	s->n_text = bytes;
	if (bytes < 100) {
		memcpy(s->text, TINY, sizeof(TINY));
		s->n_text = sizeof(TINY) - 1;
	} else {
		memcpy(s->text, BROWSER_FRONT, front);
		for (size_t i = front; i < bytes - 4; i++)
			s->text[i] = digits[i * 7 & 15];
		memcpy(s->text + bytes - 4, "\r\n\r\n", 4);
	}
	if (s->n_text != bytes)
		abort();
}

static void parse(struct state *s, const char *text)
{
	uint32_t scanned = 0;

	if (http_parse_request(text, s->n_text, &limits, &scanned, &s->head))
		abort();
}

static void forward(struct state *s, struct forward_result *r)
{
	const struct forward_input in = {
		.config = &s->config, .listener = &s->listener,
		.peer = &s->peer, .route = &s->route,
		.request_id = s->meta.correlation_id,
	};

	if (!forward_request(&s->out, &s->head, &in, &s->arena, r))
		abort();
}

static void fill_event(struct state *s, const struct forward_result *r)
{
	struct event_meta *m = &s->meta;

	m->request_id = r->request_id;
	m->client_ip = r->client_ip;
	m->client_port = r->client_port;
	m->protocol = SLICE("HTTP/1.1");
	m->server_name = s->out.host;
	m->route_id = SLICE("route-1");
	m->upstream_id = SLICE("app");
	m->timestamp = SLICE("2025-01-01T00:00:00.000000Z");
	s->event = (struct event){
		.type = EVENT_REQUEST_HEAD,
		.meta = m,
		.head = { .method = s->out.method, .uri = s->out.path,
			  .fields = s->out.fields,
			  .n_fields = s->out.n_fields,
			  .n_own = r->n_own },
	};
}

static void *setup_head(size_t bytes)
{
	struct state *s = mem_zalloc(sizeof(*s));
	struct net_peer peer = { .family = AF_INET, .port = 40000,
				 .ip = { 127, 0, 0, 1 } };
	struct forward_result r;

	block_pool_init(&s->blocks);
	arena_pool_init(&s->arenas);
	arena_init(&s->arena, &s->arenas);
	arena_init(&s->scratch, &s->arenas);
	outq_init(&s->q, &s->blocks);
	s->head.fields = s->fields;
	s->head.cap_fields = ARRAY_LEN(s->fields);
	memcpy(s->meta.correlation_id, "0123456789abcdef0123456789abcdef",
	       EVENT_ID_LEN);
	forward_peer_init(&s->peer, &peer, &s->listener);
	make_text(s, bytes);
	parse(s, s->text);
	forward(s, &r);
	fill_event(s, &r);
	return s;
}

static void run_parse(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const char *text = s->text;

		OPAQUE(text);
		parse(s, text);
		KEEP(&s->head);
	}
}

static void run_forward(void *state, uint64_t n)
{
	struct state *s = state;
	struct forward_result r;

	parse(s, s->text);
	while (n--) {
		arena_reset(&s->arena);
		forward(s, &r);
		KEEP(&s->out);
	}
	fill_event(s, &r);
}

/* ---- events and replies ------------------------------------------------------------ */

enum { JSON = 1, MAP = 2, EDIT = 4, BLOCK = 8 };

static void *setup_event(size_t arg)
{
	struct state *s = setup_head(arg >> 4);

	s->format.encoding = arg & JSON ? WIRE_JSON : WIRE_MSGPACK;
	s->format.shape = arg & MAP ? WIRE_MAP : WIRE_ARRAY;
	return s;
}

static void encode(struct state *s)
{
	unsigned t = 0;

	if (wire_encode_event(&s->q, &s->format, &s->event, &t) != WIRE_OK)
		abort();
}

static void run_encode(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		encode(s);
		KEEP(&s->q);
		outq_consume(&s->q, s->q.bytes);
	}
}

static void *setup_reply(size_t arg)
{
	static struct header_op ops[] = {
		{ HEADER_SET, { "X-User", 6 }, { "alice", 5 } },
		{ HEADER_REMOVE, { "Cookie", 6 }, { NULL, 0 } },
	};
	struct state *s = setup_event((700 << 4) | (arg & 15));
	struct decision d = { .kind = DECISION_ALLOW };

	if (arg & EDIT) {
		d.request_ops = ops;
		d.n_request_ops = 2;
	} else if (arg & BLOCK) {
		d.kind = DECISION_BLOCK;
		d.status = 403;
		d.body = SLICE("Forbidden");
	}
	d.id = slice_of(s->meta.correlation_id, EVENT_ID_LEN);
	d.id_kind = DECISION_ID_PRESENT;
	if (!wire_agent_encode_reply(&s->q, &s->format, &d))
		abort();
	s->n_reply = s->q.bytes;
	s->reply = mem_alloc(s->n_reply);
	memcpy(s->reply, s->q.first->p, s->n_reply);
	outq_consume(&s->q, s->q.bytes);
	return s;
}

static void decode(struct state *s, char *payload, size_t n,
		   struct decision *d)
{
	if (wire_decode_reply(payload, n, &s->format, NULL, &s->scratch, d))
		abort();
}

static void run_decode(void *state, uint64_t n)
{
	struct state *s = state;
	struct decision d;

	while (n--) {
		char *p = s->reply;

		OPAQUE(p);
		decode(s, p + FRAME_HEAD, s->n_reply - FRAME_HEAD, &d);
		KEEP(&d);
		if (s->scratch.chunks)
			arena_reset(&s->scratch);
	}
}

static void push(struct state *s)
{
	struct entry *e;

	if (!fifo_reserve(&s->fifo))
		abort();
	e = fifo_push(&s->fifo);
	*e = (struct entry){ .owner = (struct agent_call *)s,
			     .type = EVENT_REQUEST_HEAD };
	memcpy(e->id, s->meta.correlation_id, EVENT_ID_LEN);
}

/* The frame that came in: its bounds, its decision, its event. */
static void correlate(struct state *s, char *p)
{
	const struct wire_expect expect = { .type = EVENT_REQUEST_HEAD };
	struct slice payload;
	struct decision d;
	struct entry *e;
	uint8_t type;
	size_t used;

	if (frame_read(p, s->n_reply, FRAME_MAX, &type, &payload, &used) ||
	    type != FRAME_REPLY)
		abort();
	decode(s, (char *)(uintptr_t)payload.p, payload.n, &d);
	e = fifo_head(&s->fifo);
	if (!e || memcmp(e->id, d.id.p, EVENT_ID_LEN))
		abort();
	fifo_remove(&s->fifo, e);
	if (wire_check_reply(&d, &expect))
		abort();
	KEEP(&d);
}

static void run_correlate(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		char *p = s->reply;

		OPAQUE(p);
		push(s);
		correlate(s, p);
	}
}

/* Bytes in to frame out, reply in to verdict: all but the system calls. */
static void run_hop(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const char *text = s->text;
		struct forward_result r;
		char *p = s->reply;

		OPAQUE(text);
		OPAQUE(p);
		parse(s, text);
		forward(s, &r);
		fill_event(s, &r);
		encode(s);
		push(s);
		KEEP(&s->q);
		outq_consume(&s->q, s->q.bytes);
		correlate(s, p);
		arena_reset(&s->arena);
	}
}

/* ---- routes -------------------------------------------------------------------------- */

static char *numbered(const char *format, size_t i)
{
	char text[64];

	snprintf(text, sizeof(text), format, i);
	return mem_strdup(slice_str(text));
}

/* Half of them by host and prefix, half by prefix; the last one fits. */
static void *setup_routes(size_t count)
{
	struct state *s = setup_head(700);

	s->config.routes = mem_zalloc(count * sizeof(*s->config.routes));
	s->config.n_routes = (unsigned)count;
	for (size_t i = 0; i < count; i++) {
		struct config_route *r = &s->config.routes[i];

		r->path_prefix = i + 1 == count ? "/shop/items/" :
				 numbered("/shop/part-%zu/", i);
		if (i % 2)
			r->host = i + 1 == count ? "www.example.com" :
				  numbered("h%zu.example.com", i);
		r->index = (unsigned)i;
	}
	s->config.route_index = route_index_new(&s->arena, s->config.routes,
						(unsigned)count);
	s->host = http_host_normalise(s->head.host, &s->arena);
	if (http_path_normalise(s->head.path, &s->arena, &s->path))
		abort();
	return s;
}

static void run_routes(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		const struct config *c = &s->config;
		const struct config_route *r;
		bool ambiguous;

		OPAQUE(c);
		r = route_match(c, s->host, &s->path, s->head.method,
				&ambiguous);
		if (!r || r->index + 1 != c->n_routes)
			abort();
		KEEP(r);
	}
}

static void run_path(void *state, uint64_t n)
{
	struct state *s = state;

	while (n--) {
		struct slice target = s->head.path;
		struct http_path path;

		OPAQUE(target.p);
		if (http_path_normalise(target, &s->arena, &path))
			abort();
		KEEP(&path);
	}
}

#define OWN(name, setup, run, arg)	{ "own/" name, "design", setup, run, arg }
#define EVENT(size, flags)	((size) << 4 | (flags))

const struct row rows_own[] = {
	OWN("parse_head/45", setup_head, run_parse, 45),
	OWN("parse_head/700", setup_head, run_parse, 700),
	OWN("forward_head/45", setup_head, run_forward, 45),
	OWN("forward_head/700", setup_head, run_forward, 700),
	OWN("encode_event/json/45", setup_event, run_encode, EVENT(45, JSON)),
	OWN("encode_event/json/700", setup_event, run_encode,
	    EVENT(700, JSON)),
	OWN("encode_event/msgpack/45", setup_event, run_encode, EVENT(45, 0)),
	OWN("encode_event/msgpack/700", setup_event, run_encode,
	    EVENT(700, 0)),
	OWN("encode_event/msgpack_map/700", setup_event, run_encode,
	    EVENT(700, MAP)),
	OWN("decode_reply/json/allow", setup_reply, run_decode, JSON),
	OWN("decode_reply/json/edit", setup_reply, run_decode, JSON | EDIT),
	OWN("decode_reply/json/block", setup_reply, run_decode, JSON | BLOCK),
	OWN("decode_reply/map/allow", setup_reply, run_decode, MAP),
	OWN("decode_reply/map/edit", setup_reply, run_decode, MAP | EDIT),
	OWN("decode_reply/map/block", setup_reply, run_decode, MAP | BLOCK),
	OWN("decode_reply/array/allow", setup_reply, run_decode, 0),
	OWN("decode_reply/array/edit", setup_reply, run_decode, EDIT),
	OWN("decode_reply/array/block", setup_reply, run_decode, BLOCK),
	OWN("frame_and_correlate/json", setup_reply, run_correlate, JSON),
	OWN("frame_and_correlate/map", setup_reply, run_correlate, MAP),
	OWN("frame_and_correlate/array", setup_reply, run_correlate, 0),
	OWN("whole_hop/json/700", setup_reply, run_hop, JSON),
	OWN("whole_hop/msgpack/700", setup_reply, run_hop, 0),
	OWN("normalise_path", setup_routes, run_path, 10),
	OWN("route_match/10", setup_routes, run_routes, 10),
	OWN("route_match/1000", setup_routes, run_routes, 1000),
	{ 0 },
};
