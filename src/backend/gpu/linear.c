/* Launches of kernels/linear.cl and its twins. What a type's panels look like goes to the kernels' compiler as
 * numbers, so a row more in tensor/dtype_rows.h is a type more here. The number of rows picks the kernel, never a
 * row's bits; the role of prompt rows may. */
#include "backend/gpu/gpu.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "kernels/panel_shape.h"
#include <assert.h>

enum { LANES = 256, VARIANTS = 5, LOCAL_MOST = 48 << 10 };
#define ANY UINT32_MAX

/* A kernel: the work-group's rows and panels, and the rows of a launch up to which it is the best. Whose warps
 * multiply matrices, a card with such instructions has instead. */
struct variant { const char *name; uint32_t rows, panels, most; };
static const struct variant plain[VARIANTS] = {
    { "linear_1", 1, 1, 1 }, { "linear_4", 4, 1, 4 }, { "linear_8", 8, 1, 16 }, { "linear_many", 64, 4, ANY }
}, matrices[VARIANTS] = {
    { "linear_1", 1, 1, 1 }, { "linear_mma_8", 8, 1, 8 }, { "linear_mma_16", 16, 1, 16 },
    { "linear_mma_64", 64, 2, 64 }, { "linear_mma_128", 128, 4, ANY }
};
static const struct variant given_rows = { "linear_given", 128, 8, ANY };

struct gpu_linear {
    enum dtype type;
    const struct gpu_driver *driver;
    struct gpu_code *code;
    const struct variant *variant;
    struct gpu_kernel *kernel[VARIANTS];  /* NULL: there is none, or local memory is too small for it */
    struct gpu_kernel *given;             /* NULL: prompt rows have no arithmetic of their own        */
};

/* Four of a table's values as a word. */
static uint32_t value_word(const int8_t *values, size_t i)
{
    uint32_t w = 0;
    for (size_t n = 0; n < 4; n++) w |= (uint32_t)(uint8_t)values[4 * i + n] << 8 * n;
    return w;
}

/* Bytes of local memory that work-groups of `rows` rows of codes take: as SEGMENT of linear.cl. */
static uint32_t local_bytes(const struct panel_shape *s, uint32_t rows)
{
    uint32_t dots = 16 * (rows * (rows < 8 ? 16 : 20) + 16), scales = 16 * 20, row = 16 * rows;
    uint32_t floats = s->min == PANEL_SUBMIN ? 2 * (dots + scales) + row
                    : s->min == PANEL_MIN    ? dots + 2 * (scales + row)
                                             : dots + scales + row;
    return 2 * floats * (uint32_t)sizeof(float);
}

static stretto_status options_floats(struct buffer *b, enum dtype t)
{
    return buffer_printf(b, "-DW_FLOAT=%d -DW_MOST=16", t == DT_F32 ? 32 : t == DT_F16 ? 16 : 17);
}

static stretto_status options_codes(struct buffer *b, const struct panel_shape *s, uint32_t most)
{
    TRY(buffer_printf(b, "-DW_WHOLE=%d -DW_NIB=%d -DW_TWO=%d -DW_ONE=%d -DW_BITS=%d -DW_ZERO=%d", s->whole, s->nib,
                      s->two, s->one, s->bits, s->zero));
    TRY(buffer_printf(b, " -DW_GROUPS=%zu -DW_UNIT=%zu -DW_CODES=%zu -DW_STEP=%zu", s->groups, s->bytes / 4,
                      s->codes / 4, s->step / 4));
    TRY(buffer_printf(b, " -DW_D=%zu -DW_D_STEP=%zu -DW_D_GROUPS=%zu -DW_EXPONENT=%d", s->d / 4, s->d_step / 4,
                      s->d_groups, s->exponent));
    TRY(buffer_printf(b, " -DW_M=%zu -DW_MIN=%d -DW_PLUS=%d", s->m / 4, s->min, s->plus));
    TRY(buffer_printf(b, " -DW_SUB=%d -DW_SUB_STEP=%zu -DW_SUB_NIBBLES=%d -DW_VALUES=%d -DW_MOST=%u", s->sub,
                      s->sub_step / 4, s->sub_nibbles, s->values != NULL, (unsigned)most));
    for (size_t i = 0; i < 4 && s->values; i++)
        TRY(buffer_printf(b, " -DW_V%zu=0x%08xu", i, (unsigned)value_word(s->values, i)));
    return STRETTO_OK;
}

/* What the kernels take for granted of a type's codes. */
static bool codes_fit(const struct panel_shape *s)
{
    if (s->values) return s->nib && !s->two && !s->one && !s->zero;
    return !s->zero || !s->whole;
}

/* Compute capability 8.0 brought the instructions of kernels/mma.cl. */
static bool has_matrices(const struct gpu_device *d) { return d->about.arch >= 80; }

static stretto_status kernels_build(struct gpu_device *d, struct gpu_linear *l, const char *options, uint32_t most,
                                    struct error *err)
{
    static const char *const files[] = { "linear.cl", NULL };
    static const char *const more[] = { "linear.cl", "mma.cl", "linear_mma.cl", "linear_given.cl", NULL };
    bool given = has_matrices(d) && (l->type == DT_BF16 || dtype_table[l->type].planes);
    TRY(gpu_build(d, given ? more : files, options, &l->code, err));
    for (size_t i = 0; i < VARIANTS; i++) {
        const struct variant *v = &l->variant[i];
        if (!v->name || (v->panels == 1 && v->most > most && l->variant == plain)) continue;
        TRY(d->driver->kernel(l->code, v->name, &l->kernel[i], err));
    }
    return given ? d->driver->kernel(l->code, given_rows.name, &l->given, err) : STRETTO_OK;
}

stretto_status gpu_linear_open(struct gpu_device *d, enum dtype t, struct gpu_linear **out, struct error *err)
{
    const struct panel_shape s = panel_shape(t);
    const uint32_t local = d->about.local < LOCAL_MOST ? d->about.local : LOCAL_MOST;
    const uint32_t most = s.groups && local_bytes(&s, 8) > local ? 4 : 16;
    *out = NULL;
    if (!dtype_table[t].block || (s.groups && !codes_fit(&s)))
        return fail(err, STRETTO_E_UNSUP, "the gpu's linear layers have no weights of type %s",
                    dtype_table[t].name ? dtype_table[t].name : "unknown");
    struct gpu_linear *l = mem_alloc(sizeof *l);
    struct buffer b = buffer_make(4096);
    stretto_status status = !l ? STRETTO_E_NOMEM : s.groups ? options_codes(&b, &s, most) : options_floats(&b, t);
    if (status != STRETTO_OK) {
        mem_free(l);
        buffer_done(&b);
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    *l = (struct gpu_linear){ .type = t, .driver = d->driver };
    l->variant = s.groups && has_matrices(d) ? matrices : plain;
    status = kernels_build(d, l, b.data, most, err);
    buffer_done(&b);
    if (status == STRETTO_OK) *out = l;
    else gpu_linear_close(l);
    return status;
}

void gpu_linear_close(struct gpu_linear *l)
{
    if (!l) return;
    if (l->code) l->driver->code_close(l->code);
    mem_free(l);
}

/* ---- launches -------------------------------------------------------------------------------- */

enum { MOST_ARGS = 32 };
struct args { struct gpu_arg at[MOST_ARGS]; size_t n; };

static void arg_word(struct args *a, uint32_t word) { a->at[a->n++] = (struct gpu_arg){ .word = (int32_t)word }; }
static void arg_memory(struct args *a, struct gpu_memory *m) { a->at[a->n++] = (struct gpu_arg){ .memory = m }; }

/* PARTS of linear.cl: a part that is not there is the last again, without panels. */
static uint32_t args_parts(struct args *a, const struct gpu_linear_job *job)
{
    const struct gpu_part *part[GPU_PARTS];
    uint32_t end = 0;
    for (uint32_t i = 0; i < GPU_PARTS; i++) part[i] = &job->part[i < job->n_parts ? i : job->n_parts - 1];
    for (uint32_t i = 0; i < GPU_PARTS; i++) arg_memory(a, part[i]->panels);
    for (uint32_t i = 0; i < GPU_PARTS; i++) arg_word(a, end += i < job->n_parts ? part[i]->n_panels : 0);
    for (uint32_t i = 0; i < GPU_PARTS; i++) arg_word(a, part[i]->out);
    for (uint32_t i = 0; i < GPU_PARTS; i++) arg_word(a, part[i]->out_ld);
    return end;
}

static void args_job(struct args *a, const struct gpu_linear *l, const struct gpu_places *m,
                     const struct gpu_linear_job *job, uint32_t tiles)
{
    bool codes = dtype_table[l->type].block > 1, given = job->roles == GPU_GIVEN;
    arg_memory(a, m->activations);
    arg_memory(a, m->step);
    arg_word(a, (uint32_t)(panel_bytes(l->type, job->n_in) / 4));
    arg_word(a, job->n_in);
    arg_word(a, given ? job->h : codes ? job->q : job->in);
    arg_word(a, given ? job->h_ld : codes ? job->q_ld : job->in_ld);
    arg_word(a, job->d);
    arg_word(a, job->s);
    arg_word(a, job->d_ld);
    arg_word(a, job->count_word);
    arg_word(a, job->first_row);
    arg_word(a, job->first_row + job->most_rows);
    arg_word(a, tiles);
    arg_word(a, job->roles);
}

static const struct variant *variant_of(const struct gpu_linear *l, const struct gpu_linear_job *job)
{
    size_t i = 0;
    if (job->roles == GPU_GIVEN) return &given_rows;
    while (!l->kernel[i] || l->variant[i].most < job->most_rows) i++;
    return &l->variant[i];
}

stretto_status gpu_linear_run(struct gpu_device *d, struct gpu_linear *l, const struct gpu_places *m,
                              const struct gpu_linear_job *job, struct error *err)
{
    const struct variant *v = variant_of(l, job);
    struct gpu_kernel *kernel = v == &given_rows ? l->given : l->kernel[v - l->variant];
    struct args a = { .n = 0 };
    assert(job->n_parts && job->n_parts <= GPU_PARTS);
    assert(job->q % 4 == 0 && job->q_ld % 4 == 0 && job->h % 4 == 0 && job->h_ld % 4 == 0);
    uint32_t tiles = (job->most_rows + v->rows - 1) / v->rows, panels = args_parts(&a, job);
    args_job(&a, l, m, job, tiles);
    const uint32_t groups[3] = { tiles * ((panels + v->panels - 1) / v->panels), 1, 1 };
    if (!groups[0]) return STRETTO_OK;
    return d->driver->launch(d->card, kernel, groups, LANES, a.at, a.n, err);
}

bool gpu_linear_given(const struct gpu_linear *l) { return l->given; }
