/*
 * go-v2 agents say nothing unasked (protocol page 7.3, 7.4): one of an
 * instance's links asks now and then how it is and for its metrics.
 *
 * The answers have types of their own and no place in the FIFO. An agent that
 * does not know a question answers it as if it were an event that it cannot
 * read: allow, request_id 0. It is serial, so such a reply is the question's
 * when all events from before it were answered; it is then asked no more.
 */
#include "agent/internal.h"

#define QUESTIONS	2u	/* health, metrics */

void link_ask_questions(struct link *link)
{
	struct agent_instance *inst = link->instance->shared;
	uint64_t every_us = link->local->agent->tuning.question_us;
	uint64_t now = link->local->loop->now_us, last;

	if (link->format.dialect != WIRE_GO || !every_us || link->questions ||
	    __atomic_load_n(&inst->no_answers, __ATOMIC_RELAXED))
		return;
	last = __atomic_load_n(&inst->asked_us, __ATOMIC_RELAXED);
	/* Workers' clocks are not taken at the same moment. */
	if (last && (int64_t)(now - last) < (int64_t)every_us)
		return;
	if (!__atomic_compare_exchange_n(&inst->asked_us, &last, now, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	if (!wire_encode_go_questions(&link->stream.out))
		return;		/* no memory: another time */
	link->questions = QUESTIONS;
	link_sent_mute(link);
	link->questions_tail = link->fifo.tail;
	stream_flush_later(&link->stream);
}

void link_question_answered(struct link *link)
{
	if (link->questions)
		link->questions--;
}

static bool asked_before_head(const struct link *link)
{
	return (int32_t)(link->fifo.head - link->questions_tail) >= 0;
}

bool link_question_unknown(struct link *link)
{
	struct agent_instance *inst = link->instance->shared;

	if (!asked_before_head(link))
		return false;
	link->questions--;
	if (!__atomic_exchange_n(&inst->no_answers, true, __ATOMIC_RELAXED))
		log_info("agent_questions", "agent=%s socket=%s answered=no",
			 link->local->agent->config.name, inst->path);
	return true;
}

void link_question_skipped(struct link *link)
{
	if (!asked_before_head(link))
		return;
	link->questions = 0;
}
