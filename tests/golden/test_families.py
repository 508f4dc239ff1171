#!/usr/bin/env python3
"""Every family and every element type against the float64 forward of tools/oracle.

    test_families.py STRETTO GOLDEN [MODEL ...]

GOLDEN is made by tools/make_golden.py, whose text says where each bound comes from. For each file of each
model: the float32 path must lie within "float32" of the truth in every single logit; the fast path within
"f16cache" when its matrices are F32, and within the root mean square error "int8" or "bf16" otherwise.
Models whose arithmetic we do not have must be refused with a sentence and exit code 1. First of all the
comparison itself is tested: planted mistakes must land outside the bounds, and the families that the program
names (`stretto info --families`) must be those of the oracle."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(ROOT, "tools"))
try:
    import numpy as np
    from oracle import families
    from oracle.forward import Arith, forward, layer_windows, scaling_of
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


def rms(x):
    return float(np.sqrt((x * x).mean()))


def flaws(cfg):
    """The mistakes that can be made in a model."""
    fam = families.of(cfg)
    if fam.own:
        return fam.flaws
    found = ["eps", "activation", "base", "pairs", "rope"] + (["beside"] if families.beside(cfg) else ["norms"])
    found += ["qk"] if fam.qk_norm else []
    scaling = scaling_of(cfg)
    found += ["warm"] if scaling.get("llama_4_scaling_beta") else []
    found += ["far"] if scaling.get("long_factor") else []
    found += ["early"] if fam.qk_norm == "turned" else []
    found += ["turned"] if not all(families.turning(cfg, layer_windows(cfg))) else []
    found += [word for word, _ in fam.scales if word != "embedding_multiplier"]
    found += ["cap"] if cfg.get("attn_logit_softcapping") else []
    return found + (["window"] if any(layer_windows(cfg)) else [])


def planted(golden, model):
    for flaw in flaws(families.MODELS[model["name"]][0]):
        plant(golden, model, flaw)


def plant(golden, model, flaw):
    """The bound must tell the truth from a forward with one mistake in it."""
    cfg, _, _, dtype = families.MODELS[model["name"]]
    run = model["runs"][-1]
    truth = np.load(os.path.join(golden, model["name"], run["expect"]))
    wrong = forward(cfg, families.weights(model["name"], cfg, dtype), run["ids"], Arith(flaw=flaw))
    off = float(np.abs(wrong - truth).max())
    check(off > run["allow"]["float32"], f"{model['name']}: a forward with a wrong {flaw} is only {off:.1e} "
          f"off, within the bound {run['allow']['float32']:.1e}")


def call(argv):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    return r.returncode, r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace").strip()


def logits(stretto, path, ids, shape, reference):
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "rows")
        argv = [stretto, "eval", "logits", "-m", path, "-c", str(len(ids)), "--ids", ",".join(map(str, ids)), "--raw",
                out]
        rc, _, err = call(argv + (["--reference"] if reference else []))
        if rc:
            return None, f"exit code {rc}: {err[-300:]}"
        got = np.fromfile(out, np.float32)
    if got.size != shape[0] * shape[1]:
        return None, f"{got.size} numbers instead of {shape[0]} x {shape[1]}"
    got = got.reshape(shape).astype(np.float64)
    return (got, None) if np.isfinite(got).all() else (None, "not all numbers are finite")


def compare(stretto, golden, model, file):
    worst = {"float32": 0.0, "fast": 0.0}
    for i, run in enumerate(model["runs"]):
        truth = np.load(os.path.join(golden, model["name"], run["expect"]))
        for reference in (True, False):
            where = f"{file['path']} run {i} {'float32' if reference else 'fast'} path"
            got, why = logits(stretto, os.path.join(golden, file["path"]), run["ids"], truth.shape, reference)
            check(got is not None, f"{where}: {why}")
            if got is None:
                continue
            coarse = [k for k in run["allow"] if k in ("int8", "bf16")]
            kind = "float32" if reference else coarse[0] if coarse else "f16cache"
            off = rms(got - truth) if kind in ("int8", "bf16") else float(np.abs(got - truth).max())
            key = "float32" if reference else "fast"
            worst[key] = max(worst[key], off / run["allow"][kind])
            row = int(np.abs(got - truth).max(axis=1).argmax())
            check(off <= run["allow"][kind], f"{where}: off by {off:.2e}, allowed {run['allow'][kind]:.2e} "
                  f"({kind}; worst in row {row} of {len(truth)})")
    print(f"{file['path']}: " + ", ".join(f"{k} {v:.2f} of its bound" for k, v in worst.items()), flush=True)


def embeddings(stretto, golden, model, file):
    for text in model["texts"]:
        r = subprocess.run([stretto, "embed", "-m", os.path.join(golden, file["path"]), "--json", "--reference"],
                           input=text["text"] + "\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        where = f"{file['path']} embed"
        check(r.returncode == 0, f"{where}: exit code {r.returncode}: {r.stderr[-300:]}")
        if r.returncode:
            continue
        got = np.array(first_vector(json.loads(r.stdout)))
        off = float(np.abs(got - np.array(text["embedding"])).max())
        check(off <= text["allow"]["float32"], f"{where}: off by {off:.2e}, allowed {text['allow']['float32']:.2e}")


def named(stretto):
    """What the program says it runs is what is tested, under the same names."""
    rc, out, err = call([stretto, "info", "--families", "--json"])
    check(rc == 0, f"info --families: exit code {rc}: {err}")
    ours = {(f.outer or t, f.arch) for t, f in families.FAMILIES.items()}
    theirs = {(t, row["name"]) for row in json.loads(out) for t in row["model_types"]}
    check(ours == theirs, f"in the program or in FAMILIES of tools/oracle/families.py alone: {sorted(ours ^ theirs)}")
    untested = [t for t in families.FAMILIES if t not in {cfg["model_type"] for cfg, *_ in families.MODELS.values()}]
    check(not untested, f"without a model in tools/oracle/families.py: {untested}")


def layer_groups(stretto, golden, name, every):
    """What `info` says of the cache: every `every`-th layer keeps all tokens, the others a window's."""
    folder = os.path.join(golden, name)
    with open(os.path.join(folder, "hf", "config.json")) as f:
        cfg = json.load(f)
    rc, out, err = call([stretto, "info", "-m", os.path.join(folder, "model.gguf"), "-c", "32768", "--json"])
    check(rc == 0, f"{name} info: exit code {rc}: {err}")
    info = json.loads(out)["model"]
    token = cfg["num_key_value_heads"] * cfg.get("head_dim", cfg["hidden_size"] // cfg["num_attention_heads"]) * 2 * 2
    full = cfg["num_hidden_layers"] // every
    want = {"full": (full, 0), "window": (cfg["num_hidden_layers"] - full, cfg.get("sliding_window"))}
    got = {g["kind"]: (g["layers"], g["window"]) for g in info["cache_groups"]}
    check(got == {k: v for k, v in want.items() if v[0]}, f"{name} info: layer groups {got}, expected {want}")
    for g in info["cache_groups"]:
        check(g["token_bytes"] == g["layers"] * token, f"{name} info: {g}, expected {token} bytes a token and layer")
    taken = info["engine_cache_bytes"]
    check(taken == sum(g["bytes"] for g in info["cache_groups"]), f"{name} info: groups do not add up to {taken}")
    share = taken / (token * cfg["num_hidden_layers"] * (32768 + 64))
    most = full / cfg["num_hidden_layers"] + (1 - full / cfg["num_hidden_layers"]) / 16
    check(share <= most, f"{name} info: the cache takes {share:.3f} of what all layers would, expected {most:.3f}")


def first_vector(value):
    """The first list of numbers in what `embed --json` prints."""
    if isinstance(value, list) and value and isinstance(value[0], (int, float)):
        return value
    for v in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found = first_vector(v)
        if found:
            return found
    return None


def refused(stretto, golden, row):
    rc, out, err = call([stretto, "run", "-m", os.path.join(golden, row["path"]), "-p", "a", "-n", "1"])
    check(rc == 1, f"{row['path']}: exit code {rc} instead of 1 ({err[-200:] or out[-200:]})")
    check(row["word"].lower() in err.lower(), f"{row['path']}: the message does not name {row['word']}: {err[-300:]}")


def main():
    stretto, golden, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    if not os.path.exists(os.path.join(golden, "index.json")):
        print("skip: the golden models were not made (tools/make_golden.py)")
        return 77
    with open(os.path.join(golden, "index.json")) as f:
        index = json.load(f)
    models = {m["name"]: m for m in index["models"]}
    named(stretto)
    for name, every in (("llama", 1), ("gemma2", 2), ("gemma3", 6), ("olmo3", 4)):
        if not names or name in names:
            layer_groups(stretto, golden, name, every)
    for name in families.first_models(lambda cfg: cfg["model_type"]) + ["phi3-long"]:
        if not names or name in names:
            planted(golden, models[name])
    for name in names or models:
        if name == "refused":
            continue
        for file in models[name]["files"]:
            compare(stretto, golden, models[name], file)
            if models[name].get("texts"):
                embeddings(stretto, golden, models[name], file)
    if not names or "refused" in names:
        for row in index["refused"]:
            refused(stretto, golden, row)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
