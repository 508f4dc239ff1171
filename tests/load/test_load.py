#!/usr/bin/env python3
"""stretto-serve under load and faults, on a model of 260,000 weights.

    test_load.py STRETTO_SERVE LOAD_CLIENT DATA [PART...] [--many] [--mutated N] [--soak SECONDS]

    same     requests at once, each answered as it is alone; many of them can only be answered by a word of their own
    faults   the same among clients that vanish, read slowly or send half
    mutated  requests with mutations among good ones: no 5xx but 501, 503 and 505, and no good one is refused
    pages    as many requests as cannot have their pages at once
    files    no file descriptors
    memory   no memory: the process may not grow
    disk     no room for pages in files, nor for the log
    signals  SIGHUP among requests, SIGTERM and SIGKILL at random moments
    soak     all of it for SECONDS [1800]; memory stays flat

Without a part: all but the soak. --many: 10,000 requests at 64 at once, 50,000 mutated ones, 30 ends of each kind."""
import argparse
import collections
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

PARTS = ("same", "faults", "mutated", "pages", "files", "memory", "disk", "signals", "soak")
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("program")
ap.add_argument("client")
ap.add_argument("data")
ap.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
ap.add_argument("--many", action="store_true")
ap.add_argument("--mutated", type=int)
ap.add_argument("--soak", type=float, default=1800)
args = ap.parse_args()
PROGRAM, CLIENT, DATA = args.program, args.client, args.data
REQUESTS, AT_ONCE, MUTATED, ENDS, CANARIES = (10000, 64, 50000, 30, 200) if args.many else (240, 16, 600, 2, 30)
MUTATED = args.mutated or MUTATED
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
    # Canaries: words that only one of them can write, because its token gets all the weight.
    for i in range(CANARIES):
        out.append((TEXT, {"prompt": "The", "max_tokens": 8 + i % 8, "temperature": 0,
                           "logit_bias": {str(280 + i): 100}, "stream": True,
                           "stream_options": {"include_usage": True}}))
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
    return f"{REQUESTS} requests at {AT_ONCE} at once, {CANARIES} canaries: none lost, mixed up or changed"


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
    files, mixed, kept = server.files("socket:"), [], []
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
    while server.files("socket:") > files and time.monotonic() < end:
        time.sleep(0.05)
    assert server.files("socket:") <= files, f"{server.files('socket:')} sockets are open, {files} were before"
    return f"{len(kept)} good ones among {len(mixed) - len(kept)} that vanish, stall or send half"


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


def check_mutated(server, asked, expected, count):
    more = asked + [("/v1/embeddings", {"input": ["a cat", "a dog"], "encoding_format": "base64"}),
                    ("/tokenize", {"content": "Once upon a time", "add_special": True, "with_pieces": True}),
                    ("/detokenize", {"tokens": [300, 301]}),
                    ("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}),
                    (CHAT + "/input_tokens", {"messages": [{"role": "user", "content": "Hi"}]})]
    mixed, heads = [], set()
    for i in range(count):
        if i % 20 == 19:
            mixed.append(drive.raw(*asked[i % len(asked)]))
            continue
        path, body = rng.choice(more)
        raw = drive.raw(path, mutate_body(json.dumps(body).encode()))
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
    for size in (0, 1, 40 << 20) if count >= 600 else ():
        status = server.post(CHAT, b"[" * size)[0] if size < 1 << 20 else drive.run(
            CLIENT, server.port, [drive.raw(CHAT, b"[" * size)], 1)[0]["status"]
        assert status == (413 if size > 1 << 20 else 400), (size, status)
    return f"{count} requests, every 20th a good one: {dict(sorted(kinds.items()))}"


# ---- what runs out ---------------------------------------------------------------------------------------

def check_good(s, asked, expected, at_once=8, key=None):
    answers = drive.run(CLIENT, s.port, raws(asked, key=key), at_once, PATIENCE)
    bad = [a for a in answers if not good(a, expected[a["i"]])]
    assert not bad, (len(bad), asked[bad[0]["i"]], expected[bad[0]["i"]], bad[0])
    return answers


def check_pages(model, asked, expected):
    """Fewer pages than the texts in four places need: requests are set aside and read again, all get their own."""
    more = {"max_tokens": 480, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    long = [(TEXT, {**body, **more}) for path, body in asked if path == TEXT][:40 if args.many else 8]
    with start(model, "-c", "512", "--decode", "plain", "-np", "1") as s:
        alone = [(a["text"], a["tokens"]) for a in drive.run(CLIENT, s.port, raws(long), 1, PATIENCE)]
    assert all(n > 300 for _, n in alone), alone
    with start(model, "-c", "512", "-np", "4", "--pool", "1280", "--decode", "plain") as s:
        read = 0
        for _ in range(5 if args.many else 1):
            read += sum(a["prompt"] - a["cached"] for a in check_good(s, long, alone, 40))
        all_read = float(next(x.split()[-1] for x in s.get("/metrics")[1].splitlines()
                              if x.startswith("stretto:prompt_tokens_total{")))
        code, words, _ = s.post(TEXT, {"prompt": [300] * 1000, "max_tokens": 1})
        assert code == 400 and "exceed_context_size_error" in words, (code, words)
        assert s.stop() == 0, s.said()
    assert all_read > read, "nobody was set aside"
    return (f"{len(long)} texts at once, fewer pages than four of them need: {all_read - read:.0f} tokens read "
            "again")


def check_files(model, asked, expected):
    """No file descriptor is left: who is refused is refused, and afterwards all is as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with start(model, "-np", "4") as s:
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.files() + 6, hard))
        told = drive.run(CLIENT, s.port, raws(asked[i % len(asked)] for i in range(60)), 60, 60)
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert s.alive(), s.said()
        check_good(s, asked[:10], expected, 2)
        assert s.stop() == 0, s.said()
    return f"{sum(a['status'] == 200 for a in told)} of 60 answered with six descriptors, all of them later"


def check_memory(model, asked, expected):
    """The process may not grow: 503, connections that close, or the right answer; afterwards all is as before."""
    large = {"prompt": "Once upon a time", "max_tokens": 20, "pad": ["a"] * 200_000}
    probs = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 30, "logprobs": True, "top_logprobs": 20}
    with start(model, "-np", "4") as s:
        size = s.memory("VmSize")
        if size > 1 << 40:
            return "left out under sanitizers, whose memory is reserved at the start"
        kinds = collections.Counter()
        for room in (64, 16, 4, 1, 0) if args.many else (16, 0):
            resource.prlimit(s.pid, resource.RLIMIT_AS, (s.memory("VmSize") + (room << 20), -1))
            order = [rng.randrange(len(asked)) for _ in range(REQUESTS // 4)]
            mixed = raws(asked[k] for k in order)
            mixed += [drive.raw(TEXT, large, close_seconds=60) for _ in range(24)]
            mixed += [drive.raw(CHAT, {**probs, "stream": i % 2 == 0}, close_seconds=60) for i in range(48)]
            rng.shuffle(places := list(range(len(mixed))))
            told = drive.run(CLIENT, s.port, [mixed[i] for i in places], AT_ONCE, PATIENCE)
            resource.prlimit(s.pid, resource.RLIMIT_AS, (-1, -1))
            assert s.alive(), s.said()
            for a in told:
                i = places[a["i"]]
                kinds[a["status"]] += 1
                assert a["status"] in (0, 200, 503), a
                whole = a["status"] == 200 and a["how"] == "whole" and i < len(order)
                # A stream that was cut says so instead of [DONE].
                if whole and (a["done"] or not asked[order[i]][1]["stream"]):
                    assert good(a, expected[order[i]]), (asked[order[i]], expected[order[i]], a)
            check_good(s, asked, expected)
        assert s.stop() == 0, s.said()
    return f"{dict(sorted(kinds.items()))} while the process could not grow"


def check_disk(model, asked, expected):
    """Pages in files find no room, and neither does the log: told once, and nothing else changes."""
    texts = [(TEXT, {"prompt": [rng.randrange(300, 500) for _ in range(200)], "max_tokens": 4, "temperature": 0})
             for _ in range(24)]
    with tempfile.TemporaryDirectory() as folder:
        with start(model, "--decode", "plain") as s:
            alone = [(a["text"], a["tokens"]) for a in drive.run(CLIENT, s.port, raws(texts), 1, PATIENCE)]
        for turn in range(3):
            with start(model, "--cache-disk", folder, log="/dev/full" if turn == 1 else None) as s:
                if turn < 2:
                    resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (200_000, -1))
                for _ in range(3):
                    check_good(s, texts, alone, 4)
                    time.sleep(0.3)                       # nothing to do: pages are written
                check_good(s, asked, expected)
                told = "" if turn == 1 else s.said(None)
                assert s.stop() == 0, told
            assert turn or told.count("no more pages are kept in") == 1, told
        kept = sum(os.stat(os.path.join(folder, f)).st_size for f in os.listdir(folder))
        assert kept > 400_000, kept
    return "answers as ever where files of 200,000 bytes are the most and the log has no room"


# ---- signals ---------------------------------------------------------------------------------------------

class Clients:
    """The load client beside us."""

    def __init__(self, s, requests, at_once):
        self.given, self.told = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.given.write(b"".join(requests))
        self.given.seek(0)
        self.process = subprocess.Popen([CLIENT, "127.0.0.1", str(s.port), str(at_once), str(PATIENCE)],
                                        stdin=self.given, stdout=self.told)

    def answers(self):
        self.process.wait()
        self.told.seek(0)
        return [drive.parsed(line) for line in self.told]


def check_hangups(model, asked, expected):
    """Keys are read again and again among requests: who has the one that stays is never refused."""
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys")
        with open(keys, "w") as f:
            f.write("stays\ngoes\n")
        with start(model, "--api-key-file", keys) as s:
            order = [rng.randrange(len(asked)) for _ in range(REQUESTS)]
            clients = [Clients(s, [drive.raw(*asked[k], key=key) for k in order], AT_ONCE // 2)
                       for key in ("stays", "goes")]
            n = 0
            while any(c.process.poll() is None for c in clients):
                with open(keys + ".new", "w") as f:
                    f.write("stays\n" + "goes\n" * (n % 2) + f"key{n}\n")
                os.replace(keys + ".new", keys)
                s.process.send_signal(signal.SIGHUP)
                n += 1
                time.sleep(0.01)
            stays, goes = (c.answers() for c in clients)
            assert len(stays) == len(goes) == REQUESTS
            for a in stays:
                assert good(a, expected[order[a["i"]]]), a
            for a in goes:
                assert a["status"] == 401 or good(a, expected[order[a["i"]]]), a
            assert s.stop() == 0, s.said()
    return f"{n} times SIGHUP among {2 * REQUESTS} requests"


def check_ends(model, asked, expected):
    """SIGTERM lets answers end; after SIGKILL a new one serves as ever, whatever stands on the disk."""
    whole = 0
    with tempfile.TemporaryDirectory() as folder:
        for how in [signal.SIGTERM, signal.SIGKILL] * ENDS:
            with start(model, "--cache-disk", folder) as s:
                clients = Clients(s, raws(asked * 3), 16)
                time.sleep(rng.random() * 0.4)
                code = s.stop(how)
                assert code == (0 if how == signal.SIGTERM else -9), s.said()
                for a in clients.answers():
                    k = a["i"] % len(asked)
                    whole += good(a, expected[k])
                    cut = a["how"] in ("refused", "cut") or a["status"] in (0, 503)
                    assert good(a, expected[k]) or cut or a["status"] == 200 and not a["done"], (asked[k], a)
        with start(model, "--cache-disk", folder) as s:
            check_good(s, asked, expected)
    return f"{ENDS} times SIGTERM and SIGKILL, {whole} answers were whole"


# ---- for long --------------------------------------------------------------------------------------------

def check_soak(model, asked, expected):
    """Everything in turn; memory stays where it is after the first quarter."""
    global REQUESTS
    REQUESTS, end, seen, count = 600, time.monotonic() + args.soak, [], 0
    with tempfile.TemporaryDirectory() as folder, start(model, "--cache-disk", folder, "--cache-disk-size", "16",
                                                        "--cache-ram", "16") as s:
        while time.monotonic() < end:
            check_same(s, asked, expected)
            check_faults(s, asked, expected)
            check_mutated(s, asked, expected, 300)
            idle(s)
            count += REQUESTS + REQUESTS // 2 + 300
            seen.append(s.memory() / 1e6)
            if len(seen) % 20 == 0:
                print(f"soak: {count} requests, {seen[-1]:.1f} MB", flush=True)
        first, last = seen[len(seen) // 4:len(seen) // 2], seen[-(len(seen) // 4):]
        assert s.stop() == 0, s.said()
    assert seen, "not one round"
    if len(seen) >= 16:
        before, after = (sum(x) / len(x) for x in (first, last))
        assert after <= before + 1, (before, after, seen)
        return (f"{args.soak / 60:.0f} minutes, {count} requests: {before:.2f} MB in the second quarter, "
                f"{after:.2f} in the last")
    return f"{count} requests, {seen[-1]:.1f} MB"


def main():
    parts = args.parts or PARTS[:-1]
    with tempfile.TemporaryDirectory() as folder:
        model, asked = served.model(DATA, folder), bodies()
        with start(model, "--decode", "plain", "-np", "1") as s:
            alone = drive.run(CLIENT, s.port, raws(asked), 1, PATIENCE)
            for a in alone:
                assert a["status"] == 200 and a["how"] == "whole" and a["text"], (asked[a["i"]], a)
        expected = [(a["text"], a["tokens"]) for a in alone]
        assert len(set(expected)) > 30 + CANARIES
        with start(model) as s:
            for part in parts:
                began = time.monotonic()
                told = {"same": lambda: check_same(s, asked, expected),
                        "faults": lambda: check_faults(s, asked, expected),
                        "mutated": lambda: check_mutated(s, asked, expected, MUTATED),
                        "pages": lambda: check_pages(model, asked, expected),
                        "files": lambda: check_files(model, asked, expected),
                        "memory": lambda: check_memory(model, asked, expected),
                        "disk": lambda: check_disk(model, asked, expected),
                        "signals": lambda: check_hangups(model, asked, expected) + "; "
                        + check_ends(model, asked, expected),
                        "soak": lambda: check_soak(model, asked, expected)}[part]()
                print(f"{part}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
            assert s.stop() == 0, s.said()


main()
