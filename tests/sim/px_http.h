/*
 * A strict reader of HTTP/1.1 messages, for scripted clients (responses) and
 * scripted upstreams (requests). Written for the simulator alone: it shares
 * nothing with src/http, so that a fault there is not repeated here. The first
 * breach of the syntax ends it.
 */
#ifndef PX_HTTP_H
#define PX_HTTP_H

#include "px.h"

#define PX_FIELDS	64

struct px_field {
	struct slice name, value;
};

enum px_read { PX_READ_HEAD, PX_READ_BODY, PX_READ_CHUNK, PX_READ_CHUNK_END,
	       PX_READ_TRAILERS, PX_READ_DONE };

struct px_reader {
	bool response;
	/* Of the request that the next response answers; set before its head
	 * is read. */
	bool to_head;
	void *ctx;
	void (*on_head)(struct px_reader *r);	/* interim ones too */
	void (*on_body)(struct px_reader *r, const char *p, size_t n);
	/* Ends come with PX_READ_DONE; the next message is read after
	 * px_reader_next(). */
	void (*on_end)(struct px_reader *r);

	enum px_read state;
	const char *error;
	struct px_buf in;
	size_t used;
	enum px_framing framing;
	uint64_t left;
	/* the head */
	unsigned status, minor;
	struct slice method, target;
	struct px_field fields[PX_FIELDS];
	unsigned n_fields;
	struct px_field trailers[PX_FIELDS];
	unsigned n_trailers;
	bool close;		/* the connection ends after this message */
};

/* Reads on; stops at an error (r->error says which). */
void px_reader_feed(struct px_reader *r, const char *p, size_t n);
/* The message is over, the next one may follow. From outside on_end() a feed
 * of nothing reads what is there of it. */
void px_reader_next(struct px_reader *r);
/* The connection has ended in order: true if the message is complete by it. */
bool px_reader_eof(struct px_reader *r);
/* Bytes that came and were not read. */
size_t px_reader_left(const struct px_reader *r);
void px_reader_free(struct px_reader *r);
/* How often the field is there; *value is the last one's. */
unsigned px_field(const struct px_reader *r, const char *name,
		  struct slice *value);

#endif
