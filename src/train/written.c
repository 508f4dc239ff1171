#include "train/written.h"
#include "base/json_tree.h"
#include "base/random.h"
#include <string.h>

enum { DRAW_LINES = 11 };         /* what random_at is asked for */

bool written_chosen(const struct written_how *how, size_t i)
{
    return random_unit(random_at(how->seed, DRAW_LINES, how->epoch, i)) < how->share;
}

uint32_t written_given(const struct lines *l, const struct sample *s)
{
    uint32_t at = s->last;
    while (at > s->first && sample_weights(l, s)[at - 1] > 0) at--;
    return at > 1 ? at : (s->last + 1) / 2;
}

static bool are_tokens(const json_t *answer, uint32_t vocab)
{
    for (size_t k = 0; k < json_array_size(answer); k++) {
        const json_t *v = json_array_get(answer, k);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab) return false;
    }
    return true;
}

/* Line i with this answer. */
static stretto_status add_written(struct lines *out, const struct lines *of, size_t i, const json_t *answer,
                                  uint32_t vocab, struct error *err)
{
    struct sample s = of->sample[i];
    uint32_t given = written_given(of, &s), room = s.last + 1 - given, written = (uint32_t)json_array_size(answer);
    float weight = sample_weights(of, &s)[s.last];
    if (!json_array_size(answer) || json_array_size(answer) > room)
        return fail(err, STRETTO_E_FORMAT, "what was written for line %zu is %zu tokens long", i,
                    json_array_size(answer));
    if (!are_tokens(answer, vocab))
        return fail(err, STRETTO_E_FORMAT, "what was written for line %zu has a token that does not exist", i);
    struct sample own = { .n = given + written, .first = s.first < given ? s.first : given,
                          .last = given + written - 1, .group = s.group, .file = s.file, .line = s.line,
                          .taught = (uint32_t)out->n, .written = true };
    int32_t *id;
    float *weights;
    TRY(lines_add(out, &own, &id, &weights, err));
    for (uint32_t k = 0; k < own.n; k++) {
        id[k] = k < given ? sample_ids(of, &s)[k] : (int32_t)json_integer_value(json_array_get(answer, k - given));
        weights[k] = k < given ? (k < own.first ? 0 : sample_weights(of, &s)[k]) : weight;
    }
    return STRETTO_OK;
}

static size_t next_chosen(const struct lines *of, const struct written_how *how, size_t i)
{
    while (i < of->n && !written_chosen(how, i)) i++;
    return i;
}

static stretto_status read_line(struct lines *out, const struct lines *of, size_t i, uint32_t vocab, const char *p,
                                size_t n, struct error *err)
{
    json_t *j;
    TRY(json_tree(&j, p, n, JSON_TWICE_REFUSED, "the line", err));
    const json_t *line = json_object_get(j, "line");
    bool right = i < of->n && json_is_integer(line) && json_integer_value(line) == (json_int_t)i;
    stretto_status s = right ? add_written(out, of, i, json_object_get(j, "answer"), vocab, err)
                             : fail(err, STRETTO_E_FORMAT, "it is of another line than it should be");
    json_decref(j);
    return s;
}

stretto_status written_read(struct lines *out, const struct lines *of, const struct written_how *how, const char *text,
                            size_t n, struct error *err)
{
    size_t i = next_chosen(of, how, 0);
    for (size_t f = 0; f < of->n_files; f++) TRY(lines_add_file(out, of->file[f], err));
    for (size_t at = 0, bytes; at < n; at += bytes + 1, i = next_chosen(of, how, i + 1)) {
        const char *end = memchr(text + at, '\n', n - at);
        bytes = end ? (size_t)(end - text) - at : n - at;
        TRY(read_line(out, of, i, how->vocab, text + at, bytes, err));
    }
    return i < of->n ? fail(err, STRETTO_E_FORMAT, "it ends before line %zu", i) : STRETTO_OK;
}
