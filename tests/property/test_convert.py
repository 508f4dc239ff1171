#!/usr/bin/env python3
"""Random Hugging Face folders and the GGUF files that `convert` makes of them.

    test_convert.py ASK [--seed N] [--count N] [--keep DIR] [-v]

A folder (folders.py) is converted or refused with the words that say what GGUF cannot say. The file must then give
the folder's logits, make the same ids of its texts, and stop at the same tokens. What the folder itself should give
is test_folders.py's to say.

One folder again: test_convert.py ASK --seed N --count 1 --keep DIR -v"""
import argparse
import collections
import os
import shutil
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    import folders
    import truth
    from arithmetic import allowed, forward
    from asking import Asker, Died, Refused
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

SEED, COUNT = 1, 300
CANNOT = ("GGUF has no", "which a GGUF file cannot", "GGUF cannot")


class Run:
    def __init__(self, asker, verbose):
        self.asker, self.verbose = asker, verbose
        self.failures, self.counts = [], collections.Counter()

    def fail(self, f, what):
        self.failures.append(f.seed)
        print(f"FAIL seed {f.seed} ({f.family}): {what}")
        if self.verbose:
            print("    " + ", ".join(sorted(f.features)))

    def folder(self, f, folder):
        ask = self.asker
        try:
            whole = ask.logits(folder, f.ids)
        except Refused:
            self.counts["folders that do not open"] += 1
            return
        try:
            path = ask.convert(folder)
        except Refused as e:
            self.counts["refused"] += 1
            if not any(w in str(e) for w in CANNOT):
                self.fail(f, f"refused, but not for what GGUF cannot say: {e}")
            elif self.verbose:
                print(f"seed {f.seed} ({f.family}): {e}")
            return
        self.counts["converted"] += 1
        try:
            self.compare(f, folder, path, whole)
        except Refused as e:
            self.fail(f, f"its own GGUF file is refused: {e}")

    def compare(self, f, folder, path, whole):
        ask, p = self.asker, truth.plan(folder)
        off, allow = float(np.abs(ask.logits(path, f.ids) - whole).max()), allowed(p, f.ids, forward(p, f.ids))
        if not off <= allow:
            self.fail(f, f"the GGUF file's logits are off by {off:.2e}, allowed {allow:.1e}")
        for text in f.text.texts:
            want, got = ask.encode(folder, text), ask.encode(path, text)
            if got != want:
                self.fail(f, f"{text!r} becomes {got} with the GGUF file, {want} with the folder")
                break
            spelled = ask.decode(path, want), ask.decode(folder, want)
            if spelled[0] != spelled[1]:
                self.fail(f, f"{want} is spelled {spelled[0]!r} with the GGUF file, {spelled[1]!r} with the folder")
                break
        ends = ask.ends(path), ask.ends(folder)
        if ends[0] != ends[1]:
            self.fail(f, f"the GGUF file ends at {ends[0]}, the folder at {ends[1]}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("ask")
    ap.add_argument("--seed", type=folders.seed_of, default=SEED, help="a number, or FAMILY:NUMBER")
    ap.add_argument("--count", type=int, default=COUNT)
    ap.add_argument("--keep", metavar="DIR", help="leave the folders there")
    ap.add_argument("-v", action="store_true")
    args = ap.parse_args()
    run, place = Run(Asker(args.ask), args.v), args.keep or tempfile.mkdtemp()
    try:
        for seed in folders.seeds(args.seed, args.count, folders.LATER, COUNT):
            f, folder = folders.make(seed), os.path.join(place, str(seed))
            if f.refusal():
                continue
            folders.store(f, folder)
            try:
                run.folder(f, folder)
            except Died as e:
                run.fail(f, str(e))
            if not args.keep:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        run.asker.close()
        if not args.keep:
            shutil.rmtree(place, ignore_errors=True)
    print(", ".join(f"{n} {k}" for k, n in sorted(run.counts.items())))
    if run.counts["converted"] < args.count // 3:
        print("FAIL too few folders are converted for this to be a test")
        run.failures.append(args.seed)
    if run.failures:
        print(f"{len(set(run.failures))} of {args.count} folders failed; one of them again: {sys.argv[0]} {args.ask} "
              f"--seed {run.failures[0]} --count 1 --keep DIR -v")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
