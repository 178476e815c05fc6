#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t now_us(void)
{
	return now_ns() / 1000;
}

void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void *must_realloc(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p)
		die("no memory");
	return p;
}

/* ---- sockets ------------------------------------------------------------ */

static socklen_t parse_address(const char *text, struct sockaddr_storage *s)
{
	struct sockaddr_un *un = (void *)s;
	struct sockaddr_in *in = (void *)s;
	const char *colon = strrchr(text, ':');
	char host[64];

	memset(s, 0, sizeof(*s));
	if (strncmp(text, "unix:", 5) == 0) {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", text + 5);
		return sizeof(*un);
	}
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		die("not an address: %s", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
		die("not an address: %s", text);
	return sizeof(*in);
}

int net_listen(const char *address)
{
	struct sockaddr_storage s;
	socklen_t n = parse_address(address, &s);
	int one = 1;
	int fd = socket(s.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			0);

	if (fd < 0)
		return -1;
	if (s.ss_family == AF_INET)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	else
		unlink(address + 5);
	if (bind(fd, (void *)&s, n) < 0 || listen(fd, 4096) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int net_connect(const char *address)
{
	struct sockaddr_storage s;
	socklen_t n = parse_address(address, &s);
	int one = 1;
	int fd = socket(s.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			0);

	if (fd < 0)
		return -1;
	if (s.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (void *)&s, n) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

/* ---- digest and pattern -------------------------------------------------- */

static uint32_t crc_table[8][256];

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
		crc_table[0][i] = c;
	}
	for (int t = 1; t < 8; t++) {
		for (int i = 0; i < 256; i++) {
			uint32_t c = crc_table[t - 1][i];

			crc_table[t][i] = crc_table[0][c & 255] ^ (c >> 8);
		}
	}
}

/* Eight bytes a step, a table for each of them. */
uint32_t crc32_add(uint32_t crc, const void *data, size_t n)
{
	const unsigned char *p = data;

	if (!crc_table[0][1])
		crc_init();
	crc = ~crc;
	for (; n >= 8; n -= 8, p += 8) {
		crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 |
		       (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		crc = crc_table[7][crc & 255] ^ crc_table[6][crc >> 8 & 255] ^
		      crc_table[5][crc >> 16 & 255] ^ crc_table[4][crc >> 24] ^
		      crc_table[3][p[4]] ^ crc_table[2][p[5]] ^
		      crc_table[1][p[6]] ^ crc_table[0][p[7]];
	}
	while (n--)
		crc = crc_table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
	return ~crc;
}

const char *pattern_at(uint64_t offset, size_t *n)
{
	static char pattern[PATTERN];
	size_t at = offset % PATTERN;

	if (!pattern[1]) {
		for (unsigned i = 0; i < PATTERN; i++)
			pattern[i] = (char)(i * 167 + (i >> 3));
	}
	*n = PATTERN - at;
	return pattern + at;
}

/* ---- heads --------------------------------------------------------------- */

static bool name_is(const char *line, size_t n, const char *name)
{
	return n == strlen(name) && strncasecmp(line, name, n) == 0;
}

static bool read_field(struct head *h, char *line)
{
	char *colon = strchr(line, ':');
	char *value, *end;
	size_t n;

	if (!colon || colon == line)
		return false;
	n = (size_t)(colon - line);
	value = colon + 1 + strspn(colon + 1, " \t");
	if (name_is(line, n, "content-length")) {
		if (h->body == BODY_LENGTH || h->body == BODY_CHUNKED)
			return false;	/* twice, or with chunked */
		h->length = strtoull(value, &end, 10);
		if (end == value || *end)
			return false;
		h->body = BODY_LENGTH;
	} else if (name_is(line, n, "transfer-encoding")) {
		if (h->body == BODY_LENGTH || strcasecmp(value, "chunked"))
			return false;
		h->body = BODY_CHUNKED;
	} else if (name_is(line, n, "connection")) {
		h->close |= strcasestr(value, "close") != NULL;
	} else if (name_is(line, n, "upgrade")) {
		h->upgrade = true;
	} else if (name_is(line, n, "expect")) {
		h->expect = true;
	} else if (name_is(line, n, "x-number")) {
		h->number = strtoll(value, NULL, 10);
	}
	return true;
}

static bool read_first_line(struct head *h, const char *line, bool response)
{
	int minor = -1;

	if (response) {
		if (sscanf(line, "HTTP/1.%1d %3d", &minor, &h->status) != 2)
			return false;
	} else if (sscanf(line, "%15s %255s HTTP/1.%1d", h->method, h->path,
			  &minor) != 3) {
		return false;
	}
	h->close = minor == 0;
	return minor == 0 || minor == 1;
}

enum head_result head_read(const char *buf, size_t n, bool response,
			   struct head *h)
{
	const char *end = memmem(buf, n, "\r\n\r\n", 4);
	char text[32768];
	char *line, *next;

	memset(h, 0, sizeof(*h));
	h->number = -1;
	if (!end)
		return n < sizeof(text) ? HEAD_MORE : HEAD_BAD;
	h->bytes = (size_t)(end - buf) + 4;
	if (h->bytes >= sizeof(text) || memchr(buf, 0, h->bytes))
		return HEAD_BAD;
	memcpy(text, buf, h->bytes - 2);
	text[h->bytes - 2] = 0;
	for (line = text; *line; line = next) {
		next = strstr(line, "\r\n");
		*next = 0;
		next += 2;
		if (line == text ? !read_first_line(h, line, response)
				 : !read_field(h, line))
			return HEAD_BAD;
	}
	if (response && h->body == BODY_NONE)
		h->body = BODY_CLOSE;
	return HEAD_OK;
}

/* ---- bodies -------------------------------------------------------------- */

enum { AT_SIZE, AT_SIZE_LF, AT_DATA, AT_DATA_CR, AT_DATA_LF, AT_TRAILER,
       AT_TRAILER_LINE };

void body_start(struct body *b, const struct head *h)
{
	memset(b, 0, sizeof(*b));
	b->kind = h->body;
	b->left = h->body == BODY_LENGTH ? h->length : 0;
	b->done = h->body == BODY_NONE || (h->body == BODY_LENGTH && !b->left);
	b->state = AT_SIZE;
}

static size_t take_data(struct body *b, const char *p, size_t n,
			void (*on_data)(void *, const char *, size_t),
			void *arg)
{
	if (b->kind != BODY_CLOSE && n > b->left)
		n = b->left;
	b->left -= b->kind == BODY_CLOSE ? 0 : n;
	b->bytes += n;
	b->crc = crc32_add(b->crc, p, n);
	if (on_data && n)
		on_data(arg, p, n);
	return n;
}

static void take_control(struct body *b, char c)
{
	static const char hex[] = "0123456789abcdef";
	const char *digit;

	switch (b->state) {
	case AT_SIZE:
		digit = c ? strchr(hex, c | 32) : NULL;
		if (digit)
			b->left = b->left * 16 + (uint64_t)(digit - hex);
		else if (c == '\r')
			b->state = AT_SIZE_LF;
		else
			b->bad = true;
		break;
	case AT_SIZE_LF:
		b->state = b->left ? AT_DATA : AT_TRAILER;
		b->bad = c != '\n';
		break;
	case AT_DATA_CR:
		b->state = AT_DATA_LF;
		b->bad = c != '\r';
		break;
	case AT_DATA_LF:
		b->state = AT_SIZE;
		b->bad = c != '\n';
		break;
	case AT_TRAILER:	/* at the start of a line */
		if (c != '\r')
			b->state = c == '\n' ? AT_TRAILER : AT_TRAILER_LINE;
		b->done = c == '\n';
		break;
	case AT_TRAILER_LINE:
		if (c == '\n')
			b->state = AT_TRAILER;
		break;
	}
}

size_t body_take(struct body *b, const char *buf, size_t n,
		 void (*on_data)(void *arg, const char *p, size_t n),
		 void *arg)
{
	size_t used = 0;

	while (used < n && !b->done && !b->bad) {
		if (b->kind != BODY_CHUNKED) {
			used += take_data(b, buf + used, n - used, on_data,
					  arg);
			b->done = b->kind == BODY_LENGTH && !b->left;
		} else if (b->state == AT_DATA) {
			used += take_data(b, buf + used, n - used, on_data,
					  arg);
			if (!b->left)
				b->state = AT_DATA_CR;
		} else {
			take_control(b, buf[used++]);
		}
	}
	return used;
}

/* ---- buffer ---------------------------------------------------------------- */

void buf_add(struct buf *b, const void *p, size_t n)
{
	if (b->off == b->n) {
		b->off = b->n = 0;
	} else if (b->off > b->cap / 2) {
		memmove(b->p, b->p + b->off, b->n - b->off);
		b->n -= b->off;
		b->off = 0;
	}
	if (b->n + n > b->cap) {
		b->cap = (b->n + n) * 2;
		b->p = must_realloc(b->p, b->cap);
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

void buf_printf(struct buf *b, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	buf_add(b, text, (size_t)n < sizeof(text) ? (size_t)n
						  : sizeof(text) - 1);
}

void buf_take(struct buf *b, size_t n)
{
	b->off += n;
	if (b->off == b->n)
		b->off = b->n = 0;
}

void buf_free(struct buf *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}
