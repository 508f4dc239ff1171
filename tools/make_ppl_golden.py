#!/usr/bin/env python3
"""Perplexity of a llama-family GGUF by the float64 forward of tools/oracle, in llama-perplexity's convention.

    tools/make_ppl_golden.py --model MODEL.gguf --text wikitext2_raw_test.txt --tokenize LLAMA_TOKENIZE
                             --windows 16 > tests/golden/smollm2.json

The text is cut after a line so that it fills exactly that many windows of 512 tokens; every window starts
anew, and tokens 257..512 of each count. The token ids come from another program (llama-tokenize)."""
import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
from oracle.forward import Arith, forward
from oracle.gguf_weights import read_llama

WINDOW = 512


def tokens_of(args, text):
    with tempfile.NamedTemporaryFile() as f:
        f.write(text)
        f.flush()
        return json.loads(subprocess.check_output(
            [args.tokenize, "-m", args.model, "-f", f.name, "--ids", "--log-disable"], stderr=subprocess.DEVNULL))


def cut(args, text):
    """The shortest run of lines that fills the windows, and its ids."""
    at = args.windows * WINDOW * 3
    ids = []
    while len(ids) < args.windows * WINDOW:
        at = text.find(b"\n", at + 200) + 1
        if at <= 0:
            sys.exit("the text is too short for that many windows")
        ids = tokens_of(args, text[:at])
    if len(ids) >= (args.windows + 1) * WINDOW:
        sys.exit("a line of this text is longer than a window; choose another number of windows")
    return text[:at], ids


def sha256_file(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", required=True)
    ap.add_argument("--text", required=True)
    ap.add_argument("--tokenize", required=True)
    ap.add_argument("--windows", type=int, default=16)
    ap.add_argument("--float32", action="store_true", help="the same in float32, to see what that changes")
    args = ap.parse_args()
    with open(args.text, "rb") as f:
        whole = f.read()
    text, ids = cut(args, whole)
    cfg, w = read_llama(args.model)
    kind = np.float32 if args.float32 else np.float64
    w = {n: x.astype(kind) for n, x in w.items()}
    per_window, total, kept = [], 0.0, {}
    for i in range(args.windows):
        began = time.time()
        part = ids[i * WINDOW:(i + 1) * WINDOW]
        y = forward(cfg, w, part, Arith(kind))[WINDOW // 2:WINDOW - 1].astype(np.float64)
        y = y - y.max(axis=1, keepdims=True)
        nll = np.log(np.exp(y).sum(axis=1)) - y[np.arange(len(y)), part[WINDOW // 2 + 1:]]
        per_window.append(float(nll.mean()))
        total += float(nll.sum())
        if i == 0:
            kept[i] = [round(float(v), 6) for v in nll]
        count = (i + 1) * len(nll)
        print(f"{i + 1}/{args.windows}: perplexity {math.exp(total / count):.5f}, {time.time() - began:.1f} s",
              file=sys.stderr, flush=True)
    with_names = {"made_by": "tools/make_ppl_golden.py", "arithmetic": kind.__name__, "numpy": np.__version__,
                  "model": os.path.basename(args.model), "model_sha256": sha256_file(args.model),
                  "text": os.path.basename(args.text), "text_sha256": hashlib.sha256(whole).hexdigest(),
                  "text_bytes": len(text), "window": WINDOW, "windows": args.windows, "tokens": len(ids),
                  "ids_sha256": hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest(),
                  "counted": count, "perplexity": math.exp(total / count), "nll_of_windows": per_window,
                  "nll_of_tokens": kept}
    print(json.dumps(with_names, indent=None).replace(', "', ',\n "'))


if __name__ == "__main__":
    main()
