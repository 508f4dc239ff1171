/* Which kernels this machine runs. Levels are walked worst first; each overwrites only what it does
 * better, so a new instruction set is one file and one row. Sources of the pattern: BLIS contexts,
 * dav1d's dsp init. */
#include "kernels/kernels.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* `own` is the level's own bit; `need` all it uses. KERNELS_HAVE_* comes from the build: a level
 * has a row when it has files. */
static const struct level {
    const char *name;
    uint32_t own, need;
    void (*init)(struct kernels *k);
} levels[] = {
    {"ref", 0, 0, kernels_init_ref},
#ifdef KERNELS_HAVE_AVX2
    {"avx2", CPU_AVX2, CPU_AVX2, kernels_init_avx2},
#endif
#ifdef KERNELS_HAVE_AVXVNNI
    {"avxvnni", CPU_AVXVNNI, CPU_AVX2 | CPU_AVXVNNI, kernels_init_avxvnni},
#endif
#ifdef KERNELS_HAVE_AVX512
    {"avx512", CPU_AVX512, CPU_AVX2 | CPU_AVX512, kernels_init_avx512},
#endif
#ifdef KERNELS_HAVE_AVX512VNNI
    {"avx512vnni", CPU_AVX512VNNI, CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI, kernels_init_avx512vnni},
#endif
#ifdef KERNELS_HAVE_AVX512VBMI
    {"avx512vbmi", CPU_AVX512VBMI, CPU_AVX2 | CPU_AVX512 | CPU_AVX512VBMI, kernels_init_avx512vbmi},
#endif
#ifdef KERNELS_HAVE_AVX512BF16
    {"avx512bf16", CPU_AVX512BF16, CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI | CPU_AVX512BF16,
     kernels_init_avx512bf16},
#endif
#ifdef KERNELS_HAVE_AMX
    {"amx", CPU_AMX, CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI | CPU_AVX512BF16 | CPU_AMX,
     kernels_init_amx},
#endif
#ifdef KERNELS_HAVE_NEON
    {"neon", CPU_NEON, CPU_NEON, kernels_init_neon},
#endif
#ifdef KERNELS_HAVE_DOTPROD
    {"dotprod", CPU_DOTPROD, CPU_NEON | CPU_DOTPROD, kernels_init_dotprod},
#endif
#ifdef KERNELS_HAVE_I8MM
    {"i8mm", CPU_I8MM, CPU_NEON | CPU_DOTPROD | CPU_I8MM, kernels_init_i8mm},
#endif
};
enum { N_LEVELS = sizeof levels / sizeof *levels };

void kernels_init(struct kernels *k, uint32_t cpu)
{
    *k = (struct kernels){ 0 };
    for (size_t i = 0; i < N_LEVELS; i++)
        if ((cpu & levels[i].need) == levels[i].need) {
            levels[i].init(k);
            k->level = levels[i].name;
        }
}

const char *const *kernels_levels(void)
{
    static const char *names[N_LEVELS + 1];
    for (size_t i = 0; i < N_LEVELS; i++) names[i] = levels[i].name;
    return names;
}

bool cpu_ceiling(const char *name, uint32_t *bits)
{
    *bits = 0;
    for (size_t i = 0; i < N_LEVELS; i++) {
        *bits |= levels[i].own;
        if (strcmp(levels[i].name, name) == 0) return true;
    }
    *bits = 0;
    return false;
}

#if defined(__x86_64__)
/* The kernel grants the tile state per process and on demand: arch_prctl(ARCH_REQ_XCOMP_PERM,
 * XTILEDATA). A machine whose CPU has AMX may still refuse. */
static bool amx_permitted(void)
{
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

uint32_t cpu_detect(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    unsigned c1 = c;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    uint64_t state = xcr0(), ymm = 0x6, zmm = 0xe6, tile = 0x60000;
    uint32_t cpu = 0;
    if ((state & ymm) == ymm && (b7 & bit_AVX2) && (c1 & bit_FMA) && (c1 & bit_F16C)
        && (b7 & bit_BMI2)) {
        cpu |= CPU_AVX2;
        if (a71 & 1u << 4) cpu |= CPU_AVXVNNI;
    }
    const unsigned f = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((cpu & CPU_AVX2) && (state & zmm) == zmm && (b7 & f) == f) {
        cpu |= CPU_AVX512;
        if (c7 & bit_AVX512VNNI) cpu |= CPU_AVX512VNNI;
        if (c7 & bit_AVX512VBMI) cpu |= CPU_AVX512VBMI;
        if (a71 & 1u << 5) cpu |= CPU_AVX512BF16;
        const unsigned amx = 1u << 24 | 1u << 25 | 1u << 22;
        if ((d7 & amx) == amx && (cpu & CPU_AVX512BF16) && (state & tile) == tile && amx_permitted()) cpu |= CPU_AMX;
    }
    return cpu;
}
#elif defined(__aarch64__)
uint32_t cpu_detect(void)
{
    unsigned long h = getauxval(AT_HWCAP), h2 = getauxval(AT_HWCAP2);
    uint32_t cpu = CPU_NEON;
    if ((h & HWCAP_ASIMDDP) && (h & HWCAP_ASIMDHP)) cpu |= CPU_DOTPROD;
    if ((h2 & HWCAP2_I8MM) && (h2 & HWCAP2_BF16)) cpu |= CPU_I8MM;
    return cpu;
}
#else
uint32_t cpu_detect(void) { return 0; }
#endif
