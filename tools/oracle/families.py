"""The tiny models: a config.json for each family and seeded weights under Hugging Face names.

Hyperparameters are odd on purpose (eps, rope base, head sizes, windows, a vocabulary that is no multiple
of 16), so that a value taken from habit instead of from the file changes the answer. Weights are drawn so
that attention is far from uniform and every term matters."""
import math

import numpy as np

from oracle import dtypes

BOS, EOS = 1, 2


def llama(**more):
    cfg = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=307, hidden_size=64,
               intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
               max_position_embeddings=256, rms_norm_eps=1e-3, rope_theta=5000.0, hidden_act="silu",
               tie_word_embeddings=False, attention_bias=False, mlp_bias=False)
    cfg.update(more)
    return cfg


def gemma(model_type, arch, **more):
    cfg = llama(model_type=model_type, architectures=[arch], head_dim=32, hidden_act="gelu_pytorch_tanh",
                hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True, query_pre_attn_scalar=32,
                num_hidden_layers=4, sliding_window=9)
    cfg.update(more)
    return cfg


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", factor=4.0)
QWEN = dict(tie_word_embeddings=True, rope_theta=20000.0)

# name: (config, vocabulary kind, hugging face folder: None, "single" or "sharded", its element type)
MODELS = {
    "llama": (llama(), "bpe", "sharded", "F32"),
    "llama-tied": (llama(num_key_value_heads=4, tie_word_embeddings=True, vocab_size=320), "bpe",
                   "single", "BF16"),
    "llama-one-kv-head": (llama(num_key_value_heads=1, head_dim=32), "bpe", "single", "F16"),
    "llama-linear": (llama(rope_scaling=LINEAR), "bpe", "single", "F32"),
    "llama-llama3": (llama(rope_scaling=LLAMA3), "bpe", "single", "F32"),
    "llama-yarn": (llama(rope_scaling=YARN, head_dim=32), "bpe", "single", "F32"),
    "mistral": (llama(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None),
                "spm", "single", "F32"),
    "mistral-window": (llama(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=11),
                       "spm", "single only", "F32"),
    "qwen2": (llama(model_type="qwen2", architectures=["Qwen2ForCausalLM"], **QWEN), "bpe", "sharded", "F32"),
    "qwen3": (llama(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=32, **QWEN), "bpe",
              "single", "F32"),
    "gemma2": (gemma("gemma2", "Gemma2ForCausalLM", attn_logit_softcapping=4.0, final_logit_softcapping=6.0),
               "spm", "single", "F32"),
    "gemma2-scalar": (gemma("gemma2", "Gemma2ForCausalLM", attn_logit_softcapping=4.0,
                            final_logit_softcapping=6.0, query_pre_attn_scalar=20), "spm", "single only", "F32"),
    "gemma3": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=7, rope_theta=80000.0,
                     rope_local_base_freq=10000.0, sliding_window_pattern=6, num_key_value_heads=1),
               "spm", "single", "F32"),
    "gemma3-scaled": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=6, rope_theta=80000.0,
                            rope_local_base_freq=700.0, sliding_window_pattern=6, rope_scaling=LINEAR),
                      "spm", "single", "F32"),
    "phi3": (llama(model_type="phi3", architectures=["Phi3ForCausalLM"], num_key_value_heads=4,
                   original_max_position_embeddings=256, sliding_window=None), "spm", "single", "F32"),
    "phi3-partial": (llama(model_type="phi3", architectures=["Phi3ForCausalLM"], num_attention_heads=2,
                           num_key_value_heads=1, original_max_position_embeddings=256, sliding_window=None,
                           partial_rotary_factor=0.75, tie_word_embeddings=True), "bpe", "single", "F32"),
    # Biases are a choice of the file: these have all that config.json and its tensors can give.
    "llama-biased": (llama(attention_bias=True, mlp_bias=True, norm_bias=True, head_bias=True), "bpe", "sharded",
                     "F32"),
    "mistral-biased": (llama(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=11,
                             attention_bias=True), "spm", "single", "F32"),
    "qwen2-biased": (llama(model_type="qwen2", architectures=["Qwen2ForCausalLM"], attention_bias=True, mlp_bias=True,
                           **QWEN), "bpe", "single", "F32"),
    "qwen3-biased": (llama(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=32, attention_bias=True,
                           **QWEN), "bpe", "single", "F32"),
    "gemma2-biased": (gemma("gemma2", "Gemma2ForCausalLM", attn_logit_softcapping=4.0, final_logit_softcapping=6.0,
                            attention_bias=True, norm_bias=True), "spm", "single", "F32"),
    "phi3-biased": (llama(model_type="phi3", architectures=["Phi3ForCausalLM"], num_key_value_heads=2,
                          original_max_position_embeddings=256, sliding_window=9, attention_bias=True,
                          mlp_bias=True), "spm", "single", "F32"),
    # Layers that see a window where the family's usual pattern has none, in every way to say so.
    "qwen2-window": (llama(model_type="qwen2", architectures=["Qwen2ForCausalLM"], use_sliding_window=True,
                           sliding_window=9, max_window_layers=1, **QWEN), "bpe", "single", "F32"),
    "qwen3-layers": (llama(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=32, sliding_window=7,
                           use_sliding_window=True,
                           layer_types=["sliding_attention", "full_attention", "sliding_attention"], **QWEN), "bpe",
                     "single", "F32"),
    "gemma2-layers": (gemma("gemma2", "Gemma2ForCausalLM", attn_logit_softcapping=None, final_logit_softcapping=None,
                            layer_types=["full_attention", "full_attention", "sliding_attention", "full_attention"]),
                      "spm", "single", "F32"),
    "gemma3-pattern": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=6, rope_theta=80000.0,
                             rope_local_base_freq=700.0, sliding_window_pattern=3, attention_bias=True,
                             final_logit_softcapping=5.0), "spm", "single", "F32"),
    "gemma3-layers": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=4, rope_theta=None,
                            layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
                            rope_parameters={"full_attention": {"rope_theta": 80000.0, **LINEAR},
                                             "sliding_attention": {"rope_type": "default", "rope_theta": 900.0}}),
                      "spm", "single", "F32"),
    "gemma3-wide": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=6, rope_theta=80000.0,
                          rope_local_base_freq=700.0, sliding_window_pattern=6, sliding_window=256), "spm", "single",
                    "F32"),
    "gpt2": (dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=307, n_embd=64, n_layer=3,
                  n_head=4, n_positions=256, n_ctx=256, n_inner=None, activation_function="gelu_new",
                  layer_norm_epsilon=1e-3, tie_word_embeddings=True), "bpe", "single", "F32"),
    "bert": (dict(model_type="bert", architectures=["BertModel"], vocab_size=307, hidden_size=64,
                  num_hidden_layers=3, num_attention_heads=4, intermediate_size=160, hidden_act="gelu",
                  max_position_embeddings=256, type_vocab_size=2, layer_norm_eps=1e-3, pad_token_id=0,
                  position_embedding_type="absolute"), "wordpiece", "single", "F32"),
}

# One model of width 256 in every file type; GGUF only. "mixed" gives each matrix of a layer another type.
TYPES = [name for name in dtypes.TYPES if name != "F32"]
TYPED = llama(hidden_size=256, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2,
              num_hidden_layers=2, rms_norm_eps=1e-5, rope_theta=10000.0)


def shapes(cfg):
    """[(name, shape, kind)]; kind says how the numbers are drawn."""
    out = []

    def add(name, shape, kind):
        out.append((name, shape, kind))

    def norm(name, d, kind):
        add(name + ".weight", (d,), kind)
        if cfg.get("norm_bias"):
            add(name + ".bias", (d,), "bias")

    def layer_norm(name, d):
        add(name + ".weight", (d,), "gain")
        add(name + ".bias", (d,), "bias")

    def linear(name, n, k, bias=False, sharp=False):
        add(name + ".weight", (n, k), "sharp" if sharp else "matrix")
        if bias:
            add(name + ".bias", (n,), "bias")

    kind = cfg["model_type"]
    if kind == "gpt2":
        d = cfg["n_embd"]
        add("transformer.wte.weight", (cfg["vocab_size"], d), "embed")
        add("transformer.wpe.weight", (cfg["n_positions"], d), "embed")
        for i in range(cfg["n_layer"]):
            p = f"transformer.h.{i}."
            layer_norm(p + "ln_1", d)
            layer_norm(p + "ln_2", d)
            for name, k, n in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, 4 * d),
                               ("mlp.c_proj", 4 * d, d)):
                add(p + name + ".weight", (k, n), "conv1d")
                add(p + name + ".bias", (n,), "bias")
        layer_norm("transformer.ln_f", d)
        return out
    d, ff = cfg["hidden_size"], cfg["intermediate_size"]
    if kind == "bert":
        add("embeddings.word_embeddings.weight", (cfg["vocab_size"], d), "embed")
        add("embeddings.position_embeddings.weight", (cfg["max_position_embeddings"], d), "embed")
        add("embeddings.token_type_embeddings.weight", (cfg["type_vocab_size"], d), "embed")
        layer_norm("embeddings.LayerNorm", d)
        for i in range(cfg["num_hidden_layers"]):
            p = f"encoder.layer.{i}."
            for c in ("query", "key", "value"):
                linear(p + "attention.self." + c, d, d, True, c != "value")
            linear(p + "attention.output.dense", d, d, True)
            layer_norm(p + "attention.output.LayerNorm", d)
            linear(p + "intermediate.dense", ff, d, True)
            linear(p + "output.dense", d, ff, True)
            layer_norm(p + "output.LayerNorm", d)
        return out
    gemma_like = kind.startswith("gemma")
    gain = "gain-1" if gemma_like else "gain"
    heads, kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    hd = cfg.get("head_dim") or d // heads
    abias, mbias = bool(cfg.get("attention_bias")), bool(cfg.get("mlp_bias"))
    add("model.embed_tokens.weight", (cfg["vocab_size"], d), "embed")
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm", d, gain)
        norm(p + "post_attention_layernorm", d, gain)
        if gemma_like:
            norm(p + "pre_feedforward_layernorm", d, gain)
            norm(p + "post_feedforward_layernorm", d, gain)
        if kind == "phi3":
            linear(p + "self_attn.qkv_proj", (heads + 2 * kv) * hd, d, abias, True)
            linear(p + "mlp.gate_up_proj", 2 * ff, d, mbias)
        else:
            bias = kind == "qwen2" or abias
            linear(p + "self_attn.q_proj", heads * hd, d, bias, True)
            linear(p + "self_attn.k_proj", kv * hd, d, bias, True)
            linear(p + "self_attn.v_proj", kv * hd, d, bias)
            linear(p + "mlp.gate_proj", ff, d, mbias)
            linear(p + "mlp.up_proj", ff, d, mbias)
        if kind in ("qwen3", "gemma3_text"):
            norm(p + "self_attn.q_norm", hd, gain)
            norm(p + "self_attn.k_norm", hd, gain)
        linear(p + "self_attn.o_proj", d, heads * hd, abias)
        linear(p + "mlp.down_proj", d, ff, mbias)
    norm("model.norm", d, gain)
    if not cfg["tie_word_embeddings"]:
        linear("lm_head", cfg["vocab_size"], d, bool(cfg.get("head_bias")))
    return out


def draw(rng, shape, kind):
    x = rng.standard_normal(shape)
    if kind in ("matrix", "sharp"):
        x = x * (1.3 if kind == "sharp" else 1.2) / math.sqrt(shape[1])
    elif kind == "conv1d":
        x = x * 1.3 / math.sqrt(shape[0])
    elif kind == "gain":
        x = 1 + 0.2 * x
    elif kind == "bias":
        x = 0.2 * x
    else:                               # embeddings; gains of which one is taken off
        x = 0.25 * x
    return x.astype(np.float32)


def weights(name, cfg, dtype="F32"):
    """Seeded by the model's name; rounded to what `dtype` can hold."""
    seed = sum(ord(c) * 31 ** i for i, c in enumerate(name)) % 2**32
    rng = np.random.RandomState(seed)
    w = {n: draw(rng, shape, kind) for n, shape, kind in shapes(cfg)}
    if dtype == "F16":
        w = {n: x.astype(np.float16).astype(np.float32) for n, x in w.items()}
    if dtype == "BF16":
        w = {n: from_bf16(to_bf16(x)) for n, x in w.items()}
    return w


def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(h):
    return (h.astype(np.uint32) << 16).view(np.float32)


def sequences(name, cfg):
    """Token ids to run: one alone, one across windows, page borders and the old context, one short."""
    rng = np.random.RandomState(len(name) * 7919 + 17)
    long = 133 if cfg["model_type"] == "bert" or cfg.get("hidden_size", 64) == 64 else 70
    return [[BOS]] + [[int(t) for t in rng.randint(3, cfg["vocab_size"], n)] for n in (7, long)]


def random_blocks(rng, n, k, type_name, decode):
    """A matrix [n][k] of random codes, so every code and sub-scale occurs: bytes [n][row bytes].
    `decode` tells what bytes mean; scales are set for the spread that `draw` gives a matrix."""
    row = dtypes.CODED[type_name]
    per, size, d_at, m_at, offset = row["block"], row["bytes"], row["d_at"], row.get("m_at"), dtypes.centre(row)
    b = rng.randint(0, 256, (n * k // per, size)).astype(np.uint8)
    if type_name == "Q8_0":             # encoders keep to -127..127
        b[:, 2:] = np.where(b[:, 2:] == 0x80, 0x81, b[:, 2:])
    d = rng.uniform(0.5, 1.5, len(b))
    if m_at is None:                    # formats without an offset are written with scales of both signs
        d = d * np.where(rng.randint(0, 2, len(b)), 1, -1)
    for _ in range(2):                  # once to see the spread, once with the right one
        b[:, d_at:d_at + 2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
        if m_at is not None:
            b[:, m_at:m_at + 2] = (d * offset).astype(np.float16).view(np.uint8).reshape(-1, 2)
        d = d * (1.2 / math.sqrt(k)) / decode(b.reshape(n, -1)).std()
    return b.reshape(n, -1)
