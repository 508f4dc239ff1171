#!/usr/bin/env python3
"""Our speed and memory beside other programs', on the same files, cache type and threads, in one run.

    ./dev peers --get                           llama.cpp and OpenVINO GenAI, into build/peers
    ./dev peers [-m MODEL] [--rows pp512,tg128] four rows of one model beside the peers that are there
    ./dev peers --full [-n 1] [-m smollm2-q4_1 ...]  every model and row, and what each row should reach

Machines drift, so the programs take turns: in each of the rounds (-n) every row is run by ours, then by each
peer in each of its settings, and every other round backwards. A figure is the median over the rounds; a peer's
figure is its best setting's, row by row, and the ratio is to the fastest peer. Peers: what --get made;
--peer NAME=PATH adds a program with llama-bench's interface (its neighbours llama-batched-bench and
llama-completion are used when they lie beside it); any llama-bench on the PATH.

Rows: pp512, tg128 (empty cache), pp4096 and tg64@4096, x16 (16 sequences at once, all their tokens), c4 c8 c16
(what a step of so many rows costs in steps of one: ours only), first (process start to first token with a
prompt of 16 tokens, files in the page cache), rss (our peak memory over what it may be: 1.1 x tensors +
cache touched + 48 MB). "Of the roof" is `stretto bench --roof`'s answer.

Every single measurement is kept in build/peers/results.jsonl under the identity of program and file, so a run
that was interrupted goes on where it stopped; --again measures anew. The exit status says whether the
runs worked, never who was faster."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stretto", "models")
HOME = os.path.join(ROOT, "build", "peers")
HERE = os.path.dirname(os.path.abspath(__file__))

# What is measured in one go -> the rows it gives.
UNITS = {"pp512": ("pp512",), "tg128": ("tg128",), "deep": ("pp4096", "tg64@4096"),
         "batch": ("x16", "c4", "c8", "c16"), "first": ("first",)}
ROWS = [r for rows in UNITS.values() for r in rows] + ["rss"]
FOUR = ["pp512", "tg128", "pp4096", "tg64@4096"]
COSTS = ("c4", "c8", "c16")

SMOL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# name, file, how to get it, column of the targets
FULL = (("smollm2-q4_1", SMOL, "./dev run", "q4"),
        ("smollm2-q8_0", "SmolLM2-135M-Instruct.Q8_0.gguf", None, "q8"),
        ("qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "stretto pull qwen2.5-coder-0.5b", "qwen"),
        ("qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "stretto pull qwen2.5-coder-1.5b", "qwen"),
        ("gemma-3-270m", "gemma-3-270m-q4_k_m.gguf", "stretto pull gemma-3-270m", "gemma"))

# What a row should reach on a machine with AMX, and on any other: x times the fastest peer, a share of the roof,
# at most so many steps of one row, at most so much of llama.cpp's time.
TARGETS = {
    "amx": {
        "pp512": dict(q4=("x", 2.5), q8=("x", 2.5), qwen=("x", 2.0), gemma=("x", 2.5)),
        "pp4096": dict(q4=("x", 2.5), q8=("x", 2.5), qwen=("x", 2.0), gemma=("x", 2.0)),
        "tg128": dict(q4=("x", 1.8), q8=("roof", 0.8), qwen=("roof", 0.9), gemma=("x", 1.8)),
        "tg64@4096": dict(q4=("x", 3.0), q8=("roof", 0.75), qwen=("roof", 0.8), gemma=("x", 1.5)),
        "x16": dict(q4=("x", 4.2), q8=("x", 4.0), qwen=("x", 3.0), gemma=("x", 3.0)),
        "c4": dict(q4=("cost", 1.5), q8=("cost", 1.2), qwen=("cost", 1.2), gemma=("cost", 1.3)),
        "c8": dict(q4=("cost", 1.7), q8=("cost", 1.3), qwen=("cost", 1.4), gemma=("cost", 1.5)),
        "c16": dict(q4=("cost", 2.2), q8=("cost", 1.5), qwen=("cost", 1.7), gemma=("cost", 1.8)),
        "first": dict(q4=("time", 0.5), q8=("time", 0.5), qwen=("time", 0.5), gemma=("time", 0.3)),
    },
    "other": {row: {c: ("x", 2.0 if row == "x16" else 1.2) for c in ("q4", "q8", "qwen", "gemma")}
              for row in ("pp512", "pp4096", "tg128", "tg64@4096", "x16")},
}
TARGETS["other"]["first"] = TARGETS["amx"]["first"]
SAME_AS_PROBE = 0.8     # a row that is this near to its roof has nothing left to reach


class Failed(Exception):
    pass


# ---- running programs ------------------------------------------------------------------------------------

def last_words(r):
    lines = r.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def run(args, argv, all_output=False):
    argv = args.prefix + argv
    try:
        # Not here: ik_llama.cpp leaves a main.log where it stands.
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=args.timeout, cwd=tempfile.gettempdir())
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv)}: no answer within {args.timeout} s (--timeout)")
    except OSError as e:
        raise Failed(f"{argv[0]}: {e.strerror}")
    if r.returncode:
        raise Failed(f"{' '.join(argv)}: exit status {r.returncode}: {last_words(r)}")
    return r.stdout + r.stderr if all_output else r.stdout


def bench(args, argv):
    """The rows of a program with llama-bench's interface."""
    out = run(args, argv + ["-r", "1", "-o", "json"])
    try:
        rows = json.loads(out)
        rows = rows.get("rows", [rows]) if isinstance(rows, dict) else rows
        for r in rows:
            r["n_prompt"], r["n_gen"], r["avg_ts"]
        return rows
    except (ValueError, KeyError, TypeError) as e:
        raise Failed(f"{' '.join(argv)}: output is not the JSON of a bench ({e!r})")


def speed(args, argv, prompt, gen, depth):
    for r in bench(args, argv + ["-p", str(prompt), "-n", str(gen)] + ["-d", str(depth)] * (depth is not None)):
        if (r["n_prompt"], r["n_gen"], r.get("n_depth")) == (prompt, gen, depth):
            return float(r["avg_ts"]), r
    raise Failed(f"{' '.join(argv)}: no row with n_prompt {prompt}, n_gen {gen}, n_depth {depth}")


def time_first_byte(argv, whole):
    """Printed by a process of its own, so that what --prefix waits for is not counted: the median of five
    starts, or the one whole run."""
    took = []
    for _ in range(1 if whole else 5):
        began = time.monotonic()
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        got = p.stdout.read(1)
        took.append(time.monotonic() - began)
        _, err = p.communicate()
        if p.returncode or not got:
            sys.exit(f"wrote {len(got)} bytes: {err.decode(errors='replace').strip()[-200:]}")
        if whole:
            took = [time.monotonic() - began]
    print(statistics.median(took))


def seconds_to_first_byte(args, argv, whole=False):
    return float(run(args, [sys.executable, os.path.abspath(__file__), "--time-first", "01"[whole]] + argv))


def prompt_of_16(args, model):
    """Words that make 16 tokens of this model."""
    words = ("The house stands at the end of the long road and in its garden there are many old trees that "
             "give shade when the summer is hot").split()
    for n in range(4, len(words)):
        text = " ".join(words[:n])
        r = subprocess.run([args.ours, "tokenize", "--json", "-m", model], input=text.encode(),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if r.returncode:
            raise Failed(f"{args.ours} tokenize: {last_words(r)}")
        if len(json.loads(r.stdout)) >= 16:
            return text
    return " ".join(words)


# ---- the programs ----------------------------------------------------------------------------------------
# measure(args, unit, setting, model) gives {row: value} and, under "_", what else is worth keeping.

class Ours:
    name = "ours"

    def __init__(self, args):
        self.path = args.ours
        self.identity = identity(args.ours)

    def settings(self, unit):
        return [""]

    def measure(self, args, unit, setting, model):
        common = [self.path, "bench", "-m", model, "-t", str(args.threads), "-ctk", args.cache, "-ctv", args.cache]
        if unit == "first":
            return {"first": seconds_to_first_byte(args, [
                self.path, "run", "-m", model, "-p", prompt_of_16(args, model), "-n", "1", "--temp", "0", "-t",
                str(args.threads), "-ctk", args.cache, "-ctv", args.cache])}
        roof = ["--roof"] if args.full else []
        if unit == "batch":
            rows = bench(args, common + roof + ["-p", "0", "-n", "32", "-d", "0", "-np", "1,4,8,16"])
            total = {r.get("n_parallel"): r["avg_ts"] for r in rows}
            out = {"x16": total[16], "_": extras(rows, {"x16": 16})}
            out.update({f"c{n}": n * total[1] / total[n] for n in (4, 8, 16)})
            return out
        if unit == "deep":
            pp, a = speed(args, common + roof, 4096, 0, 0)
            tg, b = speed(args, common + roof, 0, 64, 4096)
            return {"pp4096": pp, "tg64@4096": tg, "_": extras([a, b])}
        n = int(unit[2:])
        ts, row = speed(args, common + roof, *((n, 0, 0) if unit[:2] == "pp" else (0, n, 0)))
        return {unit: ts, "_": extras([row])}


def extras(rows, names=None):
    """Shares of the roof by row name, and how peak memory compares with what it may be."""
    names = {v: k for k, v in (names or {}).items()}
    share, rss = {}, []
    for r in rows:
        name = (f"pp{r['n_prompt']}" if r["n_prompt"] else f"tg{r['n_gen']}") + \
               (f"@{r['n_depth']}" if r["n_depth"] else "")
        if names:
            name = names.get(r.get("n_parallel"))
        all_ops = [o for o in r.get("operations") or [] if o["operation"] == "all"]
        if name and all_ops:
            share[name] = all_ops[0]["roof_seconds"] / all_ops[0]["seconds"]
        if name and r.get("roof_share") and r["n_gen"]:
            share[name] = r["roof_share"]
        if r.get("peak_rss") and r.get("cache_bytes") is not None:
            rss.append(r["peak_rss"] / (1.1 * r["model_size"] + r["cache_bytes"] + 48e6))
    return {"roof": share, "rss": max(rss) if rss else None}


class Llama:
    """llama.cpp and what kept its programs' interface."""

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.identity = identity(path)
        words = subprocess.run([path, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, cwd=tempfile.gettempdir()).stdout.decode(errors="replace")
        # ik_llama.cpp's has no depth (its batched bench has) and repacks weights only when told.
        self.no_depth = "-n, --n-gen" in words and "--n-depth" not in words
        self.repacks = "--run-time-repack" in words

    def beside(self, *names):
        for n in names:
            path = os.path.join(os.path.dirname(self.path), n)
            if os.path.isfile(path):
                return path
        return None

    def settings(self, unit):
        if unit == "first":
            return ["repack", "no repack"] if self.beside("llama-completion", "llama-cli") else []
        if (unit == "batch" or unit == "deep" and self.no_depth) and not self.beside("llama-batched-bench"):
            return []
        return ["fa 0", "fa 1"] + ["fa 0, rtr", "fa 1, rtr"] * self.repacks

    def measure(self, args, unit, setting, model):
        fa, rtr = setting[3:4], "rtr" in setting
        cache = ["-ctk", args.cache, "-ctv", args.cache]
        if unit == "first":
            program = self.beside("llama-completion", "llama-cli")
            argv = [program, "-m", model, "-p", prompt_of_16(args, model), "-n", "1", "--temp", "0", "-t",
                    str(args.threads), "--no-warmup", "--no-display-prompt"]
            argv += ["-no-cnv"] * program.endswith("completion")
            if self.repacks:
                argv += ["-rtr"] * (setting == "repack")
            else:
                argv += ["--no-repack"] * (setting == "no repack")
            return {"first": seconds_to_first_byte(args, argv)}
        batched = self.beside("llama-batched-bench")
        more = cache + ["-rtr"] * rtr
        if unit == "batch":
            return {"x16": self.batched(args, batched, model, fa, more, 16, 32, 16)[1]}
        if unit == "deep" and batched:
            pp, tg = self.batched(args, batched, model, fa, more, 4096, 64, 1)
            return {"pp4096": pp, "tg64@4096": tg}
        argv = [self.path, "-fa", fa, "-m", model, "-t", str(args.threads)] + cache + ["-rtr", "1"] * rtr
        if unit == "deep":
            return {"pp4096": speed(args, argv, 4096, 0, 0)[0], "tg64@4096": speed(args, argv, 0, 64, 4096)[0]}
        n, depth = int(unit[2:]), None if self.no_depth else 0
        ts, row = speed(args, argv, *((n, 0, depth) if unit[:2] == "pp" else (0, n, depth)))
        return {unit: ts, "_": {"version": row.get("build_commit")}}

    def batched(self, args, path, model, fa, cache, prompt, gen, sequences):
        out = run(args, [path, "-m", model, "-fa", "on" if fa == "1" else "off", "-t", str(args.threads), "-tb",
                         str(args.threads), "-c", str(sequences * (prompt + gen) + 256), "-b", "2048", "-ub", "512",
                         "-npp", str(prompt), "-ntg", str(gen), "-npl", str(sequences),
                         "--output-format", "jsonl"] + cache, True)
        for line in out.decode(errors="replace").splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                return row["speed_pp"], row["speed_tg"]
            # ik_llama.cpp prints its table all the same: PP TG B N_KV T_PP S_PP T_TG S_TG T S
            cells = line.strip("| \n").split("|")
            if len(cells) == 10 and [c.strip() for c in cells[:3]] == [str(prompt), str(gen), str(sequences)]:
                return float(cells[5]), float(cells[7])
        raise Failed(f"{path} printed no row")


class OpenVino:
    """Loads the same GGUF; kept in its own Python environment."""
    name = "openvino"

    def __init__(self, python):
        self.path = python
        self.identity = identity(python)
        self.driver = os.path.join(HERE, "peer_openvino.py")

    def settings(self, unit):
        return {"batch": [], "first": ["PA"]}.get(unit, ["PA", "SDPA"])

    def measure(self, args, unit, setting, model):
        shape = {"pp512": (512, 1), "tg128": (16, 128), "deep": (4096, 64), "first": (16, 1)}[unit]
        argv = [self.path, self.driver, "-m", model, "-t", str(args.threads), "-p", str(shape[0]), "-n",
                str(shape[1]), "-ctk", args.cache, "--attention", setting]
        if unit == "first":
            return {"first": seconds_to_first_byte(args, argv + ["--cold"], True)}
        out = json.loads(run(args, argv))
        values = {"pp512": {"pp512": out["pp"]}, "tg128": {"tg128": out["tg"]},
                  "deep": {"pp4096": out["pp"], "tg64@4096": out["tg"]}}[unit]
        return {**values, "_": {"version": out["version"]}}


def identity(path):
    s = os.stat(path)
    return f"{os.path.basename(path)} {s.st_size} {int(s.st_mtime)}"


# ---- getting the peers -----------------------------------------------------------------------------------

LLAMA_PACKAGE = "llama-cpp-python==0.3.36"       # carries the whole of llama.cpp in vendor/
LLAMA_OFF = ("LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER")
LLAMA_PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-completion")
OPENVINO_PACKAGE = "openvino-genai==2026.4.1.0"


def get_peers():
    def step(*argv):
        print("peers: " + " ".join(argv), file=sys.stderr)
        if subprocess.run(argv).returncode:
            sys.exit("peers: that step failed; its message is above")
    python = os.path.join(HOME, "venv", "bin", "python")
    os.makedirs(HOME, exist_ok=True)
    if not os.path.isfile(python):
        step(sys.executable, "-m", "venv", os.path.join(HOME, "venv"))
    step(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", OPENVINO_PACKAGE)
    if not os.path.isfile(os.path.join(HOME, "bin", "llama-bench")):
        step(python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
             "-d", HOME, LLAMA_PACKAGE)
        archive, = [f for f in os.listdir(HOME) if f.endswith(".tar.gz")]
        with tarfile.open(os.path.join(HOME, archive)) as t:
            top = t.getnames()[0].split("/")[0]
            t.extractall(HOME, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(HOME)
        source, build = os.path.join(HOME, top, "vendor", "llama.cpp"), os.path.join(HOME, "llama.cpp")
        step("cmake", "-G", "Ninja", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
             f"-DCMAKE_RUNTIME_OUTPUT_DIRECTORY={HOME}/bin", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={HOME}/bin",
             *[f"-D{name}=OFF" for name in LLAMA_OFF])
        step("cmake", "--build", build, "--target", *LLAMA_PROGRAMS)
    print("peers: llama.cpp and OpenVINO GenAI are in build/peers; ik_llama.cpp is in no package: build it and "
          "name it with --peer ik=PATH/llama-bench", file=sys.stderr)


def find_peers(args, ap):
    """What was named, else what --get made and what is on the PATH."""
    named = list(args.peer or [])
    if not named or args.full:
        found = os.path.join(HOME, "bin", "llama-bench")
        found = found if os.path.isfile(found) else shutil.which("llama-bench")
        if found and not any(p.startswith("llama.cpp=") for p in named):
            named.append("llama.cpp=" + found)
        python = os.path.join(HOME, "venv", "bin", "python")
        if args.full and os.path.isfile(python) and not any(p.startswith("openvino=") for p in named):
            named.append("openvino=" + python)
    if not named:
        ap.error("there is no peer yet: ./dev peers --get fetches and builds them, --peer NAME=/path/to/llama-bench "
                 "names one")
    peers = []
    for p in named:
        name, eq, path = p.partition("=")
        if not eq or "/" in name:
            name, path = os.path.basename(p), p
        if name in ["ours"] + [x.name for x in peers]:
            ap.error(f"two programs are called {name}: give them names, --peer NAME=PATH")
        if not os.path.isfile(path):
            ap.error(f"{name}: there is no file {path}")
        path = os.path.abspath(path)
        peers.append(OpenVino(path) if name == "openvino" else Llama(name, path))
    return peers


def find_models(args, ap):
    """(name, path, column of the targets)"""
    known = {name: (name, os.path.join(MODELS, f), hint, col) for name, f, hint, col in FULL}
    wanted = args.model or (list(known) if args.full else ["smollm2-q4_1"])
    models = []
    for w in wanted:
        if w not in known:
            if not os.path.isfile(w):
                ap.error(f"there is no file {w}, and the models of --full are {', '.join(known)}")
            models.append((os.path.basename(w), os.path.abspath(w), None))
            continue
        name, path, hint, column = known[w]
        if not os.path.isfile(path) and hint is None:
            made_of = os.path.join(MODELS, SMOL)
            if os.path.isfile(made_of):
                subprocess.run([args.ours, "convert", "--type", "q8_0", made_of, path], check=True)
                hint = ""
        if os.path.isfile(path):
            models.append((name, path, column))
        else:
            print(f"peers: {name} is left out: there is no {path}; get it with {hint or './dev run'}", file=sys.stderr)
    if not models:
        ap.error("none of the models is there")
    return models


# ---- measuring -------------------------------------------------------------------------------------------

class Results:
    """One line of JSON for each measurement, appended as soon as it is made."""

    def __init__(self, path, again):
        self.path, self.known = path, {}
        if path and not again:
            try:
                with open(path) as f:
                    for line in f:
                        r = json.loads(line)
                        self.known[r["key"]] = r["rows"]
            except (OSError, ValueError, KeyError, TypeError):
                pass            # nothing kept yet, or a last line that was cut off

    def get(self, key):
        return self.known.get(key)

    def put(self, key, rows):
        self.known[key] = rows
        if not self.path:
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "a") as f:
            f.write(json.dumps({"key": key, "rows": rows, "date": time.strftime("%Y-%m-%d %H:%M")}) + "\n")


def measure(args, programs, models, units, results):
    """{(model, row): {program: {setting: [values]}}}, {(model, row): [shares]}, {model: [rss]}, {program: version}"""
    got, shares, rss, versions, refused = {}, {}, {}, {}, {}
    jobs = [(r, m, u) for r in range(args.rounds) for m in models for u in units]
    for done, (r, (model, path, _), unit) in enumerate(jobs):
        turns = [(p, s) for p in programs for s in p.settings(unit)]
        for p, setting in turns[::-1] if r % 2 else turns:
            if setting.startswith("fa 0") and args.cache == "q8_0" or (p.name, model) in refused:
                continue                # llama.cpp keeps a quantised cache only with flash attention
            if not args.quiet:
                print(f"\r{done + 1}/{len(jobs)} {model} {unit} {p.name} {setting}\x1b[K", end="", file=sys.stderr,
                      flush=True)
            key = " | ".join((p.identity, identity(path), unit, setting, str(args.threads), args.cache, str(r),
                              "roof" if args.full else ""))
            rows = results.get(key)
            if rows is None:
                try:
                    rows = p.measure(args, unit, setting, path)
                except Failed as e:
                    if p.name == "ours" or not args.full:
                        raise
                    refused[p.name, model] = str(e)      # a peer that cannot read a file is no peer there
                    continue
                results.put(key, rows)
            more = rows.get("_") or {}
            if more.get("version"):
                versions[p.name] = more["version"]
            for row, value in rows.items():
                if row != "_":
                    got.setdefault((model, row), {}).setdefault(p.name, {}).setdefault(setting, []).append(value)
            for row, share in (more.get("roof") or {}).items():
                shares.setdefault((model, row), []).append(share)
            if more.get("rss"):
                rss.setdefault(model, []).append(more["rss"])
    if not args.quiet:
        print("\r\x1b[K", end="", file=sys.stderr)
    for (name, model), why in refused.items():
        print(f"peers: {name} is no peer for {model}: {why[-300:]}", file=sys.stderr)
    return got, shares, rss, versions


def judge(kind, bound, row):
    if kind == "x":
        value, ok = row.get("ratio"), lambda v: v >= bound
    elif kind == "roof":
        value, ok = row.get("roof"), lambda v: v >= bound
    elif kind == "time":
        value = 1 / row["ratio"] if row.get("ratio") else None
        ok = lambda v: v <= bound
    else:
        value, ok = row.get("ours"), lambda v: v <= bound
    if value is None:
        return "?"
    if ok(value):
        return "yes"
    return "at the roof" if (row.get("roof") or 0) >= SAME_AS_PROBE else "no"


WORDS = {"x": "≥ {} x", "roof": "≥ {} of the roof", "time": "≤ {} of the time", "cost": "≤ {}"}


def table(models, rows, peers, got, shares, rss, level):
    out = []
    for model, _, column in models:
        for name in rows:
            by = got.get((model, name), {})
            if name == "rss":
                if model not in rss:
                    continue
                row = {"model": model, "test": "rss", "ours": max(rss[model]), "ours_samples": rss[model],
                       "target": "≤ 1", "reached": "yes" if max(rss[model]) <= 1 else "no"}
                out.append(row)
                continue
            if "ours" not in by:
                continue
            ours = by["ours"][""]
            row = {"model": model, "test": name, "ours": statistics.median(ours), "ours_samples": ours}
            better = min if name == "first" else max
            for p in peers:
                if p.name not in by:
                    continue
                setting, best = better(by[p.name].items(), key=lambda kv: statistics.median(kv[1]))
                median = statistics.median(best)
                faster = [(b / a if name == "first" else a / b) for a, b in zip(ours, best)]
                row[p.name] = {"median": median, "setting": setting, "settings": by[p.name],
                               "ratio": median / row["ours"] if name == "first" else row["ours"] / median,
                               "ratio_range": [min(faster), max(faster)]}
            beside = [p.name for p in peers if p.name in row]
            if beside:
                row["fastest"] = min(beside, key=lambda n: row[n]["ratio"])
                if name == "first" and "llama.cpp" in row:
                    row["fastest"] = "llama.cpp"           # what its target is against
                row["ratio"] = row[row["fastest"]]["ratio"]
            if (model, name) in shares:
                row["roof"] = statistics.median(shares[model, name])
            target = TARGETS["amx" if level == "amx" else "other"].get(name, {}).get(column)
            if target:
                row["target"] = WORDS[target[0]].format(target[1])
                row["reached"] = judge(*target, row)
            out.append(row)
    return out


def figure(name, value):
    if name == "first":
        return f"{value * 1e3:.0f} ms"
    if name in COSTS or name == "rss":
        return f"{value:.2f}"
    return f"{value:.1f}"


def markdown(rows, peers, env):
    lines = [f"{env['cpu']}, {env['cores']} cores, level {env['level']}, {env['threads']} threads, "
             f"cache {env['cache']}, Linux {env['kernel']}, load before {env['load_before']}, "
             f"{env['date']}, {env['rounds']} round"
             f"{'s' if env['rounds'] > 1 else ''}, ours {env['ours']}"
             + "".join(f", {n} {v}" for n, v in env["peers"].items())]
    for model in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == model]
        names = [p.name for p in peers if any(p.name in r for r in mine)]
        judged = any("target" in r for r in mine)
        lines += ["", f"**{model}**", "",
                  "| test | ours | " + "".join(f"{n} | setting | " for n in names)
                  + "ours / fastest (range) | of the roof |" + (" should be | reached |" if judged else ""),
                  "|---|--:|" + "--:|---|" * len(names) + "--:|--:|" + ("---|---|" if judged else "")]
        for r in mine:
            cells = [r["test"], figure(r["test"], r["ours"])]
            for n in names:
                cells += [figure(r["test"], r[n]["median"]), r[n]["setting"]] if n in r else ["–", ""]
            if "fastest" in r:
                low, high = r[r["fastest"]]["ratio_range"]
                cells.append(f"{r['ratio']:.2f} ({low:.2f} to {high:.2f})")
            else:
                cells.append("")
            cells.append(f"{100 * r['roof']:.0f} %" if "roof" in r else "")
            if judged:
                cells += [r.get("target", ""), r.get("reached", "")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def cpu_level(args):
    """What `stretto info` chose; STRETTO_CPU lowers it."""
    r = subprocess.run([args.ours, "info", "--machine", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        return json.loads(r.stdout)["machine"]["level"]
    except (ValueError, KeyError, TypeError):
        return "?"


def environment(args, versions, level):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout.decode().strip()
    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "level": level,
            "threads": args.threads, "cache": args.cache, "rounds": args.rounds, "load_before": round(args.load, 2),
            "date": time.strftime("%Y-%m-%d"), "ours": commit or "?", "peers": versions}


def main():
    if sys.argv[1:2] == ["--time-first"]:
        return time_first_byte(sys.argv[3:], sys.argv[2] == "1")
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--get", action="store_true", help="fetch and build the peers into build/peers, then stop")
    ap.add_argument("--peer", action="append", metavar="NAME=PATH", help="a llama-bench; may be repeated")
    ap.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("-m", "--model", action="append", metavar="NAME|FILE", help="a file, or a name of --full's models: "
                    + ", ".join(m[0] for m in FULL))
    ap.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("-n", "--rounds", type=int, default=3, help="default 3")
    ap.add_argument("-r", "--rows", help="only these, comma separated: " + ",".join(ROWS))
    ap.add_argument("--full", action="store_true", help="every model and row, and what each should reach")
    ap.add_argument("-ctk", "--cache", default="f16", help="cache type of all programs (default f16)")
    ap.add_argument("--again", action="store_true", help="measure anew what has been measured before")
    ap.add_argument("--results", help="where measurements are kept (default build/peers/results.jsonl)")
    ap.add_argument("--prefix", type=str.split, default=[], metavar="CMD", help="put before every measured command")
    ap.add_argument("--timeout", type=int, default=1800, help="seconds for one run (default 1800)")
    ap.add_argument("-q", "--quiet", action="store_true", help="no progress line")
    ap.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = ap.parse_args()
    if args.get:
        get_peers()
        return 0
    if args.rounds < 1 or args.threads < 1:
        ap.error("--rounds and --threads must be at least 1")
    args.load, args.ours = os.getloadavg()[0], os.path.abspath(args.ours)
    if not os.path.isfile(args.ours):
        ap.error(f"our program: there is no file {args.ours}; ./dev build makes it")
    peers, models = find_peers(args, ap), find_models(args, ap)
    rows = args.rows.split(",") if args.rows else ROWS if args.full else FOUR
    if not set(rows) <= set(ROWS):
        ap.error(f"--rows {args.rows}: the rows are {', '.join(ROWS)}")
    units = [u for u, gives in UNITS.items() if set(gives) & set(rows)] or ["pp512"]
    if args.load > 0.5 and not args.quiet:
        print(f"peers: the machine is busy (load {args.load:.2f}); figures will be low and uneven", file=sys.stderr)
    level = cpu_level(args)
    keep = args.results or (os.path.join(HOME, "results.jsonl") if args.full else None)
    try:
        got, shares, rss, versions = measure(args, [Ours(args)] + peers, models, units, Results(keep, args.again))
    except Failed as e:
        print(f"\npeers: {e}", file=sys.stderr)
        return 1
    result = table(models, rows, peers, got, shares, rss, level)
    env = environment(args, versions, level)
    print(json.dumps({"environment": env, "rows": result}, indent=1) if args.output == "json"
          else markdown(result, peers, env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
