/*
 * The script of the scripted agent: what it answers to which event. The form
 * of its lines is in script_help.
 */
#ifndef SCRIPTED_AGENT_SCRIPT_H
#define SCRIPTED_AGENT_SCRIPT_H

#include "wire/codec.h"

#define ANSWER_OPS	32u	/* of each list in one answer */

extern const char script_help[];

enum handshake_kind {
	HANDSHAKE_NORMAL,
	HANDSHAKE_REFUSE,
	HANDSHAKE_SILENT,
	HANDSHAKE_GARBAGE,
	HANDSHAKE_CLOSE,
};

/* Instead of, or beside, a good reply. */
enum fault {
	FAULT_GARBAGE = 1 << 0,		/* bytes that are no frame */
	FAULT_CLOSE = 1 << 1,		/* hang up, no reply */
	FAULT_MIDFRAME = 1 << 2,	/* half of the reply, hang up */
	FAULT_LENGTH = 1 << 3,		/* the length field says `length` */
	FAULT_WRONG_ID = 1 << 4,
	FAULT_EMPTY_ID = 1 << 5,
	FAULT_NO_ID = 1 << 6,
	FAULT_NO_REPLY = 1 << 7,
	FAULT_TWICE = 1 << 8,
	FAULT_WRONG_INDEX = 1 << 9,
	FAULT_BAD_BASE64 = 1 << 10,
	FAULT_TYPE = 1 << 11,		/* the type byte is `type` */
	FAULT_BAD_PAYLOAD = 1 << 12,	/* a frame whose payload is no reply */
};

/* What an event is answered with. Slices point into the script, the event or
 * the scratch arena. */
struct answer {
	struct decision d;
	unsigned faults;
	uint32_t length;
	uint8_t type;
	unsigned delay_ms, late_ms;
	unsigned reorder;		/* gather so many, send backwards */
	unsigned drip_bytes, drip_ms;
	struct header_op request_ops[ANSWER_OPS], response_ops[ANSWER_OPS];
	struct name_value headers[ANSWER_OPS], params[ANSWER_OPS];
	struct slice tags[ANSWER_OPS], rules[ANSWER_OPS], reasons[ANSWER_OPS];
};

/* What is remembered of an exchange, for lines about its later events. */
struct seen {
	struct slice method, uri;
};

struct script {
	struct script_line *lines;
	unsigned n_lines;
	enum handshake_kind handshake;
	unsigned handshake_delay_ms;
	bool ping_silent;
	bool deaf;
	bool needs_seen;	/* a line asks a later event for its request */
	char *text;		/* of the file; slices point into it */
};

/* NULL: bad, and standard error says FILE:LINE: why. path NULL: empty. */
struct script *script_load(const char *path);
void script_free(struct script *s);

/* x may be NULL: nothing is known of the request. False: no memory. */
bool script_answer(struct script *s, const struct wire_agent_event *e,
		   const struct seen *x, unsigned link, struct arena *scratch,
		   struct answer *a);

#endif
