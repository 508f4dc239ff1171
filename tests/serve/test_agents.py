#!/usr/bin/env python3
"""What Open WebUI, Claude Code and Codex send, as their public descriptions have it: answered without a setting where
no tool is to be called; requests with tools get the documented 501, and with --ignore-tools an answer that names them.

    test_agents.py STRETTO-SERVE DATA"""
import sys
import tempfile

import served
from served import Server

program, data = sys.argv[1:3]
LONG = "You are a careful assistant. " * 8
SCHEMA = {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}},
          "required": ["command"], "additionalProperties": False}


def webui(s):
    """Open WebUI: lists models, streams chats with fields of its own, then asks for a title without a stream."""
    models = s.get("/v1/models", Authorization="Bearer sk-none")[2]["data"]
    base = {"model": models[0]["id"], "chat_id": "c1", "session_id": "s1", "metadata": {"user_id": "u"},
            "features": {"web_search": False}, "variables": {"{{USER_NAME}}": "me"}}
    chat = [{"role": "system", "content": LONG}, {"role": "user", "content": "Hello"}]
    events = s.stream("/v1/chat/completions", {**base, "messages": chat, "stream": True, "max_tokens": 8,
                                               "stream_options": {"include_usage": True}})
    assert events[-1] == "[DONE]" and events[-2]["usage"]["completion_tokens"] == 8, events[-2:]
    words = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in e["choices"])
    chat += [{"role": "assistant", "content": words}, {"role": "user", "content": [{"type": "text", "text": "More"}]}]
    code, head, j = s.post("/v1/chat/completions", {**base, "messages": chat, "stream": False, "max_tokens": 8})
    assert code == 200 and j["usage"]["prompt_tokens_details"]["cached_tokens"] > 30, j["usage"]
    assert "chat_id" in head["x-stretto-ignored"]
    title = [{"role": "user", "content": "### Task:\nGenerate a title.\n<chat_history>USER: Hello</chat_history>"}]
    assert s.post("/v1/chat/completions", {**base, "messages": title, "stream": False, "max_completion_tokens": 8,
                                           "temperature": 0.1})[0] == 200
    assert s.post("/v1/embeddings", {"model": base["model"], "input": ["One", "Two"],
                                     "encoding_format": "float"})[0] == 200


def claude(s, tools):
    """Claude Code: counts tokens, asks for a title with a small request, then streams with system blocks and tools."""
    head = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
            "x-api-key": "sk-none", "User-Agent": "claude-cli/2.1.36 (external, cli)", "x-app": "cli"}
    blocks = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.36; cch=a1b2c;"},
              {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    said = [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}]
    body = {"model": "claude-sonnet-4-5", "max_tokens": 16, "metadata": {"user_id": "user_1_account__session_2"},
            "system": blocks, "messages": said, "temperature": 1}
    code, _, j = s.post("/v1/messages/count_tokens?beta=true", {k: body[k] for k in ("model", "system", "messages")},
                        **head)
    assert code == 200 and j["input_tokens"] > 10, j
    code, got, j = s.post("/v1/messages?beta=true", body, **head)
    assert code == 200 and j["role"] == "assistant" and "billing" in got["x-stretto-ignored"], (code, j)
    events = s.stream("/v1/messages?beta=true", {**body, "stream": True, "thinking": {"type": "enabled",
                                                                                      "budget_tokens": 1024}}, **head)
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"], events
    tool = {"name": "Bash", "description": "Runs a command", "input_schema": SCHEMA}
    called = said + [{"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Bash",
                                                        "input": {"command": ["ls"]}}]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a.py"},
                                                  {"type": "text", "text": "<system-reminder>x</system-reminder>"}]}]
    code, got, j = s.post("/v1/messages?beta=true", {**body, "messages": called, "tools": [tool]}, **head)
    assert code == (200 if tools else 501), (code, j)
    assert tools and "tools" in got["x-stretto-ignored"] or "--ignore-tools" in j["error"]["message"]
    return code


def codex(s, tools):
    """Codex: one request with instructions, context and tools, always as a stream, and nothing kept."""
    own = [{"type": "function", "name": "shell", "strict": False, "parameters": SCHEMA},
           {"type": "custom", "name": "apply_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
           {"type": "web_search"}]
    items = [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: none"}]},
             {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context/>"}]},
             {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
    body = {"model": "gpt-5-codex", "instructions": LONG, "input": items, "tools": own, "tool_choice": "auto",
            "parallel_tool_calls": False, "reasoning": {"effort": "low", "summary": "auto"}, "store": False,
            "stream": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199-aa",
            "max_output_tokens": 8}
    assert s.get("/v1/models")[2]["models"][0]["slug"]
    assert s.post("/v1/responses", {"model": "m", "max_output_tokens": 1})[0] == 200
    if not tools:
        code, _, j = s.post("/v1/responses", body)
        assert code == 501 and "--ignore-tools" in j["error"]["message"], (code, j)
        body["tools"], body["tool_choice"] = own[2:], "auto"       # what runs elsewhere alone is left aside
    events = s.stream("/v1/responses", body, originator="codex_cli_rs", **{"OpenAI-Beta": "responses=experimental"})
    assert events[0]["type"] == "response.created" and events[-1]["type"] in ("response.completed",
                                                                              "response.incomplete"), events[-1]
    past = items + [{"type": "reasoning", "summary": [], "encrypted_content": None},
                    {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": '{"command":["ls"]}'},
                    {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
                    {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"},
                    {"type": "custom_tool_call_output", "call_id": "c2", "output": "Done"}]
    events = s.stream("/v1/responses", {**body, "input": past})
    assert events[-1]["response"]["usage"]["input_tokens"] > 20


with tempfile.TemporaryDirectory() as folder:
    stories = served.model(data, folder)
    for ignore in (False, True):
        with Server(program, stories, "-c", "2048", *["--ignore-tools"] * ignore) as server:
            webui(server)
            claude(server, ignore)
            codex(server, ignore)
print("Open WebUI, Claude Code and Codex: all is well")
