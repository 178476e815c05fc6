/*
 * Between the parts of libagentproxy. agent.c has the loop and the socket,
 * link.c one connection and its frames, dial.c those that we open, event.c
 * what a handler sees, decision.c what it answers, exchange.c what it
 * remembers.
 *
 * The protocol itself is src/wire/, and memory src/base/: the library is built
 * of these, and exports none of their names.
 */
#ifndef LIB_INTERNAL_H
#define LIB_INTERNAL_H

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agentproxy.h"
#include "wire/codec.h"

#define EXPORT	__attribute__((visibility("default")))

/* Where an agent dials in. */
struct dial {
	struct sockaddr_un un;
	const char *token;
	unsigned links;			/* wanted */
	unsigned pause_ms;
	uint64_t next_ms;		/* not before */
	bool told;			/* why not is in the log */
};

struct agentproxy {
	/* Fixed while it runs. */
	char *name, *version;
	void *user;
	void (*on[EVENT_N])(void *user, const struct agentproxy_event *ev,
			    struct agentproxy_decision *d);
	void (*on_end)(void *user, void *exchange);
	void (*on_reload)(void *user);
	void (*on_log)(void *user, const char *line);
	bool raw_body;
	uint64_t hash_key[2];

	/* The loop's. */
	int epoll, listener;
	bool accept_paused;
	struct stat socket;		/* the file that we made */
	struct dial *dial;		/* NULL: it listens */
	struct link *links;
	unsigned n_links;
	struct block_pool blocks;
	struct arena_pool arenas;
	struct arena scratch;		/* of the event in hand */

	/* Any thread's, and signal handlers'. */
	int wake;
	atomic_bool stop, reload;
};

void agentproxy_log(struct agentproxy *a, const char *fmt, ...) PRINTF(2, 3);

/* ---- decision.c ---------------------------------------------------------- */

struct agentproxy_decision {
	struct decision d;
	struct arena *scratch;
	const char *failed;	/* in scratch or static; NULL: not */
};

void decision_init(struct agentproxy_decision *d, struct arena *scratch,
		   struct slice id);

/* ---- event.c -------------------------------------------------------------- */

/*
 * What a handler sees of e. Puts a NUL behind each text where it stands: what
 * follows it in the frame has been read already, and the caller spares the
 * byte behind the frame. False: no memory, or a NUL inside a text.
 */
bool event_make(struct agentproxy_event *ev, const struct wire_agent_event *e,
		struct arena *scratch);

/* ---- exchange.c ----------------------------------------------------------- */

/* The pointers that handlers keep, by correlation id; one table a link. */
struct exchanges {
	struct exchange **slots;
	unsigned n_slots, n;
};

/* NULL: nothing is kept. */
void *exchanges_get(const struct exchanges *x, const uint64_t key[2],
		    struct slice id);
/* data is not NULL. False: no memory, or too many. */
bool exchanges_put(struct exchanges *x, const uint64_t key[2],
		   struct slice id, void *data) MUST_CHECK;
void exchanges_drop(struct exchanges *x, const uint64_t key[2],
		    struct slice id);
/* Ends all of them. */
void exchanges_fini(struct exchanges *x, struct agentproxy *a);

/* ---- link.c --------------------------------------------------------------- */

/* Takes the descriptor over. False: no memory. */
bool link_new(struct agentproxy *a, int fd);
void link_free(struct link *l);
/* It is readable or writable; may free it. */
void link_serve(struct link *l, uint32_t events);

/* ---- dial.c --------------------------------------------------------------- */

/* token is borrowed. False: errno. */
bool dial_init(struct dial *d, const char *path, const char *token,
	       unsigned links);
/* Opens links that are missing, if it is time. Milliseconds until it is next;
 * -1: all are there. */
int dial_due(struct agentproxy *a);
/* A link was taken; why one was not. */
void dial_taken(struct agentproxy *a);
void dial_told(struct agentproxy *a, const char *why);

#endif
