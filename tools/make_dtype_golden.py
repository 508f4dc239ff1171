#!/usr/bin/env python3
"""Writes tests/data/dtype_golden.txt from the published dequantisation (PyPI packages gguf and numpy).

One line a case: "decode TYPE blocks-in-hex float32-bits-in-hex" or "encode TYPE float32-hex blocks-hex".
Scales are drawn over the whole float16 range, denormals, zeros and negative ones included; NaN and
infinite scales are left out, because NaN payloads are nobody's contract."""
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

SCALES_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
             "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def scale(rng, kind):
    if kind == 0:
        return rng.integers(0, 0x7C00, dtype=np.uint16) | (rng.integers(0, 2, dtype=np.uint16) << 15)
    if kind == 1:
        return np.uint16(rng.integers(0, 0x400))          # denormals and zero
    return np.float16(rng.normal() * 0.01).view(np.uint16)


def main():
    path = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "dtype_golden.txt")
    rng = np.random.default_rng(20240)
    with open(path, "w", encoding="ascii") as out:
        for name, places in SCALES_AT.items():
            block, size = GGML_QUANT_SIZES[T[name]]
            for case in range(3 if block == 256 else 6):
                raw = rng.integers(0, 256, size, dtype=np.uint8)
                for at in places:
                    raw[at:at + 2] = np.frombuffer(np.uint16(scale(rng, case % 3)).tobytes(), np.uint8)
                values = dequantize(raw.reshape(1, -1), T[name]).astype("<f4").reshape(-1)
                print("decode", name, raw.tobytes().hex(), values.tobytes().hex(), file=out)
        for name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
            for case in range(6):
                x = (rng.normal(size=32) * 10.0 ** rng.integers(-3, 4)).astype("<f4")
                if case == 0:
                    x = np.zeros(32, "<f4")
                if case == 1:
                    x = rng.integers(-8, 8, 32).astype("<f4") / 2      # many exact halves
                got = quantize(x.reshape(1, -1), T[name])
                print("encode", name, x.tobytes().hex(), got.tobytes().hex(), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
