/* Socket addresses as text; see addr.h. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>

/* 1-65535, digits only, no leading zero. 0: not one. */
static uint16_t parse_port(struct slice s)
{
	unsigned v = 0;

	if (s.n == 0 || s.n > 5 || s.p[0] == '0')
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return 0;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	return v <= 65535 ? (uint16_t)v : 0;
}

static bool parse_unix(struct slice path, struct net_addr *out)
{
	/* One byte stays for the NUL, which some systems want. */
	if (path.n == 0 || path.n >= sizeof(out->un.sun_path) ||
	    path.p[0] != '/' || memchr(path.p, '\0', path.n))
		return false;
	out->un.sun_family = AF_UNIX;
	memcpy(out->un.sun_path, path.p, path.n);
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			       path.n + 1);
	return true;
}

/* inet_pton() of text that has no NUL after it. */
static bool parse_ip(int family, struct slice ip, void *out)
{
	char text[INET6_ADDRSTRLEN];

	if (ip.n == 0 || ip.n >= sizeof(text) || memchr(ip.p, '\0', ip.n))
		return false;
	memcpy(text, ip.p, ip.n);
	text[ip.n] = '\0';
	return inet_pton(family, text, out) == 1;
}

static const char *last_colon(struct slice s)
{
	for (size_t i = s.n; i > 0; i--)
		if (s.p[i - 1] == ':')
			return s.p + i - 1;
	return NULL;
}

bool net_addr_parse(struct slice text, struct net_addr *out)
{
	struct slice ip, port;
	const char *colon;

	memset(out, 0, sizeof(*out));
	if (slice_has_prefix(text, SLICE("unix:")))
		return parse_unix(slice_of(text.p + 5, text.n - 5), out);
	colon = last_colon(text);
	if (!colon)
		return false;
	ip = slice_of(text.p, (size_t)(colon - text.p));
	port = slice_of(colon + 1, text.n - ip.n - 1);
	if (!parse_port(port))
		return false;
	if (ip.n >= 2 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']') {
		ip = slice_of(ip.p + 1, ip.n - 2);
		if (!parse_ip(AF_INET6, ip, &out->in6.sin6_addr))
			return false;
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(parse_port(port));
		out->len = sizeof(out->in6);
		return true;
	}
	if (!parse_ip(AF_INET, ip, &out->in.sin_addr))
		return false;
	out->in.sin_family = AF_INET;
	out->in.sin_port = htons(parse_port(port));
	out->len = sizeof(out->in);
	return true;
}

size_t net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	const size_t path_at = offsetof(struct sockaddr_un, sun_path);
	char ip[INET6_ADDRSTRLEN];
	size_t path_n;
	int n;

	switch (a->sa.sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof(ip));
		n = snprintf(out, NET_ADDR_TEXT, "%s:%u", ip,
			     ntohs(a->in.sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof(ip));
		n = snprintf(out, NET_ADDR_TEXT, "[%s]:%u", ip,
			     ntohs(a->in6.sin6_port));
		break;
	case AF_UNIX:
		/* The peer of an accepted connection has no path at all. */
		path_n = a->len > path_at ? a->len - path_at : 0;
		if (path_n > sizeof(a->un.sun_path))
			path_n = sizeof(a->un.sun_path);
		path_n = strnlen(a->un.sun_path, path_n);
		n = snprintf(out, NET_ADDR_TEXT, "unix:%.*s", (int)path_n,
			     a->un.sun_path);
		break;
	default:
		n = snprintf(out, NET_ADDR_TEXT, "unknown");
		break;
	}
	return (size_t)n;
}

void net_peer_from(const struct net_addr *a, struct net_peer *out)
{
	memset(out, 0, sizeof(*out));
	out->family = (uint8_t)a->sa.sa_family;
	if (a->sa.sa_family == AF_INET) {
		out->port = ntohs(a->in.sin_port);
		memcpy(out->ip, &a->in.sin_addr, 4);
	} else if (a->sa.sa_family == AF_INET6) {
		const uint8_t *ip = a->in6.sin6_addr.s6_addr;

		out->port = ntohs(a->in6.sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
			out->family = AF_INET;
			memcpy(out->ip, ip + 12, 4);
		} else {
			memcpy(out->ip, ip, 16);
		}
	}
}

size_t net_peer_ip_format(const struct net_peer *p, char out[INET6_ADDRSTRLEN])
{
	if (p->family == AF_INET || p->family == AF_INET6) {
		inet_ntop(p->family, p->ip, out, INET6_ADDRSTRLEN);
		return strlen(out);
	}
	memcpy(out, "unix", 5);
	return 4;
}

bool net_peer_in(const struct net_peer *p, uint8_t family,
		 const uint8_t ip[16], unsigned bits)
{
	unsigned max = family == AF_INET ? 32 : 128;
	unsigned bytes = bits / 8, rest = bits % 8;

	if (family == AF_UNIX)
		return p->family == AF_UNIX;
	if (p->family != family || bits > max ||
	    (family != AF_INET && family != AF_INET6))
		return false;
	if (memcmp(p->ip, ip, bytes) != 0)
		return false;
	return rest == 0 || ((p->ip[bytes] ^ ip[bytes]) >> (8 - rest)) == 0;
}
