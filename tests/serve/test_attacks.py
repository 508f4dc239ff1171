#!/usr/bin/env python3
"""stretto-serve attacked: requests whose end two programs see in different places, headers of every size, lines of the
log that a client would like to write himself, names of this machine that are somebody else's, bodies of few bytes that
want much memory, texts that a tokenizer or a template could be slow on.

    test_attacks.py STRETTO-SERVE DATA"""
import json
import os
import re
import resource
import socket
import sys
import tempfile
import time
import threading

import served
from served import Server

program, data = sys.argv[1:3]
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BODY = b'{"prompt":"Once","max_tokens":2}'
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def answers(s, data, timeout=20):
    """Statuses of all answers on one connection; what is left open is closed by a last request that asks for it."""
    got = b""
    with s.raw(timeout) as c:
        try:
            c.sendall(data + GET + b"Connection: close\r\n\r\n")
            while piece := c.recv(65536):
                got += piece
        except OSError:
            pass                                     # refused before all was read
    return [int(x) for x in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)], got


# What a proxy and a server could read differently: refused, and nothing behind it is a request.
SMUGGLED = {
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "space before the colon, chunks": POST + b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n" + BODY,
    "tab before the colon": POST + b"Content-Length\t: 5\r\n\r\nhello",
    "a folded length": POST + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a folded name": POST + b"Content-Leng: 5\r\n th\r\n\r\nhello",
    "folded chunks": POST + b"Transfer-Encoding:\r\n chunked\r\n" + CHUNKS,
    "a carriage return in a value": GET + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "a line feed in a value": GET + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "a zero in a value": POST + b"Content-Length: 5\x00 6\r\n\r\nhello",
    "a zero in a name": POST + b"Content-Length\x00: 5\r\n\r\nhello",
    "two lengths": POST + b"Content-Length: 5\r\n" + LENGTH + b"\r\n" + BODY,
    "the same length twice": POST + LENGTH + LENGTH + b"\r\n" + BODY,
    "lengths in a list": POST + b"Content-Length: 32, 32\r\n\r\n" + BODY,
    "a length with a sign": POST + b"Content-Length: +32\r\n\r\n" + BODY,
    "a length in hex": POST + b"Content-Length: 0x20\r\n\r\n" + BODY,
    "a negative length": POST + b"Content-Length: -5\r\n\r\n",
    "a length of no number": POST + b"Content-Length:\r\n\r\n",
    "a length beyond all": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a length beside chunks": POST + LENGTH + b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    "an encoding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "another encoding": POST + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS,
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n" + CHUNKS,
    "an encoding behind a tab": POST + b"Transfer-Encoding: \x0bchunked\r\n" + CHUNKS,
    "an empty encoding": POST + b"Transfer-Encoding:\r\n" + LENGTH + b"\r\n" + BODY,
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    "a negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk in 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk beyond all": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk with a blank": POST + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "a chunk without its end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "an extension over lines": POST + b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "no colon": GET + b"nonsense\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "words behind the version": b"GET /health HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
}
# What is odd and means one thing.
PLAIN = {
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n" + CHUNKS, [200, 200]),
    "CHUNKS": (POST + b"tRANSFER-eNCODING:\tCHUNKED\r\n" + CHUNKS, [200, 200]),
    "a chunk's extension": (POST + b"Transfer-Encoding: chunked\r\n" + CHUNKS.replace(b"20\r\n", b"20;a=b\r\n"),
                            [200, 200]),
    "a trailer": (POST + b"Transfer-Encoding: chunked\r\n" + CHUNKS[:-2] + b"Content-Length: 9\r\n\r\n", [200, 200]),
    "zeros in front": (POST + b"Content-Length: 000%d\r\n\r\n%s" % (len(BODY), BODY), [200, 200]),
    "a body of GET": (GET + b"Content-Length: 5\r\n\r\nhello", [200, 200]),
    "lines in front": (b"\r\n\r\n" + GET + b"\r\n", [200, 200]),
    "a wish for HTTP/2": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", [200, 200]),
    "odd cookies": (GET + b'Cookie: =; a="; "=x; ,,;;a\r\n\r\n', [200, 200]),
    "another's address": (b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n", [404, 200]),
    "a zero in the path": (b"GET /health%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", [404, 200]),
    "upwards": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", [404, 200]),
    "upwards, spelled": (b"GET /page/%2e%2e%2f%2e%2e%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n", [404, 200]),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\nSecret: x\r\n\r\n", [405, 200]),
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", [404, 200]),
}


def check_smuggled(s):
    for what, data in SMUGGLED.items():
        told, got = answers(s, data)
        # The library says its own refusals twice.
        assert told and set(told) <= {400, 413} and len(told) <= 2 and b'"status":"ok"' not in got, (what, told, got)
    for what, (data, want) in PLAIN.items():
        told, got = answers(s, data)
        assert told == want, (what, told, got)
        assert b"Secret" not in got and b"root:" not in got, (what, got)


def check_sizes(s):
    """Headers, cookies and queries of every size get an answer: the one asked for, or that they are too large."""
    unknown = b'{"prompt":"Once","max_tokens":1,' + b",".join(b'"unknown%d":1' % i for i in range(150)) + b"}"
    head = POST + b"Content-Length: %d\r\n" % len(unknown)
    asks = [b"Origin: http://x.example\r\nAccess-Control-Request-Headers: " + b"a" * 390 + b"\r\n", b""]
    for n in list(range(0, 6000, 1500)) + list(range(6000, 10000, 200)):
        for more in asks:
            told, _ = answers(s, head + more + b"X-Pad: " + b"a" * n + b"\r\n\r\n" + unknown)
            size = n + len(more)       # whose connection is reset may not read why
            assert told[:1] == [200] if size < 7600 else told[:1] in ([200], [431], []) if size < 8400 else \
                told[:1] in ([431], []), (size, told)
    for n in (1, 50, 120, 160, 200, 400, 1000):
        for data in (head + b"".join(b"a%d: b\r\n" % i for i in range(n)) + b"\r\n" + unknown,
                     GET + b"Cookie: " + b"; ".join(b"a%d=b" % i for i in range(n)) + b"\r\n\r\n",
                     GET.replace(b"health", b"health?" + b"&".join(b"a%d" % i for i in range(n))) + b"\r\n"):
            told, _ = answers(s, data)
            assert told[:1] in ([200], [431], [414], []) and (told[:1] == [200] or n >= 120), (n, data[:60], told)


def check_log(s):
    """One line for each request, whatever it calls itself; nothing that a terminal would obey."""
    s.get("/mark")
    s.lines(1, lambda x: "/mark" in x)
    before = len(s.lines(0))
    odd = [b"GET /%0a127.0.0.1%20POST%20/v1/forged%20200%20in%200.001%20s HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b"GET /%1b[2Jx HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b"GET /\xff\xfe\xc2\x9b HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b"G\x1b[2JT /x HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G\xffT /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b"GET /v1/responses/%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    for data in odd:
        told, got = answers(s, data)
        assert told in ([404, 200], [405, 200]) and b"\r\nSet-Cookie" not in got, (data, got)
    names = {"a\r\nSet-Cookie: x": 1, "b\x1b[2J": 1, "\u00fc": 1, "model": "\u009b\ud7ff\r\nx"}
    code, head, _ = s.post(TEXT, {"prompt": "Once", "max_tokens": 1, **names})
    assert code == 200 and "set-cookie" not in head, head
    lines = s.lines(before + 2 * len(odd) + 1)[before:]
    assert not [x for x in lines if x.startswith("127.0.0.1 POST /v1/forged")], lines
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]", "\n".join(lines)), lines
    assert sum(" GET /health 200" in x for x in lines) == sum(" 404 " in x for x in lines) == len(odd), lines


def check_forms(s):
    """Forms are no JSON, and the library's reader of them (CVE-2023-27371) is not even linked."""
    part = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nOnce\r\n--x--\r\n'
    for kind, body in (("multipart/form-data; boundary=x", part), ("application/x-www-form-urlencoded", b"prompt=Once"),
                       ("multipart/form-data; boundary=" + "x" * 300, part)):
        code, _, j = s.ask("POST", TEXT, body, {"Content-Type": kind})
        assert code == 400 and "(byte 0)" in j["error"]["message"], (code, j)
    with open(program, "rb") as f:
        names = f.read()
    assert b"MHD_create_response" in names and b"MHD_create_post_processor" not in names


def check_names(model):
    """Names that somebody else can give to this machine."""
    with Server(program, model, "-c", "512", "--host", "0.0.0.0") as s:
        def ask(host, origin=None):
            more = {"Origin": origin} if origin else {}
            return s.ask("POST", TEXT, {"prompt": "Once", "max_tokens": 1}, {"Host": host, **more})[0]
        assert ask("chat.example.com") == 200 and ask(f"evil.example:{s.port}", f"http://evil.example:{s.port}") == 403
        for name in ("server", "server.local", "127.0.0.1", f"192.168.7.7:{s.port}", f"[::1]:{s.port}"):
            assert ask(name, "http://" + name) == 200, name
            assert ask(name, "http://evil.example") == 403 and ask(name, "null") == 403, name
    with Server(program, model, "-c", "512") as s:
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0x7f.1", "", "server"):
            assert s.ask("GET", "/health", None, {"Host": name})[0] == 403, name


def peak(s):
    with open(f"/proc/{s.process.pid}/status") as f:
        return {k: int(v.split()[0]) / 1024 for k, v in (x.split(":", 1) for x in f) if k in ("VmHWM", "VmRSS")}


def check_memory(model):
    """Few bytes that want much memory, and many large requests that never end: refused before it is taken, while short
    ones are answered."""
    with Server(program, model, "-c", "512", "--body-limit", "8", "--stall", "20", "--api-key", "first,second") as s:
        s.headers["Authorization"] = "Bearer first"
        s.post(TEXT, {"prompt": "Once", "max_tokens": 1})
        before = peak(s)["VmRSS"]
        small = b'{"prompt":"a","max_tokens":1,"pad":['
        for body, status, words in ((small + b"{}," * 1_000_000 + b"1]}", 413, "values of this request"),
                                    (small + b"1," * 4_190_000 + b"1]}", 413, "values of this request"),
                                    (small + b'"",' * 2_000_000 + b"1]}", 413, "values of this request"),
                                    (b"[" * 1000, 400, "deeper"), (b'{"a\\u0000":1}', 400, "U+0000"),
                                    (small + b"1," * 1_000_000 + b"1]}", 200, "")):
            code, _, j = s.post(TEXT, body)
            assert code == status and words in json.dumps(j), (body[:60], code, j)
        code, _, j = s.post("/tokenize", {"content": "a b " * 50_000, "with_pieces": True})
        assert code == 200 and len(j["tokens"]) > 50_000 and j["tokens"][0].keys() == {"id", "piece"}
        long = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "n": 16,
                "prediction": {"type": "content", "content": "a b " * 1_000_000}}
        assert s.post(CHAT, long)[0] == 200
        # Of 128 MB for all requests, with what a heap keeps beside them.
        grown = peak(s)["VmHWM"] - before
        held, refused = [], []
        for _ in range(24):
            c = s.raw()
            try:
                c.sendall(POST + b"Authorization: Bearer first\r\nContent-Length: 8000000\r\n\r\n" + b"[" * 7_900_000)
                held.append(c)
            except OSError:
                refused.append(c)
        code, head, j = s.post(TEXT, small + b"1," * 3_500_000 + b"1]}")
        assert code == 503 and "memory" in j["error"]["message"] and int(head["retry-after"]) >= 1, (code, j)
        assert s.post(TEXT, {"prompt": "Once", "max_tokens": 1, "pad": "a" * 50_000})[0] == 200
        if not re.search("[at]san", program):          # which take memory of their own
            assert grown < 260 and peak(s)["VmHWM"] - before < 360, (grown, peak(s), before)
        code = s.post(TEXT, small + b"1," * 1_000_000 + b"1]}", Authorization="Bearer second")[0]
        assert code == 200, "another's share"
        for c in held + refused:
            c.close()
        for _ in range(200):
            if s.post(TEXT, small + b"1," * 1_000_000 + b"1]}")[0] == 200:
                break
        else:
            raise AssertionError("what requests held is not given back")


def check_saved(model, folder):
    """Texts that are saved: no way out of the folder, none to another key's, no more than the folder may have, and a
    disk without room leaves nothing half-written."""
    place = os.path.join(folder, "saved")
    os.mkdir(place)
    with Server(program, model, "-c", "512", "-np", "2", "--slot-save-path", place, "--api-key", "first,second",
                "--cache-disk-size", "1") as s:
        def ask(action, name, key="first"):
            code, _, j = s.post(f"/slots/0?action={action}", {"filename": name}, Authorization="Bearer " + key)
            return code, json.dumps(j)

        def tell(key):
            code, _, j = s.post(TEXT, {"prompt": [300 + len(key)] * 200, "max_tokens": 1, "id_slot": 0},
                                Authorization="Bearer " + key)
            assert code == 200, j

        tell("first")
        for name in ("../x", "/etc/x", "..", ".", ".x", "a/b", "a\\b", "a\0b", "", "x" * 65, "a.part", "\u00fc", "a b",
                     None, 7):
            assert ask("save", name)[0] == 400 and ask("restore", name)[0] == 400, name
        assert ask("restore", "passwd")[0] >= 400 and not os.listdir(place)
        tell("first")
        assert ask("save", "one")[0] == 200
        tell("second")
        assert ask("restore", "one", "second")[0] >= 400, "the other key's"
        tell("second")
        assert ask("save", "one", "second")[0] == 200 and len(os.listdir(place)) == 2
        assert ask("restore", "one")[0] == 200
        tell("first")
        resource.prlimit(s.process.pid, resource.RLIMIT_FSIZE, (20_000, -1))
        code, words = ask("save", "two")
        assert code >= 400 and len(os.listdir(place)) == 2, (code, words, os.listdir(place))
        resource.prlimit(s.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        with open(os.path.join(place, "much"), "wb") as f:
            f.truncate(2 << 20)
        time.sleep(1.1)                      # it is looked at once a second
        code, words = ask("save", "two")
        assert code == 400 and "--cache-disk-size" in words, (code, words)


def check_slow_texts(s):
    """Texts and conversations on which tokenizers and templates were slow; others are answered meanwhile."""
    def ask(path, body):
        got.append(s.post(path, body)[0])

    for words in ("a", " ", "\n", "<|im_end|>", "e\u0301", "\U0001f600", "'", "1", "\u200d"):
        assert s.post("/tokenize", {"content": words * (60_000 // len(words.encode()))})[0] == 200
    got = []
    many = [{"role": "user", "content": "a"}] + 60_000 * [{"role": "tool", "content": ""}]
    code, _, j = s.post("/apply-template", {"messages": many})       # as one message; copied for each, it took minutes
    assert code == 200 and j["prompt"].count("<tool_response>") == 60_000
    talk = [{"role": "tool" if i % 2 else "system", "content": "x"} for i in range(8_000)]
    threads = [threading.Thread(target=ask, args=("/apply-template", {"messages": talk}))]
    threads[0].start()
    assert s.post(TEXT, {"prompt": "Once", "max_tokens": 4})[0] == 200
    threads[0].join()
    assert got == [200], got


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = served.model(data, folder)
        with Server(program, model, "-c", "512", "-np", "4", "--cors-origins", "http://x.example") as s:
            for check in (check_smuggled, check_sizes, check_log, check_slow_texts, check_forms):
                check(s)
                assert s.process.poll() is None, s.words()
                print(check.__name__, flush=True)
        for check in (check_names, check_memory):
            check(model)
            print(check.__name__, flush=True)
        check_saved(model, folder)
    print("ok")


main()
