#include "wire/utf8.h"

static bool is_tail(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

unsigned utf8_char_len(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;

	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2)
		return 0;
	if (u[0] < 0xe0)
		return n >= 2 && is_tail(p[1]) ? 2 : 0;
	if (u[0] < 0xf0) {
		if (n < 3 || !is_tail(p[1]) || !is_tail(p[2]))
			return 0;
		if (u[0] == 0xe0 && u[1] < 0xa0)
			return 0;
		return u[0] == 0xed && u[1] >= 0xa0 ? 0 : 3;
	}
	if (u[0] > 0xf4 || n < 4 || !is_tail(p[1]) || !is_tail(p[2]) ||
	    !is_tail(p[3]))
		return 0;
	if (u[0] == 0xf0 && u[1] < 0x90)
		return 0;
	return u[0] == 0xf4 && u[1] >= 0x90 ? 0 : 4;
}

bool utf8_valid_slow_(const char *p, size_t n)
{
	while (n) {
		unsigned len;

		if (n >= 8 && !(utf8_load64(p) & UTF8_HIGH)) {
			p += 8;
			n -= 8;
			continue;
		}
		len = utf8_char_len(p, n);
		if (!len)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

size_t utf8_cut(struct slice s, size_t max)
{
	size_t n = max;

	if (s.n <= max)
		return s.n;
	while (n && is_tail(s.p[n]))
		n--;
	return n;
}

size_t utf8_from_bytes_size(struct slice s)
{
	size_t n = s.n;

	for (size_t i = 0; i < s.n; i++)
		n += (unsigned char)s.p[i] >> 7;
	return n;
}

char *utf8_from_bytes(char *out, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 0x80) {
			*out++ = (char)c;
		} else {
			*out++ = (char)(0xc0 | c >> 6);
			*out++ = (char)(0x80 | (c & 0x3f));
		}
	}
	return out;
}
