/* libagentproxy, over a real socket: an agent in a thread, the proxy is us. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentproxy.h"
#include "wire/codec.h"

#define N_EXCHANGES	100

struct world {
	char dir[32], path[64];
	struct agentproxy *agent;
	pthread_t thread;
	bool started;
	int rc;
	/* What the agent saw; for after stop(). */
	unsigned n_ended, n_lines;
	char value[64], config[64];
	/* The proxy's link. */
	int fd;
	struct wire_format format;
	struct block_pool blocks;
	struct outq out;
	struct arena_pool arenas;
	struct arena arena;
};

/* ---- the agent ------------------------------------------------------------ */

static void on_head(void *user, const struct agentproxy_event *ev,
		    struct agentproxy_decision *d)
{
	struct world *w = user;
	const char *what = ev->uri + 1;

	snprintf(w->value, sizeof(w->value), "%s", ev->n_fields ?
		 ev->fields[ev->n_fields - 1].value : "none");
	if (strcmp(what, "keep") == 0) {
		assert_null(*ev->exchange);
		*ev->exchange = strdup(ev->id);
	} else if (strcmp(what, "edit") == 0) {
		agentproxy_set_header(d, AGENTPROXY_REQUEST, "a", "1");
		agentproxy_remove_header(d, AGENTPROXY_REQUEST, "b");
		agentproxy_add_header(d, AGENTPROXY_RESPONSE, "c", "2");
		agentproxy_choose_upstream(d, "other");
		agentproxy_tag(d, "tag");
		agentproxy_confidence(d, 0.5);
		agentproxy_needs_more(d);
	} else if (strcmp(what, "block") == 0) {
		agentproxy_redirect(d, 302, "/elsewhere");
		agentproxy_block(d, 429, "slower");
		agentproxy_block_header(d, "retry-after", "1");
	} else if (strcmp(what, "many") == 0) {
		for (int i = 0; i < 256; i++)
			agentproxy_add_header(d, AGENTPROXY_REQUEST, "x", "y");
	} else if (strcmp(what, "too-many") == 0) {
		for (int i = 0; i < 257; i++)
			agentproxy_add_header(d, AGENTPROXY_REQUEST, "x", "y");
	} else if (strcmp(what, "fail") == 0) {
		agentproxy_fail(d, "no idea");
	} else if (strcmp(what, "status") == 0) {
		agentproxy_block(d, 99, NULL);
	} else if (strcmp(what, "split") == 0) {
		agentproxy_set_header(d, AGENTPROXY_REQUEST, "a", "b\r\nc: d");
	} else if (strcmp(what, "url") == 0) {
		agentproxy_redirect(d, 302, "/a b");
	} else if (strcmp(what, "no-chunk") == 0) {
		agentproxy_replace_chunk(d, "x", 1);
	}
}

static void on_chunk(void *user, const struct agentproxy_event *ev,
		     struct agentproxy_decision *d)
{
	const char *kept = *ev->exchange;

	if (!kept || strcmp(kept, ev->id) != 0 ||
	    strlen(ev->data) != ev->size)
		agentproxy_fail(d, "not what was kept");
	else
		agentproxy_replace_chunk(d, "other", ev->is_last ? 0 : 5);
}

static void on_configure(void *user, const struct agentproxy_event *ev,
			 struct agentproxy_decision *d)
{
	struct world *w = user;

	if (!w->config[0])
		snprintf(w->config, sizeof(w->config), "%s", ev->config);
	if (strstr(ev->config, "refuse"))
		agentproxy_block(d, 500, "no");
}

static void on_end(void *user, void *exchange)
{
	struct world *w = user;

	w->n_ended++;
	free(exchange);
}

static void on_log(void *user, const char *line)
{
	struct world *w = user;

	w->n_lines++;
}

static void *run_agent(void *arg)
{
	struct world *w = arg;

	w->rc = agentproxy_run(w->agent, w->path);
	return NULL;
}

/* ---- the proxy ------------------------------------------------------------- */

static void send_all(struct world *w)
{
	for (struct oseg *s = w->out.first; s; s = s->next)
		assert_int_equal(send(w->fd, s->p, s->n, MSG_NOSIGNAL), s->n);
	outq_clear(&w->out);
}

/* One frame into the arena; false: closed. */
static bool next_frame(struct world *w, uint8_t *type, struct slice *payload)
{
	unsigned char head[FRAME_HEAD];
	char *p;
	size_t n;

	if (recv(w->fd, head, sizeof(head), MSG_WAITALL) != sizeof(head))
		return false;
	n = ((size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]) - 1;
	p = arena_alloc(&w->arena, n + 1);
	assert_non_null(p);
	assert_int_equal(recv(w->fd, p, n, MSG_WAITALL), n);
	*type = head[4];
	*payload = slice_of(p, n);
	return true;
}

static bool link_up(struct world *w)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	strcpy(un.sun_path, w->path);
	w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(w->fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return true;
	close(w->fd);
	return false;
}

static void shake(struct world *w, enum wire_offer offer)
{
	struct wire_handshake h;
	struct slice payload;
	uint8_t type;

	while (!link_up(w))
		usleep(1000);	/* until it listens */
	assert_true(wire_encode_handshake(&w->out, "us", offer));
	send_all(w);
	assert_true(next_frame(w, &type, &payload));
	assert_int_equal(type, FRAME_HANDSHAKE_REPLY);
	assert_true(wire_decode_handshake(payload, offer, &h));
	assert_string_equal(h.name, "test");
	w->format = (struct wire_format){ .encoding = h.encoding };
}

static void put_event(struct world *w, struct event *ev)
{
	unsigned t = 0;

	assert_int_equal(wire_encode_event(&w->out, &w->format, ev, &t),
			 WIRE_OK);
}

static struct event_meta meta_of(unsigned n)
{
	struct event_meta m = { .timestamp = SLICE("2026-01-02T03:04:05Z") };
	char id[EVENT_ID_LEN + 1];

	snprintf(id, sizeof(id), "%032x", n);
	memcpy(m.correlation_id, id, EVENT_ID_LEN);
	return m;
}

static void put_head(struct world *w, unsigned n, const char *uri)
{
	static const struct field fields[] = {
		{ .name = "host", .name_len = 4, .value = "h", .value_len = 1 },
		{ .name = "x", .name_len = 1, .value = "last", .value_len = 4 },
	};
	struct event_meta m = meta_of(n);
	struct event ev = { .type = EVENT_REQUEST_HEAD, .meta = &m, .head = {
		.method = SLICE("GET"), .uri = slice_str(uri),
		.fields = fields, .n_fields = 2 } };

	put_event(w, &ev);
}

static void put_chunk(struct world *w, unsigned n, enum event_type type,
		      unsigned index, bool last)
{
	struct event_meta m = meta_of(n);
	struct bslice data = { NULL, "bytes", 5 };
	struct event ev = { .type = type, .meta = &m, .chunk = {
		.pieces = &data, .n_pieces = 1, .bytes = 5, .index = index,
		.is_last = last } };

	put_event(w, &ev);
}

static void put_complete(struct world *w, unsigned n)
{
	struct event_meta m = meta_of(n);
	struct event ev = { .type = EVENT_COMPLETE, .meta = &m };

	put_event(w, &ev);
}

static struct decision *reply(struct world *w)
{
	struct decision *d = arena_zalloc(&w->arena, sizeof(*d));
	struct slice payload;
	uint8_t type;

	send_all(w);
	assert_true(next_frame(w, &type, &payload));
	assert_int_equal(type, FRAME_REPLY);
	assert_int_equal(wire_decode_reply((char *)(uintptr_t)payload.p,
					   payload.n, &w->format, NULL,
					   &w->arena, d), DECISION_OK);
	return d;
}

static struct decision *ask(struct world *w, unsigned n, const char *uri)
{
	struct decision *d;
	char id[EVENT_ID_LEN + 1];

	put_head(w, n, uri);
	d = reply(w);
	snprintf(id, sizeof(id), "%032x", n);
	if (d->id_kind == DECISION_ID_PRESENT)
		assert_true(slice_eq(d->id, slice_str(id)));
	return d;
}

/* ---- set up ----------------------------------------------------------------- */

static void start(struct world *w)
{
	w->started = true;
	pthread_create(&w->thread, NULL, run_agent, w);
}

static void join(struct world *w)
{
	w->started = false;
	agentproxy_stop(w->agent);
	pthread_join(w->thread, NULL);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/agentproxy.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	block_pool_init(&w->blocks);
	outq_init(&w->out, &w->blocks);
	arena_pool_init(&w->arenas);
	arena_init(&w->arena, &w->arenas);
	w->fd = -1;
	w->agent = agentproxy_new("test", "1", w);
	agentproxy_on(w->agent, AGENTPROXY_REQUEST_HEAD, on_head);
	agentproxy_on(w->agent, AGENTPROXY_REQUEST_CHUNK, on_chunk);
	agentproxy_on(w->agent, AGENTPROXY_RESPONSE_CHUNK, on_chunk);
	agentproxy_on(w->agent, AGENTPROXY_CONFIGURE, on_configure);
	agentproxy_on_end(w->agent, on_end);
	agentproxy_on_log(w->agent, on_log);
	start(w);
	*state = w;
	return 0;
}

static void stop(struct world *w)
{
	join(w);
	assert_int_equal(w->rc, 0);
	assert_int_equal(access(w->path, F_OK), -1);
}

static int tear_down(void **state)
{
	struct world *w = *state;

	if (w->started)		/* the test has failed */
		join(w);
	close(w->fd);
	agentproxy_free(w->agent);
	outq_clear(&w->out);
	arena_fini(&w->arena);
	arena_pool_fini(&w->arenas);
	block_pool_fini(&w->blocks);
	rmdir(w->dir);
	free(w);
	return 0;
}

/* ---- tests ------------------------------------------------------------------ */

static void decisions(struct world *w, enum wire_offer offer)
{
	struct decision *d;

	shake(w, offer);
	d = ask(w, 1, "/edit");
	assert_int_equal(d->kind, DECISION_ALLOW);
	assert_true(d->needs_more);
	assert_int_equal(d->n_request_ops, 2);
	assert_true(slice_eq(d->request_ops[0].value, SLICE("1")));
	assert_int_equal(d->request_ops[1].kind, HEADER_REMOVE);
	assert_int_equal(d->n_response_ops, 1);
	assert_int_equal(d->response_ops[0].kind, HEADER_ADD);
	assert_true(slice_eq(d->upstream, SLICE("other")));
	assert_int_equal(d->audit.n_tags, 1);
	assert_true(d->audit.has_confidence);
	d = ask(w, 2, "/block");
	assert_int_equal(d->kind, DECISION_BLOCK);
	assert_int_equal(d->status, 429);
	assert_true(slice_eq(d->body, SLICE("slower")));
	assert_int_equal(d->n_headers, 1);
	assert_int_equal(ask(w, 3, "/")->kind, DECISION_ALLOW);
	assert_int_equal(ask(w, 4, "/many")->n_request_ops, 256);
	stop(w);
	assert_int_equal(w->n_lines, 0);
	assert_string_equal(w->value, "last");
}

static void test_json(void **state)
{
	decisions(*state, WIRE_OFFER_JSON);
}

static void test_msgpack(void **state)
{
	decisions(*state, WIRE_OFFER_BOTH);
}

/* None of them is an allow, nor does one harm the next. */
static void test_failures(void **state)
{
	static const char *const bad[] = { "/fail", "/status", "/split",
					   "/url", "/too-many", "/no-chunk" };
	struct world *w = *state;
	struct decision *d;

	shake(w, WIRE_OFFER_BOTH);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		d = ask(w, i, bad[i]);
		assert_int_equal(d->id_kind, DECISION_ID_EMPTY);
		assert_int_equal(d->kind, DECISION_BLOCK);
		assert_int_equal(d->n_request_ops, 0);
		assert_int_equal(ask(w, i, "/")->id_kind, DECISION_ID_PRESENT);
	}
	stop(w);
	assert_int_equal(w->n_lines, ARRAY_LEN(bad));
}

static void test_exchanges(void **state)
{
	struct world *w = *state;
	struct decision *d;

	shake(w, WIRE_OFFER_BOTH);
	for (unsigned i = 0; i < N_EXCHANGES; i++)
		put_head(w, i, "/keep");	/* several frames a read */
	for (unsigned i = 0; i < N_EXCHANGES; i++)
		assert_int_equal(reply(w)->kind, DECISION_ALLOW);
	for (unsigned i = 0; i < N_EXCHANGES; i += 2) {
		put_chunk(w, i, EVENT_REQUEST_CHUNK, 3, false);
		d = reply(w);
		assert_true(d->request_body.present);
		assert_true(slice_eq(d->request_body.data, SLICE("other")));
		assert_int_equal(d->request_body.chunk_index, 3);
		put_chunk(w, i, EVENT_RESPONSE_CHUNK, 0, true);
		d = reply(w);
		assert_false(d->request_body.present);
		assert_true(d->response_body.present);
		assert_int_equal(d->response_body.data.n, 0);
		put_complete(w, i);
		assert_int_equal(reply(w)->kind, DECISION_ALLOW);
	}
	/* One that is over is not remembered. */
	put_chunk(w, 0, EVENT_REQUEST_CHUNK, 0, true);
	assert_int_equal(reply(w)->id_kind, DECISION_ID_EMPTY);
	close(w->fd);
	shake(w, WIRE_OFFER_BOTH);
	assert_int_equal(ask(w, 1, "/")->kind, DECISION_ALLOW);
	stop(w);
	assert_int_equal(w->n_ended, N_EXCHANGES);
}

static void test_unreadable(void **state)
{
	static const char *const bad[] = {
		"\0\0\0\3\x10\x91\xc0",		/* an array of one nil */
		"\0\0\0\3\x10{}",
		"\0\0\0\1\x20\0\0",		/* no event at all */
		"\0\0\0\0\0\0\0",		/* no frame */
		"\1\0\0\1\x10\0\0",		/* over 16 MiB */
	};
	struct world *w = *state;
	struct slice payload;
	uint8_t type;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		shake(w, WIRE_OFFER_BOTH);
		assert_int_equal(send(w->fd, bad[i], 7, MSG_NOSIGNAL), 7);
		assert_false(next_frame(w, &type, &payload));
		close(w->fd);
	}
	shake(w, WIRE_OFFER_BOTH);
	assert_int_equal(ask(w, 1, "/")->kind, DECISION_ALLOW);
	stop(w);
}

static void test_control(void **state)
{
	struct event ev = { .type = EVENT_CONFIGURE, .configure = {
		.id = SLICE("cfg-1"), .config_json = SLICE("{\"a\":[1,2]}") } };
	struct world *w = *state;
	struct slice payload;
	uint64_t number;
	uint8_t type;

	shake(w, WIRE_OFFER_BOTH);
	put_event(w, &ev);
	assert_int_equal(reply(w)->kind, DECISION_ALLOW);
	ev.configure.config_json = SLICE("\"refuse\"");
	put_event(w, &ev);
	assert_int_equal(reply(w)->kind, DECISION_BLOCK);
	assert_true(wire_encode_cancel(&w->out, meta_of(1).correlation_id,
				       WIRE_CANCEL_CLIENT, 1));
	assert_true(wire_encode_ping(&w->out, 77, 1));
	send_all(w);
	assert_true(next_frame(w, &type, &payload));
	assert_int_equal(type, FRAME_PONG);
	assert_true(wire_decode_pong(payload, &number));
	assert_int_equal(number, 77);
	stop(w);
	assert_string_equal(w->config, "{\"a\":[1,2]}");
}

static void test_socket(void **state)
{
	struct world *w = *state;
	struct agentproxy *second = agentproxy_new("second", "1", NULL);
	struct stat st;

	shake(w, WIRE_OFFER_BOTH);
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(agentproxy_run(second, w->path), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(agentproxy_run(second, "/nowhere/at/all"), -1);
	assert_int_equal(errno, ENOENT);
	agentproxy_free(second);
	stop(w);
	/* One that is left over is taken. */
	assert_int_equal(mknod(w->path, S_IFSOCK | 0600, 0), 0);
	start(w);
	shake(w, WIRE_OFFER_BOTH);
	stop(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_json), TEST(test_msgpack), TEST(test_failures),
		TEST(test_exchanges), TEST(test_unreadable),
		TEST(test_control), TEST(test_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
