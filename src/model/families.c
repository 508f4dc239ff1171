/* One row per family: what the builder and the reader of sizes do for it. Beside it a family is named in
 * format/hf_families.c only, which says what its folders are called and take for granted. ("gpt2", "llama"
 * and "bert" in text/ are GGUF's names of kinds of tokenizers.) Sources stand with the rows; numbers are
 * what llama.cpp takes where a GGUF file is silent. */
#include "model/family.h"
#include <stdio.h>
#include <string.h>

static const struct family families[] = {
    /* arXiv 2307.09288; Mistral: arXiv 2310.06825 */
    { .name = "llama",  .title = "Llama (Mistral, SmolLM2)", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .rope_base = 10000 },
    /* Llama with sizes of their own for each layer (DeciLM, Nemotron: arXiv 2411.19146), as far as every layer has
     * attention and a feed-forward part */
    { .name = "deci",   .title = "DeciLM (Llama by layers)", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .rope_base = 10000 },
    /* arXiv 2412.15115 */
    { .name = "qwen2",  .title = "Qwen 2 and 2.5", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .bias = BIAS_QKV, .rope_base = 10000 },
    /* arXiv 2505.09388 */
    { .name = "qwen3",  .title = "Qwen 3", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .qk_norm = QK_NORM_HEADS,
      .rope_base = 10000 },
    /* arXiv 2408.00118 */
    { .name = "gemma2", .title = "Gemma 2", .norm = NORM_RMS, .norm_at = NORM_AROUND,
      .position = POSITION_HALVES, .feed = FEED_GELU_GATED, .embed_scaled = true, .window = 4096,
      .window_pattern = 2, .caps = CAP_ATTENTION | CAP_LOGITS, .attention_softcap = 50,
      .logit_softcap = 30, .layers_of_27b = 46, .rope_base = 10000 },
    /* arXiv 2503.19786 */
    { .name = "gemma3", .title = "Gemma 3", .norm = NORM_RMS, .norm_at = NORM_AROUND,
      .position = POSITION_HALVES, .feed = FEED_GELU_GATED, .qk_norm = QK_NORM_HEADS,
      .embed_scaled = true, .window_pattern = 6, .caps = CAP_LOGITS, .layers_of_27b = 62,
      .window_turn = WINDOW_TURN_OWN, .rope_base_window = 10000 },
    /* arXiv 2404.14219 */
    { .name = "phi3",   .title = "Phi-3", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .long_rope = true, .rope_base = 10000 },
    /* OLMo 2: arXiv 2501.00656; OLMo 3: arXiv 2512.13961, whose files have a window */
    { .name = "olmo2",  .title = "OLMo 2 and 3", .norm = NORM_RMS, .norm_at = NORM_OF_OUTPUT,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .qk_norm = QK_NORM_WIDTH,
      .window_pattern = 4, .window_turn = WINDOW_TURN_OWN, .rope_base = 10000 },
    /* Ministral 3, and Mistral Small 3 in newer files: arXiv 2601.08584 */
    { .name = "mistral3", .title = "Mistral Small and Ministral 3", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .warms = true, .rope_base = 10000 },
    /* SmolLM3: huggingface.co/blog/smollm3; layers that do not turn: arXiv 2501.18795 */
    { .name = "smollm3", .title = "SmolLM3", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .turned = TURNED_BUT_FOURTH, .rope_base = 10000 },
    /* arXiv 2408.13359, whose factors its models have */
    { .name = "granite", .title = "Granite 3", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .turned = TURNED_IF_SAID,
      .scales = SCALE_EMBEDDING | SCALE_RESIDUAL | SCALE_LOGITS, .rope_base = 10000 },
    /* arXiv 2511.21631: the text side */
    { .name = "qwen3vl", .title = "Qwen 3 VL (text)", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .qk_norm = QK_NORM_HEADS, .sections = true,
      .rope_base = 10000 },
    /* arXiv 2507.11407 */
    { .name = "exaone4", .title = "EXAONE 4", .norm = NORM_RMS, .norm_at = NORM_OF_OUTPUT,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .qk_norm = QK_NORM_HEADS,
      .window_pattern = 4, .turned = TURNED_IN_WINDOW, .rope_base = 10000 },
    /* arXiv 2406.12793; the norms around: GLM-4-0414 */
    { .name = "glm4",   .title = "GLM-4", .norm = NORM_RMS, .norm_at = NORM_AROUND,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .rope_base = 10000 },
    /* huggingface.co/ByteDance-Seed/Seed-OSS-36B-Instruct */
    { .name = "seed_oss", .title = "Seed-OSS", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .feed_norm = "post_attention_norm",
      .rope_base = 10000 },
    /* ERNIE 4.5 technical report, ernie.baidu.com/blog */
    { .name = "ernie4_5", .title = "ERNIE 4.5", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_PAIRS, .feed = FEED_SILU_GATED, .rope_base = 10000 },
    /* github.com/Tencent-Hunyuan: Hunyuan 0.5B to 7B */
    { .name = "hunyuan-dense", .title = "Hunyuan (dense)", .norm = NORM_RMS, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .qk_norm = QK_NORM_TURNED, .rope_base = 10000 },
    /* arXiv 2504.00698 */
    { .name = "cohere2", .title = "Command R7B, Command A (Cohere 2)", .norm = NORM_LAYER, .norm_unbiased = true,
      .norm_at = NORM_BEFORE, .parts = PARTS_BESIDE, .position = POSITION_PAIRS, .feed = FEED_SILU_GATED,
      .window_pattern = 4, .turned = TURNED_IN_WINDOW_ONLY, .scales = SCALE_LOGITS_UP, .rope_base = 10000 },
    /* arXiv 2402.19173 */
    { .name = "starcoder2", .title = "StarCoder 2", .norm = NORM_LAYER, .norm_at = NORM_BEFORE,
      .position = POSITION_HALVES, .feed = FEED_GELU_TANH, .rope_base = 10000 },
    /* arXiv 2402.17834 */
    { .name = "stablelm", .title = "StableLM", .norm = NORM_LAYER, .norm_at = NORM_BEFORE,
      .parts = PARTS_BESIDE_IF_ONE_NORM, .position = POSITION_HALVES, .feed = FEED_SILU_GATED, .rope_base = 10000 },
    /* arXiv 2309.05463, and 2 after it */
    { .name = "phi2",   .title = "Phi-1.5 and 2", .norm = NORM_LAYER, .norm_at = NORM_BEFORE, .parts = PARTS_BESIDE,
      .position = POSITION_HALVES, .feed = FEED_GELU_TANH, .bias = BIAS_ALL, .rope_base = 10000 },
    /* Radford et al. 2019 */
    { .name = "gpt2",   .title = "GPT-2", .norm = NORM_LAYER, .norm_at = NORM_BEFORE,
      .position = POSITION_LEARNED, .feed = FEED_GELU_TANH, .bias = BIAS_ALL },
    /* arXiv 1810.04805 */
    { .name = "bert",   .title = "BERT (embeddings)", .norm = NORM_LAYER, .norm_at = NORM_OF_SUM,
      .position = POSITION_LEARNED, .feed = FEED_GELU_ERF, .bias = BIAS_ALL, .token_types = true,
      .bidirectional = true },
};

const struct family *family_at(size_t i)
{
    return i < sizeof families / sizeof *families ? &families[i] : NULL;
}

const struct family *family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

const char *family_names(char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof families / sizeof *families && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", families[i].name);
    return text;
}
