"""Consistency: noisy copies of answers beside the clean ones, on a model of 260,000 parameters and tiny random ones:

    test_consistency.py STRETTO MAKE_MODEL WEIGHTS TOKENS PACKED_CHECK GOLDEN

A copy's losses are those of float64 numpy on the text that its rows see; they have the same bits beside other samples
and copies, and a row that sees its own clean token is noticed; a training ends with the same bytes whatever threads,
memory and interruptions; a model that was taught so guesses more of its own text; what does not fit says why."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile

stretto, make_model, weights, tokens, packed_check, golden = sys.argv[1:7]
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "..", "tools")]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
import numpy as np  # noqa: E402
from oracle import families  # noqa: E402
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
    assert done.returncode == code, (args, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


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
         "--epochs", 6, "-t", 1, "-q", "--block", 4]


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


def test_packed_as_alone():
    for more in ([], ["fault"]):
        done = subprocess.run([packed_check, MODEL, DATA, at("packed" + "".join(more)), "noise", *more],
                              capture_output=True, text=True)
        assert done.returncode == 0, (more, done.stdout, done.stderr)
        print(done.stdout, end="")


# ---- a training -------------------------------------------------------------------------------------------------

def test_it_learns_to_guess():
    call(*QUICK, "--watch", 5, "--epochs", 60, "--measure", 200, "-o", at("first"))
    held = [line for line in log("first") if "per_step" in line]
    first, last = held[0], held[-1]
    print(f"held out {first['held']:.3f} -> {last['held']:.3f}, noisy {first['held_noisy']:.3f} -> "
          f"{last['held_noisy']:.3f}, {first['per_step']:.2f} -> {last['per_step']:.2f} tokens in a step")
    assert last["held"] < 1.5 and last["held_noisy"] < 2 and last["per_step"] > first["per_step"] + 0.7
    assert all("noisy" in line for line in log("first") if "loss" in line)
    # The same lines without copies teach the answers, and not to guess them.
    call(*QUICK[:-2], "--watch", 5, "--epochs", 60, "-o", at("plain"))
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
    for k, how in enumerate((["--copies", 1], ["--noisy-weight", 2], ["--ar", 0.5], ["--block", 3], ["--loss", "kl"])):
        call(*QUICK, *how, "-o", at(f"other{k}"))
        assert digest(f"other{k}", "adapter.gguf") != want, how


def test_guesses_alone():
    """An adapter of guesses learns from noisy rows; the file says so, and clean rows run the base."""
    call(*QUICK, "--rows-of", "guesses", "-o", at("guesses"))
    first, last = log("guesses")[1], log("guesses")[-1]
    assert last["held"] == last["held_noisy"] < first["held"] if "held" in first else True
    with open(at("guesses", "adapter.gguf"), "rb") as f:
        assert b"guesses" in f.read(4096)


def test_bad_input():
    for how, said in ((["--block", 300], "from 0 to 256"), (["--block", 1], "2 to 256"),
                      (["--copies", 3], "belongs to noisy copies"), (["--rows-of", "guesses"], "needs noisy copies"),
                      (["--ar", 1], "belongs to noisy copies")):
        text = call(*QUICK[:-2], *how, "-o", at("bad"), code=2)
        assert said in text, (how, text)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
