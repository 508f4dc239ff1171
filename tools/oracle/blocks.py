"""Straight rounding to blocks: what anyone would write first. gguf's own where it has one; elsewhere the largest number
of a group makes its scale, and the largest scale that of the super-block."""
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

from oracle import gguf_more  # noqa: F401

PLAIN = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4", "q2_0", "tq2_0")
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
# codes low..high; whole numbers of the groups' scales up to; numbers of a group
SUPER = {"q2_k": (0, 3, 15, 16), "q3_k": (-4, 3, 31, 16), "q4_k": (0, 15, 63, 32), "q5_k": (0, 31, 63, 32),
         "q6_k": (-32, 31, 127, 16)}


def half(x):
    return x.astype(np.float16).astype(np.float64)


def over(x, by):
    return np.divide(x, by, out=np.zeros_like(x), where=by != 0)


def straight(name, x):
    """x as the type would have it, by straight rounding."""
    if name in PLAIN:
        return dequantize(quantize(x, T[name.upper()]), T[name.upper()])
    if name in ("iq4_nl", "iq4_xs"):
        b = x.astype(np.float64).reshape(-1, 1 if name == "iq4_nl" else 8, 32)
        d = np.take_along_axis(b, abs(b).argmax(2, keepdims=True), 2) / -127
        if name == "iq4_xs":
            unit = half(np.take_along_axis(d, abs(d).argmax(1, keepdims=True), 1) / -32)
            d = unit * np.clip(np.rint(over(d, unit)), -32, 31)
        else:
            d = half(d)
        at = abs(over(b, d)[..., None] - IQ4).argmin(-1)
        return (d * IQ4[at]).reshape(x.shape)
    low, high, top, size = SUPER[name]
    b = x.astype(np.float64).reshape(-1, 256 // size, size)
    least = np.minimum(b.min(2, keepdims=True), 0) if low == 0 else np.zeros(b.shape[:2] + (1,))
    scale = (b.max(2, keepdims=True) - least) / high if low == 0 else abs(b).max(2, keepdims=True) / high
    d, dmin = half(scale.max(1, keepdims=True) / top), half(-least.min(1, keepdims=True) / top)
    s, m = d * np.clip(np.rint(over(scale, d)), 0, top), dmin * np.clip(np.rint(over(-least, dmin)), 0, top)
    return (s * np.clip(np.rint(over(b + m, s)), low, high) - m).reshape(x.shape)
