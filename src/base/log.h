/*
 * The daemon's own log: one line per event on standard error,
 *	time level event key=value ...
 * Values with blanks or quotes are quoted and escaped by the caller's format;
 * log_event() makes any control byte harmless. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_level(void);
/* Where lines go; standard error unless told. Not while threads run. */
void log_set_fd(int fd);

/*
 * event: one of the fixed names of interface.md or another single word.
 * fmt: the rest of the line, `key=value` pairs, without newline; "" if none.
 */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	PRINTF(3, 4);

#define log_error(event, ...)	log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)	log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)	log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)						\
	do {								\
		if (UNLIKELY(log_level() >= LOG_DEBUG))			\
			log_event(LOG_DEBUG, event, __VA_ARGS__);	\
	} while (0)

#endif
