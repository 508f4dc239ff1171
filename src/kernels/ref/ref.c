#include "kernels/ref/ref.h"

void kernels_init_ref(struct kernels *k)
{
    linear_init_ref(k);
    vec_init_ref(k);
    attn_init_ref(k);
    outer_init_ref(k);
    train_init_ref(k);
    peak_init_ref(k);
    k->row_block = 128;
}
