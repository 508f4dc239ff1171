"""Several adapters behind one server: test_adapters.py STRETTO-SERVE DATA

Requests choose one by the model's name (MODEL:NAME), in every API, or by llama.cpp's "lora"; 200 mixed requests must
get the same bits 32 at once as alone; texts share pages with those of the same adapter alone, and one that acts on
answers shares its prompts with the base, after a restart from files too."""
import concurrent.futures
import json
import os
import shutil
import sys
import tempfile
import gguf
import numpy as np
import served
from served import Server

program, data = sys.argv[1:3]
WORDS = ["Once upon a time", "The dog", "Tim and Sue went to", "A big red ball", "She said", "One day the sun"]
LONG = "Once upon a time there was a little girl who liked to play in the park with her dog. " * 6


def write(path, model, seed, rank=4, rows=None, phrases=(), size=0.3):
    """phrases: a number for each, from which its row is drawn."""
    reader, draw = gguf.GGUFReader(model), np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, "llama")
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 2 * rank)
    if rows:
        w.add_string("stretto.adapter.rows", rows)
    if phrases:
        w.add_uint32("stretto.phrases.version", 1)
        tokens = reader.fields["tokenizer.ggml.tokens"].contents()
        pieces = [(300 + i, 301) for i in range(len(phrases))]
        for key, v in (("lengths", [2] * len(phrases)), ("pieces", [t for two in pieces for t in two]),
                       ("texts", [tokens[a] + tokens[b] for a, b in pieces])):
            w.add_array("stretto.phrases." + key, v)
        width = int(next(t for t in reader.tensors if t.name == "token_embd.weight").shape[0])
        w.add_tensor("token_embd.weight.rows", np.array([np.random.default_rng(p).normal(0, 1, width) for p in phrases],
                                                        "f4"))
    for t in reader.tensors:
        if t.name.startswith("blk.") and len(t.shape) == 2:
            n_in, n_out = (int(n) for n in t.shape)
            w.add_tensor(t.name + ".lora_a", draw.normal(0, n_in ** -0.5, (rank, n_in)).astype("f4"))
            w.add_tensor(t.name + ".lora_b", draw.normal(0, size * rank ** -0.5, (n_out, rank)).astype("f4"))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def ask(s, model, prompt, path="/v1/completions", **more):
    code, _, j = s.post(path, {"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0, **more})
    assert code == 200, j
    return j


def words(s, model, prompt, **more):
    j = ask(s, model, prompt, **more)
    assert j["model"] == model, j["model"]
    return j["choices"][0]["text"]


def check_names(s):
    names = [m["id"] for m in s.get("/v1/models")[2]["data"]]
    assert names == ["stories"] + [f"stories:{k}" for k in "abcd"], names
    assert s.get("/v1/models/stories:b")[2]["parent"] == "stories"
    assert [m["name"] for m in s.get("/api/tags")[2]["models"]] == names
    code, _, j = s.post("/v1/completions", {"model": "stories:e", "prompt": "x"})
    assert code == 404 and "stories:a" in j["error"]["message"], j
    said = {m: words(s, m, "Once upon a time") for m in names}
    assert len(set(said.values())) == 5, said
    return said


def check_apis(s, said):
    """The same text by every API, and by the adapter's own name."""
    body = {"model": "stories:b", "prompt": "Once upon a time", "temperature": 0}
    assert s.post("/completion", {**body, "n_predict": 24})[2]["content"] == said["stories:b"]
    r = s.post("/api/generate", {"model": "stories:b", "prompt": "Once upon a time", "raw": True, "stream": False,
                                 "options": {"temperature": 0, "num_predict": 24}})[2]
    assert r["response"] == said["stories:b"] and r["model"] == "stories:b", r
    for name, meant in (("b", "stories:b"), ("stories:latest", "stories")):
        j = s.post("/v1/completions", {**body, "model": name, "max_tokens": 24})[2]
        assert j["choices"][0]["text"] == said[meant] and j["model"] == meant, j
    chat = [{"role": "user", "content": "Tell me a story"}]
    each = []
    for m in ("stories", "stories:b"):
        a = s.post("/v1/chat/completions", {"model": m, "messages": chat, "max_tokens": 12, "temperature": 0})[2]
        b = s.post("/v1/messages", {"model": m, "messages": chat, "max_tokens": 12, "temperature": 0})[2]
        c = s.post("/v1/responses", {"model": m, "input": chat, "max_output_tokens": 12, "temperature": 0})[2]
        d = s.post("/api/chat", {"model": m, "messages": chat, "stream": False,
                                 "options": {"temperature": 0, "num_predict": 12}})[2]
        texts = {a["choices"][0]["message"]["content"], b["content"][0]["text"],
                 c["output"][-1]["content"][0]["text"], d["message"]["content"]}
        assert len(texts) == 1 and {a["model"], b["model"], c["model"], d["model"]} == {m}, texts
        each += texts
    assert each[0] != each[1], each


def check_lora(s, said):
    listed = s.get("/lora-adapters")[2]
    assert [(a["id"], a["name"], a["scale"], a["rows"]) for a in listed] == [(i, "abcd"[i], 0, "all") for i in range(4)]
    assert all(os.path.isfile(a["path"]) for a in listed)
    go = {"prompt": "Once upon a time", "temperature": 0, "n_predict": 24}
    assert s.post("/completion", {**go, "lora": [{"id": 1, "scale": 1}]})[2]["content"] == said["stories:b"]
    assert s.post("/completion", {**go, "lora": [{"id": 1, "scale": 0}]})[2]["content"] == said["stories"]
    assert s.post("/completion", {**go, "lora": []})[2]["content"] == said["stories"]
    half = s.post("/completion", {**go, "lora": [{"id": 1, "scale": 0.5}, {"id": 2, "scale": 0.7}]})[2]["content"]
    assert half not in said.values(), half
    for bad, why in (({"id": 1, "scale": 1}, "must be a list"), ([{"id": 9, "scale": 1}], "none has the id 9"),
                     ([{"id": 1}], "must be a list"), ([{"id": 1, "scale": 1001}], "from -1000 to 1000"),
                     ([{"id": 1, "scale": 1}, {"id": 1, "scale": 0}], "twice"), ([3], "must be")):
        code, _, j = s.post("/completion", {**go, "lora": bad})
        assert code == 400 and why in j["error"]["message"], (bad, j)
        if isinstance(bad, list):
            assert s.post("/lora-adapters", bad)[0] == 400
    assert s.post("/lora-adapters", [{"id": 1, "scale": 0.5}, {"id": 2, "scale": 0.7}])[2] == {"success": True}
    assert [a["scale"] for a in s.get("/lora-adapters")[2]][1] == 0.5
    assert s.post("/completion", go)[2]["content"] == half
    assert words(s, "stories:b", "Once upon a time") == said["stories:b"]
    last = s.lines(1, lambda x: " read " in x and "stories:b" in x)[-1]
    assert " 200 stories:b read " in last, last
    assert s.lines(2, lambda x: " 200 stories lora 1=0.5 and 2=0.7 read " in x)
    s.post("/lora-adapters", [])
    assert s.post("/completion", go)[2]["content"] == said["stories"]
    code, _, j = s.post("/completion", {**go, "lora": [{"id": i, "scale": 1000} for i in range(4)]})
    assert code == 200 or (code == 400 and "take smaller" in j["error"]["message"]), j


def check_overflow(model, folder):
    """Scales that make numbers overflow are the request's fault, and nobody else's."""
    huge = write(os.path.join(folder, "huge.gguf"), model, 9, size=3e4)
    with Server(program, model, "--lora", f"huge={huge}") as s:
        go = {"prompt": LONG, "temperature": 0, "n_predict": 4}
        good = s.post("/completion", go)[2]["content"]
        for stream in (False, True):
            code, _, j = s.post("/completion", {**go, "lora": [{"id": 0, "scale": 1000}], "stream": stream})
            assert code == (200 if stream else 400) and "take smaller" in str(j), (code, j)
        assert s.post("/completion", go)[2]["content"] == good


def requests(n):
    models = ["stories"] + [f"stories:{k}" for k in "abcd"]
    for i in range(n):
        yield {"model": models[i % 5], "prompt": (LONG[:40 * (i % 9)] if i % 2 else "") + WORDS[i % 6],
               "max_tokens": 8 + i % 13, "temperature": 0 if i % 3 else 1, "seed": i, "logprobs": 1}


def check_load(s, n=200):
    """A request gets the same tokens and the same probabilities, whoever else is there."""
    def one(r):
        code, _, j = s.post("/v1/completions", r)
        assert code == 200, j
        c = j["choices"][0]
        return c["text"], c["logprobs"]["token_logprobs"]
    alone = [one(r) for r in requests(n)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(one, requests(n)))
    differ = [i for i in range(n) if alone[i] != together[i]]
    assert not differ, (len(differ), [(alone[i], together[i]) for i in differ[:2]])
    assert len({a[0] for a in alone}) > n // 3


def cached(s, model, prompt):
    return ask(s, model, prompt)["usage"]["prompt_tokens_details"]["cached_tokens"]


def check_pages(s):
    """Of the same adapter alone, also with other weights."""
    tokens = ask(s, "stories:a", LONG)["usage"]["prompt_tokens"]
    assert tokens > 100
    assert cached(s, "stories:b", LONG) == 0 and cached(s, "stories", LONG) == 0
    assert cached(s, "stories:a", LONG) >= tokens - 2 and cached(s, "stories:b", LONG) >= tokens - 2
    go = {"prompt": LONG, "temperature": 0, "n_predict": 2}
    assert s.post("/completion", {**go, "lora": [{"id": 0, "scale": 0.5}]})[2]["timings"]["cache_n"] == 0
    assert s.post("/completion", {**go, "lora": [{"id": 0, "scale": 1}]})[2]["timings"]["cache_n"] >= tokens - 2


def check_answers(s):
    """What acts on answers reads prompts as the base does."""
    tokens = ask(s, "stories", LONG)["usage"]["prompt_tokens"]
    assert cached(s, "stories:late", LONG) >= tokens - 2
    assert words(s, "stories:late", LONG) != words(s, "stories", LONG)
    assert cached(s, "stories:early", LONG) == 0
    assert s.get("/lora-adapters")[2][0]["rows"] == "answers"
    text = {"input": "Once upon a time"}
    base = s.post("/v1/embeddings", text)[2]["data"]
    for more in ({"model": "stories:late"}, {"lora": [{"id": 0, "scale": 1}]}):
        code, _, j = s.post("/v1/embeddings", {**text, **more})
        assert code == 400 and "acts on answers alone" in j["error"]["message"], (code, j)
    assert s.post("/v1/embeddings", {**text, "model": "stories:early"})[2]["data"] != base
    s.post("/lora-adapters", [{"id": 0, "scale": 1}])
    assert s.post("/v1/embeddings", text)[2]["data"] == base, "there is no answer"
    s.post("/lora-adapters", [])


def check_guesses(model, path):
    """What acts on guesses alone changes no text, whoever else is there; its pages are everybody's."""
    with Server(program, model, "--lora", f"guesses={path}", "--parallel", "8") as s:
        tokens = ask(s, "stories", LONG)["usage"]["prompt_tokens"]
        assert cached(s, "stories:guesses", LONG) >= tokens - 2
        assert s.get("/lora-adapters")[2][0]["rows"] == "guesses"
        ways = [(w, t) for w in WORDS for t in (0, 1)]
        say = lambda m, w: words(s, m, w[0], temperature=w[1], seed=7)
        base = [say("stories", w) for w in ways]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda w: say("stories:guesses", w), ways)) == base
    with Server(program, model, "--lora", f"guesses={path}", "--decode", "gated") as s:
        assert [words(s, "stories:guesses", w) for w in WORDS] == base[::2]
        go = {"prompt": WORDS[0], "temperature": 0, "n_predict": 24, "lora": [{"id": 0, "scale": 1}]}
        assert s.post("/completion", go)[2]["timings"]["draft_n"] > 0
        assert s.post("/completion", {**go, "lora": []})[2]["timings"].get("draft_n", 0) == 0
        code, _, j = s.post("/v1/embeddings", {"input": "Once", "model": "stories:guesses"})
        assert code == 400 and "acts on guesses alone" in j["error"]["message"], (code, j)
    code, told = refused(model, "--lora", f"guesses={path}", "--decode", "lookup")
    assert code and "acts on guesses alone" in told, (code, told)


def check_saved(s):
    """A saved text is restored with the adapters that acted on it, and one that cannot be costs the slot nothing."""
    go = {"prompt": LONG, "temperature": 0, "n_predict": 2, "id_slot": 0}
    other, half = {"lora": [{"id": 1, "scale": 1}]}, {"lora": [{"id": 0, "scale": 0.5}]}

    def act(action, **more):
        return s.post(f"/slots/0?action={action}", {"filename": "half", **more})
    assert s.post("/completion", {**go, **half})[0] == 200
    code, _, j = act("save")
    assert code == 200 and j["n_saved"] > 100, j
    assert act("erase")[0] == 200 and s.post("/completion", {**go, **other})[0] == 200
    for wrong in ({}, other, {"model": "stories:a"}):
        code, _, j = act("restore", **wrong)
        assert code == 400 and "other adapters" in j["error"]["message"], j
    assert act("restore", lora=[{"id": 9, "scale": 1}])[0] == 400 and act("restore", lora=3)[0] == 400
    assert s.post("/slots/0?action=save", {"filename": "other"})[0] == 200, "what could not be restored is lost"
    code, head, j = act("restore", **half)
    assert code == 200 and "x-stretto-ignored" not in head and j["n_restored"] > 100, j
    assert s.post("/completion", {**go, **half})[2]["timings"]["cache_n"] > 100
    assert s.post("/completion", {**go, "lora": [{"id": 0, "scale": 0.25}]})[2]["timings"]["cache_n"] == 0


def refused(model, *args):
    s = Server(program, model, *args, wait=False)
    code = s.process.wait(60)
    return code, s.words()


def check_restart(model, folder, adapters):
    """Pages on disk are the adapter's, whatever number it has."""
    disk = os.path.join(folder, "disk")
    said, tokens = [], 0
    for order in ("ab", "ba"):
        args = [w for k in order for w in ("--lora", f"{k}={adapters[k]}")]
        with Server(program, model, *args, "--cache-disk", disk) as s:
            known = [cached(s, m, LONG) for m in ("stories:a", "stories")]
            said.append(words(s, "stories:a", LONG + "The"))
            if order == "ba":
                assert known[0] >= tokens // 64 * 64 - 64 and known[1] >= tokens // 64 * 64 - 64, (known, tokens)
                assert cached(s, "stories:b", LONG) == 0
            else:
                assert known == [0, 0], known
                for m in ("stories:a", "stories"):
                    tokens = ask(s, m, LONG)["usage"]["prompt_tokens"]
                    ask(s, m, LONG)
    assert said[0] == said[1], said


def check_phrases(model, folder):
    """An adapter that brings tokens acts on all; its pages are no other's, whose first row alone is another."""
    disk = os.path.join(folder, "phrased")
    paths = [write(os.path.join(folder, f"phrases{i}.gguf"), model, 5, phrases=[i, *range(2, 60)]) for i in range(2)]
    body = {"prompt": [512, 300, 301] * 50, "n_predict": 8, "temperature": 0, "n_probs": 1}

    def known(path, *args):
        with Server(program, model, "--lora", path, *args) as s:
            assert s.get("/lora-adapters")[2] == [] and len(s.get("/v1/models")[2]["data"]) == 1
            said = [s.post("/completion", body) for _ in range(3)]
            assert all(code == 200 for code, _, _ in said), said[0]
            assert s.post("/tokenize", {"content": "x"})[0] == 200
            j = said[0][2]
            return j["timings"]["cache_n"], [t["logprob"] for t in j["completion_probabilities"]]
    alone = [known(path)[1] for path in paths]
    assert alone[0] != alone[1]
    assert known(paths[1], "--sleep-idle-seconds", "60")[1] == alone[1]
    assert known(paths[0], "--cache-disk", disk) == (0, alone[0])
    assert known(paths[0], "--cache-disk", disk)[0] >= 64
    assert known(paths[1], "--cache-disk", disk) == (0, alone[1])
    for more in ((f"p={paths[0]}",), (paths[0], "--lora", f"a={os.path.join(folder, 'a.gguf')}"),
                 (paths[0], "--lora-init-without-apply")):
        code, told = refused(model, "--lora", *more)
        assert code == 2 and "give it alone" in told, (code, told)


with tempfile.TemporaryDirectory() as folder:
    model = served.model(data, folder)
    paths = {k: write(os.path.join(folder, k + ".gguf"), model, i) for i, k in enumerate("abcd")}
    with Server(program, model, *[w for k in "abcd" for w in ("--lora", f"{k}={paths[k]}")]) as server:
        said = check_names(server)
        check_apis(server, said)
        check_lora(server, said)
    for more in ((), ("--strict",)):
        with Server(program, model, "--parallel", "32", *more,
                    *[w for k in "abcd" for w in ("--lora", f"{k}={paths[k]}")]) as server:
            check_load(server)
    with Server(program, model, "--lora", f"a={paths['a']}", "--lora", f"b={paths['b']}", "--slot-save-path",
                os.path.join(folder, "saved")) as server:
        check_pages(server)
        check_saved(server)
    late, early = (write(os.path.join(folder, r + ".gguf"), model, 1, rows=r) for r in ("answers", "given"))
    with Server(program, model, "--lora", f"late={late}", "--lora", f"early={early}") as server:
        check_answers(server)
    check_guesses(model, write(os.path.join(folder, "guesses.gguf"), model, 1, rows="guesses", size=0.1))
    check_overflow(model, folder)
    check_restart(model, folder, paths)
    check_phrases(model, folder)
    # without names: on all requests, at their scale, as llama.cpp's server has it
    with Server(program, model, "--lora", paths["b"], "--lora", paths["c"] + "=0.25") as server:
        assert [a["scale"] for a in server.get("/lora-adapters")[2]] == [1, 0.25]
        go = {"prompt": "Once upon a time", "temperature": 0, "n_predict": 24}
        both = server.post("/completion", go)[2]["content"]
        one = server.post("/completion", {**go, "lora": [{"id": 0, "scale": 1}]})[2]["content"]
        assert one == said["stories:b"] != both
        assert len(server.get("/v1/models")[2]["data"]) == 1
    with Server(program, model, "--lora", f"a={paths['a']}", "--alias", "a") as server:
        assert words(server, "stories:a", "Once upon a time") == said["stories:a"]
        assert server.post("/v1/completions", {"model": "a", "prompt": "x", "max_tokens": 1})[2]["model"] == "stories"
        assert server.lines(1, lambda x: "a is a model's name and an adapter's" in x)
    odd = os.fsencode(os.path.join(folder, "odd")) + b"\xff.gguf"
    shutil.copy(paths["b"], odd)
    with Server(program, model, "--lora", b"a=" + odd, "--lora", f"b={paths['b']}") as server:
        assert [a["id"] for a in server.get("/lora-adapters")[2]] == [0, 1]
    with Server(program, model, "--lora", paths["b"], "--lora-init-without-apply") as server:
        assert server.post("/completion", go)[2]["content"] == said["stories"]
    for args, why in ((("--lora", f"a={paths['a']}", "--lora", f"a={paths['b']}"), "two adapters are called a"),
                      (("--lora", "a=" + os.path.join(folder, "none")), "there is no file"),
                      (("--lora", f"a={paths['a']}=x"), "not 'x'"), (("--lora", paths["a"] + "="), "not ''"),
                      (("--lora", f"a={paths['a']}", "--alias", "stories:a"), "both called stories:a"),
                      (("--alias", "other", "-m", f"other={folder}/plain.gguf"), "two models are called other"),
                      (("--lora", f"other:a={paths['a']}"), "no model called other"),
                      (("--lora", f"latest={paths['a']}"), "cannot be called"),
                      (("--lora", f"a={paths['a']}", "--arithmetic", "int"), "on the cpu alone"),
                      (("--lora", f"a={paths['a']}", "-m", "x=" + os.path.join(folder, "plain.gguf")), "which model")):
        code, told = refused(model, *args)
        assert code == 2 and why in told, (args, code, told)
print("adapters behind one server: names, weights, 200 requests 32 at once, pages, files")
