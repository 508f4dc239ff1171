"""GPTQ as the paper has it (arXiv 2210.17323, algorithm 1: H^-1, its upper Cholesky factor, one column after the
other) in float64 numpy, beside what the program writes. Blocks are read by PyPI's gguf alone.

Under the scales of a file that was written without sweeps the paper's algorithm finds the codes of that file, one
by one. Sweeps raise the error of no row, and many of them end where no other code of one weight
and no other scale of one block lowers it.
With everything on, the error under H is at most that of the algorithm on the scales that a weighted search
finds. The report's sums are what numpy makes of the blocks."""
import os
import struct
import subprocess
import sys

try:
    import gguf
    import numpy as np
except ImportError:
    print("skip: no numpy and gguf; ./dev test installs them")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from oracle import dtypes, gguf_more  # noqa: E402, F401

PROGRAM = sys.argv[1]
PLAIN, SEARCH, FEEDBACK = 0, 1, 2
DAMP, ROWS, SETTLED = 0.01, 16, 30
PLANES = [("CODE_BYTES", "bytes_at", 8), ("CODE_NIB", "nib_at", 4), ("CODE_TWO", "two_at", 2),
          ("CODE_ONE", "one_at", 1)]


def draw(n, seed):
    """Weights with heavy tails, and what a layer with a few loud channels and related ones reads."""
    r = np.random.default_rng(seed)
    x = r.standard_normal((2 * n, n)) @ (np.eye(n) + 0.6 * r.standard_normal((n, n)) / np.sqrt(n))
    x = (x * np.exp(r.standard_normal(n))).astype(np.float32)
    w = 0.05 * r.standard_normal((ROWS, n)) * np.exp(0.4 * r.standard_normal((ROWS, n)))
    return (x.T @ x).astype(np.float32), w.astype(np.float32)


def write(name, gram, w, method, sweeps=3, threads=2):
    number = gguf.GGMLQuantizationType[name].value
    text = struct.pack("<6Q", number, *w.shape, method, sweeps, threads) + gram.tobytes() + w.tobytes()
    done = subprocess.run([PROGRAM], input=text, capture_output=True, check=True).stdout
    return np.frombuffer(done[32:], np.uint8).reshape(w.shape[0], -1), np.frombuffer(done[:32], np.float64)


def read(name, blocks):
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).astype(np.float64)


def grid(name, blocks):
    """[codes][rows][n]: what every element would be with each code, under the scales of the blocks."""
    row, all_of = dtypes.TYPES[name], []
    planes = [p.strip() for p in row["planes"].split("|")]
    bits = sum(b for p, _, b in PLANES if p in planes)
    for code in range(1 << bits):
        if planes == ["CODE_BYTES"] and code == 128 or code >= row.get("codes", 256):
            continue
        b = blocks.reshape(-1, row["bytes"]).copy()
        for plane, at, width in PLANES:
            if plane not in planes:
                continue
            part, code = code & ((1 << width) - 1), code >> width
            whole = sum(part << k for k in range(0, 8, width))
            b[:, row[at]:row[at] + row["block"] * width // 8] = whole
        all_of.append(read(name, b.reshape(blocks.shape)))
    return np.array(all_of)


def order_of(d, sizes):
    """Columns: runs of sizes[0] by falling sum of d, and so within each."""
    if not sizes:
        return np.arange(len(d))
    runs = d.reshape(-1, sizes[0]).sum(1)
    return np.concatenate([k * sizes[0] + order_of(d[k * sizes[0]:(k + 1) * sizes[0]], sizes[1:])
                           for k in np.argsort(-runs, kind="stable")])


def gptq(gram, w, values, order):
    """The paper's algorithm: w with codes from values[code][row][column]."""
    h = gram.astype(np.float64)
    h += DAMP * np.diag(h).mean() * np.eye(len(h))
    u = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    left, out = w.astype(np.float64)[:, order], np.zeros(w.shape)
    rows = np.arange(len(w))
    for j, column in enumerate(order):
        near = np.abs(values[:, :, column] - left[:, j]).argmin(0)
        out[:, column] = values[near, rows, column]
        left[:, j:] -= np.outer((left[:, j] - out[:, column]) / u[j, j], u[j, j:])
    return out


def error(gram, w, x):
    e = w.astype(np.float64) - x
    return ((e @ (gram.astype(np.float64) / len(gram))) * e).sum()


def row_errors(h, w, x):
    e = w.astype(np.float64) - x
    return ((e @ h) * e).sum(1)


def code_gains(name, h, w, blocks):
    """Of each row, by how much of its error the best other code of one weight would lower it."""
    x = read(name, blocks)
    by = x - grid(name, blocks)                                     # what e would grow by
    change = by * (by * np.diag(h) + 2 * ((w - x) @ h))
    return -change.min((0, 2)) / row_errors(h, w, x)


def other_scales(name, blocks):
    """Blocks [rows][bytes] with one number of their scales a step lower or higher."""
    row = dtypes.TYPES[name]
    for at in [row[field] for field in ("d_at", "m_at") if field in row]:
        for up in (-np.inf, np.inf):
            b = blocks.copy()
            if "scale" in row:                                      # an exponent
                b[:, at] = np.clip(b[:, at] + (1 if up > 0 else -1.0), 1, 254)
            else:
                d = np.nextafter(b[:, at:at + 2].copy().view(np.float16), np.float16(up))
                b[:, at:at + 2] = (np.maximum(d, np.float16(0)) if "sub" in row and group_has_min(row) else
                                   d).view(np.uint8)
            yield b
    for i in range(16):
        if row.get("sub") == "SUB_BYTES":
            for step in (-1, 1):
                b = blocks.copy()
                b[:, row["sub_at"] + i] = np.clip(b[:, row["sub_at"] + i].view(np.int8) + step, -127,
                                                  127).astype(np.int8).view(np.uint8)
                yield b
        for shift in (0, 4) if row.get("sub") == "SUB_NIBBLES" else ():
            for step in (-1, 1):
                b = blocks.copy()
                old = b[:, row["sub_at"] + i] >> shift & 15
                b[:, row["sub_at"] + i] ^= (old ^ np.clip(old.astype(int) + step, 0, 15).astype(np.uint8)) << shift
                yield b


def group_has_min(row):
    return "min" in row or row.get("sub") == "SUB_NIBBLES"


def scale_gains(name, h, w, blocks):
    """The same of other scales of one block."""
    size, best, now = dtypes.TYPES[name]["bytes"], np.zeros(len(w)), row_errors(h, w, read(name, blocks))
    for at in range(0, blocks.shape[1], size):
        for part in other_scales(name, blocks[:, at:at + size]):
            other = blocks.copy()
            other[:, at:at + size] = part
            best = np.maximum(best, 1 - row_errors(h, w, read(name, other)) / now)
    return best


def check_sweeps(name, gram, w):
    h = gram.astype(np.float64)
    swept = {k: write(name, gram, w, FEEDBACK, sweeps=k)[0] for k in (0, 1, 2, 3, SETTLED)}
    now = row_errors(h, w, read(name, swept[0]))
    for k in (1, 2, 3, SETTLED):
        before, now = now, row_errors(h, w, read(name, swept[k]))
        assert (now <= before * (1 + 1e-5)).all(), f"{name}: {k} sweeps raise the error of a row"
    for what, gains in (("code", code_gains), ("scale", scale_gains)):
        rest = gains(name, h, w, swept[SETTLED]).max()
        assert rest < 1e-6, f"{name}: after {SETTLED} sweeps another {what} lowers an error by {rest:.1e}"
    assert code_gains(name, h, w, swept[0]).min() > 1e-3, f"{name}: there was no better code to find"


def group_of(name):
    row = dtypes.TYPES[name]
    if "sub" not in row:
        return row["block"]
    return 16 if row["sub"] in ("SUB_NIBBLES", "SUB_BYTES", "SUB_SIX") else 32


def check_codes(name, gram, w, blocks):
    unit, group = dtypes.TYPES[name]["block"], group_of(name)
    order = order_of(np.diag(gram).astype(np.float64), [group, 1] if unit == group else [unit, group, 1])
    wanted, found = gptq(gram, w, grid(name, blocks), order), read(name, blocks)
    assert (wanted == found).all(), f"{name}: {(wanted != found).mean():.2%} of the codes are others"


def check(name, seed):
    n = 2 * max(256, dtypes.TYPES[name]["block"])
    gram, w = draw(n, seed)
    one, _ = write(name, gram, w, FEEDBACK, sweeps=0)
    check_codes(name, gram, w, one)

    spoiled = one.copy()                                   # is a single other code noticed?
    row = dtypes.TYPES[name]
    spoiled[3, next(row[at] for _, at, _ in PLANES if at in row)] ^= 1
    try:
        check_codes(name, gram, w, spoiled)
    except AssertionError:
        pass
    else:
        raise AssertionError(f"{name}: a wrong code went unnoticed")

    check_sweeps(name, gram, w[:4])
    kept, report = write(name, gram, w, FEEDBACK)
    alone, _ = write(name, gram, w, FEEDBACK, threads=1)
    assert (kept == alone).all(), f"{name}: other blocks with other threads"
    searched, _ = write(name, gram, w, SEARCH)
    plain, _ = write(name, gram, w, PLAIN)
    truth = [error(gram, w, read(name, b)) for b in (plain, searched, kept)] + [error(gram, w, 0)]
    assert np.allclose(report, truth, rtol=1e-4), f"{name}: reported {report}, numpy has {truth}"
    by_energy = np.argsort(-np.diag(gram), kind="stable")
    oracle = error(gram, w, gptq(gram, w, grid(name, searched), by_energy))
    print(f"{name:7} error / whole: plain {truth[0] / truth[3]:.2e}  searched {truth[1] / truth[3]:.2e}"
          f"  numpy's GPTQ {oracle / truth[3]:.2e}  ours {truth[2] / truth[3]:.2e}  ratio {truth[2] / oracle:.3f}")
    assert truth[2] <= oracle, f"{name}: {truth[2]} is more than {oracle}"


for number, name in enumerate(dtypes.CODED):
    check(name, number)
