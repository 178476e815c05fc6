/* The daemon's own log; see log.h. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/timefmt.h"

#define LINE_MAX_BYTES	4096	/* what is longer is cut */

static int level_now = LOG_INFO;
static int fd_now = STDERR_FILENO;

void log_set_level(enum log_level level)
{
	__atomic_store_n(&level_now, (int)level, __ATOMIC_RELAXED);
}

enum log_level log_level(void)
{
	return (enum log_level)__atomic_load_n(&level_now, __ATOMIC_RELAXED);
}

void log_set_fd(int fd)
{
	fd_now = fd;
}

static size_t put_word(char *line, size_t at, const char *word)
{
	size_t n = min_size(strlen(word), 64);

	memcpy(line + at, word, n);
	line[at + n] = ' ';
	return at + n + 1;
}

static size_t put_prefix(char *line, enum log_level level, const char *event)
{
	static const char *const names[] = {
		[LOG_ERROR] = "error",
		[LOG_WARN] = "warn",
		[LOG_INFO] = "info",
		[LOG_DEBUG] = "debug",
	};
	struct timefmt_cache cache = { 0 };
	struct timespec ts;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	timefmt_rfc3339_ms(&cache, (uint64_t)ts.tv_sec * 1000000 +
			   (uint64_t)ts.tv_nsec / 1000, line);
	line[TIMEFMT_RFC3339_MS] = ' ';
	n = put_word(line, TIMEFMT_RFC3339_MS + 1, names[level]);
	return put_word(line, n, event);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES + 1];
	int saved_errno = errno;
	va_list ap;
	size_t n;
	int len;

	if (level > log_level())
		return;
	n = put_prefix(line, level, event);
	va_start(ap, fmt);
	len = vsnprintf(line + n, LINE_MAX_BYTES - n, fmt, ap);
	va_end(ap);
	if (len > 0)
		n += min_size((size_t)len, LINE_MAX_BYTES - n - 1);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	while (n && line[n - 1] == ' ')
		n--;
	line[n++] = '\n';
	/* One write: lines of several threads do not mix. A log that cannot be
	 * written is no reason to stop. */
	while (write(fd_now, line, n) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}
