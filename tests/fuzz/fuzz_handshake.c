/*
 * The handshake, read by either side, registrations, and pongs: what is taken
 * is JSON, what was not offered is refused, and what goes into the log is
 * printable.
 *
 * Input: a byte for the reader and the offer, then the payload.
 */
#include <jansson.h>
#include <stdlib.h>

#include "wire/codec.h"

#define MUST(cond)	do { if (!(cond)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *s, size_t size, bool blanks)
{
	MUST(memchr(s, '\0', size));
	for (; *s; s++)
		MUST((*s > 0x20 || (blanks && *s == 0x20)) && *s < 0x7f);
}

static bool proxy_side(struct slice payload, enum wire_offer offer)
{
	struct wire_handshake h;
	bool good = wire_decode_handshake(payload, offer, &h);

	check_printable(h.name, sizeof(h.name), false);
	check_printable(h.version, sizeof(h.version), false);
	check_printable(h.error, sizeof(h.error), true);
	check_printable(h.features, sizeof(h.features), true);
	MUST(good == !h.error[0]);
	if (good && offer == WIRE_OFFER_JSON)
		MUST(h.encoding == WIRE_JSON);
	if (good && !h.go && offer == WIRE_OFFER_MSGPACK)
		MUST(h.encoding == WIRE_MSGPACK);
	return good;
}

static bool agent_side(struct slice payload)
{
	bool msgpack, json;
	bool good = wire_agent_decode_handshake(payload, &msgpack, &json);

	return good;
}

static bool registration(struct slice payload, bool go)
{
	struct wire_registration r;
	bool good = wire_decode_registration(go ? FRAME_GO_REGISTER :
						  FRAME_HANDSHAKE, payload, &r);

	check_printable(r.id, sizeof(r.id), false);
	check_printable(r.metadata, sizeof(r.metadata), false);
	check_printable(r.says.name, sizeof(r.says.name), false);
	check_printable(r.says.version, sizeof(r.says.version), false);
	MUST(good == !r.error && r.go == go);
	MUST(r.token_len <= sizeof(r.token) && (!good || r.id[0]));
	return good;
}

/* The number is the one that jansson finds, as far as its integers go. */
static bool pong(struct slice payload, bool go)
{
	uint64_t number = 0;
	json_t *root, *v;

	if (!(go ? wire_decode_go_pong(payload, &number)
		 : wire_decode_pong(payload, &number)))
		return false;
	root = json_loadb(payload.p, payload.n, JSON_ALLOW_NUL, NULL);
	v = json_object_get(root, go ? "timestamp" : "sequence");
	if (root)
		MUST((uint64_t)json_integer_value(v) == number);
	json_decref(root);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice payload;
	json_t *root;
	bool good;
	char *buf;

	if (!size)
		return 0;
	buf = malloc(size);
	memcpy(buf, data + 1, size - 1);
	payload = slice_of(buf, size - 1);
	switch (data[0] & 3) {
	case 0:
		good = proxy_side(payload, (enum wire_offer)
				  ((data[0] >> 2) % 3));
		break;
	case 1:
		good = agent_side(payload);
		break;
	case 2:
		good = registration(payload, data[0] & 4);
		break;
	default:
		good = pong(payload, data[0] & 4);
	}
	root = json_loadb(buf, size - 1, JSON_REJECT_DUPLICATES |
			  JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	MUST(!good || root);
	json_decref(root);
	free(buf);
	return 0;
}
