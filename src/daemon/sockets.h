/*
 * The sockets that are listened on: made once per address and slot, kept over
 * reloads while the address lives, for closing one resets what waits in it.
 * TCP: one SO_REUSEPORT socket per worker. Unix: one that all workers share.
 * Control thread.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "base/list.h"
#include "config/model.h"

struct bound {
	struct cds_list_head node;	/* in sockets.bound */
	struct net_addr addr;
	bool fresh;			/* bound by the reload under way */
	unsigned n;
	int fd[];			/* -1: not there */
};

struct sockets {
	struct cds_list_head bound;
	unsigned n_workers;
};

void sockets_init(struct sockets *s, unsigned n_workers);
/* Closes all. */
void sockets_fini(struct sockets *s);
/* The one of that address, or NULL. */
struct bound *sockets_find(const struct sockets *s, const struct net_addr *a);
/* Worker w's descriptor of it. */
int bound_fd(const struct bound *b, unsigned w);

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

/* One socket of its own, for the admin port; logged. Below 0: -errno. */
int sockets_bind_admin(const struct config_address *a) MUST_CHECK;
/* Takes a Unix socket's file away. */
void sockets_unlink(const struct net_addr *a);

#endif
