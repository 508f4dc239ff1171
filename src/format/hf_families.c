/* One row per kind of config.json that is understood. Every number is the default of the family's
 * own configuration class, which is what transformers takes where a file is silent:
 * models/<model_type>/configuration_<model_type>.py of transformers 5.24.0 ("gemma3_text" stands in
 * configuration_gemma3.py; rope_theta is `default_theta` of configuration_utils.py unless the class
 * has its own). tests/golden/test_closure.py compares this table with the classes. */
#include "format/families.h"
#include "format/hf_int.h"
#include <stdio.h>
#include <string.h>

static const struct hf_family families[] = {
    /* LlamaConfig */
    { .model_type = "llama",
      .arch = "llama",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 11008, .heads = 32,
      .context = 2048,
      .eps = 1e-6,
      .rope_base = 10000,
      .rope_halves = true },
    /* MistralConfig */
    { .model_type = "mistral",
      .arch = "llama",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 14336, .heads = 32, .heads_kv = 8,
      .context = 131072,
      .eps = 1e-6,
      .rope_base = 10000,
      .rope_halves = true,
      .windows = HF_WINDOW_EVERYWHERE,
      .window = 4096,
      .tokenizer = "" },
    /* Qwen2Config */
    { .model_type = "qwen2",
      .arch = "qwen2",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 22016, .heads = 32, .heads_kv = 32,
      .context = 32768,
      .eps = 1e-6,
      .rope_base = 10000,
      .always_biased = true,
      .windows = HF_WINDOW_ABOVE,
      .window = 4096, .window_layers = 28,
      .tokenizer = "Qwen2Tokenizer" },
    /* Qwen3Config */
    { .model_type = "qwen3",
      .arch = "qwen3",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 22016, .heads = 32, .heads_kv = 32, .head_dim = 128,
      .context = 32768,
      .eps = 1e-6,
      .rope_base = 10000,
      .windows = HF_WINDOW_ABOVE,
      .window = 4096, .window_layers = 28,
      .tokenizer = "Qwen2Tokenizer" },
    /* Gemma2Config */
    { .model_type = "gemma2",
      .arch = "gemma2",
      .names = hf_names_gemma,
      .activation = { "hidden_activation", "gelu_pytorch_tanh", "gelu_new" },
      .layers = 26, .width = 2304, .feed = 9216, .heads = 8, .heads_kv = 4, .head_dim = 256,
      .context = 8192,
      .eps = 1e-6,
      .rope_base = 10000,
      .norm_plus_one = true,
      .tied = true,
      .windows = HF_WINDOW_PATTERN,
      .window = 4096, .window_pattern = 2,
      .query_scalar = 256, .attention_softcap = 50, .logit_softcap = 30,
      .tokenizer = "GemmaTokenizer" },
    /* Gemma3TextConfig */
    { .model_type = "gemma3_text",
      .with_others = "gemma3",
      .arch = "gemma3",
      .names = hf_names_gemma,
      .activation = { "hidden_activation", "gelu_pytorch_tanh", "gelu_new" },
      .layers = 26, .width = 2304, .feed = 9216, .heads = 8, .heads_kv = 4, .head_dim = 256,
      .context = 131072,
      .eps = 1e-6,
      .rope_base = 1000000, .rope_base_window = 10000, .base_key = "rope_local_base_freq",
      .norm_plus_one = true,
      .tied = true,
      .windows = HF_WINDOW_PATTERN,
      .window = 4096, .window_pattern = 6, .own_pattern = true,
      .query_scalar = 256,
      .tokenizer = "GemmaTokenizer" },
    /* Phi3Config */
    { .model_type = "phi3",
      .arch = "phi3",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 3072, .feed = 8192, .heads = 32,
      .context = 4096, .first_context = 4096,
      .eps = 1e-5,
      .rope_base = 10000,
      .rope_part = true,
      .windows = HF_WINDOW_EVERYWHERE,
      .tokenizer = "" },
    /* Olmo2Config. Its norms stand on what a block adds, as one of gemma's two does. */
    { .model_type = "olmo2",
      .arch = "olmo2",
      .names = hf_names_gemma,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 11008, .heads = 32,
      .context = 2048,
      .eps = 1e-5,
      .rope_base = 10000,
      .window_pattern = 4,
      .tokenizer = "" },
    /* Olmo3Config */
    { .model_type = "olmo3",
      .arch = "olmo2",
      .names = hf_names_gemma,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 11008, .heads = 32,
      .context = 2048,
      .eps = 1e-5,
      .rope_base = 500000, .rope_base_window = 500000,
      .windows = HF_WINDOW_PATTERN,
      .window = 4096, .window_pattern = 4,
      .tokenizer = "" },
    /* Ministral3Config */
    { .model_type = "ministral3",
      .arch = "mistral3",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 34, .width = 4096, .feed = 14336, .heads = 32, .heads_kv = 8, .head_dim = 128,
      .context = 262144,
      .eps = 1e-5,
      .rope_base = 10000,
      .rope_halves = true,
      .usual_rope = "{\"type\": \"yarn\", \"rope_theta\": 1e6, \"factor\": 16, \"mscale\": 1, \"mscale_all_dim\": 1,"
                    "\"original_max_position_embeddings\": 16384, \"llama_4_scaling_beta\": 0.1}",
      .rope_warms = true,
      .bias = { "", "", "" },
      .windows = HF_WINDOW_EVERYWHERE,
      .tokenizer = "" },
    /* SmolLM3Config */
    { .model_type = "smollm3",
      .arch = "smollm3",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 36, .width = 2048, .feed = 11008, .heads = 16, .heads_kv = 4,
      .context = 32768,
      .eps = 1e-6,
      .rope_base = 2000000,
      .rope_halves = true,
      .rope_layers = true, .reads = { "no_rope_layers", "no_rope_layer_interval" },
      .tied = true },
    /* GraniteConfig */
    { .model_type = "granite",
      .arch = "granite",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 11008, .heads = 32,
      .context = 2048,
      .eps = 1e-6,
      .rope_base = 10000,
      .rope_halves = true,
      .scales = true,
      .reads = { "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling" },
      .tokenizer = "" },
    /* Qwen3VLTextConfig */
    { .model_type = "qwen3_vl_text",
      .with_others = "qwen3_vl",
      .arch = "qwen3vl",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 22016, .heads = 32, .heads_kv = 32, .head_dim = 128,
      .context = 128000,
      .eps = 1e-6,
      .rope_base = 500000,
      .tokenizer = "Qwen2Tokenizer" },
    /* Exaone4Config */
    { .model_type = "exaone4",
      .arch = "exaone4",
      .names = hf_names_gemma,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 16384, .heads = 32, .heads_kv = 32,
      .context = 2048,
      .eps = 1e-5,
      .rope_base = 10000,
      .bias = { "", "", "" },
      .windows = HF_WINDOW_PATTERN,
      .window = 4096, .window_pattern = 4, .own_pattern = true, .window_null = true },
    /* Glm4Config */
    { .model_type = "glm4",
      .arch = "glm4",
      .names = hf_names_glm4,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 40, .width = 4096, .feed = 13696, .heads = 32, .heads_kv = 2, .head_dim = 128,
      .context = 131072,
      .eps = 1.5625e-7,
      .rope_base = 10000,
      .rope_part = true, .rope_share = 0.5,
      .bias = { .out = "", .feed = "" }, .biased = true,
      .tokenizer = "" },
    /* SeedOssConfig */
    { .model_type = "seed_oss",
      .arch = "seed_oss",
      .names = hf_names_seed_oss,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 64, .width = 4096, .feed = 27648, .heads = 80, .heads_kv = 8, .head_dim = 128,
      .context = 524288,
      .eps = 1e-6,
      .rope_base = 10000,
      .bias = { .out = "attention_out_bias" }, .biased = true },
    /* Ernie4_5Config */
    { .model_type = "ernie4_5",
      .arch = "ernie4_5",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 18, .width = 1024, .feed = 3072, .heads = 16, .heads_kv = 2, .head_dim = 128,
      .context = 131072,
      .eps = 1e-5,
      .rope_base = 500000,
      .bias = { "use_bias", "use_bias", "use_bias" },
      .tied = true,
      .tokenizer = "" },
    /* HunYuanDenseV1Config, whose models always norm queries and keys */
    { .model_type = "hunyuan_v1_dense",
      .arch = "hunyuan-dense",
      .names = hf_names_hunyuan,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 4096, .feed = 11008, .heads = 32,
      .context = 2048,
      .eps = 1e-5,
      .rope_base = 10000,
      .rope_alpha = true,
      .bias = { .feed = "" },
      .reads = { "use_qk_norm" } },
    /* Cohere2Config */
    { .model_type = "cohere2",
      .arch = "cohere2",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 40, .width = 8192, .feed = 22528, .heads = 64,
      .context = 8192,
      .layer_norm = true, .eps_key = "layer_norm_eps", .eps = 1e-5,
      .rope_base = 10000,
      .logit_scale = "logit_scale", .usual_logit_scale = 0.0625, .reads = { "logit_scale" },
      .bias = { .feed = "" },
      .windows = HF_WINDOW_PATTERN,
      .window = 4096, .window_pattern = 4, .own_pattern = true,
      .tied = true },
    /* Starcoder2Config */
    { .model_type = "starcoder2",
      .arch = "starcoder2",
      .names = hf_names_starcoder2,
      .activation = { "hidden_act", "gelu_pytorch_tanh", "gelu_new" },
      .layers = 30, .width = 3072, .feed = 12288, .heads = 24, .heads_kv = 2,
      .context = 4096,
      .layer_norm = true, .eps_key = "norm_epsilon", .eps = 1e-5,
      .rope_base = 10000,
      .bias = { "use_bias", "use_bias", "use_bias" }, .biased = true,
      .windows = HF_WINDOW_EVERYWHERE,
      .tied = true,
      .tokenizer = "GPT2Tokenizer" },
    /* StableLmConfig */
    { .model_type = "stablelm",
      .arch = "stablelm",
      .names = hf_names_llama,
      .activation = { "hidden_act", "silu", "swish" },
      .layers = 32, .width = 2560, .feed = 6912, .heads = 32, .heads_kv = 32,
      .context = 4096,
      .layer_norm = true, .eps_key = "layer_norm_eps", .eps = 1e-5,
      .rope_base = 10000,
      .rope_part = true, .rope_share = 0.25,
      .bias = { "use_qkv_bias", "", "" },
      .beside = true, .reads = { "use_parallel_residual" },
      .tokenizer = "" },
    /* PhiConfig */
    { .model_type = "phi",
      .arch = "phi2",
      .names = hf_names_phi,
      .activation = { "hidden_act", "gelu_new", "gelu_pytorch_tanh" },
      .layers = 24, .width = 2048, .feed = 8192, .heads = 32,
      .context = 2048,
      .layer_norm = true, .eps_key = "layer_norm_eps", .eps = 1e-5,
      .rope_base = 10000,
      .rope_part = true, .rope_share = 0.5,
      .always_biased = true,
      .tokenizer = "GPT2Tokenizer" },
    /* GPT2Config */
    { .model_type = "gpt2",
      .arch = "gpt2",
      .names = hf_names_gpt2,
      .activation = { "activation_function", "gelu_new", "gelu_pytorch_tanh" },
      .layers = 12, .width = 768, .heads = 12,
      .context = 1024,
      .eps = 1e-5,
      .conv1d = true,
      .layer_norm = true, .eps_key = "layer_norm_epsilon", .learned = true,
      .tied = true,
      .tokenizer = "GPT2Tokenizer" },
    /* BertConfig */
    { .model_type = "bert",
      .arch = "bert",
      .names = hf_names_bert,
      .activation = { "hidden_act", "gelu", "gelu" },
      .layers = 12, .width = 768, .feed = 3072, .heads = 12,
      .context = 512,
      .eps = 1e-12,
      .layer_norm = true, .eps_key = "layer_norm_eps", .learned = true,
      .tied = true,
      .encoder = true,
      .tokenizer = "BertTokenizer" },
};

const struct hf_family *hf_family_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct hf_family *f = &families[i];
        if (strcmp(f->model_type, model_type) == 0
            || (f->with_others && strcmp(f->with_others, model_type) == 0)) return f;
    }
    return NULL;
}

static const char *name_of(const struct hf_family *f)
{
    return f->with_others ? f->with_others : f->model_type;
}

const char *hf_family_names(char *text, size_t size)
{
    size_t n = 0, last = sizeof families / sizeof *families - 1;
    text[0] = '\0';
    for (size_t i = 0; i <= last && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", !i ? "" : i < last ? ", " : " and ",
                              name_of(&families[i]));
    return text;
}

const char *format_tokenizer_class(const char *model_type)
{
    const struct hf_family *f = hf_family_find(model_type);
    return f ? f->tokenizer : NULL;
}

const char *format_model_type(size_t i, const char **arch)
{
    if (i >= sizeof families / sizeof *families) return NULL;
    *arch = families[i].arch;
    return name_of(&families[i]);
}
