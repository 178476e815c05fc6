/*
 * Decisions: what an agent answers (protocol page 6). Read from either
 * encoding into this one struct, checked while it is read: what stands in it
 * can be applied without splitting a message.
 *
 * Slices point into the frame (which decoders may have unescaped or
 * base64-decoded in place) or into the scratch arena given to the decoder:
 * both are valid during the reply callback only; copy what must live.
 */
#ifndef WIRE_DECISION_H
#define WIRE_DECISION_H

#include "base/arena.h"
#include "base/words.h"

enum decision_kind {
	DECISION_ALLOW,
	DECISION_BLOCK,
	DECISION_REDIRECT,
	DECISION_CHALLENGE,
};

enum header_op_kind { HEADER_SET, HEADER_ADD, HEADER_REMOVE };

struct header_op {
	enum header_op_kind kind;
	struct slice name;	/* a token, 1 to 256 bytes */
	struct slice value;	/* no CR, LF, NUL; trimmed; at most 16 KiB */
};

struct name_value {
	struct slice name, value;
};

struct body_mutation {
	bool present;		/* false: pass the chunk as it is */
	struct slice data;	/* decoded bytes; empty: drop the chunk */
	uint32_t chunk_index;
};

/* Audit text for the log, cut to the limits of protocol page 6.5. */
struct audit {
	struct slice *tags, *rules, *reasons;
	unsigned n_tags, n_rules, n_reasons;
	bool has_confidence;
	double confidence;
};

enum decision_fault {
	DECISION_OK,
	/* Not a reply, or a reply that cannot be applied: cause protocol. */
	DECISION_BAD,
	/*
	 * It could be read and is a block, redirect or challenge, but a detail
	 * of it cannot be applied: a refusal under every policy. cause
	 * protocol, refused = true.
	 */
	DECISION_REFUSED,
	DECISION_NO_MEMORY,
};

enum decision_id {
	DECISION_ID_MISSING,	/* no such key */
	/* "" or 0: the agent could not read the event. */
	DECISION_ID_EMPTY,
	DECISION_ID_PRESENT,
};

struct decision {
	enum decision_kind kind;
	bool needs_more;
	/* block */
	uint16_t status;		/* 200-599; redirect: 301-303,307,308 */
	struct slice body;
	struct name_value *headers;
	unsigned n_headers;
	/* redirect */
	struct slice url;
	/* challenge */
	struct slice challenge_type;
	struct name_value *params;
	unsigned n_params;

	struct header_op *request_ops, *response_ops;
	unsigned n_request_ops, n_response_ops;
	/* Ops on framing and hop-by-hop fields that were left out. */
	unsigned n_ops_dropped;
	struct slice upstream;		/* routing_metadata.upstream */
	struct body_mutation request_body, response_body;
	struct audit audit;

	/* Correlation. */
	enum decision_id id_kind;
	struct slice id;
	uint64_t go_id;			/* go-v2's request_id */
	bool ack;			/* v1: `success`, and no decision */
	/* For the log, when there is a fault: static text. */
	const char *fault_text;
};

/* A copy whose slices and arrays live in a. False: no memory. Mutation data is
 * not copied (it is not meant to live): left out. */
bool decision_dup(struct decision *to, const struct decision *from,
		  struct arena *a) MUST_CHECK;

#endif
