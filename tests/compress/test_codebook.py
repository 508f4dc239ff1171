#!/usr/bin/env python3
"""Shared values (src/compress/codebook.h) beside weighted k-means in numpy, written from the paper (arXiv 1510.00149)
with the same start: the same numbers to a rounding of float16; no start of scatter does much better; zeros stay.

usage: test_codebook.py CODEBOOK_CHECK"""
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("skip: numpy is not installed (./dev test installs it)")
    sys.exit(77)

BINS = 256


def start(x, w, k):
    lo, hi = x.min(), x.max()
    step = (hi - lo) / BINS
    at = np.minimum(((x - lo) / step).astype(int), BINS - 1)
    whole = np.cumsum(np.cbrt(np.bincount(at, w, BINS)))
    return lo + (np.searchsorted(whole, (np.arange(k) + 0.5) / k * whole[-1]) + 0.5) * step


def lloyd(x, w, value):
    old = None
    for _ in range(200):
        near = np.abs(x[:, None] - value[None]).argmin(1)
        if old is not None and (near == old).all():
            break
        old = near
        for i in range(len(value)):
            if (near == i).any():
                value[i] = np.average(x[near == i], weights=w[near == i])
    return value


def loss(x, w, y):
    return (w * (x - y) ** 2).sum()


def main():
    rng = np.random.default_rng(5)
    for rows, n_in, k, zeros in ((40, 96, 16, 0), (16, 64, 5, 0.5), (30, 128, 64, 0), (8, 32, 2, 0)):
        weight = (rng.standard_t(5, (rows, n_in)) / 20).astype(np.float32)
        weight[rng.random(weight.shape) < zeros] = 0
        importance = rng.gamma(1, 1, n_in)
        raw = importance.tobytes() + weight.tobytes()
        p = subprocess.run([sys.argv[1], str(rows), str(n_in), str(k)], input=raw, capture_output=True, check=True)
        got = np.frombuffer(p.stdout, np.float32)
        flat = weight.ravel().astype(np.float64)
        w = np.tile(importance, rows)
        some = flat != 0
        assert (got[~some] == 0).all() and len(np.unique(got)) <= k
        x, y, w = flat[some], got[some], w[some]
        n = k - 1 if zeros else k
        want = lloyd(x, w, start(x, w, n))
        mine = np.sort(np.unique(y))
        assert len(mine) == n and np.allclose(mine, np.sort(want.astype(np.float16)), rtol=2e-3,
                                               atol=1e-6), (mine, want)
        best = min(loss(x, w, v[np.abs(x[:, None] - v).argmin(1)])
                   for v in (lloyd(x, w, rng.choice(x, n, False)) for _ in range(8)))
        print(f"{rows}x{n_in}, {k} values: {loss(x, w, y):.5g}, the best of eight random starts {best:.5g}")
        assert loss(x, w, y) < 1.1 * best
    return 0


if __name__ == "__main__":
    sys.exit(main())
