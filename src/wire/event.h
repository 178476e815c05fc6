/*
 * Events: what the proxy tells an agent about an exchange (protocol page 5).
 * Plain structs that point at memory of the exchange; an encoder reads them
 * when a link has been chosen, which may be later: they must stay valid until
 * the event was sent or withdrawn.
 */
#ifndef WIRE_EVENT_H
#define WIRE_EVENT_H

#include "base/block.h"
#include "base/field.h"
#include "base/words.h"

#define EVENT_ID_LEN	32	/* correlation ids: 32 lower-case hex digits */

/*
 * What a route says in each of its events, and the same as MessagePack: the
 * members protocol (HTTP/1.1) to upstream_id of a metadata array.
 */
struct event_route {
	struct slice route_id, upstream_id;
	char packed[64];
	uint8_t n;		/* of packed; 0: it does not fit */
};

/* The slices must outlive *r; upstream_id may be empty. */
void event_route_init(struct event_route *r, struct slice route_id,
		      struct slice upstream_id);

/* What all events of an exchange share. Strings may be empty: unknown. */
struct event_meta {
	char correlation_id[EVENT_ID_LEN];
	uint64_t go_request_id;		/* unique per process, below 2^63 */
	struct slice request_id;
	struct slice client_ip;		/* bare */
	uint16_t client_port;
	struct slice server_name;
	struct slice protocol;		/* "HTTP/1.1" */
	struct slice tls_version, tls_cipher;
	struct slice route_id, upstream_id;
	struct slice timestamp;		/* RFC 3339, UTC; required */
	struct slice traceparent;
	/* NULL, or one that says the same as the members above. */
	const struct event_route *route;
};

struct event_head {
	/* Request. */
	struct slice method;
	struct slice uri;		/* path and query, raw */
	/* Response. */
	uint16_t status;
	/* Both: as they will be forwarded; names in any case, several fields
	 * of one name allowed (the encoder gathers them). */
	const struct field *fields;
	unsigned n_fields;
	/* The last so many are the proxy's own, and nobody has edited them:
	 * ASCII, names in lower case that no other field has, all bytes one
	 * behind the other. 0: not known. */
	unsigned n_own;
	bool has_body;
};

struct event_chunk {
	const struct bslice *pieces;	/* the data, in order */
	unsigned n_pieces;
	size_t bytes;			/* sum of the pieces */
	bool is_last;
	bool total_known;
	uint64_t total_size;		/* Content-Length */
	uint32_t index;
	uint64_t bytes_so_far;		/* this chunk included, before
					 * mutations */
};

struct event_complete {
	uint16_t status;
	uint64_t duration_ms;
	uint64_t request_body_size, response_body_size;
	uint32_t upstream_attempts;
	struct slice error;		/* empty: none */
};

struct event_configure {
	struct slice id;		/* "cfg-<n>" */
	struct slice config_json;	/* one JSON value, as text */
	struct slice version;		/* empty: none */
	struct slice agent_id;		/* v1 only */
};

struct event {
	enum event_type type;
	const struct event_meta *meta;	/* NULL for EVENT_CONFIGURE */
	union {
		struct event_head head;
		struct event_chunk chunk;
		struct event_complete complete;
		struct event_configure configure;
	};
};

#endif
