#!/usr/bin/env python3
"""Random GGUF files against llama.cpp and float64.

    test_gguf.py ASK GOLDEN [--seed N] [--count N] [--keep DIR] [--write] [-v]

Every seed is a file (gguf_files.py). Its logits must be those of a float64 forward that reads the file
independently (gguf_truth.py), and those of llama.cpp: asked itself where `./dev peers --get` has built it, else by
what it once said about the first files, which GOLDEN keeps together with their hashes (--write asks again). Where
the generator put something that we refuse, a refusal that names it is the right answer, and the only one. Planted
mistakes must be noticed.

One file again: test_gguf.py ASK GOLDEN --seed N --count 1 --keep DIR -v"""
import argparse
import base64
import collections
import hashlib
import itertools
import os
import random
import shutil
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    import gguf_files
    import gguf_truth
    from folders import seed_of, seeds
    import llama_cpp
    from arithmetic import allowed, forward
    from asking import Asker, Died, Refused
    from planted import Planted
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

SEED, COUNT, GOLDEN, LATER_GOLDEN, NUMBERS = 1, 500, 128, 12, 6


def largest(x):
    return float(np.abs(x).max())


def hash_of(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:16]


def places(seed, shape):
    """Which logits of a file are kept: one of the last row, the others anywhere."""
    r = random.Random(f"golden {seed}")
    return [(r.randrange(shape[0]) if i else shape[0] - 1, r.randrange(shape[1])) for i in range(NUMBERS)]


def read_golden(path):
    """seed -> (hash, logits)"""
    out = {}
    with open(path) as f:
        for line in f:
            if not line.startswith("#"):
                seed, digest, numbers = line.split()
                out[seed_of(seed)] = digest, np.frombuffer(base64.b64decode(numbers), "<f4").astype(float)
    return out


def write_golden(path, llama, folder):
    """What is kept of a file that is still the same stays."""
    lines, kept = [], read_golden(path)
    for names, enough in [(itertools.count(SEED), GOLDEN)] + [
            (map((arch + ":{}").format, itertools.count(1)), LATER_GOLDEN) for arch in gguf_files.LATER]:
        lines += itertools.islice(filter(None, (ask_golden(seed, llama, folder, kept) for seed in names)), enough)
    with open(path, "w") as out:
        out.write("# What llama.cpp (of llama-cpp-python 0.3.36, float32) says about files of gguf_files.py:\n"
                  "# seed, first half of the file's SHA-256, some logits (test_gguf.py: places)\n")
        out.writelines(lines)


def ask_golden(seed, llama, folder, kept):
    """The line of a file, or None where llama.cpp is no judge."""
    f, at = gguf_files.make(seed), os.path.join(folder, f"{seed}.gguf")
    if f.refusal() or not f.asks_llama_cpp():
        return None
    gguf_files.store(f, at)
    digest, numbers = hash_of(at), None
    if kept.get(seed, ("",))[0] == digest:
        numbers = kept[seed][1].astype("<f4")
    else:
        theirs = llama.logits(at, f.ids, betas(f))
        numbers = np.array([theirs[x] for x in places(seed, theirs.shape)], "<f4")
    os.remove(at)
    return f"{seed} {digest} {base64.b64encode(numbers.tobytes()).decode()}\n"


class Run:
    def __init__(self, asker, llama, golden, verbose):
        self.asker, self.llama, self.golden, self.verbose = asker, llama, golden, verbose
        self.failures, self.counts = [], collections.Counter()
        self.planted = Planted(("biases left out", "neighbours turned for halves", "the usual eps",
                                "a soft cap left out", "soft caps for all", "a scaling left out",
                                "a window left out"))

    def fail(self, f, what):
        self.failures.append(f.seed)
        print(f"FAIL seed {f.seed} ({f.arch}): {what}")
        if self.verbose:
            print("    " + ", ".join(sorted(f.features)))

    def refused(self, f, said):
        words = f.refusal()
        self.counts["refused"] += 1
        if not words:
            self.fail(f, f"refused though right: {said}")
        elif not any(w.lower() in said.lower() for w in words):
            self.fail(f, f"refused without naming any of {', '.join(words)}: {said}")

    def file(self, f, path):
        gguf_files.store(f, path)
        try:
            got = self.asker.logits(path, f.ids)
        except Died as e:
            return self.fail(f, str(e))
        except Refused as e:
            return self.refused(f, str(e))
        if f.refusal():
            return self.fail(f, "answered, but it must be refused")
        p = gguf_truth.plan(path)
        want = forward(p, f.ids)
        if got.shape != want.shape:
            return self.fail(f, f"{got.shape} numbers instead of {want.shape}")
        allow = allowed(p, f.ids, want)
        self.counts["compared with float64"] += 1
        if self.judge(f, "float64", got, want, allow):
            self.planted.plant(lambda: gguf_truth.plan(path), f.ids, got, allow)
        if f.asks_llama_cpp():
            self.compare_llama_cpp(f, path, p, got, want, allow)
        return None

    def judge(self, f, whose, got, want, allow):
        off = largest(got - want)
        if not off <= allow:
            self.fail(f, f"off by {off:.2e} of {largest(want):.1f} from {whose}, allowed {allow:.1e}")
        elif self.verbose:
            print(f"seed {f.seed} ({f.arch}): {off / allow:.2f} of its bound from {whose}")
        return off <= allow

    def compare_llama_cpp(self, f, path, p, got, want, allow):
        """Its GELU is a table over float16: twice what that changes is allowed on top, as its own sums differ too."""
        if p.act == "gelu_tanh":
            p.gelu_table = True
            allow = 2 * allow + 2 * largest(forward(p, f.ids) - want)
        else:
            allow = 2 * allow
        if self.llama:
            try:
                theirs = self.llama.logits(path, f.ids, betas(f))
            except RuntimeError as e:
                return self.fail(f, str(e))
            self.counts["compared with llama.cpp"] += 1
            self.judge(f, "llama.cpp", got, theirs, allow)
        if f.seed in self.golden:
            digest, numbers = self.golden[f.seed]
            if digest != hash_of(path):
                return self.fail(f, "the file is not the one that llama.cpp was asked about: the generator changed; "
                                 "ask again with --write where llama.cpp is built")
            self.counts["compared with llama.cpp's kept answers"] += 1
            self.judge(f, "what llama.cpp said", np.array([got[at] for at in places(f.seed, got.shape)]), numbers,
                       allow)
        return None


def betas(f):
    return tuple(f.keys.get(f"{f.arch}.rope.scaling.yarn_beta_{x}", (None, -1.0))[1] for x in ("fast", "slow"))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("ask")
    ap.add_argument("golden")
    ap.add_argument("--seed", type=seed_of, default=SEED, help="a number, or ARCHITECTURE:NUMBER")
    ap.add_argument("--count", type=int, default=COUNT)
    ap.add_argument("--peers", default=llama_cpp.ROOT, metavar="DIR", help="the checkout whose build/peers is used")
    ap.add_argument("--write", action="store_true", help="keep llama.cpp's answers in GOLDEN")
    ap.add_argument("--keep", metavar="DIR", help="leave the files there")
    ap.add_argument("-v", action="store_true")
    args = ap.parse_args()
    place = llama_cpp.find(args.peers)
    if args.write and not place:
        ap.error("--write needs llama.cpp: ./dev peers --get")
    llama = llama_cpp.LlamaCpp(place) if place else None
    folder = args.keep or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    if args.write:
        write_golden(args.golden, llama, folder)
    run = Run(Asker(args.ask), llama, read_golden(args.golden), args.v)
    try:
        for seed in seeds(args.seed, args.count, gguf_files.LATER, COUNT):
            path = os.path.join(folder, f"{seed}.gguf")
            run.file(gguf_files.make(seed), path)
            if not args.keep:
                os.remove(path)
    finally:
        run.asker.close()
        if llama:
            llama.close()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(", ".join(f"{n} {k}" for k, n in sorted(run.counts.items())))
    if not llama:
        print("llama.cpp is not built here (./dev peers --get): its kept answers stood in for it")
    blind = run.planted.report(args.count >= COUNT)
    if run.failures:
        print(f"{len(set(run.failures))} of {args.count} files failed; one of them again: {sys.argv[0]} {args.ask} "
              f"{args.golden} --seed {run.failures[0]} --count 1 --keep DIR -v")
    return 1 if run.failures or blind else 0


if __name__ == "__main__":
    sys.exit(main())
