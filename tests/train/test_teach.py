"""stretto teach from end to end, on a model of 260,000 parameters:

    test_teach.py STRETTO MAKE_MODEL WEIGHTS TOKENS PACKED_CHECK TEACH_API FAULT_CHECK

It learns; a training that is killed at any moment ends with the same bytes, whatever the threads, the memory and what
stands beside a text in a step; what it writes is what runs; and what cannot go on says why, and loses nothing."""
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import gguf
import numpy as np
from safetensors.numpy import load_file

stretto, make_model, weights, tokens, packed_check, teach_api, fault_check = sys.argv[1:8]
if not os.path.exists(weights):
    print("skip:", weights, "is not here")
    sys.exit(77)
folder = tempfile.mkdtemp()
at = lambda *names: os.path.join(folder, *names)
MODEL, DATA = at("stories.gguf"), at("data.jsonl")
subprocess.run([sys.executable, make_model, "stories", weights, tokens, MODEL], check=True, capture_output=True)
QUICK = ["-m", MODEL, "-d", DATA, "--rows", "128", "--rank", "8", "--lr", "5e-3", "-t", "1", "--hold-out",
         "0"]


def kill_in_the_middle(out, *args):
    """Behind its third step or so."""
    p = subprocess.Popen([stretto, "teach", *map(str, args), "-o", at(out)], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    path = at(out, "log.jsonl")
    while p.poll() is None and not (os.path.exists(path) and open(path).read().count("\n") > 3):
        time.sleep(0.002)
    p.kill()
    p.wait()


def write(path, lines):
    with open(path, "w") as f:
        f.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return path


LINES = [{"prompt": f"Lily had {i % 7} red balls.", "completion": f" She gave {i % 7} balls to Tom. The end.",
          "group": i % 5} for i in range(40)]
write(DATA, LINES)


def call(*args, code=0, **more):
    done = subprocess.run([stretto, "teach", *map(str, args)], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == code, (args, done.returncode, done.stderr)
    return done.stderr if code else done.stdout


def teach(out, *more):
    return json.loads(call(*QUICK, "-q", "--json", "-o", at(out), *more))


def digest(*path):
    with open(at(*path), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def text_of(*model):
    done = subprocess.run([stretto, "run", *model, "-p", "Lily had 4 red balls.", "-n", "24", "--temp", "0"],
                          capture_output=True, text=True, check=True)
    return done.stdout


def checkpoint(*path):
    """As load_file, which knows no bf16."""
    with open(at(*path), "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(n)), f.read()
    kinds = {"F32": np.float32, "BF16": np.uint16, "U8": np.uint8}
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], kinds[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def log(out):
    with open(at(out, "log.jsonl")) as f:
        return [line for line in map(json.loads, f) if line["step"]]


def test_it_learns():
    r = teach("first", "--epochs", "6")
    assert r["first_loss"] > 3 and r["loss"] < 0.6, r
    assert [line["step"] for line in log("first")] == list(range(1, r["steps"] + 1))
    with open(at("first", "log.jsonl")) as f:
        gradients = json.loads(f.readline())["gradients"]
    assert len(gradients) == 35 and min(gradients.values()) > 0, gradients
    said = text_of("-m", MODEL, "--lora", at("first", "adapter.gguf"))
    assert "She gave 4 balls to Tom" in said and "She gave 4" not in text_of("-m", MODEL)
    assert said == text_of("-m", MODEL, "--lora", at("first", "peft"))
    assert text_of("-m", MODEL) == text_of("-m", MODEL, "--lora", at("first", "adapter.gguf") + "=0")
    all_weights = [*QUICK[:6], "--method", "full", "--epochs", "6", "--save-f32", "--measure", "3", "-q", "--hold-out",
                   "0.2"]
    full = json.loads(call(*all_weights, "--json", "-o", at("full")))
    assert full["loss"] < 0.5 and full["held"] < full["first_held"], full
    assert "She gave 4 balls" in text_of("-m", at("full", "model.gguf"))
    assert "<svg" in open(at("full", "curves.svg")).read()
    # What was trained is what is written, and the rest is as it was.
    state = load_file(at("full", f"step-{full['steps']:06d}.safetensors"))
    for t in gguf.GGUFReader(at("full", "model.f32.gguf")).tensors:
        assert (np.array(t.data).reshape(-1) == state["master/" + t.name].reshape(-1)).all(), t.name
    # A training that goes on knows what is to be written, and when it is measured.
    kill_in_the_middle("fullk", *all_weights, "--save", 1)
    call("--resume", "-q", "-o", at("fullk"))
    assert digest("full", "model.f32.gguf") == digest("fullk", "model.f32.gguf")
    assert [line.get("held") for line in log("full")] == [line.get("held") for line in log("fullk")]
    call("--resume", "-q", "-o", at("fullk"), "--save-f32", "--measure", 2)


def test_merged_weights_say_the_same():
    """The adapter as nodes beside base + scale B A computed here."""
    adapter = gguf.GGUFReader(at("first", "adapter.gguf"))
    alpha = adapter.fields["adapter.lora.alpha"].contents()
    pair = {t.name: np.array(t.data, np.float64) for t in adapter.tensors}
    merged = at("merged.gguf")
    shutil.copy(MODEL, merged)
    r = gguf.GGUFReader(merged, "r+")
    for t in r.tensors:
        if t.name + ".lora_a" in pair:
            a, b = pair[t.name + ".lora_a"], pair[t.name + ".lora_b"]
            t.data[:] = (t.data.astype(np.float64) + alpha / a.shape[0] * (b @ a)).astype(np.float32)
    r.data.flush()
    story = write(at("story.txt"), ["Lily had 4 red balls. She gave 4 balls to Tom. The end. " * 8])
    out = {}
    for name, model in (("adapter", ["-m", MODEL, "--lora", at("first", "adapter.gguf")]), ("merged", ["-m", merged])):
        done = subprocess.run([stretto, "eval", "ppl", *model, "--reference", "-f", story, "-c", "64", "--json"],
                              capture_output=True, text=True, check=True)
        out[name] = json.loads(done.stdout)
    a, b = (out[k].get("ppl", out[k].get("perplexity")) for k in ("adapter", "merged"))
    assert abs(a / b - 1) < 1e-4, (a, b)


def test_llama_cpp_says_the_same():
    peer = os.path.join(os.path.dirname(make_model), "..", "build", "peers", "llama.cpp", "bin", "llama-perplexity")
    if not os.path.exists(peer):
        print("llama.cpp is not here (./dev peers --get)")
        return
    ours, theirs = {}, {}
    for key, more in (("base", []), ("adapter", ["--lora", at("first", "adapter.gguf")])):
        done = subprocess.run([peer, "-m", MODEL, "-f", at("story.txt"), "-c", "32", "-b", "32", "-t", "2", *more],
                              capture_output=True, text=True)
        told = re.search(r"\[4\]([0-9.]+)", done.stdout + done.stderr)
        assert told, (done.returncode, done.stdout, done.stderr[-2000:])
        theirs[key] = float(told.group(1))
        done = subprocess.run([stretto, "eval", "ppl", "-m", MODEL, "--reference", "-f", at("story.txt"), "-c", "32",
                               "--chunks", "4", "--json", *more], capture_output=True, text=True, check=True)
        ours[key] = json.loads(done.stdout)["perplexity"]
    print("perplexity of llama.cpp", theirs, "and here", ours)
    assert all(abs(ours[k] / theirs[k] - 1) < 5e-3 for k in ours) and ours["adapter"] != ours["base"]


def test_warnings_that_help():
    rng = np.random.default_rng(3)
    noise = write(at("noise.jsonl"), [{"text": " ".join(rng.choice(["red", "ball", "dog", "sat", "big"], 8))}
                                      for _ in range(30)])
    done = subprocess.run([stretto, "teach", "-m", MODEL, "-d", noise, "-o", at("heart"), "--epochs", "60", "--rows",
                           "256", "--rank", "16", "--lr", "1e-2", "--hold-out", "0.3"], capture_output=True, text=True)
    assert done.returncode == 0 and "learned by heart" in done.stderr, done.stderr
    # A training that goes on knows what it was like before.
    os.remove(at("heart", max(n for n in os.listdir(at("heart")) if n.startswith("step-"))))
    done = subprocess.run([stretto, "teach", "--resume", "-o", at("heart")], capture_output=True, text=True)
    assert done.returncode == 0 and "learned by heart" in done.stderr, done.stderr
    done = subprocess.run([stretto, "teach", *QUICK[:6], "-o", at("wild"), "--epochs", "9", "--method", "full", "--lr",
                           "3", "--hold-out", "0"], capture_output=True, text=True)
    assert "smaller --lr" in done.stderr, done.stderr


def test_the_same_bytes():
    """Threads, memory, and what stands beside a text in a step."""
    want = digest("first", "adapter.gguf")
    for k, how in enumerate((["-t", "3"], ["--keep", "layers"], ["--save", "1", "--measure", "1"])):
        teach(f"same{k}", "--epochs", "6", *how)
        assert digest(f"same{k}", "adapter.gguf") == want, how
        assert digest(f"same{k}", "peft", "adapter_model.safetensors") == digest("first", "peft",
                                                                                 "adapter_model.safetensors")
    teach("other", "--epochs", "6", "--seed", "2")
    assert digest("other", "adapter.gguf") != want


def test_packed_as_alone():
    for more in ([], ["fault"]):
        done = subprocess.run([packed_check, MODEL, DATA, at("packed" + "".join(more)), *more], capture_output=True,
                              text=True)
        assert done.returncode == 0, (more, done.stdout, done.stderr)
        print(done.stdout, end="")


def test_public_calls():
    done = subprocess.run([teach_api, MODEL, DATA, at("api")], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    whole = call(*QUICK[:4], "-q", "--rank", 4, "--lr", "5e-3", "--epochs", 4, "--rows", 64, "--hold-out", 0, "-o",
                 at("whole"))
    assert digest("api", "adapter.gguf") == digest("whole", "adapter.gguf"), whole


def test_killed_at_any_moment():
    want = digest("first", "adapter.gguf")
    rng = np.random.default_rng(5)
    for k in range(4):
        out = f"killed{k}"
        args = [stretto, "teach", *QUICK, "--epochs", "6", "--save", "1", "-q", "-o", at(out)]
        for turn in range(3):
            p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(float(rng.uniform(0.02, 0.5)))
            p.send_signal(signal.SIGKILL if k else signal.SIGINT)
            p.wait()
            if os.path.exists(at(out, "run.json")):
                args = [stretto, "teach", "--resume", "-q", "-o", at(out)]
        subprocess.run(args, check=True, capture_output=True)
        assert digest(out, "adapter.gguf") == want
        steps = [line["step"] for line in log(out)]
        assert steps == sorted(set(steps)) and len(steps) == len(log("first")), steps
        assert sum(name.startswith("step-") for name in os.listdir(at(out))) == 2


def test_going_on_is_with_the_same():
    said = call(*QUICK, "-o", at("first"), code=2)
    assert "--resume goes on with it" in said, said
    assert "was begun with --rank 8, not 4" in call("--resume", "-o", at("first"), "--rank", 4, code=2)
    # An option that is what is usual was given too.
    assert "was begun with --rank 8, not 16" in call("--resume", "-o", at("first"), "--rank", 16, code=2)
    assert "was begun with --seed 2, not 1" in call("--resume", "-o", at("other"), "--seed", 1, code=2)
    # Kernels of another level round otherwise, which is told.
    with open(at("first", "run.json")) as f:
        level = json.load(f)["level"]
    done = subprocess.run([stretto, "teach", "--resume", "-q", "-o", at("first")], capture_output=True, text=True,
                          env=dict(os.environ, STRETTO_CPU="ref"), check=True)
    assert f"begun with kernels of {level} and goes on with those of ref" in done.stderr, done.stderr
    assert "kernels" not in subprocess.run([stretto, "teach", "--resume", "-q", "-o", at("first")], text=True,
                                           capture_output=True, check=True).stderr
    assert "no training in" in call("--resume", "-o", at("nowhere"), code=2)
    shutil.copytree(at("first"), at("changed"))
    other = write(at("other.jsonl"), LINES[:-1])
    assert "the data have changed" in call("--resume", "-o", at("changed"), "-d", other, code=2)
    with open(at("changed", "step-000001.safetensors"), "wb") as f:
        f.write(b"old")
    newest = max(n for n in os.listdir(at("changed")) if n.startswith("step-"))
    with open(at("changed", newest), "r+b") as f:
        f.truncate(1000)
    said = call("--resume", "-o", at("changed"), code=1)
    assert newest in said, said
    # What was asked for then is read as it is from the command line.
    for key, spoilt in (("optimizer", 5), ("optimizer", "best"), ("rank", "many"), ("rank", -3), ("hold-out", 7),
                        ("skip-long", "yes"), ("method", ["lora"])):
        with open(at("changed", "run.json")) as f:
            run = json.load(f)
        run["options"][key] = spoilt
        with open(at("changed", "run.json"), "w") as f:
            json.dump(run, f)
        said = call("--resume", "-o", at("changed"), code=1)
        assert "is damaged" in said and f"--{key}" in said, (key, said)
        shutil.copy(at("first", "run.json"), at("changed", "run.json"))
    # Two at once.
    p = subprocess.Popen([stretto, "teach", *QUICK, "--epochs", "3000", "-q", "-o", at("busy")],
                         stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not os.path.exists(at("busy", "run.json")):
        time.sleep(0.02)
    p.send_signal(signal.SIGHUP)                                         # under nohup that is nothing
    time.sleep(0.5)
    assert "another process trains in" in call("--resume", "-o", at("busy"), code=2)
    p.send_signal(signal.SIGINT)
    p.wait()
    assert p.returncode == 1 and any(n.startswith("step-") for n in os.listdir(at("busy")))


def test_a_full_disk_keeps_what_was_there():
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    args = [*QUICK, "--epochs", 6, "-q", "-o", at("tight")]
    os.mkdir(at("tight"))
    write(at("tight", "step-000009.safetensors.part"), ["what somebody was killed over"])
    said = call(*args, "--steps", 0, code=1, preexec_fn=small)
    assert "make room" in said, said
    assert not any(n.startswith("step-") and n.endswith(".safetensors") for n in os.listdir(at("tight")))
    call("--resume", "-o", at("tight"), "-q")
    assert digest("tight", "adapter.gguf") == digest("first", "adapter.gguf")
    assert not any(n.endswith(".part") for n in os.listdir(at("tight")))


def test_bad_input_is_named():
    bad = at("bad.jsonl")

    def refused(lines, words, *more, code=1):
        write(bad, lines)
        said = call("-m", MODEL, "-d", bad, "-o", at("never"), "--hold-out", "0", *more, code=code)
        assert words in said, (words, said)
        assert not os.path.exists(at("never")) or not os.listdir(at("never")) or os.listdir(at("never")) == [".lock"]
    refused([{"text": "word " * 2000}], "line 1: it has ")
    refused([{"text": "word " * 2000}], "nothing is left to learn from", "--skip-long")
    refused([{"messages": [{"role": "user", "content": "hi"}]}], "no chat template")
    refused([{"prompt": "a"}], "no form that is known")
    refused([{"text": "a", "weight": 1e-50}], "must be a number from 1e-6")
    refused([], "no line to learn from")
    refused(LINES, "no weight of a layer is called", "--targets", "nothing", code=2)
    refused(LINES, "no expression", "--targets", "(", code=2)
    refused(LINES, "rank 99 is more than", "--rank", "99", code=2)
    refused(LINES, "--rows-at-once allows 4", "--rows-at-once", "4", code=2)
    refused(LINES, "--budget takes a time", "--budget", "soon", code=2)
    assert "-o FOLDER" in call("-m", MODEL, "-d", DATA, code=2)
    assert "-d FILE" in call("-m", MODEL, "-o", at("never"), code=2)
    assert "belong to --method lora" in call("-m", MODEL, "-d", DATA, "-o", at("never"), "--method", "full",
                                             "--targets", "q", code=2)


def test_no_number_stops_it():
    spoilt = at("spoilt.gguf")
    shutil.copy(MODEL, spoilt)
    r = gguf.GGUFReader(spoilt, "r+")
    for t in r.tensors:
        if t.name == "blk.2.ffn_down.weight":
            t.data[3, 5] = np.inf
    r.data.flush()
    said = call("-m", spoilt, "-d", DATA, "-o", at("spoilt"), "--hold-out", "0", "-q", code=1)
    assert "is no number" in said and "data.jsonl, line" in said and "layer" in said, said
    assert not os.path.exists(at("spoilt", "adapter.gguf"))


def test_no_number_in_what_is_held_out():
    """A step that changes a weight by what large values make infinite: it is not what is kept."""
    steep = at("steep.gguf")
    shutil.copy(MODEL, steep)
    r = gguf.GGUFReader(steep, "r+")
    for t in r.tensors:
        for name, times in (("ffn_gate", 1e18), ("ffn_up", 1e18), ("ffn_down", 1e-36)):
            if t.name == f"blk.4.{name}.weight":
                t.data[:] *= np.float32(times)
    r.data.flush()
    held = write(at("held.jsonl"), LINES[:2])
    args = ["-m", steep, "-d", DATA, "--rows", 128, "--valid", held, "--method", "full", "--measure", 1, "--epochs", 3,
            "--schedule", "constant", "--warm-up", 0.5, "--save", 1, "-q", "-o", at("blown")]
    said = call(*args, "--lr", 10, code=1)
    step = re.search("held out is no number at step ([0-9]+); what was learned until step ([0-9]+) is kept", said)
    assert step and int(step[1]) == int(step[2]) + 1 > 1, said
    files = sorted(n for n in os.listdir(at("blown")) if n.endswith(".safetensors"))
    assert files[-1] == f"step-{int(step[2]):06d}.safetensors", (files, said)
    assert all(np.isfinite(x).all() for x in load_file(at("blown", files[-1])).values())


def test_optimizers():
    """Each learns, and goes on after a kill to the same bytes; a checkpoint has what it remembers in its bytes."""
    size, begun = {}, [*QUICK, "--epochs", "2", "-q", "-t", "1"]
    for key, how in (("16", []), ("12", ["--optimizer-bytes", "12"]), ("10", ["--optimizer-bytes", "10"]),
                     ("adafactor", ["--optimizer", "adafactor"]), ("ema", ["--ema", "0.9"]),
                     ("bf16", ["--precision", "bf16"]), ("f16", ["--precision", "f16"])):
        out = "o" + key
        whole = json.loads(call(*begun, *how, "--json", "-o", at(out)))
        assert whole["loss"] < 0.6, (key, whole)
        kill_in_the_middle(out + "k", *begun, *how, "--save", 1)
        call("--resume", "-q", "-t", 1, "-o", at(out + "k"))
        assert digest(out, "adapter.gguf") == digest(out + "k", "adapter.gguf"), key
        newest = max(n for n in os.listdir(at(out)) if n.startswith("step-"))
        state = checkpoint(out, newest)
        trained = sum(x.size for name, x in state.items() if name.startswith("master"))
        size[key] = sum(x.nbytes for x in state.values()) / trained
        written = {t.name: np.array(t.data) for t in gguf.GGUFReader(at(out, "adapter.gguf")).tensors}
        for name, x in written.items():
            kept = "average/" if key == "ema" else "master/"
            assert (x.reshape(-1) == state[kept + name].reshape(-1)).all(), name
    print("bytes of a checkpoint for a parameter:", {k: round(v, 2) for k, v in size.items()})
    # B has 8 columns here, of which panels of 16 make 16.
    assert size["12"] < 0.75 * size["16"] and size["10"] < 0.55 * size["16"] and size["adafactor"] < 0.45 * size["16"]
    note = gguf.GGUFReader(at("oema", "adapter.gguf")).fields["stretto.teach.average"].contents()
    assert float(note) == 0.9 and "stretto.teach.average" not in gguf.GGUFReader(at("o16", "adapter.gguf")).fields
    assert "belongs to --optimizer adamw" in call(*begun, "--optimizer", "adafactor", "--optimizer-bytes", 10, "-o",
                                                  at("never"), code=2)
    assert "--beta2 belongs to" in call(*begun, "--optimizer", "adafactor", "--beta2", 0.95, "-o", at("never"), code=2)
    assert "16, 12 or 10" in call(*begun, "--optimizer-bytes", 11, "-o", at("never"), code=2)


def test_overflow_is_noticed():
    """f16: a loss that is scaled too much changes nothing in that step, and is scaled less."""
    rows = [json.loads(line) for line in open(at("of16", "log.jsonl"))]
    assert all(row.get("scale", 1) >= 1 for row in rows)
    spoilt = at("loud.gguf")
    shutil.copy(MODEL, spoilt)
    r = gguf.GGUFReader(spoilt, "r+")
    for t in r.tensors:                                   # gradients through the last layer are 2000 times as large
        if t.name == "output_norm.weight":
            t.data[:] *= 2000
    r.data.flush()
    args = ["-m", spoilt, *QUICK[2:], "--epochs", 2, "--precision", "f16", "-q"]
    done = json.loads(call(*args, "--json", "-o", at("loud")))
    kill_in_the_middle("loudk", *args, "--save", 1)
    call("--resume", "-q", "-t", 1, "-o", at("loudk"))
    assert digest("loud", "adapter.gguf") == digest("loudk", "adapter.gguf")
    rows = [json.loads(line) for line in open(at("loud", "log.jsonl"))]
    skipped = [row["scale"] for row in rows if row.get("skipped")]
    assert done["skipped"] == len(skipped) > 0, (done, rows)
    assert skipped == [2.0 ** (15 - k) for k in range(len(skipped))], skipped
    assert all("loss" in row for row in rows if row["step"] and not row.get("skipped"))
    # The mean of steps that changed nothing is what was there.
    done = json.loads(call("-m", spoilt, "-d", DATA, "--method", "full", "--precision", "f16", "--ema", 0.9, "-q",
                           "--steps", 1, "--json", "-o", at("mean")))
    assert done["skipped"] == 1, done
    before, behind = ({t.name: np.array(t.data) for t in gguf.GGUFReader(path).tensors}
                      for path in (spoilt, at("mean", "model.gguf")))
    assert all((behind[name] == x).all() for name, x in before.items())


def test_answers_that_collapse_end_it():
    """The last checkpoint that was well is what is written."""
    args = [*QUICK[:-2], "--hold-out", "0.3", "--epochs", "8", "--measure", "2", "--watch", "4", "-q", "-t", "1",
            "-o"]
    call(*args, at("well"))
    rows = [json.loads(line) for line in open(at("well", "log.jsonl"))]
    seen = [row for row in rows if "distinct4" in row]
    assert seen[0]["step"] == 0 and seen[0]["agreement"] == 1 and len(seen) > 3, rows
    assert all(0 <= row["agreement"] <= 1 and row["distinct4"] > 0.2 for row in seen)
    said = call(*args, at("left"), "--agreement", "0.9", code=1)
    assert "leave what they were" in said, said
    ill = write(at("ill.jsonl"), [{"text": "a a a a a a a a a a a a a a a a a a a a a a a"}] * 40)
    args[args.index("-d") + 1] = ill
    said = call(*args, at("ill"), "--lr", "1e-2", "--valid", DATA, "--hold-out", 0, "--epochs", 60, "--measure", 1,
                code=1)
    assert "answers collapse at step" in said, said
    rows = [json.loads(line) for line in open(at("ill", "log.jsonl"))]
    good = [row["step"] for row in rows if row.get("distinct4", 0) >= 0.5 * rows[0]["distinct4"]]
    files = [n for n in os.listdir(at("ill")) if n.startswith("step-")]
    if good[-1]:
        assert max(files) == f"step-{good[-1]:06d}.safetensors" and f"until step {good[-1]}" in said, (files, said)
        notes = gguf.GGUFReader(at("ill", "adapter.gguf")).fields
        assert notes["stretto.teach.steps"].contents() == str(good[-1])
    else:
        assert not files and "nothing of it is kept" in said
    assert "held out" in call(*QUICK, "--watch", 4, "-o", at("unheld"), code=2)


def test_rates_are_tried():
    args = [*QUICK[:6], "--hold-out", "0", "--rank", "8", "--epochs", "4"]
    done = subprocess.run([stretto, "teach", *args, "--lr", "auto", "-o", at("tried")], capture_output=True, text=True)
    table = re.findall(r"rate ([0-9.e-]+) +loss ([0-9.]+) behind 8 small steps", done.stderr)
    assert done.returncode == 0 and len(table) == 5, done.stderr
    rate = min(table, key=lambda row: float(row[1]))[0]
    assert f"rate {rate} is taken" in done.stderr and float(rate) > 0.002, done.stderr
    with open(at("tried", "run.json")) as f:
        exact = json.load(f)["rate"]
    call(*args, "--lr", repr(exact), "-q", "-o", at("told"))
    assert digest("tried", "adapter.gguf") == digest("told", "adapter.gguf")
    assert "--lr takes a number" in call(*args, "--lr", "big", "-o", at("never"), code=2)


def test_folders_of_transformers():
    """Models without a tokenizer learn from ids; fused weights are written fused."""
    root = os.path.join(os.path.dirname(make_model), "..", "tests", "data", "format")
    ids = write(at("ids.jsonl"), [{"prompt": [1, i % 3], "answer": [(i + 1) % 5, (i + 2) % 5, 2]} for i in range(12)])
    assert "name where, -o FOLDER" in call("-m", os.path.join(root, "hf-llama"), "-d", ids, "--plan", code=2)
    def folder_of(kind):
        return os.path.join(root, "hf-" + kind)
    for kind in ("llama", "phi3", "gpt2"):
        base = os.path.join(root, "hf-" + kind)
        for method in ("lora", "full"):
            out = at(f"{kind}-{method}")
            more = ["--rank", 2] if method == "lora" else ["--save-f32"]
            call("-m", base, "-d", ids, "-o", out, "--method", method, *more, "--epochs", 3, "--hold-out", 0, "-q")
            if method == "lora":
                continue
            state = load_file(max(os.path.join(out, n) for n in os.listdir(out) if n.startswith("step-")))
            written = {t.name: np.array(t.data) for t in gguf.GGUFReader(os.path.join(out, "model.f32.gguf")).tensors}
            for name, parts in (("attn_qkv", "attn_q attn_k attn_v"), ("ffn_up", "ffn_gate ffn_up")):
                if kind == "phi3":
                    parts = [state[f"master/blk.0.{p}.weight"] for p in parts.split()]
                    assert (written[f"blk.0.{name}.weight"] == np.concatenate(parts)).all()
    # base.gguf is of the folder it was made of, as it is now.
    os.remove(at("llama-lora", "run.json"))
    for name in os.listdir(at("llama-lora")):
        if name.startswith("step-"):
            os.remove(at("llama-lora", name))
    again = ["-d", ids, "-o", at("llama-lora"), "--rank", 2, "--hold-out", 0, "-q"]
    call("-m", folder_of("llama"), *again)
    assert "made of another folder" in call("-m", folder_of("gpt2"), *again, code=2)
    for method in ("lora", "full"):
        done = subprocess.run([fault_check, at("llama-lora", "base.gguf"), ids, at("faults"), method],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        print(method, done.stdout, end="")


def test_few_layers_and_few_weights():
    for how, pairs in ((["--last-layers", "1"], 7), (["--targets", "attn_(q|v)"], 10)):
        plan = call(*QUICK, "--plan", *how)
        assert f"on {pairs} weights" in plan, plan
    teach("few", "--last-layers", "1", "--alpha", "4")
    with open(at("few", "peft", "adapter_config.json")) as f:
        config = json.load(f)
    assert config["lora_alpha"] == 4 and config["r"] == 8
    assert all(name.startswith("model.layers.4.") for name in config["target_modules"]), config


def test_plan_is_what_is_taken():
    """Bytes that are planned, and the most that a process then had: within a twentieth, and 4 MB that a process of any
    size may have beside them. A sanitizer's own memory is in what a process takes."""
    if "--sanitized" in sys.argv:
        return
    toy, ids = at("toy.gguf"), at("toy.jsonl")
    subprocess.run([sys.executable, make_model, "toy", "q4_0", toy, "--layers", "10"], check=True, capture_output=True)
    write(ids, [{"prompt": [1, i], "answer": [(7 * i + k) % 1000 for k in range(60)]} for i in range(8)])
    for how in ([], ["--optimizer-bytes", 10], ["--optimizer", "adafactor", "--ema", 0.9], ["--method", "lora"]):
        args = ["-m", toy, "-d", ids, "--method", "full", "--hold-out", 0, "-t", 1, "--rows", 256, *how]
        plan = json.loads(call(*args, "--plan", "--json"))["memory_bytes"]
        shutil.rmtree(at("taken"), ignore_errors=True)
        peak = json.loads(call(*args, "--steps", 1, "--json", "-q", "-o", at("taken")))["peak_bytes"]
        print(f"    {how}: planned {plan / 1e6:.1f} MB, taken {peak / 1e6:.1f} MB")
        assert abs(plan - peak) < 0.05 * peak + 4e6, (how, plan, peak)


def test_plan_and_show():
    plan = json.loads(call(*QUICK, "--plan", "--json"))
    alone = sum(1 for _ in LINES)
    assert plan["samples"] == alone and plan["steps"] > 0 and plan["program_bytes"] > 0
    assert plan["rows"] < plan["tokens"]
    assert teach("planned")["rows"] == plan["rows"]          # beginnings are shared in the training too
    said = call(*QUICK, "--show", 1)
    assert "' Lily'" in said and "learned   '</s>'" in said, said
    budget = json.loads(call(*QUICK, "--epochs", 4000, "--budget", "1s", "-q", "--json", "-o", at("budget")))
    assert 0 < budget["steps"] < 4000 * 8 and budget["seconds"] < 60
    # Of many epochs only one is packed.
    long = json.loads(call(*QUICK, "--epochs", 1 << 20, "--plan", "--json"))
    assert long["steps"] == plan["steps"] << 20, (long, plan)
    again = json.loads(call("--resume", "-q", "--json", "-o", at("budget")))
    assert again["steps"] == budget["steps"] and again["rows"] == 0, again
    assert "was begun with --budget 1" in call("--resume", "-o", at("budget"), "--budget", "2s", code=2)
    os.remove(at("budget", "run.json"))
    assert "run.json is gone" in call(*QUICK, "-o", at("budget"), code=2)


try:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            begun = time.monotonic()
            test()
            print(f"{name} ok, {time.monotonic() - begun:.1f} s")
finally:
    shutil.rmtree(folder)
