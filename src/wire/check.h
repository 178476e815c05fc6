/* What a header edit may hold (protocol page 6.3). Private to wire/. */
#ifndef WIRE_CHECK_H
#define WIRE_CHECK_H

#include "base/slice.h"

#define CHECK_NAME_MAX	256u
#define CHECK_VALUE_MAX	(16u * 1024)
#define CHECK_URL_MAX	(8u * 1024)

/* A token of RFC 9110 section 5.6.2, 1 to 256 bytes. */
bool check_field_name(struct slice name);
/* Takes blanks off both ends; false: CR, LF or NUL inside, or too long. */
bool check_field_value(struct slice *value);
/* A field that the proxy owns: framing, hop-by-hop, X-Request-Id. */
bool check_field_owned(struct slice name);
/* Not empty, not too long, no byte below 0x21 and no 0x7F. */
bool check_url(struct slice url);

#endif
