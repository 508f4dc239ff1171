#!/usr/bin/env python3
"""`stretto serve` under load, beside llama.cpp's llama-server, and what each row should reach.

    bench/serve.py [--rows x1,x4,...] [-n ROUNDS] [-m MODEL]

Rows: x1 x4 x16 x64 (tokens per second and time to the first token with so many clients: prompts of 200 tokens, 64
written, streamed), turn (second turn with 2,000 tokens of history), long (a prompt of 8,000 tokens while 8 stream),
engine (beside `stretto bench --mix`), same (200 requests answered alone, at 32 at once, and after a restart), prefix
(pages taken over, beside an oracle that counts whole pages; after kill -9 too), http (CPU time of the thread that
speaks HTTP), open (memory of 1,000 open streams), gone (pages are free after a client vanished), fair (three keys,
one floods).

Machines drift, so servers take turns: in each round every server is started anew and answers the same requests, and
every other round goes backwards. A figure is the median over the rounds; llama-server's is its best setting's, row by
row: all are tried in the first round, and those that were not best at anything there rest afterwards. The load client
(tests/load/client.c; with --aiperf aiperf from PyPI) and both servers share the machine's cores. Needs ./dev build,
and for llama-server ./dev peers --get (or --llama PATH)."""
import argparse
import atexit
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "load"))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import aiperf  # noqa: E402
import drive  # noqa: E402
import peers as other  # noqa: E402

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stretto", "models")
DATA = os.environ.get("STRETTO_TEST_DATA") or os.path.join(ROOT, "..", "shared", "data")
PROMPT, WRITTEN = 200, 64
# Times llama-server's tokens per second, by clients.
FASTER = {"amx": {1: 2, 4: 4, 16: 5, 64: 5}, "other": {1: 1.8, 4: 2.5, 16: 3, 64: 3}}
SETTINGS = ("-fa on", "-fa off", "-fa on -kvu", "-fa on -b 512")
ROWS = ("x1", "x4", "x16", "x64", "turn", "long", "engine", "same", "prefix", "http", "open", "gone", "fair")


def say(text):
    print(f"serve: {text}", file=sys.stderr, flush=True)


def own_folder():
    path = tempfile.mkdtemp(prefix="stretto-serve-")
    atexit.register(shutil.rmtree, path, True)
    return path


# ---- servers ---------------------------------------------------------------------------------------------

class Ours:
    name, setting = "stretto", ""

    def __init__(self, args, *more):
        self.args, self.more = args, more

    def start(self, clients, context, *more):
        a = self.args
        return drive.Server([a.ours, "serve", "-m", a.model, "--port", "{port}", "-t", a.threads, "-np", clients,
                             "-c", context, *self.more, *more])


class Llama:
    name = "llama-server"

    def __init__(self, args, setting):
        self.args, self.setting = args, setting

    def start(self, clients, context):
        a = self.args
        return drive.Server([a.llama, "-m", a.model, "--port", "{port}", "-t", a.threads, "-tb", a.threads, "-np",
                             clients, "-c", clients * context, "--no-webui", *self.setting.split()])


# ---- requests --------------------------------------------------------------------------------------------

class Words:
    """Pieces of a real text as token ids, none of which begins like another."""

    def __init__(self, args):
        with open(args.text, "rb") as f:
            text = f.read(2_000_000)
        r = subprocess.run([args.ours, "tokenize", "--json", "-m", args.model], input=text, stdout=subprocess.PIPE,
                           check=True)
        self.ids, self.at = json.loads(r.stdout), 0

    def take(self, n):
        if self.at + n > len(self.ids):
            self.at = 0
        self.at += n
        return self.ids[self.at - n:self.at]


def asked(ids, written, key=None, temperature=0.0, **more):
    """A text to be continued by so many tokens. ignore_eos is both servers' word."""
    faults = {k: more.pop(k) for k in ("at", "close_events", "close_seconds", "send", "pause") if k in more}
    return drive.raw("/v1/completions", {"model": "m", "prompt": ids, "max_tokens": written, "ignore_eos": True,
                                         "temperature": temperature, "seed": 7, "stream": True,
                                         "stream_options": {"include_usage": True}, **more}, key=key, **faults)


def whole(answers, written=None):
    """All were answered as they were asked, or the run is worth nothing."""
    bad = [a for a in answers if a["status"] != 200 or a["how"] != "whole" or not a["done"]
           or written and a["tokens"] >= 0 and a["tokens"] != written]
    if bad:
        raise RuntimeError(f"{len(bad)} of {len(answers)} requests failed, one of them: {json.dumps(bad[0])[:600]}")
    return answers


def first(answers):
    return [a["first"] - a["begin"] for a in answers]


# ---- rows: each answers lines of the table ---------------------------------------------------------------

def line(what, ours, peer="", bar="", reached=None):
    return what, ours, peer, bar, "" if reached is None else "yes" if reached else "no"


def in_turns(args, servers, measure, best=None):
    """{server: [what measure gave]}; a setting that a server refuses is left out. best(got) says behind the first round
    which of the peer's settings go on."""
    got = {}
    for r in range(args.rounds):
        if r == 1 and best:
            servers = [s for s in servers if s.name == "stretto" or s in best(got)]
            got = {s: v for s, v in got.items() if s in servers}
        for s in servers[::-1] if r % 2 else servers:
            try:
                got.setdefault(s, []).append(measure(s))
                say(f"round {r + 1}: {s.name} {s.setting}: {json.dumps(got[s][-1])[:200]}")
            except RuntimeError as e:
                if s.name != "llama-server":
                    raise
                say(f"{s.name} {s.setting}: {e}")
    return got


def split(got, better=max, of=lambda v: v):
    """Our runs and those of the peer's best setting."""
    mine = next(v for s, v in got.items() if s.name == "stretto")
    theirs = [(s, v) for s, v in got.items() if s.name != "stretto"]
    if not theirs:
        return mine, None, None
    s, v = better(theirs, key=lambda r: statistics.median(of(x) for x in r[1]))
    return mine, v, s.setting


def median(values, of=lambda v: v):
    return statistics.median(of(v) for v in values)


def row_x(args, n):
    """Tokens per second from the first request to the last token, and the first token's 95 %."""
    count = {1: 6, 4: 16, 16: 48, 64: 128}[n]

    def measure(server):
        words = Words(args)
        prompts = [words.take(PROMPT) for _ in range(count)]
        with server.start(n, 512) as s:
            whole(drive.run(args.client, s.port, [asked(words.take(20), 8)] * min(n, 4), 4))
            if args.aiperf:
                return aiperf.measure(s.port, n, [s.text(ids) for ids in prompts], WRITTEN, args.temperature)
            requests = [asked(ids, WRITTEN, temperature=args.temperature) for ids in prompts]
            a = whole(drive.run(args.client, s.port, requests, n), WRITTEN)
        seconds = max(x["end"] for x in a) - min(x["begin"] for x in a)
        return [count * WRITTEN / seconds, drive.quantile(first(a), 0.95)]

    def best(got):
        peers = {s: v[0] for s, v in got.items() if s.name != "stretto"}
        return {max(peers, key=lambda s: peers[s][0]), min(peers, key=lambda s: peers[s][1])} if peers else set()
    got = in_turns(args, [Ours(args)] + [Llama(args, s) for s in args.settings], measure, best)
    mine, theirs, setting = split(got, of=lambda v: v[0])
    speed, wait = median(mine, lambda v: v[0]), median(mine, lambda v: v[1])
    client = f"{n} client{'s' * (n > 1)}{', seen by aiperf' * args.aiperf}"
    if not theirs:
        return [line(f"{client}: tokens/s", f"{speed:.0f}"),
                line(f"{client}: first token, 95 %", f"{wait * 1e3:.0f} ms")]
    bar, peer = FASTER[args.column][n], median(theirs, lambda v: v[0])
    # The first token has a best setting of its own.
    wait_peer = min(median(v, lambda x: x[1]) for s, v in got.items() if s.name != "stretto")
    return [line(f"{client}: tokens/s", f"{speed:.0f}", f"{peer:.0f} ({setting})",
                 f"≥ {bar} x: {speed / peer:.2f}", speed / peer >= bar),
            line(f"{client}: first token, 95 %", f"{wait * 1e3:.0f} ms", f"{wait_peer * 1e3:.0f} ms",
                 f"≤ 0.5 x: {wait / wait_peer:.2f}", wait / wait_peer <= 0.5)]


def row_turn(args):
    """A conversation's first turn, and one more behind it."""
    def measure(server):
        words, shares = Words(args), []
        with server.start(1, 4096) as s:
            for _ in range(4):
                history = words.take(2000)
                a, = whole(drive.run(args.client, s.port, [asked(history, WRITTEN)], 1))
                written = s.ids(json.loads('"' + escape(a["text"]) + '"'))
                b, = whole(drive.run(args.client, s.port, [asked(history + written + words.take(20), 8)], 1))
                shares.append([first([a])[0], first([b])[0]])
        return [statistics.median(x[1] / x[0] for x in shares), statistics.median(x[1] for x in shares)]
    got = in_turns(args, [Ours(args)] + [Llama(args, s) for s in args.settings[:1]], measure)
    mine, theirs, _ = split(got, min, lambda v: v[0])
    share = median(mine, lambda v: v[0])
    return [line("second turn, 2,000 tokens before: first token, of the first turn's",
                 f"{share:.3f} ({median(mine, lambda v: v[1]) * 1e3:.0f} ms)",
                 f"{median(theirs, lambda v: v[0]):.3f} ({median(theirs, lambda v: v[1]) * 1e3:.0f} ms)"
                 if theirs else "", "≤ 0.2", share <= 0.2)]


def escape(text):
    return json.dumps(text)[1:-1]


def row_long(args):
    """Eight write, and a prompt of 8,000 tokens arrives."""
    def measure(server):
        words = Words(args)
        requests = [asked(words.take(PROMPT), 3000, close_seconds=args.long_seconds) for _ in range(8)]
        requests.append(asked(words.take(8000), 4, at=args.long_at))
        with server.start(9, 8192) as s:
            whole(drive.run(args.client, s.port, [asked(words.take(20), 8)] * 4, 4))
            a = drive.run(args.client, s.port, requests, 9)
        eight, long = a[:8], a[8]
        whole([long])
        shares = []
        for x in eight:
            times = [x["begin"] + e / 1e3 for e in x["events"]]
            beside = [(q - p) for p, q in zip(times, times[1:]) if q > long["begin"] and p < long["first"]]
            quiet = [(q - p) for p, q in zip(times, times[1:]) if q <= long["begin"]]
            # A stream without a token all the while waited at least that long.
            beside = beside or [long["first"] - long["begin"]]
            if not quiet:
                raise RuntimeError("the eight wrote nothing before the prompt arrived: the machine is too busy")
            shares.append([max(beside), statistics.median(quiet), statistics.median(beside)])
        return [max(m[0] for m in shares), statistics.median(m[1] for m in shares),
                statistics.median(m[2] for m in shares), first([long])[0]]
    got = in_turns(args, [Ours(args, "--goal", "latency")] + [Llama(args, s) for s in args.settings[:1]], measure)
    mine, theirs, _ = split(got, min, lambda v: v[0])
    gap, quiet, beside, wait = ([median(mine, lambda v, k=k: v[k]) for k in range(4)])

    def words(v):
        return (f"largest gap {v[0] * 1e3:.0f} ms, median {v[1] * 1e3:.1f} before and {v[2] * 1e3:.1f} beside it; "
                f"its first token {v[3]:.1f} s")
    theirs = words([median(theirs, lambda v, k=k: v[k]) for k in range(4)]) if theirs else ""
    return [line("8,000 tokens arrive while 8 stream: gaps of the 8", words([gap, quiet, beside, wait]), theirs,
                 f"≤ 2 x the median: {gap / beside:.2f}; of the quiet median {gap / quiet:.2f}", gap <= 2 * beside)]


def row_engine(args):
    """The same arrivals as `stretto bench --mix`, over HTTP."""
    ours, bare = [], []
    for _ in range(args.rounds):
        r = subprocess.run([args.ours, "bench", "--mix", "-m", args.model, "-t", args.threads, "-np", "16", "-r", "1",
                            "-o", "json"], stdout=subprocess.PIPE, check=True)
        rows = json.loads(r.stdout)
        row = next(x for x in (rows if isinstance(rows, list) else rows["rows"]) if x["prompts"] == "mixed")
        bare.append(row["avg_ts"])
        rng = random.Random(1)
        requests = [asked([rng.randrange(1000, 20000) for _ in range(PROMPT)], WRITTEN, at=i * row["spread_s"] / 16)
                    for i in range(16)]
        with Ours(args).start(16, 512) as s:
            whole(drive.run(args.client, s.port, [asked(list(range(1000, 1020)), 8)] * 4, 4))
            a = whole(drive.run(args.client, s.port, requests, 16), WRITTEN)
        ours.append(16 * WRITTEN / (max(x["end"] for x in a) - min(x["begin"] for x in a)))
    share = statistics.median(a / b for a, b in zip(ours, bare))
    return [line("16 requests over HTTP, of `stretto bench --mix`: tokens/s",
                 f"{median(ours):.0f} of {median(bare):.0f}", "", f"≥ 85 %: {100 * share:.0f} %", share >= 0.85)]


def counters(s):
    """What /metrics says, summed over models."""
    got = {}
    for text in s.get("/metrics")[1].splitlines():
        name, _, value = text.partition(" ") if "{" not in text else text.partition("} ")
        if not text.startswith("#"):
            name = name.split("{")[0]
            got[name] = got.get(name, 0) + float(value)
    return got


def row_same(args):
    """Every answer is what it is alone. In the last run five people share four places and too few pages for them, and
    some answers are longer than what a place is given out for: places and pages really are given to others, or the
    row has failed."""
    words, folder = Words(args), own_folder()
    common = words.take(100)
    bodies = [asked((common if i % 2 else []) + words.take(30 + i), 420 if i % 8 < 3 else 32,
                    temperature=float(i // 100), user=f"person {i // 8 % 5}") for i in range(200)]
    texts, seen = {}, {}
    more = ["--strict", "--cache-disk", folder]
    runs = (("alone", 1, 4, [*more, "--decode", "plain"]), ("32 at once", 32, 32, more),
            ("after a restart, from disk", 32, 32, more),
            ("with places and pages given to others", 32, 4, ["--strict", "--pool", 1024]))
    for what, at_once, parallel, flags in runs:
        with Ours(args).start(parallel, 1024, *flags) as s:
            texts[what] = [a["text"] for a in whole(drive.run(args.client, s.port, bodies, at_once))]
            seen[what] = counters(s)
    differ = {w: sum(a != b for a, b in zip(t, texts["alone"])) for w, t in texts.items() if w != "alone"}
    last = [int(seen[runs[-1][0]][f"stretto:{k}_total"]) for k in ("preempted", "yielded", "evicted")]
    return [line("200 requests, greedy and seeded, guesses on: differ from themselves alone",
                 ", ".join(f"{n} {w}" for w, n in differ.items()) + f" ({last[0]} places, pages of {last[1]} texts "
                 f"that were being written, {last[2]} pages of others)", "", "0",
                 not any(differ.values()) and all(last))]


def oracle(prompts, page=64):
    """Tokens that stand in whole pages which an earlier prompt has begun with; one is always read."""
    seen, hits = set(), []
    for ids in prompts:
        n = 0
        while n + page <= len(ids) - 1 and tuple(ids[:n + page]) in seen:
            n += page
        hits.append(n)
        for k in range(page, len(ids) + 1, page):
            seen.add(tuple(ids[:k]))
    return hits


def row_prefix(args):
    words, folder = Words(args), own_folder()
    systems = [words.take(n) for n in (70, 200, 450, 900)]
    rng = random.Random(3)
    prompts = [rng.choice(systems) + words.take(rng.randrange(10, 200)) for _ in range(60)]
    prompts += [p + words.take(50) for p in prompts[:20]]
    best = oracle(prompts)
    bodies = [asked(p, 1) for p in prompts]
    # Room for all that is read: an oracle never forgets.
    with Ours(args).start(8, 4096, "--cache-disk", folder) as s:
        a = whole(drive.run(args.client, s.port, bodies, 1))
        got = sum(min(x["cached"], b) for x, b in zip(a, best))
        time.sleep(args.idle)
        s.stop(signal.SIGKILL)
    again = oracle(prompts + prompts)[len(prompts):]
    with Ours(args).start(8, 4096, "--cache-disk", folder) as s:
        b = whole(drive.run(args.client, s.port, bodies, 1))
    # What the second process itself made known is no restored page: only what was there when it began.
    back = sum(min(x["cached"], o) for x, o in zip(b, again))
    return [line("prefix hits, of whole pages that an oracle counts", f"{got} of {sum(best)} tokens", "",
                 f"≥ 99 %: {100 * got / sum(best):.1f} %", got >= 0.99 * sum(best)),
            line("the same after kill -9 and a start from disk", f"{back} of {sum(again)} tokens", "",
                 f"≥ 95 %: {100 * back / sum(again):.1f} %", back >= 0.95 * sum(again))]


def free_model(args):
    """Weights and cache of nearly no size, so that what is left is the server's."""
    made = os.path.join(own_folder(), "stories260K.gguf")
    parts = [os.path.join(DATA, "models", f) for f in ("stories260K.bin", "tok512.bin")]
    missing = [f for f in parts if not os.path.isfile(f)]
    if missing:
        raise RuntimeError(f"there is no {missing[0]}: STRETTO_TEST_DATA names the folder of the test data")
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make-model"), "stories", *parts, made], check=True,
                   stdout=subprocess.DEVNULL)
    return argparse.Namespace(**{**vars(args), "model": made})


def row_http(args):
    """CPU time of the first thread, which speaks HTTP."""
    requests = [asked(list(range(300 + i % 100, 310 + i % 100)), 400) for i in range(96)]
    with Ours(free_model(args)).start(16, 512, "--decode", "plain") as s:
        whole(drive.run(args.client, s.port, requests[:16], 16))
        before = s.threads()
        a = whole(drive.run(args.client, s.port, requests, 16), 400)
        after = s.threads()
    seconds = max(x["end"] for x in a) - min(x["begin"] for x in a)
    spent = {k: after[k] - before.get(k, 0) for k in after}
    http = spent["main"]
    each = http / (len(requests) * 400)
    return [line("HTTP's thread at 3,000 tokens/s, 16 streams", f"{100 * each * 3000:.1f} % of a core "
                 f"({each * 1e6:.1f} µs a token at {len(requests) * 400 / seconds:.0f} tokens/s; threads: "
                 + ", ".join(f"{k} {v:.2f} s" for k, v in spent.items() if v > 0.01) + ")", "", "≤ 5 %",
                 each * 3000 <= 0.05)]


def row_open(args):
    with Ours(free_model(args)).start(16, 2048, "--queue", 2000, "--decode", "plain") as s:
        rng = random.Random(2)

        def some(n, **how):
            return [asked([rng.randrange(300, 500) for _ in range(20)], 1500, **how) for _ in range(n)]
        drive.run(args.client, s.port, some(64, close_seconds=4), 16)
        before, most, files, stop = s.memory(), [0], [0], threading.Event()

        def watch():
            while not stop.is_set():
                most[0], files[0] = max(most[0], s.memory()), max(files[0], s.files())
                time.sleep(0.05)
        t = threading.Thread(target=watch)
        t.start()
        a = drive.run(args.client, s.port, some(1000, close_seconds=args.open_seconds), 1000)
        stop.set()
        t.join()
    bad = [x for x in a if x["status"] not in (200, 0) or x["how"] not in ("gone", "whole")]
    more = (most[0] - before) / 1e6
    return [line("1,000 open streams: memory above that of 16", f"{more:.1f} MB, {files[0]} files open"
                 + (f"; {len(bad)} refused: {bad[0].get('error', '')[:80]}" if bad else ""), "", "≤ 20 MB",
                 more <= 20 and not bad)]


def busy(s):
    slots = json.loads(s.get("/slots")[1])
    return sum(1 for x in slots if x.get("is_processing"))


def row_gone(args):
    took = []
    with Ours(args).start(4, 8192) as s:
        words = Words(args)
        for i in range(20):
            # Half of them while the prompt is read, half while the answer is written.
            body = {"prompt": words.take(4000 if i % 2 else 50), "max_tokens": 2000, "ignore_eos": True, "stream": True}
            raw = drive.raw("/v1/completions", body, close_seconds=0.25 if i % 2 else 0.6)
            ended = []
            t = threading.Thread(target=lambda r=raw, e=ended: (drive.run(args.client, s.port, [r], 1),
                                                                 e.append(time.monotonic())))
            t.start()
            seen = False
            while t.is_alive():
                seen = seen or busy(s) > 0
            end = ended[0]
            while busy(s):
                if time.monotonic() - end > 20:
                    break
            took.append(time.monotonic() - end if seen else float("nan"))
            t.join()
    took = [x for x in took if x == x]
    return [line("a client vanishes: its place is free after", f"{1e3 * max(took):.0f} ms at most, median "
                 f"{1e3 * statistics.median(took):.0f} ms of {len(took)}", "", "≤ 50 ms", max(took) <= 0.05)]


def row_fair(args):
    keys = ["key-a", "key-b", "key-c"]
    with Ours(args).start(12, 1024, "--api-key", ",".join(keys)) as s:
        words, got, threads = Words(args), {}, []

        def client(key, at_once):
            requests = [asked(words.take(PROMPT), WRITTEN, key=key) for _ in range(8 * at_once)]
            got[key] = drive.run(args.client, s.port, requests, at_once)
        for key, at_once in zip(keys, (48, 4, 4)):
            threads.append(threading.Thread(target=client, args=(key, at_once)))
            threads[-1].start()
        for t in threads:
            t.join()
    # All clients' clocks begin within milliseconds of each other; while the two others are there, who wrote what?
    until = min(max(a["end"] for a in got[k]) for k in keys[1:])
    tokens = {k: sum(1 for a in got[k] for e in a["events"] if a["begin"] + e / 1e3 < until) for k in keys}
    fair = sum(tokens.values()) / 3
    shares = [tokens[k] / fair for k in keys[1:]]
    return [line("three keys, one floods: of their fair share the others get", f"{100 * min(shares):.0f} % "
                 f"({', '.join(f'{k}: {n} events' for k, n in tokens.items())})", "", "≥ 90 %", min(shares) >= 0.9)]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", default=os.path.join(CACHE, "SmolLM2-135M-Instruct.Q4_1.gguf"))
    ap.add_argument("-r", "--rows", default=",".join(ROWS), help="comma separated [all]")
    ap.add_argument("-n", "--rounds", type=int, default=2)
    ap.add_argument("-t", "--threads", default=str(len(os.sched_getaffinity(0))))
    ap.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("--client", default=os.path.join(ROOT, "build", "release", "tests", "load_client"))
    ap.add_argument("--llama", help="llama-server [what ./dev peers --get built]")
    ap.add_argument("--setting", action="append", dest="settings", metavar="FLAGS",
                    help="of llama-server, may be repeated [" + "; ".join(SETTINGS) + "]")
    ap.add_argument("--no-peer", action="store_true", help="ours alone")
    ap.add_argument("--aiperf", action="store_true", help="measure x1 to x64 with aiperf, fetched when missing")
    ap.add_argument("--text", default=os.path.join(DATA, "text", "wikitext2_raw_test.txt"))
    ap.add_argument("--temperature", type=float, default=0.0)
    ap.add_argument("--long-seconds", type=float, default=45)
    ap.add_argument("--long-at", type=float, default=3, help="second in which the prompt of the row long arrives [3]")
    ap.add_argument("--open-seconds", type=float, default=8)
    ap.add_argument("--idle", type=float, default=3, help="seconds before kill -9 in the row prefix")
    args = ap.parse_args()
    rows = args.rows.split(",")
    if not set(rows) <= set(ROWS):
        ap.error(f"--rows {args.rows}: the rows are {', '.join(ROWS)}")
    if args.aiperf:
        if any(r[0] != "x" for r in rows):
            ap.error("--aiperf measures the rows x1, x4, x16 and x64: -r x1,x4,x16")
        aiperf.fetch()
    found = [os.path.join(ROOT, "build", "peers", d, "llama-server") for d in ("bin", "llama.cpp/bin")]
    args.llama = args.llama or next((f for f in found if os.path.isfile(f)), None)
    args.settings = [] if args.no_peer or not args.llama else args.settings or list(SETTINGS)
    args.level = other.cpu_level(args)
    args.column = "amx" if args.level == "amx" else "other"
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.2f}); figures will be low and uneven")
    lines, failed = [], []
    for name in rows:
        say(name)
        try:
            lines += row_x(args, int(name[1:])) if name[0] == "x" else globals()["row_" + name](args)
        except RuntimeError as e:
            failed.append(name)
            lines.append(line(name, f"failed: {str(e)[:300]}", "", "", False))
        print("| " + " | ".join(lines[-1]) + " |", file=sys.stderr, flush=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE).stdout.decode()
    print(f"{other.cpu_name()}, {len(os.sched_getaffinity(0))} cores, level {args.level}, {args.threads} threads, "
          f"{os.path.basename(args.model)}, temperature {args.temperature:g}, {args.rounds} rounds, load before "
          f"{load:.2f}, {time.strftime('%Y-%m-%d')}, ours {commit.strip()}\n")
    print("| | stretto | llama-server | should be | reached |\n|---|---|---|---|---|")
    for cells in lines:
        print("| " + " | ".join(cells) + " |")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("serve: stopped"))      # and servers end with it
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nserve: stopped")
