#!/usr/bin/env python3
"""stretto-serve under load and faults, on a model of 260,000 weights.

    test_load.py STRETTO_SERVE LOAD_CLIENT DATA [--many [SECONDS]]

Every answer is compared with what the same request got when nobody else was there, so a lost, mixed up or changed one
is noticed; among them are clients that vanish, read slowly or send half, and requests with mutations. --many: 10,000
requests at 64 at once and 50,000 mutated ones, kills at random moments and a soak of SECONDS [1800]."""
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "serve"))
import drive  # noqa: E402
import served  # noqa: E402

PROGRAM, CLIENT, DATA = sys.argv[1:4]
MANY = "--many" in sys.argv[4:]
REQUESTS, AT_ONCE, MUTATED, KILLS, SOAK = (10000, 64, 50000, 20, 1800) if MANY else (240, 16, 600, 2, 0)
if sys.argv[5:]:
    SOAK = float(sys.argv[5])
# Sanitizers make everything slower; nothing here fails on time.
PATIENCE = 600
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
rng = random.Random(5)


def start(model, *more, **how):
    return drive.Server([PROGRAM, "-m", model, "--port", "{port}", "-t", "2", "-c", "256", "-np", "8", "--queue",
                         "4096", *more], **how)


# ---- requests and what they get alone --------------------------------------------------------------------

def bodies():
    """Greedy and drawn, in both APIs, streamed and whole, alike at their beginning and not."""
    names = "Tom Lily Ben Mia Sam Sue Max Zoe Tim Amy".split()
    out = []
    for i in range(40):
        name = names[i % 10] + " and " + names[(i * 7 + 3) % 10]
        how = {"max_tokens": 6 + i % 20, "temperature": [0, 0.9][i % 3 == 0], "seed": i, "stream": i % 4 != 0}
        if i % 2:
            out.append((CHAT, {"messages": [{"role": "user", "content": f"Once upon a time {name} went out."}], **how}))
        else:
            out.append((TEXT, {"prompt": f"Once upon a time {name} saw a big dog in the park. " * (1 + i % 3), **how}))
        if how["stream"]:
            out[-1][1]["stream_options"] = {"include_usage": True}
    # Words that only one of them can write: its token gets all the weight.
    for i in range(8):
        out.append((TEXT, {"prompt": "The", "max_tokens": 12, "temperature": 0, "logit_bias": {str(300 + i): 100},
                           "stream": True, "stream_options": {"include_usage": True}}))
    return out


def raws(asked, **faults):
    return [drive.raw(path, body, **faults) for path, body in asked]


def good(a, expected):
    return a["status"] == 200 and a["how"] == "whole" and (a["text"], a["tokens"]) == expected


def check_same(server, asked, expected):
    """Lots of them at once, each as it is alone."""
    order = [rng.randrange(len(asked)) for _ in range(REQUESTS)]
    answers = drive.run(CLIENT, server.port, raws(asked[k] for k in order), AT_ONCE, PATIENCE)
    bad = [(order[a["i"]], a) for a in answers if not good(a, expected[order[a["i"]]])]
    assert len(answers) == REQUESTS and not bad, (len(bad), asked[bad[0][0]], expected[bad[0][0]], bad[0][1])


def idle(server, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(s["is_processing"] for s in json.loads(server.get("/slots")[1])):
            return
        time.sleep(0.02)
    raise AssertionError("places are still taken: " + server.get("/slots")[1])


def check_faults(server, asked, expected):
    """A third of the clients misbehave; the others' answers are as ever, and nothing is left behind."""
    idle(server)
    files, mixed, kept = server.files(), [], []
    long = {"prompt": "Once", "max_tokens": 240, "ignore_eos": True, "stream": True}
    for i in range(REQUESTS // 2):
        k = rng.randrange(len(asked))
        kind = rng.randrange(12)
        if kind == 0:
            mixed.append(drive.raw(TEXT, long, close_events=rng.randrange(6)))
        elif kind == 1:
            mixed.append(drive.raw(*asked[k], close_seconds=rng.random() * 0.1))
        elif kind == 2:
            whole = drive.raw(*asked[k])
            mixed.append(drive.raw(*asked[k], send=rng.randrange(1, len(whole)), close_seconds=rng.random() * 0.3))
        elif kind == 3:
            mixed.append(drive.raw(TEXT, long, pause=0.002))
        else:
            kept.append((len(mixed), k))
            mixed.append(drive.raw(*asked[k]))
    answers = drive.run(CLIENT, server.port, mixed, AT_ONCE, PATIENCE)
    bad = [(k, answers[i]) for i, k in kept if not good(answers[i], expected[k])]
    assert not bad, (len(bad), asked[bad[0][0]], expected[bad[0][0]], bad[0][1])
    idle(server)
    end = time.monotonic() + 30
    while server.files() > files and time.monotonic() < end:
        time.sleep(0.05)
    assert server.files() <= files, f"{server.files()} files are open, {files} were before"


# ---- mutated requests ------------------------------------------------------------------------------------

ODD = ["null", "-1", "1e999", "9" * 40, '""', "[]", "{}", "true", "NaN", '"\\ud800"', "[" * 80, "1.5", '"\\u0000"',
       "18446744073709551616", "-0.0", '{"a":{"a":{"a":[[[[]]]]}}}']


def mutate_body(data):
    b = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind, at = rng.randrange(6), rng.randrange(len(b) or 1)
        if kind == 0 and b:
            b[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del b[at:at + rng.randrange(1, 9)]
        elif kind == 2:
            b[at:at] = b[at:at + rng.randrange(1, 30)]
        elif kind == 3:
            b[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
        else:
            # A value where a value stands.
            spots = [i for i, c in enumerate(b) if c == ord(":")]
            if spots:
                at = rng.choice(spots) + 1
                stop = at
                while stop < len(b) and b[stop] not in b",}":
                    stop += 1
                b[at:stop] = rng.choice(ODD).encode()
    return bytes(b)


def mutate_head(raw):
    line, _, rest = raw.partition(b"\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    head = bytearray(head)
    kind, at = rng.randrange(5), rng.randrange(len(head))
    if kind == 0:
        head[at] = rng.randrange(256)
    elif kind == 1:
        head[at:at] = b"\r\nContent-Length: %d" % rng.choice((0, 1, 10 ** 9, 10 ** 20))
    elif kind == 2:
        head += b"\r\nTransfer-Encoding: chunked"
    elif kind == 3:
        head += b"\r\nX-Long: " + b"a" * rng.randrange(1, 70000)
    else:
        del head[at:at + rng.randrange(1, 30)]
    whole = bytes(head) + b"\r\n\r\n" + body
    return b" ".join(line.split()[:-1]) + b" %d\n" % len(whole) + whole


def check_mutated(server, asked, expected):
    more = asked + [("/v1/embeddings", {"input": ["a cat", "a dog"], "encoding_format": "base64"}),
                    ("/tokenize", {"content": "Once upon a time", "add_special": True, "with_pieces": True}),
                    ("/detokenize", {"tokens": [300, 301]}),
                    ("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}),
                    (CHAT + "/input_tokens", {"messages": [{"role": "user", "content": "Hi"}]})]
    mixed, heads = [], set()
    for i in range(MUTATED):
        if i % 20 == 19:
            mixed.append(drive.raw(*asked[i % len(asked)]))
            continue
        path, body = rng.choice(more)
        raw = drive.raw(path, mutate_body(json.dumps(body).encode()), close_seconds=20)
        if rng.randrange(4) == 0:
            heads.add(i)
            raw = mutate_head(drive.raw(path, body, close_seconds=1))
        mixed.append(raw)
    answers = drive.run(CLIENT, server.port, mixed, AT_ONCE, PATIENCE)
    kinds = {}
    for a in answers:
        i = a["i"]
        kinds[a["status"]] = kinds.get(a["status"], 0) + 1
        if i % 20 == 19:
            k = i % len(asked)
            assert good(a, expected[k]), ("a good request among them", asked[k], a)
        elif a["status"] >= 500:
            assert a["status"] in (501, 503) or i in heads and a["status"] == 505, (mixed[i][:3000], a)
        elif i not in heads:
            assert a["status"], ("no answer", mixed[i][:3000], a)
    assert server.alive(), server.said()
    for size in (0, 1, 40 << 20):
        status = server.post(CHAT, b"[" * size)[0] if size < 1 << 20 else drive.run(
            CLIENT, server.port, [drive.raw(CHAT, b"[" * size)], 1)[0]["status"]
        assert status == (413 if size > 1 << 20 else 400), (size, status)
    return kinds


# ---- ends of all kinds -----------------------------------------------------------------------------------

def check_ends(model, asked, expected):
    """SIGTERM lets answers end; after SIGKILL a new one serves as ever, whatever stands on the disk."""
    with start(model) as s:
        p = subprocess.Popen([CLIENT, "127.0.0.1", str(s.port), "8"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(b"".join(raws(asked[:8])))
        p.stdin.close()
        time.sleep(0.05)
        assert s.stop() == 0, s.said()
        told = [json.loads(line) for line in p.stdout]
        p.wait()
        for a in told:
            assert a["how"] in ("refused", "cut") or a["status"] == 503 or good(a, expected[a["i"]]), a
    with tempfile.TemporaryDirectory() as folder:
        for i in range(KILLS):
            with start(model, "--cache-disk", folder) as s:
                p = subprocess.Popen([CLIENT, "127.0.0.1", str(s.port), "8"], stdin=subprocess.PIPE,
                                     stdout=subprocess.DEVNULL)
                p.stdin.write(b"".join(raws(asked * 3)))
                p.stdin.close()
                time.sleep(rng.random() * 0.6)
                s.stop(signal.SIGKILL)
                p.wait()
        with start(model, "--cache-disk", folder) as s:
            answers = drive.run(CLIENT, s.port, raws(asked), 8, PATIENCE)
            bad = [a for a in answers if not good(a, expected[a["i"]])]
            assert not bad, (len(bad), asked[bad[0]["i"]], expected[bad[0]["i"]], bad[0])


def check_files(model, asked, expected):
    """No file descriptor is left: who is refused is refused, and afterwards all is as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    s = start(model, "-np", "4")
    try:
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.files() + 6, hard))
        drive.run(CLIENT, s.port, raws(asked[i % len(asked)] for i in range(60)), 60, 60)
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert s.alive(), s.said()
        answers = drive.run(CLIENT, s.port, raws(asked[:10]), 2, PATIENCE)
        assert all(good(a, expected[a["i"]]) for a in answers), answers
    finally:
        assert s.stop() == 0, s.said()


def soak(server, asked, expected):
    """Flat memory."""
    end, seen = time.monotonic() + SOAK, []
    while time.monotonic() < end:
        check_same(server, asked, expected)
        idle(server)
        seen.append(server.memory())
        print(f"soak: {seen[-1] / 1e6:.1f} MB", flush=True)
    assert not seen or max(seen[len(seen) // 2:]) <= min(seen[1:] or seen) + (4 << 20), seen


def main():
    with tempfile.TemporaryDirectory() as folder:
        model, asked = served.model(DATA, folder), bodies()
        with start(model, "--decode", "plain", "-np", "1") as s:
            alone = drive.run(CLIENT, s.port, raws(asked), 1, PATIENCE)
            for a in alone:
                assert a["status"] == 200 and a["how"] == "whole" and a["text"], (asked[a["i"]], a)
        expected = [(a["text"], a["tokens"]) for a in alone]
        assert len(set(expected)) > 40
        with start(model) as s:
            check_same(s, asked, expected)
            print(f"{REQUESTS} requests at {AT_ONCE} at once got what each gets alone", flush=True)
            check_faults(s, asked, expected)
            print(f"{REQUESTS // 2} more among clients that vanish, stall and send half, too", flush=True)
            kinds = check_mutated(s, asked, expected)
            print(f"{MUTATED} mutated requests: {dict(sorted(kinds.items()))}", flush=True)
            if SOAK:
                soak(s, asked, expected)
            assert s.stop() == 0, s.said()
        check_files(model, asked, expected)
        check_ends(model, asked, expected)
        print(f"and after {KILLS} kills", flush=True)


main()
