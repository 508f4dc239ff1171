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


def safetensors(path, tensors):
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
    head, at, data = {}, 0, b""
    for name, x in tensors.items():
        raw = np.ascontiguousarray(x).tobytes()
        head[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data += raw
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def guesses(model, path, hidden):
    r = subprocess.run([check, model, path], input=hidden.astype(np.float32).tobytes(), stdout=subprocess.PIPE,
                       check=True)
    rows = [line.split() for line in r.stdout.decode().splitlines()]
    return (np.array([[int(x) for x in row[0::2]] for row in rows]),
            np.array([[float(x) for x in row[1::2]] for row in rows]))


def expected(hidden, w, bias, out):
    y = hidden @ w.T.astype(np.float64) + bias
    logits = (hidden + y / (1 + np.exp(-y))) @ out.T.astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    return logits, p / p.sum(1, keepdims=True)


def main():
    rng = np.random.default_rng(4)
    compared = close = 0
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "heads.safetensors")
        for name in ("llama", "llama-tied", "qwen2", "type-f16"):
            model = os.path.join(golden, name, "model.gguf")
            r = gguf.GGUFReader(model)
            tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(
                [int(n) for n in reversed(t.shape)]) for t in r.tensors
                if t.name in ("token_embd.weight", "output.weight")}
            own = tensors.get("output.weight", tensors["token_embd.weight"])
            vocab, width = own.shape
            for n, outputs, half, biased in ((1, False, False, True), (4, False, False, False), (3, True, False, True),
                                             (5, False, True, True)):
                kind = np.float16 if half else np.float32
                heads, ws, bs, outs = {}, [], [], []
                for k in range(n):
                    ws.append((rng.standard_normal((width, width)) * 0.2).astype(kind))
                    bs.append((rng.standard_normal(width) * 0.2).astype(kind) if biased else np.zeros(width))
                    heads[f"heads.{k}.weight"] = ws[k]
                    if biased:
                        heads[f"heads.{k}.bias"] = bs[k]
                    outs.append(rng.standard_normal((vocab, width)).astype(np.float32) if outputs else own)
                    if outputs:
                        heads[f"heads.{k}.output.weight"] = outs[k]
                safetensors(path, dict(sorted(heads.items(), key=lambda x: x[0][::-1])))
                hidden = rng.standard_normal((24, width)).astype(np.float32)
                token, p = guesses(model, path, hidden)
                assert token.shape == (24, n), token.shape
                for k in range(n):
                    logits, want = expected(hidden.astype(np.float64), ws[k], bs[k].astype(np.float64), outs[k])
                    best = np.sort(logits, 1)
                    for i in range(24):
                        compared += 1
                        # A near tie may go either way: the output layer may be stored in fewer bits.
                        if best[i, -1] - best[i, -2] < 0.05:
                            close += 1
                            continue
                        assert token[i, k] == logits[i].argmax(), (name, n, k, i)
                        assert abs(p[i, k] - want[i].max()) < 0.02, (p[i, k], want[i].max())
        assert close < compared / 4, (close, compared)
        model = os.path.join(golden, "llama", "model.gguf")
        width = next(int(t.shape[0]) for t in gguf.GGUFReader(model).tensors if t.name == "token_embd.weight")
        good = {"heads.0.weight": np.zeros((width, width), np.float32)}
        for bad, words in (({"heads.0.weight": np.zeros((8, 8), np.float32)}, "another model"),
                           ({**good, "heads.2.weight": good["heads.0.weight"]}, "no heads.1.weight"),
                           ({**good, "heads.0.output.weight": np.zeros((7, width), np.float32)}, "another model"),
                           ({"lm_head.weight": np.zeros((3, 3), np.float32)}, "lm_head.weight"),
                           ({}, "no heads")):
            safetensors(path, bad)
            r = subprocess.run([stretto, "run", "-m", model, "-p", "ab", "-n", "3", "--decode", "heads",
                                "--heads", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
            assert r.returncode == 1 and words in r.stderr, (bad.keys(), r)
        with open(path, "wb") as f:
            f.write(b"\x10" + 40 * b"\xff")
        r = subprocess.run([check, model, path], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert r.returncode == 1 and r.stdout.strip(), r
    print(f"{compared} guesses compared, {close} of them near ties")


if __name__ == "__main__":
    main()
