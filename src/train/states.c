#include "train/states.h"
#include "base/memory.h"
#include "base/random.h"
#include "format/source.h"
#include <stdio.h>
#include <string.h>

enum { MOST = INT32_MAX / 2 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory for the data"); }

void states_done(struct states *s)
{
    mem_free(s->v);
    *s = (struct states){ 0 };
}

uint64_t states_content(const struct source *s)
{
    uint64_t h = 0;
    for (size_t t = 0; t < source_tensor_count(s); t++) {
        const struct source_tensor *x = source_tensor_at(s, t);
        const unsigned char *p = x->data;
        uint64_t lane[4] = { h, t, x->bytes, 3 }, word[4];
        size_t at = 0;
        for (; x->bytes - at >= sizeof word; at += sizeof word) {
            memcpy(word, p + at, sizeof word);
            for (int i = 0; i < 4; i++)
                lane[i] = (lane[i] ^ word[i]) * 0x9e3779b97f4a7c15u, lane[i] ^= lane[i] >> 29;
        }
        for (; at < x->bytes; at++) lane[0] = (lane[0] ^ p[at]) * 0x9e3779b97f4a7c15u;
        h = random_at(lane[0], lane[1], lane[2], lane[3]);
    }
    return h;
}

stretto_status states_head(struct states *s, const json_t *line, uint64_t content, struct error *err)
{
    const json_t *m = json_object_get(line, "model"), *format = json_object_get(line, "format");
    const char *is = json_string_value(json_object_get(m, "content"));
    json_int_t block = json_integer_value(json_object_get(line, "block"));
    char want[17];
    snprintf(want, sizeof want, "%016llx", (unsigned long long)content);
    if (!json_is_string(format) || strcmp(json_string_value(format), "stretto-jacobi") != 0 || !is)
        return fail(err, STRETTO_E_FORMAT, "it does not begin as a file of stretto trace jacobi does");
    if (s->block) return fail(err, STRETTO_E_FORMAT, "a file of trajectories begins in its middle once more");
    if (json_array_size(json_object_get(m, "adapters")))
        return fail(err, STRETTO_E_ARG, "it was traced with adapters, which the model that learns does not have: trace "
                    "it without --lora, or merge them first (stretto merge)");
    if (strcmp(is, want) != 0)
        return fail(err, STRETTO_E_ARG, "it was traced with another model, whose states are not those of this one: "
                    "trace this one (stretto trace jacobi)");
    if (block < 2 || block > 256) return fail(err, STRETTO_E_FORMAT, "it has blocks of %lld tokens", (long long)block);
    s->block = (uint32_t)block;
    return STRETTO_OK;
}

static stretto_status room_for(struct states *s, size_t more, struct error *err)
{
    if (more > MOST || s->n > MOST - more)
        return fail(err, STRETTO_E_FORMAT, "there are more states than are possible");
    if (s->n + more <= s->cap) return STRETTO_OK;
    size_t cap = (s->n + more) * 3 / 2 + 1024;
    int32_t *v = mem_resize(s->v, cap * sizeof *v);
    if (!v) return no_memory(err);
    s->v = v;
    s->cap = cap;
    return STRETTO_OK;
}

/* One state of n tokens, behind those that are there. */
static stretto_status take_state(struct states *s, const json_t *list, uint32_t n, uint32_t vocab, struct error *err)
{
    if (json_array_size(list) != n) return fail(err, STRETTO_E_FORMAT, "a state has another length than its block");
    TRY(room_for(s, n, err));
    for (uint32_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v < 0 || v >= (json_int_t)vocab)
            return fail(err, STRETTO_E_FORMAT, "a state has a token that is none of the model's");
        s->v[s->n++] = (int32_t)v;
    }
    return STRETTO_OK;
}

static stretto_status take_block(struct states *s, const json_t *block, uint32_t at, uint32_t n, uint32_t vocab,
                                 struct error *err)
{
    const json_t *all = json_object_get(block, "states"), *begin = json_object_get(block, "at");
    size_t count = json_array_size(all);
    if (!json_is_integer(begin) || json_integer_value(begin) != (json_int_t)at || !count)
        return fail(err, STRETTO_E_FORMAT, "its blocks are not one behind the other, or have no states");
    TRY(room_for(s, 1, err));
    s->v[s->n++] = (int32_t)count;
    for (size_t k = 0; k < count; k++) TRY(take_state(s, json_array_get(all, k), n, vocab, err));
    return STRETTO_OK;
}

stretto_status states_take(struct states *s, const json_t *line, uint32_t n, uint32_t vocab, size_t *at,
                           struct error *err)
{
    const json_t *blocks = json_object_get(line, "blocks");
    size_t base = s->n, count = json_array_size(blocks);
    if (!s->block) return fail(err, STRETTO_E_FORMAT, "it does not begin as a file of stretto trace jacobi does");
    if (!json_is_array(blocks) || count != ((size_t)n + s->block - 1) / s->block)
        return fail(err, STRETTO_E_FORMAT, "it has no states for each block of its answer");
    TRY(room_for(s, 1 + count, err));
    s->v[base] = (int32_t)count;
    s->n = base + 1 + count;
    for (size_t b = 0; b < count; b++) {
        uint32_t first = (uint32_t)b * s->block, left = n - first;
        s->v[base + 1 + b] = (int32_t)(s->n - base);
        TRY(take_block(s, json_array_get(blocks, b), first, left < s->block ? left : s->block, vocab, err));
    }
    *at = base + 1;
    return STRETTO_OK;
}

static const int32_t *block_of(const struct states *s, size_t at, uint32_t b)
{
    const int32_t *own = s->v + at - 1;
    return own + own[1 + b];
}

uint32_t states_count(const struct states *s, size_t at, uint32_t b) { return (uint32_t)*block_of(s, at, b); }

const int32_t *states_get(const struct states *s, size_t at, uint32_t b, uint32_t n, uint32_t k)
{
    return block_of(s, at, b) + 1 + (size_t)k * n;
}
