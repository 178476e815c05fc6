/* What a reload changes, for the log. */
#ifndef DAEMON_CHANGES_H
#define DAEMON_CHANGES_H

#include "config/model.h"

/* A line `config event=change key=... from=... to=...` for each key whose
 * effective value is another one; listeners and routes are told apart by name.
 * Many lines are cut short. The number of changes. */
unsigned changes_log(const struct config *from, const struct config *to);

#endif
