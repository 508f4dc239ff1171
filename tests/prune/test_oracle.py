"""Masks and weights of pruning against an independent implementation of the papers in float64, and a fault that must
show: test_oracle.py PRUNE_TOOL"""
import subprocess
import sys
import numpy as np
import prune_oracle as oracle

tool = sys.argv[1]
rng = np.random.default_rng(14)


def ask(args, *arrays):
    done = subprocess.run([tool, *map(str, args)], input=b"".join(np.ascontiguousarray(a).tobytes() for a in arrays),
                          capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def case(rows, n, seen):
    """Inputs that go along with each other, of very different sizes, one that is always zero."""
    x = rng.normal(size=(seen, n)) @ (np.eye(n) + rng.normal(size=(n, n)) / np.sqrt(n)) * np.exp(rng.normal(size=n))
    x[:, n // 2] = 0
    return rng.normal(size=(rows, n)).astype(np.float32), (x.T @ x).astype(np.float32)


def check_mask(name, share, pattern, rows, n, seen=600, fault=False):
    w, gram = case(rows, n, seen)
    ours = np.frombuffer(ask(["mask", name, share, "%d:%d" % pattern if pattern else 0, 0, rows, n, seen], w, gram),
                         np.float32).reshape(rows, n)
    gram64 = gram.astype(np.float64)
    if fault:
        gram64[0, 1] = gram64[1, 0] = gram64[0, 1] + 0.2 * gram64[0, 0]
    theirs = getattr(oracle, name)(w.astype(np.float64), gram64, seen, share, pattern)
    same = np.array_equal(ours == 0, theirs == 0)
    near = np.max(np.abs(ours - theirs) / (1e-6 + np.abs(theirs)))
    zeros = np.mean(ours == 0)
    if not fault:
        assert same, f"{name} {share} {pattern}: {np.sum((ours == 0) != (theirs == 0))} weights differ"
        assert near < 2e-6, f"{name} {share} {pattern}: weights differ by {near}"
        want = 1 - pattern[0] / pattern[1] if pattern else share
        assert abs(zeros - want) < 0.02, (name, zeros, want)
    return same and near < 2e-6


def check_refit(rows, n, kept, damp, seen=900):
    w, gram = case(rows, n, seen)
    keep = np.sort(rng.choice(n, kept, replace=False)).astype(np.uint32)
    out = ask(["refit", damp, kept, rows, n, seen], w, gram, keep)
    ours = np.frombuffer(out[:-8], np.float32).reshape(rows, kept).astype(np.float64)
    w64, g64 = w.astype(np.float64), gram.astype(np.float64)
    best = oracle.refit(w64, g64, keep, damp)
    assert np.max(np.abs(ours - best)) < 1e-5 * (1 + np.max(np.abs(best))), np.max(np.abs(ours - best))
    said = np.frombuffer(out[-8:], np.float64)[0]
    true = oracle.lost(w64, ours, g64, keep, seen)
    assert abs(said - true) < 1e-3 * true, (said, true)
    assert true <= oracle.lost(w64, w64[:, keep], g64, keep, seen)      # better than leaving them as they are


def check_order(rows, n, go, damp, same, seen=900):
    w, gram = case(rows, n, seen)
    out = ask(["order", damp, go, rows, n, seen], w, gram)
    which, lost = np.frombuffer(out[:4 * go], np.uint32), np.frombuffer(out[4 * go:], np.float64)
    best, costs = oracle.order(w.astype(np.float64), gram.astype(np.float64), seen, go, damp)
    assert len(set(which)) == go
    if same:                                    # all inputs are in the pool
        assert list(which) == best, (which, best)
        assert np.allclose(lost, costs, rtol=1e-4), (lost, costs)
    assert lost[-1] <= 1.02 * costs[-1], (lost[-1], costs[-1])
    keep = np.setdiff1d(np.arange(n), which)    # what it says is what a refit of the rest costs
    g64, w64 = gram.astype(np.float64), w.astype(np.float64)
    damped = g64 + damp * np.mean(np.diag(g64)) * np.eye(n)
    true = oracle.lost(w64, oracle.refit(w64, g64, keep, damp), damped, keep, seen)
    assert abs(lost[-1] - true) < 1e-4 * true, (lost[-1], true)


def check_split(rows, n, rank, seen=700):
    e, gram = case(rows, n, seen)
    out = ask(["split", rank, rows, n, seen], e, gram)
    f = np.frombuffer(out[:4 * rank * (n + rows)], np.float32).astype(np.float64)
    a, b = f[:rank * n].reshape(rank, n), f[rank * n:].reshape(rows, rank)
    gain, whole = np.frombuffer(out[-8 * rank - 8:-8], np.float64), np.frombuffer(out[-8:], np.float64)[0]
    e64 = e.astype(np.float64)
    g64 = gram.astype(np.float64) / seen
    g64 += 1e-6 * np.mean(np.diag(g64)) * np.eye(n)
    values, left, root = oracle.split(e64, g64)
    assert np.allclose(gain, values[:rank] ** 2, rtol=1e-4), (gain, values[:rank] ** 2)
    assert abs(whole - np.sum(values ** 2)) < 1e-5 * whole
    rest = (e64 - b @ a) @ root.T
    best = np.sum(values[rank:] ** 2)           # no matrix of this rank does better
    assert abs(np.sum(rest ** 2) - best) < 1e-4 * whole, (np.sum(rest ** 2), best)


for name in ("magnitude", "wanda", "sparsegpt"):
    check_mask(name, 0.5, None, 17, 200)
    for pattern in ((2, 4), (4, 8), (1, 2)):
        check_mask(name, 0.5, pattern, 9, 192)
def check_tiles(name, rows, n, share, seen=600):
    w, gram = case(rows, n, seen)
    ours = np.frombuffer(ask(["mask", name, share, 0, "16x32", rows, n, seen], w, gram), np.float32).reshape(rows, n)
    tiles = (ours == 0).reshape(rows // 16, 16, n // 32, 32).mean(axis=(1, 3))
    assert set(np.unique(tiles)) == {0, 1} and abs(tiles.mean() - share) < 0.01, (name, tiles)


check_tiles("magnitude", 64, 256, 0.25)
check_tiles("sparsegpt", 64, 256, 0.25)
assert not check_mask("sparsegpt", 0.5, None, 17, 200, fault=True), "a changed moment was not noticed"
for damp in (1e-4, 1e-2):
    check_refit(19, 160, 96, damp)
    check_refit(8, 96, 95, damp)
def check_groups(rows, n, unit, damp, seen=900):
    w, gram = case(rows, n, seen)
    said = np.frombuffer(ask(["groups", damp, unit, rows, n, seen], w, gram), np.float64)
    w64, g64 = w.astype(np.float64), gram.astype(np.float64)
    damped = g64 + damp * np.mean(np.diag(g64)) * np.eye(n)
    for g in range(n // unit):
        keep = np.setdiff1d(np.arange(n), np.arange(g * unit, g * unit + unit))
        true = oracle.lost(w64, oracle.refit(w64, g64, keep, damp), damped, keep, seen)
        assert abs(said[g] - true) < 1e-4 * true, (g, said[g], true)


check_groups(11, 96, 16, 1e-3)
check_split(24, 60, 7)
check_split(70, 40, 9)
check_order(13, 100, 40, 1e-3, True)
check_order(20, 180, 90, 1e-3, False)
print("masks, weights and refits agree with numpy's")
