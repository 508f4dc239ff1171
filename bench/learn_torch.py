#!/usr/bin/env python3
"""The same training in torch, step by step: the same lines in the same order, the same first adapter, the same rates,
clipping and AdamW, in float32, and losses side by side.

    bench/learn_torch.py -m MODEL.f32.gguf -d train.jsonl --valid valid.jsonl --work FOLDER --torch PYTHON
                         [--method lora|full] [--steps 300] [--rows 256] [--served FILE.gguf] [--ours STRETTO]

MODEL is a GGUF file of the llama family whose weights are float32. Ours is `stretto teach`; torch's side is a llama in
torch's own operations, differentiated by torch and updated by torch.optim.AdamW, and reads nothing of ours but what
the training began with: token ids with their marks (`teach --show`), the order of lines and the adapter's numbers,
which are computed here from the seed. Its held-out loss is computed in torch for both adapters, token by token, so
their difference has a paired error. How far roundings alone lead two trainings apart is said by ours with other
kernels (STRETTO_CPU=avx2), and --served trains over that file's weights too: quantised, as they are served.
Stages are kept in --work."""
import argparse
import json
import math
import os
import re
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED, RANK, WARM, BETAS, EPS = 1, 16, 0.05, (0.9, 0.95), 1e-8

TORCH = r'''
import json, math, sys, time
import numpy as np
import torch
from torch.nn import functional as F
with open(sys.argv[1]) as f:
    how = json.load(f)
torch.manual_seed(1)
torch.set_num_threads(how["threads"])
c, file = how["config"], np.load(how["weights"])
w = {n: torch.from_numpy(file[n]) for n in file.files}
heads, kv, dim = c["heads"], c["kv_heads"], c["head_dim"]


def linear(x, name, pair):
    y = F.linear(x, w[name])
    return y + 2 * F.linear(F.linear(x, pair[name + ".lora_a"]), pair[name + ".lora_b"]) if pair else y


def norm(x, name):
    return w[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["eps"]))


def turn(x):
    """Neighbours turn, as rows of q and k stand in this format."""
    angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * c["base"] ** (
        -torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    cosine, sine = angle.cos().float(), angle.sin().float()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cosine - b * sine, a * sine + b * cosine), -1).flatten(-2)


def forward(ids, pair):
    n, rows = ids.shape
    mask = torch.full((rows, rows), float("-inf")).triu(1)
    x = F.embedding(ids, w["token_embd.weight"])
    for i in range(c["layers"]):
        p = f"blk.{i}."
        y = norm(x, p + "attn_norm.weight")
        q, k, v = (linear(y, f"{p}attn_{s}.weight", pair).view(n, rows, -1, dim).transpose(1, 2) for s in "qkv")
        q, k = turn(q), turn(k)
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        a = torch.softmax(q @ k.transpose(2, 3) / dim ** 0.5 + mask, -1) @ v
        x = x + linear(a.transpose(1, 2).reshape(n, rows, -1), p + "attn_output.weight", pair)
        y = norm(x, p + "ffn_norm.weight")
        y = F.silu(linear(y, p + "ffn_gate.weight", pair)) * linear(y, p + "ffn_up.weight", pair)
        x = x + linear(y, p + "ffn_down.weight", pair)
    return norm(x, "output_norm.weight")


def losses(samples, pair):
    """Of each token that counts, in order; the head runs over these alone."""
    longest = max(len(s["ids"]) for s in samples) - 1
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    for i, s in enumerate(samples):
        ids[i, :len(s["ids"]) - 1] = torch.tensor(s["ids"][:-1])
    x = forward(ids, pair)
    rows = torch.cat([x[i, torch.tensor(s["counts"]) - 1] for i, s in enumerate(samples)])
    target = torch.tensor([s["ids"][t] for s in samples for t in s["counts"]])
    return F.cross_entropy(F.linear(rows, w[c["head"]]), target, reduction="none")


def held(pair):
    with torch.no_grad():
        return torch.cat([losses([s], pair) for s in how["valid"]]).double().numpy()


def pairs(path):
    f = np.load(path)
    return {n: torch.from_numpy(f[n].copy()) for n in f.files}


full = how["method"] == "full"
pair = None if full else pairs(how["begin"])
trained = [t.requires_grad_() for t in (w if full else pair).values()]
optimizer = torch.optim.AdamW(trained, lr=1, betas=how["betas"], eps=how["eps"], weight_decay=0)
before, steps = held(pair), []
for step, (batch, rate) in enumerate(zip(how["batches"], how["rates"]), 1):
    begin = time.process_time()
    optimizer.param_groups[0]["lr"] = rate
    loss = losses([how["train"][i] for i in batch], pair).mean()
    loss.backward()
    length = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    steps.append([float(loss), float(length)])
    print(json.dumps([step, float(loss), float(length), time.process_time() - begin]), file=sys.stderr, flush=True)
after = held(pair)
other = {}
for name, path in how["others"].items():
    if full:
        w = {n: torch.from_numpy(v) for n, v in np.load(path).items()}
    other[name] = held(None if full else pairs(path)).tolist()
print(json.dumps({"steps": steps, "before": before.tolist(), "after": after.tolist(), "others": other,
                  "version": torch.__version__}))
'''


def run(argv, **how):
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False, **how)
    if done.returncode:
        sys.exit(f"learn_torch: {' '.join(argv[:2])} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


# ---- what a training begins with, computed once more -------------------------------------------
MASK = (1 << 64) - 1


def mix(x):
    """SplitMix64's finaliser, of numbers or of arrays of them (src/base/random.h)."""
    if isinstance(x, int):
        return int(mix(np.array([x & MASK], np.uint64))[0])
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9e3779b97f4a7c15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        return x ^ (x >> np.uint64(31))


def random_at(seed, choice, position, n):
    """Of the first n tokens."""
    at = mix(mix(mix(seed) ^ choice) ^ position)
    return mix(np.uint64(at) ^ np.arange(n, dtype=np.uint64))


def hash_text(text):
    raw = text.encode()
    h = mix(len(raw))
    for i in range(0, len(raw) - 7, 8):
        h = (h ^ int.from_bytes(raw[i:i + 8], "little")) * 0x9e3779b97f4a7c15 & MASK
        h ^= h >> 32
    return mix(h ^ int.from_bytes(raw[len(raw) // 8 * 8:], "little"))


def first_adapter(shapes):
    """{name: array}: A uniform in +-1/sqrt(n_in), B zero."""
    out = {}
    for name, (n_out, n_in) in shapes.items():
        bits = random_at(SEED, 10, hash_text(name), RANK * n_in) >> np.uint64(12)
        unit = (bits.astype(np.float64) + 0.5) * 2.0 ** -52
        out[name + ".lora_a"] = (1 / math.sqrt(n_in) * (2 * unit - 1)).astype(np.float32).reshape(RANK, n_in)
        out[name + ".lora_b"] = np.zeros((n_out, RANK), np.float32)
    return out


def first_of(learned):
    f = np.load(learned)
    return first_adapter({n[:-7]: (f[n].shape[0], f[n[:-1] + "a"].shape[1]) for n in f.files if n.endswith("lora_b")})


def batches_of(rows, wanted, steps):
    """Lists of samples: of lines without groups, in the order of the seed, cut into batches of about as many rows."""
    out, epoch = [], 0
    while len(out) < steps:
        order = np.argsort(random_at(SEED, 1, epoch, len(rows)), kind="stable")
        order = order[np.argsort(random_at(SEED, 2, epoch, len(rows)), kind="stable")]
        total, done, found = sum(rows), 0, [[]]
        n = min((total + wanted // 2) // wanted or 1, len(rows))
        for left, i in zip(range(len(rows) - 1, -1, -1), order):
            done += rows[i]
            found[-1].append(int(i))
            if done * n >= len(found) * total or left < n - len(found) + 1:
                found.append([])
        out += [b for b in found if b]
        epoch += 1
    return out[:steps]


def rates_of(lr, steps):
    warm = math.ceil(WARM * steps)
    down = [lr * 0.5 * (1 + math.cos(math.pi * s / (steps - warm))) for s in range(steps - warm)]
    return [lr * s / (warm + 1) for s in range(1, warm + 1)] + down


def samples_of(args, path):
    """Ids, and which of them count, as teach --show prints them."""
    out = []
    argv = [args.ours, "teach", "-m", args.model, "-d", path, "--hold-out", "0", "--show", "1000000"]
    for line in run(argv).split("\n"):
        if re.match(r".*, line \d+: \d+ tokens, ", line):
            out.append({"ids": [], "counts": []})
        elif (at := re.match(r" *(\d+) +(\d+)  (learned)?", line)) and out:
            if at[3]:
                out[-1]["counts"].append(len(out[-1]["ids"]))
            out[-1]["ids"].append(int(at[2]))
    for s in out:
        s["ids"] = s["ids"][:s["counts"][-1] + 1]
    return out


# ---- files -------------------------------------------------------------------------------------
def gguf_of(path):
    try:
        import gguf
    except ImportError:
        sys.exit("learn_torch: the Python package gguf is missing; ./dev test installs it into build/venv")
    return gguf.GGUFReader(path)


def tensors(path):
    return {t.name: np.array(t.data, np.float32) for t in gguf_of(path).tensors}


def config_of(args):
    r = gguf_of(args.model)
    field = lambda name: r.fields["llama." + name].contents()
    names = {t.name: t for t in r.tensors}
    if any(t.tensor_type.name != "F32" for t in r.tensors):
        sys.exit(f"learn_torch: {args.model} is not of float32 throughout")
    heads, width = field("attention.head_count"), field("embedding_length")
    return {"layers": field("block_count"), "heads": heads, "kv_heads": field("attention.head_count_kv"),
            "head_dim": width // heads, "eps": field("attention.layer_norm_rms_epsilon"),
            "base": field("rope.freq_base"),
            "head": "output.weight" if "output.weight" in names else "token_embd.weight"}


def saved(args, name, make):
    path = os.path.join(args.work, name)
    if not os.path.exists(path):
        with open(path + ".part", "wb") as f:
            np.savez(f, **make())
        os.rename(path + ".part", path)
    return path


# ---- the two sides -----------------------------------------------------------------------------
def ours(args, name, model, lines, valid, **environment):
    """A training of stretto teach: the log of its steps, held-out losses before and after."""
    out = os.path.join(args.work, name)
    if not os.path.exists(os.path.join(out, "teach.json")):
        argv = [args.ours, "teach", "-o", out, "--json", "-t", str(args.threads)]
        if os.path.exists(os.path.join(out, "run.json")):
            argv.append("--resume")
        else:
            argv += ["-m", model, "-d", lines, "--valid", valid, "--method", args.method, "--steps", str(args.steps),
                     "--rows", str(args.rows), "--epochs", "1000", "--measure", str(args.steps)]
            argv += ["--save-f32"] * (args.method == "full") + ["--lr", str(args.lr)] * bool(args.lr)
        text = run(argv, env={**os.environ, **environment})
        with open(os.path.join(out, "teach.json"), "w", encoding="utf-8") as f:
            f.write(text)
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as f:
        log = [x for x in map(json.loads, f) if x.get("step")]
    with open(os.path.join(out, "teach.json"), encoding="utf-8") as f:
        return out, log, json.load(f)


def learned(args, out):
    return tensors(os.path.join(out, "model.f32.gguf" if args.method == "full" else "adapter.gguf"))


def torch_side(args, train, valid, batches, rates, begin, others):
    path = os.path.join(args.work, "torch.json")
    if not os.path.exists(path):
        how = {"config": config_of(args), "weights": saved(args, "weights.npz", lambda: tensors(args.model)),
               "begin": begin, "method": args.method, "train": train, "valid": valid, "batches": batches,
               "rates": rates, "betas": BETAS, "eps": EPS, "threads": args.threads or 1, "others": others}
        asked = os.path.join(args.work, "asked.json")
        with open(asked, "w", encoding="utf-8") as f:
            json.dump(how, f)
        with open(os.path.join(args.work, "torch.log"), "wb") as log:
            text = run([args.torch, "-c", TORCH, asked], stderr=log)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def plain_lines(path, out, most):
    """Lines without groups: each is computed alone, as torch's side does it."""
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(x) for x in f if x.strip()]
    with open(out, "w", encoding="utf-8") as f:
        for r in rows[:most or len(rows)]:
            r.pop("group", None)
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    return out


def apart(a, b):
    d = [abs(x - y) for x, y in zip(a, b)]
    return f"{d[0]:.1e} | {max(d[:20]):.1e} | {max(d):.1e} | {abs(sum(a) - sum(b)) / len(a):.1e}"


def paired(a, b):
    d = np.array(a) - np.array(b)
    return f"{d.mean():+.4f} ± {d.std(ddof=1) / math.sqrt(len(d)):.4f}"


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-d", "--data", required=True)
    p.add_argument("--valid", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--torch", required=True, help="a Python that has torch")
    p.add_argument("--method", choices=("lora", "full"), default="lora")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--rows", type=int, default=256)
    p.add_argument("--lr", type=float, default=0, help="[as stretto teach chooses it]")
    p.add_argument("--held", type=int, default=100, help="lines of --valid that are measured [100]")
    p.add_argument("--served", help="the same model quantised")
    p.add_argument("-t", "--threads", type=int, default=1)
    p.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    args = p.parse_args()
    if not os.access(args.ours, os.X_OK):
        p.error(f"{args.ours} is no program: build it (./dev build), or name another with --ours")
    return args


def main():
    args = options()
    os.makedirs(args.work, exist_ok=True)
    lines = plain_lines(args.data, os.path.join(args.work, "train.jsonl"), 0)
    valid_lines = plain_lines(args.valid, os.path.join(args.work, "valid.jsonl"), args.held)
    mine = {"ours": ours(args, "ours", args.model, lines, valid_lines)}
    mine["ours, AVX2"] = ours(args, "ours-avx2", args.model, lines, valid_lines, STRETTO_CPU="avx2")
    if args.served:
        mine["ours, quantised"] = ours(args, "ours-served", args.served, lines, valid_lines)
    log = mine["ours"][1]
    train, valid = samples_of(args, lines), samples_of(args, valid_lines)
    batches = batches_of([len(s["ids"]) - 1 for s in train], args.rows, args.steps)
    lr = max(x["lr"] for x in log)
    rates = rates_of(lr, args.steps)
    for x, b, r in zip(log, batches, rates):
        if x["rows"] != sum(len(train[i]["ids"]) - 1 for i in b) or abs(x["lr"] / r - 1) > 1e-5:
            sys.exit(f"learn_torch: step {x['step']} has other lines or another rate than were computed here")
    others = {n: saved(args, f"{os.path.basename(m[0])}.npz", lambda m=m: learned(args, m[0]))
              for n, m in mine.items() if n != "ours, quantised" or args.method == "lora"}
    begin = saved(args, "begin.npz", lambda: first_of(others["ours"])) if args.method == "lora" else None
    torch = torch_side(args, train, valid, batches, rates, begin, others)
    report(args, mine, torch)


def report(args, mine, torch):
    theirs = [s[0] for s in torch["steps"]]
    before, after = (sum(torch[k]) / len(torch[k]) for k in ("before", "after"))
    print(f"{args.method}, {args.steps} steps of about {args.rows} rows; torch {torch['version']}; "
          f"held out {len(torch['after'])} tokens of {args.held} lines\n\n"
          "| | loss apart from torch's: step 1 | first 20, at most | all, at most | mean of all | held out before | "
          "behind | minus torch's, by token |\n|---|--:|--:|--:|--:|--:|--:|--:|\n"
          f"| torch | | | | | {before:.4f} | {after:.4f} | |")
    for name, (_, log, said) in mine.items():
        held = torch["others"].get(name)
        print(f"| {name} | {apart([x['loss'] for x in log], theirs)} | {said['first_held']:.4f} | {said['held']:.4f} | "
              f"{paired(held, torch['after']) if held else ''} |")


if __name__ == "__main__":
    main()
