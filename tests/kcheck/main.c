/* kcheck [--level NAME] [--mutants] [--bench [--only WORD] [--json]] */
#include "kcheck.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *volatile running = "start";

static void crashed(int sig)
{
    static const char text[] = "\nkcheck: memory outside its bounds was touched in: ";
    ssize_t n = write(2, text, sizeof text - 1);
    n = write(2, running, strlen(running));
    n = write(2, "\n", 1);
    (void)n;
    signal(sig, SIG_DFL);
    raise(sig);
}

uint32_t kc_u32(struct kcheck *c)              /* splitmix64 */
{
    uint64_t z = c->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

float kc_unit(struct kcheck *c) { return (float)(int32_t)kc_u32(c) * 0x1p-31f; }

float kc_normal(struct kcheck *c)
{
    float s = kc_unit(c) + kc_unit(c) + kc_unit(c);
    return kc_u32(c) % 97 ? s : 12 * s;
}

enum { HEAD = 64, CANARY = 0xa5 };

static size_t page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* [canaries][HEAD: the mapping's size][user bytes][guard page]; the header sits just below the
 * user's. */
void *kc_alloc(size_t bytes, size_t align)
{
    size_t p = page(), body = (bytes + HEAD + 2 * 64 + p - 1) / p * p;
    uint8_t *map = mmap(NULL, body + p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + body, p, PROT_NONE)) {
        fprintf(stderr, "kcheck: no memory\n");
        exit(1);
    }
    uintptr_t at = ((uintptr_t)(map + body) - bytes) / align * align;
    uint8_t *user = map + (at - (uintptr_t)map);
    memset(map, CANARY, (size_t)(user - map));
    memcpy(user - HEAD, &map, sizeof map);
    memcpy(user - HEAD + 8, &(size_t){ body + p }, 8);
    return user;
}

void kc_free(struct kcheck *c, void *p)
{
    uint8_t *user = p, *map;
    size_t size;
    memcpy(&map, user - HEAD, sizeof map);
    memcpy(&size, user - HEAD + 8, 8);
    for (const uint8_t *at = user - HEAD + 16; at < user; at++)
        if (*at != CANARY) {
            kc_fail(c, "bytes before the output were written");
            break;
        }
    munmap(map, size);
}

bool kc_cell(struct kcheck *c, const char *name, bool changed)
{
    if (!changed) return false;
    c->cell = running = name;
    c->cells++;
    return true;
}

void kc_fail(struct kcheck *c, const char *fmt, ...)
{
    if (!c->quiet && c->failed < 40) {
        va_list ap;
        va_start(ap, fmt);
        printf("FAIL %s %s: ", c->k->level, c->cell);
        vprintf(fmt, ap);
        printf("\n");
        va_end(ap);
    }
    c->failed++;
}

bool kc_same(float a, float b) { return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b)); }

void kc_equal(struct kcheck *c, const char *what, const float *want, const float *got, size_t n)
{
    c->checks += n;
    for (size_t i = 0; i < n; i++)
        if (!kc_same(want[i], got[i])) {
            kc_fail(c, "%s [%zu]: want %.9g, got %.9g (equality is the rule)", what, i,
                    (double)want[i], (double)got[i]);
            return;
        }
}

void kc_bytes(struct kcheck *c, const char *what, const void *want, const void *got, size_t n)
{
    const uint8_t *w = want, *g = got;
    c->checks += n;
    for (size_t i = 0; i < n; i++)
        if (w[i] != g[i]) {
            kc_fail(c, "%s: byte %zu: want %02x, got %02x", what, i, w[i], g[i]);
            return;
        }
}

void kc_near(struct kcheck *c, const char *what, size_t at, double want, double got, double bound)
{
    c->checks++;
    if (isnan(want) && isnan(got)) return;
    if (want == got) return;
    if (!(fabs(want - got) <= bound) || isinf(want))
        kc_fail(c, "%s [%zu]: want %.9g, got %.9g, bound %.3g", what, at, want, got, bound);
}

void kcheck_all(struct kcheck *c)
{
    kcheck_linear(c);
    kcheck_given(c);
    kcheck_vec(c);
    kcheck_attn(c);
    kcheck_outer(c);
    kcheck_train(c);
    kcheck_see(c);
}

static int check_levels(const char *only)
{
    static struct kernels ref, table[2];
    struct kcheck c = { .ref = &ref, .k = &ref, .rng = 1, .cell = "panel" };
    uint32_t have = cpu_detect();
    kernels_init(&ref, 0);
    table[1] = ref;
    kcheck_panel(&c);
    printf("%-12s %zu failed\n", "panel", c.failed);
    /* the reference itself, as a level of its own, against float64 and against the other dtype
     * reader */
    size_t which = 0, failed = c.failed;
    for (const char *const *name = kernels_levels(); *name; name++) {
        uint32_t bits;
        cpu_ceiling(*name, &bits);
        struct kernels *k = &table[which];
        kernels_init(k, bits & have);
        if (strcmp(k->level, *name) != 0) {
            printf("%-12s not on this machine\n", *name);
            continue;
        }
        struct kcheck col = { .ref = &ref, .prev = &table[1 - which], .k = k, .rng = 7 };
        if (!only || strcmp(only, *name) == 0) {
            kcheck_all(&col);
            printf("%-12s %zu cells, %zu checks, %zu failed\n", *name, col.cells, col.checks,
                   col.failed);
            fflush(stdout);
        }
        failed += col.failed;
        which = 1 - which;
    }
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    const char *level = NULL, *only = NULL;
    bool bench = false, json = false, mutants = false;
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--bench") == 0) bench = true;
        else if (strcmp(argv[i], "--json") == 0) json = true;
        else if (strcmp(argv[i], "--mutants") == 0) mutants = true;
        else if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) level = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
        else {
            fprintf(stderr,
                    "usage: kcheck [--level NAME] [--mutants] [--bench [--only WORD] [--json]]\n");
            return 2;
        }
    if (bench) return kcheck_bench(level, only, json);
    if (mutants) return kcheck_mutants();
    return check_levels(level);
}
