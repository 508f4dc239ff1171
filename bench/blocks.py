#!/usr/bin/env python3
"""What `stretto convert` loses and how fast it writes: for every type of blocks the error of the weights beside
that of straight rounding (gguf's own where it has one, tools/oracle/blocks.py), on a model's own matrices.

    bench/blocks.py -m MODEL.gguf [--type q4_0 ...] [--stretto build/release/stretto] [--keep FOLDER]

MODEL should hold float32 or float16: what was rounded before lies on a grid that flatters its own type. The
error is the root of the summed squares over that of the weights, in parts of a thousand, of the matrices that
have the type asked for. For super-blocks a matrix counts only where its rows are multiples of 256."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from gguf import GGUFReader, GGMLQuantizationType as T
from gguf.quants import dequantize

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
from oracle.blocks import straight  # noqa: E402

TYPES = ("q8_0", "q6_k", "q5_1", "q5_k", "q5_0", "q4_1", "q4_k", "q4_0", "iq4_nl", "iq4_xs", "mxfp4", "q3_k",
         "q2_k", "q2_0", "tq2_0")


def rows_of(tensor, rows=256):
    """The tensor's rows as float32, some at a time: (number of the first, rows)."""
    data = tensor.data.reshape(-1, tensor.data.shape[-1])
    for at in range(0, len(data), rows):
        yield at, dequantize(data[at:at + rows], tensor.tensor_type).astype(np.float32)


def errors(name, given, path):
    """Squares of the weights, of what was written less them, and of straight rounding less them; matrices."""
    sums, matrices = np.zeros(3), 0
    for t in GGUFReader(path).tensors:
        if t.tensor_type != T[name.upper()]:
            continue
        matrices += 1
        got = t.data.reshape(-1, t.data.shape[-1])
        for at, x in rows_of(given[t.name]):
            y = dequantize(got[at:at + len(x)], t.tensor_type)
            for k, v in enumerate((x, y - x, straight(name, x) - x)):
                sums[k] += np.square(v.astype(np.float64)).sum()
    return sums, matrices


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("-m", required=True)
    p.add_argument("--type", nargs="+", default=TYPES, choices=TYPES)
    p.add_argument("--stretto", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--keep")
    a = p.parse_args()
    given = {t.name: t for t in GGUFReader(a.m).tensors}
    numbers = sum(t.n_elements for t in given.values())
    print("| type | file MB | matrices | error, 1/1000 | straight | ratio | seconds (CPU) | float32 MB/s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as tmp:
        for name in a.type:
            out = os.path.join(a.keep or tmp, f"{name}.gguf")
            began, before = time.time(), os.times()
            subprocess.run([a.stretto, "convert", "-q", "--force", a.m, out, "--type", name], check=True,
                           stderr=subprocess.DEVNULL)
            wall, after = time.time() - began, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            (square, found, plain), n = errors(name, given, out)
            if n == 0:
                print(f"| {name} | no matrix fits |")
                continue
            print(f"| {name} | {os.path.getsize(out) / 1e6:.1f} | {n} | {1e3 * (found / square) ** .5:.3f} | "
                  f"{1e3 * (plain / square) ** .5:.3f} | {(found / plain) ** .5:.3f} | {wall:.1f} ({cpu:.1f}) | "
                  f"{4e-6 * numbers / cpu:.0f} |", flush=True)
            if not a.keep:
                os.unlink(out)


if __name__ == "__main__":
    sys.exit(main())
