/* One end of a tunnel; see px_tunnel.c. */
#ifndef PX_TUNNEL_H
#define PX_TUNNEL_H

#include "px.h"

struct px_tunnel {
	struct px_exchange *x;	/* NULL: none */
	struct sim_peer *peer;
	unsigned dir;		/* in which it sends */
	size_t len, sent;
	uint64_t gap_us;
	bool stepping, shut, ended;
	void (*on_over)(void *ctx);
	void *ctx;
};

/* on_over: it has sent and got all. */
void px_tunnel_start(struct px_tunnel *t, struct px_exchange *x, unsigned dir,
		     struct sim_peer *peer, void (*on_over)(void *ctx),
		     void *ctx);
void px_tunnel_data(struct px_tunnel *t, const char *p, size_t n);
/* The other side sends no more. */
void px_tunnel_eof(struct px_tunnel *t);
/* At the end: all of it went through, both ways, and so did both ends. */
void px_tunnel_check(const struct px_exchange *x);

#endif
