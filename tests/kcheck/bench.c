/* kcheck --bench: what each kernel costs, beside the machine's own roofs. Weights of small batches
 * are read from a ring of copies larger than any cache, as decoding reads a model. */
#include "bench.h"
#include <time.h>

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_now(void) { return seconds_of(CLOCK_MONOTONIC); }
double bench_own(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_typical(struct pieces *p)
{
    qsort(p->t, p->n, sizeof *p->t, by_time);
    return p->n ? p->t[p->n / 10] : 0;
}

bool bench_more(const struct pieces *p)
{
    return p->n < MAX_PIECES && (p->n < 20 || bench_now() - p->start < 0.5);
}

void bench_print(struct bench *b, const char *name, const char *level, double seconds, double bytes, double macs,
                 double elements, bool of_peak)
{
    double share = of_peak ? macs / seconds / b->peak : bytes / seconds / b->roof;
    if (b->json)
        printf("%s\n  {\"kernel\": \"%s\", \"level\": \"%s\", \"ms\": %.6f, \"gb_s\": %.3f, "
               "\"gmac_s\": %.3f, "
               "\"ns_per_element\": %.5f, \"%s\": %.3f}",
               b->first ? "" : ",", name, level, seconds * 1e3, bytes / seconds / 1e9,
               macs / seconds / 1e9, seconds * 1e9 / elements, of_peak ? "peak_share" : "roof_share", share);
    else
        printf("%-44s %-10s %10.4f ms %8.2f GB/s %8.2f GMAC/s %9.4f ns/el %5.2f of %s\n", name,
               level, seconds * 1e3, bytes / seconds / 1e9, macs / seconds / 1e9,
               seconds * 1e9 / elements, share, of_peak ? "peak" : "roof");
    b->first = false;
}

/* What the level multiplies in float32 at all, per second. */
static double f32_peak(const struct kernels *k)
{
    struct pieces *times = calloc(1, sizeof *times);
    uint64_t macs = 1;
    for (times->start = bench_now(); k->peak[ARITHMETIC_F32] && bench_more(times);) {
        double t = bench_now();
        macs = k->peak[ARITHMETIC_F32](20000);
        times->t[times->n++] = bench_now() - t;
    }
    double best = bench_typical(times);
    free(times);
    return best > 0 ? (double)macs / best : 1;
}

/* Reading memory that no cache holds, bytes per second of one thread: sums of 64-byte lines,
 * prefetched. */
static double read_roof(void)
{
    enum { PIECE = 1 << 15, N_PIECES = 384 };
    uint64_t *p = malloc(sizeof *p * PIECE * N_PIECES);
    struct pieces *times = calloc(1, sizeof *times);
    uint64_t sink = 0;
    if (!p || !times) return 1;
    memset(p, 1, sizeof *p * PIECE * N_PIECES);
    for (times->start = bench_now(); bench_more(times);) {
        const uint64_t *at = p + times->n % N_PIECES * PIECE;
        uint64_t a[8] = { 0 };
        double t = bench_now();
        for (size_t i = 0; i < PIECE; i += 8) {
            __builtin_prefetch(at + i + 512);
            for (size_t j = 0; j < 8; j++) a[j] ^= at[i + j];
        }
        times->t[times->n++] = bench_now() - t;
        for (size_t j = 0; j < 8; j++) sink ^= a[j];
    }
    __asm__ volatile("" : : "r"(sink));                /* keeps the reads */
    double best = bench_typical(times);
    free(times);
    free(p);
    return sizeof *p * PIECE / best;
}

/* twelve: BF16 in 12 bits. */
static void bench_linear(struct bench *b, enum dtype t, bool twelve, size_t k, size_t n, size_t rows)
{
    char name[64];
    snprintf(name, sizeof name, "linear %s%s %zux%zu rows %zu", dtype_table[t].name, twelve ? "-12" : "", k, n,
             rows);
    if (b->only && !strstr(name, b->only)) return;
    linear_fn *fn = twelve ? b->c.k->brain12 : b->c.k->linear[t];
    size_t pb = twelve ? brain12_bytes(k) : panel_bytes(t, k), panels = (n + 15) / 16;
    size_t w_bytes = pb * panels, groups = k / 32;
    size_t copies = rows > 16 ? 1 : (size_t)(96e6 / (double)w_bytes) + 1;
    uint8_t *w = aligned_alloc(64, w_bytes * copies);
    uint8_t *file = malloc(16 * kc_file_bytes(t, k));
    void *plain = aligned_alloc(64, panel_bytes(t, k));
    float *f = malloc(rows * k * 4), *d = malloc(rows * (groups + 1) * 4),
          *s = malloc(rows * (groups + 1) * 4);
    int16_t *sum = malloc(rows * (groups + 1) * 4);
    int8_t *q = malloc(rows * k);
    float *y = malloc(rows * panels * 16 * 4);
    for (size_t p = 0; p < panels; p++) {
        if (p < 8) kc_weights(&b->c, t, KC_RANDOM, 16, k, file);
        /* without outliers: one in 10^4 escapes, as in models */
        for (size_t j = 0; twelve && p < 8 && j < 16 * k; j++)
            if ((file[2 * j + 1] & 0x7f) >= 0x3f) file[2 * j + 1] &= 0xbe;
        if (!twelve) panel_pack(t, file, kc_file_bytes(t, k), 16, k, w + p * pb);
        else panel_pack(t, file, kc_file_bytes(t, k), 16, k, plain), brain12_pack(plain, k, w + p * pb);
    }
    for (size_t i = 1; i < copies; i++) memcpy(w + i * w_bytes, w, w_bytes);
    for (size_t i = 0; i < rows * k; i++) f[i] = kc_normal(&b->c);
    for (size_t r = 0; r < rows; r++)
        b->c.ref->quantize(f + r * k, groups * 32, q + r * k, d + r * groups, s + r * groups,
                           sum + 2 * r * groups);
    struct act x = {.f = f, .ldf = k, .q = q, .ldq = k, .d = d, .s = s, .sum = sum, .ldd = groups};
    memset(y, 0, rows * panels * 64);
    /* pieces of about 50 us, in order through all copies */
    size_t piece = 2000000 / (rows * k * 16) + (rows > 16 ? 4 : 1), total = panels * copies / piece, i = 0;
    if (piece > panels) piece = panels;
    total = panels * copies / piece;
    struct pieces *times = calloc(1, sizeof *times);
    for (times->start = bench_now(); bench_more(times); i = (i + 1) % total) {
        double t0 = bench_now();
        fn(w + i * piece * pb, piece, k, &x, rows, y, panels * 16);
        times->t[times->n++] = bench_now() - t0;
    }
    double best = bench_typical(times) * (double)panels / (double)piece;
    free(times);
    bench_print(b, name, twelve ? b->c.k->brain12_level : b->c.k->linear_level[t], best, (double)w_bytes,
              (double)(rows * k * panels * 16), (double)(rows * k * panels * 16), false);
    free(w), free(plain), free(file), free(f), free(d), free(s), free(sum), free(q), free(y);
}

/* Pages of 64 positions: one that stays in the cache, or a ring of `ring` bytes; bytes are K and
 * V. */
static void bench_attn(struct bench *b, enum kv_type t, bool given, size_t dim, size_t n_q, size_t ring)
{
    static const char *const names[] = { "f32", "f16", "bf16", "q8", "q8_q4" };
    char name[64];
    snprintf(name, sizeof name, "attn_%s %s head %zu queries %zu%s", given ? "given" : "block", names[t], dim,
             n_q, ring ? " cold" : "");
    attn_block_fn *fn = given ? b->c.k->attn_given[t] : b->c.k->attn_block[t];
    if (!fn) return;
    if (b->only && !strstr(name, b->only)) return;
    size_t nk = kv_k_bytes(t, dim), nv = kv_v_bytes(t, dim), pages = ring / (nk + nv) + 1, at = 0;
    uint8_t *kv = aligned_alloc(64, (nk + nv) * pages);
    float *q = malloc(n_q * dim * 4), *acc = malloc(n_q * dim * 4), *m = malloc(n_q * 8);
    int32_t *lo = calloc(n_q, 4), *hi = calloc(n_q, 4);
    size_t groups = (dim + 31) / 32;
    int8_t *codes = calloc(n_q, groups * 32);
    float *d = calloc(2 * n_q, groups * 4);
    uint16_t *high = calloc(n_q * dim, 2), *low = calloc(n_q * dim, 2);
    for (size_t i = 0; i < n_q * dim; i++) q[i] = kc_normal(&b->c);
    for (size_t i = 0; i < n_q; i++)
        b->c.ref->quantize(q + i * dim, dim / 32 * 32, codes + i * groups * 32, d + i * groups,
                           d + n_q * groups, NULL);
    for (size_t j = 0; j < ATTN_BLOCK; j++) {
        b->c.ref->kv_store_k[t](q, dim, j, kv);
        b->c.ref->kv_store_v[t](q, dim, j, kv + nk);
    }
    for (size_t i = 1; i < pages; i++) memcpy(kv + i * (nk + nv), kv, nk + nv);
    for (size_t r = 0; r < n_q; r++) hi[r] = ATTN_BLOCK;
    if (given) b->c.k->split_bf16(q, n_q * dim, high, low);
    struct attn_query a = {
        .q = q, .ldq = dim, .codes = codes, .ldc = groups * 32, .d = d, .ldd = groups, .high = high, .low = low,
        .ldh = dim, .lo = lo,
        .hi = hi, .n_q = n_q, .head_dim = dim, .scale = 0.1f};
    double macs = (double)(2 * n_q * ATTN_BLOCK * dim);
    BENCH(b, name, b->c.k->attn_level[t], (double)(nk + nv), macs, macs, 100 / n_q + 1, {
        const uint8_t *page = kv + at % pages * (nk + nv);
        fn(&a, page, page + nk, m, m + n_q, acc);
        at++;
    });
    free(kv), free(q), free(acc), free(m), free(lo), free(hi), free(codes), free(d), free(high), free(low);
}

static void bench_vec(struct bench *b)
{
    enum { N = 1536 };
    static float x[N], w[N], y[N], d[N / 32], s[N / 32];
    static int8_t q[N];
    static int16_t sum[N / 16];
    const struct kernels *k = b->c.k;
    for (size_t i = 0; i < N; i++) x[i] = kc_normal(&b->c), w[i] = 1;
#define ROW(name, bytes, ...) BENCH(b, name, k->level, (double)(bytes), N, N, 20, __VA_ARGS__)
    ROW("quantize 1536", N * 5, k->quantize(x, N, q, d, s, sum));
    ROW("to_bf16 1536", N * 6, k->to_bf16(x, N, (uint16_t *)(void *)y));
    ROW("rmsnorm 1536", N * 12, k->rmsnorm(x, w, N, 1e-5f, y));
    ROW("layernorm 1536", N * 12, k->layernorm(x, w, w, N, 1e-5f, y));
    ROW("rope_pairs 24 x 64", N * 8, k->rope_pairs(y, 24, 64, 64, x));
    ROW("rope_halves 24 x 64", N * 8, k->rope_halves(y, 24, 64, 64, x));
    ROW("add 1536", N * 12, k->add(x, w, N, y));
    ROW("silu_mul 1536", N * 12, k->silu_mul(x, w, N, y));
    ROW("gelu_tanh_mul 1536", N * 12, k->gelu_tanh_mul(x, w, N, y));
    ROW("gelu_erf 1536", N * 8, k->gelu_erf(x, N, y));
    ROW("softcap 1536", N * 8, k->softcap(x, 30, N, y));
    ROW("argmax 1536", N * 4, d[0] = (float)k->argmax(x, N));
}

/* As calibration calls it: a square of the second moments of 1536 channels from 512 tokens. */
static void bench_outer(struct bench *b)
{
    enum { K = 1536, T = 512, TILE = 192 };
    const struct kernels *k = b->c.k;
    float *x = malloc(sizeof *x * K * T), *c = calloc(TILE * TILE, sizeof *c);
    double *xd = malloc(sizeof *xd * K * T), *cd = calloc(TILE * TILE, sizeof *cd);
    for (size_t i = 0; i < (size_t)K * T; i++) xd[i] = (double)(x[i] = kc_normal(&b->c));
    double macs = (double)TILE * TILE * T, bytes = (double)(2 * TILE * T) * 4;
    BENCH(b, "outer 192x192 of 1536, 512 terms", k->level, bytes, macs, macs, 1,
          k->outer(x, K, x + 768, K, TILE, TILE, T, 1, c, TILE));
    BENCH(b, "outer_d 192x192 of 1536, 512 terms", k->level, 2 * bytes, macs, macs, 1,
          k->outer_d(xd, K, xd + 768, K, TILE, TILE, T, 1, cd, TILE));
    free(x), free(c), free(xd), free(cd);
}

int kcheck_bench(const char *level, const char *only, bool json)
{
    static struct kernels ref, k;
    static const size_t rows[] = { 1, 2, 4, 8, 16, 32, 64, 512 };
    uint32_t bits = ~0u;
    if (level && !cpu_ceiling(level, &bits)) return 2;
    kernels_init(&ref, 0);
    kernels_init(&k, bits & cpu_detect());
    struct bench b = {
        .c = {.ref = &ref, .k = &k, .rng = 3}, .only = only, .json = json, .first = true};
    b.roof = read_roof();
    b.peak = f32_peak(&k);
    if (json)
        printf("{\"level\": \"%s\", \"read_roof_gb_s\": %.3f, \"f32_peak_gmac_s\": %.3f, \"rows\": [", k.level,
               b.roof / 1e9, b.peak / 1e9);
    else
        printf("level %s, reads beyond the cache: %.2f GB/s, float32 at most: %.2f GMAC/s\n", k.level,
               b.roof / 1e9, b.peak / 1e9);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench_linear(&b, DT_Q4_1, false, 576, 3072, rows[i]);
        bench_linear(&b, DT_Q4_1, false, 1536, 576, rows[i]);
        bench_linear(&b, DT_Q8_0, false, 576, rows[i] > 64 ? 12288 : 49152, rows[i]);
    }
    for (size_t t = 0; t < DT_COUNT; t++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            if (kc_block((enum dtype)t) && t != DT_Q4_1) bench_linear(&b, (enum dtype)t, false, 1024, 3072, rows[i]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) bench_linear(&b, DT_BF16, true, 1024, 3072, rows[i]);
    for (size_t t = 0; t < KV_COUNT; t++)
        for (size_t i = 0; i < 7; i++)
            bench_attn(&b, (enum kv_type)t, false, 64, (const size_t[]){ 1, 2, 3, 4, 6, 48, 192 }[i], 0);
    for (size_t t = 0; t < KV_COUNT; t++) {
        bench_attn(&b, (enum kv_type)t, false, 64, 1, 64 << 20);
        bench_attn(&b, (enum kv_type)t, false, 64, 3, 64 << 20);
        for (size_t dim = 64; dim <= 256; dim *= 2)
            for (size_t n_q = 16; n_q <= 192; n_q *= 12) bench_attn(&b, (enum kv_type)t, true, dim, n_q, 0);
    }
    bench_attn(&b, KV_F16, false, 128, 1, 0);
    bench_attn(&b, KV_F16, false, 128, 6, 0);
    bench_attn(&b, KV_F16, false, 256, 4, 0);
    bench_attn(&b, KV_F16, false, 128, 192, 0);
    bench_attn(&b, KV_F16, false, 256, 192, 0);
    bench_vec(&b);
    bench_outer(&b);
    bench_train(&b);
    if (json) printf("\n]}\n");
    return 0;
}
