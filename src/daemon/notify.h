/* Telling systemd how we are (sd_notify(3)), without its library. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* No-ops without $NOTIFY_SOCKET. Control thread. */
void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
/* All is well: to be said more often than $WATCHDOG_USEC. */
void notify_watchdog(void);
/* Another process is the service from now on. */
void notify_main_pid(int pid);

#endif
