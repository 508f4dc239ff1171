#!/usr/bin/env python3
"""Does a model learn to write SQL? Spider's questions (arXiv 1809.08887), of which whole databases are held out: what
the model answers before and behind a training, run on those databases.

    bench/learn_sql.py -m MODEL --data FOLDER --work FOLDER [--method lora full] [--steps 300] [--rows 1024]
                       [--test N] [--dev N] [--held N] [--copies 5] [--teach OPTION=VALUE ...] [--ours STRETTO]
    bench/learn_sql.py --data FOLDER --work FOLDER --lines    data/train.jsonl and the like alone
    bench/learn_sql.py --work FOLDER --table                  what the folder has

FOLDER of --data has sql/spider_train.jsonl, spider_dev.jsonl, spider_tables.json and spider_databases.tar*. The split:
of train's databases 40 are *test*, those whose names have the lowest hashes, and nothing was ever tuned on them; dev's
ten are for tuning; the others are learned. Questions whose right statement does not run or returns nothing are left
out everywhere. Prompts are those of `stretto eval spider`, one group for each database; answers are greedy.

Stages, each kept in --work and not made again: data/ (lines and a report of what test shares with train),
MODEL/base (answers before), MODEL/METHOD-STEPSxROWS (a training of `stretto teach`, which goes on where it was cut off,
and answers behind it). A prediction counts when it is right on the database and on --copies others (bench/spider.py).
Beside it: loss of the right answers in nats a token, words of an answer, and the share of its words in fours that it
has not said before. Everything is paired by question and drawn by database (bootstrap)."""
import argparse
import collections
import hashlib
import json
import os
import re
import subprocess
import sys

import spider

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HELD_OUT = 40
SETS = ("train", "test", "dev")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def write(path, text):
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".part", path)


def write_lines(path, rows):
    write(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


# ---- the data ----------------------------------------------------------------------------------
def asked(tables, question):
    """What `stretto eval spider` asks; checked against what it says that it asked."""
    text = ""
    for i, name in enumerate(tables["table_names_original"]):
        columns = ", ".join(c for at, c in tables["column_names_original"] if at == i)
        text += f"CREATE TABLE {name} ({columns});\n"
    return f"{text}\nWrite one SQLite statement that answers this question, and nothing else: {question}"


def one_line(sql):
    return " ".join(sql.split()).rstrip("; ")


def line_of(item, tables):
    return {"messages": [{"role": "user", "content": asked(tables[item["db_id"]], item["question"])},
                         {"role": "assistant", "content": one_line(item["query"])}], "group": item["db_id"]}


def split(data, suite):
    """{set: questions that can be judged}."""
    train, dev = (spider.read(os.path.join(data, "sql", f"spider_{s}.jsonl")) for s in ("train", "dev"))
    names = sorted({x["db_id"] for x in train if x["db_id"] in suite.paths}, key=digest)
    test = set(names[:HELD_OUT])
    sets = {"train": [x for x in train if x["db_id"] not in test], "test": [x for x in train if x["db_id"] in test],
            "dev": dev}
    return {s: [x for x in items if x["db_id"] in suite.paths and suite.answer(x["db_id"], x["query"])]
            for s, items in sets.items()}


def words(sql):
    return re.findall(r"\w+|[^\w\s]", sql.lower())


def masked(sql):
    """A statement without its literals."""
    return " ".join(words(re.sub(r"'[^']*'|\"[^\"]*\"|(?<!\w)\d+(?:\.\d+)?", " ? ", sql)))


def runs(sql, n=8):
    w = words(sql)
    return {" ".join(w[i:i + n]) for i in range(len(w) - n + 1)}


def overlap(items, train, tables):
    """What questions share with those that are learned."""
    said, asked_before = {one_line(x["query"]).lower() for x in train}, {x["question"].lower() for x in train}
    shapes, eights = {masked(x["query"]) for x in train}, set().union(*(runs(x["query"]) for x in train))
    schema = {n: {t.lower() for t in tables[n]["table_names_original"]} for n in {x["db_id"] for x in train + items}}
    known = [schema[n] for n in {x["db_id"] for x in train}]
    near = {n: max(len(schema[n] & k) / len(schema[n] | k) for k in known) for n in {x["db_id"] for x in items}}
    count = {"questions": len(items), "databases": len(near),
             "distinct_statements": len({one_line(x["query"]).lower() for x in items}),
             "same_question": sum(x["question"].lower() in asked_before for x in items),
             "same_statement": sum(one_line(x["query"]).lower() in said for x in items),
             "same_but_literals": sum(masked(x["query"]) in shapes for x in items),
             "eight_words_shared": sum(bool(runs(x["query"]) & eights) for x in items),
             "half_of_the_tables_named_alike": sorted(n for n, v in near.items() if v >= 0.5)}
    return count


def chosen(items, most):
    """The questions with the lowest hashes, in the order of the file: nobody's choice."""
    if not most or most >= len(items):
        return items
    taken = set(sorted(range(len(items)), key=lambda i: digest(items[i]["db_id"] + items[i]["question"]))[:most])
    return [x for i, x in enumerate(items) if i in taken]


def unpack(args, folder):
    """The databases, as a folder."""
    out = os.path.join(folder, "databases")
    if not os.path.isdir(out):
        sql = os.path.join(args.data, "sql")
        tar = next((f for f in sorted(os.listdir(sql)) if f.startswith("spider_databases.tar")), "")
        if not tar:
            sys.exit(f"learn_sql: {args.data}/sql has no spider_databases.tar*")
        spider.databases(os.path.join(sql, tar), out + ".part")
        os.rename(out + ".part", out)
    return spider.databases(out, None)


def make_data(args):
    """Lines, questions and the report; and the suite that judges."""
    folder = os.path.join(args.work, "data")
    copies = os.path.join(folder, "copies")
    os.makedirs(copies, exist_ok=True)
    paths = unpack(args, folder)
    if not os.path.exists(os.path.join(folder, "report.json")):
        with open(os.path.join(args.data, "sql", "spider_tables.json"), encoding="utf-8") as f:
            tables = {t["db_id"]: t for t in json.load(f)}
        sets = split(args.data, spider.Suite(paths))
        for s in SETS:
            write_lines(os.path.join(folder, f"{s}.questions.jsonl"), sets[s])
            write_lines(os.path.join(folder, f"{s}.jsonl"), [line_of(x, tables) for x in sets[s]])
        report = {s: overlap(sets[s], sets["train"], tables) for s in ("test", "dev")}
        report["train"] = {"questions": len(sets["train"]), "databases": len({x["db_id"] for x in sets["train"]}),
                           "distinct_statements": len({one_line(x["query"]).lower() for x in sets["train"]})}
        write(os.path.join(folder, "report.json"), json.dumps(report, indent=1) + "\n")
    questions = {s: spider.read(os.path.join(folder, f"{s}.questions.jsonl")) for s in SETS}
    asked_of = spider.statements_of(questions["test"] + questions["dev"])
    return folder, questions, spider.Suite(paths, args.copies, copies, asked_of)


# ---- the model ---------------------------------------------------------------------------------
def run(argv, quiet=False):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None, check=False)
    if done.returncode:
        sys.exit(f"learn_sql: {' '.join(argv[:2])} ended with {done.returncode}"
                 + (": " + done.stderr.decode(errors="replace").strip().split("\n")[-1] if quiet else ""))
    return done.stdout.decode()


def answers(args, model, questions, out):
    """Greedy answers of `stretto eval spider` to a list of questions, in a file."""
    if not os.path.exists(out):
        os.makedirs(os.path.dirname(out), exist_ok=True)
        ask = out + ".questions"
        write_lines(ask, questions)
        run([args.ours, "eval", "spider", *model, "-f", ask, "--tables",
             os.path.join(args.data, "sql", "spider_tables.json"), "-n", str(args.predict), "-t", str(args.threads),
             "--json", "--output", out + ".part", "--force"])
        os.rename(out + ".part", out)
        os.remove(ask)
    return spider.read(out)


def check_asked(lines, folder, s):
    """Training and evaluation ask with the same words."""
    prompts = {x["messages"][0]["content"] for x in spider.read(os.path.join(folder, f"{s}.jsonl"))}
    for x in lines:
        if x["asked"] not in prompts:
            sys.exit(f"learn_sql: 'eval spider' asks otherwise than the lines of data do: {x['asked'][-200:]}")


def training(args, folder, data, begin, held_out=True):
    """A training, begun with options of `stretto teach` or gone on with; its last line of JSON. What is measured in it
    are questions of test, or what it holds out itself."""
    said = os.path.join(folder, "teach.json")
    if os.path.exists(said):
        with open(said, encoding="utf-8") as f:
            return json.load(f)
    os.makedirs(folder, exist_ok=True)
    argv = [args.ours, "teach", "-o", folder, "-t", str(args.threads), "--json"]
    if os.path.exists(os.path.join(folder, "run.json")):
        argv.append("--resume")
    elif not held_out:
        argv += begin
    else:
        valid = os.path.join(folder, "valid.jsonl")
        lines = spider.read(os.path.join(data, "test.jsonl"))
        items = spider.read(os.path.join(data, "test.questions.jsonl"))
        kept = {(x["db_id"], x["question"]) for x in chosen(items, args.held)}
        write_lines(valid, [l for l, x in zip(lines, items) if (x["db_id"], x["question"]) in kept])
        argv += [*begin, "--valid", valid]
    text = run(argv)
    write(said, text)
    return json.loads(text)


def teach(args, method, folder, data):
    """The training of a method."""
    begin = ["-m", args.model, "-d", os.path.join(data, "train.jsonl"), "--method", method, "--steps", str(args.steps),
             "--rows", str(args.rows), "--measure", str(args.steps), "--epochs", "100"]
    begin += ["--save-f32"] * (method == "full")
    for option in args.teach:
        name, _, value = option.partition("=")
        begin += ["--" + name] + [value] * bool(value)
    return training(args, folder, data, begin)


# ---- what it comes to --------------------------------------------------------------------------
def fours(text):
    """The share of fours of words that an answer has not had before; None: it has no four."""
    w = words(text)
    n = len(w) - 3
    return len({tuple(w[i:i + 4]) for i in range(n)}) / n if n > 0 else None


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else 0.0


def judged(lines, suite, path):
    """Which answers are right, kept beside them."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    out = [bool(suite.judge(x["db_id"], x["query"], x["predicted"])) for x in lines]
    write(path, json.dumps(out))
    return out


def figures(lines, right, train):
    shapes = {masked(x["query"]) for x in train}
    new = [r for r, x in zip(right, lines) if masked(x["query"]) not in shapes]
    return {"n": len(lines), "right": sum(right), "share": mean(right), "interval": list(
        spider.by_groups(right, [x["db_id"] for x in lines])), "exact": mean([x["right"] for x in lines]),
            "new_n": len(new), "new_share": mean(new), "words": mean([len(words(x["written"])) for x in lines]),
            "words_of_right": mean([len(words(x["query"])) for x in lines]),
            "fours": mean([fours(x["written"]) for x in lines]),
            "tokens": mean([x["tokens"] for x in lines])}


def evaluate(args, model, place, folder, questions, suite, sets=("test", "dev")):
    """{set: (answers, which are right)} of a model."""
    out = {}
    for s in sets:
        asked_for = chosen(questions[s], getattr(args, s))
        stem = os.path.join(place, f"{s}-{len(asked_for)}")
        lines = answers(args, model, asked_for, stem + ".answers.jsonl")
        check_asked(lines, folder, s)
        out[s] = lines, judged(lines, suite, f"{stem}.right-{args.copies}.json")
    return out


def compare(base, taught, train, losses):
    result = {}
    for s in base:
        (lines, before), (_, after) = base[s], taught[s]
        result[s] = {"before": figures(lines, before, train), "after": figures(taught[s][0], after, train),
                     "paired": spider.paired(before, after, [x["db_id"] for x in lines])}
    result["loss"] = losses
    return result


def table(work):
    """All results that the folder has, as rows of Markdown."""
    print("| model | training | set | right before | right behind | difference (95 %, by databases) | won, lost, p | "
          "nats a token | words | fours |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for model in sorted(os.listdir(work)):
        for how in sorted(os.listdir(os.path.join(work, model))) if model != "data" else []:
            path = os.path.join(work, model, how, "result.json")
            if not os.path.exists(path):
                continue
            with open(path, encoding="utf-8") as f:
                r = json.load(f)
            for s in ("test", "dev"):
                b, a, p = r[s]["before"], r[s]["after"], r[s]["paired"]
                loss = f"{r['loss'][0]:.3f} -> {r['loss'][1]:.3f} ± {r['loss'][2]:.3f}" if s == "test" else ""
                print(f"| {model} | {how} | {s}, {b['n']} | {100 * b['share']:.1f} % | {100 * a['share']:.1f} % | "
                      f"{100 * p['difference']:+.1f} ({spider.percent(p['interval_by_database'])}) | "
                      f"{p['won']}, {p['lost']}, {p['mcnemar_p']:.1g} | {loss} | {b['words']:.0f} -> {a['words']:.0f} "
                      f"(right: {b['words_of_right']:.0f}) | {b['fours']:.2f} -> {a['fours']:.2f} |")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", help="a GGUF file")
    p.add_argument("--data", help="the folder that has sql/spider_train.jsonl")
    p.add_argument("--work", required=True, help="the folder of all stages")
    p.add_argument("--method", nargs="*", choices=("lora", "full"), default=["lora"])
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--rows", type=int, default=1024, help="tokens of a step, about [1024]")
    p.add_argument("--test", type=int, default=0, help="questions of test at most, by hash; 0: all [0]")
    p.add_argument("--dev", type=int, default=0, help="questions of dev at most; 0: all [0]")
    p.add_argument("--held", type=int, default=500, help="questions of test whose loss is measured [500]")
    p.add_argument("--copies", type=int, default=5, help="databases beside each, on which answers must be right [5]")
    p.add_argument("--predict", type=int, default=128, help="tokens of an answer at most [128]")
    p.add_argument("--teach", nargs="*", default=[], metavar="OPTION=VALUE", help="of stretto teach, as lr=1e-3")
    p.add_argument("-t", "--threads", type=int, default=0)
    p.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--lines", action="store_true", help="make the lines of data alone, and end")
    p.add_argument("--table", action="store_true", help="print what the folder has, and end")
    args = p.parse_args()
    if not args.table and not (args.data and (args.model or args.lines)):
        p.error("--data FOLDER is missing" if not args.data else "-m MODEL is missing")
    if not (args.table or args.lines or os.access(args.ours, os.X_OK)):
        p.error(f"{args.ours} is no program: build it (./dev build), or name another with --ours")
    return args


def main():
    args = options()
    if args.table:
        return table(args.work)
    folder, questions, suite = make_data(args)
    with open(os.path.join(folder, "report.json"), encoding="utf-8") as f:
        print(json.dumps(json.load(f)))
    if args.lines:
        return None
    name = re.sub(r"\.gguf$", "", os.path.basename(args.model))
    place = os.path.join(args.work, name)
    runs_of = {}
    for method in args.method:
        how = f"{method}-{args.steps}x{args.rows}" + "".join("-" + t.replace("=", "") for t in args.teach)
        runs_of[method] = os.path.join(place, how)
        teach(args, method, runs_of[method], folder)
    base = evaluate(args, ["-m", args.model], os.path.join(place, "base"), folder, questions, suite)
    for method, out in runs_of.items():
        said = teach(args, method, out, folder)
        model = ["-m", args.model, "--lora", os.path.join(out, "adapter.gguf")]
        if method == "full":
            model = ["-m", os.path.join(out, "model.f32.gguf")]
        taught = evaluate(args, model, out, folder, questions, suite)
        losses = said["first_held"], said["held"], said["held_error"]
        write(os.path.join(out, "result.json"),
              json.dumps(compare(base, taught, questions["train"], losses), indent=1) + "\n")
    table(args.work)


if __name__ == "__main__":
    main()
