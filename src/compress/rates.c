#include "compress/rates.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "compress/piece.h"
#include "tensor/encode.h"
#include <math.h>
#include <string.h>

/* Inputs fit every type's blocks; PASSES steps, of which the fastest counts. */
enum { INPUTS = 1024, PASSES = 7, BYTES = 48 << 20 };

struct matrix { enum dtype type; uint32_t rows; unsigned char *data; };

static stretto_status find_matrix(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                                  struct error *err)
{
    const struct matrix *m = ud;
    (void)name;
    if (n_in != INPUTS || n_out != m->rows) return fail(err, STRETTO_E_ARG, "another layer than that which is timed");
    *out = (struct param_bytes){ .type = m->type, .n_in = n_in, .n_out = n_out, .data = m->data, .memory = true,
                                 .row_bytes = dtype_bytes(m->type, n_in) };
    return STRETTO_OK;
}

/* One row of noise, many times. */
static bool fill(struct matrix *m)
{
    float v[INPUTS];
    size_t bytes = dtype_bytes(m->type, INPUTS);
    m->data = mem_alloc(m->rows * bytes);
    for (uint64_t i = 0; i < INPUTS; i++) v[i] = (float)random_unit(random_at(1, 0, i, 0)) - 0.5f;
    if (!m->data) return false;
    if (dtype_table[m->type].encode) dtype_table[m->type].encode(v, m->data, INPUTS);
    else encode_search(m->type, v, NULL, m->data, INPUTS);
    for (uint32_t r = 1; r < m->rows; r++) memcpy(m->data + r * bytes, m->data, bytes);
    return true;
}

static stretto_status time_matrix(struct device *d, struct matrix *m, unsigned threads, double *seconds,
                                  struct error *err)
{
    struct piece *p = NULL;
    struct binding b = { m, find_matrix };
    float x[INPUTS], *y = mem_alloc(m->rows * sizeof *y);
    for (int i = 0; i < INPUTS; i++) x[i] = 1;
    stretto_status s = y ? piece_open_linear(&p, d, INPUTS, m->rows, &b, threads, err)
                         : fail(err, STRETTO_E_NOMEM, "out of memory");
    *seconds = INFINITY;
    for (int i = 0; i < PASSES && s == STRETTO_OK; i++) {
        double begun = clock_seconds();
        s = piece_run(p, NULL, x, 1, 0, y, err);
        *seconds = fmin(*seconds, (clock_seconds() - begun) / (INPUTS * (double)m->rows));
    }
    piece_close(p);
    mem_free(y);
    return s;
}

stretto_status rates_measure(const bool wanted[DT_COUNT], unsigned threads, double seconds[DT_COUNT],
                             struct error *err)
{
    struct device *d = NULL;
    struct device_options on = { .level = NULL };
    TRY(backend_open("cpu", &on, &d, err));
    stretto_status s = STRETTO_OK;
    for (int t = 0; t < DT_COUNT && s == STRETTO_OK; t++) {
        seconds[t] = 0;
        if (!wanted[t] || !dtype_table[t].block) continue;
        struct matrix m = { .type = (enum dtype)t, .rows = (uint32_t)(BYTES / dtype_bytes((enum dtype)t, INPUTS)) };
        s = fill(&m) ? time_matrix(d, &m, threads, &seconds[t], err) : fail(err, STRETTO_E_NOMEM, "out of memory");
        mem_free(m.data);
    }
    device_close(d);
    return s;
}
