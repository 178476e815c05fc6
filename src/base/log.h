/*
 * The daemon's own log: one line per event on standard error or in a file,
 *	time level event key=value ...
 * On standard error before it, where that is the journal: "<PRIORITY>". A line
 * that cannot be written at once is lost and counted: no thread waits for it.
 * Values with blanks or quotes are quoted and escaped by the caller's format;
 * log_event() makes any control byte harmless. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_level(void);
/* Looks what standard error is ($JOURNAL_STREAM, a pipe, ...). Before threads
 * run; without it lines are simply written. */
void log_init(void);
/* Lines go to "stderr" or a file (created 0640, appended) from now on; the same
 * file again is opened anew. One thread. False: nothing has changed (errno). */
bool log_open(const char *path) MUST_CHECK;
/* Lines that could not be written, whole or in part. */
uint64_t log_lost(void);
/* Where standard error's lines go, for tests. Not while threads run. */
void log_set_fd(int fd);

/*
 * event: one of the fixed names of interface.md or another single word.
 * fmt: the rest of the line, `key=value` pairs, without newline; "" if none.
 */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	PRINTF(3, 4);

/*
 * For lines that others can cause as often as they like: at most so many in a
 * while, and then how many there would have been. Whose it is locks it.
 */
struct log_limit {
	uint64_t until_us;	/* of this while */
	unsigned lines, left_out;
};

/* May a line be written? *left_out: those that were not since it was asked for
 * last. */
bool log_limit_admits(struct log_limit *l, uint64_t now_us, unsigned most,
		      uint64_t while_us, unsigned *left_out) MUST_CHECK;
/* The same when there is no line to say it: 0 as long as the while lasts. */
unsigned log_limit_take(struct log_limit *l, uint64_t now_us);

#define log_error(event, ...)	log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)	log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)	log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)						\
	do {								\
		if (UNLIKELY(log_level() >= LOG_DEBUG))			\
			log_event(LOG_DEBUG, event, __VA_ARGS__);	\
	} while (0)

#endif
