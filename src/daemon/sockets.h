/*
 * The sockets that are listened on: inherited or made, once per address and
 * slot, and kept over reloads and hand-overs while the address lives, for
 * closing one resets what waits in it.
 * TCP: one SO_REUSEPORT socket per worker. Unix: one that all workers share.
 * Where agents dial in: one, of the first worker.
 * Where more were inherited than there are workers, some workers have several.
 * Control thread.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "base/list.h"
#include "config/model.h"
#include "daemon/inherit.h"

struct bound {
	struct cds_list_head node;	/* in sockets.bound */
	struct net_addr addr;
	unsigned mode;			/* of a Unix socket's file */
	bool fresh;			/* bound by the reload under way */
	/* Another process holds them, too: what waits there is served. */
	bool kept;			/* systemd, for good */
	bool shared;			/* the other side of a hand-over */
	/* It was systemd's and has another address; "" otherwise. */
	char name[64];
	unsigned n;
	int fd[];			/* -1: not there */
};

struct sockets {
	struct cds_list_head bound;
	unsigned n_workers;
	struct inherit *inherit;	/* borrowed; NULL: nothing there */
};

void sockets_init(struct sockets *s, unsigned n_workers);
/* Closes all. */
void sockets_fini(struct sockets *s);
/* The one of that address, or NULL. */
struct bound *sockets_find(const struct sockets *s, const struct net_addr *a);
/* Worker w's i-th descriptor of it; -1: it has no more. */
int bound_fd(const struct bound *b, unsigned n_workers, unsigned w, unsigned i);

/*
 * Binds all addresses of config's listeners that are not bound yet; they are
 * marked fresh. False: at least one could not be (logged); the fresh ones are
 * closed again.
 */
bool sockets_bind(struct sockets *s, const struct config *config) MUST_CHECK;
/* The reload is refused after all: closes the fresh ones. */
void sockets_undo(struct sockets *s);
/* It took effect: fresh ones stay, those that config does not name are
 * closed. No worker may be listening on these any more. */
void sockets_keep(struct sockets *s, const struct config *config);

/* All are held by a second process from now on, or not any more. */
void sockets_share(struct sockets *s, bool on);
/*
 * The end is near: clients that come from now on are not let in, while those
 * that the system has let in already may be accepted. Nothing happens to what
 * other processes hold, nor to what but (or NULL) names.
 */
void sockets_refuse(struct sockets *s, const struct config *but);

/* One socket of its own, inherited or bound, for the admin port; logged. Below
 * 0: -errno. kept: systemd holds it, too. */
int sockets_bind_admin(struct sockets *s, const struct config_address *a,
		       bool *kept) MUST_CHECK;
/* Takes a Unix socket's file away. */
void sockets_unlink(const struct net_addr *a);

#endif
