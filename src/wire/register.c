/*
 * Registration of an agent that dials in, both sides of it (protocol page 9).
 * Always JSON; once per link, so jansson reads it.
 */
#include <stdio.h>

#include "wire/capabilities.h"
#include "wire/put.h"

#define FIXED_MAX	512u

static bool queue(struct outq *q, char *start, const char *end, uint8_t type)
{
	frame_write_head(start, type, (size_t)(end - start) - FRAME_HEAD);
	return outq_commit(q, (size_t)(end - start));
}

static json_t *load(struct slice payload)
{
	return json_loadb(payload.p ? payload.p : "", payload.n,
			  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
}

/* ---- the proxy's side --------------------------------------------------- */

static bool is_id(const char *s, size_t n)
{
	if (n == 0 || n > WIRE_AGENT_ID_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = ascii_lower(s[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '.' || c == '-'))
			return false;
	}
	return true;
}

static const char *get_id(const json_t *root, struct wire_registration *r)
{
	const json_t *id = json_object_get(root, "agent_id");
	size_t n = json_string_length(id);

	if (!json_is_string(id) || !is_id(json_string_value(id), n))
		return "agent_id must be 1 to 64 of A-Z a-z 0-9 _ . -";
	memcpy(r->id, json_string_value(id), n + 1);
	return NULL;
}

static const char *get_token(const json_t *root, struct wire_registration *r)
{
	const json_t *token = json_object_get(root, "auth_token");
	size_t n = json_string_length(token);

	if (!token || json_is_null(token))
		return NULL;
	if (!json_is_string(token))
		return "auth_token must be a string";
	r->has_token = true;
	if (n > sizeof(r->token))
		return NULL;
	r->token_len = n;
	if (n)
		memcpy(r->token, json_string_value(token), n);
	return NULL;
}

static void get_metadata(const json_t *root, struct wire_registration *r)
{
	const json_t *metadata = json_object_get(root, "metadata");
	char text[sizeof(r->metadata)] = "";
	size_t n = 0;

	if (metadata && !json_is_null(metadata))
		n = json_dumpb(metadata, text, sizeof(text) - 1,
			       JSON_COMPACT | JSON_ENCODE_ANY |
			       JSON_ENSURE_ASCII);
	/* What does not fit is cut. */
	text[min_size(n, sizeof(text) - 1)] = '\0';
	wire_copy_printable(r->metadata, sizeof(r->metadata), text);
}

/* In the order of page 9.3. */
static const char *read_registration(const json_t *root,
				     struct wire_registration *r)
{
	const char *error;

	if (!json_is_object(root))
		return "the registration is no JSON object";
	if (json_object_get(root, "supported_versions") &&
	    !json_object_get(root, "agent_id"))
		return "this is a proxy's handshake, and here is a proxy's "
		       "socket for agents";
	if (json_integer_value(json_object_get(root, "protocol_version")) != 2)
		return "protocol_version must be 2";
	error = get_id(root, r);
	if (!error)
		error = get_token(root, r);
	if (!error)
		get_metadata(root, r);
	wire_get_capabilities(root, &r->says);
	return error;
}

bool wire_decode_registration(uint8_t type, struct slice payload,
			      struct wire_registration *r)
{
	json_t *root;

	memset(r, 0, sizeof(*r));
	r->go = type == FRAME_GO_REGISTER;
	if (!r->go && type != FRAME_HANDSHAKE) {
		r->error = "the first frame is no registration";
		return false;
	}
	if (payload.n >= FRAME_HANDSHAKE_MAX) {
		r->error = "the registration is too long";
		return false;
	}
	root = load(payload);
	r->error = read_registration(root, r);
	json_decref(root);
	return !r->error;
}

static char *put_text(char *o, const char *text)
{
	unsigned ignored = 0;

	return put_json_text(o, slice_str(text), &ignored);
}

static char *put_v2_answer(char *o, const struct wire_registered *r)
{
	o = put_json_bool(PUT_LIT(o, "{\"success\":"), !r->error);
	o = PUT_LIT(o, ",\"error\":");
	o = r->error ? put_text(o, r->error) : PUT_LIT(o, "null");
	o = put_text(PUT_LIT(o, ",\"proxy_id\":"), r->proxy_id);
	o = PUT_LIT(o, ",\"proxy_version\":\"agentproxyd/" VERSION "\""
		       ",\"connection_id\":");
	return put_byte(put_text(o, r->connection_id), '}');
}

static char *put_go_answer(char *o, const struct wire_registered *r)
{
	o = put_json_bool(PUT_LIT(o, "{\"accepted\":"), !r->error);
	if (r->error)
		return put_byte(put_text(PUT_LIT(o, ",\"error\":"), r->error),
				'}');
	o = put_text(PUT_LIT(o, ",\"assigned_id\":"), r->connection_id);
	if (r->config_json) {
		o = PUT_LIT(o, ",\"config\":");
		o = put_bytes(o, r->config_json, strlen(r->config_json));
	}
	return put_byte(o, '}');
}

static char *put_answer(char *start, const struct wire_registered *r)
{
	char *o = start + FRAME_HEAD;

	return r->go ? put_go_answer(o, r) : put_v2_answer(o, r);
}

static uint8_t answer_type(bool go)
{
	return go ? FRAME_GO_REGISTER_ACK : FRAME_HANDSHAKE_REPLY;
}

bool wire_encode_registered(struct outq *q, const struct wire_registered *r)
{
	size_t config = r->config_json ? strlen(r->config_json) : 0;
	size_t texts = strlen(r->proxy_id) + strlen(r->connection_id) +
		       (r->error ? strlen(r->error) : 0);
	char *start;

	if (config > FRAME_MAX / 2)
		return false;
	start = outq_reserve(q, FIXED_MAX + PUT_JSON_MAX(texts) + config);
	if (!start)
		return false;
	return queue(q, start, put_answer(start, r), answer_type(r->go));
}

size_t wire_put_refusal(char to[WIRE_REFUSAL_MAX], bool go, const char *error)
{
	char text[WIRE_REFUSAL_TEXT + 1];
	struct wire_registered r = {
		.go = go, .error = text, .proxy_id = "agentproxyd",
		.connection_id = "",
	};
	size_t n;

	_Static_assert(FIXED_MAX + PUT_JSON_MAX(WIRE_REFUSAL_TEXT + 16) <=
		       WIRE_REFUSAL_MAX, "a refusal has room");
	snprintf(text, sizeof(text), "%s", error);
	n = (size_t)(put_answer(to, &r) - to);
	frame_write_head(to, answer_type(go), n - FRAME_HEAD);
	return n;
}

/* ---- the agent's side --------------------------------------------------- */

bool wire_agent_encode_registration(struct outq *q, bool go, const char *id,
				    const char *token)
{
	size_t texts = strlen(id) + (token ? strlen(token) : 0);
	char *start = outq_reserve(q, FIXED_MAX + PUT_JSON_MAX(texts)), *o;

	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"protocol_version\":2");
	o = put_text(PUT_LIT(o, ",\"agent_id\":"), id);
	o = PUT_LIT(o, ",\"capabilities\":{}");
	if (token)
		o = put_text(PUT_LIT(o, ",\"auth_token\":"), token);
	return queue(q, start, put_byte(o, '}'), go ? FRAME_GO_REGISTER :
						      FRAME_HANDSHAKE);
}

bool wire_agent_decode_registered(uint8_t type, struct slice payload)
{
	bool go = type == FRAME_GO_REGISTER_ACK, good;
	json_t *root;

	if (!go && type != FRAME_HANDSHAKE_REPLY)
		return false;
	root = load(payload);
	good = json_is_true(json_object_get(root, go ? "accepted" :
						       "success"));
	json_decref(root);
	return good;
}
