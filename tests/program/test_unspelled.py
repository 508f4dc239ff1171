#!/usr/bin/env python3
"""What a model leaves open is said aloud: a GGUF file without a pre-tokenizer, bytes that no token spells, a chat
template that cannot be used, a side that is left out.

    test_unspelled.py STRETTO LOG_CHECK

The files are made here with the published writer (PyPI gguf)."""
import json
import os
import subprocess
import sys
import tempfile

try:
    from gguf import GGUFWriter
except ImportError:
    print("skip: the Python package gguf is not installed (./dev test installs it)")
    sys.exit(77)


def letters():
    """The byte alphabet of GPT-2, by byte."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def byte_bpe(path, pre, without=(), template=None):
    w = GGUFWriter(path, "gpt2")
    tokens = [c for b, c in letters().items() if b not in without] + ["ab"]
    w.add_tokenizer_model("gpt2")
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_merges(["a b"])
    if template:
        w.add_chat_template(template)
    finish(w)


def characters(folder):
    """tokenizer.json over characters, without a token for what is unknown."""
    os.mkdir(folder)
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump({"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None,
                   "decoder": {"type": "Fuse"}, "model": model}, f)


def seeing_folder(folder):
    """A model that also sees: its tokenizer, its configuration and two tensors of its image side."""
    characters(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "vocab_size": 3},
                   "vision_config": {"hidden_size": 4}}, f)
    names = "model.vision_tower.vision_model.post_layernorm.weight", "multi_modal_projector.mm_soft_emb_norm.weight"
    header = json.dumps({n: {"dtype": "F32", "shape": [4], "data_offsets": [16 * i, 16 * i + 16]}
                         for i, n in enumerate(names)}).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header + bytes(32))


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def run(command, text=b""):
    p = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def main():
    stretto, log_check = sys.argv[1:3]
    bad = 0

    def check(what, good, *more):
        nonlocal bad
        if not good:
            print("FAIL %s: %s" % (what, more))
            bad += 1
    with tempfile.TemporaryDirectory() as tmp:
        named, nameless, holes = (os.path.join(tmp, x + ".gguf") for x in ("named", "nameless", "holes"))
        folder = os.path.join(tmp, "characters")
        byte_bpe(named, "gpt-2")
        byte_bpe(nameless, None)
        byte_bpe(holes, "gpt-2", (0xE4, 0x07))
        characters(folder)
        tokenize = [stretto, "tokenize", "--json", "-m"]
        broken, seeing = os.path.join(tmp, "broken.gguf"), os.path.join(tmp, "seeing")
        byte_bpe(broken, "gpt-2", template="{% for m in messages %}{{ m.content }}")
        byte_bpe(os.path.join(tmp, "fine.gguf"), "gpt-2", template="{% for m in messages %}{{ m.content }}{% endfor %}")
        seeing_folder(seeing)
        for path, words in ((broken, "conversations with this model will be refused: chat template"),
                            (seeing, "the 2 tensors of its image side are left out"),
                            (os.path.join(tmp, "fine.gguf"), "")):
            code, out, err = run([log_check, path])
            check("what is said of it", code == 0 and words in out and bool(words) == bool(out) and not err, path,
                  code, out, err)
        for path, warns in ((named, False), (nameless, True)):
            code, out, err = run(tokenize + [path], b"abc")
            check("tokenize", code == 0 and ("tokenizer.ggml.pre" in err) == warns and out, path, code, out, err)
            code, out, err = run([log_check, path])
            said = out.startswith("log: ") and "tokenizer.ggml.pre" in out
            check("the library's log", code == 0 and said == warns and not err, path, code, out, err)
        code, out, err = run(tokenize + [holes], b"abc")
        check("other bytes", code == 0 and out and not err, code, out, err)
        for text, byte in (("ä中".encode(), "0xE4"), (b"ab\x07", "0x07"), (b"a\xe4", "0xE4")):
            code, out, err = run(tokenize + [holes], text)
            check("a byte without token", code == 1 and not out and byte in err, text, code, out, err)
        code, out, err = run(tokenize + [folder], b"abab")
        check("known pieces", code == 0 and out, code, out, err)
        code, out, err = run(tokenize + [folder], b"abc")
        check("an unknown piece", code == 1 and not out and "0x63" in err, code, out, err)
    print("%d wrong" % bad if bad else "all said")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
