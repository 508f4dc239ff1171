#!/usr/bin/env python3
"""Words that the command line does not know are answered with the one that was meant.

    test_command.py STRETTO

The oracle for "nearest" is a plain search over every option and choice of the command's own rows with the
distance of the literature (optimal string alignment), written as its recursive definition."""
import functools
import json
import os
import re
import subprocess
import sys

stretto = sys.argv[1]


def call(*args):
    done = subprocess.run([stretto, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stderr


def distance(a, b):
    @functools.cache
    def d(i, j):
        if not i or not j:
            return i + j
        best = min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))
        if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            best = min(best, d(i - 2, j - 2) + 1)
        return best
    return d(len(a), len(b))


def plain(word):
    return word.lstrip("-").lower().replace("_", "-")


def meant(words, *args, code=2):
    """What is offered for args."""
    got, said = call(*args)
    assert got == code and words in said, (args, got, said)
    found = re.search(r"did you mean '([^']*)'\?", said)
    return found.group(1) if found else None


def main():
    for wrong, right in (("rnu", "run"), ("Run", "run"), ("chta", "chat"), ("tok", "tokenize"), ("modles", "models"),
                         ("hlep", "help"), ("xyzzy", None), ("q", None), ("", None)):
        assert meant("there is no command", wrong) == right, wrong
    for wrong, right in (("--thread", "--threads"), ("--top_k", "--top-k"), ("-temp", "--temp"), ("--TEMP", "--temp"),
                         ("--promt=x", "--prompt"), ("--hepl", "--help"), ("-N", "-n"), ("-zz", None),
                         ("--quite-another-thing", None)):
        assert meant("there is no option", "run", wrong) == right, wrong
    for wrong, right in (("q8", "q8_0"), ("F16", "f16"), ("bf61", "bf16"), ("q3_k_m", "q3_k")):
        assert meant("takes one of", "convert", "--type", wrong, "a", "b") == right, wrong
    for args, right in ((("eval", "pll"), "ppl"), (("trace", "jacoby"), "jacobi"), (("models", "lst"), "list"),
                        (("models", "remove"), None)):
        assert meant("take one of", *args) == right, args
    done = subprocess.run([stretto, "info", "--machine"], capture_output=True, text=True,
                          env=os.environ | {"STRETTO_CPU": "rif"})
    assert done.returncode == 2 and "did you mean 'ref'?" in done.stderr, done.stderr
    # What people who come from ollama and llama.cpp type.
    for word, said in (("show", "stretto info"), ("server", "stretto serve"), ("quantize", "stretto convert"),
                       ("-m", "stretto run"), ("ps", "stays loaded")):
        got, words = call(word)
        assert got == 2 and said in words, (word, words)
    for word in ("list", "ls", "rm", "models"):
        for args in (("help", word), (word, "--help")):
            done = subprocess.run([stretto, *args], capture_output=True, text=True, check=True)
            assert done.stdout.startswith("stretto models: "), args
    meant("there is no command", "help", "nonsense")
    # Every option with a letter changed, dropped or exchanged: what is offered is as near as any other.
    rows = json.loads(subprocess.run([stretto, "help", "--json"], check=True, capture_output=True).stdout)
    run = next(c for c in rows["commands"] if c["name"] == "run")
    flags = [f for g in run["groups"] for o in g["options"] for f in o["flags"].split()] + ["--help"]
    tried = 0
    for flag in flags:
        body = flag.lstrip("-")
        if len(body) < 6:
            continue
        for wrong in (body[:-1], body[:2] + body[3:], body[:2] + body[3] + body[2] + body[4:],
                      body[:3] + "q" + body[4:]):
            wrong = "--" + wrong
            if wrong in flags:
                continue
            offered = meant("there is no option", "run", wrong)
            near = min(distance(plain(wrong), plain(f)) for f in flags)
            assert offered and distance(plain(wrong), plain(offered)) == near, (wrong, offered, near)
            tried += 1
    print(f"{tried} mistyped options are answered with the nearest one")


main()
