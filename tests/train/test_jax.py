#!/usr/bin/env python3
"""Gradients of every family against jax.grad, in float64, of the oracle's forwards: derivatives that nobody here took.

    test_jax.py GRADIENTS GOLDEN [MODEL ...]

The forwards of tools/oracle are read once more with jax.numpy in place of numpy. Of every tensor the whole gradient is
compared: as far apart as it may be is three times as far as jax's own moves when all weights are changed by the noise
of test_gradients.py, and 4 roundings of its length. That mistakes land outside is tried with each model."""
import importlib.util
import os
import sys

from test_gradients import EPS, MODELS, check, failures, gradient_like, gradients, in_file, job, noisy, texts_for

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


def main():
    tool, golden = sys.argv[1:3]
    for name in sys.argv[3:] or [n for n in MODELS if os.path.exists(os.path.join(golden, n, "model.gguf"))]:
        compare(tool, golden, name)
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
