/*
 * Agents that dial in: how a worker that has no link of one asks over another
 * one's (hub.c knows who has some).
 *
 * A worker without a link borrows one; more, up to `connections`, while calls
 * wait and a lender has nothing better to do. What it has then looks like any
 * other link, with sessions and a FIFO of its own, but instead of a stream there is
 * another worker behind it, which owns the connection:
 *
 *	borrow.c				lend.c
 *	local_borrow		--attach-->	lend_on_attach: struct lent
 *	borrow_on_attached	<----------	on its link
 *	loan_send		--errand-->	lend_on_errand: into the
 *	borrow_on_errand_back	<-payload--	connection and its FIFO; the
 *						reply goes back as it came
 *	loan_end		--detach-->	lend_on_detach: what is under
 *	borrow_on_detached	<----------	way is buried (nothing of the
 *						lender follows it)
 *
 * Everything that counts (events, decisions, failures, time-outs) is the
 * borrower's. The lender's FIFO has an entry for each event, owned by the
 * errand's call: it finds the reply that belongs to it, by order or id, as for
 * its own. An errand goes back exactly once: with a reply, or without.
 *
 * Each post is one thread's until it is posted and the other's after. Who made
 * a struct frees it, after the last post that names it: a loan when `detached`
 * has come back, a lent when `detach` has come; the loop's queue keeps the
 * order of each poster. So no count is shared and no lock taken. None of them
 * points to the agent, which may be gone before the last post is read: they
 * find a worker's part of it by the hub, which is counted.
 */
#ifndef AGENT_ERRAND_H
#define AGENT_ERRAND_H

#include "agent/hub.h"
#include "base/mem.h"

enum loan_state { LOAN_ATTACHING, LOAN_UP, LOAN_DETACHING };

struct errand;

/* The borrower's, but for what a post says. */
struct loan {
	struct post post, lost;
	struct hub *hub;
	struct loop *home, *away;
	struct link *link;		/* borrowed; NULL: has no use for it */
	struct lent *lent;		/* the lender's; NULL: refused */
	struct wire_format format;	/* the lent link's, as those below */
	uint32_t chunk_size;
	uint64_t max_body;
	struct errand *loaded;		/* encoded, not sent yet */
	uint32_t reading;		/* the slot whose reply is read */
	struct errand *spare;
	unsigned n_spare;
	enum loan_state state;
	bool more;			/* it has one, and wants another */
};

/* The lender's. */
struct lent {
	struct cds_list_head node;	/* in link->lent */
	struct cds_list_head errands;	/* events that were not answered */
	struct cds_list_head unsent;	/* struct unsent */
	unsigned n_unsent;
	struct loan *loan;
	struct link *link;		/* NULL: lost */
};

enum errand_kind { ERRAND_EVENT, ERRAND_COMPLETE, ERRAND_CANCEL };

struct errand {
	struct post post;
	enum errand_kind kind;
	struct loan *loan;
	struct lent *lent;
	uint32_t slot;			/* in the borrower's FIFO */
	enum wire_cancel why;
	struct entry entry;		/* as it stands there */
	/* A frame, or the reply's payload. */
	char *bytes;
	size_t n, size;
	/* The lender's. */
	struct agent_call call;		/* owns the entry in its FIFO */
	struct cds_list_head node;	/* in lent->errands */
	struct cds_list_head wait;	/* in link->strangers */
	/* What came of it; cause NONE: bytes are a reply's. */
	enum cause cause;
	const char *text;
	struct errand *next;		/* spare */
};

static inline void errand_free(struct errand *e)
{
	if (e)
		mem_free(e->bytes);
	mem_free(e);
}

/* ---- posts: lend.c's, on the lender's thread ------------------------------- */

void lend_on_attach(struct loop *loop, struct post *p);
void lend_on_errand(struct loop *loop, struct post *p);
void lend_on_detach(struct loop *loop, struct post *p);

/* ---- posts: borrow.c's, on the borrower's ---------------------------------- */

void borrow_on_attached(struct loop *loop, struct post *p);
void borrow_on_errand_back(struct loop *loop, struct post *p);
void borrow_on_lost(struct loop *loop, struct post *p);
void borrow_on_detached(struct loop *loop, struct post *p);

#endif
