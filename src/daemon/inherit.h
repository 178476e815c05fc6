/*
 * Listening sockets that come with the process: from systemd (LISTEN_FDS,
 * LISTEN_FDNAMES; sd_listen_fds(3)) or from the process that hands over to
 * this one, which uses the same variables and AGENTPROXYD_HANDOVER besides:
 *	DESCRIPTOR,KEPT
 * a socket pair to say "ready" on, and for each inherited socket one character,
 * `k` if systemd holds it too and `-` if not.
 *
 * A socket serves the listener of the same address, else the one whose name it
 * bears. Control thread.
 */
#ifndef DAEMON_INHERIT_H
#define DAEMON_INHERIT_H

#include "base/addr.h"

#define INHERIT_FIRST_FD	3
#define INHERIT_MAX		1024
#define INHERIT_HANDOVER	"AGENTPROXYD_HANDOVER"

struct inherited {
	int fd;			/* -1: taken */
	bool kept;		/* systemd holds it, too */
	struct net_addr addr;
	char name[64];
};

struct inherit {
	unsigned n;
	struct inherited *list;
	int ready_fd;		/* to whom we say that we are ready; -1 */
};

/* From the environment, which is cleared of it. What is no listening socket is
 * closed (logged). False: no memory. */
bool inherit_init(struct inherit *in) MUST_CHECK;
/*
 * How many there are for that address or, if none is, of that name; they all
 * have one address. name NULL: by address only.
 */
unsigned inherit_count(const struct inherit *in, const struct net_addr *a,
		       const char *name);
/* The next of these, the caller's from now on, and whether systemd keeps it;
 * -1: none. */
int inherit_take(struct inherit *in, const struct net_addr *a,
		 const char *name, bool *kept);
/* Closes those that nobody took (logged), and takes the files of Unix sockets
 * away that nobody holds any more. */
void inherit_close_rest(struct inherit *in);
/* Closes all that is left, silently. */
void inherit_fini(struct inherit *in);

#endif
