/*
 * Connections of one worker to the servers of a group.
 *
 *	(spare) -> connecting -> leased <-> idle
 *	  any -> closed -> (spare, or freed) at the end of the turn
 *
 * One leaves connecting by on_connect() or its deadline; idle by a lease, by
 * on_close() when the server ends it, by the sweep, or pushed out as the
 * oldest when the pool is full.
 */
#include "upstream/internal.h"

#include <errno.h>

#include "base/mem.h"

#define SPARE_MAX	64u
#define SWEEP_MIN_US	1000000u

static void on_connect(struct h1_conn *h1, int error);
static void on_close(struct h1_conn *h1, enum message_fault why);
static void lease_connect(struct upstream_lease *l,
			  struct upstream_server *s);

static const struct h1_events conn_events = {
	.on_connect = on_connect,
	.on_close = on_close,
};

static struct upstream_local *local_of(const struct upstream_conn *conn)
{
	struct upstream *u = conn->upstream;

	return u->local[conn->h1.stream.loop->index];
}

/* ---- memory -------------------------------------------------------------- */

static struct upstream_conn *conn_new(struct upstream_local *local)
{
	struct upstream_conn *conn;

	if (!cds_list_empty(&local->free)) {
		conn = cds_list_first_entry(&local->free, struct upstream_conn,
					    node);
		list_take(&conn->node);
		local->n_free--;
	} else {
		conn = mem_alloc(sizeof(*conn));
		if (!conn)
			return NULL;
	}
	/* h1_connect() clears its own part. */
	memset((char *)conn + sizeof(conn->h1), 0,
	       sizeof(*conn) - sizeof(conn->h1));
	local->n_conns++;
	return conn;
}

static void conn_free(struct upstream_local *local, struct upstream_conn *conn)
{
	local->n_conns--;
	if (local->closed || local->n_free >= SPARE_MAX) {
		mem_free(conn);
		return;
	}
	cds_list_add(&conn->node, &local->free);
	local->n_free++;
}

static void on_reap(struct task *t)
{
	struct upstream_conn *conn = container_of(t, struct upstream_conn,
						  reap);

	if (!conn->upstream) {
		mem_free(conn);
		return;
	}
	list_take(&conn->node);
	conn_free(local_of(conn), conn);
}

/* The group may go before it. */
static void conn_orphan(struct upstream_conn *conn)
{
	local_of(conn)->n_conns--;
	conn->upstream = NULL;
	conn->server = NULL;
}

/* It is in no list and no lease any more. */
static void conn_close(struct upstream_conn *conn, bool hard)
{
	deadline_stop(&conn->deadline);
	if (conn->upstream)
		cds_list_add(&conn->node, &local_of(conn)->closing);
	h1_close(&conn->h1, hard);
	loop_defer_reap(conn->h1.stream.loop, &conn->reap, on_reap);
}

/* ---- counts -------------------------------------------------------------- */

static void count_active(struct upstream_conn *conn, bool up)
{
	struct upstream_local *local = local_of(conn);
	struct upstream_server *s = conn->server;
	uint64_t n = up ? 1 : (uint64_t)-1;

	s->active += (unsigned)n;
	counter_add(&s->metrics->active, n);
	counter_add(&local->metrics->active, n);
}

static void count_idle(struct upstream_conn *conn, bool up)
{
	struct upstream_local *local = local_of(conn);
	uint64_t n = up ? 1 : (uint64_t)-1;

	local->n_idle += (unsigned)n;
	counter_add(&conn->server->metrics->idle, n);
	counter_add(&local->metrics->idle, n);
}

/* ---- kept connections ---------------------------------------------------- */

static void pool_take(struct upstream_conn *conn)
{
	list_take(&conn->node);
	list_take(&conn->age);
	count_idle(conn, false);
}

static void pool_close(struct upstream_conn *conn)
{
	pool_take(conn);
	conn_close(conn, false);
}

static struct upstream_conn *pool_oldest(struct upstream_local *local)
{
	return cds_list_entry(local->ages.prev, struct upstream_conn, age);
}

static void on_sweep(struct deadline *d)
{
	struct upstream_local *local = container_of(d, struct upstream_local,
						    sweep);
	uint64_t now = local->loop->now_us, idle = local->upstream->idle_us;

	while (local->n_idle && now - pool_oldest(local)->since_us >= idle)
		pool_close(pool_oldest(local));
	if (local->n_idle)
		deadline_start(local->loop, d, idle / 4 + SWEEP_MIN_US,
			       on_sweep);
}

static void pool_put(struct upstream_conn *conn)
{
	struct upstream_local *local = local_of(conn);

	if (local->n_idle >= local->upstream->keepalive)
		pool_close(pool_oldest(local));
	conn->since_us = local->loop->now_us;
	cds_list_add(&conn->node, &conn->server->idle);
	cds_list_add(&conn->age, &local->ages);
	count_idle(conn, true);
	if (local->upstream->idle_us && !deadline_running(&local->sweep))
		deadline_start(local->loop, &local->sweep,
			       local->upstream->idle_us / 4 + SWEEP_MIN_US,
			       on_sweep);
}

/* Idle: in the pool, or leased and not yet used. The holder of a lease finds
 * out by h1_begin_request(). */
static void on_close(struct h1_conn *h1, enum message_fault why)
{
	struct upstream_conn *conn = container_of(h1, struct upstream_conn,
						  h1);

	if (!conn->lease)
		pool_close(conn);
}

void upstream_local_close(struct upstream *u, struct loop *loop)
{
	struct upstream_local *local = u->local[loop->index];

	local->closed = true;
	checks_stop(u, loop);
	deadline_stop(&local->sweep);
	while (local->n_idle)
		pool_close(pool_oldest(local));
	while (!cds_list_empty(&local->closing)) {
		struct upstream_conn *conn = cds_list_first_entry(
			&local->closing, struct upstream_conn, node);

		list_take(&conn->node);
		conn_orphan(conn);
	}
	while (!cds_list_empty(&local->free)) {
		struct upstream_conn *conn = cds_list_first_entry(
			&local->free, struct upstream_conn, node);

		list_take(&conn->node);
		local->n_free--;
		mem_free(conn);
	}
}

/* ---- connecting ---------------------------------------------------------- */

static void server_failed(struct upstream_server *s, struct upstream *u,
			  uint64_t now_us, int error)
{
	char buf[64];
	const char *text = strerror_r(-error, buf, sizeof(buf));

	s->avoid_until_us = now_us + DOWN_US;
	server_failure(u, s->info, now_us, text);
	server_down(u, s->info, "connect", text);
}

enum fault upstream_fault_of(int error)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -ENOBUFS:
		return FAULT_OURS;
	case -EADDRNOTAVAIL:	/* no port left for this server */
	case -EAGAIN:		/* Unix: its backlog is full */
		return FAULT_BUSY;
	default:
		return FAULT_SERVER;
	}
}

static void lease_give(struct upstream_lease *l, struct upstream_conn *conn)
{
	l->conn = conn;
	l->connecting = NULL;
	l->pending = false;
	conn->lease = l;
	counter_inc(&conn->server->metrics->requests);
}

static void on_failed(struct task *t)
{
	struct upstream_lease *l = container_of(t, struct upstream_lease,
						task);
	struct upstream_local *local = l->upstream->local[l->loop->index];

	l->pending = false;
	counter_inc(&local->metrics->errors[l->error]);
	l->on_ready(l, l->error);
}

/* The connect under way is over and was none. */
static void connect_failed(struct upstream_conn *conn, int error)
{
	struct upstream_lease *l = conn->lease;

	l->connecting = NULL;
	l->error = error == -ETIMEDOUT ? UPSTREAM_TIMEOUT : UPSTREAM_REFUSED;
	server_failed(conn->server, conn->upstream, l->loop->now_us, error);
	count_active(conn, false);
	conn->lease = NULL;
	conn_close(conn, false);
	lease_connect(l, balance_pick(local_of(conn), l->loop->now_us,
				      l->tried_mask, l->hash));
}

static void on_connect(struct h1_conn *h1, int error)
{
	struct upstream_conn *conn = container_of(h1, struct upstream_conn,
						  h1);
	struct upstream_lease *l = conn->lease;

	if (error) {
		connect_failed(conn, error);
		return;
	}
	deadline_stop(&conn->deadline);
	conn->connect_us = l->loop->now_us - conn->since_us;
	conn->server->avoid_until_us = 0;
	lease_give(l, conn);
	l->on_ready(l, UPSTREAM_OK);
}

static void on_connect_timeout(struct deadline *d)
{
	connect_failed(container_of(d, struct upstream_conn, deadline),
		       -ETIMEDOUT);
}

/* False: it failed at once; l->error says how. */
static bool start_connect(struct upstream_lease *l,
			  struct upstream_local *local,
			  struct upstream_server *s)
{
	struct upstream *u = local->upstream;
	struct upstream_conn *conn = conn_new(local);
	int error;

	if (!conn) {
		l->error = UPSTREAM_NO_MEMORY;
		return false;
	}
	conn->upstream = u;
	conn->server = s;
	conn->lease = l;
	conn->since_us = l->loop->now_us;
	error = h1_connect(&conn->h1, l->loop, &s->info->addr, &u->settings,
			   &conn_events);
	if (error) {
		enum fault fault = upstream_fault_of(error);

		l->error = fault == FAULT_OURS ? UPSTREAM_NO_MEMORY :
						 UPSTREAM_REFUSED;
		if (fault == FAULT_SERVER)
			server_failed(s, u, l->loop->now_us, error);
		conn_free(local, conn);
		return false;
	}
	count_active(conn, true);
	l->connecting = conn;
	deadline_start(l->loop, &conn->deadline, u->connect_us,
		       on_connect_timeout);
	return true;
}

/* Connects to s; if that fails at once to the next one that was not tried; with
 * none left (s is NULL) it gives up, by task. */
static void lease_connect(struct upstream_lease *l, struct upstream_server *s)
{
	struct upstream_local *local = l->upstream->local[l->loop->index];

	while (s) {
		if (l->tried_mask & ~l->skip_mask)
			counter_inc(&local->metrics->retries);
		l->tried_mask |= server_bit(server_index(local, s));
		l->attempts++;
		l->server = s->info->name;
		if (start_connect(l, local, s))
			return;
		if (l->error == UPSTREAM_NO_MEMORY)
			break;
		s = balance_pick(local, l->loop->now_us, l->tried_mask,
				 l->hash);
	}
	loop_defer(l->loop, &l->task, on_failed);
}

bool upstream_acquire(struct upstream *u, struct loop *loop,
		      struct upstream_lease *lease)
{
	struct upstream_local *local = u->local[loop->index];
	struct upstream_server *s;
	struct upstream_conn *conn;

	ASSERT(!lease->pending && !lease->conn);
	local->loop = loop;
	lease->upstream = u;
	lease->loop = loop;
	lease->tried_mask = lease->skip_mask;
	lease->error = UPSTREAM_REFUSED;
	s = balance_pick(local, loop->now_us, lease->tried_mask, lease->hash);
	if (UNLIKELY(!s && lease->skip_mask)) {
		lease->tried_mask = lease->skip_mask = 0;
		s = balance_pick(local, loop->now_us, 0, lease->hash);
	}
	if (UNLIKELY(lease->fresh || !s || cds_list_empty(&s->idle))) {
		lease->pending = true;
		lease_connect(lease, s);
		return false;
	}
	conn = cds_list_first_entry(&s->idle, struct upstream_conn, node);
	pool_take(conn);
	count_active(conn, true);
	conn->reused = true;
	conn->connect_us = 0;
	lease->attempts++;
	lease_give(lease, conn);
	return true;
}

/* ---- giving back --------------------------------------------------------- */

/* Leased, but nothing was sent on it. */
static bool conn_unused(const struct upstream_conn *conn)
{
	const struct stream *s = &conn->h1.stream;

	return conn->h1.state == H1_IDLE && s->read_end == STREAM_READING &&
	       !s->hup && !s->write_failed && stream_data(s).n == 0;
}

static void withdraw(struct upstream_lease *l)
{
	struct upstream_conn *conn = l->connecting;

	l->pending = false;
	task_cancel(&l->task);
	if (!conn)
		return;
	l->connecting = NULL;
	count_active(conn, false);
	conn->lease = NULL;
	conn_close(conn, true);
}

void upstream_release(struct upstream_lease *lease, bool reuse)
{
	struct upstream_conn *conn = lease->conn;
	struct h1_conn *h1;

	if (lease->pending)
		withdraw(lease);
	if (!conn)
		return;
	h1 = &conn->h1;
	lease->conn = NULL;
	conn->lease = NULL;
	if (UNLIKELY(!conn->upstream)) {
		conn_close(conn, false);
		return;
	}
	count_active(conn, false);
	if (reuse && conn->upstream->keepalive && !local_of(conn)->closed) {
		if (LIKELY(h1_reusable(h1))) {
			h1_next(h1);
			pool_put(conn);
			return;
		}
		if (conn_unused(conn)) {
			pool_put(conn);
			return;
		}
	}
	/* What is half done must not look like an orderly end. */
	conn_close(conn, !h1->request_done || !h1->response_done);
}

bool upstream_skip_server(struct upstream_lease *lease)
{
	struct upstream_conn *conn = lease->conn;

	if (!conn || !conn->upstream || conn->upstream->n_servers == 1)
		return false;
	lease->skip_mask = server_bit(server_index(local_of(conn),
						   conn->server));
	return true;
}

void upstream_orphan(struct upstream_lease *lease)
{
	struct upstream_conn *conn = lease->conn;

	if (!conn || !conn->upstream)
		return;
	count_active(conn, false);
	conn_orphan(conn);
	lease->upstream = NULL;
}

void upstream_report(struct upstream_lease *lease, enum upstream_error error)
{
	struct upstream *u = lease->upstream;

	if (u)
		counter_inc(&u->local[lease->loop->index]->metrics
				->errors[error]);
}

void upstream_report_retry(struct upstream_lease *lease)
{
	struct upstream *u = lease->upstream;

	if (u)
		counter_inc(&u->local[lease->loop->index]->metrics->retries);
}

const char *upstream_server_name(const struct upstream_conn *conn)
{
	return conn->server ? conn->server->info->name : "";
}
