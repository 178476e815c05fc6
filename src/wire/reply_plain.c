#include "wire/event.h"
#include "wire/reply.h"
#include "wire/utf8.h"

/* One spelling of the plain allow: what stands around the id. */
struct spelling {
	struct slice front, back;
};

#define MAP_FRONT							\
	"\x8a" "\xa7" "version" "\x02" "\xa8" "decision" "\xa5" "allow"	\
	"\xaf" "request_headers" "\x90" "\xb0" "response_headers" "\x90" \
	"\xb0" "routing_metadata" "\x80" "\xa5" "audit" "\x85"		\
	"\xa4" "tags" "\x90" "\xa8" "rule_ids" "\x90"			\
	"\xaa" "confidence" "\xc0" "\xac" "reason_codes" "\x90"		\
	"\xa6" "custom" "\x81" "\xae" "correlation_id" "\xd9" " "
#define MAP_BACK							\
	"\xaa" "needs_more" "\xc2" "\xb5" "request_body_mutation" "\xc0" \
	"\xb6" "response_body_mutation" "\xc0"				\
	"\xb2" "websocket_decision" "\xc0"

#define ARRAY_FRONT							\
	"\x9a" "\x02" "\xa5" "allow" "\x90" "\x90" "\x80" "\x95" "\x90"	\
	"\x90" "\xc0" "\x90" "\x81" "\xae" "correlation_id" "\xd9" " "
#define ARRAY_BACK	"\xc2" "\xc0" "\xc0" "\xc0"

#define JSON_FRONT							\
	"{\"version\":2,\"decision\":\"allow\",\"request_headers\":[],"	\
	"\"response_headers\":[],\"routing_metadata\":{},\"audit\":{"	\
	"\"tags\":[],\"rule_ids\":[],\"confidence\":null,"		\
	"\"reason_codes\":[],\"custom\":{\"correlation_id\":\""
#define JSON_BACK							\
	"\"}},\"needs_more\":false,\"request_body_mutation\":null,"	\
	"\"response_body_mutation\":null,\"websocket_decision\":null}"

static bool fits(const char *buf, struct slice front, struct slice back,
		 struct slice *id)
{
	const char *at = buf + front.n;

	if (memcmp(buf, front.p, front.n) != 0 ||
	    memcmp(at + EVENT_ID_LEN, back.p, back.n) != 0)
		return false;
	/* The strictest of the three encodings: nothing that JSON escapes. */
	if (utf8_json_run(at, EVENT_ID_LEN) != EVENT_ID_LEN)
		return false;
	*id = slice_of(at, EVENT_ID_LEN);
	return true;
}

#define SIZE(front, back)						\
	(sizeof(front) + sizeof(back) - 2 + EVENT_ID_LEN)

bool reply_is_plain_allow(const char *buf, size_t len, struct slice *id)
{
	switch (len) {
	case SIZE(MAP_FRONT, MAP_BACK):
		return fits(buf, SLICE(MAP_FRONT), SLICE(MAP_BACK), id);
	case SIZE(ARRAY_FRONT, ARRAY_BACK):
		return fits(buf, SLICE(ARRAY_FRONT), SLICE(ARRAY_BACK), id);
	case SIZE(JSON_FRONT, JSON_BACK):
		return fits(buf, SLICE(JSON_FRONT), SLICE(JSON_BACK), id);
	}
	return false;
}
