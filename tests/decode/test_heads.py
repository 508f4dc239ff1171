#!/usr/bin/env python3
"""Heads of a file against numpy: the best token of each and its probability, for random heads on random hidden
states; with the model's own output layer and with their own. Files of other models are refused with words.

    test_heads.py STRETTO HEADS_CHECK GOLDEN_FOLDER"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import gguf
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

stretto, check, golden = sys.argv[1:4]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)


def safetensors(path, tensors, about=None):
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int32): "I32"}
    head, at, data = {"__metadata__": about} if about else {}, 0, b""
    for name, x in tensors.items():
        raw = np.ascontiguousarray(x).tobytes()
        head[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data += raw
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def guesses(model, path, hidden, last, *places):
    rows = np.concatenate([hidden.astype(np.float32).view(np.int32), last[:, None].astype(np.int32)], axis=1)
    r = subprocess.run([check, model, path, *places], input=rows.tobytes(), stdout=subprocess.PIPE, check=True)
    rows = [line.split() for line in r.stdout.decode().splitlines()]
    return (np.array([[int(x) for x in row[0::2]] for row in rows]),
            np.array([[float(x) for x in row[1::2]] for row in rows]))


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def expected(hidden, w, bias, out):
    return (hidden + silu(hidden @ w.T.astype(np.float64) + bias)) @ out.T.astype(np.float64)


def recursive_state(w, s, e):
    u = rms(s) @ w["state"].T + rms(e) @ w["token"].T
    x = rms(u)
    return u + (silu(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T


class Counts:
    compared = close = 0

    def compare(self, logits, token, p, what, slack):
        """Whether the guess is the best of these logits; near ties may go either way, as the output layer may be stored
        in fewer bits, and matrices are codes of 8 bits where they run."""
        self.compared += 1
        order = np.sort(logits)
        if order[-1] - order[-2] < slack:
            self.close += 1
            return
        assert token == logits.argmax(), (what, token, logits.argmax())
        assert abs(p - softmax(logits).max()) < 0.4 * slack, (what, p, softmax(logits).max())


def medusa(rng, counts, model, own, path):
    vocab, width = own.shape
    name = model
    for n, outputs, half, biased, sliced in ((1, False, False, True, False), (4, False, False, False, True),
                                             (3, True, False, True, False), (5, False, True, True, False)):
        kind = np.float16 if half else np.float32
        heads, ws, bs, outs = {}, [], [], []
        slice_ = rng.permutation(vocab)[:vocab // 3].astype(np.int32) if sliced else np.arange(vocab)
        for k in range(n):
            ws.append((rng.standard_normal((width, width)) * 0.2).astype(kind))
            bs.append((rng.standard_normal(width) * 0.2).astype(kind) if biased else np.zeros(width))
            heads[f"heads.{k}.weight"] = ws[k]
            if biased:
                heads[f"heads.{k}.bias"] = bs[k]
            outs.append(rng.standard_normal((vocab, width)).astype(np.float32) if outputs else own)
            if outputs:
                heads[f"heads.{k}.output.weight"] = outs[k]
        if sliced:
            heads["tokens"] = slice_
        safetensors(path, dict(sorted(heads.items(), key=lambda x: x[0][::-1])))
        hidden = rng.standard_normal((24, width)).astype(np.float32)
        token, p = guesses(model, path, hidden, np.zeros(24))
        assert token.shape == (24, n), token.shape
        for k in range(n):
            logits = expected(hidden.astype(np.float64), ws[k], bs[k].astype(np.float64), outs[k])[:, slice_]
            place = {int(t): i for i, t in enumerate(slice_)}
            for i in range(24):
                counts.compare(logits[i], place[token[i, k]], p[i, k], (name, n, k, i), 0.05)


def recursive(rng, counts, model, own, table, path):
    """Every guess behind the tokens that were guessed, whichever they are."""
    vocab, width = own.shape
    for feed, sliced, kind in ((2 * width, False, np.float32), (96, True, np.float16)):
        w = {n: (rng.standard_normal(shape) * scale / np.sqrt(shape[1])).astype(kind) for n, shape, scale in
             (("state", (width, width), 1.5), ("token", (width, width), 1.5), ("gate", (feed, width), 1),
              ("up", (feed, width), 1), ("down", (width, feed), 1))}
        slice_ = rng.permutation(vocab)[:vocab // 3].astype(np.int32) if sliced else np.arange(vocab)
        tensors = {f"recursive.{n}.weight": x for n, x in w.items()}
        safetensors(path, {**tensors, "tokens": slice_} if sliced else tensors)
        hidden = rng.standard_normal((24, width)).astype(np.float32)
        last = rng.integers(0, vocab, 24)
        token, p = guesses(model, path, hidden, last)
        assert token.shape == (24, 16), token.shape
        for places in ("1", "7"):
            again = guesses(model, path, hidden, last, places)
            assert (token == again[0]).all() and (p == again[1]).all(), "what stands beside a text changes its guesses"
        place = {int(t): i for i, t in enumerate(slice_)}
        w = {n: x.astype(np.float64) for n, x in w.items()}
        s, t = hidden.astype(np.float64), last
        for k in range(4):                       # the codes' roundings add up from state to state
            s = recursive_state(w, s, table[t].astype(np.float64))
            logits = (s @ own.T.astype(np.float64))[:, slice_]
            for i in range(24):
                counts.compare(logits[i], place[token[i, k]], p[i, k], (model, feed, k, i), 0.15)
            t = token[:, k]


def tables(model):
    r = gguf.GGUFReader(model)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(
        [int(n) for n in reversed(t.shape)]) for t in r.tensors if t.name in ("token_embd.weight", "output.weight")}
    return tensors.get("output.weight", tensors["token_embd.weight"]), tensors["token_embd.weight"]


def refusals(model, path):
    own, _ = tables(model)
    vocab, width = own.shape
    good = {"heads.0.weight": np.zeros((width, width), np.float32)}
    square, wide = np.zeros((width, width), np.float32), np.zeros((32, width), np.float32)
    head = {"recursive.state.weight": square, "recursive.token.weight": square, "recursive.gate.weight": wide,
            "recursive.up.weight": wide, "recursive.down.weight": wide.T}
    ids = np.arange(4, dtype=np.int32)
    about = {"format": "stretto-heads", "architecture": "llama", "layers": "7"}
    for bad, words, *metadata in (
            ({"heads.0.weight": np.zeros((8, 8), np.float32)}, "another model"),
            ({**good, "heads.2.weight": good["heads.0.weight"]}, "no heads.1.weight"),
            ({**good, "heads.0.output.weight": np.zeros((7, width), np.float32)}, "another model"),
            ({"lm_head.weight": np.zeros((3, 3), np.float32)}, "lm_head.weight"),
            ({}, "no heads"),
            ({**good, **head}, "both kinds"),
            ({n: x for n, x in head.items() if n != "recursive.up.weight"}, "lacks recursive.up.weight"),
            ({**head, "recursive.down.weight": square}, "channels"),
            ({**head, "recursive.token.weight": np.zeros((8, 8), np.float32)}, "another model"),
            ({**head, "tokens": ids + vocab}, "none of this model"),
            ({**head, "tokens": ids * 0}, "listed twice"),
            ({**head, "tokens": ids.astype(np.float32)}, "I32"),
            (head, "its layers is 7", about)):
        safetensors(path, bad, *metadata)
        r = subprocess.run([stretto, "run", "-m", model, "-p", "ab", "-n", "3", "--decode", "heads",
                            "--heads", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
        assert r.returncode == 1 and words in r.stderr, (bad.keys(), words, r)
    with open(path, "wb") as f:
        f.write(b"\x10" + 40 * b"\xff")
    r = subprocess.run([check, model, path], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert r.returncode == 1 and r.stdout.strip(), r


def main():
    rng, counts = np.random.default_rng(4), Counts()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "heads.safetensors")
        for name in ("llama", "llama-tied", "qwen2", "type-f16"):
            model = os.path.join(golden, name, "model.gguf")
            own, table = tables(model)
            medusa(rng, counts, model, own, path)
            recursive(rng, counts, model, own, table, path)
        assert counts.close < counts.compared / 3, (counts.close, counts.compared)
        refusals(os.path.join(golden, "llama", "model.gguf"), path)
    print(f"{counts.compared} guesses compared, {counts.close} of them near ties")


if __name__ == "__main__":
    main()
