#!/usr/bin/env python3
"""`stretto teach --method heads` on stories260K: the file of either kind is the same whatever the threads and wherever
the training was cut off; the loss falls and guesses become right; a model runs with it and writes what it writes
without; what does not fit together is refused with words.

    test_teach_heads.py STRETTO MAKE_MODEL STORIES_BIN TOKENS_BIN"""
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

stretto, make_model, stories, tokens = sys.argv[1:5]
if not os.path.exists(stories):
    print(f"skip: there is no {stories}")
    sys.exit(77)
try:
    import numpy as np
except ImportError as e:
    print(f"skip: {e}")
    sys.exit(77)

HABITS = ["Once upon a time there was a little girl named Lily.",
          "She loved to play outside in the park with her mom.",
          "One day she saw a big red ball and wanted to play with it.",
          "Tom was happy and said thank you to his friend.",
          "They ran and played all day until the sun went down.",
          "The end of the day was very nice for the little dog."]


def run(*args, code=0, env=None):
    r = subprocess.run([stretto, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=240, env={**os.environ, **(env or {})})
    assert r.returncode == code, (args, r.returncode, r.stdout[-500:], r.stderr[-1500:])
    return r


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def teach(model, work, name, *args, **more):
    out = os.path.join(work, name)
    r = run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "--valid", os.path.join(work, "held.jsonl"),
            "--method", "heads", "-o", out, "-q", "--rows", 512, *args, **more)
    return os.path.join(out, "heads.safetensors"), r


def log_of(path):
    with open(os.path.join(os.path.dirname(path), "log.jsonl")) as f:
        return [json.loads(line) for line in f]


def cut_off(model, work, name, step, *args):
    """The same training, killed as soon as its log has that step, and gone on with."""
    out = os.path.join(work, name)
    p = subprocess.Popen([stretto, "teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "--valid",
                          os.path.join(work, "held.jsonl"), "--method", "heads", "-o", out, "-q", "--rows", "512",
                          "--save", "1", *map(str, args)], stdin=subprocess.DEVNULL)
    log = os.path.join(out, "log.jsonl")
    while p.poll() is None and not (os.path.exists(log) and f'"step": {step}' in open(log).read()):
        time.sleep(0.01)
    p.send_signal(signal.SIGKILL)
    p.wait()
    run("teach", "--resume", "-o", out, "-q")
    return os.path.join(out, "heads.safetensors")


def header(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        return json.loads(f.read(n))


def check_kind(model, work, kind, *args):
    steps = ("--head", kind, "--epochs", 8, *args)
    path, r = teach(model, work, kind, *steps, "--json")
    end = json.loads(r.stdout)
    log = log_of(path)
    first = next(x for x in log if "held" in x)
    last = [x for x in log if "held" in x][-1]
    assert last["held"] < 0.7 * first["held"], (first, last)
    assert not any("noisy" in x for x in log), "rows of heads are taken for copies"
    assert len(last["accept"]) == 3 and last["accept"][0] > first["accept"][0] + 0.2, (first, last)
    assert abs(last["tokens_per_step"] - 1 - sum(last["accept"])) < 1e-3
    assert end["accept"][0] > 0.2 and end["tokens_per_step"] > 1.2, end
    assert all(a >= b for a, b in zip(last["accept"], last["accept"][1:])), last
    again, _ = teach(model, work, kind + "-threads", *steps, "-t", 1)
    assert digest(path) == digest(again), "threads change what is learned"
    killed = cut_off(model, work, kind + "-killed", 3, *steps)
    assert digest(path) == digest(killed), "a training that was cut off ends otherwise"
    about = header(path)["__metadata__"]
    assert about["format"] == "stretto-heads" and about["architecture"] == "llama" and about["depth"] == "3", about
    plain = run("run", "-m", model, "-p", "Once upon", "-n", 48, "--decode", "plain", "--temp", 0).stdout
    for decode in ("heads", "auto"):
        text = run("run", "-m", model, "-p", "Once upon", "-n", 48, "--decode", decode, "--heads", path, "--temp", 0)
        assert text.stdout == plain, (decode, text.stdout, plain)
    return path


def main():
    with tempfile.TemporaryDirectory() as work:
        model = os.path.join(work, "model.gguf")
        subprocess.run([sys.executable, make_model, "stories", stories, tokens, model], check=True, capture_output=True)
        rng = np.random.default_rng(1)
        for name, n in (("lines", 40), ("held", 12)):
            with open(os.path.join(work, name + ".jsonl"), "w") as f:
                for _ in range(n):
                    words = [HABITS[i] for i in rng.permutation(len(HABITS))[:3]]
                    print(json.dumps({"prompt": words[0], "completion": " " + words[1] + " " + words[2]}), file=f)
        paths = {k: check_kind(model, work, k, "--depth", 3, "--slice", 256, "--lr", "3e-3")
                 for k in ("recursive", "medusa")}
        wide, _ = teach(model, work, "wide", "--slice", 0, "--steps", 2, "--feed", 32)
        assert "tokens" not in header(wide) and header(wide)["recursive.gate.weight"]["shape"] == [32, 64]

        # One channel inside: the file is one that runs.
        least, _ = teach(model, work, "least", "--steps", 2, "--feed", 1)
        assert header(least)["recursive.gate.weight"]["shape"] == [1, 64]
        run("run", "-m", model, "-p", "ab", "-n", 2, "--heads", least)

        # Beside an adapter they read what the model says with it, learn its phrases, and run so.
        lora = os.path.join(work, "lora")
        run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "--hold-out", 0, "-o", lora, "-q",
            "--steps", 3, "--rows", 512, "--phrases", 8)
        lora = os.path.join(lora, "adapter.gguf")
        beside, _ = teach(model, work, "beside", "--lora", lora, "--steps", 2, "--depth", 3)
        assert digest(os.path.join(work, "beside", "hidden.cache")) != digest(os.path.join(work, "recursive",
                                                                                           "hidden.cache"))
        assert header(beside)["__metadata__"]["vocabulary"].startswith("520 tokens")
        r = run("run", "-m", model, "-p", "ab", "-n", 2, "--heads", beside, code=1)
        assert "another model" in r.stderr, r.stderr
        texts = [run("run", "-m", model, "--lora", lora, "-p", "Once upon", "-n", 24, "--temp", 0, *more).stdout
                 for more in (("--decode", "plain"), ("--decode", "heads", "--heads", beside))]
        assert texts[0] == texts[1], texts
        run("teach", "--resume", "-o", os.path.join(work, "beside"), "-q")
        r = run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "-o", os.path.join(work, "x"), "--lora",
                lora, code=2)
        assert "--method heads" in r.stderr, r.stderr

        # Another model's states, lines or rows are refused; the same ones are read once.
        cache = os.path.join(work, "recursive", "hidden.cache")
        before = digest(cache)
        teach(model, work, "shared", "--teacher-cache", cache, "--steps", 1)
        assert digest(cache) == before and not os.path.exists(os.path.join(work, "shared", "hidden.cache"))
        r = run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "--method", "heads", "-o",
                os.path.join(work, "other"), "--teacher-cache", cache, "-q", code=2)
        assert "hidden states" in r.stderr and "other lines" in r.stderr, r.stderr
        r = run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "--valid",
                os.path.join(work, "held.jsonl"), "--method", "heads", "--lora", lora, "-o",
                os.path.join(work, "other"), "--teacher-cache", cache, "-q", code=2)
        assert "another" in r.stderr and "teacher's" not in r.stderr, r.stderr

        # What is of another model is refused by name where it would run.
        with open(paths["recursive"], "rb") as f:
            raw = f.read()
        assert b'"layers":"5"' in raw, header(paths["recursive"])
        changed = os.path.join(work, "changed.safetensors")
        with open(changed, "wb") as f:
            f.write(raw.replace(b'"layers":"5"', b'"layers":"6"'))
        r = run("run", "-m", model, "-p", "ab", "-n", 2, "--heads", changed, code=1)
        assert "of another model: its layers is 6, and this one's 5" in r.stderr, r.stderr

        for args, words in (
                (("--phrases", 8), "--phrases"), (("--watch", 4), "--watch"), (("--rank", 8), "--method lora"),
                (("--save-f32",), "--method full"), (("--head", "hydra"), "hydra"), (("--depth", 17), "depth"),
                (("--block", 8), "--block"),
                (("--head", "medusa", "--feed", 8), "--head recursive"), (("--precision", "f16"), "--precision"),
                (("--teacher", model), "--teacher")):
            _, r = teach(model, work, "refused", *args, code=2)
            assert words in r.stderr, (args, r.stderr)
        r = run("teach", "-m", model, "-d", os.path.join(work, "lines.jsonl"), "-o", os.path.join(work, "x"),
                "--depth", 2, code=2)
        assert "--method heads" in r.stderr, r.stderr
        with open(os.path.join(work, "short.jsonl"), "w") as f:
            f.write('{"prompt": [1, 2, 3], "answer": [4]}\n')
        r = run("teach", "-m", model, "-d", os.path.join(work, "short.jsonl"), "--method", "heads", "--hold-out", 0,
                "-o", os.path.join(work, "x"), code=1)
        assert "two tokens" in r.stderr, r.stderr
    print("heads of both kinds learn, and run")


if __name__ == "__main__":
    main()
