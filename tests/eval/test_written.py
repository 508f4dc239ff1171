#!/usr/bin/env python3
"""`stretto eval gsm8k|spider` beside `stretto run`: the same answers as one by one, judged as by hand; and
bench/spider.py on a small database.

    test_written.py STRETTO MODELS_FOLDER BENCH_FOLDER"""
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile

stretto, models, bench = sys.argv[1:4]
sys.path.insert(0, bench)
import learn_sql
import spider
SMOL = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")


def run(*args, fails=0, **kw):
    r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, stdin=subprocess.DEVNULL,
                       **kw)
    assert r.returncode == fails, (args, r.returncode, r.stderr.decode(errors="replace"))
    return r.stderr.decode() if fails else r.stdout.decode()


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(x) for x in f]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


def check_answers(tmp):
    if not os.path.isfile(SMOL):
        print(f"(no {SMOL}: nothing is written)")
        return
    asked = [{"question": q, "answer": f"so #### {a}"} for q, a in
             (("What is 2 + 2?", 4), ("Tom has 3 apples and buys 4 more. How many has he?", 7),
              ("What is 10 times 10?", 100))]
    path, out = os.path.join(tmp, "q.jsonl"), os.path.join(tmp, "out.jsonl")
    write(path, asked * 4)                                      # more than are written at once
    got = json.loads(run(stretto, "eval", "gsm8k", "-m", SMOL, "-f", path, "-n", "24", "--json", "--output", out))
    assert got["tasks"] == 12
    right = 0
    for i, line in enumerate(lines(out)):
        q = asked[i % 3]
        if i < 3:
            prompt = q["question"] + "\n\nThink step by step. End with the answer as a number."
            alone = run(stretto, "run", "-m", SMOL, "--chat", "-p", prompt, "-n", "24", "--temp", "0")
            assert line["written"].strip() == alone.strip(), (line["written"], alone)
        numbers = re.findall(r"\d+(?:,\d+)*(?:\.\d+)?", line["written"])
        want = bool(numbers) and float(numbers[-1].replace(",", "")) == float(q["answer"].split()[-1])
        assert line["right"] == want, line
        right += want
    assert got["right"] == right
    both = json.loads(run(stretto, "eval", "gsm8k", "-m", SMOL, "--base", SMOL, "-f", path, "-n", "8", "--json",
                          "--tasks", "3"))
    assert both["flips"] == 0 and both["tasks"] == 3 and both["mcnemar_p"] == 1
    tables = os.path.join(tmp, "tables.json")
    with open(tables, "w") as f:
        json.dump([{"db_id": "d", "table_names_original": ["t"], "column_names_original": [[-1, "*"], [0, "a"]]}], f)
    write(path, [{"db_id": "d", "question": "How many rows?", "query": "SELECT count(*) FROM t"}])
    got = json.loads(run(stretto, "eval", "spider", "-m", SMOL, "-f", path, "--tables", tables, "-n", "16", "--json",
                         "--output", out, "--force"))
    said = lines(out)[0]
    assert got["tasks"] == 1 and "predicted" in said and 0 < said["tokens"] <= 16, said
    with open(tables) as f:
        assert said["asked"] == learn_sql.asked(json.load(f)[0], "How many rows?"), said
    with open(tables, "w") as f:                    # what SmolLM2 writes to this is no UTF-8 (seen without repair)
        names = ["ACCOUNTS", "SAVINGS", "CHECKING"]
        json.dump([{"db_id": "bank", "table_names_original": names, "column_names_original": [
            [-1, "*"], [0, "custid"], [0, "name"], [1, "custid"], [1, "balance"], [2, "custid"], [2, "balance"]]}], f)
    write(path, [{"db_id": "bank", "question": "What are the names of all the customers in alphabetical order?",
                  "query": "SELECT name FROM accounts ORDER BY name"}])
    run(stretto, "eval", "spider", "-m", SMOL, "-f", path, "--tables", tables, "-n", "96", "--json", "--output", out,
        "--force")
    assert lines(out)[0]["predicted"] and lines(out)[0]["written"], lines(out)
    assert "--tables" in run(stretto, "eval", "spider", "-m", SMOL, "-f", path, fails=2)
    write(path, [{"db_id": "e", "question": "How many?", "query": "SELECT 1"}])
    assert "does not describe" in run(stretto, "eval", "spider", "-m", SMOL, "-f", path, "--tables", tables, fails=1)
    write(path, [{"question": "How many?"}])
    assert "answer" in run(stretto, "eval", "gsm8k", "-m", SMOL, "-f", path, fails=1)


def check_execution(tmp):
    folder = os.path.join(tmp, "database", "d")
    os.makedirs(folder)
    db = sqlite3.connect(os.path.join(folder, "d.sqlite"))
    db.executescript("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'y');")
    db.commit()
    db.close()
    cases = (("SELECT a FROM t", "select a from t where a > 0", True),
             ("SELECT a, b FROM t", "SELECT b, a FROM t", True),
             ("SELECT a FROM t WHERE a > 2", "SELECT a FROM t WHERE a < 0", None),
             ("SELECT 1, 2 UNION SELECT 2, 1", "SELECT 1, 1 UNION SELECT 2, 2", False),
             ("SELECT count(*) FROM t", "SELECT count(*) FROM t WHERE YEAR(CURDATE()) > 0", True),
             ("SELECT a FROM t", "SELECT DISTINCT a FROM t", False),
             ("SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC", True),
             ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", False),
             ("SELECT b FROM t", "SELECT nonsense FROM t", False), ("SELECT none FROM t", "SELECT 1", None),
             ("SELECT count(*) FROM t", "DROP TABLE t", False),
             ("SELECT 1", "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT count(*) FROM r", False))
    path, other = os.path.join(tmp, "p.jsonl"), os.path.join(tmp, "o.jsonl")
    write(path, [{"db_id": "d", "query": q, "predicted": p} for q, p, _ in cases])
    write(other, [{"db_id": "d", "query": q, "predicted": q} for q, _, _ in cases])
    said = run(sys.executable, os.path.join(bench, "spider.py"), path, os.path.join(tmp, "database"), other)
    assert "p.jsonl: 4 of 10" in said and "o.jsonl: 10 of 10" in said, said
    assert "first alone 0, in the second alone 6" in said, said
    for (right, predicted, want), got in zip(cases, spider.Suite({"d": os.path.join(folder, "d.sqlite")}).judge_all(
            [("d", q, p) for q, p, _ in cases])):
        assert got == want, (right, predicted, got)
    write(path, [{"db_id": "d", "query": "SELECT max(a) FROM t", "predicted": "SELECT 2"}])
    alone = run(sys.executable, os.path.join(bench, "spider.py"), path, os.path.join(tmp, "database"))
    copies = run(sys.executable, os.path.join(bench, "spider.py"), path, os.path.join(tmp, "database"), "--copies", "9")
    assert "1 of 1" in alone and "0 of 1" in copies, (alone, copies)
    check_figures()


def check_figures():
    """Against numbers of textbooks: McNemar's exact test of 5 and 15; Wald's interval of paired shares."""
    before, after = [1] * 5 + [0] * 15 + [1] * 40 + [0] * 40, [0] * 5 + [1] * 15 + [1] * 40 + [0] * 40
    r = spider.paired(before, after, [i % 10 for i in range(100)])
    assert abs(r["mcnemar_p"] - 0.0413895) < 1e-6 and abs(r["difference"] - 0.1) < 1e-12, r
    assert abs(r["interval"][1] - 0.1 - 1.959964 * 0.0435890) < 1e-5, r
    low, high = r["interval_by_database"]
    assert low < 0.1 < high and (low, high) == tuple(spider.by_groups([y - x for x, y in zip(before, after)],
                                                                       [i % 10 for i in range(100)]))
    one = spider.by_groups([1] * 50 + [0] * 50, [0] * 50 + [1] * 50)
    assert one == (0, 1), one                              # two groups that disagree say nothing


with tempfile.TemporaryDirectory() as folder_:
    check_execution(folder_)
    check_answers(folder_)
