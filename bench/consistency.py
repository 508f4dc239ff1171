#!/usr/bin/env python3
"""A model that was taught to need fewer steps, held to three claims: how many tokens a pass through the model writes,
how long answers take, and what stays bit-equal to the model as it was.

    bench/consistency.py -m MODEL --data FOLDER --work FOLDER [--arms sft phrases ...] [--method lora|full]
    bench/consistency.py --work FOLDER --table                what the folder has, as Markdown
    bench/consistency.py --work FOLDER --picture OUT.svg      the same as a picture, for light and dark pages
    bench/consistency.py -m MODEL --data FOLDER --work FOLDER --ablate      what consistency training depends on

The task is Spider's (bench/learn_sql.py: its split by databases, its prompts, its lines). An arm is a training of
`stretto teach` with the same lines and as many epochs; arms that this program's stretto cannot teach yet are refused
by name. Everything is a stage, kept in --work and not made again; whatever ends the process, the same command goes on.

    sft           what the others are held to: without phrases, decoded plainly
    phrases       the same with tokens for phrases
    consistency   phrases, and rows that begin wrong (with --method full behind phrases, with lora in one training)
    heads         heads on what is there without them
    base-heads    heads on the model as it came; lossless
    gated         an adapter of guesses on the model as it came; lossless

Answers. Greedy, of --test questions of unseen databases, run on them and on --copies others. Pairs with sft by
question: McNemar's test, and the difference with an interval that draws databases (bootstrap); right answers among
questions of which no run of eight tokens was learned; nats of the right answer (a phrased model's, of the spelling
with its phrases); words, fours of words that are new, and how many texts are those of sft.

Steps. `stretto bench --decode auto` on --speed questions, which knows what --warm answers to questions that were
learned taught guessing (--learned). Tokens are counted as sft spells the text, so a phrase is as many as it stands
for; a pass is every step of writing. Whose answer repeats itself (4-grams, 25 %) is counted apart.

Clock. The same call in turns with sft's, in small parts whose order turns, in each of --types; seconds for a token
as sft spells it, sft plain over the arm's auto: the median of rounds for a question, the geometric mean of questions,
with an interval that draws databases. Beside it at given prices of rows (--costs), which no clock disturbs.

Lossless. On prompts of bench/make_prompts.py (--sets): plain against auto of one file, in turns; the bench itself
compares the texts, and ends where they differ. What guesses there learned from the model's own answers to other prompts
of the same sets."""
import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import sys

import learn_sql
import make_prompts
import spider

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PART = 12                            # questions that are timed by one process
REPEATS = 0.25                       # of an answer's tokens: as `stretto bench` has it
AMX = {"q8_0": "1,1.07,1.2,1.3,1.5,2", "": "1,1.2,1.5,1.7,2.2,3.3"}      # goals for AMX, by the type of weights
NEEDS = {"consistency": "--block", "heads": "heads", "base-heads": "heads", "gated": "--gated"}
WORST, LEAST = -0.01, -0.015         # what may be lost of right answers, and the interval's lower end
# What is claimed at least: tokens for a pass, speed by the clock and at AMX's prices; of a lossless model, by sets.
MUST_TOKENS = {"jacobi": 2.5, "auto": 3.5}
MUST_CLOCK, MUST_PRICED, MUST_LOSSLESS = 2.0, 3.0, {"code": 1.6, "sql": 2.0, "chat": 1.3}

# An arm: whose files it begins with when all weights are trained, what `stretto teach` is asked for, how it decodes.
PHRASES, NOISE = ["--phrases", "{phrases}"], ["--states", "noise", "--block", "{block}"]
ARMS = {
    "sft": (None, [], "auto"),
    "phrases": (None, PHRASES, "auto"),
    "consistency": ("phrases", NOISE, "jacobi,auto"),
    "heads": ("phrases", ["--method", "heads"], "auto"),
    "base-heads": (None, ["--method", "heads"], "auto"),
    "gated": (None, ["--method", "lora", "--gated", "--block", "{block}"], "auto"),
}
LOSSLESS = ("base-heads", "gated")
# What consistency training depends on: variants of it, by options and by what they learn from.
NOISY = ["--states", "noise", "--block", "8"]
VARIANTS = {
    "as it is": (NOISY, "train"),
    "block 16": (["--states", "noise", "--block", "16"], "train"),
    "answers weigh 3": (NOISY + ["--ar", "3"], "train"),
    "answers weigh 10": (NOISY + ["--ar", "10"], "train"),
    "all that the model said": (NOISY + ["--loss", "kl"], "train"),
    "as in CLLM": (NOISY + ["--loss", "cllm"], "train"),
    "a quarter of the data": (NOISY, "quarter"),
    "states": (["--states", "{states}", "--block", "8"], "train"),
    "no noise": ([], "train"),
}


# ---- what is asked of the program -----------------------------------------------------------------
class Run:
    """Arguments, folders and data of one measurement."""

    def __init__(self, args):
        self.args = args
        self.name = re.sub(r"\.gguf$", "", os.path.basename(args.model))
        how = f"{args.method}-{args.epochs}x{args.rows}" + "".join("-" + t.replace("=", "") for t in args.teach)
        self.place = os.path.join(args.work, self.name, how)
        self.files = os.path.join(args.work, self.name, "files")
        self.data, self.questions, self.suite = learn_sql.make_data(args)
        os.makedirs(self.place, exist_ok=True)
        os.makedirs(self.files, exist_ok=True)

    def arm(self, name):
        return os.path.join(self.place, re.sub(r"\W+", "-", name))


def call(*argv):
    return learn_sql.run([str(a) for a in argv])


def kept(path, make):
    """The JSON of a stage, made where it is not there."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        learn_sql.write(path, json.dumps(make(), indent=1) + "\n")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def check_arms(args):
    told = call(args.ours, "teach", "--help")
    for name in args.arms:
        need = NEEDS.get(name, "--phrases")
        if not re.search(r"(?<![\w-])" + need + r"(?!\w)", told):
            sys.exit(f"consistency: {args.ours} cannot teach '{name}', its teach has no {need}: leave it out of --arms")


# ---- trainings, and the files they make ------------------------------------------------------------
def options_of(x, name):
    """What `stretto teach` is asked for, beside data and folder."""
    of, own, _ = ARMS[name]
    full = x.args.method == "full"
    out = [o.format(phrases=x.args.phrases, block=x.args.block) for o in own]
    if "--method" not in own:
        out = ["--method", x.args.method] + ["--save-f32"] * full + out
        if of and not full:                                      # adapters are not stacked: all of it at once
            out += [o.format(phrases=x.args.phrases) for o in ARMS[of][1]]
    for option in x.args.teach:
        key, _, value = option.partition("=")
        out += ["--" + key] + [value] * bool(value)
    return out


def begins_with(x, name):
    """The model that a training begins with, as arguments."""
    of = ARMS[name][0]
    if not of:
        return base(x) if name in LOSSLESS else ["-m", x.args.model]
    if x.args.method == "full":
        return ["-m", os.path.join(x.arm(of), "model.f32.gguf")]
    return ["-m", x.args.model]


def train(x, name):
    """The training of an arm, begun or gone on with; its last line of JSON."""
    own = name in LOSSLESS
    lines = [own_answers(x, s)[0] for s in x.args.sets] if own else [os.path.join(x.data, "train.jsonl")]
    begin = [*begins_with(x, name), *(w for line in lines for w in ("-d", line)), "--epochs",
             x.args.own_epochs if own else x.args.epochs, "--rows", x.args.rows, "--measure", 1 << 20,
             *options_of(x, name)]
    return learn_sql.training(x.args, x.arm(name), x.data, [str(b) for b in begin], not own)


def base(x):
    """The model as it came, in the type of the lossless claim."""
    kind = x.args.lossless_type
    return ["-m", x.args.model if kind == "same" else converted(x, x.args.model, kind)]


def prompts_of(x, name, *more):
    """A file of bench/make_prompts.py."""
    out = os.path.join(x.files, f"{name}{''.join(more)}.jsonl")
    if not os.path.exists(out):
        call(sys.executable, make_prompts.__file__, name, *more, "--data", x.args.data, "-o", out + ".part")
        os.rename(out + ".part", out)
    return out


def own_answers(x, name):
    """What the model as it came answers to prompts beside a set's, as trajectories, and what they teach guessing."""
    prompts = prompts_of(x, "sql-warm") if name == "sql" else prompts_of(x, name, "--rest")
    out, taught = (os.path.join(x.files, f"own-{name}.{x.args.lossless_type}.{e}") for e in ("jsonl", "learned"))

    def make():
        for begun in (out, taught):
            if os.path.exists(begun):
                os.remove(begun)
        call(x.args.ours, "trace", "jacobi", *base(x), "--prompts", prompts, "-o", out, "-n", x.args.predict,
             "--states", 1, "--limit", x.args.own, "--learned", taught, "-t", x.args.threads)
        return {"prompts": x.args.own}

    kept(out + ".json", make)
    return out, taught


def converted(x, source, kind):
    """A file with its matrices in another type, beside it where an arm made it."""
    place = os.path.dirname(source) if source.startswith(x.place + os.sep) else x.files
    out = os.path.join(place, re.sub(r"\.gguf$", "", os.path.basename(source)) + f".{kind}.gguf")
    if not os.path.exists(out):
        call(x.args.ours, "convert", "-q", "--type", kind, "-t", x.args.threads, source, out)
    return out


def files(x, name, kind="same"):
    """The arguments with which an arm runs."""
    heads = "heads" in ARMS.get(name, (None, [], ""))[1]
    if name == "base" or name in LOSSLESS or x.args.method == "lora":
        out = ["-m", x.args.model if kind == "same" else converted(x, x.args.model, kind)]
    else:
        arm = x.arm(ARMS[name][0] if heads else name)
        out = ["-m", os.path.join(arm, "model.gguf") if kind == "same"
               else converted(x, os.path.join(arm, "model.f32.gguf"), kind)]
    if name == "gated" or (x.args.method == "lora" and name != "base" and not heads):
        out += ["--lora", os.path.join(x.arm(name), "adapter.gguf")]
    return out + (["--heads", os.path.join(x.arm(name), "heads.safetensors")] if heads else [])


def without_heads(model):
    return model[:model.index("--heads")] if "--heads" in model else model


# ---- answers -----------------------------------------------------------------------------------------
def answered(x, name):
    """(answers to test, which are right) of an arm, decoded plainly."""
    model = without_heads(files(x, name))
    return learn_sql.evaluate(x.args, model, x.arm(name), x.data, x.questions, x.suite, ("test",))["test"]


def leaked(x):
    """Questions of which a run of eight tokens of the right statement was learned."""
    eights = set().union(*(learn_sql.runs(q["query"]) for q in x.questions["train"]))
    return {(q["db_id"], q["question"]) for q in x.questions["test"] if learn_sql.runs(q["query"]) & eights}


def quality(x, name, said):
    """Of an arm beside sft, question by question."""
    lines, right = answered(x, name)
    base, before = answered(x, "sft")
    known, groups = leaked(x), [q["db_id"] for q in lines]
    new = [i for i, q in enumerate(lines) if (q["db_id"], q["question"]) not in known]
    of_new = {"n": len(new)}
    if new:
        of_new |= spider.paired(*([r[i] for i in new] for r in (before, right)), [groups[i] for i in new])
        of_new |= {"share": learn_sql.mean([right[i] for i in new])}
    out = {"figures": learn_sql.figures(lines, right, x.questions["train"]), "of_new": of_new,
           "paired": spider.paired(before, right, groups),
           "same_text": learn_sql.mean([a["written"] == b["written"] for a, b in zip(lines, base)]),
           "most_tokens": learn_sql.mean([q["tokens"] >= x.args.predict for q in lines])}
    taught = files(x, name)[-1]
    with open(taught, "rb") as f:
        out["file"] = {"bytes": os.path.getsize(taught), "hash": hashlib.sha256(f.read()).hexdigest()[:12]}
    if said.get("held") and said.get("held_lines"):
        out["nats"] = [said[k] * said["held_tokens"] / said["held_lines"] for k in ("held", "held_error")]
    return out | {"training": said}


# ---- steps and seconds ---------------------------------------------------------------------------------
def write_prompts(path, questions):
    learn_sql.write_lines(path, [{"id": str(i), "set": q["db_id"], "prompt": q["asked"], "chat": True}
                                 for i, q in enumerate(questions)])


def asked_of(x, name):
    """{(database, question): what is asked}"""
    lines = spider.read(os.path.join(x.data, f"{name}.jsonl"))
    return {(q["db_id"], q["question"]): l["messages"][0]["content"] for q, l in zip(x.questions[name], lines)}


def write_prompts(x, path, name, questions):
    asked = asked_of(x, name)
    learn_sql.write_lines(path, [{"id": str(i), "set": q["db_id"], "chat": True,
                                  "prompt": asked[q["db_id"], q["question"]]} for i, q in enumerate(questions)])


def timed_parts(x, name="test"):
    """Files of the questions that are timed, a few in each."""
    asked, out = learn_sql.chosen(x.questions[name], x.args.speed), []
    folder = os.path.join(x.place, f"timed-{name}-{len(asked)}")
    os.makedirs(folder, exist_ok=True)
    for at in range(0, len(asked), PART):
        out.append(os.path.join(folder, f"{at // PART}.jsonl"))
        write_prompts(x, out[-1], name, asked[at:at + PART])
    return out


def learned(x, name):
    """What an arm's answers to questions that were learned teach guessing: a file, as an option."""
    if not x.args.warm:
        return []
    folder = x.arm(name)
    out, prompts = (os.path.join(folder, f"warm-{x.args.warm}.{e}") for e in ("learned", "jsonl"))

    def make():
        os.makedirs(folder, exist_ok=True)
        for begun in (out, prompts + ".traced"):                 # what was cut off taught nothing
            if os.path.exists(begun):
                os.remove(begun)
        write_prompts(x, prompts, "train", learn_sql.chosen(x.questions["train"], x.args.warm))
        call(x.args.ours, "trace", "jacobi", *without_heads(files(x, name)), "--prompts", prompts, "-o",
             prompts + ".traced", "-n", x.args.predict, "--states", 1, "--learned", out, "-t", x.args.threads)
        return {"questions": x.args.warm}

    kept(out + ".json", make)
    return ["--learned", out]


def bench(x, model, prompts, decode, *more, pairs=1):
    """What `stretto bench --decode` says of each prompt, as far as it is needed."""
    said = json.loads(call(x.args.ours, "bench", *model, "--decode", decode, "--prompts", prompts, "-n", x.args.predict,
                           "--pairs", pairs, "-t", x.args.threads, "-o", "json", *more))
    keep = ("seconds", "ratios", "steps", "tokens", "guesses", "accepted", "cost", "same")
    return [{k: p[k] for k in ("id", "set", "answer_tokens", "repeats", "known", "text")}
            | {"by": {w: {k: v[k] for k in keep} for w, v in p["strategies"].items()}}
            for p in said["prompts"] if not p["skipped"]]


def stage_of(x, name, what, part):
    return os.path.join(x.arm(name), "speed", f"{what}-{part}.json")


def turn_of(x, name, kind, turn, part):
    """Turns are of arms that took them together: another set of arms takes its own."""
    return os.path.join(x.place, "turns-" + "-".join(x.args.arms), f"{name}-{kind}-{turn}-{part}.json")


def time_all(x):
    """Every arm in turns with the others, part by part."""
    parts, names = timed_parts(x), [name for name in x.args.arms if name not in LOSSLESS]
    for kind in x.args.types:
        for turn in range(x.args.rounds):
            for i, prompts in enumerate(parts):
                for k in range(len(names)):
                    name = names[(k + turn + i) % len(names)]
                    kept(turn_of(x, name, kind, turn, i), lambda: bench(
                        x, files(x, name, kind), prompts, ARMS[name][2], *learned(x, name)))
        for name in names:
            for i, prompts in enumerate(parts):
                kept(stage_of(x, name, f"{kind}-priced", i), lambda: bench(
                    x, files(x, name, kind), prompts, ARMS[name][2], *learned(x, name), "--costs", prices(x, kind)))
    return len(parts)


def prices(x, kind):
    return x.args.costs or AMX.get(kind, AMX[""])


def spelled(x, texts):
    """{text: tokens that the model spells it with}, kept; the token that ends an answer is part of its text."""
    path = os.path.join(x.files, "spelled.json")
    known = kept(path, dict)
    new = {t for t in texts if t not in known}
    for text in new:
        done = subprocess.run([x.args.ours, "tokenize", "-m", x.args.model, "--json"],
                              input=text.encode(), stdout=subprocess.PIPE, check=True)
        known[text] = len(json.loads(done.stdout))
    if new:
        learn_sql.write(path, json.dumps(known))
    return known


# ---- what it comes to ----------------------------------------------------------------------------------
def median(values):
    v = sorted(values)
    return (v[len(v) // 2] + v[(len(v) - 1) // 2]) / 2


def geometric(logs, groups):
    """The geometric mean of ratios whose logarithms these are, with its interval by groups."""
    return [math.exp(sum(logs) / len(logs)), *(math.exp(v) for v in spider.by_groups(logs, groups))] if logs else None


def passes(runs, tokens, way):
    """Of some answers: tokens for a pass, rows of a step, the share of guesses that are right."""
    steps, rows, right = (sum(r["by"][way][k] for r in runs) for k in ("steps", "guesses", "accepted"))
    return {"tokens": sum(tokens[r["text"]] for r in runs) / max(steps + len(runs), 1),
            "own_tokens": sum(r["answer_tokens"] for r in runs) / max(steps + len(runs), 1),
            "rows": (steps + rows) / max(steps, 1), "accepted": right / rows if rows else None}


def compare_clock(base, arm, tokens, way):
    """Logarithms of how much faster an arm is than sft plainly, for each question; base and arm are lists of turns."""
    out = []
    for i in range(len(base[0])):
        turns = [b[i]["by"]["plain"]["seconds"][0] / tokens[b[i]["text"]]
                 / (a[i]["by"][way]["seconds"][0] / tokens[a[i]["text"]]) for b, a in zip(base, arm)]
        out.append(math.log(median(turns)))
    return out


def compare_priced(base, arm, tokens, way):
    """The same at given prices: what its steps cost, in steps of one row."""
    return [math.log(b["by"]["plain"]["tokens"] / tokens[b["text"]]
                     / (a["by"][way]["cost"] * a["by"][way]["tokens"] / tokens[a["text"]]))
            for b, a in zip(base, arm)]


def speed(x, name, kind, n_parts):
    """Of an arm in a type."""
    def runs_of(path):
        return [r for i in range(n_parts) for r in kept(path(i), None)]
    turns = range(x.args.rounds)
    base, arm = ([runs_of(lambda i: turn_of(x, who, kind, t, i)) for t in turns] for who in ("sft", name))
    base_priced, priced = (runs_of(lambda i: stage_of(x, who, f"{kind}-priced", i)) for who in ("sft", name))
    tokens = spelled(x, {r["text"] for turn in base + arm for r in turn})
    # Answers of one token have no step: the prompt's own pass writes it.
    again = [max(b["repeats"], a["repeats"]) > REPEATS if min(b["answer_tokens"], a["answer_tokens"]) > 1 else None
             for b, a in zip(base[0], arm[0])]
    pick = lambda turns, these: [[r for r, a in zip(turn, again) if a == these] for turn in turns]
    out = {"questions": len(again) - again.count(None), "repeated": again.count(True), "same_text": learn_sql.mean(
        [b["text"] == a["text"] for b, a in zip(base[0], arm[0])])}
    for way in ARMS[name][2].split(",") + ["plain"]:
        ours, theirs = pick(arm, False), pick(base, False)
        groups = [r["set"] for r in ours[0]]
        one = {"passes": passes(ours[0], tokens, way), "known": learn_sql.mean([r["known"] for r in ours[0]]),
               "clock": geometric(compare_clock(theirs, ours, tokens, way), groups),
               "seconds": [sum(median([t[i]["by"][w]["seconds"][0] for t in turns]) for i in range(len(turns[0])))
                           for turns, w in ((theirs, "plain"), (ours, way))]}
        if again.count(True):
            one["clock_of_repeated"] = geometric(compare_clock(pick(base, True), pick(arm, True), tokens, way),
                                                 [r["set"] for r in pick(arm, True)[0]])
        for_price = pick([base_priced], False)[0], pick([priced], False)[0]
        one["priced"] = geometric(compare_priced(*for_price, tokens, way), groups)
        out[way] = one
    return out


# ---- what stays as it was --------------------------------------------------------------------------------
def lossless(x, name):
    """{set: how much faster auto is than plain decoding of one file, whose texts the bench compares}."""
    out, kind = {}, x.args.lossless_type
    for s in x.args.sets:
        runs = kept(stage_of(x, name, f"{kind}-lossless", s), lambda: bench(
            x, files(x, name, kind), prompts_of(x, s), "auto", "--learned", own_answers(x, s)[1], pairs=x.args.rounds))
        again = [r for r in runs if r["repeats"] > REPEATS]
        runs = [r for r in runs if r["repeats"] <= REPEATS]
        logs = lambda those: [math.log(median(r["by"]["auto"]["ratios"])) for r in those]
        steps = sum(r["by"]["auto"]["steps"] for r in runs)
        out[s] = {"prompts": len(runs), "repeated": len(again), "clock": geometric(logs(runs), [r["id"] for r in runs]),
                  "clock_of_repeated": geometric(logs(again), [r["id"] for r in again]),
                  "tokens": sum(r["answer_tokens"] for r in runs) / max(steps + len(runs), 1),
                  "same": all(r["by"]["auto"]["same"] for r in runs + again)}
    return out


# ---- all of it -----------------------------------------------------------------------------------------
def stages(x):
    """Trains, asks and times; the result, which it keeps."""
    arms = x.args.arms
    said = {name: train(x, name) for name in arms}
    result = {"model": x.name, "method": x.args.method, "epochs": x.args.epochs, "rows": x.args.rows, "arms": {},
              "level": json.loads(call(x.args.ours, "info", "--machine", "--json"))["machine"]["level"],
              "test": len(learn_sql.chosen(x.questions["test"], x.args.test)), "costs": {
                  kind: prices(x, kind) for kind in x.args.types}, "lossless_type": x.args.lossless_type,
              "leak": kept(os.path.join(x.data, "report.json"), dict)["test"]}
    taught = [name for name in arms if name not in LOSSLESS]
    for name in taught:
        result["arms"][name] = quality(x, name, said[name])
    if x.args.speed:
        n = time_all(x)
        for name in taught:
            result["arms"][name]["speed"] = {kind: speed(x, name, kind, n) for kind in x.args.types}
    result["lossless"] = {name: lossless(x, name) for name in ["base"] + [a for a in arms if a in LOSSLESS]} \
        if x.args.sets else {}
    path = os.path.join(x.place, "result.json")
    result = joined(kept(path, lambda: result), result)
    learn_sql.write(path, json.dumps(result, indent=1) + "\n")
    return result


def joined(old, new):
    """A result with what an earlier one has of other arms and sets."""
    return old | new | {"lossless": old["lossless"] | new["lossless"], "costs": old["costs"] | new["costs"],
                        "arms": old["arms"] | {k: old["arms"].get(k, {}) | v for k, v in new["arms"].items()}}


def merged(x):
    """Sft as one file, of which all variants begin."""
    if x.args.method == "full":
        return os.path.join(x.arm("sft"), "model.f32.gguf")
    out = os.path.join(x.arm("sft"), "merged.q8_0.gguf")
    if not os.path.exists(out):
        call(x.args.ours, "merge", "-q", "-m", x.args.model, "--lora", os.path.join(x.arm("sft"), "adapter.gguf"),
             "--type", "q8_0", "-o", out, "-t", x.args.threads)
    return out


def quarter(x, folder):
    """Lines of every fourth database."""
    out = os.path.join(folder, "quarter.jsonl")
    lines = spider.read(os.path.join(x.data, "train.jsonl"))
    groups = sorted({line["group"] for line in lines}, key=learn_sql.digest)[::4]
    learn_sql.write_lines(out, [line for line in lines if line["group"] in groups])
    return out


def traced(x, folder, model):
    """Trajectories of a model on lines that are learned."""
    out, prompts = (os.path.join(folder, f"states-{x.args.states}{e}.jsonl") for e in ("", ".prompts"))

    def make():
        write_prompts(x, prompts, "train", learn_sql.chosen(x.questions["train"], x.args.states))
        call(x.args.ours, "trace", "jacobi", "-m", model, "--prompts", prompts, "-o", out, "-n", x.args.predict,
             "--block", 8, "-t", x.args.threads)
        return {"questions": x.args.states}

    kept(out + ".json", make)
    return out


def known(told, options):
    """Whether a help text has all of these words."""
    return all(re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", told) for o in options if re.match("--|[a-z]+$", o))


def ablate(x):
    """Variants of consistency training, each in a small budget: what it writes in a pass, and what it knows then."""
    args, rows, folder = x.args, [], os.path.join(x.place, f"ablation-{x.args.ablate_steps}")
    train(x, "sft")
    os.makedirs(folder, exist_ok=True)
    model, parts, told = merged(x), timed_parts(x, "dev"), call(args.ours, "teach", "--help")
    for variant, (options, lines) in VARIANTS.items():
        if not known(told, options):
            print(f"({variant}: this build's teach has no {' '.join(options)})", file=sys.stderr)
            continue
        place = os.path.join(folder, re.sub(r"\W+", "-", variant))
        begin = ["-m", model, "-d", quarter(x, folder) if lines == "quarter" else os.path.join(x.data, "train.jsonl"),
                 "--steps", args.ablate_steps, "--epochs", 1000, "--rows", args.rows, "--measure", 1 << 20, "--method",
                 args.method] + [o if o != "{states}" else traced(x, folder, model) for o in options]
        said = learn_sql.training(args, place, x.data, [str(b) for b in begin])
        taught = ["-m", os.path.join(place, "model.gguf")] if args.method == "full" else \
            ["-m", model, "--lora", os.path.join(place, "adapter.gguf")]
        runs = [r for i, p in enumerate(parts)
                for r in kept(os.path.join(place, "speed", f"{i}.json"), lambda: bench(x, taught, p, "jacobi"))]
        tokens = spelled(x, {r["text"] for r in runs})
        _, right = learn_sql.evaluate(args, taught, place, x.data, x.questions, x.suite, ("dev",))["dev"]
        rows.append({"variant": variant, "rows": said["rows"], "cpu": said["cpu_seconds"], "held": said["held"],
                     "held_noisy": said.get("held_noisy"), "right": learn_sql.mean(right), "n": len(right),
                     "passes": passes([r for r in runs if r["repeats"] <= REPEATS] or runs, tokens, "jacobi")})
        learn_sql.write(os.path.join(folder, "ablation.json"), json.dumps(rows, indent=1) + "\n")
    print_ablation(rows)


# ---- printed ---------------------------------------------------------------------------------------------
def times(v):
    return f"{v[0]:.2f} ({v[1]:.2f} to {v[2]:.2f})" if v else ""


def way_of(arm):
    """The decoding that an arm is judged by."""
    return "auto" if "auto" in arm else "plain"


def reached(value, must):
    """A ratio with its interval beside what it must be: the whole interval counts."""
    return f"{times(value)}, claimed {must}: {'holds' if value[1] >= must else 'does not hold'}"


def of_speed(name, a):
    """What holds of an arm's steps and seconds."""
    out = []
    for kind, s in a.get("speed", {}).items():
        for way, must in MUST_TOKENS.items():
            if way in s and kind == next(iter(a["speed"])):
                tokens = s[way]["passes"]["tokens"]
                out.append(f"{name}, {way}: {tokens:.2f} tokens for a pass, claimed {must}: "
                           f"{'holds' if tokens >= must else 'does not hold'}")
        for what, key, must in (("by the clock", "clock", MUST_CLOCK), ("at prices", "priced", MUST_PRICED)):
            if s["auto"][key]:
                out.append(f"{name}, {kind}, {what}: {reached(s['auto'][key], must)}")
    return out


def verdicts(r):
    """What holds of the claims, in sentences."""
    out = []
    for name, a in r["arms"].items():
        if name == "sft":
            continue
        p, n = a["paired"], a["figures"]["n"]
        low, fine = p["interval_by_database"][0], p["difference"] >= WORST and p["interval_by_database"][0] > LEAST
        few = "" if n >= 2000 else f" (on {n} questions; the claim wants 2,000)"
        out.append(f"{name}: {100 * p['difference']:+.1f} points of right answers, at least {100 * low:+.1f}: "
                   f"{'within' if fine else 'not within'} the point that may be lost{few}")
        out += of_speed(name, a)
    for name, sets in r["lossless"].items():
        out += [f"{name}, {s}, text as it was: {reached(o['clock'], MUST_LOSSLESS[s])}" for s, o in sets.items()
                if o.get("clock")]
        if not all(s["same"] for s in sets.values()):
            out.append(f"{name}: TEXTS DIFFER")
    return out


def print_result(r):
    n, leak = r["test"], r["leak"]
    print(f"## {r['model']}, {r['method']}, {r['epochs']} epochs of steps of {r['rows']} rows ({r['level']})\n\n"
          f"{n} questions about {leak['databases']} unseen databases. Of all {leak['questions']}, "
          f"{leak['same_statement']} statements were learned, {leak['same_but_literals']} but for literals; "
          f"{leak['eight_words_shared']} share a run of eight tokens with one that was (\"new\": without those).\n")
    print("| | right | difference to sft (95 %, by databases) | won, lost, p | new statements | nats an answer "
          "| words | fours | sft's text |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, a in r["arms"].items():
        f, p, new = a["figures"], a["paired"], a["of_new"]
        nats = "{:.2f} ± {:.2f}".format(*a["nats"]) if "nats" in a else ""
        same = name == "sft"
        print(f"| {name} | {100 * f['share']:.1f} % | "
              + ("" if same else f"{100 * p['difference']:+.1f} ({spider.percent(p['interval_by_database'])})") + " | "
              + ("" if same else f"{p['won']}, {p['lost']}, {p['mcnemar_p']:.2g}")
              + f" | {100 * new.get('share', 0):.1f} % of {new['n']} | {nats} | {f['words']:.1f} | {f['fours']:.3f} | "
              + ("" if same else f"{100 * a['same_text']:.0f} %") + " |")
    kinds = list(dict.fromkeys(kind for a in r["arms"].values() for kind in a.get("speed", {})))
    if kinds:
        print("\nTokens (as sft spells them) for a pass; how much faster than sft plainly, by the clock and at prices "
              "of rows; answers that repeat themselves apart.\n\n| | type | decoded | tokens a pass | rows a step | "
              "guesses right | by the clock | at prices | questions | repeated: clock |\n|---|---|---|--:|--:|--:|--:|"
              "--:|--:|--:|")
    for kind in kinds:
        for name, a in r["arms"].items():
            s = a.get("speed", {}).get(kind, {})
            for way in (w for w in ("plain", "jacobi", "auto") if w in s):
                o, p = s[way], s[way]["passes"]
                right = f"{100 * p['accepted']:.0f} %" if p["accepted"] is not None else ""
                print(f"| {name} | {kind} | {way} | {p['tokens']:.2f} | {p['rows']:.2f} | {right} | "
                      f"{times(o['clock'])} | {times(o['priced'])} | {s['questions'] - s['repeated']} | "
                      f"{s['repeated']}: {times(o.get('clock_of_repeated'))} |")
    if kinds:
        print("\nPrices of steps of 1, 2, 4, 8, 16 and 32 rows: "
              + "; ".join(f"{k} {c}" for k, c in r["costs"].items()) + ".")
    print_lossless(r)
    print("\n| training | steps | rows | seconds | of a processor | MB | loss held out | file, bytes |\n"
          "|---|--:|--:|--:|--:|--:|--:|---|")
    for name, a in r["arms"].items():
        t, taught = a["training"], a.get("file", {"hash": "", "bytes": 0})
        print(f"| {name} | {t['steps']} | {t['rows']:,} | {t['seconds']:.0f} | {t['cpu_seconds']:.0f} | "
              f"{t['peak_bytes'] / 1e6:.0f} | {t['first_held']:.3f} -> {t['held']:.3f} | "
              f"{taught['hash']}, {taught['bytes']:,} |")
    print("\n" + "\n".join(f"- {v}" for v in verdicts(r)))


def print_lossless(r):
    if not r["lossless"]:
        return
    print(f"\nText bit-equal to the model's own ({r['lossless_type']}), auto against plain:\n\n| | prompts | tokens a "
          "pass | by the clock | repeated: clock | same |\n|---|---|--:|--:|--:|---|")
    for name, sets in r["lossless"].items():
        for s, o in sets.items():
            print(f"| {name} | {s}, {o['prompts']} | {o['tokens']:.2f} | {times(o['clock'])} | {o['repeated']}: "
                  f"{times(o['clock_of_repeated'])} | {'yes' if o['same'] else 'NO'} |")


def print_ablation(rows):
    print("| consistency training | rows | seconds of a processor | tokens a pass, jacobi | right, of dev | loss held "
          "out | of noisy rows |\n|---|--:|--:|--:|--:|--:|--:|")
    for r in rows:
        noisy = f"{r['held_noisy']:.3f}" if r["held_noisy"] else ""
        print(f"| {r['variant']} | {r['rows']:,} | {r['cpu']:.0f} | {r['passes']['tokens']:.2f} | "
              f"{100 * r['right']:.1f} % of {r['n']} | {r['held']:.3f} | {noisy} |")


def results(work, name):
    """All results that the folder has."""
    out = []
    for at, _, found in sorted(os.walk(work)):
        if name in found:
            with open(os.path.join(at, name), encoding="utf-8") as f:
                out.append(json.load(f))
    return [r for r in out if isinstance(r, list) or "arms" in r]


# ---- drawn -------------------------------------------------------------------------------------------------
STYLE = ("text{font:13px system-ui,sans-serif;fill:#1b1f24}.q{fill:#57606a}.a{fill:#3a6ea5}.b{fill:#c9742b}"
         ".l{stroke:#8c959f;stroke-width:1}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.q{fill:#9198a1}"
         ".a{fill:#6aa2dd}.b{fill:#e39a5c}.l{stroke:#6e7681}}")


def draw(r):
    """Bars of every arm: tokens for a pass, and speed by the clock with its interval; 1 is sft, decoded plainly."""
    rows = []
    for name, a in r["arms"].items():
        for kind, s in a.get("speed", {}).items():
            rows += [(f"{name}, {kind}, {way}", s[way]["passes"]["tokens"], s[way]["clock"])
                     for way in ("plain", "jacobi", "auto") if way in s]
    most = max([1.0] + [max(t, c[2] if c else 0) for _, t, c in rows])
    left, width, high = 210, 380, 34
    at = lambda v: left + width * v / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 70} {high * len(rows) + 60}" '
           f'role="img"><title>{r["model"]}: tokens for a pass, and speed</title><style>{STYLE}</style>',
           f'<text x="{left}" y="18"><tspan class="a">■</tspan> tokens for a pass  <tspan class="b">■</tspan> speed, '
           f'1 is sft plainly</text>']
    for i, (label, tokens, clock) in enumerate(rows):
        y = 34 + i * high
        out += [f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{label}</text>',
                f'<rect class="a" x="{left}" y="{y}" width="{at(tokens) - left:.1f}" height="11"/>',
                f'<text class="q" x="{at(tokens) + 4:.1f}" y="{y + 10}" font-size="11">{tokens:.2f}</text>']
        if clock:
            out += [f'<rect class="b" x="{left}" y="{y + 13}" width="{at(clock[0]) - left:.1f}" height="11"/>',
                    f'<path class="l" d="M{at(clock[1]):.1f} {y + 18.5}H{at(clock[2]):.1f}"/>',
                    f'<text class="q" x="{at(clock[2]) + 4:.1f}" y="{y + 23}" font-size="11">{clock[0]:.2f}</text>']
    out.append(f'<line class="l" x1="{at(1):.1f}" x2="{at(1):.1f}" y1="28" y2="{34 + high * len(rows)}"/></svg>\n')
    return "\n".join(out)


# ---- the command -------------------------------------------------------------------------------------------
def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", help="a GGUF file")
    p.add_argument("--data", help="the folder that has sql/spider_train.jsonl")
    p.add_argument("--work", required=True, help="the folder of all stages")
    p.add_argument("--arms", nargs="+", choices=list(ARMS), default=["sft", "phrases"], help="[sft phrases]")
    p.add_argument("--method", choices=("lora", "full"), default="lora", help="of trainings [lora]")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--rows", type=int, default=1024, help="tokens of a step, about [1024]")
    p.add_argument("--phrases", type=int, default=128, help="at most [128]")
    p.add_argument("--block", type=int, default=8, help="tokens of a block that is guessed [8]")
    p.add_argument("--teach", nargs="*", default=[], metavar="OPTION=VALUE", help="of stretto teach, as rank=32")
    p.add_argument("--test", type=int, default=0, help="questions that are answered at most, by hash; 0: all [0]")
    p.add_argument("--dev", type=int, default=100, help="questions of dev, for --ablate [100]")
    p.add_argument("--held", type=int, default=300, help="questions of test whose loss is measured [300]")
    p.add_argument("--copies", type=int, default=5, help="databases beside each, on which answers must be right [5]")
    p.add_argument("--predict", type=int, default=96, help="tokens of an answer at most [96]")
    p.add_argument("--speed", type=int, default=48, help="questions that are timed; 0: none [48]")
    p.add_argument("--rounds", type=int, default=3, help="times that each is [3]")
    p.add_argument("--warm", type=int, default=256, help="answers to learned questions that guessing knows [256]")
    p.add_argument("--types", nargs="+", default=["same", "q8_0", "f16"], help="of weights: same, or convert's")
    p.add_argument("--costs", help="prices of rows for all types [goals for AMX: docs/decoding.md]")
    p.add_argument("--sets", nargs="*", default=[], choices=("code", "sql", "chat"),
                   help="of the lossless claim [none]")
    p.add_argument("--own", type=int, default=0, help="answers of the model's own of each set that its guessing learns "
                   "from at most; 0: all [0]")
    p.add_argument("--own-epochs", type=int, default=8, help="of them [8]")
    p.add_argument("--lossless-type", default="q8_0", help="type of weights of that claim [q8_0]")
    p.add_argument("--ablate", action="store_true", help="small trainings of consistency in variants, and end")
    p.add_argument("--ablate-steps", type=int, default=40, help="steps of each [40]")
    p.add_argument("--states", type=int, default=1000, help="answers whose trajectories --ablate learns from [1000]")
    p.add_argument("-t", "--threads", type=int, default=0)
    p.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--table", action="store_true", help="print what the folder has, and end")
    p.add_argument("--picture", metavar="OUT.svg", help="draw the first result that the folder has, and end")
    args = p.parse_args()
    if args.table or args.picture:
        return args
    if not (args.data and args.model):
        p.error("--data FOLDER is missing" if not args.data else "-m MODEL is missing")
    if "sft" not in args.arms:
        p.error("--arms needs sft: the others are held to it")
    if set(args.arms) & set(LOSSLESS) and not args.sets:
        p.error("--arms base-heads and gated need --sets: on what is measured?")
    if args.method == "lora" and "heads" in args.arms:
        p.error("--arms heads needs --method full: heads are taught beside one file")
    for name in args.arms:
        if args.method == "full" and ARMS[name][0] and ARMS[name][0] not in args.arms:
            p.error(f"--arms {name} begins with {ARMS[name][0]}, which is not among them")
    if not os.access(args.ours, os.X_OK):
        p.error(f"{args.ours} is no program: build it (./dev build), or name another with --ours")
    check_arms(args)
    return args


def main():
    args = options()
    if args.picture:
        found = results(args.work, "result.json")
        if not found:
            sys.exit(f"consistency: {args.work} has no result yet")
        return learn_sql.write(args.picture, draw(found[0]))
    if args.table:
        for r in results(args.work, "result.json"):
            print_result(r)
        for r in results(args.work, "ablation.json"):
            print_ablation(r)
        return None
    x = Run(args)
    return ablate(x) if args.ablate else print_result(stages(x))


if __name__ == "__main__":
    main()
