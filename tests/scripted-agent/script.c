#include "lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char script_help[] =
"A script has one line per rule; # begins a comment, \"...\" keeps blanks.\n"
"All lines that match an event apply, in order; of two decisions the first\n"
"stands. What no line answers is allowed.\n"
"\n"
"  on EVENT [CONDITION...] ACTION [; ACTION...]\n"
"  handshake refuse|silent|garbage|close|slow DURATION\n"
"  ping silent\n"
"  deaf                          accepts, and never reads\n"
"\n"
"EVENT: request_head request_chunk response_head response_chunk complete\n"
"       configure, or *\n"
"CONDITION (PATTERN may hold *):\n"
"  path=PATTERN method=PATTERN   of the request, for later events too\n"
"  header=NAME:PATTERN           of this head\n"
"  match=TEXT                    the chunk contains TEXT\n"
"  index=N last=yes|no           of the chunk\n"
"  status=N link=N\n"
"  nth=N nth=N+ every=N          counts the events that match the line\n"
"ACTION:\n"
"  reply allow\n"
"  reply block [status=N] [body=TEXT] [header=NAME:VALUE...]\n"
"  redirect URL STATUS           challenge TYPE [KEY=VALUE...]\n"
"  needs_more                    route upstream=NAME\n"
"  set|add request|response NAME VALUE      remove request|response NAME\n"
"  audit [tag=T] [rule=R] [reason=R] [confidence=F] ...\n"
"  replace TEXT | drop | upcase | replace-each A B | fill N   (chunks)\n"
"  delay DURATION                what comes behind waits too\n"
"  late DURATION                 what comes behind is not held up by it\n"
"  reorder N                     gathers N replies, sends them backwards\n"
"  drip N/DURATION               N bytes at a time\n"
"faults:\n"
"  no-reply twice close midframe garbage bad-payload length N type N\n"
"  wrong-id empty-id no-id wrong-index bad-base64\n"
"DURATION: 50ms, 2s\n";

static const char *const cond_names[COND_N] = {
	"path", "method", "header", "match", "index", "last", "status", "link",
	"nth", "every",
};

static const struct act_row act_rows[] = {
	{ "reply", ACT_REPLY, 1, true, 0 },
	{ "redirect", ACT_REDIRECT, 2, false, 0 },
	{ "challenge", ACT_CHALLENGE, 1, true, 0 },
	{ "needs_more", ACT_NEEDS_MORE, 0, false, 0 },
	{ "route", ACT_ROUTE, 0, true, 0 },
	{ "set", ACT_SET, 3, false, 0 },
	{ "add", ACT_ADD, 3, false, 0 },
	{ "remove", ACT_REMOVE, 2, false, 0 },
	{ "audit", ACT_AUDIT, 0, true, 0 },
	{ "replace", ACT_REPLACE, 1, false, 0 },
	{ "drop", ACT_DROP, 0, false, 0 },
	{ "upcase", ACT_UPCASE, 0, false, 0 },
	{ "replace-each", ACT_REPLACE_EACH, 2, false, 0 },
	{ "fill", ACT_FILL, 1, false, 0 },
	{ "delay", ACT_DELAY, 1, false, 0 },
	{ "late", ACT_LATE, 1, false, 0 },
	{ "reorder", ACT_REORDER, 1, false, 0 },
	{ "drip", ACT_DRIP, 1, false, 0 },
	{ "length", ACT_LENGTH, 1, false, FAULT_LENGTH },
	{ "type", ACT_TYPE, 1, false, FAULT_TYPE },
	{ "garbage", ACT_FAULT, 0, false, FAULT_GARBAGE },
	{ "close", ACT_FAULT, 0, false, FAULT_CLOSE },
	{ "midframe", ACT_FAULT, 0, false, FAULT_MIDFRAME },
	{ "wrong-id", ACT_FAULT, 0, false, FAULT_WRONG_ID },
	{ "empty-id", ACT_FAULT, 0, false, FAULT_EMPTY_ID },
	{ "no-id", ACT_FAULT, 0, false, FAULT_NO_ID },
	{ "no-reply", ACT_FAULT, 0, false, FAULT_NO_REPLY },
	{ "twice", ACT_FAULT, 0, false, FAULT_TWICE },
	{ "wrong-index", ACT_FAULT, 0, false, FAULT_WRONG_INDEX },
	{ "bad-base64", ACT_FAULT, 0, false, FAULT_BAD_BASE64 },
	{ "bad-payload", ACT_FAULT, 0, false, FAULT_BAD_PAYLOAD },
};

#define WORDS_MAX	64u

struct words {
	struct slice word[WORDS_MAX];
	unsigned n, at;
};

/* Splits a line in place; quotes are taken out. False: too many words. */
static bool split(char *line, struct words *w)
{
	char *o;

	w->n = w->at = 0;
	for (;;) {
		line += strspn(line, " \t\r");
		if (!*line || *line == '#')
			return true;
		if (w->n == WORDS_MAX)
			return false;
		w->word[w->n].p = o = line;
		for (bool quoted = false; *line; line++) {
			if (*line == '"')
				quoted = !quoted;
			else if (!quoted && strchr(" \t\r;", *line))
				break;
			else
				*o++ = *line;
		}
		w->word[w->n].n = (size_t)(o - w->word[w->n].p);
		if (*line == ';' && o == w->word[w->n].p) {
			w->word[w->n] = SLICE(";");
			line++;
		} else if (*line == ';') {
			if (w->n + 1 == WORDS_MAX)
				return false;
			w->word[++w->n] = SLICE(";");
			line++;
		} else if (*line) {
			line++;
		}
		w->n++;
	}
}

static struct slice take(struct words *w)
{
	return w->at < w->n ? w->word[w->at++] : SLICE_NONE;
}

/* KEY=VALUE; false: no '='. */
static bool cut_pair(struct slice word, struct slice *key, struct slice *value)
{
	const char *eq = word.n ? memchr(word.p, '=', word.n) : NULL;

	if (!eq)
		return false;
	*key = slice_of(word.p, (size_t)(eq - word.p));
	*value = slice_of(eq + 1, word.n - key->n - 1);
	return true;
}

static bool number(struct slice s, unsigned long *out, struct slice *rest)
{
	char text[32], *end;

	if (!s.n || s.n >= sizeof(text))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	*out = strtoul(text, &end, 0);
	*rest = slice_of(s.p + (end - text), s.n - (size_t)(end - text));
	return end != text;
}

static bool duration(struct slice s, unsigned long *ms)
{
	struct slice unit;

	if (!number(s, ms, &unit))
		return false;
	if (is(unit, "s"))
		*ms *= 1000;
	return is(unit, "s") || is(unit, "ms");
}

static const char *read_cond(struct script_line *l, struct slice key,
			     struct slice value)
{
	struct cond *c = &l->conds[l->n_conds];
	struct slice rest = SLICE_NONE;
	const char *colon;
	unsigned k = 0;

	while (k < COND_N && !is(key, cond_names[k]))
		k++;
	if (k == COND_N)
		return "no such condition";
	if (l->n_conds == CONDS_MAX)
		return "too many conditions";
	l->n_conds++;
	c->kind = (enum cond_kind)k;
	c->pattern = value;
	if (k == COND_HEADER) {
		colon = memchr(value.p, ':', value.n);
		if (!colon)
			return "header=NAME:PATTERN";
		c->name = slice_of(value.p, (size_t)(colon - value.p));
		c->pattern = slice_of(colon + 1, value.n - c->name.n - 1);
	} else if (k == COND_LAST) {
		c->number = is(value, "yes");
	} else if (k >= COND_INDEX) {
		if (!number(value, &c->number, &rest))
			return "a condition wants a number";
		c->plus = is(rest, "+");
		if (k == COND_EVERY && !c->number)
			return "every=0";
	}
	return NULL;
}

/* The numbers and words of an action, read once. */
static const char *check_action(struct action *a)
{
	struct slice rest = SLICE_NONE;
	unsigned last = a->row->n_args ? a->row->n_args - 1 : 0;

	switch (a->row->act) {
	case ACT_REPLY:
		if (!is(a->args[0], "allow") && !is(a->args[0], "block"))
			return "reply allow or reply block";
		a->kind = is(a->args[0], "block") ? DECISION_BLOCK
						  : DECISION_ALLOW;
		a->number = 403;
		for (unsigned i = 0; i < a->n_pairs; i++)
			if (is(a->pairs[i].name, "status") &&
			    !number(a->pairs[i].value, &a->number, &rest))
				return "status wants a number";
		return NULL;
	case ACT_SET:
	case ACT_ADD:
	case ACT_REMOVE:
		if (!is(a->args[0], "request") && !is(a->args[0], "response"))
			return "request or response";
		return NULL;
	case ACT_AUDIT:
		for (unsigned i = 0; i < a->n_pairs; i++)
			if (is(a->pairs[i].name, "confidence"))
				a->fraction = atof(a->pairs[i].value.p);
		return NULL;
	case ACT_REDIRECT:
	case ACT_FILL:
	case ACT_REORDER:
	case ACT_LENGTH:
	case ACT_TYPE:
		return number(a->args[last], &a->number, &rest)
			       ? NULL : "an action wants a number";
	case ACT_DELAY:
	case ACT_LATE:
		return duration(a->args[0], &a->number) ? NULL
							: "no duration";
	case ACT_DRIP:
		if (!number(a->args[0], &a->number, &rest) || !a->number)
			return "drip N/DURATION";
		if (rest.n && *rest.p == 'B')
			rest = slice_of(rest.p + 1, rest.n - 1);
		return rest.n && *rest.p == '/' &&
		       duration(slice_of(rest.p + 1, rest.n - 1), &a->per)
			       ? NULL : "drip N/DURATION";
	case ACT_REPLACE_EACH:
		return a->args[0].n ? NULL : "replace-each wants a text";
	case ACT_CHALLENGE:
	case ACT_NEEDS_MORE:
	case ACT_ROUTE:
	case ACT_REPLACE:
	case ACT_DROP:
	case ACT_UPCASE:
	case ACT_FAULT:
		break;
	}
	return NULL;
}

static const char *read_action(struct script_line *l, struct words *w)
{
	struct action *a = &l->acts[l->n_acts];
	struct slice word = take(w), key, value;

	if (is(word, ";"))
		return NULL;
	if (l->n_acts == ACTS_MAX)
		return "too many actions";
	for (size_t i = 0; i < ARRAY_LEN(act_rows) && !a->row; i++)
		if (is(word, act_rows[i].word))
			a->row = &act_rows[i];
	if (!a->row)
		return "no such action";
	for (unsigned i = 0; i < a->row->n_args; i++) {
		if (w->at == w->n)
			return "an action lacks a word";
		a->args[i] = take(w);
	}
	while (a->row->pairs && w->at < w->n &&
	       cut_pair(w->word[w->at], &key, &value)) {
		if (a->n_pairs == PAIRS_MAX)
			return "too many KEY=VALUE";
		a->pairs[a->n_pairs++] = (struct name_value){ key, value };
		w->at++;
	}
	l->n_acts++;
	return check_action(a);
}

static const char *read_on(struct script *s, struct words *w)
{
	struct script_line *l = &s->lines[s->n_lines];
	struct slice event = take(w), key, value;
	const char *why = NULL;

	for (unsigned i = 0; i < EVENT_N; i++)
		if (is(event, "*") || is(event, event_names[i]))
			l->events |= 1u << i;
	if (!l->events)
		return "no such event";
	while (!why && w->at < w->n && cut_pair(w->word[w->at], &key, &value)) {
		w->at++;
		why = read_cond(l, key, value);
		if (is(key, "path") || is(key, "method"))
			s->needs_seen |= l->events != 1u << EVENT_REQUEST_HEAD;
	}
	while (!why && w->at < w->n)
		why = read_action(l, w);
	s->n_lines++;
	return why;
}

static const char *read_handshake(struct script *s, struct words *w)
{
	static const char *const kinds[] = { "normal", "refuse", "silent",
					     "garbage", "close" };
	struct slice kind = take(w);
	unsigned long ms;

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		if (is(kind, kinds[i])) {
			s->handshake = (enum handshake_kind)i;
			return NULL;
		}
	}
	if (!is(kind, "slow") || !duration(take(w), &ms))
		return "no such handshake";
	s->handshake_delay_ms = (unsigned)ms;
	return NULL;
}

static const char *read_line(struct script *s, char *line)
{
	struct words w;
	struct slice word;

	if (!split(line, &w))
		return "too many words";
	if (!w.n)
		return NULL;
	word = take(&w);
	if (is(word, "on"))
		return read_on(s, &w);
	if (is(word, "handshake"))
		return read_handshake(s, &w);
	if (is(word, "ping") && is(take(&w), "silent"))
		s->ping_silent = true;
	else if (is(word, "deaf"))
		s->deaf = true;
	else
		return "no such line";
	return NULL;
}

static char *read_text(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *f = fopen(path, "r");

	if (f && text && fread(text, 1, (1 << 20) - 1, f) == (1 << 20) - 1)
		text[0] = '\0';
	if (f) {
		fclose(f);
		return text;
	}
	fprintf(stderr, "%s:0: %s\n", path, strerror(errno));
	free(text);
	return NULL;
}

struct script *script_load(const char *path)
{
	struct script *s = calloc(1, sizeof(*s));
	char *line, *next, *text = path ? read_text(path) : calloc(1, 1);
	const char *why = NULL;
	unsigned n = 1;

	if (!s || !text) {
		free(text);
		free(s);
		return NULL;
	}
	s->text = text;
	for (char *c = text; (c = strchr(c, '\n')); c++)
		n++;
	s->lines = calloc(n + 1, sizeof(*s->lines));
	n = 0;
	for (line = text; s->lines && line && !why; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		n++;
		why = read_line(s, line);
	}
	if (s->lines && !why)
		return s;
	fprintf(stderr, "%s:%u: %s\n", path, n, why ? why : "no memory");
	script_free(s);
	return NULL;
}

void script_free(struct script *s)
{
	if (!s)
		return;
	free(s->lines);
	free(s->text);
	free(s);
}
