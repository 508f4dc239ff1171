/* A tokenizer and a text, both hostile. Bytes that begin with "GGUF" are a file with a vocabulary;
 * otherwise what stands before the first NUL is tokenizer.json and the rest is the text. */
#include "base/memory.h"
#include "text/tokenizer_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What decoders replace in the whole text, piece by piece. */
static void reread(const struct tokenizer *t, struct buffer *text)
{
    struct buffer out = buffer_make((size_t)1 << 26);
    struct spelling_chain c = { .n = { 0 } };
    for (size_t i = 0; i < text->len; i++)
        if (tokenizer_reread(t, &c, text->data + i, 1, &out) != STRETTO_OK) abort();
    if (tokenizer_reread_end(t, &c, &out) != STRETTO_OK) abort();
    if (t->spell.drop_late_space && out.len && *out.data == ' ') out.len--;
    buffer_done(text);
    *text = out;
}

/* Every token that comes out has an id, and the bytes of all are those of one after the other. */
static void try_text(const struct tokenizer *t, const char *p, size_t n)
{
    for (unsigned flags = 0; flags < 4; flags++) {
        struct tokens ids = { 0 };
        struct buffer all = buffer_make((size_t)1 << 26), one = buffer_make((size_t)1 << 26);
        struct error err = { 0 };
        stretto_status st = tokenizer_encode(t, p, n, flags, &ids, &err);
        if (st != STRETTO_OK && (ids.n || !err.text[0])) abort();
        for (size_t i = 0; i < ids.n; i++) {
            if (ids.id[i] < 0 || (size_t)ids.id[i] >= tokenizer_size(t)) abort();
            if (tokenizer_piece(t, ids.id[i], i == 0, true, &one) == STRETTO_E_ARG) abort();
        }
        reread(t, &one);
        if (tokenizer_decode(t, ids.id, ids.n, true, &all) == STRETTO_OK && one.len != all.len &&
            !t->spell.n_suffix) abort();
        buffer_done(&all);
        buffer_done(&one);
        tokens_done(&ids);
    }
}

static bool same(const struct tokens *a, const struct tokens *b)
{
    return a->n == b->n && (!a->n || memcmp(a->id, b->id, a->n * sizeof *a->id) == 0);
}

/* Marks of one kind change nothing or are specials off; mixed ones crash
 * nothing. */
static void try_marks(const struct tokenizer *t, const char *p, size_t n)
{
    struct tokens plain = { 0 }, off = { 0 }, none = { 0 }, all = { 0 }, mixed = { 0 };
    unsigned char *marks = calloc(n + 1, 1);
    bool steers = false;
    for (size_t i = 0; i < t->raw.n; i++) steers |= t->raw.item[i].steers && !t->raw.item[i].special;
    for (size_t i = 0; i < t->normalized.n; i++)
        steers |= t->normalized.item[i].steers && !t->normalized.item[i].special;
    stretto_status st = tokenizer_encode(t, p, n, TOKENIZE_SPECIAL, &plain, NULL);
    if (st == STRETTO_OK) st = tokenizer_encode(t, p, n, 0, &off, NULL);
    if (st == STRETTO_OK) st = tokenizer_encode_chat(t, p, marks, n, TOKENIZE_SPECIAL, &none, NULL);
    memset(marks, 1, n);
    if (st == STRETTO_OK) st = tokenizer_encode_chat(t, p, marks, n, TOKENIZE_SPECIAL, &all, NULL);
    for (size_t i = 0; i < n; i++) marks[i] = (i * 7 + (unsigned char)p[i]) / 5 % 2;
    if (st == STRETTO_OK) st = tokenizer_encode_chat(t, p, marks, n, TOKENIZE_SPECIAL, &mixed, NULL);
    if (st == STRETTO_OK && !same(&plain, &none)) abort();
    if (st == STRETTO_OK && !steers && !same(&off, &all)) abort();
    free(marks);
    tokens_done(&plain);
    tokens_done(&off);
    tokens_done(&none);
    tokens_done(&all);
    tokens_done(&mixed);
}

static void try_all(const struct tokenizer *t, const char *p, size_t n)
{
    static const char usual[] = "Hello, wörld!  \xFF\xC3 don't 12345 ▁ <s></s>[CLS]\n\n日本語 \xF0\x9F\xA6\x99";
    try_text(t, usual, sizeof usual - 1);
    try_text(t, p, n);
    try_marks(t, usual, sizeof usual - 1);
    try_marks(t, p, n);
    struct buffer piece = buffer_make((size_t)1 << 22);
    size_t len;
    for (size_t i = 0; i < tokenizer_size(t) && i < 300; i++) {
        buffer_clear(&piece);
        if (tokenizer_piece(t, (int32_t)i, true, true, &piece) == STRETTO_E_ARG) abort();
        if (!tokenizer_spelling(t, (int32_t)i, &len)) abort();
        (void)tokenizer_is_eog(t, (int32_t)i);
    }
    if (tokenizer_piece(t, (int32_t)tokenizer_size(t), true, true, &piece) != STRETTO_E_ARG) abort();
    buffer_done(&piece);
}

static void try_gguf(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("fuzz.gguf", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct error err = { 0 };
    struct source *src = NULL;
    struct tokenizer *t = NULL;
    if (source_open(&src, path, &err) == STRETTO_OK && tokenizer_open(&t, src, &err) == STRETTO_OK)
        try_all(t, "text of the file", 16);
    else if (!err.text[0]) abort();
    tokenizer_close(t);
    source_close(src);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        try_gguf(data, size);
        return 0;
    }
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    struct error err = { 0 };
    struct tokenizer *t = tokenizer_new();
    if (!t) return 0;
    stretto_status st = vocab_from_json_text(t, size ? (const char *)data : "", n, &err);
    if (st == STRETTO_OK) st = tokenizer_finish(t, &err);
    if (st == STRETTO_OK) try_all(t, nul ? (const char *)nul + 1 : "", nul ? size - n - 1 : 0);
    else if (!err.text[0]) abort();
    tokenizer_close(t);
    return 0;
}
