#!/usr/bin/env python3
"""Prompt sets for `stretto bench --decode` and `stretto trace jacobi`.

    bench/make_prompts.py SET [--data FOLDER] [--all | --rest] [-o FILE]
        SET: chat, code, sql, quoting, sql-warm, or all for the first four
    bench/make_prompts.py --draw       how bench/prompts/*.ids were drawn

Writes JSON lines {"id", "set", "prompt", "chat", "begin", "stop"}. A set is the committed list
bench/prompts/SET.ids, drawn by hash before any strategy was tuned; --all takes everything the data
has (chat: 255 prompts, code: 82, sql: 100), --rest what the list leaves out of that.

    chat      first turns of MT-bench (Apache-2.0), seed tasks of self-instruct (Apache-2.0)
    code      HumanEval (MIT), every second problem: the model goes on after the docstring
    sql       first 100 questions of Spider's dev half (CC BY-SA 4.0), each with its schema and two
              worked examples of our own
    sql-warm  512 questions of spider_train, whose databases are others: to learn from
    quoting   editing: functions of MBPP (CC BY 4.0) and Python's library (PSF-2.0) to be copied
              with a small change; summarising and extraction: sentences of given texts (WikiText-2,
              CC BY-SA 3.0) and lines of logs of our own to be copied

Only ids and our own words are committed; the texts come from the data folder."""
import argparse
import hashlib
import json
import os
import re
import sys
import textwrap

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = os.path.join(HERE, "prompts")


def lines(data, name):
    with open(os.path.join(data, name), encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def ask(text):
    return {"prompt": text, "chat": True}


def chat(data):
    for q in lines(data, "chat/mt_bench_questions.jsonl"):
        yield f"mt_bench/{q['question_id']}", ask(q["turns"][0])
    for t in lines(data, "chat/self_instruct_seed_tasks.jsonl"):
        given = t["instances"][0]["input"].strip()
        yield f"self_instruct/{t['id']}", ask(t["instruction"] + ("\n\n" + given if given else ""))


def code(data):
    for p in lines(data, "code/humaneval_dev.jsonl"):
        yield p["task_id"], {"prompt": p["prompt"], "chat": False}


SQL_EXAMPLE = """-- Database: bakery
-- customer(customer_id, name, city, joined_on)
-- bread(bread_id, name, grain, price)
-- purchase(purchase_id, customer_id, bread_id, amount)
-- Question: What are the names of the breads that cost more than 3, from cheap to dear?
SELECT name FROM bread WHERE price > 3 ORDER BY price ASC;

-- Database: bakery
-- customer(customer_id, name, city, joined_on)
-- bread(bread_id, name, grain, price)
-- purchase(purchase_id, customer_id, bread_id, amount)
-- Question: How many purchases did each customer make?
SELECT T1.name, count(*) FROM customer AS T1 JOIN purchase AS T2 ON T1.customer_id = T2.customer_id \
GROUP BY T1.customer_id;

"""


def schemas(data):
    with open(os.path.join(data, "sql/spider_tables.json"), encoding="utf-8") as f:
        tables = json.load(f)
    out = {}
    for t in tables:
        text = ""
        for i, name in enumerate(t["table_names_original"]):
            columns = [c for at, c in t["column_names_original"] if at == i]
            text += f"-- {name}({', '.join(columns)})\n"
        out[t["db_id"]] = text
    return out


def sql_prompts(rows, data, name):
    schema = schemas(data)
    for i, q in enumerate(rows):
        if q["db_id"] not in schema:
            continue
        yield f"{name}/{i}", {"prompt": f"{SQL_EXAMPLE}-- Database: {q['db_id']}\n{schema[q['db_id']]}"
                              f"-- Question: {q['question']}\nSELECT", "chat": False, "stop": ";"}


def sql(data):
    yield from sql_prompts(lines(data, "sql/spider_dev.jsonl")[:100], data, "spider_dev")


def sql_warm(data):
    """Questions of other databases; at most four of one, so that many schemas are seen."""
    other = {q["db_id"] for q in lines(data, "sql/spider_dev.jsonl")}
    seen, n = {}, 0
    for name, prompt in sql_prompts(lines(data, "sql/spider_train.jsonl"), data, "spider_train"):
        db = re.findall(r"-- Database: (\S+)", prompt["prompt"])[-1]
        seen[db] = seen.get(db, 0) + 1
        if db in other or seen[db] > 4 or n == 512:
            continue
        n += 1
        yield name, prompt


# ---- quoting -----------------------------------------------------------------------------------
def functions(data):
    """(id, source) of functions."""
    for p in lines(data, "code/mbpp_test_dev.jsonl") + lines(data, "code/mbpp_train_dev.jsonl"):
        yield f"mbpp/{p['task_id']}", p["code"].replace("\r\n", "\n").replace("\t", "    ").strip()
    for i, p in enumerate(lines(data, "code/python_stdlib_doc2code_train.jsonl")):
        body = textwrap.indent(textwrap.dedent(p["body"]), "    ")
        yield f"stdlib/{i}", f"{p['signature']}\n{body}".strip()


def long_enough(source):
    return (8 <= len(source.split("\n")) <= 30 and len(source) < 1200 and source.count("def ") == 1
            and re.match(r"def [^\n]*:\s*\n", source))


# A model of 135 million parameters does such work only when its answer has been begun ("begin").
def edit(source, kind):
    head, body = re.match(r"(def [^\n]*:)\s*\n(.*)", source, re.S).groups()
    name = re.match(r"def\s+(\w+)", head).group(1)
    indent, first = re.match(r"(\s*)([^\n]*)", body).groups()
    task = {"rename": f"rename `{name}` to `{name}_v2`", "docstring": f"give `{name}` a docstring",
            "print": f"let `{name}` print that it was called"}[kind]
    new = {"rename": "", "docstring": f'{indent}"""Works as its name says."""\n',
           "print": f'{indent}print("{name} called")\n'}[kind]
    if kind == "rename":
        head = head.replace(name, name + "_v2", 1)
    return {**ask(f"```python\n{source}\n```\n\nCopy this function and {task}. Leave everything else as it is."),
            "begin": f"```python\n{head}\n{new}{indent}{first}"}


def paragraphs(data):
    with open(os.path.join(data, "text/wikitext2_raw_test.txt"), encoding="utf-8") as f:
        text = [p.strip() for p in f.read().split("\n")]
    plain = [re.sub(r" ([.,;:)])", r"\1", p.replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", "."))
             for p in text]
    for i, p in enumerate(plain):
        if 600 <= len(p) <= 1100 and not p.startswith("="):
            yield f"wikitext/{i}", p


def opening(text):
    return " ".join(text.split(" ")[:6])


def summarise(text):
    return {**ask(f"{text}\n\nSummarize this text by quoting its most important sentences word for word."),
            "begin": opening(text)}


def extract(text):
    return {**ask(f"{text}\n\nCopy this text word for word."), "begin": opening(text)}


def table(seed):
    """A log of our own making; the question asks for its lines."""
    def pick(words, i):
        return words[int(hashlib.sha256(f"{seed}/{i}".encode()).hexdigest(), 16) % len(words)]
    places = ["north", "south", "harbour", "airport"]
    parts = ["pump", "valve", "sensor", "motor", "fan"]
    words_of = ["ERROR pressure too low", "OK checked", "WARNING late reply", "ERROR no power"]
    rows = [f"2031-0{i % 9 + 1}-1{i % 10} {pick(places, 3 * i)} "
            f"{pick(parts, 3 * i + 1)}-{i + 10 * seed} {pick(words_of, 3 * i + 2)}" for i in range(12)]
    log = "\n".join(rows)
    return {**ask(f"```\n{log}\n```\n\nCopy this log and put `- ` before every line."),
            "begin": f"```\n- {rows[0]}\n- {rows[1]}\n- {rows[2]}"}


def quoting(data):
    kinds = ("rename", "docstring", "print")
    n = 0
    for name, source in functions(data):
        if long_enough(source):
            kind = kinds[n % 3]
            n += 1
            yield f"edit/{kind}/{name}", edit(source, kind)
    for i, (name, text) in enumerate(paragraphs(data)):
        yield (f"summarise/{name}", summarise(text)) if i % 2 else (f"extract/{name}", extract(text))
    for seed in range(6):
        yield f"log/{seed}", table(seed)


SETS = {"chat": chat, "code": code, "sql": sql, "quoting": quoting}
# What --draw takes: (prefix of the id, how many).
DRAWN = {
    "chat": (("mt_bench/", 12), ("self_instruct/", 12)),
    "code": (("HumanEval/", 16),),
    "sql": (("spider_dev/", 16),),
    "quoting": tuple((f"edit/{kind}/{source}/", 2) for kind in ("rename", "docstring", "print")
                     for source in ("mbpp", "stdlib")) + (("summarise/", 4), ("extract/", 4), ("log/", 4)),
}


def draw(data):
    """The ids with the lowest hashes: nobody's choice."""
    for name, parts in DRAWN.items():
        ids = []
        for prefix, n in parts:
            have = [i for i, _ in SETS[name](data) if i.startswith(prefix)]
            ids += sorted(have, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:n]
        with open(os.path.join(LISTS, name + ".ids"), "w", encoding="utf-8") as f:
            f.write("\n".join(ids) + "\n")


def chosen(name):
    with open(os.path.join(LISTS, name + ".ids"), encoding="utf-8") as f:
        return [line.strip() for line in f if line.strip()]


def build(name, data, take, out):
    if name == "sql-warm":
        prompts = list(sql_warm(data))
    else:
        prompts = list(SETS[name](data))
        if take == "rest":
            prompts = [(i, p) for i, p in prompts if i not in set(chosen(name))]
        elif take != "all" or name == "quoting":
            by_id = dict(prompts)
            missing = [i for i in chosen(name) if i not in by_id]
            if missing:
                sys.exit(f"make_prompts: {data} has no {missing[0]} ({len(missing)} missing): "
                         "another version of the data?")
            prompts = [(i, by_id[i]) for i in chosen(name)]
    for i, p in prompts:
        out.write(json.dumps({"id": i, "set": name, **p}, ensure_ascii=False) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("set", nargs="?", choices=list(SETS) + ["sql-warm", "all"])
    ap.add_argument("--data", default=os.path.join(HERE, "..", "..", "shared", "data"))
    ap.add_argument("--all", action="store_true", help="every prompt of the data, not the list")
    ap.add_argument("--rest", action="store_true", help="those that the list leaves out, to learn from")
    ap.add_argument("--draw", action="store_true", help="draw bench/prompts/*.ids again")
    ap.add_argument("-o", "--output", help="[standard output]")
    args = ap.parse_args()
    if not os.path.isdir(args.data):
        sys.exit(f"make_prompts: there is no data folder {args.data}; give one with --data")
    if args.draw:
        return draw(args.data)
    if not args.set:
        ap.error("a set is missing: " + ", ".join(SETS))
    out = open(args.output, "w", encoding="utf-8") if args.output else sys.stdout
    try:
        for name in SETS if args.set == "all" else [args.set]:
            build(name, args.data, "rest" if args.rest else "all" if args.all else "list", out)
    except OSError as e:
        sys.exit(f"make_prompts: {e.filename}: {e.strerror}")


if __name__ == "__main__":
    main()
