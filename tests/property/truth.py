"""The float64 answer of a Hugging Face folder, read independently of the C program: config.json through
transformers' own configuration classes, weights through the safetensors package, and the meaning of both from
transformers' modeling files. Where transformers passes tensors over that its class does not know, ours is the
stricter rule: a bias counts when the file has it."""
import glob
import json
import math
import os

import numpy as np

from arithmetic import Layer, Plan, Turn, frequencies, llama3_turn, yarn_turn
from oracle.families import COHERE, FAMILIES, norm_names

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
import safetensors  # noqa: E402
from transformers import AutoConfig  # noqa: E402

TYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64}
ACTS = {"silu": "silu", "swish": "silu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu_erf"}


def load_weights(folder):
    """name -> float32, from every safetensors file of the folder."""
    w = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with open(path, "rb") as f:
            data = f.read()
        for name, t in safetensors.deserialize(data):
            if t["dtype"] == "BF16":
                x = (np.frombuffer(t["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                x = np.frombuffer(t["data"], TYPES[t["dtype"]]).astype(np.float32)
            w[name] = x.reshape(t["shape"])
    return w


class Tensors:
    """Names without the wrappers that differ between the classes that save a model."""

    def __init__(self, weights):
        self.w = {}
        for name, x in weights.items():
            for wrapper in ("model.language_model.", "language_model.model.", "language_model.", "model.",
                            "transformer.", "bert."):
                if name.startswith(wrapper):
                    name = name[len(wrapper):]
                    break
            self.w[name.replace(".gamma", ".weight").replace(".beta", ".bias")] = x

    def pair(self, name, add=0.0, turned=False):
        x = self.w[name + ".weight"].astype(np.float64) + add
        return (x.T if turned else x), self.w.get(name + ".bias")

    def maybe(self, name):
        return self.pair(name) if name + ".weight" in self.w else None


def turn_of(c, parameters, dim):
    """modeling_rope_utils.py's functions; `parameters` as the configuration class standardised them."""
    kind, base = parameters["rope_type"], parameters["rope_theta"]
    if FAMILIES[c.model_type].alpha and kind == "dynamic" and parameters.get("alpha"):
        base, kind = base * parameters["alpha"] ** (dim / (dim - 2)), "default"
    if kind == "default":
        return Turn(frequencies(dim, base), 1.0, base)
    if kind == "longrope":
        return long_turn(c, parameters, dim)
    factor = parameters["factor"]
    if kind == "linear":
        return Turn(frequencies(dim, base) / factor, 1.0, base)
    original = parameters["original_max_position_embeddings"]
    if kind == "llama3":
        return llama3_turn(dim, base, factor, parameters["low_freq_factor"], parameters["high_freq_factor"],
                           original)
    if kind != "yarn":
        raise NotImplementedError(kind)

    def magnitude(by):
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1

    length = parameters.get("attention_factor")
    if length is None:
        mscale, of_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
        length = magnitude(mscale) / magnitude(of_all) if mscale and of_all else magnitude(1)
    return yarn_turn(dim, base, factor, original, parameters.get("beta_fast") or 32,
                     parameters.get("beta_slow") or 1, parameters.get("truncate", True), length)


def long_turn(c, parameters, dim):
    near, base = parameters["original_max_position_embeddings"], parameters["rope_theta"]
    factor = parameters.get("factor") or c.max_position_embeddings / near
    length = parameters.get("attention_factor")
    if length is None:
        length = math.sqrt(1 + math.log(factor) / math.log(near)) if factor > 1 else 1.0
    f = frequencies(dim, base)
    return Turn(f / np.array(parameters["short_factor"]), length, None, f / np.array(parameters["long_factor"]), near)


def head_of(c, t):
    """modeling_utils.tie_weights: tied when the configuration says so, unless the file holds two that differ; of
    tied ones the file may hold either."""
    embed, head = t.w.get("embed_tokens.weight", t.w.get("wte.weight")), t.w.get("lm_head.weight")
    if c.tie_word_embeddings and head is None:
        head = embed
    if c.tie_word_embeddings and embed is None:
        embed = head
    return embed, (head, t.w.get("lm_head.bias"))


def decoder(c, t):
    kind, row = c.model_type, FAMILIES[c.model_type]
    gemma = row.gemma
    hd = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    embed, head = head_of(c, t)
    p = Plan(heads=c.num_attention_heads, kv=c.num_key_value_heads, hd=hd, eps=getattr(c, row.eps),
             act=ACTS[c.hidden_activation if gemma else c.hidden_act],
             scale=(c.query_pre_attn_scalar if gemma else hd) ** -0.5, embed=embed, head=head,
             qk_width=row.qk_norm == "width", qk_late=row.qk_norm == "turned", pairs=row.folder_pairs,
             layer_norm=row.layer_norm,
             beside=row.beside == "always" or row.beside == "said" and c.use_parallel_residual)
    if row.scales == COHERE:
        p.divide = 1 / c.logit_scale
    elif row.scales:
        p.scale, p.embed_scale = c.attention_multiplier, c.embedding_multiplier
        p.added, p.divide = c.residual_multiplier, c.logits_scaling
    if row.warms:
        p.warm = c.rope_parameters["llama_4_scaling_beta"]
        p.span = c.rope_parameters["original_max_position_embeddings"]
    if gemma:
        p.embed_scale = math.sqrt(c.hidden_size)
        p.final_cap = c.final_logit_softcapping or 0.0
    if "attention" in row.caps:         # Gemma3Attention hands no cap to its attention
        p.cap = c.attn_logit_softcapping or 0.0
    one = 1.0 if gemma else 0.0
    for i in range(c.num_hidden_layers):
        n = f"layers.{i}."
        layer = Layer(o=t.pair(n + row.out), down=t.pair(n + (row.ungated or ("", "mlp.down_proj"))[1]))
        if row.fused:
            w, b = t.pair(n + "self_attn.qkv_proj")
            cut = [p.heads * hd, (p.heads + p.kv) * hd]
            layer.q, layer.k, layer.v = zip(np.split(w, cut), [None] * 3 if b is None else np.split(b, cut))
        else:
            layer.q, layer.k, layer.v = (t.pair(n + f"self_attn.{x}_proj") for x in "qkv")
        if row.ungated:
            layer.up = t.pair(n + row.ungated[0])
        elif row.fused or row.fused_gate:
            w, b = t.pair(n + "mlp.gate_up_proj")
            layer.gate, layer.up = zip(np.split(w, 2), [None] * 2 if b is None else np.split(b, 2))
        else:
            layer.gate, layer.up = t.pair(n + "mlp.gate_proj"), t.pair(n + "mlp.up_proj")
        if row.qk_norm:
            layer.q_norm, layer.k_norm = (t.pair(n + name, one) for name in row.qk_names)
        names = norm_names(row) if not p.beside else (norm_names(row)[0], None, None, None)
        layer.norm1, layer.after1, layer.norm2, layer.after2 = (name and t.pair(n + name, one) for name in names)
        layer.window = window_of(c, i)
        rope = c.rope_parameters
        if "full_attention" in rope:
            rope = rope[c.layer_types[i]]
        part = rope.get("partial_rotary_factor", 1.0) if row.part else 1.0
        layer.turn = turn_of(c, rope, int(hd * part)) if turns(c, i) else None
        p.layers.append(layer)
    p.final_norm = t.pair(row.last.partition(".")[2], one)
    return p


def turns(c, i):
    if FAMILIES[c.model_type].turned == "fourth":
        return c.no_rope_layers[i]
    if FAMILIES[c.model_type].turned == "window only":
        return window_of(c, i)
    return FAMILIES[c.model_type].turned != "window" or c.sliding_window is None or window_of(c, i)


def window_of(c, i):
    windows = FAMILIES[c.model_type].windows
    if windows in ("", "all"):
        return (c.sliding_window or 0) if windows else 0
    return (c.sliding_window or 0) if c.layer_types[i] == "sliding_attention" else 0


def gpt2(c, t):
    hd = c.n_embd // c.n_head
    embed, head = head_of(c, t)
    p = Plan(heads=c.n_head, kv=c.n_head, hd=hd, eps=c.layer_norm_epsilon, act=ACTS[c.activation_function],
             scale=hd ** -0.5, embed=embed, head=head, layer_norm=True, positions=t.w["wpe.weight"])
    for i in range(c.n_layer):
        n = f"h.{i}."
        w, b = t.pair(n + "attn.c_attn", turned=True)
        layer = Layer(o=t.pair(n + "attn.c_proj", turned=True), up=t.pair(n + "mlp.c_fc", turned=True),
                      down=t.pair(n + "mlp.c_proj", turned=True), norm1=t.pair(n + "ln_1"), norm2=t.pair(n + "ln_2"))
        layer.q, layer.k, layer.v = zip(np.split(w, 3), np.split(b, 3))
        p.layers.append(layer)
    p.final_norm = t.pair("ln_f")
    return p


def bert(c, t):
    hd = c.hidden_size // c.num_attention_heads
    e = "embeddings."
    p = Plan(heads=c.num_attention_heads, kv=c.num_attention_heads, hd=hd, eps=c.layer_norm_eps,
             act=ACTS[c.hidden_act], scale=hd ** -0.5, embed=t.w[e + "word_embeddings.weight"], layer_norm=True,
             post=True, causal=False, positions=t.w[e + "position_embeddings.weight"],
             types=t.w[e + "token_type_embeddings.weight"], embed_norm=t.pair(e + "LayerNorm"))
    for i in range(c.num_hidden_layers):
        n = f"encoder.layer.{i}."
        q, k, v = (t.pair(n + "attention.self." + x) for x in ("query", "key", "value"))
        p.layers.append(Layer(q=q, k=k, v=v, o=t.pair(n + "attention.output.dense"),
                              up=t.pair(n + "intermediate.dense"), down=t.pair(n + "output.dense"),
                              norm1=t.pair(n + "attention.output.LayerNorm"), norm2=t.pair(n + "output.LayerNorm")))
    return p


def plan(folder):
    """What the folder computes."""
    c = AutoConfig.from_pretrained(folder)
    if c.model_type == "qwen3_vl_text":     # whose class leaves that to the whole's
        c.tie_word_embeddings = json.load(open(os.path.join(folder, "config.json"))).get("tie_word_embeddings", False)
    if c.model_type == "gemma3":
        tied = json.load(open(os.path.join(folder, "config.json"))).get("tie_word_embeddings")
        c = c.text_config
        if tied is not None:
            c.tie_word_embeddings = tied
    t = Tensors(load_weights(folder))
    return {"gpt2": gpt2, "bert": bert}.get(c.model_type, decoder)(c, t)
