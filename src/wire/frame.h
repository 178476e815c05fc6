/*
 * Framing of v2 and go-v2 (protocol page 2): 4 bytes of length, big endian,
 * that count the type byte and the payload; then both. v1: no type byte.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/slice.h"
#include "base/words.h"

#define FRAME_HEAD		5u
#define FRAME_MAX		(16u * 1024 * 1024)	/* length, type included */
#define FRAME_V1_HEAD		4u	/* no type byte */
#define FRAME_V1_MAX		(10u * 1024 * 1024)
#define FRAME_HANDSHAKE_MAX	(64u * 1024)

/* Message types, v2 (protocol page 3). */
enum frame_type {
	FRAME_HANDSHAKE = 0x01, FRAME_HANDSHAKE_REPLY = 0x02,
	FRAME_REQUEST_HEAD = 0x10, FRAME_REQUEST_CHUNK = 0x11,
	FRAME_RESPONSE_HEAD = 0x12, FRAME_RESPONSE_CHUNK = 0x13,
	FRAME_COMPLETE = 0x14, FRAME_WEBSOCKET = 0x15, FRAME_GUARDRAIL = 0x16,
	FRAME_CONFIGURE = 0x17,
	FRAME_REPLY = 0x20,
	FRAME_HEALTH = 0x30, FRAME_METRICS = 0x31, FRAME_CONFIG_UPDATE = 0x32,
	FRAME_FLOW_CONTROL = 0x33,
	FRAME_CANCEL = 0x40, FRAME_PING = 0x41, FRAME_PONG = 0x42,
};

/* go-v2, where it differs. */
enum frame_go_type {
	FRAME_GO_REGISTER = 0x03, FRAME_GO_REGISTER_ACK = 0x04,
	FRAME_GO_CANCEL = 0x30,
	FRAME_GO_ASK_HEALTH = 0xe0, FRAME_GO_HEALTH = 0xe1,
	FRAME_GO_ASK_METRICS = 0xe2, FRAME_GO_METRICS = 0xe3,
	FRAME_GO_PING = 0xf0, FRAME_GO_PONG = 0xf1,
};

enum frame_result {
	FRAME_OK,		/* *type and *payload are set, *used is the
				 * whole frame */
	FRAME_MORE,		/* *used is how many bytes the frame needs in
				 * all, at least FRAME_HEAD */
	FRAME_BAD_LENGTH,	/* 0 or above max */
};

/* Looks at the front of buf. max: largest length accepted, type included. */
enum frame_result frame_read(const char *buf, size_t len, size_t max,
			     uint8_t *type, struct slice *payload, size_t *used)
	MUST_CHECK;

/* The same of v1: no type. */
enum frame_result frame_read_v1(const char *buf, size_t len, size_t max,
				struct slice *payload, size_t *used) MUST_CHECK;

static inline void frame_write_v1_head(char *out, size_t payload)
{
	out[0] = (char)(payload >> 24);
	out[1] = (char)(payload >> 16);
	out[2] = (char)(payload >> 8);
	out[3] = (char)payload;
}

static inline void frame_write_head(char *out, uint8_t type, size_t payload)
{
	size_t n = payload + 1;

	out[0] = (char)(n >> 24);
	out[1] = (char)(n >> 16);
	out[2] = (char)(n >> 8);
	out[3] = (char)n;
	out[4] = (char)type;
}

/* Event to frame type. */
uint8_t frame_type_of(enum event_type type);

#endif
