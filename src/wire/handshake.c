/* The handshake, both sides of it (protocol page 4). Always JSON; once per
 * link, so jansson reads it. */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "wire/capabilities.h"
#include "wire/put.h"

#define FIXED_MAX	512u

static bool queue(struct outq *q, char *start, const char *end, uint8_t type)
{
	frame_write_head(start, type, (size_t)(end - start) - FRAME_HEAD);
	return outq_commit(q, (size_t)(end - start));
}

/*
 * The union form: keys of v2 and of go-v2 in one object; each reads its own.
 */
bool wire_encode_handshake(struct outq *q, const char *proxy_id,
			   enum wire_offer offer)
{
	static const char *const offers[] = {
		[WIRE_OFFER_BOTH] = "\"msgpack\",\"json\"",
		[WIRE_OFFER_JSON] = "\"json\"",
		[WIRE_OFFER_MSGPACK] = "\"msgpack\"",
	};
	struct slice id = slice_str(proxy_id);
	unsigned ignored = 0;
	char *start, *o;

	start = outq_reserve(q, FIXED_MAX + 2 * PUT_JSON_MAX(id.n));
	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"supported_versions\":[2]");
	o = put_json_text(PUT_LIT(o, ",\"proxy_id\":"), id, &ignored);
	o = PUT_LIT(o, ",\"proxy_version\":\"agentproxyd/" VERSION "\""
		       ",\"config\":null,\"supported_encodings\":[");
	o = put_bytes(o, offers[offer], strlen(offers[offer]));
	o = PUT_LIT(o, "],\"protocol_version\":2");
	o = put_json_text(PUT_LIT(o, ",\"client_name\":"), id, &ignored);
	o = PUT_LIT(o, ",\"supported_features\":[]}");
	return queue(q, start, o, FRAME_HANDSHAKE);
}

/* Cut, and without anything that could break a log line. */
void wire_copy_printable(char *to, size_t size, const char *from)
{
	size_t i = 0;

	for (; from && from[i] && i < size - 1; i++)
		to[i] = from[i] > 0x20 && from[i] < 0x7f && from[i] != '"' &&
			from[i] != '\\' ? from[i] : '_';
	to[i] = '\0';
}

static bool refuse(struct wire_handshake *h, const char *fmt, ...)
	PRINTF(2, 3);

static bool refuse(struct wire_handshake *h, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(h->error, sizeof(h->error), fmt, args);
	va_end(args);
	return false;
}

static uint64_t get_limit(const json_t *object, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(object, key));

	return v > 0 ? (uint64_t)v : 0;
}

static bool get_encoding(const json_t *root, enum wire_offer offer,
			 struct wire_handshake *h)
{
	const json_t *v = json_object_get(root, "encoding");
	const char *word = json_string_value(v);

	h->encoding = WIRE_JSON;
	if (v && !json_is_null(v)) {
		if (!word)
			return refuse(h, "encoding is no string");
		if (strcmp(word, "msgpack") == 0)
			h->encoding = WIRE_MSGPACK;
		else if (strcmp(word, "json") != 0)
			return refuse(h, "an encoding that was not offered");
	}
	if (h->encoding == WIRE_MSGPACK && offer == WIRE_OFFER_JSON)
		return refuse(h, "msgpack was not offered");
	if (h->encoding == WIRE_JSON && offer == WIRE_OFFER_MSGPACK)
		return refuse(h, "the agent does not speak msgpack");
	return true;
}

/* The crate reads 0 for configure and writes 8. */
static unsigned get_events(const json_t *caps)
{
	static const struct {
		const char *key;
		enum event_type type;
	} go[] = {
		{ "handles_request_headers", EVENT_REQUEST_HEAD },
		{ "handles_request_body", EVENT_REQUEST_CHUNK },
		{ "handles_response_headers", EVENT_RESPONSE_HEAD },
		{ "handles_response_body", EVENT_RESPONSE_CHUNK },
	};
	const json_t *item;
	unsigned mask = 0;
	size_t i;

	json_array_foreach(json_object_get(caps, "supported_events"), i, item) {
		json_int_t n = json_integer_value(item);

		if (json_is_integer(item) && n >= 1 && n <= 5)
			mask |= 1u << (EVENT_REQUEST_HEAD + n - 1);
		else if (json_is_integer(item) && (n == 0 || n == 8))
			mask |= 1u << EVENT_CONFIGURE;
	}
	for (i = 0; i < ARRAY_LEN(go); i++)
		if (json_is_true(json_object_get(caps, go[i].key)))
			mask |= 1u << go[i].type;
	return mask;
}

/* One more word, as far as there is room. */
static void add_feature(struct wire_handshake *h, const char *word)
{
	size_t n = strlen(h->features), size = sizeof(h->features);

	if (!word || n + strlen(word) + 2 > size)
		return;
	if (n)
		h->features[n++] = ' ';
	wire_copy_printable(h->features + n, size - n, word);
}

static void get_features(const json_t *caps, struct wire_handshake *h)
{
	static const char *const known[] = {
		"streaming_body", "websocket", "guardrails", "config_push",
		"metrics_export", "cancellation", "flow_control",
		"health_reporting",
	};
	static const char *const go[] = { "supports_streaming",
					  "supports_cancellation" };
	const json_t *features = json_object_get(caps, "features"), *item;
	size_t i;

	for (i = 0; i < ARRAY_LEN(known); i++)
		if (json_is_true(json_object_get(features, known[i])))
			add_feature(h, known[i]);
	for (i = 0; i < ARRAY_LEN(go); i++)
		if (json_is_true(json_object_get(caps, go[i])))
			add_feature(h, go[i] + strlen("supports_"));
	json_array_foreach(json_object_get(caps, "supported_features"), i,
			   item)
		add_feature(h, json_string_value(item));
}

void wire_get_capabilities(const json_t *root, struct wire_handshake *h)
{
	const json_t *caps = json_object_get(root, "capabilities"), *limits;
	const char *name;
	uint64_t n;

	name = json_string_value(json_object_get(caps, "agent_id"));
	if (!name)
		name = json_string_value(json_object_get(root, "agent_name"));
	wire_copy_printable(h->name, sizeof(h->name), name);
	wire_copy_printable(h->version, sizeof(h->version),
		       json_string_value(json_object_get(caps, "version")));
	limits = json_object_get(caps, "limits");
	h->events = get_events(caps);
	get_features(caps, h);
	h->max_body_size = get_limit(limits, "max_body_size");
	h->preferred_chunk_size = get_limit(limits, "preferred_chunk_size");
	n = get_limit(limits, "max_concurrency");
	if (!n)
		n = get_limit(caps, "max_concurrent_requests");
	h->max_concurrency = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static bool read_answer(const json_t *root, enum wire_offer offer,
			struct wire_handshake *h)
{
	const json_t *success = json_object_get(root, "success"),
		     *accepted = json_object_get(root, "accepted"), *key;
	char why[64];

	if (!json_is_object(root))
		return refuse(h, "the answer is no JSON object");
	if (!success == !accepted)
		return refuse(h, "neither or both of success and accepted");
	key = success ? success : accepted;
	h->go = !success;
	if (!json_is_boolean(key))
		return refuse(h, "success is no boolean");
	wire_get_capabilities(root, h);
	if (!json_is_true(key)) {
		wire_copy_printable(why, sizeof(why), json_string_value(
				       json_object_get(root, "error")));
		return refuse(h, "refused by the agent: %s", why);
	}
	if (json_integer_value(json_object_get(root, "protocol_version")) != 2)
		return refuse(h, "the version is not 2");
	return h->go || get_encoding(root, offer, h);
}

bool wire_decode_handshake(struct slice payload, enum wire_offer offer,
			   struct wire_handshake *h)
{
	json_t *root;
	bool good;

	memset(h, 0, sizeof(*h));
	h->encoding = WIRE_JSON;
	if (payload.n >= FRAME_HANDSHAKE_MAX)
		return refuse(h, "the answer is too long");
	root = json_loadb(payload.p ? payload.p : "", payload.n,
			  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	good = read_answer(root, offer, h);
	json_decref(root);
	return good;
}

/* ---- the agent's side --------------------------------------------------- */

bool wire_agent_decode_handshake(struct slice payload, bool *offers_msgpack,
				 bool *offers_json)
{
	json_t *root, *list, *item, *version;
	bool good = false, two = false;
	size_t i;

	*offers_msgpack = *offers_json = false;
	root = json_loadb(payload.p ? payload.p : "", payload.n,
			  JSON_REJECT_DUPLICATES, NULL);
	json_array_foreach(json_object_get(root, "supported_versions"), i,
			   version)
		two |= json_integer_value(version) == 2;
	list = json_object_get(root, "supported_encodings");
	json_array_foreach(list, i, item) {
		const char *word = json_string_value(item);

		if (!word)
			goto out;
		*offers_msgpack |= strcmp(word, "msgpack") == 0;
		*offers_json |= strcmp(word, "json") == 0;
	}
	/* No list: JSON. */
	if (!json_array_size(list))
		*offers_json = true;
	good = two && json_is_string(json_object_get(root, "proxy_id"));
out:
	json_decref(root);
	return good;
}

static char *put_events(char *o, unsigned events)
{
	static const unsigned char numbers[EVENT_N] = {
		[EVENT_REQUEST_HEAD] = 1, [EVENT_REQUEST_CHUNK] = 2,
		[EVENT_RESPONSE_HEAD] = 3, [EVENT_RESPONSE_CHUNK] = 4,
		[EVENT_COMPLETE] = 5, [EVENT_CONFIGURE] = 8,
	};
	bool first = true;

	for (unsigned i = 0; i < EVENT_N; i++) {
		if (!(events & 1u << i))
			continue;
		if (!first)
			o = put_byte(o, ',');
		o = put_byte(o, '0' + numbers[i]);
		first = false;
	}
	return o;
}

bool wire_agent_encode_handshake(struct outq *q, const char *name,
				 const char *version,
				 enum wire_encoding encoding, unsigned events)
{
	const unsigned chunks = 1u << EVENT_REQUEST_CHUNK |
				1u << EVENT_RESPONSE_CHUNK;
	struct slice n = slice_str(name), v = slice_str(version);
	unsigned ignored = 0;
	char *start, *o;

	start = outq_reserve(q, 2 * FIXED_MAX + 2 * PUT_JSON_MAX(n.n) +
					PUT_JSON_MAX(v.n));
	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"protocol_version\":2,"
		    "\"capabilities\":{\"agent_id\":");
	o = put_json_text(o, n, &ignored);
	o = put_json_text(PUT_LIT(o, ",\"name\":"), n, &ignored);
	o = put_json_text(PUT_LIT(o, ",\"version\":"), v, &ignored);
	o = put_events(PUT_LIT(o, ",\"supported_events\":["), events);
	o = PUT_LIT(o, "],\"features\":{\"streaming_body\":");
	o = put_json_bool(o, events & chunks);
	o = PUT_LIT(o, ",\"websocket\":false,\"guardrails\":false"
		       ",\"config_push\":");
	o = put_json_bool(o, events & 1u << EVENT_CONFIGURE);
	o = PUT_LIT(o, ",\"metrics_export\":false,\"concurrent_requests\":0,"
		    "\"cancellation\":false,\"flow_control\":false,"
		    "\"health_reporting\":false},\"limits\":{"
		    "\"max_body_size\":0,\"max_concurrency\":0,"
		    "\"preferred_chunk_size\":0}},\"success\":true,"
		    "\"error\":null,\"encoding\":");
	o = encoding == WIRE_MSGPACK ? PUT_LIT(o, "\"msgpack\"}")
				     : PUT_LIT(o, "\"json\"}");
	return queue(q, start, o, FRAME_HANDSHAKE_REPLY);
}

bool wire_agent_encode_go_handshake(struct outq *q, const char *name)
{
	struct slice n = slice_str(name);
	unsigned ignored = 0;
	char *start, *o;

	start = outq_reserve(q, FIXED_MAX + PUT_JSON_MAX(n.n));
	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"accepted\":true,"
		    "\"protocol_version\":2,\"agent_name\":");
	o = put_json_text(o, n, &ignored);
	o = PUT_LIT(o, ",\"capabilities\":{\"handles_request_headers\":true,"
		    "\"handles_request_body\":true,"
		    "\"handles_response_headers\":true,"
		    "\"handles_response_body\":true,"
		    "\"supports_streaming\":true,"
		    "\"supports_cancellation\":true}}");
	return queue(q, start, o, FRAME_HANDSHAKE_REPLY);
}

bool wire_agent_encode_ack(struct outq *q, bool success)
{
	char *start = outq_reserve(q, 64), *o;

	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_V1_HEAD, "{\"success\":");
	o = put_byte(put_json_bool(o, success), '}');
	frame_write_v1_head(start, (size_t)(o - start) - FRAME_V1_HEAD);
	return outq_commit(q, (size_t)(o - start));
}
