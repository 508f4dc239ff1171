#!/usr/bin/env python3
"""Model files that are cut short, flipped or lying, and requests that cannot be met.

    test_hostile.py STRETTO GOLDEN DATA_FOLDER

Starting from the tiny models of tools/make_golden.py. Whatever the bytes: no signal, no sanitizer report, an
answer within a minute, and exit code 1 with a sentence when the file cannot be used (a flipped weight can)."""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np

failures, counts = [], {"accepted": 0, "refused": 0}
LIMIT = 60          # seconds for a run that takes milliseconds: a hang, not a measurement


def run(argv, stdin=None):
    env = dict(os.environ, ASAN_OPTIONS="exitcode=99:allocator_may_return_null=1", UBSAN_OPTIONS="print_stacktrace=1")
    try:
        r = subprocess.run(argv, input=stdin or b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                           timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return None, b"", f"no end within {LIMIT} s"
    return r.returncode, r.stdout, r.stderr.decode(errors="replace").strip()


def fail(what, rc, err):
    failures.append(what)
    print(f"FAIL {what}: exit code {rc}: {err[-300:]}", flush=True)


def expect(what, argv, codes, *words, stdin=None):
    """Exit code one of `codes`; a failure says something, and says each of `words`; prints no result."""
    rc, out, err = run(argv, stdin)
    ok = rc in codes and "AddressSanitizer" not in err and "runtime error" not in err
    if ok and rc:
        ok = bool(err) and not out.strip() and all(str(w).lower() in err.lower() for w in words)
    if not ok:
        fail(what + (f" (must say {', '.join(map(str, words))})" if words else ""), rc, err)
    counts["refused" if rc else "accepted"] += 1


def mutate(stretto, folder, name, data, rng, path, header):
    """`data` is a sound file that ends up at folder/name; `path` is what -m gets."""
    file = os.path.join(folder, name)

    def attempt(what, bytes_, codes):
        with open(file, "wb") as f:
            f.write(bytes_)
        expect(f"{name} {what}", [stretto, "run", "-m", path, "-p", "a", "-n", "1", "--temp", "0"], codes)

    attempt("as it is", data, (0,))
    cuts = sorted({0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, header - 1, header, len(data) - 1, len(data) - 4}
                  | {rng.randrange(len(data)) for _ in range(20)} | {rng.randrange(header) for _ in range(30)})
    for n in cuts:
        attempt(f"cut at {n}", data[:n], (1,))
    for _ in range(80):
        at, bit = rng.randrange(header), rng.randrange(8)
        b = bytearray(data)
        b[at] ^= 1 << bit
        attempt(f"bit {bit} of byte {at} flipped", bytes(b), (0, 1))
    for _ in range(60):
        at = rng.randrange(header - 8)
        value = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62, 2**63 - 1,
                            2**63, 2**64 - 1, 2**64 - 8])
        size = rng.choice([4, 8])
        b = bytearray(data)
        b[at:at + size] = struct.pack("<Q", value)[:size]
        attempt(f"{size} bytes at {at} are {value:#x}", bytes(b), (0, 1))
    with open(file, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def models(stretto, golden, work):
    rng = random.Random(20240229)
    for name in ("llama", "gemma3", "gpt2"):
        data = read(os.path.join(golden, name, "model.gguf"))
        # Flips are worth most where the structure is: everything before the first tensor's bytes.
        weights = data.rfind(b"weight") + 64
        mutate(stretto, work, f"{name}.gguf", data, rng, os.path.join(work, f"{name}.gguf"), weights)
    for name in ("qwen2", "qwen3"):
        folder = os.path.join(work, name)
        shutil.copytree(os.path.join(golden, name, "hf"), folder)
        for file in sorted(os.listdir(folder)):
            data = read(os.path.join(folder, file))
            header = len(data)
            if file.endswith(".safetensors"):
                header = 8 + struct.unpack("<Q", data[:8])[0]
            if name == "qwen2" or file.endswith(".safetensors") or file == "config.json":
                mutate_json = mutate_text if file.endswith(".json") else mutate
                mutate_json(stretto, folder, file, data, rng, folder, header)


def mutate_text(stretto, folder, name, data, rng, path, _):
    """JSON files: cut, flipped, and numbers made absurd."""
    file = os.path.join(folder, name)
    digits = [i for i in range(len(data)) if data[i:i + 1].isdigit()]

    def attempt(what, bytes_, codes):
        with open(file, "wb") as f:
            f.write(bytes_)
        expect(f"{name} {what}", [stretto, "run", "-m", path, "-p", "a", "-n", "1", "--temp", "0"], codes)

    attempt("as it is", data, (0,))
    end = data.rstrip()
    for n in {0, 1, len(end) - 1} | {rng.randrange(len(end)) for _ in range(12)}:
        attempt(f"cut at {n}", data[:n], (1,))
    for _ in range(30):
        at, bit = rng.randrange(len(data)), rng.randrange(8)
        b = bytearray(data)
        b[at] ^= 1 << bit
        attempt(f"bit {bit} of byte {at} flipped", bytes(b), (0, 1))
    for _ in range(40 if digits else 0):
        at = rng.choice(digits)
        value = rng.choice([b"0", b"-1", b"1e308", b"4294967296", b"99999999999999999999", b"null", b"[[[[", b'"x"'])
        attempt(f"{value.decode()} at {at}", data[:at] + value + data[at + 1:], (0, 1))
    attempt("nested 100,000 deep", b"[" * 100000, (1,))
    with open(file, "wb") as f:
        f.write(data)


def requests(stretto, golden, data, work):
    llama = os.path.join(golden, "llama", "model.gguf")
    bert = os.path.join(golden, "bert", "model.gguf")
    base = [stretto, "run", "-m", llama, "-p", "a"]
    nowhere = os.path.join(work, "nowhere.gguf")
    expect("a missing file", [stretto, "run", "-m", nowhere, "-p", "a"], (1,), "nowhere.gguf")
    expect("-n -5", base + ["-n", "-5"], (1, 2), "-5")
    expect("-n x", base + ["-n", "x"], (2,), "x")
    expect("--temp x", base + ["-n", "1", "--temp", "x"], (2,), "x")
    expect("-t 0 is refused or means all", base + ["-n", "1", "-t", "0"], (0, 1, 2))
    expect("-t -1", base + ["-n", "1", "-t", "-1"], (1, 2), "-1")
    expect("an unknown option", base + ["--no-such-option"], (2,), "no-such-option")
    expect("an unknown command", [stretto, "no-such-command"], (2,), "no-such-command")
    expect("a prompt longer than the context", [stretto, "run", "-m", llama, "-p", "b c d e f g " * 20, "-c", "16",
                                               "-n", "1"], (1,), "16")
    expect("a prompt longer than the model's context", [stretto, "run", "-m", llama, "-p", "b c d e " * 100, "-n", "1"],
           (1,), "256")
    expect("an absurd context", base + ["-n", "1", "-c", "4000000000"], (0, 1, 2))
    expect("generating with an encoder", [stretto, "run", "-m", bert, "-p", "a", "-n", "1"], (1,), "encoder")
    expect("perplexity with an encoder", [stretto, "eval", "ppl", "-m", bert, "-f", bert, "-c", "64"], (1,), "encoder")
    expect("a missing text", [stretto, "eval", "ppl", "-m", llama, "-f", os.path.join(work, "nowhere.txt")], (1,),
           "nowhere.txt")
    expect("ids outside the vocabulary", [stretto, "eval", "logits", "-m", llama, "--ids", "5,307", "--raw",
                                          os.path.join(work, "rows")], (1, 2), "307")
    expect("negative ids", [stretto, "eval", "logits", "-m", llama, "--ids", "5,-1", "--raw",
                            os.path.join(work, "rows")], (1, 2), "-1")
    if os.path.exists(os.path.join(work, "rows")):
        failures.append("a refused request left a file behind")
        print("FAIL " + failures[-1])
    empty = os.path.join(work, "empty")
    os.makedirs(empty)
    expect("an empty folder", [stretto, "run", "-m", empty, "-p", "a"], (1, 2), "empty")
    expect("a folder that is a device", [stretto, "run", "-m", "/dev/null", "-p", "a"], (1,))
    vocab = os.path.join(data, "tokenizer", "ggml-vocab-gpt-2.gguf")
    if os.path.exists(vocab):
        expect("a vocabulary without weights", [stretto, "run", "-m", vocab, "-p", "a", "-n", "1"], (1,), "vocabulary")
    for kind, arch, word in (("adapter", "llama", "adapter"), ("mmproj", "clip", "image"),
                             ("imatrix", "llama", "measurements")):
        other = os.path.join(work, kind + ".gguf")
        g = gguf.GGUFWriter(other, arch)
        g.add_type(kind)
        g.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 32), np.float32))
        g.write_header_to_file()
        g.write_kv_data_to_file()
        g.write_tensors_to_file()
        g.close()
        expect(f"a GGUF file of the type {kind}", [stretto, "run", "-m", other, "-p", "a", "-n", "1"], (1,), word)
    text = os.path.join(work, "text.txt")
    with open(text, "w") as f:
        f.write("This is no model.\n" * 100)
    expect("a text as a model", [stretto, "run", "-m", text, "-p", "a"], (1,), "text.txt")


def main():
    stretto, golden, data = sys.argv[1:4]
    if not os.path.exists(os.path.join(golden, "index.json")):
        print("skip: the golden models were not made (tools/make_golden.py)")
        return 77
    with tempfile.TemporaryDirectory() as work:
        requests(stretto, golden, data, work)
        models(stretto, golden, work)
    print(json.dumps(counts), f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
