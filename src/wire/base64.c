#include "wire/base64.h"

#include "wire/base64_bulk.h"

#define ROW(a)								\
	a "A" a "B" a "C" a "D" a "E" a "F" a "G" a "H" a "I" a "J"	\
	a "K" a "L" a "M" a "N" a "O" a "P" a "Q" a "R" a "S" a "T"	\
	a "U" a "V" a "W" a "X" a "Y" a "Z" a "a" a "b" a "c" a "d"	\
	a "e" a "f" a "g" a "h" a "i" a "j" a "k" a "l" a "m" a "n"	\
	a "o" a "p" a "q" a "r" a "s" a "t" a "u" a "v" a "w" a "x"	\
	a "y" a "z" a "0" a "1" a "2" a "3" a "4" a "5" a "6" a "7"	\
	a "8" a "9" a "+" a "/"

/* Both characters of 12 bits. */
static const char pairs[2 * 4096 + 1] =
	ROW("A") ROW("B") ROW("C") ROW("D") ROW("E") ROW("F") ROW("G") ROW("H")
	ROW("I") ROW("J") ROW("K") ROW("L") ROW("M") ROW("N") ROW("O") ROW("P")
	ROW("Q") ROW("R") ROW("S") ROW("T") ROW("U") ROW("V") ROW("W") ROW("X")
	ROW("Y") ROW("Z") ROW("a") ROW("b") ROW("c") ROW("d") ROW("e") ROW("f")
	ROW("g") ROW("h") ROW("i") ROW("j") ROW("k") ROW("l") ROW("m") ROW("n")
	ROW("o") ROW("p") ROW("q") ROW("r") ROW("s") ROW("t") ROW("u") ROW("v")
	ROW("w") ROW("x") ROW("y") ROW("z") ROW("0") ROW("1") ROW("2") ROW("3")
	ROW("4") ROW("5") ROW("6") ROW("7") ROW("8") ROW("9") ROW("+") ROW("/");

static char *put_three(char *out, unsigned char a, unsigned char b,
		       unsigned char c)
{
	unsigned hi = (unsigned)a << 4 | b >> 4;
	unsigned lo = (b & 0x0fu) << 8 | c;

	memcpy(out, pairs + 2 * hi, 2);
	memcpy(out + 2, pairs + 2 * lo, 2);
	return out + 4;
}

/* Six bytes out of a word of eight: four look-ups for one load. */
static char *put_six(char *out, const unsigned char *u)
{
	uint64_t v;

	memcpy(&v, u, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	memcpy(out, pairs + 2 * (v >> 52), 2);
	memcpy(out + 2, pairs + 2 * (v >> 40 & 0xfff), 2);
	memcpy(out + 4, pairs + 2 * (v >> 28 & 0xfff), 2);
	memcpy(out + 6, pairs + 2 * (v >> 16 & 0xfff), 2);
	return out + 8;
}

char *base64_put(struct base64 *b, char *out, const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t bulk;

	while (b->n_rest && n) {
		if (b->n_rest == 2) {
			out = put_three(out, b->rest[0], b->rest[1], *u);
			b->n_rest = 0;
		} else {
			b->rest[1] = *u;
			b->n_rest = 2;
		}
		u++;
		n--;
	}
	bulk = base64_encode_bulk(out, (const char *)u, n);
	out += bulk / 3 * 4;
	u += bulk;
	n -= bulk;
	for (; n >= 8; u += 6, n -= 6)
		out = put_six(out, u);
	for (; n >= 3; u += 3, n -= 3)
		out = put_three(out, u[0], u[1], u[2]);
	while (n--)
		b->rest[b->n_rest++] = *u++;
	return out;
}

char *base64_finish(struct base64 *b, char *out)
{
	if (!b->n_rest)
		return out;
	put_three(out, b->rest[0], b->n_rest == 2 ? b->rest[1] : 0, 0);
	out[3] = '=';
	if (b->n_rest == 1)
		out[2] = '=';
	b->n_rest = 0;
	return out + 4;
}

#define BAD	0x80
#define X8	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD
#define X16	X8, X8

/* A character's six bits; BAD for all that are not of the alphabet. */
static const unsigned char value[256] = {
	X16, X16,
	X8, BAD, BAD, BAD, 62, BAD, BAD, BAD, 63,
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
	15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, BAD, BAD, BAD, BAD, BAD,
	BAD, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
	41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, BAD, BAD, BAD, BAD, BAD,
	X16, X16, X16, X16, X16, X16, X16, X16,
};

bool base64_decode(char *out, const char *p, size_t n, size_t *size)
{
	const unsigned char *u = (const unsigned char *)p;
	unsigned char bad = 0;
	bool bulk_bad = false;
	char *o = out;
	size_t bulk;

	if (n && n % 4 == 0 && p[n - 1] == '=')
		n -= p[n - 2] == '=' ? 2 : 1;
	bulk = base64_decode_bulk(o, p, n, &bulk_bad);
	o += bulk / 4 * 3;
	u += bulk;
	n -= bulk;
	for (; n >= 4; u += 4, n -= 4) {
		unsigned char a = value[u[0]], b = value[u[1]],
			      c = value[u[2]], d = value[u[3]];

		bad |= (unsigned char)(a | b | c | d);
		*o++ = (char)(a << 2 | b >> 4);
		*o++ = (char)(b << 4 | c >> 2);
		*o++ = (char)(c << 6 | d);
	}
	if (n == 1)
		return false;
	if (n) {
		unsigned char a = value[u[0]], b = value[u[1]],
			      c = n == 3 ? value[u[2]] : 0;

		bad |= (unsigned char)(a | b | c);
		if (n == 2 ? b & 0x0f : c & 0x03)
			return false;
		*o++ = (char)(a << 2 | b >> 4);
		if (n == 3)
			*o++ = (char)(b << 4 | c >> 2);
	}
	*size = (size_t)(o - out);
	return !(bad & BAD) && !bulk_bad;
}
