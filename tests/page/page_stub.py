#!/usr/bin/env python3
"""A server that answers the web page with one known answer, slowly: page_stub.py ROOT PORT_FILE."""
import http.server
import json
import os
import sys
import time

ROOT, PORT_FILE = sys.argv[1], sys.argv[2]
NONCE = "known"
POLICY = (f"default-src 'none'; style-src 'nonce-{NONCE}'; script-src 'nonce-{NONCE}'; connect-src 'self'; "
          "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
ANSWER = """## Two sorted lists

Here is a function that merges them in *linear* time:

```python
def merge(a, b):
    out, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] <= b[j]:
            out.append(a[i]); i += 1
        else:
            out.append(b[j]); j += 1
    return out + a[i:] + b[j:]
```

1. It reads each element **once**.
2. It keeps the order of equal elements:
   - those of `a` first
   - then those of `b`

| lists | steps |
|---|---|
| 3 and 4 | 7 |
| n and m | n + m |

> See also https://docs.python.org/3/library/heapq.html for `heapq.merge`.
<script>alert(1)</script> stays text."""


def page():
    folder = os.path.join(ROOT, "programs", "serve", "page")

    def text(name):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            return f.read()
    return text("page.html").replace("{{style}}", text("page.css")).replace("{{script}}", text("page.js")).replace(
        "{{nonce}}", NONCE)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, body, kind="application/json", status=200):
        body = body.encode()
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", len(body)), ("Content-Security-Policy", POLICY)):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.answer(page(), "text/html; charset=utf-8")
        elif self.path == "/v1/models":
            self.answer(json.dumps({"data": [{"id": "smollm2-135m"}, {"id": "qwen2.5-coder-0.5b"}]}))
        else:
            self.answer("{}", status=404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["messages"][-1]["content"] == "break":
            self.answer(json.dumps({"error": {"message": "the conversation has 9,000 tokens and the context 8,192"}}),
                        status=400)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.stream()
        except OSError:
            pass                                # the page has stopped the answer

    def event(self, data):
        data = f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self):
        for done in range(0, 401, 100):
            self.event({"choices": [], "prompt_progress": {"total": 400, "processed": done, "cache": 0, "time_ms": 1}})
            time.sleep(0.02)
        words, at, tokens, passes = ANSWER.split(" "), 0, 0, 0
        while at < len(words):
            step = (1, 1, 3, 1, 2, 5, 1)[passes % 7]
            text = " ".join(words[at:at + step]) + (" " if at + step < len(words) else "")
            at, tokens, passes = at + step, tokens + step, passes + 1
            self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
                        "timings": {"predicted_n": tokens, "predicted_ms": 12.0 * passes, "steps": [step]}})
            time.sleep(0.01)
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 400, "completion_tokens": tokens,
                                             "total_tokens": 400 + tokens}})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(PORT_FILE + ".part", "w", encoding="ascii") as f:
    f.write(str(server.server_address[1]))
os.replace(PORT_FILE + ".part", PORT_FILE)
server.serve_forever()
