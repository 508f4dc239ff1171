/* Any bytes as a .gguf file: an error or a source of which everything can be asked. */
#include "base/memory.h"
#include "format/source.h"
#include "model/family.h"
#include "fuzz_build.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte a tensor promises, so that the sanitizer and the kernel see a wrong view. */
static uint64_t touch(const struct source_tensor *t)
{
    uint64_t sum = 0;
    if (t->name[0] == '\0') abort();
    for (size_t i = 0; i < t->bytes; i++) sum += ((const unsigned char *)t->data)[i];
    return sum;
}

static uint64_t ask_everything(const struct source *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *t = source_tensor_at(s, i);
        if (source_tensor_find(s, t->name) != t) abort();
        sum += touch(t);
    }
    for (size_t i = 0; i < source_key_count(s); i++) {
        enum source_kind kind, element;
        const char *key = source_key_at(s, i, &kind);
        uint64_t u;
        int64_t n;
        double f;
        bool b;
        size_t count = 0;
        struct source_str str;
        if (source_u64(s, key, &u)) sum += u;
        if (source_f64(s, key, &f)) sum += f > 0;
        if (source_bool(s, key, &b)) sum += b;
        if (source_string(s, key, &str))
            for (size_t k = 0; k < str.n; k++)
                sum += (unsigned char)str.p[k];
        source_array(s, key, &element, &count);
        for (size_t k = 0; k < count && k < 1000; k++) {
            if (source_array_i64(s, key, k, &n)) sum += (uint64_t)n;
            if (source_array_f64(s, key, k, &f)) sum += f > 0;
            if (source_array_string(s, key, k, &str) && str.n)
                sum += (unsigned char)str.p[str.n - 1];
        }
        if (source_array_string(s, key, count, &str)) abort();
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    struct source *s;
    struct error err = { 0 };
    stretto_status st = source_open(&s, path, &err);
    if ((st == STRETTO_OK) != (s != NULL) || (st != STRETTO_OK) != (err.text[0] != '\0')) abort();
    volatile uint64_t sum = s ? ask_everything(s) : 0;
    (void)sum;
    if (s) build(s);
    source_close(s);
    return 0;
}
