/* Pieces of answers that several families say alike. */
#ifndef SERVE_WORDS_H
#define SERVE_WORDS_H
#include "serve/exchange.h"

/* "stop", "length". */
const char *words_finish(enum job_finish f);
/* {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"} of all choices. */
json_t *words_usage(const struct exchange *x);
/* llama.cpp's "timings", of all choices, and "queued_ms" before them: what no place was there for. */
json_t *words_timings(const struct exchange *x);
/* The same of a choice that is still being written, this event included; "steps": the tokens that each pass through
 * the model gave since the last event. */
json_t *words_timings_now(const struct exchange *x, const struct choice *c, const struct job_event *e);
/* The same while the prompt is read. */
json_t *words_timings_read(const struct job_event *e);
/* llama.cpp's "__verbose": what was read. */
json_t *words_verbose(const struct exchange *x, const struct choice *c);
/* Why the cache had no more of the prompt: {cause, at, wanted, had}; NULL where less than a page was missed. */
json_t *words_missed(const struct exchange *x, const struct prefix_miss *m);
/* llama.cpp's "prompt_progress". */
json_t *words_progress(const struct job_event *e);
/* {"token", "logprob", "bytes", "top_logprobs": [...]} */
json_t *words_token(const struct exchange *x, const struct job_token *t);
/* The text of one token, special ones spelled; malformed UTF-8 as it is. */
stretto_status words_piece(const struct exchange *x, int32_t id, struct buffer *out);
json_t *words_piece_json(const struct exchange *x, int32_t id);
/* A prompt of any shape: a string, ids, or a list of these; into ask.prompts. flags: as tokenizer_encode. */
bool words_prompts(struct exchange *x, const char *name, const json_t *v, unsigned flags);
/* One of the model's ids, behind others. */
bool words_id(struct exchange *x, const char *name, const json_t *v, struct tokens *out);
/* Prompt text for `echo`: what was given, or what the ids spell. */
bool words_echo(struct exchange *x, const json_t *v);
double words_logprob(float p);
/* A message's content: a string, null, or a list of {"type": "text", "text"} parts; appended to out. What was thought
 * before is not read again. */
bool words_content(struct exchange *x, const json_t *v, struct buffer *out);
/* A call of a tool that was made before, and what came of it, as text: in the way that most models know (Hermes). */
bool words_call(struct exchange *x, const char *name, const json_t *arguments, struct buffer *out);
bool words_result(struct exchange *x, const json_t *content, struct buffer *out);
/* "tool_calls" of a message; out gets them behind its content. */
bool words_calls(struct exchange *x, const json_t *calls, struct buffer *out);
/* A result as one more message of the user, or as more of the last one where that is a result too. */
bool words_result_message(struct exchange *x, const json_t *content);
/* Such a content as one more message of the ask. */
bool words_message(struct exchange *x, const char *role, const json_t *content);
bool words_message_calls(struct exchange *x, const char *role, const json_t *content, const json_t *calls);
/* Of a dialect whose x->head ends with `"choices":[`: usage where it is asked for, and [DONE]; the error behind. */
stretto_status words_stream_end(struct exchange *x);
stretto_status words_stream_failed(struct exchange *x, const struct trouble *t);
#endif
