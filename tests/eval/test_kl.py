#!/usr/bin/env python3
"""`stretto eval kl` beside numpy over the rows that `eval logits` writes: every figure, errors and pairs included,
of several texts and models; conversations beside jinja and the tokenizer's own ids.

    test_kl.py STRETTO GOLDEN_FOLDER MODELS_FOLDER [DATA_FOLDER PEERS_FOLDER]

With the last two: beside llama-perplexity --kl-divergence, which must agree within 2 %."""
import json
import os
import random
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)

stretto, golden, models = sys.argv[1:4]
LLAMA = os.path.join(golden, "llama", "model.gguf")
SMOL = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
WINDOW = 48
if not os.path.isfile(LLAMA):
    print(f"skip: there is no {LLAMA}")
    sys.exit(77)


def run(*args, fails=0, **kw):
    r = subprocess.run([stretto, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, **kw)
    assert r.returncode == fails, (args, r.returncode, r.stderr.decode(errors="replace"))
    return r.stderr.decode() if fails else r.stdout


def ids_of(model, text, *flags):
    return json.loads(run("tokenize", "-m", model, "--json", *flags, input=text.encode()))


def rows_of(model, ids, tmp):
    """log probabilities [tokens][vocabulary]"""
    raw = os.path.join(tmp, "raw")
    run("eval", "logits", "-m", model, "--ids", ",".join(map(str, ids)), "--raw", raw, "--force")
    x = np.fromfile(raw, np.float32).reshape(len(ids), -1).astype(np.float64)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def token_rows(base, model, windows, tmp):
    """kl, back, base_nll, nll, same, window of each token of a second half"""
    out = []
    for w, ids in enumerate(windows):
        p, q = rows_of(base, ids, tmp), rows_of(model, ids, tmp)
        for i in range(len(ids) // 2, len(ids) - 1):
            a, b = p[i], q[i]
            out.append(((np.exp(a) * (a - b)).sum(), (np.exp(b) * (b - a)).sum(), -a[ids[i + 1]], -b[ids[i + 1]],
                        a.argmax() == b.argmax(), w))
    return np.array(out, float)


def mean_error(values, windows, below=None):
    """A ratio of sums over windows and its error."""
    w = windows.astype(int)
    up = np.bincount(w, values)
    down = np.bincount(w, np.ones(len(values)) if below is None else below)
    r, n = up.sum() / down.sum(), len(up)
    return r, np.sqrt(((up - r * down) ** 2).sum() * n / (n - 1)) / abs(down.sum())


def summary(t):
    kl, back, base, nll, same, w = t.T
    order, n = np.sort(kl), len(kl)
    out = {"median_kl": order[n // 2], "p90_kl": order[(n - 1) * 90 // 100], "p99_kl": order[(n - 1) * 99 // 100],
           "p999_kl": order[int((n - 1) * 0.999)], "max_kl": order[-1], "perplexity": np.exp(nll.mean()),
           "base_perplexity": np.exp(base.mean()), "rms_p": np.sqrt(((np.exp(-nll) - np.exp(-base)) ** 2).mean()),
           "tokens": n, "windows": len(set(w))}
    for name, v in (("mean_kl", kl), ("reverse_kl", back), ("same_top", same), ("log_ppl_ratio", nll - base)):
        out[name], out[name + "_error"] = mean_error(v, w)
    return out


def pair(a, b):
    out = {}
    for name, column in (("mean_kl", 0), ("same_top", 4), ("log_ppl_ratio", 3)):
        out[name], out[name + "_error"] = mean_error(b[:, column] - a[:, column], a[:, 5])
    out["ratio"], out["ratio_error"] = mean_error(b[:, 0], a[:, 5], a[:, 0])
    return out


def same(got, want, what):
    for key, v in want.items():
        assert abs(got[key] - v) <= 2e-4 * abs(v) + 2e-7, f"{what}: {key} {got[key]}, numpy says {v}"


def joined(parts):
    out, at = [], 0
    for p in parts:
        p = p.copy()
        p[:, 5] += at
        at = p[:, 5].max() + 1
        out.append(p)
    return np.concatenate(out)


def check_figures(tmp):
    rng = random.Random(14)
    other, third = os.path.join(tmp, "q8.gguf"), os.path.join(tmp, "q4.gguf")
    run("convert", "-q", "--type", "q8_0", LLAMA, other)
    run("convert", "-q", "--type", "q4_0", LLAMA, third)
    texts, windows = [], []
    for name in ("one", "two"):
        text = " ".join(rng.choice(("ab", "ba", "c a", "bb", "d")) for _ in range(170))
        path = os.path.join(tmp, name)
        with open(path, "w") as f:
            f.write(text)
        ids = ids_of(LLAMA, text, "--add-special", "--no-special")
        cut = [ids[i:i + WINDOW] for i in range(0, len(ids) - WINDOW + 1, WINDOW)][:3]
        for w in cut:
            w[0] = ids[0] if ids[0] == 1 else w[0]
        assert len(cut) == 3
        texts.append(path)
        windows.append(cut)
    flags = ["-c", str(WINDOW), "--chunks", "3", "--json"]
    got = json.loads(run("eval", "kl", "-m", other, "--base", LLAMA, "--against", third, "--against", other, "-f",
                         texts[0], "-f", texts[1], *flags))
    own = [token_rows(LLAMA, other, w, tmp) for w in windows]
    its = [token_rows(LLAMA, third, w, tmp) for w in windows]
    for k in range(2):
        same(got["texts"][k], summary(own[k]), f"text {k}")
        same(got["against"][0]["texts"][k], summary(its[k]), f"text {k} of the other model")
        same(got["against"][0]["texts"][k]["difference"], pair(its[k], own[k]), f"text {k}, difference")
    same(got, summary(joined(own)), "all")
    same(got["against"][0], summary(joined(its)), "all of the other model")
    same(got["against"][0]["difference"], pair(joined(its), joined(own)), "all, difference")
    last = got["against"][1]
    assert last["difference"]["ratio"] == 1 and last["difference"]["mean_kl"] == 0, last["difference"]
    same(last["difference_of_previous"], pair(joined(own), joined(its)), "all, difference of the one before")
    same(last["texts"][1]["difference_of_previous"], pair(own[1], its[1]), "text 1, difference of the one before")
    assert 0 < got["mean_kl"] < got["against"][0]["mean_kl"]
    one = json.loads(run("eval", "kl", "-m", other, "--base", LLAMA, "-f", texts[0], *flags))
    same(one, summary(own[0]), "one text")
    itself = json.loads(run("eval", "kl", "-m", LLAMA, "--base", LLAMA, "-f", texts[0], *flags))
    assert itself["mean_kl"] == 0 and itself["max_kl"] == 0 and itself["same_top"] == 1, itself
    table = run("eval", "kl", "-m", other, "--base", LLAMA, "-f", texts[0], "-f", texts[1], *flags[:-1]).decode()
    assert "KL(model || base)" in table and f"{got['mean_kl']:.5g}" in table and " all" in table, table
    ppl = json.loads(run("eval", "ppl", "-m", other, "-f", texts[0], "-f", texts[1], *flags))
    assert [p["text"] for p in ppl] == ["one", "two"]
    for k in range(2):
        assert abs(ppl[k]["nll"] - own[k][:, 3].mean()) < 1e-5


def chatml(messages):
    if messages[0]["role"] != "system":
        system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        messages = [{"role": "system", "content": system}, *messages]
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def check_chat(tmp):
    """Of SmolLM2's conversations the assistant's tokens count, <|im_end|> included."""
    if not os.path.isfile(SMOL):
        print(f"(no {SMOL}: conversations are not compared)")
        return
    u, a = (lambda t: {"role": "user", "content": t}), (lambda t: {"role": "assistant", "content": t})
    talks = [[u("What is 2 + 2?"), a("It is 4.")],
             [{"role": "system", "content": "Be brief."}, u("Name a colour."), a("Blue."), u("Another?"),
              a("Deep red.")]]
    path, nll = os.path.join(tmp, "talk.jsonl"), []
    with open(path, "w") as f:
        f.write("\n".join(json.dumps({"messages": t}) for t in talks) + "\n\n")
    for talk in talks:
        ids, counted = ids_of(SMOL, chatml(talk))[:], set()
        for i, m in enumerate(talk):
            if m["role"] == "assistant":
                start = len(ids_of(SMOL, chatml(talk[:i]) + "<|im_start|>assistant\n"))
                end = len(ids_of(SMOL, chatml(talk[:i]) + "<|im_start|>assistant\n" + m["content"] + "<|im_end|>"))
                counted |= set(range(start, end))
        rows = rows_of(SMOL, ids, tmp)
        nll += [-rows[i - 1][ids[i]] for i in sorted(counted)]
    got = json.loads(run("eval", "ppl", "-m", SMOL, "-f", path, "--json"))
    assert got["tokens"] == len(nll), (got, len(nll))
    assert abs(got["nll"] - np.mean(nll)) < 1e-4, (got, np.mean(nll))
    kl = json.loads(run("eval", "kl", "-m", SMOL, "--base", SMOL, "-f", path, "--json"))
    assert kl["tokens"] == len(nll) and kl["windows"] == 2 and kl["mean_kl"] == 0
    for line, said in (("{}", "messages"), ('{"messages": [{"role": "user", "content": "x"}]}', "assistant"),
                       ('{"messages": [{"role": "user"}]}', "content"), ("[", "line 1"),
                       ('{"messages": [%s]}' % ",".join(['{"role":"user","content":"x"}'] * 300), "more than")):
        with open(path, "w") as f:
            f.write(line + "\n")
        err = run("eval", "ppl", "-m", SMOL, "-f", path, fails=1)
        assert "line 1" in err and said in err, (line, err)


def check_refusals(tmp):
    text = os.path.join(tmp, "talk.jsonl")
    with open(text, "w") as f:
        f.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    short = os.path.join(tmp, "short")
    with open(short, "w") as f:
        f.write("ab")
    assert "less than one window" in run("eval", "ppl", "-m", LLAMA, "-f", short, "-c", "48", fails=2)
    assert "belongs to mmlu" in run("eval", "kl", "-m", LLAMA, "-f", short, "--letters", fails=2)
    assert "text is missing" in run("eval", "ppl", "-m", LLAMA, fails=2)
    assert "give one of them" in run("eval", "kl", "-m", LLAMA, "-f", short, fails=2)
    many = [x for _ in range(8) for x in ("--against", LLAMA)]
    assert "at most" in run("eval", "kl", "-m", LLAMA, "--base", LLAMA, "-f", short, *many, fails=2)


def check_peer(tmp, data, peers):
    """The mean within 2 %; it keeps the base's logits in 16 bits, so only of models that are far enough apart."""
    text = os.path.join(data, "text", "wikitext2_raw_test.txt")
    program = os.path.join(peers, "bin", "llama-perplexity")
    if not os.path.isfile(program):
        program = os.path.join(peers, "llama.cpp", "bin", "llama-perplexity")
    for path in (program, SMOL, text):
        if not os.path.isfile(path):
            print(f"skip: there is no {path}")
            sys.exit(77)
    other, kept = os.path.join(tmp, "q4.gguf"), os.path.join(tmp, "base.kld")
    run("convert", "-q", "--type", "q4_0", SMOL, other)
    said = ""
    for more in (["-m", SMOL], ["-m", other, "--kl-divergence"]):
        r = subprocess.run([program, *more, "-f", text, "-c", "512", "--chunks", "2", "-t", "2",
                            "--kl-divergence-base", kept], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=1200, env=dict(os.environ, OMP_WAIT_POLICY="passive"))
        assert r.returncode == 0, r.stdout[-500:]
        said = r.stdout.decode(errors="replace")
    got = json.loads(run("eval", "kl", "-m", other, "--base", SMOL, "-f", text, "--chunks", "2", "--json"))
    for what, key, allowed in (("Mean    KLD", "mean_kl", 0.02), ("Median  KLD", "median_kl", 0.1),
                               ("Mean ln(PPL(Q)/PPL(base))", "log_ppl_ratio", 0.2)):
        its = float(re.search(re.escape(what) + r" *: *(-?[0-9.]+)", said).group(1))
        print(f"{what}: {its}, ours {got[key]:.6f}")
        assert its > 0.01 and abs(got[key] / its - 1) < allowed, (what, its, got[key])
    its = float(re.search(r"Same top p: *([0-9.]+)", said).group(1))
    assert abs(its / 100 - got["same_top"]) < 0.02, (its, got)


with tempfile.TemporaryDirectory() as folder:
    if len(sys.argv) > 4:
        check_peer(folder, *sys.argv[4:6])
        sys.exit(0)
    check_figures(folder)
    check_chat(folder)
    check_refusals(folder)
