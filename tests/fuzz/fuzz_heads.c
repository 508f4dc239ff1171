/* Any bytes as a file of heads for a model of width 4 and 6 tokens: refused with words, or every head whole, and what
 * it points at within the bytes. */
#include "base/memory.h"
#include "engine/head_file.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static float sum;

static void read_all(const struct param_bytes *p)
{
    float row[FEED_MOST];
    for (uint32_t o = 0; o < p->n_out; o++) {
        dtype_table[p->type].decode((const char *)p->data + o * p->row_bytes, row, p->n_in);
        sum += row[p->n_in - 1];
    }
}

static void check(const struct head_file *f)
{
    if (f->n > MAX_HEADS || (f->n > 0) == (f->feed > 0)) abort();
    for (uint32_t k = 0; k < f->n; k++) {
        if (!f->head[k].w || (f->n_outputs && f->head[k].output.n_out != 6)) abort();
        if (f->n_outputs) read_all(&f->head[k].output);
        sum += f->head[k].w[15] + (f->head[k].bias ? f->head[k].bias[3] : 0);
    }
    for (int k = 0; k < PARTS && f->feed; k++) read_all(&f->part[k]);
    for (uint32_t i = 0; i < f->n_tokens; i++)
        if ((uint32_t)f->token[i] >= 6) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head_file f = { .width = 4, .vocab = 6 };
    struct error err = { 0 };
    const struct file_map map = { data, size };
    stretto_status s = head_file_read(&f, &map, "heads", &err);
    if (s != STRETTO_OK && !err.text[0]) abort();
    if (s == STRETTO_OK) check(&f);
    head_file_done(&f);
    return 0;
}
