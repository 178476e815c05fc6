#include "daemon/sockets.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/sock.h"

#define BACKLOG 4096

static bool is_unix(const struct net_addr *a)
{
	return a->sa.sa_family == AF_UNIX;
}

static bool same_addr(const struct net_addr *a, const struct net_addr *b)
{
	return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

/*
 * SO_REUSEPORT lets a second daemon of the same user share the port without a
 * word. Binding without it finds that out.
 */
static int probe(const struct net_addr *a)
{
	int on = 1, err = 0;
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, &a->sa, a->len) < 0)
		err = -errno;
	close(fd);
	return err;
}

void sockets_unlink(const struct net_addr *a)
{
	if (is_unix(a))
		unlink(a->un.sun_path);
}

static int listen_on(const struct net_addr *a, mode_t mode)
{
	int fd = sock_listen(a, BACKLOG);

	if (fd >= 0 && is_unix(a) && chmod(a->un.sun_path, mode) < 0) {
		int err = -errno;

		sock_close(fd, false);
		sockets_unlink(a);
		return err;
	}
	return fd;
}

static void log_bind(const char *name, const char *address, int err)
{
	log_error("bind", "listener=%s address=%s errno=%d error=\"%s\"", name,
		  address, -err, strerror(-err));
}

void sockets_init(struct sockets *s, unsigned n_workers)
{
	CDS_INIT_LIST_HEAD(&s->bound);
	s->n_workers = n_workers;
}

static void bound_close(struct bound *b)
{
	bool opened = false;

	for (unsigned i = 0; i < b->n; i++) {
		if (b->fd[i] < 0)
			continue;
		sock_close(b->fd[i], false);
		opened = true;
	}
	/* Somebody else's file stays. */
	if (opened)
		sockets_unlink(&b->addr);
	cds_list_del(&b->node);
	mem_free(b);
}

void sockets_fini(struct sockets *s)
{
	struct bound *b, *next;

	cds_list_for_each_entry_safe(b, next, &s->bound, node)
		bound_close(b);
}

struct bound *sockets_find(const struct sockets *s, const struct net_addr *a)
{
	struct bound *b;

	cds_list_for_each_entry(b, &s->bound, node)
		if (same_addr(&b->addr, a))
			return b;
	return NULL;
}

int bound_fd(const struct bound *b, unsigned w)
{
	return b->fd[b->n == 1 ? 0 : w];
}

static in_port_t port_of(const struct net_addr *a)
{
	return a->sa.sa_family == AF_INET6 ? a->in6.sin6_port :
					     a->in.sin_port;
}

/* From 0.0.0.0:80 to 127.0.0.1:80 in a reload: the probe would run into our
 * own socket. */
static bool port_is_ours(const struct sockets *s, const struct net_addr *a)
{
	const struct bound *b;

	cds_list_for_each_entry(b, &s->bound, node)
		if (!is_unix(&b->addr) && port_of(&b->addr) == port_of(a))
			return true;
	return false;
}

/* 0 or -errno. */
static int bind_one(struct sockets *s, const struct config_listener *l)
{
	unsigned n = is_unix(&l->address.addr) ? 1 : s->n_workers;
	struct bound *b = mem_alloc(sizeof(*b) + n * sizeof(b->fd[0]));
	int err;

	if (!b)
		return -ENOMEM;
	b->addr = l->address.addr;
	b->fresh = true;
	b->n = n;
	for (unsigned i = 0; i < n; i++)
		b->fd[i] = -1;
	err = is_unix(&b->addr) || port_is_ours(s, &b->addr) ?
		0 : probe(&b->addr);
	cds_list_add_tail(&b->node, &s->bound);
	for (unsigned i = 0; i < n && err == 0; i++) {
		/* Who may connect is for the directory to say. */
		b->fd[i] = listen_on(&b->addr, 0666);
		if (b->fd[i] < 0)
			err = b->fd[i];
	}
	return err;
}

bool sockets_bind(struct sockets *s, const struct config *config)
{
	bool ok = true;

	for (unsigned i = 0; i < config->n_listeners; i++) {
		const struct config_listener *l = &config->listeners[i];
		int err;

		if (sockets_find(s, &l->address.addr))
			continue;
		err = bind_one(s, l);
		if (err) {
			log_bind(l->name, l->address.text, err);
			ok = false;
		}
	}
	if (!ok)
		sockets_undo(s);
	return ok;
}

void sockets_undo(struct sockets *s)
{
	struct bound *b, *next;

	cds_list_for_each_entry_safe(b, next, &s->bound, node)
		if (b->fresh)
			bound_close(b);
}

static bool config_names(const struct config *config, const struct bound *b)
{
	for (unsigned i = 0; i < config->n_listeners; i++)
		if (same_addr(&config->listeners[i].address.addr, &b->addr))
			return true;
	return false;
}

void sockets_keep(struct sockets *s, const struct config *config)
{
	struct bound *b, *next;

	cds_list_for_each_entry_safe(b, next, &s->bound, node) {
		b->fresh = false;
		if (!config_names(config, b))
			bound_close(b);
	}
}

int sockets_bind_admin(const struct config_address *a)
{
	int fd = is_unix(&a->addr) ? 0 : probe(&a->addr);

	if (fd == 0)
		fd = listen_on(&a->addr, 0660);
	if (fd < 0)
		log_bind("admin", a->text, fd);
	return fd;
}
