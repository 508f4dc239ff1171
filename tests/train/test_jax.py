#!/usr/bin/env python3
"""Gradients of every family against jax.grad, in float64, of the oracle's forwards: derivatives that nobody here took;
and trainings, step by step.

    test_jax.py GRADIENTS GOLDEN STRETTO [MODEL ...]

The forwards of tools/oracle are read once more with jax.numpy in place of numpy. Of every tensor the whole gradient is
compared: as far apart as it may be is three times as far as jax's own moves when all weights are changed by the noise
of test_gradients.py, and 4 roundings of its length. That mistakes land outside is tried with each model.

`stretto teach` then makes 20 steps on a tiny llama, of all weights and of an adapter; the same steps in float64, with
batches, rates and the adapter's beginning as bench/learn_torch.py computes them, must have the same losses."""
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

from test_gradients import ROOT, EPS, MODELS, check, failures, gradient_like, gradients, in_file, job, noisy, texts_for

# A compiler that is quick beats code that is quick.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
try:
    import jax
except ImportError:
    print("skip: jax is not installed (pip install jax[cpu]): gradients are held to complex steps alone")
    sys.exit(77)
import numpy as np
from oracle import families, files

sys.path.insert(0, os.path.join(ROOT, "bench"))
import learn_torch

jax.config.update("jax_enable_x64", True)
jnp = jax.numpy


def forward_of_jax():
    """A second copy of oracle/forward.py, which computes with jax.numpy."""
    spec = importlib.util.find_spec("oracle.forward")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.np = jnp
    module.ACT["gelu"] = lambda x: x / 2 * (1 + jax.scipy.special.erf(x / 2 ** 0.5))
    return module


oracle = forward_of_jax()


def loss_of(cfg, texts):
    def loss(w):
        total, n = 0.0, sum(len(t) - 1 for t in texts)
        for ids in texts:
            logp = jax.nn.log_softmax(oracle.forward(cfg, w, ids, oracle.Arith(np.float64)), axis=-1)
            total -= sum(logp[i, t] for i, t in enumerate(ids[1:])) / n
        return total
    return loss


def norm(x):
    return float(np.sqrt((x * x).sum()))


def compare(tool, golden, name):
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: np.asarray(x, np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    texts, rng, worst, at = texts_for(cfg)[:1], np.random.default_rng(7), 0.0, ""
    _, ours, _ = gradients(tool, os.path.join(golden, name, "model.gguf"), job(texts))
    slope = jax.jit(jax.grad(loss_of(cfg, texts)))
    truth = {n: np.asarray(g) for n, g in slope(w).items()}
    shaken = [slope(noisy(w, rng)) for _ in range(2)]
    for n, g in truth.items():
        there = in_file(cfg, n, g)
        got = gradient_like(ours, files.gguf_name(n, cfg["model_type"]), there.shape).astype(np.float64)
        allowed = 3 * max(norm(np.asarray(s[n]) - g) for s in shaken) + 4 * EPS * norm(g)
        off = norm(got - there)
        check(off <= allowed, f"{name} {n}: the gradient is {off:.2e} off, allowed {allowed:.2e}")
        check(norm(got * 1.001 - there) > allowed, f"{name} {n}: a thousandth too long, and not noticed")
        if off / allowed >= worst:
            worst, at = off / allowed, n
    print(f"{name}: worst {worst:.2f} of its bound ({at})", flush=True)


# ---- trainings ---------------------------------------------------------------------------------
STEPS, ROWS, RATE, LONGEST, TEXTS_MOST = 20, 60, 2e-3, 24, 8


def padded(samples, batch):
    """Ids [texts][LONGEST], and the weight of each row's next token; texts that are not there weigh nothing."""
    ids, weight = np.zeros((TEXTS_MOST, LONGEST), int), np.zeros((TEXTS_MOST, LONGEST))
    for i, at in enumerate(batch):
        given, said = samples[at]
        n = len(given) + len(said)
        ids[i, :n] = given + said
        weight[i, len(given) - 1:n - 1] = 1
    return ids, weight / weight.sum()


def batch_loss(cfg, whole):
    def loss(p, ids, weight):
        w = whole(p)
        logits = jax.vmap(lambda x: oracle.forward(cfg, w, x, oracle.Arith(np.float64)))(ids)
        logp = jax.nn.log_softmax(logits[:, :-1], axis=-1)
        return -(jnp.take_along_axis(logp, ids[:, 1:, None], -1)[..., 0] * weight[:, :-1]).sum()
    return loss


def with_adapter(cfg, w):
    """Shapes of the adapter by names of the file; and the weights with it, of its numbers."""
    kind = cfg["model_type"]
    names = {files.gguf_name(n, kind): n for n in w if "_proj.weight" in n}
    place = {n: in_file(cfg, n, np.arange(w[n].size, dtype=np.float64).reshape(w[n].shape)).astype(int).ravel()
             for n in names.values()}

    def whole(p):
        out = dict(w)
        for at, n in names.items():
            more = 2 * p[at + ".lora_b"] @ p[at + ".lora_a"]
            out[n] = w[n] + jnp.zeros(w[n].size).at[place[n]].set(more.ravel()).reshape(w[n].shape)
        return out
    return {at: w[n].shape for at, n in names.items()}, whole


def float64_losses(cfg, method, w, samples):
    """Of each step, with AdamW as its paper has it (arXiv 1711.05101), no decay."""
    shapes, whole = with_adapter(cfg, w)
    p = dict(w) if method == "full" else learn_torch.first_adapter(shapes)
    p = {n: x.astype(np.float64) for n, x in p.items()}
    slope = jax.jit(jax.value_and_grad(batch_loss(cfg, (lambda x: x) if method == "full" else whole)))
    m, v = ({n: np.zeros_like(x) for n, x in p.items()} for _ in range(2))
    batches = learn_torch.batches_of([len(a) + len(b) - 1 for a, b in samples], ROWS, STEPS)
    out, (b1, b2) = [], learn_torch.BETAS
    for t, (batch, rate) in enumerate(zip(batches, learn_torch.rates_of(RATE, STEPS)), 1):
        loss, g = slope(p, *padded(samples, batch))
        g = {n: np.asarray(x) for n, x in g.items()}
        scale = 1 / max(1, np.sqrt(sum((x * x).sum() for x in g.values())))
        for n, x in g.items():
            m[n], v[n] = b1 * m[n] + (1 - b1) * scale * x, b2 * v[n] + (1 - b2) * (scale * x) ** 2
            p[n] = p[n] - rate * (m[n] / (1 - b1 ** t)) / (np.sqrt(v[n] / (1 - b2 ** t)) + learn_torch.EPS)
        out.append(float(loss))
    return out


def train(stretto, golden, name, method):
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: np.asarray(x, np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    rng = np.random.RandomState(9)
    samples = [([int(i) for i in rng.randint(3, cfg["vocab_size"], rng.randint(5, 13))],
                [int(i) for i in rng.randint(3, 40, rng.randint(2, 12))]) for _ in range(25)]
    with tempfile.TemporaryDirectory() as d:
        lines = os.path.join(d, "lines.jsonl")
        with open(lines, "w") as f:
            f.writelines(json.dumps({"prompt": a, "answer": b}) + "\n" for a, b in samples)
        r = subprocess.run([stretto, "teach", "-m", os.path.join(golden, name, "model.gguf"), "-d", lines, "-o", d,
                            "--method", method, "--lr", str(RATE), "--steps", str(STEPS), "--rows", str(ROWS),
                            "--epochs", str(STEPS), "--hold-out", "0", "-q"], capture_output=True, text=True)
        if r.returncode:
            return check(False, f"teach --method {method}: {r.stderr[-300:]}")
        with open(os.path.join(d, "log.jsonl")) as f:
            ours = [x["loss"] for x in map(json.loads, f) if x.get("step")]
    truth = float64_losses(cfg, method, w, samples)
    off = max(abs(a - b) for a, b in zip(ours, truth))
    check(len(ours) == STEPS and off < 2e-5, f"{method}: the losses of {len(ours)} steps are up to {off:.1e} off")
    print(f"{STEPS} steps of {method}: loss {truth[0]:.4f} to {truth[-1]:.4f}, at most {off:.1e} off", flush=True)


def main():
    tool, golden, stretto = sys.argv[1:4]
    for method in ("full", "lora"):
        train(stretto, golden, "llama", method)
    for name in sys.argv[4:] or [n for n in MODELS if os.path.exists(os.path.join(golden, n, "model.gguf"))]:
        compare(tool, golden, name)
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
