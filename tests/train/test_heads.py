#!/usr/bin/env python3
"""Heads beside a model: losses and gradients of both kinds against float64 in numpy, by complex steps; the same bits
whatever the threads and, of Medusa's, the rows of a step; a row that sees another one than it should is noticed.

    test_heads.py HEADS_GRADIENTS GOLDEN"""
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
try:
    import gguf
    import numpy as np
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

tool, golden = sys.argv[1:3]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)
DECAY, EPS, DEPTH, FEED = 0.8, 1e-6, 3, 48


def tables(model):
    """Output layer, table of embeddings, and the cap of logits or None."""
    r = gguf.GGUFReader(model)
    cap = r.fields.get("gemma2.final_logit_softcapping")
    t = {x.name: gguf.quants.dequantize(x.data, x.tensor_type).reshape([int(n) for n in reversed(x.shape)])
         for x in r.tensors if x.name in ("token_embd.weight", "output.weight")}
    return (t.get("output.weight", t["token_embd.weight"]), t["token_embd.weight"],
            float(cap.parts[cap.data[0]][0]) if cap else None)


# ---- the oracle: numbers may be complex ----

def rms(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)


def silu(x):
    return x / (1 + np.exp(-x))


def log_sum(x):
    most = x.real.max()
    return most + np.log(np.exp(x - most).sum())


def guesses(line, depth, place, chain):
    """(row, guess, token before it, its own token) that are learned."""
    ids, weights, first = line
    for t in range(first - 1, len(ids) - 1):
        if not weights[t + 1] > 0:
            continue
        for k in range(1, depth + 1):
            at = t + 1 + k
            if at >= len(ids) or not weights[at] > 0 or (chain and ids[at] not in place):
                break
            if ids[at] in place:
                yield t, k, t + k, at


def losses(kind, w, lines, states, out, table, cap, tokens):
    """{(text, token, guess): (weight, loss)}, weights summing to one."""
    place, all_of = {t: i for i, t in enumerate(tokens)}, {}
    out = out[tokens].astype(np.float64)
    for n, (line, h) in enumerate(zip(lines, states)):
        ids, weights, first = line
        row = {t: i for i, t in enumerate(t for t in range(first - 1, len(ids) - 1) if weights[t + 1] > 0)}
        for t, k, before, at in guesses(line, DEPTH, place, kind == "recursive"):
            if k == 1 or kind == "medusa":
                s = h[row[t]].astype(np.float64)
            if kind == "medusa":
                s = s + silu(w[f"heads.{k - 1}.weight"] @ s + w[f"heads.{k - 1}.bias"][0])
            else:
                u = w["recursive.state.weight"] @ rms(s) + w["recursive.token.weight"] @ rms(table[ids[before]])
                x = rms(u)
                s = u + w["recursive.down.weight"] @ (silu(w["recursive.gate.weight"] @ x)
                                                      * (w["recursive.up.weight"] @ x))
            logits = out @ s if cap is None else cap * np.tanh(out @ s / cap)
            all_of[n, at, k] = (weights[at] * DECAY ** (k - 1), log_sum(logits) - logits[place[ids[at]]])
    total = sum(x[0] for x in all_of.values())
    return {key: (x[0] / total, x[1]) for key, x in all_of.items()}


def whole(kind, w, *rest):
    return sum(weight * loss for weight, loss in losses(kind, w, *rest).values())


# ---- the tool ----

def run(model, kind, work, shapes, states, *options):
    with open(os.path.join(work, "out"), "wb"):
        pass
    for name in ("states",):
        if os.path.exists(os.path.join(work, name)):
            os.remove(os.path.join(work, name))
    r = subprocess.run([tool, model, kind, str(DEPTH), str(FEED), work, os.path.join(work, "out"), *options],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 0, (r.returncode, r.stderr)
    raw = np.fromfile(os.path.join(work, "out"), np.float32)
    at, kept, grads, told = 0, [], {}, {}
    for h in states:
        kept.append(raw[at:at + h.size].reshape(h.shape))
        at += h.size
    for line in r.stdout.splitlines():
        words = line.split()
        if words[0] == "loss":
            told[int(words[1]), int(words[2]), int(words[3])] = (float(words[4]), float(words[5]))
            continue
        n_in, n_out = int(words[1]), int(words[2])
        assert shapes[words[0]] == (n_out, n_in), words
        grads[words[0]] = raw[at:at + n_in * n_out].reshape(n_out, n_in)
        at += n_in * n_out
    assert at == raw.size
    return kept, told, grads


def write(work, lines, tokens, states, parameters):
    with open(os.path.join(work, "lines"), "w") as f:
        for ids, weights, first in lines:
            print(len(ids), first, *(f"{t} {w}" for t, w in zip(ids, weights)), file=f)
    with open(os.path.join(work, "tokens"), "w") as f:
        print(*tokens, file=f)
    np.concatenate([h.ravel() for h in states]).tofile(os.path.join(work, "hidden"))
    np.concatenate([x.ravel() for x in parameters.values()]).tofile(os.path.join(work, "parameters"))


def make_lines(rng, vocab):
    """Answers of every length, one whole text, one of two answers, a weight that is not one."""
    lines = []
    for n, first in ((9, 4), (6, 5), (12, 1), (7, 6), (30, 10)):
        weights = np.array([0.0] * first + [1.0] * (n - first))
        lines.append((rng.integers(0, vocab, n).tolist(), weights, first))
    lines[4][1][15:19] = 0
    lines[4][1][20:] = 0.25
    return lines


def shapes_of(kind, width):
    if kind == "medusa":
        return {f"heads.{k}.{what}": (n, width) for k in range(DEPTH) for what, n in (("weight", width), ("bias", 1))}
    return {"recursive.state.weight": (width, width), "recursive.token.weight": (width, width),
            "recursive.gate.weight": (FEED, width), "recursive.up.weight": (FEED, width),
            "recursive.down.weight": (width, FEED)}


def same(a, b):
    return a[1] == b[1] and all((a[2][n].view(np.uint32) == b[2][n].view(np.uint32)).all() for n in a[2])


def check(rng, model, kind, work):
    out, table, cap = tables(model)
    vocab, width = out.shape
    table = table.astype(np.float64)
    lines = make_lines(rng, vocab)
    # Half of the words in the answers can be guessed.
    tokens = sorted({t for ids, _, first in lines for t in ids[first:]})[::2]
    tokens = tokens + [t for t in range(vocab) if t not in tokens][:(-len(tokens)) % 16]
    states = [rng.standard_normal((int((w > 0).sum()), width)).astype(np.float32) * 3 for _, w, _ in lines]
    shapes = shapes_of(kind, width)
    w = {n: (rng.standard_normal(s) / np.sqrt(s[1])).astype(np.float32) for n, s in shapes.items()}
    write(work, lines, tokens, states, w)
    kept, told, grads = base = run(model, kind, work, shapes, states)
    for a, b in zip(kept, states):
        assert np.abs(a - b).max() <= np.abs(b).max() * 2.0 ** -11, "a state is kept in 11 bits"
    rest = (lines, kept, out, table, cap, tokens)
    want = losses(kind, {n: x.astype(np.float64) for n, x in w.items()}, *rest)
    assert want.keys() == told.keys(), (set(want) ^ set(told))
    apart = max(abs(told[k][1] - want[k][1]) for k in want)
    assert apart < 2e-5, apart
    assert max(abs(told[k][0] - want[k][0]) for k in want) < 1e-7
    worst = 0
    for name in shapes:
        d = rng.standard_normal(shapes[name])
        moved = {n: x.astype(np.complex128) + (1e-30j * d if n == name else 0) for n, x in w.items()}
        exact, ours = whole(kind, moved, *rest).imag / 1e-30, float((grads[name].astype(np.float64) * d).sum())
        size = float(np.abs(grads[name] * d).sum())
        assert size > 0, name
        worst = max(worst, abs(ours - exact) / size)
        assert abs(ours - exact) <= 3e-6 * size, (name, ours, exact, size)
    cut = [["--rows", "24"], ["--rows", "4", "--threads", "2"]] if kind == "medusa" else []
    for options in [["--threads", "2"], *cut]:
        assert same(base, run(model, kind, work, shapes, states, *options)), options
    if kind == "recursive":
        planted = run(model, kind, work, shapes, states, "--seen")
        assert max(abs(planted[1][k][1] - want[k][1]) for k in want) > 0.01, "rows that see another one are not noticed"
        assert not same(base, planted)
    return len(want), apart, worst


def main():
    rng = np.random.default_rng(5)
    for name in ("llama", "llama-tied", "gemma2"):
        model = os.path.join(golden, name, "model.gguf")
        if not os.path.exists(model):
            print(f"there is no {name}")
            continue
        for kind in ("recursive", "medusa"):
            with tempfile.TemporaryDirectory() as work:
                n, apart, worst = check(rng, model, kind, work)
            print(f"{name} {kind}: {n} guesses, losses {apart:.1e} apart, gradients {worst:.1e} of their size")


if __name__ == "__main__":
    main()
