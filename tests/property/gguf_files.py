"""Random GGUF files: architectures x optional keys x biases x rope forms, as converters, savers and old programs
write them, from a seed. Tensors are F32 and there is no vocabulary (tokenizer.ggml.model "none"), so that llama.cpp
can be asked about the numbers alone.

What our program refuses is marked where it is generated: REFUSED says which word the refusal must hold. Where
llama.cpp itself computes something else than the model's authors, the feature stands in NOT_LLAMA_CPP with the
reason, and the float64 reading (gguf_truth.py) alone judges."""
import os
import random

import gguf
import numpy as np

from folders import number_of
from oracle.families import FAMILIES as ROWS_OF

REFUSED = {
    "unread tensor": ("attn_sinks", "ffn_gate_inp", "layer_output_scale"),
    "experts": ("expert",),
    "rope longrope": ("longrope",),
    "rope unknown": ("ntk",),
    "no base": ("freq_base",),          # gemma3: 1e6 to its authors, 10000 to llama.cpp
    "logit scale": ("logit_scale",),
}
NOT_LLAMA_CPP = {
    "exaone4 window": "llama.cpp knows the window of the 32B only, by its 64 layers",
    "near in a larger context": "llama.cpp is asked in a context of 256, for which it takes the other factors",
    "rope pattern": "llama.cpp's smollm3 has its own",
    "phi3 window": "llama.cpp switches the window of phi3 off (\"Phi SWA is currently disabled\")",
    "norm bias": "llama.cpp knows no bias of rms norms",
    "late bias": "llama.cpp knows this bias in other architectures only",
    "no scaling by a factor": "llama.cpp forgets rope.scaling.type none in windowed layers of gemma2",
    "length of a scaling": "llama.cpp's gemma3 lengthens windowed layers too, which are not scaled",
    "own head": "llama.cpp's gemma2 and cohere2 know no head but the embedding",
    "layers differ": "llama.cpp's loaders of these architectures take all layers for as large as the first",
    "tied": "not every architecture of llama.cpp can do without a head of its own",
    "base of windows": "not every architecture of llama.cpp obeys it (olmo2 reads it and turns by the other)",
}
# Seeds as in folders.py: numbers for the first architectures, "olmo2:7" for those that came later.
ARCHS = ("llama", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2")
ROW = {}                                # of each architecture; where it has several kinds, of the one with windows
for row in ROWS_OF.values():
    ROW[row.arch] = max(ROW.get(row.arch, row), row, key=lambda x: x.windows == "every")
LATER = tuple(a for a in ROW if a not in ARCHS + ("bert",))
ROWS = 40


class File:
    """seed, arch, keys {name: (kind, value)}, tensors {name: array}, ids, features."""

    def __init__(self, seed):
        self.seed, self.r = seed, random.Random(f"gguf {seed}")
        self.numbers = np.random.RandomState((number_of(seed) * 2654435761 + 17) % 2**32)
        self.keys, self.tensors, self.features = {}, {}, set()

    def maybe(self, chance):
        return self.r.random() < chance

    def pick(self, *values):
        return self.r.choice(values)

    def has(self, feature):
        self.features.add(feature)

    def put(self, key, kind, value):
        self.keys[f"{self.arch}.{key}"] = (kind, value)

    def u32(self, key, value):
        self.put(key, "uint32", value)

    def f32(self, key, value):
        self.put(key, "float32", float(np.float32(value)))

    def refusal(self):
        return tuple(w for f in sorted(self.features) for w in REFUSED.get(f, ()))

    def asks_llama_cpp(self):
        return not any(f in NOT_LLAMA_CPP for f in self.features)

    def draw(self, name, shape, kind):
        x = self.numbers.standard_normal(shape)
        x = x * 1.5 / shape[-1] ** 0.5 if kind == "matrix" else 1 + 0.3 * x if kind == "gain" else \
            0.5 * x if kind == "bias" else x
        self.tensors[name] = x.astype(np.float32)

    def linear(self, name, n_out, n_in, bias=False):
        self.draw(name + ".weight", (n_out, n_in), "matrix")
        if bias:
            self.draw(name + ".bias", (n_out,), "bias")


def put_rope(f, dim, context):
    """Scalings by today's keys, by yesterday's, and both at once."""
    if f.maybe(0.8):
        f.f32("rope.freq_base", f.pick(500.0, 10000.0, 1e6, 3333.0))
    elif f.arch == "gemma3":
        f.has("no base")
    kind = f.pick("none", "none", "linear", "untyped", "old", "yarn", "yarn", "factors", "factors", "other")
    factor = f.pick(2.0, 4.0, 2.5, 8.0)
    f.has("rope " + kind)
    if kind == "none":
        if f.maybe(0.3):
            f.put("rope.scaling.type", "string", "none")
            if f.maybe(0.6):
                f.f32("rope.scaling.factor", factor)
                if f.arch == "gemma2":
                    f.has("no scaling by a factor")
        elif f.maybe(0.2):
            f.f32("rope.scaling.factor", f.pick(0.0, 1.0))          # zero means none
    elif kind == "linear":
        f.put("rope.scaling.type", "string", "linear")
        f.f32("rope.scaling.factor", factor)
    elif kind == "untyped":
        f.f32("rope.scaling.factor", factor)
    elif kind == "old":
        f.f32("rope.scale_linear", factor)
        if f.maybe(0.3):
            f.f32("rope.scaling.factor", 3.0)                       # wins
        if f.maybe(0.3):
            f.put("rope.scaling.type", "string", "linear")
    elif kind == "yarn":
        f.put("rope.scaling.type", "string", "yarn")
        f.f32("rope.scaling.factor", factor)
        if f.maybe(0.85):
            f.u32("rope.scaling.original_context_length", f.pick(12, 16, 24, 32))
        if f.maybe(0.3):
            f.f32("rope.scaling.attn_factor", f.pick(0.8, 1.0, 1.25))
            if f.arch == "gemma3":
                f.has("length of a scaling")
        if f.maybe(0.3):
            f.f32("rope.scaling.yarn_beta_fast", f.pick(32.0, 16.0))
            f.f32("rope.scaling.yarn_beta_slow", f.pick(1.0, 2.0))
            f.has("yarn betas")
    elif kind == "factors" and f.arch == "llama":
        f.tensors["rope_freqs.weight"] = f.numbers.uniform(1, 8, dim // 2).astype(np.float32)
        if f.maybe(0.4):
            f.f32("rope.scaling.factor", factor)
            f.has("rope factors and linear")
            if f.maybe(0.5):
                f.put("rope.scaling.type", "string", "linear")
    elif kind == "other" and f.maybe(0.3):
        f.put("rope.scaling.type", "string", f.pick("longrope", "ntk"))
        f.has("rope longrope" if f.keys[f"{f.arch}.rope.scaling.type"][1] == "longrope" else "rope unknown")
    if f.maybe(0.15):
        f.put("rope.scaling.finetuned", "bool", f.maybe(0.5))


def put_windows(f, layers):
    window = f.pick(3, 5, 9, 16)
    if f.arch == "gemma2":
        if f.maybe(0.85):
            f.u32("attention.sliding_window", window)
    elif f.arch == "gemma3":
        if f.maybe(0.85):
            f.u32("attention.sliding_window", window)
            if f.maybe(0.5):
                f.f32("rope.freq_base_swa", f.pick(10000.0, 700.0))
    elif f.arch == "phi3" and f.maybe(0.3):
        f.u32("attention.sliding_window", window)
        f.has("phi3 window")
    elif f.arch in LATER and ROW[f.arch].windows == "every" and (f.arch == "cohere2" or f.maybe(0.6)):
        f.u32("attention.sliding_window", window)
        if f.arch == "exaone4":
            f.has("exaone4 window")
        if ROW[f.arch].own_turn and f.maybe(0.2):
            f.f32("rope.freq_base_swa", f.pick(10000.0, 700.0))
            f.has("base of windows")
    if ROW[f.arch].windows == "every" and f.maybe(0.35):
        if f.maybe(0.5):
            f.u32("attention.sliding_window_pattern", f.pick(2, 3, 6))
        else:
            some = [f.maybe(0.5) for _ in range(layers)]
            some[f.r.randrange(layers)] = True                      # llama.cpp ends itself where none is
            f.put("attention.sliding_window_pattern", "bools", some)
        f.has("window pattern")


def put_caps(f):
    """llama.cpp's saver writes 50 and 30 into the files of every family; only gemma's have them."""
    if f.arch == "gemma2":
        if f.maybe(0.7):
            f.f32("attn_logit_softcapping", f.pick(1.5, 4.0, 50.0))
        if f.maybe(0.7):
            f.f32("final_logit_softcapping", f.pick(2.0, 5.0, 30.0))
    elif f.arch == "gemma3":
        if f.maybe(0.3):
            f.f32("final_logit_softcapping", f.pick(2.0, 5.0, 30.0))
        if f.maybe(0.2):
            f.f32("attn_logit_softcapping", 2.0)
            f.has("caps of others")
    elif f.maybe(0.2):
        f.f32("attn_logit_softcapping", f.pick(50.0, 2.0))
        f.f32("final_logit_softcapping", f.pick(30.0, 2.0))
        f.has("caps of others")


def put_sizes(f):
    """heads, kv heads, head size, width, feed, layers, context, rotary size."""
    heads, hd = f.pick(2, 4, 6), f.pick(8, 16, 20)
    kv = f.pick(*[n for n in (1, 2, heads) if heads % n == 0])
    free = f.arch in ("llama", "qwen3", "gemma2", "gemma3")         # may have heads of any size
    width = f.pick(24, 48, 72) if free and f.maybe(0.5) else heads * hd
    if f.arch == "gpt2":
        kv = heads
    layers, feed, context = f.pick(1, 2, 3), f.pick(32, 44, 96), f.pick(48, 64, 200)
    if f.arch == "gemma3":
        layers = f.pick(2, 3, 7)
    if ROW[f.arch].turned:
        layers = f.pick(2, 4, 5)
    f.u32("context_length", context)
    f.u32("embedding_length", width)
    f.u32("block_count", layers)
    f.u32("feed_forward_length", feed)
    f.u32("attention.head_count", heads)
    if kv != heads or f.maybe(0.5):
        f.u32("attention.head_count_kv", kv)
    if width != heads * hd or f.maybe(0.3):
        f.u32("attention.key_length", hd)
        f.u32("attention.value_length", hd)
    for key in ("attention.head_count_kv", "feed_forward_length", "attention.head_count"):
        if f"{f.arch}.{key}" in f.keys and f.maybe(0.1):            # one number for each layer
            f.put(key, "uint32s", [f.keys[f"{f.arch}.{key}"][1]] * layers)
            twice = not key.endswith("_kv") or heads % (2 * kv) == 0
            if layers > 1 and f.maybe(0.15) and twice:
                f.keys[f"{f.arch}.{key}"][1][-1] *= 2
                f.has("layers differ")
    rot = hd
    if f.arch == "phi3" and f.maybe(0.5):
        rot = f.pick(4, hd)
    if f.arch in LATER and ROW[f.arch].part:
        rot = f.pick(4, hd // 2 // 2 * 2, hd)
    if rot != hd or f.maybe(0.5):
        if f.arch != "gpt2" or rot == hd:
            f.u32("rope.dimension_count", rot)
    eps = f.pick(1e-5, 1e-6, 3e-3, 0.02)
    keys = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon")
    keys = keys if f.arch == "gpt2" or ROW[f.arch].layer_norm else keys[::-1]
    f.f32(keys[0], eps)
    if f.maybe(0.15):                   # the other kind's, by savers that write everything
        f.f32(keys[1], 0.0)
    return heads, kv, hd, width, feed, layers, context, rot


def in_layer(f, key, i, fallback):
    """A size of layer i."""
    value = f.keys.get(f"{f.arch}.{key}", ("", fallback))[1]
    return value[i] if isinstance(value, list) else value


def put_strangers(f):
    """Keys and tensors that must not pass unseen, and such as may."""
    if f.maybe(0.03):
        f.draw(f"blk.0.{f.pick('attn_sinks.weight', 'ffn_gate_inp.weight', 'layer_output_scale.weight')}", (4,), "gain")
        f.has("unread tensor")
    if f.maybe(0.02):
        f.u32("expert_count", 4)
        f.u32("expert_used_count", 2)
        f.has("experts")
    elif f.maybe(0.2):
        f.u32("expert_count", 0)
    if ROW[f.arch].scales:
        return put_scales(f)
    if f.maybe(0.02):
        f.f32("logit_scale", 0.5)
        f.has("logit scale")
    elif f.maybe(0.2):
        f.f32("logit_scale", f.pick(0.0, 1.0))
    if f.maybe(0.2):
        f.put("attention.causal", "bool", True)
    if f.maybe(0.1):
        f.f32("residual_scale", f.pick(0.0, 1.0))


def put_scales(f):
    f.f32("logit_scale", f.pick(0.4, 3.0))
    for _, key in ROW[f.arch].scales[:-1]:
        if f.maybe(0.7):
            f.f32(key, f.pick(0.3, 2.5, 1.0, 0.0))


def put_long(f, rot):
    """From a die of its own, so that files without stay what they were."""
    r = random.Random(f"long {f.seed}")
    if f.arch != "phi3" or r.random() > 0.25:
        return
    for key in [k for k in f.keys if "rope.scal" in k]:
        del f.keys[key]
    f.features = {x for x in f.features if not x.startswith("rope ") and x != "yarn betas"}
    for which in ("long", "short"):
        f.tensors[f"rope_factors_{which}.weight"] = np.float32([r.uniform(1, 8) for _ in range(rot // 2)])
    f.near = r.choice((6, 11, 512))
    f.u32("rope.scaling.original_context_length", f.near)
    f.f32("rope.scaling.attn_factor", r.choice((1.0, 1.2)))
    if r.random() < 0.5:
        f.put("rope.scaling.type", "string", "longrope")


def put_more_rope(f, hd, layers):
    if ROW[f.arch].warms and f.maybe(0.7):
        f.f32("attention.temperature_scale", f.pick(0.1, 0.5))
        f.f32("rope.scaling.yarn_log_multiplier", f.pick(1.0, 0.5))
        f.u32("rope.scaling.original_context_length", f.pick(6, 12, 64))
        if f.keys.get(f"{f.arch}.rope.scaling.type", ("", ""))[1] != "yarn":
            f.put("rope.scaling.type", "string", "yarn")
            f.f32("rope.scaling.factor", f.pick(2.0, 8.0))
            f.features = {x for x in f.features if not x.startswith("rope ")} | {"rope yarn"}
    if ROW[f.arch].sections:
        # Axes in turn, so that llama.cpp counts every pair to one of them. Of Qwen's own 24, 20, 20 of 64 it leaves
        # pairs 61 and 62 unturned (theta_e, 0 in texts), which Qwen's code turns as the others.
        f.put("rope.dimension_sections", "uint32s", [(hd // 2 + 2 - i) // 3 for i in range(3)] + [0])
        f.u32("n_deepstack_layers", f.pick(0, 1, 3))
    if ROW[f.arch].turned == "fourth" and f.maybe(0.2):
        f.put("attention.rope_pattern", "bools", [f.maybe(0.5) for _ in range(layers)])
        f.has("rope pattern")


def make(seed):
    f = File(seed)
    f.arch = f.pick(*ARCHS) if isinstance(seed, int) else seed.partition(":")[0]
    row = ROW[f.arch]
    f.vocab = f.pick(40, 67, 96)
    heads, kv, hd, width, feed, layers, context, rot = put_sizes(f)
    if f.arch != "gpt2":
        put_rope(f, rot, context)
    put_more_rope(f, hd, layers)
    put_long(f, rot)
    put_windows(f, layers)
    put_caps(f)
    put_strangers(f)
    f.u32("vocab_size", f.vocab)
    if "layers differ" in f.features and f"{f.arch}.attention.head_count_kv" not in f.keys:
        f.u32("attention.head_count_kv", kv)                        # else each layer has as many as heads
    gemma, later = row.gemma, f.arch in LATER
    f.draw("token_embd.weight", (f.vocab, width), "plain")
    q_bias = f.arch == "gpt2" or row.qkv_bias or f.maybe(0.25)
    o_bias = f.arch == "gpt2" or f.arch == "llama" and f.maybe(0.25)
    feed_bias = f.arch == "gpt2" or f.arch == "llama" and f.maybe(0.25)
    if (f.arch in ("qwen2", "qwen3") or later) and f.maybe(0.1) and not row.layer_norm:
        o_bias = True
        f.has("late bias")
    all_biased = f.arch in ("phi2", "starcoder2")
    if all_biased:
        q_bias = o_bias = feed_bias = True
    norm_bias = f.arch == "gpt2" or row.norm_bias
    beside = row.beside == "always" or (row.beside == "said" and f.maybe(0.5))
    if row.beside == "said" and f.maybe(0.5):
        f.put("use_parallel_residual", "bool", f.maybe(0.5))    # llama.cpp, too, looks at the tensors
    if not norm_bias and f.maybe(0.04):
        norm_bias = True
        f.has("norm bias")

    def norm(name, n):
        f.draw(name + ".weight", (n,), "gain")
        if norm_bias:
            f.draw(name + ".bias", (n,), "bias")

    if f.arch == "gpt2":
        f.draw("position_embd.weight", (context, width), "plain")
    for i in range(layers):
        b = f"blk.{i}."
        heads, feed = in_layer(f, "attention.head_count", i, heads), in_layer(f, "feed_forward_length", i, feed)
        kv = in_layer(f, "attention.head_count_kv", i, kv)
        d = heads * hd
        if row.norms != "output":
            norm(b + "attn_norm", width)
            if not beside:
                norm(b + row.feed_norm, width)
        if f.arch == "gpt2" or row.fused:
            f.linear(b + "attn_qkv", d + 2 * kv * hd, width, q_bias)
        else:
            f.linear(b + "attn_q", d, width, q_bias)
            f.linear(b + "attn_k", kv * hd, width, q_bias)
            f.linear(b + "attn_v", kv * hd, width, q_bias)
        f.linear(b + "attn_output", width, d, o_bias)
        if row.qk_norm:
            norm(b + "attn_q_norm", hd * (heads if row.qk_norm == "width" else 1))
            norm(b + "attn_k_norm", hd * (kv if row.qk_norm == "width" else 1))
        if row.norms != "before":
            norm(b + "post_attention_norm", width)
            norm(b + "post_ffw_norm", width)
        if row.fused or row.fused_gate:
            f.linear(b + "ffn_up", 2 * feed, width)
        else:
            if f.arch != "gpt2" and not row.ungated:
                f.linear(b + "ffn_gate", feed, width, feed_bias)
            f.linear(b + "ffn_up", feed, width, feed_bias)
        f.linear(b + "ffn_down", width, feed, feed_bias)
    norm("output_norm", width)
    if f.maybe(0.6 if not gemma else 0.1) or row.head_bias:
        head_bias = row.head_bias or f.arch == "qwen2" and f.maybe(0.2)
        f.linear("output", f.vocab, width, head_bias)
        if f.arch in ("gemma2", "cohere2"):
            f.has("own head")
    elif later and f.arch not in ("cohere2", "starcoder2"):
        f.has("tied")
    f.ids = [f.r.randrange(f.vocab) for _ in range(f.pick(1, 12, ROWS, ROWS, 30))]
    if later and q_bias and not row.norm_bias:
        f.has("late bias")
    if getattr(f, "near", 512) < 256 and len(f.ids) <= f.near:
        f.has("near in a larger context")
    f.features.add("arch " + f.arch)
    return f


def store(f, path):
    g = gguf.GGUFWriter(path, f.arch)
    g.add_name("tiny")
    g.add_tokenizer_model("none")
    for key, (kind, value) in f.keys.items():
        if kind == "uint32s" or kind == "bools":
            g.add_array(key, value)
        else:
            getattr(g, "add_" + kind)(key, value)
    for name, x in f.tensors.items():
        g.add_tensor(name, x)
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_tensors_to_file()
    g.close()
    return os.path.getsize(path)
