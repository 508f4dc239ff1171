#!/usr/bin/env python3
"""`stretto eval hellaswag|piqa|mmlu` beside numpy over the rows of `eval logits`, and beside llama-perplexity where
`./dev peers --get` built it: the same tasks, the same answers.

    test_tasks.py STRETTO GOLDEN_FOLDER MODELS_FOLDER DATA_FOLDER PEERS_FOLDER [--peer]"""
import csv
import json
import math
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

stretto, golden, models, data, peers = sys.argv[1:6]
LLAMA = os.path.join(golden, "llama", "model.gguf")
SMOL = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
PEER = os.path.join(peers, "bin", "llama-perplexity")
if not os.path.isfile(PEER):
    PEER = os.path.join(peers, "llama.cpp", "bin", "llama-perplexity")
if not os.path.isfile(LLAMA):
    print(f"skip: there is no {LLAMA}")
    sys.exit(77)


def run(*args, fails=0, **kw):
    r = subprocess.run([stretto, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, **kw)
    assert r.returncode == fails, (args, r.returncode, r.stderr.decode(errors="replace"))
    return r.stderr.decode() if fails else r.stdout


def ids_of(text):
    return json.loads(run("tokenize", "-m", LLAMA, "--json", "--add-special", "--no-special", input=text.encode()))


def scores_of(question, choices, tmp):
    """The mean log probability of each answer's tokens behind what all begin with."""
    texts, raw, out = [ids_of(question + " " + c) for c in choices], os.path.join(tmp, "raw"), []
    common = 0
    while common < min(map(len, texts)) - 1 and len({t[common] for t in texts}) == 1:
        common += 1
    for ids in texts:
        run("eval", "logits", "-m", LLAMA, "--ids", ",".join(map(str, ids)), "--raw", raw, "--force")
        x = np.fromfile(raw, np.float32).reshape(len(ids), -1).astype(np.float64)
        x -= x.max(1, keepdims=True)
        x -= np.log(np.exp(x).sum(1, keepdims=True))
        out.append(np.mean([x[i - 1][ids[i]] for i in range(common, len(ids))]))
    return out


def answers(what, path, tmp, *args, model=LLAMA):
    out = os.path.join(tmp, "answers.jsonl")
    got = json.loads(run("eval", what, "-m", model, "-f", path, "--json", "--output", out, "--force", *args))
    with open(out, encoding="utf-8") as f:
        return got, [json.loads(line) for line in f]


def words(rng, n):
    return " ".join(rng.choice(("ab", "ba", "c a", "bb", "d")) for _ in range(n))


def check_scores(tmp):
    rng = random.Random(3)
    tasks = [(words(rng, rng.randint(1, 20)), [words(rng, rng.randint(1, 9)) for _ in range(4)], rng.randint(0, 3))
             for _ in range(12)]
    path = {k: os.path.join(tmp, k) for k in ("hellaswag", "piqa", "mmlu")}
    with open(path["hellaswag"], "w") as f:
        for q, c, right in tasks:
            f.write("\n".join([q, str(right), *c]) + "\n")
    with open(path["piqa"], "w") as f:
        for q, c, right in tasks:
            f.write(json.dumps({"goal": q, "sol1": c[0], "sol2": c[1], "label": right % 2}) + "\n")
    with open(path["mmlu"], "w", newline="") as f:
        w = csv.writer(f, quoting=csv.QUOTE_ALL)
        w.writerow(["question", "A", "B", "C", "D", "answer"])
        for q, c, right in tasks:
            w.writerow([q, *c, "ABCD"[right] if right else right])
    os.mkdir(os.path.join(tmp, "folder"))
    os.rename(path["mmlu"], os.path.join(tmp, "folder", "a.csv"))
    path["mmlu"] = os.path.join(tmp, "folder")
    wanted = {"hellaswag": tasks, "piqa": [(f"Question: {q}\nAnswer:", c[:2], r % 2) for q, c, r in tasks],
              "mmlu": [(f"Question: {q}\nAnswer:", c, r) for q, c, r in tasks]}
    for what, want in wanted.items():
        got, lines = answers(what, path[what], tmp)
        assert got["tasks"] == len(want) == len(lines)
        right = 0
        for (q, c, r), line in zip(want, lines):
            scores = scores_of(q, c, tmp)
            assert line["question"] == q and line["right"] == r
            assert np.allclose(line["scores"], scores, rtol=0, atol=2e-5), (what, line, scores)
            assert line["chosen"] == int(np.argmax(line["scores"]))
            right += line["chosen"] == r
        assert got["right"] == right and abs(got["accuracy"] - right / len(want)) < 1e-9
        z, n, p = 1.95996398454, len(want), right / len(want)
        middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
        assert abs(got["low"] - (middle - half) / (1 + z * z / n)) < 1e-9
        assert abs(got["high"] - (middle + half) / (1 + z * z / n)) < 1e-9
    _, lines = answers("mmlu", path["mmlu"], tmp, "--letters")
    q, c, _ = tasks[0]
    asked = q + "".join(f"\n{x}. {t}" for x, t in zip("ABCD", c)) + "\nAnswer:"
    assert lines[0]["question"] == asked and np.allclose(lines[0]["scores"], scores_of(asked, "ABCD", tmp), atol=2e-5)
    check_base(path["hellaswag"], tmp)


def check_base(path, tmp):
    other = os.path.join(tmp, "q4.gguf")
    run("convert", "-q", "--type", "q4_0", LLAMA, other)
    got, own = answers("hellaswag", path, tmp, "--base", LLAMA, model=other)
    its = answers("hellaswag", path, tmp)[1]
    lost = sum(b["chosen"] == b["right"] != a["chosen"] for a, b in zip(own, its))
    won = sum(a["chosen"] == a["right"] != b["chosen"] for a, b in zip(own, its))
    assert (got["right_to_wrong"], got["wrong_to_right"]) == (lost, won)
    assert got["flips"] == sum(a["chosen"] != b["chosen"] for a, b in zip(own, its))
    n, k = lost + won, min(lost, won)
    p = min(1, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert abs(got["mcnemar_p"] - p) < 1e-9, (got, p)


def check_refusals(tmp):
    path = os.path.join(tmp, "bad")
    for what, text, said in (("hellaswag", "a\n0\nb\nc\nd\n", "six lines"),
                             ("hellaswag", "a\n7\nb\nc\nd\ne\n", "0 to 3"),
                             ("hellaswag", "a\n0\n\nc\nd\ne\n", "empty"), ("hellaswag", "", "no tasks"),
                             ("piqa", "{}\n", "label"), ("piqa", '{"goal":"a","sol1":"b","label":0}\n', "empty"),
                             ("piqa", "\n[\n", "line 2"), ("mmlu", "a,b,c,d,e\n", "six fields"),
                             ("mmlu", '"a,b,c,d,e,0\n', "quote"), ("mmlu", "q,A,B,C,D,answer\na,b,c,d,e,9\n", "line 2"),
                             ("mmlu", "question,A,B,C,D,answer\n", "no tasks")):
        with open(path, "w") as f:
            f.write(text)
        err = run("eval", what, "-m", LLAMA, "-f", path, fails=1)
        assert said in err, (what, text, err)
    assert "csv" in run("eval", "mmlu", "-m", LLAMA, "-f", golden, fails=1)
    assert "tasks are missing" in run("eval", "piqa", "-m", LLAMA, fails=2)


def same_choices(said, lines, what):
    """The peer prints the share that is right after each task: so which were. Where scores are near, its other
    arithmetic may choose otherwise."""
    right = [round(float(share) / 100 * (i + 1)) for i, share in enumerate(said)]
    assert len(right) == len(lines), (what, len(right), len(lines))
    differ = 0
    for i, line in enumerate(lines):
        its = right[i] - (right[i - 1] if i else 0) == 1
        best = sorted(line["scores"])
        differ += its != (line["chosen"] == line["right"])
        assert its == (line["chosen"] == line["right"]) or best[-1] - best[-2] < 0.03, (what, i, line)
    assert differ <= 1 + len(lines) // 20, (what, differ)


def peer(*args):
    env = dict(os.environ, OMP_WAIT_POLICY="passive")
    r = subprocess.run([PEER, "-m", SMOL, "-t", "2", *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env,
                       timeout=1200)
    assert r.returncode == 0, (args, r.returncode)
    return re.findall(r"^\d+\t([0-9.]+)", r.stdout.decode(), re.M)


def check_peer(tmp):
    swag, piqa = (os.path.join(data, "eval", x) for x in ("hellaswag_val_dev.txt", "piqa_valid_dev.jsonl"))
    for path in (PEER, SMOL, swag, piqa):
        if not os.path.isfile(path):
            print(f"skip: there is no {path}")
            sys.exit(77)
    _, lines = answers("hellaswag", swag, tmp, "--tasks", "32", model=SMOL)
    same_choices(peer("-f", swag, "--hellaswag", "--hellaswag-tasks", "32"), lines, "hellaswag")
    few = os.path.join(tmp, "piqa.jsonl")
    with open(piqa, encoding="utf-8") as f, open(few, "w", encoding="utf-8") as g:
        g.writelines([next(f) for _ in range(32)])
    _, lines = answers("piqa", few, tmp, model=SMOL)
    with open(few, encoding="utf-8") as f:
        tasks = [json.loads(line) for line in f]
    blob, at = b"", []
    for t in tasks:
        at.append(4 + 4 * len(tasks) + len(blob))
        for text in (f"Question: {t['goal']}\nAnswer:", 2, t["sol1"], t["sol2"]):
            blob += struct.pack("<I", text if isinstance(text, int) else len(text.encode()))
            blob += b"" if isinstance(text, int) else text.encode()
        blob += struct.pack("<iiI", t["label"] == 0, t["label"] == 1, 0)
    binary = os.path.join(tmp, "piqa.bin")
    with open(binary, "wb") as f:
        f.write(struct.pack(f"<I{len(at)}I", len(at), *at) + blob)
    same_choices(peer("-bf", binary, "--multiple-choice"), lines, "piqa")


with tempfile.TemporaryDirectory() as folder:
    if sys.argv[6:] == ["--peer"]:
        check_peer(folder)
    else:
        check_scores(folder)
        check_refusals(folder)
