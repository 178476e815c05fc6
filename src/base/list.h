/* Intrusive lists: liburcu's, under one roof. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <urcu/list.h>

static inline bool list_linked(const struct cds_list_head *node)
{
	return node->next && node->next != node;
}

/* Takes a node out and leaves it in a state that list_linked() says no to. */
static inline void list_take(struct cds_list_head *node)
{
	cds_list_del(node);
	CDS_INIT_LIST_HEAD(node);
}

#endif
