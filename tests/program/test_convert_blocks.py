#!/usr/bin/env python3
"""Blocks that `stretto convert` writes, decoded by the published reader (PyPI gguf): every type, its number in the
file, what is written instead where rows do not fit, and no larger error than straight rounding.

usage: test_convert_blocks.py STRETTO

Straight rounding: tools/oracle/blocks.py."""
import os
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter, GGMLQuantizationType as T, LlamaFileType as F
    from gguf.quants import dequantize
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from oracle.blocks import straight  # noqa: E402

ROWS = 24
# the number of the file, and what rows of 288 and of 40 become
TYPES = {"q4_0": (F.MOSTLY_Q4_0, T.Q4_0), "q4_1": (F.MOSTLY_Q4_1, T.Q4_1), "q5_0": (F.MOSTLY_Q5_0, T.Q5_0),
         "q5_1": (F.MOSTLY_Q5_1, T.Q5_1), "q8_0": (F.MOSTLY_Q8_0, T.Q8_0), "iq4_nl": (F.MOSTLY_IQ4_NL, T.IQ4_NL),
         "q2_k": (F.MOSTLY_Q2_K, T.IQ4_NL), "q3_k": (F.MOSTLY_Q3_K_S, T.IQ4_NL), "q4_k": (F.MOSTLY_Q4_K_S, T.Q5_0),
         "q5_k": (F.MOSTLY_Q5_K_S, T.Q5_1), "q6_k": (F.MOSTLY_Q6_K, T.Q8_0),
         "q2_0": (41, T.Q4_0), "tq2_0": (F.MOSTLY_TQ2_0, T.Q4_0),
         "iq4_xs": (F.MOSTLY_IQ4_XS, T.IQ4_NL), "mxfp4": (F.MOSTLY_MXFP4_MOE, T.MXFP4)}


def matrices():
    rng = np.random.default_rng(14)
    x = {"normal": rng.normal(size=(ROWS, 512)), "heavy": rng.standard_t(3, size=(ROWS, 512)) * 0.02,
         "constant": np.repeat(rng.normal(size=(ROWS, 1)), 512, 1),
         "small": rng.normal(size=(ROWS, 512)) * 3e-6,                # scales below float16's normal numbers
         "large": rng.normal(size=(ROWS, 512)) * 1e4, "zero": np.zeros((ROWS, 512)),
         "by288": rng.normal(size=(ROWS, 288)), "by40": rng.normal(size=(ROWS, 40))}
    return {k: v.astype(np.float32) for k, v in x.items()}


def write(path, tensors):
    w = GGUFWriter(path, "llama")
    for k, v in tensors.items():
        w.add_tensor(k + ".weight", v)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def told(given, out, said):
    """What is said of every type that lost something is what numpy finds."""
    sums = {}
    for t in GGUFReader(out).tensors:
        x = given[t.name[:-len(".weight")]].astype(np.float64)
        lost = np.square(dequantize(t.data, t.tensor_type) - x).sum()
        size = np.square(x).sum()
        sums.setdefault(t.tensor_type.name, []).append((lost, size, t.name))
    for name, parts in sums.items():
        lost, size = (sum(p[i] for p in parts) for i in (0, 1))
        worst = max(parts, key=lambda p: p[0] / p[1] if p[1] else 0)
        line = re.search(rf"{name}: rounding (\d+) tensors? took (\S+) % .*, most of (\S+), (\S+) %", said)
        assert (line is not None) == bool(lost), (name, said)
        if line:
            assert int(line[1]) == len(parts) and line[3] == worst[2], (line[0], worst)
            for got, want in ((line[2], lost / size), (line[4], worst[0] / worst[1])):
                assert abs(float(got) / (100 * want ** .5) - 1) < 0.006, (line[0], want)


def check(name, given, out, said):
    number, instead = TYPES[name]
    read = GGUFReader(out)
    assert read.get_field("general.file_type").contents() == number, name
    for t in read.tensors:
        x = given[t.name[:-len(".weight")]]
        want = instead if x.shape[1] == 288 else T.F16 if x.shape[1] == 40 else T[name.upper()]
        assert t.tensor_type == want, (name, t.name, t.tensor_type)
        if x.shape[1] != 512:
            assert want.name == name.upper() or f"({t.name}: {x.shape[1]}): they are written as {want.name}" in said
            continue
        got = dequantize(t.data, t.tensor_type).astype(np.float64)
        found, plain = (np.square(y - x.astype(np.float64)).sum() for y in (got, straight(name, x)))
        # What only the rounding of a scale to float16 takes from equal numbers is luck for both.
        exact = t.name == "constant.weight" and (abs(got - x) <= abs(x) * 2.0 ** -11).all()
        assert found <= plain or exact, (name, t.name, found, plain)


def refused(stretto, tmp):
    bad = os.path.join(tmp, "bad.gguf")
    for value, kind, words in ((np.nan, "q4_k", "is not finite"), (np.inf, "q4_0", "is not finite"),
                               (1e6, "q4_0", "too large for Q4_0"), (1e5, "q5_1", "too large for Q5_1")):
        x = np.ones((2, 256), np.float32)
        x[1, 7] = value
        write(bad, {"one": x})
        done = subprocess.run([stretto, "convert", "-q", bad, os.path.join(tmp, "none.gguf"), "--type", kind],
                              capture_output=True, text=True)
        assert done.returncode and words in done.stderr and "one.weight" in done.stderr, done.stderr
        assert not os.path.exists(os.path.join(tmp, "none.gguf"))


def main():
    stretto = sys.argv[1]
    words = subprocess.run([stretto, "convert", "--help"], capture_output=True, text=True, check=True).stdout
    offered = re.search(r"f32\|[a-z0-9_|\s]*?tq2_0", words).group(0).split("|")
    assert sorted(w.strip() for w in offered) == sorted([*TYPES, "f32", "f16", "bf16"]), offered
    with tempfile.TemporaryDirectory() as tmp:
        given, model = matrices(), os.path.join(tmp, "given.gguf")
        write(model, given)
        for name in TYPES:
            outs = [os.path.join(tmp, f"{name}{i}.gguf") for i in (1, 3)]
            for out, threads in zip(outs, (1, 3)):
                done = subprocess.run([stretto, "convert", model, out, "--type", name, "-t", str(threads)], check=True,
                                      capture_output=True, text=True)
            check(name, given, outs[0], done.stderr)
            told(given, outs[0], done.stderr)
            assert len({open(out, "rb").read() for out in outs}) == 1, name
            again = os.path.join(tmp, "again.gguf")           # a matrix that has the type already is copied
            subprocess.run([stretto, "convert", "-q", outs[0], again, "--type", name, "--force"], check=True,
                           capture_output=True)
            assert open(again, "rb").read() == open(outs[0], "rb").read(), name
        refused(stretto, tmp)
    print(f"{len(TYPES)} types")
    return 0


if __name__ == "__main__":
    sys.exit(main())
