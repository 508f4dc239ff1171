#!/usr/bin/env python3
"""What `stretto convert` writes, read by the published reader (PyPI gguf, numpy).

usage: test_convert.py STRETTO SOURCE_DIR

The folders of tests/data/format hold element i of tensor number k as k + i / 64
(tools/make_hf_golden.py), so every expected matrix can be written down here."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import quantize
    from gguf import GGMLQuantizationType as T
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)


def ramp(k, *shape):
    return (k + np.arange(np.prod(shape)) / 64).astype(np.float32).reshape(shape)


def pairs(x, heads):
    """Rows of a head from halves to pairs, as llama.cpp's files have them."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(x.shape)


EXPECTED = {
    "hf-llama": {
        "blk.0.attn_q.weight": pairs(ramp(2, 8, 8), 2), "blk.0.attn_k.weight": pairs(ramp(3, 4, 8), 1),
        "blk.0.attn_v.weight": ramp(4, 4, 8), "blk.0.ffn_down.weight": ramp(10, 8, 12),
        "blk.0.attn_norm.weight": ramp(1, 8), "output.weight": ramp(12, 5, 8),
        "rope_freqs.weight": np.array([1, 8], np.float32)},
    "hf-phi3": {
        "blk.0.attn_qkv.weight": ramp(1, 16, 8), "blk.0.ffn_up.weight": ramp(3, 12, 8),
        "blk.0.ffn_norm.weight": ramp(6, 8)},
    "hf-gpt2": {
        "blk.0.attn_qkv.weight": ramp(3, 4, 12).T, "blk.0.attn_qkv.bias": ramp(4, 12),
        "blk.0.ffn_down.weight": ramp(9, 16, 4).T, "position_embd.weight": ramp(1, 16, 4)},
}
# what each type makes of a matrix of these widths; q8_0 does not fit them
TYPES = {"f32": T.F32, "f16": T.F16, "bf16": T.BF16}


def main():
    stretto, root = sys.argv[1:3]
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        for folder, tensors in EXPECTED.items():
            for name, kind in TYPES.items():
                out = os.path.join(tmp, f"{folder}-{name}.gguf")
                source = os.path.join(root, "tests", "data", "format", folder)
                subprocess.run([stretto, "convert", "-q", source, out, "--type", name], check=True,
                               stderr=subprocess.DEVNULL)
                read = {t.name: t for t in GGUFReader(out).tensors}
                for tensor, want in tensors.items():
                    got = read[tensor]
                    exact = want.ndim == 1 or tensor.startswith("position_embd")
                    stored = want if exact else quantize(np.ascontiguousarray(want), kind)
                    if (list(got.shape) != list(reversed(want.shape))
                            or got.data.tobytes() != stored.tobytes()):
                        print(f"{folder} {name}: {tensor} differs")
                        bad += 1
    print("all equal" if not bad else f"{bad} differ")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
