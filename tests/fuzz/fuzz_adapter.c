/* Any bytes as an adapter: what stands before the first NUL is adapter_config.json, the rest
 * adapter_model.safetensors, or all of it is a GGUF file, which may bring phrases along. Refused with words, or
 * pairs that fit the base, which are written and read again. */
#include "base/memory.h"
#include "format/adapter.h"
#include "format/adapter_tokens.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE STRETTO_SOURCE_DIR "/tests/data/format/hf-llama"

static char folder[64] = "/tmp/stretto-adapter-XXXXXX";
static struct source *base;

static void path_of(const char *name, char out[128]) { snprintf(out, 128, "%s/%s", folder, name); }

static void put(const char *name, const uint8_t *p, size_t n)
{
    char path[128];
    path_of(name, path);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(p, 1, n, f) != n) || fclose(f)) abort();
}

static void leave(void)
{
    static const char *const names[] = { "adapter_config.json", "adapter_model.safetensors", "a.gguf", "again.gguf" };
    char path[128];
    for (size_t i = 0; i < 4; i++) {
        path_of(names[i], path);
        remove(path);
    }
    rmdir(folder);
    source_close(base);
}

static void check(const struct adapter *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        const struct source_tensor *t = source_tensor_find(base, p->weight);
        if (!t || t->dims[0] != p->n_in || t->dims[1] != p->n_out || !p->rank || p->rank > ADAPTER_RANK_MOST) abort();
    }
}

/* Phrases that it brings along: lists whose parts fit each other. */
static void try_tokens(const char *path)
{
    struct adapter_tokens t;
    struct error err = { 0 };
    stretto_status s = adapter_tokens_read(&t, path, &err);
    if ((s == STRETTO_OK) == (err.text[0] != 0)) abort();
    for (size_t i = 0; s == STRETTO_OK && i < t.more.n; i++)
        if (t.more.at[i + 1] <= t.more.at[i] || t.more.spelled_at[i + 1] < t.more.spelled_at[i]) abort();
    if (s == STRETTO_OK && t.more.n && !t.n_tables) abort();
    adapter_tokens_done(&t);
}

static void try_path(const char *path)
{
    struct adapter a, again;
    struct error err = { 0 };
    char out[128];
    path_of("again.gguf", out);
    stretto_status s = adapter_read(&a, path, base, &err);
    if ((s == STRETTO_OK) == (err.text[0] != 0)) abort();
    if (s != STRETTO_OK) return;
    check(&a);
    if (adapter_write_gguf(&a, out, base, DT_F32, NULL, 0, true, &err) == STRETTO_OK) {
        if (adapter_read(&again, out, base, &err) != STRETTO_OK || again.n != a.n) abort();
        check(&again);
        adapter_done(&again);
    }
    adapter_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = { 0 };
    char path[128];
    if (!base) {
        if (!mkdtemp(folder) || source_open(&base, BASE, &err) != STRETTO_OK) abort();
        atexit(leave);
    }
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        put("a.gguf", data, size);
        path_of("a.gguf", path);
        try_tokens(path);
        try_path(path);
        return 0;
    }
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    put("adapter_config.json", data, n);
    put("adapter_model.safetensors", nul ? nul + 1 : data, nul ? size - n - 1 : 0);
    try_path(folder);
    return 0;
}
