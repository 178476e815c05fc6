#include "daemon/sockets.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
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
	/* Not even for a moment open to more than mode says. */
	mode_t mask = umask(0777 & ~mode);
	int fd = sock_listen(a, BACKLOG);

	umask(mask);
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
	s->inherit = NULL;
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
	if (opened && !b->kept && !b->shared)
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

int bound_fd(const struct bound *b, unsigned n_workers, unsigned w, unsigned i)
{
	unsigned slot = w + i * n_workers;

	if (slot < b->n)
		return b->fd[slot];
	return i == 0 ? b->fd[slot % b->n] : -1;
}

static in_port_t port_of(const struct net_addr *a)
{
	return a->sa.sa_family == AF_INET6 ? a->in6.sin6_port :
					     a->in.sin_port;
}

/* From 0.0.0.0:80 to 127.0.0.1:80 in a reload: the probe would run into our
 * own socket. */
static bool port_is_ours(const struct sockets *s, const struct bound *but)
{
	const struct bound *b;

	cds_list_for_each_entry(b, &s->bound, node)
		if (b != but && !is_unix(&b->addr) &&
		    port_of(&b->addr) == port_of(&but->addr))
			return true;
	return false;
}

/* ---- making one ----------------------------------------------------------- */

/* Can more be bound beside it? */
static bool has_reuseport(int fd)
{
	int on = 0;
	socklen_t n = sizeof(on);

	return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &n) == 0 && on;
}

/* Where agents dial in, one worker listens. */
static struct bound *bound_new(struct sockets *s,
			       const struct config_listener *l,
			       bool for_agents, unsigned inherited)
{
	unsigned n = is_unix(&l->address.addr) || for_agents ? 1 :
		     s->n_workers;
	struct bound *b;

	n = n > inherited ? n : inherited;
	b = mem_zalloc(sizeof(*b) + n * sizeof(b->fd[0]));
	if (!b)
		return NULL;
	b->addr = l->address.addr;
	b->mode = l->mode;
	b->fresh = true;
	b->n = n;
	for (unsigned i = 0; i < n; i++)
		b->fd[i] = -1;
	cds_list_add_tail(&b->node, &s->bound);
	return b;
}

/* What systemd or a former process has left for it; how many. */
static unsigned take_inherited(struct sockets *s, struct bound *b,
			       const struct config_listener *l)
{
	struct inherit *in = s->inherit;
	unsigned n = inherit_count(in, &b->addr, l->name), i;

	if (!inherit_count(in, &b->addr, NULL))
		snprintf(b->name, sizeof(b->name), "%s", l->name);
	for (i = 0; i < n; i++) {
		b->fd[i] = inherit_take(in, &b->addr, l->name, &b->kept);
		ASSERT(b->fd[i] >= 0);
	}
	b->shared = in->ready_fd >= 0;
	b->mode = 0;	/* not known: it is set anew */
	return n;
}

/* A file that systemd made is as systemd was told. */
static void keep_mode(struct bound *b, const struct config_listener *l)
{
	if (b->kept || !is_unix(&b->addr) || b->mode == l->mode)
		return;
	b->mode = l->mode;
	if (chmod(b->addr.un.sun_path, b->mode) < 0)
		log_error("mode", "listener=%s address=%s error=\"%s\"",
			  l->name, l->address.text, strerror(errno));
}

/* 0 or -errno. */
static int bind_slots(struct sockets *s, struct bound *b, unsigned from)
{
	int err = from || is_unix(&b->addr) || port_is_ours(s, b) ?
		0 : probe(&b->addr);

	for (unsigned i = from; i < b->n && err == 0; i++) {
		b->fd[i] = listen_on(&b->addr, b->mode);
		if (b->fd[i] < 0)
			err = b->fd[i];
	}
	return err;
}

/* 0 or -errno. */
static int bind_one(struct sockets *s, const struct config_listener *l,
		    bool for_agents)
{
	unsigned n = s->inherit ?
		inherit_count(s->inherit, &l->address.addr, l->name) : 0;
	struct bound *b = bound_new(s, l, for_agents, n);
	int err;

	if (!b)
		return -ENOMEM;
	if (n)
		n = take_inherited(s, b, l);
	/* Those that nothing can be bound beside are shared. */
	if (n && (b->kept || is_unix(&b->addr) || !has_reuseport(b->fd[0]))) {
		b->n = n;
		keep_mode(b, l);
		return 0;
	}
	err = bind_slots(s, b, n);
	if (err && n) {
		log_warn("bind", "listener=%s address=%s sockets=%u "
			 "error=\"%s\"", l->name, l->address.text, n,
			 strerror(-err));
		b->n = n;	/* perhaps another user's: then these do */
		return 0;
	}
	return err;
}

/* All that is listened on but the admin port; NULL after the last. */
static const struct config_listener *listener_at(const struct config *config,
						 unsigned i)
{
	if (i < config->n_listeners)
		return &config->listeners[i];
	return i == config->n_listeners && config->agent_listener.address.text ?
		&config->agent_listener : NULL;
}

bool sockets_bind(struct sockets *s, const struct config *config)
{
	const struct config_listener *l;
	bool ok = true;

	for (unsigned i = 0; (l = listener_at(config, i)); i++) {
		int err;

		if (sockets_find(s, &l->address.addr))
			continue;
		err = bind_one(s, l, l == &config->agent_listener);
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
	const struct config_listener *l;

	for (unsigned i = 0; (l = listener_at(config, i)); i++)
		if (same_addr(&l->address.addr, &b->addr))
			return true;
	return false;
}

void sockets_keep(struct sockets *s, const struct config *config)
{
	const struct config_listener *l;
	struct bound *b, *next;

	cds_list_for_each_entry_safe(b, next, &s->bound, node) {
		b->fresh = false;
		if (!config_names(config, b))
			bound_close(b);
	}
	for (unsigned i = 0; (l = listener_at(config, i)); i++) {
		struct bound *own = sockets_find(s, &l->address.addr);

		if (own)
			keep_mode(own, l);
	}
}

/* ---- the end -------------------------------------------------------------- */

void sockets_share(struct sockets *s, bool on)
{
	struct bound *b;

	cds_list_for_each_entry(b, &s->bound, node)
		b->shared = on;
}

/*
 * A listening socket that lets no new connection begin: what has the ACK or RST
 * bit (in byte 13 of the TCP header) passes, a first SYN does not. Its sender
 * will try again, and finds the port closed then; had it been let in, closing
 * the socket would have reset it.
 */
static void refuse_syn(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x14, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = { .len = ARRAY_LEN(code), .filter = code };

	/* Without it a stop may reset who comes at the last moment. */
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
		       sizeof(prog)) < 0)
		log_debug("drain", "error=\"no filter: %s\"",
			  strerror(errno));
}

void sockets_refuse(struct sockets *s, const struct config *but)
{
	struct bound *b;

	cds_list_for_each_entry(b, &s->bound, node) {
		if (b->kept || b->shared || (but && config_names(but, b)))
			continue;
		for (unsigned i = 0; i < b->n; i++)
			if (!is_unix(&b->addr) && b->fd[i] >= 0)
				refuse_syn(b->fd[i]);
		sockets_unlink(&b->addr);
		b->shared = is_unix(&b->addr);	/* the name is free */
	}
}

int sockets_bind_admin(struct sockets *s, const struct config_address *a,
		       bool *kept)
{
	int fd = s->inherit ?
		inherit_take(s->inherit, &a->addr, "admin", kept) : -1;

	if (fd >= 0)
		return fd;
	*kept = false;
	fd = is_unix(&a->addr) ? 0 : probe(&a->addr);
	if (fd == 0)
		fd = listen_on(&a->addr, 0660);
	if (fd < 0)
		log_bind("admin", a->text, fd);
	return fd;
}
