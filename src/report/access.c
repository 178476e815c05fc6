#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "report/format.h"

#define BUFFER_BYTES (64u * 1024)

/* Of one worker. */
struct access_buffer {
	size_t used;
	bool flush_due;		/* its owner was told so */
	bool cut;		/* begins with the rest of a line half written */
	struct format_cache cache;
	char bytes[BUFFER_BYTES];
} __attribute__((aligned(CACHE_LINE)));

/* What descriptor the lines go to. */
enum access_sink { SINK_OFF, SINK_FILE, SINK_PIPE, SINK_SOCKET };

struct access_log {
	/* Set once; what it refers to is swapped by dup3. */
	int fd;
	unsigned n_workers;
	void (*capture)(void *arg, const char *line, size_t n);
	void *capture_arg;
	char *path;		/* control thread */
	/* Written by the control thread, read by workers: atomic. */
	unsigned sink;		/* enum access_sink */
	unsigned format;	/* enum config_access_format */
	struct access_buffer buffer[];
};

/* ---- control thread ----------------------------------------------------- */

/*
 * Standard error without blocking, so that a slow reader of it stalls nobody.
 * O_NONBLOCK belongs to the open file, which others share: pipes and
 * terminals are opened anew, sockets are told at each send.
 */
static int open_stderr(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDERR_FILENO, &st) == 0 &&
	    (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		fd = open("/proc/self/fd/2",
			  O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd >= 0 ? fd : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
}

/* A descriptor for path and what kind it is; -1: errno says why not. */
static int open_path(const char *path, unsigned *sink)
{
	struct stat st;
	int fd;

	if (strcmp(path, "off") == 0) {
		*sink = SINK_OFF;
		return open("/dev/null", O_WRONLY | O_CLOEXEC);
	}
	if (strcmp(path, "stderr") == 0)
		fd = open_stderr();
	else
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
			  O_NONBLOCK | O_NOCTTY, 0640);
	*sink = SINK_FILE;
	if (fd >= 0 && fstat(fd, &st) == 0) {
		if (S_ISFIFO(st.st_mode))
			*sink = SINK_PIPE;
		else if (S_ISSOCK(st.st_mode))
			*sink = SINK_SOCKET;
	}
	return fd;
}

struct access_log *access_log_open(const char *path,
				   enum config_access_format format,
				   unsigned n_workers)
{
	struct access_log *log;

	log = mem_zalloc_aligned(sizeof(*log) +
				 n_workers * sizeof(log->buffer[0]));
	if (!log)
		return NULL;
	log->n_workers = n_workers;
	log->format = format;
	log->path = mem_strdup(slice_str(path));
	log->fd = log->path ? open_path(path, &log->sink) : -1;
	if (log->fd < 0) {
		int saved = log->path ? errno : ENOMEM;

		mem_free(log->path);
		mem_free(log);
		errno = saved;
		return NULL;
	}
	return log;
}

void access_log_close(struct access_log *log)
{
	if (!log)
		return;
	close(log->fd);
	mem_free(log->path);
	mem_free(log);
}

/* Not dup3(): a write beside it is what we want, and ThreadSanitizer takes it
 * for a race. */
static bool swap_fd(int from, int to)
{
	return syscall(SYS_dup3, from, to, O_CLOEXEC) >= 0;
}

bool access_log_change(struct access_log *log, const char *path,
		       enum config_access_format format)
{
	char *copy = mem_strdup(slice_str(path));
	unsigned sink;
	int fd, saved;
	bool ok;

	if (!copy) {
		errno = ENOMEM;
		return false;
	}
	fd = open_path(path, &sink);
	ok = fd >= 0 && swap_fd(fd, log->fd);
	saved = errno;
	if (fd >= 0)
		close(fd);
	if (!ok) {
		mem_free(copy);
		errno = saved;
		return false;
	}
	mem_free(log->path);
	log->path = copy;
	__atomic_store_n(&log->sink, sink, __ATOMIC_RELAXED);
	__atomic_store_n(&log->format, (unsigned)format, __ATOMIC_RELAXED);
	return true;
}

bool access_log_reopen(struct access_log *log)
{
	return access_log_change(log, log->path,
				 (enum config_access_format)log->format);
}

void access_log_capture(struct access_log *log,
			void (*fn)(void *arg, const char *line, size_t n),
			void *arg)
{
	log->capture = fn;
	log->capture_arg = arg;
}

/* ---- workers ------------------------------------------------------------ */

bool access_log_wants(const struct access_log *log)
{
	return log->capture ||
	       __atomic_load_n(&log->sink, __ATOMIC_RELAXED) != SINK_OFF;
}

bool access_log_add(struct access_log *log, unsigned w, const struct record *r,
		    struct worker_metrics *metrics)
{
	struct access_buffer *b = &log->buffer[w];
	char *at;
	size_t n;

	ASSERT(w < log->n_workers);
	if (!access_log_wants(log))
		return false;
	if (UNLIKELY(sizeof(b->bytes) - b->used < LINE_MAX_BYTES)) {
		bool due = b->flush_due;

		access_log_flush(log, w, metrics);
		b->flush_due = due;
	}
	at = b->bytes + b->used;
	if (__atomic_load_n(&log->format, __ATOMIC_RELAXED) == ACCESS_COMBINED)
		n = format_combined(at, r, &b->cache);
	else
		n = format_json(at, r, &b->cache);
	ASSERT(n <= LINE_MAX_BYTES);
	if (log->capture) {
		log->capture(log->capture_arg, at, n);
		return false;
	}
	b->used += n;
	if (b->flush_due)
		return false;
	b->flush_due = true;
	return true;
}

/* A pipe takes PIPE_BUF bytes whole or not at all: as many lines as fit. */
static size_t pipe_piece(const char *p, size_t n)
{
	const char *nl;

	if (n <= PIPE_BUF)
		return n;
	nl = memrchr(p, '\n', PIPE_BUF);
	if (!nl)
		nl = memchr(p, '\n', n);
	return nl ? (size_t)(nl - p) + 1 : n;
}

static ssize_t write_some(const struct access_log *log, unsigned sink,
			  const char *p, size_t n)
{
	ssize_t sent;

	do {
		if (sink == SINK_SOCKET)
			sent = send(log->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			sent = write(log->fd, p, n);
	} while (sent < 0 && errno == EINTR);
	return sent;
}

static uint64_t count_lines(const char *p, size_t n)
{
	uint64_t lines = 0;

	for (const char *nl; (nl = memchr(p, '\n', n)); lines++) {
		n -= (size_t)(nl + 1 - p);
		p = nl + 1;
	}
	return lines;
}

/* Not all could be written: drops whole lines, keeps the rest of one that was
 * begun, so that the reader never sees two run together. */
static void drop_rest(struct access_buffer *b, size_t pos,
		      struct worker_metrics *metrics)
{
	size_t keep = 0;

	if (pos ? b->bytes[pos - 1] != '\n' : b->cut) {
		const char *nl = memchr(b->bytes + pos, '\n', b->used - pos);

		keep = nl ? (size_t)(nl + 1 - b->bytes) - pos : 0;
	}
	counter_add(&metrics->access_lost,
		    count_lines(b->bytes + pos + keep, b->used - pos - keep));
	memmove(b->bytes, b->bytes + pos, keep);
	b->used = keep;
	b->cut = keep > 0;
}

void access_log_flush(struct access_log *log, unsigned w,
		      struct worker_metrics *metrics)
{
	struct access_buffer *b = &log->buffer[w];
	unsigned sink = __atomic_load_n(&log->sink, __ATOMIC_RELAXED);
	size_t pos = 0;

	b->flush_due = false;
	while (pos < b->used) {
		size_t n = b->used - pos;
		ssize_t sent;

		if (sink == SINK_PIPE)
			n = pipe_piece(b->bytes + pos, n);
		sent = write_some(log, sink, b->bytes + pos, n);
		if (sent > 0)
			pos += (size_t)sent;
		if (sent < 0 || (size_t)sent < n) {
			drop_rest(b, pos, metrics);
			return;
		}
	}
	b->used = 0;
	b->cut = false;
}
