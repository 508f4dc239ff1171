#!/usr/bin/env python3
"""The other APIs of stretto-serve: Anthropic's messages, OpenAI's responses, llama.cpp's completion and infill,
ollama's routes, and the page. All of them write what /v1/chat/completions writes.

    test_families.py STRETTO-SERVE DATA"""
import json
import re
import sys
import tempfile

import served
from served import Server

program, data = sys.argv[1:3]
HELLO = [{"role": "user", "content": "Hello"}]
GREEDY = {"temperature": 0}


def plain(s):
    c = s.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 8, **GREEDY})[2]["choices"][0]
    return c["message"]["content"]


def events(s, path, body):
    """(event, data) of a stream."""
    c = s.connect()
    c.request("POST", path, json.dumps(body))
    r = c.getresponse()
    assert r.status == 200 and r.getheader("Content-Type") == "text/event-stream", (r.status, r.read())
    out = []
    for block in r.read().decode().strip().split("\n\n"):
        name, line = block.split("\n")
        assert name.startswith("event: ") and line.startswith("data: "), block
        out.append((name[7:], json.loads(line[6:])))
    return out


def lines(s, path, body):
    c = s.connect()
    c.request("POST", path, json.dumps(body))
    r = c.getresponse()
    assert r.status == 200 and r.getheader("Content-Type") == "application/x-ndjson", (r.status, r.read())
    return [json.loads(x) for x in r.read().splitlines()]


def check_messages(s, words):
    body = {"model": "m", "max_tokens": 8, "messages": HELLO, **GREEDY}
    code, head, j = s.post("/v1/messages", {**body, "thinking": {"type": "disabled"}})
    assert code == 200 and head["request-id"] and "x-stretto-ignored" not in head, head
    assert (j["type"], j["role"], j["stop_reason"], j["stop_sequence"]) == ("message", "assistant", "max_tokens", None)
    assert j["content"] == [{"type": "text", "text": words}], (j, words)
    asked = s.post("/v1/messages/count_tokens", {"model": "m", "messages": HELLO})[2]["input_tokens"]
    assert j["usage"]["input_tokens"] + j["usage"]["cache_read_input_tokens"] == asked
    got = events(s, "/v1/messages", {**body, "stream": True})
    names = [n for n, _ in got if n != "content_block_delta"]
    assert names == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"], got
    assert all(n == d["type"] for n, d in got)
    assert "".join(d["delta"]["text"] for n, d in got if n == "content_block_delta") == words
    assert got[-2][1]["delta"]["stop_reason"] == "max_tokens" and got[-2][1]["usage"]["output_tokens"] == 8
    j = s.post("/v1/messages", {**body, "max_tokens": 60, "stop_sequences": [words[2:5]]})[2]
    assert j["stop_reason"] == "stop_sequence" and j["stop_sequence"] == words[2:5], j
    assert j["content"][0]["text"] == words[:words.index(words[2:5])]
    # A header that differs in every request does not change what is read.
    told = [s.post("/v1/messages", {**body, "system": [
        {"type": "text", "text": f"x-anthropic-billing-header: cch={i};\n"},
        {"type": "text", "text": "Be kind."}]}) for i in range(2)]
    assert "billing" in told[0][1]["x-stretto-ignored"]
    assert told[1][2]["usage"]["cache_read_input_tokens"] >= told[0][2]["usage"]["input_tokens"] - 1, told
    # The beginning of an answer.
    j = s.post("/v1/messages", {**body, "messages": HELLO + [{"role": "assistant", "content": words[:9]}]})[2]
    assert j["usage"]["input_tokens"] + j["usage"]["cache_read_input_tokens"] > asked
    j_begun = j["content"]
    for bad, field in (({"messages": HELLO}, "max_tokens"), ({"max_tokens": 5}, "messages"),
                       ({**body, "messages": [{"role": "tool", "content": "x"}]}, "messages"),
                       ({**body, "messages": [{"role": "system", "content": "x-anthropic-billing-header: a"}]},
                        "messages"),
                       ({**body, "max_tokens": -1}, "max_tokens"), ({**body, "mcp_servers": [{}]}, "mcp_servers")):
        code, head, j = s.post("/v1/messages", bad)
        assert code == 400 and j["type"] == "error" and j["error"]["type"] == "invalid_request_error", (code, j)
        assert field in j["error"]["message"] and j["request_id"] == head["request-id"], j
    # What was thought before is not read again; calls of tools are not dropped.
    thought = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "text", "text": words[:9]}]
    again = s.post("/v1/messages", {**body, "messages": HELLO + [{"role": "assistant", "content": thought}]})[2]
    assert again["content"] == j_begun, (again, j_begun)
    called = [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]
    came = [{"type": "tool_result", "tool_use_id": "1", "content": "sunny"}]
    past = HELLO + [{"role": "assistant", "content": called}, {"role": "user", "content": came}]
    code, head, j = s.post("/v1/messages", {**body, "messages": past})
    assert code == 200 and j["usage"]["input_tokens"] > asked, (code, j)
    code, head, j = s.post("/v1/messages", {**body, "tools": [{"name": "f", "input_schema": {}}],
                                            "tool_choice": {"type": "none"}})
    assert code == 200 and head["x-stretto-ignored"] == "tools" and j["content"][0]["text"] == words, (code, head, j)
    code, head, j = s.post("/v1/messages", {**body, "tools": [{"name": "f", "input_schema": {}}]})
    assert code == 501 and head["x-should-retry"] == "false" and "tools" in j["error"]["message"], (code, head, j)


def check_responses(s, words):
    body = {"input": "Hello", "max_output_tokens": 8, **GREEDY}
    code, head, j = s.post("/v1/responses", {**body, "tools": [{"type": "web_search"}], "store": True})
    assert code == 200 and "tools" in head["x-stretto-ignored"], (code, head)
    assert j["object"] == "response" and j["status"] == "incomplete" and j["usage"]["output_tokens"] == 8, j
    assert j["incomplete_details"] == {"reason": "max_output_tokens"}
    assert j["output"][0]["content"][0]["text"] == words
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
             {"type": "reasoning", "summary": []}]
    got = events(s, "/v1/responses", {**body, "input": parts, "stream": True})
    names = [n for n, _ in got if n != "response.output_text.delta"]
    assert names == ["response." + n for n in ("created", "in_progress", "output_item.added", "content_part.added",
                                               "output_text.done", "content_part.done", "output_item.done",
                                               "incomplete")], names
    assert [d["sequence_number"] for _, d in got] == list(range(len(got)))
    assert "".join(d["delta"] for n, d in got if n == "response.output_text.delta") == words
    assert got[-1][1]["response"]["output"][0]["content"][0]["text"] == words
    item = got[2][1]["item"]["id"]
    assert all(d.get("item_id", item) == item for _, d in got)
    assert s.post("/v1/responses", {"max_output_tokens": 1})[0] == 200          # nothing asked, as clients try
    counted = s.post("/v1/responses/input_tokens", {"input": "Hello"})[2]
    assert counted == {"object": "response.input_tokens", "input_tokens": j["usage"]["input_tokens"]}
    for bad, status in (({"previous_response_id": "resp_1"}, 400), ({"background": True}, 400),
                        ({"input": [{"type": "computer_call", "name": "f"}]}, 501), ({"truncation": "auto"}, 400),
                        ({"tools": [{"type": "function", "name": "f"}]}, 501), ({"input": 5}, 400),
                        ({"text": {"format": {"type": "json_object"}}}, 501)):
        code, _, j = s.post("/v1/responses", {**body, **bad})
        assert code == status and next(iter(bad)) in j["error"]["message"], (bad, code, j)
    assert s.get("/v1/responses/resp_1")[0] == 404


def check_native(s):
    body = {"prompt": "Once upon a time", "n_predict": 8, **GREEDY}
    j = s.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 8, **GREEDY})[2]
    words = j["choices"][0]["text"]
    j = s.post("/completion", {**body, "n_probs": 2, "return_tokens": True})[2]
    assert j["content"] == words and j["stop"] and j["stop_type"] == "limit" and j["tokens_predicted"] == 8, j
    assert len(j["tokens"]) == 8 and len(j["completion_probabilities"]) == 8
    assert len(j["completion_probabilities"][0]["top_logprobs"]) == 2 and j["generation_settings"]["n_predict"] == 8
    got = s.stream("/completion", {**body, "stream": True, "timings_per_token": True})
    assert "".join(e["content"] for e in got) == words and [e["stop"] for e in got] == [False] * (len(got) - 1) + [True]
    assert sum(sum(e["timings"]["steps"]) for e in got[:-1]) == 8
    assert len(s.post("/completion", {**body, "prompt": ["One", "Two"]})[2]) == 2
    j = s.post("/completion", {**body, "stop": [words[3:6]]})[2]
    assert j["stop_type"] == "word" and j["stopping_word"] == words[3:6], j
    code, _, j = s.post("/infill", {"input_prefix": "a", "input_suffix": "b"})
    assert code == 400 and "no tokens for a gap" in j["error"]["message"]
    code, _, j = s.post("/completion", {**body, "grammar": "root ::= [a-z]"})
    assert code == 501 and "grammar" in j["error"]["message"]


def check_ollama(s, words):
    options = {"num_predict": 8, "num_ctx": 512, **GREEDY}
    body = {"model": "stories:latest", "messages": HELLO, "options": options}
    got = lines(s, "/api/chat", body)
    assert "".join(x["message"]["content"] for x in got) == words
    assert [x["done"] for x in got] == [False] * (len(got) - 1) + [True] and got[-1]["done_reason"] == "length", got[-1]
    assert got[-1]["eval_count"] == 8 and got[-1]["total_duration"] >= got[-1]["eval_duration"] > 0
    code, head, j = s.post("/api/chat", {**body, "stream": False, "keep_alive": "5m"})
    assert code == 200 and j["message"]["content"] == words and j["done"], j
    assert "num_ctx" in head["x-stretto-ignored"] and "keep_alive" in head["x-stretto-ignored"]
    j = s.post("/api/generate", {"model": "stories", "prompt": "Hello", "stream": False, "options": options})[2]
    assert j["response"] == words, (j, words)
    raw = s.post("/api/generate", {"model": "stories", "prompt": "Once upon a time", "raw": True, "stream": False,
                                   "options": options})[2]
    same = s.post("/completion", {"prompt": "Once upon a time", "n_predict": 8, **GREEDY})[2]
    assert raw["response"] == same["content"]
    assert s.post("/api/generate", {"model": "stories"})[2]["done_reason"] == "load"
    j = s.post("/api/embed", {"model": "stories", "input": ["One", "Two"]})[2]
    want = s.post("/v1/embeddings", {"input": ["One", "Two"]})[2]["data"]
    assert j["embeddings"] == [x["embedding"] for x in want]
    assert s.post("/api/embeddings", {"model": "stories", "prompt": "One"})[2]["embedding"] == want[0]["embedding"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", s.get("/api/version")[2]["version"])
    assert [m["name"] for m in s.get("/api/tags")[2]["models"]] == ["stories"]
    about = s.get("/api/tags")[2]["models"][0]["details"]
    assert about["quantization_level"] == "F32" and about["parameter_size"] == "260K", about
    assert s.get("/api/ps")[2]["models"][0]["context_length"] > 0
    j = s.post("/api/show", {"model": "stories:latest"})[2]
    assert j["capabilities"] == ["completion"] and j["model_info"]["llama.context_length"] > 0 and j["template"], j
    for path, bad, status in (("/api/chat", {**body, "format": "json"}, 501),
                              ("/api/chat", {**body, "messages": 3}, 400),
                              ("/api/generate", {"prompt": "x", "system": 5}, 400),
                              ("/api/generate", {"prompt": "x", "raw": "yes"}, 400),
                              ("/api/chat", {**body, "options": {"temperature": "hot"}}, 400), ("/api/pull", {}, 501),
                              ("/api/nothing", {}, 404), ("/api/generate", {"prompt": 5}, 400)):
        code, _, j = s.post(path, bad)
        assert code == status and isinstance(j["error"], str), (path, bad, code, j)


def check_page(s):
    code, head, page = s.get("/", Accept="text/html")
    nonce = re.search(rb'<script nonce="(\w+)">', page).group(1)
    assert code == 200 and head["content-type"].startswith("text/html") and b"{{" not in page
    assert f"script-src 'nonce-{nonce.decode()}'" in head["content-security-policy"], head
    assert nonce != re.search(rb'<script nonce="(\w+)">', s.get("/", Accept="text/html")[2]).group(1)
    assert s.get("/")[2] == b"Ollama is running" and s.get("/", Accept="*/*")[2].startswith(b"<!doctype html>")


with tempfile.TemporaryDirectory() as folder:
    with Server(program, served.model(data, folder)) as server:
        said = plain(server)
        check_messages(server, said)
        check_responses(server, said)
        check_native(server)
        check_ollama(server, said)
        check_page(server)
print("the other APIs: all is well")
