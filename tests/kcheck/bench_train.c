/* What a training step does, at the sizes of SmolLM2-135M: shares of the float32 peak, or of the memory's rate. */
#include "bench.h"
#include "kernels/see.h"

static float *numbers(struct bench *b, size_t n)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    for (size_t i = 0; i < n; i++) x[i] = kc_normal(&b->c);
    return x;
}

/* A linear layer of n outputs and k inputs: forward, back and its own gradient, all rows at once, in one thread. */
static void bench_layer(struct bench *b, size_t n, size_t k, size_t rows)
{
    char name[3][64];
    snprintf(name[0], sizeof *name, "teach y %zux%zu rows %zu", n, k, rows);
    snprintf(name[1], sizeof *name, "teach dx %zux%zu rows %zu", n, k, rows);
    snprintf(name[2], sizeof *name, "teach dw %zux%zu rows %zu", n, k, rows);
    if (b->only && !strstr(name[0], b->only) && !strstr(name[1], b->only) && !strstr(name[2], b->only)) return;
    const struct kernels *f = b->c.k;
    float *w = numbers(b, n * k), *x = numbers(b, rows * k), *y = numbers(b, rows * n), *g = numbers(b, n * k);
    struct act act = { .f = x, .ldf = k };
    double macs = (double)rows * (double)n * (double)k, bytes = 4.0 * (double)(n * k + rows * (n + k));
    BENCH_OF(b, name[0], f->level, bytes, macs, macs, true, 1, for (size_t r = 0; r < rows; r += f->row_block) {
        size_t part = rows - r < f->row_block ? rows - r : f->row_block;
        act.f = x + r * k;
        f->linear[DT_F32](w, n / 16, k, &act, part, y + r * n, n);
    });
    BENCH_OF(b, name[1], f->level, bytes, macs, macs, true, 1,
             f->linear_back[DT_F32](w, n, k, 0, k, y, n, rows, x, k, false));
    BENCH_OF(b, name[2], f->level, bytes, macs, macs, true, 1, f->linear_grad(x, k, k, y, n, n, rows, g, k));
    free(w), free(x), free(y), free(g);
}

/* The same in bf16. */
static void bench_layer16(struct bench *b, size_t n, size_t k, size_t rows)
{
    char name[2][64];
    const struct kernels *f = b->c.k;
    snprintf(name[0], sizeof *name, "teach16 y %zux%zu rows %zu", n, k, rows);
    snprintf(name[1], sizeof *name, "teach16 dw %zux%zu rows %zu", n, k, rows);
    if (!f->learn_linear || (b->only && !strstr(name[0], b->only) && !strstr(name[1], b->only))) return;
    float *w = numbers(b, n * k), *x = numbers(b, rows * k), *y = numbers(b, rows * n), *g = numbers(b, n * k);
    uint16_t *h = (uint16_t *)(void *)numbers(b, rows * k / 2), *panels = (uint16_t *)(void *)numbers(b, n * k / 2);
    struct row_group *group = calloc(rows / LEARN_ROWS, sizeof *group);
    for (size_t i = 0; i < rows / LEARN_ROWS; i++)
        group[i] = (struct row_group){ (uint32_t)(i * LEARN_ROWS), LEARN_ROWS };
    f->to_bf16(x, rows * k, h);
    f->to_bf16(w, n * k, panels);
    struct act act = { .ldh = k };
    double macs = (double)rows * (double)n * (double)k;
    double bytes = 2.0 * (double)(n * k + rows * k) + 4.0 * (double)(rows * n);
    BENCH_OF(b, name[0], f->level, bytes, macs, macs, true, 1, for (size_t r = 0; r < rows; r += f->row_block) {
        size_t part = rows - r < f->row_block ? rows - r : f->row_block;
        act.h = h + r * k;
        f->learn_linear(panels, n / 16, k, &act, part, y + r * n, n);
    });
    BENCH_OF(b, name[1], f->level, 2 * bytes, macs, macs, true, 1,
             f->learn_grad(x, k, k, y, n, n, group, rows / LEARN_ROWS, g, k));
    free(w), free(x), free(y), free(g), free(h), free(panels), free(group);
}

/* One key/value head of three heads; a text of n rows that see what is before them. */
static void bench_see(struct bench *b, size_t n, size_t dim)
{
    enum { HEADS = 3 };
    char name[64];
    const struct kernels *f = b->c.k;
    size_t all = n * dim * HEADS;
    float *q = numbers(b, all), *k = numbers(b, n * dim), *v = numbers(b, n * dim), *out = numbers(b, all);
    float *dout = numbers(b, all), *lse = numbers(b, n * HEADS), *dots = numbers(b, n * HEADS), *dq = numbers(b, all);
    float *dk = numbers(b, n * dim), *dv = numbers(b, n * dim), *scratch = numbers(b, see_scratch(HEADS, dim, n));
    int32_t *at = calloc(n + 1, sizeof *at), *ranges = calloc(2 * n, sizeof *ranges);
    for (size_t r = 0; r < n; r++) at[r + 1] = (int32_t)r + 1, ranges[2 * r + 1] = (int32_t)r + 1;
    struct see a = { .q = q, .ldq = dim * HEADS, .k = k, .v = v, .ldk = dim, .ldv = dim, .heads = HEADS,
                     .head_dim = dim, .n_rows = n, .range_at = at, .ranges = ranges, .scale = 0.1f };
    struct see_back back = { dout, dim * HEADS, lse, dots, HEADS };
    double pairs = (double)HEADS * (double)n * (double)(n + 1) / 2 * (double)dim, bytes = 4.0 * (double)(3 * all);
    snprintf(name, sizeof name, "teach see %zu rows head %zu", n, dim);
    BENCH_OF(b, name, f->level, bytes, 2 * pairs, 2 * pairs, true, 1,
             see_rows(f, &a, 0, n, scratch, out, dim * HEADS, lse, HEADS));
    snprintf(name, sizeof name, "teach see_dq %zu rows head %zu", n, dim);
    BENCH_OF(b, name, f->level, bytes, 3 * pairs, 3 * pairs, true, 1,
             see_rows_dq(f, &a, &back, 0, n, scratch, dq, dim * HEADS));
    snprintf(name, sizeof name, "teach see_dkv %zu rows head %zu", n, dim);
    BENCH_OF(b, name, f->level, bytes, 4 * pairs, 4 * pairs, true, 1,
             see_rows_dkv(f, &a, &back, 0, n, scratch, dk, dim, dv, dim));
    snprintf(name, sizeof name, "teach see_back %zu rows head %zu", n, dim);
    BENCH_OF(b, name, f->level, bytes, 5 * pairs, 5 * pairs, true, 1,
             see_rows_back(f, &a, &back, 0, n, scratch, dq, dim * HEADS, dk, dim, dv, dim));
    free(q), free(k), free(v), free(out), free(dout), free(lse), free(dots), free(dq), free(dk), free(dv);
    free(scratch), free(at), free(ranges);
}

static void bench_rows(struct bench *b)
{
    enum { N = 1536, VOCAB = 49152, MANY = 1 << 22 };
    const struct kernels *k = b->c.k;
    float *x = numbers(b, N), *y = numbers(b, N), *d = numbers(b, N), *u = numbers(b, N), *logits = numbers(b, VOCAB);
    struct loss_target t = { .weight = 1, .token = 7 };
#define ROW(name, bytes, ...) BENCH(b, name, k->level, (double)(bytes), N, N, 20, __VA_ARGS__)
    ROW("teach rmsnorm_back 1536", N * 16, k->rmsnorm_back(x, y, N, 1e-5f, d, u));
    ROW("teach layernorm_back 1536", N * 16, k->layernorm_back(x, y, N, 1e-5f, d, u));
    ROW("teach silu_back 1536", N * 12, k->silu_back(x, d, N, u));
    ROW("teach gelu_tanh_back 1536", N * 12, k->gelu_tanh_back(x, d, N, u));
    ROW("teach silu_mul_back 1536", N * 24, k->silu_mul_back(x, y, d, N, logits, u, logits + N));
    BENCH(b, "teach loss_row 49152", k->level, 16.0 * VOCAB, VOCAB, VOCAB, 1, k->loss_row(logits, VOCAB, 0, &t));
    BENCH(b, "teach loss_row 49152 capped", k->level, 16.0 * VOCAB, VOCAB, VOCAB, 1,
          k->loss_row(logits, VOCAB, 30, &t));
    free(x), free(y), free(d), free(u), free(logits);
    if (b->only && !strstr("teach adamw 4 M", b->only) && !strstr("teach square_sum 4 M", b->only)) return;
    float *w = numbers(b, MANY), *m = numbers(b, MANY), *v = numbers(b, MANY), *g = numbers(b, MANY);
    for (size_t i = 0; i < MANY; i++) v[i] *= v[i];
    struct adamw_step s = adamw_step(1e-3f, 0.9f, 0.95f, 1e-8f, 0, 1, 5);
    BENCH(b, "teach adamw 4 M", k->level, 28.0 * MANY, MANY, MANY, 1, k->adamw(w, m, v, g, MANY, &s));
    BENCH(b, "teach square_sum 4 M", k->level, 4.0 * MANY, MANY, MANY, 1, g[0] = (float)k->square_sum(w, MANY));
    free(w), free(m), free(v), free(g);
}

void bench_train(struct bench *b)
{
    static const size_t rows[] = { 128, 512, 2048 };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench_layer(b, 576, 576, rows[i]);
        bench_layer(b, 192, 576, rows[i]);
        bench_layer(b, 1536, 576, rows[i]);
        bench_layer(b, 576, 1536, rows[i]);
        bench_layer16(b, 576, 576, rows[i]);
        bench_layer16(b, 1536, 576, rows[i]);
        bench_layer16(b, 576, 1536, rows[i]);
    }
    bench_layer(b, 16, 576, 512);
    bench_layer(b, 48, 576, 512);
    bench_layer(b, 1536, 16, 512);
    bench_layer(b, 49152, 576, 64);
    bench_see(b, 256, 64);
    bench_see(b, 1024, 64);
    bench_see(b, 256, 256);
    bench_rows(b);
}
