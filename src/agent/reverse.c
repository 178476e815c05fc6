/* See reverse.h. */
#include "agent/reverse.h"

#include <errno.h>
#include <stdio.h>

#include "agent/internal.h"
#include "base/mem.h"

#define GUESTS_MAX	64u
#define ACCEPT_BATCH	16u
#define ACCEPT_LAST	1024u
#define ACCEPT_RETRY_US	100000u
#define READ_US		5000000u	/* for the registration */
#define LINGER_US	1000000u	/* for the peer to read its refusal */
#define LINGER_BYTES	(64u * 1024)	/* that it may send yet */
#define REFUSED_LOG_US	1000000u	/* between two such lines */
#define CONNECTION_ID	17

struct guest {
	struct cds_list_head node;	/* in reverse->guests, oldest first */
	struct reverse *reverse;
	struct watch watch;
	struct deadline deadline;
	struct task reap;
	int fd;				/* -1: given away */
	bool refused;
	unsigned char head[FRAME_HEAD];
	unsigned n_head;
	size_t n, have;			/* of the payload */
	size_t dropped;			/* sent after its refusal */
	char *payload;
};

struct reverse {
	struct loop *loop;
	struct agent_table *table;
	struct watch watch;
	struct deadline retry;
	int fd;				/* -1: does not listen */
	bool draining;
	struct worker_metrics *metrics;
	struct cds_list_head guests;
	unsigned n_guests;
	struct log_limit lines;		/* of refusals */
};

struct refusal {
	enum metrics_registration why;
	const char *text;
};

static const struct refusal no_memory = {
	METRICS_REG_OVERLOAD, "out of memory",
};
static const struct refusal stopping = {
	METRICS_REG_NOT_READY, "the proxy is shutting down",
};

/* One that was let in, on its way to its worker. */
struct arrival {
	struct post post;
	struct hub *hub;
	struct metrics *metrics;
	int fd;
	struct wire_registration registration;
	char connection_id[CONNECTION_ID];
	uint32_t uid, gid;
};

/* ---- answers -------------------------------------------------------------- */

/* Into the empty buffer of a new connection: all at once or never. Needs no
 * memory. */
static void send_refusal(int fd, bool go, const char *text)
{
	char frame[WIRE_REFUSAL_MAX];
	struct iovec iov = {
		.iov_base = frame,
		.iov_len = wire_put_refusal(frame, go, text),
	};

	if (sock_sendv(fd, &iov, 1) < 0)
		log_debug("agent_refused", "error=\"it could not be told\"");
}

static void guest_reap(struct task *t)
{
	struct guest *g = container_of(t, struct guest, reap);

	mem_free(g->payload);
	mem_free(g);
}

static void guest_close(struct guest *g)
{
	struct reverse *r = g->reverse;

	watch_stop(&g->watch);
	deadline_stop(&g->deadline);
	if (g->fd >= 0)
		sock_close(g->fd, false);
	g->fd = -1;
	cds_list_del(&g->node);
	r->n_guests--;
	loop_defer_reap(r->loop, &g->reap, guest_reap);
}

static void on_linger_over(struct deadline *d)
{
	guest_close(container_of(d, struct guest, deadline));
}

static bool is_go(const struct guest *g)
{
	return g->n_head == FRAME_HEAD &&
	       g->head[FRAME_HEAD - 1] == FRAME_GO_REGISTER;
}

static void log_refused(struct reverse *r, const char *agent, const char *text)
{
	unsigned left_out;

	if (log_limit_admits(&r->lines, r->loop->now_us, 1, REFUSED_LOG_US,
			     &left_out))
		log_warn("agent_refused", "agent=\"%s\" error=\"%s\" "
			 "left_out=%u", agent, text, left_out);
}

/*
 * What it has sent and we have not read would make closing a reset, which may
 * overtake the refusal: it is read and dropped until the peer has closed, or
 * has sent more than one in good faith would.
 */
static void guest_refuse(struct guest *g, const char *agent,
			 const struct refusal *refusal)
{
	struct reverse *r = g->reverse;

	send_refusal(g->fd, is_go(g), refusal->text);
	sock_shutdown(g->fd);
	counter_inc(&r->metrics->registrations[refusal->why]);
	log_refused(r, agent, refusal->text);
	g->refused = true;
	deadline_start(r->loop, &g->deadline, LINGER_US, on_linger_over);
}

static void guest_malformed(struct guest *g, const char *text)
{
	guest_refuse(g, "", &(struct refusal){ METRICS_REG_MALFORMED, text });
}

/* ---- checks (page 9.3) ---------------------------------------------------- */

/* Takes as long for a wrong one as for the right one. */
static bool same_secret(const char *want, const char *got, size_t n)
{
	size_t want_n = strlen(want);
	size_t diff = want_n ^ n;

	for (size_t i = 0; i < n; i++) {
		diff |= (unsigned char)(got[i] ^ want[i % (want_n + 1)]);
		__asm__ volatile("" : "+r"(diff));
	}
	return diff == 0;
}

static bool knows_token(const struct agent *a,
			const struct wire_registration *reg)
{
	const char *want = a && a->config.reverse_token ?
			   a->config.reverse_token : "no such agent";
	bool same = same_secret(want, reg->token, reg->token_len);

	return same || (a && !a->config.reverse_token);
}

static bool is_right_peer(const struct config_agent *c, int fd, uint32_t *uid,
			  uint32_t *gid)
{
	int error = sock_peer_cred(fd, uid, gid);

	if (!c->peer_uid && !c->peer_gid)
		return true;
	return error == 0 && (!c->peer_uid || c->peer_uid - 1 == *uid) &&
	       (!c->peer_gid || c->peer_gid - 1 == *gid);
}

static const char *wrong_dialect(const struct config_agent *c, bool go)
{
	if (go && c->dialect == DIALECT_V2)
		return "this agent's dialect is v2";
	if (!go && c->dialect == DIALECT_GO)
		return "this agent's dialect is go";
	if (go && c->config_json && c->config_json[0] != '{')
		return "this agent's config is no object: not for go-v2";
	return NULL;
}

/* What may be said to whom we don't know is one text. Reserves the link. */
static bool check(struct reverse *r, struct arrival *v, struct loop **loop,
		  struct refusal *refusal)
{
	const struct wire_registration *reg = &v->registration;
	struct agent *a = agent_table_find_rcu(r->table, reg->id);
	const char *wrong;

	if (a && !a->hub)
		a = NULL;
	if (!knows_token(a, reg) || !a ||
	    !is_right_peer(&a->config, v->fd, &v->uid, &v->gid)) {
		*refusal = (struct refusal){ METRICS_REG_NOT_ACCEPTED,
			"agent_id or auth_token is not accepted" };
		return false;
	}
	wrong = wrong_dialect(&a->config, reg->go);
	if (wrong) {
		*refusal = (struct refusal){ METRICS_REG_DIALECT, wrong };
		return false;
	}
	if (!hub_reserve(a->hub, a->config.max_connections, loop)) {
		*refusal = *loop ? (struct refusal){ METRICS_REG_TOO_MANY,
				"this agent has too many links" } :
			(struct refusal){ METRICS_REG_NOT_READY,
				"the proxy is not ready" };
		return false;
	}
	v->hub = hub_get(a->hub);
	v->metrics = a->metrics;
	return true;
}

/* ---- letting in ------------------------------------------------------------ */

static void log_arrival(const struct agent_local *l, const struct arrival *v)
{
	const struct wire_registration *reg = &v->registration;
	char more[MORE_TEXT];

	if (!instance_may_log(l, &l->agent->instances[0], more))
		return;
	log_info("agent_registered", "agent=%s dialect=%s worker=%u "
		 "connection=%s name=\"%s\" version=\"%s\" uid=%d gid=%d "
		 "metadata=\"%s\"%s", l->agent->config.name,
		 reg->go ? "go" : "v2", l->loop->index, v->connection_id,
		 reg->says.name, reg->says.version, (int)v->uid, (int)v->gid,
		 reg->metadata, more);
}

/* It was let in, and cannot be kept. l NULL: its agent has been removed. */
static void arrival_refuse(const struct arrival *v, const struct agent_local *l)
{
	const char *error = l ? no_memory.text : "the agent was removed";
	char more[MORE_TEXT] = "";

	send_refusal(v->fd, v->registration.go, error);
	if (!l || instance_may_log(l, &l->agent->instances[0], more))
		log_warn("agent_refused", "agent=\"%s\" error=\"%s\"%s",
			 v->registration.id, error, more);
	sock_close(v->fd, false);
}

/* On its worker. */
static void on_arrival(struct loop *loop, struct post *p)
{
	struct arrival *v = container_of(p, struct arrival, post);
	struct agent_local *l = hub_local(v->hub, loop);
	struct wire_registered answer = {
		.go = v->registration.go, .proxy_id = "agentproxyd",
		.connection_id = v->connection_id,
	};
	enum metrics_registration result = METRICS_REG_OK;

	if (l)
		answer.config_json = answer.go ? l->agent->config.config_json :
						 NULL;
	if (l)
		log_arrival(l, v);
	if (!l || !link_adopt(l, v->fd, &answer, &v->registration.says)) {
		result = l ? no_memory.why : METRICS_REG_NOT_ACCEPTED;
		arrival_refuse(v, l);
		hub_release(v->hub, loop);
	} else {
		counter_inc(&l->metrics->registered);
	}
	counter_inc(&metrics_worker(v->metrics, loop->index)->
		    registrations[result]);
	hub_put(v->hub);
	mem_free(v);
}

static bool guest_may_enter(struct guest *g, struct arrival *v,
			    struct loop **loop, struct refusal *refusal)
{
	struct reverse *r = g->reverse;
	bool may;

	if (!wire_decode_registration(g->head[FRAME_HEAD - 1],
				      slice_of(g->payload, g->n),
				      &v->registration)) {
		*refusal = (struct refusal){ METRICS_REG_MALFORMED,
					     v->registration.error };
		return false;
	}
	if (r->draining) {
		*refusal = stopping;
		return false;
	}
	rcu_enter();
	may = check(r, v, loop, refusal);
	rcu_leave();
	return may;
}

static void guest_register(struct guest *g)
{
	struct arrival *v = mem_zalloc(sizeof(*v));
	struct loop *loop = NULL;
	struct refusal refusal;
	uint64_t random;

	if (!v) {
		guest_refuse(g, "", &no_memory);
		return;
	}
	v->fd = g->fd;
	v->uid = v->gid = (uint32_t)-1;
	if (!guest_may_enter(g, v, &loop, &refusal)) {
		guest_refuse(g, v->registration.id, &refusal);
		mem_free(v);
		return;
	}
	sock_random(&random, sizeof(random));
	snprintf(v->connection_id, sizeof(v->connection_id), "%016llx",
		 (unsigned long long)random);
	watch_stop(&g->watch);
	g->fd = -1;
	guest_close(g);
	loop_post(loop, &v->post, on_arrival);
}

/* ---- reading ---------------------------------------------------------------- */

/* Its head is there, or the four bytes of it that say the length. */
static void guest_on_head(struct guest *g)
{
	const unsigned char *h = g->head;
	size_t n = (size_t)h[0] << 24 | (size_t)h[1] << 16 |
		   (size_t)h[2] << 8 | h[3];
	uint8_t type = h[FRAME_HEAD - 1];

	if (n == 0) {
		guest_malformed(g, "a frame of illegal length");
		return;
	}
	if (g->n_head < FRAME_HEAD)
		return;
	if (type != FRAME_HANDSHAKE && type != FRAME_GO_REGISTER) {
		guest_malformed(g, "the first frame is no registration");
		return;
	}
	if (n > FRAME_HANDSHAKE_MAX) {
		guest_malformed(g, "a frame of illegal length");
		return;
	}
	g->n = n - 1;
	g->payload = mem_alloc(g->n);
	if (!g->payload)
		guest_refuse(g, "", &no_memory);
	else if (g->n == 0)
		guest_register(g);
}

/* So many bytes came, where guest_room() said. */
static void guest_on_bytes(struct guest *g, size_t n)
{
	if (g->refused)
		return;
	if (!g->payload) {
		g->n_head += (unsigned)n;
		if (g->n_head >= 4)
			guest_on_head(g);
		return;
	}
	g->have += n;
	if (g->have == g->n)
		guest_register(g);
}

/* Never more than the registration: what follows it is for its worker. */
static char *guest_room(struct guest *g, char *trash, size_t *n)
{
	if (g->refused)
		return trash;
	if (!g->payload) {
		/* The fifth byte may never come. */
		*n = (g->n_head < 4 ? 4 : FRAME_HEAD) - g->n_head;
		return (char *)g->head + g->n_head;
	}
	*n = g->n - g->have;
	return g->payload + g->have;
}

/* It may be closed by this. */
static void guest_read(struct guest *g)
{
	char trash[4096];

	while (g->fd >= 0) {
		size_t room = sizeof(trash);
		char *to = guest_room(g, trash, &room);
		ssize_t n = sock_recv(g->fd, to, room);

		if (n == -EAGAIN)
			return;
		if (n == 0 && !g->refused)
			guest_malformed(g, "the registration is cut off");
		if (n <= 0) {
			guest_close(g);
			return;
		}
		if (g->refused && (g->dropped += (size_t)n) > LINGER_BYTES) {
			guest_close(g);
			return;
		}
		guest_on_bytes(g, (size_t)n);
	}
}

static void on_guest(struct watch *w, unsigned what)
{
	guest_read(container_of(w, struct guest, watch));
}

static void on_guest_late(struct deadline *d)
{
	static const struct refusal late = {
		METRICS_REG_LATE, "no registration in time",
	};
	struct guest *g = container_of(d, struct guest, deadline);

	/* It may stand in the socket. */
	guest_read(g);
	if (g->fd < 0 || g->refused)
		return;
	guest_refuse(g, "", &late);
	guest_read(g);
}

/* ---- the door --------------------------------------------------------------- */

/* No memory to keep it: answered in the dialect that its first bytes have, if
 * they are there, for a go-v2 agent dies without. */
static void refuse_at_once(struct reverse *r, int fd)
{
	char trash[4096];
	ssize_t n = sock_recv(fd, trash, sizeof(trash));

	send_refusal(fd, n >= FRAME_HEAD &&
			 trash[FRAME_HEAD - 1] == FRAME_GO_REGISTER,
		     no_memory.text);
	counter_inc(&r->metrics->registrations[no_memory.why]);
	log_refused(r, "", no_memory.text);
	sock_close(fd, false);
}

/* In the middle of whatever it does: answered, if it was not, and closed. */
static void guest_send_away(struct guest *g, const struct refusal *refusal)
{
	if (!g->refused)
		guest_read(g);
	if (g->fd < 0)
		return;
	if (!g->refused) {
		guest_refuse(g, "", refusal);
		guest_read(g);
	}
	if (g->fd >= 0)
		guest_close(g);
}

static void guest_new(struct reverse *r, int fd)
{
	static const struct refusal crowded = {
		METRICS_REG_CROWDED, "too many wait for a registration",
	};
	struct guest *g;

	if (r->n_guests >= GUESTS_MAX)
		guest_send_away(cds_list_first_entry(&r->guests, struct guest,
						     node), &crowded);
	g = mem_zalloc(sizeof(*g));
	if (!g) {
		refuse_at_once(r, fd);
		return;
	}
	g->reverse = r;
	g->fd = fd;
	cds_list_add_tail(&g->node, &r->guests);
	r->n_guests++;
	deadline_start(r->loop, &g->deadline, READ_US, on_guest_late);
	if (!watch_start_quiet(r->loop, &g->watch, fd, on_guest))
		guest_send_away(g, &no_memory);
	else
		guest_read(g);
}

static void on_acceptable(struct watch *w, unsigned what);

static void on_accept_retry(struct deadline *d)
{
	struct reverse *r = container_of(d, struct reverse, retry);

	if (!watch_start_listener(r->loop, &r->watch, r->fd, on_acceptable))
		deadline_start(r->loop, d, ACCEPT_RETRY_US, on_accept_retry);
}

static void accept_some(struct reverse *r, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		struct net_addr from;
		int fd = sock_accept(r->fd, &from);

		if (fd >= 0) {
			guest_new(r, fd);
			continue;
		}
		if (fd == -EAGAIN)
			return;
		if (fd != -EMFILE && fd != -ENFILE && fd != -ENOBUFS &&
		    fd != -ENOMEM)
			continue;	/* that one went away by itself */
		log_refused(r, "", strerror(-fd));
		watch_stop(&r->watch);
		deadline_start(r->loop, &r->retry, ACCEPT_RETRY_US,
			       on_accept_retry);
		return;
	}
}

static void on_acceptable(struct watch *w, unsigned what)
{
	accept_some(container_of(w, struct reverse, watch), ACCEPT_BATCH);
}

struct reverse *reverse_new(struct loop *loop, struct agent_table *table,
			    struct worker_metrics *metrics)
{
	struct reverse *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->loop = loop;
	r->table = table;
	r->metrics = metrics;
	r->fd = -1;
	CDS_INIT_LIST_HEAD(&r->guests);
	return r;
}

void reverse_free(struct reverse *r)
{
	if (!r)
		return;
	reverse_drain(r);
	reverse_unlisten(r, false);
	while (!cds_list_empty(&r->guests))
		guest_send_away(cds_list_first_entry(&r->guests, struct guest,
						     node), &stopping);
	mem_free(r);
}

bool reverse_listen(struct reverse *r, int fd)
{
	reverse_unlisten(r, false);
	r->fd = fd;
	if (watch_start_listener(r->loop, &r->watch, fd, on_acceptable))
		return true;
	r->fd = -1;
	return false;
}

void reverse_unlisten(struct reverse *r, bool accept_waiting)
{
	if (r->fd < 0)
		return;
	if (accept_waiting)
		accept_some(r, ACCEPT_LAST);
	watch_stop(&r->watch);
	deadline_stop(&r->retry);
	r->fd = -1;
}

void reverse_drain(struct reverse *r)
{
	r->draining = true;
}
