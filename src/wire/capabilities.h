/* Private to wire/: what handshake and registration have in common. */
#ifndef WIRE_CAPABILITIES_H
#define WIRE_CAPABILITIES_H

#include <jansson.h>

#include "wire/codec.h"

/* A foreign text for the log: cut, and without what could break a line. from
 * may be NULL. */
void wire_copy_printable(char *to, size_t size, const char *from);
/* What `capabilities` of either dialect says, into h; what is missing or odd is
 * not stated. */
void wire_get_capabilities(const json_t *root, struct wire_handshake *h);

#endif
