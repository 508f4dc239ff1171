"""Adapters that only guess, from a model's own answers to its decoding: test_gated.py STRETTO MAKE_MODEL WEIGHTS TOKENS

A model of 260,000 parameters answers, `teach --gated` learns to guess these answers, and the model with the adapter
writes them as before: to the token by every way of decoding, in fewer steps with `gated` and, where rows are cheap
(--costs), with `auto`. What does not fit says why."""
import json
import os
import subprocess
import sys
import tempfile

stretto, make_model, weights, tokens = sys.argv[1:5]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
holder = tempfile.TemporaryDirectory()
at = lambda *names: os.path.join(holder.name, *names)
MODEL, ASKED, TRACE = at("stories.gguf"), at("asked.jsonl"), at("trace.jsonl")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, MODEL], check=True, capture_output=True)


def call(command, *args, code=0):
    done = subprocess.run([stretto, command, *map(str, args)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, (command, args, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


def answers():
    names = ["Lily", "Tom", "Mia", "Ben", "Sue", "Max", "Ann", "Tim"]
    with open(ASKED, "w") as f:
        for i, (name, thing) in enumerate((n, t) for n in names for t in ("dog", "ball")):
            f.write(json.dumps({"id": str(i), "set": "s", "chat": False,
                                "prompt": f"Once upon a time, there was a {thing}. {name}"}) + "\n")
    call("trace", "jacobi", "-m", MODEL, "--prompts", ASKED, "--states", 1, "-n", 40, "-t", 1, "-o", TRACE)


def learn():
    call("teach", "-m", MODEL, "-d", TRACE, "--valid", TRACE, "--gated", "--rank", 16, "--lr", "5e-3", "--rows", 512,
         "--epochs", 24, "--watch", 4, "--measure", 1000, "-t", 1, "-q", "-o", at("gated"))
    with open(at("gated", "run.json")) as f:
        asked = json.load(f)["options"]
    assert (asked["rows-of"], asked["block"], asked["loss"]) == ("guesses", 8, "kl"), asked
    with open(at("gated", "log.jsonl")) as f:
        watched = [line for line in map(json.loads, f) if "per_step" in line]
    with open(at("gated", "adapter.gguf"), "rb") as f:
        assert b"stretto.adapter.rows" in f.read(4096)
    assert not os.path.exists(at("gated", "peft"))
    first, last = watched[0], watched[-1]
    print(f"{first['per_step']:.2f} -> {last['per_step']:.2f} tokens a step, answers as before: {last['agreement']}")
    assert last["agreement"] == 1 and last["per_step"] > first["per_step"] + 0.3


def decodes():
    """The same texts, which bench compares; rows cost next to nothing."""
    steps = {}
    for with_it in (False, True):
        more = ["--lora", at("gated", "adapter.gguf")] if with_it else []
        said = json.loads(call("bench", "-m", MODEL, "--decode", "gated,auto" if with_it else "jacobi,auto",
                               "--prompts", ASKED, "--limit", 8, "--pairs", 1, "-n", 40, "-t", 1,
                               "--costs", "1,1.05,1.1,1.15,1.2,1.3", "-o", "json", *more))
        for word in said["prompts"][0]["strategies"]:
            each = [p["strategies"][word] for p in said["prompts"]]
            assert all(r["same"] for r in each), (word, with_it)
            steps[with_it, word] = sum(r["tokens"] for r in each) / sum(r["steps"] for r in each)
    print({(word, "with" if w else "without"): round(x, 2) for (w, word), x in steps.items()})
    assert steps[True, "gated"] > steps[False, "jacobi"] + 0.2
    assert steps[True, "auto"] > steps[False, "auto"] + 0.05


def refused():
    lines = ["-m", MODEL, "-d", TRACE, "-o", at("x")]
    # An option that is usual with --gated, and was another one, needs no second naming.
    call("teach", *lines[:4], "--gated", "--loss", "ce", "--steps", 1, "-q", "-o", at("ce"))
    call("teach", "--gated", "--resume", "-q", "-o", at("ce"))
    for args, words in ((["--gated", "--rows-of", "answers"], "another one"),
                        (["--gated", "--method", "full"], "--method lora"),
                        (["--rows-of", "guesses"], "--block 8")):
        said = call("teach", *lines, *args, code=2)
        assert words in said, (args, said)


answers()
learn()
decodes()
refused()
