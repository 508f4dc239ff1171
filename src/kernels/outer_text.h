/* The text of wide_outer.h for one element type; no guard: it is included once for each. */

enum { OUTER(STRIP) = 2 * OUTER_LANES };

/* `rows` rows of a whole strip. a: [t][OUTER_ROWS], b: [t][STRIP], copied together. */
WIDE_INLINE void OUTER(outer_rows)(size_t rows, size_t t, const OUTER_REAL *a, const OUTER_REAL *b, OUTER_REAL by,
                                   OUTER_REAL *c, size_t ldc)
{
    OUTER_VECTOR sum[OUTER_ROWS][2], factor = OUTER_CALL(set1)(by);
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = OUTER_CALL(set1)(0);
    for (size_t i = 0; i < t; i++, a += OUTER_ROWS, b += OUTER(STRIP)) {
        OUTER_VECTOR left = OUTER_CALL(load)(b), right = OUTER_CALL(load)(b + OUTER_LANES);
        WIDE_UNROLL
        for (size_t r = 0; r < rows; r++) {
            OUTER_VECTOR x = OUTER_CALL(set1)(a[r]);
            sum[r][0] = OUTER_CALL(fma)(x, left, sum[r][0]);
            sum[r][1] = OUTER_CALL(fma)(x, right, sum[r][1]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++, c += ldc) {
        OUTER_CALL(store)(c, OUTER_CALL(fma)(factor, sum[r][0], OUTER_CALL(load)(c)));
        OUTER_CALL(store)(c + OUTER_LANES, OUTER_CALL(fma)(factor, sum[r][1], OUTER_CALL(load)(c + OUTER_LANES)));
    }
}

/* Functions of their own: beside other work the compiler has too few registers and spills in the loop. */
__attribute__((noinline)) static void OUTER(outer_many)(size_t t, const OUTER_REAL *a, const OUTER_REAL *b,
                                                        OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    OUTER(outer_rows)(OUTER_ROWS, t, a, b, by, c, ldc);
}

__attribute__((noinline)) static void OUTER(outer_three)(size_t t, const OUTER_REAL *a, const OUTER_REAL *b,
                                                         OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    OUTER(outer_rows)(3, t, a, b, by, c, ldc);
}

__attribute__((noinline)) static void OUTER(outer_one)(size_t t, const OUTER_REAL *a, const OUTER_REAL *b,
                                                       OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    OUTER(outer_rows)(1, t, a, b, by, c, ldc);
}

/* Any number of rows of a strip. a: groups of OUTER_ROWS. */
static void OUTER(outer_strip)(size_t m, size_t t, const OUTER_REAL *a, const OUTER_REAL *b, OUTER_REAL by,
                               OUTER_REAL *c, size_t ldc)
{
    size_t i = 0;
    for (; i + OUTER_ROWS <= m; i += OUTER_ROWS) OUTER(outer_many)(t, a + i * t, b, by, c + i * ldc, ldc);
    a += i * t;
    for (; i + 3 <= m; i += 3, a += 3) OUTER(outer_three)(t, a, b, by, c + i * ldc, ldc);
    for (; i < m; i++, a++) OUTER(outer_one)(t, a, b, by, c + i * ldc, ldc);
}

/* `rows` neighbours of each of t rows, in groups of OUTER_ROWS: [group][t][OUTER_ROWS]. */
static void OUTER(outer_pack)(const OUTER_REAL *a, size_t lda, size_t rows, size_t t, OUTER_REAL *pack)
{
    for (size_t k = 0; k < t; k++)
        for (size_t i = 0; i < rows; i += OUTER_ROWS) {
            const OUTER_REAL *from = a + k * lda + i;
            OUTER_REAL *to = pack + i * t + k * OUTER_ROWS;
            if (rows - i >= OUTER_ROWS)
                memcpy(to, from, OUTER_ROWS * sizeof *to);
            else
                memcpy(to, from, (rows - i) * sizeof *to);
        }
}

/* `cols` columns of t rows of b, filled up with zeros. */
static void OUTER(outer_pack_strip)(const OUTER_REAL *b, size_t ldb, size_t cols, size_t t, OUTER_REAL *pack)
{
    for (size_t k = 0; k < t; k++, b += ldb, pack += OUTER(STRIP))
        if (cols == OUTER(STRIP)) {
            OUTER_CALL(store)(pack, OUTER_CALL(load)(b));
            OUTER_CALL(store)(pack + OUTER_LANES, OUTER_CALL(load)(b + OUTER_LANES));
        } else {
            for (size_t e = 0; e < OUTER(STRIP); e++) pack[e] = e < cols ? b[e] : 0;
        }
}

/* The last columns of c are brought to a strip of their own and back. */
static void OUTER(outer_edge)(size_t m, size_t cols, size_t t, const OUTER_REAL *a, const OUTER_REAL *b,
                              OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    OUTER_REAL edge[OUTER_ROWS * OUTER(STRIP)];
    for (size_t i = 0; i < m; i += OUTER_ROWS) {
        size_t rows = m - i < OUTER_ROWS ? m - i : OUTER_ROWS;
        for (size_t r = 0; r < rows; r++)
            for (size_t e = 0; e < OUTER(STRIP); e++)
                edge[r * OUTER(STRIP) + e] = e < cols ? c[(i + r) * ldc + e] : 0;
        OUTER(outer_strip)(rows, t, a + i * t, b, by, edge, OUTER(STRIP));
        for (size_t r = 0; r < rows; r++)
            for (size_t e = 0; e < cols; e++) c[(i + r) * ldc + e] = edge[r * OUTER(STRIP) + e];
    }
}

/* At most OUTER_RUN terms and OUTER_BLOCK bytes of a. */
static void OUTER(outer_block)(const OUTER_REAL *a, size_t lda, const OUTER_REAL *b, size_t ldb, size_t m, size_t n,
                               size_t t, OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    _Alignas(64) OUTER_REAL left[OUTER_BLOCK / sizeof(OUTER_REAL)], right[OUTER_RUN * OUTER(STRIP)];
    OUTER(outer_pack)(a, lda, m, t, left);
    for (size_t j = 0; j < n; j += OUTER(STRIP)) {
        size_t cols = n - j < OUTER(STRIP) ? n - j : OUTER(STRIP);
        OUTER(outer_pack_strip)(b + j, ldb, cols, t, right);
        if (cols == OUTER(STRIP))
            OUTER(outer_strip)(m, t, left, right, by, c + j, ldc);
        else
            OUTER(outer_edge)(m, cols, t, left, right, by, c + j, ldc);
    }
}

static void OUTER(wide_outer)(const OUTER_REAL *a, size_t lda, const OUTER_REAL *b, size_t ldb, size_t m, size_t n,
                              size_t t, OUTER_REAL by, OUTER_REAL *c, size_t ldc)
{
    const size_t most = OUTER_BLOCK / sizeof *a / OUTER_RUN / OUTER_ROWS * OUTER_ROWS;
    for (size_t k = 0; k < t; k += OUTER_RUN)
        for (size_t i = 0; i < m; i += most)
            OUTER(outer_block)(a + k * lda + i, lda, b + k * ldb, ldb, m - i < most ? m - i : most, n,
                               t - k < OUTER_RUN ? t - k : OUTER_RUN, by, c + i * ldc, ldc);
}

#undef OUTER
#undef OUTER_CALL
#undef OUTER_LANES
#undef OUTER_REAL
#undef OUTER_VECTOR
