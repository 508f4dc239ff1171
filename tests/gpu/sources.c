/* What the launchers give to a compiler on a card of NVIDIA's.
 *
 * usage: gpu_sources MOCK --write FOLDER    each source in a file there, its options in a comment on the first line
 *        gpu_sources MOCK --build NVRTC     each compiled by that library, as on a card; --build-few: one of a kind
 *
 * The card is the mock's (MOCK_CUDA says of which architecture). Where sources are only written, they go no
 * further than this program; what is built is loaded by the mock, which looks for the kernels in it. */
#include "backend/gpu/gpu.h"
#include "base/clock.h"
#include "base/memory.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;
static char label[64];
static int files;
static bool few;

struct gpu_code { int unused; };
struct gpu_kernel { int unused; };

static stretto_status write_source(struct card *c, const char *source, const char *options, struct gpu_code **out,
                                   char **log, struct error *err)
{
    static struct gpu_code code;
    char path[1024];
    (void)c;
    snprintf(path, sizeof path, "%s/%02d_%s.cu", folder, files++, label);
    FILE *f = fopen(path, "w");
    if (!f) return fail(err, STRETTO_E_IO, "%s cannot be written", path);
    fprintf(f, "// options: %s\n%s", options ? options : "", source);
    if (fclose(f)) return fail(err, STRETTO_E_IO, "%s cannot be written", path);
    *out = &code;
    *log = NULL;
    return STRETTO_OK;
}

static void close_code(struct gpu_code *code) { (void)code; }

static stretto_status any_kernel(struct gpu_code *code, const char *name, struct gpu_kernel **out, struct error *err)
{
    static struct gpu_kernel kernel;
    (void)code, (void)name, (void)err;
    *out = &kernel;
    return STRETTO_OK;
}

/* E_UNSUP: there are no kernels of such a type, which is the launcher's to say. */
static void opened(stretto_status s, const struct error *err)
{
    if (s == STRETTO_OK || s == STRETTO_E_UNSUP) return;
    fprintf(stderr, "%s: %s\n", label, err->text);
    exit(1);
}

static void name(const char *what, const char *of)
{
    int n = snprintf(label, sizeof label, "%s_%s", what, of ? of : "none");
    for (int i = 0; i < n && label[i]; i++)
        if (!isalnum((unsigned char)label[i])) label[i] = '_';
}

/* Heads of sizes that models have, one for each key and value, and eight. */
static void attend(struct gpu_device *d, enum cache_type t)
{
    static const uint32_t dims[] = { 64, 128, 256 };
    for (size_t i = few; i < (few ? 2 : sizeof dims / sizeof *dims); i++)
        for (uint32_t heads = 1; heads <= 8; heads += 7) {
            struct error err = { 0 };
            char text[64];
            struct graph_node n = { .op = OP_ATTENTION, .attention = { .heads = heads, .kv_heads = 1,
                                    .head_dim = dims[i], .causal = true } };
            snprintf(text, sizeof text, "%s_%u", cache_type_name(t), dims[i]);
            name("attention", text);
            opened(gpu_attention_prepare(d, d->attention[t], &n, &err), &err);
        }
}

/* All that the launchers have, as in program.c. */
static void open_all(struct gpu_device *d)
{
    struct error err = { 0 };
    for (int t = 0; t < DT_COUNT; t++, error_clear(&err)) {
        if (few && t != DT_Q4_K) continue;
        name("linear", dtype_table[t].name);
        opened(gpu_linear_open(d, (enum dtype)t, &d->linear[t], &err), &err);
    }
    for (int t = 0; t < CACHE_TYPES; t++) {
        if (few && t != CACHE_F16) continue;
        name("attention", cache_type_name((enum cache_type)t));
        opened(gpu_attention_open(d, (enum cache_type)t, &d->attention[t], &err), &err);
        attend(d, (enum cache_type)t);
        error_clear(&err);
        name("rows", cache_type_name((enum cache_type)t));
        opened(gpu_rows_open(d, (enum cache_type)t, &d->rows[t], &err), &err);
        error_clear(&err);
    }
    name("head", "all");
    opened(gpu_head_open(d, &d->head, &err), &err);
    error_clear(&err);
    name("roof", "all");
    opened(gpu_roof_open(d, &d->roof, &err), &err);
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct device_options o = { 0 };
    struct device *on;
    if (argc != 4) return 2;
    bool build = !strncmp(argv[2], "--build", 7);
    few = !strcmp(argv[2], "--build-few");
    setenv("STRETTO_CUDA", argv[1], 1);
    setenv("STRETTO_NVRTC", build ? argv[3] : argv[1], 1);
    folder = argv[3];
    if (backend_cuda.open(&on, &o, &err) != STRETTO_OK) {
        printf("skip: %s\n", err.text);
        return 77;
    }
    struct gpu_device *d = (struct gpu_device *)(void *)on;
    struct gpu_driver writer = *d->driver;
    writer.build = write_source;
    writer.code_close = close_code;
    writer.kernel = any_kernel;
    if (!build) d->driver = &writer;
    double begun = clock_seconds();
    open_all(d);
    if (build) printf("compiled in %.1f s\n", clock_seconds() - begun);
    else printf("%d sources\n", files);
    backend_cuda.close(on);
    return 0;
}
