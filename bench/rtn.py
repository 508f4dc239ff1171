#!/usr/bin/env python3
"""What straight rounding costs: symmetric codes of 2 to 8 bits with one scale per tensor, channel or group of 32,
beside the project's own method at as many bits. Divergence from the original in nats per token.

    bench/rtn.py -m MODEL.gguf [-f TEXT ...] [--bits 2,3,4,5,6,8] [--chunks 4] [--feedback]
                 [--stretto build/release/stretto] [--work FOLDER] [-o md|json]

MODEL should hold float32. Only linear layers are rounded so; the head and the embedding are what the mixture of the
type makes of them. --feedback adds a column for --method feedback of the same type, where 4, 5 and 8 bits fill one."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARES = ("tensor", "channel", "group")


def type_of(bits):
    return "q4_0" if bits <= 4 else "q5_0" if bits == 5 else "q8_0"


def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"rtn: {' '.join(argv)}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def divergence(o, out, options):
    run([o.stretto, "squeeze", "-q", "-m", o.model, "-o", out, "--force", "--no-proof", *options])
    argv = [o.stretto, "eval", "kl", "-m", out, "--base", o.model, "--chunks", str(o.chunks), "--json"]
    for text in o.text:
        argv += ["-f", text]
    return json.loads(run(argv))["mean_kl"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-f", "--text", action="append", default=[])
    p.add_argument("--bits", default="2,3,4,5,6,8")
    p.add_argument("--chunks", type=int, default=4)
    p.add_argument("--feedback", action="store_true")
    p.add_argument("--stretto", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--work")
    p.add_argument("-o", "--output", choices=("md", "json"), default="md")
    o = p.parse_args()
    o.text = o.text or [os.path.join(ROOT, "data", "heldout", "prose.txt")]
    rows = []
    with tempfile.TemporaryDirectory(dir=o.work) as folder:
        out = os.path.join(folder, "rtn.gguf")
        for bits in (int(b) for b in o.bits.split(",")):
            row = {"bits": bits, "type": type_of(bits)}
            for share in SHARES:
                row[share] = divergence(o, out, ["--type", type_of(bits), "--method", "rtn", "--bits", str(bits),
                                                 "--scale-per", share])
            if o.feedback and bits in (4, 5, 8):
                row["feedback"] = divergence(o, out, ["--type", type_of(bits)])
            rows.append(row)
    if o.output == "json":
        print(json.dumps(rows))
        return
    columns = list(SHARES) + (["feedback"] if o.feedback else [])
    heads = {"tensor": "per tensor", "channel": "per channel", "group": "per group of 32"}
    print("| bits | in blocks of |" + "".join(f" {heads.get(c, c)} |" for c in columns))
    print("|---|---|" + "---|" * len(columns))
    for r in rows:
        cells = [f"{r[c]:.4f}" if c in r else "" for c in columns]
        print(f"| {r['bits']} | {r['type']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
