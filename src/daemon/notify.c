#include "daemon/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/sock.h"

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (n < 2 || n >= sizeof(un.sun_path) ||
	    (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(un.sun_path, path, n);
	if (path[0] == '@')
		un.sun_path[0] = '\0';	/* the abstract name space */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    sendto(fd, text, strlen(text), MSG_NOSIGNAL,
		   (const struct sockaddr *)&un,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		log_warn("notify", "socket=%s error=\"%s\"", path,
			 strerror(errno));
	if (fd >= 0)
		close(fd);
}

void notify_ready(void)
{
	notify("READY=1\nSTATUS=Serving");
}

void notify_reloading(void)
{
	char text[80];

	/* The time tells systemd which of several reloads this is about. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 sock_clock_us());
	notify(text);
}

void notify_stopping(void)
{
	notify("STOPPING=1\nSTATUS=Draining");
}

void notify_watchdog(void)
{
	notify("WATCHDOG=1");
}

void notify_main_pid(int pid)
{
	char text[80];

	snprintf(text, sizeof(text), "MAINPID=%d\nSTATUS=Handed over", pid);
	notify(text);
}
