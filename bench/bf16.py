#!/usr/bin/env python3
"""bf16 weights in 12 bits beside the same file with 16: tokens per second in turns, and whether answers are equal.

    bench/bf16.py -m MODEL [-t 2] [-n 64] [--rounds 9] [--stretto build/release/stretto] [--work FOLDER]

MODEL is written as bf16 first (`stretto convert --type bf16`) unless its name says bf16 already. Every round runs both,
the other one first in the next; the ratio is the median over rounds with the quarter points, which neighbours on the
machine move less than either speed."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BITS = ("12", "16")


def run(argv, bits=None):
    env = dict(os.environ, STRETTO_BF16=bits or "12")
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"bf16: {' '.join(argv)}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def speed(o, model, bits):
    rows = json.loads(run([o.stretto, "bench", "-m", model, "-p", "0", "-n", str(o.tokens), "-r", "1", "-t",
                           str(o.threads), "-o", "json"], bits))
    return next(r["avg_ts"] for r in rows if r["n_gen"])


def answers(o, model, bits, out):
    run([o.stretto, "eval", "logits", "-m", model, "--ids", ",".join(map(str, range(3, 35))), "-t", str(o.threads),
         "--raw", out, "--force"], bits)
    with open(out, "rb") as f:
        return f.read()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("-n", "--tokens", type=int, default=64)
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--stretto", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--work", help="where the bf16 file is written for as long as this runs")
    o = p.parse_args()
    with tempfile.TemporaryDirectory(dir=o.work) as folder:
        model = o.model
        if "bf16" not in os.path.basename(model).lower():
            model = os.path.join(folder, "model.bf16.gguf")
            run([o.stretto, "convert", o.model, model, "--type", "bf16"])
        same = len({answers(o, model, b, os.path.join(folder, "logits")) for b in BITS}) == 1
        seen = {b: [] for b in BITS}
        for turn in range(o.rounds):
            for b in BITS if turn % 2 == 0 else BITS[::-1]:
                seen[b].append(speed(o, model, b))
    ratios = sorted(a / b for a, b in zip(seen["12"], seen["16"]))
    low, high = (ratios[0], ratios[-1]) if len(ratios) < 4 else statistics.quantiles(ratios, n=4)[::2]
    print("| threads | 16 bits, tokens/s | 12 bits | times as fast | quarter points | same bits |\n" + "|---" * 6 + "|")
    print(f"| {o.threads} | {statistics.median(seen['16']):.2f} | {statistics.median(seen['12']):.2f} | "
          f"**{statistics.median(ratios):.2f}** | {low:.2f} to {high:.2f} | {'yes' if same else 'NO'} |")
    sys.exit(not same)


if __name__ == "__main__":
    main()
