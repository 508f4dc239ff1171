#!/usr/bin/env python3
"""A real model against an independent forward of the same weights, and the fast path against the float32 path.

    test_smollm2.py STRETTO MODELS_FOLDER DATA_FOLDER (ppl | kl) [WINDOWS]

ppl: perplexity of the first windows of WikiText-2 in llama-perplexity's convention, against
tests/golden/smollm2.json (tools/make_ppl_golden.py: float64 numpy, ids from llama-tokenize): the float32 path
within 0.1 %, the fast path within 0.5 %, and the very same token ids. Over the same tokens, mean KL
divergence of the fast path from the float32 path at most 0.004 and the same best token at least 96 times in 100.
kl: the same divergence with keys of 8 and values of 4 bits, at most 0.012 and at least 93.
WINDOWS is how many windows of 512 tokens are read: by default all 16."""
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
failures = []


def check(ok, what):
    print(("ok   " if ok else "FAIL ") + what, flush=True)
    if not ok:
        failures.append(what)


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def answer(argv, stdin=None):
    r = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if r.returncode:
        check(False, f"{' '.join(argv[1:4])}: exit code {r.returncode}: {r.stderr.decode(errors='replace')[-400:]}")
        return None
    return json.loads(r.stdout)


def close(want, got, allowed, what):
    off = got / want - 1
    check(abs(off) <= allowed, f"{what} {got:.5f}, expected {want:.5f}: {off * 100:+.4f} %, "
          f"allowed {allowed * 100:g} %")


def compared(stretto, at, flags, cache, most, least):
    """The fast path beside the float32 path, which is the dear one: read once for divergence and perplexity."""
    got = answer([stretto, "eval", "kl", "--base-reference", *at, *flags])
    if got:
        kl, top = got["mean_kl"], got["same_top"] * 100
        check(0 <= kl <= most, f"cache {cache}: mean KL {kl:.6f}, at most {most}")
        check(top >= least, f"cache {cache}: the same best token {top:.2f} % of the time, at least {least} %")
    return got


def main():
    stretto, models, data, what = sys.argv[1:5]
    windows = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    with open(os.path.join(HERE, "smollm2.json")) as f:
        want = json.load(f)
    model = os.path.join(models, want["model"])
    text = os.path.join(data, "text", want["text"])
    for path, digest in ((model, want["model_sha256"]), (text, want["text_sha256"])):
        if not os.path.exists(path):
            print(f"skip: {os.path.basename(path)} is not in {os.path.dirname(path)}")
            return 77
        if sha256(path) != digest:
            print(f"skip: {path} is not the file that the expected values were made from (sha256 differs)")
            return 77
    with open(text, "rb") as f:
        part = f.read(want["text_bytes"])
    with tempfile.NamedTemporaryFile(suffix=".txt") as f:
        f.write(part)
        f.flush()
        at = ["-m", model, "-f", f.name, "-c", str(want["window"]), "--json"]
        nll = want["nll_of_windows"][:windows or None]
        some = [*at, "--chunks", str(len(nll))]
        perplexity = math.exp(sum(nll) / len(nll))
        if what == "ppl":
            ids = answer([stretto, "tokenize", "-m", model, "--json"], part)
            if ids is not None:
                same = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest() == want["ids_sha256"]
                check(same, f"{len(ids)} token ids, the same as llama-tokenize's {want['tokens']}")
            both = compared(stretto, some, [], "f16", 0.004, 96)
            fast = answer([stretto, "eval", "ppl", *some])
            if both and fast:
                close(perplexity, both["base_perplexity"], 0.001, "float32 path: perplexity")
                close(perplexity, fast["perplexity"], 0.005, "fast path: perplexity")
                close(fast["perplexity"], both["perplexity"], 1e-8, "fast path: ppl and kl")
            # The float32 path as ppl computes it by itself, on one window.
            few = answer([stretto, "eval", "ppl", "--reference", "--chunks", "1", *at])
            both = answer([stretto, "eval", "kl", "--base-reference", "--chunks", "1", *at])
            if few and both:
                close(few["perplexity"], both["base_perplexity"], 1e-8, "float32 path, one window: ppl and kl")
        else:
            compared(stretto, some, ["-ctk", "q8_0", "-ctv", "q4_0"], "q8_0 and q4_0", 0.012, 93)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
