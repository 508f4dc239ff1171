#include "base/json_tree.h"
#include "base/json.h"
#include <math.h>

struct building {
    struct json j;
    struct buffer key;                 /* of the member whose value comes next */
    json_t *open[JSON_MAX_DEPTH];      /* borrowed; the root owns them */
    size_t depth;
    json_t *root;
    enum json_twice twice;
};

static json_t *number(const struct json *j)
{
    int64_t i;
    double f;
    if (json_i64(j, &i)) return json_integer(i);
    if (!json_f64(j, &f)) return NULL;
    return isfinite(f) ? json_real(f) : json_stringn(j->p, j->n);
}

static json_t *value(const struct json *j, enum json_kind kind)
{
    switch (kind) {
    case JT_OBJECT: return json_object();
    case JT_ARRAY: return json_array();
    case JT_STRING: return json_stringn(j->p, j->n);
    case JT_NUMBER: return number(j);
    case JT_TRUE: return json_true();
    case JT_FALSE: return json_false();
    default: return json_null();
    }
}

/* Puts v, which is given away, where it belongs. */
static bool place(struct building *b, json_t *v)
{
    json_t *into = b->depth ? b->open[b->depth - 1] : NULL;
    if (!into) {
        b->root = v;
        return true;
    }
    if (json_is_array(into)) return json_array_append_new(into, v) == 0;
    const char *key = b->key.data ? b->key.data : "";
    return json_object_setn_new_nocheck(into, key, b->key.len, v) == 0;
}

static stretto_status no_memory(const struct building *b)
{
    return fail(b->j.err, STRETTO_E_NOMEM, "not enough memory to read %s", b->j.where);
}

static stretto_status take_key(struct building *b)
{
    json_t *into = b->open[b->depth - 1];
    buffer_clear(&b->key);
    if (buffer_append(&b->key, b->j.p, b->j.n) != STRETTO_OK) return no_memory(b);
    const char *key = b->key.data ? b->key.data : "";
    if (b->twice == JSON_TWICE_REFUSED && json_object_getn(into, key, b->key.len))
        return json_fail(&b->j, "the name \"%.60s\" stands twice in one object", key);
    return STRETTO_OK;
}

static stretto_status take(struct building *b, enum json_kind kind)
{
    if (kind == JT_KEY) return take_key(b);
    if (kind == JT_OBJECT_END || kind == JT_ARRAY_END) {
        b->depth--;
        return STRETTO_OK;
    }
    json_t *v = value(&b->j, kind);
    if (!v || !place(b, v)) return no_memory(b);
    if (kind == JT_OBJECT || kind == JT_ARRAY) b->open[b->depth++] = v;
    return STRETTO_OK;
}

stretto_status json_tree(json_t **out, const char *text, size_t n, enum json_twice twice,
                         const char *where, struct error *err)
{
    struct building b = { .key = buffer_make(n + 1), .twice = twice };
    stretto_status s = STRETTO_OK;
    enum json_kind kind;
    *out = NULL;
    json_open(&b.j, text, n, where, err);
    while (s == STRETTO_OK && (kind = json_next(&b.j)) > JT_END) s = take(&b, kind);
    if (s == STRETTO_OK) s = json_status(&b.j);
    json_done(&b.j);
    buffer_done(&b.key);
    if (s == STRETTO_OK) *out = b.root;
    else json_decref(b.root);
    return s;
}
