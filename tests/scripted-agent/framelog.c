#include "framelog.h"

#include <stdio.h>

#include "wire/put.h"

static void put_text(const char *key, struct slice s)
{
	char text[PUT_JSON_MAX(1024)];
	unsigned ignored = 0;

	s.n = min_size(s.n, 1024);
	printf(",\"%s\":%.*s", key,
	       (int)(put_json_text(text, s, &ignored) - text), text);
}

static const char *type_name(uint8_t type, char room[8])
{
	static const struct {
		uint8_t type;
		const char *name;
	} names[] = {
		{ FRAME_HANDSHAKE, "handshake" }, { FRAME_CANCEL, "cancel" },
		{ FRAME_PING, "ping" },
	};

	for (unsigned i = 0; i < EVENT_N; i++)
		if (frame_type_of((enum event_type)i) == type)
			return event_names[i];
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].type == type)
			return names[i].name;
	snprintf(room, 8, "0x%02x", type);
	return room;
}

static void begin(const struct frame_seen *f, struct slice id, size_t bytes,
		  uint64_t digest)
{
	char room[8];

	printf("{\"n\":%llu,\"link\":%u,\"type\":\"%s\"",
	       (unsigned long long)f->n, f->link,
	       type_name(f->type, room));
	put_text("correlation_id", id);
	printf(",\"bytes\":%zu,\"digest\":\"%016llx\"", bytes,
	       (unsigned long long)digest);
}

void framelog_event(const struct frame_seen *f,
		    const struct wire_agent_event *e, struct exchange *x,
		    const char *answer)
{
	const struct event_chunk *c = &e->ev.chunk;
	struct body_total *total;

	switch (e->ev.type) {
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		begin(f, e->correlation_id, e->data.n,
		      digest_add(DIGEST_INIT, e->data.p, e->data.n));
		printf(",\"index\":%u,\"is_last\":%s", c->index,
		       c->is_last ? "true" : "false");
		if (!x)
			break;
		total = &x->bodies[e->ev.type == EVENT_RESPONSE_CHUNK];
		total->digest = digest_add(total->digest, e->data.p,
					   e->data.n);
		total->bytes += e->data.n;
		if (c->is_last)
			printf(",\"total\":\"%016llx\",\"total_bytes\":%llu",
			       (unsigned long long)total->digest,
			       (unsigned long long)total->bytes);
		break;
	case EVENT_REQUEST_HEAD:
		begin(f, e->correlation_id, f->bytes, f->digest);
		put_text("method", e->ev.head.method);
		put_text("uri", e->ev.head.uri);
		break;
	case EVENT_RESPONSE_HEAD:
		begin(f, e->correlation_id, f->bytes, f->digest);
		printf(",\"status\":%u", e->ev.head.status);
		break;
	case EVENT_COMPLETE:
		begin(f, e->correlation_id, f->bytes, f->digest);
		printf(",\"status\":%u", e->ev.complete.status);
		break;
	case EVENT_CONFIGURE:
	case EVENT_N:
		begin(f, e->correlation_id, f->bytes, f->digest);
		put_text("config", e->ev.configure.config_json);
		break;
	}
	printf(",\"answer\":\"%s\"}\n", answer);
}

void framelog_other(const struct frame_seen *f, bool unreadable)
{
	begin(f, SLICE_NONE, f->bytes, f->digest);
	printf("%s}\n", unreadable ? ",\"unreadable\":true" : "");
}
