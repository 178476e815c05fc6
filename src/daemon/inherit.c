#include "daemon/inherit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

/* Below 0: not there, or no number in that range. */
static int env_number(const char *name, int max)
{
	const char *text = getenv(name);
	char *end;
	long v;

	if (!text || *text < '0' || *text > '9')
		return -1;
	v = strtol(text, &end, 10);
	return *end || v > max ? -1 : (int)v;
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t n = sizeof(on);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on;
}

static bool set_flags(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
	       fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* names: what is left of LISTEN_FDNAMES, moved on by one. */
static void take_name(struct inherited *i, const char **names)
{
	size_t n = *names ? strcspn(*names, ":") : 0;

	if (!*names)
		return;
	snprintf(i->name, sizeof(i->name), "%.*s", (int)n, *names);
	*names += n;
	*names = **names == ':' ? *names + 1 : NULL;
}

static void take_fd(struct inherit *in, int fd, bool kept, const char **names)
{
	struct inherited *i = &in->list[in->n];

	*i = (struct inherited){ .fd = fd, .kept = kept };
	take_name(i, names);
	i->addr.len = sizeof(i->addr.un);
	if (!is_listening(fd) || !set_flags(fd) ||
	    getsockname(fd, &i->addr.sa, &i->addr.len) < 0) {
		log_warn("inherit", "fd=%d name=%s "
			 "error=\"no listening stream socket\"", fd, i->name);
		close(fd);
		return;
	}
	in->n++;
}

/* The part of AGENTPROXYD_HANDOVER behind the descriptor; NULL: systemd is at
 * the other end. */
static const char *take_handover(struct inherit *in)
{
	const char *text = getenv(INHERIT_HANDOVER);
	const char *comma = text ? strchr(text, ',') : NULL;
	int fd = comma ? atoi(text) : -1;

	if (fd < INHERIT_FIRST_FD || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return NULL;
	in->ready_fd = fd;
	return comma + 1;
}

static void clear_environment(void)
{
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	unsetenv(INHERIT_HANDOVER);
}

bool inherit_init(struct inherit *in)
{
	int n = env_number("LISTEN_FDS", INHERIT_MAX);
	const char *names = getenv("LISTEN_FDNAMES"), *kept;
	bool ok = true;

	*in = (struct inherit){ .ready_fd = -1 };
	kept = take_handover(in);
	if (!kept && env_number("LISTEN_PID", INT32_MAX) != (int)getpid())
		n = -1;
	if (n > 0) {
		in->list = mem_zalloc((size_t)n * sizeof(*in->list));
		ok = in->list != NULL;
	}
	for (int i = 0; ok && i < n; i++) {
		take_fd(in, INHERIT_FIRST_FD + i, !kept || *kept == 'k',
			&names);
		if (kept && *kept)
			kept++;
	}
	clear_environment();
	return ok;
}

static bool same_addr(const struct net_addr *a, const struct net_addr *b)
{
	return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

static const struct net_addr *address_for(const struct inherit *in,
					  const struct net_addr *a,
					  const char *name)
{
	for (unsigned i = 0; i < in->n; i++)
		if (in->list[i].fd >= 0 && same_addr(&in->list[i].addr, a))
			return a;
	for (unsigned i = 0; name && i < in->n; i++)
		if (in->list[i].fd >= 0 && strcmp(in->list[i].name, name) == 0)
			return &in->list[i].addr;
	return NULL;
}

unsigned inherit_count(const struct inherit *in, const struct net_addr *a,
		       const char *name)
{
	const struct net_addr *want = address_for(in, a, name);
	unsigned n = 0;

	for (unsigned i = 0; want && i < in->n; i++)
		n += in->list[i].fd >= 0 && same_addr(&in->list[i].addr, want);
	return n;
}

int inherit_take(struct inherit *in, const struct net_addr *a,
		 const char *name, bool *kept)
{
	const struct net_addr *want = address_for(in, a, name);

	for (unsigned i = 0; want && i < in->n; i++) {
		struct inherited *h = &in->list[i];
		int fd = h->fd;

		if (fd < 0 || !same_addr(&h->addr, want))
			continue;
		h->fd = -1;
		*kept = h->kept;
		return fd;
	}
	return -1;
}

void inherit_close_rest(struct inherit *in)
{
	for (unsigned i = 0; i < in->n; i++) {
		struct inherited *h = &in->list[i];
		char text[NET_ADDR_TEXT];

		if (h->fd < 0)
			continue;
		net_addr_format(&h->addr, text);
		log_warn("inherit", "fd=%d name=%s address=%s "
			 "text=\"no listener wants it\"", h->fd, h->name, text);
		close(h->fd);
		h->fd = -1;
		if (!h->kept && h->addr.sa.sa_family == AF_UNIX)
			unlink(h->addr.un.sun_path);
	}
}

void inherit_fini(struct inherit *in)
{
	for (unsigned i = 0; i < in->n; i++)
		if (in->list[i].fd >= 0)
			close(in->list[i].fd);
	if (in->ready_fd >= 0)
		close(in->ready_fd);
	mem_free(in->list);
	*in = (struct inherit){ .ready_fd = -1 };
}
