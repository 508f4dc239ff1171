/* Any bytes as a Hugging Face folder: u16 length of config.json, config.json, model.safetensors. */
#include "format/source.h"
#include "model/family.h"
#include "fuzz_build.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/stretto-fuzz-XXXXXX";
static const char *const names[2] = { "config.json", "model.safetensors" };
static int fds[2];

static void leave(void)
{
    for (int i = 0; i < 2; i++) {
        char link[64];
        snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        unlink(link);
    }
    rmdir(folder);
}

/* The folder's two files are links to memory, so that an input costs no disk. */
static void enter(void)
{
    if (!mkdtemp(folder)) abort();
    for (int i = 0; i < 2; i++) {
        char link[64], target[64];
        fds[i] = memfd_create(names[i], MFD_CLOEXEC);
        snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        snprintf(target, sizeof target, "/proc/self/fd/%d", fds[i]);
        if (fds[i] < 0 || symlink(target, link) != 0) abort();
    }
    atexit(leave);
}

static void fill(int fd, const uint8_t *p, size_t n)
{
    if (ftruncate(fd, 0) != 0 || pwrite(fd, p, n, 0) != (ssize_t)n) abort();
}

/* Reads every element a tensor promises. */
static uint64_t touch(const struct source_tensor *t)
{
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3], columns = t->dims[0], sum = 0;
    if (t->transposed) {
        rows = t->dims[0];
        columns = t->dims[1];
    }
    size_t stride = t->stride ? t->stride : (size_t)columns;
    for (uint64_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dtype_bytes(t->type, (size_t)columns); i++)
            sum += ((const unsigned char *)t->data)[dtype_bytes(t->type, (size_t)r * stride) + i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!fds[0]) enter();
    if (size < 2) return 0;
    size_t n = (size_t)data[0] | (size_t)data[1] << 8;
    if (n > size - 2) n = size - 2;
    fill(fds[0], data + 2, n);
    fill(fds[1], data + 2 + n, size - 2 - n);
    struct source *s;
    struct error err = { 0 };
    stretto_status st = source_open(&s, folder, &err);
    if ((st == STRETTO_OK) != (s != NULL) || (st != STRETTO_OK) != (err.text[0] != '\0')) abort();
    uint64_t sum = 0;
    for (size_t i = 0; s && i < source_tensor_count(s); i++) sum += touch(source_tensor_at(s, i));
    volatile uint64_t keep = sum;
    (void)keep;
    if (s) build(s);
    source_close(s);
    return 0;
}
