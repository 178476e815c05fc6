/*
 * Paths and their readings, host names. See path.h.
 *
 * Three steps, each dearer than the one before and rarer: one scan that finds
 * nothing worth a look (nearly all paths); an exact check whether the path is
 * normal; writing its readings into the arena.
 */
#include "http/parse.h"
#include "http/path.h"
#include "http/scan.h"

/* What a server may read in a path beyond what we do. */
enum {
	READ_ESCAPED_SLASH	= 1 << 0,	/* %2f is a separator */
	READ_BACKSLASH		= 1 << 1,	/* \ is a separator */
	READ_ESCAPED_BACKSLASH	= 1 << 2,	/* %5c is one too */
};

/* What a check of a path found. */
struct findings {
	bool bad;		/* %00 or a broken escape */
	bool differs;		/* reading 0 is not the path as it stands */
	bool slashes;		/* // */
	bool escaped_slash, backslash, escaped_backslash;
};

/* ---- looking ------------------------------------------------------------- */

#ifdef __SSE2__

/* *carry: does what stands before the piece end with a slash, and then: does
 * the piece? *stop: where there are question marks, of which the first ends
 * the path. The first `shift` bytes are not of the piece. */
static inline bool piece_is_plain(__m128i v, unsigned shift, unsigned *carry,
				  unsigned *stop)
{
	unsigned slash, odd;

	slash = (unsigned)_mm_movemask_epi8(
		_mm_cmpeq_epi8(v, _mm_set1_epi8('/'))) >> shift;
	odd = (unsigned)_mm_movemask_epi8(_mm_or_si128(
		_mm_cmpeq_epi8(v, _mm_set1_epi8('%')),
		_mm_cmpeq_epi8(v, _mm_set1_epi8('\\')))) >> shift;
	*stop = (unsigned)_mm_movemask_epi8(
		_mm_cmpeq_epi8(v, _mm_set1_epi8('?'))) >> shift;
	odd |= (slash << 1 | *carry) & (slash | (unsigned)
		_mm_movemask_epi8(_mm_cmpeq_epi8(v,
			_mm_set1_epi8('.'))) >> shift);
	*carry = slash >> 15 & 1;
	return !(odd & ((*stop & -*stop) - 1));
}

#endif

/*
 * Is there nothing in the path but segments that begin with something other
 * than a dot? *n gets the length up to the query then.
 */
static bool path_is_plain(struct slice t, size_t *n)
{
	const char *p = t.p, *end = p + t.n;
	bool after_slash = false;

#ifdef __SSE2__
	unsigned carry = 0, shift, stop;
	__m128i v;

	if (LIKELY(t.n >= 4 && t.n < 16)) {
		if (!piece_is_plain(scan_load_short(p, t.n), 0, &carry, &stop))
			return false;
		*n = stop ? (unsigned)__builtin_ctz(stop) : t.n;
		return true;
	}
	while (p < end && scan_load(t.p, p, end, &v, &shift)) {
		if (!piece_is_plain(v, shift, &carry, &stop))
			return false;
		if (stop) {
			*n = (size_t)(p - t.p) + __builtin_ctz(stop);
			return true;
		}
		p += 16 - shift;
	}
#endif
	for (; p < end && *p != '?'; p++) {
		if (*p == '%' || *p == '\\' ||
		    (after_slash && (*p == '/' || *p == '.')))
			return false;
		after_slash = *p == '/';
	}
	*n = (size_t)(p - t.p);
	return true;
}

/* The byte that an escape at p stands for; -1 if it is none or %00. */
static int escape_value(const char *p, const char *end)
{
	int high, low;

	if (end - p < 3)
		return -1;
	high = hex_value(p[1]);
	low = hex_value(p[2]);
	if (high < 0 || low < 0 || high + low == 0)
		return -1;
	return high << 4 | low;
}

static void find_escape(struct findings *f, const char *p, const char *end)
{
	int v = escape_value(p, end);

	if (v < 0) {
		f->bad = true;
		return;
	}
	if (char_is((char)v, CHAR_UNRESERVED) || p[1] >= 'a' || p[2] >= 'a')
		f->differs = true;
	if (v == '/')
		f->escaped_slash = true;
	if (v == '\\')
		f->escaped_backslash = true;
}

/* "." or ".." up to the next slash or the end? */
static bool is_dot_segment(const char *p, const char *end)
{
	if (*p != '.')
		return false;
	if (++p < end && *p == '.')
		p++;
	return p == end || *p == '/';
}

static struct findings look_at_path(const char *p, const char *end)
{
	struct findings f = { 0 };

	for (const char *start = p; p < end; p++) {
		if (*p == '%')
			find_escape(&f, p, end);
		else if (*p == '\\')
			f.backslash = true;
		if (p == start || p[-1] != '/')
			continue;
		if (*p == '/')
			f.slashes = true;
		else if (is_dot_segment(p, end))
			f.differs = true;
	}
	return f;
}

/* ---- reading ------------------------------------------------------------- */

/* Decodes under one reading; the result is never longer. */
static size_t decode(const char *p, const char *end, unsigned how, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	char *o = out;

	while (p < end) {
		int v;

		if (*p != '%') {
			*o++ = *p == '\\' && (how & READ_BACKSLASH) ? '/' : *p;
			p++;
			continue;
		}
		v = escape_value(p, end);
		p += 3;
		if (char_is((char)v, CHAR_UNRESERVED)) {
			*o++ = (char)v;
		} else if ((v == '/' && (how & READ_ESCAPED_SLASH)) ||
			   (v == '\\' && (how & READ_ESCAPED_BACKSLASH))) {
			*o++ = '/';
		} else {
			*o++ = '%';
			*o++ = hex[v >> 4];
			*o++ = hex[v & 15];
		}
	}
	return (size_t)(o - out);
}

static size_t merge_slashes(const char *s, size_t n, char *out)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		out[kept] = s[i];
		kept += i == 0 || s[i] != '/' || s[i - 1] != '/';
	}
	return kept;
}

/* RFC 3986, 5.2.4, in place; s begins with a slash. */
static size_t resolve_dots(char *s, size_t n)
{
	const char *end = s + n, *p = s;
	char *o = s;

	while (p < end) {	/* *p is the slash before a segment */
		const char *seg = p + 1;
		const char *next = memchr(seg, '/', (size_t)(end - seg));
		size_t len;

		if (!next)
			next = end;
		len = (size_t)(next - seg);
		if (len > 0 && len <= 2 && is_dot_segment(seg, end)) {
			if (len == 2)
				while (o > s && *--o != '/')
					;
			/* At the end the slash before it stays. */
			if (next == end)
				*o++ = '/';
		} else {
			memmove(o, p, len + 1);
			o += len + 1;
		}
		p = next;
	}
	return (size_t)(o - s);
}

/* Takes up a reading unless it is there already. */
static void add_reading(struct slice path, struct slice r,
			struct http_path *out)
{
	if (slice_eq(r, path))
		r = path;
	for (unsigned i = 0; i < out->n; i++)
		if (slice_eq(out->reading[i], r))
			return;
	ASSERT(out->n < HTTP_PATH_READINGS);
	out->reading[out->n++] = r;
}

/*
 * The readings of a path under one set of separators: // kept, merged before
 * dot segments are resolved, merged after that. They differ only where there
 * are two separators in a row.
 */
static enum http_path_result add_readings(struct slice path, unsigned how,
					  struct arena *a,
					  struct http_path *out)
{
	char *kept = arena_alloc(a, path.n), *first, *last;
	size_t n, n_first;

	if (!kept)
		return HTTP_PATH_NO_MEMORY;
	n = decode(path.p, path.p + path.n, how, kept);
	if (!memmem(kept, n, "//", 2)) {
		n = resolve_dots(kept, n);
		add_reading(path, slice_of(kept, n), out);
		return HTTP_PATH_OK;
	}
	first = arena_alloc(a, n);
	last = arena_alloc(a, n);
	if (!first || !last)
		return HTTP_PATH_NO_MEMORY;
	n_first = merge_slashes(kept, n, first);
	n_first = resolve_dots(first, n_first);
	n = resolve_dots(kept, n);
	add_reading(path, slice_of(kept, n), out);
	add_reading(path, slice_of(first, n_first), out);
	n = merge_slashes(kept, n, last);
	add_reading(path, slice_of(last, n), out);
	return HTTP_PATH_OK;
}

/* All that servers make of the path. */
static enum http_path_result add_all_readings(struct slice path,
					      const struct findings *f,
					      struct arena *a,
					      struct http_path *out)
{
	static const unsigned backslashes[] = {
		0, READ_BACKSLASH, READ_BACKSLASH | READ_ESCAPED_BACKSLASH,
	};

	for (unsigned e = 0; e < 2; e++) {
		if (e && !f->escaped_slash)
			break;
		for (unsigned b = 0; b < ARRAY_LEN(backslashes); b++) {
			unsigned how = (e ? READ_ESCAPED_SLASH : 0) |
				       backslashes[b];
			enum http_path_result rc;

			if ((b == 1 && !f->backslash) ||
			    (b == 2 && !f->escaped_backslash))
				continue;
			rc = add_readings(path, how, a, out);
			if (rc != HTTP_PATH_OK)
				return rc;
		}
	}
	return HTTP_PATH_OK;
}

enum http_path_result http_path_normalise(struct slice target, struct arena *a,
					  struct http_path *out)
{
	struct slice path = target;
	struct findings f;
	const char *query;

	out->n = 1;
	out->reading[0] = target;
	if (target.n == 0)
		return HTTP_PATH_BAD;
	if (target.p[0] != '/')
		return slice_eq(target, SLICE("*")) ? HTTP_PATH_OK :
						      HTTP_PATH_BAD;
	if (LIKELY(path_is_plain(target, &out->reading[0].n)))
		return HTTP_PATH_OK;
	query = memchr(target.p, '?', target.n);
	if (query)
		path.n = (size_t)(query - target.p);
	out->reading[0] = path;
	f = look_at_path(path.p, path.p + path.n);
	if (f.bad)
		return HTTP_PATH_BAD;
	if (!f.differs && !f.slashes && !f.escaped_slash && !f.backslash &&
	    !f.escaped_backslash)
		return HTTP_PATH_OK;
	out->n = 0;
	return add_all_readings(path, &f, a, out);
}

/* ---- hosts --------------------------------------------------------------- */

struct slice http_host_normalise(struct slice host, struct arena *a)
{
	bool plain = LIKELY(scan_plain_host(host));	/* without a port, too */
	size_t n = plain ? host.n : http_host_len(host), i;
	char *copy;

	if (n > 1 && host.p[n - 1] == '.')
		n--;
	if (plain)
		return slice_of(host.p, n);
	for (i = 0; i < n; i++)
		if (host.p[i] >= 'A' && host.p[i] <= 'Z')
			break;
	if (i == n)
		return slice_of(host.p ? host.p : "", n);
	copy = arena_alloc(a, n);
	if (!copy)
		return SLICE_NONE;
	for (i = 0; i < n; i++)
		copy[i] = ascii_lower(host.p[i]);
	return slice_of(copy, n);
}
