/* Sums of outer products for AVX2: six rows of two vectors stay in registers. */
#include "kernels/x86/avx2.h"
#include <immintrin.h>

enum { VL = 8, OUTER_ROWS = 6 };
typedef __m256 vf;
typedef __m256d vd;

static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vd d_set1(double x) { return _mm256_set1_pd(x); }
static inline vd d_load(const double *p) { return _mm256_loadu_pd(p); }
static inline void d_store(double *p, vd x) { _mm256_storeu_pd(p, x); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }

/* after the operations they are written in */
#include "kernels/wide_outer.h"

void outer_init_avx2(struct kernels *k) { wide_outer_init(k); }
