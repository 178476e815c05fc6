/*
 * The head that agents see and that is forwarded, made of the head that the
 * client sent (design.md 4). The same bytes for both: what is forwarded is what
 * was judged.
 */
#ifndef POLICY_FORWARD_H
#define POLICY_FORWARD_H

#include "base/addr.h"
#include "base/arena.h"
#include "config/model.h"
#include "http/head.h"
#include "wire/decision.h"

#define FORWARD_ID_LEN	32	/* request ids of our making, hex */
#define FORWARD_ID_MAX	128	/* the longest that is kept from a peer */

/* Worked out once per client connection; owned by the connection. */
struct forward_peer {
	struct net_peer peer;
	bool trusted;		/* it is one of the listener's trusted proxies */
	uint8_t ip_len;
	char ip[INET6_ADDRSTRLEN];	/* bare text, NUL-terminated */
};

void forward_peer_init(struct forward_peer *fp, const struct net_peer *peer,
		       const struct config_listener *listener);
/* The listener's config is another one now: is the peer trusted? */
void forward_peer_judge(struct forward_peer *fp,
			const struct config_listener *listener);

struct forward_input {
	const struct config *config;
	const struct config_listener *listener;
	const struct forward_peer *peer;
	const struct config_route *route;	/* NULL: none matched */
	const char *request_id;		/* FORWARD_ID_LEN hex digits, used if
					 * the peer's own is not kept */
	bool https;			/* the client's connection is TLS */
};

struct forward_result {
	struct slice request_id;	/* in the arena */
	struct slice client_ip;		/* the true client, bare; in the arena
					 * or in the forward_peer */
	uint16_t client_port;		/* 0: not known (behind a proxy) */
	/* The last so many fields are ours, as struct event_head wants them;
	 * 0: some other may have a name of theirs, or they are no ASCII. */
	unsigned n_own;
	bool range_removed;
	bool expect_removed;	/* and in->expect_continue: we owe the 100 */
};

/*
 * *out becomes a copy of *in with a fields array of its own in the arena (with
 * room for some edits), in which
 *   - what some agent of the config owns (owns_headers) is gone; X_User is
 *     taken for X-User, as CGI does;
 *   - X-Forwarded-* and Forwarded of a peer that is not trusted are gone;
 *   - X-Forwarded-For, -Proto, -Host, Via and X-Request-Id are ours, built on
 *     what a trusted proxy sent; the last one is the last field;
 *   - a request of HTTP/1.0 without Host has the name of its upstream there;
 *   - Range is gone where an agent gets the response body, Expect where one
 *     gets the request body;
 *   - out->upgrade has only what the route lets through.
 * Bytes of kept fields are shared with *in and must outlive *out. False: no
 * memory.
 */
bool forward_request(struct http_head *out, const struct http_head *in,
		     const struct forward_input *input, struct arena *a,
		     struct forward_result *result) MUST_CHECK;

/* Would this field of a client's request be let through? trusted: the peer is a
 * trusted proxy. */
bool forward_keeps(const struct config *config, const struct field *f,
		   bool trusted);

/*
 * Takes out of an agent's edits of the request those that set what another
 * agent owns (owns_headers; X_User is X-User here too), in place; how many are
 * left. ops[].name are valid names. To remove such a header is anybody's.
 */
unsigned forward_drop_foreign(const struct config *config,
			      const struct config_agent *agent,
			      struct header_op *ops, unsigned n);

/* A request id as peers may send it: 1 to 128 of [A-Za-z0-9._-]. */
bool forward_request_id_valid(struct slice id);

#endif
