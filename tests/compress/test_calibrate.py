#!/usr/bin/env python3
"""`stretto calibrate` against the float64 forward of tools/oracle, for every family.

    test_calibrate.py STRETTO GOLDEN [MODEL ...]

What each linear layer reads in the oracle gives sums, sums of squares, ranges and second moments; those in the file
must lie within 8 x the largest difference that float32 makes to them when terms are added in three orders (the
bound of tools/make_golden.py), and for second moments, which are summed in float32, a rounding more for each term
of a sum in runs of 128. Mistakes planted into the oracle must land outside. Needs models that make_golden.py made."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(ROOT, "tools"))
try:
    import gguf
    import numpy as np
    from oracle import families, files
    from oracle.forward import Arith, forward
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

ORDERS = ("plain", "reversed", "chunks")
EPS, RUN = 2.0 ** -24, 128
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


class Seen(Arith):
    """Keeps what matrices meet, in the order of the rows."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.read = {}

    def linear(self, x, w, b=None, name=""):
        self.read.setdefault(name, []).append(np.asarray(x, np.float64))
        return super().linear(x, w, b, name)


def statistics(cfg, w, windows, arith):
    for ids in windows:
        forward(cfg, w, ids, arith)
    out = {}
    for name, parts in arith.read.items():
        x = np.concatenate(parts)
        out[name] = {"sum": x.sum(axis=0), "sum2": (x * x).sum(axis=0), "most": np.abs(x).max(axis=0),
                     "gram": x.T @ x, "rows": len(x), "size": np.abs(x).T @ np.abs(x), "far": np.abs(x).sum(axis=0)}
    return out


def run(argv):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    return r.returncode, r.stderr.decode(errors="replace").strip()


def calibrate(stretto, path, windows, out, *more):
    ids = ";".join(",".join(map(str, w)) for w in windows)
    return run([stretto, "calibrate", "-m", path, "--ids", ids, "-o", out, "--gram", "-q", "--force", *more])


def read_file(path):
    r = gguf.GGUFReader(path)
    t = {x.name: np.array(x.data, np.float64) for x in r.tensors}
    field = r.fields["stretto.stats.same"]
    words = [bytes(field.parts[i]).decode() for i in field.data]
    same = dict(zip(words[::2], words[1::2]))
    out = {}
    for name, squares in t.items():
        if not name.endswith(".in_sum2"):
            continue
        stem = name[:-len(".in_sum2")]
        rest = t[stem + ".in_rest"].reshape(3, -1)
        out[stem] = {"sum2": squares.ravel() + rest[0], "sum": rest[1] + rest[2], "most": t[stem + ".in_most"],
                     "rows": int(t[stem + ".counts"].ravel()[0]), "gram": t[same.get(stem, stem) + ".in_gram"]}
    return out


def weight_name(hf, cfg, names):
    """What the GGUF file calls the matrix: fused ones are there under their own name, and by their parts."""
    if hf == "lm_head":
        return "output.weight" if "output.weight" in names else "token_embd.weight"
    return files.gguf_name(hf + ".weight", cfg["model_type"])


def bounds(truth, others):
    allow = {}
    for kind in ("sum", "sum2", "most", "gram"):
        allow[kind] = 8 * max(np.abs(o[kind] - truth[kind]).max() for o in others)
    kept = 2.0 ** -47                   # files have sums as two float32; float64 adds in another order
    allow["sum"] = allow["sum"] + kept * truth["far"]
    allow["sum2"] = allow["sum2"] + kept * truth["sum2"]
    runs = truth["rows"] / RUN + 1
    allow["gram"] = allow["gram"] + (min(RUN, truth["rows"]) + runs + 2) * EPS * truth["size"]
    return allow


def compare(where, got, truth, others):
    """The worst share of a bound over all matrices and kinds."""
    worst = 0.0
    for hf, t in truth.items():
        allow = bounds(t, [o[hf] for o in others])
        for kind, bound in allow.items():
            off = np.abs(got[hf][kind] - t[kind])
            share = float((off / np.maximum(bound, 1e-30)).max())
            worst = max(worst, share)
            if where:
                check(share <= 1, f"{where}: {kind} of {hf} is off by {off.max():.2e}, {share:.1f} of its bound")
    return worst


def one_model(stretto, golden, model, tmp):
    name = model["name"]
    cfg, _, _, dtype = families.MODELS[name]
    w = families.weights(name, cfg, dtype)
    windows = [r["ids"] for r in model["runs"]]
    if name == "llama":                 # several steps, and one that is longer than a step
        rng = np.random.RandomState(3)
        windows += [[int(t) for t in rng.randint(3, cfg["vocab_size"], n)] for n in (700, 1100, 300)]
    if (cfg.get("rope_scaling") or {}).get("long_factor"):     # of the longest, which the engine's context fits
        windows = [x for x in windows if len(x) > cfg["original_max_position_embeddings"]]
    truth = statistics(cfg, w, windows, Seen())
    others = [statistics(cfg, w, windows, Seen(np.float32, order)) for order in ORDERS]
    for file in model["files"]:
        path, out = os.path.join(golden, file["path"]), os.path.join(tmp, "stats")
        rc, err = calibrate(stretto, path, windows, out)
        check(rc == 0, f"{file['path']}: exit code {rc}: {err}")
        if rc:
            continue
        got = read_file(out)
        by_hf = {hf: got.get(weight_name(hf, cfg, got)) for hf in truth}
        missing = [hf for hf, g in by_hf.items() if g is None]
        check(not missing, f"{file['path']}: no statistics of {missing}")
        if missing:
            continue
        for hf, g in by_hf.items():
            check(g["rows"] == truth[hf]["rows"], f"{file['path']}: {g['rows']} rows of {hf}")
            check((g["gram"] == g["gram"].T).all(), f"{file['path']}: second moments of {hf} are not symmetric")
        worst = compare(file["path"], by_hf, truth, others)
        print(f"{file['path']}: {worst:.2f} of the bound", flush=True)
        if name in ("llama", "gpt2", "bert", "gemma3") and file["kind"] == "gguf":
            flaws = {"gpt2": ["position", "activation"], "bert": ["causal", "position"]}
            for flaw in flaws.get(name, ["eps", "base", "norms"]):
                wrong = statistics(cfg, w, windows, Seen(flaw=flaw))
                share = compare(None, wrong, truth, others)
                check(share > 1, f"{name}: a wrong {flaw} is not noticed")
            again = os.path.join(tmp, "again")
            calibrate(stretto, path, windows, again, "-t", "1")
            with open(out, "rb") as a, open(again, "rb") as b:
                check(a.read() == b.read(), f"{name}: one thread writes another file than all")


def bad_input(stretto, golden, tmp):
    path, out = os.path.join(golden, "gpt2", "model.gguf"), os.path.join(tmp, "bad")
    base = [stretto, "calibrate", "-m", path, "-q"]
    long = ",".join(["5"] * 5000)
    for argv, code, word in ((base + ["--ids", "1,2"], 2, "-o"), (base + ["--ids", "1,,2", "-o", out], 2, "--ids"),
                             (base + ["--ids", "1,99999999", "-o", out], 2, "vocabulary"),
                             (base + ["--ids", long, "-o", out], 2, "positions"),
                             (base + ["--ids", "1", "-o", os.path.join(tmp, "none", "x")], 1, "none"),
                             (base + ["-f", os.path.join(tmp, "no such"), "-o", out], 1, "no such")):
        rc, err = run(argv)
        check(rc == code and word in err, f"{' '.join(argv[4:])[:60]}: exit code {rc} and '{err}'")
        check(not os.path.exists(out) and not os.path.exists(out + ".part"), "something is left of a failure")


def main():
    stretto, golden, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(os.path.join(golden, "index.json")) as f:
        models = [m for m in json.load(f)["models"] if m["name"] in families.MODELS]
    with tempfile.TemporaryDirectory() as tmp:
        for model in models:
            if not only or model["name"] in only:
                one_model(stretto, golden, model, tmp)
        bad_input(stretto, golden, tmp)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
