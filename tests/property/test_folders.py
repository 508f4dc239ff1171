#!/usr/bin/env python3
"""Random Hugging Face folders against transformers and float64.

    test_folders.py ASK [--seed N] [--count N] [--keep DIR] [-v]

Every seed is a folder (folders.py): its logits must be those of a float64 forward that reads the folder
independently (truth.py), within what float32 may stray; its texts must become the ids that transformers'
tokenizer gives, and its ids the same text. Where the generator put something that we refuse, a refusal that names
it is the right answer, and the only one. The test tests itself first: mistakes planted into the reading must be
noticed wherever they can be.

One folder again: test_folders.py ASK --seed N --count 1 --keep DIR -v"""
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
    from planted import ENOUGH, Planted
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

SEED, COUNT = 1, 500


class Run:
    def __init__(self, asker, verbose):
        self.asker, self.verbose = asker, verbose
        self.failures, self.counts, self.features = [], collections.Counter(), collections.Counter()
        self.planted = Planted(("biases left out", "neighbours turned for halves", "the usual eps",
                                "a soft cap left out", "a scaling left out", "a window left out"))

    def fail(self, f, what):
        self.failures.append(f.seed)
        print(f"FAIL seed {f.seed} ({f.family}): {what}")
        if self.verbose:
            print("    " + ", ".join(sorted(f.features)))

    # ---- numbers ----
    def numbers(self, f, folder):
        """True when the folder opens."""
        words = f.refusal()
        try:
            got = self.asker.logits(folder, f.ids)
        except Died as e:
            self.fail(f, str(e))
            return False
        except Refused as e:
            said = str(e).lower()
            if not words:
                self.fail(f, f"refused though right: {e}")
            elif not any(w.lower() in said for w in words):
                self.fail(f, f"refused without naming any of {', '.join(words)}: {e}")
            self.counts["refused"] += 1
            return False
        if words:
            self.fail(f, f"answered, but {', '.join(x for x in f.features if x in folders.REFUSED)} is not understood "
                      "and must be refused")
            return True
        p = truth.plan(folder)
        want = forward(p, f.ids)
        if got.shape != want.shape:
            self.fail(f, f"{got.shape} numbers instead of {want.shape}")
            return True
        allow, off = allowed(p, f.ids, want), float(np.abs(got - want).max())
        self.counts["logits"] += 1
        if not off <= allow:
            self.fail(f, f"logits are off by {off:.2e} of {np.abs(want).max():.1f}, allowed {allow:.1e}; first in "
                      f"row {int((np.abs(got - want).max(axis=1) > allow).argmax())}")
            return True
        if self.verbose:
            print(f"seed {f.seed} ({f.family}): {off / allow:.2f} of its bound")
        self.planted.plant(lambda: truth.plan(folder), f.ids, got, allow)
        return True

    # ---- text ----
    def texts(self, f, folder):
        try:
            t = AutoTokenizer.from_pretrained(folder)
        except Exception as e:                                       # what it cannot read is no measure
            self.counts["not read by transformers"] += 1
            return self.fail(f, f"transformers does not read the tokenizer: {e!r}"[:300])
        alone = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        differs = False
        try:
            for text in f.text.texts:
                want, bare = t(text)["input_ids"], t(text, add_special_tokens=False)["input_ids"]
                got, got_bare = self.asker.encode(folder, text), self.asker.encode(folder, text, add=False)
                self.counts["texts"] += 1
                if got_bare != bare:
                    return self.fail(f, f"{text!r} becomes {got_bare}, not {bare} ({t.convert_ids_to_tokens(bare)})")
                if got != want:
                    return self.fail(f, f"{text!r} between its borders becomes {got}, not {want}")
                differs |= alone.encode(text).ids != got
                spelled = t.decode(bare, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                ours = self.asker.decode(folder, bare).decode(errors="replace")
                if ours != spelled:
                    return self.fail(f, f"{bare} is spelled {ours!r}, not {spelled!r} "
                                     f"({t.convert_ids_to_tokens(bare)})")
        except Refused as e:
            return self.fail(f, f"the tokenizer is refused though right: {e}")
        except Died as e:
            return self.fail(f, str(e))
        self.counts["folders where the files beside tokenizer.json matter"] += differs
        return None

    def folder(self, seed, place):
        f = folders.make(seed)
        f.folder = os.path.join(place, str(seed))
        folders.store(f, f.folder)
        self.features.update(f.features)
        if self.numbers(f, f.folder):
            self.texts(f, f.folder)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("ask")
    ap.add_argument("--seed", type=folders.seed_of, default=SEED, help="a number, or FAMILY:NUMBER")
    ap.add_argument("--count", type=int, default=COUNT)
    ap.add_argument("--keep", metavar="DIR", help="leave the folders there")
    ap.add_argument("-v", action="store_true")
    args = ap.parse_args()
    run = Run(Asker(args.ask), args.v)
    place = args.keep or tempfile.mkdtemp()
    try:
        for seed in folders.seeds(args.seed, args.count, folders.LATER, COUNT):
            run.folder(seed, place)
            if not args.keep:
                shutil.rmtree(os.path.join(place, str(seed)), ignore_errors=True)
    finally:
        run.asker.close()
        if not args.keep:
            shutil.rmtree(place, ignore_errors=True)
    if args.v:
        print("; ".join(f"{k} {n}" for k, n in sorted(run.features.items())))
    print(", ".join(f"{n} {k}" for k, n in sorted(run.counts.items())))
    blind = run.planted.report(args.count >= COUNT)
    if args.count >= COUNT and run.counts["folders where the files beside tokenizer.json matter"] < ENOUGH:
        blind = True
        print("FAIL a program that ignores the files beside tokenizer.json would pass")
    if run.failures:
        print(f"{len(set(run.failures))} of {args.count} folders failed; one of them again: {sys.argv[0]} "
              f"{args.ask} --seed {run.failures[0]} --count 1 --keep DIR -v")
    return 1 if run.failures or blind else 0


if __name__ == "__main__":
    sys.exit(main())
