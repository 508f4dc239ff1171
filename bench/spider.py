#!/usr/bin/env python3
"""Execution match of Spider (arXiv 1809.08887): runs what a model predicted and what is right on the databases and
compares the rows, as the official test suite does (arXiv 2010.02840).

    stretto eval spider -m MODEL -f spider_dev.jsonl --tables spider_tables.json --output PREDICTED.jsonl
    bench/spider.py PREDICTED.jsonl DATABASES [OTHER.jsonl] [--copies 5]

DATABASES: a folder, or a .tar of one, of NAME.sqlite files. Rows are a bag, and a list where the right statement has
ORDER BY; columns may stand in any order; DISTINCT counts. A statement reads, nothing else, and ends after so many
steps of SQLite's machine. Questions whose right statement does not run, or returns nothing, are left out: any
statement that returns nothing would be right. One database can be right by accident: with --copies a prediction must
be right on so many others too, of the same tables with rows lost, values moved between rows and replaced by those that
the right statements name. With OTHER, another model's predictions of the same questions: both shares, the difference
with its interval by questions and by databases (bootstrap), and McNemar's exact test."""
import argparse
import collections
import json
import math
import os
import random
import re
import sqlite3
import sys
import tarfile
import tempfile

STEPS = 20_000_000          # of SQLite's machine; then a statement has run too long
MOST_ROWS = 100_000
COPIED_ROWS = 2000          # of a table of a copy, at most
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}     # 33: recursive


# ---- running a statement -----------------------------------------------------------------------
def plain(statement):
    """What the official code changes of a statement: the year of today, and signs with a blank in them."""
    statement = re.sub(r"YEAR\s*\(\s*CURDATE\s*\(\s*\)\s*\)\s*", "2020", statement, flags=re.I)
    return statement.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")


def rows(path, statement):
    """What a statement returns; None where it does not run."""
    left = [STEPS // 1000]

    def count():
        left[0] -= 1
        return left[0] <= 0

    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.text_factory = lambda b: b.decode(errors="replace")
    db.set_progress_handler(count, 1000)
    db.set_authorizer(lambda what, *_: sqlite3.SQLITE_OK if what in READING else sqlite3.SQLITE_DENY)
    if hasattr(db, "setlimit"):
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)
    try:
        found = db.execute(plain(statement)).fetchmany(MOST_ROWS + 1)
        return found if len(found) <= MOST_ROWS else None
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
        return None
    finally:
        db.close()


def same(right, got, ordered):
    """Whether some order of the columns of `got` makes the same rows."""
    if got is None or len(right) != len(got):
        return False
    if not right:
        return True
    if len(right[0]) != len(got[0]):
        return False
    bag, column = list if ordered else collections.Counter, list(zip(*got))

    def place(chosen):
        n = len(chosen)
        if n == len(column):
            return True
        want = bag(r[:n + 1] for r in right)
        return any(bag(zip(*(column[i] for i in chosen), column[c])) == want and place(chosen + [c])
                   for c in range(len(column)) if c not in chosen)

    return place([])


# ---- databases, and copies of them -------------------------------------------------------------
def databases(place, tmp):
    """{name: path} of a folder, or of a .tar that is unpacked into tmp."""
    if not os.path.isdir(place):
        with tarfile.open(place) as t:
            t.extractall(tmp, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(tmp)
        place = tmp
    return {os.path.splitext(f)[0]: os.path.join(d, f) for d, _, files in os.walk(place) for f in files
            if f.endswith((".sqlite", ".db"))}


def literals(statements):
    """Numbers and texts that statements name."""
    found = []
    for s in statements:
        found += [a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", s)]
        found += [float(n) if "." in n else int(n) for n in re.findall(r"(?<![\w'\"])\d+(?:\.\d+)?(?![\w'\"])", s)]
    return found


def changed(value, named, draw):
    """Another value of the same kind: one that a right statement names, or one beside it."""
    if isinstance(value, (int, float)):
        pool = [n for n in named if isinstance(n, (int, float))]
        beside = [value + 1, value - 1, value * 2]
    else:
        pool, beside = [n.strip("%") for n in named if isinstance(n, str)], [value]
    return draw.choice(pool if pool and draw.random() < 0.5 else beside)


def copy_table(old, new, table, named, draw):
    name = '"' + table.replace('"', '""') + '"'
    about = old.execute(f"PRAGMA table_info({name})").fetchall()
    tied = {r[3].lower() for r in old.execute(f"PRAGMA foreign_key_list({name})")}
    all_rows = [r for r in old.execute(f"SELECT * FROM {name}").fetchall() if draw.random() < 0.8]
    draw.shuffle(all_rows)
    column = [list(c) for c in zip(*all_rows[:COPIED_ROWS])]
    for c, (_, title, _, _, _, key) in zip(column, about):
        if not key:
            draw.shuffle(c)
        if not key and title.lower() not in tied:
            c[:] = [changed(v, named, draw) if v is not None and draw.random() < 0.15 else v for v in c]
    places = ", ".join("?" * len(about))
    new.executemany(f"INSERT OR IGNORE INTO {name} VALUES ({places})", zip(*column))


def make_copy(path, out, statements, seed):
    """A database of the same tables with other rows in them; the same for the same seed."""
    draw, named = random.Random(seed), literals(statements)
    old, new = sqlite3.connect(f"file:{path}?mode=ro", uri=True), sqlite3.connect(out + ".part")
    for db in old, new:
        db.text_factory = lambda b: b.decode(errors="replace")
    made = old.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    made = [m for m in made if not m[0].startswith("sqlite_")]
    for _, sql in made:
        new.execute(sql)
    for table, _ in made:
        copy_table(old, new, table, named, draw)
    new.commit()
    new.close(), old.close()
    os.rename(out + ".part", out)


class Suite:
    """Databases, and n copies of each that is asked for, made once into a folder."""

    def __init__(self, paths, n=0, folder=None, statements=None):
        self.paths, self.n, self.folder, self.statements, self.right = paths, n, folder, statements or {}, {}

    def of(self, name):
        if name not in self.paths:
            return []
        out = [self.paths[name]]
        for i in range(self.n):
            path = os.path.join(self.folder, f"{name}.{i}.sqlite")
            if not os.path.exists(path):
                if os.path.exists(path + ".part"):
                    os.remove(path + ".part")
                make_copy(out[0], path, self.statements.get(name, []), f"{name}/{i}")
            out.append(path)
        return out

    def answer(self, name, query):
        """The rows of the right statement on each database; None: it cannot be judged."""
        if (name, query) not in self.right:
            found = [rows(p, query) for p in self.of(name)]
            self.right[name, query] = found if found and found[0] else None
        return self.right[name, query]

    def judge(self, name, query, predicted):
        """True or False; None where the right statement says nothing."""
        right = self.answer(name, query)
        if right is None:
            return None
        ordered = "order by" in query.lower()
        return all(want is None or same(want, rows(path, predicted), ordered)
                   for path, want in zip(self.of(name), right))

    def judge_all(self, asked):
        return [self.judge(*a) for a in asked]


def statements_of(lines):
    out = collections.defaultdict(list)
    for line in lines:
        out[line["db_id"]].append(line["query"])
    return out


# ---- what it comes to --------------------------------------------------------------------------
def wilson(right, n, z=1.95996398454):
    p = right / n
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def by_groups(values, groups, draws=4000, seed=1):
    """The 95 % interval of the mean of values, where groups of them, not they, are what was drawn."""
    sums = collections.defaultdict(lambda: [0.0, 0])
    for v, g in zip(values, groups):
        sums[g][0] += v
        sums[g][1] += 1
    parts, draw, means = [sums[g] for g in sorted(sums)], random.Random(seed), []
    for _ in range(draws):
        taken = draw.choices(parts, k=len(parts))
        means.append(sum(t[0] for t in taken) / sum(t[1] for t in taken))
    means.sort()
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def paired(before, after, groups):
    """Of the same questions: how many are right in one alone, McNemar's exact p, the difference and its intervals."""
    n = len(before)
    lost, won = (sum(x and not y for x, y in zip(*two)) for two in ((before, after), (after, before)))
    p = min(1, 2 * sum(math.comb(lost + won, k) for k in range(min(lost, won) + 1)) / 2 ** (lost + won))
    mean, half = (won - lost) / n, 1.95996398454 * math.sqrt(max(lost + won - (won - lost) ** 2 / n, 0)) / n
    return {"lost": lost, "won": won, "mcnemar_p": p, "difference": mean, "interval": [mean - half, mean + half],
            "interval_by_database": list(by_groups([y - x for x, y in zip(before, after)], groups))}


def read(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def percent(pair):
    return "{:.1f} to {:.1f}".format(*(100 * x for x in pair))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("predicted"), p.add_argument("databases"), p.add_argument("other", nargs="?")
    p.add_argument("--copies", type=int, default=0, help="of each database, on which predictions must be right too [0]")
    args = p.parse_args()
    files = [f for f in (args.predicted, args.other) if f]
    sets = [read(f) for f in files]
    if len({json.dumps([(x["db_id"], x["query"]) for x in s]) for s in sets}) != 1:
        sys.exit("spider: the files answer different questions")
    with tempfile.TemporaryDirectory() as tmp, tempfile.TemporaryDirectory() as copies:
        suite = Suite(databases(args.databases, tmp), args.copies, copies, statements_of(sets[0]))
        judged = [suite.judge_all((x["db_id"], x["query"], x["predicted"]) for x in s) for s in sets]
    keep = [i for i, right in enumerate(judged[0]) if right is not None]
    if not keep:
        sys.exit("spider: none of the right statements runs and returns rows; are these the databases?")
    groups = [sets[0][i]["db_id"] for i in keep]
    judged = [[s[i] for i in keep] for s in judged]
    for path, s in zip(files, judged):
        print(f"{os.path.basename(path)}: {sum(s)} of {len(s)}: {100 * sum(s) / len(s):.1f} % "
              f"(95 %: {percent(wilson(sum(s), len(s)))}; by databases {percent(by_groups(s, groups))})")
    if len(judged) == 2:
        r = paired(*judged, groups)
        print(f"right in the first alone {r['lost']}, in the second alone {r['won']}; McNemar's test: "
              f"p = {r['mcnemar_p']:.3g}; difference {100 * r['difference']:+.1f} points "
              f"(95 %: {percent(r['interval'])}; by databases {percent(r['interval_by_database'])})")


if __name__ == "__main__":
    main()
