/* Scripted peers, and how connections come about. */
#include "sim_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct sim_end *end_of(const struct sim_peer *p)
{
	return container_of((struct sim_peer *)(uintptr_t)p, struct sim_end,
			    peer);
}

/* ---- what the network brings --------------------------------------------- */

static void script_failed(struct sim_end *e, int error)
{
	sim_trace(e->world, "%d fails: %d", e->id, error);
	e->state = END_CLOSED;
	e->peer.closed = true;
	if (e->peer.events->on_error)
		e->peer.events->on_error(&e->peer, -error);
}

void script_deliver(struct sim_end *e)
{
	const struct sim_peer_events *ev = e->peer.events;

	if (!e->greeted)
		return;
	while (e->state == END_OPEN && !e->stalled && e->visible.bytes) {
		char buf[4096];
		size_t n = end_take(e, buf, sizeof(buf));

		sim_trace(e->world, "%d gets %zu bytes", e->id, n);
		if (ev->on_data)
			ev->on_data(&e->peer, buf, n);
	}
	if (e->state != END_OPEN)
		return;
	if (e->error) {
		int error = e->error;

		e->error = 0;
		script_failed(e, error);
		return;
	}
	if (e->fin_in && !e->stalled && !e->eof_told) {
		e->eof_told = true;
		if (ev->on_eof)
			ev->on_eof(&e->peer);
	}
}

static void script_close_now(struct sim_end *e)
{
	if (e->state != END_CLOSED)
		end_close(e, false);
}

/* Sends what waits, as far as it goes. Calls nobody. */
void script_push(struct sim_end *e)
{
	if (e->state != END_OPEN)
		return;
	while (e->pending_n) {
		size_t n = e->choked ? 0 : end_send(e, e->pending +
						    e->pending_at,
						    e->pending_n);

		if (n == 0)
			return;
		e->pending_at += n;
		e->pending_n -= n;
	}
	if (e->close_pending)
		script_close_now(e);
	else if (e->shutdown_pending)
		end_send_fin(e);
}

/* ---- what a script does -------------------------------------------------- */

void sim_peer_send(struct sim_peer *p, const void *data, size_t n)
{
	struct sim_end *e = end_of(p);

	if (p->closed || e->shutdown_pending || n == 0)
		return;
	if (e->pending_at) {
		memmove(e->pending, e->pending + e->pending_at, e->pending_n);
		e->pending_at = 0;
	}
	if (e->pending_size - e->pending_n < n) {
		e->pending_size = 2 * (e->pending_n + n);
		e->pending = realloc(e->pending, e->pending_size);
		ASSERT(e->pending);
	}
	memcpy(e->pending + e->pending_n, data, n);
	e->pending_n += n;
	script_push(e);
}

void sim_peer_print(struct sim_peer *p, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0);
	sim_peer_send(p, text, (size_t)n);
	free(text);
}

void sim_peer_shutdown(struct sim_peer *p)
{
	struct sim_end *e = end_of(p);

	if (p->closed)
		return;
	e->shutdown_pending = true;
	script_push(e);
}

void sim_peer_close(struct sim_peer *p)
{
	struct sim_end *e = end_of(p);

	if (p->closed)
		return;
	p->closed = true;
	e->close_pending = true;
	e->stalled = true;	/* no more calls */
	if (e->state == END_CONNECTING)
		e->state = END_CLOSED;
	script_push(e);
}

void sim_peer_reset(struct sim_peer *p)
{
	struct sim_end *e = end_of(p);

	if (p->closed && e->state == END_CLOSED)
		return;
	p->closed = true;
	if (e->state == END_CONNECTING)
		e->state = END_CLOSED;
	else if (e->state != END_CLOSED)
		end_close(e, true);
}

static void on_unstalled(void *arg)
{
	script_deliver(arg);
}

void sim_peer_stall(struct sim_peer *p, bool on)
{
	struct sim_end *e = end_of(p);

	if (p->closed || e->stalled == on)
		return;
	e->stalled = on;
	if (!on)
		sim_after(e->world, 0, on_unstalled, e);
}

size_t sim_peer_unread(const struct sim_peer *p)
{
	const struct sim_end *e = end_of(p);
	size_t n = e->pending_n;

	if (e->other)
		n += e->other->flight.bytes + e->other->visible.bytes;
	return n;
}

/* ---- connecting ---------------------------------------------------------- */

static void pair(struct sim_end *a, struct sim_end *b)
{
	a->other = b;
	b->other = a;
}

/* b stands in the listener's queue and waits to be accepted. */
static void enqueue(struct sim_end *listener, struct sim_end *b)
{
	struct sim_end **pp = &listener->backlog;

	while (*pp)
		pp = &(*pp)->backlog_next;
	*pp = b;
	end_notify(listener);
}

/* The client's end a has come to a listener: makes the server's end. */
static void accept_at(struct sim_end *listener, struct sim_end *a)
{
	struct sim_end *b = end_new(a->world, a->unix_like, listener->script);

	pair(a, b);
	a->state = b->state = END_OPEN;
	sim_trace(a->world, "%d connects to %d at %s", a->id, b->id,
		  listener->address);
	if (listener->script) {
		b->peer.events = listener->peer.events;
		b->peer.ctx = listener->peer.ctx;
	} else {
		b->peer_addr = a->peer_addr;
		enqueue(listener, b);
	}
}

static void on_script_accept(void *arg)
{
	struct sim_end *b = arg;

	if (b->state != END_OPEN)
		return;
	b->greeted = true;
	if (b->peer.events->on_accept)
		b->peer.events->on_accept(&b->peer);
	script_push(b);
	script_deliver(b);
}

/* A script's connect reaches the program's listener, if there is one. */
static void on_script_connect(void *arg)
{
	struct sim_end *a = arg, *listener;

	if (a->state != END_CONNECTING)
		return;
	listener = listener_find(a->world, a->address);
	if (!listener) {
		script_failed(a, a->unix_like ? ENOENT : ECONNREFUSED);
		return;
	}
	ASSERT(!listener->script);
	accept_at(listener, a);
	a->greeted = true;
	if (a->peer.events->on_open)
		a->peer.events->on_open(&a->peer);
	script_push(a);
}

static bool is_unix(const char *address)
{
	return strncmp(address, "unix:", 5) == 0;
}

static void copy_address(struct sim_end *e, const char *address)
{
	ASSERT(strlen(address) < sizeof(e->address));
	strcpy(e->address, address);
}

struct sim_peer *sim_connect(struct sim_world *w, const char *address,
			     const char *from,
			     const struct sim_peer_events *events, void *ctx)
{
	struct sim_end *a = end_new(w, is_unix(address), true);
	bool ok;

	copy_address(a, address);
	a->state = END_CONNECTING;
	a->peer.events = events;
	a->peer.ctx = ctx;
	if (!from)
		from = a->unix_like ? NULL : "192.0.2.1:40000";
	if (from) {
		ok = net_addr_parse(slice_str(from), &a->peer_addr);
		ASSERT(ok);
	} else {
		a->peer_addr.sa.sa_family = AF_UNIX;
		a->peer_addr.len = sizeof(sa_family_t);
	}
	sim_after(w, net_latency(w, a->unix_like), on_script_connect, a);
	return &a->peer;
}

void sim_listen(struct sim_world *w, const char *address,
		const struct sim_peer_events *events, void *ctx)
{
	struct sim_end *e = end_new(w, is_unix(address), true);

	listener_open(e, address);
	e->peer.events = events;
	e->peer.ctx = ctx;
}

void sim_unlisten(struct sim_world *w, const char *address)
{
	for (struct sim_end *e = w->listeners; e; e = e->next_listener)
		if (e->state == END_LISTENING && e->script &&
		    strcmp(e->address, address) == 0)
			e->state = END_CLOSED;
}

static struct fate *fate_find(struct sim_world *w, const char *address)
{
	struct fate *f = w->fates;

	while (f && strcmp(f->address, address) != 0)
		f = f->next;
	return f;
}

void sim_set_fate(struct sim_world *w, const char *address, enum sim_fate fate)
{
	struct fate *f = fate_find(w, address);

	if (!f) {
		f = calloc(1, sizeof(*f));
		ASSERT(f && strlen(address) < sizeof(f->address));
		strcpy(f->address, address);
		f->next = w->fates;
		w->fates = f;
	}
	f->fate = fate;
}

/* The program's TCP connect comes to its end. */
static void on_program_connect(void *arg)
{
	struct sim_end *a = arg, *listener;
	struct fate *f;

	if (a->state != END_CONNECTING)
		return;
	listener = listener_find(a->world, a->address);
	f = fate_find(a->world, a->address);
	if (!listener || (f && f->fate == SIM_REFUSED)) {
		a->error = ECONNREFUSED;
		end_notify(a);
		return;
	}
	accept_at(listener, a);
	end_notify(a);
	if (listener->script)
		on_script_accept(a->other);
}

static int connect_unix(struct sim_world *w, const char *address,
			enum sim_fate fate, struct sim_end **out)
{
	struct sim_end *listener = listener_find(w, address), *a;

	if (fate == SIM_BLACKHOLE)
		return -EAGAIN;
	if (fate == SIM_REFUSED)
		return -ECONNREFUSED;
	if (!listener)
		return -ENOENT;
	a = *out = end_new(w, true, false);
	a->peer_addr.sa.sa_family = AF_UNIX;
	a->peer_addr.len = sizeof(sa_family_t);
	accept_at(listener, a);
	if (listener->script)
		sim_after(w, net_latency(w, true), on_script_accept, a->other);
	return 0;
}

int net_connect(struct sim_world *w, const struct net_addr *addr,
		struct sim_end **out)
{
	char text[NET_ADDR_TEXT];
	struct sim_end *a;
	enum sim_fate fate;
	struct fate *f;
	bool ok;

	net_addr_format(addr, text);
	f = fate_find(w, text);
	fate = f ? f->fate : SIM_NORMAL;
	if (addr->sa.sa_family == AF_UNIX)
		return connect_unix(w, text, fate, out);
	a = *out = end_new(w, false, false);
	copy_address(a, text);
	a->state = END_CONNECTING;
	ok = net_addr_parse(SLICE("198.51.100.1:50000"), &a->peer_addr);
	ASSERT(ok);
	if (fate != SIM_BLACKHOLE)
		sim_after(w, 2 * net_latency(w, false), on_program_connect, a);
	return 0;
}
