#include "wire/frame.h"

enum frame_result frame_read(const char *buf, size_t len, size_t max,
			     uint8_t *type, struct slice *payload, size_t *used)
{
	const unsigned char *u = (const unsigned char *)buf;
	size_t n;

	*used = FRAME_HEAD;
	if (len < 4)
		return FRAME_MORE;
	n = (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
	if (n == 0 || n > max)
		return FRAME_BAD_LENGTH;
	*used = n + 4;
	if (len < n + 4)
		return FRAME_MORE;
	*type = u[4];
	*payload = slice_of(buf + FRAME_HEAD, n - 1);
	return FRAME_OK;
}

enum frame_result frame_read_v1(const char *buf, size_t len, size_t max,
				struct slice *payload, size_t *used)
{
	const unsigned char *u = (const unsigned char *)buf;
	size_t n;

	*used = FRAME_V1_HEAD;
	if (len < FRAME_V1_HEAD)
		return FRAME_MORE;
	n = (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
	if (n == 0 || n > max)
		return FRAME_BAD_LENGTH;
	*used = n + FRAME_V1_HEAD;
	if (len < *used)
		return FRAME_MORE;
	*payload = slice_of(buf + FRAME_V1_HEAD, n);
	return FRAME_OK;
}

uint8_t frame_type_of(enum event_type type)
{
	switch (type) {
	case EVENT_REQUEST_HEAD:
		return FRAME_REQUEST_HEAD;
	case EVENT_REQUEST_CHUNK:
		return FRAME_REQUEST_CHUNK;
	case EVENT_RESPONSE_HEAD:
		return FRAME_RESPONSE_HEAD;
	case EVENT_RESPONSE_CHUNK:
		return FRAME_RESPONSE_CHUNK;
	case EVENT_COMPLETE:
		return FRAME_COMPLETE;
	case EVENT_CONFIGURE:
		return FRAME_CONFIGURE;
	case EVENT_N:
		break;
	}
	return 0;
}
