/* Agents that dial in (protocol page 9.1): links are opened by us. */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define PAUSE_MIN_MS	50u	/* between tries; doubles */
#define PAUSE_MAX_MS	2000u

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool dial_init(struct dial *d, const char *path, const char *token,
	       unsigned links)
{
	*d = (struct dial){ .un = { .sun_family = AF_UNIX }, .token = token,
			    .links = links ? links : 1,
			    .pause_ms = PAUSE_MIN_MS };
	if (strlen(path) >= sizeof(d->un.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(d->un.sun_path, path);
	return true;
}

void dial_told(struct agentproxy *a, const char *why)
{
	struct dial *d = a->dial;

	/* Once, not at every try. */
	if (!d->told)
		agentproxy_log(a, "%s: %s", d->un.sun_path, why);
	d->told = true;
}

void dial_taken(struct agentproxy *a)
{
	a->dial->pause_ms = PAUSE_MIN_MS;
	a->dial->told = false;
}

static bool open_one(struct agentproxy *a)
{
	const struct dial *d = a->dial;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&d->un,
			       sizeof(d->un)) == 0)
		return link_new(a, fd);
	dial_told(a, strerror(errno));
	if (fd >= 0)
		close(fd);
	return false;
}

int dial_due(struct agentproxy *a)
{
	struct dial *d = a->dial;
	uint64_t now;

	if (!d || a->n_links >= d->links)
		return -1;
	now = now_ms();
	if (now < d->next_ms)
		return (int)(d->next_ms - now);
	d->next_ms = now + d->pause_ms;
	while (a->n_links < d->links && open_one(a))
		;
	now = d->pause_ms;
	d->pause_ms = 2 * d->pause_ms < PAUSE_MAX_MS ? 2 * d->pause_ms
						      : PAUSE_MAX_MS;
	return (int)now;
}
