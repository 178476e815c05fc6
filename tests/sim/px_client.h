/* A scripted client; see px_client.c. */
#ifndef PX_CLIENT_H
#define PX_CLIENT_H

#include "px_http.h"
#include "px_tunnel.h"

/* What it does wrong, once, in one of its requests. */
enum px_client_trouble {
	PX_CLIENT_FINE,
	PX_CLIENT_RESETS,	/* in the middle of sending */
	PX_CLIENT_CLOSES,	/* the same in order */
	PX_CLIENT_HALF_CLOSES,	/* the same, but it reads on */
	PX_CLIENT_STOPS,	/* sends no more, waits */
	PX_CLIENT_READS_NOT,	/* for a long while */
	PX_CLIENT_JUNK,		/* sends garbage instead of a request */
	PX_CLIENT_LEAVES,	/* resets some time after the request */
	PX_CLIENT_VANISHES,	/* closes some time after the request */
	PX_CLIENT_TROUBLES
};

struct px_client {
	struct px *px;
	struct sim_peer *peer;
	/* plan */
	unsigned listener;	/* index */
	char from[32];
	unsigned first, n;	/* its exchanges */
	bool pipelines, shuts, lingers;
	size_t piece;		/* most bytes of one send */
	uint64_t gap_us, pause_us;	/* between pieces, between requests */
	enum px_client_trouble trouble;
	unsigned trouble_in;	/* index of the request */
	size_t trouble_at;	/* bytes of it */
	/* state */
	unsigned sending, receiving;	/* indices below n */
	struct px_buf out;		/* the request being sent */
	size_t out_at, body_at;		/* sent of it; where its body begins */
	bool building, stepping, waits_for_100, got_100, stopped, over;
	bool refused;			/* it never was a connection */
	struct px_reader reader;
	struct px_tunnel tunnel;
};

#endif
