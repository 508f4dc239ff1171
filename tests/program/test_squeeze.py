#!/usr/bin/env python3
"""`stretto squeeze` on a trained model of 260,000 weights: the file, its table, and every kind of bad input.

    test_squeeze.py STRETTO SOURCE_DIR DATA [--sanitized]

With --sanitized fewer texts are read, figures and refusals of budgets are left to the other builds (measuring, which
takes its time, is what other calls do too), and Ctrl-C comes once."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

stretto, root, data = sys.argv[1:4]
sanitized = "--sanitized" in sys.argv
some = ("--windows", "2") if sanitized else ()         # of the texts that a proof reads
weights, tokens = (os.path.join(data, "models", f) for f in ("stories260K.bin", "tok512.bin"))
if not os.path.isfile(weights):
    print(f"skip: there is no {weights}")
    sys.exit(77)


def fewer(args):
    """What a sanitizer looks for does not hang on how many tokens are read."""
    return [str(max(512, int(a) // 6)) if sanitized and before == "--tokens" else a
            for before, a in zip(("", *args), args)]


def run(*args, fails=0):
    args = tuple(fewer(args))
    args = args if {"--task", "--no-proof", "--sweep"} & set(args) else (*args, "--task", "none")
    r = subprocess.run([stretto, "squeeze", "-q", "-t", "1", *args], capture_output=True, text=True, timeout=300)
    assert r.returncode == fails, (args, r.returncode, r.stdout, r.stderr)
    return r.stderr if fails else r.stdout


def refused(words, *args, code=1):
    said = run(*args, fails=code)
    assert words in said, (args, said)


def tensors(path):
    return {t.name: t for t in GGUFReader(path).tensors}


def tensor_bytes(path):
    return {n: t.data.tobytes() for n, t in tensors(path).items()}


def field(path, key):
    return GGUFReader(path).fields[key].contents()


def report(path):
    """What the file says of itself."""
    out = path + ".report.json"
    run(path, "--report", out, "--force", "--no-proof")
    return json.load(open(out))


def error(path, truth):
    """How far the weights are from what they were, as a share."""
    a = b = 0.0
    for name, t in tensors(path).items():
        if len(t.shape) < 2: continue
        x, y = dequantize(t.data, t.tensor_type), dequantize(truth[name].data, truth[name].tensor_type)
        a += float(((x - y) ** 2).sum())
        b += float((y ** 2).sum())
    return a / b


def check_methods(model, tmp, truth):
    """Error feedback is further from the weights than a search, and nearer to the answers."""
    kl = {}
    for method in ("plain", "search", "feedback"):
        out = os.path.join(tmp, f"{method}.gguf")
        j = json.loads(run("-m", model, "--type", "q4_0", "--method", method, "-o", out, "--tokens", "8192", *some,
                           "--json"))
        kl[method] = j["all"]["kl"]
        assert j["bytes"] == os.path.getsize(out) and j["from_bytes"] == os.path.getsize(model)
        kept = report(out)
        assert abs(kept["all"]["kl"] - kl[method]) < 1e-3 * kl[method], (kept, j)
        assert f"method {method}" in field(out, "stretto.squeeze.recipe")
        types = {t.name: t.tensor_type.name for t in GGUFReader(out).tensors}
        assert types["blk.1.ffn_up.weight"] == "Q4_0" and types["blk.1.ffn_norm.weight"] == "F32", types
        assert {t["name"]: t["to"] for t in j["tensors"]}.items() <= types.items()
    if sanitized: return
    assert kl["feedback"] < kl["search"] < 1.2 * kl["plain"], kl
    assert error(os.path.join(tmp, "feedback.gguf"), truth) > error(os.path.join(tmp, "search.gguf"), truth)


def check_words(model, tmp):
    out = os.path.join(tmp, "words.gguf")
    before = set(os.listdir(tmp))
    table = run("-m", model, "--type", "q5_0", "--dry-run")
    assert "blk.0.attn_q.weight" in table and "Q5_0" in table and set(os.listdir(tmp)) == before
    run("-m", model, "--type", "q4_0", "-o", out, "--keep", "attn_(q|k)=q8_0", "--output-type", "q5_1", "--no-proof",
        "--method", "search", "--tokens", "1024")
    types = {t.name: t.tensor_type.name for t in GGUFReader(out).tensors}
    assert "attn_q: Q4_K's blocks of 256 do not fit rows of 64; 5 matrices become Q5_0 instead" in subprocess.run(
        [stretto, "squeeze", "-m", model, "--dry-run", "--keep", "attn_q=q4_k"], capture_output=True, text=True).stderr
    assert types["blk.2.attn_k.weight"] == "Q8_0" and types["blk.2.attn_v.weight"] == "Q4_0", types
    head = "output.weight" if "output.weight" in types else "token_embd.weight"
    assert types[head] == "Q5_1", types
    refused("--force replaces it", "-m", model, "-o", out, code=2)
    run("-m", model, "--type", "q4_0", "-o", out, "--force", "--only", "embeddings", "--no-proof", "--method", "plain")
    types = {t.name: t.tensor_type.name for t in GGUFReader(out).tensors}
    assert types["token_embd.weight"] != "F32" and types["blk.2.attn_v.weight"] == "F32"
    refused("has no learned positions", "-m", model, "-o", os.path.join(tmp, "p"), "--only", "positions", code=2)
    refused("there is no type 'q9'", "-m", model, "-o", os.path.join(tmp, "p"), "--type", "q9", code=2)
    refused("REGEX=TYPE", "-m", model, "-o", os.path.join(tmp, "p"), "--keep", "attn", code=2)
    refused("no matrix of the model has a name like", "-m", model, "-o", os.path.join(tmp, "p"), "--keep", "nix=q8_0",
            code=2)


def check_budgets(model, tmp):
    """What was asked for is met on what is measured; what cannot be is said with the nearest there is."""
    out = os.path.join(tmp, "budget.gguf")
    args = ["-m", model, "-o", out, "--force", "--tokens", "8192", "--windows", "4"]
    pipe = os.path.join(tmp, "pipe")
    os.mkfifo(pipe)
    refused("is not a file", "-m", model, "-o", pipe, "--force", "--max-kl", "0.03", code=2)
    assert os.path.exists(pipe) and not os.path.isfile(pipe), "something else than a file was replaced"
    if not sanitized: check_met(model, tmp, args, out)
    args = args[:-4] + ["--tokens", "1024", "--windows", "1"]
    j = json.loads(run(*args, "--max-kl", "0.2", "--tokens-per-second", "1", "--json"))
    assert j["chosen_by_kl"] <= 0.2 and j["tokens_per_second"] > 1, j
    j = json.loads(run(*args, "--bpw", "7.5", "--keep", "attn_q=q8_0", "--json"))
    assert j["bits"] <= 7.5 and {t["to"] for t in j["tensors"] if "attn_q" in t["name"]} == {"Q8_0"}, j
    if not sanitized:
        refused("tokens a second; ask for that", *args, "--max-kl", "0.2", "--tokens-per-second", "1000000")
        refused("the smallest file that can be written has", *args, "--size", "0.1M")
        refused("the nearest there is has", *args, "--max-kl", "0.00001")
    refused("takes bytes as 90M", *args, "--size", "many", code=2)
    j = json.loads(run(*args, "--json", "--sweep", "q8_0,q5_0,q4_0"))["sweep"]
    assert [x["type"] for x in j] == ["q8_0", "q5_0", "q4_0"] and j[0]["kl"] < j[1]["kl"] < j[2]["kl"], j
    assert not [f for f in os.listdir(tmp) if f.startswith("budget.gguf.")]


def check_met(model, tmp, args, out):
    j = json.loads(run(*args, "--max-kl", "0.03", "--json"))
    assert 0.02 < j["chosen_by_kl"] + j["chosen_by_margin"] <= 0.03 and j["bytes"] == os.path.getsize(out), j
    assert 0.02 < j["all"]["kl"] < 0.033 and j["all"]["kl"] != j["chosen_by_kl"] and j["chosen_by_margin"] > 0, j
    assert all(t["alone_kl"] > 0 for t in j["tensors"] if t["to"] != "F16"), j["tensors"]
    assert [x["bytes"] for x in j["exchange"]] == sorted(x["bytes"] for x in j["exchange"]), j["exchange"]
    assert field(out, "general.file_type") in (8, 25), "mostly Q5_0 or IQ4_NL"
    types = {t.tensor_type.name for t in GGUFReader(out).tensors if len(t.shape) > 1}
    assert len(types) > 1, types
    check_size(model, tmp, args, out)


def check_size(model, tmp, args, out):
    """With a file's size a budget is at least as near to the original as that file."""
    held = os.path.join(root, "data", "heldout", "prose.txt")
    uniform = os.path.join(tmp, "uniform.gguf")
    run(*args[:2], "-o", uniform, *args[4:], "--type", "q5_0", "--no-proof", "--tokens", "8192")
    mixed = json.loads(run(*args, "--size", str(os.path.getsize(uniform)), "--json"))
    ours, theirs = (divergence(model, f, held) for f in (out, uniform))
    assert mixed["bytes"] <= os.path.getsize(uniform) and ours <= 1.02 * theirs, (ours, theirs)


def divergence(model, file, text, *more):
    r = subprocess.run([stretto, "eval", "kl", "-t", "1", "--base", model, "-m", file, "-f", text, "--json", *more],
                       check=True, capture_output=True, text=True, timeout=300)
    return json.loads(r.stdout)["mean_kl"]


def check_prices(model, tmp):
    """What a weight costs alone is what the file says that has this one rounded and no other."""
    text, out = os.path.join(tmp, "one-window.txt"), os.path.join(tmp, "price.gguf")
    words = open(os.path.join(root, "data", "calibration", "prose.txt"), encoding="utf-8").read().split()
    open(text, "w").write(" ".join(words[:260]))
    args = ("-m", model, "--force", "--calibrate", text)
    j = json.loads(run(*args, "-o", out, "--bpw", "6", "--windows", "1", "--json"))
    alone = {t["name"]: t.get("alone_kl") for t in j["tensors"]}
    for name in ("blk.0.attn_v.weight", "blk.3.ffn_up.weight", "blk.4.attn_output.weight"):
        run(*args, "-o", out, "--type", "f32", "--keep", name + "=iq4_nl", "--no-proof")
        kl = divergence(model, out, text, "--reference", "-c", "192", "--chunks", "1")
        assert 0.85 < alone[name] / kl < 1.15, (name, alone[name], kl)


def check_statistics(model, tmp):
    """Statistics from a file: with second moments as good as reading the texts, without them importance alone."""
    kl = {}
    for name, flags in (("whole", ["--gram"]), ("importance", [])):
        path = os.path.join(tmp, name + ".imatrix")
        subprocess.run([stretto, "calibrate", "-q", "-m", model, "-o", path, *fewer(("--tokens", "8192")), *flags],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
        j = json.loads(run("-m", model, "-o", os.path.join(tmp, f"by-{name}.gguf"), "--type", "q4_0", "--imatrix", path,
                           *some, "--json"))
        kl[name] = j["all"]["kl"]
    assert sanitized or kl["whole"] < 0.9 * kl["importance"], kl
    refused("holds no statistics", "-m", model, "-o", os.path.join(tmp, "x"), "--imatrix", model)


def check_packed(model, tmp):
    """A packed file is what the same command without --pack writes, to the bit; its report is in it. A packed source
    is the model that it was."""
    plain, packed, back = (os.path.join(tmp, n) for n in ("p.gguf", "packed.gguf", "back.gguf"))
    args = ("-m", model, "--type", "q5_0", "--method", "plain", "--windows", "1")
    run(*args, "-o", plain)
    j = json.loads(run(*args, "-o", packed, "--pack", "--json"))
    assert j["bytes"] == os.path.getsize(packed) < j["plain_bytes"] == os.path.getsize(plain), j
    assert j["all"]["kl"] > 0 and not [f for f in os.listdir(tmp) if "pass-plain" in f]
    subprocess.run([stretto, "unpack", "-q", packed, back], check=True)
    old, new = tensors(plain), tensors(back)
    assert all(np.array_equal(old[n].data, new[n].data) for n in old) and old.keys() == new.keys()
    assert abs(report(back)["all"]["kl"] - j["all"]["kl"]) < 1e-3 * j["all"]["kl"]
    refused("--force replaces it", *args, "-o", packed, "--pack", code=2)
    table = run(*args, "-o", packed, "--pack", "--force", "--no-proof")
    assert "packed" in table and os.path.getsize(packed) < os.path.getsize(plain), table
    source, again = (os.path.join(tmp, n) for n in ("p-source.gguf", "p-again.gguf"))
    subprocess.run([stretto, "pack", "-q", model, source], check=True)
    other = json.loads(run("-m", source, *args[2:], "-o", again, "--json"))
    assert other["all"] == j["all"], (j, other)
    budget = [json.loads(run("-m", m, "--bpw", "7.5", "--tokens", "1024", "--windows", "1", "-o", again, "--force",
                             "--json"))
              for m in (model, source)]                      # weights are read by several attempts
    assert budget[0]["all"] == budget[1]["all"] and budget[0]["bytes"] == budget[1]["bytes"], budget
    refused("keeps no file", "-m", model, "--sweep", "q4_0", "--pack", code=2)


def check_caches(model, tmp):
    """What a cache adds is what `stretto eval kl` says of the file beside itself with a cache of float32."""
    out, text = os.path.join(tmp, "cache.gguf"), os.path.join(tmp, "cache.txt")
    open(text, "w").write(open(os.path.join(root, "data", "heldout", "prose.txt"), encoding="utf-8").read()[:6000])
    args = ("-m", model, "--type", "q5_0", "--method", "plain", "--windows", "0", "--test", text)
    j = json.loads(run(*args, "-o", out, "--cache", "all", "--json"))
    f16, q8, q4 = j["caches"]
    r = subprocess.run([stretto, "eval", "kl", "-m", out, "--reference", "-ctk", "q8_0", "-ctv", "q8_0",
                        "--base-reference", "--json", "-f", text, "-t", "1"], capture_output=True, text=True,
                       timeout=300)
    assert f16["kl"] < q8["kl"] < 1.1 * q4["kl"] and f16["bytes"] >= q8["bytes"] > 0, j
    assert j["cache"] in ("f16", "q8_0"), j
    want = json.loads(r.stdout)["mean_kl"]
    assert abs(q8["kl"] - want) < 0.3 * want, (q8, want)
    assert report(out)["cache"] == j["cache"]
    refused("not 'q2'", *args, "-o", out, "--force", "--cache", "q8_0,q2", code=2)
    assert "recommended" in run(*args, "-o", out, "--force", "--cache", "f16")


def check_reports(model, tmp):
    """A page while squeezing, of a file that was squeezed, of figures in a file, and of a sweep."""
    place = lambda name: os.path.join(tmp, name)
    out, page = place("report.gguf"), place("r.html")
    args = ("-m", model, "--tokens", "2048", "--windows", "2")
    j = json.loads(run(*args, "--type", "q5_0", "-o", out, "--report", page, "--json"))
    whole = open(page, encoding="utf-8").read()
    kept = report(out)
    for said in ("report.gguf", "blk.1.ffn_up.weight", f"{j['all']['kl']:.4f}", "tokens a second"):
        assert said in whole, said
    refused("there already", *args, "--type", "q5_0", "-o", place("other.gguf"), "--report", page, code=2)
    refused("NAME.html", *args, "--type", "q5_0", "-o", place("other.gguf"), "--report", place("r.pdf"), code=2)
    assert not os.path.exists(place("other.gguf"))
    run(out, "--report", place("again.html"))
    assert f"{kept['all']['kl']:.4f}" in open(place("again.html"), encoding="utf-8").read()
    run(out, "--report", place("again.json"))
    assert json.load(open(place("again.json")))["all"]["kl"] == kept["all"]["kl"]
    run(place("again.json"), "--report", place("again.svg"))
    assert "</svg>" in open(place("again.svg"), encoding="utf-8").read()
    for more, name, said in ((("--type", "q5_0"), "stories.q5_0", "stories.q5_0.gguf"),
                             (("--max-kl", "0.1"), "stories.kl0.1", "expected")):
        r = subprocess.run([os.path.abspath(stretto), "squeeze", "-q", "-t", "1", "-m", "stories.gguf", "--windows",
                            "2", "--task", "none", *fewer(("--tokens", "2048")), *more], cwd=tmp, capture_output=True,
                           text=True, timeout=300)
        assert r.returncode == 0 and r.stdout.endswith(f"{name}.gguf\n{name}.svg\n"), (r.stdout, r.stderr)
        assert said in open(place(name + ".svg"), encoding="utf-8").read()
    refused("carries no report", model, "--report", place("none.html"))
    refused("--report", out, code=2)
    run(*args, "--sweep", "q8_0,q5_0,q4_0", "-o", place("s.gguf"), "--report", place("sweep.html"), "--json")
    sweep = open(place("sweep.html"), encoding="utf-8").read()
    assert all(x in sweep for x in ("q8_0", "q5_0", "q4_0", "bytes of the file", "tokens a second")), sweep


def check_tasks(model, tmp):
    """A task of the proof is what `stretto eval` makes of both files, in the table, the file and its report."""
    place = lambda name: os.path.join(tmp, name)
    tasks, out = place("tasks.txt"), place("task.gguf")
    open(tasks, "w").write("".join(f"A story: the {who} went to the park. {who}\n{i % 4}\n"
                                   f"saw {i}.\nsaw {i + 1}.\nsaw {i + 2}.\nsaw {i + 3}.\n"
                                   for i, who in enumerate(("cat", "girl", "boy", "bird", "dog", "man") * 8)))
    args = ("-m", model, "--type", "q4_0", "--method", "plain", "--windows", "1")
    j = json.loads(run(*args, "-o", out, "--task", f"hellaswag={tasks}", "--tasks", "30", "--report", place("task.svg"),
                       "--json"))["task"]
    r = subprocess.run([stretto, "eval", "hellaswag", "-m", out, "--base", model, "-f", tasks, "--tasks", "30",
                        "-t", "1", "--json"], capture_output=True, text=True, timeout=300)
    want = json.loads(r.stdout)
    assert j.pop("name") == "HellaSwag" and j == want and j["tasks"] == 30 and j["flips"] > 0, (j, want)
    kept = report(out)["task"]
    assert abs(kept["accuracy"] - j["accuracy"]) < 1e-5 and kept["flips"] == j["flips"], kept
    assert "HellaSwag: right" in open(place("task.svg"), encoding="utf-8").read()
    table = run(*args, "-o", place("built-in.gguf"), "--task", "hellaswag", "--tasks", "3")
    assert "HellaSwag" in table and "of 3;" in table and "McNemar" in table, table
    refused("--task takes", *args, "-o", place("no.gguf"), "--task", "arc", code=2)
    refused("needs its questions", *args, "-o", place("no.gguf"), "--task", "piqa", code=2)
    refused("cannot", *args, "-o", place("no.gguf"), "--task", "piqa=" + place("none.jsonl"))
    refused("hellaswag.txt, line 1", *args, "-o", place("no.gguf"), "--task", "gsm8k=" +
            os.path.join(root, "data", "tasks", "hellaswag.txt"))
    assert not os.path.exists(place("no.gguf"))
    refused("leave out --no-proof", *args, "-o", place("no.gguf"), "--task", "hellaswag", "--no-proof", code=2)


def check_texts(model, tmp):
    short, leak, odd = (os.path.join(tmp, n) for n in ("short.txt", "leak.txt", "odd.jsonl"))
    out = os.path.join(tmp, "texts.gguf")
    open(short, "w").write("too short")
    open(odd, "w").write('{"messages": 5}\n')
    open(leak, "w").write(" ".join(f"word{i} and" for i in range(2000)))
    refused("less than one window", "-m", model, "-o", out, "--calibrate", short, code=2)
    refused("messages", "-m", model, "-o", out, "--calibrate", odd)
    r = subprocess.run([stretto, "eval", "kl", "--base", "nowhere", "-m", model, "--against", "nowhere", "-f", odd],
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 1 and "no chat template, which the conversations of 'odd.jsonl' need" in r.stderr, r.stderr
    refused("cannot", "-m", model, "-o", out, "--calibrate", os.path.join(tmp, "none.txt"))
    assert not os.path.exists(out) and not os.path.exists(out + ".part")
    r = subprocess.run([stretto, "squeeze", "-q", "-m", model, "-o", out, "--calibrate", leak, "--test", leak,
                        "--windows", "1", "--tokens", "1024", "--type", "q4_0", "--task", "none"], capture_output=True,
                       text=True, timeout=300)
    assert r.returncode == 0 and "shares words with 'leak.txt'" in r.stderr, r.stderr


def check_sources(model, tmp):
    """Of a file that is rounded already, only what gets fewer bits is rounded again."""
    small, out = os.path.join(tmp, "small.gguf"), os.path.join(tmp, "again.gguf")
    run("-m", model, "--type", "q4_0", "--method", "plain", "--no-proof", "-o", small)
    refused("there is nothing to squeeze", "-m", small, "--type", "q4_0", "-o", out, code=2)
    text = os.path.join(tmp, "source.txt")
    open(text, "w").write(open(os.path.join(root, "data", "heldout", "prose.txt"), encoding="utf-8").read()[:6000])
    j = json.loads(run("-m", small, "--type", "q8_0", "--requantize", "--method", "plain", "-o", out, "--test", text,
                       "--windows", "0", "--json"))
    assert tensors(out)["blk.0.attn_q.weight"].tensor_type.name == "Q8_0"
    # The original layer by layer answers as an engine does that has all of it.
    kl = divergence(small, out, text, "-ctk", "f32", "-ctv", "f32")
    assert abs(j["all"]["kl"] - kl) < 1e-7 * kl, (j["all"], kl)
    mute = os.path.join(root, "tests", "data", "format", "hf-gpt2")
    r = subprocess.run([stretto, "squeeze", "-q", "-m", mute, "--type", "q8_0", "--method", "plain", "-o",
                        os.path.join(tmp, "mute.gguf")], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0 and "no divergence is measured" in r.stderr, r.stderr
    vocabulary = os.path.join(data, "tokenizer", "ggml-vocab-gpt-2.gguf")
    if os.path.isfile(vocabulary): refused("without a model", "-m", vocabulary, "-o", os.path.join(tmp, "v"))
    raw = bytearray(open(model, "rb").read())
    t = tensors(model)["blk.1.ffn_down.weight"]
    raw[t.data_offset + 4:t.data_offset + 8] = b"\0\0\xc0\x7f"
    broken = os.path.join(tmp, "broken.gguf")
    open(broken, "wb").write(raw)
    said = run("-m", broken, "--type", "q4_0", "--method", "plain", "-o", os.path.join(tmp, "b"), fails=1)
    assert "blk.1.ffn_down.weight" in said and "not finite" in said, said
    for how in (["--type", "q4_0"], ["--shrink", "20%"], ["--sparsity", "50%"], ["--max-kl", "0.1"]):
        refused("tensor blk.1.ffn_down.weight holds a value that is not finite", "-m", broken, "--tokens", "2048", *how,
                "-o", os.path.join(tmp, "b"))
    raw = bytearray(open(model, "rb").read())
    t = tensors(model)["blk.1.ffn_norm.weight"]
    raw[t.data_offset + 4:t.data_offset + 8] = b"\0\0\x80\x7f"
    open(broken, "wb").write(raw)
    refused("tensor blk.1.ffn_norm.weight holds a value that is not finite", "-m", broken, "--method", "plain", "-o",
            os.path.join(tmp, "b"))
    assert not [f for f in os.listdir(tmp) if f == "b" or f.startswith("b.")]


def check_interrupt(model, tmp):
    """Ctrl-C at several moments; the same command goes on and writes the same bytes."""
    once = 1 if sanitized else 3
    stop_and_go(tmp, ["-m", model, "--type", "q4_0", "--tokens", "16384", "--no-proof"], (0.7, 0.5, 0.9)[:once],
                "goes on where")
    stop_and_go(tmp, ["-m", model, "--max-kl", "0.05", "--tokens", "4096", "--windows", "1"], (0.5, 0.7)[:once],
                "goes on with what")
    out = os.path.join(tmp, "nohup.gguf")
    p = subprocess.Popen([stretto, "squeeze", "-q", "-t", "1", "-m", model, "--type", "q4_0", "--tokens", "4096",
                          "--no-proof", "-o", out], stdout=subprocess.DEVNULL,
                         preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while p.poll() is None and not os.path.exists(out + ".part"): time.sleep(0.002)
    p.send_signal(signal.SIGHUP)
    assert p.wait(timeout=300) == 0 and os.path.exists(out)
    os.remove(out)


def stop_and_go(tmp, args, parts, words):
    whole, out = os.path.join(tmp, "whole.gguf"), os.path.join(tmp, "stopped.gguf")
    begun = time.monotonic()
    run(*args, "-o", whole)
    seconds = time.monotonic() - begun
    stopped = 0
    for part in parts:
        p = subprocess.Popen([stretto, "squeeze", "-q", "-t", "1", *fewer(args), "-o", out],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds * part)
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=300)[1]
        if p.returncode == 0 or os.path.exists(out): break         # it was proved already
        if words in said:
            stopped += 1
            assert [f for f in os.listdir(tmp) if f.startswith("stopped.gguf.")], said
    left = [f for f in os.listdir(tmp) if f.startswith("stopped.gguf.")]
    if left or not os.path.exists(out): run(*args, "-o", out)          # or the proof alone
    assert tensor_bytes(out) == tensor_bytes(whole)
    assert not [f for f in os.listdir(tmp) if f.startswith("stopped.gguf.")]
    os.remove(out)
    os.remove(whole)


def interrupted_proof(out, *args):
    """Ctrl-C while the proof is made, which a fast machine may be done with before the signal comes."""
    for _ in range(5):
        p = subprocess.Popen([stretto, "squeeze", "-q", "-t", "1", *fewer(args)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        while p.poll() is None and not os.path.exists(out): time.sleep(0.002)
        p.send_signal(signal.SIGINT)
        if p.wait(timeout=300): return os.stat(out)
        os.remove(out)
    raise AssertionError("no proof could be interrupted")


def check_proof_alone(model, tmp):
    """Ctrl-C in the proof leaves the file whole; the same command makes the proof and no other file."""
    out = os.path.join(tmp, "unproved.gguf")
    for goal in (["--type", "q4_0", "--method", "search", "--tokens", "1024"],
                 ["--max-kl", "0.2", "--tokens", "2048", "--windows", "2"]):
        args = ["-m", model, "-o", out, *goal]
        before = interrupted_proof(out, *args, "--task", "hellaswag")
        refused("--force replaces it", *args[:3], out, "--type", "q5_0", "--method", "plain", code=2)
        if "--max-kl" in goal:                           # what was measured outlives a refusal
            refused("--force replaces it", *args, "--max-kl", "0.3", code=2)
        j = json.loads(run(*args, "--task", "hellaswag", "--json"))
        assert os.stat(out).st_ino == before.st_ino and j["all"]["kl"] > 0 and j["bytes"] == before.st_size, j
        assert j["bits"] < 9, j["tensors"]
        if "--max-kl" in goal: assert j["chosen_by_kl"] > 0 and j["exchange"][3]["expected_kl"] > 0, j
        assert abs(report(out)["all"]["kl"] - j["all"]["kl"]) < 1e-3 * j["all"]["kl"]
        refused("--force replaces it", *args, code=2)
        assert not [f for f in os.listdir(tmp) if f.startswith("unproved.gguf.") and "report" not in f]
        os.remove(out)


def logits(model, out):
    subprocess.run([stretto, "eval", "logits", "-m", model, "--reference", "-t", "1", "--ids", "1,9,8,7,300,5,44,9",
                    "--raw", out], check=True, capture_output=True)
    with open(out, "rb") as f:
        return f.read()


def make_uneven(model, out, factor=64):
    """The first pair of the first head's keys larger in every layer, the same pair of its queries smaller: the same
    model."""
    shutil.copy(model, out)
    r = GGUFReader(out, "r+")
    heads, kv, width = (int(r.fields[f"llama.{k}"].contents()) for k in
                        ("attention.head_count", "attention.head_count_kv", "embedding_length"))
    for t in r.tensors:
        if "attn_k.weight" in t.name: t.data[0:2] *= factor
        if "attn_q.weight" in t.name:
            for h in range(heads // kv): t.data[h * width // heads:h * width // heads + 2] /= factor
    r.data.flush()


def check_keys(model, tmp):
    """Keys that are balanced are other keys, and the same answers to the bit."""
    uneven, even = os.path.join(tmp, "uneven.gguf"), os.path.join(tmp, "even.gguf")
    make_uneven(model, uneven)
    run("-m", uneven, "--only", "keys", "--tokens", "600", "--no-proof", "-o", even)
    old, new = tensors(uneven), tensors(even)
    changed = {n for n, t in new.items() if not np.array_equal(t.data, old[n].data)}
    assert changed and all("attn_q" in n or "attn_k" in n for n in changed), changed
    for n in changed:
        scale = new[n].data / old[n].data
        assert np.all((np.frexp(np.abs(scale))[0] == 0.5) & (scale > 0)), n
    a, b = logits(model, os.path.join(tmp, "a.raw")), logits(even, os.path.join(tmp, "b.raw"))
    assert a == b and len(a) > 8 * 512


def check_together(model, tmp):
    """What would be passed over in silence, or destroy the original, is refused."""
    copy = os.path.join(tmp, "copy.gguf")
    shutil.copy(model, copy)
    os.symlink("copy.gguf", os.path.join(tmp, "link.gguf"))
    for name in ("copy.gguf", "link.gguf"):
        refused("the model itself", "-m", copy, "-o", os.path.join(tmp, name), "--force", code=2)
    assert open(copy, "rb").read() == open(model, "rb").read()
    for words, *args in (("no type 'bogus'", "--sweep", "q4_0,bogus"),
                         ("leave the budget out", "--sweep", "q4_0", "--bpw", "5"),
                         ("leave one out", "--type", "q4_0", "--size", "1M"), ("--dry-run", "--dry-run", "--bpw", "5"),
                         ("--no-proof", "--no-proof", "--bpw", "5"), ("--method rtn", "--bits", "3"),
                         ("--type q8_0", "--method", "rtn", "--bits", "8"),
                         ("learn", "--method", "plain", "--sequential"),
                         ("--calibrate", "--imatrix", model, "--calibrate", model),
                         ("--balance-keys", "--only", "keys", "--type", "q4_0"),
                         ("--low-rank", "--sweep", "q4_0", "--low-rank", "4"),
                         ("the first and the last layer stay", "--prune", "layers=5")):
        refused(words, "-m", model, "-o", os.path.join(tmp, "no.gguf"), *args, code=2)
    assert not os.path.exists(os.path.join(tmp, "no.gguf"))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        model = os.path.join(tmp, "stories.gguf")
        subprocess.run([sys.executable, os.path.join(root, "tools", "make-model"), "stories", weights, tokens, model],
                       check=True, stdout=subprocess.DEVNULL)
        check_methods(model, tmp, tensors(model))
        check_words(model, tmp)
        check_budgets(model, tmp)
        if not sanitized: check_prices(model, tmp)
        check_statistics(model, tmp)
        check_packed(model, tmp)
        check_caches(model, tmp)
        check_reports(model, tmp)
        check_tasks(model, tmp)
        check_texts(model, tmp)
        check_sources(model, tmp)
        check_interrupt(model, tmp)
        check_proof_alone(model, tmp)
        check_keys(model, tmp)
        check_together(model, tmp)
    print("stretto squeeze: files, tables, texts and interrupts are right")


main()
