/*
 * The life of one link: connect, handshake, up, lost, again.
 *
 *	DOWN --timer--> CONNECTING --> HANDSHAKE --accepted--> UP
 *	  ^-------------------+------------+-------------------+  link_lost()
 *
 * link_close() ends it in any state.
 */
#include <errno.h>
#include <stdio.h>

#include "agent/internal.h"
#include "base/mem.h"


static void on_connect(struct stream *s, int error);

static const struct stream_events link_events = {
	.on_connect = on_connect,
	.on_read = link_on_read,
	.on_room = link_on_room,
	.on_write_error = link_on_write_error,
};

static inline struct agent *link_agent(const struct link *link)
{
	return link->local->agent;
}

const char *const dialect_names[] = {
	[WIRE_V2] = "v2", [WIRE_GO] = "go", [WIRE_V1] = "v1",
};

/* ---- what is shared by all workers, on change only --------------------- */

/* What to do about it, for whoever reads the log. */
static const char *advice(enum cause cause, int code)
{
	switch (-code) {
	case ENOENT:
		return "start the agent, or correct the path";
	case ECONNREFUSED:
		return "nobody listens there: start the agent";
	case EACCES:
	case EPERM:
		return "give the proxy's user write access to the socket and "
		       "its directories";
	case EAGAIN:
		return "its backlog is full: the agent is stuck or too slow";
	case ENAMETOOLONG:
		return "the path is too long for a socket";
	case ENOTSOCK:
		return "something else stands at that path";
	}
	return cause == CAUSE_TIMEOUT ? "look whether the agent is stuck" :
	       cause == CAUSE_PROTOCOL ? "look at the agent's version and at "
					 "dialect" : "look at the agent's log";
}

/* One line for each change. */
static void log_down(const struct link *link, enum cause cause, int code,
		     const char *text)
{
	const char *path = link->instance->shared->path;
	const char *file = *path == '/' ? path : path + strcspn(path, "/");
	char owner[96], more[MORE_TEXT];

	if (!instance_may_log(link->local, link->instance->shared, more))
		return;
	if (link->dialled_in)
		snprintf(owner, sizeof(owner), "reverse=true");
	else
		sock_describe(file, owner, sizeof(owner));
	log_warn("agent_down", "agent=%s socket=%s cause=%s errno=%d "
		 "error=\"%s\" %s advice=\"%s\"%s",
		 link_agent(link)->config.name, path, cause_names[cause],
		 -code, text, owner, advice(cause, code), more);
}

/* Why it stays down is told once for each reason; that nobody is there yet is
 * no news. */
static bool is_new_reason(struct agent_instance *inst, enum cause cause,
			  int code)
{
	uint64_t bit = 1ull << (code ? 16 + (unsigned)-code % 48 :
				       (unsigned)cause);

	return !(__atomic_fetch_or(&inst->told, bit, __ATOMIC_RELAXED) & bit);
}

static void instance_note(struct link *link, enum cause cause, int code,
			  const char *text)
{
	struct agent_instance *inst = link->instance->shared;
	uint8_t was = INSTANCE_NEW;

	if (code && link->told_error == code)
		return;
	link->told_error = code;
	pthread_mutex_lock(&inst->lock);
	inst->error_cause = (uint8_t)cause;
	inst->error_wall_us = link->local->loop->wall_us;
	snprintf(inst->error_text, sizeof(inst->error_text), "%s", text);
	pthread_mutex_unlock(&inst->lock);
	/* The first thing that is known of it is that it is not there. */
	if (__atomic_compare_exchange_n(&inst->state, &was, INSTANCE_DOWN,
					false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED)) {
		(void)is_new_reason(inst, cause, code);
		log_down(link, cause, code, text);
	} else if (was == INSTANCE_DOWN && code != -ENOENT &&
		   code != -ECONNREFUSED &&
		   is_new_reason(inst, cause, code)) {
		log_down(link, cause, code, text);
	}
}

static void instance_gained(struct link *link)
{
	struct agent_instance *inst = link->instance->shared;
	char more[MORE_TEXT];

	__atomic_store_n(&inst->dialect, (uint8_t)link->format.dialect,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&inst->encoding,
			 link->format.encoding == WIRE_MSGPACK ? 2 : 1,
			 __ATOMIC_RELAXED);
	breaker_sign_of_life(link->local);
	__atomic_store_n(&inst->told, 0, __ATOMIC_RELAXED);
	if (__atomic_add_fetch(&inst->links_up, 1, __ATOMIC_RELAXED) != 1)
		return;
	if (__atomic_exchange_n(&inst->state, INSTANCE_UP,
				__ATOMIC_RELAXED) != INSTANCE_UP &&
	    instance_may_log(link->local, inst, more))
		log_info("agent_up", "agent=%s socket=%s dialect=%s "
			 "encoding=%s%s", link_agent(link)->config.name,
			 inst->path, dialect_names[link->format.dialect],
			 link->format.encoding == WIRE_MSGPACK ? "msgpack" :
			 "json", more);
}

static void instance_dropped(struct link *link, enum cause cause,
			     const char *text, bool quiet)
{
	struct agent_instance *inst = link->instance->shared;

	if (__atomic_sub_fetch(&inst->links_up, 1, __ATOMIC_RELAXED) != 0)
		return;
	/* What comes next is another process. */
	instance_set_report(link, AGENT_HEALTHY, 100, 0, "");
	__atomic_store_n(&inst->asked_us, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&inst->no_answers, false, __ATOMIC_RELAXED);
	if (quiet)
		__atomic_store_n(&inst->state, INSTANCE_NEW,
				 __ATOMIC_RELAXED);
	else if (__atomic_exchange_n(&inst->state, INSTANCE_DOWN,
				     __ATOMIC_RELAXED) != INSTANCE_DOWN) {
		(void)is_new_reason(inst, cause, 0);
		log_down(link, cause, 0, text);
	}
}

/* ---- states ------------------------------------------------------------ */

/* A borrowed link is another worker's: that one counts it. */
static void link_went_up(struct link *link)
{
	struct agent_local *l = link->local;

	ASSERT(l->n_up < l->max_up);
	link->up_index = l->n_up;
	l->up[l->n_up++] = link;
	counter_inc(&l->up_total);
	if (link->borrowed) {
		l->n_borrowed_up++;
		return;
	}
	counter_inc(&link->instance->links_up);
	counter_inc(&l->metrics->links_up);
	counter_dec(&l->metrics->links_connecting);
	if (link->was_up)
		counter_inc(&l->metrics->reconnects);
	link->was_up = true;
	link->told_error = 0;
	if (l->agent->hub)
		hub_link_up(link);
	instance_share_depth(l, link->instance);
	instance_gained(link);
	if (counter_read(&link->instance->links_up) == 1)
		instance_wake(link);
}

static void link_went_down(struct link *link)
{
	struct agent_local *l = link->local;

	if (l->again == link)
		l->again = NULL;
	l->up[link->up_index] = l->up[--l->n_up];
	l->up[link->up_index]->up_index = link->up_index;
	counter_dec(&l->up_total);
	if (link->stalled)
		counter_dec(&l->metrics->links_stalled);
	link->stalled = false;
	if (link->borrowed) {
		l->n_borrowed_up--;
		return;
	}
	counter_dec(&link->instance->links_up);
	counter_dec(&l->metrics->links_up);
	counter_inc(&l->metrics->links_connecting);
	if (l->agent->hub)
		hub_link_down(link);
	instance_share_depth(l, link->instance);
}

void link_set_state(struct link *link, enum link_state next)
{
	enum link_state was = (enum link_state)link->state;

	link->state = (uint8_t)next;
	if (next == LINK_UP)
		link_went_up(link);
	else if (was == LINK_UP)
		link_went_down(link);
}

static void link_reap(struct task *t)
{
	struct link *link = container_of(t, struct link, reap);

	arena_fini(&link->scratch);
	for (unsigned i = 0; i < EVENT_N; i++)
		recall_free(link->recall[i]);
	fifo_free(&link->fifo);
	mem_free(link->stopped);
	mem_free(link);
}

struct link *link_new(struct agent_local *l, struct instance_local *inst,
		      bool borrowed)
{
	struct link *link = mem_zalloc_aligned(sizeof(*link));

	if (!link)
		return NULL;
	link->local = l;
	link->instance = inst;
	link->borrowed = borrowed;
	CDS_INIT_LIST_HEAD(&link->sessions);
	CDS_INIT_LIST_HEAD(&link->waiting);
	CDS_INIT_LIST_HEAD(&link->late);
	CDS_INIT_LIST_HEAD(&link->lent);
	CDS_INIT_LIST_HEAD(&link->strangers);
	outq_init(&link->v1_held, &l->loop->blocks);
	outq_init(&link->stream.out, &l->loop->blocks);
	arena_init(&link->scratch, &l->loop->arenas);
	cds_list_add_tail(&link->node, &l->links);
	if (borrowed) {
		l->n_borrowed++;
		return link;
	}
	counter_inc(&inst->links);
	counter_inc(&l->metrics->links_connecting);
	return link;
}

bool link_open(struct agent_local *l, struct instance_local *inst, bool extra)
{
	struct link *link = link_new(l, inst, false);

	if (!link)
		return false;
	link->extra = extra;
	link_connect(link);
	return true;
}

/* Everything of the present connection goes; calls are told by tasks. */
static void link_drop(struct link *link, enum cause head_cause,
		      const char *text)
{
	struct entry *e;

	if (link->state != LINK_DOWN) {
		if (link->borrowed)
			loan_end(link);
		else
			stream_close(&link->stream, false);
		link_set_state(link, LINK_DOWN);
	}
	deadline_stop(&link->timer);
	deadline_stop(&link->pong);
	deadline_stop(&link->partial);
	deadline_stop(&link->check);
	link_control_reset(link);
	outq_clear(&link->v1_held);
	link->v1_bytes = 0;
	while ((e = fifo_head(&link->fifo)) != NULL) {
		struct agent_call *call = e->owner;

		fifo_remove(&link->fifo, e);
		if (call && call->lent) {
			lend_failed(link, call, head_cause, text);
		} else if (call) {
			counter_dec(&link->instance->in_flight);
			call->link = NULL;
			call_fail(call, head_cause, text);
		}
		head_cause = CAUSE_CLOSED;
	}
	link_drop_sessions(link);
}

void link_close(struct link *link)
{
	struct agent_local *l = link->local;

	if (link->state == LINK_UP && !link->borrowed) {
		instance_dropped(link, CAUSE_CLOSED, "removed", true);
		/* The agent is still told what is over: it keeps a copy of
		 * every request until then. */
		link_flush_completes(link);
		stream_flush_now(&link->stream);
	}
	link_drop(link, CAUSE_CLOSED, "the link was closed");
	if (link->borrowed) {
		l->n_borrowed--;
	} else {
		counter_dec(&link->instance->links);
		counter_dec(&l->metrics->links_connecting);
	}
	if (link->dialled_in)
		hub_release(l->agent->hub, l->loop);
	cds_list_del(&link->node);
	link->local = NULL;
	loop_defer_reap(l->loop, &link->reap, link_reap);
}

static void link_fail(struct link *link, enum cause cause,
		      enum cause head_cause, enum link_retry retry, int code,
		      const char *text)
{
	struct agent_local *l = link->local;
	bool was_up = link->state == LINK_UP;
	char more[MORE_TEXT];

	if (!link->borrowed)
		instance_note(link, cause, code, text);
	if (was_up && !link->borrowed)
		instance_dropped(link, cause, text, false);
	link_drop(link, head_cause, "the link was lost");
	if (was_up && l->n_up == 0)
		local_start_grace(l, link_agent(link)->tuning.lost_grace_us);
	if (l->n_up == 0 && l->loop->now_us >= l->grace_until_us)
		local_fail_queue(l, CAUSE_CONNECT, "no link to the agent");
	if (link->dialled_in &&
	    instance_may_log(l, link->instance->shared, more))
		log_info("agent_left", "agent=%s worker=%u error=\"%s\"%s",
			 link_agent(link)->config.name, l->loop->index, text,
			 more);
	if (link->extra || link->dialled_in || link->borrowed)
		link_close(link);
	else
		link_retry_later(link, retry);
	if (l->agent->hub)
		local_borrow(l);
	/* Lost sessions may have made room below max_concurrency. */
	local_serve(l);
}

void link_lost(struct link *link, enum cause head_cause, enum link_retry retry,
	       const char *text)
{
	if (!link->local || link->state == LINK_DOWN)
		return;
	log_debug("link_lost", "agent=%s socket=%s error=\"%s\"",
		  link_agent(link)->config.name, link->instance->shared->path,
		  text);
	link_fail(link, head_cause, head_cause, retry, 0, text);
}

/* ---- connect and handshake --------------------------------------------- */

static void connect_failed(struct link *link, int error)
{
	/* What is found out at once may be asked again soon. */
	bool soon = error == -ENOENT || error == -ECONNREFUSED ||
		    error == -EAGAIN || error == -EACCES || error == -EPERM;
	char buf[128];

	link_fail(link, CAUSE_CONNECT, CAUSE_CONNECT,
		  soon ? RETRY_SOON : RETRY_BACKOFF, error,
		  strerror_r(-error, buf, sizeof(buf)));
}

static void on_connect_timeout(struct deadline *d)
{
	connect_failed(container_of(d, struct link, timer), -ETIMEDOUT);
}

static void on_handshake_timeout(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);

	link_fail(link, CAUSE_TIMEOUT, CAUSE_TIMEOUT, RETRY_BACKOFF, 0,
		  "no answer to the handshake");
}

static enum wire_offer link_offer(const struct link *link)
{
	switch (link_agent(link)->config.encoding) {
	case ENCODING_JSON:
		return WIRE_OFFER_JSON;
	case ENCODING_MSGPACK:
		return WIRE_OFFER_MSGPACK;
	case ENCODING_AUTO:
		break;
	}
	return WIRE_OFFER_BOTH;
}

void link_connect(struct link *link)
{
	struct agent_local *l = link->local;
	const struct agent_instance *inst = link->instance->shared;
	int error = -ENAMETOOLONG;

	link->got_bytes = false;
	if (inst->addr_valid)
		error = stream_connect(&link->stream, l->loop, &inst->addr,
				       &link_events);
	if (error) {
		/* The same way as a connect that fails later. */
		link->state = LINK_DOWN;
		connect_failed(link, error);
		return;
	}
	link_set_state(link, LINK_CONNECTING);
	deadline_start(l->loop, &link->timer,
		       link_agent(link)->tuning.connect_us,
		       on_connect_timeout);
}

/* Is it the process that the config wants there? */
static bool peer_is_right(const struct link *link, char text[96])
{
	const struct config_agent *c = &link_agent(link)->config;
	uint32_t uid = 0, gid = 0;
	int error;

	if (LIKELY(!c->peer_uid && !c->peer_gid))
		return true;
	error = sock_peer_cred(link->stream.watch.fd, &uid, &gid);
	if (error)
		snprintf(text, 96, "the peer's user cannot be told");
	else if ((c->peer_uid && c->peer_uid - 1 != uid) ||
		 (c->peer_gid && c->peer_gid - 1 != gid))
		snprintf(text, 96, "the peer is user %u, group %u: not who "
			 "the config wants", uid, gid);
	else
		return true;
	return false;
}

static void on_connect(struct stream *s, int error)
{
	struct link *link = container_of(s, struct link, stream);
	char text[96];

	if (error) {
		connect_failed(link, error);
		return;
	}
	if (!peer_is_right(link, text)) {
		link_fail(link, CAUSE_PROTOCOL, CAUSE_CONNECT, RETRY_BACKOFF,
			  0, text);
		return;
	}
	if (link_agent(link)->config.dialect == DIALECT_V1) {
		link->format = (struct wire_format){
			.dialect = WIRE_V1,
			.pseudo_headers =
				link_agent(link)->config.pseudo_headers,
		};
		link_take_limits(link, NULL);
		link_ready(link);
		/* There is no frame behind which it would be done. */
		if (link->state == LINK_UP)
			link_serve(link);
		return;
	}
	link->max_frame = FRAME_HANDSHAKE_MAX;
	link->format = (struct wire_format){ .dialect = WIRE_V2 };
	link_set_state(link, LINK_HANDSHAKE);
	deadline_start(link->local->loop, &link->timer,
		       link_agent(link)->tuning.handshake_us,
		       on_handshake_timeout);
	if (!wire_encode_handshake(&s->out, "agentproxyd", link_offer(link))) {
		link_fail(link, CAUSE_CONNECT, CAUSE_CONNECT, RETRY_BACKOFF,
			  0, "out of memory");
		return;
	}
	stream_flush_later(s);
}

static void link_set_format(struct link *link, const struct wire_handshake *h)
{
	const struct config_agent *c = &link_agent(link)->config;

	link->format = (struct wire_format){
		.encoding = h->encoding,
		.shape = c->msgpack_shape == SHAPE_MAP ? WIRE_MAP : WIRE_ARRAY,
		.raw_body = c->raw_body && h->encoding == WIRE_MSGPACK,
		.pseudo_headers = c->pseudo_headers,
		.dialect = h->go ? WIRE_GO : WIRE_V2,
	};
	if (c->raw_body && !link->format.raw_body &&
	    !__atomic_exchange_n(&link->instance->shared->warned_raw, true,
				 __ATOMIC_RELAXED))
		log_warn("raw_body", "agent=%s socket=%s error=\"the agent "
			 "speaks JSON: bodies go as base64\"", c->name,
			 link->instance->shared->path);
}

static void on_ping_interval(struct deadline *d);

bool link_accept(struct link *link, uint8_t type, struct slice payload)
{
	enum config_dialect dialect = link_agent(link)->config.dialect;
	struct wire_handshake h;
	const char *refused = NULL;

	memset(&h, 0, sizeof(h));
	if (type != FRAME_HANDSHAKE_REPLY)
		refused = "the first frame is no answer to the handshake";
	else if (!wire_decode_handshake(payload, link_offer(link), &h))
		refused = h.error[0] ? h.error : "handshake refused";
	else if (h.go && dialect == DIALECT_V2)
		refused = "the agent speaks go-v2, and dialect is v2";
	else if (!h.go && dialect == DIALECT_GO)
		refused = "the agent speaks v2, and dialect is go";
	else if (h.go && link_offer(link) == WIRE_OFFER_MSGPACK)
		refused = "the agent speaks go-v2: JSON only";
	if (refused) {
		link_fail(link, CAUSE_PROTOCOL, CAUSE_PROTOCOL, RETRY_BACKOFF,
			  0, refused);
		return false;
	}
	link_set_format(link, &h);
	link_take_limits(link, &h);
	link_ready(link);
	return link->state >= LINK_CONFIGURE;
}

static void on_configure_timeout(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);

	link_fail(link, CAUSE_TIMEOUT, CAUSE_TIMEOUT, RETRY_BACKOFF, 0,
		  "no answer to the config");
}

void link_ready(struct link *link)
{
	struct agent *a = link_agent(link);
	enum wire_dialect dialect = link->format.dialect;

	link->max_frame = a->max_frame;
	/* v2: until a reply has shown an id. */
	link->opened = dialect != WIRE_V2;
	link->depth = 1;
	link->full_depth = 0;
	link->unordered = link->no_ids = false;
	link->ping_sequence = link->ping_idle = 0;
	link->questions = 0;
	link->lazy_max = a->tuning.lazy_us && dialect != WIRE_V1 &&
			 (dialect != WIRE_GO || a->config.go_release) ?
			 LAZY_MAX : 0;
	link->last_reply_us = link->last_used_us = link->local->loop->now_us;
	if (!a->config.config_json) {
		link_up(link);
		return;
	}
	/* It was in the answer to the registration. */
	if (dialect == WIRE_GO && link->dialled_in) {
		link_up(link);
		return;
	}
	if (dialect == WIRE_GO) {
		instance_set_refused(link, true,
				     "go-v2 agents cannot be configured");
		link_fail(link, CAUSE_PROTOCOL, CAUSE_PROTOCOL, RETRY_LATE, 0,
			  "go-v2 agents cannot be configured");
		return;
	}
	link_set_state(link, LINK_CONFIGURE);
	deadline_start(link->local->loop, &link->timer, a->tuning.configure_us,
		       on_configure_timeout);
	if (!link_push_config(link))
		link_fail(link, CAUSE_CONNECT, CAUSE_CONNECT, RETRY_BACKOFF,
			  0, "the config could not be sent");
}

void link_up(struct link *link)
{
	link_set_state(link, LINK_UP);
	deadline_start(link->local->loop, &link->timer,
		       link_agent(link)->tuning.ping_interval_us,
		       on_ping_interval);
	link_ask_questions(link);
}

/* ---- an agent that has dialled in --------------------------------------- */

bool link_adopt(struct agent_local *l, int fd,
		const struct wire_registered *answer,
		const struct wire_handshake *says)
{
	struct link *link = link_new(l, &l->instances[0], false);
	struct outq q;

	outq_init(&q, &l->loop->blocks);
	if (!link || !wire_encode_registered(&q, answer) ||
	    !stream_open(&link->stream, l->loop, fd, &link_events)) {
		outq_clear(&q);
		if (link)
			link_close(link);
		return false;
	}
	outq_move(&link->stream.out, &q);
	link->dialled_in = true;
	link_set_state(link, LINK_HANDSHAKE);
	link->format = (struct wire_format){
		.encoding = WIRE_JSON,
		.pseudo_headers = l->agent->config.pseudo_headers,
		.dialect = answer->go ? WIRE_GO : WIRE_V2,
	};
	/* Whatever comes of the rest: it was let in, and is told so. */
	stream_flush_now(&link->stream);
	link_take_limits(link, says);
	link_ready(link);
	/* There is no frame behind which it would be done. */
	if (link->state == LINK_UP)
		link_serve(link);
	return true;
}

/* ---- v1: one send for each frame (protocol page 13.3) ------------------ */

void link_v1_flush(struct link *link)
{
	size_t n = link->v1_held.bytes;

	if (link->stream.out.bytes ||
	    (link->v1_bytes && link->v1_bytes + n > V1_UNANSWERED_MAX))
		return;
	link->v1_bytes += (uint32_t)n;
	outq_move(&link->stream.out, &link->v1_held);
	stream_flush_now(&link->stream);
}

void link_v1_answered(struct link *link, uint32_t bytes)
{
	link->v1_bytes -= bytes;
	if (link->v1_held.bytes)
		link_v1_flush(link);
}

enum wire_result link_encode(struct link *link, const struct event *ev)
{
	bool v1 = link->format.dialect == WIRE_V1;
	struct outq *q = UNLIKELY(v1) ? &link->v1_held : &link->stream.out;
	enum wire_result result;
	unsigned transcoded = 0;

	if (UNLIKELY(link->borrowed)) {
		result = loan_encode(link, ev, &transcoded);
	} else {
		ASSERT(!v1 || !q->bytes);
		result = wire_encode_event(q, &link->format, ev, &transcoded);
	}
	if (UNLIKELY(transcoded))
		counter_add(&link->local->metrics->transcoded, transcoded);
	if (UNLIKELY(result != WIRE_OK || link->borrowed))
		return result;
	if (LIKELY(!v1)) {
		stream_flush_later(&link->stream);
		return result;
	}
	link->v1_frame = (uint32_t)q->bytes;
	link_v1_flush(link);
	return result;
}

/* ---- pings ------------------------------------------------------------- */

void link_send_ping(struct link *link, uint32_t *sequence)
{
	struct outq *q = &link->stream.out;
	uint32_t next = link->ping_sequence + 1;
	bool queued = false;

	*sequence = 0;
	switch (link->format.dialect) {
	case WIRE_V2:
		queued = wire_encode_ping(q, next,
					  link->local->loop->wall_us / 1000);
		break;
	case WIRE_GO:
		queued = wire_encode_go_ping(q, next);
		break;
	case WIRE_V1:		/* has none */
		break;
	}
	if (!queued)
		return;		/* or no memory: another time */
	*sequence = ++link->ping_sequence;
	link_sent_mute(link);
	stream_flush_later(&link->stream);
}

static void on_pong_timeout(struct deadline *d)
{
	struct link *link = container_of(d, struct link, pong);

	/* With events outstanding it is slowness, not death. The pong may
	 * stand in the socket: then it will be read before the next look. */
	if (link->fifo.n || stream_poll(&link->stream)) {
		deadline_start(link->local->loop, d,
			       link_agent(link)->tuning.ping_timeout_us,
			       on_pong_timeout);
		return;
	}
	health_ping_lost(link->local);
	link_lost(link, CAUSE_TIMEOUT, RETRY_BACKOFF, "no answer to a ping");
}

static void on_ping_interval(struct deadline *d)
{
	struct link *link = container_of(d, struct link, timer);
	struct agent_local *l = link->local;
	const struct agent_tuning *t = &link_agent(link)->tuning;

	if (link->extra && link->fifo.n == 0 &&
	    cds_list_empty(&link->sessions) &&
	    l->loop->now_us - link->last_used_us >= t->extra_idle_us) {
		link_close(link);
		return;
	}
	deadline_start(l->loop, d, t->ping_interval_us, on_ping_interval);
	if (link->format.dialect == WIRE_V1)
		return;
	link_ask_questions(link);
	if (link->fifo.n || link->ping_idle ||
	    l->loop->now_us - link->last_reply_us < t->ping_interval_us)
		return;
	link_send_ping(link, &link->ping_idle);
	if (link->ping_idle)
		deadline_start(l->loop, &link->pong, t->ping_timeout_us,
			       on_pong_timeout);
}

/*
 * A pong whose ping went behind an event that is still in the FIFO: the agent
 * is serial, so it will never answer that one, nor any before it. Of a
 * request-complete: nor any other (protocol page 5.6).
 */
static void link_probe_answered(struct link *link, uint32_t sequence)
{
	struct agent *a = link_agent(link);
	struct fifo *f = &link->fifo;
	struct entry *e = NULL;
	uint32_t at;

	for (at = f->head; at != f->tail; at++) {
		e = fifo_at(f, at);
		if (!(e->flags & ENTRY_GONE) && e->probe == sequence)
			break;
	}
	if (at == f->tail)
		return;
	/* Who still waits has a deadline of his own. */
	for (uint32_t i = f->head; i != at; i++)
		if (!(fifo_at(f, i)->flags & ENTRY_GONE) &&
		    !fifo_at(f, i)->owner)
			fifo_remove(f, fifo_at(f, i));
	fifo_remove(f, e);
	if (e->type == EVENT_CONFIGURE)
		link_config_unanswered(link);
	else if (!(e->flags & ENTRY_DOUBT) &&
		 __atomic_exchange_n(&a->complete_known, COMPLETE_SILENT,
				     __ATOMIC_RELAXED) != COMPLETE_SILENT)
		log_info("agent_complete", "agent=%s answered=no",
			 a->config.name);
}

void link_pong(struct link *link, struct slice payload)
{
	uint64_t sequence;

	bool read = link->format.dialect == WIRE_GO ?
		    wire_decode_go_pong(payload, &sequence) :
		    wire_decode_pong(payload, &sequence);

	if (!read || sequence == 0 || sequence > link->ping_sequence)
		return;
	if (sequence == link->ping_idle) {
		link->ping_idle = 0;
		deadline_stop(&link->pong);
		instance_answered_ping(link);
	}
	link_probe_answered(link, (uint32_t)sequence);
	link_update_stalled(link);
}
