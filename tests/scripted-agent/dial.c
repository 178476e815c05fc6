/* An agent that dials in, and comes back when it is sent away. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "link.h"

#define REDIAL_US	100000

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || strlen(path) >= sizeof(a.sun_path))
		return -1;
	strcpy(a.sun_path, path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void arm(struct agent *a)
{
	struct timeval tv = { .tv_usec = REDIAL_US };

	if (!evtimer_pending(a->redial, NULL))
		evtimer_add(a->redial, &tv);
}

static void dial_all(struct agent *a)
{
	while (a->links_dialled < a->links_wanted) {
		int fd = dial(a->connect_to);

		if (fd < 0) {
			arm(a);
			return;
		}
		a->links_dialled++;
		link_register(a, fd);
	}
}

static void on_redial(evutil_socket_t fd, short what, void *arg)
{
	dial_all(arg);
}

bool dial_start(struct agent *a)
{
	a->redial = evtimer_new(a->base, on_redial, a);
	if (!a->redial)
		return false;
	dial_all(a);
	return true;
}

void dial_stop(struct agent *a)
{
	if (a->redial)
		event_free(a->redial);
	a->redial = NULL;
}

void dial_lost(struct agent *a)
{
	a->links_dialled--;
	if (a->redial)
		arm(a);
}
