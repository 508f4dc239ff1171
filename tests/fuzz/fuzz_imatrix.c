/* Any bytes as a file of statistics: an error, or numbers that can be sums of squares. */
#include "compress/imatrix.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static double ask(const struct imatrix *x, size_t i)
{
    const struct input_stats *s = imatrix_stats(x, i);
    double sum = 0;
    if (!imatrix_find(x, imatrix_name(x, i))) abort();
    for (uint32_t k = 0; k < s->n; k++) {
        if (!(s->sum2[k] >= 0)) abort();
        sum += s->sum2[k] + (s->sum ? s->sum[k] : 0) + (s->most ? (double)s->most[k] : 0);
        for (uint32_t j = 0; s->gram && j < s->n; j++) sum += (double)s->gram[(size_t)k * s->n + j];
    }
    if (!isfinite(sum) && sum != INFINITY && sum != -INFINITY) abort();
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
    struct imatrix *x;
    struct error err = { 0 };
    stretto_status st = imatrix_open(&x, path, &err);
    if ((st == STRETTO_OK) != (x != NULL) || (st != STRETTO_OK) != (err.text[0] != '\0')) abort();
    struct imatrix_about about = { 0 };
    if (x) about = imatrix_about(x);
    for (size_t i = 0; i < about.n_datasets; i++)
        if (!about.datasets[i]) abort();
    volatile double sum = 0;
    for (size_t i = 0; x && i < imatrix_count(x); i++) sum += ask(x, i);
    (void)sum;
    imatrix_close(x);
    return 0;
}
