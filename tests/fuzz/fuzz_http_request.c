/*
 * Request heads: no split changes the answer, all slices lie in the bytes, and
 * what is written from an accepted head is read back the same.
 */
#include "fuzz_http.h"

static enum http_parse parse(const char *buf, size_t len, uint32_t *scanned,
			     struct http_head *head)
{
	return http_parse_request(buf, len, &fuzz_limits, scanned, head);
}

static enum http_parse parse_again(const char *buf, size_t len,
				   uint32_t *scanned, struct http_head *head)
{
	static const struct http_limits wide = { 8192, FUZZ_FIELDS + 1, 4096 };

	head->cap_fields = FUZZ_FIELDS + 1;
	return http_parse_request(buf, len, &wide, scanned, head);
}

/* What needs no http_host_normalise(). */
static void check_plain(struct slice host)
{
	for (size_t i = 0; i < host.n; i++) {
		char c = host.p[i];

		CHECK((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '.');
	}
	CHECK(host.n > 0 && host.p[host.n - 1] != '.');
}

static void check_again(const struct http_head *h)
{
	char text[8192], *buf;
	struct fuzz_head again;
	size_t n = (size_t)snprintf(text, sizeof(text),
				    "%.*s %.*s HTTP/1.%d\r\n",
				    SLICE_FMT(h->method), SLICE_FMT(h->target),
				    h->minor);

	n = fuzz_write_fields(h, text, n, sizeof(text));
	buf = fuzz_parse_steps(parse_again, text, n, n, &again);
	CHECK(again.rc == HTTP_PARSE_OK);
	fuzz_same_fields(h, &again.head);
	CHECK(slice_eq(h->host, again.head.host));
	CHECK(slice_eq(h->path, again.head.path));
	CHECK(h->expect_continue == again.head.expect_continue);
	CHECK(again.head.head_bytes == n);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_head whole;
	size_t step = size ? 1 + data[size - 1] % 16u : 1;
	char *buf;

	if (size > 4096)
		return 0;
	buf = fuzz_parse_both(parse, (const char *)data, size, step, &whole);
	if (whole.rc == HTTP_PARSE_OK) {
		const struct http_head *h = &whole.head;

		fuzz_check_fields(h, buf, size);
		fuzz_inside(buf, size, h->method);
		fuzz_inside(buf, size, h->target);
		fuzz_inside(buf, size, h->host);
		CHECK(h->framing != HTTP_BODY_CLOSE);
		CHECK(h->minor == 0 || http_host_valid(h->host));
		if (h->host_plain)
			check_plain(h->host);
		CHECK(h->path.n > 0 || h->method_id == HTTP_CONNECT);
		check_again(h);
	}
	free(buf);
	return 0;
}
