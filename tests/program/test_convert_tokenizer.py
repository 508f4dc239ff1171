#!/usr/bin/env python3
"""A folder and the GGUF file that `stretto convert` makes of it are one tokenizer and stop at the same tokens.

    test_convert_tokenizer.py TOKENIZE_BATCH STRETTO [--folders N] [--seed N] [--only NUMBER] [--keep DIR]

Folders are drawn as for test_tokenizer_folder.py (which holds folders to transformers), with ends of an answer
in config.json and generation_config.json. What GGUF's own keys say is held against the published reader (PyPI
gguf): the named ends are there, and the unnamed ones are not pushed out by those that have a name."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    from gguf import GGUFReader
    from safetensors.numpy import save_file
    import test_tokenizer_folder as folders
except ImportError as e:
    print("skip: the Python package %s is not installed (./dev test installs it)" % e.name)
    sys.exit(77)

# Names that readers of GGUF know as ends; those of them that are drawn here.
KNOWN = ("<|im_end|>", "</s>", "<|endoftext|>", "[PAD]")
ROWS = 700
WIDTH = 8


def weights(path):
    """A llama of one layer: there must be a model for convert to write."""
    rng = np.random.default_rng(1)
    shapes = {"embed_tokens": (ROWS, WIDTH), "norm": (WIDTH,)}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        shapes["layers.0." + name] = (WIDTH, WIDTH)
    for name in ("input_layernorm", "post_attention_layernorm"):
        shapes["layers.0." + name] = (WIDTH,)
    save_file({"model.%s.weight" % k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}, path)


def draw(rng, bases):
    name, files = folders.draw(rng, bases)
    files["config.json"] = dict(folders.model_config("llama"), vocab_size=ROWS, tie_word_embeddings=True,
                                torch_dtype="float32", rms_norm_eps=1e-5)
    ids = [rng.randint(0, 320) for _ in range(rng.randint(1, 6))]
    if rng.random() < .7:
        files["generation_config.json"] = {"eos_token_id": ids if rng.random() < .8 else ids[0]}
    if rng.random() < .3:
        files["config.json"]["eos_token_id"] = ids[:2]
    if rng.random() < .3:
        files["tokenizer.json"]["normalizer"] = rng.choice([
            None, {"type": "NFC"}, files["tokenizer.json"]["normalizer"]])
    return name, files


def answers(batch, model, asked):
    data = b"".join(b"%d %d\n" % (f, len(s.encode())) + s.encode() for f, s in asked)
    p = subprocess.run([batch, model, "--about"], input=data, stdout=subprocess.PIPE)
    lines = p.stdout.decode().split("\n")[:-1]
    return lines if not p.returncode else ["error"] + lines


def ordinary(path, about):
    """What other readers see of the ends: the first by its key, two more by keys, others by name."""
    r = GGUFReader(path)
    bos, eos, *ends = [int(x) for x in about.split()]

    def number(key):
        f = r.fields.get("tokenizer.ggml." + key)
        return None if f is None else int(f.parts[f.data[0]][0])
    keyed = {number(k) for k in ("eos_token_id", "eot_token_id", "eom_token_id")} - {None}
    f = r.fields["tokenizer.ggml.tokens"]
    spelled = {i: bytes(f.parts[f.data[i]]).decode() for i in ends}
    left = [i for i in ends if i not in keyed and spelled[i].strip("▁") not in KNOWN]
    if left and len(keyed) < 3:
        return "the ends %s have no key though %d are free (%s)" % (left, 3 - len(keyed), spelled)
    return None


def compare(name, args, folder, rng):
    out = os.path.join(folder, "out.gguf")
    p = subprocess.run([args.stretto, "convert", "-q", "--type", "f32", folder, out], stderr=subprocess.PIPE)
    if p.returncode:
        why = p.stderr.decode().strip()
        return ("skip" if "GGUF has no words for" in why else "FAIL"), why
    asked = folders.texts(rng, folders.NEW)
    want, got = answers(args.batch, folder, asked), answers(args.batch, out, asked)
    if args.keep:
        os.makedirs(args.keep, exist_ok=True)
        os.link(out, os.path.join(args.keep, "%d.gguf" % rng.randint(0, 1 << 30)))
    if want[0] != "ok" or got[0] != "ok":
        return "FAIL", "%s; %s" % (want[-1], got[-1])
    if want[1] != got[1]:
        return "FAIL", "bos, eos and ends are %s in the folder, %s in the file" % (want[1], got[1])
    for (flags, s), a, b in zip(asked, want[2:], got[2:]):
        if a != b:
            return "FAIL", "%r with flags %d: %s in the folder, %s in the file" % (s, flags, a, b)
    why = ordinary(out, want[1])
    return ("FAIL", why) if why else ("ok", "")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("batch")
    p.add_argument("stretto")
    p.add_argument("--folders", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", type=int)
    p.add_argument("--keep", help="links the files here, for llama.cpp to be tried on")
    args = p.parse_args()
    bases = {name: make().to_str() for name, (make, _, _) in folders.BASES.items()}
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    for i in range(args.folders) if args.only is None else [args.only]:
        rng = random.Random("%d %d" % (args.seed, i))
        name, files = draw(rng, bases)
        with tempfile.TemporaryDirectory() as folder:
            for f, d in files.items():
                with open(os.path.join(folder, f), "w") as out:
                    json.dump(d, out)
            weights(os.path.join(folder, "model.safetensors"))
            verdict, why = compare(name, args, folder, rng)
        count[verdict] += 1
        if verdict == "FAIL" or args.only is not None:
            print("%-4s folder %d, %s: %s" % (verdict, i, name, why))
    print("%d folders equal their files, %d differ, %d are refused" % (count["ok"], count["FAIL"], count["skip"]))
    sys.exit(1 if count["FAIL"] or count["ok"] <= count["skip"] else 0)


if __name__ == "__main__":
    main()
