/*
 * Room is reckoned beforehand, not at every byte: each text has a cap, the
 * caps and all else but the agents add up to less than 11 KiB, and the agents
 * get what is left. Who has more of them than fits finds the list cut.
 */
#include "report/format.h"
#include "report/line.h"

enum {
	CAP_ID = 256, CAP_NAME = 128, CAP_ADDRESS = 160, CAP_METHOD = 64,
	CAP_HOST = 512, CAP_TARGET = 8192, CAP_WORD = 64, CAP_TEXT = 256,
	CAP_FIELD = 2048,
	/* After the agents: decided_by, bypass, generation. */
	ROOM_TAIL = 256,
	/* One agent without the texts of its lists. */
	ROOM_AGENT = 640,
	/* One text and the end of its agent after it. */
	ROOM_TEXT = CAP_TEXT + 128,
};

static inline void json_slice(struct line *l, struct slice s, size_t cap)
{
	if (s.n == 0)
		LINE_LIT(l, "null");
	else
		line_json(l, s, cap);
}

static inline void json_text(struct line *l, const char *s, size_t cap)
{
	if (!s)
		LINE_LIT(l, "null");
	else
		line_json(l, slice_str(s), cap);
}

static void json_list(struct line *l, const char *end, const struct slice *s,
		      unsigned n)
{
	for (unsigned i = 0; i < n && end - l->p >= ROOM_TEXT; i++) {
		if (i)
			*l->p++ = ',';
		line_json(l, s[i], CAP_TEXT);
	}
}

static void json_agent(struct line *l, const char *end,
		       const struct record_agent *a)
{
	LINE_LIT(l, "{\"name\":");
	json_text(l, a->name, CAP_NAME);
	LINE_LIT(l, ",\"event\":\"");
	line_word(l, event_names[a->event]);
	LINE_LIT(l, "\",\"verdict\":\"");
	line_word(l, verdict_names[a->verdict]);
	if (a->cause == CAUSE_NONE) {
		LINE_LIT(l, "\",\"cause\":null,\"status\":");
	} else {
		LINE_LIT(l, "\",\"cause\":\"");
		line_word(l, cause_names[a->cause]);
		LINE_LIT(l, "\",\"status\":");
	}
	line_u64(l, a->status);
	LINE_LIT(l, ",\"us\":");
	line_u64(l, a->us);
	LINE_LIT(l, ",\"queue_us\":");
	line_u64(l, a->queue_us);
	LINE_LIT(l, ",\"chunks\":");
	line_u64(l, a->chunks);
	LINE_LIT(l, ",\"tags\":[");
	json_list(l, end, a->tags, a->n_tags);
	LINE_LIT(l, "],\"rules\":[");
	json_list(l, end, a->rules, a->n_rules);
	LINE_LIT(l, "],\"reasons\":[");
	json_list(l, end, a->reasons, a->n_reasons);
	LINE_LIT(l, "]}");
}

/* Who asked what of whom. */
static void json_request(struct line *l, const struct record *r)
{
	LINE_LIT(l, "\",\"request_id\":");
	json_slice(l, r->request_id, CAP_ID);
	LINE_LIT(l, ",\"correlation_id\":");
	json_slice(l, r->correlation_id, CAP_ID);
	LINE_LIT(l, ",\"listener\":");
	json_text(l, r->listener, CAP_NAME);
	LINE_LIT(l, ",\"client\":");
	json_slice(l, r->client, CAP_WORD);
	LINE_LIT(l, ",\"method\":");
	json_slice(l, r->method, CAP_METHOD);
	LINE_LIT(l, ",\"host\":");
	json_slice(l, r->host, CAP_HOST);
	LINE_LIT(l, ",\"target\":");
	json_slice(l, r->target, CAP_TARGET);
	LINE_LIT(l, ",\"protocol\":");
	json_text(l, r->protocol, CAP_WORD);
	LINE_LIT(l, ",\"route\":");
	json_text(l, r->route, CAP_NAME);
	LINE_LIT(l, ",\"upstream\":");
	json_text(l, r->upstream, CAP_NAME);
	LINE_LIT(l, ",\"server\":");
	json_text(l, r->server, CAP_ADDRESS);
}

/* How it went. */
static void json_result(struct line *l, const struct record *r)
{
	LINE_LIT(l, ",\"attempts\":");
	line_u64(l, r->attempts);
	LINE_LIT(l, ",\"status\":");
	line_u64(l, r->status);
	LINE_LIT(l, ",\"ended_by\":\"");
	line_word(l, ended_by_names[r->ended_by]);
	LINE_LIT(l, "\",\"ended_why\":");
	json_text(l, r->ended_why, CAP_WORD);
	LINE_LIT(l, ",\"request_bytes\":");
	line_u64(l, r->request_bytes);
	LINE_LIT(l, ",\"response_bytes\":");
	line_u64(l, r->response_bytes);
	LINE_LIT(l, ",\"us\":{\"total\":");
	line_u64(l, r->us.total);
	LINE_LIT(l, ",\"request_head\":");
	line_u64(l, r->us.request_head);
	LINE_LIT(l, ",\"agents\":");
	line_u64(l, r->us.agents);
	LINE_LIT(l, ",\"upstream_connect\":");
	line_u64(l, r->us.upstream_connect);
	LINE_LIT(l, ",\"upstream_first_byte\":");
	line_u64(l, r->us.upstream_first_byte);
}

size_t format_json(char *out, const struct record *r,
		   struct format_cache *cache)
{
	struct line line = { out }, *l = &line;
	const char *end = out + LINE_MAX_BYTES - ROOM_TAIL;

	LINE_LIT(l, "{\"time\":\"");
	timefmt_rfc3339_us(&cache->time, r->start_wall_us, l->p);
	l->p += TIMEFMT_RFC3339_US;
	json_request(l, r);
	json_result(l, r);
	LINE_LIT(l, "},\"agents\":[");
	for (unsigned i = 0; i < r->n_agents && end - l->p >= ROOM_AGENT; i++) {
		if (i)
			*l->p++ = ',';
		json_agent(l, end, &r->agents[i]);
	}
	LINE_LIT(l, "],\"decided_by\":");
	json_text(l, r->decided_by, CAP_NAME);
	if (r->bypass)
		LINE_LIT(l, ",\"bypass\":true,\"generation\":");
	else
		LINE_LIT(l, ",\"bypass\":false,\"generation\":");
	line_u64(l, r->generation);
	LINE_LIT(l, "}\n");
	return (size_t)(l->p - out);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" -> "06/Nov/1994:08:49:37 +0000" */
static void clf_time(struct format_cache *c, uint64_t wall_us)
{
	char date[TIMEFMT_HTTP_DATE];

	if (c->second == wall_us / 1000000 && c->second)
		return;
	c->second = wall_us / 1000000;
	timefmt_http_date(wall_us, date);
	memcpy(c->clf, date + 5, 11);
	c->clf[2] = c->clf[6] = '/';
	c->clf[11] = ':';
	memcpy(c->clf + 12, date + 17, 8);
	memcpy(c->clf + 20, " +0000", 6);
}

size_t format_combined(char *out, const struct record *r,
		       struct format_cache *cache)
{
	struct line line = { out }, *l = &line;

	line_apache(l, r->client, CAP_WORD);
	LINE_LIT(l, " - - [");
	clf_time(cache, r->start_wall_us);
	memcpy(l->p, cache->clf, sizeof(cache->clf));
	l->p += sizeof(cache->clf);
	LINE_LIT(l, "] \"");
	line_apache(l, r->method, CAP_METHOD);
	*l->p++ = ' ';
	line_apache(l, r->target, CAP_TARGET);
	*l->p++ = ' ';
	line_apache(l, slice_str(r->protocol), CAP_WORD);
	LINE_LIT(l, "\" ");
	if (r->status)
		line_u64(l, r->status);
	else
		LINE_LIT(l, "-");
	*l->p++ = ' ';
	if (r->response_bytes)
		line_u64(l, r->response_bytes);
	else
		LINE_LIT(l, "-");
	LINE_LIT(l, " \"");
	line_apache(l, r->referer, CAP_FIELD);
	LINE_LIT(l, "\" \"");
	line_apache(l, r->user_agent, CAP_FIELD);
	LINE_LIT(l, "\"\n");
	return (size_t)(l->p - out);
}
