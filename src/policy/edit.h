/*
 * Header edits that agents ask for (protocol page 6.3), on a head whose fields
 * array and bytes live in an arena.
 */
#ifndef POLICY_EDIT_H
#define POLICY_EDIT_H

#include "http/head.h"
#include "wire/decision.h"

/* Fields in a head after edits, at most. */
#define EDIT_MAX_FIELDS	1024u

/*
 * Applies ops in order. set: one field in the place of the first of that name,
 * or appended; add: appended; remove: all of them. Names compare without case
 * and are written as given. Ops on framing and hop-by-hop fields do nothing.
 * Setting Host also sets head->host. Names and values are copied into the
 * arena; the fields array is moved there when it has to grow, so head->fields
 * may change. False: no memory or more than EDIT_MAX_FIELDS fields; the head is
 * then half edited and must not be used.
 */
bool edit_apply(struct http_head *head, const struct header_op *ops,
		unsigned n_ops, struct arena *a) MUST_CHECK;

/*
 * May these ops be applied to a request head? host only by set, and to a valid
 * value. False is an agent's fault (cause protocol); check before applying.
 */
bool edit_request_ops_valid(const struct header_op *ops, unsigned n_ops);

/* Appends one field of copied bytes, growing as edit_apply() does. */
bool edit_append(struct http_head *head, struct slice name, struct slice value,
		 struct arena *a) MUST_CHECK;

/* A response whose body an agent has changed: takes out etag, content-md5,
 * digest and accept-ranges (protocol page 10.6). */
void edit_drop_validators(struct http_head *head);

#endif
