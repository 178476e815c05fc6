#include "config/value.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = {
	{ "h", 3600000000 }, { "min", 60000000 }, { "s", 1000000 },
	{ "ms", 1000 }, { NULL, 0 },
};

static const struct unit size_units[] = {
	{ "GiB", 1u << 30 }, { "MiB", 1u << 20 }, { "KiB", 1u << 10 },
	{ NULL, 0 },
};

static bool fail(char *why, const char *fmt, ...) PRINTF(2, 3);

static bool fail(char *why, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, VALUE_WHY, fmt, args);
	va_end(args);
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

/* Digits at the front: no sign, no leading zero. Their number; 0 if none or
 * too many. */
static size_t digits(const char *text, uint64_t *n)
{
	size_t i = 0;

	*n = 0;
	for (; is_digit(text[i]); i++) {
		if (i == 18)
			return 0;
		*n = *n * 10 + (uint64_t)(text[i] - '0');
	}
	return i > 1 && text[0] == '0' ? 0 : i;
}

/* n times the unit; false if it has no such unit or is past all bounds. */
static bool scaled(const struct unit *units, const char *name, uint64_t n,
		   uint64_t *out)
{
	for (; units->name; units++) {
		if (strcmp(units->name, name) != 0)
			continue;
		return !__builtin_mul_overflow(n, units->factor, out);
	}
	return false;
}

bool value_duration(const char *text, uint64_t *us, char *why)
{
	uint64_t n;
	size_t i = digits(text, &n);

	if (i && !text[i] && n == 0) {
		*us = 0;
		return true;
	}
	if (i && scaled(duration_units, text + i, n, us))
		return true;
	if (i && i < 16 && !text[i])
		return fail(why, "needs a unit, as in `%ss`", text);
	if (i && i < 16 && strcmp(text + i, "m") == 0)
		return fail(why, "unknown unit `m`, did you mean `%.*smin`?",
			    (int)i, text);
	return fail(why, "must be a duration: a whole number and ms, s, min "
		    "or h");
}

bool value_size(const char *text, uint64_t *bytes, char *why)
{
	uint64_t n;
	size_t i = digits(text, &n);
	char unit;

	if (i && !text[i]) {
		*bytes = n;
		return true;
	}
	if (i && scaled(size_units, text + i, n, bytes))
		return true;
	unit = (char)(ascii_lower(text[i]) & ~0x20);
	if (i && i < 16 && unit && strchr("KMG", unit) && strlen(text + i) < 4)
		return fail(why, "unknown unit `%.3s`, did you mean "
			    "`%.*s%ciB`?", text + i, (int)i, text, unit);
	return fail(why, "must be a size: a whole number of bytes, or with "
		    "KiB, MiB or GiB");
}

bool value_number(const char *text, uint64_t *n, char *why)
{
	size_t i = digits(text, n);

	if (i && !text[i])
		return true;
	return fail(why, "must be a whole number");
}

bool value_bool(const char *text, bool *yes, char *why)
{
	*yes = strcmp(text, "true") == 0;
	if (*yes || strcmp(text, "false") == 0)
		return true;
	return fail(why, "must be true or false");
}

bool value_socket_path(const char *text, char *why)
{
	if (text[0] != '/')
		return fail(why, "must be an absolute path");
	if (strlen(text) > sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
		return fail(why, "is longer than a socket's path may be, 107 "
			    "bytes");
	return true;
}

/* Is text[0..n) an address of that family? */
static bool is_ip(int family, const char *text, size_t n)
{
	char copy[INET6_ADDRSTRLEN];
	uint8_t ip[16];

	if (n >= sizeof(copy))
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	return inet_pton(family, copy, ip) == 1;
}

bool value_address(const char *text, struct net_addr *out, char *why)
{
	const char *colon = strrchr(text, ':');
	uint64_t port;
	size_t host, n;

	if (strncmp(text, "unix:", 5) == 0) {
		if (!value_socket_path(text + 5, why))
			return false;
	} else {
		if (text[0] == '/')
			return fail(why, "must be an address, did you mean "
				    "`unix:%.100s`?", text);
		if (!colon || is_ip(AF_INET6, text, strlen(text)) ||
		    colon[1] == '\0')
			return fail(why, "needs a port, as in `127.0.0.1:8080` "
				    "or `[::1]:8080`");
		host = (size_t)(colon - text);
		n = digits(colon + 1, &port);
		if (!n || colon[1 + n] || port > 65535)
			return fail(why, "port must be 1 to 65535");
		if (port == 0)
			return fail(why, "port 0 is not allowed");
		if (!is_ip(AF_INET, text, host) &&
		    !(host > 2 && text[0] == '[' && text[host - 1] == ']' &&
		      is_ip(AF_INET6, text + 1, host - 2)))
			return fail(why, "must be IP:PORT, [IP6]:PORT or "
				    "unix:/PATH; host names are not looked up");
	}
	if (!net_addr_parse(slice_str(text), out))
		return fail(why, "is not an address");
	return true;
}

static void clear_host_bits(struct config_network *net, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++) {
		unsigned keep = net->bits > i * 8 ? net->bits - i * 8 : 0;

		if (keep < 8)
			net->ip[i] &= (uint8_t)(0xff00u >> keep);
	}
}

bool value_network(const char *text, struct config_network *out, char *why)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text), n;
	char host[INET6_ADDRSTRLEN];
	uint64_t bits;
	unsigned most;

	memset(out, 0, sizeof(*out));
	if (strcmp(text, "unix") == 0) {
		out->family = AF_UNIX;
		return true;
	}
	if (len >= sizeof(host))
		return fail(why, "must be a network, as in `10.0.0.0/8`");
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, out->ip) == 1)
		out->family = AF_INET;
	else if (inet_pton(AF_INET6, host, out->ip) == 1)
		out->family = AF_INET6;
	else
		return fail(why, "must be a network, as in `10.0.0.0/8`");
	most = out->family == AF_INET ? 32 : 128;
	bits = most;
	if (slash) {
		n = digits(slash + 1, &bits);
		if (!n || slash[1 + n] || bits > most)
			return fail(why, "bits must be 0 to %u", most);
	}
	out->bits = (uint8_t)bits;
	/* Peers that are mapped are told as IPv4. */
	if (out->family == AF_INET6 && bits >= 96 &&
	    memcmp(out->ip, mapped, sizeof(mapped)) == 0) {
		memmove(out->ip, out->ip + 12, 4);
		memset(out->ip + 4, 0, 12);
		out->family = AF_INET;
		out->bits = (uint8_t)(bits - 96);
	}
	clear_host_bits(out, out->family == AF_INET ? 4 : 16);
	return true;
}

bool value_name(const char *text, char *why)
{
	size_t n = strlen(text);

	if (n == 0 || n > 64)
		return fail(why, "a name has 1 to 64 characters");
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(text[i]) && !strchr("._-", text[i]))
			return fail(why, "a name has only letters, digits and "
				    "._-");
	return true;
}

bool value_token(const char *text, char *why)
{
	size_t n = strlen(text);

	if (n == 0 || n > 256)
		return fail(why, "must have 1 to 256 characters");
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(text[i]) && !strchr("!#$%&'*+-.^_`|~", text[i]))
			return fail(why, "must be a token: letters, digits and "
				    "!#$%%&'*+-.^_`|~");
	return true;
}

bool value_host(const char *text, char *why)
{
	size_t n = strlen(text);
	const char *name = text;

	if (text[0] == '[') {
		if (n > 2 && text[n - 1] == ']' &&
		    is_ip(AF_INET6, text + 1, n - 2))
			return true;
		return fail(why, "must be a host without a port");
	}
	if (strncmp(text, "*.", 2) == 0)
		name += 2;
	if (strchr(name, '*'))
		return fail(why, "a wildcard is only allowed as in "
			    "`*.example.com`");
	if (strchr(name, ':'))
		return fail(why, "must be a host without a port");
	if (!*name || n > 253 || name[0] == '.' || text[n - 1] == '.' ||
	    strstr(name, ".."))
		return fail(why, "must be a host, as in `api.example.com` or "
			    "`*.example.com`");
	for (; *name; name++)
		if (!is_alnum(*name) && !strchr(".-_", *name))
			return fail(why, "a host has only letters, digits and "
				    ".-_");
	return true;
}

static int hex(char c)
{
	char l = ascii_lower(c);

	return is_digit(c) ? c - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

static bool path_escape(const char *s, char *why)
{
	int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);
	char c;

	if (low < 0)
		return fail(why, "`%%` must be followed by two hex digits");
	c = (char)(high << 4 | low);
	if (c == '\0')
		return fail(why, "%%00 is never let through");
	if (c == '/' || c == '\\')
		return fail(why, "an escaped separator has more than one "
			    "reading and never matches");
	if (is_alnum(c) || strchr("-._~", c))
		return fail(why, "`%.3s` must be written as `%c`: paths are "
			    "matched after decoding", s, c);
	return true;
}

bool value_path(const char *text, char *why)
{
	if (text[0] != '/')
		return fail(why, "must start with `/`");
	for (const char *s = text; *s; s++) {
		if (*s == '?' || *s == '#')
			return fail(why, "must be a path without `%c`: the "
				    "query is not matched", *s);
		if (*s == '\\')
			return fail(why, "`\\` has more than one reading and "
				    "never matches");
		if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f)
			return fail(why, "other than visible ASCII must be "
				    "escaped, as in `%%20`");
		if (*s == '%' && !path_escape(s, why))
			return false;
		if (*s != '/')
			continue;
		if (s[1] == '/')
			return fail(why, "`//` has more than one reading and "
				    "never matches");
		if (s[1] != '.')
			continue;
		if (s[2] == '/' || !s[2] ||
		    (s[2] == '.' && (s[3] == '/' || !s[3])))
			return fail(why, "dot segments are resolved before "
				    "matching: write the path without them");
	}
	return true;
}

static void print_scaled(const struct unit *units, uint64_t n,
			 const char *least, char *out)
{
	for (; n && units->name; units++) {
		if (n % units->factor == 0) {
			snprintf(out, VALUE_TEXT, "%llu%s",
				 (unsigned long long)(n / units->factor),
				 units->name);
			return;
		}
	}
	snprintf(out, VALUE_TEXT, "%llu%s", (unsigned long long)n, least);
}

void value_duration_print(uint64_t us, char out[VALUE_TEXT])
{
	print_scaled(duration_units, us, us ? "us" : "", out);
}

void value_size_print(uint64_t bytes, char out[VALUE_TEXT])
{
	print_scaled(size_units, bytes, "", out);
}
