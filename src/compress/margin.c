#include "compress/margin.h"
#include <math.h>
#include <stdbool.h>

/* The 95th percentile of Student's distribution: Fisher's and Cornish's expansion (Abramowitz and Stegun 26.7.5). */
static double student(double freedom)
{
    const double z = 1.6448536269514722, z2 = z * z;
    double g1 = z * (z2 + 1) / 4, g2 = z * ((5 * z2 + 16) * z2 + 3) / 96,
           g3 = z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
    return z + (g1 + (g2 + g3 / freedom) / freedom) / freedom;
}

struct margin margin_of(const struct margin_text *t, size_t n, const struct eval_kl *all)
{
    double later = 0, kl = 0, variance = 0, fourth = 0;
    for (size_t i = 0; i < n; i++) later += (double)t[i].later;
    for (size_t i = 0; i < n; i++) {
        const struct eval_kl *k = &t[i].kl;
        bool alone = k->windows < 2;
        double share = (double)t[i].later / later, more = (double)k->tokens / (double)t[i].later;
        double error = alone ? all->kl.error * sqrt((double)all->windows) : k->kl.error;
        double freedom = (double)(alone ? all->windows : k->windows) - 1;
        double part = share * share * error * error * (1 + more);
        kl += share * k->kl.value;
        variance += part;
        fourth += part * part / fmax(freedom, 1);
    }
    double by = variance > 0 ? student(variance * variance / fourth) * sqrt(variance) : 0;
    return (struct margin){ kl, kl > 0 ? kl * expm1(by / kl) : by };
}
