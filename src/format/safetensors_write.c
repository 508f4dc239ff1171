#include "format/safetensors_write.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *describe(const struct st_tensor *t, uint64_t at)
{
    json_t *shape = json_array();
    for (size_t d = 0; d < t->n_dims && d < SOURCE_MAX_DIMS; d++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
    return json_pack("{s:s,s:o,s:[I,I]}", "dtype", t->dtype, "shape", shape, "data_offsets", (json_int_t)at,
                     (json_int_t)(at + t->bytes));
}

static json_t *describe_all(const struct st_tensor *list, size_t n, const char *const *about)
{
    json_t *all = json_object();
    if (about) {
        json_t *words = json_object();
        for (; *about; about += 2) json_object_set_new(words, about[0], json_string(about[1]));
        json_object_set_new(all, "__metadata__", words);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < n; at += list[i++].bytes) json_object_set_new(all, list[i].name, describe(&list[i], at));
    return all;
}

stretto_status safetensors_header(struct buffer *out, const struct st_tensor *list, size_t n,
                                  const char *const *about)
{
    json_t *all = describe_all(list, n, about);
    char *text = json_dumps(all, JSON_COMPACT);
    bool whole = json_object_size(all) == n + (about != NULL);
    json_decref(all);
    size_t length = text ? strlen(text) : 0, padded = (length + 7) / 8 * 8, had = out->len;
    unsigned char start[8];
    for (size_t i = 0; i < 8; i++) start[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    stretto_status s = text && whole ? buffer_append(out, start, sizeof start) : STRETTO_E_NOMEM;
    if (s == STRETTO_OK) s = buffer_append(out, text, length);
    while (s == STRETTO_OK && out->len < had + 8 + padded) s = buffer_str(out, " ");
    free(text);
    return s;
}
