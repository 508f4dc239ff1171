#include "format/convert.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "format/pooling.h"
#include "format/source_int.h"
#include "tensor/encode.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Rows turned at once: what a cache line of a transposed matrix gives; they are one thread's. Tiles in memory at
 * once: as many as hold BATCH numbers, within bounds. */
enum { TILE = 32, BATCH = 1 << 20, LEAST_TILES = 16, MOST_TILES = 64 };

/* What rounding to a type lost: sums of squares, and the tensor that lost most for its size. */
struct loss { size_t n; double lost, whole, worst; const char *name; };

struct conversion {
    struct source *s;
    const struct convert_options *o;
    struct gguf_writer *w;
    struct error *err;
    bool folder;                        /* from Hugging Face */
    struct source_tensor *list;         /* as they are to be written, in order */
    size_t n;
    struct loss loss[DT_COUNT];
    uint64_t heads, heads_kv, done, total;
};

/* ---- which tensors ------------------------------------------------------------------------- */

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcmp(s + n - w, with) == 0;
}

static enum dtype type_for(const struct conversion *c, const struct source_tensor *t)
{
    if (t->n_dims == 1 || strncmp(t->name, "position_embd", 13) == 0
        || strncmp(t->name, "token_types", 11) == 0) return DT_F32;
    enum dtype type = c->o->type;
    while (t->dims[0] % dtype_table[type].block)
        type = dtype_table[type].instead ? dtype_table[type].instead : DT_F16;
    return type;
}

/* Llama 3's scaling of frequencies as the tensor GGUF carries it in: one divisor per pair of
 * dimensions. Formula: Llama 3.1's reference code, as in transformers' rope utilities. */
static stretto_status add_rope_freqs(struct conversion *c)
{
    double base = 10000, factor = 1, low = 1, high = 4, original = 8192;
    uint64_t n_rot = 0;
    const struct source *s = c->s;
    struct source_str type;
    if (!c->folder || !source_string(s, ".rope.scaling.type", &type) || type.n != 6
        || memcmp(type.p, "llama3", 6) != 0) return STRETTO_OK;
    source_f64(s, ".rope.freq_base", &base);
    source_f64(s, ".rope.scaling.factor", &factor);
    source_f64(s, ".rope.scaling.low_freq_factor", &low);
    source_f64(s, ".rope.scaling.high_freq_factor", &high);
    source_f64(s, ".rope.scaling.original_context_length", &original);
    if (!source_u64(s, ".rope.dimension_count", &n_rot) || n_rot < 2 || n_rot > 65536)
        return fail(c->err, STRETTO_E_FORMAT, "%s: %llu rotary dimensions are not possible",
                    s->path, (unsigned long long)n_rot);
    size_t n = (size_t)n_rot / 2;
    float *data = pool_take(&c->s->pool, n * sizeof *data);
    if (!data) return source_no_memory(s, c->err);
    for (size_t i = 0; i < n; i++) {
        double length = 2 * 3.14159265358979323846 * pow(base, 2 * (double)i / (double)n_rot);
        double smooth = (original / length - low) / (high - low), f = factor;
        if (length < original / high) f = 1;
        else if (length <= original / low) f = 1 / ((1 - smooth) / factor + smooth);
        data[i] = (float)f;
    }
    c->list[c->n++] = (struct source_tensor){ .name = "rope_freqs.weight", .type = DT_F32,
                                              .n_dims = 1, .dims = { n, 1, 1, 1 }, .data = data,
                                              .bytes = n * sizeof *data, .memory = true };
    return STRETTO_OK;
}

/* ---- metadata ------------------------------------------------------------------------------ */

static bool is_key(const struct source *s, const char *key, const char *with)
{
    size_t n = strlen(s->arch);
    return with[0] == '.' ? strncmp(key, s->arch, n) == 0 && strcmp(key + n, with) == 0
                          : strcmp(key, with) == 0;
}

/* Keys that only a folder's reading has. */
static bool is_left_out(void *ud, const char *key)
{
    const struct conversion *c = ud;
    static const char *const llama3[] = { ".rope.scaling.low_freq_factor", ".rope.scaling.type",
                                          ".rope.scaling.high_freq_factor", ".rope.scaling.factor",
                                          ".rope.scaling.original_context_length" };
    if (!c->folder) return false;
    struct source_str type;
    bool scaled = source_string(c->s, ".rope.scaling.type", &type) && type.n == 6
                  && memcmp(type.p, "llama3", 6) == 0;
    for (size_t i = 0; scaled && i < sizeof llama3 / sizeof *llama3; i++)
        if (is_key(c->s, key, llama3[i])) return true;
    /* The tokenizer's own description has these. */
    return strncmp(key, "tokenizer.ggml.", 15) == 0
           && strcmp(key, "tokenizer.ggml.token_type_count") != 0;
}

/* What this program obeys in a GGUF file and llama.cpp passes over, in these families. */
static void warn_of_others(const struct conversion *c)
{
    const struct source *s = c->s;
    uint64_t window = 0, context = 0, head = 0, heads = 1, width = 0;
    double scalar = 0;
    source_u64(s, ".attention.sliding_window", &window);
    source_u64(s, ".context_length", &context);
    source_u64(s, ".attention.key_length", &head);
    source_u64(s, ".attention.head_count", &heads);
    source_u64(s, ".embedding_length", &width);
    source_f64(s, ".attention.query_pre_attn_scalar", &scalar);
    if (source_has(s, ".attention.rope_pattern"))
        log_say(&c->o->log, LOG_WARN, "%s says which layers turn by position; this program will obey the file's word "
                "for it, others may pass over it", s->path);
    if (window && window < context && !s->window_usual)
        log_say(&c->o->log, LOG_WARN,
                "%s sees a window of %llu tokens; this program will obey the file's word for it, "
                "others may pass over it", s->path, (unsigned long long)window);
    if (scalar > 0 && scalar != (double)head && heads && scalar != (double)width / (double)heads)
        log_say(&c->o->log, LOG_WARN,
                "%s scales queries by %g; this program will obey the file's word for it, others "
                "may pass over it", s->path, scalar);
}

static stretto_status put_metadata(struct conversion *c)
{
    const struct source *s = c->s;
    gguf_put_kept(c->w, s, is_left_out, c);
    /* The numbers llama.cpp gives to "mostly this type". */
    gguf_put_u32(c->w, "general.file_type", dtype_table[c->o->type].file_type);
    gguf_put_u32(c->w, "general.quantization_version", 2);
    for (const char *const *note = c->o->notes; note && *note; note += 2)
        gguf_put_string(c->w, note[0], note[1], strlen(note[1]));
    struct source_str text;
    if (!c->folder) return STRETTO_OK;
    warn_of_others(c);
    if (c->o->tokenizer && source_file(s, "tokenizer.json", &text))
        return c->o->tokenizer(s, c->w, c->err);
    log_say(&c->o->log, LOG_WARN, "%s has no tokenizer.json: the file will have no tokenizer",
            s->path);
    gguf_put_string(c->w, "tokenizer.ggml.model", "none", 4);
    return STRETTO_OK;
}

/* Matrices whose rows the blocks do not fit: a line for each type that is written instead. */
static void tell_instead(const struct conversion *c)
{
    size_t n[DT_COUNT] = { 0 }, matrices = 0;
    const struct source_tensor *first[DT_COUNT] = { NULL };
    for (size_t i = 0; i < c->n; i++) {
        enum dtype type = type_for(c, &c->list[i]);
        if (c->list[i].n_dims == 1) continue;
        if (type != DT_F32) matrices++;
        if (n[type]++ == 0) first[type] = &c->list[i];
    }
    const struct dtype_info *asked = &dtype_table[c->o->type];
    for (int t = DT_F32 + 1; t < DT_COUNT; t++)
        if (n[t] && t != (int)c->o->type && c->o->type != DT_F32)
            log_say(&c->o->log, LOG_WARN, "%zu of %zu matrices have rows that %s's blocks of %u do not fit (%s: %llu): "
                    "they are written as %s", n[t], matrices, asked->name, asked->block, first[t]->name,
                    (unsigned long long)first[t]->dims[0], dtype_table[t].name);
}

static stretto_status put_tensors(struct conversion *c)
{
    tell_instead(c);
    for (size_t i = 0; i < c->n; i++) {
        const struct source_tensor *t = &c->list[i];
        enum dtype type = type_for(c, t);
        TRY(gguf_put_tensor(c->w, t->name, type, t->n_dims, t->dims, c->err));
        c->total += dtype_bytes(type, (size_t)(t->bytes / dtype_table[t->type].bytes
                                               * dtype_table[t->type].block));
    }
    return STRETTO_OK;
}

/* ---- bytes --------------------------------------------------------------------------------- */

/* Heads whose rows must change from halves to pairs; 0 when the order is right. */
static uint64_t heads_to_pair(const struct conversion *c, const struct source_tensor *t)
{
    if (!c->s->rope_halves) return 0;
    if (ends(t->name, ".attn_q.weight") || ends(t->name, ".attn_q.bias")) return c->heads;
    if (ends(t->name, ".attn_k.weight") || ends(t->name, ".attn_k.bias")) return c->heads_kv;
    return 0;
}

/* Pair i of a head is (i, i + half) in one order, (2i, 2i + 1) in the other. */
static uint64_t paired_row(uint64_t row, uint64_t head_rows)
{
    uint64_t head = row / head_rows * head_rows, at = row % head_rows;
    return head + at % 2 * (head_rows / 2) + at / 2;
}

/* Rows [first, first + n) as they are to be written, n <= TILE. */
static void read_rows(const struct source_tensor *t, uint64_t first,
                      size_t n, uint64_t head_rows, float *rows)
{
    const struct dtype_info *type = &dtype_table[t->type];
    size_t width = (size_t)t->dims[0];
    const unsigned char *data = t->data;
    if (t->transposed) {
        float column[TILE];
        size_t stride = t->stride ? t->stride : (size_t)t->dims[1];
        for (size_t i = 0; i < width; i++) {
            type->decode(data + dtype_bytes(t->type, i * stride + (size_t)first), column, n);
            for (size_t r = 0; r < n; r++) rows[r * width + i] = column[r];
        }
        return;
    }
    for (size_t r = 0; r < n; r++) {
        uint64_t row = head_rows ? paired_row(first + r, head_rows) : first + r;
        type->decode(data + dtype_bytes(t->type, (size_t)row * width), rows + r * width, width);
    }
}

static void pair_vector(float *v, float *spare, size_t n, uint64_t head_rows)
{
    memcpy(spare, v, n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = spare[paired_row(i, head_rows)];
}

static stretto_status check_row(const struct conversion *c, const struct source_tensor *t,
                                enum dtype type, const float *row)
{
    for (size_t i = 0; i < t->dims[0]; i++) {
        if (!isfinite(row[i]))
            return fail(c->err, STRETTO_E_FORMAT, "%s: tensor %s holds a value that is not finite",
                        c->s->path, t->name);
        if (fabsf(row[i]) > dtype_table[type].most)
            return fail(c->err, STRETTO_E_ARG, "%s: tensor %s holds %g, which is too large for %s; "
                        "choose f32", c->s->path, t->name, (double)row[i],
                        dtype_table[type].name);
    }
    return STRETTO_OK;
}

static stretto_status cancelled(const struct conversion *c)
{
    if (!c->o->cancel || !*c->o->cancel) return STRETTO_OK;
    return fail(c->err, STRETTO_E_CANCEL, "converting was cancelled; nothing was written");
}

/* A tile's share of a batch: what it lost, or its first row that cannot be written. */
struct tile { double lost, whole; size_t bad; };
enum { NO_ROW = TILE };

/* Rows of one tensor on their way. */
struct batch {
    const struct source_tensor *t;
    enum dtype type;
    bool shifted;                       /* by one, as norms may be */
    uint64_t head_rows;                 /* not 0: rows, or a vector's numbers, change places */
    uint64_t first, n;
    float *rows;                        /* and one more */
    unsigned char *encoded;
    struct tile *tile;
};

static bool can_write(enum dtype type, const float *row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(row[i]) <= dtype_table[type].most)) return false;
    return true;
}

static void measure_row(enum dtype type, const float *row, const unsigned char *encoded, size_t n, struct tile *tile)
{
    enum { PIECE = 256 };               /* whole blocks */
    float back[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t some = n - at < PIECE ? n - at : PIECE;
        dtype_table[type].decode(encoded + dtype_bytes(type, at), back, some);
        for (size_t i = 0; i < some; i++) {
            double x = (double)row[at + i], e = (double)back[i] - x;
            tile->whole += x * x;
            tile->lost += e * e;
        }
    }
}

/* Tile i of a batch, whoever does it. */
static void write_tile(void *ud, size_t i)
{
    const struct batch *b = ud;
    struct tile *tile = &b->tile[i];
    size_t width = (size_t)b->t->dims[0], bytes = dtype_bytes(b->type, width), at = i * TILE;
    size_t n = b->n - at < TILE ? (size_t)b->n - at : TILE;
    float *rows = b->rows + at * width;
    bool vector = b->t->n_dims == 1;
    *tile = (struct tile){ .bad = NO_ROW };
    read_rows(b->t, b->first + at, n, vector ? 0 : b->head_rows, rows);
    if (vector && b->head_rows) pair_vector(rows, rows + width, width, b->head_rows);
    for (size_t k = 0; k < n * width && b->shifted; k++) rows[k] += 1;
    for (size_t r = 0; r < n; r++) {
        const float *row = rows + r * width;
        unsigned char *to = b->encoded + (at + r) * bytes;
        if (!can_write(b->type, row, width)) {
            tile->bad = r;
            return;
        }
        if (dtype_table[b->type].block > 1) encode_search(b->type, row, NULL, to, width);
        else dtype_table[b->type].encode(row, to, width);
        measure_row(b->type, row, to, width, tile);
    }
}

static stretto_status write_batch(struct conversion *c, struct batch *b, struct tile *sums)
{
    size_t tiles = (size_t)(b->n + TILE - 1) / TILE, width = (size_t)b->t->dims[0];
    size_t bytes = dtype_bytes(b->type, width) * (size_t)b->n;
    if (c->o->each) c->o->each(c->o->threads, tiles, write_tile, b);
    for (size_t i = 0; i < tiles && !c->o->each; i++) write_tile(b, i);
    for (size_t i = 0; i < tiles; i++) {
        const struct tile *tile = &b->tile[i];
        if (tile->bad != NO_ROW) TRY(check_row(c, b->t, b->type, b->rows + (i * TILE + tile->bad) * width));
        sums->lost += tile->lost;
        sums->whole += tile->whole;
    }
    TRY(gguf_write(c->w, b->encoded, bytes, c->err));
    c->done += bytes;
    progress_tell(&c->o->progress, "converting", c->done, c->total);
    return cancelled(c);
}

static void note_loss(struct conversion *c, const struct source_tensor *t, enum dtype type, const struct tile *sums)
{
    struct loss *l = &c->loss[type];
    double part = sums->whole > 0 ? sqrt(sums->lost / sums->whole) : 0;
    l->n++;
    l->lost += sums->lost;
    l->whole += sums->whole;
    if (part <= l->worst) return;
    l->worst = part;
    l->name = t->name;
}

static void tell_losses(const struct conversion *c)
{
    for (int t = 0; t < DT_COUNT; t++) {
        const struct loss *l = &c->loss[t];
        if (l->lost > 0)
            log_say(&c->o->log, LOG_INFO, "%s: rounding %zu %s took %.3g %% of the weights' size (root mean square), "
                    "most of %s, %.3g %%", dtype_table[t].name, l->n, l->n == 1 ? "tensor" : "tensors",
                    100 * sqrt(l->lost / l->whole), l->name, 100 * l->worst);
    }
}

/* Nothing to change: the very bytes, so that block types are not rounded twice. */
static stretto_status copy_tensor(struct conversion *c, const struct source_tensor *t)
{
    for (size_t at = 0; at < t->bytes;) {
        size_t n = t->bytes - at < (size_t)1 << 24 ? t->bytes - at : (size_t)1 << 24;
        TRY(gguf_write(c->w, (const unsigned char *)t->data + at, n, c->err));
        TRY(cancelled(c));
        at += n;
        c->done += n;
        progress_tell(&c->o->progress, "converting", c->done, c->total);
    }
    return STRETTO_OK;
}

static stretto_status write_tensor(struct conversion *c, const struct source_tensor *t)
{
    enum dtype type = type_for(c, t);
    bool shifted = c->s->norm_plus_one && ends(t->name, "norm.weight");
    if (type == t->type && !t->transposed && !t->stride && !shifted && !heads_to_pair(c, t))
        return copy_tensor(c, t);
    bool vector = t->n_dims == 1;
    size_t width = (size_t)t->dims[0];
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3], heads = heads_to_pair(c, t);
    uint64_t head_rows = heads ? (vector ? t->dims[0] : rows) / heads : 0;
    if (heads && (head_rows % 2 || head_rows * heads != (vector ? t->dims[0] : rows)))
        return fail(c->err, STRETTO_E_FORMAT,
                    "%s: tensor %s does not divide into %llu heads of an even "
                    "size",
                    c->s->path, t->name, (unsigned long long)heads);
    size_t tiles = width ? BATCH / (TILE * width) : 0;
    tiles = tiles < LEAST_TILES ? LEAST_TILES : tiles > MOST_TILES ? MOST_TILES : tiles;
    const size_t most = rows < tiles * TILE ? (size_t)rows : tiles * TILE;
    struct batch b = { .t = t, .type = type, .shifted = shifted, .head_rows = head_rows };
    struct tile tile[MOST_TILES], sums = { 0 };
    b.rows = mem_alloc((most + 1) * width * sizeof *b.rows);
    b.encoded = mem_alloc(most * dtype_bytes(type, width) + 1);
    b.tile = tile;
    stretto_status st = b.rows && b.encoded ? STRETTO_OK : source_no_memory(c->s, c->err);
    for (; b.first < rows && st == STRETTO_OK; b.first += b.n) {
        b.n = rows - b.first < most ? rows - b.first : most;
        st = write_batch(c, &b, &sums);
    }
    mem_free(b.rows);
    mem_free(b.encoded);
    if (st == STRETTO_OK) note_loss(c, t, type, &sums);
    return st;
}

/* A GGUF file has a number for one pooling; a folder that wants more would lose it on the way. */
static stretto_status check_pooling(const struct conversion *c)
{
    struct pooling_rule rule;
    source_pooling(c->s, &rule);
    if (!c->folder || !rule.refusal[0]) return STRETTO_OK;
    return fail(c->err, STRETTO_E_UNSUP, "%s: %s, which a GGUF file cannot say", c->s->path,
                rule.refusal);
}

static stretto_status write_everything(struct conversion *c)
{
    TRY(check_pooling(c));
    TRY(source_stored(c->s, 1, &c->list, &c->n, c->err));
    if (c->n == 0)
        return fail(c->err, STRETTO_E_ARG,
                    "%s is a vocabulary without tensors: there is nothing to "
                    "convert",
                    c->s->path);
    TRY(add_rope_freqs(c));
    if (c->s->rope_halves
        && (!source_u64(c->s, ".attention.head_count", &c->heads)
            || !source_u64(c->s, ".attention.head_count_kv", &c->heads_kv) || !c->heads
            || !c->heads_kv))
        return fail(c->err, STRETTO_E_FORMAT, "%s does not say how many heads it has", c->s->path);
    TRY(put_metadata(c));
    TRY(put_tensors(c));
    TRY(gguf_begin_data(c->w, c->err));
    for (size_t i = 0; i < c->n; i++) {
        TRY(write_tensor(c, &c->list[i]));
        source_release(c->s, &c->list[i]);
    }
    TRY(gguf_finish(c->w, c->err));
    tell_losses(c);
    return STRETTO_OK;
}

stretto_status convert(const char *in, const char *out, const struct convert_options *o,
                       struct error *err)
{
    char names[256];
    if (o->type >= DT_COUNT || !dtype_table[o->type].block)
        return fail(err, STRETTO_E_ARG, "models are converted to %s", dtype_names(names, sizeof names));
    struct conversion c = { .o = o, .err = err };
    TRY(source_open(&c.s, in, err));
    c.folder = c.s->n_files > 0;
    stretto_status st = gguf_writer_open(&c.w, out, o->force, err);
    if (st == STRETTO_OK) st = write_everything(&c);
    gguf_writer_close(c.w);
    mem_free(c.list);
    source_close(c.s);
    return st;
}
