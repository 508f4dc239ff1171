#!/usr/bin/env python3
"""Files of statistics and llama.cpp's own tools, on tiny models.

    test_imatrix.py STRETTO GOLDEN

llama-imatrix and `stretto calibrate` read the same text in the same windows: sums of squares may differ by what
adding them one after the other in float32 can lose, a rounding for each row; forwards differ by less. Then
llama-quantize takes our file, and a planted fault (windows
of another size) is noticed. Needs models that make_golden.py made and llama.cpp of ./dev peers --get."""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = os.path.join(ROOT, "build", "peers", "llama.cpp", "bin")
WINDOW, BYTES = 128, 12000
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


def run(argv):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    return r.returncode, r.stdout.decode(errors="replace").strip()


def read_file(path):
    r = gguf.GGUFReader(path)
    t = {x.name: np.array(x.data, np.float64).ravel() for x in r.tensors}
    keys = {"general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"}
    check(keys <= set(r.fields), f"{path}: without {sorted(keys - set(r.fields))}")
    counts = {n[:-7]: int(x[0]) for n, x in t.items() if n.endswith(".counts")}
    return {n[:-8]: x for n, x in t.items() if n.endswith(".in_sum2")}, counts


def compare(name, ours, theirs):
    """The worst share of the bound, over the matrices that llama.cpp has."""
    (a, rows_a), (b, rows_b) = ours, theirs
    check(set(b) <= set(a), f"{name}: without {sorted(set(b) - set(a))}")
    worst = 0.0
    for n in set(a) & set(b):
        check(rows_a[n] == rows_b[n], f"{name}: {rows_a[n]} rows of {n}, llama-imatrix has {rows_b[n]}")
        worst = max(worst, float((np.abs(a[n] - b[n]) / (rows_b[n] * 2.0 ** -24 * b[n] + 1e-30)).max()))
    return worst


def one_model(stretto, golden, name, text, tmp):
    model = os.path.join(golden, name, "model.gguf")
    theirs, ours, other, small = (os.path.join(tmp, x) for x in ("theirs", "ours", "other", "small"))
    rc, out = run([os.path.join(TOOLS, "llama-imatrix"), "-m", model, "-f", text, "-c", str(WINDOW), "-b", str(WINDOW),
                   "-ub", str(WINDOW), "-t", "1", "-fa", "off", "-ctk", "f32", "-ctv", "f32", "--no-ppl", "-o", theirs,
                   "--output-format", "gguf"])
    check(rc == 0 and os.path.exists(theirs), f"{name}: llama-imatrix: {out[-300:]}")
    base = [stretto, "calibrate", "-m", model, "-f", text, "--tokens", "0", "-q", "--force"]
    for window, path in ((WINDOW, ours), (WINDOW // 2, other)):
        rc, out = run(base + ["--window", str(window), "-o", path])
        check(rc == 0, f"{name}: stretto calibrate: {out}")
    if failures:
        return
    share = compare(name, read_file(ours), read_file(theirs))
    check(share <= 1, f"{name}: sums of squares differ by {share:.2f} of the bound")
    sums, counts = read_file(other)
    wrong = max(float((np.abs(sums[n] - x) / (counts[n] * 2.0 ** -24 * x + 1e-30)).max())
                for n, x in read_file(theirs)[0].items() if n in sums)
    check(wrong > 1, f"{name}: windows of {WINDOW // 2} are not noticed")
    rc, out = run([os.path.join(TOOLS, "llama-quantize"), "--imatrix", ours, model, small, "Q4_0", "1"])
    check(rc == 0 and "importance matrix entries" in out, f"{name}: llama-quantize: {out[-300:]}")
    print(f"{name}: {share:.3f} of the bound; other windows {wrong:.0f}", flush=True)


def main():
    stretto, golden = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as tmp:
        text = os.path.join(tmp, "text")
        with open(os.path.join(ROOT, "data", "calibration", "prose.txt"), "rb") as f, open(text, "wb") as out:
            out.write(f.read(BYTES).rsplit(b"\n", 1)[0])
        for name in ("llama", "qwen2", "gemma3", "phi3"):
            one_model(stretto, golden, name, text, tmp)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if not os.path.exists(os.path.join(TOOLS, "llama-imatrix")):
    print("skip: llama.cpp's tools are not built (./dev peers --get)")
    sys.exit(77)
try:
    import gguf
    import numpy as np
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)
sys.exit(main())
