/*
 * libagentproxy: write an agent for agentproxyd in C.
 *
 * An agent is a process that listens on a Unix socket; the proxy connects and
 * asks it about requests and responses. The library does the protocol (version
 * 2, JSON or MessagePack as the proxy likes), all links, and the event loop.
 * What is left is to decide:
 *
 *	static void on_head(void *user, const struct agentproxy_event *ev,
 *			    struct agentproxy_decision *d)
 *	{
 *		if (strncmp(ev->uri, "/admin", 6) == 0)
 *			agentproxy_block(d, 403, "denied\n");
 *	}
 *
 *	int main(void)
 *	{
 *		struct agentproxy *a = agentproxy_new("mine", "1.0", NULL);
 *
 *		agentproxy_on(a, AGENTPROXY_REQUEST_HEAD, on_head);
 *		return agentproxy_run(a, "/run/mine.sock") ? 1 : 0;
 *	}
 *
 * Handlers run one after the other, in the thread that called
 * agentproxy_run(); while one runs, nothing else is answered. What an event
 * points at is valid until its handler returns. Nothing here is thread-safe
 * but agentproxy_stop().
 *
 * A handler that does nothing allows. An event that cannot be read, or an
 * answer that cannot be given, never turns into an allow: the proxy is told,
 * or hung up on, and its policy (on_failure) decides.
 */
#ifndef AGENTPROXY_H
#define AGENTPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct agentproxy;
struct agentproxy_decision;

enum agentproxy_type {
	AGENTPROXY_REQUEST_HEAD,
	AGENTPROXY_REQUEST_CHUNK,	/* a piece of the request's body */
	AGENTPROXY_RESPONSE_HEAD,
	AGENTPROXY_RESPONSE_CHUNK,
	AGENTPROXY_COMPLETE,		/* the exchange is over */
	AGENTPROXY_CONFIGURE,		/* the proxy's `config` for this agent */
};

/* Names are in lower case. A name that the message had several times comes
 * several times, in order. All texts of an event end with a NUL. */
struct agentproxy_field {
	const char *name, *value;
	size_t name_len, value_len;
};

/* Texts that are not known are "", never NULL. Fields may be added at the end
 * in later versions: events are made by the library only. */
struct agentproxy_event {
	enum agentproxy_type type;
	const char *id;			/* of the exchange: all its events have
					 * it */
	/*
	 * A pointer of yours that stays with the exchange: NULL at first, the
	 * same place in all its events. See agentproxy_on_end().
	 */
	void **exchange;

	/* Heads. */
	const struct agentproxy_field *fields;
	unsigned n_fields;
	const char *method, *uri;	/* of a request; uri is path and query,
					 * not decoded */
	unsigned status;		/* of a response; with complete: what
					 * the client got, 0 if nothing */
	/* With a request's head. */
	const char *client_ip;
	unsigned client_port;
	const char *request_id, *server_name, *protocol, *route, *upstream;
	const char *timestamp, *tls_version, *tls_cipher, *traceparent;

	/* Chunks. data has a NUL behind it, but may have others inside. */
	const char *data;
	size_t size;
	unsigned index;			/* 0, 1, ... in each direction */
	bool is_last;
	uint64_t total;			/* of the body; UINT64_MAX: not known */

	/* Complete. */
	uint64_t duration_ms, request_bytes, response_bytes;
	const char *error;

	/* Configure: JSON text. Block refuses it. */
	const char *config, *config_version;
};

enum agentproxy_side { AGENTPROXY_REQUEST, AGENTPROXY_RESPONSE };

/* ---- the agent ----------------------------------------------------------- */

/* name and version are what the proxy shows; user is handed to all handlers.
 * All texts are copied. NULL: no memory. */
struct agentproxy *agentproxy_new(const char *name, const char *version,
				  void *user);
/* Not while it runs. NULL is fine. */
void agentproxy_free(struct agentproxy *a);

/*
 * What to call for events of this type. Without a handler they are allowed.
 * Which events come is the proxy's config, not what is asked for here.
 */
void agentproxy_on(struct agentproxy *a, enum agentproxy_type type,
		   void (*handler)(void *user,
				   const struct agentproxy_event *ev,
				   struct agentproxy_decision *d));
/*
 * Called once for every exchange whose *ev->exchange is not NULL in the end:
 * when it is complete, after that event's handler, or when its link is lost.
 */
void agentproxy_on_end(struct agentproxy *a,
		       void (*handler)(void *user, void *exchange));
/* Called after SIGHUP, between two events. Without it, SIGHUP is left as it
 * was. */
void agentproxy_on_reload(struct agentproxy *a, void (*handler)(void *user));
/* Where faults are told, one line each; standard error if it is not set. */
void agentproxy_on_log(struct agentproxy *a,
		       void (*handler)(void *user, const char *line));
/* Bodies without base64 on MessagePack links; the agent's entry in the proxy's
 * config must say `raw_body: true`. */
void agentproxy_set_raw_body(struct agentproxy *a, bool raw);

/*
 * Listens on socket (mode 0660; one that is left over from a crash is taken
 * over) and serves until SIGTERM, SIGINT or agentproxy_stop(); their handlers
 * are its own meanwhile, so one at a time in a process. 0; or -1, and errno
 * says why it could not begin: EADDRINUSE if another agent lives there.
 */
int agentproxy_run(struct agentproxy *a, const char *socket);
/*
 * The other way round: dials the proxy's socket for agents, where its config
 * has `reverse` for an agent of this name, with so many links, and again and
 * again if they are lost or refused. One link for each worker is best. token
 * may be NULL. Links are JSON. 0; or -1 and errno, as above.
 */
int agentproxy_dial(struct agentproxy *a, const char *socket,
		    const char *token, unsigned links);
/* From a handler, another thread or a signal handler. */
void agentproxy_stop(struct agentproxy *a);

/* The first value of a field, or NULL; name in lower case. */
const char *agentproxy_field(const struct agentproxy_event *ev,
			     const char *name);

/* ---- decisions ----------------------------------------------------------- */

/*
 * The last of allow, block, redirect and challenge stands. Texts are copied
 * and should be UTF-8. What no proxy would take (an illegal name, status or
 * URL, too many of something) makes the decision a failure, which is logged.
 */

/* Allows; only to take back one of those below. */
void agentproxy_allow(struct agentproxy_decision *d);
/* Answers instead of the upstream. status 200 to 599; body may be NULL. */
void agentproxy_block(struct agentproxy_decision *d, unsigned status,
		      const char *body);
void agentproxy_block_header(struct agentproxy_decision *d, const char *name,
			     const char *value);
/* status 301, 302, 303, 307 or 308. */
void agentproxy_redirect(struct agentproxy_decision *d, unsigned status,
			 const char *url);
/* Parameter "www-authenticate" makes it a 401 with that header, "body" is what
 * the client sees. */
void agentproxy_challenge(struct agentproxy_decision *d, const char *type);
void agentproxy_challenge_param(struct agentproxy_decision *d,
				const char *name, const char *value);

/*
 * Edits, in the order of the calls. Those of the request count while its head
 * is held, those of the response also when they are made with the request.
 */
void agentproxy_set_header(struct agentproxy_decision *d,
			   enum agentproxy_side side, const char *name,
			   const char *value);
void agentproxy_add_header(struct agentproxy_decision *d,
			   enum agentproxy_side side, const char *name,
			   const char *value);
void agentproxy_remove_header(struct agentproxy_decision *d,
			      enum agentproxy_side side, const char *name);

/* In the answer to a chunk: other bytes in its place, which are copied; none:
 * it is dropped. The agent's entry needs `may_mutate`. */
void agentproxy_replace_chunk(struct agentproxy_decision *d, const void *data,
			      size_t size);

/* Not decided yet: hold it back until I saw more of the body. */
void agentproxy_needs_more(struct agentproxy_decision *d);
/* Another upstream, one of those that the route lists; request head only. */
void agentproxy_choose_upstream(struct agentproxy_decision *d,
				const char *name);

/* For the access log: words about why. confidence 0 to 1. */
void agentproxy_tag(struct agentproxy_decision *d, const char *tag);
void agentproxy_rule(struct agentproxy_decision *d, const char *id);
void agentproxy_reason(struct agentproxy_decision *d, const char *code);
void agentproxy_confidence(struct agentproxy_decision *d, double confidence);

/* I cannot tell: the proxy's on_failure decides. why is logged. */
void agentproxy_fail(struct agentproxy_decision *d, const char *why);

/* Memory until the answer was written. NULL: none left, and the decision is a
 * failure. */
void *agentproxy_alloc(struct agentproxy_decision *d, size_t size);

#ifdef __cplusplus
}
#endif
#endif
