#include "policy/forward.h"

#include <arpa/inet.h>

#define BIT(id)		(1ull << (id))
/* Fields of ours, and room for an agent's edits without a move. */
#define FORWARD_ROOM	12u
#define XFF		"x-forwarded-for: "
#define XFH		"x-forwarded-host: "
#define HOST		"host: "
#define XID		"x-request-id: "
#define LEN(lit)	(sizeof(lit) - 1)

/* ---- who the client is -------------------------------------------------- */

static bool is_trusted(const struct config_listener *listener,
		       const struct net_peer *peer)
{
	for (unsigned i = 0; i < listener->n_trusted_proxies; i++) {
		const struct config_network *net =
			&listener->trusted_proxies[i];

		if (net_peer_in(peer, net->family, net->ip, net->bits))
			return true;
	}
	return false;
}

void forward_peer_init(struct forward_peer *fp, const struct net_peer *peer,
		       const struct config_listener *listener)
{
	fp->peer = *peer;
	fp->ip_len = (uint8_t)net_peer_ip_format(peer, fp->ip);
	forward_peer_judge(fp, listener);
}

void forward_peer_judge(struct forward_peer *fp,
			const struct config_listener *listener)
{
	fp->trusted = is_trusted(listener, &fp->peer);
}

/* A bare address, as X-Forwarded-For has them. */
static bool parse_ip(struct slice text, struct net_peer *out)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char copy[INET6_ADDRSTRLEN];

	if (text.n >= sizeof(copy) || memchr(text.p, '\0', text.n))
		return false;
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	*out = (struct net_peer){ .family = AF_INET };
	if (inet_pton(AF_INET, copy, out->ip) == 1)
		return true;
	if (inet_pton(AF_INET6, copy, out->ip) != 1)
		return false;
	if (memcmp(out->ip, mapped, sizeof(mapped)) == 0)
		memmove(out->ip, out->ip + 12, 4);
	else
		out->family = AF_INET6;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Takes the last member off a list; what is left stays in *list. */
static struct slice last_member(struct slice *list)
{
	size_t end = list->n, start, comma;

	for (start = end; start > 0 && list->p[start - 1] != ',';)
		start--;
	comma = start ? start - 1 : 0;
	while (end > start && is_blank(list->p[end - 1]))
		end--;
	while (start < end && is_blank(list->p[start]))
		start++;
	list->n = comma;
	return slice_of(list->p + start, end - start);
}

/*
 * The right-most address that is no trusted proxy. Each hop vouches for the
 * one before it, so the walk ends where an entry cannot be read: what stands
 * left of it is anybody's word.
 */
static struct net_peer true_client(const struct config_listener *listener,
				   const struct net_peer *peer,
				   struct slice forwarded)
{
	struct net_peer client = *peer, next;

	while (forwarded.n) {
		struct slice member = last_member(&forwarded);

		if (!member.n)
			continue;	/* RFC 9110, 5.6.1.2 */
		if (!parse_ip(member, &next))
			break;
		client = next;
		if (!is_trusted(listener, &client))
			break;
	}
	return client;
}

/* ---- what is taken out -------------------------------------------------- */

/* Case folded, and `_` taken for `-`: CGI and its children cannot tell them
 * apart. `lower` is in lower case. */
static bool name_like(struct slice lower, const struct field *f)
{
	if (lower.n != f->name_len)
		return false;
	for (size_t i = 0; i < lower.n; i++) {
		char a = lower.p[i], b = ascii_lower(f->name[i]);

		if (a != b && (a == '_' ? '-' : a) != (b == '_' ? '-' : b))
			return false;
	}
	return true;
}

static bool is_owned(const struct config *config, const struct field *f)
{
	if (LIKELY(!(config->owned_lengths >> (f->name_len & 63) & 1)))
		return false;
	for (unsigned i = 0; i < config->n_owned_headers; i++)
		if (name_like(slice_str(config->owned_headers[i]), f))
			return true;
	return false;
}

static bool owned_by(const struct config_agent *agent, const struct field *f)
{
	for (unsigned i = 0; i < agent->n_owns_headers; i++)
		if (name_like(slice_str(agent->owns_headers[i]), f))
			return true;
	return false;
}

unsigned forward_drop_foreign(const struct config *config,
			      const struct config_agent *agent,
			      struct header_op *ops, unsigned n)
{
	unsigned kept = 0;

	if (LIKELY(!config->n_owned_headers))
		return n;
	for (unsigned i = 0; i < n; i++) {
		struct field f = { .name = ops[i].name.p,
				   .name_len = (uint16_t)ops[i].name.n };

		if (ops[i].kind == HEADER_REMOVE || !is_owned(config, &f) ||
		    owned_by(agent, &f))
			ops[kept++] = ops[i];
	}
	return kept;
}

/* A field without a number that only a trusted proxy may send; or that looks
 * like one of ours. */
static bool is_forged(const struct field *f, bool trusted)
{
	struct field prefix = *f;
	char first = ascii_lower(f->name[0]);

	if (first == 'f')
		return !trusted && name_like(SLICE("forwarded"), f);
	if (first != 'x' || f->name_len < LEN("x-request-id"))
		return false;
	if (name_like(SLICE("x-request-id"), f) ||
	    name_like(SLICE("x-forwarded-for"), f))
		return true;
	prefix.name_len = LEN("x-forwarded-");
	return !trusted && name_like(SLICE("x-forwarded-"), &prefix);
}

bool forward_request_id_valid(struct slice id)
{
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i], l = ascii_lower(c);

		if (!((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-'))
			return false;
	}
	return id.n >= 1 && id.n <= FORWARD_ID_MAX;
}

/* The one well-formed id that a trusted peer sent; empty if there is none. */
static struct slice kept_id(const struct http_head *in, bool trusted)
{
	struct slice id = SLICE_NONE;

	if (!trusted || !(in->present & BIT(HTTP_FIELD_X_REQUEST_ID)))
		return id;
	for (unsigned i = 0; i < in->n_fields; i++) {
		if (in->fields[i].id != HTTP_FIELD_X_REQUEST_ID)
			continue;
		if (id.p)
			return SLICE_NONE;
		id = field_value(&in->fields[i]);
	}
	return forward_request_id_valid(id) ? id : SLICE_NONE;
}

bool forward_keeps(const struct config *config, const struct field *f,
		   bool trusted)
{
	uint64_t theirs = BIT(HTTP_FIELD_X_FORWARDED_FOR) |
			  BIT(HTTP_FIELD_X_FORWARDED_PROTO) |
			  BIT(HTTP_FIELD_X_FORWARDED_HOST) |
			  BIT(HTTP_FIELD_X_REQUEST_ID);

	if (!trusted && theirs >> f->id & 1)
		return false;
	if (f->id == HTTP_FIELD_OTHER && is_forged(f, trusted))
		return false;
	return !is_owned(config, f);
}

/* Numbers of the fields that do not get through. */
static uint64_t dropped_ids(const struct http_head *in,
			    const struct forward_input *input)
{
	const struct config_route *route = input->route;
	uint64_t drop = BIT(HTTP_FIELD_X_FORWARDED_FOR) |
			BIT(HTTP_FIELD_X_REQUEST_ID);

	if (!input->peer->trusted)
		drop |= BIT(HTTP_FIELD_X_FORWARDED_PROTO) |
			BIT(HTTP_FIELD_X_FORWARDED_HOST);
	for (unsigned i = 0; route && i < route->n_agents; i++) {
		if (route->agents[i].response_body != BODY_NONE)
			drop |= BIT(HTTP_FIELD_RANGE);
		if (route->agents[i].request_body != BODY_NONE)
			drop |= BIT(HTTP_FIELD_EXPECT);
	}
	return drop;
}

static void copy_kept(struct http_head *out, const struct http_head *in,
		      const struct forward_input *input, uint64_t drop)
{
	bool trusted = input->peer->trusted;

	for (unsigned i = 0; i < in->n_fields; i++) {
		const struct field *f = &in->fields[i];

		if (drop >> f->id & 1 || is_owned(input->config, f))
			continue;
		if (f->id == HTTP_FIELD_OTHER && is_forged(f, trusted))
			continue;
		out->fields[out->n_fields++] = *f;
		out->present |= BIT(f->id);
	}
}

/* ---- what is put in ----------------------------------------------------- */

/* Fields of ours as they are put in: bytes of lines, one behind the other. */
struct lines {
	char *at;
	struct field *next;
	uint64_t present;
};

static inline char *put(char *at, const char *p, size_t n)
{
	memcpy(at, p, n);
	return at + n;
}

/* Ends the line that began at `line`, with a name in lower case of that
 * length. */
static inline void end_line(struct lines *l, enum http_field_id id,
			    const char *line, size_t name, uint8_t flags)
{
	const char *value = line + name + 2;

	*l->next++ = (struct field){
		.name = line, .name_len = (uint16_t)name,
		.value = value, .value_len = (uint32_t)(l->at - value),
		.id = (uint8_t)id,
		.flags = (uint8_t)(FIELD_LINE | FIELD_LOWER | flags),
	};
	l->present |= BIT(id);
	l->at = put(l->at, "\r\n", 2);
}

/* A line of two literals. */
#define ADD_STATIC(l, id, name, value)					\
	do {								\
		const char *line = (l)->at;				\
									\
		(l)->at = put((l)->at, name ": " value,			\
			      LEN(name ": " value));			\
		end_line((l), id, line, LEN(name), 0);			\
	} while (0)
/* The most of it all that is literals. Host is put in where X-Forwarded-Host
 * is not, and is shorter. */
#define LINES_FIXED							\
	LEN(XFF "\r\n" "x-forwarded-proto: https\r\n" XFH "\r\n"		\
	    "via: 1.1 agentproxyd\r\n" XID "\r\n")

/* All X-Forwarded-For of a trusted peer as one list, each member followed by
 * ", "; and the bytes that takes. *flags: of the values. */
static size_t forwarded_size(const struct http_head *in, bool trusted,
			     uint8_t *flags)
{
	size_t n = 0;

	if (!trusted || !(in->present & BIT(HTTP_FIELD_X_FORWARDED_FOR)))
		return 0;
	for (unsigned i = 0; i < in->n_fields; i++) {
		const struct field *f = &in->fields[i];

		if (f->id != HTTP_FIELD_X_FORWARDED_FOR || !f->value_len)
			continue;
		n += f->value_len + 2;
		*flags |= f->flags & FIELD_NON_ASCII;
	}
	return n;
}

static char *forwarded_put(char *at, const struct http_head *in)
{
	for (unsigned i = 0; i < in->n_fields; i++) {
		const struct field *f = &in->fields[i];

		if (f->id != HTTP_FIELD_X_FORWARDED_FOR || !f->value_len)
			continue;
		at = put(at, f->value, f->value_len);
		at = put(at, ", ", 2);
	}
	return at;
}

static bool set_client(const struct forward_input *input, struct slice own,
		       struct slice forwarded, struct arena *a,
		       struct forward_result *result)
{
	struct net_peer client;
	char text[INET6_ADDRSTRLEN];

	result->client_ip = own;
	result->client_port = input->peer->peer.port;
	if (LIKELY(!forwarded.n))
		return true;
	forwarded.n -= 2;	/* the last ", " */
	client = true_client(input->listener, &input->peer->peer, forwarded);
	if (memcmp(client.ip, input->peer->peer.ip, sizeof(client.ip)) == 0 &&
	    client.family == input->peer->peer.family)
		return true;
	result->client_ip = arena_dup(a, slice_of(text,
					net_peer_ip_format(&client, text)));
	result->client_port = 0;
	return result->client_ip.p != NULL;
}

/* Returns our peer's own address, the last of the list. */
static inline struct slice add_forwarded_for(struct lines *l,
					     const struct http_head *in,
					     const struct forward_peer *peer,
					     size_t list, uint8_t flags)
{
	const char *line = l->at;
	struct slice own;

	l->at = put(l->at, XFF, LEN(XFF));
	if (UNLIKELY(list))
		l->at = forwarded_put(l->at, in);
	own = slice_of(l->at, peer->ip_len);
	l->at = put(l->at, peer->ip, peer->ip_len);
	end_line(l, HTTP_FIELD_X_FORWARDED_FOR, line, LEN(XFF) - 2, flags);
	return own;
}

/* `name` with its ": ", and a value. Returns where that stands. */
static inline struct slice add_line(struct lines *l, enum http_field_id id,
				    const char *name, size_t n,
				    struct slice value)
{
	const char *line = l->at;

	l->at = put(l->at, name, n);
	l->at = put(l->at, value.p, value.n);
	end_line(l, id, line, n - 2, 0);
	return slice_of(line + n, value.n);
}

/* An HTTP/1.0 client may leave Host out, what we say to the upstream may not
 * (RFC 9112, 3.2): the group's name, for want of another. */
static struct slice host_for_none(const struct config_route *route)
{
	return route && route->upstream ? slice_str(route->upstream->name) :
					  SLICE_NONE;
}

static bool add_ours(struct http_head *out, const struct http_head *in,
		     const struct forward_input *input, struct arena *a,
		     struct forward_result *result)
{
	const struct forward_peer *peer = input->peer;
	struct slice id = kept_id(in, peer->trusted), own;
	uint8_t flags = 0;
	size_t list = forwarded_size(in, peer->trusted, &flags);
	struct lines l = { .next = out->fields + out->n_fields };
	struct slice host = in->host;
	const char *start;

	if (UNLIKELY(!host.n))
		host = host_for_none(input->route);
	if (LIKELY(!id.n))
		id = slice_of(input->request_id, FORWARD_ID_LEN);
	start = l.at = arena_alloc(a, LINES_FIXED + list + peer->ip_len +
				   host.n + id.n);
	if (!l.at)
		return false;
	own = add_forwarded_for(&l, in, peer, list, flags);
	if (!(out->present & BIT(HTTP_FIELD_X_FORWARDED_PROTO))) {
		if (input->https)
			ADD_STATIC(&l, HTTP_FIELD_X_FORWARDED_PROTO,
				   "x-forwarded-proto", "https");
		else
			ADD_STATIC(&l, HTTP_FIELD_X_FORWARDED_PROTO,
				   "x-forwarded-proto", "http");
	}
	if (UNLIKELY(!in->host.n))
		out->host = host.n ? add_line(&l, HTTP_FIELD_HOST, HOST,
					      LEN(HOST), host) : host;
	else if (!(out->present & BIT(HTTP_FIELD_X_FORWARDED_HOST)))
		add_line(&l, HTTP_FIELD_X_FORWARDED_HOST, XFH, LEN(XFH),
			 host);
	/* A list, so one more field is one more member (RFC 9110, 7.6.3). */
	if (UNLIKELY(in->minor == 0))
		ADD_STATIC(&l, HTTP_FIELD_VIA, "via", "1.0 agentproxyd");
	else
		ADD_STATIC(&l, HTTP_FIELD_VIA, "via", "1.1 agentproxyd");
	result->request_id = add_line(&l, HTTP_FIELD_X_REQUEST_ID, XID,
				      LEN(XID), id);
	if (LIKELY(in->host.n && !list &&
		   !(out->present & BIT(HTTP_FIELD_VIA))))
		result->n_own = (unsigned)(l.next - out->fields) -
				out->n_fields;
	out->n_fields = (unsigned)(l.next - out->fields);
	out->present |= l.present;
	return set_client(input, own, slice_of(start + LEN(XFF), list), a,
			  result);
}

/* ---- Upgrade ------------------------------------------------------------ */

/* Protocols may have a version, "websocket/13": only the name counts. */
static bool lets_through(const struct config_route *route, struct slice member)
{
	const char *slash = memchr(member.p, '/', member.n);

	if (slash)
		member.n = (size_t)(slash - member.p);
	for (unsigned i = 0; i < route->n_upgrade; i++)
		if (slice_eq_icase(slice_str(route->upgrade[i]), member))
			return true;
	return false;
}

/* The members of Upgrade that the route lets through, in a list of their own;
 * the order of preference stays. */
static bool filter_upgrade(struct http_head *out,
			   const struct config_route *route, struct arena *a)
{
	struct slice left = out->upgrade;
	char *list, *end;

	out->upgrade = SLICE_NONE;
	if (!route || !route->n_upgrade || out->minor == 0)
		return true;
	/* Written from the back, as last_member() reads. A member may gain a
	 * blank. */
	list = arena_alloc(a, left.n * 2 + 2);
	if (!list)
		return false;
	end = list + left.n * 2 + 2;
	out->upgrade.p = end;
	while (left.n) {
		struct slice member = last_member(&left);

		if (!member.n || !lets_through(route, member))
			continue;
		if (out->upgrade.n) {
			out->upgrade.p -= 2;
			memcpy((char *)out->upgrade.p, ", ", 2);
		}
		out->upgrade.p -= member.n;
		memcpy((char *)out->upgrade.p, member.p, member.n);
		out->upgrade.n = (size_t)(end - out->upgrade.p);
	}
	return true;
}

bool forward_request(struct http_head *out, const struct http_head *in,
		     const struct forward_input *input, struct arena *a,
		     struct forward_result *result)
{
	uint64_t drop = dropped_ids(in, input);
	unsigned cap = in->n_fields + FORWARD_ROOM;

	*out = *in;
	*result = (struct forward_result){
		.range_removed = drop & in->present & BIT(HTTP_FIELD_RANGE),
		.expect_removed = drop & in->present & BIT(HTTP_FIELD_EXPECT),
	};
	out->fields = arena_alloc(a, cap * sizeof(*out->fields));
	if (!out->fields)
		return false;
	out->cap_fields = cap;
	out->n_fields = 0;
	out->present = 0;
	if (result->expect_removed)
		out->expect_continue = false;
	copy_kept(out, in, input, drop);
	if (UNLIKELY(in->upgrade.n) && !filter_upgrade(out, input->route, a))
		return false;
	return add_ours(out, in, input, a, result);
}
