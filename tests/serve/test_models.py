#!/usr/bin/env python3
"""Several models: weights that come and go, requests that wait for them and are never cut, names of one file, and the
memory of it all.

    test_models.py STRETTO-SERVE DATA"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import served
from served import Server

program, data = sys.argv[1:3]
NAMES = ("one", "two", "three")


def start(model, folder, *args, n=3, **more):
    paths = []
    for name in NAMES[:n]:                   # files of their own
        paths.append(os.path.join(folder, name + ".gguf"))
        if not os.path.exists(paths[-1]):
            shutil.copy(model, paths[-1])
    rest = [w for name, p in zip(NAMES[1:], paths[1:]) for w in ("-m", f"{name}={p}")]
    return Server(program, f"one={paths[0]}", *rest, *args, **more)


def ask(s, name, n=8, **more):
    code, head, j = s.post("/v1/completions", {"model": name, "prompt": "Once upon a time", "max_tokens": n,
                                               "temperature": 0, **more})
    assert code == 200, (name, code, j)
    return j["choices"][0]["text"], head.get("x-stretto-loading")


def status(s):
    return {m["id"]: m["status"]["value"] for m in s.get("/v1/models")[2]["data"]}


def figure(s, name):
    return next(float(x.split()[-1]) for x in s.get("/metrics")[2].decode().splitlines() if x.startswith(name + " "))


def check_turns(s):
    """Two at once: the third takes the place of the one that was asked for longest ago."""
    assert status(s) == {"one": "loaded", "two": "loaded", "three": "unloaded"}, status(s)
    words, waited = ask(s, "one")
    assert waited is None
    assert ask(s, "three") == (words, "three")
    assert status(s) == {"one": "loaded", "two": "unloaded", "three": "loaded"}, status(s)
    assert ask(s, "one") == (words, None) and ask(s, "two") == (words, "two")
    assert status(s)["three"] == "unloaded"
    # What needs no weights does not send for them.
    assert s.post("/tokenize", {"model": "three", "content": "Once"})[2]["tokens"]
    assert s.get("/props?model=three")[2]["is_sleeping"] is True and status(s)["three"] == "unloaded"
    assert s.post("/v1/completions", {"model": "four", "prompt": "x"})[0] == 404
    assert figure(s, "stretto:model_loads_total") == 4 and figure(s, "stretto:model_releases_total") == 2
    assert len(s.get("/slots")[2]) == 3 * 16


def check_streams(s):
    """A model that is being used stays until its answers are whole, and whoever waits gets in between."""
    words = ask(s, "one", 200, ignore_eos=True)[0]
    got, errors = {}, []

    def one(i):
        try:
            name = NAMES[i % 3]
            if i % 2:
                got[i] = ask(s, name, 200, ignore_eos=True)[0]
                return
            events = s.stream("/v1/completions", {"model": name, "prompt": "Once upon a time", "max_tokens": 200,
                                                  "temperature": 0, "ignore_eos": True, "stream": True})
            got[i] = "".join(e["choices"][0]["text"] for e in events if e != "[DONE]")
        except Exception as e:               # noqa: BLE001
            errors.append((i, e))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
    for t in threads:
        t.start()
        time.sleep(0.02)
    for t in threads:
        t.join(120)
    assert not errors and len(got) == 24, (errors, sorted(got))
    assert set(got.values()) == {words}, {i: g == words for i, g in got.items()}
    assert figure(s, "stretto:requests_waiting_for_model") == 0


def check_vanished(s):
    """Who waits for a model and goes leaves nothing behind."""
    ask(s, "one")
    for stream in (False, True):
        c = s.connect(timeout=0.05)
        try:
            c.request("POST", "/v1/completions", '{"model": "two", "prompt": "x", "max_tokens": 5, "stream": %s}'
                      % str(stream).lower())
            c.getresponse().read()
        except OSError:
            pass
        c.close()
    ask(s, "two")
    assert ask(s, "one")[0]


def check_patience(s):
    """Who waits for weights does so no longer than he said. Planted and noticed: time that runs from when they are
    here."""
    many = {"model": "one", "prompt": "Once", "max_tokens": 480, "n": 16, "ignore_eos": True}
    flood = threading.Thread(target=s.post, args=("/v1/completions", many))
    flood.start()
    while s.get("/health")[2]["slots_processing"] == 0 and flood.is_alive():
        time.sleep(0.001)
    code, _, j = s.post("/v1/completions", {"model": "two", "prompt": "x", "max_tokens": 1, "t_max_predict_ms": 50})
    assert code == 408, (code, j)
    assert "weights of the model two" in j["error"]["message"] or not flood.is_alive(), j
    flood.join()
    assert ask(s, "two")[0] and figure(s, "stretto:requests_waiting_for_model") == 0


def check_missing(model, folder):
    """Weights that cannot be loaded any more are a clear 503 for that model alone."""
    with start(model, folder, "--models-max", "1", n=2) as s:
        os.rename(folder + "/two.gguf", folder + "/away")
        code, head, j = s.post("/v1/completions", {"model": "two", "prompt": "x", "max_tokens": 1})
        assert code == 503 and "two could not be loaded" in j["error"]["message"] and head["retry-after"], (code, j)
        assert ask(s, "one")[0]
        os.rename(folder + "/away", folder + "/two.gguf")
        assert ask(s, "two")[0]


def check_names(model, folder):
    """One file under two names is one model, with one folder of pages; copies of it share no files."""
    link = os.path.join(folder, "link.gguf")
    os.symlink(model, link)
    disk = os.path.join(folder, "disk")
    with Server(program, f"a={model}", "-m", f"b={link}", "--cache-disk", disk) as s:
        assert ask(s, "a") == ask(s, "b")
        assert [m["id"] for m in s.get("/v1/models")[2]["data"]] == ["a"]
        assert "another name of a" in s.words()
    with start(model, folder, "--cache-disk", disk, n=2) as s:
        assert ask(s, "one") == ask(s, "two")
        assert "two" in s.words() and "disk" in s.words(), s.words()


def check_draft(model, folder):
    """A model that guesses for another, here for itself, changes no answer, alone or among others."""
    def answers(s):
        got = [None] * 8

        def one(i):
            got[i] = s.post("/v1/completions", {"prompt": f"Once {i} upon", "max_tokens": 40, "temperature": i % 2,
                                                "seed": i})[2]
        threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return [j["choices"][0]["text"] for j in got], sum(j["timings"]["draft_n_accepted"] for j in got)

    with Server(program, model, "--decode", "plain") as s:
        want, none = answers(s)
        assert none == 0
    with Server(program, model, "-md", model, "--decode", "draft") as s:
        got, right = answers(s)
        assert got == want and right > 20, (got, want, right)
    with Server(program, model, "-md", model) as s:
        assert answers(s)[0] == want
    for more, code, words in ((("-md", model, "--decode", "suffix"), 2, "goes with --decode auto or draft"),
                              (("--heads", model), 1, "not a whole safetensors file")):
        r = subprocess.run([program, model, "--port", "0", *more], capture_output=True, text=True, timeout=60)
        assert r.returncode == code and words in r.stderr, r


def check_sleep(model, folder):
    with Server(program, model, "--sleep-idle-seconds", "0.3") as s:
        words = ask(s, "stories")[0]
        for _ in range(100):
            if s.get("/props")[2]["is_sleeping"]:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("awake")
        assert s.get("/health")[0] == 200
        assert ask(s, "stories") == (words, "stories") and not s.get("/props")[2]["is_sleeping"]


def check_attacked(model, folder):
    """Four models of which two are there at once, and many who want another one each time, read slowly, or go in the
    middle of a stream: every answer is its model's own, whole, and nobody is left waiting."""
    import random
    import gguf
    names, prompts = ("north", "east", "south", "west"), ("Once upon a time", "The little dog", "Lily and Tom")
    paths = []
    for i, name in enumerate(names):
        paths.append(os.path.join(folder, name + ".gguf"))
        shutil.copy(model, paths[-1])
        for t in gguf.GGUFReader(paths[-1], "r+").tensors:
            if t.name == "output_norm.weight":                  # other words, by weights of their own
                t.data[:] = list(t.data[7 * i:]) + list(t.data[:7 * i])
    more = [w for name, p in zip(names[1:], paths[1:]) for w in ("-m", f"{name}={p}")]
    wanted, wrong, left = {}, [], [0]

    def body(name, prompt, n, **more):
        return {"model": name, "prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": True, **more}

    def person(s, seed):
        r = random.Random(seed)
        for _ in range(7):
            name, prompt, n = r.choice(names), r.choice(prompts), r.choice((3, 30, 150))
            want = wanted[name, prompt, n]
            how = r.randrange(4)
            try:
                if how == 0:
                    code, _, j = s.post("/v1/completions", body(name, prompt, n))
                    got = j["choices"][0]["text"] if code == 200 else (code, j)
                elif how == 1:                                  # goes in the middle
                    c = s.connect()
                    c.request("POST", "/v1/completions", json.dumps(body(name, prompt, 300, stream=True)))
                    c.sock.settimeout(r.choice((0.01, 0.3)))
                    try:
                        c.getresponse().read(200)
                    except OSError:
                        pass
                    c.close()
                    left[0] += 1
                    continue
                else:
                    got = stream(s, body(name, prompt, n, stream=True), slow=how == 2)
                if got != want:
                    wrong.append((name, prompt, n, how, got, want))
            except Exception as e:           # noqa: BLE001
                wrong.append((name, prompt, n, how, repr(e)))

    def stream(s, b, slow):
        c = s.connect()
        c.request("POST", "/v1/completions", json.dumps(b))
        r = c.getresponse()
        text = b""
        while piece := r.read(100 if slow else 1 << 16):
            text += piece
            if slow:
                time.sleep(0.005)
        c.close()
        events = [e[6:] for e in text.decode().split("\n\n") if e.startswith("data: ")]
        assert events[-1] == "[DONE]", events[-1]
        return "".join(json.loads(e)["choices"][0]["text"] for e in events[:-1])

    with Server(program, f"{names[0]}={paths[0]}", *more, "--models-max", "2", "-c", "512") as s:
        for name in names:
            for prompt in prompts:
                for n in (3, 30, 150):
                    wanted[name, prompt, n] = s.post("/v1/completions", body(name, prompt, n))[2]["choices"][0]["text"]
        assert len({wanted[name, prompts[0], 30] for name in names}) == 4, "models of their own words"
        before = figure(s, "stretto:model_releases_total")
        threads = [threading.Thread(target=person, args=(s, i)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        assert not any(t.is_alive() for t in threads) and not wrong, wrong[:3]
        s.idle()
        here = [v for v in status(s).values() if v == "loaded"]
        assert len(here) <= 2 and left[0] > 10, (here, left)
        assert figure(s, "stretto:model_releases_total") >= before + 10
        assert figure(s, "stretto:requests_waiting_for_model") == 0


with tempfile.TemporaryDirectory() as folder:
    stories = served.model(data, folder)
    with start(stories, folder, "--models-max", "2") as server:
        check_turns(server)
    with start(stories, folder, "--models-max", "1") as server:
        check_streams(server)
        check_vanished(server)
        check_patience(server)
    check_attacked(stories, folder)
    check_missing(stories, folder)
    check_names(stories, folder)
    check_sleep(stories, folder)
    check_draft(stories, folder)
print("several models: all is well")
