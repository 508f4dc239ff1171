"""Adapters that are taught, and act, on some rows alone: test_rows.py STRETTO MAKE_MODEL WEIGHTS TOKENS ROWS_CHECK

What a training measured of held-out lines is what the adapter costs where it runs, row by row (rows_check.c): so the
rows that learned are the rows that act. The file says which they are, as far as other formats have words for it; and
what an adapter was trained beside is compared when it is opened."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import gguf

stretto, make_model, weights, tokens, rows_check = sys.argv[1:6]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
holder = tempfile.TemporaryDirectory()
at = lambda *names: os.path.join(holder.name, *names)
MODEL, DATA, HELD = at("stories.gguf"), at("data.jsonl"), at("held.jsonl")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, MODEL], check=True, capture_output=True)


def line(i):
    """A prompt that ends with token 29, and an answer that follows from what stands in it."""
    return {"prompt": [1, 300 + i % 7, 310 + i % 5, 29], "answer": [320 + i % 7, 330 + i % 5, 300 + i % 7, 2]}


for path, some in ((DATA, range(35)), (HELD, range(35, 47))):
    with open(path, "w") as f:
        f.writelines(json.dumps(line(i)) + "\n" for i in some)


def call(*args, code=0):
    done = subprocess.run([stretto, "teach", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == code, (args, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


def teach(out, *more):
    call("-m", MODEL, "-d", DATA, "--valid", HELD, "--rows", "64", "--rank", "8", "--lr", "1e-2", "-t", "1", "--epochs",
         "6", "-q", "-o", at(out), *more)
    with open(at(out, "log.jsonl")) as f:
        held = [j["held"] for j in map(json.loads, f) if "held" in j]
    return held


def where_it_runs(adapter):
    lines = ""
    for j in map(line, range(35, 47)):
        ids = j["prompt"] + j["answer"]
        lines += f"{len(j['prompt'])} {len(ids)} {' '.join(map(str, ids))}\n"
    done = subprocess.run([rows_check, MODEL, adapter], input=lines, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    nats = [float(x) for x in done.stdout.split()]
    return sum(nats) / len(nats)


def fields(path):
    return {k: f.contents() for k, f in gguf.GGUFReader(path).fields.items()}


def as_rows(path, out, rows):
    """The same numbers for other rows."""
    reader = gguf.GGUFReader(path)
    w = gguf.GGUFWriter(out, "llama")
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", fields(path)["adapter.lora.alpha"])
    w.add_string("stretto.adapter.rows", rows)
    for t in reader.tensors:
        w.add_tensor(t.name, t.data)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return out


def test_what_learned_is_what_acts():
    for rows in ("all", "given", "answers"):
        held = teach(rows, "--rows-of", rows)
        assert held[-1] < held[0] - 0.5, (rows, held)
        adapter = at(rows, "adapter.gguf")
        here = where_it_runs(adapter)
        assert abs(here - held[-1]) < 2e-4 * held[-1] + 2e-5, (rows, here, held[-1])
        for other in ("all", "given", "answers"):
            if other != rows:
                there = where_it_runs(as_rows(adapter, at("other.gguf"), other))
                assert abs(there - here) > 0.01, (rows, other, there, here)
        print(f"rows of {rows}: held out {held[0]:.3f} -> {held[-1]:.3f}, where it runs {here:.3f}")


def test_what_files_say():
    f = fields(at("all", "adapter.gguf"))
    assert "stretto.adapter.rows" not in f and "adapter.alora.invocation_tokens" not in f
    f = fields(at("answers", "adapter.gguf"))
    assert f["stretto.adapter.rows"] == "answers" and f["adapter.alora.invocation_tokens"] == [29], f
    with open(at("answers", "peft", "adapter_config.json")) as j:
        assert json.load(j)["alora_invocation_tokens"] == [29]
    assert fields(at("given", "adapter.gguf"))["stretto.adapter.rows"] == "given"
    assert not os.path.exists(at("given", "peft"))


def test_alora():
    """As llama.cpp has it: from the tokens on that are named, and not at all where they are missing."""
    def alora(name, tokens):
        r, w = gguf.GGUFReader(at("answers", "adapter.gguf")), gguf.GGUFWriter(at(name), "llama")
        w.add_type("adapter")
        w.add_string("adapter.type", "lora")
        w.add_float32("adapter.lora.alpha", fields(at("answers", "adapter.gguf"))["adapter.lora.alpha"])
        w.add_key_value("adapter.alora.invocation_tokens", tokens, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
        for t in r.tensors:
            w.add_tensor(t.name, t.data)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return at(name)
    own = where_it_runs(at("answers", "adapter.gguf"))
    assert where_it_runs(alora("last.gguf", [29])) == own
    earlier = where_it_runs(alora("first.gguf", [1]))
    assert earlier != own and earlier == where_it_runs(as_rows(at("answers", "adapter.gguf"), at("x.gguf"), "all"))
    never = where_it_runs(alora("never.gguf", [29, 29]))
    assert never > own + 0.5, (never, own)
    peft = os.path.join(at("answers"), "peft")
    assert where_it_runs(peft) == own
    with open(os.path.join(peft, "adapter_config.json")) as f:
        config = json.load(f)
    for bad, words in (([], "1 to 64"), ("x", "1 to 64"), ([-1], "no token"), ([1.5], "no token"),
                       ([1] * 65, "1 to 64")):
        with open(os.path.join(peft, "adapter_config.json"), "w") as f:
            json.dump({**config, "alora_invocation_tokens": bad}, f)
        done = subprocess.run([rows_check, MODEL, peft], capture_output=True, text=True)
        assert done.returncode == 1 and words in done.stderr, (bad, done.stderr)
    done = subprocess.run([rows_check, MODEL, as_rows(at("answers", "adapter.gguf"), at("y.gguf"), "odd")],
                          capture_output=True, text=True)
    assert "'odd', which is not known" in done.stderr, done.stderr


def digest(*path):
    with open(at(*path), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_exact():
    """Threads, rows at once and what is kept change no bit; nor does an end in the middle."""
    teach("again", "--rows-of", "answers", "--rows-at-once", "16", "--keep", "layers", "--threads", "3")
    assert digest("again", "adapter.gguf") == digest("answers", "adapter.gguf")
    said = call("--resume", "-o", at("answers"), "--rows-of", "all", code=2)
    assert "--rows-of" in said, said


def test_refused():
    base = ["-m", MODEL, "-d", DATA, "-o", at("bad")]
    assert "belong to --method lora" in call(*base, "--method", "full", "--rows-of", "answers", code=2)
    assert "--rows-of" in call(*base, "--rows-of", "guesses", code=2)


def test_compared_when_opened():
    """Another template or other weights than those it learned with are told, once, and it runs."""
    other, template = at("other-base.gguf"), at("template.gguf")
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", MODEL, template, "--chat-template",
                    "{% for m in messages %}{{ m.content }}{% endfor %}", "--force"], check=True, capture_output=True)
    subprocess.run([stretto, "squeeze", "-m", MODEL, "--type", "q8_0", "--no-proof", "-o", other, "-q"], check=True,
                   capture_output=True)
    for model, words in ((MODEL, None), (template, "another chat template"), (other, "beside other weights")):
        done = subprocess.run([stretto, "run", "-m", model, "--lora", at("all", "adapter.gguf"), "-p", "Once", "-n",
                               "4"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr.count("was trained") == (words is not None), done.stderr
        assert not words or words in done.stderr, (words, done.stderr)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(name, "ok")
