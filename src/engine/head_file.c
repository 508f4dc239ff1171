#include "engine/head_file.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

static const char *const part_names[PARTS] = { "recursive.state.weight", "recursive.token.weight",
                                               "recursive.gate.weight", "recursive.up.weight",
                                               "recursive.down.weight" };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "no memory for the heads"); }

static bool type_of(const struct st_tensor *t, enum dtype *type)
{
    static const struct { const char *name; enum dtype type; } types[] = {
        { "F32", DT_F32 }, { "F16", DT_F16 }, { "BF16", DT_BF16 } };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(t->dtype, types[i].name) == 0) {
            *type = types[i].type;
            return true;
        }
    return false;
}

static stretto_status shape_is(const struct head_file *f, const struct st_tensor *t, size_t dims,
                               uint64_t a, uint64_t b, struct error *err)
{
    if (t->n_dims == dims && t->shape[0] == a && (dims == 1 || t->shape[1] == b)) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT,
                "%s is %llu x %llu, and this model has a width of %u and %u tokens: the heads are of another model",
                t->name, (unsigned long long)(t->n_dims ? t->shape[0] : 0),
                (unsigned long long)(t->n_dims > 1 ? t->shape[1] : 1), f->width, f->vocab);
}

static stretto_status twice(const struct st_tensor *t, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s stands in the file twice", t->name);
}

/* ---- Medusa's ------------------------------------------------------------------------------- */

static stretto_status take_weight(struct head_file *f, struct head *x, const struct st_tensor *t, enum dtype type,
                                  struct error *err)
{
    size_t width = f->width;
    float *row = mem_alloc(width * sizeof *row);
    x->w = mem_alloc(width * width * sizeof *x->w);
    if (!row || !x->w) {
        mem_free(row);
        return no_memory(err);
    }
    for (size_t o = 0; o < width; o++) {
        dtype_table[type].decode(t->data + o * dtype_bytes(type, width), row, width);
        for (size_t i = 0; i < width; i++) x->w[i * width + o] = row[i];
    }
    mem_free(row);
    return STRETTO_OK;
}

static stretto_status take_bias(struct head_file *f, struct head *x, const struct st_tensor *t, enum dtype type,
                                struct error *err)
{
    x->bias = mem_alloc(f->width * sizeof *x->bias);
    if (!x->bias) return no_memory(err);
    dtype_table[type].decode(t->data, x->bias, f->width);
    return STRETTO_OK;
}

static stretto_status take_head(struct head_file *f, const struct st_tensor *t, enum dtype type, unsigned k,
                                const char *what, struct error *err)
{
    size_t width = f->width;
    bool weight = strcmp(what, "weight") == 0, bias = strcmp(what, "bias") == 0;
    if (k >= MAX_HEADS)
        return fail(err, STRETTO_E_FORMAT, "%s: at most %d heads are read", t->name, MAX_HEADS);
    struct head *x = &f->head[k];
    if ((weight && x->w) || (bias && x->bias) || (!weight && !bias && x->output.data)) return twice(t, err);
    if (k >= f->n) f->n = k + 1;
    TRY(weight ? shape_is(f, t, 2, width, width, err) : bias ? shape_is(f, t, 1, width, 0, err)
                                                             : shape_is(f, t, 2, f->vocab, width, err));
    if (weight) return take_weight(f, x, t, type, err);
    if (bias) return take_bias(f, x, t, type, err);
    x->output = (struct param_bytes){ .type = type, .n_in = f->width, .n_out = f->vocab, .data = t->data,
                                      .row_bytes = dtype_bytes(type, width) };
    f->n_outputs++;
    return STRETTO_OK;
}

/* ---- the recursive one ---------------------------------------------------------------------- */

static stretto_status take_part(struct head_file *f, const struct st_tensor *t, enum dtype type, int part,
                                struct error *err)
{
    bool wide = part == PART_GATE || part == PART_UP, down = part == PART_DOWN;
    uint64_t feed = t->n_dims == 2 ? t->shape[down] : 0;
    if (f->part[part].data) return twice(t, err);
    if (wide || down) {
        if (!feed || feed > FEED_MOST || (f->feed && f->feed != feed))
            return fail(err, STRETTO_E_FORMAT, "%s is of %llu channels, and the head's other tensors are of %u",
                        t->name, (unsigned long long)feed, f->feed);
        f->feed = (uint32_t)feed;
    }
    uint64_t n_out = wide ? feed : f->width, n_in = down ? feed : f->width;
    TRY(shape_is(f, t, 2, n_out, n_in, err));
    f->part[part] = (struct param_bytes){ .type = type, .n_in = (uint32_t)n_in, .n_out = (uint32_t)n_out,
                                          .data = t->data, .row_bytes = dtype_bytes(type, (size_t)n_in) };
    return STRETTO_OK;
}

/* ---- the tokens ----------------------------------------------------------------------------- */

static stretto_status take_tokens(struct head_file *f, const struct st_tensor *t, struct error *err)
{
    if (f->token) return twice(t, err);
    if (strcmp(t->dtype, "I32") != 0 || t->n_dims != 1 || !t->shape[0] || t->shape[0] > f->vocab)
        return fail(err, STRETTO_E_FORMAT, "tokens are a list of at most %u ids, as I32: the heads are of another "
                    "model", f->vocab);
    f->n_tokens = (uint32_t)t->shape[0];
    f->token = mem_alloc(f->n_tokens * sizeof *f->token);
    uint8_t *seen = mem_zalloc(f->vocab, 1);
    stretto_status s = f->token && seen ? STRETTO_OK : no_memory(err);
    for (uint32_t i = 0; i < f->n_tokens && s == STRETTO_OK; i++) {
        const unsigned char *b = t->data + 4 * (size_t)i;
        uint32_t id = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        if (id >= f->vocab || seen[id])
            s = fail(err, STRETTO_E_FORMAT, "token %u of the heads is %s: the heads are of another model", i,
                     id >= f->vocab ? "none of this model" : "listed twice");
        else seen[id] = 1;
        f->token[i] = (int32_t)id;
    }
    mem_free(seen);
    return s;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int part_of(const char *name)
{
    int k = 0;
    while (k < PARTS && strcmp(part_names[k], name) != 0) k++;
    return k;
}

/* What has another name, shape or type is refused: heads of another model would only cost time. */
static stretto_status visit(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct head_file *f = ctx;
    unsigned k;
    int end = 0, part = part_of(t->name);
    enum dtype type;
    const char *what = sscanf(t->name, "heads.%2u.%n", &k, &end) == 1 && end ? t->name + end : "";
    if (strcmp(t->name, "tokens") == 0) return take_tokens(f, t, err);
    if (part == PARTS && strcmp(what, "weight") != 0 && strcmp(what, "bias") != 0 && strcmp(what, "output.weight") != 0)
        return fail(err, STRETTO_E_FORMAT, "the file holds a tensor %.100s; a file of heads holds heads.K.weight, "
                    "heads.K.bias and heads.K.output.weight, or recursive.state|token|gate|up|down.weight, and tokens",
                    t->name);
    if (!type_of(t, &type))
        return fail(err, STRETTO_E_UNSUP, "%s is stored as %s; heads are F32, F16 or BF16", t->name, t->dtype);
    return part < PARTS ? take_part(f, t, type, part, err) : take_head(f, t, type, k, what, err);
}

static stretto_status whole_recursive(const struct head_file *f, const char *path, struct error *err)
{
    if (f->n) return fail(err, STRETTO_E_FORMAT, "%s holds heads of both kinds", path);
    for (int k = 0; k < PARTS; k++)
        if (!f->part[k].data) return fail(err, STRETTO_E_FORMAT, "%s lacks %s", path, part_names[k]);
    return STRETTO_OK;
}

static stretto_status whole(const struct head_file *f, const char *path, struct error *err)
{
    for (int k = 0; k < PARTS; k++)
        if (f->part[k].data) return whole_recursive(f, path, err);
    if (!f->n) return fail(err, STRETTO_E_FORMAT, "%s holds no heads", path);
    for (uint32_t k = 0; k < f->n; k++)
        if (!f->head[k].w)
            return fail(err, STRETTO_E_FORMAT, "%s has %u heads and no heads.%u.weight", path, f->n, k);
    if (f->n_outputs && f->n_outputs != f->n)
        return fail(err, STRETTO_E_FORMAT, "%s has output layers for %u of its %u heads", path, f->n_outputs, f->n);
    if (f->n_outputs && f->token)
        return fail(err, STRETTO_E_FORMAT, "%s has output layers and a list of tokens; tokens are rows of the model's "
                    "own output layer", path);
    return STRETTO_OK;
}

stretto_status head_file_read(struct head_file *f, const struct file_map *map, const char *path, struct error *err)
{
    TRY(safetensors_read(map, path, visit, f, err));
    return whole(f, path, err);
}

void head_file_done(struct head_file *f)
{
    for (uint32_t k = 0; k < MAX_HEADS; k++) {
        mem_free(f->head[k].w);
        mem_free(f->head[k].bias);
    }
    mem_free(f->token);
    *f = (struct head_file){ .width = f->width, .vocab = f->vocab };
}
