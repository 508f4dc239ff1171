#!/usr/bin/env python3
"""bench/consistency.py: its statistics beside plain ones, and all of its stages on a model of 100,000 parameters and
databases made up here: nothing is made twice, what was cut off goes on, and what is printed and drawn is whole.

    test_claims.py STRETTO BENCH_FOLDER DATA"""
import contextlib
import io
import json
import math
import os
import random
import sqlite3
import stat
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree

stretto, bench, real_data = sys.argv[1:4]
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), bench]
import numpy as np  # noqa: E402
import bytes_model  # noqa: E402
import consistency  # noqa: E402
import learn_sql  # noqa: E402


# ---- statistics ------------------------------------------------------------------------------------
def made_up(rng, n, fast):
    """Answers of n questions in eight databases; each second is worth `fast` tokens of sft's spelling."""
    out = []
    for i in range(n):
        text = f"SELECT {'x' * rng.randrange(1, 40)}"
        steps = len(text) // 2
        way = {"seconds": [len(text) / fast], "steps": steps, "guesses": 2 * steps, "accepted": len(text) - 1 - steps,
               "tokens": len(text) - 1, "cost": 0.5}
        out.append({"id": str(i), "set": f"d{i % 8}", "answer_tokens": len(text), "repeats": 0, "known": 0,
                    "text": text,
                    "by": {"plain": dict(way, cost=1.0, steps=len(text) - 1, guesses=0, accepted=0), "auto": way}})
    return out


def test_statistics():
    rng = random.Random(2)
    base = [made_up(random.Random(5), 40, 100)] * 3
    arm = [made_up(random.Random(6), 40, f) for f in (150, 300, 900)]
    tokens = {r["text"]: len(r["text"]) for t in base + arm for r in t}
    logs = consistency.compare_clock(base, arm, tokens, "auto")
    assert np.allclose(np.exp(logs), 3), logs                       # the median of 1.5, 3 and 9
    mean, low, high = consistency.geometric(logs, [r["set"] for r in arm[0]])
    assert np.allclose([mean, low, high], 3), (mean, low, high)
    values, groups = [rng.gauss(0.5, 0.2) for _ in range(200)], [i % 20 for i in range(200)]
    mean, low, high = consistency.geometric(values, groups)
    by_group = np.array([np.mean([v for v, g in zip(values, groups) if g == k]) for k in range(20)])
    drawn = np.exp(np.sort(np.random.default_rng(1).choice(by_group, (4000, 20)).mean(axis=1)))
    assert abs(mean - math.exp(np.mean(values))) < 1e-12
    assert abs(low - drawn[100]) < 0.02 and abs(high - drawn[3899]) < 0.02, (low, high, drawn[100], drawn[3899])
    p = consistency.passes(arm[0], tokens, "auto")
    steps = sum(r["by"]["auto"]["steps"] for r in arm[0])
    assert p["tokens"] == sum(len(r["text"]) for r in arm[0]) / (steps + 40) and p["rows"] == 3, p
    plain = consistency.passes(base[0], tokens, "plain")
    assert plain["tokens"] == 1 and plain["rows"] == 1 and plain["accepted"] is None, plain
    priced = consistency.compare_priced(base[0], arm[0], tokens, "auto")
    want = [math.log((len(b["text"]) - 1) / len(b["text"]) / (0.5 * (len(a["text"]) - 1) / len(a["text"])))
            for b, a in zip(base[0], arm[0])]
    assert np.allclose(priced, want), priced
    assert consistency.geometric([], []) is None and consistency.median([3, 1, 2, 4]) == 2.5


def test_joined():
    old = {"n": 1, "arms": {"sft": {"a": 1, "speed": 2}, "phrases": {"a": 3}}, "lossless": {"base": 1},
           "costs": {"f16": 1}}
    new = {"n": 2, "arms": {"sft": {"a": 4}}, "lossless": {"gated": 2}, "costs": {}}
    assert consistency.joined(old, new) == {
        "n": 2, "arms": {"sft": {"a": 4, "speed": 2}, "phrases": {"a": 3}}, "lossless": {"base": 1, "gated": 2},
        "costs": {"f16": 1}}


def test_of_speed():
    way = lambda tokens, low: {"passes": {"tokens": tokens}, "clock": [low + 0.2, low, low + 0.4], "priced": None}
    said = consistency.of_speed("c", {"speed": {"same": {"jacobi": way(2.5, 1), "auto": way(3.4, 1.9)},
                                                "f16": {"auto": way(9, 2.0)}}})
    assert [line.endswith(": holds") for line in said] == [True, False, False, True], said
    assert "2.50 tokens for a pass, claimed 2.5" in said[0] and "claimed 2.0" in said[3], said


def test_verdicts():
    for difference, low, n, words in ((-0.005, -0.012, 2000, "within"), (-0.005, -0.016, 2000, "not within"),
                                      (-0.011, -0.012, 2000, "not within"), (0.1, 0.05, 500, "within")):
        arm = {"paired": {"difference": difference, "interval_by_database": [low, 0.2]}, "figures": {"n": n}}
        said, = consistency.verdicts({"arms": {"sft": {}, "phrases": arm}, "lossless": {}})
        assert f": {words} the point" in said and ("2,000" in said) == (n < 2000), said
    assert consistency.verdicts({"arms": {}, "lossless": {"base": {"sql": {"same": False}}}}) == ["base: TEXTS DIFFER"]


# ---- stages ----------------------------------------------------------------------------------------
def make_data(folder):
    """Databases of one table each; questions about them whose answers have much in common."""
    os.makedirs(os.path.join(folder, "sql"))
    tables, questions = [], []
    with tarfile.open(os.path.join(folder, "sql", "spider_databases.tar"), "w") as tar:
        for i in range(18):
            name = f"base{i}"
            path = os.path.join(folder, name + ".sqlite")
            db = sqlite3.connect(path)
            db.executescript(f"CREATE TABLE t{i} (a, b); INSERT INTO t{i} VALUES (1, 'x'), (2, 'y'), (3, 'z');")
            db.commit(), db.close()
            tar.add(path, f"database/{name}/{name}.sqlite")
            tables.append({"db_id": name, "table_names_original": [f"t{i}"],
                           "column_names_original": [[-1, "*"], [0, "a"], [0, "b"]]})
            for k in range(3):
                questions.append({"db_id": name, "question": f"Which b have a above {k}?",
                                  "query": f"SELECT b FROM t{i} WHERE a > {k}"})
    for s, rows in (("train", questions[:48]), ("dev", questions[48:])):
        learn_sql.write_lines(os.path.join(folder, "sql", f"spider_{s}.jsonl"), rows)
    learn_sql.write(os.path.join(folder, "sql", "spider_tables.json"), json.dumps(tables))


def counted(folder):
    """A program that is stretto and keeps what it was called with; it fails where a file says so."""
    path = os.path.join(folder, "counted")
    learn_sql.write(path, f'''#!/bin/sh
echo "$1 $2" >> {folder}/calls
if [ -e {folder}/fail ] && [ "$(cat {folder}/fail)" = "$1" ]; then exit 1; fi
exec {os.path.abspath(stretto)} "$@"
''')
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


def call(*words):
    """What consistency.py prints."""
    out, sys.argv = io.StringIO(), ["consistency.py", *map(str, words)]
    with contextlib.redirect_stdout(out):
        consistency.main()
    return out.getvalue()


def calls(folder):
    path = os.path.join(folder, "calls")
    with open(path) as f:
        said = f.read().split("\n")[:-1]
    os.remove(path)
    return [c for c in said if c not in ("teach --help", "info --machine")]


def test_stages(folder):
    consistency.REPEATS = 2                                         # such a model repeats itself always
    learn_sql.HELD_OUT, data, work = 4, os.path.join(folder, "data"), os.path.join(folder, "work")
    model = os.path.join(folder, "tiny.gguf")
    make_data(data)
    bytes_model.make_bytes(model)
    ask = ("-m", model, "--data", data, "--work", work, "--ours", counted(folder), "--epochs", 1, "--rows", 512,
           "--phrases", 6, "--predict", 24, "--speed", 6, "--rounds", 2, "--warm", 4, "--types", "same", "q8_0",
           "--copies", 1, "--held", 5, "-t", 1, "--method", "full", "--arms", "sft", "phrases",
           "consistency")
    learn_sql.write(os.path.join(folder, "fail"), "bench")          # cut off in the middle
    try:
        call(*ask)
        raise AssertionError("it did not end")
    except SystemExit as e:
        assert "bench" in str(e), e
    first = calls(folder)
    assert sum(c.startswith("teach") for c in first) == 3 and sum(c.startswith("trace") for c in first) == 1, first
    os.remove(os.path.join(folder, "fail"))
    printed = call(*ask)
    went_on = calls(folder)
    assert not any(c.startswith("teach") or c.startswith("eval") for c in went_on), went_on
    assert sum(c.startswith("bench") for c in went_on) == 3 * 2 * (2 + 1), went_on   # arms, types, rounds and prices
    assert call(*ask) == printed and call("--work", work, "--table") == printed
    assert calls(folder) == [], "something was made again"
    check_printed(printed)
    result, = consistency.results(work, "result.json")
    for arm in result["arms"].values():
        for kind in ("same", "q8_0"):
            one = arm["speed"][kind]
            assert one["auto"]["clock"][0] > 0 and one["auto"]["priced"][0] > 0, one
            assert one["plain"]["passes"]["own_tokens"] == 1, one
            assert one["questions"] <= 6 and one["auto"]["passes"]["rows"] >= 1, one
    sft = result["arms"]["sft"]
    assert sft["paired"]["won"] == sft["paired"]["lost"] == 0 and sft["same_text"] == 1
    check_texts(os.path.join(work, "tiny", "full-1x512", "phrases"))
    picture = os.path.join(folder, "x.svg")
    call("--work", work, "--picture", picture)
    drawn = ElementTree.parse(picture).getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) >= 8
    assert "prefers-color-scheme" in open(picture).read()
    check_ablation(ask, work, folder)
    for words, why in ((("--arms", "phrases"), "sft"), (("--arms", "sft", "consistency"), "phrases")):
        try:
            with contextlib.redirect_stderr(io.StringIO()) as told:
                call(*ask, *words)
            raise AssertionError(words)
        except SystemExit:
            assert why in told.getvalue(), told.getvalue()


def check_texts(arm):
    """What is timed is what is judged."""
    with open(os.path.join(arm, "..", "turns-sft-phrases-consistency", "phrases-same-0-0.json")) as f:
        timed = json.load(f)
    answers = {(q["db_id"], q["asked"]): q["written"] for q in learn_sql.spider.read(os.path.join(
        arm, "test-12.answers.jsonl"))}
    with open(os.path.join(arm, "..", "timed-test-6", "0.jsonl")) as f:
        asked = [json.loads(line) for line in f]
    assert [t["text"].removesuffix("<|im_end|>") for t in timed] == [answers[q["set"], q["prompt"]] for q in asked]


def test_lossless(folder):
    """Heads and an adapter of guesses beside the model as it came; the bench holds their texts to the model's own."""
    if not os.path.isdir(os.path.join(real_data, "code")):
        print("(no data: nothing stays as it was)")
        return
    work, data, model = (os.path.join(folder, n) for n in ("work", "data", "long.gguf"))
    bytes_model.make_bytes(model, context=2048)
    os.symlink(os.path.join(real_data, "code"), os.path.join(data, "code"))
    ask = ("-m", model, "--data", data, "--work", work, "--ours", counted(folder), "--epochs", 1, "--rows", 512,
           "--predict", 24, "--speed", 0, "--rounds", 1, "--warm", 0, "--copies", 1, "--held", 5, "-t", 1, "--sets",
           "code", "--own", 3, "--own-epochs", 1, "--arms", "sft", "base-heads", "gated")
    printed = call(*ask)
    for name in ("base", "base-heads", "gated"):
        line, = [p for p in printed.splitlines() if p.startswith(f"| {name} | code")]
        assert line.endswith("| yes |"), line
    calls(folder)
    assert call(*ask) == printed and calls(folder) == []


def check_ablation(ask, work, folder):
    """One step of each variant; one that the program does not know is left out, and said."""
    names = ("as it is", "block 16", "a quarter of the data", "no noise")
    consistency.VARIANTS = {n: consistency.VARIANTS[n] for n in names} | {"new": (["--states", "unheard"], "train")}
    with contextlib.redirect_stderr(io.StringIO()) as told:
        printed = call(*ask, "--ablate", "--ablate-steps", 1)
    assert [line.split(" | ")[0][2:] for line in printed.splitlines()[2:]] == list(names), printed
    assert "new: this build's teach has no --states unheard" in told.getvalue()
    made = calls(folder)
    assert sum(c.startswith("teach") for c in made) == 4, made
    call(*ask, "--ablate", "--ablate-steps", 1)
    assert calls(folder) == [] and printed in call("--work", work, "--table")


def check_printed(printed):
    """Every table has as many cells in all rows, and a line for each arm."""
    width = 0
    for line in printed.splitlines():
        n = line.count("|")
        assert not line.startswith("|") or not width or n == width, line
        width = n if line.startswith("|") else 0
    assert printed.count("| phrases | same | auto |") == printed.count("| consistency | same | jacobi |") == 1
    assert "phrases: " in printed, printed


if __name__ == "__main__":
    test_statistics()
    test_joined()
    test_of_speed()
    test_verdicts()
    with tempfile.TemporaryDirectory() as tmp:
        test_stages(tmp)
        test_lossless(tmp)
    print("statistics, stages, tables")
