#include "daemon/inbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

void inbox_run(struct inbox *in)
{
	struct letter *l, *next;

	pthread_mutex_lock(&in->lock);
	l = in->first;
	in->first = NULL;
	in->last = &in->first;
	pthread_mutex_unlock(&in->lock);
	for (; l; l = next) {
		next = l->next;
		l->fn(l);
	}
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)n;	/* EAGAIN is as good: the list says what is there */
	inbox_run(arg);
}

bool inbox_init(struct inbox *in, struct event_base *base)
{
	in->fd = -1;
	in->last = &in->first;
	if (pthread_mutex_init(&in->lock, NULL) != 0)
		return false;
	in->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (in->fd < 0)
		return false;
	in->event = event_new(base, in->fd, EV_READ | EV_PERSIST, on_wake, in);
	return in->event && event_add(in->event, NULL) == 0;
}

void inbox_fini(struct inbox *in)
{
	if (in->event)
		event_free(in->event);
	if (in->fd >= 0)
		close(in->fd);
	pthread_mutex_destroy(&in->lock);
}

void inbox_send(struct inbox *in, struct letter *l, letter_fn *fn)
{
	uint64_t one = 1;

	l->next = NULL;
	l->fn = fn;
	pthread_mutex_lock(&in->lock);
	*in->last = l;
	in->last = &l->next;
	pthread_mutex_unlock(&in->lock);
	while (write(in->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
