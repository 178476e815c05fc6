/*
 * Scripted agents, between their files: px_link.c (the process and its links),
 * px_agent.c (what events must be like), px_answer.c (what it answers).
 */
#ifndef PX_LINK_H
#define PX_LINK_H

#include "px_client.h"

struct px_link {
	struct px_link *next;
	struct px_agent *agent;
	struct sim_peer *peer;
	struct px_buf in;
	struct wire_format format;
	bool shook, dead;
	bool dialled;		/* by it; not shook: registering */
	bool hung;		/* it answers nothing any more */
	uint64_t free_at;	/* when it has answered all before */
	unsigned held;		/* answers that are not out yet */
};

/* px_link.c */
void px_link_send(struct px_link *l, const char *p, size_t n);
void px_link_send_queue(struct px_link *l, struct outq *q);
void px_link_close(struct px_link *l);
/* All its links go, and nobody listens; it comes back by itself. */
void px_agent_dies(struct px_agent *a);

/* px_agent.c */
void px_take_event(struct px_link *l, uint8_t type, char *p, size_t n);

/* px_answer.c */
void px_answer(struct px_link *l, struct px_exchange *x, unsigned part,
	       const struct wire_agent_event *e);
void px_answer_ping(struct px_link *l, const char *p, size_t n);
void px_answer_question(struct px_link *l, uint8_t type);
void px_answer_handshake(struct px_link *l, bool msgpack);

#endif
