/* Any bytes as what sentence-transformers writes beside a model: four files with NULs between them, of
 * which empty ones are not there. */
#include "format/pooling.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] = "{\"model_type\":\"bert\",\"vocab_size\":9,\"hidden_size\":8,"
                             "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"intermediate_size\":8,"
                             "\"max_position_embeddings\":8}";
static const char *const names[] = { "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json",
                                     "config_sentence_transformers.json", "sentence_bert_config.json" };
enum { FIXED = 2, FILES = sizeof names / sizeof *names };
static char folder[] = "/tmp/stretto-fuzz-XXXXXX";
static int fds[FILES];

static void path_of(char out[128], const char *name) { snprintf(out, 128, "%s/%s", folder, name); }

static void leave(void)
{
    char path[128];
    for (int i = 0; i < FILES; i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    path_of(path, "1_Pooling");
    rmdir(path);
    rmdir(folder);
}

/* Links to memory, so that an input costs no disk. */
static void put(int i, const void *p, size_t n)
{
    char path[128], target[64];
    path_of(path, names[i]);
    unlink(path);
    if (n == 0) return;
    snprintf(target, sizeof target, "/proc/self/fd/%d", fds[i]);
    if (ftruncate(fds[i], 0) != 0 || pwrite(fds[i], p, n, 0) != (ssize_t)n || symlink(target, path) != 0)
        abort();
}

static void enter(void)
{
    char path[128];
    if (!mkdtemp(folder)) abort();
    path_of(path, "1_Pooling");
    if (mkdir(path, 0700) != 0) abort();
    for (int i = 0; i < FILES; i++) if ((fds[i] = memfd_create(names[i], MFD_CLOEXEC)) < 0) abort();
    atexit(leave);
    put(0, config, sizeof config - 1);
    put(1, "{}", 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!fds[0]) enter();
    for (int i = FIXED; i < FILES; i++) {
        const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
        size_t n = nul ? (size_t)(nul - data) : size;
        put(i, data, n);
        data += nul ? n + 1 : n;
        size -= nul ? n + 1 : n;
    }
    struct source *s;
    struct error err = { 0 };
    stretto_status st = source_open(&s, folder, &err);
    if ((st == STRETTO_OK) != (s != NULL) || (st != STRETTO_OK) != (err.text[0] != '\0')) abort();
    if (s) {
        struct pooling_rule rule;
        source_pooling(s, &rule);
        if (rule.kind > POOLING_LAST || !memchr(rule.refusal, '\0', sizeof rule.refusal)) abort();
    }
    source_close(s);
    return 0;
}
