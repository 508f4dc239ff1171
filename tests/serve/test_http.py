#!/usr/bin/env python3
"""stretto-serve as its clients see it: shapes of answers and errors, fields, limits, keys, origins, clients that
vanish, read slowly or send half a request, and the end by SIGTERM.

    test_http.py STRETTO-SERVE DATA"""
import json
import math
import os
import re
import signal
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


def chat(**more):
    return {"messages": HELLO, "max_tokens": 8, "temperature": 0, **more}


def text(**more):
    return {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, **more}


def refused(s, path, body, status, words, kind="invalid_request_error", method="POST", **headers):
    code, head, j = s.ask(method, path, body, headers)
    assert code == status, (path, body, code, j)
    e = j["error"]
    assert e["code"] == status and e["type"] == kind and words in e["message"], (words, e)
    assert head["x-request-id"]
    return head, e


# ---- shapes ----------------------------------------------------------------------------------------

def check_chat(s):
    code, head, j = s.post(CHAT, chat(unknown=1))
    assert code == 200 and head["content-type"].startswith("application/json"), (code, head)
    assert head["x-stretto-ignored"] == "unknown", head
    assert j["object"] == "chat.completion" and j["id"].startswith("chatcmpl-") and j["model"] == "stories"
    c = j["choices"][0]
    assert c["message"]["role"] == "assistant" and c["message"]["content"] and c["finish_reason"] == "length", c
    u = j["usage"]
    assert u["completion_tokens"] == 8 and u["total_tokens"] == u["prompt_tokens"] + 8, u
    assert u["prompt_tokens_details"]["cached_tokens"] >= 0
    events = s.stream(CHAT, chat(stream=True, stream_options={"include_usage": True}))
    assert events[-1] == "[DONE]" and events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({e["id"] for e in events[:-1]}) == 1
    written = "".join(e["choices"][0]["delta"].get("content") or "" for e in events[:-2])
    assert written == c["message"]["content"], (written, c)
    assert events[-3]["choices"][0]["finish_reason"] == "length" and not events[-2]["choices"]
    assert events[-2]["usage"]["completion_tokens"] == 8
    # The same without /v1, and for whoever names any model.
    assert s.post("/chat/completions", chat(model="gpt-4"))[2]["choices"][0]["message"] == c["message"]


def check_choices(s):
    one = s.post(CHAT, chat(n=3, temperature=1, seed=7))[2]["choices"]
    two = s.post(CHAT, chat(n=3, temperature=1, seed=7))[2]["choices"]
    assert [c["index"] for c in one] == [0, 1, 2] and one == two
    assert len({c["message"]["content"] for c in one}) > 1, one
    events = s.stream(CHAT, chat(n=3, temperature=1, seed=7, stream=True))
    for i in range(3):
        got = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in e["choices"] if c["index"] == i)
        assert got == one[i]["message"]["content"], (got, one[i])


def check_text(s):
    j = s.post(TEXT, text())[2]
    c = j["choices"][0]
    assert j["object"] == "text_completion" and c["text"] and c["finish_reason"] == "length"
    assert s.post(TEXT, text(echo=True))[2]["choices"][0]["text"] == "Once upon a time" + c["text"]
    hard = "\u00fc\"\\\r\n\u2014 \t\"\u007f\U0001f600\""
    events = s.stream(TEXT, text(prompt=hard, echo=True, max_tokens=1, stream=True))
    assert "".join(e["choices"][0]["text"] for e in events if e != "[DONE]").startswith(hard), events
    two = s.post(TEXT, text(prompt=["Once upon a time", "The cat"]))[2]["choices"]
    assert [c["index"] for c in two] == [0, 1] and two[0]["text"] == c["text"] and two[1]["text"] != c["text"]
    ids = s.post("/tokenize", {"content": "Once upon a time", "add_special": True})[2]["tokens"]
    assert s.post(TEXT, text(prompt=ids))[2]["choices"][0]["text"] == c["text"]
    stop = c["text"][2:5]
    j = s.post(TEXT, text(stop=[stop]))[2]["choices"][0]
    assert j["text"] == c["text"][:c["text"].index(stop)] and j["finish_reason"] == "stop", (j, c)
    events = s.stream(TEXT, text(stream=True))
    assert "".join(e["choices"][0]["text"] for e in events[:-1]) == c["text"]
    # A bias bans what would have been written.
    first = s.post("/tokenize", {"content": c["text"]})[2]["tokens"]
    assert s.post(TEXT, text(logit_bias={str(i): -100 for i in first}))[2]["choices"][0]["text"] != c["text"]


def check_logprobs(s):
    """Greedy takes the likeliest; a text that is scored has the log probabilities that writing it had."""
    wrote = s.post(TEXT, text(logprobs=3))[2]["choices"][0]
    l = wrote["logprobs"]
    assert len(l["tokens"]) == 8 and "".join(l["tokens"]) == wrote["text"], l
    for p, top in zip(l["token_logprobs"], l["top_logprobs"]):
        assert p == max(top.values()) and len(top) == 3 and sum(map(math.exp, top.values())) <= 1.001, (p, top)
    scored = s.post(TEXT, text(prompt="Once upon a time" + wrote["text"], max_tokens=0, echo=True, logprobs=0))[2]
    m = scored["choices"][0]["logprobs"]
    assert m["token_logprobs"][0] is None and len(m["tokens"]) == scored["usage"]["prompt_tokens"], m
    if m["tokens"][-8:] == l["tokens"]:
        assert max(abs(a - b) for a, b in zip(m["token_logprobs"][-8:], l["token_logprobs"])) < 0.05, (m, l)
    c = s.post(CHAT, chat(logprobs=True, top_logprobs=2))[2]["choices"][0]
    assert len(c["logprobs"]["content"]) == 8 and len(c["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert bytes(b for t in c["logprobs"]["content"] for b in t["bytes"]).decode() == c["message"]["content"]
    events = s.stream(CHAT, chat(logprobs=True, top_logprobs=2, stream=True))
    tokens = [t for e in events[:-1] for x in e["choices"] if x["logprobs"] for t in x["logprobs"]["content"]]
    assert tokens == c["logprobs"]["content"]


def check_state(s):
    assert s.get("/health")[2]["status"] == "ok"
    models = s.get("/v1/models")[2]
    assert models["object"] == "list" and models["data"][0]["id"] == "stories", models
    assert models["data"][0]["object"] == "model"
    assert s.get("/v1/models/stories")[2]["id"] == "stories"
    there = s.ask("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"})[2]
    assert there["data"][0]["lifecycle"] == "active" and there["has_more"] is False
    ids = s.post("/tokenize", {"content": "Hello"})[2]["tokens"]
    assert s.post("/detokenize", {"tokens": ids})[2]["content"].strip() == "Hello"
    assert s.post("/apply-template", {"messages": HELLO})[2]["prompt"] == "<|user|>Hello\n<|assistant|>"
    assert s.post("/apply-template", {"messages": HELLO + [{"role": "assistant", "content": "Yes"}]})[2]["prompt"] \
        == "<|user|>Hello\n<|assistant|>Yes"
    assert s.get("/props")[2]["total_slots"] == 4 and len(s.get("/slots")[2]) == 4
    assert "stretto:time_to_first_token_seconds_bucket" in s.get("/metrics")[2].decode()
    with open(os.path.join(served.ROOT, "contrib", "grafana.json")) as f:
        drawn = set(re.findall(r"(?:stretto|llamacpp):\w+", f.read()))
    there = set(re.findall(r"^((?:stretto|llamacpp):\w+)", s.get("/metrics")[2].decode(), re.M))
    assert len(drawn) > 15 and drawn <= there, drawn - there
    assert s.ask("HEAD", "/health")[0] == 200
    assert len(s.post("/v1/embeddings", {"input": ["Hello", "world"]})[2]["data"]) == 2


# ---- what is refused -------------------------------------------------------------------------------

def check_words(s):
    """Control tokens in somebody's words are words."""
    def read(words):
        return s.post(CHAT + "/input_tokens", {"messages": [{"role": "user", "content": words}]})[2]["input_tokens"]

    assert len(s.post("/tokenize", {"content": "</s>"})[2]["tokens"]) == 1
    assert read("a</s>b") >= read("ab") + 3, (read("a</s>b"), read("ab"))


def check_refusals(s):
    refused(s, CHAT, "{", 400, "line 1")
    refused(s, CHAT, b'{"messages": "\xff"}', 400, "UTF-8")
    refused(s, CHAT, "[]", 400, "must be a JSON object")
    refused(s, CHAT, '{"a":1,"a":2}', 400, "stands twice")
    refused(s, CHAT, '{"x":' + "[" * 100 + "]" * 100 + "}", 400, "nested deeper")
    refused(s, CHAT, {}, 400, "messages must be a list")
    refused(s, CHAT, {"messages": "Hello"}, 400, "messages must be a list")
    refused(s, CHAT, {"messages": [{"content": "x"}]}, 400, "message 1")
    refused(s, CHAT, {"messages": [{"role": "user", "content": "a\0b"}]}, 400, "U+0000")
    refused(s, CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400, "reads text alone")
    for field, value in (("temperature", "hot"), ("temperature", -1), ("top_p", 2), ("n", 10000), ("n", 0), ("n", 1.5),
                         ("stream", "true"), ("max_tokens", "many"), ("max_tokens", -5), ("stop", 7),
                         ("stop", ["a", 1]), ("stop", "x" * 500000), ("stop", ["a"] * 17), ("seed", "x"),
                         ("logit_bias", {"word": "x"}), ("logit_bias", {"99999999": 1}), ("logit_bias", [[1]]),
                         ("stream_options", 1),
                         ("top_logprobs", 21), ("presence_penalty", "much"), ("seed", 1 << 70)):
        e = refused(s, CHAT, chat(**{field: value}), 400, "")[1]
        assert field in e["message"] or "token" in e["message"], (field, value, e)
    refused(s, CHAT, chat(typical_p=0.5), 400, "typical_p")
    assert s.post(CHAT, chat(typical_p=1, mirostat=0, dry_multiplier=0, xtc_probability=0, min_keep=0))[0] == 200
    assert s.post(CHAT, chat(temperature=None, stop=None, response_format={"type": "text"}))[0] == 200
    for field, value in (("tools", [{}]), ("grammar", "root ::= x"), ("response_format", {"type": "json_object"})):
        head, _ = refused(s, CHAT, chat(**{field: value}), 501, field, "not_supported_error")
        assert head["x-should-retry"] == "false"
    e = refused(s, TEXT, text(prompt="word " * 3000), 400, "exceeds the available context size",
                "exceed_context_size_error")[1]
    assert e["n_ctx"] == 512 and e["n_prompt_tokens"] > 3000, e
    refused(s, TEXT, text(prompt=[1, 2, 100000]), 400, "100000")
    refused(s, TEXT, text(prompt=[]), 400, "empty list")
    refused(s, TEXT, text(prompt={}), 400, "prompt must be")
    refused(s, TEXT, text(suffix="x"), 400, "no tokens for a gap")
    refused(s, "/nowhere", {}, 404, "no path", "not_found_error")
    refused(s, "/v1/models/none/such", None, 405, "takes GET")
    assert refused(s, CHAT, None, 405, "takes POST", method="GET")[0]["allow"] == "POST"
    for path in ("/api/create", "/api/pull", "/api/push", "/api/copy", "/api/blobs/sha256:0", "/models/load", "/tools",
                 "/cors-proxy"):
        assert s.post(path, {"model": "x"})[0] in (404, 405, 501), path   # models come from the command line
    refused(s, CHAT, chat(n_discard=-1), 400, "n_discard")
    refused(s, TEXT, text(echo=True, logprobs=1, stream=True), 400, "leave stream out")
    for path, bad in (("/detokenize", {"tokens": ["a"]}), ("/detokenize", {"tokens": [[1], [2]]}),
                      ("/detokenize", {"tokens": [10**6]}), ("/tokenize", {"content": ["a", 10**12]})):
        refused(s, path, bad, 400, next(iter(bad)))
    assert s.post("/detokenize", {"tokens": []})[2] == {"content": ""}
    refused(s, CHAT, json.dumps(chat(temperature=float("nan"))), 400, "no finite number")
    refused(s, CHAT, '{"temperature": 1e999}', 400, "byte 16")
    refused(s, CHAT, chat(chat_template="{{ x }}"), 400, "chat_template")
    refused(s, "/v1/rerank", {}, 501, "ranks", "not_supported_error")


def check_salt(s):
    """A word of the request separates what texts share."""
    def known(**more):
        words = "Once upon a time there was a little girl. " * 12
        return s.post(TEXT, text(prompt=words, max_tokens=1, **more))[2]["timings"]["cache_n"]
    for name in ("prompt_cache_key", "cache_salt"):
        assert known(**{name: name}) == 0 and known(**{name: name}) > 0, name
    assert known() == 0 and known() > 0 and known(cache_salt="another") == 0


def check_deadline(s):
    """Who waits for so long alone gets what was written till then."""
    refused(s, TEXT, text(), 400, "milliseconds", **{"X-Request-Timeout-Ms": "soon"})
    late = text(max_tokens=100000, ignore_eos=True, n=8)
    code, _, j = s.ask("POST", TEXT, late, {"X-Request-Timeout-Ms": "30"})
    assert code == 408 or all(c["finish_reason"] == "length" for c in j["choices"]), (code, j)
    assert s.ask("POST", TEXT, text(), {"X-Request-Timeout-Ms": "60000"})[0] == 200
    s.idle()
    refused(s, TEXT, text(t_max_predict_ms=1e-6), 408, "give it more", "invalid_request_error")


def check_origin(s):
    refused(s, CHAT, chat(), 403, "web pages", "permission_error", Origin="http://evil.example")
    refused(s, CHAT, chat(), 403, "Host", "permission_error", Host="evil.example")
    code, head, _ = s.ask("GET", "/health", headers={"Origin": f"http://127.0.0.1:{s.port}"})
    assert code == 200 and "access-control-allow-origin" not in head
    code, head, _ = s.ask("OPTIONS", CHAT, headers={"Origin": "http://evil.example"})
    assert code == 200 and "access-control-allow-origin" not in head


HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n".encode()


def first_line(c):
    got = b""
    while b"\r\n" not in got:
        piece = c.recv(4096)
        if not piece:
            break
        got += piece
    return got


def check_bodies(s):
    """Bodies that are too long, with and without their length, and as a question first; requests that are none."""
    with s.raw() as c:
        c.sendall(HEAD + f"Content-Length: {2 << 20}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert first_line(c).startswith(b"HTTP/1.1 413"), "Expect: too long"
    with s.raw() as c:
        c.sendall(HEAD + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert first_line(c).startswith(b"HTTP/1.1 100"), "Expect"
        c.sendall(b'{"a": 12}')
        assert first_line(c).startswith(b"HTTP/1.1 400"), "Expect: body"
    with s.raw() as c:
        c.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range((1 << 20) // 0x4000 + 2):
            c.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        c.sendall(b"0\r\n\r\n")
        assert first_line(c).startswith(b"HTTP/1.1 413"), "chunks"
    with s.raw() as c:
        c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 60000 + b"\r\n\r\n")
        try:
            assert first_line(c)[9:12] in (b"431", b"413", b"414"), "headers"
        except ConnectionResetError:
            pass                                   # refused before all of it was read
    for junk in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                 HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                 HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with s.raw(5) as c:
            c.sendall(junk)
            c.shutdown(socket.SHUT_WR)
            try:
                answer = first_line(c)
            except OSError:
                answer = b""
            assert not answer or answer[9:10] in b"45", (junk, answer)
    assert s.get("/health")[0] == 200


# ---- clients that misbehave ------------------------------------------------------------------------

LONG = text(max_tokens=100000, ignore_eos=True, n=4, stream=True)


def send(c, body, path=TEXT):
    body = json.dumps(body)
    c.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def check_vanish(s):
    """Streams and whole answers whose client goes: the places are free soon, and nobody else suffers."""
    for stream in (True, False):
        clients = [s.raw() for _ in range(6)]
        for c in clients:
            send(c, {**LONG, "stream": stream})
        time.sleep(0.1)
        for c in clients:
            c.close()
        s.idle()
    with s.raw() as c:                                        # half closed: it still reads
        send(c, text(stream=True))
        c.shutdown(socket.SHUT_WR)
        got = b""
        while b"[DONE]" not in got:
            piece = c.recv(65536)
            assert piece, got
            got += piece
    assert s.post(TEXT, text())[0] == 200


def check_half(s):
    """Requests that stop in the middle do not stand in anybody's way."""
    stuck = []
    for piece in (b"", b"PO", b"POST /v1/completions HTTP/1.1\r\nHost: loc",
                  b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"):
        c = s.raw()
        c.sendall(piece)
        stuck.append(c)
    assert s.post(TEXT, text())[0] == 200
    for c in stuck:
        c.close()
    assert s.post(TEXT, text())[0] == 200


def check_ignored(s):
    """Names that cannot stand in a header are not dropped silently."""
    head = s.post(TEXT, text(max_tokens=1, **{"odd one": 1, "x" * 65: 2, "plain": 3}))[1]
    assert sorted(head["x-stretto-ignored"].split(", ")) == ["...", "plain"], head
    code, _, j = s.post(CHAT, {"messages": [{"role": "assistant", "content": "a", "tool_calls": "b"},
                                            {"role": "user", "content": "c"}], "max_tokens": 1})
    assert code == 400 and "tool_calls must be a list" in j["error"]["message"], (code, j)


def check_many(s):
    """More than there are places, at once; each gets its own answer."""
    prompts = [f"Once there was a {w}" for w in ("cat", "dog", "bird", "fish", "tree", "boy", "girl", "ball")] * 4
    alone = {p: s.post(TEXT, text(prompt=p))[2]["choices"][0]["text"] for p in set(prompts)}
    bad = []

    def one(p):
        events = s.stream(TEXT, text(prompt=p, stream=True))
        got = "".join(e["choices"][0]["text"] for e in events[:-1])
        if got != alone[p]:
            bad.append((p, got, alone[p]))

    threads = [threading.Thread(target=one, args=(p,)) for p in prompts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad


def check_long(s):
    """A request that takes long to read makes nobody wait, and is answered in its turn; so is one whose client goes."""
    def ask():
        got.append(s.post(TEXT, text(pad=["a"] * 100000))[0])

    got = []
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    with s.raw() as c:
        send(c, text(pad=["a"] * 100000))
    assert s.stream(TEXT, text(stream=True))[-1] == "[DONE]"
    for t in threads:
        t.join()
    assert got == [200] * 3, got
    assert "pad" in s.post(TEXT, text(pad=["a"] * 20000))[1]["x-stretto-ignored"]
    assert s.stream(TEXT, text(stream=True, pad=["a"] * 20000))[-1] == "[DONE]"
    refused(s, TEXT, text(prompt="word " * 100000), 400, "exceeds the available context size",
            "exceed_context_size_error")


def check_old(s):
    """HTTP/1.0 has no chunks: the stream ends where the connection does."""
    with s.raw() as c:
        body = json.dumps(text(stream=True))
        c.sendall(f"POST {TEXT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        got = b""
        while piece := c.recv(65536):
            got += piece
    assert got.endswith(b"data: [DONE]\n\n") and b"chunked" not in got, got


def check_pipelined(s):
    """Two requests on one connection, the second sent before the first is answered."""
    with s.raw() as c:
        send(c, text())
        send(c, text(prompt="The cat"))
        got = b""
        while got.count(b"text_completion") < 2:
            piece = c.recv(65536)
            assert piece, got
            got += piece


# ---- servers of other kinds ------------------------------------------------------------------------

def check_keys(model, folder):
    keys = os.path.join(folder, "keys")
    with open(keys, "w") as f:
        f.write("# two\nfirst-key\n  second-key \n")
    with Server(program, model, "-c", "512", "--api-key-file", keys, "--cors-origins", "https://chat.example",
                "--log-json") as s:
        refused(s, CHAT, chat(), 401, "wants an API key", "authentication_error")
        for bad in ("wrong", "first-ke", "first-key2", "", "second"):
            refused(s, CHAT, chat(), 401, "", "authentication_error", Authorization=f"Bearer {bad}")
        for good in ({"Authorization": "Bearer first-key"}, {"X-Api-Key": "second-key"}):
            assert s.ask("POST", CHAT, chat(), good)[0] == 200
        assert s.get("/v1/models")[0] == 200 and s.get("/health")[0] == 200
        refused(s, "/slots", None, 401, "", "authentication_error", method="GET")
        code, head, _ = s.ask("OPTIONS", CHAT, headers={"Origin": "https://chat.example",
                                                        "Access-Control-Request-Headers": "authorization"})
        assert code == 200 and head["access-control-allow-origin"] == "https://chat.example", head
        assert head["access-control-allow-headers"] == "authorization"
        with open(keys, "w") as f:
            f.write("third-key\n")
        s.process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if s.ask("POST", CHAT, chat(), {"Authorization": "Bearer third-key"})[0] == 200:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("SIGHUP")
        refused(s, CHAT, chat(), 401, "", "authentication_error", Authorization="Bearer first-key")
        good = s.lines(3, lambda x: "written_tokens" in x and x["status"] == 200 and x["path"] == CHAT)
        assert all(x["written_tokens"] == 8 and x["client"].startswith("key-") for x in good), good
        assert "first-key" not in s.words() and "third-key" not in s.words(), "keys are not logged"


def check_drain(model):
    """SIGTERM: what is being written is written to its end."""
    s = Server(program, model, "-c", "512", "--strict-api")
    refused(s, CHAT, chat(unknown=1), 400, "there is no field unknown")
    with s.raw() as c:
        send(c, text(stream=True, max_tokens=480, ignore_eos=True))
        got = c.recv(65536)
        s.process.send_signal(signal.SIGTERM)
        while piece := c.recv(65536):
            got += piece
    assert b"[DONE]" in got and b'"error"' not in got, got[-300:]
    assert s.process.wait(30) == 0, s.words()


def check_cut(model):
    """--drain-timeout 0: a stream ends with words that can be read."""
    s = Server(program, model, "-c", "512", "--drain-timeout", "0")
    with s.raw() as c:
        send(c, {**LONG, "n": 4})
        got = c.recv(65536)
        s.process.send_signal(signal.SIGTERM)
        while piece := c.recv(65536):
            got += piece
    assert s.process.wait(30) == 0, s.words()
    assert b"[DONE]" in got or b'"error"' in got, got[-300:]


def check_slow(model):
    """Who reads nothing is given up, and others are answered meanwhile; so is who sends nothing."""
    with Server(program, model, "-c", "512", "-np", "4", "--stall", "1", "--sse-ping-interval", "0.3") as s:
        with s.raw() as c, s.raw() as d:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            d.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
            send(c, {**LONG, "n": 16, "logprobs": 20})
            time.sleep(0.2)
            assert s.post(TEXT, text())[0] == 200
            assert d.recv(100)[9:10] in (b"4", b""), "half a body"
            s.idle()


def check_full(model):
    """More connections than there may be are closed; once some are gone, others are answered."""
    with Server(program, model, "-c", "512", "--connections", "8") as s:
        many = [s.raw() for _ in range(20)]
        time.sleep(0.2)
        for c in many:
            c.close()
        for _ in range(100):
            try:
                assert s.post(TEXT, text())[0] == 200
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError("nobody is let in again")


def check_unread(model):
    """Nobody reads what the server says of its requests, and it answers all the same."""
    reading, writing = os.pipe()
    with Server(program, model, "-c", "512", log=os.fdopen(writing, "w")) as s:
        for _ in range(60):
            for _ in range(20):
                s.get("/v1/models/" + "x" * 100)
        assert s.post(TEXT, text())[0] == 200
    os.close(reading)


def check_template(model, folder):
    """A template of the command line, read from inside the sandbox; what /completion tells of its answers."""
    path = os.path.join(folder, "template.jinja")
    with open(path, "w") as f:
        f.write("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>"
                "{% endif %}")
    for given in (["--chat-template-file", path], ["--chat-template", open(path).read()]):
        with Server(program, model, *given) as s:
            assert s.post("/apply-template", {"messages": HELLO})[2]["prompt"].endswith("<a>")
            assert s.post(CHAT, chat())[0] == 200
    with Server(program, model, "-c", "64") as s:
        both = [{"role": "assistant", "content": "A"}] * 2
        refused(s, CHAT, chat(messages=HELLO + both), 400, "both the assistant's")
        j = s.post("/completion", {"prompt": "Once", "temperature": 0, "n_predict": 8, "ignore_eos": True,
                                   "response_fields": ["content", "generation_settings/n_predict"]})[2]
        assert set(j) == {"content", "generation_settings/n_predict"} and j["generation_settings/n_predict"] == 8, j
        j = s.post("/completion", {"prompt": "Once", "temperature": 0, "ignore_eos": True})[2]
        assert j["truncated"] and j["has_new_line"] == ("\n" in j["content"]), j
        j = s.post("/completion", {"prompt": "Once", "n_predict": 1})[2]
        assert not j["truncated"] and j["timings"]["predicted_per_second"] == 0, j


def check_usage():
    for args, code, words in ((["--port", "x"], 2, "--port"), (["--ssl-cert-file", "x"], 2, "go together"),
                              (["-m", "/none/such.gguf"], 1, "/none/such.gguf"), (["--nonsense"], 2, "--nonsense")):
        r = subprocess.run([program, *args], capture_output=True, text=True, timeout=60)
        assert r.returncode == code and words in r.stderr, (args, r)


def check_taken(model):
    """A port that is taken; --check says what would be."""
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        c.listen()
        port = str(c.getsockname()[1])
        r = subprocess.run([program, "-m", model, "--port", port], capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and "another program" in r.stderr, r
    for args, code, words in ((["--api-key-file", "/none/such"], 1, "/none/such"), (["--decode", "x"], 2, "--decode"),
                              (["--cache-disk", "/none/such"], 1, "--cache-disk /none/such: No such"),
                              (["--slot-save-path", model], 1, "Not a directory"),
                              (["--heads", "/none/such"], 1, "/none/such"), (["-md", "/none/such"], 1, "/none/such"),
                              (["--cache-disk", "/tmp", "--slot-save-path", "/tmp/"], 2, "are one folder"),
                              (["--ssl-cert-file", "/none/such", "--ssl-key-file", "/none"], 1, "/none/such")):
        r = subprocess.run([program, "-m", model, "--port", "0", "--check", *args], capture_output=True, text=True,
                           timeout=60)
        assert r.returncode == code and words in r.stderr, (args, r)
    disk = model + "-pages"
    r = subprocess.run([program, "-m", "tiny=" + model, "-c", "256", "--port", "0", "--check", "--cache-disk", disk,
                        "-md", model], capture_output=True, text=True, timeout=60)
    assert not os.path.exists(disk) and "guesses: the model " + model in r.stdout and disk in r.stdout, r
    assert r.returncode == 0 and "tiny" in r.stdout and "256 tokens" in r.stdout and "this machine alone" in r.stdout, r


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = served.model(data, folder)
        with Server(program, model, "-c", "512", "-np", "4", "--body-limit", "1") as s:
            for check in (check_chat, check_choices, check_text, check_logprobs, check_state, check_words,
                          check_refusals, check_salt, check_deadline, check_origin, check_bodies,
                          check_vanish, check_half, check_many, check_ignored,
                          check_long, check_old, check_pipelined):
                began = time.time()
                check(s)
                assert s.process.poll() is None, s.words()
                print(f"{check.__name__} {time.time() - began:.2f} s", flush=True)
            s.idle()
        check_keys(model, folder)
        check_drain(model)
        check_cut(model)
        check_slow(model)
        check_full(model)
        check_unread(model)
        check_template(model, folder)
        check_usage()
        check_taken(model)
    print("ok")


main()
