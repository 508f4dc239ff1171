#!/usr/bin/env python3
"""Pages in files: a server that is killed while it answers and writes, started again: what it takes over, beside an
oracle that counts whole pages of 64 tokens, and that no answer changes. A folder that cannot be written to is said at
once.

    test_restart.py STRETTO-SERVE DATA"""
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import served
from served import Server

program, data = sys.argv[1:3]
TEXT = "/v1/completions"


def prompts(seed):
    rng, out = random.Random(seed), []
    for _ in range(24):
        start = rng.choice(out)[:rng.randrange(400)] if out and rng.random() < 0.7 else []
        out.append(start + [rng.randrange(3, 500) for _ in range(rng.randrange(20, 450 - len(start)))])
    return out


def possible(p, others):
    """Tokens of the longest beginning in whole pages that is another's too; the last token is always read."""
    best = 0
    for o in others:
        n = 0
        while n < min(len(p) - 1, len(o)) and p[n] == o[n]:
            n += 1
        best = max(best, n // 64 * 64)
    return best


def ask(s, p):
    code, _, j = s.post(TEXT, {"prompt": p, "max_tokens": 6, "temperature": 0, "logprobs": 3})
    assert code == 200, j
    return j["choices"][0]["text"], j["choices"][0]["logprobs"], j["usage"]["prompt_tokens_details"]["cached_tokens"]


def start(model, folder):
    return Server(program, model, "-c", "512", "-np", "16", "--strict", "--cache-ram", "64", "--cache-disk", folder)


def kill(s):
    s.process.send_signal(signal.SIGKILL)
    s.process.wait()


def check_restart(model, folder):
    texts = prompts(1)
    with Server(program, model, "-c", "512", "-np", "16", "--strict") as s:
        right = [ask(s, p)[:2] for p in texts]
    s = start(model, folder)
    for p, r in zip(texts, right):
        assert ask(s, p)[:2] == r
    time.sleep(1)                              # there is nothing to do: what was read is written
    kill(s)
    with start(model, folder) as s:
        got = all_ = 0
        for p, r in zip(texts, right):
            *answer, cached = ask(s, p)
            assert tuple(answer) == r, "another answer after the start from files"
            best = possible(p, texts)
            got, all_ = got + min(cached, best), all_ + best
        print(f"after kill -9: {got} of {all_} tokens in whole pages")
        assert got >= 0.95 * all_ and all_ > 1000


def check_kills(model, folder):
    """Killed while it is at work, again and again; answers stay."""
    texts = prompts(2)
    right = None
    for turn in range(4):
        s = start(model, folder)
        if right is None:
            right = [ask(s, p)[:2] for p in texts[:12]]
        threading.Timer(0.05 + 0.1 * turn, kill, [s]).start()
        try:
            for p in texts[12:] * 20:
                ask(s, p)
        except (OSError, ValueError, AssertionError):
            pass
        s.process.wait()
    with start(model, folder) as s:
        assert [ask(s, p)[:2] for p in texts[:12]] == right


def check_bad(model, folder):
    path = os.path.join(folder, "file")
    open(path, "w").close()
    r = subprocess.run([program, "-m", model, "-c", "512", "--port", "0", "--cache-disk", path], capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 1 and path in r.stderr, r
    with start(model, folder):
        r = subprocess.run([program, "-m", model, "-c", "512", "-np", "16", "--strict", "--port", "0", "--cache-disk",
                            folder], capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and "another process" in r.stderr, r


def main():
    with tempfile.TemporaryDirectory() as work:
        model = served.model(data, work)
        for check in (check_restart, check_kills, check_bad):
            with tempfile.TemporaryDirectory() as folder:
                check(model, folder)
    print("ok")


main()
