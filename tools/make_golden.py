#!/usr/bin/env python3
"""Tiny models of every family, the logits they must give, and how far arithmetic may stray from them.

    tools/make_golden.py --out build/golden [NAME ...]

Writes OUT/NAME/model.gguf, OUT/NAME/hf/ (config.json, tokenizer.json, safetensors),
OUT/NAME/expect-I.npy (float64, one row for each token), OUT/refused/ (models that must be refused),
OUT/invariance.txt (a model of each architecture and kind of matrix) and OUT/index.json. Everything follows
from the seeds in tools/oracle/families.py; nothing of it is committed. Needs numpy and gguf
(tools/requirements-test.txt).

How bounds are made (index.json, "allow"), each from the arithmetic itself on the very same model and tokens:
  float32   8 x the largest difference that float32 makes to float64 when terms are added in three orders.
            The eight pays for the tail beyond three samples and for exp/tanh of a few units in the last place.
  f16cache  the same with keys and values also rounded to float16 on their way through the cache: what is
            allowed to a program whose cache is float16.
  int8      3 x the root mean square error of a forward whose quantised matrices see activations rounded
            to int8 in groups of 32: groups may be larger than 32, and one model's error is one sample.
  bf16      the same for F16 and BF16 matrices that see activations rounded to bf16.
"""
import argparse
import json
import os
import shutil
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")     # the matrices are tiny
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    import gguf
    from oracle import dtypes, families, files, gguf_more  # noqa: F401
    from oracle.forward import Arith, forward, mean_pool
except ImportError as e:
    print(f"skip: {e}; run ./dev test, or pip install -r tools/requirements-test.txt")
    sys.exit(77)

ORDERS = ("plain", "reversed", "chunks")


def largest(x):
    return float(np.abs(x).max())


def rms(x):
    return float(np.sqrt((x * x).mean()))


def expectations(folder, cfg, w, acts=None, coarse=None):
    """Writes expect-I.npy and returns their rows of the index. acts, coarse: see Arith."""
    out = []
    for i, ids in enumerate(families.sequences(cfg["model_type"], cfg)):
        truth = forward(cfg, w, ids)
        np.save(os.path.join(folder, f"expect-{i}.npy"), truth)
        stray = {}
        for cache in (None, "f16"):
            stray[cache] = max(largest(forward(cfg, w, ids, Arith(np.float32, order, cache)) - truth)
                               for order in ORDERS)
        allow = {"float32": 8 * stray[None], "f16cache": 8 * stray["f16"]}
        if acts:
            rough = Arith(np.float64, cache="f16", acts=acts, coarse=coarse)
            allow["bf16" if acts == "bf16" else "int8"] = 3 * rms(forward(cfg, w, ids, rough) - truth)
        out.append({"ids": ids, "expect": f"expect-{i}.npy", "rows": len(ids), "columns": truth.shape[1],
                    "spread": rms(truth - truth.mean(axis=1, keepdims=True)), "allow": allow})
    return out


def make_family(out, name):
    cfg, vocab, hf, dtype = families.MODELS[name]
    folder = os.path.join(out, name)
    os.makedirs(folder)
    w = families.weights(name, cfg, dtype)
    entry = {"name": name, "family": cfg["model_type"], "files": [], "encoder": cfg["model_type"] == "bert"}
    if hf != "single only":
        types = {}
        if dtype != "F32":              # the GGUF twin holds the very same numbers
            types = {files.gguf_name(n, cfg["model_type"]): dtype for n, x in w.items() if x.ndim == 2}
        files.write_gguf(os.path.join(folder, "model.gguf"), cfg, vocab, w, types)
        entry["files"].append({"path": f"{name}/model.gguf", "kind": "gguf", "type": dtype})
    if hf:
        files.write_hf(os.path.join(folder, "hf"), cfg, vocab, w, hf, dtype)
        entry["files"].append({"path": f"{name}/hf", "kind": "hf", "type": dtype})
    entry["runs"] = expectations(folder, cfg, w, None if dtype == "F32" else "bf16")
    if entry["encoder"]:
        entry["texts"] = []
        for text in ("the old man and the sea", "how many words are there in this long line , and why ?"):
            ids = files.wordpiece_ids(text, cfg["vocab_size"])
            truth = mean_pool(forward(cfg, w, ids))
            stray = max(largest(mean_pool(forward(cfg, w, ids, Arith(np.float32, order))) - truth)
                        for order in ORDERS)
            entry["texts"].append({"text": text, "ids": ids, "embedding": truth.tolist(),
                                   "allow": {"float32": 8 * stray}})
    return entry


MIXED = {"attn_q": "Q4_K", "attn_k": "Q5_0", "attn_v": "Q6_K", "attn_output": "Q8_0", "ffn_gate": "Q5_K",
         "ffn_up": "Q4_1", "ffn_down": "Q3_K", "token_embd": "Q8_0", "output": "Q6_K"}


def make_typed(out, type_name):
    """llama of width 256 with every matrix in one file type (or each in another: "mixed")."""
    cfg, name = families.TYPED, "type-" + type_name.lower()
    folder = os.path.join(out, name)
    os.makedirs(folder)
    w = families.weights(name, cfg, type_name)
    rng = np.random.RandomState(4242)
    types, raw, coarse = {}, {}, []
    for hf, x in w.items():
        n = files.gguf_name(hf, "llama")
        if x.ndim != 2:
            continue
        t = type_name if type_name != "mixed" else MIXED[n.split(".")[-2]]
        types[n] = t
        if t in dtypes.CODED:
            def decode(b, t=t):
                return gguf.quants.dequantize(b, gguf.GGMLQuantizationType[t])
            raw[n] = families.random_blocks(rng, *x.shape, t, decode)
            values = decode(raw[n])
            heads = {"attn_q": 4, "attn_k": 2}.get(n.split(".")[-2])
            if heads:                   # back from neighbouring pairs to halves
                values = values.reshape(heads, -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
            w[hf] = values
            coarse.append("lm_head" if hf == "lm_head.weight" else hf[:-len(".weight")])
    files.write_gguf(os.path.join(folder, "model.gguf"), cfg, "bpe", w, types, raw)
    return {"name": name, "family": "llama", "encoder": False,
            "files": [{"path": f"{name}/model.gguf", "kind": "gguf", "type": type_name}],
            "runs": expectations(folder, cfg, w, 32 if coarse else "bf16", coarse or None)}


def make_refused(out):
    """Whole, well-formed files of models whose arithmetic we do not have: running one as if it were
    another family would answer nonsense, so each must be refused. `word` must stand in the sentence."""
    os.makedirs(os.path.join(out, "refused"))
    rows = []

    def gguf_file(name, word, cfg, edit=None, **options):
        path = f"refused/{name}.gguf"
        w = families.weights(name, cfg)
        if edit:
            edit(w)
        files.write_gguf(os.path.join(out, path), cfg, "bpe", w, **options)
        rows.append({"path": path, "word": word})

    def folder(name, word, cfg, **says):
        path = f"refused/{name}"
        files.write_hf(os.path.join(out, path), {**cfg, **says}, "bpe", families.weights(name, cfg), "single", "F32")
        rows.append({"path": path, "word": word})

    def long_rope(g):
        for which in ("long", "short"):
            g.add_tensor(f"rope_factors_{which}.weight", np.linspace(1, 4, 8).astype(np.float32))

    llama, phi3 = families.MODELS["llama"][0], families.MODELS["phi3"][0]
    factors = {"long_factor": [4.0] * 8, "short_factor": [1.0] * 8, "rope_type": "longrope"}
    gguf_file("llama-longrope", "longrope", llama, more=long_rope)
    folder("llama-longrope-hf", "longrope", {**llama, "rope_scaling": factors})
    gguf_file("phi3-half-longrope", "rope_factors_short", phi3,
              more=lambda g: g.add_tensor("rope_factors_long.weight", np.ones(8, np.float32)))
    gguf_file("unknown-family", "mamba", llama, arch="mamba")
    folder("unknown-family-hf", "mamba", llama, model_type="mamba", architectures=["MambaForCausalLM"])
    gguf_file("experts", "expert", llama, more=lambda g: g.add_expert_count(8))
    gguf_file("missing-tensor", "blk.1.ffn_down", llama, edit=lambda w: w.pop("model.layers.1.mlp.down_proj.weight"))
    gguf_file("wrong-shape", "blk.1.ffn_up", llama,
              edit=lambda w: w.update({"model.layers.1.mlp.up_proj.weight": np.zeros((96, 64), np.float32)}))
    # a type without a row: Q8_1 is how llama.cpp keeps activations, no file has it
    gguf_file("type-q8_1", "Q8_1", llama, types={"blk.0.attn_output.weight": "Q8_1"},
              raw={"blk.0.attn_output.weight": np.zeros((64, 80), np.uint8)})
    return rows


def one_of_each():
    """A model of each architecture, in another form where its first is too plain, and of each kind of matrix."""
    other = {"llama": ("llama-tied", "llama-yarn", "llama-sizes"), "phi3": ("phi3-partial",)}
    names = [m for n in families.first_models(lambda cfg: families.of(cfg).arch) for m in other.get(n, (n,))]
    return names + ["type-" + t for t in ("mixed", "q4_0", "q4_1", "q8_0", "q4_k", "q6_k", "f16")]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", required=True)
    ap.add_argument("names", nargs="*", help="only these models")
    args = ap.parse_args()
    jobs = {name: (make_family, name) for name in families.MODELS}
    jobs.update({"type-" + t.lower(): (make_typed, t) for t in families.TYPES + ["mixed"]})
    unknown = [n for n in args.names if n not in jobs]
    if unknown:
        ap.error(f"no such model: {', '.join(unknown)} (there are {', '.join(jobs)})")
    partial = args.out + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    index = []
    for name in args.names or jobs:
        make, arg = jobs[name]
        index.append(make(partial, arg))
        print(f"{name}: " + "; ".join(
            f"{r['rows']} rows, spread {r['spread']:.2f}, "
            + ", ".join(f"{k} {v:.1e}" for k, v in r["allow"].items()) for r in index[-1]["runs"][-1:]), flush=True)
    with open(os.path.join(partial, "invariance.txt"), "w") as f:
        f.writelines(f"{args.out}/{name}/model.gguf\n" for name in one_of_each())
    with open(os.path.join(partial, "index.json"), "w") as f:
        json.dump({"models": index, "refused": [] if args.names else make_refused(partial)}, f, indent=1)
    shutil.rmtree(args.out, ignore_errors=True)
    os.rename(partial, args.out)


if __name__ == "__main__":
    main()
