/*
 * The client's connection. Between exchanges it pins nothing and holds no
 * memory but itself; with the first byte of a request it takes the listener's
 * present settings, with the head an exchange begins.
 */
#include "exchange/exchange.h"

static void on_reap(struct task *t)
{
	struct client *c = container_of(t, struct client, reap);
	struct worker *w = c->worker;
	struct worker_listener *l = c->listener;

	slab_free(&w->client_slab, c);
	l->n_clients--;
	worker_listener_put(l);
	worker_check_drained(w);
}

void client_free(struct client *c)
{
	ASSERT(!c->exchange);
	cds_list_del(&c->node);
	c->worker->n_clients--;
	connection_count(c->listener, &c->peer.peer, false);
	loop_defer_reap(c->worker->loop, &c->reap, on_reap);
}

/* ---- before an exchange ------------------------------------------------------ */

static void on_head(void *owner, const struct http_head *head,
		    struct block *block)
{
	struct client *c = owner;
	struct exchange *ex = exchange_new(c, head, block);

	if (!ex) {
		h1_close(&c->h1, true);
		client_free(c);
		return;
	}
	exchange_begin(ex, head);
}

static void count_bad(struct client *c, enum metrics_bad reason)
{
	counter_inc(&c->worker->metrics->bad_requests[reason]);
}

/* What its first line says, if that much can be read: for the log. */
static void note_line(struct exchange *ex, const struct h1_conn *h1)
{
	struct slice in = stream_data(&h1->stream);
	struct field field;
	struct http_head head = { .fields = &field, .cap_fields = 1 };
	uint32_t scanned = 0;
	enum http_parse rc;

	rc = http_parse_request(in.p, in.n, &h1->settings->limits, &scanned,
				&head);
	/* Half a target would look like another one. */
	if (rc == HTTP_PARSE_MORE && !head.path.p)
		return;
	ex->method = head.method;
	ex->target = head.target;
	if (head.minor == 1)
		ex->protocol = "HTTP/1.1";
}

/* A head that never became one: answered if there is somebody to answer. */
static void on_abort(void *owner, enum message_fault why,
		     enum http_parse fault)
{
	struct client *c = owner;
	struct exchange *ex;

	if (why == MESSAGE_EOF || why == MESSAGE_RESET ||
	    why == MESSAGE_NO_MEMORY) {
		count_bad(c, METRICS_BAD_CUT);
		h1_close(&c->h1, why != MESSAGE_EOF);
		client_free(c);
		return;
	}
	ex = exchange_new(c, NULL, c->h1.stream.in);
	if (!ex) {
		h1_close(&c->h1, true);
		client_free(c);
		return;
	}
	note_line(ex, &c->h1);
	if (why == MESSAGE_TIMEOUT) {
		count_bad(c, METRICS_BAD_TIMEOUT);
		answer_error(ex, 408, ENDED_TIMEOUT, "header_timeout");
		return;
	}
	count_bad(c, (enum metrics_bad)fault);
	answer_error(ex, http_parse_status(fault),
		     fault == HTTP_PARSE_TOO_LARGE ||
		     fault == HTTP_PARSE_TARGET_TOO_LONG ?
		     ENDED_LIMIT : ENDED_PROXY, http_parse_names[fault]);
}

/* Nothing of a body comes before its head. */
static void on_data(void *owner, struct block *block, const char *p, size_t n)
{
	ASSERT(!"data without a head");
}

static void on_end(void *owner, const struct http_head *trailers)
{
	ASSERT(!"end without a head");
}

static const struct source_events client_source_events = {
	.on_head = on_head,
	.on_data = on_data,
	.on_end = on_end,
	.on_abort = on_abort,
};

static void on_sink_room(void *owner)
{
}

static void on_sink_fail(void *owner, enum message_fault why)
{
	struct client *c = owner;

	h1_close(&c->h1, true);
	client_free(c);
}

static const struct sink_events client_sink_events = {
	.on_room = on_sink_room,
	.on_fail = on_sink_fail,
	.on_flushed = on_sink_room,
};

static void watch_for_request(struct client *c)
{
	c->h1.source.events = &client_source_events;
	c->h1.source.owner = c;
	c->h1.sink.events = &client_sink_events;
	c->h1.sink.owner = c;
}

/* ---- the connection ------------------------------------------------------------ */

static void on_begin(struct h1_conn *h1)
{
	struct client *c = container_of(h1, struct client, h1);

	c->begin_us = c->worker->loop->now_us;
	h1->settings = &c->listener->settings;
}

static void on_close(struct h1_conn *h1, enum message_fault why)
{
	struct client *c = container_of(h1, struct client, h1);

	client_free(c);
}

static const struct h1_events client_h1_events = {
	.on_begin = on_begin,
	.on_close = on_close,
};

bool client_open(struct worker_listener *l, int fd,
		 const struct net_peer *peer)
{
	struct worker *w = l->worker;
	struct client *c = l->config ? slab_alloc(&w->client_slab) : NULL;

	if (!c) {
		counter_inc(&l->metrics->refused_system);
		sock_close(fd, true);
		return false;
	}
	c->worker = w;
	c->listener = l;
	c->begin_us = w->loop->now_us;
	if (!h1_accept(&c->h1, w->loop, fd, &l->settings,
		       &client_h1_events)) {
		counter_inc(&l->metrics->refused_system);
		slab_free(&w->client_slab, c);
		return false;
	}
	watch_for_request(c);
	forward_peer_init(&c->peer, peer, l->config->config);
	cds_list_add_tail(&c->node, &w->clients);
	w->n_clients++;
	l->n_clients++;
	connection_count(l, peer, true);
	park_sweep_start(w);
	return true;
}

void client_accept(struct worker_listener *l, int fd,
		   const struct net_addr *from)
{
	struct net_peer peer;

	net_peer_from(from, &peer);
	if (peers_over(l, &peer)) {
		counter_inc(&l->metrics->refused_limit);
		sock_close(fd, true);
		return;
	}
	if (client_open(l, fd, &peer))
		counter_inc(&l->metrics->connections_total);
}

void client_exchange_over(struct client *c)
{
	c->exchange = NULL;
	watch_for_request(c);
	/* A head that went out before a drain began said nothing of it: the
	 * next answer will. Closing now would lose a request. */
	h1_next(&c->h1);
}

void client_drop(struct client *c, bool hard)
{
	c->exchange = NULL;
	h1_close(&c->h1, hard);
	client_free(c);
}

void client_kill(struct client *c, enum ended_by by, const char *why)
{
	if (c->exchange)
		exchange_end(c->exchange, by, why);
	else
		client_drop(c, true);
}
