#include "wire/check.h"

/* RFC 9110: "!#$%&'*+-.^_`|~", digits, letters; one bit per byte. */
static const uint32_t token_bits[8] = {
	0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff, 0, 0, 0, 0,
};

bool check_field_name(struct slice name)
{
	if (!name.n || name.n > CHECK_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];

		if (!(token_bits[c >> 5] >> (c & 31) & 1))
			return false;
	}
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool check_field_value(struct slice *value)
{
	while (value->n && is_blank(value->p[0])) {
		value->p++;
		value->n--;
	}
	while (value->n && is_blank(value->p[value->n - 1]))
		value->n--;
	if (value->n > CHECK_VALUE_MAX)
		return false;
	for (size_t i = 0; i < value->n; i++) {
		char c = value->p[i];

		if (c == '\r' || c == '\n' || c == '\0')
			return false;
	}
	return true;
}

bool check_field_owned(struct slice name)
{
	static const struct slice owned[] = {
		{ "te", 2 }, { "trailer", 7 }, { "upgrade", 7 },
		{ "connection", 10 }, { "keep-alive", 10 },
		{ "content-length", 14 }, { "proxy-connection", 16 },
		{ "transfer-encoding", 17 }, { "x-request-id", 12 },
	};

	for (size_t i = 0; i < ARRAY_LEN(owned); i++)
		if (slice_eq_icase(name, owned[i]))
			return true;
	return false;
}

bool check_url(struct slice url)
{
	if (!url.n || url.n > CHECK_URL_MAX)
		return false;
	for (size_t i = 0; i < url.n; i++) {
		unsigned char c = (unsigned char)url.p[i];

		if (c < 0x21 || c == 0x7f)
			return false;
	}
	return true;
}
