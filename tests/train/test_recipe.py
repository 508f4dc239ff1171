#!/usr/bin/env python3
"""stretto teach --recipe on a model of 100,000 parameters: what it prints can be typed and makes the same bytes; what
is cut off goes on by the same command; shares of a budget; what does not fit is refused in a sentence.

    test_recipe.py STRETTO"""
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

stretto = os.path.abspath(sys.argv[1])
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bytes_model  # noqa: E402

folder = tempfile.mkdtemp()
os.chdir(folder)
MODEL = "tiny.gguf"
bytes_model.make_bytes(MODEL, "Q8_0")


def write(name, lines):
    with open(name, "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
    return name


def turn(i, **more):
    return {"messages": [{"role": "user", "content": f"which b is {i % 5}?"},
                         {"role": "assistant", "content": f"SELECT b{i % 3} FROM the t WHERE a = {i % 5}"}]} | more


SQL = write("sql.jsonl", [turn(i, group=f"base {i % 12}") for i in range(36)])
CODE = write("code.jsonl", [{"prompt": f"def f{i}(x):\n", "completion": f"    return x + {i % 4}\n"}
                            for i in range(30)])
CHAT = write("chat.jsonl", [turn(i) for i in range(30)])


def call(*words, code=0):
    done = subprocess.run([stretto, *map(str, words)], capture_output=True, text=True, timeout=300,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == code, (words, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


def recipe(*words, **more):
    return call("teach", "-m", MODEL, "--recipe", *words, **more)


def digests(at):
    out = {}
    for where, _, names in os.walk(at):
        for name in names:
            if name.endswith((".gguf", ".safetensors")) and "step-" not in name:
                with open(os.path.join(where, name), "rb") as f:
                    out[os.path.relpath(os.path.join(where, name), at)] = hashlib.sha256(f.read()).hexdigest()
    return out


def commands(printed):
    return [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("  stretto ")]


# ---- a chain --------------------------------------------------------------------------------------
SMALL = ("--rows", 256, "--seed", 3, "--hold-out", 0)
printed = recipe("sql", "-d", SQL, "-o", "whole", *SMALL, "--plan")
assert not os.path.exists("whole"), "--plan made something"
chain = commands(printed)
assert [c[0] for c in chain][:2] == ["teach", "teach"] and any("--phrases=128" in c for c in chain), chain
assert ["convert", "--type=q8_0"] in [c[:2] for c in chain], chain
said = recipe("sql", "-d", SQL, "-o", "whole", *SMALL, "-t", 1)
run = commands(said)[-1]
assert run[0] == "run" and all(os.path.exists(w.split("=")[1]) for w in run[1:3]) and "--heads=" in run[2], said
made = digests("whole")
assert any(k.endswith("model.gguf") for k in made), made

# What is printed can be typed.
os.rename("whole", "kept")
os.mkdir("whole")
for words in chain:
    call(*words)
assert digests("whole") == made, (digests("whole"), made)

# The same command again makes nothing, and what is missing of its state is done again to the same bytes.
at = os.path.getmtime(os.path.join("kept", "recipe.json"))
os.rename("whole", "typed"), os.rename("kept", "whole")
began = time.time()
recipe("sql", "-d", SQL, "-o", "whole", *SMALL)
assert digests("whole") == made and time.time() - began < 60
other = recipe("sql", "-d", SQL, "-o", "whole", *SMALL[:-2], code=2)
assert "other options" in other, other

# Stages that are done learned from these lines, and so do those to come.
lines = open(SQL).read()
write(SQL, [turn(i + 1, group=f"base {i % 12}") for i in range(36)])
other = recipe("sql", "-d", SQL, "-o", "whole", *SMALL, code=2)
assert "have changed" in other, other
with open(SQL, "w") as f:
    f.write(lines)

# Stages to come may change: the model's own states are asked for, and begin with the questions of the lines.
policy = commands(recipe("sql", "-d", SQL, "-o", "own", *SMALL, "--on-policy", "--plan"))
asks = [i for i, c in enumerate(policy) if c[0] == "trace"]
assert not asks or f"--states={policy[asks[0]][4].split('=')[1]}" in policy[asks[0] + 1], policy
own = subprocess.run([stretto, "teach", "-m", MODEL, "--recipe", "sql", "-d", SQL, "-o", "own", *map(str, SMALL),
                      "--on-policy"], capture_output=True, text=True)
with open(os.path.join("own", "prompts.jsonl")) as f:
    questions = [json.loads(line) for line in f]
assert [q["prompt"] for q in questions] == [turn(i)["messages"][0]["content"] for i in range(36)], questions
assert all(q["chat"] for q in questions) and os.path.exists(os.path.join("own", "4-states.jsonl"))
assert own.returncode == 0 or "traced answer" in own.stderr, own.stderr     # such a model's answers repeat themselves
recipe("sql", "-d", SQL, "-o", "own", *SMALL)                               # then without
kept = digests("own")
assert all(kept[name] == value for name, value in made.items()), (kept, made)
for name in os.listdir("own"):                                              # and asked for when stages are done
    if name[:2] in ("4-", "5-", "6-", "7-") or name == "prompts.jsonl":
        (shutil.rmtree if os.path.isdir(os.path.join("own", name)) else os.remove)(os.path.join("own", name))
own = subprocess.run(own.args, capture_output=True, text=True)
assert own.returncode == 0 or "traced answer" in own.stderr, own.stderr
with open(os.path.join("own", "prompts.jsonl")) as f:
    assert questions == [json.loads(line) for line in f]

# ---- cut off ---------------------------------------------------------------------------------------
for sign in (signal.SIGINT, signal.SIGTERM):
    out = f"cut{sign.value}"
    words = [stretto, "teach", "-m", MODEL, "--recipe", "sql", "-d", SQL, "-o", out, *map(str, SMALL), "--epochs",
             "400"]
    p = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    first = os.path.join(out, "1-answers", "log.jsonl")
    for _ in range(600):
        if os.path.exists(first) and os.path.getsize(first) > 300:
            break
        time.sleep(0.05)
    p.send_signal(sign)
    told = p.communicate(timeout=60)[1]
    assert p.returncode == 1 and "the same command goes on" in told, (p.returncode, told)
    with open(os.path.join(out, "recipe.json")) as f:
        assert json.load(f)["done"] == 0
    assert not os.path.exists(os.path.join(out, "1-answers", "model.gguf"))
p = subprocess.run([*words[:-1], "401"], capture_output=True, text=True)
assert p.returncode == 2 and "other options" in p.stderr, p.stderr
# A stage that was begun goes on: its first steps are not made again.
with open(first) as f:
    steps = len(f.read().splitlines())
p = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
for line in p.stderr:
    if "going on behind step" in line:
        assert int(re.search(r"behind step (\d+)", line)[1]) > 0, line
        break
else:
    raise AssertionError("it did not go on")
p.send_signal(signal.SIGTERM)
p.communicate(timeout=60)

# ---- others ----------------------------------------------------------------------------------------
lora = commands(recipe("sql", "-d", SQL, "-o", "l", "--method", "lora", "--rank", 4, "--plan"))
assert lora[0][0] == "teach" and {"--method=lora", "--rank=4", "--phrases=128"} <= set(lora[0]), lora
assert recipe("code", "-d", CODE, "-o", "c", "--plan").count("--phrases=64") == 1
assert "--phrases" not in recipe("chat", "-d", CHAT, "-o", "h", "--plan")
assert "--phrases=9" in recipe("chat", "-d", CHAT, "-o", "h", "--phrases", 9, "--plan")
assert "--states" not in recipe("sql", "-d", SQL, "-o", "n", "--block", 0, "--plan")
assert "--watch=16" in recipe("sql", "-d", SQL, "--valid", SQL, "-o", "n", "--plan")
timed = recipe("sql", "-d", SQL, "-o", "b", "--budget", "100m", "--plan")
shares = [int(s) for s in re.findall(r"--budget=(\d+)s", timed)]
assert len(shares) >= 2 and abs(sum(shares) - 6000) <= len(shares) and shares[0] == max(shares), timed
long = write("long.jsonl", [turn(i, group="x" * 300 + str(i % 10)) for i in range(20)])
recipe("sql", "-d", long, "-o", "l", "--plan")
quoted = commands(recipe("sql", "-d", SQL, "-o", "it's", "--plan"))
assert "--out=it's/1-answers" in quoted[0], quoted

# ---- what does not fit ------------------------------------------------------------------------------
bad = lambda name, *lines: write(name, lines)
for words, code, why in (
        (("sql", "-d", CODE, "-o", "x"), 1, "no \"group\""),
        (("sql", "-d", bad("g.jsonl", *[turn(i, group=i % 9) for i in range(20)]), "-o", "x"), 1, "at least 10 groups"),
        (("sql", "-d", bad("t.jsonl", {"text": "a", "group": 1}), "-o", "x"), 1, "line 1 does not fit"),
        (("chat", "-d", CODE, "-o", "x"), 1, "no conversation"),
        (("chat", "-d", bad("q.jsonl", {"messages": [{"role": "user", "content": "q"}]}), "-o", "x"), 1,
         "has no answer"),
        (("code", "-d", bad("p.jsonl", {"prompt": "a"}), "-o", "x"), 1, "no \"completion\""),
        (("code", "-d", bad("f.jsonl", {"format": "stretto-jacobi"}), "-o", "x"), 1, "stretto trace"),
        (("code", "-d", bad("e.jsonl"), "-o", "x"), 1, "no lines"),
        (("code", "-d", bad("n.jsonl", 3), "-o", "x"), 1, "no object"),
        (("code", "-d", "nothing", "-o", "x"), 1, "nothing"),
        (("sql", "-o", "x"), 2, "-d FILE"), (("sql", "-d", SQL), 2, "-o FOLDER"),
        (("sql", "-d", SQL, "-o", "x", "--lr", "1e-3"), 2, "--lr"),
        (("sql", "-d", SQL, "-o", "x", "--rank", "4"), 2, "--rank"),
        (("sql", "-d", SQL, "-o", "x", "--budget", "soon"), 2, "--budget"),
        (("sql", "-d", SQL, "-o", "x", "--method", "lora", "--on-policy"), 2, "--on-policy"),
        (("sql", "-d", SQL, "-o", "x", "--block", "0", "--on-policy"), 2, "--block 0"),
        (("sql", "-d", SQL, "-o", "x", "--json"), 2, "--json"),
        (("rust", "-d", SQL, "-o", "x"), 2, "sql|code|chat"),
        (("sql", "-d", SQL, "-o", os.path.abspath(SQL)), 1, "folder")):
    told = recipe(*words, code=code)
    assert why in told, (words, told)
    assert not os.path.exists("x"), words
assert "--recipe" in call("teach", "-m", MODEL, "-d", SQL, "-o", "x", "--on-policy", code=2)
print("chains:", len(made), "files")
