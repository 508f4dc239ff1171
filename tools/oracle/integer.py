"""Integer arithmetic once more: the forward of every family in the integers that src/backend/integer/fixed.h and
rows.h define, written from what they say, in numpy's int64. The C program must answer the same bits.

Rows are pairs (x, e): int64 numbers with one exponent; NAN and rows of other lengths than whole ones do not occur
here. Names and shapes are those of Hugging Face checkpoints, as in forward.py."""
import math

import numpy as np

from .families import factor_of, in_layer, beside, norms_of, of, rotary_size, turning
from .forward import full_base, layer_windows, local_base, scaling_of

MOST = 1 << 14
ZERO = -MOST
LOG2E = 1549082005
LOG2E_REAL = 1.4426950408889634074


# ---- fixed.h

def bits(x):
    return int(x).bit_length()


def round_shift(x, s):
    if s > 62:
        return x * 0
    return (x + (1 << (s - 1))) >> s if s else x


def to_q(p, e, q, most):
    s = -(e + q)
    if s >= 0:
        y = round_shift(p, s)
    else:
        large = np.array([bits(abs(int(v))) - s > 62 for v in np.atleast_1d(p)]).reshape(np.shape(p))
        y = np.where(large, np.sign(p) * most, np.where(large, 0, p) * (1 << -s if s > -62 else 0))
    return np.clip(y, -most, most)


def exp2_neg(t):
    f, n = t & 0xffffff, t >> 24
    y = np.int64(236086)
    for c in (-2743352, 20577648, -119168801, 515878639, -1488522040, 1 << 31):
        y = c + (y * f >> 24)
    return np.where(n > 31, 0, y >> np.minimum(n, 31))


def exponent_of(p, e):
    return to_q(np.abs(p) * LOG2E, e - 30, 24, (1 << 32) - 1)


def sigmoid(t, negative):
    one, e = np.int64(1 << 31), exp2_neg(t)
    return (np.where(negative, e, one) << 31) // (one + e)


def tanh_of(t):
    one, e = np.int64(1 << 31), exp2_neg(t)
    return ((one - e) << 31) // (one + e)


def share(kind, x, e):
    if kind == "silu":
        return sigmoid(exponent_of(x, e), x < 0)
    z, full = to_q(np.abs(x), e, 24, 16 << 24), (1 << 32) - 1
    if kind == "gelu_tanh":
        return sigmoid(np.minimum(z * (2471977230 + (110534462 * (z * z >> 24) >> 24)) >> 30, full), x < 0)
    k, y = (1 << 60) // ((1 << 30) + (z * 248723584 >> 24)), np.int64(0)
    for a in (569837701, -780155054, 763115691, -152738022, 136810595):
        y = (a + y) * k >> 30
    t = round_shift(round_shift(z * z, 25) * LOG2E, 30)
    q = np.maximum(y * exp2_neg(np.minimum(t, full)) >> 30, 0)
    return np.where(x < 0, q, (1 << 31) - q)


def sine(turn):
    t = turn & 0x3fffffff
    if turn >> 30 & 1:
        t = (1 << 30) - t
    square, y = t * t >> 30, 161942
    for c in (-5016767, 85564854, -693597876, 1686629674):
        y = c + (y * square >> 30)
    y = min(y * t >> 30, 1 << 30)
    return -y if turn >> 31 else y


def wide(m, e):
    if not m:
        return 0, -4 * MOST
    s = bits(m) - 62
    return (m >> s if s > 0 else m << -s), e + s


def wide_add(a, b):
    if a[1] < b[1]:
        a, b = b, a
    return wide(a[0] + (b[0] >> min(a[1] - b[1], 64)), a[1])


def inverse_root(x):
    m, e = x
    if not m:
        return 0, 0
    if e & 1:
        m, e = m >> 1, e + 1
    return min((1 << 61) // math.isqrt(m), (1 << 31) - 1), -61 - e // 2


def scale_mul(a, b):
    m = a[0] * b[0]
    if not m:
        return 0, 0
    s = 31 if m >> 61 else 30
    return m >> s, a[1] + b[1] + s


def scale_ratio(a, b, e):
    n = 64 - bits(a)
    m = (a << n) // b
    s = bits(m) - 31
    return (m >> s if s > 0 else m << -s), e - n + s


def scale_of(x):
    m, e = math.frexp(x)
    n = round(math.ldexp(m, 31))
    return (n // 2, e + 1 - 31) if n == 1 << 31 else (n, e - 31) if n else (0, 0)


def wide_number(x):
    m, e = math.frexp(x)
    return wide(int(math.ldexp(m, 53)), e - 53)


# ---- rows.h

def settle(p, e):
    b = bits(np.abs(p).max())
    s = b - 30
    if not b or e + s < -MOST:
        return p * 0, ZERO
    return (round_shift(p, s) if s > 0 else p << -s), e + s


def from_float(f):
    f = np.asarray(f, np.float32).astype(np.float64)
    most = np.abs(f).max()
    if most == 0:
        return np.zeros(len(f), np.int64), ZERO
    e = math.frexp(most)[1] - 30
    return np.rint(np.ldexp(f, -e)).astype(np.int64), e


def to_float(x, e):
    return (x.astype(np.float64) * math.ldexp(1, e)).astype(np.float32)


def lift(x, s):
    return x << s if s >= 0 else round_shift(x, -s)


def add(a, b):
    e = max(a[1], b[1]) - 30
    y = lift(b[0], b[1] - e)
    return settle(lift(a[0], a[1] - e) + np.tile(y, len(a[0]) // len(y)), e)


def scaled(a, by):
    return settle(a[0] * by[0], a[1] + by[1])


def act(a, kind, times=None):
    p = a[0] * share(kind, *a)
    if times is None:
        return settle(p, a[1] - 31)
    return settle(round_shift(p, 31) * times[0], a[1] + times[1])


def softcap(p, e, cap, by):
    y = tanh_of(to_q(np.abs(p) * by[0], e + by[1], 24, (1 << 32) - 1)) * cap[0]
    return np.where(p < 0, -y, y)


def norm(a, w, eps, step, b=None, layer=False):
    x, e = a[0].copy(), a[1]
    half = (bits(step - 1) + 1) // 2
    for i in range(0, len(x), step):
        part = x[i:i + step]
        if layer:
            total = int(part.sum())
            part = part - (abs(total) + step // 2) // step * (1 if total >= 0 else -1)
        s = max(bits(np.abs(part).max()) - 22, 0)
        mean = wide(int((round_shift(part, s).astype(object) ** 2).sum()), 2 * (e + s))
        r = inverse_root(wide_add(wide(mean[0] // step, mean[1]), eps))
        x[i:i + step] = to_q(part * r[0], e + r[1], 30 - half, 1 << 31) * w[0]
    y = settle(x, half - 30 + w[1])
    return y if b is None else add(y, b)


def turns(n_rot, base, factor):
    out = []
    for i in range(n_rot // 2):
        circles = math.pow(base, -2.0 * i / n_rot) * factor / 6.283185307179586476925
        out.append(int(math.ldexp(circles - math.floor(circles), 64)))
    return out


def rope(a, heads, hd, turn, position, pairs=False):
    half = len(turn)
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if pairs else (slice(half), slice(half, 2 * half))
    at = [(t * position & (1 << 64) - 1) >> 32 for t in turn]
    one = scale_of(1.0)
    c, s = (np.array([round_shift(v * one[0], 1 - one[1]) for v in f])
            for f in ([sine(t + (1 << 30) & (1 << 32) - 1) for t in at], [sine(t) for t in at]))
    y = a[0].reshape(heads, hd) << 29
    u, v = (a[0].reshape(heads, hd)[:, k] for k in (first, second))
    y[:, first], y[:, second] = u * c - v * s, u * s + v * c
    return settle(y.reshape(-1), a[1] - 29)


def codes(x, e, most=127):
    top = int(np.abs(x).max())
    if not top:
        return x * 0, (0, ZERO)
    by = scale_ratio(most, top, 0)
    return round_shift(x * by[0], -by[1]), scale_ratio(top, most, e)


class Linear:
    """A weight of the file, [outputs][inputs], and its bias."""

    def __init__(self, w, b=None):
        w = np.asarray(w, np.float32)
        most = np.abs(w).max(axis=1)
        unit = most / np.float32(127)
        self.code = np.rint(w.astype(np.float64) * 127 / np.where(most > 0, most, 1)[:, None].astype(np.float64))
        self.code = self.code.astype(np.int64)
        self.e = scale_of(float(unit.max()))[1]
        self.m = np.minimum(np.rint(np.ldexp(unit.astype(np.float64), -self.e)), (1 << 31) - 1).astype(np.int64)
        self.b = None if b is None else from_float(b)

    def products(self, a):
        q, s = codes(*a)
        return (self.code @ q) * ((self.m * s[0] + (1 << 30)) >> 31), self.e + s[1] + 31

    def __call__(self, a):
        y = settle(*self.products(a))
        return y if self.b is None else add(y, self.b)

    def logits(self, a, cap):
        p, e = self.products(a)
        if self.b is not None or cap:
            p, e = round_shift(p, 32), e + 32
        if self.b is not None:
            at = max(e, self.b[1]) - 30
            p, e = round_shift(to_q(p, e, -at, 1 << 62) + to_q(self.b[0], self.b[1], -at, 1 << 62), 31), at + 31
        if cap:
            c = scale_of(cap)
            p, e = softcap(p, e, c, scale_of(2 * LOG2E_REAL / cap)), c[1] - 31
        return to_float(p, e)


def attend(q, k, v, hd, scale, lo, cap=0.0):
    """One query head [hd] over keys and values: lists of (codes, scale), from `lo` on."""
    code, by = codes(*q, 32767)
    by = scale_mul(by, scale_of(scale * (1 if cap else LOG2E_REAL)))
    score = []
    for key, s in k[lo:]:
        one = scale_mul(by, s)
        x, e = np.int64(int(code @ key) * one[0]), one[1]
        if cap:
            c = scale_of(cap)
            x = round_shift(softcap(round_shift(x, 32), e + 32, c, scale_of(2 * LOG2E_REAL / cap)), 32) * LOG2E
            e = c[1] - 31 + 32 - 30
        score.append(int(to_q(x, e, 16, (1 << 31) - 1)))
    most, e = max(score), max(s[1] for _, s in v[lo:])
    under = np.array([most - x for x in score])
    part = np.where(under >> 24, 0, exp2_neg(np.minimum(under, (1 << 24) - 1) << 8))
    total = int(part.sum())
    acc = sum(round_shift(int(p) * s[0], 31 + e - s[1]) * x for p, (x, s) in zip(part, v[lo:]))
    b = bits(total) - 32
    inverse = scale_ratio(1 << 31, total >> b, -31 - b)
    y = settle(acc, e + 31)
    return settle(y[0] * inverse[0], y[1] + inverse[1])


class Forward:
    """What the families have in common: whole rows in lists, a token each."""

    def __init__(self, cfg, w, ids):
        self.cfg, self.w, self.ids, self.made = cfg, w, ids, {}

    def linear(self, name, part=None, transposed=False, bias=None):
        """A weight, or rows [part) of a fused one, which are a weight by themselves."""
        key = (name, part)
        if key not in self.made:
            x, b = np.asarray(self.w[name + ".weight"]), self.w.get((bias or name) + ".bias")
            x = x.T if transposed else x
            at = slice(*(part or (None,)))
            self.made[key] = Linear(x[at], None if b is None else b[at])
        return self.made[key]

    def vector(self, name, plus_one=False):
        x = self.w.get(name)
        return None if x is None else from_float(np.float64(x) + 1 if plus_one else x)

    def attention(self, q, k, v, heads, kv_heads, hd, scale, window=0, cap=0.0, causal=True):
        keys, values = ([[codes(x[0][h * hd:(h + 1) * hd], x[1]) for x in rows] for h in range(kv_heads)]
                        for rows in (k, v))
        out = []
        for i, row in enumerate(q):
            end, lo = (i + 1 if causal else len(q)), (max(0, i + 1 - window) if window else 0)
            parts = [attend((row[0][h * hd:(h + 1) * hd], row[1]), keys[h * kv_heads // heads][:end],
                            values[h * kv_heads // heads][:end], hd, scale, lo, cap) for h in range(heads)]
            e = max(p[1] for p in parts)
            out.append((np.concatenate([round_shift(x, e - at) for x, at in parts]), e))
        return out


def decoder(cfg, w, ids):
    f, fam = Forward(cfg, w, ids), of(cfg)
    d, eps = cfg["hidden_size"], wide_number(float(np.float32(cfg[fam.eps])))
    hd = cfg.get("head_dim") or d // cfg["num_attention_heads"]
    kind = cfg.get("hidden_activation") or cfg.get("hidden_act") or "gelu_pytorch_tanh"
    kind = "silu" if kind == "silu" else "gelu_tanh"
    scaling = scaling_of(cfg)
    scaling = {} if scaling.get("rope_type") == "default" else scaling
    kinds = cfg.get("rope_parameters") or {}
    if kinds or scaling.get("rope_type", scaling.get("type", "linear")) != "linear":
        raise NotImplementedError("a scaling of rotary positions that is not written here")
    factor = float(np.float32(1 / scaling["factor"])) if scaling else 1.0
    rotary = rotary_size(cfg, hd)
    turn = turns(rotary, float(np.float32(full_base(cfg))), factor)
    local = turns(rotary, float(np.float32(local_base(cfg))), 1.0) if fam.own_turn else turn
    scale = float(np.float32(1 / math.sqrt(cfg["query_pre_attn_scalar"] if fam.gemma else hd)))
    if "attention_multiplier" in dict(fam.scales):
        scale = float(np.float32(factor_of(cfg, "attention_multiplier")))
    added = float(np.float32(factor_of(cfg, "residual_multiplier")))
    cap, window, windowed = cfg.get("attn_logit_softcapping") or 0.0, cfg.get("sliding_window") or 0, layer_windows(cfg)
    turned = turning(cfg, windowed)

    def norms(rows, name, step=None):
        g, b = f.vector(name + ".weight", fam.gemma), f.vector(name + ".bias")
        return [norm(x, g, eps, step or len(x[0]), b, fam.layer_norm) for x in rows]

    def block(x, g, before, after):
        y = g(norms(x, before) if before else x)
        y = norms(y, after) if after else y
        return [add(a, b) for a, b in zip(x, [times(b, added) for b in y])]

    def times(row, by):
        return row if by == 1 else scaled(row, scale_of(by))

    x = [from_float(w["model.embed_tokens.weight"][i]) for i in ids]
    if fam.gemma:
        x = [scaled(a, scale_of(float(np.sqrt(np.float32(d))))) for a in x]
    x = [times(a, float(np.float32(factor_of(cfg, "embedding_multiplier")))) for a in x]
    names = norms_of(cfg)
    for il in range(cfg["num_hidden_layers"]):
        p, heads = f"model.layers.{il}.", in_layer(cfg["num_attention_heads"], il)
        kv = in_layer(cfg.get("num_key_value_heads") or cfg["num_attention_heads"], il)

        def attention(y):
            if fam.fused:
                at = (0, heads * hd, (heads + kv) * hd, (heads + 2 * kv) * hd)
                lin = [f.linear(p + "self_attn.qkv_proj", (at[i], at[i + 1])) for i in range(3)]
            else:
                lin = [f.linear(p + f"self_attn.{c}_proj") for c in "qkv"]
            q, k, v = ([one(a) for a in y] for one in lin)
            step = None if fam.qk_norm == "width" else hd
            if fam.qk_norm and fam.qk_norm != "turned":
                q, k = (norms(r, p + name, step) for r, name in zip((q, k), fam.qk_names))
            by = local if windowed[il] else turn
            if turned[il]:
                q, k = ([rope(a, n, hd, by, i, fam.folder_pairs) for i, a in enumerate(r)]
                        for r, n in ((q, heads), (k, kv)))
            if fam.qk_norm == "turned":
                q, k = (norms(r, p + name, step) for r, name in zip((q, k), fam.qk_names))
            out = f.attention(q, k, v, heads, kv, hd, scale, window if windowed[il] else 0, cap)
            return [f.linear(p + fam.out)(a) for a in out]

        def feed(y):
            if fam.ungated:
                up, down = (f.linear(p + name) for name in fam.ungated)
                return [down(act(up(a), kind)) for a in y]
            if fam.fused or fam.fused_gate:
                n = w[p + "mlp.gate_up_proj.weight"].shape[0] // 2
                gate, up = (f.linear(p + "mlp.gate_up_proj", at) for at in ((0, n), (n, 2 * n)))
            else:
                gate, up = f.linear(p + "mlp.gate_proj"), f.linear(p + "mlp.up_proj")
            return [f.linear(p + "mlp.down_proj")(act(gate(a), kind, up(a))) for a in y]

        before, after, before2, after2 = (n and p + n for n in names)
        if beside(cfg):
            y = norms(x, before)
            x = [add(a, b) for a, b in zip(x, attention(y))]
            x = [add(a, b) for a, b in zip(x, feed(y))]
            continue
        x = block(x, attention, before, after)
        x = block(x, feed, before2, after2)
    head = f.linear("lm_head" if "lm_head.weight" in w else "model.embed_tokens", bias="lm_head")
    last = float(np.float32(1 / float(np.float32(factor_of(cfg, "logits_scaling")))))
    last = float(np.float32(factor_of(cfg, "logit_scale"))) if "logit_scale" in dict(fam.scales) else last
    x = [times(a, last) for a in norms(x, fam.last)]
    return np.stack([head.logits(a, cfg.get("final_logit_softcapping")) for a in x])


def gpt2(cfg, w, ids):
    f, heads, d = Forward(cfg, w, ids), cfg["n_head"], cfg["n_embd"]
    eps = wide_number(float(np.float32(cfg["layer_norm_epsilon"])))

    def norms(rows, name):
        return [norm(x, f.vector(name + ".weight"), eps, d, f.vector(name + ".bias"), True) for x in rows]

    x = [add(from_float(w["transformer.wte.weight"][t]), from_float(w["transformer.wpe.weight"][i]))
         for i, t in enumerate(ids)]
    for il in range(cfg["n_layer"]):
        p = f"transformer.h.{il}."
        y = norms(x, p + "ln_1")
        q, k, v = ([f.linear(p + "attn.c_attn", (i * d, (i + 1) * d), True)(a) for a in y] for i in range(3))
        y = f.attention(q, k, v, heads, heads, d // heads, float(np.float32(1 / math.sqrt(d // heads))))
        x = [add(a, f.linear(p + "attn.c_proj", None, True)(b)) for a, b in zip(x, y)]
        y = [act(f.linear(p + "mlp.c_fc", None, True)(a), "gelu_tanh") for a in norms(x, p + "ln_2")]
        x = [add(a, f.linear(p + "mlp.c_proj", None, True)(b)) for a, b in zip(x, y)]
    return np.stack([f.linear("transformer.wte").logits(a, None) for a in norms(x, "transformer.ln_f")])


def bert(cfg, w, ids):
    f, heads, d = Forward(cfg, w, ids), cfg["num_attention_heads"], cfg["hidden_size"]
    eps = wide_number(float(np.float32(cfg["layer_norm_eps"])))

    def norms(rows, name):
        return [norm(x, f.vector(name + ".weight"), eps, d, f.vector(name + ".bias"), True) for x in rows]

    e = "embeddings."
    kind = from_float(w[e + "token_type_embeddings.weight"][0])
    x = [add(add(from_float(w[e + "word_embeddings.weight"][t]), kind),
             from_float(w[e + "position_embeddings.weight"][i])) for i, t in enumerate(ids)]
    x = norms(x, e + "LayerNorm")
    for il in range(cfg["num_hidden_layers"]):
        p = f"encoder.layer.{il}."
        q, k, v = ([f.linear(p + f"attention.self.{c}")(a) for a in x] for c in ("query", "key", "value"))
        y = f.attention(q, k, v, heads, heads, d // heads, float(np.float32(1 / math.sqrt(d // heads))),
                        causal=False)
        x = norms([add(a, f.linear(p + "attention.output.dense")(b)) for a, b in zip(x, y)],
                  p + "attention.output.LayerNorm")
        y = [act(f.linear(p + "intermediate.dense")(a), "gelu_erf") for a in x]
        x = norms([add(a, f.linear(p + "output.dense")(b)) for a, b in zip(x, y)], p + "output.LayerNorm")
    return np.stack([to_float(*a) for a in x])


def forward(cfg, w, ids):
    return {"gpt2": gpt2, "bert": bert}.get(cfg["model_type"], decoder)(cfg, w, ids)
