"""Learning from another model, on models of some 100,000 parameters:

    test_distill.py STRETTO MAKE_MODEL WEIGHTS TOKENS GRADIENTS GOLDEN FAULT_CHECK

The loss with a teacher's likeliest words, its tail or drawn ones, and its gradient are those of float64 numpy; what a
teacher says is what the float64 forward says; a model that lost layers becomes like the whole one again, by our measure
and by `stretto eval kl`; a run that is killed anywhere ends with the same bytes; what does not fit says why."""
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

stretto, make_model, weights, tokens, gradients_tool, golden, fault_check = sys.argv[1:8]
sys.argv[1:] = [gradients_tool, golden]
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "..", "bench")]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
import gguf  # noqa: E402
import numpy as np  # noqa: E402
import distill  # noqa: E402
import test_gradients as plain  # noqa: E402
from oracle import families, files  # noqa: E402
from oracle.forward import Arith, forward  # noqa: E402

folder = tempfile.mkdtemp()
at = lambda *names: os.path.join(folder, *names)
TEACHER, STUDENT, DATA = at("teacher.gguf"), at("student.gguf"), at("data.jsonl")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, TEACHER], check=True, capture_output=True)
distill.without_layers(TEACHER, STUDENT, 3)


def write(path, lines):
    with open(path, "w") as f:
        f.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return path


def call(*args, code=0, command="teach", **more):
    done = subprocess.run([stretto, command, *map(str, args)], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == code, (args, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


def digest(*path):
    with open(at(*path), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def story(seed):
    return call("-m", TEACHER, "-p", "Once upon a time", "-n", 100, "--temp", "1", "--seed", seed, command="run")


write(DATA, [{"text": story(seed)} for seed in range(20)])
QUICK = ["-m", STUDENT, "--teacher", TEACHER, "-d", DATA, "--method", "full", "--lr", "2e-3", "--rows", "256",
         "--hold-out", "0.25", "-q"]


def teach(out, *more, base=QUICK):
    return json.loads(call(*base, "--json", "-o", at(out), *more))


# ---- the loss, beside float64 ----------------------------------------------------------------

def taught_loss(cfg, w, ids, asks, dtype=np.float64):
    """asks: row -> (weight, [ids], [probabilities], tail)."""
    y = forward(cfg, w, ids, Arith(dtype))
    y = y - y.real.max(axis=-1, keepdims=True)
    logp = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
    total = 0
    for row, (weight, top, q, tail) in asks.items():
        rest = 1 - np.exp(logp[row, top]).sum()
        loss = (q * (np.log(q) - logp[row, top])).sum() + (tail * (np.log(tail) - np.log(rest)) if tail else 0)
        total = total + weight * loss
    return total


def taught_job(ids, asks):
    out = ["rows %d" % len(ids)] + [f"{t} {i} 1 0 {i + 1}" for i, t in enumerate(ids)] + ["asks %d" % len(asks)]
    for row, (weight, top, q, tail) in sorted(asks.items()):
        words = " ".join(f"{t} {float(p)!r}" for t, p in zip(top, q))
        out.append(f"{row} 0 {weight!r} {len(top)} {words} {float(tail)!r}")
    return out


def test_the_loss_is_that_of_float64():
    rng, worst = np.random.default_rng(2), 0
    for name in ("llama", "gemma2"):
        cfg, _, _, dtype = families.MODELS[name]
        w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
        ids = [int(t) for t in np.random.RandomState(5).randint(3, cfg["vocab_size"], 14)]
        for drawn in (False, True):
            asks = {}
            for row in range(2, 14, 2):
                top = rng.choice(cfg["vocab_size"], 9, replace=False)
                q = np.float32(rng.dirichlet(np.ones(10)))
                tail = 0.0 if drawn else q[9]
                asks[row] = (0.125, top, np.float64(q[:9]) * (1.3 if drawn else 1), float(tail))
            asks = {r: (a, b, np.float64(np.float32(c)), float(np.float32(d))) for r, (a, b, c, d) in asks.items()}
            losses, grads, _ = plain.gradients(gradients_tool, os.path.join(golden, name, "model.gguf"),
                                               taught_job(ids, asks))
            truth = taught_loss(cfg, w, ids, asks)
            assert abs(losses.sum() * 0.125 - truth) < 1e-5 * abs(truth), (name, losses.sum() * 0.125, truth)

            def along(wrong=None):
                d = {n: np.random.default_rng(7).standard_normal(x.shape) for n, x in w.items()}
                moved = {n: x.astype(np.complex128) + 1e-30j * d[n] for n, x in w.items()}
                return taught_loss(cfg, moved, ids, wrong or asks, np.complex128).imag / 1e-30, d
            want, d = along()
            moved = {n: plain.in_file(cfg, n, x) for n, x in d.items()}
            pairs = [(plain.gradient_like(grads, files.gguf_name(n, cfg["model_type"]), m.shape).astype(np.float64), m)
                     for n, m in moved.items()]
            got, terms = sum((g * m).sum() for g, m in pairs), sum(np.abs(g * m).sum() for g, m in pairs)
            allowed = 16 * plain.EPS * terms + 2e-5 * abs(want)
            assert abs(got - want) < allowed, (name, drawn, got, want, allowed)
            worst = max(worst, abs(got - want) / allowed)
            # A word's share that is a hundredth off is noticed.
            row = min(asks)
            weight, top, q, tail = asks[row]
            other = q.copy()
            other[0] *= 0.9
            wrong, _ = along({**asks, row: (weight, top, other, tail)})
            assert abs(got - wrong) > allowed, (name, got, wrong, allowed)
    print(f"worst {worst:.4f} of its bound")


# ---- what a teacher says ---------------------------------------------------------------------

def read_cache(path, rows_of, top, drawn):
    """For each sample entropy, tail, ids, probabilities, drawn ids."""
    raw, at_byte, out = open(path, "rb").read(), 256, []
    kind = np.dtype([("entropy", "<f4"), ("tail", "<f4"), ("id", "<i4", top), ("p", "<f4", top),
                     ("drawn", "<i4", drawn)])
    for n in rows_of:
        out.append(np.frombuffer(raw, kind, n, at_byte))
        at_byte += n * kind.itemsize + 16
    assert at_byte == len(raw)
    return out


def test_what_a_teacher_says_is_what_the_forward_says():
    name = "llama"
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    base = os.path.join(golden, name, "model.gguf")
    student = at("golden.gguf")
    shutil.copy(base, student)
    r = gguf.GGUFReader(student, "r+")
    next(t for t in r.tensors if t.name == "blk.0.ffn_norm.weight").data[:] *= np.float32(1.1)
    r.data.flush()
    rng = np.random.RandomState(3)
    lines = [{"prompt": [int(t) for t in rng.randint(3, cfg["vocab_size"], p)],
              "answer": [int(t) for t in rng.randint(3, cfg["vocab_size"], a)]} for p, a in ((3, 5), (7, 2), (2, 9))]
    data = write(at("golden.jsonl"), lines)
    call("-m", student, "--teacher", base, "-d", data, "--method", "full", "--hold-out", 0, "-q", "-o", at("golden"),
         "--teacher-top", 5, "--teacher-drawn", 4)
    drawn = 0
    for line, rows in zip(lines, read_cache(at("golden", "teacher.cache"), [len(x["answer"]) for x in lines], 5, 4)):
        y = forward(cfg, w, line["prompt"] + line["answer"], Arith(np.float64))
        for i, row in enumerate(rows):
            z = y[len(line["prompt"]) - 1 + i]
            p = np.exp(z - z.max())
            p /= p.sum()
            order = np.argsort(-p, kind="stable")[:5]
            assert np.abs(p[row["id"]] - row["p"]).max() < 2e-4 and np.abs(p[order] - row["p"]).max() < 2e-4
            assert abs(row["entropy"] + (p * np.log(p)).sum()) < 2e-3, (row["entropy"], (p * np.log(p)).sum())
            assert abs(row["p"].sum() + row["tail"] - 1) < 1e-5
            assert not set(row["drawn"]) & set(row["id"]) and list(row["drawn"]) == sorted(row["drawn"])
            drawn += len(set(row["drawn"]))
    assert drawn > 16
    # A heap that fails at every allocation in turn, a text that the model writes itself among them.
    short = write(at("short.jsonl"), [{"prompt": [3, 4, k], "answer": [k + 1, k + 2, 3, 4]} for k in range(5, 13)])
    done = subprocess.run([fault_check, student, short, at("faults"), "full", base], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout, end="")


# ---- learning --------------------------------------------------------------------------------

def test_it_becomes_like_its_teacher():
    r = teach("first", "--epochs", 6)
    assert r["first_held"] > 0.5 and r["regained"] > 0.35 and r["held"] < r["first_held"], r
    with open(at("first", "log.jsonl")) as f:
        lines = [json.loads(line) for line in f]
    held = [line["held"] for line in lines if "held" in line]
    assert abs(held[0] - r["first_held"]) < 1e-5 and abs(held[-1] - r["held"]) < 1e-5, (held, r)
    run = json.load(open(at("first", "run.json")))
    assert run["teacher"] == TEACHER and len(run["content"]["teacher"]) == 32
    assert abs(json.loads(call("--resume", "-q", "--json", "-o", at("first")))["steps"] - r["steps"]) == 0


def test_eval_kl_agrees():
    """On the same tokens: windows of 64 of one text, of which those behind the middle count."""
    text = " ".join(story(seed).strip().replace("\n", " ") for seed in range(20, 26))
    with open(at("held.txt"), "w") as f:
        f.write(text)
    ids = json.loads(call("-m", TEACHER, "--json", "--add-special", command="tokenize", input=text))
    cut = [[1] + ids[k + 1:k + 64] for k in range(0, len(ids) - 63, 64)]
    valid = write(at("valid.jsonl"), [{"prompt": w[:33], "answer": w[33:]} for w in cut])
    r = teach("agree", "--epochs", 3, "--valid", valid, "--save-f32", "--hold-out", 0, "--measure", 1)
    exact = teach("exact", "--epochs", 3, "--valid", valid, "--hold-out", 0, "--teacher-top", 200, "--teacher-drawn",
                  56)
    for model, key in ((STUDENT, "first_held"), (at("agree", "model.f32.gguf"), "held")):
        kl = json.loads(call("kl", "-m", model, "--base", TEACHER, "-f", at("held.txt"), "-c", 64, "--json",
                             command="eval"))
        assert kl["windows"] == len(cut) and abs(kl["mean_kl"] / r[key] - 1) < 0.02, (kl["mean_kl"], r[key])
        print(f"{key}: {kl['mean_kl']:.5f} by eval kl, {r[key]:.5f} by teach, {exact[key]:.5f} with 256 tokens a row")
        if key == "first_held":
            assert abs(kl["mean_kl"] / exact[key] - 1) < 0.003, (kl["mean_kl"], exact[key])


def test_an_adapter_repairs_a_quantised_model():
    call("-m", TEACHER, "--type", "q4_0", "--method", "plain", "-o", at("small.gguf"), command="squeeze")
    r = json.loads(call("-m", at("small.gguf"), "--teacher", TEACHER, "-d", DATA, "--rank", 8, "--epochs", 6, "--lr",
                        "3e-3", "--rows", 256, "--hold-out", 0.25, "-q", "--json", "-o", at("repaired")))
    assert 0 < r["held"] < 0.8 * r["first_held"], r
    assert r["held_written"] is None
    # All weights, rounded to the file's types again: measured by the file, as `eval kl` does.
    r = json.loads(call("-m", at("small.gguf"), "--teacher", TEACHER, "-d", DATA, "--valid", at("valid.jsonl"),
                        "--method", "full", "--rows", 256, "-q", "--json", "-o", at("rounded")))
    kl = json.loads(call("kl", "-m", at("rounded", "model.gguf"), "--base", TEACHER, "-f", at("held.txt"), "-c", 64,
                         "--json", command="eval"))
    assert r["held"] != r["held_written"] and abs(kl["mean_kl"] / r["held_written"] - 1) < 0.05, (kl["mean_kl"], r)
    r = json.loads(call("-m", at("small.gguf"), "--teacher", TEACHER, "-d", DATA, "--rank", 4, "--epochs", 2,
                        "--rows-of", "answers", "--written", "0.5", "--hold-out", 0.25, "-q", "--json", "-o",
                        at("answers")))
    assert r["held"] < r["first_held"], r


def test_sizes_that_differ_between_layers():
    """A model that `stretto squeeze --shrink` made, and back towards the whole one."""
    whole, part = at("whole.gguf"), at("part.gguf")
    subprocess.run([sys.executable, os.path.join(here, "..", "prune", "make_model.py"), whole], check=True)
    call("-m", whole, "--shrink", "45%", "--type", "f32", "--tokens", 2048, "-o", part, command="squeeze")
    keys = {k: f.contents() for k, f in gguf.GGUFReader(part).fields.items()}
    assert keys["general.architecture"] == "deci" and len(set(keys["deci.feed_forward_length"])) > 1, keys
    rng = np.random.default_rng(1)
    data = write(at("letters.jsonl"), [{"text": bytes(rng.integers(97, 105, 40)).decode()} for _ in range(24)])
    r = json.loads(call("-m", part, "--teacher", whole, "-d", data, "--method", "full", "--epochs", 4, "--lr", "1e-3",
                        "--rows", 200, "--hold-out", 0.25, "-q", "--json", "-o", at("sizes")))
    assert 0 < r["held"] < 0.9 * r["first_held"], r
    again = {k: f.contents() for k, f in gguf.GGUFReader(at("sizes", "model.gguf")).fields.items()}
    assert again["deci.feed_forward_length"] == keys["deci.feed_forward_length"]


def test_the_same_bytes():
    want, cache = digest("first", "model.gguf"), digest("first", "teacher.cache")
    teach("same", "--epochs", 6, "-t", 1)
    assert digest("same", "model.gguf") == want and digest("same", "teacher.cache") == cache
    # A file of answers that was cut off, or spoilt behind its middle, is gone on with.
    whole = open(at("same", "teacher.cache"), "rb").read()
    for k, bytes_left in enumerate((whole[:100], whole[:len(whole) // 2], whole[:-1] + b"x")):
        path = at(f"cut{k}.cache")
        with open(path, "wb") as f:
            f.write(bytes_left)
        teach(f"cut{k}", "--epochs", 6, "--teacher-cache", path)
        assert digest(f"cut{k}.cache") == cache and digest(f"cut{k}", "model.gguf") == want
        assert not os.path.exists(at(f"cut{k}", "teacher.cache"))


WRITTEN = ["--epochs", 3, "--written", "0.5"]


def test_it_writes_itself_and_the_teacher_judges():
    r = teach("written", *WRITTEN)
    assert r["regained"] > 0.1, r
    for epoch in (2, 3):
        lines = [json.loads(line) for line in open(at("written", f"written-{epoch}.jsonl"))]
        assert lines and all(line["answer"] and line["text"] for line in lines), lines
    assert digest("written", "written-2.jsonl") != digest("written", "written-3.jsonl")
    assert not os.path.exists(at("written", "written-1.jsonl"))
    one = teach("alone", *WRITTEN, "-t", 1)
    assert digest("alone", "model.gguf") == digest("written", "model.gguf") and one["steps"] == r["steps"]
    teach("plain", "--epochs", 3)
    assert digest("plain", "model.gguf") != digest("written", "model.gguf")


def test_killed_at_any_moment():
    want = {"model.gguf": digest("written", "model.gguf"), "written-3.jsonl": digest("written", "written-3.jsonl"),
            "teacher.cache": digest("written", "teacher.cache")}
    rng = np.random.default_rng(5)
    for k in range(4):
        out = f"killed{k}"
        begin = [stretto, "teach", *QUICK, *map(str, WRITTEN), "--save", "3", "-o", at(out)]
        args = begin
        for turn in range(4):
            p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(float(rng.uniform(0.02, 0.4)))
            p.send_signal(signal.SIGKILL if k else signal.SIGINT)
            p.wait()
            if os.path.exists(at(out, "run.json")):
                args = [stretto, "teach", "--resume", "-q", "-o", at(out)]
        done = subprocess.run(args, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {name: digest(out, name) for name in want} == want, out


def test_a_full_disk_keeps_what_was_said():
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = call(*QUICK, "--epochs", 6, "-o", at("tight"), code=1, preexec_fn=small)
    assert "cannot write the teacher's answers" in said and "make room" in said, said
    assert not os.path.exists(at("tight", "run.json"))
    kept = os.path.getsize(at("tight", "teacher.cache"))
    assert 0 < kept <= 60000
    teach("tight", "--epochs", 6)
    assert digest("tight", "model.gguf") == digest("first", "model.gguf")


def test_plan_says_what_a_teacher_takes():
    plan = json.loads(call(*QUICK, "--plan", "--json", "-o", at("never")))
    assert plan["taught_bytes"] == os.path.getsize(at("first", "teacher.cache")), plan
    assert plan["teacher_flops"] > 0 and plan["teacher_bytes"] > 1e6 and plan["taught_rows"] > 500
    said = call(*QUICK, "--plan")
    assert "the teacher" in said and "its answers" in said, said
    assert not os.path.exists(at("never"))


def changed(path, name, by):
    """The teacher with another token."""
    out = at(name)
    shutil.copy(TEACHER, out)
    raw = open(out, "rb").read()
    assert raw.count(by[0]) == 1, raw.count(by[0])
    with open(out, "wb") as f:
        f.write(raw.replace(*by))
    return out


def test_bad_input_is_named():
    def refused(words, *more, code=2, base=QUICK):
        said = call(*base, "-o", at("bad"), *more, code=code)
        assert words in said, (words, said)
        shutil.rmtree(at("bad"), ignore_errors=True)
    # Another vocabulary: the first token that differs, or how many there are.
    spelling = [b"\x07\0\0\0\0\0\0\0" + "▁upon".encode(), b"\x07\0\0\0\0\0\0\0" + "▁uqon".encode()]
    other = changed(TEACHER, "respelled.gguf", spelling)
    refused("'▁uqon' there and '▁upon' here", "--teacher", other)
    refused("has another vocabulary:", "--teacher", os.path.join(golden, "llama", "model.gguf"))
    refused("the teacher is the model itself", "--teacher", STUDENT)
    shutil.copy(STUDENT, at("copy.gguf"))
    refused("the teacher is the model itself", "--teacher", at("copy.gguf"))
    alone = ["-m", STUDENT, "-d", DATA]
    refused("--teacher-cache is of the answers of a --teacher", "--teacher-cache", at("x"), base=alone)
    refused("--written needs a --teacher", "--written", "0.5", base=alone)
    refused("--phrases are tokens that a --teacher does not have", "--phrases", 8)
    refused("--epochs 2 or more", "--written", "0.5")
    refused("256 at most", "--teacher-top", "200", "--teacher-drawn", "100")
    # Answers of something else.
    cache = at("taken.cache")
    shutil.copy(at("first", "teacher.cache"), cache)
    kept = digest("taken.cache")
    less = write(at("less.jsonl"), open(DATA).read().splitlines()[:-1])
    refused("are of other lines", "--teacher-cache", cache, "-d", less, base=[*QUICK[:4], *QUICK[6:]])
    refused("are of another teacher", "--teacher-cache", cache, "--teacher", at("small.gguf"))
    refused("are of another --teacher-top", "--teacher-cache", cache, "--teacher-top", 8)
    assert digest("taken.cache") == kept
    own = write(at("notes.txt"), ["a person's notes"])
    refused("holds no teacher's answers", "--teacher-cache", own)
    assert open(own).read() == "a person's notes\n"
    # A training that goes on with another teacher.
    shutil.copytree(at("first"), at("moved"))
    assert "the teacher is another since" in call("--resume", "-o", at("moved"), "--teacher", at("small.gguf"), code=2)
    shutil.copy(TEACHER, at("elsewhere.gguf"))
    call("--resume", "-q", "-o", at("moved"), "--teacher", at("elsewhere.gguf"))
    # What the model wrote is gone in the middle of an epoch.
    teach("torn", *WRITTEN, "--save", 1)
    newest = max(n for n in os.listdir(at("torn")) if n.startswith("step-"))
    os.remove(at("torn", newest))
    os.remove(at("torn", "written-3.jsonl"))
    assert "written-3.jsonl is gone" in call("--resume", "-o", at("torn"), code=2)


try:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            begun = time.monotonic()
            test()
            print(f"{name} ok, {time.monotonic() - begun:.1f} s", flush=True)
finally:
    shutil.rmtree(folder)
