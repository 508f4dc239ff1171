#!/usr/bin/env python3
"""Sentence embeddings of all-MiniLM-L6-v2 against a float64 forward of the same safetensors file.

    test_minilm.py STRETTO MODELS_FOLDER

Token ids come from PyPI `tokenizers`, the forward from tools/oracle. Cosine above 0.9999 for every line, on
the fast path and the float32 path; and the test says how near it came."""
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
try:
    import numpy as np
    import tokenizers
    from safetensors.numpy import load_file
    from oracle.forward import forward, mean_pool
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "a",
    "Why is the sky blue?",
    "Perplexity is the exponential of the mean negative log-likelihood.",
    "Zażółć gęślą jaźń; naïve café, Ærøskøbing.",
    "東京は日本の首都です。 한국어 문장.",
    "don't stop-believing, it's 3.14159 or 2,718 (approximately)!",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "import numpy as np  # comment",
    "🙂 emoji and — dashes … and “quotes”",
    " ".join(["Winter came early that year, and the river froze before the boats were home."] * 12),
]


def vectors(value, size, out):
    """Every list of `size` numbers in what `embed --json` prints, in order."""
    if isinstance(value, list) and len(value) == size and all(isinstance(v, (int, float)) for v in value):
        out.append(value)
    elif isinstance(value, (list, dict)):
        for v in value.values() if isinstance(value, dict) else value:
            vectors(v, size, out)
    return out


def main():
    stretto, models = sys.argv[1:3]
    found = glob.glob(os.path.join(models, "all-MiniLM-L6-v2", "**", "model.safetensors"), recursive=True)
    if not found:
        print(f"skip: all-MiniLM-L6-v2 is not in {models}")
        return 77
    folder = os.path.dirname(found[0])
    with open(os.path.join(folder, "config.json")) as f:
        cfg = json.load(f)
    w = {n.removeprefix("bert."): x for n, x in load_file(found[0]).items()}
    tok = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tok.no_truncation()
    tok.no_padding()
    truth = [mean_pool(forward(cfg, w, tok.encode(line).ids)) for line in LINES]
    bad = 0
    for path in ("fast", "float32"):
        r = subprocess.run([stretto, "embed", "-m", folder, "--json"] + ["--reference"] * (path == "float32"),
                           input="".join(line + "\n" for line in LINES).encode(), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
        if r.returncode:
            print(f"FAIL {path} path: exit code {r.returncode}: {r.stderr.decode(errors='replace')[-400:]}")
            bad += 1
            continue
        got = vectors(json.loads(r.stdout), cfg["hidden_size"], [])
        if len(got) != len(LINES):
            print(f"FAIL {path} path: {len(got)} embeddings for {len(LINES)} lines")
            bad += 1
            continue
        cosines = [float(np.dot(g, t) / np.linalg.norm(g) / np.linalg.norm(t)) for g, t in zip(got, truth)]
        print(f"{path} path: lowest cosine {min(cosines):.9f}")
        for line, c in zip(LINES, cosines):
            if not c > 0.9999:
                print(f"FAIL {path} path: cosine {c:.6f} for {line[:60]!r}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
