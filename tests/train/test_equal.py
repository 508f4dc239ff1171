#!/usr/bin/env python3
"""What gradients may not depend on, to the bit, and what they are with adapters, teachers and quantised weights.

    test_equal.py GRADIENTS GOLDEN [STRETTO TEXT MODEL ...]

Equality: threads; one step or several that add up; what is kept of the forward; what else is trained; texts packed or
alone; texts in the step that ask nothing; where keys stand. That the comparison would notice is tried by steps that
are almost the same.
Then adapters and a teacher's words against the oracle (test_gradients.py), and gradients through int8 kernels and
transposed weights in Q8_0 beside those of float32. With MODELs the last alone: of adapters of rank 16 on 256 tokens of
TEXT."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_gradients as t
from test_gradients import check, gradients, job, next_tokens, np

from oracle import families, files

TEXTS = (70, 23, 140, 9, 31)


def texts_of(cfg, lengths=TEXTS):
    rng = np.random.RandomState(7)
    return [[int(x) for x in rng.randint(3, cfg["vocab_size"], n)] for n in lengths]


def same(a, b, what):
    losses, grads, _ = a
    check(np.array_equal(losses, b[0]), f"{what}: losses differ")
    for name in grads:
        check(np.array_equal(grads[name], b[1][name]), f"{what}: {name} differs in "
              f"{int((grads[name] != b[1][name]).sum())} of {grads[name].size} numbers")


def differs(a, b, what):
    check(any(not np.array_equal(a[1][n], b[1][n]) for n in a[1]), f"{what} is not noticed")


def steps(texts):
    """A step for each text; the weights are those of all together."""
    n, lines = sum(len(x) - 1 for x in texts), []
    for x in texts:
        lines += job([x], {i: (x[i + 1], 1.0 / n) for i in range(len(x) - 1)})
    return lines


def with_strangers(texts, before, behind):
    """The same asks, beside texts that ask nothing."""
    shift = sum(map(len, before))
    asks = {r + shift: a for r, a in next_tokens(texts).items()}
    return job(before + texts + behind, asks)


def tree(prompt, answers):
    """Answers that see one prompt and not each other; rows of answers ask."""
    n = sum(len(a) for a in answers)
    lines, asks, row = [f"{x} {i} 1 0 {i + 1}" for i, x in enumerate(prompt)], [], len(prompt)
    for a in answers:
        for i, x in enumerate(a):
            lines.append(f"{x} {len(prompt) + i} 2 0 {len(prompt)} {row} {row + i + 1}")
        asks += [f"{row + i} {a[i + 1]} {1.0 / n!r} 0 0" for i in range(len(a) - 1)]
        row += len(a)
    return [f"rows {row}"] + lines + [f"asks {len(asks)}"] + asks


def alone(prompt, answers):
    n, lines = sum(len(a) for a in answers), []
    for a in answers:
        x = prompt + a
        lines += job([x], {len(prompt) + i: (a[i + 1], 1.0 / n) for i in range(len(a) - 1)})
    return lines


def equality(tool, golden, name, *how):
    cfg = families.MODELS[name][0]
    path, texts, label = os.path.join(golden, name, "model.gguf"), texts_of(cfg), " ".join([name, *how])
    of = lambda lines, *more: gradients(tool, path, lines, *how, *more)
    one = of(job(texts))
    for threads in ("2", "7"):
        same(one, of(job(texts), "--threads", threads), f"{label}, {threads} threads")
    same(one, of(job(texts), "--layers"), f"{label}, layers run again")
    same(one, of(steps(texts)), f"{label}, a step for each text")
    rng = np.random.RandomState(3)
    strange = [[int(x) for x in rng.randint(3, cfg["vocab_size"], n)] for n in (37, 12)]
    same(one, of(with_strangers(texts, strange[:1], strange[1:]), "--threads", "2"), f"{label}, beside other texts")
    prompt, answers = texts[0], [texts[1], texts[4]]
    a, b = of(tree(prompt, answers), "--threads", "2"), of(alone(prompt, answers))
    check(np.array_equal(a[0], b[0]), f"{label}: losses of answers under one prompt are not those of each alone")
    off = max(float(np.abs(a[1][n] - b[1][n]).max() / (np.abs(b[1][n]).max() + 1e-30)) for n in a[1])
    check(off < (2e-2 if how else 1e-4),
          f"{label}: gradients of answers under one prompt are {off:.1e} off those of each alone")
    if how:
        in_bf16(tool, path, name, texts, one)
        return
    part = of(job(texts), "--train", "blk.1.")
    check(5 < len(part[1]) < len(one[1]) / 2, f"{name}: {len(part[1])} parameters of a layer")
    same(part, one, f"{name}, one layer alone")
    planted(tool, path, name, texts, one)


def in_bf16(tool, path, name, texts, one):
    plain = gradients(tool, path, job(texts))
    cosine = cosine_of(*(np.concatenate([x[1][n].ravel() for n in plain[1]]) for x in (one, plain)))
    check(cosine > 0.999, f"{name}: gradients in bf16 have a cosine of {cosine:.5f} to those of float32")
    differs(one, plain, f"{name}: the bits of float32 instead of bf16")
    print(f"{name}: gradients in bf16, cosine {cosine:.5f} to float32", flush=True)


def planted(tool, path, name, texts, one):
    """Steps that mean almost the same."""
    lines = job(texts)
    row = 1 + len(texts[0]) + 5
    short = list(lines)
    words = short[row].split()
    short[row] = " ".join(words[:3] + [str(int(words[3]) + 1), words[4]])      # does not see its text's first row
    differs(one, gradients(tool, path, short), f"{name}: a key that is not seen")
    differs(one, gradients(tool, path, job(texts[1:] + texts[:1])), f"{name}: another order of rows")
    late = list(lines)
    words = late[row].split()
    late[row] = " ".join([words[0], str(int(words[1]) + 1)] + words[2:])
    differs(one, gradients(tool, path, late), f"{name}: a position that is one off")


# ---- adapters against the oracle ----

def noise(name, n_in, n_out):
    """The numbers that gradients.c gives to an adapter's matrix."""
    mask, state = 2 ** 64 - 1, 88172645463325252
    for c in name.encode():
        state = (state * 31 + c) & mask
    out = np.empty(n_in * n_out)
    for i in range(out.size):
        state ^= state << 13 & mask
        state ^= state >> 7
        state ^= state << 17 & mask
        out[i] = np.float32(((state >> 11) / 2 ** 53 - 0.5) / (24 if n_in > 64 else 12))
    return out.reshape(n_out, n_in)


class SomeRows(t.Arith):
    """What w has under NAME+ is added behind the layer NAME.weight, on the rows of gradients.c's --every, by their
    weights."""

    def __init__(self, dtype, w, every):
        super().__init__(dtype)
        self.w, self.every = w, every

    def linear(self, x, w, b=None, name=""):
        y, more = super().linear(x, w, b, name), self.w.get(name + ".weight+")
        if more is None:
            return y
        rows = np.arange(x.shape[0])
        by = np.where(rows % self.every == 1, 1 + 0.125 * (rows % 4), 0)
        return y + by[:, None] * self.dot(x, self.cast(more))


def adapters(tool, golden, name, rank=4, every=0):
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    path, texts = os.path.join(golden, name, "model.gguf"), t.texts_for(cfg)
    some = ["--every", str(every)] if every else []
    _, grads, _ = gradients(tool, path, job(texts), "--lora", str(rank), "--layers", *some)
    if every:
        same(gradients(tool, path, job(texts), "--lora", str(rank), "--threads", "2", *some),
             gradients(tool, path, job(texts), "--lora", str(rank), "--layers", *some), f"{name}, some rows")
    arith = (lambda kind, v: SomeRows(kind, v, every)) if every else t.plain
    of = {files.gguf_name(n, cfg["model_type"]): n for n in w}
    pair = {n: noise(n, g.shape[1], g.shape[0]) for n, g in grads.items()}
    names = sorted({n.rsplit(".lora_", 1)[0] for n in grads})
    moved = dict(w)
    for n in names:
        delta = 2 * pair[n + ".lora_b"] @ pair[n + ".lora_a"]
        moved[of[n] + "+" * bool(every)] = delta + (0 if every else w[of[n]])
    rng, worst = np.random.default_rng(2), 0.0
    shaken = [t.noisy(moved, rng) for _ in range(2)]
    for n in names:
        da, db = (rng.standard_normal(pair[n + s].shape) for s in (".lora_a", ".lora_b"))
        d = {of[n] + "+" * bool(every): 2 * (pair[n + ".lora_b"] @ da + db @ pair[n + ".lora_a"])}
        terms = [grads[n + ".lora_a"].astype(np.float64) * da, grads[n + ".lora_b"].astype(np.float64) * db]
        truth = t.along(cfg, moved, d, texts, arith)
        stray = max(abs(t.along(cfg, s, d, texts, arith) - truth) for s in shaken)
        off, allowed = abs(sum(x.sum() for x in terms) - truth), \
            3 * stray + 4 * t.EPS * sum(np.abs(x).sum() for x in terms)
        check(off <= allowed, f"{name}, adapter of {n}: {off:.1e} off, allowed {allowed:.1e}")
        worst = max(worst, off / allowed)
    check(len(names) >= 14, f"{name}: only {len(names)} adapters")
    print(f"{name}: adapters of {len(names)} layers{', on some rows' * bool(every)}, worst {worst:.2f} of its bound",
          flush=True)


# ---- a teacher ----

def teacher(tool, golden, name):
    """Losses and their derivative along all weights, with words of a teacher and a tail."""
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    ids, rng = t.texts_for(cfg)[0], np.random.RandomState(9)
    words = []
    for _ in ids:
        top, p = rng.choice(cfg["vocab_size"], 5, replace=False), rng.dirichlet([1.0] * 6)
        words.append((top, p[:5].astype(np.float32).astype(np.float64), float(np.float32(p[5]))))
    n, weight = len(ids), np.float32(0.05)
    lines = [f"rows {n}"] + [f"{x} {i} 1 0 {i + 1}" for i, x in enumerate(ids)] + [f"asks {n}"]
    for i, (top, p, tail) in enumerate(words):
        lines.append(f"{i} -1 {float(weight)!r} 5 " + " ".join(f"{a} {float(b)!r}" for a, b in zip(top, p))
                     + f" {tail!r}")
    losses, grads, _ = gradients(tool, os.path.join(golden, name, "model.gguf"), lines)

    def loss(v, kind=np.float64):
        y = t.forward(cfg, v, ids, t.Arith(kind))
        y = y - y.real.max(axis=-1, keepdims=True)
        p = np.exp(y - np.log(np.exp(y).sum(axis=-1, keepdims=True)))
        rows = [sum(q * (np.log(q) - np.log(p[i, k])) for k, q in zip(top, qs))
                + tail * (np.log(tail) - np.log(1 - p[i, top].sum())) for i, (top, qs, tail) in enumerate(words)]
        return np.array(rows)

    truth = loss(w)
    off = np.abs(losses - truth).max()
    check(off < 2e-5, f"{name}: losses to a teacher are {off:.1e} off")
    rng, worst = np.random.default_rng(4), 0.0
    shaken = [t.noisy(w, rng) for _ in range(2)]
    for m in ("model.embed_tokens.weight", "model.layers.1.self_attn.v_proj.weight", "model.norm.weight"):
        d = rng.standard_normal(w[m].shape)
        slope = [(float(weight) * loss(dict(v, **{m: v[m] + 1e-30j * d}), np.complex128)).sum().imag / 1e-30
                 for v in [w] + shaken]
        g = grads[files.gguf_name(m, cfg["model_type"])].reshape(d.shape).astype(np.float64)
        off = abs((g * d).sum() - slope[0])
        allowed = 3 * max(abs(s - slope[0]) for s in slope) + 4 * t.EPS * np.abs(g * d).sum()
        check(off <= allowed, f"{name} {m}: the derivative to a teacher is {off:.1e} off, allowed {allowed:.1e}")
        worst = max(worst, off / allowed)
    print(f"{name}: a teacher's words, worst {worst:.2f} of its bound", flush=True)


# ---- int8 ----

def cosine_of(a, b):
    a, b = (x.ravel().astype(np.float64) for x in (a, b))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def real(tool, stretto, text, model):
    with open(text, encoding="utf-8", errors="replace") as f:
        r = subprocess.run([stretto, "tokenize", "-m", model, "--json"], input=f.read(8000), stdout=subprocess.PIPE,
                           text=True, check=True)
    lines = job([json.loads(r.stdout)[:256]], most=256)
    served = gradients(tool, model, lines, "--lora", "16", "--threads", "2")
    plain = gradients(tool, model, lines, "--lora", "16", "--threads", "2", "--reference")
    whole = (np.concatenate([x[1][n].ravel() for n in plain[1]]) for x in (served, plain))
    worst = min((cosine_of(served[1][n], plain[1][n]), n) for n in plain[1])
    print(f"{os.path.basename(model)}: loss {served[0].mean():.4f}, of float32 {plain[0].mean():.4f}; gradients of "
          f"adapters through int8: cosine {cosine_of(*whole):.4f} to float32, at worst {worst[0]:.4f} ({worst[1]}); "
          f"{served[2][0] / 1e6:.0f} MB of weights, {served[2][1] / 1e6:.0f} MB of values", flush=True)


def quantised(tool, golden, name):
    """Adapters over weights as they are served, beside float32: the cosine, and the same bits whatever is kept."""
    path = os.path.join(golden, name, "model.gguf")
    texts = texts_of(families.TYPED, (40, 33))
    served = gradients(tool, path, job(texts), "--lora", "8")
    plain = gradients(tool, path, job(texts), "--lora", "8", "--reference")
    again = gradients(tool, path, job(texts), "--lora", "8", "--layers", "--threads", "2")
    same(served, again, f"{name}, layers run again")
    cosine = cosine_of(*(np.concatenate([x[1][n].ravel() for n in plain[1]]) for x in (served, plain)))
    check(cosine > 0.98, f"{name}: gradients of adapters have a cosine of {cosine:.4f} to those of float32")
    print(f"{name}: gradients of adapters through int8, cosine {cosine:.4f} to float32", flush=True)


def main():
    tool, golden = sys.argv[1:3]
    if len(sys.argv) > 3:
        for model in sys.argv[5:]:
            real(tool, *sys.argv[3:5], model)
        return
    for name in ("gemma2", "llama-tied"):
        equality(tool, golden, name)
    equality(tool, golden, "gemma2", "--bf16")
    for name in ("qwen2-biased", "gemma2", "olmo2-biased"):     # float32, and bf16
        adapters(tool, golden, name)
    for name in ("qwen2-biased", "gemma2"):
        adapters(tool, golden, name, every=3)
    teacher(tool, golden, "gemma2")
    for name in ("type-q4_1", "type-q4_k", "type-q8_0"):
        quantised(tool, golden, name)
    print(f"{len(t.failures)} failures")
    sys.exit(1 if t.failures else 0)


if __name__ == "__main__":
    main()
