#include <stdio.h>
#include <unistd.h>

#include "daemon/probe.h"

#define CHUNK_SMALL	10u
#define CHUNK_BIG	65536u	/* what the proxy sends if nobody says less */
#define CHUNK_BIG_V1	16384u

static bool shake(struct probe *p, const char *name)
{
	if (probe_shake(p, WIRE_OFFER_BOTH))
		return true;
	probe_result(p, "fail", name, p->hello.error);
	return false;
}

/*
 * Sends what was put and reads the answer to an event of m. NULL: as it
 * should be; else what is wrong.
 */
static const char *ask(struct probe *p, const struct event_meta *m,
		       const struct wire_expect *expect, struct decision *d)
{
	enum decision_fault fault = DECISION_BAD;

	*d = (struct decision){ 0 };
	if (!probe_flush(p, false))
		return "the link is closed";
	switch (probe_decision(p, expect, d, &fault)) {
	case PROBE_NONE:
		return "no answer";
	case PROBE_CLOSED:
		return "the link is closed";
	case PROBE_FRAME:
		break;
	}
	if (fault != DECISION_OK)
		return d->fault_text ? d->fault_text :
				       "the answer cannot be read";
	if (d->id_kind == DECISION_ID_EMPTY)
		return "it says that it cannot read the event";
	if (d->id_kind == DECISION_ID_PRESENT && !probe_is_for(p, d, m))
		return "the answer has another id";
	return NULL;
}

static const char *ask_head(struct probe *p, struct decision *d)
{
	struct event_meta m = probe_meta(p);

	if (!probe_put_head(p, &m))
		return "no memory";
	return ask(p, &m, &(struct wire_expect){ EVENT_REQUEST_HEAD, 0 }, d);
}

/* What everything else stands on; false: no use in going on. */
static bool try_head(struct probe *p)
{
	struct decision d;
	const char *why;

	if (!shake(p, "request_head"))
		return false;
	why = ask_head(p, &d);
	if (why && p->format.encoding == WIRE_MSGPACK) {
		p->format.shape = WIRE_MAP;
		if (probe_shake(p, WIRE_OFFER_BOTH) && !ask_head(p, &d)) {
			probe_result(p, "warn", "request_head",
				     "structs are read as maps only: say "
				     "msgpack_shape: map");
			return true;
		}
	}
	if (why)
		probe_result(p, "fail", "request_head", why);
	else if (d.id_kind == DECISION_ID_MISSING &&
		 p->format.dialect != WIRE_V1)
		probe_result(p, "warn", "request_head",
			     "the answer has no id: one event at a time");
	else
		probe_result(p, "pass", "request_head", "answered");
	return !why;
}

/* A whole exchange, as it goes through the proxy. */
static void try_exchange(struct probe *p)
{
	static const struct {
		enum event_type type;
		uint32_t index;
		bool last;
	} steps[] = {
		{ EVENT_REQUEST_HEAD, 0, false },
		{ EVENT_REQUEST_CHUNK, 0, false },
		{ EVENT_REQUEST_CHUNK, 1, true },
		{ EVENT_RESPONSE_HEAD, 0, false },
		{ EVENT_RESPONSE_CHUNK, 0, false },
		{ EVENT_RESPONSE_CHUNK, 1, true },
	};
	struct event_meta m = probe_meta(p);
	struct decision d;

	if (!shake(p, "exchange"))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		const struct wire_expect expect = { steps[i].type,
						    steps[i].index };
		const char *name = event_names[steps[i].type], *why;
		bool good;

		if (steps[i].type == EVENT_REQUEST_HEAD)
			good = probe_put_head(p, &m);
		else if (steps[i].type == EVENT_RESPONSE_HEAD)
			good = probe_put_response(p, &m);
		else
			good = probe_put_chunk(p, &m, steps[i].type,
					       CHUNK_SMALL, steps[i].index,
					       steps[i].last);
		why = good ? ask(p, &m, &expect, &d) : "no memory";
		if (why) {
			probe_result(p, "fail", name, why);
			return;
		}
		if (steps[i].last || steps[i].type == EVENT_RESPONSE_HEAD)
			probe_result(p, "pass", name, "answered");
	}
}

static void try_complete(struct probe *p)
{
	bool go = p->format.dialect == WIRE_GO;
	struct event_meta m = probe_meta(p);
	struct slice payload = SLICE_NONE;
	const char *why = NULL;
	struct decision d;
	uint8_t type;

	if (!shake(p, "complete"))
		return;
	if (!probe_put_head(p, &m) ||
	    (why = ask(p, &m, NULL, &d)) || !probe_put_complete(p, &m) ||
	    !probe_flush(p, false)) {
		probe_result(p, "fail", "complete", why ? why : "not taken");
		return;
	}
	switch (probe_frame(p, go ? PROBE_SILENCE_MS : PROBE_WAIT_MS, &type,
			    &payload)) {
	case PROBE_CLOSED:
		probe_result(p, "fail", "complete", "the link is closed");
		break;
	case PROBE_NONE:
		if (go)
			probe_result(p, "pass", "complete",
				     "taken, and not answered");
		else
			probe_result(p, "warn", "complete",
				     "not answered: say complete: never");
		break;
	case PROBE_FRAME:
		if (go)
			probe_result(p, "fail", "complete",
				     "answered, which go-v2 does not");
		else
			probe_result(p, "pass", "complete", "answered");
		break;
	}
}

static void try_configure(struct probe *p)
{
	enum decision_fault fault = DECISION_BAD;
	enum probe_answer a;
	struct decision d;

	if (p->format.dialect == WIRE_GO || !shake(p, "configure"))
		return;
	a = probe_put_configure(p) && probe_flush(p, false) ?
		    probe_decision(p, NULL, &d, &fault) : PROBE_CLOSED;
	if (a == PROBE_CLOSED)
		probe_result(p, "fail", "configure", "the link is closed");
	else if (a == PROBE_NONE)
		probe_result(p, "warn", "configure",
			     "not answered: no refusal will be seen");
	else if (fault != DECISION_OK)
		probe_result(p, "fail", "configure",
			     "the answer cannot be read");
	else
		probe_result(p, "pass", "configure",
			     d.kind == DECISION_ALLOW ? "{} is taken" :
							"{} is refused");
}

static void try_order(struct probe *p)
{
	struct event_meta m[4];
	const char *why = NULL;
	struct decision d;
	bool good = true;

	if (!shake(p, "order"))
		return;
	for (int i = 0; i < 4; i++) {
		m[i] = probe_meta(p);
		good = good && probe_put_head(p, &m[i]);
	}
	for (int i = 0; good && i < 4 && !why; i++)
		why = ask(p, &m[i], NULL, &d);
	if (!why && good && d.id_kind == DECISION_ID_MISSING &&
	    p->format.dialect != WIRE_V1)
		probe_result(p, "warn", "order", "answers have no ids");
	else if (!why && good)
		probe_result(p, "pass", "order",
			     "four events at once, answered in order");
	else if (why && strcmp(why, "the answer has another id") == 0)
		probe_result(p, "warn", "order", "answers come out of order");
	else
		probe_result(p, "fail", "order",
			     "not all of four events at once are answered");
}

/* Two links at a time: the proxy opens several. */
static void try_links(struct probe *p)
{
	const char *why;
	struct decision d;
	int first;

	if (!shake(p, "links"))
		return;
	first = p->fd;
	p->fd = -1;
	if (shake(p, "links")) {
		why = ask_head(p, &d);
		probe_result(p, why ? "fail" : "pass", "links",
			     why ? "a second one is not served while the first "
				   "is open" : "several at a time");
	}
	close(first);
}

static void try_ping(struct probe *p)
{
	struct slice payload = SLICE_NONE;
	bool go = p->format.dialect == WIRE_GO, good;
	uint64_t number = 0;
	uint8_t type = 0;

	if (p->format.dialect == WIRE_V1 || !shake(p, "ping"))
		return;
	good = (go ? wire_encode_go_ping(&p->out, 77) :
		     wire_encode_ping(&p->out, 77, 1)) &&
	       probe_flush(p, false) &&
	       probe_frame(p, PROBE_WAIT_MS, &type, &payload) == PROBE_FRAME;
	good = good && type == (go ? (uint8_t)FRAME_GO_PONG : FRAME_PONG) &&
	       (go ? wire_decode_go_pong(payload, &number) :
		     wire_decode_pong(payload, &number)) && number == 77;
	probe_result(p, good ? "pass" : "fail", "ping", good ? "echoed" :
		     "no pong, or another one");
}

/* A cancel has no answer: what comes next belongs to the next event. */
static void try_cancel(struct probe *p)
{
	struct event_meta m = probe_meta(p);
	const char *why = NULL;
	struct decision d;
	bool good;

	if (p->format.dialect == WIRE_V1 || !shake(p, "cancel"))
		return;
	good = p->format.dialect == WIRE_GO ?
		wire_encode_go_cancel(&p->out, m.go_request_id,
				      WIRE_CANCEL_TIMEOUT) :
		wire_encode_cancel(&p->out, m.correlation_id,
				   WIRE_CANCEL_TIMEOUT, 1);
	why = good ? ask_head(p, &d) : "no memory";
	probe_result(p, why ? "fail" : "pass", "cancel",
		     why ? why : "taken, and not answered");
}

static void try_cut(struct probe *p)
{
	enum decision_fault fault = DECISION_BAD;
	struct event_meta m = probe_meta(p);
	struct decision d;
	bool good;

	if (!shake(p, "cut frame"))
		return;
	good = probe_put_head(p, &m) && probe_flush(p, true) &&
	       probe_decision(p, NULL, &d, &fault) == PROBE_FRAME;
	if (good)
		probe_result(p, "pass", "cut frame", "read in two pieces");
	else
		probe_result(p, p->format.dialect == WIRE_V1 ? "warn" : "fail",
			     "cut frame", "two pieces break the link");
}

/* As large as the proxy sends them. */
static void try_long(struct probe *p)
{
	size_t bytes = p->format.dialect == WIRE_V1 ? CHUNK_BIG_V1 : CHUNK_BIG;
	struct event_meta m = probe_meta(p);
	const char *why = NULL;
	struct decision d;
	char text[96];

	if (p->hello.preferred_chunk_size &&
	    p->hello.preferred_chunk_size < bytes)
		bytes = (size_t)p->hello.preferred_chunk_size;
	snprintf(text, sizeof(text), "%zu bytes", bytes);
	if (!shake(p, "long chunk"))
		return;
	if (!probe_put_head(p, &m) || (why = ask(p, &m, NULL, &d)) ||
	    !probe_put_chunk(p, &m, EVENT_REQUEST_CHUNK, bytes, 0, true))
		why = why ? why : "no memory";
	else
		why = ask(p, &m, NULL, &d);
	if (why)
		snprintf(text, sizeof(text), "%zu bytes: %s; say chunk_size",
			 bytes, why);
	probe_result(p, why ? "fail" : "pass", "long chunk", text);
}

/* Half a frame, and gone: that link is lost, and no other. */
static void try_hang_up(struct probe *p)
{
	static const char half[] = { 0, 0, 1, 0, FRAME_REQUEST_HEAD, '{' };
	struct decision d;
	const char *why;

	if (!shake(p, "hang-up") || !probe_send(p, half, sizeof(half)) ||
	    !shake(p, "hang-up"))
		return;
	why = ask_head(p, &d);
	probe_result(p, why ? "fail" : "pass", "hang-up", why ? why :
		     "within a frame; the next link is served");
}

/* What becomes of bytes that are no event tells how far the agent's allow can
 * be trusted. */
static void judge_unreadable(struct probe *p, const char *name)
{
	enum decision_fault fault = DECISION_BAD;
	struct decision d;

	switch (probe_decision(p, NULL, &d, &fault)) {
	case PROBE_NONE:
		probe_result(p, "warn", name, "no answer at all");
		return;
	case PROBE_CLOSED:
		probe_result(p, "pass", name, "the link is closed");
		return;
	case PROBE_FRAME:
		break;
	}
	if (fault != DECISION_OK)
		probe_result(p, "pass", name, "no answer that means something");
	else if (d.id_kind == DECISION_ID_EMPTY)
		probe_result(p, "pass", name,
			     "answered with an empty id: on_failure decides");
	else if (d.kind != DECISION_ALLOW)
		probe_result(p, "pass", name, "refused");
	else
		probe_result(p, "warn", name,
			     "allowed like any other: what it cannot read "
			     "gets by");
}

static void try_unreadable(struct probe *p)
{
	static const char v2[] = "{\"metadata\":{\"correlation_id\":"
		"\"00000000000000000000000000000bad\"},\"method\":7}";
	static const char go[] = "{\"request_id\":\"bad\"}";
	static const char v1[] = "{\"version\":1,\"event_type\":"
		"\"request_headers\",\"payload\":{\"method\":7}}";
	static const char msgpack[] = "\x91\xc0";	/* one nil */
	struct slice text = SLICE(v2);
	char frame[256];
	size_t head = FRAME_HEAD;

	if (!shake(p, "unreadable event"))
		return;
	if (p->format.dialect == WIRE_GO)
		text = SLICE(go);
	else if (p->format.encoding == WIRE_MSGPACK)
		text = SLICE(msgpack);
	if (p->format.dialect == WIRE_V1) {
		text = SLICE(v1);
		head = FRAME_V1_HEAD;
		frame_write_v1_head(frame, text.n);
	} else {
		frame_write_head(frame, FRAME_REQUEST_HEAD, text.n);
	}
	memcpy(frame + head, text.p, text.n);
	(void)probe_send(p, frame, head + text.n);
	judge_unreadable(p, "unreadable event");
}

/* A length of 0 and then an event: who goes on has lost the frames. */
static void try_bad_length(struct probe *p)
{
	static const char none[4];
	struct event_meta m = probe_meta(p);

	if (!shake(p, "bad length"))
		return;
	if (probe_send(p, none, sizeof(none)) && probe_put_head(p, &m))
		(void)probe_flush(p, false);
	judge_unreadable(p, "bad length");
}

static void try_encodings(struct probe *p)
{
	struct decision d;
	const char *why;

	if (p->format.encoding != WIRE_MSGPACK)
		return;
	if (!probe_shake(p, WIRE_OFFER_JSON))
		why = p->hello.error;
	else
		why = ask_head(p, &d);
	probe_result(p, why ? "warn" : "pass", "json", why ? why :
		     "spoken as well, to whoever offers nothing else");
}

void check_probes_run(struct probe *p)
{
	if (!try_head(p)) {
		puts("The rest stands on this.");
		return;
	}
	try_exchange(p);
	try_complete(p);
	try_configure(p);
	try_order(p);
	try_links(p);
	try_ping(p);
	try_cancel(p);
	try_cut(p);
	try_long(p);
	try_hang_up(p);
	try_unreadable(p);
	try_bad_length(p);
	try_encodings(p);
}
