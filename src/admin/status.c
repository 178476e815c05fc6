/* The page for people, from status.html: the Makefile makes strings of its
 * lines. It fetches the other pages by itself. */
#include "admin/status.h"

const char admin_status_html[] =
#include "admin/status.inc"
;
