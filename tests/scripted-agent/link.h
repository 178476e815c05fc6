/*
 * One connection of the scripted agent: reads frames, asks the script, writes
 * what it says when it says. Serial, like the agents it stands for: a delayed
 * reply holds up those behind it, on this link and no other.
 */
#ifndef SCRIPTED_AGENT_LINK_H
#define SCRIPTED_AGENT_LINK_H

#include <event2/event.h>

#include "script.h"

struct totals {
	uint64_t links, frames, replies, unreadable, data_bytes;
	uint64_t by_event[EVENT_N];
};

struct agent {
	struct event_base *base;
	struct script *script;
	struct wire_format format;	/* encoding: the one preferred */
	bool encoding_forced;
	bool quiet;
	/* Dials in instead of listening; see dial.c. */
	const char *connect_to, *id, *token;
	unsigned links_wanted, links_dialled;
	struct event *redial;
	struct block_pool blocks;
	struct arena_pool arenas;
	struct arena scratch;
	struct link *links;
	struct exchange_table *exchanges;
	struct totals totals;
};

/* Takes the descriptor over. */
void link_new(struct agent *a, int fd);
/* The same of a connection that was dialled: registers first. */
void link_register(struct agent *a, int fd);
/* There is another script. */
void link_reload_all(struct agent *a);
void link_free_all(struct agent *a);


/* ---- dial.c ------------------------------------------------------------- */

/* Dials until all links are there, and again when some are lost. False: no
 * memory. */
bool dial_start(struct agent *a);
void dial_stop(struct agent *a);
/* One was lost. */
void dial_lost(struct agent *a);

#endif
