"""Models of a smaller shape: test_shrink.py STRETTO SHRINK_TOOL

What is written is checked against the original's numbers: rows that stay are the original's, and a model of the
original's shape with zeros where something went answers the same. What is solved beats what is cut by the size of
weights. Shapes that cannot change are refused by name."""
import json
import os
import re
import subprocess
import sys
import tempfile
import gguf
import numpy as np

stretto, tool = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
folder = tempfile.mkdtemp()
text = os.path.join(folder, "text.txt")
with open(text, "w") as f:
    rng = np.random.default_rng(3)
    f.write(" ".join("".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(700)))


def make(family, *more):
    path = os.path.join(folder, f"{family}{''.join(more)}.gguf")
    subprocess.run([sys.executable, os.path.join(here, "make_model.py"), path, family, *more], check=True)
    return path


def shrink(model, out, *how):
    done = subprocess.run([tool, model, os.path.join(folder, out), "tokens=2048", *how], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr, os.path.join(folder, out)


def tensors(path):
    r = gguf.GGUFReader(path)
    return {t.name: np.array(t.data) for t in r.tensors}, {k: f.contents() for k, f in r.fields.items()}


def kl(base, model):
    out = subprocess.run([stretto, "eval", "kl", "--base", base, "-m", model, "--reference", "-f", text,
                          "-c", "128", "--chunks", "4", "--json"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)["mean_kl"]


def rows_of(whole, part):
    """Where the rows of `part` stand in `whole`, ascending."""
    at = []
    for row in part:
        found = np.flatnonzero((whole == row).all(axis=1))
        assert len(found) == 1, "a row is not the original's"
        at.append(found[0])
    assert at == sorted(at)
    return np.array(at)


def widened(original, small, path, fault=False):
    """The original's shape with the small one's ffn_down and attn_output, zeros where inputs went."""
    big, keys = tensors(original)
    part, _ = tensors(small)
    for l in range(keys["llama.block_count"]):
        keep = rows_of(big[f"blk.{l}.ffn_gate.weight"], part[f"blk.{l}.ffn_gate.weight"])
        heads = rows_of(big[f"blk.{l}.attn_q.weight"], part[f"blk.{l}.attn_q.weight"])
        for name, at in (("ffn_down", keep), ("attn_output", heads)):
            w = np.zeros_like(big[f"blk.{l}.{name}.weight"])
            w[:, at[::-1] if fault and l == 1 else at] = part[f"blk.{l}.{name}.weight"]
            big[f"blk.{l}.{name}.weight"] = w
    data = bytearray(open(original, "rb").read())
    for t in gguf.GGUFReader(original).tensors:
        data[t.data_offset:t.data_offset + t.n_bytes] = big[t.name].astype(np.float32).tobytes()
    with open(path, "wb") as f:
        f.write(data)
    return path


def check_llama():
    model = make("llama")
    rc, out, err, small = shrink(model, "small.gguf", "share=0.2")
    assert rc == 0, err
    before, after = [int(x) for x in out.splitlines()[-1].split()[1:3]]
    big, _ = tensors(model)
    part, keys = tensors(small)
    assert before == sum(t.size for t in big.values()) and after == sum(t.size for t in part.values())
    assert 0.72 * before < after <= 0.8 * before, (before, after)
    assert keys["general.architecture"] == "deci" and "llama.block_count" not in keys
    feed = keys["deci.feed_forward_length"]
    assert len(feed) == keys["deci.block_count"] and len(set(feed)) > 1 and all(f % 64 == 0 for f in feed)
    for l, f in enumerate(feed):
        assert part[f"blk.{l}.ffn_down.weight"].shape == (96, f) and part[f"blk.{l}.ffn_up.weight"].shape == (f, 96)
    wide = os.path.join(folder, "wide.gguf")
    assert kl(widened(model, small, wide), small) < 1e-6
    assert kl(widened(model, small, wide, fault=True), small) > 1e-3, "a fault was not noticed"
    rc, _, err, naive = shrink(model, "naive.gguf", f"like={small}", "plain=1")
    assert rc == 0, err
    assert {n: t.shape for n, t in tensors(naive)[0].items()} == {n: t.shape for n, t in part.items()}
    solved, cut = kl(model, small), kl(model, naive)
    assert solved < 0.7 * cut, (solved, cut)
    print(f"20 % of the parameters off: KL {solved:.4f}, by the size of weights {cut:.4f}")


def check_alike():
    model = make("qwen2")
    rc, out, err, small = shrink(model, "alike.gguf", "feed=0.2", "heads=0.34", "layers=1")
    assert rc == 0, err
    part, keys = tensors(small)
    assert keys["qwen2.block_count"] == 3 and keys["qwen2.feed_forward_length"] == 256
    assert keys["qwen2.attention.head_count_kv"] == 2 and keys["qwen2.attention.head_count"] == 4
    assert keys["qwen2.attention.key_length"] == 16
    assert part["blk.2.attn_q.bias"].shape == (64,) and "blk.3.attn_q.weight" not in part
    gone = [line.split()[1] for line in out.splitlines() if line.startswith("layer") and line.split()[2] == "0"]
    assert len(gone) == 1 and gone[0] in ("1", "2")
    big, _ = tensors(model)
    was = [l for l in range(4) if str(l) != gone[0]]
    for l in range(3):
        rows_of(big[f"blk.{was[l]}.attn_k.weight"], part[f"blk.{l}.attn_k.weight"])
    assert kl(model, small) < 20


def check_refused():
    rc, _, err, path = shrink(make("llama"), "none.gguf", "share=0.95")
    assert rc == 1 and "cannot go" in err and not os.path.exists(path), err
    rc, _, err, _ = shrink(make("gemma2"), "none.gguf", "layers=1")
    assert rc == 1 and "gemma2" in err, err


def squeeze(model, out, *how):
    done = subprocess.run([stretto, "squeeze", "-m", model, "-o", os.path.join(folder, out), "--type", "f16", "-q",
                           "--no-proof", "--tokens", "1024", *how], capture_output=True, text=True)
    return done.returncode, done.stderr, os.path.join(folder, out)


def check_command():
    model = make("qwen2")
    rc, err, out = squeeze(model, "half.gguf", "--prune", "ff=20%", "--sparsity", "50%", "--low-rank", "8")
    assert rc == 2 and "low-rank" in err, err
    rc, err, out = squeeze(model, "half.gguf", "--prune", "ff=20%", "--pattern", "2:4")
    assert rc == 0, err
    part, keys = tensors(out)
    assert keys["qwen2.feed_forward_length"] == 256
    zeros = part["blk.1.ffn_up.weight"].reshape(-1, 4) == 0
    assert (zeros.sum(axis=1) == 2).all()
    assert not [f for f in os.listdir(folder) if f.startswith("half.gguf.")], os.listdir(folder)
    for wrong in (["--shrink", "120%"], ["--prune", "ff"], ["--pattern", "4:2"], ["--mask", "wanda"],
                  ["--sparsity", "1"], ["--low-rank", "0"], ["--shrink", "10%", "--prune", "layers=1"]):
        rc, err, out = squeeze(model, "wrong.gguf", *wrong)
        assert rc == 2 and "Try 'stretto squeeze --help'" in err and not os.path.exists(out), (wrong, rc, err)
    rc, err, out = squeeze(model, "wrong.gguf", "--shrink", "90%")
    assert rc == 1 and "cannot go" in err and not os.path.exists(out), err


def check_adapter():
    """B A is what the paper says of the error, and what llama.cpp adds: alpha / rank times the product."""
    model = make("llama")
    rc, err, out = squeeze(model, "thin.gguf", "--sparsity", "60%", "--mask", "magnitude", "--low-rank", "32")
    assert rc == 0, err
    os.remove(out)
    rc, err, _ = squeeze(model, "thin.gguf", "--sparsity", "60%", "--mask", "magnitude", "--low-rank", "32")
    assert rc == 2 and "thin.gguf.lora.gguf is there already" in err and not os.path.exists(out), err
    rc, err, _ = squeeze(model, "thin.gguf", "--sparsity", "60%", "--mask", "magnitude", "--low-rank", "32", "--force")
    assert rc == 0, err
    a, keys = tensors(out + ".lora.gguf")
    assert keys["general.type"] == "adapter" and keys["adapter.type"] == "lora"
    big, thin = tensors(model)[0], tensors(out)[0]
    for name in ("blk.0.ffn_up.weight", "blk.2.ffn_down.weight"):
        r = {t.name: t for t in gguf.GGUFReader(out + ".lora.gguf").tensors}
        low, high = [gguf.dequantize(r[name + end].data, r[name + end].tensor_type) for end in (".lora_a", ".lora_b")]
        error = big[name] - thin[name].astype(np.float32)
        rest = error - keys["adapter.lora.alpha"] / low.shape[0] * high @ low
        assert low.shape == (32, error.shape[1]) and np.sum(rest ** 2) < 0.9 * np.sum(error ** 2)


def check_peer():
    """llama.cpp opens the file, sizes for each layer included, and says the same; only where ./dev peers built it."""
    if len(sys.argv) < 4 or not os.path.exists(sys.argv[3]):
        return
    model = make("llama")
    rc, _, err, small = shrink(model, "peer.gguf", "share=0.2")
    assert rc == 0, err
    for _ in range(10):      # its log is written by a thread, whose last lines the end of the program may swallow
        done = subprocess.run([sys.argv[3], "-m", small, "-f", text, "-c", "128", "--chunks", "4", "-t", "1"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-500:]
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
        if found:
            break
    assert found, done.stderr[-2000:]
    theirs = float(found.group(1))
    out = subprocess.run([stretto, "eval", "ppl", "-m", small, "--reference", "-f", text, "-c", "128", "--chunks", "4",
                          "--json"], capture_output=True, text=True, check=True)
    ours = json.loads(out.stdout)["perplexity"]
    assert abs(np.log(ours) - np.log(theirs)) < 0.02 * abs(np.log(ours)), (ours, theirs)
    print(f"llama.cpp reads sizes for each layer: perplexity {theirs:.6g}, ours {ours:.6g}")


for check in (check_llama, check_alike, check_refused, check_command, check_adapter, check_peer):
    check()
