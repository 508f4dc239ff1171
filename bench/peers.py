#!/usr/bin/env python3
"""Our speed and memory beside other programs', on the same files, cache type and threads, in one run.

    ./dev peers --get                           llama.cpp, its server too, and OpenVINO GenAI, into build/peers
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

With --full every single measurement is kept in build/peers/results.jsonl under the identity of program and
file, so a run that was interrupted goes on where it stopped; --again measures anew. What a peer cannot do (read
a file, take a setting) is kept too and told at the end. The exit status says whether the runs worked, never who
was faster."""
import argparse
import glob
import json
import os
import platform
import shutil
import signal
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
UNITS = {"pp512": ("pp512",), "tg128": ("tg128",), "pp4096": ("pp4096",), "tg64@4096": ("tg64@4096",),
         "batch": ("x16", "c4", "c8", "c16"), "first": ("first",)}
DEEP = ("pp4096", "tg64@4096")      # some programs fill the cache once and tell both
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

# What a row should reach on a machine with AMX, x times the fastest peer, and on any other, x times llama.cpp; a
# share of the roof, at most so many steps of one row, at most so much of llama.cpp's time.
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
    "other": {row: {c: ("llama", 2.0 if row == "x16" else 1.2) for c in ("q4", "q8", "qwen", "gemma")}
              for row in ("pp512", "pp4096", "tg128", "tg64@4096", "x16")},
}
TARGETS["other"]["first"] = TARGETS["amx"]["first"]
SAME_AS_PROBE = 0.8     # a row that is this near to its roof has nothing left to reach


class Failed(Exception):
    pass


# ---- running programs ------------------------------------------------------------------------------------

def last_words(err):
    lines = err.decode(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else "no message"


def run(args, argv, all_output=False):
    argv = args.prefix + argv
    try:
        # Not here: ik_llama.cpp leaves a main.log where it stands.
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             cwd=tempfile.gettempdir(), start_new_session=True)
    except OSError as e:
        raise Failed(f"{argv[0]}: {e.strerror}")
    try:
        out, err = p.communicate(timeout=args.timeout)
    except BaseException as e:
        # With all that it started: what went on running would be in the next measurement.
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            raise Failed(f"{' '.join(argv)}: no answer within {args.timeout} s (--timeout)")
        raise
    if p.returncode:
        how = (f"exit status {p.returncode}" if p.returncode > 0
               else f"ended by {signal.Signals(-p.returncode).name}")
        raise Failed(f"{' '.join(argv)}: {how}: {last_words(err)}")
    return out + err if all_output else out


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
            raise Failed(f"{args.ours} tokenize: {last_words(r.stderr)}")
        if len(json.loads(r.stdout)) >= 16:
            return text
    return " ".join(words)


# ---- the programs ----------------------------------------------------------------------------------------
# measure(args, unit, setting, model) gives {row: value} and, under "_", what else is worth keeping.

class Ours:
    name = "ours"

    def __init__(self, args):
        self.path = args.ours
        self.identity = identity(args.ours) + " " + args.level

    def settings(self, unit):
        return [""]

    def measure(self, args, unit, setting, model):
        common = [self.path, "bench", "-m", model, "-t", str(args.threads), "-ctk", args.cache, "-ctv", args.cache]
        if unit == "first":
            return {"first": seconds_to_first_byte(args, [
                self.path, "run", "-m", model, "-p", prompt_of_16(args, model), "-n", "1", "--temp", "0", "-t",
                str(args.threads), "-ctk", args.cache, "-ctv", args.cache])}
        if unit == "batch":
            # Prompts of 16 for each sequence, as the peers' batched bench has them.
            rows = bench(args, common + ["-p", "0", "-n", "32", "-d", "16", "-np", "1,4,8,16"])
            total = {r.get("n_parallel"): r["avg_ts"] for r in rows}
            out = {"x16": total[16], "_": extras(rows, {"x16": 16})}
            out.update({f"c{n}": n * total[1] / total[n] for n in (4, 8, 16)})
            return out
        # A written token's share of the roof is in every row, a prompt's is the sum of its operations.
        ts, row = speed(args, common + ["--roof"] * (args.full and unit[:2] == "pp"), *shape(unit))
        return {unit: ts, "_": extras([row])}


def shape(unit):
    """Tokens of prompt, tokens written and depth of a row's name."""
    n, _, depth = unit[2:].partition("@")
    return (int(n), 0, 0) if unit[:2] == "pp" else (0, int(n), int(depth or 0))


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
        words = self.help(path)
        # ik_llama.cpp's has no depth (its batched bench has) and repacks weights only when told.
        self.no_depth = "-n, --n-gen" in words and "--n-depth" not in words
        self.repacks, self.merges = "--run-time-repack" in words, "--merge-qkv" in words
        starter = self.beside("llama-completion", "llama-cli")
        self.fits = starter and "--fit [on|off]" in self.help(starter)

    def help(self, path):
        return subprocess.run([path, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60,
                              stderr=subprocess.STDOUT, cwd=tempfile.gettempdir()).stdout.decode(errors="replace")

    def beside(self, *names):
        for n in names:
            path = os.path.join(os.path.dirname(self.path), n)
            if os.path.isfile(path):
                return path
        return None

    def settings(self, unit):
        if unit == "first":
            return ["repack", "no repack"] if self.beside("llama-completion", "llama-cli") else []
        if (unit == "batch" or unit in DEEP and self.no_depth) and not self.beside("llama-batched-bench"):
            return []
        return ["fa 0", "fa 1"] + ["fa 0, rtr", "fa 1, rtr"] * self.repacks

    def measure(self, args, unit, setting, model):
        fa, rtr = setting[3:4], "rtr" in setting
        cache = ["-ctk", args.cache, "-ctv", args.cache]
        if unit == "first":
            program = self.beside("llama-completion", "llama-cli")
            # A context for this prompt: clearing the cache of a whole one takes longer than all the rest. And
            # nothing is left to be fitted into memory, which is looked for by loading twice.
            argv = [program, "-m", model, "-p", prompt_of_16(args, model), "-n", "1", "--temp", "0", "-t",
                    str(args.threads), "-c", "256", "--no-warmup", "--no-display-prompt"] + cache
            argv += ["-no-cnv"] * program.endswith("completion") + ["--fit", "off"] * bool(self.fits)
            if self.repacks:
                argv += ["-rtr"] * (setting == "repack")
            else:
                argv += ["--no-repack"] * (setting == "no repack")
            return {"first": seconds_to_first_byte(args, argv)}
        batched = self.beside("llama-batched-bench")
        # Repacked weights are no longer the file's pages, so q, k and v may be merged as well.
        more = cache + ["-rtr"] * rtr + ["-mqkv"] * (rtr and self.merges)
        if unit == "batch":
            return {"x16": self.batched(args, batched, model, fa, more, 16, 32, 16)[1]}
        if unit in DEEP and batched:
            return dict(zip(DEEP, self.batched(args, batched, model, fa, more, 4096, 64, 1)))
        argv = [self.path, "-fa", fa, "-m", model, "-t", str(args.threads)] + cache
        argv += ["-rtr", "1"] * rtr + ["-mqkv", "1"] * (rtr and self.merges)
        prompt, gen, depth = shape(unit)
        ts, row = speed(args, argv, prompt, gen, None if self.no_depth else depth)
        return {unit: ts, "_": {"version": row.get("build_commit")}}

    def batched(self, args, path, model, fa, cache, prompt, gen, sequences):
        out = run(args, [path, "-m", model, "-fa", "on" if fa == "1" else "off", "-t", str(args.threads), "-tb",
                         str(args.threads), "-c", str(sequences * (prompt + gen) + 256), "-b", "2048", "-ub", "512",
                         "-npp", str(prompt), "-ntg", str(gen), "-npl", str(sequences),
                         "--output-format", "jsonl"] + cache, True)
        for line in out.decode(errors="replace").splitlines():
            try:
                if line.startswith("{"):
                    row = json.loads(line)
                    return float(row["speed_pp"]), float(row["speed_tg"])
                # ik_llama.cpp prints its table all the same: PP TG B N_KV T_PP S_PP T_TG S_TG T S
                cells = line.strip("| \n").split("|")
                if len(cells) == 10 and [c.strip() for c in cells[:3]] == [str(prompt), str(gen), str(sequences)]:
                    return float(cells[5]), float(cells[7])
            except (ValueError, KeyError, TypeError):
                continue
        raise Failed(f"{path} printed no row")


class OpenVino:
    """Loads the same GGUF; kept in its own Python environment."""
    name = "openvino"

    def __init__(self, python):
        self.path = python
        found = glob.glob(os.path.join(os.path.dirname(python), "..", "lib", "*", "site-packages",
                                       "openvino_genai-*.dist-info"))
        self.identity = identity(python) + "".join(" " + os.path.basename(f) for f in found)
        self.driver = os.path.join(HERE, "peer_openvino.py")

    def settings(self, unit):
        return ["PA"] if unit == "first" else ["PA", "SDPA"]

    def measure(self, args, unit, setting, model):
        prompt, gen = {"pp512": (512, 1), "tg128": (16, 128), "batch": (16, 32), "first": (16, 1)}.get(unit, (4096, 64))
        argv = [self.path, self.driver, "-m", model, "-t", str(args.threads), "-p", str(prompt), "-n",
                str(gen), "-np", "16" if unit == "batch" else "1", "-ctk", args.cache, "--attention", setting]
        if unit == "first":
            return {"first": seconds_to_first_byte(args, argv + ["--cold"], True)}
        out = run(args, argv)
        try:
            out = json.loads(out.splitlines()[-1])
            values = {"pp512": {"pp512": out["pp"]}, "tg128": {"tg128": out["tg"]}, "batch": {"x16": out["tg"]}}
            values = values.get(unit) or {"pp4096": out["pp"], "tg64@4096": out["tg"]}
            return {**values, "_": {"version": out["version"]}}
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise Failed(f"{' '.join(argv)}: output is not that of bench/peer_openvino.py ({e!r})")


def identity(path):
    s = os.stat(path)
    return f"{os.path.basename(path)} {s.st_size} {int(s.st_mtime)}"


# ---- getting the peers -----------------------------------------------------------------------------------

LLAMA_PACKAGE = "llama-cpp-python==0.3.36"       # carries the whole of llama.cpp in vendor/
LLAMA_OFF = ("LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_APP", "LLAMA_BUILD_UI",
             "LLAMA_USE_PREBUILT_UI")
LLAMA_PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-completion", "llama-quantize", "llama-imatrix",
                  "llama-perplexity", "llama-server", "llama-finetune")
OPENVINO_PACKAGE = "openvino-genai==2026.4.1.0"
ROOM = 1.5e9        # bytes that both take with all they are made of, and some to spare


def get_peers():
    """Each step leaves what it made whole, so a call after a failure goes on there."""
    def step(what, hint, *argv):
        print(f"peers: {what}: " + " ".join(argv), file=sys.stderr, flush=True)
        try:
            if subprocess.run(argv, stdin=subprocess.DEVNULL).returncode == 0:
                return
        except OSError as e:
            sys.exit(f"peers: {argv[0]}: {e.strerror}")
        sys.exit(f"peers: {what} failed (its message is above). {hint}./dev peers --get goes on from there")
    os.makedirs(HOME, exist_ok=True)
    python, bench = os.path.join(HOME, "venv", "bin", "python"), os.path.join(HOME, "bin", "llama-bench")
    free = shutil.disk_usage(HOME).free
    whole_bin = all(os.path.isfile(os.path.join(os.path.dirname(bench), name)) for name in LLAMA_PROGRAMS)
    if not whole_bin and free < ROOM:
        sys.exit(f"peers: {HOME} has {free / 1e9:.1f} GB free; {ROOM / 1e9:.1f} GB are needed")
    try:
        whole = subprocess.run([python, "-m", "pip", "-V"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        whole = None
    if not whole or whole.returncode:
        step("making a Python environment", "", sys.executable, "-m", "venv", "--clear", os.path.join(HOME, "venv"))
    pip = (python, "-m", "pip", "-q", "--disable-pip-version-check")
    network = "Is there a network? "
    step("fetching OpenVINO GenAI", network, *pip, "install", OPENVINO_PACKAGE)
    if not whole_bin:
        # Only this package as source: what reads its version may come built.
        name = LLAMA_PACKAGE.partition("=")[0]
        step("fetching llama.cpp", network, *pip, "download", "--no-deps", "--no-binary", name, "-d", HOME,
             LLAMA_PACKAGE)
        top = unpack(HOME, name.replace("-", "_") + "-" + LLAMA_PACKAGE.rpartition("=")[2])
        source, build = os.path.join(top, "vendor", "llama.cpp"), os.path.join(HOME, "llama.cpp")
        step("configuring llama.cpp", "Is there a C++ compiler? ", "cmake", "-G", "Ninja", "-S", source, "-B", build,
             "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
             *[f"-D{name}=OFF" for name in LLAMA_OFF])
        step("building llama.cpp (half an hour of one core)", "", "cmake", "--build", build, "--target",
             *LLAMA_PROGRAMS)
        # Into place when all are there: find_peers takes what lies in bin.
        shutil.rmtree(os.path.dirname(bench), ignore_errors=True)
        os.rename(os.path.join(build, "bin"), os.path.dirname(bench))
    print("peers: llama.cpp and OpenVINO GenAI are in build/peers; ik_llama.cpp is in no package: build it and "
          "name it with --peer ik=PATH/llama-bench", file=sys.stderr)


def unpack(folder, name):
    """The folder of an archive that pip fetched."""
    top, archive = os.path.join(folder, name), os.path.join(folder, name + ".tar.gz")
    part = top + ".part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(archive) as t:
            t.extractall(part, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(part)
        shutil.rmtree(top, ignore_errors=True)
        os.rename(os.path.join(part, name), top)
        os.rmdir(part)
    except (OSError, EOFError, tarfile.TarError) as e:
        sys.exit(f"peers: {archive} could not be unpacked: {e}")
    return top


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
        try:
            peers.append(OpenVino(path) if name == "openvino" else Llama(name, path))
        except (OSError, subprocess.TimeoutExpired) as e:
            ap.error(f"{name}: {path} cannot be run: {e}")
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
                print(f"peers: making {path}", file=sys.stderr)
                r = subprocess.run([args.ours, "convert", "--type", "q8_0", made_of, path], stdout=subprocess.DEVNULL)
                if r.returncode:
                    ap.exit(1, f"peers: {path} could not be made; the message is above\n")
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
        self.path, self.known, self.made = path, {}, 0
        broken = 0
        try:
            with open(path or os.devnull, "rb") as f:
                kept = f.read()
        except FileNotFoundError:
            kept = b""
        # A last line that was cut off must not swallow the next one.
        self.torn = bool(kept) and not kept.endswith(b"\n")
        for line in [] if again else kept.splitlines():
            try:
                r = json.loads(line)
                rows = {k: v if k in "_!" else float(v) for k, v in r["rows"].items()}
                self.known[str(r["key"])] = rows
            except (ValueError, KeyError, TypeError, AttributeError):
                broken += 1
        if broken:
            print(f"peers: {path}: {broken} line{'s are' if broken > 1 else ' is'} not of this program or cut off; "
                  "what they told is measured anew", file=sys.stderr)

    def get(self, key):
        return self.known.get(key)

    def put(self, key, rows):
        self.known[key] = rows
        self.made += 1
        if not self.path:
            return
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path, "a") as f:
            f.write("\n" * self.torn + json.dumps({"key": key, "rows": rows, "date": time.strftime("%Y-%m-%d %H:%M")})
                    + "\n")
        self.torn = False


def measure(args, programs, models, units, results):
    """{(model, row): {program: {setting: [values]}}}, {(model, row): [shares]}, {model: [rss]}, {program: version},
    [what failed]"""
    got, shares, rss, versions = {}, {}, {}, {}
    failures, no_peer, answered = {}, set(), set()
    jobs = [(r, m, u) for r in range(args.rounds) for m in models for u in units]
    for done, (r, (model, path, _), unit) in enumerate(jobs):
        turns = [(p, s) for p in programs for s in p.settings(unit)]
        for p, setting in turns[::-1] if r % 2 else turns:
            if setting.startswith("fa 0") and args.cache == "q8_0" or (p.name, model) in no_peer:
                continue                # llama.cpp keeps a quantised cache only with flash attention

            def key(unit):
                return " | ".join((p.identity, identity(path), unit, setting, str(args.threads), args.cache, str(r),
                                   "roof" if args.full else ""))
            rows = results.get(key(unit))
            if rows is None and args.kept:
                continue
            if rows is None:
                if not args.quiet:
                    print(f"\r{done + 1}/{len(jobs)} {model} {unit} {p.name} {setting}\x1b[K", end="", file=sys.stderr,
                          flush=True)
                try:
                    rows = p.measure(args, unit, setting, path)
                except Failed as e:
                    if p.name == "ours":
                        raise
                    rows = {"!": str(e)}
                more = {"_": rows["_"]} if "_" in rows else {}
                # All that it told, each under its own unit.
                for u, gives in UNITS.items():
                    mine = {row: rows[row] for row in gives if row in rows}
                    if mine and u != unit:
                        results.put(key(u), {**mine, **more})
                results.put(key(unit), {row: v for row, v in rows.items() if row in UNITS[unit] + ("_", "!")})
                rows = results.get(key(unit))
            if "!" in rows:
                failures.setdefault((p.name, model), {})[unit, setting] = rows["!"]
                continue
            answered.add((p.name, model))
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
        # A peer that can do nothing of the first thing it is asked cannot read the file.
        for p in programs:
            if (p.name, model) in failures and (p.name, model) not in answered:
                no_peer.add((p.name, model))
    if not args.quiet:
        print("\r\x1b[K", end="", file=sys.stderr)
    for (name, model), why in failures.items():
        what = [f"{u} {s}".strip() for u, s in why]
        print(f"peers: {name} is no peer for {model}" + (" in " + ", ".join(what)) * ((name, model) not in no_peer)
              + f" (--again asks once more): {list(why.values())[-1][-400:]}", file=sys.stderr)
    return got, shares, rss, versions, failures


def judge(kind, bound, row):
    note = ""
    if kind == "x":
        value, ok = row.get("ratio"), lambda v: v >= bound
    elif kind == "llama":
        value, ok = row.get("llama.cpp", {}).get("ratio"), lambda v: v >= bound
        note = f", {value:.2f}" if value else ""
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
        return "yes" + note
    return ("at the roof" if (row.get("roof") or 0) >= SAME_AS_PROBE else "no") + note


WORDS = {"x": "≥ {} x", "llama": "≥ {} x llama.cpp", "roof": "≥ {} of the roof",
         "time": "≤ {} of the time", "cost": "≤ {}"}


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
    try:
        r = subprocess.run([args.ours, "info", "--machine", "--json"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
        return json.loads(r.stdout)["machine"]["level"]
    except OSError as e:
        sys.exit(f"peers: {args.ours}: {e.strerror}")
    except (ValueError, KeyError, TypeError):
        return "?"


def environment(args, versions, level):
    commit = ""
    if shutil.which("git"):
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
    ap.add_argument("--kept", action="store_true", help="measure nothing: the table of what has been measured")
    ap.add_argument("--results", help="where measurements are kept (default build/peers/results.jsonl)")
    ap.add_argument("--prefix", type=str.split, default=[], metavar="CMD", help="put before every measured command")
    ap.add_argument("--timeout", type=int, default=1800, help="seconds for one run (default 1800)")
    ap.add_argument("-q", "--quiet", action="store_true", help="no progress line")
    ap.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = ap.parse_args()
    # As ^C does, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if args.get:
        get_peers()
        return 0
    if args.rounds < 1 or args.threads < 1 or args.timeout < 1:
        ap.error("--rounds, --threads and --timeout must be at least 1")
    args.load, args.ours = os.getloadavg()[0], os.path.abspath(args.ours)
    if not os.path.isfile(args.ours):
        ap.error(f"our program: there is no file {args.ours}; ./dev build makes it")
    rows = args.rows.split(",") if args.rows else ROWS if args.full else FOUR
    if not set(rows) <= set(ROWS):
        ap.error(f"--rows {args.rows}: the rows are {', '.join(ROWS)}")
    args.level = cpu_level(args)
    peers, models = find_peers(args, ap), find_models(args, ap)
    units = [u for u, gives in UNITS.items() if set(gives) & set(rows)] or ["pp512"]
    if args.kept and args.again:
        ap.error("--kept measures nothing and --again measures anew: one of them")
    if args.load > 0.5 and not args.quiet and not args.kept:
        print(f"peers: the machine is busy (load {args.load:.2f}); figures will be low and uneven", file=sys.stderr)
    keep = args.results or (os.path.join(HOME, "results.jsonl") if args.full else None)
    results = Results(keep, args.again)
    try:
        got, shares, rss, versions, failures = measure(args, [Ours(args)] + peers, models, units, results)
    except Failed as e:
        print(f"\npeers: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = f"; {results.made} made until now are kept in {keep}: without --again the same command goes on there"
        print("\npeers: stopped in a measurement" + kept * bool(keep), file=sys.stderr)
        return 130
    result = table(models, rows, peers, got, shares, rss, args.level)
    env = environment(args, versions, args.level)
    print(json.dumps({"environment": env, "rows": result}, indent=1) if args.output == "json"
          else markdown(result, peers, env))
    # With --full a file that a peer cannot read is part of the answer.
    return 1 if failures and not args.full else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\npeers: stopped")
    except OSError as e:
        sys.exit(f"\npeers: {e}")
