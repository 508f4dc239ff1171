/* Stands in for cpu_detect of kernels.c, which is renamed: a machine that has every level. */
#include "kernels/kernels.h"
#include <stdio.h>
#include <stdlib.h>

uint32_t cpu_detect_host(void);

uint32_t cpu_detect(void)
{
    if (!(cpu_detect_host() & CPU_AVX2)) {
        printf("skip: the emulation of newer levels needs a CPU with AVX2\n");
        exit(77);
    }
    return CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512 | CPU_AVX512VNNI | CPU_AVX512VBMI | CPU_AVX512BF16 | CPU_AMX;
}
