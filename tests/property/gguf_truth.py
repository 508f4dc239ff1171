"""The float64 answer of a GGUF file, read with the gguf package; what each key means is taken from llama.cpp's
loader (llama-model.cpp, llama-context.cpp and models/*.cpp of the version that ./dev peers builds)."""
import math

import gguf
import numpy as np

from arithmetic import Layer, Plan, Turn, frequencies, yarn_turn
from gguf_files import ROW
from oracle.families import COHERE


class Keys:
    def __init__(self, reader, arch):
        self.fields, self.arch = reader.fields, arch

    def get(self, key, default=None):
        f = self.fields.get(f"{self.arch}.{key}")
        return default if f is None else f.contents()

    def size(self, key, default=None):
        """A number of the first layer, where there is one for each."""
        return self.in_layer(key, 0, default)

    def in_layer(self, key, i, default=None):
        v = self.get(key, default)
        return v[i] if isinstance(v, list) else v


def read(path):
    r = gguf.GGUFReader(path)
    arch = r.fields["general.architecture"].contents()
    w = {t.name: np.array(t.data, np.float32).reshape([int(n) for n in reversed(t.shape)]) for t in r.tensors}
    return arch, Keys(r, arch), w


def turns(k, w, dim, base, context):
    """(of full layers, of windowed layers): llama-context.cpp's constructor and ggml's rope."""
    f = frequencies(dim, base)
    factor = k.get("rope.scaling.factor")
    if factor is None:
        factor = k.get("rope.scale_linear", 0.0)
    factor = factor or 1.0
    kind = k.get("rope.scaling.type", "linear")
    if kind == "none":
        factor = 1.0
    if "rope_freqs.weight" in w:
        f = f / w["rope_freqs.weight"].astype(np.float64)
    plain = k.get("rope.scaling.attn_factor", 1.0)
    if "rope_factors_long.weight" in w:
        near, far = (f / w[f"rope_factors_{x}.weight"].astype(np.float64) for x in ("short", "long"))
        return Turn(near / factor, plain, None, far / factor, k.get("rope.scaling.original_context_length", context))
    if kind != "yarn":
        return Turn(f / factor, plain, base)
    back = 0.1 * k.get("rope.scaling.yarn_log_multiplier", 0.0)
    length = (0.1 * math.log(factor) + 1) / (back * math.log(factor) + 1) * plain if factor > 1 else plain
    return yarn_turn(dim, base, factor, k.get("rope.scaling.original_context_length") or context,
                     k.get("rope.scaling.yarn_beta_fast", 32.0), k.get("rope.scaling.yarn_beta_slow", 1.0), True,
                     length)


def windowed(k, arch, i):
    if not k.get("attention.sliding_window", 4096 if arch == "gemma2" else 0):
        return False
    every = ROW[arch].every
    pattern = k.get("attention.sliding_window_pattern", every or 1)
    if isinstance(pattern, list):
        return bool(pattern[i])
    return i % pattern < pattern - 1 if every else ROW[arch].windows == "all"


def turned(k, row, i, inside):
    """smollm3.cpp, exaone4.cpp, granite.cpp"""
    if row.turned == "fourth":
        pattern = k.get("attention.rope_pattern")           # of granite-swa.cpp; ours in smollm3
        return pattern[i] if pattern else i % 4 != 3
    if row.turned == "window only":
        return inside
    if row.turned == "window":
        return inside or not k.get("attention.sliding_window")
    return not row.scales or k.get("rope.scaling.finetuned", True)


def plan(path):
    arch, k, w = read(path)
    row, gpt2 = ROW[arch], arch == "gpt2"
    gemma = row.gemma
    heads, width = k.size("attention.head_count"), k.get("embedding_length")
    kv = k.size("attention.head_count_kv", heads)
    hd = k.get("attention.key_length", width // heads)
    context = k.get("context_length")
    eps = k.get("attention.layer_norm_epsilon" if gpt2 or row.layer_norm else "attention.layer_norm_rms_epsilon")

    def pair(name):
        return w[name + ".weight"], w.get(name + ".bias")

    p = Plan(heads=heads, kv=kv, hd=hd, eps=eps, act="gelu_tanh" if gemma or gpt2 or row.ungated else "silu",
             scale=hd ** -0.5, embed=w["token_embd.weight"], layer_norm=gpt2 or row.layer_norm, pairs=row.pairs,
             qk_width=row.qk_norm == "width",
             embed_scale=math.sqrt(width) if gemma else 1.0, positions=w.get("position_embd.weight"),
             final_norm=pair("output_norm"))
    p.head = w.get("output.weight", p.embed), w.get("output.bias")
    if row.warms:
        p.warm = k.get("attention.temperature_scale", 0.0)
        p.span = k.get("rope.scaling.original_context_length") or context
    p.qk_late = row.qk_norm == "turned"
    p.beside = row.beside and "blk.0.ffn_norm.weight" not in w
    if row.scales == COHERE:
        p.divide = 1 / k.get("logit_scale")
    elif row.scales:
        p.scale = k.get("attention.scale", 0.0) or p.scale
        p.embed_scale, p.added = k.get("embedding_scale", 0.0) or 1.0, k.get("residual_scale", 0.0) or 1.0
        p.divide = k.get("logit_scale")
    if "attention" in row.caps:
        p.cap = k.get("attn_logit_softcapping", 50.0)
    if gemma:
        p.final_cap = k.get("final_logit_softcapping", 30.0 if "attention" in row.caps else 0.0)
    base = k.get("rope.freq_base", 10000.0)
    for i in range(k.get("block_count")):
        b = f"blk.{i}."
        heads = k.in_layer("attention.head_count", i)
        kv = k.in_layer("attention.head_count_kv", i) or heads
        layer = Layer(heads=heads, kv=kv, o=pair(b + "attn_output"), down=pair(b + "ffn_down"))
        if row.norms != "output":
            layer.norm1 = pair(b + "attn_norm")
            layer.norm2 = None if p.beside else pair(b + row.feed_norm)
        if gpt2 or row.fused:
            m, bias = pair(b + "attn_qkv")
            cut = [heads * hd, (heads + kv) * hd]
            layer.q, layer.k, layer.v = zip(np.split(m, cut), [None] * 3 if bias is None else np.split(bias, cut))
        else:
            layer.q, layer.k, layer.v = (pair(b + "attn_" + x) for x in "qkv")
        if row.fused or row.fused_gate:
            gate, up = np.split(w[b + "ffn_up.weight"], 2)
            layer.gate, layer.up = (gate, None), (up, None)
        else:
            layer.gate, layer.up = None if gpt2 or row.ungated else pair(b + "ffn_gate"), pair(b + "ffn_up")
        if b + "attn_q_norm.weight" in w:
            layer.q_norm, layer.k_norm = pair(b + "attn_q_norm"), pair(b + "attn_k_norm")
        if row.norms != "before":
            layer.after1, layer.after2 = pair(b + "post_attention_norm"), pair(b + "post_ffw_norm")
        inside = windowed(k, arch, i)
        if inside:
            layer.window = k.get("attention.sliding_window", 4096)
        if not gpt2 and turned(k, row, i, inside):
            dim = k.get("rope.dimension_count", hd)
            if row.own_turn and inside:
                local = k.get("rope.freq_base_swa", row.local_base or base)
                layer.turn = Turn(frequencies(dim, local), 1.0, local)
            else:
                layer.turn = turns(k, w, dim, base, context)
        p.layers.append(layer)
    return p
