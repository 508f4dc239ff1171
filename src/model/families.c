/* One row per family. A choice names what the builder does; nothing else in the program knows a
 * family by name. Numbers are what llama.cpp takes where a GGUF file is silent; folders always say
 * theirs, with the defaults of format/hf_families.c. */
#include "model/family.h"
#include <string.h>

static const struct family families[] = {
    { .name = "llama",  .norm = NORM_RMS, .norm_at = NORM_BEFORE, .position = POSITION_PAIRS,
      .feed = FEED_SILU_GATED, .rope_base = 10000 },
    { .name = "qwen2",  .norm = NORM_RMS, .norm_at = NORM_BEFORE, .position = POSITION_HALVES,
      .feed = FEED_SILU_GATED, .bias = BIAS_QKV, .rope_base = 10000 },
    { .name = "qwen3",  .norm = NORM_RMS, .norm_at = NORM_BEFORE, .position = POSITION_HALVES,
      .feed = FEED_SILU_GATED, .qk_norm = true, .rope_base = 10000 },
    { .name = "gemma2", .norm = NORM_RMS, .norm_at = NORM_AROUND, .position = POSITION_HALVES,
      .feed = FEED_GELU_GATED, .embed_scaled = true, .window = 4096, .window_pattern = 2,
      .caps = CAP_ATTENTION | CAP_LOGITS, .attention_softcap = 50, .logit_softcap = 30,
      .rope_base = 10000 },
    { .name = "gemma3", .norm = NORM_RMS, .norm_at = NORM_AROUND, .position = POSITION_HALVES,
      .feed = FEED_GELU_GATED, .qk_norm = true, .embed_scaled = true, .window_pattern = 6,
      .caps = CAP_LOGITS, .rope_base_window = 10000 },
    { .name = "phi3",   .norm = NORM_RMS, .norm_at = NORM_BEFORE, .position = POSITION_HALVES,
      .feed = FEED_SILU_GATED, .rope_base = 10000 },
    { .name = "gpt2",   .norm = NORM_LAYER, .norm_at = NORM_BEFORE, .position = POSITION_LEARNED,
      .feed = FEED_GELU_TANH, .bias = BIAS_ALL },
    { .name = "bert",   .norm = NORM_LAYER, .norm_at = NORM_AFTER, .position = POSITION_LEARNED,
      .feed = FEED_GELU_ERF, .bias = BIAS_ALL, .token_types = true, .bidirectional = true },
};

const struct family *family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

const char *family_names(void) { return "llama, qwen2, qwen3, gemma2, gemma3, phi3, gpt2, bert"; }
