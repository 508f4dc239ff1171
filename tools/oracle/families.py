"""The families, a row each, and the tiny models: a config.json for each and seeded weights under Hugging Face names.

A family made of known choices is a row of FAMILIES and one of MODELS and nothing else: forward.py, files.py and the
tests ask the row, and every test goes through all rows.

Hyperparameters are odd on purpose (eps, rope base, head sizes, windows, a vocabulary that is no multiple
of 16), so that a value taken from habit instead of from the file changes the answer. Weights are drawn so
that attention is far from uniform and every term matters."""
import math
from dataclasses import dataclass, field

import numpy as np

from oracle import dtypes

BOS, EOS = 1, 2


@dataclass(frozen=True)
class Family:
    """What the paper and the published classes say of the models with one model_type, where they differ from Llama."""
    arch: str                   # general.architecture of their GGUF files
    outer: str = ""             # model_type of models that also see, whose text side they are
    layer_norm: bool = False    # instead of rms
    norm_bias: bool = False     # its norms have biases
    eps: str = "rms_norm_eps"   # in config.json
    beside: str = ""            # parts of a block read one norm and are added together: "always"; "said": by
    #                             use_parallel_residual, and GGUF files by having no second norm
    ungated: tuple = ()         # (up, down) of a feed-forward part without gate
    out: str = "self_attn.o_proj"
    last: str = "model.norm"    # the norm before the head
    head_bias: bool = False     # always
    norms: str = "before"       # "around": also on what a block adds; "output": only there
    norm_names: tuple = ()      # before, after attention, before, after the feed-forward part; (): the usual ones
    feed_norm: str = "ffn_norm"                             # in GGUF, of the norm before the feed-forward part
    qk_norm: str = ""           # of queries and keys before they turn: "heads", "width"; "turned": heads, behind that
    qk_names: tuple = ("self_attn.q_norm", "self_attn.k_norm")
    pairs: bool = False         # GGUF files turn neighbours: rows of q and k stand in another order there
    folder_pairs: bool = False  # folders turn neighbours too: the same order
    turned: str = ""            # which layers turn: "": all; "fourth": all but every fourth, unless no_rope_layers
    #                             says which; "window": those with a window, or all of a file without one; "window
    #                             only": those with a window
    scales: tuple = ()          # pairs: a factor's name in config.json, in GGUF
    rope_count: bool = False    # GGUF files always say rope.dimension_count
    gemma: bool = False         # gains stored minus one, scaled embeddings, query_pre_attn_scalar
    fused: bool = False         # qkv_proj and gate_up_proj
    fused_gate: bool = False    # gate_up_proj alone
    qkv_bias: bool = False      # always
    biased: bool = False        # q, k and v of a config.json that is silent
    bias_words: tuple = ("attention_bias", "attention_bias", "mlp_bias")        # of q, k, v; of o; of the feed-forward
    warms: bool = False         # queries grow with their position, by llama_4_scaling_beta
    alpha: bool = False         # a scaling "dynamic" with an "alpha" is another base
    sections: bool = False      # positions of images have several axes
    share: float = 1.0          # partial_rotary_factor where config.json is silent
    windows: str = ""           # which layers see sliding_window if layer_types is silent: "all", "above", "every"
    window_null: bool = False   # sliding_window null is no window
    every: int = 0              # "every": each so manieth sees all, and GGUF files leave that out
    own_turn: bool = False      # layers with a window turn unscaled, from a base of their own
    local_base: float = 0.0     # which is this where nothing says it; 0: that of the others
    caps: tuple = ()            # "attention", "logits"
    part: bool = False          # partial_rotary_factor means something
    own: bool = False           # a forward of its own (gpt2, bert)
    older: tuple = ()           # fields of config.json that mean something though the class no longer names them
    moves: tuple = ()           # fields that must move the logits, besides those that the choices above imply
    flaws: tuple = ()           # mistakes to be noticed, of families with a forward of their own
    configs: list = field(default_factory=lambda: [{}])     # config.jsons whose reading is compared with the class's


GRANITE = (("embedding_multiplier", "embedding_scale"), ("residual_multiplier", "residual_scale"),
           ("attention_multiplier", "attention.scale"), ("logits_scaling", "logit_scale"))
COHERE = (("logit_scale", "logit_scale"),)
YARN_8 = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
FAMILIES = {
    "llama": Family("llama", pairs=True, rope_count=True, configs=[
        {}, {"num_attention_heads": 8}, {"sliding_window": 7}, {"num_key_value_heads": None},
        {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_theta": 5e5}, {"head_dim": None},
        {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 77.0}, "rope_theta": 5e5},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0},
         "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 77.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "max_position_embeddings": 4096},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 512},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 64}}]),
    "mistral": Family("llama", pairs=True, rope_count=True, windows="all", configs=[
        {}, {"sliding_window": None}, {"sliding_window": 17}, {"head_dim": None}]),
    "qwen2": Family("qwen2", qkv_bias=True, windows="above", configs=[
        {}, {"use_sliding_window": True}, {"use_sliding_window": True, "max_window_layers": 3},
        {"use_sliding_window": True, "sliding_window": None}, {"sliding_window": 9}]),
    "qwen3": Family("qwen3", qk_norm="heads", windows="above", configs=[
        {}, {"use_sliding_window": True, "max_window_layers": 0}, {"num_key_value_heads": None},
        {"use_sliding_window": True, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}]),
    "gemma2": Family("gemma2", norms="around", gemma=True, windows="every", every=2, caps=("attention", "logits"),
                     configs=[
        {}, {"attn_logit_softcapping": None}, {"final_logit_softcapping": 7.5},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        {"sliding_window_pattern": 3}]),
    "gemma3_text": Family("gemma3", outer="gemma3", norms="around", qk_norm="heads", gemma=True, windows="every",
                          every=6, own_turn=True, local_base=10000.0, caps=("logits",),
                          older=("rope_local_base_freq", "sliding_window_pattern"),
                          moves=("rope_theta", "rope_local_base_freq", "sliding_window_pattern"), configs=[
        {}, {"sliding_window_pattern": 3}, {"rope_theta": 5e5, "rope_local_base_freq": 70.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, {"final_logit_softcapping": 9.0},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0},
                             "sliding_attention": {"rope_type": "default"}}},
        {"rope_parameters": {"full_attention": None, "sliding_attention": {"rope_theta": 50.0}}, "rope_theta": 60.0}]),
    "phi3": Family("phi3", fused=True, rope_count=True, windows="all", part=True, configs=[
        {}, {"sliding_window": 11}, {"partial_rotary_factor": 0.75}, {"num_key_value_heads": 4},
        {"rope_scaling": {"type": "longrope", "long_factor": [2.0] * 48, "short_factor": [1.0] * 48},
         "max_position_embeddings": 131072}]),
    # arXiv 2501.00656 and, with windows, 2512.13961
    "olmo2": Family("olmo2", norms="output", qk_norm="width", every=4, own_turn=True, moves=("rope_theta",), configs=[
        {}, {"num_key_value_heads": 4}, {"rope_theta": 5e5}, {"rope_scaling": YARN_8}]),
    "olmo3": Family("olmo2", norms="output", qk_norm="width", windows="every", every=4, own_turn=True, configs=[
        {}, {"sliding_window": 9}, {"rope_scaling": YARN_8, "max_position_embeddings": 4096},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        {"rope_parameters": {"full_attention": {**YARN_8, "rope_theta": 60.0}, "sliding_attention": None}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0},
                             "sliding_attention": {"rope_theta": 50.0}}}]),
    "ministral3": Family("mistral3", pairs=True, rope_count=True, windows="all", warms=True, bias_words=("", "", ""),
                         configs=[
        {}, {"head_dim": 16, "num_key_value_heads": 4}, {"sliding_window": 9}, {"rope_parameters": {
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512, "mscale": 1.0,
            "mscale_all_dim": 0.7, "llama_4_scaling_beta": 0.3, "rope_theta": 77.0}}]),
    "smollm3": Family("smollm3", pairs=True, rope_count=True, turned="fourth", moves=("no_rope_layers",
                      "no_rope_layer_interval"), configs=[
        {}, {"num_hidden_layers": 5, "no_rope_layer_interval": 2}, {"num_key_value_heads": None},
        {"num_hidden_layers": 3, "no_rope_layers": [0, 1, 1]}, {"rope_theta": 77.0}]),
    "granite": Family("granite", pairs=True, rope_count=True, scales=GRANITE, configs=[
        {}, {"embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22,
             "logits_scaling": 8.0}, {"num_key_value_heads": 8}]),
    "qwen3_vl_text": Family("qwen3vl", outer="qwen3_vl", qk_norm="heads", sections=True, configs=[
        {}, {"rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]}},
        {"head_dim": 16, "num_key_value_heads": None}]),
    "exaone4": Family("exaone4", norms="output", qk_norm="heads", windows="every", every=4, turned="window",
                      window_null=True, older=("sliding_window_pattern",), bias_words=("", "", ""),
                      moves=("sliding_window_pattern",), configs=[
        {}, {"sliding_window": 9, "sliding_window_pattern": 3}, {"sliding_window": None, "num_hidden_layers": 2,
                                                                 "layer_types": ["full_attention"] * 2},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]}]),
    "glm4": Family("glm4", norms="around", norm_names=("input_layernorm", "post_self_attn_layernorm",
                   "post_attention_layernorm", "post_mlp_layernorm"), pairs=True, folder_pairs=True, rope_count=True,
                   fused_gate=True, part=True, share=0.5, biased=True, bias_words=("attention_bias", "", ""), configs=[
        {}, {"partial_rotary_factor": 0.75}, {"head_dim": 16, "num_key_value_heads": 4}]),
    "seed_oss": Family("seed_oss", feed_norm="post_attention_norm", biased=True,
                       bias_words=("attention_bias", "attention_out_bias", "mlp_bias"), configs=[
        {}, {"head_dim": None, "num_attention_heads": 64}, {"num_key_value_heads": None}]),
    "ernie4_5": Family("ernie4_5", pairs=True, folder_pairs=True, bias_words=("use_bias",) * 3, configs=[
        {}, {"head_dim": None}, {"num_key_value_heads": None, "rope_theta": 77.0}]),
    "hunyuan_v1_dense": Family("hunyuan-dense", qk_norm="turned", qk_names=("self_attn.query_layernorm",
                               "self_attn.key_layernorm"), alpha=True, bias_words=("attention_bias",) * 2 + ("",),
                               configs=[
        {}, {"num_key_value_heads": 4, "head_dim": 16},
        {"head_dim": 16, "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}}]),
    "cohere2": Family("cohere2", layer_norm=True, eps="layer_norm_eps", beside="always", pairs=True, folder_pairs=True,
                      rope_count=True, windows="every", every=4, turned="window only", scales=COHERE,
                      bias_words=("attention_bias", "attention_bias", ""), older=("sliding_window_pattern",),
                      moves=("sliding_window_pattern",), configs=[
        {}, {"sliding_window": 9, "sliding_window_pattern": 3}, {"logit_scale": 0.5, "num_key_value_heads": 8},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]}]),
    "starcoder2": Family("starcoder2", layer_norm=True, norm_bias=True, eps="norm_epsilon", biased=True,
                         ungated=("mlp.c_fc", "mlp.c_proj"), windows="all", bias_words=("use_bias",) * 3, configs=[
        {}, {"sliding_window": 9}, {"num_key_value_heads": 4, "rope_theta": 77.0}]),
    "stablelm": Family("stablelm", layer_norm=True, norm_bias=True, eps="layer_norm_eps", beside="said", part=True,
                       rope_count=True, share=0.25, bias_words=("use_qkv_bias", "", ""), configs=[
        {}, {"partial_rotary_factor": 0.5}, {"num_key_value_heads": 8}]),
    "phi": Family("phi2", layer_norm=True, norm_bias=True, eps="layer_norm_eps", beside="always", part=True,
                  rope_count=True, share=0.5, qkv_bias=True, head_bias=True, ungated=("mlp.fc1", "mlp.fc2"),
                  out="self_attn.dense", last="model.final_layernorm", bias_words=("", "", ""), configs=[
        {}, {"partial_rotary_factor": 0.25}, {"num_key_value_heads": 8}]),
    "gpt2": Family("gpt2", own=True, flaws=("position", "activation"), moves=("layer_norm_epsilon",), configs=[
        {}, {"n_inner": 5}, {"hidden_size": 24}, {"n_inner": None}]),
    "bert": Family("bert", own=True, flaws=("causal", "position", "activation"), moves=("layer_norm_eps",), configs=[
        {}, {"layer_norm_eps": 0.5}]),
}


def of(cfg):
    return FAMILIES[cfg["model_type"]]


def beside(cfg):
    return of(cfg).beside == "always" or of(cfg).beside == "said" and bool(cfg.get("use_parallel_residual"))


def norms_of(cfg):
    """Names of the norms that a model has."""
    names = norm_names(of(cfg))
    return (names[0], None, None, None) if beside(cfg) else names


def norm_names(fam):
    return fam.norm_names or {
        "before": ("input_layernorm", None, "post_attention_layernorm", None),
        "around": ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                   "post_feedforward_layernorm"),
        "output": (None, "post_attention_layernorm", None, "post_feedforward_layernorm")}[fam.norms]


def biases(cfg):
    """Whether q, k and v have biases, whether o has one, and the feed-forward part."""
    fam = of(cfg)
    qkv, out, feed = (bool(cfg.get(word, fam.biased and word == "use_bias")) for word in fam.bias_words)
    if fam.qkv_bias and fam.head_bias:
        return True, True, True
    return fam.qkv_bias or (fam.biased if fam.bias_words[0] not in cfg else qkv), out, feed


def turning(cfg, windowed):
    """Which layers turn queries and keys."""
    n, fam = cfg["num_hidden_layers"], of(cfg)
    if fam.turned == "fourth":
        every = cfg.get("no_rope_layer_interval", 4)
        return [bool(x) for x in cfg.get("no_rope_layers") or [(i + 1) % every for i in range(n)]][:n]
    if fam.turned == "window only" or fam.turned == "window" and cfg.get("sliding_window"):
        return list(windowed)
    return [True] * n


def rotary_size(cfg, hd):
    return int(hd * cfg.get("partial_rotary_factor", of(cfg).share))


def factor_of(cfg, word):
    """One of GRANITE's, or COHERE's; 1 in other families."""
    return cfg.get(word, 1.0) if word in dict(of(cfg).scales) else 1.0


def in_layer(value, i):
    """A size of layer i, where a list has one for each; config.json has no such lists, GGUF files do."""
    return value[i] if isinstance(value, list) else value


def first_models(key):
    """The first model of each kind of `key`, a function of a config: one name for each architecture, say."""
    first = {}
    for name, (cfg, *_) in MODELS.items():
        first.setdefault(key(cfg), name)
    return list(first.values())


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

# name: (config, vocabulary kind, hugging face folder: None, "single" or "sharded", its element type); "single only":
# no GGUF file says the same
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
    # Sizes that differ between layers, which only GGUF files can say.
    "llama-sizes": (llama(intermediate_size=[160, 96, 224], num_attention_heads=[4, 2, 8],
                          num_key_value_heads=[2, 1, 8], head_dim=16), "bpe", None,
                    "F32"),
    "gemma3-sizes": (gemma("gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=4, rope_theta=80000.0,
                           rope_local_base_freq=700.0, intermediate_size=[64, 160, 48, 96],
                           num_attention_heads=[2, 4, 4, 2], num_key_value_heads=[1, 4, 2, 2],
                           layer_types=["sliding_attention", "full_attention"] * 2), "spm", None, "F32"),
    "phi3-sizes": (llama(model_type="phi3", architectures=["Phi3ForCausalLM"], head_dim=16, num_key_value_heads=1,
                         original_max_position_embeddings=256, sliding_window=None,
                         intermediate_size=[96, 160, 128], num_attention_heads=[2, 4, 3]), "spm", None, "F32"),
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
    "olmo2": (llama(model_type="olmo2", architectures=["Olmo2ForCausalLM"]), "bpe", "single", "F32"),
    "olmo2-biased": (llama(model_type="olmo2", architectures=["Olmo2ForCausalLM"], num_key_value_heads=1,
                           attention_bias=True, tie_word_embeddings=True, rope_scaling=LINEAR), "bpe", "single",
                     "BF16"),
    # OLMo 3, whose GGUF files say olmo2 too: windows, and a scaling of the full layers only.
    "olmo3": (llama(model_type="olmo3", architectures=["Olmo3ForCausalLM"], num_hidden_layers=5, sliding_window=9,
                    num_attention_heads=2, rope_theta=500000.0, rope_scaling=YARN), "bpe", "sharded", "F32"),
    "olmo3-layers": (llama(model_type="olmo3", architectures=["Olmo3ForCausalLM"], sliding_window=7, rope_theta=None,
                           layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                           rope_parameters={"full_attention": {"rope_theta": 80000.0, **YARN},
                                            "sliding_attention": {"rope_type": "default", "rope_theta": 900.0}}),
                     "bpe", "single", "F32"),
    # Factors for texts up to 40 tokens and beyond, as Phi-4-mini's up to 4096 and beyond.
    "phi3-long": (llama(model_type="phi3", architectures=["Phi3ForCausalLM"], num_attention_heads=2,
                        num_key_value_heads=1, original_max_position_embeddings=40, sliding_window=None,
                        partial_rotary_factor=0.75, tie_word_embeddings=True, rope_scaling=dict(
                            type="longrope", short_factor=[1 + i / 20 for i in range(12)],
                            long_factor=[1 + i * 1.3 for i in range(12)])), "bpe", "single", "F32"),
    "ministral3": (llama(model_type="ministral3", architectures=["Ministral3ForCausalLM"], head_dim=32,
                         rope_scaling=dict(YARN, factor=8.0, original_max_position_embeddings=21, mscale=1.0,
                                           mscale_all_dim=1.0, llama_4_scaling_beta=0.3)), "bpe", "single", "F32"),
    "ministral3-window": (llama(model_type="ministral3", architectures=["Ministral3ForCausalLM"], head_dim=24,
                                num_key_value_heads=1, tie_word_embeddings=True, sliding_window=11, rope_scaling=dict(
                                    YARN, original_max_position_embeddings=16, mscale=1.0, mscale_all_dim=0.6,
                                    llama_4_scaling_beta=0.2)), "bpe", "single", "BF16"),
    # Four of five layers turn; every fourth does not.
    "smollm3": (llama(model_type="smollm3", architectures=["SmolLM3ForCausalLM"], num_hidden_layers=5,
                      tie_word_embeddings=True), "bpe", "sharded", "F32"),
    "smollm3-own-layers": (llama(model_type="smollm3", architectures=["SmolLM3ForCausalLM"], attention_bias=True,
                                 mlp_bias=True, no_rope_layers=[0, 1, 0]), "bpe", "single", "F32"),
    "granite": (llama(model_type="granite", architectures=["GraniteForCausalLM"], embedding_multiplier=3.5,
                      residual_multiplier=0.45, attention_multiplier=0.17, logits_scaling=0.7), "bpe", "single",
                "F32"),
    "granite-biased": (llama(model_type="granite", architectures=["GraniteForCausalLM"], embedding_multiplier=3.5,
                             residual_multiplier=0.45, attention_multiplier=0.17, logits_scaling=0.7,
                             attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_key_value_heads=4),
                       "bpe", "single", "BF16"),
    "qwen3-vl": (llama(model_type="qwen3_vl_text", architectures=["Qwen3VLForConditionalGeneration"], head_dim=32,
                       rope_scaling=dict(rope_type="default", mrope_interleaved=True, mrope_section=[6, 5, 5]),
                       **QWEN), "bpe", "single", "F32"),
    # Every layer turns where there is no window; with one, only those that have it.
    "exaone4": (llama(model_type="exaone4", architectures=["Exaone4ForCausalLM"], num_hidden_layers=5,
                      sliding_window=9, sliding_window_pattern=4), "bpe", "single", "F32"),
    "exaone4-small": (llama(model_type="exaone4", architectures=["Exaone4ForCausalLM"], sliding_window=None,
                            layer_types=["full_attention"] * 3, tie_word_embeddings=True,
                            rope_scaling=LLAMA3), "bpe", "single", "F32"),
    "glm4": (llama(model_type="glm4", architectures=["Glm4ForCausalLM"], head_dim=32, attention_bias=True), "bpe",
             "single", "F32"),
    "glm4-plain": (llama(model_type="glm4", architectures=["Glm4ForCausalLM"], head_dim=24, num_key_value_heads=1,
                         partial_rotary_factor=0.75), "bpe", "sharded", "F32"),
    "seed-oss": (llama(model_type="seed_oss", architectures=["SeedOssForCausalLM"], head_dim=32,
                       attention_bias=True), "bpe", "single", "F32"),
    "seed-oss-biased": (llama(model_type="seed_oss", architectures=["SeedOssForCausalLM"], head_dim=24,
                              attention_bias=True, attention_out_bias=True, mlp_bias=True, num_key_value_heads=1),
                        "bpe", "single", "F32"),
    "ernie4.5": (llama(model_type="ernie4_5", architectures=["Ernie4_5ForCausalLM"], head_dim=32,
                       tie_word_embeddings=True), "spm", "single", "F32"),
    "ernie4.5-biased": (llama(model_type="ernie4_5", architectures=["Ernie4_5ForCausalLM"], head_dim=24,
                              use_bias=True, num_key_value_heads=1), "spm", "single", "F32"),
    "hunyuan": (llama(model_type="hunyuan_v1_dense", architectures=["HunYuanDenseV1ForCausalLM"], head_dim=32,
                      tie_word_embeddings=True, rope_scaling=dict(type="dynamic", alpha=7.0, factor=1.0)), "bpe",
                "single", "F32"),
    "hunyuan-plain": (llama(model_type="hunyuan_v1_dense", architectures=["HunYuanDenseV1ForCausalLM"], head_dim=24,
                            attention_bias=True, num_key_value_heads=1), "bpe", "sharded", "F32"),
    "cohere2": (llama(model_type="cohere2", architectures=["Cohere2ForCausalLM"], num_hidden_layers=5, sliding_window=9,
                      sliding_window_pattern=4, layer_norm_eps=1e-3, logit_scale=0.6, tie_word_embeddings=True), "bpe",
                "single", "F32"),
    "cohere2-layers": (llama(model_type="cohere2", architectures=["Cohere2ForCausalLM"], sliding_window=7,
                             layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                             num_key_value_heads=1, layer_norm_eps=1e-3, logit_scale=1.7, tie_word_embeddings=True,
                             attention_bias=True), "bpe", "sharded", "BF16"),
    "starcoder2": (llama(model_type="starcoder2", architectures=["Starcoder2ForCausalLM"], use_bias=True,
                         norm_epsilon=1e-3, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True,
                         sliding_window=None), "bpe", "single", "F32"),
    "starcoder2-window": (llama(model_type="starcoder2", architectures=["Starcoder2ForCausalLM"], use_bias=False,
                                num_key_value_heads=1, norm_epsilon=1e-3, hidden_act="gelu_pytorch_tanh",
                                sliding_window=11), "bpe", "single", "F32"),
    "stablelm": (llama(model_type="stablelm", architectures=["StableLmForCausalLM"], num_attention_heads=2,
                       num_key_value_heads=1, layer_norm_eps=1e-3), "bpe", "single", "F32"),
    "stablelm-beside": (llama(model_type="stablelm", architectures=["StableLmForCausalLM"], use_qkv_bias=True,
                              use_parallel_residual=True, partial_rotary_factor=0.5, layer_norm_eps=1e-3), "bpe",
                        "single", "F32"),
    "phi2-small": (llama(model_type="phi", architectures=["PhiForCausalLM"], layer_norm_eps=1e-3,
                         hidden_act="gelu_new", num_key_value_heads=4), "bpe", "single", "F32"),
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
        if cfg.get("norm_bias") or of(cfg).norm_bias:
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
    d = cfg["hidden_size"]
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
            linear(p + "intermediate.dense", cfg["intermediate_size"], d, True)
            linear(p + "output.dense", d, cfg["intermediate_size"], True)
            layer_norm(p + "output.LayerNorm", d)
        return out
    fam = of(cfg)
    gain = "gain-1" if fam.gemma else "gain"
    hd = cfg.get("head_dim") or d // cfg["num_attention_heads"]
    qkv_bias, out_bias, feed_bias = biases(cfg)
    add("model.embed_tokens.weight", (cfg["vocab_size"], d), "embed")
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        heads, ff = in_layer(cfg["num_attention_heads"], i), in_layer(cfg["intermediate_size"], i)
        kv = in_layer(cfg["num_key_value_heads"], i)
        for name in filter(None, norms_of(cfg)):
            norm(p + name, d, gain)
        if fam.fused:
            linear(p + "self_attn.qkv_proj", (heads + 2 * kv) * hd, d, qkv_bias, True)
        else:
            linear(p + "self_attn.q_proj", heads * hd, d, qkv_bias, True)
            linear(p + "self_attn.k_proj", kv * hd, d, qkv_bias, True)
            linear(p + "self_attn.v_proj", kv * hd, d, qkv_bias)
        if fam.fused or fam.fused_gate:
            linear(p + "mlp.gate_up_proj", 2 * ff, d, feed_bias)
        elif fam.ungated:
            linear(p + fam.ungated[0], ff, d, feed_bias)
        else:
            linear(p + "mlp.gate_proj", ff, d, feed_bias)
            linear(p + "mlp.up_proj", ff, d, feed_bias)
        if fam.qk_norm:
            for name, n in zip(fam.qk_names, (heads, kv)):
                norm(p + name, hd * (n if fam.qk_norm == "width" else 1), gain)
        linear(p + fam.out, d, heads * hd, out_bias)
        linear(p + (fam.ungated[1] if fam.ungated else "mlp.down_proj"), d, ff, feed_bias)
    norm(fam.last, d, gain)
    if not cfg["tie_word_embeddings"]:
        linear("lm_head", cfg["vocab_size"], d, fam.head_bias or bool(cfg.get("head_bias")))
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
    if "scale" in row:                  # an exponent, 2^(e - 128)
        b[:, d_at] = rng.randint(124, 128, len(b))
        b[:, d_at] += np.uint8(round(math.log2(1.2 / math.sqrt(k) / decode(b.reshape(n, -1)).std())) % 256)
        return b.reshape(n, -1)
    d = rng.uniform(0.5, 1.5, len(b))
    if m_at is None:                    # formats without an offset are written with scales of both signs
        d = d * np.where(rng.randint(0, 2, len(b)), 1, -1)
    for _ in range(2):                  # once to see the spread, once with the right one
        b[:, d_at:d_at + 2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
        if m_at is not None:
            b[:, m_at:m_at + 2] = (d * offset).astype(np.float16).view(np.uint8).reshape(-1, 2)
        d = d * (1.2 / math.sqrt(k)) / decode(b.reshape(n, -1)).std()
    return b.reshape(n, -1)
