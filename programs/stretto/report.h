/* What squeezing did, as a page or a picture that stands by itself: one file, no script, readable on light and dark
 * screens. It is drawn from the JSON that `stretto squeeze --json` prints (docs/squeeze.md) or that a squeezed file
 * carries; what is not in it is not drawn.
 *
 *   in, out, goal           words
 *   bytes, from_bytes, bits, from_bits, tokens_per_second, from_tokens_per_second, seconds, peak_bytes
 *   all, texts[]            text, tokens, windows, kl, kl_error, median, p90, p99, back, same_top, perplexity,
 *                           base_perplexity, log_ppl_ratio, log_ppl_ratio_error
 *   tensors[]               name, role, from, to, from_bytes, bytes, error: {kept, whole}
 *   formats[]               name, by, bytes, kl, kl_error, tokens_per_second: what was measured beside each other;
 *                           those with `this` true are the file's own. Without it, the lines of `sweep`
 *   cache, caches[]         the recommended type; type, bytes, kl, kl_error, p99, same_top
 *   task                    name, tasks, accuracy, low, high, base_accuracy, base_low, base_high, flips,
 *                           right_to_wrong, wrong_to_right, mcnemar_p
 *
 * A file carries a short form of it: {"bits": [from, to], "bytes": [from, to], "tps": [from, to], "kl": [[text, tokens,
 * ...], ...] with all of them first, "cache": [type, kl], "task": [name, tasks, ...]}, in the order above. */
#ifndef STRETTO_REPORT_H
#define STRETTO_REPORT_H
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Whether the name ends in .html, .json or .svg; prints a sentence otherwise. An exit code. */
int report_name_check(const char *command, const char *path);
/* Writes the report in the form that the name asks for. An exit code. */
int report_write(const char *command, const char *path, bool replace, const json_t *report);
/* The same of a report that a squeezed GGUF file carries, or that stands in a *.json. */
int report_of_file(const char *command, const char *from, const char *path, bool replace);
/* The long form of the short one; anything else stays as it is. */
void report_unfold(json_t *report);

/* ---- for the parts of it ---- */

/* A text with <, >, & and " spelled; at most `most` bytes of it, 0: all. */
void report_text(FILE *f, const char *text, size_t most);
/* Members as they should be: 0 and "" where there is no such number or word. */
double report_number(const json_t *j, const char *key);
const char *report_word(const json_t *j, const char *key);
/* What was measured beside each other, and what one of them is called. */
const json_t *report_formats_of(const json_t *report);
const char *report_name(const json_t *format);
/* "91.9 MB" */
const char *report_bytes(char text[32], double bytes);

/* Pictures: each returns its height; they are wide and begin at y. Nothing is drawn, and 0 returned, where there is
 * nothing to see. */
enum { REPORT_WIDTH = 960 };
double report_formats(FILE *f, const json_t *report, double y);
double report_texts(FILE *f, const json_t *report, double y);
double report_task(FILE *f, const json_t *report, double y);
double report_types(FILE *f, const json_t *report, double y);
/* The colours and letters of pictures, as CSS. */
void report_style(FILE *f, bool page);
#endif
