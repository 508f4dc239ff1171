#!/usr/bin/env python3
"""Adds what tests/data/dtype_golden.txt lacks, from the published dequantisation (PyPI packages gguf and numpy).

One line a case: "decode TYPE blocks-in-hex float32-bits-in-hex" or "encode TYPE float32-hex blocks-hex".
Types are those of src/tensor/dtype_rows.h; lines that are there stay as they are. Scales are drawn over the
whole float16 range, denormals, zeros and negative ones included; NaN and infinite scales are left out,
because NaN payloads are nobody's contract."""
import os
import sys
import zlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

from oracle import dtypes, gguf_more  # noqa: F401


def scale(rng, kind):
    if kind == 0:
        return rng.integers(0, 0x7C00, dtype=np.uint16) | (rng.integers(0, 2, dtype=np.uint16) << 15)
    if kind == 1:
        return np.uint16(rng.integers(0, 0x400))          # denormals and zero
    return np.float16(rng.normal() * 0.01).view(np.uint16)


def decode_cases(name, row, rng):
    block, size = GGML_QUANT_SIZES[T[name]]
    for case in range(3 if block == 256 else 6):
        raw = rng.integers(0, 256, size, dtype=np.uint8)
        for at in dtypes.halves(row):
            raw[at:at + 2] = np.frombuffer(np.uint16(scale(rng, case % 3)).tobytes(), np.uint8)
        yield raw, dequantize(raw.reshape(1, -1), T[name]).astype("<f4").reshape(-1)


def encode_cases(name, rng):
    for case in range(6):
        n = max(32, GGML_QUANT_SIZES[T[name]][0])
        x = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 4)).astype("<f4")
        if case == 0:
            x = np.zeros(n, "<f4")
        if case == 1:
            x = rng.integers(-8, 8, n).astype("<f4") / 2       # many exact halves
        yield x, quantize(x.reshape(1, -1), T[name])


def main():
    path = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "dtype_golden.txt")
    with open(path, "r+", encoding="ascii") as f:
        have = {tuple(line.split()[:2]) for line in f}
        for name, row in dtypes.TYPES.items():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            cases = {}
            if name in dtypes.CODED:
                cases["decode"] = decode_cases(name, row, rng)
            if "encode" in row and name != "F32":
                cases["encode"] = encode_cases(name, rng)
            for what, pairs in cases.items():
                if (what, name) in have:
                    continue
                for given, answer in pairs:
                    print(what, name, given.tobytes().hex(), answer.tobytes().hex(), file=f)
                print(f"added: {what} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
