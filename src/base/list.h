/* Intrusive lists: liburcu's, under one roof. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <urcu/list.h>

/* Of a node that is zeroed until it is put into a list, and taken out by
 * list_take(). */
static inline bool list_linked(const struct cds_list_head *node)
{
	return node->next;
}

/* Takes a node out and leaves it in a state that list_linked() says no to. */
static inline void list_take(struct cds_list_head *node)
{
	cds_list_del(node);
	node->next = NULL;
}

#endif
