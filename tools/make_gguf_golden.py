#!/usr/bin/env python3
"""Writes the small GGUF files of tests/data/format with the published writer (PyPI packages gguf, numpy).

all.gguf: every kind of value, six tensor types. split-*.gguf: three tensors in two parts.
What tests/unit/format/test_gguf.c expects of them is computed here by the same formulas:
element i of a float tensor is i / 8 - 1, and so on."""
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from gguf import GGUFWriter
from gguf.quants import quantize

HERE = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "format")


def ramp(*shape):
    return (np.arange(np.prod(shape), dtype=np.float32) / 8 - 1).reshape(shape)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def all_kinds():
    w = GGUFWriter(os.path.join(HERE, "all.gguf"), "llama")
    w.add_uint8("k.u8", 200)
    w.add_int8("k.i8", -100)
    w.add_uint16("k.u16", 60000)
    w.add_int16("k.i16", -30000)
    w.add_uint32("k.u32", 4000000000)
    w.add_int32("k.i32", -2000000000)
    w.add_uint64("k.u64", 18000000000000000000)
    w.add_int64("k.i64", -9000000000000000000)
    w.add_float32("k.f32", 0.1)
    w.add_float64("k.f64", 0.1)
    w.add_float32("k.whole", 4096.0)
    w.add_bool("k.yes", True)
    w.add_string("k.string", "gr\u00fc\u00dfe")
    w.add_key_value("k.empty", "", V.STRING)
    w.add_key_value("k.ints", [-1, 0, 70000], V.ARRAY, V.INT32)
    w.add_key_value("k.floats", [0.5, -2.0], V.ARRAY, V.FLOAT32)
    w.add_key_value("k.bools", [True, False, True], V.ARRAY, V.BOOL)
    w.add_key_value("k.strings", ["a", "", "\u2581the", "x" * 300], V.ARRAY, V.STRING)
    w.add_block_count(2)
    w.add_tensor("f32.weight", ramp(3, 64))
    w.add_tensor("f16.weight", ramp(2, 32).astype(np.float16))
    for name in ("BF16", "Q8_0", "Q4_0"):
        w.add_tensor(name.lower() + ".weight", quantize(ramp(2, 64), T[name]), raw_dtype=T[name])
    w.add_tensor("norm.weight", ramp(5))
    finish(w)


def split():
    w = GGUFWriter(os.path.join(HERE, "split"), "llama", split_max_tensors=2)
    w.add_block_count(1)
    for i in range(3):
        w.add_tensor(f"t{i}.weight", ramp(2, 4) + i)
    finish(w)


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    all_kinds()
    split()
    sys.exit(0)
