#!/usr/bin/env python3
"""Squeezed files beside llama-quantize's, type by type, at no more bytes: divergence and perplexity on texts that
neither learned from, speed, and the ratio with its error, paired by token.

    bench/squeeze.py --texts DATA_FOLDER OUT_FOLDER     writes the texts: what to learn from, three held out
    bench/squeeze.py --truth NAME=MODEL.gguf ... --calibrate TEXT [--learn TEXT ...] --text PROSE --text CODE
                     --text CHAT.jsonl
                     [--smallest 0.05,0.1 [--test TEXT ... | --split]]
                     [--types Q4_0,IQ4_NL,Q4_K_M,Q5_0,MXFP4,Q3_K_M] [--chunks 20] [--same-type] [--speed]
                     [--work build/squeeze] [-o md|json] [--report OUT.json]

Of each truth (a float32 GGUF file) llama-imatrix makes an importance matrix of the text, llama-quantize a file of
each type with it, and `stretto squeeze` one from the same text that is no larger (--size; with --same-type the
same type instead). `stretto eval kl` compares both with the truth on the same windows. --learn gives ours the same
text in other files: llama-imatrix reads conversations as they are spelled, ours as lines through the template.
With --gram ours are of one type each, and statistics are measured once for all of them (gigabytes in a file).
NAME=MODEL=TEXT calibrates llama-imatrix for this model on another spelling. What was made stays in the folder of
--work and is not made again; --again does.

--smallest 0.05,0.1 asks otherwise: the smallest of all files that llama-quantize makes whose divergence is within each
bound, beside `stretto squeeze --max-kl BOUND`. Ours is chosen by --test TEXT (several; none: what is built in), which
should not be those of --text; all files are then measured on --text alone. With --split each text of --text is cut
into pieces: ours is chosen by every other one, and all files are measured on the rest. What ours cannot read
llama-quantize turns into float32 for it.

--speed adds tokens per second (`stretto bench`, files in turns) and the share of the rate of this machine's memory.
The tools: ./dev peers --get builds llama-quantize, llama-imatrix and llama-perplexity into build/peers."""
import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TYPES = "Q4_0,IQ4_NL,Q4_K_M,Q5_0,MXFP4,Q3_K_M"
# llama-quantize writes MXFP4 into experts only; told by name it does so everywhere.
MXFP4 = ["--tensor-type", "attn_=mxfp4", "--tensor-type", "ffn_=mxfp4"]


def run(argv, log=None, **kw):
    env = dict(os.environ, OMP_WAIT_POLICY="passive")
    try:
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **kw)
    except OSError as e:
        sys.exit(f"squeeze: {argv[0]}: {e.strerror}")
    if log:
        with open(log, "wb") as f:
            f.write(r.stdout + r.stderr)
    if r.returncode:
        last = r.stderr.decode(errors="replace").strip().splitlines()
        sys.exit(f"squeeze: {' '.join(argv)}: exit status {r.returncode}: {last[-1] if last else 'no message'}")
    return r.stdout.decode()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def flags(word, values):
    return [x for v in values for x in (word, v)]


def peer(name):
    for folder in ("bin", os.path.join("llama.cpp", "bin")):
        path = os.path.join(ROOT, "build", "peers", folder, name)
        if os.path.isfile(path):
            return path
    sys.exit(f"squeeze: there is no {name}: ./dev peers --get builds it")


# ---- texts ------------------------------------------------------------------------------------------------------

def json_lines(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def talk(question, answer):
    return [{"role": "user", "content": question.strip()}, {"role": "assistant", "content": answer.strip()}]


def spelled(messages, chatml):
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" if chatml else
                   f"{m['role'].capitalize()}: {m['content']}\n\n" for m in messages)


def first(items, size):
    """Items of `size` characters together, or a little more."""
    out = []
    for item in items:
        if sum(map(len, out)) >= size:
            break
        out.append(item)
    return out


def split(paths, folder):
    """([what to choose by], [what to measure on]): pieces of each text in turns; of conversations, lines."""
    os.makedirs(folder, exist_ok=True)
    halves = [], []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            lines = f.readlines()
        pieces, size = [[]], 1 if path.endswith(".jsonl") else 4000
        for line in lines:
            if sum(map(len, pieces[-1])) >= size:
                pieces.append([])
            pieces[-1].append(line)
        for half, word in zip(halves, ("choice", "measure")):
            half.append(os.path.join(folder, f"{word}.{os.path.basename(path)}"))
            text = "".join(line for piece in pieces[word == "measure"::2] for line in piece)
            if os.path.isfile(half[-1]) and read(half[-1]) == text.encode():
                continue                        # what was measured on it stands
            with open(half[-1], "w", encoding="utf-8") as f:
                f.write(text)
    return halves


def write_texts(data, out):
    """Prose, code and conversations, each to learn from and, of another source, to measure on."""
    os.makedirs(out, exist_ok=True)

    def write(name, text):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(text)

    with open(os.path.join(data, "text", "wikitext2_raw_train_5k_lines.txt"), encoding="utf-8") as f:
        train = f.read().split("\n")
    step = len(train) // 24                                     # pieces of many articles
    prose = "".join("\n".join(first(train[i * step:(i + 1) * step], 1850)) + "\n" for i in range(24))
    docs = json_lines(data, "code", "python_stdlib_doc2code_train.jsonl")[::7]
    docs = [f'{d["signature"]}\n    """{d["docstring"]}"""\n{d["body"]}' for d in docs]
    code = "\n\n".join(first(docs, 35000)) + "\n"
    problems = [talk(d["text"], "```python\n" + d["code"].replace("\r", "") + "\n```")
                for d in json_lines(data, "code", "mbpp_train_dev.jsonl")[::5]]
    sums = [talk(d["question"], d["answer"]) for d in json_lines(data, "math", "gsm8k_train.jsonl")[::97]]
    talks = [t for pair in zip(problems, sums) for t in pair]
    parts = first((spelled(t, True) for t in talks), 38000)
    write("calibration.txt", prose + code + "".join(parts))
    write("calibration.plain.txt", prose + code + "".join(spelled(t, False) for t in talks[:len(parts)]))
    write("calibration.nochat.txt", prose + code)
    write("calibration.chat.jsonl", "".join(json.dumps({"messages": t}) + "\n" for t in talks[:len(parts)]))
    with open(os.path.join(data, "text", "wikitext2_raw_test.txt"), encoding="utf-8") as f:
        write("prose.txt", f.read()[:120000])
    write("code.txt", "\n\n".join(d["prompt"] + d["canonical_solution"]
                                  for d in json_lines(data, "code", "humaneval_dev.jsonl")))
    held = []
    for d in json_lines(data, "chat", "self_instruct_seed_tasks.jsonl"):
        given, answer = d["instances"][0]["input"], d["instances"][0]["output"]
        if len(answer) >= 80:
            held.append(talk(d["instruction"] + ("\n\n" + given if given else ""), answer))
    write("chat.jsonl", "".join(json.dumps({"messages": t}) + "\n" for t in held))
    write("chat.plain.txt", "".join(spelled(t, False) for t in held))


# ---- files ------------------------------------------------------------------------------------------------------

class Maker:
    def __init__(self, args, name, truth, text):
        self.args, self.name, self.truth, self.text = args, name, truth, text
        about = f"{os.path.getsize(truth)} {os.path.getmtime(truth)} "
        self.learn = args.learn or [text]
        key = hashlib.sha256(about.encode() + b"".join(map(read, [text, *args.learn]))).hexdigest()[:8]
        self.folder = os.path.join(args.work, f"{name}-{key}")
        os.makedirs(self.folder, exist_ok=True)

    def make(self, file, argv):
        """argv gets the name of the file to write in place of OUT; it appears when it is whole."""
        path = os.path.join(self.folder, file)
        if self.args.again or not os.path.isfile(path):
            part = os.path.join(self.folder, "part." + file)
            if os.path.exists(part):
                os.remove(part)
            print(f"squeeze: {self.name}: {file}", file=sys.stderr)
            run([part if a == "OUT" else a for a in argv], os.path.join(self.folder, file + ".log"))
            os.replace(part, path)
        return path

    def theirs(self, kind):
        threads = str(self.args.threads)
        imatrix = self.make("imatrix.gguf", [peer("llama-imatrix"), "-m", self.truth, "-f", self.text, "-o", "OUT",
                                             "-c", "512", "-t", threads, "--parse-special", "--process-output",
                                             "--no-ppl"])
        extra, word = (MXFP4, "MXFP4_MOE") if kind == "MXFP4" else ([], kind)
        return self.make(f"llama.{kind}.gguf", [peer("llama-quantize"), "--imatrix", imatrix, *extra, self.truth,
                                                "OUT", word, threads])

    def statistics(self):
        """What layers read, once for files of all types."""
        return self.make("statistics.gguf", [self.args.stretto, "calibrate", "-q", "-m", self.truth, "-o", "OUT",
                                             "--gram", "--tokens", "0", "-t", str(self.args.threads),
                                             *flags("-f", self.learn)])

    def within(self, bound):
        """Ours, of the fewest bytes that diverge by no more."""
        return self.make(f"stretto.kl{bound:g}.gguf",
                         [self.args.stretto, "squeeze", "-q", "-m", self.truth, "-o", "OUT", "--max-kl", str(bound),
                          *flags("--calibrate", self.learn), *flags("--test", self.args.test), *self.args.flag])

    def ours(self, kind, size):
        goal = ["--type", kind.lower(), "--no-proof"] if self.args.same_type else ["--size", str(size)]
        learn = ["--imatrix", self.statistics()] if self.args.gram else flags("--calibrate", self.learn)
        name = f"stretto.{kind}.{'type' if self.args.same_type else 'size'}.gguf"
        return self.make(name, [self.args.stretto, "squeeze", "-q", "-m", self.truth, "-o", "OUT", *goal,
                                *learn, *self.args.flag])


# ---- smallest ----------------------------------------------------------------------------------------------------

EVERY = ("Q1_0 Q2_0 Q4_0 Q4_1 MXFP4 Q5_0 Q5_1 IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ1_S IQ1_M TQ1_0 TQ2_0 Q2_K Q2_K_S IQ3_XXS "
         "IQ3_S IQ3_M IQ3_XS Q3_K_S Q3_K_M Q3_K_L IQ4_NL IQ4_XS Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0 F16 BF16").split()


def all_theirs(maker):
    """[(bytes, type, path)] of what llama-quantize can write of this model, the smallest first."""
    out = []
    for kind in EVERY:
        try:
            path = maker.theirs(kind)
        except SystemExit as e:                 # rows that fit no type, shapes that it refuses
            print(f"squeeze: {maker.name}: {kind} is left out: {e}", file=sys.stderr)
            continue
        out.append((os.path.getsize(path), kind, path))
    return sorted(out)


def kept_divergence(args, maker, path, chunks):
    key = hashlib.sha256(json.dumps([chunks, *map(file_key, [*args.text, path])]).encode()).hexdigest()[:8]
    return os.path.join(maker.folder, f"{os.path.basename(path)}.{key}.kl")


def divergences(args, maker, paths, chunks):
    """Mean divergence of each file on so many windows of each text, several in a run; kept beside them."""
    todo = [p for p in paths if not os.path.isfile(kept_divergence(args, maker, p, chunks))]
    for at in range(0, len(todo), 4):
        readable = [p if not foreign(p) else as_float(args, p) for p in todo[at:at + 4]]
        own = json.loads(run([args.stretto, "eval", "kl", "--base", maker.truth, "-m", readable[0],
                              *flags("--against", readable[1:]), *flags("-f", args.text), "--chunks", str(chunks),
                              "-t", str(args.threads), "--json"]))
        for path, plain, got in zip(todo[at:at + 4], readable, [own, *own.get("against", [])]):
            with open(kept_divergence(args, maker, path, chunks), "w", encoding="utf-8") as f:
                json.dump(got, f)
            if plain != path:
                os.remove(plain)
    return [json.loads(read(kept_divergence(args, maker, p, chunks))) for p in paths]


def foreign(path):
    """Whether the file has types that ours does not read."""
    kind = os.path.basename(path).split(".")[1]
    return kind.startswith(("IQ1", "IQ2", "IQ3", "Q1", "TQ1"))


def as_float(args, path):
    plain = path + ".f32"
    run([peer("llama-quantize"), "--allow-requantize", path, plain, "F32", str(args.threads)])
    return plain


def file_key(path):
    return [os.path.basename(path), os.path.getsize(path), os.path.getmtime(path)]


def first_within(args, maker, files, bound):
    """The smallest that is within the bound: (bytes, type, path) or None. One window of each text tells those that are
    far from it."""
    rough = divergences(args, maker, [f[2] for f in files], 1)
    near = [f for f, got in zip(files, rough) if got["mean_kl"] <= 2 * bound]
    for at in range(0, len(near), 4):
        some = near[at:at + 4]
        for f, got in zip(some, divergences(args, maker, [f[2] for f in some], args.chunks)):
            print(f"squeeze: {maker.name}: {f[1]}: {f[0] / 1e6:.2f} MB, {got['mean_kl']:.4f}", file=sys.stderr)
            if got["mean_kl"] <= bound:
                return f
    return None


def smallest(args):
    rows = []
    if args.split:
        args.test, args.text = split(args.text, os.path.join(args.work, "texts"))
    for spec in args.truth:
        name, _, rest = spec.partition("=")
        truth, _, text = rest.partition("=")
        maker = Maker(args, name, truth, text or args.calibrate)
        files = all_theirs(maker)
        for bound in map(float, args.smallest.split(",")):
            best = first_within(args, maker, files, bound)
            ours = maker.within(bound)
            if best:
                own, other = divergence(args, truth, [(ours, best[2])])[0]
            else:
                own, other = divergences(args, maker, [ours], args.chunks)[0], None
            rows.append({"model": name, "bound": bound, "bytes": os.path.getsize(ours), "ours": own, "llama": other,
                         "llama_type": best and best[1], "llama_bytes": best and best[0]})
    return rows


def smallest_table(rows):
    out = ["| model | KL at most | llama-quantize's smallest | MB | KL | ours, MB | KL | smaller by |",
           "|" + "---|" * 8]
    for r in rows:
        own, other = r["ours"], r["llama"]
        size, less = f"{r['bytes'] / 1e6:.2f}", "-"
        theirs = "none", "-", "-"
        if other:
            theirs = r["llama_type"], f"{r['llama_bytes'] / 1e6:.2f}", pm(other["mean_kl"], other["mean_kl_error"])
            less = f"**{100 * (1 - r['bytes'] / r['llama_bytes']):.1f} %**"
        if own["mean_kl"] > r["bound"]:
            less += " (over the bound)"
        out.append("| " + " | ".join([r["model"], f"{r['bound']:g}", *theirs, size,
                                      pm(own["mean_kl"], own["mean_kl_error"]), less]) + " |")
    return "\n".join(out)


# ---- figures ----------------------------------------------------------------------------------------------------

def divergence(args, truth, files):
    """Of [ours, theirs] of several types, four types in a run: the truth's answers are what takes long."""
    got = []
    for at in range(0, len(files), 4):
        first, *others = [f for pair in files[at:at + 4] for f in pair]
        own = json.loads(run([args.stretto, "eval", "kl", "--base", truth, "-m", first, *flags("--against", others),
                              *flags("-f", args.text), "--chunks", str(args.chunks), "-t", str(args.threads),
                              "--json"]))
        models = [own, *own["against"]]
        got += zip(models[::2], models[1::2])
    return got


def speeds(args, files):
    """Tokens per second and the share of the memory's rate: medians over rounds in which the files take turns."""
    seen = {f: [] for f in files}
    for turn in range(args.rounds):
        for f in files if turn % 2 == 0 else files[::-1]:
            rows = json.loads(run([args.stretto, "bench", "-m", f, "-p", "0", "-n", "64", "-r", "1", "-t",
                                   str(args.threads), "-o", "json"]))
            row = next(x for x in rows if x["n_gen"])
            seen[f].append((row["avg_ts"], row.get("roof_share") or 0))
    return {f: tuple(statistics.median(x[i] for x in v) for i in range(2)) for f, v in seen.items()}


def measure(args):
    rows = []
    for spec in args.truth:
        name, _, rest = spec.partition("=")
        truth, _, text = rest.partition("=")
        if not rest:
            sys.exit(f"squeeze: --truth takes NAME=MODEL.gguf, not {spec}")
        maker = Maker(args, name, truth, text or args.calibrate)
        of_model = []
        for kind in args.types.split(","):
            theirs = maker.theirs(kind)
            ours = maker.ours(kind, os.path.getsize(theirs))
            of_model.append({"model": name, "type": kind, "bytes": os.path.getsize(ours),
                             "llama_bytes": os.path.getsize(theirs), "files": [ours, theirs]})
        for r, got in zip(of_model, divergence(args, truth, [r["files"] for r in of_model])):
            r["ours"], r["theirs"] = got
        if args.speed:
            fast = speeds(args, [f for r in of_model for f in r["files"]])
            for r in of_model:
                (r["speed"], r["roof"]), (r["llama_speed"], r["llama_roof"]) = (fast[f] for f in r["files"])
        rows += of_model
    return rows


# ---- tables -----------------------------------------------------------------------------------------------------

def pm(value, error):
    return f"{value:.4f} ± {error:.4f}"


def texts_of(figures):
    return figures.get("texts") or [figures]


def table(rows, args):
    names = [os.path.splitext(os.path.basename(t))[0] for t in args.text]
    head = ["model", "class", "bytes", "llama's", "KL", "llama's", "ratio", *[f"ratio, {n}" for n in names],
            "ln of perplexities, ours over llama's: " + ", ".join(names), "same best", "llama's"]
    if args.speed:
        head += ["t/s", "llama's file", "of the memory's rate"]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        own, other = r["ours"], r["theirs"]
        beside = [x["difference_of_previous"] for x in [other, *texts_of(other)]]
        ratio, *of_texts = [f"{x['ratio']:.3f} ± {x['ratio_error']:.3f}" for x in beside]
        cells = [r["model"], r["type"], f"{r['bytes']:,}", f"{r['llama_bytes']:,}",
                 pm(own["mean_kl"], own["mean_kl_error"]), pm(other["mean_kl"], other["mean_kl_error"]),
                 f"**{ratio}**", *of_texts,
                 ", ".join(f"{x['log_ppl_ratio']:+.3f} ± {x['log_ppl_ratio_error']:.3f}" for x in beside[1:]),
                 f"{100 * own['same_top']:.1f} %", f"{100 * other['same_top']:.1f} %"]
        if args.speed:
            cells += [f"{r['speed']:.1f}", f"{r['llama_speed']:.1f}", f"{r['roof']:.2f}"]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def report(rows, model):
    """What `stretto squeeze --report` draws: formats of one model beside each other."""
    formats = []
    for r in rows:
        if r["model"] != model:
            continue
        for by, figures, size, speed in (("stretto", r["ours"], r["bytes"], r.get("speed")),
                                         ("llama-quantize", r["theirs"], r["llama_bytes"],
                                          r.get("llama_speed"))):
            formats.append({"name": r["type"], "by": by, "bytes": size, "kl": figures["mean_kl"],
                            "kl_error": figures["mean_kl_error"], **({"tokens_per_second": speed} if speed else {})})
    return {"out": model, "formats": formats}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--texts", nargs=2, metavar=("DATA_FOLDER", "OUT_FOLDER"))
    ap.add_argument("--truth", action="append", default=[], metavar="NAME=MODEL.gguf[=TEXT]")
    ap.add_argument("--calibrate", metavar="TEXT")
    ap.add_argument("--learn", action="append", default=[], metavar="TEXT")
    ap.add_argument("--text", action="append", default=[])
    ap.add_argument("--test", action="append", default=[], help="with --smallest: a text that ours is chosen by")
    ap.add_argument("--split", action="store_true", help="with --smallest: half of each text is what ours is chosen by")
    ap.add_argument("--smallest", metavar="KL,KL", help="the smallest file within these bounds instead")
    ap.add_argument("--types", default=TYPES)
    ap.add_argument("--chunks", type=int, default=20)
    ap.add_argument("--same-type", action="store_true")
    ap.add_argument("--gram", action="store_true")
    ap.add_argument("--speed", action="store_true")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--flag", action="append", default=[], help="one more word for stretto squeeze")
    ap.add_argument("--work", default=os.path.join(ROOT, "build", "squeeze"))
    ap.add_argument("--again", action="store_true")
    ap.add_argument("--stretto", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("--report", metavar="OUT.json", help="of the first model, for pictures")
    ap.add_argument("-o", dest="form", choices=("md", "json"), default="md")
    args = ap.parse_args()
    if args.texts:
        write_texts(*args.texts)
        return
    if not args.truth or not args.text or not (args.calibrate or all(t.count("=") > 1 for t in args.truth)):
        ap.error("it takes --truth NAME=MODEL.gguf, --calibrate TEXT and --text TEXT; --texts makes the texts")
    if args.smallest:
        rows = smallest(args)
        print(json.dumps(rows, indent=1) if args.form == "json" else smallest_table(rows))
        return
    rows = measure(args)
    print(json.dumps(rows, indent=1) if args.form == "json" else table(rows, args))
    if args.report:
        with open(args.report, "w", encoding="utf-8") as f:
            json.dump(report(rows, rows[0]["model"]), f, indent=1)


if __name__ == "__main__":
    main()
