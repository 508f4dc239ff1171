"""Adapters that become part of a model: test_merge.py STRETTO DATA

The oracle is numpy: W + alpha / rank * scale * B A. Weights that no adapter changes, and metadata, are the source's;
types stay or are what was asked for; fused tensors get the slices of their pairs; a head that is the table of
embeddings stays that. What merging loses is measured, and above the limit nothing is written."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import gguf
import numpy as np

stretto, data = sys.argv[1:3]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
weights, words = (os.path.join(data, "models", f) for f in ("stories260K.bin", "tok512.bin"))
if not os.path.isfile(weights):
    print(f"skip: there is no {weights}")
    sys.exit(77)
folder = tempfile.mkdtemp()


def at(name):
    return os.path.join(folder, name)


def merge(*args, code=0):
    r = subprocess.run([stretto, "merge", "-q", "-t", "1", *args], capture_output=True, text=True)
    assert r.returncode == code, (args, r.returncode, r.stderr)
    return r.stdout if not code else r.stderr


def tensors(path):
    reader = gguf.GGUFReader(path)
    return {t.name: (t.tensor_type, np.array(t.data), gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
                     .reshape([int(n) for n in reversed(t.shape)])) for t in reader.tensors}


def keys(path):
    return {k: f.contents() for k, f in gguf.GGUFReader(path).fields.items() if not k.startswith("GGUF.")}


def adapter(name, model, rank=4, alpha=6, seed=1, rows=None, size=0.3, only=""):
    """A file, and what it adds to each weight."""
    draw, added = np.random.default_rng(seed), {}
    w = gguf.GGUFWriter(at(name), keys(model)["general.architecture"])
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", alpha)
    if rows:
        w.add_string("stretto.adapter.rows", rows)
    for n, (_, _, x) in tensors(model).items():
        if not n.startswith("blk.") or x.ndim != 2 or only not in n:
            continue
        a = draw.normal(0, x.shape[1] ** -0.5, (rank, x.shape[1])).astype("f4")
        b = draw.normal(0, size * rank ** -0.5, (x.shape[0], rank)).astype("f4")
        w.add_tensor(n + ".lora_a", a)
        w.add_tensor(n + ".lora_b", b)
        added[n] = alpha / rank * b.astype(np.float64) @ a.astype(np.float64)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return at(name), added


def test_float32(model):
    """By numpy; two adapters, one of them scaled."""
    one, add = adapter("one.gguf", model)
    two, more = adapter("two.gguf", model, seed=2, rank=3, alpha=3, only="ffn")
    merge("-m", model, "--lora", one, "--lora", two + "=-0.5", "-o", at("m.gguf"), "--windows", "1")
    before, after = tensors(model), tensors(at("m.gguf"))
    assert before.keys() == after.keys()
    for n, (kind, raw, x) in before.items():
        assert after[n][0] == kind
        if n not in add:
            assert (after[n][1] == raw).all(), n
            continue
        want = x + add[n] + (-0.5 * more[n] if n in more else 0)
        off = np.abs(after[n][2] - want).max()
        assert off <= 12 * np.finfo(np.float32).eps * np.abs(want).max(), (n, off)
    a, b = keys(model), keys(at("m.gguf"))
    assert b.pop("stretto.merge.recipe").startswith("merge ")
    assert b.pop("general.quantization_version", 2) == 2
    assert a == b, {k: (a.get(k), b.get(k)) for k in a.keys() | b.keys() if a.get(k) != b.get(k)}
    assert "output.weight" not in after, "a tied head was untied"
    said = json.loads(merge("-m", model, "--lora", one, "-o", at("m.gguf"), "--force", "--json", "--windows", "1"))
    assert said["kept"] and said["kl"] < 1e-6 and said["same_top"] > 0.99 and not said["rounded"]
    assert said["changed"] == len(add)
    return one


def run(model, *args):
    return subprocess.run([stretto, "run", "-m", model, "-p", "Once upon a time", "-n", "24", "--temp", "0", "-t", "1",
                           *args], capture_output=True, text=True, check=True).stdout


def test_runs(model, one):
    """The merged model writes what the adapter beside it wrote."""
    merge("-m", model, "--lora", one, "-o", at("r.gguf"), "--windows", "1")
    assert run(at("r.gguf")) == run(model, "--lora", one) != run(model)


def test_types(model, one):
    """What was rounded is rounded anew, and no further off than a block's step; the rest stays to the bit."""
    quantised = at("q8.gguf")
    subprocess.run([stretto, "squeeze", "-m", model, "--type", "q8_0", "-o", quantised, "--no-proof", "-q"], check=True,
                   capture_output=True)
    one, add = adapter("q.gguf", quantised, size=0.05)
    said = json.loads(merge("-m", quantised, "--lora", one, "-o", at("mq.gguf"), "--windows", "1", "--json"))
    before, after = tensors(quantised), tensors(at("mq.gguf"))
    assert said["rounded"] and 0 < said["kl"] < 0.05, said
    for n, (kind, raw, x) in before.items():
        assert after[n][0] == kind, n
        if n not in add:
            assert (after[n][1] == raw).all(), n
            continue
        want = x + add[n]
        off, blocks = np.abs(after[n][2] - want).ravel(), kind == gguf.GGMLQuantizationType.Q8_0
        step = np.abs(want).reshape(-1, 32).max(axis=1).repeat(32) / 127 if blocks else 2 ** -10 * np.abs(want).ravel()
        assert (off <= step + 1e-6).all() and (not blocks or off.mean() <= 0.3 * step.mean()), n
    merge("-m", quantised, "--lora", one, "-o", at("f16.gguf"), "--windows", "1", "--type", "f16")
    for n, (kind, _, x) in tensors(at("f16.gguf")).items():
        if n in add:
            assert kind == gguf.GGMLQuantizationType.F16
            assert np.abs(x - before[n][2] - add[n]).max() <= 2e-3 * np.abs(x).max(), n
    said = json.loads(merge("-m", model, "--lora", one, "-o", at("k.gguf"), "--windows", "1", "--type", "q8_0",
                            "--json"))
    assert said["kept"] and tensors(at("k.gguf"))["blk.0.ffn_up.weight"][0] == gguf.GGMLQuantizationType.Q8_0


def test_too_far(model, one):
    said = merge("-m", model, "--lora", one, "-o", at("no.gguf"), "--windows", "1", "--type", "q4_0", "--max-kl",
                 "0.0001", code=1)
    assert "nothing was written" in said, said
    assert not [n for n in os.listdir(folder) if n.startswith("no.gguf")], os.listdir(folder)


def test_files_of_others_stay(model, one):
    """Those whose name merging would take for a while, of which one may be the model."""
    other = at("stays.gguf.merging")
    for folder_too in (False, True):
        if folder_too:
            os.makedirs(other)
            other += "/merged.gguf"
        shutil.copy(model, other)
        said = merge("-m", other, "--lora", one, "-o", at("stays.gguf"), "--type", "q8_0", code=2)
        assert "move it" in said, said
        assert open(other, "rb").read() == open(model, "rb").read()
        os.remove(other)


def test_killed(model, one):
    """While it is written, and while it is measured: the same command goes its way and leaves nothing else."""
    args = ["-m", model, "--lora", one, "-o", at("killed.gguf"), "--windows", "1", "--type", "q8_0", "--max-kl", "9"]
    for seen in ("whole.gguf.part", "merged.gguf"):
        run = subprocess.Popen([stretto, "merge", "-q", "-t", "1", *args], stderr=subprocess.DEVNULL)
        while run.poll() is None and not os.path.exists(at("killed.gguf.merging/" + seen)):
            pass
        run.send_signal(signal.SIGSTOP)
        if run.poll() is None and os.path.exists(at("killed.gguf.merging/.lock")):
            assert "another process" in merge(*args, code=2)
        run.kill()
        run.wait()
    merge(*args)
    merge("-m", model, "--lora", one, "-o", at("whole.gguf"), "--windows", "1", "--type", "q8_0", "--max-kl", "9")
    assert open(at("killed.gguf"), "rb").read() == open(at("whole.gguf"), "rb").read()
    assert [n for n in os.listdir(folder) if n.startswith("killed")] == ["killed.gguf"], os.listdir(folder)


def with_words(model, words, out):
    """The model, with the first tokens of another one's vocabulary."""
    reader, w = gguf.GGUFReader(model), gguf.GGUFWriter(out, keys(model)["general.architecture"])
    some = {k: f for k, f in gguf.GGUFReader(words).fields.items() if k.startswith("tokenizer.")}
    for k, f in {**reader.fields, **some}.items():
        if k.startswith("GGUF.") or k in (gguf.Keys.General.ARCHITECTURE, "general.quantization_version"):
            continue
        v = f.contents()
        if isinstance(v, list) and k in some:
            v = (v + [type(v[0])() if not isinstance(v[0], str) else f"<{i}>" for i in range(len(v), 10 ** 4)])
            v = v[:next(int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight")]
        w.add_key_value(k, v, f.types[0], f.types[1] if len(f.types) > 1 else None)
    for t in reader.tensors:
        w.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def test_fused(model):
    """Pairs of a fused tensor are added to its slices."""
    bare, fused = at("phi-bare.gguf"), at("phi.gguf")
    subprocess.run([stretto, "convert", os.path.join(root, "tests", "data", "format", "hf-phi3"), bare], check=True,
                   capture_output=True)
    with_words(bare, model, fused)
    one, add = adapter("phi-lora.gguf", fused)
    assert any("qkv" in n for n in add)
    merge("-m", fused, "--lora", one, "-o", at("phi-m.gguf"), "--max-kl", "100", "--windows", "1")
    before, after = tensors(fused), tensors(at("phi-m.gguf"))
    for n in add:
        want = before[n][2] + add[n]
        tight = 1e-6 if before[n][0] == gguf.GGMLQuantizationType.F32 else 2 ** -8
        assert np.abs(after[n][2] - want).max() <= tight * np.abs(want).max() + 1e-9, n


def test_refused(model, one):
    late, _ = adapter("late.gguf", model, rows="answers")
    for args, code, words in (
            (["-m", model, "-o", at("x.gguf")], 2, "which adapter"),
            (["-m", model, "--lora", one], 2, "where does"),
            (["-m", model, "--lora", at("none"), "-o", at("x.gguf")], 2, "there is no file"),
            (["-m", model, "--lora", one + "=much", "-o", at("x.gguf")], 2, "is a number, as in FILE=0.5"),
            (["-m", model, "--lora", one, "-o", one], 2, "--force replaces"),
            (["-m", model, "--lora", late, "-o", at("x.gguf")], 1, "on the rows 'answers' alone"),
            (["-m", model, "--lora", model, "-o", at("x.gguf")], 2, "is no adapter"),
            (["-m", model, "--lora", one, "-o", at("x.gguf"), "--type", "q9"], 2, "q9"),
            (["-m", os.path.join(root, "tests", "data", "format", "hf-phi3"), "--lora", one, "-o", at("x.gguf")], 2,
             "folder of transformers")):
        said = merge(*args, code=code)
        assert words in said, (args, said)
        assert not os.path.exists(at("x.gguf")) and not [n for n in os.listdir(folder) if n.startswith("x.gguf")]


def test_guesses(model):
    """An adapter of guesses changes no text, is refused where it would do nothing, and its own numbers may be any."""
    one, _ = adapter("guesses.gguf", model, rows="guesses", size=0.1)

    def call(command, *args, code=0):
        r = subprocess.run([stretto, command, "-t", "1", "-m", model, *args], capture_output=True, text=True)
        assert r.returncode == code, (command, args, r.returncode, r.stderr)
        return r.stderr if code else r.stdout
    text = ["-p", "Once upon a time", "-n", "40", "--temp", "0"]
    plain = call("run", *text, "--decode", "plain")
    for how in ("auto", "gated", "gated+lookup", "auto+jacobi"):
        assert call("run", *text, "--lora", one, "--decode", how) == plain, how
    page = [os.path.join(root, "README.md")]
    for command, args, words in (("merge", ["--lora", one, "-o", at("x.gguf")], "rows 'guesses' alone"),
                                 ("run", [*text, "--lora", one, "--decode", "lookup"], "auto or gated"),
                                 ("run", [*text, "--lora", one, "--decode", "plain"], "auto or gated"),
                                 ("run", [*text, "--lora", one + "=0.5"], "no scale"),
                                 ("run", [*text, "--decode", "gated"], "acts on guesses"),
                                 ("eval", ["ppl", "--lora", one, "-f", *page], "makes none")):
        said = call(command, *args, code=1 if command == "merge" else 2)
        assert words in said, (command, args, said)


try:
    stories = at("stories.gguf")
    subprocess.run([sys.executable, os.path.join(root, "tools", "make-model"), "stories", weights, words, stories],
                   check=True, stdout=subprocess.DEVNULL)
    first = test_float32(stories)
    test_runs(stories, first)
    test_types(stories, first)
    test_too_far(stories, first)
    test_files_of_others_stay(stories, first)
    test_killed(stories, first)
    test_fused(stories)
    test_refused(stories, first)
    test_guesses(stories)
    print("merged weights are numpy's, what that loses is told, and too much is refused")
finally:
    subprocess.run(["rm", "-rf", folder], check=True)
