"""Consistency: noisy copies of answers beside the clean ones, on a model of 260,000 parameters and tiny random ones:

    test_consistency.py STRETTO MAKE_MODEL WEIGHTS TOKENS PACKED_CHECK GOLDEN GRADIENTS

A copy's losses are those of float64 numpy on the text that its rows see; they have the same bits beside other samples
and copies, and a row that sees its own clean token is noticed; a training ends with the same bytes whatever threads,
memory and interruptions; a model that was taught so guesses more of its own text; what does not fit says why."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile

stretto, make_model, weights, tokens, packed_check, golden, gradients_tool = sys.argv[1:8]
sys.argv[1:] = [gradients_tool, golden]
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
import numpy as np  # noqa: E402
import test_gradients as plain  # noqa: E402
from oracle import families, files  # noqa: E402
from oracle.forward import Arith, forward  # noqa: E402

holder = tempfile.TemporaryDirectory()
at = lambda *names: os.path.join(holder.name, *names)
MODEL, DATA, TRACE = at("stories.gguf"), at("data.jsonl"), at("trace.jsonl")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, MODEL], check=True, capture_output=True)


def write(path, lines):
    with open(path, "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def call(*args, code=0, command="teach"):
    done = subprocess.run([stretto, command, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code or code is None, (args, done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def digest(*path):
    with open(at(*path), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def log(out):
    with open(at(out, "log.jsonl")) as f:
        return [json.loads(line) for line in f]


def sentence(i):
    """A prompt that decides ten words."""
    a, b = 300 + i % 7, 320 + i % 5
    return {"prompt": [1, a, b, 29], "answer": [a + 40, b + 40, a + 60, 430, 431, 432, b + 60, 433, a, b, 2],
            "group": i % 4}


write(DATA, [sentence(i) for i in range(35)])
write(at("held.jsonl"), [sentence(i) for i in (2, 11, 17, 23, 31)])
QUICK = ["-m", MODEL, "-d", DATA, "--valid", at("held.jsonl"), "--rank", 8, "--lr", "1e-2", "--rows", 256,
         "--epochs", 3, "-t", 1, "-q", "--block", 4]


# ---- rows -------------------------------------------------------------------------------------------------------

def dump(model, data, out, *more):
    done = subprocess.run([packed_check, model, data, at(out), "noise", "dump", *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_losses_are_numpys():
    """What a row sees is a text, so its loss is that text's in a plain forward."""
    name = "llama-tied"
    cfg, _, _, dtype = families.MODELS[name]
    w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
    rng = np.random.RandomState(4)
    lines = [{"prompt": [int(x) for x in rng.randint(3, cfg["vocab_size"], 6)],
              "answer": [int(x) for x in rng.randint(3, cfg["vocab_size"], n)], "weight": 1 + n % 2}
             for n in (11, 3, 14)]
    data = write(at("random.jsonl"), lines)
    asks = dump(os.path.join(golden, name, "model.gguf"), data, "oracle")
    worst, noisy = 0.0, 0
    for a in asks:
        line = lines[a["sample"]]
        text = line["prompt"] + line["answer"]
        y = forward(cfg, w, a["seen"], Arith(np.float64))[-1]
        loss = np.log(np.exp(y - y.max()).sum()) + y.max() - y[text[a["token"]]]
        worst = max(worst, abs(loss - a["loss"]))
        assert a["said"] == text[a["token"]] and len(a["seen"]) == a["token"]
        assert (a["seen"] != text[:a["token"]]) == bool(a["noisy"]), a
        assert abs(a["weight"] - line["weight"] / (3 if a["noisy"] else 1)) < 1e-6, a
        noisy += a["noisy"]
    assert noisy > 20 and worst < 2e-5, (noisy, worst)
    print(f"{noisy} of {len(asks)} losses are of copies; at worst {worst:.1e} off")


def log_softmax(y):
    y = y - y.real.max()
    return y - np.log(np.exp(y).sum())


def test_a_row_that_is_like_another():
    """The divergence from what a clean row says, which itself is not changed by it: losses and their derivative."""
    for name in ("llama-tied", "gemma2"):
        cfg, _, _, dtype = families.MODELS[name]
        w = {n: x.astype(np.float64) for n, x in families.weights(name, cfg, dtype).items()}
        rng = np.random.RandomState(5)
        ids, state = (list(map(int, rng.randint(3, cfg["vocab_size"], n))) for n in (12, 4))
        at = 5
        lines = [f"rows {len(ids) + len(state)}"] + [f"{x} {i} 1 0 {i + 1}" for i, x in enumerate(ids)]
        lines += [f"{x} {at + j} 2 0 {at} {len(ids)} {len(ids) + j + 1}" for j, x in enumerate(state)]
        lines += [f"asks {2 * len(state)}"] + [f"{at + j} {ids[at + j + 1]} 0.1 0 0" for j in range(len(state))]
        lines += [f"{len(ids) + j} -1 0.3 {-1 - j} 0" for j in range(len(state))]
        losses, grads, _ = plain.gradients(gradients_tool, os.path.join(golden, name, "model.gguf"), lines)

        def says(v, kind):
            clean = forward(cfg, v, ids, Arith(kind))[at:at + len(state)]
            copy = forward(cfg, v, ids[:at] + state, Arith(kind))[at:]
            return [log_softmax(y) for y in clean], [log_softmax(y) for y in copy]

        def loss(v, like, kind=np.float64):
            clean, copy = says(v, kind)
            return np.array([-y[ids[at + j + 1]] for j, y in enumerate(clean)]
                            + [(np.exp(q) * (q - y)).sum() for q, y in zip(like, copy)])

        truth = loss(w, says(w, np.float64)[0])
        off = np.abs(losses - truth).max()
        assert off < 3e-5 and truth[4:].min() > 0.01, (name, losses, truth)
        weight = np.float32([0.1] * 4 + [0.3] * 4).astype(np.float64)
        rng, worst = np.random.default_rng(4), 0.0
        shaken = [plain.noisy(w, rng) for _ in range(2)]
        for m in ("model.embed_tokens.weight", "model.layers.1.self_attn.v_proj.weight", "model.norm.weight"):
            d = rng.standard_normal(w[m].shape)
            slope = []
            for v in [w] + shaken:
                like = says(v, np.float64)[0]
                slope.append((weight * loss(dict(v, **{m: v[m] + 1e-30j * d}), like, np.complex128)).sum().imag / 1e-30)
            g = grads[files.gguf_name(m, cfg["model_type"])].reshape(d.shape).astype(np.float64)
            off = abs((g * d).sum() - slope[0])
            allowed = 3 * max(abs(s - slope[0]) for s in slope) + 4 * plain.EPS * np.abs(g * d).sum()
            assert off <= allowed, f"{name} {m}: {off:.1e} off, allowed {allowed:.1e}"
            worst = max(worst, off / allowed)
        print(f"{name}: rows that are like others, worst {worst:.2f} of its bound")


def test_packed_as_alone():
    for more in ([], ["fault"]):
        done = subprocess.run([packed_check, MODEL, DATA, at("packed" + "".join(more)), "noise", *more],
                              capture_output=True, text=True)
        assert done.returncode == 0, (more, done.stdout, done.stderr)
        print(done.stdout, end="")


# ---- a training -------------------------------------------------------------------------------------------------

def test_it_learns_to_guess():
    call(*QUICK, "--watch", 5, "--epochs", 45, "--measure", 200, "-o", at("first"))
    held = [line for line in log("first") if "per_step" in line]
    first, last = held[0], held[-1]
    print(f"held out {first['held']:.3f} -> {last['held']:.3f}, noisy {first['held_noisy']:.3f} -> "
          f"{last['held_noisy']:.3f}, {first['per_step']:.2f} -> {last['per_step']:.2f} tokens in a step")
    assert last["held"] < 1.5 and last["held_noisy"] < 2 and last["per_step"] > first["per_step"] + 0.7
    assert all("noisy" in line for line in log("first") if "loss" in line)
    # The same lines without copies teach the answers, and not to guess them.
    call(*QUICK[:-2], "--watch", 5, "--steps", 2, "--lr", "1e-6", "-o", at("plain"))
    assert "per_step" not in log("plain")[-1]


def test_the_same_bytes():
    call(*QUICK, "-o", at("same"))
    want = digest("same", "adapter.gguf")
    for k, how in enumerate((["-t", 3], ["--keep", "layers"], ["--save", 1, "--measure", 1],
                             ["--method", "consistency"])):
        call(*QUICK, *how, "-o", at(f"same{k}"))
        assert digest(f"same{k}", "adapter.gguf") == want, how
    call(*QUICK, "--save", 1, "-o", at("cut"))
    names = sorted(n for n in os.listdir(at("cut")) if n.startswith("step-"))
    for name in names[1:] + ["adapter.gguf"]:
        os.remove(at("cut", name))
    call("--resume", "-q", "-o", at("cut"))
    assert digest("cut", "adapter.gguf") == want
    said = call("--resume", "-o", at("cut"), "--block", 5, code=2)
    assert "was begun with --block 4, not 5" in said, said
    others = set()
    for k, how in enumerate(([], ["--copies", 1], ["--noisy-weight", 2], ["--ar", 0.25], ["--block", 3],
                             ["--loss", "kl"], ["--loss", "cllm"])):
        call(*QUICK, "--steps", 2, *how, "-o", at(f"other{k}"))
        others.add(digest(f"other{k}", "adapter.gguf"))
    assert len(others) == 7


# ---- states -----------------------------------------------------------------------------------------------------

def trace(model, out, *more):
    prompts = write(at("prompts.jsonl"), [{"ids": sentence(i)["prompt"], "id": str(i), "group": f"g{i % 4}"}
                                           for i in (*range(20), 3)])
    call("jacobi", "-m", model, "--prompts", prompts, "-o", at(out), "--block", 4, "--states", 4, "-n", 24, "-np", 3,
         "-t", 1, *more, command="trace")
    with open(at(out)) as f:
        return [json.loads(line) for line in f]


def test_states():
    """What a model had in mind is what is wrong in copies of its answers."""
    call(*QUICK[:6], "--method", "full", "--rows", 256, "--epochs", 25, "--lr", "5e-3", "-t", 1, "-q", "-o", at("sft"))
    model = at("sft", "model.gguf")
    head, *traced = trace(model, "states.jsonl")
    ended = [t for t in traced if t["finish"] == "end"]
    assert head["block"] == 4 and len(ended) > 10
    assert [t["id"] for t in traced] == [*map(str, range(20)), "3"]
    assert all(t["group"] == f"g{int(t['id']) % 4}" for t in traced)
    args = ["-m", model, "--valid", at("held.jsonl"), "-q", "-t", 1, "--rows", 256, "--epochs", 4, "--lr", "1e-3",
            "--states", at("states.jsonl")]
    call(*args, "--method", "full", "-o", at("taught"))
    # Each window of a copy is made of whole blocks, which are right, a state, or one that is half corrected.
    asks = dump(model, DATA, "states", at("states.jsonl"))
    lines = [json.loads(x) for x in open(DATA)]
    known = sorted({tuple(t["prompt"] + t["answer"]) for t in ended})
    texts = {tuple(t["prompt"] + t["answer"]): t for t in ended}
    own = {tuple(x["prompt"] + x["answer"]) for x in lines}
    count = {"state": 0, "other": 0}
    for a in asks:
        if not a["noisy"] or a["sample"] < len(lines):
            continue
        n = len(a["seen"])
        text = next((t for t in known if list(t[:4]) == a["seen"][:4] and len(t) > n), None)
        assert text is not None and a["said"] == text[n], a
        t = texts[text]
        block = (n - 1 - len(t["prompt"])) // 4
        from_ = len(t["prompt"]) + 4 * block
        got, right = a["seen"][from_:], list(text[from_:n])
        states = [s[:len(got)] for s in t["blocks"][block]["states"]]
        count["state" if got in states and got != right else "other"] += 1
    print("rows that see a traced state of their block:", count)
    assert count["state"] > 0.4 * sum(count.values()) > 20, count
    # It goes on with the same states, or not at all.
    for name in sorted(n for n in os.listdir(at("taught")) if n.startswith("step-")) + ["model.gguf"]:
        os.rename(at("taught", name), at("taught", name + ".gone"))
    want = digest("taught", "model.gguf.gone")
    call("--resume", "-q", "-o", at("taught"))
    assert digest("taught", "model.gguf") == want
    with open(at("states.jsonl")) as f:
        all_ = f.readlines()
    with open(at("states.jsonl"), "w") as f:
        f.writelines(all_[:-3])
    said = call("--resume", "-o", at("taught"), code=2)
    assert "have changed" in said, said
    for how, said in ((["-m", MODEL, "--states", at("states.jsonl")], "traced with another model"),
                      (["-m", model, "--states", at("states.jsonl"), "--block", 8], "in blocks of 4"),
                      (["-m", model, "--states", DATA], "does not begin as a file of stretto trace"),
                      (["-m", model, "--states", at("states.jsonl"), "--phrases", 9], "phrases first")):
        text = call(*how, "--valid", at("held.jsonl"), "-o", at("bad"), code=None)
        assert said in text, (how, text)


def test_guesses_alone():
    """An adapter of guesses learns from noisy rows; the file says so, and clean rows run the base."""
    call(*QUICK, "--rows-of", "guesses", "-o", at("guesses"))
    first, last = log("guesses")[1], log("guesses")[-1]
    assert last["held"] == last["held_noisy"] < first["held"] if "held" in first else True
    with open(at("guesses", "adapter.gguf"), "rb") as f:
        assert b"guesses" in f.read(4096)


def test_what_will_be_learned():
    text = call(*QUICK, "--show", 2)
    assert "copy 1 of tokens" in text and "copy 2 of tokens" in text and " wrong " in text and "->" in text, text
    plan = json.loads(call(*QUICK, "--plan", "--json"))
    plain = json.loads(call(*QUICK[:-2], "--plan", "--json"))
    more = plan["rows"] - plain["rows"]                      # beginnings may be shared otherwise
    assert plan["noisy_rows"] > 300 and abs(plan["noisy_rows"] - more) < 30, (plan, plain)
    like = json.loads(call(*QUICK, "--loss", "cllm", "--plan", "--json"))
    assert like["program_bytes"] > plan["program_bytes"]
    # Watched answers are decoded in windows of 16 tokens at most, however large the blocks are.
    watched = [json.loads(call(*QUICK[:-2], "--block", n, "--watch", 32, "--rows-at-once", 512, "--plan",
                               "--json"))["memory_bytes"] for n in (16, 256)]
    assert watched[1] < watched[0] * 1.05, watched


def test_bad_input():
    for how, said in ((["--block", 300], "from 0 to 256"), (["--block", 1], "2 to 256"),
                      (["--copies", 3], "belongs to noisy copies"), (["--rows-of", "guesses"], "needs noisy copies"),
                      (["--ar", 1], "belongs to noisy copies")):
        text = call(*QUICK[:-2], *how, "-o", at("bad"), code=2)
        assert said in text, (how, text)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
