#!/usr/bin/env python3
"""What a model thinks, tools that are not called, words that are weighed, gaps, vectors for each token, adapters, and
the options that go with them.

    test_more.py STRETTO-SERVE DATA"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import served
from served import Server

program, data = sys.argv[1:3]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]
THINKS = ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}"
          "<|assistant|><think>\n{% if not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}{{ mood }}")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**more):
    return {"messages": HELLO, "max_tokens": 8, "temperature": 0, **more}


def text(**more):
    return {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, **more}


def prompt_of(s, **more):
    return s.post("/apply-template", {"messages": HELLO, **more})[2]["prompt"]


# ---- thinking -----------------------------------------------------------------------------------------

def check_thinks(s):
    """The template opens <think>, and this model never closes it: all it writes is thought."""
    assert prompt_of(s).endswith("<think>\n")
    for off in ({"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}):
        assert prompt_of(s, **off).endswith("</think>\n\n"), off
    assert prompt_of(s, chat_template_kwargs={"mood": "glad"}).endswith("glad")
    assert s.post(CHAT, chat(chat_template_kwargs={"messages": []}))[0] == 400
    raw = s.post(CHAT, chat(reasoning_format="none"))[2]["choices"][0]["message"]
    assert raw["content"] and "reasoning_content" not in raw, raw
    m = s.post(CHAT, chat())[2]["choices"][0]["message"]
    assert m["content"] == "" and m["reasoning_content"] == raw["content"].strip(), (m, raw)
    events = s.stream(CHAT, chat(stream=True))
    deltas = [e["choices"][0]["delta"] for e in events[1:-1]]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == m["reasoning_content"]
    assert not any(d.get("content") for d in deltas), deltas
    plain = s.post(CHAT, chat(reasoning_effort="none"))[2]["choices"][0]["message"]
    assert plain["content"] and "reasoning_content" not in plain, plain
    return m["reasoning_content"]


def check_thinks_elsewhere(s, thought):
    body = {"max_tokens": 8, "temperature": 0, "messages": HELLO}
    content = s.post("/v1/messages", body)[2]["content"]
    assert [c["type"] for c in content] == ["thinking", "text"] and content[0]["thinking"] == thought, content
    assert [c["type"] for c in s.post("/v1/messages", {**body, "thinking": {"type": "disabled"}})[2]["content"]] == \
        ["text"]
    got = s.stream("/v1/messages", {**body, "stream": True})
    kinds = [(e["type"], e.get("index"), e.get("content_block", e.get("delta", {})).get("type")) for e in got]
    assert kinds[1] == ("content_block_start", 0, "thinking") and ("content_block_start", 1, "text") in kinds, kinds
    assert ("content_block_delta", 0, "signature_delta") in kinds and kinds[-1][0] == "message_stop", kinds
    assert "".join(e["delta"]["thinking"] for e in got if e.get("delta", {}).get("type") == "thinking_delta") == thought
    j = s.post("/v1/responses", {"input": "Hello", "max_output_tokens": 8, "temperature": 0})[2]
    assert [o["type"] for o in j["output"]] == ["reasoning", "message"], j
    assert j["output"][0]["content"][0]["text"] == thought
    assert j["usage"]["output_tokens_details"]["reasoning_tokens"] == 8, j["usage"]
    got = s.stream("/v1/responses", {"input": "Hello", "max_output_tokens": 8, "temperature": 0, "stream": True})
    assert [e["sequence_number"] for e in got] == list(range(len(got)))
    added = [(e["output_index"], e["item"]["type"]) for e in got if e["type"] == "response.output_item.added"]
    assert added == [(0, "reasoning"), (1, "message")], added
    assert "".join(e["delta"] for e in got if e["type"] == "response.reasoning_text.delta") == thought
    j = s.post("/api/chat", {"messages": HELLO, "stream": False, "options": {"num_predict": 8, "temperature": 0}})[2]
    assert j["message"]["thinking"] == thought and j["message"]["content"] == "", j
    j = s.post("/api/chat", {"messages": HELLO, "stream": False, "think": False, "options": {"num_predict": 8}})[2]
    assert "thinking" not in j["message"] and j["message"]["content"], j


# ---- tools --------------------------------------------------------------------------------------------

def check_tools(s, ignore):
    """None is ever called: a request that brings some is answered where none was to be called, or where the server was
    told so; and never without saying it."""
    want = s.post(CHAT, chat())[2]["choices"]
    for more, good in (({"tool_choice": "none"}, True), ({}, ignore), ({"tool_choice": "auto"}, ignore),
                       ({"tool_choice": "required"}, False)):
        code, head, j = s.post(CHAT, chat(tools=[TOOL], **more))
        assert code == (200 if good else 501), (more, code, j)
        if good:
            assert j["choices"] == want and head["x-stretto-ignored"] == "tools", head
    code, head, j = s.post("/v1/responses", {"input": "Hello", "tools": [{"type": "function", "name": "f"}]})
    assert code == (200 if ignore else 501) and (not ignore or head["x-stretto-ignored"] == "tools"), (code, head, j)


def check_past(s):
    """Calls that were made before are part of the text."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    past = HELLO + [{"role": "assistant", "content": None, "tool_calls": [call, call]},
                    {"role": "tool", "tool_call_id": "1", "content": "one"},
                    {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "two"}]}]
    got = s.post("/apply-template", {"messages": past})[2]["prompt"]
    assert got.count('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>') == 2, got
    assert got.count("<|user|>") == 2, got
    assert "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>" in got
    quotes = HELLO + [{"role": "assistant", "content": "<tool_response>\nmine\n</tool_response>"}] + past[-1:]
    got = s.post("/apply-template", {"messages": quotes})[2]["prompt"]
    assert got.count("<|user|>") == 2 and "<|assistant|><tool_response>\nmine" in got, "an answer is no result"
    assert s.post(CHAT, chat(messages=past))[0] == 200
    assert s.post("/v1/responses", {"input": [{"role": "user", "content": "Hello"},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "sunny"}], "max_output_tokens": 1})[0] == 200


# ---- words that are weighed -----------------------------------------------------------------------------

def check_bias(s):
    first = s.post(TEXT, text())[2]["choices"][0]["text"]
    word = first.split()[0]
    for bias in ({" " + word: -100}, [[" " + word, False]]):
        got = s.post(TEXT, text(logit_bias=bias))[2]["choices"][0]["text"]
        assert got.split()[0] != word, (bias, got)
    j = s.post("/completion", {"prompt": "Once", "n_predict": 1, "logit_bias": [[5, -1], [6, False]]})[2]
    assert j["generation_settings"]["logit_bias"] == [{"token": 5, "bias": -1.0}, {"token": 6, "bias": None}], j
    j = s.post("/completion", {"prompt": "Once", "n_predict": 1, "logit_bias": {" 5": -1}})[2]
    assert j["generation_settings"]["logit_bias"][0]["token"] != 5, ("a blank before it makes a number a word", j)


def check_drawn(s):
    """Of three tokens that are left, the probabilities are those of the temperature, and sum to one."""
    body = {"prompt": "Once upon a time", "n_predict": 4, "n_probs": 5, "temperature": 2, "top_k": 3, "top_p": 1,
            "min_p": 0, "seed": 3, "post_sampling_probs": True}
    for t in s.post("/completion", body)[2]["completion_probabilities"]:
        top = t["top_probs"]
        assert len(top) == 3 and abs(sum(p["prob"] for p in top) - 1) < 1e-6, t
        assert any(p["id"] == t["id"] and abs(p["prob"] - t["prob"]) < 1e-9 for p in top), t
    a = s.post("/completion", {**body, "n_predict": 1})[2]["completion_probabilities"][0]["top_probs"]
    b = s.post("/completion", {**body, "n_predict": 1, "temperature": 1})[2]["completion_probabilities"][0]["top_probs"]
    assert [p["id"] for p in a] == [p["id"] for p in b]
    ratio = [(q["prob"] / b[0]["prob"]) / (p["prob"] / a[0]["prob"]) ** 2 for p, q in zip(a, b)]
    assert all(abs(r - 1) < 1e-4 for r in ratio), ratio
    one = s.post("/completion", {**body, "temperature": 0})[2]["completion_probabilities"]
    assert all(t["prob"] == 1 and t["top_probs"][0]["id"] == t["id"] for t in one), one


def check_progress(s):
    """--batch-size 16: a prompt of 70 tokens takes five steps, and the first word is said before any."""
    ids = [5 + i % 400 for i in range(70)]
    got = s.stream("/completion", {"prompt": ids, "n_predict": 1, "stream": True, "return_progress": True,
                                   "timings_per_token": True})
    read = [e["prompt_progress"]["processed"] for e in got if "prompt_progress" in e]
    assert read == [0, 16, 32, 48, 64, 70], read
    first = next(e["timings"] for e in got if "timings" in e)
    assert first["prompt_n"] == 0 and first["prompt_ms"] == 0, first


def check_times(model):
    """-np 1: what waits for a place is told apart from reading, in streams, whole answers, ollama's and the log."""
    with Server(program, model, "-np", "1", "--log-json") as s:
        def one(path, body, out):
            began = time.time()
            if body.get("stream") and path == "/completion":
                out.append(s.stream(path, body))
            else:
                out.append(s.post(path, body)[2])
            out.append(1e3 * (time.time() - began))

        flood = threading.Thread(target=one, args=(TEXT, text(n=16, max_tokens=400, ignore_eos=True), []))
        flood.start()
        while s.get("/health")[2]["waiting"] < 10:
            time.sleep(0.001)
        asked = [("/completion", {"prompt": "Once upon", "n_predict": 9, "stream": True, "timings_per_token": True,
                                  "return_progress": True}), ("/completion", {"prompt": "Once two", "n_predict": 9}),
                 ("/api/generate", {"model": "stories", "prompt": "Once three", "stream": False, "raw": True,
                                    "options": {"num_predict": 9}})]
        got = [[] for _ in asked]
        threads = [threading.Thread(target=one, args=(*a, g)) for a, g in zip(asked, got)]
        for t in threads:
            t.start()
        while s.get("/health")[2]["waiting"] < 12 and flood.is_alive():
            time.sleep(0.001)
        from_ = time.time()
        time.sleep(0.1)
        to = time.time()
        waited = 1e3 * (to - from_) if s.get("/health")[2]["waiting"] >= 3 and not any(got) else 0
        for t in threads + [flood]:
            t.join()
        (events, t1), (whole, t2), (other, t3) = got
        times = [(e["timings"], t1) for e in events if "timings" in e] + [(whole["timings"], t2)]
        times.append(({"queued_ms": other["queued_duration"] / 1e6, "prompt_ms": other["prompt_eval_duration"] / 1e6,
                       "predicted_ms": other["eval_duration"] / 1e6}, t3))
        assert len(times) >= 6, times
        for t, elapsed in times:
            assert t["queued_ms"] >= waited and t["prompt_ms"] >= 0, (t, waited)
            assert t["queued_ms"] + t["prompt_ms"] + t["predicted_ms"] <= elapsed + 1, (t, elapsed)
        progress = [e["prompt_progress"] for e in events if "prompt_progress" in e]
        assert progress and all(p["time_ms"] <= t1 - waited for p in progress), (progress, t1, waited)
        lines = s.lines(3, lambda x: "path" in x and x["path"] in ("/completion", "/api/generate"))
        assert len(lines) == 3 and all(1e3 * x["queued_seconds"] >= waited for x in lines), (lines, waited)


def check_held(model):
    """What was read of a request holds no memory while its answer is written."""
    with Server(program, model, "-np", "1") as s:
        body = text(prompt=[[5 + (i + k) % 400 for i in range(200)] for k in range(200)], max_tokens=40,
                    ignore_eos=True)
        flood = threading.Thread(target=s.post, args=(TEXT, body))
        flood.start()
        while s.get("/health")[2]["waiting"] < 5 and flood.is_alive():
            time.sleep(0.001)
        line = next(x for x in s.get("/metrics")[2].decode().splitlines()
                    if x.startswith("stretto:requests_held_bytes "))
        assert float(line.split()[1]) < 1e5 or not flood.is_alive(), line
        flood.join()


def check_small(s):
    assert s.get("/", Accept="text/html")[0] == 404
    m = s.get("/v1/models")[2]["data"][0]
    assert m["tags"] == ["one", "two"] and m["aliases"] == ["other"], m
    j = s.post("/completions", text())[2]
    assert j["content"] == j["choices"][0]["text"] and "content" not in s.post(TEXT, text())[2]
    assert "Hello" in s.post(CHAT, chat(verbose=True))[2]["__verbose"]["prompt"]
    lines = s.get("/metrics")[2].decode().splitlines()
    assert any(x.startswith("llamacpp:n_decode_total ") for x in lines), "one model's names have no label"
    assert any(x.startswith('stretto:steps_total{model_name="') for x in lines)
    code, head, _ = s.ask("OPTIONS", CHAT, headers={"Origin": "http://localhost:3000"})
    assert code == 200 and head["access-control-allow-origin"] == "http://localhost:3000", head
    for other in ("http://localhost.evil.example", "http://localhost:3000.evil.example", "file://localhost", "null"):
        head = s.ask("OPTIONS", CHAT, headers={"Origin": other})[1]
        assert "access-control-allow-origin" not in head, (other, head)


def check_each(s):
    both = ["One", "Once upon a time"]
    j = s.post("/embeddings", {"input": both})[2]
    n = [len(s.post("/tokenize", {"content": t, "add_special": True})[2]["tokens"]) for t in both]
    assert [len(x["embedding"]) for x in j] == n and len({len(v) for x in j for v in x["embedding"]}) == 1
    assert s.post("/v1/embeddings", {"input": "One"})[0] == 400


def check_each_bound(s):
    """--body-limit 1: requests hold 64 MB together, one of them half of it, and that is counted."""
    many = [[5 + (i + k) % 400 for i in range(400)] for k in range(60)]
    code, _, j = s.post("/embeddings", {"input": many})
    assert code == 400 and "24000 vectors of 64 numbers" in j["error"]["message"], (code, str(j)[:300])
    held = [x for x in s.get("/metrics")[2].decode().splitlines() if x.startswith("stretto:requests_held_bytes ")]
    assert held and float(held[0].split()[1]) < 1e6, held
    got = []

    def one():
        code, head, j = s.post("/embeddings", {"input": many[:30]})
        got.append((code, len(j[29]["embedding"]) == 400 if code == 200 else "retry-after" in head))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(well for _, well in got) and {code for code, _ in got} <= {200, 503}, got
    assert 200 in {code for code, _ in got}, got


def check_length(s):
    """What cannot fit is refused by its bytes; counting has no bound."""
    code, _, j = s.post(TEXT, text(prompt="Once upon a time " * 300000))
    e = j["error"]
    assert code == 400 and e["type"] == "exceed_context_size_error" and "at least" in e["message"], (code, e)
    assert e["n_prompt_tokens"] > e["n_ctx"] == 512
    code, _, j = s.post(CHAT, chat(messages=[{"role": "user", "content": "Once upon a time " * 20000}]))
    assert code == 400 and "at least" in j["error"]["message"], (code, j)
    n = s.post("/tokenize", {"content": "Once upon a time " * 6000})[2]["tokens"]
    code, _, j = s.post(TEXT, text(prompt="Once upon a time " * 6000))
    assert code == 400 and "at least" in j["error"]["message"], (code, j)
    assert j["error"]["n_prompt_tokens"] <= len(n) + 2, "the bound is no more than there are"
    j = s.post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Once upon a time " * 20000}]})[2]
    assert j["input_tokens"] > 50000, j


def check_queue(s):
    """Long requests whose clients are gone when their turn comes are not read; who only closed his side is answered."""
    body = json.dumps({"content": "Once upon a time " * 150000}).encode()
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    sent = []
    for _ in range(6):
        sent.append(s.raw())
        sent[-1].sendall(head + body)
    for c in sent[1:-1]:
        c.close()
    sent[-1].shutdown(socket.SHUT_WR)
    for c in (sent[0], sent[-1]):
        got = b""
        while b"tokens" not in got:
            more = c.recv(1 << 16)
            assert more, got[:300]
            got += more
        c.close()
    s.idle()
    s.lines(3, lambda x: "path" in x and x["path"] == "/tokenize" and "client closed" in x.get("error", ""))


def check_kept(model, folder):
    """A text that is saved is known in the next process, to whom it belongs; names are no ways."""
    place = os.path.join(folder, "kept")
    body = {"prompt": "Once upon a time, there was a little girl named Lily. She liked to play outside in the park.",
            "n_predict": 30, "temperature": 0, "id_slot": 1}
    first = {"Authorization": "Bearer first"}

    def act(s, action, slot=1, headers=first, **more):
        return s.ask("POST", f"/slots/{slot}?action={action}", more, headers)

    def ask(s, headers=first):
        code, _, j = s.ask("POST", "/completion", body, headers)
        assert code == 200, j
        return j["timings"]["cache_n"], j["content"]

    options = ("--slot-save-path", place, "--api-key", "first,second", "-np", "2")
    with Server(program, model, *options) as s:
        assert act(s, "save", filename="a")[0] == 400, "nothing was there"
        _, words = ask(s)
        code, _, j = act(s, "save", filename="a.bin")
        file = os.path.join(place, os.listdir(place)[0])       # of this key alone: another has an "a.bin" of its own
        assert code == 200 and j["n_saved"] >= 30 and j["n_written"] == os.path.getsize(file), j
        saved = j["n_saved"]
        for bad in ("../a", "", ".a", "a/b", "a.part", "x" * 65, None, 5):
            assert act(s, "save", filename=bad)[0] == 400, bad
        assert act(s, "save", headers={"Authorization": "Bearer second"}, filename="b")[0] == 400, "another's text"
        assert act(s, "save", slot=7, filename="b")[0] == 400 and act(s, "no")[0] == 400
        assert act(s, "erase")[2]["n_erased"] == saved and ask(s)[0] == 0
    with Server(program, model, *options) as s:
        code, _, j = act(s, "restore", slot=0, filename="none")
        assert code == 400 and "no text called 'none'" in j["error"]["message"] and place not in str(j), j
        code, _, j = act(s, "restore", slot=0, headers={"Authorization": "Bearer second"}, filename="a.bin")
        assert code == 400, j
        code, _, j = act(s, "restore", slot=0, filename="a.bin")
        assert code == 200 and j["n_restored"] == saved and j["timings"]["restore_ms"] > 0, j
        known, again = ask(s)
        assert known > 20 and again == words, (known, words, again)
        with open(file, "r+b") as f:
            f.seek(500)
            f.write(b"xxxx")
        assert "damaged" in act(s, "restore", filename="a.bin")[2]["error"]["message"]
    with Server(program, model) as s:
        assert act(s, "save", filename="a")[0] == 501


def check_kept_salts(model, folder):
    """Without keys a cache_salt is what a text, its file and the file's name belong to."""
    place = os.path.join(folder, "salted")
    body = {"prompt": "Once upon a time, there was a little girl named Lily. She liked to play outside in the park.",
            "n_predict": 30, "temperature": 0, "id_slot": 0, "cache_salt": "mine"}

    def act(s, action, salt=None, name="a", **more):
        return s.post(f"/slots/0?action={action}", {"filename": name, **({"cache_salt": salt} if salt else {}), **more})

    def known(s, salt):
        return s.post("/completion", {**body, "cache_salt": salt})[2]["timings"]["cache_n"]

    os.makedirs(place)
    left = os.path.join(place, "x.part")                     # of a process that was killed
    open(left, "w").close()
    with Server(program, model, "--slot-save-path", place) as s:
        assert not os.path.exists(left)
        assert s.post("/completion", body)[0] == 200
        assert act(s, "save")[0] == act(s, "save", "yours")[0] == 400
        code, head, j = act(s, "save", "mine", something=1)
        assert code == 200 and "something" in head["x-stretto-ignored"], (code, head, j)
        (name,) = os.listdir(place)
        assert name.endswith("-a") and len(name) == 18, name
        for action in "save", "restore":                     # nobody else has names like it
            assert act(s, action, name=name)[0] == 400
        assert s.post("/slots/0?action=save", {"filename": "b", "cache_salt": 5})[0] == 400
    with Server(program, model, "--slot-save-path", place) as s:
        for salt in None, "yours":
            code, _, j = act(s, "restore", salt)
            assert code == 400, j
        os.rename(os.path.join(place, name), os.path.join(place, "b"))
        code, _, j = act(s, "restore", name="b")
        assert code == 400 and "another key's texts" in j["error"]["message"], j
        os.rename(os.path.join(place, "b"), os.path.join(place, name))
        assert act(s, "restore", "mine")[0] == 200
        assert known(s, "yours") == 0 and known(s, "mine") > 20
        assert act(s, "erase")[0] == 400 and act(s, "erase", "mine")[2]["n_erased"] > 20


def check_kept_room(model, folder):
    """The folder takes no more than it is to, to the byte; what is there can be written again, and what whoever runs
    the server removed makes room."""
    place = os.path.join(folder, "full")
    with Server(program, model, "--slot-save-path", place, "--cache-disk-size", "1") as s:
        words = "Once upon a time, there was a little girl named Lily. She liked to play outside in the park. " * 8
        assert s.post("/completion", {"prompt": words, "n_predict": 1, "id_slot": 0})[0] == 200
        saved = 0
        while (got := s.post("/slots/0?action=save", {"filename": f"f{saved}"}))[0] == 200:
            saved += 1
            assert saved < 100
        message = got[2]["error"]["message"]
        sizes = [os.path.getsize(os.path.join(place, f)) for f in os.listdir(place)]
        assert got[0] == 400 and "--cache-disk-size" in message and len(sizes) == saved >= 2, (got, sizes)
        assert sum(sizes) <= 1 << 20 < sum(sizes) + sizes[0], sizes
        assert s.post("/slots/0?action=save", {"filename": "f0"})[0] == 200
        assert s.post("/slots/0?action=save", {"filename": "more"})[0] == 400
        os.remove(os.path.join(place, "f1"))
        for _ in range(50):
            if s.post("/slots/0?action=save", {"filename": "more"})[0] == 200:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("there is room again")


def check_adapter(model, folder):
    """--lora FILE=SCALE reaches its file from behind the sandbox, and what it says counts as much as SCALE."""
    import gguf
    import numpy
    path = os.path.join(folder, "adapter.gguf")
    rows, width = next(t.data.shape for t in gguf.GGUFReader(model).tensors if t.name == "blk.0.attn_v.weight")
    w, draw = gguf.GGUFWriter(path, "llama"), numpy.random.default_rng(1)
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 4)
    w.add_tensor("blk.0.attn_v.weight.lora_a", draw.normal(size=(4, width)).astype("f4"))
    w.add_tensor("blk.0.attn_v.weight.lora_b", draw.normal(size=(rows, 4)).astype("f4"))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    words = []
    for more in ((), ("--lora", path + "=0"), ("--lora", path)):
        with Server(program, model, *more) as s:
            words.append(s.post(TEXT, text(max_tokens=16))[2]["choices"][0]["text"])
    assert words[0] == words[1] != words[2], words


def check_gaps(model, folder):
    gaps = os.path.join(folder, "gaps.gguf")
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", model, gaps, "--force"]
                   + [w for name, i in (("fim_pre", 509), ("fim_suf", 510), ("fim_mid", 511))
                      for w in ("--special-token-by-id", name, str(i))],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Server(program, gaps) as s:
        body = {"input_prefix": "One", "input_suffix": "two", "n_predict": 2}
        assert s.post("/infill", body)[0] == 200
        for bad in ({}, {"filename": "a"}, {"filename": 1, "text": "b"}, {"filename": "a", "text": 2}):
            assert s.post("/infill", {**body, "input_extra": [bad]})[0] == 400, bad


with tempfile.TemporaryDirectory() as folder:
    stories = served.model(data, folder)
    with Server(program, stories, "--chat-template", THINKS) as server:
        check_thinks_elsewhere(server, check_thinks(server))
    with Server(program, stories, "--chat-template", THINKS, "--reasoning", "off", "--ignore-tools") as server:
        assert prompt_of(server).endswith("</think>\n\n")
        assert prompt_of(server, reasoning_effort="low").endswith("<think>\n")
        check_tools(server, True)
    with Server(program, stories, "-b", "16", "--no-ui", "--tags", "one,two", "-a", "other", "--cors-origins",
                "localhost") as server:
        check_tools(server, False)
        check_past(server)
        check_bias(server)
        check_drawn(server)
        check_progress(server)
        check_small(server)
        check_length(server)
    with Server(program, stories, "--pooling", "none", "--log-json") as server:
        check_each(server)
    with Server(program, stories, "--pooling", "none", "--body-limit", "1") as server:
        check_each_bound(server)
    with Server(program, stories, "--pooling", "none", "--log-json") as server:
        check_queue(server)
    check_times(stories)
    check_held(stories)
    check_kept(stories, folder)
    check_kept_salts(stories, folder)
    check_kept_room(stories, folder)
    check_adapter(stories, folder)
    check_gaps(stories, folder)
print("thinking, tools, words and gaps: all is well")
