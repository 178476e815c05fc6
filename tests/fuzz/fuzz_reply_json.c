/*
 * Replies in JSON: what we take jansson takes too, and it means the same.
 * The first byte chooses the link and what is expected.
 */
#include "reply_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oracle_world *w = oracle_world();
	struct wire_format f = { .encoding = WIRE_JSON };
	struct wire_expect expect = { EVENT_REQUEST_CHUNK, 0 };
	enum decision_fault fault;
	struct decision d;
	json_t *root;
	char *buf;
	size_t n;

	if (!size)
		return 0;
	n = size - 1;
	buf = malloc(n ? n : 1);
	memcpy(buf, data + 1, n);
	expect.type = (enum event_type)(data[0] >> 4 & 3);
	fault = wire_decode_reply(buf, n, &f, data[0] & 1 ? &expect : NULL,
				  &w->arena, &d);
	MUST(fault != DECISION_NO_MEMORY);
	MUST((fault == DECISION_REFUSED) ==
	     (fault != DECISION_OK && d.kind != DECISION_ALLOW));
	if (fault == DECISION_OK) {
		root = json_loadb((const char *)data + 1, n,
				  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL |
					  JSON_DECODE_INT_AS_REAL, NULL);
		MUST(root);
		oracle_check(root, &d, false);
		json_decref(root);
		oracle_again(w, &d, data[0] >> 1);
	}
	free(buf);
	return 0;
}
