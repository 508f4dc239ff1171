/* Launches what answers for the head: kernels/head.cl. */
#include "backend/gpu/gpu.h"
#include "base/memory.h"
#include "tensor/half.h"
#include <stdio.h>

enum { HEAD_BLOCK = 2048, HEAD_LANES_MOST = 256 };

struct gpu_head {
    const struct gpu_driver *driver;
    struct gpu_code *code;
    struct gpu_kernel *scan, *join;
    uint32_t lanes;
};

static uint32_t blocks_of(uint32_t vocab) { return (vocab + HEAD_BLOCK - 1) / HEAD_BLOCK; }

uint64_t gpu_head_scratch(uint32_t vocab)
{
    return (uint64_t)GPU_HEAD_ROWS * blocks_of(vocab) * STEP_TOP * sizeof(uint64_t);
}

stretto_status gpu_head_open(struct gpu_device *d, struct gpu_head **out, struct error *err)
{
    static const char *const files[] = { "head.cl", NULL };
    char options[128];
    *out = NULL;
    struct gpu_head *h = mem_alloc(sizeof *h);
    if (!h) return fail(err, STRETTO_E_NOMEM, "out of memory for the kernels of the head");
    *h = (struct gpu_head){ .driver = d->driver };
    h->lanes = d->row_lanes < HEAD_LANES_MOST ? d->row_lanes : HEAD_LANES_MOST;
    snprintf(options, sizeof options, "-DHEAD_LANES=%u -DHEAD_BLOCK=%d -DSTEP_TOP=%d -DANSWER_WORDS=%d",
             h->lanes, HEAD_BLOCK, STEP_TOP, GPU_ANSWER_WORDS);
    stretto_status s = gpu_build(d, files, options, &h->code, err);
    if (s == STRETTO_OK) s = d->driver->kernel(h->code, "head_scan", &h->scan, err);
    if (s == STRETTO_OK) s = d->driver->kernel(h->code, "head_join", &h->join, err);
    if (s == STRETTO_OK) *out = h;
    else gpu_head_close(h);
    return s;
}

void gpu_head_close(struct gpu_head *h)
{
    if (!h) return;
    h->driver->code_close(h->code);
    mem_free(h);
}

static struct gpu_arg word(uint32_t w) { return (struct gpu_arg){ NULL, (int32_t)w }; }

stretto_status gpu_head_run(struct gpu_device *d, struct gpu_head *h, const struct gpu_places *m,
                            const struct gpu_head_job *j, struct error *err)
{
    const uint32_t blocks = blocks_of(j->vocab), rounds = j->top ? STEP_TOP : 1;
    const uint32_t scan_groups[3] = { blocks, j->rows, 1 }, join_groups[3] = { j->rows, 1, 1 };
    const struct gpu_arg scan[] = {
        { m->activations, 0 }, { m->vectors, 0 }, { m->step, 0 }, { j->scratch, 0 },
        word(j->logits), word(j->ld), word(j->vocab), word(blocks), word(j->first_row),
        { NULL, j->bias }, word(bits_of(j->softcap)), word(rounds),
    };
    const struct gpu_arg join[] = {
        { m->activations, 0 }, { m->step, 0 }, { j->scratch, 0 }, { j->answers, 0 },
        word(j->logits), word(j->ld), word(blocks), word(j->first_row), word(rounds),
    };
    if (!j->rows || !j->vocab) return STRETTO_OK;
    TRY(d->driver->launch(d->card, h->scan, scan_groups, h->lanes, scan, sizeof scan / sizeof *scan, err));
    return d->driver->launch(d->card, h->join, join_groups, h->lanes, join, sizeof join / sizeof *join,
                             err);
}
