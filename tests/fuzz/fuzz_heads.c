/* Any bytes as a file of heads for a model of width 4 and 6 tokens: refused with words, or every
 * head whole. */
#include "engine/companion_heads.c"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head_file h = { .width = 4, .vocab = 6 };
    struct error err = { 0 };
    struct file_map map = { data, size };
    stretto_status s = safetensors_read(&map, "heads", visit, &h, &err);
    if (s == STRETTO_OK) s = whole(&h, "heads", &err);
    if (s != STRETTO_OK && !err.text[0]) abort();
    if (s == STRETTO_OK) {
        float hidden[4] = { 1, -2, 3, -4 }, out[4];
        if (!h.n || h.n > MAX_HEADS) abort();
        for (uint32_t k = 0; k < h.n; k++) {
            if (h.n_outputs && (!h.head[k].output.data || h.head[k].output.n_out != 6)) abort();
            new_state(&h, &h.head[k], hidden, out);
        }
    }
    for (uint32_t k = 0; k < MAX_HEADS; k++) {
        mem_free(h.head[k].w);
        mem_free(h.head[k].bias);
    }
    return 0;
}
