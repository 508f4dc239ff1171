#!/usr/bin/env python3
"""`stretto squeeze -o FOLDER/`: folders of every family come back with numpy's rounding of their weights, in their own
names and order; sizes that are others are told; what a folder cannot say is refused by name.

    test_squeeze_folder.py STRETTO SOURCE_DIR"""
import filecmp
import glob
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

stretto, root = sys.argv[1:3]
sys.path.insert(0, os.path.join(root, "tests", "property"))
import folders  # noqa: E402

SEEDS = range(8)
IGNORED = ("inv_freq", "masked_bias", "attn.bias", "position_ids")


def squeeze(*args):
    return subprocess.run([stretto, "squeeze", "-q", "-t", "1", *args], capture_output=True, text=True, timeout=120)


def read(folder):
    """name -> (type, float32, bytes)"""
    out = {}
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        data = open(path, "rb").read()
        n = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + n])
        header.pop("__metadata__", None)
        for name, t in header.items():
            raw = data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
            if t["dtype"] == "BF16":
                x = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                x = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8"}[t["dtype"]])
            out[name] = t["dtype"], x.astype(np.float32).reshape(t["shape"]), raw
    return out


def check_weights(old, new, dtype, config):
    tied = config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", True))
    for name, (kind, x, raw) in old.items():
        if name not in new:
            assert any(w in name for w in IGNORED + ("pooler", "cls.")) or tied and "lm_head" in name, name
            continue
        if "vision" in name or "multi_modal" in name or new[name][0] != dtype:
            assert new[name][2] == raw and new[name][0] == kind, name
            continue
        assert new[name][1].shape == x.shape, name
        if "norm" in name and "gemma" in str(config):     # stored with one added in between
            assert np.allclose(new[name][1], x, atol=1e-3 if dtype == "F16" else 8e-3), name
        else:
            assert new[name][2] == folders.rounded(x, dtype), name
    assert not set(new) - set(old), set(new) - set(old)


def check_files(old, new, dtype):
    a, b = (json.load(open(os.path.join(f, "config.json"))) for f in (old, new))
    for c in (a, b):
        for d in (c, c.get("text_config", {})):
            for key in ("dtype", "torch_dtype"): d.pop(key, None)
    assert a == b, (a, b)
    for name in os.listdir(old):
        path = os.path.join(old, name)
        if name == "config.json" or "safetensors" in name or not os.path.isfile(path): continue
        assert filecmp.cmp(path, os.path.join(new, name), shallow=False), name


def check_families(tmp):
    written = {}
    families = sorted(set(folders.FAMILIES))
    for family in families:
        for seed in SEEDS:
            f = folders.make(f"{family}:{seed}")
            source, out = (os.path.join(tmp, f"{family}{seed}{x}") for x in ("", ".out"))
            folders.store(f, source)
            for name in glob.glob(os.path.join(source, "tokenizer*.json")):     # GGUF cannot say them all
                os.remove(name)
            dtype = ("F16", "BF16")[seed % 2]
            r = squeeze("-m", source, "--type", dtype.lower(), "--method", "plain", "--no-proof", "--requantize", "-o",
                        out + "/")
            if r.returncode:
                assert not os.path.exists(out) and not os.path.exists(out + ".part"), r.stderr
                continue
            check_weights(read(source), read(out), dtype, json.load(open(os.path.join(source, "config.json"))))
            check_files(source, out, dtype)
            written[family] = written.get(family, 0) + 1
    assert set(written) == set(families) and sum(written.values()) > 5 * len(families), written


def logits(model, tmp):
    out = os.path.join(tmp, "logits")
    subprocess.run([stretto, "eval", "logits", "-m", model, "--reference", "-t", "1", "--ids", "1,9,8,7,30,5,44,9",
                    "--raw", out, "--force"], check=True, capture_output=True, timeout=120)
    return np.fromfile(out, np.float32)


def check_changes(tmp, seed):
    """Layers that are gone and weights that are zero: the folder answers as the GGUF file of the same command."""
    f = folders.make(seed)
    source = os.path.join(tmp, "of-" + seed.replace(":", ""))
    folders.store(f, source)
    for name, *how in (("layers", "--prune", "layers=1"), ("zeros", "--sparsity", "50%", "--mask", "magnitude")):
        file, out = (os.path.join(tmp, seed.replace(":", "") + name + x) for x in (".gguf", ""))
        args = ("-m", source, "--type", "f32", *how, "--tokens", "2000", "--windows", "1")
        r = squeeze(*args, "--no-proof", "-o", file)
        assert r.returncode == 0, r.stderr
        r = squeeze(*args, "--task", "none", "-o", out + "/")
        assert r.returncode == 0, r.stderr
        assert np.allclose(logits(file, tmp), logits(out, tmp), rtol=1e-4, atol=1e-4), name
        config = json.load(open(os.path.join(out, "config.json")))
        assert config["num_hidden_layers"] == f.config["num_hidden_layers"] - (name == "layers")
        assert json.load(open(os.path.join(out, "stretto_squeeze.json")))["all"]["kl"] > 0
        old, new = read(source), read(out)
        if name == "zeros":
            up = next(n for n in new if "up_proj" in n)
            x, y = old[up][1], new[up][1]
            assert 0.4 < (y == 0).mean() < 0.6 and np.all((y == 0) | (y == x))
    r = squeeze(*args, "-o", out + "/")
    assert r.returncode == 2 and "not empty" in r.stderr, r.stderr


def check_refusals(tmp):
    f = folders.make("qwen2:1")
    source, out = os.path.join(tmp, "refused"), os.path.join(tmp, "no/")
    folders.store(f, source)
    file = os.path.join(tmp, "refused.gguf")
    assert squeeze("-m", source, "--type", "f16", "--method", "plain", "--no-proof", "-o", file).returncode == 0
    for words, *args in (("add --type bf16", "-m", source), ("add --type bf16", "-m", source, "--type", "q4_0"),
                         ("add --type bf16", "-m", source, "--bpw", "5"), ("is none", "-m", file, "--type", "f16"),
                         ("--pack writes files", "-m", source, "--type", "f16", "--pack")):
        r = squeeze(*args, "-o", out)
        assert r.returncode == 2 and words in r.stderr, (args, r.stderr)
    assert not [n for n in os.listdir(tmp) if n.startswith("no")]


def main():
    with tempfile.TemporaryDirectory() as tmp:
        check_refusals(tmp)
        check_changes(tmp, "qwen2:1")
        check_changes(tmp, "llama:12")
        check_families(tmp)
    print("folders come back with their weights rounded")


main()
