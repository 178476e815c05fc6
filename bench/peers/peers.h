/* What the small programs of the benchmark share. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

void die(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));
void *must_realloc(void *p, size_t n);

/* IP:PORT or a path. Non-blocking, TCP_NODELAY; peer_listen() dies if it
 * cannot, peer_connect() returns -1 with errno. */
int peer_listen(const char *address);
int peer_connect(const char *address);

/* A connection of peer_serve()'s; whoever has more begins with it. */
struct peer_conn {
	int fd;
	bool listener;
};

/*
 * Accepts and reads for ever. A connection is `size` bytes, zeroed. on_readable
 * returns false when it is over. SIGUSR1 prints {"heads":N}.
 */
void peer_serve(const char *address, size_t size,
		bool (*on_readable)(struct peer_conn *c),
		const uint64_t *heads) __attribute__((noreturn));

/*
 * What a slow peer has read and not looked at yet. All wait for the same time,
 * so they are due in the order in which they came.
 */
struct held {
	struct held *next;
	void *owner;
	uint64_t due_us;
	size_t n;
	char bytes[];
};

struct hold {
	uint64_t us;			/* 0: nothing is held */
	struct held *first, **end;
};

void hold_put(struct hold *h, void *owner, const char *p, size_t n);
/* The next one that is due, the caller's to free; NULL: none. */
struct held *hold_take(struct hold *h);
/* As epoll_wait(), but no longer than until the next one is due. */
int hold_wait(struct hold *h, int epoll_fd, struct epoll_event *events, int n);

#endif
