"""One forward for all families, in the terms of a Plan: what a reader of config.json (truth.py) or of GGUF keys
(gguf_truth.py) understood. Slow and plain; numbers are added as tools/oracle/forward.py's Arith says."""
import math
import os
import sys
from dataclasses import dataclass, field

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from oracle.forward import Arith, gelu_erf, gelu_tanh, layer_norm, rms_norm, rope, silu  # noqa: E402

ACTS = {"silu": silu, "gelu_tanh": gelu_tanh, "gelu_erf": gelu_erf}


def gelu_table(x):
    """llama.cpp's GELU on CPUs: a table over float16, and its float16 answers."""
    with np.errstate(over="ignore"):
        y = gelu_tanh(x.astype(np.float16).astype(np.float64)).astype(np.float16).astype(np.float64)
    return np.where(x <= -10, 0, np.where(x >= 10, x, y)).astype(x.dtype)


@dataclass
class Turn:
    """How positions turn heads: per pair the angle per position, and the length of what is turned."""
    freq: np.ndarray
    length: float = 1.0
    base: float = None
    far: np.ndarray = None      # in place of freq where there are more rows than `near`
    near: int = 0


@dataclass
class Layer:
    """Each part is (weight [out][in], bias or None); norms are (gain, bias or None)."""
    q: tuple = None
    k: tuple = None
    v: tuple = None
    o: tuple = None
    gate: tuple = None
    up: tuple = None
    down: tuple = None
    norm1: tuple = None         # before attention; where norms stand after the sum: there; None: no such norm
    norm2: tuple = None
    after1: tuple = None        # on attention's own output (gemma, olmo2)
    after2: tuple = None
    q_norm: tuple = None
    k_norm: tuple = None
    turn: Turn = None
    window: int = 0
    heads: int = 0              # 0: the plan's
    kv: int = 0                 # likewise


@dataclass
class Plan:
    heads: int
    kv: int
    hd: int
    eps: float
    act: str
    scale: float                # of attention's scores
    embed: np.ndarray
    layers: list = field(default_factory=list)
    layer_norm: bool = False    # instead of rms
    post: bool = False          # norms after the sums (bert)
    qk_width: bool = False      # queries and keys are normed whole, not head by head
    qk_late: bool = False       # ... when they have been turned
    added: float = 1.0          # times what each part of a block adds
    divide: float = 1.0         # logits by this
    beside: bool = False        # both parts of a block read its first norm
    warm: float = 0.0           # queries times 1 + warm * ln(1 + floor(position / span))
    span: int = 0
    causal: bool = True
    pairs: bool = False         # neighbours turn, not halves
    embed_scale: float = 1.0
    positions: np.ndarray = None
    types: np.ndarray = None
    embed_norm: tuple = None
    final_norm: tuple = None
    head: tuple = None          # None: hidden states are the answer
    cap: float = 0.0
    final_cap: float = 0.0
    gelu_table: bool = False


def turn_heads(a, x, t, pairs):
    """Any order of a head's numbers gives the same scores when queries and keys have it alike, so pairs are put
    in the places of halves."""
    if t is None:
        return x
    n = 2 * len(t.freq)
    if pairs:
        x = np.concatenate([x[..., 0:n:2], x[..., 1:n:2], x[..., n:]], axis=-1)
    return rope(a, x, t.far if t.near and len(x) > t.near else t.freq, t.length)


def attention(p, layer, y, a):
    n = len(y)

    def heads(part, count, norm):
        x = a.linear(y, *part).reshape((n, -1) if p.qk_width else (n, count, p.hd))
        return (gained(p, x, norm, a) if norm else x).reshape(n, count, p.hd)

    def turned(part, count, norm):
        x = turn_heads(a, heads(part, count, None if p.qk_late else norm), layer.turn, p.pairs)
        if p.qk_late and p.pairs and layer.turn:            # the gains are in the file's order
            raise NotImplementedError("pairs that are normed behind turning")
        return (gained(p, x, norm, a) if norm and p.qk_late else x).swapaxes(0, 1)

    n_heads, n_kv = layer.heads or p.heads, layer.kv or p.kv
    q, k = turned(layer.q, n_heads, layer.q_norm), turned(layer.k, n_kv, layer.k_norm)
    if p.warm:
        q = q * (1 + a.t(p.warm) * np.log(a.cast(1 + np.arange(n) // p.span)))[None, :, None]
    v = heads(layer.v, n_kv, None).swapaxes(0, 1)
    k, v = (np.repeat(x, n_heads // n_kv, axis=0) for x in (k, v))
    s = a.dot(q, k) * a.t(p.scale)
    if p.cap:
        s = a.t(p.cap) * np.tanh(s / a.t(p.cap))
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    hidden = (j > i) & p.causal
    if layer.window:
        hidden = hidden | (j <= i - layer.window)
    s = np.where(hidden, a.t(-np.inf), s)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    e = e / e.sum(axis=-1, keepdims=True)
    out = a.dot(e, np.swapaxes(v, -1, -2)).swapaxes(0, 1).reshape(n, -1)
    return a.linear(out, *layer.o)


def gained(p, x, norm, a):
    """A norm of whole rows or of heads."""
    gain, bias = norm
    if p.layer_norm:
        return layer_norm(a, x, gain, np.zeros(len(gain)) if bias is None else bias, p.eps)
    x = rms_norm(a, x, gain, p.eps)
    return x if bias is None else x + a.cast(bias)


def feed(p, layer, y, a):
    act = gelu_table if p.gelu_table and p.act == "gelu_tanh" else ACTS[p.act]
    up = a.linear(y, *layer.up)
    h = act(a.linear(y, *layer.gate)) * up if layer.gate else act(up)
    return a.linear(h, *layer.down)


def forward(p, ids, a=None):
    """[len(ids)][vocabulary or width]."""
    a = a or Arith()
    x = a.cast(p.embed)[np.asarray(ids)] * a.t(p.embed_scale)
    if p.types is not None:
        x = x + a.cast(p.types)[0]
    if p.positions is not None:
        x = x + a.cast(p.positions)[:len(ids)]
    if p.embed_norm:
        x = gained(p, x, p.embed_norm, a)
    for layer in p.layers:
        if p.post:
            x = gained(p, x + attention(p, layer, x, a), layer.norm1, a)
            x = gained(p, x + feed(p, layer, x, a), layer.norm2, a)
            continue
        if p.beside:
            y = gained(p, x, layer.norm1, a)
            x = x + attention(p, layer, y, a) + feed(p, layer, y, a)
            continue
        y = attention(p, layer, gained(p, x, layer.norm1, a) if layer.norm1 else x, a)
        x = x + (gained(p, y, layer.after1, a) if layer.after1 else y) * a.t(p.added)
        y = feed(p, layer, gained(p, x, layer.norm2, a) if layer.norm2 else x, a)
        x = x + (gained(p, y, layer.after2, a) if layer.after2 else y) * a.t(p.added)
    if p.final_norm:
        x = gained(p, x, p.final_norm, a)
    if not p.head:
        return x
    y = a.linear(x / a.t(p.divide), *p.head)
    return a.t(p.final_cap) * np.tanh(y / a.t(p.final_cap)) if p.final_cap else y


ORDERS = ("plain", "reversed", "chunks")


def allowed(p, ids, truth):
    """How far float32 may stray: 8 x what three orders of adding make of it, as in tools/make_golden.py."""
    return 8 * max(float(np.abs(forward(p, ids, Arith(np.float32, order)) - truth).max()) for order in ORDERS)


def frequencies(dim, base):
    return base ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)


def yarn_turn(dim, base, factor, original, fast, slow, truncate, length):
    """arXiv 2309.00071, with the bounds of its reference code."""
    f = frequencies(dim, base)

    def at(turns):
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = at(fast), at(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / ((high - low) or 0.001), 0, 1)
    return Turn(f / factor * ramp + f * (1 - ramp), length, base)


def llama3_turn(dim, base, factor, low, high, original):
    f = frequencies(dim, base)
    wave = 2 * math.pi / f
    smooth = (original / wave - low) / (high - low)
    mixed = (1 - smooth) * f / factor + smooth * f
    return Turn(np.where(wave < original / high, f, np.where(wave > original / low, f / factor, mixed)),
                base=base)
