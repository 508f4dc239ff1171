#!/usr/bin/env python3
"""Makes data/calibration, data/heldout and data/tasks from the developers' data sets (STRETTO_TEST_DATA), always the
same.

usage: make_calibration.py DATA

Sources and licences are told in data/calibration/README.md; that no thirteen words in a row stand in both folders
is tested by tests/compress/test_texts.py."""
import csv, json, pathlib, random, re, sys

data = pathlib.Path(sys.argv[1])
home = pathlib.Path(__file__).resolve().parent.parent


def lines(name):
    return [json.loads(l) for l in (data / name).read_text().splitlines()]


def cut(pieces, size, between="\n\n"):
    out, n = [], 0
    for p in pieces:
        if n + len(p) > size: break
        out.append(p)
        n += len(p) + len(between)
    return between.join(out) + "\n"


def chat(*turns):
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}, ensure_ascii=False)


def self_instruct(rows):
    for t in rows:
        i = t["instances"][0]
        yield chat(("user", (t["instruction"] + "\n\n" + i["input"]).strip()), ("assistant", i["output"].strip()))


def gsm8k(rows):
    for t in rows:
        answer = re.sub(r"<<.*?>>", "", t["answer"]).replace("#### ", "The answer is ")
        yield chat(("user", t["question"]), ("assistant", answer))


def functions(rows):
    for t in rows:
        doc = t["docstring"].replace("\n", "\n        ")
        yield f'{t["signature"]}\n        """{doc}"""\n{t["body"]}'


def own_pages():
    """Paragraphs of our own pages, tables and pictures left out."""
    for name in ("README.md", "ARCHITECTURE.md", "docs/decoding.md"):
        for p in (home / name).read_text().split("\n\n"):
            if not p.startswith(("|", "!", "```", "#", "<")) and len(p) > 200: yield p


def passages():
    seen = set()
    for name in ("high_school_us_history",):
        for row in csv.reader((data / f"eval/mmlu/{name}_test.csv").open()):
            m = re.match(r"This question refers to the following information\.\s*(.*)", row[0], re.S)
            text = m.group(1).rsplit(". ", 1)[0] if m else ""
            if len(text) > 300 and text[:80] not in seen:
                seen.add(text[:80])
                yield text


def hellaswag(count):
    """Those that go on with what is seen in a film; the others are cut from WikiHow, whose texts have a licence of
    their own."""
    text = (data / "eval/hellaswag_val_dev.txt").read_text().split("\n")
    tasks = [text[i:i + 6] for i in range(0, len(text) - 5, 6)]
    label = lambda t: t[0].split(":")[0]
    how = {label(t) for t in tasks if re.match("[^:]+: How ", t[0])}
    for t in [t for t in tasks if label(t) not in how][:count]: yield "\n".join(t)


rng = random.Random(1)
shakespeare = (data / "text/tinyshakespeare_train.txt").read_text().split("\n\n")
talk = lines("chat/self_instruct_seed_tasks.jsonl")
math = lines("math/gsm8k_train.jsonl")
code = [t for t in lines("code/python_stdlib_doc2code_train.jsonl") if 200 < len(t["body"]) < 1500]
human = lines("code/humaneval_dev.jsonl")
for rows in (talk, math, code): rng.shuffle(rows)

out = {
    "calibration/prose.txt": cut(own_pages(), 26000) + "\n" + cut(shakespeare[1000:], 20000),
    "calibration/code.txt": cut(functions(code), 32000),
    "calibration/chat.jsonl": cut(self_instruct(talk[:110]), 34000, "\n"),
    "calibration/math.jsonl": cut(gsm8k(math), 16000, "\n"),
    "heldout/prose.txt": cut(passages(), 46000),
    "heldout/code.txt": cut((t["prompt"] + t["canonical_solution"] for t in human), 36000),
    "heldout/chat.jsonl": cut(self_instruct(talk[110:]), 24000, "\n") + cut(gsm8k(lines("math/gsm8k_test_dev.jsonl")),
                                                                         16000, "\n"),
    "tasks/hellaswag.txt": "\n".join(hellaswag(200)) + "\n",
}
for name, text in out.items():
    path = home / "data" / name
    path.write_text(text)
    print(f"{name}: {len(text.encode())} bytes")
