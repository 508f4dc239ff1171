#!/usr/bin/env python3
"""stretto embed: how the vectors of tokens become one, as sentence-transformers' files and GGUF say.

    test_embed.py STRETTO GOLDEN_FOLDER MODELS_FOLDER DATA_FOLDER

The truth is a float64 forward of tools/oracle over the ids that PyPI `tokenizers` gives, pooled with numpy.
Numbers are held to 8 times what float32 makes of them in three orders of adding."""
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
try:
    import gguf
    import numpy as np
    import tokenizers
    from safetensors.numpy import load_file
    from oracle.forward import Arith, forward
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

stretto, golden, models, data = sys.argv[1:5]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)

LINES = ["The quick brown fox", "a", "b a c a b", "zebra, 12 and some more words of a line"]
FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def embed(model, *args, lines=LINES, status=0):
    text = lines if isinstance(lines, bytes) else "".join(line + "\n" for line in lines).encode()
    r = subprocess.run([stretto, "embed", "-m", model, "--reference", *args], input=text, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    err = r.stderr.decode()
    assert r.returncode == status, (model, args, r.returncode, err)
    return r.stdout.decode(), err


def vectors(model, *args, **kw):
    return [np.array(x["embedding"]) for x in json.loads(embed(model, "--json", *args, **kw)[0])["data"]]


class Truth:
    """Hidden states of every line, in float64 and in float32 in three orders."""

    def __init__(self, folder, lines=LINES, most=None):
        self.cfg = json.load(open(os.path.join(folder, "config.json")))
        self.w = {n.removeprefix("bert."): x for part in glob.glob(os.path.join(folder, "*.safetensors"))
                  for n, x in load_file(part).items()}
        tok = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        tok.no_truncation()
        if most:
            tok.enable_truncation(most)
        tok.no_padding()
        self.ids = [tok.encode(line).ids for line in lines]
        orders = [None] + [Arith(np.float32, o) for o in ("plain", "reversed", "chunks")]
        self.hidden = [[forward(self.cfg, self.w, ids, a) for a in orders] for ids in self.ids]

    def check(self, got, kind, scaled=True):
        pool = {"cls": lambda h: h[0], "last": lambda h: h[-1], "mean": lambda h: h.mean(axis=0),
                "none": lambda h: h}[kind]
        unit = (lambda v: v / np.sqrt((v * v).sum())) if scaled else (lambda v: v)
        assert len(got) == len(self.hidden), len(got)
        for g, h in zip(got, self.hidden):
            want, *rough = [unit(pool(np.asarray(x, np.float64))) for x in h]
            allowed = 8 * max(np.abs(r - want).max() for r in rough) + np.finfo(np.float32).eps * np.abs(want).max()
            assert g.shape == want.shape and np.abs(g - want).max() <= allowed, (kind, np.abs(g - want).max(), allowed)


def write(folder, name, value):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f)


def folder_with(tmp, name, **files):
    """The tiny encoder with files of sentence-transformers beside it; names with __ for / and . for json."""
    out = os.path.join(tmp, name)
    shutil.copytree(os.path.join(golden, "bert", "hf"), out)
    for n, value in files.items():
        write(out, n.replace("__", "/") + ".json", value)
    return out


def flags(*on):
    return {"word_embedding_dimension": 64, **{f"pooling_mode_{f}": f in on for f in FLAGS}}


def modules(*names):
    return [{"idx": i, "name": str(i), "path": f"{i}_{n}" if i else "",
             "type": f"sentence_transformers.models.{n}"} for i, n in enumerate(names)]


def check_kinds(tmp, truth):
    plain = os.path.join(golden, "bert", "hf")
    truth.check(vectors(plain), "mean")
    for kind in "mean", "cls", "last":
        truth.check(vectors(plain, "--pooling", kind), kind)
        truth.check(vectors(plain, "--pooling", kind, "--no-normalize"), kind, False)
    truth.check(vectors(plain, "--pooling", "none"), "none", False)
    assert len({tuple(vectors(plain, "--pooling", k)[0]) for k in ("mean", "cls", "last")}) == 3
    for kind, flag in ("cls", "cls_token"), ("mean", "mean_tokens"), ("last", "lasttoken"):
        f = folder_with(tmp, kind, **{"1_Pooling__config": flags(flag)})
        truth.check(vectors(f), kind)
        truth.check(vectors(f, "--pooling", "mean"), "mean")
    # Flags that are not written keep the class's defaults: the average alone.
    truth.check(vectors(folder_with(tmp, "default", **{"1_Pooling__config": {"word_embedding_dimension": 64}})), "mean")
    for i, word in enumerate(("cls", ["cls"])):
        truth.check(vectors(folder_with(tmp, f"word{i}", **{"1_Pooling__config": {"pooling_mode": word}})), "cls")
    # Modules: scaled when they say so; the pooling is where they say.
    f = folder_with(tmp, "raw", modules=modules("Transformer", "Pooling"), **{"1_Pooling__config": flags("cls_token")})
    truth.check(vectors(f), "cls", False)
    f = folder_with(tmp, "far", modules=modules("Transformer", "Dropout", "Pooling", "Normalize"),
                    **{"1_Pooling__config": flags("mean_tokens"), "2_Pooling__config": flags("lasttoken")})
    truth.check(vectors(f), "last")


def check_refusals(tmp, truth):
    st = "config_sentence_transformers"
    cases = {
        "max": ({"1_Pooling__config": flags("max_tokens")}, "max"),
        "weighted": ({"1_Pooling__config": flags("weightedmean_tokens")}, "weightedmean"),
        "sqrt": ({"1_Pooling__config": flags("mean_sqrt_len_tokens")}, "mean_sqrt_len_tokens"),
        "two": ({"1_Pooling__config": flags("mean_tokens", "cls_token")}, "mean + cls"),
        "silent": ({"1_Pooling__config": {"pooling_mode_cls_token": True}}, "mean + cls"),
        "no": ({"1_Pooling__config": flags()}, "none"),
        "new": ({"1_Pooling__config": {**flags("cls_token"), "pooling_mode_median_tokens": True}}, "median"),
        "word": ({"1_Pooling__config": {"pooling_mode": "median"}}, "median"),
        "prompt": ({"1_Pooling__config": {**flags("mean_tokens"), "include_prompt": False}}, "include_prompt"),
        "dense": ({"modules": modules("Transformer", "Pooling", "Dense"),
                   "1_Pooling__config": flags("mean_tokens")}, "Dense"),
        "nowhere": ({"modules": modules("Transformer")}, "no pooling"),
        "asked": ({st: {"prompts": {"q": "query: ", "d": ""}, "default_prompt_name": "q"}}, "query: "),
        "lower": ({"sentence_bert_config": {"do_lower_case": True}}, "do_lower_case"),
    }
    outside = modules("Transformer", "Pooling")
    outside[1]["path"] = "../cls/1_Pooling"
    cases["away"] = ({"modules": outside}, "no folder of the model")
    for name, (files, words) in cases.items():
        f = folder_with(tmp, "no-" + name, **files)
        out, err = embed(f, status=1)
        assert words in err and "not supported" in err and "--pooling" in err and not out, (name, err)
        truth.check(vectors(f, "--pooling", "mean"), "mean", name not in ("dense", "nowhere", "away"))
        r = subprocess.run([stretto, "convert", f, os.path.join(tmp, "no.gguf")], stderr=subprocess.PIPE)
        assert r.returncode == 1 and words in r.stderr.decode() and not os.path.exists(os.path.join(tmp, "no.gguf")), r
    for name, files in (("empty", {st: {"prompts": {"q": "query: ", "d": ""}, "default_prompt_name": "d"}}),
                        ("null", {st: {"prompts": {}, "default_prompt_name": None}}),
                        ("told", {"sentence_bert_config": {"do_lower_case": True},
                                  "tokenizer_config": {"do_lower_case": True}})):
        truth.check(vectors(folder_with(tmp, "yes-" + name, **files)), "mean")
    out, err = embed(folder_with(tmp, "broken", **{"1_Pooling__config": []}), status=1)
    assert "1_Pooling/config.json" in err, err


def check_gguf(tmp, truth):
    for kind, number, scaled in ("cls", 2, True), ("last", 3, False), ("mean", 1, True):
        files = {"1_Pooling__config": flags({"cls": "cls_token", "last": "lasttoken", "mean": "mean_tokens"}[kind])}
        if not scaled:
            files["modules"] = modules("Transformer", "Pooling")
        f, out = folder_with(tmp, "gguf-" + kind, **files), os.path.join(tmp, kind + ".gguf")
        subprocess.run([stretto, "convert", f, out, "--type", "f32"], check=True, stderr=subprocess.DEVNULL)
        field = gguf.GGUFReader(out).fields["bert.pooling_type"]
        assert int(field.parts[field.data[0]][0]) == number, (kind, field)
        truth.check(vectors(out), kind, scaled)
    # Numbers of GGUF that no folder has: none, a reranker, and one from the future.
    whole = open(os.path.join(tmp, "cls.gguf"), "rb").read()
    at = whole.index(b"bert.pooling_type") + len("bert.pooling_type") + 4
    for number, words in (0, ""), (4, "rank"), (9, "is 9"):
        other = os.path.join(tmp, f"type{number}.gguf")
        with open(other, "wb") as f:
            f.write(whole[:at] + struct.pack("<I", number) + whole[at + 4:])
        if words:
            _, err = embed(other, status=1)
            assert words in err and "bert.pooling_type" in err and "--pooling" in err, err
            truth.check(vectors(other, "--pooling", "last"), "last")
        else:
            truth.check(vectors(other), "none", False)
            lines = embed(other)[0].split("\n")
            assert [len(x) for x in "\n".join(lines).split("\n\n")][-1] == 0
            assert sum(bool(x) for x in lines) == sum(map(len, truth.ids)) and lines.count("") == len(LINES) + 1


def check_long():
    f = os.path.join(golden, "bert", "hf")
    lines = [LINES[0], "a " * 400, LINES[1]]
    for args in (), ("--pooling", "none"):
        out, err = embed(f, *args, lines=lines, status=1)
        assert "line 2:" in err and "402 tokens" in err and "256" in err, err
    out, err = embed(f, lines=lines, status=1)
    assert [len(x.split()) for x in out.split("\n")] == [64, 0, 64, 0], out
    j = json.loads(embed(f, "--json", lines=lines, status=1)[0])["data"]
    assert j[1]["line"] == 2 and "402" in j[1]["error"], j[1]
    alone = json.loads(embed(f, "--json", lines=[LINES[0], LINES[1]])[0])["data"]
    assert [j[0], j[2]] == alone
    # Cut: what the library `tokenizers` makes of a limit, the closing token included.
    cut = Truth(f, lines, 256)
    assert len(cut.ids[1]) == 256 and cut.ids[1][-1] == 3
    for kind in "mean", "last":
        cut.check(vectors(f, "--truncate", "--pooling", kind, lines=lines), kind)
    assert "line 2: cut from 402 tokens to 256" in embed(f, "--truncate", lines=lines)[1]


def check_causal():
    """A decoder's last hidden state times its head are its logits."""
    f = os.path.join(golden, "llama", "hf")
    truth = Truth(f, ["ab " * 20, "b"])
    head = truth.w["lm_head.weight"].astype(np.float64)
    for got, h in zip(vectors(f, "--pooling", "last", "--no-normalize", lines=["ab " * 20, "b"]), truth.hidden):
        allowed = 8 * max(np.abs(x - h[0]).max() for x in h[1:])
        assert np.abs(head @ got - h[0][-1]).max() <= allowed, (np.abs(head @ got - h[0][-1]).max(), allowed)
    _, err = embed(f, lines=["ab", "", "ab"], status=1)
    assert "line 2: it is empty" in err, err


def check_minilm(tmp):
    found = glob.glob(os.path.join(models, "all-MiniLM-L6-v2", "**", "model.safetensors"), recursive=True)
    fault = os.path.join(data, "faults", "pooling_cls", "1_Pooling_config.json")
    if not found or not os.path.exists(fault):
        print(f"the tiny encoder only: all-MiniLM-L6-v2 is not in {models}, or {fault} is missing")
        return
    folder = os.path.join(tmp, "minilm")
    shutil.copytree(os.path.dirname(found[0]), folder, symlinks=True)
    shutil.copy(fault, os.path.join(folder, "1_Pooling", "config.json"))
    lines = open(os.path.join(data, "faults", "embed-one-long-line.txt"), "rb").read()
    short = [x for x in lines.decode().splitlines() if len(x) < 1000]
    truth = Truth(folder, short)
    truth.check(vectors(folder, lines=short), "cls")
    out, err = embed(folder, lines=lines, status=1)
    assert "line 2:" in err, err
    got = [np.array([float(n) for n in x.split()]) for x in out.splitlines()]
    truth.check([g for g in got if g.size], "cls")
    assert [g.size for g in got] == [384, 0, 384]


def main():
    truth = Truth(os.path.join(golden, "bert", "hf"))
    with tempfile.TemporaryDirectory() as tmp:
        check_kinds(tmp, truth)
        check_refusals(tmp, truth)
        check_gguf(tmp, truth)
        check_long()
        check_causal()
        check_minilm(tmp)
    print("embeddings as the files say")


if __name__ == "__main__":
    main()
