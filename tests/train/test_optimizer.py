"""Optimizers against numpy: test_optimizer.py OPTIMIZER_CHECK

Gradients are drawn here; what masters, averages and memories become is computed here in float64, by what the papers
say: AdamW (1711.05101), Adafactor (1804.04235, algorithms 4 and 5), moments as codes (2110.02861) and rounded by
chance. Faults that are planted into these descriptions are noticed."""
import subprocess
import sys
import tempfile
import numpy as np

tool = sys.argv[1]
LR, B1, EPS, SCALE, BLOCK, LANES = 1e-2, 0.9, 1e-8, 0.5, 256, 16
f32 = np.float32
folder = tempfile.TemporaryDirectory()
told = subprocess.run([tool], capture_output=True, text=True, check=True).stdout
PARAMS = [(n, int(i), int(o)) for _, n, i, o in map(str.split, told.splitlines())]
VECTORS = ("norm", "bias")


def draw(steps, seed=1):
    """Gradients of very different sizes, some of them zero for many steps."""
    rng = np.random.default_rng(seed)
    out = []
    for t in range(steps):
        step = {}
        for name, n_in, n_out in PARAMS:
            sizes = 10.0 ** rng.uniform(-4, 0, (n_out, 1)) if name == "embed" else 1
            g = rng.normal(size=(n_out, n_in)) * sizes * 10 ** rng.uniform(-2, 0)
            if name == "embed":
                g[rng.uniform(size=n_out) < 0.7] = 0
            step[name] = g.astype(f32)
        out.append(step)
    return out


class Result:
    def __init__(self, gradients, kind="adamw", bits=32, average=0.0, decay=0.1, beta2=0.95, threads=1, more=()):
        with open(folder.name + "/g", "wb") as f:
            for step in gradients:
                for name, _, _ in PARAMS:
                    f.write(step[name].tobytes())
        done = subprocess.run([tool, folder.name + "/g", folder.name + "/out", *map(str, (
            len(gradients), kind, bits, average, decay, beta2, threads)), *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with open(folder.name + "/out", "rb") as f:
            self.bytes = f.read()
        at = 0
        def part():
            nonlocal at
            out = {}
            for name, n_in, n_out in PARAMS:
                out[name] = np.frombuffer(self.bytes, f32, n_in * n_out, at).reshape(n_out, n_in).astype(np.float64)
                at += 4 * n_in * n_out
            return out
        self.before, self.after = part(), part()
        self.average = part() if average else None
        self.state, types = {}, {"F32": f32, "BF16": np.uint16, "U8": np.uint8}
        for line in done.stdout.splitlines():
            if line.startswith("state"):
                _, name, array, kind_of, n = line.split()
                self.state[name, array] = np.frombuffer(self.bytes[at:at + int(n)], types[kind_of])
                at += int(n)
        assert at == len(self.bytes)


def stored(x, name):
    """In the order of memory: panels of 16 outputs, but for vectors and for tables that are looked up."""
    if name in VECTORS or name == "embed":
        return x.reshape(-1)
    n_out, n_in = x.shape
    padded = np.zeros((-(-n_out // LANES) * LANES, n_in), x.dtype)
    padded[:n_out] = x
    return padded.reshape(-1, LANES, n_in).transpose(0, 2, 1).reshape(-1)


def adamw(before, gradients, decay, beta2, memory=lambda m, v, name: (m, v), fix=True):
    out = {}
    for name, w in before.items():
        m = v = np.zeros_like(w)
        for t, step in enumerate(gradients, 1):
            g = step[name].astype(np.float64) * SCALE
            m, v = B1 * m + (1 - B1) * g, beta2 * v + (1 - beta2) * g * g
            fix1, fix2 = (1 - B1 ** t, 1 - beta2 ** t) if fix else (1, 1)
            w = w * (1 - LR * decay * (name not in VECTORS)) - LR * (m / fix1) / (np.sqrt(v / fix2) + EPS)
            m, v = memory(m, v, name)
        out[name] = w, m, v
    return out


def worst(got, want):
    first = lambda x: x[0] if isinstance(x, tuple) else x
    return max(np.abs(got[name] - first(want[name])).max() for name in got)


def test_adamw():
    g = draw(20)
    r = Result(g)
    off = worst(r.after, adamw(r.before, g, 0.1, 0.95))
    assert off < 20 * LR * 1e-5, off
    assert worst(r.after, adamw(r.before, g, 0.1, 0.95, fix=False)) > LR / 2
    assert worst(r.after, adamw(r.before, g, 0, 0.95)) > LR * 0.1 * 0.3
    print(f"adamw: at most {off:.1e} off")


def test_average():
    """The mean of masters, step i of t weighing b^(t - i)."""
    g, b = draw(20), 0.9
    r = Result(g, average=b)
    for name in r.after:
        sums = weights = 0
        for t in range(1, 21):
            w = adamw({name: r.before[name]}, g[:t], 0.1, 0.95)[name][0]
            sums, weights = b * sums + w, b * weights + 1
        assert np.abs(r.average[name] - sums / weights).max() < 20 * LR * 1e-5
        assert np.abs(r.average[name] - r.after[name]).max() > LR / 10
    assert (Result(g[:1], average=b).average["up"] == Result(g[:1]).after["up"]).all()


# ---- moments in 16 bits

def brain(bits):
    return (bits.astype(np.uint32) << 16).view(f32).astype(np.float64)


def test_bf16():
    g = draw(20)
    r = Result(g, bits=16)
    exact = adamw(r.before, g, 0.1, 0.95)
    off = worst(r.after, exact)
    assert off < 20 * LR * 2.0 ** -6, off
    for name, _, _ in PARAMS:
        for k, array in ((1, "m"), (2, "v")):
            want, got = stored(exact[name][k], name), brain(r.state[name, array])
            some = np.abs(want) > 1e-12
            assert np.abs(got[some] / want[some] - 1).mean() < 2.0 ** -6 if k == 2 else True
    # One step: each neighbour as often as makes the mean right, of either moment by noise of its own.
    one = Result(g[:1], bits=16)
    exact = adamw(one.before, g[:1], 0.1, 0.95)
    errors = []
    for k, array in ((1, "m"), (2, "v")):
        want, got = stored(exact["up"][k], "up"), brain(one.state["up", array])
        some = want != 0
        ulp = 2.0 ** (np.floor(np.log2(np.abs(want[some]))) - 7)
        e = (got[some] - want[some]) / ulp
        assert np.abs(e).max() < 1.001 and e.std() > 0.3, (array, e.std())
        assert np.abs(e.mean()) < 4 * e.std() / np.sqrt(len(e)), (array, e.mean())
        errors.append(e)
    assert abs(np.corrcoef(errors)[0, 1]) < 0.1
    # A second moment that falls by a thousandth a step falls; rounded to the nearest it would not.
    n = 400
    still = [g[0]] + [{name: np.zeros_like(x) for name, x in g[0].items()}] * n
    r = Result(still, bits=16, beta2=0.999)
    v = 0.001 * (stored(g[0]["up"].astype(np.float64), "up") * SCALE) ** 2
    some = v > 0
    ratio = (brain(r.state["up", "v"])[some] / v[some]).mean() / 0.999 ** n
    assert abs(ratio - 1) < 0.01, ratio
    nearest = lambda x: brain(((x.astype(f32).view(np.uint32) + 0x8000) >> 16).astype(np.uint16))
    stuck = nearest(v[some])
    for _ in range(n):
        stuck = nearest(0.999 * stuck)
    assert (stuck / v[some]).mean() > 0.99
    print(f"bf16 moments: weights at most {off:.1e} off; v after {n} steps without gradient {ratio:.4f} of what it "
          "should be")


# ---- moments as codes

def dynamic_map(signed):
    """As the paper describes it: an indicator bit ends the exponent, what is left is linear, between 0.1 and 1."""
    values = [0.0, 1.0]
    for zeros in range(7):
        bits = 6 - zeros if signed else 7 - zeros
        edges = np.linspace(0.1, 1, 2 ** bits + 1)
        values += list(10.0 ** -zeros * (edges[:-1] + edges[1:]) / 2)
        if signed:
            values += list(-10.0 ** -zeros * (edges[:-1] + edges[1:]) / 2)
    assert len(values) == 256
    return np.sort(np.array(values)).astype(f32)


MAPS = dynamic_map(True), dynamic_map(False)


def coded(x, which, never_zero=False):
    """Blocks of a flat array: what is read again, the codes and the scales."""
    values, codes, scales, back = MAPS[which], [], [], []
    middles = (values[:-1] + values[1:]) / f32(2)
    for i in range(0, len(x), BLOCK):
        b = x[i:i + BLOCK].astype(f32)
        scale = np.abs(b).max()
        c = np.searchsorted(middles, b / scale if scale > 0 else b, side="left")
        if never_zero:
            c[(b > 0) & (values[c] == 0)] += 1
        codes.append(c)
        scales.append(scale)
        back.append(values[c] * scale)
    return np.concatenate(back).astype(np.float64), np.concatenate(codes), np.array(scales, f32)


def codes_of(before, g, never_zero=True, block_order=True):
    kept = {}
    def memory(m, v, name):
        order = stored(np.arange(m.size).reshape(m.shape) + 1, name) - 1 if block_order else np.arange(m.size)
        out = []
        for which, x in ((0, m), (1, v)):
            flat = np.append(x.reshape(-1), 0)[order]            # padding (-1) is the zero at the end
            back, codes, scales = coded(flat, which, which == 1 and never_zero)
            kept[name, which] = codes, scales
            y = np.zeros(x.size + 1)
            y[order] = back
            out.append(y[:-1].reshape(x.shape))
        return out
    return adamw(before, g, 0.1, 0.95, memory), kept


def test_codes():
    g = draw(20)
    r = Result(g, bits=8)
    want, kept = codes_of(r.before, g)
    off = worst(r.after, want)
    assert off < 20 * LR * 2e-3, off
    equal, n = 0, 0
    for name, _, _ in PARAMS:
        for which, array in ((0, "m"), (1, "v")):
            codes, scales = kept[name, which]
            equal += (r.state[name, array] == codes).sum()
            n += len(codes)
            assert np.abs(r.state[name, array + ".scale"] / np.where(scales > 0, scales, 1) - (scales > 0)).max() < 1e-4
    assert equal > 0.995 * n, equal / n
    # What is ours: without it rows that are seldom seen are thrown far away.
    thrown = worst(r.after, codes_of(r.before, g, never_zero=False)[0])
    assert thrown > 10 * off and worst(r.after, codes_of(r.before, g, block_order=False)[0]) > 10 * off
    plain = adamw(r.before, g, 0.1, 0.95)
    print(f"codes: at most {off:.1e} off, {100 * equal / n:.2f} % of them equal; {worst(r.after, plain):.1e} from "
          f"float64's moments, {thrown:.1e} from what codes of 0 would do")


# ---- Adafactor

def adafactor(before, gradients, decay, clip=True):
    out = {}
    for name, w in before.items():
        R = C = V = 0
        for t, step in enumerate(gradients, 1):
            g, beta = step[name].astype(np.float64) * SCALE, 1 - t ** -0.8
            s = g * g + 1e-30
            if name in VECTORS:
                v = V = beta * V + (1 - beta) * s
            else:
                R = beta * R + (1 - beta) * s.sum(1, keepdims=True)
                C = beta * C + (1 - beta) * s.sum(0, keepdims=True)
                v = R * C / R.sum()
            u = g / np.sqrt(v)
            if clip:
                u = u / max(1, np.sqrt((u * u).mean()))
            w = w * (1 - LR * decay * (name not in VECTORS)) - LR * u
        out[name] = w
    return out


def test_adafactor():
    g = draw(20)
    g[7] = {name: 100 * x for name, x in g[7].items()}          # so that the step is made shorter
    r = Result(g, "adafactor", 0)
    off = worst(r.after, adafactor(r.before, g, 0.1))
    assert off < 20 * LR * 1e-4, off
    assert worst(r.after, adafactor(r.before, g, 0.1, clip=False)) > 100 * off
    assert {array for _, array in r.state} == {"v", "rows", "columns"}
    assert len(r.state["up", "rows"]) == 96 and len(r.state["up", "columns"]) == 48
    zero = [{name: np.zeros_like(x) for name, x in g[0].items()}] * 3
    assert np.isfinite(np.frombuffer(Result(zero, "adafactor", 0).bytes, f32)).all()
    print(f"adafactor: at most {off:.1e} off")


def test_threads_change_nothing():
    g = draw(4)
    for kind, bits in (("adamw", 32), ("adamw", 16), ("adamw", 8), ("adafactor", 0)):
        want = Result(g, kind, bits, average=0.9).bytes
        for threads in (2, 3):
            assert Result(g, kind, bits, average=0.9, threads=threads).bytes == want, (kind, bits, threads)


def test_masters_beside_16_bits():
    """What is computed with is rounded; what is learned is not."""
    g = draw(4)
    for more in (["bf16"], ["f16"]):
        assert (Result(g, more=more).after["up"] == Result(g).after["up"]).all()


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(name, "ok")
