/* Cancel and ping: JSON on every link (protocol page 7). */
#include <inttypes.h>
#include <stdio.h>

#include "wire/codec.h"
#include "wire/put.h"
#include "wire/reader.h"

#define CONTROL_MAX	256u
#define PONG_MAX	512u

static bool queue(struct outq *q, char *start, const char *end, uint8_t type)
{
	frame_write_head(start, type, (size_t)(end - start) - FRAME_HEAD);
	return outq_commit(q, (size_t)(end - start));
}

bool wire_encode_cancel(struct outq *q, const char id[EVENT_ID_LEN],
			enum wire_cancel why, uint64_t wall_ms)
{
	char *start = outq_reserve(q, CONTROL_MAX), *o;

	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"correlation_id\":\"");
	o = put_bytes(o, id, EVENT_ID_LEN);
	o = put_json_uint(PUT_LIT(o, "\",\"reason\":"), (uint64_t)why);
	o = put_json_uint(PUT_LIT(o, ",\"timestamp_ms\":"), wall_ms);
	return queue(q, start, put_byte(o, '}'), FRAME_CANCEL);
}

bool wire_encode_ping(struct outq *q, uint64_t sequence, uint64_t wall_ms)
{
	char *start = outq_reserve(q, CONTROL_MAX), *o;

	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"sequence\":");
	o = put_json_uint(o, sequence);
	o = put_json_uint(PUT_LIT(o, ",\"timestamp_ms\":"), wall_ms);
	return queue(q, start, put_byte(o, '}'), FRAME_PING);
}

bool wire_encode_go_cancel(struct outq *q, uint64_t request_id,
			   enum wire_cancel why)
{
	static const char *const reasons[] = {
		[WIRE_CANCEL_CLIENT] = "client gone",
		[WIRE_CANCEL_TIMEOUT] = "timeout",
		[WIRE_CANCEL_BLOCKED] = "blocked by another agent",
		[WIRE_CANCEL_UPSTREAM] = "upstream error",
		[WIRE_CANCEL_SHUTDOWN] = "shutdown",
		[WIRE_CANCEL_MANUAL] = "manual",
	};
	char *start = outq_reserve(q, CONTROL_MAX), *o;

	if (!start)
		return false;
	o = PUT_LIT(start + FRAME_HEAD, "{\"request_id\":");
	o = PUT_LIT(put_json_u64(o, request_id), ",\"reason\":\"");
	o = put_bytes(o, reasons[why], strlen(reasons[why]));
	return queue(q, start, PUT_LIT(o, "\"}"), FRAME_GO_CANCEL);
}

bool wire_encode_go_ping(struct outq *q, uint64_t number)
{
	char *start = outq_reserve(q, CONTROL_MAX), *o;

	if (!start)
		return false;
	o = put_json_uint(PUT_LIT(start + FRAME_HEAD, "{\"timestamp\":"),
			  number);
	return queue(q, start, put_byte(o, '}'), FRAME_GO_PING);
}

bool wire_encode_go_questions(struct outq *q)
{
	char *start = outq_reserve(q, 2 * (FRAME_HEAD + 2));

	if (!start)
		return false;
	frame_write_head(start, FRAME_GO_ASK_HEALTH, 2);
	frame_write_head(PUT_LIT(start + FRAME_HEAD, "{}"),
			 FRAME_GO_ASK_METRICS, 2);
	(void)PUT_LIT(start + 2 * FRAME_HEAD + 2, "{}");
	return outq_commit(q, 2 * (FRAME_HEAD + 2));
}

/* The first of these names. */
static bool decode_number(struct slice payload, const struct slice *names,
			  unsigned n_names, uint64_t *number)
{
	struct reader_members m;
	char copy[PONG_MAX];
	bool found = false;
	struct reader r;
	enum token token;
	int i;

	if (payload.n > sizeof(copy) || !payload.n)
		return false;
	/* Reading changes what is read. */
	memcpy(copy, payload.p, payload.n);
	reader_init(&r, copy, payload.n, true);
	if (reader_next(&r) != TOKEN_MAP)
		return false;
	reader_members(&r, &m, names, n_names, TOKEN_MAP);
	while ((i = reader_member(&r, &m)) >= 0) {
		token = reader_next(&r);
		if (i == 0 && token == TOKEN_INT && !r.negative) {
			*number = r.num;
			found = true;
			continue;
		}
		reader_finish(&r, token, NULL);
	}
	return reader_at_end(&r) && found;
}

bool wire_decode_pong(struct slice payload, uint64_t *sequence)
{
	static const struct slice names[] = {
		{ "sequence", 8 }, { "timestamp_ms", 12 },
	};

	return decode_number(payload, names, ARRAY_LEN(names), sequence);
}

bool wire_decode_go_pong(struct slice payload, uint64_t *number)
{
	static const struct slice names[] = { { "timestamp", 9 } };

	return decode_number(payload, names, ARRAY_LEN(names), number);
}
