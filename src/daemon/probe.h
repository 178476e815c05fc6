/*
 * One connection to an agent, read and written without a loop: what
 * `check-agent` tries an agent with. check_agent.c says what the agent is,
 * check_probes.c tries it, probe.c has the bytes.
 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include "wire/codec.h"

#define PROBE_WAIT_MS		2000	/* for what must come */
#define PROBE_SILENCE_MS	300	/* for what must not */

struct probe {
	const char *path;
	int fd;
	char *in;
	size_t n;
	struct wire_format format;
	struct wire_handshake hello;	/* error: why there is no link */
	bool unanswered;	/* it connects, and does not answer the
				 * handshake with one */
	struct block_pool blocks;
	struct outq out;
	struct arena_pool arenas;
	struct arena scratch;
	unsigned ids, failed, warned;
};

enum probe_answer { PROBE_FRAME, PROBE_NONE, PROBE_CLOSED };

/* False: no memory. */
bool probe_init(struct probe *p, const char *path) MUST_CHECK;
void probe_fini(struct probe *p);

/* One line: "pass", "warn" or "fail". */
void probe_result(struct probe *p, const char *verdict, const char *name,
		  const char *text);

/* A new connection instead of the one before. False: hello.error. */
bool probe_connect(struct probe *p);
/* The same, and the handshake, unless the dialect is v1. */
bool probe_shake(struct probe *p, enum wire_offer offer);

bool probe_send(struct probe *p, const char *b, size_t n);
/* All that is in p->out; cut: half of it, a rest, and then the other half. */
bool probe_flush(struct probe *p, bool cut);

/* The next frame; it stays in front until probe_drop(). */
enum probe_answer probe_frame(struct probe *p, int wait_ms, uint8_t *type,
			      struct slice *payload);
void probe_drop(struct probe *p, struct slice payload);
/*
 * The next decision; other frames are skipped. Its slices are gone but for the
 * id. expect may be NULL.
 */
enum probe_answer probe_decision(struct probe *p,
				 const struct wire_expect *expect,
				 struct decision *d,
				 enum decision_fault *fault);
/* Is it the answer to an event with this meta? v1 has no ids: yes. */
bool probe_is_for(const struct probe *p, const struct decision *d,
		  const struct event_meta *m);

/* A new exchange, and its events, appended to p->out. */
struct event_meta probe_meta(struct probe *p);
bool probe_put(struct probe *p, const struct event *ev);
bool probe_put_head(struct probe *p, const struct event_meta *m);
bool probe_put_response(struct probe *p, const struct event_meta *m);
/* bytes of 'a', the chunk `index` of some. */
bool probe_put_chunk(struct probe *p, const struct event_meta *m,
		     enum event_type type, size_t bytes, uint32_t index,
		     bool last);
bool probe_put_complete(struct probe *p, const struct event_meta *m);
bool probe_put_configure(struct probe *p);

/* Tries everything, a line for each; p->format is what the handshake agreed
 * on. */
void check_probes_run(struct probe *p);

#endif
