/* What the small programs of the benchmark share. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stddef.h>

void die(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));
void *must_realloc(void *p, size_t n);

/* IP:PORT or a path. Non-blocking, TCP_NODELAY; peer_listen() dies if it
 * cannot, peer_connect() returns -1 with errno. */
int peer_listen(const char *address);
int peer_connect(const char *address);

#endif
