/* The table of types, made from the rows, and the numbers that are one element each. */
#include "tensor/dtype_rows.h"
#include "tensor/half.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

void decode_F32(const void *in, float *out, size_t n) { memcpy(out, in, n * sizeof *out); }
void encode_F32(const float *in, void *out, size_t n) { memcpy(out, in, n * sizeof *in); }

void decode_F16(const void *in, float *out, size_t n)
{
    const unsigned char *p = in;
    for (size_t i = 0; i < n; i++) out[i] = load_half(p + 2 * i);
}

void encode_F16(const float *in, void *out, size_t n)
{
    unsigned char *p = out;
    for (size_t i = 0; i < n; i++) store_half(p + 2 * i, in[i]);
}

void decode_BF16(const void *in, float *out, size_t n)
{
    const unsigned char *p = in;
    for (size_t i = 0; i < n; i++) out[i] = load_brain(p + 2 * i);
}

void encode_BF16(const float *in, void *out, size_t n)
{
    unsigned char *p = out;
    for (size_t i = 0; i < n; i++) store_brain(p + 2 * i, in[i]);
}

const struct dtype_info dtype_table[DT_COUNT] = {
#define X(T, ...) [DT_##T] = { .name = #T, .decode = decode_##T, __VA_ARGS__ },
    DTYPES(X)
#undef X
};

static const char *const gguf_names[DT_COUNT] = {
#define X(name, number) [number] = #name,
    GGUF_TYPES(X)
#undef X
};

enum dtype dtype_by_gguf(uint32_t number)
{
    return number < DT_COUNT && dtype_table[number].block ? (enum dtype)number : DT_COUNT;
}

enum dtype dtype_by_name(const char *name)
{
    for (int t = 0; t < DT_COUNT; t++)
        if (dtype_table[t].block && strcasecmp(dtype_table[t].name, name) == 0) return (enum dtype)t;
    return DT_COUNT;
}

const char *dtype_gguf_foreign_name(uint32_t number)
{
    return number < DT_COUNT && !dtype_table[number].block ? gguf_names[number] : NULL;
}

const char *dtype_names(char *text, size_t size)
{
    size_t at = 0;
    if (size) text[0] = '\0';
    for (int t = 0; t < DT_COUNT && at < size; t++)
        if (dtype_table[t].block)
            at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "", dtype_table[t].name);
    return text;
}

size_t dtype_bytes(enum dtype t, size_t n)
{
    return n / dtype_table[t].block * dtype_table[t].bytes;
}
