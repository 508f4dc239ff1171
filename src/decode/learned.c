/* The file, little endian:
 *   magic[16], u32 version, u32 tokens of the vocabulary, u64 its hash
 *   u64 strategies: { name[16], f32 hits[16], f32 tests[16], f32 evidence[17] }, f32 bias
 *   u64 entries after a token: { u32 token, entry }      entry: u32 token + 1 [8], u8 chance[8]
 *   u64 entries after a pair:  { u32 place, u32 check, entry }
 *   u64 tokens of finished answers, oldest first, i32 each, -1 between two
 *   u64 check of all bytes before */
#include "decode/learned.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/reader.h"
#include "decode/strategy.h"
#include <math.h>
#include <string.h>

enum { VERSION = 1, NAME = 16, SOURCES_MOST = 64, ENTRY = 5 * STEP_TOP };
static const char magic[16] = "stretto learned";
static const float TESTS_MOST = 1e6F, EVIDENCE_MOST = 40;

/* ---- memory --------------------------------------------------------------------------------- */

void learned_init(struct learned *x)
{
    *x = (struct learned){ .memory = { 0 } };
    calibration_init(&x->calibration);
}

static void plan(struct learned *x, struct arena *a, uint32_t vocab)
{
    suffix_store_plan(&x->store, a, SUFFIX_STORE_TOKENS);
    recycle_memory_plan(&x->recycled, a, vocab);
}

stretto_status learned_place(struct learned *x, uint32_t vocab, struct error *err)
{
    if (x->memory.base) return STRETTO_OK;
    struct arena a = { 0 };
    struct learned sizes = { .memory = { 0 } };
    plan(&sizes, &a, vocab);
    a = (struct arena){ .base = mem_map(a.top), .cap = a.top };
    if (!a.base) return fail(err, STRETTO_E_NOMEM, "no memory for what an engine learns");
    plan(x, &a, vocab);
    x->memory = a;
    return STRETTO_OK;
}

void learned_close(struct learned *x) { mem_unmap(x->memory.base, x->memory.cap); }

uint64_t learned_vocabulary(const struct tokenizer *t, uint32_t vocab)
{
    uint64_t h = vocab;
    for (size_t i = 0, n = t ? tokenizer_size(t) : 0; i < n; i++) {
        size_t length;
        const char *p = tokenizer_spelling(t, (int32_t)i, &length);
        h = random_mix(h ^ (p ? length : ~(uint64_t)0));
        for (size_t k = 0; p && k < length; k += 8) {
            uint64_t word = 0;
            memcpy(&word, p + k, length - k < 8 ? length - k : 8);
            h = random_mix(h ^ word);
        }
    }
    return h;
}

/* ---- writing -------------------------------------------------------------------------------- */

static stretto_status add(struct buffer *b, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    return buffer_append(b, bytes, n);
}

static stretto_status add_floats(struct buffer *b, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        TRY(add(b, bits, 4));
    }
    return STRETTO_OK;
}

static stretto_status add_calibration(struct buffer *b, const struct calibration *c)
{
    uint64_t n = 0;
    while (strategies[n]) n++;
    TRY(add(b, n, 8));
    for (unsigned s = 0; s < n; s++) {
        char name[NAME] = { 0 };
        memcpy(name, strategies[s]->name, strlen(strategies[s]->name));
        TRY(buffer_append(b, name, NAME));
        TRY(add_floats(b, c->hits[s], CONFIDENCE_BUCKETS));
        TRY(add_floats(b, c->tests[s], CONFIDENCE_BUCKETS));
        TRY(add_floats(b, c->evidence[s], CONFIDENCE_BUCKETS + 1));
    }
    return add_floats(b, &c->bias, 1);
}

/* Entries that hold something, of a table whose entries are named by their place. */
static stretto_status add_entries(struct buffer *b, const struct followers *s, uint32_t n, bool pairs)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < n; i++) used += s[i].token[0] > 0;
    TRY(add(b, used, 8));
    for (uint32_t i = 0; i < n; i++) {
        if (s[i].token[0] <= 0) continue;
        TRY(add(b, i, 4));
        if (pairs) TRY(add(b, s[i].check, 4));
        for (int k = 0; k < STEP_TOP; k++) TRY(add(b, (uint32_t)s[i].token[k], 4));
        TRY(buffer_append(b, s[i].chance, STEP_TOP));
    }
    return STRETTO_OK;
}

static stretto_status add_store(struct buffer *b, const struct ngram_index *x)
{
    uint32_t held = x->end < x->mask + 1 ? x->end : x->mask + 1;
    TRY(add(b, held, 8));
    for (uint32_t i = x->end - held; i != x->end; i++)
        TRY(add(b, (uint32_t)ngram_at(x, i), 4));
    return STRETTO_OK;
}

uint64_t learned_check(const void *data, size_t n)
{
    uint64_t h = n, word;
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i += 8) {
        word = 0;
        for (size_t k = 0; k < 8 && i + k < n; k++) word |= (uint64_t)p[i + k] << (8 * k);
        h = random_mix(h ^ word);
    }
    return h;
}

stretto_status learned_write(const struct learned *x, uint64_t vocabulary, struct buffer *out)
{
    size_t from = out->len;
    TRY(buffer_append(out, magic, sizeof magic));
    TRY(add(out, VERSION, 4));
    TRY(add(out, x->recycled.vocab, 4));
    TRY(add(out, vocabulary, 8));
    TRY(add_calibration(out, &x->calibration));
    TRY(add_entries(out, x->recycled.after_token, x->recycled.vocab, false));
    TRY(add_entries(out, x->recycled.after_pair, RECYCLE_PAIRS, true));
    TRY(add_store(out, &x->store.index));
    return add(out, learned_check(out->data + from, out->len - from), 8);
}

/* ---- reading -------------------------------------------------------------------------------- */

static float read_float(struct reader *r, float low, float high)
{
    uint32_t bits = read_u32(r);
    float v;
    memcpy(&v, &bits, sizeof v);
    if (!(v >= low && v <= high)) r->bad = true;
    return r->bad ? 0 : v;
}

/* A strategy that this program does not have is passed over. */
static void take_calibration(struct reader *r, struct calibration *c)
{
    size_t n = read_count(r, NAME + 4 * (3 * CONFIDENCE_BUCKETS + 1));
    if (n > SOURCES_MOST) r->bad = true;
    for (size_t i = 0; i < n && !r->bad; i++) {
        const char *name = read_bytes(r, NAME);
        float hits[CONFIDENCE_BUCKETS], tests[CONFIDENCE_BUCKETS], evidence[CONFIDENCE_BUCKETS + 1];
        unsigned s;
        for (int b = 0; b < CONFIDENCE_BUCKETS; b++) hits[b] = read_float(r, 0, TESTS_MOST);
        for (int b = 0; b < CONFIDENCE_BUCKETS; b++) tests[b] = read_float(r, hits[b], TESTS_MOST);
        for (int b = 0; b <= CONFIDENCE_BUCKETS; b++)
            evidence[b] = read_float(r, -EVIDENCE_MOST, EVIDENCE_MOST);
        if (r->bad || !strategy_find(name, strnlen(name, NAME), &s)) continue;
        memcpy(c->hits[s], hits, sizeof hits);
        memcpy(c->tests[s], tests, sizeof tests);
        memcpy(c->evidence[s], evidence, sizeof evidence);
    }
    c->bias = read_float(r, -EVIDENCE_MOST, EVIDENCE_MOST);
}

static void take_entries(struct reader *r, struct followers *table, uint32_t n, bool pairs,
                         uint32_t vocab, bool keep)
{
    size_t count = read_count(r, ENTRY + 4);
    for (size_t i = 0; i < count && !r->bad; i++) {
        struct followers s = { .check = 0 };
        uint32_t at = read_u32(r);
        if (pairs) s.check = read_u32(r);
        for (int k = 0; k < STEP_TOP; k++) {
            uint32_t token = read_u32(r);
            if (token > vocab || (k == 0 && token == 0)) r->bad = true;
            s.token[k] = (int32_t)token;
        }
        const unsigned char *chance = read_bytes(r, STEP_TOP);
        for (int k = 0; k < STEP_TOP && chance; k++)
            if ((s.chance[k] = chance[k]) >= RECYCLE_CHANCES) r->bad = true;
        if (at >= n) r->bad = true;
        if (keep && !r->bad) table[at] = s;
    }
}

static void take_store(struct reader *r, struct ngram_index *x, uint32_t vocab, bool keep)
{
    size_t count = read_count(r, 4);
    if (count > (size_t)SUFFIX_STORE_TOKENS) r->bad = true;
    for (size_t i = 0; i < count && !r->bad; i++) {
        uint32_t token = read_u32(r);
        if (token >= vocab && token != (uint32_t)NGRAM_BREAK) r->bad = true;
        if (keep && !r->bad) ngram_add(x, (int32_t)token);
    }
}

/* The parts behind the header; twice, first to look and then to keep. */
static bool take(struct learned *x, struct reader r, bool keep)
{
    struct calibration c = x->calibration;
    uint32_t vocab = x->recycled.vocab;
    take_calibration(&r, &c);
    if (keep) x->calibration = c;
    take_entries(&r, x->recycled.after_token, vocab, false, vocab, keep);
    take_entries(&r, x->recycled.after_pair, RECYCLE_PAIRS, true, vocab, keep);
    take_store(&r, &x->store.index, vocab, keep);
    return !r.bad && r.p == r.end;
}

/* Twice over the bytes: first everything is checked, then taken, so a bad file changes nothing. */
stretto_status learned_read(struct learned *x, uint64_t vocabulary, const void *data, size_t n,
                            struct error *err)
{
    struct reader r = { data, (const unsigned char *)data + n, false };
    const void *begin = read_bytes(&r, sizeof magic);
    if (!begin || memcmp(begin, magic, sizeof magic) != 0)
        return fail(err, STRETTO_E_FORMAT, "it is no file of what decoding learned");
    uint32_t version = read_u32(&r), vocab = read_u32(&r);
    uint64_t which = read_u64(&r);
    if (!r.bad && version != VERSION)
        return fail(err, STRETTO_E_UNSUP, "it has version %u and this program reads %d", version,
                    VERSION);
    if (!r.bad && (vocab != x->recycled.vocab || which != vocabulary))
        return fail(err, STRETTO_E_ARG, "it was learned with another vocabulary");
    struct reader last = { r.end - 8, r.end, r.bad || r.end - r.p < 8 };
    if (last.bad || read_u64(&last) != learned_check(data, n - 8))
        return fail(err, STRETTO_E_FORMAT, "it is damaged or cut off");
    r.end -= 8;
    if (!take(x, r, false))
        return fail(err, STRETTO_E_FORMAT, "it holds what no decoding can have learned");
    take(x, r, true);
    return STRETTO_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

stretto_status learned_load(struct learned *x, uint64_t vocabulary, const char *path,
                            struct error *err)
{
    struct error why = { 0 };
    struct file_map file;
    TRY(file_map_open(&file, path, err));
    stretto_status s = learned_read(x, vocabulary, file.data, file.size, &why);
    file_map_close(&file);
    return s == STRETTO_OK
               ? s : fail(err, s, "%s cannot be used: %s; name another file", path, why.text);
}

stretto_status learned_save(const struct learned *x, uint64_t vocabulary, const char *path,
                            struct error *err)
{
    struct buffer out = buffer_make(LEARNED_BYTES);
    stretto_status s = learned_write(x, vocabulary, &out);
    s = s == STRETTO_OK ? file_replace(path, out.data, out.len, err)
                        : fail(err, s, "not enough memory to write %s", path);
    buffer_done(&out);
    return s;
}
