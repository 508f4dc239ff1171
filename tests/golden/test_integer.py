#!/usr/bin/env python3
"""Integer arithmetic (--arithmetic int) on every family, against the float64 forward of tools/oracle.

    test_integer.py STRETTO GOLDEN [MODEL ...]

What the codes of eight bits cost is known from a forward in float64 that rounds to the same codes: weights to 127
steps of each output's largest, what linear layers read to 127 of each row's, keys and values to 127 of each token's
and head's. Everything else of the integer path is finer by thousands (tests/unit/backend/test_integer.c): scores are
good to 2^-15. In root mean squares over logits, beside the cost of the codes (that forward to the truth):

  a text's first row             within 2^-6 of the cost: no score takes part, so the codes are the same, but for one
                                 that lies between two of them to the last bit (most are within 2^-13)
  all rows                       within the cost: a number between two codes may go to the other one, and whatever
                                 follows is rounded anew
  a forward with one mistake     farther off than that, where the mistake is more than four times the cost"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    from oracle import families
    from oracle.forward import Arith, forward
    from test_families import flaws, rms
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

failures = []
worst = 0.0


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


def round_codes(x):
    """To 127 steps of the largest along the last axis; what lies between two goes to the even one."""
    most = np.abs(x).max(axis=-1, keepdims=True)
    return np.rint(x * 127 / np.where(most > 0, most, 1)) * most / 127


class Codes(Arith):
    """Float64 with the integer path's codes."""

    def linear(self, x, w, b=None, name=""):
        w = np.asarray(w, np.float64)
        y = self.dot(round_codes(x), round_codes(w))
        return y if b is None else y + self.cast(b)

    def stored(self, x):
        return round_codes(x)


def logits(stretto, path, ids, shape, *more):
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "rows")
        r = subprocess.run([stretto, "eval", "logits", "-m", path, "--ids", ",".join(map(str, ids)), "--raw", out,
                            "--arithmetic", "int", *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=300, text=True)
        check(r.returncode == 0, f"{path}: exit code {r.returncode}: {r.stderr[-300:]}")
        return np.fromfile(out, np.float32).reshape(shape).astype(np.float64) if r.returncode == 0 else None


def compare(stretto, golden, model):
    global worst
    name = model["name"]
    cfg, _, _, dtype = families.MODELS[name]
    w = families.weights(name, cfg, dtype)
    said = []
    for i, run in enumerate(model["runs"]):
        truth = np.load(os.path.join(golden, name, run["expect"]))
        coded = forward(cfg, w, run["ids"], Codes())
        got = logits(stretto, os.path.join(golden, model["files"][0]["path"]), run["ids"], truth.shape)
        if got is None:
            return
        for rows, allow in ((slice(0, 1), 2.0 ** -6), (slice(None), 1)):
            if cfg["model_type"] == "bert" and len(truth) > 1 and allow < 1:
                continue                # its rows see each other
            cost, off = rms(coded[rows] - truth[rows]), rms(got[rows] - coded[rows])
            said.append(off / cost / allow)
            check(off <= allow * cost,
                  f"{name} run {i}: {off:.2e} off, {off / cost:.1e} of the codes' {cost:.2e}")
    worst = max(worst, *said)
    planted(name, cfg, w, model["runs"][-1], got, coded, truth)
    print(f"{name}: {max(said):.2f} of its bounds", flush=True)


def planted(name, cfg, w, run, got, coded, truth):
    noticed = 0
    cost = rms(coded - truth)
    for flaw in flaws(cfg):
        wrong = forward(cfg, w, run["ids"], Codes(flaw=flaw))
        if rms(wrong - coded) < 4 * cost:
            continue
        noticed += 1
        check(rms(got - wrong) > cost, f"{name}: a forward with a wrong {flaw} is within the bound too")
    check(noticed, f"{name}: no mistake is large beside the codes")


def refused(stretto, path):
    """What does not go with integers is a matter of usage, said before anything is opened."""
    for more in (["--reference"], ["-ctk", "q8_0"], ["-ctv", "f32"], ["--device", "gpu"], ["-ngl", "2"]):
        r = subprocess.run([stretto, "eval", "logits", "-m", path, "--ids", "1", "--raw", os.devnull,
                            "--arithmetic", "int", *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
        check(r.returncode == 2 and f"{more[0]} does not go with --arithmetic int" in r.stderr,
              f"--arithmetic int {more}: exit code {r.returncode}: {r.stderr}")
    r = subprocess.run([stretto, "info", "-m", path, "--arithmetic", "int"], stdout=subprocess.PIPE, text=True)
    check(r.returncode == 0 and "arithmetic: integers" in r.stdout, f"info says nothing of integers: {r.stdout}")


def main():
    stretto, golden, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(os.path.join(golden, "index.json")) as f:
        index = json.load(f)
    models = [m for m in index["models"] if m["name"] in families.MODELS and (not only or m["name"] in only)]
    for m in models:
        compare(stretto, golden, m)
    refused(stretto, os.path.join(golden, models[0]["files"][0]["path"]))
    print(f"{len(models)} models, at most {worst:.2f} of their bounds, {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
