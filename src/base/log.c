/* The daemon's own log; see log.h. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/timefmt.h"

#define LINE_MAX_BYTES	4096	/* what is longer is cut */

static int level_now = LOG_INFO;

/* Standard error: set before threads run. */
static struct {
	int fd;
	bool socket, journal;
} err = { .fd = STDERR_FILENO };

/* The file, swapped under its writers by dup3; -1: there never was one. */
static int file_fd = -1;
/* Atomic. */
static bool to_file;
static bool cut;		/* the last line was written in part */
static uint64_t lost;

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
	err.fd = fd;
	err.socket = err.journal = false;
}

uint64_t log_lost(void)
{
	return __atomic_load_n(&lost, __ATOMIC_RELAXED);
}

static bool is_journal(const struct stat *st)
{
	const char *text = getenv("JOURNAL_STREAM");
	uint64_t dev, ino;

	return text && sscanf(text, "%" SCNu64 ":%" SCNu64, &dev, &ino) == 2 &&
	       dev == st->st_dev && ino == st->st_ino;
}

void log_init(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	err.socket = S_ISSOCK(st.st_mode);
	err.journal = is_journal(&st);
	/* Without blocking; anew, for the flag belongs to the open file, which
	 * others share. */
	if (S_ISFIFO(st.st_mode))
		fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC |
			  O_NOCTTY);
	err.fd = fd >= 0 ? fd : STDERR_FILENO;
}

bool log_open(const char *path)
{
	int fd, saved;
	bool ok = true;

	if (strcmp(path, "stderr") == 0) {
		__atomic_store_n(&to_file, false, __ATOMIC_RELEASE);
		return true;
	}
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
		  O_NONBLOCK | O_NOCTTY, 0640);
	if (fd < 0)
		return false;
	if (file_fd < 0) {
		file_fd = fd;
	} else {
		/* Not dup3(): ThreadSanitizer takes a write beside it for a
		 * race. */
		ok = syscall(SYS_dup3, fd, file_fd, O_CLOEXEC) >= 0;
		saved = errno;
		close(fd);
		errno = saved;
	}
	if (ok)
		__atomic_store_n(&to_file, true, __ATOMIC_RELEASE);
	return ok;
}

static size_t put_word(char *line, size_t at, const char *word)
{
	size_t n = min_size(strlen(word), 64);

	memcpy(line + at, word, n);
	line[at + n] = ' ';
	return at + n + 1;
}

/* For journald: what sd-daemon(3) says. */
static size_t put_priority(char *line, enum log_level level)
{
	static const char priority[] = {
		[LOG_ERROR] = '3', [LOG_WARN] = '4', [LOG_INFO] = '6',
		[LOG_DEBUG] = '7',
	};

	line[0] = '<';
	line[1] = priority[level];
	line[2] = '>';
	return 3;
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

static ssize_t write_line(bool file, const char *line, size_t n)
{
	ssize_t sent;

	do {
		if (!file && err.socket)
			sent = send(err.fd, line, n,
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			sent = write(file ? file_fd : err.fd, line, n);
	} while (sent < 0 && errno == EINTR);
	return sent;
}

/* One write: lines of several threads do not mix. line has room for one byte
 * before it. */
static void put_line(bool file, char *line, size_t n)
{
	ssize_t sent;

	if (__atomic_exchange_n(&cut, false, __ATOMIC_RELAXED)) {
		*--line = '\n';
		n++;
	}
	sent = write_line(file, line, n);
	if (sent == (ssize_t)n)
		return;
	__atomic_add_fetch(&lost, 1, __ATOMIC_RELAXED);
	if (sent > 0)
		__atomic_store_n(&cut, true, __ATOMIC_RELAXED);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char buf[1 + LINE_MAX_BYTES + 1], *line = buf + 1;
	bool file = __atomic_load_n(&to_file, __ATOMIC_ACQUIRE);
	int saved_errno = errno;
	va_list ap;
	size_t n = 0;
	int len;

	if (level > log_level())
		return;
	if (!file && err.journal)
		n = put_priority(line, level);
	n += put_prefix(line + n, level, event);
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
	put_line(file, line, n);
	errno = saved_errno;
}

bool log_limit_admits(struct log_limit *l, uint64_t now_us, unsigned most,
		      uint64_t while_us, unsigned *left_out)
{
	if (now_us >= l->until_us) {
		l->until_us = now_us + while_us;
		l->lines = 0;
	}
	if (l->lines >= most) {
		l->left_out++;
		return false;
	}
	l->lines++;
	*left_out = l->left_out;
	l->left_out = 0;
	return true;
}

unsigned log_limit_take(struct log_limit *l, uint64_t now_us)
{
	unsigned n = l->left_out;

	if (now_us < l->until_us)
		return 0;
	l->left_out = 0;
	return n;
}
