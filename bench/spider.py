#!/usr/bin/env python3
"""Execution match of Spider (arXiv 1809.08887): runs what a model predicted and what is right on the databases and
compares the rows.

    stretto eval spider -m MODEL -f spider_dev.jsonl --tables spider_tables.json --output PREDICTED.jsonl
    bench/spider.py PREDICTED.jsonl DATABASES [OTHER.jsonl]

DATABASES: a folder, or a .tar of one, of NAME.sqlite files. Rows are compared as a multiset, and in order where the
right statement has ORDER BY. Questions whose right statement does not run are left out. With OTHER, another model's
predictions of the same questions: both shares, and McNemar's exact test."""
import collections
import json
import math
import os
import sqlite3
import sys
import tarfile
import tempfile

STEPS = 20_000_000          # of SQLite's machine; then a statement has run too long


def rows(path, statement):
    """What a statement returns; None where it does not run."""
    left = [STEPS // 1000]

    def count():
        left[0] -= 1
        return left[0] <= 0

    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.text_factory = lambda b: b.decode(errors="replace")
    db.set_progress_handler(count, 1000)
    try:
        return db.execute(statement).fetchmany(100_000)
    except (sqlite3.Error, sqlite3.Warning):
        return None
    finally:
        db.close()


def key(row):
    return tuple(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row)


def same(right, predicted, ordered):
    if predicted is None or len(right) != len(predicted):
        return False
    a, b = [key(r) for r in right], [key(r) for r in predicted]
    return a == b if ordered else collections.Counter(a) == collections.Counter(b)


def databases(place, tmp):
    if not os.path.isdir(place):
        with tarfile.open(place) as t:
            t.extractall(tmp, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(tmp)
        place = tmp
    return {os.path.splitext(f)[0]: os.path.join(d, f) for d, _, files in os.walk(place) for f in files
            if f.endswith((".sqlite", ".db"))}


def judged(path, dbs):
    out = []
    with open(path, encoding="utf-8") as f:
        for line in map(json.loads, filter(str.strip, f)):
            right = rows(dbs[line["db_id"]], line["query"]) if line["db_id"] in dbs else None
            out.append(None if right is None else
                       same(right, rows(dbs[line["db_id"]], line["predicted"]), "order by" in line["query"].lower()))
    return out


def interval(right, n, z=1.95996398454):
    p = right / n
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def say(name, right, n):
    low, high = interval(right, n)
    print(f"{name}: {right} of {n}: {100 * right / n:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as tmp:
        dbs = databases(sys.argv[2], tmp)
        sets = [judged(p, dbs) for p in [sys.argv[1], *sys.argv[3:]]]
    if len({len(s) for s in sets}) != 1:
        sys.exit("spider: the files answer different questions")
    keep = [i for i, right in enumerate(sets[0]) if right is not None]
    if not keep:
        sys.exit("spider: none of the right statements runs; are these the databases?")
    for path, s in zip([sys.argv[1], *sys.argv[3:]], sets):
        say(os.path.basename(path), sum(s[i] for i in keep), len(keep))
    if len(sets) == 2:
        a, b = (sum(x[i] and not y[i] for i in keep) for x, y in (sets, sets[::-1]))
        p = min(1, 2 * sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b))
        print(f"right in the first alone {a}, in the second alone {b}; McNemar's test: p = {p:.3g}")


if __name__ == "__main__":
    main()
