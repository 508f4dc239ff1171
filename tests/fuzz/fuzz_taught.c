/* Any bytes as a file of a teacher's answers, as they are, and as rows behind the head and the digests that belong to
 * them: refused with words, or rows that a loss can read; what is not whole is made anew. */
#include "train/taught.h"
#include "base/blake2b.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 60, TOP = 3, DRAWN = 2, SAMPLES = 3, TOKENS = 5, HEAD = 256, SUM = 16, MOST = 4096 };
static const struct taught_shape shape = { .vocab = VOCAB, .top = TOP, .drawn = DRAWN };
static const struct taught_key key = { "a teacher", "a text", "", 7 };
static char path[64];

static void leave(void) { unlink(path); }

static struct lines three_lines(void)
{
    static struct sample s[SAMPLES];
    static int32_t id[SAMPLES * TOKENS];
    static float weight[SAMPLES * TOKENS];
    for (uint32_t i = 0; i < SAMPLES; i++)
        s[i] = (struct sample){ .at = i * TOKENS, .n = TOKENS, .first = 1, .last = TOKENS - 1, .line = i + 1,
                                .taught = i };
    for (size_t i = 0; i < SAMPLES * TOKENS; i++) weight[i] = i % TOKENS > i / TOKENS;
    return (struct lines){ .sample = s, .n = SAMPLES, .id = id, .weight = weight };
}

static void write_bytes(const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) abort();
}

/* A record's rows, as they came, and the digest of it. */
static size_t put_record(unsigned char *to, uint64_t number, const uint8_t *data, size_t size, size_t bytes)
{
    struct blake2b b;
    unsigned char n[8] = { (unsigned char)number };
    memset(to, 0, bytes);
    if (size) memcpy(to, data, size < bytes ? size : bytes);
    blake2b_begin(&b, SUM);
    blake2b_add(&b, n, sizeof n);
    blake2b_add(&b, to, bytes);
    blake2b_end(&b, to + bytes);
    return bytes + SUM;
}

static void check_rows(const struct taught *t)
{
    int32_t id[TAUGHT_MOST];
    float prob[TAUGHT_MOST];
    for (uint64_t i = 0; i < t->n; i++)
        for (uint32_t r = 0; taught_rows_before(t, i) + r < taught_rows_before(t, i + 1); r++) {
            struct taught_target x = taught_read(t, i, r, id, prob);
            if (x.n < TOP || x.n > TOP + DRAWN || !isfinite(x.add) || !(x.tail >= 0 && x.tail <= 1)) abort();
            for (uint32_t k = 0; k < x.n; k++) {
                if (id[k] < 0 || id[k] >= VOCAB || !(prob[k] >= 0 && prob[k] <= 1)) abort();
                for (uint32_t o = 0; o < k; o++)
                    if (id[o] == id[k]) abort();
            }
        }
}

/* Opens it; what is missing is added. True: it is a file of these answers. */
static bool take(const struct lines *l)
{
    struct taught t;
    struct error err = { 0 };
    float logits[VOCAB], scratch[VOCAB];
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i * 7 % VOCAB) / 9;
    stretto_status s = taught_open(&t, path, &shape, &key, l, NULL, &err);
    if ((s == STRETTO_OK) != !err.text[0]) abort();
    if (s != STRETTO_OK) return false;
    while (t.done < t.n) {
        unsigned char *rows;
        uint32_t n;
        if (taught_begin(&t, &rows, &n, &err) != STRETTO_OK) abort();
        for (uint32_t r = 0; r < n; r++)
            if (!taught_row(&shape, logits, r, scratch, rows + r * taught_row_bytes(&shape))) abort();
        if (taught_add(&t, &err) != STRETTO_OK) abort();
    }
    if (taught_finish(&t, &err) != STRETTO_OK) abort();
    check_rows(&t);
    taught_close(&t);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char head[HEAD], file[HEAD + MOST];
    struct lines l = three_lines();
    if (!path[0]) {
        strcpy(path, "/tmp/stretto-taught-XXXXXX");
        if (close(mkstemp(path)) != 0) abort();
        atexit(leave);
        if (!take(&l)) abort();
        FILE *f = fopen(path, "rb");
        if (!f || fread(head, 1, HEAD, f) != HEAD || fclose(f)) abort();
    }
    write_bytes(data, size);
    take(&l);
    size_t at = HEAD;
    memcpy(file, head, HEAD);
    for (uint64_t i = 0; i < SAMPLES; i++) {
        size_t bytes = (size_t)(TOKENS - 1 - i) * (size_t)taught_row_bytes(&shape), n = size < bytes ? size : bytes;
        at += put_record(file + at, i, data, n, bytes);
        data += n;
        size -= n;
    }
    size_t more = size < sizeof file - at ? size : 0;
    memcpy(file + at, data, more);
    write_bytes(file, at + more);
    if (!take(&l) && !more) abort();
    return 0;
}
