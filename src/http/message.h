/*
 * Where messages come from and where they go to, whatever the version of
 * HTTP. A flow (exchange/flow.h) reads from a source and writes to a sink;
 * h1/ implements both over a stream, h2/ will.
 *
 * A source yields one message at a time:
 *	head, data*, end		or abort, at any time
 * and nothing after end or abort. Calls come only while it is not paused
 * (abort may always come), and never from inside a call to the source.
 *
 * A sink takes one message at a time:
 *	[interim heads] head, data*, end	or abort
 * Calls never fail; what goes wrong is told by on_fail, later, once.
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include "base/block.h"
#include "http/head.h"

/* Why a message broke. */
enum message_fault {
	MESSAGE_EOF,		/* the peer ended inside it (or before it) */
	MESSAGE_RESET,		/* connection error */
	MESSAGE_MALFORMED,	/* it breaks the syntax; ->parse_fault says how */
	MESSAGE_TIMEOUT,	/* no progress within the connection's limit */
	MESSAGE_NO_MEMORY,
};

struct source;
struct sink;

struct source_events {
	/*
	 * A whole head. head and its fields array are valid during the call
	 * only; the bytes that they point at live in block: take a reference
	 * to keep them. Interim (1xx) responses come as heads too, the final
	 * one follows.
	 */
	void (*on_head)(void *owner, const struct http_head *head,
			struct block *block);
	/* A piece of body, framing taken off. Keep it by a reference. */
	void (*on_data)(void *owner, struct block *block, const char *p,
			size_t n);
	/* The message is complete. trailers: NULL if none; valid during the
	 * call only. */
	void (*on_end)(void *owner, const struct http_head *trailers);
	/* parse_fault: enum http_parse with MESSAGE_MALFORMED, else 0. */
	void (*on_abort)(void *owner, enum message_fault why,
			 enum http_parse parse_fault);
};

struct source_ops {
	/* No on_data/on_end until resumed. */
	void (*pause)(struct source *src);
	void (*resume)(struct source *src);
};

struct source {
	const struct source_ops *ops;
	const struct source_events *events;
	void *owner;
};

struct sink_events {
	/* There is room again after sink_full() said true. */
	void (*on_room)(void *owner);
	/* Writing broke. What was queued is lost. */
	void (*on_fail)(void *owner, enum message_fault why);
	/* All bytes of the message, its end included, are in the system's
	 * hands. */
	void (*on_flushed)(void *owner);
};

struct sink_ops {
	/*
	 * Queues a head. framing, content_length, keep_alive, upgrade and
	 * te_trailers of the struct decide what is written for them; the
	 * fields are written as they stand. A 1xx head (but 101) is interim.
	 */
	void (*head)(struct sink *snk, const struct http_head *head);
	/* Queues body bytes; takes its own reference. n > 0. */
	void (*data)(struct sink *snk, struct block *block, const char *p,
		     size_t n);
	/* The message is complete. trailers: NULL, or written if the framing
	 * can carry them. */
	void (*end)(struct sink *snk, const struct http_head *trailers);
	/* Cut it off so that the peer can tell that it is not complete. */
	void (*abort)(struct sink *snk);
	/* Above the high-water mark? Then stop until on_room. */
	bool (*full)(struct sink *snk);
};

struct sink {
	const struct sink_ops *ops;
	const struct sink_events *events;
	void *owner;
};

#endif
