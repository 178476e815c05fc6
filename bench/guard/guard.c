/*
 * A fixed script in the simulator, for counting instructions:
 *
 *	guard CASE N	N exchanges of that case, then ends without tidying up
 *
 * One worker, eight clients that ask again as soon as they have their answer,
 * a calm network. Peers use none of the code that is counted (src/) once it
 * has begun. bench/guard.py runs it under callgrind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/load.h"
#include "exchange/worker.h"
#include "net/sock.h"
#include "../../tests/sim/sim_world.h"

#define CLIENTS	8

struct guard_case {
	const char *name, *agent;	/* agent: of the config; NULL: none */
	const char *use;		/* how the route has it */
	bool json;
	size_t body;
	bool browser;
};

static const struct guard_case cases[] = {
	{ .name = "get" },
	{ .name = "get-msgpack", .agent = "encoding: msgpack" },
	{ .name = "get-json", .agent = "encoding: json", .json = true },
	{ .name = "browser-msgpack", .agent = "encoding: msgpack",
	  .browser = true },
	{ .name = "post64k", .body = 65536 },
	{ .name = "post64k-raw", .agent = "encoding: msgpack, raw_body: true",
	  .use = ", request_body: stream", .body = 65536 },
	{ .name = "post64k-json", .agent = "encoding: json", .json = true,
	  .use = ", request_body: stream", .body = 65536 },
};

static const struct guard_case *the_case;
static unsigned long wanted, started, answered;
static char *request, *frame_reply;
static size_t n_request, n_frame_reply, reply_id_at;

/* ---- clients ---------------------------------------------------------------------- */

struct client {
	char in[4096];
	size_t n;
};

static void ask(struct sim_peer *p)
{
	if (started == wanted)
		return;
	started++;
	sim_peer_send(p, request, n_request);
}

static void client_data(struct sim_peer *p, const char *data, size_t n)
{
	struct client *c = p->ctx;

	ASSERT(c->n + n < sizeof(c->in));
	memcpy(c->in + c->n, data, n);
	c->n += n;
	if (c->n < 3 || memcmp(c->in + c->n - 3, "ok\n", 3) != 0)
		return;
	ASSERT(memcmp(c->in, "HTTP/1.1 200 ", 13) == 0);
	c->n = 0;
	answered++;
	ask(p);
}

static const struct sim_peer_events client_events = {
	.on_open = ask, .on_data = client_data,
};

/* ---- the server ------------------------------------------------------------------- */

/* The length of what came in tells a whole request: they are all alike. */
struct conn {
	char in[256 * 1024];
	size_t n;
};

static void server_accept(struct sim_peer *p)
{
	p->ctx = calloc(1, sizeof(struct conn));
}

static void server_data(struct sim_peer *p, const char *data, size_t n)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\n"
		"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
	struct conn *c = p->ctx;
	char *end;

	ASSERT(c->n + n < sizeof(c->in));
	memcpy(c->in + c->n, data, n);
	c->n += n;
	end = memmem(c->in, c->n < 4096 ? c->n : 4096, "\r\n\r\n", 4);
	if (!end || c->n < (size_t)(end + 4 - c->in) + the_case->body)
		return;
	c->n = 0;
	sim_peer_send(p, answer, sizeof(answer) - 1);
}

static const struct sim_peer_events server_events = {
	.on_accept = server_accept, .on_data = server_data,
};

/* ---- the agent: says allow to everything -------------------------------------------- */

static void flush(struct sim_peer *p, struct outq *q)
{
	for (struct oseg *s = q->first; s; s = s->next)
		sim_peer_send(p, s->p, s->n);
	outq_clear(q);
}

/* Replies are one text but for the id. */
static void make_reply(void)
{
	const struct wire_format f = {
		.encoding = the_case->json ? WIRE_JSON : WIRE_MSGPACK,
		.shape = WIRE_MAP,
	};
	static const char id[] = "IDIDIDIDIDIDIDIDIDIDIDIDIDIDIDID";
	struct decision d = { .kind = DECISION_ALLOW,
			      .id_kind = DECISION_ID_PRESENT,
			      .id = { id, EVENT_ID_LEN } };
	struct block_pool pool;
	struct outq q;

	block_pool_init(&pool);
	outq_init(&q, &pool);
	if (!wire_agent_encode_reply(&q, &f, &d))
		abort();
	n_frame_reply = q.bytes;
	frame_reply = malloc(n_frame_reply);
	memcpy(frame_reply, q.first->p, n_frame_reply);
	reply_id_at = (size_t)((char *)memmem(frame_reply, n_frame_reply, id,
					      EVENT_ID_LEN) - frame_reply);
}

static void answer_handshake(struct sim_peer *p)
{
	struct block_pool pool;
	struct outq q;

	block_pool_init(&pool);
	outq_init(&q, &pool);
	if (!wire_agent_encode_handshake(&q, "guard", "1", the_case->json ?
					 WIRE_JSON : WIRE_MSGPACK,
					 WIRE_AGENT_ALL_EVENTS))
		abort();
	flush(p, &q);
}

static void answer_frame(struct sim_peer *p, const char *frame, size_t n)
{
	const char *key = the_case->json ? "\"correlation_id\":\"" : "\xd9 ";
	const char *at;

	if (frame[4] == FRAME_HANDSHAKE) {
		answer_handshake(p);
		return;
	}
	if (frame[4] == FRAME_PING) {
		char head[FRAME_HEAD];

		frame_write_head(head, FRAME_PONG, n - FRAME_HEAD);
		sim_peer_send(p, head, sizeof(head));
		sim_peer_send(p, frame + FRAME_HEAD, n - FRAME_HEAD);
		return;
	}
	at = memmem(frame, n < 200 ? n : 200, key, strlen(key));
	ASSERT(at);
	memcpy(frame_reply + reply_id_at, at + strlen(key), EVENT_ID_LEN);
	sim_peer_send(p, frame_reply, n_frame_reply);
}

static void agent_data(struct sim_peer *p, const char *data, size_t n)
{
	struct conn *c = p->ctx;
	size_t at = 0;

	ASSERT(c->n + n < sizeof(c->in));
	memcpy(c->in + c->n, data, n);
	c->n += n;
	while (c->n - at >= FRAME_HEAD) {
		const unsigned char *u = (unsigned char *)c->in + at;
		size_t size = 4 + ((size_t)u[0] << 24 | (size_t)u[1] << 16 |
				   (size_t)u[2] << 8 | u[3]);

		if (c->n - at < size)
			break;
		answer_frame(p, c->in + at, size);
		at += size;
	}
	c->n -= at;
	memmove(c->in, c->in + at, c->n);
}

static const struct sim_peer_events agent_events = {
	.on_accept = server_accept, .on_data = agent_data,
};

/* ---- the daemon --------------------------------------------------------------------- */

static void make_request(void)
{
	static const char browser[] =
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
		" (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,"
		"*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
		"Accept-Encoding: gzip, deflate, br\r\n"
		"Referer: http://www.example.com/shop\r\n"
		"Cookie: session=0123456789abcdef0123456789abcdef\r\n";
	char head[1024];
	int n = snprintf(head, sizeof(head), "%s /hello HTTP/1.1\r\n"
			 "Host: www.example.com\r\n%s",
			 the_case->body ? "POST" : "GET",
			 the_case->browser ? browser : "");

	if (the_case->body)
		n += snprintf(head + n, sizeof(head) - (size_t)n,
			      "Content-Length: %zu\r\n", the_case->body);
	n_request = (size_t)n + 2 + the_case->body;
	request = calloc(1, n_request);
	memcpy(request, head, (size_t)n);
	memcpy(request + n, "\r\n", 2);
	for (size_t i = (size_t)n + 2; i < n_request; i++)
		request[i] = (char)i;
}

static struct config *make_config(void)
{
	char text[1024], agents[256] = "", use[128] = "";
	struct config *config;
	int n;

	if (the_case->agent) {
		snprintf(agents, sizeof(agents), "agents:\n  a: { socket: "
			 "/a.sock, on_failure: deny, %s }\n",
			 the_case->agent);
		snprintf(use, sizeof(use), "agents: [{ name: a%s }], ",
			 the_case->use ? the_case->use : "");
	}
	n = snprintf(text, sizeof(text),
		     "workers: 1\nlisteners: [{ name: l, address: "
		     "'127.0.0.1:8080' }]\nupstreams: { u: { servers: "
		     "['127.0.0.1:9000'] } }\n%sroutes: [{ %supstream: u }]\n",
		     agents, use);
	config = config_load_text("guard", slice_of(text, (size_t)n), stderr);
	if (!config)
		exit(2);
	return config;
}

static void start_worker(void)
{
	static struct shared shared = { .n_workers = 1 };
	static struct worker worker;
	struct snapshot *s;
	struct net_addr a;

	shared.metrics = metrics_new(1);
	shared.access = access_log_open("off", ACCESS_JSON, 1);
	shared.held_limit = 1 << 28;
	s = snapshot_new(make_config(), 1, NULL, 1, shared.metrics);
	if (!s || !shared.access ||
	    !snapshot_publish_agents(s, agent_table_new()) ||
	    !net_addr_parse(SLICE("127.0.0.1:8080"), &a))
		abort();
	worker_init(&worker, loop_new(0), &shared, s);
	if (!worker_listen(&worker, "l", sock_listen(&a, 128)))
		abort();
}

static bool all_answered(void *arg)
{
	return answered == wanted;
}

int main(int argc, char **argv)
{
	struct sim_world *w;

	for (size_t i = 0; argc == 3 && i < ARRAY_LEN(cases); i++)
		if (strcmp(argv[1], cases[i].name) == 0)
			the_case = &cases[i];
	if (!the_case) {
		for (size_t i = 0; i < ARRAY_LEN(cases); i++)
			puts(cases[i].name);
		return argc == 1 ? 0 : 2;
	}
	wanted = strtoul(argv[2], NULL, 10);
	make_request();
	make_reply();
	w = sim_world_new(1, false);
	sim_calm(w);
	sim_listen(w, "127.0.0.1:9000", &server_events, NULL);
	sim_listen(w, "unix:/a.sock", &agent_events, NULL);
	start_worker();
	sim_run(w, SIM_SECOND);
	for (unsigned i = 0; i < CLIENTS; i++)
		sim_connect(w, "127.0.0.1:8080", "10.0.0.1:4000",
			    &client_events, calloc(1, sizeof(struct client)));
	if (!sim_run_until(w, 3600 * SIM_SECOND, all_answered, NULL)) {
		fprintf(stderr, "only %lu answers\n", answered);
		return 1;
	}
	_exit(0);
}
