#!/usr/bin/env python3
"""The texts that are compiled in: no thirteen words in a row stand in what is learned from and in what is measured
on, and both are plain UTF-8 that a stranger could read."""
import json, pathlib, sys

data = pathlib.Path(__file__).resolve().parent.parent.parent / "data"


def texts(folder):
    for path in sorted((data / folder).glob("*.*")):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            for line in text.splitlines():
                for m in json.loads(line)["messages"]:
                    assert m["role"] in ("user", "assistant") and m["content"].strip(), (path, line)
                    yield path.name, m["content"]
        elif path.suffix == ".txt":
            yield path.name, text


def grams(text):
    words = text.lower().split()
    return {tuple(words[i:i + 13]) for i in range(len(words) - 12)}


learned = {}
for name, text in texts("calibration"):
    for g in grams(text): learned[g] = name
assert len(learned) > 10000, "too little is left to learn from"
leaks = [(name, learned[g], " ".join(g)) for folder in ("heldout", "tasks")
         for name, text in texts(folder) for g in grams(text) if g in learned]
for leak in leaks[:10]: print("FAIL %s shares with %s: %s" % leak)

# The check itself notices a leak.
some = next(iter(learned))
assert some in grams("planted " + " ".join(some) + " fault")
sys.exit(1 if leaks else 0)
