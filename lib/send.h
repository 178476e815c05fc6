/*
 * An out-queue into a socket. The proxy itself sends through net/stream; this
 * is for agents: libagentproxy's, and those of the tests and the benchmark.
 */
#ifndef LIB_SEND_H
#define LIB_SEND_H

#include "base/outq.h"

/*
 * Sends what the socket takes now, and drops it from the queue. True: nothing
 * is left, or (see outq_empty()) the socket is full. False: it is broken;
 * errno.
 */
bool outq_send(struct outq *q, int fd) MUST_CHECK;

#endif
