/* Between the encoder and its two encodings; private to wire/. */
#ifndef WIRE_ENCODE_H
#define WIRE_ENCODE_H

#include "wire/codec.h"
#include "wire/fields.h"

/* What a chunk event holds before and after its data; 256 bytes are enough. */
#define ENCODE_EDGE_MAX	256u

/* Keys, brackets and lengths of a head event, fields not included. */
#define ENCODE_HEAD_FIXED	512u
/* The same of one field, and of each further value. */
#define ENCODE_FIELD_FIXED	16u

/* What a v1 frame has around its payload. */
#define ENCODE_WRAP_MAX	96u

/* The bytes of a chunk frame around its data. */
struct encode_edges {
	char front[FRAME_HEAD + ENCODE_EDGE_MAX], back[ENCODE_EDGE_MAX];
	size_t n_front, n_back;
};

/* Is this field hidden behind a pseudo header of ours? */
static inline bool encode_hides(const struct wire_format *f,
				const struct field *field)
{
	return UNLIKELY(f->pseudo_headers && field->name_len &&
			field->name[0] == ':');
}

/* Names under `headers`, our own included. */
unsigned encode_count_names(const struct wire_format *f,
			    const struct event *ev,
			    const struct fields_index *x);

static inline bool encode_has_pseudo(const struct wire_format *f,
				     const struct event *ev)
{
	return f->pseudo_headers && ev->type == EVENT_REQUEST_HEAD;
}

/* The payload of a head event into measured room. */
char *encode_msgpack_head(char *o, const struct wire_format *f,
			  const struct event *ev, const struct fields_index *x,
			  unsigned *transcoded);
char *encode_json_head(char *o, const struct wire_format *f,
		       const struct event *ev, const struct fields_index *x,
		       unsigned *transcoded);

/* `,"headers":{...}}`, and the metadata object. */
char *encode_json_fields(char *o, const struct wire_format *f,
			 const struct event *ev, const struct fields_index *x,
			 unsigned *transcoded);
/* `{...` of a request complete, without the closing brace. */
char *encode_json_complete_body(char *o, const struct event *ev,
				unsigned *transcoded);

/* ---- go-v2 and v1: encode_dialect.c; v2 need not make room for them ---- */

/* Whole frames, their heads included, into room of bound + ENCODE_WRAP_MAX. */
NOINLINE
char *encode_dialect_head(char *start, const struct wire_format *f,
			  const struct event *ev, const struct fields_index *x,
			  unsigned *transcoded);
NOINLINE
char *encode_dialect_complete(char *start, const struct wire_format *f,
			      const struct event *ev, unsigned *transcoded);
NOINLINE
char *encode_dialect_configure(char *start, const struct event *ev,
			       unsigned *transcoded);
/* The frame's head, which is in the front, counts `data` bytes between them. */
void encode_dialect_edges(struct encode_edges *e, const struct wire_format *f,
			  const struct event *ev, size_t data);
/* Largest whole frame. */
size_t encode_dialect_max(const struct wire_format *f);

/* What stands before and behind a chunk's data of `size` encoded bytes. */
char *encode_msgpack_chunk_front(char *o, const struct wire_format *f,
				 const struct event *ev, size_t size);
char *encode_msgpack_chunk_back(char *o, const struct wire_format *f,
				const struct event *ev);
char *encode_json_chunk_front(char *o, const struct event *ev);
char *encode_json_chunk_back(char *o, const struct event *ev);

char *encode_msgpack_complete(char *o, const struct wire_format *f,
			      const struct event *ev, unsigned *transcoded);
char *encode_json_complete(char *o, const struct event *ev,
			   unsigned *transcoded);

/*
 * Configure. config: the value as it goes out, MessagePack or JSON, already
 * encoded.
 */
char *encode_msgpack_configure(char *o, const struct wire_format *f,
			       const struct event *ev, struct slice config,
			       unsigned *transcoded);
char *encode_json_configure(char *o, const struct event *ev,
			    unsigned *transcoded);
/*
 * JSON text as MessagePack. Returns memory of mem_alloc, NULL when memory is
 * out or the text is no JSON; *size is its length.
 */
char *encode_msgpack_from_json(struct slice json, size_t *size) MUST_CHECK;

#endif
