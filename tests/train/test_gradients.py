#!/usr/bin/env python3
"""Gradients of every family against the float64 forward of tools/oracle.

    test_gradients.py GRADIENTS GOLDEN [MODEL ...]

For a random direction d in each tensor, and for one in all of them at once, sum(g * d) must be the derivative of the
oracle's loss along d: by a complex step (exact to float64) or, where the forward is not analytic (erf), by central
differences. Allowed is what float32 may cost: three times as far as the oracle's own derivative moves when all
weights are changed by relative noise of NOISE (4 roundings), and 4 roundings of the sum of |g * d|. That mistakes land
outside is tried with each model (`planted`)."""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(ROOT, "tools"))
try:
    import numpy as np
    from oracle import families, files
    from oracle.forward import Arith, forward
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

NOISE, EPS = 2.0 ** -21, 2.0 ** -23
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


# ---- jobs: text of tests/train/gradients.c ----

def job(texts, asks=None, most=None):
    """texts: lists of ids, packed one behind the other, none sees another. asks: row -> (token, weight)."""
    out, row = ["rows %d" % sum(map(len, texts))], 0
    for ids in texts:
        out += [f"{t} {i} 1 {row} {row + i + 1}" for i, t in enumerate(ids)]
        row += len(ids)
    asks = asks if asks is not None else next_tokens(texts)
    out += ["asks %d" % len(asks)]
    out += [f"{r} {t} {float(w)!r} 0 0" for r, (t, w) in sorted(asks.items())]
    return ([f"most {most}"] if most else []) + out


def next_tokens(texts):
    n, row, asks = sum(len(t) - 1 for t in texts), 0, {}
    for ids in texts:
        asks.update({row + i: (ids[i + 1], 1.0 / n) for i in range(len(ids) - 1)})
        row += len(ids)
    return asks


def gradients(tool, model, lines, *options):
    """losses, {name: [n_out][n_in]}, bytes"""
    with tempfile.TemporaryDirectory() as d:
        path, out = os.path.join(d, "job"), os.path.join(d, "out")
        with open(path, "w") as f:
            f.write("\n".join(lines) + "\n")
        r = subprocess.run([tool, model, path, out, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=300)
        if r.returncode:
            raise RuntimeError(f"exit code {r.returncode}: {r.stderr[-300:]}")
        raw = np.fromfile(out, np.float32)
    losses, grads, at, taken = [], {}, 0, (0, 0)
    for line in r.stdout.splitlines():
        words = line.split()
        if words[0] == "bytes":
            taken = (int(words[1]), int(words[2]))
        elif len(words) == 1:
            losses.append(float(words[0]))
        else:
            n_in, n_out = int(words[1]), int(words[2])
            grads[words[0]] = raw[at:at + n_in * n_out].reshape(n_out, n_in)
            at += n_in * n_out
    assert at == raw.size
    return np.array(losses), grads, taken


# ---- the oracle ----

def plain(dtype, w):
    return Arith(dtype)


def loss_of(cfg, w, texts, dtype=np.float64, arith=plain):
    n = sum(len(t) - 1 for t in texts)
    total = 0
    for ids in texts:
        y = forward(cfg, w, ids, arith(dtype, w))
        y = y - y.real.max(axis=-1, keepdims=True)
        logp = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
        total = total - sum(logp[i, ids[i + 1]] for i in range(len(ids) - 1)) / n
    return total




def along(cfg, w, direction, texts, arith=plain):
    """The derivative of the loss at w along {name: d}."""
    if "gelu" in (cfg.get("hidden_act"), cfg.get("activation_function")):
        h = 1e-5
        plus, minus = ({n: x + s * h * direction.get(n, 0) for n, x in w.items()} for s in (1, -1))
        return (loss_of(cfg, plus, texts, arith=arith) - loss_of(cfg, minus, texts, arith=arith)) / (2 * h)
    h = 1e-30
    moved = {n: x.astype(np.complex128) + 1j * h * direction[n] if n in direction else x for n, x in w.items()}
    return loss_of(cfg, moved, texts, np.complex128, arith).imag / h


def in_file(cfg, name, d):
    """A direction as the file has it: a linear map."""
    return files.gguf_tensor(name, d, cfg) - files.gguf_tensor(name, np.zeros_like(d), cfg)


PARTS = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_up": ("ffn_gate", "ffn_up")}


def gradient_like(grads, name, shape):
    """The gradient of a tensor of the file, put together where the graph has parts of it."""
    whole = grads.get(name)
    if whole is not None and whole.size == int(np.prod(shape)):
        return whole.reshape(shape)
    stem = name.split(".")[-2]
    parts = [grads[name.replace(stem, p)] for p in PARTS[stem]]
    return np.concatenate([p.reshape(-1, *shape[1:]) for p in parts]).reshape(shape)


def noisy(w, rng):
    return {n: x * (1 + NOISE * rng.standard_normal(x.shape)) for n, x in w.items()}


def deviations(cfg, some, grads, texts, rng, whole=None):
    """{what: (deviation, allowed)} of each tensor in `some` and of all of these together."""
    kind, found, all_d, all_g, all_sum = cfg["model_type"], {}, {}, 0.0, 0.0
    w = whole or some
    shaken = [noisy(w, rng) for _ in range(2)]
    for name, x in some.items():
        d = rng.standard_normal(x.shape)
        moved = in_file(cfg, name, d)
        g = gradient_like(grads, files.gguf_name(name, kind), moved.shape).astype(np.float64)
        one = {name: d}
        truth = along(cfg, w, one, texts)
        stray = max(abs(along(cfg, s, one, texts) - truth) for s in shaken)
        terms = np.abs(g * moved).sum()
        found[name] = (abs((g * moved).sum() - truth), 3 * stray + 4 * EPS * terms)
        all_d[name] = d
        all_g, all_sum = all_g + (g * moved).sum(), all_sum + terms
    truth = along(cfg, w, all_d, texts)
    stray = max(abs(along(cfg, s, all_d, texts) - truth) for s in shaken)
    found["all"] = (abs(all_g - truth), 3 * stray + 4 * EPS * all_sum)
    return found


def planted(cfg, w, grads, texts):
    """Of one matrix: a row is lost, two rows change places, and all of it is a thousandth too long."""
    name = next(n for n in w if "q_proj.weight" in n or "attn.weight" in n or "qkv_proj.weight" in n)
    for what in ("row", "places", "length"):
        wrong = {n: g.copy() for n, g in grads.items()}
        key = files.gguf_name(name, cfg["model_type"])
        g = wrong[key if key in wrong else key.replace("attn_qkv", "attn_q")]
        if what == "row":
            g[3] = 0
        elif what == "places":
            g[[3, 5]] = g[[5, 3]]
        else:
            g *= 1.001
        off, allowed = deviations(cfg, {name: w[name]}, wrong, texts, np.random.default_rng(3), whole=w)[name]
        check(off > allowed, f"{name}: a wrong {what} is not noticed ({off:.1e}, allowed {allowed:.1e})")


# Each family, each scaling of angles, biases, windows that matter, heads of several sizes.
MODELS = ("llama", "llama-tied", "llama-yarn", "mistral", "qwen2-biased", "qwen2-window", "qwen3", "gemma2",
          "gemma3-sizes", "gemma3-scaled", "phi3-partial", "olmo2-biased", "olmo3", "gpt2")


def texts_for(cfg):
    rng = np.random.RandomState(5)
    return [[int(t) for t in rng.randint(3, cfg["vocab_size"], n)] for n in (19, 6)]


def compare(tool, golden, name):
    cfg, _, hf, dtype = families.MODELS[name]
    w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    path = os.path.join(golden, name, "model.gguf")
    texts = texts_for(cfg)
    losses, grads, _ = gradients(tool, path, job(texts))
    mean = float(np.dot(losses, [x[1] for _, x in sorted(next_tokens(texts).items())]))
    truth = float(loss_of(cfg, w, texts))
    check(abs(mean - truth) < 1e-5 * abs(truth), f"{name}: loss {mean:.7f}, should be {truth:.7f}")
    planted(cfg, w, grads, texts)
    worst, at = 0.0, ""
    for what, (off, allowed) in deviations(cfg, w, grads, texts, np.random.default_rng(11)).items():
        check(off <= allowed, f"{name} {what}: the derivative is {off:.2e} off, allowed {allowed:.2e}")
        if off / allowed >= worst:
            worst, at = off / allowed, what
    print(f"{name}: worst {worst:.2f} of its bound ({at})", flush=True)


def main():
    tool, golden = sys.argv[1:3]
    names = sys.argv[3:] or [n for n in MODELS if os.path.exists(os.path.join(golden, n, "model.gguf"))]
    for name in names:
        compare(tool, golden, name)
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
