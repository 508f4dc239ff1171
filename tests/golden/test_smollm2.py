#!/usr/bin/env python3
"""A real model against an independent forward of the same weights, and the fast path against the float32 path.

    test_smollm2.py STRETTO MODELS_FOLDER DATA_FOLDER (ppl | kl)

ppl: perplexity of the first windows of WikiText-2 in llama-perplexity's convention, against
tests/golden/smollm2.json (tools/make_ppl_golden.py: float64 numpy, ids from llama-tokenize): the float32 path
within 0.1 %, the fast path within 0.5 %, and the very same token ids.
kl: over the same 8,192 tokens, mean KL divergence of the fast path from the float32 path at most 0.004 and the
same best token at least 96 times in 100; with keys of 8 and values of 4 bits at most 0.012 and at least 93."""
import hashlib
import json
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


def main():
    stretto, models, data, what = sys.argv[1:5]
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
        if what == "ppl":
            ids = answer([stretto, "tokenize", "-m", model, "--json"], part)
            if ids is not None:
                same = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest() == want["ids_sha256"]
                check(same, f"{len(ids)} token ids, the same as llama-tokenize's {want['tokens']}")
            for path, flags, allowed in (("float32", ["--reference"], 0.001), ("fast", [], 0.005)):
                got = answer([stretto, "eval", "ppl", "-m", model, "-f", f.name, "-c", str(want["window"]),
                              "--json"] + flags)
                if got:
                    off = got["perplexity"] / want["perplexity"] - 1
                    check(abs(off) <= allowed, f"{path} path: perplexity {got['perplexity']:.5f}, expected "
                          f"{want['perplexity']:.5f}: {off * 100:+.4f} %, allowed {allowed * 100} %")
        else:
            for cache, flags, most, least in (("f16", [], 0.004, 96),
                                              ("q8_0 and q4_0", ["-ctk", "q8_0", "-ctv", "q4_0"], 0.012, 93)):
                got = answer([stretto, "eval", "kl", "-m", model, "--base-reference", "-f", f.name, "-c",
                              str(want["window"]), "--json"] + flags)
                if got:
                    kl, top = got["mean_kl"], got["same_top"] * 100
                    check(0 <= kl <= most, f"cache {cache}: mean KL {kl:.6f}, at most {most}")
                    check(top >= least, f"cache {cache}: the same best token {top:.2f} % of the time, "
                          f"at least {least} %")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
