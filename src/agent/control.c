/* What agents say unasked (protocol page 7): read leniently, harmless. */
#include "agent/internal.h"

void link_control_reset(struct link *link)
{
	deadline_stop(&link->pause);
	link->paused = false;
}

void link_on_control(struct link *link, uint8_t type, struct slice payload)
{
	link->n_dropped++;
}
