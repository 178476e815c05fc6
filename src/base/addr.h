/*
 * Socket addresses as text and as structs. Pure: no system call.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/slice.h"

/* An IPv4, IPv6 or Unix address. */
struct net_addr {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
};

/* What a connection needs to remember of its peer: 20 bytes, not 110. */
struct net_peer {
	uint8_t family;		/* AF_INET, AF_INET6, AF_UNIX */
	uint16_t port;		/* host order; 0 for AF_UNIX */
	uint8_t ip[16];		/* AF_INET (also v4-mapped): the first 4 */
};

#define NET_ADDR_TEXT	128

/* "IP:PORT", "[IP6]:PORT" or "unix:/PATH"; port 0 and names are refused. */
bool net_addr_parse(struct slice text, struct net_addr *out) MUST_CHECK;
/* The same form back; NUL-terminated, returns its length. */
size_t net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT]);
void net_peer_from(const struct net_addr *a, struct net_peer *out);
/* The bare address, no brackets, no port; "unix" for AF_UNIX. Returns its
 * length. NUL-terminated. */
size_t net_peer_ip_format(const struct net_peer *p, char out[INET6_ADDRSTRLEN]);

/* Is the peer in this network? bits are of the family's own length. AF_UNIX:
 * does it come by a Unix socket? */
bool net_peer_in(const struct net_peer *p, uint8_t family,
		 const uint8_t ip[16], unsigned bits);

#endif
