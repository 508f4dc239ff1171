#!/usr/bin/env python3
"""Integer arithmetic (--arithmetic int) on every family: the same bits as a second program, and how far from float64.

    test_integer.py STRETTO GOLDEN [--sanitized | MODEL ...]

tools/oracle/integer.py computes the same integers from what the headers say: every logit must be the same number, in
the first 40 rows of every run, and in all rows of two models whose texts cross pages and windows. With --sanitized
every model runs, and its numbers are left to the release build: numpy takes nine tenths of the time.

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
    import gguf
    import numpy as np
    from oracle import families, files, integer
    from oracle.forward import Arith, forward, scaling_of
    from test_families import flaws, rms
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

failures = []
worst = 0.0
exact = 0


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


class Known(Codes):
    """Codes by scales that are known beforehand: by the linear layer's name the largest number."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def linear(self, x, w, b=None, name=""):
        scale = self.most[name] / 127
        y = self.dot(np.clip(np.rint(x / scale), -127, 127) * scale, round_codes(np.asarray(w, np.float64)))
        return y if b is None else y + self.cast(b)


def logits(stretto, path, ids, shape, *more):
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "rows")
        r = subprocess.run([stretto, "eval", "logits", "-m", path, "-c", str(len(ids)), "--ids",
                            ",".join(map(str, ids)), "--raw", out, "--arithmetic", "int", *more],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=300, text=True)
        check(r.returncode == 0, f"{path}: exit code {r.returncode}: {r.stderr[-300:]}")
        return np.fromfile(out, np.float32).reshape(shape).astype(np.float64) if r.returncode == 0 else None


def compare(stretto, golden, model):
    global worst
    name = model["name"]
    cfg, _, _, dtype = families.MODELS[name]
    w = families.weights(name, cfg, dtype)
    if scaling_of(cfg).get("llama_4_scaling_beta"):
        return warm(stretto, os.path.join(golden, model["files"][0]["path"]))
    said = []
    for i, run in enumerate(model["runs"]):
        truth = np.load(os.path.join(golden, name, run["expect"]))
        coded = forward(cfg, w, run["ids"], Codes())
        got = logits(stretto, os.path.join(golden, model["files"][0]["path"]), run["ids"], truth.shape)
        if got is None:
            return
        same_bits(name, cfg, w, run["ids"], got, stretto, os.path.join(golden, model["files"][0]["path"]))
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


def warm(stretto, path):
    r = subprocess.run([stretto, "eval", "logits", "-m", path, "--ids", "1", "--raw", os.devnull, "--force",
                        "--arithmetic", "int"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    check(r.returncode == 1 and "attention.temperature_scale" in r.stderr, f"{path}: {r.returncode}: {r.stderr}")


def run_alone(stretto, golden, model):
    if scaling_of(families.MODELS[model["name"]][0]).get("llama_4_scaling_beta"):
        return
    for run in model["runs"]:
        shape = np.load(os.path.join(golden, model["name"], run["expect"])).shape
        got = logits(stretto, os.path.join(golden, model["files"][0]["path"]), run["ids"], shape)
        check(got is None or np.isfinite(got).all(), f"{model['name']}: not all numbers are finite")


def same_bits(name, cfg, w, ids, got, stretto, path):
    global exact
    n = len(ids) if name in ("llama", "gemma3") else min(len(ids), 40)
    try:
        twin = integer.forward(cfg, w, ids[:n])
    except NotImplementedError:
        return
    if cfg["model_type"] == "bert" and n < len(ids):        # whose rows see those behind them
        got = logits(stretto, path, ids[:n], twin.shape)
    same = (got[:n] == twin).all(axis=1)
    exact += int(same.sum())
    check(same.all(), f"{name}: other bits in row {int(same.argmin())} of {n}, by {np.abs(got[:n] - twin).max():.1e}")


def planted_bits(stretto, golden, model):
    """The comparison of bits notices a constant that is one part in a million off."""
    cfg, _, _, dtype = families.MODELS[model["name"]]
    ids = model["runs"][1]["ids"]
    integer.LOG2E += 1549
    twin = integer.forward(cfg, families.weights(model["name"], cfg, dtype), ids)
    integer.LOG2E -= 1549
    got = logits(stretto, os.path.join(golden, model["files"][0]["path"]), ids, twin.shape)
    check((got != twin).any(axis=1).all(), "log2(e) a millionth off leaves bits as they are")


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


def run(argv):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def known_scales(stretto, golden, model):
    """A file of scales: made, used, and what is wrong with one."""
    name = model["name"]
    cfg, _, _, dtype = families.MODELS[name]
    path = os.path.join(golden, name, "model.gguf")
    with tempfile.TemporaryDirectory() as d:
        text, out, odd = (os.path.join(d, n) for n in ("text", "scales.gguf", "odd.gguf"))
        with open(text, "w") as f:
            f.write("the old man and the sea and how many words there are in this long line " * 12)
        r = run([stretto, "eval", "scales", "-m", path, "-f", text, "-c", "64", "--output", out])
        check(r.returncode == 0, f"eval scales: exit code {r.returncode}: {r.stderr}")
        tensors = {t.name: t.data for t in gguf.GGUFReader(out).tensors}
        w = families.weights(name, cfg, dtype)
        named = {files.gguf_name(n, cfg["model_type"]): n[:-len(".weight")] for n, x in w.items() if x.ndim == 2}
        named.pop("token_embd.weight")
        check(set(tensors) == {n + ".in_most" for n in named}, f"eval scales names {sorted(tensors)}")
        ids = model["runs"][-1]["ids"]
        truth, coded = forward(cfg, w, ids), forward(cfg, w, ids, Known({h: float(tensors[n + ".in_most"][0])
                                                                         for n, h in named.items()}))
        got = logits(stretto, path, ids, truth.shape, "--scales", out)
        cost, off = rms(coded - truth), rms(got - coded)
        check(off <= cost, f"{name} with known scales: {off:.2e} off, the codes cost {cost:.2e}")
        check(rms(got[:1] - coded[:1]) <= rms(coded[:1] - truth[:1]) / 64, f"{name} with known scales: the first row")
        print(f"{name} with known scales: {off / cost:.2f} of its bound")
        for value, word in ((None, "was made of another model"), (np.nan, "no largest number"), (0, "is zero")):
            writer = gguf.GGUFWriter(odd, "llama")
            for n, x in sorted(tensors.items()):
                if value is not None or "attn_q" not in n:
                    writer.add_tensor(n, np.array(x) if "attn_q" not in n else np.array([value], np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            argv = [stretto, "eval", "logits", "-m", path, "--ids", "1", "--raw", os.path.join(d, "rows"),
                    "--force"]
            r = run(argv + ["--arithmetic", "int", "--scales", odd])
            check(r.returncode == 1 and word in r.stderr, f"odd scales {value}: {r.returncode}: {r.stderr}")
        r = run(argv + ["--scales", out])
        check(r.returncode == 2 and "goes with --arithmetic int" in r.stderr, f"--scales alone: {r.stderr}")
        r = run([stretto, "eval", "scales", "-m", path, "-f", text, "-c", "64", "--output", out])
        check(r.returncode == 2 and "is there already" in r.stderr, f"eval scales over a file: {r.stderr}")


def main():
    stretto, golden, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(os.path.join(golden, "index.json")) as f:
        index = json.load(f)
    sanitized = only == ["--sanitized"]
    only = [] if sanitized else only
    models = [m for m in index["models"] if m["name"] in families.MODELS and (not only or m["name"] in only)]
    for m in models:
        (run_alone if sanitized else compare)(stretto, golden, m)
    check(only or sanitized or exact > 1500, f"only {exact} rows were compared with the twin")
    if not sanitized:
        planted_bits(stretto, golden, models[0])
    known_scales(stretto, golden, models[0])
    refused(stretto, os.path.join(golden, models[0]["files"][0]["path"]))
    print(f"{len(models)} models, at most {worst:.2f} of their bounds, {exact} rows with the "
          f"twin's bits, {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
