/* Between the reader of replies and its short cut; private to wire/. */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H

#include "base/slice.h"

/*
 * Is this, byte for byte, the allow without edits that all known agents write,
 * with a correlation id of our own length? Then *id is it. Most replies are,
 * and comparing them costs a tenth of reading them. False says nothing.
 */
bool reply_is_plain_allow(const char *buf, size_t len, struct slice *id);

#endif
