"""The forward pass of every family, written from the papers and from what Hugging Face checkpoints mean.

It reads the names and the config.json of a Hugging Face checkpoint, so it shares neither vocabulary nor
code with the C program. One row of `ids` in, one row of logits (decoders) or hidden state (encoders) out.
Slow and plain on purpose: whole score matrices, no cache, no batching.

How numbers are added is a parameter (`Arith`): float64 is the truth; float32 in several orders says how
far honest float32 arithmetic may stray; rounding the cache or the activations says what those cost.
"""
import math

import numpy as np

from .families import factor_of, in_layer, beside, norms_of, of, rotary_size, turning


class Arith:
    """dtype: of every number. order: how the terms of a product are added up. cache: "f32", "f16" or
    "q8_0", what keys and values are rounded to. acts: None, "bf16", or the group size in which activations
    are rounded to int8, before they meet a matrix named in `coarse` (None: any matrix). flaw: a planted
    mistake, for checking that the comparison would notice one."""

    def __init__(self, dtype=np.float64, order="plain", cache=None, acts=None, coarse=None, flaw=None):
        self.t, self.order, self.cache, self.acts = dtype, order, cache, acts
        self.coarse, self.flaw = coarse, flaw

    def cast(self, x):
        return np.asarray(x).astype(self.t)

    def dot(self, x, w):
        """x [.., k] times w [n, k] transposed."""
        k = x.shape[-1]
        if self.order == "reversed":
            return x[..., ::-1] @ np.swapaxes(w[..., ::-1], -1, -2)
        if self.order == "chunks":
            out = x[..., :8] @ np.swapaxes(w[..., :8], -1, -2)
            for i in range(8, k, 8):
                out = out + x[..., i:i + 8] @ np.swapaxes(w[..., i:i + 8], -1, -2)
            return out
        return x @ np.swapaxes(w, -1, -2)

    def linear(self, x, w, b=None, name=""):
        if self.acts and (self.coarse is None or name in self.coarse):
            x = round_bf16(x) if self.acts == "bf16" else round_int8(x, self.acts)
        y = self.dot(x, self.cast(w))
        return y if b is None else y + self.cast(b)

    def stored(self, x):
        """What the cache gives back for x [.., head_dim]."""
        if self.cache == "f16":
            return x.astype(np.float16).astype(self.t)
        if self.cache == "q8_0":
            return round_int8(x, 32)
        return x


def round_int8(x, group):
    shape = x.shape
    pad = -shape[-1] % group
    flat = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pad)]) if pad else x
    g = flat.reshape(*flat.shape[:-1], -1, group)
    scale = np.abs(g).max(axis=-1, keepdims=True) / 127
    q = np.where(scale > 0, np.rint(g / np.where(scale > 0, scale, 1)), 0) * scale
    return q.reshape(flat.shape)[..., :shape[-1]].astype(x.dtype)


def round_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return (((u + 0x7FFF + ((u >> 16) & 1)) >> 16 << 16).astype(np.uint32)).view(np.float32).astype(x.dtype)


def wide(x):
    """As float64; complex numbers, by which derivatives are taken, stay what they are."""
    return np.asarray(x) if np.iscomplexobj(x) else np.asarray(x, np.float64)


def rms_norm(a, x, w, eps):
    w = a.cast(w)
    if a.flaw == "eps":
        eps = eps * 4
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + a.t(eps)) * w


def layer_norm(a, x, w, b, eps):
    if a.flaw == "eps":
        eps = eps * 4
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + a.t(eps)) * a.cast(w) + a.cast(b)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    c = x.dtype.type(math.sqrt(2 / math.pi))
    return x / 2 * (1 + np.tanh(c * (x + x.dtype.type(0.044715) * x * x * x)))


def gelu_erf(x):
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return (x / 2 * (1 + erf(x.astype(np.float64) / math.sqrt(2)))).astype(x.dtype)


ACT = {"silu": silu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh, "gelu": gelu_erf}
SWAP = {"silu": gelu_tanh, "gelu_new": gelu_erf, "gelu_pytorch_tanh": gelu_erf, "gelu": gelu_tanh}


def activation(a, name):
    return (SWAP if a.flaw == "activation" else ACT)[name]


def rope_frequencies(dim, base, scaling, rows=0):
    """Turns per position of each pair, and the factor on the rotated vector's length.

    linear: arXiv 2306.15595. yarn: arXiv 2309.00071, with the corrections of its reference code.
    llama3: the wave-length rule of Llama 3.1's release. All are computed in float64. "divide" (a number
    for each pair) and "length" come on top of any of them, as ggml's rope takes them. longrope: arXiv 2402.13753, by
    how many rows there are."""
    scaling = dict(scaling or {})
    divide, more = scaling.pop("divide", 1.0), scaling.pop("length", 1.0)
    if scaling.get("rope_type") == "longrope":
        far = rows > scaling["original_max_position_embeddings"]
        f, _ = scaled_frequencies(dim, base, {})
        return f / np.array(scaling["long_factor" if far else "short_factor"]), scaling["attention_factor"]
    f, length = scaled_frequencies(dim, base, scaling)
    return f / divide, length * more


def scaled_frequencies(dim, base, scaling):
    f = base ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    kind = (scaling or {}).get("rope_type") or (scaling or {}).get("type")
    if kind in (None, "default"):
        return f, 1.0
    factor = scaling["factor"]
    if kind == "linear":
        return f / factor, 1.0
    old = scaling["original_max_position_embeddings"]
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        wave = 2 * math.pi / f
        smooth = (old / wave - low) / (high - low)
        mixed = (1 - smooth) * f / factor + smooth * f
        return np.where(wave < old / high, f, np.where(wave > old / low, f / factor, mixed)), 1.0
    if kind == "yarn":
        def at(turns):                  # the pair that turns this often within the old context
            return dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(base))
        low = max(math.floor(at(scaling.get("beta_fast") or 32)), 0)
        high = min(math.ceil(at(scaling.get("beta_slow") or 1)), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
        length = 0.1 * math.log(factor) + 1
        if scaling.get("mscale") and scaling.get("mscale_all_dim"):
            by = [0.1 * scaling[k] * math.log(factor) + 1 for k in ("mscale", "mscale_all_dim")]
            length = by[0] / by[1]
        length = scaling.get("attention_factor") or length
        return f / factor * ramp + f * (1 - ramp), length
    raise ValueError(f"rope scaling {kind}")


def rope(a, x, freq, length, pairs=False):
    """x [rows, heads, head_dim]; the first 2*len(freq) dimensions turn, first half with second half, or neighbours
    with each other. (Where they are put is no matter: queries and keys have it alike.)"""
    h = len(freq)
    pos = np.arange(x.shape[0]) + (1 if a.flaw == "position" else 0)
    # float32 programs multiply a float32 frequency by the position: that rounding is theirs, so the
    # float32 variants make it too.
    angle = (a.cast(pos)[:, None] * a.cast(freq)[None, :])[:, None, :]
    cos, sin = np.cos(angle) * a.t(length), np.sin(angle) * a.t(length)
    u, v, rest = x[..., :h], x[..., h:2 * h], x[..., 2 * h:]
    if (a.flaw == "pairs") != pairs:
        u, v = x[..., 0:2 * h:2], x[..., 1:2 * h:2]
    return np.concatenate([u * cos - v * sin, v * cos + u * sin, rest], axis=-1)


def attend(a, q, k, v, scale, causal=True, window=0, cap=0.0):
    """q [rows, heads, d], k and v [rows, kv heads, d] -> [rows, heads * d]."""
    n, heads, _ = q.shape
    k, v = a.stored(k), a.stored(v)
    group = heads // k.shape[1]
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    hidden = np.zeros((n, n), bool)
    if causal:
        hidden |= j > i
    if window:
        hidden |= j <= i - (window - 1 if a.flaw == "window" else window)
    out = []
    for h in range(heads):
        s = a.dot(q[:, h], k[:, h // group]) * a.t(scale)
        if cap and a.flaw != "cap":
            s = a.t(cap) * np.tanh(s / a.t(cap))
        s = np.where(hidden, a.t(-np.inf), s)
        p = np.exp(s - s.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        out.append(a.dot(p, v[:, h // group].T))
    return np.stack(out, axis=1).reshape(n, -1)


def layer_windows(cfg):
    """Which layers see only the window: what config.json says, else what the family's class has."""
    n, fam = cfg["num_hidden_layers"], of(cfg)
    if fam.windows == "above" and not cfg.get("use_sliding_window"):
        return [False] * n
    if not fam.windows or not cfg.get("sliding_window"):
        return [False] * n
    if cfg.get("layer_types"):
        return [t == "sliding_attention" for t in cfg["layer_types"]]
    if fam.windows == "above":
        return [i >= cfg.get("max_window_layers", 28) for i in range(n)]
    every = cfg.get("sliding_window_pattern", fam.every) if "sliding_window_pattern" in fam.older else fam.every
    return usual_windows(n, every)


def usual_windows(n, every):
    """All but every so manieth layer; 0: all."""
    return [not every or (i + 1) % every != 0 for i in range(n)]


def full_base(cfg):
    full = (cfg.get("rope_parameters") or {}).get("full_attention") or {}
    base, scaling = full.get("rope_theta") or cfg["rope_theta"], cfg.get("rope_scaling") or {}
    hd = cfg.get("head_dim") or 0
    return base * scaling["alpha"] ** (hd / (hd - 2)) if of(cfg).alpha and scaling.get("alpha") else base


def scaling_of(cfg):
    """Of the layers that see all."""
    full = (cfg.get("rope_parameters") or {}).get("full_attention") or {}
    scaling = full or cfg.get("rope_scaling") or {}
    if scaling.get("long_factor"):      # Phi3Config has the first context beside its sizes
        old, new = cfg["original_max_position_embeddings"], cfg["max_position_embeddings"]
        length = math.sqrt(1 + math.log(new / old) / math.log(old)) if new > old else 1.0
        return {"attention_factor": length, **scaling, "rope_type": "longrope", "original_max_position_embeddings": old}
    return {} if of(cfg).alpha and scaling.get("alpha") else scaling


def local_base(cfg):
    """The base of the layers with a window, where the family has one for them."""
    local = (cfg.get("rope_parameters") or {}).get("sliding_attention") or {}
    return local.get("rope_theta") or cfg.get("rope_local_base_freq") or of(cfg).local_base or full_base(cfg)


def decoder(cfg, w, ids, a):
    """Every family that is a row of choices: rotary, gated, with RMS norms."""
    fam = of(cfg)
    hd = cfg.get("head_dim") or cfg["hidden_size"] // cfg["num_attention_heads"]
    eps = cfg[fam.eps]
    base = full_base(cfg) * (2 if a.flaw == "base" else 1)
    rotary = rotary_size(cfg, hd)
    scaling = scaling_of(cfg)
    turn = rope_frequencies(rotary, base, scaling, 0 if a.flaw == "far" else len(ids))
    warm = scaling.get("llama_4_scaling_beta", 0.0) if fam.warms and a.flaw != "warm" else 0.0
    turn_local = rope_frequencies(rotary, local_base(cfg), None) if fam.own_turn else turn
    act = activation(a, cfg.get("hidden_activation") or cfg.get("hidden_act") or "gelu_pytorch_tanh")
    scale = (cfg["query_pre_attn_scalar"] if fam.gemma else hd) ** -0.5
    if "attention_multiplier" in dict(fam.scales) and a.flaw != "attention_multiplier":
        scale = factor_of(cfg, "attention_multiplier")
    added = 1.0 if a.flaw == "residual_multiplier" else factor_of(cfg, "residual_multiplier")
    cap = cfg.get("attn_logit_softcapping") or 0.0
    window, windowed = cfg.get("sliding_window") or 0, layer_windows(cfg)
    turns = turning(cfg, windowed) if a.flaw != "turned" else [True] * len(windowed)

    def norm(x, name):
        g = wide(w[name + ".weight"])
        if fam.layer_norm:
            return layer_norm(a, x, g, w.get(name + ".bias", np.zeros(len(g))), eps)
        y, bias = rms_norm(a, x, g + 1 if fam.gemma else g, eps), w.get(name + ".bias")
        return y if bias is None else y + a.cast(bias)

    def qk_norm(x, name):
        """Of all heads [n, heads, hd] as one row, or of each."""
        over_width = fam.qk_norm == "width"
        if a.flaw == "qk":              # the wrong of the two, with the gains that there are
            g = wide(w[name + ".weight"])
            one = rms_norm(a, x, np.ones(hd), eps) if over_width else \
                rms_norm(a, x.reshape(n, -1), np.ones(x.shape[1] * hd), eps).reshape(x.shape)
            return one * a.cast(g.reshape(x.shape[1], hd) if over_width else g + 1 if fam.gemma else g)
        return norm(x.reshape(n, -1), name).reshape(x.shape) if over_width else norm(x, name)

    def block(x, f, before, after):
        """x and what f adds, with the norms that the family has."""
        if a.flaw == "norms":           # those of the other end
            before, after = after, (None if before and after else before)
        y = f(norm(x, before) if before else x)
        return x + (norm(y, after) if after else y) * a.t(added)

    def lin(x, name):
        return a.linear(x, w[name + ".weight"], w.get(name + ".bias"), name)

    x = a.cast(w["model.embed_tokens.weight"])[ids]
    if fam.gemma:
        x = x * a.t(math.sqrt(cfg["hidden_size"]))
    x = x * a.t(factor_of(cfg, "embedding_multiplier"))
    n, norms = len(ids), norms_of(cfg)
    for il in range(cfg["num_hidden_layers"]):
        p, sliding, n_head = f"model.layers.{il}.", windowed[il], in_layer(cfg["num_attention_heads"], il)
        n_kv = in_layer(cfg.get("num_key_value_heads") or cfg["num_attention_heads"], il)

        def attention(y):
            if fam.fused:
                qkv = lin(y, p + "self_attn.qkv_proj")
                q, k, v = np.split(qkv, [n_head * hd, (n_head + n_kv) * hd], axis=-1)
            else:
                q, k, v = (lin(y, p + f"self_attn.{c}_proj") for c in "qkv")
            q, k, v = q.reshape(n, n_head, hd), k.reshape(n, n_kv, hd), v.reshape(n, n_kv, hd)
            late = (fam.qk_norm == "turned") != (a.flaw == "early")
            if fam.qk_norm and not late:
                q, k = (qk_norm(x, p + name) for x, name in zip((q, k), fam.qk_names))
            freq = turn_local if sliding else turn
            if a.flaw != "rope" and turns[il]:
                q, k = rope(a, q, *freq, fam.folder_pairs), rope(a, k, *freq, fam.folder_pairs)
            if warm:
                spans = np.arange(n) // scaling["original_max_position_embeddings"]
                q = q * (1 + a.t(warm) * np.log(a.cast(1 + spans)))[:, None, None]
            if fam.qk_norm and late:
                q, k = (qk_norm(x, p + name) for x, name in zip((q, k), fam.qk_names))
            return lin(attend(a, q, k, v, scale, True, window if sliding else 0, cap), p + fam.out)

        def feed(y):
            if fam.ungated:
                return lin(act(lin(y, p + fam.ungated[0])), p + fam.ungated[1])
            if fam.fused or fam.fused_gate:
                gate, up = np.split(lin(y, p + "mlp.gate_up_proj"), 2, axis=-1)
            else:
                gate, up = lin(y, p + "mlp.gate_proj"), lin(y, p + "mlp.up_proj")
            return lin(act(gate) * up, p + "mlp.down_proj")

        before, after, before2, after2 = (name and p + name for name in norms)
        if beside(cfg):
            y = norm(x, before)
            first = attention(y)
            x = x + first + feed(norm(x + first, before) if a.flaw == "beside" else y)
            continue
        x = block(x, attention, before, after)
        x = block(x, feed, before2, after2)
    x = norm(x, fam.last)
    if a.flaw != "logit_scale":
        x = x * a.t(factor_of(cfg, "logit_scale"))
    if a.flaw != "logits_scaling":
        x = x / a.t(factor_of(cfg, "logits_scaling"))
    head = w.get("lm_head.weight")
    y = a.linear(x, w["model.embed_tokens.weight"] if head is None else head,
                 w.get("lm_head.bias"), "lm_head")
    cap = cfg.get("final_logit_softcapping")
    return a.t(cap) * np.tanh(y / a.t(cap)) if cap else y


def gpt2(cfg, w, ids, a):
    """Radford et al. 2019. Its matrices are stored [in, out]."""
    heads, eps = cfg["n_head"], cfg["layer_norm_epsilon"]
    n, d = len(ids), cfg["n_embd"]
    act = activation(a, cfg["activation_function"])

    def norm(x, name):
        return layer_norm(a, x, w[name + ".weight"], w[name + ".bias"], eps)

    def lin(x, name):
        return a.linear(x, np.asarray(w[name + ".weight"]).T, w[name + ".bias"], name)

    at = np.arange(n) + (1 if a.flaw == "position" else 0)
    x = a.cast(w["transformer.wte.weight"])[ids] + a.cast(w["transformer.wpe.weight"])[at]
    for il in range(cfg["n_layer"]):
        p = f"transformer.h.{il}."
        y = lin(norm(x, p + "ln_1"), p + "attn.c_attn")
        q, k, v = (s.reshape(n, heads, d // heads) for s in np.split(y, 3, axis=-1))
        x = x + lin(attend(a, q, k, v, (d // heads) ** -0.5), p + "attn.c_proj")
        x = x + lin(act(lin(norm(x, p + "ln_2"), p + "mlp.c_fc")), p + "mlp.c_proj")
    x = norm(x, "transformer.ln_f")
    return a.linear(x, w["transformer.wte.weight"], None, "lm_head")


def bert(cfg, w, ids, a):
    """Devlin et al. 2018: the encoder, all tokens of one segment; hidden states of the last layer."""
    heads, eps = cfg["num_attention_heads"], cfg["layer_norm_eps"]
    n, d = len(ids), cfg["hidden_size"]
    act = activation(a, cfg["hidden_act"])

    def norm(x, name):
        return layer_norm(a, x, w[name + ".weight"], w[name + ".bias"], eps)

    def lin(x, name):
        return a.linear(x, w[name + ".weight"], w[name + ".bias"], name)

    at = np.arange(n) + (1 if a.flaw == "position" else 0)
    x = (a.cast(w["embeddings.word_embeddings.weight"])[ids]
         + a.cast(w["embeddings.token_type_embeddings.weight"])[0]
         + a.cast(w["embeddings.position_embeddings.weight"])[at])
    x = norm(x, "embeddings.LayerNorm")
    for il in range(cfg["num_hidden_layers"]):
        p = f"encoder.layer.{il}."
        q, k, v = (lin(x, p + f"attention.self.{c}").reshape(n, heads, d // heads)
                   for c in ("query", "key", "value"))
        y = attend(a, q, k, v, (d // heads) ** -0.5, causal=a.flaw == "causal")
        x = norm(x + lin(y, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        y = lin(act(lin(x, p + "intermediate.dense")), p + "output.dense")
        x = norm(x + y, p + "output.LayerNorm")
    return x


def mean_pool(hidden):
    v = hidden.mean(axis=0)
    return v / np.sqrt((v * v).sum())


def forward(cfg, w, ids, arith=None):
    """ids: list of token ids. Returns [len(ids)][vocabulary or hidden size]."""
    a = arith or Arith()
    run = {"gpt2": gpt2, "bert": bert}.get(cfg["model_type"], decoder)
    return run(cfg, w, np.asarray(ids), a)
