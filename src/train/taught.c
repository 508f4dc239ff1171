#include "train/taught.h"
#include "base/blake2b.h"
#include "base/memory.h"
#include "base/random.h"
#include "decode/logits.h"
#include "tensor/dtype.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 256, SUM = 16, BLOCK = 64, DRAWS = 0x7ea };    /* DRAWS: what random_at is asked for */

static const char magic[16] = "stretto-taught-1";

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- numbers --------------------------------------------------------------------------------- */

static void put(unsigned char *to, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (unsigned char)(v >> 8 * i);
}

static uint32_t get(const unsigned char *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void put_float(unsigned char *to, double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    put(to, bits, 4);
}

static float get_float(const unsigned char *from)
{
    uint32_t bits = get(from);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Where the parts of a row stand. */
static size_t at_id(uint32_t i) { return 8 + 4 * (size_t)i; }
static size_t at_prob(const struct taught_shape *s, uint32_t i) { return 8 + 4 * ((size_t)s->top + i); }
static size_t at_drawn(const struct taught_shape *s, uint32_t i) { return 8 + 4 * (2 * (size_t)s->top + i); }
uint64_t taught_row_bytes(const struct taught_shape *s)
{
    return s->width ? 4 + 2 * (uint64_t)s->width : at_drawn(s, s->drawn);
}

/* ---- a row ----------------------------------------------------------------------------------- */

/* The likeliest `top` ids, best first, of equal ones the lower. */
static void find_top(const float *x, uint32_t vocab, uint32_t top, int32_t *id)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (n == top && !(x[i] > x[id[n - 1]])) continue;
        uint32_t k = n < top ? n++ : n - 1;
        for (; k && x[i] > x[id[k - 1]]; k--) id[k] = id[k - 1];
        id[k] = (int32_t)i;
    }
}

/* e: exponentials, `rest` their sum. Ids at equal distances along it, the first one drawn. */
static void draw(const struct taught_shape *s, const float *e, double rest, uint64_t number, unsigned char *row)
{
    double before = 0, block = 0, first = random_unit(random_at(DRAWS, number, 0, 0));
    uint32_t at = 0, last = 0;
    for (uint32_t i = 0; i < s->vocab; i++)
        if (e[i] > 0) last = i;
    for (uint32_t i = 0; i < BLOCK && i < s->vocab; i++) block += (double)e[i];
    for (uint32_t k = 0; k < s->drawn; k++) {
        double want = ((double)k + first) / s->drawn * rest, sum = before;
        while (at + BLOCK < s->vocab && before + block <= want) {
            before += block;
            at += BLOCK;
            block = 0;
            for (uint32_t i = at; i < at + BLOCK && i < s->vocab; i++) block += (double)e[i];
            sum = before;
        }
        uint32_t i = at;
        while (i < last && sum + (double)e[i] <= want) sum += (double)e[i++];
        while (i > 0 && !(e[i] > 0)) i--;
        put(row + at_drawn(s, k), i, 4);
    }
}

bool taught_row(const struct taught_shape *s, const float *logits, uint64_t number, float *scratch, unsigned char *row)
{
    int32_t top[TAUGHT_MOST];
    struct logits_about about = logits_about(logits, s->vocab);
    double sum = 0, spread = 0, rest = 0;
    if (!isfinite(about.log_sum)) return false;
    logits_exponentials(logits, s->vocab, about.most, scratch);
    for (uint32_t i = 0; i < s->vocab; i++) {
        sum += (double)scratch[i];
        spread += scratch[i] > 0 ? (double)scratch[i] * (double)(logits[i] - about.most) : 0;
    }
    find_top(logits, s->vocab, s->top, top);
    for (uint32_t i = 0; i < s->top; i++) {
        put(row + at_id(i), (uint32_t)top[i], 4);
        put_float(row + at_prob(s, i), (double)scratch[top[i]] / sum);
        scratch[top[i]] = 0;
    }
    for (uint32_t i = 0; i < s->vocab; i++) rest += (double)scratch[i];
    put_float(row, log(sum) - spread / sum);
    put_float(row + 4, rest / sum);
    if (rest > 0) draw(s, scratch, rest, number, row);
    else for (uint32_t k = 0; k < s->drawn; k++) put(row + at_drawn(s, k), UINT32_MAX, 4);
    return true;
}

bool hidden_row(const struct taught_shape *s, const float *hidden, unsigned char *row)
{
    float most = 0;
    for (uint32_t i = 0; i < s->width; i++) {
        if (!isfinite(hidden[i])) return false;
        most = fmaxf(most, fabsf(hidden[i]));
    }
    put_float(row, (double)most);
    for (uint32_t i = 0; i < s->width; i++) {
        float v = most > 0 ? hidden[i] / most : 0;
        uint16_t bits;
        dtype_table[DT_F16].encode(&v, &bits, 1);
        put(row + 4 + 2 * (size_t)i, bits, 2);
    }
    return true;
}

static void read_hidden(const unsigned char *row, uint32_t width, float *out)
{
    float most = get_float(row);
    for (uint32_t i = 0; i < width; i++) {
        uint16_t bits = (uint16_t)(row[4 + 2 * (size_t)i] | row[5 + 2 * (size_t)i] << 8);
        dtype_table[DT_F16].decode(&bits, &out[i], 1);
        out[i] *= most;
    }
}

static bool hidden_is_sound(const unsigned char *row, uint32_t width)
{
    bool sound = isfinite(get_float(row)) && get_float(row) >= 0;
    for (uint32_t i = 0; i < width; i++) sound &= (row[5 + 2 * (size_t)i] & 0x7f) <= 0x3c;     /* at most about 1 */
    return sound;
}

/* Entropy and draws as the loss wants them: with q of the named, it answers the sum of q ln(q / p). */
static struct taught_target target_of(const struct taught_shape *s, const unsigned char *row, int32_t *id, float *prob)
{
    struct taught_target t = { .n = s->top, .tail = get_float(row + 4) };
    double named = 0, each = s->drawn ? (double)t.tail / s->drawn : 0;
    for (uint32_t i = 0; i < s->top; i++) {
        id[i] = (int32_t)get(row + at_id(i));
        prob[i] = get_float(row + at_prob(s, i));
    }
    if (!s->drawn) return t;
    t.tail = 0;
    for (uint32_t i = 0; i < s->drawn; i++) {
        int32_t drawn = (int32_t)get(row + at_drawn(s, i));
        if (drawn < 0) break;
        if (t.n == s->top || id[t.n - 1] != drawn) {
            id[t.n] = drawn;
            prob[t.n++] = 0;
        }
        prob[t.n - 1] += (float)each;
    }
    for (uint32_t i = 0; i < t.n; i++)
        if (prob[i] > 0) named += (double)prob[i] * log((double)prob[i]);
    t.add = (float)(-named - (double)get_float(row));
    return t;
}

/* What nobody but a broken disk or a forger writes. */
static bool row_is_sound(const struct taught_shape *s, const unsigned char *row)
{
    if (s->width) return hidden_is_sound(row, s->width);
    float entropy = get_float(row), tail = get_float(row + 4), prob;
    bool sound = isfinite(entropy) && tail >= 0 && tail <= 1;
    for (uint32_t i = 0; i < s->top && sound; i++) {
        uint32_t id = get(row + at_id(i));
        prob = get_float(row + at_prob(s, i));
        sound = id < s->vocab && prob >= 0 && prob <= 1;
        for (uint32_t k = 0; k < i; k++) sound = sound && get(row + at_id(k)) != id;
    }
    for (uint32_t i = 0; i < s->drawn && sound; i++) {
        uint32_t id = get(row + at_drawn(s, i));
        sound = id < s->vocab || (id == UINT32_MAX && (!i || get(row + at_drawn(s, i - 1)) == id));
        sound = sound && (!i || id >= get(row + at_drawn(s, i - 1)));
        for (uint32_t k = 0; k < s->top; k++) sound = sound && get(row + at_id(k)) != id;
    }
    return sound;
}

/* ---- the file -------------------------------------------------------------------------------- */

static uint32_t rows_of(const struct lines *l, const struct sample *s)
{
    uint32_t n = 0;
    for (uint32_t i = s->first; i <= s->last; i++) n += sample_weights(l, s)[i] > 0;
    return n;
}

static uint64_t rows_of_all(const struct lines *l)
{
    uint64_t n = 0;
    for (size_t i = 0; l && i < l->n; i++) n += rows_of(l, &l->sample[i]);
    return n;
}

uint64_t taught_bytes(const struct taught_shape *s, const struct lines *l, const struct lines *held)
{
    return HEAD + (rows_of_all(l) + rows_of_all(held)) * taught_row_bytes(s) + (l->n + (held ? held->n : 0)) * SUM;
}

static void make_head(const struct taught *t, const struct taught_key *key, unsigned char head[HEAD])
{
    memset(head, 0, HEAD);
    memcpy(head, magic, sizeof magic);
    put(head + 16, t->shape.vocab, 4);
    put(head + 20, t->shape.top, 4);
    put(head + 24, t->shape.drawn, 4);
    put(head + 28, t->shape.width, 4);
    put(head + 32, t->n, 8);
    put(head + 40, t->rows, 8);
    put(head + 48, key->vocabulary, 8);
    memcpy(head + 64, key->teacher, CONTENT_DIGITS);
    memcpy(head + 112, key->text, CONTENT_DIGITS);
    memcpy(head + 160, key->held, CONTENT_DIGITS);
}

static void digest(const struct taught *t, uint64_t record, size_t bytes, unsigned char out[SUM])
{
    struct blake2b b;
    unsigned char number[8];
    put(number, record, 8);
    blake2b_begin(&b, SUM);
    blake2b_add(&b, number, sizeof number);
    blake2b_add(&b, t->record, bytes);
    blake2b_end(&b, out);
}

static size_t rows_bytes(const struct taught *t, uint64_t record)
{
    return (size_t)(t->at[record + 1] - t->at[record] - SUM);
}

/* The record is in the file, and is in t->record now. */
static bool is_whole(struct taught *t, uint64_t record)
{
    unsigned char sum[SUM];
    size_t bytes = rows_bytes(t, record), row = (size_t)taught_row_bytes(&t->shape);
    if (!file_get_at(t->fd, t->record, bytes + SUM, t->at[record])) return false;
    digest(t, record, bytes, sum);
    if (memcmp(sum, t->record + bytes, SUM) != 0) return false;
    for (size_t at = 0; at < bytes; at += row)
        if (!row_is_sound(&t->shape, t->record + at)) return false;
    return true;
}

static const char *words_of(const struct taught *t) { return t->shape.width ? "hidden states" : "teacher's answers"; }

static stretto_status same_head(const struct taught *t, const unsigned char *want, const unsigned char *is,
                                struct error *err)
{
    static const struct { size_t at, bytes; const char *words; } parts[] = {
        { 28, 4, "another kind: a teacher has answers, and heads have hidden states" },
        { 64, CONTENT_DIGITS, "another teacher" }, { 16, 4, "another vocabulary" }, { 48, 8, "another vocabulary" },
        { 112, CONTENT_DIGITS, "other lines" }, { 160, CONTENT_DIGITS, "other lines that are held out" },
        { 20, 4, "another --teacher-top" }, { 24, 4, "another --teacher-drawn" },
    };
    if (memcmp(is, magic, sizeof magic) != 0)
        return fail(err, STRETTO_E_ARG, "%s is there and holds no %s: name another file with "
                    "--teacher-cache", t->path, words_of(t));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (memcmp(want + parts[i].at, is + parts[i].at, parts[i].bytes) != 0)
            return fail(err, STRETTO_E_ARG, "the %s in %s are of %s: remove the file, or name another one with "
                        "--teacher-cache", words_of(t), t->path,
                        t->shape.width && parts[i].at == 64 ? "another model" : parts[i].words);
    return memcmp(want, is, HEAD) == 0 ? STRETTO_OK
                                       : fail(err, STRETTO_E_FORMAT, "%s is damaged: remove it", t->path);
}

static stretto_status cannot_write(const struct taught *t, struct error *err)
{
    return fail(err, STRETTO_E_IO, "cannot write the %s into %s: %s; those of %llu of %llu lines are "
                "kept: make room, and the same command goes on", words_of(t), t->path, strerror(errno ? errno : ENOSPC),
                (unsigned long long)t->done, (unsigned long long)t->n);
}

static stretto_status alone(const struct taught *t, struct error *err)
{
    if (flock(t->fd, LOCK_EX | LOCK_NB) == 0) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "another process works with %s: name another file with --teacher-cache",
                t->path);
}

/* A file that was cut off within its head is begun anew; one with anything else in it is somebody's. */
static stretto_status take_head(struct taught *t, const struct taught_key *key, struct error *err)
{
    unsigned char want[HEAD], is[HEAD] = { 0 };
    struct stat st;
    make_head(t, key, want);
    if (fstat(t->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return fail(err, STRETTO_E_ARG, "%s is no regular file", t->path);
    size_t n = st.st_size < HEAD ? (size_t)st.st_size : HEAD;
    if (n && !file_get_at(t->fd, is, n, 0))
        return fail(err, STRETTO_E_IO, "cannot read %s: %s", t->path, strerror(errno));
    if (n == HEAD || memcmp(is, want, n) != 0) return same_head(t, want, is, err);
    TRY(alone(t, err));
    return file_put_at(t->fd, want, HEAD, 0) ? STRETTO_OK : cannot_write(t, err);
}

/* What is behind the last whole record goes when the next one is written. */
static stretto_status find_done(struct taught *t, struct error *err)
{
    struct stat st;
    while (t->done < t->n && is_whole(t, t->done)) t->done++;
    if (t->done < t->n) return alone(t, err);
    if (fstat(t->fd, &st) == 0 && (uint64_t)st.st_size == t->at[t->n]) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "%s has more bytes than the %s of its lines: remove it", t->path, words_of(t));
}

static stretto_status open_file(struct taught *t, const struct taught_key *key, struct error *err)
{
    t->fd = open(t->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->fd < 0) return fail(err, STRETTO_E_IO, "cannot open %s: %s", t->path, strerror(errno));
    if (flock(t->fd, LOCK_SH | LOCK_NB) != 0) return alone(t, err);
    TRY(take_head(t, key, err));
    return find_done(t, err);
}

static void place(struct taught *t, const struct lines *l, uint64_t *i, size_t *most)
{
    for (size_t k = 0; l && k < l->n; k++, ++*i) {
        uint32_t rows = rows_of(l, &l->sample[k]);
        size_t bytes = (size_t)(rows * taught_row_bytes(&t->shape)) + SUM;
        t->at[*i + 1] = t->at[*i] + bytes;
        t->rows += rows;
        if (bytes > *most) *most = bytes;
    }
}

stretto_status taught_open(struct taught *t, const char *path, const struct taught_shape *s,
                           const struct taught_key *key, const struct lines *l, const struct lines *held,
                           struct error *err)
{
    size_t most = SUM;
    uint64_t i = 0;
    *t = (struct taught){ .shape = *s, .path = path, .fd = -1, .n = l->n + (held ? held->n : 0) };
    t->at = mem_alloc((size_t)(t->n + 1) * sizeof *t->at);
    if (!t->at) return no_memory(err);
    t->at[0] = HEAD;
    place(t, l, &i, &most);
    place(t, held, &i, &most);
    t->record = mem_alloc(most);
    stretto_status st = t->record ? open_file(t, key, err) : no_memory(err);
    if (st != STRETTO_OK) taught_close(t);
    return st;
}

void taught_close(struct taught *t)
{
    file_map_close(&t->map);
    if (t->at && t->fd >= 0) close(t->fd);
    mem_free(t->at);
    mem_free(t->record);
    *t = (struct taught){ 0 };
}

stretto_status taught_begin(struct taught *t, unsigned char **rows, uint32_t *n, struct error *err)
{
    if (t->done == t->n) return fail(err, STRETTO_E_ARG, "all answers are there");
    *rows = t->record;
    *n = (uint32_t)(rows_bytes(t, t->done) / taught_row_bytes(&t->shape));
    return STRETTO_OK;
}

stretto_status taught_add(struct taught *t, struct error *err)
{
    size_t bytes = rows_bytes(t, t->done);
    digest(t, t->done, bytes, t->record + bytes);
    if (!file_put_at(t->fd, t->record, bytes + SUM, t->at[t->done])) return cannot_write(t, err);
    t->done++;
    t->grew = true;
    return STRETTO_OK;
}

stretto_status taught_finish(struct taught *t, struct error *err)
{
    struct stat st;
    if (fstat(t->fd, &st) == 0 && (uint64_t)st.st_size > t->at[t->n] && ftruncate(t->fd, (off_t)t->at[t->n]) != 0)
        return cannot_write(t, err);
    if (t->grew && fsync(t->fd) != 0) return cannot_write(t, err);
    flock(t->fd, LOCK_SH | LOCK_NB);
    TRY(file_map_open(&t->map, t->path, err));
    if (t->map.size == t->at[t->n]) return STRETTO_OK;
    return fail(err, STRETTO_E_IO, "%s was changed by somebody else", t->path);
}

uint64_t taught_rows_before(const struct taught *t, uint64_t i)
{
    return (t->at[i] - HEAD - i * SUM) / taught_row_bytes(&t->shape);
}

void hidden_read(const struct taught *t, uint64_t record, uint32_t row, float *out)
{
    read_hidden(t->map.data + t->at[record] + row * taught_row_bytes(&t->shape), t->shape.width, out);
}

struct taught_target taught_read(const struct taught *t, uint64_t record, uint32_t row, int32_t *id, float *prob)
{
    return target_of(&t->shape, t->map.data + t->at[record] + row * taught_row_bytes(&t->shape), id, prob);
}
