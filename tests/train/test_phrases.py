"""Phrases (stretto teach --phrases) from end to end, on two models of some 100,000 parameters, one with letters of
bytes (BPE) and one of SentencePiece:

    test_phrases.py STRETTO MAKE_MODEL WEIGHTS TOKENS FAULT_CHECK

What is learned says the same as before, text is tokenised as before, files are read by others, and what a phrased model
writes streams as any text does."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import gguf
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bytes_model import make_bytes  # noqa: E402
stretto, make_model, weights, tokens, fault_check = sys.argv[1:6]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
folder = tempfile.mkdtemp()
at = lambda *names: os.path.join(folder, *names)
BYTES, STORIES, DATA = at("bytes.gguf"), at("stories.gguf"), at("data.jsonl")
PER = "\u00e9\u20ac"                      # two and three bytes


def with_other_words(path):
    """A vocabulary of the same size in which a blank and another letter are exchanged, elsewhere the same."""
    out, bytes_ = at("words.gguf"), bytearray(open(path, "rb").read())
    one = lambda c: bytes_.find(b"\x02\0\0\0\0\0\0\0" + c.encode(), bytes_.find(b"tokenizer.ggml.tokens")) + 8
    a, b = one("\u0120"), one("\u0121")
    bytes_[a:a + 2], bytes_[b:b + 2] = "\u0121".encode(), "\u0120".encode()
    open(out, "wb").write(bytes_)
    return out


make_bytes(BYTES)
make_bytes(at("eights.gguf"), "Q8_0")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, STORIES], check=True, capture_output=True)


def write(name, lines):
    with open(at(name), "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
    return at(name)


ASKED = [{"messages": [{"role": "user", "content": f"q{i % 4}"},
                       {"role": "assistant", "content": f"SELECT a{i % 4} FROM the {PER} x{i % 4}"}], "group": i % 20}
         for i in range(60)]
TOLD = [{"prompt": f"Lily had {i % 7} red balls.", "completion": f" She gave {i % 7} balls to Tom. The end."}
        for i in range(40)]
write("data.jsonl", ASKED)
write("told.jsonl", TOLD)


def call(*args, code=0, **more):
    done = subprocess.run([stretto, *map(str, args)], capture_output=True, timeout=300, **more)
    assert done.returncode == code, (args, done.returncode, done.stderr.decode(errors="replace"))
    return (done.stderr if code else done.stdout).decode(errors="replace")


def teach(out, *more, model=BYTES, data=DATA, **how):
    return call("teach", "-m", model, "-d", data, "-q", "-o", at(out), "--hold-out", "0", "--method", "full", *more,
                **how)


def samples(model, data, *more):
    """What --show prints: ids, and which of them are learned, of every line."""
    shown = call("teach", "-m", model, "-d", data, "--hold-out", "0", "-q", "--method", "full", *more, "--show", 1000)
    out = []
    for line in shown.splitlines():
        if re.search(r"line \d+: \d+ tokens", line):
            out.append([])
        elif out and (m := re.match(r" +\d+ +(\d+) (.{0,12}?) *'", line)):
            out[-1].append(int(m[1]))
    return out


def keys(path):
    return {k: f.contents() for k, f in gguf.GGUFReader(path).fields.items()}


def phrases_of(path):
    k = keys(path)
    pieces, first, out = list(k["stretto.phrases.pieces"]), k["stretto.phrases.first"], {}
    for i, n in enumerate(k["stretto.phrases.lengths"]):
        out[first + i], pieces = pieces[:n], pieces[n:]
    assert not pieces
    return out


def decode(model, ids):
    return call("tokenize", "-m", model, "--decode", input=json.dumps(ids).encode())


def encode(model, text):
    return json.loads(call("tokenize", "-m", model, "--json", input=text.encode()))


def test_none_is_as_if_nobody_had_asked():
    teach("plain", "--steps", 1)
    teach("none", "--steps", 1, "--phrases", 0)
    assert open(at("plain", "model.gguf"), "rb").read() == open(at("none", "model.gguf"), "rb").read()


def test_what_is_learned_says_the_same():
    for name, model, data in (("b", BYTES, DATA), ("s", STORIES, at("told.jsonl"))):
        teach(name, "--epochs", 12, "--rows", 256, "--lr", 1e-2, "--phrases", 12, model=model, data=data)
        phrased, made = at(name, "model.gguf"), phrases_of(at(name, "model.gguf"))
        plain, joined = samples(model, data), samples(model, data, "--phrases", 12)
        assert joined == samples(phrased, data), "the file's phrases are those that were learned"
        split = [[p for i in line for p in made.get(i, [i])] for line in joined]
        assert split == plain and sum(map(len, joined)) < 0.8 * sum(map(len, plain))
        used = {i for line in joined for i in line}
        assert used & set(made)
        # Not all of them: a tenth of the lines, and there every second phrase.
        assert any(i not in made and line.count(i) for line in joined for i in line)
        for line in joined[:20]:
            assert decode(phrased, line) == decode(model, [p for i in line for p in made.get(i, [i])])
        special = {i for i, t in enumerate(keys(model)["tokenizer.ggml.token_type"]) if t in (2, 3, 4)}
        assert not special & {p for pieces in made.values() for p in pieces}


def test_text_is_tokenised_as_before():
    texts = [f"SELECT a1 FROM the {PER} x1", "Lily had 3 red balls. She gave 3 balls to Tom. The end.", " the  the",
             PER]
    for name, model in (("b", BYTES), ("s", STORIES)):
        for text in texts:
            assert encode(at(name, "model.gguf"), text) == encode(model, text), text


def test_rows_begin_as_means_of_their_pieces():
    call("teach", "-m", BYTES, "-d", DATA, "-q", "-o", at("mean"), "--hold-out", 0, "--method", "full", "--steps", 1,
         "--phrases", 8, "--lr", 1e-10)
    table = {t.name: np.array(t.data) for t in gguf.GGUFReader(at("mean", "model.gguf")).tensors}["token_embd.weight"]
    before = {t.name: np.array(t.data) for t in gguf.GGUFReader(BYTES).tensors}["token_embd.weight"]
    made = phrases_of(at("mean", "model.gguf"))
    assert len(table) == len(before) + len(made)
    for i, pieces in made.items():
        assert np.abs(table[i] - before[pieces].mean(0)).max() < 1e-6
    k = keys(at("mean", "model.gguf"))
    assert len(k["tokenizer.ggml.tokens"]) == len(k["tokenizer.ggml.token_type"]) == k["llama.vocab_size"] == len(table)
    assert len(k["tokenizer.ggml.merges"]) == len(keys(BYTES)["tokenizer.ggml.merges"])


def tensors(path):
    return {t.name: gguf.quants.dequantize(np.array(t.data), t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def table_of(path):
    return tensors(path)["token_embd.weight"]


def lora(out, *more, model=BYTES, data=DATA, code=0):
    return call("teach", "-m", model, "-d", data, "-q", "-o", at(out), "--hold-out", "0", "--rows", 256, *more,
                code=code)


def test_an_adapter_learns_rows_beside_a_frozen_table():
    """The same gradients as where all is trained: one step of AdamW makes of the means what it makes there."""
    for name, model, data in (("b", BYTES, DATA), ("s", STORIES, at("told.jsonl")), ("e", at("eights.gguf"), DATA)):
        how = ["--steps", 1, "--clip", 0, "--lr", 1e-3, "--phrases", 8]
        teach(name + "_all", "--rows", 256, "--save-f32", *how, model=model, data=data)
        lora(name + "_rows", *how, model=model, data=data)
        table, mean = table_of(at(name + "_all", "model.f32.gguf")), table_of(model)
        rows = tensors(at(name + "_rows", "adapter.gguf"))["token_embd.weight.rows"]
        n = len(rows)
        pieces = phrases_of(at(name + "_all", "model.gguf"))
        assert len(pieces) == n and len(table) == len(mean) + n
        mean = np.array([mean[p].mean(0) for p in pieces.values()])
        moved = np.abs(rows - mean)
        assert np.median(moved) > 5e-4, np.median(moved)
        # Steps of AdamW are all of the rate's size: where they differ, the sign of a gradient near nothing does.
        agree = (np.abs(rows - table[-n:]) < (1e-4 if name == "e" else 1e-5)).mean()
        assert agree > (0.95 if name == "e" else 0.999), (name, agree)


def with_a_head(model):
    """The same, its head no longer the table of embeddings."""
    w, r = gguf.GGUFWriter(at("head.gguf"), "llama"), gguf.GGUFReader(model)
    for k, f in r.fields.items():
        if not k.startswith("GGUF.") and k != "general.architecture":
            w.add_key_value(k, f.contents(), f.types[0], f.types[1] if len(f.types) > 1 else None)
    for t in r.tensors:
        for name in [t.name] + ["output.weight"] * (t.name == "token_embd.weight"):
            w.add_tensor(name, np.array(t.data))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file()
    w.close()
    return at("head.gguf")


def test_an_adapter_brings_its_phrases_along():
    lora("lo", "--epochs", 20, "--lr", 2e-2, "--rank", 16, "--phrases", 12)
    adapter = at("lo", "adapter.gguf")
    made = list(keys(adapter)["stretto.phrases.lengths"])
    assert not os.path.exists(at("lo", "peft")) and made
    first = len(keys(BYTES)["tokenizer.ggml.tokens"])
    r = json.loads(run(BYTES, *CHAT, "-n", 30, "--json", "--lora", adapter))
    ids = r["ids"]
    assert re.fullmatch(f"SELECT a[0-3] FROM the {PER} x[0-3]", r["text"].strip()), r
    assert any(first <= i < first + len(made) for i in ids), ids
    assert all(i < first for i in json.loads(run(BYTES, *CHAT, "-n", 30, "--json"))["ids"])
    assert "scaled" in call("run", "-m", BYTES, "--lora", adapter + "=0.5", "-p", "a", code=1)
    assert "other words" in call("run", "-m", STORIES, "--lora", adapter, "-p", "a", code=2)
    assert "some already" in call("run", "-m", at("b", "model.gguf"), "--lora", adapter, "-p", "a", code=2)
    said = call("run", "-m", with_other_words(BYTES), "--lora", adapter, "-p", "a", code=2)
    assert "for another model: its phrase '" in said and "other words" in said, said
    assert "no rows for output.weight" in call("run", "-m", with_a_head(BYTES), "--lora", adapter, "-p", "a", code=2)
    # What was cut off goes on with the same bytes.
    lora("lo2", "--epochs", 20, "--lr", 2e-2, "--rank", 16, "--phrases", 12, "--save", 3, "-t", 1)
    assert open(at("lo2", "adapter.gguf"), "rb").read() == open(adapter, "rb").read()
    steps = sorted(f for f in os.listdir(at("lo2")) if f.startswith("step-"))
    os.remove(at("lo2", "adapter.gguf"))
    os.remove(at("lo2", steps[-1]))
    call("teach", "--resume", "-q", "-o", at("lo2"))
    assert open(at("lo2", "adapter.gguf"), "rb").read() == open(adapter, "rb").read()


def run(model, *more):
    return call("run", "-m", model, "--temp", 0, *more)


CHAT = ["--chat", "-p", "q2"]


def test_what_it_writes_streams():
    model = at("b", "model.gguf")
    made = phrases_of(model)
    r = json.loads(run(model, *CHAT, "-n", 30, "--json"))
    want, ids = r["text"].strip(), r["ids"]
    assert re.fullmatch(f"SELECT a[0-3] FROM the {PER} x[0-3]", want), r
    assert any(i in made for i in ids), ids
    assert run(model, *CHAT, "-n", 30).strip() == want
    # Tokens are counted, not pieces; a piece of a character waits for the rest.
    for n in range(1, len(ids)):
        part = json.loads(run(model, *CHAT, "-n", n, "--json"))
        assert part["ids"][:n] == ids[:n]
        assert want.startswith(part["text"].rstrip("\ufffd"))
    # Strings that end it lie inside of a phrase, or reach over one's end.
    for stop in ("ECT", "ROM the", PER[1], "FROM"):
        assert run(model, *CHAT, "-n", 30, "-r", stop).rstrip("\n") == want[:want.index(stop)].rstrip("\n"), stop
    # Whoever forbids the phrase's token gets the other spelling, or another text: never the token.
    phrase = next(i for i in ids if i in made)
    other = json.loads(run(model, *CHAT, "-n", 30, "--json", "-l", f"{phrase}-100"))
    assert phrase not in other["ids"]
    for how in ("lookup", "suffix", "jacobi", "recycle", "lookahead", "auto"):
        assert run(model, *CHAT, "-n", 30, "--decode", how) == run(model, *CHAT, "-n", 30, "--decode", "plain"), how
    said = run(model, "-p", "Lily had 4 red balls.", "-n", 8)
    assert said == run(model, "-p", "Lily had 4 red balls.", "-n", 8, "--decode", "lookup")


def test_llama_cpp_says_the_same():
    peer = os.path.join(os.path.dirname(make_model), "..", "build", "peers", "llama.cpp", "bin", "llama-server")
    if not os.path.exists(peer):
        print("llama.cpp is not here (./dev peers --get)")
        return
    for name, model, data in (("b", BYTES, DATA), ("s", STORIES, at("told.jsonl"))):
        port = 18000 + os.getpid() % 2000
        server = subprocess.Popen([peer, "-m", at(name, "model.gguf"), "--port", str(port), "-t", "1", "-c", "256"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ask(path, body):
            url = f"http://127.0.0.1:{port}{path}"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=60) as f:
                return json.load(f)
        try:
            for _ in range(600):
                try:
                    ask("/tokenize", {"content": "a"})
                    break
                except OSError:
                    assert server.poll() is None, "llama-server does not open a phrased file"
                    time.sleep(0.1)
            for line in samples(at(name, "model.gguf"), data)[:10]:
                theirs = ask("/detokenize", {"tokens": line})["content"]
                assert theirs.strip() == decode(at(name, "model.gguf"), line).strip()
                if name == "b":            # SentencePiece merges whatever its vocabulary has (docs/consistency.md)
                    assert ask("/tokenize", {"content": theirs, "parse_special": True})["tokens"] == \
                        encode(BYTES, theirs)
        finally:
            server.kill()
            server.wait()


def test_a_conversation_goes_on_where_it_was():
    """What the model wrote is known when it comes back as text."""
    port = 20000 + os.getpid() % 2000
    server = subprocess.Popen([stretto, "serve", "-m", at("b", "model.gguf"), "--port", str(port), "-t", "1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(messages, **more):
        body = {"messages": messages, "temperature": 0, "max_tokens": 30, **more}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(),
                                                           {"Content-Type": "application/json"}), timeout=60) as f:
            return json.load(f)
    try:
        asked = [{"role": "user", "content": "q1"}]
        for _ in range(600):
            try:
                first = ask(asked)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        said = first["choices"][0]["message"]["content"]
        assert said.startswith("SELECT a"), first
        more = asked + [{"role": "assistant", "content": said}, {"role": "user", "content": "q3"}]
        then = ask(more)
        known = then["usage"]["prompt_tokens_details"]["cached_tokens"]
        read, wrote = first["usage"]["prompt_tokens"], first["usage"]["completion_tokens"]
        assert wrote < 12 and known >= read + wrote - 1, (first, then)
        # Words of the user that look like an answer are not spelled with phrases.
        user = ask([{"role": "user", "content": said}])["usage"]["prompt_tokens"]
        assert user > wrote + 20, (user, wrote)
        # Log probabilities have the bytes of whole phrases.
        told = ask(asked, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        text = b"".join(bytes(t["bytes"]) for t in told)
        assert text.decode().startswith(said) and any(len(t["bytes"]) > 8 for t in told), told
    finally:
        server.kill()
        server.wait()


def changed(name, key, change):
    """A copy of the phrased file in which the numbers of an array are others."""
    shutil.copy(at("b", "model.gguf"), at(name))
    r = gguf.GGUFReader(at(name), "r+")
    f = r.fields[key]
    for i in f.data:
        f.parts[i][:] = change(f.parts[i])
    for t in r.tensors:
        t.data.flush()
        break
    return at(name)


def test_what_is_refused():
    phrased = at("b", "model.gguf")
    assert "already" in teach("x1", "--phrases", 4, model=phrased, code=2)
    assert "65536" in teach("x2", "--phrases", 1000000, code=2)
    few = write("few.jsonl", ASKED[:9])
    assert "10 groups" in teach("x3", "--phrases", 4, data=few, code=1)
    done = subprocess.run([stretto, "teach", "-m", BYTES, "-d", DATA, "--phrases", "500", "--show", "1",
                           "--method", "full"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"\d+ phrases were found, and 500 asked for", done.stderr), done.stderr
    for key, change in (("stretto.phrases.first", lambda v: v - 1), ("stretto.phrases.lengths", lambda v: v + 1),
                        ("stretto.phrases.pieces", lambda v: v + 1), ("stretto.phrases.pieces", lambda v: v + 100000),
                        ("stretto.phrases.version", lambda v: v + 1)):
        path = changed("bad.gguf", key, change)
        said = call("run", "-m", path, "-p", "a", "-n", 1, code=1)
        assert "phrase" in said, (key, said)
    # A text that spells a control token is no phrase.
    text = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x<|im_start|>y" * 3}]}
            for _ in range(30)]
    shown = call("teach", "-m", BYTES, "-d", write("spelled.jsonl", text), "--phrases", 64, "--show", 1,
                 "--hold-out", 0, "--method", "full")
    table = shown.split("phrases:")[0]
    assert "|>" in table and "<|im_start|>" not in table, table


def test_a_heap_that_fails_is_told():
    os.mkdir(at("faults"))
    few = write("faults.jsonl", ASKED[:30])
    for method in ("lora", "full"):
        done = subprocess.run([fault_check, BYTES, few, at("faults"), method, "8"], capture_output=True, text=True)
        print(done.stdout.strip())
        assert done.returncode == 0, done.stderr


def test_it_goes_on():
    """A phrased model learns with the phrases it has; and what was cut off has the same bytes."""
    phrased = at("b", "model.gguf")
    teach("more", "--steps", 1, model=phrased)
    assert phrases_of(at("more", "model.gguf")) == phrases_of(phrased)
    how = ["--phrases", 12, "--rows", 256, "--epochs", 4, "--save", 1]
    teach("whole", *how)
    r = subprocess.Popen([stretto, "teach", "-m", BYTES, "-d", DATA, "-q", "-o", at("cut"), "--hold-out", "0",
                          "--method", "full", *map(str, how)])
    for _ in range(2000):
        there = os.listdir(at("cut")) if os.path.exists(at("cut")) else []
        if r.poll() is not None or any(n.startswith("step-") and n.endswith("tensors") for n in there):
            break
        time.sleep(0.005)
    r.kill()
    r.wait()
    call("teach", "--resume", "-q", "-o", at("cut"))
    assert open(at("cut", "model.gguf"), "rb").read() == open(at("whole", "model.gguf"), "rb").read()


try:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            begin = time.time()
            test()
            print(f"{name}: {time.time() - begin:.1f} s")
finally:
    shutil.rmtree(folder, ignore_errors=True)
