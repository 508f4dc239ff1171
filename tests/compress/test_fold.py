#!/usr/bin/env python3
"""`stretto squeeze --fold` on every family: the places follow from the family, factors keep every bit of the answers,
rotations stay within float32's rounding of the float64 forward, and factors are those that numpy computes.

    test_fold.py STRETTO GOLDEN

Needs models that tools/make_golden.py made. Mistakes planted into what numpy expects must be noticed."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
try:
    import gguf
    import numpy as np
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

stretto, golden = sys.argv[1:3]
TEXT = "A brown fox and 12 lazy dogs went over the hill. They had not been there before! " * 12
# Of the values that a layer's weights read, those that pass factors on: norms that nobody else reads, up, values.
FREE = {"olmo2": (2, 4), "olmo3": (2, 4), "exaone4": (2, 4), "gpt2": (3, 4), "starcoder2": (3, 4), "bert": (1, 4),
        "cohere2": (3, 3), "phi": (2, 3), "stablelm-beside": (3, 3)}   # parts side by side read one norm
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


def call(*argv):
    return subprocess.run([stretto, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


def fold(model, out, how, *more, type="f32"):
    r = call("squeeze", "-q", "-t", "1", "-m", model, "-o", out, "--force", "--no-proof", "--fold", how,
             "--type", type, "--calibrate", text, "--tokens", "300", *more)
    return r.returncode, r.stderr


def folded(model, out, how, *more, type="f32"):
    """How many values weights read, how many are free, and how many were changed."""
    rc, err = fold(model, out, how, *more, type=type)
    found = re.search(r"of (\d+) values that layers read, (\d+) are free and (\d+)", err)
    check(rc == 0 and found, f"{model}: exit code {rc}: {err}")
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def answers(model, ids, encoder):
    out = os.path.join(tmp, "rows")
    if encoder:
        r = subprocess.run([stretto, "embed", "-m", model, "--json", "--reference"], input="a hill\n", text=True,
                           capture_output=True)
        return r.stdout.encode() if not r.returncode else None
    r = call("eval", "logits", "-m", model, "-t", "1", "--reference", "--ids", ",".join(map(str, ids)), "--raw", out,
             "--force")
    if r.returncode: return None
    with open(out, "rb") as f:
        return f.read()


def tensors(path):
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
            for t in gguf.GGUFReader(path).tensors}


def family(model):
    with open(os.path.join(golden, "index.json")) as f:
        index = json.load(f)
    return next(m for m in index["models"] if m["name"] == model)


# ---- every family -------------------------------------------------------------------------------


def one_family(model, path):
    out, cfg = os.path.join(tmp, "folded.gguf"), family(model["name"])
    free, of = FREE.get(model["name"]) or FREE.get(model["family"], (4, 4))
    layers = max(int(n.split(".")[1]) for n in tensors(path) if n.startswith("blk.")) + 1
    ids = model["runs"][-1]["ids"]
    got = folded(path, out, "smooth")
    check(got[:2] == (of * layers, free * layers), f"{model['name']}: of {layers} layers {got} are folded")
    before, after = tensors(path), tensors(out)
    moved = sum(not np.array_equal(before[n], after[n]) for n in before)
    check(0 < got[2] <= got[1] and moved >= 2, f"{model['name']}: only {moved} tensors were changed")
    check(answers(path, ids, cfg["encoder"]) == answers(out, ids, cfg["encoder"]), f"{model['name']}: other answers")
    got = folded(path, out, "rotate")
    check(got == (layers,) * 3, f"{model['name']}: values of {got} layers are turned")
    if cfg["encoder"]: return
    truth = np.load(os.path.join(golden, model["name"], model["runs"][-1]["expect"]))
    rows = np.frombuffer(answers(out, ids, False), np.float32).reshape(truth.shape)
    off, allow = np.abs(rows - truth).max(), model["runs"][-1]["allow"]["float32"]
    check(off <= allow, f"{model['name']}: turned values move an answer by {off:.1e}, {allow:.1e} allowed")
    check(not np.array_equal(tensors(out)["blk.0.attn_output.weight"], before["blk.0.attn_output.weight"]),
          f"{model['name']}: nothing was turned")


def turned(model, head):
    """Hadamard's matrix on the rows of the values of each head, and on the columns that read them."""
    out, h = os.path.join(tmp, "folded.gguf"), np.ones((1, 1))
    folded(model, out, "rotate")
    while len(h) < head: h = np.block([[h, h], [h, -h]]) / np.sqrt(2)
    before, after = tensors(model), tensors(out)
    v, o = (before[f"blk.1.attn_{n}.weight"] for n in ("v", "output"))
    off = max(np.abs(after["blk.1.attn_v.weight"] - (h @ v.reshape(-1, head, v.shape[1])).reshape(v.shape)).max(),
              np.abs(after["blk.1.attn_output.weight"] - (o.reshape(len(o), -1, head) @ h).reshape(o.shape)).max())
    check(off < 1e-5, f"turned values are {off:.1e} off from Hadamard's")


# ---- the factors --------------------------------------------------------------------------------


def statistics(model):
    out = os.path.join(tmp, "stats.gguf")
    r = call("calibrate", "-q", "-t", "1", "-m", model, "-f", text, "--tokens", "300", "-o", out, "--force")
    check(r.returncode == 0, f"calibrate: {r.stderr}")
    t = {x.name: np.array(x.data, np.float64).ravel() for x in gguf.GGUFReader(out).tensors}
    names = [n[:-len(".in_sum2")] for n in t if n.endswith(".in_sum2")]
    return {n: (np.sqrt(t[n + ".in_sum2"] / t[n + ".counts"]), t[n + ".in_most"]) for n in names}


def powers(size, a):
    x = a * (np.log2(size) - np.log2(size).mean())
    return 2.0 ** np.clip(np.rint(x), -10, 10), np.abs(np.abs(x - np.rint(x)) - 0.5) < 1e-4


def shared(x, heads, kv, fold_heads):
    """A number for each column of attn_output, as one for each row of the values."""
    return fold_heads(x.reshape(kv, heads // kv, -1), axis=1).ravel()


def agree(what, got, want, near, planted=False):
    """near: where a rounding is a tie, nearly."""
    same = (got == want) | near
    check(bool(same.all()) != planted, f"{what}: {int((~same).sum())} of {len(got)} factors differ"
          if not planted else f"{what}: a planted mistake is not noticed")


def factors_of(model, heads, kv, how, which, share):
    """Of the third layer: s of every place, as the maker's rows tell it, and as numpy has it."""
    out = os.path.join(tmp, "folded.gguf")
    folded(model, out, how)
    before, after = tensors(model), tensors(out)
    size = {n: x[which] for n, x in statistics(model).items()}
    b = "blk.2."

    def most(*readers):
        return np.max([np.abs(before[b + r + ".weight"]).max(axis=0) for r in readers], axis=0)

    def mixed(x, w, of=share):
        return powers(x ** of / w ** (1 - of), 1)

    def s_of(norm):
        return before[b + norm + ".weight"] / after[b + norm + ".weight"]

    def rows(maker, norm):
        return np.median(before[b + maker + ".weight"] / after[b + maker + ".weight"] * s_of(norm), axis=1)

    for norm, readers in (("attn_norm", ("attn_q", "attn_k", "attn_v")), ("ffn_norm", ("ffn_gate", "ffn_up"))):
        x = size[b + readers[0] + ".weight"]
        agree(norm, s_of(norm), *mixed(x, most(*readers)))
        agree(norm, s_of(norm), *mixed(x, most(*readers), share + 0.1), planted=True)
    agree("ffn_up", rows("ffn_up", "ffn_norm"), *mixed(size[b + "ffn_down.weight"], most("ffn_down")))
    got = rows("attn_v", "attn_norm")
    agree("attn_v", got, *mixed(shared(size[b + "attn_output.weight"], heads, kv, np.max),
                                shared(most("attn_output"), heads, kv, np.max)))
    columns = after[b + "attn_output.weight"][0] / before[b + "attn_output.weight"][0]
    agree("attn_output", columns, np.repeat(got.reshape(kv, 1, -1), heads // kv, axis=1).ravel(),
          np.zeros(len(columns), bool))


def searched(model):
    """AWQ's factors are a power of how large channels are, the same for all channels, or none."""
    out = os.path.join(tmp, "folded.gguf")
    folded(model, out, "awq", "--method", "plain", type="q4_0")
    before, after = tensors(model), tensors(out)
    rms = {n: x[0] for n, x in statistics(model).items()}
    found = set()
    for i in range(3):
        name = f"blk.{i}.ffn_norm.weight"
        got = before[name] / after[name]
        fits = [a for a in (0, 0.125, 0.25, 0.375, 0.5, 0.75, 1)
                for want, near in [powers(rms[f"blk.{i}.ffn_up.weight"], a)] if ((got == want) | near).all()]
        check(fits, f"{name}: factors are no power of the inputs' sizes: {got}")
        found.update(fits[:1])
    check(found - {0}, "no factor but 1 was chosen anywhere")
    meta = gguf.GGUFReader(out).fields["stretto.squeeze.fold"].contents()
    check(meta == "awq", f"the file says {meta}")


# ---- keys ---------------------------------------------------------------------------------------


def biased(model, out, by):
    """The same model with the biases of two keys of a layer as large as Qwen's are."""
    shutil.copy(model, out)
    r = gguf.GGUFReader(out, "r+")
    next(t for t in r.tensors if t.name == "blk.1.attn_k.bias").data[3:5] *= by
    r.data.flush()


def spread(model, terms):
    """Largest over median pair of a head's keys in the worst layer: E (w x + b)^2 from moments, without some terms."""
    out, worst = os.path.join(tmp, "stats.gguf"), 0
    call("calibrate", "-q", "-t", "1", "-m", model, "-f", text, "--tokens", "300", "-o", out, "--force", "--gram")
    t, w = ({x.name: np.array(x.data, np.float64) for x in gguf.GGUFReader(f).tensors} for f in (out, model))
    field = gguf.GGUFReader(out).fields["stretto.stats.same"]
    words = [bytes(field.parts[i]).decode() for i in field.data]
    same = dict(zip(words[::2], words[1::2]))
    for i in range(3):
        name = f"blk.{i}.attn_k"
        stem, b = name + ".weight", w[name + ".bias"]
        rows, rest = t[stem + ".counts"].ravel()[0], t[stem + ".in_rest"].reshape(3, -1)
        k = w[stem]
        square = ((k @ t[same.get(stem, stem) + ".in_gram"]) * k).sum(axis=1) / rows
        square += terms[0] * 2 * b * (k @ (rest[1] + rest[2])) / rows + terms[1] * b * b
        for head in square.reshape(-1, 2, 8):           # 16 numbers, whose halves are turned together
            pair = np.sort(np.sqrt(np.maximum(head.sum(axis=0), 0)))
            worst = max(worst, pair[-1] / pair[3])
    return worst


def keys():
    """Keys are as large as their biases make them, and balanced they say the same."""
    model, even = os.path.join(tmp, "uneven.gguf"), os.path.join(tmp, "even.gguf")
    biased(os.path.join(golden, "qwen2", "model.gguf"), model, 40)
    r = call("squeeze", "-q", "-t", "1", "-m", model, "-o", even, "--only", "keys", "--calibrate", text, "--tokens",
             "300", "--no-proof")
    found = re.search(r"largest pair was ([0-9.]+) times the median one at most, and is ([0-9.]+)", r.stderr)
    check(found, f"--only keys: {r.stderr}")
    if not found: return
    before, after = map(float, found.groups())
    want = spread(model, (1, 1))
    check(abs(before - want) < 0.06, f"keys spread {before} times, numpy says {want:.2f}")
    check(after < before / 2, f"keys spread {after} times when they are balanced")
    for terms in ((0, 1), (1, 0)):
        check(abs(before - spread(model, terms)) > 0.2, f"a missing term {terms} is not noticed")
    ids = [1, 9, 30, 7, 100, 5, 44, 9]
    check(answers(model, ids, False) == answers(even, ids, False), "balanced keys: other answers")


# ---- words --------------------------------------------------------------------------------------


def fused():
    """Phi-3's file has two matrices under the name of one."""
    model, out = os.path.join(golden, "phi3", "model.gguf"), os.path.join(tmp, "fused.gguf")
    r = call("squeeze", "-q", "-t", "1", "-m", model, "-o", out, "--type", "q8_0", "--no-proof", "--calibrate", text,
             "--tokens", "300")
    check(r.returncode == 0, f"phi3: {r.stderr}")
    if r.returncode: return
    before, after = tensors(model), tensors(out)
    far = max(np.abs(before[n] - after[n]).max() / np.abs(before[n]).max() for n in before)
    check(0 < far < 0.05, f"phi3 in 8 bits is off by {far:.3f} of its largest weight")


def words():
    model, codes = (os.path.join(golden, n, "model.gguf") for n in ("llama", "type-q8_0"))
    out = os.path.join(tmp, "no.gguf")
    for said, code, path, *args in (("makes none", 2, model, "--fold", "awq", "--type", "f16"),
                                    ("leave out --imatrix", 2, model, "--fold", "awq", "--imatrix", model),
                                    ("--only", 2, model, "--fold", "smooth", "--only", "embeddings"),
                                    ("--share", 2, model, "--fold", "smooth", "--share", "16"),
                                    ("--sparsity", 2, model, "--fold", "rotate", "--sparsity", "50%"),
                                    ("--low-rank", 2, model, "--fold", "smooth", "--low-rank", "4"),
                                    ("--balance-keys changes", 2, model, "--balance-keys", "--low-rank", "4"),
                                    ("--requantize", 2, codes, "--fold", "smooth", "--type", "q4_0")):
        r = call("squeeze", "-q", "-m", path, "-o", out, "--calibrate", text, *args)
        check(r.returncode == code and said in r.stderr, f"{args}: exit code {r.returncode}: {r.stderr}")
    check(not [f for f in os.listdir(tmp) if f.startswith("no.gguf")], f"left: {os.listdir(tmp)}")
    folded(codes, out, "rotate", "--requantize", type="q8_0")


def main():
    global tmp, text
    with open(os.path.join(golden, "index.json")) as f:
        models = json.load(f)["models"]
    with tempfile.TemporaryDirectory() as tmp:
        text = os.path.join(tmp, "text.txt")
        with open(text, "w") as f:
            f.write(TEXT)
        for m in models:
            paths = [x["path"] for x in m["files"] if x["kind"] == "gguf" and x["type"] in ("F32", "F16", "BF16")]
            if paths and not m["name"].startswith("type-"): one_family(m, os.path.join(golden, paths[0]))
        turned(os.path.join(golden, "llama", "model.gguf"), 16)
        for how, which, share in (("smooth", 0, 0.5), ("smooth-static", 1, 0.75)):
            factors_of(os.path.join(golden, "llama", "model.gguf"), 4, 2, how, which, share)
        searched(os.path.join(golden, "llama", "model.gguf"))
        keys()
        fused()
        words()
    print("folding: places, bits and factors are right" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
