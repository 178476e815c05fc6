/* Connections: what is under way, what has come, what fits. */
#include "sim_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct sim_end *end_new(struct sim_world *w, bool unix_like, bool script)
{
	struct sim_end *e = calloc(1, sizeof(*e));
	size_t at;

	ASSERT(e);
	e->world = w;
	e->unix_like = unix_like;
	e->script = script;
	e->capacity = net_between(w, w->profile.buffer_min,
				  w->profile.buffer_max);
	e->ready.next = NULL;
	/* Never used again: whoever uses a closed one is found out. */
	e->id = w->next_id++;
	e->peer.world = w;
	e->peer.id = (unsigned)e->id;
	e->next = w->ends;
	w->ends = e;
	at = (size_t)(e->id - FIRST_FD);
	if (at >= w->by_id_size) {
		w->by_id_size = w->by_id_size ? 2 * w->by_id_size : 64;
		w->by_id = realloc(w->by_id,
				   w->by_id_size * sizeof(*w->by_id));
		ASSERT(w->by_id);
	}
	w->by_id[at] = e;
	if (!script)
		w->open_fds++;
	return e;
}

struct sim_end *end_of_fd(int fd)
{
	struct sim_world *w = sim_the();
	struct sim_end *e;

	ASSERT(fd >= FIRST_FD && fd < w->next_id);
	e = w->by_id[fd - FIRST_FD];
	ASSERT(!e->script && e->state != END_CLOSED);
	return e;
}

uint64_t net_latency(struct sim_world *w, bool unix_like)
{
	const struct sim_profile *p = &w->profile;
	uint64_t us = unix_like ?
		net_between(w, p->unix_latency_min, p->unix_latency_max) :
		net_between(w, p->tcp_latency_min, p->tcp_latency_max);

	if (net_chance(w, p->spike_chance))
		us += net_below(w, p->spike_max);
	return us;
}

/* ---- queues -------------------------------------------------------------- */

static void queue_put(struct seg_queue *q, struct seg *s)
{
	s->next = NULL;
	if (q->last)
		q->last->next = s;
	else
		q->first = s;
	q->last = s;
	q->bytes += s->n - s->pos;
}

static struct seg *queue_take(struct seg_queue *q)
{
	struct seg *s = q->first;

	q->first = s->next;
	if (!q->first)
		q->last = NULL;
	q->bytes -= s->n - s->pos;
	return s;
}

static void queue_clear(struct seg_queue *q)
{
	while (q->first)
		free(queue_take(q));
}

static size_t end_space(const struct sim_end *to)
{
	size_t used = to->flight.bytes + to->visible.bytes;

	return used < to->capacity ? to->capacity - used : 0;
}

/* ---- edges --------------------------------------------------------------- */

static bool end_writable(const struct sim_end *e)
{
	const struct sim_end *to = e->other;

	if (e->state != END_OPEN)
		return false;
	if (e->broken || e->fin_out || to->state == END_CLOSED)
		return true;
	return !e->choked && end_space(to) > to->capacity / 3;
}

unsigned end_mask(const struct sim_end *e)
{
	unsigned mask = 0;

	if (e->state == END_LISTENING)
		return e->backlog ? WATCH_READ : 0;
	/* libevent makes this of EPOLLERR, whatever else is set. */
	if (e->error)
		return WATCH_READ | WATCH_WRITE;
	if (e->visible.bytes || e->fin_in || e->broken)
		mask |= WATCH_READ;
	if (e->fin_in || e->broken)
		mask |= WATCH_HUP;
	if (end_writable(e))
		mask |= WATCH_WRITE;
	return mask;
}

void end_notify(struct sim_end *e)
{
	struct sim_loop *l;

	if (e->script) {
		script_deliver(e);
		return;
	}
	if (!e->watch || list_linked(&e->ready))
		return;
	l = container_of(e->watch->loop, struct sim_loop, pub);
	cds_list_add_tail(&e->ready, &l->ready);
}

/* The reader has taken some: whoever waits for space may have it. */
static void end_space_freed(struct sim_end *reader)
{
	struct sim_end *writer = reader->other;

	if (!writer || writer->state == END_CLOSED)
		return;
	if (writer->script) {
		script_push(writer);
		return;
	}
	/* A Unix socket tells every time, a TCP socket who has waited. */
	if (!writer->no_space && !writer->unix_like)
		return;
	if (!end_writable(writer))
		return;
	writer->no_space = false;
	end_notify(writer);
}

static void on_unchoke(void *arg)
{
	struct sim_end *e = arg;

	e->choked = false;
	if (e->state != END_OPEN)
		return;
	if (e->script)
		script_push(e);
	else if (end_writable(e))
		end_notify(e);
}

static void choke(struct sim_end *e)
{
	e->choked = true;
	sim_after(e->world, 1 + net_below(e->world, 3000), on_unchoke, e);
}

/* ---- what is under way --------------------------------------------------- */

static void end_reset(struct sim_end *e)
{
	if (e->broken)
		return;
	e->error = e->fin_in ? EPIPE : ECONNRESET;
	e->broken = true;
	queue_clear(&e->flight);
}

static void arrive(struct sim_end *e, struct seg *s)
{
	struct sim_world *w = e->world;

	sim_note(w, (uint64_t)e->id << 8 | s->kind, s->n);
	if (e->state == END_CLOSED) {
		/* Nobody there any more, says the system. */
		if (s->kind == SEG_DATA && e->other->state != END_CLOSED)
			end_send_rst(e, false);
		free(s);
		return;
	}
	switch (s->kind) {
	case SEG_DATA:
		queue_put(&e->visible, s);
		end_notify(e);
		return;
	case SEG_FIN:
		e->fin_in = true;
		break;
	case SEG_RST:
		end_reset(e);
		break;
	}
	sim_trace(w, "%d gets %s", e->id, s->kind == SEG_FIN ? "fin" : "rst");
	free(s);
	end_notify(e);
}

static void on_arrival(void *arg)
{
	struct sim_end *e = arg;

	while (e->flight.first && e->flight.first->at_us <= e->world->now_us)
		arrive(e, queue_take(&e->flight));
}

/* Puts one piece under way to e; it cannot overtake what is before it. */
static void post_seg(struct sim_end *to, enum seg_kind kind, const char *p,
		     size_t n)
{
	struct sim_world *w = to->world;
	struct seg *s = malloc(sizeof(*s) + n);
	uint64_t at = w->now_us + net_latency(w, to->unix_like);

	ASSERT(s);
	if (at < to->last_at_us)
		at = to->last_at_us;
	to->last_at_us = at;
	s->at_us = at;
	s->kind = kind;
	s->pos = 0;
	s->n = n;
	if (n)
		memcpy(s->data, p, n);
	queue_put(&to->flight, s);
	sim_after(w, at - w->now_us, on_arrival, to);
}

static void post_data(struct sim_end *to, const char *p, size_t n)
{
	struct sim_world *w = to->world;

	while (n) {
		size_t piece = n;

		if (n > 1 && net_chance(w, w->profile.split_chance))
			piece = 1 + net_below(w, net_chance(w, 500) ?
					      min_size(n, 16) : n);
		post_seg(to, SEG_DATA, p, piece);
		p += piece;
		n -= piece;
	}
}

/* As much of n bytes as fits and the dice let through; 0: none now. */
size_t end_send(struct sim_end *e, const char *p, size_t n)
{
	struct sim_world *w = e->world;
	size_t take = min_size(n, end_space(e->other));

	if (e->other->state == END_CLOSED) {
		take = n;	/* it goes, and a reset comes back */
	} else if (e->choked) {
		take = 0;
	} else if (take && net_chance(w, w->profile.refuse_chance)) {
		take = 0;
		choke(e);
	} else if (take && net_chance(w, w->profile.short_chance)) {
		take = 1 + net_below(w, take);
		if (take < n)
			choke(e);
	}
	if (take < n)
		e->no_space = true;
	post_data(e->other, p, take);
	return take;
}

void end_send_fin(struct sim_end *e)
{
	if (e->fin_out)
		return;
	e->fin_out = true;
	if (e->other->state != END_CLOSED)
		post_seg(e->other, SEG_FIN, NULL, 0);
}

/* overtake: what is under way is lost. */
void end_send_rst(struct sim_end *e, bool overtake)
{
	struct sim_end *to = e->other;

	e->fin_out = true;
	if (to->state == END_CLOSED || to->broken)
		return;
	if (overtake) {
		queue_clear(&to->flight);
		to->last_at_us = 0;
	}
	post_seg(to, SEG_RST, NULL, 0);
}

size_t end_take(struct sim_end *e, char *buf, size_t n)
{
	size_t got = 0;

	while (got < n && e->visible.first) {
		struct seg *s = e->visible.first;
		size_t part = min_size(n - got, s->n - s->pos);

		memcpy(buf + got, s->data + s->pos, part);
		got += part;
		s->pos += part;
		e->visible.bytes -= part;
		if (s->pos == s->n)
			free(queue_take(&e->visible));
	}
	if (got)
		end_space_freed(e);
	return got;
}

void end_close(struct sim_end *e, bool hard)
{
	bool unread = e->visible.bytes || (e->unix_like && e->flight.bytes);
	bool connected = e->state == END_OPEN && e->other;
	bool listening = e->state == END_LISTENING;

	ASSERT(e->state != END_CLOSED);
	sim_trace(e->world, "%d closes%s", e->id, hard ? " hard" : "");
	sim_note(e->world, (uint64_t)e->id, hard);
	e->state = END_CLOSED;
	if (list_linked(&e->ready))
		list_take(&e->ready);
	if (!e->script)
		e->world->open_fds--;
	if (listening) {
		/* What waited in it is reset. */
		while (e->backlog) {
			struct sim_end *c = listener_take(e);

			end_close(c, true);
		}
		return;
	}
	queue_clear(&e->visible);
	if (!connected)
		return;
	if (hard || unread)
		end_send_rst(e, hard && !e->unix_like &&
			     net_chance(e->world, 500));
	else
		end_send_fin(e);
	/* A writer on a Unix socket learns of it at once. */
	if (e->unix_like && !e->other->script)
		end_notify(e->other);
}

/* ---- listeners ----------------------------------------------------------- */

/* One of those that listen at address: the dice say which. */
struct sim_end *listener_find(struct sim_world *w, const char *address)
{
	struct sim_end *found = NULL;
	uint64_t n = 0;

	for (struct sim_end *e = w->listeners; e; e = e->next_listener)
		if (e->state == END_LISTENING &&
		    strcmp(e->address, address) == 0 &&
		    net_below(w, ++n) == 0)
			found = e;
	return found;
}

void listener_open(struct sim_end *e, const char *address)
{
	ASSERT(strlen(address) < sizeof(e->address));
	strcpy(e->address, address);
	e->state = END_LISTENING;
	e->next_listener = e->world->listeners;
	e->world->listeners = e;
}

struct sim_end *listener_take(struct sim_end *listener)
{
	struct sim_end *e = listener->backlog;

	if (e)
		listener->backlog = e->backlog_next;
	return e;
}
