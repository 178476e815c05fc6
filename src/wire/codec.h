/*
 * The codecs: events into frames, replies into decisions. Pure; every encoder
 * is total (protocol page 5.1): whatever an event holds, what comes out is
 * valid UTF-8, has no key twice, and every number in range.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include "base/outq.h"
#include "wire/decision.h"
#include "wire/event.h"
#include "wire/frame.h"

enum wire_encoding { WIRE_JSON, WIRE_MSGPACK };
/* Page 1 of the protocol: go-v2 and v1 are JSON only. */
enum wire_dialect { WIRE_V2, WIRE_GO, WIRE_V1 };
enum wire_shape { WIRE_ARRAY, WIRE_MAP };	/* of MessagePack structs we send */

/* What a link has agreed on, and what its agent's config asks for. */
struct wire_format {
	enum wire_encoding encoding;
	enum wire_shape shape;
	bool raw_body;		/* MessagePack bin instead of base64 */
	bool pseudo_headers;	/* add :method and :path */
	enum wire_dialect dialect;
};

enum wire_result {
	WIRE_OK,
	WIRE_NO_MEMORY,		/* nothing was queued */
	WIRE_TOO_LARGE,		/* would pass the dialect's largest frame:
				 * nothing was queued */
};

/*
 * Appends one whole frame for ev to q. Body pieces are referenced, not copied,
 * where the encoding allows (raw_body). *transcoded is increased by the number
 * of values that were not UTF-8 and had to be mapped. Complete is go-v2's
 * cancel with a reason; configure is none of its events.
 */
enum wire_result wire_encode_event(struct outq *q, const struct wire_format *f,
	const struct event *ev, unsigned *transcoded) MUST_CHECK;

/* Cancel, ping: JSON on every link (protocol page 7). */
enum wire_cancel {
	WIRE_CANCEL_CLIENT, WIRE_CANCEL_TIMEOUT, WIRE_CANCEL_BLOCKED,
	WIRE_CANCEL_UPSTREAM, WIRE_CANCEL_SHUTDOWN, WIRE_CANCEL_MANUAL,
};
bool wire_encode_cancel(struct outq *q, const char id[EVENT_ID_LEN],
	enum wire_cancel why, uint64_t wall_ms) MUST_CHECK;
bool wire_encode_ping(struct outq *q, uint64_t sequence, uint64_t wall_ms)
	MUST_CHECK;
/* The sequence of a pong's payload; false if it cannot be read. */
bool wire_decode_pong(struct slice payload, uint64_t *sequence) MUST_CHECK;
/* The same of go-v2; its ping has a number under another name. */
bool wire_encode_go_cancel(struct outq *q, uint64_t request_id,
	enum wire_cancel why) MUST_CHECK;
bool wire_encode_go_ping(struct outq *q, uint64_t number) MUST_CHECK;
/* Asks how the agent is, and for its metrics: two frames, or none. */
bool wire_encode_go_questions(struct outq *q) MUST_CHECK;
bool wire_decode_go_pong(struct slice payload, uint64_t *number) MUST_CHECK;

/* ---- replies ------------------------------------------------------------ */

/* About the event that a reply answers; the checks depend on it. */
struct wire_expect {
	enum event_type type;
	uint32_t chunk_index;	/* of a chunk event */
};

/*
 * Reads the payload of a 0x20 frame. buf may be changed (unescaping and base64
 * are done in place). A payload that starts with '{' is JSON on any link.
 * `scratch` takes arrays. expect == NULL: only the id and the shape matter
 * (tombstones, complete, configure); else mutations are checked against it.
 * go-v2: the id is d->go_id. v1: there is none, and d->ack says that it was no
 * decision but {"success":...}: allow, or a block with the error as body.
 * After DECISION_BAD and DECISION_REFUSED id_kind and id still say what could
 * be found, and kind stands with DECISION_REFUSED.
 */
enum decision_fault wire_decode_reply(char *buf, size_t len,
	const struct wire_format *f, const struct wire_expect *expect,
	struct arena *scratch, struct decision *out) MUST_CHECK;
/*
 * Checks a decision that was decoded with expect == NULL against the event
 * that it turned out to answer (a reply is matched by its id, which is known
 * only after decoding): mutation present in a reply of another kind, wrong
 * direction or index. DECISION_OK or DECISION_BAD.
 */
enum decision_fault wire_check_reply(const struct decision *d,
	const struct wire_expect *expect) MUST_CHECK;

/* ---- handshake ---------------------------------------------------------- */

enum wire_offer { WIRE_OFFER_BOTH, WIRE_OFFER_JSON, WIRE_OFFER_MSGPACK };

bool wire_encode_handshake(struct outq *q, const char *proxy_id,
	enum wire_offer offer) MUST_CHECK;

struct wire_handshake {
	bool go;		/* answered with `accepted`, go-v2 */
	enum wire_encoding encoding;
	char name[65], version[33];	/* of the agent, cut, made printable */
	/* 0: not stated. */
	uint64_t preferred_chunk_size, max_body_size;
	uint32_t max_concurrency;	/* events at a time */
	unsigned events;		/* listed, 1 << enum event_type each */
	char features[192];	/* those that it says it has, blanks between */
	char error[128];	/* why not, for the log */
};

/* True: the link may be used. False: refused, h->error says why. */
bool wire_decode_handshake(struct slice payload, enum wire_offer offer,
	struct wire_handshake *h) MUST_CHECK;

/* ---- registration: an agent dials in (protocol page 9) ------------------ */

#define WIRE_AGENT_ID_MAX	64u
#define WIRE_TOKEN_MAX		256u

struct wire_registration {
	bool go;		/* 0x03, which wants its 0x04 */
	char id[WIRE_AGENT_ID_MAX + 1];
	bool has_token;
	char token[WIRE_TOKEN_MAX];
	size_t token_len;	/* 0: longer than any that we have */
	char metadata[129];	/* for the log: cut, made printable */
	/* Its capabilities, as a handshake has them: name, version, limits,
	 * events. */
	struct wire_handshake says;
	const char *error;	/* static: what is wrong with it; NULL */
};

/*
 * The first frame of a connection. False: it is no registration, or one whose
 * form is wrong; r->error says so, and r->go how it wants to be told.
 */
bool wire_decode_registration(uint8_t type, struct slice payload,
	struct wire_registration *r) MUST_CHECK;

struct wire_registered {
	bool go;
	const char *error;	/* NULL: accepted */
	const char *proxy_id, *connection_id;
	const char *config_json;	/* into a go-v2 ack; NULL: none */
};
/* 0x02 or 0x04. */
bool wire_encode_registered(struct outq *q, const struct wire_registered *r)
	MUST_CHECK;
/* The same of a refusal, without memory: how many bytes it has. A longer error
 * is cut. */
#define WIRE_REFUSAL_TEXT	128u
#define WIRE_REFUSAL_MAX	2048u
size_t wire_put_refusal(char to[WIRE_REFUSAL_MAX], bool go, const char *error);

/* ---- the agent's side (agents/, tests/scripted-agent) ------------------- */

/*
 * An event as an agent reads it: everything copied or pointing into buf.
 * fields may name one field several times.
 */
struct wire_agent_event {
	struct event ev;
	struct event_meta meta;
	struct slice correlation_id;
	struct bslice data;		/* decoded bytes of a chunk */
};

/* go-v2: correlation ids are request_id as 32 hex digits; 0x30 is a complete
 * whose error is the reason. v1: type is not looked at. */
bool wire_agent_decode_event(uint8_t type, char *buf, size_t len,
	const struct wire_format *f, struct arena *scratch,
	struct wire_agent_event *out) MUST_CHECK;
/* A 0x20 frame. shape ARRAY or MAP with MessagePack. d->id is put into
 * audit.custom.correlation_id. */
bool wire_agent_encode_reply(struct outq *q, const struct wire_format *f,
	const struct decision *d) MUST_CHECK;
/* The proxy's handshake: what it offers; and the answer. */
bool wire_agent_decode_handshake(struct slice payload, bool *offers_msgpack,
	bool *offers_json) MUST_CHECK;
/* events: bits (1 << enum event_type) of what the agent says it looks at. */
#define WIRE_AGENT_ALL_EVENTS	((1u << EVENT_N) - 1)
bool wire_agent_encode_handshake(struct outq *q, const char *name,
	const char *version, enum wire_encoding encoding, unsigned events)
	MUST_CHECK;
bool wire_agent_encode_go_handshake(struct outq *q, const char *name)
	MUST_CHECK;
/* 0x01, or go-v2's 0x03; token may be NULL. And whether the answer accepts. */
bool wire_agent_encode_registration(struct outq *q, bool go, const char *id,
	const char *token) MUST_CHECK;
bool wire_agent_decode_registered(uint8_t type, struct slice payload)
	MUST_CHECK;
/* v1's {"success":...}. */
bool wire_agent_encode_ack(struct outq *q, bool success) MUST_CHECK;

#endif
