#!/usr/bin/env python3
"""A server that writes every request's own word in answer, or does one thing wrong: what the load client and the
checks are tried on.

    stub.py PORT [mixed|lost|cut|slow]"""
import asyncio
import json
import re
import sys

WRONG = sys.argv[2] if len(sys.argv) > 2 else ""
count = 0


async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"(?i)content-length: (\d+)", head)
    return head.split()[1], await reader.readexactly(int(length[1])) if length else b""


def whole(writer, status, text):
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
                 f"Connection: close\r\n\r\n{text}".encode())


def chunk(writer, data):
    data = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    data = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def stream(writer, word, n, wrong):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    for i in range(n):
        if wrong and WRONG == "mixed" and i == n // 2:
            word = "another's"
        if wrong and WRONG == "cut" and i == n // 2:
            return
        if not (wrong and WRONG == "lost" and i == n // 2):
            chunk(writer, {"choices": [{"delta": {"content": f" {word}\n\""}}]})
        await writer.drain()
        await asyncio.sleep(0.5 if wrong and WRONG == "slow" else 0.002)
    chunk(writer, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": n,
                                            "prompt_tokens_details": {"cached_tokens": 3}}})
    chunk(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")


async def serve(reader, writer):
    global count
    try:
        path, body = await read_request(reader)
        if path == "/health":
            whole(writer, 200, "{}")
        elif not body:
            whole(writer, 400, '{"error":{"message":"no \\"body\\""}}')
        else:
            body, count = json.loads(body), count + 1
            await stream(writer, body["messages"][0]["content"], body["max_tokens"], count % 10 == 0)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    async with server:
        await server.serve_forever()

asyncio.run(main())
