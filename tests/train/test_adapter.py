"""Adapters of linear layers as files: test_adapter.py STRETTO ADAPTER_TOOL

Adapters in PEFT's form, made here with PyPI's safetensors, are read for a folder and for a GGUF file of the same model,
and written again as llama.cpp's file and as PEFT's folder. What they add to each weight is compared with numpy, the
order of rows as llama.cpp's converter has it (LlamaModel.permute). What does not fit is refused by name."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

stretto, tool = sys.argv[1:3]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
folder = tempfile.mkdtemp()
rng = np.random.default_rng(16)


def call(*args, good=True):
    done = subprocess.run([tool, *args], capture_output=True, text=True)
    assert (done.returncode == 0) == good, (args, done.returncode, done.stderr)
    return done.stdout if good else done.stderr


def pairs(base, adapter):
    """What is added to each weight, as read."""
    lines, out = call(base, adapter).splitlines(), {}
    for head, a, b in zip(*[iter(lines)] * 3):
        name, rank, n_in, n_out, scale = head.split()
        a = np.frombuffer(bytes.fromhex(a), ">f4").reshape(int(rank), int(n_in)).astype(np.float64)
        b = np.frombuffer(bytes.fromhex(b), ">f4").reshape(int(n_out), int(rank)).astype(np.float64)
        out[name] = float(scale) * (b @ a)
    return out


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def peft(name, tensors, **config):
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    save_file(tensors, os.path.join(path, "adapter_model.safetensors"))
    with open(os.path.join(path, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", **config}, f)
    return path


def lora(modules, rank=4):
    """{module: (out, in)} -> tensors, and what each adds without its scale."""
    t, delta = {}, {}
    for m, (n_out, n_in) in modules.items():
        a, b = (rng.normal(size=s).astype(np.float32) for s in ((rank, n_in), (n_out, rank)))
        t[f"base_model.model.{m}.lora_A.weight"], t[f"base_model.model.{m}.lora_B.weight"] = a, b
        delta[m] = b.astype(np.float64) @ a.astype(np.float64)
    return t, delta


def same(got, want, what):
    assert got.keys() == want.keys(), (what, sorted(got), sorted(want))
    for k in want:
        assert np.allclose(got[k], want[k], rtol=0, atol=1e-5 * np.abs(want[k]).max()), (what, k)


def base_of(kind):
    hf = os.path.join(root, "tests", "data", "format", kind)
    out = os.path.join(folder, kind + ".gguf")
    if not os.path.exists(out):
        subprocess.run([stretto, "convert", hf, out], check=True, capture_output=True)
    return hf, out, json.load(open(os.path.join(hf, "config.json")))


def gguf_adds(path):
    r = gguf.GGUFReader(path)
    alpha = r.fields["adapter.lora.alpha"].contents()
    t = {x.name: np.array(x.data, np.float64) for x in r.tensors}
    names = {n.rsplit(".", 1)[0] for n in t}
    return {n: alpha / t[n + ".lora_a"].shape[0] * (t[n + ".lora_b"] @ t[n + ".lora_a"]) for n in names}, r


def peft_adds(path):
    c = json.load(open(os.path.join(path, "adapter_config.json")))
    t = load_file(os.path.join(path, "adapter_model.safetensors"))
    out = {}
    for n in t:
        if not n.endswith(".lora_A.weight"):
            continue
        m = n[len("base_model.model."):-len(".lora_A.weight")]
        a, b = (t[f"base_model.model.{m}.lora_{s}.weight"].astype(np.float64) for s in "AB")
        alpha, rank = c["alpha_pattern"].get(m, c["lora_alpha"]), c["rank_pattern"].get(m, c["r"])
        assert rank == a.shape[0]
        out[m] = alpha / rank * (b @ a)
    return out, c


def test_llama():
    hf, file, c = base_of("hf-llama")
    d, h, kv, f = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["intermediate_size"]
    head, layers = d // h, c["num_hidden_layers"]
    shapes, names = {}, {}
    for l in range(layers):
        for m, n, s in (("self_attn.q_proj", "attn_q", (h * head, d)), ("self_attn.k_proj", "attn_k", (kv * head, d)),
                        ("self_attn.o_proj", "attn_output", (d, h * head)), ("mlp.down_proj", "ffn_down", (d, f))):
            shapes[f"model.layers.{l}.{m}"] = s
            names[f"model.layers.{l}.{m}"] = f"blk.{l}.{n}.weight"
    t, delta = lora(shapes)
    path = peft("llama", t)
    same(pairs(hf, path), {names[m]: 2 * v for m, v in delta.items()}, "folder")
    turned = {names[m]: 2 * (permute(v, h) if "q_proj" in m else permute(v, kv) if "k_proj" in m else v)
              for m, v in delta.items()}
    assert not np.allclose(turned["blk.0.attn_q.weight"], 2 * delta["model.layers.0.self_attn.q_proj"])
    same(pairs(file, path), turned, "GGUF")
    # Out, from both kinds of base, as both kinds of file.
    for base, tag in ((hf, "h"), (file, "g")):
        out, peft_out = os.path.join(folder, tag + ".gguf"), os.path.join(folder, tag + "-peft")
        call(base, path, out)
        call(base, path, peft_out)
        adds, r = gguf_adds(out)
        same(adds, turned, "written as GGUF")
        assert r.fields["general.architecture"].contents() == "llama"
        assert r.fields["general.type"].contents() == "adapter" and r.fields["adapter.type"].contents() == "lora"
        assert r.fields["stretto.teach.base_content"].contents() == "0123456789abcdef"
        adds, config = peft_adds(peft_out)
        same(adds, {m: 2 * v for m, v in delta.items()}, "written for PEFT")
        assert config["r"] == 4 and config["lora_alpha"] == 8 and config["base_model_name_or_path"] == "a/base"
        assert sorted(config["target_modules"]) == ["down_proj", "k_proj", "o_proj", "q_proj"]
        for back in (out, peft_out):
            want = turned if base == file else {names[m]: 2 * v for m, v in delta.items()}
            same(pairs(base, back), want, "read again")
    # The same tensors come back bit for bit.
    again = load_file(os.path.join(folder, "g-peft", "adapter_model.safetensors"))
    assert all((again[k] == t[k]).all() for k in t) and again.keys() == t.keys()


def test_scales():
    hf, _, c = base_of("hf-llama")
    d = c["hidden_size"]
    q, o = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj"
    t, delta = lora({q: (d, d), o: (d, d)})
    root_scaled = peft("root", t, use_rslora=True)
    want = {"blk.0.attn_q.weight": 4 * delta[q], "blk.0.attn_output.weight": 4 * delta[o]}
    same(pairs(hf, root_scaled), want, "rslora")
    t2, delta2 = lora({o: (d, d)}, rank=2)
    t.update(t2)
    mixed = peft("mixed", t, rank_pattern={"o_proj": 2}, alpha_pattern={"layers.0.self_attn.o_proj": 6})
    want = {"blk.0.attn_q.weight": 2 * delta[q], "blk.0.attn_output.weight": 3 * delta2[o]}
    same(pairs(hf, mixed), want, "patterns")
    for out in ("mixed.gguf", "mixed-again"):
        call(hf, mixed, os.path.join(folder, out))
        same(pairs(hf, os.path.join(folder, out)), want, out)
    assert len(peft_adds(os.path.join(folder, "mixed-again"))[1]["target_modules"]) == 2


def test_fused():
    hf, file, c = base_of("hf-phi3")
    d, h, f = c["hidden_size"], c["num_attention_heads"], c["intermediate_size"]
    kv, head = c.get("num_key_value_heads", h), d // h
    rows = [h * head, kv * head, kv * head]
    qkv, up = "model.layers.0.self_attn.qkv_proj", "model.layers.0.mlp.gate_up_proj"
    t, delta = lora({qkv: (sum(rows), d), up: (2 * f, d)})
    path = peft("phi", t)
    want, at = {}, 0
    for n, k in zip("qkv", rows):
        want[f"blk.0.attn_{n}.weight"] = 2 * delta[qkv][at:at + k]
        at += k
    want["blk.0.ffn_gate.weight"], want["blk.0.ffn_up.weight"] = 2 * delta[up][:f], 2 * delta[up][f:]
    for base in (hf, file):
        same(pairs(base, path), want, "slices")
        for out in ("phi.gguf", "phi-again"):
            call(base, path, os.path.join(folder, out))
            same(pairs(base, os.path.join(folder, out)), want, out)
        adds = gguf_adds(os.path.join(folder, "phi.gguf"))[0]
        same(adds, {"blk.0.attn_qkv.weight": 2 * delta[qkv], "blk.0.ffn_up.weight": 2 * delta[up]}, "fused again")
        adds = peft_adds(os.path.join(folder, "phi-again"))[0]
        same(adds, {qkv: 2 * delta[qkv], up: 2 * delta[up]}, "fused for PEFT")
        os.remove(os.path.join(folder, "phi.gguf"))
        shutil.rmtree(os.path.join(folder, "phi-again"))


def test_refused():
    hf, file, c = base_of("hf-llama")
    d = c["hidden_size"]
    q = "model.layers.0.self_attn.q_proj"
    t, _ = lora({q: (d, d)})
    nan = {k: v.copy() for k, v in t.items()}
    nan[f"base_model.model.{q}.lora_B.weight"][1, 2] = np.nan
    only_a = {k: v for k, v in t.items() if "lora_A" in k}
    other, _ = lora({q: (d, 2 * d)})
    far, _ = lora({"model.layers.77.self_attn.q_proj": (d, d)})
    table = {"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((4, 8), np.float32)}
    foreign = {"base_model.model.h.0.c_fc.lora_A.weight": np.ones((4, 8), np.float32)}
    for tensors, config, words in (
            (nan, {}, "no number"), (only_a, {}, "has no partner"), ({}, {}, "no pair"),
            (other, {}, f"changes blk.0.attn_q.weight as {2 * d} x {d}"), (far, {}, "blk.77.attn_q.weight"),
            (table, {}, "lora_embedding_A"), (foreign, {}, "has no layer h.0.c_fc"),
            (t, {"use_dora": True}, "use_dora"), (t, {"bias": "all"}, "biases"), (t, {"peft_type": "IA3"}, "LORA"),
            (t, {"modules_to_save": ["lm_head"]}, "modules_to_save"), (t, {"lora_alpha": "8"}, "alpha is no number"),
            (t, {"alpha_pattern": {"(": 3}}, "not understood")):
        path = peft("bad", tensors, **config)
        said = call(hf, path, good=False)
        assert words in said, (words, said)
        shutil.rmtree(path)
    said = call(hf, os.path.join(folder, "nowhere"), good=False)
    assert "nowhere" in said, said
    assert "no adapter" in call(hf, file, good=False)
    call(hf, peft("good", t), os.path.join(folder, "good.gguf"))
    phi = base_of("hf-phi3")[1]
    assert "family 'llama'" in call(phi, os.path.join(folder, "good.gguf"), good=False)
    assert "there already" in call(hf, os.path.join(folder, "good"), os.path.join(folder, "good.gguf"), good=False)


try:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "ok")
finally:
    shutil.rmtree(folder)
