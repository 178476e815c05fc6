/*
 * Events as an agent reads them (libagentproxy, the scripted agent): whatever
 * comes, no read beyond it; what is taken, a library can read too, and its
 * texts are UTF-8.
 *
 * Input: a byte for the format, the frame's type, then its payload.
 */
#include <stdlib.h>

#include "library.h"
#include "wire/codec.h"
#include "wire/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct slice s)
{
	MUST(!s.n || utf8_valid(s.p, s.n));
}

static void check_head(const struct event_head *h)
{
	check_text(h->method);
	check_text(h->uri);
	for (unsigned i = 0; i < h->n_fields; i++) {
		check_text(field_name(&h->fields[i]));
		check_text(field_value(&h->fields[i]));
	}
}

static void check_event(const struct wire_agent_event *e)
{
	unsigned char sum = 0;

	check_text(e->correlation_id);
	switch (e->ev.type) {
	case EVENT_REQUEST_HEAD:
		check_text(e->meta.client_ip);
		check_text(e->meta.traceparent);
		check_head(&e->ev.head);
		break;
	case EVENT_RESPONSE_HEAD:
		check_head(&e->ev.head);
		break;
	case EVENT_REQUEST_CHUNK:
	case EVENT_RESPONSE_CHUNK:
		MUST(e->ev.chunk.bytes == e->data.n);
		for (size_t i = 0; i < e->data.n; i++)
			sum ^= (unsigned char)e->data.p[i];
		__asm__ volatile("" : : "r"(sum));
		break;
	case EVENT_COMPLETE:
		check_text(e->ev.complete.error);
		break;
	case EVENT_CONFIGURE:
		check_text(e->ev.configure.config_json);
		check_text(e->ev.configure.version);
		break;
	case EVENT_N:
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_agent_event e;
	struct arena_pool arenas;
	struct wire_format f;
	struct arena scratch;
	bool json;
	char *buf;
	size_t n;

	if (size < 2)
		return 0;
	n = size - 2;
	f = (struct wire_format){
		.dialect = (enum wire_dialect)((data[0] >> 2) % 3),
		.encoding = data[0] & 1 ? WIRE_JSON : WIRE_MSGPACK,
		.raw_body = data[0] & 2 };
	json = data[0] & 1 || (n && data[2] == '{');
	buf = malloc(n ? n : 1);
	memcpy(buf, data + 2, n);
	arena_pool_init(&arenas);
	arena_init(&scratch, &arenas);
	if (wire_agent_decode_event(data[1], buf, n, &f, &scratch, &e)) {
		check_event(&e);
		MUST(is_readable((const char *)data + 2, n, json));
	}
	arena_fini(&scratch);
	arena_pool_fini(&arenas);
	free(buf);
	return 0;
}
