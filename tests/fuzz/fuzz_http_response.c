/*
 * Response heads and trailers. The first byte chooses: the method of the
 * request, or trailers.
 */
#include "fuzz_http.h"
#include "http/chunked.h"

static enum http_method method;

static enum http_parse parse(const char *buf, size_t len, uint32_t *scanned,
			     struct http_head *head)
{
	if (method == HTTP_METHOD_N)
		return http_parse_trailers(buf, len, &fuzz_limits, scanned,
					   head);
	return http_parse_response(buf, len, &fuzz_limits, scanned, method,
				   head);
}

static enum http_parse parse_again(const char *buf, size_t len,
				   uint32_t *scanned, struct http_head *head)
{
	static const struct http_limits wide = { 8192, FUZZ_FIELDS + 1, 4096 };

	head->cap_fields = FUZZ_FIELDS + 1;
	if (method == HTTP_METHOD_N)
		return http_parse_trailers(buf, len, &wide, scanned, head);
	return http_parse_response(buf, len, &wide, scanned, method, head);
}

static void check_again(const struct http_head *h)
{
	char text[8192], *buf;
	struct fuzz_head again;
	size_t n = 0;

	if (method != HTTP_METHOD_N)
		n = (size_t)snprintf(text, sizeof(text),
				     "HTTP/1.%d %u %.*s\r\n", h->minor,
				     h->status, SLICE_FMT(h->reason));
	n = fuzz_write_fields(h, text, n, sizeof(text));
	buf = fuzz_parse_steps(parse_again, text, n, n, &again);
	CHECK(again.rc == HTTP_PARSE_OK);
	fuzz_same_fields(h, &again.head);
	CHECK(slice_eq(h->reason, again.head.reason));
	CHECK(h->status == again.head.status);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_head whole;
	const char *text = (const char *)data + 1;
	char *buf;
	size_t step;

	if (size < 2 || size > 4096)
		return 0;
	method = data[0] % (HTTP_METHOD_N + 1);
	step = 1 + data[--size] % 16u;
	buf = fuzz_parse_both(parse, text, size, step, &whole);
	if (whole.rc == HTTP_PARSE_OK) {
		fuzz_check_fields(&whole.head, buf, size);
		fuzz_inside(buf, size, whole.head.reason);
		check_again(&whole.head);
	}
	free(buf);
	return 0;
}
