#!/usr/bin/env python3
"""A real model on another device writes the cpu's greedy tokens.

    test_text.py STRETTO MODEL DEVICE [TOKENS]

Linear layers have the cpu's bits there; norms and attention have not. In float32 logits differ in their last digits,
and a text may part only where two tokens are as good as equal. Rounding activations to 8 bits turns a last digit into
a step now and then; such a text may part where the cpu's two logits lie no further apart than twice what the devices'
logits differ by at most."""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

PROMPTS = ["The capital of France is", "def fibonacci(n):\n", "Once upon a time, in a small village,",
           "List the numbers from one to twelve:\n1, 2,", "SELECT name, count(*) FROM"]


def run(argv, device, text=None):
    env = dict(os.environ, STRETTO_DEVICE=device)
    r = subprocess.run(argv, env=env, input=(text or "").encode(), capture_output=True, timeout=3600)
    if r.returncode:
        print(f"FAIL {' '.join(argv)} on {device}: exit code {r.returncode}: {r.stderr.decode()[-400:]}")
        sys.exit(1)
    return r.stdout


def logits(stretto, model, tokens, device, how):
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "rows")
        run([stretto, "eval", "logits", "-m", model, "--ids", ",".join(map(str, tokens)), "--raw", out, *how],
            device)
        return np.fromfile(out, np.float32).reshape(len(tokens), -1)[-1].astype(np.float64)


def compare(stretto, model, device, prompt, n, how):
    argv = [stretto, "run", "-m", model, "--json", "-p", prompt, "-n", n, "--temp", "0", "--ignore-eos", *how]
    want, got = (json.loads(run(argv, d))["ids"] for d in ("cpu", device))
    name = " ".join([repr(prompt), *how])
    if want == got:
        print(f"{name}: the same {len(want)} tokens", flush=True)
        return True
    at = next(i for i, (a, b) in enumerate(zip(want, got)) if a != b)
    before = json.loads(run([stretto, "tokenize", "-m", model, "--json", "--add-special"], "cpu", prompt)) + want[:at]
    here, there = (logits(stretto, model, before, d, how) for d in ("cpu", device))
    gap, off = abs(here[want[at]] - here[got[at]]), float(np.abs(here - there).max())
    print(f"{name}: parts at token {at}, where two logits are {gap:.2e} apart; devices differ by "
          f"{off:.2e}", flush=True)
    # In float32 devices are as near as rounding of 24 bits leaves them behind all layers: ten bits are the same.
    return gap <= 2 * off and (not how or off <= float(np.abs(here).max()) / 1024)


def main():
    stretto, model, device = sys.argv[1:4]
    n = sys.argv[4] if len(sys.argv) > 4 else "48"
    if not os.path.exists(model):
        print(f"skip: there is no {model}; ./dev run fetches it")
        return 77
    bad = [p for p in PROMPTS for how in ((), ("--reference",)) if not compare(stretto, model, device, p, n, how)]
    for p in bad:
        print(f"FAIL {p!r} parts where tokens are not as good as equal")
    return len(bad) > 0


if __name__ == "__main__":
    sys.exit(main())
