#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

/* NUL-terminated. */
extern const char admin_status_html[];

#endif
